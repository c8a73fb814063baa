/*
 * String instructions. A single one is two checks at most, of which the first one's value is put
 * away while the second is made, and nothing is changed before both are done; with DF set, which is
 * rare, C executes it.
 *
 * Of the repeated ones MOVS and STOS are done here if the whole block lies in one page on each
 * side: two checks, then the host's own instruction on addresses of the host. Longer blocks go to a
 * thunk (thunks_repeat.c) and all else to bt_repeat().
 */
#include "engine/bt/mem_scheme.h"

static bool repeated(const struct insn *i)
{
    return i->prefix & (PFX_REP | PFX_REPNE);
}

static bool reads_source(const struct insn *i)
{
    return i->op == OP_MOVS || i->op == OP_CMPS || i->op == OP_LODS;
}

/* bt_repeat() looks at no limits. */
static bool can_repeat(const struct trans *t, const struct insn *i)
{
    return i->addrsize == (t->wide ? 8 : 4) && !seg_limited(t, SEG_ES) &&
           !(reads_source(i) && seg_limited(t, i->seg));
}

bool can_string(const struct trans *t, const struct insn *i)
{
    switch (i->op) {
    case OP_MOVS:
    case OP_CMPS:
    case OP_STOS:
    case OP_LODS:
    case OP_SCAS:
        return !(i->flags & INSN_NOT_YET) && (!repeated(i) || can_repeat(t, i)) &&
               i->addrsize >= (t->wide ? 8 : 2) && (i->op == OP_LODS || seg_quick(t, SEG_ES)) &&
               (!reads_source(i) || seg_quick(t, i->seg));
    default:
        return false;
    }
}

/* --- with REP --- */

static void describe(struct site *s, const struct insn *i)
{
    s->size = i->opsize;
    s->access = repeat_code(i->op - OP_MOVS, (i->prefix & PFX_REPNE) != 0, i->seg);
}

static void call_repeat(struct trans *t, const struct insn *i)
{
    emit_mov_imm(&t->e, H_T1, 0);
    describe(emit_slow_call(t, SITE_REPEAT), i);
    if (t->facts[t->cur].writes != FLAGS_NONE)
        t->has_recipe = false;
}

static bool has_fast_path(const struct trans *t, const struct insn *i)
{
    if (i->op == OP_MOVS)
        return !seg_has_base(t, SEG_ES) && !seg_has_base(t, i->seg);
    return i->op == OP_STOS && !seg_has_base(t, SEG_ES);
}

static u8 *branch_if_down(struct trans *t)
{
    struct hmem flags = hmem_vcpu(VCPU_AT(rflags) + 1);
    struct opcode test = {.size = 1, .code = 0xf6};
    emit_op_mem(&t->e, &test, 0, &flags);
    emit8(&t->e, FLAG_DF >> 8);
    return emit_jcc(&t->e, 5, NULL);
}

/* T0 = offset of the TLB entry for `address`. The branch is taken if not all of the block there, of
 * at most a page, may be accessed in that page; an empty one counts as its byte before. */
static u8 *branch_if_missing(struct trans *t, unsigned address, unsigned shift, enum access access)
{
    struct emit *e = &t->e;
    struct hmem last = {.base = (u8)address, .index = RCX, .scale = (u8)shift, .disp = -1};
    struct hmem tag = l1_at(t, H_T0, tag_of(t, access == ACCESS_WRITE));
    emit_lea(e, 8, H_T1, &last);
    emit_mov_reg(e, 4, H_T0, address);
    emit_shift_imm(e, SHIFT_SHR, 4, H_T0, L1_SHIFT);
    emit_alu_imm(e, ALU_AND, 4, H_T0, L1_MASK);
    emit_alu_imm(e, ALU_AND, 8, H_T1, -(i32)PAGE_SIZE);
    emit_alu_load(e, ALU_CMP, 8, H_T1, &tag);
    return emit_jcc(e, 5, NULL);
}

