/*
 * Instruction tests: the same instruction from the same state, once on the host CPU and once in a
 * guest under an engine, compared bit by bit. Both see the same linear addresses: a code page filled
 * with INT3, data pages, and unmapped pages on both sides of the data.
 */
#ifndef RINGER_TESTS_INSN_TEST_H
#define RINGER_TESTS_INSN_TEST_H

#include "cpu/insn.h"
#include "engine/engine.h"

#define CODE_ADDR  0x20000000u
#define CODE_SIZE  0x1000u
#define INSN_ADDR  (CODE_ADDR + 0x400)
#define DATA_ADDR  0x20010000u /* the pages before and after are not mapped */
#define DATA_SIZE  0x4000u
#define RO_ADDR    0x20020000u /* a read-only page, alone */

/* Selectors as Linux gives them to processes. */
#define SEL_CODE64 0x33
#define SEL_CODE32 0x23
#define SEL_DATA   0x2b

/* Everything an instruction starts from. */
struct test_case {
    enum cpu_mode mode; /* MODE_LONG64 or MODE_COMPAT32 */
    u8 bytes[15];
    u8 len;
    struct insn insn;
    u64 gpr[16];
    u64 rflags;
    struct fpu_state fpu;
    u8 data[DATA_SIZE];
};

/* Everything it leaves. Vector 3 with rip behind an INT3 means that it completed. */
struct test_result {
    unsigned vector;
    u32 error; /* error code, for vectors that have one */
    u64 cr2;   /* #PF */
    u64 gpr[16];
    u64 rip, rflags;
    struct fpu_state fpu;
    u8 data[DATA_SIZE];
};

/* A form is one way to encode one operation, apart from the choice of registers and values. */
struct form {
    enum cpu_mode mode;
    u8 bytes[15]; /* an example */
    u8 len;
    struct insn insn;
};

/* forms.c: all user-mode forms that the decoder and the CPU model know, by enumeration of the opcode
 * maps. Returns how many; *out is to be freed. */
unsigned forms_enumerate(const struct cpu_model *model, struct form **out);

/* generate.c: makes case number n of a form, the same each time. */
void case_generate(const struct form *f, unsigned n, struct test_case *c);

/* host.c */
void host_setup(void);
/* Some kernels and hypervisors leave out the 32-bit code segment. After host_setup(). */
bool host_runs_32bit(void);
void host_run(const struct test_case *c, struct test_result *r);

/* guest.c */
struct test_guest;
struct test_guest *guest_create(const struct engine_ops *ops);
const struct cpu_model *guest_model(const struct test_guest *g);
void guest_destroy(struct test_guest *g);
/* False: the engine could not; the reason is on stderr. */
bool guest_run(struct test_guest *g, const struct test_case *c, struct test_result *r);

/* A small generator (xorshift64*), so that a case can be made again from its number. */
static inline u64 next_random(u64 *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

#endif
