/*
 * ACPI tables for firmware that places them itself: the image, the RSDP, and a script of commands
 * (QEMU, hw/acpi/bios-linker-loader.c; SeaBIOS, src/fw/romfile_loader.c) by which it allocates
 * memory for both files, adds their addresses to the pointers in them, and makes checksums.
 */
#include "boot/acpi_tables.h"
#include "boot/boot.h"

#define NAME_SIZE 56

enum { COMMAND_ALLOCATE = 1, COMMAND_ADD_POINTER = 2, COMMAND_ADD_CHECKSUM = 3 };
enum { ZONE_HIGH = 1, ZONE_FSEG = 2 };

struct command {
    u32 command;
    union {
        struct {
            char file[NAME_SIZE];
            u32 align;
            u8 zone;
        } ACPI_PACKED allocate;
        struct {
            char to_file[NAME_SIZE]; /* which holds the pointer */
            char of_file[NAME_SIZE]; /* to which it points */
            u32 offset;
            u8 size;
        } ACPI_PACKED pointer;
        struct {
            char file[NAME_SIZE];
            u32 offset, start, length;
        } ACPI_PACKED checksum;
        u8 pad[124];
    };
} ACPI_PACKED;

_Static_assert(sizeof(struct command) == 128, "as SeaBIOS reads it");

static struct command *next(struct acpi_files *f, u32 command)
{
    struct command *c = (struct command *)(f->loader + f->loader_size);
    f->loader_size += sizeof(*c);
    assert(f->loader_size <= sizeof(f->loader));
    c->command = command;
    return c;
}

static void allocate(struct acpi_files *f, const char *file, u32 align, u8 zone)
{
    struct command *c = next(f, COMMAND_ALLOCATE);
    strcpy(c->allocate.file, file);
    c->allocate.align = align;
    c->allocate.zone = zone;
}

static void add_pointer(struct acpi_files *f, const char *file, size_t offset, size_t size)
{
    struct command *c = next(f, COMMAND_ADD_POINTER);
    strcpy(c->pointer.to_file, file);
    strcpy(c->pointer.of_file, ACPI_FILE_TABLES);
    c->pointer.offset = (u32)offset;
    c->pointer.size = (u8)size;
}

static void add_checksum(struct acpi_files *f, const char *file, size_t at, size_t start,
                         size_t len)
{
    struct command *c = next(f, COMMAND_ADD_CHECKSUM);
    strcpy(c->checksum.file, file);
    c->checksum.offset = (u32)at;
    c->checksum.start = (u32)start;
    c->checksum.length = (u32)len;
}

void acpi_files_build(struct acpi_files *f, const struct acpi_options *opt)
{
    struct acpi_image image;
    struct acpi_rsdp rsdp;
    memset(f, 0, sizeof(*f));
    acpi_image_build(&image, opt);
    acpi_make_rsdp(&rsdp, image.rsdt, image.xsdt);
    _Static_assert(sizeof(f->tables) == sizeof(image.buf) && sizeof(f->rsdp) == sizeof(rsdp), "");
    memcpy(f->tables, image.buf, image.len);
    memcpy(f->rsdp, &rsdp, sizeof(rsdp));
    f->tables_size = image.len;
    allocate(f, ACPI_FILE_RSDP, 16, ZONE_FSEG);
    allocate(f, ACPI_FILE_TABLES, 64, ZONE_HIGH);
    for (unsigned i = 0; i < image.npointers; i++)
        add_pointer(f, ACPI_FILE_TABLES, image.pointer[i].at, image.pointer[i].size);
    for (unsigned i = 0; i < image.ntables; i++) {
        u32 start = image.table[i];
        const struct acpi_header *h = (const struct acpi_header *)(image.buf + start);
        add_checksum(f, ACPI_FILE_TABLES, start + offsetof(struct acpi_header, checksum), start,
                     h->length);
    }
    add_pointer(f, ACPI_FILE_RSDP, offsetof(struct acpi_rsdp, rsdt), 4);
    add_pointer(f, ACPI_FILE_RSDP, offsetof(struct acpi_rsdp, xsdt), 8);
    add_checksum(f, ACPI_FILE_RSDP, offsetof(struct acpi_rsdp, checksum), 0, ACPI_RSDP_SUMMED);
    add_checksum(f, ACPI_FILE_RSDP, offsetof(struct acpi_rsdp, extended_checksum), 0, sizeof(rsdp));
}
