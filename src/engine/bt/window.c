/*
 * Windows: guest RAM mapped once more, in the order of linear addresses, so that a span can reach
 * over pages that lie anywhere in RAM. For hot accesses of user code that go to too many pages for
 * a span of neighbours in RAM. The host's mappings are only where such a span may lead: who may go
 * where is still the span's to say, so nothing has to be unmapped when the guest changes its page
 * tables. What has been mapped stays, and is only compared with the guest's tables when it is used
 * again after a flush; on some hosts a page costs 20 us to map.
 *
 * A window shows 1 GiB of one address space. Of its pages, a range is known to be allowed for
 * reading, and one for writing, until the next flush of the TLB; a miss of a span beside that range
 * makes it twice as long, as far as the guest's tables let it.
 *
 * Comes from refills of the TLB, with the guest's FP state in the host's registers: compiled
 * without them.
 */
#include <sys/mman.h>

#include "base/timebase.h"
#include "engine/bt/tcache.h"
#include "engine/sem/sem_exec.h"
#include "mem/access.h"

#define WINDOWS      16
#define WINDOW_SHIFT 30
#define WINDOW_BYTES BIT(WINDOW_SHIFT)
#define WINDOW_PAGES (WINDOW_BYTES >> PAGE_SHIFT)

/* Pages of a window: from first up to end, which is not one of them. */
struct range {
    u32 first, end;
};

struct window {
    bool used;
    u64 space, lin;          /* CR3's page, and where it begins */
    struct range allowed[2]; /* known since the last flush; [1]: for writing, no code in them */
    u32 *shown;              /* by page: number of the page of RAM that is mapped + 1, or 0 */
    u8 *host;
};

struct windows {
    u32 maps;    /* calls of mmap since the last time that all was unmapped */
    bool scarce; /* one was wanted when all were in use */
    u8 *host;    /* the memory of all */
    u32 *shown;
    u64 *written; /* a bit for each page of RAM that may be in an `allowed[1]` */
    size_t written_bytes;
    struct window window[WINDOWS];
};

/* --- memory --- */

static void *reserve(size_t bytes, int prot)
{
    void *p = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void release(void *p, size_t bytes)
{
    if (p)
        munmap(p, bytes);
}

static void destroy(struct windows *w)
{
    release(w->host, WINDOWS * WINDOW_BYTES);
    release(w->shown, WINDOWS * WINDOW_PAGES * sizeof(u32));
    release(w->written, w->written_bytes);
    release(w, sizeof(*w));
}

/* NULL: no memory; then there are none. */
static struct windows *create(struct vcpu *v)
{
    struct windows *w = reserve(sizeof(*w), PROT_READ | PROT_WRITE);
    if (!w)
        return NULL;
    w->written_bytes = align_up(guestmem_pages(v->tlb->mem) / 8, PAGE_SIZE);
    w->host = reserve(WINDOWS * WINDOW_BYTES, PROT_NONE);
    w->shown = reserve(WINDOWS * WINDOW_PAGES * sizeof(u32), PROT_READ | PROT_WRITE);
    w->written = reserve(w->written_bytes, PROT_READ | PROT_WRITE);
    if (!w->host || !w->shown || !w->written) {
        destroy(w);
        return NULL;
    }
    for (unsigned n = 0; n < WINDOWS; n++) {
        w->window[n].host = w->host + n * WINDOW_BYTES;
        w->window[n].shown = w->shown + n * WINDOW_PAGES;
    }
    return w;
}

void windows_destroy(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    if (b->windows)
        destroy(b->windows);
    b->windows = NULL;
}

static bool has_maps(const struct vcpu *v, const struct windows *w)
{
    return w->maps < TUNE_BT_WINDOW_MAPS / v->machine->ncpus;
}

/* Makes room: the host allows a process only so many mappings, and windows run out. No fragment
 * may be running, for it may count on what is shown where its spans led. */
static void make_room(struct vcpu *v, struct windows *w)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    spans_flush(v, TLB_FLUSHED_ALL, 0);
    madvise(w->shown, WINDOWS * WINDOW_PAGES * sizeof(u32), MADV_DONTNEED);
    for (unsigned n = 0; n < WINDOWS; n++)
        w->window[n].used = 0;
    if (mmap(w->host, WINDOWS * WINDOW_BYTES, PROT_NONE, flags, -1, 0) != MAP_FAILED)
        w->maps = 0;
    w->scarce = false;
}

