/*
 * The console on pipes and on a pseudo-terminal, as a child process would use it: the child runs
 * the back end with its descriptors 0 and 1 replaced, the test plays the user.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include "base/types.h"
#include "host/chardev.h"

#define PATIENCE_MS 10000

/* A device that echoes what it gets, a few bytes at a time, and ends the child on 'Q'. */
struct echo {
    struct chardev *chr;
    atomic_bool quit;
    unsigned room;
};

static size_t echo_receive(void *ctx, const u8 *buf, size_t len)
{
    struct echo *e = ctx;
    size_t n = MIN(len, e->room);
    chardev_write(e->chr, buf, n);
    e->room -= (unsigned)n;
    if (memchr(buf, 'Q', n))
        e->quit = true;
    return n;
}

static void on_quit(void *ctx)
{
    atomic_store((atomic_bool *)ctx, true);
}

static void nap(void)
{
    struct timespec ms = {0, 1000000};
    nanosleep(&ms, NULL);
}

static void open_console(struct echo *e)
{
    struct error err;
    atomic_store(&e->quit, false);
    if (chardev_stdio(on_quit, &e->quit, &e->chr, &err))
        _exit(100);
    e->chr->receive = echo_receive;
    e->chr->receive_ctx = e;
    if (chardev_start(e->chr, &err))
        _exit(101);
}

static void child_echo(void)
{
    struct echo e = {.room = 3};
    open_console(&e);
    while (!atomic_load(&e.quit)) {
        nap();
        e.room = 300; /* the reader thread is idle while there is no room */
        chardev_ready(e.chr);
    }
    chardev_destroy(e.chr);
    _exit(7);
}

static void child_exit(void)
{
    struct echo e = {.room = 1000};
    open_console(&e);
    while (!atomic_load(&e.quit))
        nap();
    exit(8);
}

static void child_abort(void)
{
    struct echo e = {.room = 1000};
    open_console(&e);
    while (!atomic_load(&e.quit))
        nap();
    abort();
}

static void child_segfault(void)
{
    struct echo e = {.room = 1000};
    open_console(&e);
    while (!atomic_load(&e.quit))
        nap();
    volatile uintptr_t nowhere = 16;
    *(volatile int *)nowhere = 1;
}

/* Writes more than ring and pipe hold to a reader who reads late. */
static void child_flood(void)
{
    struct echo e = {.room = 0};
    u8 line[1000];
    open_console(&e);
    for (unsigned i = 0; i < 1000; i++) {
        memset(line, 'a' + i % 26, sizeof(line));
        chardev_write(e.chr, line, sizeof(line));
    }
    chardev_destroy(e.chr);
    _exit(9);
}

static void *write_a_lot(void *arg)
{
    static const u8 junk[1 << 20];
    chardev_write(arg, junk, sizeof(junk));
    return NULL;
}

/* Nobody reads; chardev_stop frees the writer, and destroy gives up. */
static void child_stop(void)
{
    struct echo e = {.room = 0};
    pthread_t t;
    open_console(&e);
    pthread_create(&t, NULL, write_a_lot, e.chr);
    for (int i = 0; i < 100; i++)
        nap();
    chardev_stop(e.chr);
    pthread_join(t, NULL);
    chardev_destroy(e.chr);
    _exit(10);
}

struct child {
    pid_t pid;
    int in, out; /* our ends; the same for a terminal */
};

static struct child spawn_pipes(void (*body)(void))
{
    int to[2], from[2];
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[0]), close(to[1]), close(from[0]), close(from[1]);
        body();
        _exit(99);
    }
    close(to[0]);
    close(from[1]);
    return (struct child){pid, to[1], from[0]};
}

static struct child spawn_tty(void (*body)(void))
{
    int master;
    pid_t pid = forkpty(&master, NULL, NULL, NULL);
    if (pid == 0) {
        body();
        _exit(99);
    }
    return (struct child){pid, master, master};
}

static void send(struct child *c, const char *text)
{
    assert_int_equal(write(c->in, text, strlen(text)), strlen(text));
}

/* Reads until the text has come (or, with NULL, the end); returns the number of bytes. */
static size_t expect(struct child *c, const char *text)
{
    char buf[4096];
    size_t kept = 0, total = 0;
    for (;;) {
        struct pollfd p = {.fd = c->out, .events = POLLIN};
        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
        ssize_t n = read(c->out, buf + kept, sizeof(buf) - kept);
        if (!text && n <= 0)
            return total;
        assert_true(n > 0);
        total += (size_t)n;
        if (!text)
            continue;
        kept += (size_t)n;
        if (memmem(buf, kept, text, strlen(text)))
            return total;
        assert_true(kept < sizeof(buf));
    }
}

static int status_of(struct child *c)
{
    int status = -1;
    for (int i = 0; i < PATIENCE_MS; i++) {
        if (waitpid(c->pid, &status, WNOHANG) == c->pid)
            break;
        nap();
    }
    return status;
}

