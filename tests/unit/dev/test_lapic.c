/*
 * Local APICs at register level: vCPUs that are only state, a manual clock, and the MMIO page. What
 * the CPU would do is done by hand: look at pending(), acknowledge, write EOI.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/tunables.h"
#include "cpu/irq.h"
#include "dev/lapic.h"
#include "dev/pcmap.h"

#define NCPUS 4

/* Register offsets. */
enum {
    ID = 0x20,
    VERSION = 0x30,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR_HIGH = 0x310,
    TIMER = 0x320,
    PERF = 0x340,
    LINT0 = 0x350,
    LINT1 = 0x360,
    ERROR = 0x370,
    INITIAL = 0x380,
    CURRENT = 0x390,
    DIVIDE = 0x3e0,
};

#define MASKED   0x10000
#define PERIODIC 0x20000
#define DEADLINE 0x40000

struct fixture {
    struct machine m;
    struct timebase tb;
    struct vcpu *v[NCPUS];
    struct guest_mem *gm;
    struct clock *clock;
    struct lapic_bus *bus;
    int pic_vector, pic_acks;
    u8 eoi[8];
    unsigned eois, wakes;
};

static u32 read_reg(struct fixture *f, unsigned cpu, unsigned off)
{
    lapic_set_current(f->v[cpu]);
    return (u32)guestmem_load(f->gm, PC_LAPIC_ADDR + off, 4, NULL);
}

static void write_reg(struct fixture *f, unsigned cpu, unsigned off, u32 value)
{
    lapic_set_current(f->v[cpu]);
    guestmem_store(f->gm, PC_LAPIC_ADDR + off, value, 4, NULL);
}

static bool pending(struct fixture *f, unsigned cpu)
{
    return f->v[cpu]->irq->pending(f->v[cpu]);
}

static int ack(struct fixture *f, unsigned cpu)
{
    return f->v[cpu]->irq->acknowledge(f->v[cpu]);
}

/* Reads and clears v's events. */
static u32 events(struct fixture *f, unsigned cpu)
{
    return atomic_exchange(&f->v[cpu]->events, 0);
}

static void wake(struct vcpu *v)
{
    struct fixture *f = v->wake_ctx;
    __atomic_fetch_add(&f->wakes, 1, __ATOMIC_RELAXED);
}

static int pic_acknowledge(void *ctx)
{
    struct fixture *f = ctx;
    f->pic_acks++;
    lapic_set_lint(f->bus, 0, 0);
    return f->pic_vector;
}

static void on_eoi(void *ctx, u8 vector)
{
    struct fixture *f = ctx;
    assert_true(f->eois < ARRAY_SIZE(f->eoi));
    f->eoi[f->eois++] = vector;
}

static bool send(struct fixture *f, struct apic_message msg)
{
    return lapic_bus_deliver(f->bus, &msg);
}

static void fixed(struct fixture *f, unsigned cpu, u8 vector, bool level)
{
    assert_true(send(f, (struct apic_message){.dest = (u8)cpu, .vector = vector, .level = level}));
}

static void ipi(struct fixture *f, unsigned from, u8 dest, u32 icr)
{
    write_reg(f, from, ICR_HIGH, (u32)dest << 24);
    write_reg(f, from, ICR, icr);
}

static void enable_all(struct fixture *f)
{
    for (unsigned i = 0; i < NCPUS; i++)
        write_reg(f, i, SVR, 0x1ff);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->tb = (struct timebase){.tsc_hz = 2 * NSEC_PER_SEC, .ns_mult = 1ULL << 31};
    f->m.time = &f->tb;
    f->m.ncpus = NCPUS;
    for (unsigned i = 0; i < NCPUS; i++) {
        struct vcpu *v = aligned_alloc(64, align_up(sizeof(*v), 64));
        memset(v, 0, sizeof(*v));
        v->id = i;
        v->bsp = i == 0;
        v->wake = wake;
        v->wake_ctx = f;
        v->machine = &f->m;
        f->m.vcpu[i] = f->v[i] = v;
    }
    assert_int_equal(guestmem_create(MIB, &f->gm, NULL), 0);
    f->clock = clock_create_manual();
    clock_advance(f->clock, 1000000);
    assert_int_equal(lapic_bus_create(&f->m, f->clock, &f->bus, NULL), 0);
    assert_int_equal(lapic_bus_attach(f->bus, f->gm, NULL), 0);
    lapic_bus_connect_pic(f->bus, pic_acknowledge, f);
    lapic_bus_connect_eoi(f->bus, on_eoi, f);
    f->pic_vector = 0x20;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    lapic_bus_destroy(f->bus);
    clock_destroy(f->clock);
    guestmem_destroy(f->gm);
    for (unsigned i = 0; i < NCPUS; i++)
        free(f->v[i]);
    lapic_set_current(NULL);
    free(f);
    return 0;
}

