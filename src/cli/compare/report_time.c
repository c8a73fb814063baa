/*
 * Where an engine's time went, and how that changes while a guest runs: from the counters that each
 * run has, at its end and at intervals.
 */
#include <math.h>
#include <string.h>

#include "cli/compare/sections.h"

#define SAMPLES_MAX 4096

const json_t *last_stats(const json_t *results, const char *suite, const char *system)
{
    json_t *run, *found = NULL;
    size_t i;
    json_array_foreach(json_object_get(results, "runs"), i, run)
    {
        json_t *stats = json_object_get(run, "stats");
        if (stats && strcmp(json_text(run, "suite"), suite) == 0 &&
            strcmp(json_text(run, "system"), system) == 0 && !json_text(run, "function_test")[0] &&
            (!found || !json_text(run, "reason")[0]))
            found = stats;
    }
    return found;
}

double stats_counter(const json_t *stats, const char *name)
{
    double n = json_number(json_object_get(stats, "counters"), name);
    return isfinite(n) ? n : 0;
}

/* Counters whose names begin so, as the parts of a bar. */
static unsigned counters_as_parts(const json_t *stats, const char *prefix, struct part *part,
                                  unsigned room)
{
    static const char *const colors[] = {"s-bt",     "s-qemu-tcg", "s-kvm",
                                         "s-interp", "s-qemu-kvm", "s-native"};
    unsigned n = 0;
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(stats, "counters"), name, value)
    {
        if (strncmp(name, prefix, strlen(prefix)) != 0 || json_integer_value(value) == 0 ||
            n == room)
            continue;
        part[n] = (struct part){name + strlen(prefix), colors[n % ARRAY_SIZE(colors)],
                                (double)json_integer_value(value)};
        n++;
    }
    return n;
}

static void engine_card(FILE *f, const struct report *r, const struct system *s)
{
    const json_t *stats = last_stats(r->results, "linux", s->name);
    bool bt = strcmp(s->name, "bt") == 0;
    struct part part[16];
    if (!stats)
        stats = last_stats(r->results, "nano", s->name);
    if (!stats)
        return;
    double engine = stats_counter(stats, "time.engine") / 1e9;
    double translating = stats_counter(stats, "bt.translating") / 1e9;
    struct part times[] = {
        {"translating", "s-qemu-tcg", translating},
        {bt ? "fragments and callouts" : "guest code", "s-bt", MAX(engine - translating, 0)},
        {"devices", "s-interp", stats_counter(stats, "time.devices") / 1e9},
        {"idle", "s-line", stats_counter(stats, "time.idle") / 1e9}};
    fputs("<div class=\"card\">", f);
    plot_stack(f, s->label, times, ARRAY_SIZE(times), "&#8239;s");
    unsigned n = counters_as_parts(stats, bt ? "bt.callout." : "kvm.exit.", part, ARRAY_SIZE(part));
    plot_stack(f, bt ? "Callouts by reason" : "Exits by reason", part, n, "");
    fputs("</div>", f);
}

void time_section(FILE *f, const struct report *r)
{
    bool any = false;
    for (const struct system *s = systems; s->name; s++)
        any = any || last_stats(r->results, "linux", s->name) ||
              last_stats(r->results, "nano", s->name);
    if (!any)
        return;
    fputs(
        "<h2>Where the time went</h2><p>Of one run with a Linux guest, from power-on to power-off "
        "(of the nano kernel, where there was none). Callouts and exits are counted, not timed.</p>"
        "<div class=\"cards\">",
        f);
    for (const struct system *s = systems; s->name; s++)
        if (s->kind == SYSTEM_ENGINE)
            engine_card(f, r, s);
    fputs("</div>\n", f);
}

/* What a counter grew by from sample to sample, per second and times `scale`. Returns the number of
 * samples; y has room for SAMPLES_MAX. */
static unsigned growth(const json_t *samples, const char *name, double scale, double *x, double *y)
{
    const json_t *seconds = json_object_get(samples, "seconds");
    const json_t *values = json_object_get(samples, name);
    unsigned n = (unsigned)MIN(json_array_size(seconds), SAMPLES_MAX);
    double t0 = 0, v0 = 0;
    for (unsigned i = 0; i < n; i++) {
        double t = json_number_value(json_array_get(seconds, i));
        double v = json_number_value(json_array_get(values, i));
        x[i] = t;
        y[i] = t > t0 ? scale * (v - v0) / (t - t0) : 0;
        t0 = t;
        v0 = v;
    }
    return n;
}

void adaptation_section(FILE *f, const struct report *r)
{
    static const struct {
        const char *counter, *label, *color;
    } kinds[] = {{"bt.translations", "units translated", "s-bt"},
                 {"bt.clones", "units copied for another address", "s-kvm"},
                 {"bt.adapt.extended", "hot units translated anew, longer", "s-qemu-tcg"},
                 {"bt.invalidated", "units given up, their code written", "s-interp"}};
    const json_t *samples = json_object_get(last_stats(r->results, "linux", "bt"), "samples");
    double x[SAMPLES_MAX], y[ARRAY_SIZE(kinds)][SAMPLES_MAX];
    struct line line[ARRAY_SIZE(kinds)];
    unsigned n = 0;
    if (json_array_size(json_object_get(samples, "seconds")) < 2)
        return;
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        n = growth(samples, kinds[k].counter, 1, x, y[k]);
        line[k] = (struct line){kinds[k].label, kinds[k].color, y[k]};
    }
    fputs("<h2>Adaptation over time</h2><p>The translator while a Linux guest boots and then runs "
          "the "
          "programs: translation is on demand, so it comes in bursts where new code runs, and dies "
          "down where code repeats.</p><div class=\"cards\"><div class=\"card\"><h3>Units per "
          "second</h3>",
          f);
    plot_lines(f, x, n, line, ARRAY_SIZE(kinds), "s", "units/s");
    fputs("</div><div class=\"card\"><h3>Time spent translating</h3>", f);
    n = growth(samples, "bt.translating", 100e-9, x, y[0]);
    plot_lines(f, x, n, &(struct line){"share of the processor's time", "s-qemu-tcg", y[0]}, 1, "s",
               "&#8239;%");
    fputs("</div></div>\n", f);
}
