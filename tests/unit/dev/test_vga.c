/*
 * The VGA's registers, its window to video memory against a model that goes bit by bit, the regions
 * that it lays over memory, the Bochs extensions' registers, and the retrace bits.
 */
#include "vga_rig.h"

static int setup(void **state)
{
    struct vga_rig *v = calloc(1, sizeof(*v));
    vga_rig_init(v);
    *state = v;
    return 0;
}

static int teardown(void **state)
{
    vga_rig_done(*state);
    free(*state);
    return 0;
}

/* --- registers --- */

static void test_registers(void **state)
{
    struct vga_rig *v = *state;
    struct rig *r = &v->rig;
    static const u8 masks[] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
    for (unsigned i = 0; i < ARRAY_SIZE(masks); i++) {
        vga_set(v, 0x3ce, i, 0xff);
        assert_int_equal(in16(r, 0x3ce), i | masks[i] << 8);
    }
    out8(r, 0x3c2, 0x67);
    assert_int_equal(in8(r, 0x3cc), 0x67);
    vga_set(v, 0x3c4, 2, 0xff);
    assert_int_equal(in8(r, 0x3c5), 0x0f);
    out8(r, 0x3da, 3);
    assert_int_equal(in8(r, 0x3ca), 3);
    for (unsigned i = 0x19; i < 0x40; i++) { /* none there, or read only */
        vga_set(v, 0x3d4, i, 0x55);
        assert_int_equal(in8(r, 0x3d5), 0);
    }
    vga_attr(v, 0x1f, 0xff);
    assert_int_equal(in8(r, 0x3c1), 0);
}

/* Of 0x3b4 and 0x3d4 one is there. */
static void test_colour_or_mono(void **state)
{
    struct rig *r = &((struct vga_rig *)*state)->rig;
    out8(r, 0x3c2, 1);
    out8(r, 0x3d4, 0x0e);
    out8(r, 0x3b4, 0x0c);
    assert_int_equal(in8(r, 0x3d4), 0x0e);
    assert_int_equal(in8(r, 0x3b4), 0xff);
    assert_int_equal(in8(r, 0x3ba), 0xff);
    out8(r, 0x3c2, 0);
    assert_int_equal(in8(r, 0x3b4), 0x0e);
    assert_int_equal(in8(r, 0x3d4), 0xff);
    assert_int_not_equal(in8(r, 0x3ba), 0xff);
}

static void test_crtc_protection(void **state)
{
    struct vga_rig *v = *state;
    out8(&v->rig, 0x3c2, 1);
    vga_set(v, 0x3d4, 0x11, 0x80);
    for (unsigned i = 0; i < 8; i++) {
        vga_set(v, 0x3d4, i, 0xff);
        assert_int_equal(in8(&v->rig, 0x3d5), i == 7 ? 0x10 : 0); /* line compare's bit 8 */
    }
    vga_set(v, 0x3d4, 8, 0x12);
    assert_int_equal(in8(&v->rig, 0x3d5), 0x12);
    vga_set(v, 0x3d4, 0x11, 0);
    vga_set(v, 0x3d4, 0, 0x5f);
    assert_int_equal(in8(&v->rig, 0x3d5), 0x5f);
}

static void test_attribute_flip_flop(void **state)
{
    struct vga_rig *v = *state;
    struct rig *r = &v->rig;
    out8(r, 0x3c2, 1);
    in8(r, 0x3da);
    out8(r, 0x3c0, 0x11);
    out8(r, 0x3d4, 0x24);
    assert_int_equal(in8(r, 0x3d5), 0x80); /* data comes next */
    in8(r, 0x3da);
    assert_int_equal(in8(r, 0x3d5), 0);
    out8(r, 0x3c0, 0x02);
    out8(r, 0x3c0, 0x2a);
    assert_int_equal(in8(r, 0x3c0), 0x02);
    assert_int_equal(in8(r, 0x3c1), 0x2a);
    out8(r, 0x3c0, 0x11);
    assert_int_equal(in8(r, 0x3c1), 0); /* the overscan has kept its value */
    /* What SeaBIOS's VGA BIOS does after setting a monochrome mode. */
    out8(r, 0x3c2, 0);
    in8(r, 0x3da);
    out8(r, 0x3c0, 0x20);
    assert_int_equal(in8(r, 0x3c0), 0x20);
}

