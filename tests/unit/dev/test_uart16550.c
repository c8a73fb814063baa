/*
 * The serial port at register level, as drivers probe and use it.
 */
#include "rig.h"

#include "dev/uart16550.h"

#define BASE 0x3f8
#define DATA (BASE + 0)
#define IER  (BASE + 1)
#define IIR  (BASE + 2)
#define FCR  (BASE + 2)
#define LCR  (BASE + 3)
#define MCR  (BASE + 4)
#define LSR  (BASE + 5)
#define MSR  (BASE + 6)
#define SCR  (BASE + 7)

struct uart_rig {
    struct rig r;
    struct chardev chr;
    struct uart16550 *uart;
    u8 out[256];
    size_t out_len;
    unsigned readies;
};

static void host_write(struct chardev *c, const u8 *buf, size_t len)
{
    struct uart_rig *u = container_of(c, struct uart_rig, chr);
    for (size_t i = 0; i < len; i++)
        u->out[u->out_len++ % sizeof(u->out)] = buf[i];
}

static void host_ready(struct chardev *c)
{
    container_of(c, struct uart_rig, chr)->readies++;
}

static const struct chardev_ops host_ops = {.write = host_write, .ready = host_ready};

static int setup(void **state)
{
    struct uart_rig *u = calloc(1, sizeof(*u));
    struct error err;
    rig_init(&u->r);
    u->chr.ops = &host_ops;
    assert_int_equal(uart16550_create(&u->chr, rig_line(&u->r, 0), &u->uart, &err), 0);
    assert_int_equal(uart16550_attach(u->uart, u->r.bus, BASE, &err), 0);
    *state = u;
    return 0;
}

static int teardown(void **state)
{
    struct uart_rig *u = *state;
    uart16550_destroy(u->uart);
    rig_done(&u->r);
    free(u);
    return 0;
}

static size_t host_sends(struct uart_rig *u, const char *text)
{
    return u->chr.receive(u->chr.receive_ctx, (const u8 *)text, strlen(text));
}

static void test_reset_values(void **state)
{
    struct rig *r = &((struct uart_rig *)*state)->r;
    assert_int_equal(in8(r, IER), 0);
    assert_int_equal(in8(r, IIR), 0x01);
    assert_int_equal(in8(r, LCR), 0);
    assert_int_equal(in8(r, MCR), 0);
    assert_int_equal(in8(r, LSR), 0x60);
    assert_int_equal(in8(r, MSR), 0xb0);
}

static void test_scratch_and_divisor(void **state)
{
    struct rig *r = &((struct uart_rig *)*state)->r;
    out8(r, SCR, 0xa5);
    assert_int_equal(in8(r, SCR), 0xa5);
    out8(r, IER, 0x05);
    out8(r, LCR, 0x83);
    out8(r, DATA, 0x01);
    out8(r, IER, 0x02);
    assert_int_equal(in8(r, DATA), 0x01);
    assert_int_equal(in8(r, IER), 0x02);
    out8(r, LCR, 0x03);
    assert_int_equal(in8(r, IER), 0x05);
    assert_int_equal(((struct uart_rig *)*state)->out_len, 0);
}

/* What Linux's 8250 driver looks at to tell a 16550A from its relatives. */
static void test_linux_autoconfig(void **state)
{
    struct rig *r = &((struct uart_rig *)*state)->r;
    out8(r, IER, 0xff);
    assert_int_equal(in8(r, IER), 0x0f);
    out8(r, IER, 0);
    assert_int_equal(in8(r, IER), 0);
    out8(r, MCR, 0x1a);
    assert_int_equal(in8(r, MSR) & 0xf0, 0x90);
    out8(r, MCR, 0);
    out8(r, FCR, 0x01);
    assert_int_equal(in8(r, IIR) >> 6, 3);
    out8(r, FCR, 0x21); /* a 16750 would show bit 5 */
    assert_int_equal(in8(r, IIR) >> 5, 6);
    out8(r, FCR, 0);
    assert_int_equal(in8(r, IIR) >> 6, 0);
}

