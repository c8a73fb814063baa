/*
 * What the TLB may remember and what a flush must drop. Each test changes page tables without a
 * flush, sees the old translation, flushes, and sees the new one.
 */
#include "fixture.h"

#include "mem/tlb_l2.h"

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

/* Overflows the second level by 64 MiB of small pages, but leaves the first level's entry of BIGL.
 */
static void fill_l2(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    u64 pt2 = 0x10000;
    for (unsigned i = 0; i < 32; i++) {
        poke(state, PD + 8 * (16 + i), (pt2 + i * PAGE_SIZE) | P | W, 8);
        for (unsigned n = 0; n < 512; n++)
            poke(state, pt2 + i * PAGE_SIZE + 8 * n, DATA | P | W, 8);
    }
    for (u64 page = 0; page < 32 * 512; page++) {
        if (page % TUNE_TLB_L1_ENTRIES != (BIGL >> PAGE_SHIFT) % TUNE_TLB_L1_ENTRIES)
            read4(v, 16 * 2 * MIB + page * PAGE_SIZE);
    }
}

/* Pieces of a large page must not stay behind when the second level has lost it. */
static void test_large_evicted(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    poke(state, 0x600000, OLD, 4);
    poke(state, 0x800000, NEW, 4);
    map_large(state, 0x600000);
    assert_int_equal(read4(v, BIGL), OLD);
    fill_l2(state);
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

/* --- the first level --- */

static const struct tlb_entry *l1(struct vcpu *v, u64 lin)
{
    return tlb_entry(v, v->tlb_ctx, lin);
}

static bool l1_has(struct vcpu *v, u64 lin)
{
    return l1(v, lin)->read == (lin & PAGE_MASK);
}

static bool entry_empty(const struct tlb_entry *e)
{
    return e->read == TLB_NO_TAG && e->write == TLB_NO_TAG && e->write_any == TLB_NO_TAG &&
           e->exec == 0;
}

static bool l1_empty(struct vcpu *v)
{
    const struct tlb_entry *e = &v->l1[0][0];
    for (unsigned i = 0; i < TLB_CONTEXTS * TUNE_TLB_L1_ENTRIES; i++)
        if (!entry_empty(&e[i]))
            return false;
    return true;
}

static void test_l1_empty_at_first(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    assert_true(l1_empty(v));
    assert_false(l1_has(v, 0)); /* page 0 is a page like others */
    map_page(state, 0, DATA | P);
    assert_int_equal(read4(v, 0), OLD);
    assert_true(l1_has(v, 0));
}

static void test_l1_global_stays(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    const u64 global = LIN + PAGE_SIZE;
    map_page(state, LIN, DATA | P);
    map_page(state, global, DATA | P | G);
    static void (*const flush[])(struct vcpu *) = {tlb_flush_nonglobal, tlb_switch};
    for (unsigned i = 0; i < ARRAY_SIZE(flush); i++) {
        read4(v, LIN);
        read4(v, global);
        assert_true(l1_has(v, LIN) && l1_has(v, global));
        flush[i](v);
        assert_true(entry_empty(l1(v, LIN)));
        assert_true(l1_has(v, global));
    }
    tlb_flush_all(v);
    assert_true(l1_empty(v));
}

/* An entry that changes its kind is flushed as what it is now. */
static void test_l1_kind_changes(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    for (unsigned round = 0; round < 4; round++) {
        map_page(state, LIN, DATA | P | G);
        tlb_flush_page(v, LIN);
        read4(v, LIN);
        map_page(state, LIN, DATA | P);
        tlb_flush_page(v, LIN);
        read4(v, LIN);
        assert_true(l1_has(v, LIN));
        tlb_flush_nonglobal(v);
        assert_true(entry_empty(l1(v, LIN)));
        read4(v, LIN);
        map_page(state, LIN, DATA | P | G);
        tlb_flush_page(v, LIN);
        read4(v, LIN);
        tlb_flush_all(v);
        assert_true(l1_empty(v));
    }
}

/* Reads every page in every context. */
/* As many pages as one page table maps. */
#define L1_PAGES MIN(TUNE_TLB_L1_ENTRIES, 512)

static void fill_l1(struct vcpu *v)
{
    v->cr0 |= CR0_AM;
    for (unsigned kind = 0; kind < TLB_CONTEXTS; kind++) {
        v->rflags = kind & 1 ? v->rflags | FLAG_AC : v->rflags & ~FLAG_AC;
        set_cpl(v, kind & 2 ? 3 : 0);
        for (u64 page = 0; page < L1_PAGES; page++) {
            read4(v, page * PAGE_SIZE);
            lin_exec_gpa(v, page * PAGE_SIZE); /* under AC data is not entered */
        }
    }
}

/* More fills than the logs have room for; pages change their kind. */
static void test_l1_logs_full(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    for (unsigned round = 0; round < 6; round++) {
        for (u64 page = 0; page < L1_PAGES; page++) {
            map_page(state, page * PAGE_SIZE, DATA | P | U | ((page ^ round) & 1 ? G : 0));
            tlb_flush_page(v, page * PAGE_SIZE);
        }
        fill_l1(v);
        for (unsigned kind = 0; kind < TLB_LOGS; kind++)
            assert_in_range(v->tlb->log[kind].n, 1, ARRAY_SIZE(v->tlb->log[kind].index));
        tlb_flush_nonglobal(v);
        for (unsigned ctx = 0; ctx < TLB_CONTEXTS; ctx++)
            for (u64 page = 0; page < L1_PAGES; page++)
                assert_int_equal(entry_empty(tlb_entry(v, ctx, page * PAGE_SIZE)),
                                 !((page ^ round) & 1));
    }
    tlb_flush_all(v);
    assert_true(l1_empty(v));
}

/* A large page is global, then is not any more; the guest does not flush. INVLPG still finds it. */
static void test_large_kind_changes(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    poke(state, 0x605000, OLD, 4);
    poke(state, 0x805000, NEW, 4);
    map_large(state, 0x600000 | G);
    assert_int_equal(read4(v, BIGL + 0x5000), OLD);
    map_large(state, 0x800000);
    assert_no_fault(v, lin_write(v, BIGL + 0x6000, 1, 4)); /* sets D, so it looks */
    tlb_flush_nonglobal(v);
    tlb_flush_page(v, BIGL);
    assert_int_equal(read4(v, BIGL + 0x5000), NEW);
}

/* The same for a small page, of which other contexts have the old kind. */
static void test_small_kind_changes(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    map_page(state, LIN, DATA | P | W);
    assert_int_equal(read4(v, LIN), OLD);
    v->rflags |= FLAG_AC;
    cpu_update_mode(v);
    map_page(state, LIN, 2 * DATA | P | W | G);
    assert_no_fault(v, lin_write(v, LIN + 4, 1, 4)); /* sets D, so it looks */
    assert_true(tlb_page_global(v, LIN));
    v->rflags &= ~FLAG_AC;
    cpu_update_mode(v);
    assert_int_equal(read4(v, LIN), NEW);
}

/* When a generation wraps, global pages are forgotten in both levels. */
static void test_generation_wraps(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    poke(state, 0x605000, OLD, 4);
    poke(state, 0x805000, NEW, 4);
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        map_large(state, 0x600000 | G);
        tlb_flush_all(v);
        assert_int_equal(read4(v, BIGL + 0x5000), OLD);
        map_large(state, 0x800000 | G);
        if (pcid) {
            v->tlb->l2->pcid_generation[7] = 0xffffffff;
            tlb_flush_pcid(v, 7);
        } else {
            v->tlb->l2->generation_local = 0xffffffff;
            tlb_flush_nonglobal(v);
        }
        tlb_flush_page(v, BIGL);
        assert_int_equal(read4(v, BIGL + 0x5000), NEW);
    }
}

