/*
 * The translation cache. Code and records are only ever appended; a flush resets the counts. The
 * records are found in three ways: by what a fragment was made from (hash), by the guest page it
 * came from (for writes to code), and by host address (binary search, since everything is appended
 * in the order of its code).
 *
 * Other vCPUs run the code that is patched here. So each patch is one aligned store, after which a
 * CPU runs either the old or the new instruction, and both are right for a while.
 */
#include "engine/bt/tcache.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/huge.h"
#include "mem/guestmem.h"

#define SIZE_MIN      (64 * KIB) /* thunks and a fragment */
#define SIZE_MAX_CODE (1 * GIB)  /* 32-bit displacements reach everything */

/* Code bytes per record, about what translated code has at its densest. */
#define CODE_PER_FRAGMENT     128
#define CODE_PER_SITE         48
#define CODE_PER_RELOC        8
#define EXITS_PER_2_FRAGMENTS 5

/* Of the hash table; in a full cache, and most are never full. */
#define FRAGMENTS_PER_SLOT 8

/* Memory for code is had from the host in pieces of this size. */
#define PREPARE_BYTES (256 * KIB)

/* The most that one fragment may need. */
#define ROOM_CODE    (32 * KIB)
#define ROOM_RECORDS 1024 /* sites, traps */
#define ROOM_EXITS   64
#define ROOM_SPANS   (2 * TUNE_BT_TU_MAX)
#define ROOM_RELOCS  4096

#define OPC_JMP_REL32     0xe9
#define JUMP_BYTES        5
#define FLAGS_IMAGE_BYTES 4 /* emit_flags_to_image(), in front of the stub of fragment.own */

/* struct bt_key without the padding behind it. */
#define KEY_BYTES (offsetof(struct bt_key, limited_segs) + 1)

/* --- memory --- */

/* Shared anonymous memory, which MREMAP maps a second time. (A memfd would do, but perf takes its
 * mappings for files and doesn't look for names in perf-PID.map.) */
