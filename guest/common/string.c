/*
 * The two functions that the compiler calls by itself.
 */
#include "guest.h"

void *memset(void *p, int c, __SIZE_TYPE__ n)
{
    for (u8 *b = p; n--; b++)
        *b = (u8)c;
    return p;
}

void *memcpy(void *d, const void *s, __SIZE_TYPE__ n)
{
    u8 *to = d;
    for (const u8 *from = s; n--;)
        *to++ = *from++;
    return d;
}
