/*
 * A driver of the IDE controller that is hostile, or mad. For each run there is a controller with
 * disks and CD-ROMs whose images end requests at once, later, or on a thread, and fail now and
 * then. The driver gives commands and packets that are right but for some fields, DMA tables of all
 * kinds, moves data or not, writes to all registers in all sizes, stops and resets in the middle of
 * everything; in some runs a second thread does the same. Looked at: that each request to an image
 * is one that its interface allows, and uses memory that is there; that no drive is busy without a
 * reason; and that at the end of a run, after a reset, a driver that keeps the rules reads what is
 * on the images.
 *
 *   fuzz_ide [--seed N] [--runs N]       a run is 1000 operations
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dev/ide.h"
#include "dev/pcmap.h"
#include "fuzz.h"

#define OPERATIONS   1000
#define RAM          (2 * MIB)
#define BMIDE        0xc000
#define TABLE        0x10000ULL /* DMA descriptors, 64 KiB of them */
#define DATA         0x40000ULL
#define UNITS        4
#define REQUEST_MAX  (256 * KIB) /* what the controller's buffer holds */
#define HANG_SECONDS 120

#define ST_ERR 0x01
#define ST_DRQ 0x08
#define ST_BSY 0x80

enum how { AT_ONCE, LATER, ON_THREAD };

struct image {
    struct block block;
    struct guest *g;
    u8 *data;
    struct block_request *held; /* under the guest's lock */
    int result;
};

struct guest {
    struct rng rng;
    struct guest_mem *gm;
    struct port_bus *ports;
    struct pci_bus *pci;
    struct reset_ports *reset;
    struct ide *ide;
    struct image image[UNITS];
    bool cdrom[UNITS];
    enum how how;
    bool faults; /* images fail now and then */
    bool second; /* another thread drives, too */
    u8 control[IDE_CHANNELS];
    pthread_mutex_t lock; /* of held and of rng_image */
    struct rng rng_image;
    _Atomic bool stop;
    u8 *ram;
};

static u64 current_seed, operations, requests, commands, moved_bytes;

#ifdef __SANITIZE_ADDRESS__
void __sanitizer_set_death_callback(void (*callback)(void));
#endif

static void say_seed(void)
{
    printf("not ok fuzz_ide: --seed %llu --runs 1\n", (unsigned long long)current_seed);
    fflush(stdout);
}

static void check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "fuzz_ide: %s\n", what);
    say_seed();
    _exit(1);
}

static void on_alarm(int sig)
{
    (void)sig;
    check(false, "hangs");
}

/* --- images --- */

static u8 pattern(u64 at)
{
    return (u8)(at * 31 + at / 512 * 7 + at / 2048);
}

static int carry_out(struct image *m, struct block_request *r)
{
    bool data = r->op == BLOCK_READ || r->op == BLOCK_WRITE;
    u64 total = 0;
    check(r->offset % BLOCK_SECTOR == 0 && r->length % BLOCK_SECTOR == 0, "odd request");
    check(r->op == BLOCK_FLUSH ? !r->length : r->length > 0, "length of a request");
    check(r->offset <= m->block.size && r->length <= m->block.size - r->offset, "outside");
    check(r->op == BLOCK_READ || !m->block.read_only || r->op == BLOCK_FLUSH, "write to read-only");
    check(!data || r->length <= REQUEST_MAX, "a long request");
    for (unsigned i = 0; i < r->niov; i++) {
        u8 *at = m->data + r->offset + total;
        if (r->op == BLOCK_READ)
            memcpy(r->iov[i].iov_base, at, r->iov[i].iov_len);
        else
            memcpy(at, r->iov[i].iov_base, r->iov[i].iov_len);
        total += r->iov[i].iov_len;
    }
    check(!data || total == r->length, "memory of a request");
    __atomic_add_fetch(&requests, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&moved_bytes, total, __ATOMIC_RELAXED);
    return 0;
}

