/*
 * x87, SSE and AVX state: the checks that come before an instruction may touch it (SDM vol. 3, 13
 * and tables 2-2, 23-1), and helpers for the files that load and store it. Private to sem/, but for
 * fpu_xinuse().
 */
#ifndef RINGER_ENGINE_SEM_SEM_FPU_H
#define RINGER_ENGINE_SEM_SEM_FPU_H

#include "cpu/fault.h"
#include "cpu/insn.h"
#include "cpu/state.h"

#define FSW_ES        BIT(7)  /* an unmasked exception is pending */
#define FSW_B         BIT(15) /* the same, for old software */
#define FSW_FLAGS     0x3f    /* the six exceptions; also their masks in FCW */
#define FSW_TOP_SHIFT 11
#define FSW_TOP_MASK  (7U << FSW_TOP_SHIFT)
#define FSW_TOP(fsw)  (((fsw) >> FSW_TOP_SHIFT) & 7)

/* State components in use (XINUSE, XGETBV with ECX=1), perhaps more than strictly needed. */
u64 fpu_xinuse(const struct vcpu *v);

/* MXCSR bits that may be set. */
u32 fpu_mxcsr_mask(const struct vcpu *v);

/* #MF for the pending x87 error, or FERR# where CR0.NE is clear. */
_Noreturn void fpu_raise_pending(struct vcpu *v);

/* Changes TOP. The registers stay where they are, so their stack positions, and st[], rotate. */
void fpu_set_top(struct fpu_legacy *x, unsigned top);

/* As FNINIT does; the registers keep what they hold. */
void fpu_init_x87(struct fpu_state *fpu);

/* Sets FSW.ES and B from the exception flags and masks. */
void fpu_update_es(struct fpu_legacy *x);

/* FIP, FDP, FOP for the x87 instruction i, which has just been executed; ea is its memory
 * operand's. */
void fpu_set_pointers(struct vcpu *v, const struct insn *i, u16 fop, u64 ea);

static inline void check_pending_x87(struct vcpu *v)
{
    if (unlikely(v->fpu.legacy.fsw & FSW_ES))
        fpu_raise_pending(v);
}

/* An x87 instruction that doesn't wait (FN...). */
static inline void check_x87_nowait(struct vcpu *v)
{
    if (unlikely(v->cr0 & (CR0_EM | CR0_TS)))
        fault_raise(v, VEC_NM);
}

static inline void check_x87(struct vcpu *v)
{
    check_x87_nowait(v);
    check_pending_x87(v);
}

static inline void check_ts(struct vcpu *v)
{
    if (unlikely(v->cr0 & CR0_TS))
        fault_raise(v, VEC_NM);
}

static inline void check_mmx(struct vcpu *v)
{
    if (unlikely(v->cr0 & CR0_EM))
        fault_ud(v);
    check_ts(v);
    check_pending_x87(v);
}

static inline void check_sse(struct vcpu *v)
{
    if (unlikely((v->cr0 & CR0_EM) || !(v->cr4 & CR4_OSFXSR)))
        fault_ud(v);
    check_ts(v);
}

static inline void check_avx(struct vcpu *v)
{
    const u64 need = XCR0_SSE | XCR0_AVX;
    if (unlikely(!(v->cr4 & CR4_OSXSAVE) || (v->xcr0 & need) != need || !cpu_protected(v)))
        fault_ud(v);
    check_ts(v);
}

/* XMM and YMM registers that the current mode has; instructions leave the others alone. */
static inline unsigned vec_count(const struct vcpu *v)
{
    return v->mode == MODE_LONG64 ? 16 : 8;
}

#endif
