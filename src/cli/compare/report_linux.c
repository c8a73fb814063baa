/*
 * Programs in a Linux guest against the same programs on the machine itself, and tables of all
 * numbers.
 */
#include <math.h>
#include <string.h>

#include "cli/compare/sections.h"

#define SYSTEMS_MAX 8

static const char *const kinds[] = {"integer", "float", "memory", "system", "macro"};

/* --- tables --- */

static void table_head(FILE *f, const struct report *r, const char *suite, const char *guest)
{
    fputs("<details><summary>All numbers</summary><div class=\"scroll\"><table><tr><th></th>", f);
    for (const struct system *s = systems; s->name; s++)
        if (summary_has(r->summary, suite, guest, s->name)) {
            fputs("<th class=\"r\">", f);
            html_text(f, s->label);
            fputs("</th>", f);
        }
    fputs("</tr>", f);
}

static void cell(FILE *f, const struct measure *m, bool seconds)
{
    char a[24], b[24], c[24];
    if (!m) {
        fputs("<td class=\"r soft\">-</td>", f);
        return;
    }
    double scale = seconds ? 1e6 : 1;
    fprintf(f, "<td class=\"r\">%s <small>%s&ndash;%s</small></td>",
            short_number(m->median * scale, a), short_number(m->low * scale, b),
            short_number(m->high * scale, c));
}

static void row(FILE *f, const struct report *r, const char *suite, const char *guest,
                const char *name, bool seconds)
{
    bool any = false;
    for (const struct system *s = systems; s->name; s++)
        any = any || summary_find(r->summary, suite, guest, s->name, name);
    if (!any)
        return;
    fputs("<tr><td>", f);
    html_text(f, name);
    fputs("</td>", f);
    for (const struct system *s = systems; s->name; s++)
        if (summary_has(r->summary, suite, guest, s->name))
            cell(f, summary_find(r->summary, suite, guest, s->name, name), seconds);
    fputs("</tr>", f);
}

void nano_table(FILE *f, const struct report *r)
{
    table_head(f, r, "nano", "64");
    for (const struct nano_name *n = nano_names; n->name; n++)
        row(f, r, "nano", "64", n->name, false);
    fputs("</table></div><small>Cycles of the time stamp counter: median, and spread.</small>"
          "</details>\n",
          f);
}

static void work_table(FILE *f, const struct report *r, const char *guest)
{
    table_head(f, r, "linux", guest);
    for (const struct work_name *w = work_names; w->name; w++)
        row(f, r, "linux", guest, w->name, true);
    fputs("</table></div><small>Microseconds of one pass: median, and spread.</small></details>\n",
          f);
}

/* --- a guest --- */

/* The bars of a kind's means, in percent of native. */
static unsigned mean_bars(const struct report *r, const char *guest, const char *kind,
                          struct bar *bar, char color[][32])
{
    char name[32];
    snprintf(name, sizeof(name), MEAN_PREFIX "%s", kind);
    unsigned n = system_bars(r->summary, "linux", guest, name, true, bar, color);
    for (unsigned i = 0; i < n; i++)
        bar[i].value = 100 / bar[i].value;
    return n;
}

static void mean_cards(FILE *f, const struct report *r, const char *guest)
{
    struct axis axis = {0, 100, false, "&#8239;%"};
    struct bar bar[SYSTEMS_MAX];
    char color[SYSTEMS_MAX][32];
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
        for (unsigned i = mean_bars(r, guest, kinds[k], bar, color); i-- > 0;)
            axis.to = MAX(axis.to, bar[i].value);
    fputs("<div class=\"cards\">", f);
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        unsigned n = mean_bars(r, guest, kinds[k], bar, color);
        if (n == 0)
            continue;
        fprintf(f, "<div class=\"card\"><h3>%s</h3><p>geometric mean; native is 100</p>", kinds[k]);
        plot_bars(f, bar, n, &axis);
        fputs("</div>", f);
    }
    fputs("</div>", f);
}

