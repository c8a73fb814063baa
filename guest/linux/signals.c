/*
 * Faults that the kernel turns into signals, and signals between processes: the guest's page faults, #DE, #UD,
 * #GP, single step and timer interrupts as a process sees them. Prints "pass" as the last line.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;
static sigjmp_buf back;
static volatile sig_atomic_t last_signal, traps, alarms;
static void *volatile last_address;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)context;
    last_signal = sig;
    last_address = info->si_addr;
    siglongjmp(back, 1);
}

static void on_trap(int sig)
{
    (void)sig;
    traps++;
}

static void on_alarm(int sig)
{
    (void)sig;
    alarms++;
}

static void expect(const char *what, long want, long got)
{
    if (want != got) {
        printf("%s: expected %ld, got %ld\n", what, want, got);
        failures++;
    }
}

static void catch_signal(int sig)
{
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(sig, &sa, NULL);
}

static void divide(void)
{
    volatile int zero = 0, one = 1;
    volatile int result = one / zero;
    (void)result;
}

static void undefined(void)
{
    __asm__ volatile("ud2");
}

static void privileged(void)
{
    __asm__ volatile("hlt");
}

static void null_write(void)
{
    static int *volatile null = NULL;
    null[4] = 1;
}

static void expect_signal(const char *what, int sig, void (*f)(void))
{
    last_signal = 0;
    if (sigsetjmp(back, 1) == 0)
        f();
    expect(what, sig, last_signal);
}

static void check_protection(void)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[4096] = 1;
    mprotect(page + 4096, 4096, PROT_READ);
    last_signal = 0;
    if (sigsetjmp(back, 1) == 0)
        *(volatile long *)(page + 4094) = -1; /* crosses into the read-only page */
    expect("write across a page border", SIGSEGV, last_signal);
    expect("its address", (long)(page + 4096), (long)last_address);
    expect("nothing written before the fault", 0, page[4094]);
    munmap(page, 8192);
}

/* Trap flag set for a few instructions. */
static void check_single_step(void)
{
    signal(SIGTRAP, on_trap);
#ifdef __x86_64__
    __asm__ volatile("sub $128, %%rsp; pushfq; orl $0x100, (%%rsp); popfq; nop; nop; nop;"
                     "pushfq; andl $~0x100, (%%rsp); popfq; add $128, %%rsp" ::: "memory", "cc");
#else
    __asm__ volatile("pushfl; orl $0x100, (%%esp); popfl; nop; nop; nop;"
                     "pushfl; andl $~0x100, (%%esp); popfl" ::: "memory", "cc");
#endif
    expect("single steps", 6, traps);
}

static void check_timer(void)
{
    struct itimerval t = {{0, 20000}, {0, 20000}}, off = {{0, 0}, {0, 0}};
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &t, NULL);
    while (alarms < 5)
        ;
    setitimer(ITIMER_REAL, &off, NULL);
    expect("timer interrupts a loop", 1, alarms >= 5);
}

static void check_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    kill(child, SIGTERM);
    int status;
    waitpid(child, &status, 0);
    expect("child ended by a signal", SIGTERM, WIFSIGNALED(status) ? WTERMSIG(status) : -1);
}

int main(void)
{
    catch_signal(SIGFPE);
    catch_signal(SIGILL);
    catch_signal(SIGSEGV);
    expect_signal("division by zero", SIGFPE, divide);
    expect_signal("undefined opcode", SIGILL, undefined);
    expect_signal("privileged instruction", SIGSEGV, privileged);
    expect_signal("write to an unmapped page", SIGSEGV, null_write);
    check_protection();
    check_single_step();
    check_timer();
    check_child();
    puts(failures ? "fail" : "pass");
    return failures != 0;
}
