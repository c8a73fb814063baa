/*
 * The reference of a lockstep run: a second vCPU that executes guest instructions one by one, each
 * with every check, while a journal holds what they store. It has its own TLB, thunks and decoded
 * blocks, and no interrupts. What cannot be taken back or would come out differently the next time
 * (devices, the time stamp, random numbers, halts) it does not execute.
 */
#ifndef RINGER_ENGINE_LOCKSTEP_REFERENCE_H
#define RINGER_ENGINE_LOCKSTEP_REFERENCE_H

#include "base/error.h"
#include "cpu/insn.h"
#include "mem/journal.h"

struct reference {
    struct vcpu *v;
    struct vcpu *model; /* the vCPU beside which it runs */
    struct code_cache *cache;
    struct block *last;
    const struct insn *next, *end; /* what is left of the decoded block */
    void (*trace)(void *ctx, const struct vcpu *v, const struct insn *i); /* before each; or NULL */
    void *trace_ctx;
    /* Where reference_run came to. */
    unsigned done; /* instructions completed */
    bool faulted;  /* then came a fault, which has been delivered */
    bool refused;  /* then came an instruction that it does not execute */
    bool stays;    /* then came a REP instruction that is not at its end */
    u64 fault_rip;
};

/* Makes one beside `model`. */
int reference_create(struct reference *r, struct vcpu *model, struct error *err);
void reference_destroy(struct reference *r);

/* Takes the state of `model`, which may be different from its own in every way. */
void reference_sync(struct reference *r, const struct vcpu *model);

/* Forgets what the TLB holds: instructions were taken back. */
void reference_flush(struct reference *r);

/* Executes up to `limit` instructions from its state on. Stops before that after a fault or where
 * events are to be looked at, and before what it does not execute. v->journal tells the stores. */
void reference_run(struct reference *r, unsigned limit);

/* Is it at a REP string instruction? */
bool reference_at_rep(struct reference *r);

/* If it is at a REP string instruction with a count above the one in rcx: does so many iterations
 * that this one is left. */
void reference_repeat(struct reference *r, u64 rcx);

#endif
