/*
 * What far JMP, CALL and RET, IRET and task switches have in common: checking a new CS and SS, and
 * going to an outer privilege level (SDM vol. 2, RET and IRET).
 */
#ifndef RINGER_ENGINE_SEM_SEM_FAR_H
#define RINGER_ENGINE_SEM_SEM_FAR_H

#include "cpu/state.h"

/* A far return's or IRET's frame, as popped. */
struct far_frame {
    u64 rip, rsp;
    u16 cs, ss;
};

/* #GP(0) unless rip lies in cs (its limit; canonical for a 64-bit segment). */
void far_check_rip(struct vcpu *v, const struct segment *cs, u64 rip);

/* A far transfer in real or virtual-8086 mode. */
void far_jump_real(struct vcpu *v, u16 sel, u64 rip);

/* The CS to return to, at the privilege of its RPL: #GP, #NP. */
struct segment far_return_cs(struct vcpu *v, u16 sel);

/* Data segments that the new, outer level has no right to become null. */
static inline void far_drop_inner_segments(struct vcpu *v)
{
    static const u8 data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned n = 0; n < ARRAY_SIZE(data); n++) {
        struct segment *s = &v->seg[data[n]];
        bool conforming = (s->attr & (SEG_CODE | SEG_CONFORM)) == (SEG_CODE | SEG_CONFORM);
        if (!(s->attr & SEG_UNUSABLE) && SEG_DPL(s->attr) < v->cpl && !conforming)
            *s = (struct segment){.attr = SEG_UNUSABLE};
    }
}

/* Returns to cs:rip with the stack of the frame: an outer level, or any in 64-bit mode's IRET.
 * Loads SS with its checks, drops data segments that the new level may not have. */
void far_return_with_stack(struct vcpu *v, const struct segment *cs, const struct far_frame *f);

#endif
