/*
 * The 8254 at register level, on a manual clock: all modes, what is read at any time, and when the
 * interrupt line rises. Times are given in ticks of 1193182 Hz.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/tunables.h"
#include "dev/i8254.h"

struct fixture {
    struct port_bus *bus;
    struct clock *clock;
    struct i8254 *pit;
    int line;
    unsigned edges;
};

static void set_irq(void *ctx, unsigned n, int level)
{
    struct fixture *f = ctx;
    (void)n;
    f->edges += level && !f->line;
    f->line = level;
}

static void out(struct fixture *f, u16 port, u8 value)
{
    port_out(f->bus, port, value, 1);
}

static u8 in(struct fixture *f, u16 port)
{
    return (u8)port_in(f->bus, port, 1);
}

static u64 now_tick(struct fixture *f)
{
    return ns_to_ticks(clock_now(f->clock), I8254_HZ);
}

/* To the moment `ticks` ticks from now. */
static void run(struct fixture *f, u64 ticks)
{
    u64 target = ticks_to_ns(now_tick(f) + ticks, I8254_HZ);
    clock_advance(f->clock, target - clock_now(f->clock));
}

static void program(struct fixture *f, unsigned n, unsigned mode, u16 count)
{
    out(f, 0x43, (u8)(n << 6 | 0x30 | mode << 1));
    out(f, (u16)(0x40 + n), (u8)count);
    out(f, (u16)(0x40 + n), (u8)(count >> 8));
}

static u16 read_count(struct fixture *f, unsigned n)
{
    out(f, 0x43, (u8)(n << 6));
    u16 lsb = in(f, (u16)(0x40 + n));
    return (u16)(lsb | in(f, (u16)(0x40 + n)) << 8);
}

static u8 status(struct fixture *f, unsigned n)
{
    out(f, 0x43, (u8)(0xe0 | 2 << n));
    return in(f, (u16)(0x40 + n));
}

static bool out2(struct fixture *f)
{
    return in(f, 0x61) & 0x20;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct irq_line irq0 = {set_irq, f, 0};
    assert_int_equal(portbus_create(&f->bus, NULL), 0);
    f->clock = clock_create_manual();
    clock_advance(f->clock, 12345678);
    assert_int_equal(i8254_create(f->clock, &irq0, &f->pit, NULL), 0);
    assert_int_equal(i8254_attach(f->pit, f->bus, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    i8254_destroy(f->pit);
    clock_destroy(f->clock);
    portbus_destroy(f->bus);
    free(f);
    return 0;
}

static void mode0_counts_once(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 0, 1000);
    assert_int_equal(f->line, 0);
    assert_int_equal(read_count(f, 0), 1000);
    assert_int_equal(status(f, 0), 0x30);
    run(f, 400);
    assert_int_equal(read_count(f, 0), 600);
    run(f, 599);
    assert_int_equal(f->edges, 0);
    run(f, 1);
    assert_int_equal(f->edges, 1);
    assert_int_equal(f->line, 1);
    assert_int_equal(status(f, 0), 0xb0);
    run(f, 10); /* it goes on below zero */
    assert_int_equal(read_count(f, 0), 0xfff6);
    run(f, 200000);
    assert_int_equal(f->edges, 1);
    out(f, 0x40, 5); /* the first byte of a new count stops it, output low */
    assert_int_equal(f->line, 0);
    run(f, 100);
    assert_int_equal(f->edges, 1);
    out(f, 0x40, 0);
    run(f, 5);
    assert_int_equal(f->edges, 2);
}

static void mode2_is_periodic(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 2, 11932);
    unsigned first = f->edges; /* output goes high with the control word */
    assert_int_equal(status(f, 0), 0xb4);
    for (unsigned i = 1; i <= 100; i++) {
        run(f, 11932);
        assert_int_equal(f->edges, first + i);
        assert_int_equal(read_count(f, 0), 11932);
    }
    run(f, 11931);
    assert_int_equal(read_count(f, 0), 1);
    assert_int_equal(status(f, 0) & 0x80, 0); /* low for the last tick */
    assert_int_equal(f->edges, first + 100);
}

static void mode2_new_count_waits(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 2, 1000);
    unsigned first = f->edges;
    run(f, 300);
    out(f, 0x40, 500 & 0xff);
    out(f, 0x40, 500 >> 8);
    assert_int_equal(read_count(f, 0), 700);
    assert_int_equal(status(f, 0) & 0x40, 0x40); /* null count: not loaded yet */
    run(f, 700);
    assert_int_equal(f->edges, first + 1);
    assert_int_equal(read_count(f, 0), 500);
    assert_int_equal(status(f, 0) & 0x40, 0);
    run(f, 500);
    assert_int_equal(f->edges, first + 2);
}

