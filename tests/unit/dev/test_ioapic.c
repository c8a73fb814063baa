/*
 * The I/O APIC at register level, with real local APICs behind it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "cpu/irq.h"
#include "dev/ioapic.h"
#include "dev/pcmap.h"

#define NCPUS 2

#define EDGE       0
#define LEVEL      0x8000
#define MASKED     0x10000
#define REMOTE_IRR 0x4000

struct fixture {
    struct machine m;
    struct vcpu *v[NCPUS];
    struct guest_mem *gm;
    struct clock *clock;
    struct lapic_bus *bus;
    struct ioapic *io;
};

static void store(struct fixture *f, u64 gpa, u32 value)
{
    guestmem_store(f->gm, gpa, value, 4, NULL);
}

static u32 read_reg(struct fixture *f, unsigned reg)
{
    store(f, PC_IOAPIC_ADDR, reg);
    return (u32)guestmem_load(f->gm, PC_IOAPIC_ADDR + 0x10, 4, NULL);
}

static void write_reg(struct fixture *f, unsigned reg, u32 value)
{
    store(f, PC_IOAPIC_ADDR, reg);
    store(f, PC_IOAPIC_ADDR + 0x10, value);
}

static void route(struct fixture *f, unsigned pin, u8 dest, u32 low)
{
    write_reg(f, 0x11 + 2 * pin, (u32)dest << 24);
    write_reg(f, 0x10 + 2 * pin, low);
}

static void pin(struct fixture *f, unsigned n, int level)
{
    ioapic_set_irq(f->io, n, level);
}

static int ack(struct fixture *f, unsigned cpu)
{
    return f->v[cpu]->irq->acknowledge(f->v[cpu]);
}

static void lapic_write(struct fixture *f, unsigned cpu, unsigned off, u32 value)
{
    lapic_set_current(f->v[cpu]);
    store(f, PC_LAPIC_ADDR + off, value);
}

static void eoi(struct fixture *f, unsigned cpu)
{
    lapic_write(f, cpu, 0xb0, 0);
}

static u32 events(struct fixture *f, unsigned cpu)
{
    return atomic_exchange(&f->v[cpu]->events, 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->m.ncpus = NCPUS;
    for (unsigned i = 0; i < NCPUS; i++) {
        f->v[i] = aligned_alloc(64, align_up(sizeof(struct vcpu), 64));
        memset(f->v[i], 0, sizeof(struct vcpu));
        f->v[i]->id = i;
        f->v[i]->bsp = i == 0;
        f->m.vcpu[i] = f->v[i];
    }
    assert_int_equal(guestmem_create(MIB, &f->gm, NULL), 0);
    f->clock = clock_create_manual();
    assert_int_equal(lapic_bus_create(&f->m, f->clock, &f->bus, NULL), 0);
    assert_int_equal(lapic_bus_attach(f->bus, f->gm, NULL), 0);
    assert_int_equal(ioapic_create(f->bus, NCPUS, &f->io, NULL), 0);
    assert_int_equal(ioapic_attach(f->io, f->gm, NULL), 0);
    for (unsigned i = 0; i < NCPUS; i++) {
        lapic_write(f, i, 0xf0, 0x1ff);
        lapic_write(f, i, 0xd0, 1U << (24 + i));
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ioapic_destroy(f->io);
    lapic_bus_destroy(f->bus);
    clock_destroy(f->clock);
    guestmem_destroy(f->gm);
    for (unsigned i = 0; i < NCPUS; i++)
        free(f->v[i]);
    lapic_set_current(NULL);
    free(f);
    return 0;
}

static void registers(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(read_reg(f, 0), NCPUS << 24);
    assert_int_equal(read_reg(f, 1), 0x170020);
    for (unsigned n = 0; n < 24; n++)
        assert_int_equal(read_reg(f, 0x10 + 2 * n), MASKED);
    write_reg(f, 0x10, 0xffffffff);
    write_reg(f, 0x11, 0xffffffff);
    assert_int_equal(read_reg(f, 0x10), 0x1afff); /* delivery status and remote IRR are read-only */
    assert_int_equal(read_reg(f, 0x11), 0xff000000);
    write_reg(f, 0x40, 0x12345678); /* past the table */
    write_reg(f, 0xff, 0x12345678);
    assert_int_equal(read_reg(f, 0x40), 0);
    assert_int_equal((u8)guestmem_load(f->gm, PC_IOAPIC_ADDR, 1, NULL), 0x40);
    ioapic_reset(f->io);
    assert_int_equal(read_reg(f, 0x10), MASKED);
    assert_int_equal(read_reg(f, 0x11), 0);
}

static void edge(void **state)
{
    struct fixture *f = *state;
    route(f, 4, 1, EDGE | 0x34);
    pin(f, 4, 1);
    pin(f, 4, 1); /* no edge */
    assert_int_equal(ack(f, 1), 0x34);
    assert_int_equal(ack(f, 0), -1);
    assert_int_equal(read_reg(f, 0x18), 0x34);
    eoi(f, 1);
    assert_int_equal(ack(f, 1), -1);
    pin(f, 4, 0);
    pin(f, 4, 1);
    assert_int_equal(ack(f, 1), 0x34);
    eoi(f, 1);
    pin(f, 4, 0);
    route(f, 4, 1, MASKED | 0x34);
    pin(f, 4, 1); /* lost */
    route(f, 4, 1, EDGE | 0x34);
    assert_int_equal(ack(f, 1), -1);
}

