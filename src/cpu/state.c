/*
 * Reset values of the architectural state, and the one place where what is derived from it (mode,
 * flatness, TLB context) is computed.
 */
#include "cpu/state.h"

#include "base/huge.h"
#include "cpu/irq.h"
#include "cpu/model.h"

#define ATTR_CODE (SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED)
#define ATTR_DATA (SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED)

struct vcpu *cpu_create(void)
{
    return huge_create(sizeof(struct vcpu));
}

void cpu_destroy(struct vcpu *v)
{
    huge_destroy(v, sizeof(*v));
}

static void reset_segments(struct vcpu *v)
{
    for (unsigned s = 0; s < ARRAY_SIZE(v->seg); s++)
        v->seg[s] = (struct segment){.attr = ATTR_DATA, .limit = 0xffff};
    v->seg[SEG_CS] =
        (struct segment){.sel = 0xf000, .attr = ATTR_CODE, .limit = 0xffff, .base = 0xffff0000};
    v->ldtr = (struct segment){.attr = SEG_P | SYS_LDT, .limit = 0xffff};
    v->tr = (struct segment){.attr = SEG_P | SYS_TSS32_BUSY, .limit = 0xffff};
    v->gdtr = v->idtr = (struct dtable){.base = 0, .limit = 0xffff};
}

/* Family 17h/06h signature in EDX, as firmware expects after reset. */
static u32 reset_edx(const struct vcpu *v)
{
    u32 regs[4] = {0};
    if (v->machine && v->machine->model)
        cpu_cpuid(v, 1, 0, regs);
    return regs[0];
}

