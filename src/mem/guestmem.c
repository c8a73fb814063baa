/*
 * Guest-physical memory as a whole: making it, copies by devices, single accesses, the A20 gate.
 * What lies where is in map.c.
 */
#include "mem/map.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "mem/ramaccess.h"

int guestmem_create(u64 ram_size, struct guest_mem **out, struct error *err)
{
    if (ram_size < RAM_MIN || ram_size > RAM_MAX || (ram_size & ~PAGE_MASK))
        return error_set(err, EINVAL, "guest RAM must be 1 MiB to 256 GiB, in whole pages");
    struct guest_mem *gm = calloc(1, sizeof(*gm));
    if (!gm)
        return error_errno(err, ENOMEM, "guest memory");
    atomic_init(&gm->a20_mask, ~0ULL);
    int ret = map_create(gm, ram_size, err);
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
    map_destroy(gm);
    free(gm);
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

u64 guestmem_pages(const struct guest_mem *gm)
{
    return gm->memory_size >> PAGE_SHIFT;
}

void guestmem_clear_ram(struct guest_mem *gm)
{
    if (madvise(gm->ram, gm->ram_size, MADV_REMOVE) < 0)
        memset(gm->ram, 0, gm->ram_size);
    code_written_ram(gm, 0, gm->ram_size);
}

/* --- copies by devices --- */

u8 *guestmem_piece(struct guest_mem *gm, u64 gpa, u64 len, bool write, u64 *n)
{
    *n = 0;
    struct mem_range r;
    if (!map_find(gm, gpa, &r) || r.kind == MEM_MMIO || (write && r.kind == MEM_ROM))
        return NULL;
    *n = MIN(len, r.end - gpa);
    return r.hva + (gpa - r.start);
}

static bool all_memory(struct guest_mem *gm, u64 gpa, u64 len, bool write)
{
    if (len > UINT64_MAX - gpa)
        return false;
    for (u64 n; len; gpa += n, len -= n) {
        if (!guestmem_piece(gm, gpa, len, write, &n))
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
        const u8 *p = guestmem_piece(gm, gpa, len, false, &n);
        if (!p) /* the map has just changed */
            return false;
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
        u8 *p = guestmem_piece(gm, at, left, true, &n);
        if (!p) /* the map has just changed */
            return false;
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

u64 guestmem_load(struct guest_mem *gm, u64 gpa, unsigned size, bool *device)
{
    struct mem_range r;
    if (!map_find(gm, gpa, &r))
        return size_mask(size);
    if (unlikely(r.end - gpa < size)) {
        u64 value = 0;
        for (unsigned i = 0; i < size; i++)
            value |= guestmem_load(gm, gpa + i, 1, device) << (8 * i);
        return value;
    }
    if (r.kind != MEM_MMIO)
        return ram_load(r.hva + (gpa - r.start), size);
    if (device)
        *device = true;
    return mmio_read(&r, gpa, size);
}

void guestmem_store(struct guest_mem *gm, u64 gpa, u64 value, unsigned size, bool *device)
{
    struct mem_range r;
    if (!map_find(gm, gpa, &r))
        return;
    if (unlikely(r.end - gpa < size)) {
        for (unsigned i = 0; i < size; i++)
            guestmem_store(gm, gpa + i, value >> (8 * i), 1, device);
        return;
    }
    if (r.kind == MEM_ROM)
        return;
    if (r.kind == MEM_RAM) {
        ram_store(r.hva + (gpa - r.start), value, size);
        code_written(gm, gpa, size);
        return;
    }
    if (device)
        *device = true;
    mmio_write(&r, gpa, value, size);
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
