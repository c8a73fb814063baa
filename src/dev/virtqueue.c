/*
 * Split virtqueues. Addresses are looked up at each access, which is cheap, so that the map may
 * change under a queue. A notification can't be lost, and no loop runs as long as the guest likes:
 * virtqueue_look() first asks for a notification of whatever comes after what it then returns.
 */
#include "dev/virtqueue.h"

#include <stdatomic.h>

#include "mem/ramaccess.h"

/* Offsets (2.6.5, 2.6.6, 2.6.8). */
#define DESC_SIZE        16
#define RING_FLAGS       0
#define RING_IDX         2
#define RING_ENTRIES     4
#define AVAIL_ENTRY_SIZE 2
#define USED_ENTRY_SIZE  8

#define DESC_NEXT     0x1
#define DESC_WRITE    0x2
#define DESC_INDIRECT 0x4

#define AVAIL_NO_INTERRUPT 0x1

#define LOOK_AGAIN 64 /* how often; see virtqueue_look() */

struct descriptor {
    u64 addr;
    u32 length;
    u16 flags, next;
};

static bool get16(const struct virtqueue *vq, u64 gpa, u16 *value)
{
    const u8 *p = guestmem_hva(vq->gm, gpa, 2, false);
    if (!p)
        return false;
    *value = (u16)ram_load(p, 2);
    return true;
}

static bool put(const struct virtqueue *vq, u64 gpa, u64 value, unsigned size)
{
    u8 *p = guestmem_hva(vq->gm, gpa, size, true);
    if (!p)
        return false;
    ram_store(p, value, size);
    return true;
}

/* The entry that asks the device for notifications lies behind the used ring, the one that asks for
 * interrupts behind the available ring (2.6.7.2, 2.6.10). */
static u64 avail_event(const struct virtqueue *vq)
{
    return vq->used + RING_ENTRIES + (u64)USED_ENTRY_SIZE * vq->size;
}

static u64 used_event(const struct virtqueue *vq)
{
    return vq->avail + RING_ENTRIES + (u64)AVAIL_ENTRY_SIZE * vq->size;
}

/* The guest may add entries between the look at the index and the request for a notification, so
 * look again; one that does so without end is left to notify when it likes. */
int virtqueue_look(struct virtqueue *vq)
{
    u16 idx, before;
    if (!get16(vq, vq->avail + RING_IDX, &idx))
        return VQ_BROKEN;
    for (unsigned n = 0; vq->event_idx && n < LOOK_AGAIN; n++) {
        before = idx;
        if (!put(vq, avail_event(vq), idx, 2))
            return VQ_BROKEN;
        atomic_thread_fence(memory_order_seq_cst);
        code_written(vq->gm, avail_event(vq), 2);
        if (!get16(vq, vq->avail + RING_IDX, &idx))
            return VQ_BROKEN;
        if (idx == before)
            break;
    }
    atomic_thread_fence(memory_order_acquire);
    /* What is available and what is not given back yet: at most what the ring holds. */
    if ((u16)(idx - vq->used_idx) > vq->size || (u16)(idx - vq->next) > vq->size)
        return VQ_BROKEN;
    vq->end = idx;
    return (u16)(idx - vq->next);
}

/* --- chains --- */

static bool read_descriptor(const struct virtqueue *vq, u64 table, u32 n, struct descriptor *d)
{
    const u8 *p = guestmem_hva(vq->gm, table + (u64)DESC_SIZE * n, DESC_SIZE, false);
    if (!p)
        return false;
    d->addr = ram_load(p, 8);
    d->length = (u32)ram_load(p + 8, 4);
    d->flags = (u16)ram_load(p + 12, 2);
    d->next = (u16)ram_load(p + 14, 2);
    return true;
}

static bool add_memory(const struct virtqueue *vq, struct vq_chain *c, const struct descriptor *d)
{
    bool in = d->flags & DESC_WRITE;
    u64 gpa = d->addr, left = d->length;
    if (!in && c->nin)
        return false;
    for (u64 n; left; gpa += n, left -= n) {
        u8 *hva = guestmem_hva(vq->gm, gpa, left, in);
        n = left;
        if (!hva)
            hva = guestmem_piece(vq->gm, gpa, left, in, &n);
        if (!hva || c->nout + c->nin == VQ_CHAIN_MAX)
            return false;
        c->iov[c->nout + c->nin] = (struct iovec){hva, n};
        if (in)
            c->nin++;
        else
            c->nout++;
    }
    if (in)
        c->in_length += d->length;
    else
        c->out_length += d->length;
    return true;
}

