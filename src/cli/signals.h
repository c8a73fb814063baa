/*
 * SIGTERM, SIGINT and SIGHUP while a guest runs: the run is given up in good order, with the
 * guest's output written and the terminal restored, and then the process ends by that signal.
 */
#ifndef RINGER_CLI_SIGNALS_H
#define RINGER_CLI_SIGNALS_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/error.h"
#include "vm/vm.h"

struct signal_watch {
    struct vm *vm;
    pthread_t thread;
    sigset_t set;
    atomic_int caught; /* the signal that came, 0: none */
};

/* To be called on the main thread before it starts others: it and they leave these signals to a
 * thread of the watch. A second signal ends the process at once. */
int signals_watch(struct signal_watch *w, struct vm *vm, struct error *err);

/* Ends the watch. Where a signal came it stays blocked, so that cleaning up is not cut short. */
void signals_unwatch(struct signal_watch *w);

/* Last of all: lets the process end by the signal that came. Returns if none did. */
void signals_end(const struct signal_watch *w);

#endif
