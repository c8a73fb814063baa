/*
 * ATAPI CD-ROM drives at register level.
 */
#include "ide_rig.h"

static int setup(void **state)
{
    struct ide_rig *t = ide_rig_create();
    t->disk[1][0] = test_block_create(4000); /* 1000 CD sectors */
    ide_rig_plug(t, 1 << 2 | 1 << 3);
    use_channel(t, 1);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    ide_rig_destroy(*state);
    return 0;
}

/* Sends a packet, with the byte count limit for PIO or 0 and DMA. */
static void packet(struct ide_rig *t, const void *bytes, unsigned limit, bool dma)
{
    taskfile(t, dma, 0, limit << 8, (u8)in8(&t->r, t->base + 6));
    command(t, 0xa0);
    assert_int_equal(alt_status(t), ST_OK | ST_DRQ);
    assert_int_equal(in8(&t->r, t->base + 2), 1);
    assert_int_equal(intrq(t), 0);
    pio_write(t, bytes, 12);
}

static void clear_attention(struct ide_rig *t)
{
    static const u8 ready[12] = {0};
    packet(t, ready, 0, false);
    expect_end(t, ST_OK | ST_ERR, 0x60);
}

static void test_read(void **state)
{
    struct ide_rig *t = *state;
    static const u8 read[12] = {0x28, 0, 0, 0, 0, 10, 0, 0, 2};
    u8 buf[2048];
    clear_attention(t);
    packet(t, read, 2048, false);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(intrq(t), 1);
        assert_int_equal(status(t), ST_OK | ST_DRQ);
        assert_int_equal(in8(&t->r, t->base + 2), 2);
        assert_int_equal(lba_regs(t) >> 8, 2048);
        pio_read(t, buf, 2048);
        assert_memory_equal(buf, t->disk[1][0]->data + 2048 * (10 + i), 2048);
    }
    expect_end(t, ST_OK, 0);
    assert_int_equal(in8(&t->r, t->base + 2), 3);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
