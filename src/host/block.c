/*
 * What all back ends of disk images share: requests are checked and counted here before a back end
 * sees them; opening an image by what it is; and a disk in memory.
 */
#include "host/block_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* 0, or why the request is not for the back end. */
static int check(const struct block *b, const struct block_request *r)
{
    if (r->op == BLOCK_FLUSH)
        return 0;
    if (r->offset % BLOCK_SECTOR || r->length % BLOCK_SECTOR || r->offset > b->size ||
        r->length > b->size - r->offset)
        return -EINVAL;
    if (r->op == BLOCK_READ || r->op == BLOCK_WRITE) {
        u64 length = 0;
        for (unsigned i = 0; i < r->niov; i++)
            length += r->iov[i].iov_len;
        if (length != r->length)
            return -EINVAL;
    }
    return b->read_only && r->op != BLOCK_READ ? -EROFS : 0;
}

void block_submit(struct block *b, struct block_request *r)
{
    r->next = NULL;
    r->moved = 0;
    r->method = 0;
    r->stalled = false;
    atomic_fetch_add(&b->in_flight, 1);
    int rc = check(b, r);
    if (rc < 0 || (r->length == 0 && r->op != BLOCK_FLUSH) ||
        (r->op == BLOCK_FLUSH && b->read_only))
        block_complete(b, r, rc);
    else
        b->ops->submit(b, r);
}

void block_complete(struct block *b, struct block_request *r, int result)
{
    r->done(r, result);
    if (atomic_fetch_sub(&b->in_flight, 1) != 1 || !atomic_load(&b->draining))
        return;
    pthread_mutex_lock(&b->lock);
    pthread_cond_broadcast(&b->drained);
    pthread_mutex_unlock(&b->lock);
}

void block_drain(struct block *b)
{
    pthread_mutex_lock(&b->lock);
    atomic_store(&b->draining, true);
    while (atomic_load(&b->in_flight))
        pthread_cond_wait(&b->drained, &b->lock);
    atomic_store(&b->draining, false);
    pthread_mutex_unlock(&b->lock);
}

void block_stop(struct block *b)
{
    if (b->ops->stop)
        b->ops->stop(b);
}

const char *block_probe(const u8 head[BLOCK_PROBE_SIZE])
{
    static const struct {
        const char *magic, *format;
        unsigned length, at;
    } formats[] = {
        {"QFI\xfb\0\0\0\1", "qcow", 8, 0},
        {"QFI\xfb", "qcow2", 4, 0},
        {"QED", "qed", 4, 0},
        {"KDMV", "vmdk", 4, 0},
        {"COWD", "vmdk", 4, 0},
        {"# Disk DescriptorFile", "vmdk", 21, 0},
        {"\x7f\x10\xda\xbe", "vdi", 4, 64},
        {"vhdxfile", "vhdx", 8, 0},
        {"conectix", "vpc", 8, 0},
        {"WithoutFreeSpace", "parallels", 16, 0},
        {"WithouFreSpacExt", "parallels", 16, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(formats); i++)
        if (memcmp(head + formats[i].at, formats[i].magic, formats[i].length) == 0)
            return formats[i].format;
    return NULL;
}

/* Opens the file; for writing only if it is written. */
static int open_file(const struct block_options *opt, const struct stat *st, int *fd,
                     struct error *err)
{
    bool writer = !opt->read_only && !opt->snapshot;
    /* O_EXCL of a block device: nothing on the host has it mounted. */
    int flags = O_CLOEXEC | O_NOCTTY | (writer ? O_RDWR : O_RDONLY);
    if (writer && S_ISBLK(st->st_mode))
        flags |= O_EXCL;
    *fd = open(opt->path, flags);
    if (*fd >= 0)
        return 0;
    int code = errno;
    if (code == EBUSY)
        return error_set(err, code,
                         "%s: the host uses this device; unmount it, or take it with ro or "
                         "snapshot=on",
                         opt->path);
    if (writer && (code == EACCES || code == EROFS || code == EPERM) &&
        access(opt->path, R_OK) == 0)
        return error_set(err, code, "%s: may not be written (%s); take it with ro or snapshot=on",
                         opt->path, strerror(code));
    return error_errno(err, code, "%s", opt->path);
}

static int file_size(int fd, const char *path, u64 *size, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "%s", path);
    *size = (u64)st.st_size;
    if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, size) < 0)
        return error_errno(err, errno, "%s: cannot get its size", path);
    if (*size == 0)
        return error_set(err, EINVAL, "%s: is empty; an image has the size of the disk", path);
    return 0;
}

