/*
 * The guest-physical map. All memory is one shared mapping of a memfd; the map is a sorted array of
 * disjoint ranges, made anew from RAM and the placed regions, layer by layer, whenever one of them
 * moves. Readers take no lock (a sequence counter tells them to read again), so a lookup is: the
 * largest stretch of RAM first, then a binary search. Memory that is not seen any more at an
 * address counts as written, so that nothing decoded there is believed.
 */
#include "mem/map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define GPA_LIMIT BIT(52)

struct ranges {
    struct mem_range range[MAX_RANGES];
    unsigned n;
};

/* --- reading --- */

static inline u32 read_begin(const struct guest_mem *gm)
{
    return atomic_load_explicit(&gm->map_seq, memory_order_acquire);
}

static inline bool read_again(const struct guest_mem *gm, u32 seq)
{
    atomic_thread_fence(memory_order_acquire);
    return unlikely(seq & 1 || atomic_load_explicit(&gm->map_seq, memory_order_relaxed) != seq);
}

static bool search(const struct guest_mem *gm, u64 gpa, struct mem_range *out)
{
    unsigned lo = 0, hi = MIN(gm->nranges, MAX_RANGES);
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct mem_range *r = &gm->range[mid];
        if (gpa < r->start) {
            hi = mid;
        } else if (gpa >= r->end) {
            lo = mid + 1;
        } else {
            *out = *r;
            return true;
        }
    }
    return false;
}

bool map_find(const struct guest_mem *gm, u64 gpa, struct mem_range *out)
{
    for (;;) {
        u32 seq = read_begin(gm);
        bool found = search(gm, gpa, out);
        if (!read_again(gm, seq))
            return found;
    }
}

static u8 *hva_slow(const struct guest_mem *gm, u64 gpa, u64 len, bool write)
{
    struct mem_range r;
    if (!map_find(gm, gpa, &r) || r.kind == MEM_MMIO || (write && r.kind == MEM_ROM) ||
        len > r.end - gpa)
        return NULL;
    return r.hva + (gpa - r.start);
}

u8 *guestmem_hva(struct guest_mem *gm, u64 gpa, u64 len, bool write)
{
    u32 seq = read_begin(gm);
    u64 off = gpa - gm->hot_start, size = gm->hot_size;
    u8 *hot = gm->hot_hva;
    if (likely(off < size && len <= size - off) && !read_again(gm, seq))
        return hot + off;
    return hva_slow(gm, gpa, len, write);
}

bool map_memory_offset(const struct guest_mem *gm, u64 gpa, u64 *off)
{
    const u8 *p = guestmem_hva((struct guest_mem *)gm, gpa, 1, false);
    if (!p)
        return false;
    *off = (u64)(p - gm->ram);
    return true;
}

bool guestmem_slot(const struct guest_mem *gm, unsigned i, struct mem_slot *out)
{
    for (unsigned n = 0; n < gm->nranges; n++) {
        const struct mem_range *r = &gm->range[n];
        if (r->kind == MEM_MMIO || i-- > 0)
            continue;
        *out = (struct mem_slot){
            .gpa = r->start, .size = r->end - r->start, .hva = r->hva, .rom = r->kind == MEM_ROM};
        return true;
    }
    return false;
}

/* --- building --- */

/* The part of r in [start, end), appended. */
static void append_part(struct ranges *to, const struct mem_range *r, u64 start, u64 end)
{
    start = MAX(start, r->start);
    end = MIN(end, r->end);
    if (start >= end)
        return;
    struct mem_range *part = &to->range[to->n++];
    *part = *r;
    part->start = start;
    part->end = end;
    if (r->kind != MEM_MMIO)
        part->hva = r->hva + (start - r->start);
}

static void overlay(struct ranges *map, const struct mem_range *new)
{
    struct ranges to = {.n = 0};
    unsigned i;
    for (i = 0; i < map->n && map->range[i].start < new->start; i++)
        append_part(&to, &map->range[i], 0, new->start);
    to.range[to.n++] = *new;
    if (i > 0)
        append_part(&to, &map->range[i - 1], new->end, GPA_LIMIT);
    for (; i < map->n; i++)
        append_part(&to, &map->range[i], new->end, GPA_LIMIT);
    memcpy(map->range, to.range, to.n * sizeof(to.range[0]));
    map->n = to.n;
}

