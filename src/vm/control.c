/*
 * The control loop, on the main thread: waits for what devices, vCPUs or the user ask of the whole
 * machine and carries it out with all vCPUs parked: power off, reset, a change of engine, the time
 * limit.
 */
#include "vm/machine.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "cpu/irq.h"
#include "mem/tlb.h"

static void stop_all_vcpus(struct vm *vm)
{
    for (unsigned i = 0; i < vm->machine.ncpus; i++)
        vcpu_raise(vm->machine.vcpu[i], EVENT_STOP);
}

void vm_post(struct vm *vm, enum vm_request request)
{
    pthread_mutex_lock(&vm->lock);
    vm->requests |= request;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    /* A guest that asked for something runs no further: it may have a next idea, such as a triple
     * fault when the reset seems not to work. */
    stop_all_vcpus(vm);
}

void vm_fail(struct vm *vm, struct vcpu *v, enum outcome_kind kind, const char *text)
{
    pthread_mutex_lock(&vm->lock);
    if (!(vm->requests & REQUEST_FAILED)) {
        vm->outcome.kind = kind;
        vm->outcome.cpu = v->id;
        snprintf(vm->outcome.text, sizeof(vm->outcome.text), "%s", text);
    }
    vm->requests |= REQUEST_FAILED;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
}

void vm_disk_stalled(void *ctx, bool stalled, const char *path)
{
    struct vm *vm = ctx;
    pthread_mutex_lock(&vm->lock);
    vm->stalled += stalled ? 1 : -1u;
    bool goes_on = !vm->stalled && !vm->stop && !(vm->requests & REQUEST_QUIT);
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    if (stalled) {
        log_warn("%s: the host has no space left for what the guest writes; the guest stands still "
                 "until there is some",
                 path);
        stop_all_vcpus(vm);
    } else if (goes_on) {
        log_note("%s: there is space again; the guest goes on", path);
    }
}

static bool time_is_up(const struct vm *vm)
{
    return vm->settings->timeout > 0 &&
           timebase_host_ns(&vm->time) >= (u64)(vm->settings->timeout * 1e9);
}

/* Must the run end now, even if nobody reads what the guest prints? */
static bool giving_up(const struct vm *vm)
{
    return vm->requests & (REQUEST_QUIT | REQUEST_FAILED) || time_is_up(vm);
}

/* Called with the lock held: when it returns no vCPU is in an engine. One may be waiting for the
 * reader of its output: for that it has time, unless the run is being given up. */
static void park_all(struct vm *vm)
{
    vm->park = true;
    pthread_cond_broadcast(&vm->changed);
    while (vm->parked < vm->running) {
        bool give_up = giving_up(vm);
        pthread_mutex_unlock(&vm->lock);
        if (give_up)
            pc_stop_console(vm->pc);
        stop_all_vcpus(vm);
        pthread_mutex_lock(&vm->lock);
        struct timespec again;
        clock_gettime(CLOCK_MONOTONIC, &again);
        again.tv_nsec += 10 * 1000 * 1000;
        if (again.tv_nsec >= (long)NSEC_PER_SEC) {
            again.tv_nsec -= (long)NSEC_PER_SEC;
            again.tv_sec++;
        }
        if (vm->parked < vm->running)
            pthread_cond_timedwait(&vm->changed, &vm->lock, &again);
    }
}

/* Lets parked vCPUs go on, and waits until they have left, so that the next park_all() counts
 * right; unless a new request or a full disk holds them. */
static void unpark_all(struct vm *vm)
{
    vm->park = false;
    pthread_cond_broadcast(&vm->changed);
    while (vm->parked && (vm->stop || !(vm->requests || vm->stalled))) {
        pthread_mutex_unlock(&vm->lock);
        sched_yield();
        pthread_mutex_lock(&vm->lock);
    }
}

/* A machine reset: the state after power-on, and the guest's image in memory again. */
static int reset(struct vm *vm, struct error *err)
{
    for (unsigned i = 0; i < vm->machine.ncpus; i++) {
        struct vcpu *v = vm->machine.vcpu[i];
        atomic_store(&v->events, 0);
        cpu_reset(v);
        tlb_flush_all(v);
        tlb_set_breakpoints(v);
    }
    pc_reset(vm->pc);
    guestmem_clear_ram(vm->machine.mem);
    return vm_load_guest(vm, err);
}

static int change_engine(struct vm *vm, const char *name, struct error *err)
{
    const struct engine_ops *ops = engine_find(name);
    void *engine = NULL;
    int rc = ops->probe(err);
    if (rc < 0 || ops == vm->ops)
        return rc;
    rc = ops->create(&vm->machine, &engine, err);
    if (rc < 0)
        return rc;
    vm->ops->destroy(vm->engine);
    vm->ops = ops;
    vm->engine = engine;
    for (unsigned i = 0; i < vm->machine.ncpus; i++) {
        struct vcpu *v = vm->machine.vcpu[i];
        stat_inc(&v->stats, STAT_ENGINE_SWITCHES);
        tlb_flush_all(v);
        vcpu_raise(v, EVENT_INTR);
    }
    return 0;
}

