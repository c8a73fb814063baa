/*
 * A disk image beside a model of it in memory: random requests, several in flight that don't
 * overlap, each compared with the model when it ends.
 */
#ifndef RINGER_TESTS_BLOCK_MODEL_H
#define RINGER_TESTS_BLOCK_MODEL_H

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/block.h"

#define MODEL_SLOTS  12
#define MODEL_LENGTH (200 * 1024) /* of the longest request */
#define MODEL_PIECES 24

struct model_slot {
    struct block_request r;
    struct model *m;
    bool busy, ended;
    int result;
    u8 *buffer;
    struct iovec iov[MODEL_PIECES];
};

struct model {
    struct block *b;
    u8 *bytes;
    u64 size, seed;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct model_slot slot[MODEL_SLOTS];
    unsigned reads, writes, zeroes, discards, refused, flushes;
};

static inline u64 model_random(struct model *m, u64 below)
{
    m->seed = m->seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (m->seed >> 33) % below;
}

static inline void model_done(struct block_request *r, int result)
{
    struct model_slot *s = r->ctx;
    pthread_mutex_lock(&s->m->lock);
    s->result = result;
    s->ended = true;
    pthread_cond_signal(&s->m->changed);
    pthread_mutex_unlock(&s->m->lock);
}

static inline void model_init(struct model *m, struct block *b, u64 seed)
{
    *m = (struct model){.b = b,
                        .size = b->size,
                        .seed = seed,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER};
    m->bytes = malloc(m->size);
    assert_non_null(m->bytes);
    for (unsigned i = 0; i < MODEL_SLOTS; i++) {
        m->slot[i].m = m;
        m->slot[i].buffer = malloc(MODEL_LENGTH);
        assert_non_null(m->slot[i].buffer);
    }
    assert_int_equal(block_read(b, 0, m->bytes, m->size), 0);
}

static inline void model_free(struct model *m)
{
    for (unsigned i = 0; i < MODEL_SLOTS; i++)
        free(m->slot[i].buffer);
    free(m->bytes);
}

static inline bool model_overlaps(struct model *m, u64 offset, u64 length)
{
    for (unsigned i = 0; i < MODEL_SLOTS; i++) {
        struct block_request *r = &m->slot[i].r;
        if (m->slot[i].busy && offset < r->offset + r->length && r->offset < offset + length)
            return true;
    }
    return false;
}

/* The buffer, cut at random bytes. */
static inline void model_cut(struct model *m, struct model_slot *s)
{
    u64 left = s->r.length, n = 0;
    u8 *at = s->buffer;
    unsigned pieces = 1 + (unsigned)model_random(m, MODEL_PIECES);
    while (left) {
        u64 length = n + 1 == pieces ? left : 1 + model_random(m, left);
        s->iov[n++] = (struct iovec){at, length};
        at += length;
        left -= length;
    }
    s->r.niov = (unsigned)n;
}

static inline void model_start(struct model *m, struct model_slot *s)
{
    static const enum block_op ops[] = {BLOCK_READ,    BLOCK_READ,         BLOCK_READ,
                                        BLOCK_WRITE,   BLOCK_WRITE,        BLOCK_WRITE,
                                        BLOCK_DISCARD, BLOCK_WRITE_ZEROES, BLOCK_FLUSH};
    u64 sectors = m->size / BLOCK_SECTOR;
    u64 longest = model_random(m, 3) ? 16 : MODEL_LENGTH / BLOCK_SECTOR;
    u64 length = 1 + model_random(m, MIN(longest, sectors));
    u64 offset = model_random(m, sectors - length + 1);
    s->r = (struct block_request){.op = ops[model_random(m, ARRAY_SIZE(ops))],
                                  .offset = offset * BLOCK_SECTOR,
                                  .length = length * BLOCK_SECTOR,
                                  .iov = s->iov,
                                  .done = model_done,
                                  .ctx = s};
    if (s->r.op == BLOCK_FLUSH)
        s->r.offset = s->r.length = 0;
    if (model_overlaps(m, s->r.offset, s->r.length))
        return;
    model_cut(m, s);
    if (s->r.op == BLOCK_READ)
        memset(s->buffer, 0xa5, s->r.length);
    if (s->r.op == BLOCK_WRITE)
        for (u64 i = 0; i < s->r.length; i++)
            s->buffer[i] = (u8)(model_random(m, 1 << 16) >> 8 ^ i);
    s->busy = true;
    s->ended = false;
    block_submit(m->b, &s->r);
}

