/*
 * The two 8259A at register level: through the port bus on one side, lines and INTA on the other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "dev/i8259.h"

struct fixture {
    struct port_bus *bus;
    struct i8259 *pic;
    int intr;
};

static void set_intr(void *ctx, unsigned n, int level)
{
    struct fixture *f = ctx;
    assert_int_equal(n, 5);
    f->intr = level;
}

static void out(struct fixture *f, u16 port, u8 value)
{
    port_out(f->bus, port, value, 1);
}

static u8 in(struct fixture *f, u16 port)
{
    return (u8)port_in(f->bus, port, 1);
}

static void irq(struct fixture *f, unsigned n, int level)
{
    i8259_set_irq(f->pic, n, level);
}

static void pulse(struct fixture *f, unsigned n)
{
    irq(f, n, 1);
    irq(f, n, 0);
}

static int ack(struct fixture *f)
{
    return i8259_acknowledge(f->pic);
}

/* As a PC's firmware does; vectors 0x20 and 0x28, everything unmasked. */
static void init_pics(struct fixture *f, u8 icw4)
{
    out(f, 0x20, 0x11);
    out(f, 0x21, 0x20);
    out(f, 0x21, 0x04);
    out(f, 0x21, icw4);
    out(f, 0xa0, 0x11);
    out(f, 0xa1, 0x28);
    out(f, 0xa1, 0x02);
    out(f, 0xa1, icw4);
    out(f, 0x21, 0);
    out(f, 0xa1, 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct irq_line intr = {set_intr, f, 5};
    assert_int_equal(portbus_create(&f->bus, NULL), 0);
    assert_int_equal(i8259_create(&intr, &f->pic, NULL), 0);
    assert_int_equal(i8259_attach(f->pic, f->bus, NULL), 0);
    init_pics(f, 0x01);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    i8259_destroy(f->pic);
    portbus_destroy(f->bus);
    free(f);
    return 0;
}

static void uninitialized_is_silent(void **state)
{
    struct fixture *f = *state;
    i8259_reset(f->pic);
    pulse(f, 1);
    pulse(f, 9);
    assert_int_equal(f->intr, 0);
    assert_int_equal(in(f, 0x21), 0xff);
}

static void edge_and_eoi(void **state)
{
    struct fixture *f = *state;
    irq(f, 3, 1);
    assert_int_equal(f->intr, 1);
    assert_int_equal(in(f, 0x20), 0x08); /* IRR */
    assert_int_equal(ack(f), 0x23);
    assert_int_equal(f->intr, 0);
    assert_int_equal(in(f, 0x20), 0);
    out(f, 0x20, 0x0b);
    assert_int_equal(in(f, 0x20), 0x08); /* ISR */
    out(f, 0x20, 0x0a);
    out(f, 0x20, 0x20);
    assert_int_equal(f->intr, 0); /* still high, but no new edge */
    irq(f, 3, 0);
    irq(f, 3, 1);
    assert_int_equal(f->intr, 1);
}

static void edge_stays_latched(void **state)
{
    struct fixture *f = *state;
    pulse(f, 0);
    pulse(f, 0);
    assert_int_equal(ack(f), 0x20);
    out(f, 0x20, 0x20);
    assert_int_equal(f->intr, 0); /* two edges, one request */
}

static void priority_and_nesting(void **state)
{
    struct fixture *f = *state;
    pulse(f, 5);
    pulse(f, 3);
    pulse(f, 6);
    assert_int_equal(ack(f), 0x23);
    assert_int_equal(f->intr, 0);
    pulse(f, 1); /* higher: nests */
    assert_int_equal(f->intr, 1);
    assert_int_equal(ack(f), 0x21);
    out(f, 0x20, 0x20); /* ends 1 */
    assert_int_equal(f->intr, 0);
    out(f, 0x20, 0x20); /* ends 3 */
    assert_int_equal(ack(f), 0x25);
    out(f, 0x20, 0x65); /* specific */
    assert_int_equal(ack(f), 0x26);
    out(f, 0x20, 0x60); /* specific, another one: nothing */
    pulse(f, 7);
    assert_int_equal(f->intr, 0);
    out(f, 0x20, 0x66);
    assert_int_equal(ack(f), 0x27);
}

static void mask(void **state)
{
    struct fixture *f = *state;
    out(f, 0x21, 0x10);
    assert_int_equal(in(f, 0x21), 0x10);
    pulse(f, 4);
    assert_int_equal(f->intr, 0);
    assert_int_equal(in(f, 0x20), 0x10); /* latched under the mask */
    out(f, 0x21, 0);
    assert_int_equal(ack(f), 0x24);
}

static void cascade(void **state)
{
    struct fixture *f = *state;
    pulse(f, 12);
    assert_int_equal(f->intr, 1);
    assert_int_equal(in(f, 0x20), 0x04);
    assert_int_equal(ack(f), 0x2c);
    pulse(f, 8); /* higher on the slave, but the master's input 2 is in service */
    assert_int_equal(f->intr, 0);
    out(f, 0x20, 0x20);
    assert_int_equal(f->intr, 1);
    assert_int_equal(ack(f), 0x28);
    out(f, 0xa0, 0x20);
    out(f, 0x20, 0x20);
    pulse(f, 3); /* below the cascade on the master */
    pulse(f, 15);
    assert_int_equal(ack(f), 0x23); /* 12 is in service on the slave and blocks 15 */
    out(f, 0x20, 0x20);
    out(f, 0xa0, 0x20);
    assert_int_equal(ack(f), 0x2f);
}

static void special_fully_nested(void **state)
{
    struct fixture *f = *state;
    init_pics(f, 0x11);
    pulse(f, 12);
    assert_int_equal(ack(f), 0x2c);
    pulse(f, 8);
    assert_int_equal(f->intr, 1);
    assert_int_equal(ack(f), 0x28);
}

static void level_triggered(void **state)
{
    struct fixture *f = *state;
    out(f, 0x4d0, 0xff);
    out(f, 0x4d1, 0xff);
    assert_int_equal(in(f, 0x4d0), 0xf8); /* 0, 1 and 2 can't */
    assert_int_equal(in(f, 0x4d1), 0xde); /* 8 and 13 neither */
    irq(f, 11, 1);
    assert_int_equal(ack(f), 0x2b);
    out(f, 0xa0, 0x20);
    out(f, 0x20, 0x20);
    assert_int_equal(f->intr, 1); /* still asserted */
    assert_int_equal(ack(f), 0x2b);
    irq(f, 11, 0);
    out(f, 0xa0, 0x20);
    out(f, 0x20, 0x20);
    assert_int_equal(f->intr, 0);
    i8259_reset(f->pic);
    assert_int_equal(in(f, 0x4d0), 0);
}

static void spurious(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ack(f), 0x27);
    out(f, 0x20, 0x0b);
    assert_int_equal(in(f, 0x20), 0); /* ISR untouched */
    out(f, 0x4d0, 0x20);
    irq(f, 5, 1);
    irq(f, 5, 0); /* level gone before INTA */
    assert_int_equal(f->intr, 0);
    assert_int_equal(ack(f), 0x27);
    out(f, 0xa0, 0x0c); /* slave by poll: nothing there */
    assert_int_equal(in(f, 0xa0) & 0x80, 0);
}

