/*
 * Page walks: rights, reserved bits, error codes and accessed/dirty bits in every paging mode.
 */
#include "fixture.h"

#define OK (-1)
#define R  ACCESS_READ
#define WR ACCESS_WRITE
#define X  ACCESS_EXEC

#define LIN (0x7ULL << 12) /* the page that the 4 KiB cases map */

struct rights_case {
    const char *name;
    u64 cr0_clear, cr4_set, efer_clear;
    u64 pml4e, pdpte, pde, pte; /* flags */
    unsigned access;
    bool user, ac;
    int expect;
};

#define ALL (P | W | U)

static const struct rights_case rights[] = {
    {"user read", 0, 0, 0, ALL, ALL, ALL, ALL, R, true, false, OK},
    {"user write", 0, 0, 0, ALL, ALL, ALL, ALL, WR, true, false, OK},
    {"user fetch", 0, 0, 0, ALL, ALL, ALL, ALL, X, true, false, OK},
    {"pml4e absent", 0, 0, 0, 0, ALL, ALL, ALL, R, true, false, PF_U},
    {"pdpte absent", 0, 0, 0, ALL, 0, ALL, ALL, WR, true, false, PF_U | PF_W},
    {"pde absent", 0, 0, 0, ALL, ALL, 0, ALL, X, true, false, PF_U | PF_I},
    {"pte absent", 0, 0, 0, ALL, ALL, ALL, 0, R, false, false, 0},
    {"absent ignores reserved", 0, 0, 0, ALL, ALL, ALL, BIT(51), R, false, false, 0},
    {"no I without NXE and SMEP", 0, 0, EFER_NXE, ALL, ALL, ALL, 0, X, false, false, 0},
    {"I with SMEP", 0, CR4_SMEP, EFER_NXE, ALL, ALL, ALL, 0, X, false, false, PF_I},
    {"user in pml4e", 0, 0, 0, P | W, ALL, ALL, ALL, R, true, false, PF_P | PF_U},
    {"user in pdpte", 0, 0, 0, ALL, P | W, ALL, ALL, R, true, false, PF_P | PF_U},
    {"user in pde", 0, 0, 0, ALL, ALL, P | W, ALL, R, true, false, PF_P | PF_U},
    {"user in pte", 0, 0, 0, ALL, ALL, ALL, P | W, X, true, false, PF_P | PF_U | PF_I},
    {"write in pml4e", 0, 0, 0, P | U, ALL, ALL, ALL, WR, true, false, PF_P | PF_W | PF_U},
    {"write in pte", 0, 0, 0, ALL, ALL, ALL, P | U, WR, true, false, PF_P | PF_W | PF_U},
    {"kernel write, WP", 0, 0, 0, ALL, ALL, P, P | W, WR, false, false, PF_P | PF_W},
    {"kernel write, no WP", CR0_WP, 0, 0, ALL, ALL, P, P, WR, false, false, OK},
    {"user write, no WP", CR0_WP, 0, 0, ALL, ALL, ALL, P | U, WR, true, false, PF_P | PF_W | PF_U},
    {"nx in pml4e", 0, 0, 0, ALL | NX, ALL, ALL, ALL, X, true, false, PF_P | PF_U | PF_I},
    {"nx in pte", 0, 0, 0, ALL, ALL, ALL, ALL | NX, X, false, false, PF_P | PF_I},
    {"nx read", 0, 0, 0, ALL, ALL, ALL, ALL | NX, R, false, false, OK},
    {"bit 63 without NXE", 0, 0, EFER_NXE, ALL, ALL, ALL, ALL | NX, R, false, false,
     PF_P | PF_RSVD},
    {"past MAXPHYADDR", 0, 0, 0, ALL, ALL, ALL, ALL | BIT(40), R, true, false,
     PF_P | PF_RSVD | PF_U},
    {"past MAXPHYADDR, pml4e", 0, 0, 0, ALL | BIT(51), ALL, ALL, ALL, WR, false, false,
     PF_P | PF_RSVD | PF_W},
    {"bit 52 is free", 0, 0, 0, ALL | BIT(52), ALL | BIT(58), ALL, ALL | BIT(62), R, true, false,
     OK},
    {"PS in pml4e", 0, 0, 0, ALL | PS, ALL, ALL, ALL, R, true, false, PF_P | PF_RSVD | PF_U},
    {"PAT in pte", 0, 0, 0, ALL, ALL, ALL, ALL | BIT(7), R, true, false, OK},
    {"SMEP", 0, CR4_SMEP, 0, ALL, ALL, ALL, ALL, X, false, false, PF_P | PF_I},
    {"SMEP without NXE", 0, CR4_SMEP, EFER_NXE, ALL, ALL, ALL, ALL, X, false, false, PF_P | PF_I},
    {"SMEP, kernel page", 0, CR4_SMEP, 0, ALL, ALL, ALL, P | W, X, false, false, OK},
    {"SMEP, user", 0, CR4_SMEP, 0, ALL, ALL, ALL, ALL, X, true, false, OK},
    {"SMEP is not for reads", 0, CR4_SMEP, 0, ALL, ALL, ALL, ALL, R, false, false, OK},
    {"SMAP read", 0, CR4_SMAP, 0, ALL, ALL, ALL, ALL, R, false, false, PF_P},
    {"SMAP write", 0, CR4_SMAP, 0, ALL, ALL, ALL, ALL, WR, false, false, PF_P | PF_W},
    {"SMAP with AC", 0, CR4_SMAP, 0, ALL, ALL, ALL, ALL, WR, false, true, OK},
    {"SMAP with AC, read-only", 0, CR4_SMAP, 0, ALL, ALL, ALL, P | U, WR, false, true, PF_P | PF_W},
    {"SMAP is not for fetches", 0, CR4_SMAP, 0, ALL, ALL, ALL, ALL, X, false, false, OK},
    {"SMAP, user", 0, CR4_SMAP, 0, ALL, ALL, ALL, ALL, R, true, false, OK},
};

