/*
 * Keys and pointer movements on their way from the host (VNC, terminal, a script) to the guest's
 * keyboard and mouse. A key is named by its set 1 make code, as PC programmers know it; keys with
 * the prefix 0xe0 are 0xe000 | code, and 0xe11d is Pause.
 */
#ifndef RINGER_HOST_INPUT_H
#define RINGER_HOST_INPUT_H

#include "base/types.h"

#define KEY_PAUSE 0xe11d

#define POINTER_LEFT   BIT(0)
#define POINTER_RIGHT  BIT(1)
#define POINTER_MIDDLE BIT(2)
#define POINTER_SIDE   BIT(3) /* buttons 4 and 5, under the thumb */
#define POINTER_EXTRA  BIT(4)

/* What takes input: the guest's keyboard and mouse. From any thread. */
struct input_sink {
    /* A key went down or up. */
    void (*key)(void *ctx, unsigned key, bool down);
    /* The mouse moved: right, down, wheel towards the user; and which buttons are down. */
    void (*pointer)(void *ctx, int dx, int dy, int dz, unsigned buttons);
    void *ctx;
};

/* keymap.c: US keyboard. */
/* The key that types an ASCII character ('\n': enter); *shift: with shift. 0: there is none. */
unsigned keymap_char(int c, bool *shift);
/* The key of a name such as "ret", "esc", "f1", "up", "ctrl", "alt", "shift", "spc" (as QEMU's
 * sendkey names them). 0: there is none. */
unsigned keymap_name(const char *name, size_t len);
/* The key of an X11 keysym, as VNC sends it. 0: there is none. */
unsigned keymap_keysym(u32 keysym);

#endif
