/*
 * Spans: what a hot access remembers of where it went the last time. Filled from the first-level
 * TLB, and emptied by whatever takes away what they came from: flushes, as vcpu.tlb_flushed tells,
 * and for stores a page's turning into code. Most accesses of a program stay within a few pages for
 * long; one that does not is given back to the TLB (LEARNED_ROAMS).
 *
 * Comes from refills of the TLB, with the guest's FP state in the host's registers: compiled
 * without them.
 */
#include "base/timebase.h"
#include "engine/bt/tcache.h"
#include "mem/access.h"

#define GRANULE_SHIFT 21

/* Upper and lower halves of the address space fall apart. */
static unsigned granule(u64 lin)
{
    return (unsigned)(lin >> GRANULE_SHIFT ^ lin >> 40) % 4096;
}

static void log_span(struct bt_cpu *b, unsigned n, const struct tlb_stretch *s)
{
    enum span_log_kind kind = s->global ? SPANS_GLOBAL : SPANS_LOCAL;
    struct span_log *log = &b->span_log[kind];
    unsigned last = granule(s->start + s->bytes - 1);
    log->granules[granule(s->start) / 64] |= BIT(granule(s->start) % 64);
    log->granules[last / 64] |= BIT(last % 64);
    if (b->span[n].logged & BIT(kind))
        return;
    b->span[n].logged |= (u8)BIT(kind);
    log->number[log->n++] = (u16)n;
}

bool spans_fill(struct vcpu *v, const struct site *s, u64 lin)
{
    struct bt_cpu *b = bt_cpu(v);
    struct span *span = &b->span[s->span];
    struct tlb_stretch stretch;
    bool write = s->access & ACCESS_WRITE || s->group_writes;
    stat_inc(&v->stats, STAT_BT_SPAN_FILLS);
    tlb_stretch(v, lin, write ? ACCESS_WRITE : ACCESS_READ, &stretch);
    span->start = stretch.start;
    span->room = stretch.bytes - s->size + 1;
    span->addend = stretch.addend;
    span->write = write;
    log_span(b, s->span, &stretch);
    if (++span->fills < TUNE_BT_SPAN_FILLS)
        return true;
    u32 now = (u32)(host_tsc() >> SPAN_TIME_SHIFT), passed = now - span->since;
    span->fills = 0;
    span->since = now;
    return passed > TUNE_BT_SPAN_FILLS * TUNE_BT_SPAN_CYCLES >> SPAN_TIME_SHIFT;
}

static void empty_log(struct bt_cpu *b, enum span_log_kind kind)
{
    struct span_log *log = &b->span_log[kind];
    for (u32 i = 0; i < log->n; i++) {
        struct span *s = &b->span[log->number[i]];
        s->room = 0;
        s->logged &= (u8)~BIT(kind);
    }
    if (log->n)
        memset(log->granules, 0, sizeof(log->granules));
    log->n = 0;
}

/* Those that may reach into the page; room is the stretch less the size of an access. */
static void empty_page(struct bt_cpu *b, enum span_log_kind kind, u64 page)
{
    const struct span_log *log = &b->span_log[kind];
    if (!(log->granules[granule(page) / 64] & BIT(granule(page) % 64)))
        return;
    for (u32 i = 0; i < log->n; i++) {
        struct span *s = &b->span[log->number[i]];
        if (s->room && page + PAGE_SIZE - s->start < s->room + 2 * PAGE_SIZE)
            s->room = 0;
    }
}

void spans_flush(struct vcpu *v, enum tlb_flush what, u64 lin)
{
    struct bt_cpu *b = bt_cpu(v);
    for (enum span_log_kind kind = 0; kind < SPAN_LOGS; kind++) {
        if (what == TLB_FLUSHED_ALL || (what == TLB_FLUSHED_LOCAL && kind == SPANS_LOCAL))
            empty_log(b, kind);
        else if (what == TLB_FLUSHED_PAGE)
            empty_page(b, kind, lin & PAGE_MASK);
    }
}

void spans_protect(struct vcpu *v, const u8 *page)
{
    struct bt_cpu *b = bt_cpu(v);
    u64 host = (u64)(uintptr_t)page;
    for (enum span_log_kind kind = 0; kind < SPAN_LOGS; kind++) {
        const struct span_log *log = &b->span_log[kind];
        for (u32 i = 0; i < log->n; i++) {
            struct span *s = &b->span[log->number[i]];
            u64 from = s->start + s->addend;
            if (s->write && s->room && host + PAGE_SIZE - from < s->room + 2 * PAGE_SIZE)
                s->room = 0;
        }
    }
}
