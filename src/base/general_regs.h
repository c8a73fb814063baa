/*
 * memset and memcpy for sources that run with the guest's FP state in the host's registers, in
 * builds with AddressSanitizer: it makes calls of what the compiler inlines otherwise, and libc's
 * functions use these registers. The Makefile includes it before such sources (FP_LIVE).
 */
#ifndef RINGER_BASE_GENERAL_REGS_H
#define RINGER_BASE_GENERAL_REGS_H

#include <string.h>

static inline void *general_memset(void *to, int byte, size_t bytes)
{
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(byte) : "memory");
    return to;
}

static inline void *general_memcpy(void *to, const void *from, size_t bytes)
{
    void *at = to;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
    return to;
}

#define memset general_memset
#define memcpy general_memcpy

#endif
