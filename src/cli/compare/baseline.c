/*
 * Old against new, in ratios to native, so that both may come from machines of different speed.
 * Something got slower if its new ratio is above the old one by more than noise: the spreads over
 * the rounds do not meet, and the medians are further apart than NOISE. It is a regression if it is
 * further than the bound, too, or if the old results have it and this run tried and failed.
 */
#include "cli/compare/baseline.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define NOISE           0.05
#define BASELINE_FORMAT "ringer-compare-baseline"

struct counts {
    unsigned faster, slower, same, regressions, missing, elsewhere;
};

/* --- reading and writing --- */

static void print_ratios(FILE *f, void *arg)
{
    const struct summary *s = arg;
    json_t *list = json_array();
    for (unsigned i = 0; i < s->count; i++) {
        const struct measure *m = &s->measure[i];
        if (!isfinite(m->ratio) || strcmp(m->system, "native") == 0)
            continue;
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:f}", "suite",
                                              m->suite, "guest", m->guest, "system", m->system,
                                              "name", m->name, "ratio", m->ratio, "low",
                                              m->ratio_low, "high", m->ratio_high));
    }
    json_t *root = json_pack("{s:s, s:i, s:o}", "format", BASELINE_FORMAT, "version",
                             COMPARE_VERSION, "ratios", list);
    json_dumpf(root, f, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(4));
    fputc('\n', f);
    json_decref(root);
}

int baseline_save(const struct summary *s, const char *path, struct error *err)
{
    return write_file(path, print_ratios, (void *)s, err);
}

/* The list of ratios in a baseline or, computed, in a results file. NULL: neither. */
static json_t *load_ratios(const char *path, struct error *err)
{
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why), *list = NULL;
    if (root && strcmp(json_text(root, "format"), BASELINE_FORMAT) == 0 &&
        json_number(root, "version") == COMPARE_VERSION) {
        list = json_incref(json_object_get(root, "ratios"));
    } else {
        json_decref(root);
        root = results_load(path, err);
        if (!root)
            return NULL;
        struct summary s;
        char *text = NULL;
        size_t size;
        summary_make(&s, root);
        FILE *f = open_memstream(&text, &size);
        print_ratios(f, &s);
        fclose(f);
        json_t *computed = json_loads(text, 0, NULL);
        list = json_incref(json_object_get(computed, "ratios"));
        json_decref(computed);
        free(text);
        summary_free(&s);
    }
    json_decref(root);
    if (!json_is_array(list))
        error_set(err, EINVAL, "%s: has no list of ratios", path);
    return json_is_array(list) ? list : NULL;
}

/* --- verdicts --- */

/* Did this run try to measure it? Then a run of the suite is there, well or not. */
static bool tried(const json_t *results, const json_t *old)
{
    json_t *run;
    size_t i;
    const char *suite = json_text(old, "suite"), *only = json_text(results, "only");
    if (strcmp(suite, "boot") == 0)
        suite = "linux";
    if (only[0] && !list_has(only, json_text(old, "name")) && !list_has(only, suite))
        return false;
    json_array_foreach(json_object_get(results, "runs"), i,
                       run) if (strcmp(json_text(run, "suite"), suite) == 0 &&
                                strcmp(json_text(run, "system"), json_text(old, "system")) == 0 &&
                                !json_text(run, "function_test")[0] &&
                                strcmp(json_text(run, "guest"), json_text(old, "guest")) ==
                                    0) return true;
    return false;
}

static void print_verdict(const json_t *old, const struct measure *m, const char *verdict)
{
    double was = json_number(old, "ratio");
    printf("%-10s %-12s %-6s %-9s %-18s %9.3f -> %9.3f  %+7.1f %%\n", verdict,
           json_text(old, "suite"), json_text(old, "guest"), json_text(old, "system"),
           json_text(old, "name"), was, m->ratio, 100 * (m->ratio / was - 1));
}

static void judge(const json_t *old, const struct measure *m, double bound, struct counts *n)
{
    double was = json_number(old, "ratio");
    double low = json_number(old, "low"), high = json_number(old, "high");
    if (m->ratio > was * (1 + NOISE) && m->ratio_low > high) {
        bool past = m->ratio > was * (1 + bound / 100);
        print_verdict(old, m, past ? "REGRESSION" : "slower");
        n->slower++;
        n->regressions += past;
    } else if (m->ratio < was * (1 - NOISE) && m->ratio_high < low) {
        print_verdict(old, m, "faster");
        n->faster++;
    } else {
        n->same++;
    }
}

static void judge_all(const json_t *ratios, const struct summary *s, const json_t *results,
                      double bound, struct counts *n)
{
    json_t *old;
    size_t i;
    json_array_foreach(ratios, i, old)
    {
        const struct measure *m = summary_find(s, json_text(old, "suite"), json_text(old, "guest"),
                                               json_text(old, "system"), json_text(old, "name"));
        if (!(json_number(old, "ratio") > 0))
            continue;
        if (m && isfinite(m->ratio)) {
            judge(old, m, bound, n);
        } else if (tried(results, old)) {
            printf("MISSING    %-12s %-6s %-9s %s\n", json_text(old, "suite"),
                   json_text(old, "guest"), json_text(old, "system"), json_text(old, "name"));
            n->missing++;
        } else {
            n->elsewhere++;
        }
    }
}

int baseline_compare(const char *path, const struct summary *s, const json_t *results, double bound,
                     struct error *err)
{
    struct counts n = {0};
    json_t *ratios = load_ratios(path, err);
    if (!ratios)
        return -EINVAL;
    judge_all(ratios, s, results, bound, &n);
    json_decref(ratios);
    printf("against %s, in ratios to native: %u faster, %u slower (%u by more than %g %%), %u "
           "within noise, %u missing, %u not run here\n",
           path, n.faster, n.slower, n.regressions, bound, n.same, n.missing, n.elsewhere);
    if (n.faster + n.slower + n.same + n.missing == 0)
        return error_set(err, EINVAL, "--baseline %s: nothing in it was measured here", path);
    return n.regressions + n.missing > 0;
}
