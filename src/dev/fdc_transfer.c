/*
 * The execution phase of commands that move data. Sector by sector: the disk gives one, the host
 * takes it by DMA or byte by byte; or the other way round. The disk answers on any thread, so each
 * step ends by saying what it waits for (struct transfer.wait), and whoever brings that goes on.
 *
 * The heads go to the cylinder that a command names, as if implied seeks were always on: there are
 * programs that know nothing but emulated drives, and SeaBIOS was among them for long.
 */
#include "dev/fdc_internal.h"

#include <errno.h>

#define BIT_MULTI_TRACK 0x80
#define BIT_MFM         0x40
#define BIT_SKIP        0x20 /* sectors of the other kind */
#define BIT_COUNT       0x80 /* VERIFY: the last byte says how many sectors */
#define ID_SIZE         4    /* FORMAT: C, H, R, N of a sector */

static void want_disk(struct fdc *f, enum block_op op);

/* --- the end --- */

static void end_transfer(struct fdc *f, u8 st0, u8 st1, u8 st2)
{
    struct transfer *t = &f->transfer;
    st0 |= (f->command[1] & 3) | (t->head & 1) << 2;
    fdc_end(f, (u8[]){st0, st1, st2, t->cylinder, t->head, t->sector, SIZE_CODE}, 7);
    fdc_raise(f);
}

static void fail(struct fdc *f, u8 st1, u8 st2)
{
    end_transfer(f, ST0_ABNORMAL, st1, st2);
}

/* To the next sector (data sheet, table 6-6). False: the track's, or with two of them the
 * cylinder's, sectors are used up. */
static bool advance(struct transfer *t)
{
    if (t->sector != t->end) {
        t->sector++;
        return true;
    }
    t->sector = 1;
    if (t->multi_track) {
        t->head ^= 1;
        if (t->head & 1)
            return true;
    }
    t->cylinder++;
    return false;
}

/* --- sectors --- */

/* What a disk says to the head that looks for this sector: 0, or bits of ST1. */
static u8 find_sector(const struct drive *d, const struct transfer *t)
{
    const struct floppy_format *m = d->format;
    if (t->head >= m->heads || t->cylinder >= m->tracks)
        return ST1_NO_ADDRESS;
    return t->sector >= 1 && t->sector <= m->sectors ? 0 : ST1_NO_DATA;
}

static u64 sector_offset(const struct drive *d, const struct transfer *t)
{
    const struct floppy_format *m = d->format;
    u64 n = ((u64)t->cylinder * m->heads + t->head) * m->sectors + t->sector - 1;
    return n * SECTOR_SIZE;
}

static void wait_for_host(struct fdc *f, enum wait wait, unsigned size)
{
    f->transfer.wait = wait;
    f->transfer.pos = 0;
    f->transfer.size = size;
    if (fdc_uses_dma(f))
        transfer_go_on(f);
    else
        fdc_raise(f);
}

/* The next sector, which exists or not. */
static void begin_sector(struct fdc *f)
{
    struct transfer *t = &f->transfer;
    struct drive *d = fdc_drive(f, f->command[1]);
    if (t->kind == TRANSFER_FORMAT) {
        wait_for_host(f, WAIT_WRITER, ID_SIZE);
        return;
    }
    u8 error = find_sector(d, t);
    if (error) {
        fail(f, error, 0);
        return;
    }
    fdc_step(f, f->command[1] & 3, t->cylinder);
    if (t->kind == TRANSFER_WRITE)
        wait_for_host(f, WAIT_WRITER, SECTOR_SIZE);
    else
        want_disk(f, BLOCK_READ);
}

static void end_sector(struct fdc *f)
{
    struct transfer *t = &f->transfer;
    if (t->deleted) { /* no sector of an image is, and an unexpected one is the last */
        end_transfer(f, 0, 0, ST2_NORMAL);
        return;
    }
    bool more = t->kind == TRANSFER_FORMAT || advance(t);
    if (t->last || (t->counted && --t->left == 0))
        end_transfer(f, 0, 0, 0);
    else if (more)
        begin_sector(f);
    else if (t->kind == TRANSFER_VERIFY && !t->counted)
        end_transfer(f, 0, 0, 0);
    else
        fail(f, ST1_END, 0); /* nobody said that this was enough */
}

