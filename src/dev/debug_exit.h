/*
 * The debug-exit port: a test in the guest ends the machine by writing a value to PC_DEBUG_EXIT.
 */
#ifndef RINGER_DEV_DEBUG_EXIT_H
#define RINGER_DEV_DEBUG_EXIT_H

#include "base/error.h"
#include "dev/power.h"
#include "mem/portbus.h"

struct debug_exit;

int debug_exit_create(const struct power *power, struct debug_exit **out, struct error *err);
void debug_exit_destroy(struct debug_exit *d);

/* Four ports from PC_DEBUG_EXIT, for accesses of 1, 2 and 4 bytes. Reads give all ones. */
int debug_exit_attach(struct debug_exit *d, struct port_bus *bus, struct error *err);

#endif
