/*
 * Disk images in files: the raw back end through io_uring and through threads, and the overlay,
 * against a model; what they refuse; ends of odd files; locks; what block_open() makes of a path.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "block_model.h"
#include "host/block_impl.h"

#define SIZE (3 * MIB)

/* A file of random bytes, in the current folder's build/, whose system is a real one. */
struct file {
    char path[64];
    u64 size;
};

static struct file make_file(u64 size)
{
    struct file f = {"build/test-block-XXXXXX", size};
    int fd = mkstemp(f.path);
    assert_true(fd >= 0);
    u8 block[4096];
    for (u64 at = 0; at < size; at += sizeof(block)) {
        u64 n = MIN(sizeof(block), size - at);
        for (u64 i = 0; i < n; i++)
            block[i] = (u8)(at / 512 * 7 + i * 13 + 1);
        assert_int_equal(pwrite(fd, block, n, (off_t)at), (ssize_t)n);
    }
    close(fd);
    return f;
}

static struct block *open_raw(const struct file *f, enum block_engine engine, bool read_only)
{
    struct block_options opt = {.path = f->path, .read_only = read_only};
    struct block *b = NULL;
    struct error err;
    int fd = open(f->path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    assert_true(fd >= 0);
    if (block_raw_create(&opt, fd, f->size, engine, &b, &err) < 0) {
        unlink(f->path);
        if (engine == BLOCK_ENGINE_URING) {
            print_message("no io_uring here: %s\n", err.text);
            skip();
        }
        fail_msg("%s", err.text);
    }
    return b;
}

static struct block *open_path(const char *path, bool read_only, bool snapshot)
{
    struct block_options opt = {.path = path, .read_only = read_only, .snapshot = snapshot};
    struct block *b = NULL;
    struct error err;
    if (block_open(&opt, &b, &err) < 0)
        fail_msg("%s", err.text);
    return b;
}

/* Lets the host forget the file's pages, so that reads take each of the ways. */
static void drop_cache(void *ctx)
{
    const struct file *f = ctx;
    int fd = open(f->path, O_RDONLY);
    assert_true(fd >= 0);
    fdatasync(fd);
    posix_fadvise(fd, (off_t)(rand() % f->size & ~4095ULL), 300000, POSIX_FADV_DONTNEED);
    close(fd);
}

static void compare_file(const struct file *f, const struct model *m)
{
    u8 *bytes = calloc(1, m->size);
    int fd = open(f->path, O_RDONLY);
    assert_true(fd >= 0 && bytes);
    assert_true(pread(fd, bytes, m->size, 0) >= (ssize_t)f->size);
    assert_memory_equal(bytes, m->bytes, m->size);
    close(fd);
    free(bytes);
}

static void raw_follows_model(enum block_engine engine, u64 size)
{
    struct file f = make_file(size);
    struct block *b = open_raw(&f, engine, false);
    struct model m;
    model_init(&m, b, size + engine);
    model_run(&m, 3000, drop_cache, &f);
    assert_int_equal(block_flush(b), 0);
    block_drain(b);
    block_destroy(b);
    compare_file(&f, &m);
    model_free(&m);
    unlink(f.path);
}

static void uring_follows_model(void **state)
{
    (void)state;
    raw_follows_model(BLOCK_ENGINE_URING, SIZE);
}

/* libc's, which the ring asks whether the file's system can write without waiting: this one could,
 * but has to wait now. */
static bool can_write_now;

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    errno = EAGAIN;
    return can_write_now ? -1 : syscall(SYS_pwritev2, fd, iov, n, offset, 0, flags);
}

static void uring_with_writes_in_the_ring_follows_model(void **state)
{
    (void)state;
    can_write_now = true;
    raw_follows_model(BLOCK_ENGINE_URING, SIZE + 100);
    can_write_now = false;
}

static void threads_follow_model(void **state)
{
    (void)state;
    raw_follows_model(BLOCK_ENGINE_THREADS, SIZE);
}

static void uring_with_an_odd_end(void **state)
{
    (void)state;
    raw_follows_model(BLOCK_ENGINE_URING, SIZE + 100);
}

static void threads_with_an_odd_end(void **state)
{
    (void)state;
    raw_follows_model(BLOCK_ENGINE_THREADS, SIZE + 100);
}

