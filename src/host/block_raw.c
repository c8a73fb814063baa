/*
 * Raw images: a file or a block device whose bytes are the disk's. A request becomes one or several
 * operations of the kernel's; here is which, and what follows from their results. A read that the
 * page cache can serve ends at once, on the submitter's thread.
 */
#include "host/block_raw.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/tunables.h"

struct raw {
    struct block block;
    struct block_stall stall;
    int fd;
    bool guarded; /* see is_disguise() */
    const struct raw_engine_ops *ops;
    struct raw_engine *engine;
    atomic_bool no_zero_range, no_read_now; /* the file's system can't */
    atomic_int flush_error;                 /* the first one */
};

static const u8 zeroes[TUNE_BLOCK_ZEROES];

int raw_fd(const struct raw *raw)
{
    return raw->fd;
}

static void next_transfer(struct block_request *r, struct raw_op *op)
{
    op->kind = r->op == BLOCK_READ ? RAW_READ : RAW_WRITE;
    op->offset = r->offset + r->moved;
    op->iov = r->iov;
    op->niov = r->niov;
    if (r->moved || r->niov > IOV_MAX) {
        op->iov = r->rest;
        block_rest(r, ~0ULL, &op->niov);
    }
}

static void next_zeroes(struct block_request *r, struct raw_op *op)
{
    u64 left = r->length - r->moved;
    op->kind = RAW_WRITE;
    op->offset = r->offset + r->moved;
    op->iov = r->rest;
    for (op->niov = 0; op->niov < ARRAY_SIZE(r->rest) && left; op->niov++) {
        u64 n = MIN(left, sizeof(zeroes));
        r->rest[op->niov] = (struct iovec){(void *)zeroes, n};
        left -= n;
    }
}

void raw_next(struct raw *raw, struct block_request *r, struct raw_op *op)
{
    *op = (struct raw_op){.kind = RAW_ALLOCATE, .offset = r->offset, .length = r->length};
    switch (r->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        next_transfer(r, op);
        break;
    case BLOCK_FLUSH:
        op->kind = RAW_SYNC;
        break;
    case BLOCK_DISCARD:
        op->mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        break;
    case BLOCK_WRITE_ZEROES:
        op->mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
        if (r->method || atomic_load(&raw->no_zero_range)) {
            r->method = 1;
            next_zeroes(r, op);
        }
        break;
    }
}

/* Bytes have been moved. Returns whether that was all. */
static bool moved(struct block_request *r, u64 n)
{
    r->moved += n;
    return r->moved == r->length;
}

static bool is_unsupported(int res)
{
    return res == -EOPNOTSUPP || res == -ENOSYS || res == -ENODEV || res == -EINVAL;
}

/* Whether r ends with *res. The first bytes behind the end of a file of an odd size are zeroes. */
static bool take_result(struct raw *raw, struct block_request *r, int *res)
{
    if (*res == -EINTR || *res == -EAGAIN)
        return false;
    switch (r->op) {
    case BLOCK_READ:
        if (*res == 0)
            block_zero_iov(r, r->moved, r->length - r->moved);
        else if (*res > 0 && !moved(r, (u64)*res))
            return false;
        break;
    case BLOCK_WRITE_ZEROES:
        if (r->method == 0) {
            r->method = is_unsupported(*res);
            if (r->method)
                atomic_store(&raw->no_zero_range, true);
            return !r->method;
        }
        /* fall through */
    case BLOCK_WRITE:
        if (*res == 0)
            *res = -EIO;
        else if (*res > 0 && !moved(r, (u64)*res))
            return false;
        break;
    case BLOCK_DISCARD:
        if (is_unsupported(*res))
            *res = -ENOTSUP;
        break;
    case BLOCK_FLUSH:
        break;
    }
    *res = MIN(*res, 0);
    return true;
}

/* The kernel reports once that it could not write its cache out, and then believes that all is
 * well: no later flush may succeed. */
static int flush_result(struct raw *raw, int res)
{
    int none = 0;
    if (res < 0 && atomic_compare_exchange_strong(&raw->flush_error, &none, res))
        log_warn("%s: what the guest wrote cannot be brought to the disk: %s", raw->stall.path,
                 strerror(-res));
    return atomic_load(&raw->flush_error);
}

