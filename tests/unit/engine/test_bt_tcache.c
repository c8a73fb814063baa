/*
 * The translation cache: finding, links, fragments whose guest code was written, keys, throwing all
 * away while another thread is inside, and traps. Fragments here are small pieces of host code that
 * return a number, so patches are tested by running them.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/bt/tcache.h"
#include "mem/guestmem.h"

#define RAM (2 * MIB)

void thunks_emit(struct tcache *tc, struct thunks *t)
{
    (void)t;
    *tc->next++ = 0xc3;
}

struct rig {
    struct machine m;
    struct tcache *tc;
    struct error err;
    _Atomic unsigned kicked, early, unchanged, finished;
};

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    assert_int_equal(guestmem_create(RAM, &r->m.mem, &r->err), 0);
    assert_int_equal(tcache_create(&r->m, MIB, &r->tc, &r->err), 0);
    alarm(20);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    alarm(0);
    tcache_destroy(r->tc);
    guestmem_destroy(r->m.mem);
    free(r);
    return 0;
}

/* --- fragments --- */

static void emit_result(struct emit *e, u32 value) /* mov eax, value; ret */
{
    emit8(e, 0xb8);
    emit32(e, value);
    emit8(e, 0xc3);
}

/* entry_flags: lahf, seto, on to entry_image: returns `value`. A dead one returns value + 1. Its
 * exit's jump (the code at exit->stub - 16) leads to the stub, which returns value + 2. */
static struct fragment *make(struct tcache *tc, u64 gpa, u64 gpa2, u64 rip, u32 key, u32 value)
{
    struct emit e = {.p = tc->next, .end = tc->next + 256};
    struct fragment *f = &tc->fragment[tc->fragments];
    struct exit *x = &tc->exit[tc->exits];
    *f = (struct fragment){
        .gpa = gpa, .gpa2 = gpa2, .rip = rip, .key = key, .bytes = 4, .code = e.p};
    unsigned here = MIN(4u, (unsigned)(PAGE_SIZE - (gpa & ~PAGE_MASK)));
    f->chunks[0] = tcache_chunks(gpa, here);
    f->chunks[1] = gpa2 == NO_GPA || here == 4 ? 0 : tcache_chunks(gpa2, 4 - here);
    f->own = &tc->exit[tc->exits + 1];
    tc->exits += 2;

    emit_align(&e, 8, 0);
    f->entry_flags = e.p;
    emit_nop(&e, 5);
    emit_flags_to_image(&e);
    emit_align(&e, 8, 0);
    f->entry_image = e.p;
    emit_nop(&e, 5);
    emit_result(&e, value);
    emit_align(&e, 16, 0);
    emit_flags_to_image(&e);
    *f->own = (struct exit){.from = f, .rip = rip, .stub = e.p};
    emit_result(&e, value + 1);

    /* check: jmp to the stub; comparison: mov rax, sig; jmp */
    emit_within_word(&e, 5, 0);
    u8 *check = e.p;
    emit_jmp(&e, NULL);
    *x = (struct exit){.from = f, .check = check};
    emit_align(&e, 8, 2);
    emit8(&e, 0x48);
    emit8(&e, 0xba); /* mov rdx, imm64 */
    x->sig = e.p;
    emit64(&e, 0);
    emit_align(&e, 4, 1);
    x->jump = emit_jmp(&e, NULL);
    x->stub = e.p;
    emit_result(&e, value + 2);
    emit_patch(check + 1, x->stub);
    emit_patch(x->jump, x->stub);
    f->end = e.p;
    tcache_add(tc, f);
    return f;
}

