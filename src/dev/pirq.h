/*
 * Interrupts of PCI functions: from the pins INTA# to INTD# of each device to four shared lines,
 * and from these to the I/O APIC and, by the PIIX3's route registers, to the PICs.
 */
#ifndef RINGER_DEV_PIRQ_H
#define RINGER_DEV_PIRQ_H

#include "base/error.h"
#include "cpu/irq.h"

struct pirq;

/* isa(ctx, n, level) drives ISA interrupt n; gsi(ctx, n, level) pin n of the I/O APIC. */
int pirq_create(struct irq_line isa, struct irq_line gsi, struct pirq **out, struct error *err);
void pirq_destroy(struct pirq *p);

/* The wire of pin 1 (INTA#) to 4 of a device; n is device * 4 + pin - 1, ctx the struct pirq. */
void pirq_set(void *ctx, unsigned n, int level);

/* Route register n (0 to 3; 82371SB, 2.2.12): bit 7 off, else the ISA interrupt in bits 3-0. */
void pirq_route(struct pirq *p, unsigned n, u8 value);

/* All routes off; the lines stay as their devices drive them. */
void pirq_reset(struct pirq *p);

#endif
