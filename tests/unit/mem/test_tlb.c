/*
 * What the TLB may remember and what a flush must drop. Each test changes page tables without a
 * flush, sees the old translation, flushes, and sees the new one.
 */
#include "fixture.h"

#define OLD 0x111111
#define NEW 0x222222

#define LIN  0x5000ULL
#define BIGL 0x200000ULL /* where a 2 MiB page lies */

static int setup(void **state)
{
    fixture_setup(state);
    enter_long_mode(fixture_vcpu(state));
    long_tables(state);
    for (u64 page = 0; page < 16; page++) {
        poke(state, DATA + page * PAGE_SIZE, OLD, 4);
        poke(state, 2 * DATA + page * PAGE_SIZE, NEW, 4);
    }
    return 0;
}

static u64 read4(struct vcpu *v, u64 lin)
{
    volatile u64 value = 0;
    assert_no_fault(v, value = lin_read(v, lin, 4));
    return value;
}

/* Maps LIN to the old page, reads it, then points the tables to the new page. */
static void cache_and_remap(void **state, u64 flags)
{
    struct vcpu *v = fixture_vcpu(state);
    map_page(state, LIN, DATA | P | W | flags);
    tlb_flush_page(v, LIN);
    assert_int_equal(read4(v, LIN), OLD);
    map_page(state, LIN, 2 * DATA | P | W | flags);
    assert_int_equal(read4(v, LIN), OLD);
}

static void test_invlpg(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    cache_and_remap(state, 0);
    tlb_flush_page(v, LIN + 0x1000);
    assert_int_equal(read4(v, LIN), OLD);
    tlb_flush_page(v, LIN + 0xfff);
    assert_int_equal(read4(v, LIN), NEW);
    cache_and_remap(state, G);
    tlb_flush_page(v, LIN);
    assert_int_equal(read4(v, LIN), NEW);
}

static void test_global(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    cache_and_remap(state, 0);
    tlb_flush_nonglobal(v);
    assert_int_equal(read4(v, LIN), NEW);
    cache_and_remap(state, G);
    tlb_flush_nonglobal(v);
    assert_int_equal(read4(v, LIN), OLD);
    tlb_flush_all(v);
    assert_int_equal(read4(v, LIN), NEW);
    v->cr4 &= ~CR4_PGE; /* G means nothing */
    tlb_flush_all(v);
    cache_and_remap(state, G);
    tlb_flush_nonglobal(v);
    assert_int_equal(read4(v, LIN), NEW);
}

static void use_pcid(struct vcpu *v, u64 pcid)
{
    v->cr4 |= CR4_PCIDE;
    v->cr3 = TOP | pcid;
    tlb_switch(v);
}

static void test_pcid(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    use_pcid(v, 1);
    cache_and_remap(state, 0);
    use_pcid(v, 2);
    assert_int_equal(read4(v, LIN), NEW);
    use_pcid(v, 1);
    assert_int_equal(read4(v, LIN), OLD);
    tlb_flush_pcid(v, 2);
    assert_int_equal(read4(v, LIN), OLD);
    tlb_flush_pcid_page(v, 2, LIN);
    assert_int_equal(read4(v, LIN), OLD);
    tlb_flush_pcid_page(v, 1, LIN);
    assert_int_equal(read4(v, LIN), NEW);
    cache_and_remap(state, 0);
    use_pcid(v, 0xfff);
    tlb_flush_pcid(v, 1);
    use_pcid(v, 1);
    assert_int_equal(read4(v, LIN), NEW);
}

static void test_pcid_global(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    use_pcid(v, 1);
    cache_and_remap(state, G);
    use_pcid(v, 2);
    assert_int_equal(read4(v, LIN), OLD);
    tlb_flush_pcid(v, 2);
    tlb_flush_pcid(v, 1);
    tlb_flush_pcid_page(v, 2, LIN); /* INVPCID 0 leaves global pages */
    assert_int_equal(read4(v, LIN), OLD);
    tlb_flush_page(v, LIN); /* INVLPG does not */
    assert_int_equal(read4(v, LIN), NEW);
}

static void map_large(void **state, u64 base)
{
    poke(state, PD + 8, base | P | W | PS, 8);
}

static void test_invlpg_large(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    poke(state, 0x600000, OLD, 4);
    poke(state, 0x600000 + 0x5000, OLD, 4);
    poke(state, 0x800000, NEW, 4);
    poke(state, 0x800000 + 0x5000, NEW, 4);
    map_large(state, 0x600000);
    assert_int_equal(read4(v, BIGL), OLD);
    assert_int_equal(read4(v, BIGL + 0x5000), OLD);
    map_large(state, 0x800000);
    assert_int_equal(read4(v, BIGL + 0x5000), OLD);
    tlb_flush_page(v, BIGL + 0x1ff000); /* any address in it */
    assert_int_equal(read4(v, BIGL), NEW);
    assert_int_equal(read4(v, BIGL + 0x5000), NEW);
}

/* Pieces of a large page must not stay behind when the second level has lost it. */
static void test_large_evicted(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    poke(state, 0x600000, OLD, 4);
    poke(state, 0x800000, NEW, 4);
    map_large(state, 0x600000);
    u64 pt2 = 0x10000; /* more page tables: 64 MiB of 4 KiB pages, to overflow the second level */
    for (unsigned i = 0; i < 32; i++) {
        poke(state, PD + 8 * (16 + i), (pt2 + i * PAGE_SIZE) | P | W, 8);
        for (unsigned n = 0; n < 512; n++)
            poke(state, pt2 + i * PAGE_SIZE + 8 * n, DATA | P | W, 8);
    }
    assert_int_equal(read4(v, BIGL), OLD);
    for (u64 page = 0; page < 32 * 512; page++) {
        if (page % TUNE_TLB_L1_ENTRIES != (BIGL >> PAGE_SHIFT) % TUNE_TLB_L1_ENTRIES)
            read4(v, 16 * 2 * MIB + page * PAGE_SIZE);
    }
    map_large(state, 0x800000);
    tlb_flush_page(v, BIGL + 0x1000);
    assert_int_equal(read4(v, BIGL), NEW);
}

