/*
 * Taking one event through the interrupt table: the part of delivery that may itself fault. What
 * happens then (double fault, or the fault of INT n) is decided in sem_event.c.
 */
#ifndef RINGER_ENGINE_SEM_SEM_DELIVER_H
#define RINGER_ENGINE_SEM_SEM_DELIVER_H

#include "cpu/state.h"

struct delivery {
    u8 vector;
    bool software; /* INT n, INT3, INTO: the gate's DPL is checked */
    bool int_n;    /* INT n: in virtual-8086 mode subject to IOPL and redirection */
    bool has_error;
    u32 error;
    u64 rip;   /* return address */
    u64 flags; /* RFLAGS as pushed */
};

/* Delivers d, or raises with nothing of *v changed (a task switch excepted, see sem_task.h). */
void sem_deliver(struct vcpu *v, const struct delivery *d);

/* The same in the common cases, with nothing that could fault left to be done (sem_quick.c). False:
 * nothing was changed. General registers only. */
bool sem_try_deliver(struct vcpu *v, const struct delivery *d);

#endif
