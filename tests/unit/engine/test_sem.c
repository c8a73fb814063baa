/*
 * Semantic functions where the host can't be the oracle: stack widths, branch checks, string
 * instructions across pages and faults, LOCK; and that no row of insn.def is without a function.
 */
#include "machine.h"

#include <pthread.h>
#include <stdio.h>

#include "cpu/insn.h"
#include "engine/sem/sem.h"

#define CODE_AT 0x5000
#define DATA_AT 0x40000

/* Runs one instruction at CODE_AT; returns the vector of its fault, or -1. */
static int step(struct test_machine *tm, const u8 *bytes, unsigned n)
{
    static struct insn i;
    struct vcpu *v = tm->v;
    assert_int_equal(insn_decode(bytes, n, (enum cpu_mode)v->mode, &i), DECODE_OK);
    assert_int_equal(i.len, n);
    sem_bind(v, &i);
    v->rip = CODE_AT + n;
    v->cur = &i;
    if (setjmp(v->unwind))
        return v->fault.vector;
    i.sem(v, &i);
    return -1;
}

#define STEP(tm, ...) step(tm, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* --- rows --- */

static void test_every_row_has_a_function(void **state)
{
    static sem_fn *const *const tables[OP_COUNT] = {
        [OP_INVALID] = NULL,
#define INSN(mnemonic, sem, class, flags) [OP_##mnemonic] = sem_##sem,
#include "cpu/insn.def"
#undef INSN
    };
    unsigned missing = 0;
    (void)state;
    for (unsigned op = OP_INVALID + 1; op < OP_COUNT; op++) {
        bool found = op_info[op].flags & INSN_NOT_YET;
        for (unsigned size = 0; size < 4; size++)
            found |= tables[op][size] != NULL;
        if (!found)
            print_error("%s has no semantic function and is not marked INSN_NOT_YET\n",
                        op_info[op].name);
        missing += !found;
    }
    assert_int_equal(missing, 0);
}

static void test_features_not_offered(void **state)
{
    static const u8 popcnt[] = {0xf3, 0x0f, 0xb8, 0xc1}, tzcnt[] = {0xf3, 0x0f, 0xbc, 0xc1};
    struct test_machine *tm = *state;
    long_mode(tm, CODE_AT);
    tm->model.feature[FEAT_POPCNT] = tm->model.feature[FEAT_BMI1] = false;
    assert_int_equal(step(tm, popcnt, sizeof(popcnt)), VEC_UD);
    tm->v->gpr[RAX] = 7; /* as BSF: the destination stays, ZF says why */
    tm->v->gpr[RCX] = 0;
    assert_int_equal(step(tm, tzcnt, sizeof(tzcnt)), -1);
    assert_int_equal(tm->v->gpr[RAX], 7);
    assert_true(tm->v->rflags & FLAG_ZF);
}

/* --- stack --- */

static void test_push_pop_widths(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    long_mode(tm, CODE_AT);
    v->gpr[RSP] = DATA_AT;
    v->gpr[RAX] = 0x1122334455667788;
    assert_int_equal(STEP(tm, 0x50), -1);
    assert_int_equal(v->gpr[RSP], DATA_AT - 8);
    assert_int_equal(get(tm, DATA_AT - 8, 8), 0x1122334455667788);
    assert_int_equal(STEP(tm, 0x66, 0x50), -1);
    assert_int_equal(v->gpr[RSP], DATA_AT - 10);
    assert_int_equal(STEP(tm, 0x6a, 0x80), -1);
    assert_int_equal(get(tm, DATA_AT - 18, 8), (u64)-128);
    assert_int_equal(STEP(tm, 0x54), -1); /* PUSH RSP: its value before */
    assert_int_equal(get(tm, DATA_AT - 26, 8), DATA_AT - 18);
    assert_int_equal(STEP(tm, 0x5c), -1); /* POP RSP: the value popped */
    assert_int_equal(v->gpr[RSP], DATA_AT - 18);
}

