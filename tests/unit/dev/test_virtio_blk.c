/*
 * The virtio disk as its driver sees it: PCI configuration space, legacy and modern registers,
 * every kind of request, interrupts, resets with requests in flight.
 */
#include "virtio_driver.h"

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
    static const struct {
        u32 offset, length;
    } bad[] = {{18, 3}, {20, 0}, {20, 0xffffffff}, {16, 8}, {19, 2}};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        cfg_out(d, at + 8, bad[i].offset, 4);
        cfg_out(d, at + 12, bad[i].length, 4);
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
    unsigned flushes = d->disk->count[BLOCK_FLUSH];
    assert_int_equal(request(d, T_READ, 3, DRV_DATA, 1024, true), S_OK);
    assert_memory_equal(ram(d, DRV_DATA), d->disk->data + 3 * 512, 1024);
    memset(ram(d, DRV_DATA), 0xa5, 4096);
    assert_int_equal(request(d, T_WRITE, 8, DRV_DATA, 4096, false), S_OK);
    assert_memory_equal(ram(d, DRV_DATA), d->disk->data + 8 * 512, 4096);
    assert_int_equal(request(d, T_FLUSH, 0, 0, 0, false), S_OK);
    assert_int_equal(d->disk->count[BLOCK_FLUSH], flushes + 1);
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

static void test_get_id(void **state)
{
    struct driver *d = *state;
    driver_start(d, false, 0);
    memset(ram(d, DRV_DATA), 0xff, 64);
    assert_int_equal(request(d, T_ID, 0, DRV_DATA, 20, true), S_OK);
    assert_memory_equal(ram(d, DRV_DATA), "ringer-disk-0\0\0\0\0\0\0\0\xff", 21);
    memset(ram(d, DRV_DATA), 0xff, 64);
    assert_int_equal(request(d, T_ID, 0, DRV_DATA, 4, true), S_OK);
    assert_memory_equal(ram(d, DRV_DATA), "ring\xff", 5);
    assert_int_equal(request(d, T_ID, 0, DRV_DATA, 64, true), S_OK);
    assert_int_equal(request(d, T_ID, 0, 0, 0, true), S_OK);
}

static void put_range(struct driver *d, unsigned n, u64 sector, u32 sectors, u32 flags)
{
    st(d, DRV_DATA + 16ULL * n, sector, 8);
    st(d, DRV_DATA + 16ULL * n + 8, sectors, 4);
    st(d, DRV_DATA + 16ULL * n + 12, flags, 4);
}

static bool zero(struct driver *d, u64 sector)
{
    for (unsigned i = 0; i < 512; i++)
        if (d->disk->data[sector * 512 + i])
            return false;
    return true;
}

static void test_ranges(void **state)
{
    struct driver *d = *state;
    driver_start(d, false, F_FLUSH | BIT(13) | BIT(14));
    put_range(d, 0, 10, 2, 0);
    put_range(d, 1, 20, 1, 0);
    assert_int_equal(request(d, T_DISCARD, 0, DRV_DATA, 32, false), S_OK);
    assert_true(!zero(d, 9) && zero(d, 10) && zero(d, 11) && !zero(d, 12) && zero(d, 20));
    assert_int_equal(d->disk->count[BLOCK_DISCARD], 2);
    put_range(d, 0, 30, 1, 1); /* may be deallocated */
    assert_int_equal(request(d, T_ZEROES, 0, DRV_DATA, 16, false), S_OK);
    assert_true(zero(d, 30) && !zero(d, 31));
    assert_int_equal(d->disk->count[BLOCK_WRITE_ZEROES], 1);
    assert_int_equal(request(d, T_DISCARD, 0, DRV_DATA, 16, false), S_UNSUPP); /* that flag */
    put_range(d, 0, 30, 1, 2);
    assert_int_equal(request(d, T_ZEROES, 0, DRV_DATA, 16, false), S_UNSUPP);
    put_range(d, 0, 40, 1, 0);
    put_range(d, 1, DISK_SIZE / 512 - 1, 2, 0); /* nothing is done if one is bad */
    assert_int_equal(request(d, T_ZEROES, 0, DRV_DATA, 32, false), S_IOERR);
    put_range(d, 1, ~0ULL, 2, 0);
    assert_int_equal(request(d, T_ZEROES, 0, DRV_DATA, 32, false), S_IOERR);
    put_range(d, 1, 0, 0, 0);
    assert_int_equal(request(d, T_ZEROES, 0, DRV_DATA, 32, false), S_IOERR);
    put_range(d, 1, 0, 0x400000, 0);
    assert_int_equal(request(d, T_ZEROES, 0, DRV_DATA, 32, false), S_IOERR);
    assert_int_equal(request(d, T_ZEROES, 0, DRV_DATA, 15, false), S_IOERR);
    assert_int_equal(request(d, T_ZEROES, 0, 0, 0, false), S_IOERR);
    assert_int_equal(request(d, T_ZEROES, 0, DRV_DATA, 33 * 16, false), S_IOERR);
    assert_false(zero(d, 40));
    for (unsigned i = 0; i < 32; i++)
        put_range(d, i, 100 + i, 1, 0);
    assert_int_equal(request(d, T_DISCARD, 0, DRV_DATA, 512, false), S_OK);
    assert_true(zero(d, 100) && zero(d, 131) && !zero(d, 132));
    assert_int_equal(d->disk->count[BLOCK_FLUSH], 0);
}

