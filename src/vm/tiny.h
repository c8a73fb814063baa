/*
 * A machine with one processor and some RAM and nothing else, for code that needs no PC: measuring
 * an engine, running one function.
 */
#ifndef RINGER_VM_TINY_H
#define RINGER_VM_TINY_H

#include "base/timebase.h"
#include "cpu/model.h"
#include "engine/engine.h"

struct tiny_guest {
    struct machine machine;
    struct timebase time;
    struct cpu_model model;
    struct vcpu *v; /* after reset */
    const struct engine_ops *ops;
    void *engine;
    bool attached;
};

/* Makes the machine. The caller destroys it, also after an error. */
int tiny_create(struct tiny_guest *g, const struct engine_ops *ops, u64 ram, struct error *err);
/* Makes the engine and attaches the processor, whose state is ready by then. */
int tiny_start(struct tiny_guest *g, struct error *err);
/* Runs until something else than a kick ends it or the time is up: then exit->kind is KICKED. On a
 * busy host the time goes on until this thread has run for half of it, or for 20 times as long. */
int tiny_run(struct tiny_guest *g, unsigned ms, struct vm_exit *exit, struct error *err);
void tiny_destroy(struct tiny_guest *g);

#endif
