/*
 * What instructions do to the arithmetic flags, and how the guest's flags survive the translator's
 * own code. Before the host's flags are overwritten, the guest's are kept: as an image in RAX, or
 * for nothing, if the instruction that made them can be executed again wherever they are needed:
 * comparisons as they are, additions and subtractions after taking back their effect, logical
 * operations as a test of their result.
 */
#include "engine/bt/trans.h"

/* --- facts --- */

static bool shift_by_zero(const struct insn *i)
{
    return (i->imm & (i->opsize == 8 ? 63 : 31)) == 0;
}

/* By operation. What is not here neither reads nor writes flags, or has a rule of its own below. */
enum { READS = 4 };

static const u8 flag_use[OP_COUNT] = {
    [OP_ADD] = FLAGS_ALL,
    [OP_SUB] = FLAGS_ALL,
    [OP_AND] = FLAGS_ALL,
    [OP_OR] = FLAGS_ALL,
    [OP_XOR] = FLAGS_ALL,
    [OP_CMP] = FLAGS_ALL,
    [OP_TEST] = FLAGS_ALL,
    [OP_NEG] = FLAGS_ALL,
    [OP_XADD] = FLAGS_ALL,
    [OP_CMPXCHG] = FLAGS_ALL,
    [OP_POPCNT] = FLAGS_ALL,
    [OP_ANDN] = FLAGS_ALL,
    [OP_BEXTR] = FLAGS_ALL,
    [OP_BLSI] = FLAGS_ALL,
    [OP_BLSMSK] = FLAGS_ALL,
    [OP_BLSR] = FLAGS_ALL,
    [OP_BZHI] = FLAGS_ALL,
    [OP_UCOMISD] = FLAGS_ALL,
    [OP_UCOMISS] = FLAGS_ALL,
    [OP_COMISD] = FLAGS_ALL,
    [OP_COMISS] = FLAGS_ALL,
    [OP_VUCOMISD] = FLAGS_ALL,
    [OP_VUCOMISS] = FLAGS_ALL,
    [OP_VCOMISD] = FLAGS_ALL,
    [OP_VCOMISS] = FLAGS_ALL,
    [OP_PTEST] = FLAGS_ALL,
    [OP_VPTEST] = FLAGS_ALL,
    [OP_PCMPESTRI] = FLAGS_ALL,
    [OP_PCMPESTRM] = FLAGS_ALL,
    [OP_PCMPISTRI] = FLAGS_ALL,
    [OP_PCMPISTRM] = FLAGS_ALL,
    [OP_VPCMPESTRI] = FLAGS_ALL,
    [OP_VPCMPESTRM] = FLAGS_ALL,
    [OP_VPCMPISTRI] = FLAGS_ALL,
    [OP_VPCMPISTRM] = FLAGS_ALL,
    [OP_ADC] = FLAGS_ALL | READS,
    [OP_SBB] = FLAGS_ALL | READS,
    [OP_INC] = FLAGS_SOME | READS,
    [OP_DEC] = FLAGS_SOME | READS,
    [OP_ROL] = FLAGS_SOME | READS,
    [OP_ROR] = FLAGS_SOME | READS,
    [OP_RCL] = FLAGS_SOME | READS,
    [OP_RCR] = FLAGS_SOME | READS,
    [OP_MUL] = FLAGS_SOME | READS,
    [OP_IMUL] = FLAGS_SOME | READS,
    [OP_DIV] = FLAGS_SOME | READS,
    [OP_IDIV] = FLAGS_SOME | READS,
    [OP_BT] = FLAGS_SOME | READS,
    [OP_BTS] = FLAGS_SOME | READS,
    [OP_BTR] = FLAGS_SOME | READS,
    [OP_BTC] = FLAGS_SOME | READS,
    [OP_BSF] = FLAGS_SOME | READS, /* all but ZF are undefined: there are hosts that leave them */
    [OP_BSR] = FLAGS_SOME | READS,
    [OP_TZCNT] = FLAGS_SOME | READS,
    [OP_LZCNT] = FLAGS_SOME | READS,
    [OP_CLC] = FLAGS_SOME | READS,
    [OP_STC] = FLAGS_SOME | READS,
    [OP_CMC] = FLAGS_SOME | READS,
    [OP_ADCX] = FLAGS_SOME | READS,
    [OP_ADOX] = FLAGS_SOME | READS,
    [OP_SAHF] = FLAGS_SOME | READS,
    [OP_CMPXCHG8B] = FLAGS_SOME | READS,
    [OP_CMPXCHG16B] = FLAGS_SOME | READS,
    [OP_SHLD] = FLAGS_SOME | READS,
    [OP_SHRD] = FLAGS_SOME | READS,
    [OP_FCOMI] = FLAGS_SOME | READS,
    [OP_FCOMIP] = FLAGS_SOME | READS,
    [OP_FUCOMI] = FLAGS_SOME | READS,
    [OP_FUCOMIP] = FLAGS_SOME | READS,
    [OP_VTESTPS] = FLAGS_SOME | READS,
    [OP_VTESTPD] = FLAGS_SOME | READS,
    [OP_POPF] = FLAGS_SOME,
    [OP_POPFD] = FLAGS_SOME,
    [OP_POPFQ] = FLAGS_SOME,
    [OP_LAHF] = READS,
    [OP_PUSHF] = READS,
    [OP_PUSHFD] = READS,
    [OP_PUSHFQ] = READS,
    [OP_LOOPE] = READS,
    [OP_LOOPNE] = READS,
    [OP_FCMOVB] = READS,
    [OP_FCMOVBE] = READS,
    [OP_FCMOVE] = READS,
    [OP_FCMOVNB] = READS,
    [OP_FCMOVNBE] = READS,
    [OP_FCMOVNE] = READS,
    [OP_FCMOVNU] = READS,
    [OP_FCMOVU] = READS,
};

