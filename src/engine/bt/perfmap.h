/*
 * The map of translated code for perf(1), /tmp/perf-PID.map. Not locked: the cache's lock is held.
 */
#ifndef RINGER_ENGINE_BT_PERFMAP_H
#define RINGER_ENGINE_BT_PERFMAP_H

#include "engine/bt/tcache.h"

struct perf_map;

/* Opens the map and names the thunks. */
int perf_map_create(const struct tcache *tc, struct perf_map **out, struct error *err);
void perf_map_destroy(struct perf_map *p); /* p may be NULL */
void perf_map_add(struct perf_map *p, const struct tcache *tc, const struct fragment *f);

#endif
