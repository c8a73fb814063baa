/*
 * The keyboard. Answers to commands overtake scan codes, but don't come between the bytes of one
 * key. A key that was reported as pressed is also reported as released: presses are taken only
 * while the queue is short, so that there is room for that.
 */
#include "dev/ps2_keyboard.h"

#include <errno.h>
#include <stdlib.h>

#include "base/timebase.h"
#include "host/input.h"

enum keyboard_command {
    KBD_LEDS = 0xed,
    KBD_ECHO = 0xee,
    KBD_SCAN_SET = 0xf0,
    KBD_IDENTIFY = 0xf2,
    KBD_TYPEMATIC = 0xf3,
    KBD_ENABLE = 0xf4,
    KBD_DISABLE = 0xf5,
    KBD_DEFAULTS = 0xf6,
    KBD_ALL_REPEAT = 0xf7, /* F7 to FA: how all keys of set 3 work */
    KBD_ALL_REPEAT_BREAK = 0xfa,
    KBD_KEY_REPEAT = 0xfb, /* FB to FD: how the keys that follow do */
    KBD_KEY_MAKE = 0xfd,
    KBD_RESEND = 0xfe,
    KBD_RESET = 0xff,
};

#define CODE_BREAK      0xf0
#define CODE_EXTENDED   0xe0
#define SEQUENCE_MORE   0x100 /* in the queue: another byte of this key follows */
#define PRESS_QUEUE_MAX 64    /* no more presses while this many bytes wait */

#define TYPEMATIC_DEFAULT 0x2b /* half a second, then 10.9 a second */

#define KEY_PRINT        0xe037
#define KEYS             0x100 /* the code, or 0x80 | code for extended keys; 0 is Pause */
#define INDEX_EXTENDED   0x80
#define INDEX_PAUSE      0
#define INDEX_CTRL       0x1d
#define INDEX_SHIFT      0x2a
#define INDEX_SHIFT_R    0x36
#define INDEX_ALT        0x38
#define CODE_SHIFT       0x2a
#define CODE_PRINT       0x37
#define CODE_SCROLL_LOCK 0x46
#define CODE_SYSRQ       0x54

/* How a key works in set 3; bits. */
#define TYPE_REPEAT 1
#define TYPE_BREAK  2

/* Print Screen depends on what is held with it. */
enum print_form { PRINT_SHIFTED, PRINT_PLAIN, PRINT_SYSRQ };

struct ps2_keyboard {
    struct ps2_bus bus;
    struct clock *clock;
    struct timer *repeat_timer;
    struct ps2_queue replies, codes;
    bool in_sequence; /* the rest of a key's bytes comes next */
    u8 last;          /* byte sent, for RESEND */
    u8 pending;       /* command that waits for its parameter, or 0 */
    u8 scan_set;
    u8 typematic;
    bool scanning;
    bool down[KEYS];
    u8 type[0x100]; /* by code of set 3 */
    enum print_form print_form;
    unsigned repeating; /* the key that was pressed last and is still down, or 0 */
};

struct sequence {
    u8 byte[8];
    unsigned len;
};

/* Set 1 to set 2. Extended keys have the same code behind E0. */
static const u8 set2_code[0x80] = {
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b,
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a,
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03,
    0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69,
    0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f,
    0x47, 0x4f, 0x56, 0x5e, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f,
    0x13, 0x19, 0x39, 0x51, 0x53, 0x5c, 0x5f, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e,
};

