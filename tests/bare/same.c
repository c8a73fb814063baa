/*
 * Are two PNG pictures of one size nearly the same?
 *
 *   same REFERENCE FILE PERCENT    status 0: at least so much of the pixels is equal
 */
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct picture {
    png_image image;
    unsigned char *rgb;
};

static int load(struct picture *p, const char *file)
{
    p->image.version = PNG_IMAGE_VERSION;
    if (!png_image_begin_read_from_file(&p->image, file))
        return 0;
    p->image.format = PNG_FORMAT_RGB;
    p->rgb = malloc(PNG_IMAGE_SIZE(p->image));
    return p->rgb && png_image_finish_read(&p->image, NULL, p->rgb, 0, NULL);
}

int main(int argc, char **argv)
{
    struct picture a = {0}, b = {0};
    if (argc != 4 || !load(&a, argv[1]) || !load(&b, argv[2]))
        return 2;
    if (a.image.width != b.image.width || a.image.height != b.image.height) {
        printf("%u x %u pixels\n", b.image.width, b.image.height);
        return 1;
    }
    unsigned pixels = a.image.width * a.image.height, equal = 0;
    for (unsigned i = 0; i < pixels; i++)
        equal += memcmp(a.rgb + 3 * i, b.rgb + 3 * i, 3) == 0;
    printf("%.2f %% equal\n", 100.0 * equal / pixels);
    return equal < pixels * (atof(argv[3]) / 100);
}
