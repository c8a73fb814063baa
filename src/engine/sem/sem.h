/*
 * What each operation does, in C, once. The interpreter calls these for every instruction, a
 * translator for those that it does not emit code for, and the KVM engine for those that KVM could
 * not emulate.
 *
 * Calling convention of a semantic function: v->cur is the instruction, v->rip already points to
 * the next one. It either completes, changing state and v->rip only after the last thing that can
 * fault, or raises (cpu/fault.h) with registers and memory as before. Blocks end after operations
 * with INSN_END.
 */
#ifndef RINGER_ENGINE_SEM_SEM_H
#define RINGER_ENGINE_SEM_SEM_H

#include "cpu/insn.h"
#include "cpu/irq.h"
#include "cpu/state.h"
#include "engine/engine.h"

/* One table per row of insn.def, indexed by log2 of the operand size (1, 2, 4, 8 bytes). */
#define SEM_TABLE(name)                   extern sem_fn *const sem_##name[4]
#define INSN(mnemonic, sem, class, flags) SEM_TABLE(sem);
#include "cpu/insn.def"
#undef INSN

/* Defines a table whose four entries are the same function. */
#define SEM_SAME(name, fn) sem_fn *const sem_##name[4] = {fn, fn, fn, fn}

/* Chooses i->sem (and makes the native thunk for INSN_NATIVE operations) after insn_decode. */
void sem_bind(struct vcpu *v, struct insn *i);

/* Does the guest's CPU have this instruction? TZCNT and LZCNT may become BSF and BSR. */
bool sem_offered(struct vcpu *v, struct insn *i);

/* Address where the current instruction starts. Valid until a semantic function changes v->rip. */
static inline u64 sem_start(const struct vcpu *v)
{
    return v->rip - v->cur->len;
}

/* Effective address of the memory operand (before segmentation, truncated to the address size). */
u64 sem_ea(const struct vcpu *v, const struct insn *i);

/* --- events: sem_event.c, shared by all engines that run guest code themselves --- */

/* Delivers v->fault, raised by the instruction v->cur (v->rip still behind it unless the
 * engine says otherwise by passing the start): pushes, gates, double fault. May itself shut the
 * vCPU down: then v->activity is ACTIVITY_SHUTDOWN. Never raises. */
void sem_deliver_fault(struct vcpu *v, u64 start_rip);

enum interrupt_kind {
    INTERRUPT_EXTERNAL,
    INTERRUPT_NMI,
    INTERRUPT_SOFTWARE,  /* INT n: gate DPL is checked */
    INTERRUPT_SOFT_TRAP, /* INT3, INTO: like software, with #BP and #OF vectors */
    INTERRUPT_ICEBP,     /* INT1: like an exception, no DPL check */
};

/* Delivers an interrupt at a boundary; v->rip is the return address. May raise (software kinds) or,
 * for external kinds, turns a fault in delivery into its own delivery. Never raises for
 * EXTERNAL and NMI. */
void sem_deliver_interrupt(struct vcpu *v, u8 vector, enum interrupt_kind kind);

/* At an instruction boundary: takes what is due, in the architecture's order of priority (SDM
 * vol. 3, table 6-2): debug traps, NMI, interrupts; respects and then clears the shadow. Returns
 * false if the engine must leave (exit->kind set): INIT, SIPI, STOP, halt, shutdown. */
bool sem_service_events(struct vcpu *v, struct vm_exit *exit);

/* Must sem_service_events look before the next instruction? A maskable interrupt that cannot be
 * taken stays in events without costing more than this. */
static inline bool sem_events_due(struct vcpu *v)
{
    u32 events = vcpu_events(v);
    if (likely(!(events | v->shadow | v->activity) && !v->pending_db))
        return false;
    return events != EVENT_INTR || v->rflags & FLAG_IF || v->shadow || v->activity || v->pending_db;
}

/* Executes exactly the one instruction at CS:RIP, faults delivered, as the interpreter would; for
 * engines that met something they can't run. On return the machine is at the next boundary; false
 * if the engine must leave with *exit. */
bool sem_step(struct vcpu *v, struct vm_exit *exit);

/* --- segments and control transfers: sem_segment.c, sem_far.c --- */

/* Loads a data or stack segment register with all checks (MOV Sreg, POP Sreg, LDS...). */
void sem_load_segment(struct vcpu *v, enum seg_reg seg, u16 sel);
/* The same for what needs no page walk, changes no descriptor and doesn't fault; else false, with
 * nothing changed. Uses general registers only. */
bool sem_try_load_segment(struct vcpu *v, enum seg_reg seg, u16 sel);

/* SYSENTER or SYSCALL, resp. SYSEXIT or SYSRET (to64: by REX.W), with RIP behind the instruction;
 * false: it faults, nothing was changed. General registers only. */
bool sem_try_system_call(struct vcpu *v, bool sysenter);
bool sem_try_system_return(struct vcpu *v, bool sysexit, bool to64);
/* INT n, INT3 and INTO, with RIP behind the instruction; a page fault of the instruction at RIP;
 * IRET. False: unusual, or it faults; nothing was changed. General registers only (sem_quick.c). */
bool sem_try_interrupt(struct vcpu *v, u8 vector);
bool sem_try_page_fault(struct vcpu *v, u64 lin, u32 error);
bool sem_try_iret(struct vcpu *v, unsigned size);
/* Loads it the real-mode or virtual-8086 way. */
void sem_load_segment_real(struct vcpu *v, enum seg_reg seg, u16 sel);

/* Stack operations by stack size of SS and mode; size 2, 4, 8. */
void sem_push(struct vcpu *v, u64 value, unsigned size);
u64 sem_pop(struct vcpu *v, unsigned size);
/* SP as the current stack size sees it: mask is 0xffff, 0xffffffff or all ones. */
u64 sem_stack_mask(const struct vcpu *v);

/* A near jump to off: checks the CS limit or canonical form (#GP(0)) and sets v->rip. size: operand
 * size that truncates it (2, 4, 8). */
void sem_jump(struct vcpu *v, u64 off, unsigned size);

/* Writes RFLAGS as POPF/IRET do: only the bits in mask change; cpu_update_mode if VM or AC. */
void sem_write_flags(struct vcpu *v, u64 flags, u64 mask);

/* --- control registers and MSRs: sem_cr.c, sem_msr.c --- */

/* As MOV CRn does: checks (#GP), TLB flushes, mode changes. */
void sem_write_cr0(struct vcpu *v, u64 value);
void sem_write_cr3(struct vcpu *v, u64 value);
void sem_write_cr4(struct vcpu *v, u64 value);

/* False: the MSR does not exist or the value is not allowed (#GP by the caller, counted here). Also
 * used by the KVM engine for MSR accesses that come to user space. */
bool sem_read_msr(struct vcpu *v, u32 msr, u64 *value);
bool sem_write_msr(struct vcpu *v, u32 msr, u64 value);

/* Guest TSC now. */
u64 sem_tsc(const struct vcpu *v);

/* Debug breakpoints: which of DR0-3 match an access (DR6 bits, 0 if none). kind: 0 execute, 1
 * write, 3 read/write (DR7 R/W encodings). */
u64 sem_breakpoints(const struct vcpu *v, u64 lin, unsigned len, unsigned kind);

#endif
