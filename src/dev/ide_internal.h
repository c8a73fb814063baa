/*
 * The inside of the IDE controller, for its own files. A channel runs one command at a time: the
 * drives take no register writes while the selected one is busy. A command is a chain of steps,
 * each waiting for one thing: that the host moved a block by PIO, that the bus master moved one, or
 * that the image's back end is done. Data always pass through the channel's buffer. So a request
 * that can't be called back harms nothing: after a reset its result is dropped.
 *
 * Everything of a channel is under its lock. ide_transfer.c says how requests are submitted.
 */
#ifndef RINGER_DEV_IDE_INTERNAL_H
#define RINGER_DEV_IDE_INTERNAL_H

#include <pthread.h>

#include "dev/ide.h"
#include "dev/wire.h"

#define IDE_BUFFER         (256 * KIB)
#define IDE_BUFFER_SECTORS ((u32)(IDE_BUFFER / BLOCK_SECTOR))

/* The command block, by offset from its first port. Written, 1 is Features and 7 Command. */
enum ide_register {
    REG_DATA,
    REG_ERROR,
    REG_COUNT, /* ATAPI: interrupt reason */
    REG_LBA_LOW,
    REG_LBA_MID,  /* ATAPI: byte count, low */
    REG_LBA_HIGH, /* ATAPI: byte count, high */
    REG_DEVICE,
    REG_STATUS,
    IDE_REGISTERS
};

#define STATUS_ERR  0x01
#define STATUS_DRQ  0x08
#define STATUS_DSC  0x10 /* seek complete */
#define STATUS_DRDY 0x40
#define STATUS_BSY  0x80
#define STATUS_OK   (STATUS_DRDY | STATUS_DSC)

#define ERROR_ABRT 0x04
#define ERROR_IDNF 0x10
#define ERROR_UNC  0x40

#define DEVICE_UNIT 0x10
#define DEVICE_LBA  0x40
#define DEVICE_ONES 0xa0 /* obsolete bits that are read as 1 */

#define CONTROL_NIEN 0x02
#define CONTROL_SRST 0x04
#define CONTROL_HOB  0x80

#define POWER_ACTIVE  0xff /* as CHECK POWER MODE says it */
#define POWER_IDLE    0x80
#define POWER_STANDBY 0x00

struct ide_channel;

/* What comes after a wait; 0 or a negative errno. Under the channel's lock. */
typedef void ide_step(struct ide_channel *c, int result);

struct sense {
    u8 key, asc, ascq;
};

struct ata_geometry {
    u16 cylinders;
    u8 heads, sectors;
};

struct ide_unit {
    struct block *block;
    bool cdrom;
    unsigned number; /* 0 to 3, over both channels */
    /* Registers 1 to 5; [1] is what was in them before the last write (48-bit commands). [1] of the
     * Error register is the Features register's; features is what was written last. */
    u8 reg[2][REG_DEVICE];
    u8 features;
    u8 status;
    bool intrq;     /* the interrupt is pending */
    bool resetting; /* a reset waits for a request, or for the end of SRST */
    u8 mode;        /* transfer mode, as for SET FEATURES 03h */
    u8 power;

    /* A disk. */
    u64 sectors;
    struct ata_geometry chs; /* the translation that the host chose */
    u8 multiple;             /* sectors per block of READ and WRITE MULTIPLE */
    bool write_cache, look_ahead, smart;

    /* A CD-ROM. */
    struct sense sense;
    struct sense attention; /* to be reported before the next command runs; key 0: none */
    bool tray_open, locked;
    u8 media_event; /* for GET EVENT STATUS NOTIFICATION */
};

/* A disk command that moves sectors: they go through the buffer in chunks. */
struct ata_io {
    u64 lba;   /* the chunk's first sector */
    u32 left;  /* sectors from there to the end of the command */
    u32 chunk; /* sectors in the buffer, or to be there */
    u32 moved; /* of these: between image and buffer */
    u32 given; /* of these: between buffer and host, by PIO */
    u32 limit; /* sectors in one request */
    u32 block; /* sectors in one DRQ */
    unsigned flags;
    bool begun; /* the host has had its first block of a PIO write */
    int failed; /* why a sector can't be read; those before it are to be given to the host */
};

