/*
 * What the nano kernel prints (guest/nano), as a structure. Its lines begin with "nano"; all other
 * lines of the console are passed over.
 */
#ifndef RINGER_CLI_NANO_REPORT_H
#define RINGER_CLI_NANO_REPORT_H

#include "base/error.h"

#define NANO_RESULTS_MAX 64
#define NANO_CHECKS_MAX  64

struct nano_result {
    char name[32];
    double median, low, high; /* cycles of the guest's time stamp counter */
    unsigned samples;
    char skipped[128]; /* why it was not measured; empty: it was */
};

struct nano_check {
    char name[32];
    char verdict[8]; /* "ok", "tells" or "fail" */
    char text[128];
};

struct nano_report {
    char build[8]; /* "64", "pae" or "32" */
    char cpu[64];
    u64 tsc_khz;
    struct nano_result results[NANO_RESULTS_MAX];
    struct nano_check checks[NANO_CHECKS_MAX];
    unsigned nresults, nchecks;
};

/* Negative errno: the text has no whole report; what there is of it is in out. */
int nano_report_parse(const char *text, struct nano_report *out, struct error *err);

#endif
