/*
 * FXSAVE, FXRSTOR and the XSAVE family (SDM vol. 1, 10.5 and 13.7 to 13.11). The guest's state is
 * kept as such an area already, so saving is copying pieces of it. The components offered (x87,
 * SSE, AVX) lie at the same offsets in the standard and the compacted format.
 */
#include "cpu/model.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_fpu.h"
#include "mem/access.h"

#define LEGACY_BYTES  512
#define HEADER_OFFSET 512
#define HEADER_BYTES  64
#define AVX_OFFSET    576
#define XCOMP_COMPACT BIT(63)
#define MXCSR_INIT    0x1f80

_Static_assert(offsetof(struct fpu_state, ymm_hi) == AVX_OFFSET,
               "struct fpu_state is an XSAVE area");
_Static_assert(offsetof(struct fpu_legacy, mxcsr) == 24, "struct fpu_legacy is an FXSAVE area");

/* FIP, FDP and FOP as they are stored. AMD CPUs store zeros unless an error is pending. `wide`:
 * with REX.W, 64-bit offsets and no selectors. */
static void save_pointers(const struct vcpu *v, bool wide, struct fpu_legacy *out)
{
    const struct fpu_state *fpu = &v->fpu;
    if (!v->machine->model->intel && !(fpu->legacy.fsw & FSW_ES)) {
        out->fop = 0;
        out->fip = out->fdp = 0;
    } else if (!wide) {
        out->fip = (u32)fpu->legacy.fip | (u64)fpu->fip_sel << 32;
        out->fdp = (u32)fpu->legacy.fdp | (u64)fpu->fdp_sel << 32;
    }
}

static void restore_x87(struct vcpu *v, const struct fpu_legacy *in, bool wide)
{
    struct fpu_legacy *x = &v->fpu.legacy;
    x->fcw = (in->fcw & 0x1f3f) | 0x40;
    x->fsw = in->fsw;
    x->ftw_abridged = in->ftw_abridged;
    x->fop = in->fop & 0x7ff;
    x->fip = wide ? in->fip : (u32)in->fip;
    x->fdp = wide ? in->fdp : (u32)in->fdp;
    v->fpu.fip_sel = wide ? 0 : (u16)(in->fip >> 32);
    v->fpu.fdp_sel = wide ? 0 : (u16)(in->fdp >> 32);
    for (unsigned n = 0; n < 8; n++)
        memcpy(x->st[n], in->st[n], 10);
    fpu_update_es(x);
}

static struct fpu_legacy make_legacy(const struct vcpu *v, bool wide)
{
    struct fpu_legacy image = v->fpu.legacy;
    image.rsvd0 = 0;
    image.mxcsr_mask = fpu_mxcsr_mask(v);
    for (unsigned n = 0; n < 8; n++)
        memset(image.st[n] + 10, 0, 6);
    save_pointers(v, wide, &image);
    return image;
}

static u64 aligned_lin(struct vcpu *v, const struct insn *i, unsigned size, unsigned align,
                       enum access access)
{
    u64 lin = seg_lin(v, i->seg, sem_ea(v, i), size, access);
    if (lin & (align - 1))
        fault_gp(v, 0);
    return lin;
}

/* --- FXSAVE --- */

static void fxsave(struct vcpu *v, const struct insn *i)
{
    check_x87_nowait(v);
    u64 lin = aligned_lin(v, i, LEGACY_BYTES, 16, ACCESS_WRITE);
    struct fpu_legacy image = make_legacy(v, i->op == OP_FXSAVE64);
    lin_probe(v, lin, LEGACY_BYTES, ACCESS_WRITE);
    if (v->cr4 & CR4_OSFXSR) {
        lin_write_bytes(v, lin, &image, offsetof(struct fpu_legacy, xmm) + 16 * vec_count(v));
        return;
    }
    lin_write_bytes(v, lin, &image, offsetof(struct fpu_legacy, mxcsr));
    lin_write_bytes(v, lin + offsetof(struct fpu_legacy, st), image.st, sizeof(image.st));
}
SEM_SAME(fxsave, fxsave);

