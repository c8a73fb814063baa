/*
 * The modern registers of virtio (VIRTIO 1.1, 4.1.4): structures in memory BAR 4, the capabilities
 * in PCI configuration space that say where they are, and the window there to reach them.
 */
#include "dev/virtio_internal.h"

#define VENDOR_QUMRANET 0x1af4 /* as 4.1.2 wants, and for the subsystem, too */

#define MEMORY_BAR 4
#define MSIX_BAR   1
/* In the memory BAR, a page for each. */
enum { PART_COMMON, PART_ISR, PART_DEVICE, PART_NOTIFY };
#define NOTIFY_STRIDE 4

/* PCI configuration space: registers of the header, and where the capabilities lie. */
#define CONFIG_COMMAND   0x04
#define CONFIG_STATUS    0x06
#define COMMAND_INTX_OFF 0x0400
#define STATUS_LIST      0x10
#define STATUS_INTX      0x08
#define CAP_ID_VENDOR    0x09
#define CAP_COMMON       0x40
#define CAP_ISR          0x50
#define CAP_DEVICE       0x60
#define CAP_NOTIFY       0x70
#define CAP_WINDOW       0x84
#define CAP_MSIX         0x98
#define MSIX_CONTROL     (CAP_MSIX + 2)
#define WINDOW_BAR       (CAP_WINDOW + 4)
#define WINDOW_OFFSET    (CAP_WINDOW + 8)
#define WINDOW_LENGTH    (CAP_WINDOW + 12)
#define WINDOW_DATA      (CAP_WINDOW + 16)

/* The modern registers as they lie in memory (4.1.4.3). */
struct common {
    u32 device_select, device_features;
    u32 driver_select, driver_features;
    u16 config_vector, queues;
    u8 status, generation;
    u16 queue_select, queue_size, queue_vector, queue_enable, notify_offset;
    u64 desc, driver, device;
};
_Static_assert(sizeof(struct common) == 56, "struct common has no holes");

/* With the lock. */
static void fill_common(struct virtio_pci *t, struct common *c)
{
    const struct virtqueue *vq = virtio_selected_queue(t);
    *c = (struct common){
        .device_select = t->device_select,
        .driver_select = t->driver_select,
        .config_vector = t->config_vector,
        .queues = (u16)t->o.queues,
        .status = t->status,
        .queue_select = t->queue_select,
        .queue_vector = virtio_selected_vector(t),
    };
    if (t->device_select < 2)
        c->device_features = (u32)(t->o.features >> 32 * t->device_select);
    if (t->driver_select < 2)
        c->driver_features = (u32)(t->wanted >> 32 * t->driver_select);
    if (!vq)
        return;
    c->queue_size = vq->size;
    c->queue_enable = vq->enabled;
    c->notify_offset = t->queue_select;
    c->desc = vq->desc;
    c->driver = vq->avail;
    c->device = vq->used;
}

static u64 read_common(struct virtio_pci *t, u64 offset, unsigned size)
{
    struct common c;
    if (offset > sizeof(c) - size)
        return 0;
    pthread_mutex_lock(&t->lock);
    fill_common(t, &c);
    pthread_mutex_unlock(&t->lock);
    return load_le((u8 *)&c + offset, size);
}

/* A queue that is enabled keeps its size and its addresses. With the lock. */
static void write_queue(struct virtio_pci *t, u64 offset, u32 value)
{
    struct virtqueue *vq = virtio_selected_queue(t);
    if (!vq || vq->enabled || t->resetting)
        return;
    switch (offset) {
    case offsetof(struct common, queue_size):
        if (value == 0 || value > t->o.queue_size || (value & (value - 1)))
            virtio_fail(t);
        else
            vq->size = (u16)value;
        break;
    case offsetof(struct common, queue_enable):
        vq->enabled = value == 1;
        break;
    case offsetof(struct common, desc):
        store_le(&vq->desc, value, 4);
        break;
    case offsetof(struct common, desc) + 4:
        store_le((u8 *)&vq->desc + 4, value, 4);
        break;
    case offsetof(struct common, driver):
        store_le(&vq->avail, value, 4);
        break;
    case offsetof(struct common, driver) + 4:
        store_le((u8 *)&vq->avail + 4, value, 4);
        break;
    case offsetof(struct common, device):
        store_le(&vq->used, value, 4);
        break;
    case offsetof(struct common, device) + 4:
        store_le((u8 *)&vq->used + 4, value, 4);
        break;
    }
}

