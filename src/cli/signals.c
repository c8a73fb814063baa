/*
 * A thread that waits for the signals by which users and scripts end programs, and quits the
 * machine as Ctrl-A X does. The main thread then cleans up as always, and at the very end lets the
 * signal have its default effect, so that whoever sent it sees the usual status.
 */
#include "cli/signals.h"

#include <stdio.h>
#include <unistd.h>

#include "base/types.h"

static const int watched[] = {SIGTERM, SIGINT, SIGHUP};

static void *wait_for_signal(void *arg)
{
    struct signal_watch *w = arg;
    int sig;
    if (sigwait(&w->set, &sig) != 0)
        return NULL;
    atomic_store(&w->caught, sig);
    vm_quit(w->vm);
    /* The next one finds this thread and takes its ordinary way. */
    pthread_sigmask(SIG_UNBLOCK, &w->set, NULL);
    for (;;)
        pause();
}

/* What the parent wants ignored (nohup, jobs in the background) is none of ours. */
static void choose_signals(sigset_t *set)
{
    sigemptyset(set);
    for (unsigned i = 0; i < ARRAY_SIZE(watched); i++) {
        struct sigaction sa;
        sigaction(watched[i], NULL, &sa);
        if (sa.sa_flags & SA_SIGINFO || sa.sa_handler != SIG_IGN)
            sigaddset(set, watched[i]);
    }
}

int signals_watch(struct signal_watch *w, struct vm *vm, struct error *err)
{
    *w = (struct signal_watch){.vm = vm};
    choose_signals(&w->set);
    pthread_sigmask(SIG_BLOCK, &w->set, NULL);
    int code = pthread_create(&w->thread, NULL, wait_for_signal, w);
    if (code)
        return error_errno(err, code, "cannot start the thread that waits for signals");
    return 0;
}

void signals_unwatch(struct signal_watch *w)
{
    pthread_cancel(w->thread);
    pthread_join(w->thread, NULL);
    if (!atomic_load(&w->caught))
        pthread_sigmask(SIG_UNBLOCK, &w->set, NULL);
}

void signals_end(const struct signal_watch *w)
{
    int sig = atomic_load(&w->caught);
    if (!sig)
        return;
    fflush(NULL);
    signal(sig, SIG_DFL);
    raise(sig);
    pthread_sigmask(SIG_UNBLOCK, &w->set, NULL);
}
