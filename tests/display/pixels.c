/*
 * Looks at a screenshot of guest.S's drawing: the size, and that every pixel is of the colour
 * (x ^ y) & 15 within the part that is drawn, and black elsewhere.
 *
 *   pixels pattern WIDTH HEIGHT           writes that drawing, 32 bits for a pixel
 *   pixels FILE WIDTH HEIGHT DRAWN_X DRAWN_Y SCALE_X SCALE_Y COLOURS
 */
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned palettes[][16] = {
    {0x000000, 0x0000aa, 0x00aa00, 0x00aaaa, 0xaa0000, 0xaa00aa, 0xaa5500, 0xaaaaaa, 0x555555,
     0x5555ff, 0x55ff55, 0x55ffff, 0xff5555, 0xff55ff, 0xffff55, 0xffffff},
    {0x000000, 0x55ffff, 0xff55ff, 0xffffff},
    {0x000000, 0xffffff},
};

static int write_pattern(unsigned width, unsigned height)
{
    for (unsigned y = 0; y < height; y++)
        for (unsigned x = 0; x < width; x++)
            if (fwrite(&palettes[0][(x ^ y) & 15], 4, 1, stdout) != 1)
                return 1;
    return 0;
}

int main(int argc, char **argv)
{
    unsigned n[7];
    if (argc == 4 && strcmp(argv[1], "pattern") == 0)
        return write_pattern((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
    if (argc != 9)
        return 2;
    for (unsigned i = 0; i < 7; i++)
        n[i] = (unsigned)atoi(argv[i + 2]);
    unsigned colours = n[6];
    const unsigned *palette = palettes[colours == 16 ? 0 : colours == 4 ? 1 : 2];
    png_image image = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_file(&image, argv[1])) {
        printf("%s: %s\n", argv[1], image.message);
        return 1;
    }
    image.format = PNG_FORMAT_RGB;
    unsigned char *rgb = malloc(PNG_IMAGE_SIZE(image));
    if (!rgb || !png_image_finish_read(&image, NULL, rgb, 0, NULL))
        return 1;
    if (image.width != n[0] || image.height != n[1]) {
        printf("%ux%u\n", image.width, image.height);
        return 1;
    }
    for (unsigned y = 0; y < n[1]; y++)
        for (unsigned x = 0; x < n[0]; x++) {
            const unsigned char *p = rgb + 3 * (y * n[0] + x);
            unsigned px = x / n[4], py = y / n[5], got = (unsigned)(p[0] << 16 | p[1] << 8 | p[2]);
            unsigned want = px < n[2] && py < n[3] ? palette[(px ^ py) & (colours - 1)] : 0;
            if (got != want) {
                printf("pixel %u,%u is %06x, not %06x\n", x, y, got, want);
                return 1;
            }
        }
    free(rgb);
    return 0;
}
