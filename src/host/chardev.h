/*
 * A character stream to the host: stdio, a file, nothing, or a buffer in tests. Input arrives on
 * the back end's own thread.
 */
#ifndef RINGER_HOST_CHARDEV_H
#define RINGER_HOST_CHARDEV_H

#include "base/error.h"
#include "base/types.h"

struct chardev {
    const struct chardev_ops *ops;
    /* Set by the device that listens: called with input bytes, on the back end's thread; returns
     * how many it took. Untaken bytes are offered again after chardev_ready(). */
    size_t (*receive)(void *ctx, const u8 *buf, size_t len);
    void *receive_ctx;
};

struct chardev_ops {
    /* Writes all bytes; may block for a slow reader. */
    void (*write)(struct chardev *c, const u8 *buf, size_t len);
    /* Starts input. May be NULL: there is none. */
    int (*start)(struct chardev *c, struct error *err);
    /* The device has room for input again. May be NULL. */
    void (*ready)(struct chardev *c);
    /* The machine stops: a write that waits for a slow reader, and all later ones, give up instead.
     * May be NULL. */
    void (*stop)(struct chardev *c);
    void (*destroy)(struct chardev *c);
};

/* Standard input and output. On a terminal: raw mode, restored on every way out (exit, signals);
 * Ctrl-A X calls quit(ctx), on the reader's thread, Ctrl-A H prints help, Ctrl-A Ctrl-A sends
 * Ctrl-A. With pipes: bytes pass unchanged, and end of input is just no more input. Nothing is read
 * before chardev_start. Only one may exist at a time on a terminal. To be made before engines
 * install handlers for SIGSEGV and the like, so that those chain to the one that restores the
 * terminal. */
int chardev_stdio(void (*quit)(void *ctx), void *ctx, struct chardev **out, struct error *err);

/* Output to a file, created or truncated; no input. */
int chardev_file(const char *path, struct chardev **out, struct error *err);

/* Swallows output; no input. */
struct chardev *chardev_null(void);

/* Starts reading input, after the device has set `receive`. */
static inline int chardev_start(struct chardev *c, struct error *err)
{
    return c->ops->start ? c->ops->start(c, err) : 0;
}

/* From any thread. To be called when the user wants out, before waiting for vCPU threads: one may
 * be inside a write. Not when the guest ends by itself: then a slow reader still gets everything.
 */
static inline void chardev_stop(struct chardev *c)
{
    if (c->ops->stop)
        c->ops->stop(c);
}

static inline void chardev_write(struct chardev *c, const u8 *buf, size_t len)
{
    c->ops->write(c, buf, len);
}

static inline void chardev_ready(struct chardev *c)
{
    if (c->ops->ready)
        c->ops->ready(c);
}

static inline void chardev_destroy(struct chardev *c)
{
    if (c)
        c->ops->destroy(c);
}

#endif