static void finish(struct child *c, int code)
{
    int status = status_of(c);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), code);
    close(c->in);
    if (c->out != c->in)
        close(c->out);
}

static bool is_raw(struct child *c)
{
    struct termios t;
    assert_int_equal(tcgetattr(c->in, &t), 0);
    return !(t.c_lflag & (ICANON | ECHO | ISIG));
}

static bool becomes(struct child *c, bool raw)
{
    for (int i = 0; i < PATIENCE_MS; i++) {
        if (is_raw(c) == raw)
            return true;
        nap();
    }
    return false;
}

static void test_pipes(void **state)
{
    struct child c = spawn_pipes(child_echo);
    (void)state;
    send(&c, "hello \x01x\x01h world");
    expect(&c, "hello \x01x\x01h world");
    send(&c, "Q");
    finish(&c, 7);
}

static void test_end_of_input(void **state)
{
    struct child c = spawn_pipes(child_echo);
    (void)state;
    send(&c, "a longer line than fits at once, and the end");
    close(c.in);
    expect(&c, "the end");
    assert_int_equal(waitpid(c.pid, NULL, WNOHANG), 0); /* the machine runs on */
    kill(c.pid, SIGKILL);
    waitpid(c.pid, NULL, 0);
    close(c.out);
}

static void test_back_pressure(void **state)
{
    static char text[60001];
    struct child c = spawn_pipes(child_echo);
    (void)state;
    memset(text, 'b', sizeof(text) - 2);
    text[sizeof(text) - 2] = 'Q';
    send(&c, text);
    assert_int_equal(expect(&c, NULL), sizeof(text) - 1);
    finish(&c, 7);
}

static void test_slow_reader_gets_everything(void **state)
{
    struct child c = spawn_pipes(child_flood);
    (void)state;
    for (int i = 0; i < 100; i++)
        nap();
    assert_int_equal(expect(&c, NULL), 1000000);
    finish(&c, 9);
}

static void test_non_blocking_output(void **state)
{
    int from[2];
    (void)state;
    assert_int_equal(pipe2(from, O_CLOEXEC | O_NONBLOCK), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(from[1], 1);
        close(from[0]), close(from[1]);
        child_flood();
    }
    close(from[1]);
    fcntl(from[0], F_SETFL, 0);
    struct child c = {pid, from[0], from[0]};
    for (int i = 0; i < 50; i++)
        nap();
    assert_int_equal(expect(&c, NULL), 1000000);
    finish(&c, 9);
}

static void test_reader_gone(void **state)
{
    struct child c = spawn_pipes(child_flood);
    (void)state;
    close(c.out);
    c.out = c.in;
    finish(&c, 9);
}

static void test_stop_without_a_reader(void **state)
{
    struct child c = spawn_pipes(child_stop);
    (void)state;
    finish(&c, 10);
}

static void test_terminal_escape(void **state)
{
    struct child c = spawn_tty(child_echo);
    (void)state;
    assert_true(becomes(&c, true));
    send(&c, "abc\x03\x1a\r");
    expect(&c, "abc\x03\x1a\r"); /* raw: echoed by the device alone, unchanged */
    send(&c, "\x01h");
    expect(&c, "Ctrl-A X");
    send(&c, "\x01\x01.");
    expect(&c, "\x01.");
    send(&c, "\x01x");
    finish(&c, 7);
}

/* The escape works while the guest takes nothing, and type-ahead is more than is kept. */
static void child_deaf(void)
{
    struct echo e = {.room = 0};
    open_console(&e);
    while (!atomic_load(&e.quit))
        nap();
    chardev_destroy(e.chr);
    _exit(11);
}

static void test_escape_with_a_deaf_guest(void **state)
{
    struct child c = spawn_tty(child_deaf);
    (void)state;
    assert_true(becomes(&c, true));
    for (int i = 0; i < 1000; i++)
        send(&c, "0123456789");
    send(&c, "\x01x");
    finish(&c, 11);
}

static void end_by(struct child *c, int sig, int want)
{
    if (sig)
        kill(c->pid, sig);
    else
        send(c, "Q");
    int status = status_of(c);
    if (!WIFSIGNALED(status))
        fail_msg("signal %d: status %#x", sig, status);
    assert_int_equal(WTERMSIG(status), want);
}

/* A terminal whose other side stays open, so that its mode can be looked at after the child is
 * gone. */
static struct child spawn_on(int *keep, void (*body)(void))
{
    int master;
    struct termios t;
    assert_int_equal(openpty(&master, keep, NULL, NULL, NULL), 0);
    assert_int_equal(tcgetattr(master, &t), 0);
    assert_true(t.c_lflag & ICANON);
    pid_t pid = fork();
    if (pid == 0) {
        /* cmocka and the sanitizers have handlers of their own, which would be left alone. */
        for (int sig = 1; sig < SIGRTMIN; sig++)
            signal(sig, SIG_DFL);
        close(master);
        login_tty(dup(*keep));
        body();
        _exit(99);
    }
    struct child c = {pid, master, master};
    assert_true(becomes(&c, true));
    return c;
}