static void flag_facts(const struct insn *i, struct facts *f)
{
    u8 use = flag_use[i->op];
    if (i->op == OP_SHL || i->op == OP_SHR || i->op == OP_SAR) /* not by zero */
        use = i->opd[1].kind == OPD_IMM && !shift_by_zero(i) ? FLAGS_ALL : FLAGS_SOME | READS;
    if (i->op == OP_CMPS || i->op == OP_SCAS) /* with REP perhaps not at all */
        use = i->prefix & (PFX_REP | PFX_REPNE) ? FLAGS_SOME | READS : FLAGS_ALL;
    f->writes = use & ~READS;
    f->reads = use & READS || (i->op >= OP_SETO && i->op <= OP_SETNLE) ||
               (i->op >= OP_CMOVO && i->op <= OP_CMOVNLE) || (i->op >= OP_JO && i->op <= OP_JNLE);
}

/* General registers that are written without being operands. */
static const u16 implied_registers[OP_COUNT] = {
    [OP_MUL] = BIT(RAX) | BIT(RDX),
    [OP_DIV] = BIT(RAX) | BIT(RDX),
    [OP_IDIV] = BIT(RAX) | BIT(RDX),
    [OP_CMPXCHG8B] = BIT(RAX) | BIT(RDX),
    [OP_CMPXCHG16B] = BIT(RAX) | BIT(RDX),
    [OP_IMUL] = BIT(RAX) | BIT(RDX),
    [OP_CMPXCHG] = BIT(RAX),
    [OP_CBW] = BIT(RAX),
    [OP_CWDE] = BIT(RAX),
    [OP_CDQE] = BIT(RAX),
    [OP_XLAT] = BIT(RAX),
    [OP_LAHF] = BIT(RAX),
    [OP_CWD] = BIT(RDX),
    [OP_CDQ] = BIT(RDX),
    [OP_CQO] = BIT(RDX),
    [OP_LEAVE] = BIT(RSP) | BIT(RBP),
    [OP_PUSH] = BIT(RSP),
    [OP_POP] = BIT(RSP),
    [OP_CALL] = BIT(RSP),
    [OP_CALL_IND] = BIT(RSP),
    [OP_RET] = BIT(RSP),
    [OP_PUSH_SEG] = BIT(RSP),
    [OP_POP_SEG] = BIT(RSP),
    [OP_PUSHF] = BIT(RSP),
    [OP_PUSHFD] = BIT(RSP),
    [OP_PUSHFQ] = BIT(RSP),
    [OP_POPF] = BIT(RSP),
    [OP_POPFD] = BIT(RSP),
    [OP_POPFQ] = BIT(RSP),
    [OP_IN] = BIT(RAX),
    [OP_RDTSC] = BIT(RAX) | BIT(RDX) | BIT(RCX),
    [OP_RDTSCP] = BIT(RAX) | BIT(RDX) | BIT(RCX),
    [OP_LOOP] = BIT(RCX),
    [OP_LOOPE] = BIT(RCX),
    [OP_LOOPNE] = BIT(RCX),
    [OP_PCMPESTRI] = BIT(RCX),
    [OP_PCMPISTRI] = BIT(RCX),
    [OP_VPCMPESTRI] = BIT(RCX),
    [OP_VPCMPISTRI] = BIT(RCX),
    [OP_MOVS] = BIT(RSI) | BIT(RDI) | BIT(RCX) | BIT(RAX),
    [OP_STOS] = BIT(RSI) | BIT(RDI) | BIT(RCX) | BIT(RAX),
    [OP_LODS] = BIT(RSI) | BIT(RDI) | BIT(RCX) | BIT(RAX),
    [OP_CMPS] = BIT(RSI) | BIT(RDI) | BIT(RCX) | BIT(RAX),
    [OP_SCAS] = BIT(RSI) | BIT(RDI) | BIT(RCX) | BIT(RAX),
};

