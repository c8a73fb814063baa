/*
 * Text modes drawn in a terminal: cells that changed, in CP437's characters as UTF-8, in the 16
 * colours of terminals where the guest's are the usual ones and in the nearest of 256 else. Keys
 * from the terminal are typed on the guest's keyboard, with escape sequences taken for the keys
 * that send them. One thread does both.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "host/cp437.h"
#include "host/display.h"
#include "host/terminal.h"
#include "host/terminal_keys.h"

#define FRAME_MS   40 /* also the longest time between two bytes of an escape sequence */
#define KEY_NS     5000000L
#define COMMAND    0x01 /* Ctrl-A */
#define OUT_BUFFER 4096
#define NOT_DRAWN  0xffffffffU /* no cell */
#define NOWHERE    0xffffffffU
#define TERMINAL   "\x1b[0m\x1b[2J\x1b[H" /* plain, empty */

struct text_display {
    struct display base;
    struct display_source source;
    struct input_sink sink;
    void (*quit)(void *ctx);
    void *quit_ctx;
    int in, out, wake;
    pthread_t thread;
    atomic_bool closing;

    /* Output. */
    struct text_screen text;
    u32 *drawn;             /* the cells that the terminal shows */
    u32 palette[16];        /* their colours */
    unsigned columns, rows; /* of the part that the terminal has room for */
    unsigned top;           /* its first row */
    bool graphics, cursor_shown;
    unsigned pen_x, pen_y; /* where the terminal's cursor is */
    int pen;               /* attribute that the terminal writes with, -1: unknown */
    char buffer[OUT_BUFFER];
    size_t used;

    /* Input. */
    u8 bytes[64];
    size_t nbytes;
    bool in_ended, command;
};

/* --- output --- */

static void flush(struct text_display *d)
{
    const char *p = d->buffer;
    while (d->used) {
        ssize_t n = write(d->out, p, d->used);
        if (n < 0 && errno != EINTR)
            break; /* nobody looks */
        if (n > 0) {
            p += n;
            d->used -= (size_t)n;
        }
    }
    d->used = 0;
}

static void put(struct text_display *d, const char *text, size_t len)
{
    if (d->used + len > sizeof(d->buffer))
        flush(d);
    memcpy(d->buffer + d->used, text, len);
    d->used += len;
}

static void PRINTF_LIKE(2, 3) put_format(struct text_display *d, const char *fmt, ...)
{
    char text[128];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    put(d, text, MIN((size_t)n, sizeof(text) - 1));
}

static void put_character(struct text_display *d, u8 c)
{
    char utf8[3];
    put(d, utf8, cp437_utf8(c, utf8));
}

/* One of 256 for a colour: of the 16 if it is one of the VGA's usual ones (red and blue are the
 * other way round in terminals), else of the cube of 6x6x6. */
static u8 terminal_colour(u32 rgb)
{
    unsigned r = rgb >> 16 & 255, g = rgb >> 8 & 255, b = rgb & 255;
    for (unsigned i = 0; i < 16; i++) {
        unsigned light = i & 8 ? 0x55 : 0;
        u32 usual = ((i & 4 ? 0xaaU : 0) + light) << 16 | ((i & 2 ? 0xaaU : 0) + light) << 8 |
                    ((i & 1 ? 0xaaU : 0) + light);
        if (rgb == (i == 6 ? 0xaa5500 : usual))
            return (u8)((i & 10) | (i & 1) << 2 | (i & 4) >> 2);
    }
    return (u8)(16 + (r * 5 + 127) / 255 * 36 + (g * 5 + 127) / 255 * 6 + (b * 5 + 127) / 255);
}

static void put_colour(struct text_display *d, u8 attribute)
{
    if (d->pen == attribute)
        return;
    d->pen = attribute;
    u8 f = terminal_colour(d->text.palette[attribute & 15]);
    u8 b = terminal_colour(d->text.palette[attribute >> 4]);
    const char *plain[] = {"3", "9", "4", "10"};
    put(d, "\x1b[", 2);
    if (f < 16)
        put_format(d, "%s%u;", plain[f >> 3], f & 7U);
    else
        put_format(d, "38;5;%u;", f);
    if (b < 16)
        put_format(d, "%s%um", plain[2 + (b >> 3)], b & 7U);
    else
        put_format(d, "48;5;%um", b);
}