enum raw_verdict raw_result(struct raw *raw, struct block_request *r, int res)
{
    if (r->op != BLOCK_READ && r->op != BLOCK_FLUSH && block_stall_wait(&raw->stall, r, res))
        return RAW_WAIT;
    if (!take_result(raw, r, &res))
        return RAW_AGAIN;
    if (r->op == BLOCK_FLUSH)
        res = flush_result(raw, res);
    block_stall_end(&raw->stall, r);
    block_complete(&raw->block, r, res);
    return RAW_ENDED;
}

/* Takes what there is in the page cache. Returns whether that was all of it. */
static bool read_now(struct raw *raw, struct block_request *r)
{
    if (r->length > TUNE_BLOCK_READ_NOW || r->niov > IOV_MAX || atomic_load(&raw->no_read_now))
        return false;
    ssize_t n = preadv2(raw->fd, r->iov, (int)r->niov, (off_t)r->offset, RWF_NOWAIT);
    if (n < 0 && errno == EOPNOTSUPP)
        atomic_store(&raw->no_read_now, true);
    return n > 0 && moved(r, (u64)n);
}

/* A guest that makes its raw disk look like an image of another format would be given, at the next
 * start, whatever files of the host that image names. */
static bool is_disguise(const struct raw *raw, const struct block_request *r)
{
    u8 head[BLOCK_PROBE_SIZE];
    if (!raw->guarded || r->op != BLOCK_WRITE || r->offset)
        return false;
    block_from_iov(r, 0, head, sizeof(head));
    const char *format = block_probe(head);
    if (format)
        log_warn("%s: the guest may not write the head of a %s image to a raw image's first sector",
                 raw->stall.path, format);
    return format;
}

static void raw_submit(struct block *b, struct block_request *r)
{
    struct raw *raw = container_of(b, struct raw, block);
    if (r->op == BLOCK_READ && read_now(raw, r))
        block_complete(b, r, 0);
    else if (is_disguise(raw, r))
        block_complete(b, r, -EPERM);
    else
        raw->ops->submit(raw->engine, r);
}

static void raw_stop(struct block *b)
{
    struct raw *raw = container_of(b, struct raw, block);
    block_stall_give_up(&raw->stall);
    raw->ops->retry(raw->engine);
}

static void raw_destroy(struct block *b)
{
    struct raw *raw = container_of(b, struct raw, block);
    if (raw->engine)
        raw->ops->destroy(raw->engine);
    block_stall_free(&raw->stall);
    close(raw->fd);
    free(raw);
}

static int create_engine(struct raw *raw, enum block_engine engine, struct error *err)
{
    int rc = -ENOSYS;
    if (engine != BLOCK_ENGINE_THREADS) {
        raw->ops = &raw_uring;
        rc = raw->ops->create(raw, &raw->engine);
    }
    if (rc < 0 && engine != BLOCK_ENGINE_URING) {
        raw->ops = &raw_threads;
        rc = raw->ops->create(raw, &raw->engine);
    }
    if (rc < 0)
        return error_errno(err, -rc, "%s: cannot start what reads and writes it", raw->stall.path);
    return 0;
}

int block_raw_create(const struct block_options *opt, int fd, u64 size, enum block_engine engine,
                     struct block **out, struct error *err)
{
    static const struct block_ops ops = {
        .submit = raw_submit, .stop = raw_stop, .destroy = raw_destroy};
    struct raw *raw = calloc(1, sizeof(*raw));
    if (!raw) {
        close(fd);
        return error_set(err, ENOMEM, "%s: no memory for it", opt->path);
    }
    raw->block.ops = &ops;
    raw->block.size = align_up(size, BLOCK_SECTOR);
    raw->block.read_only = opt->read_only;
    raw->fd = fd;
    raw->guarded = !opt->snapshot;
    int rc = block_stall_init(&raw->stall, opt, opt->path);
    if (rc < 0)
        error_set(err, ENOMEM, "%s: no memory for it", opt->path);
    else
        rc = create_engine(raw, engine, err);
    if (rc < 0) {
        raw_destroy(&raw->block);
        return rc;
    }
    *out = &raw->block;
    return 0;
}