static u16 implied_writes(const struct insn *i)
{
    switch (i->op) {
    case OP_CLI:
    case OP_STI:
    case OP_CLAC:
    case OP_STAC:
    case OP_MOV_SEG:
    case OP_MOV_CR:
    case OP_SWAPGS:
        return 0; /* operands only */
    default:
        return implied_registers[i->op] || i->cls != CLASS_SYSTEM ? implied_registers[i->op]
                                                                  : 0xffff;
    }
}

static bool has_memory(const struct insn *i)
{
    for (unsigned n = 0; n < i->nopd; n++)
        if (i->opd[n].kind == OPD_MEM && i->opd[n].size)
            return true;
    return false;
}

static bool can_lower(const struct trans *t, const struct insn *i, u8 *which)
{
    for (*which = 0; *which < LOWERERS; ++*which)
        if (lowerers[*which].can(t, i))
            return true;
    return false;
}

static void insn_facts(const struct trans *t, const struct insn *i, struct facts *f)
{
    *f = (struct facts){0};
    flag_facts(i, f);
    f->callout = !can_lower(t, i, &f->lowerer);
    u16 learned = learned_at(t, i);
    bool divides = i->op == OP_DIV || i->op == OP_IDIV;
    if ((has_memory(i) && learned & LEARNED_DEVICE) || (divides && learned & LEARNED_DIVIDES))
        f->callout = f->device = true;
    if (i->op == OP_STI && i == &t->insn[t->n - 1])
        f->callout = true; /* its shadow covers the next instruction, which must be at hand */
    f->modifies = implied_writes(i);
    for (unsigned n = 0; n < i->nopd; n++)
        if (i->opd[n].access & OPD_WRITE &&
            (i->opd[n].kind == OPD_GPR || i->opd[n].kind == OPD_GPR8H))
            f->modifies |= (u16)BIT(i->opd[n].reg);
    f->clobbers = has_memory(i) || i->cls != CLASS_IDENT || i->op == OP_PUSH || i->op == OP_POP ||
                  i->op == OP_LEAVE || i->op == OP_XLAT || divides;
}

/* Registers that the flags of i come from, if they can be made again from them; 0 if not. */
static u16 recipe_registers(const struct insn *i)
{
    u16 regs = 0;
    switch (i->op) {
    case OP_CMP:
    case OP_TEST:
    case OP_AND:
    case OP_OR:
    case OP_XOR:
    case OP_ADD:
    case OP_SUB:
    case OP_NEG:
        break;
    default:
        return 0;
    }
    for (unsigned n = 0; n < i->nopd; n++) {
        if (i->opd[n].kind == OPD_IMM)
            continue;
        if (i->opd[n].kind != OPD_GPR || host_reg(i->opd[n].reg) == H_NONE)
            return 0;
        regs |= (u16)BIT(i->opd[n].reg);
    }
    bool one = i->nopd == 2 && i->opd[1].kind == OPD_GPR && i->opd[0].reg == i->opd[1].reg;
    return one && (i->op == OP_ADD || i->op == OP_SUB) ? 0 : regs;
}

/* Is what instruction `def` does to the flags still to be had at every place behind that needs
 * them? A fault in a later instruction needs them as they are before that instruction. */
