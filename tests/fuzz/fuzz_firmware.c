/*
 * What firmware works with: the firmware configuration device by its ports and by DMA from
 * descriptors anywhere, and the host bridge's shadow RAM, moved while memory is read and written.
 * Both are compared with simple models.
 *
 *   fuzz_firmware [--seed N] [--runs N]
 */
#include "dev/fw_cfg.h"
#include "dev/i440fx.h"
#include "dev/pcmap.h"
#include "device.h"
#include "mem/guestmem.h"

#include <endian.h>

#define RAM      (2 * MIB)
#define AREA     0xc0000
#define AREA_LEN 0x40000
#define ROM      0xe0000 /* to 1 MiB */
#define ITEM     300     /* bytes of each item */

struct firmware_rig {
    struct device_rig r;
    struct guest_mem *gm;
    struct reset_ports *reset;
    struct pci_bus *pci;
    struct i440fx *bridge;
    struct fw_cfg *f;
    u8 item[4][ITEM];
    int selected; /* item, -1: none, -2: not known */
    u64 offset;
    u8 *rom;
    u8 shadow[AREA_LEN]; /* what RAM should hold */
    u8 pam[7];
};

/* --- firmware configuration --- */

static u8 expected(const struct firmware_rig *t, u64 offset)
{
    return t->selected >= 0 && offset < ITEM ? t->item[t->selected][offset] : 0;
}

static void select_item(struct firmware_rig *t)
{
    unsigned n = rnd_below(&t->r.rng, 6);
    t->selected = n < 4 ? (int)n : n == 4 ? -1 : -2;
    t->offset = 0;
    port_out(t->r.bus, PC_FW_CFG,
             n < 4    ? FW_CFG_FILE_0 + n
             : n == 4 ? 0x3fff
                      : (u16)rnd(&t->r.rng),
             2);
}

static void read_item(struct firmware_rig *t)
{
    for (unsigned n = rnd_below(&t->r.rng, 40); n > 0; n--) {
        u8 byte = rig_in(&t->r, PC_FW_CFG + 1);
        check(t->selected == -2 || byte == expected(t, t->offset), "a byte of an item is wrong");
        t->offset++;
    }
}

static void dma(struct firmware_rig *t)
{
    struct rng *rng = &t->r.rng;
    u64 desc = one_in(rng, 8) ? rnd(rng) : 0x20000 + rnd_below(rng, 0x1000);
    bool wild = one_in(rng, 8); /* above RAM, so that the models hold */
    u64 to = wild ? rnd(rng) | RAM : 0x30000 + rnd_below(rng, 0x1000);
    u32 control = one_in(rng, 4) ? (u32)rnd(rng) : one_in(rng, 3) ? 4 : 2;
    u32 len = wild              ? (u32)rnd(rng)
              : one_in(rng, 16) ? rnd_below(rng, 0x40000)
                                : rnd_below(rng, 2 * ITEM);
    struct {
        u32 control, length;
        u64 address;
    } d = {htobe32(control), htobe32(len), htobe64(to)};
    bool there = guestmem_write(t->gm, desc, &d, sizeof(d));
    u64 before = t->offset;
    if (control & 8)
        t->selected = -2;
    port_out(t->r.bus, PC_FW_CFG + 4, htobe32((u32)(desc >> 32)), 4);
    port_out(t->r.bus, PC_FW_CFG + 8, htobe32((u32)desc), 4);
    if (!there)
        return;
    guestmem_read(t->gm, desc, &d, sizeof(d));
    if (t->selected == -2 || control & 8 || (control & 0x10 && !(control & 2))) {
        t->selected = -2;
        return;
    }
    if (!(control & 6))
        return;
    t->offset += len;
    if (d.control) /* some of it was not memory: how far it came is its affair */
        t->selected = -2;
    for (u32 n = 0; control & 2 && !d.control && n < MIN(len, 2 * ITEM); n++)
        if (to + n - desc >= sizeof(d))
            check((u8)guestmem_load(t->gm, to + n, 1, NULL) == expected(t, before + n),
                  "a byte that DMA brought is wrong");
}

/* --- shadow RAM --- */

