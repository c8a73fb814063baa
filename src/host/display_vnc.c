/*
 * The screen over VNC, by libvncserver. One thread does it all: it waits for clients, and while
 * there are some it has the screen drawn up to 30 times a second, looks for tiles that differ from
 * what the server holds, and marks these. Keys and pointer movements of all clients go to one sink;
 * what a client held down when it went away is let go.
 */
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <rfb/rfb.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/timebase.h"
#include "host/display.h"

#define FRAME_NS     33333333ULL
#define IDLE_US      100000
#define TILE_WIDTH   64U
#define TILE_HEIGHT  16U
#define FIRST_PORT   5900
#define PASSWORD_MAX 8
#define HELD_MAX     16

/* RFB's pointer buttons. */
#define RFB_LEFT       BIT(0)
#define RFB_MIDDLE     BIT(1)
#define RFB_RIGHT      BIT(2)
#define RFB_WHEEL_UP   BIT(3)
#define RFB_WHEEL_DOWN BIT(4)

struct vnc {
    struct display base;
    struct display_source source;
    struct input_sink sink;
    rfbScreenInfoPtr rfb;
    u32 *buffer; /* what the server holds: red in the lowest byte */
    struct screen screen;
    u64 next_frame;
    char password[PASSWORD_MAX + 1];
    char *passwords[2];
    unsigned held[HELD_MAX], nheld; /* keys that are down */
    bool pointer_known;
    int x, y;
    unsigned mask;
    pthread_t thread;
    atomic_bool closing;
};

/* --- the picture --- */

static u32 to_rfb(u32 p)
{
    return (p & 0xff) << 16 | (p & 0xff00) | (p >> 16 & 0xff);
}

/* Brings a part of the buffer up to date; returns whether it wasn't. */
static bool copy_tile(struct vnc *v, unsigned x, unsigned y, unsigned w, unsigned h)
{
    bool changed = false;
    for (unsigned j = y; j < y + h; j++) {
        const u32 *from = v->screen.pixels + (size_t)j * v->screen.width;
        u32 *to = v->buffer + (size_t)j * v->screen.width;
        for (unsigned i = x; i < x + w; i++) {
            u32 p = to_rfb(from[i]);
            changed |= to[i] != p;
            to[i] = p;
        }
    }
    return changed;
}

/* A client that can't follow a new size would see rubbish: it has to come again. */
static void drop_rigid_clients(struct vnc *v)
{
    rfbClientIteratorPtr i = rfbGetClientIterator(v->rfb);
    rfbClientPtr cl;
    while ((cl = rfbClientIteratorNext(i)))
        if (cl->state == RFB_NORMAL && !cl->useNewFBSize)
            rfbCloseClient(cl);
    rfbReleaseClientIterator(i);
}

/* False: no memory; the old size stays. */
static bool follow_size(struct vnc *v)
{
    const struct screen *s = &v->screen;
    if (s->width == (unsigned)v->rfb->width && s->height == (unsigned)v->rfb->height)
        return true;
    u32 *buffer = calloc((size_t)s->width * s->height, sizeof(*buffer));
    if (!buffer)
        return false;
    drop_rigid_clients(v);
    rfbNewFramebuffer(v->rfb, (char *)buffer, (int)s->width, (int)s->height, 8, 3, 4);
    free(v->buffer);
    v->buffer = buffer;
    return true;
}

static void update(struct vnc *v)
{
    struct screen *s = &v->screen;
    if (!v->source.draw(v->source.ctx, s) || !follow_size(v))
        return;
    for (unsigned y = s->top; y < s->bottom; y += TILE_HEIGHT)
        for (unsigned x = 0; x < s->width; x += TILE_WIDTH) {
            unsigned w = MIN(TILE_WIDTH, s->width - x), h = MIN(TILE_HEIGHT, s->bottom - y);
            if (copy_tile(v, x, y, w, h))
                rfbMarkRectAsModified(v->rfb, (int)x, (int)y, (int)(x + w), (int)(y + h));
        }
}

/* --- input --- */

static void send_key(struct vnc *v, unsigned key, bool down)
{
    if (v->sink.key)
        v->sink.key(v->sink.ctx, key, down);
}

