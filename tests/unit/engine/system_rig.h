/*
 * For tests of system instructions: one instruction at a time, from states built by hand. A step does
 * not deliver the fault it raises; it is looked at in vcpu.fault.
 */
#ifndef RINGER_TESTS_SYSTEM_RIG_H
#define RINGER_TESTS_SYSTEM_RIG_H

#include "machine.h"

#include "cpu/fault.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"
#include "engine/sem/sem_kvmclock.h"

#define DONE    (-1)
#define CODE_AT 0x9000
#define DATA_AT 0xa000

enum {
    SPARE = 0x80, /* selectors for a test's own descriptors */
    GATE = 0x88,
    NEWTSS = 0x90,
    LDT = 0x98,
    COMPAT = 0xb0,
};

/* Privilege 0 again, whatever ran before. */
static inline void kernel32(struct test_machine *tm)
{
    tm->v->cpl = 0;
    protected_mode(tm, CODE_AT);
}

static inline void kernel64(struct test_machine *tm)
{
    tm->v->cpl = 0;
    long_mode(tm, CODE_AT);
}

/* Executes the instruction at CS:RIP; DONE or the vector of the fault it raised. */
static inline int step(struct test_machine *tm)
{
    struct vcpu *v = tm->v;
    static struct insn i;
    v->cur = &sem_no_insn;
    if (setjmp(v->unwind)) {
        v->rip = sem_start(v); /* as delivery takes it */
        return v->fault.vector;
    }
    sem_fetch(v, &i);
    sem_execute(v, &i);
    return DONE;
}

static inline int exec_bytes(struct test_machine *tm, const u8 *code, size_t len)
{
    struct vcpu *v = tm->v;
    u64 base = v->mode == MODE_LONG64 ? 0 : v->seg[SEG_CS].base;
    memcpy(tm->ram + base + v->rip, code, len);
    return step(tm);
}

#define EXEC(tm, ...) exec_bytes(tm, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

#define assert_fault(expression, vec, code)                                                        \
    do {                                                                                           \
        assert_int_equal(expression, vec);                                                         \
        assert_int_equal(tm->v->fault.error, code);                                                \
    } while (0)

static inline void set_desc(struct test_machine *tm, u16 sel, u64 descriptor)
{
    put64(tm, GDT_AT + (sel & 0xfff8), descriptor);
    tm->v->gdtr.limit = 0x1ff;
}

static inline u32 attr_of(struct test_machine *tm, u16 sel)
{
    return get(tm, GDT_AT + (sel & 0xfff8) + 4, 4) >> 8 & 0xf0ff;
}

static inline void push32(struct test_machine *tm, u32 value)
{
    tm->v->gpr[RSP] -= 4;
    store_le(tm->ram + tm->v->seg[SEG_SS].base + tm->v->gpr[RSP], value, 4);
}

static inline void push64(struct test_machine *tm, u64 value)
{
    tm->v->gpr[RSP] -= 8;
    put64(tm, tm->v->gpr[RSP], value);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

#endif
