/*
 * Moves: MOV, extensions, exchanges, conditional moves and sets, LEA, and what does nothing.
 */
#include "engine/sem/sem_common.h"

/* --- MOV --- */

ALWAYS_INLINE void mov_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    opd_write(v, i, 0, size, opd_read(v, i, 1, size));
}

ALWAYS_INLINE void mov_reg_reg(struct vcpu *v, const struct insn *i, unsigned size)
{
    reg_write(v, i->opd[0].reg, size, v->gpr[i->opd[1].reg]);
}

ALWAYS_INLINE void mov_reg_imm(struct vcpu *v, const struct insn *i, unsigned size)
{
    reg_write(v, i->opd[0].reg, size, i->imm);
}

ALWAYS_INLINE void mov_reg_mem(struct vcpu *v, const struct insn *i, unsigned size)
{
    reg_write(v, i->opd[0].reg, size, mem_read(v, i, size));
}

ALWAYS_INLINE void mov_mem_reg(struct vcpu *v, const struct insn *i, unsigned size)
{
    mem_write(v, i, size, v->gpr[i->opd[1].reg]);
}

ALWAYS_INLINE void mov_mem_imm(struct vcpu *v, const struct insn *i, unsigned size)
{
    mem_write(v, i, size, i->imm);
}

FOR_SIZES(SEM_FUNCTION, mov_any, mov_any)
FOR_SIZES(SEM_FUNCTION, mov_reg_reg, mov_reg_reg)
FOR_SIZES(SEM_FUNCTION, mov_reg_imm, mov_reg_imm)
FOR_SIZES(SEM_FUNCTION, mov_reg_mem, mov_reg_mem)
FOR_SIZES(SEM_FUNCTION, mov_mem_reg, mov_mem_reg)
FOR_SIZES(SEM_FUNCTION, mov_mem_imm, mov_mem_imm)
SEM_FORM_TABLES(mov);

/* --- extensions: opsize is the destination's, the source has its own --- */

ALWAYS_INLINE void movzx_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    reg_write(v, i->opd[0].reg, size, opd_read_own(v, i, 1));
}

ALWAYS_INLINE void movsx_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    u64 value = opd_read_own(v, i, 1);
    reg_write(v, i->opd[0].reg, size, (u64)sign_extend(value, i->opd[1].size));
}

/* From a low register or from memory, of `from` bytes. */
ALWAYS_INLINE void extend(struct vcpu *v, const struct insn *i, unsigned size, unsigned from,
                          bool mem, bool sign)
{
    u64 value = mem ? mem_read(v, i, from) : reg_read(v, i->opd[1].reg, from);
    reg_write(v, i->opd[0].reg, size, sign ? (u64)sign_extend(value, from) : value);
}

