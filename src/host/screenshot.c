/*
 * Pictures of the guest's screen as PNG files. A file is written under another name and then
 * renamed, so that whoever waits for it never sees a part.
 */
#include <errno.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/display.h"

static u8 *to_rgb(const struct screen *s)
{
    size_t n = (size_t)s->width * s->height;
    u8 *rgb = malloc(3 * n + 1);
    for (size_t i = 0; rgb && i < n; i++) {
        rgb[3 * i] = (u8)(s->pixels[i] >> 16);
        rgb[3 * i + 1] = (u8)(s->pixels[i] >> 8);
        rgb[3 * i + 2] = (u8)s->pixels[i];
    }
    return rgb;
}

static int write_file(const struct screen *s, const char *path, const char *part, struct error *err)
{
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = s->width,
                       .height = s->height,
                       .format = PNG_FORMAT_RGB};
    u8 *rgb = to_rgb(s);
    if (!rgb)
        return error_set(err, ENOMEM, "screenshot %s: no memory", path);
    errno = 0;
    int ok = png_image_write_to_file(&image, part, 0, rgb, 0, NULL);
    int code = errno;
    png_image_free(&image);
    free(rgb);
    if (!ok && code)
        return error_errno(err, code, "screenshot %s", path);
    if (!ok)
        return error_set(err, EIO, "screenshot %s: %s", path, image.message);
    if (rename(part, path) < 0)
        return error_errno(err, errno, "screenshot %s", path);
    return 0;
}

int screenshot_write(const struct display_source *source, const char *path, struct error *err)
{
    struct screen s = {0};
    char *part;
    source->draw(source->ctx, &s);
    if (!s.pixels || asprintf(&part, "%s.part", path) < 0) {
        free(s.pixels);
        return error_set(err, ENOMEM, "screenshot %s: no memory", path);
    }
    int rc = write_file(&s, path, part, err);
    if (rc < 0)
        unlink(part);
    free(part);
    free(s.pixels);
    return rc;
}
