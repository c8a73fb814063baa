/*
 * Reads code files. ELF structures come in two widths; they are brought to the 64-bit one as they
 * are read. Of an executable or a shared object the loadable segments are taken, of an object file
 * the function's section, without relocating it.
 */
#include "cli/codefile.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX  (256 * MIB)
#define BASE_16   0x7c00
#define BASE_FLAT 0x400000

struct elf {
    const char *path;
    const u8 *bytes;
    size_t size;
    bool wide;
    Elf64_Ehdr head;
};

/* --- the file --- */

static int read_all(const char *path, u8 **bytes, size_t *size, struct error *err)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return error_errno(err, errno, "%s", path);
    long end = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    int rc = 0;
    if (end <= 0 || (u64)end > FILE_MAX) {
        rc = error_set(err, EINVAL, "%s: is no file of 1 byte to 256 MiB", path);
    } else {
        *size = (size_t)end;
        *bytes = malloc(*size);
        rewind(f);
        if (!*bytes || fread(*bytes, 1, *size, f) != *size)
            rc = error_set(err, EIO, "%s: cannot be read", path);
    }
    fclose(f);
    return rc;
}

static bool at(const struct elf *e, u64 off, u64 size)
{
    return off <= e->size && size <= e->size - off;
}

/* --- ELF structures, 64 bit wide --- */

static bool read_head(struct elf *e)
{
    Elf32_Ehdr h;
    if (e->size < EI_NIDENT || memcmp(e->bytes, ELFMAG, SELFMAG) != 0 ||
        e->bytes[EI_DATA] != ELFDATA2LSB)
        return false;
    e->wide = e->bytes[EI_CLASS] == ELFCLASS64;
    if (e->size < (e->wide ? sizeof(e->head) : sizeof(h)))
        return false;
    if (e->wide) {
        memcpy(&e->head, e->bytes, sizeof(e->head));
        return true;
    }
    memcpy(&h, e->bytes, sizeof(h));
    e->head = (Elf64_Ehdr){.e_type = h.e_type,
                           .e_machine = h.e_machine,
                           .e_phoff = h.e_phoff,
                           .e_shoff = h.e_shoff,
                           .e_phnum = h.e_phnum,
                           .e_shnum = h.e_shnum};
    return true;
}

static bool read_section(const struct elf *e, unsigned n, Elf64_Shdr *s)
{
    Elf32_Shdr h;
    u64 size = e->wide ? sizeof(*s) : sizeof(h), off = e->head.e_shoff + n * size;
    if (n >= e->head.e_shnum || !at(e, off, size))
        return false;
    if (e->wide) {
        memcpy(s, e->bytes + off, sizeof(*s));
        return true;
    }
    memcpy(&h, e->bytes + off, sizeof(h));
    *s = (Elf64_Shdr){.sh_type = h.sh_type,
                      .sh_addr = h.sh_addr,
                      .sh_offset = h.sh_offset,
                      .sh_size = h.sh_size,
                      .sh_link = h.sh_link};
    return true;
}

static bool read_segment(const struct elf *e, unsigned n, Elf64_Phdr *p)
{
    Elf32_Phdr h;
    u64 size = e->wide ? sizeof(*p) : sizeof(h), off = e->head.e_phoff + n * size;
    if (n >= e->head.e_phnum || !at(e, off, size))
        return false;
    if (e->wide) {
        memcpy(p, e->bytes + off, sizeof(*p));
        return true;
    }
    memcpy(&h, e->bytes + off, sizeof(h));
    *p = (Elf64_Phdr){
        .p_type = h.p_type, .p_offset = h.p_offset, .p_vaddr = h.p_vaddr, .p_filesz = h.p_filesz};
    return true;
}

static bool read_symbol(const struct elf *e, const Elf64_Shdr *table, u64 n, Elf64_Sym *s)
{
    Elf32_Sym h;
    u64 size = e->wide ? sizeof(*s) : sizeof(h);
    if (n >= table->sh_size / size || !at(e, table->sh_offset, table->sh_size))
        return false;
    const u8 *from = e->bytes + table->sh_offset + n * size;
    if (e->wide) {
        memcpy(s, from, sizeof(*s));
        return true;
    }
    memcpy(&h, from, sizeof(h));
    *s = (Elf64_Sym){.st_name = h.st_name,
                     .st_info = h.st_info,
                     .st_shndx = h.st_shndx,
                     .st_value = h.st_value,
                     .st_size = h.st_size};
    return true;
}

/* --- the function --- */

static bool has_name(const struct elf *e, const Elf64_Shdr *names, u32 off, const char *name)
{
    size_t len = strlen(name) + 1;
    return off <= names->sh_size && len <= names->sh_size - off &&
           at(e, names->sh_offset, names->sh_size) &&
           memcmp(e->bytes + names->sh_offset + off, name, len) == 0;
}

