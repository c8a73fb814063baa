/*
 * A 16550A without wire speed. Interrupts follow from the state: uart_update() computes the
 * highest-priority cause after each change, as the data sheet's table of IIR does. Two points go
 * beyond the data sheet. A transmitted byte goes to the host under a lock of its own, so that a
 * slow host reader stalls the writer but not the CPUs that look at the registers. And host input is
 * held back until the guest listens: it is ready for receive interrupts, or polls LSR.
 * Drivers empty the FIFO when they start, and what a pipe offers must not be lost in that.
 */
#include "dev/uart16550.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/wire.h"

#define FIFO_SIZE 16
/* A transmitter reads LSR once or twice between other accesses; who reads it more often than this
 * waits for input. */
#define LISTEN_POLLS 3

enum uart_reg {
    REG_DATA = 0, /* RBR, THR; divisor low */
    REG_IER = 1,  /* divisor high */
    REG_IIR = 2,  /* written: FCR */
    REG_LCR = 3,
    REG_MCR = 4,
    REG_LSR = 5,
    REG_MSR = 6,
    REG_SCR = 7,
};

#define IER_RX    0x01
#define IER_TX    0x02
#define IER_LINE  0x04
#define IER_MODEM 0x08
#define IER_ALL   0x0f

#define IIR_NONE    0x01
#define IIR_MODEM   0x00
#define IIR_TX      0x02
#define IIR_RX      0x04
#define IIR_LINE    0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFO    0xc0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_CLEAR_TX 0x04

#define LCR_DLAB 0x80

#define MCR_RTS  0x02
#define MCR_LOOP 0x10
#define MCR_ALL  0x1f

#define LSR_DATA    0x01
#define LSR_OVERRUN 0x02
#define LSR_TX_IDLE 0x60 /* THRE and TEMT */

#define MSR_DELTAS      0x0f
#define MSR_RI_TRAILING 0x04 /* its delta bit is set by the falling edge only */
#define MSR_LINES       0xf0
#define MSR_TERMINAL    0xb0 /* DCD, DSR, CTS */

struct uart16550 {
    struct chardev *chr;
    struct wire irq;
    struct port_bus *bus; /* NULL: not attached */
    u16 base;
    pthread_mutex_t tx_lock; /* order of transmitted bytes; taken before lock */
    pthread_mutex_t lock;
    u8 ier, fcr, lcr, mcr, msr, scr;
    u8 divisor[2];
    u8 rx[FIFO_SIZE];
    unsigned rx_head, rx_count;
    bool overrun;
    bool tx_pending; /* the THR-empty interrupt, until IIR is read or THR is written */
    unsigned polls;  /* LSR reads in a row, up to LISTEN_POLLS */
    bool starved;    /* input was refused: chardev_ready() is due */
};

