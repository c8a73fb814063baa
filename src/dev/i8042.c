/*
 * The keyboard controller of an AT with PS/2 ports, as in IBM's PS/2 Hardware Interface Technical
 * Reference. Bytes for the CPU come from the controller itself, the keyboard and the mouse; one at
 * a time moves into the output buffer, which sets the status bits and the interrupt. The keyboard
 * speaks scan code set 2, which the controller translates to set 1.
 */
#include "dev/i8042.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/pcmap.h"
#include "dev/ps2_keyboard.h"
#include "dev/ps2_mouse.h"
#include "dev/wire.h"

#define STATUS_OUT_FULL 0x01
#define STATUS_SYSTEM   0x04
#define STATUS_COMMAND  0x08 /* the last write was to the command port */
#define STATUS_UNLOCKED 0x10
#define STATUS_AUX      0x20

#define CTR_KBD_INT   0x01
#define CTR_AUX_INT   0x02
#define CTR_SYSTEM    0x04
#define CTR_KBD_OFF   0x10
#define CTR_AUX_OFF   0x20
#define CTR_TRANSLATE 0x40

#define OUTPORT_NO_RESET 0x01
#define OUTPORT_A20      0x02
#define OUTPORT_KBD_FULL 0x10
#define OUTPORT_AUX_FULL 0x20
#define OUTPORT_FIXED    0xcc

enum controller_command {
    CMD_READ_RAM = 0x20,  /* to 0x3f */
    CMD_WRITE_RAM = 0x60, /* to 0x7f */
    CMD_TEST_PASSWORD = 0xa4,
    CMD_AUX_OFF = 0xa7,
    CMD_AUX_ON = 0xa8,
    CMD_AUX_TEST = 0xa9,
    CMD_SELF_TEST = 0xaa,
    CMD_KBD_TEST = 0xab,
    CMD_KBD_OFF = 0xad,
    CMD_KBD_ON = 0xae,
    CMD_READ_INPORT = 0xc0,
    CMD_READ_OUTPORT = 0xd0,
    CMD_WRITE_OUTPORT = 0xd1,
    CMD_WRITE_KBD_BUFFER = 0xd2,
    CMD_WRITE_AUX_BUFFER = 0xd3,
    CMD_WRITE_AUX = 0xd4,
    CMD_A20_CLOSE = 0xdd,
    CMD_A20_OPEN = 0xdf,
    CMD_READ_TEST = 0xe0,
    CMD_PULSE = 0xf0, /* to 0xff: pulses the output port bits that are 0 */
};

#define CODE_BREAK 0xf0
#define QUEUE_AUX  0x100 /* in the controller's queue: as if from the second port */

struct i8042 {
    struct power power;
    struct wire irq_keyboard, irq_aux;
    struct port_bus *bus; /* NULL: not attached */
    pthread_mutex_t lock;
    struct ps2_keyboard *keyboard;
    struct ps2_mouse *mouse;
    struct ps2_queue own; /* the controller's answers */
    bool out_full, out_aux;
    u8 out;
    u8 status;         /* the bits that are kept: SYSTEM, COMMAND */
    u8 ram[32];        /* byte 0 is the command byte (CTR) */
    u8 pending;        /* controller command that waits for its data byte, or 0 */
    bool break_prefix; /* translation has swallowed F0 */
};

/* Requests to the machine that wait until the lock is dropped. */
struct requests {
    bool reset;
    bool a20, a20_open;
};

/* Scan code set 2 to set 1 (the controller's ROM table). */
static const u8 set2_to_set1[128] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};

static u8 translate(u8 code)
{
    if (code < ARRAY_SIZE(set2_to_set1))
        return set2_to_set1[code];
    if (code == 0x83)
        return 0x41;
    return code == 0x84 ? 0x54 : code;
}

/* --- output buffer --- */

/* The next keyboard byte as the CPU is to see it; a break prefix becomes bit 7 of what follows. */
static bool keyboard_pop(struct i8042 *k, u8 *byte)
{
    bool translated = k->ram[0] & CTR_TRANSLATE;
    while (ps2_keyboard_read(k->keyboard, byte)) {
        if (!translated)
            return true;
        if (*byte == CODE_BREAK) {
            k->break_prefix = true;
            continue;
        }
        *byte = translate(*byte) | (k->break_prefix ? 0x80 : 0);
        k->break_prefix = false;
        return true;
    }
    return false;
}

static void fill_output(struct i8042 *k)
{
    u16 own;
    u8 byte;
    if (k->out_full)
        return;
    if (ps2_pop(&k->own, &own)) {
        byte = (u8)own;
        k->out_aux = own & QUEUE_AUX;
    } else if (!(k->ram[0] & CTR_KBD_OFF) && keyboard_pop(k, &byte)) {
        k->out_aux = false;
    } else if (!(k->ram[0] & CTR_AUX_OFF) && ps2_mouse_read(k->mouse, &byte)) {
        k->out_aux = true;
    } else {
        return;
    }
    k->out = byte;
    k->out_full = true;
}