static void test_dac(void **state)
{
    struct rig *r = &((struct vga_rig *)*state)->rig;
    static const u8 rgb[] = {1, 2, 3, 0x3f, 0x3e, 0xff};
    out8(r, 0x3c8, 0xff); /* the index goes round */
    for (unsigned i = 0; i < 6; i++)
        out8(r, 0x3c9, rgb[i]);
    assert_int_equal(in8(r, 0x3c8), 1);
    assert_int_equal(in8(r, 0x3c7), 0);
    out8(r, 0x3c7, 0xff);
    assert_int_equal(in8(r, 0x3c7), 3);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(in8(r, 0x3c9), rgb[i] & 0x3f);
    out8(r, 0x3c8, 0);
    out8(r, 0x3c9, 7); /* two thirds of a colour change nothing */
    out8(r, 0x3c9, 7);
    out8(r, 0x3c7, 0);
    assert_int_equal(in8(r, 0x3c9), 0x3f);
    assert_int_equal(in8(r, 0x3c6), 0xff);
    out8(r, 0x3c6, 0x0f);
    assert_int_equal(in8(r, 0x3c6), 0x0f);
}

static void test_reset(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_13h);
    dispi(v, 4, 0x41);
    vga_reset(v->vga);
    assert_int_equal(in8(&v->rig, 0x3cc), 0);
    assert_int_equal(dispi_get(v, 4), 0);
    assert_int_equal(dispi_get(v, 0), 0xb0c5);
    assert_true(vga_draw(v));
    assert_int_equal(v->screen.width, 640);
    assert_int_equal(pixel(v, 0, 0), 0);
}

/* --- the window, against a model of four planes --- */

struct model {
    u8 plane[4][0x10000], latch[4];
    u8 map_mask, memory, gfx[9];
};

static bool model_bit(unsigned value, unsigned n)
{
    return value >> n & 1;
}

static u8 model_rotate(const struct model *m, u8 value)
{
    for (unsigned n = m->gfx[3] & 7; n > 0; n--)
        value = (u8)(value >> 1 | value << 7);
    return value;
}

/* One bit of one plane: what a write makes of it. */
static bool model_result(const struct model *m, unsigned plane, unsigned bit, u8 value)
{
    bool latch = model_bit(m->latch[plane], bit), set = model_bit(m->gfx[0], plane), data;
    unsigned mode = m->gfx[5] & 3;
    bool change = model_bit(m->gfx[8], bit);
    if (mode == 1)
        return latch;
    if (mode == 0)
        data = model_bit(m->gfx[1], plane) ? set : model_bit(model_rotate(m, value), bit);
    else if (mode == 2)
        data = model_bit(value, plane);
    else
        data = set;
    if (mode == 3)
        change = change && model_bit(model_rotate(m, value), bit);
    unsigned op = m->gfx[3] >> 3 & 3;
    data = op == 0 ? data : op == 1 ? data && latch : op == 2 ? data || latch : data != latch;
    return change ? data : latch;
}

static unsigned model_offset(const struct model *m, unsigned addr)
{
    return (m->memory & 8 ? addr >> 2 : m->gfx[6] & 2 ? addr >> 1 : addr) & 0xffff;
}

static void model_write(struct model *m, unsigned addr, u8 value)
{
    for (unsigned plane = 0; plane < 4; plane++) {
        bool writes = model_bit(m->map_mask, plane);
        if (m->memory & 8)
            writes = writes && plane == (addr & 3);
        else if (!(m->memory & 4))
            writes = writes && (plane & 1) == (addr & 1);
        u8 *byte = &m->plane[plane][model_offset(m, addr)], result = 0;
        for (unsigned bit = 0; bit < 8; bit++)
            result |= (u8)(model_result(m, plane, bit, value) << bit);
        if (writes)
            *byte = result;
    }
}

