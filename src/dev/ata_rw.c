/*
 * ATA commands that move sectors (ATA/ATAPI-6, 8 and 9.5 to 9.7): as many as fit into the buffer
 * make a chunk, which is read from the image at once, or written at once when the host has filled
 * it. When a request of several sectors fails, it is repeated sector by sector, so that the
 * registers name the one that is bad, and the host gets those before it.
 */
#include <errno.h>

#include "dev/ide_internal.h"

#define TRIM_BLOCKS_MAX 8 /* of 64 ranges; IDENTIFY word 105 */
#define TRIM_FEATURE    0x01

/* --- addresses --- */

static u64 chs_address(const struct ide_channel *c)
{
    const struct ide_unit *u = c->active;
    unsigned head = c->device & 0xf;
    unsigned sector = u->reg[0][REG_LBA_LOW];
    u64 cylinder = u->reg[0][REG_LBA_MID] | (u32)u->reg[0][REG_LBA_HIGH] << 8;
    if (head >= u->chs.heads || !sector || sector > u->chs.sectors || cylinder >= u->chs.cylinders)
        return ATA_NO_SECTOR;
    return (cylinder * u->chs.heads + head) * u->chs.sectors + sector - 1;
}

u64 ata_address(const struct ide_channel *c, bool ext)
{
    const struct ide_unit *u = c->active;
    u64 lba = load_le(&u->reg[0][REG_LBA_LOW], 2) | (u64)u->reg[0][REG_LBA_HIGH] << 16;
    if (ext)
        lba |= load_le(&u->reg[1][REG_LBA_LOW], 2) << 24 | (u64)u->reg[1][REG_LBA_HIGH] << 40;
    else if (c->device & DEVICE_LBA)
        lba |= (u64)(c->device & 0xf) << 24;
    else
        lba = chs_address(c);
    return lba < u->sectors ? lba : ATA_NO_SECTOR;
}

void ata_set_address(struct ide_channel *c, u64 lba, bool ext)
{
    struct ide_unit *u = c->active;
    if (!ext && !(c->device & DEVICE_LBA)) {
        u64 track = lba / u->chs.sectors;
        c->device = (c->device & 0xf0) | (u8)(track % u->chs.heads);
        lba = lba % u->chs.sectors + 1 + (track / u->chs.heads << 8);
    } else if (!ext) {
        c->device = (c->device & 0xf0) | (u8)(lba >> 24 & 0xf);
    }
    for (unsigned i = 0; i < 3; i++) {
        u->reg[0][REG_LBA_LOW + i] = (u8)(lba >> 8 * i);
        if (ext)
            u->reg[1][REG_LBA_LOW + i] = (u8)(lba >> (24 + 8 * i));
    }
}

static u32 sector_count(const struct ide_unit *u, bool ext)
{
    u32 n = u->reg[0][REG_COUNT] | (ext ? (u32)u->reg[1][REG_COUNT] << 8 : 0);
    return n ? n : ext ? 0x10000 : 0x100;
}

static void set_count(struct ide_unit *u, u32 n, bool ext)
{
    u->reg[0][REG_COUNT] = (u8)n;
    if (ext)
        u->reg[1][REG_COUNT] = (u8)(n >> 8);
}

/* --- reading and writing --- */

static void next_chunk(struct ide_channel *c);

/* The registers name the last sector that was moved, or the first that was not. */
static void set_registers(struct ide_channel *c, u64 lba, u32 left)
{
    bool ext = c->ata.flags & RW_EXT;
    ata_set_address(c, lba, ext);
    set_count(c->active, left, ext);
}

static void rw_failed(struct ide_channel *c, int result)
{
    const struct ata_io *io = &c->ata;
    u8 error = result == -EINVAL ? ERROR_IDNF : io->flags & RW_WRITE ? ERROR_ABRT : ERROR_UNC;
    set_registers(c, io->lba + io->moved, io->left - io->moved);
    ide_abort(c, error);
}

/* The host was told of the last block of a PIO read before it took it. */
static void rw_done(struct ide_channel *c)
{
    set_registers(c, c->ata.lba - 1, 0);
    if (c->ata.flags & (RW_WRITE | RW_DMA | RW_VERIFY))
        ide_end_ok(c);
    else
        ide_end_silently(c);
}

static void flushed(struct ide_channel *c, int result)
{
    if (result)
        ide_abort(c, ERROR_ABRT);
    else
        ide_end_ok(c);
}

static void write_flushed(struct ide_channel *c, int result)
{
    if (result)
        ide_abort(c, ERROR_ABRT);
    else
        rw_done(c);
}

static void chunk_over(struct ide_channel *c)
{
    struct ata_io *io = &c->ata;
    io->lba += io->chunk;
    io->left -= io->chunk;
    io->moved -= io->chunk;
    if (io->failed)
        rw_failed(c, io->failed);
    else if (io->left)
        next_chunk(c);
    else if (io->flags & RW_WRITE && (io->flags & RW_FUA || !c->active->write_cache))
        ide_request(c, BLOCK_FLUSH, 0, 0, 0, write_flushed);
    else
        rw_done(c);
}

static void give_block(struct ide_channel *c, int result);

static void chunk_given(struct ide_channel *c, int result)
{
    if (result)
        ide_dma_failed(c, result);
    else
        chunk_over(c);
}

/* A chunk has been read. */
static void give_chunk(struct ide_channel *c)
{
    struct ata_io *io = &c->ata;
    io->given = 0;
    if (!io->chunk || io->flags & RW_VERIFY)
        chunk_over(c);
    else if (io->flags & RW_DMA)
        ide_dma(c, io->chunk * BLOCK_SECTOR, true, chunk_given);
    else
        give_block(c, 0);
}

