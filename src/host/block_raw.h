/*
 * The inside of raw images: what is asked of the host's kernel for a request, step by step
 * (block_raw.c), and how such steps are carried out (block_uring.c, block_threads.c).
 */
#ifndef RINGER_HOST_BLOCK_RAW_H
#define RINGER_HOST_BLOCK_RAW_H

#include "host/block_impl.h"

struct raw;
struct raw_engine;

/* One operation of the kernel's on the image's file. */
struct raw_op {
    enum { RAW_READ, RAW_WRITE, RAW_SYNC, RAW_ALLOCATE } kind;
    const struct iovec *iov; /* READ, WRITE */
    unsigned niov;
    u64 offset, length; /* length: ALLOCATE */
    int mode;           /* ALLOCATE: fallocate()'s */
};

enum raw_verdict {
    RAW_AGAIN, /* take the next step */
    RAW_WAIT,  /* the same after TUNE_BLOCK_RETRY_MS */
    RAW_ENDED, /* the submitter has been told */
};

/* What to do next for r. What op points to stays until raw_result(). */
void raw_next(struct raw *raw, struct block_request *r, struct raw_op *op);

/* That has come to res: bytes, 0, or a negative errno. Called without a lock. */
enum raw_verdict raw_result(struct raw *raw, struct block_request *r, int res);

int raw_fd(const struct raw *raw);

struct raw_engine_ops {
    /* 0, or a negative errno if the host can't do it. */
    int (*create)(struct raw *raw, struct raw_engine **out);
    void (*submit)(struct raw_engine *e, struct block_request *r); /* any thread */
    void (*retry)(struct raw_engine *e); /* those that wait are tried at once; any thread */
    void (*destroy)(struct raw_engine *e);
};

extern const struct raw_engine_ops raw_uring, raw_threads;

#endif
