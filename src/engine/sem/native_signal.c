/*
 * Host signals that a thunk's instruction raises are the guest's exceptions. The handler knows the
 * thunk that this thread is running; if the signal came from its instruction, the thread continues
 * at the thunk's fault exit, which puts the host's state right and returns the signal's number.
 * Signals from anywhere else go to the handler that was there before. Thunks run on the host's own
 * stack with all its invariants, so an alternate stack is used if the thread has one, but not
 * needed.
 */
#include "engine/sem/native.h"

#undef REG_RIP /* here it is the index in the signal frame */
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include "cpu/fault.h"

static const int signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};

/* Written once, before any thunk runs. */
static struct sigaction previous[ARRAY_SIZE(signals)];
static pthread_once_t installed = PTHREAD_ONCE_INIT;

static __thread const struct thunk *volatile running;

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

static void on_signal(int sig, siginfo_t *info, void *context)
{
    /* The kernel leaves AC as the thunk had it. */
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~FLAG_AC);
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const struct thunk *t = running;
    if (!t || (const u8 *)regs[REG_RIP] != t->insn) {
        chain(sig, info, context);
        return;
    }
    regs[REG_RIP] = (greg_t)t->fault;
    regs[REG_RAX] = sig;
    regs[REG_EFL] &= ~(greg_t)FLAG_AC;
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    for (unsigned n = 0; n < ARRAY_SIZE(signals); n++)
        sigaction(signals[n], &action, &previous[n]);
}

void native_signal_init(void)
{
    pthread_once(&installed, install);
}

static _Noreturn void raise_signal(struct vcpu *v, const struct thunk *t, int sig)
{
    switch (sig) {
    case SIGSEGV: /* without an address: the operand is misaligned */
        fault_gp(v, 0);
    case SIGBUS:
        fault_raise_error(v, VEC_AC, 0);
    case SIGFPE:
        if (t->recipe.kind == NATIVE_X87)
            fault_raise(v, VEC_MF);
        if (v->cr4 & CR4_OSXMMEXCPT)
            fault_raise(v, VEC_XM);
        fault_ud(v);
    default:
        fault_ud(v);
    }
}

void native_run(struct vcpu *v, const struct thunk *t, void *mem)
{
    running = t;
    int sig = t->run(v, mem);
    running = NULL;
    if (unlikely(sig))
        raise_signal(v, t, sig);
}