static void i8042_lock(void *ctx)
{
    struct i8042 *k = ctx;
    pthread_mutex_lock(&k->lock);
}

static u8 read_status(const struct i8042 *k)
{
    u8 status = k->status | STATUS_UNLOCKED;
    if (k->out_full)
        status |= STATUS_OUT_FULL | (k->out_aux ? STATUS_AUX : 0);
    return status;
}

static void i8042_unlock(void *ctx)
{
    struct i8042 *k = ctx;
    fill_output(k);
    if (k->bus)
        port_show(k->bus, PC_I8042_CMD, read_status(k));
    wire_level(&k->irq_keyboard, k->out_full && !k->out_aux && (k->ram[0] & CTR_KBD_INT));
    wire_level(&k->irq_aux, k->out_full && k->out_aux && (k->ram[0] & CTR_AUX_INT));
    pthread_mutex_unlock(&k->lock);
    wire_flush(&k->irq_keyboard);
    wire_flush(&k->irq_aux);
}

static void reply(struct i8042 *k, u8 byte)
{
    ps2_push(&k->own, byte);
}

/* --- the controller --- */

static void write_outport(u8 value, struct requests *req)
{
    req->a20 = true;
    req->a20_open = value & OUTPORT_A20;
    req->reset = !(value & OUTPORT_NO_RESET);
}

static u8 read_outport(const struct i8042 *k)
{
    bool a20 = k->power.ops->get_a20(k->power.ctx);
    u8 full = k->out_aux ? OUTPORT_AUX_FULL : OUTPORT_KBD_FULL;
    return OUTPORT_FIXED | OUTPORT_NO_RESET | (a20 ? OUTPORT_A20 : 0) | (k->out_full ? full : 0);
}

static void write_ram(struct i8042 *k, unsigned i, u8 value)
{
    k->ram[i] = value;
    if (i == 0)
        k->status = (k->status & ~STATUS_SYSTEM) | (value & CTR_SYSTEM ? STATUS_SYSTEM : 0);
}

/* The data byte of a controller command. */
static void controller_data(struct i8042 *k, u8 command, u8 value, struct requests *req)
{
    switch (command) {
    case CMD_WRITE_OUTPORT:
        write_outport(value, req);
        break;
    case CMD_WRITE_KBD_BUFFER:
        reply(k, value);
        break;
    case CMD_WRITE_AUX_BUFFER:
        ps2_push(&k->own, value | QUEUE_AUX);
        break;
    case CMD_WRITE_AUX:
        k->ram[0] &= ~CTR_AUX_OFF;
        ps2_mouse_write(k->mouse, value);
        break;
    default:
        write_ram(k, command % sizeof(k->ram), value);
        break;
    }
}

/* Commands that only answer with a byte, or only set and clear bits of the command byte. */
static const struct simple_command {
    u8 command;
    bool answers;
    u8 answer;
    u8 set, clear;
} simple_commands[] = {
    /* clang-format off */
    {CMD_TEST_PASSWORD, true,  0xf1, 0,           0}, /* none installed */
    {CMD_AUX_OFF,       false, 0x00, CTR_AUX_OFF, 0},
    {CMD_AUX_ON,        false, 0x00, 0,           CTR_AUX_OFF},
    {CMD_AUX_TEST,      true,  0x00, 0,           0}, /* no error */
    {CMD_SELF_TEST,     true,  0x55, CTR_SYSTEM,  0}, /* passed */
    {CMD_KBD_TEST,      true,  0x00, 0,           0}, /* no error */
    {CMD_KBD_OFF,       false, 0x00, CTR_KBD_OFF, 0},
    {CMD_KBD_ON,        false, 0x00, 0,           CTR_KBD_OFF},
    {CMD_READ_INPORT,   true,  0x80, 0,           0}, /* keyboard not locked */
    {CMD_READ_TEST,     true,  0x00, 0,           0}, /* clock lines low */
    /* clang-format on */
};

static bool simple_command(struct i8042 *k, u8 command)
{
    for (size_t i = 0; i < ARRAY_SIZE(simple_commands); i++) {
        const struct simple_command *s = &simple_commands[i];
        if (s->command != command)
            continue;
        write_ram(k, 0, (k->ram[0] | s->set) & ~s->clear);
        if (s->answers)
            reply(k, s->answer);
        return true;
    }
    return false;
}

static void controller_command(struct i8042 *k, u8 command, struct requests *req)
{
    k->status |= STATUS_COMMAND;
    k->pending = 0;
    if (simple_command(k, command))
        return;
    if (command >= CMD_READ_RAM && command < CMD_READ_RAM + sizeof(k->ram)) {
        reply(k, k->ram[command - CMD_READ_RAM]);
    } else if (command >= CMD_WRITE_RAM && command < CMD_WRITE_RAM + sizeof(k->ram)) {
        k->pending = command;
    } else if (command >= CMD_WRITE_OUTPORT && command <= CMD_WRITE_AUX) {
        k->pending = command;
    } else if (command == CMD_READ_OUTPORT) {
        reply(k, read_outport(k));
    } else if (command == CMD_A20_CLOSE || command == CMD_A20_OPEN) {
        req->a20 = true;
        req->a20_open = command == CMD_A20_OPEN;
    } else if (command >= CMD_PULSE) {
        req->reset = !(command & OUTPORT_NO_RESET);
    }
}

