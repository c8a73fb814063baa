/*
 * The 82077AA floppy disk controller (Intel's data sheet of that name) with two drives.
 */
#ifndef RINGER_DEV_FDC_H
#define RINGER_DEV_FDC_H

#include "base/error.h"
#include "cpu/irq.h"
#include "dev/i8237.h"
#include "host/block.h"
#include "mem/portbus.h"

#define FDC_DRIVES 2

struct fdc;

struct fdc_options {
    struct i8237 *dma;
    unsigned dma_channel;
    struct irq_line irq;
    struct block
        *drive[FDC_DRIVES]; /* the disk in it; NULL: no such drive. They outlive the fdc. */
};

/* -EINVAL: a disk is too large to be a floppy. */
int fdc_create(const struct fdc_options *opt, struct fdc **out, struct error *err);
/* Waits for the disks. */
void fdc_destroy(struct fdc *f);
/* Ports PC_FDC to PC_FDC + 5, and + 7. */
int fdc_attach(struct fdc *f, struct port_bus *bus, struct error *err);
void fdc_reset(struct fdc *f);

/* What CMOS calls a drive that fits a disk of this size: 1 360K, 2 1.2M, 3 720K, 4 1.44M, 5 2.88M;
 * 0: none does. */
unsigned fdc_drive_type(u64 size);

#endif
