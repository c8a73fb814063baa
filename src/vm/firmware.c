/*
 * Files for firmware. SeaBIOS makes the guest's tables of them: its memory map of etc/e820, ACPI by
 * the loader script, SMBIOS, and it runs the option ROMs among them.
 */
#include "vm/firmware.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/version.h"
#include "boot/boot.h"

#define FW_CFG_IRQ0_OVERRIDE 0x8002
#define VGA_BIOS_MAX         (256 * KIB)

/* As e820_build() has it, but only what is RAM: firmware takes off what it needs itself. */
static int add_memory_map(struct fw_cfg *f, u64 ram_size, struct error *err)
{
    struct {
        u64 addr, size;
        u32 type;
    } __attribute__((packed)) entry[2] = {{0, MIN(ram_size, RAM_LOW_MAX), E820_RAM}};
    unsigned n = 1;
    if (ram_size > RAM_LOW_MAX) {
        entry[n].addr = RAM_HIGH_BASE;
        entry[n].size = ram_size - RAM_LOW_MAX;
        entry[n++].type = E820_RAM;
    }
    return fw_cfg_add_file(f, "etc/e820", entry, n * sizeof(entry[0]), err);
}

static int add_acpi(struct fw_cfg *f, unsigned ncpus, struct error *err)
{
    struct acpi_files *a = malloc(sizeof(*a));
    struct acpi_options opt = {.ncpus = ncpus};
    if (!a)
        return error_set(err, ENOMEM, "no memory for the ACPI tables");
    acpi_files_build(a, &opt);
    int rc = fw_cfg_add_file(f, ACPI_FILE_TABLES, a->tables, a->tables_size, err);
    if (rc == 0)
        rc = fw_cfg_add_file(f, ACPI_FILE_RSDP, a->rsdp, sizeof(a->rsdp), err);
    if (rc == 0)
        rc = fw_cfg_add_file(f, ACPI_FILE_LOADER, a->loader, a->loader_size, err);
    free(a);
    return rc;
}

static int add_smbios(struct fw_cfg *f, u64 ram_size, unsigned ncpus, struct error *err)
{
    struct smbios_files s;
    smbios_build(&s, ram_size, ncpus, RINGER_VERSION);
    int rc = fw_cfg_add_file(f, SMBIOS_FILE_TABLES, s.tables, s.tables_size, err);
    if (rc == 0)
        rc = fw_cfg_add_file(f, SMBIOS_FILE_ANCHOR, s.anchor, sizeof(s.anchor), err);
    return rc;
}

/* By the name that SeaBIOS looks for when it finds the VGA's PCI function: so the VGA BIOS is told
 * the function, and asks it where the frame buffer is. Not an error if it is not there: then the
 * guest has no text on the screen until a driver puts it there. */
static int add_vga_bios(struct fw_cfg *f, struct error *err)
{
    FILE *file = fopen(FIRMWARE_VGA, "rb");
    u8 *rom = malloc(VGA_BIOS_MAX);
    size_t n = file && rom ? fread(rom, 1, VGA_BIOS_MAX, file) : 0;
    int rc = n ? fw_cfg_add_file(f, "pci1234,1111.rom", rom, n, err) : 0;
    free(rom);
    if (file)
        fclose(file);
    return rc;
}

int firmware_add_files(struct fw_cfg *f, u64 ram_size, unsigned ncpus, struct error *err)
{
    int rc;
    if ((rc = fw_cfg_add_int(f, FW_CFG_MAX_CPUS, ncpus, 2, err)) < 0 ||
        (rc = fw_cfg_add_int(f, FW_CFG_IRQ0_OVERRIDE, 1, 1, err)) < 0 ||
        (rc = fw_cfg_add_int(f, FW_CFG_BOOT_MENU, 0, 2, err)) < 0 ||
        (rc = add_memory_map(f, ram_size, err)) < 0 || (rc = add_acpi(f, ncpus, err)) < 0 ||
        (rc = add_smbios(f, ram_size, ncpus, err)) < 0)
        return rc;
    return add_vga_bios(f, err);
}
