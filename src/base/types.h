/*
 * The vocabulary that every other file uses: fixed-width integers, bit helpers and unaligned
 * little-endian access. Nothing here has state.
 */
#ifndef RINGER_BASE_TYPES_H
#define RINGER_BASE_TYPES_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;
typedef unsigned __int128 u128;
typedef __int128 i128;

#define likely(x)              __builtin_expect(!!(x), 1)
#define unlikely(x)            __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a)          (sizeof(a) / sizeof((a)[0]))
#define BIT(n)                 (1ULL << (n))
#define MIN(a, b)              ((a) < (b) ? (a) : (b))
#define MAX(a, b)              ((a) > (b) ? (a) : (b))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define KIB 1024ULL
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096ULL
#define PAGE_MASK  (~(PAGE_SIZE - 1))

/* Bits [hi:lo] of v. */
static inline u64 bits(u64 v, unsigned hi, unsigned lo)
{
    return (v >> lo) & (~0ULL >> (63 - (hi - lo)));
}

/* A value with its low `size` bytes set; size is 1, 2, 4 or 8. */
static inline u64 size_mask(unsigned size)
{
    return ~0ULL >> (64 - 8 * size);
}

/* v, taken as a signed number of `size` bytes (1, 2, 4 or 8), widened to 64 bits. */
static inline i64 sign_extend(u64 v, unsigned size)
{
    unsigned shift = 64 - 8 * size;
    return (i64)(v << shift) >> shift;
}

static inline u64 align_up(u64 v, u64 align)
{
    return (v + align - 1) & ~(align - 1);
}

static inline u64 align_down(u64 v, u64 align)
{
    return v & ~(align - 1);
}

/* Little-endian loads and stores at any alignment; size is 1, 2, 4 or 8. */
static inline u64 load_le(const void *p, unsigned size)
{
    u64 v = 0;
    memcpy(&v, p, size);
    return v;
}

static inline void store_le(void *p, u64 v, unsigned size)
{
    memcpy(p, &v, size);
}

#endif
