/*
 * Disk images of the host. A device submits requests, several at a time; the back end carries them
 * out on threads of its own and reports each by a callback. Back ends: raw files and block devices,
 * NBD, and an overlay that keeps writes away from the image (block_*.c).
 */
#ifndef RINGER_HOST_BLOCK_H
#define RINGER_HOST_BLOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"

#define BLOCK_SECTOR 512

struct block;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

/* The submitter's memory; the back end uses it until it calls done. */
struct block_request {
    enum block_op op;
    u64 offset, length; /* bytes, multiples of BLOCK_SECTOR; 0 for a flush */
    /* READ and WRITE: memory of `length` bytes in all; it may be guest RAM. */
    struct iovec *iov;
    unsigned niov;
    /* Called once, on any thread (the submitter's, too, before block_submit() returns), without a
     * lock of the back end. result: 0, or a negative errno: -EINVAL outside of the image, -EROFS,
     * -ENOTSUP for a DISCARD that the image can't do, -EIO and others of the host. After a FLUSH
     * that ends with 0, all writes that had ended before it was submitted are on stable storage. */
    void (*done)(struct block_request *r, int result);
    void *ctx;

    /* The back end's; block_submit() fills them. */
    struct block_request *next;
    u64 moved;            /* bytes that are done */
    u8 method;            /* which of several ways is tried */
    bool stalled;         /* waits for space on the host */
    struct iovec rest[8]; /* memory of what is not done */
};

struct block_ops {
    /* The request is in the image's bounds, and allowed. Ends by block_complete() (block_impl.h).
     */
    void (*submit)(struct block *b, struct block_request *r);
    /* See block_stop(). May be NULL. */
    void (*stop)(struct block *b);
    void (*destroy)(struct block *b); /* no request is in flight */
};

/* What back ends begin with; all else is 0 at first. */
struct block {
    const struct block_ops *ops;
    u64 size; /* bytes, a multiple of BLOCK_SECTOR */
    bool read_only;
    /* block.c's */
    atomic_uint in_flight;
    atomic_bool draining;
    pthread_mutex_t lock;
    pthread_cond_t drained;
};

/* Any thread; two that overlap and are in flight together are carried out in any order. */
void block_submit(struct block *b, struct block_request *r);

/* The run is being given up: requests that wait for space on the host, and later ones that meet a
 * full disk, fail with -ENOSPC instead. From any thread. */
void block_stop(struct block *b);

/* Waits until no request is in flight, and none that their callbacks submitted. */
void block_drain(struct block *b);

/* Frees it. The submitter has waited for its requests. NULL is allowed. */
static inline void block_destroy(struct block *b)
{
    if (b)
        b->ops->destroy(b);
}

struct block_options {
    /* A file, a block device, or an address of libnbd's: nbd://HOST[:PORT]/[EXPORT],
     * nbd+unix:///[EXPORT]?socket=PATH. */
    const char *path;
    bool read_only;
    bool snapshot; /* writes go to a temporary overlay in $TMPDIR or /tmp */
    /* The host's disk is full: stalled(ctx, true, what); the write is tried again until it works,
     * then stalled(ctx, false, what). On a thread of the back end's, which must not wait for it.
     * May be NULL. */
    void (*stalled)(void *ctx, bool stalled, const char *path);
    void *stalled_ctx;
};

/* Opens an image by what it is (raw, or by qemu-nbd for other formats), locked against a second
 * writer, and a writer against readers, as QEMU does it. On the main thread: where a server is
 * started for it, that ends with this thread. err names the file and the remedy. */
int block_open(const struct block_options *opt, struct block **out, struct error *err);

/* Waits: reads or writes `length` bytes at `offset`. 0 or a negative errno. For start-up and tests.
 */
int block_read(struct block *b, u64 offset, void *buf, u64 length);
int block_write(struct block *b, u64 offset, const void *buf, u64 length);
int block_flush(struct block *b);

/* A disk in memory, for tests of devices: requests end before block_submit() returns. NULL: no
 * memory. */
struct block *block_memory(u64 size);

#endif
