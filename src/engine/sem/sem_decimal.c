/*
 * Decimal adjustment and SALC: they do not exist in 64-bit mode, so they are computed after the
 * SDM's pseudocode instead of by the host. The flags that are undefined there are those of the
 * addition or subtraction that the instruction comes down to, as on AMD's CPUs.
 */
#include "engine/sem/sem_common.h"

/* The image of the flags of `a insn b`. */
#define FLAGS_OF(size, suffix, m, insn)                                                            \
    static u32 insn##_flags_##size(u64 a, u64 b)                                                   \
    {                                                                                              \
        u32 flags;                                                                                 \
        __asm__(#insn suffix " %" m "2, %" m "1" HOST_FLAGS_SAVE                                   \
                : "=a"(flags), "+r"(a)                                                             \
                : "r"(b)                                                                           \
                : "cc");                                                                           \
        return flags;                                                                              \
    }
FLAGS_OF(1, "b", "b", add)
FLAGS_OF(1, "b", "b", sub)
FLAGS_OF(1, "b", "b", test)
FLAGS_OF(2, "w", "w", add)
FLAGS_OF(2, "w", "w", sub)

/* DAA and DAS: the correction is added or subtracted. */
static void decimal_adjust(struct vcpu *v, bool subtract)
{
    u8 al = (u8)reg_read(v, RAX, 1), correction = 0;
    u64 carries = 0;

    if ((al & 15) > 9 || (v->rflags & FLAG_AF)) {
        correction = 6;
        carries = FLAG_AF;
        if (subtract && al < 6)
            carries |= FLAG_CF;
    }
    if (al > 0x99 || (v->rflags & FLAG_CF)) {
        correction += 0x60;
        carries |= FLAG_CF;
    }
    reg_write(v, RAX, 1, (u64)(subtract ? al - correction : al + correction));
    flags_set_image(v, subtract ? sub_flags_1(al, correction) : add_flags_1(al, correction));
    flags_assign(v, FLAG_CF | FLAG_AF, carries);
}

static void daa(struct vcpu *v, const struct insn *i)
{
    (void)i;
    decimal_adjust(v, false);
}
SEM_SAME(daa, daa);

static void das(struct vcpu *v, const struct insn *i)
{
    (void)i;
    decimal_adjust(v, true);
}
SEM_SAME(das, das);

/* AAA and AAS: AX changes by 0x106, then the upper half of AL is cleared. */
static void ascii_adjust(struct vcpu *v, bool subtract)
{
    u16 ax = (u16)reg_read(v, RAX, 2);
    bool adjust = (ax & 15) > 9 || (v->rflags & FLAG_AF);
    u16 correction = adjust ? 0x106 : 0;
    u64 result = (u64)(subtract ? ax - correction : ax + correction);
    reg_write(v, RAX, 2, result & 0xff0f);
    flags_set_image(v, subtract ? sub_flags_2(ax, correction) : add_flags_2(ax, correction));
    flags_assign(v, FLAG_CF | FLAG_AF, adjust ? FLAG_CF | FLAG_AF : 0);
}

static void aaa(struct vcpu *v, const struct insn *i)
{
    (void)i;
    ascii_adjust(v, false);
}
SEM_SAME(aaa, aaa);

static void aas(struct vcpu *v, const struct insn *i)
{
    (void)i;
    ascii_adjust(v, true);
}
SEM_SAME(aas, aas);

static void aam(struct vcpu *v, const struct insn *i)
{
    u8 al = (u8)reg_read(v, RAX, 1), base = (u8)i->imm;
    if (!base)
        fault_raise(v, VEC_DE);
    reg_write(v, RAX, 2, (u64)(al / base) << 8 | al % base);
    flags_set_image(v, test_flags_1(al % base, al % base));
}
SEM_SAME(aam, aam);

static void aad(struct vcpu *v, const struct insn *i)
{
    u8 al = (u8)reg_read(v, RAX, 1), product = (u8)(reg8h_read(v, RAX) * i->imm);
    reg_write(v, RAX, 2, (u8)(al + product));
    flags_set_image(v, add_flags_1(al, product));
}
SEM_SAME(aad, aad);

static void salc(struct vcpu *v, const struct insn *i)
{
    (void)i;
    reg_write(v, RAX, 1, v->rflags & FLAG_CF ? 0xff : 0);
}
SEM_SAME(salc, salc);