/* Half of the features; they can be changed until the driver says that it is content. With the
 * lock. */
static void write_features(struct virtio_pci *t, unsigned half, u32 value)
{
    if (half < 2 && !t->resetting && !(t->status & STATUS_FEATURES_OK))
        store_le((u8 *)&t->wanted + 4 * half, value, 4);
}

static void write_common(struct virtio_pci *t, u64 offset, u32 value)
{
    if (offset == offsetof(struct common, status)) {
        virtio_write_status(t, (u8)value, false);
        return;
    }
    pthread_mutex_lock(&t->lock);
    switch (offset) {
    case offsetof(struct common, device_select):
        t->device_select = value;
        break;
    case offsetof(struct common, driver_select):
        t->driver_select = value;
        break;
    case offsetof(struct common, driver_features):
        write_features(t, t->driver_select, value);
        break;
    case offsetof(struct common, config_vector):
        virtio_set_vector(t, &t->config_vector, value);
        break;
    case offsetof(struct common, queue_select):
        t->queue_select = (u16)value;
        break;
    case offsetof(struct common, queue_vector):
        virtio_set_selected_vector(t, value);
        break;
    default:
        write_queue(t, offset, value);
    }
    pthread_mutex_unlock(&t->lock);
    wire_flush(&t->intx);
}

static u64 memory_read(void *ctx, u64 off, unsigned size)
{
    struct virtio_pci *t = ctx;
    u64 in_part = off % PAGE_SIZE;
    switch (off / PAGE_SIZE) {
    case PART_COMMON:
        return read_common(t, in_part, size);
    case PART_ISR:
        return in_part == 0 ? virtio_read_isr(t) : 0;
    case PART_DEVICE:
        return virtio_read_config(t, in_part, size);
    }
    return 0;
}

static void memory_write(void *ctx, u64 off, u64 value, unsigned size)
{
    struct virtio_pci *t = ctx;
    u64 in_part = off % PAGE_SIZE;
    switch (off / PAGE_SIZE) {
    case PART_COMMON:
        write_common(t, in_part, (u32)value);
        if (size == 8)
            write_common(t, in_part + 4, (u32)(value >> 32));
        break;
    case PART_DEVICE:
        virtio_write_config(t, in_part, value, size);
        break;
    case PART_NOTIFY:
        virtio_notify(t, (unsigned)(in_part / NOTIFY_STRIDE));
        break;
    }
}

const struct mmio_ops virtio_modern_ops = {memory_read, memory_write};
/* --- PCI configuration space --- */

/* The window to BAR 4 for those who can't reach it (4.1.4.7): what it shows, or false. */
static bool window(struct virtio_pci *t, u32 *offset, unsigned *size)
{
    struct pci_bus *pci = t->o.pci;
    u8 devfn = t->o.devfn;
    u32 length = pci_config_read(pci, devfn, WINDOW_LENGTH, 4);
    *offset = pci_config_read(pci, devfn, WINDOW_OFFSET, 4);
    *size = length;
    return pci_config_read(pci, devfn, WINDOW_BAR, 1) == MEMORY_BAR &&
           (length == 1 || length == 2 || length == 4) && *offset % length == 0 &&
           *offset < VIRTIO_MEMORY_SIZE;
}