static void auto_eoi_and_rotation(void **state)
{
    struct fixture *f = *state;
    init_pics(f, 0x03);
    pulse(f, 3);
    assert_int_equal(ack(f), 0x23);
    out(f, 0x20, 0x0b);
    assert_int_equal(in(f, 0x20), 0);
    out(f, 0x20, 0x80); /* rotate in automatic EOI mode */
    pulse(f, 3);
    assert_int_equal(ack(f), 0x23); /* 3 is now the lowest */
    pulse(f, 3);
    pulse(f, 4);
    assert_int_equal(ack(f), 0x24);
    assert_int_equal(ack(f), 0x23);
    out(f, 0x20, 0x00); /* no more rotation */
    pulse(f, 5);
    assert_int_equal(ack(f), 0x25);
    pulse(f, 5);
    pulse(f, 4);
    assert_int_equal(ack(f), 0x24);
}

static void rotation_by_command(void **state)
{
    struct fixture *f = *state;
    pulse(f, 0);
    assert_int_equal(ack(f), 0x20);
    out(f, 0x20, 0xa0); /* rotate on non-specific EOI: 0 becomes the lowest */
    pulse(f, 0);
    pulse(f, 7);
    assert_int_equal(ack(f), 0x27);
    out(f, 0x20, 0xe7); /* rotate on specific EOI: 7 becomes the lowest */
    assert_int_equal(ack(f), 0x20);
    out(f, 0x20, 0x20);
    out(f, 0x20, 0xc4); /* set priority: 4 is the lowest, 5 the highest */
    pulse(f, 0);
    pulse(f, 5);
    assert_int_equal(ack(f), 0x25);
}

static void special_mask(void **state)
{
    struct fixture *f = *state;
    pulse(f, 3);
    assert_int_equal(ack(f), 0x23);
    pulse(f, 6);
    assert_int_equal(f->intr, 0);
    out(f, 0x20, 0x68);
    out(f, 0x21, 0x08);
    assert_int_equal(f->intr, 1); /* 3 is in service but masked: 6 gets through */
    assert_int_equal(ack(f), 0x26);
    out(f, 0x20, 0x20); /* ends 6, not the masked 3 */
    out(f, 0x20, 0x0b);
    assert_int_equal(in(f, 0x20), 0x08);
    out(f, 0x20, 0x48);
    pulse(f, 6);
    assert_int_equal(f->intr, 0);
}

static void poll_mode(void **state)
{
    struct fixture *f = *state;
    pulse(f, 4);
    out(f, 0x20, 0x0c);
    assert_int_equal(in(f, 0x20), 0x84);
    assert_int_equal(f->intr, 0);
    out(f, 0x20, 0x0b);
    assert_int_equal(in(f, 0x20), 0x10);
    pulse(f, 10);
    out(f, 0xa0, 0x0c);
    assert_int_equal(in(f, 0xa1), 0x82); /* also at the other address */
    assert_int_equal(in(f, 0xa1), 0);
}

static void init_again_forgets(void **state)
{
    struct fixture *f = *state;
    irq(f, 3, 1);
    irq(f, 4, 1);
    assert_int_equal(ack(f), 0x23);
    out(f, 0x20, 0x11);
    assert_int_equal(f->intr, 0);
    out(f, 0x21, 0x70);
    out(f, 0x21, 0x04);
    out(f, 0x21, 0x01);
    assert_int_equal(in(f, 0x20), 0); /* lines that are high need a new edge */
    irq(f, 4, 0);
    irq(f, 4, 1);
    assert_int_equal(ack(f), 0x74);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(uninitialized_is_silent),
        TEST(edge_and_eoi),
        TEST(edge_stays_latched),
        TEST(priority_and_nesting),
        TEST(mask),
        TEST(cascade),
        TEST(special_fully_nested),
        TEST(level_triggered),
        TEST(spurious),
        TEST(auto_eoi_and_rotation),
        TEST(rotation_by_command),
        TEST(special_mask),
        TEST(poll_mode),
        TEST(init_again_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
