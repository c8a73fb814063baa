/*
 * The instructions that load and store FPU state as such, and the SIMD instructions that access
 * memory by elements: they are C here, and are compared with the host CPU all the same.
 */
#include "native_rig.h"

#define AREA 1024

static void reset_pointers(struct fpu_state *fpu)
{
    fpu->legacy.fip = fpu->legacy.fdp = 0;
    fpu->legacy.fop = 0;
    fpu->fip_sel = fpu->fdp_sel = 0;
}

/* Runs the instruction on both with the same state, RAX = mask, RDX = 0, and [rbx] = in, and
 * compares registers and what became of memory, but for bytes [skip, skip_end), which hold
 * addresses. */
static void compare_area(struct rig *r, const u8 *bytes, u64 mask, const u8 *in, unsigned skip,
                         unsigned skip_end)
{
    static struct host_state host;
    static u8 area[AREA] __attribute__((aligned(64)));
    struct vcpu *v = r->v;
    struct insn i = decode_only(r, bytes);

    host.fpu = v->fpu;
    memcpy(area, in, AREA);
    memcpy(r->ram + GUEST_DATA, in, AREA);
    memset(host.gpr, 0, sizeof(host.gpr));
    host.gpr[RAX] = v->gpr[RAX] = mask;
    v->gpr[RCX] = v->gpr[RDX] = 0;
    host.gpr[RBX] = (u64)(uintptr_t)area;
    v->gpr[RBX] = GUEST_DATA;
    host.flags = v->rflags = FLAG_ONE;

    run_on_host(r, i.raw, i.len, &host);
    assert_int_equal(run_guest(r, &i), -1);
    compare_fpu(&i, &v->fpu, &host.fpu);
    memset(area + skip, 0, skip_end - skip);
    memset(r->ram + GUEST_DATA + skip, 0, skip_end - skip);
    for (unsigned n = 0; n < AREA; n++)
        if (area[n] != r->ram[GUEST_DATA + n]) {
            print_error("byte %u: guest %02x host %02x\n", n, r->ram[GUEST_DATA + n], area[n]);
            fail_insn(&i, "memory");
        }
    if (v->gpr[RAX] != host.gpr[RAX])
        fail_insn(&i, "RAX");
}

static void random_area(u8 *area)
{
    for (unsigned n = 0; n < AREA; n++)
        area[n] = (u8)rnd();
}

#define COMPARE(mask, in, skip, skip_end, ...)                                                     \
    compare_area(r, (const u8[15]){__VA_ARGS__}, mask, in, skip, skip_end)

static void fresh(struct rig *r, unsigned round)
{
    random_fpu(&r->v->fpu);
    reset_pointers(&r->v->fpu);
    if (round & 1)
        memset(r->v->fpu.ymm_hi, 0, sizeof(r->v->fpu.ymm_hi));
    if (round & 2)
        memset(r->v->fpu.legacy.xmm, 0, sizeof(r->v->fpu.legacy.xmm));
}

/* Bytes 28 to 31, MXCSR_MASK, are the CPU model's. */
static void test_save_images(void **state)
{
    struct rig *r = *state;
    u8 in[AREA];
    reset(r);
    for (unsigned round = 0; round < 32; round++) {
        random_area(in);
        fresh(r, round);
        COMPARE(0, in, 28, 32, 0x0f, 0xae, 0x03);       /* fxsave [rbx] */
        COMPARE(0, in, 28, 32, 0x48, 0x0f, 0xae, 0x03); /* fxsave64 [rbx] */
        memset(in + 512, 0, 64);
        in[512] = (u8)(round & 7);
        for (u64 mask = 0; mask < 8; mask++) {
            COMPARE(mask, in, 28, 32, 0x0f, 0xae, 0x23);       /* xsave [rbx] */
            COMPARE(mask, in, 28, 32, 0x48, 0x0f, 0xae, 0x33); /* xsaveopt64 [rbx] */
            COMPARE(mask, in, 28, 32, 0x48, 0x0f, 0xc7, 0x23); /* xsavec64 [rbx] */
        }
    }
}

/* Images are made by the guest's own saving instructions, compared above. */
static void make_image(struct rig *r, unsigned round, u8 *image, const u8 *bytes, u64 mask)
{
    struct insn i = decode_only(r, bytes);
    random_area(r->ram + GUEST_DATA);
    memset(r->ram + GUEST_DATA + 512, 0, 64);
    fresh(r, round);
    r->v->gpr[RAX] = mask;
    r->v->gpr[RDX] = 0;
    r->v->gpr[RBX] = GUEST_DATA;
    assert_int_equal(run_guest(r, &i), -1);
    memcpy(image, r->ram + GUEST_DATA, AREA);
    fresh(r, 0);
}

