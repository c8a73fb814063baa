/*
 * Raw mode with a way back. The state is at file scope, against the house rule, because signal
 * handlers and atexit() have no context to find it by; it describes the process's one terminal.
 * Handlers use async-signal-safe calls only. A handler restores the terminal, puts the default
 * action back and lets the signal happen again, so that the process ends (or stops) as if the
 * handler weren't there.
 */
#include "host/terminal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static struct {
    atomic_bool raw; /* the terminal is ours and must be given back */
    int fd;
    int say_fd;
    const char *say; /* NULL: nothing */
    struct termios saved, wanted;
    struct sigaction old[NSIG];
    bool installed[NSIG];
    bool at_exit;
} terminal;

/* Raised by the instruction that is running: going back to it raises them again. */
static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
static const int end_signals[] = {SIGINT,  SIGTERM,   SIGHUP,  SIGQUIT, SIGALRM,
                                  SIGXCPU, SIGVTALRM, SIGPROF, SIGXFSZ, SIGPIPE};

/* A background job that changes its controlling terminal would be stopped by SIGTTOU; its terminal
 * is in the hands of another job, which has set it up for itself. */
static void apply(const struct termios *mode)
{
    pid_t foreground = tcgetpgrp(terminal.fd);
    if (foreground < 0 || foreground == getpgrp())
        tcsetattr(terminal.fd, TCSANOW, mode);
}

static void give_back(void)
{
    if (terminal.say && write(terminal.say_fd, terminal.say, strlen(terminal.say)) < 0)
        terminal.say = NULL;
    apply(&terminal.saved);
}

static void set_action(int sig, void (*handler)(int, siginfo_t *, void *), struct sigaction *old)
{
    struct sigaction sa = {.sa_sigaction = handler,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigfillset(&sa.sa_mask);
    sigaction(sig, &sa, old);
}

static void set_default(int sig)
{
    struct sigaction sa = {.sa_handler = SIG_DFL};
    sigaction(sig, &sa, NULL);
}

static void on_crash(int sig, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    (void)context;
    if (atomic_load(&terminal.raw))
        give_back();
    set_default(sig);
    if (info->si_code <= 0)
        raise(sig); /* sent by a process, not by an instruction */
    errno = saved_errno;
}

static void on_end(int sig, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    if (atomic_load(&terminal.raw))
        give_back();
    set_default(sig);
    raise(sig); /* delivered when this handler returns */
}

/* Stops here, inside the handler, until SIGCONT; or goes on at once if nobody could continue it
 * (orphaned process group). */
static void on_stop(int sig, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    sigset_t set, old;
    (void)info;
    (void)context;
    if (atomic_load(&terminal.raw))
        give_back();
    set_default(sig);
    raise(sig);
    sigemptyset(&set);
    sigaddset(&set, sig);
    pthread_sigmask(SIG_UNBLOCK, &set, &old);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    set_action(sig, on_stop, NULL);
    if (atomic_load(&terminal.raw))
        apply(&terminal.wanted);
    errno = saved_errno;
}

static void on_continue(int sig, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    (void)sig;
    (void)info;
    (void)context;
    if (atomic_load(&terminal.raw))
        apply(&terminal.wanted);
    errno = saved_errno;
}

static void install(int sig, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction *old = &terminal.old[sig];
    sigaction(sig, NULL, old);
    bool mine = !(old->sa_flags & SA_SIGINFO) && old->sa_handler == SIG_DFL;
    terminal.installed[sig] = mine;
    if (mine)
        set_action(sig, handler, NULL);
}

/* Removes a handler, unless someone has put another in its place since. */
static void uninstall(int sig, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction now;
    if (!terminal.installed[sig])
        return;
    terminal.installed[sig] = false;
    sigaction(sig, NULL, &now);
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == handler)
        sigaction(sig, &terminal.old[sig], NULL);
}

static void for_all_signals(void (*fn)(int, void (*)(int, siginfo_t *, void *)))
{
    for (size_t i = 0; i < ARRAY_SIZE(crash_signals); i++)
        fn(crash_signals[i], on_crash);
    for (size_t i = 0; i < ARRAY_SIZE(end_signals); i++)
        fn(end_signals[i], on_end);
    fn(SIGTSTP, on_stop);
    fn(SIGCONT, on_continue);
}

void terminal_say_at_end(int fd, const char *bytes)
{
    terminal.say_fd = fd;
    terminal.say = bytes;
}

void terminal_restore(void)
{
    if (!atomic_load(&terminal.raw))
        return;
    give_back();
    atomic_store(&terminal.raw, false);
    for_all_signals(uninstall);
}

int terminal_set_raw(int fd, struct error *err)
{
    if (atomic_load(&terminal.raw))
        return error_set(err, EBUSY, "the terminal is in use already");
    if (tcgetattr(fd, &terminal.saved) < 0)
        return error_errno(err, errno, "cannot read the terminal's settings");
    if (!terminal.at_exit && atexit(terminal_restore))
        return error_set(err, ENOMEM, "cannot arrange for the terminal to be restored");
    terminal.at_exit = true;
    terminal.fd = fd;
    terminal.say = NULL;
    terminal.wanted = terminal.saved;
    cfmakeraw(&terminal.wanted);
    for_all_signals(install);
    atomic_store(&terminal.raw, true);
    if (tcsetattr(fd, TCSANOW, &terminal.wanted) < 0) {
        int code = errno;
        terminal_restore();
        return error_errno(err, code, "cannot set the terminal to raw mode");
    }
    return 0;
}
