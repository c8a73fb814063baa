/*
 * Stress tests for engines that translate: guests that change their code, their mapping, and both
 * under the feet of another processor. One source for long mode and for 32-bit mode with PAE, whose
 * page tables look alike. Memory is mapped to itself up to 32 MiB, and a window of 2 MiB at WINDOW
 * is the test's own. What a piece of code must do is known beforehand, as a sum or as a sequence.
 */
#ifndef TESTS_STRESS_STRESS_H
#define TESTS_STRESS_STRESS_H

#include "guest.h"

#define SEL_CODE32   0x08
#define SEL_DATA     0x10
#define SEL_CODE64   0x18
#define WINDOW_ADDR  0x40000000
#define LARGE_ADDR   0x1000000 /* 2 MiB of physical memory that nothing else uses */
#define AP_CODE_ADDR 0x8000    /* SIPI vector 8 */

#ifndef __ASSEMBLER__
#define PAGE 4096u

/* --- cases: the first expectation that fails is the verdict --- */
struct test {
    const char *name;
    void (*fn)(void);
};
#define TEST(name_)                                                                                \
    static void name_(void);                                                                       \
    static const struct test test_##name_                                                          \
        __attribute__((section("tests"), used, aligned(sizeof(long)))) = {GROUP ": " #name_,       \
                                                                          name_};                  \
    static void name_(void)
bool expect(const char *what, u32 want, u32 got);
#define EXPECT(got, want) expect(#got, (want), (got))
bool failed(void);
void skip(const char *why);
void count(const char *what, u32 n); /* said along with the verdict */

/* --- running code --- */
#define NO_FAULT 0xffffffffu
struct catcher {
    ulong sp; /* nonzero while code runs whose faults are caught */
    u32 vector, error;
    ulong address; /* CR2 */
};
/* Calls code with ECX and EDX; it returns EAX and may use all registers. A fault ends it: then
 * *caught says which. */
u32 try_run(const void *code, u32 c, u32 d, struct catcher *caught);
/* The same; a fault is a failure of the test. */
u32 run(const void *code, u32 c, u32 d);

/* Called for a vector in place of everything else, on the processor that met it; NULL: none. */
typedef void trap_fn(struct frame *f);
void on_trap(u32 vector, trap_fn *fn);

/* --- making code: bytes go to `p` and are to run at `ip` --- */
struct out {
    u8 *p;
    ulong ip;
};
void put(struct out *o, u8 byte);
void put32(struct out *o, u32 value);
void put_mov_eax(struct out *o, u32 imm);
void put_add_eax(struct out *o, u32 imm);
void put_ret(struct out *o);
void put_call(struct out *o, ulong target);
void put_jump(struct out *o, ulong target);
void put_jcc(struct out *o, u8 condition, ulong target); /* 0f 80+condition */
void put_constant(u8 *p, u32 value);                     /* a function that returns it */
void put_imm(u8 *p, u32 value);                          /* stores to the bytes of an immediate */

/* --- the window --- */
#define P_P    0x1
#define P_W    0x2
#define P_PS   0x80
#define P_G    0x100
#define P_NX   (1ULL << 63)
#define P_RW   (P_P | P_W)
#define FRAMES 32
#define WINDOW ((u8 *)WINDOW_ADDR)
#define LARGE  ((u8 *)LARGE_ADDR)
extern u8 frames[FRAMES][PAGE];
extern u64 window_pt[512], window_pt_b[512]; /* under root and root_b */
extern u64 pd_window[512];
extern const u8 root[], root_b[];
static inline u8 *window(u32 page)
{
    return WINDOW + page * PAGE;
}
/* Maps a page of the window to a frame, and invalidates it. */
void map(u32 page, u32 frame, u64 bits);
u64 pte(u32 frame, u64 bits);

/* --- processor --- */
void serialize(void);     /* CPUID */
void toggle_global(void); /* CR4.PGE off and on */

/* --- two processors --- */
u32 cpu_id(void);
/* Runs fn(0) here and fn(1) on the other processor. False if there is none (the test is skipped).
 */
bool both(void (*fn)(u32 cpu));
void ipi(u32 vector); /* to the other one */
void eoi(void);
/* For loops whose length depends on the machine: true for about half a second from both() on. */
bool time_left(void);
/* Waits until *p is at least value; false (and a failure) if that does not come. */
bool wait_for(const volatile u32 *p, u32 value);
/* After a change of something that the other one may wait for. */
void notify(void);

#define VECTOR_WAKE  0xf0
#define VECTOR_FLUSH 0xf1
#define VECTOR_SYNC  0xf2

u32 random(u32 *state);
#endif
#endif
