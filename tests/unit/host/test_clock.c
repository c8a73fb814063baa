/*
 * The clock: order of firing, rearming, cancelling and destroying, on a manual clock and on the
 * real thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "host/clock.h"

struct probe {
    struct clock *clock;
    struct timer *timer;
    atomic_uint fired;
    _Atomic u64 when;
    u64 again;          /* rearm after that many ns */
    unsigned *sequence; /* shared: order[fired] */
    unsigned order;
    bool destroy;
    atomic_bool slow, inside;
};

static void on_timer(void *ctx)
{
    struct probe *p = ctx;
    atomic_store(&p->inside, true);
    atomic_store(&p->when, clock_now(p->clock));
    if (p->sequence)
        p->order = ++*p->sequence;
    if (p->again)
        timer_arm(p->timer, atomic_load(&p->when) + p->again);
    if (p->destroy)
        timer_destroy(p->timer);
    if (atomic_load(&p->slow))
        nanosleep(&(struct timespec){0, 30 * 1000 * 1000}, NULL);
    atomic_store(&p->inside, false);
    atomic_fetch_add(&p->fired, 1);
}

static void init(struct probe *p, struct clock *c)
{
    *p = (struct probe){.clock = c};
    p->timer = timer_create_on(c, on_timer, p);
    assert_non_null(p->timer);
}

static void manual_fires_in_order(void **state)
{
    (void)state;
    struct clock *c = clock_create_manual();
    unsigned sequence = 0;
    struct probe p[4];
    static const u64 at[4] = {300, 100, 200, 100};
    for (unsigned i = 0; i < 4; i++) {
        init(&p[i], c);
        p[i].sequence = &sequence;
        timer_arm(p[i].timer, at[i]);
    }
    clock_advance(c, 99);
    assert_int_equal(sequence, 0);
    clock_advance(c, 1);
    assert_int_equal(sequence, 2);
    assert_int_equal(p[1].order, 1);
    assert_int_equal(p[3].order, 2); /* same deadline: in the order of arming */
    clock_advance(c, 1000);
    assert_int_equal(p[2].order, 3);
    assert_int_equal(p[0].order, 4);
    assert_int_equal(p[2].when, 200);
    assert_int_equal(p[0].when, 300);
    assert_int_equal(clock_now(c), 1100);
    for (unsigned i = 0; i < 4; i++)
        timer_destroy(p[i].timer);
    clock_destroy(c);
}

static void manual_rearm_and_cancel(void **state)
{
    (void)state;
    struct clock *c = clock_create_manual();
    struct probe p;
    init(&p, c);
    p.again = 10;
    timer_arm(p.timer, 10);
    clock_advance(c, 100);
    assert_int_equal(p.fired, 10);
    timer_arm(p.timer, 500); /* moves it */
    clock_advance(c, 300);
    assert_int_equal(p.fired, 10);
    timer_cancel(p.timer);
    timer_cancel(p.timer);
    clock_advance(c, 300);
    assert_int_equal(p.fired, 10);
    p.again = 0;
    timer_arm(p.timer, 5); /* in the past */
    clock_advance(c, 0);
    assert_int_equal(p.fired, 11);
    assert_int_equal(p.when, 700);
    timer_destroy(p.timer);
    clock_destroy(c);
}

static void manual_destroy_in_callback(void **state)
{
    (void)state;
    struct clock *c = clock_create_manual();
    struct probe p;
    init(&p, c);
    p.destroy = true;
    timer_arm(p.timer, 1);
    clock_advance(c, 10);
    assert_int_equal(p.fired, 1);
    clock_destroy(c);
}

static void wait_fired(struct probe *p, unsigned n)
{
    for (int i = 0; i < 4000 && atomic_load(&p->fired) < n; i++)
        nanosleep(&(struct timespec){0, 1000 * 1000}, NULL);
    assert_true(atomic_load(&p->fired) >= n);
}

static void thread_never_fires_early(void **state)
{
    (void)state;
    struct timebase tb;
    struct clock *c;
    timebase_init(&tb);
    assert_int_equal(clock_create(&tb, &c, NULL), 0);
    struct probe far, near;
    init(&far, c);
    init(&near, c);
    u64 now = clock_now(c);
    timer_arm(far.timer, ~0ULL);
    timer_arm(near.timer, now + 5 * 1000 * 1000); /* becomes the first: the sleep is cut short */
    wait_fired(&near, 1);
    assert_true(near.when >= now + 5 * 1000 * 1000);
    assert_int_equal(near.fired, 1);
    assert_int_equal(far.fired, 0);
    timer_arm(near.timer, 0);
    wait_fired(&near, 2);
    timer_destroy(near.timer);
    timer_destroy(far.timer);
    clock_destroy(c);
    assert_int_equal(far.fired, 0);
}

static void thread_destroy_waits_for_callback(void **state)
{
    (void)state;
    struct timebase tb;
    struct clock *c;
    timebase_init(&tb);
    assert_int_equal(clock_create(&tb, &c, NULL), 0);
    struct probe p;
    init(&p, c);
    atomic_store(&p.slow, true);
    timer_arm(p.timer, 0);
    while (!atomic_load(&p.inside))
        nanosleep(&(struct timespec){0, 100 * 1000}, NULL);
    timer_destroy(p.timer);
    assert_int_equal(p.fired, 1); /* it had returned before destroy did */
    clock_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manual_fires_in_order),
        cmocka_unit_test(manual_rearm_and_cancel),
        cmocka_unit_test(manual_destroy_in_callback),
        cmocka_unit_test(thread_never_fires_early),
        cmocka_unit_test(thread_destroy_waits_for_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
