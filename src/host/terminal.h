/*
 * The controlling terminal in raw mode, and out of it again on every way: terminal_restore, exit(),
 * signals that end or stop the process. One at a time, because terminal and signal handlers belong
 * to the process.
 */
#ifndef RINGER_HOST_TERMINAL_H
#define RINGER_HOST_TERMINAL_H

#include "base/error.h"

/* Makes the terminal behind fd raw. -EBUSY if one is raw already. Signals that have a handler or
 * are ignored are left alone. */
int terminal_set_raw(int fd, struct error *err);

/* Bytes written to fd whenever the terminal is given back, also by a signal: to leave its colours
 * and cursor as they should be. They stay the caller's. Until the next terminal_set_raw(). */
void terminal_say_at_end(int fd, const char *bytes);

/* Back to how it was. Does nothing if it isn't raw. */
void terminal_restore(void);

#endif
