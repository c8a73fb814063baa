/*
 * Builds the CPUID leaves of the CPU that every engine presents, from features.def and the host's
 * own CPUID, and answers CPUID. The processor is a plain old one of the host's vendor (family 17h
 * model 1, or family 6 model 3ch), of which guests know that it needs nothing special; each vCPU is
 * one core of one package and its APIC ID is its index.
 */
#include "cpu/model.h"

#include <cpuid.h>

#define SIGNATURE_INTEL 0x000306c3 /* family 6, model 3ch, stepping 3 */
#define SIGNATURE_AMD   0x00800f12 /* family 17h, model 1, stepping 2 */

#define VENDOR_INTEL_EBX 0x756e6547 /* "Genu" */

#define PHYS_BITS_MAX     40
#define LINEAR_BITS       48
#define HYPERVISOR_BASE   0x40000000
#define KVM_CLOCKSOURCE2  BIT(3)
#define KVM_CLOCK_STABLE  BIT(24)
#define XSAVE_LEGACY_SIZE 576 /* legacy region and header */
#define XSAVE_YMM_SIZE    256

enum cpuid_reg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

enum condition { ALWAYS, NEVER, NATIVE, AVX, SMP, AMD, AMD_SMP };

static const struct feature_info {
    u32 leaf;
    u8 reg, bit, cond;
} feature_info[FEAT_COUNT] = {
#define FEATURE(name, leaf, reg, bit, cond) [FEAT_##name] = {leaf, CPUID_##reg, bit, cond},
#include "cpu/features.def"
#undef FEATURE
};

/* --- the host --- */

struct host_cpu {
    bool intel;
    bool ymm; /* the host's kernel has enabled YMM state */
    unsigned phys_bits;
};

static void host_cpuid(u32 leaf, u32 subleaf, u32 out[4])
{
    if (!__get_cpuid_count(leaf, subleaf, &out[0], &out[1], &out[2], &out[3]))
        memset(out, 0, 4 * sizeof(out[0]));
}

static u32 feature_subleaf(u32 leaf)
{
    return leaf == 0xd ? 1 : 0;
}

static bool host_has(const struct feature_info *f)
{
    u32 r[4];
    host_cpuid(f->leaf, feature_subleaf(f->leaf), r);
    return r[f->reg] >> f->bit & 1;
}

static bool host_ymm_enabled(void)
{
    u32 r[4], lo, hi;
    host_cpuid(1, 0, r);
    if (!(r[CPUID_ECX] & BIT(27))) /* OSXSAVE */
        return false;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (lo & (XCR0_SSE | XCR0_AVX)) == (XCR0_SSE | XCR0_AVX);
}

static void probe_host(struct host_cpu *h)
{
    u32 r[4];
    host_cpuid(0, 0, r);
    h->intel = r[CPUID_EBX] == VENDOR_INTEL_EBX;
    h->ymm = host_ymm_enabled();
    host_cpuid(0x80000008, 0, r);
    h->phys_bits = r[CPUID_EAX] & 0xff ? r[CPUID_EAX] & 0xff : 36;
}

static u32 host_mxcsr_mask(void)
{
    struct fpu_legacy area __attribute__((aligned(16)));
    memset(&area, 0, sizeof(area));
    __asm__ volatile("fxsave %0" : "+m"(area));
    return area.mxcsr_mask ? area.mxcsr_mask : 0xffbf;
}

/* --- building --- */

static void add(struct cpu_model *m, struct cpuid_leaf leaf)
{
    assert(m->nleaves < CPUID_MAX_LEAVES);
    m->leaf[m->nleaves++] = leaf;
}

static bool offered(const struct feature_info *f, const struct host_cpu *h, unsigned ncpus)
{
    switch ((enum condition)f->cond) {
    case ALWAYS:
        return true;
    case NEVER:
        return false;
    case NATIVE:
        return host_has(f);
    case AVX:
        return h->ymm && host_has(f);
    case SMP:
        return ncpus > 1;
    case AMD:
        return !h->intel;
    case AMD_SMP:
        return !h->intel && ncpus > 1;
    }
    return false;
}

