/*
 * IDE channels and ATA disks at register level.
 */
#include "ide_rig.h"

#define SECTORS 20000

static int setup(void **state)
{
    struct ide_rig *t = ide_rig_create();
    t->disk[0][0] = test_block_create(SECTORS);
    t->disk[1][0] = test_block_create(100);
    t->disk[1][1] = test_block_create(200);
    ide_rig_plug(t, 0);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    ide_rig_destroy(*state);
    return 0;
}

/* --- PIO and DMA --- */

static void test_pio_read(void **state)
{
    struct ide_rig *t = *state;
    u8 buf[512];
    command28(t, 0x20, 300, 3, DEV_LBA);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(alt_status(t), ST_OK | ST_DRQ);
        assert_int_equal(intrq(t), 1);
        assert_int_equal(status(t), ST_OK | ST_DRQ);
        assert_int_equal(intrq(t), 0);
        pio_read(t, buf, 512);
        assert_memory_equal(buf, t->disk[0][0]->data + 512 * (300 + i), 512);
    }
    assert_int_equal(status(t), ST_OK);
    assert_int_equal(intrq(t), 0);
    assert_int_equal(interrupts(t), 3);
    assert_int_equal(lba_regs(t), 302);
    assert_int_equal(in8(&t->r, t->base + 2), 0);
    assert_int_equal(t->disk[0][0]->reads, 1);
}

static void test_dma_read(void **state)
{
    struct ide_rig *t = *state;
    put_prd(t, 0x1000, 0, 0x20000, 512, false);
    put_prd(t, 0x1000, 1, 0x30002, 1024, true);
    bm_prepare(t, 0x1000, true);
    command28(t, 0xc8, 1000, 3, DEV_LBA);
    assert_int_equal(alt_status(t) & (ST_BSY | ST_DRQ), ST_DRQ);
    assert_int_equal(intrq(t), 0);
    bm_start(t);
    assert_int_equal(bm_status(t), BM_INT);
    bm_stop(t);
    expect_end(t, ST_OK, 0);
    assert_memory_equal(t->ram + 0x20000, t->disk[0][0]->data + 512000, 512);
    assert_memory_equal(t->ram + 0x30002, t->disk[0][0]->data + 512512, 1024);
    assert_int_equal(lba_regs(t), 1002);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_pio_read),
        T(test_dma_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
