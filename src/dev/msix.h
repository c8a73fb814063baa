/*
 * MSI-X (PCI Local Bus Specification 3.0, 6.8.2): a function's interrupts as messages to the local
 * APICs (SDM vol. 3, 11.11), from a table in a memory BAR that the guest fills in. A message that
 * is masked stays pending.
 */
#ifndef RINGER_DEV_MSIX_H
#define RINGER_DEV_MSIX_H

#include "base/error.h"
#include "dev/lapic.h"
#include "dev/pci.h"
#include "mem/guestmem.h"

#define MSIX_VECTORS_MAX 64
#define MSIX_CAP_SIZE    12

struct msix;

int msix_create(struct guest_mem *gm, struct lapic_bus *apics, unsigned vectors, struct msix **out,
                struct error *err);
void msix_destroy(struct msix *m); /* NULL is allowed */
void msix_reset(struct msix *m);

/* Adds the capability at offset `at` and the table as memory BAR `bar`. */
void msix_describe(const struct msix *m, struct pci_function *f, unsigned at, unsigned bar);

/* The guest wrote the capability's Message Control, the 16 bits at `at` + 2. */
void msix_control(struct msix *m, u16 control);

/* Are interrupts messages now? */
bool msix_enabled(struct msix *m);

/* Sends the message of a vector, if it is enabled and there is such a vector. From any thread; a
 * device's lock may be held. */
void msix_send(struct msix *m, unsigned vector);

#endif
