/*
 * The PC's two 8259A interrupt controllers, master and cascaded slave, with the PIIX's edge/level
 * control registers (Intel 8259A datasheet 231468; PIIX3 datasheet 290550).
 *
 * The chip has one lock, which its own callbacks take; it is held while the output wire is pulled,
 * so the order is: a device's lock, then this one, then what wakes a vCPU.
 */
#ifndef RINGER_DEV_I8259_H
#define RINGER_DEV_I8259_H

#include "base/error.h"
#include "cpu/irq.h"
#include "mem/portbus.h"

#define I8259_INPUTS 16

struct i8259;

/* intr is the INTR output: high while an unmasked request waits to be acknowledged. */
int i8259_create(const struct irq_line *intr, struct i8259 **out, struct error *err);
void i8259_destroy(struct i8259 *pic);

/* Registers its ports (0x20, 0xa0, 0x4d0) on the bus. */
int i8259_attach(struct i8259 *pic, struct port_bus *bus, struct error *err);

/* State after power-on: uninitialized, no requests; the levels of the inputs are kept. */
void i8259_reset(struct i8259 *pic);

/* irq_line.set for input n (0..15, without 2); ctx is the struct i8259. */
void i8259_set_irq(void *ctx, unsigned n, int level);

/* The CPU's INTA cycles: returns the vector; a spurious one (input 7) if the request has gone away.
 * ctx is the struct i8259. */
int i8259_acknowledge(void *ctx);

#endif
