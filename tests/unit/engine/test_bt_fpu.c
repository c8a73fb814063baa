/*
 * The guest's FPU state on its way through the host's registers, and the signals of translated
 * code: state that is loaded and saved again is the same, and a trap goes on at its place.
 */
#include "native_rig.h"

#include "engine/bt/tcache.h"

void thunks_emit(struct tcache *tc, struct thunks *t)
{
    (void)t;
    *tc->next++ = 0xc3;
}

static void expect_host_state(void)
{
    struct fpu_legacy now __attribute__((aligned(16)));
    __asm__ volatile("fxsave64 %0" : "=m"(now));
    assert_int_equal(now.fcw, 0x37f);
    assert_int_equal(now.fsw, 0);
    assert_int_equal(now.ftw_abridged, 0);
    assert_int_equal(now.mxcsr, 0x1f80);
}

/* Without vector registers: they hold the guest's state. */
static void fill_memory(void *p, u64 bytes)
{
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(bytes) : "a"(0xee) : "memory");
}

static void round_trip(struct rig *r)
{
    static struct fpu_state before;
    struct vcpu *v = r->v;
    v->fpu.legacy.fip = rnd();
    v->fpu.legacy.fdp = rnd();
    v->fpu.legacy.fop = (u16)(rnd() & 0x7ff);
    v->fpu.legacy.mxcsr_mask = 0xffff;
    v->fpu.fip_sel = 0x1234;
    v->fpu.xstate_bv = rnd() & 7;
    before = v->fpu;

    bt_fpu_load(v);
    fill_memory(v->fpu.ymm_hi, sizeof(v->fpu.ymm_hi));
    fill_memory(v->fpu.legacy.st, sizeof(v->fpu.legacy.st) + sizeof(v->fpu.legacy.xmm));
    fill_memory(&v->fpu.legacy.mxcsr, 4);
    fill_memory(&v->fpu.legacy, offsetof(struct fpu_legacy, fop));
    bt_fpu_save(v);
    expect_host_state();
    assert_int_equal(bt_cpu(v)->fp_live, 0);
    assert_int_equal(v->fpu.xstate_bv & before.xstate_bv, before.xstate_bv);
    assert_int_equal(v->fpu.xstate_bv & ~7ULL, 0);
    assert_int_equal(v->fpu.xcomp_bv, 0);
    for (unsigned n = 0; n < 8; n++)
        assert_memory_equal(v->fpu.legacy.st[n], before.legacy.st[n], 10);
    assert_memory_equal(&v->fpu.legacy, &before.legacy, offsetof(struct fpu_legacy, st));
    assert_memory_equal(v->fpu.legacy.xmm, before.legacy.xmm, sizeof(before.legacy.xmm));
    if (cpu_has(&r->model, FEAT_AVX))
        assert_memory_equal(v->fpu.ymm_hi, before.ymm_hi, sizeof(before.ymm_hi));
    assert_int_equal(v->fpu.fip_sel, 0x1234);
}

static void test_round_trip(void **state)
{
    struct rig *r = *state;
    for (unsigned n = 0; n < 200; n++) {
        random_fpu(&r->v->fpu);
        round_trip(r);
    }
    memset(r->v->fpu.legacy.xmm, 0, sizeof(r->v->fpu.legacy.xmm)); /* components that are initial */
    memset(r->v->fpu.ymm_hi, 0, sizeof(r->v->fpu.ymm_hi));
    round_trip(r);
}

/* Without FPU state in the registers nothing is saved. */
static void test_save_idle(void **state)
{
    struct rig *r = *state;
    static struct fpu_state before;
    random_fpu(&r->v->fpu);
    before = r->v->fpu;
    bt_fpu_save(r->v);
    assert_memory_equal(&r->v->fpu, &before, sizeof(before));
}

