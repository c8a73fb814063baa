/*
 * The keyboard controller at register level, along the steps of Linux's probe.
 */
#include "rig.h"

#include "dev/i8042.h"

#define DATA    0x60
#define CMD     0x64
#define KBD_PIN 0
#define AUX_PIN 1

struct kbd_rig {
    struct rig r;
    struct i8042 *k;
    struct input_sink sink;
};

static int setup(void **state)
{
    struct kbd_rig *t = calloc(1, sizeof(*t));
    struct error err;
    rig_init(&t->r);
    assert_int_equal(i8042_create(&t->r.power, t->r.clock, rig_line(&t->r, KBD_PIN),
                                  rig_line(&t->r, AUX_PIN), &t->k, &err),
                     0);
    t->sink = i8042_input(t->k);
    assert_int_equal(i8042_attach(t->k, t->r.bus, &err), 0);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct kbd_rig *t = *state;
    i8042_destroy(t->k);
    rig_done(&t->r);
    free(t);
    return 0;
}

static void expect_empty(struct rig *r)
{
    assert_int_equal(in8(r, CMD) & 0x01, 0);
}

/* The next byte, with the given AUX bit of the status. */
static void expect_byte(struct rig *r, u8 want, u8 status)
{
    assert_int_equal(in8(r, CMD) & 0x61, 0x01 | status);
    assert_int_equal(in8(r, DATA), want);
}

static void expect_reply(struct rig *r, u8 command, const u8 *want, size_t count)
{
    out8(r, DATA, command);
    for (size_t i = 0; i < count; i++)
        expect_byte(r, want[i], 0);
    expect_empty(r);
}

#define EXPECT_REPLY(r, command, ...)                                                              \
    expect_reply(r, command, (u8[]){__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__}))

static void write_ctr(struct rig *r, u8 value)
{
    out8(r, CMD, 0x60);
    out8(r, DATA, value);
}

static void test_controller(void **state)
{
    struct rig *r = &((struct kbd_rig *)*state)->r;
    assert_int_equal(in8(r, CMD), 0x14);
    out8(r, CMD, 0xaa);
    assert_int_equal(in8(r, CMD) & 0x08, 0x08);
    expect_byte(r, 0x55, 0);
    out8(r, CMD, 0xab);
    expect_byte(r, 0x00, 0);
    out8(r, CMD, 0x20);
    expect_byte(r, 0x65, 0);
    write_ctr(r, 0x47);
    assert_int_equal(in8(r, CMD) & 0x08, 0);
    out8(r, CMD, 0x20);
    expect_byte(r, 0x47, 0);
    out8(r, CMD, 0xad);
    out8(r, CMD, 0x20);
    expect_byte(r, 0x57, 0);
    out8(r, CMD, 0x7f); /* the last byte of the controller's RAM */
    out8(r, DATA, 0x99);
    out8(r, CMD, 0x3f);
    expect_byte(r, 0x99, 0);
    out8(r, CMD, 0xd2);
    out8(r, DATA, 0x12);
    expect_byte(r, 0x12, 0);
    expect_empty(r);
}

/* i8042_check_aux() */
static void test_aux_port(void **state)
{
    struct rig *r = &((struct kbd_rig *)*state)->r;
    out8(r, CMD, 0xd3);
    out8(r, DATA, 0x5a);
    expect_byte(r, 0x5a, 0x20);
    out8(r, CMD, 0xa7);
    out8(r, CMD, 0x20);
    assert_int_equal(in8(r, DATA) & 0x20, 0x20);
    out8(r, CMD, 0xa8);
    out8(r, CMD, 0x20);
    assert_int_equal(in8(r, DATA) & 0x20, 0);
    out8(r, CMD, 0xa9);
    expect_byte(r, 0x00, 0);
    write_ctr(r, 0x47);
    out8(r, CMD, 0xd3);
    out8(r, DATA, 0xa5);
    assert_int_equal(r->pin[AUX_PIN].level, 1);
    assert_int_equal(r->pin[KBD_PIN].level, 0);
    expect_byte(r, 0xa5, 0x20);
    assert_int_equal(r->pin[AUX_PIN].level, 0);
    out8(r, CMD, 0xd4);
    out8(r, DATA, 0xf2);
    expect_byte(r, 0xfa, 0x20);
    expect_byte(r, 0x00, 0x20);
    expect_empty(r);
}

