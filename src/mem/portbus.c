/*
 * The port bus: for each of the 64 Ki ports the number of the range that owns it, so a lookup is
 * one load. Built before the vCPUs run, read without locks.
 */
#include "mem/portbus.h"

#include <errno.h>
#include <stdlib.h>

#define PORTS      0x10000
#define MAX_RANGES 256 /* number 0 is "nobody" */

struct port_range {
    const struct port_ops *ops;
    void *ctx;
    pthread_mutex_t *lock;
    bool wide;
};

struct port_bus {
    u8 owner[PORTS];
    struct port_range range[MAX_RANGES];
    unsigned nranges;
};

int portbus_create(struct port_bus **out, struct error *err)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return error_errno(err, ENOMEM, "port bus");
    (*out)->nranges = 1;
    return 0;
}

void portbus_destroy(struct port_bus *bus)
{
    free(bus);
}

int portbus_add(struct port_bus *bus, u16 first, unsigned count, const struct port_ops *ops,
                void *ctx, pthread_mutex_t *lock, bool wide, struct error *err)
{
    if (count == 0 || count > PORTS - (unsigned)first || bus->nranges == MAX_RANGES)
        return error_set(err, EINVAL, "cannot place %u ports at %#x", count, first);
    for (unsigned i = 0; i < count; i++) {
        if (bus->owner[first + i])
            return error_set(err, EBUSY, "port %#x belongs to two devices", first + i);
    }
    memset(&bus->owner[first], (int)bus->nranges, count);
    bus->range[bus->nranges++] =
        (struct port_range){.ops = ops, .ctx = ctx, .lock = lock, .wide = wide};
    return 0;
}

/* The range whose device takes the access in one piece, or NULL: nobody, or split it. */
static struct port_range *whole_owner(struct port_bus *bus, u16 port, unsigned size)
{
    u8 owner = bus->owner[port];
    struct port_range *r = &bus->range[owner];
    if (!owner || port + size > PORTS || (size > 1 && !r->wide))
        return NULL;
    for (unsigned i = 1; i < size; i++) {
        if (bus->owner[port + i] != owner)
            return NULL;
    }
    return r;
}

u32 port_in(struct port_bus *bus, u16 port, unsigned size)
{
    struct port_range *r = whole_owner(bus, port, size);
    u32 value = 0;
    if (!r && size == 1)
        return 0xff;
    if (!r) {
        for (unsigned i = 0; i < size; i++)
            value |= port_in(bus, (u16)(port + i), 1) << (8 * i);
        return value;
    }
    if (r->lock)
        pthread_mutex_lock(r->lock);
    value = r->ops->in(r->ctx, port, size);
    if (r->lock)
        pthread_mutex_unlock(r->lock);
    return value & (u32)size_mask(size);
}

void port_out(struct port_bus *bus, u16 port, u32 value, unsigned size)
{
    struct port_range *r = whole_owner(bus, port, size);
    if (!r && size == 1)
        return;
    if (!r) {
        for (unsigned i = 0; i < size; i++)
            port_out(bus, (u16)(port + i), value >> (8 * i), 1);
        return;
    }
    if (r->lock)
        pthread_mutex_lock(r->lock);
    r->ops->out(r->ctx, port, value & (u32)size_mask(size), size);
    if (r->lock)
        pthread_mutex_unlock(r->lock);
}