/* Set 3, by index. 0: not there. */
static const u8 set3_code[KEYS] = {
    [INDEX_PAUSE] = 0x62,
    [0x01] = 0x08,
    0x16,
    0x1e,
    0x26,
    0x25,
    0x2e,
    0x36,
    0x3d,
    0x3e,
    0x46,
    0x45,
    0x4e,
    0x55,
    0x66,
    [0x0f] = 0x0d,
    0x15,
    0x1d,
    0x24,
    0x2d,
    0x2c,
    0x35,
    0x3c,
    0x43,
    0x44,
    0x4d,
    0x54,
    0x5b,
    0x5a,
    [0x1d] = 0x11,
    0x1c,
    0x1b,
    0x23,
    0x2b,
    0x34,
    0x33,
    0x3b,
    0x42,
    0x4b,
    0x4c,
    0x52,
    0x0e,
    0x12,
    [0x2b] = 0x5c,
    0x1a,
    0x22,
    0x21,
    0x2a,
    0x32,
    0x31,
    0x3a,
    0x41,
    0x49,
    0x4a,
    0x59,
    0x7e,
    0x19,
    [0x39] = 0x29,
    0x14,
    0x07,
    0x0f,
    0x17,
    0x1f,
    0x27,
    0x2f,
    0x37,
    0x3f,
    0x47,
    0x4f,
    0x76,
    0x5f,
    [0x47] = 0x6c,
    0x75,
    0x7d,
    0x84,
    0x6b,
    0x73,
    0x74,
    0x7c,
    0x69,
    0x72,
    0x7a,
    0x70,
    0x71,
    0x57,
    [0x56] = 0x13,
    0x56,
    0x5e,
    [0x80 | 0x1c] = 0x79,
    0x58,
    [0x80 | 0x35] = 0x77,
    [0x80 | 0x37] = 0x57,
    0x39,
    [0x80 | 0x47] = 0x6e,
    0x63,
    0x6f,
    [0x80 | 0x4b] = 0x61,
    [0x80 | 0x4d] = 0x6a,
    [0x80 | 0x4f] = 0x65,
    0x60,
    0x6d,
    0x67,
    0x64,
    [0x80 | 0x5b] = 0x8b,
    0x8c,
    0x8d,
};

/* Keys of set 3 that don't repeat: those that also report their release, and those that don't. */
static const u8 set3_break[] = {0x11, 0x12, 0x14, 0x19, 0x59};
static const u8 set3_make[] = {
    0x07, 0x08, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x39, 0x3f, 0x47, 0x4f, 0x56, 0x57,
    0x58, 0x5e, 0x5f, 0x62, 0x65, 0x67, 0x69, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x70, 0x71,
    0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x79, 0x7a, 0x7d, 0x7e, 0x84, 0x8b, 0x8c, 0x8d,
};

/* The key's index, or -1: no such key. */
static int key_index(unsigned key)
{
    unsigned code = key & 0xff;
    if (key == KEY_PAUSE)
        return INDEX_PAUSE;
    if (code == 0 || code > 0x7f || (key != code && key != (CODE_EXTENDED << 8 | code)))
        return -1;
    return (int)(key == code ? code : INDEX_EXTENDED | code);
}

static bool is_down(const struct ps2_keyboard *k, unsigned index)
{
    return k->down[index] || k->down[INDEX_EXTENDED | index];
}

/* --- from keys to scan codes --- */

static void add_byte(struct sequence *s, u8 byte)
{
    s->byte[s->len++] = byte;
}

/* A key of sets 1 and 2. */
static void add_code(const struct ps2_keyboard *k, struct sequence *s, bool extended, u8 code,
                     bool down)
{
    if (extended)
        add_byte(s, CODE_EXTENDED);
    if (k->scan_set == 1) {
        add_byte(s, code | (down ? 0 : 0x80));
        return;
    }
    if (!down)
        add_byte(s, CODE_BREAK);
    add_byte(s, set2_code[code]);
}

/* Pause says all at once; with Ctrl it is Break. */
static void add_pause(const struct ps2_keyboard *k, struct sequence *s)
{
    static const u8 set1[] = {0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5};
    static const u8 set2[] = {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77};
    if (is_down(k, INDEX_CTRL)) {
        add_code(k, s, true, CODE_SCROLL_LOCK, true);
        add_code(k, s, true, CODE_SCROLL_LOCK, false);
        return;
    }
    const u8 *bytes = k->scan_set == 1 ? set1 : set2;
    s->len = k->scan_set == 1 ? sizeof(set1) : sizeof(set2);
    memcpy(s->byte, bytes, s->len);
}

static enum print_form print_form(const struct ps2_keyboard *k)
{
    if (is_down(k, INDEX_ALT))
        return PRINT_SYSRQ;
    bool held = is_down(k, INDEX_CTRL) || k->down[INDEX_SHIFT] || k->down[INDEX_SHIFT_R];
    return held ? PRINT_PLAIN : PRINT_SHIFTED;
}

/* It is the shifted * of the keyboards before, so it pretends to hold shift. */
static void add_print(struct ps2_keyboard *k, struct sequence *s, bool down)
{
    if (k->print_form == PRINT_SYSRQ) {
        add_code(k, s, false, CODE_SYSRQ, down);
        return;
    }
    bool shift = k->print_form == PRINT_SHIFTED;
    if (shift && down)
        add_code(k, s, true, CODE_SHIFT, true);
    add_code(k, s, true, CODE_PRINT, down);
    if (shift && !down)
        add_code(k, s, true, CODE_SHIFT, false);
}

