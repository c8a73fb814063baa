/*
 * The counters at several times of a run (--stats-interval), taken by the control loop while the
 * vCPUs count on. A counter is one aligned word, so what is read is a value that it had.
 */
#include "vm/machine.h"

#include <stdlib.h>

#define SAMPLES_MAX 20000

void samples_take(struct vm *vm)
{
    struct sample_list *l = &vm->samples;
    if (l->count >= SAMPLES_MAX)
        return;
    if (l->count == l->space) {
        unsigned space = l->space ? 2 * l->space : 64;
        struct sample *more = reallocarray(l->sample, space, sizeof(*more));
        if (!more)
            return;
        l->sample = more;
        l->space = space;
    }
    struct sample *s = &l->sample[l->count++];
    memset(s, 0, sizeof(*s));
    s->host_ns = timebase_host_ns(&vm->time);
    for (unsigned i = 0; i < vm->machine.ncpus; i++)
        for (unsigned k = 0; k < STAT_COUNT; k++)
            s->stats.count[k] +=
                __atomic_load_n(&vm->machine.vcpu[i]->stats.count[k], __ATOMIC_RELAXED);
}

u64 samples_next(const struct vm *vm)
{
    double interval = vm->settings->stats_interval;
    if (interval <= 0 || vm->samples.count >= SAMPLES_MAX)
        return ~0ULL;
    return (u64)(interval * 1e9 * (vm->samples.count + 1));
}

json_t *samples_json(const struct vm *vm)
{
    const struct sample_list *l = &vm->samples;
    json_t *root = json_object(), *seconds = json_array();
    for (unsigned n = 0; n < l->count; n++)
        json_array_append_new(seconds, json_real((double)l->sample[n].host_ns / 1e9));
    json_object_set_new(root, "seconds", seconds);
    for (unsigned k = 0; k < STAT_COUNT && l->count; k++) {
        if (!l->sample[l->count - 1].stats.count[k])
            continue;
        json_t *values = json_array();
        for (unsigned n = 0; n < l->count; n++)
            json_array_append_new(values, json_integer((json_int_t)l->sample[n].stats.count[k]));
        json_object_set_new(root, stat_info[k].name, values);
    }
    return root;
}
