/*
 * One instruction at a time: fetch, decode, and execution with breakpoints and single step (SDM
 * vol. 3, ch. 17).
 */
#include "engine/sem/sem_exec.h"

#include "engine/sem/descriptor.h"
#include "engine/sem/sem.h"
#include "mem/access.h"

#define INSN_MAX 15

const struct insn sem_no_insn;

void sem_check_rip(struct vcpu *v)
{
    bool bad = v->mode == MODE_LONG64 ? !canonical(v->rip) : v->rip > sem_last_ip(v);
    if (bad)
        fault_gp(v, 0);
}

/* The instruction is longer than the n bytes that its page or the segment has. */
static enum decode_status fetch_across(struct vcpu *v, u64 lin, unsigned n, struct insn *out)
{
    u8 buf[INSN_MAX];
    u64 gpa;
    unsigned got = lin_fetch(v, lin, buf, n, true, &gpa);
    enum decode_status status = insn_decode(buf, got, v->mode, out);
    if (status == DECODE_SHORT && got < n)
        lin_exec_gpa(v, (lin & PAGE_MASK) + PAGE_SIZE); /* raises the second page's fault */
    return status;
}

void sem_fetch(struct vcpu *v, struct insn *out)
{
    u8 buf[INSN_MAX];
    u64 gpa, lin = sem_code_lin(v);
    sem_check_rip(v);
    u64 room = sem_last_ip(v) - v->rip;
    unsigned n = room >= INSN_MAX ? INSN_MAX : (unsigned)room + 1;
    unsigned got = lin_fetch(v, lin, buf, n, false, &gpa);
    enum decode_status status = insn_decode(buf, got, v->mode, out);
    if (status == DECODE_SHORT && got < n)
        status = fetch_across(v, lin, n, out);
    if (status == DECODE_INVALID)
        fault_ud(v);
    if (status != DECODE_OK)
        fault_gp(v, 0);
    sem_bind(v, out);
}

/* DR7.R/Wn that an access of each kind hits: a data write also hits "read or write". */
u64 sem_breakpoints(const struct vcpu *v, u64 lin, unsigned len, unsigned kind)
{
    static const u8 hit_by[] = {BIT(0), BIT(1) | BIT(3), BIT(2), BIT(3)};
    if (kind == 2 && !(v->cr4 & CR4_DE))
        return 0;
    return breakpoint_hits(v, lin, len, hit_by[kind & 3]);
}

void sem_check_code_breakpoint(struct vcpu *v)
{
    if (v->rflags & FLAG_RF || !(v->dr[7] & 0xff))
        return;
    u64 hits = sem_breakpoints(v, sem_code_lin(v), 1, 0);
    if (hits)
        fault_debug(v, hits);
}

/* Single step traps after i if TF was set when it began, except that an event it
 * delivered, or SYSCALL by its mask, cleared TF; and MOV SS holds the trap off. */
static bool steps(const struct vcpu *v, const struct insn *i)
{
    if (v->shadow & SHADOW_MOV_SS)
        return false;
    switch (i->op) {
    case OP_INT:
    case OP_INT1:
    case OP_INT3:
    case OP_INTO:
    case OP_SYSCALL:
        return (v->rflags & FLAG_TF) != 0;
    default:
        return true;
    }
}

void sem_execute(struct vcpu *v, const struct insn *i)
{
    bool tf = (v->rflags & FLAG_TF) != 0;
    u64 start = v->rip;
    v->rflags &= ~FLAG_RF;
    v->cur = i;
    v->rip += i->len;
    i->sem(v, i);
    sem_wrap_rip(v);
    sem_mark_repeat(v, i, start);
    if (tf && steps(v, i))
        v->pending_db |= DR6_BS;
}
