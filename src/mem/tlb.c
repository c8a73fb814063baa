/*
 * The software TLB. The second level caches what walks found, in the page sizes of the guest,
 * tagged with PCID and global bit, so INVLPG finds a large page at its one place. The first level
 * holds 4 KiB pieces of these with the rights of one context worked in. What the first level holds
 * of a large page is always in the second level too (an eviction there flushes the first level), so
 * that dropping a large page cannot leave pieces behind. Flushes count generations up; only when a
 * counter wraps is memory cleared.
 */
#include "mem/tlb.h"

#include <errno.h>
#include <stdlib.h>

#include "mem/access.h"

#define L1_REVISION_MAX 0xfff
#define PCIDS           4096

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
    u64 sizes; /* bit n: pages of 1 << n bytes were entered since all was empty */
    unsigned victim;
    u32 pcid_generation[PCIDS];
    struct l2_entry set[TUNE_TLB_L2_SETS][TUNE_TLB_L2_WAYS];
};

int tlb_create(struct vcpu *v)
{
    struct tlb *t = calloc(1, sizeof(*t));
    struct tlb_l2 *l2 = calloc(1, sizeof(*l2));
    if (!t || !l2) {
        free(t);
        free(l2);
        return -ENOMEM;
    }
    struct guest_mem *gm = v->machine->mem;
    l2->generation_global = l2->generation_local = 1;
    t->l2 = l2;
    t->revision = 1;
    t->mem = gm;
    t->ram = guestmem_ram(gm);
    t->ram_size = guestmem_ram_size(gm);
    t->ram_low = MIN(t->ram_size, RAM_LOW_MAX);
    t->code_mask = guestmem_code_masks(gm);
    v->tlb = t;
    return 0;
}

void tlb_destroy(struct vcpu *v)
{
    if (!v->tlb)
        return;
    free(v->tlb->l2);
    free(v->tlb);
    v->tlb = NULL;
}

static u16 current_pcid(const struct vcpu *v)
{
    return v->cr4 & CR4_PCIDE ? (u16)(v->cr3 & CR3_PCID) : 0;
}

/* --- second level --- */

static struct l2_entry *l2_set(struct tlb_l2 *l2, u64 page)
{
    return l2->set[(page ^ page >> 10) % TUNE_TLB_L2_SETS];
}

static bool l2_valid(const struct tlb_l2 *l2, const struct l2_entry *e)
{
    if (e->flags & L2_GLOBAL)
        return e->generation == l2->generation_global;
    return e->generation == l2->generation_local &&
           e->pcid_generation == l2->pcid_generation[e->pcid];
}

/* The valid entry for lin in pages of this size. */
static struct l2_entry *l2_find(struct tlb_l2 *l2, u64 lin, unsigned shift, u16 pcid)
{
    u64 page = lin >> shift;
    struct l2_entry *set = l2_set(l2, page);
    for (unsigned i = 0; i < TUNE_TLB_L2_WAYS; i++) {
        struct l2_entry *e = &set[i];
        if (e->page == page && e->shift == shift && (e->pcid == pcid || (e->flags & L2_GLOBAL)) &&
            l2_valid(l2, e))
            return e;
    }
    return NULL;
}

static void l2_result(const struct l2_entry *e, u64 lin, u64 a20_mask, struct walk_result *r)
{
    *r = (struct walk_result){
        .gpa = (e->base | (lin & (BIT(e->shift) - 1))) & a20_mask,
        .shift = e->shift,
        .user = (e->flags & L2_USER) != 0,
        .writable = (e->flags & L2_WRITABLE) != 0,
        .nx = (e->flags & L2_NX) != 0,
        .global = (e->flags & L2_GLOBAL) != 0,
        .dirty = (e->flags & L2_DIRTY) != 0,
    };
}

static bool l2_lookup(struct vcpu *v, u64 lin, struct walk_result *r)
{
    struct tlb_l2 *l2 = v->tlb->l2;
    u16 pcid = current_pcid(v);
    for (u64 sizes = l2->sizes; sizes; sizes &= sizes - 1) {
        const struct l2_entry *e = l2_find(l2, lin, (unsigned)__builtin_ctzll(sizes), pcid);
        if (e) {
            l2_result(e, lin, guestmem_a20_mask(v->tlb->mem), r);
            return true;
        }
    }
    return false;
}