static void memory_follows_model(void **state)
{
    (void)state;
    struct block *b = block_memory(SIZE);
    struct model m;
    model_init(&m, b, 1);
    model_run(&m, 2000, NULL, NULL);
    model_free(&m);
    block_destroy(b);
}

static void overlay_follows_model_and_leaves_the_image(void **state)
{
    (void)state;
    for (u64 odd = 0; odd < 200; odd += 100) {
        struct file f = make_file(SIZE + odd);
        struct block *b = open_path(f.path, false, true);
        struct model before, m;
        model_init(&before, b, 2);
        model_init(&m, b, 3);
        model_run(&m, 3000, NULL, NULL);
        compare_file(&f, &before);
        model_free(&before);
        model_free(&m);
        block_destroy(b);
        struct stat st;
        stat(f.path, &st);
        assert_int_equal(st.st_size, f.size);
        unlink(f.path);
    }
}

static void a_read_only_snapshot_cannot_be_written(void **state)
{
    (void)state;
    struct file f = make_file(4096);
    u8 sector[512] = {0};
    struct block *b = open_path(f.path, true, true);
    assert_int_equal(block_write(b, 0, sector, 512), -EROFS);
    block_destroy(b);
    unlink(f.path);
}

static void the_last_partial_sector_is_padded(void **state)
{
    (void)state;
    for (enum block_engine e = BLOCK_ENGINE_ANY; e <= BLOCK_ENGINE_THREADS; e++) {
        struct file f = make_file(1000);
        struct block *b = open_raw(&f, e, false);
        u8 bytes[1024], expected[1024];
        assert_int_equal(b->size, 1024);
        for (unsigned i = 0; i < 1024; i++)
            expected[i] = i < 1000 ? (u8)(i * 13 + 1) : 0;
        memset(bytes, 0xff, sizeof(bytes));
        assert_int_equal(block_read(b, 0, bytes, 1024), 0);
        assert_memory_equal(bytes, expected, 1024);
        memset(bytes, 0xff, sizeof(bytes));
        assert_int_equal(block_read(b, 512, bytes, 512), 0);
        assert_memory_equal(bytes, expected + 512, 512);
        memset(bytes, 0x77, sizeof(bytes));
        assert_int_equal(block_write(b, 512, bytes, 512), 0);
        assert_int_equal(block_read(b, 512, bytes + 512, 512), 0);
        assert_memory_equal(bytes, bytes + 512, 512);
        block_destroy(b);
        unlink(f.path);
    }
}

static int submit_wait(struct block *b, struct block_request *r)
{
    struct model m = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct model_slot s = {.m = &m};
    r->done = model_done;
    r->ctx = &s;
    block_submit(b, r);
    pthread_mutex_lock(&m.lock);
    while (!s.ended)
        pthread_cond_wait(&m.changed, &m.lock);
    pthread_mutex_unlock(&m.lock);
    return s.result;
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    struct file f = make_file(8192);
    u8 buffer[1024];
    struct iovec iov = {buffer, 512};
    static const struct {
        u64 offset, length;
        unsigned niov;
    } bad[] = {
        {1, 512, 1},
        {0, 511, 1},
        {8192, 512, 1},
        {8192 - 512, 1024, 1},
        {~0ULL & ~511ULL, 512, 1},
        {512, ~0ULL & ~511ULL, 1},
        {0, 1024, 1}, /* more than the memory */
        {0, 512, 0},
    };
    struct block *b = open_raw(&f, BLOCK_ENGINE_ANY, false);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        for (enum block_op op = BLOCK_READ; op <= BLOCK_WRITE; op++) {
            struct block_request r = {.op = op,
                                      .offset = bad[i].offset,
                                      .length = bad[i].length,
                                      .iov = &iov,
                                      .niov = bad[i].niov};
            assert_int_equal(submit_wait(b, &r), -EINVAL);
        }
    struct block_request past = {.op = BLOCK_DISCARD, .offset = 4096, .length = 8192};
    assert_int_equal(submit_wait(b, &past), -EINVAL);
    struct block_request nothing = {.op = BLOCK_WRITE, .offset = 8192};
    assert_int_equal(submit_wait(b, &nothing), 0);
    block_destroy(b);
    b = open_raw(&f, BLOCK_ENGINE_ANY, true);
    for (enum block_op op = BLOCK_WRITE; op <= BLOCK_WRITE_ZEROES; op++) {
        struct block_request r = {.op = op, .length = 512, .iov = &iov, .niov = 1};
        assert_int_equal(submit_wait(b, &r), op == BLOCK_FLUSH ? 0 : -EROFS);
    }
    assert_int_equal(block_read(b, 0, buffer, 512), 0);
    block_destroy(b);
    unlink(f.path);
}

