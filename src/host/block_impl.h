/*
 * What the back ends of host/block.h share: the end of a request, the wait for space on the host,
 * and how each is opened. For block*.c and their tests.
 */
#ifndef RINGER_HOST_BLOCK_IMPL_H
#define RINGER_HOST_BLOCK_IMPL_H

#include "host/block.h"

/* Ends a request: each back end does it once. r is the submitter's again. */
void block_complete(struct block *b, struct block_request *r, int result);

/* The request's memory from byte r->moved on, at most `max` bytes of it and what fits in r->rest.
 * Returns the bytes; *n: the used elements of r->rest. */
u64 block_rest(struct block_request *r, u64 max, unsigned *n);

/* From or to the request's memory, `length` bytes from byte `at` on. */
void block_to_iov(const struct block_request *r, u64 at, const void *from, u64 length);
void block_from_iov(const struct block_request *r, u64 at, void *to, u64 length);
void block_zero_iov(const struct block_request *r, u64 at, u64 length);

/* A list of requests, in order. */
struct block_queue {
    struct block_request *first, **end;
};

void block_queue_init(struct block_queue *q);
void block_queue_add(struct block_queue *q, struct block_request *r);
struct block_request *block_queue_take(struct block_queue *q); /* NULL: empty */
void block_queue_move(struct block_queue *to, struct block_queue *from);

/* Requests that wait for space. The first one tells the user, the last one, too. */
struct block_stall {
    pthread_mutex_t lock;
    unsigned waiting;
    bool given_up;
    void (*stalled)(void *ctx, bool stalled, const char *path);
    void *ctx;
    char *path;
};

/* 0 or -ENOMEM. */
int block_stall_init(struct block_stall *s, const struct block_options *opt, const char *path);
void block_stall_free(struct block_stall *s);
/* r met `result`. Whether it is to be tried again after TUNE_BLOCK_RETRY_MS. */
bool block_stall_wait(struct block_stall *s, struct block_request *r, int result);
/* r ends. */
void block_stall_end(struct block_stall *s, struct block_request *r);
void block_stall_give_up(struct block_stall *s);

/* A thread that leaves all signals to others. 0 or an errno. */
int block_thread(pthread_t *thread, const char *name, void *(*run)(void *), void *arg);

/* How a format is called by qemu-nbd, by the image's first bytes (zeroes where it is shorter);
 * NULL: raw. */
#define BLOCK_PROBE_SIZE 512
const char *block_probe(const u8 head[BLOCK_PROBE_SIZE]);

/* block_lock.c: locks an open image as QEMU's does (bytes 100 and 200 on, by permission): against
 * writers, and as a writer against all others. */
int block_lock(int fd, const char *path, bool writer, struct error *err);

/* How host operations on a file are carried out. */
enum block_engine { BLOCK_ENGINE_ANY, BLOCK_ENGINE_URING, BLOCK_ENGINE_THREADS };

/* block_raw.c. fd is its, also after an error; size in bytes, any above 0; path is for messages. */
int block_raw_create(const struct block_options *opt, int fd, u64 size, enum block_engine engine,
                     struct block **out, struct error *err);

/* block_overlay.c. base is read only, and its, also after an error. */
int block_overlay_create(const struct block_options *opt, struct block *base, struct block **out,
                         struct error *err);

/* block_nbd.c: connects to an address; or to a server of its own that serves the file in that
 * format. */
int block_nbd_connect(const struct block_options *opt, struct block **out, struct error *err);
int block_nbd_serve(const struct block_options *opt, const char *format, struct block **out,
                    struct error *err);

#endif
