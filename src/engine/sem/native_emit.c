/*
 * From a recipe to machine code: int thunk(struct vcpu *rdi, void *rsi). Nothing that C expects to
 * survive a call is changed: RAX, RCX, RDX and vector registers are free, MXCSR and the x87 unit
 * are put back. The instruction itself can raise a signal; all else in a thunk can't.
 */
#include "engine/sem/native.h"

#define VCPU(field)  ((u32)offsetof(struct vcpu, field))
#define FPU_OFF      VCPU(fpu.legacy)
#define MXCSR_OFF    VCPU(fpu.legacy.mxcsr)
#define XMM_OFF(n)   (VCPU(fpu.legacy.xmm) + 16 * (n))
#define YMM_HI(n)    (VCPU(fpu.ymm_hi) + 16 * (n))
#define GPR_OFF(n)   (VCPU(gpr) + 8 * (n))
#define MODRM_RDI(r) (0x80 | ((r)&7) << 3 | RDI) /* reg, [rdi + disp32] */

struct emitter {
    u8 *p;        /* next byte */
    u8 *code;     /* first byte, where it is written */
    const u8 *rx; /* and where it will run */
    const u8 *rx_mxcsr;
};

#define EMIT(e, ...) emit_bytes(e, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void emit_bytes(struct emitter *e, const u8 *bytes, size_t n)
{
    assert(e->p + n <= e->code + THUNK_BYTES);
    memcpy(e->p, bytes, n);
    e->p += n;
}

static void emit32(struct emitter *e, u32 value)
{
    emit_bytes(e, (const u8 *)&value, sizeof(value));
}

static const u8 *emit_here(const struct emitter *e)
{
    return e->rx + (e->p - e->code);
}

/* --- SSE and AVX registers: 128 bits by MOVUPS, VEX instructions' by 256 --- */

static void emit_movups(struct emitter *e, u8 opcode, unsigned n)
{
    if (n >= 8)
        EMIT(e, 0x44);
    EMIT(e, 0x0f, opcode, MODRM_RDI(n));
    emit32(e, XMM_OFF(n));
}

static u8 vex_r(unsigned n, u8 map)
{
    return (u8)((n < 8 ? 0x80 : 0) | 0x60 | map);
}

static void emit_vmovups(struct emitter *e, u8 opcode, unsigned n)
{
    EMIT(e, 0xc4, vex_r(n, 1), 0x78, opcode, MODRM_RDI(n));
    emit32(e, XMM_OFF(n));
}

static void emit_load(struct emitter *e, bool vex, unsigned n)
{
    if (!vex) {
        emit_movups(e, 0x10, n);
        return;
    }
    emit_vmovups(e, 0x10, n);
    EMIT(e, 0xc4, vex_r(n, 3), (u8)((~n & 15) << 3 | 5), 0x18, MODRM_RDI(n)); /* VINSERTF128 */
    emit32(e, YMM_HI(n));
    EMIT(e, 1);
}

static void emit_store(struct emitter *e, bool vex, unsigned n)
{
    if (!vex) {
        emit_movups(e, 0x11, n);
        return;
    }
    emit_vmovups(e, 0x11, n);
    EMIT(e, 0xc4, vex_r(n, 3), 0x7d, 0x19, MODRM_RDI(n)); /* VEXTRACTF128 */
    emit32(e, YMM_HI(n));
    EMIT(e, 1);
}

/* --- general registers, flags, control words --- */

static void emit_gpr(struct emitter *e, u8 opcode, unsigned host, unsigned guest)
{
    EMIT(e, 0x48, opcode, MODRM_RDI(host));
    emit32(e, GPR_OFF(guest));
}

static void emit_gprs_in(struct emitter *e, const struct recipe *r)
{
    for (unsigned n = RAX; n <= RDX; n++)
        if (r->implicit_in & BIT(n))
            emit_gpr(e, 0x8b, n, n);
    if (r->gpr_access & OPD_READ)
        emit_gpr(e, 0x8b, RAX, r->gpr);
}

static void emit_gprs_out(struct emitter *e, const struct recipe *r)
{
    for (unsigned n = RAX; n <= RDX; n++)
        if (r->implicit_out & BIT(n))
            emit_gpr(e, 0x89, n, n);
    if (r->gpr_access & OPD_WRITE)
        emit_gpr(e, 0x89, RAX, r->gpr);
}

static void emit_flags_in(struct emitter *e)
{
    EMIT(e, 0x8b, MODRM_RDI(RAX)); /* mov eax, [rdi + rflags] */
    emit32(e, VCPU(rflags));
    EMIT(e, 0x25); /* and eax, FLAGS_ARITH */
    emit32(e, FLAGS_ARITH);
    EMIT(e, 0x50, 0x9d); /* push rax; popfq */
}

