/*
 * Programs of valid instructions (valid.c), and the addresses that they share with who runs them.
 */
#ifndef RINGER_TESTS_FUZZ_VALID_H
#define RINGER_TESTS_FUZZ_VALID_H

#include "fuzz.h"

#define VALID_MAX 200

/* A 32-bit word that limits loops. */
#define VALID_FUEL (GPA_DATA + 0x7f0)

/* Linear addresses, with paging: pages whose entries the program changes, and where it does so. */
#define VALID_WINDOW       0x180000ULL
#define VALID_WINDOW_PAGES 8
#define VALID_TABLE        0x1f0000ULL

struct valid_program {
    u8 bytes[CODE_SIZE];
    unsigned size;
    unsigned start[VALID_MAX], count; /* offsets of the groups of instructions; the last is HLT */
};

/* Makes one for the mode that the vCPU is in. */
void valid_program(struct fuzz_guest *g, struct rng *r, unsigned groups, struct valid_program *p);

#endif
