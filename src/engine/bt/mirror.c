/*
 * The mirror: user memory of one address space, at its own addresses or at a constant distance from
 * them. The low part of this process's address space is kept free for it, so that translated code
 * reaches the guest's memory without looking anything up: no check is needed where an address can't
 * lie outside of that part, and a comparison or two where it can. Unlike windows, the mirror says
 * itself who may go where: what it shows is what the guest's tables allowed at the last flush of
 * the TLB, and everything else is a fault of the host, at which C looks (SITE_MIRROR).
 *
 * Only one address space has it: the one that interrupts keep finding in user mode. After a flush
 * all that is shown is compared with the guest's tables before user code runs on. Who makes that
 * too dear, by flushing often or changing much, goes without for a while.
 *
 * Comes from refills of the TLB, with the guest's FP state in the host's registers: compiled
 * without them.
 */
#include <sys/mman.h>

#include "base/huge.h"
#include "base/lowmem.h"
#include "base/timebase.h"
#include "engine/bt/tcache.h"
#include "mem/access.h"

#define TIB (1024 * GIB)

/* Where Linux has user memory: programs that can't be loaded anywhere and their heap; those that
 * can; libraries, mapped files and the stack. */
const struct mirror_region mirror_regions[MIRROR_REGIONS] = {
    [REGION_LOW] = {0, 8 * TIB - 1, 0},
    [REGION_PROGRAM] = {84 * TIB, 88 * TIB - 1, 24 * TIB - 84 * TIB},
    [REGION_TOP] = {112 * TIB, 128 * TIB - 1, 44 * TIB - 112 * TIB},
};
#define ALL_REGIONS (68 * TIB) /* with the slack behind the last one */
#define FIRST_4_GIB (8 * GIB)  /* an access may begin in the last page */

#define PAGES      16384
#define HASH_SLOTS (2 * PAGES)
#define PENDING    16

#define BLOCK_LEAST 8

struct shown {
    u64 page; /* linear address >> PAGE_SHIFT */
    u32 ram;  /* number of the page of RAM */
    u16 next; /* number + 1 of the next one with the same hash */
    bool write;
};

struct mirror {
    u64 end;              /* of what is kept free */
    bool wide;            /* 64-bit code may have it: its addresses may be a little less than 0 */
    u64 space;            /* CR3's page, or NO_SPACE */
    unsigned others;      /* interrupts that found another one's user code since it was last seen */
    bool changed;         /* there was a flush since all was compared */
    u64 wait;             /* host's TSC: not to be compared again before that */
    u64 pending[PENDING]; /* pages that were flushed singly since, if not changed */
    unsigned pendings;
    u32 maps;  /* calls of mmap since all was hidden */
    u32 block; /* pages to look at around a fault */
    u32 n;
    u16 slot[HASH_SLOTS]; /* number + 1 */
    struct shown shown[PAGES];
};

_Static_assert(PAGES < 0x10000, "numbers have 16 bits");

/* --- memory --- */

static struct mirror *create(void)
{
    u64 end = lowmem_keep(ALL_REGIONS) ? ALL_REGIONS : lowmem_keep(FIRST_4_GIB) ? FIRST_4_GIB : 0;
    if (!end)
        return NULL;
    struct mirror *m = huge_create(sizeof(*m));
    if (!m) {
        lowmem_give_back(end);
        return NULL;
    }
    m->end = end;
    m->wide = end == ALL_REGIONS && !lowmem_upper_readable();
    m->space = NO_SPACE;
    return m;
}

void mirror_destroy(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    struct mirror *m = b->mirror;
    if (!m)
        return;
    b->mirror = NULL;
    b->mirror_space = NO_SPACE;
    lowmem_give_back(m->end);
    huge_destroy(m, sizeof(*m));
}

/* --- what is shown --- */

static unsigned slot_of(u64 page)
{
    return (unsigned)(page * 0x9e3779b97f4a7c15ULL >> 40) % HASH_SLOTS;
}

static struct shown *find(struct mirror *m, u64 page)
{
    for (u16 n = m->slot[slot_of(page)]; n; n = m->shown[n - 1].next)
        if (m->shown[n - 1].page == page)
            return &m->shown[n - 1];
    return NULL;
}

/* Where the list of its hash has it. */
static u16 *link_to(struct mirror *m, const struct shown *s)
{
    u16 *at = &m->slot[slot_of(s->page)];
    while (*at != (u16)(s - m->shown + 1))
        at = &m->shown[*at - 1].next;
    return at;
}

static void add(struct mirror *m, u64 page, u32 ram, bool write)
{
    struct shown *s = find(m, page);
    if (!s) {
        u16 *slot = &m->slot[slot_of(page)];
        s = &m->shown[m->n++];
        *s = (struct shown){.page = page, .next = *slot};
        *slot = (u16)m->n;
    }
    s->ram = ram;
    s->write = write;
}

