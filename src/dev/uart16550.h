/*
 * A 16550A serial port (National Semiconductor PC16550D data sheet). It transmits at once and
 * receives as fast as the guest reads; there is no baud rate and no parity. The modem lines say
 * that a terminal is there: CTS, DSR and DCD are on.
 */
#ifndef RINGER_DEV_UART16550_H
#define RINGER_DEV_UART16550_H

#include "base/error.h"
#include "cpu/irq.h"
#include "host/chardev.h"
#include "mem/portbus.h"

struct uart16550;

/* Becomes the listener of chr. The caller keeps chr, and destroys it before the UART. */
int uart16550_create(struct chardev *chr, struct irq_line irq, struct uart16550 **out,
                     struct error *err);
void uart16550_destroy(struct uart16550 *u);

/* Registers at ports [base, base + 8). */
int uart16550_attach(struct uart16550 *u, struct port_bus *bus, u16 base, struct error *err);

void uart16550_reset(struct uart16550 *u);

#endif
