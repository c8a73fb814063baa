/*
 * An IDE controller in a rig: images in memory that can hold requests back and fail at a sector,
 * a PCI bus, guest memory, and what a driver does with a channel.
 */
#ifndef TESTS_DEV_IDE_RIG_H
#define TESTS_DEV_IDE_RIG_H

#include "rig.h"

#include <errno.h>

#include "dev/ide.h"
#include "dev/pcmap.h"

#define BMIDE 0xc000 /* where the bus master's ports are */

#define ST_ERR  0x01
#define ST_DRQ  0x08
#define ST_OK   0x50 /* ready, seek complete */
#define ST_BSY  0x80
#define E_ABRT  0x04
#define E_IDNF  0x10
#define E_UNC   0x40
#define DEV_LBA 0xe0
#define DEV_CHS 0xa0
#define DEV_1   0x10
#define C_NIEN  0x02
#define C_SRST  0x04
#define C_HOB   0x80

#define BM_ACTIVE 0x01
#define BM_ERROR  0x02
#define BM_INT    0x04
#define BM_START  0x01
#define BM_READ   0x08

struct test_block {
    struct block block;
    u8 *data;
    bool hold; /* requests wait for test_block_go() */
    struct block_request *held;
    u64 bad_sector; /* requests that touch it fail with -EIO */
    int flush_result, discard_result;
    unsigned reads, writes, flushes, discards;
    u64 largest; /* bytes of a request */
};

static inline int test_block_run(struct test_block *b, struct block_request *r)
{
    u64 bad = b->bad_sector * BLOCK_SECTOR;
    bool data = r->op == BLOCK_READ || r->op == BLOCK_WRITE;
    if (r->op == BLOCK_FLUSH) {
        b->flushes++;
        return b->flush_result;
    }
    assert_true(r->length && r->length % BLOCK_SECTOR == 0 && r->offset % BLOCK_SECTOR == 0);
    assert_true(r->offset <= b->block.size && r->length <= b->block.size - r->offset);
    if (r->op == BLOCK_DISCARD) {
        b->discards++;
        if (!b->discard_result)
            memset(b->data + r->offset, 0, r->length);
        return b->discard_result;
    }
    assert_true(data);
    b->largest = MAX(b->largest, r->length);
    *(r->op == BLOCK_READ ? &b->reads : &b->writes) += 1;
    if (r->offset <= bad && bad < r->offset + r->length)
        return -EIO;
    u8 *at = b->data + r->offset;
    u64 total = 0;
    for (unsigned i = 0; i < r->niov; i++) {
        if (r->op == BLOCK_READ)
            memcpy(r->iov[i].iov_base, at, r->iov[i].iov_len);
        else
            memcpy(at, r->iov[i].iov_base, r->iov[i].iov_len);
        at += r->iov[i].iov_len;
        total += r->iov[i].iov_len;
    }
    assert_int_equal(total, r->length);
    return 0;
}

static inline void test_block_submit(struct block *block, struct block_request *r)
{
    struct test_block *b = container_of(block, struct test_block, block);
    if (b->hold) {
        assert_null(b->held);
        b->held = r;
        return;
    }
    r->done(r, test_block_run(b, r));
}

/* Ends the request that is held back. */
static inline void test_block_go(struct test_block *b)
{
    struct block_request *r = b->held;
    assert_non_null(r);
    b->held = NULL;
    r->done(r, test_block_run(b, r));
}

static inline void test_block_destroy(struct block *block)
{
    struct test_block *b = container_of(block, struct test_block, block);
    assert_null(b->held);
    free(b->data);
    free(b);
}

/* Each sector begins with its number, and goes on with a pattern. */
static inline struct test_block *test_block_create(u64 sectors)
{
    static const struct block_ops ops = {.submit = test_block_submit, .destroy = test_block_destroy};
    struct test_block *b = calloc(1, sizeof(*b));
    b->block = (struct block){.ops = &ops, .size = sectors * BLOCK_SECTOR};
    b->bad_sector = UINT64_MAX / BLOCK_SECTOR;
    b->data = calloc(sectors ? sectors : 1, BLOCK_SECTOR);
    for (u64 s = 0; s < sectors; s++) {
        store_le(b->data + s * BLOCK_SECTOR, s, 8);
        for (unsigned i = 8; i < BLOCK_SECTOR; i++)
            b->data[s * BLOCK_SECTOR + i] = (u8)(s * 7 + i);
    }
    return b;
}

