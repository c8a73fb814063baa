/*
 * MSI-X: the capability, the table and its masks, and what arrives at the local APICs; by a virtio
 * disk, which also shows that its interrupt pin is silent meanwhile.
 */
#include "virtio_driver.h"

#include "dev/lapic.h"
#include "dev/pcmap.h"

#define NCPUS 2
#define TABLE 0xe1000000ULL
#define PBA   (TABLE + 0x800)

struct fixture {
    struct driver d;
    struct machine m;
    struct vcpu *v[NCPUS];
    struct clock *clock;
    struct lapic_bus *bus;
    unsigned cap;
};

static void lapic_write(struct fixture *f, unsigned cpu, unsigned off, u32 value)
{
    lapic_set_current(f->v[cpu]);
    st(&f->d, PC_LAPIC_ADDR + off, value, 4);
}

static int ack(struct fixture *f, unsigned cpu)
{
    int vector = f->v[cpu]->irq->acknowledge(f->v[cpu]);
    if (vector >= 0)
        lapic_write(f, cpu, 0xb0, 0);
    return vector;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct error err;
    f->m.ncpus = NCPUS;
    for (unsigned i = 0; i < NCPUS; i++) {
        f->v[i] = aligned_alloc(64, align_up(sizeof(struct vcpu), 64));
        memset(f->v[i], 0, sizeof(struct vcpu));
        f->v[i]->id = i;
        f->v[i]->bsp = i == 0;
        f->m.vcpu[i] = f->v[i];
    }
    f->clock = clock_create_manual();
    assert_int_equal(lapic_bus_create(&f->m, f->clock, &f->bus, &err), 0);
    driver_create(&f->d, AT_ONCE, false, f->bus);
    assert_int_equal(lapic_bus_attach(f->bus, f->d.gm, &err), 0);
    for (unsigned i = 0; i < NCPUS; i++) {
        lapic_write(f, i, 0xf0, 0x1ff);
        lapic_write(f, i, 0xd0, 1U << (24 + i));
    }
    driver_place(&f->d);
    cfg_out(&f->d, 0x14, TABLE, 4);
    for (f->cap = cfg_in(&f->d, 0x34, 1); cfg_in(&f->d, f->cap, 1) != 0x11;)
        f->cap = cfg_in(&f->d, f->cap + 1, 1);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    driver_destroy(&f->d);
    lapic_bus_destroy(f->bus);
    clock_destroy(f->clock);
    for (unsigned i = 0; i < NCPUS; i++)
        free(f->v[i]);
    lapic_set_current(NULL);
    free(f);
    return 0;
}

static void control(struct fixture *f, u16 value)
{
    cfg_out(&f->d, f->cap + 2, value, 2);
}

/* Fills in an entry, masked or not. */
static void entry(struct fixture *f, unsigned n, u32 address, u32 data, bool masked)
{
    st(&f->d, TABLE + 16 * n, address, 4);
    st(&f->d, TABLE + 16 * n + 4, 0, 4);
    st(&f->d, TABLE + 16 * n + 8, data, 4);
    st(&f->d, TABLE + 16 * n + 12, masked, 4);
}

static void start(struct fixture *f, bool legacy)
{
    driver_start(&f->d, legacy, F_FLUSH);
    if (legacy) {
        out16(&f->d.r, DRV_PORTS + 22, 1);
        assert_int_equal(in16(&f->d.r, DRV_PORTS + 22), 1);
        out16(&f->d.r, DRV_PORTS + 20, 0);
        assert_int_equal(in16(&f->d.r, DRV_PORTS + 20), 0);
    } else {
        st(&f->d, DRV_BAR + 26, 1, 2);
        assert_int_equal(ld(&f->d, DRV_BAR + 26, 2), 1);
        st(&f->d, DRV_BAR + 16, 0, 2);
        assert_int_equal(ld(&f->d, DRV_BAR + 16, 2), 0);
    }
}

static void flush(struct fixture *f)
{
    assert_int_equal(request(&f->d, T_FLUSH, 0, 0, 0, false), S_OK);
}