static void note_held(struct vnc *v, unsigned key, bool down)
{
    unsigned i = 0;
    while (i < v->nheld && v->held[i] != key)
        i++;
    if (down && i == v->nheld && v->nheld < HELD_MAX)
        v->held[v->nheld++] = key;
    else if (!down && i < v->nheld)
        v->held[i] = v->held[--v->nheld];
}

static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr cl)
{
    struct vnc *v = cl->screen->screenData;
    unsigned key = keymap_keysym(keysym);
    if (!key)
        return;
    note_held(v, key, down);
    send_key(v, key, down);
}

static void on_pointer(int mask, int x, int y, rfbClientPtr cl)
{
    struct vnc *v = cl->screen->screenData;
    unsigned pressed = (unsigned)mask & ~v->mask;
    int dx = v->pointer_known ? x - v->x : 0, dy = v->pointer_known ? y - v->y : 0;
    int dz = pressed & RFB_WHEEL_UP ? -1 : pressed & RFB_WHEEL_DOWN ? 1 : 0;
    unsigned buttons = ((unsigned)mask & RFB_LEFT ? POINTER_LEFT : 0) |
                       ((unsigned)mask & RFB_MIDDLE ? POINTER_MIDDLE : 0) |
                       ((unsigned)mask & RFB_RIGHT ? POINTER_RIGHT : 0);
    v->pointer_known = true;
    v->x = x;
    v->y = y;
    v->mask = (unsigned)mask;
    if (v->sink.pointer)
        v->sink.pointer(v->sink.ctx, dx, dy, dz, buttons);
}

static void on_client_gone(rfbClientPtr cl)
{
    struct vnc *v = cl->screen->screenData;
    while (v->nheld)
        send_key(v, v->held[--v->nheld], false);
    if (v->mask && v->sink.pointer)
        v->sink.pointer(v->sink.ctx, 0, 0, 0, 0);
    v->mask = 0;
    v->pointer_known = false;
}

/* The new client is told the size of now, not of when the last one left. */
static enum rfbNewClientAction on_client(rfbClientPtr cl)
{
    cl->clientGoneHook = on_client_gone;
    update(cl->screen->screenData);
    return RFB_CLIENT_ACCEPT;
}

/* --- the thread --- */

static void *serve(void *arg)
{
    struct vnc *v = arg;
    while (!atomic_load(&v->closing)) {
        u64 now = host_clock_ns(CLOCK_MONOTONIC);
        long wait_us = IDLE_US;
        if (v->rfb->clientHead) {
            if (now >= v->next_frame) {
                update(v);
                v->next_frame = now + FRAME_NS;
            }
            wait_us = (long)((v->next_frame - now) / 1000) + 1;
        }
        rfbProcessEvents(v->rfb, wait_us);
    }
    return NULL;
}

/* --- life --- */

/* Splits [HOST]:N; host gets "" if there is none. */
static int parse_address(const char *addr, char *host, size_t size, unsigned *port,
                         struct error *err)
{
    const char *colon = strrchr(addr, ':');
    char *end = NULL;
    unsigned long n =
        colon && colon[1] >= '0' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 0;
    if (!end || *end || n > 65535 || (size_t)(colon - addr) >= size)
        return error_set(err, EINVAL,
                         "--display vnc=%s: takes [HOST]:N, for example :1 or 0.0.0.0:5901", addr);
    if (addr[0] == '[' && colon > addr + 1 && colon[-1] == ']')
        snprintf(host, size, "%.*s", (int)(colon - addr) - 2, addr + 1);
    else
        snprintf(host, size, "%.*s", (int)(colon - addr), addr);
    *port = (unsigned)(n < FIRST_PORT ? n + FIRST_PORT : n);
    return 0;
}

static int try_listen(const struct addrinfo *a)
{
    int one = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 5) == 0)
        return fd;
    int code = errno;
    close(fd);
    return -code;
}

/* Returns a listening socket. */
static int listen_at(const char *addr, struct error *err)
{
    char host[256], service[8];
    unsigned port = 0;
    int rc = parse_address(addr, host, sizeof(host), &port, err);
    if (rc < 0)
        return rc;
    snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list;
    int code = getaddrinfo(host[0] ? host : "127.0.0.1", service, &hints, &list);
    if (code)
        return error_set(err, EINVAL, "--display vnc=%s: %s", addr, gai_strerror(code));
    rc = -EADDRNOTAVAIL;
    for (const struct addrinfo *a = list; a && rc < 0; a = a->ai_next)
        rc = try_listen(a);
    freeaddrinfo(list);
    if (rc < 0)
        return error_errno(err, -rc, "--display vnc=%s: cannot listen on port %u", addr, port);
    return rc;
}