static void overlay_layer(const struct guest_mem *gm, struct ranges *map, enum mem_layer layer)
{
    for (unsigned i = 0; i < gm->nregions; i++) {
        const struct mem_region *r = &gm->region[i];
        if (r->layer == layer && r->placed && (r->r.kind == MEM_MMIO || r->r.hva))
            overlay(map, &r->r);
    }
}

static void overlay_ram(const struct guest_mem *gm, struct ranges *map)
{
    u64 low = MIN(gm->ram_size, RAM_LOW_MAX);
    struct mem_range r = {.start = 0, .end = low, .kind = MEM_RAM, .hva = gm->ram};
    overlay(map, &r);
    if (gm->ram_size == low)
        return;
    r.start = RAM_HIGH_BASE;
    r.end = RAM_HIGH_BASE + gm->ram_size - low;
    r.hva = gm->ram + low;
    overlay(map, &r);
}

/* Neighbours that continue one another are one range. */
static void join(struct ranges *map)
{
    unsigned n = 0;
    for (unsigned i = 1; i < map->n; i++) {
        struct mem_range *a = &map->range[n], *b = &map->range[i];
        if (a->end == b->start && a->kind == b->kind && a->kind != MEM_MMIO &&
            a->hva + (a->end - a->start) == b->hva)
            a->end = b->end;
        else
            map->range[++n] = *b;
    }
    map->n = map->n ? n + 1 : 0;
}

static const struct mem_range *largest_ram(const struct ranges *map)
{
    static const struct mem_range none;
    const struct mem_range *best = &none;
    for (const struct mem_range *r = map->range; r < map->range + map->n; r++)
        if (r->kind == MEM_RAM && r->end - r->start > best->end - best->start)
            best = r;
    return best;
}

static void publish(struct guest_mem *gm, const struct ranges *map)
{
    const struct mem_range *hot = largest_ram(map);
    atomic_fetch_add(&gm->map_seq, 1);
    memcpy(gm->range, map->range, map->n * sizeof(map->range[0]));
    gm->nranges = map->n;
    gm->hot_start = hot->start;
    gm->hot_size = hot->end - hot->start;
    gm->hot_hva = hot->hva;
    atomic_fetch_add(&gm->map_seq, 1);
}

/* What this stretch of the old map showed and the new map doesn't show there counts as written. */
static void forget_moved(struct guest_mem *gm, const struct mem_range *old)
{
    struct mem_range now;
    for (u64 gpa = old->start, end; gpa < old->end; gpa = end) {
        u8 *was = old->hva + (gpa - old->start);
        end = old->end;
        if (!map_find(gm, gpa, &now)) {
            end = MIN(end, gpa + PAGE_SIZE);
        } else {
            end = MIN(end, now.end);
            if (now.kind != MEM_MMIO && now.hva + (gpa - now.start) == was)
                continue;
        }
        code_written_ram(gm, (u64)(was - gm->ram), end - gpa);
    }
}

/* map_lock is held. */
static void build(struct guest_mem *gm)
{
    struct ranges map = {.n = 0}, old;
    old.n = gm->nranges;
    memcpy(old.range, gm->range, old.n * sizeof(old.range[0]));
    overlay_layer(gm, &map, LAYER_BUS);
    overlay_ram(gm, &map);
    overlay_layer(gm, &map, LAYER_BOARD);
    overlay_layer(gm, &map, LAYER_SHADOW);
    join(&map);
    publish(gm, &map);
    for (unsigned i = 0; i < old.n; i++)
        if (old.range[i].kind != MEM_MMIO)
            forget_moved(gm, &old.range[i]);
    for (unsigned i = 0; i < MAP_HOOKS; i++)
        if (gm->map_hook[i].fn)
            gm->map_hook[i].fn(gm->map_hook[i].ctx);
}

