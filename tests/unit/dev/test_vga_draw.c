/*
 * What the VGA draws: modes set by tables of registers, memory written as the CPU does, and every
 * pixel compared with the one expected.
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

static void expect_size(struct vga_rig *v, unsigned width, unsigned height)
{
    assert_int_equal(v->screen.width, width);
    assert_int_equal(v->screen.height, height);
}

/* --- text --- */

/* Line y of the glyph that these tests load for character c in font table n. */
static u8 glyph(unsigned n, unsigned c, unsigned y)
{
    return (u8)(c * 37 + y * 11 + n * 101 + (c ^ y));
}

/* Loads a table as a VGA BIOS does, then gives the window back to text. */
static void load_font(struct vga_rig *v, unsigned n, unsigned plane_offset)
{
    vga_set(v, 0x3c4, 2, 4);
    vga_set(v, 0x3c4, 4, 7);
    vga_set(v, 0x3ce, 4, 2);
    vga_set(v, 0x3ce, 5, 0);
    vga_set(v, 0x3ce, 6, 4);
    for (unsigned c = 0; c < 256; c++)
        for (unsigned y = 0; y < 16; y++)
            poke(v, 0xa0000 + plane_offset + c * 32 + y, glyph(n, c, y), 1);
    vga_set(v, 0x3c4, 2, 3);
    vga_set(v, 0x3c4, 4, 2);
    vga_set(v, 0x3ce, 4, 0);
    vga_set(v, 0x3ce, 5, 0x10);
    vga_set(v, 0x3ce, 6, 0x0e);
}

static void put_cell(struct vga_rig *v, unsigned n, unsigned c, unsigned attribute)
{
    poke(v, 0xb8000 + 2 * n, c | attribute << 8, 2);
}

static void set_text(struct vga_rig *v)
{
    vga_mode(v, &mode_text);
    load_font(v, 0, 0);
    for (unsigned i = 0; i < 80 * 25; i++)
        put_cell(v, i, i & 0xff, (i * 7) & 0x7f);
    vga_set(v, 0x3d4, 0x0a, 0x20); /* no cursor */
}

/* The cell at a column and row of the screen, `dots` wide, shows this. */
static void expect_cell(struct vga_rig *v, unsigned x, unsigned y, unsigned c, unsigned attribute,
                        unsigned dots, unsigned font)
{
    for (unsigned j = 0; j < 16; j++)
        for (unsigned i = 0; i < dots; i++) {
            bool joins = c >= 0xc0 && c <= 0xdf, on;
            on = i < 8 ? glyph(font, c, j) >> (7 - i) & 1 : joins && (glyph(font, c, j) & 1);
            u32 want = colour(on ? attribute & 15 : attribute >> 4);
            if (pixel(v, x * dots + i, y * 16 + j) != want)
                fail_msg("cell %u,%u: pixel %u,%u", x, y, i, j);
        }
}

static void test_text(void **state)
{
    struct vga_rig *v = *state;
    set_text(v);
    assert_true(vga_draw(v));
    expect_size(v, 720, 400);
    for (unsigned i = 0; i < 80 * 25; i++)
        expect_cell(v, i % 80, i / 80, i & 0xff, (i * 7) & 0x7f, 9, 0);
    assert_false(vga_draw(v));
    put_cell(v, 85, 'x', 0x1e);
    assert_true(vga_draw(v));
    assert_true(v->screen.top >= 16 && v->screen.top < v->screen.bottom && v->screen.bottom <= 32);
    expect_cell(v, 5, 1, 'x', 0x1e, 9, 0);
}

static void test_text_8_dots(void **state)
{
    struct vga_rig *v = *state;
    set_text(v);
    vga_set(v, 0x3c4, 1, 1);
    vga_draw(v);
    expect_size(v, 640, 400);
    expect_cell(v, 79, 24, 1999 & 0xff, (1999 * 7) & 0x7f, 8, 0);
    vga_set(v, 0x3c4, 1, 9); /* 40 columns, if the CRTC is told, too */
    vga_set(v, 0x3d4, 0x11, 0);
    vga_set(v, 0x3d4, 1, 39);
    vga_draw(v);
    expect_size(v, 640, 400);
    for (unsigned i = 0; i < 640; i++)
        assert_int_equal(pixel(v, i, 3), pixel(v, i & ~1U, 3));
}

