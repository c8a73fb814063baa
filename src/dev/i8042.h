/*
 * The 8042 keyboard controller with a keyboard on its first port and a mouse on its second.
 */
#ifndef RINGER_DEV_I8042_H
#define RINGER_DEV_I8042_H

#include "base/error.h"
#include "cpu/irq.h"
#include "dev/power.h"
#include "host/clock.h"
#include "host/input.h"
#include "mem/portbus.h"

struct i8042;

/* clock: for typematic repeat and the mouse's sample rate. */
int i8042_create(const struct power *power, struct clock *clock, struct irq_line keyboard,
                 struct irq_line aux, struct i8042 **out, struct error *err);
void i8042_destroy(struct i8042 *k);

/* Ports PC_I8042_DATA and PC_I8042_CMD. */
int i8042_attach(struct i8042 *k, struct port_bus *bus, struct error *err);

void i8042_reset(struct i8042 *k);

/* The keyboard and the mouse, for what the user does; valid until i8042_destroy(). */
struct input_sink i8042_input(struct i8042 *k);

#endif
