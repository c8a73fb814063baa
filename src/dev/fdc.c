/*
 * Registers and commands of the floppy controller. A command's bytes are collected and executed
 * when they are complete. Heads move in no time: the interrupt comes with the last byte of the
 * command. Transfers take as long as the disk does (fdc_transfer.c).
 *
 * As a disk's motor needs no time either, and nobody could see that it stands still, motors are
 * only remembered.
 */
#include "dev/fdc.h"

#include <errno.h>
#include <stdlib.h>

#include "dev/fdc_internal.h"
#include "dev/pcmap.h"

/* Ports, from PC_FDC on. */
enum { PORT_SRA, PORT_SRB, PORT_DOR, PORT_TDR, PORT_MSR, PORT_FIFO, PORT_DIR = 7 };

#define SRA_INTERRUPT   0x80
#define SRA_NO_DRIVE_2  0x40
#define SRA_NOT_TRACK_0 0x10
#define SRA_WRITABLE    0x02
#define SRB_ONES        0xc0
#define DSR_RESET       0x80
#define DIR_CHANGED     0x80
#define RATE_BITS       0x03
#define RATE_RESET      0x02

/* CONFIGURE's second byte. */
#define CONFIG_NO_FIFO     0x20
#define CONFIG_LOCKABLE    0x2f /* FIFO and threshold: LOCK keeps them over a reset */
#define SPECIFY_NON_DMA    0x01
#define PERPENDICULAR_KEPT 0x3c /* over a reset */
#define PERPENDICULAR_OW   0x80

#define VERSION_82077 0x90
#define PART_ID       0x41

/* --- helpers --- */

struct drive *fdc_drive(struct fdc *f, u8 byte)
{
    unsigned n = byte & 3;
    return n < FDC_DRIVES && f->drive[n].disk ? &f->drive[n] : NULL;
}

bool fdc_uses_dma(const struct fdc *f)
{
    return !(f->specify[1] & SPECIFY_NON_DMA);
}

void fdc_raise(struct fdc *f)
{
    f->interrupt = true;
}

/* The line shows that it was low, if it rises again at once. */
void fdc_lower(struct fdc *f)
{
    f->interrupt = false;
    wire_level(&f->irq, false);
}

void fdc_end(struct fdc *f, const u8 *result, unsigned count)
{
    if (count)
        memcpy(f->result, result, count);
    f->nresult = count;
    f->next_result = 0;
    f->ncommand = 0;
    f->phase = count ? PHASE_RESULT : PHASE_COMMAND;
}

static void end_with_byte(struct fdc *f, u8 byte)
{
    fdc_end(f, &byte, 1);
}

/* Something that SENSE INTERRUPT will tell about drive n. */
static void tell(struct fdc *f, unsigned n, u8 st0)
{
    if (f->polled)
        f->interrupts = 0;
    f->polled = false;
    f->interrupts |= BIT(n);
    f->st0[n] = st0 | n;
    fdc_raise(f);
}

/* --- commands (section 5) --- */

static void cmd_specify(struct fdc *f)
{
    f->specify[0] = f->command[1];
    f->specify[1] = f->command[2];
    fdc_end(f, NULL, 0);
}

static void cmd_sense_drive(struct fdc *f)
{
    u8 unit = f->command[1] & 7;
    const struct drive *d = fdc_drive(f, unit);
    u8 st3 = ST3_READY | ST3_TWO_SIDED | unit;
    if (d)
        st3 |= (d->disk->read_only ? ST3_READ_ONLY : 0) | (d->track ? 0 : ST3_TRACK_0);
    end_with_byte(f, st3);
}

static void cmd_sense_interrupt(struct fdc *f)
{
    if (!f->interrupts) {
        end_with_byte(f, ST0_INVALID);
        return;
    }
    unsigned n = (unsigned)__builtin_ctz(f->interrupts);
    f->interrupts &= ~BIT(n);
    fdc_end(f, (u8[]){f->st0[n], f->cylinder[n]}, 2);
}

void fdc_step(struct fdc *f, unsigned n, u8 track)
{
    struct drive *d = fdc_drive(f, (u8)n);
    f->cylinder[n] = track;
    if (!d)
        return;
    if (d->track != track)
        d->changed = false;
    d->track = track;
}

static void cmd_recalibrate(struct fdc *f)
{
    unsigned n = f->command[1] & 3;
    fdc_step(f, n, 0);
    fdc_end(f, NULL, 0);
    /* A drive that isn't there never says that its heads are at track 0. */
    u8 error = fdc_drive(f, (u8)n) ? 0 : ST0_ABNORMAL | ST0_EQUIPMENT;
    tell(f, n, ST0_SEEK_END | error);
}