static void reset_values(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < NCPUS; i++) {
        assert_int_equal(read_reg(f, i, ID), i << 24);
        assert_int_equal(read_reg(f, i, VERSION), 0x50014);
        assert_int_equal(read_reg(f, i, SVR), 0xff);
        assert_int_equal(read_reg(f, i, DFR), 0xffffffff);
        assert_int_equal(read_reg(f, i, TIMER), MASKED);
        assert_int_equal(read_reg(f, i, LINT0), i == 0 ? 0x700 : MASKED);
        assert_int_equal(f->v[i]->lapic.base_msr, 0xfee00800 | (i == 0 ? 0x100 : 0));
        assert_false(pending(f, i));
    }
    write_reg(f, 1, ID, 0x77000000);
    assert_int_equal(read_reg(f, 1, ID), 0x01000000);
}

static void access_widths(void **state)
{
    struct fixture *f = *state;
    enable_all(f);
    write_reg(f, 0, TPR, 0x5a);
    assert_int_equal(guestmem_load(f->gm, PC_LAPIC_ADDR + VERSION + 2, 1, NULL), 5);
    assert_int_equal(guestmem_load(f->gm, PC_LAPIC_ADDR + VERSION, 2, NULL), 0x14);
    assert_int_equal(guestmem_load(f->gm, PC_LAPIC_ADDR + VERSION, 8, NULL), 0x50014);
    assert_int_equal(guestmem_load(f->gm, PC_LAPIC_ADDR + VERSION + 4, 4, NULL), 0);
    guestmem_store(f->gm, PC_LAPIC_ADDR + TPR, 0, 1, NULL);
    guestmem_store(f->gm, PC_LAPIC_ADDR + TPR + 4, 0, 4, NULL);
    assert_int_equal(read_reg(f, 0, TPR), 0x5a);
    lapic_set_current(NULL);
    assert_int_equal((u32)guestmem_load(f->gm, PC_LAPIC_ADDR + TPR, 4, NULL), 0xffffffff);
    guestmem_store(f->gm, PC_LAPIC_ADDR + TPR, 0, 4, NULL);
    assert_int_equal(read_reg(f, 0, TPR), 0x5a);
}

static void fixed_delivery_and_eoi(void **state)
{
    struct fixture *f = *state;
    assert_false(send(f, (struct apic_message){.dest = 1, .vector = 0x41})); /* disabled by SVR */
    enable_all(f);
    fixed(f, 1, 0x41, false);
    assert_int_equal(f->wakes, 1);
    assert_int_equal(events(f, 1), EVENT_INTR);
    assert_int_equal(read_reg(f, 1, IRR + 0x20), 2);
    assert_int_equal(read_reg(f, 1, TMR + 0x20), 0);
    assert_true(pending(f, 1));
    assert_false(pending(f, 0));
    assert_int_equal(ack(f, 1), 0x41);
    assert_int_equal(ack(f, 1), -1);
    assert_int_equal(read_reg(f, 1, IRR + 0x20), 0);
    assert_int_equal(read_reg(f, 1, ISR + 0x20), 2);
    assert_int_equal(read_reg(f, 1, PPR), 0x40);
    write_reg(f, 1, EOI, 0);
    assert_int_equal(read_reg(f, 1, ISR + 0x20), 0);
    assert_int_equal(f->eois, 0); /* edge: not broadcast */
    write_reg(f, 1, EOI, 0);      /* nothing in service */

    fixed(f, 1, 0x51, true);
    assert_int_equal(read_reg(f, 1, TMR + 0x20), 0x20000);
    assert_int_equal(ack(f, 1), 0x51);
    write_reg(f, 1, EOI, 0);
    assert_int_equal(f->eois, 1);
    assert_int_equal(f->eoi[0], 0x51);
}

