/*
 * ACPI tables for the board that dev/pcmap.h describes. They are built one after the other as an
 * image whose pointers are offsets in it; where they are is noted. Without firmware the image
 * becomes the top pages of low RAM, and only the RSDP lies in the BIOS area, where a guest that was
 * not told its address searches for it; firmware puts it where it likes (acpi_loader.c).
 */
#include <errno.h>
#include <stdio.h>

#include "boot/acpi_tables.h"
#include "boot/aml.h"
#include "boot/boot.h"

#include "dev/pcmap.h"

#define RSDP_ADDR 0xf8000ULL

#define OEM_ID       "RINGER"
#define OEM_TABLE_ID "RINGERPC"
#define CREATOR_ID   "RNGR"

#define RESET_VALUE   6 /* hard reset and its trigger, in PC_RESET */
#define CMOS_CENTURY  0x32
#define PCI_DEVICES   32
#define PCI_PINS      4
#define NO_LATENCY    0xfff /* no C2 or C3 state */
#define MADT_ALL_CPUS 0xff

u8 acpi_checksum(const void *p, size_t len)
{
    const u8 *bytes = p;
    u8 sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (u8)(sum + bytes[i]);
    return (u8)-sum;
}

/* Room for a table at the next multiple of `align`. */
static void *reserve(struct acpi_image *b, size_t size, size_t align)
{
    b->len = align_up(b->len, align);
    assert(b->len + size <= sizeof(b->buf));
    void *p = b->buf + b->len;
    b->len += size;
    return p;
}

static u32 offset_of(const struct acpi_image *b, const void *p)
{
    return (u32)((const u8 *)p - b->buf);
}

static void *begin(struct acpi_image *b, size_t size, u32 *at)
{
    void *p = reserve(b, size, 16);
    *at = offset_of(b, p);
    return p;
}

/* A pointer of `size` bytes to what lies at `to`. */
static void point(struct acpi_image *b, void *field, unsigned size, u32 to)
{
    assert(b->npointers < ARRAY_SIZE(b->pointer));
    store_le(field, to, size);
    b->pointer[b->npointers++] = (struct acpi_pointer){.at = offset_of(b, field), .size = (u8)size};
}

/* Fills in the header of the table that goes from h to the end of the buffer. */
static void finish(struct acpi_image *b, struct acpi_header *h, const char *signature, u8 revision)
{
    memcpy(h->signature, signature, sizeof(h->signature));
    h->length = (u32)(b->buf + b->len - (u8 *)h);
    h->revision = revision;
    memcpy(h->oem_id, OEM_ID, sizeof(h->oem_id));
    memcpy(h->oem_table_id, OEM_TABLE_ID, sizeof(h->oem_table_id));
    h->oem_revision = 1;
    memcpy(h->creator_id, CREATOR_ID, sizeof(h->creator_id));
    h->creator_revision = 1;
    assert(b->ntables < ARRAY_SIZE(b->table));
    b->table[b->ntables++] = offset_of(b, h);
}

static void build_facs(struct acpi_image *b)
{
    struct acpi_facs *f = reserve(b, sizeof(*f), 64);
    memcpy(f->signature, "FACS", 4);
    f->length = sizeof(*f);
    f->version = 2;
    b->facs = offset_of(b, f);
}

/* --- DSDT --- */

static void put_processors(struct aml *a, unsigned ncpus)
{
    for (unsigned i = 0; i < ncpus; i++) {
        char name[8];
        snprintf(name, sizeof(name), "C%03X", i & 0xfff);
        aml_device(a, name);
        aml_name(a, "_HID");
        aml_string(a, "ACPI0007");
        aml_name(a, "_UID");
        aml_int(a, i);
        aml_end(a);
    }
}

/* Which interrupt each pin of each PCI slot is wired to: (device, pin) to interrupt, no link
 * devices. */
