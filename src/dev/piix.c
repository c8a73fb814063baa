/*
 * The PCI functions of the board itself, as tables of register values: Intel 440FX host bridge
 * (82441FX data sheet), PIIX3 ISA bridge (82371SB) and the power management function of the PIIX4
 * (82371AB). Their registers keep what is written; the PAM registers do not move memory, because
 * ROM and RAM lie where they are from the start.
 */
#include "dev/pci.h"

#include "dev/pcmap.h"

#define VENDOR_INTEL 0x8086

struct config_row {
    u8 offset;
    u8 count; /* bytes that look the same */
    u8 reset;
    u8 writable;
};

static const struct config_row host_bridge[] = {
    {0x06, 1, 0x80, 0x00},                        /* status: fast back-to-back */
    {0x07, 1, 0x02, 0x00},                        /* medium DEVSEL */
    {0x50, 1, 0x00, 0xff},                        /* chip configuration */
    {0x51, 1, 0x00, 0xff}, {0x59, 7, 0x00, 0xff}, /* PAM0-6 */
    {0x60, 8, 0x01, 0xff},                        /* DRAM row boundaries */
    {0x72, 1, 0x02, 0x7f},                        /* SMRAM control */
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
    {PCI_DEVFN(0, 0), 0x1237, 0x060000, 2, host_bridge, ARRAY_SIZE(host_bridge)},
    {PCI_DEVFN(1, 0), 0x7000, 0x060100, 0, isa_bridge, ARRAY_SIZE(isa_bridge)},
    {PCI_DEVFN(1, 3), 0x7113, 0x068000, 3, power_management, ARRAY_SIZE(power_management)},
};

int piix_add_functions(struct pci_bus *pci, struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(board); i++) {
        const struct board_function *b = &board[i];
        struct pci_function f;
        pci_function_init(&f, VENDOR_INTEL, b->device, b->class_code, b->revision);
        for (const struct config_row *r = b->row; r < b->row + b->rows; r++) {
            memset(&f.reset[r->offset], r->reset, r->count);
            memset(&f.writable[r->offset], r->writable, r->count);
        }
        int rc = pci_add_function(pci, b->devfn, &f, err);
        if (rc)
            return rc;
    }
    return 0;
}
