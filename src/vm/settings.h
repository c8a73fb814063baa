/*
 * What the user asked for: the machine's settings, as cli/ parses them and vm/ obeys them.
 */
#ifndef RINGER_VM_SETTINGS_H
#define RINGER_VM_SETTINGS_H

#include "base/types.h"
#include "boot/boot.h"

#define MAX_SWITCHES 8

enum stats_format { STATS_NONE, STATS_TEXT, STATS_JSON };

struct engine_switch {
    double after_seconds; /* since the guest started */
    const char *engine;
};

struct settings {
    const char *engine; /* a name from engines[], or "auto" */
    struct boot_options boot;
    u64 mem_size; /* bytes */
    unsigned cpus;
    const char *serial; /* "stdio", "none" or "file:PATH" */
    bool debug_exit;    /* the debug-exit port 0xf4 is there */
    bool no_reboot;
    bool kvmclock;
    double timeout; /* seconds, 0 = none */
    enum stats_format stats;
    const char *stats_path; /* STATS_JSON */
    struct engine_switch switches[MAX_SWITCHES];
    unsigned nswitches;
};

#endif
