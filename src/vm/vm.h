/*
 * One virtual machine: guest memory, processors, the PC around them, and the engine that runs them.
 * vm_run() is the whole life of a guest; how it ended is in struct vm_outcome.
 */
#ifndef RINGER_VM_VM_H
#define RINGER_VM_VM_H

#include "base/error.h"
#include "engine/engine.h"
#include "vm/settings.h"

struct vm;

enum outcome_kind {
    OUTCOME_POWER_OFF,
    OUTCOME_RESET,        /* with no_reboot */
    OUTCOME_DEBUG_EXIT,   /* value: what the guest wrote */
    OUTCOME_GUEST_FAILED, /* triple fault, or nothing can run the next instruction */
    OUTCOME_DIFFERENCE,   /* lockstep: two engines differ */
    OUTCOME_HOST_ERROR,
    OUTCOME_TIMEOUT,
    OUTCOME_QUIT, /* the user typed Ctrl-A X */
};

struct vm_outcome {
    enum outcome_kind kind;
    u32 value;
    unsigned cpu;   /* GUEST_FAILED, DIFFERENCE, HOST_ERROR: which vCPU */
    char text[512]; /* one sentence */
};

/* Builds the machine and loads the guest. settings must outlive the vm. */
int vm_create(const struct settings *settings, struct vm **out, struct error *err);

/* Runs the guest until it ends. Returns 0 and the outcome, or a negative errno if it could not
 * start. */
int vm_run(struct vm *vm, struct vm_outcome *outcome, struct error *err);

/* Ends a running guest from another thread or a console callback. */
void vm_quit(struct vm *vm);

void vm_destroy(struct vm *vm);

/* After vm_run: prints what settings.stats asks for. */
int vm_report_stats(struct vm *vm, struct error *err);

/* After OUTCOME_DIFFERENCE: what differed, to stderr. */
void vm_print_difference(struct vm *vm);

/* After OUTCOME_GUEST_FAILED: registers and the last instructions of that vCPU, to stderr. */
void vm_dump_cpu(struct vm *vm, unsigned cpu);

/* The engine that --engine NAME means here; for "auto" the fastest one. Fills err with the
 * reason why not, or for "auto" the one line that says which and why. NULL: none. */
const struct engine_ops *vm_choose_engine(const char *name, struct error *why);

/* Speed of an engine on a tiny guest's integer loop, in guest instructions per second. Negative
 * errno with err if it does not run. */
int vm_measure_engine(const struct engine_ops *ops, double *insn_per_second, struct error *err);

#endif
