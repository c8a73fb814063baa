/*
 * The guest-physical map: overlays, slots, copies, single accesses across edges; hostile arguments.
 */
#include "fixture.h"

static const struct mmio_ops probe_ops = PROBE_OPS;

static void test_sizes(void **state)
{
    struct guest_mem *gm;
    struct error err = {{0}};
    (void)state;
    assert_int_equal(guestmem_create(0, &gm, &err), -EINVAL);
    assert_int_equal(guestmem_create(MIB + 1, &gm, &err), -EINVAL);
    assert_int_equal(guestmem_create(RAM_MAX + PAGE_SIZE, &gm, &err), -EINVAL);
    assert_true(strlen(err.text) > 0);
}

/* RAM above 3 GiB goes on at 4 GiB; the memfd holds both parts in a row. */
static void test_high_ram(void **state)
{
    struct guest_mem *gm;
    struct mem_slot slot;
    (void)state;
    assert_int_equal(guestmem_create(5 * GIB, &gm, NULL), 0);
    assert_true(guestmem_slot(gm, 0, &slot));
    assert_int_equal(slot.gpa, 0);
    assert_int_equal(slot.size, 3 * GIB);
    assert_true(guestmem_slot(gm, 1, &slot));
    assert_int_equal(slot.gpa, 4 * GIB);
    assert_int_equal(slot.size, 2 * GIB);
    assert_false(guestmem_slot(gm, 2, &slot));
    u8 *low = guestmem_hva(gm, 3 * GIB - 1, 1, true), *high = guestmem_hva(gm, 4 * GIB, 1, true);
    assert_ptr_equal(low + 1, high);
    assert_ptr_equal(high, guestmem_ram(gm) + 3 * GIB);
    assert_null(guestmem_hva(gm, 3 * GIB - 1, 2, true));
    assert_null(guestmem_hva(gm, 6 * GIB, 1, true));
    assert_non_null(guestmem_hva(gm, 6 * GIB - 8, 8, true));
    assert_null(guestmem_hva(gm, 6 * GIB - 8, 9, true));
    assert_null(guestmem_hva(gm, 6 * GIB - 8, ~0ULL, true));
    assert_false(guestmem_write(gm, 3 * GIB - 4, "12345678", 8));
    assert_int_equal(*(u32 *)(low - 3), 0);
    guestmem_store(gm, 5 * GIB, 0x1234, 2, NULL);
    assert_int_equal(guestmem_load(gm, 5 * GIB, 4, NULL), 0x1234);
    assert_ptr_equal(code_mask_of(gm, 4 * GIB), guestmem_code_masks(gm) + (3 * GIB >> 12));
    guestmem_destroy(gm);
}

static void test_overlay(void **state)
{
    struct guest_mem *gm = fixture_mem(state);
    struct probe_device a = {0}, b = {0};
    static const u8 rom[5000] = {[0] = 0xaa, [4999] = 0xbb};
    struct mem_slot slot;
    bool device = false;
    assert_int_equal(guestmem_add_mmio(gm, 0xa0000, 0x20000, &probe_ops, &a, NULL, NULL), 0);
    assert_int_equal(guestmem_add_rom(gm, 0xbf000, rom, sizeof(rom), NULL), 0);
    assert_int_equal(guestmem_add_mmio(gm, 0xa8000, 0x10, &probe_ops, &b, NULL, NULL), 0);
    assert_true(guestmem_slot(gm, 0, &slot));
    assert_int_equal(slot.size, 0xa0000);
    assert_true(guestmem_slot(gm, 1, &slot));
    assert_true(slot.rom);
    assert_int_equal(slot.gpa, 0xbf000);
    assert_int_equal(slot.size, 0x2000);
    assert_true(guestmem_slot(gm, 2, &slot));
    assert_int_equal(slot.gpa, 0xc1000);
    assert_ptr_equal(slot.hva, guestmem_ram(gm) + 0xc1000);
    assert_int_equal(guestmem_load(gm, 0xbf000, 1, NULL), 0xaa);
    assert_int_equal(guestmem_load(gm, 0xbf000 + 4999, 2, NULL), 0xbb);
    assert_int_equal(guestmem_load(gm, 0xa8008, 1, &device), 8);
    assert_true(device);
    assert_int_equal(b.reads, 1);
    assert_int_equal(guestmem_load(gm, 0xa8010, 1, NULL), 0x10); /* offset in a: 0x8010 */
    assert_int_equal(a.off, 0x8010);
    assert_int_equal(guestmem_load(gm, 0xa800e, 4, NULL), 0x11100f0e); /* two from each */
    assert_int_equal(b.off, 0xf);
    assert_int_equal(a.off, 0x8011);
    guestmem_store(gm, 0x9fffe, 0x44332211, 4, NULL); /* RAM and device */
    assert_int_equal(guestmem_load(gm, 0x9fffe, 2, NULL), 0x2211);
    assert_int_equal(a.value, 0x44);
}

