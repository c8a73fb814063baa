/*
 * Virtio over PCI (VIRTIO 1.1, 4.1), the transport of a transitional device: the legacy registers
 * in ports (BAR 0) and the modern ones in memory (BAR 4) are there at once, and the driver takes
 * what it knows. It owns features, status, queues and interrupts; a device (virtio_blk.c) takes
 * chains from its queues and gives them back when it has done what they ask.
 *
 * A driver that breaks the rules of the queues finds the device in need of a reset.
 */
#ifndef RINGER_DEV_VIRTIO_PCI_H
#define RINGER_DEV_VIRTIO_PCI_H

#include "base/error.h"
#include "cpu/irq.h"
#include "dev/lapic.h"
#include "dev/pci.h"
#include "dev/virtqueue.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"

#define VIRTIO_F_VERSION_1 BIT(32)

struct virtio_pci;

/* What a kind of device does. No lock is held but for reset, config_read and config_write, during
 * which the transport's is: they must not call it. */
struct virtio_device_ops {
    /* There is something to take from the queue. On a vCPU's thread. */
    void (*notify)(void *ctx, unsigned queue);
    /* To the state after power-on. No chain is with the device. */
    void (*reset)(void *ctx);
    /* Device configuration, at most 8 bytes within config_size. features: those agreed on. */
    void (*config_read)(void *ctx, unsigned offset, void *buf, unsigned size);
    void (*config_write)(void *ctx, u64 features, unsigned offset, const void *buf, unsigned size);
};

struct virtio_pci_options {
    struct guest_mem *gm;
    struct port_bus *ports;
    struct pci_bus *pci;
    u8 devfn;
    struct irq_line intx;    /* INTA#, a level */
    struct lapic_bus *apics; /* for MSI-X, one vector per queue and one more; NULL: no MSI-X */
    const struct virtio_device_ops *ops;
    void *ctx;
    u16 pci_id; /* 0x1000 to 0x103f */
    u32 class_code;
    u16 type;     /* virtio device ID (5) */
    u64 features; /* besides those of queues and transport, which are added */
    unsigned queues;
    u16 queue_size;       /* a power of two, at most 1024 */
    unsigned config_size; /* bytes of device configuration, at most 64 */
    size_t chain_size;    /* of the device's structure that begins with a struct vq_chain */
};

/* Adds the function to the bus. Before the guest runs. */
int virtio_pci_create(const struct virtio_pci_options *opt, struct virtio_pci **out,
                      struct error *err);
/* Waits until the device has given back all chains, and frees. Nobody may call the device's ops any
 * more. NULL is allowed. */
void virtio_pci_destroy(struct virtio_pci *t);
/* Machine reset: waits likewise. While no vCPU runs. */
void virtio_pci_reset(struct virtio_pci *t);

/* Takes a chain that was available at the last notification, or NULL. It is the device's until one
 * of the two functions below; a driver's reset takes none away. */
struct vq_chain *virtio_pci_pop(struct virtio_pci *t, unsigned queue);
/* Done: `length` bytes were written. From any thread; it may be the last call before
 * virtio_pci_destroy() returns. */
void virtio_pci_complete(struct virtio_pci *t, struct vq_chain *chain, u32 length);
/* The chain makes no sense: the device needs a reset. */
void virtio_pci_reject(struct virtio_pci *t, struct vq_chain *chain);

/* The features that the driver has accepted. */
u64 virtio_pci_features(struct virtio_pci *t);

#endif
