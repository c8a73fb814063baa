/*
 * SMBIOS structures: what a machine says about itself to dmidecode and its kind. One after the
 * other: a formatted part, then its strings, each ended by a zero, and one more zero.
 */
#include "boot/boot.h"

#include <stdio.h>

#include "base/types.h"

#define PACKED __attribute__((packed))

struct header {
    u8 type, length;
    u16 handle;
} PACKED;

struct entry_point { /* DSP0134 5.2.1 */
    char anchor[4];
    u8 checksum, length, major, minor;
    u16 max_structure;
    u8 revision, formatted[5];
    char middle[5];
    u8 middle_checksum;
    u16 table_length;
    u32 table_address;
    u16 structures;
    u8 bcd_revision;
} PACKED;

_Static_assert(sizeof(struct entry_point) == 31, "DSP0134 5.2.1");

struct writer {
    struct smbios_files *f;
    unsigned structures, longest;
};

/* Strings in their order, up to a NULL. */
static void add(struct writer *w, const void *formatted, const char *const *strings)
{
    const struct header *h = formatted;
    struct smbios_files *f = w->f;
    size_t start = f->tables_size;
    memcpy(f->tables + start, formatted, h->length);
    f->tables_size += h->length;
    for (unsigned i = 0; strings && strings[i]; i++) {
        size_t n = strlen(strings[i]) + 1;
        assert(f->tables_size + n + 2 <= sizeof(f->tables));
        memcpy(f->tables + f->tables_size, strings[i], n);
        f->tables_size += n;
    }
    f->tables_size += strings && strings[0] ? 1 : 2;
    w->structures++;
    w->longest = (unsigned)MAX(w->longest, f->tables_size - start);
}

static void add_bios(struct writer *w, const char *version)
{
    struct {
        struct header h;
        u8 vendor, version;
        u16 segment;
        u8 date, rom_size;
        u64 characteristics;
        u8 extension[2], release_major, release_minor, ec_major, ec_minor;
    } PACKED s = {{0, sizeof(s), 0}, 1, 2, 0xe800, 3, 0, BIT(3), {0, 4}, 0, 0, 0xff, 0xff};
    add(w, &s, (const char *[]){"SeaBIOS", version, "04/01/2014", NULL});
}

static void add_system(struct writer *w, const char *version)
{
    struct {
        struct header h;
        u8 manufacturer, product, version, serial, uuid[16], wake_up, sku, family;
    } PACKED s = {{1, sizeof(s), 0x100}, 1, 2, 3, 0, {0}, 6, 0, 0};
    add(w, &s, (const char *[]){"ringer", "PC (i440FX + PIIX)", version, NULL});
}

static void add_chassis(struct writer *w, const char *version)
{
    struct {
        struct header h;
        u8 manufacturer, type, version, serial, asset, boot_up, power, thermal, security;
        u32 oem;
        u8 height, cords, elements, record;
    } PACKED s = {{3, sizeof(s), 0x300}, 1, 1, 2, 0, 0, 3, 3, 3, 2, 0, 0, 0, 0, 0};
    add(w, &s, (const char *[]){"ringer", version, NULL});
}

static void add_processor(struct writer *w, unsigned n)
{
    struct {
        struct header h;
        u8 socket, type, family, manufacturer;
        u64 id;
        u8 version, voltage;
        u16 external_clock, max_speed, speed;
        u8 status, upgrade;
        u16 l1, l2, l3;
        u8 serial, asset, part, cores, enabled, threads;
        u16 characteristics, family2;
    } PACKED s = {.h = {4, sizeof(s), (u16)(0x400 + n)},
                  .socket = 1,
                  .type = 3,
                  .family = 1,
                  .manufacturer = 2,
                  .max_speed = 2000,
                  .speed = 2000,
                  .status = 0x41,
                  .upgrade = 1,
                  .l1 = 0xffff,
                  .l2 = 0xffff,
                  .l3 = 0xffff,
                  .cores = 1,
                  .enabled = 1,
                  .threads = 1,
                  .characteristics = 2,
                  .family2 = 1};
    char socket[16];
    snprintf(socket, sizeof(socket), "CPU %u", n);
    add(w, &s, (const char *[]){socket, "ringer", NULL});
}

static void add_memory(struct writer *w, u64 ram_size)
{
    u64 kib = ram_size / KIB, mib = ram_size / MIB;
    struct {
        struct header h;
        u8 location, use, correction;
        u32 capacity;
        u16 error_handle, devices;
        u64 extended;
    } PACKED array = {{16, sizeof(array), 0x1000}, 1,      3, 6,
                      (u32)MIN(kib, 0x80000000),   0xfffe, 1, 0};
    if (kib >= 0x80000000)
        array.extended = ram_size;
    struct {
        struct header h;
        u16 array, error, total_width, data_width, size;
        u8 form, set, locator, bank, type;
        u16 detail;
    } PACKED device = {{17, sizeof(device), 0x1100},
                       0x1000,
                       0xfffe,
                       64,
                       64,
                       (u16)MIN(mib, 0x7fff),
                       9,
                       0,
                       1,
                       0,
                       7,
                       2};
    struct {
        struct header h;
        u32 start, end;
        u16 array;
        u8 width;
    } PACKED map = {{19, sizeof(map), 0x1300}, 0, (u32)(kib - 1), 0x1000, 1};
    add(w, &array, NULL);
    add(w, &device, (const char *[]){"DIMM 0", NULL});
    add(w, &map, NULL);
}

void smbios_build(struct smbios_files *f, u64 ram_size, unsigned ncpus, const char *version)
{
    struct writer w = {.f = f};
    struct {
        struct header h;
        u8 status[16];
    } PACKED boot = {{32, 20, 0x2000}, {0}};
    struct header end = {127, sizeof(end), 0x7f00};
    memset(f, 0, sizeof(*f));
    add_bios(&w, version);
    add_system(&w, version);
    add_chassis(&w, version);
    for (unsigned n = 0; n < ncpus; n++)
        add_processor(&w, n);
    add_memory(&w, ram_size);
    add(&w, &boot, NULL);
    add(&w, &end, NULL);
    struct entry_point e = {.anchor = "_SM_",
                            .length = sizeof(e),
                            .major = 2,
                            .minor = 8,
                            .max_structure = (u16)w.longest,
                            .middle = "_DMI_",
                            .table_length = (u16)f->tables_size,
                            .structures = (u16)w.structures,
                            .bcd_revision = 0x28};
    memcpy(f->anchor, &e, sizeof(e));
}