static void test_exec_signature(void **state)
{
    (void)state;
    static const u64 lin[] = {0, LIN + 0xabc, 0x7fffffffffff, 0xffff800000000000, ~0ULL};
    static const u64 gpa[] = {0, DATA, 0xffffffff, BIT(TLB_EXEC_GPA_BITS) - 1};
    for (unsigned i = 0; i < ARRAY_SIZE(lin); i++) {
        assert_false(tlb_exec_hit(0, lin[i]));
        for (unsigned n = 0; n < ARRAY_SIZE(gpa); n++) {
            u64 exec = tlb_exec_signature(lin[i], gpa[n]);
            assert_true(tlb_exec_hit(exec, lin[i]));
            assert_true(tlb_exec_hit(exec, lin[i] ^ 0xfff));
            assert_false(tlb_exec_hit(exec, lin[i] + PAGE_SIZE));
            assert_false(tlb_exec_hit(exec, lin[i] ^ BIT(48)));
            assert_false(tlb_exec_hit(exec, lin[i] ^ BIT(63)));
            assert_int_equal(tlb_exec_gpa(exec, lin[i]),
                             (gpa[n] & PAGE_MASK) | (lin[i] & ~PAGE_MASK));
        }
    }
}

/* --- code pages --- */

static void test_code_withholds_write(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    struct guest_mem *gm = fixture_mem(state);
    map_page(state, LIN, DATA | P | W);
    code_protect(gm, DATA + 0x40, 4);
    assert_no_fault(v, lin_write(v, LIN, 1, 4));
    assert_int_equal(l1(v, LIN)->write, TLB_NO_TAG);
    assert_int_equal(l1(v, LIN)->write_any, LIN);
    assert_ptr_equal(l1(v, LIN)->code_mask, code_mask_of(gm, DATA));
    assert_int_equal(v->code_written, 0);
    assert_no_fault(v, lin_write(v, LIN + 0x40, 1, 4));
    assert_int_equal(v->code_written, 1);
    assert_int_equal(l1(v, LIN)->write, TLB_NO_TAG);
    assert_true(tlb_refill(v, LIN, ACCESS_WRITE)); /* holds no code any more */
    assert_int_equal(l1(v, LIN)->write, LIN);
    map_page(state, LIN, DATA | P);
    tlb_flush_page(v, LIN);
    read4(v, LIN);
    assert_int_equal(l1(v, LIN)->write_any, TLB_NO_TAG);
    assert_int_equal(l1(v, LIN)->write, TLB_NO_TAG);
}

