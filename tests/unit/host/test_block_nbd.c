/*
 * Images behind NBD servers: files in other formats, which a qemu-nbd of our own serves, and
 * addresses, at which an nbdkit behaves as the test wants. Without these tools: skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "block_model.h"
#include "host/block_impl.h"

#define SIZE (3 * MIB)

static char directory[] = "/tmp/ringer-test-XXXXXX";

static int shell(const char *fmt, ...)
{
    char command[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof(command), fmt, ap);
    va_end(ap);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void need(const char *program)
{
    if (shell("command -v %s > /dev/null", program) != 0)
        skip();
}

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){0, 10 * 1000 * 1000}, NULL);
}

static int try_open(const char *path, bool read_only, struct block **b, struct error *err)
{
    struct block_options opt = {.path = path, .read_only = read_only};
    *b = NULL;
    return block_open(&opt, b, err);
}

static struct block *open_image(const char *path)
{
    struct block *b;
    struct error err;
    if (try_open(path, false, &b, &err) < 0)
        fail_msg("%s", err.text);
    return b;
}

static const char *name(const char *file)
{
    static char path[200];
    snprintf(path, sizeof(path), "%s/%s", directory, file);
    return path;
}

/* nbdkit with these arguments at the socket "nbd"; its pid. */
static pid_t start_nbdkit(char *const arguments[])
{
    char socket[200], ready[200];
    char *argv[16] = {"nbdkit", "-f", "--exit-with-parent", "-U", socket, "-P", ready};
    snprintf(socket, sizeof(socket), "%s", name("nbd"));
    snprintf(ready, sizeof(ready), "%s", name("pid")); /* made when it listens */
    unlink(socket);
    unlink(ready);
    for (unsigned i = 0; arguments[i]; i++)
        argv[7 + i] = arguments[i];
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    assert_true(pid > 0);
    for (unsigned i = 0; i < 1000 && access(ready, F_OK) < 0; i++)
        pause_a_little();
    return pid;
}

static void end_nbdkit(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static const char *address(void)
{
    static char uri[300];
    snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", name("nbd"));
    return uri;
}

static void formats_follow_model(void **state)
{
    (void)state;
    static const char *const formats[] = {"qcow2", "vmdk", "vdi", "vpc", "vhdx"};
    need("qemu-nbd");
    need("qemu-img");
    for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
        char path[200];
        snprintf(path, sizeof(path), "%s/a:b %s", directory, formats[i]);
        assert_int_equal(shell("qemu-img create -q -f %s '%s' %llu", formats[i], path, SIZE), 0);
        struct block *b = open_image(path);
        struct model m;
        assert_true(b->size >= SIZE);
        model_init(&m, b, i);
        model_run(&m, 500, NULL, NULL);
        assert_int_equal(block_flush(b), 0);
        block_destroy(b);
        /* All of it is in the file when block_destroy() returns. */
        assert_int_equal(
            shell("qemu-img convert -f %s -O raw '%s' '%s'", formats[i], path, name("raw")), 0);
        u8 *bytes = calloc(1, m.size);
        int fd = open(name("raw"), O_RDONLY);
        assert_true(fd >= 0 && bytes);
        assert_true(pread(fd, bytes, m.size, 0) > 0);
        assert_memory_equal(bytes, m.bytes, m.size);
        close(fd);
        free(bytes);
        model_free(&m);
        unlink(name("raw"));
        unlink(path);
    }
}

static void snapshots_leave_the_image(void **state)
{
    (void)state;
    need("qemu-nbd");
    need("qemu-img");
    struct block_options opt = {.path = name("image"), .snapshot = true};
    struct block *b;
    struct error err;
    struct model m;
    assert_int_equal(shell("qemu-img create -q -f qcow2 '%s' 3M && cp '%s' '%s.old'", opt.path,
                           opt.path, opt.path),
                     0);
    assert_int_equal(block_open(&opt, &b, &err), 0);
    model_init(&m, b, 9);
    model_run(&m, 500, NULL, NULL);
    model_free(&m);
    block_destroy(b);
    assert_int_equal(shell("cmp '%s' '%s.old'", name("image"), name("image")), 0);
    unlink(name("image"));
    unlink(name("image.old"));
}

