/*
 * `ringer nano`: runs the nano kernel (guest/nano), which is in the program.
 */
#ifndef RINGER_CLI_NANO_H
#define RINGER_CLI_NANO_H

#include "base/error.h"

/* What `ringer run` does with its arguments; its exit status. */
typedef int nano_run_fn(int argc, char **argv);

/* The command; argv[0] is its name. The exit status: 0, 1 (a check failed), or that of run; a
 * negative errno is wrong usage or a host error, NANO_HELP a wish for the help. */
#define NANO_HELP 1000
int nano_command(int argc, char **argv, nano_run_fn *run, struct error *err);
void nano_help(void);

#endif