static void l1_flush(struct tlb *t)
{
    if (t->revision++ < L1_REVISION_MAX)
        return;
    memset(t->l1, 0, sizeof(t->l1));
    t->revision = 1;
}

static struct l2_entry *l2_choose(struct tlb *t, u64 page)
{
    struct tlb_l2 *l2 = t->l2;
    struct l2_entry *set = l2_set(l2, page);
    for (unsigned i = 0; i < TUNE_TLB_L2_WAYS; i++) {
        if (!l2_valid(l2, &set[i]))
            return &set[i];
    }
    struct l2_entry *e = &set[l2->victim++ % TUNE_TLB_L2_WAYS];
    if (e->shift > PAGE_SHIFT)
        l1_flush(t);
    return e;
}

static void l2_insert(struct vcpu *v, u64 lin, const struct walk_result *r)
{
    struct tlb_l2 *l2 = v->tlb->l2;
    u16 pcid = current_pcid(v);
    struct l2_entry *e = l2_find(l2, lin, r->shift, pcid);
    if (!e)
        e = l2_choose(v->tlb, lin >> r->shift);
    /* With A20 closed only this 4 KiB piece of the page is known, but bit 20 is masked again at
     * each use, so clearing the offset gives the right base. */
    *e = (struct l2_entry){
        .page = lin >> r->shift,
        .base = r->gpa & ~(BIT(r->shift) - 1),
        .generation = r->global ? l2->generation_global : l2->generation_local,
        .pcid_generation = l2->pcid_generation[pcid],
        .pcid = pcid,
        .shift = (u8)r->shift,
        .flags =
            (u8)((r->user ? L2_USER : 0) | (r->writable ? L2_WRITABLE : 0) | (r->nx ? L2_NX : 0) |
                 (r->global ? L2_GLOBAL : 0) | (r->dirty ? L2_DIRTY : 0)),
    };
    l2->sizes |= BIT(r->shift);
}

/* Drops the entries for lin that `pcid` uses. Returns whether one was a large page. */
static bool l2_drop(struct tlb_l2 *l2, u64 lin, u16 pcid, bool global_too)
{
    bool large = false;
    for (u64 sizes = l2->sizes; sizes; sizes &= sizes - 1) {
        unsigned shift = (unsigned)__builtin_ctzll(sizes);
        struct l2_entry *set = l2_set(l2, lin >> shift);
        for (unsigned i = 0; i < TUNE_TLB_L2_WAYS; i++) {
            struct l2_entry *e = &set[i];
            bool global = (e->flags & L2_GLOBAL) != 0;
            if (e->page != lin >> shift || e->shift != shift ||
                (global ? !global_too : e->pcid != pcid))
                continue;
            large |= shift > PAGE_SHIFT && l2_valid(l2, e);
            e->generation = 0;
        }
    }
    return large;
}

static void l2_clear(struct tlb_l2 *l2)
{
    memset(l2, 0, sizeof(*l2));
    l2->generation_global = l2->generation_local = 1;
}

/* --- first level --- */

static void context_rules(enum tlb_context ctx, bool *user, bool *smap_ac)
{
    *user = ctx == TLB_USER || ctx == TLB_USER_AC;
    *smap_ac = ctx == TLB_KERNEL_AC;
}

