/*
 * Bit tests, scans and counts, BMI, CRC32, byte order. Instructions whose destination depends on
 * its old value (BSF of zero) get the whole register, so that they do what the host does.
 */
#include "engine/sem/sem_common.h"

/* --- BT, BTS, BTR, BTC --- */

#define HOST_BIT(size, suffix, m, name)                                                            \
    ALWAYS_INLINE u64 host_##name##_##size(u64 dst, u64 src, u32 *flags)                           \
    {                                                                                              \
        __asm__(HOST_FLAGS_LOAD #name suffix " %" m "2, %" m "0" HOST_FLAGS_SAVE                   \
                : "+r"(dst), "+a"(*flags)                                                          \
                : "r"(src)                                                                         \
                : "cc");                                                                           \
        return dst;                                                                                \
    }

/* Where the bit is: a register's bit offset is signed and reaches beyond the operand, in steps of
 * the operand's size (SDM vol. 1, 3.1.1.9 "BitBase"). */
ALWAYS_INLINE u64 bit_lin(struct vcpu *v, const struct insn *i, unsigned size, u64 bit,
                          enum access access)
{
    u64 off = effective_address(v, i);
    if (i->opd[1].kind == OPD_GPR) {
        i64 operands = sign_extend(bit, size) >> (size == 2 ? 4 : size == 4 ? 5 : 6);
        off = (off + (u64)operands * size) & size_mask(i->addrsize);
    }
    return seg_lin(v, (enum seg_reg)i->seg, off, size, access);
}

ALWAYS_INLINE void bit_update(struct vcpu *v, const struct insn *i, unsigned size, update_fn *fn)
{
    u32 flags = flags_image(v);
    u64 bit = opd_read(v, i, 1, size);
    if (i->opd[0].kind == OPD_MEM)
        lin_update(v, i, bit_lin(v, i, size, bit, ACCESS_WRITE), size, bit, fn, &flags);
    else
        opd_update(v, i, size, bit, fn, &flags);
    flags_set_image(v, flags);
}

ALWAYS_INLINE void bit_test(struct vcpu *v, const struct insn *i, unsigned size, update_fn *fn)
{
    u32 flags = flags_image(v);
    u64 bit = opd_read(v, i, 1, size), value;
    if (i->opd[0].kind == OPD_MEM)
        value = lin_read(v, bit_lin(v, i, size, bit, ACCESS_READ), size);
    else
        value = reg_read(v, i->opd[0].reg, size);
    fn(value, bit, &flags);
    flags_set_image(v, flags);
}

