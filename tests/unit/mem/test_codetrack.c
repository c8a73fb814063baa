/*
 * Code tracking: which writes make which versions, by every way to write; and a race of a writer
 * with a decoder, in which stale code must never count as current.
 */
#include "fixture.h"

#define CODE 0x105000ULL

static void test_versions(void **state)
{
    struct guest_mem *gm = fixture_mem(state);
    u32 version = code_protect(gm, CODE + 0x80, 0x41); /* two chunks of 64 bytes */
    assert_true(code_verify(gm, CODE + 0x80, 0x41, version));
    assert_int_equal(*code_mask_of(gm, CODE), 0xc);
    assert_false(code_written(gm, CODE + 0x7f, 1));
    assert_false(code_written(gm, CODE + 0x100, 0xf00));
    assert_false(code_written(gm, CODE - 8, 8));
    assert_int_equal(code_version(gm, CODE), version);
    assert_true(code_written(gm, CODE + 0x7c, 8));
    assert_int_not_equal(code_version(gm, CODE), version);
    assert_false(code_verify(gm, CODE + 0x80, 0x41, version));
    assert_int_equal(*code_mask_of(gm, CODE), 0x8); /* the chunk that was not written stays */
    assert_false(code_written(gm, CODE + 0x80, 1)); /* not decoded any more */
    version = code_version(gm, CODE);
    assert_true(code_written(gm, CODE + 0xc0, 1));
    assert_int_not_equal(code_version(gm, CODE), version);
    version = code_protect(gm, CODE, 1);
    assert_true(code_written(gm, CODE - PAGE_SIZE - 1, 2 * PAGE_SIZE)); /* a long one */
    assert_false(code_verify(gm, CODE, 1, version));
}

static void test_verify_needs_mask(void **state)
{
    struct guest_mem *gm = fixture_mem(state);
    u32 version = code_protect(gm, CODE, 64);
    assert_false(code_verify(gm, CODE, 65, version));
    assert_true(code_verify(gm, CODE + 63, 1, version));
}

struct heard {
    struct guest_mem *gm;
    unsigned calls;
    u64 page, chunks;
    u32 version; /* at the call */
};

static void hear(void *ctx, u64 page, u64 chunks)
{
    struct heard *h = ctx;
    h->calls++;
    h->page = page;
    h->chunks = chunks;
    assert_int_not_equal(atomic_load(code_mask_of(h->gm, CODE)), 0); /* clear means: all stale */
    code_forget(h->gm, page, chunks);
    h->version = code_version(h->gm, CODE);
    code_protect(h->gm, CODE, 64); /* no lock is held that this needs */
}

static void test_hook(void **state)
{
    struct guest_mem *gm = fixture_mem(state);
    struct heard h = {.gm = gm};
    u32 version = code_protect(gm, CODE, 64);
    guestmem_on_code_write(gm, hear, &h);
    poke(state, CODE + 64, 0, 4);
    poke(state, CODE + PAGE_SIZE, 0, 4);
    assert_int_equal(h.calls, 0);
    poke(state, CODE + 60, 0, 8);
    assert_int_equal(h.calls, 1);
    assert_int_equal(h.page, CODE >> PAGE_SHIFT);
    assert_int_equal(h.chunks, 0x3);
    assert_int_not_equal(h.version, version);
    assert_no_fault(fixture_vcpu(state), lin_write(fixture_vcpu(state), CODE, 0, 4));
    assert_int_equal(h.calls, 2);
    guestmem_on_code_write(gm, NULL, NULL);
    poke(state, CODE, 0, 4);
    assert_int_equal(h.calls, 2);
    assert_int_not_equal(code_version(gm, CODE), h.version);
}

static void test_not_ram(void **state)
{
    struct guest_mem *gm = fixture_mem(state);
    u32 version = code_protect(gm, 0xf0000000, 15);
    assert_true(code_verify(gm, 0xf0000000, 15, version));
    assert_false(code_written(gm, 0xf0000000, 15));
    assert_false(code_written(gm, ~0ULL - 4, 5));
    assert_null(code_mask_of(gm, 0xf0000000));
    assert_int_equal(*code_version_of(gm, 0xf0000000), version);
}