/* A discarded sector may have kept its contents. */
static inline void model_check_discard(struct model *m, struct block_request *r)
{
    static const u8 zeroes[BLOCK_SECTOR];
    u8 sector[BLOCK_SECTOR];
    for (u64 at = r->offset; at < r->offset + r->length; at += BLOCK_SECTOR) {
        assert_int_equal(block_read(m->b, at, sector, BLOCK_SECTOR), 0);
        if (memcmp(sector, m->bytes + at, BLOCK_SECTOR) != 0)
            assert_memory_equal(sector, zeroes, BLOCK_SECTOR);
        memcpy(m->bytes + at, sector, BLOCK_SECTOR);
    }
}

static inline void model_check(struct model *m, struct model_slot *s)
{
    struct block_request *r = &s->r;
    s->busy = false;
    if (r->op == BLOCK_DISCARD && s->result == -ENOTSUP) {
        m->refused++;
        return;
    }
    assert_int_equal(s->result, 0);
    switch (r->op) {
    case BLOCK_READ:
        assert_memory_equal(s->buffer, m->bytes + r->offset, r->length);
        m->reads++;
        break;
    case BLOCK_WRITE:
        memcpy(m->bytes + r->offset, s->buffer, r->length);
        m->writes++;
        break;
    case BLOCK_WRITE_ZEROES:
        memset(m->bytes + r->offset, 0, r->length);
        m->zeroes++;
        break;
    case BLOCK_DISCARD:
        model_check_discard(m, r);
        m->discards++;
        break;
    case BLOCK_FLUSH:
        m->flushes++;
        break;
    }
}

/* Waits until a slot is free, or (all) until all are; checks what has ended. */
static inline struct model_slot *model_wait(struct model *m, bool all)
{
    for (;;) {
        struct model_slot *ended = NULL;
        unsigned busy = 0;
        pthread_mutex_lock(&m->lock);
        for (unsigned i = 0; i < MODEL_SLOTS; i++) {
            busy += m->slot[i].busy;
            if (m->slot[i].busy && m->slot[i].ended)
                ended = &m->slot[i];
        }
        if (!ended && (all ? busy > 0 : busy == MODEL_SLOTS))
            pthread_cond_wait(&m->changed, &m->lock);
        pthread_mutex_unlock(&m->lock);
        if (ended)
            model_check(m, ended);
        else if (busy == 0 || (!all && busy < MODEL_SLOTS))
            break;
    }
    for (unsigned i = 0; i < MODEL_SLOTS; i++)
        if (!m->slot[i].busy)
            return &m->slot[i];
    return NULL;
}

/* n random requests; `between` is called now and then. */
static inline void model_run(struct model *m, unsigned n, void (*between)(void *ctx), void *ctx)
{
    for (unsigned i = 0; i < n; i++) {
        model_start(m, model_wait(m, false));
        if (between && model_random(m, 16) == 0)
            between(ctx);
    }
    model_wait(m, true);
    u8 *all = malloc(m->size);
    assert_non_null(all);
    assert_int_equal(block_read(m->b, 0, all, m->size), 0);
    assert_memory_equal(all, m->bytes, m->size);
    free(all);
    assert_true(m->reads && m->writes && m->zeroes && m->discards + m->refused && m->flushes);
}

#endif