static void choose_features(struct cpu_model *m, const struct host_cpu *h, unsigned ncpus,
                            const bool *without)
{
    for (unsigned i = 0; i < FEAT_COUNT; i++) {
        bool offer = offered(&feature_info[i], h, ncpus);
        m->withheld[i] = offer && without && without[i];
        m->feature[i] = offer && !m->withheld[i];
    }
    if (!m->feature[FEAT_XSAVE]) {
        static const u8 need_xsave[] = {FEAT_XSAVEOPT, FEAT_XSAVEC, FEAT_XGETBV1,
                                        FEAT_AVX,      FEAT_FMA,    FEAT_F16C,
                                        FEAT_AVX2,     FEAT_VAES,   FEAT_VPCLMULQDQ};
        for (unsigned i = 0; i < ARRAY_SIZE(need_xsave); i++)
            m->feature[need_xsave[i]] = false;
    }
}

/* The features of one register. */
static u32 feature_bits(const struct cpu_model *m, u32 leaf, enum cpuid_reg reg)
{
    u32 value = 0;
    for (unsigned i = 0; i < FEAT_COUNT; i++) {
        const struct feature_info *f = &feature_info[i];
        if (m->feature[i] && f->leaf == leaf && f->reg == reg)
            value |= 1U << f->bit;
    }
    return value;
}

/* Number of bits that hold an index below n. */
static unsigned index_bits(unsigned n)
{
    unsigned b = 0;
    while ((1U << b) < n)
        b++;
    return b;
}

/* Puts 12 characters in EBX, ECX and EDX, or (CPUID 0) EBX, EDX and ECX. */
static struct cpuid_leaf text_leaf(u32 leaf, u32 eax, const char text[12], bool vendor_order)
{
    u32 a = (u32)load_le(text, 4), b = (u32)load_le(text + 4, 4), c = (u32)load_le(text + 8, 4);
    struct cpuid_leaf l = {.leaf = leaf, .eax = eax, .ebx = a, .ecx = b, .edx = c};
    if (vendor_order) {
        l.edx = b;
        l.ecx = c;
    }
    return l;
}

/* Deterministic cache parameters: the same layout in leaf 4 (Intel) and 0x8000001d (AMD). */
static void add_caches(struct cpu_model *m, u32 leaf, unsigned ncpus)
{
    static const struct {
        u8 type, level;
        u16 ways;
        u32 sets;
        bool shared;
    } cache[] = {
        {1, 1, 8, 64, false},   /* 32 KiB data */
        {2, 1, 8, 64, false},   /* 32 KiB instruction */
        {3, 2, 8, 1024, false}, /* 512 KiB */
        {3, 3, 16, 8192, true}, /* 8 MiB */
    };
    u32 cores = leaf == 4 ? ((1U << index_bits(ncpus)) - 1) << 26 : 0;
    for (unsigned i = 0; i < ARRAY_SIZE(cache); i++) {
        u32 sharing = cache[i].shared ? (1U << index_bits(ncpus)) - 1 : 0;
        add(m,
            (struct cpuid_leaf){
                .leaf = leaf,
                .subleaf = i,
                .has_subleaf = true,
                .eax = cache[i].type | (u32)cache[i].level << 5 | 1U << 8 | sharing << 14 | cores,
                .ebx = 63 | (u32)(cache[i].ways - 1) << 22,
                .ecx = cache[i].sets - 1,
            });
    }
    add(m, (struct cpuid_leaf){.leaf = leaf, .subleaf = ARRAY_SIZE(cache), .has_subleaf = true});
}

static void add_topology(struct cpu_model *m, unsigned ncpus)
{
    add(m, (struct cpuid_leaf){
               .leaf = 0xb, .has_subleaf = true, .eax = 0, .ebx = 1, .ecx = 0 | 1 << 8});
    add(m, (struct cpuid_leaf){.leaf = 0xb,
                               .subleaf = 1,
                               .has_subleaf = true,
                               .eax = index_bits(ncpus),
                               .ebx = ncpus,
                               .ecx = 1 | 2 << 8});
    add(m, (struct cpuid_leaf){.leaf = 0xb, .subleaf = 2, .has_subleaf = true, .ecx = 2});
}