static int map_twice(struct tcache *tc)
{
    void *rw = mmap(NULL, tc->size, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (rw == MAP_FAILED)
        return -errno;
    tc->rw = rw;
    void *rx = mremap(rw, 0, tc->size, MREMAP_MAYMOVE);
    if (rx == MAP_FAILED)
        return -errno;
    tc->rx = rx;
    madvise(tc->rw, tc->size, MADV_HUGEPAGE); /* if the host can */
    madvise(tc->rx, tc->size, MADV_HUGEPAGE);
    return mprotect(tc->rx, tc->size, PROT_READ | PROT_EXEC) < 0 ? -errno : 0;
}

struct array {
    void **at;
    size_t bytes;
};

#define ARRAYS 9

static void list_arrays(struct tcache *tc, struct array array[ARRAYS])
{
    const struct array list[ARRAYS] = {
        {(void **)&tc->hash, sizeof(*tc->hash) << tc->hash_bits},
        {(void **)&tc->page, sizeof(*tc->page) * guestmem_pages(tc->mem)},
        {(void **)&tc->fragment, sizeof(*tc->fragment) * tc->max_fragments},
        {(void **)&tc->exit, sizeof(*tc->exit) * tc->max_exits},
        {(void **)&tc->site, sizeof(*tc->site) * tc->max_sites},
        {(void **)&tc->trap, sizeof(*tc->trap) * tc->max_traps},
        {(void **)&tc->reloc, sizeof(*tc->reloc) * tc->max_relocs},
        {(void **)&tc->source, sizeof(*tc->source) << tc->hash_bits},
        {(void **)&tc->key, sizeof(*tc->key) * TCACHE_KEYS},
    };
    memcpy(array, list, sizeof(list));
}

static int map_arrays(struct tcache *tc)
{
    struct array array[ARRAYS];
    list_arrays(tc, array);
    for (unsigned n = 0; n < ARRAYS; n++) {
        *array[n].at = huge_create(array[n].bytes);
        if (!*array[n].at)
            return -ENOMEM;
    }
    return 0;
}

static void set_capacities(struct tcache *tc)
{
    tc->max_fragments = (u32)(tc->size / CODE_PER_FRAGMENT);
    tc->max_exits = (u32)((u64)tc->max_fragments * EXITS_PER_2_FRAGMENTS / 2);
    tc->max_sites = (u32)(tc->size / CODE_PER_SITE);
    tc->max_traps = tc->max_sites;
    tc->max_relocs = (u32)(tc->size / CODE_PER_RELOC);
    while ((1U << tc->hash_bits) * FRAGMENTS_PER_SLOT < tc->max_fragments)
        tc->hash_bits++;
}

/* What is about to be written and run, before it is touched: one system call for many pages costs
 * far less than a page fault for each. If the host can't, the pages come by faults. */
static void prepare(struct tcache *tc)
{
    size_t from = (size_t)(tc->prepared - tc->rw), n = MIN(PREPARE_BYTES, tc->size - from);
    madvise(tc->rw + from, n, MADV_POPULATE_WRITE);
    madvise(tc->rx + from, n, MADV_POPULATE_READ);
    tc->prepared += n;
}

static void append(struct tcache *tc, u8 *end)
{
    tc->next = (u8 *)(uintptr_t)align_up((uintptr_t)end, 16);
    if (tc->prepared - tc->next < (ptrdiff_t)ROOM_CODE && tc->prepared < tc->rw + tc->size)
        prepare(tc);
}

int tcache_create(struct machine *m, size_t size, struct tcache **out, struct error *err)
{
    assert(size >= SIZE_MIN && size <= SIZE_MAX_CODE);
    struct tcache *tc = calloc(1, sizeof(*tc));
    if (!tc)
        return error_set(err, ENOMEM, "no memory for the translation cache");
    pthread_mutex_init(&tc->lock, NULL);
    pthread_cond_init(&tc->changed, NULL);
    tc->size = align_up(size, PAGE_SIZE);
    tc->mem = m->mem;
    tc->several = m->ncpus > 1;
    set_capacities(tc);
    int code = map_twice(tc);
    if (code == 0)
        code = map_arrays(tc);
    if (code < 0) {
        tcache_destroy(tc);
        return error_errno(err, -code, "no memory for a translation cache of %zu MiB", size >> 20);
    }
    tc->next = tc->prepared = tc->rw;
    thunks_emit(tc, &tc->thunks);
    tc->first = tc->rw + align_up((u64)(tc->next - tc->rw), 64);
    append(tc, tc->first);
    assert(tcache_has_room(tc));
    *out = tc;
    return 0;
}

void tcache_destroy(struct tcache *tc)
{
    struct array array[ARRAYS];
    list_arrays(tc, array);
    for (unsigned n = 0; n < ARRAYS; n++)
        huge_destroy(*array[n].at, array[n].bytes);
    if (tc->rw)
        munmap(tc->rw, tc->size);
    if (tc->rx)
        munmap(tc->rx, tc->size);
    pthread_cond_destroy(&tc->changed);
    pthread_mutex_destroy(&tc->lock);
    free(tc);
}

bool tcache_has_room(const struct tcache *tc)
{
    return tc->size - (size_t)(tc->next - tc->rw) >= ROOM_CODE &&
           tc->fragments < tc->max_fragments && tc->exits + ROOM_EXITS <= tc->max_exits &&
           tc->sites + ROOM_RECORDS <= tc->max_sites && tc->traps + ROOM_RECORDS <= tc->max_traps &&
           tc->relocs + ROOM_RELOCS <= tc->max_relocs;
}

bool tcache_has_spans(const struct tcache *tc)
{
    return tc->spans + ROOM_SPANS <= TUNE_BT_SPANS;
}

/* --- keys --- */

static unsigned key_hash(const struct bt_key *key)
{
    const u8 *p = (const u8 *)key;
    u32 h = 2166136261u; /* FNV-1a */
    for (unsigned n = 0; n < KEY_BYTES; n++)
        h = (h ^ p[n]) * 16777619u;
    return h;
}

u32 tcache_key(struct tcache *tc, const struct bt_key *key)
{
    unsigned n = key_hash(key) % ARRAY_SIZE(tc->key_hash);
    for (; tc->key_hash[n]; n = (n + 1) % ARRAY_SIZE(tc->key_hash)) {
        u32 number = tc->key_hash[n] - 1u;
        if (!memcmp(&tc->key[number], key, KEY_BYTES))
            return number;
    }
    if (tc->keys == TCACHE_KEYS)
        return NO_KEY;
    tc->key[tc->keys] = *key;
    tc->key_hash[n] = (u16)(tc->keys + 1);
    return tc->keys++;
}

/* --- finding by what a fragment was made from --- */

static struct fragment **hash_slot(const struct tcache *tc, u64 gpa, u64 rip, u32 key)
{
    u64 h = (gpa ^ rip << 20 ^ (u64)key << 48) * 0x9e3779b97f4a7c15ULL;
    return &tc->hash[h >> (64 - tc->hash_bits)];
}

struct fragment *tcache_find(struct tcache *tc, u64 gpa, u64 rip, u32 key)
{
    for (struct fragment *f = *hash_slot(tc, gpa, rip, key); f; f = f->hash_next)
        if (f->gpa == gpa && f->rip == rip && f->key == key)
            return f;
    return NULL;
}

static u32 *source_slot(const struct tcache *tc, u64 gpa, u32 key)
{
    u64 h = (gpa ^ (u64)key << 48) * 0x9e3779b97f4a7c15ULL;
    return &tc->source[h >> (64 - tc->hash_bits)];
}

void tcache_set_source(struct tcache *tc, const struct fragment *f)
{
    *source_slot(tc, f->gpa, f->key) = (u32)(f - tc->fragment);
}

/* What is in the slot may be from before the last flush, or have lost its place to another. */
struct fragment *tcache_source(const struct tcache *tc, u64 gpa, u32 key)
{
    u32 n = *source_slot(tc, gpa, key);
    struct fragment *f = &tc->fragment[n];
    if (n >= tc->fragments || f->gpa != gpa || f->key != key || f->dead || !f->clonable)
        return NULL;
    return f;
}

static void unhash(struct tcache *tc, struct fragment *f)
{
    struct fragment **at = hash_slot(tc, f->gpa, f->rip, f->key);
    while (*at != f)
        at = &(*at)->hash_next;
    *at = f->hash_next;
}

/* --- by guest page --- */

#define NO_PAGE (~0U)

/* Page numbers are those of code tracking. */
static u32 page_of(const struct tcache *tc, u64 gpa)
{
    const u8 *p = gpa == NO_GPA ? NULL : guestmem_hva(tc->mem, gpa, 1, false);
    return p ? (u32)((u64)(p - guestmem_ram(tc->mem)) >> PAGE_SHIFT) : NO_PAGE;
}

void tcache_add(struct tcache *tc, struct fragment *f)
{
    append(tc, f->end);
    __atomic_store_n(&tc->traps, f->first_trap + f->traps, __ATOMIC_RELEASE);
    tc->fragments++;
    tc->relocs += f->relocs;
    struct fragment **slot = hash_slot(tc, f->gpa, f->rip, f->key);
    f->hash_next = *slot;
    *slot = f;
    f->page[0] = page_of(tc, f->gpa);
    f->page[1] = page_of(tc, f->gpa2);
    f->page_next[0] = f->page_next[1] = NULL;
    for (unsigned n = 0; n < 2; n++) {
        /* Two linear pages may be one physical page: it is in its list once. */
        if (f->page[n] == NO_PAGE || (n == 1 && f->page[1] == f->page[0]))
            continue;
        f->page_next[n] = tc->page[f->page[n]];
        tc->page[f->page[n]] = f;
    }
}

/* Puts an instruction of JUMP_BYTES bytes in the place of another. Both lie within an aligned word,
 * so it is there at once. */
static void replace(u8 *at, const u8 insn[JUMP_BYTES])
{
    u64 *word = (u64 *)align_down((u64)at, 8);
    unsigned first = (unsigned)(at - (u8 *)word);
    assert(first + JUMP_BYTES <= 8);
    u64 value = *word;
    memcpy((u8 *)&value + first, insn, JUMP_BYTES);
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static void make_jump(u8 *at, const u8 *target)
{
    u8 jump[JUMP_BYTES] = {OPC_JMP_REL32};
    store_le(jump + 1, (u64)(target - (at + JUMP_BYTES)), 4);
    replace(at, jump);
}

static void make_nop(u8 *at)
{
    static const u8 nop[JUMP_BYTES] = {0x0f, 0x1f, 0x44, 0, 0};
    replace(at, nop);
}

void exit_reset(struct exit *x)
{
    const u8 *start = x->host_flags ? x->stub - FLAGS_IMAGE_BYTES : x->stub;
    if (x->check)
        make_jump(x->check, start);
    atomic_thread_fence(memory_order_release);
    if (x->jump)
        emit_patch(x->jump, start);
}

static void unlink_exit(struct exit *x)
{
    exit_reset(x);
    *x->to_at = x->to_next;
    if (x->to_next)
        x->to_next->to_at = x->to_at;
    x->to = NULL;
}

static void kill_fragment(struct tcache *tc, struct fragment *f)
{
    f->dead = true;
    unhash(tc, f);
    while (f->linked)
        unlink_exit(f->linked);
    make_jump(f->entry_flags, f->own->stub - FLAGS_IMAGE_BYTES);
    make_jump(f->entry_image, f->own->stub);
}

void tcache_kill(struct tcache *tc, struct fragment *f)
{
    if (!f->dead)
        kill_fragment(tc, f);
}

static u64 fragment_chunks(const struct fragment *f, u64 page)
{
    return (f->page[0] == page ? f->chunks[0] : 0) | (f->page[1] == page ? f->chunks[1] : 0);
}

/* Where the list of the page's fragments goes on behind f. */
static struct fragment **page_link(struct fragment *f, u64 page)
{
    return &f->page_next[f->page[0] == page ? 0 : 1];
}

void tcache_invalidate(struct tcache *tc, u64 page, u64 chunks)
{
    assert(page < guestmem_pages(tc->mem));
    pthread_mutex_lock(&tc->lock);
    struct fragment **at = &tc->page[page];
    while (*at) {
        struct fragment *f = *at, **next = page_link(f, page);
        if (!f->dead && fragment_chunks(f, page) & chunks) {
            kill_fragment(tc, f);
            tc->invalidated++;
        }
        if (f->dead) /* by now, or since its other page was written */
            *at = *next;
        else
            at = next;
    }
    code_forget(tc->mem, page, chunks); /* not before they are dead: see mem/codetrack.c */
    pthread_mutex_unlock(&tc->lock);
}

unsigned tcache_give_windows(struct tcache *tc, u64 gpa)
{
    u32 page = page_of(tc, gpa);
    unsigned n = 0;
    if (page == NO_PAGE)
        return 0;
    pthread_mutex_lock(&tc->lock);
    tc->learned[tcache_learned_hash(gpa)] |= LEARNED_HOT_PAGE;
    for (struct fragment *f = tc->page[page]; f; f = *page_link(f, page)) {
        u16 *learned = &tc->learned[tcache_learned_hash(f->gpa)];
        if (f->dead || !(f->roams || *learned & LEARNED_ALONE) || tc->key[f->key].cpl < 3)
            continue;
        *learned &= (u16)~LEARNED_ALONE; /* what is across two pages has windows now */
        f->clonable = false;
        kill_fragment(tc, f);
        n++;
    }
    pthread_mutex_unlock(&tc->lock);
    return n;
}

/* --- links --- */

static void link_exit(struct exit *x, struct fragment *f)
{
    emit_patch(x->jump, x->host_flags ? f->entry_flags : f->entry_image);
    x->to = f;
    x->to_at = &f->linked;
    x->to_next = f->linked;
    if (x->to_next)
        x->to_next->to_at = &x->to_next;
    f->linked = x;
}

/*
 * An exit to another page has a signature once it was linked, which another vCPU may be comparing
 * even while the exit leads past the comparison: it may have come by `check` long ago. If it has
 * already loaded the old signature and finds that to be right, it goes by `jump`, which must then
 * not lead to where the new signature belongs, and there is no order of stores that excludes this.
 * So with several vCPUs an exit keeps its first signature, and is only linked where that is right:
 * whoever compares late finds an old target, which is diverted if it is dead, the stub, or the new
 * target, all of which are right then. One vCPU is here and so not there.
 */
bool tcache_link(struct tcache *tc, struct exit *x, struct fragment *f, u64 sig)
{
    if (!x->jump || x->to == f)
        return false;
    if (!x->sig) {
        bool fits = !x->to && ((x->from->gpa ^ f->gpa) & PAGE_MASK) == 0;
        if (fits)
            link_exit(x, f);
        return fits;
    }
    u64 old = load_le(x->sig, 8);
    if (tc->several && old && old != sig)
        return false;
    if (x->to)
        unlink_exit(x);
    if (old != sig)
        store_le(x->sig, sig, 8);
    link_exit(x, f);
    atomic_thread_fence(memory_order_release);
    make_nop(x->check);
    return true;
}

/* --- throwing all away --- */

void tcache_enter(struct tcache *tc)
{
    pthread_mutex_lock(&tc->lock);
    while (tc->flush_wanted)
        pthread_cond_wait(&tc->changed, &tc->lock);
    tc->inside++;
    pthread_mutex_unlock(&tc->lock);
}

static void leave_locked(struct tcache *tc)
{
    assert(tc->inside > 0);
    tc->inside--;
    pthread_cond_broadcast(&tc->changed);
}

void tcache_leave(struct tcache *tc)
{
    pthread_mutex_lock(&tc->lock);
    leave_locked(tc);
    pthread_mutex_unlock(&tc->lock);
}

/* Clears what was used. */
static void reset(struct tcache *tc)
{
    for (u32 n = 0; n < tc->fragments; n++) {
        const struct fragment *f = &tc->fragment[n];
        *hash_slot(tc, f->gpa, f->rip, f->key) = NULL;
        for (unsigned k = 0; k < 2; k++)
            if (f->page[k] != NO_PAGE)
                tc->page[f->page[k]] = NULL;
    }
    tc->fragments = tc->exits = tc->sites = tc->relocs = tc->keys = tc->spans = 0;
    for (unsigned n = 0; n < TCACHE_LEARNED; n++)
        tc->learned[n] &=
            LEARNED_ALONE | LEARNED_HOT_PAGE | LEARNED_STRAYS; /* the others have another try */
    __atomic_store_n(&tc->traps, 0, __ATOMIC_RELEASE);
    memset(tc->key_hash, 0, sizeof(tc->key_hash));
    tc->next = tc->first;
    tc->generation++;
}

/* Their numbers can be given to others now, as every vCPU forgets what it knows of them. */
static void reset_spans(struct tcache *tc)
{
    for (u32 n = 0; n < tc->fragments; n++) {
        struct fragment *f = &tc->fragment[n];
        if (f->has_spans)
            tcache_kill(tc, f);
        f->has_spans = false;
    }
    tc->spans = 0;
    tc->generation++;
}

/* flush_wanted is set before the kick, so who was kicked can't come in again. */
static void flush_locked(struct tcache *tc, bool all)
{
    tc->flush_wanted = true;
    if (tc->kick && tc->inside > 1) {
        pthread_mutex_unlock(&tc->lock);
        tc->kick(tc->kick_ctx);
        pthread_mutex_lock(&tc->lock);
    }
    while (tc->inside > 1)
        pthread_cond_wait(&tc->changed, &tc->lock);
    if (all)
        reset(tc);
    else
        reset_spans(tc);
    tc->flush_wanted = false;
    pthread_cond_broadcast(&tc->changed);
}

bool tcache_flush(struct tcache *tc, bool all)
{
    pthread_mutex_lock(&tc->lock);
    bool mine = !tc->flush_wanted;
    if (mine) {
        flush_locked(tc, all);
    } else {
        leave_locked(tc);
        while (tc->flush_wanted)
            pthread_cond_wait(&tc->changed, &tc->lock);
        tc->inside++;
    }
    pthread_mutex_unlock(&tc->lock);
    return mine;
}

/* --- by host address --- */

/* Runs in signal handlers, while another thread may append. */
const u8 *tcache_trap(const struct tcache *tc, const u8 *pc)
{
    u64 off = (u64)(pc - tc->rx);
    u32 low = 0, high = __atomic_load_n(&tc->traps, __ATOMIC_ACQUIRE);
    while (low < high) {
        u32 mid = low + (high - low) / 2;
        const struct trap *t = &tc->trap[mid];
        if (t->pc == off)
            return tc->rx + t->to;
        if (t->pc < off)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

struct fragment *tcache_at(const struct tcache *tc, const u8 *pc)
{
    const u8 *at = tc->rw + (pc - tc->rx);
    u32 low = 0, high = tc->fragments;
    while (low < high) {
        u32 mid = low + (high - low) / 2;
        struct fragment *f = &tc->fragment[mid];
        if (at >= f->code && at < f->end)
            return f;
        if (f->end <= at)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}
