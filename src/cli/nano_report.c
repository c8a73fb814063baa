/*
 * The one parser of the nano kernel's report, version 1: a head, results, skips and checks in any
 * order, and an end.
 */
#include "cli/nano_report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void parse_result(const char *line, struct nano_report *out)
{
    struct nano_result r = {.name = ""};
    if (sscanf(line, "nano result %31s median=%lf low=%lf high=%lf samples=%u", r.name, &r.median,
               &r.low, &r.high, &r.samples) == 5 &&
        out->nresults < NANO_RESULTS_MAX)
        out->results[out->nresults++] = r;
}

static void parse_skip(const char *line, struct nano_report *out)
{
    struct nano_result r = {.name = ""};
    if (sscanf(line, "nano skip %31s %127[^\n]", r.name, r.skipped) == 2 &&
        out->nresults < NANO_RESULTS_MAX)
        out->results[out->nresults++] = r;
}

static void parse_check(const char *line, struct nano_report *out)
{
    struct nano_check c = {.name = ""};
    if (sscanf(line, "nano check %31s %7s %127[^\n]", c.name, c.verdict, c.text) >= 2 &&
        out->nchecks < NANO_CHECKS_MAX)
        out->checks[out->nchecks++] = c;
}

/* A head begins a report, so what there was before it is of a guest that has been started again. */
static bool parse_head(const char *line, struct nano_report *out)
{
    char build[8] = "", cpu[64] = "";
    u64 tsc_khz;
    if (sscanf(line, "nano 1 build=%7s tsc_khz=%" SCNu64 " cpu=\"%63[^\"]", build, &tsc_khz, cpu) <
        2)
        return false;
    memset(out, 0, sizeof(*out));
    memcpy(out->build, build, sizeof(build));
    memcpy(out->cpu, cpu, sizeof(cpu));
    out->tsc_khz = tsc_khz;
    return true;
}

/* Returns whether it is the last line of a report. */
static bool parse_line(const char *line, struct nano_report *out, bool *head)
{
    if (parse_head(line, out))
        *head = true;
    else if (strncmp(line, "nano result ", 12) == 0)
        parse_result(line, out);
    else if (strncmp(line, "nano skip ", 10) == 0)
        parse_skip(line, out);
    else if (strncmp(line, "nano check ", 11) == 0)
        parse_check(line, out);
    return strncmp(line, "nano done", 9) == 0;
}

int nano_report_parse(const char *text, struct nano_report *out, struct error *err)
{
    bool head = false, done = false;
    memset(out, 0, sizeof(*out));
    while (*text && !done) {
        char line[512];
        size_t len = strcspn(text, "\r\n");
        snprintf(line, sizeof(line), "%.*s", (int)MIN(len, sizeof(line) - 1), text);
        done = parse_line(line, out, &head);
        text += len + (text[len] != 0);
    }
    if (!head)
        return error_set(err, EINVAL, "there is no nano report of version 1");
    if (!done)
        return error_set(err, EINVAL, "the nano report does not go to its end");
    return 0;
}
