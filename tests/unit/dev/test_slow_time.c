/*
 * Guest time that runs slower than the host's: each clock of the guest against the host's own, on a
 * real clock. A value is bracketed by two readings of the host's clock, so a busy host is no
 * excuse.
 */
#include "rig.h"

#include <time.h>

#include "dev/acpi_pm.h"
#include "dev/i8254.h"
#include "dev/pcmap.h"

#define TICK_SLACK 2 /* a chip counts from a tick of its own, and rounds down */
/* The host's clocks, and the measured frequency of its TSC, differ by less than one in so many. */
#define DRIFT 200

struct slow_machine {
    struct timebase tb;
    struct clock *clock;
    struct port_bus *bus;
    struct i8254 *pit;
    struct acpi_pm *pm;
    struct power power;
    u64 tsc_hz; /* the host's */
};

static void ignore_pin(void *ctx, unsigned n, int level)
{
    (void)ctx;
    (void)n;
    (void)level;
}

static void machine_create(struct slow_machine *m, unsigned slow)
{
    struct irq_line line = {ignore_pin, NULL, 0};
    *m = (struct slow_machine){.power = {NULL, NULL}};
    timebase_init(&m->tb);
    m->tsc_hz = m->tb.tsc_hz;
    timebase_slow_down(&m->tb, slow);
    assert_int_equal(clock_create(&m->tb, &m->clock, NULL), 0);
    assert_int_equal(portbus_create(&m->bus, NULL), 0);
    assert_int_equal(i8254_create(m->clock, &line, &m->pit, NULL), 0);
    assert_int_equal(i8254_attach(m->pit, m->bus, NULL), 0);
    assert_int_equal(acpi_pm_create(m->clock, &m->power, line, &m->pm, NULL), 0);
    assert_int_equal(acpi_pm_attach(m->pm, m->bus, NULL), 0);
}

static void machine_destroy(struct slow_machine *m)
{
    acpi_pm_destroy(m->pm);
    i8254_destroy(m->pit);
    portbus_destroy(m->bus);
    clock_destroy(m->clock);
}

static u64 host_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
    return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){0, ms * 1000 * 1000}, NULL);
}

/* --- the clocks, each in its own ticks --- */

/* Counter 2 counts down from 65536, and has gone less than once around. */
static u64 read_pit(struct slow_machine *m)
{
    port_out(m->bus, 0x43, 0x80, 1);
    u64 low = port_in(m->bus, 0x42, 1), count = port_in(m->bus, 0x42, 1) << 8 | low;
    return (0 - count) & 0xffff;
}

static u64 read_pm_timer(struct slow_machine *m)
{
    return port_in(m->bus, PC_PM_BASE + 8, 4);
}

static u64 read_ns(struct slow_machine *m)
{
    return timebase_ns(&m->tb);
}

static u64 read_tsc(struct slow_machine *m)
{
    return timebase_tsc(&m->tb);
}

static u64 read_host(struct slow_machine *m)
{
    return timebase_host_ns(&m->tb);
}

/* The clock goes on by as many ticks of hz, in guest time, as the host's time says. */
static void check_clock(struct slow_machine *m, u64 (*read)(struct slow_machine *m), u64 hz,
                        unsigned slow)
{
    u64 before = host_ns();
    u64 from = read(m);
    u64 begun = host_ns();
    sleep_ms(60);
    u64 ending = host_ns();
    u64 ticks = read(m) - from;
    u64 after = host_ns();
    u64 least = ns_to_ticks((ending - begun) / slow, hz),
        most = ns_to_ticks((after - before) / slow, hz);
    assert_in_range(ticks, least - least / DRIFT - TICK_SLACK, most + most / DRIFT + TICK_SLACK);
}

static void check_all(unsigned slow)
{
    struct slow_machine m;
    machine_create(&m, slow);
    port_out(m.bus, 0x61, 1, 1);    /* gate on */
    port_out(m.bus, 0x43, 0xb0, 1); /* counter 2, mode 0, from 65536: 55 ms of guest time */
    port_out(m.bus, 0x42, 0, 1);
    port_out(m.bus, 0x42, 0, 1);
    if (slow > 1) /* it would go around otherwise */
        check_clock(&m, read_pit, I8254_HZ, slow);
    check_clock(&m, read_pm_timer, ACPI_PM_TIMER_HZ, slow);
    check_clock(&m, read_ns, NSEC_PER_SEC, slow);
    check_clock(&m, read_tsc, m.tsc_hz, 1);
    check_clock(&m, read_host, NSEC_PER_SEC, 1);
    machine_destroy(&m);
}

static void clocks_agree(void **state)
{
    (void)state;
    check_all(1);
    check_all(3);
    check_all(SLOW_TIME_MAX);
}

/* What the guest finds when it calibrates its TSC by any of them. */
static void tsc_is_faster(void **state)
{
    (void)state;
    struct timebase tb;
    timebase_init(&tb);
    u64 hz = tb.tsc_hz;
    timebase_slow_down(&tb, 4);
    assert_int_equal(tb.tsc_hz, 4 * hz);
    assert_int_equal(timebase_ns_to_tsc(&tb, NSEC_PER_SEC), 4 * hz);
    assert_in_range(timebase_tsc_to_ns(&tb, 4 * hz), NSEC_PER_SEC - 10, NSEC_PER_SEC + 10);
    assert_in_range(timebase_tsc_to_host_ns(&tb, hz), NSEC_PER_SEC - 10, NSEC_PER_SEC + 10);
    assert_int_equal(timebase_ns_to_host(&tb, 7), 28);
    assert_true(timebase_ns_to_host(&tb, ~0ULL / 2) == ~0ULL);
    timebase_slow_down(&tb, 1);
    assert_int_equal(tb.tsc_hz, hz);
}

struct alarm {
    struct slow_machine m;
    _Atomic u64 when;
};

static void on_alarm(void *ctx)
{
    struct alarm *a = ctx;
    __atomic_store_n(&a->when, clock_now(a->m.clock), __ATOMIC_SEQ_CST);
}

/* A timer waits as much longer, never too short; and does not oversleep by the factor again. */
static void timers_wait_longer(void **state)
{
    (void)state;
    struct alarm a = {.when = 0};
    machine_create(&a.m, 8);
    struct timer *t = timer_create_on(a.m.clock, on_alarm, &a);
    u64 start = host_ns(), due = clock_now(a.m.clock) + 25 * 1000 * 1000;
    timer_arm(t, due);
    while (!__atomic_load_n(&a.when, __ATOMIC_SEQ_CST) && host_ns() - start < 10 * NSEC_PER_SEC)
        sleep_ms(1);
    u64 took = host_ns() - start;
    assert_true(a.when >= due);
    assert_in_range(took, 199 * 1000 * 1000, 1500 * 1000 * 1000); /* 8 * 25 ms; not 8 * 200 */
    timer_destroy(t);
    machine_destroy(&a.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks_agree),
        cmocka_unit_test(tsc_is_faster),
        cmocka_unit_test(timers_wait_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