/* Without line graphics the ninth dot is always background. */
static void test_ninth_dot(void **state)
{
    struct vga_rig *v = *state;
    set_text(v);
    put_cell(v, 0, 0xc4, 0x07);
    vga_attr(v, 0x10, 0x08);
    vga_draw(v);
    for (unsigned j = 0; j < 16; j++)
        assert_int_equal(pixel(v, 8, j), colour(0));
}

static void test_fonts(void **state)
{
    struct vga_rig *v = *state;
    static const struct {
        unsigned select, table;
    } maps[] = {{0x04, 0x4000}, {0x08, 0x8000}, {0x0c, 0xc000}, {0x20, 0x2000},
                {0x24, 0x6000}, {0x28, 0xa000}, {0x2c, 0xe000}};
    set_text(v);
    for (unsigned n = 0; n < ARRAY_SIZE(maps); n++) {
        load_font(v, n + 1, maps[n].table);
        vga_set(v, 0x3c4, 3, maps[n].select); /* for attributes with bit 3; 0 for others */
        put_cell(v, 0, 'A', 0x1e);
        put_cell(v, 1, 'A', 0x16);
        vga_draw(v);
        expect_cell(v, 0, 0, 'A', 0x1e, 9, n + 1);
        expect_cell(v, 1, 0, 'A', 0x16, 9, 0);
    }
    vga_set(v, 0x3c4, 3, 0x13); /* the other way round: table 7 for those without */
    vga_draw(v);
    expect_cell(v, 0, 0, 'A', 0x1e, 9, 0);
    expect_cell(v, 1, 0, 'A', 0x16, 9, 7);
}

/* Frames are 14.27 ms. */
static void advance_frames(struct vga_rig *v, unsigned n)
{
    clock_advance(v->rig.clock, n * 14268000ULL);
}

static void test_cursor(void **state)
{
    struct vga_rig *v = *state;
    set_text(v);
    put_cell(v, 161, ' ', 0x1e);
    vga_set(v, 0x3d4, 0x0a, 13);
    vga_set(v, 0x3d4, 0x0b, 14);
    vga_set(v, 0x3d4, 0x0e, 0);
    vga_set(v, 0x3d4, 0x0f, 161);
    vga_draw(v);
    for (unsigned i = 0; i < 9; i++) {
        assert_int_equal(pixel(v, 9 + i, 32 + 13), colour(14));
        assert_int_equal(pixel(v, 9 + i, 32 + 14), colour(14));
    }
    advance_frames(v, 8); /* off */
    vga_draw(v);
    expect_cell(v, 1, 2, ' ', 0x1e, 9, 0);
    advance_frames(v, 8); /* on */
    assert_true(vga_draw(v));
    assert_int_equal(pixel(v, 9, 32 + 13), colour(14));
    vga_set(v, 0x3d4, 0x0b, 12); /* ends before it begins: none */
    vga_draw(v);
    expect_cell(v, 1, 2, ' ', 0x1e, 9, 0);
}

static void test_blinking(void **state)
{
    struct vga_rig *v = *state;
    set_text(v);
    put_cell(v, 0, 'A', 0x9e);
    vga_draw(v);
    expect_cell(v, 0, 0, 'A', 0x1e, 9, 0);
    advance_frames(v, 16);
    vga_draw(v);
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(pixel(v, i, 5), colour(1));
    vga_attr(v, 0x10, 0x04); /* 16 background colours instead */
    vga_draw(v);
    expect_cell(v, 0, 0, 'A', 0x9e, 9, 0);
}

static void test_underline(void **state)
{
    struct vga_rig *v = *state;
    set_text(v);
    vga_set(v, 0x3d4, 0x14, 12);
    put_cell(v, 0, 'A', 0x01);
    put_cell(v, 1, 'A', 0x02);
    vga_draw(v);
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(pixel(v, i, 12), colour(1));
    expect_cell(v, 1, 0, 'A', 0x02, 9, 0);
}

/* Half a row down by the preset row scan, and three dots to the left. */
static void test_smooth_scrolling(void **state)
{
    struct vga_rig *v = *state;
    set_text(v);
    vga_draw(v);
    u32 *before = malloc(720 * 400 * 4);
    memcpy(before, v->screen.pixels, 720 * 400 * 4);
    vga_set(v, 0x3d4, 8, 5);
    vga_attr(v, 0x13, 2);
    vga_draw(v);
    for (unsigned y = 0; y + 5 < 400; y++)
        for (unsigned x = 0; x + 3 < 720; x++)
            assert_int_equal(pixel(v, x, y), before[(y + 5) * 720 + x + 3]);
    vga_set(v, 0x3d4, 8, 0x20); /* a byte, which is a character */
    vga_attr(v, 0x13, 8);       /* none */
    vga_draw(v);
    for (unsigned y = 0; y < 400; y++)
        for (unsigned x = 0; x + 9 < 720; x++)
            assert_int_equal(pixel(v, x, y), before[y * 720 + x + 9]);
    free(before);
}

