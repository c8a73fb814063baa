/*
 * snapshot=on: what is written goes to an unlinked temporary file, at the same offsets as in the
 * image; a bit per sector says which sectors are there. So no write has to fetch what is around it,
 * and the file, being sparse, is as long as what was written. The bits are memory that the host
 * gives only where they are used. Nothing of this outlives the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/block_impl.h"

struct overlay {
    struct block block;
    struct block *base, *temp;
    pthread_mutex_t lock; /* for the bits */
    u64 *written;
    size_t bytes; /* of the bits */
};

struct part {
    struct block_request r;
    struct overlay_op *op;
};

/* A request, in parts for the image and for the temporary file. */
struct overlay_op {
    struct overlay *o;
    struct block_request *r;
    atomic_uint left; /* parts, and the submission */
    atomic_int result;
    struct iovec *iov; /* of all parts */
    struct part part[];
};

static bool is_written(const struct overlay *o, u64 sector)
{
    return o->written[sector / 64] & BIT(sector % 64);
}

static void set_written(struct overlay *o, u64 offset, u64 length)
{
    u64 sector = offset / BLOCK_SECTOR, end = (offset + length) / BLOCK_SECTOR;
    pthread_mutex_lock(&o->lock);
    while (sector < end) {
        u64 n = MIN(end - sector, 64 - sector % 64);
        o->written[sector / 64] |= ~0ULL >> (64 - n) << (sector % 64);
        sector += n;
    }
    pthread_mutex_unlock(&o->lock);
}

/* Bytes from `offset` on, to `end`, that are all in the same file. */
static u64 run_length(const struct overlay *o, u64 offset, u64 end)
{
    u64 first = offset / BLOCK_SECTOR, sector = first + 1;
    while (sector < end / BLOCK_SECTOR && is_written(o, sector) == is_written(o, first))
        sector++;
    return (sector - first) * BLOCK_SECTOR;
}

static void op_put(struct overlay_op *op)
{
    if (atomic_fetch_sub(&op->left, 1) != 1)
        return;
    struct overlay *o = op->o;
    struct block_request *r = op->r;
    int result = atomic_load(&op->result);
    if (result == 0 && r->op != BLOCK_READ)
        set_written(o, r->offset, r->length);
    free(op->iov);
    free(op);
    block_complete(&o->block, r, result);
}

static void part_done(struct block_request *r, int result)
{
    struct overlay_op *op = container_of(r, struct part, r)->op;
    if (result < 0)
        atomic_store(&op->result, result);
    op_put(op);
}

static struct overlay_op *op_new(struct overlay *o, struct block_request *r, unsigned parts)
{
    struct overlay_op *op = calloc(1, sizeof(*op) + parts * sizeof(op->part[0]));
    if (!op)
        return NULL;
    op->o = o;
    op->r = r;
    op->iov = calloc(r->niov + parts, sizeof(op->iov[0]));
    if (!op->iov) {
        free(op);
        return NULL;
    }
    for (unsigned i = 0; i < parts; i++)
        op->part[i].op = op;
    atomic_init(&op->left, parts + 1);
    return op;
}

/* The memory of bytes [at, at + length) of a request; returns how many elements. */
static unsigned slice(const struct block_request *r, u64 at, u64 length, struct iovec *out)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->niov && length; i++) {
        u64 size = r->iov[i].iov_len;
        if (at >= size) {
            at -= size;
            continue;
        }
        out[n] = (struct iovec){(u8 *)r->iov[i].iov_base + at, MIN(size - at, length)};
        length -= out[n++].iov_len;
        at = 0;
    }
    return n;
}

static unsigned count_runs(const struct overlay *o, const struct block_request *r)
{
    unsigned n = 0;
    u64 end = r->offset + r->length;
    for (u64 at = r->offset; at < end; at += run_length(o, at, end))
        n++;
    return n;
}

/* A read as one part for each run of sectors of one file. files[i]: of part i. */
static struct overlay_op *divide_read(struct overlay *o, struct block_request *r, unsigned *parts,
                                      struct block ***files)
{
    u64 end = r->offset + r->length, length;
    pthread_mutex_lock(&o->lock);
    *parts = count_runs(o, r);
    struct overlay_op *op = op_new(o, r, *parts);
    *files = calloc(*parts, sizeof(**files));
    struct iovec *iov = op ? op->iov : NULL;
    unsigned i = 0;
    for (u64 at = r->offset; op && *files && at < end; at += length, i++) {
        struct block_request *p = &op->part[i].r;
        length = run_length(o, at, end);
        (*files)[i] = is_written(o, at / BLOCK_SECTOR) ? o->temp : o->base;
        *p = (struct block_request){.op = BLOCK_READ,
                                    .offset = at,
                                    .length = length,
                                    .iov = iov,
                                    .niov = slice(r, at - r->offset, length, iov),
                                    .done = part_done};
        iov += p->niov;
    }
    pthread_mutex_unlock(&o->lock);
    return op;
}

