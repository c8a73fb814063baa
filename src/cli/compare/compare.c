/*
 * The command: makes the plan, runs it round by round, writes the results after each run, and then
 * shows them. Rounds alternate over all systems, so that what a noisy machine does to one it does
 * to all.
 */
#include "cli/compare/compare.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/compare/baseline.h"
#include "cli/compare/report.h"

struct comparison {
    struct compare_settings settings;
    struct plan plan;
    json_t *results;
    char path[512]; /* of the results file */
    double began;
    int signals; /* signalfd */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Makes a directory with all above it. */
static int make_directory(const char *path, struct error *err)
{
    char part[512];
    struct stat st;
    for (const char *slash = path; slash;) {
        slash = strchr(slash + 1, '/');
        snprintf(part, sizeof(part), "%.*s", slash ? (int)(slash - path) : (int)strlen(path), path);
        if (mkdir(part, 0777) < 0 && errno != EEXIST)
            return error_errno(err, errno, "--out %s", path);
    }
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return error_set(err, ENOTDIR, "--out %s: is not a directory", path);
    return 0;
}

/* --- running --- */

static unsigned rounds_of(const struct comparison *c, const struct cell *cell)
{
    return cell->function_test ? 1 : c->settings.rounds;
}

/* Runs that are still to come, and how long they take, about. */
static unsigned left(const struct comparison *c, double *seconds)
{
    unsigned n = 0;
    *seconds = 0;
    for (unsigned i = 0; i < c->plan.cells; i++)
        for (unsigned r = 1; r <= rounds_of(c, &c->plan.cell[i]); r++)
            if (!results_find(c->results, &c->plan.cell[i], r)) {
                n++;
                *seconds += c->plan.cell[i].seconds;
            }
    return n;
}

static void show_progress(const struct comparison *c, const struct cell *cell, unsigned round,
                          const json_t *run)
{
    double seconds;
    unsigned n = left(c, &seconds);
    const char *reason = json_text(run, "reason");
    log_note("compare: round %u of %u: %s %s%s%s: %s%s, %.1f s; %u runs left, about %.0f s", round,
             c->settings.rounds, cell->system->name, cell->suite,
             cell->variant                       ? " "
             : strcmp(cell->suite, "linux") == 0 ? " "
                                                 : "",
             cell->variant                       ? cell->variant
             : strcmp(cell->suite, "linux") == 0 ? cell->guest
                                                 : "",
             reason[0] ? "failed: " : "ok", reason, json_number(run, "seconds"), n, seconds);
}

/* 1: interrupted. */
static int run_cell(struct comparison *c, struct cell *cell, unsigned round, struct error *err)
{
    json_t *run = results_find(c->results, cell, round);
    double limit = plan_time_limit(c->settings.quick, now() - c->began);
    if (run) {
        cell->seconds = json_number(run, "seconds");
        return 0;
    }
    if (limit <= 0) {
        char what[64];
        snprintf(what, sizeof(what), "%s: %s", cell->system->name, cell->suite);
        results_leave_out(c->results, what, "no time left in --quick; --resume goes on");
        return 0;
    }
    run = suite_run(&c->settings, cell, round, limit, c->signals);
    if (!run)
        return 1;
    cell->seconds = json_number(run, "seconds");
    json_array_append_new(json_object_get(c->results, "runs"), run);
    show_progress(c, cell, round, run);
    return results_save(c->results, c->path, err);
}

static int run_rounds(struct comparison *c, struct error *err)
{
    for (unsigned round = 1; round <= c->settings.rounds; round++)
        for (unsigned i = 0; i < c->plan.cells; i++) {
            struct cell *cell = &c->plan.cell[i];
            int rc = round <= rounds_of(c, cell) ? run_cell(c, cell, round, err) : 0;
            if (rc)
                return rc;
        }
    return 0;
}

/* SIGINT, SIGTERM and SIGHUP end the comparison in good order. */
static int catch_signals(struct comparison *c, struct error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    c->signals = signalfd(-1, &set, SFD_CLOEXEC);
    return c->signals < 0 ? error_errno(err, errno, "cannot wait for signals") : 0;
}

static void end_by_signal(const struct comparison *c)
{
    struct signalfd_siginfo info;
    sigset_t set;
    if (read(c->signals, &info, sizeof(info)) != sizeof(info))
        return;
    log_note("compare: interrupted; %s has what was measured, and --resume goes on", c->path);
    fflush(NULL);
    signal((int)info.ssi_signo, SIG_DFL);
    raise((int)info.ssi_signo);
    sigemptyset(&set);
    sigaddset(&set, (int)info.ssi_signo);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int begin(struct comparison *c, struct error *err)
{
    const struct compare_settings *s = &c->settings;
    int rc = make_directory(s->out, err);
    if (rc < 0)
        return rc;
    if (s->resume && access(c->path, F_OK) == 0) {
        c->results = results_load(c->path, err);
        if (!c->results)
            return -EINVAL;
        rc = results_match(c->results, s, err);
        if (rc < 0)
            return rc;
        json_object_set_new(c->results, "rounds", json_integer(s->rounds));
    } else {
        c->results = results_new(s);
    }
    plan_make(&c->plan, s, c->results);
    if (c->plan.cells == 0)
        return error_set(err, ENOENT, "compare: nothing of what is asked for can run here");
    return 0;
}

/* --- showing --- */

static int show(struct comparison *c, struct error *err)
{
    const struct compare_settings *s = &c->settings;
    struct summary summary;
    struct report report = {c->results, &summary};
    char path[512];
    summary_make(&summary, c->results);
    snprintf(path, sizeof(path), "%s/report.html", s->out);
    int rc = report_html(&report, path, err);
    if (rc >= 0 && s->markdown)
        rc = report_markdown(&report, s->markdown, err);
    if (rc >= 0 && s->save_baseline)
        rc = baseline_save(&summary, s->save_baseline, err);
    if (rc >= 0)
        log_note("compare: the report is %s", path);
    if (rc >= 0 && s->baseline)
        rc = baseline_compare(s->baseline, &summary, c->results, s->bound, err);
    summary_free(&summary);
    return rc;
}

static int run_and_show(struct comparison *c, struct error *err)
{
    int rc = begin(c, err);
    if (rc >= 0)
        rc = catch_signals(c, err);
    if (rc >= 0)
        rc = run_rounds(c, err);
    bool interrupted = rc == 1;
    if (rc >= 0) {
        json_object_set_new(c->results, "finished", json_boolean(!interrupted));
        rc = results_save(c->results, c->path, err);
    }
    if (rc < 0)
        return rc;
    if (interrupted)
        end_by_signal(c);
    return show(c, err);
}

int compare_command(int argc, char **argv, struct error *err)
{
    struct comparison c = {.began = now()};
    int rc = compare_options(argc, argv, &c.settings, err);
    if (rc != 0)
        return rc < 0 ? rc : COMPARE_HELP;
    snprintf(c.path, sizeof(c.path), "%s/results.json", c.settings.out);
    if (c.settings.from) {
        c.results = results_load(c.settings.from, err);
        rc = c.results ? make_directory(c.settings.out, err) : -EINVAL;
        if (rc >= 0)
            rc = show(&c, err);
    } else {
        rc = run_and_show(&c, err);
    }
    json_decref(c.results);
    return rc < 0 ? rc : rc > 0 ? COMPARE_REGRESSION : COMPARE_DONE;
}
