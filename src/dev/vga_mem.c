/*
 * The CPU's window to video memory at 0xa0000: latches, read and write modes, planes. The four
 * bytes of the planes at one offset are handled as one 32-bit group. Where the registers make the
 * window the same as plain memory (a byte per pixel, as in mode 13h and in packed VBE modes),
 * plain memory is laid over it after a few accesses, so that a frame buffer does not cost a
 * callback per pixel; it is taken away at once when that isn't true any more.
 */
#include "dev/vga_internal.h"

#define PLAIN_AFTER 16 /* accesses, so that a mode being set doesn't move regions about */

#define WRITE_MODE   3 /* of GFX_MODE */
#define ROTATE_COUNT 7 /* of GFX_ROTATE */

/* The byte in all planes. */
static u32 spread_byte(u8 value)
{
    return value * 0x01010101U;
}

/* Bit n in all of plane n. */
static u32 spread_planes(unsigned planes)
{
    u32 bytes = (planes & 1) | (planes & 2) << 7 | (planes & 4) << 14 | (planes & 8) << 21;
    return bytes * 0xff;
}

/* The window's offset to an address of video memory, as the memory map bits and the bank say.
 * False: no memory there. */
static bool decode(const struct vga_regs *r, u64 off, u32 *addr)
{
    static const struct {
        u32 first, size;
    } maps[] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};
    unsigned n = r->gfx[GFX_MISC] >> 2 & 3;
    *addr = (u32)off - maps[n].first;
    if (!(r->misc & MISC_RAM) || *addr >= maps[n].size)
        return false;
    if (dispi_on(r))
        *addr += (u32)r->dispi[DISPI_BANK] << 16;
    return true;
}

/* A byte of memory for each address, and nothing happens on the way. */
static bool is_plain(const struct vga_regs *r)
{
    if (dispi_packed(r))
        return true;
    return (r->seq[SEQ_MEMORY] & MEMORY_CHAIN4) && r->seq[SEQ_MAP_MASK] == 0x0f &&
           !(r->gfx[GFX_MODE] & (WRITE_MODE | MODE_READ_COMPARE)) && !r->gfx[GFX_ROTATE] &&
           !r->gfx[GFX_ENABLE_SR] && r->gfx[GFX_BIT_MASK] == 0xff;
}

/* The bytes of all planes at this offset. */
static u8 *group_at(const struct vga *v, u32 offset)
{
    return v->vram + 4 * (u64)(offset & ((dispi_on(&v->r) ? VGA_MEMORY / 4 : VGA_PLANE) - 1));
}

static void written(struct vga *v, const u8 *at, unsigned size)
{
    code_written_ram(v->mem, v->vram_offset + (u64)(at - v->vram), size);
}

/* --- reading --- */

/* Bit n of the result: the pixel's colour is that of the compare register, in the planes that
 * matter. */
static u8 compare_colours(const struct vga_regs *r)
{
    u32 differs =
        (r->latch ^ spread_planes(r->gfx[GFX_COMPARE])) & spread_planes(r->gfx[GFX_DONT_CARE]);
    differs |= differs >> 16;
    return (u8) ~(differs | differs >> 8);
}

static u8 read_byte(struct vga *v, u32 addr)
{
    struct vga_regs *r = &v->r;
    unsigned plane = r->gfx[GFX_READ_MAP] & 3;
    u32 offset = addr;
    if (is_plain(r))
        return v->vram[addr & (VGA_MEMORY - 1)];
    if (r->seq[SEQ_MEMORY] & MEMORY_CHAIN4) {
        plane = addr & 3;
        offset = addr >> 2;
    } else {
        if (r->gfx[GFX_MODE] & MODE_READ_ODDEV)
            plane = (plane & 2) | (addr & 1);
        if (r->gfx[GFX_MISC] & MISC_GFX_CHAIN_ODEV)
            offset = addr >> 1;
    }
    r->latch = (u32)load_le(group_at(v, offset), 4);
    if (r->gfx[GFX_MODE] & MODE_READ_COMPARE)
        return compare_colours(r);
    return (u8)(r->latch >> 8 * plane);
}

/* --- writing --- */

static u8 rotate(const struct vga_regs *r, u8 value)
{
    unsigned n = r->gfx[GFX_ROTATE] & ROTATE_COUNT;
    return (u8)(value >> n | value << (8 - n));
}

