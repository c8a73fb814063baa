/*
 * The page: its order, and what is said above each plot. Plots of one kind share an axis, so that
 * they can be compared. What was not measured is not shown; why it was not is in a table of its
 * own.
 */
#include "cli/compare/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compare/plot.h"
#include "cli/compare/sections.h"

#define SYSTEMS_MAX 8

static const struct axis cycles_axis = {1, 1e6, true, ""};
static const struct axis dots_axis = {1, 1e7, true, "cycles"};

const char *system_color(const char *name, char color[32])
{
    snprintf(color, 32, "s-%s", name);
    return color;
}

unsigned system_bars(const struct summary *s, const char *suite, const char *guest,
                     const char *name, bool ratios, struct bar *bar, char color[][32])
{
    unsigned n = 0;
    for (const struct system *system = systems; system->name; system++) {
        const struct measure *m = summary_find(s, suite, guest, system->name, name);
        if (!m)
            continue;
        bar[n] = (struct bar){system->label,
                              system_color(system->name, color[n]),
                              ratios ? m->ratio : m->median,
                              m->low,
                              m->high,
                              false};
        if (ratios)
            bar[n].low = bar[n].high = NAN;
        n++;
    }
    return n;
}

/* Times on a busy machine are to be taken with care. */
static void load_note(FILE *f, const struct report *r)
{
    double least, most, cpus = json_number(json_object_get(r->results, "host"), "cpus");
    if (results_load_average(r->results, &least, &most))
        fprintf(
            f,
            "<p class=\"soft\">Load average before the runs: %.1f to %.1f, of %.0f "
            "processors%s.</p>",
            least, most, cpus,
            most > cpus
                ? ": <b>others were at work, so times are longer than they need be, and spread</b>"
                : "");
}

static void head(FILE *f, const struct report *r)
{
    const json_t *host = json_object_get(r->results, "host");
    const json_t *versions = json_object_get(r->results, "versions");
    page_begin(f, "ringer compare");
    fputs("<h1>Techniques of x86 virtualization, measured here</h1>"
          "<p class=\"soft\">",
          f);
    html_text(f, json_text(host, "cpu"));
    fprintf(f, ", %.0f processors%s, Linux ", json_number(host, "cpus"),
            json_is_true(json_object_get(host, "virtual")) ? " (a virtual machine itself)" : "");
    html_text(f, json_text(host, "kernel"));
    fputs(" &middot; ", f);
    html_text(f, json_text(versions, "ringer"));
    if (json_text(versions, "qemu")[0]) {
        fputs(" &middot; ", f);
        html_text(f, json_text(versions, "qemu"));
    }
    fputs(" &middot; ", f);
    html_text(f, json_text(r->results, "date"));
    fprintf(f, " &middot; %.0f round%s%s%s</p>", json_number(r->results, "rounds"),
            json_number(r->results, "rounds") > 1 ? "s" : "",
            json_is_true(json_object_get(r->results, "quick")) ? ", --quick" : "",
            json_is_true(json_object_get(r->results, "finished")) ? "" : ", not finished");
    load_note(f, r);
    fputs(
        "<p>After Adams and Agesen, <i>A Comparison of Software and Hardware Techniques for x86 "
        "Virtualization</i> (ASPLOS 2006), whose own numbers, in sand, are cycles of a Pentium 4. "
        "Compare ratios with them, not cycles: twenty years lie between the processors.</p>"
        "<div class=\"key\">",
        f);
    for (const struct system *system = systems; system->name; system++)
        if (summary_has(r->summary, "linux", NULL, system->name) ||
            summary_has(r->summary, "nano", NULL, system->name)) {
            fprintf(f, "<span><i class=\"s-%s\"></i>", system->name);
            html_text(f, system->label);
            fputs("</span>", f);
        }
    fputs("<span><i class=\"p-paper\"></i>the paper</span></div>\n", f);
}

/* --- nano --- */

static struct bar paper_bar(const char *label, const char *number)
{
    bool words = number[0] == '~';
    return (struct bar){label, "p-paper", strtod(number + words, NULL), NAN, NAN, words};
}

