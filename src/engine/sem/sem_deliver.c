/*
 * From an event to the first instruction of its handler: the real-mode table, interrupt, trap and
 * task gates of protected mode, and long mode's 16-byte gates (SDM vol. 3, ch. 6; vol. 2, INT n).
 * The new CS, stack and flags are built beside the vCPU's and committed after the last push.
 */
#include "engine/sem/sem_deliver.h"

#include "engine/sem/descriptor.h"
#include "engine/sem/sem_task.h"
#include "mem/access.h"

#define IDT_ERROR(vector)  ((u32)(vector) << 3 | 2)
#define TSS32_IO_MAP_BASE  0x66
#define REDIRECTION_BITMAP 32 /* bytes, just below the I/O permission map */
#define FLAGS_CLEARED      (FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM)
#define FLAGS_CLEARED_REAL (FLAG_TF | FLAG_RF | FLAG_AC)

/* --- through a table of far pointers: real mode, and redirected INT n in virtual-8086 mode --- */

static void deliver_8086(struct vcpu *v, const struct delivery *d, u64 table, u64 cleared)
{
    u32 target = (u32)lin_read_system(v, table + 4 * d->vector, 4);
    struct stack s;
    stack_current(v, &s);
    stack_push(v, &s, d->flags & 0xffff, 2);
    stack_push(v, &s, v->seg[SEG_CS].sel, 2);
    stack_push(v, &s, d->rip & 0xffff, 2);
    if ((target & 0xffff) > v->seg[SEG_CS].limit)
        fault_gp(v, 0);
    stack_commit(v, &s);
    v->seg[SEG_CS].sel = (u16)(target >> 16);
    v->seg[SEG_CS].base = (u64)v->seg[SEG_CS].sel << 4;
    v->rip = target & 0xffff;
    v->rflags &= ~cleared;
    cpu_update_mode(v);
}

static void deliver_real(struct vcpu *v, const struct delivery *d)
{
    if (4u * d->vector + 3 > v->idtr.limit)
        fault_gp(v, IDT_ERROR(d->vector));
    deliver_8086(v, d, v->idtr.base, FLAGS_CLEARED_REAL | FLAG_IF);
}

/* Is this INT n to be handled by the virtual-8086 program itself (SDM vol. 3, 20.3.3)? */
static bool redirected(struct vcpu *v, u8 vector)
{
    if (!(v->cr4 & CR4_VME))
        return false;
    if (v->tr.limit < TSS32_IO_MAP_BASE + 1)
        fault_gp(v, 0);
    u32 map = (u32)lin_read_system(v, v->tr.base + TSS32_IO_MAP_BASE, 2);
    u32 off = map - REDIRECTION_BITMAP + vector / 8;
    if (map < REDIRECTION_BITMAP || off > v->tr.limit)
        fault_gp(v, 0);
    return !(lin_read_system(v, v->tr.base + off, 1) & BIT(vector % 8));
}

/* INT n in virtual-8086 mode; true: done. */
static bool deliver_v86_int(struct vcpu *v, const struct delivery *d)
{
    bool iopl3 = (v->rflags & FLAG_IOPL) == FLAG_IOPL;
    if (redirected(v, d->vector)) {
        struct delivery e = *d;
        if (!iopl3) {
            e.flags |= FLAG_IOPL;
            e.flags = v->rflags & FLAG_VIF ? e.flags | FLAG_IF : e.flags & ~FLAG_IF;
        }
        deliver_8086(v, &e, 0, FLAG_TF | FLAG_RF | (iopl3 ? FLAG_IF : FLAG_VIF));
        return true;
    }
    if (!iopl3)
        fault_gp(v, 0);
    return false;
}

/* --- gates --- */

/* Reads and checks the gate; size is that of an entry. */
static void read_gate(struct vcpu *v, const struct delivery *d, unsigned size,
                      struct descriptor *gate)
{
    u32 off = d->vector * size;
    if (off + size - 1 > v->idtr.limit)
        fault_gp(v, IDT_ERROR(d->vector));
    gate->lin = v->idtr.base + off;
    gate->lo = lin_read_system(v, gate->lin, 8);
    gate->hi = size == 16 ? lin_read_system(v, gate->lin + 8, 8) & 0xffffffff : 0;
    u32 types = BIT(SYS_INT32) | BIT(SYS_TRAP32);
    if (size == 8)
        types |= BIT(SYS_INT16) | BIT(SYS_TRAP16) | BIT(SYS_TASK_GATE);
    if (!desc_is_system(gate) || !(types & BIT(desc_type(gate))))
        fault_gp(v, IDT_ERROR(d->vector));
    if (d->software && desc_dpl(gate) < v->cpl)
        fault_gp(v, IDT_ERROR(d->vector));
    if (!desc_present(gate))
        fault_raise_error(v, VEC_NP, IDT_ERROR(d->vector));
}

