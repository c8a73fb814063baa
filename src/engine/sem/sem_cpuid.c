/*
 * CPUID, the time stamp and its neighbours, and the FS and GS bases.
 */
#include "engine/sem/sem_sys.h"

static void cpuid(struct vcpu *v, const struct insn *i)
{
    (void)i;
    u32 out[4];
    cpu_cpuid(v, (u32)v->gpr[RAX], (u32)v->gpr[RCX], out);
    v->gpr[RAX] = out[0];
    v->gpr[RBX] = out[1];
    v->gpr[RCX] = out[2];
    v->gpr[RDX] = out[3];
}
SEM_SAME(cpuid, cpuid);

static void rdtsc(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (v->cr4 & CR4_TSD && v->cpl > 0)
        fault_gp(v, 0);
    u64 tsc = sem_tsc(v);
    v->gpr[RAX] = (u32)tsc;
    v->gpr[RDX] = tsc >> 32;
}
SEM_SAME(rdtsc, rdtsc);

static void rdtscp(struct vcpu *v, const struct insn *i)
{
    rdtsc(v, i);
    v->gpr[RCX] = (u32)v->msr.tsc_aux;
}
SEM_SAME(rdtscp, rdtscp);

/* There are no performance counters: each index is a bad one. */
static void rdpmc(struct vcpu *v, const struct insn *i)
{
    (void)i;
    fault_gp(v, 0);
}
SEM_SAME(rdpmc, rdpmc);

static void rdpid(struct vcpu *v, const struct insn *i)
{
    reg_write(v, i->opd[0].reg, v->mode == MODE_LONG64 ? 8 : 4, v->msr.tsc_aux);
}
SEM_SAME(rdpid, rdpid);

static void require_fsgsbase(struct vcpu *v)
{
    require_long64(v);
    if (!(v->cr4 & CR4_FSGSBASE))
        fault_ud(v);
}

static void read_base(struct vcpu *v, const struct insn *i, enum seg_reg seg)
{
    require_fsgsbase(v);
    reg_write(v, i->opd[0].reg, i->opsize, v->seg[seg].base);
}

static void write_base(struct vcpu *v, const struct insn *i, enum seg_reg seg)
{
    require_fsgsbase(v);
    u64 base = reg_read(v, i->opd[0].reg, i->opsize);
    if (!canonical(base))
        fault_gp(v, 0);
    v->seg[seg].base = base;
}

#define BASE_OPERATION(name, operation, seg)                                                       \
    static void name(struct vcpu *v, const struct insn *i)                                         \
    {                                                                                              \
        operation(v, i, seg);                                                                      \
    }                                                                                              \
    SEM_SAME(name, name)

BASE_OPERATION(rdfsbase, read_base, SEG_FS);
BASE_OPERATION(rdgsbase, read_base, SEG_GS);
BASE_OPERATION(wrfsbase, write_base, SEG_FS);
BASE_OPERATION(wrgsbase, write_base, SEG_GS);

static void swapgs(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_long64(v);
    require_cpl0(v);
    u64 base = v->seg[SEG_GS].base;
    v->seg[SEG_GS].base = v->msr.kernel_gs_base;
    v->msr.kernel_gs_base = base;
}
SEM_SAME(swapgs, swapgs);
