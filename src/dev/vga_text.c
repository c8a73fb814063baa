/*
 * Text modes: characters from plane 0, attributes from plane 1, glyphs from plane 2 (32 bytes for
 * each character, in one of eight tables). As pictures, line by line, and as cells.
 */
#include <stdlib.h>

#include "dev/vga_internal.h"

#define ATTR_BLINKS     0x80
#define GLYPH_BYTES     32
#define CURSOR_BLINK    8  /* frames that the cursor is on, and then off */
#define CHARACTER_BLINK 16 /* likewise */
#define TEXT_CELLS_MAX  0x8000

/* Plane offset of font table n. */
static unsigned font_offset(unsigned n)
{
    return (n & 3) * 0x4000 + (n >> 2) * 0x2000;
}

/* The tables for characters without and with bit 3 of the attribute. */
static void font_tables(const struct vga_regs *r, unsigned font[2])
{
    unsigned select = r->seq[SEQ_CHAR_MAP];
    font[0] = font_offset((select & 3) | (select >> 2 & 4));
    font[1] = font_offset((select >> 2 & 3) | (select >> 3 & 4));
}

/* Plane offset of the cursor, as the CRTC counts. */
static unsigned cursor_offset(const struct vga_regs *r)
{
    return (unsigned)(r->crtc[CRTC_CURSOR_HIGH] << 8 | r->crtc[CRTC_CURSOR_LOW]);
}

static bool cursor_enabled(const struct vga_regs *r)
{
    unsigned start = r->crtc[CRTC_CURSOR_START] & 0x1f, end = r->crtc[CRTC_CURSOR_END] & 0x1f;
    return !(r->crtc[CRTC_CURSOR_START] & CURSOR_OFF) && start <= end;
}

/* Is the cursor, where it is, in this line of its row? */
static bool cursor_in_line(const struct vga_regs *r, unsigned scan, u64 frame)
{
    return cursor_enabled(r) && !(frame / CURSOR_BLINK & 1) &&
           scan >= (r->crtc[CRTC_CURSOR_START] & 0x1f) && scan <= (r->crtc[CRTC_CURSOR_END] & 0x1f);
}

/* Eight or nine dots of a glyph's line, the leftmost in the top bit of the lower nine. The ninth
 * continues line graphics and is background else. */
static unsigned widen(const struct vga_regs *r, u8 character, u8 glyph)
{
    bool joins = (r->attr[ATTR_MODE] & ATTR_LINE_GFX) && character >= 0xc0 && character <= 0xdf;
    return (unsigned)glyph << 1 | (joins ? glyph & 1 : 0);
}

/* Does the line underline this attribute? */
static bool underlined(const struct vga_regs *r, unsigned scan, u8 attribute)
{
    return (attribute & 0x77) == 0x01 && scan == (r->crtc[CRTC_UNDERLINE] & 0x1f);
}

void vga_text_line(const struct vga_line *l, const u8 *vram, u64 frame, const u32 palette[16],
                   u32 *out)
{
    const struct vga_regs *r = l->r;
    const struct vga_mode *m = l->m;
    unsigned font[2], cursor = cursor_offset(r) & m->wrap;
    bool blinks = r->attr[ATTR_MODE] & ATTR_BLINK, cursor_line = cursor_in_line(r, l->scan, frame);
    bool hidden = blinks && frame / CHARACTER_BLINK & 1;
    font_tables(r, font);
    for (unsigned n = 0; n <= m->columns; n++) {
        unsigned offset = vga_line_offset(l, n);
        u8 character = vram[4 * offset], attribute = vram[4 * offset + 1];
        unsigned glyph_offset = font[attribute >> 3 & 1] + character * GLYPH_BYTES + l->scan;
        unsigned dots = widen(r, character, vram[4 * (glyph_offset & m->wrap) + 2]);
        if (hidden && attribute & ATTR_BLINKS)
            dots = 0;
        if (underlined(r, l->scan, attribute) || (cursor_line && offset == cursor))
            dots = 0x1ff;
        u32 colour[2] = {palette[attribute >> 4 & (blinks ? 7 : 15)], palette[attribute & 15]};
        for (unsigned i = 0; i < m->dots; i++)
            for (unsigned k = 0; k < m->repeat; k++)
                *out++ = colour[dots >> (8 - i) & 1];
    }
}

/* --- as cells --- */

static bool make_room(struct text_screen *t, size_t cells)
{
    if (cells <= t->space)
        return true;
    u16 *cell = realloc(t->cell, cells * sizeof(*cell));
    if (!cell)
        return false;
    t->cell = cell;
    t->space = cells;
    return true;
}

bool vga_text_cells(const struct vga_regs *r, const struct vga_mode *m, const u8 *vram,
                    struct text_screen *t)
{
    if (m->kind != VGA_TEXT)
        return false;
    unsigned rows = (m->height >> m->line_shift) / m->row_lines;
    rows = MIN(MAX(rows, 1), TEXT_CELLS_MAX / m->columns);
    if (!make_room(t, (size_t)rows * m->columns))
        return false;
    t->columns = m->columns;
    t->rows = rows;
    t->cursor = -1;
    bool blinks = r->attr[ATTR_MODE] & ATTR_BLINK;
    unsigned cursor = cursor_offset(r) & m->wrap;
    for (unsigned y = 0; y < rows; y++)
        for (unsigned x = 0; x < m->columns; x++) {
            unsigned i = y * m->columns + x;
            unsigned offset = (m->start + y * m->pitch + x) & m->wrap;
            u8 attribute = vram[4 * offset + 1] & (blinks ? 0x7f : 0xff);
            t->cell[i] = (u16)(vram[4 * offset] | attribute << 8);
            if (offset == cursor && cursor_enabled(r))
                t->cursor = (int)i;
        }
    vga_palette(r, t->palette);
    return true;
}