static void add_set3(const struct ps2_keyboard *k, struct sequence *s, unsigned index, bool down)
{
    u8 code = set3_code[index];
    if (!code || (!down && !(k->type[code] & TYPE_BREAK)))
        return;
    if (!down)
        add_byte(s, CODE_BREAK);
    add_byte(s, code);
}

static void make_sequence(struct ps2_keyboard *k, struct sequence *s, unsigned key, bool down)
{
    unsigned index = (unsigned)key_index(key);
    s->len = 0;
    if (k->scan_set == 3) {
        add_set3(k, s, index, down);
    } else if (key == KEY_PAUSE) {
        if (down)
            add_pause(k, s);
    } else if (key == KEY_PRINT) {
        add_print(k, s, down);
    } else {
        add_code(k, s, index & INDEX_EXTENDED, index & 0x7f, down);
    }
}

static void push_sequence(struct ps2_keyboard *k, const struct sequence *s)
{
    if (s->len > PS2_QUEUE_SIZE - k->codes.count)
        return;
    for (unsigned i = 0; i < s->len; i++)
        ps2_push(&k->codes, s->byte[i] | (i + 1 < s->len ? SEQUENCE_MORE : 0));
}

/* --- keys --- */

static void stop_repeat(struct ps2_keyboard *k)
{
    k->repeating = 0;
    timer_cancel(k->repeat_timer);
}

static u64 repeat_delay(const struct ps2_keyboard *k)
{
    return ((k->typematic >> 5 & 3) + 1) * (NSEC_PER_SEC / 4);
}

/* (8 + A) * 2^B / 240 seconds. */
static u64 repeat_period(const struct ps2_keyboard *k)
{
    u64 n = (u64)(8 + (k->typematic & 7)) << (k->typematic >> 3 & 3);
    return n * NSEC_PER_SEC / 240;
}

static bool repeats(const struct ps2_keyboard *k, unsigned key)
{
    if (key == KEY_PAUSE)
        return false;
    return k->scan_set != 3 || (k->type[set3_code[key_index(key)]] & TYPE_REPEAT);
}

static void press(struct ps2_keyboard *k, unsigned key, unsigned index)
{
    struct sequence s;
    if (k->down[index] || !k->scanning)
        return;
    if (key == KEY_PRINT)
        k->print_form = print_form(k);
    make_sequence(k, &s, key, true);
    if (k->codes.count + s.len > PRESS_QUEUE_MAX)
        return;
    push_sequence(k, &s);
    k->down[index] = true;
    stop_repeat(k);
    if (repeats(k, key)) {
        k->repeating = key;
        timer_arm(k->repeat_timer, clock_now(k->clock) + repeat_delay(k));
    }
}

static void release(struct ps2_keyboard *k, unsigned key, unsigned index)
{
    struct sequence s;
    if (!k->down[index])
        return;
    k->down[index] = false;
    if (k->repeating == key)
        stop_repeat(k);
    if (!k->scanning)
        return;
    make_sequence(k, &s, key, false);
    push_sequence(k, &s);
}

void ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down)
{
    int index = key_index(key);
    if (index < 0)
        return;
    k->bus.lock(k->bus.ctx);
    if (down)
        press(k, key, (unsigned)index);
    else
        release(k, key, (unsigned)index);
    k->bus.unlock(k->bus.ctx);
}

/* Repeats don't pile up: the guest gets one when it has read the one before. */
static void repeat_fired(void *ctx)
{
    struct ps2_keyboard *k = ctx;
    struct sequence s;
    k->bus.lock(k->bus.ctx);
    if (k->repeating) {
        if (!k->codes.count) {
            make_sequence(k, &s, k->repeating, true);
            push_sequence(k, &s);
        }
        timer_arm(k->repeat_timer, clock_now(k->clock) + repeat_period(k));
    }
    k->bus.unlock(k->bus.ctx);
}

/* --- commands --- */

static void reply(struct ps2_keyboard *k, u8 byte)
{
    ps2_push(&k->replies, byte);
}

static void drop_codes(struct ps2_keyboard *k)
{
    k->codes.count = 0;
    k->in_sequence = false;
    stop_repeat(k);
}

