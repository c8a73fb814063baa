/*
 * Filling the first level of the TLB from the second. This file, and the functions of walk.c and
 * guestmem.c that it calls, are compiled to use general registers only (see the Makefile), and call
 * nothing of libc: translated code comes here with the guest's FP state in the host's registers.
 */
#include "mem/tlb_l2.h"

_Static_assert(RAM_MAX + (RAM_HIGH_BASE - RAM_LOW_MAX) <= BIT(TLB_EXEC_GPA_BITS),
               "exec signatures hold every RAM address");
_Static_assert(BIT(TLB_EXEC_GPA_BITS - PAGE_SHIFT) == TLB_EXEC_VALID, "all bits below are gpa");

struct l2_entry *l2_find(struct tlb_l2 *l2, u64 lin, unsigned shift, u16 pcid)
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

bool l2_lookup(struct vcpu *v, u64 lin, struct walk_result *r)
{
    struct tlb_l2 *l2 = v->tlb->l2;
    u16 pcid = tlb_pcid(v);
    for (u64 sizes = l2->sizes; sizes; sizes &= sizes - 1) {
        const struct l2_entry *e = l2_find(l2, lin, (unsigned)__builtin_ctzll(sizes), pcid);
        if (e) {
            l2_result(e, lin, guestmem_a20_mask(v->tlb->mem), r);
            return true;
        }
    }
    return false;
}

void tlb_context_rules(enum tlb_context ctx, bool *user, bool *smap_ac)
{
    *user = ctx == TLB_USER || ctx == TLB_USER_AC;
    *smap_ac = ctx == TLB_KERNEL_AC;
}

static void l1_log(struct vcpu *v, struct tlb_entry *e, enum tlb_log_kind kind)
{
    struct tlb_log *log = &v->tlb->log[kind];
    if (e->logged & BIT(kind))
        return;
    e->logged |= BIT(kind);
    log->index[log->n++] = (u16)(e - l1_at(v, 0));
}

/* For an instruction fetch only the signature is entered, else only what is for data: code and data
 * whose pages share an entry don't drive each other out. */
void l1_fill(struct vcpu *v, u64 lin, unsigned access, enum tlb_context ctx,
             const struct walk_result *r)
{
    struct tlb *t = v->tlb;
    u64 gpa = r->gpa & PAGE_MASK;
    u8 *hva = guestmem_hva(t->mem, gpa, PAGE_SIZE, false);
    /* Fast paths take a tag for canonical. Tables and code may reach past the last such address. */
    if (!hva || !canonical(lin))
        return;
    struct tlb_entry *e = tlb_entry(v, ctx, lin);
    l1_log(v, e, r->global ? TLB_LOG_GLOBAL : TLB_LOG_LOCAL);
    bool user, ac;
    tlb_context_rules(ctx, &user, &ac);
    if (access & ACCESS_EXEC) {
        bool exec = walk_allows(v, ACCESS_EXEC, user, ac, r) && gpa < BIT(TLB_EXEC_GPA_BITS);
        e->exec = exec ? tlb_exec_signature(lin, gpa) : 0;
        return;
    }
    bool data = !t->breakpoints && ctx != TLB_USER_AC;
    bool read = data && walk_allows(v, ACCESS_READ, user, ac, r);
    bool write = data && r->dirty && !v->journal && guestmem_hva(t->mem, gpa, PAGE_SIZE, true) &&
                 walk_allows(v, ACCESS_WRITE, user, ac, r);
    u64 tag = lin & PAGE_MASK;
    e->code_mask = write ? &t->code_mask[(u64)(hva - t->ram) >> PAGE_SHIFT] : NULL;
    bool code = write && atomic_load_explicit(e->code_mask, memory_order_relaxed);
    e->read = read ? tag : TLB_NO_TAG;
    e->write = write && !code ? tag : TLB_NO_TAG;
    e->write_any = write ? tag : TLB_NO_TAG;
    e->addend = (u64)(uintptr_t)hva - tag;
}

/* Does every kind of access in the mask hit by the first level? */
static bool l1_allows(struct vcpu *v, u64 lin, unsigned access)
{
    const struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, lin);
    return (!(access & ACCESS_READ) || tlb_hit(e->read, lin, 1)) &&
           (!(access & ACCESS_WRITE) || tlb_hit(e->write_any, lin, 1)) &&
           (!(access & ACCESS_EXEC) || tlb_exec_hit(e->exec, lin));
}

bool tlb_refill(struct vcpu *v, u64 lin, unsigned access)
{
    struct walk_result r;
    bool user, ac;
    enum tlb_context ctx = (enum tlb_context)v->tlb_ctx;
    tlb_context_rules(ctx, &user, &ac);
    if (!(v->cr0 & CR0_PG))
        walk_unpaged(v, lin, &r);
    else if (!l2_lookup(v, lin, &r))
        return false;
    if (!walk_allows(v, access, user, ac, &r) || ((access & ACCESS_WRITE) && !r.dirty))
        return false;
    l1_fill(v, lin, access, ctx, &r);
    return l1_allows(v, lin, access);
}