static unsigned rx_capacity(const struct uart16550 *u)
{
    return u->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned rx_trigger(const struct uart16550 *u)
{
    static const u8 level[4] = {1, 4, 8, 14};
    return u->fcr & FCR_ENABLE ? level[u->fcr >> 6] : 1;
}

static void rx_push(struct uart16550 *u, u8 byte)
{
    u->rx[(u->rx_head + u->rx_count++) % FIFO_SIZE] = byte;
}

static u8 rx_pop(struct uart16550 *u)
{
    if (!u->rx_count)
        return 0;
    u8 byte = u->rx[u->rx_head];
    u->rx_head = (u->rx_head + 1) % FIFO_SIZE;
    u->rx_count--;
    return byte;
}

static void rx_clear(struct uart16550 *u)
{
    u->rx_head = u->rx_count = 0;
}

static u8 uart_cause(const struct uart16550 *u)
{
    if ((u->ier & IER_LINE) && u->overrun)
        return IIR_LINE;
    if ((u->ier & IER_RX) && u->rx_count)
        return u->rx_count >= rx_trigger(u) ? IIR_RX : IIR_TIMEOUT;
    if ((u->ier & IER_TX) && u->tx_pending)
        return IIR_TX;
    if ((u->ier & IER_MODEM) && (u->msr & MSR_DELTAS))
        return IIR_MODEM;
    return IIR_NONE;
}

/* Does the guest take bytes by interrupt? A driver that uses the modem lines is ready when RTS is
 * on: Linux switches the receive interrupt on, then clears the FIFO, then sets RTS. For one that
 * does not use them the interrupt is enough, but not all four: that is a driver looking for the
 * chip. */
static bool uart_interrupts_on_rx(const struct uart16550 *u)
{
    if (!(u->ier & IER_RX))
        return false;
    return u->mcr ? (u->mcr & MCR_RTS) != 0 : u->ier != IER_ALL;
}

/* Does the guest want input, and is there room for it? */
static bool uart_listens(const struct uart16550 *u)
{
    return (uart_interrupts_on_rx(u) || u->polls >= LISTEN_POLLS) && !(u->mcr & MCR_LOOP) &&
           u->rx_count < rx_capacity(u);
}

/* LSR without what reading it does. */
static u8 uart_lsr(const struct uart16550 *u)
{
    return LSR_TX_IDLE | (u->rx_count ? LSR_DATA : 0) | (u->overrun ? LSR_OVERRUN : 0);
}

/* LSR is shown while a guest waits for input with it, as reading it does nothing then. */
static void uart_show_lsr(struct uart16550 *u)
{
    u16 port = (u16)(u->base + REG_LSR);
    if (!u->bus)
        return;
    if (u->polls >= LISTEN_POLLS && !u->overrun)
        port_show(u->bus, port, uart_lsr(u));
    else
        port_hide(u->bus, port);
}

/* Drops the lock, then pulls the wire and calls for input as the new state demands. OUT2 does not
 * gate the interrupt, though it does on a PC's board: small systems don't set it. */
static void uart_unlock(struct uart16550 *u)
{
    bool ready = u->starved && uart_listens(u);
    if (ready)
        u->starved = false;
    uart_show_lsr(u);
    wire_level(&u->irq, uart_cause(u) != IIR_NONE);
    pthread_mutex_unlock(&u->lock);
    wire_flush(&u->irq);
    if (ready)
        chardev_ready(u->chr);
}

static size_t uart_receive(void *ctx, const u8 *buf, size_t len)
{
    struct uart16550 *u = ctx;
    size_t taken = 0;
    pthread_mutex_lock(&u->lock);
    while (taken < len && uart_listens(u))
        rx_push(u, buf[taken++]);
    if (taken < len)
        u->starved = true;
    uart_unlock(u);
    return taken;
}

/* The modem lines, as MSR shows them: in loopback they come from MCR (data sheet, 8.6.7). */
static void uart_update_lines(struct uart16550 *u)
{
    u8 lines = MSR_TERMINAL;
    if (u->mcr & MCR_LOOP)
        lines = (u8)((u->mcr & 0x0c) << 4 | (u->mcr & 0x02) << 3 | (u->mcr & 0x01) << 5);
    u8 changed = ((u->msr ^ lines) & MSR_LINES) >> 4;
    if (lines & (MSR_RI_TRAILING << 4))
        changed &= ~MSR_RI_TRAILING;
    u->msr = lines | (u->msr & MSR_DELTAS) | changed;
}

static u8 uart_read_lsr(struct uart16550 *u)
{
    u8 lsr = uart_lsr(u);
    u->overrun = false;
    if (u->polls < LISTEN_POLLS)
        u->polls++;
    return lsr;
}

static u8 uart_read_iir(struct uart16550 *u)
{
    u8 cause = uart_cause(u);
    if (cause == IIR_TX)
        u->tx_pending = false;
    return cause | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static u8 uart_read_msr(struct uart16550 *u)
{
    u8 msr = u->msr;
    u->msr &= MSR_LINES;
    return msr;
}

static u8 uart_read(struct uart16550 *u, enum uart_reg reg)
{
    if (reg != REG_LSR && reg != REG_DATA)
        u->polls = 0;
    switch (reg) {
    case REG_DATA:
        return u->lcr & LCR_DLAB ? u->divisor[0] : rx_pop(u);
    case REG_IER:
        return u->lcr & LCR_DLAB ? u->divisor[1] : u->ier;
    case REG_IIR:
        return uart_read_iir(u);
    case REG_LCR:
        return u->lcr;
    case REG_MCR:
        return u->mcr;
    case REG_LSR:
        return uart_read_lsr(u);
    case REG_MSR:
        return uart_read_msr(u);
    case REG_SCR:
        return u->scr;
    }
    return 0xff;
}

static void uart_write_ier(struct uart16550 *u, u8 value)
{
    /* The transmitter is always empty, so switching the interrupt on raises it again; drivers test
     * for that. */
    if ((value & IER_TX) && !(u->ier & IER_TX))
        u->tx_pending = true;
    u->ier = value & IER_ALL;
}

static void uart_write_fcr(struct uart16550 *u, u8 value)
{
    bool toggled = (value ^ u->fcr) & FCR_ENABLE;
    if (toggled || (value & FCR_CLEAR_RX))
        rx_clear(u);
    if (toggled || (value & FCR_CLEAR_TX))
        u->tx_pending = true;
    u->fcr = value & FCR_ENABLE ? value & (0xc0 | FCR_ENABLE) : 0;
}

static void uart_loop_back(struct uart16550 *u, u8 value)
{
    if (u->rx_count < rx_capacity(u))
        rx_push(u, value);
    else
        u->overrun = true;
    u->tx_pending = true;
}

static void uart_write(struct uart16550 *u, enum uart_reg reg, u8 value)
{
    u->polls = 0;
    switch (reg) {
    case REG_DATA:
        if (u->lcr & LCR_DLAB)
            u->divisor[0] = value;
        else
            uart_loop_back(u, value);
        break;
    case REG_IER:
        if (u->lcr & LCR_DLAB)
            u->divisor[1] = value;
        else
            uart_write_ier(u, value);
        break;
    case REG_IIR:
        uart_write_fcr(u, value);
        break;
    case REG_LCR:
        u->lcr = value;
        break;
    case REG_MCR:
        u->mcr = value & MCR_ALL;
        uart_update_lines(u);
        break;
    case REG_SCR:
        u->scr = value;
        break;
    case REG_LSR: /* for factory tests only */
    case REG_MSR:
        break;
    }
}

static void uart_transmit(struct uart16550 *u, u8 value)
{
    pthread_mutex_lock(&u->tx_lock);
    pthread_mutex_lock(&u->lock);
    u->polls = 0;
    u->tx_pending = false;
    uart_unlock(u);
    chardev_write(u->chr, &value, 1);
    pthread_mutex_lock(&u->lock);
    u->tx_pending = true;
    uart_unlock(u);
    pthread_mutex_unlock(&u->tx_lock);
}

static u32 uart_in(void *ctx, u16 port, unsigned size)
{
    struct uart16550 *u = ctx;
    (void)size;
    pthread_mutex_lock(&u->lock);
    u8 value = uart_read(u, port & 7);
    uart_unlock(u);
    return value;
}

static void uart_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct uart16550 *u = ctx;
    (void)size;
    pthread_mutex_lock(&u->lock);
    bool sends = (port & 7) == REG_DATA && !(u->lcr & LCR_DLAB) && !(u->mcr & MCR_LOOP);
    if (!sends)
        uart_write(u, port & 7, (u8)value);
    uart_unlock(u);
    if (sends)
        uart_transmit(u, (u8)value);
}

static const struct port_ops uart_ops = {uart_in, uart_out};

static void uart_set_reset_state(struct uart16550 *u)
{
    u->ier = u->fcr = u->lcr = u->mcr = u->scr = 0;
    u->divisor[0] = u->divisor[1] = 0;
    u->msr = MSR_TERMINAL;
    u->overrun = false;
    u->tx_pending = true;
    u->polls = 0;
    rx_clear(u);
}

void uart16550_reset(struct uart16550 *u)
{
    pthread_mutex_lock(&u->lock);
    uart_set_reset_state(u);
    uart_unlock(u);
}

int uart16550_create(struct chardev *chr, struct irq_line irq, struct uart16550 **out,
                     struct error *err)
{
    struct uart16550 *u = calloc(1, sizeof(*u));
    if (!u)
        return error_set(err, ENOMEM, "no memory for a serial port");
    u->chr = chr;
    wire_init(&u->irq, irq);
    pthread_mutex_init(&u->tx_lock, NULL);
    pthread_mutex_init(&u->lock, NULL);
    uart_set_reset_state(u);
    chr->receive = uart_receive;
    chr->receive_ctx = u;
    *out = u;
    return 0;
}

void uart16550_destroy(struct uart16550 *u)
{
    if (!u)
        return;
    wire_destroy(&u->irq);
    pthread_mutex_destroy(&u->tx_lock);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

int uart16550_attach(struct uart16550 *u, struct port_bus *bus, u16 base, struct error *err)
{
    assert(base % 8 == 0);
    int rc = portbus_add(bus, base, 8, &uart_ops, u, NULL, false, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&u->lock);
    u->bus = bus;
    u->base = base;
    uart_unlock(u);
    return 0;
}
