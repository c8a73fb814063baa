/*
 * Memory in huge pages: whole ones at their boundaries, which the host is asked to back at once.
 */
#include "base/huge.h"

#include <sys/mman.h>

#include "base/types.h"

#define HUGE_PAGE (2 * MIB)

void *huge_create(size_t bytes)
{
    size_t size = align_up(bytes, HUGE_PAGE);
    u8 *mem = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem == MAP_FAILED)
        return NULL;
    u8 *at = (u8 *)(uintptr_t)align_up((u64)(uintptr_t)mem, HUGE_PAGE);
    if (at > mem)
        munmap(mem, (size_t)(at - mem));
    if (at < mem + HUGE_PAGE)
        munmap(at + size, (size_t)(mem + HUGE_PAGE - at));
    madvise(at, size, MADV_HUGEPAGE);
    return at;
}

void huge_destroy(void *p, size_t bytes)
{
    if (p)
        munmap(p, align_up(bytes, HUGE_PAGE));
}
