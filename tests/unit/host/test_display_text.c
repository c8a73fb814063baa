/*
 * Text modes in a terminal: a pseudo-terminal whose other end is looked at by a small terminal
 * emulator, and typed into. Also the keys that terminals' bytes stand for, and PNG files.
 */
#include "display_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <poll.h>
#include <pty.h>
#include <termios.h>
#include <unistd.h>

#include "host/terminal_keys.h"

#define SCREEN_COLUMNS 30
#define SCREEN_ROWS    12

/* What the terminal shows. */
struct emulator {
    int fd;
    u32 cell[SCREEN_ROWS][SCREEN_COLUMNS]; /* code points */
    char pen[32], look[SCREEN_ROWS][SCREEN_COLUMNS][32];
    unsigned x, y;
    bool cursor;
};

struct fixture {
    struct fake fake;
    struct display *display;
    int slave;
    struct emulator term;
    struct termios before;
};

static void emulate_csi(struct emulator *t, const char *parameters, char final)
{
    unsigned a = 1, b = 1;
    switch (final) {
    case 'H':
        sscanf(parameters, "%u;%u", &a, &b);
        t->y = a - 1;
        t->x = b - 1;
        break;
    case 'J':
        memset(t->cell, 0, sizeof(t->cell));
        break;
    case 'm':
        snprintf(t->pen, sizeof(t->pen), "%s", parameters);
        break;
    case 'h':
    case 'l':
        assert_string_equal(parameters, "?25");
        t->cursor = final == 'h';
        break;
    default:
        fail_msg("CSI %s%c", parameters, final);
    }
}

static u8 next(struct emulator *t)
{
    u8 c;
    assert_int_equal(read(t->fd, &c, 1), 1);
    return c;
}

static void emulate(struct emulator *t)
{
    u8 c = next(t);
    u32 code = c;
    if (c == 0x1b) {
        char parameters[32];
        unsigned n = 0;
        assert_int_equal(next(t), '[');
        while ((c = next(t)) < 0x40 && n + 1 < sizeof(parameters))
            parameters[n++] = (char)c;
        parameters[n] = 0;
        emulate_csi(t, parameters, (char)c);
        return;
    }
    if (c == '\r' || c == '\n')
        return;
    if (c >= 0xe0) {
        code = (c & 15U) << 12 | (next(t) & 63U) << 6;
        code |= next(t) & 63;
    } else if (c >= 0xc0) {
        code = (c & 31U) << 6 | (next(t) & 63U);
    }
    assert_true(t->x < SCREEN_COLUMNS && t->y < SCREEN_ROWS);
    t->cell[t->y][t->x] = code;
    memcpy(t->look[t->y][t->x++], t->pen, sizeof(t->pen));
}

