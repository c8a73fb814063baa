/*
 * The PCI functions of the board itself, as tables of register values: PIIX3 ISA bridge (82371SB)
 * and the power management function of the PIIX4 (82371AB). Their registers keep what is written;
 * those that route interrupts go on to pirq.c.
 */
#include "dev/piix.h"

#include <errno.h>
#include <stdlib.h>

#include "dev/pcmap.h"

#define VENDOR_INTEL 0x8086
#define ISA_BRIDGE   PCI_DEVFN(1, 0)
#define CONFIG_ROUTE 0x60
#define ROUTES       4

struct piix {
    struct pci_bus *pci;
    struct pirq *pirq;
};

struct config_row {
    u8 offset;
    u8 count; /* bytes that look the same */
    u8 reset;
    u8 writable;
};

static const struct config_row isa_bridge[] = {
    {0x06, 1, 0x00, 0x00},                        /* status */
    {0x07, 1, 0x02, 0x00}, {0x0e, 1, 0x80, 0x00}, /* header type: several functions */
    {0x4c, 1, 0x4d, 0xff},                        /* ISA recovery timer */
    {0x4e, 1, 0x03, 0xff},                        /* X-bus chip select */
    {0x60, 4, 0x80, 0x8f},                        /* PIRQ routing: off */
    {0x69, 1, 0x02, 0xfe},                        /* top of memory */
    {0x70, 1, 0x80, 0xef},                        /* motherboard IRQ routing */
    {0x76, 2, 0x0c, 0x8f},                        /* motherboard DMA */
    {0x78, 1, 0x02, 0xff},                        /* programmable chip select */
    {0xa0, 1, 0x08, 0x1f},                        /* SMI control */
};

static const struct config_row power_management[] = {
    {0x06, 1, 0x80, 0x00}, /* status */
    {0x07, 1, 0x02, 0x00},
    {0x3c, 1, PC_IRQ_ACPI, 0xff},          /* interrupt line */
    {0x3d, 1, 0x01, 0x00},                 /* pin INTA */
    {0x40, 1, (PC_PM_BASE & 0xc0) | 1, 0}, /* PM base: fixed */
    {0x41, 1, PC_PM_BASE >> 8, 0},
    {0x5b, 1, 0x02, 0x00}, /* SMIs of the APM port are set up: a BIOS leaves SMM alone */
    {0x80, 1, 0x01, 0x00}, /* PM I/O space is on */
};

static const struct board_function {
    u8 devfn;
    u16 device;
    u32 class_code;
    u8 revision;
    const struct config_row *row;
    size_t rows;
} board[] = {
    {PCI_DEVFN(1, 0), 0x7000, 0x060100, 0, isa_bridge, ARRAY_SIZE(isa_bridge)},
    {PCI_DEVFN(1, 3), 0x7113, 0x068000, 3, power_management, ARRAY_SIZE(power_management)},
};

static void set_routes(struct piix *x)
{
    for (unsigned n = 0; n < ROUTES; n++)
        pirq_route(x->pirq, n, (u8)pci_config_read(x->pci, ISA_BRIDGE, CONFIG_ROUTE + n, 1));
}

static void written(void *ctx, unsigned offset, unsigned size)
{
    if (offset < CONFIG_ROUTE + ROUTES && offset + size > CONFIG_ROUTE)
        set_routes(ctx);
}

static int add_function(struct piix *x, const struct board_function *b, bool routed,
                        struct error *err)
{
    static const u8 route[ROUTES] = PC_PIRQ_ROUTE;
    struct pci_function f;
    pci_function_init(&f, VENDOR_INTEL, b->device, b->class_code, b->revision);
    for (const struct config_row *r = b->row; r < b->row + b->rows; r++) {
        memset(&f.reset[r->offset], r->reset, r->count);
        memset(&f.writable[r->offset], r->writable, r->count);
    }
    if (b->devfn == ISA_BRIDGE) {
        f.written = written;
        f.ctx = x;
        if (routed)
            memcpy(&f.reset[CONFIG_ROUTE], route, ROUTES);
    }
    return pci_add_function(x->pci, b->devfn, &f, err);
}

int piix_create(struct pci_bus *pci, struct pirq *pirq, bool routed, struct piix **out,
                struct error *err)
{
    struct piix *x = malloc(sizeof(*x));
    if (!x)
        return error_set(err, ENOMEM, "no memory for the south bridge");
    *x = (struct piix){.pci = pci, .pirq = pirq};
    for (size_t i = 0; i < ARRAY_SIZE(board); i++) {
        int rc = add_function(x, &board[i], routed, err);
        if (rc < 0) {
            free(x);
            return rc;
        }
    }
    set_routes(x);
    *out = x;
    return 0;
}

void piix_destroy(struct piix *x)
{
    free(x);
}

void piix_reset(struct piix *x)
{
    set_routes(x);
}