static void set_defaults(struct ps2_keyboard *k)
{
    drop_codes(k);
    k->scan_set = 2;
    k->typematic = TYPEMATIC_DEFAULT;
    memset(k->type, TYPE_REPEAT, sizeof(k->type));
    for (unsigned i = 0; i < ARRAY_SIZE(set3_break); i++)
        k->type[set3_break[i]] = TYPE_BREAK;
    for (unsigned i = 0; i < ARRAY_SIZE(set3_make); i++)
        k->type[set3_make[i]] = 0;
}

/* The kinds of keys in the order of commands F7 to FA and FB to FD. */
static u8 type_of_command(u8 command, u8 first)
{
    static const u8 types[] = {TYPE_REPEAT, TYPE_BREAK, 0, TYPE_REPEAT | TYPE_BREAK};
    return types[command - first];
}

static void parameter(struct ps2_keyboard *k, u8 command, u8 value)
{
    if (command == KBD_SCAN_SET && value > 3) {
        reply(k, PS2_REFUSE);
        return;
    }
    reply(k, PS2_ACK);
    if (command == KBD_SCAN_SET && value == 0) {
        reply(k, k->scan_set);
    } else if (command == KBD_SCAN_SET) {
        drop_codes(k);
        k->scan_set = value;
    } else if (command == KBD_TYPEMATIC) {
        k->typematic = value;
    } else if (command >= KBD_KEY_REPEAT) {
        k->type[value] = type_of_command(command, KBD_KEY_REPEAT);
        k->pending = command; /* until a command comes */
    }
}

static bool is_command(u8 command)
{
    return command >= KBD_LEDS && command != 0xef && command != 0xf1;
}

static bool has_parameter(u8 command)
{
    return command == KBD_LEDS || command == KBD_SCAN_SET || command == KBD_TYPEMATIC ||
           (command >= KBD_KEY_REPEAT && command <= KBD_KEY_MAKE);
}

static void execute(struct ps2_keyboard *k, u8 command)
{
    switch (command) {
    case KBD_IDENTIFY: /* an MF2 keyboard */
        reply(k, 0xab);
        reply(k, 0x83);
        break;
    case KBD_ENABLE:
        drop_codes(k);
        k->scanning = true;
        break;
    case KBD_DISABLE:
        set_defaults(k);
        k->scanning = false;
        break;
    case KBD_DEFAULTS:
        set_defaults(k);
        break;
    case KBD_RESET:
        ps2_keyboard_reset(k);
        reply(k, PS2_ACK);
        reply(k, PS2_BAT_OK);
        break;
    default:
        if (command >= KBD_ALL_REPEAT && command <= KBD_ALL_REPEAT_BREAK)
            memset(k->type, type_of_command(command, KBD_ALL_REPEAT), sizeof(k->type));
        break;
    }
}

void ps2_keyboard_write(struct ps2_keyboard *k, u8 value)
{
    u8 pending = k->pending;
    k->pending = 0;
    if (pending && !is_command(value)) {
        parameter(k, pending, value);
    } else if (value == KBD_ECHO) {
        reply(k, KBD_ECHO);
    } else if (value == KBD_RESEND) {
        reply(k, k->last);
    } else if (!is_command(value)) {
        reply(k, PS2_REFUSE);
    } else {
        reply(k, PS2_ACK);
        if (has_parameter(value))
            k->pending = value;
        execute(k, value);
    }
}

bool ps2_keyboard_read(struct ps2_keyboard *k, u8 *byte)
{
    u16 next;
    if (k->in_sequence || !ps2_pop(&k->replies, &next)) {
        if (!ps2_pop(&k->codes, &next))
            return false;
        k->in_sequence = next & SEQUENCE_MORE;
    }
    *byte = k->last = (u8)next;
    return true;
}

/* --- life --- */

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
    set_defaults(k);
    k->replies.count = 0;
    k->pending = 0;
    k->scanning = true;
    memset(k->down, 0, sizeof(k->down));
}

int ps2_keyboard_create(struct clock *clock, const struct ps2_bus *bus, struct ps2_keyboard **out,
                        struct error *err)
{
    struct ps2_keyboard *k = calloc(1, sizeof(*k));
    if (k)
        k->repeat_timer = timer_create_on(clock, repeat_fired, k);
    if (!k || !k->repeat_timer) {
        free(k);
        return error_set(err, ENOMEM, "no memory for the keyboard");
    }
    k->bus = *bus;
    k->clock = clock;
    ps2_keyboard_reset(k);
    *out = k;
    return 0;
}

void ps2_keyboard_destroy(struct ps2_keyboard *k)
{
    if (!k)
        return;
    timer_destroy(k->repeat_timer);
    free(k);
}
