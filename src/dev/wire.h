/*
 * The output pin of a chip. A chip decides the level under its own lock, but must drop that lock
 * before it pulls the wire (the interrupt controller has a lock too); then two threads could pull
 * in the wrong order. A wire keeps the order: wire_level() notes the level under the chip's lock,
 * wire_flush() after the lock is dropped brings the other end up to date. A drop and a rise between
 * two flushes are both shown, so that an edge-triggered input sees its edge.
 */
#ifndef RINGER_DEV_WIRE_H
#define RINGER_DEV_WIRE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cpu/irq.h"

struct wire {
    struct irq_line line;
    pthread_mutex_t lock;  /* held while pulling */
    _Atomic u32 wanted;    /* bit 0: level; above: how often it fell */
    _Atomic u32 delivered; /* what the other end has seen of it */
};

void wire_init(struct wire *w, struct irq_line line);
void wire_destroy(struct wire *w);

/* The level that the pin should have. Under the chip's lock. */
void wire_level(struct wire *w, bool level);

/* Pulls the wire if need be. Without the chip's lock. */
void wire_flush(struct wire *w);

#endif
