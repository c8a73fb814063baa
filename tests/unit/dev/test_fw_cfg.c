/*
 * Firmware configuration: ports, directory, DMA with honest and with hostile descriptors.
 */
#include "rig.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "dev/fw_cfg.h"

#define SELECT   0x510
#define DATA     0x511
#define DMA_HIGH 0x514
#define DMA_LOW  0x518
#define RAM_SIZE (4 * MIB)
#define DESC     0x1000
#define BUFFER   0x2000

struct fw_rig {
    struct rig r;
    struct guest_mem *gm;
    struct fw_cfg *f;
};

static int setup(void **state)
{
    struct fw_rig *t = calloc(1, sizeof(*t));
    struct error err;
    rig_init(&t->r);
    assert_int_equal(guestmem_create(RAM_SIZE, &t->gm, &err), 0);
    assert_int_equal(fw_cfg_create(t->gm, &t->f, &err), 0);
    assert_int_equal(fw_cfg_attach(t->f, t->r.bus, &err), 0);
    assert_int_equal(fw_cfg_add_int(t->f, FW_CFG_RAM_SIZE, 0x123456789aULL, 8, &err), 0);
    assert_int_equal(fw_cfg_add_file(t->f, "etc/hello", "hello, firmware", 15, &err), 0);
    assert_int_equal(fw_cfg_add_file(t->f, "etc/empty", NULL, 0, &err), 0);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct fw_rig *t = *state;
    fw_cfg_destroy(t->f);
    guestmem_destroy(t->gm);
    rig_done(&t->r);
    free(t);
    return 0;
}

static void expect_bytes(struct rig *r, const void *want, size_t len)
{
    for (size_t i = 0; i < len; i++)
        assert_int_equal(in8(r, DATA), ((const u8 *)want)[i]);
}

/* Runs a transfer; returns the control word afterwards. */
static u32 dma(struct fw_rig *t, u64 desc, u32 control, u32 len, u64 address)
{
    u8 d[16];
    u32 be = htobe32(control);
    memcpy(d, &be, 4);
    be = htobe32(len);
    memcpy(d + 4, &be, 4);
    u64 be64 = htobe64(address);
    memcpy(d + 8, &be64, 8);
    guestmem_write(t->gm, desc, d, sizeof(d));
    out32(&t->r, DMA_HIGH, htobe32((u32)(desc >> 32)));
    out32(&t->r, DMA_LOW, htobe32((u32)desc));
    be = 0xffffffff;
    guestmem_read(t->gm, desc, &be, 4);
    return be32toh(be);
}

static void test_items(void **state)
{
    struct rig *r = &((struct fw_rig *)*state)->r;
    expect_bytes(r, "QEMU", 4);
    expect_bytes(r, "\0\0", 2); /* past the end */
    out16(r, SELECT, FW_CFG_ID);
    expect_bytes(r, "\3\0\0\0", 4);
    out16(r, SELECT, FW_CFG_RAM_SIZE);
    expect_bytes(r, "\x9a\x78\x56\x34\x12\0\0\0", 8);
    out16(r, SELECT, 0x3abc);
    expect_bytes(r, "\0", 1);
    out16(r, SELECT, 0x4000 | FW_CFG_SIGNATURE);
    expect_bytes(r, "QEMU", 4);
    assert_int_equal(in32(r, DMA_HIGH), 0x554d4551);
    assert_int_equal(in32(r, DMA_LOW), 0x47464320);
}

static void test_directory(void **state)
{
    struct rig *r = &((struct fw_rig *)*state)->r;
    static const u8 count[] = {0, 0, 0, 2};
    static const u8 first[] = {0, 0, 0, 15, 0, 0x20, 0, 0};
    static const u8 second[] = {0, 0, 0, 0, 0, 0x21, 0, 0};
    char name[56] = "etc/hello";
    out16(r, SELECT, FW_CFG_FILE_DIR);
    expect_bytes(r, count, 4);
    expect_bytes(r, first, 8);
    expect_bytes(r, name, 56);
    expect_bytes(r, second, 8);
    out16(r, SELECT, 0x20);
    expect_bytes(r, "hello, firmware\0", 16);
}

static void test_adding(void **state)
{
    struct fw_rig *t = *state;
    struct error err;
    char name[64];
    memset(name, 'n', sizeof(name));
    name[56] = 0;
    assert_int_equal(fw_cfg_add_file(t->f, name, "x", 1, &err), -ENAMETOOLONG);
    name[55] = 0;
    assert_int_equal(fw_cfg_add_file(t->f, name, "x", 1, &err), 0);
    assert_int_equal(fw_cfg_add_file(t->f, "etc/hello", "x", 1, &err), -EEXIST);
    assert_int_equal(fw_cfg_add_bytes(t->f, FW_CFG_FILE_DIR, "x", 1, &err), -EEXIST);
    int rc = 0;
    for (int i = 0; i < 100 && !rc; i++) {
        snprintf(name, sizeof(name), "opt/%d", i);
        rc = fw_cfg_add_file(t->f, name, "x", 1, &err);
    }
    assert_int_equal(rc, -ENOSPC);
}

static void test_dma(void **state)
{
    struct fw_rig *t = *state;
    char buf[32];
    assert_int_equal(dma(t, DESC, 0x20 << 16 | 0x08 | 0x02, 5, BUFFER), 0);
    guestmem_read(t->gm, BUFFER, buf, 5);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(dma(t, DESC, 0x04, 2, 0), 0);
    memset(buf, 'z', sizeof(buf));
    guestmem_write(t->gm, BUFFER, buf, sizeof(buf));
    assert_int_equal(dma(t, DESC, 0x02, 10, BUFFER), 0);
    guestmem_read(t->gm, BUFFER, buf, 11);
    assert_memory_equal(buf, "firmware\0\0z", 11);
    assert_int_equal(dma(t, DESC, 0x20 << 16 | 0x08 | 0x10, 5, BUFFER), 1); /* read-only */
}

static void test_hostile_dma(void **state)
{
    struct fw_rig *t = *state;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(dma(t, DESC, 0x04, 0xffffffff, 0), 0);
    assert_int_equal(dma(t, DESC, 0x02, 0xffffffff, 0), 1); /* more than there is RAM */
    assert_int_equal(dma(t, DESC, 0x02, 16, ~0ULL - 7), 1);
    assert_int_equal(dma(t, DESC, 0x02, 16, RAM_SIZE - 8), 1);
    assert_int_equal(dma(t, DESC, 0x02, 16, 0xffff000000000000ULL), 1);
    dma(t, RAM_SIZE - 4, 0x02, 16, 0);
    dma(t, ~0ULL - 3, 0x02, 16, 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert_true(b.tv_sec - a.tv_sec < 5);
    /* The transfer may overwrite its own descriptor. */
    assert_int_equal(dma(t, DESC, 0x20 << 16 | 0x0a, 64, DESC - 16), 0);
    fw_cfg_reset(t->f);
    expect_bytes(&t->r, "QEMU", 4);
}

static void test_fuzz(void **state)
{
    struct fw_rig *t = *state;
    struct rig *r = &t->r;
    rig_fuzz(r, SELECT - 2, 16);
    for (int i = 0; i < 20000; i++)
        dma(t, rig_random(r) % (RAM_SIZE + 64), rig_random(r) % 64 | (rig_random(r) % 64) << 16,
            rig_random(r) >> rig_random(r) % 32, (u64)rig_random(r) << rig_random(r) % 40);
    fw_cfg_reset(t->f);
    test_directory(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_items, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_adding, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dma, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_dma, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fuzz, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
