/*
 * Inside of the KVM engine, for the files of engine/kvm/. The state of a vCPU is at any time in one
 * place: in struct vcpu, or, from kvm_push() to kvm_pull(), in the kernel. Registers that only our
 * own code reads and writes (local APIC, MTRRs, TSC offset, ...) always stay in struct vcpu.
 */
#ifndef RINGER_ENGINE_KVM_KVM_H
#define RINGER_ENGINE_KVM_KVM_H

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <time.h>

#include "cpu/model.h"
#include "engine/engine.h"
#include "mem/guestmem.h"

struct kvm_vcpu {
    struct vcpu *v;
    int fd;
    struct kvm_run *run;
    size_t run_size;
    /* For kick(), from any thread: the vCPU's thread, while it is in KVM_RUN or about to be. */
    _Atomic pid_t thread;
    timer_t rekick;  /* while attached: a kick's signal again and again, to the vCPU's thread */
    bool loaded;     /* the state is in the kernel, not in *v */
    bool io_pending; /* the kernel completes the last exit's instruction at the next KVM_RUN */
    bool if_flag;    /* the guest's RFLAGS.IF */
    bool can_inject; /* KVM_INTERRUPT is allowed now */
    bool tsc_attr;   /* KVM_VCPU_TSC_OFFSET is there */
};

#define KVM_SLOTS 128

struct kvm_engine {
    struct machine *machine;
    int fd, vm_fd;
    struct kvm_vcpu vcpu[MAX_CPUS];
    struct mem_slot slot[KVM_SLOTS]; /* what KVM has; size 0: none */
};

/* kvm_memory.c: gives KVM the guest-physical map; again when it changes (engine: the kvm_engine).
 */
int kvm_set_memory(struct kvm_engine *e, struct error *err);
void kvm_map_changed(void *engine);

/* kvm_cpuid.c. init: can this KVM run the machine's CPU? */
int kvm_cpuid_init(struct kvm_engine *e, struct error *err);
int kvm_cpuid_set(struct kvm_engine *e, struct kvm_vcpu *k, struct error *err);
/* As in struct engine_ops. */
void kvm_missing_features(bool *missing);

/* kvm_msr.c: which MSRs the kernel keeps, and the way to user space for all others. */
int kvm_msr_init(struct kvm_engine *e, struct error *err);
int kvm_msrs_push(struct kvm_engine *e, struct kvm_vcpu *k);
int kvm_msrs_pull(struct kvm_engine *e, struct kvm_vcpu *k);
int kvm_tsc_push(struct kvm_vcpu *k);
void kvm_msr_exit(struct kvm_vcpu *k, bool write);

/* kvm_state.c: *v to the kernel; false: *exit says why not (or it is an event to be handled). */
bool kvm_push(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit);
/* The kernel's state to *v. An instruction that waits for completion is completed, and what KVM had
 * begun to deliver is delivered, so that *v is at an instruction boundary and complete. discard:
 * the exit was a failed emulation, and an exception that KVM made of it is not the guest's. */
bool kvm_pull(struct kvm_engine *e, struct kvm_vcpu *k, bool discard, struct vm_exit *exit);

/* kvm_exits.c: acts on the exit in k->run. False: leave the engine with *exit. */
bool kvm_handle_exit(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit);
/* One KVM_RUN: 0, or a negative errno. Takes over CR8 and what k says about interrupts. */
int kvm_enter(struct kvm_vcpu *k);

/* Fills *exit and returns false. */
bool kvm_host_error(struct vm_exit *exit, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
