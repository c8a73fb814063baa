/*
 * The images of the guest's disks, CDs and floppies: opened before the guest starts, written out
 * and closed when it has ended.
 */
#ifndef RINGER_VM_DISKS_H
#define RINGER_VM_DISKS_H

#include "host/block.h"
#include "vm/settings.h"

/* Entry i is that of the settings' entry i; NULL behind the last one. */
struct disks {
    struct block *disk[MAX_DISKS], *cdrom[MAX_CDROMS], *floppy[MAX_FLOPPIES];
    enum disk_interface interface[MAX_DISKS];
};

/* Opens all. stalled is called as block_options says. 0 or a negative errno; disks_close() is
 * needed after an error, too. */
int disks_open(struct disks *d, const struct settings *s,
               void (*stalled)(void *ctx, bool stalled, const char *path), void *ctx,
               struct error *err);

/* The run is given up: no write waits any more for space on the host. From any thread. */
void disks_stop(struct disks *d);

/* No vCPU runs any more: waits until all requests have ended, and brings what the guest wrote to
 * stable storage. */
int disks_finish(struct disks *d, const struct settings *s, struct error *err);

/* After the devices are gone. */
void disks_close(struct disks *d);

#endif
