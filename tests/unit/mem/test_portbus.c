/*
 * The port bus: who gets which access, in which pieces.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mem/portbus.h"

struct chip {
    unsigned calls;
    u16 port[8];
    unsigned size[8];
    u32 value[8];
};

static u32 chip_in(void *ctx, u16 port, unsigned size)
{
    struct chip *c = ctx;
    c->port[c->calls] = port;
    c->size[c->calls++] = size;
    return 0x11111100 + (port & 0xff); /* more than asked for: the bus cuts it */
}

static void chip_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct chip *c = ctx;
    c->port[c->calls] = port;
    c->size[c->calls] = size;
    c->value[c->calls++] = value;
}

static const struct port_ops ops = {.in = chip_in, .out = chip_out};

struct board {
    struct port_bus *bus;
    struct chip narrow, wide;
    pthread_mutex_t lock;
};

static int setup(void **state)
{
    static struct board b;
    memset(&b, 0, sizeof(b));
    pthread_mutex_init(&b.lock, NULL);
    assert_int_equal(portbus_create(&b.bus, NULL), 0);
    assert_int_equal(portbus_add(b.bus, 0x60, 4, &ops, &b.narrow, &b.lock, false, NULL), 0);
    assert_int_equal(portbus_add(b.bus, 0xcf8, 8, &ops, &b.wide, &b.lock, true, NULL), 0);
    *state = &b;
    return 0;
}

static int teardown(void **state)
{
    portbus_destroy(((struct board *)*state)->bus);
    return 0;
}

static void test_narrow(void **state)
{
    struct board *b = *state;
    assert_int_equal(port_in(b->bus, 0x61, 1), 0x61);
    assert_int_equal(port_in(b->bus, 0x60, 4), 0x63626160);
    assert_int_equal(b->narrow.calls, 5);
    assert_int_equal(b->narrow.size[4], 1);
    b->narrow.calls = 0;
    port_out(b->bus, 0x62, 0xabcd, 2);
    assert_int_equal(b->narrow.calls, 2);
    assert_int_equal(b->narrow.port[1], 0x63);
    assert_int_equal(b->narrow.value[0], 0xcd);
    assert_int_equal(b->narrow.value[1], 0xab);
}

static void test_wide(void **state)
{
    struct board *b = *state;
    assert_int_equal(port_in(b->bus, 0xcfc, 2), 0x11fc);
    assert_int_equal(port_in(b->bus, 0xcf8, 4), 0x111111f8);
    port_out(b->bus, 0xcfb, 0x12345678, 4);
    assert_int_equal(b->wide.calls, 3);
    assert_int_equal(b->wide.size[2], 4);
    assert_int_equal(b->wide.value[2], 0x12345678);
    port_out(b->bus, 0xcfc, 0x12345678, 1);
    assert_int_equal(b->wide.value[3], 0x78);
}

static void test_edges(void **state)
{
    struct board *b = *state;
    assert_int_equal(port_in(b->bus, 0x63, 2), 0xff63);      /* nobody at 0x64 */
    assert_int_equal(port_in(b->bus, 0xcfe, 4), 0xfffffffe); /* past the end: bytes */
    assert_int_equal(b->wide.size[0], 1);
    assert_int_equal(port_in(b->bus, 0x1000, 4), 0xffffffff);
    assert_int_equal(port_in(b->bus, 0xffff, 4), 0xffffffff);
    port_out(b->bus, 0xfffe, 0, 4);
    port_out(b->bus, 0x5f, 0x2211, 2);
    assert_int_equal(b->narrow.value[b->narrow.calls - 1], 0x22);
}

static void test_add(void **state)
{
    struct board *b = *state;
    struct error err;
    assert_int_equal(portbus_add(b->bus, 0x63, 1, &ops, b, NULL, false, &err), -EBUSY);
    assert_int_equal(portbus_add(b->bus, 0xffff, 2, &ops, b, NULL, false, &err), -EINVAL);
    assert_int_equal(portbus_add(b->bus, 0x100, 0, &ops, b, NULL, false, &err), -EINVAL);
    assert_int_equal(portbus_add(b->bus, 0xffff, 1, &ops, &b->wide, NULL, true, &err), 0);
    assert_int_equal(port_in(b->bus, 0xffff, 2), 0xffff);
    unsigned n = 0;
    while (portbus_add(b->bus, (u16)(0x2000 + n), 1, &ops, b, NULL, false, &err) == 0)
        n++;
    assert_int_equal(n, 252); /* 255 ranges, 3 of them above */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void test_ranges_that_move(void **state)
{
    struct board *b = *state;
    struct chip c = {0};
    struct port_range *r;
    assert_int_equal(port_range_create(b->bus, 0, &ops, &c, NULL, true, &r, NULL), -EINVAL);
    assert_int_equal(port_range_create(b->bus, 8, &ops, &c, NULL, true, &r, NULL), 0);
    assert_int_equal(port_in(b->bus, 0xc000, 1), 0xff);
    port_range_place(r, 0xc000);
    assert_int_equal(port_in(b->bus, 0xc004, 2), 0x1104); /* the port within the range */
    port_range_place(r, 0xc004);
    assert_int_equal(port_in(b->bus, 0xc003, 1), 0xff);
    assert_int_equal(port_in(b->bus, 0xc004, 1), 0);
    port_range_place(r, 0x5c); /* the upper half is another's */
    assert_int_equal(port_in(b->bus, 0x5f, 1), 3);
    assert_int_equal(port_in(b->bus, 0x60, 1), 0x60);
    assert_int_equal(port_in(b->bus, 0xc004, 1), 0xff);
    port_range_remove(r);
    assert_int_equal(port_in(b->bus, 0x5f, 1), 0xff);
    assert_int_equal(port_in(b->bus, 0x60, 1), 0x60);
    port_range_place(r, 0xfffc); /* what is past the last port is not there */
    assert_int_equal(port_in(b->bus, 0xffff, 1), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_narrow),           TEST(test_wide), TEST(test_edges), TEST(test_add),
        TEST(test_ranges_that_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
