/*
 * Finds out what kind of image the kernel file is and hands it to its loader. A file that no loader
 * takes is named for what it is, where its first bytes tell.
 */
#include "boot/boot.h"

#include <errno.h>

#include "boot/image.h"
#include "cpu/model.h"

struct magic {
    const char *bytes;
    unsigned len;
    const char *what;
};

/* Files that people give by mistake. */
static const struct magic magics[] = {
    {"\x7f"
     "ELF",
     4,
     "is an ELF file without a Multiboot header; give a Linux bzImage "
     "(arch/x86/boot/bzImage, /boot/vmlinuz-*) or a Multiboot kernel"},
    {"\x1f\x8b", 2, "is compressed with gzip; unpack it first"},
    {"BZh", 3, "is compressed with bzip2; unpack it first"},
    {"\xfd"
     "7zXZ",
     5, "is compressed with xz; unpack it first"},
    {"\x28\xb5\x2f\xfd", 4, "is compressed with zstd; unpack it first"},
    {"\x27\x05\x19\x56", 4, "is a U-Boot image; give a Linux bzImage"},
    {"070701", 6, "is a cpio archive; give it as the initrd, and a Linux bzImage as the kernel"},
    {"!<arch>", 7, "is an archive, not a kernel"},
    {"MZ", 2, "is a PE executable without a Linux setup header; give a Linux bzImage"},
};

static int refuse(const struct loader *ld)
{
    const char *path = ld->kernel.path;
    for (unsigned i = 0; i < ARRAY_SIZE(magics); i++)
        if (ld->head_len >= magics[i].len && memcmp(ld->head, magics[i].bytes, magics[i].len) == 0)
            return error_set(ld->err, ENOEXEC, "kernel '%s' %s", path, magics[i].what);
    return error_set(ld->err, ENOEXEC,
                     "kernel '%s' is neither a Linux bzImage nor a Multiboot image", path);
}

static int dispatch(struct loader *ld)
{
    if (ld->opt->raw)
        return raw_load(ld);
    if (linux_probe(ld))
        return linux_load(ld);
    if (multiboot_probe(ld))
        return multiboot_load(ld);
    return refuse(ld);
}

int boot_load(struct guest_mem *gm, struct vcpu *v, const struct boot_options *opt,
              struct error *err)
{
    struct loader ld = {.gm = gm, .v = v, .opt = opt, .err = err};
    int r = image_open(&ld.kernel, "kernel", opt->kernel, err);
    if (r < 0)
        return r;
    ld.head_len = MIN(ld.kernel.size, IMAGE_HEAD);
    r = image_read(&ld.kernel, 0, ld.head, ld.head_len, err);
    guestmem_set_a20(gm, true);
    if (r == 0)
        r = dispatch(&ld);
    image_close(&ld.kernel);
    return r;
}

#define MTRR_WB       0x0606060606060606ULL
#define MTRR_WP       0x0505050505050505ULL
#define MTRR_DEF_TYPE (BIT(11) | BIT(10) | 6) /* enabled, fixed ranges too, default write-back */
#define MTRR_VALID    BIT(11)

void boot_memory_types(struct vcpu *v)
{
    struct msr_state *m = &v->msr;
    u64 address_bits = (1ULL << v->machine->model->phys_bits) - 1;
    m->mtrr_def_type = MTRR_DEF_TYPE;
    m->mtrr_fixed[0] = m->mtrr_fixed[1] = MTRR_WB; /* 0 to 0x9ffff */
    m->mtrr_fixed[2] = 0;                          /* 0xa0000 to 0xbffff */
    for (unsigned i = 3; i < ARRAY_SIZE(m->mtrr_fixed); i++)
        m->mtrr_fixed[i] = MTRR_WP;
    m->mtrr_base[0] = RAM_LOW_MAX;
    m->mtrr_mask[0] = (address_bits & ~(4 * GIB - RAM_LOW_MAX - 1)) | MTRR_VALID;
}
