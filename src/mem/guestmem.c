/*
 * The guest-physical map. All RAM is one shared mapping of a memfd; the map itself is a sorted
 * array of disjoint ranges, cut up when a ROM or a device is laid over what was there. It is
 * complete before the vCPUs run, so lookups need no lock: first the largest stretch of RAM, then a
 * binary search.
 */
#include "mem/map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/ramaccess.h"

#define GPA_LIMIT BIT(52)

const struct mem_range *map_find(const struct guest_mem *gm, u64 gpa)
{
    unsigned lo = 0, hi = gm->nranges;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct mem_range *r = &gm->range[mid];
        if (gpa < r->start)
            hi = mid;
        else if (gpa >= r->end)
            lo = mid + 1;
        else
            return r;
    }
    return NULL;
}

static u8 *hva_slow(const struct guest_mem *gm, u64 gpa, u64 len, bool write)
{
    const struct mem_range *r = map_find(gm, gpa);
    if (!r || r->kind == MEM_MMIO || (write && r->kind == MEM_ROM) || len > r->end - gpa)
        return NULL;
    return r->hva + (gpa - r->start);
}

u8 *guestmem_hva(struct guest_mem *gm, u64 gpa, u64 len, bool write)
{
    u64 off = gpa - gm->hot_start;
    if (likely(off < gm->hot_size && len <= gm->hot_size - off))
        return gm->hot_hva + off;
    return hva_slow(gm, gpa, len, write);
}

bool map_ram_offset(const struct guest_mem *gm, u64 gpa, u64 *off)
{
    const u8 *p;
    if (likely(gpa - gm->hot_start < gm->hot_size))
        p = gm->hot_hva + (gpa - gm->hot_start);
    else
        p = hva_slow(gm, gpa, 1, true);
    if (!p)
        return false;
    *off = (u64)(p - gm->ram);
    return true;
}

/* --- building the map --- */

static void choose_hot(struct guest_mem *gm)
{
    gm->hot_size = 0;
    for (unsigned i = 0; i < gm->nranges; i++) {
        const struct mem_range *r = &gm->range[i];
        if (r->kind != MEM_RAM || r->end - r->start <= gm->hot_size)
            continue;
        gm->hot_start = r->start;
        gm->hot_size = r->end - r->start;
        gm->hot_hva = r->hva;
    }
}

/* The part of r in [start, end), appended to `to`. */
static void append_part(struct mem_range *to, unsigned *n, const struct mem_range *r, u64 start,
                        u64 end)
{
    start = MAX(start, r->start);
    end = MIN(end, r->end);
    if (start >= end)
        return;
    to[*n] = *r;
    to[*n].start = start;
    to[*n].end = end;
    if (r->kind != MEM_MMIO)
        to[*n].hva = r->hva + (start - r->start);
    (*n)++;
}

/* RAM and ROM stay in whole pages: page-sized mappings (TLB entries, KVM slots) depend on it. */
static bool cuts_a_page(const struct guest_mem *gm, u64 edge)
{
    const struct mem_range *r = map_find(gm, edge);
    return (edge & ~PAGE_MASK) && r && r->kind != MEM_MMIO;
}

static int map_overlay(struct guest_mem *gm, const struct mem_range *new, struct error *err)
{
    if (new->start >= new->end || new->end > GPA_LIMIT || cuts_a_page(gm, new->start) ||
        cuts_a_page(gm, new->end))
        return error_set(err, EINVAL, "bad guest-physical range %#" PRIx64 "-%#" PRIx64, new->start,
                         new->end);
    struct mem_range *to = calloc(2 * gm->nranges + 1, sizeof(*to));
    if (!to)
        return error_errno(err, ENOMEM, "guest-physical map");
    unsigned n = 0, i;
    for (i = 0; i < gm->nranges && gm->range[i].start < new->start; i++)
        append_part(to, &n, &gm->range[i], 0, new->start);
    to[n++] = *new;
    if (i > 0)
        append_part(to, &n, &gm->range[i - 1], new->end, GPA_LIMIT);
    for (; i < gm->nranges; i++)
        append_part(to, &n, &gm->range[i], new->end, GPA_LIMIT);
    free(gm->range);
    gm->range = to;
    gm->nranges = n;
    choose_hot(gm);
    return 0;
}

