/*
 * Multiplication and division by the host's instructions. A division is checked for #DE first,
 * so that the host never faults.
 */
#include "engine/sem/sem_common.h"

/* host_<name>_wide: the one-operand forms on rDX:rAX (bytes: AX). The image of the flags has to go
 * through RAX first, which then gets its operand by a move, and moves leave flags alone. */
#define HOST_WIDE(size, suffix, m, name)                                                           \
    ALWAYS_INLINE void host_##name##_wide_##size(u64 *low, u64 *high, u64 src, u32 *flags)         \
    {                                                                                              \
        __asm__(HOST_FLAGS_LOAD "mov %2, %%rax\n\t" #name suffix " %" m "3\n\t"                    \
                                "mov %%rax, %2" HOST_FLAGS_SAVE                                    \
                : "+&a"(*flags), "+&d"(*high), "+&r"(*low)                                         \
                : "r"(src)                                                                         \
                : "cc");                                                                           \
    }
FOR_SIZES(HOST_WIDE, mul)
FOR_SIZES(HOST_WIDE, imul)
FOR_SIZES(HOST_WIDE, div)
FOR_SIZES(HOST_WIDE, idiv)

#define HOST_IMUL(size, suffix, m, ...)                                                            \
    ALWAYS_INLINE u64 host_imul_##size(u64 dst, u64 src, u32 *flags)                               \
    {                                                                                              \
        __asm__(HOST_FLAGS_LOAD "imul" suffix " %" m "2, %" m "0" HOST_FLAGS_SAVE                  \
                : "+r"(dst), "+a"(*flags)                                                          \
                : "r"(src)                                                                         \
                : "cc");                                                                           \
        return dst;                                                                                \
    }
FOR_WORDS(HOST_IMUL, )

typedef void wide_fn(u64 *low, u64 *high, u64 src, u32 *flags);

ALWAYS_INLINE void wide(struct vcpu *v, u64 src, unsigned size, wide_fn *fn)
{
    u32 flags = flags_image(v);
    u64 low = v->gpr[RAX], high = v->gpr[RDX];
    fn(&low, &high, src, &flags);
    if (size == 1) {
        reg_write(v, RAX, 2, low);
    } else {
        reg_write(v, RAX, size, low);
        reg_write(v, RDX, size, high);
    }
    flags_set_image(v, flags);
}

ALWAYS_INLINE void mul_any(struct vcpu *v, const struct insn *i, unsigned size, wide_fn *fn)
{
    wide(v, opd_read(v, i, 0, size), size, fn);
}

/* The upper half of the dividend. */
ALWAYS_INLINE u64 dividend_high(const struct vcpu *v, unsigned size)
{
    return size == 1 ? reg8h_read(v, RAX) : reg_read(v, RDX, size);
}

ALWAYS_INLINE void div_any(struct vcpu *v, const struct insn *i, unsigned size, wide_fn *fn)
{
    u64 src = opd_read(v, i, 0, size);
    if (dividend_high(v, size) >= src) /* src = 0 too */
        fault_raise(v, VEC_DE);
    wide(v, src, size, fn);
}

static u128 magnitude(i128 n)
{
    return n < 0 ? -(u128)n : (u128)n;
}

/* The quotient fits if |dividend| < (largest magnitude + 1) * |divisor|. */
static bool idiv_overflows(u64 high, u64 low, u64 src, unsigned size)
{
    i128 n = (i128)((u128)(i128)sign_extend(high, size) << (8 * size)) | (i128)(u128)low;
    i64 d = sign_extend(src, size);
    u128 limit = (u128)1 << (8 * size - 1);
    if ((n < 0) != (d < 0))
        limit++;
    return d == 0 || magnitude(n) >= limit * magnitude(d);
}

ALWAYS_INLINE void idiv_any(struct vcpu *v, const struct insn *i, unsigned size, wide_fn *fn)
{
    u64 src = opd_read(v, i, 0, size);
    if (idiv_overflows(dividend_high(v, size), reg_read(v, RAX, size), src, size))
        fault_raise(v, VEC_DE);
    wide(v, src, size, fn);
}

#define WIDE(size, suffix, m, name, any)                                                           \
    SEM_FUNCTION(size, , , name, any, host_##name##_wide_##size)

FOR_SIZES(WIDE, mul, mul_any)
SEM_TABLE_SIZES(mul, mul);
FOR_SIZES(WIDE, div, div_any)
SEM_TABLE_SIZES(div, div);
FOR_SIZES(WIDE, idiv, idiv_any)
SEM_TABLE_SIZES(idiv, idiv);

/* IMUL: widening with one operand; r, r/m; r, r/m, imm. */
ALWAYS_INLINE void imul_any(struct vcpu *v, const struct insn *i, unsigned size, wide_fn *widening,
                            update_fn *fn)
{
    if (i->nopd == 1) {
        mul_any(v, i, size, widening);
        return;
    }
    u32 flags = flags_image(v);
    u64 a = i->nopd == 3 ? i->imm : reg_read(v, i->opd[0].reg, size);
    reg_write(v, i->opd[0].reg, size, fn(a, opd_read(v, i, 1, size), &flags));
    flags_set_image(v, flags);
}

#define IMUL(size, suffix, m, ...)                                                                 \
    SEM_FUNCTION(size, , , imul, imul_any, host_imul_wide_##size, host_imul_##size)
SEM_FUNCTION(1, , , imul, mul_any, host_imul_wide_1)
FOR_WORDS(IMUL, )
SEM_TABLE_SIZES(imul, imul);

ALWAYS_INLINE void imul_reg(struct vcpu *v, const struct insn *i, unsigned size, update_fn *fn,
                            u64 src)
{
    unsigned reg = i->opd[0].reg;
    u32 flags = flags_image(v);
    reg_write(v, reg, size, fn(reg_read(v, reg, size), src, &flags));
    flags_set_image(v, flags);
}

#define IMUL_FORMS(size, suffix, m, ...)                                                           \
    SEM_FUNCTION(size, , , imul_reg_reg, imul_reg, host_imul_##size, v->gpr[i->opd[1].reg])        \
    SEM_FUNCTION(size, , , imul_reg_mem, imul_reg, host_imul_##size, mem_read(v, i, size))
FOR_WORDS(IMUL_FORMS, )
sem_fn *const sem_forms_imul[FORM_COUNT][4] = {[FORM_ANY] = SIZE_ROW(imul),
                                               [FORM_REG_REG] = WORD_ROW(imul_reg_reg),
                                               [FORM_REG_MEM] = WORD_ROW(imul_reg_mem)};

/* MULX high, low, src: the upper half wins if both are one register. No flags. */
ALWAYS_INLINE void mulx_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    u128 product = (u128)reg_read(v, RDX, size) * opd_read(v, i, 2, size);
    reg_write(v, i->opd[1].reg, size, (u64)product);
    reg_write(v, i->opd[0].reg, size, (u64)(product >> (8 * size)));
}

FOR_DWORDS(SEM_FUNCTION, mulx, mulx_any)
SEM_TABLE_DWORDS(mulx, mulx);
