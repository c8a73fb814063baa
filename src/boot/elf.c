/*
 * ELF executables for the Multiboot loader: 32-bit ones, and 64-bit ones that have a 32-bit entry.
 * Program headers of both are brought to one form; segments go to their physical addresses. Only
 * free RAM is written, and all segments together may not be larger than RAM.
 */
#include <errno.h>
#include <inttypes.h>

#include "boot/image.h"

#define MAX_PROGRAM_HEADERS 128
#define PROGRAM_HEADER_MAX  56

/* Positions in e_ident, and values (System V ABI, chapter 4). */
#define EI_CLASS    4
#define EI_DATA     5
#define ELFCLASS32  1
#define ELFCLASS64  2
#define ELFDATA2LSB 1
#define ET_EXEC     2
#define ET_DYN      3
#define EM_386      3
#define EM_X86_64   62
#define PT_LOAD     1

/* Where fields are in the two classes; `word` is the size of an address or offset. */
struct elf_layout {
    unsigned word, ehdr_size, machine;
    unsigned e_entry, e_phoff, e_phentsize, e_phnum;
    unsigned phdr_size, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz;
};

static const struct elf_layout layout32 = {4, 52, EM_386, 24, 28, 42, 44, 32, 4, 8, 12, 16, 20};
static const struct elf_layout layout64 = {8, 64, EM_X86_64, 24, 32, 54, 56, 56, 8, 16, 24, 32, 40};

struct elf_segment {
    u64 offset, vaddr, paddr, filesz, memsz;
};

struct elf_file {
    const struct elf_layout *layout;
    u64 entry, phoff, phentsize, phnum;
};

static int bad(struct loader *ld, const char *what)
{
    return error_set(ld->err, ENOEXEC, "kernel '%s': its ELF header %s", ld->kernel.path, what);
}

static int choose_layout(struct loader *ld, struct elf_file *elf)
{
    const u8 *id = ld->head;
    if (ld->head_len < layout64.ehdr_size || memcmp(id,
                                                    "\x7f"
                                                    "ELF",
                                                    4) != 0)
        return bad(ld, "is missing, and the Multiboot header gives no load address");
    if (id[EI_DATA] != ELFDATA2LSB)
        return bad(ld, "is not little-endian");
    if (id[EI_CLASS] != ELFCLASS32 && id[EI_CLASS] != ELFCLASS64)
        return bad(ld, "has no known class");
    elf->layout = id[EI_CLASS] == ELFCLASS64 ? &layout64 : &layout32;
    return 0;
}

static int read_header(struct loader *ld, struct elf_file *elf)
{
    const u8 *h = ld->head;
    int r = choose_layout(ld, elf);
    if (r < 0)
        return r;
    const struct elf_layout *l = elf->layout;
    u64 type = load_le(h + 16, 2);
    elf->entry = load_le(h + l->e_entry, l->word);
    elf->phoff = load_le(h + l->e_phoff, l->word);
    elf->phentsize = load_le(h + l->e_phentsize, 2);
    elf->phnum = load_le(h + l->e_phnum, 2);
    if (type != ET_EXEC && type != ET_DYN)
        return bad(ld, "is not that of an executable");
    if (load_le(h + 18, 2) != l->machine)
        return bad(ld, "is for another machine than x86");
    if (elf->phnum == 0 || elf->phnum > MAX_PROGRAM_HEADERS)
        return bad(ld, "has no program headers, or more than 128");
    if (elf->phentsize < l->phdr_size)
        return bad(ld, "has program headers of a wrong size");
    return 0;
}

/* The i-th program header. Returns 1 if it is to be loaded, 0 if not, or a negative errno. */
static int read_segment(struct loader *ld, const struct elf_file *elf, u64 i, struct elf_segment *s)
{
    const struct elf_layout *l = elf->layout;
    u8 p[PROGRAM_HEADER_MAX];
    u64 step = i * elf->phentsize; /* at most 128 times 65535 */
    if (elf->phoff > UINT64_MAX - step)
        return bad(ld, "points outside the file");
    int r = image_read(&ld->kernel, elf->phoff + step, p, l->phdr_size, ld->err);
    if (r < 0)
        return r;
    s->offset = load_le(p + l->p_offset, l->word);
    s->vaddr = load_le(p + l->p_vaddr, l->word);
    s->paddr = load_le(p + l->p_paddr, l->word);
    s->filesz = load_le(p + l->p_filesz, l->word);
    s->memsz = load_le(p + l->p_memsz, l->word);
    return load_le(p, 4) == PT_LOAD && s->memsz > 0;
}

static int load_segment(struct loader *ld, const struct elf_segment *s)
{
    if (s->filesz > s->memsz)
        return error_set(ld->err, ENOEXEC,
                         "kernel '%s': an ELF segment has more bytes in the file than in memory",
                         ld->kernel.path);
    if (!e820_is_ram(ld->opt->e820, s->paddr, s->memsz))
        return error_set(ld->err, ENOMEM,
                         "kernel '%s': an ELF segment of %" PRIu64 " bytes at 0x%" PRIx64
                         " does not fit in RAM (use --mem for more)",
                         ld->kernel.path, s->memsz, s->paddr);
    int r = image_load(&ld->kernel, s->offset, s->filesz, ld->gm, s->paddr, ld->err);
    if (r < 0)
        return r;
    return loader_zero(ld, s->paddr + s->filesz, s->memsz - s->filesz);
}

/* Loads every segment; *entry becomes physical by the segment that holds it, as GRUB does it. */
static int load_segments(struct loader *ld, const struct elf_file *elf, u64 *entry, u64 *low,
                         u64 *high)
{
    u64 total = 0;
    bool found = false;
    *low = UINT64_MAX;
    *high = 0;
    for (u64 i = 0; i < elf->phnum; i++) {
        struct elf_segment s = {0};
        int r = read_segment(ld, elf, i, &s);
        if (r == 0)
            continue;
        if (r > 0)
            r = load_segment(ld, &s);
        if (r < 0)
            return r;
        *low = MIN(*low, s.paddr);
        *high = MAX(*high, s.paddr + s.memsz);
        total += s.memsz;
        if (total > guestmem_ram_size(ld->gm))
            return bad(ld, "has segments that are together larger than RAM");
        if (elf->entry >= s.vaddr && elf->entry - s.vaddr < s.memsz) {
            *entry = s.paddr + (elf->entry - s.vaddr);
            found = true;
        }
    }
    return found ? 0 : bad(ld, "has an entry address that is in no segment");
}

int elf_load(struct loader *ld, u64 *entry, u64 *low, u64 *high)
{
    struct elf_file elf = {0};
    int r = read_header(ld, &elf);
    if (r == 0)
        r = load_segments(ld, &elf, entry, low, high);
    if (r == 0 && *entry > UINT32_MAX)
        return bad(ld, "has an entry address above 4 GiB; a Multiboot entry is 32-bit");
    return r;
}