static int map_ram(struct guest_mem *gm, struct error *err)
{
    u64 low = MIN(gm->ram_size, RAM_LOW_MAX);
    struct mem_range r = {.start = 0, .end = low, .kind = MEM_RAM, .hva = gm->ram};
    int ret = map_overlay(gm, &r, err);
    if (ret || gm->ram_size == low)
        return ret;
    r.start = RAM_HIGH_BASE;
    r.end = RAM_HIGH_BASE + gm->ram_size - low;
    r.hva = gm->ram + low;
    return map_overlay(gm, &r, err);
}

static int ram_allocate(struct guest_mem *gm, struct error *err)
{
    gm->fd = memfd_create("ringer-ram", MFD_CLOEXEC);
    if (gm->fd < 0)
        return error_errno(err, errno, "guest RAM: memfd_create");
    if (ftruncate(gm->fd, (off_t)gm->ram_size) < 0)
        return error_errno(err, errno, "guest RAM of %llu MiB", gm->ram_size / MIB);
    void *p =
        mmap(NULL, gm->ram_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, gm->fd, 0);
    if (p == MAP_FAILED)
        return error_errno(err, errno, "guest RAM of %llu MiB", gm->ram_size / MIB);
    gm->ram = p;
    return 0;
}

int guestmem_create(u64 ram_size, struct guest_mem **out, struct error *err)
{
    if (ram_size < RAM_MIN || ram_size > RAM_MAX || (ram_size & ~PAGE_MASK))
        return error_set(err, EINVAL, "guest RAM must be 1 MiB to 256 GiB, in whole pages");
    struct guest_mem *gm = calloc(1, sizeof(*gm));
    if (!gm)
        return error_errno(err, ENOMEM, "guest memory");
    gm->fd = -1;
    gm->ram_size = ram_size;
    atomic_init(&gm->a20_mask, ~0ULL);
    int ret = ram_allocate(gm, err);
    if (!ret)
        ret = map_ram(gm, err);
    if (!ret)
        ret = codetrack_create(gm, err);
    if (ret) {
        guestmem_destroy(gm);
        return ret;
    }
    *out = gm;
    return 0;
}

void guestmem_destroy(struct guest_mem *gm)
{
    if (!gm)
        return;
    codetrack_destroy(gm);
    for (unsigned i = 0; i < gm->nroms; i++)
        munmap(gm->rom[i].hva, gm->rom[i].size);
    if (gm->ram)
        munmap(gm->ram, gm->ram_size);
    if (gm->fd >= 0)
        close(gm->fd);
    free(gm->range);
    free(gm);
}

int guestmem_add_rom(struct guest_mem *gm, u64 gpa, const void *data, u64 size, struct error *err)
{
    u64 whole = align_up(size, PAGE_SIZE);
    if (size == 0 || whole < size || (gpa & ~PAGE_MASK) || gm->nroms == MAX_ROMS)
        return error_set(err, EINVAL, "cannot place a ROM of %" PRIu64 " bytes at %#" PRIx64, size,
                         gpa);
    void *p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return error_errno(err, errno, "ROM of %" PRIu64 " bytes", size);
    memcpy(p, data, size);
    struct mem_range r = {.start = gpa, .end = gpa + whole, .kind = MEM_ROM, .hva = p};
    int ret = map_overlay(gm, &r, err);
    if (ret)
        munmap(p, whole);
    else
        gm->rom[gm->nroms++] = (struct rom_image){.hva = p, .size = whole};
    return ret;
}

int guestmem_add_mmio(struct guest_mem *gm, u64 gpa, u64 size, const struct mmio_ops *ops,
                      void *ctx, pthread_mutex_t *lock, struct error *err)
{
    struct mem_range r = {
        .start = gpa,
        .end = gpa + size,
        .kind = MEM_MMIO,
        .origin = gpa,
        .ops = ops,
        .ctx = ctx,
        .lock = lock,
    };
    return map_overlay(gm, &r, err);
}

u64 guestmem_ram_size(const struct guest_mem *gm)
{
    return gm->ram_size;
}

int guestmem_fd(const struct guest_mem *gm)
{
    return gm->fd;
}

u8 *guestmem_ram(const struct guest_mem *gm)
{
    return gm->ram;
}

bool guestmem_slot(const struct guest_mem *gm, unsigned i, struct mem_slot *out)
{
    for (unsigned n = 0; n < gm->nranges; n++) {
        const struct mem_range *r = &gm->range[n];
        if (r->kind == MEM_MMIO || i-- > 0)
            continue;
        bool rom = r->kind == MEM_ROM;
        *out = (struct mem_slot){
            .gpa = r->start,
            .size = r->end - r->start,
            .hva = r->hva,
            .rom = rom,
            .fd = rom ? -1 : gm->fd,
            .fd_offset = rom ? 0 : (u64)(r->hva - gm->ram),
        };
        return true;
    }
    return false;
}

