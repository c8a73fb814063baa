/*
 * The port bus: for each of the 64 Ki ports the number of the range that owns it, so a lookup is
 * one load. It is read without locks; ranges that move change it byte by byte under one. Beside it
 * lies what ports show whose reads have no effect: values that devices keep up to date.
 */
#include "mem/portbus.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define PORTS      0x10000
#define MAX_RANGES 256 /* number 0 is "nobody" */

struct port_range {
    const struct port_ops *ops;
    void *ctx;
    pthread_mutex_t *lock;
    bool wide;
    /* Of one that moves: */
    struct port_bus *bus;
    unsigned count;
    _Atomic u16 first; /* where it was placed last; 0 for one that is fixed */
};

struct port_bus {
    _Atomic u8 owner[PORTS];
    _Atomic u16 shown[PORTS];
    struct port_counter counter;
    struct port_range range[MAX_RANGES];
    unsigned nranges;
    pthread_mutex_t lock; /* of moves */
};

int portbus_create(struct port_bus **out, struct error *err)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return error_errno(err, ENOMEM, "port bus");
    (*out)->nranges = 1;
    for (unsigned port = 0; port < PORTS; port++)
        port_show(*out, (u16)port, 0xff);
    pthread_mutex_init(&(*out)->lock, NULL);
    return 0;
}

void portbus_destroy(struct port_bus *bus)
{
    if (bus)
        pthread_mutex_destroy(&bus->lock);
    free(bus);
}

/* 0: nobody. */
static void set_owner(struct port_bus *bus, unsigned port, u8 owner)
{
    if (owner)
        port_hide(bus, (u16)port);
    bus->owner[port] = owner;
    if (!owner)
        port_show(bus, (u16)port, 0xff);
}

static bool is_full(const struct port_bus *bus, unsigned first, unsigned count)
{
    return count == 0 || count > PORTS - first || bus->nranges == MAX_RANGES;
}

int portbus_add(struct port_bus *bus, u16 first, unsigned count, const struct port_ops *ops,
                void *ctx, pthread_mutex_t *lock, bool wide, struct error *err)
{
    if (is_full(bus, first, count))
        return error_set(err, EINVAL, "cannot place %u ports at %#x", count, first);
    for (unsigned i = 0; i < count; i++) {
        if (bus->owner[first + i])
            return error_set(err, EBUSY, "port %#x belongs to two devices", first + i);
    }
    for (unsigned i = 0; i < count; i++)
        set_owner(bus, first + i, (u8)bus->nranges);
    bus->range[bus->nranges++] =
        (struct port_range){.ops = ops, .ctx = ctx, .lock = lock, .wide = wide};
    return 0;
}

int port_range_create(struct port_bus *bus, unsigned count, const struct port_ops *ops, void *ctx,
                      pthread_mutex_t *lock, bool wide, struct port_range **out, struct error *err)
{
    if (is_full(bus, 0, count))
        return error_set(err, EINVAL, "no room for %u ports", count);
    *out = &bus->range[bus->nranges++];
    **out = (struct port_range){
        .ops = ops, .ctx = ctx, .lock = lock, .wide = wide, .bus = bus, .count = count};
    return 0;
}

static u8 number_of(const struct port_range *r)
{
    return (u8)(r - r->bus->range);
}

static void remove_range(struct port_range *r)
{
    for (unsigned i = r->first; i < PORTS && i < r->first + r->count; i++)
        if (r->bus->owner[i] == number_of(r))
            set_owner(r->bus, i, 0);
}

void port_range_remove(struct port_range *r)
{
    pthread_mutex_lock(&r->bus->lock);
    remove_range(r);
    pthread_mutex_unlock(&r->bus->lock);
}

void port_range_place(struct port_range *r, u16 first)
{
    pthread_mutex_lock(&r->bus->lock);
    remove_range(r);
    r->first = first;
    for (unsigned i = first; i < PORTS && i < first + r->count; i++)
        if (!r->bus->owner[i])
            set_owner(r->bus, i, number_of(r));
    pthread_mutex_unlock(&r->bus->lock);
}

/* The port's number as the range's device knows it. An access that was under way while the range
 * moved may be outside of it. */
static u16 port_for(const struct port_range *r, u16 port)
{
    u16 relative = (u16)(port - r->first);
    return r->bus && relative >= r->count ? 0 : relative;
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
    value = r->ops->in(r->ctx, port_for(r, port), size);
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
    r->ops->out(r->ctx, port_for(r, port), value & (u32)size_mask(size), size);
    if (r->lock)
        pthread_mutex_unlock(r->lock);
}

const _Atomic u16 *port_shown(const struct port_bus *bus)
{
    return bus->shown;
}

void port_show(struct port_bus *bus, u16 port, u8 value)
{
    atomic_store_explicit(&bus->shown[port], PORT_SHOWS_BYTE | value, memory_order_release);
}

void port_hide(struct port_bus *bus, u16 port)
{
    atomic_store_explicit(&bus->shown[port], 0, memory_order_release);
}

void port_show_counter(struct port_bus *bus, u16 port, struct port_counter c)
{
    bus->counter = c;
    bus->shown[port] = PORT_SHOWS_COUNTER;
}

struct port_counter port_counter(const struct port_bus *bus)
{
    return bus->counter;
}
