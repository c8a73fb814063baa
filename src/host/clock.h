/*
 * Timers in guest time. One thread per machine runs callbacks when their time has come. A callback
 * runs without any lock held by the clock and takes the lock of its device itself; it may arm and
 * cancel timers.
 */
#ifndef RINGER_HOST_CLOCK_H
#define RINGER_HOST_CLOCK_H

#include "base/error.h"
#include "base/timebase.h"

struct clock;
struct timer;

/* Starts the thread. tb outlives the clock. */
int clock_create(const struct timebase *tb, struct clock **out, struct error *err);

/* Stops the thread. No callback runs after it returns. */
void clock_destroy(struct clock *c);

/* Guest time in ns. */
u64 clock_now(const struct clock *c);

/* Makes a timer, not armed. cb(ctx) runs on the clock's thread. */
struct timer *timer_create_on(struct clock *c, void (*cb)(void *ctx), void *ctx);

/* Frees it; waits for a running callback unless called from it. The caller must not hold a lock
 * which the callback takes. */
void timer_destroy(struct timer *t);

/* (Re)arms it for guest time `deadline_ns`; a time in the past fires at once. */
void timer_arm(struct timer *t, u64 deadline_ns);

/* Disarms it; a callback that has already begun may still be running. */
void timer_cancel(struct timer *t);

/* A clock for tests of devices: time stands still until clock_advance() moves it, firing timers in
 * order on the caller's thread. */
struct clock *clock_create_manual(void);
void clock_advance(struct clock *c, u64 ns);

#endif