/* A packet command that sends data to the host. */
struct atapi_io {
    u8 packet[12];
    bool dma;
    u32 limit;       /* most bytes in one DRQ */
    u32 pos, len;    /* in the buffer */
    u64 lba;         /* of 2048 bytes; the next to be read */
    u32 left;        /* sectors from there */
    u32 sector_size; /* as the host gets them: 2048 or 2352 */
    u32 batch;       /* sectors in one request */
};

struct bmdma {
    u8 command, status;
    u32 table;
    /* Where the transfer is: next descriptor, and what is left of the current one. */
    u32 next, addr, left;
    bool last;
};

enum ide_phase { PHASE_NONE, PHASE_PIO_IN, PHASE_PIO_OUT, PHASE_DMA };

struct ide_channel {
    struct ide *ide;
    pthread_mutex_t lock;
    pthread_cond_t quiet; /* callbacks has become 0 */
    struct wire irq;
    bool irq_level;
    struct ide_unit unit[IDE_UNITS];
    u8 device;
    u8 control;

    /* The running command: it is unit's. */
    struct ide_unit *active;
    ide_step *step;
    enum ide_phase phase;
    u8 *buffer;
    u32 pos, end;     /* of PIO and DMA, in the buffer */
    bool dma_in;      /* to memory */
    bool dma_started; /* this command's DMA has begun */
    union {
        struct ata_io ata;
        struct atapi_io atapi;
    };

    struct block_request request;
    struct iovec iov;
    struct block *request_block;
    bool request_ready;     /* to be submitted when the lock is dropped */
    bool request_in_flight; /* the back end has it */
    bool submitting;        /* a thread is in block_submit() */
    unsigned callbacks;     /* submitted requests whose callback isn't over */

    struct bmdma bm;
};

struct ide {
    struct guest_mem *gm;
    struct pci_bus *pci;
    struct ide_channel channel[IDE_CHANNELS];
};

static inline bool unit_present(const struct ide_unit *u)
{
    return u->block || u->cdrom;
}

static inline struct ide_unit *ide_selected(struct ide_channel *c)
{
    return &c->unit[c->device & DEVICE_UNIT ? 1 : 0];
}

/* --- ide.c --- */

/* Sets u's interrupt, and the pin as it follows. */
void ide_set_intrq(struct ide_channel *c, struct ide_unit *u, bool pending);
/* The registers by which a drive says what it is (ATA/ATAPI-6, 9.12). */
void ide_set_signature(struct ide_channel *c, struct ide_unit *u);
/* Drops what runs and makes the units of a mask busy; the second ends that as soon as it can. */
void ide_reset_begin(struct ide_channel *c, unsigned units);
void ide_reset_end(struct ide_channel *c);

/* --- ide_transfer.c --- */

/* Drops the lock, submits what is to be submitted, pulls the wire. */
void ide_unlock(struct ide_channel *c);
/* The command ends: status, error register, interrupt; or without a new interrupt. */
void ide_end(struct ide_channel *c, u8 status, u8 error);
void ide_end_silently(struct ide_channel *c);
void ide_end_ok(struct ide_channel *c);
void ide_abort(struct ide_channel *c, u8 error);
/* The host reads (writes) bytes [pos, pos + len) of the buffer; irq: tell it by an interrupt. */
void ide_pio_in(struct ide_channel *c, u32 pos, u32 len, ide_step *next);
void ide_pio_out(struct ide_channel *c, u32 pos, u32 len, bool irq, ide_step *next);
/* The bus master moves them, once it is started. Results: -ENOSPC: there was no memory left in its
 * table; -EFAULT: not in memory. */
void ide_dma(struct ide_channel *c, u32 len, bool in, ide_step *next);
/* The bus master has been started. */
void ide_dma_go(struct ide_channel *c);
/* The end of a command whose DMA failed. */
void ide_dma_failed(struct ide_channel *c, int result);
/* A request for the active unit's image, of buffer bytes [pos, pos + length). */
void ide_request(struct ide_channel *c, enum block_op op, u64 offset, u64 length, u32 pos,
                 ide_step *next);
