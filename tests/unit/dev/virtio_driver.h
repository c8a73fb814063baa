/*
 * A small driver of a virtio disk for these tests, which finds the device in PCI configuration
 * space and works through its base addresses and rings in guest memory, the modern or the legacy
 * way; and a disk in memory that ends requests at once, on a thread of its own, or when it is told.
 */
#ifndef TESTS_DEV_VIRTIO_DRIVER_H
#define TESTS_DEV_VIRTIO_DRIVER_H

#include "rig.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "dev/virtio_blk.h"

/* --- the disk --- */

enum test_disk_mode { AT_ONCE, BY_THREAD, WHEN_TOLD };

struct test_disk {
    struct block block;
    enum test_disk_mode mode;
    u8 *data;
    int fail; /* errno of all requests, or 0 */
    unsigned count[BLOCK_WRITE_ZEROES + 1];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct block_request *first, **last; /* not carried out yet */
    unsigned waiting;
    bool stop;
    pthread_t thread;
};

static inline void test_disk_move(struct test_disk *d, struct block_request *r)
{
    u64 at = r->offset;
    for (unsigned i = 0; i < r->niov; i++) {
        void *p = r->iov[i].iov_base;
        size_t n = r->iov[i].iov_len;
        assert_true(at + n <= r->offset + r->length);
        if (r->op == BLOCK_READ)
            memcpy(p, d->data + at, n);
        else
            memcpy(d->data + at, p, n);
        at += n;
        r->iov[i] = (struct iovec){0}; /* a back end may use it up */
    }
    assert_int_equal(at, r->offset + r->length);
}

static inline void test_disk_carry_out(struct test_disk *d, struct block_request *r)
{
    assert_true(r->offset % BLOCK_SECTOR == 0 && r->length % BLOCK_SECTOR == 0);
    assert_true(r->offset <= d->block.size && r->length <= d->block.size - r->offset);
    assert_true((r->op == BLOCK_FLUSH) == (r->length == 0));
    __atomic_add_fetch(&d->count[r->op], 1, __ATOMIC_SEQ_CST);
    if (!d->fail) {
        if (r->op == BLOCK_READ || r->op == BLOCK_WRITE)
            test_disk_move(d, r);
        else if (r->op != BLOCK_FLUSH)
            memset(d->data + r->offset, 0, r->length);
    }
    r->done(r, -d->fail);
}

/* Takes the oldest request, or NULL. */
static inline struct block_request *test_disk_take(struct test_disk *d)
{
    pthread_mutex_lock(&d->lock);
    struct block_request *r = d->first;
    if (r) {
        d->first = r->next;
        d->waiting--;
        if (!d->first)
            d->last = &d->first;
    }
    pthread_mutex_unlock(&d->lock);
    return r;
}

/* Carries out what waits (WHEN_TOLD). */
static inline void test_disk_go(struct test_disk *d)
{
    for (struct block_request *r; (r = test_disk_take(d));)
        test_disk_carry_out(d, r);
}

static inline void *test_disk_run(void *arg)
{
    struct test_disk *d = arg;
    for (;;) {
        pthread_mutex_lock(&d->lock);
        while (!d->first && !d->stop)
            pthread_cond_wait(&d->changed, &d->lock);
        bool stop = d->stop;
        pthread_mutex_unlock(&d->lock);
        test_disk_go(d);
        if (stop)
            return NULL;
    }
}