void guestmem_on_map_change(struct guest_mem *gm, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&gm->map_lock);
    for (unsigned i = 0; i < MAP_HOOKS; i++) {
        struct map_hook *h = &gm->map_hook[i];
        if (fn ? !h->fn : h->ctx == ctx) {
            *h = (struct map_hook){.fn = fn, .ctx = fn ? ctx : NULL};
            break;
        }
    }
    pthread_mutex_unlock(&gm->map_lock);
}

/* --- regions --- */

static int add_region(struct guest_mem *gm, enum mem_layer layer, u64 size, enum mem_kind kind,
                      struct mem_region **out, struct error *err)
{
    if (size == 0 || size > GPA_LIMIT)
        return error_set(err, EINVAL, "a region of %llu bytes of the physical map",
                         (unsigned long long)size);
    if (gm->nregions == MAX_REGIONS)
        return error_set(err, ENOSPC, "more than %d regions in the physical map", MAX_REGIONS);
    *out = &gm->region[gm->nregions++];
    **out = (struct mem_region){.gm = gm, .layer = layer, .size = size, .r.kind = kind};
    return 0;
}

int mem_region_mmio(struct guest_mem *gm, enum mem_layer layer, u64 size,
                    const struct mmio_ops *ops, void *ctx, pthread_mutex_t *lock,
                    struct mem_region **out, struct error *err)
{
    assert(size % PAGE_SIZE == 0);
    int rc = add_region(gm, layer, size, MEM_MMIO, out, err);
    if (rc < 0)
        return rc;
    (*out)->r.ops = ops;
    (*out)->r.ctx = ctx;
    (*out)->r.lock = lock;
    return 0;
}

int mem_region_memory(struct guest_mem *gm, enum mem_layer layer, u64 size, bool rom, u8 **hva,
                      struct mem_region **out, struct error *err)
{
    assert(size % PAGE_SIZE == 0);
    if (size > gm->memory_size - gm->memory_used)
        return error_set(err, ENOMEM, "no room for %llu KiB of memory besides RAM", size / KIB);
    int rc = add_region(gm, layer, size, rom ? MEM_ROM : MEM_RAM, out, err);
    if (rc < 0)
        return rc;
    (*out)->memory = (*out)->r.hva = gm->ram + gm->memory_used;
    gm->memory_used += size;
    if (hva)
        *hva = (*out)->memory;
    return 0;
}

int mem_region_window(struct guest_mem *gm, enum mem_layer layer, u64 size, struct mem_region **out,
                      struct error *err)
{
    assert(size % PAGE_SIZE == 0);
    int rc = add_region(gm, layer, size, MEM_ROM, out, err);
    if (rc == 0)
        (*out)->window = true;
    return rc;
}

static bool fits(const struct mem_region *r, u64 gpa)
{
    return gpa < GPA_LIMIT && r->size <= GPA_LIMIT - gpa;
}

static void place(struct mem_region *r, u64 gpa)
{
    struct guest_mem *gm = r->gm;
    pthread_mutex_lock(&gm->map_lock);
    bool placed = fits(r, gpa);
    if (placed != r->placed || (placed && gpa != r->r.start)) {
        r->placed = placed;
        r->r.start = r->r.origin = gpa;
        r->r.end = gpa + r->size;
        build(gm);
    }
    pthread_mutex_unlock(&gm->map_lock);
}

void mem_region_place(struct mem_region *r, u64 gpa)
{
    assert(gpa % PAGE_SIZE == 0);
    place(r, gpa);
}

void mem_region_remove(struct mem_region *r)
{
    pthread_mutex_lock(&r->gm->map_lock);
    if (r->placed) {
        r->placed = false;
        build(r->gm);
    }
    pthread_mutex_unlock(&r->gm->map_lock);
}

void mem_region_show(struct mem_region *window, const struct mem_region *of, u64 offset,
                     bool writable)
{
    struct guest_mem *gm = window->gm;
    u8 *hva = (of ? of->memory : gm->ram) + offset;
    enum mem_kind kind = writable ? MEM_RAM : MEM_ROM;
    assert(window->window && offset % PAGE_SIZE == 0);
    assert(offset + window->size <= (of ? of->size : gm->ram_size));
    pthread_mutex_lock(&gm->map_lock);
    bool changed = window->r.hva != hva || window->r.kind != kind;
    window->r.hva = hva;
    window->r.kind = kind;
    if (changed && window->placed)
        build(gm);
    pthread_mutex_unlock(&gm->map_lock);
}

