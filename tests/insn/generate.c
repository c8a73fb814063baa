/*
 * Makes a case of a form: other registers and addressing modes than the example where the encoding
 * allows, values that are random or at the edges, memory operands that lie somewhere in the data pages:
 * aligned or not, across a page border, now and then in a page that is not there or read-only.
 */
#include "insn_test.h"

static u64 edge_value(u64 *seed)
{
    static const u64 edges[] = {0, 1, 2, 7, 8, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
                                0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, ~0ULL, 0x00ff00ff00ff00ff,
                                0x0123456789abcdef, 31, 32, 63, 64};
    u64 r = next_random(seed);
    switch (r & 3) {
    case 0:
        return edges[(r >> 8) % ARRAY_SIZE(edges)];
    case 1:
        return (u64)((i64)next_random(seed) >> (r >> 8 & 63));
    default:
        return next_random(seed);
    }
}

/* Numbers in which floating-point instructions find something: zeros, ones, infinities, NaNs, denormals. */
static u32 float_value(u64 *seed)
{
    static const u32 edges[] = {0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7fa00001,
                                1, 0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0xcf000000, 0x40490fdb};
    u64 r = next_random(seed);
    return r & 1 ? edges[(r >> 8) % ARRAY_SIZE(edges)] : (u32)(r >> 16);
}

static u64 double_value(u64 *seed)
{
    static const u64 edges[] = {0, 1ULL << 63, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000,
                                0xfff0000000000000, 0x7ff8000000000000, 0x7ff4000000000001, 1, 0x000fffffffffffff,
                                0x0010000000000000, 0x7fefffffffffffff, 0x41e0000000000000, 0x43e0000000000000,
                                0x400921fb54442d18, 0x3ff8000000000000};
    u64 r = next_random(seed);
    return r & 1 ? edges[(r >> 8) % ARRAY_SIZE(edges)] : next_random(seed);
}

static void fill_vector(u8 *p, unsigned bytes, u64 *seed)
{
    unsigned kind = next_random(seed) % 3;
    for (unsigned k = 0; k < bytes; k += 8) {
        u64 value = kind == 0 ? double_value(seed)
                    : kind == 1 ? float_value(seed) | (u64)float_value(seed) << 32
                                : edge_value(seed);
        store_le(p + k, value, 8);
    }
}

static void make_x87_register(u8 st[16], u64 *seed)
{
    static const u16 exponents[] = {0, 0x3fff, 0x4000, 0x7fff, 0x3ffe, 0x403e, 1, 0x7ffe};
    u64 r = next_random(seed);
    u16 exponent = r & 1 ? exponents[(r >> 1) & 7] : (u16)(0x3fc0 + (r >> 4) % 0x80);
    u64 mantissa = r & 0x100 ? 1ULL << 63 : next_random(seed) | 1ULL << 63;
    if (exponent == 0)
        mantissa &= r & 0x200 ? 0 : ~(1ULL << 63);
    memset(st, 0, 16);
    store_le(st, mantissa, 8);
    store_le(st + 8, exponent | (r & 0x400 ? 0x8000 : 0), 2);
}

static void make_fpu(struct fpu_state *f, u64 *seed)
{
    memset(f, 0, sizeof(*f));
    u64 r = next_random(seed);
    f->legacy.fcw = (u16)(0x37f & ~((r & 3) << 10)) | (u16)((r >> 2 & 3) << 10);
    if ((r >> 8) % 16 == 0)
        f->legacy.fcw &= (u16)~(1u << (r >> 12) % 6); /* an unmasked exception */
    f->legacy.fsw = (u16)((r >> 16 & 7) << 11 | (r >> 20 & 0x4700));
    f->legacy.ftw_abridged = r >> 32 & 1 ? 0xff : (u8)(r >> 40);
    f->legacy.mxcsr = 0x1f80 | (u32)(r >> 50 & 3) << 13;
    if ((r >> 54) % 8 == 0)
        f->legacy.mxcsr |= 0x8040; /* flush to zero, denormals are zero */
    if ((r >> 58) % 16 == 0)
        f->legacy.mxcsr &= ~(0x80u << (r >> 60) % 6);
    f->legacy.mxcsr_mask = 0xffff;
    for (unsigned i = 0; i < 8; i++)
        make_x87_register(f->legacy.st[i], seed);
    for (unsigned i = 0; i < 16; i++) {
        fill_vector(f->legacy.xmm[i], 16, seed);
        fill_vector(f->ymm_hi[i], 16, seed);
    }
    f->xstate_bv = XCR0_X87 | XCR0_SSE | XCR0_AVX;
}