static void cmd_seek(struct fdc *f)
{
    unsigned n = f->command[1] & 3;
    fdc_step(f, n, f->command[2]);
    fdc_end(f, NULL, 0);
    tell(f, n, ST0_SEEK_END | (f->command[1] & 4));
}

/* By a number of tracks, inwards (to higher numbers) or outwards. */
static void cmd_relative_seek(struct fdc *f)
{
    unsigned n = f->command[1] & 3;
    int steps = f->command[0] & 0x40 ? f->command[2] : -f->command[2];
    fdc_step(f, n, (u8)MAX(MIN(f->cylinder[n] + steps, 255), 0));
    fdc_end(f, NULL, 0);
    tell(f, n, ST0_SEEK_END | (f->command[1] & 4));
}

static void cmd_dump_registers(struct fdc *f)
{
    const u8 *c = f->cylinder;
    u8 locked = f->locked ? 0x80 : 0;
    fdc_end(f,
            (u8[]){c[0], c[1], c[2], c[3], f->specify[0], f->specify[1], f->end_of_track,
                   locked | (f->perpendicular & 0x3f), f->config, f->precompensation},
            10);
}

static void cmd_version(struct fdc *f)
{
    end_with_byte(f, VERSION_82077);
}

static void cmd_perpendicular(struct fdc *f)
{
    u8 value = f->command[1];
    if (value & PERPENDICULAR_OW)
        f->perpendicular = value & 0x3f;
    else
        f->perpendicular = (f->perpendicular & PERPENDICULAR_KEPT) | (value & 0x03);
    fdc_end(f, NULL, 0);
}

static void cmd_configure(struct fdc *f)
{
    f->config = f->command[2];
    f->precompensation = f->command[3];
    fdc_end(f, NULL, 0);
}

static void cmd_lock(struct fdc *f)
{
    f->locked = f->command[0] & 0x80;
    end_with_byte(f, f->locked ? 0x10 : 0);
}

static void cmd_part_id(struct fdc *f)
{
    end_with_byte(f, PART_ID);
}

static void cmd_read(struct fdc *f)
{
    transfer_start(f, TRANSFER_READ);
}

static void cmd_read_track(struct fdc *f)
{
    transfer_start(f, TRANSFER_READ_TRACK);
}

static void cmd_verify(struct fdc *f)
{
    transfer_start(f, TRANSFER_VERIFY);
}

static void cmd_write(struct fdc *f)
{
    transfer_start(f, TRANSFER_WRITE);
}

static void cmd_format(struct fdc *f)
{
    transfer_start(f, TRANSFER_FORMAT);
}

static const struct command {
    u8 mask, value; /* of the first byte, without option bits */
    u8 length;      /* bytes */
    void (*execute)(struct fdc *f);
} commands[] = {
    /* clang-format off */
    {0x9f, 0x02, 9, cmd_read_track},
    {0xff, 0x03, 3, cmd_specify},
    {0xff, 0x04, 2, cmd_sense_drive},
    {0x3f, 0x05, 9, cmd_write},
    {0x1f, 0x06, 9, cmd_read},
    {0xff, 0x07, 2, cmd_recalibrate},
    {0xff, 0x08, 1, cmd_sense_interrupt},
    {0x3f, 0x09, 9, cmd_write}, /* deleted data; an image can't remember that */
    {0x1f, 0x0a, 2, transfer_read_id},
    {0x1f, FDC_READ_DELETED, 9, cmd_read},
    {0xbf, 0x0d, 6, cmd_format},
    {0xff, 0x0e, 1, cmd_dump_registers},
    {0xff, 0x0f, 3, cmd_seek},
    {0xbf, 0x8f, 3, cmd_relative_seek},
    {0xff, 0x10, 1, cmd_version},
    {0xff, 0x12, 2, cmd_perpendicular},
    {0xff, 0x13, 4, cmd_configure},
    {0x7f, 0x14, 1, cmd_lock},
    {0x1f, 0x16, 9, cmd_verify},
    {0xff, 0x18, 1, cmd_part_id},
    /* clang-format on */
};

static const struct command *find_command(u8 first)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
        if ((first & commands[i].mask) == commands[i].value)
            return &commands[i];
    return NULL;
}