static void test_errors(void **state)
{
    struct driver *d = *state;
    driver_start(d, false, F_FLUSH);
    assert_int_equal(request(d, T_READ, DISK_SIZE / 512, DRV_DATA, 512, true), S_IOERR);
    assert_int_equal(request(d, T_READ, DISK_SIZE / 512 - 1, DRV_DATA, 1024, true), S_IOERR);
    assert_int_equal(request(d, T_READ, ~0ULL, DRV_DATA, 512, true), S_IOERR);
    assert_int_equal(request(d, T_WRITE, 1ULL << 55, DRV_DATA, 512, false), S_IOERR);
    assert_int_equal(request(d, T_READ, 0, DRV_DATA, 511, true), S_IOERR);
    assert_int_equal(request(d, T_READ, 0, 0, 0, true), S_OK); /* nothing */
    assert_int_equal(request(d, 2, 0, DRV_DATA, 512, true), S_UNSUPP);
    assert_int_equal(request(d, 0xffffffff, 0, DRV_DATA, 512, true), S_UNSUPP);
    assert_int_equal(d->disk->count[BLOCK_READ] + d->disk->count[BLOCK_WRITE], 0);
    d->disk->fail = EIO;
    assert_int_equal(request(d, T_READ, 0, DRV_DATA, 512, true), S_IOERR);
    assert_int_equal(request(d, T_WRITE, 0, DRV_DATA, 512, false), S_IOERR);
    assert_int_equal(request(d, T_FLUSH, 0, 0, 0, false), S_IOERR);
    d->disk->fail = ENOTSUP;
    put_range(d, 0, 1, 1, 0);
    assert_int_equal(request(d, T_DISCARD, 0, DRV_DATA, 16, false), S_UNSUPP);
    d->disk->fail = 0;
    read_and_write(d);
}

static void test_read_only(void **state)
{
    struct driver *d = *state;
    assert_int_equal(get_features(d) & (BIT(5) | BIT(13) | BIT(14)), BIT(5));
    driver_start(d, false, BIT(5));
    put_range(d, 0, 0, 1, 0);
    assert_int_equal(request(d, T_WRITE, 0, DRV_DATA, 512, false), S_IOERR);
    assert_int_equal(request(d, T_DISCARD, 0, DRV_DATA, 16, false), S_IOERR);
    assert_int_equal(request(d, T_ZEROES, 0, DRV_DATA, 16, false), S_IOERR);
    assert_int_equal(d->disk->count[BLOCK_WRITE] + d->disk->count[BLOCK_WRITE_ZEROES], 0);
    assert_int_equal(request(d, T_READ, 0, DRV_DATA, 512, true), S_OK);
}

/* Who doesn't know of a cache, or wants none, gets what it writes to stable storage. */
static void test_write_through(void **state)
{
    struct driver *d = *state;
    for (int legacy = 0; legacy < 2; legacy++) {
        d->disk->count[BLOCK_FLUSH] = 0;
        driver_start(d, legacy, 0);
        assert_int_equal(request(d, T_WRITE, 0, DRV_DATA, 512, false), S_OK);
        assert_int_equal(d->disk->count[BLOCK_FLUSH], 1);
        assert_int_equal(request(d, T_READ, 0, DRV_DATA, 512, true), S_OK);
        assert_int_equal(d->disk->count[BLOCK_FLUSH], 1);
        st(d, DEVICE_ADDR + 32, 0, 1); /* not agreed on */
        assert_int_equal(get_device(d, 32, 1), 1);
        driver_start(d, legacy, F_FLUSH | F_CONFIG_WCE);
        assert_int_equal(request(d, T_WRITE, 0, DRV_DATA, 512, false), S_OK);
        assert_int_equal(d->disk->count[BLOCK_FLUSH], 1);
        st(d, DEVICE_ADDR + 32, 0, 1);
        assert_int_equal(get_device(d, 32, 1), 0);
        assert_int_equal(request(d, T_WRITE, 0, DRV_DATA, 512, false), S_OK);
        assert_int_equal(d->disk->count[BLOCK_FLUSH], 2);
        st(d, DEVICE_ADDR, 1, 1); /* the rest is read-only */
        assert_int_equal(get_device(d, 0, 4), DISK_SIZE / 512);
        driver_start(d, legacy, F_FLUSH | F_CONFIG_WCE);
        assert_int_equal(get_device(d, 32, 1), 1);
    }
}

