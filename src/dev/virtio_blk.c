/*
 * The virtio disk. A request is started on the thread that notifies and ends on a thread of the
 * image's back end. It goes from its chain's header to one request of the back end after the other:
 * a discard may have several ranges, and a write is followed by a flush if the driver was not told,
 * or doesn't want, a cache that it has to flush itself.
 */
#include "dev/virtio_blk.h"

#include <errno.h>
#include <stdlib.h>

#include "dev/virtio_pci.h"

#define PCI_ID    0x1001
#define PCI_CLASS 0x010000 /* mass storage, SCSI, as other virtio disks say */
#define TYPE      2

/* Firmware (SeaBIOS) has no room for more, and a legacy driver can't ask for less. */
#define QUEUE_SIZE  128
#define SEGMENT_MAX (QUEUE_SIZE - 2) /* of data: header and status need one each */

/* Features (5.2.3). */
#define F_SEG_MAX      BIT(2)
#define F_GEOMETRY     BIT(4)
#define F_RO           BIT(5)
#define F_BLK_SIZE     BIT(6)
#define F_FLUSH        BIT(9)
#define F_TOPOLOGY     BIT(10)
#define F_CONFIG_WCE   BIT(11)
#define F_DISCARD      BIT(13)
#define F_WRITE_ZEROES BIT(14)

enum { STATUS_OK, STATUS_IOERR, STATUS_UNSUPPORTED };

#define ID_LENGTH 20

/* Ranges of one discard or write-zeroes request, and how long each may be. */
#define RANGE_MAX        32
#define RANGE_BLOCKS_MAX 0x3fffff /* just under 2 GiB */
#define RANGE_UNMAP      0x1

/* CHS for those who still use it: what a big ATA disk says. */
#define HEADS         16
#define TRACK_SECTORS 63
#define CYLINDERS_MAX 16383

/* How a request begins (5.2.6). */
struct header {
    u32 type;
    u32 reserved;
    u64 sector;
};

struct range {
    u64 sector;
    u32 sectors;
    u32 flags;
};

/* Device configuration (5.2.4); all fields lie where C puts them. */
struct config {
    u64 capacity;
    u32 size_max, seg_max;
    u16 cylinders;
    u8 heads, sectors;
    u32 blk_size;
    u8 physical_block_exp, alignment_offset;
    u16 min_io_size;
    u32 opt_io_size;
    u8 writeback, unused0;
    u16 num_queues;
    u32 max_discard_sectors, max_discard_seg, discard_sector_alignment;
    u32 max_write_zeroes_sectors, max_write_zeroes_seg;
    u8 write_zeroes_may_unmap, unused1[3];
};
#define CONFIG_SIZE 60
_Static_assert(offsetof(struct config, unused1) + 3 == CONFIG_SIZE, "struct config has no holes");

struct virtio_blk {
    struct virtio_pci *transport;
    struct block *block;
    struct config config; /* under the transport's lock once the guest runs */
    char id[ID_LENGTH];
};

struct request {
    struct vq_chain chain;
    struct virtio_blk *b;
    struct block_request io;
    bool through; /* a flush follows */
    unsigned ranges, next_range;
    struct range range[RANGE_MAX];
    struct iovec iov[VQ_CHAIN_MAX];
};

/* --- ends --- */

/* The status byte is the last one that the device may write. */
static void finish(struct request *r, u8 status)
{
    u64 length = r->chain.in_length;
    vq_chain_write(&r->chain, length - 1, &status, 1);
    virtio_pci_complete(r->b->transport, &r->chain, (u32)MIN(length, UINT32_MAX));
}

static void finish_result(struct request *r, int result)
{
    finish(r, result == 0 ? STATUS_OK : result == -ENOTSUP ? STATUS_UNSUPPORTED : STATUS_IOERR);
}

static void submit(struct request *r, enum block_op op, u64 offset, u64 length,
                   void (*done)(struct block_request *io, int result))
{
    r->io.op = op;
    r->io.offset = offset;
    r->io.length = length;
    r->io.done = done;
    block_submit(r->b->block, &r->io);
}

static void done(struct block_request *io, int result)
{
    finish_result(io->ctx, result);
}

static void written(struct block_request *io, int result)
{
    struct request *r = io->ctx;
    if (result == 0 && r->through)
        submit(r, BLOCK_FLUSH, 0, 0, done);
    else
        finish_result(r, result);
}

