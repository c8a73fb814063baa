/*
 * The engine contract. An engine runs guest code on a `struct vcpu` and on nothing else that
 * another engine could not see, until it has a reason to come back. Adding an engine is adding a
 * table of functions here and its row in engine.c.
 */
#ifndef RINGER_ENGINE_ENGINE_H
#define RINGER_ENGINE_ENGINE_H

#include "base/error.h"
#include "cpu/state.h"

enum exit_kind {
#define EXIT(id, text) EXIT_##id,
#include "engine/exits.def"
#undef EXIT
};

struct vm_exit {
    enum exit_kind kind;
    char text[160]; /* UNSUPPORTED, DIFFERENCE, HOST_ERROR: one sentence */
};

struct engine_ops {
    const char *name;    /* as in --engine */
    const char *summary; /* one phrase for `ringer engines` */
    /* Does it work on this host? 0, or a negative errno with the reason in err. */
    int (*probe)(struct error *err);
    /* Marks the CPU features (enum cpu_feature) that it cannot run on this host. Whoever makes the
     * machine passes them to cpu_model_init(). NULL: it runs all. */
    void (*missing_features)(bool *missing);
    /* Per machine. *engine is passed to the others. Guest memory is complete by then. */
    int (*create)(struct machine *m, void **engine, struct error *err);
    void (*destroy)(void *engine);
    /* Per vCPU, on its own thread; uses v->engine_vcpu. attach takes the state from *v, detach
     * leaves it all there (also how a guest moves to another engine). */
    int (*attach)(void *engine, struct vcpu *v, struct error *err);
    void (*detach)(void *engine, struct vcpu *v);
    /* Runs v until there is a reason to return. All state is in *v afterwards (engines that keep
     * it elsewhere, like KVM, may delay that until sync, except for what `struct irq_ops` needs).
     */
    void (*run)(void *engine, struct vcpu *v, struct vm_exit *exit);
    /* Runs the one block of guest code at CS:RIP as this engine has it, without taking events
     * before or after and without going on to a second block; guest faults are delivered. Returns
     * the number of guest instructions completed (a REP instruction that stays at its address
     * counts as 0). With exit->kind other than EXIT_KICKED, which the caller put there, it has to
     * leave. For lockstep; NULL: the engine does not know blocks. */
    unsigned (*run_block)(void *engine, struct vcpu *v, struct vm_exit *exit);
    /* Makes run() return or look at v->events soon. From any thread; may be NULL if run() polls. */
    void (*kick)(void *engine, struct vcpu *v);
    /* Brings *v up to date, resp. tells the engine that *v was changed from outside. Between runs.
     * May be NULL. */
    void (*sync)(void *engine, struct vcpu *v);
    void (*state_changed)(void *engine, struct vcpu *v);
};

/* All engines, best first; NULL-terminated. */
extern const struct engine_ops *const engines[];

const struct engine_ops *engine_find(const char *name);

extern const struct engine_ops engine_interp, engine_bt, engine_kvm;

#endif