static void more_pieces_than_the_kernel_takes(void **state)
{
    (void)state;
    enum { N = 3000 };
    for (enum block_engine e = BLOCK_ENGINE_ANY; e <= BLOCK_ENGINE_THREADS; e++) {
        struct file f = make_file(N * 512);
        struct block *b = open_raw(&f, e, false);
        u8 *from = malloc(N * 512), *to = malloc(N * 512);
        struct iovec *iov = calloc(N, sizeof(*iov));
        assert_true(from && to && iov);
        for (unsigned i = 0; i < N * 512; i++)
            from[i] = (u8)(i * 31 >> 5);
        for (unsigned i = 0; i < N; i++)
            iov[i] = (struct iovec){from + i * 512, 512};
        struct block_request r = {.op = BLOCK_WRITE, .length = N * 512, .iov = iov, .niov = N};
        assert_int_equal(submit_wait(b, &r), 0);
        for (unsigned i = 0; i < N; i++)
            iov[i].iov_base = to + i * 512;
        r.op = BLOCK_READ;
        assert_int_equal(submit_wait(b, &r), 0);
        assert_memory_equal(from, to, N * 512);
        free(from);
        free(to);
        free(iov);
        block_destroy(b);
        unlink(f.path);
    }
}

/* At its next start the guest would be shown files of the host. */
static void a_raw_image_cannot_become_another_format(void **state)
{
    (void)state;
    struct file f = make_file(4096);
    u8 sector[1024] = "QFI\xfb\0\0\0\3", old[512];
    struct block *b = open_path(f.path, false, false);
    assert_int_equal(block_read(b, 0, old, 512), 0);
    assert_int_equal(block_write(b, 0, sector, 1024), -EPERM);
    assert_int_equal(block_write(b, 512, sector, 512), 0);
    assert_int_equal(block_read(b, 0, sector, 512), 0);
    assert_memory_equal(sector, old, 512);
    block_destroy(b);
    unlink(f.path);
}

static void formats_are_recognized(void **state)
{
    (void)state;
    u8 head[BLOCK_PROBE_SIZE] = {0};
    assert_null(block_probe(head));
    memcpy(head, "QFI\xfb\0\0\0\1", 8);
    assert_string_equal(block_probe(head), "qcow");
    head[7] = 2;
    assert_string_equal(block_probe(head), "qcow2");
    memcpy(head, "KDMV", 4);
    assert_string_equal(block_probe(head), "vmdk");
    memcpy(head, "vhdxfile", 8);
    assert_string_equal(block_probe(head), "vhdx");
    memset(head, 0, 8);
    memcpy(head + 64, "\x7f\x10\xda\xbe", 4);
    assert_string_equal(block_probe(head), "vdi");
}

static bool can_open(const char *path, bool read_only, bool snapshot, struct error *err)
{
    struct block_options opt = {.path = path, .read_only = read_only, .snapshot = snapshot};
    struct block *b;
    if (block_open(&opt, &b, err) < 0)
        return false;
    block_destroy(b);
    return true;
}

static void an_image_has_one_writer_or_readers(void **state)
{
    (void)state;
    struct file f = make_file(4096);
    struct error err = {""};
    struct block *writer = open_path(f.path, false, false);
    assert_false(can_open(f.path, false, false, &err));
    assert_non_null(strstr(err.text, f.path));
    assert_non_null(strstr(err.text, "another program uses this image"));
    assert_false(can_open(f.path, true, false, &err));
    assert_non_null(strstr(err.text, "another program writes to this image"));
    assert_false(can_open(f.path, false, true, &err));
    block_destroy(writer);
    struct block *reader = open_path(f.path, true, false);
    assert_true(can_open(f.path, true, false, &err));
    assert_true(can_open(f.path, false, true, &err));
    assert_false(can_open(f.path, false, false, &err));
    block_destroy(reader);
    assert_true(can_open(f.path, false, false, &err));
    unlink(f.path);
}

