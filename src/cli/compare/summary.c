/*
 * Medians and ratios. A ratio is taken within a round, where both sides ran within the same minute
 * or so, and then the median over the rounds: what drifts from round to round drops out.
 */
#include "cli/compare/summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define QUARTILES_FROM 5 /* rounds */

static const double nothing = NAN;

const struct measure *summary_find(const struct summary *s, const char *suite, const char *guest,
                                   const char *system, const char *name)
{
    for (unsigned i = 0; i < s->count; i++) {
        const struct measure *m = &s->measure[i];
        if (strcmp(m->name, name) == 0 && strcmp(m->system, system) == 0 &&
            strcmp(m->guest, guest) == 0 && strcmp(m->suite, suite) == 0)
            return m;
    }
    return NULL;
}

bool summary_has(const struct summary *s, const char *suite, const char *guest, const char *system)
{
    for (unsigned i = 0; i < s->count; i++)
        if (strcmp(s->measure[i].suite, suite) == 0 && strcmp(s->measure[i].system, system) == 0 &&
            (!guest || strcmp(s->measure[i].guest, guest) == 0))
            return true;
    return false;
}

/* A new one, with no values. */
static struct measure *add_measure(struct summary *s, const char *suite, const char *guest,
                                   const char *system, const char *name)
{
    if (s->count == s->space) {
        s->space = s->space ? 2 * s->space : 256;
        s->measure = reallocarray(s->measure, s->space, sizeof(s->measure[0]));
    }
    struct measure *m = &s->measure[s->count++];
    memset(m, 0, sizeof(*m));
    snprintf(m->suite, sizeof(m->suite), "%s", suite);
    snprintf(m->guest, sizeof(m->guest), "%s", guest);
    snprintf(m->system, sizeof(m->system), "%s", system);
    snprintf(m->name, sizeof(m->name), "%s", name);
    for (unsigned r = 0; r < COMPARE_ROUNDS_MAX; r++)
        m->value[r] = m->ratio_in[r] = nothing;
    m->median = m->ratio = m->ratio_low = m->ratio_high = nothing;
    return m;
}

static void add_result(struct summary *s, const json_t *run, const json_t *result)
{
    const char *kind = json_text(result, "kind"), *name = json_text(result, "name");
    const char *suite = strcmp(kind, "boot") == 0 ? "boot" : json_text(run, "suite");
    double round = json_number(run, "round"), value = json_number(result, "value");
    if (!(round >= 1 && round <= COMPARE_ROUNDS_MAX) || !isfinite(value) ||
        json_text(run, "function_test")[0])
        return;
    struct measure *m = (struct measure *)summary_find(s, suite, json_text(run, "guest"),
                                                       json_text(run, "system"), name);
    if (!m) {
        m = add_measure(s, suite, json_text(run, "guest"), json_text(run, "system"), name);
        snprintf(m->kind, sizeof(m->kind), "%s", kind);
        snprintf(m->unit, sizeof(m->unit), "%s", json_text(result, "unit"));
        snprintf(m->computed, sizeof(m->computed), "%s", json_text(result, "computed"));
        m->low = json_number(result, "low");
        m->high = json_number(result, "high");
    }
    if (strcmp(m->computed, json_text(result, "computed")) != 0)
        m->differs = true;
    m->value[(unsigned)round - 1] = value;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median and spread of the values that there are; returns their number. The spread is from the
 * least to the greatest or, of many, between the quartiles, because one round in a bad minute is
 * likely among many. */
static unsigned spread(const double *value, double *median, double *low, double *high)
{
    double v[COMPARE_ROUNDS_MAX];
    unsigned n = 0;
    for (unsigned r = 0; r < COMPARE_ROUNDS_MAX; r++)
        if (isfinite(value[r]))
            v[n++] = value[r];
    if (n == 0)
        return 0;
    qsort(v, n, sizeof(v[0]), by_value);
    *median = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
    unsigned outside = n >= QUARTILES_FROM ? n / 4 : 0;
    *low = v[outside];
    *high = v[n - 1 - outside];
    return n;
}

/* What of native a measure is divided by. */
static const struct measure *divisor(const struct summary *s, struct measure *m)
{
    const struct measure *same = summary_find(s, m->suite, m->guest, "native", m->name);
    m->stands_in = !same;
    if (same)
        return same;
    if (strcmp(m->unit, "cycles") == 0)
        return summary_find(s, "nano", "64", "native", "callret");
    if (strcmp(m->suite, "boot") == 0)
        return summary_find(s, "linux", m->guest, "native", "sort");
    return NULL;
}

static void add_ratio(const struct summary *s, struct measure *m)
{
    const struct measure *d = divisor(s, m);
    if (!d || !(d->median > 0))
        return;
    for (unsigned r = 0; r < COMPARE_ROUNDS_MAX; r++)
        m->ratio_in[r] = m->value[r] / (d->value[r] > 0 ? d->value[r] : d->median);
    if (spread(m->ratio_in, &m->ratio, &m->ratio_low, &m->ratio_high) == 1) {
        m->ratio_low = m->low / d->median;
        m->ratio_high = m->high / d->median;
    }
}

/* Over the measures of a kind for a system in a guest, in round `r`. */
static double mean_in_round(const struct summary *s, const char *guest, const char *system,
                            const char *kind, unsigned r)
{
    double logs = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < s->count; i++) {
        const struct measure *m = &s->measure[i];
        if (strcmp(m->suite, "linux") != 0 || strcmp(m->guest, guest) != 0 ||
            strcmp(m->system, system) != 0 || strcmp(m->kind, kind) != 0 || !(m->ratio_in[r] > 0))
            continue;
        logs += log(m->ratio_in[r]);
        n++;
    }
    return n ? exp(logs / n) : NAN;
}

