/*
 * Fetching one instruction and executing it with every check that is rarely needed: code
 * breakpoints, RF, single step. (Data breakpoints are seen by mem/, which puts them in
 * v->pending_db.) Used where one instruction at a time is run: by the interpreter's slow path, and
 * for other engines by sem_step().
 */
#ifndef RINGER_ENGINE_SEM_SEM_EXEC_H
#define RINGER_ENGINE_SEM_SEM_EXEC_H

#include "cpu/insn.h"

/* What v->cur is while the next instruction is fetched: zero bytes long, so that a fetch fault
 * restarts at v->rip. */
extern const struct insn sem_no_insn;

static inline bool sem_code16(const struct vcpu *v)
{
    return v->mode == MODE_REAL || v->mode == MODE_V86 || v->mode == MODE_PROT16 ||
           v->mode == MODE_COMPAT16;
}

/* The highest value of RIP at which a byte of code may stand: CS limit and width of IP. */
static inline u64 sem_last_ip(const struct vcpu *v)
{
    if (v->mode == MODE_LONG64)
        return ~0ULL;
    u64 limit = v->seg[SEG_CS].limit;
    return sem_code16(v) ? MIN(limit, 0xffff) : limit;
}

/* Linear address of CS:RIP. */
static inline u64 sem_code_lin(const struct vcpu *v)
{
    return v->mode == MODE_LONG64 ? v->rip : (v->seg[SEG_CS].base + v->rip) & 0xffffffff;
}

/* Lets EIP wrap after the last instruction of a run moved it by its length. IP does not: what
 * follows an instruction that ends at ffffh is a #GP (sem_check_rip), in real mode too. */
static inline void sem_wrap_rip(struct vcpu *v)
{
    if (v->mode != MODE_LONG64)
        v->rip &= 0xffffffff;
}

/* Do RF, TF or breakpoints ask for the slow path? */
static inline bool sem_debugging(const struct vcpu *v)
{
    return (v->rflags & (FLAG_TF | FLAG_RF)) || (v->dr[7] & 0xff);
}

/* A REP instruction that stands at start and was interrupted between iterations left RIP there:
 * RF keeps code breakpoints from hitting again when it goes on (SDM vol. 3, 17.3.1.1). */
static inline void sem_mark_repeat(struct vcpu *v, const struct insn *i, u64 start)
{
    if (i->prefix & (PFX_REP | PFX_REPNE) && v->rip == start)
        v->rflags |= FLAG_RF;
}

/* Raises #GP(0) if not even one byte may be fetched at CS:RIP. */
void sem_check_rip(struct vcpu *v);

/* Reads, decodes and binds the instruction at CS:RIP. Raises what its fetch and decoding raise. */
void sem_fetch(struct vcpu *v, struct insn *out);

/* Raises #DB if a code breakpoint is at CS:RIP and RF is clear. */
void sem_check_code_breakpoint(struct vcpu *v);

/* Executes i, which stands at CS:RIP: RF is cleared, debug traps go to v->pending_db. */
void sem_execute(struct vcpu *v, const struct insn *i);

#endif
