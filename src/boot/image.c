/*
 * Files on their way into guest memory: opened once, read by position, each read checked against
 * the size found at opening, so that a file which is cut meanwhile ends in an error and no more.
 */
#include "boot/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

static int check_file(struct image *img, const char *what, struct error *err)
{
    struct stat st;
    if (fstat(img->fd, &st) < 0)
        return error_errno(err, errno, "%s '%s' cannot be read", what, img->path);
    if (S_ISDIR(st.st_mode))
        return error_set(err, EISDIR, "%s '%s' is a directory", what, img->path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, EINVAL, "%s '%s' is not a regular file", what, img->path);
    if (st.st_size == 0)
        return error_set(err, ENOEXEC, "%s '%s' is empty", what, img->path);
    img->size = (u64)st.st_size;
    return 0;
}

int image_open(struct image *img, const char *what, const char *path, struct error *err)
{
    *img = (struct image){.path = path};
    /* O_NONBLOCK: a FIFO without a writer must not hang us before check_file() refuses it. */
    img->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (img->fd < 0)
        return error_errno(err, errno, "%s '%s' cannot be opened", what, path);
    int r = check_file(img, what, err);
    if (r < 0)
        image_close(img);
    return r;
}

void image_close(struct image *img)
{
    if (img->fd >= 0)
        close(img->fd);
    img->fd = -1;
}

int image_read(const struct image *img, u64 off, void *buf, u64 len, struct error *err)
{
    if (off > img->size || len > img->size - off)
        return error_set(err, ENOEXEC,
                         "'%s' is truncated: %" PRIu64 " bytes at offset %" PRIu64
                         " are needed and the file has %" PRIu64,
                         img->path, len, off, img->size);
    u8 *p = buf;
    while (len > 0) {
        ssize_t n = pread(img->fd, p, MIN(len, GIB), (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "'%s' cannot be read", img->path);
        if (n == 0)
            return error_set(err, EIO, "'%s' became shorter while it was read", img->path);
        p += n;
        off += (u64)n;
        len -= (u64)n;
    }
    return 0;
}

int image_load(const struct image *img, u64 off, u64 len, struct guest_mem *gm, u64 gpa,
               struct error *err)
{
    if (len == 0)
        return 0;
    u8 *to = guestmem_hva(gm, gpa, len, true);
    if (!to)
        return error_set(err, ENOMEM,
                         "'%s' does not fit in RAM: %" PRIu64 " bytes at 0x%" PRIx64
                         " (use --mem for more RAM)",
                         img->path, len, gpa);
    int r = image_read(img, off, to, len, err);
    code_written(gm, gpa, len);
    return r;
}

int loader_write(struct loader *ld, u64 gpa, const void *buf, u64 len)
{
    if (!guestmem_write(ld->gm, gpa, buf, len))
        return error_set(ld->err, ENOMEM, "'%s' cannot be started: no RAM at 0x%" PRIx64,
                         ld->kernel.path, gpa);
    return 0;
}

int loader_zero(struct loader *ld, u64 gpa, u64 len)
{
    u8 *p = len ? guestmem_hva(ld->gm, gpa, len, true) : NULL;
    if (len && !p)
        return error_set(ld->err, ENOMEM, "'%s' cannot be started: no RAM at 0x%" PRIx64,
                         ld->kernel.path, gpa);
    if (p) {
        memset(p, 0, len);
        code_written(ld->gm, gpa, len);
    }
    return 0;
}
