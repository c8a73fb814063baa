/*
 * Model-specific registers. Most are a row in a table: where the value is kept, which bits may be
 * written, which vendor has it. Those with rules or effects of their own have functions. An MSR
 * that is in neither does not exist, which is counted. Registers that a vendor's operating systems
 * read without asking, and that mean nothing here, are constants (SDM vol. 4; AMD APM vol. 2, app.
 * A).
 */
#include "base/timebase.h"
#include "cpu/irq.h"
#include "engine/sem/sem_kvmclock.h"
#include "engine/sem/sem_sys.h"

#define MTRR_COUNT    8
#define MTRR_FIXED    11
#define MTRR_CAP      (MTRR_COUNT | BIT(8) | BIT(10)) /* fixed ranges, write combining */
#define MTRR_VALID    BIT(11)
#define MTRR_DEF_BITS (BIT(11) | BIT(10))

/* --- plain registers --- */

enum vendor { ANY, INTEL, AMD };
enum rule { BITS, CANONICAL, LOW32 };
enum writes { READ_ONLY, IGNORED };

#define FIELD(f) offsetof(struct vcpu, f)
#define ALL_BITS (~0ULL)

/* Kept in a field: allowed are `bits`, other bits set are a #GP. */
struct field_msr {
    u32 msr;
    u16 field;
    u8 vendor, rule;
    u64 bits;
};

static const struct field_msr fields[] = {
    {MSR_SYSENTER_CS, FIELD(msr.sysenter_cs), ANY, LOW32, 0},
    {MSR_SYSENTER_ESP, FIELD(msr.sysenter_esp), ANY, CANONICAL, 0},
    {MSR_SYSENTER_EIP, FIELD(msr.sysenter_eip), ANY, CANONICAL, 0},
    {MSR_MCG_STATUS, FIELD(msr.mcg_status), ANY, BITS, 7},
    {MSR_MISC_ENABLE, FIELD(msr.misc_enable), INTEL, BITS, BIT(0) | BIT(11) | BIT(12) | BIT(18)},
    {MSR_DEBUGCTL, FIELD(msr.debugctl), ANY, BITS, BIT(0) | BIT(1)},
    {MSR_STAR, FIELD(msr.star), ANY, BITS, ALL_BITS},
    {MSR_LSTAR, FIELD(msr.lstar), ANY, CANONICAL, 0},
    {MSR_CSTAR, FIELD(msr.cstar), ANY, CANONICAL, 0},
    {MSR_FMASK, FIELD(msr.fmask), ANY, LOW32, 0},
    {MSR_FS_BASE, FIELD(seg[SEG_FS].base), ANY, CANONICAL, 0},
    {MSR_GS_BASE, FIELD(seg[SEG_GS].base), ANY, CANONICAL, 0},
    {MSR_KERNEL_GS_BASE, FIELD(msr.kernel_gs_base), ANY, CANONICAL, 0},
    {MSR_TSC_AUX, FIELD(msr.tsc_aux), ANY, LOW32, 0},
};

struct constant_msr {
    u32 msr;
    u8 vendor, writes;
    u64 value;
};

static const struct constant_msr constants[] = {
    {0x0, INTEL, IGNORED, 0},                   /* P5_MC_ADDR */
    {0x1, INTEL, IGNORED, 0},                   /* P5_MC_TYPE */
    {0x17, INTEL, READ_ONLY, 0},                /* PLATFORM_ID */
    {0x2a, INTEL, IGNORED, 0},                  /* EBL_CR_POWERON */
    {0x34, INTEL, READ_ONLY, 0},                /* SMI_COUNT */
    {MSR_FEATURE_CONTROL, INTEL, READ_ONLY, 1}, /* locked, nothing enabled */
    {MSR_BIOS_SIGN_ID, INTEL, IGNORED, 1ULL << 32},
    {MSR_BIOS_SIGN_ID, AMD, IGNORED,
     0x01000065},                /* as KVM has it: there are loaders that write it */
    {0xce, INTEL, READ_ONLY, 0}, /* PLATFORM_INFO */
    {MSR_MTRR_CAP, ANY, READ_ONLY, MTRR_CAP},
    {MSR_MCG_CAP, ANY, READ_ONLY, 0},    /* no banks */
    {0x1db, ANY, READ_ONLY, 0},          /* LASTBRANCHFROMIP */
    {0x1dc, ANY, READ_ONLY, 0},          /* LASTBRANCHTOIP */
    {0x1dd, ANY, READ_ONLY, 0},          /* LASTINTFROMIP */
    {0x1de, ANY, READ_ONLY, 0},          /* LASTINTTOIP */
    {0xc0010010, AMD, IGNORED, 0},       /* SYSCFG */
    {0xc0010015, AMD, IGNORED, BIT(24)}, /* HWCR: TscFreqSel */
    {0xc001001a, AMD, IGNORED, 0},       /* TOP_MEM */
    {0xc001001d, AMD, IGNORED, 0},       /* TOP_MEM2 */
    {0xc001001f, AMD, IGNORED, 0},       /* NB_CFG */
    {0xc0010020, AMD, IGNORED, 0},       /* patch loader */
    {0xc0010055, AMD, IGNORED, 0},       /* interrupt pending message */
    {0xc0010058, AMD, IGNORED, 0},       /* MMIO configuration base */
    {0xc0010112, AMD, IGNORED, 0},       /* SMM_ADDR */
    {0xc0010113, AMD, IGNORED, 0},       /* SMM_MASK */
    {0xc0011020, AMD, IGNORED, 0},       /* LS_CFG */
    {0xc0011021, AMD, IGNORED, 0},       /* IC_CFG */
    {0xc0011022, AMD, IGNORED, 0},       /* DC_CFG */
    {0xc0011023, AMD, IGNORED, 0},       /* TW_CFG */
    {0xc0011029, AMD, IGNORED, BIT(1)},  /* DE_CFG: LFENCE serializes */
    {0xc001102a, AMD, IGNORED, 0},       /* BU_CFG2 */
};