static void test_16_bit_stack(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    real_mode(tm, CODE_AT);
    v->gpr[RSP] = 0xabcd0002;
    v->gpr[RAX] = 0x11223344;
    assert_int_equal(STEP(tm, 0x50), -1);
    assert_int_equal(v->gpr[RSP], 0xabcd0000);
    assert_int_equal(STEP(tm, 0x66, 0x50), -1); /* wraps within 64 KiB */
    assert_int_equal(v->gpr[RSP], 0xabcdfffc);
    assert_int_equal(get(tm, 0xfffc, 4), 0x11223344);
    v->gpr[RSP] = 0xabcd0001; /* a word at 0xffff crosses the limit */
    assert_int_equal(STEP(tm, 0x50), VEC_SS);
    assert_int_equal(v->gpr[RSP], 0xabcd0001);
}

static void test_pop_memory(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    long_mode(tm, CODE_AT);
    v->gpr[RSP] = DATA_AT;
    put64(tm, DATA_AT, 0x1234);
    assert_int_equal(STEP(tm, 0x8f, 0x44, 0x24, 0x08), -1); /* pop [rsp + 8]: after increment */
    assert_int_equal(get(tm, DATA_AT + 16, 8), 0x1234);
    assert_int_equal(v->gpr[RSP], DATA_AT + 8);
    v->gpr[RAX] = 1ULL << 47; /* not canonical: rSP stays */
    assert_int_equal(STEP(tm, 0x8f, 0x00), VEC_GP);
    assert_int_equal(v->gpr[RSP], DATA_AT + 8);
}

static void test_pusha_popa(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    protected_mode(tm, CODE_AT);
    for (unsigned r = 0; r < 8; r++)
        v->gpr[r] = 0x100 + r;
    v->gpr[RSP] = DATA_AT;
    assert_int_equal(STEP(tm, 0x60), -1);
    assert_int_equal(v->gpr[RSP], DATA_AT - 32);
    assert_int_equal(get(tm, DATA_AT - 4, 4), 0x100);    /* EAX on top */
    assert_int_equal(get(tm, DATA_AT - 20, 4), DATA_AT); /* ESP before */
    assert_int_equal(get(tm, DATA_AT - 32, 4), 0x100 + RDI);
    store_le(tm->ram + DATA_AT - 20, 0xdead, 4);
    memset(v->gpr, 0, 4 * 8);
    assert_int_equal(STEP(tm, 0x61), -1);
    assert_int_equal(v->gpr[RSP], DATA_AT); /* the ESP slot is skipped */
    assert_int_equal(v->gpr[RAX], 0x100);
    assert_int_equal(v->gpr[RBX], 0x103);
}

static void test_enter_leave(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    long_mode(tm, CODE_AT);
    v->gpr[RSP] = DATA_AT;
    v->gpr[RBP] = DATA_AT + 0x100;
    put64(tm, DATA_AT + 0xf8, 0x1111);
    put64(tm, DATA_AT + 0xf0, 0x2222);
    assert_int_equal(STEP(tm, 0xc8, 0x10, 0x00, 0x03), -1);
    assert_int_equal(get(tm, DATA_AT - 8, 8), DATA_AT + 0x100);
    assert_int_equal(get(tm, DATA_AT - 16, 8), 0x1111);
    assert_int_equal(get(tm, DATA_AT - 24, 8), 0x2222);
    assert_int_equal(get(tm, DATA_AT - 32, 8), DATA_AT - 8);
    assert_int_equal(v->gpr[RBP], DATA_AT - 8);
    assert_int_equal(v->gpr[RSP], DATA_AT - 48);
    assert_int_equal(STEP(tm, 0xc9), -1);
    assert_int_equal(v->gpr[RBP], DATA_AT + 0x100);
    assert_int_equal(v->gpr[RSP], DATA_AT);
}

/* --- branches --- */