/* Header, data and status may be cut anywhere (2.6.4.1). */
static void test_framing(void **state)
{
    struct driver *d = *state;
    driver_start(d, false, F_FLUSH);
    put_header(d, 0, T_READ, 1);
    const struct part in[] = {{header_at(0), 5, false},       {header_at(0) + 5, 0, false},
                              {header_at(0) + 5, 11, false},  {DRV_DATA, 100, true},
                              {DRV_DATA + 0x1000, 400, true}, {DRV_DATA + 0x2000, 13, true}};
    send(d, in, 6);
    kick(d);
    u32 length;
    receive(d, &length);
    assert_int_equal(length, 513);
    assert_memory_equal(ram(d, DRV_DATA), d->disk->data + 512, 100);
    assert_memory_equal(ram(d, DRV_DATA + 0x1000), d->disk->data + 612, 400);
    assert_memory_equal(ram(d, DRV_DATA + 0x2000), d->disk->data + 1012, 12);
    assert_int_equal(ld(d, DRV_DATA + 0x200c, 1), S_OK);
    st(d, DRV_DATA, T_WRITE, 8); /* header and data in one */
    st(d, DRV_DATA + 8, 5, 8);
    memset(ram(d, DRV_DATA + 16), 0x77, 512);
    const struct part out[] = {{DRV_DATA, 528, false}, {DRV_DATA + 0x3000, 1, true}};
    send(d, out, 2);
    kick(d);
    receive(d, NULL);
    assert_int_equal(ld(d, DRV_DATA + 0x3000, 1), S_OK);
    assert_memory_equal(ram(d, DRV_DATA + 16), d->disk->data + 5 * 512, 512);
}

static void test_indirect(void **state)
{
    struct driver *d = *state;
    driver_start(d, false, F_FLUSH | F_INDIRECT);
    put_header(d, 0, T_READ, 0);
    put_desc(d, DRV_TABLE, 0, header_at(0), 16, D_NEXT, 1);
    for (u16 i = 1; i <= 126; i++)
        put_desc(d, DRV_TABLE, i, DRV_DATA + 0x400 * (200 - i), 512, D_NEXT | D_WRITE, i + 1);
    put_desc(d, DRV_TABLE, 127, header_at(0) + 16, 1, D_WRITE, 0);
    put_desc(d, d->desc, 9, DRV_TABLE, 128 * 16, D_INDIRECT, 0);
    make_available(d, 9);
    kick(d);
    u32 length;
    assert_int_equal(receive(d, &length), 9);
    assert_int_equal(length, 126 * 512 + 1);
    assert_int_equal(status_of(d, 0), S_OK);
    for (u16 i = 1; i <= 126; i++)
        assert_memory_equal(ram(d, DRV_DATA + 0x400 * (200 - i)), d->disk->data + (i - 1) * 512,
                            512);
    /* A chain that goes on in a table. */
    put_header(d, 0, T_READ, 2);
    put_desc(d, d->desc, 3, header_at(0), 16, D_NEXT, 4);
    put_desc(d, d->desc, 4, DRV_TABLE, 32, D_INDIRECT, 0);
    put_desc(d, DRV_TABLE, 0, DRV_DATA, 512, D_WRITE | D_NEXT, 1);
    put_desc(d, DRV_TABLE, 1, header_at(0) + 16, 1, D_WRITE, 0);
    make_available(d, 3);
    kick(d);
    assert_int_equal(receive(d, NULL), 3);
    assert_int_equal(status_of(d, 0), S_OK);
    assert_memory_equal(ram(d, DRV_DATA), d->disk->data + 1024, 512);
}

