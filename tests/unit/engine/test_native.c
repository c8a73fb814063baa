/*
 * Native thunks against the host CPU: all encodings of all native instructions leave the same
 * registers, flags and memory in both; then the faults that thunks raise.
 */
#include "native_rig.h"

/* --- one instruction, both ways --- */

static void compare_insn(struct rig *r, const struct insn *i)
{
    static struct host_state host;
    u8 host_mem[128] __attribute__((aligned(64)));
    struct vcpu *v = r->v;

    random_fpu(&v->fpu);
    host.fpu = v->fpu;
    for (unsigned n = 0; n < 4; n++)
        host.gpr[n] = v->gpr[n] = rnd();
    for (unsigned n = 0; n < 8; n++)
        random_vector(host_mem + 16 * n);
    host.gpr[RBX] = (u64)(uintptr_t)host_mem;
    v->gpr[RBX] = GUEST_DATA;
    memcpy(r->ram + GUEST_DATA, host_mem, sizeof(host_mem));
    host.flags = v->rflags = FLAG_ONE | (rnd() & FLAGS_ARITH);

    run_on_host(r, i->raw, i->len, &host);
    if (run_guest(r, i) != -1)
        fail_insn(i, "fault");
    compare_fpu(i, &v->fpu, &host.fpu);
    for (unsigned n = 0; n < 3; n++)
        if (v->gpr[n] != host.gpr[n])
            fail_insn(i, "general register");
    if ((v->rflags ^ host.flags) & FLAGS_ARITH)
        fail_insn(i, "flags");
    if (memcmp(r->ram + GUEST_DATA, host_mem, sizeof(host_mem)))
        fail_insn(i, "memory");
}

static bool thunk_runs(struct rig *r, const struct thunk *t, u8 *mem)
{
    if (setjmp(r->v->unwind))
        return false;
    native_run(r->v, t, mem);
    return true;
}

/* The thunk accesses as many bytes as the recipe says, no more and no less. */
static void check_operand_size(struct rig *r, const struct insn *i)
{
    const struct thunk *t = i->aux;
    unsigned size = t->recipe.mem_size;
    u8 *end = r->guard + PAGE_SIZE;
    if (!thunk_runs(r, t, end - size))
        fail_insn(i, "operand size (too small)");
    if (thunk_runs(r, t, end - size + 1))
        fail_insn(i, "operand size (too big)");
}

/* The harness has RAX, RCX, RDX for general registers, and memory at [rbx]. */
static bool suits_harness(const struct insn *i)
{
    for (unsigned n = 0; n < i->nopd; n++) {
        if (i->opd[n].kind == OPD_GPR && i->opd[n].reg > RDX)
            return false;
        if (i->opd[n].kind == OPD_MEM && (i->base != RBX || i->index != REG_NONE || i->disp))
            return false;
    }
    return true;
}

static void try_encoding(struct rig *r, const u8 *bytes, u8 *covered)
{
    struct insn i;
    if (!decode(r, bytes, &i) || !(i.flags & INSN_NATIVE) || !suits_harness(&i))
        return;
    sem_bind(r->v, &i);
    if (!i.aux) { /* the table is full: start again */
        native_destroy(r->v);
        i.aux = native_thunk(r->v, &i);
    }
    covered[i.op] = 1;
    compare_insn(r, &i);
    if (((struct thunk *)i.aux)->recipe.mem_size)
        check_operand_size(r, &i);
}

/* ModRM bytes that are tried: three registers with [rbx], and with some registers. */
static const u8 modrms[] = {0x03, 0x0b, 0x33, 0xc1, 0xca, 0xd8, 0xee, 0xf7, 0xc8, 0xd1, 0xf9};

static void try_legacy(struct rig *r, u8 *covered)
{
    static const u8 prefix[] = {0, 0x66, 0xf2, 0xf3}, rexes[] = {0, 0x48, 0x44};
    for (unsigned n = 0; n < 3 * 4 * 3 * 256 * ARRAY_SIZE(modrms); n++) {
        unsigned k = n, map = k % 3, p = (k /= 3) % 4, rex = (k /= 4) % 3, op = (k /= 3) % 256;
        u8 bytes[15] = {0}, *b = bytes;
        if (prefix[p])
            *b++ = prefix[p];
        if (rexes[rex])
            *b++ = rexes[rex];
        *b++ = 0x0f;
        if (map)
            *b++ = map == 1 ? 0x38 : 0x3a;
        *b++ = (u8)op;
        *b++ = modrms[k / 256];
        *b++ = (u8)rnd();
        try_encoding(r, bytes, covered);
    }
}

