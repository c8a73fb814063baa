/*
 * Two 8259A: the slave's output is the master's input 2. A chip keeps the raw levels of its inputs,
 * latches edges in IRR, and offers the highest-priority unmasked request that no in-service one
 * blocks. The output wire is recomputed after everything that happens.
 */
#include "dev/i8259.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/pcmap.h"

#define CASCADE_INPUT  2
#define SPURIOUS_INPUT 7

/* Inputs that can't be level triggered: timer, keyboard, cascade; RTC, FPU (PIIX3, ELCR1 and 2). */
#define MASTER_ELCR_BITS 0xf8
#define SLAVE_ELCR_BITS  0xde

#define ICW1_ICW4         0x01
#define ICW1_SINGLE       0x02
#define ICW1              0x10
#define ICW4_AUTO_EOI     0x02
#define ICW4_FULLY_NESTED 0x10 /* special fully nested mode */
#define OCW3              0x08

/* The word that port base + 1 takes next. */
enum init_state { INIT_DONE, INIT_ICW2, INIT_ICW3, INIT_ICW4 };

struct chip {
    u8 lines; /* raw levels of the inputs */
    u8 irr, isr, imr;
    u8 elcr, elcr_bits;
    u8 base;   /* vector of input 0 */
    u8 lowest; /* the input with the lowest priority; 7 after initialization */
    u8 init;   /* enum init_state */
    bool master;
    bool single, wants_icw4;
    bool auto_eoi, rotate_on_auto_eoi;
    bool fully_nested;
    bool special_mask;
    bool poll;
    bool read_isr;
};

struct i8259 {
    pthread_mutex_t lock;
    struct irq_line intr;
    struct chip chip[2]; /* master, slave */
};

/* The input of `set` with the highest priority, or -1. */
static int highest(const struct chip *c, u8 set)
{
    for (unsigned i = 1; i <= 8; i++) {
        unsigned n = (c->lowest + i) & 7;
        if (set & BIT(n))
            return (int)n;
    }
    return -1;
}

static unsigned rank(const struct chip *c, int input)
{
    return (unsigned)(input - c->lowest - 1) & 7;
}

/* The input whose service blocks others; in special mask mode, masked ones don't (datasheet,
 * "Special Mask Mode"). Also what a non-specific EOI ends. */
static int in_service(const struct chip *c)
{
    return highest(c, c->special_mask ? c->isr & ~c->imr : c->isr);
}

/* The request that the chip offers, or -1. An input in service blocks itself and lower ones; but in
 * special fully nested mode the master lets the slave through again. */
static int request(const struct chip *c)
{
    int input = highest(c, c->irr & ~c->imr);
    int busy = in_service(c);
    if (input < 0 || busy < 0 || rank(c, input) < rank(c, busy))
        return input;
    bool nested = c->fully_nested && c->master && input == CASCADE_INPUT && busy == input;
    return nested ? input : -1;
}

/* An edge stays latched although the line falls. A real 8259A makes a spurious interrupt of that;
 * but here the CPU may be late by as long as the host likes, and the guest would lose timer ticks.
 */
static void set_input(struct chip *c, unsigned n, int level)
{
    u8 bit = (u8)BIT(n);
    if (level && ((c->elcr & bit) || !(c->lines & bit)))
        c->irr |= bit;
    if (!level)
        c->irr &= (u8) ~(c->elcr & bit);
    c->lines = level ? c->lines | bit : c->lines & (u8)~bit;
}

/* The master's request for the slave is exactly the slave's output. */
static void update(struct i8259 *pic)
{
    struct chip *master = &pic->chip[0];
    if (request(&pic->chip[1]) >= 0)
        master->irr |= BIT(CASCADE_INPUT);
    else
        master->irr &= (u8)~BIT(CASCADE_INPUT);
    irq_set(&pic->intr, request(master) >= 0);
}