static void test_restore_images(void **state)
{
    struct rig *r = *state;
    u8 in[AREA];
    reset(r);
    for (unsigned round = 0; round < 32; round++) {
        make_image(r, round, in, (const u8[15]){0x48, 0x0f, 0xae, 0x03}, 0); /* fxsave64 */
        COMPARE(0, in, 0, 0, 0x0f, 0xae, 0x0b);                              /* fxrstor [rbx] */
        COMPARE(0, in, 0, 0, 0x48, 0x0f, 0xae, 0x0b);                        /* fxrstor64 */
        for (u64 mask = 0; mask < 8; mask++) {
            make_image(r, round, in, (const u8[15]){0x48, 0x0f, 0xae, 0x23}, rnd() & 7);
            store_le(in + 24, MXCSR_DEFAULT, 4);
            COMPARE(mask, in, 0, 0, 0x48, 0x0f, 0xae, 0x2b); /* xrstor64, standard */
            make_image(r, round, in, (const u8[15]){0x48, 0x0f, 0xc7, 0x23}, rnd() & 7);
            COMPARE(mask, in, 0, 0, 0x0f, 0xae, 0x2b); /* xrstor, compacted */
        }
    }
}

static void test_environment(void **state)
{
    struct rig *r = *state;
    u8 in[AREA];
    reset(r);
    for (unsigned round = 0; round < 200; round++) {
        random_area(in);
        fresh(r, 0);
        COMPARE(0, in, 12, 26, 0xd9, 0x33);      /* fnstenv [rbx], 28 bytes */
        COMPARE(0, in, 6, 14, 0x66, 0xd9, 0x33); /* 14 bytes */
        fresh(r, 0);
        COMPARE(0, in, 12, 26, 0xdd, 0x33); /* fnsave [rbx], 108 bytes */
        fresh(r, 0);
        COMPARE(0, in, 6, 14, 0x66, 0xdd, 0x33); /* 94 bytes */
        in[0] |= 0x3f;                           /* no exception pending afterwards */
        COMPARE(0, in, 0, 0, 0xd9, 0x23);        /* fldenv [rbx] */
        COMPARE(0, in, 0, 0, 0xdd, 0x23);        /* frstor [rbx] */
        COMPARE(0, in, 0, 0, 0x66, 0xd9, 0x23);
        COMPARE(0, in, 0, 0, 0x66, 0xdd, 0x23);
        COMPARE(0, in, 0, 0, 0xd9, 0x2b);       /* fldcw [rbx] */
        COMPARE(0, in, 0, 0, 0xd9, 0x3b);       /* fnstcw [rbx] */
        COMPARE(0, in, 0, 0, 0xdd, 0x3b);       /* fnstsw [rbx] */
        COMPARE(0, in, 0, 0, 0xdf, 0xe0);       /* fnstsw ax */
        COMPARE(0, in, 0, 0, 0xdb, 0xe2);       /* fnclex */
        COMPARE(0, in, 0, 0, 0xdb, 0xe3);       /* fninit */
        COMPARE(0, in, 0, 0, 0x0f, 0xae, 0x1b); /* stmxcsr [rbx] */
        COMPARE(0, in, 0, 0, 0xc5, 0xf8, 0x77); /* vzeroupper */
        COMPARE(0, in, 0, 0, 0xc5, 0xfc, 0x77); /* vzeroall */
        in[0] &= 0x3f;
        store_le(in, MXCSR_DEFAULT | (rnd() & 0x607f), 4);
        COMPARE(0, in, 0, 0, 0x0f, 0xae, 0x13); /* ldmxcsr [rbx] */
    }
}

#define assert_fault(expected, ...) assert_int_equal(GUEST(r, __VA_ARGS__), expected)

