/*
 * What semantic functions are made of: operands, memory, flags, and the macros that make one
 * function for each operand size from one description. All is inline with constant sizes.
 *
 * Flags are the host CPU's own, undefined ones included: an operation is executed by the same host
 * instruction, with the guest's arithmetic flags loaded before where they can matter. Between guest
 * and host they travel as an image in AX: AH as LAHF and SAHF see it, AL is OF.
 */
#ifndef RINGER_ENGINE_SEM_SEM_COMMON_H
#define RINGER_ENGINE_SEM_SEM_COMMON_H

#include "cpu/fault.h"
#include "engine/sem/sem.h"
#include "mem/access.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* --- one function per size --- */

/* X(size, AT&T suffix, asm operand modifier, ...) for each operand size. */
#define FOR_SIZES(X, ...)                                                                          \
    X(1, "b", "b", __VA_ARGS__)                                                                    \
    X(2, "w", "w", __VA_ARGS__)                                                                    \
    X(4, "l", "k", __VA_ARGS__)                                                                    \
    X(8, "q", "q", __VA_ARGS__)
#define FOR_WORDS(X, ...)                                                                          \
    X(2, "w", "w", __VA_ARGS__)                                                                    \
    X(4, "l", "k", __VA_ARGS__)                                                                    \
    X(8, "q", "q", __VA_ARGS__)
#define FOR_DWORDS(X, ...)                                                                         \
    X(4, "l", "k", __VA_ARGS__)                                                                    \
    X(8, "q", "q", __VA_ARGS__)

