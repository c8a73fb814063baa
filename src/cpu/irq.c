/*
 * A processor without an interrupt controller, for tiny guests that need none: nothing is ever
 * pending, and the APIC's MSRs do not exist.
 */
#include "cpu/irq.h"

static bool never_pending(struct vcpu *v)
{
    (void)v;
    return false;
}

static int nothing_to_acknowledge(struct vcpu *v)
{
    (void)v;
    return -1;
}

static void ignore_cr8(struct vcpu *v, u8 cr8)
{
    (void)v;
    (void)cr8;
}

static bool no_read_msr(struct vcpu *v, u32 msr, u64 *value)
{
    (void)v;
    (void)msr;
    (void)value;
    return false;
}

static bool no_write_msr(struct vcpu *v, u32 msr, u64 value)
{
    (void)v;
    (void)msr;
    (void)value;
    return false;
}

static void nothing_to_reset(struct vcpu *v, bool init)
{
    (void)v;
    (void)init;
}

const struct irq_ops irq_none = {
    .pending = never_pending,
    .acknowledge = nothing_to_acknowledge,
    .write_cr8 = ignore_cr8,
    .read_msr = no_read_msr,
    .write_msr = no_write_msr,
    .reset = nothing_to_reset,
};