static void put_pci_routes(struct aml *a, const char *name, u32 (*interrupt)(u32 dev, u32 pin))
{
    aml_name(a, name);
    aml_package(a, PCI_DEVICES * PCI_PINS);
    for (u32 dev = 0; dev < PCI_DEVICES; dev++) {
        for (u32 pin = 0; pin < PCI_PINS; pin++) {
            aml_package(a, 4);
            aml_int(a, dev << 16 | 0xffff);
            aml_int(a, pin);
            aml_int(a, 0);
            aml_int(a, interrupt(dev, pin));
            aml_end(a);
        }
    }
    aml_end(a);
}

static u32 apic_interrupt(u32 dev, u32 pin)
{
    return PC_PCI_GSI + (dev + pin) % PCI_PINS;
}

static u32 pic_interrupt(u32 dev, u32 pin)
{
    static const u8 route[PCI_PINS] = PC_PIRQ_ROUTE;
    return route[(dev + pin + PCI_PINS - 1) % PCI_PINS];
}

/* By the routes of the mode that the system told \_PIC: 0 PICs, 1 I/O APIC. */
static void put_pci_routing(struct aml *a)
{
    put_pci_routes(a, "PRTA", apic_interrupt);
    put_pci_routes(a, "PRTP", pic_interrupt);
    aml_method(a, "_PRT", 0);
    aml_if_return(a, "PICF", "PRTA");
    aml_return(a, "PRTP");
    aml_end(a);
}

static void put_pic_mode(struct aml *a)
{
    aml_name(a, "PICF");
    aml_int(a, 0);
    aml_method(a, "_PIC", 1);
    aml_store_arg0(a, "PICF");
    aml_end(a);
}

static void put_pci_resources(struct aml *a)
{
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_bus_range(a, 0, 0);
    aml_ports(a, PC_PCI_CONFIG, 8);
    aml_port_range(a, 0, PC_PCI_CONFIG - 1);
    aml_port_range(a, PC_PCI_CONFIG + 8, 0xffff);
    aml_memory_range(a, RAM_LOW_MAX, PC_IOAPIC_ADDR - 1);
    aml_resources_end(a);
}

/* Devices on the ISA bus: a few stretches of ports and one interrupt line each. */
struct isa_device {
    const char *name, *id;
    int irq; /* -1: none */
    struct {
        u16 first;
        u8 count;
    } ports[6];
};

static const struct isa_device isa_devices[] = {
    {"PIC", "PNP0000", 2, {{PC_PIC_MASTER, 2}, {PC_PIC_SLAVE, 2}, {PC_ELCR, 2}}},
    {"TMR", "PNP0100", PC_IRQ_TIMER, {{PC_PIT, 4}}},
    {"RTC", "PNP0B00", PC_IRQ_RTC, {{PC_CMOS, 2}}},
    {"SPK", "PNP0800", -1, {{PC_SPEAKER, 1}}},
    {"KBD", "PNP0303", PC_IRQ_KEYBOARD, {{PC_I8042_DATA, 1}, {PC_I8042_CMD, 1}}},
    {"MOU", "PNP0F13", PC_IRQ_MOUSE, {{0, 0}}},
    {"COM1", "PNP0501", PC_IRQ_COM1, {{PC_COM1, 8}}},
    {"MBRD",
     "PNP0C02",
     -1, /* what no driver may take */
     {{PC_PORT92, 1},
      {PC_SMI_CMD, 2},
      {PC_DEBUG_EXIT, 4},
      {PC_FW_CFG, 12},
      {PC_PM_BASE, PC_PM_SIZE}}},
};

static void put_isa_device(struct aml *a, const struct isa_device *d)
{
    aml_device(a, d->name);
    aml_name(a, "_HID");
    aml_eisa_id(a, d->id);
    aml_name(a, "_CRS");
    aml_resources(a);
    for (unsigned i = 0; i < ARRAY_SIZE(d->ports) && d->ports[i].count; i++)
        aml_ports(a, d->ports[i].first, d->ports[i].count);
    if (d->irq >= 0)
        aml_irq(a, (unsigned)d->irq);
    aml_resources_end(a);
    aml_end(a);
}

