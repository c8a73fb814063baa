/*
 * The transport. One lock guards all of its state; the interrupt pin is a wire that is pulled after
 * the lock is dropped. A reset takes effect when the device has given back what it has taken: until
 * then the modern status register is not 0 yet, as drivers expect (4.1.4.3.2), while a write of 0
 * to the legacy one waits, because legacy drivers don't look.
 */
#include "dev/virtio_pci.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/wire.h"

#define VENDOR_QUMRANET 0x1af4 /* as 4.1.2 wants, and for the subsystem, too */

#define PORTS       128
#define MEMORY_SIZE 0x4000
#define MEMORY_BAR  4
/* In the memory BAR, a page for each. */
enum { PART_COMMON, PART_ISR, PART_DEVICE, PART_NOTIFY };
#define NOTIFY_STRIDE 4

#define CONFIG_MAX 64
#define QUEUE_MAX  1024

/* Device status (2.1). */
#define STATUS_ACKNOWLEDGE 0x01
#define STATUS_DRIVER_OK   0x04
#define STATUS_FEATURES_OK 0x08
#define STATUS_NEEDS_RESET 0x40

#define ISR_QUEUE  0x1
#define ISR_CONFIG 0x2

#define F_ANY_LAYOUT    BIT(27)
#define F_INDIRECT_DESC BIT(28)
#define F_EVENT_IDX     BIT(29)
#define F_TRANSPORT     (F_ANY_LAYOUT | F_INDIRECT_DESC | F_EVENT_IDX | VIRTIO_F_VERSION_1)

#define NO_VECTOR 0xffff

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

/* The legacy ones as they lie in ports (4.1.4.8); device configuration follows. */
struct legacy {
    u32 device_features, driver_features;
    u32 queue_page;
    u16 queue_size, queue_select, queue_notify;
    u8 status, isr;
};
_Static_assert(sizeof(struct legacy) == 20, "struct legacy has no holes");

struct virtio_pci {
    struct virtio_pci_options o;
    pthread_mutex_t lock;
    pthread_cond_t idle; /* taken became 0 */
    struct wire intx;
    bool intx_off; /* by the PCI command register */

    u8 status, isr;
    bool resetting; /* a reset waits for the device */
    bool broken;    /* no more chains until a reset */
    u32 device_select, driver_select;
    u64 wanted;           /* features that the driver has written */
    _Atomic u64 features; /* those that hold */
    u16 queue_select;
    struct virtqueue *vq;

    unsigned taken; /* chains that the device has */
    struct vq_chain *free;
    u8 *chains; /* memory of all of them */
};

/* --- all with the lock held --- */

static void update_pin(struct virtio_pci *t)
{
    wire_level(&t->intx, t->isr && !t->intx_off);
}

static void interrupt(struct virtio_pci *t, u8 why)
{
    t->isr |= why;
    update_pin(t);
}

static void fail(struct virtio_pci *t)
{
    if (t->broken)
        return;
    t->broken = true;
    if (!(t->features & VIRTIO_F_VERSION_1))
        return; /* a legacy driver knows no such thing (2.1) */
    t->status |= STATUS_NEEDS_RESET;
    if (t->status & STATUS_DRIVER_OK)
        interrupt(t, ISR_CONFIG);
}

static void set_features(struct virtio_pci *t, u64 features)
{
    t->features = features;
    for (unsigned i = 0; i < t->o.queues; i++) {
        t->vq[i].event_idx = features & F_EVENT_IDX;
        t->vq[i].indirect = features & F_INDIRECT_DESC;
    }
}

static void clear_queue(struct virtio_pci *t, struct virtqueue *vq)
{
    *vq = (struct virtqueue){.gm = t->o.gm, .size = t->o.queue_size};
    set_features(t, t->features);
}

static void finish_reset(struct virtio_pci *t)
{
    t->resetting = t->broken = false;
    t->status = t->isr = 0;
    t->device_select = t->driver_select = 0;
    t->wanted = 0;
    t->features = 0;
    t->queue_select = 0;
    for (unsigned i = 0; i < t->o.queues; i++)
        clear_queue(t, &t->vq[i]);
    update_pin(t);
    t->o.ops->reset(t->o.ctx);
}

static void start_reset(struct virtio_pci *t)
{
    t->isr = 0;
    update_pin(t);
    t->resetting = true;
    if (t->taken == 0)
        finish_reset(t);
    else
        t->status |= STATUS_ACKNOWLEDGE; /* not 0 yet */
}

static void wait_idle(struct virtio_pci *t)
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
            fail(t);
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
            fail(t);
        if (rc > 0)
            interrupt(t, ISR_QUEUE);
    }
    pthread_mutex_unlock(&t->lock);
    release(t, chain);
}

