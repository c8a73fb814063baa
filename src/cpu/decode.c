/*
 * From bytes to struct insn. Zydis knows the encodings; this file brings its answer into the
 * compact form that engines work on: our operation numbers, operand kinds, effective sizes, and
 * prefixes only where they mean something. Instruction sets that no guest is offered are invalid
 * here.
 */
#include "cpu/decode_zydis.h"

/* Rows of insn.def that are not Zydis mnemonics (see insn.h) get numbers behind Zydis's last. */
enum our_mnemonic {
    ZYDIS_MNEMONIC_MOV_SEG = ZYDIS_MNEMONIC_MAX_VALUE + 1,
    ZYDIS_MNEMONIC_MOV_CR,
    ZYDIS_MNEMONIC_MOV_DR,
    ZYDIS_MNEMONIC_PUSH_SEG,
    ZYDIS_MNEMONIC_POP_SEG,
    ZYDIS_MNEMONIC_JMP_FAR,
    ZYDIS_MNEMONIC_CALL_FAR,
    ZYDIS_MNEMONIC_RET_FAR,
    ZYDIS_MNEMONIC_JMP_IND,
    ZYDIS_MNEMONIC_CALL_IND,
    ZYDIS_MNEMONIC_MOVS,
    ZYDIS_MNEMONIC_CMPS,
    ZYDIS_MNEMONIC_STOS,
    ZYDIS_MNEMONIC_LODS,
    ZYDIS_MNEMONIC_SCAS,
    MNEMONIC_COUNT
};

static const u16 op_of_mnemonic[MNEMONIC_COUNT] = {
#define INSN(mnemonic, sem, class, flags) [ZYDIS_MNEMONIC_##mnemonic] = OP_##mnemonic,
#include "cpu/insn.def"
#undef INSN
};

const struct op_info op_info[OP_COUNT] = {
    [OP_INVALID] = {"(bad)", CLASS_SYSTEM, INSN_END | INSN_NOT_YET},
#define INSN(mnemonic, sem, class, flags) [OP_##mnemonic] = {#mnemonic, CLASS_##class, flags},
#include "cpu/insn.def"
#undef INSN
};

#define DECODER(machine, width, amd)                                                               \
    {                                                                                              \
        ZYDIS_MACHINE_MODE_##machine, ZYDIS_STACK_WIDTH_##width,                                   \
        {                                                                                          \
            [ZYDIS_DECODER_MODE_AMD_BRANCHES] = (amd), [ZYDIS_DECODER_MODE_LZCNT] = 1,             \
            [ZYDIS_DECODER_MODE_TZCNT] = 1                                                         \
        }                                                                                          \
    }
#define DECODERS(amd)                                                                              \
    {                                                                                              \
        [MODE_REAL] = DECODER(REAL_16, 16, amd), [MODE_V86] = DECODER(REAL_16, 16, amd),           \
        [MODE_PROT16] = DECODER(LEGACY_16, 16, amd), [MODE_PROT32] = DECODER(LEGACY_32, 32, amd),  \
        [MODE_COMPAT16] = DECODER(LONG_COMPAT_16, 16, amd),                                        \
        [MODE_COMPAT32] = DECODER(LONG_COMPAT_32, 32, amd),                                        \
        [MODE_LONG64] = DECODER(LONG_64, 64, amd),                                                 \
    }

static const ZydisDecoder decoders[2][MODE_LONG64 + 1] = {DECODERS(0), DECODERS(1)};

bool host_is_amd(void)
{
    return __builtin_cpu_is("amd");
}

const ZydisDecoder *zydis_decoder(enum cpu_mode mode)
{
    return &decoders[host_is_amd()][mode];
}

static bool is_register(const ZydisDecodedOperand *o, ZydisRegisterClass class)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(o->reg.value) == class;
}

/* MOV, PUSH or POP of a special register. */
static unsigned special_register(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zo)
{
    for (unsigned n = 0; n < zi->operand_count_visible; n++) {
        if (is_register(&zo[n], ZYDIS_REGCLASS_SEGMENT))
            return zi->mnemonic == ZYDIS_MNEMONIC_MOV    ? ZYDIS_MNEMONIC_MOV_SEG
                   : zi->mnemonic == ZYDIS_MNEMONIC_PUSH ? ZYDIS_MNEMONIC_PUSH_SEG
                                                         : ZYDIS_MNEMONIC_POP_SEG;
        if (is_register(&zo[n], ZYDIS_REGCLASS_CONTROL))
            return ZYDIS_MNEMONIC_MOV_CR;
        if (is_register(&zo[n], ZYDIS_REGCLASS_DEBUG))
            return ZYDIS_MNEMONIC_MOV_DR;
    }
    return zi->mnemonic;
}