static void test_keyboard_commands(void **state)
{
    struct rig *r = &((struct kbd_rig *)*state)->r;
    write_ctr(r, 0x05); /* untranslated */
    EXPECT_REPLY(r, 0xff, 0xfa, 0xaa);
    EXPECT_REPLY(r, 0xfe, 0xaa);
    EXPECT_REPLY(r, 0xf2, 0xfa, 0xab, 0x83);
    EXPECT_REPLY(r, 0xee, 0xee);
    EXPECT_REPLY(r, 0xed, 0xfa);
    EXPECT_REPLY(r, 0x07, 0xfa);
    EXPECT_REPLY(r, 0xf3, 0xfa);
    EXPECT_REPLY(r, 0x20, 0xfa);
    EXPECT_REPLY(r, 0xf0, 0xfa);
    EXPECT_REPLY(r, 0x00, 0xfa, 0x02);
    EXPECT_REPLY(r, 0xf0, 0xfa);
    EXPECT_REPLY(r, 0x07, 0xfe);
    EXPECT_REPLY(r, 0xed, 0xfa);
    EXPECT_REPLY(r, 0xf4, 0xfa); /* a command instead of the parameter */
    EXPECT_REPLY(r, 0x42, 0xfe);
    EXPECT_REPLY(r, 0xf8, 0xfa);
    write_ctr(r, 0x45);
    EXPECT_REPLY(r, 0xf2, 0xfa, 0xab, 0x41);
}

static void key(struct kbd_rig *t, unsigned key, bool down)
{
    t->sink.key(t->sink.ctx, key, down);
}

static void expect_bytes(struct rig *r, const u8 *want, size_t count)
{
    for (size_t i = 0; i < count; i++)
        expect_byte(r, want[i], 0);
    expect_empty(r);
}

#define EXPECT_BYTES(r, ...) expect_bytes(r, (u8[]){__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__}))

static void use_set(struct rig *r, u8 set)
{
    write_ctr(r, 0x05);
    EXPECT_REPLY(r, 0xf0, 0xfa);
    EXPECT_REPLY(r, set, 0xfa);
}

static void test_keys(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    static const u8 set1[] = {0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8};
    key(t, 0x1e, true);
    key(t, 0x1e, false);
    key(t, 0xe048, true);
    key(t, 0xe048, false);
    for (size_t i = 0; i < sizeof(set1); i++) {
        assert_int_equal(r->pin[KBD_PIN].level, 1);
        assert_int_equal(r->pin[KBD_PIN].rises, i + 1); /* an edge for each byte */
        expect_byte(r, set1[i], 0);
    }
    assert_int_equal(r->pin[KBD_PIN].level, 0);
    write_ctr(r, 0x04); /* untranslated, no interrupt */
    key(t, 0x1e, true);
    key(t, 0x1e, false);
    key(t, 0xe048, true);
    key(t, 0xe048, false);
    EXPECT_BYTES(r, 0x1c, 0xf0, 0x1c, 0xe0, 0x75, 0xe0, 0xf0, 0x75);
    assert_int_equal(r->pin[KBD_PIN].level, 0);
    EXPECT_REPLY(r, 0xf5, 0xfa);
    key(t, 0x1e, true);
    key(t, 0x1e, false);
    expect_empty(r);
    EXPECT_REPLY(r, 0xf4, 0xfa);
    write_ctr(r, 0x14); /* port off: the key waits */
    key(t, 0x1e, true);
    expect_empty(r);
    out8(r, CMD, 0xae);
    expect_byte(r, 0x1c, 0);
    key(t, 0x1e, true);  /* it is down already */
    key(t, 0x30, false); /* it is not down */
    key(t, 0, true);
    key(t, 0x80, true);
    key(t, 0xe080, true);
    key(t, 0xe100, true);
    key(t, 0x101e, true);
    expect_empty(r);
}

