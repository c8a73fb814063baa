/*
 * The transport's state. One lock guards all of it; the interrupt pin is a wire that is pulled
 * after the lock is dropped, while messages (MSI-X) are sent under it. A reset takes effect when
 * the device has given back what it has taken: until then the modern status register is not 0 yet,
 * as drivers expect (4.1.4.3.2), while a write of 0 to the legacy one waits, because legacy drivers
 * don't look.
 */
#include <errno.h>
#include <stdlib.h>

#include "dev/virtio_internal.h"

#define CONFIG_MAX 64
#define QUEUE_MAX  1024

#define ISR_QUEUE  0x1
#define ISR_CONFIG 0x2

#define F_ANY_LAYOUT    BIT(27)
#define F_INDIRECT_DESC BIT(28)
#define F_EVENT_IDX     BIT(29)
#define F_TRANSPORT     (F_ANY_LAYOUT | F_INDIRECT_DESC | F_EVENT_IDX | VIRTIO_F_VERSION_1)

/* --- all with the lock held --- */

bool virtio_sends_messages(struct virtio_pci *t)
{
    return t->msix && msix_enabled(t->msix);
}

void virtio_update_pin(struct virtio_pci *t)
{
    wire_level(&t->intx, t->isr && !t->intx_off && !virtio_sends_messages(t));
}

static void interrupt(struct virtio_pci *t, u8 why, u16 vector)
{
    t->isr |= why;
    if (virtio_sends_messages(t))
        msix_send(t->msix, vector);
    else
        virtio_update_pin(t);
}

void virtio_fail(struct virtio_pci *t)
{
    if (t->broken)
        return;
    t->broken = true;
    if (!(t->features & VIRTIO_F_VERSION_1))
        return; /* a legacy driver knows no such thing (2.1) */
    t->status |= STATUS_NEEDS_RESET;
    if (t->status & STATUS_DRIVER_OK)
        interrupt(t, ISR_CONFIG, t->config_vector);
}

void virtio_set_features(struct virtio_pci *t, u64 features)
{
    t->features = features;
    for (unsigned i = 0; i < t->o.queues; i++) {
        t->vq[i].event_idx = features & F_EVENT_IDX;
        t->vq[i].indirect = features & F_INDIRECT_DESC;
    }
}

void virtio_clear_queue(struct virtio_pci *t, struct virtqueue *vq)
{
    *vq = (struct virtqueue){.gm = t->o.gm, .size = t->o.queue_size};
    virtio_set_features(t, t->features);
}

static void finish_reset(struct virtio_pci *t)
{
    t->resetting = t->broken = false;
    t->status = t->isr = 0;
    t->device_select = t->driver_select = 0;
    t->wanted = 0;
    t->features = 0;
    t->queue_select = 0;
    t->config_vector = NO_VECTOR;
    for (unsigned i = 0; i < t->o.queues; i++) {
        virtio_clear_queue(t, &t->vq[i]);
        t->queue_vector[i] = NO_VECTOR;
    }
    virtio_update_pin(t);
    t->o.ops->reset(t->o.ctx);
}

static void start_reset(struct virtio_pci *t)
{
    t->isr = 0;
    virtio_update_pin(t);
    t->resetting = true;
    if (t->taken == 0)
        finish_reset(t);
    else
        t->status |= STATUS_ACKNOWLEDGE; /* not 0 yet */
}

void virtio_wait_idle(struct virtio_pci *t)
{
    while (t->taken)
        pthread_cond_wait(&t->idle, &t->lock);
}

static void give_back(struct virtio_pci *t, struct vq_chain *chain)
{
    chain->next = t->free;
    t->free = chain;
    if (--t->taken)
        return;
    if (t->resetting)
        finish_reset(t);
    pthread_cond_broadcast(&t->idle);
}

/* A modern driver's queues run from DRIVER_OK on (3.1.1); legacy ones from when they are there. */
static bool runs(const struct virtio_pci *t, unsigned queue)
{
    bool ok = !(t->features & VIRTIO_F_VERSION_1) || (t->status & STATUS_DRIVER_OK);
    return ok && t->vq[queue].enabled && !t->broken && !t->resetting;
}

/* --- what devices call --- */

