/*
 * The slides' qualitative comparison with what was counted here for each of its rows, the function
 * tests, and every run.
 */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "cli/compare/sections.h"

enum quality {
#define PAPER_QUALITY(id, name, winner, text) QUALITY_##id,
#include "cli/paper.def"
    QUALITIES
};

#define CELL_BYTES 256

static void PRINTF_LIKE(2, 3) put(char *cell, const char *fmt, ...)
{
    size_t used = strlen(cell);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cell + used, CELL_BYTES - used, fmt, ap);
    va_end(ap);
}

/* "NAME 240 (2.1 times native)" for each name that was measured. */
static void put_nano(char *cell, const struct summary *s, const char *system,
                     const char *const *names)
{
    char number[24];
    for (; *names; names++) {
        const struct measure *m = summary_find(s, "nano", "64", system, *names);
        if (!m)
            continue;
        put(cell, "%s%s %s", cell[0] ? ", " : "", *names, short_number(m->median, number));
        if (isfinite(m->ratio) && !m->stands_in)
            put(cell, " (%s times native)", short_number(m->ratio, number));
    }
}

static double exits(const json_t *stats)
{
    const char *name;
    json_t *value;
    double sum = 0;
    json_object_foreach(json_object_get(stats, "counters"), name,
                        value) if (strncmp(name, "kvm.exit.", 9) == 0) sum +=
        json_number_value(value);
    return sum;
}

static void fill_counted(char cell[QUALITIES][CELL_BYTES], const json_t *stats, bool bt)
{
    char number[24];
    double seconds = stats_counter(stats, "time.engine") / 1e9;
    if (!stats || seconds <= 0)
        return;
    if (!bt) {
        put(cell[QUALITY_TRAPS], "%s exits/s that reach ringer; the kernel's own are not counted",
            short_number(exits(stats) / seconds, number));
        put(cell[QUALITY_DENSITY], "1: the guest's own code runs");
        return;
    }
    double quick = stats_counter(stats, "bt.quick_calls");
    double callouts = stats_counter(stats, "bt.callout.system");
    put(cell[QUALITY_TRAPS], "%s host signals/s",
        short_number(stats_counter(stats, "bt.callout.signal") / seconds, number));
    put(cell[QUALITY_CALLOUTS], "%s callouts/s of all kinds; ",
        short_number(stats_counter(stats, "bt.callouts") / seconds, number));
    if (quick + callouts > 0)
        put(cell[QUALITY_CALLOUTS], "of system instructions left to C, %.0f %% by the quick way",
            100 * quick / (quick + callouts));
    put(cell[QUALITY_DENSITY], "%.1f host bytes per guest byte", json_number(stats, "bt_growth"));
}

static void fill(char cell[QUALITIES][CELL_BYTES], const struct report *r, const char *system)
{
    static const char *const emulated[] = {"in", "cr8wr", "rdtsc", "cpuid", NULL};
    static const char *const faults[] = {"pgfault", "divzero", NULL};
    static const char *const calls[] = {"syscall-syscall", "syscall-sysenter", "syscall-int80",
                                        NULL};
    const json_t *stats = last_stats(r->results, "linux", system);
    memset(cell, 0, QUALITIES * CELL_BYTES);
    if (!stats)
        stats = last_stats(r->results, "nano", system);
    fill_counted(cell, stats, strcmp(system, "bt") == 0);
    put_nano(cell[QUALITY_EMULATION], r->summary, system, emulated);
    put_nano(cell[QUALITY_EXCEPTIONS], r->summary, system, faults);
    put_nano(cell[QUALITY_SYSCALLS], r->summary, system, calls);
}

void quality_section(FILE *f, const struct report *r)
{
    static const char *const rows[][3] = {
#define PAPER_QUALITY(id, name, winner, text) {name, winner, text},
#include "cli/paper.def"
    };
    char bt[QUALITIES][CELL_BYTES], kvm[QUALITIES][CELL_BYTES];
    fill(bt, r, "bt");
    fill(kvm, r, "kvm");
    fputs("<h2>The qualitative comparison</h2><p>The slides say which technique is better at what; "
          "beside it what was counted here.</p><div class=\"scroll\"><table><tr><th>property</th>"
          "<th>slides: better</th><th>translator (bt)</th><th>hardware (kvm)</th></tr>",
          f);
    for (unsigned i = 0; i < QUALITIES; i++) {
        fprintf(f, "<tr><td><b>%s</b><br><small>%s</small></td><td>%s</td><td>", rows[i][0],
                rows[i][2], rows[i][1]);
        html_text(f, bt[i][0] ? bt[i] : "not measured");
        fputs("</td><td>", f);
        html_text(f, kvm[i][0] ? kvm[i] : "not measured");
        fputs("</td></tr>", f);
    }
    fputs("</table></div>\n", f);
}

/* --- function tests --- */

