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
};

static int setup(void **state)
{
    struct kbd_rig *t = calloc(1, sizeof(*t));
    struct error err;
    rig_init(&t->r);
    assert_int_equal(
        i8042_create(&t->r.power, rig_line(&t->r, KBD_PIN), rig_line(&t->r, AUX_PIN), &t->k, &err),
        0);
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

/* The next byte, with the given AUX and TIMEOUT bits of the status. */
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

/* i8042_check_aux(), and a device that isn't there. */
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
    expect_byte(r, 0xfe, 0x60);
    out8(r, CMD, 0xd3);
    out8(r, DATA, 0x01);
    expect_byte(r, 0x01, 0x20); /* the timeout is over */
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

static void test_keys(void **state)
{
    struct kbd_rig *t = *state;
    struct rig *r = &t->r;
    static const u8 keys[] = {0x1c, 0xf0, 0x1c, 0xe0, 0xf0, 0x75}; /* A, A up, up arrow up */
    static const u8 set1[] = {0x1e, 0x9e, 0xe0, 0xc8};
    assert_true(i8042_key(t->k, keys, sizeof(keys)));
    for (size_t i = 0; i < sizeof(set1); i++) {
        assert_int_equal(r->pin[KBD_PIN].level, 1);
        assert_int_equal(r->pin[KBD_PIN].rises, i + 1); /* an edge for each byte */
        expect_byte(r, set1[i], 0);
    }
    assert_int_equal(r->pin[KBD_PIN].level, 0);
    write_ctr(r, 0x04); /* untranslated, no interrupt */
    assert_true(i8042_key(t->k, keys, sizeof(keys)));
    for (size_t i = 0; i < sizeof(keys); i++)
        expect_byte(r, keys[i], 0);
    assert_int_equal(r->pin[KBD_PIN].level, 0);
    EXPECT_REPLY(r, 0xf0, 0xfa);
    EXPECT_REPLY(r, 0x01, 0xfa);
    assert_true(i8042_key(t->k, keys, sizeof(keys)));
    for (size_t i = 0; i < sizeof(set1); i++)
        expect_byte(r, set1[i], 0);
    EXPECT_REPLY(r, 0xf5, 0xfa);
    assert_false(i8042_key(t->k, keys, 1));
    EXPECT_REPLY(r, 0xf4, 0xfa);
    write_ctr(r, 0x14); /* port off: the key waits */
    assert_true(i8042_key(t->k, keys, 1));
    expect_empty(r);
    out8(r, CMD, 0xae);
    expect_byte(r, 0x1c, 0);
}

static void test_full_buffer(void **state)
{
    struct kbd_rig *t = *state;
    static const u8 key[] = {0xe0, 0x75};
    unsigned taken = 0;
    while (i8042_key(t->k, key, 2))
        assert_true(++taken < 1000);
    assert_true(taken > 8);
    write_ctr(&t->r, 0x45);
    for (unsigned i = 0; i < taken; i++) {
        expect_byte(&t->r, 0xe0, 0);
        expect_byte(&t->r, 0x48, 0);
    }
    expect_empty(&t->r);
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
        u8 key[4];
        store_le(key, rig_random(&t->r), 4);
        i8042_key(t->k, key, 4);
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
        cmocka_unit_test_setup_teardown(test_full_buffer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a20_and_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fuzz, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