u8 mem_board_byte(struct guest_mem *gm, u64 gpa)
{
    u8 value = 0xff;
    pthread_mutex_lock(&gm->map_lock);
    for (unsigned i = gm->nregions; i-- > 0;) {
        const struct mem_region *r = &gm->region[i];
        if (r->layer != LAYER_BOARD || !r->placed || gpa - r->r.start >= r->size)
            continue;
        if (r->r.kind != MEM_MMIO && r->r.hva)
            value = r->r.hva[gpa - r->r.start];
        break;
    }
    pthread_mutex_unlock(&gm->map_lock);
    return value;
}

/* --- all of it --- */

static int memory_allocate(struct guest_mem *gm, struct error *err)
{
    gm->fd = memfd_create("ringer-ram", MFD_CLOEXEC);
    if (gm->fd < 0)
        return error_errno(err, errno, "guest RAM: memfd_create");
    if (ftruncate(gm->fd, (off_t)gm->memory_size) < 0)
        return error_errno(err, errno, "guest RAM of %llu MiB", gm->ram_size / MIB);
    void *p =
        mmap(NULL, gm->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, gm->fd, 0);
    if (p == MAP_FAILED)
        return error_errno(err, errno, "guest RAM of %llu MiB", gm->ram_size / MIB);
    gm->ram = p;
    return 0;
}

int map_create(struct guest_mem *gm, u64 ram_size, struct error *err)
{
    gm->fd = -1;
    gm->ram_size = gm->memory_used = ram_size;
    gm->memory_size = ram_size + GUESTMEM_EXTRA_MAX;
    pthread_mutex_init(&gm->map_lock, NULL);
    int rc = memory_allocate(gm, err);
    if (rc == 0)
        build(gm);
    return rc;
}

void map_destroy(struct guest_mem *gm)
{
    if (gm->ram)
        munmap(gm->ram, gm->memory_size);
    if (gm->fd >= 0)
        close(gm->fd);
    pthread_mutex_destroy(&gm->map_lock);
}

int guestmem_add_rom(struct guest_mem *gm, u64 gpa, const void *data, u64 size, struct error *err)
{
    struct mem_region *r;
    u64 whole = align_up(size, PAGE_SIZE);
    u8 *hva;
    if (size == 0 || whole < size || (gpa & ~PAGE_MASK))
        return error_set(err, EINVAL, "cannot place a ROM of %" PRIu64 " bytes at %#" PRIx64, size,
                         gpa);
    int rc = mem_region_memory(gm, LAYER_BOARD, whole, true, &hva, &r, err);
    if (rc < 0)
        return rc;
    memcpy(hva, data, size);
    mem_region_place(r, gpa);
    return 0;
}

/* RAM and ROM stay in whole pages: page-sized mappings (TLB entries, KVM slots) depend on it. */
static bool cuts_a_page(const struct guest_mem *gm, u64 edge)
{
    struct mem_range r;
    return (edge & ~PAGE_MASK) && map_find(gm, edge, &r) && r.kind != MEM_MMIO;
}

int guestmem_add_mmio(struct guest_mem *gm, u64 gpa, u64 size, const struct mmio_ops *ops,
                      void *ctx, pthread_mutex_t *lock, struct error *err)
{
    struct mem_region *r;
    int rc = add_region(gm, LAYER_BOARD, size, MEM_MMIO, &r, err);
    if (rc < 0)
        return rc;
    if (!fits(r, gpa) || cuts_a_page(gm, gpa) || cuts_a_page(gm, gpa + size))
        return error_set(err, EINVAL, "bad guest-physical range %#" PRIx64 "-%#" PRIx64, gpa,
                         gpa + size);
    r->r.ops = ops;
    r->r.ctx = ctx;
    r->r.lock = lock;
    place(r, gpa);
    return 0;
}
