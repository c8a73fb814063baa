/*
 * Spans: how far they reach over small and large pages, and what empties them.
 */
#include "engine/bt/bt.h"
#include "machine.h"
#include "mem/access.h"

#define SMALL    0x40000000ULL /* four pages that are contiguous, and one that is not */
#define PAGES    5
#define TABLE_AT 0x30000

/* Where the small pages are: not across a border of 2 MiB in the host, where spans of stores end.
 */
static u64 ram_at(const struct test_machine *tm)
{
    u64 first = (u64)(uintptr_t)tm->ram + 0x100000;
    return (first ^ (first + 16 * PAGE_SIZE)) >> 21 ? 0x180000 : 0x100000;
}

static u64 small_page_at(const struct test_machine *tm, unsigned n)
{
    return ram_at(tm) + (n < 4 ? n : 10) * PAGE_SIZE;
}

static void touch(struct vcpu *v, u64 lin, enum access access)
{
    u64 gpa;
    u32 error;
    assert_true(tlb_translate(v, lin, access, v->tlb_ctx, &gpa, &error));
}

static int setup(void **state)
{
    machine_setup(state);
    struct test_machine *tm = *state;
    long_mode(tm, 0x10000);
    put64(tm, PML4_AT + 0x1000 + 8, TABLE_AT | 7);
    put64(tm, TABLE_AT, (TABLE_AT + 0x1000) | 7);
    for (unsigned n = 0; n < PAGES; n++)
        put64(tm, TABLE_AT + 0x1000 + 8 * n, small_page_at(tm, n) | 7);
    tlb_flush_all(tm->v);
    bt_cpu(tm->v)->v = tm->v;
    spans_create(tm->v);
    tm->v->tlb_flushed = spans_flush;
    for (unsigned n = 0; n < PAGES; n++)
        touch(tm->v, SMALL + n * PAGE_SIZE, ACCESS_WRITE);
    return 0;
}

static int teardown(void **state)
{
    ((struct test_machine *)*state)->v->tlb_flushed = NULL;
    return machine_teardown(state);
}

static const struct site load8 = {.span = 1, .access = ACCESS_READ, .size = 8};
static const struct site store8 = {.span = 2, .access = ACCESS_WRITE, .size = 8};
static const struct site other_store8 = {.span = 3, .access = ACCESS_WRITE, .size = 8};

static void expect(struct test_machine *tm, const struct site *s, u64 start, u64 bytes, u64 gpa)
{
    const struct span *span = &bt_cpu(tm->v)->span[s->span];
    assert_int_equal(span->start, start);
    assert_int_equal(span->room, bytes - s->size + 1);
    assert_ptr_equal((u8 *)(uintptr_t)(span->start + span->addend), tm->ram + gpa);
}

static u64 room(struct test_machine *tm, const struct site *s)
{
    return bt_cpu(tm->v)->span[s->span].room;
}

static void test_small_pages(void **state)
{
    struct test_machine *tm = *state;
    spans_fill(tm->v, &load8, SMALL + PAGE_SIZE + 8, false);
    expect(tm, &load8, SMALL, 4 * PAGE_SIZE, ram_at(tm));
    spans_fill(tm->v, &load8, SMALL + 4 * PAGE_SIZE, false);
    expect(tm, &load8, SMALL + 4 * PAGE_SIZE, PAGE_SIZE, small_page_at(tm, 4));
}

static void test_large_pages(void **state)
{
    struct test_machine *tm = *state;
    touch(tm->v, 0x1000, ACCESS_READ);
    touch(tm->v, 0x200000, ACCESS_WRITE);
    spans_fill(tm->v, &load8, 0x212340, false);
    expect(tm, &load8, 0, 4 * MIB, 0);
    tlb_flush_all(tm->v);
    touch(tm->v, 0x200000, ACCESS_READ);
    spans_fill(tm->v, &load8, 0x200000, false);
    expect(tm, &load8, 0x200000, 2 * MIB, 0x200000);
}

