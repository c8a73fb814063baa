/*
 * What a TU consists of. A cold one is a run of instructions up to the first that transfers
 * control. A hot one is a trace: it goes on where its branches lead most of the time, as long as
 * that is in the same page: over conditional branches, along jumps and calls, by returns to calls
 * that it came along, and some laps around a loop. So what were many TUs share checks, flags and
 * looks for events. Which way is the frequented one can be seen by the fragments at both ends: how
 * often each was entered before it was hot.
 */
#include "engine/bt/trans.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"

#define INSN_MAX  15
#define CALLS_MAX 8

/* Where a trace stands: offsets from the TU's first byte. */
struct path {
    i32 low, high; /* what it may reach: bytes of its page and of the code segment */
    i32 back[CALLS_MAX];
    unsigned calls; /* that it came along; back[]: where they return to */
    unsigned branches;
};

/* --- where it goes on --- */

static bool is_conditional(const struct insn *i)
{
    return i->op >= OP_JO && i->op <= OP_JNLE;
}

static bool within(const struct path *p, i64 off)
{
    return off >= p->low && off < p->high;
}

/* How often the code there was entered, as far as it was counted. */
static unsigned frequency(const struct trans *t, const struct path *p, i64 off)
{
    const struct fragment *f = t->f;
    if (!within(p, off))
        return 0;
    if (off == 0)
        return TUNE_BT_HOT; /* it is what is being translated */
    f = tcache_find(t->tc, f->gpa + (u64)off, f->rip + (u64)off, f->key);
    return !f ? 0 : f->settled ? TUNE_BT_HOT : f->heat + 1u;
}

static unsigned laps(const struct trans *t, i64 off)
{
    unsigned n = 0;
    for (unsigned k = 0; k < t->n; k++)
        n += t->off[k] == off;
    return n;
}

static bool may_go(const struct trans *t, const struct path *p, i64 off)
{
    return frequency(t, p, off) && laps(t, off) < TUNE_BT_LAPS;
}

/* On from a conditional branch at the end that was entered more often; of two that were as often,
 * at the one that leads back, since a loop goes around more often than not. */
static bool follow_branch(struct trans *t, struct path *p, i64 target, i32 *to)
{
    unsigned taken = frequency(t, p, target), straight = frequency(t, p, *to);
    if (p->branches == SIDE_EXITS_MAX)
        return false;
    p->branches++;
    bool takes = taken > straight || (taken == straight && target < *to);
    if (!may_go(t, p, takes ? target : *to))
        return false;
    if (takes)
        *to = (i32)target;
    return true;
}

static bool follow_call(struct trans *t, struct path *p, i64 target, i32 *to)
{
    if (p->calls == CALLS_MAX || !within(p, *to) || !may_go(t, p, target))
        return false;
    p->back[p->calls++] = *to;
    *to = (i32)target;
    return true;
}

/* Does the TU go on after an instruction that ends a block? *to is the offset of what stands behind
 * it, and becomes that of where it goes on. */
static bool follow(struct trans *t, struct path *p, const struct insn *i, i32 *to)
{
    if (!can_branch(t, i))
        return false;
    i64 target = (i64)(branch_target(t, i) - t->f->rip);
    switch (i->op) {
    case OP_JMP:
        if (!may_go(t, p, target))
            return false;
        *to = (i32)target;
        return true;
    case OP_CALL:
        return follow_call(t, p, target, to);
    case OP_RET:
        if (!p->calls || learned_at(t, i) & LEARNED_STRAYS)
            return false;
        *to = p->back[--p->calls];
        return true;
    default:
        return is_conditional(i) && follow_branch(t, p, target, to);
    }
}

/* --- decoding --- */

/* Bytes that may be decoded at rip: to the end of the page, of the segment and of the address
 * space of IP. */
static unsigned bytes_left(const struct trans *t, u64 gpa)
{
    u64 room = PAGE_SIZE - (gpa & ~PAGE_MASK), last = sem_last_ip(t->v), rip = t->v->rip;
    if (rip > last)
        return 0;
    if (!t->extend)
        room = MIN(room, (u64)TU_MAX * INSN_MAX);
    return (unsigned)(last - rip < room ? last - rip + 1 : room);
}

/* A trace that is cut off in a lap around a loop ends where the lap began. */
static void end_at_lap(struct trans *t)
{
    for (unsigned n = t->n - 1; n > 0; n--)
        if (t->off[n] == 0) {
            t->n = n;
            return;
        }
}

/* The next instruction, at offset `at`. False: there is none to be had. */
static bool decode_one(struct trans *t, const struct path *p, const u8 *code, i32 at)
{
    struct insn *i = &t->insn[t->n];
    unsigned room = MIN((unsigned)(p->high - at), (unsigned)INSN_MAX);
    if (at >= p->high ||
        insn_decode_cached(t->bt->decoded, code + at, room, t->key.mode, i) != DECODE_OK)
        return false;
    t->off[t->n++] = (i16)at;
    if (!sem_offered(t->v, i)) {
        i->cls = CLASS_SYSTEM;
        i->flags |= INSN_END | INSN_NOT_YET;
    }
    return true;
}

