/*
 * Operations on a raw image through the kernel's io_uring. One thread owns the ring: it puts in
 * what submitters leave in a list, and takes the results out. (The kernel cancels what a thread has
 * submitted when that thread ends, so vCPU threads do not submit by themselves.) It sleeps in the
 * ring, too, where a read of an eventfd is always pending, by which it is woken.
 *
 * A write to a file whose system can't write without waiting (ext4) would be handed by the kernel
 * to one more thread, which costs more than the write, a copy to the page cache; such writes this
 * thread does by itself, one at a time, while all else is with the kernel.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/timebase.h"
#include "base/tunables.h"
#include "host/block_raw.h"

struct raw_engine {
    struct raw *raw;
    struct io_uring ring;
    int wake_fd;
    pthread_t thread;

    pthread_mutex_t lock; /* for these three */
    struct block_queue incoming;
    bool retry, stop;

    /* The thread's. */
    struct block_queue ready, writes, waiting;
    enum { WRITES_UNKNOWN, WRITES_IN_RING, WRITES_HERE } write_way;
    u64 retry_at;
    unsigned in_kernel;
    bool wake_pending;
    u64 wake_count;
};

static void wake(struct raw_engine *e)
{
    u64 one = 1;
    while (write(e->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void put_in(struct raw_engine *e, struct block_request *r)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&e->ring);
    struct raw_op op;
    int fd = raw_fd(e->raw);
    raw_next(e->raw, r, &op);
    switch (op.kind) {
    case RAW_READ:
        io_uring_prep_readv(sqe, fd, op.iov, op.niov, op.offset);
        break;
    case RAW_WRITE:
        io_uring_prep_writev(sqe, fd, op.iov, op.niov, op.offset);
        break;
    case RAW_SYNC:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    case RAW_ALLOCATE:
        io_uring_prep_fallocate(sqe, fd, op.mode, (off_t)op.offset, (off_t)op.length);
        break;
    }
    io_uring_sqe_set_data(sqe, r);
    e->in_kernel++;
}

static void await_wake(struct raw_engine *e)
{
    if (e->wake_pending)
        return;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&e->ring);
    io_uring_prep_read(sqe, e->wake_fd, &e->wake_count, sizeof(e->wake_count), 0);
    io_uring_sqe_set_data(sqe, NULL);
    e->wake_pending = true;
}

/* Takes over what others have left. Returns false when the thread has to end. */
static bool collect(struct raw_engine *e)
{
    pthread_mutex_lock(&e->lock);
    block_queue_move(&e->ready, &e->incoming);
    if (e->retry)
        e->retry_at = 0;
    e->retry = false;
    bool stop = e->stop;
    pthread_mutex_unlock(&e->lock);
    if (e->waiting.first && host_clock_ns(CLOCK_MONOTONIC) >= e->retry_at)
        block_queue_move(&e->ready, &e->waiting);
    return !stop;
}

static void settle(struct raw_engine *e, struct block_request *r, int res)
{
    switch (raw_result(e->raw, r, res)) {
    case RAW_AGAIN:
        block_queue_add(&e->ready, r);
        break;
    case RAW_WAIT:
        if (!e->waiting.first)
            e->retry_at = host_clock_ns(CLOCK_MONOTONIC) + TUNE_BLOCK_RETRY_MS * 1000000ULL;
        block_queue_add(&e->waiting, r);
        break;
    case RAW_ENDED:
        break;
    }
}

static void take_out(struct raw_engine *e, struct io_uring_cqe *cqe)
{
    struct block_request *r = io_uring_cqe_get_data(cqe);
    int res = cqe->res;
    io_uring_cqe_seen(&e->ring, cqe);
    if (!r) {
        e->wake_pending = false;
        return;
    }
    e->in_kernel--;
    settle(e, r, res);
}

/* All that is ready goes into the ring, but for writes of this thread. */
static void fill_ring(struct raw_engine *e)
{
    while (e->ready.first && e->in_kernel < TUNE_BLOCK_RING) {
        struct block_request *r = block_queue_take(&e->ready);
        if (r->op == BLOCK_WRITE && e->write_way != WRITES_IN_RING)
            block_queue_add(&e->writes, r);
        else
            put_in(e, r);
    }
}

