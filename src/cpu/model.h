/*
 * The CPU that every engine presents: CPUID leaves, and which MSRs exist. It is made once per
 * machine from a list of features that ringer implements, cut down to those that the host has where
 * they are executed natively (x87, SSE, AVX, BMI...). The vendor is the host's, because user-mode
 * code sees the host's undefined flags and corner cases.
 */
#ifndef RINGER_CPU_MODEL_H
#define RINGER_CPU_MODEL_H

#include "cpu/state.h"

/* Features as named bits, for tests of "does the guest have it"; the list is features.def. */
enum cpu_feature {
#define FEATURE(name, leaf, reg, bit, cond) FEAT_##name,
#include "cpu/features.def"
#undef FEATURE
    FEAT_COUNT
};

struct cpuid_leaf {
    u32 leaf, subleaf;
    bool has_subleaf; /* subleaf is significant */
    u32 eax, ebx, ecx, edx;
};

#define CPUID_MAX_LEAVES 64

struct cpu_model {
    struct cpuid_leaf leaf[CPUID_MAX_LEAVES]; /* as vCPU 0 sees them, before dynamic bits */
    unsigned nleaves;
    bool feature[FEAT_COUNT];
    bool withheld[FEAT_COUNT]; /* would be offered but for cpu_model_options.without */
    bool intel; /* vendor is Intel (else AMD): decides SYSCALL/SYSENTER corner cases */
    bool kvmclock;
    u64 xcr0_mask; /* XCR0 bits that may be set */
    u32 mxcsr_mask;
    unsigned phys_bits; /* MAXPHYADDR */
    u64 tsc_hz;
};

struct cpu_model_options {
    const bool *without; /* FEAT_COUNT of them: features that must not be offered; may be NULL */
    bool kvmclock;       /* offer the paravirtual clock */
    unsigned ncpus;
    u64 tsc_hz;
};

/* Makes the model for this host. */
void cpu_model_init(struct cpu_model *m, const struct cpu_model_options *opt);

/* CPUID as v executes it now: APIC ID, OSXSAVE, XSAVE sizes and so on filled in. out: EAX, EBX,
 * ECX, EDX. */
void cpu_cpuid(const struct vcpu *v, u32 leaf, u32 subleaf, u32 out[4]);

bool cpu_has(const struct cpu_model *m, enum cpu_feature f);

/* Do the feature's instructions execute? Those of a withheld one do, as on hardware that runs more
 * than its CPUID was made to say; and some KVMs show their guests features that they were told not
 * to. */
bool cpu_executes(const struct cpu_model *m, enum cpu_feature f);

/* As in features.def. */
const char *cpu_feature_name(enum cpu_feature f);

/* Reserved-bit masks that follow from the model. */
u64 cpu_cr4_allowed(const struct cpu_model *m);
u64 cpu_efer_allowed(const struct cpu_model *m);

#endif