void virtio_pci_reject(struct virtio_pci *t, struct vq_chain *chain)
{
    pthread_mutex_lock(&t->lock);
    if (!t->resetting)
        fail(t);
    pthread_mutex_unlock(&t->lock);
    release(t, chain);
}

u64 virtio_pci_features(struct virtio_pci *t)
{
    return atomic_load_explicit(&t->features, memory_order_relaxed);
}

/* --- registers; without the lock unless said --- */

static void notify(struct virtio_pci *t, unsigned queue)
{
    int n = 0;
    if (queue >= t->o.queues)
        return;
    pthread_mutex_lock(&t->lock);
    if (runs(t, queue)) {
        n = virtqueue_look(&t->vq[queue]);
        if (n < 0)
            fail(t);
    }
    pthread_mutex_unlock(&t->lock);
    wire_flush(&t->intx);
    if (n > 0)
        t->o.ops->notify(t->o.ctx, queue);
}

static void write_status(struct virtio_pci *t, u8 status, bool legacy)
{
    pthread_mutex_lock(&t->lock);
    bool was_ok = t->status & STATUS_DRIVER_OK;
    if (status == 0) {
        start_reset(t);
        if (legacy)
            wait_idle(t);
    } else if (!t->resetting) {
        u64 wanted = t->wanted;
        bool agree = wanted & VIRTIO_F_VERSION_1 && !(wanted & ~t->o.features);
        if (status & ~t->status & STATUS_FEATURES_OK) {
            if (agree)
                set_features(t, wanted);
            else
                status &= ~STATUS_FEATURES_OK;
        }
        t->status = status | (t->status & STATUS_NEEDS_RESET);
    }
    bool ok = !was_ok && (t->status & STATUS_DRIVER_OK) && !t->resetting;
    pthread_mutex_unlock(&t->lock);
    wire_flush(&t->intx);
    for (unsigned i = 0; ok && i < t->o.queues; i++)
        notify(t, i);
}

static u8 read_isr(struct virtio_pci *t)
{
    pthread_mutex_lock(&t->lock);
    u8 isr = t->isr;
    t->isr = 0;
    update_pin(t);
    pthread_mutex_unlock(&t->lock);
    wire_flush(&t->intx);
    return isr;
}

static u64 read_config(struct virtio_pci *t, u64 offset, unsigned size)
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

static void write_config(struct virtio_pci *t, u64 offset, u64 value, unsigned size)
{
    if (offset >= t->o.config_size)
        return;
    size = (unsigned)MIN(size, t->o.config_size - offset);
    pthread_mutex_lock(&t->lock);
    t->o.ops->config_write(t->o.ctx, t->features, (unsigned)offset, &value, size);
    pthread_mutex_unlock(&t->lock);
}

/* The selected queue, or NULL. With the lock. */
static struct virtqueue *selected(struct virtio_pci *t)
{
    return t->queue_select < t->o.queues ? &t->vq[t->queue_select] : NULL;
}

/* --- modern --- */

