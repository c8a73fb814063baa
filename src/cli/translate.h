/*
 * `ringer translate`: shows what the engine bt makes of code.
 */
#ifndef RINGER_CLI_TRANSLATE_H
#define RINGER_CLI_TRANSLATE_H

#include "base/error.h"

/* argv[0] is the command. Returns 0, 1 if --help was asked for, or a negative errno with the one
 * sentence in err; -EFAULT: the function did not return, after what was translated was shown. */
int translate_command(int argc, char **argv, struct error *err);
void translate_help(void);

#endif