/* --- encoding variations --- */

static bool same_form(const struct insn *a, const struct insn *b)
{
    if (a->op != b->op || a->opsize != b->opsize || a->addrsize != b->addrsize || a->nopd != b->nopd ||
        a->prefix != b->prefix)
        return false;
    if (a->seg == SEG_FS) /* the host's C library lives there */
        return false;
    for (unsigned k = 0; k < a->nopd && k < 4; k++)
        if (a->opd[k].kind != b->opd[k].kind || a->opd[k].size != b->opd[k].size)
            return false;
    return true;
}

static bool has_rex(const struct form *f, unsigned *at)
{
    for (unsigned k = 0; k < f->len; k++) {
        u8 b = f->bytes[k];
        if (b == 0x66 || b == 0x67 || b == 0xf2 || b == 0xf3 || b == 0xf0)
            continue;
        *at = k;
        return f->mode == MODE_LONG64 && (b & 0xf0) == 0x40;
    }
    return false;
}

/* Changes any byte behind the prefixes at random, as long as it stays the same form. Register numbers, the
 * addressing mode, displacements and immediates all come about this way. */
static void vary_encoding(const struct form *f, struct test_case *c, u64 *seed)
{
    u8 bytes[16] = {0};
    struct insn i;
    memcpy(bytes, f->bytes, f->len);
    for (unsigned k = f->len; k < 15; k++)
        bytes[k] = (u8)next_random(seed);
    unsigned first = 0;
    bool rex = has_rex(f, &first);
    if (rex)
        bytes[first] = (u8)((bytes[first] & 0xf8) | (next_random(seed) & 7));
    else if (f->mode == MODE_LONG64 && bytes[first] != 0xc4 && next_random(seed) % 2 == 0) {
        memmove(bytes + first + 1, bytes + first, 14 - first);
        bytes[first] = (u8)(0x40 | (next_random(seed) & 7));
    }
    for (unsigned tries = 0; tries < 24; tries++) {
        u8 copy[16];
        memcpy(copy, bytes, sizeof(copy));
        for (unsigned k = first; k < 15; k++)
            if (k > first && next_random(seed) % 4 == 0)
                copy[k] = (u8)next_random(seed);
        if (insn_decode(copy, 15, f->mode, &i) == DECODE_OK && same_form(&i, &f->insn)) {
            memcpy(c->bytes, copy, i.len);
            c->len = i.len;
            c->insn = i;
            return;
        }
    }
}

/* --- values --- */

static u64 pick_address(unsigned size, u64 *seed)
{
    u64 r = next_random(seed);
    unsigned room = size ? size : 1;
    switch (r % 16) {
    case 0:
        return DATA_ADDR + DATA_SIZE - room + (r >> 8) % (2 * room); /* ends in the hole, perhaps */
    case 1:
        return DATA_ADDR + PAGE_SIZE - room / 2 - (r >> 8) % 3; /* across a page border */
    case 2:
        return RO_ADDR + (r >> 8) % (PAGE_SIZE - 600);
    case 3:
    case 4:
    case 5:
        return DATA_ADDR + 512 + (r >> 8) % (DATA_SIZE - 2048);
    default:
        return align_down(DATA_ADDR + 512 + (r >> 8) % (DATA_SIZE - 2048), 64);
    }
}

