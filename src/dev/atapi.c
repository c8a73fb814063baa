/*
 * A CD-ROM drive's packets (MMC-3, INF-8020i; the protocol: ATA/ATAPI-6, 8.23 and 9.8). A table
 * says which there are, and which of them run while there is something to report or no medium.
 * Those that only ask are in atapi_info.c.
 */
#include "dev/ide_internal.h"

#define PACKET_SIZE 12

#define FEATURE_DMA     0x01
#define FEATURE_OVERLAP 0x02

/* Interrupt reasons, in the Sector Count register. */
#define REASON_PACKET 0x01
#define REASON_DATA   0x02 /* to the host */
#define REASON_END    0x03

#define ASC_UNRECOVERED    0x11
#define ASC_OPCODE         0x20
#define ASC_RANGE          0x21
#define ASC_FIELD          0x24
#define ASC_MEDIUM_CHANGED 0x28
#define ASC_RESET          0x29
#define ASC_NO_MEDIUM      0x3a
#define ASC_REMOVAL        0x53
#define ASC_TRACK_MODE     0x64

#define RAW_HEADER 16 /* of a raw sector: sync, address, mode */

void atapi_reset(struct ide_unit *u)
{
    u->sense = (struct sense){0};
    u->attention = (struct sense){SENSE_ATTENTION, ASC_RESET, 0};
    u->locked = false;
    u->media_event = 0;
}

u64 atapi_sectors(const struct ide_unit *u)
{
    if (!u->block || u->tray_open)
        return 0;
    return MIN(u->block->size / CD_SECTOR, UINT32_MAX);
}

static void set_reason(struct ide_channel *c, u8 reason)
{
    c->active->reg[0][REG_COUNT] = reason;
}

void atapi_ok(struct ide_channel *c)
{
    set_reason(c, REASON_END);
    ide_end_ok(c);
}

void atapi_error(struct ide_channel *c, u8 key, u8 asc, u8 ascq)
{
    c->active->sense = (struct sense){key, asc, ascq};
    set_reason(c, REASON_END);
    ide_end(c, STATUS_OK | STATUS_ERR, (u8)(key << 4));
}

/* --- data to the host --- */

static void read_batch(struct ide_channel *c);

static void sent(struct ide_channel *c)
{
    if (c->atapi.left)
        read_batch(c);
    else
        atapi_ok(c);
}

static void dma_sent(struct ide_channel *c, int result)
{
    if (result)
        ide_dma_failed(c, result);
    else
        sent(c);
}

static void send_block(struct ide_channel *c, int result)
{
    struct atapi_io *io = &c->atapi;
    (void)result;
    if (io->pos == io->len) {
        sent(c);
        return;
    }
    u32 at = io->pos;
    u32 n = MIN(io->limit, io->len - at);
    io->pos += n;
    store_le(&c->active->reg[0][REG_LBA_MID], n, 2);
    set_reason(c, REASON_DATA);
    ide_pio_in(c, at, n, send_block);
}

static void send(struct ide_channel *c, u32 len)
{
    c->atapi.pos = 0;
    c->atapi.len = len;
    set_reason(c, REASON_DATA);
    if (c->atapi.dma)
        ide_dma(c, len, true, dma_sent);
    else
        send_block(c, 0);
}

/* By PIO the host must have said how much it takes at a time (8.23.4). */
static bool has_limit(struct ide_channel *c)
{
    if (c->atapi.dma || c->atapi.limit)
        return true;
    atapi_error(c, SENSE_ILLEGAL, ASC_FIELD, 0);
    c->active->reg[0][REG_ERROR] |= ERROR_ABRT;
    return false;
}

void atapi_reply(struct ide_channel *c, u32 size, u32 allowed)
{
    u32 n = MIN(size, allowed);
    c->atapi.left = 0;
    if (!n)
        atapi_ok(c);
    else if (has_limit(c))
        send(c, n);
}

/* --- reading --- */

/* Sectors at the buffer's end become raw ones at its start, without the error correction codes. */
static void make_raw(struct ide_channel *c, u32 n)
{
    for (u32 i = 0; i < n; i++) {
        u8 *raw = c->buffer + i * CD_RAW_SECTOR;
        memmove(raw + RAW_HEADER, c->buffer + IDE_BUFFER - (n - i) * CD_SECTOR, CD_SECTOR);
        memset(raw, 0xff, 12);
        raw[0] = raw[11] = 0;
        atapi_store_msf(raw + 12, c->atapi.lba + i);
        raw[15] = 1; /* mode */
        memset(raw + RAW_HEADER + CD_SECTOR, 0, CD_RAW_SECTOR - CD_SECTOR - RAW_HEADER);
    }
}

