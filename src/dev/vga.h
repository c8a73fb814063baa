/*
 * A VGA with the Bochs VBE extensions, as QEMU's "std": PCI function 1234:1111 with 16 MiB of video
 * memory in BAR 0 and its registers once more in BAR 2, the legacy window at 0xa0000, ports 0x3b4
 * to 0x3da, and the dispi interface at 0x1ce. Follows IBM's VGA as FreeVGA's and Intel's (G45,
 * vol. 3) manuals describe it, and QEMU's docs/specs/standard-vga.
 */
#ifndef RINGER_DEV_VGA_H
#define RINGER_DEV_VGA_H

#include "base/error.h"
#include "dev/pci.h"
#include "host/clock.h"
#include "host/display.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"

struct vga;

/* Video memory comes from gm, its regions placed nowhere yet. Before the vCPUs run. */
int vga_create(struct guest_mem *gm, struct clock *clock, struct vga **out, struct error *err);
void vga_destroy(struct vga *v);

/* Registers to their state after power-on: blank. Video memory is left alone. */
void vga_reset(struct vga *v);

/* Ports, the window at 0xa0000, and the PCI function at devfn. */
int vga_attach(struct vga *v, struct port_bus *ports, struct pci_bus *pci, u8 devfn,
               struct error *err);

/* What it shows. Good until vga_destroy(). */
struct display_source vga_display(struct vga *v);

#endif
