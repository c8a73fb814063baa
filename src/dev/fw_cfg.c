/*
 * Firmware configuration: items by key, and a read position in the selected one. Reads past the end
 * give zeros. A DMA transfer costs at most the guest memory that it fills: skipping is arithmetic,
 * and filling stops at the first byte that is not RAM.
 */
#include "dev/fw_cfg.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/pcmap.h"

#define PORT_DATA     (PC_FW_CFG + 1)
#define PORT_DMA_HIGH (PC_FW_CFG + 4)
#define PORT_DMA_LOW  (PC_FW_CFG + 8)
#define PORT_COUNT    12

#define KEY_MASK 0xbfff /* bit 14 asks for write access, which no item gives */

#define ID_TRADITIONAL 0x01
#define ID_DMA         0x02

#define DMA_ERROR  0x01
#define DMA_READ   0x02
#define DMA_SKIP   0x04
#define DMA_SELECT 0x08
#define DMA_WRITE  0x10

#define CHUNK 4096

struct item {
    u16 key;
    size_t len;
    u8 *data;
};

/* An entry of the file directory, as the guest sees it: numbers are big-endian. */
struct file_entry {
    u32 size;
    u16 select;
    u16 reserved;
    char name[56];
};

struct file_directory {
    u32 count;
    struct file_entry entry[FW_CFG_FILES_MAX];
};

#define ITEMS_MAX (FW_CFG_FILE_0 + FW_CFG_FILES_MAX)

struct fw_cfg {
    struct guest_mem *gm;
    pthread_mutex_t lock;
    struct item item[ITEMS_MAX];
    unsigned items;
    unsigned files;
    struct file_directory directory; /* the data of item FW_CFG_FILE_DIR */
    u16 key;                         /* as selected */
    u64 offset;                      /* in the selected item */
    u32 dma_high;
};

static const char dma_signature[8] = {'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G'};

static const struct item *find_item(const struct fw_cfg *f, u16 key)
{
    for (unsigned i = 0; i < f->items; i++) {
        if (f->item[i].key == key)
            return &f->item[i];
    }
    return NULL;
}

static void select_item(struct fw_cfg *f, u16 key)
{
    f->key = key & KEY_MASK;
    f->offset = 0;
}

/* Copies the next len bytes to buf, with zeros behind the end of the item. */
static void read_item(struct fw_cfg *f, u8 *buf, size_t len)
{
    const struct item *item = find_item(f, f->key);
    size_t have = item && f->offset < item->len ? MIN(len, item->len - f->offset) : 0;
    if (have)
        memcpy(buf, item->data + f->offset, have);
    memset(buf + have, 0, len - have);
    f->offset += len;
}

/* --- DMA --- */

static bool dma_read(struct fw_cfg *f, u64 gpa, u32 len)
{
    u8 buf[CHUNK];
    if (gpa + len < gpa)
        return false;
    for (u32 done = 0; done < len;) {
        u32 n = MIN(len - done, CHUNK);
        read_item(f, buf, n);
        if (!guestmem_write(f->gm, gpa + done, buf, n))
            return false;
        done += n;
    }
    return true;
}

static void dma_transfer(struct fw_cfg *f, u64 gpa)
{
    struct {
        u32 control, length;
        u64 address;
    } desc;
    if (!guestmem_read(f->gm, gpa, &desc, sizeof(desc)))
        return; /* no place to report to */
    u32 control = be32toh(desc.control);
    u32 length = be32toh(desc.length);
    bool ok = true;
    if (control & DMA_SELECT)
        select_item(f, (u16)(control >> 16));
    if (control & DMA_READ)
        ok = dma_read(f, be64toh(desc.address), length);
    else if (control & DMA_WRITE)
        ok = false;
    else if (control & DMA_SKIP)
        f->offset += length;
    desc.control = ok ? 0 : htobe32(DMA_ERROR);
    guestmem_write(f->gm, gpa, &desc.control, sizeof(desc.control));
}

/* --- ports --- */

static u32 fw_cfg_in(void *ctx, u16 port, unsigned size)
{
    struct fw_cfg *f = ctx;
    u32 value = 0;
    unsigned off = port - PC_FW_CFG;
    if (port == PORT_DATA && size == 1) {
        u8 byte;
        pthread_mutex_lock(&f->lock);
        read_item(f, &byte, 1);
        pthread_mutex_unlock(&f->lock);
        return byte;
    }
    if (off >= 4 && off + size <= PORT_COUNT)
        memcpy(&value, &dma_signature[off - 4], size);
    return value;
}

