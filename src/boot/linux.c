/*
 * Linux: reads the setup header, decides where the kernel, the initrd and the command line go, and
 * enters the kernel by the 64-bit or the 32-bit protocol (boot.rst), for which the loader fills the
 * zero page that the real-mode code would fill; the 16-bit protocol, which runs that code, is in
 * linux16.c. Header fields are hostile: each is checked before it is used, and sums are 64 bit.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/random.h>

#include "boot/entry.h"
#include "boot/linux_params.h"

/* What the loader keeps below 1 MiB; the kernel copies all of it before it uses that memory. */
#define GDT_ADDR        0x1000
#define PARAMS_ADDR     0x7000
#define SETUP_DATA_ADDR 0x8000
#define PAGES_ADDR      0x9000 /* PML4, PDPT, 4 page directories */
#define CMDLINE_ADDR    0x20000
#define CMDLINE_SPACE   0x10000

#define ZIMAGE_ADDR 0x10000
#define ZIMAGE_END  0x90000
#define HIGH_ADDR   0x100000

#define ENTRY64_OFFSET 0x200

#define TABLES_SPACE                                                                               \
    (64 * KIB) /* of RAM that the ACPI tables take at most, for advice on --mem                    \
                */

static const char *path_of(const struct loader *ld)
{
    return ld->kernel.path;
}

static u64 to_mib(u64 bytes)
{
    return (bytes + MIB - 1) / MIB;
}

bool linux_probe(const struct loader *ld)
{
    struct linux_setup_header h;
    if (ld->head_len < LINUX_HEADER_OFFSET + sizeof(h))
        return false;
    memcpy(&h, ld->head + LINUX_HEADER_OFFSET, sizeof(h));
    return h.boot_flag == LINUX_BOOT_FLAG && h.header == LINUX_HEADER_MAGIC;
}

/* Copies as much of the header as the kernel has; what its protocol lacks stays zero. */
static int read_header(struct loader *ld, struct linux_image *li)
{
    const u8 *raw = ld->head + LINUX_HEADER_OFFSET;
    u64 len = 0x202 + (u64)ld->head[0x201] - LINUX_HEADER_OFFSET;
    if (len < offsetof(struct linux_setup_header, heap_end_ptr))
        return error_set(ld->err, ENOEXEC, "kernel '%s': its setup header is too short",
                         path_of(ld));
    li->hdr_len = MIN(len, LINUX_HEADER_MAX);
    memcpy(&li->hdr, raw, MIN(li->hdr_len, sizeof(li->hdr)));
    li->version = li->hdr.version;
    if (li->version < 0x200 || li->version > 0x2ff)
        return error_set(ld->err, ENOEXEC,
                         "kernel '%s': boot protocol %u.%02u is not supported (2.00 to 2.15 are)",
                         path_of(ld), li->version >> 8, li->version & 0xff);
    return 0;
}

static int check_sizes(struct loader *ld, struct linux_image *li)
{
    const struct linux_setup_header *h = &li->hdr;
    u64 size = ld->kernel.size;
    li->setup_size = ((h->setup_sects ? h->setup_sects : 4) + 1) * 512ULL;
    if (li->setup_size >= size)
        return error_set(ld->err, ENOEXEC,
                         "kernel '%s' is truncated: it has %" PRIu64
                         " bytes, its setup code alone takes %" PRIu64,
                         path_of(ld), size, li->setup_size);
    li->payload_size = size - li->setup_size;
    u64 promised = li->version >= 0x204 ? h->syssize * 16ULL : 0;
    if (promised > align_up(li->payload_size, 16)) /* a last paragraph need not be whole */
        return error_set(ld->err, ENOEXEC,
                         "kernel '%s' is truncated: it has %" PRIu64 " bytes of %" PRIu64,
                         path_of(ld), size, li->setup_size + promised);
    return 0;
}

static void read_limits(struct linux_image *li)
{
    const struct linux_setup_header *h = &li->hdr;
    li->high = h->loadflags & LOADFLAG_HIGH;
    li->entry64 =
        li->version >= 0x20c && (h->xloadflags & XLOADFLAG_64) && li->payload_size > ENTRY64_OFFSET;
    li->cmdline_max = li->version >= 0x206 ? h->cmdline_size : 255;
    li->initrd_max = li->version >= 0x203 ? h->initrd_addr_max : 0x37ffffff;
}

/* An error that says how much RAM would do; `need` is the end of the memory needed. */
static int need_ram(struct loader *ld, u64 need)
{
    if (need > RAM_LOW_MAX - MIB)
        return error_set(ld->err, ENOEXEC,
                         "kernel '%s' asks for memory up to 0x%" PRIx64
                         ", where no machine of ours has RAM",
                         path_of(ld), need);
    return error_set(ld->err, ENOMEM, "kernel '%s' needs %" PRIu64 " MiB of RAM: use --mem",
                     path_of(ld), to_mib(need + TABLES_SPACE));
}

