/*
 * The machine and its disks: a guest stands still while the host has no space for a disk, and can
 * be ended, reset and moved to another engine meanwhile; at the end what was submitted is in the
 * image. The guest counts in memory; the test plays the device and the back end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "mem/guestmem.h"
#include "vm/machine.h"

#define COUNTER    0x500
#define IMAGE_SIZE (4 << 20)

struct run {
    struct settings s;
    char kernel[40], image[40];
    struct vm *vm;
    pthread_t thread;
    struct vm_outcome outcome;
    int rc;
    struct error err;
};

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){0, 5 * 1000 * 1000}, NULL);
}

static void make_file(char *path, const void *bytes, size_t size, off_t length)
{
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    assert_int_equal(ftruncate(fd, length), 0);
    close(fd);
}

static void *run_vm(void *arg)
{
    struct run *r = arg;
    r->rc = vm_run(r->vm, &r->outcome, &r->err);
    return NULL;
}

static void create(struct run *r, const char *engine)
{
    static const u8 code[] = {0x66, 0xff, 0x06, 0x00, 0x05, /* inc dword [0x500] */
                              0xeb, 0xf9};                  /* and again */
    *r = (struct run){
        .s = {.engine = engine, .mem_size = 4 * MIB, .cpus = 1, .serial = "none", .slow_time = 1},
        .kernel = "/tmp/ringer-kernel-XXXXXX",
        .image = "/tmp/ringer-image-XXXXXX"};
    make_file(r->kernel, code, sizeof(code), sizeof(code));
    make_file(r->image, "", 0, IMAGE_SIZE);
    r->s.boot = (struct boot_options){
        .kernel = r->kernel, .raw = true, .raw_addr = 0x7c00, .raw_entry = 0x7c00};
    r->s.disks[0] = (struct disk_settings){.path = r->image, .interface = DISK_VIRTIO};
    r->s.ndisks = 1;
}

static void start(struct run *r)
{
    if (vm_create(&r->s, &r->vm, &r->err) < 0)
        fail_msg("%s", r->err.text);
    assert_int_equal(r->vm->disks.interface[0], DISK_VIRTIO);
    assert_int_equal(pthread_create(&r->thread, NULL, run_vm, r), 0);
}

static u32 counter(struct run *r)
{
    u32 value;
    assert_true(guestmem_read(r->vm->machine.mem, COUNTER, &value, sizeof(value)));
    return value;
}

static void wait_running(struct run *r)
{
    u32 before = counter(r);
    for (unsigned i = 0; i < 4000 && counter(r) == before; i++)
        pause_a_little();
    assert_int_not_equal(counter(r), before);
}

static void wait_parked(struct run *r)
{
    bool parked = false;
    for (unsigned i = 0; i < 4000 && !parked; i++) {
        pause_a_little();
        pthread_mutex_lock(&r->vm->lock);
        parked = r->vm->running && r->vm->parked == r->vm->running;
        pthread_mutex_unlock(&r->vm->lock);
    }
    assert_true(parked);
}

static void assert_still(struct run *r)
{
    wait_parked(r);
    u32 before = counter(r);
    for (unsigned i = 0; i < 10; i++)
        pause_a_little();
    assert_int_equal(counter(r), before);
}

static void join(struct run *r, enum outcome_kind kind)
{
    pthread_join(r->thread, NULL);
    assert_int_equal(r->rc, 0);
    assert_int_equal(r->outcome.kind, kind);
}

static void clean(struct run *r)
{
    vm_destroy(r->vm);
    unlink(r->kernel);
    unlink(r->image);
}

static void a_guest_waits_for_its_disks(void **state)
{
    (void)state;
    struct run r;
    create(&r, "interp");
    start(&r);
    wait_running(&r);
    vm_disk_stalled(r.vm, true, "a");
    assert_still(&r);
    vm_disk_stalled(r.vm, true, "b");
    vm_disk_stalled(r.vm, false, "a");
    assert_still(&r);
    vm_disk_stalled(r.vm, false, "b");
    wait_running(&r);
    vm_quit(r.vm);
    join(&r, OUTCOME_QUIT);
    clean(&r);
}

