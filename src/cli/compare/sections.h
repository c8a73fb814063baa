/*
 * Sections of the page that report.c puts in order. Each prints itself, or nothing where nothing
 * was measured for it.
 */
#ifndef RINGER_CLI_COMPARE_SECTIONS_H
#define RINGER_CLI_COMPARE_SECTIONS_H

#include "cli/compare/plot.h"
#include "cli/compare/report.h"

/* The class of a system's color. */
const char *system_color(const char *name, char color[32]);

/* A bar for each system that has the measure: its median or, with `ratios`, what it is of native.
 * There is room for 8. Returns their number. */
unsigned system_bars(const struct summary *s, const char *suite, const char *guest,
                     const char *name, bool ratios, struct bar *bar, char color[][32]);

/* The last run of the suite on the system that has statistics; its "stats", or NULL. */
const json_t *last_stats(const json_t *results, const char *suite, const char *system);

/* A counter of such statistics; 0 if there is none. */
double stats_counter(const json_t *stats, const char *name);

void nano_table(FILE *f, const struct report *r);
void linux_section(FILE *f, const struct report *r, const char *guest);
void paper_macro_section(FILE *f);
void time_section(FILE *f, const struct report *r);
void adaptation_section(FILE *f, const struct report *r);
void quality_section(FILE *f, const struct report *r);
void checks_section(FILE *f, const struct report *r);
void runs_section(FILE *f, const struct report *r);

#endif
