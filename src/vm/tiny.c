/*
 * The machine without a PC. A second thread ends what runs too long.
 */
#include "vm/tiny.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "cpu/irq.h"
#include "engine/sem/native.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"
#include "mem/tlb.h"

static void kick_tiny(struct vcpu *v)
{
    struct tiny_guest *g = v->wake_ctx;
    if (g->ops->kick)
        g->ops->kick(g->engine, v);
}

static int create_processor(struct tiny_guest *g, struct error *err)
{
    struct vcpu *v = cpu_create();
    if (!v)
        return error_set(err, ENOMEM, "no memory for a processor");
    v->bsp = true;
    v->machine = &g->machine;
    v->irq = &irq_none;
    v->wake = kick_tiny;
    v->wake_ctx = g;
    g->v = g->machine.vcpu[0] = v;
    if (tlb_create(v) < 0)
        return error_set(err, ENOMEM, "no memory for a TLB");
    cpu_reset(v);
    return 0;
}

int tiny_create(struct tiny_guest *g, const struct engine_ops *ops, u64 ram, struct error *err)
{
    memset(g, 0, sizeof(*g));
    g->ops = ops;
    timebase_init(&g->time);
    bool missing[FEAT_COUNT] = {false};
    struct cpu_model_options opt = {.ncpus = 1, .tsc_hz = g->time.tsc_hz, .without = missing};
    if (ops->missing_features)
        ops->missing_features(missing);
    cpu_model_init(&g->model, &opt);
    g->machine = (struct machine){.time = &g->time, .model = &g->model, .ncpus = 1};
    int rc = guestmem_create(ram, &g->machine.mem, err);
    if (rc == 0)
        rc = portbus_create(&g->machine.ports, err);
    return rc == 0 ? create_processor(g, err) : rc;
}

int tiny_start(struct tiny_guest *g, struct error *err)
{
    int rc = g->ops->create(&g->machine, &g->engine, err);
    if (rc == 0)
        rc = g->ops->attach(g->engine, g->v, err);
    g->attached = rc == 0;
    return rc;
}

void tiny_destroy(struct tiny_guest *g)
{
    if (g->attached)
        g->ops->detach(g->engine, g->v);
    if (g->engine)
        g->ops->destroy(g->engine);
    if (g->v) {
        native_destroy(g->v);
        tlb_destroy(g->v);
        cpu_destroy(g->v);
    }
    if (g->machine.ports)
        portbus_destroy(g->machine.ports);
    if (g->machine.mem)
        guestmem_destroy(g->machine.mem);
}

/* Stops the guest when the time is up, but on a busy host not before its thread had half of it. */
struct stopper {
    struct vcpu *v;
    unsigned ms;
    clockid_t cpu_clock; /* of the guest's thread */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

#define STARVED_TRIES 20

static struct timespec after_ms(unsigned ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    u64 ns = (u64)t.tv_nsec + (u64)ms * 1000000;
    t.tv_sec += (time_t)(ns / NSEC_PER_SEC);
    t.tv_nsec = (long)(ns % NSEC_PER_SEC);
    return t;
}

static void *stop_later(void *arg)
{
    struct stopper *s = arg;
    u64 start = host_clock_ns(s->cpu_clock);
    pthread_mutex_lock(&s->lock);
    for (unsigned n = 0; n < STARVED_TRIES && !s->done; n++) {
        struct timespec when = after_ms(s->ms);
        int rc = 0;
        while (!s->done && rc == 0)
            rc = pthread_cond_timedwait(&s->changed, &s->lock, &when);
        if (host_clock_ns(s->cpu_clock) - start >= (u64)s->ms * 1000000 / 2)
            break;
    }
    if (!s->done)
        vcpu_raise(s->v, EVENT_STOP);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int tiny_run(struct tiny_guest *g, unsigned ms, struct vm_exit *exit, struct error *err)
{
    struct stopper s = {.v = g->v,
                        .ms = ms,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER};
    pthread_t thread;
    int rc = pthread_getcpuclockid(pthread_self(), &s.cpu_clock);
    if (rc == 0)
        rc = pthread_create(&thread, NULL, stop_later, &s);
    if (rc)
        return error_errno(err, rc, "cannot start a thread");
    *exit = (struct vm_exit){.kind = EXIT_KICKED};
    while (exit->kind == EXIT_KICKED && !(vcpu_events(g->v) & EVENT_STOP))
        g->ops->run(g->engine, g->v, exit);
    pthread_mutex_lock(&s.lock);
    s.done = true;
    pthread_cond_signal(&s.changed);
    pthread_mutex_unlock(&s.lock);
    pthread_join(thread, NULL);
    if (g->ops->sync)
        g->ops->sync(g->engine, g->v);
    return 0;
}