static void give_block(struct ide_channel *c, int result)
{
    struct ata_io *io = &c->ata;
    (void)result;
    if (io->given == io->chunk) {
        chunk_over(c);
        return;
    }
    u32 at = io->given;
    u32 n = MIN(io->block, io->chunk - at);
    io->given += n;
    ide_pio_in(c, at * BLOCK_SECTOR, n * BLOCK_SECTOR, give_block);
}

static void move_chunk(struct ide_channel *c);

static void chunk_moved(struct ide_channel *c, int result)
{
    struct ata_io *io = &c->ata;
    u32 n = MIN(io->limit, io->chunk - io->moved);
    if (result == -EIO && n > 1) {
        io->limit = 1;
        move_chunk(c);
    } else if (result && !(io->flags & RW_WRITE) && io->moved >= io->block) {
        io->chunk = (u32)align_down(io->moved, io->block);
        io->failed = result;
        give_chunk(c);
    } else if (result) {
        rw_failed(c, result);
    } else {
        io->moved += n;
        if (io->moved < io->chunk)
            move_chunk(c);
        else if (io->flags & RW_WRITE)
            chunk_over(c);
        else
            give_chunk(c);
    }
}

static void move_chunk(struct ide_channel *c)
{
    struct ata_io *io = &c->ata;
    u32 n = MIN(io->limit, io->chunk - io->moved);
    ide_request(c, io->flags & RW_WRITE ? BLOCK_WRITE : BLOCK_READ,
                (io->lba + io->moved) * BLOCK_SECTOR, (u64)n * BLOCK_SECTOR,
                io->moved * BLOCK_SECTOR, chunk_moved);
}

static void chunk_taken(struct ide_channel *c, int result)
{
    if (result)
        ide_dma_failed(c, result);
    else
        move_chunk(c);
}

/* Blocks of a PIO write: the host is interrupted for each but the first. */
static void take_block(struct ide_channel *c, int result)
{
    struct ata_io *io = &c->ata;
    (void)result;
    if (io->given == io->chunk) {
        move_chunk(c);
        return;
    }
    u32 at = io->given;
    u32 n = MIN(io->block, io->chunk - at);
    io->given += n;
    ide_pio_out(c, at * BLOCK_SECTOR, n * BLOCK_SECTOR, io->begun, take_block);
    io->begun = true;
}

static void next_chunk(struct ide_channel *c)
{
    struct ata_io *io = &c->ata;
    io->chunk = MIN(io->left, IDE_BUFFER_SECTORS);
    io->moved = io->given = 0;
    if (!(io->flags & RW_WRITE))
        move_chunk(c);
    else if (io->flags & RW_DMA)
        ide_dma(c, io->chunk * BLOCK_SECTOR, false, chunk_taken);
    else
        take_block(c, 0);
}

void ata_rw(struct ide_channel *c, unsigned flags)
{
    struct ide_unit *u = c->active;
    bool ext = flags & RW_EXT;
    u64 lba = ata_address(c, ext);
    u32 n = sector_count(u, ext);
    bool refused =
        (flags & RW_MULTIPLE && !u->multiple) || (flags & RW_WRITE && u->block->read_only);
    if (refused || lba == ATA_NO_SECTOR || n > u->sectors - lba) {
        ide_abort(c, refused ? ERROR_ABRT : ERROR_IDNF);
        return;
    }
    u->power = POWER_ACTIVE;
    c->ata = (struct ata_io){
        .lba = lba,
        .left = n,
        .limit = IDE_BUFFER_SECTORS,
        .block = flags & RW_MULTIPLE ? u->multiple : 1,
        .flags = flags,
    };
    next_chunk(c);
}

void ata_flush(struct ide_channel *c, unsigned unused)
{
    (void)unused;
    ide_request(c, BLOCK_FLUSH, 0, 0, 0, flushed);
}

/* --- DATA SET MANAGEMENT: TRIM (ACS-2, 7.10) --- */

/* Ranges are hints: what the image can't do is ignored. In the buffer: 6 bytes of address, 2 of
 * length; c->ata.given is the next, c->ata.chunk how many. */
static void trim_next(struct ide_channel *c, int result)
{
    struct ata_io *io = &c->ata;
    if (result && result != -ENOTSUP) {
        ide_abort(c, ERROR_ABRT);
        return;
    }
    while (io->given < io->chunk) {
        u64 range = load_le(c->buffer + 8ULL * io->given++, 8);
        u64 lba = bits(range, 47, 0), n = bits(range, 63, 48);
        if (!n)
            continue;
        if (lba >= c->active->sectors || n > c->active->sectors - lba)
            ide_abort(c, ERROR_IDNF);
        else
            ide_request(c, BLOCK_DISCARD, lba * BLOCK_SECTOR, n * BLOCK_SECTOR, 0, trim_next);
        return;
    }
    ide_end_ok(c);
}

static void trim_taken(struct ide_channel *c, int result)
{
    if (result)
        ide_dma_failed(c, result);
    else
        trim_next(c, 0);
}

void ata_trim(struct ide_channel *c, unsigned unused)
{
    struct ide_unit *u = c->active;
    u32 blocks = sector_count(u, true);
    (void)unused;
    if (!(u->features & TRIM_FEATURE) || blocks > TRIM_BLOCKS_MAX || u->block->read_only) {
        ide_abort(c, ERROR_ABRT);
        return;
    }
    c->ata = (struct ata_io){.chunk = blocks * BLOCK_SECTOR / 8};
    ide_dma(c, blocks * BLOCK_SECTOR, false, trim_taken);
}
