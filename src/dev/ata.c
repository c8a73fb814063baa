/*
 * ATA commands (ATA/ATAPI-6, 8): one table says which there are, for which kind of drive, and by
 * what function. Those that move sectors are in ata_rw.c.
 */
#include <errno.h>

#include "dev/ide_internal.h"

#define MULTIPLE_MAX  16 /* sectors */
#define CYLINDERS_MAX 16383
#define HEADS_MAX     16
#define SECTORS_MAX   63
#define MODE_DEFAULT  0x22 /* multiword DMA 2 */

enum feature {
    FEATURE_CACHE_ON = 0x02,
    FEATURE_MODE = 0x03,
    FEATURE_CACHE_OFF = 0x82,
    FEATURE_AHEAD_OFF = 0x55,
    FEATURE_AHEAD_ON = 0xaa,
    FEATURE_KEEP = 0x66, /* settings survive a soft reset; they do anyway */
    FEATURE_REVERT = 0xcc,
};

/* 16 heads of 63 sectors, but no more than there are. */
struct ata_geometry ata_default_geometry(u64 sectors)
{
    struct ata_geometry g;
    g.sectors = (u8)MAX(1, MIN(sectors, SECTORS_MAX));
    g.heads = (u8)MAX(1, MIN(sectors / g.sectors, HEADS_MAX));
    g.cylinders = (u16)MIN(sectors / (u32)(g.sectors * g.heads), CYLINDERS_MAX);
    return g;
}

void ata_init(struct ide_unit *u)
{
    u->sectors = u->block ? MIN(u->block->size / BLOCK_SECTOR, BIT(48) - 1) : 0;
    u->chs = ata_default_geometry(u->sectors);
    u->multiple = MULTIPLE_MAX;
    u->write_cache = u->look_ahead = true;
    u->smart = true;
    u->mode = MODE_DEFAULT;
    u->features = 0;
}

static void command_abort(struct ide_channel *c, unsigned unused)
{
    (void)unused;
    ide_abort(c, ERROR_ABRT);
}

static void command_ok(struct ide_channel *c, unsigned unused)
{
    (void)unused;
    ide_end_ok(c);
}

/* How a packet device refuses the commands by which systems look for disks (9.12). */
static void signature_abort(struct ide_channel *c, unsigned unused)
{
    (void)unused;
    ide_set_signature(c, c->active);
    ide_abort(c, ERROR_ABRT);
}

static void device_reset(struct ide_channel *c, unsigned unused)
{
    (void)unused;
    ide_reset_begin(c, 1U << (c->active - c->unit));
    ide_reset_end(c);
}

/* Both drives take it, whichever is selected, and drive 0 reports (9.10). */
static void diagnostic(struct ide_channel *c, unsigned unused)
{
    (void)unused;
    c->device = DEVICE_ONES;
    ide_reset_begin(c, 3);
    ide_reset_end(c);
    ide_set_intrq(c, &c->unit[0], true);
}

static void seek(struct ide_channel *c, unsigned unused)
{
    (void)unused;
    if (ata_address(c, false) == ATA_NO_SECTOR)
        ide_abort(c, ERROR_IDNF);
    else
        ide_end_ok(c);
}

static void set_parameters(struct ide_channel *c, unsigned unused)
{
    struct ide_unit *u = c->active;
    u8 sectors = u->reg[0][REG_COUNT];
    (void)unused;
    if (!sectors) {
        ide_abort(c, ERROR_ABRT);
        return;
    }
    u->chs.sectors = sectors;
    u->chs.heads = (c->device & 0xf) + 1;
    u->chs.cylinders = (u16)MIN(u->sectors / (u32)(sectors * u->chs.heads), UINT16_MAX);
    ide_end_ok(c);
}

static void set_multiple(struct ide_channel *c, unsigned unused)
{
    u8 n = c->active->reg[0][REG_COUNT];
    (void)unused;
    if (n > MULTIPLE_MAX || (n & (n - 1))) {
        ide_abort(c, ERROR_ABRT);
        return;
    }
    c->active->multiple = n;
    ide_end_ok(c);
}

/* PIO default, PIO 0-4, multiword DMA 0-2, Ultra DMA 0-5 (table 44). */
static bool is_mode(u8 mode)
{
    static const struct {
        u8 base, last;
    } kinds[] = {{0x00, 0x01}, {0x08, 0x0c}, {0x20, 0x22}, {0x40, 0x45}};
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
        if (mode >= kinds[i].base && mode <= kinds[i].last)
            return true;
    return false;
}

static void set_features(struct ide_channel *c, unsigned unused)
{
    struct ide_unit *u = c->active;
    u8 mode = u->reg[0][REG_COUNT];
    switch (u->features) {
    case FEATURE_MODE:
        if (!is_mode(mode))
            break;
        u->mode = mode;
        ide_end_ok(c);
        return;
    case FEATURE_CACHE_ON:
        if (u->cdrom)
            break;
        u->write_cache = true;
        ide_end_ok(c);
        return;
    case FEATURE_CACHE_OFF:
        if (u->cdrom)
            break;
        u->write_cache = false;
        ata_flush(c, unused);
        return;
    case FEATURE_AHEAD_ON:
    case FEATURE_AHEAD_OFF:
        u->look_ahead = u->features == FEATURE_AHEAD_ON;
        ide_end_ok(c);
        return;
    case FEATURE_KEEP:
    case FEATURE_REVERT:
        ide_end_ok(c);
        return;
    }
    ide_abort(c, ERROR_ABRT);
}

/* --- power --- */

