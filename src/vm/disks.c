/*
 * Opens, writes out and closes the images of all disks, CDs and floppies.
 */
#include "vm/disks.h"

/* One kind of them. */
struct kind {
    struct block **block;
    const struct disk_settings *settings;
    unsigned count;
};

enum { KINDS = 3 };

static void list_kinds(struct disks *d, const struct settings *s, struct kind out[KINDS])
{
    out[0] = (struct kind){d->disk, s->disks, s->ndisks};
    out[1] = (struct kind){d->cdrom, s->cdroms, s->ncdroms};
    out[2] = (struct kind){d->floppy, s->floppies, s->nfloppies};
}

int disks_open(struct disks *d, const struct settings *s,
               void (*stalled)(void *ctx, bool stalled, const char *path), void *ctx,
               struct error *err)
{
    struct kind kinds[KINDS];
    list_kinds(d, s, kinds);
    for (unsigned i = 0; i < s->ndisks; i++)
        d->interface[i] = s->disks[i].interface;
    for (struct kind *k = kinds; k < kinds + KINDS; k++)
        for (unsigned i = 0; i < k->count; i++) {
            const struct block_options opt = {.path = k->settings[i].path,
                                              .read_only = k->settings[i].read_only,
                                              .snapshot = k->settings[i].snapshot,
                                              .stalled = stalled,
                                              .stalled_ctx = ctx};
            int rc = block_open(&opt, &k->block[i], err);
            if (rc < 0)
                return rc;
        }
    return 0;
}

static void each(struct disks *d, void (*f)(struct block *b))
{
    for (unsigned i = 0; i < MAX_DISKS; i++)
        if (d->disk[i])
            f(d->disk[i]);
    for (unsigned i = 0; i < MAX_CDROMS; i++)
        if (d->cdrom[i])
            f(d->cdrom[i]);
    for (unsigned i = 0; i < MAX_FLOPPIES; i++)
        if (d->floppy[i])
            f(d->floppy[i]);
}

void disks_stop(struct disks *d)
{
    each(d, block_stop);
}

int disks_finish(struct disks *d, const struct settings *s, struct error *err)
{
    struct kind kinds[KINDS];
    int rc = 0;
    disks_stop(d);
    each(d, block_drain);
    list_kinds(d, s, kinds);
    for (struct kind *k = kinds; k < kinds + KINDS; k++)
        for (unsigned i = 0; i < k->count; i++) {
            int flushed = k->block[i] ? block_flush(k->block[i]) : 0;
            if (flushed < 0)
                rc = error_errno(err, -flushed,
                                 "%s: not all that the guest wrote could be brought to the disk",
                                 k->settings[i].path);
        }
    return rc;
}

void disks_close(struct disks *d)
{
    each(d, block_destroy);
    *d = (struct disks){0};
}
