/*
 * The VNC server, by a small RFB client (RFC 6143) that asks for raw pixels: the picture, changes,
 * sizes, keys, pointer, passwords, addresses.
 */
#include "display_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <rfb/rfb.h>
#include <sys/socket.h>
#include <unistd.h>

#define ENCODING_RAW      0
#define ENCODING_NEW_SIZE (-223)

struct client {
    int fd;
    unsigned width, height, shift[3];
    u32 *pixels;
};

struct fixture {
    struct fake fake;
    struct display_source source;
    struct input_sink sink;
    struct display *display;
    unsigned port;
    char addr[32];
};

/* A port that was free a moment ago. */
static unsigned free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static void start(struct fixture *f, const char *password_file)
{
    struct error err = {""};
    for (unsigned i = 0; i < 20 && !f->display; i++) { /* somebody else may have taken the port */
        f->port = free_port();
        snprintf(f->addr, sizeof(f->addr), ":%u", f->port);
        display_vnc(f->addr, password_file, &f->source, &f->sink, &f->display, &err);
    }
    if (!f->display)
        fail_msg("%s", err.text);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    fake_init(&f->fake);
    f->source = fake_source(&f->fake);
    f->sink = fake_sink(&f->fake);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    display_destroy(f->display);
    free(f);
    return 0;
}

/* --- the client --- */

static void get(struct client *c, void *buf, size_t n)
{
    u8 *p = buf;
    while (n) {
        struct pollfd w = {.fd = c->fd, .events = POLLIN};
        assert_int_equal(poll(&w, 1, PATIENCE_MS), 1);
        ssize_t got = read(c->fd, p, n);
        assert_true(got > 0);
        p += got;
        n -= (size_t)got;
    }
}

static void put(struct client *c, const void *buf, size_t n)
{
    assert_int_equal(send(c->fd, buf, n, MSG_NOSIGNAL), n);
}

static unsigned get16(struct client *c)
{
    u8 b[2];
    get(c, b, 2);
    return (unsigned)(b[0] << 8 | b[1]);
}

static u32 get32(struct client *c)
{
    u32 high = get16(c);
    return high << 16 | get16(c);
}

static void dial(struct fixture *f, struct client *c, const char *host)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((u16)f->port)};
    memset(c, 0, sizeof(*c));
    inet_pton(AF_INET, host, &a.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&a, sizeof(a)), 0);
    char version[12];
    get(c, version, 12);
    assert_memory_equal(version, "RFB 003.008\n", 12);
    put(c, version, 12);
}

/* Picks a security type; returns the result: 0 is success. */
static u32 authenticate(struct client *c, u8 type, char *password)
{
    u8 n, types[8], challenge[16];
    get(c, &n, 1);
    assert_in_range(n, 1, 8);
    get(c, types, n);
    assert_non_null(memchr(types, type, n));
    put(c, &type, 1);
    if (type == 2) {
        get(c, challenge, 16);
        rfbEncryptBytes(challenge, password);
        put(c, challenge, 16);
    }
    return get32(c);
}

static void begin(struct client *c, bool resizable)
{
    u8 shared = 1, format[16];
    put(c, &shared, 1);
    c->width = get16(c);
    c->height = get16(c);
    get(c, format, 16);
    assert_int_equal(format[0], 32); /* bits per pixel, little-endian, true colour */
    assert_int_equal(format[2], 0);
    assert_int_not_equal(format[3], 0);
    for (unsigned i = 0; i < 3; i++)
        c->shift[i] = format[10 + i];
    u32 length = get32(c);
    char name[64];
    assert_in_range(length, 1, sizeof(name));
    get(c, name, length);
    assert_memory_equal(name, "ringer", 6);
    c->pixels = calloc((size_t)c->width * c->height, sizeof(u32));
    u8 encodings[12] = {2, 0, 0, resizable ? 2 : 1, 0, 0, 0, ENCODING_RAW, 0xff, 0xff, 0xff, 0x21};
    put(c, encodings, resizable ? 12 : 8);
}

static void ask(struct client *c, bool incremental)
{
    u8 m[10] = {3,
                incremental,
                0,
                0,
                0,
                0,
                (u8)(c->width >> 8),
                (u8)c->width,
                (u8)(c->height >> 8),
                (u8)c->height};
    put(c, m, 10);
}

static void get_raw(struct client *c, unsigned x, unsigned y, unsigned w, unsigned h)
{
    u32 row[SCREEN_MAX_WIDTH];
    assert_true(w <= ARRAY_SIZE(row) && x + w <= c->width && y + h <= c->height);
    for (unsigned j = y; j < y + h; j++) {
        get(c, row, w * sizeof(u32));
        for (unsigned i = 0; i < w; i++)
            c->pixels[j * c->width + x + i] = (row[i] >> c->shift[0] & 255) << 16 |
                                              (row[i] >> c->shift[1] & 255) << 8 |
                                              (row[i] >> c->shift[2] & 255);
    }
}

