/*
 * What a terminal sends when a key is pressed, as the key: characters, control characters, and the
 * escape sequences of xterm, the Linux console and their relatives.
 */
#ifndef RINGER_HOST_TERMINAL_KEYS_H
#define RINGER_HOST_TERMINAL_KEYS_H

#include "host/input.h"

#define KEY_WITH_SHIFT BIT(0)
#define KEY_WITH_CTRL  BIT(1)
#define KEY_WITH_ALT   BIT(2)

struct terminal_key {
    unsigned key; /* 0: there is none on the guest's keyboard */
    unsigned modifiers;
};

/* The key at the beginning of n bytes; returns how many of them it took. 0: more are needed to
 * tell, never with complete, which says that no more will come. */
size_t terminal_key_of(const u8 *bytes, size_t n, bool complete, struct terminal_key *key);

#endif
