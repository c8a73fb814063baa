/*
 * Bochs' VBE extensions (dispi): an index and a data register of 16 bits at ports 0x1ce and 0x1cf
 * (or 0x1d0), and again in BAR 2 at 0x500. While they are on, size, depth and start of the picture
 * are theirs, and the VGA's registers are set so that the window at 0xa0000 fits. BAR 2 also has
 * the VGA's ports (from 0x400) and the byte order of pixels (0x604).
 */
#include "dev/vga_internal.h"

#define DISPI_ID_NEWEST 0xb0c5
#define DISPI_ID_OLDEST 0xb0c0
#define DISPI_BPP_MAX   32

/* BAR 2. */
#define BAR2_VGA        0x400 /* port 0x3c0 */
#define BAR2_VGA_END    0x420
#define BAR2_DISPI      0x500
#define BAR2_DISPI_END  0x520
#define BAR2_QEXT       0x600 /* size of this group of registers */
#define BAR2_BYTE_ORDER 0x604
#define QEXT_SIZE       8
#define ORDER_LITTLE    0x1e1e1e1e
#define ORDER_BIG       0xbebebebe

void vga_dispi_reset(struct vga_regs *r)
{
    r->dispi[DISPI_ID] = DISPI_ID_NEWEST;
}

static unsigned bits_per_pixel(const struct vga_regs *r)
{
    unsigned bpp = r->dispi[DISPI_BPP];
    return bpp == 15 ? 16 : bpp;
}

/* Bytes of a line in memory. */
static u32 line_length(const struct vga_regs *r)
{
    return r->dispi[DISPI_VIRT_WIDTH] * bits_per_pixel(r) / 8;
}

/* Does what is to be seen from this offset on fit in memory? */
static bool fits(const struct vga_regs *r, unsigned x, unsigned y)
{
    u64 length = line_length(r);
    u64 start = (u64)x * bits_per_pixel(r) / 8 + y * length;
    return start + r->dispi[DISPI_YRES] * length <= VGA_MEMORY;
}

/* Whatever was written becomes a picture that memory has room for. */
static void mend(struct vga_regs *r)
{
    u16 *d = r->dispi;
    static const u8 depths[] = {4, 8, 15, 16, 24, 32};
    if (!d[DISPI_BPP] || !memchr(depths, d[DISPI_BPP], sizeof(depths)) || d[DISPI_BPP] > 32)
        d[DISPI_BPP] = 8;
    d[DISPI_XRES] = MIN(MAX(d[DISPI_XRES] & ~7, 8), SCREEN_MAX_WIDTH);
    d[DISPI_VIRT_WIDTH] = MIN(MAX(d[DISPI_VIRT_WIDTH] & ~7, d[DISPI_XRES]), 0x4000);
    unsigned most = (unsigned)(VGA_MEMORY / line_length(r));
    d[DISPI_YRES] = (u16)MIN(MIN(MAX(d[DISPI_YRES], 1), SCREEN_MAX_HEIGHT), most);
    d[DISPI_VIRT_HEIGHT] = (u16)MIN(most, 0xffff);
    if (!fits(r, d[DISPI_X_OFFSET], d[DISPI_Y_OFFSET]))
        d[DISPI_Y_OFFSET] = 0;
    if (!fits(r, d[DISPI_X_OFFSET], d[DISPI_Y_OFFSET]))
        d[DISPI_X_OFFSET] = 0;
}

/* The VGA's registers, as far as the CPU's accesses and old software's looks depend on them. */
static void set_vga_registers(struct vga_regs *r)
{
    unsigned last = r->dispi[DISPI_YRES] - 1U;
    r->gfx[GFX_MISC] = (r->gfx[GFX_MISC] & ~0x0c) | 0x04 | MISC_GFX_GRAPHICS;
    r->gfx[GFX_MODE] &= ~(MODE_SHIFT_CGA | MODE_SHIFT_256);
    r->crtc[CRTC_MODE] |= CRTC_MODE_NO_CGA | CRTC_MODE_NO_HGC;
    r->crtc[CRTC_OFFSET] = (u8)(line_length(r) >> 3);
    r->crtc[CRTC_H_DISPLAY_END] = (u8)((r->dispi[DISPI_XRES] >> 3) - 1);
    r->crtc[CRTC_V_DISPLAY_END] = (u8)last;
    r->crtc[CRTC_LINE_COMPARE] = 0xff;
    r->crtc[CRTC_OVERFLOW] =
        (u8)((r->crtc[CRTC_OVERFLOW] & ~0x42) | 0x10 | (last >> 7 & 0x02) | (last >> 3 & 0x40));
    r->crtc[CRTC_MAX_SCAN] = (r->crtc[CRTC_MAX_SCAN] & ~0x9f) | 0x40;
    if (r->dispi[DISPI_BPP] == 4) {
        r->seq[SEQ_CLOCKING] &= ~CLOCKING_HALF;
        r->seq[SEQ_MEMORY] &= ~MEMORY_CHAIN4;
    } else {
        r->gfx[GFX_MODE] |= MODE_SHIFT_256;
        r->seq[SEQ_MEMORY] |= MEMORY_CHAIN4;
        r->seq[SEQ_MAP_MASK] = 0x0f;
    }
}

static void settle(struct vga_regs *r)
{
    if (!dispi_on(r))
        return;
    mend(r);
    set_vga_registers(r);
}

