/*
 * Where the CPU and the interrupt controllers meet. A device knows only `struct irq_line`, the wire
 * it may pull. The CPU side (engines) knows only `struct irq_ops`, which the local APIC implements.
 * Other threads reach a vCPU by raising a bit of vcpu.events.
 */
#ifndef RINGER_CPU_IRQ_H
#define RINGER_CPU_IRQ_H

#include "cpu/state.h"

/* A wire: set(ctx, n, level) drives input n of a chip high (1) or low (0). Thread-safe. */
struct irq_line {
    void (*set)(void *ctx, unsigned n, int level);
    void *ctx;
    unsigned n;
};

static inline void irq_set(const struct irq_line *line, int level)
{
    if (line->set)
        line->set(line->ctx, line->n, level);
}

/* The local APIC (and behind LINT0 the PIC) as the CPU sees it. Called on the vCPU's own thread;
 * ctx is v->irq_ctx. */
struct irq_ops {
    /* Is there a maskable interrupt that the current TPR lets through? */
    bool (*pending)(struct vcpu *v);
    /* Acknowledges it and returns its vector, or -1 if it has gone away. */
    int (*acknowledge)(struct vcpu *v);
    /* TPR changed through CR8 (value 0..15): stores it and looks for newly deliverable vectors. */
    void (*write_cr8)(struct vcpu *v, u8 cr8);
    /* APIC_BASE, TSC_DEADLINE and the x2APIC range. False: the access is a #GP. */
    bool (*read_msr)(struct vcpu *v, u32 msr, u64 *value);
    bool (*write_msr)(struct vcpu *v, u32 msr, u64 value);
    /* The CPU got INIT or reset: local APIC registers go to their reset values. */
    void (*reset)(struct vcpu *v, bool init);
};

/* For processors without an interrupt controller. */
extern const struct irq_ops irq_none;

/* Raises events for v from any thread, and wakes or kicks it if one of them is new. */
static inline void vcpu_raise(struct vcpu *v, u32 events)
{
    u32 old = atomic_fetch_or(&v->events, events);
    if ((old & events) != events && v->wake)
        v->wake(v);
}

static inline void vcpu_clear(struct vcpu *v, u32 events)
{
    atomic_fetch_and(&v->events, ~events);
}

static inline u32 vcpu_events(struct vcpu *v)
{
    return atomic_load_explicit(&v->events, memory_order_relaxed);
}

#endif
