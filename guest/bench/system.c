/*
 * Workloads that are the kernel's: system calls, page faults, processes, signals, the clock; and
 * code that is made while it runs.
 */
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

static u32 fork_wait(void)
{
    u32 sum = 0;
    for (int n = 0; n < 4; n++) {
        pid_t child = fork();
        if (child == 0)
            _exit(n);
        int status = 0;
        waitpid(child, &status, 0);
        sum += (u32)WEXITSTATUS(status);
    }
    return sum;
}

/* Two processes that hand one byte to and fro. */
static u32 pipe_switch(void)
{
    int there[2], back[2];
    char byte = 0;
    if (pipe(there) < 0 || pipe(back) < 0)
        abort();
    pid_t child = fork();
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1)
            if (write(back[1], &byte, 1) != 1)
                break;
        _exit(0);
    }
    close(there[0]);
    u32 done = 0;
    while (done < 100 && write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1)
        done++;
    close(there[1]), close(back[0]), close(back[1]);
    waitpid(child, NULL, 0);
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
    {"getppid", getppid_calls}, {"clock", clock_reads}, {"touch", first_touch}, {"fork", fork_wait},
    {"pipe", pipe_switch},      {"signals", signals},   {"codegen", codegen},   {0},
};
