/*
 * Far JMP, CALL and RET: direct, through call gates with their stack switch and parameters, and to
 * tasks (SDM vol. 3, 5.8; vol. 2). Everything is checked and pushed before CS, SS and RIP change.
 */
#include "engine/sem/sem_far.h"

#include "engine/sem/descriptor.h"
#include "engine/sem/sem_sys.h"
#include "engine/sem/sem_task.h"

#define CODE       (SEG_S | SEG_CODE)
#define MAX_PARAMS 32

struct far_target {
    u64 off;
    u16 sel;
    bool call;
    unsigned size; /* operand size, resp. the gate's */
};

void far_check_rip(struct vcpu *v, const struct segment *cs, u64 rip)
{
    bool long64 = v->long_mode && cs->attr & SEG_L;
    if (long64 ? !canonical(rip) : rip > cs->limit)
        fault_gp(v, 0);
}

/* In long mode L and D are not both set. */
static bool code_mode_ok(const struct vcpu *v, u32 attr)
{
    return !v->long_mode || (attr & (SEG_L | SEG_DB)) != (SEG_L | SEG_DB);
}

/* --- real and virtual-8086 mode --- */

void far_jump_real(struct vcpu *v, u16 sel, u64 rip)
{
    if (rip > v->seg[SEG_CS].limit)
        fault_gp(v, 0);
    sem_load_segment_real(v, SEG_CS, sel);
    v->rip = rip;
}

/* Pushes CS and RIP on s. */
static void push_return(struct vcpu *v, struct stack *s, unsigned size)
{
    stack_push(v, s, v->seg[SEG_CS].sel, size);
    stack_push(v, s, v->rip, size);
}

static void transfer_real(struct vcpu *v, const struct far_target *t)
{
    struct stack s;
    stack_current(v, &s);
    if (t->off > v->seg[SEG_CS].limit)
        fault_gp(v, 0);
    if (t->call)
        push_return(v, &s, t->size);
    stack_commit(v, &s);
    far_jump_real(v, t->sel, t->off);
}

/* --- code segments --- */

/* JMP or CALL to a code segment: no change of privilege. */
static void transfer_direct(struct vcpu *v, const struct far_target *t, struct descriptor *d)
{
    u32 attr = desc_attr(d);
    unsigned dpl = SEG_DPL(attr);
    bool allowed = attr & SEG_CONFORM ? dpl <= v->cpl : dpl == v->cpl && SEL_RPL(t->sel) <= v->cpl;
    if (!(attr & SEG_CODE) || !allowed || !code_mode_ok(v, attr))
        fault_gp(v, SEL_ERROR(t->sel));
    if (!(attr & SEG_P))
        fault_raise_error(v, VEC_NP, SEL_ERROR(t->sel));
    desc_set_accessed(v, d);
    struct segment cs = desc_to_segment(d, (u16)((t->sel & ~3) | v->cpl));
    struct stack s;
    stack_current(v, &s);
    if (t->call)
        push_return(v, &s, t->size);
    far_check_rip(v, &cs, t->off);
    stack_commit(v, &s);
    v->seg[SEG_CS] = cs;
    v->rip = t->off;
    cpu_update_mode(v);
}

/* --- call gates --- */

/* The code segment that a gate names: #GP, #NP with its selector. */
static void read_gate_target(struct vcpu *v, u16 sel, struct descriptor *d)
{
    if (SEL_IS_NULL(sel))
        fault_gp(v, 0);
    desc_read(v, sel, d);
    u32 attr = desc_attr(d);
    bool wrong_mode = v->long_mode && (attr & (SEG_L | SEG_DB)) != SEG_L;
    if ((attr & CODE) != CODE || SEG_DPL(attr) > v->cpl || wrong_mode)
        fault_gp(v, SEL_ERROR(sel));
}

/* Pushes the caller's SS and SP, and copies its n parameters, to the inner stack. */
static void push_caller_stack(struct vcpu *v, struct stack *s, unsigned size, unsigned n)
{
    u64 param[MAX_PARAMS];
    assert(n <= MAX_PARAMS);
    for (unsigned k = 0; k < n; k++)
        param[k] = stack_peek(v, k * size, size);
    stack_push(v, s, v->seg[SEG_SS].sel, size);
    stack_push(v, s, v->gpr[RSP], size);
    while (n > 0)
        stack_push(v, s, param[--n], size);
}

