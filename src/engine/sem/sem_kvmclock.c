/*
 * Fills the paravirtual clock's pages. They hold the time base's own conversion, from the TSC at
 * guest time 0, so that this clock and every device agree and nothing has to be refreshed as
 * time goes on. Guest addresses outside RAM are ignored.
 */
#include "engine/sem/sem_kvmclock.h"

#include "base/timebase.h"
#include "mem/guestmem.h"

#define SYSTEM_TIME_ENABLED BIT(0)
#define TSC_STABLE          1 /* flags: the same on all processors */

/* struct pvclock_vcpu_time_info and pvclock_wall_clock. */
enum {
    TIME_TSC = 8,
    TIME_MUL = 24,
    TIME_SHIFT = 28,
    TIME_FLAGS = 29,
    TIME_SIZE = 32,
    WALL_SEC = 4,
    WALL_NSEC = 8,
    WALL_SIZE = 12,
};

/* Writes the page under its version protocol: odd while it changes. */
static void publish(struct vcpu *v, u64 gpa, u8 *page, unsigned size)
{
    struct guest_mem *mem = v->machine->mem;
    u8 version[4];
    if (!guestmem_read(mem, gpa, version, sizeof(version)))
        return;
    u32 odd = ((u32)load_le(version, 4) + 1) | 1;
    store_le(version, odd, 4);
    guestmem_write(mem, gpa, version, sizeof(version));
    atomic_thread_fence(memory_order_release);
    guestmem_write(mem, gpa + 4, page + 4, size - 4);
    atomic_thread_fence(memory_order_release);
    store_le(version, odd + 1, 4);
    guestmem_write(mem, gpa, version, sizeof(version));
}

void sem_kvmclock_update(struct vcpu *v)
{
    u64 msr = v->msr.kvm_system_time;
    if (!(msr & SYSTEM_TIME_ENABLED))
        return;
    u8 page[TIME_SIZE] = {0};
    u64 mul = v->machine->time->ns_mult;
    u8 shift = 0;
    while (mul >> 32) { /* a TSC slower than 1 GHz */
        mul >>= 1;
        shift++;
    }
    store_le(page + TIME_TSC, v->tsc_offset, 8); /* the guest's TSC at guest time 0 */
    store_le(page + TIME_MUL, mul, 4);
    page[TIME_SHIFT] = shift;
    page[TIME_FLAGS] = TSC_STABLE;
    publish(v, msr & ~SYSTEM_TIME_ENABLED, page, sizeof(page));
}

static void write_wall_clock(struct vcpu *v, u64 gpa)
{
    u8 page[WALL_SIZE] = {0};
    u64 ns = (u64)v->machine->time->start_realtime_ns;
    store_le(page + WALL_SEC, ns / NSEC_PER_SEC, 4);
    store_le(page + WALL_NSEC, ns % NSEC_PER_SEC, 4);
    publish(v, gpa, page, sizeof(page));
}

void sem_kvmclock_write(struct vcpu *v, u32 msr, u64 value)
{
    if (msr == MSR_KVM_SYSTEM_TIME_NEW) {
        v->msr.kvm_system_time = value;
        sem_kvmclock_update(v);
    } else {
        v->msr.kvm_wall_clock = value;
        write_wall_clock(v, value);
    }
}
