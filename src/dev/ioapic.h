/*
 * The I/O APIC: 24 inputs, each with a redirection entry that tells where an interrupt goes (Intel
 * 82093AA datasheet 290566; the EOI register is that of version 0x20).
 *
 * The chip has one lock, taken by its own callbacks and held while it sends a message.
 */
#ifndef RINGER_DEV_IOAPIC_H
#define RINGER_DEV_IOAPIC_H

#include "dev/lapic.h"

struct ioapic;

/* Becomes the bus's listener for EOIs. The bus outlives the chip. */
int ioapic_create(struct lapic_bus *bus, u8 id, struct ioapic **out, struct error *err);
void ioapic_destroy(struct ioapic *io);

/* Registers its page at PC_IOAPIC_ADDR. */
int ioapic_attach(struct ioapic *io, struct guest_mem *gm, struct error *err);

/* All entries masked; the levels of the inputs are kept. */
void ioapic_reset(struct ioapic *io);

/* irq_line.set for pin n (0..23); ctx is the struct ioapic. */
void ioapic_set_irq(void *ctx, unsigned n, int level);

#endif
