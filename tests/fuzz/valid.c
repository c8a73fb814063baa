/*
 * Programs of instructions that are valid in their mode, for comparing engines: memory operands
 * mostly hit what is mapped, branches lead to instructions, loops have a limited number of rounds,
 * flags are made and used side by side; code changes itself, and page tables change under it. The
 * last instruction is HLT.
 */
#include "cpu/insn.h"
#include "fuzz.h"
#include "valid.h"

struct maker {
    struct fuzz_guest *g;
    struct rng *r;
    struct valid_program *p;
    unsigned at;   /* offset where the next byte goes */
    unsigned bits; /* 16, 32 or 64 */
    struct {
        unsigned at, size; /* a branch displacement to be filled in */
        bool to_end;
    } fix[VALID_MAX];
    unsigned fixes;
};

static void put(struct maker *m, u64 value, unsigned size)
{
    for (unsigned n = 0; n < size; n++)
        m->p->bytes[m->at++] = (u8)(value >> 8 * n);
}

static unsigned word(const struct maker *m)
{
    return m->bits == 16 ? 2 : 4;
}

/* Address, as the code sees it, of a physical address of flat modes. */
static u64 data_address(const struct maker *m, u64 gpa)
{
    return m->bits == 16 ? gpa & 0x7ff : gpa;
}

/* ModRM (and what follows) of a memory operand at a fixed address. */
static void put_absolute(struct maker *m, unsigned reg, u64 address)
{
    put(m, reg << 3 | (m->bits == 16 ? 6 : m->bits == 32 ? 5 : 4), 1);
    if (m->bits == 64)
        put(m, 0x25, 1);
    put(m, address, word(m));
}

static void put_mov_imm(struct maker *m, unsigned reg, u64 value)
{
    if (m->bits == 64 && value >> 32) {
        put(m, 0x48, 1);
        put(m, 0xb8 | reg, 1);
        put(m, value, 8);
        return;
    }
    put(m, 0xb8 | reg, 1);
    put(m, value, word(m));
}

/* --- single instructions, found by trying --- */

static const u16 never[] = {OP_HLT,    OP_RDTSC, OP_RDTSCP, OP_RDRAND, OP_RDSEED,
                            OP_MOV_CR, OP_WRMSR, OP_RDMSR,  OP_MOV_DR, OP_XSETBV};

static bool acceptable(const struct insn *i)
{
    for (unsigned n = 0; n < ARRAY_SIZE(never); n++)
        if (i->op == never[n])
            return false;
    return i->cls == CLASS_IDENT || i->cls == CLASS_FPU || i->cls == CLASS_SIMD ||
           i->cls == CLASS_STRING;
}

/* Where a base register with a big displacement leads: near enough to the data. */
static void put_operand(struct maker *m)
{
    u64 modrm = rnd(m->r) & 0xff;
    if (one_in(m->r, 4)) {
        put_absolute(m, modrm >> 3 & 7, data_address(m, GPA_DATA + rnd_below(m->r, 0x1100)));
        return;
    }
    put(m, modrm, 1);
    if (modrm >= 0xc0)
        return;
    if (m->bits == 16) {
        put(m, rnd_below(m->r, 0x700), modrm >> 6 == 1 ? 1 : modrm >> 6 == 2 || modrm == 6 ? 2 : 0);
        return;
    }
    if ((modrm & 7) == 4)
        put(m, rnd(m->r), 1);
    put(m, rnd(m->r), modrm >> 6 == 1 ? 1 : 0);
    put(m, (u64)(rnd_below(m->r, 0x200) - 0x100), modrm >> 6 == 2 || (modrm & 0xc7) == 5 ? 4 : 0);
}