/* --- the kinds of requests --- */

static bool on_disk(const struct virtio_blk *b, u64 sector, u64 sectors)
{
    return sector <= b->config.capacity && sectors <= b->config.capacity - sector;
}

static void transfer(struct request *r, u64 sector, bool in)
{
    struct vq_chain *c = &r->chain;
    u64 length = in ? c->in_length - 1 : c->out_length - sizeof(struct header);
    if (length % BLOCK_SECTOR || !on_disk(r->b, sector, length / BLOCK_SECTOR)) {
        finish(r, STATUS_IOERR);
    } else if (length == 0) {
        finish(r, STATUS_OK);
    } else {
        r->io.niov = vq_chain_slice(c, in, in ? 0 : sizeof(struct header), length, r->iov);
        submit(r, in ? BLOCK_READ : BLOCK_WRITE, sector * BLOCK_SECTOR, length,
               in ? done : written);
    }
}

static void start_read(struct request *r, const struct header *h)
{
    transfer(r, h->sector, true);
}

static void start_write(struct request *r, const struct header *h)
{
    if (r->b->block->read_only)
        finish(r, STATUS_IOERR);
    else
        transfer(r, h->sector, false);
}

static void start_flush(struct request *r, const struct header *h)
{
    (void)h;
    submit(r, BLOCK_FLUSH, 0, 0, done);
}

static void start_get_id(struct request *r, const struct header *h)
{
    (void)h;
    u64 length = MIN(r->chain.in_length - 1, ID_LENGTH);
    vq_chain_write(&r->chain, 0, r->b->id, length);
    finish(r, STATUS_OK);
}

static void range_done(struct block_request *io, int result)
{
    struct request *r = io->ctx;
    if (result == 0 && r->next_range < r->ranges) {
        const struct range *n = &r->range[r->next_range++];
        submit(r, io->op, n->sector * BLOCK_SECTOR, (u64)n->sectors * BLOCK_SECTOR, range_done);
    } else {
        written(io, result);
    }
}

/* Copies the ranges of a request and checks them: STATUS_... */
static u8 read_ranges(struct request *r, u32 flags)
{
    u64 length = r->chain.out_length - sizeof(struct header);
    if (length == 0 || length % sizeof(struct range) || length > sizeof(r->range))
        return STATUS_IOERR;
    vq_chain_read(&r->chain, sizeof(struct header), r->range, length);
    r->ranges = (unsigned)(length / sizeof(struct range));
    r->next_range = 0;
    for (struct range *n = r->range; n < r->range + r->ranges; n++) {
        if (n->flags & ~flags)
            return STATUS_UNSUPPORTED;
        if (n->sectors == 0 || n->sectors > RANGE_BLOCKS_MAX ||
            !on_disk(r->b, n->sector, n->sectors))
            return STATUS_IOERR;
    }
    return STATUS_OK;
}

static void start_ranges(struct request *r, enum block_op op, u32 flags)
{
    u8 status = r->b->block->read_only ? STATUS_IOERR : read_ranges(r, flags);
    r->io.op = op;
    if (status == STATUS_OK)
        range_done(&r->io, 0);
    else
        finish(r, status);
}

static void start_discard(struct request *r, const struct header *h)
{
    (void)h;
    start_ranges(r, BLOCK_DISCARD, 0);
}

static void start_write_zeroes(struct request *r, const struct header *h)
{
    (void)h;
    start_ranges(r, BLOCK_WRITE_ZEROES, RANGE_UNMAP);
}

static const struct {
    u32 type;
    void (*start)(struct request *r, const struct header *h);
} kinds[] = {
    {0, start_read},   {1, start_write},    {4, start_flush},
    {8, start_get_id}, {11, start_discard}, {13, start_write_zeroes},
};

/* --- starting --- */

/* Without a promise of the driver to flush, what is written is on stable storage (5.2.5.2). */
static bool writes_through(struct virtio_blk *b)
{
    u64 features = virtio_pci_features(b->transport);
    if (features & F_CONFIG_WCE)
        return !__atomic_load_n(&b->config.writeback, __ATOMIC_RELAXED);
    return !(features & F_FLUSH);
}

