/*
 * IDE channels and their bus masters at register level.
 */
#include "ide_rig.h"

/* --- registers --- */

static void test_nobody(void **state)
{
    struct ide_rig *t = ide_rig_create();
    (void)state;
    ide_rig_plug(t, 0);
    for (unsigned reg = 1; reg < 8; reg++) {
        if (reg < 7)
            out8(&t->r, t->base + reg, 0x55);
        assert_int_equal(in8(&t->r, t->base + reg), 0);
    }
    command(t, 0xec);
    assert_int_equal(alt_status(t), 0);
    assert_int_equal(in16(&t->r, t->base), 0xffff);
    assert_int_equal(interrupts(t), 0);
    ide_rig_destroy(t);
}

static void test_drive_1_absent(void **state)
{
    struct ide_rig *t = *state;
    out8(&t->r, t->control, C_SRST);
    out8(&t->r, t->control, 0);
    out8(&t->r, t->base + 6, DEV_CHS | DEV_1);
    assert_int_equal(in8(&t->r, t->base + 6), DEV_CHS | DEV_1);
    assert_int_equal(in8(&t->r, t->base + 2), 1); /* what Linux waits for */
    assert_int_equal(lba_regs(t), 0xffff01);
    out8(&t->r, t->base + 2, 0x55);
    out8(&t->r, t->base + 3, 0xaa);
    assert_int_equal(in8(&t->r, t->base + 2), 0x55);
    assert_int_equal(in8(&t->r, t->base + 3), 0xaa);
    assert_int_equal(status(t), 0);
    assert_int_equal(alt_status(t), 0);
    assert_int_equal(error_reg(t), 0);
    command(t, 0xec);
    assert_int_equal(status(t), 0);
    out8(&t->r, t->base + 6, DEV_CHS);
    assert_int_equal(status(t), ST_OK);
    assert_int_equal(interrupts(t), 0);
}

/* Drive 1 alone: nobody answers for drive 0. */
static void test_drive_0_absent(void **state)
{
    struct ide_rig *t = ide_rig_create();
    u16 w[256];
    (void)state;
    t->disk[0][1] = test_block_create(50);
    ide_rig_plug(t, 0);
    out8(&t->r, t->base + 2, 0x55);
    assert_int_equal(in8(&t->r, t->base + 2), 0);
    assert_int_equal(status(t), 0);
    identify(t, w, DEV_CHS | DEV_1);
    assert_int_equal(w[60], 50);
    ide_rig_destroy(t);
}

static void test_soft_reset(void **state)
{
    struct ide_rig *t = *state;
    use_channel(t, 1);
    taskfile(t, 0, 1, 5, DEV_LBA | DEV_1);
    command(t, 0x20);
    assert_int_equal(intrq(t), 1);
    out8(&t->r, t->control, C_SRST);
    assert_int_equal(intrq(t), 0);
    assert_int_equal(status(t), ST_BSY);
    command(t, 0xec);
    assert_int_equal(status(t), ST_BSY);
    out8(&t->r, t->control, 0);
    assert_int_equal(status(t), ST_OK);
    assert_int_equal(in8(&t->r, t->base + 6), DEV_CHS);
    for (unsigned i = 0; i < 2; i++) {
        out8(&t->r, t->base + 6, DEV_CHS | (i ? DEV_1 : 0));
        assert_int_equal(status(t), ST_OK);
        assert_int_equal(error_reg(t), 1);
        assert_int_equal(in8(&t->r, t->base + 2), 1);
        assert_int_equal(lba_regs(t), 1);
    }
    assert_int_equal(in16(&t->r, t->base), 0xffff);
    assert_int_equal(intrq(t), 0);
}

static void test_interrupt_off(void **state)
{
    struct ide_rig *t = *state;
    u8 buf[512];
    out8(&t->r, t->control, C_NIEN);
    command28(t, 0x20, 1, 1, DEV_LBA);
    assert_int_equal(intrq(t), 0);
    assert_int_equal(bm_status(t), 0);
    out8(&t->r, t->control, 0);
    assert_int_equal(intrq(t), 1);
    assert_int_equal(bm_status(t), BM_INT);
    out8(&t->r, t->bm + 2, BM_INT);
    assert_int_equal(bm_status(t), 0);
    assert_int_equal(alt_status(t), ST_OK | ST_DRQ);
    assert_int_equal(intrq(t), 1);
    pio_read(t, buf, 512);
    assert_int_equal(status(t), ST_OK);
    assert_int_equal(intrq(t), 0);
}