static void test_text_cells(void **state)
{
    struct vga_rig *v = *state;
    struct text_screen t = {0};
    set_text(v);
    vga_set(v, 0x3d4, 0x0a, 13);
    vga_set(v, 0x3d4, 0x0f, 85);
    put_cell(v, 80, 'Q', 0x9e);
    assert_true(v->display.text(v->display.ctx, &t));
    assert_int_equal(t.columns, 80);
    assert_int_equal(t.rows, 25);
    assert_int_equal(t.cursor, 85);
    assert_int_equal(t.cell[80], 'Q' | 0x1e00); /* blinks */
    assert_int_equal(t.cell[1999], (1999 & 0xff) | ((1999 * 7) & 0x7f) << 8);
    assert_int_equal(t.palette[9], colour(9));
    vga_set(v, 0x3d4, 0x0d, 80); /* a row up */
    vga_set(v, 0x3d4, 0x0a, 0x20);
    assert_true(v->display.text(v->display.ctx, &t));
    assert_int_equal(t.cell[0], 'Q' | 0x1e00);
    assert_int_equal(t.cursor, -1);
    vga_mode(v, &mode_12h);
    assert_false(v->display.text(v->display.ctx, &t));
    free(t.cell);
}

/* --- 16 colours --- */

/* Colour of pixel (x, y) in the tests of planar modes. */
static unsigned ink(unsigned x, unsigned y)
{
    return (x * 3 + y * 5 + x * y / 7) & 15;
}

/* Draws w x h pixels by the map mask, 8 at a time in each plane. */
static void paint_planar(struct vga_rig *v, unsigned w, unsigned h)
{
    for (unsigned plane = 0; plane < 4; plane++) {
        vga_set(v, 0x3c4, 2, 1 << plane);
        for (unsigned y = 0; y < h; y++)
            for (unsigned x = 0; x < w; x += 8) {
                u8 byte = 0;
                for (unsigned i = 0; i < 8; i++)
                    byte = (u8)(byte << 1 | (ink(x + i, y) >> plane & 1));
                poke(v, 0xa0000 + (y * w + x) / 8, byte, 1);
            }
    }
    vga_set(v, 0x3c4, 2, 15);
}

static void test_16_colours(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_12h);
    paint_planar(v, 640, 480);
    assert_true(vga_draw(v));
    expect_size(v, 640, 480);
    for (unsigned y = 0; y < 480; y++)
        for (unsigned x = 0; x < 640; x++)
            assert_int_equal(pixel(v, x, y), colour(ink(x, y)));
    assert_false(vga_draw(v));
    vga_attr(v, 0x13, 5); /* to the left */
    vga_draw(v);
    for (unsigned x = 0; x < 635; x++)
        assert_int_equal(pixel(v, x, 9), colour(ink(x + 5, 9)));
    vga_attr(v, 0x13, 0);
    vga_attr(v, 0x12, 0x05); /* two planes count */
    vga_draw(v);
    assert_int_equal(pixel(v, 5, 0), colour(ink(5, 0) & 5));
    vga_attr(v, 0x12, 0x0f);
    vga_attr(v, 3, 0x2a); /* palette and colour select */
    vga_attr(v, 0x14, 0x0d);
    vga_draw(v);
    assert_int_equal(pixel(v, 1, 0), colour(0xc0 | 0x2a));
    vga_attr(v, 0x10, 0x81);
    vga_draw(v);
    assert_int_equal(pixel(v, 1, 0), colour(0xd0 | 0x0a));
}

static void test_double_pixels(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_0dh);
    paint_planar(v, 320, 200);
    vga_draw(v);
    expect_size(v, 640, 400);
    for (unsigned y = 0; y < 400; y++)
        for (unsigned x = 0; x < 640; x++)
            assert_int_equal(pixel(v, x, y), colour(ink(x / 2, y / 2)));
}