/* An access to the data port, of 2 or 4 bytes. */
u32 ide_data_read(struct ide_channel *c, unsigned size);
void ide_data_write(struct ide_channel *c, u32 value, unsigned size);

/* --- bmdma.c: per channel, 8 ports --- */

u8 bmdma_read(const struct ide_channel *c, unsigned reg);
void bmdma_write(struct ide_channel *c, unsigned reg, u8 value);
bool bmdma_active(const struct ide_channel *c);
/* The drive's interrupt has come. */
void bmdma_interrupt(struct ide_channel *c);
/* Moves len bytes between the buffer's start and the memory that the table names. 0, -ENOSPC or
 * -EFAULT. */
int bmdma_move(struct ide_channel *c, u32 len, bool in);

/* --- ata.c --- */

/* Power-on values. */
void ata_init(struct ide_unit *u);
/* What a disk of so many sectors offers to systems that don't know LBA. */
struct ata_geometry ata_default_geometry(u64 sectors);
/* The active unit got a command. */
void ata_command(struct ide_channel *c, u8 command);

/* --- ata_rw.c --- */

#define RW_WRITE    0x01
#define RW_DMA      0x02
#define RW_EXT      0x04
#define RW_MULTIPLE 0x08
#define RW_VERIFY   0x10
#define RW_FUA      0x20 /* on stable storage when the command ends */

/* The first sector that the registers name, or ATA_NO_SECTOR if there is none. */
#define ATA_NO_SECTOR UINT64_MAX
u64 ata_address(const struct ide_channel *c, bool ext);
void ata_set_address(struct ide_channel *c, u64 lba, bool ext);
/* Commands; flags: RW_*. */
void ata_rw(struct ide_channel *c, unsigned flags);
void ata_flush(struct ide_channel *c, unsigned unused);
void ata_trim(struct ide_channel *c, unsigned unused);

/* --- ata_identify.c, ata_smart.c: commands --- */

void ata_identify(struct ide_channel *c, unsigned unused);
void atapi_identify(struct ide_channel *c, unsigned unused);
void ata_smart(struct ide_channel *c, unsigned unused);

/* --- atapi.c --- */

#define CD_SECTOR     2048
#define CD_RAW_SECTOR 2352

#define SENSE_NOT_READY 0x02
#define SENSE_MEDIUM    0x03
#define SENSE_ILLEGAL   0x05
#define SENSE_ATTENTION 0x06

#define ATAPI_EVENT_NEW     2
#define ATAPI_EVENT_REMOVED 3

void atapi_reset(struct ide_unit *u);
void atapi_packet(struct ide_channel *c, unsigned unused);
/* How the packet in c->atapi ends: done; with an error; with the first `size` bytes of the buffer,
 * of which the host wants at most `allowed`. */
void atapi_ok(struct ide_channel *c);
void atapi_error(struct ide_channel *c, u8 key, u8 asc, u8 ascq);
void atapi_reply(struct ide_channel *c, u32 size, u32 allowed);
/* Sectors on the medium; 0: there is none. */
u64 atapi_sectors(const struct ide_unit *u);

/* Numbers in packets are big-endian; size is 1 to 4 bytes. */
static inline u32 load_be(const u8 *p, unsigned size)
{
    u32 v = 0;
    for (unsigned i = 0; i < size; i++)
        v = v << 8 | p[i];
    return v;
}

static inline void store_be(u8 *p, u32 v, unsigned size)
{
    for (unsigned i = size; i--; v >>= 8)
        p[i] = (u8)v;
}

/* Sector number to minute, second and frame, which start 2 seconds earlier (MMC-3, 4.2.3). */
void atapi_store_msf(u8 *p, u64 lba);

/* --- atapi_info.c: packets that ask what the drive and the medium are --- */

void packet_inquiry(struct ide_channel *c);
void packet_read_capacity(struct ide_channel *c);
void packet_read_toc(struct ide_channel *c);
void packet_mode_sense(struct ide_channel *c);
void packet_get_configuration(struct ide_channel *c);
void packet_event_status(struct ide_channel *c);
void packet_disc_information(struct ide_channel *c);
void packet_dvd_structure(struct ide_channel *c);
void packet_mechanism_status(struct ide_channel *c);

#endif
