/*
 * Pictures of the guest's screen as PNG files, and the text of text modes as files of text. A file
 * is written under another name and then renamed, so that whoever waits for it never sees a part.
 */
#include <errno.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/cp437.h"
#include "host/display.h"

static int no_memory(const char *path, struct error *err)
{
    return error_set(err, ENOMEM, "screenshot %s: no memory", path);
}

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

static int write_png(const struct screen *s, const char *path, const char *part, struct error *err)
{
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = s->width,
                       .height = s->height,
                       .format = PNG_FORMAT_RGB};
    u8 *rgb = to_rgb(s);
    if (!rgb)
        return no_memory(path, err);
    errno = 0;
    int ok = png_image_write_to_file(&image, part, 0, rgb, 0, NULL);
    int code = errno;
    png_image_free(&image);
    free(rgb);
    if (ok)
        return 0;
    return code ? error_errno(err, code, "screenshot %s", path)
                : error_set(err, EIO, "screenshot %s: %s", path, image.message);
}

static int draw_png(const struct display_source *source, const char *path, const char *part,
                    struct error *err)
{
    struct screen s = {0};
    source->draw(source->ctx, &s);
    int rc = s.pixels ? write_png(&s, path, part, err) : no_memory(path, err);
    free(s.pixels);
    return rc;
}

/* Rows as lines, without the spaces at their ends. */
static void put_text(const struct text_screen *t, FILE *file)
{
    for (unsigned y = 0; y < t->rows; y++) {
        const u16 *row = t->cell + (size_t)y * t->columns;
        unsigned columns = t->columns;
        while (columns && ((row[columns - 1] & 0xff) == ' ' || (row[columns - 1] & 0xff) == 0))
            columns--;
        for (unsigned x = 0; x < columns; x++) {
            char utf8[3];
            fwrite(utf8, 1, cp437_utf8((u8)row[x], utf8), file);
        }
        putc('\n', file);
    }
}

/* In a graphics mode there is no text: an empty file. */
static int write_text(const struct display_source *source, const char *path, const char *part,
                      struct error *err)
{
    struct text_screen t = {0};
    FILE *file = fopen(part, "w");
    if (!file)
        return error_errno(err, errno, "screenshot %s", path);
    if (source->text(source->ctx, &t))
        put_text(&t, file);
    free(t.cell);
    bool bad = ferror(file);
    if (fclose(file) != 0 || bad)
        return error_errno(err, errno ? errno : EIO, "screenshot %s", path);
    return 0;
}

int screenshot_write(const struct display_source *source, const char *path, struct error *err)
{
    size_t len = strlen(path);
    bool text = len >= 4 && strcmp(path + len - 4, ".txt") == 0;
    char *part;
    if (asprintf(&part, "%s.part", path) < 0)
        return no_memory(path, err);
    int rc = (text ? write_text : draw_png)(source, path, part, err);
    if (rc == 0 && rename(part, path) < 0)
        rc = error_errno(err, errno, "screenshot %s", path);
    if (rc < 0)
        unlink(part);
    free(part);
    return rc;
}
