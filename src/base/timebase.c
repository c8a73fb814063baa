/*
 * Guest time from the host's TSC. The frequency is measured once against CLOCK_MONOTONIC_RAW; the
 * conversion is one multiply, good to a part in a thousand million (a hundred million when time is
 * slow).
 */
#include "base/timebase.h"

#include <time.h>
#include <x86intrin.h>

u64 host_tsc(void)
{
    return __rdtsc();
}

u64 host_clock_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

struct sample {
    u64 tsc;
    u64 ns;
};

/* The pair that was read with the least delay between its two clocks. */
static struct sample sample_clocks(void)
{
    struct sample best = {0, 0};
    u64 best_gap = ~0ULL;
    for (int i = 0; i < 16; i++) {
        u64 before = host_tsc();
        u64 ns = host_clock_ns(CLOCK_MONOTONIC_RAW);
        u64 after = host_tsc();
        if (after - before < best_gap) {
            best_gap = after - before;
            best = (struct sample){before + (after - before) / 2, ns};
        }
    }
    return best;
}

static u64 measure_tsc_hz(void)
{
    struct sample a = sample_clocks();
    struct timespec pause = {0, 20 * 1000 * 1000};
    nanosleep(&pause, NULL);
    struct sample b = sample_clocks();
    return (u64)((u128)(b.tsc - a.tsc) * NSEC_PER_SEC / (b.ns - a.ns));
}

static void set_frequency(struct timebase *tb, u64 hz)
{
    tb->tsc_hz = hz;
    tb->ns_mult = (u64)(((u128)NSEC_PER_SEC << 32) / hz);
}

void timebase_init(struct timebase *tb)
{
    set_frequency(tb, measure_tsc_hz());
    tb->slow = 1;
    tb->start_realtime_ns = (i64)host_clock_ns(CLOCK_REALTIME);
    tb->start_tsc = host_tsc();
}

void timebase_slow_down(struct timebase *tb, unsigned factor)
{
    assert(factor >= 1 && factor <= SLOW_TIME_MAX);
    set_frequency(tb, tb->tsc_hz / tb->slow * factor);
    tb->slow = factor;
}

u64 timebase_tsc(const struct timebase *tb)
{
    return host_tsc() - tb->start_tsc;
}

u64 timebase_tsc_to_ns(const struct timebase *tb, u64 ticks)
{
    return (u64)(((u128)ticks * tb->ns_mult) >> 32);
}

u64 timebase_ns_to_tsc(const struct timebase *tb, u64 ns)
{
    return (u64)((u128)ns * tb->tsc_hz / NSEC_PER_SEC);
}

u64 timebase_ns(const struct timebase *tb)
{
    return timebase_tsc_to_ns(tb, timebase_tsc(tb));
}

/* All in steps of `slow` ns. */
u64 timebase_host_ns(const struct timebase *tb)
{
    return timebase_tsc_to_host_ns(tb, timebase_tsc(tb));
}

u64 timebase_tsc_to_host_ns(const struct timebase *tb, u64 ticks)
{
    return timebase_ns_to_host(tb, timebase_tsc_to_ns(tb, ticks));
}

u64 timebase_ns_to_host(const struct timebase *tb, u64 ns)
{
    return ns > ~0ULL / tb->slow ? ~0ULL : ns * tb->slow;
}