struct ide_rig {
    struct rig r;
    struct guest_mem *gm;
    struct reset_ports *reset;
    struct pci_bus *pci;
    struct ide *ide;
    struct test_block *disk[IDE_CHANNELS][IDE_UNITS];
    unsigned base; /* of the channel in use */
    unsigned control, bm;
    u8 *ram;
};

#define IDE_RAM (4 * MIB)

static inline u32 pci_get(struct ide_rig *t, unsigned offset)
{
    out32(&t->r, 0xcf8, 0x80000000 | (u32)PC_IDE_DEVFN << 8 | offset);
    return in32(&t->r, 0xcfc);
}

static inline void pci_put(struct ide_rig *t, unsigned offset, u32 value)
{
    out32(&t->r, 0xcf8, 0x80000000 | (u32)PC_IDE_DEVFN << 8 | offset);
    out32(&t->r, 0xcfc, value);
}

static inline void use_channel(struct ide_rig *t, unsigned n)
{
    t->base = n ? 0x170 : 0x1f0;
    t->control = n ? 0x376 : 0x3f6;
    t->bm = BMIDE + 8 * n;
}

/* The drives are in t->disk, CD-ROMs where cdrom says so (bit 2 * channel + unit). */
static inline void ide_rig_plug(struct ide_rig *t, unsigned cdrom)
{
    struct error err;
    struct ide_options opt = {.gm = t->gm, .pci = t->pci};
    for (unsigned c = 0; c < IDE_CHANNELS; c++) {
        opt.irq[c] = rig_line(&t->r, c);
        for (unsigned u = 0; u < IDE_UNITS; u++)
            opt.drive[c][u] = (struct ide_drive){t->disk[c][u] ? &t->disk[c][u]->block : NULL,
                                                 cdrom >> (2 * c + u) & 1};
    }
    assert_int_equal(ide_create(&opt, &t->ide, &err), 0);
    assert_int_equal(ide_attach(t->ide, t->r.bus, &err), 0);
    pci_put(t, 0x20, BMIDE);
    pci_put(t, 0x04, 5);
    use_channel(t, 0);
}

static inline struct ide_rig *ide_rig_create(void)
{
    struct ide_rig *t = calloc(1, sizeof(*t));
    struct error err;
    rig_init(&t->r);
    assert_int_equal(guestmem_create(IDE_RAM, &t->gm, &err), 0);
    assert_int_equal(reset_ports_create(&t->r.power, &t->reset, &err), 0);
    assert_int_equal(pci_create(t->reset, &t->pci, &err), 0);
    assert_int_equal(pci_attach(t->pci, t->r.bus, &err), 0);
    t->ram = guestmem_ram(t->gm);
    return t;
}

static inline void ide_rig_destroy(struct ide_rig *t)
{
    ide_destroy(t->ide);
    for (unsigned i = 0; i < 4; i++)
        if (t->disk[i / 2][i % 2])
            block_destroy(&t->disk[i / 2][i % 2]->block);
    pci_destroy(t->pci);
    reset_ports_destroy(t->reset);
    guestmem_destroy(t->gm);
    rig_done(&t->r);
    free(t);
}

/* --- what a driver does --- */

static inline u8 status(struct ide_rig *t)
{
    return (u8)in8(&t->r, t->base + 7);
}

static inline u8 alt_status(struct ide_rig *t)
{
    return (u8)in8(&t->r, t->control);
}

static inline u8 error_reg(struct ide_rig *t)
{
    return (u8)in8(&t->r, t->base + 1);
}

static inline int intrq(struct ide_rig *t)
{
    return t->r.pin[t->base == 0x170].level;
}

static inline unsigned interrupts(struct ide_rig *t)
{
    return t->r.pin[t->base == 0x170].rises;
}

/* Registers 1 to 5 as arguments, then the command. */
static inline void taskfile(struct ide_rig *t, u8 features, u8 count, u32 lba, u8 device)
{
    out8(&t->r, t->base + 6, device);
    out8(&t->r, t->base + 1, features);
    out8(&t->r, t->base + 2, count);
    out8(&t->r, t->base + 3, lba & 0xff);
    out8(&t->r, t->base + 4, lba >> 8 & 0xff);
    out8(&t->r, t->base + 5, lba >> 16 & 0xff);
}

static inline void command(struct ide_rig *t, u8 cmd)
{
    out8(&t->r, t->base + 7, cmd);
}

static inline void command28(struct ide_rig *t, u8 cmd, u32 lba, u8 count, u8 device)
{
    taskfile(t, 0, count, lba, device | (u8)(lba >> 24 & 0xf));
    command(t, cmd);
}

