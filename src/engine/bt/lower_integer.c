/*
 * Integer instructions. Nearly all are emitted as they are, with their registers mapped and their
 * memory operand checked. Registers that are homed in memory pass through a temporary. AH, CH, DH
 * and BH are rotated into the low byte for the instruction, because the host's encodings with REX
 * don't have them.
 */
#include "engine/bt/trans.h"

/* An operand in a host register. */
struct bound {
    u8 reg;
    u8 home;    /* guest register to be stored back, or REG_NONE */
    u8 rotated; /* host register to be rotated back, or H_NONE */
};

static bool is_homed(const struct operand *o)
{
    return o->kind == OPD_GPR && host_reg(o->reg) == H_NONE;
}

static int memory_operand(const struct insn *i)
{
    for (unsigned n = 0; n < i->nopd; n++)
        if (i->opd[n].kind == OPD_MEM)
            return (int)n;
    return -1;
}

/* --- which --- */

static const bool generic[OP_COUNT] = {
    [OP_ADD] = true,   [OP_OR] = true,     [OP_ADC] = true,    [OP_SBB] = true,
    [OP_AND] = true,   [OP_SUB] = true,    [OP_XOR] = true,    [OP_CMP] = true,
    [OP_TEST] = true,  [OP_INC] = true,    [OP_DEC] = true,    [OP_NEG] = true,
    [OP_NOT] = true,   [OP_XADD] = true,   [OP_ADCX] = true,   [OP_ADOX] = true,
    [OP_ROL] = true,   [OP_ROR] = true,    [OP_RCL] = true,    [OP_RCR] = true,
    [OP_SHL] = true,   [OP_SHR] = true,    [OP_SAR] = true,    [OP_SHLD] = true,
    [OP_SHRD] = true,  [OP_RORX] = true,   [OP_SARX] = true,   [OP_SHLX] = true,
    [OP_SHRX] = true,  [OP_MULX] = true,   [OP_BSF] = true,    [OP_BSR] = true,
    [OP_LZCNT] = true, [OP_TZCNT] = true,  [OP_POPCNT] = true, [OP_ANDN] = true,
    [OP_BEXTR] = true, [OP_BLSI] = true,   [OP_BLSMSK] = true, [OP_BLSR] = true,
    [OP_BZHI] = true,  [OP_PDEP] = true,   [OP_PEXT] = true,   [OP_CRC32] = true,
    [OP_BSWAP] = true, [OP_MOVBE] = true,  [OP_MOV] = true,    [OP_MOVZX] = true,
    [OP_MOVSX] = true, [OP_MOVSXD] = true, [OP_XCHG] = true,   [OP_MOVNTI] = true,
};

static bool is_generic(const struct insn *i)
{
    switch (i->op) {
    case OP_IMUL:
        return i->nopd > 1;
    case OP_BT:
    case OP_BTS:
    case OP_BTR:
    case OP_BTC:
        return !is_bit_string(i);
    default:
        return generic[i->op] || (i->op >= OP_SETO && i->op <= OP_SETNLE) ||
               (i->op >= OP_CMOVO && i->op <= OP_CMOVNLE);
    }
}

/* Are there enough temporaries? */
static bool registers_fit(const struct insn *i)
{
    unsigned homed = 0, high = 0;
    for (unsigned n = 0; n < i->nopd; n++) {
        homed += is_homed(&i->opd[n]);
        high += i->opd[n].kind == OPD_GPR8H;
    }
    bool mem = memory_operand(i) >= 0;
    return homed <= (mem ? 1 : 2) && !(high && homed);
}

bool is_hint(const struct insn *i)
{
    return i->op == OP_NOP || (i->op >= OP_PREFETCH && i->op <= OP_PREFETCHWT1);
}

/* XCHG and XADD of AH with AL and the like write both. */
static bool exchanges_bytes(const struct insn *i)
{
    return (i->op == OP_XCHG || i->op == OP_XADD) &&
           (i->opd[0].kind == OPD_GPR8H || i->opd[1].kind == OPD_GPR8H) &&
           i->opd[0].kind != OPD_MEM && i->opd[1].kind != OPD_MEM;
}