/* --- flushes --- */

void windows_flush(struct vcpu *v, enum tlb_flush what, u64 lin)
{
    struct windows *w = bt_cpu(v)->windows;
    if (!w)
        return;
    for (unsigned n = 0; n < WINDOWS; n++) {
        struct window *one = &w->window[n];
        u64 page = (lin - one->lin) >> PAGE_SHIFT;
        for (unsigned write = 0; write < 2; write++) {
            struct range *r = &one->allowed[write];
            if (what != TLB_FLUSHED_PAGE || (page >= r->first && page < r->end))
                r->end = r->first;
        }
    }
}

bool windows_protect(struct vcpu *v, const u8 *page)
{
    struct windows *w = bt_cpu(v)->windows;
    u64 n = (u64)(page - v->tlb->ram) >> PAGE_SHIFT;
    if (!w || n >= guestmem_pages(v->tlb->mem) || !(w->written[n / 64] & BIT(n % 64)))
        return false;
    for (unsigned k = 0; k < WINDOWS; k++)
        w->window[k].allowed[1].end = w->window[k].allowed[1].first;
    memset(w->written, 0, w->written_bytes);
    return true;
}

/* --- who is to have some --- */

struct space *space_of(struct bt_cpu *b, u64 cr3)
{
    struct space *s = &b->space[(cr3 >> PAGE_SHIFT) % BT_SPACES];
    if ((s->cr3 ^ cr3) & PAGE_MASK)
        *s = (struct space){.cr3 = cr3};
    return s;
}

static bool is_old(const struct space *s)
{
    return s->time >= TUNE_BT_WINDOW_AGE;
}

/* A page of code that is met several times is worth its windows. */
static void sample_code(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    u64 lin = sem_code_lin(v), exec = tlb_entry(v, v->tlb_ctx, lin)->exec;
    if (!tlb_exec_hit(exec, lin))
        return;
    u64 page = tlb_exec_gpa(exec, lin) & PAGE_MASK;
    struct hot_page *hot = &b->hot_page[(page >> PAGE_SHIFT) % BT_HOT_PAGES];
    if (hot->gpa != page)
        *hot = (struct hot_page){.gpa = page};
    if (++hot->samples == TUNE_BT_WINDOW_SAMPLES)
        stat_add(&v->stats, STAT_BT_ADAPT_WINDOWS, tcache_give_windows(b->bt->tc, page));
}

void windows_sample(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    u64 now = host_tsc(), passed = MIN(now - b->sampled, TUNE_BT_WINDOW_SAMPLE);
    b->sampled = now;
    if (v->cpl != 3)
        return;
    struct space *s = space_of(b, v->cr3);
    s->time += passed;
    s->credit += (i64)passed / TUNE_BT_WINDOW_SHARE;
    mirror_sample(v, s);
    if (!is_old(s))
        return;
    if (!b->windows)
        b->windows = create(v);
    else if (b->windows->scarce || !has_maps(v, b->windows))
        make_room(v, b->windows);
    sample_code(v);
}

bool windows_at_hand(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    return b->windows && is_old(space_of(b, v->cr3));
}

/* --- showing pages --- */

i64 window_page(struct vcpu *v, u64 lin, bool write)
{
    struct tlb *t = v->tlb;
    struct walk_result r;
    if (!walk_known(v, lin, write ? ACCESS_WRITE : ACCESS_READ, true, &r))
        return -1;
    const u8 *hva = guestmem_hva(t->mem, r.gpa & PAGE_MASK, PAGE_SIZE, true);
    if (!hva)
        return -1;
    u64 n = (u64)(hva - t->ram) >> PAGE_SHIFT;
    if (write && atomic_load_explicit(&t->code_mask[n], memory_order_relaxed))
        return -1;
    return (i64)n;
}

bool window_map(struct vcpu *v, void *at, u64 ram, u32 pages, bool write)
{
    const int flags = MAP_SHARED | MAP_FIXED | MAP_POPULATE;
    int prot = write ? PROT_READ | PROT_WRITE : PROT_READ;
    return mmap(at, (u64)pages << PAGE_SHIFT, prot, flags, guestmem_fd(v->tlb->mem),
                (off_t)(ram << PAGE_SHIFT)) != MAP_FAILED;
}