static void batch_read(struct ide_channel *c, int result)
{
    struct atapi_io *io = &c->atapi;
    u32 n = MIN(io->left, io->batch);
    if (result) {
        atapi_error(c, SENSE_MEDIUM, ASC_UNRECOVERED, 0);
        return;
    }
    if (io->sector_size == CD_RAW_SECTOR)
        make_raw(c, n);
    io->lba += n;
    io->left -= n;
    send(c, n * io->sector_size);
}

static void read_batch(struct ide_channel *c)
{
    struct atapi_io *io = &c->atapi;
    u32 bytes = MIN(io->left, io->batch) * CD_SECTOR;
    u32 at = io->sector_size == CD_RAW_SECTOR ? (u32)IDE_BUFFER - bytes : 0;
    ide_request(c, BLOCK_READ, io->lba * CD_SECTOR, bytes, at, batch_read);
}

/* A batch is a multiple of what the host takes at a time, if that is a number of sectors: some
 * drivers don't look at the byte count of each block. */
static void start_read(struct ide_channel *c, u64 lba, u32 n, u32 sector_size)
{
    struct atapi_io *io = &c->atapi;
    u64 sectors = atapi_sectors(c->active);
    if (lba > sectors || n > sectors - lba) {
        atapi_error(c, SENSE_ILLEGAL, ASC_RANGE, 0);
        return;
    }
    if (!n) {
        atapi_ok(c);
        return;
    }
    if (!has_limit(c))
        return;
    io->lba = lba;
    io->left = n;
    io->sector_size = sector_size;
    io->batch = (u32)IDE_BUFFER / sector_size;
    if (!io->dma && !(io->limit % sector_size))
        io->batch = io->batch / (io->limit / sector_size) * (io->limit / sector_size);
    read_batch(c);
}

static void packet_read(struct ide_channel *c)
{
    const u8 *p = c->atapi.packet;
    u32 n = p[0] == 0x28 ? load_be(p + 7, 2) : load_be(p + 6, 4);
    start_read(c, load_be(p + 2, 4), n, CD_SECTOR);
}

/* Whole sectors or their user data; all tracks hold mode 1 data. */
static void packet_read_cd(struct ide_channel *c)
{
    const u8 *p = c->atapi.packet;
    unsigned type = p[1] >> 2 & 7;
    u32 n = load_be(p + 6, 3);
    if (type != 0 && type != 2)
        atapi_error(c, SENSE_ILLEGAL, ASC_TRACK_MODE, 0);
    else if ((p[9] & 0xf8) == 0)
        atapi_ok(c);
    else if ((p[9] & 0xf8) == 0x10)
        start_read(c, load_be(p + 2, 4), n, CD_SECTOR);
    else if ((p[9] & 0xf8) == 0xf8)
        start_read(c, load_be(p + 2, 4), n, CD_RAW_SECTOR);
    else
        atapi_error(c, SENSE_ILLEGAL, ASC_FIELD, 0);
}

static void packet_seek(struct ide_channel *c)
{
    if (load_be(c->atapi.packet + 2, 4) < atapi_sectors(c->active))
        atapi_ok(c);
    else
        atapi_error(c, SENSE_ILLEGAL, ASC_RANGE, 0);
}

/* --- the drive --- */

static void packet_ok(struct ide_channel *c)
{
    atapi_ok(c);
}

/* What has not been reported yet is told and forgotten. */
static void packet_request_sense(struct ide_channel *c)
{
    struct ide_unit *u = c->active;
    u8 *b = c->buffer;
    struct sense s = u->sense;
    if (!s.key) {
        s = u->attention;
        u->attention.key = 0;
    }
    u->sense.key = 0;
    memset(b, 0, 18);
    b[0] = 0xf0; /* valid, of the last command */
    b[2] = s.key;
    b[7] = 10; /* bytes that follow */
    b[12] = s.key ? s.asc : 0;
    b[13] = s.key ? s.ascq : 0;
    atapi_reply(c, 18, c->atapi.packet[4]);
}