/* Rotating RCX for the one would move the other. */
static bool shifts_ch_by_cl(const struct insn *i)
{
    switch (i->op) {
    case OP_ROL:
    case OP_ROR:
    case OP_RCL:
    case OP_RCR:
    case OP_SHL:
    case OP_SHR:
    case OP_SAR:
        return i->opd[0].kind == OPD_GPR8H && i->opd[0].reg == RCX && i->opd[1].kind == OPD_GPR;
    default:
        return false;
    }
}

bool can_integer(const struct trans *t, const struct insn *i)
{
    if (i->cls != CLASS_IDENT || i->flags & INSN_NOT_YET)
        return false;
    if (is_hint(i))
        return true;
    int mem = memory_operand(i);
    if (mem >= 0 && i->op != OP_LEA && !mem_quick(t, i))
        return false;
    if (is_bit_string(i))
        return i->addrsize == (t->wide ? 8 : 4);
    switch (i->op) {
    case OP_LEA:
        return i->nopd == 2;
    case OP_PAUSE:
    case OP_LFENCE:
    case OP_MFENCE:
    case OP_SFENCE:
    case OP_CLC:
    case OP_STC:
    case OP_CMC:
    case OP_CLD:
    case OP_STD:
    case OP_SAHF:
    case OP_CBW:
    case OP_CWDE:
    case OP_CDQE:
    case OP_CWD:
    case OP_CDQ:
    case OP_CQO:
    case OP_CMPXCHG8B:
    case OP_CMPXCHG16B:
        return true;
    case OP_MUL:
    case OP_DIV:
    case OP_IDIV:
        return true;
    case OP_IMUL:
        return registers_fit(i);
    case OP_CMPXCHG:
        return registers_fit(i) && !(i->opd[0].kind == OPD_GPR && i->opd[0].reg == RAX) &&
               !(i->opd[0].kind == OPD_GPR8H && i->opd[0].reg == RAX);
    default:
        return is_generic(i) && registers_fit(i) && !exchanges_bytes(i) && !shifts_ch_by_cl(i);
    }
}

/* --- operands --- */

static void rotate(struct trans *t, unsigned reg, unsigned count)
{
    emit_rorx(&t->e, 8, reg, reg, count);
}

static bool is_rotated(const struct operand *o)
{
    return o->kind == OPD_GPR8H && o->access & OPD_WRITE;
}

/* Operands that are read from a register which is going to be rotated for another operand, or from
 * a high byte: a copy of them, with the byte in the low one. */
static void bind_copies(struct trans *t, struct bound *b)
{
    const struct insn *i = cur_insn(t);
    unsigned tmp = H_T1;
    for (unsigned n = 0; n < i->nopd; n++) {
        const struct operand *o = &i->opd[n];
        bool aliased = false;
        for (unsigned k = 0; o->kind == OPD_GPR && k < i->nopd; k++)
            aliased |= is_rotated(&i->opd[k]) && i->opd[k].reg == o->reg;
        if (o->kind == OPD_GPR8H && !is_rotated(o))
            emit_rorx(&t->e, 8, tmp, host_reg(o->reg), 8);
        else if (aliased)
            emit_mov_reg(&t->e, 8, tmp, host_reg(o->reg));
        else
            continue;
        b[n].reg = (u8)tmp;
        tmp = H_T0;
    }
}

/* High bytes that are written: at most one, see exchanges_bytes(). */
static void bind_rotated(struct trans *t, struct bound *b)
{
    const struct insn *i = cur_insn(t);
    for (unsigned n = 0; n < i->nopd; n++) {
        if (!is_rotated(&i->opd[n]))
            continue;
        b[n].reg = b[n].rotated = (u8)host_reg(i->opd[n].reg);
        rotate(t, b[n].reg, 8);
    }
}

/* Puts all register operands in host registers. With a memory operand T0 is taken. Flags are kept.
 */
