/*
 * The IDE function of the PIIX3 (Intel 82371SB data sheet, 2.3, 2.7 and 3.5; PCI 8086:7010) with
 * two channels in legacy mode, each with two places for ATA disks (ATA/ATAPI-6, T13/1410D) and
 * ATAPI CD-ROMs (MMC-3, INF-8020i), and bus-master DMA (Programming Interface for Bus Master IDE
 * Controller 1.0).
 */
#ifndef RINGER_DEV_IDE_H
#define RINGER_DEV_IDE_H

#include "base/error.h"
#include "cpu/irq.h"
#include "dev/pci.h"
#include "host/block.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"

#define IDE_CHANNELS 2
#define IDE_UNITS    2

struct ide;

/* block NULL: a CD-ROM without a medium, or nothing there. The caller keeps block. */
struct ide_drive {
    struct block *block;
    bool cdrom;
};

struct ide_options {
    struct guest_mem *gm;
    struct pci_bus *pci;
    struct irq_line irq[IDE_CHANNELS];
    struct ide_drive drive[IDE_CHANNELS][IDE_UNITS];
};

int ide_create(const struct ide_options *opt, struct ide **out, struct error *err);

/* Waits for requests that the back ends have; no vCPU runs. Before the images are destroyed. */
void ide_destroy(struct ide *ide);

/* The ports of both channels; and the PCI function 01.1, whose base address 4 places the bus
 * master's 16 ports. The channels decode their ports whatever the PCI registers say: there may be
 * no firmware to enable them. */
int ide_attach(struct ide *ide, struct port_bus *bus, struct error *err);

/* As by the RESET# pin. A drive with a request in flight stays busy until that is over. */
void ide_reset(struct ide *ide);

#endif
