/*
 * The 8254. Time is a tick number, guest time times 1193182 Hz; a counter is the tick at which it
 * was loaded and the count, and everything that can be read (count, output, status) follows from
 * these and from now. Only counter 0 needs to act by itself: a clock timer goes off at each rising
 * edge of its output. If the host was late for several edges there is one interrupt, and the phase
 * is kept.
 */
#include "dev/i8254.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/tunables.h"
#include "dev/pcmap.h"

#define NEVER (~0ULL)

/* A memory refresh every 18 ticks, which port 0x61 shows as a toggle (PIIX3, NMISC bit 4). */
#define REFRESH_TICKS 18

/* Port 0x61. */
#define NMISC_GATE2    0x01
#define NMISC_WRITABLE 0x0f
#define NMISC_REFRESH  0x10
#define NMISC_OUT2     0x20

#define CONTROL_PORT 3
#define READ_BACK    3 /* in the counter field of the control word */
#define STATUS_OUT   0x80
#define STATUS_NULL  0x40

enum access { ACCESS_LATCH, ACCESS_LSB, ACCESS_MSB, ACCESS_BOTH };

struct counter {
    u8 mode; /* 0..5 */
    u8 access;
    bool bcd;
    bool gate;
    bool loaded;    /* a count came since the control word */
    bool triggered; /* modes 1 and 5: the gate rose since then */
    bool counting;
    u64 start;     /* while counting: tick of the load */
    u64 held;      /* while not: ticks that had passed */
    u32 count;     /* 1..65536 */
    bool has_next; /* a new count, to be loaded at tick next_at */
    u32 next;
    u64 next_at;
    /* The byte-wide bus. */
    bool write_msb, read_msb; /* ACCESS_BOTH: the second byte is due */
    u8 lsb;                   /* the first byte written */
    bool count_latched, status_latched;
    u16 latch;
    u8 status;
};

struct i8254 {
    struct clock *clock;
    struct timer *timer;
    struct irq_line irq0;
    pthread_mutex_t lock;
    struct counter counter[3];
    u64 edge; /* tick of counter 0's next interrupt, or NEVER */
    u8 nmisc;
};

static u32 modulus(const struct counter *c)
{
    return c->bcd ? 10000 : 65536;
}

static u32 from_bcd(u16 v)
{
    return (u32)((v >> 12) * 1000 + (v >> 8 & 15) * 100 + (v >> 4 & 15) * 10 + (v & 15));
}

static u16 to_bcd(u32 v)
{
    return (u16)((v / 1000) << 12 | (v / 100 % 10) << 8 | (v / 10 % 10) << 4 | v % 10);
}

/* Rate generator and square wave: they reload themselves. */
static bool is_periodic(const struct counter *c)
{
    return c->mode == 2 || c->mode == 3;
}

/* Started by a rising gate rather than by the count. */
static bool is_triggered(const struct counter *c)
{
    return c->mode == 1 || c->mode == 5;
}

static u64 elapsed(const struct counter *c, u64 now)
{
    return c->counting ? now - c->start : c->held;
}

/* The counting element, as a number. */
static u32 count_at(const struct counter *c, u64 now)
{
    u64 done = elapsed(c, now);
    u32 n = c->count;
    if (c->mode == 2)
        return n - (u32)(done % n);
    if (c->mode == 3) { /* down by two, twice a period; an odd count's first half is longer */
        u32 half = (n + 1) / 2, pos = (u32)(done % n);
        return (n & ~1U) - 2 * (pos < half ? pos : pos - half);
    }
    u32 wrap = modulus(c);
    return (n + wrap - (u32)(done % wrap)) % wrap;
}

static bool out_at(const struct counter *c, u64 now)
{
    u64 done = elapsed(c, now);
    bool idle = !c->loaded || (is_triggered(c) && !c->triggered);
    if (idle)
        return c->mode != 0;
    switch (c->mode) {
    case 0:
    case 1:
        return done >= c->count;
    case 2:
        return !c->gate || done % c->count != c->count - 1;
    case 3:
        return !c->gate || done % c->count < (c->count + 1) / 2;
    default:
        return done != c->count;
    }
}

/* Tick of the next rising edge after now. Periodic edges keep a distance that the host can keep up
 * with; the phase is that of the count. */
static u64 next_edge(const struct counter *c, u64 now)
{
    u64 gap = ns_to_ticks(TUNE_TIMER_MIN_GAP_NS, I8254_HZ);
    if (!c->counting || is_triggered(c))
        return NEVER;
    if (is_periodic(c)) {
        u64 done = elapsed(c, now) + (c->count < gap ? gap - c->count : 0);
        return c->start + (done / c->count + 1) * c->count;
    }
    u64 edge = c->start + c->count + (c->mode == 4);
    return edge > now ? edge : NEVER;
}

