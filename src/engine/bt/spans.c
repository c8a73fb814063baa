/*
 * Spans: what a hot access remembers of where it went the last time. Filled from the first-level
 * TLB, and emptied by whatever takes away what they came from: flushes, as vcpu.tlb_flushed tells,
 * and for stores a page's turning into code. Most accesses of a program stay within a few pages for
 * long; one that does not is given back to the TLB (LEARNED_ROAMS), or, if much time is spent near
 * it, gets its spans from a window.
 *
 * Comes from refills of the TLB, with the guest's FP state in the host's registers: compiled
 * without them.
 */
#include "base/timebase.h"
#include "engine/bt/tcache.h"
#include "mem/access.h"

#define GRANULE_SHIFT 21
#define GRANULE       BIT(GRANULE_SHIFT)

void spans_create(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    for (unsigned n = 0; n <= SPAN_WINDOWS; n++)
        b->span_list[n] = NO_NUMBER;
}

/* --- by linear address --- */

/* Upper and lower halves of the address space fall apart. */
static unsigned granule(u64 lin)
{
    return (unsigned)(lin >> GRANULE_SHIFT ^ lin >> 40) % 4096;
}

static void mark_granules(struct span_log *log, const struct tlb_stretch *s)
{
    u64 lin = s->start & ~(GRANULE - 1), left = s->start - lin + s->bytes;
    while ((i64)left > 0) {
        bool word = (lin >> GRANULE_SHIFT) % 64 == 0 && left >= 64 * GRANULE;
        u64 step = word ? 64 * GRANULE : GRANULE;
        log->granules[granule(lin) / 64] |= word ? ~0ULL : BIT(granule(lin) % 64);
        lin += step;
        left -= step;
    }
}

static void log_span(struct bt_cpu *b, unsigned n, const struct tlb_stretch *s)
{
    enum span_log_kind kind = s->global ? SPANS_GLOBAL : SPANS_LOCAL;
    struct span_log *log = &b->span_log[kind];
    mark_granules(log, s);
    if (b->span_use[n].logged & BIT(kind))
        return;
    b->span_use[n].logged |= (u8)BIT(kind);
    log->number[log->n++] = (u16)n;
}

static void empty_log(struct bt_cpu *b, enum span_log_kind kind)
{
    struct span_log *log = &b->span_log[kind];
    for (u32 i = 0; i < log->n; i++) {
        b->span[log->number[i]].room = 0;
        b->span_use[log->number[i]].logged &= (u8)~BIT(kind);
    }
    if (log->n)
        memset(log->granules, 0, sizeof(log->granules));
    log->n = 0;
}

/* Does the span that begins at `from` perhaps reach into the page? Its room is its stretch less the
 * size of an access. */
static bool reaches(const struct span *s, u64 from, u64 page)
{
    return s->room && page + PAGE_SIZE - from < s->room + 2 * PAGE_SIZE;
}

static void empty_page(struct bt_cpu *b, enum span_log_kind kind, u64 page)
{
    const struct span_log *log = &b->span_log[kind];
    if (!(log->granules[granule(page) / 64] & BIT(granule(page) % 64)))
        return;
    for (u32 i = 0; i < log->n; i++) {
        struct span *s = &b->span[log->number[i]];
        if (reaches(s, s->start, page))
            s->room = 0;
    }
}

/* --- stack pages --- */

static void empty_stack_pages(struct bt_cpu *b, enum tlb_flush what, u64 lin)
{
    for (unsigned ctx = 0; ctx < TLB_CONTEXTS; ctx++)
        if (what != TLB_FLUSHED_PAGE || ((b->stack_page[ctx].start ^ lin) & PAGE_MASK) == 0)
            memset(b->stack_page[ctx].room, 0, sizeof(b->stack_page[ctx].room));
}

static void protect_stack_pages(struct bt_cpu *b, u64 host)
{
    for (unsigned ctx = 0; ctx < TLB_CONTEXTS; ctx++)
        if (b->stack_page[ctx].start + b->stack_page[ctx].addend == host)
            memset(b->stack_page[ctx].room, 0, sizeof(b->stack_page[ctx].room));
}

/* --- of stores, by host address --- */

static unsigned list_of(u64 host)
{
    return host >> GRANULE_SHIFT & (SPAN_LISTS - 1);
}

static void unlist(struct bt_cpu *b, struct span_use *use)
{
    if (use->next != NO_NUMBER)
        b->span_use[use->next].prev = use->prev;
    if (use->prev != NO_NUMBER)
        b->span_use[use->prev].next = use->next;
    else
        b->span_list[use->list] = use->next;
    use->listed = false;
}

