/*
 * The virtio disk as its driver sees it: PCI configuration space, legacy and modern registers,
 * every kind of request, interrupts, resets with requests in flight.
 */
#include "virtio_driver.h"

static int setup_mode(void **state, enum test_disk_mode mode, bool read_only)
{
    struct driver *d = malloc(sizeof(*d));
    driver_create(d, mode, read_only);
    driver_place(d);
    *state = d;
    return 0;
}

static int setup(void **state)
{
    return setup_mode(state, AT_ONCE, false);
}

static int setup_thread(void **state)
{
    return setup_mode(state, BY_THREAD, false);
}

static int teardown(void **state)
{
    driver_destroy(*state);
    free(*state);
    return 0;
}

static u8 *ram(struct driver *d, u64 gpa)
{
    return guestmem_ram(d->gm) + gpa;
}

/* --- PCI --- */

static void test_identity(void **state)
{
    struct driver *d = *state;
    assert_int_equal(cfg_in(d, 0x00, 4), 0x10011af4);
    assert_int_equal(cfg_in(d, 0x08, 4), 0x01000000); /* revision 0: legacy drivers insist */
    assert_int_equal(cfg_in(d, 0x2c, 4), 0x00021af4);
    assert_int_equal(cfg_in(d, 0x3d, 1), 1);
    assert_int_equal(cfg_in(d, 0x06, 2) & 0x10, 0x10);
    cfg_out(d, 0x10, 0xffffffff, 4);
    assert_int_equal(cfg_in(d, 0x10, 4), 0xffffff81);
    cfg_out(d, 0x20, 0xffffffff, 4);
    assert_int_equal(cfg_in(d, 0x20, 4), 0xffffc000);
}

static void test_capabilities(void **state)
{
    static const u32 length[] = {0, 56, 4, 1, 60, 0};
    struct driver *d = *state;
    unsigned seen = 0;
    for (unsigned at = cfg_in(d, 0x34, 1); at; at = cfg_in(d, at + 1, 1)) {
        if (cfg_in(d, at, 1) != 0x09)
            continue;
        unsigned type = cfg_in(d, at + 3, 1);
        assert_in_range(type, 1, 5);
        assert_int_equal(seen & 1u << type, 0);
        seen |= 1u << type;
        assert_int_equal(cfg_in(d, at + 2, 1), type == 2 || type == 5 ? 20 : 16);
        assert_int_equal(cfg_in(d, at + 4, 1), type == 5 ? 0 : 4);
        assert_int_equal(cfg_in(d, at + 12, 4), length[type]);
        if (type == 2)
            assert_int_equal(cfg_in(d, at + 16, 4), 4);
    }
    assert_int_equal(seen, 0x3e);
}

/* The window in configuration space shows the same registers. */
static void test_window(void **state)
{
    struct driver *d = *state;
    unsigned at = cfg_in(d, 0x34, 1);
    while (at && !(cfg_in(d, at, 1) == 0x09 && cfg_in(d, at + 3, 1) == 5))
        at = cfg_in(d, at + 1, 1);
    assert_int_not_equal(at, 0);
    assert_int_equal(cfg_in(d, at + 16, 4), 0); /* not aimed yet */
    cfg_out(d, at + 4, 4, 1);
    cfg_out(d, at + 8, 18, 4); /* num_queues */
    cfg_out(d, at + 12, 2, 4);
    assert_int_equal(cfg_in(d, at + 16, 2), 1);
    cfg_out(d, at + 8, 20, 4);
    cfg_out(d, at + 12, 1, 4);
    cfg_out(d, at + 16, 3, 1);
    assert_int_equal(ld(d, DRV_BAR + 20, 1), 3);
    assert_int_equal(cfg_in(d, at + 16, 1), 3);
    cfg_out(d, at + 8, 0x2000, 4);
    cfg_out(d, at + 12, 4, 4);
    assert_int_equal(cfg_in(d, at + 16, 4), DISK_SIZE / 512);
    for (u32 bad = 3; bad; bad = bad == 3 ? 0xffffffff : 0) {
        cfg_out(d, at + 8, 20, 4);
        cfg_out(d, at + 12, bad, 4);
        cfg_out(d, at + 16, 0, 4);
        cfg_in(d, at + 16, 4);
        assert_int_equal(ld(d, DRV_BAR + 20, 1), 3);
    }
    cfg_out(d, at + 8, 0xfffffffc, 4);
    cfg_out(d, at + 12, 4, 4);
    cfg_out(d, at + 16, 0, 4);
    cfg_in(d, at + 16, 4);
    assert_int_equal(ld(d, DRV_BAR + 20, 1), 3);
}

/* --- registers --- */

static void test_config(void **state)
{
    struct driver *d = *state;
    for (int legacy = 0; legacy < 2; legacy++) {
        d->legacy = legacy;
        assert_int_equal(get_device(d, 0, 4), DISK_SIZE / 512);
        assert_int_equal(get_device(d, 4, 4), 0);
        assert_int_equal(get_device(d, 12, 4), DRV_SIZE - 2);
        assert_int_equal(get_device(d, 16, 2), DISK_SIZE / 512 / 16 / 63);
        assert_int_equal(get_device(d, 18, 1), 16);
        assert_int_equal(get_device(d, 19, 1), 63);
        assert_int_equal(get_device(d, 20, 4), 512);
        assert_int_equal(get_device(d, 32, 1), 1);
        assert_int_equal(get_device(d, 56, 4), 1);
        assert_int_equal(get_device(d, 60, 4), 0);
    }
    assert_int_equal(ld(d, DEVICE_ADDR, 8), DISK_SIZE / 512);
    assert_int_equal(get_device(d, 58, 4), 0); /* half of it is outside */
}

