/*
 * The values of --disk, --cdrom and --floppy: a file name and, after commas, words about it. A
 * comma of the name is written twice, as for QEMU.
 */
#ifndef RINGER_CLI_DRIVES_H
#define RINGER_CLI_DRIVES_H

#include "base/error.h"
#include "vm/settings.h"

/* Each adds the drive that arg describes to the settings; 0 or a negative errno. The names are
 * copies. */
int drives_add_disk(struct settings *s, const char *arg, struct error *err);
int drives_add_cdrom(struct settings *s, const char *arg, struct error *err);
int drives_add_floppy(struct settings *s, const char *arg, struct error *err);

/* Frees the names. */
void drives_free(struct settings *s);

#endif
