/*
 * The floppy controller at register level, with real DMA controllers and disks in memory that
 * answer at once, or when the test says so, or with an error.
 */
#include "rig.h"

#include <errno.h>

#include "dev/fdc.h"
#include "dev/i8237.h"
#include "host/block_impl.h"
#include "mem/guestmem.h"

#define RAM      (2 * MIB)
#define IRQ_PIN  0
#define DMA_GPA  0x12000U
#define K(n)     ((n)*1024U)
#define SIZE_144 K(1440)

#define DOR  0x3f2
#define MSR  0x3f4
#define FIFO 0x3f5
#define DIR  0x3f7

/* --- a disk --- */

struct test_disk {
    struct block block;
    u8 *data;
    bool held;  /* requests wait for release() */
    int result; /* of the next requests */
    unsigned requests;
    struct block_request *waiting;
};

static int carry_out(struct test_disk *d, const struct block_request *r)
{
    if (r->offset > d->block.size || r->length > d->block.size - r->offset)
        return -EINVAL;
    assert_int_equal(r->length, 512);
    assert_int_equal(r->niov, 1);
    if (r->op == BLOCK_READ)
        memcpy(r->iov->iov_base, d->data + r->offset, r->length);
    else
        memcpy(d->data + r->offset, r->iov->iov_base, r->length);
    return 0;
}

static void release_disk(struct test_disk *d)
{
    struct block_request *r = d->waiting;
    assert_non_null(r);
    d->waiting = NULL;
    block_complete(&d->block, r, d->result ? d->result : carry_out(d, r));
}

static void submit(struct block *b, struct block_request *r)
{
    struct test_disk *d = (struct test_disk *)b;
    assert_null(d->waiting);
    d->requests++;
    d->waiting = r;
    if (!d->held)
        release_disk(d);
}

static const struct block_ops disk_ops = {.submit = submit};

/* Each sector begins with its number. */
static void disk_init(struct test_disk *d, u64 size)
{
    *d = (struct test_disk){.block = {.ops = &disk_ops, .size = size}};
    d->data = calloc(1, size ? size : 1);
    for (u32 i = 0; i < size / 512; i++)
        memcpy(d->data + i * 512, &i, 4);
}

/* --- the rig --- */

struct fdc_rig {
    struct rig r;
    struct guest_mem *gm;
    struct i8237 *dma;
    struct fdc *fdc;
    struct test_disk disk[2];
};

static void make_fdc(struct fdc_rig *t, u64 size_a, u64 size_b)
{
    struct error err;
    const u64 size[2] = {size_a, size_b};
    rig_init(&t->r);
    assert_int_equal(guestmem_create(RAM, &t->gm, &err), 0);
    assert_int_equal(i8237_create(t->gm, &t->dma, &err), 0);
    assert_int_equal(i8237_attach(t->dma, t->r.bus, &err), 0);
    struct fdc_options opt = {.dma = t->dma, .dma_channel = 2, .irq = rig_line(&t->r, IRQ_PIN)};
    for (unsigned i = 0; i < 2; i++) {
        disk_init(&t->disk[i], size[i]);
        opt.drive[i] = size[i] ? &t->disk[i].block : NULL;
    }
    assert_int_equal(fdc_create(&opt, &t->fdc, &err), 0);
    assert_int_equal(fdc_attach(t->fdc, t->r.bus, &err), 0);
}

static void free_fdc(struct fdc_rig *t)
{
    fdc_destroy(t->fdc);
    i8237_destroy(t->dma);
    guestmem_destroy(t->gm);
    rig_done(&t->r);
    free(t->disk[0].data);
    free(t->disk[1].data);
}

static void reset_controller(struct fdc_rig *t)
{
    struct rig *r = &t->r;
    out8(r, DOR, 0x00);
    assert_int_equal(in8(r, MSR), 0);
    out8(r, DOR, 0x1c);
}