static void put_pci_root(struct aml *a)
{
    aml_device(a, "PCI0");
    aml_name(a, "_HID");
    aml_eisa_id(a, "PNP0A03");
    aml_name(a, "_UID");
    aml_int(a, 0);
    put_pci_resources(a);
    put_pci_routing(a);
    aml_device(a, "ISA");
    aml_name(a, "_ADR");
    aml_int(a, 1 << 16); /* device 1, function 0 */
    for (unsigned i = 0; i < ARRAY_SIZE(isa_devices); i++)
        put_isa_device(a, &isa_devices[i]);
    aml_end(a);
    aml_end(a);
}

/* Soft-off is the only sleep state besides S0. */
static void put_sleep_state(struct aml *a)
{
    aml_name(a, "_S5");
    aml_package(a, 4);
    aml_int(a, PC_ACPI_S5_TYPE);
    aml_int(a, PC_ACPI_S5_TYPE);
    aml_int(a, 0);
    aml_int(a, 0);
    aml_end(a);
}

static void build_dsdt(struct acpi_image *b)
{
    struct acpi_header *h = begin(b, sizeof(*h), &b->dsdt);
    struct aml a;
    aml_init(&a, b->buf + b->len, sizeof(b->buf) - b->len);
    put_sleep_state(&a);
    put_pic_mode(&a);
    aml_scope(&a, "_SB");
    put_processors(&a, b->ncpus);
    put_pci_root(&a);
    aml_end(&a);
    b->len += a.len;
    finish(b, h, "DSDT", 2);
}

/* --- FADT --- */

static struct acpi_gas port(u16 addr, u8 bytes)
{
    u8 access = bytes == 1 ? 1 : bytes == 2 ? 2 : 3;
    return (struct acpi_gas){
        .space = 1, .bit_width = (u8)(8 * bytes), .access_size = access, .addr = addr};
}

static void set_pm_blocks(struct acpi_fadt *f)
{
    f->pm1a_evt = PC_PM_BASE;
    f->pm1a_cnt = PC_PM_BASE + 4;
    f->pm_tmr = PC_PM_BASE + 8;
    f->gpe0 = PC_PM_GPE0;
    f->pm1_evt_len = 4;
    f->pm1_cnt_len = 2;
    f->pm_tmr_len = 4;
    f->gpe0_len = 4;
    f->x_pm1a_evt = port(PC_PM_BASE, 4);
    f->x_pm1a_cnt = port(PC_PM_BASE + 4, 2);
    f->x_pm_tmr = port(PC_PM_BASE + 8, 4);
    f->x_gpe0 = port(PC_PM_GPE0, 4);
    f->x_gpe0.access_size = f->x_pm1a_evt.access_size = 0;
}

static void build_fadt(struct acpi_image *b)
{
    struct acpi_fadt *f = begin(b, sizeof(*f), &b->fadt);
    point(b, &f->facs, 4, b->facs);
    point(b, &f->dsdt, 4, b->dsdt);
    point(b, &f->x_dsdt, 8, b->dsdt);
    f->preferred_profile = 1; /* desktop */
    f->sci_int = PC_IRQ_ACPI;
    f->smi_cmd = PC_SMI_CMD;
    f->acpi_enable = PC_ACPI_ENABLE;
    f->acpi_disable = PC_ACPI_DISABLE;
    set_pm_blocks(f);
    f->c2_latency = f->c3_latency = NO_LATENCY;
    f->century = CMOS_CENTURY;
    f->boot_arch = BOOT_ARCH_LEGACY | BOOT_ARCH_8042;
    f->flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_RESET_REG;
    f->reset_reg = port(PC_RESET, 1);
    f->reset_value = RESET_VALUE;
    finish(b, &f->h, "FACP", 5);
}

/* --- MADT --- */

static void *madt_entry(struct acpi_image *b, u8 type, u8 length)
{
    u8 *p = reserve(b, length, 1);
    p[0] = type;
    p[1] = length;
    return p;
}

static void madt_override(struct acpi_image *b, u8 irq, u32 gsi, u16 flags)
{
    struct madt_override *o = madt_entry(b, 2, sizeof(*o));
    o->source = irq;
    o->gsi = gsi;
    o->flags = flags;
}

