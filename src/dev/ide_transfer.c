/*
 * How an IDE channel moves data: PIO blocks, DMA, and requests to the image's back end. A request
 * is only noted under the lock and submitted when that is dropped, since its callback may come from
 * inside of block_submit(), and takes the lock. One thread at a time submits, in a loop, so that a
 * back end that ends requests at once makes no recursion.
 */
#include <errno.h>

#include "dev/ide_internal.h"

static void request_done(struct block_request *r, int result)
{
    struct ide_channel *c = r->ctx;
    pthread_mutex_lock(&c->lock);
    c->request_in_flight = false;
    if (c->unit[0].resetting || c->unit[1].resetting)
        ide_reset_end(c);
    else if (c->step)
        c->step(c, result);
    ide_unlock(c);
    pthread_mutex_lock(&c->lock);
    if (!--c->callbacks)
        pthread_cond_broadcast(&c->quiet);
    pthread_mutex_unlock(&c->lock);
}

void ide_unlock(struct ide_channel *c)
{
    while (c->request_ready && !c->submitting) {
        c->request_ready = false;
        c->request_in_flight = true;
        c->submitting = true;
        c->callbacks++;
        pthread_mutex_unlock(&c->lock);
        wire_flush(&c->irq);
        block_submit(c->request_block, &c->request);
        pthread_mutex_lock(&c->lock);
        c->submitting = false;
    }
    pthread_mutex_unlock(&c->lock);
    wire_flush(&c->irq);
}

void ide_request(struct ide_channel *c, enum block_op op, u64 offset, u64 length, u32 pos,
                 ide_step *next)
{
    bool data = op == BLOCK_READ || op == BLOCK_WRITE;
    assert(!c->request_ready && !c->request_in_flight);
    assert(!data || (pos <= IDE_BUFFER && length <= IDE_BUFFER - pos));
    c->iov = (struct iovec){c->buffer + pos, data ? length : 0};
    c->request = (struct block_request){
        .op = op,
        .offset = offset,
        .length = length,
        .iov = data ? &c->iov : NULL,
        .niov = data ? 1 : 0,
        .done = request_done,
        .ctx = c,
    };
    c->request_block = c->active->block;
    c->request_ready = true;
    c->phase = PHASE_NONE;
    c->step = next;
    c->active->status = STATUS_BSY;
}

/* --- the end of a command --- */

void ide_end(struct ide_channel *c, u8 status, u8 error)
{
    c->phase = PHASE_NONE;
    c->step = NULL;
    c->active->status = status;
    c->active->reg[0][REG_ERROR] = error;
    ide_set_intrq(c, c->active, true);
}

void ide_end_silently(struct ide_channel *c)
{
    c->phase = PHASE_NONE;
    c->step = NULL;
    c->active->status = STATUS_OK;
    c->active->reg[0][REG_ERROR] = 0;
}

void ide_end_ok(struct ide_channel *c)
{
    ide_end(c, STATUS_OK, 0);
}

void ide_abort(struct ide_channel *c, u8 error)
{
    ide_end(c, STATUS_OK | STATUS_ERR, error);
}

/* --- PIO --- */

static void pio_start(struct ide_channel *c, enum ide_phase phase, u32 pos, u32 len, bool irq,
                      ide_step *next)
{
    assert(len && pos <= IDE_BUFFER && len <= IDE_BUFFER - pos);
    c->phase = phase;
    c->pos = pos;
    c->end = pos + len;
    c->step = next;
    c->active->status = STATUS_OK | STATUS_DRQ;
    if (irq)
        ide_set_intrq(c, c->active, true);
}

void ide_pio_in(struct ide_channel *c, u32 pos, u32 len, ide_step *next)
{
    pio_start(c, PHASE_PIO_IN, pos, len, true, next);
}

void ide_pio_out(struct ide_channel *c, u32 pos, u32 len, bool irq, ide_step *next)
{
    pio_start(c, PHASE_PIO_OUT, pos, len, irq, next);
}

/* The host has moved `size` bytes; it may be more than are left, the last time. */
static void pio_advance(struct ide_channel *c, unsigned size)
{
    c->pos += size;
    if (c->pos < c->end)
        return;
    c->phase = PHASE_NONE;
    c->active->status = STATUS_BSY;
    c->step(c, 0);
}

u32 ide_data_read(struct ide_channel *c, unsigned size)
{
    u32 value = 0;
    if (c->phase != PHASE_PIO_IN)
        return (u32)size_mask(size);
    memcpy(&value, c->buffer + c->pos, MIN(size, c->end - c->pos));
    pio_advance(c, size);
    return value;
}

void ide_data_write(struct ide_channel *c, u32 value, unsigned size)
{
    if (c->phase != PHASE_PIO_OUT)
        return;
    memcpy(c->buffer + c->pos, &value, MIN(size, c->end - c->pos));
    pio_advance(c, size);
}

/* --- DMA --- */

void ide_dma(struct ide_channel *c, u32 len, bool in, ide_step *next)
{
    assert(len && len <= IDE_BUFFER);
    c->phase = PHASE_DMA;
    c->end = len;
    c->dma_in = in;
    c->step = next;
    c->active->status = STATUS_OK | STATUS_DRQ;
    if (c->dma_started || bmdma_active(c))
        ide_dma_go(c);
}

void ide_dma_go(struct ide_channel *c)
{
    if (c->phase != PHASE_DMA)
        return;
    c->dma_started = true;
    c->phase = PHASE_NONE;
    c->active->status = STATUS_BSY;
    c->step(c, bmdma_move(c, c->end, c->dma_in));
}

/* A table that is too short leaves the drive without its partner, and nobody interrupts (Bus Master
 * IDE 1.0, 3.1). */
void ide_dma_failed(struct ide_channel *c, int result)
{
    if (result == -ENOSPC)
        ide_end_silently(c);
    else
        ide_abort(c, ERROR_ABRT);
}