static void priorities(void **state)
{
    struct fixture *f = *state;
    enable_all(f);
    fixed(f, 0, 0x31, false);
    fixed(f, 0, 0x62, false);
    fixed(f, 0, 0x61, false);
    assert_int_equal(ack(f, 0), 0x62);
    assert_false(pending(f, 0)); /* 0x61 has the same class */
    fixed(f, 0, 0x70, false);
    assert_int_equal(ack(f, 0), 0x70);
    events(f, 0);
    write_reg(f, 0, EOI, 0); /* ends 0x70 */
    assert_false(pending(f, 0));
    assert_int_equal(events(f, 0), 0);
    write_reg(f, 0, EOI, 0); /* ends 0x62: 0x61 is unblocked, and the CPU hears of it */
    assert_int_equal(events(f, 0), EVENT_INTR);
    assert_int_equal(ack(f, 0), 0x61);
    write_reg(f, 0, EOI, 0);
    assert_int_equal(ack(f, 0), 0x31);
}

static void task_priority(void **state)
{
    struct fixture *f = *state;
    enable_all(f);
    write_reg(f, 0, TPR, 0x45);
    assert_int_equal(read_reg(f, 0, PPR), 0x45);
    fixed(f, 0, 0x4f, false);
    assert_false(pending(f, 0));
    events(f, 0);
    f->v[0]->irq->write_cr8(f->v[0], 4);
    assert_int_equal(read_reg(f, 0, TPR), 0x40);
    assert_int_equal(events(f, 0), 0);
    f->v[0]->irq->write_cr8(f->v[0], 3);
    assert_int_equal(events(f, 0), EVENT_INTR);
    assert_true(pending(f, 0));
    f->v[0]->irq->write_cr8(f->v[0], 5);
    assert_false(pending(f, 0));
    events(f, 0);
    write_reg(f, 0, TPR, 0);
    assert_int_equal(events(f, 0), EVENT_INTR);
    assert_int_equal(ack(f, 0), 0x4f);
}

static void extint_from_pic(void **state)
{
    struct fixture *f = *state;
    lapic_set_lint(f->bus, 0, 1); /* virtual wire after reset */
    assert_int_equal(events(f, 0), EVENT_INTR);
    assert_true(pending(f, 0));
    assert_false(pending(f, 1));
    assert_int_equal(ack(f, 0), 0x20);
    assert_int_equal(f->pic_acks, 1);
    assert_int_equal(read_reg(f, 0, ISR + 0x10), 0); /* no EOI needed */
    write_reg(f, 0, SVR, 0x1ff);
    write_reg(f, 0, LINT0, 0x700 | MASKED);
    lapic_set_lint(f->bus, 0, 1);
    assert_int_equal(events(f, 0), 0);
    assert_false(pending(f, 0));
    write_reg(f, 0, LINT0, 0x700); /* the line is still high */
    assert_int_equal(events(f, 0), EVENT_INTR);
    assert_true(pending(f, 0));
    lapic_set_lint(f->bus, 0, 0);
    assert_false(pending(f, 0));
    write_reg(f, 0, TPR, 0xff); /* does not hold ExtINT off */
    lapic_set_lint(f->bus, 0, 1);
    assert_true(pending(f, 0));
}

static void lint_as_fixed_and_nmi(void **state)
{
    struct fixture *f = *state;
    enable_all(f);
    write_reg(f, 0, LINT0, 0x55);
    lapic_set_lint(f->bus, 0, 1);
    assert_int_equal(ack(f, 0), 0x55);
    lapic_set_lint(f->bus, 0, 0);
    write_reg(f, 0, LINT1, 0x400);
    write_reg(f, 2, LINT1, 0x400);
    for (unsigned i = 0; i < NCPUS; i++)
        events(f, i);
    lapic_set_lint(f->bus, 1, 1);
    assert_int_equal(events(f, 0), EVENT_NMI);
    assert_int_equal(events(f, 1), 0);
    assert_int_equal(events(f, 2), EVENT_NMI);
    lapic_set_lint(f->bus, 1, 1); /* no edge */
    assert_int_equal(events(f, 0), 0);
}

