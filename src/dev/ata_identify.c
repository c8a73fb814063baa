/*
 * What drives say of themselves: IDENTIFY DEVICE (ATA/ATAPI-6, 8.15; words 69, 105 and 169 from
 * ACS-2, 7.16) and IDENTIFY PACKET DEVICE (8.16), 256 words each. Bits are named where they are
 * set.
 */
#include <stdio.h>

#include "dev/ide_internal.h"

#define WORDS 256

/* Text goes with the first character in the upper byte, filled up with blanks. */
static void put_text(u16 *word, unsigned words, const char *text)
{
    for (unsigned i = 0; i < words; i++) {
        u8 first = *text ? (u8)*text++ : ' ';
        u8 second = *text ? (u8)*text++ : ' ';
        word[i] = (u16)(first << 8 | second);
    }
}

static void put_number(u16 *word, unsigned words, u64 value)
{
    for (unsigned i = 0; i < words; i++)
        word[i] = (u16)(value >> 16 * i);
}

static void put_names(u16 *w, const struct ide_unit *u, const char *model)
{
    char serial[24];
    snprintf(serial, sizeof(serial), "RINGER%u", u->number);
    put_text(w + 10, 10, serial);
    put_text(w + 23, 4, "1");
    put_text(w + 27, 20, model);
}

/* Multiword DMA 0 to 2 and Ultra DMA 0 to 5 exist; the one that is selected has its bit 8 up. */
static void put_modes(u16 *w, const struct ide_unit *u)
{
    w[53] |= 1 << 1 | 1 << 2; /* words 64 to 70 and 88 are valid */
    w[63] = 0x07;
    w[64] = 0x03; /* PIO 3 and 4 */
    w[65] = w[66] = 120;
    w[67] = w[68] = 120; /* cycle times in ns */
    w[88] = 0x3f;
    if (u->mode >= 0x40)
        w[88] |= (u16)(0x100 << (u->mode & 7));
    else if (u->mode >= 0x20)
        w[63] |= (u16)(0x100 << (u->mode & 7));
    w[93] = 1 << 14 | 1 << 13 | 1 << 0; /* 80-wire cable; drive 0 doesn't answer for drive 1 */
}

static void put_features(u16 *w, const struct ide_unit *u)
{
    u16 cache = u->block->read_only ? 0 : 1 << 5;
    w[82] = 1 << 14 | 1 << 6 | cache | 1 << 3 | 1; /* NOP, look-ahead, cache, power, SMART */
    w[83] = 1 << 14 | 1 << 13 | 1 << 12 | 1 << 10; /* FLUSH CACHE (EXT), 48-bit addresses */
    w[84] = 1 << 14 | 1 << 6;                      /* FUA */
    w[85] = (u16)(1 << 14 | u->look_ahead << 6 | (u->write_cache ? cache : 0) | 1 << 3 | u->smart);
    w[86] = w[83] & ~(1 << 14);
    w[87] = w[84];
    if (!u->block->read_only) {
        w[105] = 8; /* blocks of TRIM ranges */
        w[169] = 1; /* TRIM */
    }
}

static void identify_disk(u16 *w, const struct ide_unit *u)
{
    struct ata_geometry g = ata_default_geometry(u->sectors);
    u32 chs_sectors = (u32)u->chs.cylinders * u->chs.heads * u->chs.sectors;
    w[0] = 1 << 6; /* fixed */
    w[1] = g.cylinders;
    w[3] = g.heads;
    w[4] = (u16)(g.sectors * BLOCK_SECTOR);
    w[5] = BLOCK_SECTOR;
    w[6] = g.sectors;
    w[20] = 3;
    w[21] = BLOCK_SECTOR;
    w[22] = 4;
    put_names(w, u, "ringer disk");
    w[47] = 0x8000 | 16;                         /* READ MULTIPLE: most sectors */
    w[48] = 1;                                   /* 32-bit data port */
    w[49] = 1 << 11 | 1 << 10 | 1 << 9 | 1 << 8; /* IORDY, LBA, DMA */
    w[50] = 1 << 14;
    w[51] = w[52] = 0x200;
    w[53] = 1; /* words 54 to 58 are valid */
    w[54] = u->chs.cylinders;
    w[55] = u->chs.heads;
    w[56] = u->chs.sectors;
    put_number(w + 57, 2, chs_sectors);
    if (u->multiple)
        w[59] = 0x100 | u->multiple;
    put_number(w + 60, 2, MIN(u->sectors, BIT(28) - 1));
    put_modes(w, u);
    w[80] = 0xf0; /* ATA/ATAPI-4 to 7 */
    w[81] = 0x16;
    put_features(w, u);
    put_number(w + 100, 4, u->sectors);
}

static void identify_cdrom(u16 *w, const struct ide_unit *u)
{
    w[0] = 2 << 14 | 5 << 8 | 1 << 7 | 2 << 5; /* packet, CD-ROM, removable, 50 us, 12 bytes */
    put_names(w, u, "ringer CD-ROM");
    w[48] = 1;
    w[49] = 1 << 11 | 1 << 9 | 1 << 8;
    put_modes(w, u);
    w[71] = w[72] = 30;
    w[80] = 0x1e;                               /* up to ATA/ATAPI-4 */
    w[82] = 1 << 14 | 1 << 9 | 1 << 4 | 1 << 3; /* NOP, DEVICE RESET, packets, power */
    w[83] = 1 << 14;
    w[85] = w[82];
    w[87] = 1 << 14;
}

static void given(struct ide_channel *c, int result)
{
    (void)result;
    ide_end_silently(c);
}

static void identify(struct ide_channel *c, void (*fill)(u16 *w, const struct ide_unit *u))
{
    u16 w[WORDS] = {0};
    fill(w, c->active);
    for (unsigned i = 0; i < WORDS; i++)
        store_le(c->buffer + 2ULL * i, w[i], 2);
    ide_pio_in(c, 0, BLOCK_SECTOR, given);
}

void ata_identify(struct ide_channel *c, unsigned unused)
{
    (void)unused;
    identify(c, identify_disk);
}

void atapi_identify(struct ide_channel *c, unsigned unused)
{
    (void)unused;
    identify(c, identify_cdrom);
}