static unsigned memory_size(const struct insn *i)
{
    for (unsigned k = 0; k < i->nopd && k < 4; k++)
        if (i->opd[k].kind == OPD_MEM)
            return i->opd[k].size;
    return 0;
}

static bool has_memory(const struct insn *i)
{
    for (unsigned k = 0; k < i->nopd && k < 4; k++)
        if (i->opd[k].kind == OPD_MEM)
            return true;
    return false;
}

/* Sets the registers of the memory operand so that it lies at an address of our choice, if they can. */
static void aim_memory(struct test_case *c, u64 *seed)
{
    const struct insn *i = &c->insn;
    u64 target = pick_address(memory_size(i), seed);
    if (!has_memory(i) || i->base == REG_RIP || i->addrsize == 2)
        return;
    bool index_is_gpr = i->index != REG_NONE && i->index < 16;
    if (i->base == REG_NONE && index_is_gpr) {
        c->gpr[i->index] = (target - (u64)i->disp) >> i->scale;
        return;
    }
    if (i->base == REG_NONE)
        return;
    if (index_is_gpr && i->index != i->base && i->index != RSP) {
        c->gpr[i->index] = next_random(seed) % 64;
        c->gpr[i->base] = target - (u64)i->disp - (c->gpr[i->index] << i->scale);
    } else if (index_is_gpr && i->index == i->base) {
        c->gpr[i->base] = (target - (u64)i->disp) / (1u + (1u << i->scale));
    } else {
        c->gpr[i->base] = target - (u64)i->disp;
    }
    if (c->mode != MODE_LONG64 || i->addrsize == 4)
        c->gpr[i->base] &= 0xffffffff;
}

/* Registers that some operations use without naming them. */
static void set_implicit(struct test_case *c, u64 *seed)
{
    const struct insn *i = &c->insn;
    u64 r = next_random(seed);
    if (i->cls == CLASS_STRING) {
        c->gpr[RSI] = pick_address(i->opsize, seed);
        c->gpr[RDI] = pick_address(i->opsize, seed);
        c->gpr[RCX] = r % 40;
        return;
    }
    switch (i->op) {
    case OP_XLAT:
        c->gpr[RBX] = pick_address(256, seed);
        break;
    case OP_MASKMOVQ:
    case OP_MASKMOVDQU:
    case OP_VMASKMOVDQU:
        c->gpr[RDI] = pick_address(16, seed);
        /* Whether bytes that no mask bit selects can fault differs between processors: select the first and
         * the last. */
        c->fpu.legacy.xmm[i->opd[1].reg][0] |= 0x80;
        c->fpu.legacy.xmm[i->opd[1].reg][15] |= 0x80;
        for (unsigned reg = 0; reg < 8; reg++)
            store_le(c->fpu.legacy.st[reg], load_le(c->fpu.legacy.st[reg], 8) | 0x8000000000000080, 8);
        break;
    case OP_LEAVE:
    case OP_ENTER:
        c->gpr[RBP] = pick_address(8, seed);
        break;
    case OP_BT:
    case OP_BTS:
    case OP_BTR:
    case OP_BTC: /* the bit offset reaches far beyond the operand */
        if (i->opd[1].kind == OPD_GPR && i->opd[1].reg != i->base)
            c->gpr[i->opd[1].reg] = (u64)((i64)(r % 8192) - 4096);
        break;
    case OP_DIV:
    case OP_IDIV: /* mostly quotients that fit */
        if (r % 4)
            c->gpr[RDX] = r & 16 ? 0 : (u64)((i64)c->gpr[RAX] >> 63);
        break;
    default:
        break;
    }
}

/* Gathers and other vector-indexed operands: small indices, so that some elements are in the pages. */
static void set_vector_index(struct test_case *c, u64 *seed)
{
    const struct insn *i = &c->insn;
    if (op_info[i->op].name[0] != 'V' || !strstr(op_info[i->op].name, "GATHER"))
        return;
    for (unsigned reg = 0; reg < 16; reg++)
        for (unsigned k = 0; k < 16; k += 4) {
            if (next_random(seed) % 2 || reg != i->index)
                continue;
            store_le(c->fpu.legacy.xmm[reg] + k, next_random(seed) % 200, 4);
            store_le(c->fpu.ymm_hi[reg] + k, next_random(seed) % 200, 4);
        }
}

