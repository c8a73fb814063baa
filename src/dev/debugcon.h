/*
 * The debug console port of Bochs and QEMU (0x402): firmware such as SeaBIOS writes its log there,
 * a byte at a time. Reads give 0xe9, by which it is found.
 */
#ifndef RINGER_DEV_DEBUGCON_H
#define RINGER_DEV_DEBUGCON_H

#include "base/error.h"
#include "host/chardev.h"
#include "mem/portbus.h"

struct debugcon;

/* out stays the caller's. */
int debugcon_create(struct chardev *out, struct debugcon **con, struct error *err);
void debugcon_destroy(struct debugcon *con);

/* Port PC_DEBUGCON. */
int debugcon_attach(struct debugcon *con, struct port_bus *bus, struct error *err);

#endif
