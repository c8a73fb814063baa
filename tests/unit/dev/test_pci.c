/*
 * PCI configuration space, the board's functions, and the ports that reset the machine.
 */
#include "rig.h"

#include <errno.h>

#include "dev/debug_exit.h"
#include "dev/i440fx.h"
#include "dev/pci.h"
#include "dev/pcmap.h"
#include "dev/piix.h"

#define ADDRESS 0xcf8
#define DATA    0xcfc

struct pci_rig {
    struct rig r;
    struct reset_ports *reset;
    struct pci_bus *pci;
    struct guest_mem *gm;
    struct i440fx *bridge;
    struct pirq *pirq;
    struct piix *piix;
    struct debug_exit *debug_exit;
    unsigned hooks, hook_offset, hook_size;
};

static int setup(void **state)
{
    struct pci_rig *t = calloc(1, sizeof(*t));
    struct error err;
    rig_init(&t->r);
    assert_int_equal(reset_ports_create(&t->r.power, &t->reset, &err), 0);
    assert_int_equal(reset_ports_attach(t->reset, t->r.bus, &err), 0);
    assert_int_equal(pci_create(t->reset, &t->pci, &err), 0);
    assert_int_equal(pci_attach(t->pci, t->r.bus, &err), 0);
    assert_int_equal(guestmem_create(MIB, &t->gm, &err), 0);
    assert_int_equal(i440fx_create(t->gm, t->pci, false, &t->bridge, &err), 0);
    assert_int_equal(
        pirq_create(rig_line(&t->r, 0), (struct irq_line){rig_pin, &t->r, 0}, &t->pirq, &err), 0);
    assert_int_equal(piix_create(t->pci, t->pirq, false, &t->piix, &err), 0);
    assert_int_equal(debug_exit_create(&t->r.power, &t->debug_exit, &err), 0);
    assert_int_equal(debug_exit_attach(t->debug_exit, t->r.bus, &err), 0);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct pci_rig *t = *state;
    debug_exit_destroy(t->debug_exit);
    piix_destroy(t->piix);
    i440fx_destroy(t->bridge);
    pci_destroy(t->pci);
    pirq_destroy(t->pirq);
    guestmem_destroy(t->gm);
    reset_ports_destroy(t->reset);
    rig_done(&t->r);
    free(t);
    return 0;
}

static void aim(struct rig *r, unsigned dev, unsigned fn, unsigned offset)
{
    out32(r, ADDRESS, 0x80000000 | dev << 11 | fn << 8 | offset);
}

static u32 get(struct rig *r, unsigned dev, unsigned fn, unsigned offset)
{
    aim(r, dev, fn, offset);
    return in32(r, DATA);
}

static void test_mechanism(void **state)
{
    struct rig *r = &((struct pci_rig *)*state)->r;
    out8(r, 0xcfb, 0x01); /* as Linux's check of mechanism 1 does */
    out32(r, ADDRESS, 0x80000000);
    assert_int_equal(in32(r, ADDRESS), 0x80000000);
    out16(r, ADDRESS, 0x1234); /* 32-bit accesses only */
    out8(r, ADDRESS, 0x12);
    assert_int_equal(in32(r, ADDRESS), 0x80000000);
    assert_int_equal(in8(r, ADDRESS), 0xff);
    assert_int_equal(in32(r, DATA), 0x12378086);
    assert_int_equal(in16(r, DATA + 2), 0x1237);
    assert_int_equal(in8(r, DATA + 1), 0x80);
    assert_int_equal(in16(r, DATA + 1), 0x3780);
    out32(r, ADDRESS, 0);
    assert_int_equal(in32(r, DATA), 0xffffffff);
    out32(r, ADDRESS, 0x80010000); /* bus 1 */
    assert_int_equal(in32(r, DATA), 0xffffffff);
    assert_int_equal(get(r, 31, 7, 0), 0xffffffff);
    out32(r, DATA, 0); /* nobody's registers */
}

static void test_board(void **state)
{
    struct rig *r = &((struct pci_rig *)*state)->r;
    assert_int_equal(get(r, 0, 0, 8), 0x06000002);
    assert_int_equal(get(r, 1, 0, 0), 0x70008086);
    assert_int_equal(get(r, 1, 0, 8) >> 8, 0x060100);
    assert_int_equal(get(r, 1, 0, 0x0c) >> 16 & 0xff, 0x80);
    assert_int_equal(get(r, 1, 0, 0x60), 0x80808080);
    assert_int_equal(get(r, 1, 1, 0), 0xffffffff);
    assert_int_equal(get(r, 1, 3, 0), 0x71138086);
    assert_int_equal(get(r, 1, 3, 0x40), PC_PM_BASE | 1);
    out32(r, DATA, 0xffffffff);
    assert_int_equal(in32(r, DATA), PC_PM_BASE | 1);
    assert_int_equal(get(r, 1, 3, 0x80) & 1, 1);
    assert_int_equal(get(r, 1, 3, 0x3c) & 0xffff, 0x0109);
}

