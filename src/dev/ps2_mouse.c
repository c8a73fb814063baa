/*
 * The mouse. Movements add up until the guest has read the packet before and a period of the sample
 * rate is over. No click is lost in that: movements are kept apart where the buttons changed.
 */
#include "dev/ps2_mouse.h"

#include <errno.h>
#include <stdlib.h>

#include "base/timebase.h"
#include "host/input.h"

enum mouse_command {
    MOUSE_SCALE_1_1 = 0xe6,
    MOUSE_SCALE_2_1 = 0xe7,
    MOUSE_RESOLUTION = 0xe8,
    MOUSE_STATUS = 0xe9,
    MOUSE_STREAM = 0xea,
    MOUSE_READ = 0xeb,
    MOUSE_WRAP_OFF = 0xec,
    MOUSE_WRAP = 0xee,
    MOUSE_REMOTE = 0xf0,
    MOUSE_IDENTIFY = 0xf2,
    MOUSE_RATE = 0xf3,
    MOUSE_ENABLE = 0xf4,
    MOUSE_DISABLE = 0xf5,
    MOUSE_DEFAULTS = 0xf6,
    MOUSE_RESEND = 0xfe,
    MOUSE_RESET = 0xff,
};

/* What it says it is. */
#define ID_PLAIN    0
#define ID_WHEEL    3
#define ID_EXPLORER 4

#define PACKET_ALWAYS   0x08
#define PACKET_X_SIGN   0x10
#define PACKET_Y_SIGN   0x20
#define PACKET_MAX      4
#define EXPLORER_SIDE   0x10
#define EXPLORER_EXTRA  0x20
#define STATUS_SCALED   0x10
#define STATUS_ENABLED  0x20
#define STATUS_REMOTE   0x40
#define STATUS_LEFT     0x04
#define STATUS_MIDDLE   0x02
#define STATUS_RIGHT    0x01
#define BUTTONS_PLAIN   (POINTER_LEFT | POINTER_RIGHT | POINTER_MIDDLE)
#define MOVE_MAX        4096 /* what is not reported yet; more is lost */
#define RATE_DEFAULT    100
#define RESOLUTION_4_MM 2

#define EVENTS 16

/* Movement with the same buttons. */
struct mouse_event {
    int dx, dy, dz;
    u8 buttons;
};

struct ps2_mouse {
    struct ps2_bus bus;
    struct clock *clock;
    struct timer *sample_timer;
    bool sampled; /* the timer runs: too early for another packet */
    struct ps2_queue queue;
    u8 sent[PACKET_MAX]; /* the last answer, for RESEND */
    unsigned sent_len;
    u8 pending; /* command that waits for its parameter, or 0 */
    u8 id;
    u8 rate, resolution;
    u8 knock[2]; /* the two rates before */
    bool scaled, enabled, remote, wrapping;
    u8 reported; /* buttons of the last packet */
    /* The last one is what the mouse does now. */
    struct mouse_event event[EVENTS];
    unsigned nevents; /* at least 1 */
};

/* --- packets --- */

static void answer(struct ps2_mouse *m, const u8 *bytes, unsigned len)
{
    for (unsigned i = 0; i < len; i++)
        ps2_push(&m->queue, bytes[i]);
    memcpy(m->sent, bytes, len);
    m->sent_len = len;
}

static void answer_byte(struct ps2_mouse *m, u8 byte)
{
    answer(m, &byte, 1);
}

static bool changed(const struct ps2_mouse *m)
{
    const struct mouse_event *e = &m->event[0];
    return m->nevents > 1 || e->dx || e->dy || e->dz || e->buttons != m->reported;
}

/* Takes as much of *value as fits in a packet. */
static int take(int *value, int max)
{
    int taken = MAX(MIN(*value, max), -max);
    *value -= taken;
    return taken;
}

/* 2:1 scaling, in stream mode. */
static int scale(int v)
{
    static const int small[] = {0, 1, 1, 3, 6, 9};
    int size = abs(v);
    int scaled = size < (int)ARRAY_SIZE(small) ? small[size] : MIN(2 * size, 255);
    return v < 0 ? -scaled : scaled;
}