static void test_1g(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    poke(state, 0x600000, OLD, 4);
    poke(state, PDPT + 8, P | W | PS, 8);
    assert_int_equal(read4(v, 0x40600000), OLD);
    assert_int_equal(read4(v, 0x40600000), OLD);
    poke(state, PDPT + 8, 0, 8);
    tlb_flush_page(v, 0x7fffffff);
    assert_page_fault(v, 0x40600000, 0, lin_read(v, 0x40600000, 4));
}

/* Rights that the tables grant later need no flush; those taken away do. */
static void test_rights_change(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    map_page(state, LIN, DATA | P);
    assert_int_equal(read4(v, LIN), OLD);
    assert_page_fault(v, LIN, PF_P | PF_W, lin_write(v, LIN, 1, 4));
    map_page(state, LIN, DATA | P | W);
    assert_no_fault(v, lin_write(v, LIN, 1, 4));
    map_page(state, LIN, DATA | P);
    assert_no_fault(v, lin_write(v, LIN, 2, 4));
    tlb_flush_page(v, LIN);
    assert_page_fault(v, LIN, PF_P | PF_W, lin_write(v, LIN, 3, 4));
    assert_int_equal(peek(state, DATA, 4), 2);
}

static void test_fault_drops(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    map_page(state, LIN, DATA | P);
    assert_int_equal(read4(v, LIN), OLD);
    map_page(state, LIN, 0);
    assert_int_equal(read4(v, LIN), OLD);
    assert_page_fault(v, LIN, PF_W, lin_write(v, LIN, 1, 4));
    assert_page_fault(v, LIN, 0, lin_read(v, LIN, 4));
}

static void test_dirty(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    u64 pte = PT + 8 * 5;
    map_page(state, LIN, DATA | P | W);
    read4(v, LIN);
    assert_int_equal(peek(state, pte, 8), DATA | P | W | A);
    assert_no_fault(v, lin_write(v, LIN, 1, 4));
    assert_int_equal(peek(state, pte, 8), DATA | P | W | A | D);
    map_page(state, LIN, DATA | P | W); /* the guest cleans it, and flushes */
    tlb_flush_page(v, LIN);
    assert_no_fault(v, lin_write(v, LIN, 1, 4));
    assert_int_equal(peek(state, pte, 8), DATA | P | W | A | D);
}

static void test_contexts(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    map_page(state, LIN, DATA | P | W);
    read4(v, LIN);
    set_cpl(v, 3);
    assert_page_fault(v, LIN, PF_P | PF_U, lin_read(v, LIN, 4));
    assert_int_equal(lin_read_system(v, LIN, 4), OLD);
    set_cpl(v, 0);
    v->cr4 |= CR4_SMAP;
    tlb_flush_all(v);
    map_page(state, LIN, DATA | P | W | U);
    v->rflags |= FLAG_AC;
    cpu_update_mode(v);
    assert_int_equal(read4(v, LIN), OLD);
    assert_page_fault(v, LIN, PF_P, lin_read_system(v, LIN, 4));
    v->rflags &= ~FLAG_AC;
    cpu_update_mode(v);
    assert_page_fault(v, LIN, PF_P, lin_read(v, LIN, 4));
}

static void test_revision_wraps(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    cache_and_remap(state, 0);
    for (unsigned i = 0; i < 4095; i++) /* back to the revision of the old entry */
        tlb_flush_nonglobal(v);
    assert_int_equal(read4(v, LIN), NEW);
    for (unsigned i = 0; i < 2 * 4095; i++) {
        tlb_flush_nonglobal(v);
        assert_int_not_equal(v->tlb->revision, 0);
        assert_true(v->tlb->revision < PAGE_SIZE);
    }
    assert_int_equal(read4(v, LIN), NEW);
}

/* An entry made for one kind of access gives no right to another. */
static void test_kinds(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    v->cr4 |= CR4_SMAP;
    map_page(state, LIN, DATA | P | W | U);
    tlb_flush_all(v);
    assert_int_equal(lin_exec_gpa(v, LIN), DATA);
    assert_page_fault(v, LIN, PF_P, lin_read(v, LIN, 4));
    assert_int_equal(lin_exec_gpa(v, LIN), DATA);
    assert_page_fault(v, LIN, PF_P | PF_W, lin_write(v, LIN, 1, 4));
}

/* Second-level hits save walks. */
static void test_second_level(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    map_page(state, LIN, DATA | P);
    read4(v, LIN);
    u64 fills = v->stats.count[STAT_TLB_FILL], hits = v->stats.count[STAT_TLB_L2_HIT];
    tlb_switch(v);
    read4(v, LIN);
    read4(v, LIN);
    assert_int_equal(v->stats.count[STAT_TLB_FILL], fills);
    assert_int_equal(v->stats.count[STAT_TLB_L2_HIT], hits + 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_invlpg),       TEST(test_global),        TEST(test_pcid),
        TEST(test_pcid_global),  TEST(test_invlpg_large),  TEST(test_large_evicted),
        TEST(test_1g),           TEST(test_rights_change), TEST(test_fault_drops),
        TEST(test_dirty),        TEST(test_contexts),      TEST(test_revision_wraps),
        TEST(test_second_level), TEST(test_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