static void test_features(void **state)
{
    struct driver *d = *state;
    u64 all = get_features(d);
    assert_int_equal(all, F_VERSION_1 | F_EVENT | F_INDIRECT | BIT(27) | BIT(14) | BIT(13) |
                              F_CONFIG_WCE | BIT(10) | F_FLUSH | BIT(6) | BIT(4) | BIT(2));
    set_status(d, 3);
    set_features(d, all & ~F_VERSION_1);
    set_status(d, 0xb);
    assert_int_equal(get_status(d), 3); /* not without VERSION_1 */
    set_features(d, all | BIT(5));
    set_status(d, 0xb);
    assert_int_equal(get_status(d), 3); /* nor with what was not offered */
    set_features(d, F_VERSION_1);
    set_status(d, 0xb);
    assert_int_equal(get_status(d), 0xb);
    set_features(d, all);
    st(d, DRV_BAR + 8, 0, 4);
    assert_int_equal(ld(d, DRV_BAR + 12, 4), 0); /* too late */
    set_status(d, 0);
    assert_int_equal(get_status(d), 0);
    d->legacy = true;
    assert_int_equal(get_features(d), (u32)all);
    set_features(d, 0xffffffff);
    assert_int_equal(in32(&d->r, DRV_PORTS + 4), (u32)all);
}

static void test_queue_registers(void **state)
{
    struct driver *d = *state;
    assert_int_equal(ld(d, DRV_BAR + 18, 2), 1);
    st(d, DRV_BAR + 22, 1, 2); /* no such queue */
    assert_int_equal(ld(d, DRV_BAR + 24, 2), 0);
    st(d, DRV_BAR + 28, 1, 2);
    assert_int_equal(ld(d, DRV_BAR + 28, 2), 0);
    st(d, DRV_BAR + 22, 0, 2);
    assert_int_equal(ld(d, DRV_BAR + 30, 2), 0);
    st(d, DRV_BAR + 24, 32, 2);
    assert_int_equal(ld(d, DRV_BAR + 24, 2), 32);
    st(d, DRV_BAR + 36, 0x12345678, 4);
    assert_int_equal(ld(d, DRV_BAR + 32, 8), 0x1234567800000000);
    st(d, DRV_BAR + 28, 1, 2);
    st(d, DRV_BAR + 24, 64, 2); /* not while it is enabled */
    st(d, DRV_BAR + 36, 0, 4);
    assert_int_equal(ld(d, DRV_BAR + 24, 2), 32);
    assert_int_equal(ld(d, DRV_BAR + 36, 4), 0x12345678);
    set_status(d, 0);
    assert_int_equal(ld(d, DRV_BAR + 24, 2), DRV_SIZE);
    assert_int_equal(ld(d, DRV_BAR + 36, 4), 0);
    d->legacy = true;
    out16(&d->r, DRV_PORTS + 14, 5);
    assert_int_equal(in16(&d->r, DRV_PORTS + 12), 0);
    assert_int_equal(in16(&d->r, DRV_PORTS + 14), 5);
    out32(&d->r, DRV_PORTS + 8, 7);
    out16(&d->r, DRV_PORTS + 14, 0);
    assert_int_equal(in32(&d->r, DRV_PORTS + 8), 0);
}

/* --- requests --- */

static void read_and_write(struct driver *d)
{
    assert_int_equal(request(d, T_READ, 3, DRV_DATA, 1024, true), S_OK);
    assert_memory_equal(ram(d, DRV_DATA), d->disk->data + 3 * 512, 1024);
    memset(ram(d, DRV_DATA), 0xa5, 4096);
    assert_int_equal(request(d, T_WRITE, 8, DRV_DATA, 4096, false), S_OK);
    assert_memory_equal(ram(d, DRV_DATA), d->disk->data + 8 * 512, 4096);
    assert_int_equal(request(d, T_FLUSH, 0, 0, 0, false), S_OK);
    assert_int_equal(d->disk->count[BLOCK_FLUSH], 1);
    assert_int_equal(request(d, T_READ, DISK_SIZE / 512 - 1, DRV_DATA, 512, true), S_OK);
    assert_memory_equal(ram(d, DRV_DATA), d->disk->data + DISK_SIZE - 512, 512);
}

static void test_modern(void **state)
{
    driver_start(*state, false, F_FLUSH);
    read_and_write(*state);
}

static void test_legacy(void **state)
{
    driver_start(*state, true, F_FLUSH);
    read_and_write(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
        cmocka_unit_test_setup_teardown(test_capabilities, setup, teardown),
        cmocka_unit_test_setup_teardown(test_window, setup, teardown),
        cmocka_unit_test_setup_teardown(test_config, setup, teardown),
        cmocka_unit_test_setup_teardown(test_features, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queue_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_modern, setup, teardown),
        cmocka_unit_test_setup_teardown(test_legacy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_modern, setup_thread, teardown),
        cmocka_unit_test_setup_teardown(test_legacy, setup_thread, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