static void put_candidate(struct maker *m)
{
    static const u8 prefix[] = {0x66, 0xf2, 0xf3, 0xf0, 0x67, 0x64, 0x26};
    while (one_in(m->r, 5))
        put(m, prefix[rnd_below(m->r, sizeof(prefix))], 1);
    if (m->bits == 64 && one_in(m->r, 2))
        put(m, 0x40 | rnd_below(m->r, 16), 1);
    switch (rnd_below(m->r, 8)) {
    case 0:
        put(m, 0xc4, 1);
        put(m, 0xe1 + rnd_below(m->r, 3), 1);
        put(m, rnd(m->r), 1);
        put(m, rnd(m->r), 1);
        break;
    case 1:
        put(m, 0xd8 | rnd_below(m->r, 8), 1);
        break;
    case 2:
    case 3:
        put(m, 0x0f, 1);
        if (one_in(m->r, 6))
            put(m, one_in(m->r, 2) ? 0x38 : 0x3a, 1);
        put(m, rnd(m->r), 1);
        break;
    default:
        put(m, one_in(m->r, 2) ? rnd_below(m->r, 0x40) : rnd(m->r), 1);
    }
    put_operand(m);
    put(m, rnd(m->r), 4);
}

static void put_any(struct maker *m)
{
    unsigned start = m->at;
    struct insn i;
    for (unsigned tries = 0; tries < 200; tries++) {
        m->at = start;
        put_candidate(m);
        if (insn_decode(m->p->bytes + start, 15, m->g->v->mode, &i) == DECODE_OK &&
            acceptable(&i)) {
            m->at = start + i.len;
            return;
        }
    }
    m->at = start;
    put(m, 0x90, 1);
}

/* --- groups with a purpose --- */

/* One that sets flags, then some that use them. */
static void put_flags(struct maker *m)
{
    static const u8 make[] = {0x01, 0x29, 0x39, 0x85, 0x21, 0x11, 0x19, 0xd1, 0xd3, 0xff, 0xf7};
    u8 op = make[rnd_below(m->r, sizeof(make))];
    if (m->bits == 64 && one_in(m->r, 2))
        put(m, 0x48, 1);
    put(m, op, 1);
    put(m,
        op == 0xf7   ? 0xd8 | rnd_below(m->r, 4)
        : op == 0xff ? 0xc0 | rnd_below(m->r, 16)
                     : 0xc0 | rnd_below(m->r, 64),
        1);
    switch (rnd_below(m->r, 5)) {
    case 0: /* SETcc */
        put(m, 0x0f, 1);
        put(m, 0x90 | rnd_below(m->r, 16), 1);
        put(m, 0xc0 | rnd_below(m->r, 8), 1);
        break;
    case 1: /* CMOVcc */
        put(m, 0x0f, 1);
        put(m, 0x40 | rnd_below(m->r, 16), 1);
        put(m, 0xc0 | rnd_below(m->r, 64), 1);
        break;
    case 2: /* ADC, SBB */
        put(m, one_in(m->r, 2) ? 0x11 : 0x1b, 1);
        put(m, 0xc0 | rnd_below(m->r, 64), 1);
        break;
    case 3: /* PUSHF, POP */
        put(m, 0x9c, 1);
        put(m, 0x58 | rnd_below(m->r, 4), 1);
        break;
    default:
        put(m, 0x9f, 1); /* LAHF */
    }
}

static void put_target(struct maker *m, bool to_end)
{
    m->fix[m->fixes].at = m->at;
    m->fix[m->fixes].size = word(m);
    m->fix[m->fixes++].to_end = to_end;
    put(m, 0, word(m));
}

/* Forward, to an instruction: jump, call, or a branch that flags decide. */
static void put_forward(struct maker *m)
{
    switch (rnd_below(m->r, 6)) {
    case 0:
        put(m, 0xe9, 1);
        break;
    case 1:
        put(m, 0xe8, 1);
        break;
    default:
        put(m, 0x0f, 1);
        put(m, 0x80 | rnd_below(m->r, 16), 1);
    }
    put_target(m, false);
}

