/*
 * Descriptor tables and the TSS as system instructions, far transfers and event delivery use them:
 * reading an entry with the limit checks, taking it apart, marking it accessed or busy, and finding
 * and filling the stack of another privilege level before anything of it is committed.
 */
#ifndef RINGER_ENGINE_SEM_DESCRIPTOR_H
#define RINGER_ENGINE_SEM_DESCRIPTOR_H

#include "cpu/state.h"

#define SEL_RPL(sel)   ((sel)&3)
#define SEL_TI         4
#define SEL_IS_NULL(s) (((s)&0xfffc) == 0)
#define SEL_ERROR(s)   ((s)&0xfffcu) /* the error code that names a selector */

/* One entry of the GDT, LDT or IDT. hi is the second half of a 16-byte entry, else 0. */
struct descriptor {
    u64 lo, hi;
    u64 lin; /* where it stands */
};

/* Reads the 8-byte entry that sel names; beyond the limit or, for the LDT, no LDT:
 * `vector` with the selector as error code. The null selector is entry 0 like any other. */
void desc_read_or(struct vcpu *v, u16 sel, struct descriptor *d, enum vector vector);
/* The same with #GP. */
void desc_read(struct vcpu *v, u16 sel, struct descriptor *d);
/* The same for a system descriptor (TSS, LDT, call gate): 16 bytes in long mode, where the type
 * bits of the second half must be 0 (#GP(sel), whatever the vector). */
void desc_read_system(struct vcpu *v, u16 sel, struct descriptor *d, enum vector vector);
/* Without a fault for a selector outside the table (LAR, LSL, VERR, VERW): false then. Page faults
 * are raised. */
bool desc_try_read(struct vcpu *v, u16 sel, struct descriptor *d);
/* Reads the second half of d; false: outside the table. */
bool desc_try_read_high(struct vcpu *v, u16 sel, struct descriptor *d);

/* Type, S, DPL, P, AVL, L, D/B and G in the layout of struct segment.attr. */
static inline u32 desc_attr(const struct descriptor *d)
{
    return (d->lo >> 40) & 0xf0ff;
}

static inline unsigned desc_type(const struct descriptor *d)
{
    return (d->lo >> 40) & 0xf;
}

static inline bool desc_is_system(const struct descriptor *d)
{
    return !(d->lo & BIT(44));
}

static inline unsigned desc_dpl(const struct descriptor *d)
{
    return (d->lo >> 45) & 3;
}

static inline bool desc_present(const struct descriptor *d)
{
    return (d->lo & BIT(47)) != 0;
}

/* Limit in bytes, granularity applied. */
static inline u32 desc_limit(const struct descriptor *d)
{
    u32 limit = (u32)(d->lo & 0xffff) | (u32)(d->lo >> 32 & 0xf0000);
    return d->lo & BIT(55) ? limit << 12 | 0xfff : limit;
}

static inline u64 desc_base(const struct descriptor *d)
{
    return (d->lo >> 16 & 0xffffff) | (d->lo >> 32 & 0xff000000) | d->hi << 32;
}

/* Call, interrupt, trap and task gates. */
static inline u16 gate_sel(const struct descriptor *d)
{
    return (u16)(d->lo >> 16);
}

/* Offset: 16 bits in 16-bit gates are up to the caller; bits 63:32 are 0 unless 16 bytes were read.
 */
static inline u64 gate_offset(const struct descriptor *d)
{
    return (d->lo & 0xffff) | (d->lo >> 32 & 0xffff0000) | d->hi << 32;
}

static inline unsigned gate_ist(const struct descriptor *d)
{
    return (d->lo >> 32) & 7;
}

static inline unsigned gate_params(const struct descriptor *d)
{
    return (d->lo >> 32) & 31;
}

/* The hidden part for a segment register that is loaded with sel. */
static inline struct segment desc_to_segment(const struct descriptor *d, u16 sel)
{
    return (struct segment){
        .sel = sel, .attr = desc_attr(d), .limit = desc_limit(d), .base = desc_base(d)};
}

/* Sets the accessed bit of a code or data descriptor in memory, if clear, and in *d. */
void desc_set_accessed(struct vcpu *v, struct descriptor *d);
/* Sets or clears the busy bit of a TSS descriptor in memory and in *d. */
void desc_set_busy(struct vcpu *v, struct descriptor *d, bool busy);

/* A stack that is not, or not yet, the current one. Pushes go to it with the rights of cpl;
 * the caller commits ss and sp to the vCPU after the last thing that can fault. */
struct stack {
    struct segment ss;
    u64 sp;
    u64 mask;  /* 0xffff, 0xffffffff or all ones: as SS.B or 64-bit mode make SP wrap */
    u32 error; /* error code of the #SS for a push that doesn't fit */
    u8 cpl;
};

/* The current stack. (#SS(0) for faults.) */
void stack_current(const struct vcpu *v, struct stack *s);
/* Outside long mode: SS:(E)SP for cpl 0 to 2 from the current TSS, 16 or 32 bit, with all checks:
 * #TS, #SS (SDM vol. 2, CALL and INT n). Sets the accessed bit of the descriptor. */
void stack_from_tss(struct vcpu *v, unsigned cpl, struct stack *s);
/* Long mode: RSP0 to RSP2, or IST1 to IST7 if ist is not 0; SS is null with RPL = cpl.
 * #TS(TR) if the TSS is too small. Not aligned yet. */
void stack_from_tss64(struct vcpu *v, unsigned cpl, unsigned ist, struct stack *s);
/* Checks sel as the SS of privilege cpl (#TS(sel), #SS(sel) if not present) and loads it into
 * *ss: for TSS stacks, and for task switches. */
void stack_load_ss(struct vcpu *v, u16 sel, unsigned cpl, struct segment *ss);
/* Pushes size (2, 4, 8) bytes. #SS(s->error) or #PF, with s->sp unchanged. */
void stack_push(struct vcpu *v, struct stack *s, u64 value, unsigned size);
/* Raises the #SS that pushing `bytes` bytes altogether would raise. */
void stack_check_room(struct vcpu *v, const struct stack *s, unsigned bytes);
/* Makes it the current stack: SS, SP (only the bits in mask change) and CPL. Call cpu_update_mode()
 * after. */
void stack_commit(struct vcpu *v, const struct stack *s);

#endif