/* What the entry at gpa should be after a walk: A set on success, D in the last on a write. */
static void check_bits(void **state, u64 gpa, u64 before, bool a, bool d)
{
    assert_int_equal(peek(state, gpa, 8), before | (a ? A : 0) | (d ? D : 0));
}

static void run_rights(void **state, const struct rights_case *c)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_long_mode(v);
    v->cr0 &= ~c->cr0_clear;
    v->cr4 |= c->cr4_set;
    v->efer &= ~c->efer_clear;
    u64 pte = PT + 8 * 7, pte_value = DATA | c->pte;
    poke(state, TOP, PDPT | c->pml4e, 8);
    poke(state, PDPT, PD | c->pdpte, 8);
    poke(state, PD, PT | c->pde, 8);
    poke(state, pte, pte_value, 8);
    struct walk_result r;
    u32 error = 0;
    int ret = walk(v, LIN + 0x123, c->access, c->user, c->ac, &r, &error);
    bool ok = ret == 0;
    if (ok ? c->expect != OK : (int)error != c->expect)
        fail_msg("%s: result %d, error %#x", c->name, ret, error);
    check_bits(state, TOP, PDPT | c->pml4e, ok, false);
    check_bits(state, PDPT, PD | c->pdpte, ok, false);
    check_bits(state, PD, PT | c->pde, ok, false);
    check_bits(state, pte, pte_value, ok, ok && c->access == WR);
    if (ok)
        assert_int_equal(r.gpa, DATA + 0x123);
}

static void test_rights(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rights); i++)
        run_rights(state, &rights[i]);
}

/* A walk that must succeed at CPL 0, or fail with `error`. */
static void expect_walk(struct vcpu *v, u64 lin, unsigned access, int expect, u64 gpa,
                        unsigned shift)
{
    struct walk_result r;
    u32 error = 0;
    int ret = walk(v, lin, access, false, false, &r, &error);
    assert_int_equal(ret ? (int)error : OK, expect);
    if (ret)
        return;
    assert_int_equal(r.gpa, gpa);
    assert_int_equal(r.shift, shift);
}