/* The host has given the bytes of a sector, or of its ID. */
static void got_bytes(struct fdc *f)
{
    struct transfer *t = &f->transfer;
    struct drive *d = fdc_drive(f, f->command[1]);
    if (t->kind == TRANSFER_FORMAT) {
        u8 size_code = t->buffer[3];
        t->cylinder = t->buffer[0];
        t->head = t->buffer[1];
        t->sector = t->buffer[2];
        u8 error = size_code == SIZE_CODE ? find_sector(d, t) : ST1_NO_DATA;
        if (error) { /* an image can't hold it */
            fail(f, error, 0);
            return;
        }
        fdc_step(f, f->command[1] & 3, t->cylinder);
        memset(t->buffer, t->filler, SECTOR_SIZE);
    } else {
        memset(t->buffer + t->pos, 0, SECTOR_SIZE - t->pos);
    }
    want_disk(f, BLOCK_WRITE);
}

void transfer_go_on(struct fdc *f)
{
    struct transfer *t = &f->transfer;
    bool to_memory = t->wait == WAIT_READER, tc;
    if (f->phase != PHASE_EXECUTION || t->wait == WAIT_DISK || !fdc_uses_dma(f) ||
        !(f->dor & DOR_DMA_GATE))
        return;
    t->pos += i8237_transfer(f->opt.dma, f->opt.dma_channel, t->buffer + t->pos, t->size - t->pos,
                             to_memory, &tc);
    t->last |= tc && t->kind != TRANSFER_FORMAT;
    if (t->pos < t->size && !t->last)
        return;
    if (to_memory)
        end_sector(f);
    else
        got_bytes(f);
}

u8 transfer_read_byte(struct fdc *f)
{
    struct transfer *t = &f->transfer;
    u8 value = t->buffer[t->pos++];
    fdc_lower(f);
    if (t->pos < t->size)
        fdc_raise(f);
    else
        end_sector(f);
    return value;
}

void transfer_write_byte(struct fdc *f, u8 value)
{
    struct transfer *t = &f->transfer;
    t->buffer[t->pos++] = value;
    fdc_lower(f);
    if (t->pos < t->size)
        fdc_raise(f);
    else
        got_bytes(f);
}

/* --- the disk --- */

static void want_disk(struct fdc *f, enum block_op op)
{
    struct disk_io *io = &f->io;
    f->transfer.wait = WAIT_DISK;
    io->op = op;
    io->drive = fdc_drive(f, f->command[1]);
    io->offset = sector_offset(io->drive, &f->transfer);
    io->wanted = true;
}

static void disk_has_answered(struct fdc *f)
{
    struct transfer *t = &f->transfer;
    struct disk_io *io = &f->io;
    if (io->result == -EROFS) {
        fail(f, ST1_READ_ONLY, 0);
    } else if (io->result < 0) {
        fail(f, ST1_BAD_DATA, ST2_BAD_DATA);
    } else if (t->kind == TRANSFER_READ || t->kind == TRANSFER_READ_TRACK) {
        memcpy(t->buffer, io->data, SECTOR_SIZE);
        wait_for_host(f, WAIT_READER, SECTOR_SIZE);
    } else {
        end_sector(f);
    }
}

/* Gives it to the disk. What lies behind the end of a small image is zero, and can't be written. */
static void submit(struct fdc *f)
{
    struct disk_io *io = &f->io;
    struct block *disk = io->drive->disk;
    io->wanted = false;
    io->in_flight = true;
    if (io->op == BLOCK_WRITE)
        memcpy(io->data, f->transfer.buffer, SECTOR_SIZE);
    else
        memset(io->data, 0, SECTOR_SIZE);
    if (io->offset + SECTOR_SIZE > disk->size) {
        io->done = true;
        io->result = io->op == BLOCK_WRITE ? -EIO : 0;
        return;
    }
    io->iov = (struct iovec){io->data, SECTOR_SIZE};
    io->request = (struct block_request){.op = io->op,
                                         .offset = io->offset,
                                         .length = SECTOR_SIZE,
                                         .iov = &io->iov,
                                         .niov = 1,
                                         .done = fdc_disk_done,
                                         .ctx = f};
    pthread_mutex_unlock(&f->lock);
    block_submit(disk, &io->request);
    pthread_mutex_lock(&f->lock);
}