static bool vendor_has(const struct vcpu *v, u8 vendor)
{
    return vendor == ANY || (vendor == INTEL) == is_intel(v);
}

static const struct field_msr *find_field(const struct vcpu *v, u32 msr)
{
    for (unsigned n = 0; n < ARRAY_SIZE(fields); n++)
        if (fields[n].msr == msr && vendor_has(v, fields[n].vendor))
            return &fields[n];
    return NULL;
}

static const struct constant_msr *find_constant(const struct vcpu *v, u32 msr)
{
    for (unsigned n = 0; n < ARRAY_SIZE(constants); n++)
        if (constants[n].msr == msr && vendor_has(v, constants[n].vendor))
            return &constants[n];
    return NULL;
}

static u64 *field_of(struct vcpu *v, const struct field_msr *f)
{
    return (u64 *)((char *)v + f->field);
}

static bool write_field(struct vcpu *v, const struct field_msr *f, u64 value)
{
    switch ((enum rule)f->rule) {
    case BITS:
        if (value & ~f->bits)
            return false;
        break;
    case CANONICAL:
        if (!canonical(value))
            return false;
        break;
    case LOW32: /* AMD drops the upper half, Intel faults */
        if (value >> 32 && is_intel(v))
            return false;
        value = (u32)value;
        break;
    }
    *field_of(v, f) = value;
    return true;
}

/* --- PAT and MTRRs (SDM vol. 3, 11.11 and 11.12) --- */

static bool memory_type_valid(u8 type, bool pat)
{
    return type <= 1 || (type >= 4 && type <= (pat ? 7 : 6));
}

static bool memory_types_valid(u64 value, bool pat)
{
    for (unsigned n = 0; n < 8; n++)
        if (!memory_type_valid((u8)(value >> 8 * n), pat))
            return false;
    return true;
}

/* The fixed-range register's index, -1 if msr is none. */
static int fixed_mtrr(u32 msr)
{
    if (msr == MSR_MTRR_FIX64K)
        return 0;
    if (msr == MSR_MTRR_FIX16K_0 || msr == MSR_MTRR_FIX16K_1)
        return 1 + (int)(msr - MSR_MTRR_FIX16K_0);
    if (msr >= MSR_MTRR_FIX4K_0 && msr < MSR_MTRR_FIX4K_0 + 8)
        return 3 + (int)(msr - MSR_MTRR_FIX4K_0);
    return -1;
}

/* Where a PAT or MTRR value is kept, NULL for other MSRs. */
static u64 *mtrr_field(struct vcpu *v, u32 msr)
{
    u32 n = msr - MSR_MTRR_PHYSBASE0;
    int fixed = fixed_mtrr(msr);
    if (msr == MSR_PAT)
        return &v->msr.pat;
    if (msr == MSR_MTRR_DEF_TYPE)
        return &v->msr.mtrr_def_type;
    if (fixed >= 0)
        return &v->msr.mtrr_fixed[fixed];
    if (n < 2 * MTRR_COUNT)
        return n & 1 ? &v->msr.mtrr_mask[n / 2] : &v->msr.mtrr_base[n / 2];
    return NULL;
}

static bool mtrr_valid(const struct vcpu *v, u32 msr, u64 value)
{
    u64 address = ((1ULL << v->machine->model->phys_bits) - 1) & PAGE_MASK;
    if (msr == MSR_PAT || fixed_mtrr(msr) >= 0)
        return memory_types_valid(value, msr == MSR_PAT);
    if (msr == MSR_MTRR_DEF_TYPE)
        return !(value & ~(MTRR_DEF_BITS | 0xff)) && memory_type_valid((u8)value, false);
    if ((msr - MSR_MTRR_PHYSBASE0) & 1)
        return !(value & ~(address | MTRR_VALID));
    return !(value & ~(address | 0xff)) && memory_type_valid((u8)value, false);
}

