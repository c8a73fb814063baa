/*
 * Software interrupts and IRET in all its forms: real mode, virtual-8086 mode with and without VME,
 * to the same or an outer level, to virtual-8086 mode, from a nested task, and in 64-bit mode (SDM
 * vol. 2, IRET).
 */
#include "engine/sem/descriptor.h"
#include "engine/sem/sem_far.h"
#include "engine/sem/sem_sys.h"
#include "engine/sem/sem_task.h"

#define FLAGS_ALWAYS (FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT)
#define FLAGS_WIDE   (FLAG_RF | FLAG_AC | FLAG_ID) /* not changed by a 16-bit IRET */

static void int_n(struct vcpu *v, const struct insn *i)
{
    sem_deliver_interrupt(v, (u8)i->imm, INTERRUPT_SOFTWARE);
}
SEM_SAME(int, int_n);

static void int1(struct vcpu *v, const struct insn *i)
{
    (void)i;
    sem_deliver_interrupt(v, VEC_DB, INTERRUPT_ICEBP);
}
SEM_SAME(int1, int1);

static void int3(struct vcpu *v, const struct insn *i)
{
    (void)i;
    sem_deliver_interrupt(v, VEC_BP, INTERRUPT_SOFT_TRAP);
}
SEM_SAME(int3, int3);

static void into(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (v->rflags & FLAG_OF)
        sem_deliver_interrupt(v, VEC_OF, INTERRUPT_SOFT_TRAP);
}
SEM_SAME(into, into);

static void iret_real(struct vcpu *v, unsigned size)
{
    u64 rip = stack_peek(v, 0, size), flags = stack_peek(v, 2 * size, size);
    u16 cs = (u16)stack_peek(v, size, size);
    u64 mask = FLAGS_ALWAYS | FLAG_IF | FLAG_IOPL | (size == 4 ? FLAGS_WIDE : 0);
    far_jump_real(v, cs, rip);
    stack_drop(v, 3 * size);
    sem_write_flags(v, flags, mask);
}

/* IOPL below 3, VME on: the program's IF is VIF. */
static void iret_v86_vme(struct vcpu *v)
{
    u64 rip = stack_peek(v, 0, 2), flags = stack_peek(v, 4, 2);
    u16 cs = (u16)stack_peek(v, 2, 2);
    if ((v->rflags & FLAG_VIP && flags & FLAG_IF) || flags & FLAG_TF)
        fault_gp(v, 0);
    far_jump_real(v, cs, rip);
    stack_drop(v, 6);
    if (flags & FLAG_IF)
        flags |= FLAG_VIF;
    sem_write_flags(v, flags, FLAGS_ALWAYS | FLAG_VIF);
}

static void iret_v86(struct vcpu *v, unsigned size)
{
    if (iopl(v) < 3) {
        if (!(v->cr4 & CR4_VME) || size != 2)
            fault_gp(v, 0);
        iret_v86_vme(v);
        return;
    }
    u64 rip = stack_peek(v, 0, size), flags = stack_peek(v, 2 * size, size);
    u16 cs = (u16)stack_peek(v, size, size);
    far_jump_real(v, cs, rip);
    stack_drop(v, 3 * size);
    sem_write_flags(v, flags, FLAGS_ALWAYS | FLAG_IF | (size == 4 ? FLAGS_WIDE : 0));
}

static void iret_to_v86(struct vcpu *v, u64 rip, u16 cs, u64 flags)
{
    /* The frame goes on: ESP SS ES DS FS GS. */
    static const u8 order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    u16 sel[ARRAY_SIZE(order)];
    if (rip > 0xffff)
        fault_gp(v, 0);
    u64 rsp = stack_peek(v, 12, 4);
    for (unsigned n = 0; n < ARRAY_SIZE(order); n++)
        sel[n] = (u16)stack_peek(v, 16 + 4 * n, 4);
    v->cpl = 3;
    sem_write_flags(
        v, flags, FLAGS_ALWAYS | FLAGS_WIDE | FLAG_IF | FLAG_IOPL | FLAG_VM | FLAG_VIF | FLAG_VIP);
    sem_load_segment_real(v, SEG_CS, cs);
    for (unsigned n = 0; n < ARRAY_SIZE(order); n++)
        sem_load_segment_real(v, (enum seg_reg)order[n], sel[n]);
    v->gpr[RSP] = rsp;
    v->rip = rip;
}

static u64 protected_mask(const struct vcpu *v, unsigned size)
{
    u64 mask = FLAGS_ALWAYS | (size > 2 ? FLAGS_WIDE : 0);
    if (v->cpl <= iopl(v))
        mask |= FLAG_IF;
    if (v->cpl == 0)
        mask |= FLAG_IOPL | (size > 2 ? FLAG_VIF | FLAG_VIP : 0);
    return mask;
}

static void iret_protected(struct vcpu *v, unsigned size)
{
    struct far_frame f = {.rip = stack_peek(v, 0, size), .cs = (u16)stack_peek(v, size, size)};
    u64 flags = stack_peek(v, 2 * size, size), mask = protected_mask(v, size);
    if (flags & FLAG_VM && v->cpl == 0 && size == 4 && !v->long_mode) {
        iret_to_v86(v, f.rip, f.cs, flags);
        return;
    }
    struct segment cs = far_return_cs(v, f.cs);
    if (v->mode == MODE_LONG64 || SEL_RPL(f.cs) > v->cpl) {
        f.rsp = stack_peek(v, 3 * size, size);
        f.ss = (u16)stack_peek(v, 4 * size, size);
        far_return_with_stack(v, &cs, &f);
    } else {
        far_check_rip(v, &cs, f.rip);
        stack_drop(v, 3 * size);
        v->seg[SEG_CS] = cs;
        v->rip = f.rip;
        cpu_update_mode(v);
    }
    sem_write_flags(v, flags, mask);
}

/* Back to the task that called this one. */
static void iret_task(struct vcpu *v)
{
    if (v->long_mode)
        fault_gp(v, 0);
    u16 link = (u16)lin_read_system(v, v->tr.base, 2);
    sem_task_switch(v, link, TASK_IRET, false, 0, v->rip);
}

static void iret(struct vcpu *v, const struct insn *i)
{
    v->nmi_blocked = false;
    if (v->mode == MODE_REAL)
        iret_real(v, i->opsize);
    else if (v->mode == MODE_V86)
        iret_v86(v, i->opsize);
    else if (v->rflags & FLAG_NT)
        iret_task(v);
    else
        iret_protected(v, i->opsize);
}
SEM_SAME(iret, iret);
