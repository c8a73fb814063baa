/*
 * First process of a small guest that does nothing but use a disk, and the checker of what it did.
 * The kernel command line says what to do: disk.run=sync    writes blocks, each once, each on
 * stable storage before its number is printed; until killed disk.run=bench   measures reads and
 * writes past the page cache, and powers off disk.dev=NAME    the disk: vda or sda disk.how=HOW for
 * sync: dsync (O_DSYNC), direct (O_DIRECT and O_DSYNC) or fsync (after each write) disk.tag=N for
 * sync: goes into each block, so that one of an earlier run is no match disk.ms=N        for bench:
 * how long each measurement takes disk check IMAGE TAG CONSOLE   on the host: every block whose
 * number is in CONSOLE must be in IMAGE
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BLOCK      4096
#define WRITERS    4
#define PER_WRITER 4096
#define SEQUENTIAL (1 << 20)

static void fill(uint64_t *words, uint64_t tag, uint64_t number)
{
    uint64_t x = (tag << 32) + number + 1;
    for (unsigned i = 0; i < BLOCK / 8; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        words[i] = x;
    }
}

/* Where block `number` is: writers do not follow each other's blocks, nor their own. */
static off_t place(uint64_t number)
{
    return (off_t)(number * 40503 % (WRITERS * PER_WRITER)) * BLOCK;
}

static int check(const char *image, uint64_t tag, const char *console)
{
    static uint64_t want[BLOCK / 8], got[BLOCK / 8];
    char line[256];
    unsigned acknowledged = 0, lost = 0;
    int fd = open(image, O_RDONLY);
    FILE *f = fopen(console, "r");
    if (fd < 0 || !f) {
        perror(fd < 0 ? image : console);
        return 2;
    }
    while (fgets(line, sizeof(line), f)) {
        unsigned long long number;
        char end;
        /* A line that the kill cut off has no end, and says nothing. */
        if (sscanf(line, "synced %llu%c", &number, &end) != 2 || (end != '\r' && end != '\n'))
            continue;
        acknowledged++;
        fill(want, tag, number);
        if (pread(fd, got, BLOCK, place(number)) != BLOCK || memcmp(want, got, BLOCK) != 0) {
            lost++;
            printf("lost: block %llu\n", number);
        }
    }
    printf("acknowledged %u lost %u\n", acknowledged, lost);
    return lost != 0;
}

/* A line on the console, in one write. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[256];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    if (write(1, line, (size_t)n) != n)
        _exit(1);
}

_Noreturn static void end(const char *format, const char *what)
{
    say(format, what, strerror(errno));
    sync();
    reboot(RB_POWER_OFF);
    _exit(1);
}

/* The value of NAME=VALUE on the kernel command line. */
static const char *parameter(const char *name, const char *other)
{
    static char text[4096];
    int fd = open("/proc/cmdline", O_RDONLY);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    size_t length = strlen(name);
    for (char *word = strtok(text, " \n"); word; word = strtok(NULL, " \n"))
        if (strncmp(word, name, length) == 0 && word[length] == '=')
            return strdup(word + length + 1);
    return other;
}

static void load_modules(void)
{
    char path[128];
    FILE *list = fopen("/modules/list", "r");
    while (list && fscanf(list, "%100s", path) == 1) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
            end("disk: cannot load %s: %s\n", path);
        close(fd);
    }
}

static char device[64];

static int open_disk(int flags)
{
    /* The disk is found some time after its driver is loaded. */
    for (int i = 0; i < 2000; i++) {
        int fd = open(device, flags | O_CLOEXEC);
        if (fd >= 0)
            return fd;
        usleep(5000);
    }
    end("disk: cannot open %s: %s\n", device);
}

struct sync_writer {
    unsigned first;
    uint64_t tag;
    int flags;
    int by_fsync;
};

static void *write_synced(void *opaque)
{
    struct sync_writer *w = opaque;
    int fd = open_disk(O_WRONLY | w->flags);
    void *block = aligned_alloc(BLOCK, BLOCK);
    for (unsigned i = 0; i < PER_WRITER; i++) {
        unsigned number = w->first + i * WRITERS;
        fill(block, w->tag, number);
        if (pwrite(fd, block, BLOCK, place(number)) != BLOCK || (w->by_fsync && fsync(fd) != 0))
            end("disk: cannot write %s: %s\n", device);
        say("synced %u\n", number);
    }
    return NULL;
}