static void written(void *ctx, unsigned offset, unsigned size)
{
    struct pci_rig *t = ctx;
    t->hooks++;
    t->hook_offset = offset;
    t->hook_size = size;
}

static void test_masks_and_hooks(void **state)
{
    struct pci_rig *t = *state;
    struct rig *r = &t->r;
    struct pci_function f;
    struct error err;
    pci_function_init(&f, 0x1234, 0x5678, 0x010203, 4);
    pci_function_memory(&f, 0, 0x1000, NULL);
    pci_function_ports(&f, 5, 16, NULL);
    f.written = written;
    f.ctx = t;
    assert_int_equal(pci_add_function(t->pci, PCI_DEVFN(3, 0), &f, &err), 0);
    assert_int_equal(pci_add_function(t->pci, PCI_DEVFN(3, 0), &f, &err), -EBUSY);
    assert_int_equal(get(r, 3, 0, 0x08), 0x01020304);
    aim(r, 3, 0, 0x10);
    out32(r, DATA, 0xffffffff);
    assert_int_equal(in32(r, DATA), 0xfffff000);
    assert_int_equal(t->hooks, 1);
    assert_int_equal(t->hook_offset, 0x10);
    assert_int_equal(t->hook_size, 4);
    aim(r, 3, 0, 0x24);
    out32(r, DATA, 0xffffffff);
    assert_int_equal(in32(r, DATA), 0xfffffff1);
    aim(r, 3, 0, 0x00);
    out32(r, DATA, 0);
    assert_int_equal(in32(r, DATA), 0x56781234);
    pci_config_write(t->pci, PCI_DEVFN(3, 0), 0x06, 0xc010, 2);
    aim(r, 3, 0, 0x04);
    out16(r, DATA, 0xffff);
    assert_int_equal(in32(r, DATA), 0xc0100547);
    out16(r, DATA + 2, 0x8000); /* a written 1 clears; capability bit is fixed */
    assert_int_equal(t->hook_offset, 0x06);
    assert_int_equal(pci_config_read(t->pci, PCI_DEVFN(3, 0), 0x04, 4), 0x40100547);
    pci_reset(t->pci);
    assert_int_equal(get(r, 3, 0, 0x10), 0);
    assert_int_equal(get(r, 3, 0, 0x04), 0);
}

struct line_log {
    u32 level;
    unsigned calls;
};

static void log_line(void *ctx, unsigned n, int level)
{
    struct line_log *l = ctx;
    l->level = level ? l->level | 1u << n : l->level & ~(1u << n);
    l->calls++;
}

/* Pins of devices share lines; the routes lead them to the PICs, too. */
static void test_interrupt_routing(void **state)
{
    struct line_log isa = {0}, gsi = {0};
    struct pirq *p;
    (void)state;
    assert_int_equal(pirq_create((struct irq_line){log_line, &isa, 0},
                                 (struct irq_line){log_line, &gsi, 0}, &p, NULL),
                     0);
    pirq_set(p, 2 * 4 + 0, 1); /* 02.0 INTA#: PIRQB#, I/O APIC pin 18 */
    assert_int_equal(gsi.level, 1 << 18);
    assert_int_equal(isa.level, 0);
    pirq_route(p, 1, 11);
    assert_int_equal(isa.level, 1 << 11);
    pirq_set(p, 6 * 4 + 0, 1); /* shares the line */
    pirq_set(p, 2 * 4 + 0, 0);
    assert_int_equal(gsi.level, 1 << 18);
    assert_int_equal(gsi.calls, 1);
    pirq_set(p, 1 * 4 + 3, 1); /* 01.x INTD#: PIRQD#, pin 16 */
    assert_int_equal(gsi.level, 1 << 18 | 1 << 16);
    pirq_route(p, 3, 11); /* two routes to one input */
    pirq_route(p, 1, 0x8b);
    assert_int_equal(isa.level, 1 << 11);
    assert_int_equal(isa.calls, 1);
    pirq_set(p, 1 * 4 + 3, 0);
    assert_int_equal(isa.level, 0);
    pirq_route(p, 1, 5);
    assert_int_equal(isa.level, 1 << 5);
    pirq_reset(p);
    assert_int_equal(isa.level, 0);
    assert_int_equal(gsi.level, 1 << 18);
    pirq_destroy(p);
}

static u32 port_value(void *ctx, u16 port, unsigned size)
{
    (void)ctx;
    (void)size;
    return port + 0x40u;
}