/* QEMU's tools: qemu-io opens as a guest's disk would be. */
static void qemu_and_we_see_each_other(void **state)
{
    (void)state;
    struct file f = make_file(4096);
    char command[256];
    struct error err;
    if (system("command -v qemu-io > build/test-block.out 2>&1") != 0) {
        unlink(f.path);
        skip();
    }
    snprintf(command, sizeof(command),
             "qemu-io -f raw -c 'read 0 512' %s > build/test-block.out 2>&1", f.path);
    struct block *b = open_path(f.path, false, false);
    assert_int_not_equal(system(command), 0);
    block_destroy(b);
    b = open_path(f.path, true, false);
    assert_int_not_equal(system(command), 0); /* it opens for writing */
    block_destroy(b);
    assert_int_equal(system(command), 0);
    /* It keeps the image until its standard input ends, and has it when it asks for a command. */
    snprintf(command, sizeof(command), "qemu-io -f raw %s > build/test-block.out 2>&1", f.path);
    FILE *user = popen(command, "w");
    assert_non_null(user);
    bool seen = false;
    for (unsigned i = 0; i < 3000 && !seen; i++) {
        usleep(10000);
        seen = system("grep -q 'qemu-io>' build/test-block.out") == 0;
    }
    assert_true(seen);
    assert_false(can_open(f.path, true, false, &err));
    assert_false(can_open(f.path, false, false, &err));
    pclose(user);
    assert_true(can_open(f.path, false, false, &err));
    unlink("build/test-block.out");
    unlink(f.path);
}

static void opening_says_what_is_wrong(void **state)
{
    (void)state;
    struct file f = make_file(0);
    struct error err;
    assert_false(can_open("/nonexistent/disk", false, false, &err));
    assert_string_equal(err.text, "/nonexistent/disk: No such file or directory");
    assert_false(can_open("/tmp", false, false, &err));
    assert_string_equal(err.text, "/tmp: is a directory; name an image");
    assert_false(can_open("/dev/null", false, false, &err));
    assert_string_equal(err.text, "/dev/null: is neither a file nor a block device");
    assert_false(can_open(f.path, false, false, &err));
    assert_non_null(strstr(err.text, "is empty"));
    unlink(f.path);
    f = make_file(512);
    setenv("TMPDIR", "/nonexistent/tmp", 1);
    assert_false(can_open(f.path, false, true, &err));
    assert_non_null(strstr(err.text, "set TMPDIR"));
    unsetenv("TMPDIR");
    if (geteuid() != 0) { /* root may */
        chmod(f.path, 0400);
        assert_false(can_open(f.path, false, false, &err));
        assert_non_null(strstr(err.text, "may not be written"));
        assert_true(can_open(f.path, true, false, &err));
        chmod(f.path, 0);
        assert_false(can_open(f.path, true, false, &err));
        assert_non_null(strstr(err.text, "Permission denied"));
    }
    unlink(f.path);
}

/* cachestat(2), of Linux 6.5, which has no wrapper in libc yet. */
#define SYS_CACHESTAT 451

struct cache_pages {
    u64 cached, dirty, writeback, evicted, recently_evicted;
};

static bool count_pages(const struct file *f, struct cache_pages *pages)
{
    struct {
        u64 offset, length;
    } range = {0, f->size};
    int fd = open(f->path, O_RDONLY);
    assert_true(fd >= 0);
    bool able = syscall(SYS_CACHESTAT, fd, &range, pages, 0) == 0;
    close(fd);
    return able;
}

static void a_flush_ends_when_all_is_written_out(void **state)
{
    (void)state;
    u8 *bytes = calloc(1, SIZE);
    struct cache_pages pages;
    bool tried = false;
    for (enum block_engine e = BLOCK_ENGINE_ANY; e <= BLOCK_ENGINE_THREADS; e++) {
        struct file f = make_file(SIZE);
        struct block *b = open_raw(&f, e, false);
        assert_int_equal(block_write(b, 0, bytes, SIZE), 0);
        if (count_pages(&f, &pages) && pages.dirty) {
            tried = true;
            assert_int_equal(block_flush(b), 0);
            assert_true(count_pages(&f, &pages));
            assert_int_equal(pages.dirty + pages.writeback, 0);
        }
        block_destroy(b);
        unlink(f.path);
    }
    free(bytes);
    if (!tried)
        skip();
}