static void config_written(void *ctx, unsigned offset, unsigned size)
{
    struct virtio_pci *t = ctx;
    u32 at;
    unsigned width;
    if (offset <= WINDOW_DATA && offset + size > WINDOW_DATA && window(t, &at, &width))
        memory_write(t, at, pci_config_read(t->o.pci, t->o.devfn, WINDOW_DATA, width), width);
    bool command = offset < CONFIG_STATUS && offset + size > CONFIG_COMMAND;
    bool control = t->msix && offset < MSIX_CONTROL + 2 && offset + size > MSIX_CONTROL;
    if (!command && !control)
        return;
    if (control)
        msix_control(t->msix, (u16)pci_config_read(t->o.pci, t->o.devfn, MSIX_CONTROL, 2));
    pthread_mutex_lock(&t->lock);
    t->intx_off = pci_config_read(t->o.pci, t->o.devfn, CONFIG_COMMAND, 2) & COMMAND_INTX_OFF;
    virtio_update_pin(t);
    pthread_mutex_unlock(&t->lock);
    wire_flush(&t->intx);
}

static void config_reading(void *ctx, unsigned offset, unsigned size)
{
    struct virtio_pci *t = ctx;
    u32 at;
    unsigned width;
    if (offset <= WINDOW_DATA && offset + size > WINDOW_DATA && window(t, &at, &width))
        pci_config_write(t->o.pci, t->o.devfn, WINDOW_DATA, (u32)memory_read(t, at, width), width);
    if (offset <= CONFIG_STATUS && offset + size > CONFIG_STATUS) {
        pthread_mutex_lock(&t->lock);
        u8 status = STATUS_LIST | (t->isr ? STATUS_INTX : 0);
        pthread_mutex_unlock(&t->lock);
        pci_config_write(t->o.pci, t->o.devfn, CONFIG_STATUS, status, 1);
    }
}

/* One of the structures in BAR 4 (4.1.4). */
static void describe_part(struct pci_function *f, unsigned at, u8 size, u8 type, unsigned part,
                          u32 length)
{
    pci_function_capability(f, at, CAP_ID_VENDOR);
    f->reset[at + 2] = size;
    f->reset[at + 3] = type;
    f->reset[at + 4] = MEMORY_BAR;
    store_le(&f->reset[at + 8], part * PAGE_SIZE, 4);
    store_le(&f->reset[at + 12], length, 4);
}

void virtio_describe(struct virtio_pci *t, struct pci_function *f, struct port_range *ports,
                     struct mem_region *region)
{
    pci_function_init(f, VENDOR_QUMRANET, t->o.pci_id, t->o.class_code, 0);
    pci_function_subsystem(f, VENDOR_QUMRANET, t->o.type);
    pci_function_pin(f, 1);
    pci_function_ports(f, 0, VIRTIO_PORTS, ports);
    pci_function_memory(f, MEMORY_BAR, VIRTIO_MEMORY_SIZE, region);
    if (t->msix)
        msix_describe(t->msix, f, CAP_MSIX, MSIX_BAR);
    describe_part(f, CAP_WINDOW, 20, 5, 0, 0);
    f->reset[WINDOW_BAR] = 0;
    f->writable[WINDOW_BAR] = 0xff;
    memset(&f->writable[WINDOW_OFFSET], 0xff, WINDOW_DATA + 4 - WINDOW_OFFSET);
    describe_part(f, CAP_NOTIFY, 20, 2, PART_NOTIFY, NOTIFY_STRIDE * t->o.queues);
    store_le(&f->reset[CAP_NOTIFY + 16], NOTIFY_STRIDE, 4);
    describe_part(f, CAP_DEVICE, 16, 4, PART_DEVICE, t->o.config_size);
    describe_part(f, CAP_ISR, 16, 3, PART_ISR, 1);
    describe_part(f, CAP_COMMON, 16, 1, PART_COMMON, sizeof(struct common));
    f->written = config_written;
    f->reading = config_reading;
    f->ctx = t;
}