static u8 model_read(struct model *m, unsigned addr)
{
    unsigned plane = m->gfx[4] & 3;
    u8 result = 0;
    if (m->memory & 8)
        plane = addr & 3;
    else if (m->gfx[5] & 0x10)
        plane = (plane & 2) | (addr & 1);
    for (unsigned i = 0; i < 4; i++)
        m->latch[i] = m->plane[i][model_offset(m, addr)];
    if (!(m->gfx[5] & 8))
        return m->latch[plane];
    for (unsigned bit = 0; bit < 8; bit++) {
        bool same = true;
        for (unsigned i = 0; i < 4; i++)
            if (model_bit(m->gfx[7], i))
                same = same && model_bit(m->latch[i], bit) == model_bit(m->gfx[2], i);
        result |= (u8)(same << bit);
    }
    return result;
}

/* A register that matters changes, more often to what is usual. */
static void model_change(struct vga_rig *v, struct model *m)
{
    struct rig *r = &v->rig;
    u8 value = (u8)rig_random(r);
    unsigned n = rig_random(r) % 12;
    if (n < 9) {
        static const u8 masks[] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x1b, 0x02, 0x0f, 0xff};
        m->gfx[n] = value & masks[n];
        if (n == 6)
            m->gfx[n] |= 5; /* 64 KiB at 0xa0000, graphics */
        vga_set(v, 0x3ce, n, m->gfx[n]);
    } else if (n == 9) {
        m->memory = value & 0x0c;
        vga_set(v, 0x3c4, 4, m->memory);
    } else {
        m->map_mask = value & 0x0f;
        vga_set(v, 0x3c4, 2, m->map_mask);
    }
}

static void test_write_modes(void **state)
{
    struct vga_rig *v = *state;
    struct model *m = calloc(1, sizeof(*m));
    out8(&v->rig, 0x3c2, 0x63);
    m->gfx[6] = 5;
    m->gfx[8] = 0xff;
    vga_set(v, 0x3ce, 6, 5);
    vga_set(v, 0x3ce, 8, 0xff);
    for (unsigned i = 0; i < 200000; i++) {
        unsigned addr = rig_random(&v->rig) % 64;
        u8 value = (u8)rig_random(&v->rig);
        switch (rig_random(&v->rig) % 4) {
        case 0:
            model_change(v, m);
            break;
        case 1:
            assert_int_equal(peek(v, 0xa0000 + addr, 1), model_read(m, addr));
            out8(&v->rig, 0x3d4, 0x22); /* the latch of the read map */
            if (!(m->memory & 8) || (m->gfx[5] & 8))
                assert_int_equal(in8(&v->rig, 0x3d5), m->latch[m->gfx[4] & 3]);
            break;
        default:
            poke(v, 0xa0000 + addr, value, 1);
            model_write(m, addr, value);
        }
    }
    free(m);
}

/* Wide accesses are bytes, the lowest first. */
static void test_wide_accesses(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_12h);
    poke(v, 0xa0000, 0x8877665544332211, 8);
    assert_int_equal(peek(v, 0xa0000, 8), 0x8877665544332211);
    assert_int_equal(peek(v, 0xa0002, 2), 0x4433);
    assert_int_equal(peek(v, 0xa0007, 1), 0x88);
}

static void test_memory_maps(void **state)
{
    struct vga_rig *v = *state;
    static const struct {
        u32 first, end;
    } maps[] = {{0xa0000, 0xc0000}, {0xa0000, 0xb0000}, {0xb0000, 0xb8000}, {0xb8000, 0xc0000}};
    vga_mode(v, &mode_12h);
    for (unsigned n = 0; n < 4; n++) {
        vga_set(v, 0x3ce, 6, 1 | n << 2);
        for (u32 a = 0xa0000; a < 0xc0000; a += 0x4000) {
            poke(v, a, 0x5a, 1);
            bool there = a >= maps[n].first && a < maps[n].end;
            assert_int_equal(peek(v, a, 1), there ? 0x5a : 0xff);
        }
    }
    out8(&v->rig, 0x3c2, 0x61); /* the RAM is off */
    assert_int_equal(peek(v, 0xb8000, 1), 0xff);
}

