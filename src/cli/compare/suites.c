/*
 * How each suite is started on each system, and what is taken from its output. A suite is a child
 * process; whatever goes wrong with it becomes the reason in its run object, and what it had
 * measured until then is kept.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/compare/compare.h"
#include "cli/nano_report.h"

#define ARGS_MAX        64
#define ARG_BYTES       4096
#define REPORT_BYTES    65536
#define SAMPLE_INTERVAL "0.1" /* seconds between samples of the counters */
#define NESTED_COMMAND  "70 ringer nano --build 64 --raw --engine kvm --timeout 60"

/* One run in the making. */
struct job {
    const struct compare_settings *settings;
    const struct cell *cell;
    json_t *run, *results;
    char stats[512]; /* the file for --stats json:; empty: the system has no counters */
    unsigned argc, used;
    char *argv[ARGS_MAX], text[ARG_BYTES]; /* text: what argv points into */
    double limit;
    char *report;    /* nano: what it has printed; REPORT_BYTES */
    bool whole;      /* its output has come to its end */
    char words[256]; /* why not, if nobody else knows: the last line of the guest's console */
};

static void PRINTF_LIKE(2, 3) arg(struct job *j, const char *fmt, ...)
{
    va_list ap;
    char *to = j->text + j->used;
    size_t left = sizeof(j->text) - j->used;
    va_start(ap, fmt);
    int n = vsnprintf(to, left, fmt, ap);
    va_end(ap);
    if (j->argc == ARGS_MAX - 1 || (size_t)n >= left)
        return;
    j->argv[j->argc++] = to;
    j->used += (unsigned)n + 1;
}

static void args(struct job *j, const char *words)
{
    while (*words) {
        size_t len = strcspn(words, " ");
        arg(j, "%.*s", (int)len, words);
        words += len + (words[len] != 0);
    }
}

static void add_stats(struct job *j)
{
    snprintf(j->stats, sizeof(j->stats), "%s/run-stats.json", j->settings->out);
    unlink(j->stats);
    arg(j, "--stats");
    arg(j, "json:%s", j->stats);
    args(j, "--stats-interval " SAMPLE_INTERVAL);
}

/* --- nano --- */

/* The program is copied into the outer system, by its name. */
static void start_nested(struct job *j, const char *names)
{
    char *file = realpath(j->settings->ringer, NULL);
    args(j, SVM_SCRIPT " --ringer");
    arg(j, "%s", file ? file : j->settings->ringer);
    arg(j, "--guest-dir");
    arg(j, "%s", j->settings->guest_dir);
    args(j, NESTED_COMMAND);
    args(j, names);
    free(file);
}

static void start_nano(struct job *j)
{
    const struct system *system = j->cell->system;
    char names[1024];
    bool forms = j->cell->variant;
    if (system->kind == SYSTEM_NATIVE)
        return;
    plan_names(j->settings, "nano", ' ', names, sizeof(names));
    if (system->kind == SYSTEM_NESTED) {
        start_nested(j, names);
        return;
    }
    if (system->kind == SYSTEM_QEMU) {
        bool kvm = strcmp(system->name, "qemu-kvm") == 0;
        args(j, "qemu-system-x86_64 -display none -serial stdio -no-reboot -m 64");
        args(j, kvm ? "-accel kvm -cpu host" : "-accel tcg -cpu max");
        args(j, "-device isa-debug-exit,iobase=0xf4,iosize=1 -kernel");
        arg(j, "%s/" NANO_IMAGE, j->settings->guest_dir);
        arg(j, "-append");
        arg(j, "exit=debug%s%s", names[0] ? " " : "", names);
        return;
    }
    arg(j, "%s", j->settings->ringer);
    args(j, "nano --build 64 --raw --engine");
    arg(j, "%s", system->name);
    add_stats(j);
    if (forms) {
        arg(j, "--rdtsc");
        arg(j, "%s", j->cell->variant);
    }
    args(j, forms ? "rdtsc" : names);
}

static void nano_line(void *arg, const char *line, double seconds)
{
    struct job *j = arg;
    size_t used = strlen(j->report);
    (void)seconds;
    if (strncmp(line, "nano ", 5) == 0)
        snprintf(j->report + used, REPORT_BYTES - used, "%s\n", line);
    else if (line[0])
        snprintf(j->words, sizeof(j->words), "%.255s", line);
}

