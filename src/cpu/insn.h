/*
 * A decoded instruction in compact form, and the list of all operations. decode.c fills it from
 * Zydis; the semantic functions (engine/sem/) execute it; a translator classifies it. Facts about
 * an operation stand once, in its row of insn.def.
 */
#ifndef RINGER_CPU_INSN_H
#define RINGER_CPU_INSN_H

#include "cpu/state.h"

/* One row per operation: INSN(mnemonic, sem, class, flags). The mnemonic is Zydis's, without its
 * prefix, and names the operation (OP_<mnemonic>); `sem` names the table sem_<sem> in engine/sem/;
 * class is an enum insn_class without its prefix; flags are INSN_* bits.
 * Where one mnemonic covers different operations, or several mnemonics one, decode.c gives rows of
 * our own: MOV_SEG, MOV_CR, MOV_DR, PUSH_SEG, POP_SEG (by operand kind), JMP_FAR, CALL_FAR,
 * RET_FAR, JMP_IND, CALL_IND (near indirect), and MOVS CMPS STOS LODS SCAS (any element size =
 * opsize; MOVSD and CMPSD are the SSE2 ones). */
enum op {
    OP_INVALID,
#define INSN(mnemonic, sem, class, flags) OP_##mnemonic,
#include "cpu/insn.def"
#undef INSN
    OP_COUNT
};

/* What a translator has to do with the operation (the paper's cases). */
enum insn_class {
    CLASS_IDENT,    /* user-mode integer work: copied, with its memory operand lowered */
    CLASS_FPU,      /* x87 and MMX: copied */
    CLASS_SIMD,     /* SSE, AVX: copied */
    CLASS_STRING,   /* MOVS STOS LODS CMPS SCAS, with or without REP */
    CLASS_BRANCH,   /* direct jump, conditional or not, and LOOP/JCXZ */
    CLASS_CALL,     /* direct near call */
    CLASS_INDIRECT, /* near indirect jump or call, and near return */
    CLASS_FAR,      /* far transfers, IRET, INT, SYSCALL and so on */
    CLASS_IO,       /* IN OUT INS OUTS */
    CLASS_SYSTEM,   /* privileged or sensitive */
};

/* Ends a block: control transfer, or a change of mode, mapping or events. Added at decode to string
 * instructions with REP, which may set RIP back to themselves. */
#define INSN_END     0x01
#define INSN_NATIVE  0x02 /* executed natively by a thunk made from its own bytes */
#define INSN_NOT_YET 0x04 /* in the list, but not offered: raises #UD */

enum operand_kind {
    OPD_NONE,
    OPD_GPR,   /* reg: enum gpr; size 1, 2, 4, 8; the low part */
    OPD_GPR8H, /* AH CH DH BH: reg is RAX RCX RDX RBX */
    OPD_MEM,   /* the instruction's one memory operand; address in seg/base/index/scale/disp. With a
                * vector index (gathers), index is the vector register's number */
    OPD_IMM,   /* struct insn.imm, sign-extended to 64 bits as the instruction defines */
    OPD_IMM2,  /* second immediate (ENTER's level, ptr16:32's selector) in struct insn.imm2 */
    OPD_REL,   /* branch displacement in imm, relative to the next instruction */
    OPD_SEG,   /* reg: enum seg_reg */
    OPD_CR,
    OPD_DR,
    OPD_ST,
    OPD_MMX,
    OPD_XMM,
    OPD_YMM,
};

#define OPD_READ  1
#define OPD_WRITE 2

/* Where in the encoding the operand stands, for those who write the instruction anew. */
enum operand_encoding {
    ENC_NONE, /* implied by the opcode, or an immediate */
    ENC_REG,  /* ModRM.reg */
    ENC_RM,   /* ModRM.rm, a register or memory */
    ENC_OPCODE,
    ENC_VVVV,
    ENC_IS4, /* a vector register in the immediate's upper half */
};

struct operand {
    u8 kind;   /* enum operand_kind */
    u8 reg;    /* register number in its file */
    u8 access; /* OPD_READ | OPD_WRITE */
    u16 size;  /* bytes; 0 where the operand has no size (LEA's address, prefetch) */
    u8 enc;    /* enum operand_encoding */
};

#define REG_NONE 0xff
#define REG_RIP  0xfe /* as `base`: address relative to the next instruction */

enum insn_prefix {
    PFX_LOCK = 1 << 0,
    PFX_REP = 1 << 1,   /* F3 with a meaning as REP/REPE */
    PFX_REPNE = 1 << 2, /* F2 with a meaning as REPNE */
};

typedef void sem_fn(struct vcpu *v, const struct insn *i);

struct insn {
    sem_fn *sem; /* chosen by the engine layer at decode, from the row's table */
    void *aux;   /* for sem: a native thunk */
    i64 disp;    /* displacement, or a moffs address */
    u64 imm;
    u16 imm2;
    u16 op;      /* enum op */
    u8 len;      /* bytes, 1..15 */
    u8 opsize;   /* effective operand size: 1, 2, 4 or 8 bytes; truncates near branches' RIP */
    u8 addrsize; /* effective address size: 2, 4 or 8 bytes */
    u8 seg;      /* segment of the memory operand (strings: of [rSI]), overrides applied */
    u8 base;     /* enum gpr, REG_RIP or REG_NONE */
    u8 index;    /* enum gpr or REG_NONE */
    u8 scale;    /* shift: 0..3 */
    u8 prefix;   /* enum insn_prefix */
    u8 cls;      /* enum insn_class */
    u8 flags;    /* INSN_* */
    u8 feature;  /* enum cpu_feature (cpu/model.h) that must be offered; FEAT_COUNT: none */
    u8 nopd;     /* explicit operands */
    u8 modrm_at; /* offset of ModRM in raw; 0: there is none */
    u8 imm_at;   /* offset of the immediates in raw; 0: there are none */
    /* The memory operand's address once more, by sem_bind: as what is to be added up and cut off.
     * Offsets are those of 64-bit fields in struct vcpu. */
    u16 base_at, index_at, seg_at;
    u8 quick_seg; /* bit that vcpu.quick_segs must have for this to be the linear address; or 0 */
    u8 raw[15];   /* the bytes themselves */
    u64 lin_mask;
    struct operand opd[4]; /* explicit operands, destination first (Intel order) */
};

struct op_info {
    const char *name; /* "ADD" */
    u8 cls, flags;
};
extern const struct op_info op_info[OP_COUNT];

enum decode_status {
    DECODE_OK,
    DECODE_SHORT,    /* needs more bytes than were given */
    DECODE_TOO_LONG, /* more than 15 bytes: #GP(0) */
    DECODE_INVALID,  /* #UD */
};

/* Decodes the instruction in bytes[0..n), n at most 15, for `mode` (enum cpu_mode). On DECODE_OK
 * fills everything but what sem_bind does. Stateless and thread-safe. */
enum decode_status insn_decode(const u8 *bytes, unsigned n, enum cpu_mode mode, struct insn *out);

/* The same through a cache, which is faster for whoever decodes much; one thread at a time.
 * decode_cache_create() returns NULL if there is no memory. */
struct decode_cache *decode_cache_create(void);
void decode_cache_destroy(struct decode_cache *c);
enum decode_status insn_decode_cached(struct decode_cache *c, const u8 *bytes, unsigned n,
                                      enum cpu_mode mode, struct insn *out);

/* Formats the instruction in Intel syntax as it stands at address rip, for dumps and traces. */
void insn_format(const struct insn *i, enum cpu_mode mode, u64 rip, char *buf, size_t size);

#endif