#define EXTENSION(name, sign)                                                                      \
    FOR_WORDS(SEM_FUNCTION, name, name##_any)                                                      \
    SEM_TABLE_WORDS(name, name);                                                                   \
    EXTENSION_FROM(name, 1, sign)                                                                  \
    EXTENSION_FROM(name, 2, sign)                                                                  \
    EXTENSION_FROM(name, 4, sign)                                                                  \
    sem_fn *const sem_forms_##name[3][2][4] = {                                                    \
        {WORD_ROW(name##_reg1), WORD_ROW(name##_mem1)},                                            \
        {WORD_ROW(name##_reg2), WORD_ROW(name##_mem2)},                                            \
        {WORD_ROW(name##_reg4), WORD_ROW(name##_mem4)},                                            \
    }
#define EXTENSION_FROM(name, from, sign)                                                           \
    FOR_WORDS(SEM_FUNCTION, name##_reg##from, extend, from, false, sign)                           \
    FOR_WORDS(SEM_FUNCTION, name##_mem##from, extend, from, true, sign)

EXTENSION(movzx, false);
EXTENSION(movsx, true);

/* CBW, CWDE, CDQE: by opsize. */
ALWAYS_INLINE void cbw_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    (void)i;
    reg_write(v, RAX, size, (u64)sign_extend(v->gpr[RAX], size / 2));
}

FOR_WORDS(SEM_FUNCTION, cbw, cbw_any)
SEM_TABLE_WORDS(cbw, cbw);

/* CWD, CDQ, CQO: by opsize. */
ALWAYS_INLINE void cwd_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    (void)i;
    reg_write(v, RDX, size, sign_extend(v->gpr[RAX], size) < 0 ? ~0ULL : 0);
}

FOR_WORDS(SEM_FUNCTION, cwd, cwd_any)
SEM_TABLE_WORDS(cwd, cwd);

/* --- LEA, XLAT --- */

ALWAYS_INLINE void lea_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    reg_write(v, i->opd[0].reg, size, effective_address(v, i));
}

FOR_WORDS(SEM_FUNCTION, lea, lea_any)
SEM_TABLE_WORDS(lea, lea);

static void xlat(struct vcpu *v, const struct insn *i)
{
    u64 off = (v->gpr[RBX] + reg_read(v, RAX, 1)) & size_mask(i->addrsize);
    u64 lin = seg_lin(v, (enum seg_reg)i->seg, off, 1, ACCESS_READ);
    reg_write(v, RAX, 1, lin_read(v, lin, 1));
}
SEM_SAME(xlat, xlat);

/* --- XCHG: with memory always atomic --- */

#define HOST_XCHG(size, suffix, m, ...)                                                            \
    ALWAYS_INLINE u64 host_xchg_##size(void *p, u64 value)                                         \
    {                                                                                              \
        __asm__ volatile("xchg" suffix " %" m "0, %1"                                              \
                         : "+r"(value), "+m"(*(u8(*)[size])p)                                      \
                         :                                                                         \
                         : "memory");                                                              \
        return value;                                                                              \
    }
FOR_SIZES(HOST_XCHG, )

typedef u64 xchg_fn(void *p, u64 value);

ALWAYS_INLINE void xchg_any(struct vcpu *v, const struct insn *i, unsigned size, xchg_fn *fn)
{
    unsigned mem = i->opd[0].kind == OPD_MEM ? 0 : 1, reg = !mem;
    u64 value = opd_read(v, i, reg, size);
    if (i->opd[mem].kind == OPD_MEM) {
        struct lin_rmw rmw;
        lin_rmw_begin(v, mem_lin(v, i, size, ACCESS_WRITE), size, &rmw);
        value = fn(rmw.p, value);
        lin_rmw_end(v, &rmw);
    } else {
        u64 other = opd_read(v, i, mem, size);
        opd_write(v, i, mem, size, value);
        value = other;
    }
    opd_write(v, i, reg, size, value);
}

#define XCHG(size, suffix, m, ...) SEM_FUNCTION(size, , , xchg, xchg_any, host_xchg_##size)
FOR_SIZES(XCHG, )
SEM_TABLE_SIZES(xchg, xchg);

/* --- conditions --- */

#define SETCC(name, cc, ...)                                                                       \
    static void set_##name(struct vcpu *v, const struct insn *i)                                   \
    {                                                                                              \
        opd_write(v, i, 0, 1, condition(v->rflags, cc));                                           \
    }                                                                                              \
    SEM_SAME(set##name, set_##name);
FOR_CONDITIONS(SETCC, )

/* The source is read in any case, and a 32-bit destination is always zero-extended. */
ALWAYS_INLINE void cmov_any(struct vcpu *v, const struct insn *i, unsigned size, unsigned cc)
{
    unsigned reg = i->opd[0].reg;
    u64 value = opd_read(v, i, 1, size);
    reg_write(v, reg, size, condition(v->rflags, cc) ? value : v->gpr[reg]);
}

#define CMOVCC(name, cc, ...)                                                                      \
    FOR_WORDS(SEM_FUNCTION, cmov##name, cmov_any, cc)                                              \
    SEM_TABLE_WORDS(cmov##name, cmov##name);
FOR_CONDITIONS(CMOVCC, )

/* --- RDRAND, RDSEED: CF says whether there was a number; the other flags are cleared --- */

#define HOST_RANDOM(name)                                                                          \
    static bool host_##name(u64 *value)                                                            \
    {                                                                                              \
        bool valid;                                                                                \
        __asm__ volatile(#name " %0" : "=r"(*value), "=@ccc"(valid));                              \
        return valid;                                                                              \
    }
HOST_RANDOM(rdrand)
HOST_RANDOM(rdseed)

ALWAYS_INLINE void random_any(struct vcpu *v, const struct insn *i, unsigned size,
                              bool (*fn)(u64 *value))
{
    u64 value;
    bool valid = fn(&value);
    reg_write(v, i->opd[0].reg, size, valid ? value : 0);
    flags_assign(v, FLAGS_ARITH, valid ? FLAG_CF : 0);
}

FOR_WORDS(SEM_FUNCTION, rdrand, random_any, host_rdrand)
SEM_TABLE_WORDS(rdrand, rdrand);
FOR_WORDS(SEM_FUNCTION, rdseed, random_any, host_rdseed)
SEM_TABLE_WORDS(rdseed, rdseed);

/* --- BOUND: a signed index against two bounds in memory --- */

ALWAYS_INLINE void bound_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    i64 index = sign_extend(v->gpr[i->opd[0].reg], size);
    u64 lin = mem_lin(v, i, 2 * size, ACCESS_READ);
    i64 lower = sign_extend(lin_read(v, lin, size), size);
    i64 upper = sign_extend(lin_read(v, lin + size, size), size);
    if (index < lower || index > upper)
        fault_raise(v, VEC_BR);
}

SEM_FUNCTION(2, , , bound, bound_any)
SEM_FUNCTION(4, , , bound, bound_any)
sem_fn *const sem_bound[4] = {NULL, bound_2, bound_4, NULL};

/* --- nothing to do --- */

static void nop(struct vcpu *v, const struct insn *i)
{
    (void)v;
    (void)i;
}
SEM_SAME(nop, nop);

static void fence(struct vcpu *v, const struct insn *i)
{
    (void)v;
    (void)i;
    atomic_thread_fence(memory_order_seq_cst);
}
SEM_SAME(fence, fence);