static int setup(void **state)
{
    struct fdc_rig *t = calloc(1, sizeof(*t));
    make_fdc(t, SIZE_144, K(720));
    reset_controller(t);
    out8(&t->r, DIR, 0); /* 500 kbit/s */
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    free_fdc(*state);
    free(*state);
    return 0;
}

static void send(struct fdc_rig *t, const u8 *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(in8(&t->r, MSR), i ? 0x90 : 0x80);
        out8(&t->r, FIFO, bytes[i]);
    }
}

#define SEND(t, ...) send(t, (u8[]){__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__}))

static void expect_result(struct fdc_rig *t, const u8 *want, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(in8(&t->r, MSR), 0xd0);
        assert_int_equal(in8(&t->r, FIFO), want[i]);
        assert_int_equal(t->r.pin[IRQ_PIN].level, 0);
    }
    assert_int_equal(in8(&t->r, MSR), 0x80);
}

#define EXPECT(t, ...) expect_result(t, (u8[]){__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__}))

static void expect_irq(struct fdc_rig *t)
{
    assert_int_equal(t->r.pin[IRQ_PIN].level, 1);
}

static void expect_no_irq(struct fdc_rig *t)
{
    assert_int_equal(t->r.pin[IRQ_PIN].level, 0);
}

/* mode: 0x46 to memory, 0x4a from memory. */
static void program_dma(struct fdc_rig *t, u8 mode, unsigned count)
{
    struct rig *r = &t->r;
    out8(r, 0x0a, 0x06);
    out8(r, 0x0c, 0);
    out8(r, 0x04, DMA_GPA & 0xff);
    out8(r, 0x04, DMA_GPA >> 8 & 0xff);
    out8(r, 0x05, (count - 1) & 0xff);
    out8(r, 0x05, (count - 1) >> 8);
    out8(r, 0x0b, mode);
    out8(r, 0x81, DMA_GPA >> 16);
    out8(r, 0x0a, 0x02);
}

static u8 *memory(struct fdc_rig *t)
{
    return guestmem_ram(t->gm) + DMA_GPA;
}

static u32 word_at(const u8 *p)
{
    return (u32)load_le(p, 4);
}

/* --- tests --- */

static void test_reset(void **state)
{
    struct fdc_rig *t = *state;
    struct rig *r = &t->r;
    expect_irq(t);
    for (u8 i = 0; i < 4; i++) {
        SEND(t, 0x08);
        EXPECT(t, 0xc0 | i, 0x00);
    }
    SEND(t, 0x08);
    EXPECT(t, 0x80);
    assert_int_equal(in8(r, DOR), 0x1c);
    assert_int_equal(in8(r, 0x3f1), 0xc1); /* motor of the first drive */
    assert_int_equal(in8(r, 0x3f0), 0x02);
    out8(r, MSR, 0x80); /* by the data rate register */
    expect_irq(t);
    SEND(t, 0x08);
    EXPECT(t, 0xc0, 0x00);
    /* What a seek says comes before what is left of a reset. */
    SEND(t, 0x07, 0x01);
    expect_irq(t);
    SEND(t, 0x08);
    EXPECT(t, 0x21, 0x00);
    SEND(t, 0x08);
    EXPECT(t, 0x80);
    out8(r, DOR, 0x14); /* the gate is closed: no interrupt */
    SEND(t, 0x07, 0x00);
    expect_no_irq(t);
    out8(r, DOR, 0x1c);
    expect_irq(t);
    out8(r, DOR, 0x18);
    expect_no_irq(t);
    out8(r, FIFO, 0x10); /* nobody listens */
    out8(r, DOR, 0x1c);
    SEND(t, 0x10);
    EXPECT(t, 0x90);
    fdc_reset(t->fdc);
    expect_no_irq(t);
    assert_int_equal(in8(r, DOR), 0);
}

