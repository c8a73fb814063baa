/*
 * Counters. base/stats.def lists each once; this header makes the enum and the array. A vCPU counts
 * into its own `struct stats` without atomics; a report adds the vCPUs up.
 */
#ifndef RINGER_BASE_STATS_H
#define RINGER_BASE_STATS_H

#include "base/types.h"

enum stat_id {
#define STAT(id, name, unit, help) STAT_##id,
#include "base/stats.def"
#undef STAT
    STAT_COUNT
};

struct stats {
    u64 count[STAT_COUNT];
};

struct stat_info {
    const char *name; /* dotted name as printed */
    const char *unit; /* "insn", "ns", ... */
    const char *help; /* one phrase */
};

extern const struct stat_info stat_info[STAT_COUNT];

static inline void stat_add(struct stats *s, enum stat_id id, u64 n)
{
    s->count[id] += n;
}

static inline void stat_inc(struct stats *s, enum stat_id id)
{
    s->count[id]++;
}

/* Adds every counter of `from` to `to`. */
void stats_merge(struct stats *to, const struct stats *from);

#endif
