/*
 * The inside of the VGA, shared by its files: vga.c (registers, ports, life), vga_dispi.c (Bochs
 * VBE extensions), vga_mem.c (the window at 0xa0000), vga_mode.c (what the registers say about the
 * picture), vga_draw.c (graphics), vga_text.c (text).
 *
 * Video memory is laid out as on QEMU's: byte `offset` of plane p is at 4 * offset + p. What the
 * real chip does by spreading addresses (odd/even, chain 4, and the CRTC's word and doubleword
 * modes to match) is done by packing them: CPU address A of chain-4 memory is byte A, so that a
 * frame buffer with a byte per pixel is plain memory.
 */
#ifndef RINGER_DEV_VGA_INTERNAL_H
#define RINGER_DEV_VGA_INTERNAL_H

#include <pthread.h>

#include "dev/vga.h"

#define VGA_MEMORY       (16 * MIB)
#define VGA_PLANE        0x10000U /* bytes of a plane, without the extensions */
#define VGA_WINDOW       0xa0000U
#define VGA_WINDOW_SIZE  0x20000U
#define VGA_WINDOW_PLAIN 0x10000U /* the part that plain memory is laid over */

/* Sequencer. */
#define SEQ_COUNT       8
#define SEQ_CLOCKING    1
#define SEQ_MAP_MASK    2
#define SEQ_CHAR_MAP    3
#define SEQ_MEMORY      4
#define CLOCKING_8_DOTS 0x01
#define CLOCKING_HALF   0x08 /* dot clock divided by 2 */
#define CLOCKING_OFF    0x20
#define MEMORY_NO_ODDEV 0x04
#define MEMORY_CHAIN4   0x08

/* Graphics controller. */
#define GFX_COUNT           9
#define GFX_SET_RESET       0
#define GFX_ENABLE_SR       1
#define GFX_COMPARE         2
#define GFX_ROTATE          3
#define GFX_READ_MAP        4
#define GFX_MODE            5
#define GFX_MISC            6
#define GFX_DONT_CARE       7
#define GFX_BIT_MASK        8
#define MODE_READ_COMPARE   0x08
#define MODE_READ_ODDEV     0x10
#define MODE_SHIFT_CGA      0x20
#define MODE_SHIFT_256      0x40
#define MISC_GFX_GRAPHICS   0x01
#define MISC_GFX_CHAIN_ODEV 0x02

/* CRT controller. */
#define CRTC_COUNT         0x19
#define CRTC_H_TOTAL       0x00
#define CRTC_H_DISPLAY_END 0x01
#define CRTC_V_TOTAL       0x06
#define CRTC_OVERFLOW      0x07
#define CRTC_PRESET_ROW    0x08
#define CRTC_MAX_SCAN      0x09
#define CRTC_CURSOR_START  0x0a
#define CRTC_CURSOR_END    0x0b
#define CRTC_START_HIGH    0x0c
#define CRTC_START_LOW     0x0d
#define CRTC_CURSOR_HIGH   0x0e
#define CRTC_CURSOR_LOW    0x0f
#define CRTC_V_SYNC_START  0x10
#define CRTC_V_SYNC_END    0x11
#define CRTC_V_DISPLAY_END 0x12
#define CRTC_OFFSET        0x13
#define CRTC_UNDERLINE     0x14
#define CRTC_MODE          0x17
#define CRTC_LINE_COMPARE  0x18
#define CRTC_LATCH         0x22 /* read only: the graphics controller's latch */
#define CRTC_ATTR_STATE    0x24 /* read only: bit 7 is the attribute flip-flop */
#define CURSOR_OFF         0x20
#define SYNC_END_PROTECT   0x80
#define MAX_SCAN_DOUBLE    0x80
#define CRTC_MODE_NO_CGA   0x01 /* address bit 13 is not row scan bit 0 */
#define CRTC_MODE_NO_HGC   0x02 /* address bit 14 is not row scan bit 1 */
#define CRTC_MODE_V_HALF   0x04 /* vertical counters count every second line */
#define CRTC_MODE_BYTE     0x40

/* Attribute controller. */
#define ATTR_COUNT      0x15
#define ATTR_MODE       0x10
#define ATTR_PLANES     0x12
#define ATTR_PANNING    0x13
#define ATTR_SELECT     0x14
#define ATTR_VIDEO_ON   0x20 /* of the index register */
#define ATTR_LINE_GFX   0x04
#define ATTR_BLINK      0x08
#define ATTR_SPLIT_PAN  0x20 /* no panning below the line compare */
#define ATTR_SELECT_P54 0x80 /* the colour select register gives bits 4 and 5, too */

/* Miscellaneous output. */
#define MISC_COLOUR    0x01 /* CRTC at 0x3d4, not at 0x3b4 */
#define MISC_RAM       0x02
#define MISC_CLOCK     0x0c
#define MISC_CLOCK_28M 0x04

/* Input status 1. */
#define STATUS_DISPLAY_OFF 0x01
#define STATUS_RETRACE     0x08

/* Bochs VBE extensions. */
enum {
    DISPI_ID,
    DISPI_XRES,
    DISPI_YRES,
    DISPI_BPP,
    DISPI_ENABLE,
    DISPI_BANK,
    DISPI_VIRT_WIDTH,
    DISPI_VIRT_HEIGHT,
    DISPI_X_OFFSET,
    DISPI_Y_OFFSET,
    DISPI_COUNT,
    DISPI_MEMORY_64K = DISPI_COUNT
};
#define DISPI_ENABLED  0x01
#define DISPI_GETCAPS  0x02
#define DISPI_8BIT_DAC 0x20
#define DISPI_LFB      0x40
#define DISPI_NOCLEAR  0x80