static void boot_card(FILE *f, const struct report *r, const char *guest)
{
    struct bar bar[SYSTEMS_MAX];
    char color[SYSTEMS_MAX][32];
    double most = 0;
    unsigned n = system_bars(r->summary, "boot", guest, "boot-to-init", false, bar, color);
    for (unsigned i = 0; i < n; i++)
        most = MAX(most, MAX(bar[i].value, bar[i].high));
    if (n == 0)
        return;
    fputs(
        "<div class=\"card\"><h3>Boot</h3><p>seconds from the start of the process to the guest's "
        "first process</p>",
        f);
    plot_bars(f, bar, n, &(struct axis){0, most, false, "&#8239;s"});
    fputs("</div>", f);
}

static void work_dots(FILE *f, const struct report *r, const char *guest)
{
    static const struct axis axis = {0.1, 1e4, true, "% of native"};
    fputs("<div class=\"dots\">", f);
    plot_dots_head(f, &axis);
    for (const struct work_name *w = work_names; w->name; w++) {
        struct bar bar[SYSTEMS_MAX];
        char color[SYSTEMS_MAX][32];
        unsigned n = system_bars(r->summary, "linux", guest, w->name, true, bar, color);
        for (unsigned i = 0; i < n; i++)
            bar[i].value = strcmp(bar[i].color, "s-native") == 0 ? NAN : 100 / bar[i].value;
        plot_dots_row(f, w->name, w->text, bar, n, &axis);
    }
    fputs("</div>", f);
}

void linux_section(FILE *f, const struct report *r, const char *guest)
{
    bool any = false, wide = strcmp(guest, "amd64") == 0;
    for (const struct system *s = systems; s->name; s++)
        any = any || (s->kind != SYSTEM_NATIVE && summary_has(r->summary, "boot", guest, s->name));
    if (!any)
        return;
    fprintf(f,
            "<h2>Linux, %s</h2><p>The same static programs in a guest and on the machine itself: "
            "speed in percent of native, so more is better.</p>",
            wide ? "64 bit: Debian's amd64 kernel" : "32 bit: Debian's 686 kernel");
    if (!summary_has(r->summary, "linux", guest, "native")) {
        fputs(
            "<p class=\"soft\">The machine itself has not run these, so there are no percents; the "
            "times are in the table.</p>",
            f);
        boot_card(f, r, guest);
        work_table(f, r, guest);
        return;
    }
    mean_cards(f, r, guest);
    work_dots(f, r, guest);
    boot_card(f, r, guest);
    work_table(f, r, guest);
}

void paper_macro_section(FILE *f)
{
    static const struct axis axis = {0, 150, false, "&#8239;%"};
    static const struct {
        const char *name;
        double software, hardware;
    } macro[] = {
#define PAPER_MACRO(name, software, hardware) {name, software, hardware},
#include "cli/paper.def"
    };
    fputs("<h2>The paper's macrobenchmarks</h2><p>For comparison with the programs above (of ours, "
          "<code>compile</code> and <code>gzip</code> are nearest): percent of native.</p>"
          "<div class=\"cards\">",
          f);
    for (unsigned i = 0; i < ARRAY_SIZE(macro); i++) {
        struct bar bar[] = {{"paper: software", "p-paper", macro[i].software, NAN, NAN, false},
                            {"paper: hardware", "p-paper", macro[i].hardware, NAN, NAN, false}};
        fprintf(f, "<div class=\"card\"><h3>%s</h3>", macro[i].name);
        plot_bars(f, bar, 2, &axis);
        fputs("</div>", f);
    }
#define PAPER_FORKWAIT(native, software, hardware)                                                 \
    {                                                                                              \
        {"paper: native", "p-paper", native, NAN, NAN, false},                                     \
            {"paper: software", "p-paper", software, NAN, NAN, false},                             \
        {                                                                                          \
            "paper: hardware", "p-paper", hardware, NAN, NAN, false                                \
        }                                                                                          \
    }
    struct bar fork[] =
#include "cli/paper.def"
        ;
    fputs(
        "<div class=\"card\"><h3>forkwait, 40,000 times</h3><p>seconds; ours are <code>fork</code> "
        "above and <code>forkwait</code> of the nano kernel</p>",
        f);
    plot_bars(f, fork, ARRAY_SIZE(fork), &(struct axis){0, 110, false, "&#8239;s"});
    fputs("</div></div>\n", f);
}
