/*
 * A file with code for `ringer translate`: a function of an ELF file, or raw code.
 */
#ifndef RINGER_CLI_CODEFILE_H
#define RINGER_CLI_CODEFILE_H

#include "vm/function.h"

struct code_options {
    const char *path;
    const char *function; /* NULL: raw code */
    unsigned mode;        /* 16, 32 or 64; 0: as the file says, raw code: 64 */
    u64 base;
    bool has_base;
};

/* Fills fn, whose pieces point into *bytes; the caller frees that, also after an error. */
int codefile_load(const struct code_options *opt, struct function *fn, u8 **bytes,
                  struct error *err);

#endif