static void run_sync(void)
{
    const char *how = parameter("disk.how", "dsync");
    struct sync_writer w[WRITERS];
    pthread_t thread[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        w[i] =
            (struct sync_writer){.first = i, .tag = strtoull(parameter("disk.tag", "0"), NULL, 10)};
        w[i].by_fsync = strcmp(how, "fsync") == 0;
        w[i].flags = w[i].by_fsync ? 0 : O_DSYNC;
        if (strcmp(how, "direct") == 0)
            w[i].flags |= O_DIRECT;
        pthread_create(&thread[i], NULL, write_synced, &w[i]);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(thread[i], NULL);
}

/* --- the benchmark --- */

struct load {
    const char *name;
    int write, random;
    unsigned size, threads;
};

static const struct load loads[] = {
    {"seq-read", 0, 0, SEQUENTIAL, 1},   {"seq-write", 1, 0, SEQUENTIAL, 1},
    {"seq-read-4", 0, 0, SEQUENTIAL, 4}, {"seq-write-4", 1, 0, SEQUENTIAL, 4},
    {"random-read", 0, 1, BLOCK, 1},     {"random-write", 1, 1, BLOCK, 1},
    {"random-read-16", 0, 1, BLOCK, 16}, {"random-write-16", 1, 1, BLOCK, 16},
};

struct worker {
    const struct load *load;
    unsigned index;
    double until;
    off_t size;
    uint64_t done;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *work(void *opaque)
{
    struct worker *w = opaque;
    const struct load *l = w->load;
    int fd = open_disk((l->write ? O_WRONLY : O_RDONLY) | O_DIRECT);
    void *buffer = aligned_alloc(BLOCK, l->size);
    uint64_t x = 88172645463325252 + w->index, slots = (uint64_t)w->size / l->size;
    memset(buffer, 0x5a + (int)w->index, l->size);
    while (now() < w->until) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        uint64_t slot = (l->random ? x : w->done * l->threads + w->index) % slots;
        ssize_t n = l->write ? pwrite(fd, buffer, l->size, (off_t)(slot * l->size))
                             : pread(fd, buffer, l->size, (off_t)(slot * l->size));
        if (n != (ssize_t)l->size)
            end("disk: cannot use %s: %s\n", device);
        w->done++;
    }
    close(fd);
    free(buffer);
    return NULL;
}

/* Megabytes per second. */
static double measure(const struct load *load, off_t size, double seconds)
{
    struct worker w[16];
    pthread_t thread[16];
    uint64_t done = 0;
    double start = now();
    for (unsigned k = 0; k < load->threads; k++) {
        w[k] = (struct worker){load, k, start + seconds, size, 0};
        pthread_create(&thread[k], NULL, work, &w[k]);
    }
    for (unsigned k = 0; k < load->threads; k++) {
        pthread_join(thread[k], NULL);
        done += w[k].done;
    }
    return (double)(done * load->size) / (now() - start) / 1e6;
}

static void run_bench(void)
{
    const char *only = parameter("disk.only", "");
    double seconds = atof(parameter("disk.ms", "1000")) / 1000;
    int fd = open_disk(O_RDONLY);
    off_t size = lseek(fd, 0, SEEK_END);
    close(fd);
    for (unsigned i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
        if (*only && strcmp(only, loads[i].name) != 0)
            continue;
        measure(&loads[i], size, seconds / 4); /* what runs for the first time is translated */
        say("disk-bench %s %.1f\n", loads[i].name, measure(&loads[i], size, seconds));
    }
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "check") == 0)
        return check(argv[2], strtoull(argv[3], NULL, 10), argv[4]);
    if (getpid() != 1) {
        fprintf(stderr, "usage: disk check IMAGE TAG CONSOLE\n");
        return 2;
    }
    mkdir("/proc", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    load_modules();
    snprintf(device, sizeof(device), "/dev/%s", parameter("disk.dev", "vda"));
    if (strcmp(parameter("disk.run", "sync"), "bench") == 0)
        run_bench();
    else
        run_sync();
    errno = 0;
    end("disk: end of %s: %s\n", device);
}
