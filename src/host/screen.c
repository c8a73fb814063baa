/*
 * The buffer that display adapters draw into. It grows as needed and keeps its memory.
 */
#include <stdlib.h>

#include "host/display.h"

bool screen_resize(struct screen *s, unsigned width, unsigned height)
{
    assert(width <= SCREEN_MAX_WIDTH && height <= SCREEN_MAX_HEIGHT);
    size_t n = (size_t)width * height;
    if (n > s->space) {
        u32 *pixels = realloc(s->pixels, n * sizeof(*pixels));
        if (!pixels)
            return false;
        s->pixels = pixels;
        s->space = n;
    }
    memset(s->pixels, 0, n * sizeof(*s->pixels));
    s->width = width;
    s->height = height;
    s->top = 0;
    s->bottom = height;
    return true;
}
