/*
 * Host signals that translated code raises: a host instruction made from a guest instruction
 * faults (division, x87 and SSE exceptions, misaligned operands, an access that leaves the
 * fragment on purpose). The cache knows the host instructions that may; the thread goes on at the
 * place that goes with the instruction. Signals from anywhere else go to the handler that was there
 * before.
 *
 * While translated code runs, RSP is the guest's: every handler that such a thread may run needs
 * the alternate stack (SA_ONSTACK), and GS points to the vCPU.
 */
#include "engine/bt/tcache.h"
#include "engine/sem/native.h"

#undef REG_RIP /* here it is the index in the signal frame */
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define HANDLER_STACK (64 * KIB) /* beside the kernel's frame */

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

static const int signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};

/* Written once, before any translated code runs. */
static struct sigaction previous[ARRAY_SIZE(signals)];
static pthread_once_t installed = PTHREAD_ONCE_INIT;

/* The vCPU of this thread: a handler has nothing else to find it by. */
static __thread struct vcpu *volatile current;

struct signal_stack {
    u8 *mem; /* a guard page, then the stack */
    size_t size;
    stack_t previous;
    u64 previous_gs;
};

/* --- the handler --- */

static void chain(int sig, siginfo_t *info, void *context)
{
    for (unsigned n = 0; n < ARRAY_SIZE(signals); n++) {
        struct sigaction *old = &previous[n];
        if (signals[n] != sig)
            continue;
        if (old->sa_flags & SA_SIGINFO)
            old->sa_sigaction(sig, info, context);
        else if (old->sa_handler == SIG_DFL || old->sa_handler == SIG_IGN)
            signal(sig, SIG_DFL); /* the instruction is tried again and ends the process */
        else
            old->sa_handler(sig);
    }
}

/* Where translated code goes on after a signal at pc; NULL: it is not such code. */
static const u8 *resume_at(const u8 *pc)
{
    struct vcpu *v = current;
    if (!v)
        return NULL;
    const struct tcache *tc = bt_cpu(v)->bt->tc;
    return (u64)(pc - tc->rx) < tc->size ? tcache_trap(tc, pc) : NULL;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    /* The kernel leaves AC as the guest had it. */
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~FLAG_AC);
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const u8 *to = resume_at((const u8 *)regs[REG_RIP]);
    if (!to) {
        chain(sig, info, context);
        return;
    }
    regs[REG_RIP] = (greg_t)to;
    regs[REG_EFL] &= ~(greg_t)(FLAG_AC | FLAG_DF | FLAG_TF);
}

/* In front of the handlers for thunks, which take what isn't translated code. */
static void install(void)
{
    native_signal_init();
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    for (unsigned n = 0; n < ARRAY_SIZE(signals); n++)
        sigaction(signals[n], &action, &previous[n]);
}

/* --- the thread --- */

static void set_gs(u64 base)
{
    syscall(SYS_arch_prctl, ARCH_SET_GS, base);
}

static void stack_free(struct signal_stack *s)
{
    munmap(s->mem, s->size);
    free(s);
}

static struct signal_stack *stack_create(void)
{
    struct signal_stack *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->size = PAGE_SIZE + align_up(getauxval(AT_MINSIGSTKSZ) + HANDLER_STACK, PAGE_SIZE);
    s->mem = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s->mem == MAP_FAILED) {
        free(s);
        return NULL;
    }
    mprotect(s->mem, PAGE_SIZE, PROT_NONE);
    return s;
}

int bt_signal_attach(struct vcpu *v, struct error *err)
{
    struct signal_stack *s = stack_create();
    if (!s)
        return error_set(err, ENOMEM, "no memory for a vCPU's signal stack");
    stack_t stack = {.ss_sp = s->mem + PAGE_SIZE,
                     .ss_size = s->size - PAGE_SIZE,
                     .ss_flags = (int)SS_AUTODISARM};
    if (sigaltstack(&stack, &s->previous) < 0) {
        int code = errno;
        stack_free(s);
        return error_errno(err, code, "cannot set a vCPU's signal stack");
    }
    syscall(SYS_arch_prctl, ARCH_GET_GS, &s->previous_gs);
    set_gs((u64)v);
    bt_cpu(v)->signal_stack = s;
    current = v;
    pthread_once(&installed, install);
    return 0;
}

void bt_signal_detach(struct vcpu *v)
{
    struct signal_stack *s = bt_cpu(v)->signal_stack;
    if (!s)
        return;
    current = NULL;
    set_gs(s->previous_gs);
    sigaltstack(&s->previous, NULL);
    bt_cpu(v)->signal_stack = NULL;
    stack_free(s);
}