/* The handler's code segment, with its RPL set to the privilege it will run at. */
static struct segment handler_cs(struct vcpu *v, u16 sel)
{
    if (SEL_IS_NULL(sel))
        fault_gp(v, 0);
    struct descriptor d;
    desc_read(v, sel, &d);
    u32 attr = desc_attr(&d);
    if ((attr & (SEG_S | SEG_CODE)) != (SEG_S | SEG_CODE) || SEG_DPL(attr) > v->cpl)
        fault_gp(v, SEL_ERROR(sel));
    bool wrong_mode = v->long_mode && (attr & (SEG_L | SEG_DB)) != SEG_L;
    bool wrong_v86 = v->mode == MODE_V86 && (attr & SEG_CONFORM || SEG_DPL(attr) != 0);
    if (wrong_mode || wrong_v86)
        fault_gp(v, SEL_ERROR(sel));
    if (!(attr & SEG_P))
        fault_raise_error(v, VEC_NP, SEL_ERROR(sel));
    desc_set_accessed(v, &d);
    unsigned cpl = attr & SEG_CONFORM ? v->cpl : SEG_DPL(attr);
    return desc_to_segment(&d, (u16)((sel & ~3) | cpl));
}

static void push_frame(struct vcpu *v, const struct delivery *d, struct stack *s, unsigned size,
                       bool with_stack)
{
    if (with_stack) {
        stack_push(v, s, v->seg[SEG_SS].sel, size);
        stack_push(v, s, v->gpr[RSP], size);
    }
    stack_push(v, s, d->flags, size);
    stack_push(v, s, v->seg[SEG_CS].sel, size);
    stack_push(v, s, d->rip, size);
    if (d->has_error)
        stack_push(v, s, d->error, size);
}

static void commit(struct vcpu *v, const struct segment *cs, u64 rip, const struct stack *s,
                   bool interrupt_gate)
{
    stack_commit(v, s);
    v->seg[SEG_CS] = *cs;
    v->rip = rip;
    v->rflags &= ~(FLAGS_CLEARED | (interrupt_gate ? FLAG_IF : 0));
    cpu_update_mode(v);
}

static void push_v86_segments(struct vcpu *v, struct stack *s, unsigned size)
{
    static const u8 order[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
    for (unsigned n = 0; n < ARRAY_SIZE(order); n++)
        stack_push(v, s, v->seg[order[n]].sel, size);
}

static void clear_v86_segments(struct vcpu *v)
{
    static const u8 data[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
    for (unsigned n = 0; n < ARRAY_SIZE(data); n++)
        v->seg[data[n]] = (struct segment){.attr = SEG_UNUSABLE};
}

static void deliver_protected(struct vcpu *v, const struct delivery *d)
{
    bool v86 = v->mode == MODE_V86;
    if (v86 && d->int_n && deliver_v86_int(v, d))
        return;
    struct descriptor gate;
    read_gate(v, d, 8, &gate);
    unsigned type = desc_type(&gate);
    if (type == SYS_TASK_GATE) {
        v->rflags = d->flags;
        sem_task_switch(v, gate_sel(&gate), TASK_GATE, d->has_error, d->error, d->rip);
        return;
    }
    unsigned size = type & 8 ? 4 : 2;
    struct segment cs = handler_cs(v, gate_sel(&gate));
    unsigned cpl = SEL_RPL(cs.sel);
    bool inner = cpl < v->cpl;
    struct stack s;
    if (inner)
        stack_from_tss(v, cpl, &s);
    else
        stack_current(v, &s);
    if (v86)
        push_v86_segments(v, &s, size);
    push_frame(v, d, &s, size, inner);
    u64 rip = gate_offset(&gate) & size_mask(size);
    if (rip > cs.limit)
        fault_gp(v, 0);
    if (v86)
        clear_v86_segments(v);
    commit(v, &cs, rip, &s, !(type & 1));
}

static void deliver_long(struct vcpu *v, const struct delivery *d)
{
    struct descriptor gate;
    read_gate(v, d, 16, &gate);
    struct segment cs = handler_cs(v, gate_sel(&gate));
    u64 rip = gate_offset(&gate);
    if (!canonical(rip))
        fault_gp(v, 0);
    unsigned cpl = SEL_RPL(cs.sel), ist = gate_ist(&gate);
    struct stack s;
    stack_current(v, &s);
    s.sp = v->gpr[RSP];
    s.mask = ~0ULL;
    if (ist || cpl < v->cpl)
        stack_from_tss64(v, cpl, ist, &s);
    if (cpl == v->cpl)
        s.ss = v->seg[SEG_SS];
    s.sp &= ~15ULL;
    push_frame(v, d, &s, 8, true);
    commit(v, &cs, rip, &s, !(desc_type(&gate) & 1));
}

void sem_deliver(struct vcpu *v, const struct delivery *d)
{
    if (v->mode == MODE_REAL)
        deliver_real(v, d);
    else if (v->long_mode)
        deliver_long(v, d);
    else
        deliver_protected(v, d);
}
