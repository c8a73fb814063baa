/*
 * Windows: pages from anywhere in RAM side by side; only what the guest's tables allow at the time,
 * and nothing for address spaces that are young.
 */
#include "engine/bt/bt.h"
#include "machine.h"
#include "mem/access.h"

#define USER     0x40000000ULL /* the pages below; a window begins here */
#define TABLE_AT 0x30000
#define DEVICE   0xe0000000ULL
#define PAGES    8
#define FLAGS    0x67 /* present, writable, user, accessed, dirty */

static const u32 frame[PAGES] = {0x140, 0x180, 0x120, 0x1a0, 0x1a1, 0x122, 0x160, 0x150};

static void set_page(struct test_machine *tm, unsigned n, u64 flags)
{
    put64(tm, TABLE_AT + 0x1000 + 8 * n, (u64)frame[n] << PAGE_SHIFT | flags);
}

static struct space *space(struct test_machine *tm)
{
    return &bt_cpu(tm->v)->space[(tm->v->cr3 >> PAGE_SHIFT) % BT_SPACES];
}

/* An interrupt comes in user code. */
static void sample(struct test_machine *tm)
{
    unsigned cpl = tm->v->cpl;
    tm->v->cpl = 3;
    windows_sample(tm->v);
    tm->v->cpl = (u8)cpl;
}

static void grow_old(struct test_machine *tm)
{
    *space(tm) = (struct space){.cr3 = tm->v->cr3, .time = 2ULL * TUNE_BT_WINDOW_AGE};
    windows_sample(tm->v); /* not in user code: nothing happens */
    assert_null(bt_cpu(tm->v)->windows);
    sample(tm);
    space(tm)->credit = 1LL << 60;
}

static int setup(void **state)
{
    machine_setup(state);
    struct test_machine *tm = *state;
    long_mode(tm, 0x10000);
    put64(tm, PML4_AT, (PML4_AT + 0x1000) | FLAGS);
    put64(tm, PML4_AT + 0x1000 + 8, TABLE_AT | FLAGS);
    put64(tm, TABLE_AT, (TABLE_AT + 0x1000) | FLAGS);
    for (unsigned n = 0; n < PAGES; n++) {
        set_page(tm, n, FLAGS);
        put64(tm, (u64)frame[n] << PAGE_SHIFT, 100 + n);
    }
    tlb_flush_all(tm->v);
    static struct bt bt = {.several = true}; /* so it gets no mirror */
    bt_cpu(tm->v)->v = tm->v;
    bt_cpu(tm->v)->bt = &bt;
    spans_create(tm->v);
    tm->v->tlb_flushed = spans_flush;
    grow_old(tm);
    return 0;
}

static int teardown(void **state)
{
    struct vcpu *v = ((struct test_machine *)*state)->v;
    v->tlb_flushed = NULL;
    windows_destroy(v);
    return machine_teardown(state);
}

static u64 page_at(unsigned n)
{
    return USER + n * PAGE_SIZE;
}

/* What is there at page n's beginning, by the stretch. */
static u64 seen(const struct tlb_stretch *s, unsigned n)
{
    assert_true(page_at(n) - s->start < s->bytes);
    return *(const volatile u64 *)(uintptr_t)(page_at(n) + s->addend);
}

static struct tlb_stretch get_stretch(struct test_machine *tm, unsigned n, bool write)
{
    struct tlb_stretch s;
    assert_true(windows_stretch(tm->v, page_at(n), write, &s));
    assert_true(page_at(n) - s.start < s.bytes);
    return s;
}

static void test_scattered(void **state)
{
    struct test_machine *tm = *state;
    struct tlb_stretch s = get_stretch(tm, 0, false);
    assert_int_equal(s.start, USER);
    assert_int_equal(s.bytes, PAGES * PAGE_SIZE);
    for (unsigned n = 0; n < PAGES; n++)
        assert_int_equal(seen(&s, n), 100 + n);
    s = get_stretch(tm, 3, true);
    *(volatile u64 *)(uintptr_t)(page_at(3) + s.addend) = 55;
    assert_int_equal(get(tm, (u64)frame[3] << PAGE_SHIFT, 8), 55);
}