/* static void prefix_size(v, i) { body(v, i, size, ...); } */
#define SEM_FUNCTION(size, suffix, modifier, prefix, body, ...)                                    \
    static void prefix##_##size(struct vcpu *v, const struct insn *i)                              \
    {                                                                                              \
        body(v, i, size, ##__VA_ARGS__);                                                           \
    }

#define SEM_TABLE_SIZES(name, prefix)                                                              \
    sem_fn *const sem_##name[4] = {prefix##_1, prefix##_2, prefix##_4, prefix##_8}
#define SEM_TABLE_WORDS(name, prefix)                                                              \
    sem_fn *const sem_##name[4] = {NULL, prefix##_2, prefix##_4, prefix##_8}
#define SEM_TABLE_DWORDS(name, prefix)                                                             \
    sem_fn *const sem_##name[4] = {NULL, NULL, prefix##_4, prefix##_8}

/* --- registers --- */

ALWAYS_INLINE u64 reg_read(const struct vcpu *v, unsigned reg, unsigned size)
{
    return v->gpr[reg] & size_mask(size);
}

/* 32-bit writes clear the upper half, smaller ones leave the rest. */
ALWAYS_INLINE void reg_write(struct vcpu *v, unsigned reg, unsigned size, u64 value)
{
    if (size == 8)
        v->gpr[reg] = value;
    else if (size == 4)
        v->gpr[reg] = (u32)value;
    else
        store_le(&v->gpr[reg], value, size);
}

ALWAYS_INLINE u64 reg8h_read(const struct vcpu *v, unsigned reg)
{
    return (v->gpr[reg] >> 8) & 0xff;
}

ALWAYS_INLINE void reg8h_write(struct vcpu *v, unsigned reg, u64 value)
{
    store_le((u8 *)&v->gpr[reg] + 1, value, 1);
}

/* --- memory --- */

/* A field of *v that struct insn names by its offset. */
ALWAYS_INLINE u64 vcpu_field(const struct vcpu *v, unsigned at)
{
    return *(const u64 *)((const char *)v + at);
}

ALWAYS_INLINE u64 address_sum(const struct vcpu *v, const struct insn *i)
{
    return (u64)i->disp + vcpu_field(v, i->base_at) + (vcpu_field(v, i->index_at) << i->scale);
}

/* Effective address of the memory operand; inline twin of sem_ea. */
ALWAYS_INLINE u64 effective_address(const struct vcpu *v, const struct insn *i)
{
    return address_sum(v, i) & size_mask(i->addrsize);
}

/* Linear address of the memory operand, checked for an access of this kind. */
ALWAYS_INLINE u64 mem_lin(struct vcpu *v, const struct insn *i, unsigned size, enum access access)
{
    return seg_lin(v, (enum seg_reg)i->seg, effective_address(v, i), size, access);
}

/* The memory operand's first-level TLB entry and linear address. If quick_hit says so for one of
 * the entry's tags, nothing is left to be checked: a tag is that of a canonical address. Else all
 * is done again, with every check, out of line. */
ALWAYS_INLINE const struct tlb_entry *quick_entry(struct vcpu *v, const struct insn *i, u64 *lin)
{
    *lin = (address_sum(v, i) + vcpu_field(v, i->seg_at)) & i->lin_mask;
    return tlb_entry(v, v->tlb_ctx, *lin);
}

ALWAYS_INLINE bool quick_hit(const struct vcpu *v, const struct insn *i, u64 tag, u64 lin,
                             unsigned size)
{
    return (v->quick_segs & i->quick_seg) && tlb_hit(tag, lin, size);
}

u64 sem_read_slow(struct vcpu *v, const struct insn *i, unsigned size);
void sem_write_slow(struct vcpu *v, const struct insn *i, unsigned size, u64 value);

ALWAYS_INLINE u64 mem_read(struct vcpu *v, const struct insn *i, unsigned size)
{
    u64 lin;
    const struct tlb_entry *e = quick_entry(v, i, &lin);
    if (likely(quick_hit(v, i, e->read, lin, size)))
        return ram_load(tlb_hva(e, lin), size);
    return sem_read_slow(v, i, size);
}

ALWAYS_INLINE void mem_write(struct vcpu *v, const struct insn *i, unsigned size, u64 value)
{
    u64 lin;
    const struct tlb_entry *e = quick_entry(v, i, &lin);
    if (unlikely(!quick_hit(v, i, e->write_any, lin, size))) {
        sem_write_slow(v, i, size, value);
        return;
    }
    void *p = tlb_hva(e, lin);
    ram_store(p, value, size);
    ram_written(v, p, size);
}

/* --- operands of any kind --- */

/* Operand n as an unsigned number of `size` bytes (immediates: sign-extended, wider than that). */
ALWAYS_INLINE u64 opd_read(struct vcpu *v, const struct insn *i, unsigned n, unsigned size)
{
    switch (i->opd[n].kind) {
    case OPD_GPR:
        return reg_read(v, i->opd[n].reg, size);
    case OPD_MEM:
        return mem_read(v, i, size);
    case OPD_GPR8H:
        return reg8h_read(v, i->opd[n].reg);
    default:
        return i->imm;
    }
}

/* As opd_read, of the operand's own size: for operands that are smaller than the operation. */
static inline u64 opd_read_own(struct vcpu *v, const struct insn *i, unsigned n)
{
    switch (i->opd[n].size) {
    case 1:
        return opd_read(v, i, n, 1);
    case 2:
        return opd_read(v, i, n, 2);
    case 4:
        return opd_read(v, i, n, 4);
    default:
        return opd_read(v, i, n, 8);
    }
}

ALWAYS_INLINE void opd_write(struct vcpu *v, const struct insn *i, unsigned n, unsigned size,
                             u64 value)
{
    switch (i->opd[n].kind) {
    case OPD_GPR:
        reg_write(v, i->opd[n].reg, size, value);
        break;
    case OPD_MEM:
        mem_write(v, i, size, value);
        break;
    default:
        reg8h_write(v, i->opd[n].reg, value);
        break;
    }
}

/* --- flags --- */

#define HOST_FLAGS_LOAD "addb $127, %%al\n\tsahf\n\t"
#define HOST_FLAGS_SAVE "\n\tlahf\n\tseto %%al"
#define LAHF_FLAGS      (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF)

/* The image of the guest's arithmetic flags. */
ALWAYS_INLINE u32 flags_image(const struct vcpu *v)
{
    return (u32)((v->rflags & LAHF_FLAGS) << 8 | (v->rflags >> 11 & 1));
}

ALWAYS_INLINE void flags_set_image(struct vcpu *v, u32 image)
{
    v->rflags = (v->rflags & ~FLAGS_ARITH) | (image >> 8 & LAHF_FLAGS) | (u64)(image & 1) << 11;
}

ALWAYS_INLINE void flags_assign(struct vcpu *v, u64 mask, u64 value)
{
    v->rflags = (v->rflags & ~mask) | (value & mask);
}

/* Condition codes as the low four bits of Jcc, SETcc and CMOVcc. */
ALWAYS_INLINE bool condition(u64 f, unsigned cc)
{
    bool sf_ne_of = ((f >> 7) ^ (f >> 11)) & 1;
    bool r;
    switch (cc >> 1) {
    case 0:
        r = f & FLAG_OF;
        break;
    case 1:
        r = f & FLAG_CF;
        break;
    case 2:
        r = f & FLAG_ZF;
        break;
    case 3:
        r = f & (FLAG_CF | FLAG_ZF);
        break;
    case 4:
        r = f & FLAG_SF;
        break;
    case 5:
        r = f & FLAG_PF;
        break;
    case 6:
        r = sf_ne_of;
        break;
    default:
        r = sf_ne_of || (f & FLAG_ZF);
        break;
    }
    return r != (cc & 1);
}

/* X(name, condition code, ...) for the sixteen conditions by Zydis's names. */
// clang-format off
#define FOR_CONDITIONS(X, ...)                                                                     \
    X(o, 0, __VA_ARGS__) X(no, 1, __VA_ARGS__) X(b, 2, __VA_ARGS__) X(nb, 3, __VA_ARGS__)          \
    X(z, 4, __VA_ARGS__) X(nz, 5, __VA_ARGS__) X(be, 6, __VA_ARGS__) X(nbe, 7, __VA_ARGS__)        \
    X(s, 8, __VA_ARGS__) X(ns, 9, __VA_ARGS__) X(p, 10, __VA_ARGS__) X(np, 11, __VA_ARGS__)        \
    X(l, 12, __VA_ARGS__) X(nl, 13, __VA_ARGS__) X(le, 14, __VA_ARGS__) X(nle, 15, __VA_ARGS__)
// clang-format on

/* --- read-modify-write --- */

/* The new value of a destination; *flags: image before and after. */
typedef u64 update_fn(u64 dst, u64 src, u32 *flags);

/* Compare-and-swap on guest memory at any alignment within its page: true if *p was *expected;
 * else *expected is what was found. */
#define HOST_CAS(size, suffix, modifier, ...)                                                      \
    ALWAYS_INLINE bool host_cas_##size(void *p, u64 *expected, u64 desired)                        \
    {                                                                                              \
        bool equal;                                                                                \
        __asm__ volatile("lock cmpxchg" suffix " %" modifier "3, %1"                               \
                         : "=@ccz"(equal), "+m"(*(u8(*)[size])p), "+a"(*expected)                  \
                         : "r"(desired)                                                            \
                         : "memory");                                                              \
        return equal;                                                                              \
    }
FOR_SIZES(HOST_CAS, )

ALWAYS_INLINE bool host_cas(void *p, u64 *expected, u64 desired, unsigned size)
{
    switch (size) {
    case 1:
        return host_cas_1(p, expected, desired);
    case 2:
        return host_cas_2(p, expected, desired);
    case 4:
        return host_cas_4(p, expected, desired);
    default:
        return host_cas_8(p, expected, desired);
    }
}

/* Updates `size` bytes at lin by fn, atomically if the instruction has LOCK; returns the old value.
 * What isn't in one page of RAM can't be atomic. */
ALWAYS_INLINE u64 lin_update(struct vcpu *v, const struct insn *i, u64 lin, unsigned size, u64 src,
                             update_fn *fn, u32 *flags)
{
    struct lin_rmw rmw;
    u32 before = *flags;
    lin_rmw_begin(v, lin, size, &rmw);
    u64 old = load_le(rmw.p, size);
    u64 new = fn(old, src, flags);
    if (unlikely(i->prefix & PFX_LOCK) && rmw.direct) {
        while (!host_cas(rmw.p, &old, new, size)) {
            *flags = before;
            new = fn(old, src, flags);
        }
    } else {
        store_le(rmw.p, new, size);
    }
    lin_rmw_end(v, &rmw);
    return old & size_mask(size);
}

/* The same for the memory operand. */
u64 sem_update_slow(struct vcpu *v, const struct insn *i, unsigned size, u64 src, update_fn *fn,
                    u32 *flags);

ALWAYS_INLINE u64 mem_update(struct vcpu *v, const struct insn *i, unsigned size, u64 src,
                             update_fn *fn, u32 *flags)
{
    u64 lin, old;
    const struct tlb_entry *e = quick_entry(v, i, &lin);
    if (unlikely(i->prefix & PFX_LOCK || !quick_hit(v, i, e->write_any, lin, size))) {
        u32 slow_flags = *flags; /* not *flags itself, which may then stay in a register */
        old = sem_update_slow(v, i, size, src, fn, &slow_flags);
        *flags = slow_flags;
        return old;
    }
    void *p = tlb_hva(e, lin);
    old = ram_load(p, size);
    ram_store(p, fn(old, src, flags), size);
    ram_written(v, p, size);
    return old;
}

/* The same for operand 0 of any kind. */
ALWAYS_INLINE u64 opd_update(struct vcpu *v, const struct insn *i, unsigned size, u64 src,
                             update_fn *fn, u32 *flags)
{
    const struct operand *dst = &i->opd[0];
    if (dst->kind == OPD_MEM)
        return mem_update(v, i, size, src, fn, flags);
    u64 old = dst->kind == OPD_GPR ? reg_read(v, dst->reg, size) : reg8h_read(v, dst->reg);
    u64 new = fn(old, src, flags);
    if (dst->kind == OPD_GPR)
        reg_write(v, dst->reg, size, new);
    else
        reg8h_write(v, dst->reg, new);
    return old;
}

/* --- forms --- */

/* Operations that are executed most often have functions for their operands' kinds; sem_bind
 * chooses. Where a table has none for a form, the one for all kinds serves. */
enum sem_form {
    FORM_ANY,     /* all kinds, LOCK */
    FORM_REG_REG, /* low registers */
    FORM_REG_IMM,
    FORM_REG_MEM,
    FORM_MEM_REG,
    FORM_MEM_IMM,
    FORM_REG, /* the only operand */
    FORM_COUNT
};

// clang-format off
#define FOR_FORMED_OPS(X)                                                                          \
    X(ADD, add) X(OR, or) X(ADC, adc) X(SBB, sbb) X(AND, and) X(SUB, sub) X(XOR, xor) X(CMP, cmp)  \
    X(TEST, test) X(MOV, mov) X(INC, inc) X(DEC, dec) X(NEG, neg) X(SHL, shl) X(SHR, shr)          \
    X(SAR, sar) X(ROL, rol) X(ROR, ror) X(RCL, rcl) X(RCR, rcr) X(PUSH, insn_push)                 \
    X(POP, insn_pop) X(IMUL, imul)
// clang-format on

#define SEM_FORMS(mnemonic, name) extern sem_fn *const sem_forms_##name[FORM_COUNT][4];
FOR_FORMED_OPS(SEM_FORMS)
#undef SEM_FORMS

/* The functions <name>_<size>. */
#define SIZE_ROW(name)                                                                             \
    {                                                                                              \
        name##_1, name##_2, name##_4, name##_8                                                     \
    }
#define WORD_ROW(name)                                                                             \
    {                                                                                              \
        NULL, name##_2, name##_4, name##_8                                                         \
    }
/* The tables of a formed operation, from the functions <name>_<form>_<size>. */
#define FORM_ROW(name, form) SIZE_ROW(name##_##form)
#define SEM_FORM_TABLES(name)                                                                      \
    sem_fn *const sem_##name[4] = FORM_ROW(name, any);                                             \
    sem_fn *const sem_forms_##name[FORM_COUNT][4] = {                                              \
        [FORM_ANY] = FORM_ROW(name, any),         [FORM_REG_REG] = FORM_ROW(name, reg_reg),        \
        [FORM_REG_IMM] = FORM_ROW(name, reg_imm), [FORM_REG_MEM] = FORM_ROW(name, reg_mem),        \
        [FORM_MEM_REG] = FORM_ROW(name, mem_reg), [FORM_MEM_IMM] = FORM_ROW(name, mem_imm),        \
    }

/* MOVZX and MOVSX, by log2 of the source's size and by its kind: 0 register, 1 memory. */
extern sem_fn *const sem_forms_movzx[3][2][4], *const sem_forms_movsx[3][2][4];

#endif
