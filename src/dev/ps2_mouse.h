/*
 * A PS/2 mouse as in IBM's PS/2 Hardware Interface Technical Reference, "Mouse", that becomes a
 * Microsoft IntelliMouse (wheel) or IntelliMouse Explorer (wheel and five buttons) when the guest
 * sets the sample rates which ask for it.
 */
#ifndef RINGER_DEV_PS2_MOUSE_H
#define RINGER_DEV_PS2_MOUSE_H

#include "base/error.h"
#include "dev/ps2.h"
#include "host/clock.h"

struct ps2_mouse;

int ps2_mouse_create(struct clock *clock, const struct ps2_bus *bus, struct ps2_mouse **out,
                     struct error *err);
void ps2_mouse_destroy(struct ps2_mouse *m);

/* These three under the controller's lock. */
void ps2_mouse_reset(struct ps2_mouse *m);
/* A byte from the guest. */
void ps2_mouse_write(struct ps2_mouse *m, u8 value);
/* The next byte for the guest. False: there is none. */
bool ps2_mouse_read(struct ps2_mouse *m, u8 *byte);

/* It moved: counts to the right, down, wheel towards the user; and its buttons (POINTER_* of
 * host/input.h). From any thread. */
void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, unsigned buttons);

#endif
