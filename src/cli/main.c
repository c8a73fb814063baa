/*
 * The program: picks the command, turns how a run ended into the exit status and one line on
 * stderr.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "base/version.h"
#include "cli/compare/compare.h"
#include "cli/nano.h"
#include "cli/options.h"
#include "cli/signals.h"
#include "cli/translate.h"
#include "vm/vm.h"

enum exit_status {
    STATUS_POWER_OFF = 0,
    STATUS_REGRESSION = 1,
    STATUS_USAGE = 2,
    STATUS_GUEST_FAILED = 3,
    STATUS_RESET = 4,
    STATUS_TIMEOUT = 124,
};

static int usage_error(const struct error *err)
{
    log_error("%s", err->text);
    return STATUS_USAGE;
}

static int outcome_status(struct vm *vm, const struct settings *s, const struct vm_outcome *o)
{
    switch (o->kind) {
    case OUTCOME_POWER_OFF:
    case OUTCOME_QUIT:
        return STATUS_POWER_OFF;
    case OUTCOME_RESET:
        log_warn("the guest asked for a reset (--no-reboot)");
        return STATUS_RESET;
    case OUTCOME_DEBUG_EXIT:
        return (int)((o->value << 1 | 1) & 0xff);
    case OUTCOME_GUEST_FAILED:
        log_error("the guest failed on processor %u: %s", o->cpu, o->text);
        vm_dump_cpu(vm, o->cpu);
        return STATUS_GUEST_FAILED;
    case OUTCOME_DIFFERENCE:
        log_error("%s", o->text);
        vm_print_difference(vm);
        return STATUS_GUEST_FAILED;
    case OUTCOME_HOST_ERROR:
        log_error("%s", o->text);
        return STATUS_USAGE;
    case OUTCOME_TIMEOUT:
        log_error("time is up after %g s (--timeout)", s->timeout);
        return STATUS_TIMEOUT;
    }
    return STATUS_USAGE;
}

static int run_machine(const struct settings *s)
{
    struct error err = {""};
    struct vm *vm;
    struct vm_outcome outcome;
    struct signal_watch watch;
    if (vm_create(s, &vm, &err) < 0)
        return usage_error(&err);
    if (signals_watch(&watch, vm, &err) < 0) {
        vm_destroy(vm);
        return usage_error(&err);
    }
    int rc = vm_run(vm, &outcome, &err);
    signals_unwatch(&watch);
    int status = rc < 0 ? usage_error(&err) : outcome_status(vm, s, &outcome);
    if (vm_report_stats(vm, &err) < 0)
        status = usage_error(&err);
    vm_destroy(vm);
    signals_end(&watch);
    return status;
}

static int run(int argc, char **argv)
{
    struct settings s;
    struct error err = {""};
    int rc = options_parse(argc, argv, &s, &err), status = 0;
    if (rc > 0)
        options_help();
    else
        status = rc < 0 ? usage_error(&err) : run_machine(&s);
    options_free(&s);
    return status;
}

static int translate(int argc, char **argv)
{
    struct error err = {""};
    int rc = translate_command(argc, argv, &err);
    if (rc > 0)
        options_help();
    if (rc >= 0)
        return 0;
    log_error("%s", err.text);
    return rc == -EFAULT ? STATUS_GUEST_FAILED : STATUS_USAGE;
}

static int compare(int argc, char **argv)
{
    struct error err = {""};
    int outcome = compare_command(argc, argv, &err);
    if (outcome < 0)
        return usage_error(&err);
    if (outcome == COMPARE_HELP)
        options_help();
    return outcome == COMPARE_REGRESSION ? STATUS_REGRESSION : 0;
}

static int nano(int argc, char **argv)
{
    struct error err = {""};
    int status = nano_command(argc, argv, run, &err);
    if (status < 0)
        return usage_error(&err);
    if (status == NANO_HELP)
        options_help();
    return status == NANO_HELP ? 0 : status;
}

static int list_engines(void)
{
    printf("%-8s %-6s %-22s %s\n", "engine", "works", "integer loop",
           "what it is, or why it does not work");
    for (unsigned i = 0; engines[i]; i++) {
        double speed;
        struct error err = {""};
        if (vm_measure_engine(engines[i], &speed, &err) < 0) {
            printf("%-8s %-6s %-22s %s\n", engines[i]->name, "no", "-", err.text);
            continue;
        }
        char text[32];
        snprintf(text, sizeof(text), "%.1f M insn/s", speed / 1e6);
        printf("%-8s %-6s %-22s %s\n", engines[i]->name, "yes", text, engines[i]->summary);
    }
    struct error why = {""};
    vm_choose_engine("auto", &why);
    printf("\n--engine auto: %s\n", why.text);
    return 0;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "run") == 0)
        return run(argc - 1, argv + 1);
    if (strcmp(command, "engines") == 0)
        return list_engines();
    if (strcmp(command, "translate") == 0)
        return translate(argc - 1, argv + 1);
    if (strcmp(command, "nano") == 0)
        return nano(argc - 1, argv + 1);
    if (strcmp(command, "compare") == 0)
        return compare(argc - 1, argv + 1);
    if (strcmp(command, "--version") == 0) {
        printf("ringer %s\n", RINGER_VERSION);
        return 0;
    }
    if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0 ||
        strcmp(command, "help") == 0) {
        options_help();
        return 0;
    }
    if (*command)
        log_error("'%s' is not a command; see ringer --help", command);
    else
        log_error("no command given; see ringer --help");
    return STATUS_USAGE;
}
