/*
 * Virtqueues by themselves: rings and chains in guest memory, indices that wrap, and what each side
 * asks the other to tell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dev/virtqueue.h"

#define DESC  0x1000ULL
#define AVAIL 0x2000ULL
#define USED  0x3000ULL
#define DATA  0x10000ULL
#define SIZE  8
#define RAM   MIB

struct rings {
    struct guest_mem *gm;
    struct virtqueue vq;
    struct vq_chain chain;
    u16 idx;
};

static int setup(void **state)
{
    struct rings *t = calloc(1, sizeof(*t));
    struct error err;
    assert_int_equal(guestmem_create(RAM, &t->gm, &err), 0);
    t->vq =
        (struct virtqueue){.gm = t->gm, .desc = DESC, .avail = AVAIL, .used = USED, .size = SIZE};
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct rings *t = *state;
    guestmem_destroy(t->gm);
    free(t);
    return 0;
}

static void put(struct rings *t, u64 gpa, u64 value, unsigned size)
{
    assert_true(guestmem_write(t->gm, gpa, &value, size));
}

static u64 get(struct rings *t, u64 gpa, unsigned size)
{
    u64 value = 0;
    assert_true(guestmem_read(t->gm, gpa, &value, size));
    return value;
}

static void describe(struct rings *t, unsigned n, u64 addr, u32 length, u16 flags, u16 next)
{
    put(t, DESC + 16ULL * n, addr, 8);
    put(t, DESC + 16ULL * n + 8, length, 4);
    put(t, DESC + 16ULL * n + 12, flags, 2);
    put(t, DESC + 16ULL * n + 14, next, 2);
}

static void offer(struct rings *t, u16 head)
{
    put(t, AVAIL + 4 + 2ULL * (t->idx % SIZE), head, 2);
    put(t, AVAIL + 2, ++t->idx, 2);
}

static void test_chain(void **state)
{
    struct rings *t = *state;
    u8 *ram = guestmem_ram(t->gm);
    assert_int_equal(virtqueue_look(&t->vq), 0);
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), 0);
    describe(t, 5, DATA, 16, 1, 2);
    describe(t, 2, DATA + 0x100, 0, 1, 7);
    describe(t, 7, DATA + 0x200, 300, 3, 0);
    describe(t, 0, DATA + 0x800, 1, 2, 9);
    offer(t, 5);
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), 0); /* not before a look */
    assert_int_equal(virtqueue_look(&t->vq), 1);
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), 1);
    assert_int_equal(t->chain.head, 5);
    assert_int_equal(t->chain.nout, 1);
    assert_int_equal(t->chain.nin, 2);
    assert_int_equal(t->chain.out_length, 16);
    assert_int_equal(t->chain.in_length, 301);
    assert_ptr_equal(t->chain.iov[0].iov_base, ram + DATA);
    assert_ptr_equal(t->chain.iov[1].iov_base, ram + DATA + 0x200);
    assert_int_equal(t->chain.iov[1].iov_len, 300);
    assert_ptr_equal(t->chain.iov[2].iov_base, ram + DATA + 0x800);
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), 0);
    assert_int_equal(virtqueue_push(&t->vq, &t->chain, 301), 1);
    assert_int_equal(get(t, USED + 2, 2), 1);
    assert_int_equal(get(t, USED + 4, 4), 5);
    assert_int_equal(get(t, USED + 8, 4), 301);
}

static void test_slices(void **state)
{
    struct rings *t = *state;
    u8 *ram = guestmem_ram(t->gm);
    struct iovec v[VQ_CHAIN_MAX];
    u8 buf[16];
    for (unsigned i = 0; i < 10; i++)
        ram[DATA + i] = ram[DATA + 0x100 + i] = (u8)(i + 1);
    describe(t, 0, DATA, 4, 1, 1);
    describe(t, 1, DATA + 0x100, 6, 1, 2);
    describe(t, 2, DATA + 0x200, 3, 3, 3);
    describe(t, 3, DATA + 0x300, 5, 2, 0);
    offer(t, 0);
    assert_int_equal(virtqueue_look(&t->vq), 1);
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), 1);
    vq_chain_read(&t->chain, 2, buf, 5);
    assert_memory_equal(buf, "\3\4\1\2\3", 5);
    vq_chain_write(&t->chain, 2, "abc", 3);
    assert_memory_equal(ram + DATA + 0x200, "\0\0a\0", 4);
    assert_memory_equal(ram + DATA + 0x300, "bc\0", 3);
    assert_int_equal(vq_chain_slice(&t->chain, false, 4, 6, v), 1);
    assert_ptr_equal(v[0].iov_base, ram + DATA + 0x100);
    assert_int_equal(v[0].iov_len, 6);
    assert_int_equal(vq_chain_slice(&t->chain, true, 0, 8, v), 2);
    assert_int_equal(vq_chain_slice(&t->chain, true, 8, 0, v), 0);
    assert_int_equal(vq_chain_slice(&t->chain, true, 7, 1, v), 1);
    assert_ptr_equal(v[0].iov_base, ram + DATA + 0x304);
}

