/*
 * The software TLB. The second level caches what walks found, in the page sizes of the guest,
 * tagged with PCID and global bit, so INVLPG finds a large page at its one place; flushes count its
 * generations up. The first level holds 4 KiB pieces of these with the rights of one context worked
 * in, and is flushed entry by entry, by the logs of what was filled.
 *
 * What the first level holds of a large page is always in the second level too, as the same kind
 * (global or not), so that dropping a large page cannot leave pieces behind. Hence an eviction of a
 * large page, or a new kind for it, flushes the first level.
 */
#include "mem/tlb.h"

#include <errno.h>
#include <stdlib.h>

#include "base/huge.h"
#include "mem/tlb_l2.h"

static void l1_clear(struct tlb_entry *e)
{
    e->read = e->write = e->write_any = TLB_NO_TAG;
    e->exec = 0;
}

static void l1_init(struct vcpu *v)
{
    for (unsigned i = 0; i < TLB_CONTEXTS * TUNE_TLB_L1_ENTRIES; i++) {
        l1_clear(l1_at(v, i));
        l1_at(v, i)->logged = 0;
    }
}

int tlb_create(struct vcpu *v)
{
    struct tlb *t = calloc(1, sizeof(*t));
    struct tlb_l2 *l2 = huge_create(sizeof(*l2));
    if (!t || !l2) {
        free(t);
        huge_destroy(l2, sizeof(*l2));
        return -ENOMEM;
    }
    struct guest_mem *gm = v->machine->mem;
    l2->generation_global = l2->generation_local = 1;
    t->l2 = l2;
    t->mem = gm;
    t->ram = guestmem_ram(gm);
    t->ram_size = guestmem_ram_size(gm);
    t->ram_low = MIN(t->ram_size, RAM_LOW_MAX);
    t->code_mask = guestmem_code_masks(gm);
    v->tlb = t;
    l1_init(v);
    return 0;
}

void tlb_destroy(struct vcpu *v)
{
    if (!v->tlb)
        return;
    huge_destroy(v->tlb->l2, sizeof(*v->tlb->l2));
    free(v->tlb);
    v->tlb = NULL;
}

/* --- first level --- */

static void l1_flush_log(struct vcpu *v, enum tlb_log_kind kind)
{
    struct tlb_log *log = &v->tlb->log[kind];
    for (unsigned i = 0; i < log->n; i++) {
        struct tlb_entry *e = l1_at(v, log->index[i]);
        l1_clear(e);
        e->logged &= ~BIT(kind);
    }
    log->n = 0;
}

static void l1_flush_local(struct vcpu *v)
{
    l1_flush_log(v, TLB_LOG_LOCAL);
}

static void l1_flush_all(struct vcpu *v)
{
    l1_flush_log(v, TLB_LOG_LOCAL);
    l1_flush_log(v, TLB_LOG_GLOBAL);
}

static void l1_drop(struct vcpu *v, u64 lin)
{
    for (unsigned ctx = 0; ctx < TLB_CONTEXTS; ctx++)
        l1_clear(tlb_entry(v, ctx, lin));
}

/* The second level is about to forget lin's page, of this size, as what it is now. */
static void l1_forget(struct vcpu *v, u64 lin, unsigned shift)
{
    if (shift == PAGE_SHIFT) {
        l1_drop(v, lin);
        return;
    }
    l1_flush_all(v);
    v->tlb->l2->large_lost = true;
}

static bool protect_logged(struct vcpu *v, enum tlb_log_kind kind, const _Atomic u64 *mask)
{
    const struct tlb_log *log = &v->tlb->log[kind];
    bool found = false;
    for (unsigned i = 0; i < log->n; i++) {
        struct tlb_entry *e = l1_at(v, log->index[i]);
        if (e->write == TLB_NO_TAG || e->code_mask != mask)
            continue;
        e->write = TLB_NO_TAG;
        found = true;
    }
    return found;
}

bool tlb_protect_code(struct vcpu *v, u64 gpa)
{
    const _Atomic u64 *mask = code_mask_of(v->tlb->mem, gpa);
    if (!mask)
        return false;
    bool local = protect_logged(v, TLB_LOG_LOCAL, mask);
    return protect_logged(v, TLB_LOG_GLOBAL, mask) || local;
}

/* --- second level --- */

static struct l2_entry *l2_choose(struct vcpu *v, u64 page)
{
    struct tlb_l2 *l2 = v->tlb->l2;
    struct l2_entry *set = l2_set(l2, page);
    for (unsigned i = 0; i < TUNE_TLB_L2_WAYS; i++) {
        if (!l2_valid(l2, &set[i]))
            return &set[i];
    }
    struct l2_entry *e = &set[l2->victim++ % TUNE_TLB_L2_WAYS];
    if (e->shift > PAGE_SHIFT)
        l1_forget(v, e->page << e->shift, e->shift);
    return e;
}

