/*
 * Events at instruction boundaries: faults with what follows when their delivery faults too (double
 * fault, shutdown), interrupts with their shadows, and the execution of single instructions for
 * other engines. Delivery unwinds like any guest code, to a setjmp of its own.
 */
#include "cpu/irq.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_deliver.h"
#include "engine/sem/sem_exec.h"
#include "mem/tlb.h"

#define ERROR_EXT 1u
#define DR6_HITS  0xfull

/* More faults in a row than any delivery has that ends; see deliver(). */
#define MAX_FAULTS 8

/* --- delivery, and faults during delivery --- */

enum fault_class {
    FAULT_BENIGN,
    FAULT_CONTRIBUTORY,
    FAULT_PAGE,
    FAULT_DOUBLE,
};

/* SDM vol. 3, table 6-4. */
static enum fault_class fault_class(unsigned vector)
{
    switch (vector) {
    case VEC_DE:
    case VEC_TS:
    case VEC_NP:
    case VEC_SS:
    case VEC_GP:
        return FAULT_CONTRIBUTORY;
    case VEC_PF:
        return FAULT_PAGE;
    case VEC_DF:
        return FAULT_DOUBLE;
    default:
        return FAULT_BENIGN;
    }
}

/* SDM vol. 3, table 6-5: what a fault while delivering one of class `first` becomes. */
static bool makes_double(enum fault_class first, enum fault_class second)
{
    return (first == FAULT_CONTRIBUTORY && second == FAULT_CONTRIBUTORY) ||
           (first == FAULT_PAGE && second != FAULT_BENIGN);
}

static bool error_has_ext(unsigned vector)
{
    return vector == VEC_TS || vector == VEC_NP || vector == VEC_SS || vector == VEC_GP;
}

static void count_fault(struct vcpu *v, unsigned vector)
{
    static const u8 stat[] = {
        [VEC_DE] = STAT_FAULT_DE, [VEC_DB] = STAT_FAULT_DB, [VEC_BR] = STAT_FAULT_BR,
        [VEC_UD] = STAT_FAULT_UD, [VEC_NM] = STAT_FAULT_NM, [VEC_DF] = STAT_FAULT_DF,
        [VEC_TS] = STAT_FAULT_TS, [VEC_NP] = STAT_FAULT_NP, [VEC_SS] = STAT_FAULT_SS,
        [VEC_GP] = STAT_FAULT_GP, [VEC_PF] = STAT_FAULT_PF, [VEC_MF] = STAT_FAULT_MF,
        [VEC_AC] = STAT_FAULT_AC, [VEC_XM] = STAT_FAULT_XM,
    };
    if (vector < ARRAY_SIZE(stat) && stat[vector])
        stat_inc(&v->stats, stat[vector]);
}

/* Turns v->fault into a delivery: the registers that tell about it are set, and RF in the
 * pushed flags is set for faults, which restart their instruction. */
static void take_fault(struct vcpu *v, u64 return_rip, struct delivery *d)
{
    const struct fault *f = &v->fault;
    count_fault(v, f->vector);
    if (f->vector == VEC_PF)
        v->cr2 = f->cr2;
    if (f->vector == VEC_DB) {
        v->dr[6] = (v->dr[6] & ~DR6_HITS) | f->dr6;
        v->dr[7] &= ~DR7_GD;
    }
    *d = (struct delivery){.vector = f->vector,
                           .has_error = f->has_error,
                           .error = f->error,
                           .rip = return_rip,
                           .flags = v->rflags | (f->trap ? 0 : FLAG_RF)};
}

/* v->fault was raised while d was being delivered: makes d what is delivered now. False: shutdown.
 */
static bool escalate(struct vcpu *v, struct delivery *d, bool d_is_exception)
{
    enum fault_class first = d_is_exception ? fault_class(d->vector) : FAULT_BENIGN;
    enum fault_class second = fault_class(v->fault.vector);
    if (first == FAULT_DOUBLE)
        return false;
    if (v->fault.vector == VEC_PF)
        v->cr2 = v->fault.cr2;
    if (makes_double(first, second))
        v->fault = (struct fault){.vector = VEC_DF, .has_error = true};
    else if (error_has_ext(v->fault.vector))
        v->fault.error |= ERROR_EXT;
    take_fault(v, v->rip, d); /* unchanged so far, or where a new task begins */
    return true;
}

/* Delivers d and what comes of it; never raises a guest fault. Benign faults don't add up to a
 * double fault, so a handler for #AC that runs at CPL 3 on a misaligned stack faults for ever, on a
 * CPU too. Here the delivery is then given up: the instruction runs again, faults again, and in
 * between the run loop sees what other threads want. */
static void deliver(struct vcpu *v, struct delivery *d, bool is_exception)
{
    if (sem_try_deliver(v, d))
        return;
    jmp_buf outer;
    volatile bool exception = is_exception;
    volatile unsigned faults = 0;
    memcpy(outer, v->unwind, sizeof(outer));
    int why = setjmp(v->unwind);
    if (why == UNWIND_FAULT && !escalate(v, d, exception)) {
        v->activity = ACTIVITY_SHUTDOWN;
    } else if (why != UNWIND_EXIT && faults++ <= MAX_FAULTS) {
        exception = exception || why == UNWIND_FAULT;
        sem_deliver(v, d);
    }
    memcpy(v->unwind, outer, sizeof(outer));
    if (why == UNWIND_EXIT)
        longjmp(v->unwind, UNWIND_EXIT);
}