static void gate_stack(struct vcpu *v, unsigned cpl, unsigned size, unsigned nparams,
                       struct stack *s)
{
    if (cpl == v->cpl) {
        stack_current(v, s);
        if (v->long_mode) {
            s->sp = v->gpr[RSP];
            s->mask = ~0ULL;
        }
        return;
    }
    if (v->long_mode) {
        stack_from_tss64(v, cpl, 0, s);
        nparams = 0;
    } else {
        stack_from_tss(v, cpl, s);
        stack_check_room(v, s, (nparams + 4) * size);
    }
    push_caller_stack(v, s, size, nparams);
}

static void transfer_gate(struct vcpu *v, const struct far_target *t, const struct descriptor *gate)
{
    u16 sel = gate_sel(gate);
    struct descriptor d;
    read_gate_target(v, sel, &d);
    u32 attr = desc_attr(&d);
    bool conforming = attr & SEG_CONFORM;
    unsigned size = v->long_mode ? 8 : desc_type(gate) == SYS_CALL32 ? 4 : 2;
    unsigned cpl = t->call && !conforming ? SEG_DPL(attr) : v->cpl;
    if (!t->call && !conforming && SEG_DPL(attr) != v->cpl)
        fault_gp(v, SEL_ERROR(sel));
    if (!(attr & SEG_P))
        fault_raise_error(v, VEC_NP, SEL_ERROR(sel));
    u64 rip = gate_offset(gate) & size_mask(size);
    desc_set_accessed(v, &d);
    struct segment cs = desc_to_segment(&d, (u16)((sel & ~3) | cpl));
    struct stack s;
    stack_current(v, &s);
    if (t->call) {
        gate_stack(v, cpl, size, gate_params(gate), &s);
        push_return(v, &s, size);
    }
    far_check_rip(v, &cs, rip);
    stack_commit(v, &s);
    v->seg[SEG_CS] = cs;
    v->rip = rip;
    cpu_update_mode(v);
}

/* --- system descriptors --- */

static void transfer_task(struct vcpu *v, const struct far_target *t, u16 tss)
{
    sem_task_switch(v, tss, t->call ? TASK_CALL : TASK_JMP, false, 0, v->rip);
}

/* Types that a far transfer may name; long mode has no tasks and no 16-bit gates. */
#define TYPES_LONG BIT(SYS_CALL32)
#define TYPES      (TYPES_LONG | BIT(SYS_CALL16) | BIT(SYS_TASK_GATE) | BIT(SYS_TSS16) | BIT(SYS_TSS32))

static void transfer_system(struct vcpu *v, const struct far_target *t, struct descriptor *d)
{
    u32 error = SEL_ERROR(t->sel), types = (u32)(v->long_mode ? TYPES_LONG : TYPES);
    unsigned type = desc_type(d), dpl = desc_dpl(d);
    if (!(types & BIT(type)) || dpl < v->cpl || dpl < SEL_RPL(t->sel))
        fault_gp(v, error);
    if (v->long_mode)
        desc_read_system(v, t->sel, d, VEC_GP);
    if (!desc_present(d))
        fault_raise_error(v, VEC_NP, error);
    switch (type) {
    case SYS_CALL16:
    case SYS_CALL32:
        transfer_gate(v, t, d);
        break;
    case SYS_TASK_GATE:
        transfer_task(v, t, gate_sel(d));
        break;
    default:
        transfer_task(v, t, t->sel);
        break;
    }
}

static void transfer(struct vcpu *v, const struct insn *i, bool call)
{
    struct far_target t = {.call = call, .size = i->opsize};
    if (i->opd[0].kind == OPD_MEM) {
        u64 lin = mem_lin(v, i, t.size + 2, ACCESS_READ);
        t.off = lin_read(v, lin, t.size);
        t.sel = (u16)lin_read(v, lin_plus(v, lin, t.size), 2);
    } else {
        t.off = i->imm & size_mask(t.size);
        t.sel = i->imm2;
    }
    if (!cpu_protected(v)) {
        transfer_real(v, &t);
        return;
    }
    if (SEL_IS_NULL(t.sel))
        fault_gp(v, 0);
    struct descriptor d;
    desc_read(v, t.sel, &d);
    if (desc_is_system(&d))
        transfer_system(v, &t, &d);
    else
        transfer_direct(v, &t, &d);
}

