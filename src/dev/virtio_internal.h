/*
 * Inside of the virtio transport: what virtio_pci.c (features, status, queues, interrupts) shares
 * with virtio_legacy.c (the registers in ports) and virtio_modern.c (those in memory, and PCI
 * configuration space). Others use virtio_pci.h.
 */
#ifndef RINGER_DEV_VIRTIO_INTERNAL_H
#define RINGER_DEV_VIRTIO_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "dev/msix.h"
#include "dev/virtio_pci.h"
#include "dev/wire.h"

#define VIRTIO_PORTS       128
#define VIRTIO_MEMORY_SIZE 0x4000

/* Device status (2.1). */
#define STATUS_ACKNOWLEDGE 0x01
#define STATUS_DRIVER_OK   0x04
#define STATUS_FEATURES_OK 0x08
#define STATUS_NEEDS_RESET 0x40

#define NO_VECTOR 0xffff

struct virtio_pci {
    struct virtio_pci_options o;
    pthread_mutex_t lock;
    pthread_cond_t idle; /* taken became 0 */
    struct wire intx;
    bool intx_off;     /* by the PCI command register */
    struct msix *msix; /* or NULL */

    u8 status, isr;
    bool resetting; /* a reset waits for the device */
    bool broken;    /* no more chains until a reset */
    u32 device_select, driver_select;
    u64 wanted;           /* features that the driver has written */
    _Atomic u64 features; /* those that hold */
    u16 queue_select;
    struct virtqueue *vq;
    u16 config_vector, *queue_vector; /* messages, or NO_VECTOR */

    unsigned taken; /* chains that the device has */
    struct vq_chain *free;
    u8 *chains; /* memory of all of them */
};

extern const struct port_ops virtio_legacy_ops;
extern const struct mmio_ops virtio_modern_ops;

/* How the function looks in PCI configuration space. */
void virtio_describe(struct virtio_pci *t, struct pci_function *f, struct port_range *ports,
                     struct mem_region *region);

/* Are interrupts messages now? With the lock or without. */
bool virtio_sends_messages(struct virtio_pci *t);

/* --- with the lock held --- */

/* Sets the interrupt pin to what it should be; wire_flush() after the lock is dropped. */
void virtio_update_pin(struct virtio_pci *t);
/* The driver broke a rule. */
void virtio_fail(struct virtio_pci *t);
/* These features hold from now on. */
void virtio_set_features(struct virtio_pci *t, u64 features);
/* A queue as it is after a reset. */
void virtio_clear_queue(struct virtio_pci *t, struct virtqueue *vq);
/* Waits, without the lock, until the device has no chains. */
void virtio_wait_idle(struct virtio_pci *t);
/* The selected queue, or NULL; and its vector. */
struct virtqueue *virtio_selected_queue(struct virtio_pci *t);
u16 virtio_selected_vector(const struct virtio_pci *t);
/* A vector that doesn't exist becomes NO_VECTOR. */
void virtio_set_vector(struct virtio_pci *t, u16 *to, u32 value);
void virtio_set_selected_vector(struct virtio_pci *t, u32 value);

/* --- without it --- */

/* The driver says that there is something in a queue. */
void virtio_notify(struct virtio_pci *t, unsigned queue);
/* legacy: a reset waits. */
void virtio_write_status(struct virtio_pci *t, u8 status, bool legacy);
/* Clears it, too. */
u8 virtio_read_isr(struct virtio_pci *t);
/* Device configuration; outside of it, 0 and nothing. */
u64 virtio_read_config(struct virtio_pci *t, u64 offset, unsigned size);
void virtio_write_config(struct virtio_pci *t, u64 offset, u64 value, unsigned size);

#endif