static void submit(struct block *b, struct block_request *r)
{
    static const int errors[] = {-EIO, -EIO, -EINVAL, -ENOTSUP, -EROFS};
    struct image *m = container_of(b, struct image, block);
    struct guest *g = m->g;
    int result = carry_out(m, r);
    pthread_mutex_lock(&g->lock);
    if (g->faults && one_in(&g->rng_image, 4))
        result = errors[rnd_below(&g->rng_image, ARRAY_SIZE(errors))];
    bool now = g->how == AT_ONCE || (g->how == LATER && one_in(&g->rng_image, 3));
    check(!m->held, "two requests at once");
    if (!now) {
        m->held = r;
        m->result = result;
    }
    pthread_mutex_unlock(&g->lock);
    if (now)
        r->done(r, result);
}

/* Ends a held request. */
static bool end_request(struct guest *g, unsigned unit)
{
    struct image *m = &g->image[unit];
    pthread_mutex_lock(&g->lock);
    struct block_request *r = m->held;
    int result = m->result;
    m->held = NULL;
    pthread_mutex_unlock(&g->lock);
    if (r)
        r->done(r, result);
    return r != NULL;
}

static void *image_thread(void *ctx)
{
    struct guest *g = ctx;
    while (!atomic_load(&g->stop)) {
        for (unsigned i = 0; i < UNITS; i++)
            end_request(g, i);
        sched_yield();
    }
    return NULL;
}

/* --- accesses --- */

static void out(struct guest *g, unsigned port, u32 value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        if (port + i == PC_IDE0_CONTROL)
            g->control[0] = (u8)(value >> 8 * i);
        else if (port + i == PC_IDE1_CONTROL)
            g->control[1] = (u8)(value >> 8 * i);
    }
    port_out(g->ports, (u16)port, value, size);
}

static u32 in(struct guest *g, unsigned port, unsigned size)
{
    return port_in(g->ports, (u16)port, size);
}

static unsigned base_of(unsigned channel)
{
    return channel ? PC_IDE1 : PC_IDE0;
}

static unsigned control_of(unsigned channel)
{
    return channel ? PC_IDE1_CONTROL : PC_IDE0_CONTROL;
}

static u8 status_of(struct guest *g, unsigned channel)
{
    return (u8)in(g, control_of(channel), 1);
}

/* --- operations --- */

/* Most of the time a drive that is of the kind. */
static unsigned some_unit(struct guest *g, struct rng *r, bool cdrom)
{
    unsigned unit = (unsigned)rnd_below(r, UNITS);
    for (unsigned tries = 0; tries < 6 && g->cdrom[unit] != cdrom; tries++)
        unit = (unsigned)rnd_below(r, UNITS);
    return unit;
}

static u64 some_lba(struct guest *g, struct rng *r, unsigned unit)
{
    u64 sectors = g->image[unit].block.size / BLOCK_SECTOR;
    switch (rnd_below(r, 12)) {
    case 0:
        return rnd(r);
    case 1:
        return sectors - rnd_below(r, 3);
    case 2:
        return 0x10000000ULL - rnd_below(r, 3);
    default:
        return rnd_below(r, sectors + 1);
    }
}

static u32 some_count(struct rng *r)
{
    if (one_in(r, 8))
        return (u32)rnd_below(r, 0x10000);
    return (u32)rnd_below(r, one_in(r, 4) ? 1500 : 8);
}

/* Often a command that exists. */
static u8 some_command(struct rng *r)
{
    static const u8 known[] = {
        0x00, 0x06, 0x08, 0x10, 0x20, 0x21, 0x24, 0x25, 0x27, 0x29, 0x30, 0x31, 0x34, 0x35, 0x39,
        0x3d, 0x40, 0x42, 0x70, 0x90, 0x91, 0xa0, 0xa1, 0xb0, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0xce,
        0xe0, 0xe1, 0xe5, 0xe7, 0xea, 0xec, 0xef, 0xf8, 0xc8, 0xca, 0x25, 0x35, 0xa0, 0xa0, 0xa0,
    };
    return one_in(r, 16) ? (u8)rnd(r) : known[rnd_below(r, sizeof(known))];
}

