/*
 * Encodings of the host instructions that the translator writes (SDM vol. 2, ch. 2): prefixes, REX
 * or VEX, opcode, ModRM, SIB, displacement. An absolute address without a register needs a SIB
 * byte, because ModRM alone would mean RIP-relative.
 */
#include "engine/bt/emit.h"

#include "base/types.h"

#define GS_PREFIX   0x65
#define LOCK_PREFIX 0xf0
#define CUT_PREFIX  0x67

/* Called by whatever gives a register a new value that doesn't depend on its old one. */
static void note_write(struct emit *e, unsigned dst)
{
    if (dst == R10)
        e->t0_lost = true;
}

static void emit_rex(struct emit *e, bool w, unsigned reg, unsigned index, unsigned base,
                     bool force)
{
    unsigned rex = (w ? 8u : 0) | (reg & 8) >> 1 | (index & 8) >> 2 | (base & 8) >> 3;
    if (rex || force)
        emit8(e, 0x40 | rex);
}

static void emit_vex(struct emit *e, const struct opcode *o, unsigned reg, unsigned index,
                     unsigned base)
{
    emit8(e, 0xc4);
    emit8(e, (~reg & 8) << 4 | (~index & 8) << 3 | (~base & 8) << 2 | o->map);
    emit8(e, (unsigned)o->w << 7 | (~o->vvvv & 15u) << 3 | (unsigned)o->l << 2 | o->pp);
    emit8(e, o->code);
}

/* Everything up to the opcode. H_NONE as index or base is no register: bit 3 clear. */
static void emit_head(struct emit *e, const struct opcode *o, unsigned reg, unsigned index,
                      unsigned base, bool rm_is_reg)
{
    if (index == H_NONE)
        index = 0;
    if (base == H_NONE)
        base = 0;
    if (o->lock)
        emit8(e, LOCK_PREFIX);
    if (o->vex) {
        emit_vex(e, o, reg, index, base);
        return;
    }
    bool byte_reg = (o->size == 1 || o->byte_reg) && reg >= 4 && reg < 8;
    bool byte_rm = rm_is_reg && (o->size == 1 || o->byte_rm) && base >= 4 && base < 8;
    if (o->size == 2)
        emit8(e, PREFIX_66);
    if (o->prefix != NO_PREFIX)
        emit8(e, o->prefix);
    emit_rex(e, o->size == 8, reg, index, base, byte_reg || byte_rm);
    if (o->map != MAP_1)
        emit8(e, 0x0f);
    if (o->map == MAP_0F38)
        emit8(e, 0x38);
    if (o->map == MAP_0F3A)
        emit8(e, 0x3a);
    emit8(e, o->code);
}

static void emit_modrm(struct emit *e, unsigned reg, const struct hmem *m)
{
    unsigned r = (reg & 7) << 3;
    if (m->base == H_NONE) { /* SIB with base 5, mod 0: disp32 */
        emit8(e, r | 4);
        emit8(e, (unsigned)m->scale << 6 | (m->index == H_NONE ? 4u : m->index & 7u) << 3 | 5);
        emit32(e, (u32)m->disp);
        return;
    }
    unsigned base = m->base & 7;
    unsigned mod = m->disp == 0 && base != RBP ? 0 : m->disp == (i8)m->disp ? 1 : 2;
    if (m->index == H_NONE && base != RSP) {
        emit8(e, mod << 6 | r | base);
    } else {
        emit8(e, mod << 6 | r | 4);
        emit8(e, (unsigned)m->scale << 6 | (m->index == H_NONE ? 4u : m->index & 7u) << 3 | base);
    }
    if (mod == 1)
        emit8(e, (u8)m->disp);
    else if (mod == 2)
        emit32(e, (u32)m->disp);
}

void emit_op_mem(struct emit *e, const struct opcode *o, unsigned reg, const struct hmem *m)
{
    if (m->guest)
        e->touch(e, m->guest);
    if (m->gs)
        emit8(e, GS_PREFIX);
    if (m->cut)
        emit8(e, CUT_PREFIX);
    emit_head(e, o, reg, m->index, m->base, false);
    emit_modrm(e, reg, m);
}