/* --- copies by devices --- */

/* The next piece of a copy: address of gpa and how much of len lies in the same range. */
static u8 *piece(struct guest_mem *gm, u64 gpa, u64 len, bool write, u64 *n)
{
    *n = 0;
    const struct mem_range *r = map_find(gm, gpa);
    if (!r || r->kind == MEM_MMIO || (write && r->kind == MEM_ROM))
        return NULL;
    *n = MIN(len, r->end - gpa);
    return r->hva + (gpa - r->start);
}

static bool all_memory(struct guest_mem *gm, u64 gpa, u64 len, bool write)
{
    if (gpa > GPA_LIMIT || len > GPA_LIMIT - gpa)
        return false;
    for (u64 n; len; gpa += n, len -= n) {
        if (!piece(gm, gpa, len, write, &n))
            return false;
    }
    return true;
}

bool guestmem_read(struct guest_mem *gm, u64 gpa, void *buf, u64 len)
{
    if (!all_memory(gm, gpa, len, false))
        return false;
    u8 *to = buf;
    for (u64 n; len; gpa += n, to += n, len -= n) {
        const u8 *p = piece(gm, gpa, len, false, &n);
        memcpy(to, p, n);
    }
    return true;
}

bool guestmem_write(struct guest_mem *gm, u64 gpa, const void *buf, u64 len)
{
    if (!all_memory(gm, gpa, len, true))
        return false;
    const u8 *from = buf;
    u64 at = gpa, left = len;
    for (u64 n; left; at += n, from += n, left -= n) {
        u8 *p = piece(gm, at, left, true, &n);
        memcpy(p, from, n);
    }
    /* The writer may be any thread, and a decoder fences only for the sake of vCPUs. */
    atomic_thread_fence(memory_order_seq_cst);
    code_written(gm, gpa, len);
    return true;
}

/* --- single accesses --- */

static u64 mmio_read(const struct mem_range *r, u64 gpa, unsigned size)
{
    if (r->lock)
        pthread_mutex_lock(r->lock);
    u64 value = r->ops->read(r->ctx, gpa - r->origin, size);
    if (r->lock)
        pthread_mutex_unlock(r->lock);
    return value & size_mask(size);
}

static void mmio_write(const struct mem_range *r, u64 gpa, u64 value, unsigned size)
{
    if (r->lock)
        pthread_mutex_lock(r->lock);
    r->ops->write(r->ctx, gpa - r->origin, value & size_mask(size), size);
    if (r->lock)
        pthread_mutex_unlock(r->lock);
}

static bool reaches_past(const struct mem_range *r, u64 gpa, unsigned size)
{
    return r && r->end - gpa < size;
}

u64 guestmem_load(struct guest_mem *gm, u64 gpa, unsigned size, bool *device)
{
    const struct mem_range *r = map_find(gm, gpa);
    if (unlikely(reaches_past(r, gpa, size))) {
        u64 value = 0;
        for (unsigned i = 0; i < size; i++)
            value |= guestmem_load(gm, gpa + i, 1, device) << (8 * i);
        return value;
    }
    if (!r)
        return size_mask(size);
    if (r->kind != MEM_MMIO)
        return ram_load(r->hva + (gpa - r->start), size);
    if (device)
        *device = true;
    return mmio_read(r, gpa, size);
}

void guestmem_store(struct guest_mem *gm, u64 gpa, u64 value, unsigned size, bool *device)
{
    const struct mem_range *r = map_find(gm, gpa);
    if (unlikely(reaches_past(r, gpa, size))) {
        for (unsigned i = 0; i < size; i++)
            guestmem_store(gm, gpa + i, value >> (8 * i), 1, device);
        return;
    }
    if (!r || r->kind == MEM_ROM)
        return;
    if (r->kind == MEM_RAM) {
        ram_store(r->hva + (gpa - r->start), value, size);
        code_written(gm, gpa, size);
        return;
    }
    if (device)
        *device = true;
    mmio_write(r, gpa, value, size);
}

bool guestmem_set_a20(struct guest_mem *gm, bool open)
{
    u64 mask = open ? ~0ULL : ~BIT(20);
    return atomic_exchange(&gm->a20_mask, mask) != mask;
}

u64 guestmem_a20_mask(const struct guest_mem *gm)
{
    return atomic_load_explicit(&gm->a20_mask, memory_order_relaxed);
}

bool guestmem_a20(const struct guest_mem *gm)
{
    return guestmem_a20_mask(gm) == ~0ULL;
}
