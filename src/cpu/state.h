/*
 * The one architectural state of a virtual CPU. Every engine runs on it and leaves it complete, so
 * a guest can change engine at any instruction boundary. Fields are the architecture's registers in
 * their architectural form (flags are never lazy here); what can be derived from them is kept next
 * to them only where execution needs it at every instruction, and is recomputed in one place,
 * cpu_update_mode().
 */
#ifndef RINGER_CPU_STATE_H
#define RINGER_CPU_STATE_H

#include <setjmp.h>
#include <stdatomic.h>

#include "base/stats.h"
#include "base/tunables.h"
#include "base/types.h"
#include "cpu/arch.h"
#include "cpu/tlb_entry.h"

struct insn;
struct machine;
struct tlb;
struct journal;
struct vcpu;
struct irq_ops;

#define MAX_CPUS 16

/* A segment register with its hidden part. `attr` has the layout of VMX access rights (SDM 25.4.1):
 * type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15; SEG_UNUSABLE for a null selector. */
struct segment {
    u16 sel;
    u32 attr;
    u32 limit; /* in bytes, granularity already applied */
    u64 base;
};

struct dtable {
    u64 base;
    u16 limit;
};

/* x87, MMX, SSE and AVX state as a standard-format XSAVE area (SDM vol. 1, 13.4): legacy region
 * at 0, header at 512, AVX state (upper halves of YMM) at 576. Registers of a component whose
 * XSTATE_BV bit is clear are nevertheless valid here: the area is kept fully expanded. */
struct fpu_state {
    struct fpu_legacy { /* FXSAVE format, SDM vol. 1, 10.5.1 */
        u16 fcw, fsw;
        u8 ftw_abridged, rsvd0; /* one bit per register, 1 = not empty */
        u16 fop;
        u64 fip;
        u64 fdp;
        u32 mxcsr, mxcsr_mask;
        u8 st[8][16]; /* by stack position: st[0] is ST(0); MMX registers are physical, see sem/ */
        u8 xmm[16][16];
        u8 rsvd1[96];
    } legacy;
    u64 xstate_bv, xcomp_bv; /* the XSAVE header; xstate_bv = components that the guest would see
                                as not in their initial state (kept conservatively set) */
    u8 rsvd2[48];
    u8 ymm_hi[16][16];
    u16 fip_sel, fdp_sel; /* FCS and FDS for the 32-bit formats */
} __attribute__((aligned(64)));

/* Local APIC registers (SDM vol. 3, 11). Behaviour is in dev/lapic.c. IRR, TMR and pending errors
 * are set by other threads, which also look at ISR; all else is written only by the vCPU's own
 * thread (timer fields: under a lock in dev/). */
struct lapic_state {
    u64 base_msr; /* IA32_APIC_BASE */
    u32 id;       /* register format: ID in bits 31:24 */
    u32 tpr, ldr, dfr, svr, esr;
    _Atomic u32 esr_pending; /* errors since ESR was written last */
    u32 icr_low, icr_high;
    u32 lvt[6]; /* indexed by enum lapic_lvt in dev/lapic.h: timer, thermal, perf, LINT0/1, error */
    u32 timer_initial, timer_divide;
    u64 timer_start_ns; /* guest time when the current count was loaded */
    u64 tsc_deadline;   /* IA32_TSC_DEADLINE, 0 = disarmed */
    _Atomic u32 irr[8], isr[8], tmr[8];
};

/* MSRs that are plain state; those with behaviour or with a register elsewhere are not here. */
struct msr_state {
    u64 star, lstar, cstar, fmask;
    u64 kernel_gs_base; /* FS and GS base are seg[].base */
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 pat;
    u64 mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
    u64 misc_enable, tsc_aux, debugctl, feature_control, spec_ctrl;
    u64 kvm_system_time, kvm_wall_clock; /* paravirtual clock, MSRs 0x4b564d01 and ..00 */
    u64 bios_sign_id;
    u64 mcg_status, mcg_ctl;
};

enum activity {
    ACTIVITY_RUNNING,
    ACTIVITY_HALTED,    /* HLT: waits for an interrupt */
    ACTIVITY_WAIT_SIPI, /* after INIT on an application processor */
    ACTIVITY_SHUTDOWN,  /* triple fault */
};

