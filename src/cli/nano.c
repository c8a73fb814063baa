/*
 * `ringer nano`: the nano kernel needs no file from outside. It is run like any Multiboot kernel,
 * by `ringer run` with a file in memory, and ends by the debug-exit port. What it prints goes to
 * another such file, and is shown as a table when it has come to its end; or, with --raw, to
 * standard output.
 */
#include "cli/nano.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/types.h"
#include "cli/nano_report.h"

#define ARGS_MAX   64
#define LINE_BYTES 1000 /* of the guest's command line */
#define PATH_BYTES 64
#define TEXT_MAX   (1 << 20)

/* How the guest ends: (value << 1) | 1. */
#define STATUS_ALL_RIGHT 1
#define STATUS_FAILS     3

struct test {
    const char *name, *what;
};

static const struct test tests[] = {
#define NANO_BENCH(fn, name, what) {name, what},
#define NANO_CHECK(fn, name, what) {name, what},
#include "cli/nano_tests.def"
#undef NANO_BENCH
#undef NANO_CHECK
};

struct paper {
    const char *name, *native, *software, *hardware;
};

static const struct paper paper[] = {
#define PAPER_NANO(name, native, software, hardware, remark) {name, native, software, hardware},
#include "cli/paper.def"
};

struct build {
    const char *name;
    const u8 *start, *end;
};

extern const u8 nano_64[], nano_64_end[], nano_pae[], nano_pae_end[], nano_32[], nano_32_end[];
static const struct build builds[] = {
    {"64", nano_64, nano_64_end}, {"pae", nano_pae, nano_pae_end}, {"32", nano_32, nano_32_end}};

struct nano {
    const struct build *build;
    bool raw, list;
    char line[LINE_BYTES];
    int argc;
    char *argv[ARGS_MAX]; /* for run */
};

static const struct test *find(const char *name)
{
    for (unsigned n = 0; n < ARRAY_SIZE(tests); n++)
        if (strcmp(tests[n].name, name) == 0)
            return &tests[n];
    return NULL;
}

/* --- the command line --- */

static int set_build(struct nano *n, const char *name, struct error *err)
{
    for (unsigned k = 0; k < ARRAY_SIZE(builds); k++)
        if (strcmp(builds[k].name, name) == 0) {
            n->build = &builds[k];
            return 0;
        }
    return error_set(err, EINVAL, "nano: --build %s: takes 64, pae or 32", name);
}

static int add_name(struct nano *n, const char *name, struct error *err)
{
    size_t used = strlen(n->line);
    bool group = strcmp(name, "checks") == 0 || strcmp(name, "benchmarks") == 0;
    if (!group && !find(name))
        return error_set(err, EINVAL, "nano: '%s' is no test; `ringer nano --list` shows them",
                         name);
    if (used + strlen(name) + 2 > sizeof(n->line))
        return error_set(err, EINVAL, "nano: too many names");
    snprintf(n->line + used, sizeof(n->line) - used, " %s", name);
    return 0;
}

/* An option of `ringer run`, which knows what is wrong with it. */
static int pass_on(struct nano *n, int argc, char **argv, int *i, struct error *err)
{
    static const char *const known[] = {"--engine",  "--rdtsc",   "--stats",   "--stats-interval",
                                        "--timeout", "--tc-size", "--lockstep"};
    const char *word = argv[*i];
    size_t len = strcspn(word, "=");
    bool found = false;
    for (unsigned k = 0; k < ARRAY_SIZE(known); k++)
        found |= strlen(known[k]) == len && strncmp(known[k], word, len) == 0;
    if (!found)
        return error_set(err, EINVAL, "nano: %s: no such option; see ringer --help", word);
    if (n->argc + 2 > ARGS_MAX - 16)
        return error_set(err, EINVAL, "nano: too many options");
    n->argv[n->argc++] = argv[*i];
    if (!word[len] && *i + 1 < argc)
        n->argv[n->argc++] = argv[++*i];
    return 0;
}