static void set_power(struct ide_channel *c, unsigned power)
{
    c->active->power = (u8)power;
    if (power == POWER_STANDBY && c->active->block && !c->active->cdrom)
        ata_flush(c, 0); /* the heads park, so the cache is empty before */
    else
        ide_end_ok(c);
}

static void check_power(struct ide_channel *c, unsigned unused)
{
    (void)unused;
    c->active->reg[0][REG_COUNT] = c->active->power;
    ide_end_ok(c);
}

static void native_max(struct ide_channel *c, unsigned flags)
{
    const struct ide_unit *u = c->active;
    u64 n = MAX(u->sectors, 1);
    if (!(flags & RW_EXT))
        n = MIN(n, c->device & DEVICE_LBA ? BIT(28)
                                          : (u64)u->chs.cylinders * u->chs.heads * u->chs.sectors);
    ata_set_address(c, n - 1, flags & RW_EXT);
    ide_end_ok(c);
}

/* --- the table --- */

#define DISK  1
#define CDROM 2
#define BOTH  (DISK | CDROM)

struct ata_row {
    void (*run)(struct ide_channel *c, unsigned arg);
    u8 drives;
    u8 arg;
};

static const struct ata_row table[256] = {
    [0x00] = {command_abort, BOTH, 0}, /* NOP */
    [0x06] = {ata_trim, DISK, 0},      /* DATA SET MANAGEMENT */
    [0x08] = {device_reset, CDROM, 0},
    [0x10 ... 0x1f] = {command_ok, DISK, 0}, /* RECALIBRATE */
    [0x20] = {ata_rw, DISK, 0},
    [0x21] = {ata_rw, DISK, 0},
    [0x24] = {ata_rw, DISK, RW_EXT},
    [0x25] = {ata_rw, DISK, RW_EXT | RW_DMA},
    [0x27] = {native_max, DISK, RW_EXT},
    [0x29] = {ata_rw, DISK, RW_EXT | RW_MULTIPLE},
    [0x30] = {ata_rw, DISK, RW_WRITE},
    [0x31] = {ata_rw, DISK, RW_WRITE},
    [0x34] = {ata_rw, DISK, RW_WRITE | RW_EXT},
    [0x35] = {ata_rw, DISK, RW_WRITE | RW_EXT | RW_DMA},
    [0x39] = {ata_rw, DISK, RW_WRITE | RW_EXT | RW_MULTIPLE},
    [0x3d] = {ata_rw, DISK, RW_WRITE | RW_EXT | RW_DMA | RW_FUA},
    [0x40] = {ata_rw, DISK, RW_VERIFY},
    [0x41] = {ata_rw, DISK, RW_VERIFY},
    [0x42] = {ata_rw, DISK, RW_VERIFY | RW_EXT},
    [0x70 ... 0x7f] = {seek, DISK, 0},
    [0x90] = {diagnostic, BOTH, 0},
    [0x91] = {set_parameters, DISK, 0},
    [0x94] = {set_power, BOTH, POWER_STANDBY}, /* 94-99: old numbers of E0-E6 */
    [0x95] = {set_power, BOTH, POWER_IDLE},
    [0x96] = {set_power, BOTH, POWER_STANDBY},
    [0x97] = {set_power, BOTH, POWER_IDLE},
    [0x98] = {check_power, BOTH, 0},
    [0x99] = {set_power, BOTH, POWER_STANDBY}, /* SLEEP; a command wakes it, too */
    [0xa0] = {atapi_packet, CDROM, 0},
    [0xa1] = {atapi_identify, CDROM, 0},
    [0xb0] = {ata_smart, DISK, 0},
    [0xc4] = {ata_rw, DISK, RW_MULTIPLE},
    [0xc5] = {ata_rw, DISK, RW_WRITE | RW_MULTIPLE},
    [0xc6] = {set_multiple, DISK, 0},
    [0xc8] = {ata_rw, DISK, RW_DMA},
    [0xc9] = {ata_rw, DISK, RW_DMA},
    [0xca] = {ata_rw, DISK, RW_WRITE | RW_DMA},
    [0xcb] = {ata_rw, DISK, RW_WRITE | RW_DMA},
    [0xce] = {ata_rw, DISK, RW_WRITE | RW_EXT | RW_MULTIPLE | RW_FUA},
    [0xe0] = {set_power, BOTH, POWER_STANDBY}, /* STANDBY IMMEDIATE */
    [0xe1] = {set_power, BOTH, POWER_IDLE},    /* IDLE IMMEDIATE */
    [0xe2] = {set_power, BOTH, POWER_STANDBY}, /* STANDBY */
    [0xe3] = {set_power, BOTH, POWER_IDLE},    /* IDLE */
    [0xe5] = {check_power, BOTH, 0},
    [0xe6] = {set_power, BOTH, POWER_STANDBY},
    [0xe7] = {ata_flush, DISK, 0},
    [0xea] = {ata_flush, DISK, 0},
    [0xec] = {ata_identify, DISK, 0},
    [0xef] = {set_features, BOTH, 0},
    [0xf8] = {native_max, DISK, 0},
};

#define COMMAND_DEVICE_RESET 0x08

void ata_command(struct ide_channel *c, u8 command)
{
    const struct ata_row *row = &table[command];
    struct ide_unit *u = ide_selected(c);
    bool resets = command == COMMAND_DEVICE_RESET && u->cdrom;
    if (u->status & (STATUS_BSY | STATUS_DRQ) && !resets)
        return;
    c->active = u;
    c->dma_started = false;
    if (u->cdrom && (command == 0x20 || command == 0xec))
        signature_abort(c, 0);
    else if (!(row->drives & (u->cdrom ? CDROM : DISK)))
        ide_abort(c, ERROR_ABRT);
    else
        row->run(c, row->arg);
}