static void send_packet(struct ps2_mouse *m, bool scaled)
{
    struct mouse_event *e = &m->event[0];
    u8 packet[PACKET_MAX];
    unsigned len = 3;
    int dx = take(&e->dx, 255), dy = -take(&e->dy, 255);
    if (scaled) {
        dx = scale(dx);
        dy = scale(dy);
    }
    packet[0] = PACKET_ALWAYS | (e->buttons & BUTTONS_PLAIN) | (dx < 0 ? PACKET_X_SIGN : 0) |
                (dy < 0 ? PACKET_Y_SIGN : 0);
    packet[1] = (u8)dx;
    packet[2] = (u8)dy;
    if (m->id == ID_WHEEL) {
        packet[len++] = (u8)take(&e->dz, 127);
    } else if (m->id == ID_EXPLORER) {
        u8 more = (e->buttons & POINTER_SIDE ? EXPLORER_SIDE : 0) |
                  (e->buttons & POINTER_EXTRA ? EXPLORER_EXTRA : 0);
        packet[len++] = (u8)(take(&e->dz, 7) & 0x0f) | more;
    } else {
        e->dz = 0;
    }
    m->reported = e->buttons;
    if (m->nevents > 1 && !e->dx && !e->dy && !e->dz)
        memmove(m->event, m->event + 1, --m->nevents * sizeof(m->event[0]));
    answer(m, packet, len);
}

/* Stream mode: a packet, if there is something to say and it is time. */
static void sample(struct ps2_mouse *m)
{
    if (!m->enabled || m->remote || m->wrapping || m->sampled || m->queue.count || !changed(m))
        return;
    send_packet(m, m->scaled);
    m->sampled = true;
    timer_arm(m->sample_timer, clock_now(m->clock) + NSEC_PER_SEC / m->rate);
}

static void sample_fired(void *ctx)
{
    struct ps2_mouse *m = ctx;
    m->bus.lock(m->bus.ctx);
    m->sampled = false;
    sample(m);
    m->bus.unlock(m->bus.ctx);
}

static void forget_moves(struct ps2_mouse *m)
{
    u8 buttons = m->event[m->nevents - 1].buttons;
    m->nevents = 1;
    m->event[0] = (struct mouse_event){.buttons = buttons};
    m->reported = buttons;
}

static void add(int *sum, int delta)
{
    delta = MAX(MIN(delta, MOVE_MAX), -MOVE_MAX);
    *sum = MAX(MIN(*sum + delta, MOVE_MAX), -MOVE_MAX);
}

void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, unsigned buttons)
{
    m->bus.lock(m->bus.ctx);
    struct mouse_event *e = &m->event[m->nevents - 1];
    if (changed(m) && e->buttons != (u8)buttons && m->nevents < EVENTS) {
        e = &m->event[m->nevents++];
        *e = (struct mouse_event){0};
    }
    e->buttons = (u8)buttons;
    add(&e->dx, dx);
    add(&e->dy, dy);
    add(&e->dz, dz);
    if (!m->enabled && !m->remote)
        forget_moves(m);
    sample(m);
    m->bus.unlock(m->bus.ctx);
}

/* --- commands --- */

static void set_defaults(struct ps2_mouse *m)
{
    forget_moves(m);
    m->rate = RATE_DEFAULT;
    m->resolution = RESOLUTION_4_MM;
    m->scaled = m->enabled = m->remote = m->wrapping = false;
}

static bool is_rate(u8 value)
{
    static const u8 rates[] = {10, 20, 40, 60, 80, 100, 200};
    return memchr(rates, value, sizeof(rates)) != NULL;
}

static void set_rate(struct ps2_mouse *m, u8 rate)
{
    if (m->knock[0] == 200 && m->knock[1] == 100 && rate == 80)
        m->id = ID_WHEEL;
    if (m->knock[0] == 200 && m->knock[1] == 200 && rate == 80)
        m->id = ID_EXPLORER;
    m->knock[0] = m->knock[1];
    m->knock[1] = rate;
    m->rate = rate;
}

static void parameter(struct ps2_mouse *m, u8 command, u8 value)
{
    bool good = command == MOUSE_RATE ? is_rate(value) : value <= 3;
    answer_byte(m, good ? PS2_ACK : PS2_REFUSE);
    if (good && command == MOUSE_RATE)
        set_rate(m, value);
    else if (good)
        m->resolution = value;
}

static void send_status(struct ps2_mouse *m)
{
    u8 buttons = m->event[m->nevents - 1].buttons;
    u8 status = (m->remote ? STATUS_REMOTE : 0) | (m->enabled ? STATUS_ENABLED : 0) |
                (m->scaled ? STATUS_SCALED : 0) | (buttons & POINTER_LEFT ? STATUS_LEFT : 0) |
                (buttons & POINTER_MIDDLE ? STATUS_MIDDLE : 0) |
                (buttons & POINTER_RIGHT ? STATUS_RIGHT : 0);
    answer(m, (u8[]){status, m->resolution, m->rate}, 3);
}