/* The guest's addresses, not the thunk's, in every format. */
static void test_pointers(void **state)
{
    struct rig *r = *state;
    const u8 *env = r->ram + GUEST_DATA + 64;
    reset(r);
    assert_fault(-1, 0xdc, 0x03); /* fadd qword [rbx] */
    r->v->gpr[RBX] = GUEST_DATA + 64;
    assert_fault(-1, 0xd9, 0x33); /* fnstenv, protected mode, 32-bit */
    assert_int_equal(load_le(env + 12, 4), GUEST_CODE);
    assert_int_equal(load_le(env + 16, 4), 0x04030033);
    assert_int_equal(load_le(env + 20, 4), GUEST_DATA);
    assert_int_equal(load_le(env + 24, 2), 0x10);
    assert_fault(-1, 0x66, 0xd9, 0x33); /* 16-bit */
    assert_int_equal(load_le(env + 6, 4), 0x00330000 | (u16)GUEST_CODE);
    assert_int_equal(load_le(env + 10, 4), 0x00100000 | (u16)GUEST_DATA);

    r->v->mode = MODE_REAL;
    r->v->seg[SEG_CS].sel = 0x1234;
    r->v->seg[SEG_DS].sel = 0x4000;
    r->v->fpu.fip_sel = 0x1234;
    r->v->fpu.fdp_sel = 0x4000;
    r->v->fpu.legacy.fip = 0x5000;
    r->v->fpu.legacy.fdp = 0x20;
    r->v->gpr[RDI] = GUEST_DATA + 64;
    assert_fault(-1, 0x67, 0x66, 0xd9, 0x37); /* fnstenv [edi], real mode, 32-bit */
    assert_int_equal(load_le(env + 12, 4), 0xffff7340);
    assert_int_equal(load_le(env + 16, 4), 0x1403);
    assert_int_equal(load_le(env + 20, 4), 0xffff0020);
    assert_int_equal(load_le(env + 24, 4), 0x4000);
    assert_fault(-1, 0x67, 0xd9, 0x37); /* 16-bit */
    assert_int_equal(load_le(env + 6, 4), 0x14037340);
    assert_int_equal(load_le(env + 10, 4), 0x40000020);
    assert_fault(-1, 0x67, 0xd9, 0x27); /* fldenv [edi]: comes back as linear addresses */
    assert_int_equal(r->v->fpu.legacy.fip, 0x17340);
    assert_int_equal(r->v->fpu.legacy.fdp, 0x40020);
}

static void test_save_faults(void **state)
{
    struct rig *r = *state;
    u8 *area = r->ram + GUEST_DATA;
    reset(r);
    r->v->gpr[RAX] = 7;
    r->v->gpr[RDX] = 0;
    r->v->gpr[RBX] = GUEST_DATA + 8;
    assert_fault(VEC_GP, 0x0f, 0xae, 0x03); /* fxsave */
    r->v->gpr[RBX] = GUEST_DATA + 16;
    assert_fault(-1, 0x0f, 0xae, 0x03);
    assert_fault(VEC_GP, 0x0f, 0xae, 0x23); /* xsave */
    r->v->gpr[RBX] = GUEST_HOLE - 768;
    assert_fault(VEC_PF, 0x0f, 0xae, 0x23);
    r->v->gpr[RAX] = 3;
    assert_fault(-1, 0x0f, 0xae, 0x23);

    r->v->gpr[RBX] = GUEST_DATA;
    memset(area, 0, AREA);
    assert_fault(-1, 0x0f, 0xae, 0x2b); /* xrstor */
    area[512] = 8;                      /* a component that XCR0 has not */
    assert_fault(VEC_GP, 0x0f, 0xae, 0x2b);
    area[512] = 0;
    area[528] = 1; /* reserved */
    assert_fault(VEC_GP, 0x0f, 0xae, 0x2b);
    area[528] = 0;
    store_le(area + 24, 0x10000000, 4); /* MXCSR */
    assert_fault(VEC_GP, 0x0f, 0xae, 0x2b);
    assert_fault(VEC_GP, 0x0f, 0xae, 0x0b); /* fxrstor */
    r->v->gpr[RBX] = GUEST_DATA + 24;
    assert_fault(VEC_GP, 0x0f, 0xae, 0x13); /* ldmxcsr */
}

/* --- elements --- */

static void test_masked_moves(void **state)
{
    struct rig *r = *state;
    u8 in[AREA];
    reset(r);
    for (unsigned round = 0; round < 50; round++) {
        random_area(in);
        for (unsigned w = 0; w < 2; w++)
            for (unsigned l = 0; l < 2; l++) {
                const u8 last = (u8)(0x71 | l << 2), wide = (u8)(last | w << 7);
                fresh(r, 0);
                COMPARE(0, in, 0, 0, 0xc4, 0xe2, last, (u8)(0x2c + w), 0x13); /* vmaskmov load */
                COMPARE(0, in, 0, 0, 0xc4, 0xe2, last, (u8)(0x2e + w), 0x03);
                COMPARE(0, in, 0, 0, 0xc4, 0xe2, wide, 0x8c, 0x13); /* vpmaskmov */
                COMPARE(0, in, 0, 0, 0xc4, 0xe2, wide, 0x8e, 0x03);
            }
    }
}

