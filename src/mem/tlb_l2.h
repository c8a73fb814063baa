/*
 * The inside of the TLB: what tlb.c (insertions, flushes) and tlb_fill.c (lookups, the first level)
 * share.
 */
#ifndef RINGER_MEM_TLB_L2_H
#define RINGER_MEM_TLB_L2_H

#include "mem/access.h"

#define TLB_PCIDS 4096

enum { L2_USER = 1, L2_WRITABLE = 2, L2_NX = 4, L2_GLOBAL = 8, L2_DIRTY = 16 };

/* One page of the guest's. Valid if its generations are the current ones. */
struct l2_entry {
    u64 page;            /* lin >> shift */
    u64 base;            /* physical address of the page */
    u32 generation;      /* of all entries, or of all that are not global */
    u32 pcid_generation; /* not global: of its PCID */
    u16 pcid;
    u8 shift;
    u8 flags;
};

struct tlb_l2 {
    u32 generation_global, generation_local; /* never 0 */
    u64 sizes;       /* bit n: pages of 1 << n bytes were entered since all was empty */
    bool large_lost; /* a large page was evicted since tlb_flushed was last told of ALL */
    unsigned victim;
    u32 pcid_generation[TLB_PCIDS];
    struct l2_entry set[TUNE_TLB_L2_SETS][TUNE_TLB_L2_WAYS];
};

static inline u16 tlb_pcid(const struct vcpu *v)
{
    return v->cr4 & CR4_PCIDE ? (u16)(v->cr3 & CR3_PCID) : 0;
}

static inline struct l2_entry *l2_set(struct tlb_l2 *l2, u64 page)
{
    return l2->set[(page ^ page >> 10) % TUNE_TLB_L2_SETS];
}

static inline bool l2_valid(const struct tlb_l2 *l2, const struct l2_entry *e)
{
    if (e->flags & L2_GLOBAL)
        return e->generation == l2->generation_global;
    return e->generation == l2->generation_local &&
           e->pcid_generation == l2->pcid_generation[e->pcid];
}

/* First-level entry by its index in a log. */
static inline struct tlb_entry *l1_at(struct vcpu *v, unsigned index)
{
    struct tlb_entry *first = v->l1[0];
    return first + index;
}

/* The valid entry for lin in pages of this size. */
struct l2_entry *l2_find(struct tlb_l2 *l2, u64 lin, unsigned shift, u16 pcid);

/* The translation of lin in the current PCID, if the second level has it. */
bool l2_lookup(struct vcpu *v, u64 lin, struct walk_result *r);

/* What the context ctx means for walk_allows(). */
void tlb_context_rules(enum tlb_context ctx, bool *user, bool *smap_ac);

/* Makes the first-level entry for lin in ctx from r, if that is RAM or ROM, with the tags for every
 * access that r allows. */
void l1_fill(struct vcpu *v, u64 lin, unsigned access, enum tlb_context ctx,
             const struct walk_result *r);

#endif