/* The last one gets its number. */
static void forget(struct mirror *m, struct shown *s)
{
    struct shown *last = &m->shown[m->n - 1];
    *link_to(m, s) = s->next;
    if (s != last) {
        *link_to(m, last) = (u16)(s - m->shown + 1);
        *s = *last;
    }
    m->n--;
}

/* Where the page is shown. */
static void *host(u64 page)
{
    u64 lin = page << PAGE_SHIFT;
    return (void *)(uintptr_t)(lin + mirror_regions[mirror_region(lin)].addend);
}

static bool hide_range(u64 page, u64 pages)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return mmap(host(page), pages << PAGE_SHIFT, PROT_NONE, flags, -1, 0) != MAP_FAILED ||
           mprotect(host(page), pages << PAGE_SHIFT, PROT_NONE) == 0;
}

/* All becomes one mapping again, or as many as there were without access: that needs no memory. */
static void hide_all(struct mirror *m)
{
    bool hidden =
        !m->maps || hide_range(LOWMEM_START >> PAGE_SHIFT, (m->end - LOWMEM_START) >> PAGE_SHIFT);
    assert(hidden);
    memset(m->slot, 0, sizeof(m->slot));
    m->n = m->maps = m->pendings = 0;
    m->changed = false;
}

/* It, and perhaps all others: the host allows a process only so many mappings. */
static void hide(struct mirror *m, struct shown *s)
{
    if (!hide_range(s->page, 1)) {
        hide_all(m);
        return;
    }
    forget(m, s);
    m->maps++;
}

/* --- comparing --- */

/* Is what is shown what the guest's tables allow? */
static bool holds(struct vcpu *v, const struct shown *s)
{
    u64 lin = s->page << PAGE_SHIFT;
    return window_page(v, lin, s->write) == s->ram;
}

static void compare_all(struct vcpu *v, struct mirror *m)
{
    u32 hidden = 0, before = m->n;
    for (u32 n = m->n; n-- > 0;) {
        if (n >= m->n || holds(v, &m->shown[n]))
            continue;
        hide(m, &m->shown[n]);
        if (++hidden > 64 && hidden > before / 4)
            hide_all(m);
    }
    m->changed = false;
    m->pendings = 0;
}

static void compare_pending(struct vcpu *v, struct mirror *m)
{
    for (unsigned n = 0; n < m->pendings; n++) {
        struct shown *s = find(m, m->pending[n]);
        if (s && !holds(v, s))
            hide(m, s);
    }
    m->pendings = 0;
}

/* The address space does without for a while, if it has spent too much; what is shown stays. */
static void suspend_if_poor(struct bt_cpu *b, const struct space *space)
{
    if (space->credit < 0)
        b->mirror_space = NO_SPACE;
}

/* An address space may have code of several modes. */
static bool has_use_for_it(const struct vcpu *v, const struct mirror *m)
{
    return v->mode == MODE_LONG64 ? m->wide : v->mode == MODE_PROT32 || v->mode == MODE_COMPAT32;
}

bool mirror_holds(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    struct mirror *m = b->mirror;
    if (!has_use_for_it(v, m) || v->tlb_ctx != TLB_USER || v->tlb->breakpoints || v->journal ||
        !(v->cr0 & CR0_PG) || !guestmem_a20(v->tlb->mem))
        return false;
    if (likely(!m->changed && !m->pendings))
        return true;
    struct space *space = space_of(b, v->cr3);
    u64 start = host_tsc();
    if (m->changed && start < m->wait)
        return false;
    if (m->changed)
        compare_all(v, m);
    else
        compare_pending(v, m);
    u64 end = host_tsc();
    m->wait = end + TUNE_BT_MIRROR_SHARE * (end - start);
    space->credit -= (i64)(end - start);
    suspend_if_poor(b, space);
    return b->mirror_space != NO_SPACE;
}

/* --- flushes --- */

void mirror_flush(struct vcpu *v, enum tlb_flush what, u64 lin)
{
    struct mirror *m = bt_cpu(v)->mirror;
    if (!m || !m->n)
        return;
    bool now = v->cpl == 3; /* in the middle of user code, which goes on without a look */
    if (what != TLB_FLUSHED_PAGE) {
        if (now)
            hide_all(m);
        m->changed = !now;
        return;
    }
    if ((v->cr3 & PAGE_MASK) != m->space)
        return;
    struct shown *s = find(m, lin >> PAGE_SHIFT);
    if (!s)
        return;
    if (now)
        hide(m, s);
    else if (m->pendings < PENDING)
        m->pending[m->pendings++] = s->page;
    else
        m->changed = true;
}

void mirror_protect(struct vcpu *v, const u8 *page)
{
    struct mirror *m = bt_cpu(v)->mirror;
    if (!m)
        return;
    u64 ram = (u64)(page - v->tlb->ram) >> PAGE_SHIFT;
    for (u32 n = m->n; n-- > 0;)
        if (n < m->n && m->shown[n].ram == ram && m->shown[n].write)
            hide(m, &m->shown[n]);
}

/* --- showing --- */

struct run {
    u64 page;
    u32 ram, pages;
    bool write;
};