/* What the device reads may have been code: the page has a new version. */
static void test_code(void **state)
{
    struct driver *d = *state;
    driver_start(d, false, F_FLUSH);
    u32 version = code_protect(d->gm, DRV_DATA + 0x1040, 16);
    assert_int_equal(request(d, T_READ, 0, DRV_DATA, 4096, true), S_OK);
    assert_true(code_verify(d->gm, DRV_DATA + 0x1040, 16, version));
    assert_int_equal(request(d, T_READ, 0, DRV_DATA, 8192, true), S_OK);
    assert_false(code_verify(d->gm, DRV_DATA + 0x1040, 16, version));
    version = code_protect(d->gm, d->used, 4);
    assert_int_equal(request(d, T_FLUSH, 0, 0, 0, false), S_OK);
    assert_false(code_verify(d->gm, d->used, 4, version));
}

/* --- many at once --- */

/* The queue is kept full with requests of all sizes, for longer than its indices count; every
 * sector is read back. */
static void keep_busy(struct driver *d, unsigned total)
{
    u64 sector[DRV_SIZE];
    unsigned sent = 0, received = 0;
    while (received < total) {
        while (sent < total && sent - received < DRV_SIZE / 3) {
            u64 at = rig_random(&d->r) % (DISK_SIZE / 512);
            u16 slot = send_request(d, T_READ, at, DRV_DATA + 512ULL * d->next_desc, 512, true);
            sector[slot] = at;
            sent++;
            if (rig_random(&d->r) % 4 == 0)
                kick(d);
        }
        kick(d);
        for (unsigned n = rig_random(&d->r) % (sent - received) + 1; n; n--, received++) {
            u32 slot = receive(d, NULL);
            assert_int_equal(status_of(d, (u16)slot), S_OK);
            assert_memory_equal(ram(d, DRV_DATA + 512ULL * slot),
                                d->disk->data + 512 * sector[slot], 512);
        }
    }
    assert_int_equal(used_idx(d), (u16)total);
}

static void test_many(void **state)
{
    driver_start(*state, false, F_FLUSH);
    keep_busy(*state, 70000);
}

static void test_many_legacy(void **state)
{
    driver_start(*state, true, F_FLUSH | F_EVENT | F_INDIRECT);
    keep_busy(*state, 5000);
}

/* Several are with the disk at the same time, and end in another order. */
static void test_in_flight(void **state)
{
    struct driver *d = *state;
    driver_start(d, false, F_FLUSH);
    for (unsigned i = 0; i < 40; i++)
        send_request(d, T_READ, i, DRV_DATA + 512 * i, 512, true);
    kick(d);
    assert_int_equal(d->disk->waiting, 40);
    assert_int_equal(used_idx(d), 0);
    struct block_request *first = test_disk_take(d->disk);
    test_disk_go(d->disk);
    assert_int_equal(used_idx(d), 39);
    assert_int_equal(receive(d, NULL), 3);
    test_disk_carry_out(d->disk, first);
    assert_int_equal(used_idx(d), 40);
    d->seen = 39;
    assert_int_equal(receive(d, NULL), 0);
    assert_memory_equal(ram(d, DRV_DATA), d->disk->data, 40 * 512);
}

/* --- interrupts --- */

static void flush(struct driver *d)
{
    request(d, T_FLUSH, 0, 0, 0, false);
}

static void test_interrupt(void **state)
{
    struct driver *d = *state;
    for (int legacy = 0; legacy < 2; legacy++) {
        driver_start(d, legacy, F_FLUSH);
        assert_int_equal(d->r.pin[0].level, 0);
        assert_int_equal(get_isr(d), 0);
        flush(d);
        flush(d);
        assert_int_equal(d->r.pin[0].level, 1);
        assert_int_equal(cfg_in(d, 0x06, 2) & 0x18, 0x18);
        assert_int_equal(get_isr(d), 1);
        assert_int_equal(d->r.pin[0].level, 0);
        assert_int_equal(cfg_in(d, 0x06, 2) & 0x18, 0x10);
        assert_int_equal(get_isr(d), 0);
        flush(d);
        cfg_out(d, 0x04, 0x407, 2); /* INTx off */
        assert_int_equal(d->r.pin[0].level, 0);
        cfg_out(d, 0x04, 0x007, 2);
        assert_int_equal(d->r.pin[0].level, 1);
        set_status(d, 0);
        assert_int_equal(d->r.pin[0].level, 0);
        driver_start(d, legacy, F_FLUSH);
        st(d, d->avail, 1, 2); /* no interrupts, please */
        flush(d);
        assert_int_equal(d->r.pin[0].level, 0);
    }
}

