/*
 * The VGA's registers as the ports show them, and its life. What the registers mean is elsewhere:
 * for the CPU's accesses in vga_mem.c, for the picture in vga_mode.c and vga_draw.c. Nothing here
 * runs by itself: the picture is drawn when somebody asks for it, and the retrace bits are computed
 * from the time when they are read.
 */
#include "dev/vga_internal.h"

#include <errno.h>
#include <stdlib.h>

#define PORT_CRTC_MONO      0x3b4
#define PORT_STATUS1_MONO   0x3ba
#define PORT_ATTR           0x3c0
#define PORT_ATTR_READ      0x3c1
#define PORT_MISC_WRITE     0x3c2 /* read: input status 0 */
#define PORT_SEQ            0x3c4
#define PORT_SEQ_DATA       0x3c5
#define PORT_DAC_MASK       0x3c6
#define PORT_DAC_READ       0x3c7 /* read: state */
#define PORT_DAC_WRITE      0x3c8
#define PORT_DAC_DATA       0x3c9
#define PORT_FEATURE_READ   0x3ca
#define PORT_MISC_READ      0x3cc
#define PORT_GFX            0x3ce
#define PORT_GFX_DATA       0x3cf
#define PORT_CRTC_COLOUR    0x3d4
#define PORT_STATUS1_COLOUR 0x3da
#define PORT_DISPI          0x1ce

#define VENDOR_ID   0x1234
#define DEVICE_ID   0x1111
#define CLASS_VGA   0x030000
#define REVISION    2 /* has the registers at BAR 2 + 0x600 */
#define BAR2_SIZE   4096
#define DAC_READING 3

/* Bits that there are. */
static const u8 seq_mask[SEQ_COUNT] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0x00, 0x00, 0xff};
static const u8 gfx_mask[GFX_COUNT] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};

static u8 attr_mask(unsigned index)
{
    static const u8 mask[] = {0xef, 0xff, 0x3f, 0x0f, 0x0f};
    return index < ATTR_MODE ? 0x3f : mask[index - ATTR_MODE];
}

/* --- DAC --- */

static void dac_seek(struct vga_regs *r, u8 index, bool reading)
{
    if (reading)
        r->dac_read = index;
    else
        r->dac_write = index;
    r->dac_state = reading ? DAC_READING : 0;
    r->dac_part = 0;
}

static u8 dac_read(struct vga_regs *r)
{
    u8 value = r->dac[r->dac_read][r->dac_part];
    if (++r->dac_part == 3) {
        r->dac_part = 0;
        r->dac_read++;
    }
    return r->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC ? value : value & 0x3f;
}

/* A colour changes as a whole. */
static void dac_write(struct vga_regs *r, u8 value)
{
    r->dac_pending[r->dac_part] = value;
    if (++r->dac_part < 3)
        return;
    r->dac_part = 0;
    memcpy(r->dac[r->dac_write++], r->dac_pending, 3);
}

/* --- attribute controller --- */

static void attr_write(struct vga_regs *r, u8 value)
{
    unsigned index = r->attr_index & 0x1f;
    if (!r->attr_data)
        r->attr_index = value & 0x3f;
    else if (index < ATTR_COUNT)
        r->attr[index] = value & attr_mask(index);
    r->attr_data = !r->attr_data;
}

static u8 attr_read(const struct vga_regs *r)
{
    unsigned index = r->attr_index & 0x1f;
    return index < ATTR_COUNT ? r->attr[index] : 0;
}

/* --- CRT controller --- */

static u8 crtc_read(const struct vga_regs *r)
{
    unsigned index = r->crtc_index;
    if (index < CRTC_COUNT)
        return r->crtc[index];
    if (index == CRTC_LATCH)
        return (u8)(r->latch >> 8 * (r->gfx[GFX_READ_MAP] & 3));
    if (index == CRTC_ATTR_STATE)
        return r->attr_data ? 0x80 : 0;
    return 0;
}

static void crtc_write(struct vga_regs *r, u8 value)
{
    unsigned index = r->crtc_index;
    if (index >= CRTC_COUNT)
        return;
    if ((r->crtc[CRTC_V_SYNC_END] & SYNC_END_PROTECT) && index <= CRTC_OVERFLOW) {
        if (index == CRTC_OVERFLOW) /* but for bit 8 of the line compare */
            r->crtc[index] = (r->crtc[index] & ~0x10) | (value & 0x10);
        return;
    }
    r->crtc[index] = value;
}

