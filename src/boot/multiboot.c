/*
 * Multiboot 1 (specification 0.6.96): finds the header, loads the image by the addresses in the
 * header or as ELF, then the modules behind it, and builds what the kernel is told (memory,
 * modules, command line) in one block that ends up in low memory, or behind the modules if the
 * kernel is there.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "boot/entry.h"
#include "boot/image.h"

#define HEADER_MAGIC 0x1badb002u
#define LOADER_MAGIC 0x2badb002u

/* Header flags; bits 0 to 15 are requirements (3.1.2). */
#define HEADER_ALIGN     BIT(0)
#define HEADER_MEMORY    BIT(1)
#define HEADER_VIDEO     BIT(2)
#define HEADER_ADDRESSES BIT(16)
#define HEADER_REQUIRED  0xffffu

/* Information flags (3.3). */
#define INFO_MEMORY  BIT(0)
#define INFO_CMDLINE BIT(2)
#define INFO_MODULES BIT(3)
#define INFO_MMAP    BIT(6)
#define INFO_LOADER  BIT(9)

#define INFO_ADDR   0x10000 /* where the block goes if the kernel leaves room */
#define LOADER_NAME "ringer"
#define MAX_MODULES 64
#define STRING_MAX  4096

struct multiboot_header {
    u32 magic, flags, checksum;
    u32 header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr; /* HEADER_ADDRESSES */
    u32 mode_type, width, height, depth;                                 /* HEADER_VIDEO */
} __attribute__((packed));

struct multiboot_info {
    u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
    u32 syms[4];
    u32 mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name;
    u32 apm_table, vbe[4];
} __attribute__((packed));

struct multiboot_module {
    u32 start, end, string, reserved;
} __attribute__((packed));

struct multiboot_mmap {
    u32 size; /* of the rest */
    u64 addr, len;
    u32 type;
} __attribute__((packed));

/* Everything that the kernel is told, in the order in which it lies in memory. Strings, the last
 * part, have no fixed size. */
struct multiboot_block {
    struct multiboot_info info;
    struct multiboot_mmap mmap[E820_MAX];
    struct multiboot_module module[MAX_MODULES];
    u64 gdt[BOOT_GDT_ENTRIES];
    char strings[(MAX_MODULES + 2) * STRING_MAX];
    u32 strings_len;
} __attribute__((packed));

struct multiboot {
    struct multiboot_header h;
    u64 offset; /* of the header in the file */
    u64 low, high, entry;
    u64 next; /* first free address behind the kernel and its modules */
    unsigned nmodules;
    u32 string[MAX_MODULES]; /* of each module: offset in block->strings */
    struct multiboot_block *block;
};

static bool find_header(const struct loader *ld, struct multiboot *mb)
{
    for (u64 off = 0; off + 12 <= ld->head_len; off += 4) {
        u32 w[3];
        memcpy(w, ld->head + off, sizeof(w));
        if (w[0] != HEADER_MAGIC || w[0] + w[1] + w[2] != 0)
            continue;
        mb->offset = off;
        memset(&mb->h, 0, sizeof(mb->h));
        memcpy(&mb->h, ld->head + off, MIN(sizeof(mb->h), ld->head_len - off));
        return true;
    }
    return false;
}

bool multiboot_probe(const struct loader *ld)
{
    struct multiboot mb;
    return find_header(ld, &mb);
}

static int bad(struct loader *ld, const char *what)
{
    return error_set(ld->err, ENOEXEC, "kernel '%s': its Multiboot header %s", ld->kernel.path,
                     what);
}

static int check_flags(struct loader *ld, const struct multiboot *mb)
{
    u32 unknown = mb->h.flags & HEADER_REQUIRED & ~(HEADER_ALIGN | HEADER_MEMORY | HEADER_VIDEO);
    if (unknown)
        return error_set(ld->err, ENOEXEC,
                         "kernel '%s': its Multiboot header requires unknown features (flags 0x%x)",
                         ld->kernel.path, unknown);
    if ((mb->h.flags & HEADER_VIDEO) && mb->h.mode_type == 0)
        return bad(ld, "requires a graphics mode, and the machine has no display");
    return 0;
}

