/*
 * One child process of a comparison: its own process group, nothing on standard input, its output
 * read line by line with the time of each line, and a time limit. Signals to us come by a signalfd,
 * so that they find us here, in poll(), and nowhere else.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/compare/compare.h"

#define TICK_MS    20 /* between looks whether the process is still there */
#define LINE_BYTES 1024

struct stream {
    int fd; /* -1: closed */
    size_t used;
    char line[LINE_BYTES]; /* what has come of the current line; the rest of a longer one is lost */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void end_line(struct child *c, struct stream *s, bool output, double seconds)
{
    s->line[s->used] = 0;
    if (s->used && s->line[s->used - 1] == '\r')
        s->line[s->used - 1] = 0;
    s->used = 0;
    if (output && c->line)
        c->line(c->arg, s->line, seconds);
    else if (!output && s->line[0])
        snprintf(c->words, sizeof(c->words), "%.*s", (int)sizeof(c->words) - 1, s->line);
}

/* Takes what is there. */
static void read_stream(struct child *c, struct stream *s, bool output, double seconds)
{
    char buf[4096];
    ssize_t n = read(s->fd, buf, sizeof(buf));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        if (s->used)
            end_line(c, s, output, seconds);
        close(s->fd);
        s->fd = -1;
        return;
    }
    for (ssize_t k = 0; k < n; k++) {
        if (buf[k] == '\n')
            end_line(c, s, output, seconds);
        else if (s->used < LINE_BYTES - 1)
            s->line[s->used++] = buf[k];
    }
}

/* The child's side: returns only if the program cannot be started. */
static void become(const struct child *c, int out, int err)
{
    sigset_t none;
    int null = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (null >= 0)
        dup2(null, 0);
    dup2(out, 1);
    dup2(err, 2);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (!c->argv) {
        int status = c->body();
        fflush(NULL);
        _exit(status);
    }
    execvp(c->argv[0], c->argv);
    dprintf(2, "%s: %s\n", c->argv[0], strerror(errno));
    _exit(127);
}

static int start(const struct child *c, struct stream *out, struct stream *err_stream, pid_t *pid,
                 struct error *err)
{
    int o[2], e[2];
    if (pipe2(o, O_CLOEXEC) < 0)
        return error_errno(err, errno, "cannot make a pipe");
    if (pipe2(e, O_CLOEXEC) < 0) {
        int code = errno;
        close(o[0]);
        close(o[1]);
        return error_errno(err, code, "cannot make a pipe");
    }
    fflush(NULL);
    *pid = fork();
    int code = errno;
    if (*pid == 0)
        become(c, o[1], e[1]);
    close(o[1]);
    close(e[1]);
    out->fd = o[0];
    err_stream->fd = e[0];
    if (*pid > 0)
        return 0;
    close(o[0]);
    close(e[0]);
    return error_errno(err, code, "cannot start a process");
}

/* Waits for output, a signal or the next tick. False: the run is over, as c->end says. */
static bool wait_some(struct child *c, struct stream *out, struct stream *err, double began)
{
    struct pollfd p[3] = {{.fd = c->signals, .events = POLLIN},
                          {.fd = out->fd, .events = POLLIN},
                          {.fd = err->fd, .events = POLLIN}};
    poll(p, 3, TICK_MS);
    double seconds = now() - began;
    if (p[1].revents)
        read_stream(c, out, true, seconds);
    if (p[2].revents)
        read_stream(c, err, false, seconds);
    if (p[0].revents & POLLIN)
        c->end = CHILD_INTERRUPTED;
    else if (seconds >= c->limit)
        c->end = CHILD_TIMEOUT;
    return c->end == CHILD_ENDED;
}

/* What the process has left in its pipes. */
static void drain(struct child *c, struct stream *s, bool output)
{
    if (s->fd < 0)
        return;
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
    while (s->fd >= 0) {
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        if (poll(&p, 1, 0) <= 0)
            break;
        read_stream(c, s, output, c->seconds);
    }
    if (s->fd >= 0)
        close(s->fd);
}

int child_run(struct child *c, struct error *err)
{
    struct stream out = {.fd = -1}, errors = {.fd = -1};
    pid_t pid = -1;
    double began = now();
    c->end = CHILD_ENDED;
    c->words[0] = 0;
    int rc = start(c, &out, &errors, &pid, err);
    if (rc < 0)
        return rc;
    setpgid(pid, pid);
    siginfo_t ended = {.si_pid = 0};
    while (!ended.si_pid && wait_some(c, &out, &errors, began))
        waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT);
    c->seconds = now() - began;
    kill(-pid, SIGKILL); /* its group is ours until it is waited for */
    waitpid(pid, &c->status, 0);
    drain(c, &out, true);
    drain(c, &errors, false);
    return 0;
}