static void test_both_ways(void **state)
{
    struct test_machine *tm = *state;
    set_page(tm, 4, 0);
    struct tlb_stretch s = get_stretch(tm, 2, false);
    assert_int_equal(s.start, page_at(2));
    assert_int_equal(s.bytes, 2 * PAGE_SIZE);
    s = get_stretch(tm, 0, false);
    assert_int_equal(s.start, USER);
    assert_int_equal(s.bytes, 4 * PAGE_SIZE);
    s = get_stretch(tm, 6, false); /* not over the page that is not there */
    assert_int_equal(s.start, page_at(6));
    set_page(tm, 4, FLAGS);
    s = get_stretch(tm, 3, false);
    assert_true(s.start + s.bytes >= page_at(5));
}

static void test_flush_and_remap(void **state)
{
    struct test_machine *tm = *state;
    get_stretch(tm, 0, false);
    put64(tm, TABLE_AT + 0x1000 + 8, (u64)frame[6] << PAGE_SHIFT | FLAGS);
    set_page(tm, 2, 0);
    tlb_flush_page(tm->v, page_at(1));
    tlb_flush_page(tm->v, page_at(2));
    struct tlb_stretch s = get_stretch(tm, 0, false);
    assert_int_equal(s.bytes, 2 * PAGE_SIZE);
    assert_int_equal(seen(&s, 1), 106);
    assert_false(windows_stretch(tm->v, page_at(2), false, &s));
    set_page(tm, 2, FLAGS);
    tlb_flush_nonglobal(tm->v);
    s = get_stretch(tm, 2, false);
    assert_int_equal(seen(&s, 2), 102);
}

static void test_rights(void **state)
{
    struct test_machine *tm = *state;
    struct tlb_stretch s;
    set_page(tm, 2, FLAGS & ~0x40); /* not dirty */
    set_page(tm, 4, FLAGS & ~2);    /* not writable */
    set_page(tm, 6, FLAGS & ~0x20); /* not accessed */
    set_page(tm, 7, FLAGS & ~4);    /* not the user's */
    assert_int_equal(get_stretch(tm, 0, true).bytes, 2 * PAGE_SIZE);
    assert_int_equal(get_stretch(tm, 3, true).bytes, PAGE_SIZE);
    assert_int_equal(get_stretch(tm, 0, false).bytes, 6 * PAGE_SIZE);
    assert_false(windows_stretch(tm->v, page_at(2), true, &s));
    assert_false(windows_stretch(tm->v, page_at(4), true, &s));
    assert_false(windows_stretch(tm->v, page_at(6), false, &s));
    assert_false(windows_stretch(tm->v, page_at(7), false, &s));
    assert_int_equal(get(tm, TABLE_AT + 0x1000 + 8 * 6, 8) & 0x20, 0); /* and nothing is set */
    assert_int_equal(get(tm, TABLE_AT + 0x1000 + 8 * 2, 8) & 0x40, 0);
}

static void test_code(void **state)
{
    struct test_machine *tm = *state;
    static const struct site store8 = {.span = 2, .access = ACCESS_WRITE, .size = 8};
    static const struct site load8 = {.span = 1, .access = ACCESS_READ, .size = 8};
    const struct span *span = bt_cpu(tm->v)->span;
    code_protect(tm->m.mem, (u64)frame[5] << PAGE_SHIFT, 16);
    spans_fill(tm->v, &store8, USER, true);
    spans_fill(tm->v, &load8, USER, true);
    assert_int_equal(span[store8.span].room, 5 * PAGE_SIZE - 7);
    assert_int_equal(span[load8.span].room, PAGES * PAGE_SIZE - 7);
    spans_protect(tm->v, tm->ram + ((u64)frame[6] << PAGE_SHIFT));
    assert_int_not_equal(span[store8.span].room, 0);
    code_protect(tm->m.mem, (u64)frame[1] << PAGE_SHIFT, 16);
    spans_protect(tm->v, tm->ram + ((u64)frame[1] << PAGE_SHIFT));
    assert_int_equal(span[store8.span].room, 0);
    assert_int_not_equal(span[load8.span].room, 0);
    assert_int_equal(get_stretch(tm, 0, true).bytes, PAGE_SIZE);
}