/* Without it most commands would find a drive that still waits for the last one's data. */
static void make_idle(struct guest *g, struct rng *r, unsigned channel)
{
    if (one_in(r, 8) || !(status_of(g, channel) & (ST_DRQ | ST_BSY)))
        return;
    end_request(g, 2 * channel);
    end_request(g, 2 * channel + 1);
    if (!(status_of(g, channel) & (ST_DRQ | ST_BSY)))
        return;
    if (one_in(r, 2))
        out(g, base_of(channel) + 7, 8, 1);
    out(g, control_of(channel), 4, 1);
    out(g, control_of(channel), 0, 1);
}

static void some_packet(struct guest *g, struct rng *r, unsigned unit, u8 *p)
{
    static const u8 known[] = {0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2b, 0x43, 0x46,
                               0x4a, 0x51, 0x5a, 0xa8, 0xad, 0xbb, 0xbd, 0xbe, 0x28, 0xa8, 0xbe};
    u32 lba = (u32)some_lba(g, r, unit) / (one_in(r, 4) ? 1 : 4);
    for (unsigned i = 0; i < 12; i++)
        p[i] = (u8)(one_in(r, 3) ? rnd(r) : one_in(r, 3) ? rnd_below(r, 4) : 0);
    if (!one_in(r, 16))
        p[0] = known[rnd_below(r, sizeof(known))];
    for (unsigned i = 0; i < 4 && !one_in(r, 8); i++)
        p[2 + i] = (u8)(lba >> (24 - 8 * i));
    if (p[0] == 0xbe && !one_in(r, 8)) {
        p[1] = 0;
        p[9] = one_in(r, 2) ? 0xf8 : 0x10;
    }
    if (!one_in(r, 8))
        p[6] = p[7] = 0;
}

/* Moves data by PIO, as long as the drive wants or for a while. */
static void move_data(struct guest *g, struct rng *r, unsigned channel)
{
    unsigned base = base_of(channel), size = one_in(r, 2) ? 2 : 4;
    unsigned n = one_in(r, 100) ? 100000 : (unsigned)rnd_below(r, one_in(r, 8) ? 300 : 20);
    bool write = one_in(r, 2);
    while (n-- && status_of(g, channel) & ST_DRQ) {
        for (unsigned i = 0; i < 64; i++) {
            if (write)
                out(g, base, (u32)rnd(r), size);
            else
                in(g, base, size);
        }
    }
}

/* A table of descriptors that are right, or not. */
static void make_table(struct guest *g, struct rng *r)
{
    u8 table[64 * 8];
    unsigned n = 1 + (unsigned)rnd_below(r, one_in(r, 4) ? 64 : 6);
    bool sane = !one_in(r, 4);
    for (unsigned i = 0; i < n; i++) {
        u32 addr = (u32)(DATA + rnd_below(r, RAM - DATA - 0x10000));
        u32 size = (u32)rnd_below(r, one_in(r, 2) ? 0x10000 : 0x1000);
        if (!sane && one_in(r, 4))
            addr = one_in(r, 2) ? (u32)rnd(r) : (u32)(RAM - rnd_below(r, 0x2000));
        if (!sane && one_in(r, 4))
            addr = (u32)TABLE + (u32)rnd_below(r, 0x200); /* over the table itself */
        size = one_in(r, 8) ? size & 3 : one_in(r, 8) ? (u32)rnd(r) & 0x7fffffff : size;
        if (i == n - 1 && (sane || one_in(r, 2)))
            size |= 0x80000000;
        store_le(table + 8ULL * i, addr, 4);
        store_le(table + 8ULL * i + 4, size, 4);
    }
    guestmem_write(g->gm, TABLE, table, 8ULL * n);
}

