/*
 * Decimal adjustment and SALC: they do not exist in 64-bit mode, so they are computed after the
 * SDM's pseudocode instead of by the host. Flags that are undefined there are cleared, OF of DAA
 * and DAS is kept.
 */
#include "engine/sem/sem_common.h"

/* SF, ZF and PF of a byte. */
static u64 byte_flags(u8 value)
{
    return (value & 0x80 ? FLAG_SF : 0) | (value ? 0 : FLAG_ZF) |
           (__builtin_parity(value) ? 0 : FLAG_PF);
}

/* DAA and DAS: the correction is added or subtracted. */
static void decimal_adjust(struct vcpu *v, int sign)
{
    u8 old = (u8)reg_read(v, RAX, 1), al = old;
    u64 flags = 0;
    bool carry = v->rflags & FLAG_CF;

    if ((al & 15) > 9 || (v->rflags & FLAG_AF)) {
        flags |= FLAG_AF;
        if (carry || (sign < 0 ? al < 6 : al > 0xff - 6))
            flags |= FLAG_CF;
        al = (u8)(al + sign * 6);
    }
    if (old > 0x99 || carry) {
        al = (u8)(al + sign * 0x60);
        flags |= FLAG_CF;
    }
    reg_write(v, RAX, 1, al);
    flags_assign(v, FLAGS_ARITH & ~FLAG_OF, flags | byte_flags(al));
}

static void daa(struct vcpu *v, const struct insn *i)
{
    (void)i;
    decimal_adjust(v, 1);
}
SEM_SAME(daa, daa);

static void das(struct vcpu *v, const struct insn *i)
{
    (void)i;
    decimal_adjust(v, -1);
}
SEM_SAME(das, das);

/* AAA and AAS. */
static void ascii_adjust(struct vcpu *v, int sign)
{
    u16 ax = (u16)reg_read(v, RAX, 2);
    bool adjust = (ax & 15) > 9 || (v->rflags & FLAG_AF);
    if (adjust)
        ax = (u16)(ax + sign * 0x106);
    ax &= 0xff0f;
    reg_write(v, RAX, 2, ax);
    flags_assign(v, FLAGS_ARITH, (adjust ? FLAG_AF | FLAG_CF : 0) | byte_flags((u8)ax));
}

static void aaa(struct vcpu *v, const struct insn *i)
{
    (void)i;
    ascii_adjust(v, 1);
}
SEM_SAME(aaa, aaa);

static void aas(struct vcpu *v, const struct insn *i)
{
    (void)i;
    ascii_adjust(v, -1);
}
SEM_SAME(aas, aas);

static void aam(struct vcpu *v, const struct insn *i)
{
    u8 al = (u8)reg_read(v, RAX, 1), base = (u8)i->imm;
    if (!base)
        fault_raise(v, VEC_DE);
    reg_write(v, RAX, 2, (u64)(al / base) << 8 | al % base);
    flags_assign(v, FLAGS_ARITH, byte_flags(al % base));
}
SEM_SAME(aam, aam);

static void aad(struct vcpu *v, const struct insn *i)
{
    u8 al = (u8)(reg_read(v, RAX, 1) + reg8h_read(v, RAX) * i->imm);
    reg_write(v, RAX, 2, al);
    flags_assign(v, FLAGS_ARITH, byte_flags(al));
}
SEM_SAME(aad, aad);

static void salc(struct vcpu *v, const struct insn *i)
{
    (void)i;
    reg_write(v, RAX, 1, v->rflags & FLAG_CF ? 0xff : 0);
}
SEM_SAME(salc, salc);