void cpu_init(struct vcpu *v)
{
    memset(v->gpr, 0, sizeof(v->gpr));
    v->gpr[RDX] = reset_edx(v);
    v->rip = 0xfff0;
    v->rflags = FLAG_ONE;
    reset_segments(v);
    v->cr0 = (v->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
    v->cr2 = v->cr3 = v->cr4 = 0;
    v->efer = 0;
    memset(v->pdpte, 0, sizeof(v->pdpte));
    memset(v->dr, 0, sizeof(v->dr));
    v->dr[6] = DR6_FIXED;
    v->dr[7] = DR7_FIXED;
    v->shadow = 0;
    v->shadow_end = SHADOW_END_NONE;
    v->nmi_blocked = false;
    v->pending_db = 0;
    v->cpl = 0;
    v->activity = v->bsp ? ACTIVITY_RUNNING : ACTIVITY_WAIT_SIPI;
    if (v->irq)
        v->irq->reset(v, true);
    cpu_update_mode(v);
}

static void reset_fpu(struct fpu_state *fpu)
{
    memset(fpu, 0, sizeof(*fpu));
    fpu->legacy.fcw = 0x40; /* SDM table 10-1: FCW is 0x40 after RESET, 0x37f after FNINIT */
    fpu->legacy.ftw_abridged = 0xff;
    fpu->legacy.mxcsr = 0x1f80;
}

void cpu_reset(struct vcpu *v)
{
    v->cr0 = CR0_CD | CR0_NW | CR0_ET;
    cpu_init(v);
    v->xcr0 = XCR0_X87;
    v->xss = 0;
    v->tsc_offset = v->tsc_adjust = 0;
    memset(&v->msr, 0, sizeof(v->msr));
    v->msr.pat = 0x0007040600070406;
    v->msr.misc_enable = 1; /* fast strings */
    reset_fpu(&v->fpu);
    if (v->irq)
        v->irq->reset(v, false);
    cpu_update_mode(v);
}

static enum cpu_mode code_mode(const struct vcpu *v)
{
    u32 cs = v->seg[SEG_CS].attr;
    if (!(v->cr0 & CR0_PE))
        return MODE_REAL;
    if (v->rflags & FLAG_VM)
        return MODE_V86;
    if (!(v->efer & EFER_LMA))
        return cs & SEG_DB ? MODE_PROT32 : MODE_PROT16;
    if (cs & SEG_L)
        return MODE_LONG64;
    return cs & SEG_DB ? MODE_COMPAT32 : MODE_COMPAT16;
}

static bool segment_unlimited(const struct segment *s)
{
    return s->limit == 0xffffffff && (s->attr & (SEG_P | SEG_S)) == (SEG_P | SEG_S) &&
           !(s->attr & SEG_UNUSABLE);
}

static bool data_unlimited(const struct segment *s)
{
    return segment_unlimited(s) && (s->attr & (SEG_CODE | SEG_WRITABLE | SEG_DOWN)) == SEG_WRITABLE;
}

static bool data_flat(const struct segment *s)
{
    return data_unlimited(s) && s->base == 0;
}

static bool all_flat(const struct vcpu *v)
{
    const struct segment *cs = &v->seg[SEG_CS];
    return segment_unlimited(cs) && cs->base == 0 && data_flat(&v->seg[SEG_DS]) &&
           data_flat(&v->seg[SEG_ES]) && data_flat(&v->seg[SEG_SS]);
}

/* May it be read and written up to its limit? */
static bool data_limited(const struct vcpu *v, const struct segment *s)
{
    const u32 attr = SEG_P | SEG_S | SEG_WRITABLE;
    if (!cpu_protected(v))
        return (s->attr & (SEG_CODE | SEG_DOWN)) != SEG_DOWN;
    return (s->attr & (attr | SEG_CODE | SEG_DOWN | SEG_UNUSABLE)) == attr;
}

/* What is derived from one segment register, outside of 64-bit mode. */
static void update_quick(struct vcpu *v, unsigned s)
{
    bool quick = cpu_protected(v) && data_unlimited(&v->seg[s]);
    bool flat = quick && v->seg[s].base == 0, limited = !quick && data_limited(v, &v->seg[s]);
    v->limited_segs = (u8)((v->limited_segs & ~(1U << s)) | (unsigned)limited << s);
    v->quick_segs = (u8)((v->quick_segs & ~(1U << s)) | (unsigned)quick << s);
    v->flat_segs = (u8)((v->flat_segs & ~(1U << s)) | (unsigned)flat << s);
}

static void update_segments(struct vcpu *v)
{
    if (v->mode == MODE_LONG64) {
        v->quick_segs = v->flat_segs = 0xff;
        v->limited_segs = 0;
        v->flat = true;
        return;
    }
    v->quick_segs = v->flat_segs = v->limited_segs = 0;
    for (unsigned s = 0; s < ARRAY_SIZE(v->seg); s++)
        update_quick(v, s);
    v->flat = all_flat(v);
}

void cpu_update_data_segment(struct vcpu *v, enum seg_reg seg)
{
    if (v->mode == MODE_LONG64)
        return;
    update_quick(v, seg);
    if (seg < SEG_FS)
        v->flat = all_flat(v);
}

static u64 flat_stack(const struct vcpu *v)
{
    const struct segment *ss = &v->seg[SEG_SS];
    if (v->mode == MODE_LONG64)
        return ~0ULL;
    return cpu_protected(v) && data_flat(ss) && ss->attr & SEG_DB ? 0xffffffff : 0;
}

void cpu_update_mode(struct vcpu *v)
{
    v->mode = (u8)code_mode(v);
    v->long_mode = (v->efer & EFER_LMA) != 0;
    update_segments(v);
    v->flat_stack = flat_stack(v);
    bool ac = (v->rflags & FLAG_AC) != 0;
    v->align_check = (v->cr0 & CR0_AM) && ac && v->cpl == 3;
    if (v->cpl == 3)
        v->tlb_ctx = v->align_check ? TLB_USER_AC : TLB_USER;
    else
        v->tlb_ctx = ac ? TLB_KERNEL_AC : TLB_KERNEL;
}