/* Maps `pages` pages of RAM from `ram` on at page `first` of the window. */
static bool show(struct vcpu *v, struct window *one, u32 first, u64 ram, u32 pages)
{
    struct windows *w = bt_cpu(v)->windows;
    struct space *space = space_of(bt_cpu(v), v->cr3);
    u64 start = host_tsc();
    if (space->credit < 0 || !has_maps(v, w))
        return false;
    if (!window_map(v, one->host + ((u64)first << PAGE_SHIFT), ram, pages, true))
        return false;
    for (u32 n = 0; n < pages; n++) {
        if (one->shown[first + n]) /* perhaps another process has this CR3 now */
            space->time -= MIN(space->time, TUNE_BT_WINDOW_AGE / 16);
        one->shown[first + n] = (u32)(ram + n + 1);
    }
    w->maps++;
    space->credit -= (i64)(2 * (host_tsc() - start)); /* and the host's faults */
    stat_add(&v->stats, STAT_BT_WINDOW_PAGES, pages);
    return true;
}

/* As many pages from `first` on, up to `end`, as may be accessed and are shown afterwards. */
static u32 extend(struct vcpu *v, struct window *one, u32 first, u32 end, bool write)
{
    struct windows *w = bt_cpu(v)->windows;
    u32 at = first, pending = 0; /* pages before `at` that are still to be mapped */
    u64 ram = 0;
    while (at < end) {
        i64 n = window_page(v, one->lin + ((u64)at << PAGE_SHIFT), write);
        bool shown = n >= 0 && one->shown[at] == (u64)n + 1;
        if (pending && (n < 0 || shown || (u64)n != ram + pending)) {
            if (!show(v, one, at - pending, ram, pending))
                return at - pending;
            pending = 0;
        }
        if (n < 0)
            return at;
        if (write)
            w->written[n / 64] |= BIT(n % 64);
        if (!shown && !pending++)
            ram = (u64)n;
        at++;
    }
    return pending && !show(v, one, at - pending, ram, pending) ? at - pending : at;
}

/* Makes the range hold this page, and more: as many as it has had, up or down or both. */
static bool grow(struct vcpu *v, struct window *one, u32 page, bool write)
{
    struct range *r = &one->allowed[write];
    u32 size = MIN(MAX(r->end - r->first, 8), TUNE_BT_WINDOW_GROWTH);
    u32 end = MIN(page + size, (u32)WINDOW_PAGES), low = page - MIN(page, size);
    if (page - r->end < size && r->end > r->first) {
        r->end = extend(v, one, r->end, end, write);
    } else if (r->first - page <= size && r->end > r->first) {
        u32 reached = extend(v, one, low, r->first, write);
        while (reached < r->first && reached < page) /* a page that is not allowed lies between */
            reached = extend(v, one, low = reached + 1, r->first, write);
        if (reached == r->first)
            r->first = low;
    }
    if (page < r->first || page >= r->end)
        *r = (struct range){page, extend(v, one, page, end, write)};
    return page < r->end;
}

/* --- finding --- */

/* NULL: all are in use. */
static struct window *find(struct windows *w, u64 space, u64 lin)
{
    struct window *unused = NULL;
    u64 from = lin & ~(WINDOW_BYTES - 1);
    for (unsigned n = 0; n < WINDOWS; n++) {
        struct window *one = &w->window[n];
        if (!one->used)
            unused = one;
        else if (one->lin == from && one->space == space)
            return one;
    }
    w->scarce = !unused;
    if (unused)
        *unused = (struct window){.space = space,
                                  .lin = from,
                                  .used = true,
                                  .shown = unused->shown,
                                  .host = unused->host};
    return unused;
}

bool windows_stretch(struct vcpu *v, u64 lin, bool write, struct tlb_stretch *s)
{
    struct bt_cpu *b = bt_cpu(v);
    if (!windows_at_hand(v) || !(v->cr0 & CR0_PG) || !guestmem_a20(v->tlb->mem) || v->journal)
        return false;
    struct window *one = find(b->windows, v->cr3 & PAGE_MASK, lin);
    if (!one)
        return false;
    u32 page = (u32)((lin - one->lin) >> PAGE_SHIFT);
    struct range *r = &one->allowed[write];
    if ((page < r->first || page >= r->end) && !grow(v, one, page, write))
        return false;
    s->start = one->lin + ((u64)r->first << PAGE_SHIFT);
    s->bytes = (u64)(r->end - r->first) << PAGE_SHIFT;
    s->addend = (u64)(uintptr_t)one->host - one->lin;
    s->global = false;
    return true;
}