/* Start address and line compare: the lower part begins at 0 and is not panned if told so. */
static void test_split_screen(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_12h);
    paint_planar(v, 640, 480);
    vga_set(v, 0x3d4, 0x0c, (100 * 80) >> 8);
    vga_set(v, 0x3d4, 0x0d, (100 * 80) & 0xff);
    vga_set(v, 0x3d4, 0x18, 299 & 0xff);
    vga_set(v, 0x3d4, 0x07, 0x3e & ~0x10); /* bit 8: 299 has it */
    vga_set(v, 0x3d4, 0x07, 0x3e | 0x10);
    vga_set(v, 0x3d4, 0x09, 0x00);
    vga_attr(v, 0x13, 3);
    for (unsigned still = 0; still < 2; still++) {
        vga_attr(v, 0x10, still ? 0x21 : 0x01);
        vga_draw(v);
        for (unsigned x = 0; x < 630; x++) {
            assert_int_equal(pixel(v, x, 0), colour(ink(x + 3, 100)));
            assert_int_equal(pixel(v, x, 299), colour(ink(x + 3, 399)));
            assert_int_equal(pixel(v, x, 300), colour(ink(x + (still ? 0 : 3), 0)));
            assert_int_equal(pixel(v, x, 479), colour(ink(x + (still ? 0 : 3), 179)));
        }
    }
}

/* A plane has 64 KiB, and goes round. */
static void test_wrap(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_12h);
    poke(v, 0xa0000, 0xff, 1);
    vga_set(v, 0x3d4, 0x0c, 0xff);
    vga_set(v, 0x3d4, 0x0d, 0xb0); /* a line before the end */
    vga_draw(v);
    assert_int_equal(pixel(v, 0, 0), colour(0));
    assert_int_equal(pixel(v, 0, 1), colour(15));
    assert_int_equal(pixel(v, 8, 1), colour(0));
}

/* --- 256 colours --- */

static unsigned dye(unsigned x, unsigned y)
{
    return (x * 7 + y * 13 + x * y / 5) & 0xff;
}

static void test_256_colours(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_13h);
    for (unsigned i = 0; i < 320 * 200; i++)
        poke(v, 0xa0000 + i, dye(i % 320, i / 320), 1);
    vga_draw(v);
    expect_size(v, 640, 400);
    for (unsigned y = 0; y < 400; y++)
        for (unsigned x = 0; x < 640; x++)
            assert_int_equal(pixel(v, x, y), colour(dye(x / 2, y / 2)));
    out8(&v->rig, 0x3c6, 0x3f); /* the DAC's mask */
    vga_draw(v);
    assert_int_equal(pixel(v, 600, 300), colour(dye(300, 150) & 0x3f));
}

/* Unchained: the map mask says which of four pixels; two pages, of which the second is shown. */
static void test_mode_x(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_x);
    for (unsigned plane = 0; plane < 4; plane++) {
        vga_set(v, 0x3c4, 2, 1 << plane);
        for (unsigned i = 0; i < 80 * 240; i++)
            poke(v, 0xa0000 + 19200 + i, dye(i % 80 * 4 + plane, i / 80), 1);
    }
    vga_set(v, 0x3d4, 0x0c, 19200 >> 8);
    vga_set(v, 0x3d4, 0x0d, 19200 & 0xff);
    vga_draw(v);
    expect_size(v, 640, 480);
    for (unsigned y = 0; y < 480; y++)
        for (unsigned x = 0; x < 640; x++)
            assert_int_equal(pixel(v, x, y), colour(dye(x / 2, y / 2)));
    vga_attr(v, 0x13, 4); /* two pixels */
    vga_draw(v);
    for (unsigned x = 0; x < 630; x++)
        assert_int_equal(pixel(v, x, 2), colour(dye(x / 2 + 2, 1)));
}

/* --- CGA --- */

static void test_cga_4_colours(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_4);
    for (unsigned y = 0; y < 200; y++)
        for (unsigned x = 0; x < 320; x += 4) {
            u8 byte = 0;
            for (unsigned i = 0; i < 4; i++)
                byte = (u8)(byte << 2 | (ink(x + i, y) & 3));
            poke(v, 0xb8000 + (y & 1) * 0x2000 + y / 2 * 80 + x / 4, byte, 1);
        }
    vga_draw(v);
    expect_size(v, 640, 400);
    for (unsigned y = 0; y < 400; y++)
        for (unsigned x = 0; x < 640; x++)
            assert_int_equal(pixel(v, x, y), colour(ink(x / 2, y / 2) & 3));
    assert_int_equal(peek(v, 0xb8000 + 0x2001, 1), /* and reads back */
                     (ink(4, 1) & 3) << 6 | (ink(5, 1) & 3) << 4 | (ink(6, 1) & 3) << 2 |
                         (ink(7, 1) & 3));
}