/* Linux's tests of the THR-empty interrupt at start-up. */
static void test_thre_interrupt(void **state)
{
    struct uart_rig *u = *state;
    struct rig *r = &u->r;
    out8(r, IER, 0x02);
    assert_int_equal(r->pin[0].level, 1);
    assert_int_equal(in8(r, IIR), 0x02);
    assert_int_equal(r->pin[0].level, 0);
    assert_int_equal(in8(r, IIR), 0x01);
    out8(r, IER, 0x00);
    out8(r, IER, 0x02);
    assert_int_equal(in8(r, IIR), 0x02);
    out8(r, IER, 0x02); /* no rising edge: stays quiet */
    assert_int_equal(in8(r, IIR), 0x01);
    out8(r, DATA, 'x');
    assert_int_equal(r->pin[0].level, 1);
    unsigned rises = r->pin[0].rises;
    out8(r, DATA, 'y'); /* the interrupt is withdrawn and comes again: an edge */
    assert_int_equal(r->pin[0].rises, rises + 1);
    assert_memory_equal(u->out, "xy", 2);
}

static void test_receive_levels(void **state)
{
    struct uart_rig *u = *state;
    struct rig *r = &u->r;
    out8(r, FCR, 0x81); /* trigger at 8 */
    out8(r, IER, 0x01);
    assert_int_equal(host_sends(u, "abc"), 3);
    assert_int_equal(r->pin[0].level, 1);
    assert_int_equal(in8(r, IIR), 0xcc); /* below the trigger: timeout */
    assert_int_equal(host_sends(u, "defgh"), 5);
    assert_int_equal(in8(r, IIR), 0xc4);
    for (const char *p = "abcdefgh"; *p; p++) {
        assert_int_equal(in8(r, LSR) & 1, 1);
        assert_int_equal(in8(r, DATA), *p);
    }
    assert_int_equal(in8(r, LSR) & 1, 0);
    assert_int_equal(r->pin[0].level, 0);
    assert_int_equal(in8(r, DATA), 0);
}

static void test_back_pressure(void **state)
{
    struct uart_rig *u = *state;
    struct rig *r = &u->r;
    out8(r, FCR, 0x01);
    out8(r, IER, 0x01);
    assert_int_equal(host_sends(u, "0123456789abcdefXYZ"), 16);
    assert_int_equal(in8(r, LSR) & 2, 0);
    assert_int_equal(u->readies, 0);
    assert_int_equal(in8(r, DATA), '0');
    assert_int_equal(u->readies, 1);
    assert_int_equal(host_sends(u, "XYZ"), 1);
    out8(r, FCR, 0x03); /* clearing makes room too */
    assert_int_equal(u->readies, 2);
    assert_int_equal(in8(r, LSR) & 1, 0);
}

static void test_one_byte_without_fifo(void **state)
{
    struct uart_rig *u = *state;
    struct rig *r = &u->r;
    out8(r, IER, 0x01);
    assert_int_equal(host_sends(u, "ab"), 1);
    assert_int_equal(in8(r, IIR), 0x04);
    assert_int_equal(in8(r, DATA), 'a');
}

/* Input waits until the guest listens: by interrupt, or by polling LSR. */
static void test_input_is_held_back(void **state)
{
    struct uart_rig *u = *state;
    struct rig *r = &u->r;
    out8(r, FCR, 0x07);
    assert_int_equal(host_sends(u, "a"), 0);
    for (int i = 0; i < 10; i++) { /* a transmitter's polling doesn't count */
        in8(r, LSR);
        out8(r, DATA, '.');
    }
    assert_int_equal(host_sends(u, "a"), 0);
    assert_int_equal(u->readies, 0);
    for (int i = 0; i < 3; i++)
        in8(r, LSR);
    assert_int_equal(u->readies, 1);
    assert_int_equal(host_sends(u, "a"), 1);
    assert_int_equal(in8(r, LSR) & 1, 1);
    assert_int_equal(in8(r, DATA), 'a');
    in8(r, SCR);
    assert_int_equal(host_sends(u, "b"), 0);
    out8(r, IER, 0x01);
    assert_int_equal(u->readies, 2);
    assert_int_equal(host_sends(u, "b"), 1);
}