/* --- plain memory over the window --- */

static bool is_memory(struct vga_rig *v, u64 gpa)
{
    return guestmem_hva(v->gm, gpa, 1, true);
}

static void touch(struct vga_rig *v, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        poke(v, 0xa1000 + i, i, 1);
}

static void test_plain_window(void **state)
{
    struct vga_rig *v = *state;
    static const struct {
        u16 port;
        u8 index, value, usual;
    } unusual[] = {{0x3c4, 2, 0x07, 0x0f}, {0x3c4, 4, 0x06, 0x0e}, {0x3ce, 1, 0x01, 0x00},
                   {0x3ce, 3, 0x08, 0x00}, {0x3ce, 5, 0x41, 0x40}, {0x3ce, 5, 0x48, 0x40},
                   {0x3ce, 6, 0x01, 0x05}, {0x3ce, 8, 0x7f, 0xff}};
    vga_mode(v, &mode_13h);
    assert_false(is_memory(v, 0xa0000)); /* setting a mode moves nothing */
    touch(v, 100);
    assert_true(is_memory(v, 0xa0000));
    assert_true(is_memory(v, 0xaffff));
    assert_false(is_memory(v, 0xb0000));
    for (unsigned i = 0; i < ARRAY_SIZE(unusual); i++) {
        vga_set(v, unusual[i].port, unusual[i].index, unusual[i].value);
        assert_false(is_memory(v, 0xa0000));
        touch(v, 100);
        assert_false(is_memory(v, 0xa0000));
        vga_set(v, unusual[i].port, unusual[i].index, unusual[i].usual);
        touch(v, 100);
        assert_true(is_memory(v, 0xa0000));
        for (unsigned k = 0; k < 100; k++)
            assert_int_equal(peek(v, 0xa1000 + k, 1), k);
    }
    vga_mode(v, &mode_text);
    assert_false(is_memory(v, 0xa0000));
    touch(v, 100);
    assert_false(is_memory(v, 0xa0000));
}

/* Another colour mode in between, and the window is another one when it comes back. */
static void test_banks(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_13h);
    vga_place_bars(v);
    dispi_mode(v, 800, 600, 16);
    for (unsigned bank = 0; bank < 256; bank++) {
        dispi(v, 5, bank);
        for (unsigned i = 0; i < 20; i++) /* by callbacks and by memory */
            poke(v, 0xa8000 + 4 * i, bank << 8 | i, 4);
        assert_int_equal(peek(v, LFB + bank * 0x10000 + 0x8004, 4), bank << 8 | 1);
        assert_true(is_memory(v, 0xa0000));
    }
    dispi(v, 5, 0x1ff); /* as many banks as there are */
    assert_int_equal(dispi_get(v, 5), 0xff);
    dispi(v, 4, 0x41); /* as QEMU does */
    assert_int_equal(dispi_get(v, 5), 0);
}

/* Code in video memory is not believed after a change by the VGA. */
static void test_code_in_video_memory(void **state)
{
    struct vga_rig *v = *state;
    vga_place_bars(v);
    vga_mode(v, &mode_12h);
    u32 version = code_protect(v->gm, LFB, 16);
    assert_true(code_verify(v->gm, LFB, 16, version));
    poke(v, 0xa0001, 1, 1);
    assert_int_not_equal(code_version(v->gm, LFB), version);
    version = code_protect(v->gm, LFB, 16);
    dispi_mode(v, 640, 480, 32);
    assert_int_not_equal(code_version(v->gm, LFB), version);
}

/* --- PCI and the extensions --- */