static void test_small_commands(void **state)
{
    struct fdc_rig *t = *state;
    SEND(t, 0x10);
    EXPECT(t, 0x90);
    SEND(t, 0x18);
    EXPECT(t, 0x41);
    SEND(t, 0x1f);
    EXPECT(t, 0x80);
    SEND(t, 0x03, 0xaf, 0x02);
    SEND(t, 0x13, 0x00, 0x57, 0x12);
    SEND(t, 0x12, 0x97);
    SEND(t, 0x0f, 0x00, 0x05);
    SEND(t, 0x0e);
    EXPECT(t, 5, 0, 0, 0, 0xaf, 0x02, 0, 0x17, 0x57, 0x12);
    SEND(t, 0x12, 0x00); /* without OW: only the two low bits */
    SEND(t, 0x94);
    EXPECT(t, 0x10);
    reset_controller(t);
    SEND(t, 0x0e);
    EXPECT(t, 5, 0, 0, 0, 0xaf, 0x02, 0, 0x94, 0x07, 0x12);
    SEND(t, 0x14);
    EXPECT(t, 0x00);
    reset_controller(t);
    SEND(t, 0x0e);
    EXPECT(t, 5, 0, 0, 0, 0xaf, 0x02, 0, 0x14, 0x20, 0x00);
}

static void test_seek(void **state)
{
    struct fdc_rig *t = *state;
    struct rig *r = &t->r;
    assert_int_equal(in8(r, DIR), 0x80); /* a disk has come */
    SEND(t, 0x07, 0x00);                 /* the heads are there already: it doesn't see the disk */
    assert_int_equal(in8(r, DIR), 0x80);
    SEND(t, 0x08);
    EXPECT(t, 0x20, 0x00);
    SEND(t, 0x04, 0x00);
    EXPECT(t, 0x38);
    SEND(t, 0x0f, 0x04, 0x10);
    expect_irq(t);
    assert_int_equal(in8(r, DIR), 0x00);
    SEND(t, 0x08);
    EXPECT(t, 0x24, 0x10);
    SEND(t, 0x04, 0x04);
    EXPECT(t, 0x2c);
    SEND(t, 0xcf, 0x00, 0x05);
    SEND(t, 0x08);
    EXPECT(t, 0x20, 0x15);
    SEND(t, 0x8f, 0x00, 0x20);
    SEND(t, 0x08);
    EXPECT(t, 0x20, 0x00);
    t->disk[0].block.read_only = true;
    SEND(t, 0x04, 0x00);
    EXPECT(t, 0x78);
    /* Two at once. */
    SEND(t, 0x0f, 0x01, 0x03);
    SEND(t, 0x0f, 0x00, 0x02);
    SEND(t, 0x08);
    EXPECT(t, 0x20, 0x02);
    SEND(t, 0x08);
    EXPECT(t, 0x21, 0x03);
    /* A drive that isn't there. */
    SEND(t, 0x07, 0x02);
    SEND(t, 0x08);
    EXPECT(t, 0x72, 0x00);
    SEND(t, 0x04, 0x02);
    EXPECT(t, 0x2a);
    out8(r, DOR, 0x1e);
    assert_int_equal(in8(r, DIR), 0x80);
}

