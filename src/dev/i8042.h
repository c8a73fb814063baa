/*
 * The 8042 keyboard controller with a keyboard on its first port. The second port works but nothing
 * is plugged in: commands to it end in a timeout.
 */
#ifndef RINGER_DEV_I8042_H
#define RINGER_DEV_I8042_H

#include "base/error.h"
#include "cpu/irq.h"
#include "dev/power.h"
#include "mem/portbus.h"

struct i8042;

int i8042_create(const struct power *power, struct irq_line keyboard, struct irq_line aux,
                 struct i8042 **out, struct error *err);
void i8042_destroy(struct i8042 *k);

/* Ports PC_I8042_DATA and PC_I8042_CMD. */
int i8042_attach(struct i8042 *k, struct port_bus *bus, struct error *err);

void i8042_reset(struct i8042 *k);

/* A key was pressed or released: its bytes in scan code set 2. From any thread. False: the buffer
 * is full or the keyboard is switched off; the whole sequence is lost. */
bool i8042_key(struct i8042 *k, const u8 *code, size_t len);

#endif
