/*
 * A record of what one vCPU's instructions store, so that it can be taken back. While v->journal is
 * set the first-level TLB holds no tags for stores, so that each goes through the functions of
 * access.c and walk.c, which note the 64-byte lines they are about to change; and an access that is
 * not to RAM (or a read of ROM) leaves the engine by vcpu_leave() before it has an effect.
 */
#ifndef RINGER_MEM_JOURNAL_H
#define RINGER_MEM_JOURNAL_H

#include "cpu/fault.h"

#define JOURNAL_LINE 64

struct journal_line {
    u8 *p;     /* in RAM, aligned */
    bool walk; /* a page walk set A or D bits in it */
    u8 before[JOURNAL_LINE], after[JOURNAL_LINE];
};

struct journal {
    struct journal_line *line; /* a line may be in it more than once */
    unsigned lines, max;
    bool refused; /* an access was refused since journal_clear() */
    /* Lines noted lately, to find most repetitions. */
    u32 epoch;
    struct {
        u8 *p;
        u32 epoch;
    } seen[256];
};

/* NULL: no memory. */
struct journal *journal_create(void);
void journal_destroy(struct journal *j);

void journal_clear(struct journal *j);

/* Notes [p, p+len) of RAM, which is about to be changed. Leaves the engine if the journal is full.
 */
void journal_add(struct vcpu *v, const void *p, unsigned len, bool walk);
_Noreturn void journal_refuse(struct vcpu *v, const char *what);

static inline void journal_store(struct vcpu *v, const void *p, unsigned len)
{
    if (unlikely(v->journal))
        journal_add(v, p, len, false);
}

/* To be called before anything that is not RAM or ROM is accessed. */
static inline void journal_device(struct vcpu *v)
{
    if (unlikely(v->journal))
        journal_refuse(v, "a device access");
}

/* Is there little room left? */
static inline bool journal_crowded(const struct journal *j)
{
    return j->lines > j->max / 8;
}

/* Remembers what the lines are now as `after` and makes them what they were before. */
void journal_undo(struct vcpu *v, struct journal *j);

/* Makes a line of RAM these bytes, with the bookkeeping of a store. */
void journal_put(struct vcpu *v, u8 *p, const u8 bytes[JOURNAL_LINE]);

/* Does memory hold what the journal says it was after the stores? A and D bits that walks set don't
 * count: another TLB may have had no reason to walk. */
bool journal_line_matches(const struct journal *j, const struct journal_line *l);
bool journal_matches(const struct journal *j);

#endif