static void test_branches_16(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    real_mode(tm, CODE_AT);
    v->rflags = FLAG_ONE | FLAG_ZF;
    assert_int_equal(STEP(tm, 0x74, 0x80), -1);
    assert_int_equal(v->rip, CODE_AT + 2 - 0x80);
    assert_int_equal(STEP(tm, 0x75, 0x80), -1);
    assert_int_equal(v->rip, CODE_AT + 2);
    assert_int_equal(STEP(tm, 0xe9, 0x00, 0xc0), -1); /* wraps at 64 KiB */
    assert_int_equal(v->rip, 0x1003);
    v->gpr[RCX] = 0x10001; /* CX is what counts */
    assert_int_equal(STEP(tm, 0xe2, 0x10), -1);
    assert_int_equal(v->gpr[RCX], 0x10000);
    assert_int_equal(v->rip, CODE_AT + 2);
    assert_int_equal(STEP(tm, 0xe3, 0x10), -1);
    assert_int_equal(v->rip, CODE_AT + 0x12);
    v->gpr[RCX] = 5;
    assert_int_equal(STEP(tm, 0xe0, 0x10), -1); /* LOOPNE with ZF */
    assert_int_equal(v->gpr[RCX], 4);
    assert_int_equal(v->rip, CODE_AT + 2);
}

/* A bad target leaves everything as it was. */
static void test_bad_targets(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    protected_mode(tm, CODE_AT);
    v->seg[SEG_CS].limit = 0xffff;
    cpu_update_mode(v);
    v->gpr[RSP] = DATA_AT;
    v->gpr[RAX] = 0x10000;
    assert_int_equal(STEP(tm, 0xff, 0xd0), VEC_GP); /* call eax */
    assert_int_equal(v->gpr[RSP], DATA_AT);
    store_le(tm->ram + DATA_AT, 0x10000, 4);
    assert_int_equal(STEP(tm, 0xc2, 8, 0), VEC_GP); /* ret 8 */
    assert_int_equal(v->gpr[RSP], DATA_AT);
    v->gpr[RCX] = 9;
    assert_int_equal(STEP(tm, 0x67, 0xe2, 0x80), -1);
    v->gpr[RAX] = 0xffff;
    assert_int_equal(STEP(tm, 0xff, 0xd0), -1);
    assert_int_equal(v->rip, 0xffff);
    assert_int_equal(get(tm, DATA_AT - 4, 4), CODE_AT + 2);

    long_mode(tm, CODE_AT);
    v->gpr[RSP] = DATA_AT;
    v->gpr[RAX] = 1ULL << 47;
    assert_int_equal(STEP(tm, 0xff, 0xe0), VEC_GP);
    assert_int_equal(STEP(tm, 0xff, 0xd0), VEC_GP);
    assert_int_equal(v->gpr[RSP], DATA_AT);
    put64(tm, DATA_AT, 0xffff800000000000);
    assert_int_equal(STEP(tm, 0xc2, 8, 0), -1);
    assert_int_equal(v->rip, 0xffff800000000000);
    assert_int_equal(v->gpr[RSP], DATA_AT + 16);
}

/* --- strings --- */

/* 4 KiB pages instead of the 2 MiB one at 0, so that one can be taken away. */
static void small_pages(struct test_machine *tm, u64 hole)
{
    const u64 table = PML4_AT + 0x4000;
    for (u64 n = 0; n < 512; n++)
        put64(tm, table + 8 * n, n << 12 == hole ? 0 : n << 12 | 7);
    put64(tm, PML4_AT + 0x2000, table | 7);
    tlb_flush_all(tm->v);
}

static void test_string_fault_in_the_middle(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    long_mode(tm, CODE_AT);
    small_pages(tm, DATA_AT + 0x2000);
    for (unsigned n = 0; n < 0x2000; n++)
        tm->ram[DATA_AT + n] = (u8)(n * 7);
    v->gpr[RSI] = DATA_AT + 3;
    v->gpr[RDI] = DATA_AT + 0x1ff0;
    v->gpr[RCX] = 100;
    assert_int_equal(STEP(tm, 0xf3, 0xa4), VEC_PF);
    assert_int_equal(v->fault.cr2, DATA_AT + 0x2000);
    assert_int_equal(v->gpr[RCX], 100 - 16);
    assert_int_equal(v->gpr[RSI], DATA_AT + 3 + 16);
    assert_int_equal(v->gpr[RDI], DATA_AT + 0x2000);
    assert_memory_equal(tm->ram + DATA_AT + 0x1ff0, tm->ram + DATA_AT + 3, 16);
    /* Down into the hole: the element that crosses the page is not stored at all. */
    small_pages(tm, DATA_AT - 0x1000);
    v->rflags |= FLAG_DF;
    v->gpr[RDI] = DATA_AT + 5;
    v->gpr[RCX] = 3;
    v->gpr[RAX] = 0x8877665544332211;
    assert_int_equal(STEP(tm, 0xf3, 0xab), VEC_PF);
    assert_int_equal(v->gpr[RCX], 1);
    assert_int_equal(v->gpr[RDI], DATA_AT - 3);
    assert_int_equal(get(tm, DATA_AT + 1, 8), 0x4433221144332211);
}

