/*
 * The console on standard input and output. A reader thread polls stdin and offers bytes to the
 * device; what it doesn't take waits, and a pipe is not read further meanwhile. On a terminal
 * reading goes on, because the escape key must work while the guest doesn't listen. Output collects
 * in a ring that a writer thread empties a millisecond after the first byte came, so a kernel's
 * messages cost one system call per burst; the device waits only when the ring is full.
 */
#include "host/chardev.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/timebase.h"
#include "base/tunables.h"
#include "host/terminal.h"

#define ESCAPE_KEY    0x01 /* Ctrl-A */
#define IN_BUFFER     4096
#define COLLECT_NS    1000000
#define STOP_PATIENCE 1000 /* ms that a stopped machine waits for a reader who doesn't read */

static const char help_text[] = "\r\nCtrl-A X       leave the virtual machine\r\n"
                                "Ctrl-A H       this help\r\n"
                                "Ctrl-A Ctrl-A  send Ctrl-A\r\n";

struct stdio {
    struct chardev base;
    void (*quit)(void *ctx);
    void *quit_ctx;
    bool tty;

    /* The reader thread and what only it uses. */
    pthread_t reader;
    bool reading;
    int wake_fd;
    u8 in[IN_BUFFER];
    size_t in_count;
    bool in_escape;
    bool in_ended;
    atomic_bool closing;

    /* The writer thread and the ring, under lock. */
    pthread_t writer;
    pthread_mutex_t lock;
    pthread_cond_t data, room;
    u8 out[TUNE_UART_OUT_BUFFER];
    size_t out_head, out_count;
    bool draining;       /* destroy: the writer ends when the ring is empty */
    atomic_bool stopped; /* nobody waits for the host's reader any more */
    bool out_gone;       /* nobody reads stdout */
};

/* --- output --- */

/* Appends as much as there is room for; returns how much that was. */
static size_t ring_put(struct stdio *s, const u8 *buf, size_t len)
{
    size_t tail = (s->out_head + s->out_count) % sizeof(s->out);
    size_t n = MIN(len, sizeof(s->out) - s->out_count);
    size_t first = MIN(n, sizeof(s->out) - tail);
    memcpy(s->out + tail, buf, first);
    memcpy(s->out, buf + first, n - first);
    if (n && !s->out_count)
        pthread_cond_signal(&s->data);
    s->out_count += n;
    return n;
}