/* A table of descriptors in place of one descriptor, the last of its chain (2.6.5.3). */
static bool enter_table(const struct virtqueue *vq, const struct descriptor *d, u64 *table,
                        u32 *count)
{
    if (!vq->indirect || (d->flags & DESC_NEXT) || d->length % DESC_SIZE)
        return false;
    *table = d->addr;
    *count = d->length / DESC_SIZE;
    return true;
}

static bool read_chain(const struct virtqueue *vq, struct vq_chain *c)
{
    u64 table = vq->desc;
    u32 count = vq->size, n = c->head;
    bool indirect = false;
    for (unsigned steps = 0; steps <= VQ_CHAIN_MAX; steps++) {
        struct descriptor d;
        if (n >= count || !read_descriptor(vq, table, n, &d))
            return false;
        if (d.flags & DESC_INDIRECT) {
            if (indirect || !enter_table(vq, &d, &table, &count))
                return false;
            indirect = true;
            n = 0;
            continue;
        }
        if (!add_memory(vq, c, &d))
            return false;
        if (!(d.flags & DESC_NEXT))
            return true;
        n = d.next;
    }
    return false; /* it is a loop, or longer than we promised to take */
}

int virtqueue_pop(struct virtqueue *vq, struct vq_chain *chain)
{
    if (vq->next == vq->end)
        return 0;
    chain->nout = chain->nin = 0;
    chain->out_length = chain->in_length = 0;
    u64 entry = vq->avail + RING_ENTRIES + (u64)AVAIL_ENTRY_SIZE * (vq->next & (vq->size - 1u));
    if (!get16(vq, entry, &chain->head) || !read_chain(vq, chain))
        return VQ_BROKEN;
    vq->next++;
    return 1;
}

/* The writer may be any thread, and a decoder fences only for the sake of vCPUs; hence the fences
 * between what is stored and the looks at what is code. */
int virtqueue_push(struct virtqueue *vq, const struct vq_chain *chain, u32 length)
{
    u64 entry = vq->used + RING_ENTRIES + (u64)USED_ENTRY_SIZE * (vq->used_idx & (vq->size - 1u));
    const u8 *ram = guestmem_ram(vq->gm);
    u16 flags;
    if (!put(vq, entry, chain->head | (u64)length << 32, USED_ENTRY_SIZE))
        return VQ_BROKEN;
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = chain->nout; i < chain->nout + chain->nin; i++)
        code_written_ram(vq->gm, (u64)((u8 *)chain->iov[i].iov_base - ram), chain->iov[i].iov_len);
    vq->used_idx++;
    if (!put(vq, vq->used + RING_IDX, vq->used_idx, 2))
        return VQ_BROKEN;
    atomic_thread_fence(memory_order_seq_cst);
    code_written(vq->gm, entry, USED_ENTRY_SIZE);
    code_written(vq->gm, vq->used + RING_IDX, 2);
    if (!get16(vq, vq->event_idx ? used_event(vq) : vq->avail + RING_FLAGS, &flags))
        return VQ_BROKEN;
    if (vq->event_idx)
        return flags == (u16)(vq->used_idx - 1); /* 2.6.7.2 */
    return !(flags & AVAIL_NO_INTERRUPT);
}

unsigned vq_chain_slice(const struct vq_chain *chain, bool in, u64 offset, u64 length,
                        struct iovec *to)
{
    const struct iovec *v = chain->iov + (in ? chain->nout : 0);
    unsigned n = 0;
    assert(offset + length <= (in ? chain->in_length : chain->out_length));
    for (; length; v++) {
        if (offset >= v->iov_len) {
            offset -= v->iov_len;
            continue;
        }
        u64 part = MIN(length, v->iov_len - offset);
        to[n++] = (struct iovec){(u8 *)v->iov_base + offset, part};
        length -= part;
        offset = 0;
    }
    return n;
}

void vq_chain_read(const struct vq_chain *chain, u64 offset, void *buf, u64 length)
{
    struct iovec part[VQ_CHAIN_MAX];
    unsigned n = vq_chain_slice(chain, false, offset, length, part);
    for (unsigned i = 0; i < n; buf = (u8 *)buf + part[i++].iov_len)
        memcpy(buf, part[i].iov_base, part[i].iov_len);
}

void vq_chain_write(const struct vq_chain *chain, u64 offset, const void *buf, u64 length)
{
    struct iovec part[VQ_CHAIN_MAX];
    unsigned n = vq_chain_slice(chain, true, offset, length, part);
    for (unsigned i = 0; i < n; buf = (const u8 *)buf + part[i++].iov_len)
        memcpy(part[i].iov_base, buf, part[i].iov_len);
}