static void load(struct counter *c, u32 count, u64 now)
{
    c->count = count;
    c->has_next = false;
    c->loaded = true;
    c->start = now;
    c->held = 0;
    c->counting = c->gate;
}

/* Takes over a count whose time has come. */
static void settle(struct counter *c, u64 now)
{
    if (c->has_next && now >= c->next_at)
        load(c, c->next, c->next_at);
}

/* A whole count has been written. The periodic modes finish their period first, modes 1 and 5 wait
 * for the gate (datasheet, figure "Gate pin operations" and mode definitions). */
static void set_count(struct counter *c, u16 raw, u64 now)
{
    u32 count = c->bcd ? from_bcd(raw) : raw;
    if (count == 0)
        count = modulus(c);
    bool wait = is_triggered(c) || (is_periodic(c) && c->counting);
    if (!wait) {
        load(c, count, now);
        return;
    }
    c->next = count;
    c->next_at = is_triggered(c) ? NEVER : c->start + (elapsed(c, now) / c->count + 1) * c->count;
    c->has_next = true;
    if (!c->loaded) {
        c->count = count;
        c->loaded = true;
    }
}

static void gate_rises(struct counter *c, u64 now)
{
    c->gate = true;
    if (!c->loaded)
        return;
    if (is_triggered(c) || is_periodic(c)) {
        c->triggered = true;
        load(c, c->has_next ? c->next : c->count, now);
    } else {
        c->start = now - c->held;
        c->counting = true;
    }
}

static void gate_falls(struct counter *c, u64 now)
{
    c->gate = false;
    if (is_triggered(c))
        return;
    c->held = elapsed(c, now);
    c->counting = false;
}

static void arm(struct i8254 *pit, u64 now)
{
    pit->edge = next_edge(&pit->counter[0], now);
    if (pit->edge == NEVER)
        timer_cancel(pit->timer);
    else
        timer_arm(pit->timer, ticks_to_ns(pit->edge, I8254_HZ));
}

/* Brings the chip up to now: an interrupt that is due comes before anything that would show it.
 * Returns whether one did. */
static bool advance(struct i8254 *pit, u64 now)
{
    for (unsigned i = 0; i < ARRAY_SIZE(pit->counter); i++)
        settle(&pit->counter[i], now);
    if (pit->edge == NEVER || now < pit->edge)
        return false;
    irq_set(&pit->irq0, 0);
    irq_set(&pit->irq0, 1);
    arm(pit, now);
    return true;
}

static u64 begin(struct i8254 *pit)
{
    u64 now;
    pthread_mutex_lock(&pit->lock);
    /* An interrupt wakes other threads, which may take the processor from this one for
     * milliseconds: a counter that were to start at the time before that would spoil a guest's
     * calibration. */
    do
        now = ns_to_ticks(clock_now(pit->clock), I8254_HZ);
    while (advance(pit, now));
    return now;
}

/* Counter 0 was changed. */
static void follow_output(struct i8254 *pit, u64 now)
{
    irq_set(&pit->irq0, out_at(&pit->counter[0], now));
    arm(pit, now);
}

static void timer_fired(void *ctx)
{
    struct i8254 *pit = ctx;
    begin(pit);
    pthread_mutex_unlock(&pit->lock);
}

/* What the bus would read, in the counter's number system; 0 before the first count. */
static u16 bus_value(const struct counter *c, u64 now)
{
    u32 value = c->loaded ? count_at(c, now) : 0;
    return c->bcd ? to_bcd(value % modulus(c)) : (u16)value;
}

/* A second latch before the first is read is ignored. Reading begins with the low byte. */
static void latch_count(struct counter *c, u64 now)
{
    if (c->count_latched)
        return;
    c->latch = bus_value(c, now);
    c->count_latched = true;
    c->read_msb = false;
}

static void latch_status(struct counter *c, u64 now)
{
    if (c->status_latched)
        return;
    c->status =
        (u8)((out_at(c, now) ? STATUS_OUT : 0) | (!c->loaded || c->has_next ? STATUS_NULL : 0) |
             c->access << 4 | c->mode << 1 | c->bcd);
    c->status_latched = true;
}

static u8 read_counter(struct counter *c, u64 now)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    u16 value = c->count_latched ? c->latch : bus_value(c, now);
    bool msb = c->access == ACCESS_MSB || (c->access == ACCESS_BOTH && c->read_msb);
    bool first = c->access == ACCESS_BOTH && !msb;
    c->read_msb = first;
    if (!first)
        c->count_latched = false;
    return (u8)(msb ? value >> 8 : value);
}

static void write_counter(struct counter *c, u8 value, u64 now)
{
    switch ((enum access)c->access) {
    case ACCESS_LATCH: /* no control word yet */
        break;
    case ACCESS_LSB:
        set_count(c, value, now);
        break;
    case ACCESS_MSB:
        set_count(c, (u16)(value << 8), now);
        break;
    case ACCESS_BOTH:
        if (c->write_msb) {
            set_count(c, (u16)(value << 8 | c->lsb), now);
        } else {
            c->lsb = value;
            if (c->mode == 0) /* the first byte stops the count */
                c->loaded = c->counting = false;
        }
        c->write_msb = !c->write_msb;
        break;
    }
}