static void l1_fill(struct vcpu *v, u64 lin, enum tlb_context ctx, const struct walk_result *r)
{
    struct tlb *t = v->tlb;
    u64 gpa = r->gpa & PAGE_MASK;
    u8 *hva = guestmem_hva(t->mem, gpa, PAGE_SIZE, false);
    /* Fast paths take a tag for canonical. Tables and code may reach past the last such address. */
    if (!hva || !canonical(lin))
        return;
    bool user, ac;
    context_rules(ctx, &user, &ac);
    bool data = !t->breakpoints && ctx != TLB_USER_AC;
    bool write = data && r->dirty && guestmem_hva(t->mem, gpa, PAGE_SIZE, true);
    u64 tag = (lin & PAGE_MASK) | t->revision;
    struct tlb_entry *e = tlb_entry(t, ctx, lin);
    e->read = data && walk_allows(v, ACCESS_READ, user, ac, r) ? tag : 0;
    e->write = write && walk_allows(v, ACCESS_WRITE, user, ac, r) ? tag : 0;
    e->exec = walk_allows(v, ACCESS_EXEC, user, ac, r) ? tag : 0;
    e->addend = (u64)(uintptr_t)hva - (lin & PAGE_MASK);
}

static void l1_drop(struct tlb *t, u64 lin)
{
    for (unsigned ctx = 0; ctx < TLB_CONTEXTS; ctx++) {
        struct tlb_entry *e = tlb_entry(t, ctx, lin);
        e->read = e->write = e->exec = 0;
    }
}

bool tlb_translate(struct vcpu *v, u64 lin, unsigned access, enum tlb_context ctx, u64 *gpa,
                   u32 *error)
{
    struct walk_result r;
    bool user, ac, paged = (v->cr0 & CR0_PG) != 0;
    context_rules(ctx, &user, &ac);
    if (paged && l2_lookup(v, lin, &r) && walk_allows(v, access, user, ac, &r) &&
        (r.dirty || !(access & ACCESS_WRITE))) {
        stat_inc(&v->stats, STAT_TLB_L2_HIT);
    } else {
        if (walk(v, lin, access, user, ac, &r, error) < 0) {
            tlb_flush_page(v, lin); /* a page fault does (SDM vol. 3, 4.10.4.1) */
            return false;
        }
        stat_inc(&v->stats, STAT_TLB_FILL);
        if (paged)
            l2_insert(v, lin, &r);
    }
    l1_fill(v, lin, ctx, &r);
    *gpa = r.gpa;
    return true;
}

/* --- flushes --- */

void tlb_flush_all(struct vcpu *v)
{
    struct tlb_l2 *l2 = v->tlb->l2;
    stat_inc(&v->stats, STAT_TLB_FLUSH);
    l1_flush(v->tlb);
    l2->sizes = 0;
    if (++l2->generation_global == 0 || ++l2->generation_local == 0)
        l2_clear(l2);
}

void tlb_flush_nonglobal(struct vcpu *v)
{
    struct tlb_l2 *l2 = v->tlb->l2;
    l1_flush(v->tlb);
    if (++l2->generation_local == 0)
        l2_clear(l2);
}

void tlb_flush_page(struct vcpu *v, u64 lin)
{
    if (l2_drop(v->tlb->l2, lin, current_pcid(v), true))
        l1_flush(v->tlb);
    else
        l1_drop(v->tlb, lin);
}

void tlb_flush_pcid_page(struct vcpu *v, u16 pcid, u64 lin)
{
    bool large = l2_drop(v->tlb->l2, lin, pcid, false);
    if (pcid != current_pcid(v))
        return;
    if (large)
        l1_flush(v->tlb);
    else
        l1_drop(v->tlb, lin);
}

void tlb_flush_pcid(struct vcpu *v, u16 pcid)
{
    struct tlb_l2 *l2 = v->tlb->l2;
    l1_flush(v->tlb);
    if (++l2->pcid_generation[pcid % PCIDS] == 0)
        l2_clear(l2);
}

void tlb_switch(struct vcpu *v)
{
    l1_flush(v->tlb);
}

void tlb_set_breakpoints(struct vcpu *v)
{
    bool on = false;
    for (unsigned n = 0; n < 4; n++) {
        unsigned kind = (unsigned)bits(v->dr[7], 17 + 4 * n, 16 + 4 * n);
        on |= bits(v->dr[7], 2 * n + 1, 2 * n) != 0 && (kind & 1);
    }
    if (on != v->tlb->breakpoints)
        l1_flush(v->tlb);
    v->tlb->breakpoints = on;
}