/* All keys in sets 1 and 2; set 2 translated is set 1. */
static void test_scan_code_sets(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    for (unsigned set = 1; set <= 2; set++) {
        use_set(r, (u8)set);
        write_ctr(r, set == 1 ? 0x05 : 0x45);
        for (unsigned code = 1; code < 0x80; code++) {
            key(t, code, true);
            key(t, code, false);
            EXPECT_BYTES(r, (u8)code, (u8)(code | 0x80));
            if (code == 0x37)
                continue;
            key(t, 0xe000 | code, true);
            key(t, 0xe000 | code, false);
            EXPECT_BYTES(r, 0xe0, (u8)code, 0xe0, (u8)(code | 0x80));
        }
    }
    use_set(r, 2);
    key(t, 0x41, true); /* F7 */
    key(t, 0x41, false);
    EXPECT_BYTES(r, 0x83, 0xf0, 0x83);
}

static void press_and_release(struct kbd_rig *t, unsigned with, unsigned which)
{
    if (with)
        key(t, with, true);
    while (in8(&t->r, CMD) & 1)
        in8(&t->r, DATA);
    key(t, which, true);
    key(t, which, false);
}

static void release(struct kbd_rig *t, unsigned with)
{
    expect_empty(&t->r);
    key(t, with, false);
    while (in8(&t->r, CMD) & 1)
        in8(&t->r, DATA);
}