static void set_modes(struct ps2_mouse *m, u8 command)
{
    switch (command) {
    case MOUSE_SCALE_1_1:
    case MOUSE_SCALE_2_1:
        m->scaled = command == MOUSE_SCALE_2_1;
        break;
    case MOUSE_STREAM:
    case MOUSE_REMOTE:
        m->remote = command == MOUSE_REMOTE;
        forget_moves(m);
        break;
    case MOUSE_WRAP:
        m->wrapping = true;
        break;
    case MOUSE_ENABLE:
    case MOUSE_DISABLE:
        m->enabled = command == MOUSE_ENABLE;
        forget_moves(m);
        break;
    default:
        set_defaults(m);
        break;
    }
}

static void execute(struct ps2_mouse *m, u8 command)
{
    answer_byte(m, PS2_ACK);
    switch (command) {
    case MOUSE_RESOLUTION:
    case MOUSE_RATE:
        m->pending = command;
        break;
    case MOUSE_STATUS:
        send_status(m);
        break;
    case MOUSE_READ:
        send_packet(m, false);
        break;
    case MOUSE_WRAP_OFF:
        break;
    case MOUSE_IDENTIFY:
        answer_byte(m, m->id);
        break;
    case MOUSE_RESET:
        ps2_mouse_reset(m);
        answer_byte(m, PS2_ACK);
        answer(m, (u8[]){PS2_BAT_OK, m->id}, 2);
        break;
    default:
        set_modes(m, command);
        break;
    }
}

static bool is_command(u8 value)
{
    static const u8 commands[] = {
        MOUSE_SCALE_1_1, MOUSE_SCALE_2_1, MOUSE_RESOLUTION, MOUSE_STATUS,   MOUSE_STREAM,
        MOUSE_READ,      MOUSE_WRAP_OFF,  MOUSE_WRAP,       MOUSE_REMOTE,   MOUSE_IDENTIFY,
        MOUSE_RATE,      MOUSE_ENABLE,    MOUSE_DISABLE,    MOUSE_DEFAULTS, MOUSE_RESET,
    };
    return memchr(commands, value, sizeof(commands)) != NULL;
}

/* A command ends what the mouse was sending. */
void ps2_mouse_write(struct ps2_mouse *m, u8 value)
{
    u8 pending = m->pending;
    m->pending = 0;
    m->queue.count = 0;
    if (m->wrapping && value != MOUSE_WRAP_OFF && value != MOUSE_RESET) {
        answer_byte(m, value);
        return;
    }
    m->wrapping = false;
    if (pending && value != MOUSE_RESET) {
        parameter(m, pending, value);
    } else if (value == MOUSE_RESEND) {
        u8 again[PACKET_MAX];
        memcpy(again, m->sent, sizeof(again));
        answer(m, again, m->sent_len);
    } else if (is_command(value)) {
        execute(m, value);
    } else {
        answer_byte(m, PS2_REFUSE);
    }
}

bool ps2_mouse_read(struct ps2_mouse *m, u8 *byte)
{
    u16 next;
    sample(m);
    if (!ps2_pop(&m->queue, &next))
        return false;
    *byte = (u8)next;
    return true;
}

/* --- life --- */

void ps2_mouse_reset(struct ps2_mouse *m)
{
    set_defaults(m);
    timer_cancel(m->sample_timer);
    m->sampled = false;
    m->queue.count = 0;
    m->sent_len = 0;
    m->pending = 0;
    m->id = ID_PLAIN;
    memset(m->knock, 0, sizeof(m->knock));
}

int ps2_mouse_create(struct clock *clock, const struct ps2_bus *bus, struct ps2_mouse **out,
                     struct error *err)
{
    struct ps2_mouse *m = calloc(1, sizeof(*m));
    if (m)
        m->sample_timer = timer_create_on(clock, sample_fired, m);
    if (!m || !m->sample_timer) {
        free(m);
        return error_set(err, ENOMEM, "no memory for the mouse");
    }
    m->bus = *bus;
    m->clock = clock;
    m->nevents = 1;
    ps2_mouse_reset(m);
    *out = m;
    return 0;
}

void ps2_mouse_destroy(struct ps2_mouse *m)
{
    if (!m)
        return;
    timer_destroy(m->sample_timer);
    free(m);
}