static void test_read(void **state)
{
    struct fdc_rig *t = *state;
    program_dma(t, 0x46, 512);
    SEND(t, 0xe6, 0x00, 0, 0, 2, 2, 2, 0x1b, 0xff);
    expect_irq(t);
    EXPECT(t, 0x04, 0x00, 0x00, 0, 1, 1, 2);
    assert_int_equal(word_at(memory(t)), 1);
    /* Three sectors of cylinder 5, head 1. The heads find it without a SEEK. */
    program_dma(t, 0x46, 3 * 512);
    SEND(t, 0xe6, 0x04, 5, 1, 7, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x04, 0x00, 0x00, 5, 1, 10, 2);
    for (u32 i = 0; i < 3; i++)
        assert_int_equal(word_at(memory(t) + i * 512), (5 * 2 + 1) * 18 + 6 + i);
    /* Multi-track: from the last sector of head 0 to head 1. */
    program_dma(t, 0x46, 2 * 512);
    SEND(t, 0xe6, 0x00, 5, 0, 18, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x04, 0x00, 0x00, 5, 1, 2, 2);
    assert_int_equal(word_at(memory(t)), 5 * 36 + 17);
    assert_int_equal(word_at(memory(t) + 512), 5 * 36 + 18);
    /* A whole cylinder; then its numbers are those of the next. */
    program_dma(t, 0x46, 36 * 512);
    SEND(t, 0xe6, 0x00, 79, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x00, 0x00, 0x00, 80, 0, 1, 2);
    for (u32 i = 0; i < 36; i++)
        assert_int_equal(word_at(memory(t) + i * 512), 79 * 36 + i);
    /* Without multi-track the head stays. */
    program_dma(t, 0x46, 2 * 512);
    SEND(t, 0x46, 0x04, 5, 1, 17, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x04, 0x00, 0x00, 6, 1, 1, 2);
    /* A part of a sector. */
    memset(memory(t), 0xee, 1024);
    program_dma(t, 0x46, 700);
    SEND(t, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x00, 0x00, 0x00, 0, 0, 3, 2);
    assert_int_equal(memory(t)[699], 0x00);
    assert_int_equal(memory(t)[700], 0xee);
    /* The host wants more than the command allows. */
    program_dma(t, 0x46, 3 * 512);
    SEND(t, 0x46, 0x00, 0, 0, 17, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x40, 0x80, 0x00, 1, 0, 1, 2);
    /* READ TRACK begins at the index hole. */
    program_dma(t, 0x46, 4 * 512);
    SEND(t, 0x42, 0x00, 2, 0, 9, 2, 4, 0x1b, 0xff);
    EXPECT(t, 0x00, 0x00, 0x00, 3, 0, 1, 2);
    assert_int_equal(word_at(memory(t) + 512), 2 * 36 + 1);
}

static void test_deleted_data(void **state)
{
    struct fdc_rig *t = *state;
    program_dma(t, 0x46, 2 * 512);
    SEND(t, 0x4c, 0x00, 1, 0, 3, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x00, 0x00, 0x40, 1, 0, 3, 2);
    assert_int_equal(word_at(memory(t)), 36 + 2);
    SEND(t, 0x6c, 0x00, 1, 0, 3, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x40, 0x80, 0x00, 1, 0, 3, 2);
    memset(memory(t), 0x11, 512);
    program_dma(t, 0x4a, 512);
    SEND(t, 0x49, 0x00, 1, 0, 3, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x00, 0x00, 0x00, 1, 0, 4, 2);
    assert_int_equal(t->disk[0].data[38 * 512], 0x11);
}

static void test_read_errors(void **state)
{
    struct fdc_rig *t = *state;
    struct rig *r = &t->r;
    unsigned requests = t->disk[0].requests;
    program_dma(t, 0x46, 512);
    SEND(t, 0xe6, 0x00, 0, 0, 19, 2, 20, 0x1b, 0xff); /* no such sector */
    expect_irq(t);
    EXPECT(t, 0x40, 0x04, 0x00, 0, 0, 19, 2);
    SEND(t, 0xe6, 0x00, 0, 0, 0, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x40, 0x04, 0x00, 0, 0, 0, 2);
    SEND(t, 0xe6, 0x00, 80, 0, 1, 2, 18, 0x1b, 0xff); /* cylinder */
    EXPECT(t, 0x40, 0x01, 0x00, 80, 0, 1, 2);
    SEND(t, 0xe6, 0x00, 0, 2, 1, 2, 18, 0x1b, 0xff); /* head */
    EXPECT(t, 0x40, 0x01, 0x00, 0, 2, 1, 2);
    SEND(t, 0xe6, 0x00, 0, 1, 1, 2, 18, 0x1b, 0xff); /* head that isn't selected */
    EXPECT(t, 0x44, 0x04, 0x00, 0, 1, 1, 2);
    SEND(t, 0xe6, 0x00, 0, 0, 1, 3, 18, 0x1b, 0xff); /* size of sectors */
    EXPECT(t, 0x40, 0x04, 0x00, 0, 0, 1, 2);
    SEND(t, 0x86, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff); /* FM */
    EXPECT(t, 0x40, 0x01, 0x00, 0, 0, 1, 2);
    SEND(t, 0xe6, 0x02, 0, 0, 1, 2, 18, 0x1b, 0xff); /* drive */
    EXPECT(t, 0x42, 0x01, 0x00, 0, 0, 1, 2);
    out8(r, DIR, 2); /* data rate */
    SEND(t, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x40, 0x01, 0x00, 0, 0, 1, 2);
    out8(r, MSR, 0);
    assert_int_equal(t->disk[0].requests, requests);
    t->disk[0].result = -EIO;
    SEND(t, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x40, 0x20, 0x20, 0, 0, 1, 2);
}

