/*
 * Character output to a file, and to nothing. The file is written through at once: what a guest
 * said before a crash is there.
 */
#include "host/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

struct chardev_file {
    struct chardev base;
    int fd;
    char *path;
    bool failed;
};

static void file_write(struct chardev *c, const u8 *buf, size_t len)
{
    struct chardev_file *f = container_of(c, struct chardev_file, base);
    while (len && !f->failed) {
        ssize_t n = write(f->fd, buf, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            log_warn("cannot write to %s: %s; the rest of the output is lost", f->path,
                     strerror(errno));
            f->failed = true;
            return;
        }
        buf += n;
        len -= (size_t)n;
    }
}

static void file_destroy(struct chardev *c)
{
    struct chardev_file *f = container_of(c, struct chardev_file, base);
    close(f->fd);
    free(f->path);
    free(f);
}

static const struct chardev_ops file_ops = {.write = file_write, .destroy = file_destroy};

int chardev_file(const char *path, struct chardev **out, struct error *err)
{
    struct chardev_file *f = calloc(1, sizeof(*f));
    if (!f)
        return error_set(err, ENOMEM, "no memory for output to %s", path);
    f->base.ops = &file_ops;
    f->path = strdup(path);
    f->fd = f->path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    if (f->fd < 0) {
        int code = errno;
        free(f->path);
        free(f);
        return error_errno(err, code, "cannot create %s", path);
    }
    *out = &f->base;
    return 0;
}

static void null_write(struct chardev *c, const u8 *buf, size_t len)
{
    (void)c;
    (void)buf;
    (void)len;
}

static void null_destroy(struct chardev *c)
{
    free(c);
}

static const struct chardev_ops null_ops = {.write = null_write, .destroy = null_destroy};

struct chardev *chardev_null(void)
{
    struct chardev *c = calloc(1, sizeof(*c));
    if (c)
        c->ops = &null_ops;
    return c;
}
