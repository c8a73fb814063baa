/*
 * The port (I/O) address space: 64 Ki ports, each owned by at most one device range.
 */
#ifndef RINGER_MEM_PORTBUS_H
#define RINGER_MEM_PORTBUS_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"

struct port_bus;

/* Ports. port is the absolute port number; size is 1, 2 or 4. An access wider than the range is
 * split into bytes by the bus unless the range was added with wide = true. */
struct port_ops {
    u32 (*in)(void *ctx, u16 port, unsigned size);
    void (*out)(void *ctx, u16 port, u32 value, unsigned size);
};

int portbus_create(struct port_bus **out, struct error *err);
void portbus_destroy(struct port_bus *bus);

/* Gives ports [first, first+count) to a device. lock may be NULL; else it is held during callbacks.
 * wide: callbacks take accesses of 2 and 4 bytes; else they only see single bytes. */
int portbus_add(struct port_bus *bus, u16 first, unsigned count, const struct port_ops *ops,
                void *ctx, pthread_mutex_t *lock, bool wide, struct error *err);

/* A range that can be moved while the guest runs, not placed yet: port is relative to the range.
 * portbus_destroy() frees it. Before the guest runs. */
struct port_range;
int port_range_create(struct port_bus *bus, unsigned count, const struct port_ops *ops, void *ctx,
                      pthread_mutex_t *lock, bool wide, struct port_range **out, struct error *err);
/* Places or moves it to ports [first, + count); ports that others have stay theirs. */
void port_range_place(struct port_range *r, u16 first);
void port_range_remove(struct port_range *r);

/* An access by a CPU. Nobody home: reads give all ones, writes are dropped. */
u32 port_in(struct port_bus *bus, u16 port, unsigned size);
void port_out(struct port_bus *bus, u16 port, u32 value, unsigned size);

/* --- ports that an engine's generated code reads by itself --- */

/* What a port shows: 0: ask its device; PORT_SHOWS_BYTE + n: reads of one byte give n and have no
 * effect; PORT_SHOWS_COUNTER: reads of four bytes give the counter and have no effect. */
#define PORT_SHOWS_BYTE    0x100
#define PORT_SHOWS_COUNTER 0x200

/* For each port what it shows. */
const _Atomic u16 *port_shown(const struct port_bus *bus);

/* For the device that owns a port which doesn't move. What is shown counts from now on for every
 * CPU. A port without a device always shows ffh. */
void port_show(struct port_bus *bus, u16 port, u8 value);
void port_hide(struct port_bus *bus, u16 port);

/* A counter of guest time, of 32 bits at most; there can be one. Before the guest runs. */
struct port_counter {
    u32 hz, mask;
};
void port_show_counter(struct port_bus *bus, u16 port, struct port_counter c);
struct port_counter port_counter(const struct port_bus *bus);

#endif