/* A machine whose AVX is withheld. */
static void test_legacy(void **state)
{
    struct rig *r = *state;
    bool avx = r->model.feature[FEAT_AVX];
    r->model.feature[FEAT_AVX] = false;
    test_round_trip(state);
    r->model.feature[FEAT_AVX] = avx;
}

/* --- signals --- */

static void add_trap(struct tcache *tc, const u8 *pc, const u8 *to)
{
    tc->trap[tc->traps++] = (struct trap){.pc = (u32)(pc - tc->rw), .to = (u32)(to - tc->rw)};
}

/* Code with RSP far from any stack, DF and AC set, that raises the signal; the trap's place returns
 * EFLAGS. */
static u64 raise_in_cache(struct tcache *tc, const u8 *bytes, unsigned len)
{
    /* pushfq; or dword [rsp], AC | DF; popfq */
    static const u8 set_flags[] = {0x9c, 0x81, 0x0c, 0x24, 0, 4, 4, 0, 0x9d};
    struct emit e = {.p = tc->next, .end = tc->next + 256};
    const u8 *start = e.p;
    emit_mov_reg(&e, 8, R8, RSP);
    for (unsigned n = 0; n < sizeof(set_flags); n++)
        emit8(&e, set_flags[n]);
    emit_mov_imm(&e, RSP, 0x1000);
    emit_mov_imm(&e, RCX, 0);
    const u8 *pc = e.p;
    for (unsigned n = 0; n < len; n++)
        emit8(&e, bytes[n]);
    emit8(&e, 0x0f);
    emit8(&e, 0x0b);
    add_trap(tc, pc, e.p);
    emit_mov_reg(&e, 8, RSP, R8);
    emit8(&e, 0x9c); /* pushfq; pop rax; ret */
    emit8(&e, 0x58);
    emit8(&e, 0xc3);
    tc->next = e.p;
    u64 (*run)(void) = (u64(*)(void))(uintptr_t)tcache_rx(tc, start);
    return run();
}

static void test_signals(void **state)
{
    struct rig *r = *state;
    static const u8 divide[] = {0xf7, 0xf1}, read[] = {0x8b, 0x04, 0x25, 8, 0, 0, 0},
                    undefined[] = {0x0f, 0x0b};
    struct error err;
    struct bt bt = {.m = &r->machine};
    stack_t before, after;
    u64 gs;
    assert_int_equal(tcache_create(&r->machine, MIB, &bt.tc, &err), 0);
    bt_cpu(r->v)->bt = &bt;
    sigaltstack(NULL, &before);
    assert_int_equal(bt_signal_attach(r->v, &err), 0);
    r->v->gpr[RBX] = 0x1122334455667788;
    __asm__("mov %%gs:%c1, %0" : "=r"(gs) : "i"(VCPU_AT(gpr) + 8 * RBX), "m"(*r->v));
    assert_int_equal(gs, 0x1122334455667788);
    for (unsigned n = 0; n < 3; n++) {
        const u64 cleared = FLAG_AC | FLAG_DF | FLAG_TF;
        assert_int_equal(raise_in_cache(bt.tc, divide, sizeof(divide)) & cleared, 0);
        assert_int_equal(raise_in_cache(bt.tc, read, sizeof(read)) & cleared, 0);
        assert_int_equal(raise_in_cache(bt.tc, undefined, sizeof(undefined)) & cleared, 0);
    }
    /* Thunks' signals are still the thunks'. */
    r->v->gpr[RBX] = GUEST_DATA + 1;
    assert_int_equal(GUEST(r, 0x0f, 0x28, 0x03), VEC_GP); /* movaps xmm0, [rbx] */
    bt_signal_detach(r->v);
    sigaltstack(NULL, &after);
    assert_ptr_equal(after.ss_sp, before.ss_sp);
    assert_int_equal(after.ss_flags, before.ss_flags);
    tcache_destroy(bt.tc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_save_idle),
        cmocka_unit_test(test_legacy),
        cmocka_unit_test(test_signals),
    };
    return cmocka_run_group_tests(tests, rig_create, rig_destroy);
}