static void extint_message_and_disabled_apic(void **state)
{
    struct fixture *f = *state;
    struct vcpu *v = f->v[0];
    enable_all(f);
    lapic_set_lint(f->bus, 0, 1);
    write_reg(f, 0, LINT0, 0x700 | MASKED);
    assert_true(send(f, (struct apic_message){.dest = 2, .delivery = APIC_EXTINT}));
    assert_int_equal(events(f, 2), EVENT_INTR);
    assert_true(pending(f, 2));
    assert_int_equal(ack(f, 2), 0x20);
    assert_false(pending(f, 2));

    fixed(f, 0, 0x99, false);
    assert_true(v->irq->write_msr(v, MSR_APIC_BASE, 0xfee00100)); /* switched off: the INTR pin */
    assert_false(pending(f, 0));
    assert_int_equal(read_reg(f, 0, ID), 0xffffffff);
    assert_false(send(f, (struct apic_message){.dest = 0, .vector = 0x99}));
    lapic_set_lint(f->bus, 0, 1);
    assert_int_equal(ack(f, 0), 0x20);
    lapic_set_lint(f->bus, 1, 1);
    assert_true(events(f, 0) & EVENT_NMI);
    assert_true(v->irq->write_msr(v, MSR_APIC_BASE, 0xfee00900));
    assert_int_equal(read_reg(f, 0, SVR), 0xff);
}

static void msrs(void **state)
{
    struct fixture *f = *state;
    struct vcpu *v = f->v[1];
    u64 value;
    assert_true(v->irq->read_msr(v, MSR_APIC_BASE, &value));
    assert_int_equal(value, 0xfee00800);
    assert_false(v->irq->write_msr(v, MSR_APIC_BASE, 0xfee00c00)); /* x2APIC */
    assert_false(v->irq->write_msr(v, MSR_APIC_BASE, 0xfee00801));
    assert_false(v->irq->read_msr(v, MSR_X2APIC_FIRST + 2, &value));
    assert_false(v->irq->write_msr(v, MSR_X2APIC_FIRST + 0xb, 0));
}

static void software_disable_masks(void **state)
{
    struct fixture *f = *state;
    enable_all(f);
    write_reg(f, 0, PERF, 0x40);
    write_reg(f, 0, SVR, 0x0ff);
    assert_int_equal(read_reg(f, 0, PERF), MASKED | 0x40);
    write_reg(f, 0, PERF, 0x41);
    assert_int_equal(read_reg(f, 0, PERF), MASKED | 0x41);
    write_reg(f, 0, TIMER, 0x42);
    assert_int_equal(read_reg(f, 0, TIMER), MASKED | 0x42);
    assert_true(send(f, (struct apic_message){.dest = 0, .delivery = APIC_NMI}));
    assert_int_equal(events(f, 0), EVENT_NMI);
}

static void errors(void **state)
{
    struct fixture *f = *state;
    enable_all(f);
    write_reg(f, 0, ERROR, 0xee);
    read_reg(f, 0, 0x3f0); /* no such register */
    assert_int_equal(read_reg(f, 0, ESR), 0);
    assert_int_equal(ack(f, 0), 0xee);
    write_reg(f, 0, ESR, 0);
    assert_int_equal(read_reg(f, 0, ESR), 0x80);
    write_reg(f, 0, ESR, 0);
    assert_int_equal(read_reg(f, 0, ESR), 0);
    write_reg(f, 0, EOI, 0);
    ipi(f, 0, 1, 0x0f); /* send illegal vector */
    assert_true(send(f, (struct apic_message){.dest = 0, .vector = 3}));
    write_reg(f, 0, ESR, 0);
    assert_int_equal(read_reg(f, 0, ESR), 0x60);
    write_reg(f, 0, ERROR, 0x05); /* an illegal vector here must not recurse */
    write_reg(f, 0, 0x2f0, 0);
    write_reg(f, 0, ESR, 0);
    assert_int_equal(read_reg(f, 0, ESR), 0x80);
}

