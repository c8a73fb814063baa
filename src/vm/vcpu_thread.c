/*
 * The run loop of one virtual processor, on its own host thread: runs the engine until it comes
 * back and acts on why it did; takes INIT and SIPI; sleeps while halted; parks when the control
 * loop wants all processors to stand still, and changes engine there.
 */
#include "vm/machine.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cpu/irq.h"
#include "dev/lapic.h"
#include "mem/tlb.h"

static long futex(void *word, int op, u32 value)
{
    return syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

void vcpu_wake(struct vcpu *v)
{
    struct vcpu_thread *t = v->wake_ctx;
    if (atomic_load(&t->sleeping)) {
        futex(&v->events, FUTEX_WAKE_PRIVATE, 1);
        return;
    }
    pthread_mutex_lock(&t->kick_lock);
    if (t->attached && t->vm->ops->kick)
        t->vm->ops->kick(t->vm->engine, v);
    pthread_mutex_unlock(&t->kick_lock);
}

/* Whether others may kick the engine about this vCPU. */
static void set_attached(struct vcpu_thread *t, bool attached)
{
    pthread_mutex_lock(&t->kick_lock);
    t->attached = attached;
    pthread_mutex_unlock(&t->kick_lock);
}

/* INIT and SIPI change the state from outside: it must be in *v first, and the engine told after.
 */
static void fetch_state(struct vcpu_thread *t)
{
    if (t->vm->ops->sync)
        t->vm->ops->sync(t->vm->engine, t->cpu);
}

static void state_changed(struct vcpu_thread *t)
{
    if (t->vm->ops->state_changed)
        t->vm->ops->state_changed(t->vm->engine, t->cpu);
}

/* Events that a halted vCPU does not wake for: what is masked stays pending until something else
 * comes, for example an NMI or INIT. */
static u32 masked_events(struct vcpu_thread *t)
{
    struct vcpu *v = t->cpu;
    u32 masked = 0;
    fetch_state(t);
    if (v->activity == ACTIVITY_HALTED && !(v->rflags & FLAG_IF))
        masked |= EVENT_INTR;
    if (v->nmi_blocked)
        masked |= EVENT_NMI;
    return masked;
}

/* Sleeps until there is an event that the vCPU takes now. `seen` are those that the engine knew of
 * before it ran: one that is still there may be masked. */
static void wait_for_events(struct vcpu_thread *t, u32 seen)
{
    struct vcpu *v = t->cpu;
    u64 start = timebase_host_ns(&t->vm->time);
    u32 masked = vcpu_events(v) & seen ? masked_events(t) : 0, events;
    atomic_store(&t->sleeping, true);
    while (!((events = atomic_load(&v->events)) & ~masked))
        futex(&v->events, FUTEX_WAIT_PRIVATE, events);
    atomic_store(&t->sleeping, false);
    t->idle_ns += timebase_host_ns(&t->vm->time) - start;
}

static void take_init(struct vcpu_thread *t)
{
    struct vcpu *v = t->cpu;
    vcpu_clear(v, EVENT_INIT | EVENT_INTR | EVENT_NMI); /* a SIPI may already follow */
    fetch_state(t);
    cpu_init(v);
    tlb_flush_all(v);
    tlb_set_breakpoints(v);
    state_changed(t);
}

/* Start-up IPI (SDM vol. 3, 8.4.3): real mode at vector << 12. Ignored unless waited for. */
static void take_sipi(struct vcpu_thread *t)
{
    struct vcpu *v = t->cpu;
    vcpu_clear(v, EVENT_SIPI);
    if (v->activity != ACTIVITY_WAIT_SIPI)
        return;
    u8 vector = atomic_load(&v->sipi_vector);
    fetch_state(t);
    v->seg[SEG_CS].sel = (u16)(vector << 8);
    v->seg[SEG_CS].base = (u64)vector << 12;
    v->rip = 0;
    v->activity = ACTIVITY_RUNNING;
    cpu_update_mode(v);
    state_changed(t);
}

static bool attach(struct vcpu_thread *t)
{
    struct error err;
    struct vm *vm = t->vm;
    int rc = vm->ops->attach(vm->engine, t->cpu, &err);
    if (rc < 0)
        vm_fail(vm, t->cpu, OUTCOME_HOST_ERROR, err.text);
    else
        set_attached(t, true);
    return rc == 0;
}

/* Leaves the engine and waits until the control loop lets the vCPUs go on, perhaps with another
 * engine: not while a request waits to be carried out, or a disk for space on the host. Returns
 * false if the thread has to end. */
static bool park(struct vcpu_thread *t, bool attached)
{
    struct vm *vm = t->vm;
    if (attached) {
        set_attached(t, false);
        vm->ops->detach(vm->engine, t->cpu);
    }
    pthread_mutex_lock(&vm->lock);
    vcpu_clear(t->cpu, EVENT_STOP);
    vm->parked++;
    pthread_cond_broadcast(&vm->changed);
    while (vm->park || ((vm->requests || vm->stalled) && !vm->stop))
        pthread_cond_wait(&vm->changed, &vm->lock);
    vm->parked--;
    bool stop = vm->stop;
    pthread_mutex_unlock(&vm->lock);
    return !stop;
}

static void run_engine(struct vcpu_thread *t, struct vm_exit *x)
{
    u64 start = timebase_host_ns(&t->vm->time);
    t->vm->ops->run(t->vm->engine, t->cpu, x);
    t->engine_ns += timebase_host_ns(&t->vm->time) - start;
}

/* One turn: an event, a sleep, or a run of the engine. Returns false when this vCPU cannot go on.
 */
static bool turn(struct vcpu_thread *t)
{
    struct vcpu *v = t->cpu;
    struct vm_exit x = {.kind = EXIT_KICKED};
    u32 events = vcpu_events(v);
    if (events & EVENT_INIT) {
        take_init(t);
        return true;
    }
    if (events & EVENT_SIPI) {
        take_sipi(t);
        return true;
    }
    if (v->activity == ACTIVITY_WAIT_SIPI) {
        vcpu_clear(v, EVENT_INTR | EVENT_NMI | EVENT_SMI | EVENT_TLB_FLUSH);
        wait_for_events(t, 0);
        return true;
    }
    run_engine(t, &x);
    switch (x.kind) {
    case EXIT_KICKED:
        return true;
    case EXIT_HALT:
        wait_for_events(t, events);
        return true;
    case EXIT_SHUTDOWN:
        vm_fail(t->vm, v, OUTCOME_GUEST_FAILED, "triple fault");
        return false;
    case EXIT_UNSUPPORTED:
        vm_fail(t->vm, v, OUTCOME_GUEST_FAILED, x.text);
        return false;
    case EXIT_DIFFERENCE:
        vm_fail(t->vm, v, OUTCOME_DIFFERENCE, x.text);
        return false;
    case EXIT_HOST_ERROR:
        vm_fail(t->vm, v, OUTCOME_HOST_ERROR, x.text);
        return false;
    }
    assert(!"an exit kind that the run loop does not know");
    return false;
}

static void *vcpu_main(void *arg)
{
    struct vcpu_thread *t = arg;
    char name[16];
    snprintf(name, sizeof(name), "vcpu%u", t->cpu->id);
    pthread_setname_np(pthread_self(), name);
    lapic_set_current(t->cpu);
    bool attached = false;
    for (;;) {
        bool able = attached || attach(t);
        attached = able;
        while (able && !(vcpu_events(t->cpu) & EVENT_STOP))
            able = turn(t);
        if (!park(t, attached))
            return NULL;
        attached = false;
    }
}

/* Faults of native code, and the engines' kick. */
static const int own_signals[] = {SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGABRT, SIGTRAP, SIGUSR1};

int vcpu_thread_start(struct vcpu_thread *t, struct error *err)
{
    sigset_t all, old;
    sigfillset(&all);
    /* Signals meant for the process (SIGINT, SIGTERM...) go to the main thread. */
    for (unsigned i = 0; i < ARRAY_SIZE(own_signals); i++)
        sigdelset(&all, own_signals[i]);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&t->thread, NULL, vcpu_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return error_errno(err, rc, "cannot start a thread for processor %u", t->cpu->id);
    t->started = true;
    return 0;
}