static void test_long_large(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_long_mode(v);
    long_tables(state);
    poke(state, PD + 8, 0x2000000 | P | W | PS | BIT(12), 8); /* PAT bit set */
    expect_walk(v, 0x2abcde, R, OK, 0x20abcde, 21);
    assert_int_equal(peek(state, PD + 8, 8), 0x2000000 | P | W | PS | BIT(12) | A);
    expect_walk(v, 0x2abcde, WR, OK, 0x20abcde, 21);
    assert_int_equal(peek(state, PD + 8, 8), 0x2000000 | P | W | PS | BIT(12) | A | D);
    poke(state, PD + 8, 0x2002000 | P | W | PS, 8);
    expect_walk(v, 0x200000, R, PF_P | PF_RSVD, 0, 0);
    poke(state, PDPT + 8, 0x40000000 | P | W | PS, 8);
    expect_walk(v, 0x40123456, WR, OK, 0x40123456, 30);
    assert_int_equal(peek(state, PDPT + 8, 8), 0x40000000 | P | W | PS | A | D);
    poke(state, PDPT + 8, 0x50000000 | P | W | PS, 8);
    expect_walk(v, 0x40123456, WR, PF_P | PF_RSVD | PF_W, 0, 0);
}

static void test_high_half(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_long_mode(v);
    poke(state, TOP + 8 * 511, PDPT | P | W, 8);
    poke(state, PDPT + 8 * 510, PD | P | W, 8);
    poke(state, PD + 8 * 8, 0x1000000 | P | W | PS | G, 8);
    struct walk_result r;
    u32 error;
    assert_int_equal(walk(v, 0xffffffff81000010, X, false, false, &r, &error), 0);
    assert_int_equal(r.gpa, 0x1000010);
    assert_true(r.global);
    v->cr4 &= ~CR4_PGE;
    assert_int_equal(walk(v, 0xffffffff81000010, X, false, false, &r, &error), 0);
    assert_false(r.global);
}

static void test_legacy32(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    set_mode(v, CR0_PE | CR0_PG | CR0_WP, 0, 0, SEG_DB);
    poke(state, TOP + 4 * 2, PT | P | W | PS, 4); /* PS means nothing without CR4.PSE */
    poke(state, PT + 4 * 3, DATA | P, 4);
    expect_walk(v, 0x803456, R, OK, DATA + 0x456, 12);
    assert_int_equal(peek(state, TOP + 8, 4), PT | P | W | PS | A);
    assert_int_equal(peek(state, PT + 12, 4), DATA | P | A);
    expect_walk(v, 0x803456, WR, PF_P | PF_W, 0, 0);
    expect_walk(v, 0x804000, WR, PF_W, 0, 0);
    expect_walk(v, 0x804000, X, 0, 0, 0);
    v->cr4 = CR4_SMEP;
    expect_walk(v, 0x804000, X, PF_I, 0, 0);
    expect_walk(v, 0xfff00000, R, 0, 0, 0);
}

static void test_pse36(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    set_mode(v, CR0_PE | CR0_PG | CR0_WP, CR4_PSE, 0, SEG_DB);
    poke(state, TOP + 4, 0x00c00000 | P | W | PS | BIT(12), 4);
    expect_walk(v, 0x7abcde, WR, OK, 0xfabcde, 22);
    assert_int_equal(peek(state, TOP + 4, 4), 0x00c00000 | P | W | PS | BIT(12) | A | D);
    /* Bits 20:13 are address bits 39:32 (MAXPHYADDR is 40 here); bit 21 is reserved. */
    poke(state, TOP + 4, 0x00c00000 | P | W | PS | BIT(20) | BIT(13), 4);
    expect_walk(v, 0x7abcde, R, OK, 0x8100fabcde, 22);
    poke(state, TOP + 4, 0x00c00000 | P | W | PS | BIT(21), 4);
    expect_walk(v, 0x7abcde, R, PF_P | PF_RSVD, 0, 0);
}

static void enter_pae(void **state, u64 efer)
{
    struct vcpu *v = fixture_vcpu(state);
    set_mode(v, CR0_PE | CR0_PG | CR0_WP, CR4_PAE, efer, SEG_DB);
    for (unsigned i = 0; i < 4; i++)
        poke(state, PDPT + 8 * i, i == 3 ? PD | P : 0, 8);
    v->cr3 = PDPT;
    assert_true(walk_load_pdptes(v, PDPT));
}

