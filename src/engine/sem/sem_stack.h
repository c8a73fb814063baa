/*
 * Inline stack accesses, for the instructions that make them most often.
 */
#ifndef RINGER_ENGINE_SEM_SEM_STACK_H
#define RINGER_ENGINE_SEM_SEM_STACK_H

#include "engine/sem/sem_common.h"

ALWAYS_INLINE u64 stack_mask(const struct vcpu *v)
{
    if (v->mode == MODE_LONG64)
        return ~0ULL;
    return v->seg[SEG_SS].attr & SEG_DB ? 0xffffffff : 0xffff;
}

/* Bits of rSP outside a 16-bit stack's width stay; a 32-bit one clears the upper half. */
ALWAYS_INLINE void stack_set(struct vcpu *v, u64 mask, u64 sp)
{
    u64 keep = mask == 0xffff ? v->gpr[RSP] & ~mask : 0;
    v->gpr[RSP] = keep | (sp & mask);
}

/* sp is already within the stack's width. */
ALWAYS_INLINE u64 stack_read(struct vcpu *v, u64 sp, unsigned size)
{
    return lin_read(v, seg_lin(v, SEG_SS, sp, size, ACCESS_READ), size);
}

ALWAYS_INLINE void stack_write(struct vcpu *v, u64 sp, u64 value, unsigned size)
{
    lin_write(v, seg_lin(v, SEG_SS, sp, size, ACCESS_WRITE), value, size);
}

ALWAYS_INLINE void stack_push(struct vcpu *v, u64 value, unsigned size)
{
    u64 mask = stack_mask(v), sp = (v->gpr[RSP] - size) & mask;
    stack_write(v, sp, value, size);
    stack_set(v, mask, sp);
}

#endif