/* Back, to an instruction that is there already; a counter in memory limits how often. */
static void put_backward(struct maker *m)
{
    const struct valid_program *p = m->p;
    if (!p->count)
        return;
    put(m, 0xff, 1);
    put_absolute(m, 1, data_address(m, VALID_FUEL)); /* DEC */
    put(m, 0x880f, 2);                               /* JS */
    put_target(m, true);
    unsigned to = p->start[p->count - 1 - rnd_below(m->r, MIN(p->count, 12u))];
    if (one_in(m->r, 4))
        put(m, 0xe9, 1);
    else {
        put(m, 0x0f, 1);
        put(m, 0x80 | rnd_below(m->r, 16), 1);
    }
    put(m, to - (m->at + word(m)), word(m));
}

static void put_stack(struct maker *m)
{
    static const u8 plain[] = {0x9c, 0x9d, 0xc9, 0xc3, 0x60, 0x61, 0x06, 0x1e};
    switch (rnd_below(m->r, 6)) {
    case 0:
        put(m, 0x6a, 1);
        put(m, rnd(m->r), 1);
        break;
    case 1:
        put(m, 0xff, 1);
        put_absolute(m, 6, data_address(m, GPA_DATA + rnd_below(m->r, 0x700)));
        break;
    case 2:
        put(m, plain[rnd_below(m->r, sizeof(plain))], 1);
        break;
    case 3: /* back to where the stack was */
        put_mov_imm(m, RSP, m->bits == 16 ? 0x800 : m->g->base + GPA_STACK + 0x800);
        break;
    default:
        put(m, 0x50 | rnd_below(m->r, 16), 1);
    }
}

