/*
 * Blocks and instructions are taken from two pools, one after the other; when either is used up,
 * everything is thrown away at once. Nothing is freed singly: a stale block whose bytes turn out to
 * be the same is made valid again, any other stays in its pool, unreachable.
 */
#include "engine/interp/cache.h"

#include <stdlib.h>

#include "base/tunables.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"
#include "mem/access.h"

#define INSN_MAX    15
#define BUCKETS     (2 * TUNE_INTERP_CACHE_BLOCKS)
#define BLOCK_BYTES (TUNE_INTERP_BLOCK_MAX * INSN_MAX)

static_assert((BUCKETS & (BUCKETS - 1)) == 0, "buckets are found by a mask");

struct code_cache {
    struct block *bucket[BUCKETS];
    struct block block[TUNE_INTERP_CACHE_BLOCKS];
    struct insn insn[TUNE_INTERP_CACHE_INSNS];
    unsigned blocks, insns; /* used */
    struct block none;
    /* One instruction that can't be cached: code outside of RAM and ROM, or being written now. */
    struct block single;
    struct insn single_insn;
    _Atomic u32 constant; /* the version of what has none */
};

struct code_cache *cache_create(void)
{
    struct code_cache *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->none = (struct block){.gpa = NO_GPA,
                             .gpa2 = NO_GPA,
                             .page = {.now = &c->constant, .version = 1},
                             .link = {&c->none, &c->none}};
    c->single = c->none;
    c->single.page.version = 0;
    c->single.count = 1;
    c->single.insn = &c->single_insn;
    return c;
}

void cache_destroy(struct code_cache *c)
{
    free(c);
}

struct block *cache_none(struct code_cache *c)
{
    return &c->none;
}

static struct block **bucket_of(struct code_cache *c, u64 gpa, unsigned mode)
{
    u64 hash = (gpa ^ gpa >> 15 ^ (u64)mode << 11) * 0x9e3779b97f4a7c15;
    return &c->bucket[(hash >> 32) & (BUCKETS - 1)];
}

/* Room for one more block, and as many instructions as a block may have. */
static void make_room(struct code_cache *c, struct block **last)
{
    if (c->blocks < TUNE_INTERP_CACHE_BLOCKS &&
        c->insns + TUNE_INTERP_BLOCK_MAX <= TUNE_INTERP_CACHE_INSNS)
        return;
    memset(c->bucket, 0, sizeof(c->bucket));
    c->blocks = c->insns = 0;
    *last = &c->none;
}

static void track(struct guest_mem *gm, u64 gpa, unsigned len, struct block_page *page)
{
    page->version = code_protect(gm, gpa, len);
    page->now = code_version_of(gm, gpa);
}

static unsigned run_bytes(const struct insn *insn, unsigned n)
{
    unsigned bytes = 0;
    for (unsigned k = 0; k < n; k++)
        bytes += insn[k].len;
    return bytes;
}

/* Enters the block made of the n instructions at the end of the pool. */
static struct block *add_block(struct code_cache *c, struct vcpu *v, u64 gpa, unsigned n)
{
    struct block *b = &c->block[c->blocks++];
    struct block **bucket = bucket_of(c, gpa, v->mode);
    *b = (struct block){.gpa = gpa,
                        .gpa2 = NO_GPA,
                        .mode = v->mode,
                        .count = (u8)n,
                        .insn = &c->insn[c->insns],
                        .link = {&c->none, &c->none},
                        .chain = *bucket};
    *bucket = b;
    c->insns += n;
    b->end_class = b->insn[n - 1].cls;
    b->bytes = (u16)run_bytes(b->insn, n);
    stat_inc(&v->stats, STAT_INTERP_BLOCKS_DECODED);
    return b;
}

/* --- decoding --- */

/* Decodes from buf[0..room) to out; returns the number of instructions. */
static unsigned decode_run(struct vcpu *v, const u8 *buf, unsigned room, struct insn *out)
{
    unsigned n = 0, at = 0;
    while (n < TUNE_INTERP_BLOCK_MAX && at < room) {
        unsigned left = MIN(room - at, INSN_MAX);
        if (insn_decode(buf + at, left, v->mode, &out[n]) != DECODE_OK)
            break;
        sem_bind(v, &out[n]);
        at += out[n].len;
        if (out[n++].flags & INSN_END)
            break;
    }
    return n;
}

