/*
 * An assembler for host code: each function appends one instruction. Code is written through the
 * writable mapping of the code cache and runs at another address (the executable mapping), so
 * relative branches are computed between places in the same mapping. All that is emitted keeps
 * flags unless its name is an arithmetic operation's.
 */
#ifndef RINGER_ENGINE_BT_EMIT_H
#define RINGER_ENGINE_BT_EMIT_H

#include "cpu/arch.h"

#define H_NONE 0xff

/* A memory operand of the host: [base + index << scale + disp], in the GS segment (relative to
 * struct vcpu) or not. */
struct hmem {
    u8 base, index; /* host registers or H_NONE */
    u8 scale;       /* shift */
    bool gs;
    bool cut; /* the sum is cut off at 4 GiB (67h) */
    i32 disp;
    u32 guest; /* not 0: it is the guest's own address, and this goes to emit.touch */
};

struct emit {
    u8 *p, *end;  /* end: no instruction may begin behind it */
    bool t0_lost; /* R10, the translator's first temporary, was written by a move or load */
    /* Called before an instruction is emitted at e->p that accesses such an address. */
    void (*touch)(struct emit *e, u32 guest);
};

enum op_prefix { NO_PREFIX = 0, PREFIX_66 = 0x66, PREFIX_F2 = 0xf2, PREFIX_F3 = 0xf3 };
enum op_map { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A };

/* Operation codes of enc_alu: /digit of 80-83 and opcode >> 3. */
enum alu { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
enum shift { SHIFT_ROL, SHIFT_ROR, SHIFT_RCL, SHIFT_RCR, SHIFT_SHL, SHIFT_SHR, SHIFT_SAR = 7 };

static inline void emit8(struct emit *e, unsigned b)
{
    *e->p++ = (u8)b;
}

static inline void emit32(struct emit *e, u32 v)
{
    store_le(e->p, v, 4);
    e->p += 4;
}

static inline void emit64(struct emit *e, u64 v)
{
    store_le(e->p, v, 8);
    e->p += 8;
}

static inline struct hmem hmem_base(unsigned base, i64 disp)
{
    return (struct hmem){.base = (u8)base, .index = H_NONE, .disp = (i32)disp};
}

static inline struct hmem hmem_sum(unsigned base, unsigned index, i64 disp)
{
    return (struct hmem){.base = (u8)base, .index = (u8)index, .disp = (i32)disp};
}

/* A field of struct vcpu at this offset. */
static inline struct hmem hmem_vcpu(size_t offset)
{
    return (struct hmem){.base = H_NONE, .index = H_NONE, .gs = true, .disp = (i32)offset};
}

/* One instruction as the parts of its encoding. size 1 means that register operands are byte
 * registers, which need REX for SPL, BPL, SIL and DIL; size 8 sets REX.W; 2 adds 66h. */
struct opcode {
    u8 size;
    u8 prefix; /* mandatory prefix, or NO_PREFIX */
    u8 map;    /* enum op_map */
    u8 code;
    bool byte_rm, byte_reg; /* with size != 1: these operands are byte registers (MOVZX) */
    bool lock;
    bool vex;
    u8 vvvv, l, w, pp; /* with vex */
};

/* reg: register number or /digit. */
void emit_op_mem(struct emit *e, const struct opcode *o, unsigned reg, const struct hmem *m);
void emit_op_reg(struct emit *e, const struct opcode *o, unsigned reg, unsigned rm);
/* The register is in the opcode's low three bits. */
void emit_op_short(struct emit *e, const struct opcode *o, unsigned reg);

void emit_mov_reg(struct emit *e, unsigned size, unsigned dst, unsigned src); /* size 4 or 8 */
void emit_load(struct emit *e, unsigned size, unsigned dst, const struct hmem *m);
void emit_load_zx(struct emit *e, unsigned size, unsigned dst, const struct hmem *m);
void emit_store(struct emit *e, unsigned size, const struct hmem *m, unsigned src);
void emit_store_imm(struct emit *e, unsigned size, const struct hmem *m, i32 imm);
void emit_lea(struct emit *e, unsigned size, unsigned dst, const struct hmem *m);
void emit_mov_imm(struct emit *e, unsigned dst, u64 imm); /* the shortest that sets all 64 bits */
/* MOV dst, imm64 without the immediate, which the caller emits. */
void emit_rex_mov64(struct emit *e, unsigned dst);
void emit_alu_imm(struct emit *e, enum alu op, unsigned size, unsigned dst, i32 imm);
void emit_alu_reg(struct emit *e, enum alu op, unsigned size, unsigned dst, unsigned src);
void emit_alu_load(struct emit *e, enum alu op, unsigned size, unsigned dst, const struct hmem *m);
void emit_alu_mem_imm(struct emit *e, enum alu op, unsigned size, const struct hmem *m, i32 imm);
void emit_shift_imm(struct emit *e, enum shift op, unsigned size, unsigned dst, unsigned count);
void emit_rorx(struct emit *e, unsigned size, unsigned dst, unsigned src, unsigned count);
void emit_sarx(struct emit *e, unsigned size, unsigned dst, unsigned src, unsigned count_reg);
void emit_movzx(struct emit *e, unsigned src_size, unsigned dst, unsigned src); /* to 32 bits */
void emit_movsx(struct emit *e, unsigned size, unsigned src_size, unsigned dst, unsigned src);

/* Between EFLAGS and the image in RAX (AH as LAHF has it, AL = OF). */
void emit_flags_to_image(struct emit *e);
void emit_image_to_flags(struct emit *e);

/* Branches with a 32-bit displacement; the place of the displacement is returned, for
 * emit_patch(). cc: condition code. target NULL: to be patched. */
u8 *emit_jmp(struct emit *e, const u8 *target);
u8 *emit_jcc(struct emit *e, unsigned cc, const u8 *target);
/* dst = executable address of a place in the code, likewise to be patched. */
u8 *emit_lea_code(struct emit *e, unsigned dst);
void emit_jmp_mem(struct emit *e, const struct hmem *m);
void emit_jmp_reg(struct emit *e, unsigned reg);
/* REP and the string instruction whose byte form is `code`, of elements of `size` bytes. */
void emit_rep(struct emit *e, unsigned code, unsigned size);
/* JRCXZ (size 8) or JECXZ over the next n bytes; returns the displacement byte. */
u8 *emit_jrcxz(struct emit *e, unsigned size);
/* The displacement byte at `at` leads here. */
void emit_here8(struct emit *e, u8 *at);

/* Makes the displacement at `at` lead to target: one aligned store if `at` is aligned. */
void emit_patch(u8 *at, const u8 *target);

/* Pads with NOPs until p + ahead is a multiple of align (a power of two). */
void emit_align(struct emit *e, unsigned align, unsigned ahead);
/* NOPs until the `bytes` bytes at `ahead` bytes from here lie in one aligned word of 8, so that one
 * store patches them. */
void emit_within_word(struct emit *e, unsigned bytes, unsigned ahead);
void emit_nop(struct emit *e, unsigned bytes);

#endif
