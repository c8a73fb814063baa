/*
 * The guest's screen on its way to the user. A display adapter draws on request; the back ends
 * (VNC, the terminal, PNG files) ask for the picture, or for its text, when they need it.
 */
#ifndef RINGER_HOST_DISPLAY_H
#define RINGER_HOST_DISPLAY_H

#include "base/error.h"
#include "base/types.h"
#include "host/input.h"

#define SCREEN_MAX_WIDTH  2560
#define SCREEN_MAX_HEIGHT 1600

/* A picture. It begins zeroed; its owner gives it back by free(pixels). */
struct screen {
    unsigned width, height; /* pixels; never more than the maximum */
    u32 *pixels;            /* 0x00RRGGBB, row by row without gaps */
    unsigned top, bottom;   /* the last draw() changed rows [top, bottom) */
    size_t space;           /* pixels that there is room for */
};

/* A text screen: CP437 characters and attributes (low nibble foreground, high nibble background).
 * It begins zeroed; its owner gives it back by free(cell). */
struct text_screen {
    unsigned columns, rows;
    u16 *cell;       /* character | attribute << 8 */
    int cursor;      /* index of the cell, -1: off */
    u32 palette[16]; /* 0x00RRGGBB */
    size_t space;    /* cells that there is room for */
};

/* The adapter. From any thread. Both make the buffer larger if need be; without memory for that
 * nothing changes. */
struct display_source {
    /* Draws the screen into *s. False: nothing has changed since the last call with the same *s. */
    bool (*draw)(void *ctx, struct screen *s);
    /* False if the adapter is not in a text mode. */
    bool (*text)(void *ctx, struct text_screen *t);
    void *ctx;
};

/* A back end: it shows what the source draws until it is destroyed, from a thread of its own. */
struct display {
    void (*destroy)(struct display *d);
};

static inline void display_destroy(struct display *d)
{
    if (d)
        d->destroy(d);
}

/* A VNC server at addr: [HOST]:N, where N is a display number, or a port from 5900 on. Without HOST
 * it listens on 127.0.0.1 only. password_file (or NULL) has in its first line what clients must
 * know, of which RFB uses 8 characters. Keys and pointer go to the sink, whose functions may be
 * NULL. */
int display_vnc(const char *addr, const char *password_file, const struct display_source *source,
                const struct input_sink *sink, struct display **out, struct error *err);

/* Text modes drawn in the terminal behind these descriptors, whose keys go to the sink. Ctrl-A X
 * calls quit(ctx) on the display's thread, Ctrl-A Ctrl-A sends Ctrl-A. The terminal is raw
 * meanwhile (host/terminal.h). */
int display_text(int in, int out_fd, const struct display_source *source,
                 const struct input_sink *sink, void (*quit)(void *ctx), void *ctx,
                 struct display **out, struct error *err);

/* Gives *s this size, for draw(). A new size makes all rows changed, and black. False: no memory.
 */
bool screen_resize(struct screen *s, unsigned width, unsigned height);

/* Writes what the source shows now to a file, which is there all at once: a picture as PNG, or, if
 * the name ends in .txt, the text of a text mode as UTF-8, a line for each row. */
int screenshot_write(const struct display_source *source, const char *path, struct error *err);

#endif
