/*
 * Escape sequences are ESC [ or ESC O, parameters, and a letter or ~; with a second parameter m,
 * m - 1 says which of shift, alt and control were held. ESC and another character is that one with
 * alt.
 */
#include "host/terminal_keys.h"

#define ESC 0x1b
#define DEL 0x7f

static unsigned named(const char *name)
{
    return name ? keymap_name(name, strlen(name)) : 0;
}

/* ESC [ n ~ */
static const char *const by_number[] = {
    [1] = "home", [2] = "insert", [3] = "delete", [4] = "end",  [5] = "pgup",
    [6] = "pgdn", [7] = "home",   [8] = "end",    [11] = "f1",  [12] = "f2",
    [13] = "f3",  [14] = "f4",    [15] = "f5",    [17] = "f6",  [18] = "f7",
    [19] = "f8",  [20] = "f9",    [21] = "f10",   [23] = "f11", [24] = "f12"};

/* ESC [ letter, ESC O letter */
static const char *by_letter(u8 c)
{
    static const struct {
        char letter;
        const char *name;
    } names[] = {{'A', "up"},   {'B', "down"}, {'C', "right"}, {'D', "left"}, {'F', "end"},
                 {'H', "home"}, {'P', "f1"},   {'Q', "f2"},    {'R', "f3"},   {'S', "f4"}};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (names[i].letter == (char)c)
            return names[i].name;
    return NULL;
}

static unsigned modifiers_of(unsigned parameter)
{
    unsigned m = parameter ? parameter - 1 : 0;
    return (m & 1 ? KEY_WITH_SHIFT : 0) | (m & 2 ? KEY_WITH_ALT : 0) | (m & 4 ? KEY_WITH_CTRL : 0);
}

/* bytes[2] on; returns the length of all, 0: not complete. */
static size_t sequence(const u8 *bytes, size_t n, struct terminal_key *k)
{
    unsigned parameter[2] = {0, 0}, count = 0;
    if (n > 3 && bytes[1] == '[' && bytes[2] == '[') { /* the Linux console's F1 to F5 */
        static const char *const names[] = {"f1", "f2", "f3", "f4", "f5"};
        k->key = bytes[3] >= 'A' && bytes[3] <= 'E' ? named(names[bytes[3] - 'A']) : 0;
        return 4;
    }
    for (size_t i = 2; i < n; i++) {
        u8 c = bytes[i];
        if (c >= '0' && c <= '9') {
            if (count < 2)
                parameter[count] = MIN(parameter[count] * 10 + (c - '0'), 1000);
        } else if (c == ';') {
            count++;
        } else if (c >= 0x40 && !(i == 2 && c == '[')) {
            bool number = c == '~' && parameter[0] < ARRAY_SIZE(by_number);
            k->key = named(number ? by_number[parameter[0]] : by_letter(c));
            k->modifiers = modifiers_of(parameter[1]);
            return i + 1;
        }
    }
    return 0;
}

static void character(u8 c, struct terminal_key *k)
{
    bool shift = false;
    if (c == '\r' || c == '\n') {
        k->key = keymap_char('\n', &shift);
    } else if (c == DEL || c == '\b') {
        k->key = named("backspace");
    } else if (c == '\t' || c == ESC) {
        k->key = named(c == '\t' ? "tab" : "esc");
    } else if (c < ' ') { /* 0 is Ctrl-@, but what people type is Ctrl-Space */
        k->key = c ? keymap_char(c | (c <= 26 ? 0x60 : 0x40), &shift) : named("spc");
        k->modifiers |= KEY_WITH_CTRL;
    } else {
        k->key = keymap_char(c, &shift);
    }
    if (shift)
        k->modifiers |= KEY_WITH_SHIFT;
}

size_t terminal_key_of(const u8 *bytes, size_t n, bool complete, struct terminal_key *key)
{
    *key = (struct terminal_key){0};
    if (bytes[0] == ESC && n > 1 && (bytes[1] == '[' || bytes[1] == 'O')) {
        size_t length = sequence(bytes, n, key);
        if (length || !complete)
            return length;
        *key = (struct terminal_key){0};
    } else if (bytes[0] == ESC && n > 1 && bytes[1] != ESC) {
        character(bytes[1], key);
        key->modifiers |= KEY_WITH_ALT;
        return 2;
    } else if (bytes[0] == ESC && n == 1 && !complete) {
        return 0;
    }
    character(bytes[0], key);
    return 1;
}