void fdc_run_disk(struct fdc *f)
{
    struct disk_io *io = &f->io;
    if (io->running)
        return;
    io->running = true;
    for (;;) {
        if (io->done) {
            bool forgotten = io->forgotten;
            io->done = io->in_flight = io->forgotten = false;
            if (!forgotten)
                disk_has_answered(f);
        } else if (io->wanted && !io->in_flight) {
            submit(f);
        } else {
            break;
        }
    }
    io->running = false;
}

void transfer_forget(struct fdc *f)
{
    f->io.wanted = false;
    f->io.forgotten = f->io.in_flight;
}

/* --- commands --- */

static u8 check_media(struct fdc *f, const struct drive *d)
{
    if (!d || !(f->command[0] & BIT_MFM) || !(d->format->rates & BIT(f->rate)))
        return ST1_NO_ADDRESS;
    return 0;
}

/* C, H, R, N, EOT, GPL, DTL follow the drive; FORMAT: N, SC, GPL, D. */
static void read_parameters(struct fdc *f, enum transfer_kind kind)
{
    const u8 *c = f->command;
    struct transfer *t = &f->transfer;
    memset(t, 0, offsetof(struct transfer, buffer));
    t->kind = kind;
    if (kind == TRANSFER_FORMAT) {
        struct drive *d = fdc_drive(f, c[1]);
        t->cylinder = d ? d->track : 0;
        t->head = c[1] >> 2 & 1;
        t->left = c[3];
        t->counted = true;
        t->filler = c[5];
        return;
    }
    t->multi_track = (c[0] & BIT_MULTI_TRACK) && kind != TRANSFER_READ_TRACK;
    t->deleted = (c[0] & 0x1f) == FDC_READ_DELETED;
    t->cylinder = c[2];
    t->head = c[3];
    t->sector = c[4];
    t->end = f->end_of_track = c[6];
    if (kind == TRANSFER_READ_TRACK) { /* all sectors from the index hole on */
        t->sector = 1;
        t->counted = true;
        t->left = t->end;
    } else if (kind == TRANSFER_VERIFY && (c[1] & BIT_COUNT)) {
        t->counted = true;
        t->left = c[8];
    }
}

void transfer_start(struct fdc *f, enum transfer_kind kind)
{
    struct drive *d = fdc_drive(f, f->command[1]);
    struct transfer *t = &f->transfer;
    bool writes = kind == TRANSFER_WRITE || kind == TRANSFER_FORMAT;
    u8 size_code = f->command[kind == TRANSFER_FORMAT ? 2 : 5];
    read_parameters(f, kind);
    f->phase = PHASE_EXECUTION;
    u8 error = check_media(f, d);
    if (error)
        fail(f, error, 0);
    else if (writes && d->disk->read_only)
        fail(f, ST1_READ_ONLY, 0);
    else if (size_code != SIZE_CODE || (t->head & 1) != (f->command[1] >> 2 & 1) ||
             (t->counted && !t->left))
        fail(f, ST1_NO_DATA, 0);
    else if (t->deleted && (f->command[0] & BIT_SKIP))
        fail(f, ST1_END, 0); /* skips all of them */
    else
        begin_sector(f);
}

void transfer_read_id(struct fdc *f)
{
    struct drive *d = fdc_drive(f, f->command[1]);
    struct transfer *t = &f->transfer;
    u8 error = check_media(f, d);
    t->cylinder = d ? d->track : 0;
    t->head = f->command[1] >> 2 & 1;
    t->sector = 1;
    if (!error)
        error = find_sector(d, t);
    end_transfer(f, error ? ST0_ABNORMAL : 0, error, 0);
}
