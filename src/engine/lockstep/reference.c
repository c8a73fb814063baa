/*
 * The reference's loop. Instructions come from the interpreter's block cache, so that nothing is
 * decoded twice, but each is executed by sem_execute().
 */
#include "engine/lockstep/reference.h"

#include <errno.h>
#include <stdlib.h>

#include "cpu/irq.h"
#include "engine/interp/cache.h"
#include "engine/sem/native.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"
#include "engine/lockstep/archstate.h"
#include "mem/access.h"

/* FERR# would reach an interrupt controller: whoever calls this leaves the engine next, and the
 * instruction counts as refused. */
static void no_ferr(struct vcpu *v)
{
    (void)v;
}

static int make_vcpu(struct reference *r, const struct vcpu *model)
{
    struct vcpu *v = cpu_create();
    if (!v)
        return -ENOMEM;
    r->v = v;
    v->id = model->id;
    v->bsp = model->bsp;
    v->machine = model->machine;
    v->irq = &irq_none;
    v->ferr = model->ferr ? no_ferr : NULL;
    return tlb_create(v);
}

int reference_create(struct reference *r, struct vcpu *model, struct error *err)
{
    *r = (struct reference){.model = model};
    int rc = make_vcpu(r, model);
    struct journal *j = rc < 0 ? NULL : journal_create();
    r->cache = j ? cache_create() : NULL;
    if (!r->cache) {
        journal_destroy(j);
        reference_destroy(r);
        return error_set(err, ENOMEM, "no memory for a lockstep run's second processor");
    }
    r->v->journal = j;
    r->last = cache_none(r->cache);
    return 0;
}

void reference_destroy(struct reference *r)
{
    if (r->cache)
        cache_destroy(r->cache);
    if (r->v) {
        journal_destroy(r->v->journal);
        native_destroy(r->v);
        tlb_destroy(r->v);
        cpu_destroy(r->v);
    }
    *r = (struct reference){0};
}

void reference_flush(struct reference *r)
{
    tlb_flush_all(r->v);
    tlb_set_breakpoints(r->v);
}

void reference_sync(struct reference *r, const struct vcpu *model)
{
    struct arch_state s;
    arch_save(&s, model);
    arch_load(r->v, &s);
    reference_flush(r);
}

/* --- what is not executed --- */

static bool msr_repeatable(u32 msr)
{
    switch (msr) {
    case MSR_TSC:
    case MSR_TSC_ADJUST:
    case MSR_TSC_DEADLINE:
    case MSR_APIC_BASE:
    case MSR_KVM_SYSTEM_TIME_NEW:
    case MSR_KVM_WALL_CLOCK_NEW:
        return false;
    default:
        return msr < MSR_X2APIC_FIRST || msr > MSR_X2APIC_LAST;
    }
}

static bool is_cr8(const struct operand *o)
{
    return o->kind == OPD_CR && o->reg == 8;
}

/* Is i the same however often it is executed, with effects on the vCPU and RAM only? Devices in
 * memory show only at the access. */
static bool repeatable(const struct vcpu *v, const struct insn *i)
{
    switch (i->op) {
    case OP_RDRAND:
    case OP_RDSEED:
    case OP_RDTSC:
    case OP_RDTSCP:
    case OP_HLT:
        return false;
    case OP_RDMSR:
    case OP_WRMSR:
        return msr_repeatable((u32)v->gpr[RCX]);
    case OP_MOV_CR:
        return !is_cr8(&i->opd[0]) && !is_cr8(&i->opd[1]);
    default:
        return i->cls != CLASS_IO;
    }
}

/* --- execution --- */

static bool is_rep(const struct insn *i)
{
    return i->prefix & (PFX_REP | PFX_REPNE);
}

/* The block at CS:RIP. If it made the page one that holds code, the other vCPU's stores to it have
 * to be looked at, as if its own engine had decoded it. */
static struct block *find_block(struct reference *r)
{
    struct vcpu *v = r->v;
    u64 gpa = lin_exec_gpa(v, sem_code_lin(v));
    const _Atomic u64 *mask = code_mask_of(v->machine->mem, gpa);
    u64 before = mask ? atomic_load_explicit(mask, memory_order_relaxed) : 0;
    struct block *b = cache_get(r->cache, v, gpa, &r->last);
    if (mask && atomic_load_explicit(mask, memory_order_relaxed) != before)
        tlb_protect_code(r->model, gpa);
    if (b->gpa2 != NO_GPA)
        tlb_protect_code(r->model, b->gpa2);
    return b;
}

