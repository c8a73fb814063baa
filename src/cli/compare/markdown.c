/*
 * The tables as Markdown, for docs/comparison.md: what stands between the two marks of the file is
 * exchanged, and the prose around is left alone.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compare/plot.h"
#include "cli/compare/report.h"

#define MARK_BEGIN "<!-- ringer compare: begin -->"
#define MARK_END   "<!-- ringer compare: end -->"

struct text {
    const struct report *report;
    char *before, *after; /* what the file has around the marks */
};

static void head(FILE *f, const struct report *r, const char *first, const char *suite,
                 const char *guest, const char *more)
{
    fprintf(f, "| %s |", first);
    for (const struct system *s = systems; s->name; s++)
        if (summary_has(r->summary, suite, guest, s->name))
            fprintf(f, " %s |", s->label);
    fprintf(f, "%s\n|---|", more);
    for (const struct system *s = systems; s->name; s++)
        if (summary_has(r->summary, suite, guest, s->name))
            fputs("---:|", f);
    for (; *more; more++)
        if (*more == '|')
            fputs("---:|", f);
    fputc('\n', f);
}

static bool cells(FILE *f, const struct report *r, const char *suite, const char *guest,
                  const char *name, bool percent)
{
    char number[24];
    bool any = false;
    for (const struct system *s = systems; s->name; s++)
        any = any || summary_find(r->summary, suite, guest, s->name, name);
    if (!any)
        return false;
    fprintf(f, "| %s |",
            strncmp(name, MEAN_PREFIX, strlen(MEAN_PREFIX)) == 0 ? name + strlen(MEAN_PREFIX)
                                                                 : name);
    for (const struct system *s = systems; s->name; s++) {
        const struct measure *m = summary_find(r->summary, suite, guest, s->name, name);
        double value = !m ? NAN : percent ? 100 / m->ratio : m->median;
        if (summary_has(r->summary, suite, guest, s->name))
            fprintf(f, " %s |", short_number(value, number));
    }
    return true;
}

static void paper_cells(FILE *f, const char *name)
{
#define PAPER_NANO(id, native, software, hardware, remark)                                         \
    if (strcmp(id, name) == 0) {                                                                   \
        fprintf(f, " %s | %s | %s |\n", native, software, hardware);                               \
        return;                                                                                    \
    }
#include "cli/paper.def"
    fputs(" | | |\n", f);
}

/* What the paper says in words where the table has a number. */
static void paper_remarks(FILE *f)
{
    fputs("\n~: the paper has words.", f);
#define PAPER_NANO(id, native, software, hardware, remark)                                         \
    if (remark[0])                                                                                 \
        fprintf(f, " `%s`: %s.", id, remark);
#include "cli/paper.def"
    fputc('\n', f);
}

static void nano_tables(FILE *f, const struct report *r)
{
    char number[24];
    fputs("\nCycles of one operation in the nano kernel:\n\n", f);
    head(f, r, "operation", "nano", "64", " paper: native | paper: software | paper: hardware |");
    for (const struct nano_name *n = nano_names; n->name; n++)
        if (cells(f, r, "nano", "64", n->name, false))
            paper_cells(f, n->name);
    paper_remarks(f);
    fputs("\nRDTSC three ways, cycles:\n\n| form | bt | slides |\n|---|---:|---:|\n", f);
#define PAPER_RDTSC(form, cycles)                                                                  \
    {                                                                                              \
        const struct measure *m = summary_find(r->summary, "rdtsc-forms", "64", "bt", form);       \
        fprintf(f, "| %s | %s | %d |\n", form, short_number(m ? m->median : NAN, number), cycles); \
    }
#include "cli/paper.def"
}

static void linux_table(FILE *f, const struct report *r, const char *guest)
{
    static const char *const means[] = {"mean:integer", "mean:float", "mean:memory", "mean:system",
                                        "mean:macro"};
    if (!summary_has(r->summary, "linux", guest, "native"))
        return;
    fprintf(f,
            "\nPrograms under Debian's %s kernel, percent of native (geometric means first):\n\n",
            guest);
    head(f, r, "program", "linux", guest, "");
    for (unsigned k = 0; k < ARRAY_SIZE(means); k++)
        if (cells(f, r, "linux", guest, means[k], true))
            fputc('\n', f);
    for (const struct work_name *w = work_names; w->name; w++)
        if (cells(f, r, "linux", guest, w->name, true))
            fputc('\n', f);
}

static void boot_table(FILE *f, const struct report *r)
{
    bool any = false;
    for (const struct system *s = systems; s->name; s++)
        any = any || summary_has(r->summary, "boot", NULL, s->name);
    if (!any)
        return;
    fputs("\nSeconds from the start of the process to the guest's first process:\n\n", f);
    head(f, r, "guest", "boot", NULL, "");
    for (unsigned g = 0; g < 2; g++) {
        const char *guest = g ? "686" : "amd64";
        char number[24];
        fprintf(f, "| %s |", guest);
        for (const struct system *s = systems; s->name; s++) {
            const struct measure *m =
                summary_find(r->summary, "boot", guest, s->name, "boot-to-init");
            if (summary_has(r->summary, "boot", NULL, s->name))
                fprintf(f, " %s |", short_number(m ? m->median : NAN, number));
        }
        fputc('\n', f);
    }
}

static void print_markdown(FILE *f, void *arg)
{
    const struct text *t = arg;
    const struct report *r = t->report;
    const json_t *host = json_object_get(r->results, "host");
    double least, most;
    fprintf(f, "%s" MARK_BEGIN "\n", t->before ? t->before : "");
    fprintf(f, "%s, %.0f processors%s, Linux %s; %s; %s; %.0f rounds%s.\n", json_text(host, "cpu"),
            json_number(host, "cpus"),
            json_is_true(json_object_get(host, "virtual")) ? " (itself a virtual machine)" : "",
            json_text(host, "kernel"), json_text(json_object_get(r->results, "versions"), "qemu"),
            json_text(r->results, "date"), json_number(r->results, "rounds"),
            json_is_true(json_object_get(r->results, "quick")) ? ", --quick" : "");
    if (results_load_average(r->results, &least, &most))
        fprintf(f, "Load average before the runs: %.1f to %.1f.\n", least, most);
    if (summary_has(r->summary, "nano", NULL, "bt") ||
        summary_has(r->summary, "nano", NULL, "interp"))
        nano_tables(f, r);
    linux_table(f, r, "amd64");
    linux_table(f, r, "686");
    boot_table(f, r);
    fprintf(f, MARK_END "%s", t->after ? t->after : "\n");
}

/* The whole file; NULL: it cannot be read. */
static char *read_text(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return NULL;
    if (getdelim(&text, &size, '\0', f) < 0) {
        free(text);
        text = NULL;
    }
    fclose(f);
    return text;
}

int report_markdown(const struct report *r, const char *path, struct error *err)
{
    char *old = read_text(path);
    char *begin = old ? strstr(old, MARK_BEGIN) : NULL;
    char *end = begin ? strstr(begin, MARK_END) : NULL;
    struct text t = {.report = r};
    int rc = 0;
    if (old && !end) {
        rc = error_set(err, EINVAL, "--markdown %s: the file has no marks %s and %s", path,
                       MARK_BEGIN, MARK_END);
    } else {
        if (end) {
            *begin = 0;
            t.before = old;
            t.after = end + strlen(MARK_END);
        }
        rc = write_file(path, print_markdown, &t, err);
    }
    free(old);
    return rc;
}
