/*
 * Which bytes of memory have been decoded as code. A writer stores and then looks at the page's
 * mask; a decoder sets the mask and then reads the bytes. For one of them to see the other, each
 * needs a fence between its two steps; the writer's is far too frequent to pay for, so the decoder
 * makes all running vCPUs execute one, by membarrier(2), when it sets a bit that was clear.
 *
 * Setting bits (with the membarrier) and taking them back after a hit exclude each other by a lock
 * per page (striped). So a decoder that finds its bits set knows that their membarrier is over. A
 * writer makes the new version before it clears the mask: whoever sees the mask clear can rely on
 * the old blocks being stale already. Blocks that no version makes stale are made so by the hook,
 * which clears the mask itself (code_forget) after that.
 */
#include "mem/map.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int membarrier(int command)
{
    return (int)syscall(SYS_membarrier, command, 0, 0);
}

static void *array_allocate(u64 size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int codetrack_create(struct guest_mem *gm, struct error *err)
{
    u64 pages = gm->memory_size >> PAGE_SHIFT;
    for (unsigned i = 0; i < CODE_LOCKS; i++)
        pthread_mutex_init(&gm->code_lock[i], NULL);
    pthread_rwlock_init(&gm->code_hook_lock, NULL);
    gm->code_mask = array_allocate(pages * sizeof(*gm->code_mask));
    gm->code_version = array_allocate(pages * sizeof(*gm->code_version));
    if (!gm->code_mask || !gm->code_version)
        return error_errno(err, ENOMEM, "code tracking");
    return 0;
}

void codetrack_destroy(struct guest_mem *gm)
{
    u64 pages = gm->memory_size >> PAGE_SHIFT;
    if (gm->code_mask)
        munmap(gm->code_mask, pages * sizeof(*gm->code_mask));
    if (gm->code_version)
        munmap(gm->code_version, pages * sizeof(*gm->code_version));
}

int guestmem_set_threads(struct guest_mem *gm, unsigned n, struct error *err)
{
    if (n > 1 && membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) < 0)
        return error_errno(err, errno, "several vCPUs need the system call membarrier");
    gm->membarrier = n > 1;
    return 0;
}

_Atomic u64 *guestmem_code_masks(struct guest_mem *gm)
{
    return gm->code_mask;
}

static pthread_mutex_t *page_lock(struct guest_mem *gm, u64 page)
{
    return &gm->code_lock[page % CODE_LOCKS];
}

/* Bits of the mask for the bytes first to last of a page. */
static u64 chunk_bits(u64 first, u64 last)
{
    return bits(~0ULL, (unsigned)(last >> 6), 0) & ~0ULL << (first >> 6);
}

/* len bytes at gpa, or up to the end of the page. */
static u64 mask_for(u64 gpa, u64 len)
{
    u64 first = gpa & ~PAGE_MASK;
    return chunk_bits(first, MIN(first + len, PAGE_SIZE) - 1);
}

u32 code_protect(struct guest_mem *gm, u64 gpa, unsigned len)
{
    u64 off;
    if (!map_memory_offset(gm, gpa, &off))
        return atomic_load(&gm->constant_version);
    u64 page = off >> PAGE_SHIFT, want = mask_for(gpa, len);
    pthread_mutex_lock(page_lock(gm, page));
    u64 old = atomic_fetch_or(&gm->code_mask[page], want);
    if (gm->membarrier && (old & want) != want) {
        int ret = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        assert(ret == 0); /* registered by guestmem_set_threads */
        (void)ret;
    }
    u32 version = atomic_load(&gm->code_version[page]);
    pthread_mutex_unlock(page_lock(gm, page));
    return version;
}

bool code_verify(struct guest_mem *gm, u64 gpa, unsigned len, u32 version)
{
    u64 off;
    if (!map_memory_offset(gm, gpa, &off))
        return true;
    u64 page = off >> PAGE_SHIFT, want = mask_for(gpa, len);
    return atomic_load(&gm->code_version[page]) == version &&
           (atomic_load(&gm->code_mask[page]) & want) == want;
}

_Atomic u64 *code_mask_of(struct guest_mem *gm, u64 gpa)
{
    u64 off;
    return map_memory_offset(gm, gpa, &off) ? &gm->code_mask[off >> PAGE_SHIFT] : NULL;
}

_Atomic u32 *code_version_of(struct guest_mem *gm, u64 gpa)
{
    u64 off;
    return map_memory_offset(gm, gpa, &off) ? &gm->code_version[off >> PAGE_SHIFT]
                                            : &gm->constant_version;
}

u32 code_version(const struct guest_mem *gm, u64 gpa)
{
    u64 off;
    if (!map_memory_offset(gm, gpa, &off))
        return atomic_load(&gm->constant_version);
    return atomic_load(&gm->code_version[off >> PAGE_SHIFT]);
}

void guestmem_on_code_write(struct guest_mem *gm, code_write_fn *fn, void *ctx)
{
    pthread_rwlock_wrlock(&gm->code_hook_lock);
    gm->code_hook = fn;
    gm->code_hook_ctx = ctx;
    pthread_rwlock_unlock(&gm->code_hook_lock);
}

void code_forget(struct guest_mem *gm, u64 page, u64 chunks)
{
    pthread_mutex_lock(page_lock(gm, page));
    atomic_fetch_add(&gm->code_version[page], 1);
    atomic_fetch_and(&gm->code_mask[page], ~chunks);
    pthread_mutex_unlock(page_lock(gm, page));
}

static void call_hook(struct guest_mem *gm, u64 page, u64 chunks)
{
    pthread_rwlock_rdlock(&gm->code_hook_lock);
    if (gm->code_hook)
        gm->code_hook(gm->code_hook_ctx, page, chunks);
    else
        code_forget(gm, page, chunks);
    pthread_rwlock_unlock(&gm->code_hook_lock);
}

/* A write of the chunks `wrote` of a RAM page: was there code? Then the page gets a new version,
 * which makes all that was decoded from it doubtful; who compares bytes to renew it sets its bits
 * again. The hook is told the chunks, and what it keeps by them needs the others' bits to stay. */
static bool page_written(struct guest_mem *gm, u64 page, u64 wrote)
{
    if (likely(!(atomic_load_explicit(&gm->code_mask[page], memory_order_relaxed) & wrote)))
        return false;
    call_hook(gm, page, wrote);
    return true;
}

bool code_written_ram(struct guest_mem *gm, u64 off, u64 len)
{
    bool hit = false;
    atomic_signal_fence(memory_order_seq_cst); /* the store comes before the look at the mask */
    for (u64 n; len; off += n, len -= n) {
        n = MIN(len, PAGE_SIZE - (off & ~PAGE_MASK));
        hit |= page_written(gm, off >> PAGE_SHIFT, mask_for(off, n));
    }
    return hit;
}

bool code_written(struct guest_mem *gm, u64 gpa, u64 len)
{
    bool hit = false;
    for (u64 n; len; gpa += n, len -= n) {
        u64 off;
        n = MIN(len, PAGE_SIZE - (gpa & ~PAGE_MASK));
        if (map_memory_offset(gm, gpa, &off))
            hit |= code_written_ram(gm, off, n);
    }
    return hit;
}
