/*
 * Images behind an NBD server, through libnbd: one that the user names by its address, or a
 * qemu-nbd of our own for a file in a format such as qcow2. One thread owns the connection: it
 * issues what submitters leave in a list, in pieces, and sleeps in poll() for the socket or for an
 * eventfd by which it is woken. Memory that is in several places is copied through one buffer.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/timebase.h"
#include "base/tunables.h"
#include "host/block_impl.h"
#include "host/nbd_library.h"
#include "host/qemu_nbd.h"

struct client {
    struct block block;
    struct block_stall stall;
    struct nbd_library lib;
    struct nbd_handle *nbd;
    struct qemu_nbd server;
    bool has_server;
    u64 length; /* of the export: what of the last sector exists */
    bool can_flush, can_trim, can_zero;
    int wake_fd;
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t lock; /* for these three */
    struct block_queue incoming;
    bool retry, stop;

    /* The thread's. */
    struct block_queue ready, waiting;
    u64 retry_at;
    struct piece *finished;
    unsigned in_flight;
    bool lost; /* the connection */
};

/* One command to the server, for a part of a request. */
struct piece {
    struct client *c;
    struct block_request *r;
    u64 length; /* of the part; 0 for a flush */
    int result;
    u8 *buffer; /* NULL: the request's own memory */
    struct piece *next;
};

