/*
 * Messages between APICs: who is meant (physical, flat and cluster logical destinations, ICR
 * shorthands, lowest priority), and what a local APIC does with a message of each delivery mode
 * (SDM vol. 3, 11.6). Everything here runs on the sender's thread.
 */
#include "dev/lapic_internal.h"

#define DEST_ALL    0xff
#define DFR_CLUSTER 0x0 /* DFR bits 31:28; 0xf is flat */
#define CLUSTER_ALL 0xf

enum shorthand { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

static bool logical_match(const struct lapic *l, u8 dest)
{
    u8 ldr = (u8)(peek(&l->v->lapic.ldr) >> 24);
    if (peek(&l->v->lapic.dfr) >> 28 != DFR_CLUSTER)
        return (ldr & dest) != 0;
    bool cluster = dest >> 4 == CLUSTER_ALL || dest >> 4 == ldr >> 4;
    return cluster && (ldr & dest & 0xf);
}

static bool is_meant(const struct lapic *l, const struct apic_message *msg)
{
    if (msg->dest == DEST_ALL)
        return true;
    return msg->logical ? logical_match(l, msg->dest) : l->v->id == msg->dest;
}

static void take_sipi(struct lapic *l, u8 vector)
{
    atomic_store(&l->v->sipi_vector, vector);
    vcpu_raise(l->v, EVENT_SIPI);
}

static bool take_vector(struct lapic *l, const struct apic_message *msg)
{
    if (!lapic_accepts_vectors(l))
        return false;
    if (msg->vector < FIRST_VECTOR)
        lapic_error(l, ESR_RECEIVE_ILLEGAL);
    else
        lapic_accept(l, msg->vector, msg->level);
    return true;
}

bool lapic_take_message(struct lapic *l, const struct apic_message *msg)
{
    if (!lapic_hardware_enabled(l))
        return false;
    switch ((enum apic_delivery)msg->delivery) {
    case APIC_FIXED:
    case APIC_LOWEST:
        return take_vector(l, msg);
    case APIC_SMI:
        vcpu_raise(l->v, EVENT_SMI);
        return true;
    case APIC_NMI:
        vcpu_raise(l->v, EVENT_NMI);
        return true;
    case APIC_INIT:
        vcpu_raise(l->v, EVENT_INIT);
        return true;
    case APIC_SIPI:
        take_sipi(l, msg->vector);
        return true;
    case APIC_EXTINT:
        atomic_store(&l->extint, true);
        vcpu_raise(l->v, EVENT_INTR);
        return true;
    case APIC_REMOTE_READ:
        break;
    }
    return false;
}

/* The one with the lowest processor priority; among equals they take turns. */
static struct lapic *lowest_priority(struct lapic_bus *bus, const struct apic_message *msg)
{
    struct lapic *best = NULL;
    unsigned start = atomic_fetch_add(&bus->arbiter, 1);
    for (unsigned i = 0; i < bus->count; i++) {
        struct lapic *l = &bus->lapic[(start + i) % bus->count];
        if (!is_meant(l, msg) || !lapic_accepts_vectors(l))
            continue;
        if (!best || lapic_ppr(l) < lapic_ppr(best))
            best = l;
    }
    return best;
}

bool lapic_bus_deliver(struct lapic_bus *bus, const struct apic_message *msg)
{
    if (msg->delivery == APIC_LOWEST) {
        struct lapic *l = lowest_priority(bus, msg);
        return l && lapic_take_message(l, msg);
    }
    bool taken = false;
    for (unsigned i = 0; i < bus->count; i++)
        if (is_meant(&bus->lapic[i], msg))
            taken |= lapic_take_message(&bus->lapic[i], msg);
    return taken;
}

static void send_shorthand(struct lapic *from, enum shorthand to, const struct apic_message *msg)
{
    struct lapic_bus *bus = from->bus;
    for (unsigned i = 0; i < bus->count; i++) {
        struct lapic *l = &bus->lapic[i];
        if (to == SHORTHAND_ALL || (to == SHORTHAND_SELF) == (l == from))
            lapic_take_message(l, msg);
    }
}

/* IPIs are edge triggered whatever ICR says, but for the INIT level de-assert, which does nothing
 * since the Pentium 4 (SDM 11.6.1). */
void lapic_send_ipi(struct lapic *l)
{
    u32 icr = l->v->lapic.icr_low;
    enum shorthand to = (enum shorthand)((icr >> 18) & 3);
    struct apic_message msg = {
        .dest = (u8)(l->v->lapic.icr_high >> 24),
        .logical = icr & APIC_LOGICAL,
        .delivery = APIC_MODE(icr),
        .vector = icr & APIC_VECTOR,
    };

    if (msg.delivery == APIC_REMOTE_READ || msg.delivery == APIC_EXTINT)
        return;
    if (msg.delivery == APIC_INIT && !(icr & APIC_ASSERT))
        return;
    if (msg.delivery <= APIC_LOWEST && msg.vector < FIRST_VECTOR)
        lapic_error(l, ESR_SEND_ILLEGAL);
    else if (to == SHORTHAND_NONE)
        lapic_bus_deliver(l->bus, &msg);
    else if (to == SHORTHAND_OTHERS && msg.delivery == APIC_LOWEST)
        lapic_bus_deliver(l->bus, &(struct apic_message){.dest = DEST_ALL,
                                                         .delivery = msg.delivery,
                                                         .vector = msg.vector});
    else
        send_shorthand(l, to, &msg);
}