/* Linux looks for the chip with all interrupts on, and enables the FIFO after the receive interrupt;
 * both would lose what came in between. RTS says that it is ready, and that it no longer is. */
static void test_linux_start_loses_nothing(void **state)
{
    struct uart_rig *u = *state;
    struct rig *r = &u->r;
    assert_int_equal(host_sends(u, "abc"), 0);
    out8(r, IER, 0x0f);
    assert_int_equal(host_sends(u, "abc"), 0);
    out8(r, IER, 0);
    out8(r, MCR, 0x08);
    out8(r, IER, 0x05);
    assert_int_equal(host_sends(u, "abc"), 0);
    out8(r, FCR, 0x01);
    assert_int_equal(u->readies, 0);
    out8(r, MCR, 0x0b);
    assert_int_equal(u->readies, 1);
    assert_int_equal(host_sends(u, "abc"), 3);
    out8(r, MCR, 0x09);
    assert_int_equal(host_sends(u, "d"), 0);
}

static void test_loopback(void **state)
{
    struct uart_rig *u = *state;
    struct rig *r = &u->r;
    in8(r, MSR);
    out8(r, FCR, 0x01);
    out8(r, MCR, 0x10);
    out8(r, IER, 0x05);
    assert_int_equal(host_sends(u, "n"), 0);
    for (int i = 0; i < 17; i++)
        out8(r, DATA, 'A' + i);
    assert_int_equal(u->out_len, 0);
    assert_int_equal(in8(r, IIR), 0xc6); /* the overrun has priority */
    assert_int_equal(in8(r, LSR) & 3, 3);
    assert_int_equal(in8(r, LSR) & 3, 1);
    for (int i = 0; i < 16; i++)
        assert_int_equal(in8(r, DATA), 'A' + i);
    out8(r, MCR, 0x00);
    assert_int_equal(u->readies, 1);
}

static void test_modem_status(void **state)
{
    struct rig *r = &((struct uart_rig *)*state)->r;
    out8(r, IER, 0x08);
    assert_int_equal(r->pin[0].level, 0);
    out8(r, MCR, 0x10); /* CTS, DSR, DCD drop */
    assert_int_equal(in8(r, IIR), 0x00);
    assert_int_equal(r->pin[0].level, 1);
    assert_int_equal(in8(r, MSR), 0x0b);
    assert_int_equal(in8(r, MSR), 0x00);
    assert_int_equal(r->pin[0].level, 0);
    out8(r, MCR, 0x14); /* OUT1 is RI: its rise is no event, its fall is */
    assert_int_equal(in8(r, MSR), 0x40);
    out8(r, MCR, 0x10);
    assert_int_equal(in8(r, MSR), 0x04);
}

static void test_reset(void **state)
{
    struct uart_rig *u = *state;
    struct rig *r = &u->r;
    out8(r, IER, 0x03);
    host_sends(u, "a");
    assert_int_equal(r->pin[0].level, 1);
    uart16550_reset(u->uart);
    assert_int_equal(r->pin[0].level, 0);
    assert_int_equal(in8(r, LSR), 0x60);
    assert_int_equal(in8(r, IER), 0);
}

static void test_fuzz(void **state)
{
    struct uart_rig *u = *state;
    for (int i = 0; i < 10; i++) {
        host_sends(u, "some more input");
        rig_fuzz(&u->r, BASE, 8);
    }
    uart16550_reset(u->uart);
    test_receive_levels(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reset_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scratch_and_divisor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_linux_autoconfig, setup, teardown),
        cmocka_unit_test_setup_teardown(test_thre_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_receive_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_back_pressure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_byte_without_fifo, setup, teardown),
        cmocka_unit_test_setup_teardown(test_input_is_held_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_linux_start_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_loopback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_modem_status, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fuzz, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
