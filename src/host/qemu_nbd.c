/*
 * Starting qemu-nbd. It is given a listening socket by systemd's protocol (LISTEN_PID, LISTEN_FDS,
 * descriptor 3; sd_listen_fds(3)), to which we have connected before it runs, and whose name is
 * gone by then: nobody else can connect. It leaves when its only client does, so it closes the
 * image properly even if ringer is killed.
 */
#include "host/qemu_nbd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LISTEN_FD 3 /* SD_LISTEN_FDS_START */
#define STATUS_FD 4

/* All that the child needs, made before the fork. */
struct launch {
    char path[4096];
    char pid[32]; /* LISTEN_PID=, which the child completes */
    char *argv[10];
    char **environment;
    int listener, status, messages, null;
    pid_t parent;
};

static bool is_ours(const char *variable)
{
    return strncmp(variable, "LISTEN_", 7) == 0;
}

static char **make_environment(char *pid)
{
    size_t n = 0, count = 0;
    while (environ[count])
        count++;
    char **env = calloc(count + 3, sizeof(*env));
    if (!env)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (!is_ours(environ[i]))
            env[n++] = environ[i];
    env[n++] = pid;
    env[n++] = "LISTEN_FDS=1";
    return env;
}

/* In the child, where nothing but system calls is safe. */
static void complete_pid(char *text)
{
    char digits[12];
    unsigned n = 0;
    for (unsigned pid = (unsigned)getpid(); pid; pid /= 10)
        digits[n++] = (char)('0' + pid % 10);
    text += strlen(text);
    while (n)
        *text++ = digits[--n];
    *text = 0;
}

static void child(struct launch *l)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* the terminal's ^C is for ringer, which ends in good order */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != l->parent)
        _exit(1);
    /* Out of the way of the numbers they get. */
    int listener = fcntl(l->listener, F_DUPFD, 10), status = fcntl(l->status, F_DUPFD, 10);
    int messages = fcntl(l->messages, F_DUPFD, 10), null = fcntl(l->null, F_DUPFD, 10);
    if (dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(messages, 2) >= 0 &&
        dup2(listener, LISTEN_FD) >= 0 && dup3(status, STATUS_FD, O_CLOEXEC) >= 0) {
        close_range(STATUS_FD + 1, ~0U, 0);
        complete_pid(l->pid);
        execvpe(l->argv[0], l->argv, l->environment);
    }
    int code = errno;
    ssize_t n = write(STATUS_FD, &code, sizeof(code));
    _exit(n < 0 ? 2 : 1);
}

/* A listening socket and a connection to it. */
static int connected_pair(int *listener, int *connection)
{
    char directory[] = "/tmp/ringer-XXXXXX";
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int code = 0;
    *connection = -1;
    *listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*listener < 0 || !mkdtemp(directory)) /* which only we can enter */
        return errno;
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/nbd", directory);
    *connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*connection < 0 || bind(*listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(*listener, 1) < 0 ||
        connect(*connection, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        code = errno;
    unlink(addr.sun_path);
    rmdir(directory);
    return code;
}

/* 0, or the errno for which it was not started. */
static int launch(struct launch *l, pid_t *pid)
{
    int status[2], code = 0;
    if (pipe2(status, O_CLOEXEC) < 0)
        return errno;
    l->status = status[1];
    l->parent = getpid();
    *pid = fork();
    if (*pid == 0)
        child(l);
    code = *pid < 0 ? errno : 0;
    close(status[1]);
    ssize_t n = 0;
    int reported;
    while (*pid > 0 && (n = read(status[0], &reported, sizeof(reported))) < 0 && errno == EINTR)
        ;
    if (n == (ssize_t)sizeof(reported)) {
        code = reported;
        waitpid(*pid, NULL, 0);
    }
    close(status[0]);
    return code;
}

static void describe(struct launch *l, const char *path, const char *format, bool read_only)
{
    unsigned n = 0;
    /* So that no name looks like an option or a protocol of QEMU's. */
    snprintf(l->path, sizeof(l->path), "%s%s", *path == '/' ? "" : "./", path);
    snprintf(l->pid, sizeof(l->pid), "LISTEN_PID=");
    l->argv[n++] = "qemu-nbd";
    l->argv[n++] = "--format";
    l->argv[n++] = (char *)format;
    l->argv[n++] = "--cache=writeback";
    l->argv[n++] = "--discard=unmap";
    if (read_only)
        l->argv[n++] = "--read-only";
    l->argv[n++] = l->path;
}

int qemu_nbd_start(const char *path, const char *format, bool read_only, struct qemu_nbd *server,
                   struct error *err)
{
    struct launch l;
    memset(&l, 0, sizeof(l));
    describe(&l, path, format, read_only);
    int code = connected_pair(&l.listener, &server->connection);
    l.null = open("/dev/null", O_RDWR | O_CLOEXEC);
    l.messages = server->messages = memfd_create("qemu-nbd", MFD_CLOEXEC);
    l.environment = make_environment(l.pid);
    if (code == 0 && (l.null < 0 || l.messages < 0 || !l.environment))
        code = errno;
    if (code == 0)
        code = launch(&l, &server->pid);
    free(l.environment);
    close(l.null);
    close(l.listener);
    if (code == 0)
        return 0;
    close(server->connection);
    close(server->messages);
    if (code == ENOENT)
        return error_set(err, code,
                         "%s: is a %s image, which qemu-nbd has to read; install the package "
                         "qemu-utils",
                         path, format);
    return error_errno(err, code, "%s: cannot start qemu-nbd, which has to read %s images", path,
                       format);
}

void qemu_nbd_message(const struct qemu_nbd *server, const char *otherwise, char *text, size_t size)
{
    char said[1024];
    ssize_t n = pread(server->messages, said, sizeof(said) - 1, 0);
    said[MAX(n, 0)] = 0;
    char *end = strchr(said, '\n');
    if (end)
        *end = 0;
    snprintf(text, size, "%s", *said ? said : otherwise);
}

void qemu_nbd_end(struct qemu_nbd *server)
{
    /* It may have much to write out. If it doesn't leave, SIGTERM makes it do the same. */
    for (int i = 0; i < 1000; i++) {
        pid_t pid = waitpid(server->pid, NULL, WNOHANG);
        if (pid != 0 && (pid > 0 || errno != EINTR))
            break;
        nanosleep(&(struct timespec){0, 10 * 1000 * 1000}, NULL);
        if (i == 999) {
            kill(server->pid, SIGTERM);
            waitpid(server->pid, NULL, 0);
        }
    }
    close(server->messages);
}
