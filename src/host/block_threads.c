/*
 * A few threads that carry out the operations on a raw image one after another, for hosts without
 * io_uring.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/timebase.h"
#include "base/tunables.h"
#include "host/block_raw.h"

struct raw_engine {
    struct raw *raw;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* CLOCK_MONOTONIC */
    struct block_queue ready, waiting;
    u64 retry_at; /* of those that wait */
    bool stop;
    unsigned nthreads;
    pthread_t threads[TUNE_BLOCK_THREADS];
};

static int carry_out(int fd, const struct raw_op *op)
{
    ssize_t n = -1;
    switch (op->kind) {
    case RAW_READ:
        n = preadv(fd, op->iov, (int)op->niov, (off_t)op->offset);
        break;
    case RAW_WRITE:
        n = pwritev(fd, op->iov, (int)op->niov, (off_t)op->offset);
        break;
    case RAW_SYNC:
        n = fdatasync(fd);
        break;
    case RAW_ALLOCATE:
        n = fallocate(fd, op->mode, (off_t)op->offset, (off_t)op->length);
        break;
    }
    return n < 0 ? -errno : (int)n; /* Linux moves less than 2 GiB at a time */
}

static enum raw_verdict work(struct raw *raw, struct block_request *r)
{
    enum raw_verdict verdict;
    do {
        struct raw_op op;
        raw_next(raw, r, &op);
        verdict = raw_result(raw, r, carry_out(raw_fd(raw), &op));
    } while (verdict == RAW_AGAIN);
    return verdict;
}

static void add_waiting(struct raw_engine *e, struct block_request *r)
{
    if (!e->waiting.first)
        e->retry_at = host_clock_ns(CLOCK_MONOTONIC) + TUNE_BLOCK_RETRY_MS * 1000000ULL;
    block_queue_add(&e->waiting, r);
    pthread_cond_signal(&e->changed); /* one has to wake in time */
}

static void sleep_locked(struct raw_engine *e)
{
    if (!e->waiting.first) {
        pthread_cond_wait(&e->changed, &e->lock);
        return;
    }
    struct timespec until = {(time_t)(e->retry_at / 1000000000), (long)(e->retry_at % 1000000000)};
    pthread_cond_timedwait(&e->changed, &e->lock, &until);
}

static void *run(void *arg)
{
    struct raw_engine *e = arg;
    pthread_mutex_lock(&e->lock);
    while (!e->stop) {
        if (e->waiting.first && host_clock_ns(CLOCK_MONOTONIC) >= e->retry_at)
            block_queue_move(&e->ready, &e->waiting);
        struct block_request *r = block_queue_take(&e->ready);
        if (!r) {
            sleep_locked(e);
            continue;
        }
        pthread_mutex_unlock(&e->lock);
        enum raw_verdict verdict = work(e->raw, r);
        pthread_mutex_lock(&e->lock);
        if (verdict == RAW_WAIT)
            add_waiting(e, r);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

static void threads_submit(struct raw_engine *e, struct block_request *r)
{
    pthread_mutex_lock(&e->lock);
    block_queue_add(&e->ready, r);
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

static void threads_retry(struct raw_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->retry_at = 0;
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

static void threads_destroy(struct raw_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    for (unsigned i = 0; i < e->nthreads; i++)
        pthread_join(e->threads[i], NULL);
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

static int threads_create(struct raw *raw, struct raw_engine **out)
{
    struct raw_engine *e = calloc(1, sizeof(*e));
    if (!e)
        return -ENOMEM;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->changed, &attr);
    pthread_condattr_destroy(&attr);
    block_queue_init(&e->ready);
    block_queue_init(&e->waiting);
    e->raw = raw;
    int code = 0;
    while (code == 0 && e->nthreads < TUNE_BLOCK_THREADS) {
        code = block_thread(&e->threads[e->nthreads], "disk", run, e);
        e->nthreads += code == 0;
    }
    if (e->nthreads == 0) {
        threads_destroy(e);
        return -code;
    }
    *out = e;
    return 0;
}

const struct raw_engine_ops raw_threads = {.create = threads_create,
                                           .submit = threads_submit,
                                           .retry = threads_retry,
                                           .destroy = threads_destroy};