/* A bzImage goes to its preferred address if it may move, else where its header says. Wherever it
 * is loaded, it unpacks itself to pref_address or above and needs init_size bytes there. */
static int place_high(struct loader *ld, struct linux_image *li)
{
    struct linux_setup_header *h = &li->hdr;
    bool has_pref = li->version >= 0x20a;
    bool moves = has_pref && h->relocatable_kernel;
    u64 pref = has_pref ? h->pref_address : 0;
    li->load = moves && pref >= HIGH_ADDR ? pref : h->code32_start;
    if (li->load < HIGH_ADDR || li->load > UINT32_MAX || pref > UINT32_MAX)
        return error_set(ld->err, ENOEXEC,
                         "kernel '%s': its header asks for the load address 0x%" PRIx64,
                         path_of(ld), li->load < HIGH_ADDR ? li->load : MAX(li->load, pref));
    li->end = li->load + li->payload_size;
    if (has_pref)
        li->end = MAX(li->end, MAX(pref, li->load) + h->init_size);
    h->code32_start = (u32)li->load;
    if (li->end > e820_extended_end(ld->opt->e820))
        return need_ram(ld, li->end);
    return 0;
}

static int place(struct loader *ld, struct linux_image *li)
{
    li->cmdline = CMDLINE_ADDR;
    if (li->high)
        return place_high(ld, li);
    li->load = ZIMAGE_ADDR;
    li->end = HIGH_ADDR; /* for the initrd: a zImage unpacks itself below 1 MiB or just above */
    if (li->payload_size > ZIMAGE_END - ZIMAGE_ADDR)
        return error_set(ld->err, ENOEXEC,
                         "kernel '%s' says that it is a zImage, and has more than 512 KiB",
                         path_of(ld));
    return 0;
}

int linux_load_payload(struct loader *ld, const struct linux_image *li)
{
    return image_load(&ld->kernel, li->setup_size, li->payload_size, ld->gm, li->load, ld->err);
}

static int place_initrd(struct loader *ld, const struct linux_image *li, const struct image *file,
                        u64 *addr)
{
    u64 ram_end = e820_extended_end(ld->opt->e820);
    u64 top = align_down(MIN(ram_end, li->initrd_max + 1), PAGE_SIZE);
    u64 bottom = align_up(li->end, PAGE_SIZE);
    if (top > bottom && file->size <= top - bottom) {
        *addr = align_down(top - file->size, PAGE_SIZE);
        return 0;
    }
    u64 need = bottom + align_up(file->size, PAGE_SIZE);
    if (need > li->initrd_max || need > RAM_LOW_MAX - MIB)
        return error_set(ld->err, EFBIG,
                         "initrd '%s' (%" PRIu64 " MiB) is larger than the kernel can take",
                         file->path, to_mib(file->size));
    return error_set(ld->err, ENOMEM,
                     "initrd '%s' (%" PRIu64 " MiB) does not fit beside the kernel: the two need "
                     "%" PRIu64 " MiB of RAM, use --mem",
                     file->path, to_mib(file->size), to_mib(need) + 1);
}

int linux_load_initrd(struct loader *ld, struct linux_image *li)
{
    if (!ld->opt->initrd)
        return 0;
    struct image file;
    u64 addr = 0;
    int r = image_open(&file, "initrd", ld->opt->initrd, ld->err);
    if (r < 0)
        return r;
    r = place_initrd(ld, li, &file, &addr);
    if (r == 0)
        r = image_load(&file, 0, file.size, ld->gm, addr, ld->err);
    image_close(&file);
    li->hdr.ramdisk_image = (u32)addr;
    li->hdr.ramdisk_size = (u32)file.size;
    return r;
}

int linux_write_cmdline(struct loader *ld, struct linux_image *li)
{
    const char *text = ld->opt->append ? ld->opt->append : "";
    u64 len = strlen(text), max = MIN(li->cmdline_max, CMDLINE_SPACE - 1);
    if (len > max)
        return error_set(ld->err, E2BIG,
                         "the command line has %" PRIu64
                         " bytes; kernel '%s' takes at most %" PRIu64,
                         len, path_of(ld), max);
    if (li->version >= 0x202)
        li->hdr.cmd_line_ptr = (u32)li->cmdline;
    return loader_write(ld, li->cmdline, text, len + 1);
}

int linux_write_setup_data(struct loader *ld, struct linux_image *li)
{
    struct {
        struct linux_setup_data head;
        u8 seed[32];
    } __attribute__((packed)) node = {.head = {.type = SETUP_RNG_SEED, .len = sizeof(node.seed)}};
    if (li->version < 0x209)
        return 0;
    if (getrandom(node.seed, sizeof(node.seed), 0) != (ssize_t)sizeof(node.seed))
        return error_errno(ld->err, errno, "the host gives no random numbers");
    li->hdr.setup_data = SETUP_DATA_ADDR;
    return loader_write(ld, SETUP_DATA_ADDR, &node, sizeof(node));
}

