/*
 * The bus master of an IDE channel (Programming Interface for Bus Master IDE Controller 1.0; Intel
 * 82371SB, 2.7). It reads descriptors only as far as the drive has data, so a table without an end
 * costs no more than the transfer. When the drive is done before the table is, the active bit
 * stays; when it is the other way round, the bit goes and there is no interrupt.
 */
#include <errno.h>

#include "dev/ide_internal.h"

enum bmdma_register { BM_COMMAND = 0, BM_STATUS = 2, BM_TABLE = 4, BM_TABLE_LAST = 7 };

#define COMMAND_START 0x01
#define COMMAND_READ  0x08 /* to memory */

#define STATUS_ACTIVE    0x01
#define STATUS_ERROR     0x02
#define STATUS_INTERRUPT 0x04
#define STATUS_CAPABLE   0x60 /* drives can do DMA: for software to note */

#define DESCRIPTOR_SIZE 8
#define DESCRIPTOR_END  0x80000000U

u8 bmdma_read(const struct ide_channel *c, unsigned reg)
{
    if (reg == BM_COMMAND)
        return c->bm.command;
    if (reg == BM_STATUS)
        return c->bm.status;
    if (reg >= BM_TABLE && reg <= BM_TABLE_LAST)
        return (u8)(c->bm.table >> 8 * (reg - BM_TABLE));
    return 0xff;
}

static void write_command(struct ide_channel *c, u8 value)
{
    struct bmdma *bm = &c->bm;
    bool was = bm->command & COMMAND_START;
    bm->command = value & (COMMAND_START | COMMAND_READ);
    if (was && !(value & COMMAND_START)) {
        bm->status &= ~STATUS_ACTIVE;
    } else if (!was && (value & COMMAND_START)) {
        bm->status |= STATUS_ACTIVE;
        bm->next = bm->table;
        bm->left = 0;
        bm->last = false;
        ide_dma_go(c);
    }
}

void bmdma_write(struct ide_channel *c, unsigned reg, u8 value)
{
    struct bmdma *bm = &c->bm;
    if (reg == BM_COMMAND) {
        write_command(c, value);
    } else if (reg == BM_STATUS) {
        bm->status &= ~(value & (STATUS_ERROR | STATUS_INTERRUPT));
        bm->status = (bm->status & ~STATUS_CAPABLE) | (value & STATUS_CAPABLE);
    } else if (reg >= BM_TABLE && reg <= BM_TABLE_LAST) {
        unsigned shift = 8 * (reg - BM_TABLE);
        bm->table = (bm->table & ~(0xffU << shift)) | (u32)value << shift;
        bm->table &= ~3U;
    }
}

bool bmdma_active(const struct ide_channel *c)
{
    return c->bm.status & STATUS_ACTIVE;
}

void bmdma_interrupt(struct ide_channel *c)
{
    c->bm.status |= STATUS_INTERRUPT;
}

/* The next descriptor. A count of 0 means 64 KiB; bit 0 of address and count doesn't exist. */
static int next_descriptor(struct ide_channel *c)
{
    struct bmdma *bm = &c->bm;
    u32 d[2];
    if (!guestmem_read(c->ide->gm, bm->next, d, DESCRIPTOR_SIZE))
        return -EFAULT;
    bm->next += DESCRIPTOR_SIZE;
    bm->addr = d[0] & ~1U;
    bm->left = d[1] & 0xfffe ? d[1] & 0xfffe : 0x10000;
    bm->last = d[1] & DESCRIPTOR_END;
    return 0;
}

/* Addresses have 32 bits: past the last there is nothing. */
static bool copy(struct ide_channel *c, u32 addr, u8 *buf, u32 n, bool in)
{
    if ((u64)addr + n > 4 * GIB)
        return false;
    return in ? guestmem_write(c->ide->gm, addr, buf, n) : guestmem_read(c->ide->gm, addr, buf, n);
}

static int move(struct ide_channel *c, u32 len, bool in)
{
    struct bmdma *bm = &c->bm;
    for (u32 done = 0; done < len;) {
        if (!bmdma_active(c))
            return -ENOSPC;
        int rc = bm->left ? 0 : next_descriptor(c);
        if (rc)
            return rc;
        u32 n = MIN(bm->left, len - done);
        if (!copy(c, bm->addr, c->buffer + done, n, in))
            return -EFAULT;
        done += n;
        bm->addr += n;
        bm->left -= n;
        if (bm->last && !bm->left)
            bm->status &= ~STATUS_ACTIVE;
    }
    return 0;
}

int bmdma_move(struct ide_channel *c, u32 len, bool in)
{
    int rc = move(c, len, in);
    if (rc == -EFAULT)
        c->bm.status = (c->bm.status & ~STATUS_ACTIVE) | STATUS_ERROR;
    return rc;
}
