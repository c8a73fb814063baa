/*
 * Loads libnbd.
 */
#include "host/nbd_library.h"

#include <dlfcn.h>
#include <errno.h>

int nbd_library_load(struct nbd_library *lib, const char *path, struct error *err)
{
    *lib = (struct nbd_library){.handle = dlopen("libnbd.so.0", RTLD_NOW | RTLD_NODELETE)};
    if (!lib->handle)
        return error_set(err, ENOENT, "%s: needs libnbd; install the package libnbd0 (%s)", path,
                         dlerror());
#define NBD_FUNCTION(name)                                                                         \
    if (!(lib->name = (__typeof__(nbd_##name) *)dlsym(lib->handle, "nbd_" #name)))                 \
        return error_set(err, ENOENT, "%s: libnbd is too old; it has no nbd_" #name, path);
#include "host/nbd_functions.def"
#undef NBD_FUNCTION
    return 0;
}

void nbd_library_unload(struct nbd_library *lib)
{
    if (lib->handle)
        dlclose(lib->handle);
}