static void bus_master(struct guest *g, struct rng *r, unsigned channel)
{
    unsigned bm = BMIDE + 8 * channel;
    switch (rnd_below(r, 6)) {
    case 0:
        make_table(g, r);
        out(g, bm + 4, one_in(r, 8) ? (u32)rnd(r) : (u32)TABLE, 4);
        break;
    case 1:
        out(g, bm + 2, (u32)rnd(r), 1);
        break;
    case 2:
        out(g, bm, 0, 1);
        break;
    case 3:
        in(g, bm + (unsigned)rnd_below(r, 8), 1);
        break;
    default:
        make_table(g, r);
        out(g, bm, 0, 1);
        out(g, bm + 4, (u32)TABLE, 4);
        out(g, bm, one_in(r, 2) ? 9 : 1, 1);
        break;
    }
}

/* What a driver does next: it moves the data. */
static void follow(struct guest *g, struct rng *r, unsigned channel)
{
    __atomic_add_fetch(&commands, 1, __ATOMIC_RELAXED);
    if (one_in(r, 2))
        end_request(g, 2 * channel + (unsigned)rnd_below(r, 2));
    if (one_in(r, 2))
        move_data(g, r, channel);
    if (one_in(r, 2))
        bus_master(g, r, channel);
}

static void give_command(struct guest *g, struct rng *r)
{
    static const u8 features[] = {0, 1, 2, 3, 0x02, 0x82, 0xd0, 0xd1, 0xd5, 0xda};
    unsigned unit = some_unit(g, r, false), channel = unit / 2, base = base_of(channel);
    u64 lba = some_lba(g, r, unit);
    u32 count = some_count(r);
    u8 command = some_command(r);
    bool smart = command == 0xb0 && !one_in(r, 8);
    make_idle(g, r, channel);
    if (smart)
        lba = 0xc24f00 | rnd_below(r, 8);
    u8 device = (u8)(0xa0 | (unit & 1) << 4 | (one_in(r, 8) ? 0 : 0x40) | (lba >> 24 & 0xf));
    out(g, base + 6, device, 1);
    for (unsigned old = one_in(r, 2); old < 2; old++) {
        u64 part = old ? lba : lba >> 24;
        out(g, base + 1, features[rnd_below(r, sizeof(features))], 1);
        out(g, base + 2, old ? count : count >> 8, 1);
        for (unsigned i = 0; i < 3; i++)
            out(g, base + 3 + i, (u32)(part >> 8 * i), 1);
    }
    out(g, base + 7, command, 1);
    follow(g, r, channel);
}

static void give_packet(struct guest *g, struct rng *r)
{
    static const u16 limits[] = {0, 1, 2, 2048, 0xfffe, 0xffff, 0x8000, 31 * 2048, 2047};
    unsigned unit = some_unit(g, r, true), channel = unit / 2, base = base_of(channel);
    u16 limit = one_in(r, 4) ? (u16)rnd(r) : limits[rnd_below(r, ARRAY_SIZE(limits))];
    u8 packet[12];
    make_idle(g, r, channel);
    out(g, base + 6, 0xa0 | (unit & 1) << 4, 1);
    out(g, base + 1, one_in(r, 16) ? (u32)rnd(r) : (u32)rnd_below(r, 2), 1);
    out(g, base + 4, limit, 2);
    out(g, base + 7, 0xa0, 1);
    some_packet(g, r, unit, packet);
    for (unsigned i = 0; i < 12 && !one_in(r, 4); i += 2) /* TEST UNIT READY, to hear of resets */
        out(g, base, 0, 2);
    out(g, base + 7, 0xa0, 1);
    for (unsigned i = 0; i < 12; i += 2)
        out(g, base, (u32)load_le(packet + i, 2), 2);
    follow(g, r, channel);
}

