/*
 * The command line of `ringer compare`, from one table that is its part of the help, too.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compare/compare.h"

#define BOUND_DEFAULT 25

struct option {
    const char *name, *argument, *help;
    int (*set)(struct compare_settings *s, const char *arg, struct error *err);
};

bool list_word(const char *list, unsigned n, char *word, size_t size)
{
    for (;;) {
        size_t len = strcspn(list, ",");
        if (n-- == 0) {
            snprintf(word, size, "%.*s", (int)MIN(len, size - 1), list);
            return true;
        }
        if (!list[len])
            return false;
        list += len + 1;
    }
}

bool list_has(const char *list, const char *word)
{
    char one[64];
    for (unsigned n = 0; list && list_word(list, n, one, sizeof(one)); n++)
        if (strcmp(one, word) == 0)
            return true;
    return !list;
}

static int set_rounds(struct compare_settings *s, const char *arg, struct error *err)
{
    char *end;
    unsigned long n = strtoul(arg, &end, 10);
    if (*end || arg[0] < '0' || arg[0] > '9' || n < 1 || n > COMPARE_ROUNDS_MAX)
        return error_set(err, EINVAL, "--rounds %s: takes a number from 1 to %d", arg,
                         COMPARE_ROUNDS_MAX);
    s->rounds = (unsigned)n;
    return 0;
}

static int set_bound(struct compare_settings *s, const char *arg, struct error *err)
{
    char *end;
    s->bound = strtod(arg, &end);
    if (*end || end == arg || !isfinite(s->bound) || s->bound <= 0)
        return error_set(err, EINVAL, "--bound %s: takes a number of percent above 0", arg);
    return 0;
}

static int set_engines(struct compare_settings *s, const char *arg, struct error *err)
{
    char word[64];
    for (unsigned n = 0; list_word(arg, n, word, sizeof(word)); n++)
        if (!system_find(word))
            return error_set(err, EINVAL,
                             "--engines: there is no '%s'; it takes native, bt, interp, kvm, "
                             "qemu-tcg, qemu-kvm, kvm-svm",
                             word);
    s->engines = arg;
    return 0;
}

static bool is_suite(const char *word)
{
    static const char suites[] = "nano,rdtsc-forms,linux,boot";
    return *word && list_has(suites, word);
}

static int set_only(struct compare_settings *s, const char *arg, struct error *err)
{
    char word[64];
    for (unsigned n = 0; list_word(arg, n, word, sizeof(word)); n++)
        if (!is_suite(word) && !nano_text(word) && !work_find(word))
            return error_set(err, EINVAL,
                             "--only: there is no '%s'; it takes nano, rdtsc-forms, linux, boot, "
                             "and names of nanobenchmarks and of programs in guest/bench",
                             word);
    s->only = arg;
    return 0;
}

#define SET_STRING(field)                                                                          \
    static int set_##field(struct compare_settings *s, const char *arg, struct error *err)         \
    {                                                                                              \
        s->field = arg;                                                                            \
        return *arg ? 0 : error_set(err, EINVAL, "--%s: takes a name", #field);                    \
    }
SET_STRING(out)
SET_STRING(from)
SET_STRING(baseline)
SET_STRING(save_baseline)
SET_STRING(markdown)
SET_STRING(guest_dir)
SET_STRING(ringer)

static int set_quick(struct compare_settings *s, const char *arg, struct error *err)
{
    (void)arg;
    (void)err;
    s->quick = true;
    return 0;
}

static int set_resume(struct compare_settings *s, const char *arg, struct error *err)
{
    (void)arg;
    (void)err;
    s->resume = true;
    return 0;
}

static const struct option options[] = {
    {"out", "DIR", "where results.json and report.html go (default build/compare)", set_out},
    {"quick", NULL, "one round of short measurements, under three minutes in all", set_quick},
    {"rounds", "N", "rounds over all systems, 1 to 32 (default 3, with --quick 1)", set_rounds},
    {"engines", "LIST",
     "only these, separated by commas: native, bt, interp, kvm, qemu-tcg, qemu-kvm,\n"
     "kvm-svm (kvm in QEMU's SVM emulation, for its function); default: all that work here",
     set_engines},
    {"only", "LIST", "only these suites (nano, rdtsc-forms, linux, boot), nanobenchmarks, programs",
     set_only},
    {"resume", NULL, "go on with an interrupted comparison: what results.json has is kept",
     set_resume},
    {"baseline", "FILE", "say what got faster and slower since; status 1 if something is past",
     set_baseline},
    {"bound", "PERCENT", "how much slower an operation may be than in the baseline (default 25)",
     set_bound},
    {"save-baseline", "FILE", "write the ratios to native, as a baseline for later",
     set_save_baseline},
    {"markdown", "FILE", "write the table of the results as Markdown", set_markdown},
    {"from", "FILE", "run nothing: show the results of this file", set_from},
    {"guest-dir", "DIR", "where the guest's kernels and programs are (default build/guest)",
     set_guest_dir},
    {"ringer", "FILE", "the ringer that is measured (default: this one)", set_ringer},
};

static const struct option *find_option(const char *name, size_t len)
{
    for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0)
            return &options[i];
    return NULL;
}

static int parse_one(int argc, char **argv, int *i, struct compare_settings *s, struct error *err)
{
    const char *word = argv[*i];
    if (strncmp(word, "--", 2) != 0)
        return error_set(err, EINVAL, "compare: '%s' is not an option; see ringer --help", word);
    size_t len = strcspn(word, "=");
    const char *equals = word[len] ? word + len : NULL;
    const struct option *o = find_option(word + 2, len - 2);
    if (!o)
        return error_set(err, EINVAL, "%.*s: no such option of compare; see ringer --help",
                         (int)len, word);
    if (!o->argument)
        return equals ? error_set(err, EINVAL, "--%s takes no value", o->name)
                      : o->set(s, NULL, err);
    if (!equals && *i + 1 >= argc)
        return error_set(err, EINVAL, "--%s needs a value: %s", o->name, o->argument);
    return o->set(s, equals ? equals + 1 : argv[++*i], err);
}

static int check_settings(struct compare_settings *s, struct error *err)
{
    if (s->bound > 0 && !s->baseline)
        return error_set(err, EINVAL, "--bound: only with --baseline");
    if (s->from && (s->resume || s->quick || s->rounds || s->engines || s->only))
        return error_set(err, EINVAL,
                         "--from runs nothing: leave --resume, --quick, --rounds, --engines and "
                         "--only out");
    if (s->bound <= 0)
        s->bound = BOUND_DEFAULT;
    if (!s->rounds)
        s->rounds = s->quick ? 1 : 3;
    return 0;
}

int compare_options(int argc, char **argv, struct compare_settings *s, struct error *err)
{
    *s = (struct compare_settings){
        .out = "build/compare", .guest_dir = "build/guest", .ringer = "/proc/self/exe"};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
        int rc = parse_one(argc, argv, &i, s, err);
        if (rc < 0)
            return rc;
    }
    return check_settings(s, err);
}

void compare_help(void)
{
    printf("Options of `ringer compare`, which measures engines, QEMU and the machine itself:\n");
    for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
        const struct option *o = &options[i];
        char left[48];
        snprintf(left, sizeof(left), "--%s%s%s", o->name, o->argument ? " " : "",
                 o->argument ? o->argument : "");
        for (const char *line = o->help; line; left[0] = 0) {
            int len = (int)strcspn(line, "\n");
            printf("  %-28s %.*s\n", left, len, line);
            line = line[len] ? line + len + 1 : NULL;
        }
    }
}