static void bind(struct trans *t, struct bound *b, bool mem)
{
    const struct insn *i = cur_insn(t);
    unsigned tmp = H_T1;
    for (unsigned n = 0; n < i->nopd; n++) {
        const struct operand *o = &i->opd[n];
        b[n] = (struct bound){H_NONE, REG_NONE, H_NONE};
        if (o->kind != OPD_GPR)
            continue;
        b[n].reg = (u8)host_reg(o->reg);
        if (b[n].reg != H_NONE)
            continue;
        for (unsigned k = 0; k < n; k++)
            if (is_homed(&i->opd[k]) && i->opd[k].reg == o->reg)
                b[n].reg = b[k].reg;
        if (b[n].reg == H_NONE) {
            struct hmem from = hmem_vcpu(VCPU_AT(gpr) + 8 * o->reg);
            emit_load(&t->e, 8, tmp, &from);
            b[n].reg = (u8)tmp;
            assert(tmp == H_T1 || !mem);
            tmp = H_T0;
        }
        if (o->access & OPD_WRITE)
            b[n].home = o->reg;
    }
    bind_copies(t, b);
    bind_rotated(t, b);
}

static void unbind(struct trans *t, const struct bound *b)
{
    const struct insn *i = cur_insn(t);
    for (unsigned n = 0; n < i->nopd; n++) {
        if (b[n].rotated != H_NONE)
            rotate(t, b[n].rotated, 56);
        if (b[n].home != REG_NONE) {
            struct hmem to = hmem_vcpu(VCPU_AT(gpr) + 8 * b[n].home);
            emit_store(&t->e, 8, &to, b[n].reg);
        }
    }
}

static bool uses_temporary(const struct insn *i)
{
    for (unsigned n = 0; n < i->nopd; n++)
        if (is_homed(&i->opd[n]) || i->opd[n].kind == OPD_GPR8H)
            return true;
    return false;
}

/* The memory operand's check. */
static bool operand_check(struct trans *t, struct hmem *m)
{
    const struct insn *i = cur_insn(t);
    int n = memory_operand(i);
    if (n < 0)
        return false;
    mem_access(t, i->opd[n].size, i->opd[n].access & OPD_WRITE ? ACCESS_WRITE : ACCESS_READ, m);
    if (uses_temporary(i))
        mem_fold(t, m);
    return true;
}

/* --- generic --- */

struct parts {
    struct opcode o;
    u8 digit;       /* ModRM.reg where it is no operand */
    int reg, rm;    /* operands in ModRM, or -1 */
    int vvvv, code; /* in VEX.vvvv, in the opcode */
};

/* Short forms with rAX implied become the general ones. */
static void expand_short(struct parts *p)
{
    u8 c = p->o.code;
    if (p->o.map != MAP_1 || p->o.vex)
        return;
    if (c < 0x40 && (c & 7) >= 4 && (c & 7) < 6) { /* ALU rAX, imm */
        p->digit = c >> 3;
        p->o.code = 0x80 | (c & 1);
        p->rm = 0;
    } else if (c >= 0x40 && c < 0x50) { /* INC, DEC */
        p->digit = c >= 0x48;
        p->o.code = 0xff;
        p->rm = 0;
        p->code = -1;
    } else if (c == 0xa8 || c == 0xa9) { /* TEST rAX, imm */
        p->digit = 0;
        p->o.code = 0xf6 | (c & 1);
        p->rm = 0;
    } else if (c >= 0xa0 && c < 0xa4) { /* MOV rAX, moffs and back */
        p->o.code = (c < 0xa2 ? 0x8a : 0x88) | (c & 1);
        p->reg = c < 0xa2 ? 0 : 1;
        p->rm = c < 0xa2 ? 1 : 0;
    } else if (c >= 0x90 && c < 0x98) { /* XCHG rAX, r */
        p->o.code = 0x87;
        p->reg = 0;
        p->rm = 1;
        p->code = -1;
    } else if (c == 0x82) {
        p->o.code = 0x80;
    }
}

