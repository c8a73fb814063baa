/*
 * PUSH, POP and LEAVE on a flat stack. The access comes before RSP changes, so a fault finds the
 * instruction undone.
 */
#include "engine/bt/trans.h"

bool can_stack(const struct trans *t, const struct insn *i)
{
    const struct operand *o = &i->opd[0];
    if (!fits_stack(t, i))
        return false;
    switch (i->op) {
    case OP_PUSH:
        return o->kind == OPD_GPR || o->kind == OPD_IMM || (o->kind == OPD_MEM && mem_quick(t, i));
    case OP_POP:
        return o->kind == OPD_GPR && !(o->reg == RSP && i->opsize == 2);
    case OP_LEAVE:
        return !t->wide || i->opsize == 8;
    default:
        return false;
    }
}

static struct hmem home_of(unsigned guest)
{
    return hmem_vcpu(VCPU_AT(gpr) + 8 * guest);
}

/* The value of a PUSH that is not in a host register. */
static void push_temporary(struct trans *t, const struct insn *i, const struct hmem *to)
{
    struct hmem from =
        i->opd[0].kind == OPD_MEM ? hmem_vcpu(BT_AT(operand)) : home_of(i->opd[0].reg);
    emit_load(&t->e, 8, H_T1, &from);
    emit_store(&t->e, i->opsize, to, H_T1);
}

static void lower_push(struct trans *t, const struct insn *i)
{
    const struct operand *o = &i->opd[0];
    struct hmem m;
    if (o->kind == OPD_MEM) {
        struct hmem operand = hmem_vcpu(BT_AT(operand));
        mem_access(t, i->opsize, ACCESS_READ, &m);
        emit_load(&t->e, i->opsize, H_T1, &m);
        emit_store(&t->e, 8, &operand, H_T1);
    }
    mem_access_at(t, RSP, -(i64)i->opsize, SEG_SS, i->opsize, ACCESS_WRITE, &m);
    if (o->kind == OPD_IMM)
        emit_store_imm(&t->e, i->opsize, &m, (i32)i->imm);
    else if (o->kind == OPD_GPR && host_reg(o->reg) != H_NONE)
        emit_store(&t->e, i->opsize, &m, host_reg(o->reg));
    else
        push_temporary(t, i, &m);
    move_rsp(t, -(i64)i->opsize);
}

static void lower_pop(struct trans *t, const struct insn *i)
{
    unsigned guest = i->opd[0].reg, host = host_reg(guest);
    struct hmem m;
    mem_access_at(t, RSP, 0, SEG_SS, i->opsize, ACCESS_READ, &m);
    if (host != H_NONE) {
        emit_load(&t->e, i->opsize, host, &m);
    } else {
        struct hmem home = home_of(guest);
        emit_load(&t->e, i->opsize, H_T1, &m);
        emit_store(&t->e, i->opsize, &home, H_T1);
    }
    if (guest != RSP)
        move_rsp(t, i->opsize);
}

static void lower_leave(struct trans *t, const struct insn *i)
{
    struct hmem m;
    mem_access_at(t, RBP, 0, SEG_SS, i->opsize, ACCESS_READ, &m);
    emit_load(&t->e, i->opsize, H_T1, &m);
    m = hmem_base(RBP, i->opsize);
    emit_lea(&t->e, t->key.stack, RSP, &m);
    emit_mov_reg(&t->e, i->opsize, RBP, H_T1);
}

bool lower_stack(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    if (!can_stack(t, i))
        return false;
    if (i->op == OP_PUSH)
        lower_push(t, i);
    else if (i->op == OP_POP)
        lower_pop(t, i);
    else
        lower_leave(t, i);
    return true;
}