static void test_read_id(void **state)
{
    struct fdc_rig *t = *state;
    struct rig *r = &t->r;
    SEND(t, 0x4a, 0x00);
    expect_irq(t);
    EXPECT(t, 0x00, 0x00, 0x00, 0, 0, 1, 2);
    SEND(t, 0x0f, 0x00, 33);
    SEND(t, 0x08);
    EXPECT(t, 0x20, 33);
    SEND(t, 0x4a, 0x04);
    EXPECT(t, 0x04, 0x00, 0x00, 33, 1, 1, 2);
    SEND(t, 0x4a, 0x01); /* a disk for another rate */
    EXPECT(t, 0x41, 0x01, 0x00, 0, 0, 1, 2);
    out8(r, DIR, 2);
    SEND(t, 0x4a, 0x01);
    EXPECT(t, 0x01, 0x00, 0x00, 0, 0, 1, 2);
    SEND(t, 0x4a, 0x03);
    EXPECT(t, 0x43, 0x01, 0x00, 0, 0, 1, 2);
    SEND(t, 0x0f, 0x01, 81);
    SEND(t, 0x08);
    EXPECT(t, 0x21, 81);
    SEND(t, 0x4a, 0x01);
    EXPECT(t, 0x41, 0x01, 0x00, 81, 0, 1, 2);
}