static inline void command48(struct ide_rig *t, u8 cmd, u64 lba, u16 count, u8 device)
{
    taskfile(t, 0, (u8)(count >> 8), (u32)(lba >> 24), device);
    taskfile(t, 0, (u8)count, (u32)lba & 0xffffff, device);
    command(t, cmd);
}

static inline u32 lba_regs(struct ide_rig *t)
{
    return in8(&t->r, t->base + 3) | in8(&t->r, t->base + 4) << 8 | in8(&t->r, t->base + 5) << 16;
}

static inline void pio_read(struct ide_rig *t, void *buf, unsigned len)
{
    u8 *p = buf;
    for (unsigned i = 0; i < len; i += 2)
        store_le(p + i, in16(&t->r, t->base), 2);
}

static inline void pio_write(struct ide_rig *t, const void *buf, unsigned len)
{
    const u8 *p = buf;
    for (unsigned i = 0; i < len; i += 2)
        out16(&t->r, t->base, (u32)load_le(p + i, 2));
}

/* One entry of a table of descriptors at `table`. */
static inline void put_prd(struct ide_rig *t, u32 table, unsigned n, u32 addr, u32 size, bool end)
{
    store_le(t->ram + table + 8ULL * n, addr, 4);
    store_le(t->ram + table + 8ULL * n + 4, (size & 0xffff) | (end ? 0x80000000U : 0), 4);
}

static inline void bm_prepare(struct ide_rig *t, u32 table, bool in)
{
    out32(&t->r, t->bm + 4, table);
    out8(&t->r, t->bm, in ? BM_READ : 0);
    out8(&t->r, t->bm + 2, BM_ERROR | BM_INT);
}

static inline void bm_start(struct ide_rig *t)
{
    out8(&t->r, t->bm, (u8)in8(&t->r, t->bm) | BM_START);
}

static inline void bm_stop(struct ide_rig *t)
{
    out8(&t->r, t->bm, (u8)in8(&t->r, t->bm) & ~BM_START);
}

static inline u8 bm_status(struct ide_rig *t)
{
    return (u8)in8(&t->r, t->bm + 2);
}

/* The command is over: status and interrupt as they should be. */
static inline void expect_end(struct ide_rig *t, u8 want_status, u8 want_error)
{
    assert_int_equal(alt_status(t), want_status);
    assert_int_equal(error_reg(t), want_error);
    assert_int_equal(intrq(t), 1);
    assert_int_equal(status(t), want_status);
    assert_int_equal(intrq(t), 0);
}

/* --- a rig with disks, as most tests use it --- */

#define SECTORS 20000

#define TABLE 0x1000 /* of DMA descriptors, in guest memory */
#define DATA  0x20000

static inline int ide_setup(void **state)
{
    struct ide_rig *t = ide_rig_create();
    t->disk[0][0] = test_block_create(SECTORS);
    t->disk[1][0] = test_block_create(100);
    t->disk[1][1] = test_block_create(200);
    ide_rig_plug(t, 0);
    *state = t;
    return 0;
}

static inline int ide_teardown(void **state)
{
    ide_rig_destroy(*state);
    return 0;
}

static inline u8 *sector(struct ide_rig *t, u64 lba)
{
    return t->disk[0][0]->data + lba * 512;
}

/* What was asked for is taken block by block, each announced by an interrupt. */
static inline void take(struct ide_rig *t, u8 *buf, unsigned sectors, unsigned block)
{
    for (unsigned i = 0; i < sectors; i += block) {
        unsigned n = MIN(block, sectors - i);
        assert_int_equal(intrq(t), 1);
        assert_int_equal(status(t), ST_OK | ST_DRQ);
        assert_int_equal(intrq(t), 0);
        pio_read(t, buf + 512ULL * i, 512 * n);
    }
    assert_int_equal(status(t), ST_OK);
    assert_int_equal(intrq(t), 0);
}

static inline void give(struct ide_rig *t, const u8 *buf, unsigned sectors, unsigned block)
{
    for (unsigned i = 0; i < sectors; i += block) {
        unsigned n = MIN(block, sectors - i);
        assert_int_equal(intrq(t), i != 0);
        assert_int_equal(status(t), ST_OK | ST_DRQ);
        pio_write(t, buf + 512ULL * i, 512 * n);
    }
    expect_end(t, ST_OK, 0);
}

static inline void fill(u8 *buf, size_t len, u8 seed)
{
    for (size_t i = 0; i < len; i++)
        buf[i] = (u8)(seed + i * 13 + i / 512);
}

static inline void identify(struct ide_rig *t, u16 *w, u8 device)
{
    taskfile(t, 0, 0, 0, device);
    command(t, 0xec);
    take(t, (u8 *)w, 1, 1);
}

#endif
