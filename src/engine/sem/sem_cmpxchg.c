/*
 * CMPXCHG and its wide forms. The destination is always written, with its old value if the
 * comparison fails, so a write fault comes in either case (SDM vol. 2, CMPXCHG).
 */
#include "engine/sem/sem_common.h"

/* The flags of CMP acc, old. */
#define HOST_COMPARE(size, suffix, m, ...)                                                         \
    ALWAYS_INLINE u32 compare_flags_##size(u64 acc, u64 old)                                       \
    {                                                                                              \
        u32 flags;                                                                                 \
        __asm__("cmp" suffix " %" m "2, %" m "1" HOST_FLAGS_SAVE                                   \
                : "=a"(flags)                                                                      \
                : "r"(acc), "r"(old)                                                               \
                : "cc");                                                                           \
        return flags;                                                                              \
    }
FOR_SIZES(HOST_COMPARE, )

typedef u32 compare_fn(u64 acc, u64 old);

/* Memory: one compare-and-swap where that is possible, with or without LOCK. */
ALWAYS_INLINE u64 exchange_mem(struct vcpu *v, const struct insn *i, unsigned size, u64 acc,
                               u64 src)
{
    struct lin_rmw rmw;
    u64 old = acc;
    lin_rmw_begin(v, mem_lin(v, i, size, ACCESS_WRITE), size, &rmw);
    if (rmw.direct) {
        host_cas(rmw.p, &old, src, size);
    } else {
        old = load_le(rmw.p, size);
        if (old == acc)
            store_le(rmw.p, src, size);
    }
    lin_rmw_end(v, &rmw);
    return old & size_mask(size);
}

ALWAYS_INLINE void cmpxchg_any(struct vcpu *v, const struct insn *i, unsigned size,
                               compare_fn *flags_of)
{
    u64 acc = reg_read(v, RAX, size), src = opd_read(v, i, 1, size), old;
    bool memory = i->opd[0].kind == OPD_MEM;

    if (memory)
        old = exchange_mem(v, i, size, acc, src);
    else
        old = opd_read(v, i, 0, size);
    if (old != acc)
        reg_write(v, RAX, size, old);
    else if (!memory)
        opd_write(v, i, 0, size, src);
    flags_set_image(v, flags_of(acc, old));
}

#define CMPXCHG(size, suffix, m, ...)                                                              \
    SEM_FUNCTION(size, , , cmpxchg, cmpxchg_any, compare_flags_##size)
FOR_SIZES(CMPXCHG, )
SEM_TABLE_SIZES(cmpxchg, cmpxchg);

static void cmpxchg8b(struct vcpu *v, const struct insn *i)
{
    struct lin_rmw rmw;
    u64 expected = reg_read(v, RDX, 4) << 32 | reg_read(v, RAX, 4);
    u64 desired = reg_read(v, RCX, 4) << 32 | reg_read(v, RBX, 4);
    u64 old = expected;

    lin_rmw_begin(v, mem_lin(v, i, 8, ACCESS_WRITE), 8, &rmw);
    if (rmw.direct) {
        host_cas(rmw.p, &old, desired, 8);
    } else {
        old = load_le(rmw.p, 8);
        if (old == expected)
            store_le(rmw.p, desired, 8);
    }
    lin_rmw_end(v, &rmw);
    if (old != expected) {
        reg_write(v, RAX, 4, old);
        reg_write(v, RDX, 4, old >> 32);
    }
    flags_assign(v, FLAG_ZF, old == expected ? FLAG_ZF : 0);
}
SEM_SAME(cmpxchg8b, cmpxchg8b);

/* 16 aligned bytes never cross a page; in RAM or in the bounce buffer the host's own instruction
 * does. */
static void cmpxchg16b(struct vcpu *v, const struct insn *i)
{
    struct lin_rmw rmw;
    bool equal;
    u64 lin = mem_lin(v, i, 16, ACCESS_WRITE);
    if (lin & 15)
        fault_gp(v, 0);
    lin_rmw_begin(v, lin, 16, &rmw);
    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(equal), "+m"(*(u8(*)[16])rmw.p), "+a"(v->gpr[RAX]), "+d"(v->gpr[RDX])
                     : "b"(v->gpr[RBX]), "c"(v->gpr[RCX])
                     : "memory");
    lin_rmw_end(v, &rmw);
    flags_assign(v, FLAG_ZF, equal ? FLAG_ZF : 0);
}
SEM_SAME(cmpxchg16b, cmpxchg16b);
