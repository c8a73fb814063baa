/*
 * Draws the picture that the registers ask for, line by line. A line is made in a buffer (with some
 * more at its end, for panning), compared with what the screen shows, and copied if it differs:
 * what has changed is found here and nowhere else.
 */
#include "dev/vga_internal.h"

struct drawing {
    const struct vga_regs *r;
    const struct vga_mode *m;
    const u8 *vram;
    u64 frame;
    u32 palette[16], colour[256];
    u32 spread[256]; /* the bits of a byte, the leftmost in bit 0 of the lowest nibble */
    u32 line[VGA_LINE_MAX];
};

/* --- pixels by the VGA's shift registers: m->columns + 1 groups of plane bytes --- */

static u32 *repeat(u32 *out, u32 colour, unsigned times)
{
    while (times--)
        *out++ = colour;
    return out;
}

/* A bit in each plane for a pixel. */
static void planar_line(struct drawing *d, const struct vga_line *l)
{
    unsigned planes = d->r->attr[ATTR_PLANES] & 0x0f;
    u32 enabled = planes * 0x11111111U, *out = d->line;
    for (unsigned n = 0; n <= d->m->columns; n++) {
        const u8 *group = d->vram + 4 * (size_t)vga_line_offset(l, n);
        u32 pixels = (d->spread[group[0]] | d->spread[group[1]] << 1 | d->spread[group[2]] << 2 |
                      d->spread[group[3]] << 3) &
                     enabled;
        for (unsigned i = 0; i < 8; i++, pixels >>= 4)
            out = repeat(out, d->palette[pixels & 15], d->m->repeat);
    }
}

/* Two bits of planes 0 (first four pixels) or 1 for a pixel, and two more of planes 2 or 3. */
static void cga_line(struct drawing *d, const struct vga_line *l)
{
    unsigned planes = d->r->attr[ATTR_PLANES] & 0x0f;
    u32 *out = d->line;
    for (unsigned n = 0; n <= d->m->columns; n++) {
        const u8 *group = d->vram + 4 * (size_t)vga_line_offset(l, n);
        for (unsigned i = 0; i < 8; i++) {
            unsigned shift = 6 - 2 * (i & 3);
            unsigned low = group[i >> 2] >> shift & 3, high = group[2 + (i >> 2)] >> shift & 3;
            out = repeat(out, d->palette[(low | high << 2) & planes], d->m->repeat);
        }
    }
}

/* A byte of a plane for a pixel. */
static void byte_line(struct drawing *d, const struct vga_line *l)
{
    u32 *out = d->line;
    for (unsigned n = 0; n <= d->m->columns; n++) {
        const u8 *group = d->vram + 4 * (size_t)vga_line_offset(l, n);
        for (unsigned i = 0; i < 4; i++)
            out = repeat(out, d->colour[group[i]], d->m->repeat);
    }
}

/* --- packed pixels --- */

static u32 from_555(u32 p)
{
    u32 r = p >> 10 & 31, g = p >> 5 & 31, b = p & 31;
    return (r << 3 | r >> 2) << 16 | (g << 3 | g >> 2) << 8 | (b << 3 | b >> 2);
}

static u32 from_565(u32 p)
{
    u32 r = p >> 11 & 31, g = p >> 5 & 63, b = p & 31;
    return (r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
}

static u32 pixel_16(const u8 *p, bool big)
{
    u16 value = (u16)load_le(p, 2);
    return big ? __builtin_bswap16(value) : value;
}

static u32 pixel_32(const u8 *p, bool big)
{
    u32 value = (u32)load_le(p, 4);
    return (big ? __builtin_bswap32(value) : value) & 0xffffff;
}

static u32 pixel_24(const u8 *p, bool big)
{
    return big ? (u32)p[0] << 16 | (u32)p[1] << 8 | p[2] : (u32)load_le(p, 2) | (u32)p[2] << 16;
}

/* Line y. The dispi registers say a picture that lies in memory (vga_dispi.c). */
static void packed_line(struct drawing *d, unsigned y)
{
    const u16 *regs = d->r->dispi;
    unsigned bpp = regs[DISPI_BPP], bytes = (bpp + 7) / 8, width = d->m->width;
    bool big = d->r->big_endian;
    u64 line = (u64)(regs[DISPI_Y_OFFSET] + y) * regs[DISPI_VIRT_WIDTH] + regs[DISPI_X_OFFSET];
    u64 at = line * bytes;
    if (at + (u64)width * bytes > VGA_MEMORY)
        width = at < VGA_MEMORY ? (unsigned)((VGA_MEMORY - at) / bytes) : 0;
    const u8 *p = d->vram + at;
    memset(d->line + width, 0, (d->m->width - width) * sizeof(u32));
    for (unsigned x = 0; x < width; x++, p += bytes) {
        if (bpp == 8)
            d->line[x] = d->colour[*p];
        else if (bpp == 15)
            d->line[x] = from_555(pixel_16(p, big));
        else if (bpp == 16)
            d->line[x] = from_565(pixel_16(p, big));
        else if (bpp == 24)
            d->line[x] = pixel_24(p, big);
        else
            d->line[x] = pixel_32(p, big);
    }
}

/* --- the screen --- */

/* Makes one line; returns where in d->line it begins. */
static const u32 *make_line(struct drawing *d, const struct vga_line *l)
{
    switch (d->m->kind) {
    case VGA_BLANK:
        return d->line;
    case VGA_PACKED:
        packed_line(d, l->y);
        return d->line;
    case VGA_TEXT:
        vga_text_line(l, d->vram, d->frame, d->palette, d->line);
        break;
    case VGA_PLANAR:
        planar_line(d, l);
        break;
    case VGA_CGA:
        cga_line(d, l);
        break;
    case VGA_256:
        byte_line(d, l);
        break;
    }
    return d->line + l->panning * d->m->repeat;
}

static void put_line(struct screen *s, unsigned y, const u32 *line)
{
    u32 *row = s->pixels + (size_t)y * s->width;
    if (memcmp(row, line, s->width * sizeof(*row)) == 0)
        return;
    memcpy(row, line, s->width * sizeof(*row));
    if (s->top >= s->bottom) {
        s->top = y;
        s->bottom = y + 1;
    }
    s->top = MIN(s->top, y);
    s->bottom = MAX(s->bottom, y + 1);
}

static void prepare(struct drawing *d)
{
    vga_palette(d->r, d->palette);
    vga_dac_colours(d->r, d->colour);
    for (unsigned byte = 0; byte < 256; byte++) {
        d->spread[byte] = 0;
        for (unsigned i = 0; i < 8; i++)
            d->spread[byte] |= (byte >> (7 - i) & 1U) << 4 * i;
    }
    if (d->m->kind == VGA_BLANK)
        memset(d->line, 0, sizeof(d->line));
}

bool vga_draw_screen(const struct vga_regs *r, const u8 *vram, u64 frame, struct screen *s)
{
    struct vga_mode m = vga_mode_of(r);
    struct drawing d = {.r = r, .m = &m, .vram = vram, .frame = frame};
    s->top = s->bottom = 0;
    if ((s->width != m.width || s->height != m.height || !s->pixels) &&
        !screen_resize(s, m.width, m.height))
        return false;
    prepare(&d);
    struct vga_line l = vga_first_line(r, &m);
    for (unsigned y = 0; y < m.height; y++) {
        put_line(s, y, make_line(&d, &l));
        vga_next_line(&l);
    }
    return s->top < s->bottom;
}