static void mode3_square_wave(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 3, 1001); /* odd: 501 high, 500 low */
    unsigned first = f->edges;
    assert_int_equal(read_count(f, 0), 1000);
    run(f, 10);
    assert_int_equal(read_count(f, 0), 980);
    run(f, 490);
    assert_int_equal(status(f, 0) & 0x80, 0x80);
    run(f, 1);
    assert_int_equal(status(f, 0) & 0x80, 0);
    assert_int_equal(read_count(f, 0), 1000);
    run(f, 499);
    assert_int_equal(f->edges, first);
    run(f, 1);
    assert_int_equal(f->edges, first + 1);
    assert_int_equal(status(f, 0), 0xb6);
    run(f, 10 * 1001);
    assert_int_equal(f->edges, first + 11);
}

static void mode4_strobe(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 4, 100);
    unsigned first = f->edges;
    assert_int_equal(status(f, 0) & 0x80, 0x80);
    run(f, 100);
    assert_int_equal(status(f, 0) & 0x80, 0);
    assert_int_equal(f->edges, first);
    run(f, 1);
    assert_int_equal(status(f, 0) & 0x80, 0x80);
    assert_int_equal(f->edges, first + 1);
    run(f, 100000);
    assert_int_equal(f->edges, first + 1);
}

static void mode1_and_5_by_gate(void **state)
{
    struct fixture *f = *state;
    program(f, 2, 1, 50);
    run(f, 200);
    assert_true(out2(f)); /* waits for the gate */
    out(f, 0x61, 1);
    assert_false(out2(f));
    run(f, 30);
    assert_int_equal(read_count(f, 2), 20);
    out(f, 0x61, 0); /* level does not matter, a new edge starts again */
    out(f, 0x61, 1);
    run(f, 49);
    assert_false(out2(f));
    run(f, 1);
    assert_true(out2(f));
    run(f, 70000); /* wraps; stays high */
    assert_true(out2(f));

    out(f, 0x61, 0);
    program(f, 2, 5, 10);
    assert_true(out2(f));
    out(f, 0x61, 1);
    run(f, 9);
    assert_true(out2(f));
    run(f, 1);
    assert_false(out2(f));
    run(f, 1);
    assert_true(out2(f));
}

static void gate_pauses_and_reloads(void **state)
{
    struct fixture *f = *state;
    program(f, 2, 0, 100); /* gate low: loaded, not counting */
    run(f, 500);
    assert_int_equal(read_count(f, 2), 100);
    out(f, 0x61, 1);
    run(f, 40);
    out(f, 0x61, 0);
    run(f, 500);
    assert_int_equal(read_count(f, 2), 60);
    assert_false(out2(f));
    out(f, 0x61, 1);
    run(f, 59);
    assert_false(out2(f));
    run(f, 1);
    assert_true(out2(f));
    program(f, 2, 3, 100);
    run(f, 60);
    assert_false(out2(f));
    out(f, 0x61, 0); /* square wave: output high at once, reload on the rising gate */
    assert_true(out2(f));
    run(f, 1000);
    out(f, 0x61, 1);
    run(f, 49);
    assert_true(out2(f));
    run(f, 1);
    assert_false(out2(f));
}

static void speaker_port(void **state)
{
    struct fixture *f = *state;
    out(f, 0x61, 0xff);
    assert_int_equal(in(f, 0x61) & 0xcf, 0x0f);
    unsigned toggles = 0;
    u8 last = in(f, 0x61) & 0x10;
    for (unsigned i = 0; i < 1800; i++) {
        run(f, 1);
        u8 bit = in(f, 0x61) & 0x10;
        toggles += bit != last;
        last = bit;
    }
    assert_int_equal(toggles, 100); /* each 18 ticks, 15 us */
}

static void access_modes(void **state)
{
    struct fixture *f = *state;
    out(f, 0x43, 0x94); /* counter 2, low byte, mode 2 */
    out(f, 0x42, 100);
    out(f, 0x61, 1);
    run(f, 10);
    assert_int_equal(in(f, 0x42), 90);
    assert_int_equal(in(f, 0x42), 90);
    assert_int_equal(status(f, 2), 0x94);
    out(f, 0x43, 0xa4); /* high byte: count is 0x300 */
    out(f, 0x42, 3);
    run(f, 0x10);
    assert_int_equal(in(f, 0x42), 2);
    program(f, 2, 2, 0); /* 0 is 65536 */
    assert_int_equal(read_count(f, 2), 0);
    run(f, 1);
    assert_int_equal(read_count(f, 2), 0xffff);
    /* without a latch: low byte, then high */
    run(f, 0x1ff);
    assert_int_equal(in(f, 0x42), 0);
    assert_int_equal(in(f, 0x42), 0xfe);
}