static void move_to(struct text_display *d, unsigned x, unsigned y)
{
    if (d->pen_x != x || d->pen_y != y)
        put_format(d, "\x1b[%u;%uH", y + 1, x + 1);
    d->pen_x = x;
    d->pen_y = y;
}

/* Everything is to be drawn anew. */
static void forget_drawn(struct text_display *d)
{
    for (size_t i = 0; i < (size_t)d->columns * d->rows; i++)
        d->drawn[i] = NOT_DRAWN;
    put_format(d, TERMINAL);
    d->pen_x = d->pen_y = 0;
    d->pen = -1;
}

/* The part of the screen that the terminal has room for: the cursor's row is in it. False: no
 * memory. */
static bool choose_part(struct text_display *d)
{
    const struct text_screen *t = &d->text;
    struct winsize w = {0};
    unsigned columns = t->columns, rows = t->rows, top = 0;
    if (ioctl(d->out, TIOCGWINSZ, &w) == 0 && w.ws_col && w.ws_row) {
        columns = MIN(columns, w.ws_col);
        rows = MIN(rows, w.ws_row);
    }
    unsigned cursor = t->cursor >= 0 ? (unsigned)t->cursor / t->columns : 0;
    if (cursor >= rows)
        top = cursor - rows + 1;
    if (columns == d->columns && rows == d->rows && top == d->top &&
        memcmp(t->palette, d->palette, sizeof(d->palette)) == 0)
        return true;
    u32 *drawn = realloc(d->drawn, (size_t)columns * rows * sizeof(*drawn));
    if (!drawn)
        return false;
    d->drawn = drawn;
    d->columns = columns;
    d->rows = rows;
    d->top = top;
    memcpy(d->palette, t->palette, sizeof(d->palette));
    forget_drawn(d);
    return true;
}

static void draw_cells(struct text_display *d)
{
    const struct text_screen *t = &d->text;
    for (unsigned y = 0; y < d->rows; y++)
        for (unsigned x = 0; x < d->columns; x++) {
            u16 cell = t->cell[(y + d->top) * t->columns + x];
            u32 *drawn = &d->drawn[y * d->columns + x];
            if (*drawn == cell)
                continue;
            *drawn = cell;
            move_to(d, x, y);
            put_colour(d, (u8)(cell >> 8));
            put_character(d, (u8)cell);
            /* Behind the last column terminals differ. */
            d->pen_x = x + 1 < d->columns ? x + 1 : NOWHERE;
        }
}

static void draw_cursor(struct text_display *d)
{
    const struct text_screen *t = &d->text;
    unsigned x = t->cursor < 0 ? NOWHERE : (unsigned)t->cursor % t->columns;
    bool shown = x < d->columns;
    if (shown)
        move_to(d, x, (unsigned)t->cursor / t->columns - d->top);
    if (shown != d->cursor_shown)
        put_format(d, shown ? "\x1b[?25h" : "\x1b[?25l");
    d->cursor_shown = shown;
}

static void draw(struct text_display *d)
{
    if (!d->source.text(d->source.ctx, &d->text)) {
        if (!d->graphics)
            put_format(d, TERMINAL "[a graphics mode: --display vnc=:1 or --screenshot show it; "
                                   "Ctrl-A X quits]");
        d->graphics = true;
        d->columns = 0;
    } else if (choose_part(d)) {
        d->graphics = false;
        draw_cells(d);
        draw_cursor(d);
    }
    flush(d);
}

/* --- input --- */

static void read_keys(struct text_display *d)
{
    ssize_t n = read(d->in, d->bytes + d->nbytes, sizeof(d->bytes) - d->nbytes);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        d->in_ended = true;
    if (n > 0)
        d->nbytes += (size_t)n;
}