static int write_params(struct loader *ld, const struct linux_image *li)
{
    const struct e820_map *map = ld->opt->e820;
    struct linux_boot_params bp = {0};
    memcpy(bp.hdr_bytes, ld->head + LINUX_HEADER_OFFSET, li->hdr_len);
    memcpy(bp.hdr_bytes, &li->hdr, MIN(li->hdr_len, sizeof(li->hdr)));
    bp.acpi_rsdp_addr = ld->opt->rsdp;
    bp.alt_mem_k = (u32)((e820_extended_end(map) - MIB) / KIB);
    bp.e820_entries = (u8)map->count;
    for (unsigned i = 0; i < map->count; i++)
        bp.e820_table[i] =
            (struct linux_e820_entry){map->entry[i].addr, map->entry[i].size, map->entry[i].type};
    return loader_write(ld, PARAMS_ADDR, &bp, sizeof(bp));
}

static int write_gdt(struct loader *ld, bool long_mode)
{
    u64 gdt[BOOT_GDT_ENTRIES];
    entry_gdt(gdt, long_mode);
    return loader_write(ld, GDT_ADDR, gdt, sizeof(gdt));
}

/* Identity page tables for the low 4 GiB, in 2 MiB pages. */
static int write_page_tables(struct loader *ld)
{
    const u64 table = 0x03, page = 0x83; /* present, writable; and page size */
    u64 entries[512] = {PAGES_ADDR + PAGE_SIZE + table};
    int r = loader_write(ld, PAGES_ADDR, entries, sizeof(entries));
    for (unsigned i = 0; i < 4; i++)
        entries[i] = PAGES_ADDR + (2 + i) * PAGE_SIZE + table;
    if (r == 0)
        r = loader_write(ld, PAGES_ADDR + PAGE_SIZE, entries, sizeof(entries));
    for (unsigned i = 0; r == 0 && i < 4; i++) {
        for (unsigned k = 0; k < 512; k++)
            entries[k] = ((i * 512ULL + k) << 21) | page;
        r = loader_write(ld, PAGES_ADDR + (2 + i) * PAGE_SIZE, entries, sizeof(entries));
    }
    return r;
}

static int start32(struct loader *ld, const struct linux_image *li)
{
    int r = write_gdt(ld, false);
    if (r < 0)
        return r;
    entry_flat32(ld->v, GDT_ADDR, li->hdr.code32_start);
    ld->v->gpr[RSI] = PARAMS_ADDR;
    return 0;
}

static int start64(struct loader *ld, const struct linux_image *li)
{
    int r = write_gdt(ld, true);
    if (r == 0)
        r = write_page_tables(ld);
    if (r < 0)
        return r;
    entry_long64(ld->v, GDT_ADDR, PAGES_ADDR, li->load + ENTRY64_OFFSET);
    ld->v->gpr[RSI] = PARAMS_ADDR;
    return 0;
}

static int choose_protocol(struct loader *ld, const struct linux_image *li,
                           enum linux_protocol *proto)
{
    *proto = ld->opt->linux_protocol;
    if (*proto == LINUX_BOOT_AUTO)
        *proto = !li->high ? LINUX_BOOT_16 : li->entry64 ? LINUX_BOOT_64 : LINUX_BOOT_32;
    if (*proto == LINUX_BOOT_64 && !li->entry64)
        return error_set(ld->err, ENOEXEC, "kernel '%s' has no 64-bit entry", path_of(ld));
    if (*proto != LINUX_BOOT_16 && !li->high)
        return error_set(ld->err, ENOEXEC,
                         "kernel '%s' is a zImage; only the 16-bit protocol boots it", path_of(ld));
    return 0;
}

static int read_image(struct loader *ld, struct linux_image *li)
{
    int r = read_header(ld, li);
    if (r == 0)
        r = check_sizes(ld, li);
    if (r < 0)
        return r;
    read_limits(li);
    return place(ld, li);
}

int linux_load(struct loader *ld)
{
    struct linux_image li = {0};
    enum linux_protocol proto = LINUX_BOOT_AUTO;
    int r = read_image(ld, &li);
    if (r == 0)
        r = choose_protocol(ld, &li, &proto);
    if (r < 0)
        return r;
    li.hdr.type_of_loader = LINUX_LOADER_OTHER;
    li.hdr.vid_mode = 0xffff; /* "normal" */
    if (proto == LINUX_BOOT_16)
        return linux_start16(ld, &li);

    r = linux_load_payload(ld, &li);
    if (r == 0)
        r = linux_load_initrd(ld, &li);
    if (r == 0)
        r = linux_write_cmdline(ld, &li);
    if (r == 0)
        r = linux_write_setup_data(ld, &li);
    if (r == 0)
        r = write_params(ld, &li);
    if (r < 0)
        return r;
    return proto == LINUX_BOOT_64 ? start64(ld, &li) : start32(ld, &li);
}
