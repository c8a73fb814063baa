/*
 * Single loads and stores of guest RAM at any alignment. Each is one host instruction, so an
 * aligned guest access is as atomic as on the machine itself; hence volatile, and no memcpy.
 */
#ifndef RINGER_MEM_RAMACCESS_H
#define RINGER_MEM_RAMACCESS_H

#include "base/types.h"

typedef u16 u16_any __attribute__((aligned(1), may_alias));
typedef u32 u32_any __attribute__((aligned(1), may_alias));
typedef u64 u64_any __attribute__((aligned(1), may_alias));

/* size is 1, 2, 4 or 8. */
static inline u64 ram_load(const void *p, unsigned size)
{
    switch (size) {
    case 1:
        return *(const volatile u8 *)p;
    case 2:
        return *(const volatile u16_any *)p;
    case 4:
        return *(const volatile u32_any *)p;
    default:
        return *(const volatile u64_any *)p;
    }
}

static inline void ram_store(void *p, u64 value, unsigned size)
{
    switch (size) {
    case 1:
        *(volatile u8 *)p = (u8)value;
        break;
    case 2:
        *(volatile u16_any *)p = (u16)value;
        break;
    case 4:
        *(volatile u32_any *)p = (u32)value;
        break;
    default:
        *(volatile u64_any *)p = value;
        break;
    }
}

#endif