/* Each side says at which index it wants to hear from the other (2.6.7.2, 2.6.10). */
static void test_event_idx(void **state)
{
    struct driver *d = *state;
    driver_start(d, false, F_FLUSH | F_EVENT);
    u64 used_event = d->avail + 4 + 2 * DRV_SIZE, avail_event = d->used + 4 + 8 * DRV_SIZE;
    st(d, d->avail, 1, 2); /* this flag means nothing now */
    st(d, used_event, 2, 2);
    for (unsigned i = 0; i < 5; i++) {
        flush(d);
        assert_int_equal(ld(d, avail_event, 2), i + 1);
        assert_int_equal(get_isr(d), i == 2);
    }
    assert_int_equal(d->r.pin[0].rises, 1);
    /* A batch is one interrupt. */
    st(d, used_event, 5, 2);
    for (unsigned i = 0; i < 8; i++)
        send_request(d, T_FLUSH, 0, 0, 0, false);
    kick(d);
    assert_int_equal(used_idx(d), 13);
    assert_int_equal(ld(d, avail_event, 2), 13);
    assert_int_equal(d->r.pin[0].rises, 2);
}

/* --- life --- */

static void test_before_driver_ok(void **state)
{
    struct driver *d = *state;
    driver_start(d, false, F_FLUSH);
    set_status(d, 0);
    set_status(d, 3);
    set_features(d, F_VERSION_1);
    set_status(d, 0xb);
    set_queue(d);
    send_request(d, T_READ, 0, DRV_DATA, 512, true);
    kick(d);
    assert_int_equal(used_idx(d), 0);
    set_status(d, 0xf); /* now it looks by itself */
    assert_int_equal(used_idx(d), 1);
}

/* The status is 0 when the disk is done with the guest's memory, and not before; what ends in
 * between leaves no trace in the rings. */
static void test_reset_in_flight(void **state)
{
    struct driver *d = *state;
    driver_start(d, false, F_FLUSH);
    for (unsigned i = 0; i < 5; i++)
        send_request(d, T_READ, 0, DRV_DATA, 512, true);
    kick(d);
    set_status(d, 0);
    assert_int_not_equal(get_status(d), 0);
    set_status(d, 1); /* too early */
    st(d, DRV_BAR + 28, 1, 2);
    kick(d);
    assert_int_equal(d->disk->waiting, 5);
    test_disk_carry_out(d->disk, test_disk_take(d->disk));
    assert_int_not_equal(get_status(d), 0);
    test_disk_go(d->disk);
    assert_int_equal(get_status(d), 0);
    assert_int_equal(used_idx(d), 0);
    assert_int_equal(d->r.pin[0].level, 0);
    assert_int_equal(ld(d, DRV_BAR + 28, 2), 0);
    d->disk->mode = AT_ONCE;
    driver_start(d, false, F_FLUSH);
    assert_int_equal(request(d, T_READ, 0, DRV_DATA, 512, true), S_OK);
}

/* Legacy drivers don't look: the write waits. So do the ways that the machine takes. */
static void test_reset_waits(void **state)
{
    struct driver *d = *state;
    for (unsigned way = 0; way < 4; way++) {
        driver_start(d, way < 2, F_FLUSH);
        for (unsigned i = 0; i < 30; i++)
            send_request(d, T_READ, 1, DRV_DATA, 512, true);
        kick(d);
        if (way == 0)
            set_status(d, 0);
        else if (way == 1)
            out32(&d->r, DRV_PORTS + 8, 0);
        else
            virtio_blk_reset(d->blk);
        assert_int_equal(d->disk->count[BLOCK_READ], 30 * (way + 1));
        assert_int_equal(in32(&d->r, DRV_PORTS + 8), 0);
        if (way != 1)
            assert_int_equal(d->r.pin[0].level, 0);
    }
    driver_start(d, false, F_FLUSH); /* and it goes away with requests in flight */
    for (unsigned i = 0; i < 30; i++)
        send_request(d, T_READ, 1, DRV_DATA, 512, true);
    kick(d);
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
        cmocka_unit_test_setup_teardown(test_get_id, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ranges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ranges, setup_thread, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_only, setup_read_only, teardown),
        cmocka_unit_test_setup_teardown(test_write_through, setup, teardown),
        cmocka_unit_test_setup_teardown(test_framing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_indirect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_code, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many, setup_thread, teardown),
        cmocka_unit_test_setup_teardown(test_many_legacy, setup_thread, teardown),
        cmocka_unit_test_setup_teardown(test_in_flight, setup_told, teardown),
        cmocka_unit_test_setup_teardown(test_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_event_idx, setup, teardown),
        cmocka_unit_test_setup_teardown(test_before_driver_ok, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_in_flight, setup_told, teardown),
        cmocka_unit_test_setup_teardown(test_reset_waits, setup_thread, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
