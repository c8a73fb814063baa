/*
 * A PS/2 keyboard with 101 keys and the three of Windows, as in IBM's PS/2 Hardware Interface
 * Technical Reference, "Keyboards (101- and 102-key)": scan code sets 1, 2 and 3, typematic repeat
 * by the guest's clock.
 */
#ifndef RINGER_DEV_PS2_KEYBOARD_H
#define RINGER_DEV_PS2_KEYBOARD_H

#include "base/error.h"
#include "dev/ps2.h"
#include "host/clock.h"

struct ps2_keyboard;

int ps2_keyboard_create(struct clock *clock, const struct ps2_bus *bus, struct ps2_keyboard **out,
                        struct error *err);
void ps2_keyboard_destroy(struct ps2_keyboard *k);

/* These three under the controller's lock. */
void ps2_keyboard_reset(struct ps2_keyboard *k);
/* A byte from the guest. */
void ps2_keyboard_write(struct ps2_keyboard *k, u8 value);
/* The next byte for the guest. False: there is none. */
bool ps2_keyboard_read(struct ps2_keyboard *k, u8 *byte);

/* A key (as in host/input.h) went down or up. From any thread. Keys that the keyboard doesn't have,
 * and those for which it has no room, are ignored. */
void ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down);

#endif
