/*
 * x87, MMX, SSE and AVX instructions: copied, with their memory operand checked and their general
 * registers mapped. The guest's state has to be in the host's registers: each fragment makes sure
 * of that before its first such instruction. What they raise comes as a signal; C then executes the
 * instruction and raises the guest's fault.
 */
#include "engine/bt/trans.h"
#include "engine/sem/sem_fpu.h"

static bool has_operand(const struct insn *i, enum operand_kind kind)
{
    for (unsigned n = 0; n < i->nopd; n++)
        if (i->opd[n].kind == kind)
            return true;
    return false;
}

/* Instructions that are not made by a thunk in the interpreter, but can be copied. */
static bool is_control(const struct trans *t, const struct insn *i)
{
    switch (i->op) {
    case OP_FLDCW:
    case OP_FNSTCW:
    case OP_FNSTSW:
    case OP_LDMXCSR:
    case OP_STMXCSR:
    case OP_VLDMXCSR:
    case OP_VSTMXCSR:
    case OP_FWAIT:
        return true;
    case OP_VZEROUPPER: /* elsewhere it leaves YMM8 to YMM15 alone */
        return t->wide;
    default:
        return false;
    }
}

/* Lengths in rAX and rDX. */
static bool has_lengths(const struct insn *i)
{
    switch (i->op) {
    case OP_PCMPESTRI:
    case OP_PCMPESTRM:
    case OP_VPCMPESTRI:
    case OP_VPCMPESTRM:
        return true;
    default:
        return false;
    }
}

static bool is_x87(const struct opcode *o)
{
    return !o->vex && o->map == MAP_1; /* D8 to DF, FWAIT */
}

/* When these raise #XM, the host's x87 registers have already become MMX registers. */
static bool changes_before_fault(const struct insn *i)
{
    switch (i->op) {
    case OP_CVTPI2PS:
    case OP_CVTPS2PI:
    case OP_CVTTPS2PI:
    case OP_CVTPD2PI:
    case OP_CVTTPD2PI:
        return true;
    default:
        return false;
    }
}

/* Which units it needs, as KEY_* bits. */
static u8 units(const struct insn *i, const struct opcode *o)
{
    if (o->vex)
        return KEY_AVX;
    if (is_x87(o) || i->op == OP_EMMS)
        return KEY_X87;
    bool mmx = has_operand(i, OPD_MMX);
    return (u8)((mmx ? KEY_X87 : 0) | (has_operand(i, OPD_XMM) || !mmx ? KEY_SSE : 0));
}

bool can_native(const struct trans *t, const struct insn *i)
{
    struct opcode o;
    if ((i->cls != CLASS_FPU && i->cls != CLASS_SIMD) || i->flags & INSN_NOT_YET)
        return false;
    if (!(i->flags & INSN_NATIVE) && !is_control(t, i))
        return false;
    if (changes_before_fault(i) || (has_operand(i, OPD_MEM) && !mem_quick(t, i)))
        return false;
    opcode_of(i, t->wide, &o);
    u8 need = units(i, &o);
    unsigned homed = 0;
    for (unsigned n = 0; n < i->nopd; n++)
        homed += i->opd[n].kind == OPD_GPR && host_reg(i->opd[n].reg) == H_NONE;
    return (t->key.bits & need) == need && homed <= 1 &&
           !(is_x87(&o) && has_operand(i, OPD_GPR) && i->op != OP_FNSTSW);
}

/* --- the state --- */

static void emit_fpu_ready(struct trans *t)
{
    struct site *s;
    struct hmem live = hmem_vcpu(BT_AT(fp_live));
    if (t->fpu_ready)
        return;
    u32 n = site_new(t, SITE_FPU, &s);
    flags_clobber(t);
    emit_alu_mem_imm(&t->e, ALU_CMP, 1, &live, 0);
    u8 *from = emit_jcc(&t->e, 4, NULL);
    struct cold *c = cold_new(t, n);
    c->from[0] = from;
    c->after = t->form;
    c->resume = t->e.p;
    t->fpu_ready = true;
    t->e.t0_lost = true; /* behind the cold code */
}

