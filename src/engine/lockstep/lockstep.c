/*
 * A turn: events; then the reference runs ahead with a journal, its stores are taken back, and the
 * tested engine runs one block for real. How long that block is shows only then, so the reference
 * goes as far as this block went the last time, or quite far if it was never seen. If it went too
 * far, memory is put back once more and it runs again, to the same place. If it did not go far
 * enough the block remains uncompared, and is remembered to be that long.
 *
 * What the reference does not execute is done once, by sem_step() on the vCPU itself, and with it
 * the instructions before it in its block.
 */
#include "engine/lockstep/lockstep.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/timebase.h"
#include "engine/lockstep/difference.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"
#include "mem/tlb.h"

/* How many instructions the block at an address held the last time. */
struct length {
    u64 rip;
    u64 insns;
};

#define LENGTHS 65536

struct lockstep {
    struct machine *machine;
    const struct engine_ops *tested;
    void *engine; /* the tested one's */
    u64 after_ns, limit, compared, blocks;
    struct reference ref;
    bool alone; /* the limit was reached */
    bool stale; /* the vCPU has changed without the reference */
    unsigned stuck;
    struct arch_state before; /* the block */
    u64 before_rip;
    struct journal *second;     /* for the reference's second run */
    u8 (*result)[JOURNAL_LINE]; /* what the tested engine left in the journal's lines */
    struct length length[LENGTHS];
    char *difference;
};

/* --- life --- */

static int lockstep_probe(struct error *err)
{
    (void)err;
    return 0;
}

static int no_create(struct machine *m, void **engine, struct error *err)
{
    (void)m;
    (void)engine;
    return error_set(err, EINVAL, "lockstep needs two engines");
}

static void lockstep_destroy(void *engine)
{
    struct lockstep *ls = engine;
    if (!ls->difference)
        log_note("lockstep: %s and %s agree about %" PRIu64 " instructions in %" PRIu64 " blocks",
                 LOCKSTEP_REFERENCE, ls->tested->name, ls->compared, ls->blocks);
    ls->tested->destroy(ls->engine);
    journal_destroy(ls->second);
    free(ls->result);
    free(ls->difference);
    free(ls);
}

int lockstep_create(struct machine *m, const struct lockstep_options *opt, void **engine,
                    struct error *err)
{
    struct lockstep *ls = calloc(1, sizeof(*ls));
    int rc = error_set(err, ENOMEM, "no memory for a lockstep run");
    if (!ls)
        return rc;
    ls->machine = m;
    ls->tested = opt->tested;
    ls->limit = opt->limit;
    ls->after_ns = opt->after_ns;
    ls->second = journal_create();
    ls->result = malloc(TUNE_JOURNAL_LINES * sizeof(*ls->result));
    if (ls->second && ls->result)
        rc = ls->tested->create(m, &ls->engine, err);
    if (rc < 0) {
        journal_destroy(ls->second);
        free(ls->result);
        free(ls);
        return rc;
    }
    *engine = ls;
    return 0;
}

const char *lockstep_difference(const void *engine)
{
    return ((const struct lockstep *)engine)->difference;
}

static int lockstep_attach(void *engine, struct vcpu *v, struct error *err)
{
    struct lockstep *ls = engine;
    int rc = ls->tested->attach(ls->engine, v, err);
    if (rc < 0)
        return rc;
    rc = reference_create(&ls->ref, v, err);
    if (rc < 0)
        ls->tested->detach(ls->engine, v);
    ls->stale = true;
    return rc;
}

static void lockstep_detach(void *engine, struct vcpu *v)
{
    struct lockstep *ls = engine;
    ls->tested->detach(ls->engine, v);
    reference_destroy(&ls->ref);
}

static void lockstep_kick(void *engine, struct vcpu *v)
{
    struct lockstep *ls = engine;
    if (ls->tested->kick)
        ls->tested->kick(ls->engine, v);
}

static void lockstep_sync(void *engine, struct vcpu *v)
{
    struct lockstep *ls = engine;
    if (ls->tested->sync)
        ls->tested->sync(ls->engine, v);
}

/* The vCPU was changed by something that is not the tested engine's. */
static void lockstep_changed(void *engine, struct vcpu *v)
{
    struct lockstep *ls = engine;
    ls->stale = true;
    if (ls->tested->state_changed)
        ls->tested->state_changed(ls->engine, v);
}

/* --- the length of blocks --- */

static struct length *length_of(struct lockstep *ls, u64 rip)
{
    return &ls->length[(rip ^ rip >> 16) % LENGTHS];
}

/* 0: not known. */
static unsigned expected_length(struct lockstep *ls, u64 rip)
{
    const struct length *l = length_of(ls, rip);
    return l->rip == rip ? (unsigned)l->insns : 0;
}

static void learn_length(struct lockstep *ls, u64 rip, unsigned insns)
{
    struct length *l = length_of(ls, rip);
    if (l->rip != rip)
        *l = (struct length){.rip = rip};
    l->insns = MAX(l->insns, MIN(insns, TUNE_LOCKSTEP_BLOCK_MAX));
}

/* --- comparison --- */

