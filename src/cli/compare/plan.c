/*
 * What there is to run: the systems that work here times the suites that are wanted. What cannot
 * run is noted with its reason, for the user now and for the report later.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/compare/compare.h"
#include "vm/vm.h"

#define MAKE_GUEST   "make bench-guest"
#define TOO_SLOW     20e6 /* guest instructions per second below which Linux takes too long to boot */
#define MEASURES     5
#define FORMS_SYSTEM "bt" /* whose handling of RDTSC can be chosen */

#define QUICK_SECONDS   170 /* after which --quick begins no run and ends the one that it is in */
#define QUICK_RUN_LIMIT 60  /* of one run, so that one that hangs leaves time for others */
#define QUICK_RUN_LEAST 1   /* below which no run is begun */
#define RUN_SECONDS     300

const struct nano_name nano_names[] = {
#define NANO_BENCH(fn, name, text) {name, text},
#define NANO_CHECK(fn, name, text)
#include "cli/nano_tests.def"
#undef NANO_BENCH
#undef NANO_CHECK
    {NULL, NULL}};

const struct work_name work_names[] = {
#define WORK(name, kind, text) {name, kind, text},
#include "cli/compare/names.def"
    {NULL, NULL, NULL}};

const struct system systems[] = {{"native", "native", SYSTEM_NATIVE},
                                 {"bt", "bt (translator)", SYSTEM_ENGINE},
                                 {"kvm", "kvm (hardware)", SYSTEM_ENGINE},
                                 {"interp", "interp", SYSTEM_ENGINE},
                                 {"qemu-tcg", "QEMU TCG", SYSTEM_QEMU},
                                 {"qemu-kvm", "QEMU KVM", SYSTEM_QEMU},
                                 {"kvm-svm", "kvm in QEMU's SVM emulation", SYSTEM_NESTED},
                                 {NULL, NULL, SYSTEM_NATIVE}};

const struct system *system_find(const char *name)
{
    for (const struct system *s = systems; s->name; s++)
        if (strcmp(s->name, name) == 0)
            return s;
    return NULL;
}

const char *nano_text(const char *name)
{
    for (const struct nano_name *n = nano_names; n->name; n++)
        if (strcmp(n->name, name) == 0)
            return n->text;
    return NULL;
}

const struct work_name *work_find(const char *name)
{
    for (const struct work_name *w = work_names; w->name; w++)
        if (strcmp(w->name, name) == 0)
            return w;
    return NULL;
}

double plan_time_limit(bool quick, double passed)
{
    double left = QUICK_SECONDS - passed;
    if (!quick)
        return RUN_SECONDS;
    return left < QUICK_RUN_LEAST ? 0 : MIN(left, QUICK_RUN_LIMIT);
}

bool plan_names(const struct compare_settings *s, const char *suite, char separator, char *names,
                size_t size)
{
    bool nano = strcmp(suite, "nano") == 0, linux_ = strcmp(suite, "linux") == 0;
    char word[64];
    names[0] = 0;
    if (!s->only || list_has(s->only, suite))
        return true;
    for (unsigned n = 0; list_word(s->only, n, word, sizeof(word)); n++) {
        if (!(nano && nano_text(word)) && !(linux_ && work_find(word)))
            continue;
        size_t used = strlen(names);
        snprintf(names + used, size - used, "%.*s%s", used > 0, &separator, word);
    }
    if (!names[0] && linux_ && list_has(s->only, "boot"))
        snprintf(names, size, "none"); /* the guest's program knows no such workload */
    return names[0];
}

static bool wanted(const struct compare_settings *s, const char *suite)
{
    char names[1024];
    return plan_names(s, suite, ' ', names, sizeof(names));
}

static struct cell *add(struct plan *p, const char *suite, const struct system *system,
                        const char *guest, const char *variant, double seconds)
{
    struct cell *cell = &p->cell[p->cells];
    assert(p->cells < PLAN_CELLS);
    p->cells++;
    *cell = (struct cell){suite, system, guest, variant, NULL, seconds};
    return cell;
}

/* --- what works --- */

/* Can this system run guests here? On the way, is it fast enough for Linux? On a busy machine a
 * tenth of a second may pass without a single instruction, so what is slow is measured again. */
static bool engine_works(const struct system *system, double *speed, struct error *err)
{
    const struct engine_ops *ops = engine_find(system->name);
    bool works = ops != NULL;
    *speed = 0;
    for (unsigned n = 0; works && n < MEASURES && *speed < TOO_SLOW; n++) {
        double now;
        works = vm_measure_engine(ops, &now, err) >= 0;
        *speed = works ? MAX(*speed, now) : 0;
    }
    return works;
}

static bool qemu_works(const struct system *system, double *speed, struct error *err)
{
    if (!program_exists("qemu-system-x86_64"))
        return error_set(err, ENOENT, "qemu-system-x86_64 is not installed") == 0;
    *speed = 1e9;
    if (strcmp(system->name, "qemu-kvm") != 0)
        return true;
    /* Through the same /dev/kvm as ours. */
    return engine_works(system_find("kvm"), speed, err);
}

static bool readable(const struct compare_settings *s, const char *name, struct error *err)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", s->guest_dir, name);
    if (access(path, R_OK) == 0)
        return true;
    return error_set(err, errno, "no %s; `" MAKE_GUEST "` makes it", path) == 0;
}

