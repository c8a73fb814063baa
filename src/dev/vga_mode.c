/*
 * What the VGA's registers add up to: kind and size of the picture, where its lines are in memory,
 * its colours, and where the beam would be on a monitor.
 */
#include "dev/vga_internal.h"

/* A picture smaller than this is registers that nobody has set yet. */
#define SIZE_MIN     64
#define BLANK_WIDTH  640
#define BLANK_HEIGHT 400

/* --- geometry --- */

static unsigned half_clock(const struct vga_regs *r)
{
    return r->seq[SEQ_CLOCKING] & CLOCKING_HALF ? 1 : 0;
}

static unsigned half_lines(const struct vga_regs *r)
{
    return r->crtc[CRTC_MODE] & CRTC_MODE_V_HALF ? 1 : 0;
}

static unsigned character_dots(const struct vga_regs *r)
{
    return r->seq[SEQ_CLOCKING] & CLOCKING_8_DOTS ? 8 : 9;
}

/* A vertical count with its bits 8 and 9, which are in the overflow register. */
static unsigned vertical(const struct vga_regs *r, unsigned index, unsigned bit8, unsigned bit9)
{
    unsigned overflow = r->crtc[CRTC_OVERFLOW];
    return r->crtc[index] | (overflow >> bit8 & 1) << 8 | (overflow >> bit9 & 1) << 9;
}

static unsigned displayed_lines(const struct vga_regs *r)
{
    return vertical(r, CRTC_V_DISPLAY_END, 1, 6) + 1;
}

static unsigned line_compare(const struct vga_regs *r)
{
    return r->crtc[CRTC_LINE_COMPARE] | (r->crtc[CRTC_OVERFLOW] >> 4 & 1U) << 8 |
           (r->crtc[CRTC_MAX_SCAN] >> 6 & 1U) << 9;
}

static void set_kind(const struct vga_regs *r, struct vga_mode *m)
{
    if (!(r->gfx[GFX_MISC] & MISC_GFX_GRAPHICS))
        m->kind = VGA_TEXT;
    else if (r->gfx[GFX_MODE] & MODE_SHIFT_256)
        m->kind = VGA_256;
    else if (r->gfx[GFX_MODE] & MODE_SHIFT_CGA)
        m->kind = VGA_CGA;
    else
        m->kind = VGA_PLANAR;
}

static void set_panning(const struct vga_regs *r, struct vga_mode *m)
{
    unsigned value = r->attr[ATTR_PANNING] & 0x0f;
    if (m->kind == VGA_256)
        m->panning = value >> 1 & 3;
    else if (m->dots == 9)
        m->panning = value >= 8 ? 0 : value + 1;
    else
        m->panning = value & 7;
    m->split_panning = !(r->attr[ATTR_MODE] & ATTR_SPLIT_PAN);
}

static void set_lines(const struct vga_regs *r, struct vga_mode *m)
{
    unsigned half = half_lines(r);
    m->height = MIN(displayed_lines(r) << half, SCREEN_MAX_HEIGHT);
    m->row_lines = (r->crtc[CRTC_MAX_SCAN] & 0x1fU) + 1;
    m->line_shift = half + (r->crtc[CRTC_MAX_SCAN] & MAX_SCAN_DOUBLE ? 1 : 0);
    m->preset = r->crtc[CRTC_PRESET_ROW] & 0x1f;
    m->split = ((line_compare(r) + 1) << half) - 1;
}

static void vga_geometry(const struct vga_regs *r, struct vga_mode *m)
{
    set_kind(r, m);
    m->dots = m->kind == VGA_TEXT ? character_dots(r) : 8;
    m->repeat = (m->kind == VGA_256 ? 2 : 1) << half_clock(r);
    unsigned column = m->dots << half_clock(r);
    m->columns = MIN(r->crtc[CRTC_H_DISPLAY_END] + 1U, SCREEN_MAX_WIDTH / column);
    m->width = m->columns * column;
    unsigned byte_panning = r->crtc[CRTC_PRESET_ROW] >> 5 & 3;
    m->start = (r->crtc[CRTC_START_HIGH] << 8 | r->crtc[CRTC_START_LOW]) + byte_panning;
    m->pitch = r->crtc[CRTC_OFFSET] * 2;
    m->wrap = VGA_PLANE - 1;
    set_lines(r, m);
    set_panning(r, m);
    if (m->width < SIZE_MIN || m->height < SIZE_MIN) {
        m->kind = VGA_BLANK;
        m->width = BLANK_WIDTH;
        m->height = BLANK_HEIGHT;
    }
    if (r->seq[SEQ_CLOCKING] & CLOCKING_OFF)
        m->kind = VGA_BLANK;
}

static void dispi_geometry(const struct vga_regs *r, struct vga_mode *m)
{
    const u16 *d = r->dispi;
    unsigned start = d[DISPI_Y_OFFSET] * d[DISPI_VIRT_WIDTH] + d[DISPI_X_OFFSET];
    m->kind = dispi_packed(r) ? VGA_PACKED : VGA_PLANAR;
    m->width = d[DISPI_XRES];
    m->height = d[DISPI_YRES];
    m->columns = m->width / 8;
    m->dots = 8;
    m->repeat = m->row_lines = 1;
    m->start = start / 8;
    m->panning = start & 7;
    m->pitch = d[DISPI_VIRT_WIDTH] / 8;
    m->wrap = VGA_MEMORY / 4 - 1;
    m->split = ~0U;
}

