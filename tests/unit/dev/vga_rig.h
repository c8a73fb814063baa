/*
 * A VGA on its buses, and standard modes as tables of registers, as a VGA BIOS has them.
 */
#ifndef TESTS_DEV_VGA_RIG_H
#define TESTS_DEV_VGA_RIG_H

#include "rig.h"

#include "dev/pci.h"
#include "dev/vga.h"
#include "mem/guestmem.h"

#define DEVFN      PCI_DEVFN(2, 0)
#define LFB        0xe0000000ULL
#define BAR2       0xe1000000ULL
#define PALETTE(i) ((u32)(i)*0x010204 & 0xfcfcfc) /* what vga_palette_set() loads as colour i */

struct vga_rig {
    struct rig rig;
    struct guest_mem *gm;
    struct reset_ports *reset_ports;
    struct pci_bus *pci;
    struct vga *vga;
    struct display_source display;
    struct screen screen;
};

struct vga_table {
    u8 misc, seq[5], crtc[25], gfx[9], attr[21];
};

static const struct vga_table mode_text = {
    0x67,
    {0x03, 0x00, 0x03, 0x00, 0x02},
    {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x0c, 0x00, 0x0f, 0x08, 0x00}};
/* 640x480, 16 colours */
static const struct vga_table mode_12h = {
    0xe3,
    {0x03, 0x01, 0x0f, 0x00, 0x06},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0xea, 0x8c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0f, 0xff},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x01, 0x00, 0x0f, 0x00, 0x00}};
/* 320x200, 16 colours: half the dots, each line twice */
static const struct vga_table mode_0dh = {
    0x63,
    {0x03, 0x09, 0x0f, 0x00, 0x06},
    {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc0, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x14, 0x00, 0x96, 0xb9, 0xe3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0f, 0xff},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x01, 0x00, 0x0f, 0x00, 0x00}};
/* 320x200, 256 colours */
static const struct vga_table mode_13h = {
    0x63,
    {0x03, 0x01, 0x0f, 0x00, 0x0e},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0f, 0xff},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x41, 0x00, 0x0f, 0x00, 0x00}};
/* "Mode X": 320x240, 256 colours, unchained */
static const struct vga_table mode_x = {
    0xe3,
    {0x03, 0x01, 0x0f, 0x00, 0x06},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0d, 0x3e, 0x00, 0x41, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0xea, 0xac, 0xdf, 0x28, 0x00, 0xe7, 0x06, 0xe3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0f, 0xff},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x41, 0x00, 0x0f, 0x00, 0x00}};
/* CGA: 320x200, 4 colours */
static const struct vga_table mode_4 = {
    0x63,
    {0x03, 0x09, 0x03, 0x00, 0x02},
    {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x14, 0x00, 0x96, 0xb9, 0xa2, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0f, 0x00, 0xff},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x01, 0x00, 0x03, 0x00, 0x00}};
/* CGA: 640x200, 2 colours */
static const struct vga_table mode_6 = {
    0x63,
    {0x03, 0x01, 0x01, 0x00, 0x06},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x00, 0x96, 0xb9, 0xc2, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0d, 0x00, 0xff},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x01, 0x00, 0x01, 0x00, 0x00}};

static inline void vga_rig_init(struct vga_rig *v)
{
    struct error err;
    memset(v, 0, sizeof(*v));
    rig_init(&v->rig);
    assert_int_equal(guestmem_create(2 * MIB, &v->gm, &err), 0);
    assert_int_equal(reset_ports_create(&v->rig.power, &v->reset_ports, &err), 0);
    assert_int_equal(pci_create(v->reset_ports, &v->pci, &err), 0);
    assert_int_equal(pci_attach(v->pci, v->rig.bus, &err), 0);
    assert_int_equal(vga_create(v->gm, v->rig.clock, &v->vga, &err), 0);
    assert_int_equal(vga_attach(v->vga, v->rig.bus, v->pci, DEVFN, &err), 0);
    v->display = vga_display(v->vga);
}

