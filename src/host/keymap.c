/*
 * A US keyboard: from characters, from names as QEMU's `sendkey` has them, and from X11 keysyms to
 * keys. One table says all of it; a key is its scan code of set 1. What a character needs besides
 * its key is shift at most.
 */
#include "host/input.h"

/* Keysyms that are not characters, from X11/keysymdef.h. */
#define XK_UNICODE   0x01000000
#define XK_LEVEL3    0xfe03 /* AltGr */
#define XK_BACK_TAB  0xfe20
#define XK_SUPER_L   0xffeb
#define XK_SUPER_R   0xffec
#define XK_FIRST_ALT 0xffe7 /* Meta_L, Meta_R, Alt_L, Alt_R */

struct key {
    u16 code;
    char plain, shifted; /* what it types; 0: nothing */
    const char *name;
    const char *also;     /* another name, or NULL */
    u16 keysym, keysym_2; /* besides those of its characters; 0: none */
};

static const struct key keys[] = {
    /* clang-format off */
    {0x01, 0x1b, 0,  "esc",           NULL,      0xff1b, 0},
    {0x02, '1', '!', "1",             NULL,      0, 0},
    {0x03, '2', '@', "2",             NULL,      0, 0},
    {0x04, '3', '#', "3",             NULL,      0, 0},
    {0x05, '4', '$', "4",             NULL,      0, 0},
    {0x06, '5', '%', "5",             NULL,      0, 0},
    {0x07, '6', '^', "6",             NULL,      0, 0},
    {0x08, '7', '&', "7",             NULL,      0, 0},
    {0x09, '8', '*', "8",             NULL,      0, 0},
    {0x0a, '9', '(', "9",             NULL,      0, 0},
    {0x0b, '0', ')', "0",             NULL,      0, 0},
    {0x0c, '-', '_', "minus",         NULL,      0, 0},
    {0x0d, '=', '+', "equal",         NULL,      0, 0},
    {0x0e, '\b', 0,  "backspace",     "bs",      0xff08, 0},
    {0x0f, '\t', 0,  "tab",           NULL,      0xff09, XK_BACK_TAB},
    {0x10, 'q', 'Q', "q",             NULL,      0, 0},
    {0x11, 'w', 'W', "w",             NULL,      0, 0},
    {0x12, 'e', 'E', "e",             NULL,      0, 0},
    {0x13, 'r', 'R', "r",             NULL,      0, 0},
    {0x14, 't', 'T', "t",             NULL,      0, 0},
    {0x15, 'y', 'Y', "y",             NULL,      0, 0},
    {0x16, 'u', 'U', "u",             NULL,      0, 0},
    {0x17, 'i', 'I', "i",             NULL,      0, 0},
    {0x18, 'o', 'O', "o",             NULL,      0, 0},
    {0x19, 'p', 'P', "p",             NULL,      0, 0},
    {0x1a, '[', '{', "bracket_left",  NULL,      0, 0},
    {0x1b, ']', '}', "bracket_right", NULL,      0, 0},
    {0x1c, '\n', 0,  "ret",           "enter",   0xff0d, 0xff0a},
    {0x1d, 0, 0,     "ctrl",          NULL,      0xffe3, 0},
    {0x1e, 'a', 'A', "a",             NULL,      0, 0},
    {0x1f, 's', 'S', "s",             NULL,      0, 0},
    {0x20, 'd', 'D', "d",             NULL,      0, 0},
    {0x21, 'f', 'F', "f",             NULL,      0, 0},
    {0x22, 'g', 'G', "g",             NULL,      0, 0},
    {0x23, 'h', 'H', "h",             NULL,      0, 0},
    {0x24, 'j', 'J', "j",             NULL,      0, 0},
    {0x25, 'k', 'K', "k",             NULL,      0, 0},
    {0x26, 'l', 'L', "l",             NULL,      0, 0},
    {0x27, ';', ':', "semicolon",     NULL,      0, 0},
    {0x28, '\'', '"', "apostrophe",   NULL,      0, 0},
    {0x29, '`', '~', "grave_accent",  NULL,      0, 0},
    {0x2a, 0, 0,     "shift",         NULL,      0xffe1, 0},
    {0x2b, '\\', '|', "backslash",    NULL,      0, 0},
    {0x2c, 'z', 'Z', "z",             NULL,      0, 0},
    {0x2d, 'x', 'X', "x",             NULL,      0, 0},
    {0x2e, 'c', 'C', "c",             NULL,      0, 0},
    {0x2f, 'v', 'V', "v",             NULL,      0, 0},
    {0x30, 'b', 'B', "b",             NULL,      0, 0},
    {0x31, 'n', 'N', "n",             NULL,      0, 0},
    {0x32, 'm', 'M', "m",             NULL,      0, 0},
    {0x33, ',', '<', "comma",         NULL,      0, 0},
    {0x34, '.', '>', "dot",           NULL,      0, 0},
    {0x35, '/', '?', "slash",         NULL,      0, 0},
    {0x36, 0, 0,     "shift_r",       NULL,      0xffe2, 0},
    {0x37, 0, 0,     "kp_multiply",   "asterisk", 0xffaa, 0},
    {0x38, 0, 0,     "alt",           NULL,      XK_FIRST_ALT + 2, XK_FIRST_ALT},
    {0x39, ' ', 0,   "spc",           "space",   0, 0},
    {0x3a, 0, 0,     "caps_lock",     NULL,      0xffe5, 0},
    {0x3b, 0, 0,     "f1",            NULL,      0xffbe, 0},
    {0x3c, 0, 0,     "f2",            NULL,      0xffbf, 0},
    {0x3d, 0, 0,     "f3",            NULL,      0xffc0, 0},
    {0x3e, 0, 0,     "f4",            NULL,      0xffc1, 0},
    {0x3f, 0, 0,     "f5",            NULL,      0xffc2, 0},
    {0x40, 0, 0,     "f6",            NULL,      0xffc3, 0},
    {0x41, 0, 0,     "f7",            NULL,      0xffc4, 0},
    {0x42, 0, 0,     "f8",            NULL,      0xffc5, 0},
    {0x43, 0, 0,     "f9",            NULL,      0xffc6, 0},
    {0x44, 0, 0,     "f10",           NULL,      0xffc7, 0},
    {0x45, 0, 0,     "num_lock",      NULL,      0xff7f, 0},
    {0x46, 0, 0,     "scroll_lock",   NULL,      0xff14, 0},
    {0x47, 0, 0,     "kp_7",          NULL,      0xffb7, 0xff95},
    {0x48, 0, 0,     "kp_8",          NULL,      0xffb8, 0xff97},
    {0x49, 0, 0,     "kp_9",          NULL,      0xffb9, 0xff9a},
    {0x4a, 0, 0,     "kp_subtract",   NULL,      0xffad, 0},
    {0x4b, 0, 0,     "kp_4",          NULL,      0xffb4, 0xff96},
    {0x4c, 0, 0,     "kp_5",          NULL,      0xffb5, 0xff9d},
    {0x4d, 0, 0,     "kp_6",          NULL,      0xffb6, 0xff98},
    {0x4e, 0, 0,     "kp_add",        NULL,      0xffab, 0},
    {0x4f, 0, 0,     "kp_1",          NULL,      0xffb1, 0xff9c},
    {0x50, 0, 0,     "kp_2",          NULL,      0xffb2, 0xff99},
    {0x51, 0, 0,     "kp_3",          NULL,      0xffb3, 0xff9b},
    {0x52, 0, 0,     "kp_0",          NULL,      0xffb0, 0xff9e},
    {0x53, 0, 0,     "kp_decimal",    NULL,      0xffae, 0xff9f},
    {0x54, 0, 0,     "sysrq",         NULL,      0xff15, 0},
    {0x56, 0, 0,     "less",          NULL,      0, 0}, /* between left shift and Z, if there */
    {0x57, 0, 0,     "f11",           NULL,      0xffc8, 0},
    {0x58, 0, 0,     "f12",           NULL,      0xffc9, 0},
    {0xe01c, 0, 0,   "kp_enter",      NULL,      0xff8d, 0},
    {0xe01d, 0, 0,   "ctrl_r",        NULL,      0xffe4, 0},
    {0xe035, 0, 0,   "kp_divide",     NULL,      0xffaf, 0},
    {0xe037, 0, 0,   "print",         NULL,      0xff61, 0},
    {0xe038, 0, 0,   "alt_r",         NULL,      XK_FIRST_ALT + 3, XK_LEVEL3},
    {0xe047, 0, 0,   "home",          NULL,      0xff50, 0},
    {0xe048, 0, 0,   "up",            NULL,      0xff52, 0},
    {0xe049, 0, 0,   "pgup",          NULL,      0xff55, 0},
    {0xe04b, 0, 0,   "left",          NULL,      0xff51, 0},
    {0xe04d, 0, 0,   "right",         NULL,      0xff53, 0},
    {0xe04f, 0, 0,   "end",           NULL,      0xff57, 0},
    {0xe050, 0, 0,   "down",          NULL,      0xff54, 0},
    {0xe051, 0, 0,   "pgdn",          NULL,      0xff56, 0},
    {0xe052, 0, 0,   "insert",        "ins",     0xff63, 0},
    {0xe053, 0, 0,   "delete",        "del",     0xffff, 0},
    {0xe05b, 0, 0,   "meta_l",        NULL,      XK_SUPER_L, 0},
    {0xe05c, 0, 0,   "meta_r",        NULL,      XK_SUPER_R, 0},
    {0xe05d, 0, 0,   "menu",          "compose", 0xff67, 0},
    {0xe05e, 0, 0,   "power",         NULL,      0, 0},
    {0xe05f, 0, 0,   "sleep",         NULL,      0, 0},
    {0xe063, 0, 0,   "wake",          NULL,      0, 0},
    {KEY_PAUSE, 0, 0, "pause",        NULL,      0xff13, 0xff6b},
    /* clang-format on */
};

unsigned keymap_char(int c, bool *shift)
{
    *shift = false;
    for (size_t i = 0; c > 0 && i < ARRAY_SIZE(keys); i++) {
        if (c != keys[i].plain && c != keys[i].shifted)
            continue;
        *shift = c != keys[i].plain;
        return keys[i].code;
    }
    return 0;
}

static bool same(const char *name, const char *text, size_t len)
{
    return name && strlen(name) == len && memcmp(name, text, len) == 0;
}

unsigned keymap_name(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (same(keys[i].name, name, len) || same(keys[i].also, name, len))
            return keys[i].code;
    return 0;
}

unsigned keymap_keysym(u32 keysym)
{
    bool shift;
    if (keysym >= XK_UNICODE)
        keysym -= XK_UNICODE;
    if (keysym >= ' ' && keysym < 0x7f)
        return keymap_char((int)keysym, &shift);
    for (size_t i = 0; keysym && i < ARRAY_SIZE(keys); i++)
        if (keysym == keys[i].keysym || keysym == keys[i].keysym_2)
            return keys[i].code;
    return 0;
}