/* Sizes that depend on XCR0 are filled in by cpu_cpuid(). */
static void add_xsave(struct cpu_model *m)
{
    if (!m->feature[FEAT_XSAVE]) {
        add(m, (struct cpuid_leaf){.leaf = 0xd});
        return;
    }
    bool ymm = m->xcr0_mask & XCR0_AVX;
    add(m, (struct cpuid_leaf){.leaf = 0xd,
                               .has_subleaf = true,
                               .eax = (u32)m->xcr0_mask,
                               .ebx = XSAVE_LEGACY_SIZE,
                               .ecx = XSAVE_LEGACY_SIZE + (ymm ? XSAVE_YMM_SIZE : 0)});
    add(m, (struct cpuid_leaf){.leaf = 0xd,
                               .subleaf = 1,
                               .has_subleaf = true,
                               .eax = feature_bits(m, 0xd, CPUID_EAX),
                               .ebx = XSAVE_LEGACY_SIZE});
    if (ymm)
        add(m, (struct cpuid_leaf){.leaf = 0xd,
                                   .subleaf = 2,
                                   .has_subleaf = true,
                                   .eax = XSAVE_YMM_SIZE,
                                   .ebx = XSAVE_LEGACY_SIZE});
}

static void add_basic(struct cpu_model *m, unsigned ncpus)
{
    add(m, text_leaf(0, 0xd, m->intel ? "GenuineIntel" : "AuthenticAMD", true));
    add(m, (struct cpuid_leaf){.leaf = 1,
                               .eax = m->intel ? SIGNATURE_INTEL : SIGNATURE_AMD,
                               .ebx = (ncpus > 1 ? 1U << index_bits(ncpus) : 1) << 16 | 8 << 8,
                               .ecx = feature_bits(m, 1, CPUID_ECX),
                               .edx = feature_bits(m, 1, CPUID_EDX)});
    if (m->intel) {
        /* One round of descriptors: 32 KiB caches, small TLBs, "see leaf 4" (0xff). */
        add(m, (struct cpuid_leaf){
                   .leaf = 2, .eax = 0x76036301, .ebx = 0x00f0b5ff, .edx = 0x00c30000});
        add_caches(m, 4, ncpus);
    }
    add(m, (struct cpuid_leaf){.leaf = 6, .eax = BIT(2)}); /* ARAT: the APIC timer never stops */
    add(m, (struct cpuid_leaf){.leaf = 7,
                               .has_subleaf = true,
                               .ebx = feature_bits(m, 7, CPUID_EBX),
                               .ecx = feature_bits(m, 7, CPUID_ECX),
                               .edx = feature_bits(m, 7, CPUID_EDX)});
    add_topology(m, ncpus);
    add_xsave(m);
}

static void add_hypervisor(struct cpu_model *m)
{
    if (!m->kvmclock) {
        add(m, text_leaf(HYPERVISOR_BASE, HYPERVISOR_BASE, "ringerringer", false));
        return;
    }
    add(m, text_leaf(HYPERVISOR_BASE, HYPERVISOR_BASE + 1, "KVMKVMKVM\0\0", false));
    add(m, (struct cpuid_leaf){.leaf = HYPERVISOR_BASE + 1,
                               .eax = KVM_CLOCKSOURCE2 | KVM_CLOCK_STABLE});
}

/* AMD repeats these bits of leaf 1 EDX in leaf 0x80000001. */
#define AMD_LEAF1_COPY 0x0183f3ff