/* Print Screen and Pause, alone and with other keys. */
static void test_odd_keys(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    use_set(r, 2);
    press_and_release(t, 0, 0xe037);
    EXPECT_BYTES(r, 0xe0, 0x12, 0xe0, 0x7c, 0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12);
    press_and_release(t, 0xe01d, 0xe037);
    EXPECT_BYTES(r, 0xe0, 0x7c, 0xe0, 0xf0, 0x7c);
    release(t, 0xe01d);
    press_and_release(t, 0x38, 0xe037);
    EXPECT_BYTES(r, 0x84, 0xf0, 0x84);
    release(t, 0x38);
    press_and_release(t, 0, KEY_PAUSE);
    EXPECT_BYTES(r, 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77);
    press_and_release(t, 0x1d, KEY_PAUSE);
    EXPECT_BYTES(r, 0xe0, 0x7e, 0xe0, 0xf0, 0x7e);
    release(t, 0x1d);
    write_ctr(r, 0x45);
    press_and_release(t, 0, 0xe037);
    EXPECT_BYTES(r, 0xe0, 0x2a, 0xe0, 0x37, 0xe0, 0xb7, 0xe0, 0xaa);
    press_and_release(t, 0, KEY_PAUSE);
    EXPECT_BYTES(r, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
    use_set(r, 1);
    press_and_release(t, 0x2a, 0xe037);
    EXPECT_BYTES(r, 0xe0, 0x37, 0xe0, 0xb7);
    release(t, 0x2a);
    press_and_release(t, 0xe038, 0xe037);
    EXPECT_BYTES(r, 0x54, 0xd4);
    release(t, 0xe038);
    press_and_release(t, 0, KEY_PAUSE);
    EXPECT_BYTES(r, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
    press_and_release(t, 0xe01d, KEY_PAUSE);
    EXPECT_BYTES(r, 0xe0, 0x46, 0xe0, 0xc6);
    /* It ends as it began, whatever was released in between. */
    release(t, 0xe01d);
    key(t, 0x38, true);
    key(t, 0xe037, true);
    key(t, 0x38, false);
    key(t, 0xe037, false);
    EXPECT_BYTES(r, 0x38, 0x54, 0xb8, 0xd4);
}

static void test_set_3(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    use_set(r, 3);
    EXPECT_REPLY(r, 0xf0, 0xfa);
    EXPECT_REPLY(r, 0x00, 0xfa, 0x03);
    press_and_release(t, 0, 0x1e); /* A: repeats, no break code */
    EXPECT_BYTES(r, 0x1c);
    press_and_release(t, 0, 0x2a); /* shift */
    EXPECT_BYTES(r, 0x12, 0xf0, 0x12);
    press_and_release(t, 0, 0xe048); /* up */
    EXPECT_BYTES(r, 0x63);
    press_and_release(t, 0, KEY_PAUSE);
    EXPECT_BYTES(r, 0x62);
    press_and_release(t, 0, 0x5a); /* no such key in set 3 */
    expect_empty(r);
    EXPECT_REPLY(r, 0xfc, 0xfa); /* A and pause: make and break */
    EXPECT_REPLY(r, 0x1c, 0xfa);
    EXPECT_REPLY(r, 0x62, 0xfa);
    EXPECT_REPLY(r, 0xf4, 0xfa);
    press_and_release(t, 0, 0x1e);
    EXPECT_BYTES(r, 0x1c, 0xf0, 0x1c);
    press_and_release(t, 0, KEY_PAUSE);
    EXPECT_BYTES(r, 0x62, 0xf0, 0x62);
    key(t, 0x1e, true);
    expect_byte(r, 0x1c, 0);
    clock_advance(r->clock, 2 * NSEC_PER_SEC); /* and A doesn't repeat any more */
    expect_empty(r);
    key(t, 0x1e, false);
    EXPECT_BYTES(r, 0xf0, 0x1c);
    EXPECT_REPLY(r, 0xf9, 0xfa); /* make only */
    press_and_release(t, 0, 0x2a);
    EXPECT_BYTES(r, 0x12);
    EXPECT_REPLY(r, 0xfa, 0xfa); /* all */
    press_and_release(t, 0, 0x2a);
    EXPECT_BYTES(r, 0x12, 0xf0, 0x12);
    EXPECT_REPLY(r, 0xf6, 0xfa);
    use_set(r, 3);
    press_and_release(t, 0, 0x1e);
    EXPECT_BYTES(r, 0x1c);
}

#define MS (1000 * 1000ULL)

static void test_typematic(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    key(t, 0x1e, true);
    expect_byte(r, 0x1e, 0);
    clock_advance(r->clock, 499 * MS);
    expect_empty(r);
    clock_advance(r->clock, 1 * MS);
    expect_byte(r, 0x1e, 0);
    clock_advance(r->clock, 91 * MS); /* 10.9 a second */
    expect_empty(r);
    clock_advance(r->clock, 1 * MS);
    expect_byte(r, 0x1e, 0);
    key(t, 0x30, true); /* the key that was pressed last repeats */
    expect_byte(r, 0x30, 0);
    key(t, 0x1e, false);
    expect_byte(r, 0x9e, 0);
    clock_advance(r->clock, 500 * MS);
    expect_byte(r, 0x30, 0);
    clock_advance(r->clock, 10000 * MS); /* the guest doesn't read: no heap of repeats */
    EXPECT_BYTES(r, 0x30, 0x30);
    key(t, 0x30, false);
    EXPECT_BYTES(r, 0xb0);
    clock_advance(r->clock, 2000 * MS);
    expect_empty(r);
    EXPECT_REPLY(r, 0xf3, 0xfa); /* 1 s, 2 a second */
    EXPECT_REPLY(r, 0x7f, 0xfa);
    key(t, 0x1e, true);
    expect_byte(r, 0x1e, 0);
    clock_advance(r->clock, 999 * MS);
    expect_empty(r);
    clock_advance(r->clock, 1 * MS);
    expect_byte(r, 0x1e, 0);
    clock_advance(r->clock, 499 * MS);
    expect_empty(r);
    clock_advance(r->clock, 1 * MS);
    expect_byte(r, 0x1e, 0);
    EXPECT_REPLY(r, 0xf5, 0xfa);
    clock_advance(r->clock, 2000 * MS);
    expect_empty(r);
    EXPECT_REPLY(r, 0xf4, 0xfa);
    key(t, 0x1e, false);
    expect_byte(r, 0x9e, 0);
    key(t, KEY_PAUSE, true);
    EXPECT_BYTES(r, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
    clock_advance(r->clock, 2000 * MS);
    expect_empty(r);
}

/* Answers come before keys that wait, but not between the bytes of one. */
static void test_answers_first(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    key(t, 0xe048, true);
    key(t, 0x1e, true);
    out8(r, DATA, 0xee);
    EXPECT_BYTES(r, 0xe0, 0x48, 0xee, 0x1e);
}

/* A guest that doesn't read: keys are lost, but none stays pressed. */
static void test_full_buffer(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    bool down[0x100] = {false};
    unsigned pressed = 0, released = 0;
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned code = 1; code < 0x60; code++) {
            key(t, 0xe000 | code, true);
            key(t, code, true);
        }
        for (unsigned code = 1; code < 0x60; code++) {
            key(t, 0xe000 | code, false);
            key(t, code, false);
        }
    }
    for (unsigned extended = 0; in8(r, CMD) & 1;) {
        u8 byte = (u8)in8(r, DATA);
        if (byte == 0xe0) {
            extended = 0x80;
            continue;
        }
        unsigned index = (byte & 0x7f) | extended;
        assert_int_equal(down[index], byte >> 7);
        down[index] = !(byte & 0x80);
        pressed += !(byte & 0x80);
        released += byte >> 7;
        extended = 0;
    }
    assert_true(pressed > 8);
    assert_int_equal(pressed, released);
}

/* --- the mouse --- */

static void move(struct kbd_rig *t, int dx, int dy, int dz, unsigned buttons)
{
    t->sink.pointer(t->sink.ctx, dx, dy, dz, buttons);
}

static void expect_aux(struct rig *r, const u8 *want, size_t count)
{
    for (size_t i = 0; i < count; i++)
        expect_byte(r, want[i], 0x20);
    expect_empty(r);
}

#define EXPECT_AUX(r, ...) expect_aux(r, (u8[]){__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__}))

static void mouse_write(struct rig *r, u8 value)
{
    out8(r, CMD, 0xd4);
    out8(r, DATA, value);
}

#define EXPECT_MOUSE(r, command, ...)                                                              \
    do {                                                                                           \
        mouse_write(r, command);                                                                   \
        EXPECT_AUX(r, __VA_ARGS__);                                                                \
    } while (0)

static void set_rates(struct rig *r, u8 a, u8 b, u8 c)
{
    const u8 rates[] = {a, b, c};
    for (unsigned i = 0; i < 3; i++) {
        EXPECT_MOUSE(r, 0xf3, 0xfa);
        EXPECT_MOUSE(r, rates[i], 0xfa);
    }
}

static void test_mouse_commands(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    EXPECT_MOUSE(r, 0xff, 0xfa, 0xaa, 0x00);
    EXPECT_MOUSE(r, 0xfe, 0xaa, 0x00);
    EXPECT_MOUSE(r, 0xf2, 0xfa, 0x00);
    EXPECT_MOUSE(r, 0xe9, 0xfa, 0x00, 0x02, 0x64);
    EXPECT_MOUSE(r, 0xe8, 0xfa);
    EXPECT_MOUSE(r, 0x03, 0xfa);
    EXPECT_MOUSE(r, 0xe8, 0xfa);
    EXPECT_MOUSE(r, 0x04, 0xfe);
    EXPECT_MOUSE(r, 0xf3, 0xfa);
    EXPECT_MOUSE(r, 0x00, 0xfe);
    EXPECT_MOUSE(r, 0xf3, 0xfa);
    EXPECT_MOUSE(r, 0x28, 0xfa);
    EXPECT_MOUSE(r, 0xe7, 0xfa);
    EXPECT_MOUSE(r, 0xf4, 0xfa);
    move(t, 0, 0, 0, POINTER_LEFT | POINTER_MIDDLE);
    EXPECT_AUX(r, 0x0d, 0x00, 0x00);
    EXPECT_MOUSE(r, 0xe9, 0xfa, 0x36, 0x03, 0x28);
    EXPECT_MOUSE(r, 0xe6, 0xfa);
    EXPECT_MOUSE(r, 0xf0, 0xfa);
    EXPECT_MOUSE(r, 0xe9, 0xfa, 0x66, 0x03, 0x28);
    EXPECT_MOUSE(r, 0xf6, 0xfa);
    EXPECT_MOUSE(r, 0xe9, 0xfa, 0x06, 0x02, 0x64);
    EXPECT_MOUSE(r, 0xe1, 0xfe);
    EXPECT_MOUSE(r, 0x00, 0xfe);
    EXPECT_MOUSE(r, 0xee, 0xfa); /* wrap */
    EXPECT_MOUSE(r, 0xf2, 0xf2);
    EXPECT_MOUSE(r, 0x12, 0x12);
    move(t, 1, 1, 1, 0);
    expect_empty(r);
    EXPECT_MOUSE(r, 0xec, 0xfa);
    EXPECT_MOUSE(r, 0xf2, 0xfa, 0x00);
    EXPECT_MOUSE(r, 0xee, 0xfa);
    EXPECT_MOUSE(r, 0xff, 0xfa, 0xaa, 0x00);
    EXPECT_MOUSE(r, 0xf3, 0xfa); /* a reset instead of the parameter */
    EXPECT_MOUSE(r, 0xff, 0xfa, 0xaa, 0x00);
}

static void test_mouse_stream(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    write_ctr(r, 0x47);
    move(t, 5, 5, 0, 0); /* nobody wants to know */
    expect_empty(r);
    EXPECT_MOUSE(r, 0xf4, 0xfa);
    unsigned rises = r->pin[AUX_PIN].rises;
    move(t, 5, -3, 1, POINTER_RIGHT);
    assert_int_equal(r->pin[AUX_PIN].level, 1);
    EXPECT_AUX(r, 0x0a, 0x05, 0x03);
    assert_int_equal(r->pin[AUX_PIN].rises, rises + 3);
    assert_int_equal(r->pin[AUX_PIN].level, 0);
    move(t, -1, 0, 0, POINTER_RIGHT); /* not before the sample's time */
    move(t, -1, 2, 0, POINTER_RIGHT);
    expect_empty(r);
    clock_advance(r->clock, 9 * MS);
    expect_empty(r);
    clock_advance(r->clock, 1 * MS);
    EXPECT_AUX(r, 0x3a, 0xfe, 0xfe);
    clock_advance(r->clock, 100 * MS);
    expect_empty(r);
    move(t, 300, 0, 0, POINTER_RIGHT); /* more than a packet holds */
    EXPECT_AUX(r, 0x0a, 0xff, 0x00);
    clock_advance(r->clock, 10 * MS);
    EXPECT_AUX(r, 0x0a, 0x2d, 0x00);
    clock_advance(r->clock, 10 * MS);
    move(t, 1, 0, 0, 0);
    move(t, 0, 0, 0, POINTER_LEFT); /* a click that is over before its time */
    move(t, 0, 0, 0, 0);
    EXPECT_AUX(r, 0x08, 0x01, 0x00);
    clock_advance(r->clock, 10 * MS);
    EXPECT_AUX(r, 0x09, 0x00, 0x00);
    clock_advance(r->clock, 10 * MS);
    EXPECT_AUX(r, 0x08, 0x00, 0x00);
    clock_advance(r->clock, 10 * MS);
    expect_empty(r);
    EXPECT_MOUSE(r, 0xe7, 0xfa); /* 2:1 */
    move(t, 3, -5, 0, 0);
    EXPECT_AUX(r, 0x08, 0x03, 0x09);
    clock_advance(r->clock, 10 * MS);
    move(t, -10, 4, 0, 0);
    EXPECT_AUX(r, 0x38, 0xec, 0xfa);
    clock_advance(r->clock, 10 * MS);
    EXPECT_MOUSE(r, 0xf5, 0xfa);
    move(t, 1, 1, 0, 0);
    expect_empty(r);
}

/* The port is off while the user moves: one packet, then the rest as one. */
static void test_mouse_port_off(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    EXPECT_MOUSE(r, 0xf4, 0xfa);
    out8(r, CMD, 0xa7);
    for (unsigned i = 0; i < 10; i++) {
        move(t, 1, 0, 0, 0);
        clock_advance(r->clock, 100 * MS);
    }
    expect_empty(r);
    out8(r, CMD, 0xa8);
    EXPECT_AUX(r, 0x08, 0x01, 0x00, 0x08, 0x09, 0x00);
    move(t, INT32_MAX, INT32_MIN, INT32_MIN, 0);
    move(t, INT32_MAX, INT32_MIN, INT32_MIN, 0);
    clock_advance(r->clock, 10 * MS);
    EXPECT_AUX(r, 0x08, 0xff, 0xff);
}

static void test_mouse_remote(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    EXPECT_MOUSE(r, 0xf0, 0xfa);
    move(t, 7, 0, 0, 0);
    move(t, 7, 0, 0, POINTER_LEFT);
    expect_empty(r);
    EXPECT_MOUSE(r, 0xeb, 0xfa, 0x08, 0x07, 0x00);
    EXPECT_MOUSE(r, 0xeb, 0xfa, 0x09, 0x07, 0x00);
    EXPECT_MOUSE(r, 0xeb, 0xfa, 0x09, 0x00, 0x00);
    EXPECT_MOUSE(r, 0xfe, 0x09, 0x00, 0x00);
    EXPECT_MOUSE(r, 0xea, 0xfa);
    expect_empty(r);
}

static void test_mouse_wheel(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    set_rates(r, 200, 100, 80);
    EXPECT_MOUSE(r, 0xf2, 0xfa, 0x03);
    EXPECT_MOUSE(r, 0xf4, 0xfa);
    move(t, 0, 0, -1, 0);
    EXPECT_AUX(r, 0x08, 0x00, 0x00, 0xff);
    clock_advance(r->clock, 100 * MS);
    move(t, 2, 0, 1, POINTER_MIDDLE | POINTER_SIDE);
    EXPECT_AUX(r, 0x0c, 0x02, 0x00, 0x01);
    EXPECT_MOUSE(r, 0xf6, 0xfa);
    EXPECT_MOUSE(r, 0xf2, 0xfa, 0x03);
    set_rates(r, 200, 200, 80);
    EXPECT_MOUSE(r, 0xf2, 0xfa, 0x04);
    EXPECT_MOUSE(r, 0xf4, 0xfa);
    clock_advance(r->clock, 100 * MS);
    move(t, 0, 0, -9, POINTER_SIDE);
    EXPECT_AUX(r, 0x08, 0x00, 0x00, 0x19);
    clock_advance(r->clock, 100 * MS);
    EXPECT_AUX(r, 0x08, 0x00, 0x00, 0x1e);
    move(t, 0, 0, 0, POINTER_EXTRA);
    clock_advance(r->clock, 100 * MS);
    EXPECT_AUX(r, 0x08, 0x00, 0x00, 0x20);
    EXPECT_MOUSE(r, 0xff, 0xfa, 0xaa, 0x00);
    EXPECT_MOUSE(r, 0xf2, 0xfa, 0x00);
    set_rates(r, 200, 100, 100);
    EXPECT_MOUSE(r, 0xf2, 0xfa, 0x00);
}

static void test_a20_and_reset(void **state)
{
    struct rig *r = &((struct kbd_rig *)*state)->r;
    out8(r, CMD, 0xdf);
    assert_true(r->a20);
    out8(r, CMD, 0xd0);
    assert_int_equal(in8(r, DATA) & 0x03, 0x03);
    out8(r, CMD, 0xdd);
    assert_false(r->a20);
    out8(r, CMD, 0xd0);
    assert_int_equal(in8(r, DATA) & 0x03, 0x01);
    out8(r, CMD, 0xd1);
    out8(r, DATA, 0x03);
    assert_true(r->a20);
    assert_int_equal(r->resets, 0);
    out8(r, CMD, 0xff); /* pulses nothing */
    assert_int_equal(r->resets, 0);
    out8(r, CMD, 0xfe);
    assert_int_equal(r->resets, 1);
    out8(r, CMD, 0xd1);
    out8(r, DATA, 0x02);
    assert_int_equal(r->resets, 2);
}

static void test_fuzz(void **state)
{
    struct kbd_rig *t = *state;
    for (int i = 0; i < 20; i++) {
        u32 dice = rig_random(&t->r);
        key(t, dice & 0xff, dice >> 8 & 1);
        key(t, 0xe000 | (dice >> 16 & 0x7f), dice >> 9 & 1);
        move(t, (int)rig_random(&t->r), (int)(dice & 0xff), 1, dice >> 10);
        rig_fuzz(&t->r, DATA, 5);
    }
    i8042_reset(t->k);
    test_controller(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_controller, setup, teardown),
        cmocka_unit_test_setup_teardown(test_aux_port, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keyboard_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_code_sets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_odd_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_set_3, setup, teardown),
        cmocka_unit_test_setup_teardown(test_typematic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_buffer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mouse_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mouse_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mouse_port_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mouse_remote, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mouse_wheel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a20_and_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fuzz, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