static void try_vex(struct rig *r, u8 *covered)
{
    for (unsigned n = 0; n < 3 * 64 * 256 * ARRAY_SIZE(modrms); n++) {
        unsigned k = n, map = 1 + k % 3, pp = (k /= 3) % 4, wl = (k /= 4) % 4, vvvv = (k /= 4) % 4;
        unsigned op = (k /= 4) % 256;
        static const u8 vvvvs[] = {15, 12, 4, 0};
        u8 bytes[15] = {
            0xc4,   (u8)(0xe0 | map), (u8)((wl & 1) << 7 | vvvvs[vvvv] << 3 | (wl & 2) << 1 | pp),
            (u8)op, modrms[k / 256],  (u8)rnd()};
        if (rnd() & 1)
            bytes[1] ^= 0x80;
        try_encoding(r, bytes, covered);
    }
}

static void try_x87(struct rig *r, u8 *covered)
{
    for (unsigned repeat = 0; repeat < 20; repeat++)
        for (unsigned n = 0; n < 8 * 256; n++) {
            u8 bytes[15] = {(u8)(0xd8 + n / 256), (u8)n};
            try_encoding(r, bytes, covered);
        }
}

static void test_every_instruction(void **state)
{
    struct rig *r = *state;
    reset(r);
    static u8 covered[OP_COUNT];
    try_legacy(r, covered);
    try_vex(r, covered);
    try_x87(r, covered);
    unsigned missed = 0, seen = 0;
    for (unsigned op = 0; op < OP_COUNT; op++) {
        seen += covered[op];
        if ((op_info[op].flags & INSN_NATIVE) && !covered[op]) {
            missed++;
            print_message("not on this host, or not tried: %s\n", op_info[op].name);
        }
    }
    print_message("%u operations compared, %u not\n", seen, missed);
    assert_true(seen > 400);
}

/* --- faults --- */

#define assert_fault(expected, ...) assert_int_equal(GUEST(r, __VA_ARGS__), expected)
static void test_alignment(void **state)
{
    struct rig *r = *state;
    reset(r);
    r->v->gpr[RBX] = GUEST_DATA + 8;
    struct fpu_state before = r->v->fpu;
    assert_fault(VEC_GP, 0x0f, 0x28, 0x03);       /* movaps xmm0, [rbx] */
    assert_fault(VEC_GP, 0x0f, 0x29, 0x03);       /* movaps [rbx], xmm0 */
    assert_fault(VEC_GP, 0x66, 0x0f, 0xe7, 0x03); /* movntdq [rbx], xmm0 */
    assert_fault(VEC_GP, 0xc5, 0xfd, 0x6f, 0x03); /* vmovdqa ymm0, [rbx] */
    assert_memory_equal(&before, &r->v->fpu, sizeof(before));
    assert_int_equal(r->v->fault.error, 0);
    assert_fault(-1, 0x0f, 0x10, 0x03);       /* movups */
    assert_fault(-1, 0xc5, 0xfc, 0x58, 0x03); /* vaddps ymm0, ymm0, [rbx] */
    r->v->gpr[RBX] = GUEST_HOLE - 16;
    assert_fault(-1, 0xc5, 0xf8, 0x28, 0x03); /* vmovaps xmm0, [rbx] */
    r->v->gpr[RBX] = GUEST_HOLE - 8;
    assert_fault(VEC_PF, 0x0f, 0x11, 0x03); /* movups [rbx], xmm0 */
    assert_int_equal(r->v->fault.cr2, GUEST_HOLE);
    assert_fault(-1, 0xf3, 0x0f, 0x7e, 0x03); /* movq xmm0, [rbx] */
}