static void load_or_eject(struct ide_unit *u, bool load)
{
    if (load && u->tray_open && u->block) {
        u->media_event = ATAPI_EVENT_NEW;
        u->attention = (struct sense){SENSE_ATTENTION, ASC_MEDIUM_CHANGED, 0};
    } else if (!load && !u->tray_open) {
        u->media_event = ATAPI_EVENT_REMOVED;
    }
    u->tray_open = !load;
}

/* Power conditions, and spinning up and down, are nothing to us. */
static void packet_start_stop(struct ide_channel *c)
{
    struct ide_unit *u = c->active;
    u8 how = c->atapi.packet[4];
    bool load = how & 1;
    if (!(how & 0xf0) && how & 2) {
        if (!load && u->locked && !u->tray_open) {
            atapi_error(c, SENSE_ILLEGAL, ASC_REMOVAL, 2);
            return;
        }
        load_or_eject(u, load);
    }
    atapi_ok(c);
}

static void packet_prevent_allow(struct ide_channel *c)
{
    c->active->locked = c->atapi.packet[4] & 1;
    atapi_ok(c);
}

/* --- the table --- */

#define ANY_TIME 1 /* runs while a unit attention is pending, and leaves it so */
#define MEDIUM   2

static const struct packet_row {
    void (*run)(struct ide_channel *c);
    u8 flags;
} table[256] = {
    [0x00] = {packet_ok, MEDIUM}, /* TEST UNIT READY */
    [0x03] = {packet_request_sense, ANY_TIME},
    [0x12] = {packet_inquiry, ANY_TIME},
    [0x1a] = {packet_mode_sense, 0}, /* MODE SENSE(6) */
    [0x1b] = {packet_start_stop, 0},
    [0x1e] = {packet_prevent_allow, 0},
    [0x25] = {packet_read_capacity, MEDIUM},
    [0x28] = {packet_read, MEDIUM}, /* READ(10) */
    [0x2b] = {packet_seek, MEDIUM},
    [0x43] = {packet_read_toc, MEDIUM},
    [0x46] = {packet_get_configuration, ANY_TIME},
    [0x4a] = {packet_event_status, ANY_TIME},
    [0x51] = {packet_disc_information, MEDIUM},
    [0x5a] = {packet_mode_sense, 0}, /* MODE SENSE(10) */
    [0xa8] = {packet_read, MEDIUM},  /* READ(12) */
    [0xad] = {packet_dvd_structure, MEDIUM},
    [0xbb] = {packet_ok, 0}, /* SET CD SPEED */
    [0xbd] = {packet_mechanism_status, 0},
    [0xbe] = {packet_read_cd, MEDIUM},
};

#define REQUEST_SENSE 0x03

static void packet_taken(struct ide_channel *c, int result)
{
    struct ide_unit *u = c->active;
    (void)result;
    memcpy(c->atapi.packet, c->buffer, PACKET_SIZE);
    const struct packet_row *row = &table[c->atapi.packet[0]];
    if (u->attention.key && !(row->flags & ANY_TIME)) {
        struct sense s = u->attention;
        u->attention.key = 0;
        atapi_error(c, s.key, s.asc, s.ascq);
        return;
    }
    if (c->atapi.packet[0] != REQUEST_SENSE)
        u->sense.key = 0;
    if (!row->run)
        atapi_error(c, SENSE_ILLEGAL, ASC_OPCODE, 0);
    else if (row->flags & MEDIUM && !atapi_sectors(u))
        atapi_error(c, SENSE_NOT_READY, ASC_NO_MEDIUM, u->tray_open ? 2 : 1);
    else
        row->run(c);
}

void atapi_packet(struct ide_channel *c, unsigned unused)
{
    struct ide_unit *u = c->active;
    (void)unused;
    if (u->features & FEATURE_OVERLAP) {
        ide_abort(c, ERROR_ABRT);
        return;
    }
    u->power = POWER_ACTIVE;
    c->atapi = (struct atapi_io){
        .dma = u->features & FEATURE_DMA,
        .limit = (u32)load_le(&u->reg[0][REG_LBA_MID], 2) & ~1U,
    };
    set_reason(c, REASON_PACKET);
    ide_pio_out(c, 0, PACKET_SIZE, false, packet_taken);
}