/* The pin follows the selected drive; a command's start drops it. */
static void test_interrupt_of_drives(void **state)
{
    struct ide_rig *t = *state;
    use_channel(t, 1);
    command28(t, 0x10, 0, 0, DEV_CHS);
    assert_int_equal(intrq(t), 1);
    out8(&t->r, t->base + 6, DEV_CHS | DEV_1);
    assert_int_equal(intrq(t), 0);
    out8(&t->r, t->base + 6, DEV_CHS);
    assert_int_equal(intrq(t), 1);
    assert_int_equal(interrupts(t), 2);
    command28(t, 0x10, 0, 0, DEV_CHS);
    assert_int_equal(intrq(t), 1);
    assert_int_equal(interrupts(t), 3);
    assert_int_equal(status(t), ST_OK);
    assert_int_equal(t->r.pin[0].rises, 0);
}

static void test_wide_accesses(void **state)
{
    struct ide_rig *t = *state;
    u8 buf[512];
    out16(&t->r, t->base + 2, 0x0701); /* count 1, sector 7 */
    out32(&t->r, t->base + 4, 0x20e00000);
    for (unsigned i = 0; i < 512; i += 4)
        store_le(buf + i, in32(&t->r, t->base), 4);
    assert_memory_equal(buf, sector(t, 7), 512);
    assert_int_equal(status(t), ST_OK);
    assert_int_equal(in8(&t->r, t->base), 0xff);
    command28(t, 0x30, 9, 1, DEV_LBA);
    fill(buf, 512, 3);
    for (unsigned i = 0; i < 512; i += 4)
        out32(&t->r, t->base, (u32)load_le(buf + i, 4));
    assert_memory_equal(buf, sector(t, 9), 512);
    expect_end(t, ST_OK, 0);
    assert_int_equal(in16(&t->r, t->base + 6), 0x50e0);
}

/* --- DMA --- */

static void test_dma_read(void **state)
{
    struct ide_rig *t = *state;
    static const u8 commands[] = {0xc8, 0xc9, 0x25};
    put_prd(t, TABLE, 0, DATA, 512, false);
    put_prd(t, TABLE, 1, DATA + 0x10002, 1024, true);
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        u32 lba = 1000 + 10 * i;
        bm_prepare(t, TABLE, true);
        command48(t, commands[i], lba, 3, DEV_LBA);
        assert_int_equal(alt_status(t), ST_OK | ST_DRQ);
        assert_int_equal(intrq(t), 0);
        bm_start(t);
        assert_int_equal(bm_status(t), BM_INT);
        bm_stop(t);
        expect_end(t, ST_OK, 0);
        assert_memory_equal(t->ram + DATA, sector(t, lba), 512);
        assert_memory_equal(t->ram + DATA + 0x10002, sector(t, lba + 1), 1024);
        assert_int_equal(lba_regs(t), lba + 2);
    }
}

static void test_dma_write(void **state)
{
    struct ide_rig *t = *state;
    static const u8 commands[] = {0xca, 0xcb, 0x35, 0x3d};
    put_prd(t, TABLE, 0, DATA, 1022, false);
    put_prd(t, TABLE, 1, DATA + 0x10000, 514, true);
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        u32 lba = 1000 + 10 * i;
        fill(t->ram + DATA, 0x11000, (u8)i);
        bm_prepare(t, TABLE, false);
        command48(t, commands[i], lba, 3, DEV_LBA);
        bm_start(t);
        assert_int_equal(bm_status(t), BM_INT);
        bm_stop(t);
        expect_end(t, ST_OK, 0);
        assert_memory_equal(sector(t, lba), t->ram + DATA, 1022);
        assert_memory_equal(sector(t, lba) + 1022, t->ram + DATA + 0x10000, 514);
    }
    assert_int_equal(t->disk[0][0]->flushes, 1); /* WRITE DMA FUA EXT */
}