static bool recipe_holds(const struct trans *t, unsigned def)
{
    u16 regs = recipe_registers(&t->insn[def]);
    bool changed = false;
    if (!regs)
        return false;
    for (unsigned n = def + 1; n < t->n; n++) {
        const struct facts *f = &t->facts[n];
        if (changed && (f->clobbers || f->reads || f->callout))
            return false;
        if (f->callout || f->writes != FLAGS_NONE)
            return true;
        changed |= (f->modifies & regs) != 0;
    }
    return !changed;
}

void facts_make(struct trans *t)
{
    for (unsigned n = 0; n < t->n; n++)
        insn_facts(t, &t->insn[n], &t->facts[n]);
    for (unsigned n = 0; n < t->n; n++)
        t->facts[n].recipe =
            t->facts[n].writes == FLAGS_ALL && !t->facts[n].callout && recipe_holds(t, n);
}

/* --- recipes --- */

static void alu_operation(struct emit *e, enum alu op, const struct insn *i)
{
    unsigned dst = host_reg(i->opd[0].reg);
    if (i->opd[1].kind == OPD_IMM)
        emit_alu_imm(e, op, i->opsize, dst, (i32)i->imm);
    else
        emit_alu_reg(e, op, i->opsize, dst, host_reg(i->opd[1].reg));
}

static void test_operation(struct emit *e, const struct insn *i, unsigned a, unsigned b)
{
    struct opcode o = {.size = i->opsize, .code = i->opsize == 1 ? 0x84 : 0x85};
    emit_op_reg(e, &o, b, a);
}

static void test_imm(struct emit *e, const struct insn *i)
{
    struct opcode o = {.size = i->opsize, .code = i->opsize == 1 ? 0xf6 : 0xf7};
    emit_op_reg(e, &o, 0, host_reg(i->opd[0].reg));
    unsigned bytes = MIN(i->opsize, 4u);
    for (unsigned n = 0; n < bytes; n++)
        emit8(e, (u8)(i->imm >> 8 * n));
}

void recipe_emit(struct trans *t, unsigned n)
{
    const struct insn *i = &t->insn[n];
    struct emit *e = &t->e;
    unsigned dst = host_reg(i->opd[0].reg);
    struct opcode neg = {.size = i->opsize, .code = i->opsize == 1 ? 0xf6 : 0xf7};
    switch (i->op) {
    case OP_CMP:
        alu_operation(e, ALU_CMP, i);
        break;
    case OP_TEST:
        if (i->opd[1].kind == OPD_IMM)
            test_imm(e, i);
        else
            test_operation(e, i, dst, host_reg(i->opd[1].reg));
        break;
    case OP_ADD:
        alu_operation(e, ALU_SUB, i);
        alu_operation(e, ALU_ADD, i);
        break;
    case OP_SUB:
        alu_operation(e, ALU_ADD, i);
        alu_operation(e, ALU_SUB, i);
        break;
    case OP_NEG:
        emit_op_reg(e, &neg, 3, dst);
        emit_op_reg(e, &neg, 3, dst);
        break;
    default: /* AND, OR, XOR */
        test_operation(e, i, dst, dst);
        break;
    }
}

/* --- forms --- */

void flags_clobber(struct trans *t)
{
    if (t->form != FORM_HOST)
        return;
    if (t->image_valid) {
        t->form = FORM_IMAGE;
    } else if (t->has_recipe) {
        t->form = FORM_RECIPE;
    } else {
        emit_flags_to_image(&t->e);
        t->form = FORM_IMAGE;
        t->image_valid = true;
    }
}

void flags_to_host(struct trans *t)
{
    if (t->form == FORM_IMAGE)
        emit_image_to_flags(&t->e);
    else if (t->form == FORM_RECIPE)
        recipe_emit(t, t->recipe);
    t->form = FORM_HOST;
}

void flags_image(struct trans *t)
{
    if (t->form == FORM_RECIPE)
        flags_to_host(t);
    if (t->form == FORM_HOST && !t->image_valid)
        emit_flags_to_image(&t->e);
    t->form = FORM_IMAGE;
    t->image_valid = true;
}

void flags_made(struct trans *t)
{
    t->form = FORM_HOST;
    t->image_valid = false;
    t->recipe = (u8)t->cur;
    t->has_recipe = t->facts[t->cur].recipe;
}