void sem_deliver_fault(struct vcpu *v, u64 start_rip)
{
    struct delivery d;
    u64 return_rip = v->fault.trap ? v->rip : start_rip;
    v->rip = return_rip;
    v->cur = &sem_no_insn;
    v->pending_db = 0; /* traps of an instruction that did not complete */
    v->shadow = 0;
    v->activity = ACTIVITY_RUNNING;
    take_fault(v, return_rip, &d);
    deliver(v, &d, true);
}

static void deliver_interrupt(struct vcpu *v, u8 vector, bool is_exception)
{
    struct delivery d = {.vector = vector, .rip = v->rip, .flags = v->rflags};
    v->activity = ACTIVITY_RUNNING;
    deliver(v, &d, is_exception);
}

void sem_deliver_interrupt(struct vcpu *v, u8 vector, enum interrupt_kind kind)
{
    struct delivery d = {.vector = vector,
                         .software = true,
                         .int_n = kind == INTERRUPT_SOFTWARE,
                         .rip = v->rip,
                         .flags = v->rflags};
    switch (kind) {
    case INTERRUPT_EXTERNAL:
        stat_inc(&v->stats, STAT_IRQ_DELIVERED);
        deliver_interrupt(v, vector, false);
        break;
    case INTERRUPT_NMI:
        stat_inc(&v->stats, STAT_NMI_DELIVERED);
        v->nmi_blocked = true;
        deliver_interrupt(v, vector, false);
        break;
    case INTERRUPT_ICEBP:
        deliver_interrupt(v, vector, true);
        break;
    case INTERRUPT_SOFTWARE:
    case INTERRUPT_SOFT_TRAP:
        if (!sem_try_deliver(v, &d))
            sem_deliver(v, &d);
        stat_inc(&v->stats, STAT_SOFT_INT);
        break;
    }
}

/* --- boundaries --- */

static void take_debug_trap(struct vcpu *v)
{
    v->fault = (struct fault){.vector = VEC_DB, .dr6 = v->pending_db, .trap = true};
    v->pending_db = 0;
    sem_deliver_fault(v, v->rip);
}

/* EVENT_INTR is only a hint: it is cleared before looking, and set again if there is more. */
static void take_interrupt(struct vcpu *v)
{
    vcpu_clear(v, EVENT_INTR);
    if (!v->irq || !v->irq->pending(v))
        return;
    int vector = v->irq->acknowledge(v);
    if (vector < 0)
        return;
    if (v->irq->pending(v))
        atomic_fetch_or(&v->events, EVENT_INTR);
    sem_deliver_interrupt(v, (u8)vector, INTERRUPT_EXTERNAL);
}

static void take_event(struct vcpu *v, u32 events, u8 shadow)
{
    bool ss = shadow & SHADOW_MOV_SS;
    if (v->pending_db && !ss) {
        take_debug_trap(v);
    } else if (events & EVENT_NMI && !v->nmi_blocked && !ss) {
        vcpu_clear(v, EVENT_NMI);
        sem_deliver_interrupt(v, VEC_NMI, INTERRUPT_NMI);
    } else if (events & EVENT_INTR && v->rflags & FLAG_IF && !shadow) {
        take_interrupt(v);
    }
}

/* Tells by v->activity whether instructions can go on. */
static bool still_running(const struct vcpu *v, struct vm_exit *exit)
{
    if (likely(v->activity == ACTIVITY_RUNNING))
        return true;
    exit->kind = v->activity == ACTIVITY_SHUTDOWN ? EXIT_SHUTDOWN : EXIT_HALT;
    return false;
}

bool sem_service_events(struct vcpu *v, struct vm_exit *exit)
{
    u32 events = vcpu_events(v);
    if (events & (EVENT_INIT | EVENT_SIPI | EVENT_STOP)) {
        exit->kind = EXIT_KICKED;
        return false;
    }
    if (events & EVENT_TLB_FLUSH) {
        vcpu_clear(v, EVENT_TLB_FLUSH);
        tlb_flush_all(v);
    }
    if (events & EVENT_SMI)
        vcpu_clear(v, EVENT_SMI);
    u8 shadow = v->shadow;
    v->shadow = 0;
    if (v->activity == ACTIVITY_RUNNING || v->activity == ACTIVITY_HALTED)
        take_event(v, events, shadow);
    return still_running(v, exit);
}

/* --- one instruction --- */

static bool step_unwound(struct vcpu *v, struct vm_exit *exit)
{
    exit->kind = v->exit_reason;
    memcpy(exit->text, v->exit_text, sizeof(exit->text));
    v->rip -= v->cur->len;
    return false;
}

bool sem_step(struct vcpu *v, struct vm_exit *exit)
{
    struct insn i;
    stat_inc(&v->stats, STAT_SEM_ONE);
    tlb_flush_all(v); /* the other engine's MMU saw writes to page tables that ours did not */
    v->shadow = 0;
    v->cur = &sem_no_insn;
    switch (setjmp(v->unwind)) {
    case UNWIND_NONE:
        sem_check_code_breakpoint(v);
        sem_fetch(v, &i);
        sem_execute(v, &i);
        break;
    case UNWIND_FAULT:
        sem_deliver_fault(v, sem_start(v));
        break;
    default:
        return step_unwound(v, exit);
    }
    v->cur = &sem_no_insn;
    return still_running(v, exit);
}