static void test_protect_code(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    const u64 alias = LIN + 7 * PAGE_SIZE, other = LIN + PAGE_SIZE;
    map_page(state, LIN, DATA | P | W | U);
    map_page(state, alias, DATA | P | W | G);
    map_page(state, other, (DATA + PAGE_SIZE) | P | W | G);
    assert_no_fault(v, lin_write(v, alias, 1, 4));
    assert_no_fault(v, lin_write(v, other, 1, 4));
    set_cpl(v, 3);
    assert_no_fault(v, lin_write(v, LIN, 1, 4));
    assert_int_equal(l1(v, LIN)->write, LIN);
    code_protect(fixture_mem(state), DATA, 1);
    assert_true(tlb_protect_code(v, DATA + 0x123));
    assert_int_equal(l1(v, LIN)->write, TLB_NO_TAG);
    assert_int_equal(l1(v, LIN)->write_any, LIN);
    assert_true(l1_has(v, LIN));
    set_cpl(v, 0);
    assert_int_equal(l1(v, alias)->write, TLB_NO_TAG);
    assert_int_equal(l1(v, alias)->write_any, alias);
    assert_int_equal(l1(v, other)->write, other);
    assert_false(tlb_protect_code(v, DATA));
    assert_false(tlb_protect_code(v, 0xf0000000));
    assert_true(tlb_protect_code(v, DATA + PAGE_SIZE));
}