static void ipi_destinations(void **state)
{
    struct fixture *f = *state;
    enable_all(f);
    ipi(f, 0, 2, 0x4041); /* physical */
    assert_int_equal(ack(f, 2), 0x41);
    assert_int_equal(read_reg(f, 0, ICR), 0x4041);
    assert_false(pending(f, 0) || pending(f, 1) || pending(f, 3));
    ipi(f, 0, 0xff, 0x4051);
    for (unsigned i = 0; i < NCPUS; i++)
        assert_int_equal(ack(f, i), 0x51);
    ipi(f, 1, 9, 0x44061); /* self; the destination field is ignored */
    assert_int_equal(ack(f, 1), 0x61);
    ipi(f, 1, 9, 0x84071); /* all */
    for (unsigned i = 0; i < NCPUS; i++)
        assert_int_equal(ack(f, i), 0x71);
    ipi(f, 1, 9, 0xc4081); /* all but self */
    for (unsigned i = 0; i < NCPUS; i++)
        assert_int_equal(ack(f, i), i == 1 ? -1 : 0x81);
    ipi(f, 1, 9, 0x4091); /* nobody */
    for (unsigned i = 0; i < NCPUS; i++)
        assert_false(pending(f, i));
}

static void logical_flat(void **state)
{
    struct fixture *f = *state;
    enable_all(f);
    for (unsigned i = 0; i < NCPUS; i++)
        write_reg(f, i, LDR, 1U << (24 + i));
    ipi(f, 3, 0x05, 0x4841);
    for (unsigned i = 0; i < NCPUS; i++)
        assert_int_equal(ack(f, i), i == 0 || i == 2 ? 0x41 : -1);
    ipi(f, 3, 0x80, 0x4841);
    for (unsigned i = 0; i < NCPUS; i++)
        assert_false(pending(f, i));
}

static void logical_cluster(void **state)
{
    struct fixture *f = *state;
    static const u32 ldr[NCPUS] = {0x11000000, 0x12000000, 0x21000000, 0x22000000};
    enable_all(f);
    for (unsigned i = 0; i < NCPUS; i++) {
        write_reg(f, i, DFR, 0x0fffffff);
        write_reg(f, i, LDR, ldr[i]);
    }
    ipi(f, 0, 0x23, 0x4841); /* both of cluster 2 */
    for (unsigned i = 0; i < NCPUS; i++)
        assert_int_equal(ack(f, i), i >= 2 ? 0x41 : -1);
    ipi(f, 0, 0xf1, 0x4851); /* the first of each cluster */
    for (unsigned i = 0; i < NCPUS; i++)
        assert_int_equal(ack(f, i), i % 2 == 0 ? 0x51 : -1);
}

static void lowest_priority(void **state)
{
    struct fixture *f = *state;
    unsigned hits[NCPUS] = {0};
    enable_all(f);
    for (unsigned i = 0; i < NCPUS; i++)
        write_reg(f, i, LDR, 1U << (24 + i));
    write_reg(f, 0, TPR, 0x20);
    write_reg(f, 3, SVR, 0xff); /* takes nothing */
    for (unsigned n = 0; n < 12; n++) {
        ipi(f, 0, 0xff, 0x4941);
        unsigned taken = 0;
        for (unsigned i = 0; i < NCPUS; i++)
            if (ack(f, i) == 0x41) {
                write_reg(f, i, EOI, 0);
                hits[i]++;
                taken++;
            }
        assert_int_equal(taken, 1);
    }
    assert_int_equal(hits[0] + hits[3], 0); /* 0 has a higher priority */
    assert_true(hits[1] >= 3 && hits[2] >= 3);
}

static void init_sipi_nmi_smi(void **state)
{
    struct fixture *f = *state;
    write_reg(f, 1, TPR, 0x30);
    ipi(f, 0, 1, 0xc500);
    assert_int_equal(events(f, 1), EVENT_INIT);
    ipi(f, 0, 1, 0x8500); /* de-assert: nothing */
    assert_int_equal(events(f, 1), 0);
    f->v[1]->irq->reset(f->v[1], true);
    assert_int_equal(read_reg(f, 1, TPR), 0);
    assert_int_equal(read_reg(f, 1, ID), 0x01000000);
    ipi(f, 0, 1, 0x4609);
    assert_int_equal(events(f, 1), EVENT_SIPI);
    assert_int_equal(f->v[1]->sipi_vector, 9);
    ipi(f, 0, 0, 0xc4400);
    for (unsigned i = 0; i < NCPUS; i++)
        assert_int_equal(events(f, i), i == 0 ? 0 : EVENT_NMI);
    ipi(f, 0, 3, 0x4200);
    assert_int_equal(events(f, 3), EVENT_SMI);
    ipi(f, 0, 3, 0x4341); /* remote read, reserved */
    ipi(f, 0, 3, 0x4741);
    assert_int_equal(events(f, 3), 0);
}

