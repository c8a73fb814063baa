/*
 * A firmware image as ROM: all of it below 4 GiB, and the end of it once more below 1 MiB, where
 * shadow RAM can be laid over it.
 */
#include "boot/image.h"

#include <errno.h>

#define FIRMWARE_MAX (16 * MIB)
#define LOW_PART     (128 * KIB)
#define LOW_END      (1 * MIB)

int firmware_load(struct guest_mem *gm, const char *path, struct error *err)
{
    struct image img;
    struct mem_region *rom, *low;
    u8 *hva;
    int rc = image_open(&img, "firmware", path, err);
    if (rc < 0)
        return rc;
    u64 size = img.size, part = MIN(size, LOW_PART);
    if (size % PAGE_SIZE || size > FIRMWARE_MAX)
        rc =
            error_set(err, EINVAL,
                      "firmware '%s': %llu bytes; a ROM image is a multiple of 4 KiB, up to 16 MiB",
                      path, (unsigned long long)size);
    if (rc == 0)
        rc = mem_region_memory(gm, LAYER_BOARD, size, true, &hva, &rom, err);
    if (rc == 0)
        rc = mem_region_window(gm, LAYER_BOARD, part, &low, err);
    if (rc == 0)
        rc = image_read(&img, 0, hva, size, err);
    image_close(&img);
    if (rc < 0)
        return rc;
    mem_region_show(low, rom, size - part, false);
    mem_region_place(rom, 4 * GIB - size);
    mem_region_place(low, LOW_END - part);
    return 0;
}