/* --- time, and EFER --- */

u64 sem_tsc(const struct vcpu *v)
{
    return timebase_tsc(v->machine->time) + v->tsc_offset;
}

/* Moves the TSC; IA32_TSC_ADJUST moves with it (SDM vol. 3, 17.17.3). */
static void move_tsc(struct vcpu *v, u64 by)
{
    v->tsc_offset += by;
    v->tsc_adjust += by;
    sem_kvmclock_update(v);
}

static bool write_efer(struct vcpu *v, u64 value)
{
    if (value & ~cpu_efer_allowed(v->machine->model))
        return false;
    u64 changed = v->efer ^ value;
    if (changed & EFER_LME && v->cr0 & CR0_PG)
        return false;
    v->efer = (value & ~EFER_LMA) | (v->efer & EFER_LMA);
    if (changed & EFER_NXE)
        tlb_flush_all(v);
    cpu_update_mode(v);
    return true;
}

/* --- access --- */

static bool is_apic_msr(u32 msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
           (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

static bool is_kvm_msr(const struct vcpu *v, u32 msr)
{
    return v->machine->model->kvmclock &&
           (msr == MSR_KVM_SYSTEM_TIME_NEW || msr == MSR_KVM_WALL_CLOCK_NEW);
}

static bool unknown(struct vcpu *v)
{
    stat_inc(&v->stats, STAT_MSR_UNKNOWN);
    return false;
}

static bool read_kept(struct vcpu *v, u32 msr, u64 *value)
{
    const struct field_msr *f = find_field(v, msr);
    const struct constant_msr *c = find_constant(v, msr);
    const u64 *mtrr = mtrr_field(v, msr);
    if (f)
        *value = *field_of(v, f);
    else if (c)
        *value = c->value;
    else if (mtrr)
        *value = *mtrr;
    else if (is_kvm_msr(v, msr))
        *value = msr == MSR_KVM_SYSTEM_TIME_NEW ? v->msr.kvm_system_time : v->msr.kvm_wall_clock;
    else
        return unknown(v);
    return true;
}

bool sem_read_msr(struct vcpu *v, u32 msr, u64 *value)
{
    if (is_apic_msr(msr))
        return v->irq ? v->irq->read_msr(v, msr, value) : unknown(v);
    switch (msr) {
    case MSR_TSC:
        *value = sem_tsc(v);
        return true;
    case MSR_TSC_ADJUST:
        *value = v->tsc_adjust;
        return true;
    case MSR_EFER:
        *value = v->efer;
        return true;
    default:
        return read_kept(v, msr, value);
    }
}

static bool write_kept(struct vcpu *v, u32 msr, u64 value)
{
    const struct field_msr *f = find_field(v, msr);
    const struct constant_msr *c = find_constant(v, msr);
    u64 *mtrr = mtrr_field(v, msr);
    if (f)
        return write_field(v, f, value);
    if (c)
        return c->writes == IGNORED;
    if (is_kvm_msr(v, msr)) {
        sem_kvmclock_write(v, msr, value);
        return true;
    }
    if (!mtrr)
        return unknown(v);
    if (!mtrr_valid(v, msr, value))
        return false;
    *mtrr = value;
    return true;
}

bool sem_write_msr(struct vcpu *v, u32 msr, u64 value)
{
    if (is_apic_msr(msr))
        return v->irq ? v->irq->write_msr(v, msr, value) : unknown(v);
    switch (msr) {
    case MSR_TSC:
        move_tsc(v, value - sem_tsc(v));
        return true;
    case MSR_TSC_ADJUST:
        move_tsc(v, value - v->tsc_adjust);
        return true;
    case MSR_EFER:
        return write_efer(v, value);
    default:
        return write_kept(v, msr, value);
    }
}

static void rdmsr(struct vcpu *v, const struct insn *i)
{
    (void)i;
    u64 value;
    require_cpl0(v);
    if (!sem_read_msr(v, (u32)v->gpr[RCX], &value))
        fault_gp(v, 0);
    v->gpr[RAX] = (u32)value;
    v->gpr[RDX] = value >> 32;
}
SEM_SAME(rdmsr, rdmsr);

static void wrmsr(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_cpl0(v);
    if (!sem_write_msr(v, (u32)v->gpr[RCX], (u32)v->gpr[RAX] | v->gpr[RDX] << 32))
        fault_gp(v, 0);
}
SEM_SAME(wrmsr, wrmsr);
