/*
 * Which disks there are. A disk's size tells its format.
 */
#include "dev/fdc_internal.h"

#define RATE_500K 0x01
#define RATE_300K 0x02
#define RATE_250K 0x04
#define RATE_1M   0x08
/* A 5.25" disk of 40 tracks turns faster in a drive for 1.2M; nobody says which drive it is. */
#define RATE_40_TRACKS (RATE_300K | RATE_250K)

enum { DRIVE_360K = 1, DRIVE_1200K, DRIVE_720K, DRIVE_1440K, DRIVE_2880K };

/* Of two of one size the first one counts. */
static const struct floppy_format formats[] = {
    /* clang-format off */
    {DRIVE_1440K, 18, 80, 2, RATE_500K},
    {DRIVE_1440K, 20, 80, 2, RATE_500K},
    {DRIVE_1440K, 21, 80, 2, RATE_500K},
    {DRIVE_1440K, 21, 82, 2, RATE_500K},
    {DRIVE_1440K, 21, 83, 2, RATE_500K},
    {DRIVE_1440K, 22, 80, 2, RATE_500K},
    {DRIVE_1440K, 23, 80, 2, RATE_500K},
    {DRIVE_1440K, 24, 80, 2, RATE_500K},
    {DRIVE_2880K, 36, 80, 2, RATE_1M},
    {DRIVE_2880K, 39, 80, 2, RATE_1M},
    {DRIVE_2880K, 40, 80, 2, RATE_1M},
    {DRIVE_2880K, 44, 80, 2, RATE_1M},
    {DRIVE_2880K, 48, 80, 2, RATE_1M},
    {DRIVE_720K,   9, 80, 2, RATE_250K},
    {DRIVE_720K,  10, 80, 2, RATE_250K},
    {DRIVE_720K,  10, 82, 2, RATE_250K},
    {DRIVE_720K,  10, 83, 2, RATE_250K},
    {DRIVE_720K,  13, 80, 2, RATE_250K},
    {DRIVE_720K,  14, 80, 2, RATE_250K},
    {DRIVE_1200K, 15, 80, 2, RATE_500K},
    {DRIVE_1200K, 18, 82, 2, RATE_500K},
    {DRIVE_1200K, 18, 83, 2, RATE_500K},
    {DRIVE_1200K, 11, 80, 2, RATE_250K},
    {DRIVE_360K,   9, 40, 2, RATE_40_TRACKS},
    {DRIVE_360K,   9, 40, 1, RATE_40_TRACKS},
    {DRIVE_360K,  10, 41, 2, RATE_40_TRACKS},
    {DRIVE_360K,  10, 42, 2, RATE_40_TRACKS},
    {DRIVE_360K,   8, 40, 2, RATE_40_TRACKS},
    {DRIVE_360K,   8, 40, 1, RATE_40_TRACKS},
    /* clang-format on */
};

static u64 format_size(const struct floppy_format *m)
{
    return (u64)m->sectors * m->tracks * m->heads * SECTOR_SIZE;
}

const struct floppy_format *floppy_format_of(u64 size)
{
    const struct floppy_format *larger = NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
        const struct floppy_format *m = &formats[i];
        if (format_size(m) == size)
            return m;
        bool common = (m->drive_type == DRIVE_1440K && m->sectors == 18) ||
                      (m->drive_type == DRIVE_2880K && m->sectors == 36);
        if (common && !larger && size < format_size(m))
            larger = m;
    }
    return larger;
}

unsigned fdc_drive_type(u64 size)
{
    const struct floppy_format *m = floppy_format_of(size);
    return m ? m->drive_type : 0;
}
