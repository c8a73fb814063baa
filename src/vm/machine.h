/*
 * The inside of a virtual machine, shared by the files of vm/: what struct vm holds and who drives
 * it.
 *
 * Threads: the main thread runs the control loop (control.c); each vCPU has one (vcpu_thread.c);
 * the clock has one; a console back end may have one. Whoever wants something of the whole machine
 * posts a request; the control loop carries it out with all vCPUs parked.
 */
#ifndef RINGER_VM_MACHINE_H
#define RINGER_VM_MACHINE_H

#include <jansson.h>
#include <pthread.h>

#include "base/timebase.h"
#include "cpu/model.h"
#include "host/clock.h"
#include "vm/pc.h"
#include "vm/vm.h"

/* Requests to the control loop; bits of vm.requests. */
enum vm_request {
    REQUEST_POWER_OFF = 1 << 0,
    REQUEST_RESET = 1 << 1,
    REQUEST_DEBUG_EXIT = 1 << 2,
    REQUEST_QUIT = 1 << 3,
    REQUEST_FAILED = 1 << 4, /* outcome already filled by the vCPU that met it */
};

struct vcpu_thread {
    struct vm *vm;
    struct vcpu *cpu;
    pthread_t thread;
    bool started;
    _Atomic bool sleeping;     /* waits for events on a futex */
    pthread_mutex_t kick_lock; /* for attached: an engine goes away only when nobody kicks it */
    bool attached;
    u64 engine_ns, idle_ns;
};

/* The counters of all vCPUs at a time of the run. */
struct sample {
    u64 host_ns;
    struct stats stats;
};

struct sample_list {
    struct sample *sample;
    unsigned count, space;
};

struct vm {
    const struct settings *settings;
    struct machine machine;
    struct timebase time;
    struct cpu_model model;
    struct clock *clock;
    struct disks disks;
    struct pc *pc;
    struct vcpu_thread threads[MAX_CPUS];
    u64 acpi_addr, acpi_size, rsdp;

    const struct engine_ops *ops;
    void *engine;
    struct sample_list samples;    /* the control loop's */
    unsigned screenshots_taken;    /* the control loop's */
    struct error screenshot_error; /* the first; empty: none */
    struct error choice;           /* what "auto" chose and why; empty: the user chose */

    pthread_mutex_t lock;   /* for all below */
    pthread_cond_t changed; /* CLOCK_MONOTONIC */
    unsigned requests;      /* enum vm_request */
    u32 debug_value;
    bool park; /* vCPUs leave their engine and wait */
    bool stop; /* vCPUs end their threads */
    unsigned parked, running;
    unsigned stalled; /* images for which the host has no space: vCPUs wait */
    unsigned attach_failures;
    struct vm_outcome outcome;
};

/* control.c */
void vm_post(struct vm *vm, enum vm_request request);
void vm_fail(struct vm *vm, struct vcpu *v, enum outcome_kind kind, const char *text);
int vm_control(struct vm *vm, struct error *err);
/* For block_options.stalled; ctx is the vm. */
void vm_disk_stalled(void *ctx, bool stalled, const char *path);
int vm_load_guest(struct vm *vm, struct error *err);

/* samples.c: take one; the host time of the next one (~0: none); all, by counter, of those that are
 * not 0 in the end. */
void samples_take(struct vm *vm);
u64 samples_next(const struct vm *vm);
json_t *samples_json(const struct vm *vm);

/* screenshots.c: host time of the next one (~0: none); take it, without the lock; those of the end,
 * returning the first error of all. */
u64 screenshots_next(const struct vm *vm);
void screenshots_take(struct vm *vm);
int screenshots_finish(struct vm *vm, struct error *err);

/* vcpu_thread.c */
int vcpu_thread_start(struct vcpu_thread *t, struct error *err);
void vcpu_wake(struct vcpu *v);

#endif