static void check_mxcsr_value(struct vcpu *v, u32 mxcsr)
{
    if (mxcsr & ~fpu_mxcsr_mask(v))
        fault_gp(v, 0);
}

static void fxrstor(struct vcpu *v, const struct insn *i)
{
    struct fpu_legacy image;
    check_x87_nowait(v);
    u64 lin = aligned_lin(v, i, LEGACY_BYTES, 16, ACCESS_READ);
    lin_read_bytes(v, lin, &image, sizeof(image));
    if (v->cr4 & CR4_OSFXSR) {
        check_mxcsr_value(v, image.mxcsr);
        v->fpu.legacy.mxcsr = image.mxcsr;
        memcpy(v->fpu.legacy.xmm, image.xmm, 16 * vec_count(v));
    }
    restore_x87(v, &image, i->op == OP_FXRSTOR64);
}
SEM_SAME(fxrstor, fxrstor);

/* --- XSAVE --- */

/* What the requested-feature bitmap comes to. */
static u64 rfbm(const struct vcpu *v)
{
    return v->xcr0 & ((v->gpr[RDX] << 32) | (u32)v->gpr[RAX]);
}

static void check_xsave(struct vcpu *v)
{
    if (!(v->cr4 & CR4_OSXSAVE))
        fault_ud(v);
    check_ts(v);
}

static unsigned area_bytes(u64 components)
{
    return components & XCR0_AVX ? sizeof(((struct fpu_state *)0)->ymm_hi) + AVX_OFFSET
                                 : AVX_OFFSET;
}

/* Writes the components in `which`, and MXCSR if asked. The area has been probed. */
static void write_components(struct vcpu *v, u64 lin, u64 which, bool mxcsr, bool wide)
{
    struct fpu_legacy image = make_legacy(v, wide);
    if (which & XCR0_X87) {
        lin_write_bytes(v, lin, &image, offsetof(struct fpu_legacy, mxcsr));
        lin_write_bytes(v, lin + offsetof(struct fpu_legacy, st), image.st, sizeof(image.st));
    }
    if (mxcsr)
        lin_write_bytes(v, lin + offsetof(struct fpu_legacy, mxcsr), &image.mxcsr, 8);
    if (which & XCR0_SSE)
        lin_write_bytes(v, lin + offsetof(struct fpu_legacy, xmm), image.xmm, 16 * vec_count(v));
    if (which & XCR0_AVX)
        lin_write_bytes(v, lin + AVX_OFFSET, v->fpu.ymm_hi, 16 * vec_count(v));
}

static u64 xsave_begin(struct vcpu *v, const struct insn *i, u64 want)
{
    check_xsave(v);
    unsigned size = area_bytes(want);
    u64 lin = aligned_lin(v, i, size, 64, ACCESS_WRITE);
    lin_probe(v, lin, size, ACCESS_WRITE);
    return lin;
}

/* Standard format; `skip_init`: components in their initial state are marked, not written. */
static void save_standard(struct vcpu *v, const struct insn *i, bool wide, bool skip_init)
{
    u64 want = rfbm(v), inuse = fpu_xinuse(v), bv;
    u64 lin = xsave_begin(v, i, want);
    lin_read_bytes(v, lin + HEADER_OFFSET, &bv, sizeof(bv));
    bv = (bv & ~want) | (inuse & want);
    write_components(v, lin, skip_init ? want & inuse : want, want & (XCR0_SSE | XCR0_AVX), wide);
    lin_write_bytes(v, lin + HEADER_OFFSET, &bv, sizeof(bv));
}

static void xsave(struct vcpu *v, const struct insn *i)
{
    save_standard(v, i, i->op == OP_XSAVE64, false);
}
SEM_SAME(xsave, xsave);