/* What other threads ask of a vCPU; bits of vcpu.events. See cpu/irq.h for how to raise them. */
enum vcpu_event {
    EVENT_INTR = 1 << 0, /* the local APIC or the PIC may have a vector: look, then clear */
    EVENT_NMI = 1 << 1,
    EVENT_INIT = 1 << 2,
    EVENT_SIPI = 1 << 3, /* vector in vcpu.sipi_vector */
    EVENT_SMI = 1 << 4,
    EVENT_TLB_FLUSH = 1 << 5, /* guest-physical map or A20 changed */
    EVENT_STOP = 1 << 6,      /* leave the engine: the run loop wants this thread */
};

/* Interrupt shadows (SDM vol. 3, 6.8.3): valid for the next instruction boundary only. */
enum shadow {
    SHADOW_STI = 1 << 0,    /* holds off maskable interrupts */
    SHADOW_MOV_SS = 1 << 1, /* holds off interrupts, NMI and #DB */
};

/* vcpu.shadow_end: the next MOV SS has a shadow, wherever it is. */
#define SHADOW_END_NONE (~0ULL)

/* A guest fault or trap on its way to delivery. */
struct fault {
    u8 vector;
    bool has_error;
    u32 error;
    u64 cr2;   /* #PF: the linear address, put in CR2 at delivery */
    u64 dr6;   /* #DB: bits to set in DR6 at delivery */
    bool trap; /* #DB after the instruction (RIP already advanced) rather than before it */
};

/* What the code that unwinds (cpu/fault.h) hands to the setjmp at the engine's run loop. */
enum unwind {
    UNWIND_NONE,
    UNWIND_FAULT, /* deliver vcpu.fault */
    UNWIND_EXIT,  /* leave the engine; vcpu.exit_reason says why. The instruction has no effect */
};

/* Execution mode: what decides how bytes decode. */
enum cpu_mode {
    MODE_REAL, /* CR0.PE clear; CS.D may still be set ("unreal" code segments are 16 bit) */
    MODE_V86,
    MODE_PROT16, /* protected mode, CS.D clear */
    MODE_PROT32,
    MODE_COMPAT16, /* long mode, CS.L clear, CS.D clear */
    MODE_COMPAT32,
    MODE_LONG64,
};

/* Bytes for an engine's own state in struct vcpu. */
#define ENGINE_AREA_BYTES (6 * MIB)

struct vcpu {
    /* General state; an engine's hot fields come first. */
    u64 gpr[16]; /* enum gpr */
    u64 rip;
    u64 rflags; /* bit 1 always set */
    u64 no_reg; /* always 0: read in place of a base, an index or a segment base that is not there
                 */
    u64 flat_stack; /* mask of rSP if that is a linear address without checks, else 0; derived */
    _Atomic u32 events; /* enum vcpu_event */
    u8 cpl;
    u8 mode;          /* enum cpu_mode; derived */
    u8 shadow;        /* enum shadow, for the coming instruction boundary */
    u8 tlb_ctx;       /* enum tlb_context of ordinary data accesses; derived */
    bool align_check; /* CR0.AM && EFLAGS.AC && CPL 3; derived */
    u8 quick_segs;    /* BIT(n): an access by segment n needs no check but paging's; derived */
    u8 flat_segs;     /* of these, those with base 0; derived */
    u8 limited_segs;  /* BIT(n): one by segment n needs a look at its limit, too; derived */
    bool flat;        /* CS, DS, ES and SS have base 0 and no limit, or 64-bit mode; derived */
    bool long_mode;   /* EFER.LMA; derived copy */
    bool nmi_blocked;
    u8 code_written; /* set when this vCPU stores into decoded code; the engine looks and clears */
    const struct insn *cur; /* instruction being executed: set by the engine before sem */

    struct segment seg[6]; /* enum seg_reg */
    struct segment ldtr, tr;
    struct dtable gdtr, idtr;
    u64 cr0, cr2, cr3, cr4; /* CR8 is lapic.tpr >> 4 */
    u64 efer, xcr0, xss;
    u64 pdpte[4];   /* PAE: loaded at MOV CR3 (SDM vol. 3, 4.4.1) */
    u64 dr[8];      /* 4 and 5 unused */
    u64 tsc_offset; /* guest TSC = timebase_tsc() + tsc_offset */
    u64 tsc_adjust; /* IA32_TSC_ADJUST */
    struct msr_state msr;
    struct fpu_state fpu;
    struct lapic_state lapic;
    u8 activity;    /* enum activity */
    u64 shadow_end; /* address behind the MOV SS or POP SS that armed the last shadow */
    u64 pending_db; /* DR6 bits of debug traps that wait for the next boundary */
    _Atomic u8 sipi_vector;
    bool bsp;
    unsigned id; /* APIC ID and index */

