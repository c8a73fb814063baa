/*
 * Boot loaders. Each puts an image into guest memory and sets the boot processor's initial state;
 * nothing else. An image is hostile input: every size and offset in it is checked before use, and
 * what is wrong ends in one sentence in err that names the file.
 */
#ifndef RINGER_BOOT_BOOT_H
#define RINGER_BOOT_BOOT_H

#include "base/error.h"
#include "cpu/state.h"
#include "mem/guestmem.h"

#define E820_RAM      1
#define E820_RESERVED 2
#define E820_ACPI     3

struct e820_entry {
    u64 addr, size;
    u32 type;
};

#define E820_MAX 16

struct e820_map {
    struct e820_entry entry[E820_MAX];
    unsigned count;
};

enum linux_protocol {
    LINUX_BOOT_AUTO, /* 64-bit entry if the kernel has one, else 32-bit */
    LINUX_BOOT_16,   /* the real-mode setup code */
    LINUX_BOOT_32,
    LINUX_BOOT_64,
};

struct boot_options {
    const char *firmware; /* path: boots by it, and `kernel` is NULL */
    const char *kernel;   /* path */
    const char *initrd;   /* path or NULL; for Multiboot: modules, separated by commas */
    const char *append;   /* command line or NULL */
    enum linux_protocol linux_protocol;
    bool raw; /* the kernel file is a raw image: loaded at raw_addr, entered at raw_entry */
    u64 raw_addr;
    /* Linear address. Below 1 MiB: real mode, CS = entry >> 4 & 0xf000, IP = entry & 0xffff, the
     * other segments and SP 0. Above: flat 32-bit protected mode, without a GDT. */
    u64 raw_entry;
    const struct e820_map *e820; /* what e820_build() made for this guest */
    u64 rsdp;                    /* guest-physical address of the ACPI RSDP, 0 = none */
};

/* What kind of image the file is decides the loader: bzImage, Multiboot 1 or raw. Opens the A20
 * gate and sets *v (cpu_reset must have been called) to start it. Returns 0 or a negative errno
 * with err, and then RAM may have been written. Order: acpi_build, e820_build, boot_load; the three
 * may be called again to start the guest anew. */
int boot_load(struct guest_mem *gm, struct vcpu *v, const struct boot_options *opt,
              struct error *err);

/* Sets the MTRRs as firmware leaves them (SDM vol. 3, 11.11): RAM write-back, the legacy video
 * range and the hole below 4 GiB uncached, the BIOS area write-protected. For every vCPU, after
 * cpu_reset. Without it kernels take the MTRRs for disabled and leave the PAT alone. */
void boot_memory_types(struct vcpu *v);

/* The memory map for this much RAM: low memory, the EBDA and ROM hole, RAM up to the hole below 4
 * GiB and above, minus reserved bytes at the top of low RAM for ACPI tables. */
void e820_build(struct e820_map *map, u64 ram_size, u64 acpi_addr, u64 acpi_size);

struct acpi_options {
    unsigned ncpus; /* 1 to MAX_CPUS; APIC IDs and processor UIDs are 0 to ncpus - 1 */
};

/* ACPI tables for this machine. Writes them into guest RAM (below the end of low RAM, in the region
 * that addr and size report, for e820) and the RSDP into the BIOS area; returns the RSDP's address
 * in *rsdp. The IOAPIC's ID is 0. */
int acpi_build(struct guest_mem *gm, const struct acpi_options *opt, u64 *addr, u64 *size,
               u64 *rsdp, struct error *err);

/* The same as files for firmware, which reads them by these names from the firmware configuration
 * device and places them by the commands of the third. */
#define ACPI_FILE_TABLES "etc/acpi/tables"
#define ACPI_FILE_RSDP   "etc/acpi/rsdp"
#define ACPI_FILE_LOADER "etc/table-loader"

struct acpi_files {
    u8 tables[16 * KIB];
    size_t tables_size;
    u8 rsdp[36];
    u8 loader[4 * KIB];
    size_t loader_size;
};

void acpi_files_build(struct acpi_files *f, const struct acpi_options *opt);

/* SMBIOS tables (DMTF DSP0134, 2.8) as SeaBIOS takes them: the structures, and the entry point
 * without its address and checksums. */
#define SMBIOS_FILE_TABLES "etc/smbios/smbios-tables"
#define SMBIOS_FILE_ANCHOR "etc/smbios/smbios-anchor"

struct smbios_files {
    u8 tables[4 * KIB];
    size_t tables_size;
    u8 anchor[31];
};

void smbios_build(struct smbios_files *f, u64 ram_size, unsigned ncpus, const char *version);

/* Firmware: a ROM image that ends at 4 GiB, where the processor starts after a reset; its last 128
 * KiB (or all of it) are also below 1 MiB. To be called once. Errors name the file. */
int firmware_load(struct guest_mem *gm, const char *path, struct error *err);

#endif