static void any_access(struct guest *g, struct rng *r, unsigned channel)
{
    unsigned size = 1U << rnd_below(r, 3);
    unsigned port = base_of(channel) + (unsigned)rnd_below(r, 8);
    if (one_in(r, 4))
        port = BMIDE + (unsigned)rnd_below(r, 16);
    if (one_in(r, 8))
        port = control_of(channel);
    if (one_in(r, 2))
        out(g, port, (u32)(port == control_of(channel) ? rnd(r) & 0x82 : rnd(r)), size);
    else
        in(g, port, size);
}

static void reset_something(struct guest *g, struct rng *r, unsigned channel)
{
    switch (rnd_below(r, 4)) {
    case 0:
        out(g, control_of(channel), 4, 1);
        break;
    case 1:
        out(g, control_of(channel), 4, 1);
        out(g, control_of(channel), 0, 1);
        break;
    case 2:
        out(g, base_of(channel) + 7, 8, 1);
        break;
    default:
        if (!g->second)
            ide_reset(g->ide);
        memset(g->control, 0, g->second ? 0 : sizeof(g->control));
    }
}

static void move_bar(struct guest *g, struct rng *r)
{
    out(g, 0xcf8, 0x80000020 | PC_IDE_DEVFN << 8, 4);
    out(g, 0xcfc, one_in(r, 8) ? (u32)rnd(r) & 0xffff : BMIDE, 4);
}

static void operate(struct guest *g, struct rng *r)
{
    unsigned channel = (unsigned)rnd_below(r, IDE_CHANNELS);
    unsigned dice = (unsigned)rnd_below(r, 100);
    if (dice < 22)
        give_command(g, r);
    else if (dice < 38)
        give_packet(g, r);
    else if (dice < 52)
        move_data(g, r, channel);
    else if (dice < 70)
        bus_master(g, r, channel);
    else if (dice < 80)
        any_access(g, r, channel);
    else if (dice < 93)
        end_request(g, (unsigned)rnd_below(r, UNITS));
    else if (dice < 96)
        in(g, base_of(channel) + 7, 1);
    else if (dice < 99)
        reset_something(g, r, channel);
    else
        move_bar(g, r);
    __atomic_add_fetch(&operations, 1, __ATOMIC_RELAXED);
}

/* Busy: a request is held, or SRST is. */
static void check_busy(struct guest *g)
{
    if (g->how == ON_THREAD || g->second)
        return;
    for (unsigned c = 0; c < IDE_CHANNELS; c++) {
        bool held = g->image[2 * c].held || g->image[2 * c + 1].held || g->control[c] & 4;
        check(held || !(status_of(g, c) & ST_BSY), "busy without a reason");
    }
}

static void *second_thread(void *ctx)
{
    struct guest *g = ctx;
    struct rng r = {current_seed ^ 0x5555};
    while (!atomic_load(&g->stop))
        operate(g, &r);
    return NULL;
}

/* --- a driver that keeps the rules --- */

static u8 wait_ready(struct guest *g, unsigned channel)
{
    while (status_of(g, channel) & ST_BSY) {
        for (unsigned i = 0; i < UNITS && g->how != ON_THREAD; i++)
            end_request(g, i);
        if (g->how == ON_THREAD)
            sched_yield();
    }
    return (u8)in(g, base_of(channel) + 7, 1);
}

static void start_dma(struct guest *g, unsigned channel, u32 size)
{
    unsigned bm = BMIDE + 8 * channel;
    u32 prd[2] = {(u32)DATA, size | 0x80000000};
    memset(g->ram + DATA, 0, size);
    guestmem_write(g->gm, TABLE, prd, sizeof(prd));
    out(g, bm, 0, 1);
    out(g, bm + 4, (u32)TABLE, 4);
    out(g, bm + 2, 6, 1);
    out(g, bm, 9, 1);
}