static bool find_in(const struct elf *e, const Elf64_Shdr *table, const char *name, Elf64_Sym *sym)
{
    Elf64_Shdr names, section;
    if (!read_section(e, table->sh_link, &names))
        return false;
    for (u64 n = 0; read_symbol(e, table, n, sym); n++)
        if (has_name(e, &names, sym->st_name, name) && read_section(e, sym->st_shndx, &section) &&
            sym->st_shndx != SHN_UNDEF)
            return true;
    return false;
}

static int find_function(const struct elf *e, const char *name, Elf64_Sym *sym, struct error *err)
{
    Elf64_Shdr table;
    bool tables = false;
    for (unsigned n = 0; read_section(e, n, &table); n++) {
        if (table.sh_type != SHT_SYMTAB && table.sh_type != SHT_DYNSYM)
            continue;
        tables = true;
        if (find_in(e, &table, name, sym))
            return 0;
    }
    return error_set(err, ENOENT, "%s: has no %s", e->path,
                     tables ? "function of that name (--function)" : "symbol table");
}

static int add_piece(struct function *fn, const struct elf *e, u64 addr, u64 off, u64 size,
                     struct error *err)
{
    if (!at(e, off, size) || fn->pieces == FUNCTION_PIECES)
        return error_set(err, EINVAL, "%s: is a broken ELF file", e->path);
    fn->piece[fn->pieces++] = (struct code_piece){addr, e->bytes + off, size};
    return 0;
}

static int add_segments(struct function *fn, const struct elf *e, u64 bias, struct error *err)
{
    Elf64_Phdr p;
    int rc = 0;
    for (unsigned n = 0; rc == 0 && read_segment(e, n, &p); n++)
        if (p.p_type == PT_LOAD && p.p_filesz)
            rc = add_piece(fn, e, p.p_vaddr + bias, p.p_offset, p.p_filesz, err);
    return rc;
}

static int load_elf(const struct code_options *opt, const struct elf *e, struct function *fn,
                    struct error *err)
{
    Elf64_Sym sym;
    Elf64_Shdr section;
    u64 bias = opt->has_base ? opt->base : BASE_FLAT;
    int rc = find_function(e, opt->function, &sym, err);
    if (rc < 0)
        return rc;
    read_section(e, sym.st_shndx, &section);
    if (e->head.e_type == ET_EXEC && opt->has_base)
        return error_set(err, EINVAL, "%s: says itself where it is loaded; leave --base out",
                         e->path);
    if (e->head.e_type == ET_EXEC)
        bias = 0;
    if (e->head.e_type == ET_REL)
        rc = add_piece(fn, e, bias, section.sh_offset, section.sh_size, err);
    else
        rc = add_segments(fn, e, bias, err);
    u64 section_at = e->head.e_type == ET_REL ? 0 : section.sh_addr;
    fn->entry = bias + sym.st_value;
    fn->end = sym.st_size ? fn->entry + sym.st_size : bias + section_at + section.sh_size;
    return rc;
}

static int mode_of(const struct code_options *opt, const struct elf *e, unsigned *mode,
                   struct error *err)
{
    if (e->head.e_machine != EM_X86_64 && e->head.e_machine != EM_386)
        return error_set(err, EINVAL, "%s: is not for x86", e->path);
    *mode = opt->mode ? opt->mode : e->head.e_machine == EM_X86_64 ? 64 : 32;
    return 0;
}

static void load_raw(const struct code_options *opt, const struct elf *e, struct function *fn)
{
    fn->mode = opt->mode ? opt->mode : 64;
    fn->entry = opt->has_base ? opt->base : fn->mode == 16 ? BASE_16 : BASE_FLAT;
    fn->end = fn->entry + e->size;
    fn->piece[fn->pieces++] = (struct code_piece){fn->entry, e->bytes, e->size};
}

int codefile_load(const struct code_options *opt, struct function *fn, u8 **bytes,
                  struct error *err)
{
    struct elf e = {.path = opt->path};
    *fn = (struct function){0};
    int rc = read_all(opt->path, bytes, &e.size, err);
    if (rc < 0)
        return rc;
    e.bytes = *bytes;
    bool elf = read_head(&e);
    if (elf && !opt->function)
        return error_set(err, EINVAL, "%s: is an ELF file; name a function with --function NAME",
                         opt->path);
    if (!elf && opt->function)
        return error_set(err, EINVAL, "%s: is not an ELF file, so it has no function %s", opt->path,
                         opt->function);
    if (!elf) {
        load_raw(opt, &e, fn);
        return 0;
    }
    rc = mode_of(opt, &e, &fn->mode, err);
    return rc == 0 ? load_elf(opt, &e, fn, err) : rc;
}