static void level(void **state)
{
    struct fixture *f = *state;
    route(f, 9, 0, LEVEL | 0x49);
    pin(f, 9, 1);
    assert_int_equal(read_reg(f, 0x22), LEVEL | REMOTE_IRR | 0x49);
    assert_int_equal(ack(f, 0), 0x49);
    pin(f, 9, 0);
    pin(f, 9, 1); /* held back by Remote IRR */
    assert_int_equal(ack(f, 0), -1);
    eoi(f, 0); /* still asserted: again */
    assert_int_equal(ack(f, 0), 0x49);
    pin(f, 9, 0);
    eoi(f, 0);
    assert_int_equal(read_reg(f, 0x22), LEVEL | 0x49);
    assert_int_equal(ack(f, 0), -1);
}

static void level_mask_and_unmask(void **state)
{
    struct fixture *f = *state;
    route(f, 9, 0, LEVEL | MASKED | 0x49);
    pin(f, 9, 1);
    assert_int_equal(ack(f, 0), -1);
    route(f, 9, 0, LEVEL | 0x49); /* unmasked while asserted */
    assert_int_equal(ack(f, 0), 0x49);
    route(f, 9, 0, LEVEL | MASKED | 0x49);
    eoi(f, 0); /* masked: Remote IRR ends, nothing is sent */
    assert_int_equal(read_reg(f, 0x22), LEVEL | MASKED | 0x49);
    assert_int_equal(ack(f, 0), -1);
    route(f, 9, 0, LEVEL | 0x49);
    assert_int_equal(ack(f, 0), 0x49);
}

static void eoi_by_hand(void **state)
{
    struct fixture *f = *state;
    route(f, 9, 0, LEVEL | 0x49);
    pin(f, 9, 1);
    assert_int_equal(ack(f, 0), 0x49);
    pin(f, 9, 0);
    store(f, PC_IOAPIC_ADDR + 0x40, 0x48); /* another vector */
    assert_int_equal(read_reg(f, 0x22), LEVEL | REMOTE_IRR | 0x49);
    store(f, PC_IOAPIC_ADDR + 0x40, 0x49);
    assert_int_equal(read_reg(f, 0x22), LEVEL | 0x49);
    pin(f, 9, 1);
    route(f, 9, 0, MASKED | EDGE | 0x49); /* edge and back clears Remote IRR too */
    route(f, 9, 0, MASKED | LEVEL | 0x49);
    assert_int_equal(read_reg(f, 0x22), MASKED | LEVEL | 0x49);
}

static void shared_vector(void **state)
{
    struct fixture *f = *state;
    route(f, 10, 0, LEVEL | 0x49);
    route(f, 11, 0, LEVEL | 0x49);
    pin(f, 10, 1);
    assert_int_equal(ack(f, 0), 0x49);
    pin(f, 11, 1); /* the same vector is in service: waits in IRR */
    assert_int_equal(ack(f, 0), -1);
    pin(f, 10, 0);
    eoi(f, 0); /* ends Remote IRR of both; 11 is still asserted */
    assert_int_equal(ack(f, 0), 0x49);
    pin(f, 11, 0);
    eoi(f, 0);
    assert_int_equal(read_reg(f, 0x26), LEVEL | 0x49);
}

static void delivery_modes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        u32 mode;
        u32 event;
    } cases[] = {
        {0x200, EVENT_SMI},  {0x400, EVENT_NMI}, {0x500, EVENT_INIT},
        {0x700, EVENT_INTR}, {0x300, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        route(f, 3, 1, cases[i].mode | LEVEL);
        pin(f, 3, 1);
        assert_int_equal(events(f, 1), cases[i].event);
        assert_int_equal(events(f, 0), 0);
        assert_int_equal(read_reg(f, 0x16) & REMOTE_IRR, 0);
        pin(f, 3, 0);
    }
    route(f, 3, 3, 0x800 | 0x61); /* logical: both */
    pin(f, 3, 1);
    assert_int_equal(ack(f, 0), 0x61);
    assert_int_equal(ack(f, 1), 0x61);
    eoi(f, 0);
    eoi(f, 1);
    pin(f, 3, 0);
    lapic_write(f, 0, 0x80, 0x50);
    route(f, 3, 3, 0x900 | 0x61); /* lowest priority: cpu 1 */
    pin(f, 3, 1);
    assert_int_equal(ack(f, 0), -1);
    assert_int_equal(ack(f, 1), 0x61);
}

static void nobody_takes_it(void **state)
{
    struct fixture *f = *state;
    route(f, 5, 7, LEVEL | 0x45); /* no such APIC */
    pin(f, 5, 1);
    assert_int_equal(read_reg(f, 0x1a), LEVEL | 0x45);
    write_reg(f, 0x1b, 0); /* now there is */
    assert_int_equal(ack(f, 0), 0x45);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(registers),   TEST(edge),          TEST(level),          TEST(level_mask_and_unmask),
        TEST(eoi_by_hand), TEST(shared_vector), TEST(delivery_modes), TEST(nobody_takes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
