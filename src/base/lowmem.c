/*
 * Mappings without access and without memory: the host gives no address of them to anyone else.
 */
#include "base/lowmem.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

bool lowmem_keep(u64 end)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    void *want = (void *)LOWMEM_START;
    void *p = mmap(want, end - LOWMEM_START, PROT_NONE, flags, -1, 0);
    if (p != MAP_FAILED && p != want) /* an old kernel, which takes it for a hint */
        munmap(p, end - LOWMEM_START);
    return p == want;
}

void lowmem_give_back(u64 end)
{
    munmap((void *)LOWMEM_START, end - LOWMEM_START);
}

bool lowmem_upper_readable(void)
{
    char line[256];
    bool readable = false;
    FILE *f = fopen("/proc/self/maps", "re");
    if (!f)
        return true;
    while (fgets(line, sizeof(line), f))
        readable |= strstr(line, "[vsyscall]") && strstr(line, " r");
    fclose(f);
    return readable;
}
