/*
 * Keys that a script types: texts with the times at which typing begins.
 */
#ifndef RINGER_HOST_KEYS_H
#define RINGER_HOST_KEYS_H

#include "base/error.h"
#include "host/clock.h"
#include "host/input.h"

/* A key is down for this long, and as long there is none until the next, in guest time. */
#define KEYS_PACE_NS (20 * 1000 * 1000ULL)

struct key_typist;

/* "TEXT@SECONDS". TEXT is typed as it is; <NAME> is a key by its name (keymap_name()), <A-B-C> are
 * several at once, pressed in this order; <lt> types '<'. -EINVAL: what is wrong. */
int keys_check(const char *script, double *seconds, struct error *err);

/* Someone who types each script into `sink` at its time, in seconds times second_ns of guest time
 * after 0; one after the other if they would overlap. Begins at once. The scripts have passed
 * keys_check(); they are not needed any more when this returns. */
int key_typist_create(struct clock *clock, struct input_sink sink, const char *const *scripts,
                      unsigned count, u64 second_ns, struct key_typist **out, struct error *err);

/* NULL is allowed. */
void key_typist_destroy(struct key_typist *t);

#endif