/* --- ports --- */

/* CRTC, input status 1 and feature control are at 0x3bX or 0x3dX. */
static bool not_here(const struct vga_regs *r, u16 port)
{
    bool colour = r->misc & MISC_COLOUR;
    return (port < PORT_ATTR && colour) || (port >= PORT_CRTC_COLOUR && !colour);
}

u8 vga_port_read(struct vga *v, u16 port)
{
    struct vga_regs *r = &v->r;
    /* SeaBIOS's VGA BIOS counts on this at 0x3da when it has just set a monochrome mode. */
    if (port == PORT_STATUS1_MONO || port == PORT_STATUS1_COLOUR)
        r->attr_data = false;
    if (not_here(r, port))
        return 0xff;
    switch (port) {
    case PORT_CRTC_MONO:
    case PORT_CRTC_COLOUR:
        return r->crtc_index;
    case PORT_CRTC_MONO + 1:
    case PORT_CRTC_COLOUR + 1:
        return crtc_read(r);
    case PORT_STATUS1_MONO:
    case PORT_STATUS1_COLOUR:
        return vga_retrace_bits(r, clock_now(v->clock));
    case PORT_ATTR:
        return r->attr_index;
    case PORT_ATTR_READ:
        return attr_read(r);
    case PORT_MISC_WRITE:
        return 0; /* input status 0: no interrupt; a monitor that loads no line */
    case PORT_SEQ:
        return r->seq_index;
    case PORT_SEQ_DATA:
        return r->seq[r->seq_index];
    case PORT_DAC_MASK:
        return r->dac_mask;
    case PORT_DAC_READ:
        return r->dac_state;
    case PORT_DAC_WRITE:
        return r->dac_write;
    case PORT_DAC_DATA:
        return dac_read(r);
    case PORT_FEATURE_READ:
        return r->feature;
    case PORT_MISC_READ:
        return r->misc;
    case PORT_GFX:
        return r->gfx_index;
    case PORT_GFX_DATA:
        return r->gfx_index < GFX_COUNT ? r->gfx[r->gfx_index] : 0;
    default:
        return 0xff;
    }
}

/* Those that decide about the CPU's accesses. */
static void memory_register_write(struct vga *v, u16 port, u8 value)
{
    struct vga_regs *r = &v->r;
    if (port == PORT_MISC_WRITE)
        r->misc = value;
    else if (port == PORT_SEQ_DATA)
        r->seq[r->seq_index] = value & seq_mask[r->seq_index];
    else if (r->gfx_index < GFX_COUNT)
        r->gfx[r->gfx_index] = value & gfx_mask[r->gfx_index];
    vga_update_window(v);
}

void vga_port_write(struct vga *v, u16 port, u8 value)
{
    struct vga_regs *r = &v->r;
    if (not_here(r, port))
        return;
    switch (port) {
    case PORT_CRTC_MONO:
    case PORT_CRTC_COLOUR:
        r->crtc_index = value & 0x3f;
        break;
    case PORT_CRTC_MONO + 1:
    case PORT_CRTC_COLOUR + 1:
        crtc_write(r, value);
        break;
    case PORT_STATUS1_MONO:
    case PORT_STATUS1_COLOUR:
        r->feature = value & 0x0b;
        break;
    case PORT_ATTR:
        attr_write(r, value);
        break;
    case PORT_SEQ:
        r->seq_index = value & 7;
        break;
    case PORT_DAC_MASK:
        r->dac_mask = value;
        break;
    case PORT_DAC_READ:
    case PORT_DAC_WRITE:
        dac_seek(r, value, port == PORT_DAC_READ);
        break;
    case PORT_DAC_DATA:
        dac_write(r, value);
        break;
    case PORT_GFX:
        r->gfx_index = value & 0x0f;
        break;
    case PORT_MISC_WRITE:
    case PORT_SEQ_DATA:
    case PORT_GFX_DATA:
        memory_register_write(v, port, value);
        break;
    }
}

static u32 ports_in(void *ctx, u16 port, unsigned size)
{
    (void)size;
    return vga_port_read(ctx, port);
}

static void ports_out(void *ctx, u16 port, u32 value, unsigned size)
{
    (void)size;
    vga_port_write(ctx, port, (u8)value);
}

