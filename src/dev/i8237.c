/*
 * DMA. A device asks for a transfer when it has data or room, and gets all of it at once: the bus
 * has no time. So single, block and demand mode differ in nothing that a guest could see. What does
 * matter: directions, both counts, autoinitialization, masks, and that an address wraps within its
 * page of 64 KiB (128 KiB on channels 5 to 7).
 *
 * Whether channel 4 is in cascade mode and unmasked, as firmware leaves it, is not looked at.
 */
#include "dev/i8237.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/pcmap.h"

#define CHANNELS 8

/* Registers of a controller. Even numbers below: a channel's address; odd: its count. */
enum dma_reg {
    REG_STATUS = 8, /* written: command */
    REG_REQUEST = 9,
    REG_MASK_ONE = 10,
    REG_MODE = 11,
    REG_CLEAR_FLIP_FLOP = 12,
    REG_TEMPORARY = 13, /* written: master clear */
    REG_CLEAR_MASK = 14,
    REG_MASK_ALL = 15,
};

#define COMMAND_OFF 0x04

#define MODE_DIRECTION   0x0c
#define MODE_TO_MEMORY   0x04
#define MODE_FROM_MEMORY 0x08
#define MODE_AUTOINIT    0x10
#define MODE_DECREMENT   0x20
#define MODE_KIND        0xc0
#define MODE_CASCADE     0xc0

/* In the registers for one channel: bits 0 and 1 say which. */
#define CHANNEL_BITS 0x03
#define CHANNEL_SET  0x04

struct channel {
    u16 base_address, base_count;
    u16 address, count;
    u8 mode;
    u8 page; /* physical address bits 16 to 23 */
    void (*ready)(void *ctx);
    void *ready_ctx;
};

struct controller {
    u8 command;
    u8 mask, request, done; /* a bit for each channel; done: at terminal count */
    bool high;              /* the flip-flop: the next byte is the upper one */
};

struct i8237 {
    struct guest_mem *mem;
    pthread_mutex_t lock;
    struct channel channel[CHANNELS];
    struct controller controller[2];
    u8 pages[16];         /* as last written, for those that are no channel's, too */
    struct port_bus *bus; /* NULL: not attached */
};

/* Page registers at PC_DMA_PAGE + i, in the order of channels. */
static const u8 page_of_channel[CHANNELS] = {0x7, 0x3, 0x1, 0x2, 0xf, 0xb, 0x9, 0xa};

/* --- transfers --- */

static bool can_transfer(const struct i8237 *d, unsigned n)
{
    const struct controller *c = &d->controller[n / 4];
    return !(c->command & COMMAND_OFF) && !(c->mask & BIT(n % 4)) &&
           (d->channel[n].mode & MODE_KIND) != MODE_CASCADE;
}

static void copy(struct i8237 *d, u64 gpa, u8 *buf, unsigned len, bool to_memory)
{
    if (to_memory)
        guestmem_write(d->mem, gpa, buf, len);
    else if (!guestmem_read(d->mem, gpa, buf, len))
        memset(buf, 0xff, len);
}

/* Physical address of the channel's next unit. */
static u64 unit_address(const struct channel *c, unsigned shift)
{
    u64 page = shift ? c->page & 0xfe : c->page;
    return page << 16 | (u64)c->address << shift;
}

/* Moves units that lie one behind the other within 4 KiB, where all is RAM or nothing is. Going
 * down: one. */
static unsigned copy_run(struct i8237 *d, struct channel *c, unsigned shift, u8 *buf,
                         unsigned units, bool to_memory)
{
    u64 gpa = unit_address(c, shift);
    unsigned room = (unsigned)(PAGE_SIZE - gpa % PAGE_SIZE) >> shift;
    unsigned run = c->mode & MODE_DECREMENT ? 1 : MIN(units, room);
    unsigned direction = c->mode & MODE_DIRECTION;
    if (direction == (to_memory ? MODE_TO_MEMORY : MODE_FROM_MEMORY))
        copy(d, gpa, buf, run << shift, to_memory);
    else if (!to_memory)
        memset(buf, 0xff, run << shift);
    c->address += c->mode & MODE_DECREMENT ? (u16)-1 : (u16)run;
    return run;
}