static void xsaveopt(struct vcpu *v, const struct insn *i)
{
    save_standard(v, i, i->op == OP_XSAVEOPT64, true);
}
SEM_SAME(xsaveopt, xsaveopt);

/* In the compacted format MXCSR belongs to the SSE component. */
static void xsavec(struct vcpu *v, const struct insn *i)
{
    u64 want = rfbm(v), inuse = fpu_xinuse(v);
    if (v->fpu.legacy.mxcsr != MXCSR_INIT)
        inuse |= XCR0_SSE;
    u64 lin = xsave_begin(v, i, want);
    u64 header[2] = {want & inuse, want | XCOMP_COMPACT};
    write_components(v, lin, want & inuse, want & inuse & XCR0_SSE, i->op == OP_XSAVEC64);
    lin_write_bytes(v, lin + HEADER_OFFSET, header, sizeof(header));
}
SEM_SAME(xsavec, xsavec);

/* --- XRSTOR --- */

struct xheader {
    u64 xstate_bv, xcomp_bv, reserved[6];
};

static void check_header(struct vcpu *v, const struct xheader *h)
{
    bool compact = h->xcomp_bv & XCOMP_COMPACT, bad;
    u64 reserved = 0;
    for (unsigned n = 0; n < ARRAY_SIZE(h->reserved); n++)
        if (compact || n == 0) /* the standard format leaves bytes 63:24 to software */
            reserved |= h->reserved[n];
    if (compact)
        bad = (h->xcomp_bv & ~(v->xcr0 | XCOMP_COMPACT)) || (h->xstate_bv & ~h->xcomp_bv);
    else
        bad = h->xcomp_bv || (h->xstate_bv & ~v->xcr0);
    if (bad || reserved)
        fault_gp(v, 0);
}

/* Loads component `bit` if it is in `valid`, else puts its initial value. */
static void restore_vectors(u8 to[16][16], const u8 *from, unsigned count, bool valid)
{
    if (valid)
        memcpy(to, from, 16 * (size_t)count);
    else
        memset(to, 0, 16 * (size_t)count);
}

static void restore_components(struct vcpu *v, const struct fpu_state *in, u64 want, u64 valid,
                               bool wide)
{
    if (want & XCR0_X87) {
        if (valid & XCR0_X87) {
            restore_x87(v, &in->legacy, wide);
        } else {
            fpu_init_x87(&v->fpu);
            memset(v->fpu.legacy.st, 0, sizeof(v->fpu.legacy.st));
        }
    }
    if (want & XCR0_SSE)
        restore_vectors(v->fpu.legacy.xmm, in->legacy.xmm[0], vec_count(v), valid & XCR0_SSE);
    if (want & XCR0_AVX)
        restore_vectors(v->fpu.ymm_hi, in->ymm_hi[0], vec_count(v), valid & XCR0_AVX);
}

static void xrstor(struct vcpu *v, const struct insn *i)
{
    struct fpu_state in;
    struct xheader header;
    u64 want = rfbm(v);
    check_xsave(v);
    unsigned size = area_bytes(want);
    u64 lin = aligned_lin(v, i, size, 64, ACCESS_READ);
    lin_read_bytes(v, lin, &in, size);
    memcpy(&header, (u8 *)&in + HEADER_OFFSET, sizeof(header));
    check_header(v, &header);

    bool compact = header.xcomp_bv & XCOMP_COMPACT;
    u64 valid = want & header.xstate_bv;
    u32 mxcsr = v->fpu.legacy.mxcsr;
    if (compact ? valid & XCR0_SSE : want & (XCR0_SSE | XCR0_AVX))
        mxcsr = in.legacy.mxcsr;
    else if (compact && (want & XCR0_SSE))
        mxcsr = MXCSR_INIT;
    check_mxcsr_value(v, mxcsr);
    restore_components(v, &in, want, valid, i->op == OP_XRSTOR64);
    v->fpu.legacy.mxcsr = mxcsr;
}
SEM_SAME(xrstor, xrstor);
