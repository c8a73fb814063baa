/*
 * From an instruction to its recipe: which registers, flags and memory it uses, by Zydis's list of
 * all operands, hidden ones too; and its bytes in a normal form for 64-bit mode: only the prefixes
 * that choose the operation, memory as [rsi], a general register as RAX, everything else as it was.
 */
#include <Zydis/Zydis.h>

#include "engine/sem/native.h"

#define MODRM_RSI 6 /* mod 0: [rsi] */

struct decoded {
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand opd[ZYDIS_MAX_OPERAND_COUNT];
    const u8 *raw;
    bool long64;
};

/* Bits of REX, or of VEX with the sense of REX. */
struct ext {
    u8 w, r, x, b;
};

static void decode(const struct insn *i, enum cpu_mode mode, struct decoded *d)
{
    ZydisDecoder decoder;
    d->raw = i->raw;
    d->long64 = mode == MODE_LONG64;
    if (d->long64)
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    else if (mode == MODE_PROT32 || mode == MODE_COMPAT32)
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    ZyanStatus status = ZydisDecoderDecodeFull(&decoder, i->raw, i->len, &d->insn, d->opd);
    assert(ZYAN_SUCCESS(status));
    (void)status;
}

/* --- what it uses --- */

static u8 opd_access(const ZydisDecodedOperand *o)
{
    u8 access = 0;
    if (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        access |= OPD_READ;
    if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        access |= OPD_WRITE;
    return access;
}

static void use_gpr(struct recipe *r, const ZydisDecodedOperand *o, u8 n)
{
    u8 access = opd_access(o);
    if (o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
        r->gpr = n;
        r->gpr_access |= access;
        return;
    }
    assert(n < RBX);
    if (access & OPD_READ)
        r->implicit_in |= (u8)BIT(n);
    if (access & OPD_WRITE)
        r->implicit_out |= (u8)BIT(n);
}

/* A vector register that is only written is loaded too: many instructions keep a part of it. */
static void use_vector(struct recipe *r, const ZydisDecodedOperand *o, u8 n)
{
    r->vec_load |= (u16)BIT(n);
    if (opd_access(o) & OPD_WRITE)
        r->vec_store |= (u16)BIT(n);
}

static void use_register(struct recipe *r, const ZydisDecodedOperand *o)
{
    u8 n = (u8)ZydisRegisterGetId(o->reg.value);
    switch (ZydisRegisterGetClass(o->reg.value)) {
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
        use_vector(r, o, n);
        break;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        use_gpr(r, o, n);
        break;
    case ZYDIS_REGCLASS_FLAGS:
        r->flags_in |= (opd_access(o) & OPD_READ) != 0;
        r->flags_out |= (opd_access(o) & OPD_WRITE) != 0;
        break;
    default: /* x87 and MMX are loaded as a whole */
        break;
    }
}

static void use_operands(struct recipe *r, const struct decoded *d)
{
    for (unsigned n = 0; n < d->insn.operand_count; n++) {
        const ZydisDecodedOperand *o = &d->opd[n];
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER)
            use_register(r, o);
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            r->mem_size = (u16)(o->size / 8);
            r->mem_access = opd_access(o);
        }
    }
}