static void end_count(struct i8237 *d, unsigned n)
{
    struct controller *ctl = &d->controller[n / 4];
    struct channel *c = &d->channel[n];
    ctl->done |= BIT(n % 4);
    ctl->request &= ~BIT(n % 4);
    if (c->mode & MODE_AUTOINIT) {
        c->address = c->base_address;
        c->count = c->base_count;
    } else {
        ctl->mask |= BIT(n % 4);
    }
}

unsigned i8237_transfer(struct i8237 *d, unsigned n, void *buf, unsigned len, bool to_memory,
                        bool *tc)
{
    struct channel *c = &d->channel[n];
    unsigned shift = n >= 4, moved = 0;
    *tc = false;
    pthread_mutex_lock(&d->lock);
    unsigned left = (unsigned)c->count + 1;
    unsigned units = can_transfer(d, n) ? MIN(len >> shift, left) : 0;
    while (moved < units)
        moved += copy_run(d, c, shift, (u8 *)buf + (moved << shift), units - moved, to_memory);
    c->count -= (u16)units;
    if (units == left) {
        *tc = true;
        end_count(d, n);
    }
    pthread_mutex_unlock(&d->lock);
    return units << shift;
}

/* --- registers --- */

static void write_half(u16 *value, bool high, u8 byte)
{
    *value = high ? (u16)(byte << 8 | (*value & 0xff)) : (u16)((*value & 0xff00) | byte);
}

static void write_channel(struct i8237 *d, struct controller *ctl, unsigned reg, u8 value)
{
    struct channel *c = &d->channel[(ctl - d->controller) * 4 + reg / 2];
    u16 *base = reg & 1 ? &c->base_count : &c->base_address;
    write_half(base, ctl->high, value);
    write_half(reg & 1 ? &c->count : &c->address, ctl->high, value);
    ctl->high = !ctl->high;
}

static u8 read_channel(struct i8237 *d, struct controller *ctl, unsigned reg)
{
    const struct channel *c = &d->channel[(ctl - d->controller) * 4 + reg / 2];
    u16 value = reg & 1 ? c->count : c->address;
    bool high = ctl->high;
    ctl->high = !high;
    return (u8)(high ? value >> 8 : value);
}

static void set_bit(u8 *bits, u8 value)
{
    u8 bit = (u8)BIT(value & CHANNEL_BITS);
    *bits = value & CHANNEL_SET ? *bits | bit : *bits & ~bit;
}

static void master_clear(struct controller *ctl)
{
    *ctl = (struct controller){.mask = 0x0f};
}

static void write_register(struct i8237 *d, struct controller *ctl, unsigned reg, u8 value)
{
    switch (reg) {
    case REG_STATUS:
        ctl->command = value;
        break;
    case REG_REQUEST:
        set_bit(&ctl->request, value);
        break;
    case REG_MASK_ONE:
        set_bit(&ctl->mask, value);
        break;
    case REG_MODE:
        d->channel[(ctl - d->controller) * 4 + (value & CHANNEL_BITS)].mode = value;
        break;
    case REG_CLEAR_FLIP_FLOP:
        ctl->high = false;
        break;
    case REG_TEMPORARY:
        master_clear(ctl);
        break;
    case REG_CLEAR_MASK:
        ctl->mask = 0;
        break;
    case REG_MASK_ALL:
        ctl->mask = value & 0x0f;
        break;
    default:
        write_channel(d, ctl, reg, value);
        break;
    }
}

/* Requests are those of programs: a device's lasts no longer than its transfer. */
static u8 read_register(struct i8237 *d, struct controller *ctl, unsigned reg)
{
    u8 value;
    switch (reg) {
    case REG_STATUS:
        value = (u8)(ctl->request << 4 | ctl->done);
        ctl->done = 0;
        return value;
    case REG_MASK_ALL:
        return ctl->mask | 0xf0;
    default:
        return reg < REG_STATUS ? read_channel(d, ctl, reg) : 0;
    }
}

/* The second controller's registers are two ports apart. */
static struct controller *decode(struct i8237 *d, u16 port, unsigned *reg)
{
    bool second = port >= PC_DMA2;
    *reg = second ? (port - PC_DMA2) / 2U : port;
    return &d->controller[second];
}