static bool is_prefix(const struct test_case *c, u8 b)
{
    return b == 0x66 || b == 0x67 || b == 0xf2 || b == 0xf3 || b == 0xf0 || b == 0x2e || b == 0x3e ||
           (c->mode == MODE_LONG64 && (b & 0xf0) == 0x40);
}

/* A relative branch goes forward, over nothing but INT3; backward it might never end. */
static void set_displacement(struct test_case *c, u64 *seed)
{
    u64 r = next_random(seed);
    unsigned at = 0;
    while (is_prefix(c, c->bytes[at]))
        at++;
    u8 opcode = c->bytes[at];
    unsigned size = opcode != 0x0f && opcode != 0xe8 && opcode != 0xe9 ? 1 : c->insn.opsize == 2 ? 2 : 4;
    store_le(&c->bytes[c->len - size], r & (size == 1 ? 0x7f : 0x1ff), size);
    insn_decode(c->bytes, 15, c->mode, &c->insn);
}

/* Where control goes must be in the code page: branch displacements, return addresses, targets. */
static void set_branch(struct test_case *c, u64 *seed)
{
    const struct insn *i = &c->insn;
    u64 target = CODE_ADDR + 0x100 + next_random(seed) % 0x200;
    if (i->nopd && i->opd[0].kind == OPD_REL)
        set_displacement(c, seed);
    bool popf = i->op == OP_POPF || i->op == OP_POPFD || i->op == OP_POPFQ;
    if (i->cls == CLASS_INDIRECT) {
        for (unsigned k = 0; k < 16; k++)
            if (i->opd[0].kind == OPD_GPR && i->opd[0].reg == k)
                c->gpr[k] = target;
        for (unsigned k = 0; k + 8 <= DATA_SIZE; k += 8)
            store_le(c->data + k, target, 8);
    }
    if (popf) /* no single step, no alignment check, no nested task */
        for (unsigned k = 0; k < DATA_SIZE; k++)
            c->data[k] &= k % 2 ? 0x8e : 0xfe;
    if (popf)
        for (unsigned k = 2; k < DATA_SIZE; k += 4)
            c->data[k] = 0;
}

void case_generate(const struct form *f, unsigned n, struct test_case *c)
{
    u64 seed = 0x853c49e6748fea9bULL ^ ((u64)n << 40) ^ f->insn.op;
    for (unsigned k = 0; k < f->len; k++)
        seed = (seed ^ f->bytes[k]) * 0x100000001b3ULL | 1;
    c->mode = f->mode;
    memcpy(c->bytes, f->bytes, f->len);
    c->len = f->len;
    c->insn = f->insn;
    if (n > 0)
        vary_encoding(f, c, &seed);
    for (unsigned k = 0; k < 16; k++)
        c->gpr[k] = edge_value(&seed);
    c->gpr[RSP] = DATA_ADDR + DATA_SIZE / 2 + (next_random(&seed) % 64) * 8;
    c->rflags = next_random(&seed) & (FLAGS_ARITH | (next_random(&seed) % 4 ? 0 : FLAG_DF));
    c->rflags |= FLAG_ONE | FLAG_IF;
    make_fpu(&c->fpu, &seed);
    for (unsigned k = 0; k < DATA_SIZE; k += 64)
        fill_vector(c->data + k, 64, &seed);
    set_implicit(c, &seed);
    set_vector_index(c, &seed);
    set_branch(c, &seed);
    aim_memory(c, &seed);
    if (c->mode != MODE_LONG64)
        for (unsigned k = 0; k < 16; k++)
            c->gpr[k] = k < 8 ? c->gpr[k] & 0xffffffff : 0;
}