static bool output_comes(struct emulator *t, int ms)
{
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

/* Until this is in the cell. */
static void expect(struct fixture *f, unsigned x, unsigned y, u32 code, const char *look)
{
    while (f->term.cell[y][x] != code || strcmp(f->term.look[y][x], look) != 0) {
        if (!output_comes(&f->term, PATIENCE_MS))
            fail_msg("%u,%u: %x '%s'", x, y, f->term.cell[y][x], f->term.look[y][x]);
        emulate(&f->term);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct winsize size = {.ws_col = SCREEN_COLUMNS, .ws_row = SCREEN_ROWS};
    struct error err = {""};
    fake_init(&f->fake);
    f->fake.text_mode = f->term.cursor = true;
    assert_int_equal(openpty(&f->term.fd, &f->slave, NULL, NULL, &size), 0);
    tcgetattr(f->slave, &f->before);
    f->fake.cell[0] = 'H' | 0x1e00;
    struct display_source source = fake_source(&f->fake);
    struct input_sink sink = fake_sink(&f->fake);
    if (display_text(f->slave, f->slave, &source, &sink, fake_quit, &f->fake, &f->display, &err))
        fail_msg("%s", err.text);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct termios after = {0};
    display_destroy(f->display);
    tcgetattr(f->slave, &after);
    assert_memory_equal(&f->before, &after, sizeof(after));
    while (output_comes(&f->term, 0))
        emulate(&f->term);
    assert_true(f->term.cursor);
    assert_string_equal(f->term.pen, "0");
    close(f->slave);
    close(f->term.fd);
    free(f);
    return 0;
}

static void set_cell(struct fixture *f, unsigned i, u16 cell)
{
    pthread_mutex_lock(&f->fake.lock);
    f->fake.cell[i] = cell;
    pthread_mutex_unlock(&f->fake.lock);
}

static void test_cells(void **state)
{
    struct fixture *f = *state;
    expect(f, 0, 0, 'H', "93;44"); /* yellow on blue */
    expect(f, 19, 9, ' ', "37;40");
    set_cell(f, 21, 0xb1 | 0x8400); /* red on grey: dots */
    expect(f, 1, 1, 0x2592, "31;100");
    set_cell(f, 22, 0x01 | 0x0700);
    expect(f, 2, 1, 0x263a, "37;40");
    set_cell(f, 23, 0xe1 | 0x0600);
    expect(f, 3, 1, 0xdf, "33;40");
    assert_false(f->term.cursor);
    set_cell(f, 23, 0x7f | 0xf000);
    expect(f, 3, 1, 0x2302, "30;107");
    set_cell(f, 23, 0x00 | 0x0700);
    expect(f, 3, 1, ' ', "37;40");
    expect(f, 0, 0, 'H', "93;44");
}

/* Only what changed is drawn. */
static void test_changes_only(void **state)
{
    struct fixture *f = *state;
    char bytes[256];
    expect(f, 19, 9, ' ', "37;40");
    while (output_comes(&f->term, 200))
        emulate(&f->term);
    set_cell(f, 45, 'x' | 0x0700);
    assert_true(output_comes(&f->term, PATIENCE_MS));
    nap();
    ssize_t n = read(f->term.fd, bytes, sizeof(bytes));
    assert_in_range(n, 1, 20);
    assert_int_equal(bytes[n - 1], 'x');
    assert_false(output_comes(&f->term, 200));
}

static void test_cursor(void **state)
{
    struct fixture *f = *state;
    pthread_mutex_lock(&f->fake.lock);
    f->fake.cursor = 45;
    f->fake.cell[46] = 'z' | 0x0700;
    pthread_mutex_unlock(&f->fake.lock);
    expect(f, 6, 2, 'z', "37;40");
    while (!f->term.cursor || f->term.x != 5 || f->term.y != 2) {
        assert_true(output_comes(&f->term, PATIENCE_MS));
        emulate(&f->term);
    }
}

/* Colours that no terminal has by name; and when they change all is drawn in the new ones. */
static void test_palette(void **state)
{
    struct fixture *f = *state;
    expect(f, 0, 0, 'H', "93;44");
    pthread_mutex_lock(&f->fake.lock);
    f->fake.palette[14] = 0xff8000;
    pthread_mutex_unlock(&f->fake.lock);
    expect(f, 0, 0, 'H', "38;5;214;44");
}

/* More rows than the terminal has: the cursor's is shown. */
static void test_large_screen(void **state)
{
    struct fixture *f = *state;
    expect(f, 0, 0, 'H', "93;44");
    pthread_mutex_lock(&f->fake.lock);
    f->fake.columns = 40;
    f->fake.rows = 25;
    f->fake.cell[24 * 40] = '$' | 0x0700;
    f->fake.cursor = 24 * 40 + 2;
    pthread_mutex_unlock(&f->fake.lock);
    expect(f, 0, SCREEN_ROWS - 1, '$', "37;40");
}

static void test_graphics(void **state)
{
    struct fixture *f = *state;
    expect(f, 0, 0, 'H', "93;44");
    pthread_mutex_lock(&f->fake.lock);
    f->fake.text_mode = false;
    pthread_mutex_unlock(&f->fake.lock);
    char line[512] = "";
    size_t n = 0;
    while (!strstr(line, "graphics mode") || line[n - 1] != ']') {
        assert_true(output_comes(&f->term, PATIENCE_MS));
        line[n++] = (char)next(&f->term);
        assert_true(n < sizeof(line));
    }
    pthread_mutex_lock(&f->fake.lock);
    f->fake.text_mode = true;
    pthread_mutex_unlock(&f->fake.lock);
    memset(f->term.cell, 0, sizeof(f->term.cell));
    expect(f, 0, 0, 'H', "93;44");
}

static void type(struct fixture *f, const char *bytes, size_t n)
{
    assert_int_equal(write(f->term.fd, bytes, n), n);
}

static void test_keys(void **state)
{
    struct fixture *f = *state;
    type(f, "aB\r", 3);
    expect_log(&f->fake, "+1e-1e+2a+30-30-2a+1c-1c");
    type(f, "\x1b[A", 3);
    expect_log(&f->fake, "+1e-1e+2a+30-30-2a+1c-1c+e048-e048");
    type(f, "\x1b", 1); /* alone: after a while the escape key */
    expect_log(&f->fake, "+1e-1e+2a+30-30-2a+1c-1c+e048-e048+1-1");
    type(f, "\x01\x01", 2); /* Ctrl-A Ctrl-A is Ctrl-A */
    expect_log(&f->fake, "+1e-1e+2a+30-30-2a+1c-1c+e048-e048+1-1+1d+1e-1e-1d");
    type(f, "\x01q\x01x", 4); /* q is no command, x ends it */
    for (unsigned i = 0; i < PATIENCE_MS && !f->fake.quits; i++)
        nap();
    assert_int_equal(f->fake.quits, 1);
    expect_log(&f->fake, "+1e-1e+2a+30-30-2a+1c-1c+e048-e048+1-1+1d+1e-1e-1d");
}

/* --- without a terminal --- */

static void test_no_terminal(void **state)
{
    int fd[2];
    struct fake f;
    struct error err = {""};
    struct display *d;
    (void)state;
    fake_init(&f);
    assert_int_equal(pipe(fd), 0);
    struct display_source source = fake_source(&f);
    struct input_sink sink = fake_sink(&f);
    assert_int_equal(display_text(fd[0], fd[1], &source, &sink, fake_quit, &f, &d, &err), -ENOTTY);
    assert_non_null(strstr(err.text, "must be a terminal"));
    close(fd[0]);
    close(fd[1]);
}

static void test_key_sequences(void **state)
{
    static const struct {
        const char *bytes;
        unsigned key, modifiers;
    } cases[] = {
        {"x", 0x2d, 0},
        {"X", 0x2d, KEY_WITH_SHIFT},
        {"\x03", 0x2e, KEY_WITH_CTRL},
        {"\x1c", 0x2b, KEY_WITH_CTRL},
        {"\x7f", 0x0e, 0},
        {"\b", 0x0e, 0},
        {"\t", 0x0f, 0},
        {"\n", 0x1c, 0},
        {"\x1bx", 0x2d, KEY_WITH_ALT},
        {"\x1bX", 0x2d, KEY_WITH_ALT | KEY_WITH_SHIFT},
        {"\x1b[B", 0xe050, 0},
        {"\x1bOD", 0xe04b, 0},
        {"\x1b[1;5C", 0xe04d, KEY_WITH_CTRL},
        {"\x1b[1;2A", 0xe048, KEY_WITH_SHIFT},
        {"\x1b[3~", 0xe053, 0},
        {"\x1b[5;3~", 0xe049, KEY_WITH_ALT},
        {"\x1bOP", 0x3b, 0},
        {"\x1b[15~", 0x3f, 0},
        {"\x1b[24~", 0x58, 0},
        {"\x1b[[E", 0x3f, 0},
        {"\x1b[99~", 0, 0},
        {"\x1b[9999999999999999999~", 0, 0},
        {"\x1b[1;2;3;4;5Z", 0, KEY_WITH_SHIFT},
        {"\xc3", 0, 0},
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct terminal_key k;
        const u8 *bytes = (const u8 *)cases[i].bytes;
        size_t n = strlen(cases[i].bytes);
        assert_int_equal(terminal_key_of(bytes, n, false, &k), n);
        assert_int_equal(k.key, cases[i].key);
        assert_int_equal(k.modifiers, cases[i].modifiers);
        for (size_t part = 1; part < n; part++) { /* more are needed, or ESC was alone */
            assert_int_equal(terminal_key_of(bytes, part, false, &k), 0);
            assert_in_range(terminal_key_of(bytes, part, true, &k), 1, 2);
        }
    }
    struct terminal_key k;
    assert_int_equal(terminal_key_of((const u8 *)"\x1b\x1b", 2, false, &k), 1);
    assert_int_equal(k.key, 1);
    assert_int_equal(terminal_key_of((const u8 *)"\0", 1, false, &k), 1);
    assert_int_equal(k.key, 0x39);
    assert_int_equal(k.modifiers, KEY_WITH_CTRL);
}

/* --- screenshots --- */

static void test_png(void **state)
{
    char dir[] = "/tmp/ringer-png-XXXXXX", path[64], other[64];
    struct fake f;
    struct error err = {""};
    (void)state;
    fake_init(&f);
    f.width = 123;
    f.number = 77;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/a.png", dir);
    struct display_source source = fake_source(&f);
    assert_int_equal(screenshot_write(&source, path, &err), 0);
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_file(&image, path));
    assert_int_equal(image.width, 123);
    assert_int_equal(image.height, 100);
    image.format = PNG_FORMAT_RGB;
    u8 *rgb = malloc(PNG_IMAGE_SIZE(image));
    assert_true(png_image_finish_read(&image, NULL, rgb, 0, NULL));
    for (unsigned i = 0; i < 123 * 100; i++)
        assert_int_equal(rgb[3 * i] << 16 | rgb[3 * i + 1] << 8 | rgb[3 * i + 2],
                         fake_pixel(77, i % 123, i / 123));
    free(rgb);
    unlink(path);
    assert_int_equal(rmdir(dir), 0); /* nothing else is left */
    snprintf(other, sizeof(other), "%s/b.png", dir);
    assert_int_equal(screenshot_write(&source, other, &err), -ENOENT);
    assert_non_null(strstr(err.text, other));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cells),
        TEST(test_changes_only),
        TEST(test_cursor),
        TEST(test_palette),
        TEST(test_large_screen),
        TEST(test_graphics),
        TEST(test_keys),
        cmocka_unit_test(test_no_terminal),
        cmocka_unit_test(test_key_sequences),
        cmocka_unit_test(test_png),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
