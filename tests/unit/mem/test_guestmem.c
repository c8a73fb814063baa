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
    assert_int_equal(slot.fd_offset, 3 * GIB);
    assert_false(guestmem_slot(gm, 2, &slot));
    u8 *low = guestmem_hva(gm, 3 * GIB - 1, 1, true), *high = guestmem_hva(gm, 4 * GIB, 1, true);
    assert_ptr_equal(low + 1, high);
    assert_ptr_equal(high, guestmem_ram(gm) + slot.fd_offset);
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
    assert_int_equal(slot.fd_offset, 0xc1000);
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_high_ram),
        TEST(test_overlay),
        TEST(test_bad_ranges),
        TEST(test_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