/* More than the buffer holds; a count of 0 is 64 KiB. The bus master may be started first. */
static void test_dma_many(void **state)
{
    struct ide_rig *t = *state;
    for (unsigned i = 0; i < 8; i++)
        put_prd(t, TABLE, i, DATA + i * 0x10000, 0, i == 7);
    bm_prepare(t, TABLE, true);
    bm_start(t);
    assert_int_equal(bm_status(t), BM_ACTIVE);
    command48(t, 0x25, 77, 1024, DEV_LBA);
    assert_int_equal(bm_status(t), BM_INT);
    expect_end(t, ST_OK, 0);
    assert_memory_equal(t->ram + DATA, sector(t, 77), 1024 * 512);
    bm_stop(t);
    fill(t->ram + DATA, 1024 * 512, 5);
    bm_prepare(t, TABLE, false);
    bm_start(t);
    command48(t, 0x35, 3000, 1024, DEV_LBA);
    expect_end(t, ST_OK, 0);
    assert_memory_equal(t->ram + DATA, sector(t, 3000), 1024 * 512);
}

/* Fewer bytes in the table than the drive has: no interrupt, and not active. */
static void test_dma_short(void **state)
{
    struct ide_rig *t = *state;
    put_prd(t, TABLE, 0, DATA, 1024, true);
    bm_prepare(t, TABLE, true);
    command28(t, 0xc8, 1, 3, DEV_LBA);
    bm_start(t);
    assert_int_equal(bm_status(t), 0);
    assert_int_equal(intrq(t), 0);
    assert_int_equal(status(t), ST_OK);
    bm_stop(t);
    bm_prepare(t, TABLE, false);
    command28(t, 0xca, 1, 3, DEV_LBA);
    bm_start(t);
    assert_int_equal(bm_status(t), 0);
    assert_int_equal(intrq(t), 0);
    assert_int_equal(t->disk[0][0]->writes, 0);
}

/* More bytes in the table: it stays active. */
static void test_dma_long(void **state)
{
    struct ide_rig *t = *state;
    put_prd(t, TABLE, 0, DATA, 512, false);
    put_prd(t, TABLE, 1, DATA + 512, 1024, true);
    bm_prepare(t, TABLE, true);
    command28(t, 0xc8, 1, 2, DEV_LBA);
    bm_start(t);
    assert_int_equal(bm_status(t), BM_INT | BM_ACTIVE);
    expect_end(t, ST_OK, 0);
    assert_int_equal(t->ram[DATA + 1024 + 8], 0);
    bm_stop(t);
    assert_int_equal(bm_status(t), BM_INT);
}

static void expect_dma_error(struct ide_rig *t, u8 cmd, u32 table)
{
    bm_prepare(t, table, cmd == 0xc8);
    command28(t, cmd, 1, 2, DEV_LBA);
    bm_start(t);
    assert_int_equal(bm_status(t), BM_INT | BM_ERROR);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
    bm_stop(t);
}

static void test_dma_bad_addresses(void **state)
{
    struct ide_rig *t = *state;
    static const u32 bad[] = {IDE_RAM, IDE_RAM - 512, 0xfec00000, 0xfffffe00, 0x80000000};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        put_prd(t, TABLE, 0, bad[i], 1024, true);
        expect_dma_error(t, 0xc8, TABLE);
        expect_dma_error(t, 0xca, TABLE);
    }
    expect_dma_error(t, 0xc8, IDE_RAM);
    expect_dma_error(t, 0xca, 0xfffffffc);
    expect_dma_error(t, 0xca, IDE_RAM - 4); /* half a descriptor */
    assert_int_equal(t->disk[0][0]->writes, 0);
}

/* A table without an end is read as far as the drive has data, and past RAM's end is an error. */
static void test_dma_no_end(void **state)
{
    struct ide_rig *t = *state;
    for (u32 n = 0; n < 256; n++)
        put_prd(t, TABLE, n, DATA + 4 * n, 4, false);
    bm_prepare(t, TABLE, true);
    command28(t, 0xc8, 9, 2, DEV_LBA);
    bm_start(t);
    assert_int_equal(bm_status(t), BM_INT | BM_ACTIVE);
    expect_end(t, ST_OK, 0);
    assert_memory_equal(t->ram + DATA, sector(t, 9), 1024);
    bm_stop(t);
    u32 last = IDE_RAM - 8;
    put_prd(t, last, 0, DATA, 512, false);
    expect_dma_error(t, 0xc8, last);
}