struct vga_mode vga_mode_of(const struct vga_regs *r)
{
    struct vga_mode m = {.kind = VGA_BLANK};
    if (dispi_on(r))
        dispi_geometry(r, &m);
    else
        vga_geometry(r, &m);
    if (!(r->attr_index & ATTR_VIDEO_ON))
        m.kind = VGA_BLANK;
    return m;
}

/* --- lines --- */

/* CGA's and Hercules' interleaved lines: row scan bits in place of address bits 13 and 14; one
 * lower where the CRTC would address words. */
static void set_address_bits(struct vga_line *l)
{
    unsigned mode = l->r->crtc[CRTC_MODE];
    unsigned bit = mode & CRTC_MODE_BYTE ? 13 : 12;
    l->replace = l->with = 0;
    if (!(mode & CRTC_MODE_NO_CGA)) {
        l->replace |= 1U << bit;
        l->with |= (l->scan & 1) << bit;
    }
    if (!(mode & CRTC_MODE_NO_HGC)) {
        l->replace |= 2U << bit;
        l->with |= (l->scan & 2) << bit;
    }
}

struct vga_line vga_first_line(const struct vga_regs *r, const struct vga_mode *m)
{
    struct vga_line l = {.r = r,
                         .m = m,
                         .row = m->start,
                         .scan = m->preset < m->row_lines ? m->preset : 0,
                         .panning = m->panning};
    set_address_bits(&l);
    return l;
}

void vga_next_line(struct vga_line *l)
{
    const struct vga_mode *m = l->m;
    if (l->y++ == m->split) {
        l->row = l->scan = l->repeated = 0;
        if (!m->split_panning)
            l->panning = 0;
    } else if (++l->repeated >> m->line_shift) {
        l->repeated = 0;
        if (++l->scan == m->row_lines) {
            l->scan = 0;
            l->row += m->pitch;
        }
    }
    set_address_bits(l);
}

/* --- colours --- */

static u32 dac_colour(const struct vga_regs *r, unsigned index)
{
    const u8 *c = r->dac[index & r->dac_mask];
    u32 rgb = 0;
    for (unsigned i = 0; i < 3; i++) {
        u8 value = c[i];
        if (!(r->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC))
            value = (u8)(value << 2 | (value >> 4 & 3));
        rgb = rgb << 8 | value;
    }
    return rgb;
}

void vga_dac_colours(const struct vga_regs *r, u32 colour[256])
{
    for (unsigned i = 0; i < 256; i++)
        colour[i] = dac_colour(r, i);
}

void vga_palette(const struct vga_regs *r, u32 colour[16])
{
    unsigned select = r->attr[ATTR_SELECT];
    for (unsigned i = 0; i < 16; i++) {
        unsigned index = (select & 0x0c) << 4 | r->attr[i];
        if (r->attr[ATTR_MODE] & ATTR_SELECT_P54)
            index = (select & 0x0f) << 4 | (r->attr[i] & 0x0f);
        colour[i] = dac_colour(r, index);
    }
}

/* --- the beam --- */

struct timing {
    u64 line_ns, shown_ns; /* a line; the part of it that is shown */
    unsigned total, shown; /* lines of a frame; those that are shown */
    unsigned retrace, retrace_end;
};

/* 80x25 text: 31.5 kHz, 70 Hz. */
static const struct timing usual = {.line_ns = 31778,
                                    .shown_ns = 25422,
                                    .total = 449,
                                    .shown = 400,
                                    .retrace = 412,
                                    .retrace_end = 414};

static struct timing timing_of(const struct vga_regs *r)
{
    u64 hz = (r->misc & MISC_CLOCK) == MISC_CLOCK_28M ? 28322000 : 25175000;
    u64 columns = r->crtc[CRTC_H_TOTAL] + 5;
    u64 dots = columns * character_dots(r) << half_clock(r);
    struct timing t;
    t.line_ns = dots * NSEC_PER_SEC / hz << half_lines(r);
    t.shown_ns = MIN(t.line_ns * (r->crtc[CRTC_H_DISPLAY_END] + 1U) / columns, t.line_ns);
    t.total = vertical(r, CRTC_V_TOTAL, 0, 5) + 2;
    t.shown = displayed_lines(r);
    t.retrace = vertical(r, CRTC_V_SYNC_START, 2, 7);
    unsigned length = (r->crtc[CRTC_V_SYNC_END] - t.retrace) & 0x0f;
    t.retrace_end = t.retrace + (length ? length : 16);
    u64 frame_ns = t.line_ns * t.total;
    bool sane = frame_ns > NSEC_PER_SEC / 200 && frame_ns < NSEC_PER_SEC / 20 &&
                t.shown < t.total && t.retrace < t.total;
    return sane ? t : usual;
}

u8 vga_retrace_bits(const struct vga_regs *r, u64 now_ns)
{
    struct timing t = timing_of(r);
    unsigned line = (unsigned)(now_ns / t.line_ns % t.total);
    u8 status = 0;
    if (line >= t.shown || now_ns % t.line_ns >= t.shown_ns)
        status |= STATUS_DISPLAY_OFF;
    if (line >= t.retrace && line < t.retrace_end)
        status |= STATUS_RETRACE;
    return status;
}

u64 vga_frame(const struct vga_regs *r, u64 now_ns)
{
    struct timing t = timing_of(r);
    return now_ns / (t.line_ns * t.total);
}