/* A key goes down and up; the guest has time to take it. */
static void type(struct text_display *d, const struct terminal_key *k)
{
    static const char *const names[] = {"shift", "ctrl", "alt"};
    const struct timespec pace = {.tv_nsec = KEY_NS};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (k->modifiers & 1U << i)
            d->sink.key(d->sink.ctx, keymap_name(names[i], strlen(names[i])), true);
    d->sink.key(d->sink.ctx, k->key, true);
    d->sink.key(d->sink.ctx, k->key, false);
    for (unsigned i = ARRAY_SIZE(names); i-- > 0;)
        if (k->modifiers & 1U << i)
            d->sink.key(d->sink.ctx, keymap_name(names[i], strlen(names[i])), false);
    nanosleep(&pace, NULL);
}

/* Takes the keys that have come; with complete, an escape sequence that has no end is none. */
static void take_keys(struct text_display *d, bool complete)
{
    while (d->nbytes && !atomic_load(&d->closing)) {
        struct terminal_key k;
        size_t n = terminal_key_of(d->bytes, d->nbytes, complete, &k);
        if (!n)
            return;
        bool command = d->command, escape = d->bytes[0] == COMMAND;
        d->command = escape && !command;
        if (command && (d->bytes[0] | 0x20) == 'x')
            d->quit(d->quit_ctx);
        else if (k.key && (command ? escape : !escape))
            type(d, &k);
        d->nbytes -= n;
        memmove(d->bytes, d->bytes + n, d->nbytes);
    }
}

/* --- life --- */

static void *serve(void *arg)
{
    struct text_display *d = arg;
    while (!atomic_load(&d->closing)) {
        struct pollfd p[2] = {{.fd = d->wake, .events = POLLIN},
                              {.fd = d->in_ended ? -1 : d->in, .events = POLLIN}};
        draw(d);
        int n = poll(p, 2, FRAME_MS);
        if (n > 0 && p[1].revents)
            read_keys(d);
        take_keys(d, n == 0 || d->nbytes == sizeof(d->bytes));
    }
    return NULL;
}

static void text_free(struct text_display *d)
{
    if (d->wake >= 0)
        close(d->wake);
    free(d->text.cell);
    free(d->drawn);
    free(d);
}

static void text_destroy(struct display *base)
{
    struct text_display *d = container_of(base, struct text_display, base);
    u64 one = 1;
    atomic_store(&d->closing, true);
    /* Fails only when the counter is full, and then the thread is awake. */
    while (write(d->wake, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    pthread_join(d->thread, NULL);
    draw(d); /* what the guest showed last */
    move_to(d, 0, d->rows ? d->rows - 1 : 0);
    flush(d);
    terminal_restore();
    text_free(d);
}

/* The thread takes no signals but those of using the terminal in the background. */
static int start(struct text_display *d)
{
    sigset_t set, old;
    sigfillset(&set);
    sigdelset(&set, SIGTTIN);
    sigdelset(&set, SIGTTOU);
    pthread_sigmask(SIG_SETMASK, &set, &old);
    int code = pthread_create(&d->thread, NULL, serve, d);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -code;
}

int display_text(int in, int out_fd, const struct display_source *source,
                 const struct input_sink *sink, void (*quit)(void *ctx), void *ctx,
                 struct display **out, struct error *err)
{
    if (!isatty(in) || !isatty(out_fd))
        return error_set(err, ENOTTY,
                         "--display text: standard input and output must be a terminal");
    struct text_display *d = calloc(1, sizeof(*d));
    if (!d)
        return error_set(err, ENOMEM, "no memory for the text display");
    *d = (struct text_display){.base.destroy = text_destroy,
                               .source = *source,
                               .sink = *sink,
                               .quit = quit,
                               .quit_ctx = ctx,
                               .in = in,
                               .out = out_fd,
                               .cursor_shown = true,
                               .wake = eventfd(0, EFD_CLOEXEC)};
    int rc = d->wake < 0 ? error_errno(err, errno, "cannot make an event descriptor") : 0;
    if (rc == 0)
        rc = terminal_set_raw(in, err);
    if (rc < 0) {
        text_free(d);
        return rc;
    }
    terminal_say_at_end(out_fd, "\x1b[0m\x1b[?25h\r\n");
    rc = start(d);
    if (rc < 0) {
        terminal_restore();
        text_free(d);
        return error_errno(err, -rc, "cannot start the text display's thread");
    }
    *out = &d->base;
    return 0;
}
