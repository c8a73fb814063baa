/*
 * One port, one byte.
 */
#include "dev/debugcon.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/pcmap.h"

#define READS_AS 0xe9

struct debugcon {
    pthread_mutex_t lock;
    struct chardev *out;
};

static u32 debugcon_in(void *ctx, u16 port, unsigned size)
{
    (void)ctx;
    (void)port;
    (void)size;
    return READS_AS;
}

static void debugcon_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct debugcon *con = ctx;
    u8 byte = (u8)value;
    (void)port;
    (void)size;
    chardev_write(con->out, &byte, 1);
}

static const struct port_ops debugcon_ops = {debugcon_in, debugcon_out};

int debugcon_create(struct chardev *out, struct debugcon **con, struct error *err)
{
    *con = malloc(sizeof(**con));
    if (!*con)
        return error_set(err, ENOMEM, "no memory for the debug console");
    (*con)->out = out;
    pthread_mutex_init(&(*con)->lock, NULL);
    return 0;
}

void debugcon_destroy(struct debugcon *con)
{
    if (!con)
        return;
    pthread_mutex_destroy(&con->lock);
    free(con);
}

int debugcon_attach(struct debugcon *con, struct port_bus *bus, struct error *err)
{
    return portbus_add(bus, PC_DEBUGCON, 1, &debugcon_ops, con, &con->lock, false, err);
}
