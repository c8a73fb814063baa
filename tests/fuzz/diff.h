/*
 * Two machines that should do the same: how their state is made equal, compared and shown.
 */
#ifndef RINGER_TESTS_FUZZ_DIFF_H
#define RINGER_TESTS_FUZZ_DIFF_H

#include <stdio.h>

#include "fuzz.h"
#include "valid.h"

#define MAX_LOGGED 16

struct logged_fault {
    u64 vector, error, cr2, rip;
};

struct fault_log {
    unsigned count;
    struct logged_fault entry[MAX_LOGGED];
};

struct side {
    struct fuzz_guest guest;
    struct fault_log faults;
    struct vm_exit exit;
};

/* Page tables, if v pages, in which all of RAM is seen at all multiples of 2 or 4 MiB, the tables
 * themselves read-only; their rights for VALID_WINDOW and VALID_TABLE. */
void diff_page_tables(struct fuzz_guest *g, struct rng *r);

/* The program in place of the one that is there; most handlers lead to its instructions. */
void diff_put_program(struct fuzz_guest *g, struct rng *r, const struct valid_program *p);

/* Is there a difference that a guest could see? Said to `out`, unless that is NULL. */
bool diff_compare(const struct side *want, const struct side *got, FILE *out);

/* The program with its start state, before it ran. */
void diff_print_program(const struct fuzz_guest *g, const struct valid_program *p, FILE *out);

#endif
