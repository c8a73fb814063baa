/*
 * Local APICs (SDM vol. 3, chapter 11) and the bus between them: xAPIC, version 0x14, registers at
 * 0xfee00000. The registers live in v->lapic. A LAPIC has no lock but a small one for its timer:
 * other threads set bits of IRR and raise events; ISR, TPR and the rest belong to the vCPU's own
 * thread, others only look at them to choose a destination.
 *
 * v->wake is called with the locks of devices held, so it must not take a lock under which a
 * device or a function of struct irq_ops is called.
 */
#ifndef RINGER_DEV_LAPIC_H
#define RINGER_DEV_LAPIC_H

#include "base/error.h"
#include "cpu/irq.h"
#include "host/clock.h"
#include "mem/guestmem.h"

#define LAPIC_BUS_HZ 1000000000 /* the timer's input clock, before its divider */

/* Order of lapic_state.lvt, as the registers lie from 0x320. */
enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

/* Delivery modes of ICR, LVT and I/O APIC entries (SDM 11.6.1). */
enum apic_delivery {
    APIC_FIXED,
    APIC_LOWEST,
    APIC_SMI,
    APIC_REMOTE_READ,
    APIC_NMI,
    APIC_INIT,
    APIC_SIPI,
    APIC_EXTINT,
};

/* A message on the APIC bus, from an I/O APIC or as an MSI. */
struct apic_message {
    u8 dest;
    bool logical; /* dest is a logical destination, else an APIC ID; 0xff: all */
    u8 delivery;  /* enum apic_delivery */
    u8 vector;
    bool level; /* level triggered: an EOI is broadcast */
};

struct lapic_bus;

/* Makes the local APICs of all vCPUs of m (m->vcpu[], ncpus and time must be set), and sets v->irq
 * and v->irq_ctx. The registers get their reset values. */
int lapic_bus_create(struct machine *m, struct clock *clock, struct lapic_bus **out,
                     struct error *err);
void lapic_bus_destroy(struct lapic_bus *bus);

/* Registers the page at 0xfee00000, which is every vCPU's own. */
int lapic_bus_attach(struct lapic_bus *bus, struct guest_mem *gm, struct error *err);

/* Who is it that accesses the page? To be called once on each vCPU's thread before it runs guest
 * code (and with NULL by a thread that stops being one). */
void lapic_set_current(struct vcpu *v);

/* irq_line.set for LINT0 (n = 0, the PIC's INTR, vCPU 0 only) and LINT1 (n = 1, NMI, all vCPUs).
 * ctx is the bus. */
void lapic_set_lint(void *ctx, unsigned n, int level);

/* INTA cycles on LINT0 go here. */
void lapic_bus_connect_pic(struct lapic_bus *bus, int (*acknowledge)(void *ctx), void *ctx);

/* eoi(ctx, vector) is called on a vCPU's thread, without locks, when a level-triggered interrupt
 * ends. One listener. */
void lapic_bus_connect_eoi(struct lapic_bus *bus, void (*eoi)(void *ctx, u8 vector), void *ctx);

/* Delivers a message; from any thread. False: no LAPIC took it. */
bool lapic_bus_deliver(struct lapic_bus *bus, const struct apic_message *msg);

/* There is no reset function: cpu_reset() resets the registers through struct irq_ops, and the LINT
 * inputs follow the chips that drive them. */

#endif