/* libc's, which the back end calls, as long as the host's disk is good. */
static bool disk_is_bad;

int fdatasync(int fd)
{
    errno = EIO;
    return disk_is_bad ? -1 : (int)syscall(SYS_fdatasync, fd);
}

/* The kernel drops what it can't write, and the next fdatasync() succeeds. */
static void no_flush_succeeds_after_one_that_failed(void **state)
{
    (void)state;
    struct file f = make_file(4096);
    struct block *b = open_raw(&f, BLOCK_ENGINE_THREADS, false);
    assert_int_equal(block_flush(b), 0);
    disk_is_bad = true;
    assert_int_equal(block_flush(b), -EIO);
    disk_is_bad = false;
    assert_int_equal(block_flush(b), -EIO);
    block_destroy(b);
    unlink(f.path);
}

/* A loop device, which only root can make. */
static void a_block_device_follows_model(void **state)
{
    (void)state;
    struct file f = make_file(SIZE);
    char command[256], device[64] = "";
    snprintf(command, sizeof(command), "losetup -f --show %s 2> build/test-block.out", f.path);
    FILE *losetup = popen(command, "r");
    assert_non_null(losetup);
    bool made = fscanf(losetup, "%63s", device) == 1;
    pclose(losetup);
    unlink("build/test-block.out");
    if (!made) {
        unlink(f.path);
        skip();
    }
    struct block *b = open_path(device, false, false);
    struct error err;
    struct model m;
    assert_int_equal(b->size, SIZE);
    assert_false(can_open(device, false, false, &err));
    model_init(&m, b, 5);
    model_run(&m, 2000, NULL, NULL);
    assert_int_equal(block_flush(b), 0);
    block_destroy(b);
    compare_file(&f, &m);
    model_free(&m);
    snprintf(command, sizeof(command), "losetup -d %s", device);
    assert_int_equal(system(command), 0);
    unlink(f.path);
}

/* A request whose callback submits the next one: a drain waits for all. */
struct chain {
    struct block_request r;
    struct block *b;
    struct iovec iov;
    u8 sector[512];
    unsigned left;
};

static void next_of_chain(struct block_request *r, int result)
{
    struct chain *c = r->ctx;
    if (result == 0 && --c->left)
        block_submit(c->b, r);
}

static void drain_waits_for_requests_of_callbacks(void **state)
{
    (void)state;
    for (enum block_engine e = BLOCK_ENGINE_ANY; e <= BLOCK_ENGINE_THREADS; e++) {
        struct file f = make_file(4096);
        struct block *b = open_raw(&f, e, false);
        struct chain c = {.b = b, .left = 500};
        c.iov = (struct iovec){c.sector, 512};
        c.r = (struct block_request){.op = BLOCK_WRITE,
                                     .length = 512,
                                     .iov = &c.iov,
                                     .niov = 1,
                                     .done = next_of_chain,
                                     .ctx = &c};
        block_submit(b, &c.r);
        block_drain(b);
        assert_int_equal(c.left, 0);
        block_destroy(b);
        unlink(f.path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uring_follows_model),
        cmocka_unit_test(uring_with_writes_in_the_ring_follows_model),
        cmocka_unit_test(threads_follow_model),
        cmocka_unit_test(uring_with_an_odd_end),
        cmocka_unit_test(threads_with_an_odd_end),
        cmocka_unit_test(memory_follows_model),
        cmocka_unit_test(overlay_follows_model_and_leaves_the_image),
        cmocka_unit_test(a_read_only_snapshot_cannot_be_written),
        cmocka_unit_test(the_last_partial_sector_is_padded),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(more_pieces_than_the_kernel_takes),
        cmocka_unit_test(a_raw_image_cannot_become_another_format),
        cmocka_unit_test(formats_are_recognized),
        cmocka_unit_test(an_image_has_one_writer_or_readers),
        cmocka_unit_test(qemu_and_we_see_each_other),
        cmocka_unit_test(opening_says_what_is_wrong),
        cmocka_unit_test(a_flush_ends_when_all_is_written_out),
        cmocka_unit_test(no_flush_succeeds_after_one_that_failed),
        cmocka_unit_test(a_block_device_follows_model),
        cmocka_unit_test(drain_waits_for_requests_of_callbacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