static void send_packet(struct guest *g, unsigned channel, const u8 *packet, bool dma)
{
    unsigned base = base_of(channel);
    out(g, base + 1, dma, 1);
    out(g, base + 4, 2048, 2);
    out(g, base + 7, 0xa0, 1);
    check((wait_ready(g, channel) & ST_DRQ) != 0, "no packet wanted");
    for (unsigned i = 0; i < 12; i += 2)
        out(g, base, (u32)load_le(packet + i, 2), 2);
}

static void read_cd(struct guest *g, unsigned unit, u32 lba)
{
    static const u8 load[12] = {0x1b, 0, 0, 0, 3}, ready[12] = {0};
    u8 read[12] = {0x28, 0, 0, 0, (u8)(lba >> 8), (u8)lba, 0, 0, 1};
    unsigned channel = unit / 2, tries = 0;
    out(g, base_of(channel) + 6, 0xa0 | (unit & 1) << 4, 1);
    send_packet(g, channel, ready, false); /* tells of the reset */
    wait_ready(g, channel);
    send_packet(g, channel, load, false);
    check(!(wait_ready(g, channel) & ST_ERR), "the tray");
    do {
        check(tries++ < 3, "never ready");
        send_packet(g, channel, ready, false);
    } while (wait_ready(g, channel) & ST_ERR);
    start_dma(g, channel, 2048);
    send_packet(g, channel, read, true);
    check(!(wait_ready(g, channel) & (ST_ERR | ST_DRQ)), "CD read");
    check(!memcmp(g->ram + DATA, g->image[unit].data + lba * 2048ULL, 2048), "data of the CD");
}

static void read_disk(struct guest *g, unsigned unit, u32 lba)
{
    unsigned channel = unit / 2, base = base_of(channel);
    start_dma(g, channel, 512);
    out(g, base + 6, 0xe0 | (unit & 1) << 4, 1);
    out(g, base + 2, 1, 1);
    for (unsigned i = 0; i < 3; i++)
        out(g, base + 3 + i, lba >> 8 * i, 1);
    out(g, base + 7, 0xc8, 1);
    check(!(wait_ready(g, channel) & (ST_ERR | ST_DRQ)), "disk read");
    check(!memcmp(g->ram + DATA, g->image[unit].data + lba * 512ULL, 512), "data of the disk");
}

/* What was in flight ends, and everything works. */
static void check_end(struct guest *g)
{
    g->faults = false;
    ide_reset(g->ide);
    for (unsigned c = 0; c < IDE_CHANNELS; c++)
        wait_ready(g, c);
    move_bar(g, &(struct rng){0});
    out(g, 0xcfc, BMIDE, 4);
    for (unsigned i = 0; i < UNITS; i++) {
        u64 size = g->image[i].block.size;
        if (g->cdrom[i])
            read_cd(g, i, (u32)rnd_below(&g->rng, size / 2048));
        else
            read_disk(g, i, (u32)rnd_below(&g->rng, size / 512));
    }
}

/* --- runs --- */

static void create_image(struct guest *g, unsigned n)
{
    static const struct block_ops ops = {.submit = submit};
    static const u64 sizes[] = {64 * KIB, 1 * MIB, 1 * MIB + 512, 700 * KIB};
    struct image *m = &g->image[n];
    m->g = g;
    m->block = (struct block){.ops = &ops, .size = sizes[rnd_below(&g->rng, ARRAY_SIZE(sizes))]};
    m->block.read_only = g->cdrom[n] || one_in(&g->rng, 8);
    m->data = malloc(m->block.size);
    check(m->data != NULL, "no memory");
    for (u64 i = 0; i < m->block.size; i++)
        m->data[i] = pattern(i);
}

static void nothing(void *ctx, unsigned n, int level)
{
    (void)ctx;
    (void)n;
    (void)level;
}