bool tlb_refill_walk(struct vcpu *v, u64 lin, unsigned access)
{
    u64 gpa;
    u32 error;
    if (v->mode == MODE_LONG64 && !canonical(lin)) /* no fault of paging: the walk must not begin */
        return false;
    return tlb_translate(v, lin, access, (enum tlb_context)v->tlb_ctx, &gpa, &error) &&
           l1_allows(v, lin, access);
}

/* --- stretches --- */

#define LARGE_SHIFT 21

/* Adds small pages by what the first level knows of them. */
static bool continues(struct vcpu *v, u64 page, bool write, struct tlb_stretch *s)
{
    const struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, page);
    if ((write ? e->write : e->read) != page || e->addend != s->addend)
        return false;
    s->global &= !(e->logged & BIT(TLB_LOG_LOCAL));
    return true;
}

static void small_pages(struct vcpu *v, u64 lin, bool write, struct tlb_stretch *s)
{
    u64 first = lin & PAGE_MASK, last = first;
    const struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, lin);
    *s = (struct tlb_stretch){.addend = e->addend, .global = !(e->logged & BIT(TLB_LOG_LOCAL))};
    for (unsigned n = 0; n < TUNE_TLB_STRETCH_PAGES && continues(v, first - PAGE_SIZE, write, s);
         n++)
        first -= PAGE_SIZE;
    for (unsigned n = 0; n < TUNE_TLB_STRETCH_PAGES && continues(v, last + PAGE_SIZE, write, s);
         n++)
        last += PAGE_SIZE;
    s->start = first;
    s->bytes = last - first + PAGE_SIZE;
}

/* lin's large page, if it may be accessed so and all of it is RAM. */
static bool large_page(struct vcpu *v, u64 lin, unsigned access, struct tlb_stretch *s)
{
    struct walk_result r;
    bool user, ac;
    tlb_context_rules(v->tlb_ctx, &user, &ac);
    if (!(v->cr0 & CR0_PG) || !guestmem_a20(v->tlb->mem) || !l2_lookup(v, lin, &r) ||
        r.shift < LARGE_SHIFT || !walk_allows(v, access, user, ac, &r) ||
        ((access & ACCESS_WRITE) && !r.dirty))
        return false;
    u64 size = BIT(r.shift), off = lin & (size - 1);
    u8 *hva = guestmem_hva(v->tlb->mem, r.gpa - off, size, true);
    if (!hva)
        return false;
    s->start = lin - off;
    s->bytes = size;
    s->addend = (u64)(uintptr_t)hva - s->start;
    s->global = r.global;
    return true;
}

static bool same_kind(const struct tlb_stretch *a, const struct tlb_stretch *b)
{
    return a->addend == b->addend && a->global == b->global;
}

/* As many as there are side by side; that is remembered, because it takes long to find. */
static bool large_pages(struct vcpu *v, u64 lin, struct tlb_stretch *s)
{
    struct tlb_wide *wide = &v->tlb->wide;
    struct tlb_stretch more;
    if (lin - wide->s.start < wide->s.bytes && wide->ctx == v->tlb_ctx) {
        *s = wide->s;
        return true;
    }
    if (!large_page(v, lin, ACCESS_READ, s))
        return false;
    for (unsigned n = 0; n < TUNE_TLB_STRETCH_LARGE &&
                         large_page(v, s->start - 1, ACCESS_READ, &more) && same_kind(s, &more);
         n++) {
        s->start = more.start;
        s->bytes += more.bytes;
    }
    for (unsigned n = 0;
         n < TUNE_TLB_STRETCH_LARGE && large_page(v, s->start + s->bytes, ACCESS_READ, &more) &&
         same_kind(s, &more);
         n++)
        s->bytes += more.bytes;
    *wide = (struct tlb_wide){.s = *s, .ctx = v->tlb_ctx};
    return true;
}

/* Of a large page what is around lin and holds no code. */
static bool large_page_to_write(struct vcpu *v, u64 lin, struct tlb_stretch *s)
{
    struct tlb *t = v->tlb;
    if (!large_page(v, lin, ACCESS_WRITE, s))
        return false;
    u64 end = s->start + s->bytes, first = lin & PAGE_MASK, last = first;
    const _Atomic u64 *mask = &t->code_mask[(first + s->addend - (u64)t->ram) >> PAGE_SHIFT];
    for (i64 n = -1; first > s->start && last - first < BIT(LARGE_SHIFT) &&
                     !atomic_load_explicit(&mask[n], memory_order_relaxed);
         n--)
        first -= PAGE_SIZE;
    for (i64 n = 1; last + PAGE_SIZE < end && last - first < BIT(LARGE_SHIFT) &&
                    !atomic_load_explicit(&mask[n], memory_order_relaxed);
         n++)
        last += PAGE_SIZE;
    s->start = first;
    s->bytes = last - first + PAGE_SIZE;
    return true;
}

void tlb_stretch(struct vcpu *v, u64 lin, unsigned access, struct tlb_stretch *s)
{
    bool write = access & ACCESS_WRITE;
    if (!(write ? large_page_to_write(v, lin, s) : large_pages(v, lin, s)))
        small_pages(v, lin, write, s);
}
