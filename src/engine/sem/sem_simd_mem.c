/*
 * SIMD instructions that access memory element by element: moves under a mask, and gathers (SDM
 * vol. 2: VMASKMOV, VPMASKMOV, MASKMOVDQU, VGATHER). Only the elements that the mask selects are
 * accessed and can fault. A gather that faults leaves what it has done in its destination and mask,
 * and goes on from there when it is restarted.
 */
#include "engine/sem/sem.h"
#include "engine/sem/sem_fpu.h"
#include "mem/access.h"

/* --- vector registers as bytes --- */

struct vec {
    u8 byte[32];
};

static struct vec vec_get(const struct vcpu *v, unsigned n)
{
    struct vec x;
    memcpy(x.byte, v->fpu.legacy.xmm[n], 16);
    memcpy(x.byte + 16, v->fpu.ymm_hi[n], 16);
    return x;
}

/* As VEX instructions write: bytes beyond `size` become zero. */
static void vec_set(struct vcpu *v, unsigned n, struct vec x, unsigned size)
{
    memset(x.byte + size, 0, sizeof(x.byte) - size);
    memcpy(v->fpu.legacy.xmm[n], x.byte, 16);
    memcpy(v->fpu.ymm_hi[n], x.byte + 16, 16);
}

/* The n-th element of `size` bytes is selected by its highest bit. */
static bool selected(const struct vec *mask, unsigned n, unsigned size)
{
    return mask->byte[n * size + size - 1] & 0x80;
}

static u64 address_mask(const struct insn *i)
{
    return size_mask(i->addrsize);
}

/* --- moves under a mask --- */

struct masked {
    struct vec mask;
    unsigned element, count; /* element size in bytes, and how many */
    u64 base;                /* effective address of element 0 */
};

static u64 masked_lin(struct vcpu *v, const struct insn *i, const struct masked *m, unsigned n,
                      enum access access)
{
    u64 ea = (m->base + (u64)n * m->element) & address_mask(i);
    return seg_lin(v, i->seg, ea, m->element, access);
}

static struct vec masked_load(struct vcpu *v, const struct insn *i, const struct masked *m)
{
    struct vec x = {{0}};
    for (unsigned n = 0; n < m->count; n++) {
        if (!selected(&m->mask, n, m->element))
            continue;
        u64 lin = masked_lin(v, i, m, n, ACCESS_READ);
        store_le(x.byte + n * m->element, lin_read(v, lin, m->element), m->element);
    }
    return x;
}

/* All selected elements are checked before the first is written. */
static void masked_store(struct vcpu *v, const struct insn *i, const struct masked *m,
                         const struct vec *x)
{
    u64 lin[16];
    for (unsigned n = 0; n < m->count; n++) {
        if (!selected(&m->mask, n, m->element))
            continue;
        lin[n] = masked_lin(v, i, m, n, ACCESS_WRITE);
        lin_probe(v, lin[n], m->element, ACCESS_WRITE);
    }
    for (unsigned n = 0; n < m->count; n++)
        if (selected(&m->mask, n, m->element))
            lin_write(v, lin[n], load_le(x->byte + n * m->element, m->element), m->element);
}

static void vmaskmov(struct vcpu *v, const struct insn *i)
{
    check_avx(v);
    bool wide = i->op == OP_VMASKMOVPD || i->op == OP_VPMASKMOVQ;
    bool store = i->opd[0].kind == OPD_MEM;
    unsigned bytes = i->opd[1].kind == OPD_YMM ? 32 : 16;
    struct masked m = {.mask = vec_get(v, i->opd[1].reg), .element = wide ? 8 : 4};
    m.count = bytes / m.element;
    m.base = sem_ea(v, i);
    if (store) {
        struct vec x = vec_get(v, i->opd[2].reg);
        masked_store(v, i, &m, &x);
    } else {
        vec_set(v, i->opd[0].reg, masked_load(v, i, &m), bytes);
    }
}
SEM_SAME(vmaskmov, vmaskmov);

