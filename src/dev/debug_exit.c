/*
 * The debug-exit port has no state: it passes what is written on to the machine.
 */
#include "dev/debug_exit.h"

#include <errno.h>
#include <stdlib.h>

#include "dev/pcmap.h"

struct debug_exit {
    struct power power;
};

static u32 debug_exit_in(void *ctx, u16 port, unsigned size)
{
    (void)ctx;
    (void)port;
    return (u32)size_mask(size);
}

static void debug_exit_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct debug_exit *d = ctx;
    if (port == PC_DEBUG_EXIT)
        d->power.ops->debug_exit(d->power.ctx, value & (u32)size_mask(size));
}

static const struct port_ops debug_exit_ops = {debug_exit_in, debug_exit_out};

int debug_exit_create(const struct power *power, struct debug_exit **out, struct error *err)
{
    struct debug_exit *d = calloc(1, sizeof(*d));
    if (!d)
        return error_set(err, ENOMEM, "no memory for the debug-exit port");
    d->power = *power;
    *out = d;
    return 0;
}

void debug_exit_destroy(struct debug_exit *d)
{
    free(d);
}

int debug_exit_attach(struct debug_exit *d, struct port_bus *bus, struct error *err)
{
    return portbus_add(bus, PC_DEBUG_EXIT, 4, &debug_exit_ops, d, NULL, true, err);
}
