/*
 * Near branches. Direct ones leave by exits that are linked to their target's fragment. Indirect
 * ones and returns look their target up in a table of the vCPU; what is not there is executed by C,
 * which also raises the fault of a target that can't be. Nothing of the instruction is visible
 * until the lookup has hit.
 */
#include "engine/bt/trans.h"

u64 branch_target(const struct trans *t, const struct insn *i)
{
    return (behind(t, i) + i->imm) & size_mask(i->opsize);
}

static bool target_valid(const struct trans *t, const struct insn *i)
{
    u64 target = branch_target(t, i);
    return t->wide ? canonical(target) : target <= t->key.cs_limit;
}

/* The width of RIP that the mode has by itself. */
static bool natural_size(const struct trans *t, const struct insn *i)
{
    return !t->wide || i->opsize == 8;
}

bool can_branch(const struct trans *t, const struct insn *i)
{
    if (i->cls != CLASS_BRANCH && i->cls != CLASS_CALL && i->cls != CLASS_INDIRECT)
        return false;
    if (!natural_size(t, i))
        return false;
    switch (i->op) {
    case OP_CALL:
        return fits_stack(t, i) && target_valid(t, i);
    case OP_RET:
        return fits_stack(t, i);
    case OP_CALL_IND:
        return fits_stack(t, i) && (i->opd[0].kind == OPD_GPR || mem_quick(t, i));
    case OP_JMP_IND:
        return i->opd[0].kind == OPD_GPR || mem_quick(t, i);
    default:
        return target_valid(t, i);
    }
}

/* --- indirect --- */

/* The target is in a register of the guest or in T1, its place in the jump table in `index`: T0, or
 * T1. */
static struct hmem jump_at(const struct trans *t, unsigned index, size_t field)
{
    struct hmem m = hmem_vcpu(BT_AT(jump) + field +
                              jump_table(t->wide, t->key.ctx, t->f->key) * JUMP_ENTRIES *
                                  sizeof(struct jump_entry));
    m.index = (u8)index;
    m.scale = 3;
    return m;
}

_Static_assert(JUMP_SCALE == 8, "jump_at() scales by 8");

/* The place in the jump table of the target, which is in a host register, goes to `index`, or C
 * executes the instruction. If the vCPU is kicked it does so, too. */
static void emit_lookup(struct trans *t, unsigned target, unsigned index)
{
    struct emit *e = &t->e;
    struct hmem mask = hmem_vcpu(BT_AT(jump_mask));
    struct cold *c = cold_new(t, site_new(t, SITE_END, NULL));
    emit_load(e, 4, index, &mask);
    emit_alu_reg(e, ALU_AND, 4, index, target);
    struct hmem tag = jump_at(t, index, offsetof(struct jump_entry, tag));
    if (!t->wide) {
        emit_mov_imm(e, H_T2, jump_tag(false, t->f->key, 0));
        emit_alu_reg(e, ALU_OR, 8, H_T2, target);
    }
    emit_alu_load(e, ALU_CMP, 8, t->wide ? target : H_T2, &tag);
    c->from[0] = emit_jcc(e, 5, NULL);
}

/* Can the target stay in the register where the guest has it? */
static bool target_stays(const struct trans *t, const struct insn *i)
{
    const struct operand *o = &i->opd[0];
    return t->wide && o->kind == OPD_GPR && host_reg(o->reg) != H_NONE;
}

/* Returns the host register that has the target of an indirect jump or call: T1, or where the
 * guest has it. */
static unsigned load_target(struct trans *t, const struct insn *i)
{
    const struct operand *o = &i->opd[0];
    struct hmem m;
    if (target_stays(t, i))
        return host_reg(o->reg);
    if (o->kind == OPD_MEM) {
        mem_access(t, i->opsize, ACCESS_READ, &m);
    } else if (host_reg(o->reg) != H_NONE) {
        if (i->opsize == 2)
            emit_movzx(&t->e, 2, H_T1, host_reg(o->reg));
        else
            emit_mov_reg(&t->e, 4, H_T1, host_reg(o->reg));
        return H_T1;
    } else {
        m = hmem_vcpu(VCPU_AT(gpr) + 8 * o->reg);
    }
    emit_load_zx(&t->e, i->opsize, H_T1, &m);
    return H_T1;
}