static u32 dma_in(void *ctx, u16 port, unsigned size)
{
    struct i8237 *d = ctx;
    unsigned reg;
    (void)size;
    struct controller *ctl = decode(d, port, &reg);
    pthread_mutex_lock(&d->lock);
    u8 value = read_register(d, ctl, reg);
    pthread_mutex_unlock(&d->lock);
    return value;
}

/* Tells devices whose channels can transfer. */
static void call_devices(struct i8237 *d, unsigned first)
{
    for (unsigned n = first; n < first + 4; n++) {
        pthread_mutex_lock(&d->lock);
        bool can = can_transfer(d, n);
        pthread_mutex_unlock(&d->lock);
        if (can && d->channel[n].ready)
            d->channel[n].ready(d->channel[n].ready_ctx);
    }
}

static void dma_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct i8237 *d = ctx;
    unsigned reg;
    (void)size;
    struct controller *ctl = decode(d, port, &reg);
    pthread_mutex_lock(&d->lock);
    write_register(d, ctl, reg, (u8)value);
    pthread_mutex_unlock(&d->lock);
    if (reg >= REG_STATUS)
        call_devices(d, ctl == d->controller ? 0 : 4);
}

/* Not the first one: port 80h stays free. */
static void show_pages(struct i8237 *d)
{
    for (unsigned n = 1; d->bus && n < ARRAY_SIZE(d->pages); n++)
        port_show(d->bus, (u16)(PC_DMA_PAGE + n), d->pages[n]);
}

static u32 page_in(void *ctx, u16 port, unsigned size)
{
    struct i8237 *d = ctx;
    (void)size;
    pthread_mutex_lock(&d->lock);
    u8 value = d->pages[port - PC_DMA_PAGE];
    pthread_mutex_unlock(&d->lock);
    return value;
}

static void page_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct i8237 *d = ctx;
    (void)size;
    pthread_mutex_lock(&d->lock);
    d->pages[port - PC_DMA_PAGE] = (u8)value;
    for (unsigned n = 0; n < CHANNELS; n++)
        if (PC_DMA_PAGE + page_of_channel[n] == port)
            d->channel[n].page = (u8)value;
    show_pages(d);
    pthread_mutex_unlock(&d->lock);
}

static const struct port_ops dma_ops = {dma_in, dma_out};
static const struct port_ops page_ops = {page_in, page_out};

/* --- life --- */

void i8237_reset(struct i8237 *d)
{
    pthread_mutex_lock(&d->lock);
    for (unsigned n = 0; n < CHANNELS; n++) {
        struct channel *c = &d->channel[n];
        *c = (struct channel){.ready = c->ready, .ready_ctx = c->ready_ctx};
    }
    memset(d->pages, 0, sizeof(d->pages));
    show_pages(d);
    master_clear(&d->controller[0]);
    master_clear(&d->controller[1]);
    pthread_mutex_unlock(&d->lock);
}

int i8237_create(struct guest_mem *mem, struct i8237 **out, struct error *err)
{
    struct i8237 *d = calloc(1, sizeof(*d));
    if (!d)
        return error_set(err, ENOMEM, "no memory for the DMA controllers");
    d->mem = mem;
    pthread_mutex_init(&d->lock, NULL);
    i8237_reset(d);
    *out = d;
    return 0;
}

void i8237_destroy(struct i8237 *d)
{
    if (!d)
        return;
    pthread_mutex_destroy(&d->lock);
    free(d);
}

int i8237_attach(struct i8237 *d, struct port_bus *bus, struct error *err)
{
    int rc;
    if ((rc = portbus_add(bus, PC_DMA1, 16, &dma_ops, d, NULL, false, err)) < 0 ||
        (rc = portbus_add(bus, PC_DMA2, 32, &dma_ops, d, NULL, false, err)) < 0 ||
        (rc = portbus_add(bus, PC_DMA_PAGE + 1, 15, &page_ops, d, NULL, false, err)) < 0)
        return rc;
    pthread_mutex_lock(&d->lock);
    d->bus = bus;
    show_pages(d);
    pthread_mutex_unlock(&d->lock);
    return 0;
}

void i8237_connect(struct i8237 *d, unsigned channel, void (*ready)(void *ctx), void *ctx)
{
    d->channel[channel].ready = ready;
    d->channel[channel].ready_ctx = ctx;
}
