/*
 * What the keyboard controller shares with the devices on its two ports. A device has no lock of
 * its own: the controller calls it under the controller's, and what else wakes a device (the user,
 * a timer) takes that lock, too, by struct ps2_bus.
 */
#ifndef RINGER_DEV_PS2_H
#define RINGER_DEV_PS2_H

#include "base/types.h"

/* The controller, as its devices see it. unlock() also moves a byte that waits to the guest. */
struct ps2_bus {
    void (*lock)(void *ctx);
    void (*unlock)(void *ctx);
    void *ctx;
};

#define PS2_ACK    0xfa
#define PS2_BAT_OK 0xaa
#define PS2_REFUSE 0xfe

/* Bytes, each with a flag of its owner's above it. */
#define PS2_QUEUE_SIZE 512

struct ps2_queue {
    u16 data[PS2_QUEUE_SIZE];
    unsigned head, count;
};

/* A full queue drops the byte: the guest doesn't read. */
static inline void ps2_push(struct ps2_queue *q, u16 byte)
{
    if (q->count < PS2_QUEUE_SIZE)
        q->data[(q->head + q->count++) % PS2_QUEUE_SIZE] = byte;
}

static inline bool ps2_pop(struct ps2_queue *q, u16 *byte)
{
    if (!q->count)
        return false;
    *byte = q->data[q->head];
    q->head = (q->head + 1) % PS2_QUEUE_SIZE;
    q->count--;
    return true;
}

#endif