static void test_bm_registers(void **state)
{
    struct ide_rig *t = *state;
    out32(&t->r, t->bm + 4, 0x12345677);
    assert_int_equal(in32(&t->r, t->bm + 4), 0x12345674);
    out8(&t->r, t->bm + 6, 0xab);
    assert_int_equal(in32(&t->r, t->bm + 4), 0x12ab5674);
    assert_int_equal(in8(&t->r, t->bm + 5), 0x56);
    out8(&t->r, t->bm, 0xff & ~BM_START);
    assert_int_equal(in8(&t->r, t->bm), BM_READ);
    out8(&t->r, t->bm + 2, 0xff); /* capable bits stay; simplex is read-only */
    assert_int_equal(bm_status(t), 0x60);
    out8(&t->r, t->bm + 2, 0x20);
    assert_int_equal(bm_status(t), 0x20);
    assert_int_equal(in8(&t->r, t->bm + 1), 0xff);
    use_channel(t, 1);
    assert_int_equal(in32(&t->r, t->bm + 4), 0);
    assert_int_equal(bm_status(t), 0);
    ide_reset(t->ide);
    use_channel(t, 0);
    assert_int_equal(in32(&t->r, t->bm + 4), 0);
}

static void test_channel_1_dma(void **state)
{
    struct ide_rig *t = *state;
    use_channel(t, 1);
    put_prd(t, TABLE, 0, DATA, 512, true);
    bm_prepare(t, TABLE, true);
    command28(t, 0xc8, 150, 1, DEV_LBA | DEV_1);
    bm_start(t);
    assert_int_equal(bm_status(t), BM_INT);
    expect_end(t, ST_OK, 0);
    assert_memory_equal(t->ram + DATA, t->disk[1][1]->data + 150 * 512, 512);
    assert_int_equal(t->r.pin[0].rises, 0);
}

/* What DMA writes over may be decoded code. */
static void test_dma_code(void **state)
{
    struct ide_rig *t = *state;
    u32 version = code_protect(t->gm, DATA, 64);
    put_prd(t, TABLE, 0, DATA, 512, true);
    bm_prepare(t, TABLE, true);
    command28(t, 0xc8, 1, 1, DEV_LBA);
    assert_true(code_verify(t->gm, DATA, 64, version));
    bm_start(t);
    assert_false(code_verify(t->gm, DATA, 64, version));
}

/* --- while the image's back end works --- */

static void test_busy(void **state)
{
    struct ide_rig *t = *state;
    struct test_block *b = t->disk[0][0];
    u8 buf[512];
    b->hold = true;
    command28(t, 0x20, 33, 1, DEV_LBA);
    assert_int_equal(alt_status(t), ST_BSY);
    assert_int_equal(intrq(t), 0);
    out8(&t->r, t->base + 3, 99);
    out8(&t->r, t->base + 6, DEV_CHS | DEV_1);
    assert_int_equal(in8(&t->r, t->base + 3), 33);
    assert_int_equal(in8(&t->r, t->base + 6), DEV_LBA);
    command(t, 0xec);
    command(t, 0x08);
    assert_int_equal(in16(&t->r, t->base), 0xffff);
    assert_int_equal(alt_status(t), ST_BSY);
    test_block_go(b);
    take(t, buf, 1, 1);
    assert_memory_equal(buf, sector(t, 33), 512);
}

/* The drive stays busy after a reset until the request is over; its result is dropped. */
static void test_reset_in_flight(void **state)
{
    struct ide_rig *t = *state;
    struct test_block *b = t->disk[0][0];
    u8 buf[512];
    for (unsigned hard = 0; hard < 2; hard++) {
        b->hold = true;
        put_prd(t, TABLE, 0, DATA, 512, true);
        bm_prepare(t, TABLE, true);
        command28(t, 0xc8, 33, 1, DEV_LBA);
        bm_start(t);
        if (hard) {
            ide_reset(t->ide);
        } else {
            out8(&t->r, t->control, C_SRST);
            out8(&t->r, t->control, 0);
        }
        assert_int_equal(alt_status(t), ST_BSY);
        command(t, 0xec);
        test_block_go(b);
        assert_int_equal(status(t), ST_OK);
        assert_int_equal(error_reg(t), 1);
        assert_int_equal(lba_regs(t), 1);
        assert_int_equal(intrq(t), 0);
        assert_int_equal(t->ram[DATA], 0);
        assert_int_equal(bm_status(t), hard ? 0 : BM_ACTIVE);
        bm_stop(t);
        b->hold = false;
        command28(t, 0x20, 3, 1, DEV_LBA);
        take(t, buf, 1, 1);
        assert_memory_equal(buf, sector(t, 3), 512);
    }
}

