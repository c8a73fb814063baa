/*
 * The legacy registers of virtio (VIRTIO 1.1, 4.1.4.8): ports of BAR 0. Features hold at once, a
 * queue is one page number, and its size is the device's.
 */
#include "dev/virtio_internal.h"

/* As they lie in the ports, the vectors only while MSI-X is enabled; device configuration follows.
 */
struct legacy {
    u32 device_features, driver_features;
    u32 queue_page;
    u16 queue_size, queue_select, queue_notify;
    u8 status, isr;
    u16 config_vector, queue_vector;
};
_Static_assert(sizeof(struct legacy) == 24, "struct legacy has no holes");

static unsigned legacy_size(struct virtio_pci *t)
{
    return virtio_sends_messages(t) ? sizeof(struct legacy)
                                    : offsetof(struct legacy, config_vector);
}

/* Where the three parts of a legacy queue lie (2.6.2). With the lock. */
static void place_legacy_queue(struct virtqueue *vq, u32 page)
{
    vq->desc = (u64)page << PAGE_SHIFT;
    vq->avail = vq->desc + 16ULL * vq->size;
    vq->used = align_up(vq->avail + 4 + 2ULL * vq->size + 2, PAGE_SIZE);
    vq->enabled = true;
}

/* Page 0 takes the queue away, once nothing of it is in flight. With the lock. */
static void write_legacy_queue(struct virtio_pci *t, u32 page)
{
    struct virtqueue *vq = virtio_selected_queue(t);
    if (!vq || t->resetting)
        return;
    if (page && !vq->enabled) {
        place_legacy_queue(vq, page);
    } else if (!page && vq->enabled) {
        vq->enabled = false;
        virtio_wait_idle(t);
        virtio_clear_queue(t, vq);
    }
}

static u32 legacy_read(void *ctx, u16 port, unsigned size)
{
    struct virtio_pci *t = ctx;
    struct legacy l;
    unsigned header = legacy_size(t);
    if (port >= header)
        return (u32)virtio_read_config(t, port - header, size);
    if (port == offsetof(struct legacy, isr))
        return virtio_read_isr(t);
    if (port > header - size)
        return (u32)size_mask(size);
    pthread_mutex_lock(&t->lock);
    const struct virtqueue *vq = virtio_selected_queue(t);
    l = (struct legacy){
        .device_features = (u32)t->o.features,
        .driver_features = (u32)t->features,
        .queue_page = vq && vq->enabled ? (u32)(vq->desc >> PAGE_SHIFT) : 0,
        .queue_size = vq ? vq->size : 0,
        .queue_select = t->queue_select,
        .status = t->status,
        .config_vector = t->config_vector,
        .queue_vector = virtio_selected_vector(t),
    };
    pthread_mutex_unlock(&t->lock);
    return (u32)load_le((u8 *)&l + port, size);
}

static void legacy_write(void *ctx, u16 port, u32 value, unsigned size)
{
    struct virtio_pci *t = ctx;
    unsigned header = legacy_size(t);
    switch (port) {
    case offsetof(struct legacy, queue_notify):
        virtio_notify(t, value & 0xffff);
        return;
    case offsetof(struct legacy, status):
        virtio_write_status(t, (u8)value, true);
        return;
    }
    if (port >= header) {
        virtio_write_config(t, port - header, value, size);
        return;
    }
    pthread_mutex_lock(&t->lock);
    switch (port) {
    case offsetof(struct legacy, driver_features):
        if (!t->resetting && !(t->features & VIRTIO_F_VERSION_1))
            virtio_set_features(t, value & t->o.features);
        break;
    case offsetof(struct legacy, queue_select):
        t->queue_select = (u16)value;
        break;
    case offsetof(struct legacy, queue_page):
        write_legacy_queue(t, value);
        break;
    case offsetof(struct legacy, config_vector):
        virtio_set_vector(t, &t->config_vector, value);
        break;
    case offsetof(struct legacy, queue_vector):
        virtio_set_selected_vector(t, value);
        break;
    }
    pthread_mutex_unlock(&t->lock);
}

const struct port_ops virtio_legacy_ops = {legacy_read, legacy_write};