static bool same(const struct lockstep *ls, const struct vcpu *v)
{
    return arch_equal(ls->ref.v, v) && journal_matches(ls->ref.v->journal);
}

static void count_compared(struct lockstep *ls, struct vcpu *v, unsigned insns)
{
    ls->stuck = 0;
    ls->blocks++;
    ls->compared += insns;
    stat_inc(&v->stats, STAT_LOCKSTEP_BLOCKS);
    stat_add(&v->stats, STAT_LOCKSTEP_INSNS, insns);
}

static void leave_uncompared(struct lockstep *ls, struct vcpu *v, unsigned insns)
{
    ls->stale = true;
    stat_add(&v->stats, STAT_LOCKSTEP_UNCOMPARED, insns);
}

/* Puts memory back as it was before the block, as far as the journal knows, and keeps what the
 * tested engine made of it. */
static void memory_before(struct lockstep *ls, const struct journal *j)
{
    for (unsigned n = 0; n < j->lines; n++)
        memcpy(ls->result[n], j->line[n].p, JOURNAL_LINE);
    for (unsigned n = j->lines; n > 0; n--)
        journal_put(ls->ref.v, j->line[n - 1].p, j->line[n - 1].before);
}

static void memory_after(struct lockstep *ls, const struct journal *j)
{
    for (unsigned n = 0; n < j->lines; n++)
        journal_put(ls->ref.v, j->line[n].p, ls->result[n]);
}

/* The reference once more from the start of the block, `insns` instructions and a part of a REP
 * instruction. It does so on the second journal, which becomes the first. */
static void replay(struct lockstep *ls, struct vcpu *v, unsigned insns)
{
    struct reference *r = &ls->ref;
    struct journal *first = r->v->journal;
    stat_inc(&v->stats, STAT_LOCKSTEP_REPLAYS);
    memory_before(ls, first);
    r->v->journal = ls->second;
    journal_clear(ls->second);
    arch_load(r->v, &ls->before);
    reference_flush(r);
    reference_run(r, insns);
    if (!r->faulted && !r->refused && r->v->rip == v->rip && r->v->gpr[RCX] != v->gpr[RCX])
        reference_repeat(r, v->gpr[RCX]);
    journal_undo(r->v, ls->second);
    memory_after(ls, first);
    ls->second = first;
}

/* Leaves with a text about it. */
static bool differs(struct lockstep *ls, struct vcpu *v, unsigned insns, struct vm_exit *exit)
{
    struct journal *first = ls->ref.v->journal;
    struct difference d = {.reference = LOCKSTEP_REFERENCE,
                           .tested = ls->tested->name,
                           .ref = &ls->ref,
                           .v = v,
                           .before = &ls->before,
                           .insns = insns,
                           .compared = ls->compared};
    if (difference_open(&d) == 0) {
        memory_before(ls, first);
        ls->ref.v->journal = ls->second;
        difference_list_block(&d);
        ls->ref.v->journal = first;
        memory_after(ls, first);
        ls->difference = difference_close(&d);
    }
    exit->kind = EXIT_DIFFERENCE;
    snprintf(exit->text, sizeof(exit->text), "lockstep: %s and %s differ", d.reference, d.tested);
    return false;
}

static bool unchanged(const struct lockstep *ls, const struct vcpu *v)
{
    struct arch_state now = ls->before;
    arch_save(&now, v);
    return memcmp(&now, &ls->before, sizeof(now)) == 0;
}

/* The tested engine came back with nothing done: it may, but not for ever. */
static bool no_progress(struct lockstep *ls, struct vcpu *v, struct vm_exit *exit)
{
    if (++ls->stuck < TUNE_LOCKSTEP_STUCK)
        return true;
    journal_clear(ls->ref.v->journal);
    reference_run(&ls->ref, 1);
    journal_undo(ls->ref.v, ls->ref.v->journal);
    return differs(ls, v, 0, exit);
}

/* Has the tested engine, which completed as many instructions as the reference, done a part of a
 * REP instruction that the reference has not? */
static bool further_in_rep(const struct lockstep *ls, const struct vcpu *v)
{
    struct reference *r = (struct reference *)&ls->ref;
    return v->rip == r->v->rip && v->gpr[RCX] < r->v->gpr[RCX] && reference_at_rep(r);
}

/* The tested engine stopped earlier than the reference: brings that to the same place. */
static bool verify_earlier(struct lockstep *ls, struct vcpu *v, unsigned insns,
                           struct vm_exit *exit)
{
    struct reference *r = &ls->ref;
    replay(ls, v, insns);
    if (r->done < insns || r->refused)
        leave_uncompared(ls, v, insns);
    else if (!same(ls, v))
        return differs(ls, v, insns, exit);
    else if (insns == 0 && unchanged(ls, v))
        return no_progress(ls, v, exit);
    else
        count_compared(ls, v, insns);
    return true;
}

/* The tested engine came to something else than the reference, which stopped by itself after as
 * many instructions: the next one may have raised a fault. */