static void command_byte(struct fdc *f, u8 value)
{
    if (f->ncommand == 0)
        fdc_lower(f);
    f->command[f->ncommand++] = value;
    const struct command *c = find_command(f->command[0]);
    if (!c)
        end_with_byte(f, ST0_INVALID);
    else if (f->ncommand == c->length)
        c->execute(f);
}

/* --- registers --- */

static void write_fifo(struct fdc *f, u8 value)
{
    if (!(f->dor & DOR_NO_RESET))
        return;
    if (f->phase == PHASE_COMMAND)
        command_byte(f, value);
    else if (f->phase == PHASE_EXECUTION && f->transfer.wait == WAIT_WRITER && !fdc_uses_dma(f))
        transfer_write_byte(f, value);
}

static u8 read_fifo(struct fdc *f)
{
    if (f->phase == PHASE_EXECUTION && f->transfer.wait == WAIT_READER && !fdc_uses_dma(f))
        return transfer_read_byte(f);
    if (f->phase != PHASE_RESULT)
        return 0;
    fdc_lower(f);
    u8 value = f->result[f->next_result++];
    if (f->next_result == f->nresult)
        fdc_end(f, NULL, 0);
    return value;
}

static u8 read_status(const struct fdc *f)
{
    if (!(f->dor & DOR_NO_RESET))
        return 0;
    if (f->phase == PHASE_COMMAND)
        return MSR_REQUEST | (f->ncommand ? MSR_BUSY : 0);
    if (f->phase == PHASE_RESULT)
        return MSR_REQUEST | MSR_TO_HOST | MSR_BUSY;
    if (fdc_uses_dma(f))
        return MSR_BUSY;
    if (f->transfer.wait == WAIT_DISK)
        return MSR_BUSY | MSR_NON_DMA;
    return MSR_BUSY | MSR_NON_DMA | MSR_REQUEST |
           (f->transfer.wait == WAIT_READER ? MSR_TO_HOST : 0);
}

/* What a reset stops. */
static void enter_reset(struct fdc *f)
{
    transfer_forget(f);
    fdc_end(f, NULL, 0);
    fdc_lower(f);
    f->interrupts = 0;
    f->perpendicular &= PERPENDICULAR_KEPT;
    u8 kept = f->locked ? CONFIG_LOCKABLE : 0;
    f->config = (f->config & kept) | (CONFIG_NO_FIFO & ~kept);
    if (!f->locked)
        f->precompensation = 0;
}

/* And what follows it: each drive, polled, has changed its state. */
static void leave_reset(struct fdc *f)
{
    f->interrupts = 0x0f;
    f->polled = true;
    for (unsigned n = 0; n < 4; n++)
        f->st0[n] = (u8)(ST0_POLLING | n);
    fdc_raise(f);
}

static void write_dor(struct fdc *f, u8 value)
{
    u8 old = f->dor;
    f->dor = value;
    if (!(value & DOR_NO_RESET))
        enter_reset(f);
    else if (!(old & DOR_NO_RESET))
        leave_reset(f);
    transfer_go_on(f);
}

static void write_dsr(struct fdc *f, u8 value)
{
    f->rate = value & RATE_BITS;
    if (!(value & DSR_RESET) || !(f->dor & DOR_NO_RESET))
        return;
    enter_reset(f);
    leave_reset(f);
}

/* As on a PS/2. */
static u8 read_sra(struct fdc *f)
{
    const struct drive *d = fdc_drive(f, f->dor & DOR_DRIVE);
    return (f->interrupt ? SRA_INTERRUPT : 0) | (f->drive[1].disk ? 0 : SRA_NO_DRIVE_2) |
           (d && !d->track ? 0 : SRA_NOT_TRACK_0) | (d && d->disk->read_only ? 0 : SRA_WRITABLE);
}

static u8 read_srb(const struct fdc *f)
{
    return SRB_ONES | (f->dor & 1) << 5 | (f->dor >> 4 & 3);
}

static u8 read_dir(struct fdc *f)
{
    const struct drive *d = fdc_drive(f, f->dor & DOR_DRIVE);
    return !d || d->changed ? DIR_CHANGED : 0;
}

static u8 read_register(struct fdc *f, unsigned port)
{
    switch (port) {
    case PORT_SRA:
        return read_sra(f);
    case PORT_SRB:
        return read_srb(f);
    case PORT_DOR:
        return f->dor;
    case PORT_TDR:
        return f->tdr;
    case PORT_MSR:
        return read_status(f);
    case PORT_FIFO:
        return read_fifo(f);
    default:
        return read_dir(f);
    }
}

