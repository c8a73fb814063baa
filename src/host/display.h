/*
 * The guest's screen on its way to the user. A display adapter draws on request; the back ends
 * (VNC, the terminal, PNG files) ask for the picture, or for its text, when they need it.
 */
#ifndef RINGER_HOST_DISPLAY_H
#define RINGER_HOST_DISPLAY_H

#include "base/error.h"
#include "base/types.h"

#define SCREEN_MAX_WIDTH  2560
#define SCREEN_MAX_HEIGHT 1600

struct screen {
    unsigned width, height; /* pixels; never more than the maximum */
    u32 *pixels;            /* 0x00RRGGBB, row by row without gaps */
};

/* A text screen: CP437 characters and attributes (low nibble foreground, high nibble background).
 */
struct text_screen {
    unsigned columns, rows;
    const u16 *cell; /* character | attribute << 8 */
    int cursor;      /* index of the cell, -1: off */
    u32 palette[16]; /* 0x00RRGGBB */
};

/* The adapter. From any thread. */
struct display_source {
    /* Draws the screen into *s, which it makes larger if need be (free(s->pixels) is the caller's).
     * False: nothing has changed since the last call with the same *s. */
    bool (*draw)(void *ctx, struct screen *s);
    /* False if the adapter is not in a text mode. cell stays valid until the next call. */
    bool (*text)(void *ctx, struct text_screen *t);
    void *ctx;
};

#endif
