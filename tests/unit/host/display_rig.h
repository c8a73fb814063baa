/*
 * A screen and a keyboard that the tests of displays look at and play with: a picture whose pixels
 * follow from its number, a text, and a list of the keys and movements that came.
 */
#ifndef TESTS_HOST_DISPLAY_RIG_H
#define TESTS_HOST_DISPLAY_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "host/display.h"

#define PATIENCE_MS 10000
#define EVENTS_MAX  256

struct fake {
    pthread_mutex_t lock; /* for all below */
    unsigned width, height, number;
    bool text_mode;
    unsigned columns, rows;
    u16 cell[64 * 64];
    int cursor;
    u32 palette[16];
    char log[4096]; /* "+1e" a key went down, "-1e" up, "(dx,dy,dz,buttons)" */
    size_t used;
    unsigned quits;
};

/* Colour of a pixel of picture `number`. */
static inline u32 fake_pixel(unsigned number, unsigned x, unsigned y)
{
    return ((x / 8 + number) * 0x30201 + y / 8 * 0x10305) & 0xffffff;
}

static inline bool fake_draw(void *ctx, struct screen *s)
{
    struct fake *f = ctx;
    bool changed = false;
    pthread_mutex_lock(&f->lock);
    if (s->width != f->width || s->height != f->height)
        changed = screen_resize(s, f->width, f->height);
    s->top = s->height;
    s->bottom = 0;
    for (unsigned y = 0; y < s->height; y++)
        for (unsigned x = 0; x < s->width; x++) {
            u32 *p = &s->pixels[y * s->width + x], value = fake_pixel(f->number, x, y);
            if (*p == value && !changed)
                continue;
            *p = value;
            s->top = MIN(s->top, y);
            s->bottom = MAX(s->bottom, y + 1);
        }
    pthread_mutex_unlock(&f->lock);
    return s->top < s->bottom;
}

static inline bool fake_text(void *ctx, struct text_screen *t)
{
    struct fake *f = ctx;
    pthread_mutex_lock(&f->lock);
    bool is = f->text_mode;
    if (is) {
        t->cell = realloc(t->cell, sizeof(f->cell));
        memcpy(t->cell, f->cell, sizeof(f->cell));
        t->columns = f->columns;
        t->rows = f->rows;
        t->cursor = f->cursor;
        memcpy(t->palette, f->palette, sizeof(t->palette));
    }
    pthread_mutex_unlock(&f->lock);
    return is;
}

static inline void PRINTF_LIKE(2, 3) fake_note(struct fake *f, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    pthread_mutex_lock(&f->lock);
    f->used += (size_t)vsnprintf(f->log + f->used, sizeof(f->log) - f->used, fmt, args);
    pthread_mutex_unlock(&f->lock);
    va_end(args);
}

static inline void fake_key(void *ctx, unsigned key, bool down)
{
    fake_note(ctx, "%c%x", down ? '+' : '-', key);
}

static inline void fake_pointer(void *ctx, int dx, int dy, int dz, unsigned buttons)
{
    fake_note(ctx, "(%d,%d,%d,%u)", dx, dy, dz, buttons);
}

static inline void fake_quit(void *ctx)
{
    struct fake *f = ctx;
    pthread_mutex_lock(&f->lock);
    f->quits++;
    pthread_mutex_unlock(&f->lock);
}

static inline void fake_init(struct fake *f)
{
    static const u32 palette[16] = {0x000000, 0x0000aa, 0x00aa00, 0x00aaaa, 0xaa0000, 0xaa00aa,
                                    0xaa5500, 0xaaaaaa, 0x555555, 0x5555ff, 0x55ff55, 0x55ffff,
                                    0xff5555, 0xff55ff, 0xffff55, 0xffffff};
    memset(f, 0, sizeof(*f));
    pthread_mutex_init(&f->lock, NULL);
    f->width = 200;
    f->height = 100;
    f->columns = 20;
    f->rows = 10;
    f->cursor = -1;
    memcpy(f->palette, palette, sizeof(palette));
    for (unsigned i = 0; i < ARRAY_SIZE(f->cell); i++)
        f->cell[i] = 0x0720;
}

static inline struct display_source fake_source(struct fake *f)
{
    return (struct display_source){.draw = fake_draw, .text = fake_text, .ctx = f};
}

static inline struct input_sink fake_sink(struct fake *f)
{
    return (struct input_sink){.key = fake_key, .pointer = fake_pointer, .ctx = f};
}

static inline void nap(void)
{
    struct timespec ms = {0, 1000000};
    nanosleep(&ms, NULL);
}

/* Waits until this is what came. */
static inline void expect_log(struct fake *f, const char *want)
{
    char got[sizeof(f->log)] = "";
    for (unsigned i = 0; i < PATIENCE_MS && strcmp(got, want) != 0; i++) {
        if (i)
            nap();
        pthread_mutex_lock(&f->lock);
        memcpy(got, f->log, f->used + 1);
        pthread_mutex_unlock(&f->lock);
    }
    assert_string_equal(got, want);
}

static inline void change(struct fake *f, unsigned number, unsigned width, unsigned height)
{
    pthread_mutex_lock(&f->lock);
    f->number = number;
    f->width = width;
    f->height = height;
    pthread_mutex_unlock(&f->lock);
}

#endif