static void l2_insert(struct vcpu *v, u64 lin, const struct walk_result *r)
{
    struct tlb_l2 *l2 = v->tlb->l2;
    u16 pcid = tlb_pcid(v);
    struct l2_entry *e = l2_find(l2, lin, r->shift, pcid);
    if (!e) {
        e = l2_choose(v, lin >> r->shift);
    } else if (r->global != ((e->flags & L2_GLOBAL) != 0)) {
        l1_forget(v, lin, r->shift);
    }
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

/* A generation wrapped. This may take large global pages away, which nobody asked for. */
static void l2_clear(struct vcpu *v)
{
    struct tlb_l2 *l2 = v->tlb->l2;
    memset(l2, 0, sizeof(*l2));
    l2->generation_global = l2->generation_local = 1;
    l2->large_lost = true;
    l1_flush_all(v);
}

bool tlb_page_global(struct vcpu *v, u64 lin)
{
    struct walk_result r;
    return v->cr0 & CR0_PG && l2_lookup(v, lin, &r) && r.global;
}

/* --- translation --- */

bool tlb_translate(struct vcpu *v, u64 lin, unsigned access, enum tlb_context ctx, u64 *gpa,
                   u32 *error)
{
    struct walk_result r;
    bool user, ac, paged = (v->cr0 & CR0_PG) != 0;
    tlb_context_rules(ctx, &user, &ac);
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
    l1_fill(v, lin, access, ctx, &r);
    *gpa = r.gpa;
    return true;
}

/* --- flushes --- */

static void report(struct vcpu *v, enum tlb_flush what, u64 lin)
{
    v->tlb->wide.s.bytes = 0;
    if (what == TLB_FLUSHED_ALL)
        v->tlb->l2->large_lost = false;
    if (v->tlb_flushed)
        v->tlb_flushed(v, what, lin);
}

void tlb_flush_all(struct vcpu *v)
{
    struct tlb_l2 *l2 = v->tlb->l2;
    stat_inc(&v->stats, STAT_TLB_FLUSH);
    l1_flush_all(v);
    l2->sizes = 0;
    if (++l2->generation_global == 0 || ++l2->generation_local == 0)
        l2_clear(v);
    report(v, TLB_FLUSHED_ALL, 0);
}

void tlb_flush_nonglobal(struct vcpu *v)
{
    l1_flush_local(v);
    if (++v->tlb->l2->generation_local == 0)
        l2_clear(v);
    report(v, TLB_FLUSHED_LOCAL, 0);
}

/* The second level lost lin's page, which was a large one if `large`. A listener may know more
 * pieces of a large page than we do; if one was evicted earlier, it may have been this one. */
static void flush_pieces(struct vcpu *v, u64 lin, bool large)
{
    if (large)
        l1_flush_all(v);
    else
        l1_drop(v, lin);
    report(v, large || v->tlb->l2->large_lost ? TLB_FLUSHED_ALL : TLB_FLUSHED_PAGE, lin);
}

void tlb_flush_page(struct vcpu *v, u64 lin)
{
    flush_pieces(v, lin, l2_drop(v->tlb->l2, lin, tlb_pcid(v), true));
}

void tlb_flush_pcid_page(struct vcpu *v, u16 pcid, u64 lin)
{
    bool large = l2_drop(v->tlb->l2, lin, pcid, false);
    if (pcid == tlb_pcid(v))
        flush_pieces(v, lin, large);
}

void tlb_flush_pcid(struct vcpu *v, u16 pcid)
{
    l1_flush_local(v);
    if (++v->tlb->l2->pcid_generation[pcid % TLB_PCIDS] == 0)
        l2_clear(v);
    report(v, TLB_FLUSHED_LOCAL, 0);
}

void tlb_switch(struct vcpu *v)
{
    l1_flush_local(v);
    report(v, TLB_FLUSHED_LOCAL, 0);
}

void tlb_set_breakpoints(struct vcpu *v)
{
    bool on = false;
    for (unsigned n = 0; n < 4; n++) {
        unsigned kind = (unsigned)bits(v->dr[7], 17 + 4 * n, 16 + 4 * n);
        on |= bits(v->dr[7], 2 * n + 1, 2 * n) != 0 && (kind & 1);
    }
    if (on == v->tlb->breakpoints)
        return;
    v->tlb->breakpoints = on;
    l1_flush_all(v);
    report(v, TLB_FLUSHED_ALL, 0);
}