static void test_alignment_check(void **state)
{
    struct rig *r = *state;
    reset(r);
    r->v->cpl = 3;
    r->v->cr0 |= CR0_AM;
    r->v->rflags |= FLAG_AC;
    r->v->align_check = true;
    r->v->tlb_ctx = TLB_USER;
    tlb_flush_all(r->v);
    r->v->gpr[RBX] = GUEST_DATA + 2;
    assert_fault(VEC_AC, 0xf3, 0x0f, 0x10, 0x03); /* movss xmm0, [rbx] */
    assert_fault(VEC_AC, 0xdd, 0x03);             /* fld qword [rbx] */
    r->v->gpr[RBX] = GUEST_DATA + 4;
    assert_fault(-1, 0xf3, 0x0f, 0x10, 0x03);
    assert_true(r->v->rflags & FLAG_AC);
    reset(r);
    tlb_flush_all(r->v);
}

static void test_page_crossing(void **state)
{
    struct rig *r = *state;
    reset(r);
    r->v->gpr[RBX] = GUEST_DATA + PAGE_SIZE - 5;
    u8 want[32];
    memcpy(want, r->v->fpu.legacy.xmm[1], 16);
    memcpy(want + 16, r->v->fpu.ymm_hi[1], 16);
    assert_fault(-1, 0xc5, 0xfc, 0x11, 0x0b); /* vmovups [rbx], ymm1 */
    assert_memory_equal(r->ram + GUEST_DATA + PAGE_SIZE - 5, want, 32);
    assert_fault(-1, 0xc5, 0xfc, 0x10, 0x13); /* vmovups ymm2, [rbx] */
    assert_memory_equal(r->v->fpu.legacy.xmm[2], want, 16);
    assert_memory_equal(r->v->fpu.ymm_hi[2], want + 16, 16);
}

static void test_simd_exception(void **state)
{
    struct rig *r = *state;
    reset(r);
    r->v->fpu.legacy.mxcsr = MXCSR_DEFAULT & ~0x200u; /* divide by zero is unmasked */
    memset(r->v->fpu.legacy.xmm[1], 0, 16);
    store_le(r->v->fpu.legacy.xmm[0], 0x3f800000, 4);
    struct fpu_state before = r->v->fpu;
    assert_fault(VEC_XM, 0xf3, 0x0f, 0x5e, 0xc1); /* divss xmm0, xmm1 */
    assert_int_equal(r->v->fpu.legacy.mxcsr, before.legacy.mxcsr | 4);
    assert_memory_equal(before.legacy.xmm, r->v->fpu.legacy.xmm, 256);
    assert_fault(VEC_XM, 0xc5, 0xfa, 0x5e, 0xc1); /* vdivss xmm0, xmm0, xmm1 */
    r->v->cr4 &= ~CR4_OSXMMEXCPT;
    assert_fault(VEC_UD, 0xf3, 0x0f, 0x5e, 0xc1);
    assert_int_equal(__builtin_ia32_stmxcsr() & ~0x3fu, MXCSR_DEFAULT);
}

static void count_ferr(struct vcpu *v)
{
    v->gpr[R15]++;
}

static void test_x87_exception(void **state)
{
    struct rig *r = *state;
    struct vcpu *v = r->v;
    reset(r);
    v->fpu.legacy.fcw = 0x37b; /* divide by zero is unmasked */
    memset(v->fpu.legacy.st[1], 0, 16);
    memcpy(v->fpu.legacy.st[0], (u8[16]){[7] = 0x80, 0xff, 0x3f}, 16);
    assert_fault(-1, 0xd8, 0xf1); /* fdiv st, st(1): pending */
    assert_true((v->fpu.legacy.fsw & 0x8084) == 0x8084);
    u64 fip = v->fpu.legacy.fip;
    assert_int_equal(fip, GUEST_CODE);
    assert_fault(VEC_MF, 0xd9, 0xe8);       /* fld1 */
    assert_fault(VEC_MF, 0x9b);             /* fwait */
    assert_fault(VEC_MF, 0x0f, 0xfc, 0xc1); /* paddb mm0, mm1 */
    assert_fault(VEC_MF, 0x0f, 0x2a, 0xc1); /* cvtpi2ps xmm0, mm1 */
    assert_fault(-1, 0xdf, 0xe0);           /* fnstsw ax */
    assert_int_equal((u16)v->gpr[RAX], v->fpu.legacy.fsw);
    assert_fault(-1, 0x0f, 0x58, 0xc1); /* addps doesn't mind */
    v->cr0 &= ~CR0_NE;
    v->ferr = count_ferr;
    v->gpr[R15] = 0;
    GUEST(r, 0xd9, 0xe8);
    assert_int_equal(v->gpr[R15], 1);
    assert_int_equal(v->exit_reason, EXIT_KICKED);
    v->ferr = NULL;
    assert_fault(-1, 0xdb, 0xe2); /* fnclex */
    assert_fault(-1, 0xd9, 0xe8);
}

