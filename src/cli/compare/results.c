/*
 * The results document: made, loaded, checked, written so that the file is whole at any time.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/compare/compare.h"

const char *json_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

double json_number(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

json_t *results_new(const struct compare_settings *s)
{
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &utc);
    return json_pack("{s:s, s:i, s:s, s:b, s:b, s:i, s:i, s:s, s:o, s:o, s:[], s:[]}", "format",
                     COMPARE_FORMAT, "version", COMPARE_VERSION, "date", date, "finished", 0,
                     "quick", s->quick, "rounds", (int)s->rounds, "milliseconds_per_workload",
                     s->quick ? 10 : 100, "only", s->only ? s->only : "", "host", host_describe(),
                     "versions", versions_describe(s), "left_out", "runs");
}

json_t *results_load(const char *path, struct error *err)
{
    json_error_t why;
    json_t *results = json_load_file(path, 0, &why);
    if (!results && why.line <= 0) {
        error_set(err, errno ? errno : EIO, "%s", why.text);
        return NULL;
    }
    if (!results) {
        error_set(err, EINVAL, "%s: not JSON: line %d: %s", path, why.line, why.text);
        return NULL;
    }
    if (strcmp(json_text(results, "format"), COMPARE_FORMAT) != 0 ||
        json_number(results, "version") != COMPARE_VERSION) {
        error_set(err, EINVAL, "%s: is no results file of `ringer compare`, version %d", path,
                  COMPARE_VERSION);
        json_decref(results);
        return NULL;
    }
    return results;
}

int results_match(const json_t *results, const struct compare_settings *s, struct error *err)
{
    json_t *host = host_describe(), *theirs = json_object_get(results, "host");
    bool same = strcmp(json_text(theirs, "cpu"), json_text(host, "cpu")) == 0;
    json_decref(host);
    if (!same)
        return error_set(err, EINVAL, "--resume: the results are of another machine (%s)",
                         json_text(theirs, "cpu"));
    if (json_is_true(json_object_get(results, "quick")) != s->quick)
        return error_set(err, EINVAL, "--resume: the results are %s --quick",
                         s->quick ? "without" : "with");
    if (strcmp(json_text(results, "only"), s->only ? s->only : "") != 0)
        return error_set(err, EINVAL, "--resume: the results are with --only %s",
                         json_text(results, "only"));
    return 0;
}

struct dump {
    const json_t *json;
    int rc;
};

static void print_json(FILE *f, void *arg)
{
    struct dump *d = arg;
    d->rc = json_dumpf(d->json, f, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    fputc('\n', f);
}

int write_file(const char *path, void (*print)(FILE *f, void *arg), void *arg, struct error *err)
{
    char beside[512];
    snprintf(beside, sizeof(beside), "%s.tmp", path);
    FILE *f = fopen(beside, "w");
    if (!f)
        return error_errno(err, errno, "cannot write %s", beside);
    print(f, arg);
    bool failed = ferror(f);
    if (fclose(f) != 0 || failed || rename(beside, path) < 0) {
        int code = errno;
        unlink(beside);
        return error_errno(err, code, "cannot write %s", path);
    }
    return 0;
}

int results_save(const json_t *results, const char *path, struct error *err)
{
    struct dump d = {results, 0};
    int rc = write_file(path, print_json, &d, err);
    return rc < 0 || d.rc == 0 ? rc : error_set(err, EIO, "cannot write %s", path);
}

json_t *results_find(const json_t *results, const struct cell *cell, unsigned round)
{
    json_t *run;
    size_t i;
    json_array_foreach(json_object_get(results, "runs"), i, run)
    {
        const char *variant = cell->variant ? cell->variant : "";
        if (json_number(run, "round") == round &&
            strcmp(json_text(run, "suite"), cell->suite) == 0 &&
            strcmp(json_text(run, "system"), cell->system->name) == 0 &&
            strcmp(json_text(run, "guest"), cell->guest) == 0 &&
            strcmp(json_text(run, "variant"), variant) == 0)
            return run;
    }
    return NULL;
}

bool results_load_average(const json_t *results, double *least, double *most)
{
    json_t *run;
    size_t i;
    *least = INFINITY;
    *most = -INFINITY;
    json_array_foreach(json_object_get(results, "runs"), i, run)
    {
        double load = json_number(run, "load");
        if (isfinite(load)) {
            *least = MIN(*least, load);
            *most = MAX(*most, load);
        }
    }
    return *least <= *most;
}

void results_leave_out(json_t *results, const char *what, const char *fmt, ...)
{
    char reason[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(reason, sizeof(reason), fmt, ap);
    va_end(ap);
    json_array_append_new(json_object_get(results, "left_out"),
                          json_pack("{s:s, s:s}", "what", what, "reason", reason));
    log_note("compare: %s left out: %s", what, reason);
}