static inline void test_disk_submit(struct block *b, struct block_request *r)
{
    struct test_disk *d = container_of(b, struct test_disk, block);
    if (d->mode == AT_ONCE) {
        test_disk_carry_out(d, r);
        return;
    }
    pthread_mutex_lock(&d->lock);
    r->next = NULL;
    *d->last = r;
    d->last = &r->next;
    d->waiting++;
    pthread_cond_signal(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

static inline void test_disk_destroy(struct block *b)
{
    struct test_disk *d = container_of(b, struct test_disk, block);
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_signal(&d->changed);
    pthread_mutex_unlock(&d->lock);
    if (d->thread)
        pthread_join(d->thread, NULL);
    free(d->data);
    free(d);
}

static inline struct test_disk *test_disk_create(u64 size, enum test_disk_mode mode)
{
    static const struct block_ops ops = {.submit = test_disk_submit, .destroy = test_disk_destroy};
    struct test_disk *d = calloc(1, sizeof(*d));
    d->block = (struct block){.ops = &ops, .size = size};
    d->mode = mode;
    d->data = malloc(size);
    for (u64 i = 0; i < size; i++)
        d->data[i] = (u8)(i ^ i >> 9);
    d->last = &d->first;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    if (mode == BY_THREAD)
        pthread_create(&d->thread, NULL, test_disk_run, d);
    return d;
}

/* --- the driver --- */

#define DRV_RAM   (4 * MIB)
#define DRV_DEVFN PCI_DEVFN(4, 0)
#define DRV_PORTS 0xc000
#define DRV_BAR   0xe0000000ULL
#define DRV_RING  0x10000ULL  /* descriptors, available ring, used ring */
#define DRV_DATA  0x100000ULL /* for the tests */
#define DRV_HEAD  0x80000ULL  /* per descriptor: 16 bytes of header, and from +16 on the status */
#define DRV_TABLE 0x90000ULL  /* an indirect table */
#define DRV_SIZE  128
#define DISK_SIZE (2 * MIB)

#define ISR_ADDR    (DRV_BAR + 0x1000)
#define DEVICE_ADDR (DRV_BAR + 0x2000)
#define NOTIFY_ADDR (DRV_BAR + 0x3000)

#define F_FLUSH      BIT(9)
#define F_CONFIG_WCE BIT(11)
#define F_INDIRECT   BIT(28)
#define F_EVENT      BIT(29)
#define F_VERSION_1  BIT(32)

enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };
enum { T_READ = 0, T_WRITE = 1, T_FLUSH = 4, T_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };
enum { S_OK, S_IOERR, S_UNSUPP, S_NONE = 0x5a };

struct driver {
    struct rig r;
    struct reset_ports *reset;
    struct pci_bus *pci;
    struct guest_mem *gm;
    struct test_disk *disk;
    struct virtio_blk *blk;
    bool legacy;
    u64 desc, avail, used; /* gpa */
    u16 next_desc, avail_idx, seen;
};

static inline u64 ld(struct driver *d, u64 gpa, unsigned size)
{
    return guestmem_load(d->gm, gpa, size, NULL);
}

static inline void st(struct driver *d, u64 gpa, u64 value, unsigned size)
{
    guestmem_store(d->gm, gpa, value, size, NULL);
}

static inline u32 cfg_in(struct driver *d, unsigned offset, unsigned size)
{
    out32(&d->r, 0xcf8, 0x80000000 | DRV_DEVFN << 8 | (offset & 0xfc));
    return port_in(d->r.bus, (u16)(0xcfc + offset % 4), size);
}

static inline void cfg_out(struct driver *d, unsigned offset, u32 value, unsigned size)
{
    out32(&d->r, 0xcf8, 0x80000000 | DRV_DEVFN << 8 | (offset & 0xfc));
    port_out(d->r.bus, (u16)(0xcfc + offset % 4), value, size);
}

static inline void driver_create(struct driver *d, enum test_disk_mode mode, bool read_only,
                                 struct lapic_bus *apics)
{
    struct error err;
    memset(d, 0, sizeof(*d));
    rig_init(&d->r);
    assert_int_equal(reset_ports_create(&d->r.power, &d->reset, &err), 0);
    assert_int_equal(pci_create(d->reset, &d->pci, &err), 0);
    assert_int_equal(pci_attach(d->pci, d->r.bus, &err), 0);
    assert_int_equal(guestmem_create(DRV_RAM, &d->gm, &err), 0);
    d->disk = test_disk_create(DISK_SIZE, mode);
    d->disk->block.read_only = read_only;
    struct virtio_blk_options opt = {
        .gm = d->gm,
        .ports = d->r.bus,
        .pci = d->pci,
        .devfn = DRV_DEVFN,
        .intx = rig_line(&d->r, 0),
        .apics = apics,
        .block = &d->disk->block,
        .serial = "ringer-disk-0",
    };
    assert_int_equal(virtio_blk_create(&opt, &d->blk, &err), 0);
}

static inline void driver_destroy(struct driver *d)
{
    virtio_blk_destroy(d->blk);
    block_destroy(&d->disk->block);
    guestmem_destroy(d->gm);
    pci_destroy(d->pci);
    reset_ports_destroy(d->reset);
    rig_done(&d->r);
}

/* As firmware does. */
static inline void driver_place(struct driver *d)
{
    cfg_out(d, 0x10, DRV_PORTS, 4);
    cfg_out(d, 0x20, DRV_BAR, 4);
    cfg_out(d, 0x04, 7, 2);
}

static inline u8 get_status(struct driver *d)
{
    return (u8)(d->legacy ? in8(&d->r, DRV_PORTS + 18) : ld(d, DRV_BAR + 20, 1));
}

static inline void set_status(struct driver *d, u8 status)
{
    if (d->legacy)
        out8(&d->r, DRV_PORTS + 18, status);
    else
        st(d, DRV_BAR + 20, status, 1);
}

static inline u8 get_isr(struct driver *d)
{
    return (u8)(d->legacy ? in8(&d->r, DRV_PORTS + 19) : ld(d, ISR_ADDR, 1));
}

static inline u64 get_device(struct driver *d, unsigned offset, unsigned size)
{
    return d->legacy ? port_in(d->r.bus, (u16)(DRV_PORTS + 20 + offset), size)
                     : ld(d, DEVICE_ADDR + offset, size);
}

static inline u64 get_features(struct driver *d)
{
    if (d->legacy)
        return in32(&d->r, DRV_PORTS);
    st(d, DRV_BAR, 1, 4);
    u64 high = ld(d, DRV_BAR + 4, 4);
    st(d, DRV_BAR, 0, 4);
    return high << 32 | ld(d, DRV_BAR + 4, 4);
}

static inline void set_features(struct driver *d, u64 features)
{
    if (d->legacy) {
        out32(&d->r, DRV_PORTS + 4, (u32)features);
        return;
    }
    for (unsigned half = 0; half < 2; half++) {
        st(d, DRV_BAR + 8, half, 4);
        st(d, DRV_BAR + 12, (u32)(features >> 32 * half), 4);
    }
}

static inline void clear_rings(struct driver *d)
{
    for (u64 gpa = DRV_RING; gpa < DRV_RING + 0x4000; gpa += 8)
        st(d, gpa, 0, 8);
    d->next_desc = d->avail_idx = d->seen = 0;
    d->desc = DRV_RING;
    d->avail = DRV_RING + 16 * DRV_SIZE;
    d->used = DRV_RING + 0x1000;
}

static inline void set_queue(struct driver *d)
{
    clear_rings(d);
    if (d->legacy) {
        out16(&d->r, DRV_PORTS + 14, 0);
        assert_int_equal(in16(&d->r, DRV_PORTS + 12), DRV_SIZE);
        assert_int_equal(in32(&d->r, DRV_PORTS + 8), 0);
        out32(&d->r, DRV_PORTS + 8, (u32)(DRV_RING >> 12));
        d->used = DRV_RING + 0x1000;
        return;
    }
    st(d, DRV_BAR + 22, 0, 2);
    assert_int_equal(ld(d, DRV_BAR + 24, 2), DRV_SIZE);
    assert_int_equal(ld(d, DRV_BAR + 28, 2), 0);
    d->used = DRV_RING + 0x2004; /* 4-byte aligned, as far as can be */
    for (unsigned half = 0; half < 2; half++) {
        st(d, DRV_BAR + 32 + 4 * half, d->desc >> 32 * half, 4);
        st(d, DRV_BAR + 40 + 4 * half, d->avail >> 32 * half, 4);
    }
    st(d, DRV_BAR + 48, d->used, 8);
    st(d, DRV_BAR + 28, 1, 2);
}

/* The whole dance of 3.1.1, with these features only. */
static inline void driver_start(struct driver *d, bool legacy, u64 features)
{
    d->legacy = legacy;
    set_status(d, 0);
    while (get_status(d))
        sched_yield();
    set_status(d, 1);
    set_status(d, 3);
    assert_int_equal(features & ~get_features(d), 0);
    set_features(d, legacy ? features : features | F_VERSION_1);
    if (!legacy) {
        set_status(d, 0xb);
        assert_int_equal(get_status(d), 0xb);
    }
    set_queue(d);
    set_status(d, legacy ? 7 : 0xf);
}

static inline void put_desc(struct driver *d, u64 table, unsigned n, u64 addr, u32 length,
                            u16 flags, u16 next)
{
    st(d, table + 16ULL * n, addr, 8);
    st(d, table + 16ULL * n + 8, length, 4);
    st(d, table + 16ULL * n + 12, flags, 2);
    st(d, table + 16ULL * n + 14, next, 2);
}

static inline void make_available(struct driver *d, u16 head)
{
    st(d, d->avail + 4 + 2 * (d->avail_idx % DRV_SIZE), head, 2);
    st(d, d->avail + 2, ++d->avail_idx, 2);
}

static inline void kick(struct driver *d)
{
    if (d->legacy)
        out16(&d->r, DRV_PORTS + 16, 0);
    else
        st(d, NOTIFY_ADDR, 0, 2);
}

static inline u16 used_idx(struct driver *d)
{
    return (u16)__atomic_load_n((u16 *)guestmem_hva(d->gm, d->used + 2, 2, false),
                                __ATOMIC_ACQUIRE);
}

/* A piece of a request's memory. */
struct part {
    u64 gpa;
    u32 length;
    bool in;
};

/* Makes a chain of the parts and publishes it; returns its head. */
static inline u16 send(struct driver *d, const struct part *part, unsigned n)
{
    u16 head = d->next_desc;
    for (unsigned i = 0; i < n; i++) {
        u16 at = d->next_desc;
        d->next_desc = (u16)((at + 1) % DRV_SIZE);
        put_desc(d, d->desc, at, part[i].gpa, part[i].length,
                 (u16)((part[i].in ? D_WRITE : 0) | (i + 1 < n ? D_NEXT : 0)), d->next_desc);
    }
    make_available(d, head);
    return head;
}

static inline u64 header_at(u16 slot)
{
    return DRV_HEAD + 32ULL * slot;
}

/* Writes a request's header and an unmistakable status to the memory of a slot. */
static inline void put_header(struct driver *d, u16 slot, u32 type, u64 sector)
{
    st(d, header_at(slot), type, 4);
    st(d, header_at(slot) + 4, 0, 4);
    st(d, header_at(slot) + 8, sector, 8);
    st(d, header_at(slot) + 16, S_NONE, 1);
}

/* Sends a request of one data part (length 0: none) without kicking; returns its slot. */
static inline u16 send_request(struct driver *d, u32 type, u64 sector, u64 gpa, u32 length, bool in)
{
    u16 slot = d->next_desc;
    struct part part[3] = {{header_at(slot), 16, false}};
    unsigned n = 1;
    put_header(d, slot, type, sector);
    if (length)
        part[n++] = (struct part){gpa, length, in};
    part[n++] = (struct part){header_at(slot) + 16, 1, true};
    return send(d, part, n);
}

static inline u8 status_of(struct driver *d, u16 slot)
{
    return (u8)ld(d, header_at(slot) + 16, 1);
}

/* Waits for the next used entry and returns its head; *length: as the device says. */
static inline u32 receive(struct driver *d, u32 *length)
{
    while (used_idx(d) == d->seen)
        sched_yield();
    u64 entry = d->used + 4 + 8 * (d->seen++ % DRV_SIZE);
    if (length)
        *length = (u32)ld(d, entry + 4, 4);
    return (u32)ld(d, entry, 4);
}

/* One request from start to end; its status. */
static inline u8 request(struct driver *d, u32 type, u64 sector, u64 gpa, u32 length, bool in)
{
    u32 written;
    u16 slot = send_request(d, type, sector, gpa, length, in);
    kick(d);
    assert_int_equal(receive(d, &written), slot);
    assert_int_equal(written, (in ? length : 0) + 1);
    return status_of(d, slot);
}

/* --- for cmocka --- */

static inline int setup_mode(void **state, enum test_disk_mode mode, bool read_only)
{
    struct driver *d = malloc(sizeof(*d));
    driver_create(d, mode, read_only, NULL);
    driver_place(d);
    *state = d;
    return 0;
}

static inline int setup(void **state)
{
    return setup_mode(state, AT_ONCE, false);
}

static inline int setup_thread(void **state)
{
    return setup_mode(state, BY_THREAD, false);
}

static inline int setup_told(void **state)
{
    return setup_mode(state, WHEN_TOLD, false);
}

static inline int setup_read_only(void **state)
{
    return setup_mode(state, AT_ONCE, true);
}

static inline int teardown(void **state)
{
    driver_destroy(*state);
    free(*state);
    return 0;
}

#endif
