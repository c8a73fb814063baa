/*
 * The DMA controllers at register level, with the test as the device.
 */
#include "rig.h"

#include "dev/i8237.h"
#include "mem/guestmem.h"

#define RAM (2 * MIB)

struct dma_rig {
    struct rig r;
    struct guest_mem *gm;
    struct i8237 *dma;
    unsigned ready;
};

static void be_ready(void *ctx)
{
    ((struct dma_rig *)ctx)->ready++;
}

static int setup(void **state)
{
    struct dma_rig *t = calloc(1, sizeof(*t));
    struct error err;
    rig_init(&t->r);
    assert_int_equal(guestmem_create(RAM, &t->gm, &err), 0);
    assert_int_equal(i8237_create(t->gm, &t->dma, &err), 0);
    assert_int_equal(i8237_attach(t->dma, t->r.bus, &err), 0);
    i8237_connect(t->dma, 2, be_ready, t);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct dma_rig *t = *state;
    i8237_destroy(t->dma);
    guestmem_destroy(t->gm);
    rig_done(&t->r);
    free(t);
    return 0;
}

static const u8 page_port[8] = {0x87, 0x83, 0x81, 0x82, 0x8f, 0x8b, 0x89, 0x8a};

static unsigned port_of(unsigned channel, unsigned reg)
{
    return channel < 4 ? reg : 0xc0 + 2 * reg;
}

/* As drivers do it; address and count in the channel's units. */
static void program(struct dma_rig *t, unsigned channel, u8 mode, u8 page, u16 address, u16 count)
{
    struct rig *r = &t->r;
    unsigned n = channel % 4;
    out8(r, port_of(channel, 10), 4 | n);
    out8(r, port_of(channel, 12), 0);
    out8(r, port_of(channel, 11), mode | n);
    out8(r, port_of(channel, 2 * n), address & 0xff);
    out8(r, port_of(channel, 2 * n), address >> 8);
    out8(r, port_of(channel, 2 * n + 1), count & 0xff);
    out8(r, port_of(channel, 2 * n + 1), count >> 8);
    out8(r, page_port[channel], page);
    out8(r, port_of(channel, 10), n);
}

static u16 read16(struct dma_rig *t, unsigned channel, unsigned reg)
{
    unsigned port = port_of(channel, 2 * (channel % 4) + reg);
    out8(&t->r, port_of(channel, 12), 0);
    u16 low = (u16)in8(&t->r, port);
    return (u16)(low | in8(&t->r, port) << 8);
}

static u8 *ram(struct dma_rig *t, u64 gpa)
{
    return guestmem_ram(t->gm) + gpa;
}

static void test_to_memory(void **state)
{
    struct dma_rig *t = *state;
    u8 data[600];
    bool tc = true;
    memset(data, 0xab, sizeof(data));
    program(t, 2, 0x44, 0x01, 0x2ff0, 511);
    assert_int_equal(i8237_transfer(t->dma, 2, data, 100, true, &tc), 100);
    assert_false(tc);
    assert_int_equal(read16(t, 2, 0), 0x2ff0 + 100);
    assert_int_equal(read16(t, 2, 1), 411);
    assert_int_equal(in8(&t->r, 8) & 0x0f, 0);
    assert_int_equal(i8237_transfer(t->dma, 2, data, 600, true, &tc), 412); /* over a page */
    assert_true(tc);
    assert_int_equal(read16(t, 2, 1), 0xffff);
    assert_int_equal(in8(&t->r, 8), 0x04); /* terminal count; reading clears it */
    assert_int_equal(in8(&t->r, 8), 0x00);
    assert_int_equal(*ram(t, 0x12fef), 0);
    for (unsigned i = 0; i < 512; i++)
        assert_int_equal(*ram(t, 0x12ff0 + i), 0xab);
    assert_int_equal(*ram(t, 0x131f0), 0);
    /* The channel is masked now. */
    assert_int_equal(in8(&t->r, 15) & 0x0f, 0x0f);
    assert_int_equal(i8237_transfer(t->dma, 2, data, 1, true, &tc), 0);
    assert_false(tc);
}