static void add_result(struct job *j, const char *name, const char *kind, const char *unit,
                       double value, double low, double high)
{
    json_array_append_new(j->results,
                          json_pack("{s:s, s:s, s:s, s:f, s:f, s:f}", "name", name, "kind", kind,
                                    "unit", unit, "value", value, "low", low, "high", high));
}

static void end_nano(struct job *j)
{
    struct nano_report *r = calloc(1, sizeof(*r));
    struct error err = {""};
    json_t *skipped = json_array(), *checks = json_array();
    j->whole = nano_report_parse(j->report, r, &err) >= 0;
    for (unsigned i = 0; i < r->nresults; i++) {
        const struct nano_result *n = &r->results[i];
        if (n->skipped[0])
            json_array_append_new(skipped,
                                  json_pack("{s:s, s:s}", "name", n->name, "reason", n->skipped));
        else
            add_result(j, j->cell->variant ? j->cell->variant : n->name, "nano", "cycles",
                       n->median, n->low, n->high);
    }
    for (unsigned i = 0; i < r->nchecks; i++)
        json_array_append_new(checks,
                              json_pack("{s:s, s:s, s:s}", "name", r->checks[i].name, "verdict",
                                        r->checks[i].verdict, "text", r->checks[i].text));
    json_object_set_new(j->run, "skipped", skipped);
    json_object_set_new(j->run, "checks", checks);
    json_object_set_new(j->run, "tsc_khz", json_integer((json_int_t)r->tsc_khz));
    if (!j->whole && !j->words[0])
        snprintf(j->words, sizeof(j->words), "%.255s", err.text);
    free(r);
}

/* --- linux --- */

static void start_linux(struct job *j)
{
    const struct compare_settings *s = j->settings;
    const struct system *system = j->cell->system;
    const char *guest = j->cell->guest, *width = strcmp(guest, "amd64") == 0 ? "64" : "32";
    int ms = s->quick ? 10 : 100;
    bool native = system->kind == SYSTEM_NATIVE, qemu = system->kind == SYSTEM_QEMU;
    char names[1024];
    plan_names(s, "linux", native ? ' ' : ',', names, sizeof(names));
    if (native) {
        arg(j, "%s/bench-files-%s/bench", s->guest_dir, width);
        arg(j, "%d", ms);
        arg(j, "%s/bench-files-%s", s->guest_dir, width);
        args(j, names);
        return;
    }
    if (qemu) {
        bool kvm = strcmp(system->name, "qemu-kvm") == 0;
        arg(j, "qemu-system-%s", strcmp(width, "64") == 0 ? "x86_64" : "i386");
        args(j, "-m 512 -nographic -no-reboot");
        args(j, kvm ? "-accel kvm -cpu host" : "-accel tcg -cpu max");
    } else {
        arg(j, "%s", s->ringer);
        args(j, "run --mem 512M --no-reboot --engine");
        arg(j, "%s", system->name);
        add_stats(j);
    }
    const char *dashes = qemu ? "" : "-";
    arg(j, "%s-kernel", dashes);
    arg(j, "%s/vmlinuz-%s", s->guest_dir, guest);
    arg(j, "%s-initrd", dashes);
    arg(j, "%s/bench-%s.gz", s->guest_dir, width);
    arg(j, "%s-append", dashes);
    arg(j, "console=ttyS0 quiet panic=-1 cryptomgr.notests ringer.run=bench ringer.bench=%d%s%s",
        ms, names[0] ? "," : "", names);
}

static void linux_line(void *arg, const char *line, double seconds)
{
    struct job *j = arg;
    char kind[16], name[32], value[32] = "";
    double time;
    if (strstr(line, "ringer-guest: init after"))
        add_result(j, "boot-to-init", "boot", "s", seconds, seconds, seconds);
    else if (strcmp(line, "bench: end") == 0)
        j->whole = true;
    else if (sscanf(line, "%15s %31s %lf %31s", kind, name, &time, value) == 4 && work_find(name)) {
        add_result(j, name, kind, "s", time, time, time);
        json_t *last = json_array_get(j->results, json_array_size(j->results) - 1);
        json_object_set_new(last, "computed", json_string(value));
    } else if (line[0])
        snprintf(j->words, sizeof(j->words), "%.255s", line);
}