static unsigned branch_kind(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zo,
                            unsigned far, unsigned indirect)
{
    if (zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return far;
    if (zi->operand_count_visible && zo[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return indirect;
    return zi->mnemonic;
}

static unsigned resolve_mnemonic(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zo)
{
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
        return special_register(zi, zo);
    case ZYDIS_MNEMONIC_JMP:
        return branch_kind(zi, zo, ZYDIS_MNEMONIC_JMP_FAR, ZYDIS_MNEMONIC_JMP_IND);
    case ZYDIS_MNEMONIC_CALL:
        return branch_kind(zi, zo, ZYDIS_MNEMONIC_CALL_FAR, ZYDIS_MNEMONIC_CALL_IND);
    case ZYDIS_MNEMONIC_RET:
        return branch_kind(zi, zo, ZYDIS_MNEMONIC_RET_FAR, ZYDIS_MNEMONIC_RET);
    default:
        break;
    }
    if (zi->meta.category != ZYDIS_CATEGORY_STRINGOP)
        return zi->mnemonic;
    switch (zi->opcode & 0xfe) {
    case 0xa4:
        return ZYDIS_MNEMONIC_MOVS;
    case 0xa6:
        return ZYDIS_MNEMONIC_CMPS;
    case 0xaa:
        return ZYDIS_MNEMONIC_STOS;
    case 0xac:
        return ZYDIS_MNEMONIC_LODS;
    default:
        return ZYDIS_MNEMONIC_SCAS;
    }
}

static u8 register_number(ZydisRegister reg)
{
    return reg == ZYDIS_REGISTER_NONE ? REG_NONE : (u8)ZydisRegisterGetId(reg);
}

/* Zydis numbers the byte registers AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B... */
static void convert_gpr8(ZydisRegister reg, struct operand *o)
{
    unsigned n = reg - ZYDIS_REGISTER_AL;
    o->kind = n >= 4 && n < 8 ? OPD_GPR8H : OPD_GPR;
    o->reg = (u8)(n < 4 ? n : n - 4);
    if (o->kind == OPD_GPR8H)
        o->reg = (u8)(n & 3);
}

static bool convert_register(ZydisRegister reg, struct operand *o)
{
    static const u8 kind_of_class[ZYDIS_REGCLASS_MAX_VALUE + 1] = {
        [ZYDIS_REGCLASS_GPR16] = OPD_GPR,  [ZYDIS_REGCLASS_GPR32] = OPD_GPR,
        [ZYDIS_REGCLASS_GPR64] = OPD_GPR,  [ZYDIS_REGCLASS_X87] = OPD_ST,
        [ZYDIS_REGCLASS_MMX] = OPD_MMX,    [ZYDIS_REGCLASS_XMM] = OPD_XMM,
        [ZYDIS_REGCLASS_YMM] = OPD_YMM,    [ZYDIS_REGCLASS_SEGMENT] = OPD_SEG,
        [ZYDIS_REGCLASS_CONTROL] = OPD_CR, [ZYDIS_REGCLASS_DEBUG] = OPD_DR,
    };
    ZydisRegisterClass class = ZydisRegisterGetClass(reg);
    if (class == ZYDIS_REGCLASS_GPR8) {
        convert_gpr8(reg, o);
        return true;
    }
    o->kind = kind_of_class[class];
    o->reg = register_number(reg);
    return o->kind != OPD_NONE;
}

static u8 log2_scale(u8 scale)
{
    return (u8)(scale > 1 ? __builtin_ctz(scale) : 0);
}

static void convert_memory(const ZydisDecodedOperand *z, struct operand *o, struct insn *out)
{
    ZydisRegister base = z->mem.base;
    o->kind = OPD_MEM;
    if (z->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
        o->size = o->access = 0;
    out->seg = register_number(z->mem.segment);
    out->base =
        base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP ? REG_RIP : register_number(base);
    out->index = register_number(z->mem.index);
    out->scale = log2_scale(z->mem.scale);
    out->disp = z->mem.disp.value;
}

/* n-th immediate, counted over the operands. */
static void convert_immediate(const ZydisDecodedOperand *z, struct operand *o, struct insn *out,
                              bool first)
{
    u64 value = z->imm.is_signed ? (u64)z->imm.value.s : z->imm.value.u;
    o->kind = z->imm.is_relative ? OPD_REL : first ? OPD_IMM : OPD_IMM2;
    if (first)
        out->imm = value;
    else
        out->imm2 = (u16)value;
}

/* Mod 0 with SIB base 5 means a displacement and no base, whatever REX.B says (SDM vol. 2, table
 * 2-5); Zydis 4.0 takes R13 for the base. */
static void correct_sib_base(const ZydisDecodedInstruction *zi, struct insn *out)
{
    if (!(zi->attributes & ZYDIS_ATTRIB_HAS_SIB) || zi->raw.modrm.mod != 0 || zi->raw.sib.base != 5)
        return;
    out->base = REG_NONE;
    out->disp = zi->raw.disp.value;
}

static u8 encoding_of(const ZydisDecodedOperand *z)
{
    switch (z->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        return ENC_REG;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        return ENC_RM;
    case ZYDIS_OPERAND_ENCODING_OPCODE:
        return ENC_OPCODE;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        return ENC_VVVV;
    case ZYDIS_OPERAND_ENCODING_IS4:
        return ENC_IS4;
    default:
        return ENC_NONE;
    }
}

static bool convert_operand(const ZydisDecodedOperand *z, struct insn *out, bool *have_imm)
{
    struct operand *o = &out->opd[out->nopd++];
    o->size = (u16)(z->size / 8);
    o->enc = encoding_of(z);
    if (z->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        o->access |= OPD_READ;
    if (z->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        o->access |= OPD_WRITE;
    switch (z->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        return convert_register(z->reg.value, o);
    case ZYDIS_OPERAND_TYPE_MEMORY:
        convert_memory(z, o, out);
        return true;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        convert_immediate(z, o, out, !*have_imm);
        *have_imm = true;
        return true;
    case ZYDIS_OPERAND_TYPE_POINTER: /* two operands of ours: offset, selector */
        o->kind = OPD_IMM;
        o->size = out->opsize;
        out->imm = z->ptr.offset;
        out->imm2 = z->ptr.segment;
        out->opd[out->nopd++] = (struct operand){.kind = OPD_IMM2, .access = OPD_READ, .size = 2};
        return true;
    default:
        return false;
    }
}

static bool convert_operands(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zo,
                             struct insn *out)
{
    bool have_imm = false;
    if (zi->operand_count_visible > ARRAY_SIZE(out->opd))
        return false;
    for (unsigned n = 0; n < zi->operand_count_visible; n++)
        if (!convert_operand(&zo[n], out, &have_imm))
            return false;
    correct_sib_base(zi, out);
    return true;
}

/* The segment of an implicit memory operand: DS unless a prefix says otherwise. */
static u8 default_segment(const ZydisDecodedInstruction *zi, enum cpu_mode mode)
{
    ZydisInstructionAttributes a = zi->attributes;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
        return SEG_FS;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
        return SEG_GS;
    if (mode == MODE_LONG64)
        return SEG_DS;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_CS)
        return SEG_CS;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_SS)
        return SEG_SS;
    return a & ZYDIS_ATTRIB_HAS_SEGMENT_ES ? SEG_ES : SEG_DS;
}

/* REP as the CPU takes it: the last of F2 and F3 counts, and only CMPS and SCAS tell them apart. */
static u8 rep_prefix(const ZydisDecodedInstruction *zi, unsigned op)
{
    u8 last = 0;
    for (unsigned n = 0; n < zi->raw.prefix_count; n++)
        if (zi->raw.prefixes[n].value == 0xf2 || zi->raw.prefixes[n].value == 0xf3)
            last = zi->raw.prefixes[n].value;
    if (!last)
        return 0;
    return last == 0xf2 && (op == OP_CMPS || op == OP_SCAS) ? PFX_REPNE : PFX_REP;
}

static bool is_string(const ZydisDecodedInstruction *zi)
{
    return zi->meta.category == ZYDIS_CATEGORY_STRINGOP ||
           zi->meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
}

static u8 operand_size(const ZydisDecodedInstruction *zi, unsigned op)
{
    bool no_words = zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX || op == OP_MOVNTI ||
                    op == OP_ADCX || op == OP_ADOX; /* 4 bytes in 16-bit code, too */
    switch (zi->operand_width) {
    case 16:
        return no_words ? 4 : 2;
    case 8:
    case 64:
        return zi->operand_width / 8;
    default:
        return 4;
    }
}

/* AMD CPUs obey 0x66 before every near branch in 64-bit mode (APM vol. 3, "Near branches in 64-bit
 * mode"); Zydis knows it for those with a 32-bit displacement only. */
static void amd_branch_size(const ZydisDecodedInstruction *zi, struct insn *out)
{
    if (out->cls != CLASS_BRANCH && out->cls != CLASS_CALL && out->cls != CLASS_INDIRECT)
        return;
    if (!(zi->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) || zi->raw.rex.W)
        return;
    out->opsize = 2;
    if (out->nopd && out->opd[0].kind != OPD_REL && out->opd[0].kind != OPD_IMM)
        out->opd[0].size = 2;
}

/* F3 90 is PAUSE, but with REX.B it is XCHG r8, rAX as without F3. */
static void pause_as_xchg(struct insn *out)
{
    out->op = OP_XCHG;
    out->nopd = 2;
    out->opd[0] = (struct operand){OPD_GPR, R8, OPD_READ | OPD_WRITE, out->opsize, ENC_OPCODE};
    out->opd[1] = (struct operand){OPD_GPR, RAX, OPD_READ | OPD_WRITE, out->opsize, ENC_NONE};
}

static enum decode_status failure(ZyanStatus status)
{
    if (status == ZYDIS_STATUS_NO_MORE_DATA)
        return DECODE_SHORT;
    return status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? DECODE_TOO_LONG : DECODE_INVALID;
}

/* What Zydis takes for valid and the CPU does not. */
static bool host_rejects(const ZydisDecodedInstruction *zi, unsigned op, enum cpu_mode mode)
{
    /* PREFETCH of a register: a NOP on Intel CPUs only. */
    if (zi->meta.isa_set == ZYDIS_ISA_SET_PREFETCH_NOP && op == OP_NOP && host_is_amd())
        return true;
    /* VPINSRQ and VPEXTRQ do not turn into their 32-bit forms outside 64-bit mode, unlike VMOVQ. */
    return (op == OP_VPINSRD || op == OP_VPEXTRD) && mode != MODE_LONG64 && zi->raw.vex.W;
}

static enum decode_status convert(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zo,
                                  const u8 *bytes, enum cpu_mode mode, struct insn *out)
{
    enum cpu_feature feature;
    unsigned op = op_of_mnemonic[resolve_mnemonic(zi, zo)];
    if (op == OP_INVALID || !isa_feature(zi->meta.isa_set, mode, &feature))
        return DECODE_INVALID;
    if (host_rejects(zi, op, mode))
        return DECODE_INVALID;
    *out = (struct insn){
        .op = (u16)op,
        .len = zi->length,
        .opsize = operand_size(zi, op),
        .addrsize = zi->address_width / 8,
        .seg = default_segment(zi, mode),
        .base = REG_NONE,
        .index = REG_NONE,
        .cls = op_info[op].cls,
        .flags = op_info[op].flags,
        .feature = (u8)feature,
        .modrm_at = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM ? zi->raw.modrm.offset : 0,
        .imm_at = zi->raw.imm[0].size ? zi->raw.imm[0].offset : 0,
    };
    memcpy(out->raw, bytes, zi->length);
    if (zi->attributes & ZYDIS_ATTRIB_HAS_LOCK)
        out->prefix |= PFX_LOCK;
    if (is_string(zi)) {
        out->prefix |= rep_prefix(zi, op);
        if (out->prefix)
            out->flags |= INSN_END;
    }
    if (!convert_operands(zi, zo, out))
        return DECODE_INVALID;
    if (op == OP_PAUSE && zi->raw.rex.B)
        pause_as_xchg(out);
    if (mode == MODE_LONG64 && host_is_amd())
        amd_branch_size(zi, out);
    return DECODE_OK;
}

enum decode_status decode_with_zydis(const u8 *bytes, unsigned n, enum cpu_mode mode,
                                     struct insn *out, ZydisDecodedInstruction *zi)
{
    const ZydisDecoder *decoder = zydis_decoder(mode);
    ZydisDecodedOperand zo[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecoderContext context;

    if (n == 0)
        return DECODE_SHORT;
    ZyanStatus status = ZydisDecoderDecodeInstruction(decoder, &context, bytes, n, zi);
    if (ZYAN_SUCCESS(status))
        status = ZydisDecoderDecodeOperands(decoder, &context, zi, zo, zi->operand_count_visible);
    if (ZYAN_FAILED(status))
        return failure(status);
    return convert(zi, zo, bytes, mode, out);
}

enum decode_status insn_decode(const u8 *bytes, unsigned n, enum cpu_mode mode, struct insn *out)
{
    ZydisDecodedInstruction zi;
    return decode_with_zydis(bytes, n, mode, out, &zi);
}
