/*
 * What a device may ask of the whole machine. vm/ implements it.
 */
#ifndef RINGER_DEV_POWER_H
#define RINGER_DEV_POWER_H

#include "base/types.h"

struct power_ops {
    void (*power_off)(void *ctx);
    void (*reset)(void *ctx);
    void (*debug_exit)(void *ctx, u32 value); /* write to the debug-exit port */
    void (*set_a20)(void *ctx, bool open);
    bool (*get_a20)(void *ctx);
};

struct power {
    const struct power_ops *ops;
    void *ctx;
};

#endif