static void what_cannot_be_served_is_said(void **state)
{
    (void)state;
    need("qemu-nbd");
    need("qemu-img");
    struct block *b, *other;
    struct error err;
    const char *path = name("image");
    assert_int_equal(shell("printf 'QFI\\373\\0\\0\\0\\3' > '%s'; truncate -s 1M '%s'", path, path),
                     0);
    assert_true(try_open(path, false, &b, &err) < 0);
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, "as a qcow2 image: qemu-nbd: "));
    assert_null(strchr(err.text, '\n'));
    assert_int_equal(shell("qemu-img create -q -f qcow2 '%s' 1M", path), 0);
    char *search = strdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1);
    assert_true(try_open(path, false, &b, &err) < 0);
    setenv("PATH", search, 1);
    free(search);
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, "install the package qemu-utils"));
    b = open_image(path);
    assert_true(try_open(path, false, &other, &err) < 0);
    assert_non_null(strstr(err.text, "lock"));
    block_destroy(b);
    unlink(path);
}

/* The server of a process that is killed closes the image and lets go of it. */
static void a_server_ends_with_its_process(void **state)
{
    (void)state;
    need("qemu-nbd");
    need("qemu-img");
    char path[200];
    int status[2];
    snprintf(path, sizeof(path), "%s", name("image"));
    assert_int_equal(shell("qemu-img create -q -f qcow2 '%s' 1M", path), 0);
    assert_int_equal(pipe(status), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct block *b;
        struct error err;
        u8 bytes[4096];
        memset(bytes, 0x5a, sizeof(bytes));
        bool good = try_open(path, false, &b, &err) == 0 &&
                    block_write(b, 65536, bytes, sizeof(bytes)) == 0 && block_flush(b) == 0;
        if (write(status[1], &good, 1) < 0)
            _exit(1);
        for (;;)
            pause();
    }
    bool good = false;
    assert_int_equal(read(status[0], &good, 1), 1);
    assert_true(good);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    struct block *b = NULL;
    struct error err;
    for (unsigned i = 0; i < 1000 && try_open(path, false, &b, &err) < 0; i++)
        pause_a_little();
    assert_non_null(b);
    u8 bytes[4096], expected[4096];
    memset(expected, 0x5a, sizeof(expected));
    assert_int_equal(block_read(b, 65536, bytes, sizeof(bytes)), 0);
    assert_memory_equal(bytes, expected, sizeof(bytes));
    block_destroy(b);
    close(status[0]);
    close(status[1]);
    unlink(path);
}

static void an_address_follows_model(void **state)
{
    (void)state;
    need("nbdkit");
    pid_t pid = start_nbdkit((char *[]){"memory", "3M", NULL});
    struct block *b = open_image(address());
    struct model m;
    assert_int_equal(b->size, SIZE);
    model_init(&m, b, 1);
    model_run(&m, 1500, NULL, NULL);
    assert_true(m.discards && !m.refused);
    model_free(&m);
    block_destroy(b);
    end_nbdkit(pid);
}

static void a_server_that_can_only_read_and_write(void **state)
{
    (void)state;
    need("nbdkit");
    char pread[400], pwrite[400];
    snprintf(pread, sizeof(pread),
             "pread=dd if='%s' bs=64K count=$3 skip=$4 iflag=count_bytes,skip_bytes", name("disk"));
    snprintf(pwrite, sizeof(pwrite),
             "pwrite=dd of='%s' bs=64K seek=$4 conv=notrunc oflag=seek_bytes iflag=fullblock",
             name("disk"));
    assert_int_equal(shell("head -c 3M /dev/urandom > '%s'", name("disk")), 0);
    pid_t pid = start_nbdkit((char *[]){"--filter=nozero", "eval", "get_size=echo 3145728", pread,
                                        pwrite, "can_write=exit 0", NULL});
    struct block *b = open_image(address());
    struct model m;
    model_init(&m, b, 2);
    model_run(&m, 150, NULL, NULL);
    assert_true(m.refused && !m.discards);
    model_free(&m);
    block_destroy(b);
    end_nbdkit(pid);
}

