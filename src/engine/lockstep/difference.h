/*
 * What a lockstep run has to say when two engines differ: registers, memory, the state before the
 * block, and its instructions.
 */
#ifndef RINGER_ENGINE_LOCKSTEP_DIFFERENCE_H
#define RINGER_ENGINE_LOCKSTEP_DIFFERENCE_H

#include <stdio.h>

#include "engine/engine.h"
#include "engine/lockstep/archstate.h"
#include "engine/lockstep/reference.h"

struct difference {
    const char *reference, *tested; /* names of the engines */
    struct reference *ref;          /* where the reference came to */
    const struct vcpu *v;           /* where the tested engine came to */
    const struct arch_state *before;
    unsigned insns; /* that the tested engine completed */
    u64 compared;   /* instructions before the block */
    FILE *f;
    char *text;
    size_t size;
    unsigned listed;
};

/* Begins the text with what is different. 0 or -ENOMEM. */
int difference_open(struct difference *d);

/* Adds the block: what the reference executes from `before` on, one instruction more than the
 * tested engine. Memory must be as it was then; the reference's journal is cleared and undone. */
void difference_list_block(struct difference *d);

/* The text, to be freed. */
char *difference_close(struct difference *d);

#endif