static void test_bad_ranges(void **state)
{
    struct guest_mem *gm = fixture_mem(state);
    struct probe_device d;
    static const u8 rom[16];
    assert_int_equal(guestmem_add_mmio(gm, MIB, 0, &probe_ops, &d, NULL, NULL), -EINVAL);
    assert_int_equal(guestmem_add_mmio(gm, ~0ULL, 16, &probe_ops, &d, NULL, NULL), -EINVAL);
    assert_int_equal(guestmem_add_mmio(gm, BIT(52) - 4, 8, &probe_ops, &d, NULL, NULL), -EINVAL);
    /* half of a page of RAM */
    assert_int_equal(guestmem_add_mmio(gm, MIB + 8, PAGE_SIZE - 8, &probe_ops, &d, NULL, NULL),
                     -EINVAL);
    assert_int_equal(guestmem_add_mmio(gm, MIB, 8, &probe_ops, &d, NULL, NULL), -EINVAL);
    assert_int_equal(guestmem_add_rom(gm, MIB + 1, rom, sizeof(rom), NULL), -EINVAL);
    assert_int_equal(guestmem_add_rom(gm, MIB, rom, 0, NULL), -EINVAL);
    assert_non_null(guestmem_hva(gm, 0, TEST_RAM, true)); /* nothing was changed */
}

static void test_copies(void **state)
{
    struct guest_mem *gm = fixture_mem(state);
    struct probe_device d;
    static const u8 rom[PAGE_SIZE] = {1, 2, 3, 4};
    u8 buf[64] = {9, 9, 9, 9, 9, 9, 9, 9};
    assert_int_equal(guestmem_add_rom(gm, 0x10000, rom, sizeof(rom), NULL), 0);
    assert_int_equal(guestmem_add_mmio(gm, 0x20000, PAGE_SIZE, &probe_ops, &d, NULL, NULL), 0);
    assert_true(guestmem_read(gm, 0x10000 - 4, buf, 8));
    assert_int_equal(load_le(buf, 8), 0x0403020100000000);
    assert_false(guestmem_write(gm, 0x10000 - 4, buf, 8));
    assert_int_equal(guestmem_load(gm, 0x10000 - 4, 8, NULL), 0x0403020100000000);
    assert_false(guestmem_read(gm, 0x20000 - 4, buf, 8));
    assert_false(guestmem_read(gm, ~0ULL - 3, buf, 8));
    assert_false(guestmem_read(gm, 0, buf, ~0ULL));
    assert_true(guestmem_read(gm, ~0ULL >> 12, buf, 0));
    assert_int_equal(guestmem_load(gm, 0xf0000000, 8, NULL), ~0ULL);
    assert_int_equal(guestmem_load(gm, 0xf0000000, 2, NULL), 0xffff);
    assert_int_equal(guestmem_load(gm, TEST_RAM - 1, 2, NULL), 0xff00);
    guestmem_store(gm, TEST_RAM - 1, 0xabcd, 2, NULL);
    assert_int_equal(guestmem_load(gm, TEST_RAM - 1, 1, NULL), 0xcd);
    guestmem_store(gm, 0x10000, 0, 8, NULL);
    assert_int_equal(guestmem_load(gm, 0x10000, 4, NULL), 0x04030201);
}

static void count(void *ctx)
{
    (*(unsigned *)ctx)++;
}

static void test_regions(void **state)
{
    struct guest_mem *gm = fixture_mem(state);
    struct probe_device d = {0};
    struct mem_region *bar, *vram;
    struct error err;
    unsigned changes = 0;
    u8 *hva;
    assert_int_equal(mem_region_mmio(gm, LAYER_BUS, PAGE_SIZE, &probe_ops, &d, NULL, &bar, &err),
                     0);
    assert_int_equal(mem_region_memory(gm, LAYER_BUS, 16 * PAGE_SIZE, false, &hva, &vram, &err), 0);
    assert_int_equal(mem_region_memory(gm, LAYER_BUS, GUESTMEM_EXTRA_MAX, false, &hva, &vram, &err),
                     -ENOMEM);
    guestmem_on_map_change(gm, count, &changes);
    mem_region_place(bar, 0xe0000000);
    assert_int_equal(guestmem_load(gm, 0xe0000010, 1, NULL), 0x10);
    mem_region_place(bar, 0xe0004000); /* moves */
    assert_int_equal(guestmem_load(gm, 0xe0000010, 1, NULL), 0xff);
    assert_int_equal(guestmem_load(gm, 0xe0004010, 1, NULL), 0x10);
    mem_region_place(vram, 0xe0000000); /* made later: over the other */
    guestmem_store(gm, 0xe0004010, 0x1234, 2, NULL);
    assert_int_equal(load_le(hva + 0x4010, 2), 0x1234);
    mem_region_place(vram, 0x1000); /* under RAM */
    assert_int_equal(guestmem_load(gm, 0x5010, 2, NULL), 0);
    assert_int_equal(guestmem_load(gm, 0xe0004010, 1, NULL), 0x10);
    mem_region_place(vram, BIT(52) - PAGE_SIZE); /* nowhere */
    assert_int_equal(guestmem_load(gm, BIT(52) - PAGE_SIZE, 1, NULL), 0xff);
    assert_int_equal(changes, 5);
    mem_region_remove(vram); /* which changes nothing */
    assert_int_equal(changes, 5);
    mem_region_remove(bar);
    assert_int_equal(guestmem_load(gm, 0xe0004010, 1, NULL), 0xff);
    guestmem_on_map_change(gm, NULL, &changes);
    mem_region_place(bar, 0xe0000000);
    assert_int_equal(changes, 6);
}

