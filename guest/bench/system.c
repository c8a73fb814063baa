/*
 * Workloads that are the kernel's: system calls, page faults, processes, signals, the clock; and
 * code that is made while it runs.
 */
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

static u32 getppid_calls(void)
{
    for (int n = 0; n < 2000; n++)
        syscall(SYS_getppid);
    return 0;
}

static u32 clock_reads(void)
{
    struct timespec t;
    for (int n = 0; n < 5000; n++)
        clock_gettime(CLOCK_MONOTONIC, &t);
    return 0;
}

static void *map_pages(size_t pages, int protection)
{
    void *p = mmap(NULL, pages * 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}

static u32 first_touch(void)
{
    const size_t pages = 512;
    volatile char *p = map_pages(pages, PROT_READ | PROT_WRITE);
    for (size_t n = 0; n < pages; n++)
        p[n * 4096] = 1;
    munmap((void *)p, pages * 4096);
    return 0;
}

static u32 map_unmap(void)
{
    for (int n = 0; n < 200; n++) {
        char *p = map_pages(16, PROT_READ | PROT_WRITE);
        *p = 1;
        munmap(p, (size_t)16 * 4096);
    }
    return 0;
}

static u32 exit_status(pid_t child)
{
    int status = 0;
    waitpid(child, &status, 0);
    return (u32)WEXITSTATUS(status);
}

static u32 fork_wait(void)
{
    u32 sum = 0;
    for (int n = 0; n < 4; n++) {
        pid_t child = fork();
        if (child == 0)
            _exit(n);
        sum += exit_status(child);
    }
    return sum;
}

/* Never inline: what vfork's child changes of the frame is the parent's. */
__attribute__((noinline)) static pid_t start(const char *path)
{
    char *const argv[] = {(char *)path, NULL}, *const environment[] = {NULL};
    pid_t child = vfork();
    if (child == 0) {
        execve(path, argv, environment);
        _exit(127);
    }
    return child;
}

static u32 vfork_exec(void)
{
    u32 sum = 0;
    for (int n = 0; n < 4; n++)
        sum += exit_status(start("./exit"));
    return sum;
}

/* Two processes on one processor, which is all that guests here have: forks there. The
 * parent ends it with wait_beside. */
static pid_t fork_beside(cpu_set_t *before)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    if (sched_getaffinity(0, sizeof(*before), before) < 0 ||
        sched_setaffinity(0, sizeof(one), &one) < 0)
        abort();
    return fork();
}

static void wait_beside(pid_t child, const cpu_set_t *before)
{
    waitpid(child, NULL, 0);
    sched_setaffinity(0, sizeof(*before), before);
}

#define TURNS 400

/* Two processes that yield to each other until it is their turn. */
static u32 yield_switch(void)
{
    static volatile u32 *turn;
    if (!turn)
        turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (turn == MAP_FAILED)
        abort();
    cpu_set_t before;
    *turn = 0;
    pid_t child = fork_beside(&before);
    const u32 mine = child == 0;
    for (u32 n = 0; n < TURNS; n++) {
        while ((*turn & 1) != mine)
            sched_yield();
        *turn = *turn + 1;
    }
    if (child == 0)
        _exit(0);
    wait_beside(child, &before);
    return *turn;
}

/* Two processes that hand one byte to and fro. */
static u32 pipe_switch(void)
{
    int there[2], back[2];
    char byte = 0;
    if (pipe(there) < 0 || pipe(back) < 0)
        abort();
    cpu_set_t before;
    pid_t child = fork_beside(&before);
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1)
            if (write(back[1], &byte, 1) != 1)
                break;
        _exit(0);
    }
    close(there[0]);
    u32 done = 0;
    while (done < TURNS && write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1)
        done++;
    close(there[1]), close(back[0]), close(back[1]);
    wait_beside(child, &before);
    return done;
}

static volatile sig_atomic_t caught;

static void handler(int number)
{
    (void)number;
    caught = caught + 1;
}

static u32 signals(void)
{
    signal(SIGUSR1, handler);
    caught = 0;
    for (int n = 0; n < 500; n++)
        raise(SIGUSR1);
    return (u32)caught;
}

/* Writes `mov eax, n; ret` again and again and calls it. */
static u32 codegen(void)
{
    static unsigned char *code;
    if (!code)
        code = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    u32 sum = 0;
    for (u32 n = 0; n < 1000; n++) {
        unsigned char *at = code + 16 * (n & 15);
        at[0] = 0xb8;
        memcpy(at + 1, &n, 4);
        at[5] = 0xc3;
        sum += ((u32(*)(void))(void *)at)();
    }
    return sum;
}

const struct workload system_work[] = {
    {"getppid", getppid_calls},
    {"clock", clock_reads},
    {"touch", first_touch},
    {"mmap", map_unmap},
    {"fork", fork_wait},
    {"vfork-exec", vfork_exec},
    {"pipe", pipe_switch},
    {"switch", yield_switch},
    {"signals", signals},
    {"codegen", codegen},
    {0},
};