static void timer_one_shot(void **state)
{
    struct fixture *f = *state;
    enable_all(f);
    write_reg(f, 1, TIMER, 0xec);
    write_reg(f, 1, DIVIDE, 0x3); /* by 16 */
    write_reg(f, 1, INITIAL, 1000);
    assert_int_equal(read_reg(f, 1, CURRENT), 1000);
    clock_advance(f->clock, 1600);
    assert_int_equal(read_reg(f, 1, CURRENT), 900);
    clock_advance(f->clock, 14399);
    assert_int_equal(read_reg(f, 1, CURRENT), 1);
    assert_false(pending(f, 1));
    clock_advance(f->clock, 1);
    assert_int_equal(read_reg(f, 1, CURRENT), 0);
    assert_int_equal(events(f, 1), EVENT_INTR);
    assert_int_equal(ack(f, 1), 0xec);
    write_reg(f, 1, EOI, 0);
    clock_advance(f->clock, 1000000);
    assert_false(pending(f, 1));
    write_reg(f, 1, INITIAL, 1000);
    clock_advance(f->clock, 100);
    write_reg(f, 1, INITIAL, 0); /* stops it */
    clock_advance(f->clock, 1000000);
    assert_false(pending(f, 1));
    write_reg(f, 1, TIMER, 0xec | MASKED);
    write_reg(f, 1, INITIAL, 10);
    clock_advance(f->clock, 1000000);
    assert_int_equal(read_reg(f, 1, CURRENT), 0); /* it counts, but says nothing */
    write_reg(f, 1, TIMER, 0xec);
    assert_false(pending(f, 1));
}

static void timer_periodic(void **state)
{
    struct fixture *f = *state;
    enable_all(f);
    write_reg(f, 0, TIMER, PERIODIC | 0xec);
    write_reg(f, 0, DIVIDE, 0xb); /* by 1 */
    write_reg(f, 0, INITIAL, 1000000);
    for (unsigned i = 0; i < 50; i++) {
        clock_advance(f->clock, 999999);
        assert_false(pending(f, 0));
        assert_int_equal(read_reg(f, 0, CURRENT), 1);
        clock_advance(f->clock, 1);
        assert_int_equal(read_reg(f, 0, CURRENT), 1000000);
        assert_int_equal(ack(f, 0), 0xec);
        write_reg(f, 0, EOI, 0);
    }
    clock_advance(f->clock, 400000);
    write_reg(f, 0, DIVIDE, 0); /* by 2: goes on with what is left */
    assert_int_equal(read_reg(f, 0, CURRENT), 600000);
    clock_advance(f->clock, 1199999);
    assert_false(pending(f, 0));
    clock_advance(f->clock, 1);
    assert_int_equal(ack(f, 0), 0xec);
    f->v[0]->irq->reset(f->v[0], true);
    clock_advance(f->clock, 100000000);
    assert_false(pending(f, 0));
}

static void timer_tiny_period_is_bounded(void **state)
{
    struct fixture *f = *state;
    unsigned count = 0;
    enable_all(f);
    write_reg(f, 0, TIMER, PERIODIC | 0xec);
    write_reg(f, 0, DIVIDE, 0xb);
    write_reg(f, 0, INITIAL, 1);
    for (unsigned i = 0; i < 1000; i++) {
        clock_advance(f->clock, 1000);
        if (ack(f, 0) == 0xec) {
            write_reg(f, 0, EOI, 0);
            count++;
        }
    }
    assert_in_range(count, 10, 1000000 / TUNE_TIMER_MIN_GAP_NS);
}