static int read_password(struct vnc *v, const char *path, struct error *err)
{
    char line[256];
    FILE *f = fopen(path, "re");
    if (!f)
        return error_errno(err, errno, "--display vnc: password file %s", path);
    bool got = fgets(line, sizeof(line), f);
    fclose(f);
    if (got)
        line[strcspn(line, "\r\n")] = 0;
    if (!got || !line[0])
        return error_set(err, EINVAL, "--display vnc: no password in %s", path);
    memcpy(v->password, line, MIN(strlen(line), PASSWORD_MAX));
    v->passwords[0] = v->password;
    return 0;
}

/* libvncserver's log and its handling of SIGPIPE belong to the process, whose they are not. */
static int create_server(struct vnc *v, int fd)
{
    struct screen *s = &v->screen;
    rfbLogEnable(FALSE);
    v->buffer = calloc((size_t)s->width * s->height, sizeof(*v->buffer));
    v->rfb = v->buffer ? rfbGetScreen(NULL, NULL, (int)s->width, (int)s->height, 8, 3, 4) : NULL;
    if (!v->rfb)
        return -ENOMEM;
    copy_tile(v, 0, 0, s->width, s->height);
    v->rfb->frameBuffer = (char *)v->buffer;
    v->rfb->screenData = v;
    v->rfb->desktopName = "ringer";
    v->rfb->cursor = NULL;
    v->rfb->port = v->rfb->ipv6port = 0;
    v->rfb->alwaysShared = TRUE;
    v->rfb->ignoreSIGPIPE = FALSE;
    v->rfb->kbdAddEvent = on_key;
    v->rfb->ptrAddEvent = on_pointer;
    v->rfb->newClientHook = on_client;
    if (v->passwords[0]) {
        v->rfb->authPasswdData = v->passwords;
        v->rfb->passwordCheck = rfbCheckPasswordByList;
    }
    rfbInitServer(v->rfb);
    v->rfb->listenSock = fd;
    FD_SET(fd, &v->rfb->allFds);
    v->rfb->maxFd = MAX(v->rfb->maxFd, fd);
    return 0;
}

static void vnc_free(struct vnc *v)
{
    if (v->rfb) {
        rfbShutdownServer(v->rfb, TRUE);
        rfbScreenCleanup(v->rfb);
    }
    free(v->buffer);
    free(v->screen.pixels);
    free(v);
}

static void vnc_destroy(struct display *d)
{
    struct vnc *v = container_of(d, struct vnc, base);
    atomic_store(&v->closing, true);
    pthread_join(v->thread, NULL);
    vnc_free(v);
}

/* Starts the thread, which takes no signals. */
static int start(struct vnc *v)
{
    sigset_t set, old;
    sigfillset(&set);
    pthread_sigmask(SIG_SETMASK, &set, &old);
    int code = pthread_create(&v->thread, NULL, serve, v);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -code;
}

int display_vnc(const char *addr, const char *password_file, const struct display_source *source,
                const struct input_sink *sink, struct display **out, struct error *err)
{
    struct vnc *v = calloc(1, sizeof(*v));
    if (!v)
        return error_set(err, ENOMEM, "no memory for the VNC server");
    v->base.destroy = vnc_destroy;
    v->source = *source;
    v->sink = *sink;
    int rc = password_file ? read_password(v, password_file, err) : 0;
    int fd = rc < 0 ? rc : listen_at(addr, err);
    if (fd < 0) {
        vnc_free(v);
        return fd;
    }
    source->draw(source->ctx, &v->screen);
    rc = v->screen.pixels ? create_server(v, fd) : -ENOMEM;
    if (rc < 0)
        close(fd);
    else
        rc = start(v);
    if (rc < 0) {
        vnc_free(v);
        return error_errno(err, -rc, "cannot start the VNC server");
    }
    *out = &v->base;
    return 0;
}
