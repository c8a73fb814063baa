/*
 * Host errors: a negative errno value, and one sentence for the user. A function that can fail for
 * a reason of the host or of the user's input takes a `struct error *`, fills it once, where the
 * reason is known, and returns the negative errno. The caller adds nothing; cli/ prints it.
 */
#ifndef RINGER_BASE_ERROR_H
#define RINGER_BASE_ERROR_H

#include "base/types.h"

struct error {
    char text[512];
};

/* Formats the sentence into err (which may be NULL) and returns -code. */
int error_set(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As error_set, with ": strerror(code)" added to the sentence. */
int error_errno(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