/* --- who listens to flushes --- */

static void note_flush(struct vcpu *v, enum tlb_flush what, u64 lin)
{
    u64 *noted = v->wake_ctx;
    noted[0]++;
    noted[1] = what;
    noted[2] = lin;
}

#define assert_reports(kind, address, flush)                                                       \
    do {                                                                                           \
        memset(noted, 0, sizeof(noted));                                                           \
        flush;                                                                                     \
        assert_int_equal(noted[0], 1);                                                             \
        assert_int_equal(noted[1], kind);                                                          \
        assert_int_equal(noted[2], address);                                                       \
    } while (0)

static void test_reports(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    u64 noted[3] = {0};
    v->tlb_flushed = note_flush;
    v->wake_ctx = noted;
    map_page(state, LIN, DATA | P | W);
    read4(v, LIN);
    assert_int_equal(noted[0], 0); /* fills are none */
    assert_reports(TLB_FLUSHED_ALL, 0, tlb_flush_all(v));
    assert_reports(TLB_FLUSHED_LOCAL, 0, tlb_flush_nonglobal(v));
    assert_reports(TLB_FLUSHED_LOCAL, 0, tlb_switch(v));
    assert_reports(TLB_FLUSHED_LOCAL, 0, tlb_flush_pcid(v, 3));
    assert_reports(TLB_FLUSHED_PAGE, LIN + 5, tlb_flush_page(v, LIN + 5));
    assert_reports(TLB_FLUSHED_PAGE, LIN, tlb_flush_pcid_page(v, 0, LIN));
    map_page(state, LIN, 0);
    assert_reports(TLB_FLUSHED_PAGE, LIN, assert_page_fault(v, LIN, 0, lin_read(v, LIN, 4)));
    v->dr[7] |= BIT(0) | BIT(16);
    assert_reports(TLB_FLUSHED_ALL, 0, tlb_set_breakpoints(v));
    noted[0] = 0;
    tlb_set_breakpoints(v);
    tlb_flush_pcid_page(v, 3, LIN); /* not the current one */
    assert_int_equal(noted[0], 0);
    map_large(state, 0x600000);
    read4(v, BIGL);
    assert_reports(TLB_FLUSHED_ALL, BIGL + 0x5000, tlb_flush_page(v, BIGL + 0x5000));
    assert_reports(TLB_FLUSHED_PAGE, BIGL, tlb_flush_page(v, BIGL));
}

/* We lost a large page, of which a listener may know more pieces. */
static void test_reports_lost_page(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    u64 noted[3] = {0};
    v->tlb_flushed = note_flush;
    v->wake_ctx = noted;
    map_large(state, 0x600000);
    read4(v, BIGL);
    fill_l2(state);
    assert_int_equal(noted[0], 0);
    assert_reports(TLB_FLUSHED_LOCAL, 0, tlb_flush_nonglobal(v));
    assert_reports(TLB_FLUSHED_ALL, BIGL + 0x5000, tlb_flush_page(v, BIGL + 0x5000));
    assert_reports(TLB_FLUSHED_PAGE, BIGL, tlb_flush_page(v, BIGL));
}

static void test_page_global(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    map_page(state, LIN, DATA | P | G);
    assert_false(tlb_page_global(v, LIN));
    read4(v, LIN);
    assert_true(tlb_page_global(v, LIN + 1));
    v->cr0 &= ~CR0_PG;
    assert_false(tlb_page_global(v, LIN));
    v->cr0 |= CR0_PG;
    map_page(state, LIN, DATA | P);
    tlb_flush_page(v, LIN);
    read4(v, LIN);
    assert_false(tlb_page_global(v, LIN));
}

/* --- light refills --- */