/* Memory that is not in one piece makes two of one descriptor. */
static void test_pieces(void **state)
{
    struct rings *t = *state;
    struct mem_region *r;
    struct error err;
    u8 *hva;
    assert_int_equal(mem_region_memory(t->gm, LAYER_BOARD, PAGE_SIZE, false, &hva, &r, &err), 0);
    mem_region_place(r, DATA + PAGE_SIZE);
    describe(t, 0, DATA + PAGE_SIZE - 16, PAGE_SIZE + 32, 2, 0);
    offer(t, 0);
    assert_int_equal(virtqueue_look(&t->vq), 1);
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), 1);
    assert_int_equal(t->chain.nin, 3);
    assert_int_equal(t->chain.in_length, PAGE_SIZE + 32);
    assert_ptr_equal(t->chain.iov[1].iov_base, hva);
    assert_int_equal(t->chain.iov[1].iov_len, PAGE_SIZE);
    assert_ptr_equal(t->chain.iov[2].iov_base, guestmem_ram(t->gm) + DATA + 2 * PAGE_SIZE);
    /* What the device writes there counts as written to code. */
    u32 version = code_protect(t->gm, DATA + PAGE_SIZE + 64, 4);
    assert_int_equal(virtqueue_push(&t->vq, &t->chain, 1), 1);
    assert_false(code_verify(t->gm, DATA + PAGE_SIZE + 64, 4, version));
}

/* ROM can be read from, and not be written to. */
static void test_rom(void **state)
{
    struct rings *t = *state;
    static u8 rom[PAGE_SIZE];
    struct error err;
    assert_int_equal(guestmem_add_rom(t->gm, 0xf0000, rom, sizeof(rom), &err), 0);
    describe(t, 0, 0xf0000, 512, 0, 0);
    offer(t, 0);
    assert_int_equal(virtqueue_look(&t->vq), 1);
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), 1);
    describe(t, 0, 0xf0000, 512, 2, 0);
    offer(t, 0);
    assert_int_equal(virtqueue_look(&t->vq), 1);
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), VQ_BROKEN);
}

/* Indices count modulo 2^16, places in the rings modulo the size. */
static void test_wrap(void **state)
{
    struct rings *t = *state;
    describe(t, 3, DATA, 4, 2, 0);
    for (u32 n = 0; n < 70000; n++) {
        offer(t, 3);
        assert_int_equal(virtqueue_look(&t->vq), 1);
        assert_int_equal(virtqueue_pop(&t->vq, &t->chain), 1);
        assert_int_equal(virtqueue_push(&t->vq, &t->chain, n), 1);
        assert_int_equal(get(t, USED + 4 + 8 * (n % SIZE) + 4, 4), n);
        assert_int_equal(get(t, USED + 2, 2), (u16)(n + 1));
    }
}

static void take(struct rings *t, int rc)
{
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), 1);
    assert_int_equal(virtqueue_push(&t->vq, &t->chain, 0), rc);
}

static void test_events(void **state)
{
    struct rings *t = *state;
    u64 used_event = AVAIL + 4 + 2 * SIZE, avail_event = USED + 4 + 8 * SIZE;
    describe(t, 0, DATA, 4, 2, 0);
    put(t, avail_event, 0x7777, 2);
    for (unsigned i = 0; i < 4; i++)
        offer(t, 0);
    assert_int_equal(virtqueue_look(&t->vq), 4);
    assert_int_equal(get(t, avail_event, 2), 0x7777); /* not agreed on */
    put(t, AVAIL, 1, 2);
    take(t, 0);
    put(t, AVAIL, 0, 2);
    take(t, 1);
    t->vq.event_idx = true;
    put(t, used_event, 3, 2);
    take(t, 0);
    take(t, 1);
    for (unsigned i = 0; i < 3; i++)
        offer(t, 0);
    assert_int_equal(virtqueue_look(&t->vq), 3);
    assert_int_equal(get(t, avail_event, 2), 7);
    take(t, 0);
    u32 version = code_protect(t->gm, avail_event, 2);
    offer(t, 0);
    assert_int_equal(virtqueue_look(&t->vq), 3);
    assert_false(code_verify(t->gm, avail_event, 2, version));
}

/* What is available and what is in flight are together no more than the ring holds. */
static void test_overflow(void **state)
{
    struct rings *t = *state;
    describe(t, 0, DATA, 4, 2, 0);
    for (unsigned i = 0; i < SIZE; i++)
        offer(t, 0);
    assert_int_equal(virtqueue_look(&t->vq), SIZE);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(virtqueue_pop(&t->vq, &t->chain), 1);
    offer(t, 0);
    assert_int_equal(virtqueue_look(&t->vq), VQ_BROKEN);
    assert_int_equal(virtqueue_push(&t->vq, &t->chain, 0), 1);
    assert_int_equal(virtqueue_look(&t->vq), SIZE - 2);
    put(t, AVAIL + 2, 0, 2); /* back before what was taken */
    assert_int_equal(virtqueue_look(&t->vq), VQ_BROKEN);
}

static void test_nowhere(void **state)
{
    struct rings *t = *state;
    describe(t, 0, DATA, 4, 2, 0);
    offer(t, 0);
    assert_int_equal(virtqueue_look(&t->vq), 1);
    const struct virtqueue good = t->vq;
    t->vq.desc = RAM;
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), VQ_BROKEN);
    t->vq.desc = ~0ULL - 7;
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), VQ_BROKEN);
    t->vq = good;
    t->vq.avail = RAM - 2;
    assert_int_equal(virtqueue_look(&t->vq), VQ_BROKEN);
    t->vq.avail = RAM - 4; /* the index exists, the entries don't */
    t->vq.next = 0;
    t->vq.end = 1;
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), VQ_BROKEN);
    t->vq = good;
    assert_int_equal(virtqueue_pop(&t->vq, &t->chain), 1);
    t->vq.used = RAM;
    assert_int_equal(virtqueue_push(&t->vq, &t->chain, 0), VQ_BROKEN);
    t->vq.event_idx = true;
    assert_int_equal(virtqueue_look(&t->vq), VQ_BROKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slices, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rom, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_events, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overflow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nowhere, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