/* Decodes what the TU consists of; code + n is the byte at offset n. */
static void decode_tu(struct trans *t, const u8 *code, i32 low, i32 high)
{
    struct path p = {.low = low, .high = high};
    i32 at = 0;
    t->n = 0;
    t->back_at = TU_MAX;
    while (t->n < TU_MAX && decode_one(t, &p, code, at)) {
        const struct insn *i = &t->insn[t->n - 1];
        i32 from = at;
        at += i->len;
        if (!(i->flags & INSN_END) || falls_through(t, i))
            continue;
        if (!t->extend || !follow(t, &p, i, &at))
            break;
        if (at <= from)
            t->back_at = MIN(t->back_at, t->n);
    }
    t->off[t->n] = (i16)at;
    if (t->n == TU_MAX && t->extend)
        end_at_lap(t);
}

/* --- what was decoded stays so --- */

/* From now on stores to these bytes are noticed. */
static void protect(struct trans *t, u64 gpa, unsigned bytes)
{
    struct guest_mem *gm = t->v->machine->mem;
    _Atomic u64 *mask = code_mask_of(gm, gpa);
    bool first = mask && atomic_load(mask) == 0;
    code_protect(gm, gpa, bytes);
    if (first && !t->bt->several) {
        tlb_protect_code(t->v, gpa);
        spans_protect(t->v, guestmem_hva(gm, gpa & PAGE_MASK, PAGE_SIZE, false));
    }
}

/* The next run of instructions, one behind the other, from number *n on. */
static void next_run(const struct trans *t, unsigned *n, i32 *from, i32 *end)
{
    *from = *end = t->off[*n];
    while (*n < t->n && t->off[*n] == *end)
        *end += t->insn[(*n)++].len;
}

static void protect_all(struct trans *t, u64 gpa)
{
    struct fragment *f = t->f;
    i32 from, end;
    f->before = f->bytes = f->length = 0;
    f->chunks[0] = 0;
    for (unsigned n = 0; n < t->n;) {
        next_run(t, &n, &from, &end);
        u64 at = gpa + (u64)(i64)from;
        protect(t, at, (unsigned)(end - from));
        f->chunks[0] |= tcache_chunks(at, (unsigned)(end - from));
        f->length = (u16)(f->length + (end - from));
        f->before = MAX(f->before, from < 0 ? (u16)-from : 0);
        f->bytes = MAX(f->bytes, (u16)MAX(end, 0));
    }
}

/* code and p: copy and original of the byte at offset 0. */
static bool all_the_same(const struct trans *t, const u8 *code, const u8 *p)
{
    i32 from, end;
    for (unsigned n = 0; n < t->n;) {
        next_run(t, &n, &from, &end);
        if (memcmp(code + from, p + from, (size_t)(end - from)) != 0)
            return false;
    }
    return true;
}

/* One instruction that goes into the next page, whose bytes up to the page's end are in code. */
static bool fetch_crossing(struct trans *t, u64 gpa, u64 gpa2, u8 *code, unsigned in_page)
{
    struct guest_mem *gm = t->v->machine->mem;
    struct insn *i = &t->insn[0];
    const u8 *second = gpa2 == NO_GPA ? NULL : guestmem_hva(gm, gpa2, INSN_MAX, false);
    if (!second || in_page >= INSN_MAX)
        return false;
    memcpy(code + in_page, second, INSN_MAX - in_page);
    if (insn_decode(code, INSN_MAX, t->key.mode, i) != DECODE_OK || i->len <= in_page ||
        sem_last_ip(t->v) - t->v->rip < i->len - 1u || !sem_offered(t->v, i))
        return false;
    t->n = 1;
    t->off[0] = 0;
    t->off[1] = i->len;
    t->f->bytes = t->f->length = i->len;
    t->f->gpa2 = gpa2;
    t->f->chunks[0] = tcache_chunks(gpa, in_page);
    t->f->chunks[1] = tcache_chunks(gpa2, i->len - in_page);
    protect(t, gpa, in_page);
    protect(t, gpa2, i->len - in_page);
    return memcmp(i->raw, guestmem_hva(gm, gpa, in_page, false), in_page) == 0 &&
           memcmp(i->raw + in_page, second, i->len - in_page) == 0;
}

bool trace_fetch(struct trans *t, u64 gpa, u64 gpa2)
{
    unsigned room = bytes_left(t, gpa), before = t->extend ? gpa & ~PAGE_MASK : 0;
    u8 copy[PAGE_SIZE + INSN_MAX], *code = copy + before;
    const u8 *p = guestmem_hva(t->v->machine->mem, gpa - before, before + room, false);
    for (unsigned try = 0; p && room && try < TUNE_INTERP_DECODE_TRIES; try++) {
        memcpy(copy, p, before + room);
        decode_tu(t, code, -(i32)before, (i32)room);
        if (!t->n)
            return fetch_crossing(t, gpa, gpa2, code, room);
        protect_all(t, gpa);
        if (all_the_same(t, code, p + before))
            return true;
    }
    return false;
}