static unsigned bits_at(const struct firmware_rig *t, u32 off)
{
    if (off >= 0x30000)
        return t->pam[0] >> 4 & 3;
    unsigned segment = off / 0x4000;
    return t->pam[1 + segment / 2] >> (segment % 2 ? 4 : 0) & 3;
}

static void set_pam(struct firmware_rig *t)
{
    unsigned n = rnd_below(&t->r.rng, 7);
    u8 value = (u8)rnd(&t->r.rng);
    t->pam[n] = value & (n ? 0x33 : 0x30);
    port_out(t->r.bus, PC_PCI_CONFIG, 0x80000000 | ((0x59 + n) & ~3U), 4);
    port_out(t->r.bus, (u16)(PC_PCI_CONFIG + 4 + ((0x59 + n) & 3)), value, 1);
}

static void access_area(struct firmware_rig *t)
{
    struct rng *rng = &t->r.rng;
    for (unsigned n = 0; n < 8; n++) {
        u32 off =
            rnd_below(rng, 16) * 0x4000 + rnd_below(rng, 4) * 0xffd; /* few, so that they meet */
        if (one_in(rng, 2)) {
            u8 value = (u8)rnd(rng);
            guestmem_store(t->gm, AREA + off, value, 1, NULL);
            if (bits_at(t, off) & 2)
                t->shadow[off] = value;
            continue;
        }
        u8 below = AREA + off >= ROM ? t->rom[AREA + off - ROM] : 0xff;
        check((u8)guestmem_load(t->gm, AREA + off, 1, NULL) ==
                  (bits_at(t, off) & 1 ? t->shadow[off] : below),
              "shadow RAM shows the wrong thing");
    }
}

static void operation(struct firmware_rig *t)
{
    struct rng *rng = &t->r.rng;
    switch (rnd_below(rng, 8)) {
    case 0:
        select_item(t);
        break;
    case 1:
    case 2:
        read_item(t);
        break;
    case 3:
    case 4:
        dma(t);
        break;
    case 5:
        set_pam(t);
        break;
    case 6:
        if (one_in(rng, 4)) {
            rig_access(&t->r, PC_FW_CFG + rnd_below(rng, 14));
            t->selected = -2;
        }
        break;
    default:
        access_area(t);
    }
}

static void make(struct firmware_rig *t)
{
    static const char *const names[] = {"etc/a", "etc/b", "etc/c", "etc/d"};
    struct mem_region *rom;
    struct error err;
    bool good = guestmem_create(RAM, &t->gm, &err) == 0 &&
                reset_ports_create(&t->r.power, &t->reset, &err) == 0 &&
                pci_create(t->reset, &t->pci, &err) == 0 &&
                pci_attach(t->pci, t->r.bus, &err) == 0 &&
                i440fx_create(t->gm, t->pci, false, &t->bridge, &err) == 0 &&
                mem_region_memory(t->gm, LAYER_BOARD, MIB - ROM, true, &t->rom, &rom, &err) == 0 &&
                fw_cfg_create(t->gm, &t->f, &err) == 0 && fw_cfg_attach(t->f, t->r.bus, &err) == 0;
    check(good, "no firmware device");
    for (u32 n = 0; n < MIB - ROM; n++)
        t->rom[n] = (u8)rnd(&t->r.rng);
    mem_region_place(rom, ROM);
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned n = 0; n < ITEM; n++)
            t->item[i][n] = (u8)rnd(&t->r.rng);
        check(fw_cfg_add_file(t->f, names[i], t->item[i], ITEM, &err) == 0, "no file");
    }
    t->selected = -2;
}

static void run(u64 seed)
{
    static struct firmware_rig t;
    memset(&t, 0, sizeof(t));
    rig_create(&t.r, seed);
    make(&t);
    for (unsigned i = 0; i < OPERATIONS; i++)
        operation(&t);
    fw_cfg_destroy(t.f);
    i440fx_destroy(t.bridge);
    pci_destroy(t.pci);
    reset_ports_destroy(t.reset);
    guestmem_destroy(t.gm);
    rig_destroy(&t.r);
}

int main(int argc, char **argv)
{
    return fuzz_main(argc, argv, "fuzz_firmware", run);
}