static void test_pae(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_pae(state, EFER_NXE);
    poke(state, PD, PT | P | W | U, 8);
    poke(state, PT + 8, DATA | P | W | NX, 8);
    expect_walk(v, 0xc0001abc, WR, OK, DATA + 0xabc, 12);
    assert_int_equal(peek(state, PT + 8, 8), DATA | P | W | NX | A | D);
    assert_int_equal(peek(state, PDPT + 24, 8), PD | P); /* no A bit there */
    expect_walk(v, 0xc0001abc, X, PF_P | PF_I, 0, 0);
    expect_walk(v, 0x1abc, WR, PF_W, 0, 0);
    poke(state, PD + 8, 0x800000 | P | W | PS, 8);
    expect_walk(v, 0xc0345678, R, OK, 0x945678, 21);
    poke(state, PT + 16, DATA | P | BIT(62), 8); /* 62:52 are reserved in PAE */
    expect_walk(v, 0xc0002000, R, PF_P | PF_RSVD, 0, 0);
    enter_pae(state, 0);
    expect_walk(v, 0xc0001abc, R, PF_P | PF_RSVD, 0, 0);
}

static void test_pdptes(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_pae(state, EFER_NXE);
    poke(state, PD, PT | P | W, 8);
    poke(state, PT, DATA | P, 8);
    poke(state, PDPT + 24, 0, 8); /* only a load of CR3 looks at it again */
    expect_walk(v, 0xc0000000, R, OK, DATA, 12);
    static const u64 bad[] = {W, U, BIT(5), BIT(8), BIT(40), BIT(63)};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        poke(state, PDPT + 16, PD | P | bad[i], 8);
        assert_false(walk_load_pdptes(v, PDPT));
        poke(state, PDPT + 16, PD | bad[i], 8); /* not present: anything goes */
        assert_true(walk_load_pdptes(v, PDPT));
        assert_int_equal(v->pdpte[2], PD | bad[i]);
    }
    expect_walk(v, 0xc0000000, R, 0, 0, 0);
    assert_true(walk_load_pdptes(v, PDPT + 32)); /* aligned to 32 bytes only */
}

static void test_tables_outside_ram(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_long_mode(v);
    v->cr3 = 0xf0000000; /* all ones: PS in a PML4E and address bits past MAXPHYADDR */
    expect_walk(v, 0x1000, R, PF_P | PF_RSVD, 0, 0);
}

static void test_a20(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_prot32(v);
    expect_walk(v, 0x100010, R, OK, 0x100010, 32);
    assert_true(guestmem_set_a20(fixture_mem(state), false));
    assert_false(guestmem_set_a20(fixture_mem(state), false));
    expect_walk(v, 0x100010, R, OK, 0x10, 32);
    enter_long_mode(v);
    long_tables(state); /* below 1 MiB */
    v->cr3 = TOP + MIB; /* reaches the same table */
    map_page(state, 0, 0x300000 | P);
    expect_walk(v, 0x10, R, OK, 0x200010, 12);
    poke(state, PD + 8, 0x600000 | P | PS, 8);
    expect_walk(v, 0x312345, R, OK, 0x612345, 21);
    assert_true(guestmem_set_a20(fixture_mem(state), true));
}

static void test_peek(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    u64 gpa;
    enter_long_mode(v);
    long_tables(state);
    map_page(state, 0x5000, DATA | P);
    map_page(state, 0x6000, 0);
    assert_true(walk_peek(v, 0x5432, &gpa));
    assert_int_equal(gpa, DATA + 0x432);
    assert_int_equal(peek(state, PT + 8 * 5, 8), DATA | P);
    assert_int_equal(peek(state, TOP, 8), PDPT | P | W | U);
    assert_false(walk_peek(v, 0x6000, &gpa));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rights),    TEST(test_long_large),
        TEST(test_high_half), TEST(test_legacy32),
        TEST(test_pse36),     TEST(test_pae),
        TEST(test_pdptes),    TEST(test_tables_outside_ram),
        TEST(test_a20),       TEST(test_peek),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
