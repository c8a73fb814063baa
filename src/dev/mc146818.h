/*
 * Real-time clock and CMOS memory: a Motorola MC146818A with 128 bytes, behind ports 0x70 and 0x71.
 * It shows the host's wall clock as UTC, moved by guest time; what the guest sets is kept as an
 * offset.
 */
#ifndef RINGER_DEV_MC146818_H
#define RINGER_DEV_MC146818_H

#include "base/error.h"
#include "cpu/irq.h"
#include "host/clock.h"
#include "mem/portbus.h"

struct mc146818;

struct mc146818_config {
    i64 start_realtime_ns; /* wall clock at guest time 0 (struct timebase) */
    u64 ram_size;          /* for the memory size bytes that firmware reads */
    unsigned ncpus;
    /* Types of the floppy drives, as fdc_drive_type() has them (0: not there). */
    u8 floppy[2];
    /* What firmware boots from, in this order, if it isn't told by other means: up to three of a
     * (floppy), c (hard disk), d (CD), n (network); others count as nothing. NULL: it is to know
     * itself. */
    const char *boot_order;
};

int mc146818_create(const struct mc146818_config *config, struct clock *clock, struct irq_line irq,
                    struct mc146818 **out, struct error *err);
void mc146818_destroy(struct mc146818 *r);

/* Ports PC_CMOS and PC_CMOS + 1. */
int mc146818_attach(struct mc146818 *r, struct port_bus *bus, struct error *err);

/* The RESET pin: interrupt enables and flags are cleared; time and memory stay. */
void mc146818_reset(struct mc146818 *r);

#endif
