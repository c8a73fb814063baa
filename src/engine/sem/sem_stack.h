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

/* The usual stack, flat and in the TLB, inline; all others by the functions of sem_stack.c. */
void sem_push_slow(struct vcpu *v, u64 value, unsigned size);
u64 sem_top_slow(struct vcpu *v, unsigned size);

ALWAYS_INLINE void stack_push(struct vcpu *v, u64 value, unsigned size)
{
    u64 lin = (v->gpr[RSP] - size) & v->flat_stack;
    const struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, lin);
    if (unlikely(!v->flat_stack || !tlb_hit(e->write_any, lin, size))) {
        sem_push_slow(v, value, size);
        return;
    }
    void *p = tlb_hva(e, lin);
    ram_store(p, value, size);
    v->gpr[RSP] = lin;
    ram_written(v, p, size);
}

/* The value at the top; rSP stays. */
ALWAYS_INLINE u64 stack_top(struct vcpu *v, unsigned size)
{
    u64 lin = v->gpr[RSP] & v->flat_stack;
    const struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, lin);
    if (likely(v->flat_stack && tlb_hit(e->read, lin, size)))
        return ram_load(tlb_hva(e, lin), size);
    return sem_top_slow(v, size);
}

#endif
