/*
 * The PC's 8254 interval timer, and port 0x61, which gates counter 2 and shows its output (Intel
 * 8254 datasheet 231164). Counts are computed from guest time whenever they are read; counter 0's
 * output drives an interrupt line.
 */
#ifndef RINGER_DEV_I8254_H
#define RINGER_DEV_I8254_H

#include "base/error.h"
#include "cpu/irq.h"
#include "host/clock.h"
#include "mem/portbus.h"

#define I8254_HZ 1193182

struct i8254;

/* irq0 follows counter 0's output. The clock outlives the chip. */
int i8254_create(struct clock *clock, const struct irq_line *irq0, struct i8254 **out,
                 struct error *err);
void i8254_destroy(struct i8254 *pit);

/* Registers ports 0x40 to 0x43 and 0x61 on the bus. */
int i8254_attach(struct i8254 *pit, struct port_bus *bus, struct error *err);

/* Counters stop, as after power-on. */
void i8254_reset(struct i8254 *pit);

#endif
