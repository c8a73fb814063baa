/*
 * The local APIC's timer (SDM vol. 3, 11.5.4): one-shot and periodic, counting at 1 GHz divided by
 * DCR, and TSC-deadline. Nothing ticks: the registers and the time of the last load say what the
 * count is, and a clock timer goes off when it reaches zero. Before any register changes, and
 * before a count is shown, an interrupt that is due by then is raised, however late the clock's
 * thread may be; so the guest never sees a timer that has run out without its interrupt.
 */
#include "dev/lapic_internal.h"

#include <errno.h>

#include "base/timebase.h"
#include "base/tunables.h"

enum timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE, TIMER_RESERVED };

#define LVT_TIMER_BITS (APIC_VECTOR | APIC_MASKED | 0x60000)
#define DCR_BITS       0xb

static_assert(LAPIC_BUS_HZ == NSEC_PER_SEC, "counts are taken as ns below");

static enum timer_mode lvt_mode(u32 lvt)
{
    return (enum timer_mode)((lvt >> 17) & 3);
}

static enum timer_mode mode_of(const struct lapic *l)
{
    return lvt_mode(peek(&l->v->lapic.lvt[LVT_TIMER]));
}

/* log2 of the divider: DCR 000b is 2, ... 110b is 128, 111b is 1. */
static unsigned divide_shift(const struct lapic_state *s)
{
    u32 code = (s->timer_divide & 3) | ((s->timer_divide >> 1) & 4);
    return (code + 1) & 7;
}

static u64 period_ns(const struct lapic_state *s)
{
    return (u64)s->timer_initial << divide_shift(s);
}

static u32 count_at(const struct lapic *l, u64 now)
{
    const struct lapic_state *s = &l->v->lapic;
    if (!s->timer_initial || mode_of(l) > TIMER_PERIODIC)
        return 0;
    u64 elapsed = (now - s->timer_start_ns) >> divide_shift(s);
    if (mode_of(l) == TIMER_PERIODIC)
        return s->timer_initial - (u32)(elapsed % s->timer_initial);
    return elapsed < s->timer_initial ? s->timer_initial - (u32)elapsed : 0;
}

/* The next multiple of the period; those that the host was too late for are left out. */
static u64 next_period(const struct lapic_state *s, u64 now)
{
    u64 period = period_ns(s);
    u64 earliest = now - s->timer_start_ns;
    if (period < TUNE_TIMER_MIN_GAP_NS)
        earliest += TUNE_TIMER_MIN_GAP_NS - period;
    return s->timer_start_ns + (earliest / period + 1) * period;
}

/* Guest time at which the TSC passes the deadline. */
static u64 deadline_ns(const struct lapic *l, u64 now)
{
    const struct timebase *tb = l->bus->m->time;
    u64 machine_tsc = timebase_ns_to_tsc(tb, now);
    u64 guest_tsc = machine_tsc + l->v->tsc_offset;
    u64 deadline = l->v->lapic.tsc_deadline;

    if (!deadline)
        return NO_DEADLINE;
    if (guest_tsc >= deadline)
        return now;
    u64 wait = deadline - guest_tsc;
    return wait >> 62 ? NO_DEADLINE : timebase_tsc_to_ns(tb, machine_tsc + wait) + 1;
}

static u64 next_due(const struct lapic *l, u64 now)
{
    const struct lapic_state *s = &l->v->lapic;
    switch (mode_of(l)) {
    case TIMER_ONE_SHOT:
        return count_at(l, now) ? s->timer_start_ns + period_ns(s) : NO_DEADLINE;
    case TIMER_PERIODIC:
        return s->timer_initial ? next_period(s, now) : NO_DEADLINE;
    case TIMER_DEADLINE:
        return deadline_ns(l, now);
    case TIMER_RESERVED:
        break;
    }
    return NO_DEADLINE;
}

static void arm(struct lapic *l, u64 due)
{
    l->due_ns = due;
    if (due == NO_DEADLINE)
        timer_cancel(l->timer);
    else
        timer_arm(l->timer, due);
}

