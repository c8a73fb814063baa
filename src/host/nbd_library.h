/*
 * libnbd, loaded when an image needs it: with it come twenty other libraries, which would cost each
 * start of ringer more than 10 ms, and all but a few starts don't need them.
 */
#ifndef RINGER_HOST_NBD_LIBRARY_H
#define RINGER_HOST_NBD_LIBRARY_H

#include <libnbd.h>

#include "base/error.h"

/* Its functions without their prefix: lib.create is nbd_create. */
struct nbd_library {
    void *handle;
#define NBD_FUNCTION(name) __typeof__(nbd_##name) *name;
#include "host/nbd_functions.def"
#undef NBD_FUNCTION
};

/* path is the image, for the error, which names the package. */
int nbd_library_load(struct nbd_library *lib, const char *path, struct error *err);
void nbd_library_unload(struct nbd_library *lib);

#endif
