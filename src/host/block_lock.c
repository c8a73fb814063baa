/*
 * Locks of images, by QEMU's protocol (its block/file-posix.c), so that it and ringer notice each
 * other: a user of an image holds a shared lock of byte 100 + n for each permission n that it has,
 * and of byte 200 + n for each that it leaves to nobody else; then it looks whether others hold the
 * opposite. Locks are of the open file description: two uses in one process conflict, too.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/log.h"
#include "host/block_impl.h"

#define HELD   100 /* first byte of permissions that are held */
#define DENIED 200 /* of those that are denied to others */

enum { PERM_READ = 1 << 0, PERM_WRITE = 1 << 1, PERM_RESIZE = 1 << 3, PERM_END = 1 << 5 };

static int lock_byte(int fd, int command, short type, off_t byte, struct flock *lock)
{
    *lock = (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, command, lock) < 0 ? -errno : 0;
}

static int hold(int fd, unsigned permissions, off_t first)
{
    struct flock lock;
    int rc = 0;
    for (unsigned n = 0; BIT(n) < PERM_END && rc == 0; n++)
        if (permissions & BIT(n))
            rc = lock_byte(fd, F_OFD_SETLK, F_RDLCK, first + n, &lock);
    return rc;
}

/* Whether others hold one of these: a lock for writing would not be granted. */
static bool held_by_others(int fd, unsigned permissions, off_t first)
{
    struct flock lock;
    for (unsigned n = 0; BIT(n) < PERM_END; n++)
        if (permissions & BIT(n) && lock_byte(fd, F_OFD_GETLK, F_WRLCK, first + n, &lock) == 0 &&
            lock.l_type != F_UNLCK)
            return true;
    return false;
}

int block_lock(int fd, const char *path, bool writer, struct error *err)
{
    const unsigned has = PERM_READ | (writer ? PERM_WRITE | PERM_RESIZE : 0);
    const unsigned denies = PERM_WRITE | PERM_RESIZE;
    int rc = hold(fd, has, HELD);
    if (rc == 0)
        rc = hold(fd, denies, DENIED);
    if (rc == -EAGAIN || rc == -EACCES || /* an exclusive lock of another program */
        (rc == 0 && (held_by_others(fd, has, DENIED) || held_by_others(fd, denies, HELD))))
        return error_set(err, EBUSY,
                         writer ? "%s: another program uses this image; end it first, or have both "
                                  "take the image with ro"
                                : "%s: another program writes to this image; end it first",
                         path);
    if (rc < 0)
        log_warn("%s: the host cannot lock this file (%s); see to it that nobody else writes to it",
                 path, strerror(-rc));
    return 0;
}