static void test_from_memory(void **state)
{
    struct dma_rig *t = *state;
    u8 data[4] = {0};
    bool tc;
    memcpy(ram(t, 0x100), "abcd", 4);
    program(t, 1, 0x88, 0, 0x100, 3); /* block mode */
    assert_int_equal(i8237_transfer(t->dma, 1, data, 4, false, &tc), 4);
    assert_true(tc);
    assert_memory_equal(data, "abcd", 4);
    program(t, 3, 0x28, 0, 0x103, 3); /* demand mode, down */
    assert_int_equal(i8237_transfer(t->dma, 3, data, 4, false, &tc), 4);
    assert_memory_equal(data, "dcba", 4);
    assert_int_equal(read16(t, 3, 0), 0xff);
}

/* The page is no part of the counter. */
static void test_wrap(void **state)
{
    struct dma_rig *t = *state;
    bool tc;
    u8 data[8] = "12345678";
    program(t, 0, 0x44, 0x03, 0xfffc, 7);
    assert_int_equal(i8237_transfer(t->dma, 0, data, 8, true, &tc), 8);
    assert_memory_equal(ram(t, 0x3fffc), "1234", 4);
    assert_memory_equal(ram(t, 0x30000), "5678", 4);
    program(t, 0, 0x64, 0x03, 0x0001, 3);
    assert_int_equal(i8237_transfer(t->dma, 0, data, 4, true, &tc), 4);
    assert_memory_equal(ram(t, 0x30000), "21", 2);
    assert_memory_equal(ram(t, 0x3fffe), "43", 2);
}

static void test_words(void **state)
{
    struct dma_rig *t = *state;
    u8 data[8] = "abcdefgh";
    bool tc;
    program(t, 5, 0x44, 0x11, 0xfffe, 3); /* bit 0 of the page is ignored */
    assert_int_equal(i8237_transfer(t->dma, 5, data, 7, true, &tc), 6);
    assert_false(tc);
    assert_int_equal(i8237_transfer(t->dma, 5, data + 6, 2, true, &tc), 2);
    assert_true(tc);
    assert_memory_equal(ram(t, 0x11fffc), "abcd", 4);
    assert_memory_equal(ram(t, 0x100000), "efgh", 4);
    assert_int_equal(in8(&t->r, 0xd0), 0x02);
    program(t, 7, 0x68, 0x10, 0x0001, 1); /* down: words keep their order of bytes */
    assert_int_equal(i8237_transfer(t->dma, 7, data, 4, false, &tc), 4);
    assert_memory_equal(data, "ghef", 4);
}

static void test_autoinit(void **state)
{
    struct dma_rig *t = *state;
    u8 data[16] = "0123456789abcdef";
    bool tc;
    program(t, 1, 0x54, 0, 0x200, 9);
    assert_int_equal(i8237_transfer(t->dma, 1, data, 16, true, &tc), 10);
    assert_true(tc);
    assert_int_equal(i8237_transfer(t->dma, 1, data + 10, 6, true, &tc), 6);
    assert_false(tc);
    assert_memory_equal(ram(t, 0x200), "abcdef6789", 10);
    assert_int_equal(read16(t, 1, 0), 0x206);
    assert_int_equal(read16(t, 1, 1), 3);
}

static void test_verify_and_wrong_direction(void **state)
{
    struct dma_rig *t = *state;
    u8 data[4] = {1, 2, 3, 4};
    bool tc;
    program(t, 2, 0x40, 0, 0x300, 3);
    assert_int_equal(i8237_transfer(t->dma, 2, data, 4, true, &tc), 4);
    assert_true(tc);
    assert_int_equal(*ram(t, 0x300), 0);
    program(t, 2, 0x48, 0, 0x300, 3);
    assert_int_equal(i8237_transfer(t->dma, 2, data, 4, true, &tc), 4);
    assert_int_equal(*ram(t, 0x300), 0);
    program(t, 2, 0x44, 0, 0x300, 3);
    assert_int_equal(i8237_transfer(t->dma, 2, data, 4, false, &tc), 4);
    assert_memory_equal(data, "\xff\xff\xff\xff", 4);
    /* Where there is no RAM. */
    program(t, 2, 0x44, 0xff, 0xff00, 3);
    assert_int_equal(i8237_transfer(t->dma, 2, data, 4, true, &tc), 4);
    memset(data, 0, sizeof(data));
    program(t, 2, 0x48, 0xff, 0xff00, 3);
    assert_int_equal(i8237_transfer(t->dma, 2, data, 4, false, &tc), 4);
    assert_memory_equal(data, "\xff\xff\xff\xff", 4);
    program(t, 2, 0xc4, 0, 0x300, 3); /* cascade */
    assert_int_equal(i8237_transfer(t->dma, 2, data, 4, true, &tc), 0);
}