static void jmp_far(struct vcpu *v, const struct insn *i)
{
    transfer(v, i, false);
}
SEM_SAME(jmp_far, jmp_far);

static void call_far(struct vcpu *v, const struct insn *i)
{
    transfer(v, i, true);
}
SEM_SAME(call_far, call_far);

/* --- returns --- */

struct segment far_return_cs(struct vcpu *v, u16 sel)
{
    if (SEL_IS_NULL(sel))
        fault_gp(v, 0);
    struct descriptor d;
    desc_read(v, sel, &d);
    u32 attr = desc_attr(&d);
    unsigned dpl = SEG_DPL(attr), rpl = SEL_RPL(sel);
    bool allowed = attr & SEG_CONFORM ? dpl <= rpl : dpl == rpl;
    if ((attr & CODE) != CODE || rpl < v->cpl || !allowed || !code_mode_ok(v, attr))
        fault_gp(v, SEL_ERROR(sel));
    if (!(attr & SEG_P))
        fault_raise_error(v, VEC_NP, SEL_ERROR(sel));
    desc_set_accessed(v, &d);
    return desc_to_segment(&d, sel);
}

/* SS for a return to cs. Null is right for 64-bit code below privilege 3. */
static struct segment return_ss(struct vcpu *v, u16 sel, const struct segment *cs)
{
    unsigned cpl = SEL_RPL(cs->sel);
    if (SEL_IS_NULL(sel)) {
        bool long64 = v->long_mode && cs->attr & SEG_L;
        if (!long64 || cpl == 3 || SEL_RPL(sel) != cpl)
            fault_gp(v, 0);
        return (struct segment){.sel = sel, .attr = SEG_UNUSABLE | cpl << 5};
    }
    struct descriptor d;
    desc_read(v, sel, &d);
    u32 attr = desc_attr(&d);
    bool writable = (attr & (SEG_S | SEG_CODE | SEG_WRITABLE)) == (SEG_S | SEG_WRITABLE);
    if (SEL_RPL(sel) != cpl || !writable || SEG_DPL(attr) != cpl)
        fault_gp(v, SEL_ERROR(sel));
    if (!(attr & SEG_P))
        fault_raise_error(v, VEC_SS, SEL_ERROR(sel));
    desc_set_accessed(v, &d);
    return desc_to_segment(&d, sel);
}

void far_return_with_stack(struct vcpu *v, const struct segment *cs, const struct far_frame *f)
{
    struct segment ss = return_ss(v, f->ss, cs);
    far_check_rip(v, cs, f->rip);
    bool outer = SEL_RPL(cs->sel) > v->cpl;
    v->seg[SEG_CS] = *cs;
    v->seg[SEG_SS] = ss;
    v->cpl = SEL_RPL(cs->sel);
    v->rip = f->rip;
    if (outer)
        far_drop_inner_segments(v);
    cpu_update_mode(v);
    set_stack_pointer(v, sem_stack_mask(v), f->rsp);
}

static void ret_far(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->opsize, release = i->nopd ? (u16)i->imm : 0;
    struct far_frame f = {.rip = stack_peek(v, 0, size), .cs = (u16)stack_peek(v, size, size)};
    if (!cpu_protected(v)) {
        far_jump_real(v, f.cs, f.rip);
        stack_drop(v, 2 * size + release);
        return;
    }
    struct segment cs = far_return_cs(v, f.cs);
    if (SEL_RPL(f.cs) == v->cpl) {
        far_check_rip(v, &cs, f.rip);
        stack_drop(v, 2 * size + release);
        v->seg[SEG_CS] = cs;
        v->rip = f.rip;
        cpu_update_mode(v);
        return;
    }
    f.rsp = stack_peek(v, 2 * size + release, size) + release;
    f.ss = (u16)stack_peek(v, 3 * size + release, size);
    far_return_with_stack(v, &cs, &f);
}
SEM_SAME(ret_far, ret_far);