static void timer_tsc_deadline(void **state)
{
    struct fixture *f = *state;
    struct vcpu *v = f->v[2];
    u64 value, tsc = 2 * clock_now(f->clock); /* 2 GHz */
    enable_all(f);
    v->tsc_offset = 5000;
    assert_true(v->irq->write_msr(v, MSR_TSC_DEADLINE, tsc + 1));
    assert_true(v->irq->read_msr(v, MSR_TSC_DEADLINE, &value));
    assert_int_equal(value, 0); /* not in that mode: ignored */
    write_reg(f, 2, TIMER, DEADLINE | 0xef);
    v->irq->write_msr(v, MSR_TSC_DEADLINE, tsc + 5000 + 2000);
    v->irq->read_msr(v, MSR_TSC_DEADLINE, &value);
    assert_int_equal(value, tsc + 7000);
    assert_int_equal(read_reg(f, 2, CURRENT), 0);
    write_reg(f, 2, INITIAL, 55);
    assert_int_equal(read_reg(f, 2, INITIAL), 0);
    clock_advance(f->clock, 999);
    assert_false(pending(f, 2));
    clock_advance(f->clock, 2);
    assert_int_equal(ack(f, 2), 0xef);
    write_reg(f, 2, EOI, 0);
    v->irq->read_msr(v, MSR_TSC_DEADLINE, &value);
    assert_int_equal(value, 0);
    v->irq->write_msr(v, MSR_TSC_DEADLINE, tsc); /* past: at once */
    assert_int_equal(ack(f, 2), 0xef);
    write_reg(f, 2, EOI, 0);
    v->irq->write_msr(v, MSR_TSC_DEADLINE, tsc + 100000);
    v->irq->write_msr(v, MSR_TSC_DEADLINE, 0);     /* disarms */
    v->irq->write_msr(v, MSR_TSC_DEADLINE, ~0ULL); /* never */
    clock_advance(f->clock, NSEC_PER_SEC);
    assert_false(pending(f, 2));
    tsc = 2 * clock_now(f->clock) + 5000;
    v->irq->write_msr(v, MSR_TSC_DEADLINE, tsc + 1000);
    write_reg(f, 2, TIMER, 0xef); /* leaving the mode disarms */
    write_reg(f, 2, TIMER, DEADLINE | 0xef);
    clock_advance(f->clock, NSEC_PER_SEC);
    assert_false(pending(f, 2));
}

struct sender {
    struct fixture *f;
    u8 vector;
};

#define ROUNDS 20000

static void *send_many(void *arg)
{
    struct sender *s = arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct apic_message msg = {.dest = 1, .vector = s->vector, .level = s->vector & 1};
        while (atomic_load(&s->f->v[1]->lapic.irr[s->vector / 32]) >> (s->vector & 31) & 1)
            sched_yield(); /* so that none is merged with the one before */
        lapic_bus_deliver(s->f->bus, &msg);
    }
    return NULL;
}

/* Two threads set neighbouring bits of IRR while the owner acknowledges: none may be lost. */
static void two_senders(void **state)
{
    struct fixture *f = *state;
    struct sender s[2] = {{f, 0x41}, {f, 0x52}};
    pthread_t thread[2];
    unsigned got[2] = {0};
    enable_all(f);
    lapic_bus_connect_eoi(f->bus, NULL, NULL);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, send_many, &s[i]), 0);
    while (got[0] + got[1] < 2 * ROUNDS) {
        int vector = ack(f, 1);
        if (vector < 0) {
            sched_yield();
            continue;
        }
        assert_true(vector == 0x41 || vector == 0x52);
        got[vector == 0x52]++;
        write_reg(f, 1, EOI, 0);
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(got[0], ROUNDS);
    assert_int_equal(got[1], ROUNDS);
    assert_false(pending(f, 1));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reset_values),
        TEST(access_widths),
        TEST(fixed_delivery_and_eoi),
        TEST(priorities),
        TEST(task_priority),
        TEST(extint_from_pic),
        TEST(lint_as_fixed_and_nmi),
        TEST(extint_message_and_disabled_apic),
        TEST(msrs),
        TEST(software_disable_masks),
        TEST(errors),
        TEST(ipi_destinations),
        TEST(logical_flat),
        TEST(logical_cluster),
        TEST(lowest_priority),
        TEST(init_sipi_nmi_smi),
        TEST(timer_one_shot),
        TEST(timer_periodic),
        TEST(timer_tiny_period_is_bounded),
        TEST(timer_tsc_deadline),
        TEST(two_senders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
