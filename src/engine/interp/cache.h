/*
 * The interpreter's cache of decoded code. A block is a run of instructions in one page, up to the
 * first that ends it; it is found by physical address and mode, so remapping a page costs nothing.
 * Before each run its page's version is compared (mem/guestmem.h): a write near the code makes it
 * stale. An instruction that crosses a page is a block of its own, which also holds the physical
 * address of its second page.
 */
#ifndef RINGER_ENGINE_INTERP_CACHE_H
#define RINGER_ENGINE_INTERP_CACHE_H

#include "cpu/insn.h"
#include "mem/guestmem.h"

#define NO_GPA (~0ULL) /* an address that no code has */

/* The version of the page that holds some bytes of a block. */
struct block_page {
    const _Atomic u32 *now; /* the page's current version */
    u32 version;            /* as it was when the block was decoded */
};

struct block {
    u64 gpa;  /* of the first byte; NO_GPA: not to be found again */
    u64 gpa2; /* of the second page's first byte, if the one instruction crosses a page; else NO_GPA
               */
    struct block_page page, page2;
    u8 mode;      /* enum cpu_mode that it was decoded for */
    u8 count;     /* instructions, at least 1 */
    u8 end_class; /* enum insn_class of the last one */
    u8 next_link; /* which of link[] is replaced next */
    u16 bytes;    /* length of all instructions */
    const struct insn *insn;
    struct block *link[2]; /* blocks that followed lately; never NULL */
    struct block *chain;   /* in its hash bucket */
};

struct code_cache;

/* NULL: no memory. */
struct code_cache *cache_create(void);
void cache_destroy(struct code_cache *c);

/* A block that is never found and never valid: for link[] and wherever there is none. */
struct block *cache_none(struct code_cache *c);

/* The block at CS:RIP, whose physical address is gpa: found, or decoded now. Raises the faults of
 * fetching and decoding its first instruction. When the cache is full it is emptied: then *last, a
 * block that the caller holds, becomes cache_none(). The result is valid until the next call. */
struct block *cache_get(struct code_cache *c, struct vcpu *v, u64 gpa, struct block **last);

/* Is the second page of b still the one that was decoded, and unchanged? May raise its fetch fault.
 */
bool block_check_second(struct vcpu *v, const struct block *b);

static inline bool page_unchanged(const struct block_page *p)
{
    return atomic_load_explicit(p->now, memory_order_acquire) == p->version;
}

static inline bool block_valid(struct vcpu *v, const struct block *b)
{
    return page_unchanged(&b->page) && (b->gpa2 == NO_GPA || block_check_second(v, b));
}

static inline bool block_is(const struct block *b, u64 gpa, unsigned mode)
{
    return b->gpa == gpa && b->mode == mode;
}

#endif