static void fill_common(struct virtio_pci *t, struct common *c)
{
    const struct virtqueue *vq = selected(t);
    *c = (struct common){
        .device_select = t->device_select,
        .driver_select = t->driver_select,
        .config_vector = NO_VECTOR,
        .queues = (u16)t->o.queues,
        .status = t->status,
        .queue_select = t->queue_select,
        .queue_vector = NO_VECTOR,
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
    struct virtqueue *vq = selected(t);
    if (!vq || vq->enabled || t->resetting)
        return;
    switch (offset) {
    case offsetof(struct common, queue_size):
        if (value == 0 || value > t->o.queue_size || (value & (value - 1)))
            fail(t);
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
        write_status(t, (u8)value, false);
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
    case offsetof(struct common, queue_select):
        t->queue_select = (u16)value;
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
        return in_part == 0 ? read_isr(t) : 0;
    case PART_DEVICE:
        return read_config(t, in_part, size);
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
        write_config(t, in_part, value, size);
        break;
    case PART_NOTIFY:
        notify(t, (unsigned)(in_part / NOTIFY_STRIDE));
        break;
    }
}

static const struct mmio_ops memory_ops = {memory_read, memory_write};

/* --- legacy --- */

/* Where the three parts of a legacy queue lie (2.6.2). With the lock. */
static void place_legacy_queue(struct virtqueue *vq, u32 page)
{
    vq->desc = (u64)page << PAGE_SHIFT;
    vq->avail = vq->desc + 16ULL * vq->size;
    vq->used = align_up(vq->avail + 4 + 2ULL * vq->size + 2, PAGE_SIZE);
    vq->enabled = true;
}

/* Page 0 takes the queue away, and what is in flight with it. */
static void write_legacy_queue(struct virtio_pci *t, u32 page)
{
    struct virtqueue *vq = selected(t);
    if (!vq || t->resetting)
        return;
    if (page && !vq->enabled) {
        place_legacy_queue(vq, page);
    } else if (!page && vq->enabled) {
        vq->enabled = false;
        wait_idle(t);
        clear_queue(t, vq);
    }
}

static u32 legacy_read(void *ctx, u16 port, unsigned size)
{
    struct virtio_pci *t = ctx;
    struct legacy l;
    if (port >= sizeof(l))
        return (u32)read_config(t, port - sizeof(l), size);
    if (port == offsetof(struct legacy, isr))
        return read_isr(t);
    if (port > sizeof(l) - size)
        return (u32)size_mask(size);
    pthread_mutex_lock(&t->lock);
    const struct virtqueue *vq = selected(t);
    l = (struct legacy){
        .device_features = (u32)t->o.features,
        .driver_features = (u32)t->features,
        .queue_page = vq && vq->enabled ? (u32)(vq->desc >> PAGE_SHIFT) : 0,
        .queue_size = vq ? vq->size : 0,
        .queue_select = t->queue_select,
        .status = t->status,
    };
    pthread_mutex_unlock(&t->lock);
    return (u32)load_le((u8 *)&l + port, size);
}

static void legacy_write(void *ctx, u16 port, u32 value, unsigned size)
{
    struct virtio_pci *t = ctx;
    switch (port) {
    case offsetof(struct legacy, queue_notify):
        notify(t, value & 0xffff);
        return;
    case offsetof(struct legacy, status):
        write_status(t, (u8)value, true);
        return;
    }
    if (port >= sizeof(struct legacy)) {
        write_config(t, port - sizeof(struct legacy), value, size);
        return;
    }
    pthread_mutex_lock(&t->lock);
    switch (port) {
    case offsetof(struct legacy, driver_features):
        if (!t->resetting && !(t->features & VIRTIO_F_VERSION_1))
            set_features(t, value & t->o.features);
        break;
    case offsetof(struct legacy, queue_select):
        t->queue_select = (u16)value;
        break;
    case offsetof(struct legacy, queue_page):
        write_legacy_queue(t, value);
        break;
    }
    pthread_mutex_unlock(&t->lock);
}

static const struct port_ops legacy_ops = {legacy_read, legacy_write};

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
           *offset < MEMORY_SIZE;
}

static void config_written(void *ctx, unsigned offset, unsigned size)
{
    struct virtio_pci *t = ctx;
    u32 at;
    unsigned width;
    if (offset <= WINDOW_DATA && offset + size > WINDOW_DATA && window(t, &at, &width))
        memory_write(t, at, pci_config_read(t->o.pci, t->o.devfn, WINDOW_DATA, width), width);
    if (offset < CONFIG_STATUS && offset + size > CONFIG_COMMAND) {
        u32 command = pci_config_read(t->o.pci, t->o.devfn, CONFIG_COMMAND, 2);
        pthread_mutex_lock(&t->lock);
        t->intx_off = command & COMMAND_INTX_OFF;
        update_pin(t);
        pthread_mutex_unlock(&t->lock);
        wire_flush(&t->intx);
    }
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

static void describe(struct virtio_pci *t, struct pci_function *f, struct port_range *ports,
                     struct mem_region *region)
{
    pci_function_init(f, VENDOR_QUMRANET, t->o.pci_id, t->o.class_code, 0);
    pci_function_subsystem(f, VENDOR_QUMRANET, t->o.type);
    pci_function_pin(f, 1);
    pci_function_ports(f, 0, PORTS, ports);
    pci_function_memory(f, MEMORY_BAR, MEMORY_SIZE, region);
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

/* --- making it --- */

static int allocate(struct virtio_pci *t, struct error *err)
{
    size_t n = (size_t)t->o.queues * t->o.queue_size;
    t->vq = calloc(t->o.queues, sizeof(*t->vq));
    t->chains = calloc(n, t->o.chain_size);
    if (!t->vq || !t->chains)
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
    int rc = port_range_create(t->o.ports, PORTS, &legacy_ops, t, NULL, true, &ports, err);
    if (rc == 0)
        rc = mem_region_mmio(t->o.gm, LAYER_BUS, MEMORY_SIZE, &memory_ops, t, NULL, &region, err);
    if (rc < 0)
        return rc;
    describe(t, &f, ports, region);
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
    pthread_mutex_lock(&t->lock);
    t->intx_off = false;
    start_reset(t);
    wait_idle(t);
    pthread_mutex_unlock(&t->lock);
    wire_flush(&t->intx);
}

void virtio_pci_destroy(struct virtio_pci *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->broken = true;
    wait_idle(t);
    pthread_mutex_unlock(&t->lock);
    wire_destroy(&t->intx);
    pthread_cond_destroy(&t->idle);
    pthread_mutex_destroy(&t->lock);
    free(t->chains);
    free(t->vq);
    free(t);
}