static u8 read_data(struct i8042 *k)
{
    k->out_full = false;
    /* The next byte, which may follow at once, is another edge. */
    wire_level(&k->irq_keyboard, false);
    wire_level(&k->irq_aux, false);
    return k->out;
}

/* Talking to the keyboard switches its port on. */
static void keyboard_write(struct i8042 *k, u8 value)
{
    k->ram[0] &= ~CTR_KBD_OFF;
    ps2_keyboard_write(k->keyboard, value);
}

static u32 i8042_in(void *ctx, u16 port, unsigned size)
{
    struct i8042 *k = ctx;
    (void)size;
    pthread_mutex_lock(&k->lock);
    u8 value = port == PC_I8042_DATA ? read_data(k) : read_status(k);
    i8042_unlock(k);
    return value;
}

static void i8042_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct i8042 *k = ctx;
    struct requests req = {false, false, false};
    (void)size;
    pthread_mutex_lock(&k->lock);
    if (port == PC_I8042_CMD) {
        controller_command(k, (u8)value, &req);
    } else {
        u8 command = k->pending;
        k->status &= ~STATUS_COMMAND;
        k->pending = 0;
        if (command)
            controller_data(k, command, (u8)value, &req);
        else
            keyboard_write(k, (u8)value);
    }
    i8042_unlock(k);
    if (req.a20)
        k->power.ops->set_a20(k->power.ctx, req.a20_open);
    if (req.reset)
        k->power.ops->reset(k->power.ctx);
}

static const struct port_ops i8042_ops = {i8042_in, i8042_out};

/* --- keys and movements --- */

static void sink_key(void *ctx, unsigned key, bool down)
{
    struct i8042 *k = ctx;
    ps2_keyboard_key(k->keyboard, key, down);
}

static void sink_pointer(void *ctx, int dx, int dy, int dz, unsigned buttons)
{
    struct i8042 *k = ctx;
    ps2_mouse_move(k->mouse, dx, dy, dz, buttons);
}

struct input_sink i8042_input(struct i8042 *k)
{
    return (struct input_sink){.key = sink_key, .pointer = sink_pointer, .ctx = k};
}

/* --- life --- */

/* As firmware leaves it: tested, translating, keyboard on with its interrupt, second port off. */
static void set_reset_state(struct i8042 *k)
{
    ps2_keyboard_reset(k->keyboard);
    ps2_mouse_reset(k->mouse);
    k->own.count = 0;
    memset(k->ram, 0, sizeof(k->ram));
    k->out_full = false;
    k->status = 0;
    k->pending = 0;
    k->break_prefix = false;
    write_ram(k, 0, CTR_KBD_INT | CTR_SYSTEM | CTR_AUX_OFF | CTR_TRANSLATE);
}

void i8042_reset(struct i8042 *k)
{
    pthread_mutex_lock(&k->lock);
    set_reset_state(k);
    i8042_unlock(k);
}

int i8042_create(const struct power *power, struct clock *clock, struct irq_line keyboard,
                 struct irq_line aux, struct i8042 **out, struct error *err)
{
    struct i8042 *k = calloc(1, sizeof(*k));
    if (!k)
        return error_set(err, ENOMEM, "no memory for the keyboard controller");
    k->power = *power;
    wire_init(&k->irq_keyboard, keyboard);
    wire_init(&k->irq_aux, aux);
    pthread_mutex_init(&k->lock, NULL);
    struct ps2_bus bus = {.lock = i8042_lock, .unlock = i8042_unlock, .ctx = k};
    int rc = ps2_keyboard_create(clock, &bus, &k->keyboard, err);
    if (rc == 0)
        rc = ps2_mouse_create(clock, &bus, &k->mouse, err);
    if (rc < 0) {
        i8042_destroy(k);
        return rc;
    }
    set_reset_state(k);
    *out = k;
    return 0;
}

void i8042_destroy(struct i8042 *k)
{
    if (!k)
        return;
    ps2_keyboard_destroy(k->keyboard);
    ps2_mouse_destroy(k->mouse);
    wire_destroy(&k->irq_keyboard);
    wire_destroy(&k->irq_aux);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

int i8042_attach(struct i8042 *k, struct port_bus *bus, struct error *err)
{
    int rc = portbus_add(bus, PC_I8042_DATA, 1, &i8042_ops, k, NULL, false, err);
    if (rc == 0)
        rc = portbus_add(bus, PC_I8042_CMD, 1, &i8042_ops, k, NULL, false, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&k->lock);
    k->bus = bus;
    i8042_unlock(k);
    return 0;
}
