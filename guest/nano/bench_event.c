/*
 * Nanobenchmarks of ways between user and kernel, faults and interrupts. The handlers are the
 * shortest that work (boot.S); what the way to the user and back costs is in the empty loop, too.
 */
#include "nano.h"
#include "tests.h"

#define MSR_SYSENTER_CS  0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_EFER         0xc0000080
#define MSR_STAR         0xc0000081
#define MSR_LSTAR        0xc0000082
#define MSR_SFMASK       0xc0000084
#define EFER_SCE         1
#define DELAY_US         30 /* of the timer */

extern const u8 user_empty[], user_int80[], user_sysenter[], user_syscall[], user_pgfault[],
    user_divzero[];

static const u8 *user_loop; /* what run_loop() runs */

static void run_loop(u32 n)
{
    run_user(user_loop, n, WINDOW_ADDR);
}

static void run_empty(u32 n)
{
    run_user(user_empty, n, WINDOW_ADDR);
}

static void measure_user(const u8 *loop)
{
    user_loop = loop;
    measure(run_loop, run_empty, 1);
}

void bench_int80(void)
{
    gate_set(VECTOR_SYSCALL, fast_iret, true, true);
    measure_user(user_int80);
}

/* Does this loop run, or does it raise #UD? */
static bool works(const u8 *loop, const char *why_not)
{
    struct caught caught;
    try_user(loop, 1, 0, 0, &caught);
    if (caught.frame.vector == VECTOR_EXIT)
        return true;
    if (caught.frame.vector == 6)
        skip(why_not);
    else
        fail("event of a system call", 6, (u32)caught.frame.vector);
    return false;
}

void bench_sysenter(void)
{
    if (!has_cpuid(1, 3, 11)) {
        skip("this processor has no SYSENTER");
        return;
    }
    wrmsr(MSR_SYSENTER_CS, SEL_KCODE);
    wrmsr(MSR_SYSENTER_ESP, (ulong)kernel_stack_end);
    wrmsr(MSR_SYSENTER_EIP, (ulong)fast_sysenter);
    if (works(user_sysenter, "SYSENTER raises #UD in long mode on AMD's processors"))
        measure_user(user_sysenter);
}

void bench_syscall(void)
{
    if (!has_cpuid(0x80000001, 3, 11)) {
        skip("this processor has no SYSCALL in this mode");
        return;
    }
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    wrmsr(MSR_STAR, (u64)(SEL_UCODE | 3) << 48 | (u64)SEL_KCODE << 32 | (u32)(ulong)fast_syscall);
    if (has_cpuid(0x80000001, 3, 29)) {
        wrmsr(MSR_LSTAR, (ulong)fast_syscall);
        wrmsr(MSR_SFMASK, FLAG_IF | FLAG_TF);
    }
    if (works(user_syscall, "SYSCALL raises #UD in legacy mode on Intel's processors"))
        measure_user(user_syscall);
}

void bench_pgfault(void)
{
    gate_set(14, fast_skip2_error, false, true);
    measure_user(user_pgfault);
}

void bench_divzero(void)
{
    gate_set(0, fast_skip2, false, true);
    measure_user(user_divzero);
}

/* --- timer --- */

static volatile u64 fired; /* when the handler ran; 0: not yet */

static void on_timer(struct frame *f)
{
    (void)f;
    fired = rdtsc();
    eoi();
}

static void late_by(u64 when, u64 now)
{
    sample(now > when ? (u32)(now - when) * 10 : 0);
}

void bench_hlt_wakeup(void)
{
    hook_set(VECTOR_TIMER, on_timer);
    measure_begin();
    while (samples_wanted()) {
        fired = 0;
        u64 when = timer_arm(tsc_khz / 1000 * DELAY_US);
        while (!fired)
            __asm__ volatile("sti; hlt; cli" ::: "memory");
        late_by(when, rdtsc());
    }
}

void bench_timer_latency(void)
{
    hook_set(VECTOR_TIMER, on_timer);
    measure_begin();
    while (samples_wanted()) {
        fired = 0;
        u64 when = timer_arm(tsc_khz / 1000 * DELAY_US);
        __asm__ volatile("sti" ::: "memory");
        while (!fired)
            pause();
        __asm__ volatile("cli" ::: "memory");
        late_by(when, fired);
    }
}
