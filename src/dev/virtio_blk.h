/*
 * A virtio disk on the PCI bus (VIRTIO 1.1, 5.2), legacy and modern at once, over an image of the
 * host. Data go from the image to guest RAM and back without a copy; several requests are in flight
 * together.
 */
#ifndef RINGER_DEV_VIRTIO_BLK_H
#define RINGER_DEV_VIRTIO_BLK_H

#include "base/error.h"
#include "cpu/irq.h"
#include "dev/lapic.h"
#include "dev/pci.h"
#include "host/block.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"

struct virtio_blk;

struct virtio_blk_options {
    struct guest_mem *gm;
    struct port_bus *ports;
    struct pci_bus *pci;
    u8 devfn;
    struct irq_line intx;    /* INTA#, a level */
    struct lapic_bus *apics; /* for MSI-X; NULL: without */
    struct block *block;     /* stays the caller's, who destroys it after the device */
    const char *serial;      /* at most 20 characters count; NULL: none */
};

/* Adds the function to the bus. Before the guest runs. */
int virtio_blk_create(const struct virtio_blk_options *opt, struct virtio_blk **out,
                      struct error *err);
/* Both wait for requests in flight. While no vCPU runs. */
void virtio_blk_destroy(struct virtio_blk *b); /* NULL is allowed */
void virtio_blk_reset(struct virtio_blk *b);

#endif
