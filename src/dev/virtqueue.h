/*
 * Split virtqueues (VIRTIO 1.1, 2.6), the device's side: takes descriptor chains from the available
 * ring and gives them back through the used ring. All of it lies in guest memory that the guest may
 * change at any moment, so each field is read once, and what it says is checked. No locks: the
 * owner has one.
 */
#ifndef RINGER_DEV_VIRTQUEUE_H
#define RINGER_DEV_VIRTQUEUE_H

#include <sys/uio.h>

#include "mem/guestmem.h"

/* Of a chain: descriptors, and contiguous pieces of memory. */
#define VQ_CHAIN_MAX 256

/* A chain: first nout pieces that the device reads, then nin pieces that it writes. */
struct vq_chain {
    struct vq_chain *next; /* the owner's */
    u16 queue;             /* the owner's */
    u16 head;
    unsigned nout, nin;
    u64 out_length, in_length; /* bytes */
    struct iovec iov[VQ_CHAIN_MAX];
};

struct virtqueue {
    struct guest_mem *gm;
    u64 desc, avail, used; /* gpa of the three parts */
    u16 size;              /* a power of two */
    bool enabled;
    bool event_idx, indirect; /* features that were agreed on */
    u16 next;                 /* index in the available ring that is taken next */
    u16 end;                  /* the index before which chains may be taken */
    u16 used_idx;
};

/* For all that can fail: the guest broke the rules, and the queue is of no use until a reset. */
#define VQ_BROKEN (-1)

/* Sees what is available now, and asks for a notification of what is made available from now on.
 * Returns the number of chains to take, or VQ_BROKEN. */
int virtqueue_look(struct virtqueue *vq);

/* Takes a chain that virtqueue_look() saw. 1; 0 if there is none; VQ_BROKEN. */
int virtqueue_pop(struct virtqueue *vq, struct vq_chain *chain);

/* Gives a chain back, with `length` bytes written to its memory (all that the device may write to
 * counts as written to code). 1 if the guest wants an interrupt, else 0; VQ_BROKEN. */
int virtqueue_push(struct virtqueue *vq, const struct vq_chain *chain, u32 length);

/* Copies from the readable part of a chain, or to the writable one, at `offset` there. The bytes
 * must exist. */
void vq_chain_read(const struct vq_chain *chain, u64 offset, void *buf, u64 length);
void vq_chain_write(const struct vq_chain *chain, u64 offset, const void *buf, u64 length);

/* Fills `to` (room for all pieces of the chain) with `length` bytes from `offset` on of the
 * readable part or the writable one. They must exist. Returns the number of pieces. */
unsigned vq_chain_slice(const struct vq_chain *chain, bool in, u64 offset, u64 length,
                        struct iovec *to);

#endif
