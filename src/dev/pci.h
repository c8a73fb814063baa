/*
 * PCI bus 0 and configuration mechanism #1 (PCI Local Bus Specification 3.0, 3.2.2.3). A function
 * is a configuration space with a write mask; what its registers do is up to its owner, by a hook.
 */
#ifndef RINGER_DEV_PCI_H
#define RINGER_DEV_PCI_H

#include "base/error.h"
#include "dev/reset_ports.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"

#define PCI_CONFIG_SIZE    256
#define PCI_BARS           6
#define PCI_DEVFN(dev, fn) ((u8)((dev) << 3 | (fn)))

struct pci_bus;

/* How a function looks and what of it the guest can change. The arrays say it bit by bit. */
struct pci_function {
    u8 reset[PCI_CONFIG_SIZE];    /* values after reset */
    u8 writable[PCI_CONFIG_SIZE]; /* bits that take what is written */
    u8 clear[PCI_CONFIG_SIZE];    /* bits that a written 1 clears */
    /* The guest wrote config bytes [offset, offset + size); may be NULL. No lock is held; read the
     * result with pci_config_read(). */
    void (*written)(void *ctx, unsigned offset, unsigned size);
    /* The guest is about to read these; may be NULL. No lock is held; what the registers are to
     * show can be put there with pci_config_write(). */
    void (*reading)(void *ctx, unsigned offset, unsigned size);
    void *ctx;
    /* What the base address registers place; one of the two, or none. */
    struct {
        struct port_range *ports;
        struct mem_region *region;
    } bar[PCI_BARS];
};

/* Fills in a type 0 header: identity, and the writable command, interrupt line and status bits. */
void pci_function_init(struct pci_function *f, u16 vendor, u16 device, u32 class_code, u8 revision);

/* Declares BAR n (0 to 5) of `size` bytes, a power of two, at least 4 (I/O) or 4096 (memory). The
 * bus places the ports or the region (32-bit, not prefetchable) where the guest says, as long as
 * the command register lets them answer. */
void pci_function_ports(struct pci_function *f, unsigned n, u32 size, struct port_range *ports);
void pci_function_memory(struct pci_function *f, unsigned n, u32 size, struct mem_region *region);
/* Gives it interrupt pin INTA# to INTD# (1 to 4). */
void pci_function_pin(struct pci_function *f, unsigned pin);

/* Subsystem vendor and ID. */
void pci_function_subsystem(struct pci_function *f, u16 vendor, u16 id);
/* Puts the capability `id` (3.0, 6.7) at `offset`, a multiple of 4, at the head of the list; its
 * registers after the first two bytes are the caller's. */
void pci_function_capability(struct pci_function *f, unsigned offset, u8 id);

/* reset: takes byte accesses to PC_RESET. */
int pci_create(struct reset_ports *reset, struct pci_bus **out, struct error *err);
void pci_destroy(struct pci_bus *pci);

/* Ports PC_PCI_CONFIG to + 7. */
int pci_attach(struct pci_bus *pci, struct port_bus *bus, struct error *err);

/* All functions' registers go back to their reset values; hooks are not called. */
void pci_reset(struct pci_bus *pci);

/* Adds a copy of *f. Before the guest runs. -EBUSY if the place is taken. */
int pci_add_function(struct pci_bus *pci, u8 devfn, const struct pci_function *f,
                     struct error *err);

/* Configuration space as the owner of a function sees it; size 1, 2 or 4. The write ignores masks.
 */
u32 pci_config_read(struct pci_bus *pci, u8 devfn, unsigned offset, unsigned size);
void pci_config_write(struct pci_bus *pci, u8 devfn, unsigned offset, u32 value, unsigned size);

#endif
