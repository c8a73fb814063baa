/*
 * What a chip is connected to in these tests: a port bus, a clock that stands still, and wires and
 * machine requests that are recorded. Also a deterministic stream of random numbers and the random
 * walk over a chip's ports.
 */
#ifndef TESTS_DEV_RIG_H
#define TESTS_DEV_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cpu/irq.h"
#include "dev/power.h"
#include "host/clock.h"
#include "mem/portbus.h"

#define FUZZ_STEPS 100000

struct pin {
    int level;
    unsigned rises;
};

struct rig {
    struct port_bus *bus;
    struct clock *clock;
    struct pin pin[4];
    unsigned power_offs, resets, debug_exits, a20_calls;
    u32 debug_value;
    bool a20;
    struct power power;
    u64 seed;
};

static inline void rig_pin(void *ctx, unsigned n, int level)
{
    struct rig *r = ctx;
    if (level && !r->pin[n].level)
        r->pin[n].rises++;
    r->pin[n].level = level;
}

static inline struct irq_line rig_line(struct rig *r, unsigned n)
{
    return (struct irq_line){rig_pin, r, n};
}

static inline void rig_power_off(void *ctx)
{
    ((struct rig *)ctx)->power_offs++;
}

static inline void rig_reset(void *ctx)
{
    ((struct rig *)ctx)->resets++;
}

static inline void rig_debug_exit(void *ctx, u32 value)
{
    struct rig *r = ctx;
    r->debug_exits++;
    r->debug_value = value;
}

static inline void rig_set_a20(void *ctx, bool open)
{
    struct rig *r = ctx;
    r->a20_calls++;
    r->a20 = open;
}

static inline bool rig_get_a20(void *ctx)
{
    return ((struct rig *)ctx)->a20;
}

static inline void rig_init(struct rig *r)
{
    static const struct power_ops ops = {
        .power_off = rig_power_off,
        .reset = rig_reset,
        .debug_exit = rig_debug_exit,
        .set_a20 = rig_set_a20,
        .get_a20 = rig_get_a20,
    };
    struct error err;
    memset(r, 0, sizeof(*r));
    assert_int_equal(portbus_create(&r->bus, &err), 0);
    r->clock = clock_create_manual();
    r->power = (struct power){&ops, r};
    r->seed = 1;
}

static inline void rig_done(struct rig *r)
{
    portbus_destroy(r->bus);
    clock_destroy(r->clock);
}

static inline u32 rig_random(struct rig *r)
{
    r->seed = r->seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (u32)(r->seed >> 33);
}

/* What a port shows is what its device says, before and after. */
static inline u32 in8(struct rig *r, unsigned port)
{
    u16 before = port_shown(r->bus)[port];
    u32 value = port_in(r->bus, (u16)port, 1);
    if (before & PORT_SHOWS_BYTE) {
        assert_int_equal(before, PORT_SHOWS_BYTE | value);
        assert_int_equal(port_shown(r->bus)[port], before);
    }
    return value;
}

static inline u32 in16(struct rig *r, unsigned port)
{
    return port_in(r->bus, (u16)port, 2);
}

static inline u32 in32(struct rig *r, unsigned port)
{
    return port_in(r->bus, (u16)port, 4);
}

static inline void out8(struct rig *r, unsigned port, u32 value)
{
    port_out(r->bus, (u16)port, value, 1);
}

static inline void out16(struct rig *r, unsigned port, u32 value)
{
    port_out(r->bus, (u16)port, value, 2);
}

static inline void out32(struct rig *r, unsigned port, u32 value)
{
    port_out(r->bus, (u16)port, value, 4);
}

/* Random accesses of all sizes to [first, first + count), with time passing now and then. What must
 * not happen is a crash, a hang or a sanitizer's report. */
static inline void rig_fuzz(struct rig *r, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < FUZZ_STEPS; i++) {
        u32 dice = rig_random(r);
        unsigned port = first + dice % count;
        unsigned size = 1U << (dice >> 8) % 3;
        if ((dice >> 12) % 16 == 0)
            clock_advance(r->clock, rig_random(r) % (100 * 1000 * 1000));
        else if (dice >> 20 & 1)
            port_out(r->bus, (u16)port, rig_random(r) ^ rig_random(r) << 16, size);
        else
            port_in(r->bus, (u16)port, size);
    }
}

#endif
