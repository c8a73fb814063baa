/*
 * The architectural part of struct vcpu by itself: to be kept, put back, compared, and printed by
 * the names of its registers. What belongs to the interrupt controller (struct lapic_state), to
 * other threads or to the host is not in it.
 */
#ifndef RINGER_ENGINE_LOCKSTEP_ARCHSTATE_H
#define RINGER_ENGINE_LOCKSTEP_ARCHSTATE_H

#include <stdio.h>

#include "cpu/state.h"

struct arch_state {
    u8 bytes[3072];
};

void arch_save(struct arch_state *s, const struct vcpu *v);
void arch_load(struct vcpu *v, const struct arch_state *s);

/* Are a and b in the same state? If so a takes over what is no register in b. */
bool arch_equal(struct vcpu *a, const struct vcpu *b);

/* Prints every register in which a and b differ, one line each. */
void arch_print_differences(FILE *f, const struct vcpu *a, const struct vcpu *b);

/* Prints general registers, RIP, flags, mode and segments. */
void arch_print(FILE *f, const struct vcpu *v);

#endif