/* The outer system's script, and what it makes that system of. */
static bool nested_works(const struct compare_settings *s, struct error *err)
{
    static const char *const files[] = {"vmlinuz-amd64", "kernel-amd64/lib/modules",
                                        "busybox-amd64"};
    if (s->quick)
        return error_set(err, EINVAL, "not with --quick") == 0;
    if (access(SVM_SCRIPT, X_OK) < 0)
        return error_set(err, errno, "no " SVM_SCRIPT " here; it is in ringer's source tree") == 0;
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++)
        if (!readable(s, files[i], err))
            return false;
    return program_exists("qemu-system-x86_64") ||
           error_set(err, ENOENT, "qemu-system-x86_64 is not installed") == 0;
}

static bool works(const struct compare_settings *s, const struct system *system, double *speed,
                  struct error *err)
{
    *speed = 1e9;
    switch (system->kind) {
    case SYSTEM_ENGINE:
        return engine_works(system, speed, err);
    case SYSTEM_QEMU:
        return qemu_works(system, speed, err);
    case SYSTEM_NESTED:
        return nested_works(s, err);
    default:
        return true;
    }
}

/* Why its times mean nothing, or NULL. */
static const char *function_test(const struct system *system, double speed)
{
    bool kvm = strcmp(system->name, "kvm") == 0 || strcmp(system->name, "qemu-kvm") == 0;
    if (system->kind == SYSTEM_NESTED)
        return "function test under QEMU's SVM emulation, times mean nothing";
    if (kvm && speed < TOO_SLOW)
        return "function test: this /dev/kvm interprets guest code, times mean nothing";
    return NULL;
}

static const char *width_of(const char *guest)
{
    return strcmp(guest, "amd64") == 0 ? "64" : "32";
}

/* Does this machine's kernel run programs of that width? */
static bool runs_natively(const struct compare_settings *s, const char *width, struct error *err)
{
    char name[512], *argv[] = {name, NULL};
    struct child c = {.argv = argv, .limit = 5, .signals = -1};
    snprintf(name, sizeof(name), "bench-files-%s/exit", width);
    if (!readable(s, name, err))
        return false;
    snprintf(name, sizeof(name), "%s/bench-files-%s/exit", s->guest_dir, width);
    if (child_run(&c, err) < 0)
        return false;
    if (WIFEXITED(c.status) && WEXITSTATUS(c.status) == 7)
        return true;
    return error_set(err, ENOEXEC, "this machine's kernel runs no %s-bit programs", width) == 0;
}

static bool guest_files(const struct compare_settings *s, const char *guest, struct error *err)
{
    char name[64];
    snprintf(name, sizeof(name), "vmlinuz-%s", guest);
    if (!readable(s, name, err))
        return false;
    snprintf(name, sizeof(name), "bench-%s.gz", width_of(guest));
    return readable(s, name, err);
}

/* --- suites --- */

static void plan_linux(struct plan *p, const struct compare_settings *s,
                       const struct system *system, const char *guest, double speed,
                       json_t *results)
{
    struct error err = {""};
    char what[64];
    snprintf(what, sizeof(what), "%s: linux %s", system->name, guest);
    if (system->kind == SYSTEM_NATIVE ? !runs_natively(s, width_of(guest), &err)
                                      : !guest_files(s, guest, &err))
        results_leave_out(results, what, "%s", err.text);
    else if (speed < TOO_SLOW)
        results_leave_out(results, what, "too slow to boot Linux: %.1f M guest instructions/s",
                          speed / 1e6);
    else
        add(p, "linux", system, guest, NULL, s->quick ? 15 : 40);
}

static void plan_nano(struct plan *p, const struct compare_settings *s, const struct system *system,
                      double speed, json_t *results)
{
    struct error err = {""};
    char what[64];
    static const char *const forms[] = {"trap", "callout", "in-tc"};
    snprintf(what, sizeof(what), "%s: nano", system->name);
    if (wanted(s, "nano") && system->kind == SYSTEM_QEMU && !readable(s, NANO_IMAGE, &err))
        results_leave_out(results, what, "%s", err.text);
    else if (wanted(s, "nano"))
        add(p, "nano", system, "64", NULL, system->kind == SYSTEM_NESTED ? 30 : 2)->function_test =
            function_test(system, speed);
    if (strcmp(system->name, FORMS_SYSTEM) == 0 && wanted(s, "rdtsc-forms"))
        for (unsigned i = 0; i < ARRAY_SIZE(forms); i++)
            add(p, "rdtsc-forms", system, "64", forms[i], 2);
}

static void plan_system(struct plan *p, const struct compare_settings *s,
                        const struct system *system, json_t *results)
{
    struct error err = {""};
    double speed;
    if (system->kind == SYSTEM_NESTED && !wanted(s, "nano"))
        return;
    if (!works(s, system, &speed, &err)) {
        results_leave_out(results, system->name, "%s", err.text);
        return;
    }
    plan_nano(p, s, system, speed, results);
    if (!wanted(s, "linux") || system->kind == SYSTEM_NESTED)
        return;
    plan_linux(p, s, system, "amd64", speed, results);
    if (!s->quick)
        plan_linux(p, s, system, "686", speed, results);
}

void plan_make(struct plan *p, const struct compare_settings *s, json_t *results)
{
    p->cells = 0;
    json_object_set_new(results, "left_out", json_array());
    for (const struct system *system = systems; system->name; system++)
        if (list_has(s->engines, system->name))
            plan_system(p, s, system, results);
}