static void test_cga_2_colours(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_6);
    for (unsigned y = 0; y < 200; y++)
        for (unsigned x = 0; x < 640; x += 8) {
            u8 byte = 0;
            for (unsigned i = 0; i < 8; i++)
                byte = (u8)(byte << 1 | (ink(x + i, y) & 1));
            poke(v, 0xb8000 + (y & 1) * 0x2000 + y / 2 * 80 + x / 8, byte, 1);
        }
    vga_draw(v);
    expect_size(v, 640, 400);
    for (unsigned y = 0; y < 400; y++)
        for (unsigned x = 0; x < 640; x++)
            assert_int_equal(pixel(v, x, y), colour(ink(x, y / 2) & 1));
}

/* --- the extensions --- */

/* Colour of pixel (x, y) as it is stored, and as it is shown. */
static u32 stored(unsigned x, unsigned y)
{
    return (x * 0x10305 + y * 0x50713) & 0xffffff;
}

static u32 widen(u32 value, unsigned shift, unsigned bits)
{
    u32 c = value >> shift & ((1U << bits) - 1);
    return c << (8 - bits) | c >> (2 * bits - 8);
}

static u32 shown(u32 p, unsigned bpp)
{
    if (bpp == 8)
        return colour(p & 0xff);
    if (bpp == 15)
        return widen(p, 10, 5) << 16 | widen(p, 5, 5) << 8 | widen(p, 0, 5);
    if (bpp == 16)
        return widen(p, 11, 5) << 16 | widen(p, 5, 6) << 8 | widen(p, 0, 5);
    return p;
}

static void test_packed(void **state)
{
    struct vga_rig *v = *state;
    static const unsigned depths[] = {8, 15, 16, 24, 32};
    vga_place_bars(v);
    for (unsigned n = 0; n < ARRAY_SIZE(depths); n++) {
        unsigned bpp = depths[n], bytes = (bpp + 7) / 8;
        dispi_mode(v, 320, 240, bpp);
        vga_palette_set(v);
        dispi(v, 6, 400); /* wider than shown */
        for (unsigned y = 0; y < 300; y++)
            for (unsigned x = 0; x < 400; x++)
                for (unsigned i = 0; i < bytes; i++)
                    poke(v, LFB + (y * 400 + x) * bytes + i, stored(x, y) >> 8 * i & 0xff, 1);
        for (unsigned moved = 0; moved < 2; moved++) {
            unsigned dx = moved ? 33 : 0, dy = moved ? 17 : 0;
            dispi(v, 8, dx);
            dispi(v, 9, dy);
            assert_true(vga_draw(v));
            expect_size(v, 320, 240);
            for (unsigned y = 0; y < 240; y++)
                for (unsigned x = 0; x < 320; x++)
                    assert_int_equal(pixel(v, x, y), shown(stored(x + dx, y + dy), bpp));
        }
    }
}

static void test_8_bit_dac(void **state)
{
    struct vga_rig *v = *state;
    vga_place_bars(v);
    dispi_mode(v, 64, 64, 8);
    dispi(v, 4, 0x61);
    out8(&v->rig, 0x3c8, 0);
    for (unsigned i = 0; i < 3; i++)
        out8(&v->rig, 0x3c9, 0x81 + i);
    vga_draw(v);
    assert_int_equal(pixel(v, 0, 0), 0x818283);
    out8(&v->rig, 0x3c7, 0);
    assert_int_equal(in8(&v->rig, 0x3c9), 0x81);
}

static void test_big_endian(void **state)
{
    struct vga_rig *v = *state;
    vga_place_bars(v);
    poke(v, BAR2 + 0x604, 0xbebebebe, 4);
    static const struct {
        unsigned bpp;
        u32 memory, shown;
    } cases[] = {{16, 0x1f00f8, 0x0000ff}, {24, 0x563412, 0x123456}, {32, 0x56341200, 0x123456}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        dispi_mode(v, 64, 64, cases[i].bpp);
        poke(v, LFB, cases[i].memory, 4);
        vga_draw(v);
        assert_int_equal(pixel(v, cases[i].bpp == 16 ? 1 : 0, 0),
                         cases[i].bpp == 16 ? shown(0x1f00, 16) : cases[i].shown);
    }
}

