/*
 * What the user asked for: the machine's settings, as cli/ parses them and vm/ obeys them.
 */
#ifndef RINGER_VM_SETTINGS_H
#define RINGER_VM_SETTINGS_H

#include "base/types.h"
#include "boot/boot.h"
#include "cpu/state.h"

#define MAX_SWITCHES    8
#define MAX_DISKS       8
#define MAX_CDROMS      2
#define MAX_FLOPPIES    2
#define MAX_SCREENSHOTS 64
#define MAX_KEYS        64
#define TC_SIZE_MIN     (1 * MIB)
#define TC_SIZE_MAX     (1 * GIB)

enum display_kind { DISPLAY_NONE, DISPLAY_TEXT, DISPLAY_VNC };

struct display_settings {
    enum display_kind kind;
    char vnc[128];             /* [HOST]:N */
    const char *password_file; /* NULL: none */
};

enum stats_format { STATS_NONE, STATS_TEXT, STATS_JSON };

struct engine_switch {
    double after_seconds; /* since the guest started */
    const char *engine;
};

enum disk_interface { DISK_IDE, DISK_VIRTIO };

/* A disk, CD or floppy of the guest; interface and snapshot are of disks. */
struct disk_settings {
    const char *path; /* as block_open() takes it (host/block.h) */
    enum disk_interface interface;
    bool read_only;
    bool snapshot; /* what the guest writes is gone at the end */
};

struct screenshot {
    const char *path; /* not terminated: path_len bytes */
    size_t path_len;
    double at_seconds; /* since the guest started; 0: when the run ends */
};

struct settings {
    const char *engine;    /* a name from engines[], or "auto" */
    const char *lockstep;  /* the engine to be compared with the interpreter, or NULL */
    double lockstep_after; /* seconds before which nothing is compared */
    u64 lockstep_insns;    /* compared instructions after which it runs alone, 0 = never */
    struct boot_options boot;
    u64 mem_size; /* bytes */
    unsigned cpus;
    u64 tc_size; /* bytes of bt's translation cache; 0: the default */
    enum rdtsc_form rdtsc;
    bool perf_map;        /* bt writes /tmp/perf-PID.map */
    const char *serial;   /* "stdio", "none" or "file:PATH" */
    const char *debugcon; /* file, or NULL */
    struct disk_settings disks[MAX_DISKS], cdroms[MAX_CDROMS], floppies[MAX_FLOPPIES];
    unsigned ndisks, ncdroms, nfloppies;
    const char *boot_order;     /* letters, as struct mc146818_config has them, or NULL */
    const char *keys[MAX_KEYS]; /* scripts that keys_check() likes */
    unsigned nkeys;
    bool debug_exit; /* the debug-exit port 0xf4 is there */
    bool no_reboot;
    bool kvmclock;
    unsigned slow_time; /* how many times slower than the host's time the guest's runs */
    double timeout;     /* seconds, 0 = none */
    enum stats_format stats;
    const char *stats_path; /* STATS_JSON */
    double stats_interval;  /* seconds between samples of the counters, 0: none */
    struct engine_switch switches[MAX_SWITCHES];
    unsigned nswitches;
    struct display_settings display;
    struct screenshot screenshots[MAX_SCREENSHOTS]; /* by time, those of the end last */
    unsigned nscreenshots;
};

#endif
