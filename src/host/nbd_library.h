/*
 * libnbd, loaded when an image needs it: with it come twenty other libraries, which would cost each
 * start of ringer more than 10 ms, and all but a few starts don't need them.
 */
#ifndef RINGER_HOST_NBD_LIBRARY_H
#define RINGER_HOST_NBD_LIBRARY_H

#include <libnbd.h>

#include "base/error.h"

#define NBD_FUNCTIONS(X)                                                                           \
    X(create)                                                                                      \
    X(close)                                                                                       \
    X(get_error) X(connect_uri) X(connect_socket) X(shutdown) X(get_size) X(is_read_only)          \
        X(can_flush) X(can_trim) X(can_zero) X(aio_flush) X(aio_trim) X(aio_zero) X(aio_pread)     \
            X(aio_pwrite) X(aio_get_direction) X(aio_get_fd) X(aio_notify_read)                    \
                X(aio_notify_write) X(aio_is_ready) X(aio_is_dead) X(aio_is_closed)

/* Its functions without their prefix: lib.create is nbd_create. */
struct nbd_library {
    void *handle;
#define NBD_FUNCTION(name) __typeof__(nbd_##name) *name;
    NBD_FUNCTIONS(NBD_FUNCTION)
#undef NBD_FUNCTION
};

/* path is the image, for the error, which names the package. */
int nbd_library_load(struct nbd_library *lib, const char *path, struct error *err);
void nbd_library_unload(struct nbd_library *lib);

#endif
