/*
 * `ringer compare`: the same guests and programs on every engine that works here, on QEMU and on
 * the machine itself; results as JSON, as a page and as a table. This header is what the files of
 * the command share: what the user asked for, what there is to run, and the results.
 *
 * The results are one JSON document (docs/compare.md says what is in it), kept in memory as jansson
 * has it and written after each run. All that is shown is computed from that document, so a report
 * can be made from a file of another day or machine.
 */
#ifndef RINGER_CLI_COMPARE_COMPARE_H
#define RINGER_CLI_COMPARE_COMPARE_H

#include <jansson.h>
#include <stdio.h>

#include "base/error.h"

#define COMPARE_FORMAT     "ringer-compare"
#define COMPARE_VERSION    1
#define COMPARE_ROUNDS_MAX 32
#define NANO_IMAGE         "nano-64.elf"     /* in guest_dir, for QEMU; ringer has it in itself */
#define SVM_SCRIPT         "guest/svm/outer" /* in the source tree, from which it is run */

struct compare_settings {
    const char *out;           /* directory of the results */
    const char *from;          /* show this results file, run nothing; or NULL */
    const char *baseline;      /* results to be compared with, or NULL */
    const char *save_baseline; /* where the ratios go, or NULL */
    const char *markdown;      /* where the table goes, or NULL */
    const char *guest_dir;     /* kernels, initramfs, native programs */
    const char *ringer;        /* the program that is measured */
    const char *engines;       /* list of systems; NULL: all that work here */
    const char *only;          /* list of suites and names; NULL: all */
    unsigned rounds;           /* 0: not given */
    double bound;              /* percent that an operation may get slower */
    bool quick, resume;
};

enum compare_outcome { COMPARE_DONE, COMPARE_HELP, COMPARE_REGRESSION };

/* Runs the command; argv[0] is "compare". Returns an outcome or a negative errno. Ends the process
 * by the signal that interrupted it, if one did. */
int compare_command(int argc, char **argv, struct error *err);

/* The command's part of the help. */
void compare_help(void);

/* 0, 1 if --help was asked for, or a negative errno. */
int compare_options(int argc, char **argv, struct compare_settings *s, struct error *err);

/* Is the word in the list, whose words are separated by commas? NULL: no list, so all are. */
bool list_has(const char *list, const char *word);

/* The n-th (from 0) word of a list into word, false behind the last one. */
bool list_word(const char *list, unsigned n, char *word, size_t size);

/* --- names.def --- */

struct nano_name {
    const char *name, *text;
};

struct work_name {
    const char *name, *kind, *text;
};

extern const struct nano_name nano_names[]; /* both end with a name NULL */
extern const struct work_name work_names[];

const char *nano_text(const char *name);
const struct work_name *work_find(const char *name);

/* --- systems and the plan --- */

/* SYSTEM_NESTED: the kvm engine on a KVM in a Linux whose processor QEMU emulates, with AMD's SVM.
 */
enum system_kind { SYSTEM_NATIVE, SYSTEM_ENGINE, SYSTEM_QEMU, SYSTEM_NESTED };

struct system {
    const char *name;
    const char *label; /* as reports call it */
    enum system_kind kind;
};

/* In the order of the reports; ends with a name NULL. */
extern const struct system systems[];

const struct system *system_find(const char *name);

/* What runs in one process: all of a suite that is wanted, on a system. */
struct cell {
    const char *suite; /* "nano", "rdtsc-forms", "linux" */
    const struct system *system;
    const char *guest; /* nano: "64"; linux: "amd64" or "686", natively the width of its programs */
    const char *variant; /* rdtsc-forms: which; else NULL */
    /* Why its times mean nothing: then it is run once, to see whether it works. NULL: they do. */
    const char *function_test;
    double seconds; /* how long it takes, about; of the last time that it ran */
};

#define PLAN_CELLS 64

struct plan {
    struct cell cell[PLAN_CELLS];
    unsigned cells;
};

/* Fills the plan, and in results "left_out" what cannot run here and why. */
void plan_make(struct plan *plan, const struct compare_settings *s, json_t *results);

/* Seconds that the next run may take, when so many have passed since the command began; 0: none are
 * left. With --quick all runs together end in time, whatever each of them does. */
double plan_time_limit(bool quick, double passed);

/* The words of --only that the suite can run, with `separator` between them; "" if all of it is
 * wanted. False: nothing of it is. */
bool plan_names(const struct compare_settings *s, const char *suite, char separator, char *names,
                size_t size);

/* Host, versions. */
json_t *host_describe(void);
json_t *versions_describe(const struct compare_settings *s);

/* The load average of the last minute; NAN: not known. */
double host_load_average(void);

/* Is there such a program in PATH? */
bool program_exists(const char *name);

/* --- child processes --- */

enum child_end { CHILD_ENDED, CHILD_TIMEOUT, CHILD_INTERRUPTED };

struct child {
    char *const *argv; /* NULL: body runs instead, in a process of its own */
    int (*body)(void);
    double limit;                                              /* seconds */
    void (*line)(void *arg, const char *line, double seconds); /* of its standard output */
    void *arg;
    int signals; /* a signalfd: what comes there interrupts the run */

    enum child_end end;
    int status;      /* as waitpid has it */
    double seconds;  /* how long it ran */
    char words[256]; /* its last line on standard error */
};

/* Runs it to its end, its time limit or an interruption; nothing of it is left running. Negative
 * errno: it could not be started. */
int child_run(struct child *c, struct error *err);

/* Runs one cell and returns its run object (docs/compare.md), or NULL if it was interrupted. */
json_t *suite_run(const struct compare_settings *s, const struct cell *cell, unsigned round,
                  double limit, int signals);

/* Prints operations of a process, in the nano kernel's line format. For struct child.body. */
int native_nano(void);

/* --- results --- */

json_t *results_new(const struct compare_settings *s);
json_t *results_load(const char *path, struct error *err);

/* Written beside and moved there, so that the file is whole at any time. */
int results_save(const json_t *results, const char *path, struct error *err);

/* Is what the file has of the same kind as what is asked for? */
int results_match(const json_t *results, const struct compare_settings *s, struct error *err);

/* The run of this cell in this round, or NULL. */
json_t *results_find(const json_t *results, const struct cell *cell, unsigned round);

/* The machine's load average, least and greatest, before the runs; false: no run has it. */
bool results_load_average(const json_t *results, double *least, double *most);

/* Notes that something is not run. */
void results_leave_out(json_t *results, const char *what, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* A string member of an object; "" if there is none. */
const char *json_text(const json_t *object, const char *name);

/* A number of an object; NAN if there is none. */
double json_number(const json_t *object, const char *name);

/* Writes a file in one go: `print` fills it. */
int write_file(const char *path, void (*print)(FILE *f, void *arg), void *arg, struct error *err);

#endif