#define BIT_OP(size, suffix, m, name, any)                                                         \
    HOST_BIT(size, suffix, m, name)                                                                \
    SEM_FUNCTION(size, , , name, any, host_##name##_##size)

FOR_WORDS(BIT_OP, bt, bit_test)
SEM_TABLE_WORDS(bt, bt);
FOR_WORDS(BIT_OP, bts, bit_update)
SEM_TABLE_WORDS(bts, bts);
FOR_WORDS(BIT_OP, btr, bit_update)
SEM_TABLE_WORDS(btr, btr);
FOR_WORDS(BIT_OP, btc, bit_update)
SEM_TABLE_WORDS(btc, btc);

/* --- dst = op(src), on the whole destination register, with flags --- */

ALWAYS_INLINE void scan_any(struct vcpu *v, const struct insn *i, unsigned size, update_fn *fn)
{
    u32 flags = flags_image(v);
    u64 src = opd_read(v, i, 1, size);
    v->gpr[i->opd[0].reg] = fn(v->gpr[i->opd[0].reg], src, &flags);
    flags_set_image(v, flags);
}

#define SCAN_OP(size, suffix, m, name)                                                             \
    HOST_BIT(size, suffix, m, name)                                                                \
    SEM_FUNCTION(size, , , name, scan_any, host_##name##_##size)

FOR_WORDS(SCAN_OP, bsf)
SEM_TABLE_WORDS(bsf, bsf);
FOR_WORDS(SCAN_OP, bsr)
SEM_TABLE_WORDS(bsr, bsr);
FOR_WORDS(SCAN_OP, lzcnt)
SEM_TABLE_WORDS(lzcnt, lzcnt);
FOR_WORDS(SCAN_OP, tzcnt)
SEM_TABLE_WORDS(tzcnt, tzcnt);
FOR_WORDS(SCAN_OP, popcnt)
SEM_TABLE_WORDS(popcnt, popcnt);
FOR_DWORDS(SCAN_OP, blsi)
SEM_TABLE_DWORDS(blsi, blsi);
FOR_DWORDS(SCAN_OP, blsmsk)
SEM_TABLE_DWORDS(blsmsk, blsmsk);
FOR_DWORDS(SCAN_OP, blsr)
SEM_TABLE_DWORDS(blsr, blsr);

/* --- dst = op(a, b) in Intel's operand order --- */

#define HOST_TERNARY(size, suffix, m, name)                                                        \
    ALWAYS_INLINE u64 host_##name##_##size(u64 a, u64 b, u32 *flags)                               \
    {                                                                                              \
        u64 dst;                                                                                   \
        __asm__(HOST_FLAGS_LOAD #name suffix " %" m "3, %" m "2, %" m "0" HOST_FLAGS_SAVE          \
                : "=r"(dst), "+&a"(*flags)                                                         \
                : "r"(a), "r"(b)                                                                   \
                : "cc");                                                                           \
        return dst;                                                                                \
    }

ALWAYS_INLINE void ternary_any(struct vcpu *v, const struct insn *i, unsigned size, update_fn *fn)
{
    u32 flags = flags_image(v);
    u64 a = opd_read(v, i, 1, size);
    reg_write(v, i->opd[0].reg, size, fn(a, opd_read(v, i, 2, size), &flags));
    flags_set_image(v, flags);
}

#define TERNARY_OP(size, suffix, m, name)                                                          \
    HOST_TERNARY(size, suffix, m, name)                                                            \
    SEM_FUNCTION(size, , , name, ternary_any, host_##name##_##size)

FOR_DWORDS(TERNARY_OP, andn)
SEM_TABLE_DWORDS(andn, andn);
FOR_DWORDS(TERNARY_OP, bextr)
SEM_TABLE_DWORDS(bextr, bextr);
FOR_DWORDS(TERNARY_OP, bzhi)
SEM_TABLE_DWORDS(bzhi, bzhi);
FOR_DWORDS(TERNARY_OP, pdep)
SEM_TABLE_DWORDS(pdep, pdep);
FOR_DWORDS(TERNARY_OP, pext)
SEM_TABLE_DWORDS(pext, pext);

/* --- CRC32: the source may be smaller than the destination; the result has 32 bits --- */

#define HOST_CRC32(size, suffix, m, ...)                                                           \
    ALWAYS_INLINE u64 host_crc32_##size(u64 crc, u64 src)                                          \
    {                                                                                              \
        __asm__("crc32" suffix " %" m "1, %0" : "+r"(crc) : "r"(src));                             \
        return crc;                                                                                \
    }
/* A 64-bit destination for 8 bytes, a 32-bit one for all others. */
#define HOST_CRC32_NARROW(size, suffix, m, ...)                                                    \
    ALWAYS_INLINE u64 host_crc32_##size(u64 crc, u64 src)                                          \
    {                                                                                              \
        __asm__("crc32" suffix " %" m "1, %k0" : "+r"(crc) : "r"(src));                            \
        return crc;                                                                                \
    }
HOST_CRC32_NARROW(1, "b", "b")
HOST_CRC32_NARROW(2, "w", "w")
HOST_CRC32_NARROW(4, "l", "k")
HOST_CRC32(8, "q", "q")

static void crc32(struct vcpu *v, const struct insn *i)
{
    u64 src = opd_read_own(v, i, 1), *crc = &v->gpr[i->opd[0].reg];
    switch (i->opd[1].size) {
    case 1:
        *crc = host_crc32_1(*crc, src);
        break;
    case 2:
        *crc = host_crc32_2(*crc, src);
        break;
    case 4:
        *crc = host_crc32_4(*crc, src);
        break;
    default:
        *crc = host_crc32_8(*crc, src);
        break;
    }
}
SEM_SAME(crc32, crc32);

/* --- byte order --- */

/* BSWAP of a 16-bit register is undefined: as the host does it. */
static void bswap_2(struct vcpu *v, const struct insn *i)
{
    __asm__("data16 bswap %k0" : "+r"(v->gpr[i->opd[0].reg]));
}

static void bswap_4(struct vcpu *v, const struct insn *i)
{
    unsigned reg = i->opd[0].reg;
    reg_write(v, reg, 4, __builtin_bswap32((u32)v->gpr[reg]));
}

static void bswap_8(struct vcpu *v, const struct insn *i)
{
    unsigned reg = i->opd[0].reg;
    v->gpr[reg] = __builtin_bswap64(v->gpr[reg]);
}
SEM_TABLE_WORDS(bswap, bswap);

ALWAYS_INLINE void movbe_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    u64 value = opd_read(v, i, 1, size);
    opd_write(v, i, 0, size, __builtin_bswap64(value) >> (64 - 8 * size));
}

FOR_WORDS(SEM_FUNCTION, movbe, movbe_any)
SEM_TABLE_WORDS(movbe, movbe);