static void test_refill(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    u64 pte = PT + 8 * 5;
    map_page(state, LIN, DATA | P | W | NX);
    assert_false(tlb_refill(v, LIN, ACCESS_READ)); /* nothing is known */
    assert_int_equal(peek(state, pte, 8), DATA | P | W | NX);
    read4(v, LIN);
    tlb_switch(v);
    assert_false(l1_has(v, LIN));
    assert_true(tlb_refill(v, LIN + 0xfff, ACCESS_READ));
    assert_true(l1_has(v, LIN));
    assert_false(tlb_refill(v, LIN, ACCESS_WRITE)); /* D is clear */
    assert_int_equal(peek(state, pte, 8), DATA | P | W | A | NX);
    assert_no_fault(v, lin_write(v, LIN, OLD, 4));
    tlb_switch(v);
    assert_true(tlb_refill(v, LIN, ACCESS_WRITE));
    assert_true(tlb_refill(v, LIN, ACCESS_READ | ACCESS_WRITE));
    assert_false(tlb_refill(v, LIN, ACCESS_EXEC));
    set_cpl(v, 3);
    assert_false(tlb_refill(v, LIN, ACCESS_READ));
    assert_true(entry_empty(l1(v, LIN)));
}

static void test_refill_unpaged(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    static const u8 rom[PAGE_SIZE];
    struct error err;
    assert_int_equal(guestmem_add_rom(fixture_mem(state), 0xf0000, rom, sizeof(rom), &err), 0);
    enter_prot32(v);
    assert_true(tlb_refill(v, DATA, ACCESS_READ | ACCESS_WRITE));
    assert_true(tlb_refill(v, DATA, ACCESS_EXEC));
    assert_int_equal(tlb_exec_gpa(l1(v, DATA)->exec, DATA + 3), DATA + 3);
    assert_true(tlb_refill(v, 0xf0000, ACCESS_READ));
    assert_false(tlb_refill(v, 0xf0000, ACCESS_WRITE));
    assert_false(tlb_refill(v, 0xf0000000, ACCESS_READ));
    tlb_flush_nonglobal(v);
    assert_true(l1_empty(v));
}

static void test_refill_walk(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    map_page(state, LIN, DATA | P | W);
    assert_true(tlb_refill_walk(v, LIN, ACCESS_READ));
    assert_int_equal(peek(state, PT + 8 * 5, 8), DATA | P | W | A);
    assert_true(tlb_refill_walk(v, LIN, ACCESS_WRITE));
    assert_int_equal(peek(state, PT + 8 * 5, 8), DATA | P | W | A | D);
    assert_false(tlb_refill_walk(v, LIN + PAGE_SIZE, ACCESS_READ));
    map_page(state, LIN, 0xf0000000 | P | W);
    tlb_flush_page(v, LIN);
    assert_false(tlb_refill_walk(v, LIN, ACCESS_READ)); /* no fault, but not RAM */
}

/* --- and the rest --- */

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
        TEST(test_invlpg),
        TEST(test_global),
        TEST(test_pcid),
        TEST(test_pcid_global),
        TEST(test_invlpg_large),
        TEST(test_large_evicted),
        TEST(test_1g),
        TEST(test_rights_change),
        TEST(test_fault_drops),
        TEST(test_dirty),
        TEST(test_contexts),
        TEST(test_l1_empty_at_first),
        TEST(test_l1_global_stays),
        TEST(test_l1_kind_changes),
        TEST(test_l1_logs_full),
        TEST(test_large_kind_changes),
        TEST(test_small_kind_changes),
        TEST(test_generation_wraps),
        TEST(test_exec_signature),
        TEST(test_code_withholds_write),
        TEST(test_protect_code),
        TEST(test_reports),
        TEST(test_reports_lost_page),
        TEST(test_page_global),
        TEST(test_refill),
        TEST(test_refill_unpaged),
        TEST(test_refill_walk),
        TEST(test_kinds),
        TEST(test_second_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
