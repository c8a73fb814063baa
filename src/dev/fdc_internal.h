/*
 * What the files of the floppy controller share: its state, and how commands (fdc.c) start
 * transfers (fdc_transfer.c) that work on disks (fdc_media.c).
 */
#ifndef RINGER_DEV_FDC_INTERNAL_H
#define RINGER_DEV_FDC_INTERNAL_H

#include <pthread.h>

#include "dev/fdc.h"
#include "dev/wire.h"

#define SECTOR_SIZE 512
#define SIZE_CODE   2 /* 128 << 2 */

/* Digital output register; the gate lets interrupts and DMA requests out. */
#define DOR_DRIVE    0x03
#define DOR_NO_RESET 0x04
#define DOR_DMA_GATE 0x08
#define DOR_MOTORS   0xf0

/* Main status register. */
#define MSR_BUSY    0x10
#define MSR_NON_DMA 0x20
#define MSR_TO_HOST 0x40
#define MSR_REQUEST 0x80

/* Status registers 0 to 3 (section 6.1). */
#define ST0_SEEK_END   0x20
#define ST0_EQUIPMENT  0x10
#define ST0_ABNORMAL   0x40
#define ST0_INVALID    0x80
#define ST0_POLLING    0xc0
#define ST1_NO_ADDRESS 0x01
#define ST1_READ_ONLY  0x02
#define ST1_NO_DATA    0x04
#define ST1_BAD_DATA   0x20
#define ST1_END        0x80 /* of cylinder */
#define ST2_BAD_DATA   0x20
#define ST2_NORMAL     0x40 /* control mark: not the kind of data that was asked for */
#define ST3_READ_ONLY  0x40
#define ST3_READY      0x20
#define ST3_TRACK_0    0x10
#define ST3_TWO_SIDED  0x08

/* The kind of a disk, by its size. */
struct floppy_format {
    u8 drive_type; /* as CMOS has it */
    u8 sectors, tracks, heads;
    u8 rates; /* a bit for each data rate (of CCR) at which it can be read */
};

/* The format of a disk of that many bytes; one of no format's size is the beginning of the next
 * larger one of 1.44M and 2.88M. NULL: there is none. */
const struct floppy_format *floppy_format_of(u64 size);

struct drive {
    struct block *disk; /* NULL: no drive */
    const struct floppy_format *format;
    u8 track;     /* where the heads are */
    bool changed; /* the disk change line */
};

#define FDC_READ_DELETED 0x0c /* command, without its option bits */

enum phase { PHASE_COMMAND, PHASE_EXECUTION, PHASE_RESULT };

enum transfer_kind {
    TRANSFER_READ,
    TRANSFER_READ_TRACK,
    TRANSFER_VERIFY,
    TRANSFER_WRITE,
    TRANSFER_FORMAT
};

/* What the execution phase waits for. */
enum wait { WAIT_DISK, WAIT_READER, WAIT_WRITER };

struct transfer {
    enum transfer_kind kind;
    enum wait wait;
    bool multi_track;
    bool deleted; /* it looks for sectors that are marked so */
    bool counted; /* ends after `left` sectors */
    bool last;    /* terminal count: ends with this sector */
    unsigned left;
    u8 cylinder, head, sector, end; /* end: number of the track's last sector to be used */
    u8 filler;                      /* FORMAT */
    u8 buffer[SECTOR_SIZE];         /* on its way from or to the host */
    unsigned pos, size;
};

struct disk_io {
    struct block_request request;
    struct iovec iov;
    u8 data[SECTOR_SIZE];
    struct drive *drive;
    enum block_op op;
    u64 offset;
    bool wanted;        /* the controller wants it to be started */
    bool in_flight;     /* the disk has it */
    bool done;          /* it came back, nobody has looked yet */
    bool forgotten;     /* a reset came in between */
    bool running;       /* a thread is in fdc_run_disk() */
    unsigned callbacks; /* threads in fdc_disk_done() */
    int result;
    pthread_cond_t idle;
};

struct fdc {
    struct fdc_options opt;
    struct wire irq;
    pthread_mutex_t lock;
    struct drive drive[FDC_DRIVES];
    /* Registers. */
    u8 dor, tdr, rate;
    /* What commands set. */
    u8 specify[2], config, precompensation, perpendicular;
    bool locked;
    u8 end_of_track; /* of the last command, for DUMPREG */
    u8 cylinder[4];  /* where the controller thinks that the heads are */
    enum phase phase;
    u8 command[16];
    unsigned ncommand;
    u8 result[10];
    unsigned nresult, next_result;
    bool interrupt;
    u8 interrupts; /* drives for which SENSE INTERRUPT has news */
    bool polled;   /* these are of a reset */
    u8 st0[4];     /* the news */
    struct transfer transfer;
    struct disk_io io;
};

/* The drive that bits 0 and 1 of a command byte name, or NULL. */
struct drive *fdc_drive(struct fdc *f, u8 byte);
/* The heads of drive n step to a track. */
void fdc_step(struct fdc *f, unsigned n, u8 track);
bool fdc_uses_dma(const struct fdc *f);
void fdc_raise(struct fdc *f);
void fdc_lower(struct fdc *f);
/* Ends a command with these bytes for the host. */
void fdc_end(struct fdc *f, const u8 *result, unsigned count);

/* fdc_transfer.c; all with the lock held. */
/* Commands that move data: f->command is complete. */
void transfer_start(struct fdc *f, enum transfer_kind kind);
void transfer_read_id(struct fdc *f);
/* The host reads or writes a data byte in the execution phase, non-DMA. */
u8 transfer_read_byte(struct fdc *f);
void transfer_write_byte(struct fdc *f, u8 value);
/* The DMA channel may be able to go on. */
void transfer_go_on(struct fdc *f);
/* A reset: a request that is in flight won't change anything any more. */
void transfer_forget(struct fdc *f);

/* Starts and takes back requests to the disks. Drops the lock meanwhile. */
void fdc_run_disk(struct fdc *f);
void fdc_disk_done(struct block_request *r, int result);

#endif
