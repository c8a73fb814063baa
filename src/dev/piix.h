/*
 * The PCI functions of the board's south bridge: PIIX3 ISA bridge (01.0) and PIIX4 power management
 * (01.3).
 */
#ifndef RINGER_DEV_PIIX_H
#define RINGER_DEV_PIIX_H

#include "dev/pci.h"
#include "dev/pirq.h"

struct piix;

/* Adds the functions to pci. Its route registers set pirq's routes; routed: after reset to
 * PC_PIRQ_ROUTE, else off. */
int piix_create(struct pci_bus *pci, struct pirq *pirq, bool routed, struct piix **out,
                struct error *err);
void piix_destroy(struct piix *x);

/* After pci_reset(). */
void piix_reset(struct piix *x);

#endif
