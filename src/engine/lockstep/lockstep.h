/*
 * Two engines over the same run: the interpreter's semantics, instruction by instruction on a
 * second vCPU (reference.h), against an engine that is to be tested, block by block on the vCPU
 * itself. After each block registers and what was stored must be the same. For machines with one
 * vCPU.
 *
 * It is an engine itself, but not in the list: lockstep_create() takes the place of create().
 */
#ifndef RINGER_ENGINE_LOCKSTEP_LOCKSTEP_H
#define RINGER_ENGINE_LOCKSTEP_LOCKSTEP_H

#include "engine/engine.h"

/* Name of the only engine that can be the reference. */
#define LOCKSTEP_REFERENCE "interp"

extern const struct engine_ops engine_lockstep;

struct lockstep_options {
    const struct engine_ops *tested; /* has run_block */
    u64 after_ns; /* of guest time: until then it runs alone, though block by block */
    u64 limit;    /* after so many compared instructions it goes on alone; 0: never */
};

int lockstep_create(struct machine *m, const struct lockstep_options *opt, void **engine,
                    struct error *err);

/* After EXIT_DIFFERENCE: what differed, as text of several lines. NULL: nothing did. */
const char *lockstep_difference(const void *engine);

#endif