/* One update; returns the pixels in it. */
static unsigned get_update(struct client *c)
{
    u8 head[2];
    unsigned pixels = 0;
    get(c, head, 2);
    assert_int_equal(head[0], 0);
    for (unsigned n = get16(c); n > 0; n--) {
        unsigned x = get16(c), y = get16(c), w = get16(c), h = get16(c);
        i32 encoding = (i32)get32(c);
        if (encoding == ENCODING_NEW_SIZE) {
            c->width = w;
            c->height = h;
            free(c->pixels);
            c->pixels = calloc((size_t)w * h, sizeof(u32));
        } else {
            assert_int_equal(encoding, ENCODING_RAW);
            get_raw(c, x, y, w, h);
            pixels += w * h;
        }
    }
    return pixels;
}

static bool shows(const struct client *c, unsigned number)
{
    for (unsigned y = 0; y < c->height; y++)
        for (unsigned x = 0; x < c->width; x++)
            if (c->pixels[y * c->width + x] != fake_pixel(number, x, y))
                return false;
    return true;
}

static void hang_up(struct client *c)
{
    close(c->fd);
    free(c->pixels);
}

static void connect_to(struct fixture *f, struct client *c, bool resizable)
{
    dial(f, c, "127.0.0.1");
    assert_int_equal(authenticate(c, 1, NULL), 0);
    begin(c, resizable);
}

/* --- the tests --- */

static void test_picture(void **state)
{
    struct fixture *f = *state;
    struct client c;
    start(f, NULL);
    connect_to(f, &c, true);
    assert_int_equal(c.width, 200);
    assert_int_equal(c.height, 100);
    ask(&c, false);
    assert_int_equal(get_update(&c), 200 * 100);
    assert_true(shows(&c, 0));
    change(&f->fake, 5, 200, 100);
    for (unsigned i = 0; i < 100 && !shows(&c, 5); i++) {
        ask(&c, true);
        get_update(&c);
    }
    assert_true(shows(&c, 5));
    hang_up(&c);
}

/* While nobody looks, nothing is drawn; who comes then sees what is there now. */
static void test_changes_without_a_client(void **state)
{
    struct fixture *f = *state;
    struct client c;
    start(f, NULL);
    connect_to(f, &c, true);
    hang_up(&c);
    change(&f->fake, 9, 320, 200);
    connect_to(f, &c, true);
    assert_int_equal(c.width, 320);
    assert_int_equal(c.height, 200);
    ask(&c, false);
    get_update(&c);
    assert_true(shows(&c, 9));
    hang_up(&c);
}

static void test_new_size(void **state)
{
    struct fixture *f = *state;
    struct client c;
    start(f, NULL);
    connect_to(f, &c, true);
    ask(&c, false);
    get_update(&c);
    static const unsigned sizes[][2] = {{640, 480}, {80, 60}, {721, 401}};
    for (unsigned n = 0; n < ARRAY_SIZE(sizes); n++) {
        change(&f->fake, n, sizes[n][0], sizes[n][1]);
        for (unsigned i = 0; i < 100 && (c.width != sizes[n][0] || !shows(&c, n)); i++) {
            ask(&c, true);
            get_update(&c);
        }
        assert_int_equal(c.width, sizes[n][0]);
        assert_int_equal(c.height, sizes[n][1]);
        assert_true(shows(&c, n));
    }
    hang_up(&c);
}

/* A client that doesn't know of sizes that change is sent away when one does. */
static void test_rigid_client(void **state)
{
    struct fixture *f = *state;
    struct client c;
    u8 rest[65536];
    start(f, NULL);
    connect_to(f, &c, false);
    ask(&c, false);
    assert_int_equal(get_update(&c), 200 * 100);
    ask(&c, true);
    change(&f->fake, 1, 640, 480);
    ssize_t n;
    do {
        struct pollfd w = {.fd = c.fd, .events = POLLIN};
        assert_int_equal(poll(&w, 1, PATIENCE_MS), 1);
        n = read(c.fd, rest, sizeof(rest));
    } while (n > 0);
    hang_up(&c);
    connect_to(f, &c, false);
    assert_int_equal(c.width, 640);
    hang_up(&c);
}

static void send_key(struct client *c, u32 keysym, bool down)
{
    u8 m[8] = {4,         down, 0, 0, (u8)(keysym >> 24), (u8)(keysym >> 16), (u8)(keysym >> 8),
               (u8)keysym};
    put(c, m, 8);
}