static u32 call(struct tcache *tc, const u8 *rw)
{
    u32 value;
    __asm__ volatile("call *%1"
                     : "=&a"(value)
                     : "r"(tcache_rx(tc, rw))
                     : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
    return value;
}

static struct exit *exit_of(struct fragment *f)
{
    return f->own - 1;
}

/* Where its exit leads now. */
static u32 leave(struct tcache *tc, struct fragment *f)
{
    return call(tc, exit_of(f)->check);
}

/* --- tests --- */

static void test_find(void **state)
{
    struct tcache *tc = ((struct rig *)*state)->tc;
    assert_ptr_equal(tc->first, tc->rw + 64);
    struct fragment *f[64];
    for (u32 n = 0; n < 64; n++)
        f[n] = make(tc, 0x1000 + 8 * (n / 4), NO_GPA, n & 1 ? 0x5000 : 0xffff800000005000,
                    n >> 1 & 1, 3 * n);
    for (u32 n = 0; n < 64; n++) {
        assert_ptr_equal(tcache_find(tc, f[n]->gpa, f[n]->rip, f[n]->key), f[n]);
        assert_int_equal(call(tc, f[n]->entry_flags), 3 * n);
        assert_ptr_equal(tcache_at(tc, tcache_rx(tc, f[n]->code)), f[n]);
        assert_ptr_equal(tcache_at(tc, tcache_rx(tc, f[n]->end - 1)), f[n]);
    }
    assert_null(tcache_find(tc, 0x1001, 0x5000, 0));
    assert_null(tcache_find(tc, 0x1000, 0x5001, 0));
    assert_null(tcache_find(tc, 0x1000, 0x5000, 2));
    assert_null(tcache_at(tc, tc->rx));
    assert_null(tcache_at(tc, tcache_rx(tc, tc->next)));
}

static void test_link(void **state)
{
    struct tcache *tc = ((struct rig *)*state)->tc;
    struct fragment *a = make(tc, 0x1000, NO_GPA, 0, 0, 10);
    struct fragment *b = make(tc, 0x2000, NO_GPA, 0, 0, 20);
    struct fragment *c = make(tc, 0x3000, NO_GPA, 0, 0, 30);
    struct exit *x = exit_of(a);
    assert_int_equal(leave(tc, a), 12);

    tcache_link(tc, x, b, 0x1122334455667788);
    assert_int_equal(load_le(x->sig, 8), 0x1122334455667788);
    assert_int_equal(leave(tc, a), 20);
    tcache_link(tc, x, b, 0x1122334455667788); /* linked already */
    assert_ptr_equal(b->linked, x);
    assert_null(x->to_next);

    tc->several = true; /* another vCPU may be comparing the signature */
    tcache_link(tc, x, c, 5);
    assert_int_equal(load_le(x->sig, 8), 0x1122334455667788);
    assert_int_equal(leave(tc, a), 20);
    tc->several = false;
    tcache_link(tc, x, c, 5);
    assert_int_equal(load_le(x->sig, 8), 5);
    assert_int_equal(leave(tc, a), 30);
    assert_null(b->linked);
    assert_ptr_equal(c->linked, x);

    /* In the same page: no signature; the entry is by where the flags are. */
    struct fragment *near = make(tc, 0x3ff0, NO_GPA, 0, 0, 40);
    struct exit same = {.from = b, .jump = exit_of(b)->jump, .host_flags = true};
    tcache_link(tc, &same, c, 0); /* that is not the page it leads to */
    assert_null(same.to);
    same.from = near;
    tcache_link(tc, &same, c, 0);
    assert_ptr_equal(same.jump + 4 + (i32)load_le(same.jump, 4), c->entry_flags);
    same = (struct exit){.from = near, .jump = exit_of(b)->jump};
    c->linked = NULL;
    tcache_link(tc, &same, c, 0);
    assert_ptr_equal(same.jump + 4 + (i32)load_le(same.jump, 4), c->entry_image);
    assert_int_equal(call(tc, same.jump - 1), 30);
    tcache_link(tc, c->own, a, 0); /* has no jump */
}

static void test_invalidate(void **state)
{
    struct tcache *tc = ((struct rig *)*state)->tc;
    struct fragment *one = make(tc, 0x1ff0, NO_GPA, 0, 0, 10);
    struct fragment *both = make(tc, 0x1ffe, 0x2000, 0, 0, 20);
    struct fragment *two = make(tc, 0x2010, NO_GPA, 0, 0, 30);
    struct fragment *twice = make(tc, 0x2fff, 0x2000, 0, 0, 40); /* both linear pages are page 2 */
    struct fragment *rom = make(tc, 0xfffff000, NO_GPA, 0, 0, 50);
    struct fragment *other = make(tc, 0x3ffe, 0x1000, 0, 0, 60);
    tcache_link(tc, exit_of(one), two, 1);

    tcache_invalidate(tc, 2, ~0ULL);
    assert_false(one->dead || rom->dead || other->dead);
    assert_true(both->dead && two->dead && twice->dead);
    assert_int_equal(tc->invalidated, 3);
    assert_null(tcache_find(tc, both->gpa, 0, 0));
    assert_null(tcache_find(tc, two->gpa, 0, 0));
    assert_ptr_equal(tcache_find(tc, one->gpa, 0, 0), one);
    assert_int_equal(call(tc, two->entry_flags), 31);
    assert_int_equal(call(tc, two->entry_image), 31);
    assert_ptr_equal(two->entry_flags + 5 + (i32)load_le(two->entry_flags + 1, 4),
                     two->own->stub - 4);
    assert_int_equal(leave(tc, one), 12); /* by the stub */
    assert_null(exit_of(one)->to);
    assert_int_equal(call(tc, one->entry_flags), 10);

    struct fragment *again = make(tc, 0x2010, NO_GPA, 0, 0, 70);
    assert_ptr_equal(tcache_find(tc, 0x2010, 0, 0), again);
    tcache_invalidate(tc, 1,
                      ~0ULL); /* also `both`, dead already, and `other`, by its second page */
    assert_true(one->dead && other->dead);
    assert_false(again->dead || rom->dead);
    assert_int_equal(tc->invalidated, 5);
    tcache_invalidate(tc, 3, ~0ULL);
    assert_int_equal(tc->invalidated, 5);
    tcache_invalidate(tc, 2, ~0ULL);
    assert_true(again->dead);
    assert_int_equal(call(tc, rom->entry_image), 50);
}

/* Exits to a fragment that dies lead to their stubs again and can be linked to its successor. */
static void test_unlink(void **state)
{
    struct tcache *tc = ((struct rig *)*state)->tc;
    struct fragment *from[4], *target = make(tc, 0x2000, NO_GPA, 0, 0, 500);
    struct exit same = {.host_flags = true};
    for (u32 n = 0; n < 4; n++)
        from[n] = make(tc, 0x1000 + 64 * n, NO_GPA, 0, 0, 100 * n);
    for (u32 n = 0; n < 3; n++)
        tcache_link(tc, exit_of(from[n]), target, 7);
    same.from = target; /* from its own page, with the flags in the host's */
    same.jump = exit_of(from[3])->jump;
    same.stub = from[3]->own->stub;
    tcache_link(tc, &same, target, 0);
    assert_int_equal(call(tc, same.jump - 1), 500);
    struct fragment *other = make(tc, 0x3000, NO_GPA, 0, 0, 600);
    tcache_link(tc, exit_of(from[1]), other, 8); /* out of the middle of the list */

    tc->several = true;
    tcache_invalidate(tc, 2, 1);
    assert_null(target->linked);
    assert_int_equal(leave(tc, from[0]), 2);
    assert_int_equal(call(tc, exit_of(from[0])->jump - 1), 2); /* one that was comparing */
    assert_int_equal(leave(tc, from[1]), 600);
    assert_int_equal(leave(tc, from[2]), 202);
    assert_ptr_equal(same.jump + 4 + (i32)load_le(same.jump, 4), same.stub - 4);

    target = make(tc, 0x2000, NO_GPA, 0, 0, 700);
    tcache_link(tc, exit_of(from[0]), target, 9);
    assert_int_equal(leave(tc, from[0]), 2); /* the signature may be in use */
    tcache_link(tc, exit_of(from[0]), target, 7);
    assert_int_equal(leave(tc, from[0]), 700);
}

/* Only fragments with bytes in chunks that were written die. */
static void test_chunks(void **state)
{
    struct tcache *tc = ((struct rig *)*state)->tc;
    struct fragment *f[64];
    for (u32 n = 0; n < 64; n++)
        f[n] = make(tc, 0x1000 + 64 * n + 60, NO_GPA, 0, 0, n);
    struct fragment *across = make(tc, 0x1000 + 64 * 7 + 61, NO_GPA, 0, 0, 99);
    struct fragment *both = make(tc, 0x1ffe, 0x2000, 0, 0, 99);
    tcache_invalidate(tc, 1, 0);
    assert_int_equal(tc->invalidated, 0);
    tcache_invalidate(tc, 1, BIT(8));
    assert_int_equal(tc->invalidated, 2);
    assert_true(f[8]->dead && across->dead);
    tcache_invalidate(tc, 2, ~1ULL);
    assert_false(both->dead);
    tcache_invalidate(tc, 2, 1);
    assert_true(both->dead);
    tcache_invalidate(tc, 1, ~BIT(20)); /* those left are in the list still */
    assert_int_equal(tc->invalidated, 65);
    assert_false(f[20]->dead);
    assert_ptr_equal(tc->page[1], f[20]);
    assert_null(f[20]->page_next[0]);
}

static void test_keys(void **state)
{
    struct tcache *tc = ((struct rig *)*state)->tc;
    struct bt_key key;
    memset(&key, 0, sizeof(key));
    for (u32 round = 0; round < 2; round++) {
        memset(&key, round ? 0xff : 0, sizeof(key)); /* the padding does not count */
        key.cs_base = key.cs_limit = 0;
        key.cpl = key.ctx = key.quick_segs = key.flat_segs = key.stack = key.bits =
            key.limited_segs = 0;
        for (u32 n = 0; n < TCACHE_KEYS; n++) {
            key.cs_base = (u64)(n / 2) << 4;
            key.mode = n & 1;
            assert_int_equal(tcache_key(tc, &key), n);
        }
        key.cpl = 3;
        assert_int_equal(tcache_key(tc, &key), NO_KEY);
    }
    tcache_enter(tc);
    tcache_flush(tc, true);
    assert_int_equal(tcache_key(tc, &key), 0);
    tcache_leave(tc);
}

/* Only the fragments that have spans are thrown away for want of these. */
static void test_recycled_spans(void **state)
{
    struct tcache *tc = ((struct rig *)*state)->tc;
    struct fragment *with = make(tc, 0x1000, NO_GPA, 0x1000, 0, 10),
                    *without = make(tc, 0x1100, NO_GPA, 0x1100, 0, 20);
    u32 generation = tc->generation;
    with->has_spans = true;
    tc->spans = TUNE_BT_SPANS;
    assert_false(tcache_has_spans(tc));
    tcache_enter(tc);
    assert_true(tcache_flush(tc, false));
    tcache_leave(tc);
    assert_true(tcache_has_spans(tc));
    assert_int_not_equal(tc->generation, generation); /* so vCPUs forget what was in them */
    assert_null(tcache_find(tc, 0x1000, 0x1000, 0));
    assert_int_equal(call(tc, with->entry_image), 11);
    assert_ptr_equal(tcache_find(tc, 0x1100, 0x1100, 0), without);
    assert_int_equal(call(tc, without->entry_image), 20);
}

static void test_room(void **state)
{
    struct tcache *tc = ((struct rig *)*state)->tc;
    u8 *next = tc->next;
    assert_true(tcache_has_room(tc));
    tc->next = tc->rw + tc->size - 32 * KIB;
    assert_true(tcache_has_room(tc));
    tc->next++;
    assert_false(tcache_has_room(tc));
    tc->next = next;
    tc->exits = tc->max_exits - 63;
    assert_false(tcache_has_room(tc));
    tc->exits = 0;
    tc->sites = tc->max_sites - 1023;
    assert_false(tcache_has_room(tc));
    tc->sites = 0;
    tc->fragments = tc->max_fragments;
    assert_false(tcache_has_room(tc));
    tc->fragments = 0;
}

static void add_trap(struct tcache *tc, const u8 *pc, const u8 *to)
{
    tc->trap[tc->traps++] = (struct trap){.pc = (u32)(pc - tc->rw), .to = (u32)(to - tc->rw)};
}

static void test_traps(void **state)
{
    struct tcache *tc = ((struct rig *)*state)->tc;
    assert_null(tcache_trap(tc, tc->rx));
    for (u32 n = 0; n < 1000; n++)
        add_trap(tc, tc->rw + 100 + 3 * n, tc->rw + 50000 + 16 * n);
    for (u32 n = 0; n < 1000; n++) {
        assert_ptr_equal(tcache_trap(tc, tc->rx + 100 + 3 * n), tc->rx + 50000 + 16 * n);
        assert_null(tcache_trap(tc, tc->rx + 101 + 3 * n));
    }
    assert_null(tcache_trap(tc, tc->rx - 1));
    assert_null(tcache_trap(tc, tc->rx));
    assert_null(tcache_trap(tc, tc->rx + tc->size));
}

/* --- flush --- */

static void test_flush(void **state)
{
    struct tcache *tc = ((struct rig *)*state)->tc;
    tcache_enter(tc);
    struct fragment *f = make(tc, 0x1ffe, 0x2000, 0, 0, 10);
    make(tc, 0x1ffd, NO_GPA, 0, 0, 20);
    tcache_invalidate(tc, 2, ~0ULL);
    tcache_flush(tc, true);
    assert_int_equal(tc->generation, 1);
    assert_ptr_equal(tc->next, tc->first);
    assert_null(tc->page[1]);
    assert_null(tc->page[2]);
    assert_null(tcache_find(tc, 0x1ffe, 0, 0));
    assert_null(tcache_find(tc, 0x1ffd, 0, 0));
    assert_ptr_equal(make(tc, 0x1ffe, NO_GPA, 0, 0, 30), f);
    assert_int_equal(call(tc, f->entry_flags), 30);
    tcache_leave(tc);
    assert_int_equal(tc->inside, 0);
}

enum { THREADS = 3, ROUNDS = 200 };

/* Stays inside until it is kicked; each fourth time it flushes itself. */
static void *vcpu_thread(void *arg)
{
    struct rig *r = arg;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned kicked = r->kicked;
        tcache_enter(r->tc);
        u32 before = r->tc->generation;
        if (round % 4 == 3)
            tcache_flush(r->tc, true);
        else
            while (r->kicked == kicked)
                sched_yield();
        r->unchanged += round % 4 == 3 && r->tc->generation == before;
        tcache_leave(r->tc);
    }
    r->finished++;
    return NULL;
}