static void test_availability(void **state)
{
    struct rig *r = *state;
    struct vcpu *v = r->v;
    reset(r);
    v->cr0 |= CR0_TS;
    assert_fault(VEC_NM, 0xd9, 0xe8);             /* fld1 */
    assert_fault(VEC_NM, 0x9b);                   /* fwait, MP set */
    assert_fault(VEC_NM, 0x0f, 0xfc, 0xc1);       /* paddb mm */
    assert_fault(VEC_NM, 0x0f, 0x58, 0xc1);       /* addps */
    assert_fault(VEC_NM, 0xc5, 0xf8, 0x58, 0xc1); /* vaddps */
    assert_fault(VEC_NM, 0x0f, 0xae, 0x03);       /* fxsave */
    v->cr0 ^= CR0_TS | CR0_EM;
    assert_fault(VEC_NM, 0xd9, 0xe8);
    assert_fault(-1, 0x9b);
    assert_fault(VEC_UD, 0x0f, 0xfc, 0xc1);
    assert_fault(VEC_UD, 0x0f, 0x58, 0xc1);
    assert_fault(-1, 0xc5, 0xf8, 0x58, 0xc1);
    v->cr0 ^= CR0_EM;
    v->cr4 &= ~CR4_OSFXSR;
    assert_fault(VEC_UD, 0x0f, 0x58, 0xc1);
    v->xcr0 = XCR0_X87 | XCR0_SSE;
    assert_fault(VEC_UD, 0xc5, 0xf8, 0x58, 0xc1);
    v->xcr0 |= XCR0_AVX;
    v->cr4 &= ~CR4_OSXSAVE;
    assert_fault(VEC_UD, 0xc5, 0xf8, 0x58, 0xc1);
    assert_fault(VEC_UD, 0x0f, 0xae, 0x23); /* xsave */
}

/* Outside 64-bit mode the high bits of register fields are ignored. */
static void test_32bit(void **state)
{
    struct rig *r = *state;
    reset(r);
    r->v->mode = MODE_COMPAT32;
    assert_fault(-1, 0xc4, 0xe3, 0x71, 0x4a, 0xc2, 0xb0); /* vblendvps xmm0, xmm1, xmm2, xmm3 */
    r->v->gpr[RSP] = 0x1122334455667788;
    assert_fault(-1, 0x66, 0x0f, 0x6e, 0xc4); /* movd xmm0, esp */
    assert_int_equal(load_le(r->v->fpu.legacy.xmm[0], 8), 0x55667788);
    reset(r);
}

/* More different instructions than are kept: the rest still run. */
static void test_full_table(void **state)
{
    struct rig *r = *state;
    reset(r);
    native_destroy(r->v);
    u64 ones[2] = {~0ULL, ~0ULL};
    for (unsigned n = 0; n < 5000; n++) {
        unsigned to = n & 7, from = (n >> 3) & 7;
        u8 bytes[15] = {0x66, 0x0f, 0x70, (u8)(0xc0 | to << 3 | from), (u8)(n >> 6)};
        memcpy(r->v->fpu.legacy.xmm[from], ones, 16);
        memset(r->v->fpu.legacy.xmm[to == from ? 8 : to], 0, 16);
        struct insn i = decode_only(r, bytes); /* pshufd */
        assert_int_equal(run_guest(r, &i), -1);
        assert_memory_equal(r->v->fpu.legacy.xmm[to], ones, 16);
    }
    assert_true(r->v->stats.count[STAT_NATIVE_UNKEPT] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_instruction), cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_alignment_check),   cmocka_unit_test(test_page_crossing),
        cmocka_unit_test(test_simd_exception),    cmocka_unit_test(test_x87_exception),
        cmocka_unit_test(test_availability),      cmocka_unit_test(test_32bit),
        cmocka_unit_test(test_full_table),
    };
    keep_handlers();
    return cmocka_run_group_tests(tests, rig_create, rig_destroy);
}