/* 800x600 with 16 colours: planes, more of a plane than a VGA has, panned by the offset. */
static void test_dispi_planar(void **state)
{
    struct vga_rig *v = *state;
    vga_mode(v, &mode_12h);
    dispi_mode(v, 1024, 768, 4);
    vga_palette_set(v);
    for (unsigned plane = 0; plane < 4; plane++) {
        vga_set(v, 0x3c4, 2, 1 << plane);
        for (unsigned i = 0; i < 1024 * 768 / 8; i++) {
            u8 byte = 0;
            if (i % 0x10000 == 0)
                dispi(v, 5, i / 0x10000);
            for (unsigned k = 0; k < 8; k++)
                byte = (u8)(byte << 1 | (ink(i % 128 * 8 + k, i / 128) >> plane & 1));
            poke(v, 0xa0000 + i % 0x10000, byte, 1);
        }
    }
    vga_draw(v);
    expect_size(v, 1024, 768);
    for (unsigned y = 0; y < 768; y++)
        for (unsigned x = 0; x < 1024; x++)
            assert_int_equal(pixel(v, x, y), colour(ink(x, y)));
    dispi(v, 6, 1032);
    dispi(v, 8, 3);
    vga_draw(v);
    assert_int_equal(pixel(v, 0, 0), colour(ink(3, 0)));
}

/* A frame buffer at the end of memory, and registers that say more than there is. */
static void test_extremes(void **state)
{
    struct vga_rig *v = *state;
    vga_place_bars(v);
    dispi_mode(v, 2560, 1600, 32);
    poke(v, LFB + 2560 * 1600 * 4 - 4, 0x123456, 4);
    vga_draw(v);
    expect_size(v, 2560, 1600);
    assert_int_equal(pixel(v, 2559, 1599), 0x123456);
    dispi(v, 9, 38);
    assert_int_equal(dispi_get(v, 9), 38);
    dispi(v, 9, 39); /* would end behind it */
    assert_int_equal(dispi_get(v, 9), 0);
    dispi(v, 4, 0);
    vga_mode(v, &mode_12h);
    vga_set(v, 0x3d4, 0x11, 0);
    vga_set(v, 0x3d4, 1, 0xff);
    vga_set(v, 0x3d4, 0x12, 0xff);
    vga_set(v, 0x3d4, 7, 0xff);
    vga_set(v, 0x3d4, 0x17, 0xe7); /* lines count twice */
    vga_draw(v);
    expect_size(v, 2048, 1600);
}

/* --- blank --- */

static void test_blank(void **state)
{
    struct vga_rig *v = *state;
    vga_draw(v);
    expect_size(v, 640, 400); /* nobody has set anything */
    vga_mode(v, &mode_13h);
    poke(v, 0xa0000, 0x0303, 2);
    vga_draw(v);
    assert_int_equal(pixel(v, 0, 0), colour(3));
    vga_set(v, 0x3c4, 1, 0x21); /* screen off */
    assert_true(vga_draw(v));
    expect_size(v, 640, 400);
    assert_int_equal(pixel(v, 0, 0), 0);
    vga_set(v, 0x3c4, 1, 0x01);
    in8(&v->rig, 0x3da);
    out8(&v->rig, 0x3c0, 0); /* the attribute controller's video off */
    vga_draw(v);
    assert_int_equal(pixel(v, 0, 0), 0);
    out8(&v->rig, 0x3c0, 0);
    out8(&v->rig, 0x3c0, 0x20);
    vga_draw(v);
    assert_int_equal(pixel(v, 0, 0), colour(3));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_text),          TEST(test_text_8_dots),
        TEST(test_ninth_dot),     TEST(test_fonts),
        TEST(test_cursor),        TEST(test_blinking),
        TEST(test_underline),     TEST(test_smooth_scrolling),
        TEST(test_text_cells),    TEST(test_16_colours),
        TEST(test_double_pixels), TEST(test_split_screen),
        TEST(test_wrap),          TEST(test_256_colours),
        TEST(test_mode_x),        TEST(test_cga_4_colours),
        TEST(test_cga_2_colours), TEST(test_packed),
        TEST(test_8_bit_dac),     TEST(test_big_endian),
        TEST(test_dispi_planar),  TEST(test_extremes),
        TEST(test_blank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