static void emit_flags_out(struct emitter *e)
{
    EMIT(e, 0x9c, 0x5a);                 /* pushfq; pop rdx */
    EMIT(e, 0x48, 0x8b, MODRM_RDI(RAX)); /* mov rax, [rdi + rflags] */
    emit32(e, VCPU(rflags));
    EMIT(e, 0x48, 0x25); /* and rax, ~FLAGS_ARITH */
    emit32(e, ~(u32)FLAGS_ARITH);
    EMIT(e, 0x81, 0xe2); /* and edx, FLAGS_ARITH */
    emit32(e, FLAGS_ARITH);
    EMIT(e, 0x48, 0x09, 0xd0, 0x48, 0x89, MODRM_RDI(RAX)); /* or rax, rdx; mov [..], rax */
    emit32(e, VCPU(rflags));
}

/* Sets or clears RFLAGS.AC and nothing else. */
static void emit_ac(struct emitter *e, bool on)
{
    EMIT(e, 0x9c, 0x81, on ? 0x0c : 0x24, 0x24); /* pushfq; or/and dword [rsp], imm */
    emit32(e, on ? (u32)FLAG_AC : ~(u32)FLAG_AC);
    EMIT(e, 0x9d); /* popfq */
}

static void emit_guest_mxcsr(struct emitter *e, bool load)
{
    EMIT(e, 0x0f, 0xae, load ? MODRM_RDI(2) : MODRM_RDI(3));
    emit32(e, MXCSR_OFF);
}

static void emit_host_mxcsr(struct emitter *e)
{
    EMIT(e, 0x0f, 0xae, 0x15); /* ldmxcsr [rip + rel] */
    emit32(e, (u32)(e->rx_mxcsr - (emit_here(e) + 4)));
}

static void emit_fx(struct emitter *e, bool load)
{
    EMIT(e, 0x48, 0x0f, 0xae, load ? MODRM_RDI(1) : MODRM_RDI(0)); /* fxrstor64, fxsave64 */
    emit32(e, FPU_OFF);
}

/* --- the whole --- */

static void emit_insn(struct emitter *e, struct thunk *t, const struct recipe *r)
{
    if (r->align_check)
        emit_ac(e, true);
    t->insn = emit_here(e);
    emit_bytes(e, r->code, r->len);
    if (r->align_check)
        emit_ac(e, false);
}

/* x87 and MMX: the whole state goes in and out by FXRSTOR and FXSAVE. */
static void emit_x87(struct emitter *e, struct thunk *t, const struct recipe *r)
{
    emit_fx(e, true);
    emit_gprs_in(e, r);
    if (r->flags_in)
        emit_flags_in(e);
    emit_insn(e, t, r);
    emit_gprs_out(e, r);
    if (r->flags_out)
        emit_flags_out(e);
    emit_fx(e, false);
    EMIT(e, 0xdb, 0xe3); /* fninit */
    emit_host_mxcsr(e);
    EMIT(e, 0x31, 0xc0, 0xc3); /* xor eax, eax; ret */

    t->fault = emit_here(e);
    if (r->kind == NATIVE_MMX_SSE)
        emit_guest_mxcsr(e, false);
    EMIT(e, 0xdb, 0xe3);
    emit_host_mxcsr(e);
    EMIT(e, 0xc3);
}

static void emit_simd_exit(struct emitter *e, const struct recipe *r)
{
    if (r->mxcsr) {
        emit_guest_mxcsr(e, false);
        emit_host_mxcsr(e);
    }
    if (r->kind == NATIVE_AVX)
        EMIT(e, 0xc5, 0xf8, 0x77); /* vzeroupper */
}

static void emit_simd(struct emitter *e, struct thunk *t, const struct recipe *r)
{
    bool vex = r->kind == NATIVE_AVX;
    for (unsigned n = 0; n < 16; n++)
        if (r->vec_load & BIT(n))
            emit_load(e, vex, n);
    emit_gprs_in(e, r);
    if (r->mxcsr)
        emit_guest_mxcsr(e, true);
    emit_insn(e, t, r);
    emit_gprs_out(e, r);
    if (r->flags_out)
        emit_flags_out(e);
    for (unsigned n = 0; n < 16; n++)
        if (r->vec_store & BIT(n))
            emit_store(e, vex, n);
    emit_simd_exit(e, r);
    EMIT(e, 0x31, 0xc0, 0xc3); /* xor eax, eax; ret */

    t->fault = emit_here(e);
    emit_simd_exit(e, r);
    EMIT(e, 0xc3);
}

void thunk_emit(struct thunk *t, const struct recipe *r, u8 *code, const u8 *rx, const u8 *rx_mxcsr)
{
    struct emitter e = {code, code, rx, rx_mxcsr};
    t->recipe = *r;
    t->run = (int (*)(struct vcpu *, void *))(uintptr_t)rx;
    if (r->kind == NATIVE_SSE || r->kind == NATIVE_AVX)
        emit_simd(&e, t, r);
    else
        emit_x87(&e, t, r);
}
