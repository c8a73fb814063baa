/*
 * Where the chips of the PC are: ports, addresses and interrupt lines, as on an i440FX/PIIX board.
 * Used by the wiring (vm/pc.c) and by the ACPI tables (boot/acpi.c), so that they can't disagree.
 */
#ifndef RINGER_DEV_PCMAP_H
#define RINGER_DEV_PCMAP_H

#define PC_DMA1         0x00
#define PC_PIC_MASTER   0x20
#define PC_PIT          0x40
#define PC_I8042_DATA   0x60
#define PC_SPEAKER      0x61
#define PC_I8042_CMD    0x64
#define PC_CMOS         0x70
#define PC_DMA_PAGE     0x80 /* port 0x80 itself stays free */
#define PC_PORT92       0x92
#define PC_PIC_SLAVE    0xa0
#define PC_DMA2         0xc0
#define PC_DEBUG_EXIT   0xf4
#define PC_IDE1         0x170
#define PC_IDE0         0x1f0
#define PC_IDE1_CONTROL 0x376
#define PC_IDE0_CONTROL 0x3f6
#define PC_FDC          0x3f0
#define PC_COM1         0x3f8
#define PC_DEBUGCON     0x402
#define PC_ELCR         0x4d0
#define PC_FW_CFG       0x510
#define PC_PM_BASE      0x600 /* PM1a event, control at +4, timer at +8 */
#define PC_PM_SIZE      0x40
#define PC_PM_GPE0      (PC_PM_BASE + 0xc) /* status and enable, 2 bytes each */
#define PC_SMI_CMD      0xb2
#define PC_ACPI_ENABLE  0xf1 /* values for SMI_CMD */
#define PC_ACPI_DISABLE 0xf0
#define PC_ACPI_S5_TYPE 0 /* SLP_TYP of soft-off */
#define PC_PCI_CONFIG   0xcf8
#define PC_RESET        0xcf9

#define PC_IOAPIC_ADDR 0xfec00000ULL
#define PC_LAPIC_ADDR  0xfee00000ULL

#define PC_IRQ_TIMER    0 /* GSI 2 at the IOAPIC */
#define PC_IRQ_KEYBOARD 1
#define PC_IRQ_COM1     4
#define PC_IRQ_FLOPPY   6
#define PC_IRQ_RTC      8
#define PC_IRQ_ACPI     9
#define PC_IRQ_MOUSE    12
#define PC_IRQ_IDE0     14
#define PC_IRQ_IDE1     15

#define PC_IDE_DEVFN 0x09 /* PCI 01.1 */

#define PC_DMA_FLOPPY 2

#define PC_VIRTIO_SLOT 4 /* PCI device of the first virtio disk; one each */

#define PC_IOAPIC_PINS 24
#define PC_VGA_DEVFN   (2 << 3) /* PCI device 2 */
/* ISA interrupts that PIRQA# to PIRQD# lead to: as SeaBIOS sets the routes, and as they are without
 * firmware. */
#define PC_PIRQ_ROUTE                                                                              \
    {                                                                                              \
        10, 10, 11, 11                                                                             \
    }

#define PC_PCI_GSI 16 /* pin p (0 = INTA#) of PCI device d: PC_PCI_GSI + (d + p) % 4 */

#endif