static void build_madt(struct acpi_image *b)
{
    struct acpi_madt *m = begin(b, sizeof(*m), &b->madt);
    m->lapic_addr = PC_LAPIC_ADDR;
    m->flags = MADT_PCAT_COMPAT;
    for (unsigned i = 0; i < b->ncpus; i++) {
        struct madt_lapic *l = madt_entry(b, 0, sizeof(*l));
        l->processor_uid = l->apic_id = (u8)i;
        l->flags = 1;
    }
    struct madt_ioapic *io = madt_entry(b, 1, sizeof(*io));
    io->addr = PC_IOAPIC_ADDR;
    madt_override(b, PC_IRQ_TIMER, 2, 0);
    madt_override(b, PC_IRQ_ACPI, PC_IRQ_ACPI, MADT_LEVEL_HIGH);
    struct madt_lapic_nmi *nmi = madt_entry(b, 4, sizeof(*nmi));
    nmi->processor_uid = MADT_ALL_CPUS;
    nmi->lint = 1;
    finish(b, &m->h, "APIC", 3);
}

/* RSDT and XSDT: the same list, with addresses of 4 or 8 bytes. */
static void build_root(struct acpi_image *b, const char *signature, unsigned width, u32 *at)
{
    struct acpi_header *h = begin(b, sizeof(*h), at);
    u8 *list = reserve(b, 2 * width, 1);
    point(b, list, width, b->fadt);
    point(b, list + width, width, b->madt);
    finish(b, h, signature, 1);
}

void acpi_image_build(struct acpi_image *b, const struct acpi_options *opt)
{
    memset(b, 0, sizeof(*b));
    b->ncpus = opt->ncpus;
    build_facs(b);
    build_dsdt(b);
    build_fadt(b);
    build_madt(b);
    build_root(b, "RSDT", 4, &b->rsdt);
    build_root(b, "XSDT", 8, &b->xsdt);
}

void acpi_make_rsdp(struct acpi_rsdp *r, u64 rsdt, u64 xsdt)
{
    *r = (struct acpi_rsdp){.signature = "RSD PTR ", /* 8 characters, no NUL */
                            .revision = 2,
                            .rsdt = (u32)rsdt,
                            .length = sizeof(*r),
                            .xsdt = xsdt};
    memcpy(r->oem_id, OEM_ID, sizeof(r->oem_id));
}

/* The image will lie at `base`. */
static void relocate(struct acpi_image *b, u64 base)
{
    for (unsigned i = 0; i < b->npointers; i++) {
        u8 *field = b->buf + b->pointer[i].at;
        store_le(field, load_le(field, b->pointer[i].size) + base, b->pointer[i].size);
    }
    for (unsigned i = 0; i < b->ntables; i++) {
        struct acpi_header *h = (struct acpi_header *)(b->buf + b->table[i]);
        h->checksum = acpi_checksum(h, h->length);
    }
}

int acpi_build(struct guest_mem *gm, const struct acpi_options *opt, u64 *addr, u64 *size,
               u64 *rsdp, struct error *err)
{
    struct acpi_image b;
    struct acpi_rsdp r;
    if (opt->ncpus < 1 || opt->ncpus > MAX_CPUS)
        return error_set(err, EINVAL, "%u processors: 1 to %u are possible", opt->ncpus, MAX_CPUS);
    u64 base = MIN(guestmem_ram_size(gm), RAM_LOW_MAX) - ACPI_IMAGE_MAX;
    acpi_image_build(&b, opt);
    relocate(&b, base);
    acpi_make_rsdp(&r, base + b.rsdt, base + b.xsdt);
    r.checksum = acpi_checksum(&r, ACPI_RSDP_SUMMED);
    r.extended_checksum = acpi_checksum(&r, sizeof(r));
    if (!guestmem_write(gm, base, b.buf, sizeof(b.buf)) ||
        !guestmem_write(gm, RSDP_ADDR, &r, sizeof(r)))
        return error_set(err, ENOMEM, "the ACPI tables do not fit in RAM");
    *addr = base;
    *size = sizeof(b.buf);
    *rsdp = RSDP_ADDR;
    return 0;
}