static void set_mode(struct counter *c, u8 word)
{
    u8 mode = (word >> 1) & 7;
    *c = (struct counter){
        .mode = mode > 5 ? mode - 4 : mode, /* 6 and 7 are 2 and 3 */
        .access = (word >> 4) & 3,
        .bcd = word & 1,
        .gate = c->gate,
        .count = 65536,
    };
}

static void read_back(struct i8254 *pit, u8 word, u64 now)
{
    for (unsigned i = 0; i < ARRAY_SIZE(pit->counter); i++) {
        if (!(word & (2 << i)))
            continue;
        if (!(word & 0x20))
            latch_count(&pit->counter[i], now);
        if (!(word & 0x10))
            latch_status(&pit->counter[i], now);
    }
}

static void write_control(struct i8254 *pit, u8 word, u64 now)
{
    unsigned n = word >> 6;
    if (n == READ_BACK) {
        read_back(pit, word, now);
    } else if (((word >> 4) & 3) == ACCESS_LATCH) {
        latch_count(&pit->counter[n], now);
    } else {
        set_mode(&pit->counter[n], word);
        if (n == 0)
            follow_output(pit, now);
    }
}

static u32 pit_in(void *ctx, u16 port, unsigned size)
{
    struct i8254 *pit = ctx;
    unsigned n = port & 3;
    (void)size;
    if (n == CONTROL_PORT)
        return 0xff;
    u64 now = begin(pit);
    u8 value = read_counter(&pit->counter[n], now);
    pthread_mutex_unlock(&pit->lock);
    return value;
}

static void pit_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct i8254 *pit = ctx;
    unsigned n = port & 3;
    (void)size;
    u64 now = begin(pit);
    if (n == CONTROL_PORT)
        write_control(pit, (u8)value, now);
    else
        write_counter(&pit->counter[n], (u8)value, now);
    if (n == 0)
        follow_output(pit, now);
    pthread_mutex_unlock(&pit->lock);
}

static u32 nmisc_in(void *ctx, u16 port, unsigned size)
{
    struct i8254 *pit = ctx;
    (void)port;
    (void)size;
    u64 now = begin(pit);
    u8 value = pit->nmisc;
    if (now / REFRESH_TICKS & 1)
        value |= NMISC_REFRESH;
    if (out_at(&pit->counter[2], now))
        value |= NMISC_OUT2;
    pthread_mutex_unlock(&pit->lock);
    return value;
}

static void nmisc_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct i8254 *pit = ctx;
    struct counter *c = &pit->counter[2];
    (void)port;
    (void)size;
    u64 now = begin(pit);
    pit->nmisc = value & NMISC_WRITABLE;
    bool gate = value & NMISC_GATE2;
    if (gate && !c->gate)
        gate_rises(c, now);
    else if (!gate && c->gate)
        gate_falls(c, now);
    pthread_mutex_unlock(&pit->lock);
}

static const struct port_ops pit_ports = {pit_in, pit_out};
static const struct port_ops nmisc_ports = {nmisc_in, nmisc_out};

void i8254_reset(struct i8254 *pit)
{
    pthread_mutex_lock(&pit->lock);
    for (unsigned i = 0; i < ARRAY_SIZE(pit->counter); i++)
        pit->counter[i] = (struct counter){.gate = i != 2, .count = 65536};
    pit->nmisc = 0;
    follow_output(pit, 0);
    pthread_mutex_unlock(&pit->lock);
}

int i8254_create(struct clock *clock, const struct irq_line *irq0, struct i8254 **out,
                 struct error *err)
{
    struct i8254 *pit = calloc(1, sizeof(*pit));
    if (pit)
        pit->timer = timer_create_on(clock, timer_fired, pit);
    if (!pit || !pit->timer) {
        free(pit);
        return error_set(err, ENOMEM, "not enough memory for the interval timer");
    }
    pit->clock = clock;
    pit->irq0 = *irq0;
    pthread_mutex_init(&pit->lock, NULL);
    i8254_reset(pit);
    *out = pit;
    return 0;
}

void i8254_destroy(struct i8254 *pit)
{
    if (!pit)
        return;
    timer_destroy(pit->timer);
    pthread_mutex_destroy(&pit->lock);
    free(pit);
}

int i8254_attach(struct i8254 *pit, struct port_bus *bus, struct error *err)
{
    int ret = portbus_add(bus, PC_PIT, 4, &pit_ports, pit, NULL, false, err);
    if (!ret)
        ret = portbus_add(bus, PC_SPEAKER, 1, &nmisc_ports, pit, NULL, false, err);
    return ret;
}
