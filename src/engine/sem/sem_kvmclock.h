/*
 * KVM's paravirtual clock, for every engine: the guest names a page, and reads guest time from it
 * with RDTSC and a multiplication (Linux, Documentation/virt/kvm/x86/msr.rst).
 */
#ifndef RINGER_ENGINE_SEM_SEM_KVMCLOCK_H
#define RINGER_ENGINE_SEM_SEM_KVMCLOCK_H

#include "cpu/state.h"

/* MSR_KVM_SYSTEM_TIME_NEW or MSR_KVM_WALL_CLOCK_NEW was written. */
void sem_kvmclock_write(struct vcpu *v, u32 msr, u64 value);

/* Writes the time page again, after a change of v->tsc_offset. Nothing if the guest has none. */
void sem_kvmclock_update(struct vcpu *v);

#endif
