/*
 * Messages to the user's stderr, one line each, with the prefix "ringer: ". Not for guest faults
 * (those go to the guest) and not for host errors on their way up (base/error.h).
 */
#ifndef RINGER_BASE_LOG_H
#define RINGER_BASE_LOG_H

#include "base/types.h"

/* Something that the user may like to know. */
void log_note(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Something that the user should know, though the run goes on. */
void log_warn(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* The reason why the program stops. */
void log_error(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