/* The first write shows whether the file can be written without waiting. */
static void write_here(struct raw_engine *e)
{
    struct block_request *r = block_queue_take(&e->writes);
    struct raw_op op;
    ssize_t n = -1;
    raw_next(e->raw, r, &op);
    if (e->write_way == WRITES_UNKNOWN) {
        n = pwritev2(raw_fd(e->raw), op.iov, (int)op.niov, (off_t)op.offset, RWF_NOWAIT);
        e->write_way = n < 0 && errno == EOPNOTSUPP ? WRITES_HERE : WRITES_IN_RING;
    }
    if (n < 0 && e->write_way == WRITES_HERE)
        n = pwritev(raw_fd(e->raw), op.iov, (int)op.niov, (off_t)op.offset);
    settle(e, r, n < 0 ? -errno : (int)n);
    if (e->write_way == WRITES_IN_RING)
        block_queue_move(&e->ready, &e->writes);
}

static void sleep_in_ring(struct raw_engine *e)
{
    struct io_uring_cqe *cqe;
    u64 now = e->waiting.first ? host_clock_ns(CLOCK_MONOTONIC) : 0;
    u64 ns = e->waiting.first && e->retry_at > now ? e->retry_at - now : 0;
    struct __kernel_timespec time = {.tv_sec = (i64)(ns / 1000000000),
                                     .tv_nsec = (i64)(ns % 1000000000)};
    io_uring_submit_and_wait_timeout(&e->ring, &cqe, 1, e->waiting.first ? &time : NULL, NULL);
}

static void *run(void *arg)
{
    struct raw_engine *e = arg;
    while (collect(e)) {
        struct io_uring_cqe *cqe;
        await_wake(e);
        fill_ring(e);
        if (e->writes.first) {
            io_uring_submit(&e->ring);
            write_here(e);
        } else {
            sleep_in_ring(e);
        }
        while (io_uring_peek_cqe(&e->ring, &cqe) == 0)
            take_out(e, cqe);
    }
    return NULL;
}

static void uring_submit(struct raw_engine *e, struct block_request *r)
{
    pthread_mutex_lock(&e->lock);
    bool first = !e->incoming.first;
    block_queue_add(&e->incoming, r);
    pthread_mutex_unlock(&e->lock);
    if (first)
        wake(e);
}

static void uring_retry(struct raw_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->retry = true;
    pthread_mutex_unlock(&e->lock);
    wake(e);
}

static void uring_free(struct raw_engine *e)
{
    io_uring_queue_exit(&e->ring);
    close(e->wake_fd);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

static void uring_destroy(struct raw_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_mutex_unlock(&e->lock);
    wake(e);
    pthread_join(e->thread, NULL);
    uring_free(e);
}

/* Whether this kernel's ring has all operations. */
static bool is_complete(struct io_uring *ring)
{
    static const int needed[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
                                 IORING_OP_FALLOCATE, IORING_OP_READ};
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool all = probe;
    for (unsigned i = 0; all && i < ARRAY_SIZE(needed); i++)
        all = io_uring_opcode_supported(probe, needed[i]);
    io_uring_free_probe(probe);
    return all;
}

static int uring_create(struct raw *raw, struct raw_engine **out)
{
    struct raw_engine *e = calloc(1, sizeof(*e));
    if (!e)
        return -ENOMEM;
    /* Room for the eventfd's read, too. */
    int rc = io_uring_queue_init(2 * TUNE_BLOCK_RING, &e->ring, 0);
    if (rc < 0) {
        free(e);
        return rc;
    }
    e->raw = raw;
    pthread_mutex_init(&e->lock, NULL);
    block_queue_init(&e->incoming);
    block_queue_init(&e->ready);
    block_queue_init(&e->writes);
    block_queue_init(&e->waiting);
    e->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (e->wake_fd < 0)
        rc = -errno;
    else if (!is_complete(&e->ring))
        rc = -ENOSYS;
    else
        rc = -block_thread(&e->thread, "disk", run, e);
    if (rc < 0)
        uring_free(e);
    else
        *out = e;
    return rc;
}

const struct raw_engine_ops raw_uring = {
    .create = uring_create, .submit = uring_submit, .retry = uring_retry, .destroy = uring_destroy};