static void lower_jmp_ind(struct trans *t, const struct insn *i)
{
    struct hmem target = jump_at(t, H_T0, offsetof(struct jump_entry, target));
    flags_image(t);
    emit_lookup(t, load_target(t, i), H_T0);
    emit_jmp_mem(&t->e, &target);
    t->ended = true;
}

static void stack_access(struct trans *t, const struct insn *i, struct hmem *m)
{
    mem_access_at(t, RSP, -(i64)i->opsize, SEG_SS, i->opsize, ACCESS_WRITE, m);
}

static u64 return_rip(const struct trans *t, const struct insn *i)
{
    return next_rip(t) & size_mask(i->opsize);
}

/* Is it, as an immediate operand, what is to be stored? */
static bool short_return(const struct trans *t, const struct insn *i)
{
    u64 next = return_rip(t, i);
    return i->opsize < 8 || next == (u64)(i64)(i32)next;
}

/* Writes the return address, and RSP changes. */
static void push_return(struct trans *t, const struct insn *i, const struct hmem *m)
{
    emit_store_rip(t, i->opsize, m, return_rip(t, i));
    move_rsp(t, -(i64)i->opsize);
}

/* Looks the target up and finds the operand for the return address. T1 has the jump's target then.
 * The check of the stack comes before the lookup, so that the way from the target to the jump is
 * short: wrong guesses of the host are found out sooner. */
static void look_up_call(struct trans *t, const struct insn *i, struct hmem *m)
{
    struct hmem operand = hmem_vcpu(BT_AT(operand));
    struct hmem target = jump_at(t, H_T0, offsetof(struct jump_entry, target));
    bool member = has_slot(t, &t->plan[t->cur][1]);
    if (!member) {
        stack_access(t, i, m);
        emit_store(&t->e, 8, &operand, H_T0);
    }
    emit_lookup(t, load_target(t, i), H_T0);
    emit_load(&t->e, 8, H_T1, &target);
    if (member) {
        stack_access(t, i, m);
    } else {
        emit_load(&t->e, 8, H_T0, &operand);
        if (!t->wide && !m->guest)
            mem_lin_at(t, RSP, -(i64)i->opsize, SEG_SS, H_T2);
    }
}

/* The same for a target that stays in its register, so that T1 is free for the place in the table.
 */
static void look_up_call_reg(struct trans *t, const struct insn *i, struct hmem *m)
{
    struct hmem target = jump_at(t, H_T1, offsetof(struct jump_entry, target));
    stack_access(t, i, m);
    assert(m->base != H_T1 && m->index != H_T1);
    emit_lookup(t, load_target(t, i), H_T1);
    emit_load(&t->e, 8, H_T1, &target);
}

static void lower_call_ind(struct trans *t, const struct insn *i)
{
    struct hmem operand = hmem_vcpu(BT_AT(operand)), m;
    flags_image(t);
    if (target_stays(t, i))
        look_up_call_reg(t, i, &m);
    else
        look_up_call(t, i, &m);
    bool kept = short_return(t, i) && !t->written;
    if (!kept)
        emit_store(&t->e, 8, &operand, H_T1);
    push_return(t, i, &m);
    emit_insn_done(t);
    if (kept)
        emit_jmp_reg(&t->e, H_T1);
    else
        emit_jmp_mem(&t->e, &operand);
    t->ended = true;
}

/* A return in a trace that came along the call: to elsewhere only if the guest has changed what the
 * call pushed. */
