/*
 * What the fuzzers of devices share: a bus, a clock that stands still, wires whose level is kept,
 * and main(): runs that follow from their seeds, of some thousand operations each, on a new device.
 */
#ifndef RINGER_TESTS_FUZZ_DEVICE_H
#define RINGER_TESTS_FUZZ_DEVICE_H

#include <stdio.h>
#include <stdlib.h>

#include "cpu/irq.h"
#include "dev/power.h"
#include "fuzz.h"
#include "host/clock.h"
#include "mem/portbus.h"

#define OPERATIONS 1000 /* of a run */

#ifdef __SANITIZE_ADDRESS__
void __sanitizer_set_death_callback(void (*callback)(void));
#endif

struct device_rig {
    struct port_bus *bus;
    struct clock *clock;
    struct rng rng;
    int level[2];
    bool a20;
    struct power power;
};

/* For messages; the only state outside of a run. */
static const char *fuzz_name;
static u64 run_seed;

static void say_seed(void)
{
    printf("not ok %s: --seed %llu --runs 1\n", fuzz_name, (unsigned long long)run_seed);
    fflush(stdout);
}

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s\n", what);
    say_seed();
    exit(1);
}

static void rig_set_level(void *ctx, unsigned n, int level)
{
    ((struct device_rig *)ctx)->level[n] = level;
}

static void rig_nothing(void *ctx)
{
    (void)ctx;
}

static void rig_value(void *ctx, u32 value)
{
    (void)ctx;
    (void)value;
}

static void rig_set_a20(void *ctx, bool open)
{
    ((struct device_rig *)ctx)->a20 = open;
}

static bool rig_get_a20(void *ctx)
{
    return ((struct device_rig *)ctx)->a20;
}

static void rig_create(struct device_rig *r, u64 seed)
{
    static const struct power_ops power = {rig_nothing, rig_nothing, rig_value, rig_set_a20,
                                           rig_get_a20};
    struct error err;
    *r = (struct device_rig){.rng = {seed * 0x9fb21c651e98df25}, .power = {&power, r}};
    check(portbus_create(&r->bus, &err) == 0, "no bus");
    r->clock = clock_create_manual();
}

static void rig_destroy(struct device_rig *r)
{
    portbus_destroy(r->bus);
    clock_destroy(r->clock);
}

static inline struct irq_line rig_line(struct device_rig *r, unsigned n)
{
    return (struct irq_line){rig_set_level, r, n};
}

static inline u8 rig_in(struct device_rig *r, unsigned port)
{
    return (u8)port_in(r->bus, (u16)port, 1);
}

static inline void rig_out(struct device_rig *r, unsigned port, unsigned value)
{
    port_out(r->bus, (u16)port, value, 1);
}

/* Any access to a port. */
static inline void rig_access(struct device_rig *r, unsigned port)
{
    unsigned size = one_in(&r->rng, 8) ? 1U << rnd_below(&r->rng, 3) : 1;
    if (one_in(&r->rng, 2))
        port_in(r->bus, (u16)port, size);
    else
        port_out(r->bus, (u16)port, (u32)rnd(&r->rng), size);
}

/* NAME [--seed N] [--runs N] */
static int fuzz_main(int argc, char **argv, const char *name, void (*run)(u64 seed))
{
    u64 seed = 1, runs = 100;
    for (int n = 1; n + 1 < argc; n += 2) {
        if (!strcmp(argv[n], "--seed"))
            seed = strtoull(argv[n + 1], NULL, 0);
        else if (!strcmp(argv[n], "--runs"))
            runs = strtoull(argv[n + 1], NULL, 0);
        else
            return fprintf(stderr, "usage: %s [--seed N] [--runs N]\n", name), 2;
    }
    fuzz_name = name;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(say_seed);
#endif
    for (u64 n = 0; n < runs; n++) {
        run_seed = seed + n;
        run(run_seed);
    }
    printf("ok %s: %llu operations from seed %llu\n", name, (unsigned long long)runs * OPERATIONS,
           (unsigned long long)seed);
    return 0;
}

#endif