static void the_last_partial_sector_is_padded(void **state)
{
    (void)state;
    need("nbdkit");
    pid_t pid = start_nbdkit((char *[]){"pattern", "1000", NULL});
    struct block *b;
    struct error err;
    u8 bytes[1024];
    static const u8 zeroes[24];
    assert_true(try_open(address(), false, &b, &err) < 0); /* a pattern can't be written */
    assert_non_null(strstr(err.text, "take it with ro"));
    assert_int_equal(try_open(address(), true, &b, &err), 0);
    assert_int_equal(b->size, 1024);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(block_read(b, 0, bytes, 1024), 0);
    assert_memory_equal(bytes + 1000, zeroes, 24);
    assert_int_equal(bytes[999], 992 & 0xff);
    assert_int_equal(bytes[998], 992 >> 8);
    assert_int_equal(block_write(b, 0, bytes, 512), -EROFS);
    block_destroy(b);
    end_nbdkit(pid);
}

struct seen {
    atomic_uint begun, ended;
};

static void on_stalled(void *ctx, bool stalled, const char *path)
{
    struct seen *s = ctx;
    (void)path;
    atomic_fetch_add(stalled ? &s->begun : &s->ended, 1);
}

static void *remove_when_stalled(void *arg)
{
    struct seen *s = arg;
    for (unsigned i = 0; i < 1000 && !atomic_load(&s->begun); i++)
        pause_a_little();
    unlink(name("full"));
    return NULL;
}

static void a_full_server_is_waited_for(void **state)
{
    (void)state;
    need("nbdkit");
    char file[256];
    snprintf(file, sizeof(file), "error-pwrite-file=%s", name("full"));
    int fd = open(name("full"), O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    pid_t pid = start_nbdkit((char *[]){"memory", "3M", "--filter=error", "error-pwrite=ENOSPC",
                                        "error-pwrite-rate=100%", file, NULL});
    struct seen seen = {0};
    struct block_options opt = {.path = address(), .stalled = on_stalled, .stalled_ctx = &seen};
    struct block *b;
    struct error err;
    pthread_t thread;
    u8 bytes[4096] = {1, 2, 3}, back[4096];
    assert_int_equal(block_open(&opt, &b, &err), 0);
    pthread_create(&thread, NULL, remove_when_stalled, &seen);
    assert_int_equal(block_write(b, 8192, bytes, sizeof(bytes)), 0);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&seen.begun), 1);
    assert_int_equal(atomic_load(&seen.ended), 1);
    assert_int_equal(block_read(b, 8192, back, sizeof(back)), 0);
    assert_memory_equal(bytes, back, sizeof(bytes));
    block_destroy(b);
    end_nbdkit(pid);
}

static void a_lost_server_is_an_error(void **state)
{
    (void)state;
    need("nbdkit");
    pid_t pid = start_nbdkit((char *[]){"memory", "3M", NULL});
    struct block *b = open_image(address());
    struct error err;
    u8 bytes[512];
    assert_int_equal(block_read(b, 0, bytes, 512), 0);
    end_nbdkit(pid);
    assert_true(block_read(b, 0, bytes, 512) < 0);
    assert_true(block_write(b, 0, bytes, 512) < 0);
    assert_true(block_flush(b) < 0);
    block_destroy(b);
    assert_true(try_open(address(), false, &b, &err) < 0);
    assert_non_null(strstr(err.text, address()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_follow_model),
        cmocka_unit_test(snapshots_leave_the_image),
        cmocka_unit_test(what_cannot_be_served_is_said),
        cmocka_unit_test(a_server_ends_with_its_process),
        cmocka_unit_test(an_address_follows_model),
        cmocka_unit_test(a_server_that_can_only_read_and_write),
        cmocka_unit_test(the_last_partial_sector_is_padded),
        cmocka_unit_test(a_full_server_is_waited_for),
        cmocka_unit_test(a_lost_server_is_an_error),
    };
    if (!mkdtemp(directory))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    shell("rm -rf '%s'", directory);
    return failed;
}