void emit_op_reg(struct emit *e, const struct opcode *o, unsigned reg, unsigned rm)
{
    emit_head(e, o, reg, H_NONE, rm, true);
    emit8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

void emit_op_short(struct emit *e, const struct opcode *o, unsigned reg)
{
    struct opcode with = *o;
    with.code = (u8)((o->code & ~7u) | (reg & 7));
    emit_head(e, &with, 0, H_NONE, reg, true);
}

/* The byte form of an operation has the even opcode before that of the others. */
static struct opcode sized(unsigned size, unsigned code)
{
    return (struct opcode){.size = (u8)size, .code = (u8)(size == 1 ? code - 1 : code)};
}

void emit_mov_reg(struct emit *e, unsigned size, unsigned dst, unsigned src)
{
    note_write(e, dst);
    struct opcode o = sized(size, 0x8b);
    emit_op_reg(e, &o, dst, src);
}

void emit_load(struct emit *e, unsigned size, unsigned dst, const struct hmem *m)
{
    note_write(e, dst);
    struct opcode o = sized(size, 0x8b);
    emit_op_mem(e, &o, dst, m);
}

void emit_load_zx(struct emit *e, unsigned size, unsigned dst, const struct hmem *m)
{
    note_write(e, dst);
    struct opcode o = {.size = 4, .map = MAP_0F, .code = size == 1 ? 0xb6 : 0xb7};
    if (size <= 2)
        emit_op_mem(e, &o, dst, m);
    else
        emit_load(e, size, dst, m);
}

void emit_store(struct emit *e, unsigned size, const struct hmem *m, unsigned src)
{
    struct opcode o = sized(size, 0x89);
    emit_op_mem(e, &o, src, m);
}

static void emit_imm(struct emit *e, unsigned size, i32 imm)
{
    if (size == 1)
        emit8(e, (u8)imm);
    else if (size == 2) {
        emit8(e, (u8)imm);
        emit8(e, (u8)(imm >> 8));
    } else
        emit32(e, (u32)imm);
}

void emit_store_imm(struct emit *e, unsigned size, const struct hmem *m, i32 imm)
{
    struct opcode o = sized(size, 0xc7);
    emit_op_mem(e, &o, 0, m);
    emit_imm(e, size, imm);
}

void emit_lea(struct emit *e, unsigned size, unsigned dst, const struct hmem *m)
{
    note_write(e, dst);
    struct opcode o = {.size = (u8)size, .code = 0x8d};
    struct hmem sum = *m;
    sum.guest = 0;
    emit_op_mem(e, &o, dst, &sum);
}

void emit_rex_mov64(struct emit *e, unsigned dst)
{
    note_write(e, dst);
    emit_rex(e, true, 0, 0, dst, false);
    emit8(e, 0xb8 | (dst & 7));
}

void emit_mov_imm(struct emit *e, unsigned dst, u64 imm)
{
    note_write(e, dst);
    if (imm == (u32)imm) {
        emit_rex(e, false, 0, 0, dst, false);
        emit8(e, 0xb8 | (dst & 7));
        emit32(e, (u32)imm);
    } else if (imm == (u64)(i64)(i32)imm) {
        struct opcode o = {.size = 8, .code = 0xc7};
        emit_op_reg(e, &o, 0, dst);
        emit32(e, (u32)imm);
    } else {
        emit_rex_mov64(e, dst);
        emit64(e, imm);
    }
}

static bool imm8(i32 imm)
{
    return imm == (i8)imm;
}

void emit_alu_imm(struct emit *e, enum alu op, unsigned size, unsigned dst, i32 imm)
{
    struct opcode o = sized(size, imm8(imm) && size > 1 ? 0x83 : 0x81);
    emit_op_reg(e, &o, op, dst);
    emit_imm(e, imm8(imm) ? 1 : size, imm);
}

void emit_alu_reg(struct emit *e, enum alu op, unsigned size, unsigned dst, unsigned src)
{
    struct opcode o = sized(size, op << 3 | 3);
    emit_op_reg(e, &o, dst, src);
}

void emit_alu_load(struct emit *e, enum alu op, unsigned size, unsigned dst, const struct hmem *m)
{
    struct opcode o = sized(size, op << 3 | 3);
    emit_op_mem(e, &o, dst, m);
}

void emit_alu_mem_imm(struct emit *e, enum alu op, unsigned size, const struct hmem *m, i32 imm)
{
    struct opcode o = sized(size, imm8(imm) && size > 1 ? 0x83 : 0x81);
    emit_op_mem(e, &o, op, m);
    emit_imm(e, imm8(imm) ? 1 : size, imm);
}

void emit_shift_imm(struct emit *e, enum shift op, unsigned size, unsigned dst, unsigned count)
{
    struct opcode o = sized(size, 0xc1);
    emit_op_reg(e, &o, op, dst);
    emit8(e, count);
}

void emit_rorx(struct emit *e, unsigned size, unsigned dst, unsigned src, unsigned count)
{
    note_write(e, dst);
    struct opcode o = {.vex = true, .map = MAP_0F3A, .pp = 3, .w = size == 8, .code = 0xf0};
    emit_op_reg(e, &o, dst, src);
    emit8(e, count);
}

void emit_sarx(struct emit *e, unsigned size, unsigned dst, unsigned src, unsigned count_reg)
{
    note_write(e, dst);
    struct opcode o = {
        .vex = true, .map = MAP_0F38, .pp = 2, .w = size == 8, .vvvv = (u8)count_reg, .code = 0xf7};
    emit_op_reg(e, &o, dst, src);
}

void emit_movzx(struct emit *e, unsigned src_size, unsigned dst, unsigned src)
{
    note_write(e, dst);
    struct opcode o = {
        .size = 4, .map = MAP_0F, .code = src_size == 1 ? 0xb6 : 0xb7, .byte_rm = src_size == 1};
    emit_op_reg(e, &o, dst, src);
}

void emit_movsx(struct emit *e, unsigned size, unsigned src_size, unsigned dst, unsigned src)
{
    note_write(e, dst);
    struct opcode o = {.size = (u8)size,
                       .map = MAP_0F,
                       .code = src_size == 1 ? 0xbe : 0xbf,
                       .byte_rm = src_size == 1};
    if (src_size == 4)
        o = (struct opcode){.size = 8, .code = 0x63};
    emit_op_reg(e, &o, dst, src);
}

void emit_flags_to_image(struct emit *e)
{
    emit8(e, 0x9f); /* lahf */
    emit8(e, 0x0f); /* seto al */
    emit8(e, 0x90);
    emit8(e, 0xc0);
}

void emit_image_to_flags(struct emit *e)
{
    emit8(e, 0x3c); /* cmp al, -127: overflows if AL is 1 */
    emit8(e, 0x81);
    emit8(e, 0x9e); /* sahf */
}

void emit_patch(u8 *at, const u8 *target)
{
    typedef u32 __attribute__((aligned(1), may_alias)) displacement; /* one store, aligned or not */
    *(volatile displacement *)at = (u32)(target - (at + 4));
}

static u8 *emit_rel32(struct emit *e, const u8 *target)
{
    u8 *at = e->p;
    emit32(e, 0);
    if (target)
        store_le(at, (u64)(target - e->p), 4);
    return at;
}

u8 *emit_jmp(struct emit *e, const u8 *target)
{
    emit8(e, 0xe9);
    return emit_rel32(e, target);
}

u8 *emit_jcc(struct emit *e, unsigned cc, const u8 *target)
{
    emit8(e, 0x0f);
    emit8(e, 0x80 | cc);
    return emit_rel32(e, target);
}

u8 *emit_lea_code(struct emit *e, unsigned dst)
{
    note_write(e, dst);
    emit_rex(e, true, dst, 0, 0, false);
    emit8(e, 0x8d);
    emit8(e, (dst & 7) << 3 | 5);
    return emit_rel32(e, NULL);
}

void emit_jmp_mem(struct emit *e, const struct hmem *m)
{
    struct opcode o = {.size = 4, .code = 0xff};
    emit_op_mem(e, &o, 4, m);
}

void emit_jmp_reg(struct emit *e, unsigned reg)
{
    struct opcode o = {.size = 4, .code = 0xff};
    emit_op_reg(e, &o, 4, reg);
}

void emit_rep(struct emit *e, unsigned code, unsigned size)
{
    struct opcode o = sized(size, code + 1);
    emit8(e, 0xf3);
    if (size == 2)
        emit8(e, PREFIX_66);
    emit_rex(e, size == 8, 0, 0, 0, false);
    emit8(e, o.code);
}

u8 *emit_jrcxz(struct emit *e, unsigned size)
{
    if (size == 4)
        emit8(e, 0x67);
    emit8(e, 0xe3);
    emit8(e, 0);
    return e->p - 1;
}

void emit_here8(struct emit *e, u8 *at)
{
    *at = (u8)(e->p - (at + 1));
}

void emit_nop(struct emit *e, unsigned bytes)
{
    static const u8 nops[][9] = {
        {0x90},
        {0x66, 0x90},
        {0x0f, 0x1f, 0x00},
        {0x0f, 0x1f, 0x40, 0x00},
        {0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
        {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
    };
    while (bytes) {
        unsigned n = MIN(bytes, (unsigned)ARRAY_SIZE(nops));
        memcpy(e->p, nops[n - 1], n);
        e->p += n;
        bytes -= n;
    }
}

void emit_align(struct emit *e, unsigned align, unsigned ahead)
{
    emit_nop(e, (unsigned)(-((uintptr_t)e->p + ahead) & (align - 1)));
}

void emit_within_word(struct emit *e, unsigned bytes, unsigned ahead)
{
    unsigned at = ((uintptr_t)e->p + ahead) & 7;
    if (at + bytes > 8)
        emit_nop(e, 8 - at);
}
