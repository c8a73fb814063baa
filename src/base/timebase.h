/*
 * Guest time. Everything that a guest can read the time from (TSC, PIT, APIC timer, ACPI PM timer,
 * RTC, paravirtual clock) is computed from one counter, the host's TSC, so that calibration loops
 * which compare two of them always agree, on a starved host too. Guest time starts at 0 when the
 * machine is made and runs at the host's pace, or several times slower if the user wants so. Slow
 * time leaves the guest's TSC alone, for there are hosts on which KVM's guests have the host's: the
 * guest finds its TSC that much faster, and all its clocks agree with that. Reads are lock-free and
 * safe from every thread.
 */
#ifndef RINGER_BASE_TIMEBASE_H
#define RINGER_BASE_TIMEBASE_H

#include <time.h>

#include "base/types.h"

#define NSEC_PER_SEC 1000000000ULL

/* Linux programs the TSC-deadline timer with an eighth of the TSC's frequency in 32 bits. */
#define SLOW_TIME_MAX 8

struct timebase {
    u64 start_tsc;         /* host TSC at guest time 0 */
    u64 tsc_hz;            /* TSC ticks in a second of guest time */
    u64 ns_mult;           /* guest ns = tsc * ns_mult >> 32 */
    unsigned slow;         /* host seconds in a second of guest time */
    i64 start_realtime_ns; /* host wall clock (CLOCK_REALTIME) at guest time 0, in ns */
};

/* Finds the host TSC's frequency (takes about 20 ms when it has to be measured) and sets time 0. */
void timebase_init(struct timebase *tb);

/* Guest time runs 1 to SLOW_TIME_MAX times slower than the host's. Before anybody reads it. */
void timebase_slow_down(struct timebase *tb, unsigned factor);

/* A clock of the host, in ns. */
u64 host_clock_ns(clockid_t id);

/* Host TSC, unscaled. */
u64 host_tsc(void);

/* Guest TSC ticks since time 0 (the guest's TSC is this plus its own offset). */
u64 timebase_tsc(const struct timebase *tb);

/* Guest time in ns since time 0. */
u64 timebase_ns(const struct timebase *tb);

u64 timebase_tsc_to_ns(const struct timebase *tb, u64 ticks);
u64 timebase_ns_to_tsc(const struct timebase *tb, u64 ns);

/* The host's time: ns since guest time 0, how long these ticks take, and this guest time (~0 if
 * that is too long for a u64). For what the user counts in, and for statistics. */
u64 timebase_host_ns(const struct timebase *tb);
u64 timebase_tsc_to_host_ns(const struct timebase *tb, u64 ticks);
u64 timebase_ns_to_host(const struct timebase *tb, u64 ns);

/* ns of guest time to ticks of a device that counts at hz; exact, 128-bit inside. */
static inline u64 ns_to_ticks(u64 ns, u64 hz)
{
    return (u64)((u128)ns * hz / NSEC_PER_SEC);
}

/* Ticks of a device at hz to ns, rounded up, so that waiting for the result is never too short. */
static inline u64 ticks_to_ns(u64 ticks, u64 hz)
{
    return (u64)(((u128)ticks * NSEC_PER_SEC + hz - 1) / hz);
}

#endif