/* What the CPU's byte becomes in each plane, and which bits of a byte change. */
static u32 write_data(const struct vga_regs *r, u8 value, u8 *bit_mask)
{
    u32 set_reset = spread_planes(r->gfx[GFX_SET_RESET]);
    u32 enable = spread_planes(r->gfx[GFX_ENABLE_SR]);
    *bit_mask = r->gfx[GFX_BIT_MASK];
    switch (r->gfx[GFX_MODE] & WRITE_MODE) {
    case 0:
        return (spread_byte(rotate(r, value)) & ~enable) | (set_reset & enable);
    case 2:
        return spread_planes(value & 0x0f);
    default:
        *bit_mask &= rotate(r, value);
        return set_reset;
    }
}

static u32 combine(const struct vga_regs *r, u32 data)
{
    switch (r->gfx[GFX_ROTATE] >> 3) {
    case 0:
        return data;
    case 1:
        return data & r->latch;
    case 2:
        return data | r->latch;
    default:
        return data ^ r->latch;
    }
}

/* All four bytes that a write of this value makes. */
static u32 write_result(const struct vga_regs *r, u8 value)
{
    u8 bit_mask;
    if ((r->gfx[GFX_MODE] & WRITE_MODE) == 1)
        return r->latch;
    u32 data = combine(r, write_data(r, value, &bit_mask));
    u32 mask = spread_byte(bit_mask);
    return (data & mask) | (r->latch & ~mask);
}

static void write_byte(struct vga *v, u32 addr, u8 value)
{
    struct vga_regs *r = &v->r;
    unsigned planes = r->seq[SEQ_MAP_MASK];
    u32 offset = addr;
    if (is_plain(r)) {
        u8 *at = v->vram + (addr & (VGA_MEMORY - 1));
        *at = value;
        written(v, at, 1);
        return;
    }
    if (r->seq[SEQ_MEMORY] & MEMORY_CHAIN4) {
        planes &= 1U << (addr & 3);
        offset = addr >> 2;
    } else {
        if (!(r->seq[SEQ_MEMORY] & MEMORY_NO_ODDEV))
            planes &= addr & 1 ? 0x0a : 0x05;
        if (r->gfx[GFX_MISC] & MISC_GFX_CHAIN_ODEV)
            offset = addr >> 1;
    }
    u8 *at = group_at(v, offset);
    u32 mask = spread_planes(planes);
    store_le(at, (load_le(at, 4) & ~mask) | (write_result(r, value) & mask), 4);
    written(v, at, 4);
}

/* --- the window --- */

static void count_access(struct vga *v)
{
    if (!v->plain_wanted || v->plain_placed || ++v->plain_accesses < PLAIN_AFTER)
        return;
    v->plain_placed = true;
    mem_region_show(v->plain, v->bar_memory, v->plain_offset, true);
    mem_region_place(v->plain, VGA_WINDOW);
}

void vga_update_window(struct vga *v)
{
    const struct vga_regs *r = &v->r;
    u32 addr;
    v->plain_wanted = (r->gfx[GFX_MISC] & 0x0c) == 0x04 && decode(r, 0, &addr) && is_plain(r);
    if (!v->plain_wanted) {
        v->plain_accesses = 0;
        if (v->plain_placed)
            mem_region_remove(v->plain);
        v->plain_placed = false;
        return;
    }
    v->plain_offset = addr;
    if (v->plain_placed)
        mem_region_show(v->plain, v->bar_memory, addr, true);
}

static u64 memory_read(void *ctx, u64 off, unsigned size)
{
    struct vga *v = ctx;
    u64 value = 0;
    u32 addr;
    count_access(v);
    for (unsigned i = 0; i < size; i++)
        value |= (u64)(decode(&v->r, off + i, &addr) ? read_byte(v, addr) : 0xff) << 8 * i;
    return value;
}

static void memory_write(void *ctx, u64 off, u64 value, unsigned size)
{
    struct vga *v = ctx;
    u32 addr;
    count_access(v);
    for (unsigned i = 0; i < size; i++)
        if (decode(&v->r, off + i, &addr))
            write_byte(v, addr, (u8)(value >> 8 * i));
}

const struct mmio_ops vga_memory_ops = {memory_read, memory_write};
