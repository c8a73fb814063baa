/*
 * The machine: RAM with a device laid over a part of it, a ROM, a device smaller than a page, ports
 * that take bytes and ports that take any size, and an interrupt controller that makes vectors up.
 * Whatever the guest says to a device may make it write memory or raise events.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cpu/insn.h"
#include "cpu/irq.h"
#include "engine/engine.h"
#include "engine/sem/native.h"
#include "engine/sem/sem.h"
#include "fuzz.h"
#include "mem/portbus.h"
#include "mem/tlb.h"

void fuzz_work(struct fuzz_guest *g, unsigned amount)
{
    if (g->calm)
        return;
    g->work -= MIN(g->work, amount);
    if (g->work == 0)
        atomic_fetch_or(&g->v->events, EVENT_STOP);
}

static void write_something(struct fuzz_guest *g, struct rng *r)
{
    u8 bytes[64];
    u64 size = 1 + rnd_below(r, sizeof(bytes)), gpa = fuzz_value(g, r) - g->base;
    fuzz_program(r, bytes, (unsigned)size);
    if (one_in(r, 2))
        gpa = GPA_CODE + rnd_below(r, CODE_SIZE);
    guestmem_write(g->machine.mem, gpa, bytes, size);
}

void fuzz_disturb(struct fuzz_guest *g, struct rng *r)
{
    static const u32 events[] = {EVENT_NMI,  EVENT_SMI,  EVENT_TLB_FLUSH,
                                 EVENT_INTR, EVENT_INIT, EVENT_STOP};
    if (g->calm)
        return;
    switch (rnd_below(r, 8)) {
    case 0:
    case 1:
        write_something(g, r);
        break;
    case 2:
        atomic_fetch_or(g->peer ? &g->peer->v->events : &g->v->events,
                        events[rnd_below(r, one_in(r, 16) ? ARRAY_SIZE(events) : 3)]);
        break;
    case 3:
        if (one_in(r, 4)) {
            guestmem_set_a20(g->machine.mem, one_in(r, 2));
            atomic_fetch_or(&g->v->events, EVENT_TLB_FLUSH);
            if (g->peer)
                atomic_fetch_or(&g->peer->v->events, EVENT_TLB_FLUSH);
        }
        break;
    case 4:
    case 5:
        g->irq = (int)rnd_below(r, 256);
        atomic_fetch_or(&g->v->events, EVENT_INTR);
        break;
    default:
        break;
    }
}

/* --- devices --- */

/* Whose thread this is. */
static __thread struct fuzz_guest *running;

static void log_access(struct fuzz_guest *g, u64 where, u64 value, unsigned size)
{
    g->accesses = (g->accesses ^ where ^ value << 8 ^ size) * 0x100000001b3ULL + 1;
}

static u64 device_read(struct fuzz_guest *g, u64 where, unsigned size)
{
    fuzz_work(g, 1);
    log_access(g, where, 0, size);
    return one_in(&g->rng, 2) ? fuzz_value(g, &g->rng) : 0;
}

static void device_write(struct fuzz_guest *g, u64 where, u64 value, unsigned size)
{
    fuzz_work(g, 1);
    log_access(g, where, value & size_mask(size), size);
    fuzz_disturb(g, &g->rng);
}

static u64 mmio_read(void *ctx, u64 off, unsigned size)
{
    (void)ctx;
    return device_read(running, off, size);
}

static void mmio_write(void *ctx, u64 off, u64 value, unsigned size)
{
    (void)ctx;
    device_write(running, off, value, size);
}

static u32 port_read(void *ctx, u16 port, unsigned size)
{
    (void)ctx;
    return (u32)device_read(running, port, size);
}

static void port_write(void *ctx, u16 port, u32 value, unsigned size)
{
    (void)ctx;
    device_write(running, port, value, size);
}

static const struct mmio_ops mmio = {mmio_read, mmio_write};
static const struct port_ops port = {port_read, port_write};

/* --- interrupt controller --- */

static bool irq_pending(struct vcpu *v)
{
    struct fuzz_guest *g = v->irq_ctx;
    return g->irq >= 0;
}

static int irq_acknowledge(struct vcpu *v)
{
    struct fuzz_guest *g = v->irq_ctx;
    int vector = g->irq;
    g->irq = one_in(&g->rng, 8) ? (int)rnd_below(&g->rng, 256) : -1;
    return vector;
}

static void irq_write_cr8(struct vcpu *v, u8 cr8)
{
    v->lapic.tpr = (u32)cr8 << 4;
}

static bool irq_read_msr(struct vcpu *v, u32 msr, u64 *value)
{
    struct fuzz_guest *g = v->irq_ctx;
    (void)msr;
    *value = rnd(&g->rng);
    return !one_in(&g->rng, 4);
}

static bool irq_write_msr(struct vcpu *v, u32 msr, u64 value)
{
    struct fuzz_guest *g = v->irq_ctx;
    (void)msr;
    (void)value;
    fuzz_disturb(g, &g->rng);
    return !one_in(&g->rng, 4);
}

static void irq_reset(struct vcpu *v, bool init)
{
    (void)v;
    (void)init;
}

/* FERR#, with CR0.NE clear. */
static void x87_error(struct vcpu *v)
{
    struct fuzz_guest *g = v->irq_ctx;
    fuzz_work(g, 1);
    if (g->calm)
        return;
    g->irq = 0x75;
    atomic_fetch_or(&v->events, EVENT_INTR);
}

static const struct irq_ops irq = {irq_pending,  irq_acknowledge, irq_write_cr8,
                                   irq_read_msr, irq_write_msr,   irq_reset};