/* An access across two pages, or the stretch of a group. */
static void test_across(void **state)
{
    struct test_machine *tm = *state;
    static const struct site store16 = {.span = 2, .access = ACCESS_WRITE, .size = 16};
    static const struct site load16 = {.span = 1, .access = ACCESS_READ, .size = 16};
    const struct span *span = bt_cpu(tm->v)->span;
    set_page(tm, 3, FLAGS & ~2); /* not writable */
    set_page(tm, 6, 0);
    tlb_flush_all(tm->v);
    tm->v->tlb_ctx = TLB_USER_AC;
    assert_false(spans_fill_across(tm->v, &store16, page_at(1) - 8));
    tm->v->tlb_ctx = TLB_USER;
    assert_true(spans_fill_across(tm->v, &store16, page_at(1) - 8));
    assert_int_equal(span[store16.span].start, page_at(0));
    assert_int_equal(span[store16.span].room, 3 * PAGE_SIZE - 15);
    assert_int_equal(span[store16.span].host, page_at(0) + span[store16.span].addend);
    assert_false(spans_fill_across(tm->v, &store16, page_at(3) - 8));
    assert_false(spans_fill_across(tm->v, &store16, page_at(4) - 8));
    assert_true(spans_fill_across(tm->v, &load16, page_at(3) - 8));
    assert_true(spans_fill_across(tm->v, &load16, page_at(5) - 1));
    assert_false(spans_fill_across(tm->v, &load16, page_at(6) - 15));
    space(tm)->time = 0;
    assert_false(spans_fill_across(tm->v, &load16, page_at(1) - 8));
}

/* Memory of a device lies behind RAM. */
static void test_device_memory(void **state)
{
    struct test_machine *tm = *state;
    static const struct site store8 = {.span = 2, .access = ACCESS_WRITE, .size = 8};
    const struct span *span = bt_cpu(tm->v)->span;
    struct mem_region *region;
    struct error err;
    u8 *hva;
    assert_int_equal(mem_region_memory(tm->m.mem, LAYER_BUS, PAGE_SIZE, false, &hva, &region, &err),
                     0);
    mem_region_place(region, DEVICE);
    put64(tm, TABLE_AT + 0x1000 + 8, DEVICE | FLAGS);
    tlb_flush_all(tm->v);
    struct tlb_stretch s = get_stretch(tm, 1, true);
    *(volatile u64 *)(uintptr_t)(page_at(1) + s.addend) = 77;
    assert_int_equal(*(volatile u64 *)hva, 77);
    spans_fill(tm->v, &store8, USER, true);
    assert_int_equal(span[store8.span].room, PAGES * PAGE_SIZE - 7);
    code_protect(tm->m.mem, DEVICE, 16);
    spans_protect(tm->v, hva);
    assert_int_equal(span[store8.span].room, 0);
}

static void test_who(void **state)
{
    struct test_machine *tm = *state;
    struct tlb_stretch s;
    space(tm)->time = TUNE_BT_WINDOW_AGE - 1;
    assert_false(windows_stretch(tm->v, USER, false, &s));
    space(tm)->time = TUNE_BT_WINDOW_AGE;
    space(tm)->credit = -1;
    assert_false(windows_stretch(tm->v, USER, false, &s));
    space(tm)->credit = 1LL << 60;
    get_stretch(tm, 0, false);
    space(tm)->credit = -1; /* what is shown is shown */
    tlb_flush_all(tm->v);
    get_stretch(tm, 0, false);
    u64 cr3 = tm->v->cr3; /* another space has nothing of that */
    tm->v->cr3 += PAGE_SIZE;
    assert_false(windows_stretch(tm->v, USER, false, &s));
    tm->v->cr3 = cr3;
}

/* When all are in use, the next interrupt throws them away, and the spans that lead to them. */
static void test_scarce(void **state)
{
    struct test_machine *tm = *state;
    static const struct site load8 = {.span = 1, .access = ACCESS_READ, .size = 8};
    struct tlb_stretch s;
    unsigned n = 0;
    spans_fill(tm->v, &load8, USER, true);
    for (unsigned slot = 2; slot < 512; slot++)
        put64(tm, PML4_AT + 0x1000 + 8 * slot, TABLE_AT | FLAGS);
    tlb_flush_page(tm->v, 0x5000);
    while (n < 500 && windows_stretch(tm->v, USER + (n + 1) * GIB, false, &s))
        n++;
    assert_in_range(n, 4, 400);
    assert_int_not_equal(bt_cpu(tm->v)->span[load8.span].room, 0);
    sample(tm);
    assert_int_equal(bt_cpu(tm->v)->span[load8.span].room, 0);
    assert_true(windows_stretch(tm->v, USER + 500 * GIB, false, &s));
    assert_int_equal(*(const volatile u64 *)(uintptr_t)(s.start + s.addend), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_scattered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flush_and_remap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rights, setup, teardown),
        cmocka_unit_test_setup_teardown(test_code, setup, teardown),
        cmocka_unit_test_setup_teardown(test_across, setup, teardown),
        cmocka_unit_test_setup_teardown(test_device_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scarce, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