static void test_string_across_pages(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    static u8 want[0x3000];
    long_mode(tm, CODE_AT);
    for (unsigned n = 0; n < sizeof(want); n++)
        tm->ram[DATA_AT + n] = want[n] = (u8)(n ^ n >> 8);
    memmove(want + 0x801, want + 5, 0x1801);
    v->gpr[RSI] = DATA_AT + 5;
    v->gpr[RDI] = DATA_AT + 0x10000;
    v->gpr[RCX] = 0x300;
    assert_int_equal(STEP(tm, 0xf3, 0x48, 0xa5), -1);
    assert_int_equal(v->gpr[RCX], 0);
    assert_memory_equal(tm->ram + DATA_AT + 0x10000, tm->ram + DATA_AT + 5, 0x1800);
    /* Backwards over itself, bytes: what memmove does. */
    v->rflags |= FLAG_DF;
    v->gpr[RSI] = DATA_AT + 5 + 0x1800;
    v->gpr[RDI] = DATA_AT + 0x801 + 0x1800;
    v->gpr[RCX] = 0x1801;
    while (v->gpr[RCX]) {
        assert_int_equal(STEP(tm, 0xf3, 0xa4), -1);
        assert_int_equal(v->rip, v->gpr[RCX] ? CODE_AT : CODE_AT + 2); /* again, or done */
    }
    assert_memory_equal(tm->ram + DATA_AT, want, sizeof(want));
}

static void test_string_replicates(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    long_mode(tm, CODE_AT);
    memcpy(tm->ram + DATA_AT, "abc", 3);
    v->gpr[RSI] = DATA_AT;
    v->gpr[RDI] = DATA_AT + 3;
    v->gpr[RCX] = 300;
    assert_int_equal(STEP(tm, 0xf3, 0xa4), -1);
    for (unsigned n = 0; n < 303; n++)
        assert_int_equal(tm->ram[DATA_AT + n], "abc"[n % 3]);
}

static void test_string_events(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    long_mode(tm, CODE_AT);
    v->gpr[RDI] = DATA_AT;
    v->gpr[RCX] = TUNE_REP_CHUNK + 10;
    assert_int_equal(STEP(tm, 0xf3, 0xaa), -1);
    assert_int_equal(v->gpr[RCX], 10);
    assert_int_equal(v->rip, CODE_AT);
    v->rflags |= FLAG_TF; /* one iteration each */
    assert_int_equal(STEP(tm, 0xf3, 0xaa), -1);
    assert_int_equal(v->gpr[RCX], 9);
    v->rflags &= ~FLAG_TF;
    v->gpr[RDI] = DATA_AT + 0xfff;
    vcpu_raise(v, EVENT_INTR); /* seen after the block that ends with the page */
    assert_int_equal(STEP(tm, 0xf3, 0xaa), -1);
    assert_int_equal(v->gpr[RCX], 8);
    assert_int_equal(v->rip, CODE_AT);
    v->gpr[RCX] = 0;
    assert_int_equal(STEP(tm, 0xf3, 0xaa), -1);
    assert_int_equal(v->rip, CODE_AT + 2);
}

