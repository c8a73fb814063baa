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

/* Back to how it was. Does nothing if it isn't raw. */
void terminal_restore(void);

#endif