struct vga_regs {
    u8 misc, feature;
    u8 seq_index, gfx_index, crtc_index, attr_index; /* attr_index: with ATTR_VIDEO_ON */
    u8 seq[SEQ_COUNT], gfx[GFX_COUNT], crtc[CRTC_COUNT], attr[ATTR_COUNT];
    bool attr_data; /* the flip-flop: the next write to 0x3c0 is data */
    u32 latch;      /* plane p in byte p */
    u8 dac_mask, dac_state, dac_read, dac_write, dac_part;
    u8 dac_pending[3];
    u8 dac[256][3]; /* red, green, blue */
    u16 dispi_index, dispi[DISPI_COUNT];
    bool big_endian;
};

struct vga {
    pthread_mutex_t lock; /* for all below; held by the buses during callbacks */
    struct clock *clock;
    struct guest_mem *mem;
    u8 *vram;
    u64 vram_offset; /* from guestmem_ram(), for code tracking */
    struct mem_region *bar_memory, *bar_registers, *legacy, *plain;
    struct vga_regs r;
    bool plain_wanted, plain_placed; /* the window at 0xa0000 is equal to plain memory */
    unsigned plain_accesses;         /* that were callbacks nevertheless */
    u32 plain_offset;                /* what it shows */
};

/* --- vga.c --- */
/* Ports 0x3b4 to 0x3da, one byte. */
u8 vga_port_read(struct vga *v, u16 port);
void vga_port_write(struct vga *v, u16 port, u8 value);

/* --- vga_dispi.c --- */
extern const struct port_ops vga_dispi_ports;
extern const struct mmio_ops vga_register_ops; /* BAR 2 */
void vga_dispi_reset(struct vga_regs *r);

/* The screen is the extensions'. */
static inline bool dispi_on(const struct vga_regs *r)
{
    return r->dispi[DISPI_ENABLE] & DISPI_ENABLED;
}

/* It is, and not planar. */
static inline bool dispi_packed(const struct vga_regs *r)
{
    return dispi_on(r) && r->dispi[DISPI_BPP] != 4;
}

/* --- vga_mem.c --- */
extern const struct mmio_ops vga_memory_ops; /* the window at 0xa0000 */
/* After each change of a register that the window depends on. */
void vga_update_window(struct vga *v);

/* --- vga_mode.c --- */
/* The picture that the registers ask for. */
struct vga_mode {
    enum { VGA_BLANK, VGA_TEXT, VGA_PLANAR, VGA_CGA, VGA_256, VGA_PACKED } kind;
    unsigned width, height; /* pixels of the screen, within SCREEN_MAX_* */
    unsigned columns;       /* characters, or groups of plane bytes, in a line */
    unsigned dots;          /* of a character: 8 or 9 */
    unsigned repeat;        /* screen pixels that a dot (256 colours: a pixel) is wide */
    unsigned start, pitch;  /* plane offset of the first row; distance of rows */
    unsigned wrap;          /* mask of plane offsets */
    unsigned row_lines;     /* lines of a row: of a character cell, say */
    unsigned line_shift;    /* counters count lines >> this: double scan */
    unsigned preset;        /* first line of the first row */
    unsigned split;         /* line after which plane offset 0 is shown */
    unsigned panning;       /* dots to the left */
    bool split_panning;     /* the part below the split is panned, too */
};

struct vga_mode vga_mode_of(const struct vga_regs *r);
/* Where the beam is at this time: the two bits of input status 1. */
u8 vga_retrace_bits(const struct vga_regs *r, u64 now_ns);
/* Frames since time 0, for what blinks. */
u64 vga_frame(const struct vga_regs *r, u64 now_ns);

/* Walks over the picture's lines: where in the planes each one begins. */
struct vga_line {
    const struct vga_regs *r;
    const struct vga_mode *m;
    unsigned y;             /* of the screen */
    unsigned row;           /* plane offset of the row */
    unsigned scan;          /* line within the row */
    unsigned repeated;      /* times that this scan has been shown before */
    unsigned panning;       /* as in the mode */
    unsigned replace, with; /* bits of plane offsets that the scan decides */
};

/* Plane offset of column n. */
static inline unsigned vga_line_offset(const struct vga_line *l, unsigned n)
{
    return (((l->row + n) & ~l->replace) | l->with) & l->m->wrap;
}

struct vga_line vga_first_line(const struct vga_regs *r, const struct vga_mode *m);
void vga_next_line(struct vga_line *l);

/* Colours, 0x00RRGGBB: of the DAC; of the 16 that the attribute controller makes. */
void vga_dac_colours(const struct vga_regs *r, u32 colour[256]);
void vga_palette(const struct vga_regs *r, u32 colour[16]);

/* --- vga_draw.c, vga_text.c --- */
/* The longest line with what panning needs. */
#define VGA_LINE_MAX (SCREEN_MAX_WIDTH + 64)

/* One line of text into out: m->columns + 1 characters. */
void vga_text_line(const struct vga_line *l, const u8 *vram, u64 frame, const u32 palette[16],
                   u32 *out);
bool vga_text_cells(const struct vga_regs *r, const struct vga_mode *m, const u8 *vram,
                    struct text_screen *t);
bool vga_draw_screen(const struct vga_regs *r, const u8 *vram, u64 frame, struct screen *s);

#endif