struct vq_chain *virtio_pci_pop(struct virtio_pci *t, unsigned queue)
{
    struct vq_chain *chain = NULL;
    pthread_mutex_lock(&t->lock);
    if (runs(t, queue)) {
        /* A queue gives no more than its size (virtqueue_look()), so none free means none there. */
        int rc = t->free ? virtqueue_pop(&t->vq[queue], t->free) : 0;
        if (rc < 0)
            virtio_fail(t);
        if (rc > 0) {
            chain = t->free;
            chain->queue = (u16)queue;
            t->free = chain->next;
            t->taken++;
        }
    }
    pthread_mutex_unlock(&t->lock);
    wire_flush(&t->intx);
    return chain;
}

/* Once the chain is back, virtio_pci_destroy() may free everything; so that comes last. */
static void release(struct virtio_pci *t, struct vq_chain *chain)
{
    wire_flush(&t->intx);
    pthread_mutex_lock(&t->lock);
    give_back(t, chain);
    pthread_mutex_unlock(&t->lock);
}

void virtio_pci_complete(struct virtio_pci *t, struct vq_chain *chain, u32 length)
{
    struct virtqueue *vq = &t->vq[chain->queue];
    pthread_mutex_lock(&t->lock);
    if (!t->resetting) {
        int rc = virtqueue_push(vq, chain, length);
        if (rc < 0)
            virtio_fail(t);
        if (rc > 0)
            interrupt(t, ISR_QUEUE, t->queue_vector[chain->queue]);
    }
    pthread_mutex_unlock(&t->lock);
    release(t, chain);
}

void virtio_pci_reject(struct virtio_pci *t, struct vq_chain *chain)
{
    pthread_mutex_lock(&t->lock);
    if (!t->resetting)
        virtio_fail(t);
    pthread_mutex_unlock(&t->lock);
    release(t, chain);
}

u64 virtio_pci_features(struct virtio_pci *t)
{
    return atomic_load_explicit(&t->features, memory_order_relaxed);
}

/* --- registers; without the lock unless said --- */

void virtio_notify(struct virtio_pci *t, unsigned queue)
{
    int n = 0;
    if (queue >= t->o.queues)
        return;
    pthread_mutex_lock(&t->lock);
    if (runs(t, queue)) {
        n = virtqueue_look(&t->vq[queue]);
        if (n < 0)
            virtio_fail(t);
    }
    pthread_mutex_unlock(&t->lock);
    wire_flush(&t->intx);
    if (n > 0)
        t->o.ops->notify(t->o.ctx, queue);
}

void virtio_write_status(struct virtio_pci *t, u8 status, bool legacy)
{
    pthread_mutex_lock(&t->lock);
    bool was_ok = t->status & STATUS_DRIVER_OK;
    if (status == 0) {
        start_reset(t);
        if (legacy)
            virtio_wait_idle(t);
    } else if (!t->resetting) {
        u64 wanted = t->wanted;
        bool agree = wanted & VIRTIO_F_VERSION_1 && !(wanted & ~t->o.features);
        if (status & ~t->status & STATUS_FEATURES_OK) {
            if (agree)
                virtio_set_features(t, wanted);
            else
                status &= ~STATUS_FEATURES_OK;
        }
        t->status = status | (t->status & STATUS_NEEDS_RESET);
    }
    bool ok = !was_ok && (t->status & STATUS_DRIVER_OK) && !t->resetting;
    pthread_mutex_unlock(&t->lock);
    wire_flush(&t->intx);
    for (unsigned i = 0; ok && i < t->o.queues; i++)
        virtio_notify(t, i);
}

u8 virtio_read_isr(struct virtio_pci *t)
{
    pthread_mutex_lock(&t->lock);
    u8 isr = t->isr;
    t->isr = 0;
    virtio_update_pin(t);
    pthread_mutex_unlock(&t->lock);
    wire_flush(&t->intx);
    return isr;
}

u64 virtio_read_config(struct virtio_pci *t, u64 offset, unsigned size)
{
    u64 value = 0;
    if (offset >= t->o.config_size)
        return 0;
    size = (unsigned)MIN(size, t->o.config_size - offset);
    pthread_mutex_lock(&t->lock);
    t->o.ops->config_read(t->o.ctx, (unsigned)offset, &value, size);
    pthread_mutex_unlock(&t->lock);
    return value;
}