static void submit_read(struct overlay *o, struct block_request *r)
{
    unsigned parts;
    struct block **files;
    struct overlay_op *op = divide_read(o, r, &parts, &files);
    if (!op || !files) {
        if (op)
            free(op->iov);
        free(op);
        free(files);
        block_complete(&o->block, r, -ENOMEM);
        return;
    }
    for (unsigned i = 0; i < parts; i++)
        block_submit(files[i], &op->part[i].r);
    free(files);
    op_put(op);
}

static void overlay_submit(struct block *b, struct block_request *r)
{
    struct overlay *o = container_of(b, struct overlay, block);
    if (r->op == BLOCK_FLUSH) {
        block_complete(b, r, 0);
        return;
    }
    if (r->op == BLOCK_READ) {
        submit_read(o, r);
        return;
    }
    struct overlay_op *op = op_new(o, r, 1);
    if (!op) {
        block_complete(b, r, -ENOMEM);
        return;
    }
    op->part[0].r = (struct block_request){.op = r->op,
                                           .offset = r->offset,
                                           .length = r->length,
                                           .iov = r->iov,
                                           .niov = r->niov,
                                           .done = part_done};
    block_submit(o->temp, &op->part[0].r);
    op_put(op);
}

static void overlay_stop(struct block *b)
{
    block_stop(container_of(b, struct overlay, block)->temp);
}

static void overlay_destroy(struct block *b)
{
    struct overlay *o = container_of(b, struct overlay, block);
    block_destroy(o->temp);
    block_destroy(o->base);
    if (o->written)
        munmap(o->written, o->bytes);
    pthread_mutex_destroy(&o->lock);
    free(o);
}

static int temporary_file(const char *directory)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return fd;
    char name[4096];
    if (snprintf(name, sizeof(name), "%s/ringer-XXXXXX", directory) >= (int)sizeof(name)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(name, O_CLOEXEC);
    if (fd >= 0)
        unlink(name);
    return fd;
}

static int open_temp(struct overlay *o, const struct block_options *opt, struct error *err)
{
    const char *directory = getenv("TMPDIR");
    if (!directory || !*directory)
        directory = "/tmp";
    int fd = temporary_file(directory);
    if (fd < 0 || ftruncate(fd, (off_t)o->base->size) < 0) {
        int code = errno;
        if (fd >= 0)
            close(fd);
        return error_set(err, code,
                         "%s: cannot make a temporary file for snapshot=on in %s (%s); set TMPDIR "
                         "to another directory",
                         opt->path, directory, strerror(code));
    }
    char name[512];
    snprintf(name, sizeof(name), "%s (snapshot=on of %s)", directory, opt->path);
    struct block_options temp_opt = *opt;
    temp_opt.path = name;
    return block_raw_create(&temp_opt, fd, o->base->size, BLOCK_ENGINE_ANY, &o->temp, err);
}

int block_overlay_create(const struct block_options *opt, struct block *base, struct block **out,
                         struct error *err)
{
    static const struct block_ops ops = {
        .submit = overlay_submit, .stop = overlay_stop, .destroy = overlay_destroy};
    struct overlay *o = calloc(1, sizeof(*o));
    if (!o) {
        block_destroy(base);
        return error_set(err, ENOMEM, "%s: no memory for snapshot=on", opt->path);
    }
    o->base = base;
    o->block.ops = &ops;
    o->block.size = base->size;
    pthread_mutex_init(&o->lock, NULL);
    o->bytes = align_up(base->size / BLOCK_SECTOR, 64) / 8;
    void *bits = mmap(NULL, o->bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int rc;
    if (bits == MAP_FAILED) {
        rc = error_errno(err, errno, "%s: no memory for snapshot=on", opt->path);
    } else {
        o->written = bits;
        rc = open_temp(o, opt, err);
    }
    if (rc < 0) {
        overlay_destroy(&o->block);
        return rc;
    }
    *out = &o->block;
    return 0;
}