static void create(struct guest *g, u64 seed)
{
    static const struct power_ops power_ops;
    struct power power = {&power_ops, NULL};
    struct ide_options opt = {0};
    struct error err;
    memset(g, 0, sizeof(*g));
    g->rng.state = seed;
    g->rng_image.state = ~seed;
    g->how = (enum how)(seed % 3);
    g->faults = one_in(&g->rng, 2);
    g->second = one_in(&g->rng, 8);
    pthread_mutex_init(&g->lock, NULL);
    check(!portbus_create(&g->ports, &err) && !guestmem_create(RAM, &g->gm, &err) &&
              !reset_ports_create(&power, &g->reset, &err) &&
              !pci_create(g->reset, &g->pci, &err) && !pci_attach(g->pci, g->ports, &err),
          "no machine");
    g->ram = guestmem_ram(g->gm);
    opt.gm = g->gm;
    opt.pci = g->pci;
    for (unsigned i = 0; i < UNITS; i++) {
        g->cdrom[i] = one_in(&g->rng, 2);
        create_image(g, i);
        opt.irq[i / 2] = (struct irq_line){nothing, NULL, i / 2};
        opt.drive[i / 2][i % 2] = (struct ide_drive){&g->image[i].block, g->cdrom[i]};
    }
    check(!ide_create(&opt, &g->ide, &err) && !ide_attach(g->ide, g->ports, &err), "no IDE");
    move_bar(g, &(struct rng){0});
    out(g, 0xcfc, BMIDE, 4);
    out(g, 0xcf8, 0x80000004 | PC_IDE_DEVFN << 8, 4);
    out(g, 0xcfc, 5, 4);
}

static void destroy(struct guest *g)
{
    ide_destroy(g->ide);
    for (unsigned i = 0; i < UNITS; i++) {
        check(!g->image[i].held, "a request after the end");
        free(g->image[i].data);
    }
    pci_destroy(g->pci);
    reset_ports_destroy(g->reset);
    guestmem_destroy(g->gm);
    portbus_destroy(g->ports);
    pthread_mutex_destroy(&g->lock);
}

static void run(u64 seed)
{
    struct guest *g = malloc(sizeof(*g));
    pthread_t images, second;
    check(g != NULL, "no memory");
    current_seed = seed;
    alarm(HANG_SECONDS);
    create(g, seed);
    check(g->how != ON_THREAD || !pthread_create(&images, NULL, image_thread, g), "no thread");
    check(!g->second || !pthread_create(&second, NULL, second_thread, g), "no thread");
    for (unsigned i = 0; i < OPERATIONS; i++) {
        operate(g, &g->rng);
        check_busy(g);
    }
    atomic_store(&g->stop, g->second);
    if (g->second)
        pthread_join(second, NULL);
    if (g->second && g->how == ON_THREAD)
        pthread_join(images, NULL);
    if (g->second)
        g->how = LATER;
    g->second = false;
    check_end(g);
    atomic_store(&g->stop, true);
    if (g->how == ON_THREAD)
        pthread_join(images, NULL);
    destroy(g);
    free(g);
}

int main(int argc, char **argv)
{
    u64 seed = 1, runs = 100;
    for (int n = 1; n + 1 < argc; n += 2) {
        if (!strcmp(argv[n], "--seed"))
            seed = strtoull(argv[n + 1], NULL, 0);
        else if (!strcmp(argv[n], "--runs"))
            runs = strtoull(argv[n + 1], NULL, 0);
        else
            return fprintf(stderr, "usage: fuzz_ide [--seed N] [--runs N]\n"), 2;
    }
    signal(SIGALRM, on_alarm);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(say_seed);
#endif
    for (u64 i = 0; i < runs; i++)
        run(seed + i);
    printf(
        "ok fuzz_ide: %llu operations (%llu commands, %llu requests of %llu MiB) from seed %llu\n",
        (unsigned long long)operations, (unsigned long long)commands, (unsigned long long)requests,
        (unsigned long long)(moved_bytes / MIB), (unsigned long long)seed);
    return 0;
}