static bool has_register(const struct decoded *d, ZydisRegisterClass class)
{
    for (unsigned n = 0; n < d->insn.operand_count; n++)
        if (d->opd[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(d->opd[n].reg.value) == class)
            return true;
    return false;
}

/* The conversions between MMX and XMM or memory are SSE instructions that, in any form, may also
 * change to MMX state; but for CVTPI2PD from memory, which has nothing to do with the x87 unit. */
static bool mmx_conversion(const struct decoded *d)
{
    ZydisMnemonic m = d->insn.mnemonic;
    if (m == ZYDIS_MNEMONIC_CVTPI2PD && !has_register(d, ZYDIS_REGCLASS_MMX))
        return false;
    return m == ZYDIS_MNEMONIC_CVTPI2PS || m == ZYDIS_MNEMONIC_CVTPI2PD ||
           m == ZYDIS_MNEMONIC_CVTPS2PI || m == ZYDIS_MNEMONIC_CVTPD2PI ||
           m == ZYDIS_MNEMONIC_CVTTPS2PI || m == ZYDIS_MNEMONIC_CVTTPD2PI;
}

static enum native_kind kind_of(const struct decoded *d)
{
    if (d->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        return NATIVE_AVX;
    if (d->insn.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
        return NATIVE_X87;
    bool xmm = has_register(d, ZYDIS_REGCLASS_XMM), mmx = has_register(d, ZYDIS_REGCLASS_MMX);
    if (mmx_conversion(d) || (xmm && mmx))
        return NATIVE_MMX_SSE;
    return mmx || d->insn.mnemonic == ZYDIS_MNEMONIC_EMMS ? NATIVE_MMX : NATIVE_SSE;
}

/* The exception classes (SDM vol. 2, 2.5) of instructions with SIMD floating-point exceptions are
 * those whose results may depend on MXCSR. */
static bool uses_mxcsr(const struct decoded *d)
{
    switch (d->insn.meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE3:
    case ZYDIS_EXCEPTION_CLASS_AVX2:
    case ZYDIS_EXCEPTION_CLASS_AVX3:
    case ZYDIS_EXCEPTION_CLASS_AVX11:
        return true;
    default:
        return false;
    }
}

/* --- its bytes --- */

static void put(struct recipe *r, unsigned byte)
{
    assert(r->len < sizeof(r->code));
    r->code[r->len++] = (u8)byte;
}

/* ModRM with memory as [rsi] and a general register as number 0. */
static u8 normal_modrm(const struct decoded *d, struct ext *e)
{
    const ZydisDecodedInstruction *zi = &d->insn;
    u8 reg = zi->raw.modrm.reg, rm = zi->raw.modrm.rm, mod = zi->raw.modrm.mod;
    for (unsigned n = 0; n < zi->operand_count_visible; n++) {
        const ZydisDecodedOperand *o = &d->opd[n];
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        ZydisRegisterClass class = ZydisRegisterGetClass(o->reg.value);
        if (class != ZYDIS_REGCLASS_GPR32 && class != ZYDIS_REGCLASS_GPR64)
            continue;
        if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
            reg = e->r = 0;
        if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            rm = e->b = 0;
    }
    if (mod != 3) {
        mod = e->x = e->b = 0;
        rm = MODRM_RSI;
    }
    return (u8)(mod << 6 | reg << 3 | rm);
}

/* Non-temporal stores become ordinary ones: they go to memory that others may look at without the
 * fence that the guest has yet to execute, and a bounce buffer would lose its cache line. */
static u8 normal_opcode(const ZydisDecodedInstruction *zi)
{
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_MOVNTPS:
    case ZYDIS_MNEMONIC_MOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
        return 0x29; /* MOVAPS, MOVAPD */
    case ZYDIS_MNEMONIC_MOVNTQ:
    case ZYDIS_MNEMONIC_MOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
        return 0x7f; /* MOVQ, MOVDQA */
    default:
        return zi->opcode;
    }
}

static void put_x87(struct recipe *r, const struct decoded *d)
{
    struct ext none = {0};
    u8 modrm = normal_modrm(d, &none);
    put(r, d->insn.opcode);
    put(r, modrm);
    r->fop = (u16)((d->insn.opcode & 7) << 8 | d->raw[d->insn.raw.modrm.offset]);
}

static void put_legacy(struct recipe *r, const struct decoded *d)
{
    const ZydisDecodedInstruction *zi = &d->insn;
    struct ext e = {zi->raw.rex.W, zi->raw.rex.R, zi->raw.rex.X, zi->raw.rex.B};
    bool has_modrm = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    u8 modrm = has_modrm ? normal_modrm(d, &e) : 0;

    for (unsigned n = 0; n < zi->raw.prefix_count; n++)
        if (zi->raw.prefixes[n].type == ZYDIS_PREFIX_TYPE_MANDATORY)
            put(r, zi->raw.prefixes[n].value);
    if (e.w | e.r | e.x | e.b)
        put(r, 0x40u | e.w << 3 | e.r << 2 | e.x << 1 | e.b);
    put(r, 0x0f);
    if (zi->opcode_map == ZYDIS_OPCODE_MAP_0F38)
        put(r, 0x38);
    if (zi->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
        put(r, 0x3a);
    put(r, normal_opcode(zi));
    if (has_modrm)
        put(r, modrm);
}

/* Outside 64-bit mode W does not widen a general register or its memory form (SDM vol. 2, table
 * 2-9); in the thunk it would. */
static bool width_is_ignored(const struct decoded *d)
{
    switch (d->insn.mnemonic) {
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSD2SI:
    case ZYDIS_MNEMONIC_VCVTSS2SI:
    case ZYDIS_MNEMONIC_VCVTTSD2SI:
    case ZYDIS_MNEMONIC_VCVTTSS2SI:
    case ZYDIS_MNEMONIC_VMOVD:
        return !d->long64;
    default:
        return false;
    }
}

/* Always the three-byte form. Outside 64-bit mode the highest bit of each register number is
 * ignored where it can be encoded at all (SDM vol. 2, 2.3.5). */
static void put_vex(struct recipe *r, const struct decoded *d)
{
    const u8 *vex = d->raw + d->insn.raw.vex.offset;
    bool two = d->insn.raw.vex.size == 2;
    u8 first = two ? (u8)((vex[1] & 0x80) | 0x61) : vex[1];
    u8 last = two ? vex[1] & 0x7f : vex[2];
    if (!d->long64) {
        first |= 0xe0;
        last |= 0x40;
    }
    if (width_is_ignored(d))
        last &= 0x7f;
    struct ext e = {0, !(first & 0x80), !(first & 0x40), !(first & 0x20)};
    u8 modrm = normal_modrm(d, &e);
    put(r, 0xc4);
    put(r, !e.r << 7 | !e.x << 6 | !e.b << 5 | (first & 0x1f));
    put(r, last);
    put(r, normal_opcode(&d->insn));
    put(r, modrm);
}

static void put_immediate(struct recipe *r, const struct decoded *d)
{
    if (!d->insn.raw.imm[0].size)
        return;
    u8 imm = d->raw[d->insn.raw.imm[0].offset];
    for (unsigned n = 0; n < d->insn.operand_count; n++)
        if (d->opd[n].encoding == ZYDIS_OPERAND_ENCODING_IS4 && !d->long64)
            imm &= 0x7f;
    put(r, imm);
}

/* Which memory operands must be aligned to their size (SDM vol. 1, 15.7 and vol. 2, table 2-18). */
static bool must_align(const struct decoded *d, const struct recipe *r)
{
    switch (d->insn.mnemonic) {
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
        return true;
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
    case ZYDIS_MNEMONIC_SHA1MSG1: /* AMD does not check these; where the host does, the thunk will
                                   */
    case ZYDIS_MNEMONIC_SHA1MSG2:
    case ZYDIS_MNEMONIC_SHA1NEXTE:
    case ZYDIS_MNEMONIC_SHA1RNDS4:
    case ZYDIS_MNEMONIC_SHA256MSG1:
    case ZYDIS_MNEMONIC_SHA256MSG2:
    case ZYDIS_MNEMONIC_SHA256RNDS2:
        return false;
    default:
        return r->mem_size == 16 && (r->kind == NATIVE_SSE || r->kind == NATIVE_MMX_SSE);
    }
}

void recipe_make(const struct insn *i, enum cpu_mode mode, bool align_check, struct recipe *r)
{
    struct decoded d;
    decode(i, mode, &d);
    memset(r, 0, sizeof(*r));
    r->gpr = REG_NONE;
    r->align_check = align_check;
    r->kind = (u8)kind_of(&d);
    use_operands(r, &d);
    r->mxcsr = uses_mxcsr(&d);
    r->must_align = must_align(&d, r);
    if (r->kind == NATIVE_X87)
        put_x87(r, &d);
    else if (r->kind == NATIVE_AVX)
        put_vex(r, &d);
    else
        put_legacy(r, &d);
    put_immediate(r, &d);
}