/* Every way by which a guest or device store can reach RAM. */
static void store_in_way(void **state, unsigned way)
{
    struct vcpu *v = fixture_vcpu(state);
    struct guest_mem *gm = fixture_mem(state);
    struct lin_rmw rmw;
    u64 gpa;
    unsigned room;
    void *p;
    switch (way) {
    case 0:
    case 1: /* once more, as a hit of the TLB */
        lin_write(v, CODE + 4, 0, 4);
        break;
    case 2:
        lin_rmw_begin(v, CODE, 8, &rmw);
        lin_rmw_end(v, &rmw);
        break;
    case 3:
        lin_write_bytes(v, CODE - 8, "0123456789", 10);
        break;
    case 4:
        lin_write_system(v, CODE - 1, 0, 2);
        break;
    case 5:
        lin_write(v, CODE - 1, 0, 8); /* from the page before */
        break;
    case 6:
        p = lin_direct(v, CODE, ACCESS_WRITE, &room, &gpa);
        lin_direct_written(v, p, 4);
        break;
    case 7:
        assert_true(guestmem_write(gm, CODE - 4, "01234567", 8));
        break;
    default:
        guestmem_store(gm, CODE, 0, 1, NULL);
        break;
    }
}

static void test_ways(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_prot32(v);
    for (unsigned way = 0; way <= 8; way++) {
        u32 version = code_protect(fixture_mem(state), CODE, 10);
        u64 count = v->stats.count[STAT_CODE_WRITE];
        v->code_written = 0;
        lin_write(v, CODE + 0x80, 1, 8); /* beside the code */
        assert_int_equal(v->code_written, 0);
        assert_int_equal(code_version(fixture_mem(state), CODE), version);
        store_in_way(state, way);
        assert_int_not_equal(code_version(fixture_mem(state), CODE), version);
        assert_int_equal(v->code_written, way < 7);
        assert_int_equal(v->stats.count[STAT_CODE_WRITE], count + (way < 7));
    }
}

/* A and D bits are writes, too. */
static void test_walk_writes(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_long_mode(v);
    long_tables(state);
    map_page(state, 0x7000, CODE | P);
    u32 version = code_protect(fixture_mem(state), PT, 64);
    lin_read(v, 0x7000, 1);
    assert_int_not_equal(code_version(fixture_mem(state), PT), version);
}

/* --- the race --- */

#define ROUNDS 10000000

struct race {
    struct fixture *f;
    struct vcpu writer;
    _Atomic u64 done; /* the last value whose store and bookkeeping are over */
    _Atomic bool stop;
};

/* The writer counts up the "code" and tells after each store that it is done. */
static void *race_writer(void *arg)
{
    struct race *r = arg;
    for (u64 n = 1; n <= ROUNDS && !r->stop; n++) {
        lin_write(&r->writer, CODE, n, 8);
        atomic_store_explicit(&r->done, n, memory_order_release);
    }
    r->stop = true;
    return NULL;
}

/* "Decodes" the value and returns its version. */
static u32 race_decode(struct guest_mem *gm, u64 *value)
{
    for (;;) {
        u32 version = code_protect(gm, CODE, 8);
        *value = guestmem_load(gm, CODE, 8, NULL);
        if (code_verify(gm, CODE, 8, version))
            return version;
    }
}

/* A decoded value may be used while its version is current: then it must be at least as new as
 * the writer's last complete store before the look at the version. */
static unsigned race_decoder(struct race *r)
{
    struct guest_mem *gm = r->f->machine.mem;
    unsigned stale = 0;
    while (!r->stop) {
        u64 value;
        u32 version = race_decode(gm, &value);
        for (unsigned i = 0; i < 50; i++) {
            u64 done = atomic_load_explicit(&r->done, memory_order_acquire);
            if (code_version(gm, CODE) != version)
                break;
            stale += value < done;
        }
    }
    return stale;
}

static void *race_second_decoder(void *arg)
{
    return (void *)(uintptr_t)race_decoder(arg);
}

static void test_race(void **state)
{
    static struct race r;
    pthread_t writer, decoder;
    void *stale;
    r.f = *state;
    assert_int_equal(guestmem_set_threads(fixture_mem(state), 3, NULL), 0);
    r.writer.machine = &r.f->machine;
    cpu_reset(&r.writer);
    assert_int_equal(tlb_create(&r.writer), 0);
    enter_prot32(&r.writer);
    lin_write(&r.writer, CODE, 0, 8);
    assert_int_equal(pthread_create(&writer, NULL, race_writer, &r), 0);
    assert_int_equal(pthread_create(&decoder, NULL, race_second_decoder, &r), 0);
    assert_int_equal(race_decoder(&r), 0);
    pthread_join(writer, NULL);
    pthread_join(decoder, &stale);
    assert_null(stale);
    assert_true(r.writer.stats.count[STAT_CODE_WRITE] > 0);
    tlb_destroy(&r.writer);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_versions), TEST(test_hook), TEST(test_verify_needs_mask),
        TEST(test_not_ram),  TEST(test_ways), TEST(test_walk_writes),
        TEST(test_race),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
