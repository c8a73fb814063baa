/*
 * The timers of one machine: a list sorted by deadline, and a thread that sleeps until the first is
 * due. The host sleeps by CLOCK_MONOTONIC while guest time follows the TSC; the two drift apart by
 * a little, so after each sleep the thread looks at guest time again, and never fires early. A
 * manual clock is the same list without the thread.
 */
#include "host/clock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

/* The longest sleep, so that a deadline centuries ahead can't overflow struct timespec. */
#define MAX_SLEEP_NS (3600 * NSEC_PER_SEC)

struct timer {
    struct clock *clock;
    void (*cb)(void *ctx);
    void *ctx;
    u64 deadline;
    bool armed;
    struct timer *prev, *next; /* in the clock's list while armed */
};

struct clock {
    const struct timebase *tb; /* NULL: manual */
    u64 manual_now;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the first deadline changed, or stop was set */
    pthread_cond_t idle;    /* `running` has returned */
    struct timer *first;
    struct timer *running; /* its callback is being run, by thread `runner` */
    pthread_t runner;
    pthread_t thread;
    bool stop;
};

static void unlink_timer(struct timer *t)
{
    if (!t->armed)
        return;
    if (t->prev)
        t->prev->next = t->next;
    else
        t->clock->first = t->next;
    if (t->next)
        t->next->prev = t->prev;
    t->armed = false;
}

/* Behind all timers with the same deadline, so that they fire in the order of arming. */
static void link_timer(struct timer *t)
{
    struct timer *prev = NULL, *next = t->clock->first;
    while (next && next->deadline <= t->deadline) {
        prev = next;
        next = next->next;
    }
    t->prev = prev;
    t->next = next;
    if (prev)
        prev->next = t;
    else
        t->clock->first = t;
    if (next)
        next->prev = t;
    t->armed = true;
}

static u64 now_locked(const struct clock *c)
{
    return c->tb ? timebase_ns(c->tb) : c->manual_now;
}

u64 clock_now(const struct clock *c)
{
    if (c->tb)
        return timebase_ns(c->tb);
    return __atomic_load_n(&c->manual_now, __ATOMIC_RELAXED);
}

/* Runs the first timer's callback, without the lock. After it the timer may no longer exist. */
static void fire_first(struct clock *c)
{
    struct timer *t = c->first;
    void (*cb)(void *) = t->cb;
    void *ctx = t->ctx;

    unlink_timer(t);
    c->running = t;
    c->runner = pthread_self();
    pthread_mutex_unlock(&c->lock);
    cb(ctx);
    pthread_mutex_lock(&c->lock);
    c->running = NULL;
    pthread_cond_broadcast(&c->idle);
}

/* For this guest time. */
static void sleep_locked(struct clock *c, u64 guest_ns)
{
    u64 ns = timebase_ns_to_host(c->tb, guest_ns);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    u64 at = (u64)until.tv_nsec + MIN(ns, MAX_SLEEP_NS);
    until.tv_sec += (time_t)(at / NSEC_PER_SEC);
    until.tv_nsec = (long)(at % NSEC_PER_SEC);
    pthread_cond_timedwait(&c->changed, &c->lock, &until);
}

static void *clock_thread(void *arg)
{
    struct clock *c = arg;

    prctl(PR_SET_NAME, "clock");
    prctl(PR_SET_TIMERSLACK, 1UL); /* the default of 50 us would delay each timer by as much */
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        u64 now = now_locked(c);
        if (!c->first)
            pthread_cond_wait(&c->changed, &c->lock);
        else if (c->first->deadline > now)
            sleep_locked(c, c->first->deadline - now);
        else
            fire_first(c);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static struct clock *clock_new(const struct timebase *tb)
{
    struct clock *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, &attr);
    pthread_cond_init(&c->idle, NULL);
    pthread_condattr_destroy(&attr);
    c->tb = tb;
    return c;
}

static void clock_free(struct clock *c)
{
    pthread_cond_destroy(&c->idle);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Signals are for the other threads: the clock's thread blocks them all. */
static int start_thread(struct clock *c)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int code = pthread_create(&c->thread, NULL, clock_thread, c);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return code;
}

int clock_create(const struct timebase *tb, struct clock **out, struct error *err)
{
    struct clock *c = clock_new(tb);
    if (!c)
        return error_set(err, ENOMEM, "not enough memory for the clock");
    int code = start_thread(c);
    if (code) {
        clock_free(c);
        return error_errno(err, code, "can't start the clock's thread");
    }
    *out = c;
    return 0;
}

struct clock *clock_create_manual(void)
{
    return clock_new(NULL);
}

void clock_destroy(struct clock *c)
{
    if (!c)
        return;
    if (c->tb) {
        pthread_mutex_lock(&c->lock);
        c->stop = true;
        pthread_cond_signal(&c->changed);
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->thread, NULL);
    }
    clock_free(c);
}

void clock_advance(struct clock *c, u64 ns)
{
    assert(!c->tb);
    pthread_mutex_lock(&c->lock);
    u64 target = c->manual_now + ns;
    while (c->first && c->first->deadline <= target) {
        __atomic_store_n(&c->manual_now, MAX(c->manual_now, c->first->deadline), __ATOMIC_RELAXED);
        fire_first(c);
    }
    __atomic_store_n(&c->manual_now, target, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&c->lock);
}

struct timer *timer_create_on(struct clock *c, void (*cb)(void *ctx), void *ctx)
{
    struct timer *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->clock = c;
    t->cb = cb;
    t->ctx = ctx;
    return t;
}

void timer_destroy(struct timer *t)
{
    if (!t)
        return;
    struct clock *c = t->clock;
    pthread_mutex_lock(&c->lock);
    unlink_timer(t);
    while (c->running == t && !pthread_equal(c->runner, pthread_self()))
        pthread_cond_wait(&c->idle, &c->lock);
    pthread_mutex_unlock(&c->lock);
    free(t);
}

void timer_arm(struct timer *t, u64 deadline_ns)
{
    struct clock *c = t->clock;
    pthread_mutex_lock(&c->lock);
    unlink_timer(t);
    t->deadline = deadline_ns;
    link_timer(t);
    if (c->first == t)
        pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

void timer_cancel(struct timer *t)
{
    struct clock *c = t->clock;
    pthread_mutex_lock(&c->lock);
    unlink_timer(t);
    pthread_mutex_unlock(&c->lock);
}