static void take_apart(const struct trans *t, const struct insn *i, struct parts *p)
{
    *p = (struct parts){.reg = -1, .rm = -1, .vvvv = -1, .code = -1};
    opcode_of(i, t->wide, &p->o);
    if (p->o.vex)
        p->o.w = i->opsize == 8;
    else
        p->o.size = i->opsize;
    if (i->op == OP_ADCX) /* 66h chooses the operation */
        p->o.prefix = PREFIX_66;
    if (i->modrm_at)
        p->digit = i->raw[i->modrm_at] >> 3 & 7;
    for (unsigned n = 0; n < i->nopd; n++) {
        int *where = i->opd[n].enc == ENC_REG      ? &p->reg
                     : i->opd[n].enc == ENC_RM     ? &p->rm
                     : i->opd[n].enc == ENC_VVVV   ? &p->vvvv
                     : i->opd[n].enc == ENC_OPCODE ? &p->code
                                                   : NULL;
        if (where)
            *where = (int)n;
    }
    expand_short(p);
    if (!p->o.vex && p->o.size != 1) {
        p->o.byte_reg = p->reg >= 0 && i->opd[p->reg].size == 1;
        p->o.byte_rm = p->rm >= 0 && i->opd[p->rm].size == 1;
    }
}

static void emit_parts(struct trans *t, struct parts *p, const struct bound *b,
                       const struct hmem *m)
{
    const struct insn *i = cur_insn(t);
    unsigned reg = p->reg >= 0 ? b[p->reg].reg : p->digit;
    if (p->vvvv >= 0)
        p->o.vvvv = b[p->vvvv].reg;
    if (p->reg < 0) { /* a digit is no byte register */
        p->o.byte_rm |= p->o.size == 1;
        if (p->o.size == 1)
            p->o.size = 4;
    }
    if (p->code >= 0)
        emit_op_short(&t->e, &p->o, b[p->code].reg);
    else if (p->rm >= 0 && i->opd[p->rm].kind == OPD_MEM)
        emit_op_mem(&t->e, &p->o, reg, m);
    else
        emit_op_reg(&t->e, &p->o, reg, b[p->rm].reg);
    emit_imms(t, i);
}

static void lower_generic(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    const struct facts *f = &t->facts[t->cur];
    struct bound b[4];
    struct parts p;
    struct hmem m;
    take_apart(t, i, &p);
    bool mem = operand_check(t, &m);
    if (f->reads)
        flags_to_host(t);
    bind(t, b, mem);
    emit_parts(t, &p, b, &m);
    unbind(t, b);
    if (f->writes != FLAGS_NONE)
        flags_made(t);
}

/* --- those that are different --- */

static void lower_lea(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    unsigned guest = i->opd[0].reg, dst = host_reg(guest);
    if (dst != H_NONE) {
        mem_lea(t, i, dst, i->opsize);
        return;
    }
    struct hmem to = hmem_vcpu(VCPU_AT(gpr) + 8 * guest);
    mem_lea(t, i, H_T0, i->opsize == 2 ? 4 : i->opsize);
    emit_store(&t->e, i->opsize == 2 ? 2 : 8, &to, H_T0);
}

/* The operation has rAX, and the host's RAX is free while the flags are in the host's. */
static void rax_in(struct trans *t)
{
    emit_mov_reg(&t->e, 8, RAX, H_RAX);
    image_lost(t);
}

static void rax_out(struct trans *t)
{
    emit_mov_reg(&t->e, 8, H_RAX, RAX);
}