static void lower_ret_within(struct trans *t, const struct insn *i)
{
    u64 expected = off_rip(t, t->off[t->cur + 1]) & size_mask(i->opsize);
    struct hmem m;
    mem_access_at(t, RSP, 0, SEG_SS, i->opsize, ACCESS_READ, &m);
    flags_clobber(t);
    u32 site = site_new(t, SITE_RETURN, NULL);
    emit_cmp_rip(t, i->opsize, &m, expected);
    u8 *from = emit_jcc(&t->e, 5, NULL);
    cold_new(t, site)->from[0] = from;
    move_rsp(t, (i64)i->opsize + (i64)(i->imm & 0xffff));
}

static void lower_ret(struct trans *t, const struct insn *i)
{
    struct hmem m, target = jump_at(t, H_T0, offsetof(struct jump_entry, target));
    flags_image(t);
    mem_access_at(t, RSP, 0, SEG_SS, i->opsize, ACCESS_READ, &m);
    emit_load_zx(&t->e, i->opsize, H_T1, &m);
    emit_lookup(t, H_T1, H_T0);
    move_rsp(t, (i64)i->opsize + (i64)(i->imm & 0xffff));
    emit_jmp_mem(&t->e, &target);
    t->ended = true;
}

/* --- direct --- */

static void lower_call(struct trans *t, const struct insn *i)
{
    struct hmem m;
    stack_access(t, i, &m);
    push_return(t, i, &m);
    emit_insn_done(t);
    if (!goes_on(t))
        emit_exit(t, branch_target(t, i));
}

/* rCX is to be tested by JRCXZ, which knows no 16-bit form: CX alone, T1 keeps all of it. */
static void count_down(struct trans *t, const struct insn *i, bool loop)
{
    struct emit *e = &t->e;
    struct hmem less = hmem_base(RCX, -1);
    if (i->addrsize > 2) {
        if (loop)
            emit_lea(e, i->addrsize, RCX, &less);
        return;
    }
    if (loop)
        emit_lea(e, 2, RCX, &less);
    emit_mov_reg(e, 8, H_T1, RCX);
    emit_movzx(e, 2, RCX, RCX);
}

static void counted(struct trans *t, const struct insn *i)
{
    if (i->addrsize == 2)
        emit_mov_reg(&t->e, 8, RCX, H_T1);
}

/* LOOP, LOOPE, LOOPNE and JCXZ leave the flags alone, and so does what they become. */
static void lower_count(struct trans *t, const struct insn *i)
{
    struct emit *e = &t->e;
    bool by_flag = i->op == OP_LOOPE || i->op == OP_LOOPNE, loop = by_flag || i->op == OP_LOOP;
    u64 target = branch_target(t, i), next = next_rip(t);
    if (t->form == FORM_RECIPE || by_flag)
        flags_to_host(t);
    count_down(t, i, loop);
    u8 form = t->form;
    bool image_valid = t->image_valid;
    u8 *zero = emit_jrcxz(e, i->addrsize == 8 ? 8 : 4), *more = emit_jmp(e, NULL);
    emit_here8(e, zero);
    counted(t, i);
    emit_exit(t, loop ? next : target);
    emit_patch(more, e->p);
    t->form = form;
    t->image_valid = image_valid;
    counted(t, i);
    if (by_flag)
        emit_branch(t, i->op == OP_LOOPE ? 4 : 5, target);
    else
        emit_exit(t, loop ? target : next);
}

bool lower_branch(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    if (!can_branch(t, i))
        return false;
    switch (i->op) {
    case OP_JMP:
        if (!goes_on(t))
            emit_exit(t, branch_target(t, i));
        break;
    case OP_CALL:
        lower_call(t, i);
        break;
    case OP_JMP_IND:
        lower_jmp_ind(t, i);
        break;
    case OP_CALL_IND:
        lower_call_ind(t, i);
        break;
    case OP_RET:
        if (goes_on(t))
            lower_ret_within(t, i);
        else
            lower_ret(t, i);
        break;
    case OP_LOOP:
    case OP_LOOPE:
    case OP_LOOPNE:
    case OP_JCXZ:
    case OP_JECXZ:
    case OP_JRCXZ:
        lower_count(t, i);
        break;
    default:
        flags_to_host(t);
        emit_branch(t, i->op - OP_JO, branch_target(t, i));
        break;
    }
    return true;
}