static void test_restored_on_signals(void **state)
{
    static const int sigs[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGABRT, SIGBUS};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sigs); i++) {
        int keep;
        struct child c = spawn_on(&keep, child_exit);
        end_by(&c, sigs[i], sigs[i]);
        assert_false(is_raw(&c));
        close(keep);
        close(c.in);
    }
}

static void test_restored_on_crashes(void **state)
{
    static const struct {
        void (*body)(void);
        int sig;
    } crash[] = {{child_abort, SIGABRT}, {child_segfault, SIGSEGV}};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(crash); i++) {
        int keep;
        struct child c = spawn_on(&keep, crash[i].body);
        end_by(&c, 0, crash[i].sig);
        assert_false(is_raw(&c));
        close(keep);
        close(c.in);
    }
}

static void test_restored_on_exit(void **state)
{
    static void (*const body[])(void) = {child_exit, child_echo};
    static const int code[] = {8, 7};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(body); i++) {
        int keep;
        struct child c = spawn_on(&keep, body[i]);
        send(&c, "Q");
        int status = status_of(&c);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), code[i]);
        assert_false(is_raw(&c));
        close(keep);
        close(c.in);
    }
}

/* A shell's job control: the console is a job in the foreground of a session whose leader waits. */
static void test_stop_and_continue(void **state)
{
    int keep, status = 0;
    int pids[2];
    (void)state;
    assert_int_equal(pipe2(pids, O_CLOEXEC), 0);
    int master;
    assert_int_equal(openpty(&master, &keep, NULL, NULL, NULL), 0);
    pid_t shell = fork();
    if (shell == 0) {
        login_tty(dup(keep));
        pid_t job = fork();
        if (job == 0) {
            signal(SIGTTOU, SIG_IGN);
            setpgid(0, 0);
            tcsetpgrp(0, getpid());
            signal(SIGTTOU, SIG_DFL);
            child_exit();
        }
        if (write(pids[1], &job, sizeof(job)) != sizeof(job))
            _exit(1);
        while (waitpid(job, &status, WUNTRACED) > 0 && WIFSTOPPED(status)) {
            if (write(pids[1], &status, sizeof(status)) != sizeof(status))
                _exit(1);
        }
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 98);
    }
    pid_t job;
    assert_int_equal(read(pids[0], &job, sizeof(job)), sizeof(job));
    struct child c = {shell, master, master};
    assert_true(becomes(&c, true));
    for (int i = 0; i < 3; i++) {
        kill(job, SIGTSTP);
        assert_int_equal(read(pids[0], &status, sizeof(status)), sizeof(status));
        assert_int_equal(WSTOPSIG(status), SIGTSTP);
        assert_false(is_raw(&c));
        kill(job, SIGCONT);
        assert_true(becomes(&c, true));
    }
    send(&c, "Q");
    finish(&c, 8);
    close(keep);
    close(pids[0]);
    close(pids[1]);
}

static void test_file_and_null(void **state)
{
    char path[] = "/tmp/test_chardev_XXXXXX", buf[16];
    struct chardev *c;
    struct error err;
    (void)state;
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "old content", 11), 11);
    assert_int_equal(chardev_file(path, &c, &err), 0);
    assert_int_equal(chardev_start(c, &err), 0);
    chardev_write(c, (const u8 *)"one ", 4);
    chardev_write(c, (const u8 *)"two", 3);
    chardev_ready(c);
    chardev_stop(c);
    chardev_destroy(c);
    assert_int_equal(pread(fd, buf, sizeof(buf), 0), 7);
    assert_memory_equal(buf, "one two", 7);
    close(fd);
    unlink(path);
    assert_int_equal(chardev_file("/nonexistent/file", &c, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/file"));
    assert_int_equal(chardev_file("/dev/full", &c, &err), 0);
    chardev_write(c, (const u8 *)"lost", 4);
    chardev_write(c, (const u8 *)"lost", 4);
    chardev_destroy(c);
    c = chardev_null();
    chardev_write(c, (const u8 *)"nothing", 7);
    chardev_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipes),
        cmocka_unit_test(test_end_of_input),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_slow_reader_gets_everything),
        cmocka_unit_test(test_non_blocking_output),
        cmocka_unit_test(test_reader_gone),
        cmocka_unit_test(test_stop_without_a_reader),
        cmocka_unit_test(test_terminal_escape),
        cmocka_unit_test(test_escape_with_a_deaf_guest),
        cmocka_unit_test(test_restored_on_signals),
        cmocka_unit_test(test_restored_on_crashes),
        cmocka_unit_test(test_restored_on_exit),
        cmocka_unit_test(test_stop_and_continue),
        cmocka_unit_test(test_file_and_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