static void lower_muldiv(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    const struct operand *o = &i->opd[0];
    struct parts p;
    struct hmem m;
    bool divides = i->op == OP_DIV || i->op == OP_IDIV;
    unsigned rm = H_NONE;
    take_apart(t, i, &p);
    if (o->kind == OPD_MEM)
        mem_access(t, o->size, ACCESS_READ, &m);
    flags_to_host(t);
    if (is_homed(o))
        m = hmem_vcpu(VCPU_AT(gpr) + 8 * o->reg);
    else if (o->kind == OPD_GPR)
        rm = host_reg(o->reg);
    if (o->kind == OPD_GPR8H) {
        emit_rorx(&t->e, 8, H_T0, host_reg(o->reg), 8);
        rm = H_T0;
    }
    rax_in(t);
    if (divides)
        trap_new(t, t->e.p);
    if (rm == H_NONE) {
        emit_op_mem(&t->e, &p.o, p.digit, &m);
    } else {
        p.o.byte_rm = p.o.size == 1;
        p.o.size = p.o.size == 1 ? 4 : p.o.size;
        emit_op_reg(&t->e, &p.o, p.digit, rm);
    }
    rax_out(t);
    flags_made(t);
}

static void lower_cmpxchg(struct trans *t)
{
    struct bound b[4];
    struct parts p;
    struct hmem m;
    take_apart(t, cur_insn(t), &p);
    bool mem = operand_check(t, &m);
    bind(t, b, mem);
    rax_in(t);
    emit_parts(t, &p, b, &m);
    rax_out(t);
    unbind(t, b);
    flags_made(t);
}

static void lower_cmpxchg_pair(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    struct parts p;
    struct hmem m;
    take_apart(t, i, &p);
    mem_access(t, i->opd[0].size, ACCESS_WRITE, &m);
    flags_to_host(t);
    rax_in(t);
    p.o.size = i->opd[0].size == 16 ? 8 : 4;
    trap_new(t, t->e.p);
    emit_op_mem(&t->e, &p.o, 1, &m);
    rax_out(t);
    flags_made(t);
}

/* A general register of the guest's to T1, or T0. */
static unsigned copy_of(struct trans *t, unsigned guest, unsigned tmp)
{
    struct hmem home = hmem_vcpu(VCPU_AT(gpr) + 8 * guest);
    if (host_reg(guest) == H_NONE)
        emit_load(&t->e, 8, tmp, &home);
    else
        emit_mov_reg(&t->e, 8, tmp, host_reg(guest));
    return tmp;
}

/* bt_cpu.operand = offset of the element that has the bit, in bytes. */
static void store_bit_offset(struct trans *t, const struct insn *i)
{
    struct hmem operand = hmem_vcpu(BT_AT(operand));
    unsigned size = t->wide ? 8 : 4, shift = i->opsize == 8 ? 3 : i->opsize / 2;
    copy_of(t, i->opd[1].reg, H_T1);
    if (i->opsize < size)
        emit_movsx(&t->e, size, i->opsize, H_T1, H_T1);
    emit_shift_imm(&t->e, SHIFT_SAR, size, H_T1, 3 + shift);
    emit_shift_imm(&t->e, SHIFT_SHL, size, H_T1, shift);
    emit_store(&t->e, 8, &operand, H_T1);
}

/* A bit of memory by a register: of the element that is accessed, the low bits of the register name
 * it. */
static void lower_bit_string(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    struct opcode test = {.size = i->opsize, .map = MAP_0F, .code = 0xa3};
    struct parts p;
    struct hmem m;
    take_apart(t, i, &p);
    flags_clobber(t);
    store_bit_offset(t, i);
    mem_access(t, i->opsize, i->opd[0].access & OPD_WRITE ? ACCESS_WRITE : ACCESS_READ, &m);
    mem_fold(t, &m);
    if (i->op == OP_BT) {
        emit_load(&t->e, i->opsize, H_T1, &m);
        unsigned bit = copy_of(t, i->opd[1].reg, H_T0);
        flags_to_host(t);
        emit_op_reg(&t->e, &test, bit, H_T1);
    } else {
        copy_of(t, i->opd[1].reg, H_T1);
        emit_alu_imm(&t->e, ALU_AND, 4, H_T1, i->opsize * 8 - 1);
        flags_to_host(t);
        emit_op_mem(&t->e, &p.o, H_T1, &m);
    }
    flags_made(t);
}