static void a_waiting_guest_can_be_ended(void **state)
{
    (void)state;
    struct run r;
    create(&r, "interp");
    start(&r);
    wait_running(&r);
    vm_disk_stalled(r.vm, true, "a");
    wait_parked(&r);
    vm_quit(r.vm);
    join(&r, OUTCOME_QUIT);
    clean(&r);

    create(&r, "interp");
    r.s.timeout = 0.5;
    start(&r);
    vm_disk_stalled(r.vm, true, "a");
    join(&r, OUTCOME_TIMEOUT);
    clean(&r);
}

static void a_waiting_guest_is_reset_later(void **state)
{
    (void)state;
    struct run r;
    create(&r, "interp");
    start(&r);
    wait_running(&r);
    vm_disk_stalled(r.vm, true, "a");
    wait_parked(&r);
    u32 mark = 0x80000000; /* a reset clears it */
    assert_true(guestmem_write(r.vm->machine.mem, COUNTER, &mark, sizeof(mark)));
    vm_post(r.vm, REQUEST_RESET);
    assert_still(&r);
    assert_int_equal(counter(&r), mark);
    vm_disk_stalled(r.vm, false, "a");
    for (unsigned i = 0; i < 4000 && counter(&r) >= mark; i++)
        pause_a_little();
    assert_true(counter(&r) < mark);
    wait_running(&r);
    vm_quit(r.vm);
    join(&r, OUTCOME_QUIT);
    clean(&r);
}

static void a_waiting_guest_changes_engine(void **state)
{
    (void)state;
    struct run r;
    struct error why;
    const struct engine_ops *bt = engine_find("bt");
    if (bt->probe(&why) < 0)
        skip();
    create(&r, "interp");
    r.s.switches[0] = (struct engine_switch){.after_seconds = 0.2, .engine = "bt"};
    r.s.nswitches = 1;
    start(&r);
    vm_disk_stalled(r.vm, true, "a");
    bool changed = false;
    for (unsigned i = 0; i < 4000 && !changed; i++) {
        pause_a_little();
        pthread_mutex_lock(&r.vm->lock);
        changed = r.vm->ops == bt;
        pthread_mutex_unlock(&r.vm->lock);
    }
    assert_true(changed);
    assert_still(&r);
    vm_disk_stalled(r.vm, false, "a");
    wait_running(&r);
    vm_quit(r.vm);
    join(&r, OUTCOME_QUIT);
    clean(&r);
}

struct chain {
    struct block_request r;
    struct block *b;
    struct iovec iov;
    u8 bytes[512];
};

/* A device that writes one sector after the other by itself. */
static void next_sector(struct block_request *r, int result)
{
    struct chain *c = r->ctx;
    r->offset += 512;
    if (result == 0 && r->offset < c->b->size)
        block_submit(c->b, r);
}

static void what_was_submitted_is_written_at_the_end(void **state)
{
    (void)state;
    struct run r;
    create(&r, "interp");
    start(&r);
    wait_running(&r);
    struct chain c = {.b = r.vm->disks.disk[0]};
    memset(c.bytes, 0x3c, sizeof(c.bytes));
    c.iov = (struct iovec){c.bytes, 512};
    c.r = (struct block_request){
        .op = BLOCK_WRITE, .length = 512, .iov = &c.iov, .niov = 1, .done = next_sector, .ctx = &c};
    block_submit(c.b, &c.r);
    vm_quit(r.vm);
    join(&r, OUTCOME_QUIT);
    u8 *bytes = malloc(IMAGE_SIZE);
    int fd = open(r.image, O_RDONLY);
    assert_true(fd >= 0 && bytes);
    assert_int_equal(read(fd, bytes, IMAGE_SIZE), IMAGE_SIZE);
    for (unsigned i = 0; i < IMAGE_SIZE; i++)
        assert_int_equal(bytes[i], 0x3c);
    close(fd);
    free(bytes);
    clean(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guest_waits_for_its_disks),
        cmocka_unit_test(a_waiting_guest_can_be_ended),
        cmocka_unit_test(a_waiting_guest_is_reset_later),
        cmocka_unit_test(a_waiting_guest_changes_engine),
        cmocka_unit_test(what_was_submitted_is_written_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