static bool map_run(struct vcpu *v, struct mirror *m, const struct run *r)
{
    if (!r->pages)
        return true;
    if (!window_map(v, host(r->page), r->ram, r->pages, r->write))
        return false;
    m->maps++;
    for (u32 n = 0; n < r->pages; n++)
        add(m, r->page + n, r->ram + n, r->write);
    stat_add(&v->stats, STAT_BT_MIRROR_PAGES, r->pages);
    return true;
}

/* Adds a page to the run, which is mapped first if it doesn't go on there. */
static bool extend_run(struct vcpu *v, struct mirror *m, struct run *r, u64 page, u32 ram,
                       bool write)
{
    if (r->pages && page == r->page + r->pages && ram == r->ram + r->pages && write == r->write) {
        r->pages++;
        return true;
    }
    bool done = map_run(v, m, r);
    *r = (struct run){page, ram, 1, write};
    return done;
}

/* The page of RAM there; for reading only if need be. -1: none. */
static i64 showable(struct vcpu *v, u64 page, bool *write)
{
    u64 lin = page << PAGE_SHIFT;
    i64 ram = window_page(v, lin, true);
    *write = ram >= 0;
    if (ram < 0)
        ram = window_page(v, lin, false);
    return ram >= 0 && (u64)ram < guestmem_ram_size(v->tlb->mem) >> PAGE_SHIFT ? ram : -1;
}

/* How far pages from lin on may be shown; 0: not at all. */
static u64 limit(const struct vcpu *v, u64 lin)
{
    if (v->mode != MODE_LONG64)
        return 4 * GIB;
    unsigned region = mirror_region(lin);
    return region < MIRROR_REGIONS ? mirror_regions[region].last + 1 : 0;
}

/* Pages around a fault: the more, the more of them could be shown the last time. */
static bool show_block(struct vcpu *v, struct mirror *m, u64 lin)
{
    u32 before = m->n;
    u64 page = lin >> PAGE_SHIFT, first = page & ~(u64)(m->block - 1);
    u64 end = MIN(first + m->block, limit(v, lin) >> PAGE_SHIFT);
    struct run run = {0};
    for (u64 at = MAX(first, LOWMEM_START >> PAGE_SHIFT); at < end; at++) {
        const struct shown *s = find(m, at);
        bool write;
        if (s && s->write)
            continue;
        i64 ram = showable(v, at, &write);
        if (ram >= 0 && !(s && !write) && !extend_run(v, m, &run, at, (u32)ram, write))
            return false;
    }
    bool done = map_run(v, m, &run);
    if (m->n - before >= m->block / 2)
        m->block = MIN(2 * m->block, TUNE_BT_MIRROR_BLOCK);
    else if (m->n - before < m->block / 8)
        m->block = MAX(m->block / 2, BLOCK_LEAST);
    return done;
}

bool mirror_show(struct vcpu *v, u64 lin, bool write)
{
    struct bt_cpu *b = bt_cpu(v);
    struct mirror *m = b->mirror;
    if (!m || (v->cr3 & PAGE_MASK) != m->space || !limit(v, lin) || !mirror_holds(v))
        return false;
    struct shown *s = find(m, lin >> PAGE_SHIFT);
    if (s && (s->write || !write))
        return false;
    struct space *space = space_of(b, v->cr3);
    u64 start = host_tsc();
    if (m->n + m->block > PAGES || m->maps >= TUNE_BT_WINDOW_MAPS / 2)
        hide_all(m);
    bool done = show_block(v, m, lin);
    space->credit -= (i64)(2 * (host_tsc() - start)); /* and the host's faults */
    suspend_if_poor(b, space);
    s = find(m, lin >> PAGE_SHIFT);
    return done && s && (s->write || !write);
}

/* --- who has it --- */

void mirror_give(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    struct mirror *m = b->mirror;
    if (b->bt->several || (!m && b->mirror_refused))
        return;
    if (!m)
        m = b->mirror = create();
    b->mirror_refused = !m;
    if (!m || !has_use_for_it(v, m))
        return;
    hide_all(m);
    m->block = BLOCK_LEAST;
    m->others = 0;
    m->space = b->mirror_space = v->cr3 & PAGE_MASK;
    memcpy(b->mirror_region, mirror_regions, sizeof(mirror_regions));
    stat_inc(&v->stats, STAT_BT_MIRRORS);
}

void mirror_sample(struct vcpu *v, const struct space *space)
{
    struct bt_cpu *b = bt_cpu(v);
    struct mirror *m = b->mirror;
    bool has = m && m->space == (v->cr3 & PAGE_MASK);
    if (m)
        m->others = has ? 0 : m->others + 1;
    if (space->time < TUNE_BT_MIRROR_AGE || space->credit < TUNE_BT_MIRROR_CREDIT)
        return;
    if (has)
        b->mirror_space = m->space;
    else if (!m || m->space == NO_SPACE || m->others >= TUNE_BT_MIRROR_PATIENCE)
        mirror_give(v);
}
