/*
 * Small parts of the back ends of disk images: a request's memory, lists of requests, requests that
 * wait for space on the host, threads.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "host/block_impl.h"

/* Calls f for each piece of the request's memory in [at, at + length). */
static void each_piece(const struct block_request *r, u64 at, u64 length,
                       void (*f)(void *ctx, u8 *piece, u64 length), void *ctx)
{
    for (unsigned i = 0; i < r->niov && length; i++) {
        u64 size = r->iov[i].iov_len;
        if (at >= size) {
            at -= size;
            continue;
        }
        u64 n = MIN(size - at, length);
        f(ctx, (u8 *)r->iov[i].iov_base + at, n);
        length -= n;
        at = 0;
    }
}

static void copy_to(void *ctx, u8 *piece, u64 length)
{
    const u8 **from = ctx;
    memcpy(piece, *from, length);
    *from += length;
}

static void copy_from(void *ctx, u8 *piece, u64 length)
{
    u8 **to = ctx;
    memcpy(*to, piece, length);
    *to += length;
}

static void zero(void *ctx, u8 *piece, u64 length)
{
    (void)ctx;
    memset(piece, 0, length);
}

void block_to_iov(const struct block_request *r, u64 at, const void *from, u64 length)
{
    each_piece(r, at, length, copy_to, &from);
}

void block_from_iov(const struct block_request *r, u64 at, void *to, u64 length)
{
    each_piece(r, at, length, copy_from, &to);
}

void block_zero_iov(const struct block_request *r, u64 at, u64 length)
{
    each_piece(r, at, length, zero, NULL);
}

u64 block_rest(struct block_request *r, u64 max, unsigned *n)
{
    u64 at = r->moved, total = 0;
    *n = 0;
    for (unsigned i = 0; i < r->niov && *n < ARRAY_SIZE(r->rest) && total < max; i++) {
        u64 size = r->iov[i].iov_len;
        if (at >= size) {
            at -= size;
            continue;
        }
        u64 length = MIN(size - at, max - total);
        r->rest[(*n)++] = (struct iovec){(u8 *)r->iov[i].iov_base + at, length};
        total += length;
        at = 0;
    }
    return total;
}

void block_queue_init(struct block_queue *q)
{
    q->first = NULL;
    q->end = &q->first;
}

void block_queue_add(struct block_queue *q, struct block_request *r)
{
    r->next = NULL;
    *q->end = r;
    q->end = &r->next;
}

struct block_request *block_queue_take(struct block_queue *q)
{
    struct block_request *r = q->first;
    if (!r)
        return NULL;
    q->first = r->next;
    if (!q->first)
        q->end = &q->first;
    return r;
}

void block_queue_move(struct block_queue *to, struct block_queue *from)
{
    if (!from->first)
        return;
    *to->end = from->first;
    to->end = from->end;
    block_queue_init(from);
}

int block_stall_init(struct block_stall *s, const struct block_options *opt, const char *path)
{
    *s = (struct block_stall){
        .stalled = opt->stalled, .ctx = opt->stalled_ctx, .path = strdup(path)};
    pthread_mutex_init(&s->lock, NULL);
    return s->path ? 0 : -ENOMEM;
}

void block_stall_free(struct block_stall *s)
{
    assert(s->waiting == 0);
    pthread_mutex_destroy(&s->lock);
    free(s->path);
}

bool block_stall_wait(struct block_stall *s, struct block_request *r, int result)
{
    if (result != -ENOSPC && result != -EDQUOT)
        return false;
    pthread_mutex_lock(&s->lock);
    bool again = !s->given_up;
    if (again && !r->stalled) {
        r->stalled = true;
        if (s->waiting++ == 0 && s->stalled)
            s->stalled(s->ctx, true, s->path);
    }
    pthread_mutex_unlock(&s->lock);
    return again;
}

void block_stall_end(struct block_stall *s, struct block_request *r)
{
    if (!r->stalled)
        return;
    pthread_mutex_lock(&s->lock);
    r->stalled = false;
    if (--s->waiting == 0 && s->stalled)
        s->stalled(s->ctx, false, s->path);
    pthread_mutex_unlock(&s->lock);
}

void block_stall_give_up(struct block_stall *s)
{
    pthread_mutex_lock(&s->lock);
    s->given_up = true;
    pthread_mutex_unlock(&s->lock);
}

int block_thread(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int code = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (code == 0)
        pthread_setname_np(*thread, name);
    return code;
}
