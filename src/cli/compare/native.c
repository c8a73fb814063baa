/*
 * Operations of the nano kernel that mean something in a process of this machine, measured here
 * with no guest around and printed in the nano kernel's line format: a call, RDTSC, CPUID, a system
 * call, an indirect call, a store into code; faults as a process sees them, which is a signal and a
 * way back (pgfault, divzero: so more than the processor's part); first touch of a page; fork and
 * wait. What no process may do (ports, control registers...) is not there.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <x86intrin.h>

#include "cli/compare/compare.h"

#define SAMPLES 31

/* What an operation works on. */
struct place {
    u8 *page; /* readable, not writable; or fresh memory */
    u8 *code; /* writable and executable */
    void (*target[64])(void);
};

struct operation {
    const char *name;
    unsigned times; /* per sample */
    void (*run)(struct place *p, unsigned times);
};

/* Keeps the compiler from looking through a loop. */
#define BARRIER() __asm__ volatile("" ::: "memory")

static __attribute__((noinline)) void empty(void)
{
    BARRIER();
}

static void run_callret(struct place *p, unsigned times)
{
    (void)p;
    while (times--)
        empty();
}

static void run_rdtsc(struct place *p, unsigned times)
{
    (void)p;
    while (times--) {
        __rdtsc();
        BARRIER();
    }
}

static void run_cpuid(struct place *p, unsigned times)
{
    (void)p;
    while (times--) {
        u32 a = 0, c = 0;
        __asm__ volatile("cpuid" : "+a"(a), "+c"(c) : : "rbx", "rdx", "memory");
    }
}

static void run_syscall(struct place *p, unsigned times)
{
    (void)p;
    while (times--)
        syscall(SYS_getppid);
}

static void run_indirect(struct place *p, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        p->target[i * 7 % ARRAY_SIZE(p->target)]();
}

/* The handler goes on behind the two bytes of the instruction. */
static void skip_instruction(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    (void)sig;
    (void)info;
    u->uc_mcontext.gregs[REG_RIP] += 2;
}

static void run_pgfault(struct place *p, unsigned times)
{
    while (times--)
        __asm__ volatile("movb %%al, (%0)" : : "r"(p->page), "a"(0) : "memory");
}

static void run_divzero(struct place *p, unsigned times)
{
    (void)p;
    while (times--)
        __asm__ volatile("divl %0" : : "r"(0), "a"(1), "d"(0) : "cc");
}

static void run_first_touch(struct place *p, unsigned times)
{
    (void)p;
    u8 *fresh =
        mmap(NULL, times * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED)
        return;
    madvise(fresh, times * PAGE_SIZE, MADV_NOHUGEPAGE);
    for (unsigned i = 0; i < times; i++)
        *(volatile u8 *)(fresh + i * PAGE_SIZE) = 1;
    munmap(fresh, times * PAGE_SIZE);
}

/* mov eax, imm; ret */
static void run_smc(struct place *p, unsigned times)
{
    int (*function)(void) = (int (*)(void))p->code;
    while (times--) {
        ((volatile u8 *)p->code)[1] = (u8)times;
        BARRIER();
        function();
    }
}

static void run_fork(struct place *p, unsigned times)
{
    (void)p;
    while (times--) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        waitpid(pid, NULL, 0);
    }
}

static void run_nothing(struct place *p, unsigned times)
{
    (void)p;
    while (times--)
        BARRIER();
}

static const struct operation operations[] = {
    {"callret", 10000, run_callret},
    {"rdtsc", 10000, run_rdtsc},
    {"cpuid", 300, run_cpuid},
    {"syscall-syscall", 2000, run_syscall},
    {"indirect-many", 9984, run_indirect},
    {"pgfault", 300, run_pgfault},
    {"divzero", 300, run_divzero},
    {"first-touch", 200, run_first_touch},
    {"smc-store", 1000, run_smc},
    {"forkwait", 5, run_fork},
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const struct operation *o, struct place *p)
{
    double cycles[SAMPLES];
    o->run(p, o->times); /* warms caches up */
    for (unsigned k = 0; k < SAMPLES; k++) {
        u64 start = __rdtsc();
        run_nothing(p, o->times);
        u64 between = __rdtsc();
        o->run(p, o->times);
        u64 end = __rdtsc();
        double spent = (double)(end - between) - (double)(between - start);
        cycles[k] = MAX(spent, 0) / o->times;
    }
    qsort(cycles, SAMPLES, sizeof(cycles[0]), by_value);
    printf("nano result %s median=%.2f low=%.2f high=%.2f samples=%d unit=cycles\n", o->name,
           cycles[SAMPLES / 2], cycles[SAMPLES / 4], cycles[SAMPLES * 3 / 4], SAMPLES);
    fflush(stdout);
}

static u64 tsc_khz(void)
{
    struct timespec a, b, pause = {.tv_nsec = 20000000};
    clock_gettime(CLOCK_MONOTONIC, &a);
    u64 start = __rdtsc();
    nanosleep(&pause, NULL);
    u64 end = __rdtsc();
    clock_gettime(CLOCK_MONOTONIC, &b);
    double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
    return (u64)((double)(end - start) / ms);
}

int native_nano(void)
{
    struct place p;
    struct sigaction sa = {.sa_sigaction = skip_instruction, .sa_flags = SA_SIGINFO};
    p.page = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p.code = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1, 0);
    if (p.page == MAP_FAILED || p.code == MAP_FAILED)
        return 1;
    memcpy(p.code, "\xb8\0\0\0\0\xc3", 6);
    /* A target each 16 bytes: ret. */
    for (unsigned i = 0; i < ARRAY_SIZE(p.target); i++) {
        p.code[1024 + 16 * i] = 0xc3;
        p.target[i] = (void (*)(void))(p.code + 1024 + 16 * i);
    }
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGFPE, &sa, NULL);
    printf("nano 1 build=64 tsc_khz=%" PRIu64 " cpu=\"the machine itself\"\n", tsc_khz());
    for (unsigned i = 0; i < ARRAY_SIZE(operations); i++)
        measure(&operations[i], &p);
    printf("nano done results=%zu skips=0 fails=0\n", ARRAY_SIZE(operations));
    return 0;
}
