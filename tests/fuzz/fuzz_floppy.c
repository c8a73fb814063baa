/*
 * Floppy and DMA controllers: commands with parameters that are right, nearly right or random, DMA
 * channels likewise, also into memory that isn't there; disks that answer at once, later, with an
 * error, or from a thread of their own (then a run does not follow from its seed). No request may
 * leave the disk, or write one that is read-only.
 *
 *   fuzz_floppy [--seed N] [--runs N]
 */
#include <errno.h>
#include <pthread.h>

#include "dev/fdc.h"
#include "dev/i8237.h"
#include "device.h"
#include "host/block_impl.h"
#include "mem/guestmem.h"

#define DOR  0x3f2
#define MSR  0x3f4
#define FIFO 0x3f5
#define CCR  0x3f7
#define RAM  (1 * MIB)

enum answers { AT_ONCE, LATER, BY_THREAD };

struct fuzz_disk {
    struct block block;
    u8 *data;
    enum answers answers;
    int result;
    pthread_mutex_t lock; /* for the rest */
    pthread_cond_t changed;
    struct block_request *waiting;
    bool stop;
    pthread_t thread;
};

struct floppy_rig {
    struct device_rig r;
    struct guest_mem *gm;
    struct i8237 *dma;
    struct fdc *fdc;
    struct fuzz_disk disk[FDC_DRIVES];
};

/* --- disks --- */

static void carry_out(struct fuzz_disk *d, struct block_request *r)
{
    check(r->offset + r->length <= d->block.size && r->length == 512, "a request leaves the disk");
    check(r->op == BLOCK_READ || !d->block.read_only, "a request writes a read-only disk");
    if (r->op == BLOCK_READ)
        memcpy(r->iov->iov_base, d->data + r->offset, r->length);
    else
        memcpy(d->data + r->offset, r->iov->iov_base, r->length);
    block_complete(&d->block, r, d->result);
}

static void answer(struct fuzz_disk *d)
{
    struct block_request *r = d->waiting;
    d->waiting = NULL;
    if (r)
        carry_out(d, r);
}

static void submit(struct block *b, struct block_request *r)
{
    struct fuzz_disk *d = (struct fuzz_disk *)b;
    if (d->answers == BY_THREAD)
        pthread_mutex_lock(&d->lock);
    check(!d->waiting, "two requests at once");
    d->waiting = r;
    if (d->answers == AT_ONCE)
        answer(d);
    if (d->answers == BY_THREAD) {
        pthread_cond_signal(&d->changed);
        pthread_mutex_unlock(&d->lock);
    }
}