/* Shadow RAM: ROM, or RAM that can or can't be written, at the same place. Decoded code is stale
 * after each change. */
static void test_window(void **state)
{
    struct guest_mem *gm = fixture_mem(state);
    struct mem_region *window, *rom;
    u8 *hva;
    assert_int_equal(mem_region_memory(gm, LAYER_BOARD, 4 * PAGE_SIZE, true, &hva, &rom, NULL), 0);
    assert_int_equal(mem_region_window(gm, LAYER_SHADOW, PAGE_SIZE, &window, NULL), 0);
    memset(hva, 0xaa, 4 * PAGE_SIZE);
    guestmem_store(gm, 0xf1000, 0x11, 1, NULL);
    mem_region_place(rom, 0xf0000);
    mem_region_place(window, 0xf1000); /* shows nothing yet */
    assert_int_equal(guestmem_load(gm, 0xf1000, 1, NULL), 0xaa);
    _Atomic u32 *version = code_version_of(gm, 0xf1000);
    u32 was = code_protect(gm, 0xf1000, 4);
    assert_true(code_verify(gm, 0xf1000, 4, was));
    mem_region_show(window, NULL, 0xf1000, true);
    assert_int_not_equal(atomic_load(version), was);
    assert_int_equal(guestmem_load(gm, 0xf1000, 1, NULL), 0x11);
    guestmem_store(gm, 0xf1001, 0x22, 1, NULL);
    assert_int_equal(guestmem_load(gm, 0xf1000, 2, NULL), 0x2211);
    mem_region_show(window, NULL, 0xf1000, false);
    guestmem_store(gm, 0xf1001, 0x33, 1, NULL);
    assert_int_equal(guestmem_load(gm, 0xf1000, 2, NULL), 0x2211);
    hva[3 * PAGE_SIZE] = 0x55;
    mem_region_show(window, rom, 3 * PAGE_SIZE, true); /* memory that is a ROM elsewhere */
    assert_int_equal(guestmem_load(gm, 0xf1000, 1, NULL), 0x55);
    guestmem_store(gm, 0xf1000, 0x66, 1, NULL);
    assert_int_equal(guestmem_load(gm, 0xf3000, 1, NULL), 0x66);
    mem_region_remove(window);
    assert_int_equal(guestmem_load(gm, 0xf1000, 1, NULL), 0xaa);
}

struct mover {
    struct mem_region *region;
    atomic_bool stop;
};

static void *move(void *arg)
{
    struct mover *m = arg;
    for (u64 n = 0; !m->stop; n++)
        mem_region_place(m->region, 0xe0000000 + (n % 16) * PAGE_SIZE);
    return NULL;
}

/* A reader sees each state whole. */
static void test_readers(void **state)
{
    struct guest_mem *gm = fixture_mem(state);
    struct mover m = {.stop = false};
    pthread_t thread;
    u8 *hva;
    unsigned seen = 0;
    assert_int_equal(mem_region_memory(gm, LAYER_BUS, PAGE_SIZE, false, &hva, &m.region, NULL), 0);
    memset(hva, 0x77, PAGE_SIZE);
    assert_int_equal(pthread_create(&thread, NULL, move, &m), 0);
    for (unsigned n = 0; n < 200000 || !seen; n++) {
        u64 value = guestmem_load(gm, 0xe0000000 + (n % 16) * PAGE_SIZE, 1, NULL);
        assert_true(value == 0x77 || value == 0xff);
        seen += value == 0x77;
        assert_int_equal(guestmem_load(gm, 0x8000, 1, NULL), 0);
        assert_non_null(guestmem_hva(gm, MIB, PAGE_SIZE, true));
    }
    m.stop = true;
    pthread_join(thread, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_high_ram),
        TEST(test_overlay),
        TEST(test_bad_ranges),
        TEST(test_copies),
        TEST(test_regions),
        TEST(test_window),
        TEST(test_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