/* The image is loaded as the header says (3.1.3): a.out kludge. */
static int load_by_addresses(struct loader *ld, struct multiboot *mb)
{
    const struct multiboot_header *h = &mb->h;
    if (ld->head_len - mb->offset < offsetof(struct multiboot_header, mode_type))
        return bad(ld, "is truncated");
    u64 skip = (u64)h->header_addr - h->load_addr;
    if (h->header_addr < h->load_addr || skip > mb->offset)
        return bad(ld, "has a load address that does not match its place in the file");
    u64 off = mb->offset - skip;
    u64 len = h->load_end_addr ? (u64)h->load_end_addr - h->load_addr : ld->kernel.size - off;
    if (h->load_end_addr && h->load_end_addr <= h->load_addr)
        return bad(ld, "ends its data before they begin");
    u64 end = h->load_addr + len;
    u64 bss_end = MAX(end, (u64)h->bss_end_addr);
    if (!e820_is_ram(ld->opt->e820, h->load_addr, bss_end - h->load_addr))
        return error_set(ld->err, ENOMEM,
                         "kernel '%s' does not fit in RAM: it wants 0x%x to 0x%" PRIx64
                         " (use --mem for more)",
                         ld->kernel.path, h->load_addr, bss_end);
    if (h->entry_addr < h->load_addr || h->entry_addr >= end)
        return bad(ld, "has an entry address outside the image");
    int r = image_load(&ld->kernel, off, len, ld->gm, h->load_addr, ld->err);
    if (r < 0)
        return r;
    mb->low = h->load_addr;
    mb->high = bss_end;
    mb->entry = h->entry_addr;
    return loader_zero(ld, end, bss_end - end);
}

static int load_kernel(struct loader *ld, struct multiboot *mb)
{
    int r = check_flags(ld, mb);
    if (r < 0)
        return r;
    if (mb->h.flags & HEADER_ADDRESSES)
        r = load_by_addresses(ld, mb);
    else
        r = elf_load(ld, &mb->entry, &mb->low, &mb->high);
    mb->next = MAX(mb->high, MIB);
    return r;
}

/* Adds "first rest" (rest may be NULL) to the strings; *offset is where it begins. */
static int add_string(struct loader *ld, struct multiboot *mb, const char *first, const char *rest,
                      u32 *offset)
{
    struct multiboot_block *b = mb->block;
    *offset = b->strings_len;
    int n = snprintf(b->strings + b->strings_len, STRING_MAX, "%s%s%s", first, rest ? " " : "",
                     rest ? rest : "");
    if (n < 0 || n >= STRING_MAX)
        return error_set(ld->err, E2BIG,
                         "kernel '%s': a Multiboot command line may have at most %u bytes",
                         ld->kernel.path, STRING_MAX - 1);
    b->strings_len += (u32)n + 1;
    return 0;
}

/* One module, from "path arguments", page-aligned behind what is loaded. */
static int load_module(struct loader *ld, struct multiboot *mb, char *spec)
{
    if (mb->nmodules == MAX_MODULES)
        return error_set(ld->err, E2BIG, "at most %u Multiboot modules can be loaded", MAX_MODULES);
    int r = add_string(ld, mb, spec, NULL, &mb->string[mb->nmodules]);
    if (r < 0)
        return r;
    spec[strcspn(spec, " ")] = '\0';
    struct image file;
    r = image_open(&file, "module", spec, ld->err);
    if (r < 0)
        return r;
    u64 at = align_up(mb->next, PAGE_SIZE);
    if (e820_is_ram(ld->opt->e820, at, file.size) && at + file.size <= UINT32_MAX)
        r = image_load(&file, 0, file.size, ld->gm, at, ld->err);
    else
        r = error_set(ld->err, ENOMEM,
                      "module '%s' (%" PRIu64 " bytes) does not fit in RAM behind the kernel: use "
                      "--mem",
                      spec, file.size);
    mb->block->module[mb->nmodules] =
        (struct multiboot_module){.start = (u32)at, .end = (u32)(at + file.size)};
    mb->next = at + file.size;
    mb->nmodules++;
    image_close(&file);
    return r;
}

