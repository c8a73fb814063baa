/*
 * Results for readers: a page and a table.
 */
#ifndef RINGER_CLI_COMPARE_REPORT_H
#define RINGER_CLI_COMPARE_REPORT_H

#include "cli/compare/summary.h"

struct report {
    const json_t *results;
    const struct summary *summary;
};

/* One self-contained HTML page: styles and plots are in it. */
int report_html(const struct report *r, const char *path, struct error *err);

/* The tables, as Markdown; between the marks of the file, if it has them, else as all of it. */
int report_markdown(const struct report *r, const char *path, struct error *err);

#endif
