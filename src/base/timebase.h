/*
 * Guest time. Everything that a guest can read the time from (TSC, PIT, APIC timer, ACPI PM timer,
 * RTC, paravirtual clock) is computed from one counter, the host's TSC, so that calibration loops
 * which compare two of them always agree, on a starved host too. Guest time starts at 0 when the
 * machine is made and runs at the host's pace. Reads are lock-free and safe from every thread.
 */
#ifndef RINGER_BASE_TIMEBASE_H
#define RINGER_BASE_TIMEBASE_H

#include "base/types.h"

#define NSEC_PER_SEC 1000000000ULL

struct timebase {
    u64 start_tsc;         /* host TSC at guest time 0 */
    u64 tsc_hz;            /* host (and guest) TSC frequency in Hz */
    u64 ns_mult;           /* ns = tsc * ns_mult >> 32 */
    i64 start_realtime_ns; /* host wall clock (CLOCK_REALTIME) at guest time 0, in ns */
};

/* Finds the host TSC's frequency (takes about 20 ms when it has to be measured) and sets time 0. */
void timebase_init(struct timebase *tb);

/* Host TSC, unscaled. */
u64 host_tsc(void);

/* Guest TSC ticks since time 0 (the guest's TSC is this plus its own offset). */
u64 timebase_tsc(const struct timebase *tb);

/* Guest time in ns since time 0. */
u64 timebase_ns(const struct timebase *tb);

u64 timebase_tsc_to_ns(const struct timebase *tb, u64 ticks);
u64 timebase_ns_to_tsc(const struct timebase *tb, u64 ns);

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