/* The instructions at gpa that lie wholly in its page. NULL: not even one does, or it isn't
 * memory that can be tracked. */
static struct block *decode_in_page(struct code_cache *c, struct vcpu *v, u64 gpa)
{
    struct guest_mem *gm = v->machine->mem;
    unsigned room = (unsigned)MIN(PAGE_SIZE - (gpa & ~PAGE_MASK), BLOCK_BYTES);
    const u8 *code = guestmem_hva(gm, gpa, room, false);
    u8 buf[BLOCK_BYTES];
    for (unsigned try = 0; code && try < TUNE_INTERP_DECODE_TRIES; try++) {
        struct block_page page;
        memcpy(buf, code, room);
        unsigned n = decode_run(v, buf, room, &c->insn[c->insns]);
        if (n == 0)
            return NULL;
        unsigned bytes = run_bytes(&c->insn[c->insns], n);
        track(gm, gpa, bytes, &page);
        if (memcmp(buf, code, bytes) != 0)
            continue;
        struct block *b = add_block(c, v, gpa, n);
        b->page = page;
        return b;
    }
    return NULL;
}

/* The one instruction at CS:RIP by itself. Cached if it crosses a page and both lie in memory. */
static struct block *decode_single(struct code_cache *c, struct vcpu *v, u64 gpa)
{
    struct guest_mem *gm = v->machine->mem;
    struct insn *i = &c->single_insn;
    sem_fetch(v, i);
    c->single.bytes = i->len;
    c->single.end_class = i->cls;
    c->single.mode = v->mode;
    unsigned room = (unsigned)(PAGE_SIZE - (gpa & ~PAGE_MASK));
    if (i->len <= room)
        return &c->single;
    u64 gpa2 = lin_exec_gpa(v, (sem_code_lin(v) & PAGE_MASK) + PAGE_SIZE);
    const u8 *first = guestmem_hva(gm, gpa, room, false);
    const u8 *second = guestmem_hva(gm, gpa2, i->len - room, false);
    if (!first || !second)
        return &c->single;
    struct block_page page, page2;
    track(gm, gpa, room, &page);
    track(gm, gpa2, i->len - room, &page2);
    if (memcmp(first, i->raw, room) != 0 || memcmp(second, i->raw + room, i->len - room) != 0)
        return &c->single;
    c->insn[c->insns] = *i;
    struct block *b = add_block(c, v, gpa, 1);
    b->page = page;
    b->page2 = page2;
    b->gpa2 = gpa2;
    return b;
}

/* --- finding --- */

/* The second page's linear address may be mapped elsewhere by now. */
bool block_check_second(struct vcpu *v, const struct block *b)
{
    u64 gpa2 = lin_exec_gpa(v, (sem_code_lin(v) & PAGE_MASK) + PAGE_SIZE);
    return gpa2 == b->gpa2 && page_unchanged(&b->page2);
}

/* A block whose page was written, but perhaps not where its bytes are. */
static bool revalidate(struct vcpu *v, struct block *b)
{
    struct guest_mem *gm = v->machine->mem;
    const u8 *code = guestmem_hva(gm, b->gpa, b->bytes, false);
    if (b->gpa2 != NO_GPA || !code)
        return false;
    track(gm, b->gpa, b->bytes, &b->page);
    for (unsigned n = 0; n < b->count; n++) {
        if (memcmp(code, b->insn[n].raw, b->insn[n].len) != 0)
            return false;
        code += b->insn[n].len;
    }
    return true;
}

static struct block *find(struct code_cache *c, struct vcpu *v, u64 gpa)
{
    for (struct block **p = bucket_of(c, gpa, v->mode); *p; p = &(*p)->chain) {
        struct block *b = *p;
        if (!block_is(b, gpa, v->mode))
            continue;
        if (block_valid(v, b) || revalidate(v, b))
            return b;
        *p = b->chain;
        b->gpa = NO_GPA;
        stat_inc(&v->stats, STAT_INTERP_BLOCKS_STALE);
        return NULL;
    }
    return NULL;
}

struct block *cache_get(struct code_cache *c, struct vcpu *v, u64 gpa, struct block **last)
{
    struct block *b = find(c, v, gpa);
    if (b)
        return b;
    make_room(c, last);
    b = decode_in_page(c, v, gpa);
    return b ? b : decode_single(c, v, gpa);
}