static void test_pci(void **state)
{
    struct vga_rig *v = *state;
    assert_int_equal(pci_config(v, 0), 0x11111234);
    assert_int_equal(pci_config(v, 8), 0x03000002);
    pci_config_set(v, 0x10, 0xffffffff);
    assert_int_equal(pci_config(v, 0x10), 0xff000000);
    pci_config_set(v, 0x18, 0xffffffff);
    assert_int_equal(pci_config(v, 0x18), 0xfffff000);
    vga_place_bars(v);
    poke(v, LFB + 16 * MIB - 4, 0x12345678, 4);
    assert_int_equal(peek(v, LFB + 16 * MIB - 4, 4), 0x12345678);
    pci_config_set(v, 0x04, 0);
    assert_int_equal(peek(v, LFB + 16 * MIB - 4, 4), 0xffffffff);
}

/* BAR 2: the VGA's ports, the extensions' registers, the byte order. */
static void test_bar2(void **state)
{
    struct vga_rig *v = *state;
    vga_place_bars(v);
    poke(v, BAR2 + 0x402, 0x01, 1);
    assert_int_equal(in8(&v->rig, 0x3cc), 1);
    poke(v, BAR2 + 0x40e, 0x5508, 2); /* graphics controller's bit mask */
    assert_int_equal(in16(&v->rig, 0x3ce), 0x5508);
    assert_int_equal(peek(v, BAR2 + 0x40c, 1), 1);
    assert_int_equal(peek(v, BAR2 + 0x500, 2), 0xb0c5);
    poke(v, BAR2 + 0x502, 1024 | 768 << 16, 4);
    poke(v, BAR2 + 0x506, 32, 2);
    poke(v, BAR2 + 0x508, 1, 2);
    assert_int_equal(dispi_get(v, 1), 1024);
    assert_int_equal(dispi_get(v, 2), 768);
    assert_int_equal(peek(v, BAR2 + 0x50c, 2), 1024);
    assert_int_equal(peek(v, BAR2 + 0x514, 2), 256);
    assert_int_equal(peek(v, BAR2 + 0x600, 4), 8);
    assert_int_equal(peek(v, BAR2 + 0x604, 4), 0x1e1e1e1e);
    poke(v, BAR2 + 0x604, 0xbebebebe, 4);
    assert_int_equal(peek(v, BAR2 + 0x604, 4), 0xbebebebe);
    poke(v, BAR2 + 0x604, 5, 4);
    assert_int_equal(peek(v, BAR2 + 0x604, 4), 0xbebebebe);
    assert_int_equal(peek(v, BAR2, 8), 0); /* no EDID */
    assert_int_equal(peek(v, BAR2 + 0xff8, 8), 0);
}

static void test_dispi_registers(void **state)
{
    struct vga_rig *v = *state;
    assert_int_equal(dispi_get(v, 0), 0xb0c5);
    dispi(v, 0, 0xb0c0);
    assert_int_equal(dispi_get(v, 0), 0xb0c0);
    dispi(v, 0, 0xb0c6);
    assert_int_equal(dispi_get(v, 0), 0xb0c0);
    assert_int_equal(dispi_get(v, 10), 256); /* times 64 KiB */
    assert_int_equal(dispi_get(v, 11), 0);
    dispi(v, 4, 2);
    assert_int_equal(dispi_get(v, 1), SCREEN_MAX_WIDTH);
    assert_int_equal(dispi_get(v, 2), SCREEN_MAX_HEIGHT);
    assert_int_equal(dispi_get(v, 3), 32);
    dispi_mode(v, 1000, 700, 32);
    assert_int_equal(dispi_get(v, 6), 1000);
    assert_int_equal(dispi_get(v, 7), 16 * MIB / 4000);
    dispi(v, 1, 0xffff); /* whatever it is, it fits */
    dispi(v, 2, 0xffff);
    dispi(v, 3, 99);
    assert_int_equal(dispi_get(v, 1), SCREEN_MAX_WIDTH);
    assert_int_equal(dispi_get(v, 2), SCREEN_MAX_HEIGHT);
    assert_int_equal(dispi_get(v, 3), 8);
    dispi(v, 1, 1003);
    assert_int_equal(dispi_get(v, 1), 1000);
    dispi(v, 3, 32);
    dispi(v, 6, 0x4000);
    assert_int_equal(dispi_get(v, 2), 256);
    dispi(v, 9, 1);
    assert_int_equal(dispi_get(v, 9), 0);
    assert_int_equal(port_in(v->rig.bus, 0x1d0, 2), 0); /* the data register once more */
    out32(&v->rig, 0x1ce, 6 | 2048 << 16);
    assert_int_equal(in32(&v->rig, 0x1ce), 6 | 2048 << 16);
}