    /* Unwinding (cpu/fault.h). */
    jmp_buf unwind;
    struct fault fault;
    u8 exit_reason; /* enum exit_kind of engine/engine.h when unwinding with UNWIND_EXIT */
    char exit_text[160];

    /* Where the last blocks of guest code started, for the dump after a triple fault; last_pos
     * counts up: the oldest one is at last_pos % TUNE_LAST_BRANCHES. */
    u64 last_rip[TUNE_LAST_BRANCHES];
    unsigned last_pos;

    /* Wiring. */
    struct machine *machine;
    struct tlb *tlb;         /* software TLB, owned by mem/ */
    struct journal *journal; /* mem/journal.h: takes note of stores; NULL: nobody does */
    const struct irq_ops *irq;
    void *irq_ctx;
    void *engine_vcpu;     /* private to the engine that runs this vCPU */
    struct native *native; /* thunks, owned by engine/sem/native.c; freed by native_destroy() */
    void (*ferr)(struct vcpu *v); /* FERR#: pulls IRQ 13 for an x87 error with CR0.NE clear; NULL:
                                     such errors are #MF as well */
    void (*wake)(struct vcpu *v); /* wakes or kicks the vCPU's thread; set by vm/ */
    void *wake_ctx;
    /* Called after each flush of the TLB, on the vCPU's own thread, for an engine that keeps what
     * it learned from the TLB; lin: for TLB_FLUSHED_PAGE. NULL: nobody listens. */
    void (*tlb_flushed)(struct vcpu *v, enum tlb_flush what, u64 lin);
    struct stats stats;

    /* First-level TLB, filled and flushed by mem/. */
    struct tlb_entry l1[TLB_CONTEXTS][TUNE_TLB_L1_ENTRIES] __attribute__((aligned(64)));

    /* For an engine whose generated code addresses its own state relative to the vCPU, like the
     * registers; engine/bt defines the layout. */
    u8 engine_area[ENGINE_AREA_BYTES] __attribute__((aligned(64)));
};

/* What all vCPUs of one guest share and engines may use. Filled by vm/. */
struct guest_mem;
struct port_bus;
struct timebase;
struct cpu_model;
/* How bt emulates RDTSC: in translated code, by a call of C, or by a fault that the host process
 * takes. */
enum rdtsc_form { RDTSC_IN_TC, RDTSC_CALLOUT, RDTSC_TRAP };
struct machine {
    struct guest_mem *mem;
    struct port_bus *ports;
    struct timebase *time;
    const struct cpu_model *model; /* cpu/model.h: CPUID and MSRs offered */
    unsigned ncpus;
    size_t tc_size; /* bytes of the translation cache (engine bt); 0: the default */
    enum rdtsc_form rdtsc;
    bool perf_map; /* bt: name translated code for perf, in /tmp/perf-PID.map */
    struct vcpu *vcpu[MAX_CPUS];
};

/* Memory for a processor, all zero; NULL: none. */
struct vcpu *cpu_create(void);
void cpu_destroy(struct vcpu *v);

/* Puts v in the state after RESET (SDM vol. 3, 10.1.1); wiring fields are kept. */
void cpu_reset(struct vcpu *v);

/* As after INIT: like reset, but FPU, MSRs, TSC and most APIC state survive (SDM table 10-1). */
void cpu_init(struct vcpu *v);

/* Recomputes the fields that are marked as derived. Call after any change of CR0,
 * CR4, EFER, RFLAGS.VM/AC, CPL or a segment register. */
void cpu_update_mode(struct vcpu *v);

/* The same after nothing but DS, ES, FS or GS was changed. */
void cpu_update_data_segment(struct vcpu *v, enum seg_reg seg);

/* Default operand size of the current mode: 2 or 4 bytes (4 in 64-bit mode). */
static inline unsigned cpu_code_size(const struct vcpu *v)
{
    return v->mode == MODE_PROT32 || v->mode == MODE_COMPAT32 || v->mode == MODE_LONG64 ? 4 : 2;
}

/* Width in bytes of instruction pointer and default stack width by mode. */
static inline bool cpu_protected(const struct vcpu *v)
{
    return v->mode != MODE_REAL && v->mode != MODE_V86;
}

#endif