/* Ports and memory answer where the registers say, while the command register lets them. */
static void test_base_addresses(void **state)
{
    static const struct port_ops ops = {.in = port_value};
    struct pci_rig *t = *state;
    struct rig *r = &t->r;
    struct port_range *ports;
    struct mem_region *region;
    struct pci_function f;
    struct error err;
    struct guest_mem *gm;
    u8 *hva;
    assert_int_equal(guestmem_create(MIB, &gm, &err), 0);
    assert_int_equal(port_range_create(r->bus, 16, &ops, NULL, NULL, false, &ports, &err), 0);
    assert_int_equal(mem_region_memory(gm, LAYER_BUS, PAGE_SIZE, false, &hva, &region, &err), 0);
    hva[5] = 0x99;
    pci_function_init(&f, 0x1234, 0x5678, 0x010203, 4);
    pci_function_ports(&f, 0, 16, ports);
    pci_function_memory(&f, 1, PAGE_SIZE, region);
    assert_int_equal(pci_add_function(t->pci, PCI_DEVFN(3, 0), &f, &err), 0);
    aim(r, 3, 0, 0x10);
    out32(r, DATA, 0xc001);
    aim(r, 3, 0, 0x14);
    out32(r, DATA, 0xe0000000);
    assert_int_equal(in8(r, 0xc003), 0xff);
    aim(r, 3, 0, 0x04);
    out16(r, DATA, 3);
    assert_int_equal(in8(r, 0xc003), 0x43);
    assert_int_equal(guestmem_load(gm, 0xe0000005, 1, NULL), 0x99);
    aim(r, 3, 0, 0x14); /* moved, byte by byte */
    out8(r, DATA + 2, 0x10);
    assert_int_equal(guestmem_load(gm, 0xe0000005, 1, NULL), 0xff);
    assert_int_equal(guestmem_load(gm, 0xe0100005, 1, NULL), 0x99);
    out32(r, DATA, 0xffffffff); /* asks for the size */
    assert_int_equal(guestmem_load(gm, 0xfffff005, 1, NULL), 0xff);
    out32(r, DATA, 0xe0000000);
    pci_reset(t->pci);
    assert_int_equal(in8(r, 0xc003), 0xff);
    assert_int_equal(guestmem_load(gm, 0xe0000005, 1, NULL), 0xff);
    guestmem_destroy(gm);
}

static void test_reset_control(void **state)
{
    struct rig *r = &((struct pci_rig *)*state)->r;
    out8(r, 0xcf9, 0x02);
    assert_int_equal(r->resets, 0);
    assert_int_equal(in8(r, 0xcf9), 0x02);
    out8(r, 0xcf9, 0x06);
    assert_int_equal(r->resets, 1);
    out8(r, 0xcf9, 0x06); /* no rising edge */
    assert_int_equal(r->resets, 1);
    out8(r, 0xcf9, 0x02);
    out8(r, 0xcf9, 0x0e);
    assert_int_equal(r->resets, 2);
    out32(r, ADDRESS, 0x80000600); /* an address, not a reset */
    assert_int_equal(r->resets, 2);
}

static void test_port92(void **state)
{
    struct pci_rig *t = *state;
    struct rig *r = &t->r;
    out8(r, 0x92, 0x02);
    assert_true(r->a20);
    assert_int_equal(in8(r, 0x92), 0x02);
    out8(r, 0x92, 0x00);
    assert_false(r->a20);
    assert_int_equal(r->resets, 0);
    out8(r, 0x92, 0x03);
    out8(r, 0x92, 0x03);
    assert_int_equal(r->resets, 1);
    reset_ports_reset(t->reset);
    out8(r, 0x92, 0x01);
    assert_int_equal(r->resets, 2);
}

static void test_debug_exit(void **state)
{
    struct rig *r = &((struct pci_rig *)*state)->r;
    out8(r, 0xf4, 0x101);
    assert_int_equal(r->debug_value, 0x01);
    out16(r, 0xf4, 0xbeef);
    assert_int_equal(r->debug_value, 0xbeef);
    out32(r, 0xf4, 0xdeadbeef);
    assert_int_equal(r->debug_value, 0xdeadbeef);
    assert_int_equal(r->debug_exits, 3);
    out8(r, 0xf5, 1);
    assert_int_equal(r->debug_exits, 3);
    assert_int_equal(in8(r, 0xf4), 0xff);
}

static void test_fuzz(void **state)
{
    struct pci_rig *t = *state;
    struct rig *r = &t->r;
    for (int i = 0; i < 1000; i++) {
        out32(r, ADDRESS, 0x80000000 | (rig_random(r) & 0x1ffff));
        out32(r, DATA, rig_random(r));
    }
    rig_fuzz(r, 0xcf8 - 4, 16);
    rig_fuzz(r, 0x92, 1);
    rig_fuzz(r, 0xf0, 12);
    pci_reset(t->pci);
    test_mechanism(state);
    test_board(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mechanism, setup, teardown),
        cmocka_unit_test_setup_teardown(test_board, setup, teardown),
        cmocka_unit_test_setup_teardown(test_masks_and_hooks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_base_addresses, setup, teardown),
        cmocka_unit_test(test_interrupt_routing),
        cmocka_unit_test_setup_teardown(test_reset_control, setup, teardown),
        cmocka_unit_test_setup_teardown(test_port92, setup, teardown),
        cmocka_unit_test_setup_teardown(test_debug_exit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fuzz, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
