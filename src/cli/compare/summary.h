/*
 * What the runs of a results document come to: for each operation or program on each system the
 * median over the rounds, the spread, and the ratio to the machine itself.
 */
#ifndef RINGER_CLI_COMPARE_SUMMARY_H
#define RINGER_CLI_COMPARE_SUMMARY_H

#include "cli/compare/compare.h"

/* Names in the suite "linux" that stand for the geometric mean of the ratios of a kind's programs
 * begin so; a measure of a mean has ratios only. */
#define MEAN_PREFIX "mean:"

/* Runs that are function tests are not measures. */
struct measure {
    char suite[16], guest[16], name[48], kind[16], unit[16], system[16];
    char computed[16];                /* the value that the program computed, or "" */
    double value[COMPARE_ROUNDS_MAX]; /* by round, NAN: none */
    double low, high;                 /* over the rounds; of one round: its own spread */
    double median;
    /* Divided by native, round by round; by what stands for it where a process can't do this: in
     * nano native's callret, of booting native's sort. NAN where native has neither. */
    double ratio, ratio_low, ratio_high;
    double ratio_in[COMPARE_ROUNDS_MAX]; /* by round */
    bool stands_in;                      /* the ratio is such a one */
    bool differs;                        /* what it computed is not what the first system did */
};

struct summary {
    struct measure *measure;
    unsigned count, space;
};

void summary_make(struct summary *s, const json_t *results);
void summary_free(struct summary *s);

/* NULL: there is none. */
const struct measure *summary_find(const struct summary *s, const char *suite, const char *guest,
                                   const char *system, const char *name);

/* Has the system any measure in this suite and guest (NULL: any)? */
bool summary_has(const struct summary *s, const char *suite, const char *guest, const char *system);

#endif
