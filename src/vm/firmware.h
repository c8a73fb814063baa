/*
 * What firmware is told of the machine: the files and numbers of the firmware configuration device,
 * by the names that QEMU gives them (docs/specs/fw_cfg) and SeaBIOS knows.
 */
#ifndef RINGER_VM_FIRMWARE_H
#define RINGER_VM_FIRMWARE_H

#include "dev/fw_cfg.h"

/* Where Debian's package seabios puts its images. */
#define FIRMWARE_DEFAULT "/usr/share/seabios/bios-256k.bin"
#define FIRMWARE_VGA     "/usr/share/seabios/vgabios-stdvga.bin"

/* Memory map, ACPI and SMBIOS tables, the VGA BIOS if it is installed. */
int firmware_add_files(struct fw_cfg *f, u64 ram_size, unsigned ncpus, struct error *err);

#endif
