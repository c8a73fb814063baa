/*
 * A driver of the virtio disk that is hostile, or mad. For each run there is a device with a disk
 * that ends requests at once, later in any order, or on a thread; the driver sets it up properly or
 * not, makes chains that are right but for some fields, writes to all registers, moves memory over
 * its rings, resets the device in the middle of everything, and now and then a second thread
 * changes the rings all the time. Looked at: that each request to the disk is one that its
 * interface allows, with memory that is the guest's, and ends; and that at the end of a run, after
 * a reset, a driver that keeps the rules reads what is on the disk.
 *
 *   fuzz_virtio [--seed N] [--runs N]       a run is 1000 operations
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "dev/pci.h"
#include "dev/virtio_blk.h"
#include "fuzz.h"

#define OPERATIONS 1000
#define RAM        (2 * MIB)
#define DEVFN      PCI_DEVFN(3, 0)
#define PORTS      0xc000
#define BAR        0xe0000000ULL
#define MSIX       0xe1000000ULL
#define RING       0x10000ULL /* descriptors; 0x800 on the available ring; 0x1000 on the used one */
#define TABLE      0x20000ULL /* indirect descriptors */
#define HEAD       0x30000ULL /* headers and statuses */
#define DATA       0x40000ULL
#define SIZE       128
#define DISK       (256 * KIB)

struct guest {
    struct rng rng;
    struct guest_mem *gm;
    struct port_bus *ports;
    struct pci_bus *pci;
    struct reset_ports *reset;
    struct machine machine;
    struct clock *clock;
    struct lapic_bus *apics;
    struct virtio_blk *blk;
    struct mem_region *over;
    u16 avail_idx, next_desc;
    unsigned table;
    bool indirect; /* agreed on */
    u64 sane;      /* the bigger, the fewer mistakes */
    _Atomic bool scribble, stop;
    /* The disk. */
    struct block block;
    enum { AT_ONCE, LATER, BY_THREAD } mode;
    _Atomic bool faulty;
    u8 *data;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct block_request *waiting[SIZE];
    unsigned nwaiting;
    bool disk_stop;
};

struct totals {
    _Atomic u64 requests, ok, resets;
};

static struct totals totals;
static u64 run_seed;

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    printf("not ok fuzz_virtio: --seed %llu --runs 1\n", (unsigned long long)run_seed);
    fflush(stdout);
    abort();
}

#ifdef __SANITIZE_ADDRESS__
void __sanitizer_set_death_callback(void (*callback)(void));

static void say_seed(void)
{
    printf("not ok fuzz_virtio: --seed %llu --runs 1\n", (unsigned long long)run_seed);
    fflush(stdout);
}
#endif

/* --- the disk --- */

static void check_request(struct guest *g, const struct block_request *r)
{
    const u8 *ram = guestmem_ram(g->gm), *end = ram + guestmem_pages(g->gm) * PAGE_SIZE;
    u64 sum = 0;
    if (r->offset % BLOCK_SECTOR || r->length % BLOCK_SECTOR || r->offset > DISK ||
        r->length > DISK - r->offset || (r->op == BLOCK_FLUSH) != (r->length == 0))
        fail("a request outside of the disk");
    if (g->block.read_only && r->op != BLOCK_READ && r->op != BLOCK_FLUSH)
        fail("a write to a disk that is read-only");
    if (r->op != BLOCK_READ && r->op != BLOCK_WRITE)
        return;
    for (unsigned i = 0; i < r->niov; i++) {
        const u8 *p = r->iov[i].iov_base;
        size_t n = r->iov[i].iov_len;
        if (p < ram || p > end || n > (size_t)(end - p))
            fail("memory that is not the guest's");
        sum += n;
    }
    if (sum != r->length)
        fail("memory of another length");
}

static void carry_out(struct guest *g, struct block_request *r)
{
    u64 at = r->offset;
    bool faulty = g->faulty;
    totals.requests++;
    for (unsigned i = 0; !faulty && r->op == BLOCK_READ && i < r->niov; i++) {
        memcpy(r->iov[i].iov_base, g->data + at, r->iov[i].iov_len);
        at += r->iov[i].iov_len;
    }
    if (r->op == BLOCK_READ || r->op == BLOCK_WRITE)
        memset(r->iov, 0, r->niov * sizeof(*r->iov)); /* it may be used up */
    r->done(r, faulty ? (at & 512 ? -EIO : -ENOTSUP) : 0);
}

