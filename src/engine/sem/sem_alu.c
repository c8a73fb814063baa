/*
 * Two- and one-operand arithmetic and logic. Each operation is the host's instruction on values;
 * the macros put operands and sizes around it. LOCK is a compare-and-swap loop around the same
 * thing (lin_update), so flags come from the value that was really replaced.
 */
#include "engine/sem/sem_common.h"

/* --- the host instructions --- */

/* host_<name>_<size>(dst, src, *flags): result, and the image of the flags after. */
#define HOST_BINARY(size, suffix, m, name)                                                         \
    ALWAYS_INLINE u64 host_##name##_##size(u64 dst, u64 src, u32 *flags)                           \
    {                                                                                              \
        __asm__(#name suffix " %" m "2, %" m "0" HOST_FLAGS_SAVE                                   \
                : "+r"(dst), "=a"(*flags)                                                          \
                : "r"(src)                                                                         \
                : "cc");                                                                           \
        return dst;                                                                                \
    }
/* The same for those that use flags. */
#define HOST_BINARY_FLAGS(size, suffix, m, name)                                                   \
    ALWAYS_INLINE u64 host_##name##_##size(u64 dst, u64 src, u32 *flags)                           \
    {                                                                                              \
        __asm__(HOST_FLAGS_LOAD #name suffix " %" m "2, %" m "0" HOST_FLAGS_SAVE                   \
                : "+r"(dst), "+a"(*flags)                                                          \
                : "r"(src)                                                                         \
                : "cc");                                                                           \
        return dst;                                                                                \
    }
/* One operand; src is not used. All but NOT change flags, INC and DEC leave CF. */
#define HOST_UNARY(size, suffix, m, name)                                                          \
    ALWAYS_INLINE u64 host_##name##_##size(u64 dst, u64 src, u32 *flags)                           \
    {                                                                                              \
        (void)src;                                                                                 \
        __asm__(HOST_FLAGS_LOAD #name suffix " %" m "0" HOST_FLAGS_SAVE                            \
                : "+r"(dst), "+a"(*flags)                                                          \
                :                                                                                  \
                : "cc");                                                                           \
        return dst;                                                                                \
    }

FOR_SIZES(HOST_BINARY, add)
FOR_SIZES(HOST_BINARY, or)
FOR_SIZES(HOST_BINARY, and)
FOR_SIZES(HOST_BINARY, sub)
FOR_SIZES(HOST_BINARY, xor)
FOR_SIZES(HOST_BINARY, cmp)
FOR_SIZES(HOST_BINARY, test)
FOR_SIZES(HOST_BINARY_FLAGS, adc)
FOR_SIZES(HOST_BINARY_FLAGS, sbb)
FOR_DWORDS(HOST_BINARY_FLAGS, adcx)
FOR_DWORDS(HOST_BINARY_FLAGS, adox)
FOR_SIZES(HOST_UNARY, inc)
FOR_SIZES(HOST_UNARY, dec)
FOR_SIZES(HOST_UNARY, neg)

/* --- dst = dst op src --- */

ALWAYS_INLINE void update_any(struct vcpu *v, const struct insn *i, unsigned size, update_fn *fn)
{
    u32 flags = flags_image(v);
    opd_update(v, i, size, i->nopd > 1 ? opd_read(v, i, 1, size) : 0, fn, &flags);
    flags_set_image(v, flags);
}

ALWAYS_INLINE void update_reg(struct vcpu *v, const struct insn *i, unsigned size, update_fn *fn,
                              u64 src)
{
    unsigned reg = i->opd[0].reg;
    u32 flags = flags_image(v);
    reg_write(v, reg, size, fn(reg_read(v, reg, size), src, &flags));
    flags_set_image(v, flags);
}

ALWAYS_INLINE void update_reg_reg(struct vcpu *v, const struct insn *i, unsigned size,
                                  update_fn *fn)
{
    update_reg(v, i, size, fn, reg_read(v, i->opd[1].reg, size));
}

ALWAYS_INLINE void update_reg_imm(struct vcpu *v, const struct insn *i, unsigned size,
                                  update_fn *fn)
{
    update_reg(v, i, size, fn, i->imm);
}

ALWAYS_INLINE void update_reg_mem(struct vcpu *v, const struct insn *i, unsigned size,
                                  update_fn *fn)
{
    update_reg(v, i, size, fn, mem_read(v, i, size));
}

ALWAYS_INLINE void update_mem_reg(struct vcpu *v, const struct insn *i, unsigned size,
                                  update_fn *fn)
{
    u32 flags = flags_image(v);
    mem_update(v, i, size, reg_read(v, i->opd[1].reg, size), fn, &flags);
    flags_set_image(v, flags);
}

ALWAYS_INLINE void update_mem_imm(struct vcpu *v, const struct insn *i, unsigned size,
                                  update_fn *fn)
{
    u32 flags = flags_image(v);
    mem_update(v, i, size, i->imm, fn, &flags);
    flags_set_image(v, flags);
}

/* --- flags of dst op src --- */

ALWAYS_INLINE void compare(struct vcpu *v, u64 dst, u64 src, update_fn *fn)
{
    u32 flags = 0;
    fn(dst, src, &flags);
    flags_set_image(v, flags);
}

