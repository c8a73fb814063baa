/*
 * Guest faults. Code that finds a fault calls one of these; it does not return. Control goes to the
 * setjmp in the run loop of the engine (vcpu.unwind), which delivers vcpu.fault by
 * sem_deliver_fault(). So no semantic function or memory access checks for errors, and each must
 * raise before its first guest-visible change (or undo what it changed).
 *
 * A faulting instruction is restarted: v->rip at the time of the raise may already point behind it;
 * the engine takes the start from v->cur (see engine/sem/sem.h).
 */
#ifndef RINGER_CPU_FAULT_H
#define RINGER_CPU_FAULT_H

#include "cpu/state.h"

/* A fault without an error code: #DE #DB #BR #UD #NM #MF #XM. */
_Noreturn void fault_raise(struct vcpu *v, enum vector vector);

/* A fault with an error code: #DF #TS #NP #SS #GP #AC. For selector-related ones the code is the
 * selector with RPL cleared (fault_selector adds nothing else); EXT is added at delivery. */
_Noreturn void fault_raise_error(struct vcpu *v, enum vector vector, u32 error);

/* #PF at linear address `lin` with the PF_* bits of `error`. */
_Noreturn void fault_page(struct vcpu *v, u64 lin, u32 error);

/* #DB before the instruction, with these DR6 bits (general detect, code breakpoint). */
_Noreturn void fault_debug(struct vcpu *v, u64 dr6);

/* Shorthands for the most common ones. */
_Noreturn void fault_ud(struct vcpu *v);
_Noreturn void fault_gp(struct vcpu *v, u32 error);

/* Leaves the engine without executing the current instruction: kind is an enum exit_kind
 * (engine/engine.h); the text is for the user. */
_Noreturn void vcpu_leave(struct vcpu *v, unsigned kind, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