/* With several vCPUs the page's code mask is looked at behind the stores. */
static void prepare_look(struct trans *t)
{
    struct hmem from = l1_at(t, H_T0, offsetof(struct tlb_entry, code_mask));
    struct hmem to = hmem_vcpu(BT_AT(code_mask)), start = hmem_vcpu(BT_AT(stored_lin));
    emit_load(&t->e, 8, H_T1, &from);
    emit_store(&t->e, 8, &to, H_T1);
    emit_store(&t->e, 8, &start, RDI);
}

static void look_at_stores(struct trans *t, const struct insn *i)
{
    struct hmem mask = hmem_vcpu(BT_AT(code_mask)), word = hmem_base(H_T0, 0);
    struct hmem start = hmem_vcpu(BT_AT(stored_lin));
    struct site *s;
    u32 n = site_new(t, SITE_REPEAT, &s);
    describe(s, i);
    emit_load(&t->e, 8, H_T0, &mask);
    emit_mov_reg(&t->e, 8, H_T1, RDI);
    emit_alu_load(&t->e, ALU_SUB, t->wide ? 8 : 4, H_T1, &start);
    emit_alu_mem_imm(&t->e, ALU_CMP, 8, &word, 0);
    u8 *from = emit_jcc(&t->e, 5, NULL);
    cold_new(t, n)->from[0] = from;
}

static void exchange_rax(struct emit *e)
{
    struct opcode xchg = {.size = 8, .code = 0x87};
    emit_op_reg(e, &xchg, H_FLAGS, H_RAX);
}

/* T0 and T1: what is to be added to rSI and rDI; of STOS only T0, for rDI. */
static void run_host(struct trans *t, const struct insn *i)
{
    struct emit *e = &t->e;
    unsigned size = t->wide ? 8 : 4; /* a block may end at 4 GiB */
    if (i->op == OP_STOS) {
        emit_alu_reg(e, ALU_ADD, 8, RDI, H_T0);
        exchange_rax(e);
        emit_rep(e, 0xaa, i->opsize);
        exchange_rax(e);
        emit_alu_reg(e, ALU_SUB, size, RDI, H_T0);
        return;
    }
    emit_alu_reg(e, ALU_ADD, 8, RSI, H_T0);
    emit_alu_reg(e, ALU_ADD, 8, RDI, H_T1);
    emit_rep(e, 0xa4, i->opsize);
    emit_alu_reg(e, ALU_SUB, size, RSI, H_T0);
    emit_alu_reg(e, ALU_SUB, size, RDI, H_T1);
}

static void lower_block(struct trans *t, const struct insn *i)
{
    struct emit *e = &t->e;
    unsigned shift = (unsigned)__builtin_ctz(i->opsize), branches = 0;
    bool stos = i->op == OP_STOS;
    struct hmem addend = l1_at(t, H_T0, offsetof(struct tlb_entry, addend)),
                source = hmem_vcpu(BT_AT(operand));
    struct site *s;
    u32 n = site_new(t, SITE_REPEAT, &s);
    describe(s, i);
    if (t->bt->several)
        flags_image(t); /* behind the stores no recipe need hold any more */
    else
        flags_clobber(t);
    struct cold *c = cold_new(t, n);
    c->thunk = t->tc->thunks.repeat[t->wide][stos][shift];
    emit_alu_imm(e, ALU_CMP, 8, RCX, (i32)(PAGE_SIZE >> shift));
    c->from[branches++] = emit_jcc(e, 7, NULL);
    c->from[branches++] = branch_if_down(t);
    if (!stos) {
        c->from[branches++] = branch_if_missing(t, RSI, shift, ACCESS_READ);
        emit_load(e, 8, H_T0, &addend);
        emit_store(e, 8, &source, H_T0);
    }
    c->from[branches++] = branch_if_missing(t, RDI, shift, ACCESS_WRITE);
    if (t->bt->several)
        prepare_look(t);
    emit_load(e, 8, stos ? H_T0 : H_T1, &addend);
    if (!stos)
        emit_load(e, 8, H_T0, &source);
    run_host(t, i);
    if (t->bt->several)
        look_at_stores(t, i);
}

/* --- without --- */

/* With DF set C executes the instruction. */
static void check_direction(struct trans *t)
{
    flags_clobber(t);
    u8 *from = branch_if_down(t);
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
        if (has_fast_path(t, i))
            lower_block(t, i);
        else
            call_repeat(t, i);
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