static void write_enable(struct vga *v, u16 value)
{
    struct vga_regs *r = &v->r;
    bool turned_on = (value & DISPI_ENABLED) && !dispi_on(r);
    r->dispi[DISPI_ENABLE] = value;
    r->dispi[DISPI_BANK] = 0;
    if (!turned_on)
        return;
    r->dispi[DISPI_VIRT_WIDTH] = r->dispi[DISPI_X_OFFSET] = r->dispi[DISPI_Y_OFFSET] = 0;
    settle(r);
    if (!(value & DISPI_NOCLEAR)) {
        u64 shown = (u64)r->dispi[DISPI_YRES] * line_length(r);
        memset(v->vram, 0, shown);
        code_written_ram(v->mem, v->vram_offset, shown);
    }
}

static void dispi_write(struct vga *v, unsigned index, u16 value)
{
    struct vga_regs *r = &v->r;
    switch (index) {
    case DISPI_ID:
        if (value >= DISPI_ID_OLDEST && value <= DISPI_ID_NEWEST)
            r->dispi[index] = value;
        return;
    case DISPI_XRES:
    case DISPI_YRES:
    case DISPI_BPP:
    case DISPI_VIRT_WIDTH:
    case DISPI_X_OFFSET:
    case DISPI_Y_OFFSET:
        r->dispi[index] = value;
        settle(r);
        break;
    case DISPI_BANK:
        r->dispi[index] = value & (VGA_MEMORY / VGA_WINDOW_PLAIN - 1);
        break;
    case DISPI_ENABLE:
        write_enable(v, value);
        break;
    default:
        return;
    }
    vga_update_window(v);
}

static u16 dispi_read(const struct vga_regs *r, unsigned index)
{
    bool caps = r->dispi[DISPI_ENABLE] & DISPI_GETCAPS;
    if (caps && index == DISPI_XRES)
        return SCREEN_MAX_WIDTH;
    if (caps && index == DISPI_YRES)
        return SCREEN_MAX_HEIGHT;
    if (caps && index == DISPI_BPP)
        return DISPI_BPP_MAX;
    if (index == DISPI_MEMORY_64K)
        return VGA_MEMORY / (64 * KIB);
    return index < DISPI_COUNT ? r->dispi[index] : 0;
}

/* --- ports 0x1ce to 0x1d1: registers of 16 bits, each next to the other --- */

static u32 ports_in(void *ctx, u16 port, unsigned size)
{
    struct vga *v = ctx;
    u16 value = port & 1 || port == 0x1d0 ? dispi_read(&v->r, v->r.dispi_index) : v->r.dispi_index;
    return size == 4 ? value | (u32)dispi_read(&v->r, v->r.dispi_index) << 16 : value;
}

static void ports_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct vga *v = ctx;
    if (port & 1 || port == 0x1d0) {
        dispi_write(v, v->r.dispi_index, (u16)value);
        return;
    }
    v->r.dispi_index = (u16)value;
    if (size == 4)
        dispi_write(v, v->r.dispi_index, (u16)(value >> 16));
}

const struct port_ops vga_dispi_ports = {ports_in, ports_out};

/* --- BAR 2 --- */

static bool in_range(u64 off, u64 first, u64 end)
{
    return off >= first && off < end;
}

/* A byte of the registers that are 32 bits wide. */
static u8 extended_byte(const struct vga_regs *r, u64 off)
{
    u32 value = off < BAR2_BYTE_ORDER ? QEXT_SIZE : r->big_endian ? ORDER_BIG : ORDER_LITTLE;
    return (u8)(value >> 8 * (off & 3));
}

static u8 register_byte(struct vga *v, u64 off)
{
    if (in_range(off, BAR2_VGA, BAR2_VGA_END))
        return vga_port_read(v, (u16)(0x3c0 + off - BAR2_VGA));
    if (in_range(off, BAR2_DISPI, BAR2_DISPI_END)) {
        u16 value = dispi_read(&v->r, (unsigned)(off - BAR2_DISPI) / 2);
        return (u8)(value >> 8 * (off & 1));
    }
    if (in_range(off, BAR2_QEXT, BAR2_QEXT + QEXT_SIZE))
        return extended_byte(&v->r, off);
    return 0;
}

static u64 registers_read(void *ctx, u64 off, unsigned size)
{
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)register_byte(ctx, off + i) << 8 * i;
    return value;
}

static void registers_write(void *ctx, u64 off, u64 value, unsigned size)
{
    struct vga *v = ctx;
    if (in_range(off, BAR2_VGA, BAR2_VGA_END)) {
        for (unsigned i = 0; i < size && off + i < BAR2_VGA_END; i++)
            vga_port_write(v, (u16)(0x3c0 + off + i - BAR2_VGA), (u8)(value >> 8 * i));
    } else if (in_range(off, BAR2_DISPI, BAR2_DISPI_END) && size > 1 && !(off & 1)) {
        for (unsigned i = 0; i < size && off + i < BAR2_DISPI_END; i += 2)
            dispi_write(v, (unsigned)(off + i - BAR2_DISPI) / 2, (u16)(value >> 8 * i));
    } else if (off == BAR2_BYTE_ORDER && size == 4) {
        if (value == ORDER_LITTLE || value == ORDER_BIG)
            v->r.big_endian = value == ORDER_BIG;
    }
}

const struct mmio_ops vga_register_ops = {registers_read, registers_write};