static bool verify_fault(struct lockstep *ls, struct vcpu *v, unsigned insns, struct vm_exit *exit)
{
    struct reference *r = &ls->ref;
    replay(ls, v, insns + 1);
    if (r->faulted && same(ls, v)) {
        learn_length(ls, ls->before_rip, insns + 1);
        count_compared(ls, v, insns);
        return true;
    }
    if (r->done > insns)
        replay(ls, v, insns);
    return differs(ls, v, insns, exit);
}

/* After the tested engine completed `insns` instructions. False: leave, *exit says why. */
static bool verify(struct lockstep *ls, struct vcpu *v, unsigned insns, struct vm_exit *exit)
{
    struct reference *r = &ls->ref;
    if (insns < r->done)
        return verify_earlier(ls, v, insns, exit);
    if (insns == r->done && same(ls, v)) {
        count_compared(ls, v, insns);
        return true;
    }
    bool in_rep = insns == r->done && !r->faulted && further_in_rep(ls, v);
    if (insns > r->done || in_rep) {
        learn_length(ls, ls->before_rip, insns + in_rep);
        leave_uncompared(ls, v, insns);
        return true;
    }
    /* It may have left a fault for later, or a REP instruction half done; or what the reference
     * then refused was half done. */
    if (r->stays || r->refused || (r->faulted && v->rip == r->fault_rip))
        return verify_earlier(ls, v, insns, exit);
    return r->faulted ? differs(ls, v, insns, exit) : verify_fault(ls, v, insns, exit);
}

/* --- the loop --- */

/* n instructions by the semantic functions on the vCPU itself; fewer, but at least one, if events
 * come up. */
static bool run_alone(struct lockstep *ls, struct vcpu *v, unsigned n, struct vm_exit *exit)
{
    bool able;
    do {
        able = sem_step(v, exit);
        stat_inc(&v->stats, STAT_LOCKSTEP_ALONE);
    } while (able && --n > 0 && !sem_events_due(v));
    lockstep_changed(ls, v);
    return able;
}

/* A block before the comparison starts. */
static bool run_unwatched(struct lockstep *ls, struct vcpu *v, struct vm_exit *exit)
{
    if (timebase_host_ns(ls->machine->time) >= ls->after_ns)
        ls->after_ns = 0;
    ls->stale = true;
    exit->kind = EXIT_KICKED;
    ls->tested->run_block(ls->engine, v, exit);
    return exit->kind == EXIT_KICKED;
}

static bool run_block(struct lockstep *ls, struct vcpu *v, struct vm_exit *exit)
{
    struct reference *r = &ls->ref;
    u64 rip = ls->before_rip = v->rip;
    unsigned expected = expected_length(ls, rip);
    if (ls->stale)
        reference_sync(r, v);
    ls->stale = false;
    arch_save(&ls->before, v);
    journal_clear(r->v->journal);
    reference_run(r, expected ? expected : TUNE_LOCKSTEP_BLOCK_MAX);
    journal_undo(r->v, r->v->journal);
    if (r->refused && (expected || r->done == 0))
        return run_alone(ls, v, r->done + 1, exit);
    exit->kind = EXIT_KICKED;
    unsigned insns = ls->tested->run_block(ls->engine, v, exit);
    if (exit->kind == EXIT_UNSUPPORTED || exit->kind == EXIT_HOST_ERROR)
        return false;
    if (insns > 0 || v->rip == rip)
        learn_length(ls, rip, MAX(insns, 1));
    return verify(ls, v, insns, exit) && exit->kind == EXIT_KICKED;
}

static void go_on_alone(struct lockstep *ls, struct vcpu *v, struct vm_exit *exit)
{
    if (!ls->alone)
        log_note("lockstep: %" PRIu64 " instructions were the same; %s goes on alone", ls->compared,
                 ls->tested->name);
    ls->alone = true;
    ls->tested->run(ls->engine, v, exit);
}

static bool turn(struct lockstep *ls, struct vcpu *v, struct vm_exit *exit)
{
    if (ls->limit && ls->compared >= ls->limit) {
        go_on_alone(ls, v, exit);
        return false;
    }
    bool shadow = false; /* events are due right after the next instruction */
    if (sem_events_due(v)) {
        shadow = v->shadow != 0;
        bool able = sem_service_events(v, exit);
        lockstep_changed(ls, v);
        if (!able)
            return false;
    }
    if (shadow)
        return run_alone(ls, v, 1, exit);
    return ls->after_ns ? run_unwatched(ls, v, exit) : run_block(ls, v, exit);
}

static void lockstep_run(void *engine, struct vcpu *v, struct vm_exit *exit)
{
    struct lockstep *ls = engine;
    exit->text[0] = '\0';
    ls->stale = true;
    while (turn(ls, v, exit))
        ;
}

const struct engine_ops engine_lockstep = {
    .name = "lockstep",
    .summary = "compares two engines",
    .probe = lockstep_probe,
    .create = no_create,
    .destroy = lockstep_destroy,
    .attach = lockstep_attach,
    .detach = lockstep_detach,
    .run = lockstep_run,
    .kick = lockstep_kick,
    .sync = lockstep_sync,
    .state_changed = lockstep_changed,
};