static void test_write(void **state)
{
    struct fdc_rig *t = *state;
    u8 *data = t->disk[0].data;
    memset(memory(t), 0x5a, 1024);
    program_dma(t, 0x4a, 1024);
    SEND(t, 0xc5, 0x00, 2, 0, 18, 2, 18, 0x1b, 0xff);
    expect_irq(t);
    EXPECT(t, 0x04, 0x00, 0x00, 2, 1, 2, 2);
    for (unsigned i = 0; i < 1024; i++)
        assert_int_equal(data[(2 * 36 + 17) * 512 + i], 0x5a);
    assert_int_equal(word_at(data + (2 * 36 + 19) * 512), 2 * 36 + 19);
    /* The rest of a sector is zero. */
    program_dma(t, 0x4a, 100);
    SEND(t, 0xc5, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x00, 0x00, 0x00, 0, 0, 2, 2);
    assert_int_equal(data[99], 0x5a);
    assert_int_equal(data[100], 0);
    t->disk[0].result = -EROFS;
    program_dma(t, 0x4a, 512);
    SEND(t, 0xc5, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x40, 0x02, 0x00, 0, 0, 1, 2);
    t->disk[0].block.read_only = true;
    SEND(t, 0xc5, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(t, 0x40, 0x02, 0x00, 0, 0, 1, 2);
}

static void test_verify(void **state)
{
    struct fdc_rig *t = *state;
    unsigned requests = t->disk[0].requests;
    SEND(t, 0x56, 0x00, 3, 0, 16, 2, 18, 0x1b, 0xff); /* to the end of the track */
    expect_irq(t);
    EXPECT(t, 0x00, 0x00, 0x00, 4, 0, 1, 2);
    assert_int_equal(t->disk[0].requests, requests + 3);
    SEND(t, 0x56, 0x80, 3, 0, 1, 2, 18, 0x1b, 5); /* five sectors */
    EXPECT(t, 0x00, 0x00, 0x00, 3, 0, 6, 2);
    SEND(t, 0x56, 0x80, 3, 0, 17, 2, 18, 0x1b, 5); /* more than there are */
    EXPECT(t, 0x40, 0x80, 0x00, 4, 0, 1, 2);
    SEND(t, 0x56, 0x80, 3, 0, 17, 2, 18, 0x1b, 0);
    EXPECT(t, 0x40, 0x04, 0x00, 3, 0, 17, 2);
    SEND(t, 0x56, 0x00, 3, 0, 18, 2, 19, 0x1b, 0xff);
    EXPECT(t, 0x40, 0x04, 0x00, 3, 0, 19, 2);
}

static void test_format(void **state)
{
    struct fdc_rig *t = *state;
    u8 *data = t->disk[0].data, *ids = memory(t);
    for (u8 i = 0; i < 18; i++)
        memcpy(ids + 4 * i, (u8[]){9, 1, (u8)(18 - i), 2}, 4);
    program_dma(t, 0x4a, 18 * 4);
    SEND(t, 0x4d, 0x04, 2, 18, 0x6c, 0xf6);
    expect_irq(t);
    EXPECT(t, 0x04, 0x00, 0x00, 9, 1, 1, 2);
    for (unsigned i = 0; i < 18 * 512; i++)
        assert_int_equal(data[(9 * 36 + 18) * 512 + i], 0xf6);
    assert_int_equal(word_at(data + (9 * 36 + 17) * 512), 9 * 36 + 17);
    assert_int_equal(word_at(data + (9 * 36 + 36) * 512), 9 * 36 + 36);
    ids[4 + 2] = 19; /* more than fits on the track */
    program_dma(t, 0x4a, 18 * 4);
    SEND(t, 0x4d, 0x04, 2, 18, 0x6c, 0xf6);
    EXPECT(t, 0x44, 0x04, 0x00, 9, 1, 19, 2);
    ids[4 + 2] = 17;
    ids[3] = 3; /* sectors of 1024 bytes */
    program_dma(t, 0x4a, 18 * 4);
    SEND(t, 0x4d, 0x04, 2, 18, 0x6c, 0xf6);
    EXPECT(t, 0x44, 0x04, 0x00, 9, 1, 18, 2);
    SEND(t, 0x4d, 0x04, 2, 0, 0x6c, 0xf6);
    EXPECT(t, 0x44, 0x04, 0x00, 9, 1, 0, 2);
}

/* Byte by byte, by programmed I/O. */
static void test_non_dma(void **state)
{
    struct fdc_rig *t = *state;
    struct rig *r = &t->r;
    SEND(t, 0x03, 0xaf, 0x03);
    SEND(t, 0x46, 0x00, 1, 0, 2, 2, 3, 0x1b, 0xff);
    unsigned rises = r->pin[IRQ_PIN].rises;
    for (unsigned i = 0; i < 1024; i++) {
        assert_int_equal(in8(r, MSR), 0xf0);
        expect_irq(t);
        u8 want = i % 512 == 0 ? (u8)(36 + 1 + i / 512) : 0;
        assert_int_equal(in8(r, FIFO), want);
    }
    assert_int_equal(r->pin[IRQ_PIN].rises, rises + 1024); /* the last one: of the result */
    EXPECT(t, 0x40, 0x80, 0x00, 2, 0, 1, 2);               /* nobody can say that it is enough */
    SEND(t, 0x45, 0x00, 1, 0, 2, 2, 2, 0x1b, 0xff);
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(in8(r, MSR), 0xb0);
        out8(r, FIFO, 0x77);
    }
    EXPECT(t, 0x40, 0x80, 0x00, 2, 0, 1, 2);
    assert_int_equal(t->disk[0].data[37 * 512 + 511], 0x77);
    /* Reading where the controller wants to be written to, and the other way round. */
    SEND(t, 0x45, 0x00, 1, 0, 2, 2, 2, 0x1b, 0xff);
    assert_int_equal(in8(r, FIFO), 0);
    reset_controller(t);
    SEND(t, 0x46, 0x00, 1, 0, 2, 2, 2, 0x1b, 0xff);
    out8(r, FIFO, 1);
    assert_int_equal(in8(r, FIFO), 0x77);
    reset_controller(t);
    assert_int_equal(in8(r, MSR), 0x80);
}