/* The instruction at CS:RIP. */
static const struct insn *fetch(struct reference *r)
{
    struct vcpu *v = r->v;
    v->cur = &sem_no_insn;
    if (r->next == r->end) {
        sem_check_rip(v);
        const struct block *b = find_block(r);
        r->next = b->insn;
        r->end = b->insn + b->count;
    }
    const struct insn *i = r->next++;
    if (sem_last_ip(v) - v->rip < i->len - 1u)
        fault_gp(v, 0);
    return i;
}

static void forget_block(struct reference *r)
{
    r->next = r->end = NULL;
}

/* One instruction, a REP instruction to its end. False: no further. */
static bool step(struct reference *r)
{
    struct vcpu *v = r->v;
    u64 start = v->rip;
    v->cur = &sem_no_insn;
    if (unlikely(sem_debugging(v)))
        sem_check_code_breakpoint(v);
    const struct insn *i = fetch(r);
    if (unlikely(r->trace != NULL))
        r->trace(r->trace_ctx, v, i);
    r->refused = !repeatable(v, i);
    if (unlikely(r->refused))
        return false;
    do {
        sem_execute(v, i);
        r->stays = is_rep(i) && v->rip == start;
    } while (r->stays && !v->pending_db && !v->code_written && !journal_crowded(v->journal));
    r->done += !r->stays;
    if (unlikely(v->code_written || v->cur->flags & INSN_END))
        forget_block(r);
    v->code_written = 0;
    return !r->stays && !v->shadow && !v->pending_db && v->activity == ACTIVITY_RUNNING;
}

/* Deals with what came back to a setjmp. */
static void unwound(struct reference *r, int why)
{
    struct vcpu *v = r->v;
    forget_block(r);
    v->code_written = 0;
    if (why == UNWIND_FAULT) {
        r->fault_rip = sem_start(v);
        r->faulted = true;
        sem_deliver_fault(v, r->fault_rip);
    } else {
        v->rip = sem_start(v);
        r->refused = true;
    }
}

void reference_run(struct reference *r, unsigned limit)
{
    r->done = 0;
    r->faulted = r->refused = r->stays = false;
    r->v->code_written = 0;
    forget_block(r);
    int why = setjmp(r->v->unwind);
    if (why != UNWIND_NONE) {
        unwound(r, why);
        return;
    }
    while (r->done < limit && step(r))
        ;
}

/* --- parts of REP instructions --- */

static u64 count_of(const struct vcpu *v, const struct insn *i)
{
    return v->gpr[RCX] & size_mask(i->addrsize);
}

static void set_count(struct vcpu *v, const struct insn *i, u64 count)
{
    if (i->addrsize == 2)
        store_le(&v->gpr[RCX], count, 2);
    else
        v->gpr[RCX] = count;
}

/* Does n iterations of i as if there were no more, and mends what is left then. */
static void iterate(struct vcpu *v, const struct insn *i, u64 n, u64 left)
{
    u64 start = v->rip;
    set_count(v, i, n);
    do
        sem_execute(v, i);
    while (v->rip == start && !v->pending_db && count_of(v, i) > 0);
    if (count_of(v, i) == 0) {
        v->rip = start;
        sem_mark_repeat(v, i, start);
    }
    set_count(v, i, count_of(v, i) + left);
}

static bool is_rep_string(const struct insn *i)
{
    return i->cls == CLASS_STRING && is_rep(i);
}

bool reference_at_rep(struct reference *r)
{
    forget_block(r);
    bool found = setjmp(r->v->unwind) == UNWIND_NONE && is_rep_string(fetch(r));
    forget_block(r);
    return found;
}

void reference_repeat(struct reference *r, u64 rcx)
{
    struct vcpu *v = r->v;
    forget_block(r);
    int why = setjmp(v->unwind);
    if (why != UNWIND_NONE) {
        unwound(r, why);
        return;
    }
    const struct insn *i = fetch(r);
    u64 left = rcx & size_mask(i->addrsize);
    if (is_rep_string(i) && left < count_of(v, i))
        iterate(v, i, count_of(v, i) - left, left);
    v->code_written = 0;
    forget_block(r);
}
