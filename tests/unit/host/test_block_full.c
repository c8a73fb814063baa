/*
 * A full disk of the host: in a mount namespace of our own, on a small file system in memory. The
 * write waits, the user is told, and it ends well once there is space; or fails when the run is
 * given up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "host/block_impl.h"

#define DISK    (8 * MIB) /* the host has 4 MiB */
#define LENGTH  (1 * MIB)
#define BALLAST "ballast"

static bool have_disk;

struct seen {
    atomic_uint begun, ended;
    char path[256];
};

static void on_stalled(void *ctx, bool stalled, const char *path)
{
    struct seen *s = ctx;
    snprintf(s->path, sizeof(s->path), "%s", path);
    atomic_fetch_add(stalled ? &s->begun : &s->ended, 1);
}

struct write {
    struct block_request r;
    struct iovec iov[2];
    u8 *bytes;
    atomic_bool ended;
    int result;
};

static void on_done(struct block_request *r, int result)
{
    struct write *w = r->ctx;
    w->result = result;
    atomic_store(&w->ended, true);
}

static void start(struct block *b, struct write *w, enum block_op op, unsigned n)
{
    *w = (struct write){.bytes = malloc(LENGTH)};
    assert_non_null(w->bytes);
    memset(w->bytes, (int)n + 1, LENGTH);
    w->iov[0] = (struct iovec){w->bytes, 10000};
    w->iov[1] = (struct iovec){w->bytes + 10000, LENGTH - 10000};
    w->r = (struct block_request){.op = op,
                                  .offset = n * LENGTH,
                                  .length = LENGTH,
                                  .iov = w->iov,
                                  .niov = 2,
                                  .done = on_done,
                                  .ctx = w};
    block_submit(b, &w->r);
}

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){0, 5 * 1000 * 1000}, NULL);
}

static void wait_for(atomic_uint *counter, unsigned n)
{
    for (unsigned i = 0; i < 6000 && atomic_load(counter) < n; i++)
        pause_a_little();
    assert_int_equal(atomic_load(counter), n);
}

static void wait_ended(struct write *w)
{
    for (unsigned i = 0; i < 6000 && !atomic_load(&w->ended); i++)
        pause_a_little();
    assert_true(atomic_load(&w->ended));
}

static void fill_host(u64 size)
{
    static u8 bytes[64 * 1024];
    int fd = open(BALLAST, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    assert_true(fd >= 0);
    for (u64 at = 0; at < size; at += sizeof(bytes))
        assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    close(fd);
}

static int open_sparse(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK), 0);
    return fd;
}

static struct block *open_raw(enum block_engine engine, struct seen *seen)
{
    struct block_options opt = {.path = "disk", .stalled = on_stalled, .stalled_ctx = seen};
    struct block *b = NULL;
    struct error err;
    if (block_raw_create(&opt, open_sparse("disk"), DISK, engine, &b, &err) < 0) {
        assert_int_equal(engine, BLOCK_ENGINE_URING);
        skip();
    }
    return b;
}

static void check_contents(struct block *b, struct write *w, unsigned n)
{
    u8 *bytes = malloc(LENGTH);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(block_read(b, i * LENGTH, bytes, LENGTH), 0);
        assert_memory_equal(bytes, w[i].bytes, LENGTH);
    }
    free(bytes);
}

/* Three writes of 1 MiB where there is room for two. */
static void writes_wait_for_space(struct block *b, struct seen *seen)
{
    struct write w[3];
    fill_host(2 * MIB);
    for (unsigned i = 0; i < 3; i++)
        start(b, &w[i], BLOCK_WRITE, i);
    wait_for(&seen->begun, 1);
    assert_int_equal(atomic_load(&seen->ended), 0);
    /* Reads go on. */
    u8 sector[512];
    assert_int_equal(block_read(b, DISK - 512, sector, 512), 0);
    unlink(BALLAST);
    for (unsigned i = 0; i < 3; i++) {
        wait_ended(&w[i]);
        assert_int_equal(w[i].result, 0);
    }
    wait_for(&seen->ended, 1);
    assert_int_equal(atomic_load(&seen->begun), 1);
    assert_int_equal(block_flush(b), 0);
    check_contents(b, w, 3);
    for (unsigned i = 0; i < 3; i++)
        free(w[i].bytes);
}

static void raw_waits(enum block_engine engine)
{
    if (!have_disk)
        skip();
    struct seen seen = {0};
    struct block *b = open_raw(engine, &seen);
    writes_wait_for_space(b, &seen);
    assert_string_equal(seen.path, "disk");
    block_destroy(b);
    unlink("disk");
}

static void uring_waits_for_space(void **state)
{
    (void)state;
    raw_waits(BLOCK_ENGINE_URING);
}

static void threads_wait_for_space(void **state)
{
    (void)state;
    raw_waits(BLOCK_ENGINE_THREADS);
}

static void giving_up(enum block_engine engine)
{
    if (!have_disk)
        skip();
    struct seen seen = {0};
    struct block *b = open_raw(engine, &seen);
    struct write w[2];
    fill_host(4 * MIB - 256 * KIB);
    start(b, &w[0], BLOCK_WRITE, 0);
    start(b, &w[1], BLOCK_WRITE_ZEROES, 1);
    wait_for(&seen.begun, 1);
    block_stop(b);
    block_drain(b);
    assert_true(atomic_load(&w[0].ended) && atomic_load(&w[1].ended));
    assert_int_equal(w[0].result, -ENOSPC);
    wait_for(&seen.ended, 1);
    free(w[0].bytes);
    start(b, &w[0], BLOCK_WRITE, 2); /* later ones don't wait */
    block_drain(b);
    assert_int_equal(w[0].result, -ENOSPC);
    assert_int_equal(atomic_load(&seen.begun), 1);
    block_destroy(b);
    for (unsigned i = 0; i < 2; i++)
        free(w[i].bytes);
    unlink(BALLAST);
    unlink("disk");
}

static void uring_gives_up(void **state)
{
    (void)state;
    giving_up(BLOCK_ENGINE_URING);
}

static void threads_give_up(void **state)
{
    (void)state;
    giving_up(BLOCK_ENGINE_THREADS);
}

static void an_overlay_waits_for_space(void **state)
{
    (void)state;
    if (!have_disk)
        skip();
    struct seen seen = {0};
    struct block_options opt = {
        .path = "disk", .snapshot = true, .stalled = on_stalled, .stalled_ctx = &seen};
    struct block *b;
    struct error err;
    close(open_sparse("disk"));
    setenv("TMPDIR", ".", 1);
    assert_int_equal(block_open(&opt, &b, &err), 0);
    unsetenv("TMPDIR");
    writes_wait_for_space(b, &seen);
    assert_string_equal(seen.path, ". (snapshot=on of disk)");
    block_destroy(b);
    unlink("disk");
}

/* A file system of 4 MiB, seen by this process only. */
static bool mount_small_disk(char *directory)
{
    if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return false;
    return mkdtemp(directory) && mount("none", directory, "tmpfs", 0, "size=4m") == 0 &&
           chdir(directory) == 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uring_waits_for_space),
        cmocka_unit_test(threads_wait_for_space),
        cmocka_unit_test(uring_gives_up),
        cmocka_unit_test(threads_give_up),
        cmocka_unit_test(an_overlay_waits_for_space),
    };
    char directory[] = "/tmp/ringer-full-XXXXXX";
    have_disk = mount_small_disk(directory);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (chdir("/") == 0) {
        umount2(directory, MNT_DETACH);
        rmdir(directory);
    }
    return failed;
}