ALWAYS_INLINE void compare_any(struct vcpu *v, const struct insn *i, unsigned size, update_fn *fn)
{
    u64 dst = opd_read(v, i, 0, size);
    compare(v, dst, opd_read(v, i, 1, size), fn);
}

ALWAYS_INLINE void compare_reg_reg(struct vcpu *v, const struct insn *i, unsigned size,
                                   update_fn *fn)
{
    compare(v, reg_read(v, i->opd[0].reg, size), reg_read(v, i->opd[1].reg, size), fn);
}

ALWAYS_INLINE void compare_reg_imm(struct vcpu *v, const struct insn *i, unsigned size,
                                   update_fn *fn)
{
    compare(v, reg_read(v, i->opd[0].reg, size), i->imm, fn);
}

ALWAYS_INLINE void compare_reg_mem(struct vcpu *v, const struct insn *i, unsigned size,
                                   update_fn *fn)
{
    compare(v, reg_read(v, i->opd[0].reg, size), mem_read(v, i, size), fn);
}

ALWAYS_INLINE void compare_mem_reg(struct vcpu *v, const struct insn *i, unsigned size,
                                   update_fn *fn)
{
    compare(v, mem_read(v, i, size), reg_read(v, i->opd[1].reg, size), fn);
}

ALWAYS_INLINE void compare_mem_imm(struct vcpu *v, const struct insn *i, unsigned size,
                                   update_fn *fn)
{
    compare(v, mem_read(v, i, size), i->imm, fn);
}

#define FORMED(size, suffix, m, name, kind)                                                        \
    SEM_FUNCTION(size, , , name##_any, kind##_any, host_##name##_##size)                           \
    SEM_FUNCTION(size, , , name##_reg_reg, kind##_reg_reg, host_##name##_##size)                   \
    SEM_FUNCTION(size, , , name##_reg_imm, kind##_reg_imm, host_##name##_##size)                   \
    SEM_FUNCTION(size, , , name##_reg_mem, kind##_reg_mem, host_##name##_##size)                   \
    SEM_FUNCTION(size, , , name##_mem_reg, kind##_mem_reg, host_##name##_##size)                   \
    SEM_FUNCTION(size, , , name##_mem_imm, kind##_mem_imm, host_##name##_##size)
#define FORMED_OP(name, kind)                                                                      \
    FOR_SIZES(FORMED, name, kind)                                                                  \
    SEM_FORM_TABLES(name)

FORMED_OP(add, update);
FORMED_OP(or, update);
FORMED_OP(adc, update);
FORMED_OP(sbb, update);
FORMED_OP(and, update);
FORMED_OP(sub, update);
FORMED_OP(xor, update);
FORMED_OP(cmp, compare);
FORMED_OP(test, compare);

#define UPDATING(size, suffix, m, name)                                                            \
    SEM_FUNCTION(size, , , name, update_any, host_##name##_##size)

#define UPDATING_REG(size, suffix, m, name)                                                        \
    SEM_FUNCTION(size, , , name##_reg, update_reg, host_##name##_##size, 0)
#define UNARY(name)                                                                                \
    FOR_SIZES(UPDATING, name)                                                                      \
    FOR_SIZES(UPDATING_REG, name)                                                                  \
    SEM_TABLE_SIZES(name, name);                                                                   \
    sem_fn *const sem_forms_##name[FORM_COUNT][4] = {                                              \
        [FORM_ANY] = SIZE_ROW(name), [FORM_REG] = SIZE_ROW(name##_reg)}

UNARY(inc);
UNARY(dec);
UNARY(neg);
FOR_DWORDS(UPDATING, adcx)
SEM_TABLE_DWORDS(adcx, adcx);
FOR_DWORDS(UPDATING, adox)
SEM_TABLE_DWORDS(adox, adox);

/* --- NOT: no flags --- */

ALWAYS_INLINE u64 complement(u64 dst, u64 src, u32 *flags)
{
    (void)src;
    (void)flags;
    return ~dst;
}

ALWAYS_INLINE void not_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    u32 flags = 0;
    opd_update(v, i, size, 0, complement, &flags);
}

FOR_SIZES(SEM_FUNCTION, not, not_any)
SEM_TABLE_SIZES(not, not );

/* --- XADD: the register gets the old value, first (XADD r, r with the same register adds) --- */

ALWAYS_INLINE void xadd_any(struct vcpu *v, const struct insn *i, unsigned size, update_fn *fn)
{
    u32 flags = 0;
    u64 src = opd_read(v, i, 1, size);
    if (i->opd[0].kind == OPD_MEM) {
        u64 old = opd_update(v, i, size, src, fn, &flags);
        opd_write(v, i, 1, size, old);
    } else {
        u64 old = opd_read(v, i, 0, size);
        u64 sum = fn(old, src, &flags);
        opd_write(v, i, 1, size, old);
        opd_write(v, i, 0, size, sum);
    }
    flags_set_image(v, flags);
}

#define XADD(size, suffix, m, ...) SEM_FUNCTION(size, , , xadd, xadd_any, host_add_##size)
FOR_SIZES(XADD, )
SEM_TABLE_SIZES(xadd, xadd);
