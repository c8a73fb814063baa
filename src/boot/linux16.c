/*
 * The 16-bit Linux boot protocol: the kernel's own real-mode code runs, asks the BIOS for the
 * memory map and what else it wants to know, and goes to protected mode itself. For it there are a
 * few BIOS services in the BIOS area (bios_stub.S), found through the real-mode interrupt vectors.
 */
#include <errno.h>
#include <inttypes.h>

#include "boot/entry.h"
#include "boot/linux_params.h"

#include "dev/pcmap.h"

/* Where the real-mode code goes. Kernels before 2.02 and zImages must have it at 0x90000. */
#define SETUP_ADDR         0x10000
#define OLD_SETUP_ADDR     0x90000
#define OLD_CMDLINE_OFFSET 0x9800
#define SETUP_MAX          0x8000 /* real-mode code may use 32 KiB, then comes its heap */
#define HEAP_END           0x9800 /* heap and stack, up to here; offset in the setup segment */
#define STACK_SIZE         0x200

/* The command line of protocols 2.00 and 2.01: a magic number and an offset in the setup segment.
 */
#define OLD_CMDLINE_FIELD 0x20
#define OLD_CMDLINE_MAGIC 0xa33f

#define BIOS_SEGMENT 0xf000 /* the ACPI RSDP is in its upper half (acpi.c) */
#define BDA_ADDR     0x400

/* The start of the stub: offsets in it, and what it answers with. bios_stub.S has the same list. */
struct bios_stub_header {
    u16 fail, ignore; /* handlers: carry flag set; nothing */
    u16 int10, int11, int12, int15, int16, int1a;
    u16 e820_table;    /* E820_MAX entries of 20 bytes */
    u16 extended_kib;  /* INT 15h, AH=88h */
    u16 e801_low_kib;  /* INT 15h, AX=E801h: RAM from 1 to 16 MiB */
    u16 e801_high_64k; /* and above, in 64 KiB */
    u32 e820_count;
} __attribute__((packed));

extern const u8 bios_stub[], bios_stub_end[];

static void set_memory_sizes(struct bios_stub_header *h, const struct e820_map *map)
{
    u64 end = e820_extended_end(map);
    h->extended_kib = (u16)MIN((end - MIB) / KIB, 0xffffu);
    h->e801_low_kib = (u16)((MIN(end, 16 * MIB) - MIB) / KIB);
    h->e801_high_64k = (u16)(end > 16 * MIB ? (end - 16 * MIB) / (64 * KIB) : 0);
    h->e820_count = map->count;
}

static int write_stub(struct loader *ld, struct bios_stub_header *h)
{
    const struct e820_map *map = ld->opt->e820;
    const u64 base = BIOS_SEGMENT << 4;
    struct linux_e820_entry table[E820_MAX];
    memcpy(h, bios_stub, sizeof(*h));
    set_memory_sizes(h, map);
    for (unsigned i = 0; i < map->count; i++)
        table[i] =
            (struct linux_e820_entry){map->entry[i].addr, map->entry[i].size, map->entry[i].type};
    int r = loader_write(ld, base, bios_stub, (u64)(bios_stub_end - bios_stub));
    if (r == 0)
        r = loader_write(ld, base, h, sizeof(*h));
    if (r == 0)
        r = loader_write(ld, base + h->e820_table, table, map->count * sizeof(table[0]));
    return r;
}

/* Interrupt lines come in at 0 to 7 (8259 before it is set up), 8 to 15 or 70h to 77h: ignored. */
static int write_vectors(struct loader *ld, const struct bios_stub_header *h)
{
    struct vector_entry {
        u16 offset, segment;
    } ivt[256];
    for (unsigned i = 0; i < 256; i++) {
        bool irq = i < 0x10 || (i >= 0x70 && i < 0x78);
        ivt[i] = (struct vector_entry){irq ? h->ignore : h->fail, BIOS_SEGMENT};
    }
    ivt[0x10].offset = h->int10;
    ivt[0x11].offset = h->int11;
    ivt[0x12].offset = h->int12;
    ivt[0x15].offset = h->int15;
    ivt[0x16].offset = h->int16;
    ivt[0x1a].offset = h->int1a;
    return loader_write(ld, 0, ivt, sizeof(ivt));
}

static int write_bda(struct loader *ld)
{
    u8 bda[256] = {0};
    store_le(bda + 0x00, PC_COM1, 2);
    store_le(bda + 0x0e, 0x9fc0, 2); /* segment of the EBDA */
    store_le(bda + 0x10, 0x0202, 2); /* equipment: a coprocessor, one serial port */
    store_le(bda + 0x13, 639, 2);    /* KiB of low memory */
    return loader_write(ld, BDA_ADDR, bda, sizeof(bda));
}

/* The services, the interrupt vectors that lead to them, and the BIOS data area. */
static int bios_install(struct loader *ld)
{
    struct bios_stub_header h;
    int r = write_stub(ld, &h);
    if (r == 0)
        r = write_vectors(ld, &h);
    if (r == 0)
        r = write_bda(ld);
    return r;
}

static bool is_old(const struct linux_image *li)
{
    return li->version < 0x202 || !li->high;
}

/* The real-mode code, with the header fields that a loader fills. */
static int load_setup(struct loader *ld, struct linux_image *li, u64 addr)
{
    struct linux_setup_header *h = &li->hdr;
    u64 hdr_len = MIN(li->hdr_len, sizeof(*h));
    if (li->setup_size > SETUP_MAX)
        return error_set(ld->err, ENOEXEC,
                         "kernel '%s' has %" PRIu64 " bytes of real-mode code; at most %u can be "
                         "loaded for the 16-bit protocol",
                         ld->kernel.path, li->setup_size, SETUP_MAX);
    if (li->version >= 0x201) {
        h->loadflags |= LOADFLAG_USE_HEAP;
        h->heap_end_ptr = HEAP_END - STACK_SIZE;
    }
    if (li->version < 0x202)
        h->setup_move_size = OLD_CMDLINE_OFFSET + 256;
    int r = image_load(&ld->kernel, 0, li->setup_size, ld->gm, addr, ld->err);
    if (r == 0)
        r = loader_write(ld, addr + LINUX_HEADER_OFFSET, h, hdr_len);
    return r;
}

static int write_old_cmdline_field(struct loader *ld, u64 addr)
{
    u8 field[4];
    store_le(field, OLD_CMDLINE_MAGIC, 2);
    store_le(field + 2, OLD_CMDLINE_OFFSET, 2);
    return loader_write(ld, addr + OLD_CMDLINE_FIELD, field, sizeof(field));
}

int linux_start16(struct loader *ld, struct linux_image *li)
{
    bool old = is_old(li);
    u64 addr = old ? OLD_SETUP_ADDR : SETUP_ADDR;
    if (old) {
        li->cmdline = addr + OLD_CMDLINE_OFFSET;
        li->cmdline_max = MIN(li->cmdline_max, 255u);
    }
    int r = linux_load_payload(ld, li);
    if (r == 0)
        r = linux_load_initrd(ld, li);
    if (r == 0)
        r = linux_write_setup_data(ld, li);
    if (r == 0)
        r = linux_write_cmdline(ld, li);
    if (r == 0)
        r = load_setup(ld, li, addr);
    if (r == 0 && li->version < 0x202)
        r = write_old_cmdline_field(ld, addr);
    if (r == 0)
        r = bios_install(ld);
    if (r < 0)
        return r;
    u16 seg = (u16)(addr >> 4);
    entry_real(ld->v, seg + 0x20, 0, seg, HEAP_END);
    return 0;
}
