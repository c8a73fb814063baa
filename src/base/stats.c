/*
 * The names of the counters, made from the one list in stats.def.
 */
#include "base/stats.h"

const struct stat_info stat_info[STAT_COUNT] = {
#define STAT(id, name, unit, help) [STAT_##id] = {name, unit, help},
#include "base/stats.def"
#undef STAT
};

void stats_merge(struct stats *to, const struct stats *from)
{
    for (unsigned i = 0; i < STAT_COUNT; i++)
        to->count[i] += from->count[i];
}