static void *disk_thread(void *arg)
{
    struct fuzz_disk *d = arg;
    pthread_mutex_lock(&d->lock);
    while (!d->stop) {
        struct block_request *r = d->waiting;
        d->waiting = NULL;
        if (!r) {
            pthread_cond_wait(&d->changed, &d->lock);
            continue;
        }
        pthread_mutex_unlock(&d->lock);
        carry_out(d, r);
        pthread_mutex_lock(&d->lock);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static void disk_create(struct fuzz_disk *d, struct rng *rng, enum answers answers)
{
    static const u16 sizes[] = {160, 360, 720, 1200, 1440, 2880, 1, 100};
    static const struct block_ops ops = {.submit = submit};
    *d = (struct fuzz_disk){.answers = answers};
    d->block.ops = &ops;
    d->block.size = sizes[rnd_below(rng, ARRAY_SIZE(sizes))] * KIB;
    d->block.read_only = one_in(rng, 8);
    d->data = calloc(1, d->block.size);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    if (answers == BY_THREAD)
        check(pthread_create(&d->thread, NULL, disk_thread, d) == 0, "no thread");
}

static void disk_destroy(struct fuzz_disk *d)
{
    if (d->answers == BY_THREAD) {
        pthread_mutex_lock(&d->lock);
        d->stop = true;
        pthread_cond_signal(&d->changed);
        pthread_mutex_unlock(&d->lock);
        pthread_join(d->thread, NULL);
    }
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->changed);
    free(d->data);
}

/* --- operations --- */

static void command(struct device_rig *r)
{
    static const u8 commands[] = {0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0c, 0x0d,
                                  0x0e, 0x0f, 0x10, 0x12, 0x13, 0x14, 0x16, 0x18, 0x8f, 0x94, 0xcf};
    struct rng *g = &r->rng;
    u8 first = commands[rnd_below(g, sizeof(commands))];
    if (!one_in(g, 16) && (first & 0x80) == 0)
        first |= 0x40 | (one_in(g, 2) ? 0x80 : 0);
    if (one_in(g, 4))
        first |= 0x20;
    if (first == 0x43 || first == 0xc3 || one_in(g, 8))
        first &= 0x1f;
    u8 head = one_in(g, 2), unit = (u8)(head << 2 | !one_in(g, 4) << 0);
    u8 bytes[] = {first,
                  one_in(g, 16) ? (u8)rnd(g) : unit,
                  (u8)rnd_below(g, one_in(g, 8) ? 256 : 40),
                  one_in(g, 16) ? (u8)rnd(g) : head,
                  (u8)rnd_below(g, one_in(g, 8) ? 256 : 10),
                  one_in(g, 16) ? (u8)rnd(g) : 2,
                  (u8)rnd_below(g, one_in(g, 8) ? 256 : 19),
                  0x1b,
                  (u8)rnd(g)};
    if ((first & 0x1f) == 0x0d)
        bytes[2] = 2;
    unsigned count = one_in(g, 16) ? rnd_below(g, sizeof(bytes)) : sizeof(bytes);
    for (unsigned i = 0; i < count && (rig_in(r, MSR) & 0xe0) == 0x80; i++)
        rig_out(r, FIFO, bytes[i]);
}

static void program_dma(struct device_rig *r)
{
    static const u8 modes[] = {0x46, 0x4a, 0x42, 0x56, 0x5a, 0x66, 0x6a, 0xc6};
    struct rng *g = &r->rng;
    unsigned count = one_in(g, 4) ? (u16)rnd(g) : 512 * (1 + rnd_below(g, 20)) - 1;
    rig_out(r, 0x0a, 0x06);
    rig_out(r, 0x0c, 0);
    rig_out(r, 0x0b, modes[one_in(g, 4) ? rnd_below(g, sizeof(modes)) : rnd_below(g, 2)]);
    rig_out(r, 0x04, (u8)rnd(g));
    rig_out(r, 0x04, (u8)rnd(g));
    rig_out(r, 0x05, count & 0xff);
    rig_out(r, 0x05, count >> 8);
    rig_out(r, 0x81, one_in(g, 4) ? (u8)rnd(g) : rnd_below(g, 16));
    if (!one_in(g, 8))
        rig_out(r, 0x0a, 0x02);
}

/* Results, or data byte by byte. */
static void take_bytes(struct device_rig *r)
{
    unsigned max = one_in(&r->rng, 2) ? 10 : 2000;
    for (unsigned i = 0; i < max; i++) {
        u8 status = rig_in(r, MSR);
        if ((status & 0xf0) == 0xb0)
            rig_out(r, FIFO, one_in(&r->rng, 16) ? (u8)rnd(&r->rng) : rnd_below(&r->rng, 3));
        else if ((status & 0xc0) == 0xc0)
            rig_in(r, FIFO);
        else
            break;
    }
}

static void reset(struct floppy_rig *t)
{
    struct device_rig *r = &t->r;
    if (one_in(&r->rng, 20)) {
        fdc_reset(t->fdc);
        i8237_reset(t->dma);
    }
    rig_out(r, DOR, one_in(&r->rng, 2) ? 0x08 : 0x00);
    if (!one_in(&r->rng, 8))
        rig_out(r, DOR, 0x1c | one_in(&r->rng, 2));
    rig_out(r, CCR, rnd_below(&r->rng, 4));
    rig_out(r, FIFO, 0x03);
    rig_out(r, FIFO, 0xaf);
    rig_out(r, FIFO, one_in(&r->rng, 3));
}

static void any_port(struct device_rig *r)
{
    static const u16 base[] = {0x3f0, 0x3f0, 0x3f0, 0x000, 0x080, 0x0c0, 0x0d0};
    rig_access(r, base[rnd_below(&r->rng, ARRAY_SIZE(base))] + rnd_below(&r->rng, 16));
}

static void operation(struct floppy_rig *t)
{
    static const int results[] = {0, 0, 0, 0, 0, 0, -EIO, -EROFS};
    struct device_rig *r = &t->r;
    struct fuzz_disk *d = &t->disk[rnd_below(&r->rng, FDC_DRIVES)];
    switch (rnd_below(&r->rng, 12)) {
    case 0:
        any_port(r);
        break;
    case 1:
        program_dma(r);
        break;
    case 2:
        if (one_in(&r->rng, 8))
            reset(t);
        break;
    case 3:
    case 4:
        if (d->answers != BY_THREAD)
            d->result = results[rnd_below(&r->rng, ARRAY_SIZE(results))];
        if (d->answers == LATER)
            answer(d);
        break;
    case 5:
        rig_out(r, CCR, rnd_below(&r->rng, 4));
        break;
    case 6:
    case 7:
    case 8:
        take_bytes(r);
        break;
    default:
        command(r);
        break;
    }
}

static void run(u64 seed)
{
    struct floppy_rig t;
    struct error err;
    rig_create(&t.r, seed);
    struct fdc_options opt = {.dma_channel = 2, .irq = rig_line(&t.r, 0)};
    for (unsigned i = 0; i < FDC_DRIVES; i++) {
        disk_create(&t.disk[i], &t.r.rng, (enum answers)rnd_below(&t.r.rng, 3));
        opt.drive[i] = one_in(&t.r.rng, 4) ? NULL : &t.disk[i].block;
    }
    check(guestmem_create(RAM, &t.gm, &err) == 0 && i8237_create(t.gm, &t.dma, &err) == 0 &&
              i8237_attach(t.dma, t.r.bus, &err) == 0,
          "no DMA");
    opt.dma = t.dma;
    check(fdc_create(&opt, &t.fdc, &err) == 0 && fdc_attach(t.fdc, t.r.bus, &err) == 0,
          "no floppy controller");
    reset(&t);
    for (unsigned i = 0; i < OPERATIONS; i++)
        operation(&t);
    for (unsigned i = 0; i < FDC_DRIVES; i++)
        while (t.disk[i].answers == LATER && t.disk[i].waiting)
            answer(&t.disk[i]);
    fdc_reset(t.fdc);
    check(!t.r.level[0], "an interrupt after a reset");
    fdc_destroy(t.fdc);
    for (unsigned i = 0; i < FDC_DRIVES; i++)
        disk_destroy(&t.disk[i]);
    i8237_destroy(t.dma);
    guestmem_destroy(t.gm);
    rig_destroy(&t.r);
}

int main(int argc, char **argv)
{
    return fuzz_main(argc, argv, "fuzz_floppy", run);
}
