/*
 * String instructions. A single one is two checks at most, of which the first one's value is put
 * away while the second is made, and nothing is changed before both are done; with DF set, which is
 * rare, C executes it. Repeated ones are run by bt_repeat().
 */
#include "engine/bt/trans.h"

static bool repeated(const struct insn *i)
{
    return i->prefix & (PFX_REP | PFX_REPNE);
}

static bool reads_source(const struct insn *i)
{
    return i->op == OP_MOVS || i->op == OP_CMPS || i->op == OP_LODS;
}

bool can_string(const struct trans *t, const struct insn *i)
{
    switch (i->op) {
    case OP_MOVS:
    case OP_CMPS:
    case OP_STOS:
    case OP_LODS:
    case OP_SCAS:
        return i->addrsize == (t->wide ? 8 : 4) && !(i->flags & INSN_NOT_YET) &&
               (i->op == OP_LODS || seg_quick(t, SEG_ES)) &&
               (!reads_source(i) || seg_quick(t, i->seg));
    default:
        return false;
    }
}

static void lower_repeated(struct trans *t, const struct insn *i)
{
    struct site *s = emit_slow_call(t, SITE_REPEAT);
    s->size = i->opsize;
    s->access = repeat_code(i->op - OP_MOVS, (i->prefix & PFX_REPNE) != 0, i->seg);
    if (t->facts[t->cur].writes != FLAGS_NONE)
        t->has_recipe = false;
}

/* With DF set C executes the instruction. */
static void check_direction(struct trans *t)
{
    struct hmem flags = hmem_vcpu(VCPU_AT(rflags) + 1);
    struct opcode test = {.size = 1, .code = 0xf6};
    flags_clobber(t);
    emit_op_mem(&t->e, &test, 0, &flags);
    emit8(&t->e, FLAG_DF >> 8);
    u8 *from = emit_jcc(&t->e, 5, NULL);
    cold_new(t, site_new(t, SITE_FAULT, NULL))->from[0] = from;
}

static void advance(struct trans *t, const struct insn *i, unsigned reg)
{
    struct hmem m = hmem_base(reg, i->opsize);
    emit_lea(&t->e, i->addrsize, reg, &m);
}

/* The element at rSI to bt_cpu.operand, or, for LODS, to rAX. */
static void load_source(struct trans *t, const struct insn *i)
{
    struct hmem m, operand = hmem_vcpu(BT_AT(operand));
    mem_access_at(t, RSI, 0, i->seg, i->opsize, ACCESS_READ, &m);
    if (i->op == OP_LODS) {
        emit_load(&t->e, i->opsize, H_RAX, &m);
        return;
    }
    emit_load(&t->e, i->opsize, H_T1, &m);
    emit_store(&t->e, i->opsize, &operand, H_T1);
}

static void use_destination(struct trans *t, const struct insn *i)
{
    struct hmem m, operand = hmem_vcpu(BT_AT(operand));
    bool store = i->op == OP_MOVS || i->op == OP_STOS;
    unsigned value = H_RAX;
    mem_access_at(t, RDI, 0, SEG_ES, i->opsize, store ? ACCESS_WRITE : ACCESS_READ, &m);
    if (i->op == OP_MOVS || i->op == OP_CMPS) {
        mem_fold(t, &m);
        emit_load(&t->e, i->opsize, H_T1, &operand);
        value = H_T1;
    }
    if (store)
        emit_store(&t->e, i->opsize, &m, value);
    else
        emit_alu_load(&t->e, ALU_CMP, i->opsize, value, &m);
}

bool lower_string(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    if (!can_string(t, i))
        return false;
    if (repeated(i)) {
        lower_repeated(t, i);
        return true;
    }
    check_direction(t);
    if (reads_source(i))
        load_source(t, i);
    if (i->op != OP_LODS)
        use_destination(t, i);
    if (reads_source(i))
        advance(t, i, RSI);
    if (i->op != OP_LODS)
        advance(t, i, RDI);
    if (t->facts[t->cur].writes != FLAGS_NONE)
        flags_made(t);
    return true;
}