static void stdio_write(struct chardev *c, const u8 *buf, size_t len)
{
    struct stdio *s = container_of(c, struct stdio, base);
    pthread_mutex_lock(&s->lock);
    while (len && !s->out_gone) {
        size_t n = ring_put(s, buf, len);
        buf += n;
        len -= n;
        if (len && atomic_load(&s->stopped))
            break;
        if (len)
            pthread_cond_wait(&s->room, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Waits until stdout takes bytes. False: it doesn't, and the machine has stopped. */
static bool wait_writable(struct stdio *s)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    for (;;) {
        bool last_try = atomic_load(&s->stopped);
        int n = poll(&p, 1, STOP_PATIENCE);
        if (n > 0)
            return true;
        if (n == 0 && last_try)
            return false;
    }
}

/* Writes a piece of the ring; returns how much went out, 0 if nobody will read it. A blocking
 * stdout is polled first too, and takes what fits in a pipe page without blocking. */
static size_t write_piece(struct stdio *s, const u8 *buf, size_t len)
{
    for (;;) {
        if (!wait_writable(s))
            return 0;
        ssize_t n = write(STDOUT_FILENO, buf, MIN(len, PAGE_SIZE));
        if (n > 0)
            return (size_t)n;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return 0;
    }
}

/* Lets output collect; under the lock. */
static void collect(struct stdio *s)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += COLLECT_NS;
    until.tv_sec += until.tv_nsec / (long)NSEC_PER_SEC;
    until.tv_nsec %= (long)NSEC_PER_SEC;
    while (!s->draining) {
        if (pthread_cond_timedwait(&s->data, &s->lock, &until) == ETIMEDOUT)
            return;
    }
}

static void *writer_thread(void *arg)
{
    struct stdio *s = arg;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->out_count && !s->draining)
            pthread_cond_wait(&s->data, &s->lock);
        if (!s->out_count || s->out_gone)
            break;
        collect(s);
        size_t len = MIN(s->out_count, sizeof(s->out) - s->out_head);
        const u8 *piece = s->out + s->out_head;
        pthread_mutex_unlock(&s->lock);
        size_t n = write_piece(s, piece, len);
        pthread_mutex_lock(&s->lock);
        s->out_gone = n == 0;
        s->out_head = (s->out_head + n) % sizeof(s->out);
        s->out_count -= n;
        pthread_cond_broadcast(&s->room);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* --- input --- */

static void escape_command(struct stdio *s, u8 byte)
{
    if (byte == 'x' || byte == 'X') {
        s->quit(s->quit_ctx);
    } else if (byte == 'h' || byte == 'H' || byte == '?') {
        pthread_mutex_lock(&s->lock);
        ring_put(s, (const u8 *)help_text, sizeof(help_text) - 1);
        pthread_mutex_unlock(&s->lock);
    }
}

/* A byte from the terminal: an escape, or input while there is room for it. */
static void take_key(struct stdio *s, u8 byte)
{
    bool literal = s->in_escape && byte == ESCAPE_KEY;
    if (s->in_escape && !literal) {
        s->in_escape = false;
        escape_command(s, byte);
    } else if (byte == ESCAPE_KEY && !literal) {
        s->in_escape = true;
    } else {
        s->in_escape = false;
        if (s->in_count < sizeof(s->in))
            s->in[s->in_count++] = byte;
    }
}

static void read_input(struct stdio *s)
{
    u8 keys[256];
    ssize_t n;
    if (s->tty)
        n = read(STDIN_FILENO, keys, sizeof(keys));
    else
        n = read(STDIN_FILENO, s->in + s->in_count, sizeof(s->in) - s->in_count);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        s->in_ended = true;
    if (n <= 0)
        return;
    if (!s->tty)
        s->in_count += (size_t)n;
    for (ssize_t i = 0; s->tty && i < n; i++)
        take_key(s, keys[i]);
}

static void offer_input(struct stdio *s)
{
    if (!s->in_count || !s->base.receive)
        return;
    size_t n = s->base.receive(s->base.receive_ctx, s->in, s->in_count);
    s->in_count -= n;
    memmove(s->in, s->in + n, s->in_count);
}

static void *reader_thread(void *arg)
{
    struct stdio *s = arg;
    while (!atomic_load(&s->closing)) {
        bool want = !s->in_ended && (s->tty || !s->in_count);
        struct pollfd p[2] = {
            {.fd = s->wake_fd, .events = POLLIN},
            {.fd = want ? STDIN_FILENO : -1, .events = POLLIN},
        };
        if (poll(p, 2, -1) < 0)
            continue;
        u64 wakes;
        if (p[0].revents && read(s->wake_fd, &wakes, sizeof(wakes)) < 0)
            continue;
        if (p[1].revents)
            read_input(s);
        offer_input(s);
    }
    return NULL;
}

static void wake_reader(struct stdio *s)
{
    u64 one = 1;
    /* Fails only when the counter is full, and then the reader is awake. */
    if (write(s->wake_fd, &one, sizeof(one)) < 0)
        return;
}

static void stdio_ready(struct chardev *c)
{
    wake_reader(container_of(c, struct stdio, base));
}

/* --- life --- */

/* Starts a thread that takes no signals but those of its own faults, and of reading or writing the
 * terminal in the background, which are to stop the process. */
static int start_thread(pthread_t *thread, void *(*fn)(void *), struct stdio *s)
{
    static const int own[] = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL, SIGABRT,
                              SIGSYS,  SIGTRAP, SIGTTIN, SIGTTOU};
    sigset_t set, old;
    sigfillset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        sigdelset(&set, own[i]);
    pthread_sigmask(SIG_SETMASK, &set, &old);
    int code = pthread_create(thread, NULL, fn, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return code;
}

static int stdio_start(struct chardev *c, struct error *err)
{
    struct stdio *s = container_of(c, struct stdio, base);
    int code = start_thread(&s->reader, reader_thread, s);
    if (code)
        return error_errno(err, code, "cannot start the thread that reads standard input");
    s->reading = true;
    return 0;
}

static void stdio_stop(struct chardev *c)
{
    struct stdio *s = container_of(c, struct stdio, base);
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->stopped, true);
    pthread_cond_broadcast(&s->room);
    pthread_mutex_unlock(&s->lock);
}

static void stdio_free(struct stdio *s)
{
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    pthread_cond_destroy(&s->data);
    pthread_cond_destroy(&s->room);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void stdio_destroy(struct chardev *c)
{
    struct stdio *s = container_of(c, struct stdio, base);
    if (s->reading) {
        atomic_store(&s->closing, true);
        wake_reader(s);
        pthread_join(s->reader, NULL);
    }
    pthread_mutex_lock(&s->lock);
    s->draining = true;
    pthread_cond_broadcast(&s->data);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->writer, NULL);
    if (s->tty)
        terminal_restore();
    stdio_free(s);
}

static const struct chardev_ops stdio_ops = {
    .write = stdio_write,
    .start = stdio_start,
    .ready = stdio_ready,
    .stop = stdio_stop,
    .destroy = stdio_destroy,
};

static struct stdio *stdio_new(void (*quit)(void *ctx), void *ctx)
{
    struct stdio *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->data, &attr);
    pthread_cond_init(&s->room, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->lock, NULL);
    s->base.ops = &stdio_ops;
    s->quit = quit;
    s->quit_ctx = ctx;
    s->tty = isatty(STDIN_FILENO);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return s;
}

int chardev_stdio(void (*quit)(void *ctx), void *ctx, struct chardev **out, struct error *err)
{
    struct stdio *s = stdio_new(quit, ctx);
    if (!s)
        return error_set(err, ENOMEM, "no memory for the console");
    int rc = 0;
    if (s->wake_fd < 0)
        rc = error_errno(err, errno, "cannot make an event descriptor for the console");
    if (!rc && s->tty)
        rc = terminal_set_raw(STDIN_FILENO, err);
    if (rc) {
        stdio_free(s);
        return rc;
    }
    int code = start_thread(&s->writer, writer_thread, s);
    if (code) {
        if (s->tty)
            terminal_restore();
        stdio_free(s);
        return error_errno(err, code, "cannot start the thread that writes standard output");
    }
    *out = &s->base;
    return 0;
}