static const struct port_ops vga_ports = {ports_in, ports_out};

/* --- what the user sees --- */

static struct vga_regs registers_now(struct vga *v, u64 *frame)
{
    pthread_mutex_lock(&v->lock);
    struct vga_regs r = v->r;
    pthread_mutex_unlock(&v->lock);
    *frame = vga_frame(&r, clock_now(v->clock));
    return r;
}

/* Memory is read while the guest writes, as a monitor would. */
static bool draw(void *ctx, struct screen *s)
{
    struct vga *v = ctx;
    u64 frame;
    struct vga_regs r = registers_now(v, &frame);
    return vga_draw_screen(&r, v->vram, frame, s);
}

static bool text(void *ctx, struct text_screen *t)
{
    struct vga *v = ctx;
    u64 frame;
    struct vga_regs r = registers_now(v, &frame);
    struct vga_mode m = vga_mode_of(&r);
    return vga_text_cells(&r, &m, v->vram, t);
}

struct display_source vga_display(struct vga *v)
{
    return (struct display_source){.draw = draw, .text = text, .ctx = v};
}

/* --- life --- */

void vga_reset(struct vga *v)
{
    pthread_mutex_lock(&v->lock);
    memset(&v->r, 0, sizeof(v->r));
    v->r.dac_mask = 0xff;
    vga_dispi_reset(&v->r);
    vga_update_window(v);
    pthread_mutex_unlock(&v->lock);
}

static int create_regions(struct vga *v, struct error *err)
{
    struct guest_mem *gm = v->mem;
    int rc;
    if ((rc = mem_region_memory(gm, LAYER_BUS, VGA_MEMORY, false, &v->vram, &v->bar_memory, err)) <
            0 ||
        (rc = mem_region_mmio(gm, LAYER_BUS, BAR2_SIZE, &vga_register_ops, v, &v->lock,
                              &v->bar_registers, err)) < 0 ||
        (rc = mem_region_mmio(gm, LAYER_BOARD, VGA_WINDOW_SIZE, &vga_memory_ops, v, &v->lock,
                              &v->legacy, err)) < 0)
        return rc;
    v->vram_offset = (u64)(v->vram - guestmem_ram(gm));
    return mem_region_window(gm, LAYER_BOARD, VGA_WINDOW_PLAIN, &v->plain, err);
}

int vga_create(struct guest_mem *gm, struct clock *clock, struct vga **out, struct error *err)
{
    struct vga *v = calloc(1, sizeof(*v));
    if (!v)
        return error_set(err, ENOMEM, "no memory for the VGA");
    pthread_mutex_init(&v->lock, NULL);
    v->clock = clock;
    v->mem = gm;
    int rc = create_regions(v, err);
    if (rc < 0) {
        vga_destroy(v);
        return rc;
    }
    vga_reset(v);
    *out = v;
    return 0;
}

void vga_destroy(struct vga *v)
{
    if (!v)
        return;
    pthread_mutex_destroy(&v->lock);
    free(v);
}

int vga_attach(struct vga *v, struct port_bus *ports, struct pci_bus *pci, u8 devfn,
               struct error *err)
{
    static const struct {
        u16 first, count;
    } ranges[] = {{PORT_CRTC_MONO, 2},
                  {PORT_STATUS1_MONO, 1},
                  {PORT_ATTR, 16},
                  {PORT_CRTC_COLOUR, 2},
                  {PORT_STATUS1_COLOUR, 1}};
    int rc;
    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++) {
        rc = portbus_add(ports, ranges[i].first, ranges[i].count, &vga_ports, v, &v->lock, false,
                         err);
        if (rc < 0)
            return rc;
    }
    rc = portbus_add(ports, PORT_DISPI, 4, &vga_dispi_ports, v, &v->lock, true, err);
    if (rc < 0)
        return rc;
    struct pci_function f;
    pci_function_init(&f, VENDOR_ID, DEVICE_ID, CLASS_VGA, REVISION);
    pci_function_memory(&f, 0, VGA_MEMORY, v->bar_memory);
    pci_function_memory(&f, 2, BAR2_SIZE, v->bar_registers);
    mem_region_place(v->legacy, VGA_WINDOW);
    return pci_add_function(pci, devfn, &f, err);
}