static void test_dispi_clears(void **state)
{
    struct vga_rig *v = *state;
    vga_place_bars(v);
    for (unsigned keep = 0; keep < 2; keep++) {
        dispi(v, 4, 0);
        for (unsigned i = 0; i < 640 * 480 * 4; i += 4096)
            poke(v, LFB + i, 0x11223344, 4);
        poke(v, LFB + 640 * 480 * 4, 0x55, 1);
        dispi(v, 1, 640);
        dispi(v, 2, 480);
        dispi(v, 3, 32);
        dispi(v, 4, keep ? 0x81 : 0x01);
        for (unsigned i = 0; i < 640 * 480 * 4; i += 4096)
            assert_int_equal(peek(v, LFB + i, 4), keep ? 0x11223344 : 0);
        assert_int_equal(peek(v, LFB + 640 * 480 * 4, 1), 0x55);
    }
}

/* --- time --- */

/* A frame of 80x25 text: 449 lines of 31.78 us, of which 400 are shown, retrace in 2. */
static void test_retrace(void **state)
{
    struct vga_rig *v = *state;
    const struct vga_table *modes[] = {&mode_text, &mode_13h, &mode_12h};
    static const unsigned lines[] = {449, 449, 525}, shown[] = {400, 400, 480};
    for (unsigned m = 0; m < 3; m++) {
        vga_mode(v, modes[m]);
        unsigned off = 0, retrace = 0, pulses = 0, lines_begun = 0;
        u32 last = in8(&v->rig, 0x3da);
        const unsigned line_ns = 31778, step = 1000;
        u64 n = (u64)line_ns * lines[m] / step;
        for (u64 i = 0; i < n; i++) {
            clock_advance(v->rig.clock, step);
            u32 now = in8(&v->rig, 0x3da);
            assert_int_equal(now & ~9U, 0);
            if (now & 8)
                assert_true(now & 1);
            off += now & 1;
            retrace += now >> 3 & 1;
            pulses += (now & 8) && !(last & 8);
            lines_begun += !(now & 1) && (last & 1);
            last = now;
        }
        assert_in_range(pulses, 1, 2);
        assert_in_range(retrace, 60, 70);
        assert_in_range(lines_begun, shown[m] - 1, shown[m] + 1);
        assert_in_range(off, n - shown[m] * 26, n - shown[m] * 25);
    }
}

/* Software that waits for the retrace must not wait for ever, whatever the registers say. */
static void test_retrace_always_comes(void **state)
{
    struct vga_rig *v = *state;
    struct rig *r = &v->rig;
    for (unsigned i = 0; i < 300; i++) {
        out8(r, 0x3c2, 1 | (rig_random(r) & 0xfe));
        vga_set(v, 0x3c4, 1, rig_random(r) & 0xff);
        vga_set(v, 0x3d4, 0x11, rig_random(r) & 0x7f);
        for (unsigned k = 0; k < 25; k++)
            if (k != 0x11)
                vga_set(v, 0x3d4, k, rig_random(r) & 0xff);
        unsigned seen = 0;
        for (unsigned k = 0; k < 20000 && seen != 3; k++) {
            clock_advance(r->clock, 3701);
            seen |= in8(r, 0x3da) & 8 ? 1 : 2;
        }
        assert_int_equal(seen, 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_colour_or_mono, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crtc_protection, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attribute_flip_flop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dac, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_write_modes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wide_accesses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_maps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plain_window, setup, teardown),
        cmocka_unit_test_setup_teardown(test_banks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_code_in_video_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pci, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bar2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dispi_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dispi_clears, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retrace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retrace_always_comes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