/* --- the whole --- */

static void must(int ret, const struct error *err)
{
    if (ret < 0) {
        fprintf(stderr, "%s\n", err->text);
        exit(2);
    }
}

static void add_vcpu(struct fuzz_guest *g, struct machine *m)
{
    struct error err = {""};
    g->v = aligned_alloc(64, align_up(sizeof(*g->v), 64));
    if (!g->v)
        exit(2);
    memset(g->v, 0, sizeof(*g->v));
    g->v->bsp = true;
    g->v->machine = m;
    g->v->irq = &irq;
    g->v->irq_ctx = g;
    g->v->ferr = x87_error;
    must(tlb_create(g->v), &err);
    cpu_reset(g->v);
    must(g->ops->attach(g->engine, g->v, &err), &err);
}

static void remove_vcpu(struct fuzz_guest *g)
{
    g->ops->detach(g->engine, g->v);
    native_destroy(g->v);
    tlb_destroy(g->v);
    free(g->v);
}

void fuzz_guest_create(struct fuzz_guest *g, struct timebase *time, const struct engine_ops *ops)
{
    struct error err = {""};
    struct rng r = {1};
    u8 rom[0x10000];
    memset(g, 0, sizeof(*g));
    g->ops = ops;
    struct cpu_model_options opt = {.ncpus = 1, .tsc_hz = time->tsc_hz, .kvmclock = true};
    cpu_model_init(&g->model, &opt);
    g->machine = (struct machine){.time = time, .model = &g->model, .ncpus = 1};
    must(guestmem_create(RAM_SIZE, &g->machine.mem, &err), &err);
    fuzz_program(&r, rom, sizeof(rom));
    must(guestmem_add_rom(g->machine.mem, GPA_ROM, rom, sizeof(rom), &err), &err);
    must(guestmem_add_mmio(g->machine.mem, GPA_MMIO, 0x4000, &mmio, NULL, NULL, &err), &err);
    must(guestmem_add_mmio(g->machine.mem, GPA_MMIO2, 0x400, &mmio, NULL, NULL, &err), &err);
    must(portbus_create(&g->machine.ports, &err), &err);
    must(portbus_add(g->machine.ports, 0, 0x80, &port, NULL, NULL, false, &err), &err);
    must(portbus_add(g->machine.ports, 0x80, 0x1000, &port, NULL, NULL, true, &err), &err);
    must(portbus_add(g->machine.ports, 0xfffe, 2, &port, NULL, NULL, true, &err), &err);
    g->ram = guestmem_ram(g->machine.mem);
    must(ops->create(&g->machine, &g->engine, &err), &err);
    add_vcpu(g, &g->machine);
    g->machine.vcpu[0] = g->v;
}

void fuzz_guest_create_peer(struct fuzz_guest *peer, struct fuzz_guest *g)
{
    struct error err = {""};
    *peer = *g;
    add_vcpu(peer, &g->machine);
    peer->v->id = 1;
    g->machine.vcpu[1] = peer->v;
    g->machine.ncpus = 2;
    g->peer = peer;
    peer->peer = g;
    must(guestmem_set_threads(g->machine.mem, 2, &err), &err);
}

void fuzz_guest_destroy(struct fuzz_guest *g)
{
    if (g->peer)
        remove_vcpu(g->peer);
    remove_vcpu(g);
    g->ops->destroy(g->engine);
    portbus_destroy(g->machine.ports);
    guestmem_destroy(g->machine.mem);
}

void fuzz_guest_enter(struct fuzz_guest *g)
{
    running = g;
}

void fuzz_guest_run(struct fuzz_guest *g, struct vm_exit *x)
{
    running = g;
    g->ops->run(g->engine, g->v, x);
}

/* Events are for the engine that hands single instructions over; here they wait. */
void fuzz_guest_step(struct fuzz_guest *g, unsigned n, struct vm_exit *x)
{
    running = g;
    while (n-- && sem_step(g->v, x) && !(atomic_load(&g->v->events) & EVENT_STOP))
        ;
    fuzz_guest_changed(g);
}

void fuzz_guest_changed(struct fuzz_guest *g)
{
    if (g->ops->state_changed)
        g->ops->state_changed(g->engine, g->v);
}

void fuzz_guest_dump(const struct fuzz_guest *g)
{
    struct vcpu *v = g->v;
    fprintf(stderr,
            "mode %d cpl %u rip %llx rflags %llx cr0 %llx cr4 %llx efer %llx activity %u, last "
            "blocks:\n",
            v->mode, v->cpl, (unsigned long long)v->rip, (unsigned long long)v->rflags,
            (unsigned long long)v->cr0, (unsigned long long)v->cr4, (unsigned long long)v->efer,
            v->activity);
    for (unsigned n = 0; n < TUNE_LAST_BRANCHES; n++) {
        u64 rip = v->last_rip[(v->last_pos + n) % TUNE_LAST_BRANCHES], gpa;
        u64 lin = v->mode == MODE_LONG64 ? rip : (u32)(rip + v->seg[SEG_CS].base);
        u8 bytes[15];
        struct insn i;
        char text[96] = "?";
        if (walk_peek(v, lin, &gpa) && guestmem_read(g->machine.mem, gpa, bytes, sizeof(bytes)) &&
            insn_decode(bytes, sizeof(bytes), v->mode, &i) == DECODE_OK)
            insn_format(&i, v->mode, rip, text, sizeof(text));
        fprintf(stderr, "  %llx: %s\n", (unsigned long long)rip, text);
    }
}
