/*
 * Native execution of x87, MMX, SSE and AVX instructions. A thunk is a small host function made
 * from the guest's instruction: it loads the registers that the instruction uses from struct vcpu,
 * executes the instruction itself with its memory operand re-encoded as [rsi], and stores the
 * results. So results, flags and exceptions are the host CPU's own, bit by bit.
 *
 * A recipe says what a thunk does, free of everything that does not matter (address, prefixes), so
 * equal instructions share a thunk. Thunks live as long as the vCPU; when their number reaches its
 * bound, further ones are rebuilt in one slot at each execution.
 */
#ifndef RINGER_ENGINE_SEM_NATIVE_H
#define RINGER_ENGINE_SEM_NATIVE_H

#include "base/error.h"
#include "cpu/insn.h"
#include "cpu/state.h"

/* --- for the rest of the engine layer --- */

/* The thunk for an operation with INSN_NATIVE, to be kept in insn.aux; NULL if it can't be kept (it
 * is then made at each execution). Leaves the engine if the host gives no memory. */
void *native_thunk(struct vcpu *v, const struct insn *i);

/* Makes what v needs for thunks, and the process's signal handlers. Done at the first thunk anyway;
 * to be called earlier where that would be too late for memfd_create, mmap and sigaction (before a
 * seccomp filter). */
int native_create(struct vcpu *v, struct error *err);

/* Frees v's thunks. No struct insn bound for v may be executed afterwards. */
void native_destroy(struct vcpu *v);

/* --- between the files native*.c and sem_native.c --- */

/* What state an instruction works on, which decides how it may fault. */
enum native_kind {
    NATIVE_X87,
    NATIVE_MMX,
    NATIVE_MMX_SSE, /* both MMX and XMM registers (CVTPI2PS, MOVQ2DQ...) */
    NATIVE_SSE,
    NATIVE_AVX,
};

#define MXCSR_DEFAULT 0x1f80

struct recipe {
    u8 code[16]; /* the instruction as the thunk has it */
    u8 len;
    u8 kind;        /* enum native_kind */
    u8 align_check; /* runs with RFLAGS.AC set */
    u8 mxcsr;       /* runs with the guest's MXCSR */
    u8 flags_in, flags_out;
    u8 gpr;                       /* explicit general register, as RAX in the thunk; REG_NONE */
    u8 gpr_access;                /* OPD_READ | OPD_WRITE */
    u8 implicit_in, implicit_out; /* RAX, RCX, RDX used by name: bit per enum gpr */
    u8 mem_access;                /* OPD_READ | OPD_WRITE */
    u16 mem_size;                 /* bytes; 0: no memory operand */
    bool must_align;              /* the memory operand, or #GP(0) */
    u16 vec_load, vec_store;      /* XMM or YMM registers, bit per number */
    u16 fop;                      /* x87: the opcode as FOP has it */
};

struct thunk {
    struct recipe recipe;
    int (*run)(struct vcpu *v, void *mem); /* 0, or the signal that the instruction raised */
    const u8 *insn;                        /* host address of the instruction in the thunk */
    const u8 *fault;                       /* where to go on when it has raised a signal */
    u16 next;                              /* in its hash chain */
};

/* Makes the recipe for i in this mode. */
void recipe_make(const struct insn *i, enum cpu_mode mode, bool align_check, struct recipe *r);

/* Writes the machine code of r to `code` (at most THUNK_BYTES), which will run at address rx, with
 * the host's MXCSR at address rx_mxcsr. Fills t but for its chain. */
#define THUNK_BYTES 320
void thunk_emit(struct thunk *t, const struct recipe *r, u8 *code, const u8 *rx,
                const u8 *rx_mxcsr);

/* The thunk for i; valid until the next call if it could not be kept. */
struct thunk *native_find(struct vcpu *v, const struct insn *i, bool align_check);

/* Runs t, with `mem` (may be NULL) as its memory operand; raises the guest's fault if the
 * instruction raised a signal. */
void native_run(struct vcpu *v, const struct thunk *t, void *mem);

/* Installs the signal handlers, once per process. */
void native_signal_init(void);

#endif