/* Host time of the next thing that the loop has to do by itself; ~0: nothing. */
static u64 next_deadline(struct vm *vm, unsigned next_switch)
{
    const struct settings *s = vm->settings;
    double at = s->timeout > 0 ? s->timeout : 1e18;
    if (next_switch < s->nswitches)
        at = MIN(at, s->switches[next_switch].after_seconds);
    u64 timed = MIN(samples_next(vm), screenshots_next(vm));
    return MIN(at >= 1e9 ? ~0ULL : (u64)(at * 1e9), timed);
}

static void wait_until(struct vm *vm, u64 deadline)
{
    u64 now = timebase_host_ns(&vm->time);
    if (deadline == ~0ULL) {
        pthread_cond_wait(&vm->changed, &vm->lock);
        return;
    }
    if (deadline <= now)
        return;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    u64 ns = (u64)ts.tv_nsec + (deadline - now);
    ts.tv_sec += (time_t)(ns / NSEC_PER_SEC);
    ts.tv_nsec = (long)(ns % NSEC_PER_SEC);
    pthread_cond_timedwait(&vm->changed, &vm->lock, &ts);
}

static void finish(struct vm *vm, enum outcome_kind kind, u32 value)
{
    vm->outcome.kind = kind;
    vm->outcome.value = value;
}

/* Handles the requests that end the run. Returns whether it has ended. */
static bool ended(struct vm *vm)
{
    unsigned r = vm->requests;
    if (r & REQUEST_FAILED)
        return true;
    if (r & REQUEST_DEBUG_EXIT)
        finish(vm, OUTCOME_DEBUG_EXIT, vm->debug_value);
    else if (r & REQUEST_POWER_OFF)
        finish(vm, OUTCOME_POWER_OFF, 0);
    else if (r & REQUEST_QUIT)
        finish(vm, OUTCOME_QUIT, 0);
    else if ((r & REQUEST_RESET) && vm->settings->no_reboot)
        finish(vm, OUTCOME_RESET, 0);
    else if (time_is_up(vm))
        finish(vm, OUTCOME_TIMEOUT, 0);
    else
        return false;
    return true;
}

/* Whether there is a request that act() can carry out: no reset while a disk waits for space, as
 * devices end their requests first. */
static bool can_act(const struct vm *vm)
{
    return vm->requests & ~REQUEST_RESET || (vm->requests && !vm->stalled);
}

/* Resets and engine changes, with the lock held; not during a reset, as a device may have to wait
 * for its disk. */
static int act(struct vm *vm, unsigned *next_switch, struct error *err)
{
    const struct settings *s = vm->settings;
    int rc = 0;
    if (vm->requests & REQUEST_RESET && !vm->stalled) {
        park_all(vm);
        vm->requests &= ~REQUEST_RESET;
        pthread_mutex_unlock(&vm->lock);
        rc = reset(vm, err);
        pthread_mutex_lock(&vm->lock);
        unpark_all(vm);
    } else if (*next_switch < s->nswitches &&
               timebase_host_ns(&vm->time) >=
                   (u64)(s->switches[*next_switch].after_seconds * 1e9)) {
        park_all(vm);
        rc = change_engine(vm, s->switches[*next_switch].engine, err);
        ++*next_switch;
        unpark_all(vm);
    }
    return rc;
}

static void join_vcpus(struct vm *vm)
{
    vm->stop = true;
    park_all(vm);
    unpark_all(vm);
    if (giving_up(vm))
        pc_stop_console(vm->pc);
    for (unsigned i = 0; i < vm->machine.ncpus; i++)
        if (vm->threads[i].started) {
            pthread_mutex_unlock(&vm->lock);
            pthread_join(vm->threads[i].thread, NULL);
            pthread_mutex_lock(&vm->lock);
            vm->threads[i].started = false;
        }
    vm->running = 0;
}

int vm_control(struct vm *vm, struct error *err)
{
    unsigned next_switch = 0;
    int rc = 0;
    pthread_mutex_lock(&vm->lock);
    while (rc == 0 && !ended(vm)) {
        rc = act(vm, &next_switch, err);
        if (timebase_host_ns(&vm->time) >= samples_next(vm))
            samples_take(vm);
        if (timebase_host_ns(&vm->time) >= screenshots_next(vm)) {
            pthread_mutex_unlock(&vm->lock);
            screenshots_take(vm);
            pthread_mutex_lock(&vm->lock);
        }
        if (rc == 0 && !can_act(vm))
            wait_until(vm, next_deadline(vm, next_switch));
    }
    join_vcpus(vm);
    pthread_mutex_unlock(&vm->lock);
    return rc;
}