static void test_masked_faults(void **state)
{
    struct rig *r = *state;
    reset(r);
    struct fpu_state *f = &r->v->fpu;
    memset(f->legacy.xmm[1], 0, 16);
    memset(f->ymm_hi[1], 0, 16);
    f->legacy.xmm[1][3] = 0x80; /* only the first element */
    r->v->gpr[RBX] = GUEST_HOLE - 4;
    store_le(r->ram + GUEST_HOLE - 4, 0x12345678, 4);
    assert_fault(-1, 0xc4, 0xe2, 0x75, 0x2c, 0x13); /* vmaskmovps ymm2, ymm1, [rbx] */
    assert_int_equal(load_le(f->legacy.xmm[2], 8), 0x12345678);
    f->legacy.xmm[1][7] = 0x80;
    assert_fault(VEC_PF, 0xc4, 0xe2, 0x75, 0x2c, 0x13);
    assert_fault(VEC_PF, 0xc4, 0xe2, 0x75, 0x2e, 0x03); /* store: nothing is written */
    assert_int_equal(load_le(r->ram + GUEST_HOLE - 4, 4), 0x12345678);

    memset(f->legacy.xmm[1], 0, 16);
    f->legacy.xmm[1][1] = 0x80;
    r->v->gpr[RDI] = GUEST_HOLE - 2;
    f->legacy.xmm[0][1] = 0x5a;
    assert_fault(-1, 0x66, 0x0f, 0xf7, 0xc1); /* maskmovdqu xmm0, xmm1 */
    assert_int_equal(load_le(r->ram + GUEST_HOLE - 2, 2), 0x5a34);
    f->legacy.xmm[1][2] = 0x80;
    assert_fault(VEC_PF, 0x66, 0x0f, 0xf7, 0xc1);
}

static void test_maskmovq(void **state)
{
    struct rig *r = *state;
    struct fpu_legacy *x = &r->v->fpu.legacy;
    reset(r);
    x->fsw = 3 << 11; /* TOP 3: MM0 is ST(5), MM1 is ST(6) */
    x->ftw_abridged = 0;
    store_le(x->st[5], 0x1122334455667788, 8);
    store_le(x->st[6], 0x8000000000008080, 8);
    r->v->gpr[RDI] = GUEST_DATA;
    memset(r->ram + GUEST_DATA, 0, 8);
    assert_fault(-1, 0x0f, 0xf7, 0xc1); /* maskmovq mm0, mm1 */
    assert_int_equal(load_le(r->ram + GUEST_DATA, 8), 0x1100000000007788);
    assert_int_equal(x->fsw, 0);
    assert_int_equal(x->ftw_abridged, 0xff);
    assert_int_equal(load_le(x->st[0], 8), 0x1122334455667788);
}

static void test_gathers(void **state)
{
    struct rig *r = *state;
    u8 in[AREA];
    reset(r);
    for (unsigned n = 0; n < 50 * 16; n++) {
        unsigned op = 0x90 + (n & 3), w = n >> 2 & 1, l = n >> 3 & 1;
        random_area(in);
        fresh(r, 0);
        struct fpu_state *f = &r->v->fpu;
        for (unsigned e = 0; e < 4; e++) { /* ymm2: small indices, of 4 bytes or of 8 */
            store_le(f->legacy.xmm[2] + 4 * e, op & 1 && e & 1 ? 0 : rnd() % 64, 4);
            store_le(f->ymm_hi[2] + 4 * e, op & 1 && e & 1 ? 0 : rnd() % 64, 4);
        }
        /* vgather xmm0/ymm0, [rbx + xmm2/ymm2 * 4], xmm1/ymm1 */
        COMPARE(0, in, 0, 0, 0xc4, 0xe2, (u8)(0x71 | w << 7 | l << 2), (u8)op, 0x04, 0x93);
    }
}

static void test_gather_fault(void **state)
{
    struct rig *r = *state;
    struct fpu_state *f = &r->v->fpu;
    reset(r);
    memset(f->legacy.xmm[1], 0xff, 16);
    memset(f->legacy.xmm[2], 0, 16);
    store_le(f->legacy.xmm[2] + 4, 0xffffffff, 4); /* -1 */
    store_le(f->legacy.xmm[2] + 8, GUEST_HOLE - GUEST_DATA, 4);
    store_le(r->ram + GUEST_DATA - 1, 0x11223344aa, 8);
    r->v->gpr[RBX] = GUEST_DATA;
    assert_fault(VEC_PF, 0xc4, 0xe2, 0x71, 0x90, 0x04, 0x13); /* vpgatherdd, scale 1 */
    assert_int_equal(r->v->fault.cr2, GUEST_HOLE);
    assert_int_equal(load_le(f->legacy.xmm[0], 8), 0x223344aa11223344);
    assert_int_equal(load_le(f->legacy.xmm[1], 8), 0);
    assert_int_equal(load_le(f->legacy.xmm[1] + 8, 8), ~0ULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_save_images),   cmocka_unit_test(test_restore_images),
        cmocka_unit_test(test_environment),   cmocka_unit_test(test_pointers),
        cmocka_unit_test(test_save_faults),   cmocka_unit_test(test_masked_moves),
        cmocka_unit_test(test_masked_faults), cmocka_unit_test(test_maskmovq),
        cmocka_unit_test(test_gathers),       cmocka_unit_test(test_gather_fault),
    };
    keep_handlers();
    return cmocka_run_group_tests(tests, rig_create, rig_destroy);
}