/* Raises the interrupt if it is due, and rearms. */
static void expire(struct lapic *l, u64 now)
{
    if (l->due_ns == NO_DEADLINE || now < l->due_ns)
        return;
    if (mode_of(l) == TIMER_DEADLINE)
        l->v->lapic.tsc_deadline = 0;
    arm(l, next_due(l, now));
    lapic_raise_lvt(l, LVT_TIMER);
}

static void timer_fired(void *ctx)
{
    struct lapic *l = ctx;
    pthread_mutex_lock(&l->timer_lock);
    expire(l, clock_now(l->bus->clock));
    pthread_mutex_unlock(&l->timer_lock);
}

/* Every change of a register stands between these two; begin returns the time of the change. */
static u64 begin(struct lapic *l)
{
    pthread_mutex_lock(&l->timer_lock);
    u64 now = clock_now(l->bus->clock);
    expire(l, now);
    return now;
}

static void end(struct lapic *l, u64 now)
{
    arm(l, next_due(l, now));
    expire(l, now);
    pthread_mutex_unlock(&l->timer_lock);
}

void lapic_timer_write_initial(struct lapic *l, u32 value)
{
    u64 now = begin(l);
    if (mode_of(l) != TIMER_DEADLINE) { /* SDM 11.5.4.1: ignored in TSC-deadline mode */
        l->v->lapic.timer_initial = value;
        l->v->lapic.timer_start_ns = now;
    }
    end(l, now);
}

/* The count goes on from where it is, at the new rate. */
void lapic_timer_write_divide(struct lapic *l, u32 value)
{
    struct lapic_state *s = &l->v->lapic;
    u64 now = begin(l);
    u32 done = s->timer_initial - count_at(l, now);
    s->timer_divide = value & DCR_BITS;
    s->timer_start_ns = now - ((u64)done << divide_shift(s));
    end(l, now);
}

void lapic_timer_write_lvt(struct lapic *l, u32 value)
{
    struct lapic_state *s = &l->v->lapic;
    u64 now = begin(l);
    enum timer_mode from = mode_of(l), to = lvt_mode(value);
    if ((from == TIMER_DEADLINE) != (to == TIMER_DEADLINE)) /* SDM 11.5.4.1: disarms */
        s->timer_initial = s->tsc_deadline = 0;
    poke(&s->lvt[LVT_TIMER], value & LVT_TIMER_BITS);
    end(l, now);
}

u32 lapic_timer_current(struct lapic *l)
{
    u64 now = begin(l);
    u32 count = count_at(l, now);
    pthread_mutex_unlock(&l->timer_lock);
    return count;
}

u64 lapic_timer_read_deadline(struct lapic *l)
{
    begin(l);
    u64 value = l->v->lapic.tsc_deadline;
    pthread_mutex_unlock(&l->timer_lock);
    return value;
}

/* The deadline is turned into guest time here: a guest that changes its TSC must write it again. */
void lapic_timer_write_deadline(struct lapic *l, u64 value)
{
    u64 now = begin(l);
    if (mode_of(l) == TIMER_DEADLINE)
        l->v->lapic.tsc_deadline = value;
    end(l, now);
}

void lapic_timer_reset(struct lapic *l)
{
    struct lapic_state *s = &l->v->lapic;
    pthread_mutex_lock(&l->timer_lock);
    poke(&s->lvt[LVT_TIMER], APIC_MASKED);
    s->timer_initial = s->timer_divide = 0;
    s->timer_start_ns = 0;
    s->tsc_deadline = 0;
    arm(l, NO_DEADLINE);
    pthread_mutex_unlock(&l->timer_lock);
}

int lapic_timer_init(struct lapic *l, struct error *err)
{
    l->due_ns = NO_DEADLINE;
    l->timer = timer_create_on(l->bus->clock, timer_fired, l);
    if (!l->timer)
        return error_set(err, ENOMEM, "not enough memory for an APIC timer");
    pthread_mutex_init(&l->timer_lock, NULL);
    return 0;
}

void lapic_timer_destroy(struct lapic *l)
{
    if (!l->timer)
        return;
    timer_destroy(l->timer);
    pthread_mutex_destroy(&l->timer_lock);
}