static void test_capability(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    assert_int_equal(cfg_in(d, f->cap + 2, 2), 1); /* two vectors */
    assert_int_equal(cfg_in(d, f->cap + 4, 4), 0x000 | 1);
    assert_int_equal(cfg_in(d, f->cap + 8, 4), 0x800 | 1);
    control(f, 0xffff);
    assert_int_equal(cfg_in(d, f->cap + 2, 2), 0xc001);
    assert_int_equal(ld(d, TABLE + 12, 4), 1); /* masked after reset */
    st(d, TABLE + 16, 0x1122334455667788, 8);
    assert_int_equal(ld(d, TABLE + 20, 4), 0x11223344);
    st(d, TABLE + 16, 0xff, 1); /* whole words only */
    assert_int_equal(ld(d, TABLE + 16, 4), 0x55667788);
    st(d, TABLE + 32, 5, 4);
    assert_int_equal(ld(d, TABLE + 32, 4), 0);
    st(d, DRV_BAR + 26, 2, 2); /* no such vector */
    assert_int_equal(ld(d, DRV_BAR + 26, 2), 0xffff);
    st(d, DRV_BAR + 16, 2, 2);
    assert_int_equal(ld(d, DRV_BAR + 16, 2), 0xffff);
    virtio_blk_reset(d->blk);
    assert_int_equal(ld(d, TABLE + 20, 4), 0);
}

static void messages(struct fixture *f, bool legacy)
{
    control(f, 0x8000);
    start(f, legacy);
    entry(f, 1, 0xfee01000, 0x51, false); /* CPU 1 */
    flush(f);
    assert_int_equal(ack(f, 0), -1);
    assert_int_equal(ack(f, 1), 0x51);
    assert_int_equal(f->d.r.pin[0].rises, 0);
    entry(f, 1, 0xfee01004, 0x52, false); /* logical: CPU 0 */
    flush(f);
    assert_int_equal(ack(f, 0), 0x52);
    assert_int_equal(ack(f, 1), -1);
    entry(f, 1, 0xdee01000, 0x51, false); /* for nobody */
    flush(f);
    entry(f, 1, 0xfee00000, 0x53, false);
    st(&f->d, TABLE + 20, 1, 4);
    flush(f);
    assert_int_equal(ack(f, 0), -1);
    assert_int_equal(ack(f, 1), -1);
    if (!legacy) { /* the other vector: the device needs a reset */
        entry(f, 0, 0xfee00000, 0x60, false);
        make_available(&f->d, 500);
        kick(&f->d);
        assert_int_equal(ack(f, 0), 0x60);
    }
}

static void test_modern(void **state)
{
    messages(*state, false);
}

static void test_legacy(void **state)
{
    struct fixture *f = *state;
    f->d.legacy = true;
    assert_int_equal(in32(&f->d.r, DRV_PORTS + 20), DISK_SIZE / 512);
    messages(f, true);
    assert_int_equal(in32(&f->d.r, DRV_PORTS + 24), DISK_SIZE / 512);
}

static void test_masks(void **state)
{
    struct fixture *f = *state;
    control(f, 0x8000);
    start(f, false);
    entry(f, 1, 0xfee00000, 0x51, true);
    assert_int_equal(ld(&f->d, PBA, 8), 0);
    flush(f);
    flush(f);
    assert_int_equal(ack(f, 0), -1);
    assert_int_equal(ld(&f->d, PBA, 8), 2);
    entry(f, 1, 0xfee00000, 0x52, false);
    assert_int_equal(ack(f, 0), 0x52);
    assert_int_equal(ack(f, 0), -1);
    assert_int_equal(ld(&f->d, PBA, 4), 0);
    control(f, 0xc000); /* all */
    flush(f);
    assert_int_equal(ack(f, 0), -1);
    control(f, 0x8000);
    assert_int_equal(ack(f, 0), 0x52);
    st(&f->d, DRV_BAR + 26, 0xffff, 2); /* no vector: no message */
    flush(f);
    assert_int_equal(ack(f, 0), -1);
    assert_int_equal(ld(&f->d, PBA, 4), 0);
}

/* Between messages and the pin. */
static void test_switch(void **state)
{
    struct fixture *f = *state;
    start(f, false);
    entry(f, 1, 0xfee00000, 0x51, false);
    flush(f);
    assert_int_equal(f->d.r.pin[0].level, 1);
    assert_int_equal(ack(f, 0), -1);
    control(f, 0x8000);
    assert_int_equal(f->d.r.pin[0].level, 0);
    flush(f);
    assert_int_equal(ack(f, 0), 0x51);
    control(f, 0xc000);
    flush(f);
    control(f, 0);
    control(f, 0x8000); /* what was pending is gone */
    assert_int_equal(ack(f, 0), -1);
    control(f, 0);
    assert_int_equal(f->d.r.pin[0].level, 1);
    assert_int_equal(get_isr(&f->d), 1);
    assert_int_equal(f->d.r.pin[0].level, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_capability, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_modern, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_legacy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_masks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_switch, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