/* Does a later instruction of the TU set FIP and FOP, too? Whoever leaves before that stores them
 * (struct site). */
static bool pointers_are_set_later(const struct trans *t)
{
    for (unsigned n = t->cur + 1; n < t->n; n++) {
        const struct insn *i = &t->insn[n];
        struct opcode o;
        if (t->facts[n].callout || i->cls == CLASS_BRANCH)
            return false;
        if (i->cls != CLASS_FPU || !(i->flags & INSN_NATIVE))
            continue;
        opcode_of(i, t->wide, &o);
        if (is_x87(&o))
            return true;
    }
    return false;
}

static void store_selector(struct trans *t, size_t to, unsigned seg)
{
    struct hmem from = hmem_vcpu(VCPU_AT(seg) + seg * sizeof(struct segment)), at = hmem_vcpu(to);
    emit_load(&t->e, 2, H_T1, &from);
    emit_store(&t->e, 2, &at, H_T1);
}

/* FIP, FDP and FOP are the guest's addresses, kept in memory; the host's registers have ours. */
static void set_pointers(struct trans *t, const struct insn *i, u8 code)
{
    struct hmem fop = hmem_vcpu(VCPU_AT(fpu.legacy.fop)), fip = hmem_vcpu(VCPU_AT(fpu.legacy.fip)),
                fdp = hmem_vcpu(VCPU_AT(fpu.legacy.fdp));
    t->late = pointers_are_set_later(t);
    t->late_off = t->off[t->cur];
    t->late_fop = (u16)((code & 7) << 8 | i->raw[i->modrm_at]);
    if (!t->late) {
        emit_store_imm(&t->e, 2, &fop, t->late_fop);
        emit_mov_rip(t, H_T1, off_rip(t, t->off[t->cur]));
        emit_store(&t->e, 8, &fip, H_T1);
        store_selector(t, VCPU_AT(fpu.fip_sel), SEG_CS);
    }
    if (has_operand(i, OPD_MEM)) {
        mem_lea(t, i, H_T1, t->wide ? 8 : 4);
        emit_store(&t->e, 8, &fdp, H_T1);
        store_selector(t, VCPU_AT(fpu.fdp_sel), i->seg);
    }
}

/* --- emission --- */

static unsigned host_operand(const struct operand *o, unsigned homed)
{
    if (o->kind != OPD_GPR)
        return o->reg;
    unsigned host = host_reg(o->reg);
    return host == H_NONE ? homed : host;
}

/* The operand that is a general register with the other encoding: its size is VEX.W's in 64-bit
 * code only. */
static bool has_integer_in_memory(const struct insn *i)
{
    switch (i->op) {
    case OP_VCVTSI2SD:
    case OP_VCVTSI2SS:
    case OP_VMOVD:
    case OP_VPINSRD:
    case OP_VPEXTRD:
        return has_operand(i, OPD_MEM);
    default:
        return false;
    }
}

/* Operands as the encoding has them; reg and rm are what ModRM has where there is no operand. */
static void emit_copy(struct trans *t, const struct insn *i, struct opcode *o, const struct hmem *m,
                      unsigned homed)
{
    unsigned modrm = i->raw[i->modrm_at], reg = modrm >> 3 & 7, rm = modrm & 7;
    bool gpr = false, is4 = false;
    for (unsigned n = 0; n < i->nopd; n++) {
        const struct operand *d = &i->opd[n];
        gpr |= d->kind == OPD_GPR;
        is4 |= d->enc == ENC_IS4;
        if (d->kind == OPD_MEM || d->kind == OPD_IMM)
            continue;
        if (d->enc == ENC_REG)
            reg = host_operand(d, homed);
        else if (d->enc == ENC_RM)
            rm = host_operand(d, homed);
        else if (d->enc == ENC_VVVV)
            o->vvvv = (u8)host_operand(d, homed);
    }
    if (!t->wide && (gpr || has_integer_in_memory(i) || has_lengths(i)))
        o->w = 0;
    if (has_operand(i, OPD_MEM))
        emit_op_mem(&t->e, o, reg, m);
    else
        emit_op_reg(&t->e, o, reg, rm);
    emit_imms(t, i);
    if (is4 && !t->wide) /* registers 8 to 15 are 0 to 7 there */
        t->e.p[-1] &= 0x7f;
}

