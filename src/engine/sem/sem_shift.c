/*
 * Shifts and rotates, by the host's own instructions with the guest's flags loaded: a count of
 * zero leaves them, and some counts leave some of them undefined.
 */
#include "engine/sem/sem_common.h"

#define HOST_SHIFT(size, suffix, m, name)                                                          \
    ALWAYS_INLINE u64 host_##name##_##size(u64 dst, u64 count, u32 *flags)                         \
    {                                                                                              \
        __asm__(HOST_FLAGS_LOAD #name suffix " %%cl, %" m "0" HOST_FLAGS_SAVE                      \
                : "+r"(dst), "+a"(*flags)                                                          \
                : "c"(count)                                                                       \
                : "cc");                                                                           \
        return dst;                                                                                \
    }

ALWAYS_INLINE void shift_any(struct vcpu *v, const struct insn *i, unsigned size, update_fn *fn)
{
    u32 flags = flags_image(v);
    opd_update(v, i, size, opd_read(v, i, 1, 1), fn, &flags);
    flags_set_image(v, flags);
}

/* A register, by an immediate or by CL. */
ALWAYS_INLINE void shift_reg(struct vcpu *v, const struct insn *i, unsigned size, update_fn *fn,
                             u64 count)
{
    unsigned reg = i->opd[0].reg;
    u32 flags = flags_image(v);
    reg_write(v, reg, size, fn(reg_read(v, reg, size), count, &flags));
    flags_set_image(v, flags);
}

#define SHIFT(size, suffix, m, name)                                                               \
    HOST_SHIFT(size, suffix, m, name)                                                              \
    SEM_FUNCTION(size, , , name, shift_any, host_##name##_##size)                                  \
    SEM_FUNCTION(size, , , name##_imm, shift_reg, host_##name##_##size, i->imm)                    \
    SEM_FUNCTION(size, , , name##_cl, shift_reg, host_##name##_##size, v->gpr[RCX])
#define SHIFT_OP(name)                                                                             \
    FOR_SIZES(SHIFT, name)                                                                         \
    SEM_TABLE_SIZES(name, name);                                                                   \
    sem_fn *const sem_forms_##name[FORM_COUNT][4] = {[FORM_ANY] = SIZE_ROW(name),                  \
                                                     [FORM_REG_IMM] = SIZE_ROW(name##_imm),        \
                                                     [FORM_REG_REG] = SIZE_ROW(name##_cl)}

SHIFT_OP(rol);
SHIFT_OP(ror);
SHIFT_OP(rcl);
SHIFT_OP(rcr);
SHIFT_OP(shl);
SHIFT_OP(shr);
SHIFT_OP(sar);

/* --- SHLD and SHRD: two sources --- */

typedef u64 double_shift_fn(u64 dst, u64 src, u64 count, u32 *flags);

#define HOST_DOUBLE_SHIFT(size, suffix, m, name)                                                   \
    ALWAYS_INLINE u64 host_##name##_##size(u64 dst, u64 src, u64 count, u32 *flags)                \
    {                                                                                              \
        __asm__(HOST_FLAGS_LOAD #name suffix " %%cl, %" m "2, %" m "0" HOST_FLAGS_SAVE             \
                : "+r"(dst), "+a"(*flags)                                                          \
                : "r"(src), "c"(count)                                                             \
                : "cc");                                                                           \
        return dst;                                                                                \
    }

ALWAYS_INLINE void double_shift(struct vcpu *v, const struct insn *i, unsigned size,
                                double_shift_fn *fn)
{
    u32 flags = flags_image(v);
    u64 src = reg_read(v, i->opd[1].reg, size), count = opd_read(v, i, 2, 1);
    if (i->opd[0].kind == OPD_MEM) {
        struct lin_rmw rmw;
        lin_rmw_begin(v, mem_lin(v, i, size, ACCESS_WRITE), size, &rmw);
        store_le(rmw.p, fn(load_le(rmw.p, size), src, count, &flags), size);
        lin_rmw_end(v, &rmw);
    } else {
        unsigned reg = i->opd[0].reg;
        reg_write(v, reg, size, fn(reg_read(v, reg, size), src, count, &flags));
    }
    flags_set_image(v, flags);
}

#define DOUBLE_SHIFT(size, suffix, m, name)                                                        \
    HOST_DOUBLE_SHIFT(size, suffix, m, name)                                                       \
    SEM_FUNCTION(size, , , name, double_shift, host_##name##_##size)

FOR_WORDS(DOUBLE_SHIFT, shld)
SEM_TABLE_WORDS(shld, shld);
FOR_WORDS(DOUBLE_SHIFT, shrd)
SEM_TABLE_WORDS(shrd, shrd);

/* --- BMI2: no flags; dst, source of any kind, count --- */

ALWAYS_INLINE u64 shift_left(u64 value, unsigned count, unsigned size)
{
    (void)size;
    return value << count;
}

ALWAYS_INLINE u64 shift_right(u64 value, unsigned count, unsigned size)
{
    (void)size;
    return value >> count;
}

ALWAYS_INLINE u64 shift_arithmetic(u64 value, unsigned count, unsigned size)
{
    return (u64)(sign_extend(value, size) >> count);
}

ALWAYS_INLINE u64 rotate_right(u64 value, unsigned count, unsigned size)
{
    return count ? value >> count | value << (8 * size - count) : value;
}

typedef u64 plain_shift_fn(u64 value, unsigned count, unsigned size);

ALWAYS_INLINE void plain_shift(struct vcpu *v, const struct insn *i, unsigned size,
                               plain_shift_fn *fn)
{
    u64 value = opd_read(v, i, 1, size);
    unsigned count = (unsigned)opd_read(v, i, 2, 1) & (8 * size - 1);
    reg_write(v, i->opd[0].reg, size, fn(value, count, size));
}

FOR_DWORDS(SEM_FUNCTION, shlx, plain_shift, shift_left)
SEM_TABLE_DWORDS(shlx, shlx);
FOR_DWORDS(SEM_FUNCTION, shrx, plain_shift, shift_right)
SEM_TABLE_DWORDS(shrx, shrx);
FOR_DWORDS(SEM_FUNCTION, sarx, plain_shift, shift_arithmetic)
SEM_TABLE_DWORDS(sarx, sarx);
FOR_DWORDS(SEM_FUNCTION, rorx, plain_shift, rotate_right)
SEM_TABLE_DWORDS(rorx, rorx);