static void send_pointer(struct client *c, u8 mask, unsigned x, unsigned y)
{
    u8 m[6] = {5, mask, (u8)(x >> 8), (u8)x, (u8)(y >> 8), (u8)y};
    put(c, m, 6);
}

static void test_keys(void **state)
{
    struct fixture *f = *state;
    struct client c;
    start(f, NULL);
    connect_to(f, &c, true);
    send_key(&c, 'a', true);
    send_key(&c, 'a', false);
    send_key(&c, 0xff52, true); /* up */
    send_key(&c, 0xff52, false);
    send_key(&c, 0x12345678, true); /* no such key */
    send_key(&c, 0xffe3, true);     /* control, held */
    send_key(&c, 0xffe3, true);
    expect_log(&f->fake, "+1e-1e+e048-e048+1d+1d");
    hang_up(&c); /* and let go by us */
    expect_log(&f->fake, "+1e-1e+e048-e048+1d+1d-1d");
}

static void test_pointer(void **state)
{
    struct fixture *f = *state;
    struct client c;
    start(f, NULL);
    connect_to(f, &c, true);
    send_pointer(&c, 0, 100, 50); /* where it is to begin with */
    send_pointer(&c, 0, 110, 45);
    send_pointer(&c, 1, 110, 45);
    send_pointer(&c, 4, 110, 46);
    send_pointer(&c, 2 | 8, 110, 46); /* wheel up */
    send_pointer(&c, 2, 110, 46);
    send_pointer(&c, 16, 110, 46);
    expect_log(&f->fake, "(0,0,0,0)(10,-5,0,0)(0,0,0,1)(0,1,0,2)(0,0,-1,4)(0,0,0,4)(0,0,1,0)");
    hang_up(&c);
}

static void test_password(void **state)
{
    struct fixture *f = *state;
    struct client c;
    char path[] = "/tmp/ringer-vnc-XXXXXX", right[] = "sesame-o", wrong[] = "sesame";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "sesame-open\n", 12), 12); /* RFB takes 8 characters */
    close(fd);
    start(f, path);
    unlink(path);
    dial(f, &c, "127.0.0.1");
    assert_int_not_equal(authenticate(&c, 2, wrong), 0);
    hang_up(&c);
    dial(f, &c, "127.0.0.1");
    assert_int_equal(authenticate(&c, 2, right), 0);
    begin(&c, true);
    hang_up(&c);
    dial(f, &c, "127.0.0.1");
    u8 n, types[8];
    get(&c, &n, 1);
    get(&c, types, n);
    assert_null(memchr(types, 1, n)); /* not without */
    hang_up(&c);
}

/* Without a host it's the loopback only. */
static void test_loopback(void **state)
{
    struct fixture *f = *state;
    start(f, NULL);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((u16)f->port)};
    inet_pton(AF_INET, "127.0.0.2", &a.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), -1);
    close(fd);
    display_destroy(f->display);
    f->display = NULL;
    struct error err = {""};
    snprintf(f->addr, sizeof(f->addr), "0.0.0.0:%u", f->port);
    assert_int_equal(display_vnc(f->addr, NULL, &f->source, &f->sink, &f->display, &err), 0);
    struct client c;
    dial(f, &c, "127.0.0.2");
    hang_up(&c);
}

static void expect_error(struct fixture *f, const char *addr, const char *file, int code,
                         const char *text)
{
    struct error err = {""};
    assert_int_equal(display_vnc(addr, file, &f->source, &f->sink, &f->display, &err), -code);
    if (!strstr(err.text, text))
        fail_msg("'%s' does not say '%s'", err.text, text);
}

static void test_errors(void **state)
{
    struct fixture *f = *state;
    expect_error(f, "5", NULL, EINVAL, "takes [HOST]:N");
    expect_error(f, ":", NULL, EINVAL, "takes [HOST]:N");
    expect_error(f, ":x", NULL, EINVAL, "takes [HOST]:N");
    expect_error(f, ":65536", NULL, EINVAL, "takes [HOST]:N");
    expect_error(f, "no.such.host.invalid:1", NULL, EINVAL, "no.such.host");
    expect_error(f, ":1", "/no/such/file", ENOENT, "/no/such/file");
    expect_error(f, ":1", "/dev/null", EINVAL, "no password in /dev/null");
    start(f, NULL);
    struct display *first = f->display;
    expect_error(f, f->addr, NULL, EADDRINUSE, f->addr);
    f->display = first;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_picture),  TEST(test_changes_without_a_client),
        TEST(test_new_size), TEST(test_rigid_client),
        TEST(test_keys),     TEST(test_pointer),
        TEST(test_password), TEST(test_loopback),
        TEST(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