/* CBW and CWD and their kin. */
static void lower_extend(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    struct emit *e = &t->e;
    switch (i->op) {
    case OP_CBW:
        emit_movsx(e, 2, 1, H_RAX, H_RAX);
        break;
    case OP_CWDE:
        emit_movsx(e, 4, 2, H_RAX, H_RAX);
        break;
    case OP_CDQE:
        emit_movsx(e, 8, 4, H_RAX, H_RAX);
        break;
    case OP_CWD:
        emit_movsx(e, 4, 2, H_T1, H_RAX);
        emit_mov_imm(e, H_T0, 31);
        emit_sarx(e, 4, H_T1, H_T1, H_T0);
        emit_mov_reg(e, 2, RDX, H_T1);
        break;
    default:
        emit_mov_imm(e, H_T0, i->op == OP_CDQ ? 31 : 63);
        emit_sarx(e, i->op == OP_CDQ ? 4 : 8, RDX, H_RAX, H_T0);
        break;
    }
}

/* The arithmetic flags of AH, into the image. */
static void lower_sahf(struct trans *t)
{
    flags_image(t);
    rotate(t, RAX, 8);
    emit_rorx(&t->e, 8, H_T0, H_RAX, 8);
    emit_mov_reg(&t->e, 1, RAX, H_T0);
    rotate(t, RAX, 56);
    t->has_recipe = false;
}

static void lower_flag(struct trans *t)
{
    struct hmem flags = hmem_vcpu(VCPU_AT(rflags));
    const struct insn *i = cur_insn(t);
    switch (i->op) {
    case OP_CLD:
        flags_clobber(t);
        emit_alu_mem_imm(&t->e, ALU_AND, 4, &flags, ~(i32)FLAG_DF);
        break;
    case OP_STD:
        flags_clobber(t);
        emit_alu_mem_imm(&t->e, ALU_OR, 4, &flags, (i32)FLAG_DF);
        break;
    default:
        flags_to_host(t);
        emit8(&t->e, i->op == OP_CLC ? 0xf8 : i->op == OP_STC ? 0xf9 : 0xf5);
        flags_made(t);
        break;
    }
}

static void lower_raw(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    static const u8 pause[] = {0xf3, 0x90};
    if (i->op == OP_PAUSE) {
        emit8(&t->e, pause[0]);
        emit8(&t->e, pause[1]);
        return;
    }
    emit8(&t->e, 0x0f);
    emit8(&t->e, 0xae);
    emit8(&t->e, i->op == OP_LFENCE ? 0xe8 : i->op == OP_MFENCE ? 0xf0 : 0xf8);
}

static void lower_operation(struct trans *t, const struct insn *i)
{
    switch (i->op) {
    case OP_LEA:
        lower_lea(t);
        break;
    case OP_MUL:
    case OP_DIV:
    case OP_IDIV:
        lower_muldiv(t);
        break;
    case OP_IMUL:
        if (i->nopd == 1)
            lower_muldiv(t);
        else
            lower_generic(t);
        break;
    case OP_CMPXCHG:
        lower_cmpxchg(t);
        break;
    case OP_CMPXCHG8B:
    case OP_CMPXCHG16B:
        lower_cmpxchg_pair(t);
        break;
    case OP_CBW:
    case OP_CWDE:
    case OP_CDQE:
    case OP_CWD:
    case OP_CDQ:
    case OP_CQO:
        lower_extend(t);
        break;
    case OP_SAHF:
        lower_sahf(t);
        break;
    case OP_CLC:
    case OP_STC:
    case OP_CMC:
    case OP_CLD:
    case OP_STD:
        lower_flag(t);
        break;
    case OP_PAUSE:
    case OP_LFENCE:
    case OP_MFENCE:
    case OP_SFENCE:
        lower_raw(t);
        break;
    default:
        lower_generic(t);
        break;
    }
}

bool lower_integer(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    if (!can_integer(t, i))
        return false;
    if (is_bit_string(i))
        lower_bit_string(t);
    else if (!is_hint(i))
        lower_operation(t, i);
    return true;
}