static void wake(struct client *c)
{
    u64 one = 1;
    while (write(c->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* libnbd's lock is held: the rest is done outside of it. */
static int on_completion(void *ctx, int *error)
{
    struct piece *p = ctx;
    p->result = -*error;
    p->next = p->c->finished;
    p->c->finished = p;
    return 1;
}

/* The part's memory for the command, as one. NULL: there is none to be had. */
static u8 *piece_memory(struct piece *p)
{
    struct block_request *r = p->r;
    unsigned n;
    if (r->op != BLOCK_WRITE_ZEROES && block_rest(r, p->length, &n) == p->length && n == 1)
        return r->rest[0].iov_base;
    p->buffer = calloc(1, p->length);
    if (p->buffer && r->op == BLOCK_WRITE)
        block_from_iov(r, r->moved, p->buffer, p->length);
    return p->buffer;
}

static i64 send_command(struct client *c, struct piece *p)
{
    nbd_completion_callback done = {.callback = on_completion, .user_data = p};
    struct block_request *r = p->r;
    u64 at = r->offset + r->moved;
    if (r->op == BLOCK_FLUSH)
        return c->lib.aio_flush(c->nbd, done, 0);
    if (r->op == BLOCK_DISCARD)
        return c->lib.aio_trim(c->nbd, p->length, at, done, 0);
    if (r->op == BLOCK_WRITE_ZEROES && c->can_zero)
        return c->lib.aio_zero(c->nbd, p->length, at, done, LIBNBD_CMD_FLAG_NO_HOLE);
    u8 *memory = piece_memory(p);
    if (!memory)
        return -1;
    if (r->op == BLOCK_READ)
        return c->lib.aio_pread(c->nbd, memory, p->length, at, done, 0);
    return c->lib.aio_pwrite(c->nbd, memory, p->length, at, done, 0);
}

static void end_request(struct client *c, struct block_request *r, int result)
{
    block_stall_end(&c->stall, r);
    block_complete(&c->block, r, result);
}

/* The longest part of r: one that moves no bytes may be as long as 32 bits can say. */
static u64 part_limit(const struct client *c, const struct block_request *r)
{
    bool moves = r->op != BLOCK_DISCARD && (r->op != BLOCK_WRITE_ZEROES || !c->can_zero);
    return moves ? TUNE_BLOCK_NBD_PIECE : GIB;
}

/* Sends the next part of a request, or ends it. */
static void issue(struct client *c, struct block_request *r)
{
    struct piece *p = calloc(1, sizeof(*p));
    u64 left = r->length - r->moved;
    if (!p) {
        end_request(c, r, -ENOMEM);
        return;
    }
    p->c = c;
    p->r = r;
    p->length = MIN(MIN(left, part_limit(c, r)), c->length - (r->offset + r->moved));
    c->in_flight++;
    if (send_command(c, p) >= 0)
        return;
    c->in_flight--;
    free(p->buffer);
    free(p);
    end_request(c, r, -EIO);
}

/* Whether all of r is done; what is behind the end of the export reads as zeroes. */
static bool is_whole(const struct client *c, struct block_request *r)
{
    if (r->offset + r->moved == c->length && r->moved < r->length) {
        block_zero_iov(r, r->moved, r->length - r->moved);
        r->moved = r->length;
    }
    return r->moved == r->length;
}

static void settle(struct client *c, struct piece *p)
{
    struct block_request *r = p->r;
    c->in_flight--;
    if (p->result == 0) {
        if (p->buffer && r->op == BLOCK_READ)
            block_to_iov(r, r->moved, p->buffer, p->length);
        r->moved += p->length;
        if (is_whole(c, r))
            end_request(c, r, 0);
        else
            block_queue_add(&c->ready, r);
    } else if (r->op != BLOCK_READ && r->op != BLOCK_FLUSH &&
               block_stall_wait(&c->stall, r, p->result)) {
        if (!c->waiting.first)
            c->retry_at = host_clock_ns(CLOCK_MONOTONIC) + TUNE_BLOCK_RETRY_MS * 1000000ULL;
        block_queue_add(&c->waiting, r);
    } else {
        end_request(c, r, p->result == -EOPNOTSUPP ? -ENOTSUP : p->result);
    }
    free(p->buffer);
    free(p);
}

static void settle_all(struct client *c)
{
    while (c->finished) {
        struct piece *p = c->finished;
        c->finished = p->next;
        settle(c, p);
    }
}

/* Takes over what others have left. Returns false when the thread has to end. */
static bool collect(struct client *c)
{
    pthread_mutex_lock(&c->lock);
    block_queue_move(&c->ready, &c->incoming);
    if (c->retry)
        c->retry_at = 0;
    c->retry = false;
    bool stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    if (c->waiting.first && host_clock_ns(CLOCK_MONOTONIC) >= c->retry_at)
        block_queue_move(&c->ready, &c->waiting);
    return !stop;
}

static void check_connection(struct client *c)
{
    if (c->lost || (!c->lib.aio_is_dead(c->nbd) && !c->lib.aio_is_closed(c->nbd)))
        return;
    c->lost = true;
    char text[200];
    if (c->has_server)
        qemu_nbd_message(&c->server, "it has ended", text, sizeof(text));
    log_warn("%s: the connection to %s is lost%s%s; the guest gets errors", c->stall.path,
             c->has_server ? "qemu-nbd" : "the server", c->has_server ? ": " : "",
             c->has_server ? text : "");
}

static void wait_for_events(struct client *c)
{
    unsigned direction = c->lost ? 0 : c->lib.aio_get_direction(c->nbd);
    struct pollfd fds[2] = {{.fd = c->wake_fd, .events = POLLIN},
                            {.fd = c->lost ? -1 : c->lib.aio_get_fd(c->nbd)}};
    if (direction & LIBNBD_AIO_DIRECTION_READ)
        fds[1].events |= POLLIN;
    if (direction & LIBNBD_AIO_DIRECTION_WRITE)
        fds[1].events |= POLLOUT;
    int timeout = -1;
    if (c->waiting.first) {
        u64 now = host_clock_ns(CLOCK_MONOTONIC);
        timeout = c->retry_at > now ? (int)((c->retry_at - now) / 1000000 + 1) : 0;
    }
    if (poll(fds, 2, timeout) <= 0)
        return;
    if (fds[0].revents) {
        u64 count;
        if (read(c->wake_fd, &count, sizeof(count)) < 0)
            return;
    }
    if (direction & LIBNBD_AIO_DIRECTION_READ && fds[1].revents & (POLLIN | POLLHUP | POLLERR))
        c->lib.aio_notify_read(c->nbd);
    else if (fds[1].revents & (POLLOUT | POLLHUP | POLLERR))
        c->lib.aio_notify_write(c->nbd);
}

static void *run(void *arg)
{
    struct client *c = arg;
    while (collect(c)) {
        while (c->ready.first && c->in_flight < TUNE_BLOCK_NBD_COMMANDS)
            issue(c, block_queue_take(&c->ready));
        if (!c->finished)
            wait_for_events(c);
        settle_all(c);
        check_connection(c);
    }
    return NULL;
}

static void client_submit(struct block *b, struct block_request *r)
{
    struct client *c = container_of(b, struct client, block);
    if (r->op == BLOCK_DISCARD && !c->can_trim) {
        block_complete(b, r, -ENOTSUP);
        return;
    }
    if (r->op == BLOCK_FLUSH && !c->can_flush) { /* a server without a cache */
        block_complete(b, r, 0);
        return;
    }
    if (r->op != BLOCK_READ && r->offset + r->length > c->length) {
        block_complete(b, r, -EIO);
        return;
    }
    pthread_mutex_lock(&c->lock);
    bool first = !c->incoming.first;
    block_queue_add(&c->incoming, r);
    pthread_mutex_unlock(&c->lock);
    if (first)
        wake(c);
}

static void client_stop(struct block *b)
{
    struct client *c = container_of(b, struct client, block);
    block_stall_give_up(&c->stall);
    pthread_mutex_lock(&c->lock);
    c->retry = true;
    pthread_mutex_unlock(&c->lock);
    wake(c);
}

static void client_destroy(struct block *b)
{
    struct client *c = container_of(b, struct client, block);
    if (c->has_thread) {
        pthread_mutex_lock(&c->lock);
        c->stop = true;
        pthread_mutex_unlock(&c->lock);
        wake(c);
        pthread_join(c->thread, NULL);
    }
    if (c->nbd) {
        if (!c->lost && c->lib.aio_is_ready(c->nbd))
            c->lib.shutdown(c->nbd, 0);
        c->lib.close(c->nbd);
    }
    if (c->has_server)
        qemu_nbd_end(&c->server);
    nbd_library_unload(&c->lib);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    block_stall_free(&c->stall);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static int client_new(const struct block_options *opt, struct client **out, struct error *err)
{
    static const struct block_ops ops = {
        .submit = client_submit, .stop = client_stop, .destroy = client_destroy};
    struct client *c = calloc(1, sizeof(*c));
    if (!c)
        return error_set(err, ENOMEM, "%s: no memory for it", opt->path);
    c->block.ops = &ops;
    c->wake_fd = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&c->lock, NULL);
    block_queue_init(&c->incoming);
    block_queue_init(&c->ready);
    block_queue_init(&c->waiting);
    int rc = block_stall_init(&c->stall, opt, opt->path);
    if (rc < 0 || c->wake_fd < 0)
        rc = error_set(err, ENOMEM, "%s: no memory for it", opt->path);
    else
        rc = nbd_library_load(&c->lib, opt->path, err);
    if (rc == 0 && !(c->nbd = c->lib.create()))
        rc = error_set(err, ENOMEM, "%s: %s", opt->path, c->lib.get_error());
    if (rc < 0)
        client_destroy(&c->block);
    else
        *out = c;
    return rc;
}

/* What the server offers; the connection is there. */
static int begin(struct client *c, const struct block_options *opt, struct error *err)
{
    i64 length = c->lib.get_size(c->nbd);
    if (length <= 0)
        return error_set(err, EINVAL, "%s: the server says that it is empty", opt->path);
    if (!opt->read_only && c->lib.is_read_only(c->nbd) != 0)
        return error_set(err, EROFS,
                         "%s: the server lets nobody write to it; take it with ro or snapshot=on",
                         opt->path);
    c->length = (u64)length;
    c->block.size = align_up(c->length, BLOCK_SECTOR);
    c->block.read_only = opt->read_only;
    c->can_flush = c->lib.can_flush(c->nbd) > 0;
    c->can_trim = c->lib.can_trim(c->nbd) > 0;
    c->can_zero = c->lib.can_zero(c->nbd) > 0;
    int code = block_thread(&c->thread, "disk", run, c);
    if (code)
        return error_errno(err, code, "%s: cannot start what reads and writes it", opt->path);
    c->has_thread = true;
    return 0;
}

int block_nbd_connect(const struct block_options *opt, struct block **out, struct error *err)
{
    struct client *c;
    int rc = client_new(opt, &c, err);
    if (rc < 0)
        return rc;
    if (c->lib.connect_uri(c->nbd, opt->path) < 0)
        rc = error_set(err, ECONNREFUSED, "%s: %s", opt->path, c->lib.get_error());
    else
        rc = begin(c, opt, err);
    if (rc < 0)
        client_destroy(&c->block);
    else
        *out = &c->block;
    return rc;
}

int block_nbd_serve(const struct block_options *opt, const char *format, struct block **out,
                    struct error *err)
{
    struct client *c;
    int rc = client_new(opt, &c, err);
    if (rc < 0)
        return rc;
    rc = qemu_nbd_start(opt->path, format, opt->read_only, &c->server, err);
    c->has_server = rc == 0;
    if (rc == 0 && c->lib.connect_socket(c->nbd, c->server.connection) < 0) {
        char text[300];
        qemu_nbd_message(&c->server, c->lib.get_error(), text, sizeof(text));
        rc = error_set(err, EIO, "%s: cannot be opened as a %s image: %s", opt->path, format, text);
    } else if (rc == 0) {
        rc = begin(c, opt, err);
    }
    if (rc < 0)
        client_destroy(&c->block);
    else
        *out = &c->block;
    return rc;
}
