/*
 * Host bridge and shadow RAM (82441FX data sheet, 3.2.18: PAM registers). Each of 13 segments has a
 * read enable and a write enable: which accesses go to RAM, the others going to the ROM of the
 * expansion bus, or nothing. With the first alone RAM shows read-only, with both plainly; with the
 * second alone reads are the ROM's and writes RAM's, which costs a callback per access, as is right
 * for what lives only while a BIOS copies itself.
 */
#include "dev/i440fx.h"

#include <errno.h>
#include <stdlib.h>

#define VENDOR_INTEL 0x8086
#define DEVICE_82441 0x1237
#define BRIDGE       PCI_DEVFN(0, 0)

#define CONFIG_STATUS 0x06
#define CONFIG_PAM    0x59 /* 7 bytes */
#define CONFIG_DRB    0x60 /* 8 bytes */
#define CONFIG_SMRAM  0x72
#define SMRAM_RESET   0x02

#define PAM_REGISTERS 7
#define PAM_READ      1
#define PAM_WRITE     2

#define AREA_START 0xc0000ULL
#define AREA_SIZE  0x40000ULL
#define SEGMENTS   13
#define SEGMENT    (16 * KIB) /* all but the last, which is 64 KiB */

struct segment {
    struct i440fx *bridge;
    u64 gpa, size;
    struct mem_region *shown;   /* RAM, for reading or for both */
    struct mem_region *written; /* registers: writes go to RAM, reads to what lies below */
};

struct i440fx {
    struct guest_mem *gm;
    struct pci_bus *pci;
    bool open;
    struct segment segment[SEGMENTS];
};

/* --- writes only --- */

static u64 read_below(void *ctx, u64 off, unsigned size)
{
    const struct segment *s = ctx;
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)mem_board_byte(s->bridge->gm, s->gpa + off + i) << 8 * i;
    return value;
}

static void write_ram(void *ctx, u64 off, u64 value, unsigned size)
{
    const struct segment *s = ctx;
    u64 gpa = s->gpa + off;
    store_le(guestmem_ram(s->bridge->gm) + gpa, value, size);
    code_written_ram(s->bridge->gm, gpa, size);
}

static const struct mmio_ops write_only_ops = {read_below, write_ram};

/* --- where nothing is --- */

static u64 read_nothing(void *ctx, u64 off, unsigned size)
{
    (void)ctx;
    (void)off;
    return size_mask(size);
}

static void write_nothing(void *ctx, u64 off, u64 value, unsigned size)
{
    (void)ctx;
    (void)off;
    (void)value;
    (void)size;
}

static const struct mmio_ops nothing_ops = {read_nothing, write_nothing};

/* --- registers --- */

/* Segment 0 is the last 64 KiB, in the upper half of the first register; then two by two. */
static unsigned bits_of(const struct i440fx *b, unsigned segment)
{
    unsigned n = segment == 0 ? 0 : (segment + 1) / 2;
    u32 pam = pci_config_read(b->pci, BRIDGE, CONFIG_PAM + n, 1);
    return (segment == 0 || segment % 2 == 0 ? pam >> 4 : pam) & (PAM_READ | PAM_WRITE);
}

static void show(struct i440fx *b, unsigned n)
{
    struct segment *s = &b->segment[n];
    unsigned enabled = bits_of(b, n);
    if (enabled & PAM_READ) {
        mem_region_show(s->shown, NULL, s->gpa, enabled & PAM_WRITE);
        mem_region_place(s->shown, s->gpa);
    } else {
        mem_region_remove(s->shown);
    }
    if (enabled == PAM_WRITE)
        mem_region_place(s->written, s->gpa);
    else
        mem_region_remove(s->written);
}

static void show_all(struct i440fx *b)
{
    for (unsigned n = 0; n < SEGMENTS; n++)
        show(b, n);
}

static void written(void *ctx, unsigned offset, unsigned size)
{
    if (offset < CONFIG_PAM + PAM_REGISTERS && offset + size > CONFIG_PAM)
        show_all(ctx);
}

/* --- life --- */

/* The expansion bus, over RAM and under ROMs that are added later. */
static int create_bus(struct i440fx *b, struct error *err)
{
    struct mem_region *bus;
    int rc = mem_region_mmio(b->gm, LAYER_BOARD, AREA_SIZE, &nothing_ops, NULL, NULL, &bus, err);
    if (rc == 0)
        mem_region_place(bus, AREA_START);
    return rc;
}

static int create_segments(struct i440fx *b, struct error *err)
{
    for (unsigned n = 0; n < SEGMENTS; n++) {
        struct segment *s = &b->segment[n];
        *s = (struct segment){.bridge = b, .size = SEGMENT};
        s->gpa = AREA_START + (n - 1) * SEGMENT;
        if (n == 0) {
            s->size = 4 * SEGMENT;
            s->gpa = AREA_START + AREA_SIZE - s->size;
        }
        int rc = mem_region_window(b->gm, LAYER_SHADOW, s->size, &s->shown, err);
        if (rc == 0)
            rc = mem_region_mmio(b->gm, LAYER_SHADOW, s->size, &write_only_ops, s, NULL,
                                 &s->written, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int add_function(struct i440fx *b, struct error *err)
{
    struct pci_function f;
    pci_function_init(&f, VENDOR_INTEL, DEVICE_82441, 0x060000, 2);
    f.reset[CONFIG_STATUS] = 0x80; /* fast back-to-back */
    f.reset[CONFIG_STATUS + 1] = 0x02;
    memset(&f.writable[0x50], 0xff, 2); /* chip configuration */
    memset(&f.reset[CONFIG_PAM], b->open ? 0x33 : 0, PAM_REGISTERS);
    memset(&f.writable[CONFIG_PAM], 0x33, PAM_REGISTERS);
    f.writable[CONFIG_PAM] = 0x30;
    memset(&f.reset[CONFIG_DRB], 0x01, 8);
    memset(&f.writable[CONFIG_DRB], 0xff, 8);
    f.reset[CONFIG_SMRAM] = SMRAM_RESET;
    f.writable[CONFIG_SMRAM] = 0x7f;
    f.written = written;
    f.ctx = b;
    return pci_add_function(b->pci, BRIDGE, &f, err);
}

int i440fx_create(struct guest_mem *gm, struct pci_bus *pci, bool open, struct i440fx **out,
                  struct error *err)
{
    struct i440fx *b = calloc(1, sizeof(*b));
    if (!b)
        return error_set(err, ENOMEM, "no memory for the host bridge");
    b->gm = gm;
    b->pci = pci;
    b->open = open;
    int rc = create_bus(b, err);
    if (rc == 0)
        rc = create_segments(b, err);
    if (rc == 0)
        rc = add_function(b, err);
    if (rc < 0) {
        free(b);
        return rc;
    }
    show_all(b);
    *out = b;
    return 0;
}

void i440fx_destroy(struct i440fx *b)
{
    free(b);
}

void i440fx_reset(struct i440fx *b)
{
    show_all(b);
}
