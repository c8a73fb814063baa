/*
 * QEMU's firmware configuration device (QEMU, docs/specs/fw_cfg): named blobs and integers that
 * firmware reads through a selector and a data port, or by DMA. Items are read-only for the guest.
 */
#ifndef RINGER_DEV_FW_CFG_H
#define RINGER_DEV_FW_CFG_H

#include "base/error.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"

#define FW_CFG_SIGNATURE 0x00
#define FW_CFG_ID        0x01
#define FW_CFG_RAM_SIZE  0x03 /* 8 bytes */
#define FW_CFG_NB_CPUS   0x05 /* 2 bytes */
#define FW_CFG_BOOT_MENU 0x0e /* 2 bytes */
#define FW_CFG_MAX_CPUS  0x0f /* 2 bytes */
#define FW_CFG_FILE_DIR  0x19
#define FW_CFG_FILE_0    0x20
#define FW_CFG_FILES_MAX 64

struct fw_cfg;

int fw_cfg_create(struct guest_mem *gm, struct fw_cfg **out, struct error *err);
void fw_cfg_destroy(struct fw_cfg *f);

/* Ports [PC_FW_CFG, + 12). */
int fw_cfg_attach(struct fw_cfg *f, struct port_bus *bus, struct error *err);

void fw_cfg_reset(struct fw_cfg *f);

/* Items; data is copied. Before the guest runs. -EEXIST for a key or name that is there. */
int fw_cfg_add_bytes(struct fw_cfg *f, u16 key, const void *data, size_t len, struct error *err);
int fw_cfg_add_int(struct fw_cfg *f, u16 key, u64 value, unsigned size, struct error *err);
/* A file: name of at most 55 characters, e.g. "etc/e820". */
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t len,
                    struct error *err);

#endif
