/*
 * Results of now against results of before.
 */
#ifndef RINGER_CLI_COMPARE_BASELINE_H
#define RINGER_CLI_COMPARE_BASELINE_H

#include "cli/compare/summary.h"

/* Prints what differs from the file, which is of baseline_save() or a results.json. Returns 1 if
 * something is slower by more than `bound` percent or missing, else 0, or a negative errno. */
int baseline_compare(const char *path, const struct summary *s, const json_t *results, double bound,
                     struct error *err);

/* Writes the ratios. */
int baseline_save(const struct summary *s, const char *path, struct error *err);

#endif
