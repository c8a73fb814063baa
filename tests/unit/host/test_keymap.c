/*
 * The US keyboard: what types a character, what a name and a keysym mean.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "host/input.h"

static void expect_char(int c, unsigned key, bool want_shift)
{
    bool shift = !want_shift;
    assert_int_equal(keymap_char(c, &shift), key);
    assert_int_equal(shift, want_shift);
}

static void test_characters(void **state)
{
    (void)state;
    expect_char('a', 0x1e, false);
    expect_char('A', 0x1e, true);
    expect_char('~', 0x29, true);
    expect_char('\n', 0x1c, false);
    expect_char(' ', 0x39, false);
    expect_char('<', 0x33, true);
    expect_char('\\', 0x2b, false);
    expect_char(0, 0, false);
    expect_char(-1, 0, false);
    expect_char(0xe4, 0, false);
    /* Each printable character has a key, and no two share key and shift. */
    bool seen[2][0x80] = {0};
    for (int c = ' '; c < 0x7f; c++) {
        bool shift;
        unsigned key = keymap_char(c, &shift);
        assert_in_range(key, 1, 0x7f);
        assert_false(seen[shift][key]);
        seen[shift][key] = true;
    }
}

static unsigned name(const char *text)
{
    return keymap_name(text, strlen(text));
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(name("ret"), 0x1c);
    assert_int_equal(name("esc"), 0x01);
    assert_int_equal(name("f12"), 0x58);
    assert_int_equal(name("del"), 0xe053);
    assert_int_equal(name("delete"), 0xe053);
    assert_int_equal(name("ctrl_r"), 0xe01d);
    assert_int_equal(name("pause"), KEY_PAUSE);
    assert_int_equal(name("kp_5"), 0x4c);
    assert_int_equal(name("z"), 0x2c);
    assert_int_equal(keymap_name("f12", 2), 0x3b);
    assert_int_equal(name("f1x"), 0);
    assert_int_equal(name(""), 0);
    assert_int_equal(name("RET"), 0);
}

static void test_keysyms(void **state)
{
    (void)state;
    assert_int_equal(keymap_keysym('a'), 0x1e);
    assert_int_equal(keymap_keysym('A'), 0x1e);
    assert_int_equal(keymap_keysym('<'), 0x33);
    assert_int_equal(keymap_keysym(0x01000041), 0x1e); /* Unicode */
    assert_int_equal(keymap_keysym(0xff0d), 0x1c);
    assert_int_equal(keymap_keysym(0xff1b), 0x01);
    assert_int_equal(keymap_keysym(0xffff), 0xe053);
    assert_int_equal(keymap_keysym(0xffbe), 0x3b);
    assert_int_equal(keymap_keysym(0xffe1), 0x2a);
    assert_int_equal(keymap_keysym(0xffe9), 0x38); /* Alt_L */
    assert_int_equal(keymap_keysym(0xffe7), 0x38); /* Meta_L */
    assert_int_equal(keymap_keysym(0xfe03), 0xe038);
    assert_int_equal(keymap_keysym(0xffeb), 0xe05b);
    assert_int_equal(keymap_keysym(0xff95), 0x47); /* KP_Home */
    assert_int_equal(keymap_keysym(0xffb7), 0x47); /* KP_7 */
    assert_int_equal(keymap_keysym(0xff13), KEY_PAUSE);
    assert_int_equal(keymap_keysym(0), 0);
    assert_int_equal(keymap_keysym(0xe4), 0);
    assert_int_equal(keymap_keysym(0xffffffff), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_keysyms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
