/*
 * Is this screenshot what program.c draws? By the formulas of the pattern and the palette, and what a VGA makes of
 * each mode: how often it repeats pixels and lines, and nine dots for a character.
 *
 *   picture FILE text|256|16|cga|x|linear|banked
 */
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned pattern(unsigned x, unsigned y)
{
    return x * 5 + y * 3 + (x * y >> 6);
}

static unsigned six_bits(unsigned v)
{
    return v << 2 | v >> 4;
}

static unsigned palette(unsigned i)
{
    i &= 255;
    return six_bits(i & 63) << 16 | six_bits(i * 3 & 63) << 8 | six_bits(63 - (i >> 2));
}

static const unsigned ega[16] = {0x000000, 0x0000aa, 0x00aa00, 0x00aaaa, 0xaa0000, 0xaa00aa, 0xaa5500, 0xaaaaaa,
                                 0x555555, 0x5555ff, 0x55ff55, 0x55ffff, 0xff5555, 0xff55ff, 0xffff55, 0xffffff};
static const unsigned cga[4] = {0x000000, 0x55ffff, 0xff55ff, 0xffffff};

static unsigned text_pixel(unsigned x, unsigned y)
{
    unsigned cell = y / 16 * 80 + x / 9, character = cell & 0xff, attribute = cell * 3 & 0x7f;
    unsigned glyph = (character * 7 + y % 16 * 29) & 0xff, dot = x % 9;
    unsigned joins = character >= 0xc0 && character <= 0xdf;
    unsigned set = dot < 8 ? glyph >> (7 - dot) & 1 : joins && glyph & 1;
    return ega[set ? attribute & 15 : attribute >> 4];
}

static unsigned pixel_256(unsigned x, unsigned y)
{
    return palette(pattern(x, y));
}

static unsigned pixel_16(unsigned x, unsigned y)
{
    return ega[pattern(x, y) & 15];
}

static unsigned pixel_cga(unsigned x, unsigned y)
{
    return cga[pattern(x, y) & 3];
}

static unsigned pixel_linear(unsigned x, unsigned y)
{
    return (x & 0xff) << 16 | (y & 0xff) << 8 | ((x ^ y) & 0xff);
}

static const struct picture {
    const char *name;
    unsigned width, height, repeat;
    unsigned (*pixel)(unsigned x, unsigned y);
} pictures[] = {
    {"text", 720, 400, 1, text_pixel}, {"256", 640, 400, 2, pixel_256},         {"16", 640, 480, 1, pixel_16},
    {"cga", 640, 400, 2, pixel_cga},   {"x", 640, 480, 2, pixel_256},           {"linear", 800, 600, 1, pixel_linear},
    {"banked", 800, 600, 1, pixel_256},
};

static int compare(const struct picture *p, const char *file)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_file(&image, file))
        return printf("%s: %s\n", file, image.message);
    image.format = PNG_FORMAT_RGB;
    unsigned char *rgb = malloc(PNG_IMAGE_SIZE(image));
    if (!rgb || !png_image_finish_read(&image, NULL, rgb, 0, NULL))
        return printf("%s: %s\n", file, image.message);
    if (image.width != p->width || image.height != p->height)
        return printf("%u x %u pixels, not %u x %u\n", image.width, image.height, p->width, p->height);
    for (unsigned y = 0; y < p->height; y++)
        for (unsigned x = 0; x < p->width; x++) {
            const unsigned char *at = rgb + 3 * (y * p->width + x);
            unsigned got = (unsigned)(at[0] << 16 | at[1] << 8 | at[2]);
            unsigned want = p->pixel(x / p->repeat, y / p->repeat);
            if (got != want)
                return printf("pixel %u,%u is %06x, not %06x\n", x, y, got, want);
        }
    free(rgb);
    return 0;
}

int main(int argc, char **argv)
{
    for (unsigned i = 0; argc == 3 && i < sizeof(pictures) / sizeof(pictures[0]); i++)
        if (strcmp(pictures[i].name, argv[2]) == 0)
            return compare(&pictures[i], argv[1]) != 0;
    return 2;
}