static void list_store(struct bt_cpu *b, unsigned n, unsigned list)
{
    struct span_use *use = &b->span_use[n];
    if (use->listed && use->list == list)
        return;
    if (use->listed)
        unlist(b, use);
    use->listed = true;
    use->list = (u16)list;
    use->prev = NO_NUMBER;
    use->next = b->span_list[list];
    if (use->next != NO_NUMBER)
        b->span_use[use->next].prev = (u16)n;
    b->span_list[list] = (u16)n;
}

void spans_protect(struct vcpu *v, const u8 *page)
{
    struct bt_cpu *b = bt_cpu(v);
    u64 host = (u64)(uintptr_t)page;
    protect_stack_pages(b, host);
    mirror_protect(v, page);
    for (u16 n = b->span_list[list_of(host)]; n != NO_NUMBER; n = b->span_use[n].next) {
        struct span *s = &b->span[n];
        if (b->span_use[n].store && reaches(s, s->start + s->addend, host))
            s->room = 0;
    }
    if (!windows_protect(v, page))
        return;
    for (u16 n = b->span_list[SPAN_WINDOWS]; n != NO_NUMBER; n = b->span_use[n].next)
        b->span[n].room = 0;
}

/* --- flushes --- */

void spans_flush(struct vcpu *v, enum tlb_flush what, u64 lin)
{
    struct bt_cpu *b = bt_cpu(v);
    empty_stack_pages(b, what, lin);
    windows_flush(v, what, lin);
    mirror_flush(v, what, lin);
    for (enum span_log_kind kind = 0; kind < SPAN_LOGS; kind++) {
        if (what == TLB_FLUSHED_ALL || (what == TLB_FLUSHED_LOCAL && kind == SPANS_LOCAL))
            empty_log(b, kind);
        else if (what == TLB_FLUSHED_PAGE)
            empty_page(b, kind, lin & PAGE_MASK);
    }
}

/* --- filling --- */

/* A store's stretch ends where its list does. */
static void cut(struct tlb_stretch *s, u64 lin)
{
    u64 low = ((lin + s->addend) & ~(GRANULE - 1)) - s->addend, high = low + GRANULE;
    u64 end = s->start + s->bytes;
    if (lin - low < lin - s->start)
        s->start = low;
    if (high - lin < end - lin)
        end = high;
    s->bytes = end - s->start;
}

/* Not filled too often? */
static bool counts_as_rare(struct span_use *use)
{
    if (++use->fills < TUNE_BT_SPAN_FILLS)
        return true;
    u32 now = (u32)(host_tsc() >> SPAN_TIME_SHIFT), passed = now - use->since;
    use->fills = 0;
    use->since = now;
    return passed > TUNE_BT_SPAN_FILLS * TUNE_BT_SPAN_CYCLES >> SPAN_TIME_SHIFT;
}

static bool is_store(const struct site *s)
{
    return s->access & ACCESS_WRITE || s->group_writes;
}

static void fill(struct vcpu *v, const struct site *s, const struct tlb_stretch *stretch)
{
    struct bt_cpu *b = bt_cpu(v);
    b->span[s->span] = (struct span){.start = stretch->start,
                                     .room = stretch->bytes - s->size + 1,
                                     .addend = stretch->addend,
                                     .host = stretch->start + stretch->addend};
    log_span(b, s->span, stretch);
    stat_inc(&v->stats, STAT_BT_SPAN_FILLS);
}

bool spans_fill(struct vcpu *v, const struct site *s, u64 lin, bool window)
{
    struct bt_cpu *b = bt_cpu(v);
    struct span_use *use = &b->span_use[s->span];
    struct tlb_stretch stretch;
    use->store = is_store(s);
    window = window && windows_stretch(v, lin, use->store, &stretch);
    if (!window)
        tlb_stretch(v, lin, use->store ? ACCESS_WRITE : ACCESS_READ, &stretch);
    if (use->store && !window)
        cut(&stretch, lin);
    if (use->store)
        list_store(b, s->span, window ? SPAN_WINDOWS : list_of(stretch.start + stretch.addend));
    fill(v, s, &stretch);
    return counts_as_rare(use);
}

/* The page of the last byte first, so that both are in the range if they can be. What keeps the
 * first-level TLB empty is looked at here: checks of alignment, breakpoints. */
bool spans_fill_across(struct vcpu *v, const struct site *s, u64 lin)
{
    struct bt_cpu *b = bt_cpu(v);
    bool store = is_store(s);
    struct tlb_stretch stretch;
    if (v->tlb_ctx != TLB_USER || v->tlb->breakpoints ||
        !windows_stretch(v, lin + s->size - 1, store, &stretch) ||
        !windows_stretch(v, lin, store, &stretch) || stretch.start + stretch.bytes - lin < s->size)
        return false;
    b->span_use[s->span].store = store;
    if (store)
        list_store(b, s->span, SPAN_WINDOWS);
    fill(v, s, &stretch);
    return true;
}