static void start(struct virtio_blk *b, struct request *r)
{
    struct header h;
    if (r->chain.out_length < sizeof(h) || r->chain.in_length < 1) {
        virtio_pci_reject(b->transport, &r->chain);
        return;
    }
    vq_chain_read(&r->chain, 0, &h, sizeof(h));
    r->b = b;
    r->io.ctx = r;
    r->io.iov = r->iov;
    r->io.niov = 0;
    r->through = writes_through(b);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (kinds[i].type == h.type) {
            kinds[i].start(r, &h);
            return;
        }
    }
    finish(r, STATUS_UNSUPPORTED);
}

static void notified(void *ctx, unsigned queue)
{
    struct virtio_blk *b = ctx;
    struct vq_chain *chain;
    while ((chain = virtio_pci_pop(b->transport, queue)))
        start(b, container_of(chain, struct request, chain));
}

/* --- configuration --- */

static void config_read(void *ctx, unsigned offset, void *buf, unsigned size)
{
    const struct virtio_blk *b = ctx;
    memcpy(buf, (const u8 *)&b->config + offset, size);
}

static void config_write(void *ctx, u64 features, unsigned offset, const void *buf, unsigned size)
{
    struct virtio_blk *b = ctx;
    if (!(features & F_CONFIG_WCE) || offset != offsetof(struct config, writeback) || size != 1)
        return;
    __atomic_store_n(&b->config.writeback, *(const u8 *)buf != 0, __ATOMIC_RELAXED);
}

static void device_reset(void *ctx)
{
    struct virtio_blk *b = ctx;
    b->config.writeback = 1;
}

static const struct virtio_device_ops blk_ops = {
    .notify = notified,
    .reset = device_reset,
    .config_read = config_read,
    .config_write = config_write,
};

static void fill_config(struct virtio_blk *b)
{
    u64 capacity = b->block->size / BLOCK_SECTOR;
    u64 cylinders = MIN(capacity / (HEADS * TRACK_SECTORS), CYLINDERS_MAX);
    b->config = (struct config){
        .capacity = capacity,
        .seg_max = SEGMENT_MAX,
        .cylinders = (u16)MAX(cylinders, 2),
        .heads = HEADS,
        .sectors = TRACK_SECTORS,
        .blk_size = BLOCK_SECTOR,
        .min_io_size = PAGE_SIZE / BLOCK_SECTOR, /* what the host's file systems work in */
        .num_queues = 1,
        .max_discard_sectors = RANGE_BLOCKS_MAX,
        .max_discard_seg = RANGE_MAX,
        .discard_sector_alignment = 1,
        .max_write_zeroes_sectors = RANGE_BLOCKS_MAX,
        .max_write_zeroes_seg = RANGE_MAX,
        .write_zeroes_may_unmap = 1,
    };
}

static u64 features_of(const struct block *block)
{
    u64 all = F_SEG_MAX | F_GEOMETRY | F_BLK_SIZE | F_TOPOLOGY | F_FLUSH | F_CONFIG_WCE;
    return all | (block->read_only ? F_RO : F_DISCARD | F_WRITE_ZEROES);
}

int virtio_blk_create(const struct virtio_blk_options *opt, struct virtio_blk **out,
                      struct error *err)
{
    struct virtio_blk *b = calloc(1, sizeof(*b));
    if (!b)
        return error_set(err, ENOMEM, "no memory for a virtio disk");
    b->block = opt->block;
    if (opt->serial)
        memcpy(b->id, opt->serial, strnlen(opt->serial, ID_LENGTH));
    fill_config(b);
    struct virtio_pci_options t = {
        .gm = opt->gm,
        .ports = opt->ports,
        .pci = opt->pci,
        .devfn = opt->devfn,
        .intx = opt->intx,
        .apics = opt->apics,
        .ops = &blk_ops,
        .ctx = b,
        .pci_id = PCI_ID,
        .class_code = PCI_CLASS,
        .type = TYPE,
        .features = features_of(opt->block),
        .queues = 1,
        .queue_size = QUEUE_SIZE,
        .config_size = CONFIG_SIZE,
        .chain_size = sizeof(struct request),
    };
    int rc = virtio_pci_create(&t, &b->transport, err);
    if (rc < 0) {
        free(b);
        return rc;
    }
    *out = b;
    return 0;
}

void virtio_blk_reset(struct virtio_blk *b)
{
    virtio_pci_reset(b->transport);
}

void virtio_blk_destroy(struct virtio_blk *b)
{
    if (!b)
        return;
    virtio_pci_destroy(b->transport);
    free(b);
}
