/*
 * Near branches. The target is checked before anything is committed: a call to a bad address has
 * pushed nothing, a return to one has not popped.
 */
#include "engine/sem/sem_stack.h"

/* The target as the operand size truncates it, checked against the CS limit or for canonical form.
 */
ALWAYS_INLINE u64 check_target(struct vcpu *v, u64 off, unsigned size)
{
    off &= size_mask(size);
    if (v->mode == MODE_LONG64 ? !canonical(off) : off > v->seg[SEG_CS].limit)
        fault_gp(v, 0);
    return off;
}

void sem_jump(struct vcpu *v, u64 off, unsigned size)
{
    v->rip = check_target(v, off, size);
}

ALWAYS_INLINE void jump_relative(struct vcpu *v, const struct insn *i, unsigned size)
{
    v->rip = check_target(v, v->rip + i->imm, size);
}

FOR_WORDS(SEM_FUNCTION, jmp, jump_relative)
SEM_TABLE_WORDS(jmp, jmp);

ALWAYS_INLINE void jump_if(struct vcpu *v, const struct insn *i, unsigned size, unsigned cc)
{
    if (condition(v->rflags, cc))
        jump_relative(v, i, size);
}

#define JCC(name, cc, ...)                                                                         \
    FOR_WORDS(SEM_FUNCTION, j##name, jump_if, cc)                                                  \
    SEM_TABLE_WORDS(j##name, j##name);
FOR_CONDITIONS(JCC, )

/* --- by count: rCX has the address size --- */

ALWAYS_INLINE void jcxz_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    if (!(v->gpr[RCX] & size_mask(i->addrsize)))
        jump_relative(v, i, size);
}

FOR_WORDS(SEM_FUNCTION, jcxz, jcxz_any)
SEM_TABLE_WORDS(jcxz, jcxz);

static void set_count(struct vcpu *v, const struct insn *i, u64 count)
{
    if (i->addrsize == 2)
        reg_write(v, RCX, 2, count);
    else
        v->gpr[RCX] = count & size_mask(i->addrsize);
}

/* LOOP goes on whatever ZF is; LOOPE and LOOPNE ask for one value of it. */
ALWAYS_INLINE void loop_any(struct vcpu *v, const struct insn *i, unsigned size, u64 zf_mask,
                            u64 zf)
{
    u64 count = (v->gpr[RCX] - 1) & size_mask(i->addrsize);
    if (count && (v->rflags & zf_mask) == zf)
        jump_relative(v, i, size);
    set_count(v, i, count);
}

FOR_WORDS(SEM_FUNCTION, loop, loop_any, 0, 0)
SEM_TABLE_WORDS(loop, loop);
FOR_WORDS(SEM_FUNCTION, loope, loop_any, FLAG_ZF, FLAG_ZF)
SEM_TABLE_WORDS(loope, loope);
FOR_WORDS(SEM_FUNCTION, loopne, loop_any, FLAG_ZF, 0)
SEM_TABLE_WORDS(loopne, loopne);

/* --- indirect, call, return --- */

ALWAYS_INLINE void jmp_ind_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    v->rip = check_target(v, opd_read(v, i, 0, size), size);
}

FOR_WORDS(SEM_FUNCTION, jmp_ind, jmp_ind_any)
SEM_TABLE_WORDS(jmp_ind, jmp_ind);

ALWAYS_INLINE void call_to(struct vcpu *v, u64 off, unsigned size)
{
    off = check_target(v, off, size);
    stack_push(v, v->rip, size);
    v->rip = off;
}

ALWAYS_INLINE void call_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    call_to(v, v->rip + i->imm, size);
}

FOR_WORDS(SEM_FUNCTION, call, call_any)
SEM_TABLE_WORDS(call, call);

ALWAYS_INLINE void call_ind_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    call_to(v, opd_read(v, i, 0, size), size);
}

FOR_WORDS(SEM_FUNCTION, call_ind, call_ind_any)
SEM_TABLE_WORDS(call_ind, call_ind);

ALWAYS_INLINE void ret_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    v->rip = check_target(v, stack_top(v, size), size);
    stack_set(v, stack_mask(v), v->gpr[RSP] + size + (i->imm & 0xffff));
}

FOR_WORDS(SEM_FUNCTION, ret, ret_any)
SEM_TABLE_WORDS(ret, ret);