static void put_string(struct maker *m)
{
    static const u8 op[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
    put_mov_imm(m, RCX, rnd_below(m->r, one_in(m->r, 8) ? 0x400 : 20));
    put_mov_imm(m, RDI,
                m->bits == 16 ? rnd_below(m->r, 0x1000)
                              : m->g->base + GPA_DATA + rnd_below(m->r, 0x1100));
    if (one_in(m->r, 8))
        put(m, 0xfc | rnd_below(m->r, 2), 1);
    if (one_in(m->r, 2))
        put(m, 0xf2 | rnd_below(m->r, 2), 1);
    if (m->bits == 64 && one_in(m->r, 2))
        put(m, 0x48, 1);
    put(m, op[rnd_below(m->r, sizeof(op))], 1);
}

/* A register points to the data again. */
static void put_pointer(struct maker *m)
{
    static const u8 reg[] = {RBX, RSI, RDI, RBP, RAX, RDX};
    put_mov_imm(m, reg[rnd_below(m->r, sizeof(reg))],
                m->bits == 16 ? rnd_below(m->r, 0x700)
                              : m->g->base + GPA_DATA + rnd_below(m->r, 0x1100));
}

/* A store to an instruction nearby. NOPs and other short instructions go there, or any byte. */
static void put_patch(struct maker *m)
{
    static const u8 patch[] = {0x90, 0x90, 0xf8, 0xf9, 0xf5, 0x98, 0xcc, 0x00};
    const struct valid_program *p = m->p;
    unsigned target = one_in(m->r, 2) && p->count
                          ? p->start[p->count - 1 - rnd_below(m->r, MIN(p->count, 6u))]
                          : m->at + (unsigned)rnd_below(m->r, 40);
    if (m->bits == 16 && m->g->mode > FUZZ_V86)
        return;
    if (m->bits == 16)
        put(m, 0x2e, 1); /* CS, whose base the code is at */
    u64 address = target + (m->bits == 16 ? 0 : GPA_CODE);
    put(m, one_in(m->r, 2) ? 0xc6 : 0x80, 1);
    put_absolute(m, 0, address);
    put(m, one_in(m->r, 4) ? rnd(m->r) : patch[rnd_below(m->r, sizeof(patch))], 1);
}

/* Another frame for a page of the window, and the code or data there is used. */
static void put_remap(struct maker *m)
{
    static const u64 frame[] = {GPA_DATA, GPA_DATA + PAGE_SIZE, GPA_CODE & PAGE_MASK,
                                (GPA_CODE & PAGE_MASK) + PAGE_SIZE, GPA_STACK};
    bool wide = m->g->v->cr4 & CR4_PAE;
    unsigned page = (unsigned)rnd_below(m->r, VALID_WINDOW_PAGES);
    u64 window = VALID_WINDOW + page * PAGE_SIZE;
    u64 entry = VALID_WINDOW / PAGE_SIZE + page;
    u64 pte = frame[rnd_below(m->r, ARRAY_SIZE(frame))] | 0x67;
    if (one_in(m->r, 4))
        pte ^= BIT(rnd_below(m->r, 3));
    if (m->bits == 16 || !(m->g->v->cr0 & CR0_PG) || m->g->v->cpl)
        return;
    put(m, 0xc7, 1);
    put_absolute(m, 0, VALID_TABLE + entry * (wide ? 8 : 4));
    put(m, pte, 4);
    put(m, 0x010f, 2); /* INVLPG */
    put_absolute(m, 7, window);
    if (one_in(m->r, 2)) {
        put(m, one_in(m->r, 2) ? 0x8b : 0x01, 1);
        put_absolute(m, (unsigned)rnd_below(m->r, 4), window + rnd_below(m->r, 0x700));
    } else if (m->p->count) {
        u64 to = GPA_CODE + m->p->start[rnd_below(m->r, m->p->count)];
        put_mov_imm(m, RAX, window | (to & ~PAGE_MASK));
        put(m, 0xd0ff, 2); /* CALL; limited by the number of faults and steps */
    }
}

/* Any system instruction, transfer or garbage. */
static void put_wild(struct maker *m)
{
    unsigned size = 1 + (unsigned)rnd_below(m->r, 10);
    fuzz_program(m->r, m->p->bytes + m->at, size);
    m->at += size;
}

static void put_something(struct maker *m)
{
    static void (*const kind[])(struct maker *) = {
        put_any,    put_any,     put_any,     put_any,     put_any,      put_any,   put_flags,
        put_flags,  put_flags,   put_forward, put_forward, put_backward, put_stack, put_stack,
        put_string, put_pointer, put_pointer, put_patch,   put_remap};
    if (one_in(m->r, 60))
        put_wild(m);
    else
        kind[rnd_below(m->r, ARRAY_SIZE(kind))](m);
}

static void fill_in(struct maker *m)
{
    struct valid_program *p = m->p;
    unsigned end = p->start[p->count - 1];
    for (unsigned n = 0; n < m->fixes; n++) {
        unsigned from = m->fix[n].at, k = 0, to = end;
        while (k < p->count && p->start[k] <= from)
            k++;
        if (!m->fix[n].to_end && k < p->count)
            to = p->start[MIN(k + (unsigned)rnd_below(m->r, 6), p->count - 1)];
        store_le(p->bytes + from, to - (from + m->fix[n].size), m->fix[n].size);
    }
}

void valid_program(struct fuzz_guest *g, struct rng *r, unsigned groups, struct valid_program *p)
{
    u8 mode = g->v->mode;
    struct maker m = {.g = g, .r = r, .p = p};
    m.bits = mode == MODE_LONG64 ? 64 : mode == MODE_PROT32 || mode == MODE_COMPAT32 ? 32 : 16;
    memset(p, 0, sizeof(*p));
    while (p->count < MIN(groups, VALID_MAX - 1u) && m.at < CODE_SIZE - 64) {
        unsigned start = m.at;
        put_something(&m);
        if (m.at != start)
            p->start[p->count++] = start;
    }
    p->start[p->count++] = m.at;
    put(&m, 0xf4, 1);
    p->size = m.at;
    fill_in(&m);
}