void i8259_set_irq(void *ctx, unsigned n, int level)
{
    struct i8259 *pic = ctx;
    assert(n < I8259_INPUTS && n != CASCADE_INPUT);
    pthread_mutex_lock(&pic->lock);
    set_input(&pic->chip[n / 8], n % 8, level);
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

/* The chip's side of an INTA cycle for `input`: a level-triggered request stays in IRR as long as
 * the line is high. */
static void enter_service(struct chip *c, unsigned input)
{
    u8 bit = (u8)BIT(input);
    if (!(c->elcr & bit))
        c->irr &= (u8)~bit;
    if (!c->auto_eoi)
        c->isr |= bit;
    else if (c->rotate_on_auto_eoi)
        c->lowest = (u8)input;
}

/* INTA: returns the input, SPURIOUS_INPUT if nothing asks any more (ISR stays as it is then). */
static unsigned acknowledge(struct chip *c)
{
    int input = request(c);
    if (input < 0)
        return SPURIOUS_INPUT;
    enter_service(c, (unsigned)input);
    return (unsigned)input;
}

int i8259_acknowledge(void *ctx)
{
    struct i8259 *pic = ctx;
    pthread_mutex_lock(&pic->lock);
    struct chip *c = &pic->chip[0];
    bool cascade = request(c) == CASCADE_INPUT;
    unsigned input = acknowledge(c);
    if (cascade) {
        c = &pic->chip[1];
        input = acknowledge(c);
    }
    int vector = c->base + (int)input;
    update(pic);
    pthread_mutex_unlock(&pic->lock);
    return vector;
}

/* ICW1 resets the edge detection and all modes; lines that are high must fall first, unless they
 * are level triggered. */
static void start_init(struct chip *c, u8 icw1)
{
    c->irr = c->lines & c->elcr;
    c->isr = c->imr = 0;
    c->lowest = 7;
    c->auto_eoi = c->rotate_on_auto_eoi = c->fully_nested = false;
    c->special_mask = c->poll = c->read_isr = false;
    c->single = icw1 & ICW1_SINGLE;
    c->wants_icw4 = icw1 & ICW1_ICW4;
    c->init = INIT_ICW2;
}

static void end_of_interrupt(struct chip *c, int input, bool rotate)
{
    if (input < 0)
        return;
    c->isr &= (u8)~BIT(input);
    if (rotate)
        c->lowest = (u8)input;
}

static void write_ocw2(struct chip *c, u8 value)
{
    int input = value & 7;
    switch (value >> 5) { /* R, SL, EOI */
    case 0:
    case 4:
        c->rotate_on_auto_eoi = value >> 5;
        break;
    case 1:
    case 5:
        end_of_interrupt(c, in_service(c), value >> 5 == 5);
        break;
    case 3:
    case 7:
        end_of_interrupt(c, input, value >> 5 == 7);
        break;
    case 6:
        c->lowest = (u8)input;
        break;
    }
}

static void write_ocw3(struct chip *c, u8 value)
{
    if (value & 0x40)
        c->special_mask = value & 0x20;
    c->poll = value & 0x04;
    if (value & 0x02)
        c->read_isr = value & 0x01;
}

/* ICW3 says where the cascade is; on a PC it is soldered, so its value is not kept. */
static void write_data(struct chip *c, u8 value)
{
    switch ((enum init_state)c->init) {
    case INIT_DONE:
        c->imr = value;
        break;
    case INIT_ICW2:
        c->base = value & 0xf8;
        c->init = !c->single ? INIT_ICW3 : c->wants_icw4 ? INIT_ICW4 : INIT_DONE;
        break;
    case INIT_ICW3:
        c->init = c->wants_icw4 ? INIT_ICW4 : INIT_DONE;
        break;
    case INIT_ICW4:
        c->auto_eoi = value & ICW4_AUTO_EOI;
        c->fully_nested = value & ICW4_FULLY_NESTED;
        c->init = INIT_DONE;
        break;
    }
}

static void write_command(struct chip *c, u8 value)
{
    if (value & ICW1)
        start_init(c, value);
    else if (value & OCW3)
        write_ocw3(c, value);
    else
        write_ocw2(c, value);
}

/* The read that follows a poll command is an INTA cycle; bit 7: there was a request. */
static u8 read_poll(struct chip *c)
{
    c->poll = false;
    bool any = request(c) >= 0;
    u8 input = (u8)acknowledge(c);
    return any ? 0x80 | input : input;
}

static u8 read_chip(struct chip *c, bool data)
{
    if (c->poll)
        return read_poll(c);
    if (data)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

static struct chip *chip_at(struct i8259 *pic, u16 port)
{
    return &pic->chip[(port & ~1) == PC_PIC_SLAVE];
}

static u32 pic_in(void *ctx, u16 port, unsigned size)
{
    struct i8259 *pic = ctx;
    (void)size;
    pthread_mutex_lock(&pic->lock);
    u8 value = read_chip(chip_at(pic, port), port & 1);
    update(pic);
    pthread_mutex_unlock(&pic->lock);
    return value;
}

static void pic_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct i8259 *pic = ctx;
    (void)size;
    pthread_mutex_lock(&pic->lock);
    if (port & 1)
        write_data(chip_at(pic, port), (u8)value);
    else
        write_command(chip_at(pic, port), (u8)value);
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

static u32 elcr_in(void *ctx, u16 port, unsigned size)
{
    struct i8259 *pic = ctx;
    (void)size;
    pthread_mutex_lock(&pic->lock);
    u8 value = pic->chip[port & 1].elcr;
    pthread_mutex_unlock(&pic->lock);
    return value;
}

static void elcr_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct i8259 *pic = ctx;
    (void)size;
    pthread_mutex_lock(&pic->lock);
    struct chip *c = &pic->chip[port & 1];
    c->elcr = value & c->elcr_bits;
    c->irr |= c->lines & c->elcr;
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

static const struct port_ops pic_ports = {pic_in, pic_out};
static const struct port_ops elcr_ports = {elcr_in, elcr_out};

static void reset_chip(struct chip *c, bool master)
{
    *c = (struct chip){
        .lines = c->lines,
        .imr = 0xff, /* nothing gets through before it is initialized */
        .lowest = 7,
        .master = master,
        .elcr_bits = master ? MASTER_ELCR_BITS : SLAVE_ELCR_BITS,
    };
}

void i8259_reset(struct i8259 *pic)
{
    pthread_mutex_lock(&pic->lock);
    reset_chip(&pic->chip[0], true);
    reset_chip(&pic->chip[1], false);
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

int i8259_create(const struct irq_line *intr, struct i8259 **out, struct error *err)
{
    struct i8259 *pic = calloc(1, sizeof(*pic));
    if (!pic)
        return error_set(err, ENOMEM, "not enough memory for the interrupt controllers");
    pic->intr = *intr;
    pthread_mutex_init(&pic->lock, NULL);
    i8259_reset(pic);
    *out = pic;
    return 0;
}

void i8259_destroy(struct i8259 *pic)
{
    if (!pic)
        return;
    pthread_mutex_destroy(&pic->lock);
    free(pic);
}

int i8259_attach(struct i8259 *pic, struct port_bus *bus, struct error *err)
{
    int ret = portbus_add(bus, PC_PIC_MASTER, 2, &pic_ports, pic, NULL, false, err);
    if (!ret)
        ret = portbus_add(bus, PC_PIC_SLAVE, 2, &pic_ports, pic, NULL, false, err);
    if (!ret)
        ret = portbus_add(bus, PC_ELCR, 2, &elcr_ports, pic, NULL, false, err);
    return ret;
}