/* Takes one that waits, any, or NULL. */
static struct block_request *take(struct guest *g, u64 dice)
{
    struct block_request *r = NULL;
    pthread_mutex_lock(&g->lock);
    if (g->nwaiting) {
        unsigned n = (unsigned)(dice % g->nwaiting);
        r = g->waiting[n];
        g->waiting[n] = g->waiting[--g->nwaiting];
    }
    pthread_mutex_unlock(&g->lock);
    return r;
}

static void submit(struct block *b, struct block_request *r)
{
    struct guest *g = container_of(b, struct guest, block);
    check_request(g, r);
    if (g->mode == AT_ONCE) {
        carry_out(g, r);
        return;
    }
    pthread_mutex_lock(&g->lock);
    if (g->nwaiting == SIZE)
        fail("more requests than the ring holds");
    g->waiting[g->nwaiting++] = r;
    pthread_cond_signal(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static void *disk_thread(void *arg)
{
    struct guest *g = arg;
    for (;;) {
        pthread_mutex_lock(&g->lock);
        while (!g->nwaiting && !g->disk_stop)
            pthread_cond_wait(&g->changed, &g->lock);
        bool stop = !g->nwaiting;
        pthread_mutex_unlock(&g->lock);
        if (stop)
            return NULL;
        struct block_request *r = take(g, 0);
        if (r)
            carry_out(g, r);
    }
}

static void drain(struct guest *g)
{
    for (struct block_request *r; g->mode == LATER && (r = take(g, 0));)
        carry_out(g, r);
}

/* --- accesses --- */

static void st(struct guest *g, u64 gpa, u64 value, unsigned size)
{
    guestmem_store(g->gm, gpa, value, size, NULL);
}

static u64 ld(struct guest *g, u64 gpa, unsigned size)
{
    return guestmem_load(g->gm, gpa, size, NULL);
}

static void config(struct guest *g, unsigned offset, u32 value, unsigned size)
{
    port_out(g->ports, 0xcf8, 0x80000000 | DEVFN << 8 | (offset & 0xfc), 4);
    port_out(g->ports, (u16)(0xcfc + offset % 4), value, size);
}

static void place(struct guest *g)
{
    config(g, 0x10, PORTS, 4);
    config(g, 0x14, MSIX, 4);
    config(g, 0x20, BAR, 4);
    config(g, 0x04, 7, 2);
}

/* A number worth trying. */
static u64 number(struct rng *r)
{
    switch (rnd_below(r, 6)) {
    case 0:
        return rnd(r);
    case 1:
        return (u64)0 - rnd_below(r, 20);
    case 2:
        return BIT(rnd_below(r, 64)) - rnd_below(r, 3);
    case 3:
        return RAM - rnd_below(r, 600);
    default:
        return rnd_below(r, 600);
    }
}

static bool mistake(struct guest *g, u64 n)
{
    return one_in(&g->rng, n * g->sane);
}

static u64 address(struct guest *g)
{
    struct rng *r = &g->rng;
    if (mistake(g, 40))
        return number(r);
    return DATA + rnd_below(r, one_in(r, 8) ? RAM - DATA - 0x4000 : 0x4000);
}

/* --- rings --- */

static void describe(struct guest *g, u64 at, u64 addr, u32 length, u16 flags, u16 next)
{
    st(g, at, addr, 8);
    st(g, at + 8, length, 4);
    st(g, at + 12, flags, 2);
    st(g, at + 14, next, 2);
}

/* A chain in `table` (of `size` descriptors), right but for what goes wrong by chance: returns its
 * length. */
static u16 make_chain(struct guest *g, u64 table, u16 first, u16 size)
{
    static const u32 types[] = {0, 0, 0, 1, 1, 4, 8, 11, 13, 2, 0x80000000};
    struct rng *r = &g->rng;
    u64 head = HEAD + 64 * rnd_below(r, 64);
    u32 type = types[rnd_below(r, ARRAY_SIZE(types))];
    u16 parts = (u16)rnd_below(r, one_in(r, 10) ? 20 : 4);
    bool in = type == 0 || type == 8;
    st(g, head, type, 4);
    st(g, head + 8, mistake(g, 10) ? number(r) : rnd_below(r, DISK / 512), 8);
    for (u16 i = 0; i < parts + 2; i++) {
        u16 n = (u16)((first + i) % size);
        bool last = i == parts + 1;
        u64 addr = i == 0 ? head : last ? head + 32 : address(g);
        u32 length = i == 0 ? 16 : last ? 1 : 512u << rnd_below(r, 3);
        u16 flags = (u16)((last ? 0 : 1) | (last || (in && i) ? 2 : 0));
        if (type >= 11 && i && !last) { /* ranges */
            length = 16 * (u32)rnd_below(r, 5);
            for (u64 at = addr; at < addr + length; at += 16) {
                st(g, at, rnd_below(r, DISK / 512), 8);
                st(g, at + 8, rnd_below(r, 20), 4);
                st(g, at + 12, one_in(r, 8), 4);
            }
        }
        if (mistake(g, 60))
            length = (u32)number(r);
        if (mistake(g, 100))
            flags = (u16)rnd(r);
        describe(g, table + 16ULL * n, addr, length, flags,
                 mistake(g, 100) ? (u16)number(r) : (u16)((n + 1) % size));
    }
    return (u16)(parts + 2);
}

static void make_available(struct guest *g)
{
    struct rng *r = &g->rng;
    for (u64 n = rnd_below(r, one_in(r, 20) ? 24 : 4); n; n--) {
        u16 head = mistake(g, 20) ? (u16)rnd_below(r, SIZE) : g->next_desc, length = 1;
        if (g->indirect ? one_in(r, 2) : mistake(g, 20)) {
            u64 table = TABLE + KIB * (g->table++ % 64);
            length = make_chain(g, table, 0, 64);
            describe(g, RING + 16 * head, table, mistake(g, 20) ? (u32)number(r) : 16u * length, 4,
                     0);
            length = 1;
        } else {
            length = make_chain(g, RING, head, SIZE);
        }
        g->next_desc = (u16)((head + length) % SIZE);
        if (mistake(g, 100))
            head = (u16)number(r);
        st(g, RING + 0x804 + 2 * (g->avail_idx++ % SIZE), head, 2);
    }
    if (mistake(g, 100))
        g->avail_idx = (u16)number(r);
    st(g, RING + 0x802, g->avail_idx, 2);
    if (one_in(r, 8))
        st(g, RING + 0x804 + 2 * SIZE, rnd(r), 2); /* used event */
}

static void clear_rings(struct guest *g)
{
    for (u64 gpa = RING; gpa < RING + 0x2000; gpa += 8)
        st(g, gpa, 0, 8);
    g->avail_idx = 0;
}

/* --- setting it up --- */

static void start_modern(struct guest *g, u64 features)
{
    st(g, BAR + 20, 0, 1);
    drain(g);
    while (ld(g, BAR + 20, 1) != 0 && g->mode == BY_THREAD)
        sched_yield();
    clear_rings(g);
    st(g, BAR + 20, 3, 1);
    for (unsigned half = 0; half < 2; half++) {
        st(g, BAR + 8, half, 4);
        st(g, BAR + 12, (u32)(features >> 32 * half), 4);
    }
    st(g, BAR + 20, 0xb, 1);
    st(g, BAR + 22, 0, 2);
    st(g, BAR + 32, RING, 8);
    st(g, BAR + 40, RING + 0x800, 8);
    st(g, BAR + 48, RING + 0x1000, 8);
    st(g, BAR + 28, 1, 2);
    st(g, BAR + 20, 0xf, 1);
}

static void start_legacy(struct guest *g, u32 features)
{
    drain(g);
    port_out(g->ports, PORTS + 18, 0, 1);
    clear_rings(g);
    port_out(g->ports, PORTS + 18, 3, 1);
    port_out(g->ports, PORTS + 4, features, 4);
    port_out(g->ports, PORTS + 14, 0, 2);
    port_out(g->ports, PORTS + 8, RING >> 12, 4);
    port_out(g->ports, PORTS + 18, 7, 1);
}

static void start(struct guest *g)
{
    struct rng *r = &g->rng;
    u64 features = rnd(r) & (BIT(9) | BIT(11) | BIT(28) | BIT(29));
    totals.resets++;
    g->indirect = features & BIT(28);
    place(g);
    config(g, 0x9a, one_in(r, 2) ? 0x8000 : 0, 2); /* MSI-X */
    if (one_in(r, 3))
        start_legacy(g, (u32)features);
    else
        start_modern(g, features | BIT(32));
    st(g, BAR + 16, rnd_below(r, 3), 2);
    st(g, BAR + 26, rnd_below(r, 3), 2);
}

/* --- a run --- */

static void register_access(struct guest *g)
{
    static const u16 part[] = {0, 0, 0x1000, 0x2000, 0x3000};
    struct rng *r = &g->rng;
    unsigned size = 1u << rnd_below(r, 4);
    u64 off = part[rnd_below(r, 5)] + rnd_below(r, one_in(r, 4) ? 0x1000 : 68), value = number(r);
    if (one_in(r, 4)) {
        st(g, MSIX + rnd_below(r, 36), one_in(r, 2) ? 0xfee00000 | (value & 0xfff) : value, size);
        ld(g, MSIX + (one_in(r, 2) ? 0x800 : 0) + rnd_below(r, 36), size);
    }
    if (one_in(r, 2)) {
        if (one_in(r, 2))
            ld(g, BAR + off, size);
        else
            st(g, BAR + off, value, size);
        return;
    }
    u16 port = (u16)(PORTS + rnd_below(r, 90));
    size = 1u << rnd_below(r, 3);
    if (one_in(r, 2)) {
        port_in(g->ports, port, size);
        return;
    }
    /* Legacy registers may wait for what is in flight. */
    drain(g);
    port_out(g->ports, port, (u32)value, size);
}

static void config_access(struct guest *g)
{
    struct rng *r = &g->rng;
    unsigned offset =
        one_in(r, 2) ? 0x84 + (unsigned)rnd_below(r, 32) : (unsigned)rnd_below(r, 256);
    unsigned size = 1u << rnd_below(r, 3);
    if (one_in(r, 2)) {
        config(g, offset, (u32)number(r), size);
        return;
    }
    port_out(g->ports, 0xcf8, 0x80000000 | DEVFN << 8 | (offset & 0xfc), 4);
    port_in(g->ports, (u16)(0xcfc + offset % 4), size);
}

static void rare(struct guest *g)
{
    struct rng *r = &g->rng;
    switch (rnd_below(r, 4)) {
    case 0:
        mem_region_place(g->over, RING + PAGE_SIZE * rnd_below(r, 64));
        break;
    case 1:
        mem_region_remove(g->over);
        break;
    case 2:
        g->faulty = one_in(r, 2);
        break;
    case 3:
        drain(g);
        pci_reset(g->pci);
        virtio_blk_reset(g->blk);
        place(g);
        break;
    }
}

static void operation(struct guest *g)
{
    struct rng *r = &g->rng;
    u64 dice = rnd_below(r, 100);
    if (dice < 40) {
        make_available(g);
        st(g, BAR + 0x3000, 0, 2);
    } else if (dice < 60) {
        make_available(g);
        port_out(g->ports, PORTS + 16, 0, 2);
    } else if (dice < 75) {
        struct block_request *b = g->mode == LATER ? take(g, rnd(r)) : NULL;
        if (b)
            carry_out(g, b);
    } else if (dice < 85) {
        register_access(g);
    } else if (dice < 90) {
        config_access(g);
    } else if (dice < 92) {
        rare(g);
    } else {
        start(g);
    }
}

static void *scribbler(void *arg)
{
    struct guest *g = arg;
    struct rng r = {run_seed};
    while (!g->stop) {
        if (!g->scribble) {
            sched_yield();
            continue;
        }
        u64 gpa = rnd_below(&r, 4) ? RING + rnd_below(&r, 0x1800) : TABLE + rnd_below(&r, 0x400);
        st(g, gpa, one_in(&r, 2) ? number(&r) : rnd_below(&r, SIZE), 1u << rnd_below(&r, 4));
    }
    return NULL;
}

/* After all that, a driver that keeps the rules. */
static void finish(struct guest *g)
{
    static const struct {
        u64 addr;
        u32 length;
        u16 flags;
    } chain[] = {{HEAD, 16, 1}, {DATA, 4096, 3}, {HEAD + 32, 1, 2}};
    u64 sector = rnd_below(&g->rng, DISK / 512 - 8);
    g->scribble = false;
    g->faulty = false;
    mem_region_remove(g->over);
    drain(g);
    pci_reset(g->pci);
    virtio_blk_reset(g->blk);
    place(g);
    start_modern(g, BIT(32) | BIT(9));
    st(g, HEAD, 0, 8);
    st(g, HEAD + 8, sector, 8);
    st(g, HEAD + 32, 0xff, 1);
    for (u16 i = 0; i < 3; i++)
        describe(g, RING + 16 * i, chain[i].addr, chain[i].length, chain[i].flags, i + 1);
    st(g, RING + 0x802, 1, 2);
    st(g, BAR + 0x3000, 0, 2);
    drain(g);
    while (g->mode == BY_THREAD && ld(g, RING + 0x1002, 2) == 0)
        sched_yield();
    if (ld(g, RING + 0x1002, 2) != 1 || ld(g, HEAD + 32, 1) != 0 ||
        memcmp(guestmem_ram(g->gm) + DATA, g->data + sector * 512, 4096) != 0)
        fail("the disk does not work any more");
    totals.ok++;
}

static void must(int rc)
{
    if (rc < 0)
        fail("setting up");
}

static void line(void *ctx, unsigned n, int level)
{
    (void)ctx;
    (void)n;
    (void)level;
}

static void create(struct guest *g, u64 seed)
{
    static const struct block_ops ops = {.submit = submit};
    static const struct power_ops power = {0};
    struct error err;
    memset(g, 0, sizeof(*g));
    g->rng.state = seed * 0x9fb21c651e98df25;
    g->mode = rnd_below(&g->rng, 3);
    g->sane = BIT(2 * rnd_below(&g->rng, 5));
    g->block = (struct block){.ops = &ops, .size = DISK, .read_only = one_in(&g->rng, 4)};
    g->data = malloc(DISK);
    for (unsigned i = 0; i < DISK; i++)
        g->data[i] = (u8)rnd(&g->rng);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    must(guestmem_create(RAM, &g->gm, &err));
    must(guestmem_set_threads(g->gm, 2, &err));
    must(portbus_create(&g->ports, &err));
    must(reset_ports_create(&(struct power){.ops = &power}, &g->reset, &err));
    must(pci_create(g->reset, &g->pci, &err));
    must(pci_attach(g->pci, g->ports, &err));
    must(
        mem_region_memory(g->gm, LAYER_BOARD, PAGE_SIZE, one_in(&g->rng, 2), NULL, &g->over, &err));
    struct vcpu *v = aligned_alloc(64, align_up(sizeof(*v), 64));
    memset(v, 0, sizeof(*v));
    g->machine.ncpus = 1;
    g->machine.vcpu[0] = v;
    g->clock = clock_create_manual();
    must(lapic_bus_create(&g->machine, g->clock, &g->apics, &err));
    struct virtio_blk_options opt = {
        .gm = g->gm,
        .ports = g->ports,
        .pci = g->pci,
        .devfn = DEVFN,
        .intx = {line, NULL, 0},
        .apics = g->apics,
        .block = &g->block,
    };
    must(virtio_blk_create(&opt, &g->blk, &err));
}

static void destroy(struct guest *g)
{
    virtio_blk_destroy(g->blk);
    lapic_bus_destroy(g->apics);
    clock_destroy(g->clock);
    free(g->machine.vcpu[0]);
    pci_destroy(g->pci);
    reset_ports_destroy(g->reset);
    portbus_destroy(g->ports);
    guestmem_destroy(g->gm);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    free(g->data);
}

static void run(u64 seed)
{
    static struct guest guest;
    struct guest *g = &guest;
    pthread_t disk, other;
    create(g, seed);
    g->scribble = one_in(&g->rng, 4);
    bool second = g->scribble;
    if (g->mode == BY_THREAD)
        pthread_create(&disk, NULL, disk_thread, g);
    if (second)
        pthread_create(&other, NULL, scribbler, g);
    start(g);
    for (unsigned n = 0; n < OPERATIONS; n++)
        operation(g);
    g->scribble = false;
    g->stop = true;
    if (second)
        pthread_join(other, NULL);
    finish(g);
    if (g->mode == BY_THREAD) {
        pthread_mutex_lock(&g->lock);
        g->disk_stop = true;
        pthread_cond_signal(&g->changed);
        pthread_mutex_unlock(&g->lock);
        pthread_join(disk, NULL);
    }
    destroy(g);
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
            return fprintf(stderr, "usage: fuzz_virtio [--seed N] [--runs N]\n"), 2;
    }
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(say_seed);
#endif
    for (u64 n = 0; n < runs; n++) {
        run_seed = seed + n;
        run(run_seed);
    }
    printf("# %llu operations, %llu requests to the disk, %llu resets\n",
           (unsigned long long)runs * OPERATIONS, (unsigned long long)totals.requests,
           (unsigned long long)totals.resets);
    printf("ok fuzz_virtio: %llu runs from seed %llu\n", (unsigned long long)runs,
           (unsigned long long)seed);
    return 0;
}