static void paper_card(FILE *f, const struct report *r, const char *name, const char *native,
                       const char *software, const char *hardware, const char *remark)
{
    struct bar bar[SYSTEMS_MAX + 3];
    char color[SYSTEMS_MAX][32];
    unsigned n = system_bars(r->summary, "nano", "64", name, false, bar, color);
    bar[n++] = paper_bar("paper: native", native);
    bar[n++] = paper_bar("paper: software", software);
    bar[n++] = paper_bar("paper: hardware", hardware);
    fputs("<div class=\"card\"><h3>", f);
    html_text(f, name);
    fputs("</h3><p>", f);
    html_text(f, nano_text(name));
    if (remark[0]) {
        fputs(". Of the paper: ", f);
        html_text(f, remark);
    }
    fputs("</p>", f);
    plot_bars(f, bar, n, &cycles_axis);
    fputs("</div>", f);
}

static bool in_paper(const char *name)
{
#define PAPER_NANO(id, native, software, hardware, remark)                                         \
    if (strcmp(name, id) == 0)                                                                     \
        return true;
#include "cli/paper.def"
    return false;
}

static void nano_section(FILE *f, const struct report *r)
{
    fputs(
        "<h2>Nanobenchmarks: the paper's seven</h2><p>Cycles of one operation in a small guest "
        "kernel, on a log scale from 1 to a million. Lines in the bars: the spread. Native: of the "
        "operations that a process of the machine itself can do (a fault is a signal there, so "
        "it costs more than the processor's part).</p><div class=\"cards\">",
        f);
#define PAPER_NANO(name, native, software, hardware, remark)                                       \
    paper_card(f, r, name, native, software, hardware, remark);
#include "cli/paper.def"
    fputs("</div>\n<h2>Nanobenchmarks beyond the paper</h2><p>Cycles of one operation; each dot is "
          "a system.</p><div class=\"dots\">",
          f);
    plot_dots_head(f, &dots_axis);
    for (const struct nano_name *n = nano_names; n->name; n++) {
        struct bar bar[SYSTEMS_MAX];
        char color[SYSTEMS_MAX][32];
        unsigned bars = system_bars(r->summary, "nano", "64", n->name, false, bar, color);
        if (!in_paper(n->name))
            plot_dots_row(f, n->name, n->text, bar, bars, &dots_axis);
    }
    fputs("</div>", f);
    nano_table(f, r);
}

static void rdtsc_section(FILE *f, const struct report *r)
{
    static const struct {
        const char *form, *text;
        double paper;
    } forms[] = {
#define PAPER_RDTSC(form, cycles) {form, "", cycles},
#include "cli/paper.def"
    };
    struct bar bar[2 * ARRAY_SIZE(forms)];
    char label[2 * ARRAY_SIZE(forms)][32];
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
        const struct measure *m =
            summary_find(r->summary, "rdtsc-forms", "64", "bt", forms[i].form);
        snprintf(label[2 * i], 32, "bt: %s", forms[i].form);
        snprintf(label[2 * i + 1], 32, "slides: %s", forms[i].form);
        bar[2 * i] = (struct bar){label[2 * i],      "s-bt", m ? m->median : NAN, m ? m->low : NAN,
                                  m ? m->high : NAN, false};
        bar[2 * i + 1] = (struct bar){label[2 * i + 1], "p-paper", forms[i].paper, NAN, NAN, false};
    }
    fputs("<h2>RDTSC three ways</h2><p>A guest's RDTSC that traps and is emulated, that is called "
          "out of translated code, and that is emulated in the translation cache. Cycles, log "
          "scale.</p><div class=\"card\">",
          f);
    plot_bars(f, bar, ARRAY_SIZE(bar), &(struct axis){1, 1e5, true, ""});
    fputs("</div>\n", f);
}

static void left_out(FILE *f, const struct report *r)
{
    json_t *item;
    size_t i;
    const json_t *list = json_object_get(r->results, "left_out");
    if (json_array_size(list) == 0)
        return;
    fputs("<h2>What was not run</h2><div class=\"scroll\"><table>", f);
    json_array_foreach(list, i, item)
    {
        fputs("<tr><td>", f);
        html_text(f, json_text(item, "what"));
        fputs("</td><td>", f);
        html_text(f, json_text(item, "reason"));
        fputs("</td></tr>", f);
    }
    fputs("</table></div>\n", f);
}

static void print_page(FILE *f, void *arg)
{
    const struct report *r = arg;
    head(f, r);
    nano_section(f, r);
    rdtsc_section(f, r);
    linux_section(f, r, "amd64");
    linux_section(f, r, "686");
    paper_macro_section(f);
    time_section(f, r);
    adaptation_section(f, r);
    quality_section(f, r);
    checks_section(f, r);
    left_out(f, r);
    runs_section(f, r);
    page_end(f);
}

int report_html(const struct report *r, const char *path, struct error *err)
{
    return write_file(path, print_page, (void *)r, err);
}