/* The channel is unmasked after the command; the gate is opened after it. */
static void test_late_dma(void **state)
{
    struct fdc_rig *t = *state;
    struct rig *r = &t->r;
    program_dma(t, 0x46, 512);
    out8(r, 0x0a, 0x06);
    SEND(t, 0xe6, 0x00, 0, 0, 2, 2, 18, 0x1b, 0xff);
    assert_int_equal(in8(r, MSR), 0x10);
    out8(r, 0x0a, 0x02);
    expect_irq(t);
    EXPECT(t, 0x00, 0x00, 0x00, 0, 0, 3, 2);
    assert_int_equal(word_at(memory(t)), 1);
    program_dma(t, 0x46, 512);
    out8(r, DOR, 0x14);
    SEND(t, 0xe6, 0x00, 0, 0, 5, 2, 18, 0x1b, 0xff);
    assert_int_equal(in8(r, MSR), 0x10);
    out8(r, DOR, 0x1c);
    expect_irq(t);
    EXPECT(t, 0x00, 0x00, 0x00, 0, 0, 6, 2);
    assert_int_equal(word_at(memory(t)), 4);
}

/* The disk takes its time. */
static void test_slow_disk(void **state)
{
    struct fdc_rig *t = *state;
    struct rig *r = &t->r;
    struct test_disk *d = &t->disk[0];
    d->held = true;
    program_dma(t, 0x46, 1024);
    SEND(t, 0xe6, 0x00, 0, 0, 5, 2, 18, 0x1b, 0xff);
    assert_int_equal(in8(r, MSR), 0x10);
    expect_no_irq(t);
    out8(r, FIFO, 0x10); /* ignored */
    release_disk(d);
    expect_no_irq(t);
    release_disk(d);
    expect_irq(t);
    EXPECT(t, 0x00, 0x00, 0x00, 0, 0, 7, 2);
    assert_int_equal(word_at(memory(t) + 512), 5);
    /* A reset while the disk has the request; the next command waits for it to come back. */
    program_dma(t, 0x46, 512);
    SEND(t, 0xe6, 0x00, 0, 0, 9, 2, 18, 0x1b, 0xff);
    reset_controller(t);
    SEND(t, 0x08);
    EXPECT(t, 0xc0, 0x00);
    SEND(t, 0xe6, 0x00, 0, 0, 11, 2, 18, 0x1b, 0xff);
    unsigned requests = d->requests;
    reset_controller(t);
    SEND(t, 0xe6, 0x00, 0, 0, 12, 2, 18, 0x1b, 0xff);
    assert_int_equal(d->requests, requests);
    release_disk(d);
    assert_int_equal(d->requests, requests + 1);
    assert_int_equal(in8(r, MSR), 0x10);
    release_disk(d);
    EXPECT(t, 0x00, 0x00, 0x00, 0, 0, 13, 2);
    assert_int_equal(word_at(memory(t)), 11);
    /* What was being written is written, though the controller forgot it. */
    memset(memory(t), 0x33, 512);
    program_dma(t, 0x4a, 512);
    SEND(t, 0xc5, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    reset_controller(t);
    release_disk(d);
    assert_int_equal(in8(r, MSR), 0x80);
    assert_int_equal(d->data[0], 0x33);
}

/* Sizes: what type of drive, and which sector is read as the first of cylinder 1, head 0. */
static void test_formats(void **state)
{
    static const struct {
        u32 size;
        u8 type, rate, sectors, heads, cylinders;
    } rows[] = {
        {K(160), 1, 2, 8, 1, 40},   {K(180), 1, 1, 9, 1, 40},   {K(320), 1, 2, 8, 2, 40},
        {K(360), 1, 1, 9, 2, 40},   {K(720), 3, 2, 9, 2, 80},   {K(1200), 2, 0, 15, 2, 80},
        {K(1440), 4, 0, 18, 2, 80}, {K(2880), 5, 3, 36, 2, 80}, {K(1680), 4, 0, 21, 2, 80},
        {K(1722), 4, 0, 21, 2, 82}, {K(800), 3, 2, 10, 2, 80},
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct fdc_rig t;
        u8 last = (u8)(rows[i].cylinders - 1), head = rows[i].heads - 1, end = rows[i].sectors;
        assert_int_equal(fdc_drive_type(rows[i].size), rows[i].type);
        make_fdc(&t, 0, rows[i].size);
        reset_controller(&t);
        out8(&t.r, DIR, rows[i].rate);
        program_dma(&t, 0x46, 512);
        SEND(&t, 0x46, 0x01, 1, 0, 1, 2, end, 0x1b, 0xff);
        EXPECT(&t, 0x01, 0, 0, 1, 0, 2, 2);
        assert_int_equal(word_at(memory(&t)), rows[i].sectors * rows[i].heads);
        program_dma(&t, 0x46, 512);
        SEND(&t, 0x46, 1 | head << 2, last, head, end, 2, end, 0x1b, 0xff);
        EXPECT(&t, 1 | head << 2, 0, 0, last + 1, head, 1, 2);
        assert_int_equal(word_at(memory(&t)), rows[i].size / 512 - 1);
        free_fdc(&t);
    }
    assert_int_equal(fdc_drive_type(K(4000)), 0);
    assert_int_equal(fdc_drive_type(512), 4);
    assert_int_equal(fdc_drive_type(K(1500)), 5);
}

/* An image that is only the beginning of a disk. */
static void test_small_image(void **state)
{
    struct fdc_rig t;
    (void)state;
    make_fdc(&t, K(2), 0);
    reset_controller(&t);
    out8(&t.r, DIR, 0);
    memset(memory(&t), 0xee, 1024);
    program_dma(&t, 0x46, 1024);
    SEND(&t, 0x46, 0x00, 0, 0, 4, 2, 18, 0x1b, 0xff);
    EXPECT(&t, 0x00, 0, 0, 0, 0, 6, 2);
    assert_int_equal(word_at(memory(&t)), 3);
    assert_int_equal(word_at(memory(&t) + 512), 0);
    program_dma(&t, 0x4a, 512);
    SEND(&t, 0x45, 0x00, 0, 0, 5, 2, 18, 0x1b, 0xff);
    EXPECT(&t, 0x40, 0x20, 0x20, 0, 0, 5, 2);
    free_fdc(&t);
}

static void test_too_large(void **state)
{
    struct fdc_rig *t = *state;
    struct test_disk d;
    struct error err = {""};
    struct fdc *f;
    disk_init(&d, K(4000));
    struct fdc_options opt = {.dma = t->dma, .dma_channel = 2, .drive = {NULL, &d.block}};
    assert_int_equal(fdc_create(&opt, &f, &err), -EINVAL);
    assert_non_null(strstr(err.text, "4096000 bytes"));
    free(d.data);
}

static void test_fuzz(void **state)
{
    struct fdc_rig *t = *state;
    for (int i = 0; i < 5; i++) {
        rig_fuzz(&t->r, 0x3f0, 8);
        reset_controller(t);
    }
    SEND(t, 0x10);
    EXPECT(t, 0x90);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_small_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seek, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deleted_data, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_id, setup, teardown),
        cmocka_unit_test_setup_teardown(test_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verify, setup, teardown),
        cmocka_unit_test_setup_teardown(test_format, setup, teardown),
        cmocka_unit_test_setup_teardown(test_non_dma, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late_dma, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_disk, setup, teardown),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_small_image),
        cmocka_unit_test_setup_teardown(test_too_large, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fuzz, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