static void add_amd(struct cpu_model *m, unsigned ncpus)
{
    /* L1: 32 KiB, 8 ways, 64-byte lines; TLBs of 64 entries; L2: 512 KiB, 8 ways; L3: 8 MiB. */
    add(m, (struct cpuid_leaf){.leaf = 0x80000005,
                               .eax = 0xff40ff40,
                               .ebx = 0xff40ff40,
                               .ecx = 32U << 24 | 8 << 16 | 1 << 8 | 64,
                               .edx = 32U << 24 | 8 << 16 | 1 << 8 | 64});
    add(m, (struct cpuid_leaf){.leaf = 0x80000006,
                               .eax = 0x26006400,
                               .ebx = 0x66006400,
                               .ecx = 512U << 16 | 6 << 12 | 1 << 8 | 64,
                               .edx = 16U << 18 | 8 << 12 | 1 << 8 | 64});
    add_caches(m, 0x8000001d, ncpus);
    add(m, (struct cpuid_leaf){.leaf = 0x8000001e});
}

static void add_extended(struct cpu_model *m, unsigned ncpus)
{
    static const char brand[48] = "ringer virtual CPU";
    add(m, text_leaf(0x80000000, m->intel ? 0x80000008 : 0x8000001e,
                     m->intel ? "\0\0\0\0\0\0\0\0\0\0\0" : "AuthenticAMD", true));
    u32 edx = feature_bits(m, 0x80000001, CPUID_EDX);
    if (!m->intel)
        edx |= feature_bits(m, 1, CPUID_EDX) & AMD_LEAF1_COPY;
    add(m, (struct cpuid_leaf){.leaf = 0x80000001,
                               .eax = m->intel ? 0 : SIGNATURE_AMD,
                               .ecx = feature_bits(m, 0x80000001, CPUID_ECX),
                               .edx = edx});
    for (unsigned i = 0; i < 3; i++) {
        const char *p = brand + 16 * i;
        add(m, (struct cpuid_leaf){.leaf = 0x80000002 + i,
                                   .eax = (u32)load_le(p, 4),
                                   .ebx = (u32)load_le(p + 4, 4),
                                   .ecx = (u32)load_le(p + 8, 4),
                                   .edx = (u32)load_le(p + 12, 4)});
    }
    if (m->intel)
        add(m, (struct cpuid_leaf){.leaf = 0x80000006, .ecx = 512U << 16 | 6 << 12 | 64});
    else
        add_amd(m, ncpus);
    add(m, (struct cpuid_leaf){.leaf = 0x80000007, .edx = feature_bits(m, 0x80000007, CPUID_EDX)});
    add(m, (struct cpuid_leaf){.leaf = 0x80000008,
                               .eax = m->phys_bits | LINEAR_BITS << 8,
                               .ecx = m->intel ? 0 : (ncpus - 1) | index_bits(ncpus) << 12});
}

void cpu_model_init(struct cpu_model *m, const struct cpu_model_options *opt)
{
    struct host_cpu host;
    probe_host(&host);
    memset(m, 0, sizeof(*m));
    m->intel = host.intel;
    m->kvmclock = opt->kvmclock;
    m->tsc_hz = opt->tsc_hz;
    m->phys_bits = MIN(PHYS_BITS_MAX, host.phys_bits);
    m->mxcsr_mask = host_mxcsr_mask() & ~(1U << 17); /* not AMD's misaligned mode */
    unsigned ncpus = MAX(opt->ncpus, 1U);
    choose_features(m, &host, ncpus, opt->without);
    m->xcr0_mask = XCR0_X87 | XCR0_SSE | (m->feature[FEAT_AVX] ? XCR0_AVX : 0);
    add_basic(m, ncpus);
    add_hypervisor(m);
    add_extended(m, ncpus);
}

/* --- answering --- */

static const struct cpuid_leaf *find_leaf(const struct cpu_model *m, u32 leaf, u32 subleaf)
{
    for (unsigned i = 0; i < m->nleaves; i++) {
        const struct cpuid_leaf *l = &m->leaf[i];
        if (l->leaf == leaf && (!l->has_subleaf || l->subleaf == subleaf))
            return l;
    }
    return NULL;
}

/* A leaf past the last one: Intel answers with the highest basic leaf, AMD with zeros. */
static u32 clamp_leaf(const struct cpu_model *m, u32 leaf)
{
    u32 base = leaf & 0xc0000000;
    const struct cpuid_leaf *first = find_leaf(m, base, 0);
    bool beyond = !first || leaf > first->eax;
    if (beyond && m->intel && base != HYPERVISOR_BASE)
        return find_leaf(m, 0, 0)->eax;
    return leaf;
}