/* SRST that is still on when the request ends. */
static void test_reset_held(void **state)
{
    struct ide_rig *t = *state;
    struct test_block *b = t->disk[0][0];
    b->hold = true;
    command28(t, 0x20, 33, 1, DEV_LBA);
    out8(&t->r, t->control, C_SRST);
    test_block_go(b);
    assert_int_equal(alt_status(t), ST_BSY);
    out8(&t->r, t->control, 0);
    assert_int_equal(alt_status(t), ST_OK);
}

/* A bus master that was stopped writes nothing any more. */
static void test_stop_in_flight(void **state)
{
    struct ide_rig *t = *state;
    struct test_block *b = t->disk[0][0];
    for (unsigned i = 0; i < 8; i++)
        put_prd(t, TABLE, i, DATA + i * 0x10000, 0, i == 7);
    b->hold = true;
    bm_prepare(t, TABLE, true);
    command48(t, 0x25, 50, 1024, DEV_LBA);
    bm_start(t);
    test_block_go(b); /* the first half */
    assert_memory_equal(t->ram + DATA, sector(t, 50), 512 * 512);
    assert_int_equal(bm_status(t), BM_ACTIVE);
    bm_stop(t);
    assert_int_equal(bm_status(t), 0);
    test_block_go(b);
    assert_int_equal(t->ram[DATA + 512 * 512 + 8], 0);
    assert_int_equal(status(t), ST_OK);
    assert_int_equal(interrupts(t), 0);
}

/* --- PCI --- */

static void test_pci(void **state)
{
    struct ide_rig *t = *state;
    assert_int_equal(pci_get(t, 0), 0x70108086);
    assert_int_equal(pci_get(t, 8) >> 8, 0x010180);
    assert_int_equal(pci_get(t, 0x40) & 0x80008000, 0x80008000); /* both channels decode */
    pci_put(t, 0x20, 0xffffffff);
    assert_int_equal(pci_get(t, 0x20), 0xfffffff1);
    pci_put(t, 0x20, 0xd000);
    assert_int_equal(in8(&t->r, BMIDE + 2), 0xff);
    assert_int_equal(in8(&t->r, 0xd002), 0);
    out32(&t->r, 0xd00c, 0x1000);
    assert_int_equal(in32(&t->r, 0xd00c), 0x1000);
    pci_put(t, 0x04, 0);
    assert_int_equal(in8(&t->r, 0xd002), 0xff);
    assert_int_equal(alt_status(t), ST_OK);
}

/* --- */

static void test_random_walk(void **state)
{
    struct ide_rig *t = ide_rig_create();
    (void)state;
    t->disk[0][0] = test_block_create(64);
    t->disk[1][0] = test_block_create(64);
    t->disk[1][1] = test_block_create(64);
    ide_rig_plug(t, 1 << 1 | 1 << 2);
    rig_fuzz(&t->r, 0x1f0, 8);
    rig_fuzz(&t->r, 0x170, 8);
    rig_fuzz(&t->r, BMIDE, 16);
    rig_fuzz(&t->r, 0x170, 8);
    out8(&t->r, 0x3f6, C_SRST);
    out8(&t->r, 0x3f6, 0);
    assert_int_equal(alt_status(t), ST_OK);
    ide_rig_destroy(t);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, ide_setup, ide_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody),
        T(test_drive_1_absent),
        cmocka_unit_test(test_drive_0_absent),
        T(test_soft_reset),
        T(test_interrupt_off),
        T(test_interrupt_of_drives),
        T(test_wide_accesses),
        T(test_dma_read),
        T(test_dma_write),
        T(test_dma_many),
        T(test_dma_short),
        T(test_dma_long),
        T(test_dma_bad_addresses),
        T(test_dma_no_end),
        T(test_bm_registers),
        T(test_channel_1_dma),
        T(test_dma_code),
        T(test_busy),
        T(test_reset_in_flight),
        T(test_reset_held),
        T(test_stop_in_flight),
        T(test_pci),
        cmocka_unit_test(test_random_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