static void emit_without_modrm(struct trans *t, const struct opcode *o)
{
    if (o->vex) { /* VZEROUPPER */
        emit8(&t->e, 0xc5);
        emit8(&t->e, 0xf8);
    } else if (o->map == MAP_0F) {
        emit8(&t->e, 0x0f);
    }
    emit8(&t->e, o->code);
}

/* FNSTSW AX, through memory. */
static void lower_fnstsw_ax(struct trans *t)
{
    struct hmem tmp = hmem_vcpu(BT_AT(operand));
    struct opcode o = {.size = 4, .code = 0xdd};
    emit_op_mem(&t->e, &o, 7, &tmp);
    emit_load(&t->e, 4, H_T0, &tmp);
    emit_mov_reg(&t->e, 2, H_RAX, H_T0);
}

/* The host may know bits that the guest's processor does not: with one of these set, C executes it,
 * and raises the fault. */
static void lower_ldmxcsr(struct trans *t)
{
    struct emit *e = &t->e;
    struct hmem m, value = hmem_vcpu(BT_AT(operand));
    struct opcode test = {.size = 4, .code = 0xf7},
                  ldmxcsr = {.size = 4, .map = MAP_0F, .code = 0xae};
    mem_access(t, 4, ACCESS_READ, &m);
    emit_load(e, 4, H_T1, &m);
    flags_clobber(t);
    emit_op_reg(e, &test, 0, H_T1);
    emit32(e, ~fpu_mxcsr_mask(t->v));
    u8 *from = emit_jcc(e, 5, NULL);
    cold_new(t, site_new(t, SITE_FAULT, NULL))->from[0] = from;
    emit_store(e, 4, &value, H_T1);
    emit_op_mem(e, &ldmxcsr, 2, &value);
}

static const struct operand *homed_operand(const struct insn *i)
{
    for (unsigned n = 0; n < i->nopd; n++)
        if (i->opd[n].kind == OPD_GPR && host_reg(i->opd[n].reg) == H_NONE)
            return &i->opd[n];
    return NULL;
}

static void emit_with_operands(struct trans *t, const struct insn *i, struct opcode *o)
{
    const struct operand *homed = homed_operand(i);
    struct hmem m, home;
    for (unsigned n = 0; n < i->nopd; n++)
        if (i->opd[n].kind == OPD_MEM && i->opd[n].size)
            mem_access(t, i->opd[n].size, i->opd[n].access & OPD_WRITE ? ACCESS_WRITE : ACCESS_READ,
                       &m);
    if (homed) {
        if (has_operand(i, OPD_MEM))
            mem_fold(t, &m);
        home = hmem_vcpu(VCPU_AT(gpr) + 8 * homed->reg);
        emit_load(&t->e, 8, H_T1, &home);
    }
    if (t->facts[t->cur].reads || t->form == FORM_RECIPE || has_lengths(i))
        flags_to_host(t);
    if (has_lengths(i)) {
        emit_mov_reg(&t->e, 8, RAX, H_RAX);
        image_lost(t);
    }
    trap_new(t, t->e.p);
    if (i->modrm_at)
        emit_copy(t, i, o, &m, H_T1);
    else
        emit_without_modrm(t, o);
    if (homed && homed->access & OPD_WRITE)
        emit_store(&t->e, 8, &home, H_T1);
}

bool lower_native(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    struct opcode o;
    if (!can_native(t, i))
        return false;
    opcode_of(i, t->wide, &o);
    emit_fpu_ready(t);
    if (i->op == OP_FNSTSW && i->opd[0].kind == OPD_GPR)
        lower_fnstsw_ax(t);
    else if (i->op == OP_LDMXCSR || i->op == OP_VLDMXCSR)
        lower_ldmxcsr(t);
    else
        emit_with_operands(t, i, &o);
    if (t->facts[t->cur].writes != FLAGS_NONE)
        flags_made(t);
    if (is_x87(&o) && i->flags & INSN_NATIVE)
        set_pointers(t, i, o.code);
    return true;
}