static void test_masks(void **state)
{
    struct dma_rig *t = *state;
    struct rig *r = &t->r;
    u8 byte = 0;
    bool tc;
    program(t, 2, 0x44, 0, 0, 99);
    assert_int_equal(t->ready, 1);
    out8(r, 8, 0x04); /* controller off */
    assert_int_equal(i8237_transfer(t->dma, 2, &byte, 1, true, &tc), 0);
    assert_int_equal(t->ready, 1);
    out8(r, 8, 0x00);
    assert_int_equal(t->ready, 2);
    assert_int_equal(i8237_transfer(t->dma, 2, &byte, 1, true, &tc), 1);
    out8(r, 15, 0x04);
    assert_int_equal(i8237_transfer(t->dma, 2, &byte, 1, true, &tc), 0);
    assert_int_equal(in8(r, 15) & 0x0f, 0x04);
    out8(r, 14, 0);
    assert_int_equal(in8(r, 15) & 0x0f, 0);
    assert_int_equal(i8237_transfer(t->dma, 2, &byte, 1, true, &tc), 1);
    out8(r, 9, 0x06); /* a request by software */
    assert_int_equal(in8(r, 8), 0x40);
    out8(r, 9, 0x02);
    assert_int_equal(in8(r, 8), 0x00);
    out8(r, 13, 0); /* master clear */
    assert_int_equal(in8(r, 15) & 0x0f, 0x0f);
    unsigned ready = t->ready;
    out8(r, 0xd4, 0x02); /* the other controller's channel 2 */
    assert_int_equal(t->ready, ready);
    assert_int_equal(in8(r, 0xde) & 0x0f, 0x0b);
}

static void test_registers(void **state)
{
    struct dma_rig *t = *state;
    struct rig *r = &t->r;
    assert_int_equal(in8(r, 0x80), 0xff); /* nobody's */
    for (unsigned i = 1; i < 16; i++)
        out8(r, 0x80 + i, 0xa0 + i);
    for (unsigned i = 1; i < 16; i++)
        assert_int_equal(in8(r, 0x80 + i), 0xa0 + i);
    /* The flip-flop is one for all channels. */
    out8(r, 12, 0);
    out8(r, 0, 0x11);
    out8(r, 2, 0x22);
    assert_int_equal(read16(t, 0, 0), 0x0011);
    assert_int_equal(read16(t, 1, 0), 0x2200);
    assert_int_equal(in8(r, 13), 0);
    program(t, 6, 0x44, 0, 0x1234, 0x5678);
    assert_int_equal(read16(t, 6, 0), 0x1234);
    assert_int_equal(read16(t, 6, 1), 0x5678);
    i8237_reset(t->dma);
    assert_int_equal(read16(t, 6, 0), 0);
    assert_int_equal(in8(r, 0x89), 0);
    out8(r, 14, 0);
    assert_int_equal(t->ready, 1); /* the device stays connected */
}

static void test_fuzz(void **state)
{
    struct dma_rig *t = *state;
    u8 data[1024] = {0};
    for (unsigned i = 0; i < FUZZ_STEPS; i++) {
        u32 dice = rig_random(&t->r);
        static const u16 base[] = {0, 0x80, 0xc0, 0xd0};
        unsigned port = base[dice & 3] + (dice >> 2) % 16;
        bool tc;
        if (dice >> 8 & 1)
            out8(&t->r, port, rig_random(&t->r));
        else
            in8(&t->r, port);
        unsigned len = (dice >> 10) % sizeof(data);
        unsigned channel = (dice >> 20) % 8;
        assert_in_range(i8237_transfer(t->dma, channel, data, len, dice >> 9 & 1, &tc), 0, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_to_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_from_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_words, setup, teardown),
        cmocka_unit_test_setup_teardown(test_autoinit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verify_and_wrong_direction, setup, teardown),
        cmocka_unit_test_setup_teardown(test_masks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fuzz, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