static void kick(void *ctx)
{
    struct rig *r = ctx;
    r->early += !r->tc->flush_wanted;
    r->kicked++;
}

static void test_flush_threads(void **state)
{
    struct rig *r = *state;
    pthread_t thread[THREADS];
    r->tc->kick = kick;
    r->tc->kick_ctx = r;
    for (unsigned n = 0; n < THREADS; n++)
        pthread_create(&thread[n], NULL, vcpu_thread, r);
    while (r->finished < THREADS) {
        tcache_enter(r->tc);
        make(r->tc, 0x1000, NO_GPA, 0, 0, 1);
        tcache_flush(r->tc, true);
        tcache_leave(r->tc);
        usleep(50);
    }
    for (unsigned n = 0; n < THREADS; n++)
        pthread_join(thread[n], NULL);
    assert_int_equal(r->unchanged + r->early, 0);
    assert_int_equal(r->tc->inside, 0);
    assert_null(tcache_find(r->tc, 0x1000, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_find, setup, teardown),
        cmocka_unit_test_setup_teardown(test_link, setup, teardown),
        cmocka_unit_test_setup_teardown(test_invalidate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unlink, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chunks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recycled_spans, setup, teardown),
        cmocka_unit_test_setup_teardown(test_traps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flush, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flush_threads, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
