/*
 * What the files of the local APIC share: lapic.c (registers, priorities, the CPU's side),
 * lapic_ipi.c (messages between APICs) and lapic_timer.c.
 */
#ifndef RINGER_DEV_LAPIC_INTERNAL_H
#define RINGER_DEV_LAPIC_INTERNAL_H

#include <pthread.h>

#include "dev/lapic.h"

#define APIC_BASE_BSP    BIT(8)
#define APIC_BASE_X2APIC BIT(10)
#define APIC_BASE_ENABLE BIT(11)

#define SVR_ENABLE 0x100

/* Fields that LVT entries, ICR and I/O APIC entries have in common. */
#define APIC_VECTOR  0xff
#define APIC_LOGICAL 0x800
#define APIC_ASSERT  0x4000
#define APIC_MASKED  0x10000
#define APIC_MODE(r) (((r) >> 8) & 7)

#define FIRST_VECTOR 16 /* lower ones are illegal in a message (SDM 11.5.2) */

enum lapic_error { /* bits of ESR (SDM 11.5.3) */
                   ESR_SEND_ILLEGAL = 0x20,
                   ESR_RECEIVE_ILLEGAL = 0x40,
                   ESR_ILLEGAL_REGISTER = 0x80,
};

#define NO_DEADLINE (~0ULL)

struct lapic {
    struct lapic_bus *bus;
    struct vcpu *v;
    _Atomic bool extint; /* an I/O APIC sent ExtINT: the PIC is to be acknowledged */
    pthread_mutex_t timer_lock;
    struct timer *timer;
    u64 due_ns; /* when the timer goes off next, or NO_DEADLINE */
};

struct lapic_bus {
    struct machine *m;
    struct clock *clock;
    unsigned count;
    struct lapic lapic[MAX_CPUS];
    _Atomic int lint[2];
    atomic_uint arbiter; /* where the search for a lowest-priority target starts */
    int (*pic_acknowledge)(void *ctx);
    void *pic;
    void (*eoi)(void *ctx, u8 vector);
    void *eoi_ctx;
};

static inline struct lapic *lapic_of(struct vcpu *v)
{
    return v->irq_ctx;
}

/* Registers that one thread writes and others look at. */
static inline u32 peek(const u32 *reg)
{
    return __atomic_load_n(reg, __ATOMIC_RELAXED);
}

static inline void poke(u32 *reg, u32 value)
{
    __atomic_store_n(reg, value, __ATOMIC_RELAXED);
}

/* lapic.c; all from any thread. */
bool lapic_hardware_enabled(const struct lapic *l);
bool lapic_accepts_vectors(const struct lapic *l);
u8 lapic_ppr(const struct lapic *l);
void lapic_accept(struct lapic *l, u8 vector, bool level); /* vector >= FIRST_VECTOR */
void lapic_error(struct lapic *l, enum lapic_error error);
void lapic_raise_lvt(struct lapic *l, enum lapic_lvt entry); /* a local interrupt source fires */

/* lapic_ipi.c */
bool lapic_take_message(struct lapic *l, const struct apic_message *msg);
void lapic_send_ipi(struct lapic *l); /* as ICR says */

/* lapic_timer.c; on the vCPU's own thread. */
int lapic_timer_init(struct lapic *l, struct error *err);
void lapic_timer_destroy(struct lapic *l);
void lapic_timer_reset(struct lapic *l);
void lapic_timer_write_lvt(struct lapic *l, u32 value);
void lapic_timer_write_initial(struct lapic *l, u32 value);
void lapic_timer_write_divide(struct lapic *l, u32 value);
u32 lapic_timer_current(struct lapic *l);
u64 lapic_timer_read_deadline(struct lapic *l);
void lapic_timer_write_deadline(struct lapic *l, u64 value);

#endif
