/*
 * The list of engines, the one that should be best first.
 */
#include "engine/engine.h"

const struct engine_ops *const engines[] = {&engine_kvm, &engine_bt, &engine_interp, NULL};

const struct engine_ops *engine_find(const char *name)
{
    for (unsigned n = 0; engines[n]; n++) {
        if (strcmp(engines[n]->name, name) == 0)
            return engines[n];
    }
    return NULL;
}