static int load_modules(struct loader *ld, struct multiboot *mb)
{
    if (!ld->opt->initrd)
        return 0;
    char *list = strdup(ld->opt->initrd), *save = NULL;
    int r = list ? 0 : error_errno(ld->err, ENOMEM, "modules");
    for (char *s = list ? strtok_r(list, ",", &save) : NULL; s && r == 0;
         s = strtok_r(NULL, ",", &save))
        r = load_module(ld, mb, s);
    free(list);
    return r;
}

static u32 block_size(const struct multiboot *mb)
{
    return (u32)offsetof(struct multiboot_block, strings) + mb->block->strings_len;
}

/* Low memory if the kernel is not there, else behind all that is loaded. */
static int place_block(struct loader *ld, const struct multiboot *mb, u64 *addr)
{
    u64 size = block_size(mb);
    *addr = INFO_ADDR;
    if (mb->low < INFO_ADDR + size && mb->high > INFO_ADDR)
        *addr = align_up(mb->next, PAGE_SIZE);
    if (e820_is_ram(ld->opt->e820, *addr, size) && *addr + size <= UINT32_MAX)
        return 0;
    return error_set(ld->err, ENOMEM,
                     "kernel '%s': no RAM is left for the Multiboot information: use --mem",
                     ld->kernel.path);
}

static void fill_mmap(struct multiboot_block *b, const struct e820_map *map)
{
    for (unsigned i = 0; i < map->count; i++)
        b->mmap[i] = (struct multiboot_mmap){sizeof(b->mmap[0]) - 4, map->entry[i].addr,
                                             map->entry[i].size, map->entry[i].type};
}

static void fill_info(struct loader *ld, struct multiboot *mb, u32 base, u32 cmdline, u32 name)
{
    struct multiboot_block *b = mb->block;
    const struct e820_map *map = ld->opt->e820;
    u64 gdt[BOOT_GDT_ENTRIES];
    u32 strings = base + (u32)offsetof(struct multiboot_block, strings);
    fill_mmap(b, map);
    for (unsigned i = 0; i < mb->nmodules; i++)
        b->module[i].string = strings + mb->string[i];
    entry_gdt(gdt, false);
    memcpy(b->gdt, gdt, sizeof(gdt));
    b->info = (struct multiboot_info){
        .flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MMAP | INFO_LOADER,
        .mem_lower = 639,
        .mem_upper = (u32)((e820_extended_end(map) - MIB) / KIB),
        .cmdline = strings + cmdline,
        .mods_count = mb->nmodules,
        .mods_addr = base + (u32)offsetof(struct multiboot_block, module),
        .mmap_length = map->count * (u32)sizeof(b->mmap[0]),
        .mmap_addr = base + (u32)offsetof(struct multiboot_block, mmap),
        .boot_loader_name = strings + name,
    };
}

static int start(struct loader *ld, struct multiboot *mb)
{
    u32 cmdline = 0, name = 0;
    u64 base = 0;
    int r = add_string(ld, mb, ld->kernel.path, ld->opt->append, &cmdline);
    if (r == 0)
        r = add_string(ld, mb, LOADER_NAME, NULL, &name);
    if (r == 0)
        r = place_block(ld, mb, &base);
    if (r < 0)
        return r;
    fill_info(ld, mb, (u32)base, cmdline, name);
    r = loader_write(ld, base, mb->block, block_size(mb));
    if (r < 0)
        return r;
    entry_flat32(ld->v, base + offsetof(struct multiboot_block, gdt), (u32)mb->entry);
    ld->v->gpr[RAX] = LOADER_MAGIC;
    ld->v->gpr[RBX] = base;
    return 0;
}

int multiboot_load(struct loader *ld)
{
    struct multiboot mb = {0};
    if (!find_header(ld, &mb))
        return bad(ld, "is missing");
    mb.block = calloc(1, sizeof(*mb.block));
    if (!mb.block)
        return error_errno(ld->err, ENOMEM, "Multiboot information");
    int r = load_kernel(ld, &mb);
    if (r == 0)
        r = load_modules(ld, &mb);
    if (r == 0)
        r = start(ld, &mb);
    free(mb.block);
    return r;
}
