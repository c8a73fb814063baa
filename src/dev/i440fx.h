/*
 * The 82441FX host bridge (PCI 00.0): its configuration space, and the shadow RAM registers, which
 * choose what is seen between 0xc0000 and 0xfffff.
 */
#ifndef RINGER_DEV_I440FX_H
#define RINGER_DEV_I440FX_H

#include "dev/pci.h"
#include "mem/guestmem.h"

struct i440fx;

/* Adds its function to pci. open: after reset all of the area is RAM, as firmware leaves it for a
 * guest that is loaded without any; else it is what lies below (ROM, or nothing), as after
 * power-on. */
int i440fx_create(struct guest_mem *gm, struct pci_bus *pci, bool open, struct i440fx **out,
                  struct error *err);
void i440fx_destroy(struct i440fx *b);

/* After pci_reset(). */
void i440fx_reset(struct i440fx *b);

#endif
