/*
 * Code page 437, the character set of the PC's text modes, with pictures for the control
 * characters.
 */
#ifndef RINGER_HOST_CP437_H
#define RINGER_HOST_CP437_H

#include "base/types.h"

/* The character as UTF-8, without an end: 1 to 3 bytes, which is what it returns. 0 is a space. */
unsigned cp437_utf8(u8 character, char out[3]);

#endif
