/*
 * Raw images, for tests: the file as it is, at a given address, entered at a given address. Below
 * 1 MiB the entry is in real mode, above it in flat 32-bit protected mode.
 */
#include "boot/image.h"

#include <errno.h>
#include <inttypes.h>

#include "boot/entry.h"

/* CS:IP for a linear address below 1 MiB: segments are multiples of 64 KiB, so that IP is the
 * offset in an image that is loaded at such a multiple. */
static void enter_real(struct vcpu *v, u64 entry)
{
    entry_real(v, (u16)((entry >> 4) & 0xf000), (u16)entry, 0, 0);
}

int raw_load(struct loader *ld)
{
    const struct boot_options *opt = ld->opt;
    int r = image_load(&ld->kernel, 0, ld->kernel.size, ld->gm, opt->raw_addr, ld->err);
    if (r < 0)
        return r;
    if (opt->raw_entry > UINT32_MAX || !guestmem_hva(ld->gm, opt->raw_entry, 1, false))
        return error_set(ld->err, EINVAL,
                         "'%s' cannot be entered at 0x%" PRIx64 ": there is no RAM there",
                         ld->kernel.path, opt->raw_entry);
    if (opt->raw_entry < MIB)
        enter_real(ld->v, opt->raw_entry);
    else
        entry_flat32(ld->v, 0, (u32)opt->raw_entry);
    return 0;
}