static void computed_row(FILE *f, const struct report *r, const struct system *s)
{
    unsigned right = 0, wrong = 0;
    char names[256] = "";
    for (unsigned i = 0; i < r->summary->count; i++) {
        const struct measure *m = &r->summary->measure[i];
        if (strcmp(m->system, s->name) != 0 || !m->computed[0])
            continue;
        right += !m->differs;
        wrong += m->differs;
        if (m->differs)
            put(names, " %s", m->name);
    }
    if (right + wrong == 0)
        return;
    fputs("<tr><td>", f);
    html_text(f, s->label);
    fprintf(f,
            "</td><td>programs compute the same values</td><td class=\"%s\">%u of %u%s</td></tr>",
            wrong ? "bad" : "good", right, right + wrong, names);
}

struct verdicts {
    unsigned operations, ok, tells, fails;
    char names[4 * CELL_BYTES]; /* of the checks that are not ok */
};

static void count_verdicts(const json_t *run, struct verdicts *v)
{
    json_t *check;
    size_t i;
    *v =
        (struct verdicts){.operations = (unsigned)json_array_size(json_object_get(run, "results"))};
    json_array_foreach(json_object_get(run, "checks"), i, check)
    {
        const char *verdict = json_text(check, "verdict");
        size_t used = strlen(v->names);
        v->ok += strcmp(verdict, "ok") == 0;
        v->tells += strcmp(verdict, "tells") == 0;
        v->fails += strcmp(verdict, "fail") == 0;
        if (strcmp(verdict, "ok") != 0)
            snprintf(v->names + used, sizeof(v->names) - used, "%s%s", used ? ", " : "",
                     json_text(check, "name"));
    }
}

/* A line below, if there is anything to say. */
static void small(FILE *f, const char *text)
{
    fputs(text[0] ? "<br><small>" : "", f);
    html_text(f, text);
    fputs(text[0] ? "</small>" : "", f);
}

static void checks_row(FILE *f, const json_t *run, const struct system *s)
{
    const char *only = json_text(run, "function_test"), *reason = json_text(run, "reason");
    struct verdicts v;
    count_verdicts(run, &v);
    if (v.ok + v.tells + v.fails == 0 && !only[0])
        return;
    fputs("<tr><td>", f);
    html_text(f, s->label);
    fputs("</td><td>fidelity and safety, in the nano kernel", f);
    small(f, only);
    fputs("</td><td class=\"w\">", f);
    if (reason[0]) {
        fputs("<span class=\"bad\">failed</span>: ", f);
        html_text(f, reason);
    } else {
        fprintf(f, "<span class=\"%s\">%u ok, %u tell, %u fail</span>; %u operations ran",
                v.fails ? "bad" : "good", v.ok, v.tells, v.fails, v.operations);
    }
    small(f, v.names);
    fputs("</td></tr>", f);
}

/* The nano kernel's row for a system: of its first round. */
static void nano_row(FILE *f, const struct report *r, const struct system *s)
{
    json_t *run;
    size_t i;
    json_array_foreach(json_object_get(r->results, "runs"), i,
                       run) if (strcmp(json_text(run, "system"), s->name) == 0 &&
                                strcmp(json_text(run, "suite"), "nano") == 0 &&
                                json_number(run, "round") == 1) checks_row(f, run, s);
}

void checks_section(FILE *f, const struct report *r)
{
    fputs("<h2>Function tests</h2><p>Of the nano kernel's checks some hold, by some the guest can "
          "tell that it is not on bare metal, some fail; the last two kinds have their names "
          "below.</p><div class=\"scroll\"><table><tr><th>system</th><th>test</th>"
          "<th>outcome</th></tr>",
          f);
    for (const struct system *s = systems; s->name; s++) {
        computed_row(f, r, s);
        nano_row(f, r, s);
    }
    fputs("</table></div>\n", f);
}

void runs_section(FILE *f, const struct report *r)
{
    json_t *run;
    size_t i;
    fputs("<h2>Runs</h2><details><summary>Every run, with its command</summary><div "
          "class=\"scroll\"><table><tr><th class=\"r\">round</th><th>system</th><th>suite</th><th "
          "class=\"r\">seconds</th><th>outcome</th><th>command</th></tr>",
          f);
    json_array_foreach(json_object_get(r->results, "runs"), i, run)
    {
        bool ok = strcmp(json_text(run, "status"), "ok") == 0;
        fprintf(f, "<tr><td class=\"r\">%.0f</td><td>", json_number(run, "round"));
        html_text(f, json_text(run, "system"));
        fputs("</td><td>", f);
        html_text(f, json_text(run, "suite"));
        fputs(" ", f);
        html_text(f, json_text(run, json_object_get(run, "variant") ? "variant" : "guest"));
        fprintf(f, "</td><td class=\"r\">%.1f</td><td%s>", json_number(run, "seconds"),
                ok ? "" : " class=\"bad\"");
        html_text(f, ok ? "ok" : json_text(run, "reason"));
        fputs(json_text(run, "function_test")[0] ? " (function test)" : "", f);
        fputs("</td><td><code>", f);
        html_text(f, json_text(run, "command"));
        fputs("</code></td></tr>", f);
    }
    fputs("</table></div></details>\n", f);
}
