/*
 * Nanobenchmarks of single instructions, and of calls. Most are repeated REPEAT times in a loop, so
 * that what is taken off for the loop is small against them.
 */
#include "nano.h"
#include "tests.h"

#define REPEAT           16
#define MANY             64
#define MANY_STEP        16
#define MSR_SYSENTER_ESP 0x175

extern const u8 many[];
extern u8 constant_insn[];

/* A loop of REPEAT times `code`, and its benchmark. */
#define BENCH(fn, code, ...)                                                                       \
    static __attribute__((noinline)) void loop_##fn(u32 n)                                         \
    {                                                                                              \
        do                                                                                         \
            __asm__ volatile(".rept 16\n\t" code "\n\t.endr" __VA_ARGS__);                         \
        while (--n);                                                                               \
    }                                                                                              \
    void bench_##fn(void)                                                                          \
    {                                                                                              \
        measure(loop_##fn, empty_loop, REPEAT);                                                    \
    }

__attribute__((noinline, used)) static void empty_function(void)
{
    __asm__ volatile("");
}

BENCH(in, "in $0x80, %%al", ::: "eax")
BENCH(callret, "call empty_function", ::: "memory")
BENCH(rdtsc, "rdtsc", ::: "eax", "edx")
BENCH(popf, "push %0\n\tpopf", ::"r"(2ul) : "memory", "cc")
BENCH(mmio_read, "mov (%0), %%eax", ::"r"(apic(APIC_VERSION)) : "eax", "memory")
BENCH(mmio_write, "movl $0, (%0)", ::"r"((ulong)IOAPIC_ADDR) : "memory")

/* --- CLI, STI: nothing is pending --- */

static __attribute__((noinline)) void loop_cli_sti(u32 n)
{
    do
        __asm__ volatile(".rept 16\n\tsti\n\tcli\n\t.endr" ::: "memory");
    while (--n);
}

void bench_cli_sti(void)
{
    measure(loop_cli_sti, empty_loop, REPEAT);
}

/* --- those that may be dear --- */

static __attribute__((noinline)) void loop_cpuid(u32 n)
{
    u32 out[4];
    do
        cpuid(0, out);
    while (--n);
}

void bench_cpuid(void)
{
    measure(loop_cpuid, empty_loop, 1);
}

static __attribute__((noinline)) void loop_wrmsr(u32 n)
{
    do
        wrmsr(MSR_SYSENTER_ESP, 0x1000);
    while (--n);
}

void bench_wrmsr(void)
{
    if (!has_cpuid(1, 3, 11))
        skip("this processor has no SYSENTER");
    else
        measure(loop_wrmsr, empty_loop, 1);
}

#ifdef __x86_64__
BENCH(cr8wr, "mov %0, %%cr8", ::"r"(0ul) : "memory")
#else
void bench_cr8wr(void)
{
    skip("CR8 is there in 64-bit mode only");
}
#endif
BENCH(tprwr, "movl $0, (%0)", ::"r"(apic(APIC_TPR)) : "memory")

/* --- code --- */

static __attribute__((noinline)) void loop_smc(u32 n)
{
    u32 (*constant)(void) = (u32(*)(void))(ulong)constant_insn;
    do {
        __asm__ volatile("movl %1, (%0)" ::"r"(constant_insn + 1), "r"(n) : "memory");
        if (constant() != n)
            fail("what the changed instruction does", n, constant());
    } while (--n);
}

void bench_smc_store(void)
{
    measure(loop_smc, empty_loop, 1);
}

/* Only the loop is taken off: a processor chooses the next function while it calls the last one, so
 * to take off a loop that chooses would leave nothing. */
static __attribute__((noinline)) void loop_indirect(u32 n)
{
    u32 at = 0;
    do {
        at = (at * 5 + 1) % MANY;
        __asm__ volatile("call *%0" ::"r"(many + at * MANY_STEP) : "memory");
    } while (--n);
}

void bench_indirect_many(void)
{
    measure(loop_indirect, empty_loop, 1);
}

static u8 fpu_state[512] __attribute__((aligned(16)));

static __attribute__((noinline)) void loop_fpu(u32 n)
{
    do
        __asm__ volatile("fxsave %0\n\tfxrstor %0" : "+m"(fpu_state));
    while (--n);
}

void bench_fpu_save(void)
{
    if (!has_cpuid(1, 3, 24)) {
        skip("this processor has no FXSAVE");
        return;
    }
    __asm__ volatile("fninit");
    measure(loop_fpu, empty_loop, 1);
}
