/*
 * The two ports by which a PC resets itself or opens the A20 gate without the keyboard controller:
 * system control port A (0x92), and the reset control register at 0xcf9, which lies inside the PCI
 * configuration ports and is therefore reached through pci.c.
 */
#ifndef RINGER_DEV_RESET_PORTS_H
#define RINGER_DEV_RESET_PORTS_H

#include "base/error.h"
#include "dev/power.h"
#include "mem/portbus.h"

struct reset_ports;

int reset_ports_create(const struct power *power, struct reset_ports **out, struct error *err);
void reset_ports_destroy(struct reset_ports *r);

/* Port PC_PORT92. */
int reset_ports_attach(struct reset_ports *r, struct port_bus *bus, struct error *err);

void reset_ports_reset(struct reset_ports *r);

/* The register at PC_RESET. */
u8 reset_control_read(struct reset_ports *r);
void reset_control_write(struct reset_ports *r, u8 value);

#endif
