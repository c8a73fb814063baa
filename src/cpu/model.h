/*
 * The CPU that every engine presents: CPUID leaves, and which MSRs exist. It is made once per
 * machine from a list of features that ringer implements, cut down to those that the host has where
 * they are executed natively (x87, SSE, AVX, BMI...). The vendor is the host's, because user-mode code
 * sees the host's undefined flags and corner cases.
 */
#ifndef RINGER_CPU_MODEL_H
#define RINGER_CPU_MODEL_H

#include "cpu/state.h"

struct cpuid_leaf {
    u32 leaf, subleaf;
    bool has_subleaf; /* subleaf is significant */
    u32 eax, ebx, ecx, edx;
};

#define CPUID_MAX_LEAVES 64

struct cpu_model {
    struct cpuid_leaf leaf[CPUID_MAX_LEAVES]; /* as vCPU 0 sees them, before dynamic bits */
    unsigned nleaves;
    bool intel; /* vendor is Intel (else AMD): decides SYSCALL/SYSENTER corner cases */
    bool kvmclock;
    u64 xcr0_mask;      /* XCR0 bits that may be set */
    u32 mxcsr_mask;
    unsigned phys_bits; /* MAXPHYADDR */
    u64 tsc_hz;
};

struct cpu_model_options {
    bool kvmclock; /* offer the paravirtual clock */
    unsigned ncpus;
    u64 tsc_hz;
};

/* Makes the model for this host. */
void cpu_model_init(struct cpu_model *m, const struct cpu_model_options *opt);

/* CPUID as v executes it now: APIC ID, OSXSAVE, XSAVE sizes and so on filled in. */
void cpu_cpuid(const struct vcpu *v, u32 leaf, u32 subleaf, u32 out[4]);

/* Features as named bits, for tests of "does the guest have it". */
enum cpu_feature {
    FEAT_X87, FEAT_PSE, FEAT_PAE, FEAT_PGE, FEAT_PSE36, FEAT_SEP, FEAT_MMX, FEAT_FXSR, FEAT_SSE, FEAT_SSE2, FEAT_SSE3,
    FEAT_SSSE3, FEAT_SSE41, FEAT_SSE42, FEAT_POPCNT, FEAT_AES, FEAT_PCLMUL, FEAT_AVX, FEAT_F16C,
    FEAT_FMA, FEAT_AVX2, FEAT_BMI1, FEAT_BMI2, FEAT_LZCNT, FEAT_MOVBE, FEAT_ADX, FEAT_SHA,
    FEAT_RDRAND, FEAT_RDSEED, FEAT_CX16, FEAT_CLFLUSHOPT, FEAT_CLWB, FEAT_XSAVE, FEAT_XSAVEOPT, FEAT_XSAVEC,
    FEAT_PCID, FEAT_INVPCID, FEAT_SMEP, FEAT_SMAP, FEAT_UMIP, FEAT_FSGSBASE, FEAT_NX, FEAT_LM,
    FEAT_PDPE1GB, FEAT_RDTSCP, FEAT_SYSCALL, FEAT_X2APIC, FEAT_TSC_DEADLINE, FEAT_LAHF64, FEAT_RDPID,
    FEAT_VAES, FEAT_VPCLMULQDQ, FEAT_GFNI, FEAT_TSC_ADJUST,
    FEAT_COUNT
};
bool cpu_has(const struct cpu_model *m, enum cpu_feature f);

/* Reserved-bit masks that follow from the model. */
u64 cpu_cr4_allowed(const struct cpu_model *m);
u64 cpu_efer_allowed(const struct cpu_model *m);

#endif