/* --- any --- */

/* As a shell would be given it; ours is "ringer". */
static char *command_line(const struct job *j)
{
    char *text = calloc(1, 2 * ARG_BYTES);
    for (unsigned i = 0; i < j->argc; i++) {
        bool quote = !j->argv[i][0] || strchr(j->argv[i], ' ');
        const char *word = strcmp(j->argv[i], "/proc/self/exe") == 0 ? "ringer" : j->argv[i];
        size_t used = strlen(text);
        snprintf(text + used, 2 * ARG_BYTES - used, "%s%s%s%s", i ? " " : "", quote ? "'" : "",
                 word, quote ? "'" : "");
    }
    return text;
}

static void add_command(const struct job *j)
{
    char *text = command_line(j);
    json_object_set_new(j->run, "command", json_string(j->argc ? text : "(a child process)"));
    free(text);
}

/* Why the run failed; empty if it did not. */
static void judge(const struct job *j, const struct child *c, char *reason, size_t size)
{
    const char *words = c->words[0] ? c->words : j->words;
    reason[0] = 0;
    if (c->end == CHILD_TIMEOUT)
        snprintf(reason, size, "did not end within %.0f s", c->limit);
    else if (!j->whole && WIFSIGNALED(c->status))
        snprintf(reason, size, "ended by signal %d (%s)%s%s", WTERMSIG(c->status),
                 strsignal(WTERMSIG(c->status)), words[0] ? ": " : "", words);
    else if (!j->whole)
        snprintf(reason, size, "status %d: %s", WEXITSTATUS(c->status),
                 words[0] ? words : "it printed no result");
}

/* What a guest prints may be no UTF-8, which JSON's strings are. */
static void clean(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
            *text = '?';
}

static void add_counters(const struct job *j)
{
    json_t *stats = j->stats[0] ? json_load_file(j->stats, 0, NULL) : NULL;
    if (stats)
        json_object_set_new(j->run, "stats", stats);
    if (j->stats[0])
        unlink(j->stats);
}

static json_t *new_run(const struct cell *cell, unsigned round, json_t *results)
{
    double load = host_load_average();
    json_t *run = json_pack("{s:i, s:s, s:s, s:s, s:o}", "round", (int)round, "suite", cell->suite,
                            "system", cell->system->name, "guest", cell->guest, "results", results);
    if (cell->variant)
        json_object_set_new(run, "variant", json_string(cell->variant));
    if (isfinite(load))
        json_object_set_new(run, "load", json_real(load));
    if (cell->function_test)
        json_object_set_new(run, "function_test", json_string(cell->function_test));
    return run;
}

json_t *suite_run(const struct compare_settings *s, const struct cell *cell, unsigned round,
                  double limit, int signals)
{
    bool linux_ = strcmp(cell->suite, "linux") == 0;
    struct job *j = calloc(1, sizeof(*j));
    struct error err = {""};
    char reason[512];
    *j = (struct job){.settings = s, .cell = cell, .results = json_array()};
    j->run = new_run(cell, round, j->results);
    j->report = calloc(1, REPORT_BYTES);
    linux_ ? start_linux(j) : start_nano(j);
    struct child c = {.argv = j->argc ? j->argv : NULL,
                      .body = native_nano,
                      .limit = limit,
                      .line = linux_ ? linux_line : nano_line,
                      .arg = j,
                      .signals = signals};
    int rc = child_run(&c, &err);
    if (!linux_)
        end_nano(j);
    else if (cell->system->kind == SYSTEM_NATIVE)
        j->whole = WIFEXITED(c.status) && WEXITSTATUS(c.status) == 0;
    judge(j, &c, reason, sizeof(reason));
    if (rc < 0)
        snprintf(reason, sizeof(reason), "%s", err.text);
    clean(reason);
    json_object_set_new(j->run, "status", json_string(reason[0] ? "failed" : "ok"));
    json_object_set_new(j->run, "reason", json_string(reason));
    json_object_set_new(j->run, "seconds", json_real(c.seconds));
    add_command(j);
    add_counters(j);
    json_t *run = j->run;
    if (c.end == CHILD_INTERRUPTED) {
        json_decref(run);
        run = NULL;
    }
    free(j->report);
    free(j);
    return run;
}