static inline void vga_rig_done(struct vga_rig *v)
{
    free(v->screen.pixels);
    vga_destroy(v->vga);
    pci_destroy(v->pci);
    reset_ports_destroy(v->reset_ports);
    guestmem_destroy(v->gm);
    rig_done(&v->rig);
}

/* An index and its data register. */
static inline void vga_set(struct vga_rig *v, unsigned port, unsigned index, unsigned value)
{
    out16(&v->rig, port, index | value << 8);
}

static inline void vga_attr(struct vga_rig *v, unsigned index, unsigned value)
{
    in8(&v->rig, 0x3da);
    out8(&v->rig, 0x3c0, index);
    out8(&v->rig, 0x3c0, value);
    out8(&v->rig, 0x3c0, 0x20);
}

/* Colours that differ from each other. */
static inline void vga_palette_set(struct vga_rig *v)
{
    out8(&v->rig, 0x3c8, 0);
    for (unsigned i = 0; i < 256; i++)
        for (unsigned k = 0; k < 3; k++)
            out8(&v->rig, 0x3c9, PALETTE(i) >> (18 - 8 * k) & 0x3f);
}

static inline void vga_mode(struct vga_rig *v, const struct vga_table *t)
{
    out8(&v->rig, 0x3c2, t->misc);
    for (unsigned i = 0; i < 5; i++)
        vga_set(v, 0x3c4, i, t->seq[i]);
    vga_set(v, 0x3d4, 0x11, 0);
    for (unsigned i = 0; i < 25; i++)
        vga_set(v, 0x3d4, i, t->crtc[i]);
    for (unsigned i = 0; i < 9; i++)
        vga_set(v, 0x3ce, i, t->gfx[i]);
    for (unsigned i = 0; i < 21; i++)
        vga_attr(v, i, t->attr[i]);
    vga_palette_set(v);
}

static inline void poke(struct vga_rig *v, u64 gpa, u64 value, unsigned size)
{
    guestmem_store(v->gm, gpa, value, size, NULL);
}

static inline u64 peek(struct vga_rig *v, u64 gpa, unsigned size)
{
    return guestmem_load(v->gm, gpa, size, NULL);
}

static inline bool vga_draw(struct vga_rig *v)
{
    return v->display.draw(v->display.ctx, &v->screen);
}

static inline u32 pixel(const struct vga_rig *v, unsigned x, unsigned y)
{
    assert_true(x < v->screen.width && y < v->screen.height);
    return v->screen.pixels[y * v->screen.width + x];
}

/* What the DAC makes of PALETTE(i): 6 bits widened to 8. */
static inline u32 colour(unsigned i)
{
    u32 p = PALETTE(i);
    return p | (p >> 6 & 0x030303);
}

static inline u32 pci_config(struct vga_rig *v, unsigned offset)
{
    out32(&v->rig, 0xcf8, 0x80000000U | DEVFN << 8 | offset);
    return in32(&v->rig, 0xcfc);
}

static inline void pci_config_set(struct vga_rig *v, unsigned offset, u32 value)
{
    out32(&v->rig, 0xcf8, 0x80000000U | DEVFN << 8 | offset);
    out32(&v->rig, 0xcfc, value);
}

static inline void vga_place_bars(struct vga_rig *v)
{
    pci_config_set(v, 0x10, LFB);
    pci_config_set(v, 0x18, BAR2);
    pci_config_set(v, 0x04, 2);
}

static inline void dispi(struct vga_rig *v, unsigned index, unsigned value)
{
    out16(&v->rig, 0x1ce, index);
    out16(&v->rig, 0x1cf, value);
}

static inline unsigned dispi_get(struct vga_rig *v, unsigned index)
{
    out16(&v->rig, 0x1ce, index);
    return in16(&v->rig, 0x1cf);
}

/* As a VGA BIOS does it. */
static inline void dispi_mode(struct vga_rig *v, unsigned width, unsigned height, unsigned bpp)
{
    dispi(v, 4, 0);
    dispi(v, 1, width);
    dispi(v, 2, height);
    dispi(v, 3, bpp);
    dispi(v, 4, 0x41);
    in8(&v->rig, 0x3da);
    out8(&v->rig, 0x3c0, 0x20);
}

#endif
