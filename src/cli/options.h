/*
 * The command line: one table says each option's name, argument, help and what it sets.
 */
#ifndef RINGER_CLI_OPTIONS_H
#define RINGER_CLI_OPTIONS_H

#include "base/error.h"
#include "vm/settings.h"

/* Parses the arguments of `ringer run`, argv[0] being the command. Strings point into argv. Returns
 * 0, 1 if --help was asked for, or a negative errno with the one sentence in err. In each case
 * options_free() frees what s holds. */
int options_parse(int argc, char **argv, struct settings *s, struct error *err);
void options_free(struct settings *s);

/* Prints the whole help to stdout. */
void options_help(void);

/* A size such as 512M, 2G, 65536 or 64K, in bytes. False: it is not one. */
bool options_size(const char *text, u64 *size);

#endif
