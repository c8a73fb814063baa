/*
 * The PC around the processors: which chips there are and how they are wired. The only place that
 * creates devices.
 */
#ifndef RINGER_VM_PC_H
#define RINGER_VM_PC_H

#include "base/error.h"
#include "cpu/state.h"
#include "dev/power.h"
#include "host/block.h"
#include "host/clock.h"
#include "host/display.h"
#include "vm/disks.h"

struct pc;

struct pc_options {
    struct machine *machine; /* mem, ports, time and the vCPUs are there */
    struct clock *clock;
    struct power power;
    const char *serial;      /* "stdio", "none" or "file:PATH" */
    bool firmware;           /* the guest starts by firmware: chips are as after power-on */
    const char *debugcon;    /* file for what firmware writes to its debug port, or NULL */
    const char *const *keys; /* scripts of --keys; needed by pc_create() only */
    unsigned nkeys;
    const struct disks *disks; /* outlive the board */
    const char *boot_order;    /* for CMOS (dev/mc146818.h); NULL: firmware's own */
    bool debug_exit;
    struct display_settings display;
    void (*quit)(void *ctx); /* the console's or the display's Ctrl-A X */
    void *quit_ctx;
};

int pc_create(const struct pc_options *opt, struct pc **out, struct error *err);
void pc_destroy(struct pc *pc);

/* All chips to their state after power-on. vCPUs are parked. */
void pc_reset(struct pc *pc);

/* What is on the screen. */
struct display_source pc_display(struct pc *pc);

/* Console input begins to flow. */
int pc_start(struct pc *pc, struct error *err);

/* Guest output no longer waits for a slow reader: the run is being given up. From any thread. */
void pc_stop_console(struct pc *pc);

/* Writes out what the guest printed, ends the display and gives the terminal back. No vCPU runs any
 * more. */
void pc_close_console(struct pc *pc);

#endif
