/*
 * Moves the guest's x87, SSE and AVX state between struct vcpu and the host's registers. It stays
 * in the registers while translated code runs and C code does not need them.
 *
 * FIP, FDP and FOP are always the guest's in memory: those of the host's registers point into
 * translated code.
 *
 * No code here may use vector registers but in the assembly: they hold the guest's. The Makefile
 * compiles this file with -mgeneral-regs-only.
 */
#include "cpu/model.h"
#include "engine/bt/bt.h"

#define COMPONENTS (XCR0_X87 | XCR0_SSE | XCR0_AVX)
#define HOST_MXCSR 0x1f80U

/* Without AVX the legacy area is all there is. */
static bool has_avx(const struct vcpu *v)
{
    return cpu_has(v->machine->model, FEAT_AVX);
}

static void xsave(struct fpu_state *s)
{
    __asm__ volatile("xsave64 %0" : "+m"(*s) : "a"((u32)COMPONENTS), "d"(0) : "memory");
}

static void xrstor(const struct fpu_state *s)
{
    __asm__ volatile("xrstor64 %0" : : "m"(*s), "a"((u32)COMPONENTS), "d"(0) : "memory");
}

/* What C code expects in the registers. */
static void host_state(bool avx)
{
    const u32 mxcsr = HOST_MXCSR;
    __asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(mxcsr));
    if (avx)
        __asm__ volatile("vzeroupper");
}

void bt_fpu_save(struct vcpu *v)
{
    if (!bt_cpu(v)->fp_live)
        return;
    struct fpu_state *s = &v->fpu;
    bool avx = has_avx(v);
    u64 fip = s->legacy.fip, fdp = s->legacy.fdp, bv = s->xstate_bv;
    u32 mxcsr_mask = s->legacy.mxcsr_mask;
    u16 fop = s->legacy.fop;
    if (avx)
        xsave(s);
    else
        __asm__ volatile("fxsave64 %0" : "+m"(s->legacy) : : "memory");
    host_state(avx);
    s->legacy.fip = fip;
    s->legacy.fdp = fdp;
    s->legacy.fop = fop;
    s->legacy.mxcsr_mask = mxcsr_mask;
    s->xstate_bv |= avx ? bv : bv | XCR0_X87 | XCR0_SSE;
    bt_cpu(v)->fp_live = 0;
}

/* All components are valid in memory whatever the header says, so it says so during the load. */
static void xrstor_all(struct fpu_state *s)
{
    u64 bv = s->xstate_bv, xcomp = s->xcomp_bv;
    s->xstate_bv = COMPONENTS;
    s->xcomp_bv = 0;
    store_le(s->rsvd2, 0, 8); /* XRSTOR checks header bytes 23:16 */
    xrstor(s);
    s->xstate_bv = bv;
    s->xcomp_bv = xcomp;
}

void bt_fpu_load(struct vcpu *v)
{
    if (has_avx(v))
        xrstor_all(&v->fpu);
    else
        __asm__ volatile("fxrstor64 %0" : : "m"(v->fpu.legacy) : "memory");
    bt_cpu(v)->fp_live = 1;
}