static void write_register(struct fdc *f, unsigned port, u8 value)
{
    switch (port) {
    case PORT_DOR:
        write_dor(f, value);
        break;
    case PORT_TDR:
        f->tdr = value & 3;
        break;
    case PORT_MSR:
        write_dsr(f, value);
        break;
    case PORT_FIFO:
        write_fifo(f, value);
        break;
    case PORT_DIR:
        f->rate = value & RATE_BITS;
        break;
    default: /* the others are read-only */
        break;
    }
}

/* Ends whatever was done under the lock. */
static void fdc_unlock(struct fdc *f)
{
    fdc_run_disk(f);
    wire_level(&f->irq, f->interrupt && (f->dor & DOR_DMA_GATE));
    pthread_mutex_unlock(&f->lock);
    wire_flush(&f->irq);
}

static u32 fdc_in(void *ctx, u16 port, unsigned size)
{
    struct fdc *f = ctx;
    (void)size;
    pthread_mutex_lock(&f->lock);
    u8 value = read_register(f, port - PC_FDC);
    fdc_unlock(f);
    return value;
}

static void fdc_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct fdc *f = ctx;
    (void)size;
    pthread_mutex_lock(&f->lock);
    write_register(f, port - PC_FDC, (u8)value);
    fdc_unlock(f);
}

static const struct port_ops fdc_ops = {fdc_in, fdc_out};

void fdc_disk_done(struct block_request *r, int result)
{
    struct fdc *f = r->ctx;
    pthread_mutex_lock(&f->lock);
    f->io.done = true;
    f->io.result = result;
    f->io.callbacks++;
    fdc_unlock(f);
    pthread_mutex_lock(&f->lock);
    f->io.callbacks--;
    pthread_cond_broadcast(&f->io.idle);
    pthread_mutex_unlock(&f->lock);
}

static void dma_ready(void *ctx)
{
    struct fdc *f = ctx;
    pthread_mutex_lock(&f->lock);
    transfer_go_on(f);
    fdc_unlock(f);
}

/* --- life --- */

static void set_reset_state(struct fdc *f)
{
    f->locked = false;
    enter_reset(f);
    f->dor = 0;
    f->tdr = 0;
    f->rate = RATE_RESET;
    f->perpendicular = 0;
    f->end_of_track = 0;
    memset(f->specify, 0, sizeof(f->specify));
    memset(f->cylinder, 0, sizeof(f->cylinder));
    for (unsigned n = 0; n < FDC_DRIVES; n++) {
        f->drive[n].track = 0;
        f->drive[n].changed = true;
    }
}

void fdc_reset(struct fdc *f)
{
    pthread_mutex_lock(&f->lock);
    set_reset_state(f);
    fdc_unlock(f);
}

static int insert_disk(struct drive *d, struct block *disk, struct error *err)
{
    d->disk = disk;
    if (!disk)
        return 0;
    d->format = floppy_format_of(disk->size);
    if (!d->format)
        return error_set(err, EINVAL,
                         "a floppy disk of %llu bytes: no drive takes more than 3840 KiB",
                         (unsigned long long)disk->size);
    return 0;
}

int fdc_create(const struct fdc_options *opt, struct fdc **out, struct error *err)
{
    struct fdc *f = calloc(1, sizeof(*f));
    if (!f)
        return error_set(err, ENOMEM, "no memory for the floppy controller");
    for (unsigned n = 0; n < FDC_DRIVES; n++) {
        int rc = insert_disk(&f->drive[n], opt->drive[n], err);
        if (rc < 0) {
            free(f);
            return rc;
        }
    }
    f->opt = *opt;
    wire_init(&f->irq, opt->irq);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->io.idle, NULL);
    i8237_connect(opt->dma, opt->dma_channel, dma_ready, f);
    set_reset_state(f);
    *out = f;
    return 0;
}

void fdc_destroy(struct fdc *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    transfer_forget(f);
    while (f->io.in_flight || f->io.callbacks)
        pthread_cond_wait(&f->io.idle, &f->lock);
    pthread_mutex_unlock(&f->lock);
    i8237_connect(f->opt.dma, f->opt.dma_channel, NULL, NULL);
    wire_destroy(&f->irq);
    pthread_cond_destroy(&f->io.idle);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

int fdc_attach(struct fdc *f, struct port_bus *bus, struct error *err)
{
    int rc = portbus_add(bus, PC_FDC, 6, &fdc_ops, f, NULL, false, err);
    return rc ? rc : portbus_add(bus, PC_FDC + PORT_DIR, 1, &fdc_ops, f, NULL, false, err);
}