void virtio_write_config(struct virtio_pci *t, u64 offset, u64 value, unsigned size)
{
    if (offset >= t->o.config_size)
        return;
    size = (unsigned)MIN(size, t->o.config_size - offset);
    pthread_mutex_lock(&t->lock);
    t->o.ops->config_write(t->o.ctx, t->features, (unsigned)offset, &value, size);
    pthread_mutex_unlock(&t->lock);
}

/* The selected queue, or NULL. With the lock. */
struct virtqueue *virtio_selected_queue(struct virtio_pci *t)
{
    return t->queue_select < t->o.queues ? &t->vq[t->queue_select] : NULL;
}

u16 virtio_selected_vector(const struct virtio_pci *t)
{
    return t->queue_select < t->o.queues ? t->queue_vector[t->queue_select] : NO_VECTOR;
}

/* A vector that doesn't exist reads as none (4.1.5.1.2.1). With the lock. */
void virtio_set_vector(struct virtio_pci *t, u16 *to, u32 value)
{
    *to = t->msix && value <= t->o.queues ? (u16)value : NO_VECTOR;
}

void virtio_set_selected_vector(struct virtio_pci *t, u32 value)
{
    if (t->queue_select < t->o.queues)
        virtio_set_vector(t, &t->queue_vector[t->queue_select], value);
}
/* --- making it --- */

static int allocate(struct virtio_pci *t, struct error *err)
{
    size_t n = (size_t)t->o.queues * t->o.queue_size;
    t->vq = calloc(t->o.queues, sizeof(*t->vq));
    t->queue_vector = calloc(t->o.queues, sizeof(*t->queue_vector));
    t->chains = calloc(n, t->o.chain_size);
    if (!t->vq || !t->queue_vector || !t->chains)
        return error_set(err, ENOMEM, "no memory for the queues of a virtio device");
    for (size_t i = 0; i < n; i++) {
        struct vq_chain *chain = (struct vq_chain *)(t->chains + i * t->o.chain_size);
        chain->next = t->free;
        t->free = chain;
    }
    return 0;
}

static int attach(struct virtio_pci *t, struct error *err)
{
    struct pci_function f;
    struct port_range *ports;
    struct mem_region *region;
    int rc =
        port_range_create(t->o.ports, VIRTIO_PORTS, &virtio_legacy_ops, t, NULL, true, &ports, err);
    if (rc == 0 && t->o.apics)
        rc = msix_create(t->o.gm, t->o.apics, t->o.queues + 1, &t->msix, err);
    if (rc == 0)
        rc = mem_region_mmio(t->o.gm, LAYER_BUS, VIRTIO_MEMORY_SIZE, &virtio_modern_ops, t, NULL,
                             &region, err);
    if (rc < 0)
        return rc;
    virtio_describe(t, &f, ports, region);
    return pci_add_function(t->o.pci, t->o.devfn, &f, err);
}

int virtio_pci_create(const struct virtio_pci_options *opt, struct virtio_pci **out,
                      struct error *err)
{
    assert(opt->queue_size <= QUEUE_MAX && !(opt->queue_size & (opt->queue_size - 1)));
    assert(opt->config_size <= CONFIG_MAX && opt->chain_size >= sizeof(struct vq_chain));
    struct virtio_pci *t = calloc(1, sizeof(*t));
    if (!t)
        return error_set(err, ENOMEM, "no memory for a virtio device");
    t->o = *opt;
    t->o.features |= F_TRANSPORT;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->idle, NULL);
    wire_init(&t->intx, opt->intx);
    int rc = allocate(t, err);
    if (rc == 0)
        rc = attach(t, err);
    if (rc < 0) {
        virtio_pci_destroy(t);
        return rc;
    }
    finish_reset(t);
    *out = t;
    return 0;
}

void virtio_pci_reset(struct virtio_pci *t)
{
    if (t->msix)
        msix_reset(t->msix);
    pthread_mutex_lock(&t->lock);
    t->intx_off = false;
    start_reset(t);
    virtio_wait_idle(t);
    pthread_mutex_unlock(&t->lock);
    wire_flush(&t->intx);
}

void virtio_pci_destroy(struct virtio_pci *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->broken = true;
    virtio_wait_idle(t);
    pthread_mutex_unlock(&t->lock);
    wire_destroy(&t->intx);
    pthread_cond_destroy(&t->idle);
    pthread_mutex_destroy(&t->lock);
    msix_destroy(t->msix);
    free(t->chains);
    free(t->queue_vector);
    free(t->vq);
    free(t);
}