static int check_kind(const struct block_options *opt, struct stat *st, struct error *err)
{
    if (stat(opt->path, st) < 0)
        return error_errno(err, errno, "%s", opt->path);
    if (S_ISDIR(st->st_mode))
        return error_set(err, EISDIR, "%s: is a directory; name an image", opt->path);
    if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
        return error_set(err, EINVAL, "%s: is neither a file nor a block device", opt->path);
    return 0;
}

static int open_image(const struct block_options *opt, struct block **out, struct error *err)
{
    u8 head[BLOCK_PROBE_SIZE] = {0};
    struct stat st;
    u64 size = 0;
    int fd = -1, rc = check_kind(opt, &st, err);
    if (rc == 0)
        rc = open_file(opt, &st, &fd, err);
    if (rc < 0)
        return rc;
    rc = file_size(fd, opt->path, &size, err);
    if (rc == 0 && pread(fd, head, sizeof(head), 0) < 0)
        rc = error_errno(err, errno, "%s: cannot be read", opt->path);
    const char *format = rc == 0 ? block_probe(head) : NULL;
    if (rc == 0 && !format) /* the server of other formats locks by itself */
        rc = block_lock(fd, opt->path, !opt->read_only && !opt->snapshot, err);
    if (rc < 0 || format) {
        close(fd);
        return rc < 0 ? rc : block_nbd_serve(opt, format, out, err);
    }
    return block_raw_create(opt, fd, size, BLOCK_ENGINE_ANY, out, err);
}

static bool is_address(const char *path)
{
    static const char *const schemes[] = {"nbd://", "nbds://", "nbd+unix://", "nbds+unix://"};
    for (unsigned i = 0; i < ARRAY_SIZE(schemes); i++)
        if (strncmp(path, schemes[i], strlen(schemes[i])) == 0)
            return true;
    return false;
}

int block_open(const struct block_options *opt, struct block **out, struct error *err)
{
    struct block_options base_opt = *opt;
    struct block *b;
    bool overlay = opt->snapshot && !opt->read_only;
    base_opt.read_only |= opt->snapshot;
    int rc = is_address(opt->path) ? block_nbd_connect(&base_opt, &b, err)
                                   : open_image(&base_opt, &b, err);
    if (rc == 0 && overlay)
        rc = block_overlay_create(opt, b, &b, err);
    if (rc == 0)
        *out = b;
    return rc;
}

/* A request that its submitter waits for. */
struct waiter {
    struct block_request r;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool ended;
    int result;
};

static void waiter_done(struct block_request *r, int result)
{
    struct waiter *w = container_of(r, struct waiter, r);
    pthread_mutex_lock(&w->lock);
    w->result = result;
    w->ended = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

static int wait_for(struct block *b, enum block_op op, u64 offset, void *buf, u64 length)
{
    struct iovec iov = {buf, length};
    struct waiter w = {.r = {.op = op,
                             .offset = offset,
                             .length = length,
                             .iov = &iov,
                             .niov = 1,
                             .done = waiter_done},
                       .lock = PTHREAD_MUTEX_INITIALIZER,
                       .cond = PTHREAD_COND_INITIALIZER};
    block_submit(b, &w.r);
    pthread_mutex_lock(&w.lock);
    while (!w.ended)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_mutex_destroy(&w.lock);
    pthread_cond_destroy(&w.cond);
    return w.result;
}

int block_read(struct block *b, u64 offset, void *buf, u64 length)
{
    return wait_for(b, BLOCK_READ, offset, buf, length);
}

int block_write(struct block *b, u64 offset, const void *buf, u64 length)
{
    return wait_for(b, BLOCK_WRITE, offset, (void *)buf, length);
}

int block_flush(struct block *b)
{
    return wait_for(b, BLOCK_FLUSH, 0, NULL, 0);
}

struct memory {
    struct block block;
    u8 *bytes;
};

static void memory_submit(struct block *b, struct block_request *r)
{
    struct memory *m = container_of(b, struct memory, block);
    u8 *at = m->bytes + r->offset;
    if (r->op == BLOCK_READ)
        block_to_iov(r, 0, at, r->length);
    else if (r->op == BLOCK_WRITE)
        block_from_iov(r, 0, at, r->length);
    else if (r->op != BLOCK_FLUSH)
        memset(at, 0, r->length);
    block_complete(b, r, 0);
}

static void memory_destroy(struct block *b)
{
    struct memory *m = container_of(b, struct memory, block);
    free(m->bytes);
    free(m);
}

struct block *block_memory(u64 size)
{
    static const struct block_ops ops = {.submit = memory_submit, .destroy = memory_destroy};
    struct memory *m = calloc(1, sizeof(*m));
    if (m)
        m->bytes = calloc(1, size);
    if (!m || !m->bytes) {
        free(m);
        return NULL;
    }
    m->block = (struct block){.ops = &ops, .size = size};
    return &m->block;
}