/* MMX register n is physical x87 register n. */
static u8 *mmx_register(struct fpu_legacy *x, unsigned n)
{
    return x->st[(n - FSW_TOP(x->fsw)) & 7];
}

/* Any MMX instruction but EMMS: TOP becomes 0 and no register is empty (SDM vol. 3, 12.2). */
static void mmx_enter(struct fpu_legacy *x)
{
    fpu_set_top(x, 0);
    x->ftw_abridged = 0xff;
}

static struct vec mmx_get(struct vcpu *v, unsigned n)
{
    struct vec x = {{0}};
    memcpy(x.byte, mmx_register(&v->fpu.legacy, n), 8);
    return x;
}

/* MASKMOVQ, MASKMOVDQU: the destination is DS:[rDI], or another segment by prefix. */
static void maskmov(struct vcpu *v, const struct insn *i)
{
    bool mmx = i->op == OP_MASKMOVQ;
    if (mmx)
        check_mmx(v);
    else if (i->op == OP_VMASKMOVDQU)
        check_avx(v);
    else
        check_sse(v);
    struct masked m = {.element = 1, .count = mmx ? 8 : 16};
    unsigned source = i->opd[0].reg, mask = i->opd[1].reg;
    struct vec x = mmx ? mmx_get(v, source & 7) : vec_get(v, source);
    m.mask = mmx ? mmx_get(v, mask & 7) : vec_get(v, mask);
    m.base = v->gpr[RDI] & address_mask(i);
    masked_store(v, i, &m, &x);
    if (mmx)
        mmx_enter(&v->fpu.legacy);
}
SEM_SAME(maskmov, maskmov);

/* --- gathers --- */

/* VEX.L; gathers have the three-byte form, after legacy prefixes. */
static bool vex_256(const struct insn *i)
{
    unsigned n = 0;
    while (i->raw[n] != 0xc4)
        n++;
    return i->raw[n + 2] & 4;
}

static bool gather_index_wide(unsigned op)
{
    return op == OP_VGATHERQPS || op == OP_VGATHERQPD || op == OP_VPGATHERQD || op == OP_VPGATHERQQ;
}

static bool gather_data_wide(unsigned op)
{
    return op == OP_VGATHERDPD || op == OP_VGATHERQPD || op == OP_VPGATHERDQ || op == OP_VPGATHERQQ;
}

static u64 gather_lin(struct vcpu *v, const struct insn *i, const struct vec *index, unsigned n,
                      unsigned size)
{
    unsigned width = gather_index_wide(i->op) ? 8 : 4;
    u64 ea = (u64)i->disp;
    if (i->base != REG_NONE)
        ea += v->gpr[i->base];
    ea += (u64)sign_extend(load_le(index->byte + n * width, width), width) << i->scale;
    return seg_lin(v, i->seg, ea & address_mask(i), size, ACCESS_READ);
}

static void gather(struct vcpu *v, const struct insn *i)
{
    check_avx(v);
    unsigned data = gather_data_wide(i->op) ? 8 : 4;
    unsigned widest = data == 8 || gather_index_wide(i->op) ? 8 : 4;
    unsigned count = (vex_256(i) ? 32 : 16) / widest, bytes = count * data;
    unsigned to = i->opd[0].reg, by = i->opd[2].reg;
    const struct vec index = vec_get(v, i->index);
    struct vec x = vec_get(v, to), mask = vec_get(v, by);

    for (unsigned n = 0; n < count; n++) {
        if (selected(&mask, n, data)) {
            u64 value = lin_read(v, gather_lin(v, i, &index, n, data), data);
            store_le(x.byte + n * data, value, data);
        }
        store_le(mask.byte + n * data, 0, data);
        vec_set(v, to, x, sizeof(x));
        vec_set(v, by, mask, sizeof(mask));
    }
    vec_set(v, to, x, bytes);
    vec_set(v, by, mask, 0);
}
SEM_SAME(gather, gather);