static void add_mean(struct summary *s, const char *guest, const char *system, const char *kind)
{
    double mean[COMPARE_ROUNDS_MAX], ratio, low, high;
    char name[32];
    for (unsigned r = 0; r < COMPARE_ROUNDS_MAX; r++)
        mean[r] = mean_in_round(s, guest, system, kind, r);
    if (!spread(mean, &ratio, &low, &high))
        return;
    snprintf(name, sizeof(name), MEAN_PREFIX "%s", kind);
    struct measure *m = add_measure(s, "linux", guest, system, name);
    m->ratio = ratio;
    m->ratio_low = low;
    m->ratio_high = high;
}

static void add_means(struct summary *s)
{
    static const char *const kinds[] = {"integer", "float", "memory", "system", "macro"};
    static const char *const guests[] = {"amd64", "686"};
    for (const struct system *system = systems; system->name; system++)
        for (unsigned g = 0; g < ARRAY_SIZE(guests) && system->kind != SYSTEM_NATIVE; g++)
            for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
                add_mean(s, guests[g], system->name, kinds[k]);
}

/* What differs from what the first system of the guest computed. */
static void compare_computed(struct summary *s)
{
    for (unsigned i = 0; i < s->count; i++)
        for (unsigned k = 0; k < i && s->measure[i].computed[0]; k++)
            if (strcmp(s->measure[k].name, s->measure[i].name) == 0 &&
                strcmp(s->measure[k].guest, s->measure[i].guest) == 0 &&
                strcmp(s->measure[k].suite, s->measure[i].suite) == 0) {
                if (strcmp(s->measure[k].computed, s->measure[i].computed) != 0)
                    s->measure[i].differs = true;
                break;
            }
}

void summary_make(struct summary *s, const json_t *results)
{
    json_t *run, *result;
    size_t i, k;
    *s = (struct summary){.count = 0};
    json_array_foreach(json_object_get(results, "runs"), i, run)
        json_array_foreach(json_object_get(run, "results"), k, result) add_result(s, run, result);
    for (unsigned n = 0; n < s->count; n++) {
        struct measure *m = &s->measure[n];
        double low, high;
        if (spread(m->value, &m->median, &low, &high) > 1) {
            m->low = low;
            m->high = high;
        }
    }
    for (unsigned n = 0; n < s->count; n++)
        add_ratio(s, &s->measure[n]);
    compare_computed(s);
    add_means(s);
}

void summary_free(struct summary *s)
{
    free(s->measure);
}