static void test_string_segments(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    real_mode(tm, CODE_AT);
    v->seg[SEG_DS].base = 0x10000;
    v->seg[SEG_ES].base = 0x30000;
    memset(tm->ram + 0x1fff0, 'x', 16);
    memset(tm->ram + 0x10000, 'y', 16);
    v->gpr[RSI] = 0xdead0000fff8; /* wraps within 64 KiB, upper halves stay */
    v->gpr[RDI] = 0x100;
    v->gpr[RCX] = 0xbeef0010;
    assert_int_equal(STEP(tm, 0xf3, 0xa4), -1);
    assert_memory_equal(tm->ram + 0x30100, "xxxxxxxxyyyyyyyy", 16);
    assert_int_equal(v->gpr[RSI], 0xdead00000008);
    assert_int_equal(v->gpr[RCX], 0xbeef0000);
    v->seg[SEG_ES].limit = 0x107; /* runs into the limit after eight bytes */
    v->gpr[RDI] = 0x100;
    v->gpr[RCX] = 16;
    assert_int_equal(STEP(tm, 0xf3, 0xaa), VEC_GP);
    assert_int_equal(v->gpr[RCX] & 0xffff, 8);
    assert_int_equal(v->gpr[RDI] & 0xffff, 0x108);
}

static void test_scan_and_compare(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    long_mode(tm, CODE_AT);
    memset(tm->ram + DATA_AT, 'a', 0x1800);
    memset(tm->ram + DATA_AT + 0x2000, 'a', 0x1800);
    tm->ram[DATA_AT + 0x1234] = 'b';
    v->gpr[RDI] = DATA_AT;
    v->gpr[RCX] = ~0ULL;
    v->gpr[RAX] = 'b';
    while (STEP(tm, 0xf2, 0xae) == -1 && v->rip == CODE_AT)
        ;
    assert_int_equal(v->gpr[RDI], DATA_AT + 0x1235);
    assert_true(v->rflags & FLAG_ZF);
    v->gpr[RSI] = DATA_AT;
    v->gpr[RDI] = DATA_AT + 0x2000;
    v->gpr[RCX] = 0x600;
    assert_int_equal(STEP(tm, 0xf3, 0xa7), -1);
    assert_int_equal(v->gpr[RSI], DATA_AT + 0x1238);
    assert_int_equal(v->gpr[RCX], 0x600 - 0x1238 / 4);
    assert_false(v->rflags & FLAG_ZF);
}

/* --- LOCK: no increment of two vCPUs' threads gets lost --- */

struct adder {
    struct vcpu v;
    struct insn i;
};

enum { ADDS = 200000 };

static void *add_many(void *ctx)
{
    static const u8 bytes[] = {0xf0, 0x48, 0xff, 0x03}; /* lock inc qword [rbx] */
    struct adder *a = ctx;
    if (insn_decode(bytes, sizeof(bytes), MODE_LONG64, &a->i) != DECODE_OK || setjmp(a->v.unwind))
        return NULL;
    sem_bind(&a->v, &a->i);
    a->v.cur = &a->i;
    for (unsigned n = 0; n < ADDS; n++)
        a->i.sem(&a->v, &a->i);
    return NULL;
}

static void test_lock_is_atomic(void **state)
{
    struct test_machine *tm = *state;
    static struct adder adders[2];
    pthread_t threads[2];
    long_mode(tm, CODE_AT);
    tm->v->gpr[RBX] = DATA_AT;
    put64(tm, DATA_AT, 0);
    for (unsigned n = 0; n < 2; n++) {
        adders[n].v = *tm->v;
        assert_int_equal(tlb_create(&adders[n].v), 0);
        assert_int_equal(pthread_create(&threads[n], NULL, add_many, &adders[n]), 0);
    }
    for (unsigned n = 0; n < 2; n++) {
        pthread_join(threads[n], NULL);
        tlb_destroy(&adders[n].v);
    }
    assert_int_equal(get(tm, DATA_AT, 8), 2 * ADDS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_has_a_function),
        TEST(test_features_not_offered),
        TEST(test_push_pop_widths),
        TEST(test_16_bit_stack),
        TEST(test_pop_memory),
        TEST(test_pusha_popa),
        TEST(test_enter_leave),
        TEST(test_branches_16),
        TEST(test_bad_targets),
        TEST(test_string_fault_in_the_middle),
        TEST(test_string_across_pages),
        TEST(test_string_replicates),
        TEST(test_string_events),
        TEST(test_string_segments),
        TEST(test_scan_and_compare),
        TEST(test_lock_is_atomic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