static void test_flushes(void **state)
{
    struct test_machine *tm = *state;
    spans_fill(tm->v, &load8, SMALL, false);
    tlb_flush_page(tm->v, SMALL + 8 * PAGE_SIZE);
    assert_int_not_equal(room(tm, &load8), 0);
    tlb_flush_page(tm->v, SMALL + 3 * PAGE_SIZE + 5);
    assert_int_equal(room(tm, &load8), 0);
    spans_fill(tm->v, &load8, SMALL, false); /* no further than what the TLB has */
    expect(tm, &load8, SMALL, 3 * PAGE_SIZE, ram_at(tm));
    tlb_flush_nonglobal(tm->v);
    assert_int_equal(room(tm, &load8), 0);
}

static void test_global(void **state)
{
    struct test_machine *tm = *state;
    tm->v->cr4 |= CR4_PGE;
    put64(tm, TABLE_AT + 0x1000, small_page_at(tm, 0) | 0x167);
    tlb_flush_all(tm->v);
    touch(tm->v, SMALL, ACCESS_READ);
    spans_fill(tm->v, &load8, SMALL, false);
    tlb_flush_nonglobal(tm->v);
    assert_int_not_equal(room(tm, &load8), 0);
    touch(tm->v, SMALL + PAGE_SIZE,
          ACCESS_READ); /* one page that is not, and it goes with others */
    spans_fill(tm->v, &load8, SMALL, false);
    expect(tm, &load8, SMALL, 2 * PAGE_SIZE, ram_at(tm));
    tlb_flush_nonglobal(tm->v);
    assert_int_equal(room(tm, &load8), 0);
}

static void test_code(void **state)
{
    struct test_machine *tm = *state;
    spans_fill(tm->v, &load8, SMALL, false);
    spans_fill(tm->v, &store8, SMALL, false);
    spans_fill(tm->v, &other_store8, SMALL + 4 * PAGE_SIZE, false);
    expect(tm, &store8, SMALL, 4 * PAGE_SIZE, ram_at(tm));
    spans_protect(tm->v, tm->ram + small_page_at(tm, 2));
    assert_int_not_equal(room(tm, &load8), 0);
    assert_int_equal(room(tm, &store8), 0);
    assert_int_not_equal(room(tm, &other_store8), 0);
    /* Of a large page what is free of code, and in the same 2 MiB of the host. */
    const struct span *span = &bt_cpu(tm->v)->span[store8.span];
    touch(tm->v, 0x200000, ACCESS_WRITE);
    code_protect(tm->m.mem, 0x203000, 16);
    spans_fill(tm->v, &store8, 0x205000, false);
    assert_in_range(span->start, 0x204000, 0x205000);
    assert_in_range(span->start + span->room, 0x205ff0, 0x400000);
}

static void test_too_often(void **state)
{
    struct test_machine *tm = *state;
    unsigned filled = 1;
    while (spans_fill(tm->v, &load8, SMALL, false))
        assert_true(++filled <= 3 * TUNE_BT_SPAN_FILLS);
    assert_true(filled >= TUNE_BT_SPAN_FILLS);
}

static void test_stack_page(void **state)
{
    struct test_machine *tm = *state;
    struct stack_page *p = &bt_cpu(tm->v)->stack_page[TLB_KERNEL];
    const struct stack_page used = {
        .start = SMALL, .addend = (u64)(uintptr_t)tm->ram + ram_at(tm) - SMALL, .room = {1, 1}};
    *p = used;
    tlb_flush_page(tm->v, SMALL + PAGE_SIZE);
    spans_protect(tm->v, tm->ram + small_page_at(tm, 1));
    assert_int_equal(p->room[0], 1);
    tlb_flush_page(tm->v, SMALL + 77);
    assert_int_equal(p->room[0] | p->room[1], 0);
    *p = used;
    spans_protect(tm->v, tm->ram + small_page_at(tm, 0));
    assert_int_equal(p->room[0] | p->room[1], 0);
    *p = used;
    tlb_flush_nonglobal(tm->v);
    assert_int_equal(p->room[0] | p->room[1], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_small_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flushes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_global, setup, teardown),
        cmocka_unit_test_setup_teardown(test_code, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_often, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stack_page, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