/* Positive: help is wanted. */
static int parse(struct nano *n, int argc, char **argv, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        int rc = 0;
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
            return 1;
        if (strcmp(word, "--raw") == 0)
            n->raw = true;
        else if (strcmp(word, "--list") == 0)
            n->list = true;
        else if (strncmp(word, "--build=", 8) == 0)
            rc = set_build(n, word + 8, err);
        else if (strcmp(word, "--build") == 0)
            rc = set_build(n, i + 1 < argc ? argv[++i] : "", err);
        else if (word[0] == '-')
            rc = pass_on(n, argc, argv, &i, err);
        else
            rc = add_name(n, word, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- what it shows --- */

static void show_list(void)
{
    for (unsigned n = 0; n < ARRAY_SIZE(tests); n++)
        printf("%-18s  %s\n", tests[n].name, tests[n].what);
}

static const struct paper *paper_find(const char *name)
{
    static const struct paper none = {"", "-", "-", "-"};
    for (unsigned n = 0; n < ARRAY_SIZE(paper); n++)
        if (strcmp(paper[n].name, name) == 0)
            return &paper[n];
    return &none;
}

static void show_rdtsc_forms(void)
{
    printf("rdtsc: in the slides to the paper, by --rdtsc's form:");
#define PAPER_RDTSC(form, cycles) printf(" %s %d", form, cycles);
#include "cli/paper.def"
    printf("\n");
}

static void show_result(const struct nano_result *r)
{
    const struct test *t = find(r->name);
    const struct paper *p = paper_find(r->name);
    char spread[64];
    if (r->skipped[0] || !t) {
        printf("%-17s %9s  %s\n", r->name, "-", t ? r->skipped : "is not known to this ringer");
        return;
    }
    snprintf(spread, sizeof(spread), "%.1f..%.1f", r->low, r->high);
    printf("%-17s %9.1f %19s  %6s %8s %8s  %s\n", r->name, r->median, spread, p->native,
           p->software, p->hardware, t->what);
}

static void show_results(const struct nano_report *r)
{
    printf("%-17s %9s %19s  %s\n%-17s %9s %19s  %6s %8s %8s\n", "", "cycles,", "", "the paper's",
           "operation", "median", "low..high", "native", "software", "hardware");
    bool rdtsc = false;
    for (unsigned n = 0; n < r->nresults; n++) {
        show_result(&r->results[n]);
        rdtsc |= strcmp(r->results[n].name, "rdtsc") == 0;
    }
    if (rdtsc)
        show_rdtsc_forms();
    printf(
        "cycles: of the guest's time stamp counter; of the samples a tenth is below low, a tenth "
        "above high.\nThe paper: Adams and Agesen, ASPLOS 2006, on a Pentium 4; ~: it has words "
        "where a number is shown.\n");
}

static void show_checks(const struct nano_report *r)
{
    unsigned good = 0;
    for (unsigned n = 0; n < r->nchecks; n++) {
        const struct nano_check *c = &r->checks[n];
        good += strcmp(c->verdict, "ok") == 0;
        printf("%-6s %-20s %s\n", c->verdict, c->name, c->text);
    }
    printf("%u checks, %u ok (tells: the guest can see that this is not bare metal)\n", r->nchecks,
           good);
}

static int show(const char *text, struct error *err)
{
    struct nano_report *r = calloc(1, sizeof(*r));
    if (!r)
        return error_errno(err, ENOMEM, "nano");
    int rc = nano_report_parse(text, r, err);
    printf("nano kernel, build %s, on a \"%s\", time stamp counter at %.0f MHz\n", r->build, r->cpu,
           (double)r->tsc_khz / 1000);
    if (r->nresults)
        show_results(r);
    if (r->nchecks)
        show_checks(r);
    free(r);
    return rc;
}

/* --- running --- */

/* A file in memory, and its path. */
static int memory_file(char path[static PATH_BYTES], struct error *err)
{
    int fd = memfd_create("ringer-nano", MFD_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "nano: a file in memory");
    snprintf(path, PATH_BYTES, "/proc/self/fd/%d", fd);
    return fd;
}

static int write_image(int fd, const struct build *b, struct error *err)
{
    size_t size = (size_t)(b->end - b->start);
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, b->start + done, size - done);
        if (n < 0)
            return error_errno(err, errno, "nano: the kernel's image");
        done += (size_t)n;
    }
    return 0;
}

static int show_file(int fd, struct error *err)
{
    char *text = calloc(1, TEXT_MAX);
    if (!text)
        return error_errno(err, ENOMEM, "nano");
    size_t used = 0;
    ssize_t n;
    while (used < TEXT_MAX - 1 &&
           (n = pread(fd, text + used, TEXT_MAX - 1 - used, (off_t)used)) > 0)
        used += (size_t)n;
    int rc = show(text, err);
    free(text);
    return rc;
}

static int run_nano(struct nano *n, nano_run_fn *run, int image, int console, struct error *err)
{
    int rc = write_image(image, n->build, err);
    if (rc < 0)
        return rc;
    int status = run(n->argc, n->argv);
    bool ended = status == STATUS_ALL_RIGHT || status == STATUS_FAILS;
    if (!n->raw && ended && (rc = show_file(console, err)) < 0)
        return rc;
    return ended ? status == STATUS_FAILS : status;
}

int nano_command(int argc, char **argv, nano_run_fn *run, struct error *err)
{
    struct nano n = {.build = &builds[0], .line = "exit=debug", .argc = 1, .argv = {"nano"}};
    char image_path[PATH_BYTES], console_path[PATH_BYTES], serial[PATH_BYTES + 8] = "stdio";
    int rc = parse(&n, argc, argv, err);
    if (rc)
        return rc < 0 ? rc : NANO_HELP;
    if (n.list) {
        show_list();
        return 0;
    }
    int image = memory_file(image_path, err), console = memory_file(console_path, err);
    if (!n.raw)
        snprintf(serial, sizeof(serial), "file:%s", console_path);
    char *const fixed[] = {"--kernel", image_path, "--append", n.line,        "--mem",
                           "64M",      "--serial", serial,     "--no-reboot", "--debug-exit"};
    for (unsigned k = 0; k < ARRAY_SIZE(fixed); k++)
        n.argv[n.argc++] = fixed[k];
    rc = image < 0 || console < 0 ? -EIO : run_nano(&n, run, image, console, err);
    if (image >= 0)
        close(image);
    if (console >= 0)
        close(console);
    return rc;
}

void nano_help(void)
{
    printf("Options of `ringer nano [NAMES]` (the nano kernel's tests: names that --list shows, "
           "benchmarks, checks;\ndefault: all):\n"
           "  --build 64|pae|32            which of its builds (default: 64)\n"
           "  --raw                        what the guest prints, as guest/nano/README.md "
           "describes it\n"
           "  --list                       the tests\n"
           "  --engine, --rdtsc, --stats, --stats-interval, --timeout, --tc-size, --lockstep\n"
           "                               as for `ringer run`\n");
}