/* What depends on the vCPU and on its state. */
static void adjust(const struct vcpu *v, u32 leaf, u32 subleaf, u32 out[4])
{
    u32 xsave_size = XSAVE_LEGACY_SIZE + (v->xcr0 & XCR0_AVX ? XSAVE_YMM_SIZE : 0);
    switch (leaf) {
    case 1:
        out[CPUID_EBX] |= v->id << 24;
        if (v->cr4 & CR4_OSXSAVE)
            out[CPUID_ECX] |= (u32)BIT(27);
        break;
    case 0xb:
        out[CPUID_EDX] = v->id;
        out[CPUID_ECX] |= subleaf & 0xff;
        break;
    case 0xd:
        if (subleaf <= 1 && cpu_has(v->machine->model, FEAT_XSAVE))
            out[CPUID_EBX] = xsave_size;
        break;
    case 0x8000001e:
        out[CPUID_EAX] = v->id;
        out[CPUID_EBX] = v->id & 0xff;
        break;
    default:
        break;
    }
}

void cpu_cpuid(const struct vcpu *v, u32 leaf, u32 subleaf, u32 out[4])
{
    const struct cpu_model *m = v->machine->model;
    leaf = clamp_leaf(m, leaf);
    const struct cpuid_leaf *l = find_leaf(m, leaf, subleaf);
    memset(out, 0, 4 * sizeof(out[0]));
    if (l) {
        out[CPUID_EAX] = l->eax;
        out[CPUID_EBX] = l->ebx;
        out[CPUID_ECX] = l->ecx;
        out[CPUID_EDX] = l->edx;
    }
    adjust(v, leaf, subleaf, out);
}

const char *cpu_feature_name(enum cpu_feature f)
{
    static const char *const name[FEAT_COUNT] = {
#define FEATURE(name, leaf, reg, bit, cond) [FEAT_##name] = #name,
#include "cpu/features.def"
#undef FEATURE
    };
    return name[f];
}

bool cpu_has(const struct cpu_model *m, enum cpu_feature f)
{
    return m->feature[f];
}

bool cpu_executes(const struct cpu_model *m, enum cpu_feature f)
{
    return m->feature[f] || m->withheld[f];
}

u64 cpu_cr4_allowed(const struct cpu_model *m)
{
    static const struct {
        u64 bits;
        enum cpu_feature feature;
    } rule[] = {
        {CR4_VME | CR4_PVI, FEAT_VME}, {CR4_TSD, FEAT_TSC},       {CR4_DE, FEAT_DE},
        {CR4_PSE, FEAT_PSE},           {CR4_PAE, FEAT_PAE},       {CR4_MCE, FEAT_MCE},
        {CR4_PGE, FEAT_PGE},           {CR4_PCE, FEAT_MSR},       {CR4_OSFXSR, FEAT_FXSR},
        {CR4_OSXMMEXCPT, FEAT_SSE},    {CR4_UMIP, FEAT_UMIP},     {CR4_FSGSBASE, FEAT_FSGSBASE},
        {CR4_PCIDE, FEAT_PCID},        {CR4_OSXSAVE, FEAT_XSAVE}, {CR4_SMEP, FEAT_SMEP},
        {CR4_SMAP, FEAT_SMAP},
    };
    u64 allowed = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(rule); i++)
        if (cpu_has(m, rule[i].feature))
            allowed |= rule[i].bits;
    return allowed;
}

u64 cpu_efer_allowed(const struct cpu_model *m)
{
    u64 allowed = EFER_LMA;
    if (cpu_has(m, FEAT_SYSCALL))
        allowed |= EFER_SCE;
    if (cpu_has(m, FEAT_LM))
        allowed |= EFER_LME;
    if (cpu_has(m, FEAT_NX))
        allowed |= EFER_NXE;
    return allowed;
}
