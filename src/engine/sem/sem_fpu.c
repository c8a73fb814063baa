/*
 * Instructions that load or store the x87 control registers, environment and whole state, and
 * MXCSR (SDM vol. 1, 8.1). They are done in C, because the environment holds addresses: FIP and FDP
 * are those of the guest, which the host's FPU never saw.
 */
#include "engine/sem/sem_fpu.h"

#include "cpu/model.h"
#include "engine/engine.h"
#include "engine/sem/sem.h"
#include "mem/access.h"

#define FCW_INIT     0x37f
#define FCW_WRITABLE 0x1f3f
#define FCW_ONE      0x40 /* bit 6 always reads 1 */
#define FOP_MASK     0x7ff

enum tag { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

u64 fpu_xinuse(const struct vcpu *v)
{
    static const u8 zero[256];
    u64 inuse = XCR0_X87;
    if (memcmp(v->fpu.legacy.xmm, zero, sizeof(v->fpu.legacy.xmm)))
        inuse |= XCR0_SSE;
    if (memcmp(v->fpu.ymm_hi, zero, sizeof(v->fpu.ymm_hi)))
        inuse |= XCR0_AVX;
    return inuse;
}

u32 fpu_mxcsr_mask(const struct vcpu *v)
{
    return v->machine->model->mxcsr_mask;
}

_Noreturn void fpu_raise_pending(struct vcpu *v)
{
    if ((v->cr0 & CR0_NE) || !v->ferr)
        fault_raise(v, VEC_MF);
    v->ferr(v);
    vcpu_leave(v, EXIT_KICKED, "x87 error by FERR#");
}

void fpu_set_top(struct fpu_legacy *x, unsigned top)
{
    const struct fpu_legacy old = *x;
    for (unsigned n = 0; n < 8; n++)
        memcpy(x->st[n], old.st[(n + top - FSW_TOP(old.fsw)) & 7], sizeof(x->st[n]));
    x->fsw = (u16)((x->fsw & ~FSW_TOP_MASK) | top << FSW_TOP_SHIFT);
}

void fpu_init_x87(struct fpu_state *fpu)
{
    struct fpu_legacy *x = &fpu->legacy;
    fpu_set_top(x, 0);
    x->fcw = FCW_INIT;
    x->fsw = 0;
    x->ftw_abridged = 0;
    x->fop = 0;
    x->fip = x->fdp = 0;
    fpu->fip_sel = fpu->fdp_sel = 0;
}

void fpu_update_es(struct fpu_legacy *x)
{
    x->fsw &= (u16) ~(FSW_ES | FSW_B);
    if (x->fsw & ~x->fcw & FSW_FLAGS)
        x->fsw |= FSW_ES | FSW_B;
}

void fpu_set_pointers(struct vcpu *v, const struct insn *i, u16 fop, u64 ea)
{
    struct fpu_state *fpu = &v->fpu;
    fpu->legacy.fop = fop;
    fpu->legacy.fip = v->rip - i->len;
    fpu->fip_sel = v->seg[SEG_CS].sel;
    for (unsigned n = 0; n < i->nopd; n++)
        if (i->opd[n].kind == OPD_MEM) {
            fpu->legacy.fdp = ea;
            fpu->fdp_sel = v->seg[i->seg].sel;
        }
}

/* --- control words --- */

static void fninit(struct vcpu *v, const struct insn *i)
{
    (void)i;
    check_x87_nowait(v);
    fpu_init_x87(&v->fpu);
}
SEM_SAME(fninit, fninit);

/* What enabled interrupts on the 8087 and protected mode on the 80287: it does not even wait. */
static void fnop_nowait(struct vcpu *v, const struct insn *i)
{
    (void)i;
    check_x87_nowait(v);
}
SEM_SAME(fnop_nowait, fnop_nowait);

static void fnclex(struct vcpu *v, const struct insn *i)
{
    (void)i;
    check_x87_nowait(v);
    v->fpu.legacy.fsw &= 0x7f00; /* condition codes and TOP stay */
}
SEM_SAME(fnclex, fnclex);

static void set_fcw(struct fpu_legacy *x, u16 fcw)
{
    x->fcw = (fcw & FCW_WRITABLE) | FCW_ONE;
    fpu_update_es(x);
}

static void fldcw(struct vcpu *v, const struct insn *i)
{
    check_x87(v);
    u64 lin = seg_lin(v, i->seg, sem_ea(v, i), 2, ACCESS_READ);
    set_fcw(&v->fpu.legacy, (u16)lin_read(v, lin, 2));
}
SEM_SAME(fldcw, fldcw);

static void store16(struct vcpu *v, const struct insn *i, u16 value)
{
    if (i->opd[0].kind == OPD_GPR) {
        store_le(&v->gpr[i->opd[0].reg], value, 2);
        return;
    }
    u64 lin = seg_lin(v, i->seg, sem_ea(v, i), 2, ACCESS_WRITE);
    lin_write(v, lin, value, 2);
}

static void fnstcw(struct vcpu *v, const struct insn *i)
{
    check_x87_nowait(v);
    store16(v, i, v->fpu.legacy.fcw);
}
SEM_SAME(fnstcw, fnstcw);

static void fnstsw(struct vcpu *v, const struct insn *i)
{
    check_x87_nowait(v);
    store16(v, i, v->fpu.legacy.fsw);
}
SEM_SAME(fnstsw, fnstsw);

static void fwait(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if ((v->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        fault_raise(v, VEC_NM);
    check_pending_x87(v);
}
SEM_SAME(fwait, fwait);

/* --- environment: 14 or 28 bytes, and it differs in real and virtual-8086 mode --- */

static enum tag tag_of(const u8 st[16])
{
    u64 mantissa = load_le(st, 8);
    unsigned exponent = (unsigned)load_le(st + 8, 2) & 0x7fff;
    if (exponent == 0 && mantissa == 0)
        return TAG_ZERO;
    if (exponent == 0 || exponent == 0x7fff || !(mantissa >> 63))
        return TAG_SPECIAL;
    return TAG_VALID;
}

static u16 full_tags(const struct fpu_legacy *x)
{
    unsigned top = FSW_TOP(x->fsw), tags = 0;
    for (unsigned n = 0; n < 8; n++) {
        enum tag tag = TAG_EMPTY;
        if (x->ftw_abridged & BIT(n))
            tag = tag_of(x->st[(n - top) & 7]);
        tags |= (unsigned)tag << (2 * n);
    }
    return (u16)tags;
}

static u8 abridged_tags(u16 tags)
{
    u8 abridged = 0;
    for (unsigned n = 0; n < 8; n++)
        if (((tags >> (2 * n)) & 3) != TAG_EMPTY)
            abridged |= (u8)BIT(n);
    return abridged;
}

/* The seven fields of an environment, each 2 or 4 bytes wide (SDM vol. 1, figures 8-9 to 8-12). */
struct env {
    u32 field[7];
};

enum { ENV_FCW, ENV_FSW, ENV_FTW, ENV_FIP, ENV_FCS, ENV_FDP, ENV_FDS };

static struct env env_make(const struct vcpu *v, unsigned width)
{
    const struct fpu_state *fpu = &v->fpu;
    const struct fpu_legacy *x = &fpu->legacy;
    struct env e = {{x->fcw, x->fsw, full_tags(x)}};
    if (cpu_protected(v)) {
        e.field[ENV_FIP] = (u32)x->fip;
        e.field[ENV_FCS] = fpu->fip_sel | (u32)x->fop << 16;
        e.field[ENV_FDP] = (u32)x->fdp;
        e.field[ENV_FDS] = fpu->fdp_sel | 0xffff0000;
    } else {
        u32 fip = (u32)x->fip + (u32)(fpu->fip_sel << 4);
        u32 fdp = (u32)x->fdp + (u32)(fpu->fdp_sel << 4);
        e.field[ENV_FIP] = fip & 0xffff;
        e.field[ENV_FCS] = (fip >> 16) << 12 | x->fop;
        e.field[ENV_FDP] = fdp & 0xffff;
        e.field[ENV_FDS] = (fdp >> 16) << 12;
        if (width == 4) {
            e.field[ENV_FIP] |= 0xffff0000;
            e.field[ENV_FDP] |= 0xffff0000;
        }
    }
    if (width == 4)
        for (unsigned n = ENV_FCW; n <= ENV_FTW; n++)
            e.field[n] |= 0xffff0000;
    return e;
}

static void env_set(struct vcpu *v, const struct env *e, unsigned width)
{
    struct fpu_state *fpu = &v->fpu;
    struct fpu_legacy *x = &fpu->legacy;
    fpu_set_top(x, FSW_TOP(e->field[ENV_FSW]));
    x->fsw = (u16)e->field[ENV_FSW];
    x->ftw_abridged = abridged_tags((u16)e->field[ENV_FTW]);
    set_fcw(x, (u16)e->field[ENV_FCW]);
    x->fip = e->field[ENV_FIP];
    x->fdp = e->field[ENV_FDP];
    x->fop = 0;
    if (cpu_protected(v)) {
        fpu->fip_sel = (u16)e->field[ENV_FCS];
        fpu->fdp_sel = (u16)e->field[ENV_FDS];
        if (width == 4)
            x->fop = (e->field[ENV_FCS] >> 16) & FOP_MASK;
        return;
    }
    x->fip = (x->fip & 0xffff) | (e->field[ENV_FCS] >> 12) << 16;
    x->fdp = (x->fdp & 0xffff) | (e->field[ENV_FDS] >> 12) << 16;
    x->fop = e->field[ENV_FCS] & FOP_MASK;
    fpu->fip_sel = fpu->fdp_sel = 0;
}

#define ENV_BYTES(width)   (7 * (width))
#define STATE_BYTES(width) (ENV_BYTES(width) + 80)
#define STATE_MAX          STATE_BYTES(4)

/* Bytes per field, by the size of the memory operand. */
static unsigned env_width(const struct insn *i)
{
    return i->opd[0].size == ENV_BYTES(2) || i->opd[0].size == STATE_BYTES(2) ? 2 : 4;
}

static void env_pack(const struct env *e, unsigned width, u8 *buf)
{
    for (unsigned n = 0; n < 7; n++)
        store_le(buf + n * width, e->field[n], width);
}

static void env_unpack(struct env *e, unsigned width, const u8 *buf)
{
    for (unsigned n = 0; n < 7; n++)
        e->field[n] = (u32)load_le(buf + n * width, width);
}

static void fnstenv(struct vcpu *v, const struct insn *i)
{
    u8 buf[ENV_BYTES(4)];
    unsigned width = env_width(i), size = ENV_BYTES(width);
    check_x87_nowait(v);
    u64 lin = seg_lin(v, i->seg, sem_ea(v, i), size, ACCESS_WRITE);
    struct env e = env_make(v, width);
    env_pack(&e, width, buf);
    lin_write_bytes(v, lin, buf, size);
    set_fcw(&v->fpu.legacy, v->fpu.legacy.fcw | FSW_FLAGS);
}
SEM_SAME(fnstenv, fnstenv);

static void fldenv(struct vcpu *v, const struct insn *i)
{
    u8 buf[ENV_BYTES(4)];
    struct env e;
    unsigned width = env_width(i), size = ENV_BYTES(width);
    check_x87(v);
    lin_read_bytes(v, seg_lin(v, i->seg, sem_ea(v, i), size, ACCESS_READ), buf, size);
    env_unpack(&e, width, buf);
    env_set(v, &e, width);
}
SEM_SAME(fldenv, fldenv);

static void fnsave(struct vcpu *v, const struct insn *i)
{
    u8 buf[STATE_MAX];
    unsigned width = env_width(i), size = STATE_BYTES(width);
    check_x87_nowait(v);
    u64 lin = seg_lin(v, i->seg, sem_ea(v, i), size, ACCESS_WRITE);
    struct env e = env_make(v, width);
    env_pack(&e, width, buf);
    for (unsigned n = 0; n < 8; n++)
        memcpy(buf + ENV_BYTES(width) + 10 * n, v->fpu.legacy.st[n], 10);
    lin_write_bytes(v, lin, buf, size);
    fpu_init_x87(&v->fpu);
}
SEM_SAME(fnsave, fnsave);

static void frstor(struct vcpu *v, const struct insn *i)
{
    u8 buf[STATE_MAX];
    struct env e;
    unsigned width = env_width(i), size = STATE_BYTES(width);
    check_x87(v);
    lin_read_bytes(v, seg_lin(v, i->seg, sem_ea(v, i), size, ACCESS_READ), buf, size);
    env_unpack(&e, width, buf);
    env_set(v, &e, width);
    for (unsigned n = 0; n < 8; n++)
        memcpy(v->fpu.legacy.st[n], buf + ENV_BYTES(width) + 10 * n, 10);
}
SEM_SAME(frstor, frstor);

/* --- MXCSR, and clearing the YMM registers --- */

static void check_mxcsr(struct vcpu *v, const struct insn *i)
{
    if (i->op == OP_VLDMXCSR || i->op == OP_VSTMXCSR)
        check_avx(v);
    else
        check_sse(v);
}

static void ldmxcsr(struct vcpu *v, const struct insn *i)
{
    check_mxcsr(v, i);
    u32 value = (u32)lin_read(v, seg_lin(v, i->seg, sem_ea(v, i), 4, ACCESS_READ), 4);
    if (value & ~fpu_mxcsr_mask(v))
        fault_gp(v, 0);
    v->fpu.legacy.mxcsr = value;
}
SEM_SAME(ldmxcsr, ldmxcsr);

static void stmxcsr(struct vcpu *v, const struct insn *i)
{
    check_mxcsr(v, i);
    lin_write(v, seg_lin(v, i->seg, sem_ea(v, i), 4, ACCESS_WRITE), v->fpu.legacy.mxcsr, 4);
}
SEM_SAME(stmxcsr, stmxcsr);

static void vzeroupper(struct vcpu *v, const struct insn *i)
{
    (void)i;
    check_avx(v);
    memset(v->fpu.ymm_hi, 0, 16 * vec_count(v));
}
SEM_SAME(vzeroupper, vzeroupper);

static void vzeroall(struct vcpu *v, const struct insn *i)
{
    vzeroupper(v, i);
    memset(v->fpu.legacy.xmm, 0, 16 * vec_count(v));
}
SEM_SAME(vzeroall, vzeroall);
