/*
 * Small things that the system instructions share: privilege checks, and reading the stack ahead of
 * a change of mode.
 */
#ifndef RINGER_ENGINE_SEM_SEM_SYS_H
#define RINGER_ENGINE_SEM_SEM_SYS_H

#include "cpu/model.h"
#include "engine/sem/sem_common.h"

/* #GP(0) unless CPL is 0. */
static inline void require_cpl0(struct vcpu *v)
{
    if (v->cpl != 0)
        fault_gp(v, 0);
}

/* #UD in real and virtual-8086 mode. */
static inline void require_protected(struct vcpu *v)
{
    if (!cpu_protected(v))
        fault_ud(v);
}

/* #UD outside 64-bit mode. */
static inline void require_long64(struct vcpu *v)
{
    if (v->mode != MODE_LONG64)
        fault_ud(v);
}

static inline unsigned iopl(const struct vcpu *v)
{
    return (v->rflags >> 12) & 3;
}

static inline bool is_intel(const struct vcpu *v)
{
    return v->machine->model->intel;
}

/* The linear address n bytes further on. */
static inline u64 lin_plus(const struct vcpu *v, u64 lin, unsigned n)
{
    return v->mode == MODE_LONG64 ? lin + n : (u32)(lin + n);
}

/* What stands off bytes above the top of the stack, nothing popped. */
static inline u64 stack_peek(struct vcpu *v, unsigned off, unsigned size)
{
    u64 sp = (v->gpr[RSP] + off) & sem_stack_mask(v);
    return lin_read(v, seg_lin(v, SEG_SS, sp, size, ACCESS_READ), size);
}

/* Sets the stack pointer of a stack with this mask: a 16-bit one keeps the bits above. */
static inline void set_stack_pointer(struct vcpu *v, u64 mask, u64 sp)
{
    u64 kept = mask == 0xffff ? v->gpr[RSP] & ~mask : 0;
    v->gpr[RSP] = kept | (sp & mask);
}

/* Pops n bytes unread, on the current stack. */
static inline void stack_drop(struct vcpu *v, unsigned n)
{
    set_stack_pointer(v, sem_stack_mask(v), v->gpr[RSP] + n);
}

#endif