static void fw_cfg_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct fw_cfg *f = ctx;
    pthread_mutex_lock(&f->lock);
    if (port == PC_FW_CFG && size == 2) {
        select_item(f, (u16)value);
    } else if (port == PORT_DMA_HIGH && size == 4) {
        f->dma_high = be32toh(value);
    } else if (port == PORT_DMA_LOW && size == 4) {
        u64 gpa = (u64)f->dma_high << 32 | be32toh(value);
        f->dma_high = 0;
        dma_transfer(f, gpa);
    }
    pthread_mutex_unlock(&f->lock);
}

static const struct port_ops fw_cfg_ops = {fw_cfg_in, fw_cfg_out};

/* --- items --- */

int fw_cfg_add_bytes(struct fw_cfg *f, u16 key, const void *data, size_t len, struct error *err)
{
    if (find_item(f, key & KEY_MASK))
        return error_set(err, EEXIST, "firmware configuration item 0x%x exists already", key);
    if (f->items == ITEMS_MAX || len > UINT32_MAX)
        return error_set(err, ENOSPC, "no room for firmware configuration item 0x%x", key);
    u8 *copy = malloc(len ? len : 1);
    if (!copy)
        return error_set(err, ENOMEM, "no memory for firmware configuration item 0x%x", key);
    if (len)
        memcpy(copy, data, len);
    f->item[f->items++] = (struct item){key & KEY_MASK, len, copy};
    return 0;
}

int fw_cfg_add_int(struct fw_cfg *f, u16 key, u64 value, unsigned size, struct error *err)
{
    u8 bytes[8];
    assert(size <= sizeof(bytes));
    store_le(bytes, value, size);
    return fw_cfg_add_bytes(f, key, bytes, size, err);
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t len,
                    struct error *err)
{
    struct file_entry *e = f->directory.entry;
    if (strlen(name) >= sizeof(e->name))
        return error_set(err, ENAMETOOLONG, "firmware file name too long: %s", name);
    for (unsigned i = 0; i < f->files; i++) {
        if (!strcmp(e[i].name, name))
            return error_set(err, EEXIST, "firmware file %s exists already", name);
    }
    if (f->files == FW_CFG_FILES_MAX)
        return error_set(err, ENOSPC, "more than %d firmware files", FW_CFG_FILES_MAX);
    u16 key = (u16)(FW_CFG_FILE_0 + f->files);
    int rc = fw_cfg_add_bytes(f, key, data, len, err);
    if (rc)
        return rc;
    e += f->files++;
    e->size = htobe32((u32)len);
    e->select = htobe16(key);
    strcpy(e->name, name);
    f->directory.count = htobe32(f->files);
    return 0;
}

/* --- life --- */

int fw_cfg_create(struct guest_mem *gm, struct fw_cfg **out, struct error *err)
{
    struct fw_cfg *f = calloc(1, sizeof(*f));
    if (!f)
        return error_set(err, ENOMEM, "no memory for the firmware configuration device");
    f->gm = gm;
    pthread_mutex_init(&f->lock, NULL);
    f->item[f->items++] = (struct item){FW_CFG_FILE_DIR, sizeof(f->directory), (u8 *)&f->directory};
    int rc = fw_cfg_add_bytes(f, FW_CFG_SIGNATURE, "QEMU", 4, err);
    if (!rc)
        rc = fw_cfg_add_int(f, FW_CFG_ID, ID_TRADITIONAL | ID_DMA, 4, err);
    if (rc) {
        fw_cfg_destroy(f);
        return rc;
    }
    *out = f;
    return 0;
}

void fw_cfg_destroy(struct fw_cfg *f)
{
    if (!f)
        return;
    for (unsigned i = 0; i < f->items; i++) {
        if (f->item[i].key != FW_CFG_FILE_DIR)
            free(f->item[i].data);
    }
    pthread_mutex_destroy(&f->lock);
    free(f);
}

int fw_cfg_attach(struct fw_cfg *f, struct port_bus *bus, struct error *err)
{
    return portbus_add(bus, PC_FW_CFG, PORT_COUNT, &fw_cfg_ops, f, NULL, true, err);
}

void fw_cfg_reset(struct fw_cfg *f)
{
    pthread_mutex_lock(&f->lock);
    select_item(f, FW_CFG_SIGNATURE);
    f->dma_high = 0;
    pthread_mutex_unlock(&f->lock);
}