static void latches(void **state)
{
    struct fixture *f = *state;
    out(f, 0x61, 1);
    program(f, 2, 2, 0x1234);
    out(f, 0x43, 0x80);
    run(f, 0x100);
    out(f, 0x43, 0x80); /* ignored until the first is read */
    assert_int_equal(in(f, 0x42), 0x34);
    assert_int_equal(in(f, 0x42), 0x12);
    assert_int_equal(read_count(f, 2), 0x1134);
    out(f, 0x43, 0xc8); /* read back status and count of 2: status comes first */
    run(f, 0x34);
    assert_int_equal(in(f, 0x42), 0xb4);
    assert_int_equal(in(f, 0x42), 0x34);
    assert_int_equal(in(f, 0x42), 0x11);
    assert_int_equal(in(f, 0x42), 0x00); /* live again */
    assert_int_equal(in(f, 0x43), 0xff);
}

static void bcd(void **state)
{
    struct fixture *f = *state;
    out(f, 0x61, 1);
    out(f, 0x43, 0xb5); /* mode 2, BCD */
    out(f, 0x42, 0x00);
    out(f, 0x42, 0x10);
    run(f, 1);
    assert_int_equal(read_count(f, 2), 0x0999);
    assert_int_equal(status(f, 2), 0xb5);
    out(f, 0x43, 0xb1);
    out(f, 0x42, 0x00);
    out(f, 0x42, 0x00); /* 10000 */
    assert_int_equal(read_count(f, 2), 0);
    run(f, 1);
    assert_int_equal(read_count(f, 2), 0x9999);
    out(f, 0x43, 0xb5);
    out(f, 0x42, 0xff); /* not BCD: whatever, but no harm */
    out(f, 0x42, 0xff);
    run(f, 3);
    read_count(f, 2);
}

struct stall {
    struct fixture *f;
    struct clock *clock;
    struct timer *block, *after;
    unsigned before, edges;
    atomic_bool done;
};

/* Holds the clock's thread up for 30 periods; then asks to be called when what is overdue by then
 * has been done. */
static void stall(void *ctx)
{
    struct stall *s = ctx;
    nanosleep(&(struct timespec){0, 30 * 1000 * 1000}, NULL);
    s->before = s->f->edges;
    timer_arm(s->after, clock_now(s->clock));
}

static void after_stall(void *ctx)
{
    struct stall *s = ctx;
    s->edges = s->f->edges - s->before;
    atomic_store(&s->done, true);
}

static void late_host_coalesces(void **state)
{
    struct fixture *f = *state;
    struct stall s = {.f = f};
    struct timebase tb;
    struct irq_line irq0 = {set_irq, f, 0};
    struct port_bus *bus;
    struct i8254 *pit;
    timebase_init(&tb);
    assert_int_equal(clock_create(&tb, &s.clock, NULL), 0);
    assert_int_equal(portbus_create(&bus, NULL), 0);
    assert_int_equal(i8254_create(s.clock, &irq0, &pit, NULL), 0);
    assert_int_equal(i8254_attach(pit, bus, NULL), 0);
    s.block = timer_create_on(s.clock, stall, &s);
    s.after = timer_create_on(s.clock, after_stall, &s);
    port_out(bus, 0x43, 0x34, 1);
    port_out(bus, 0x40, 1193 & 0xff, 1);
    port_out(bus, 0x40, 1193 >> 8, 1);
    timer_arm(s.block, 0);
    while (!atomic_load(&s.done))
        nanosleep(&(struct timespec){0, 1000 * 1000}, NULL);
    assert_in_range(s.edges, 1, 10);
    i8254_destroy(pit);
    timer_destroy(s.block);
    timer_destroy(s.after);
    portbus_destroy(bus);
    clock_destroy(s.clock);
}

static void tiny_periods_are_bounded(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 2, 1);
    unsigned first = f->edges;
    clock_advance(f->clock, 10 * 1000 * 1000);
    assert_in_range(f->edges - first, 100, 11 * 1000 * 1000 / TUNE_TIMER_MIN_GAP_NS);
}

static void mode_change_and_reset_stop_it(void **state)
{
    struct fixture *f = *state;
    program(f, 0, 2, 1000);
    out(f, 0x43, 0x30);
    assert_int_equal(f->line, 0);
    unsigned before = f->edges;
    run(f, 100000);
    assert_int_equal(f->edges, before);
    program(f, 0, 2, 1000);
    before = f->edges;
    i8254_reset(f->pit);
    run(f, 100000);
    assert_int_equal(f->edges, before);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(mode0_counts_once),
        TEST(mode2_is_periodic),
        TEST(mode2_new_count_waits),
        TEST(mode3_square_wave),
        TEST(mode4_strobe),
        TEST(mode1_and_5_by_gate),
        TEST(gate_pauses_and_reloads),
        TEST(speaker_port),
        TEST(access_modes),
        TEST(latches),
        TEST(bcd),
        TEST(late_host_coalesces),
        TEST(tiny_periods_are_bounded),
        TEST(mode_change_and_reset_stop_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
