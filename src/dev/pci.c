/*
 * Configuration mechanism #1: an address register at 0xcf8 that takes 32-bit accesses only, and a
 * window of four bytes at 0xcfc. Every access to the window is done byte by byte under the masks of
 * the function, then its owner is told once. A byte access to 0xcf9 belongs to the reset control
 * register.
 */
#include "dev/pci.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/pcmap.h"

#define PORT_DATA (PC_PCI_CONFIG + 4)

#define ADDRESS_ENABLE   0x80000000U
#define ADDRESS_WRITABLE 0x80fffffcU

#define CONFIG_VENDOR         0x00
#define CONFIG_DEVICE         0x02
#define CONFIG_COMMAND        0x04
#define CONFIG_STATUS         0x06
#define CONFIG_REVISION       0x08
#define CONFIG_CLASS          0x09 /* 3 bytes */
#define CONFIG_CACHE_LINE     0x0c
#define CONFIG_LATENCY        0x0d
#define CONFIG_BAR0           0x10
#define CONFIG_SUBSYSTEM      0x2c /* vendor, ID */
#define CONFIG_CAPABILITIES   0x34
#define CONFIG_INTERRUPT_LINE 0x3c
#define CONFIG_INTERRUPT_PIN  0x3d

#define COMMAND_WRITABLE 0x0547 /* I/O, memory, master, parity, SERR, INTx off */
#define COMMAND_IO       0x01
#define COMMAND_MEMORY   0x02
#define STATUS_CLEAR     0xf900 /* the error bits */
#define STATUS_LIST      0x10   /* there are capabilities */
#define BAR_IO           0x01

struct slot {
    struct pci_function f;
    u8 config[PCI_CONFIG_SIZE];
};

struct pci_bus {
    struct reset_ports *reset;
    pthread_mutex_t lock;
    u32 address;
    struct slot *slot[256]; /* by devfn; fixed before the guest runs */
};

void pci_function_init(struct pci_function *f, u16 vendor, u16 device, u32 class_code, u8 revision)
{
    memset(f, 0, sizeof(*f));
    store_le(&f->reset[CONFIG_VENDOR], vendor, 2);
    store_le(&f->reset[CONFIG_DEVICE], device, 2);
    f->reset[CONFIG_REVISION] = revision;
    store_le(&f->reset[CONFIG_CLASS], class_code & 0xffff, 2);
    f->reset[CONFIG_CLASS + 2] = (u8)(class_code >> 16);
    store_le(&f->writable[CONFIG_COMMAND], COMMAND_WRITABLE, 2);
    store_le(&f->clear[CONFIG_STATUS], STATUS_CLEAR, 2);
    f->writable[CONFIG_CACHE_LINE] = 0xff;
    f->writable[CONFIG_LATENCY] = 0xff;
    f->writable[CONFIG_INTERRUPT_LINE] = 0xff;
}

static void declare_bar(struct pci_function *f, unsigned n, u32 size, bool io)
{
    assert(n < PCI_BARS && size >= (io ? 4 : PAGE_SIZE) && !(size & (size - 1)));
    store_le(&f->reset[CONFIG_BAR0 + 4 * n], io ? BAR_IO : 0, 4);
    store_le(&f->writable[CONFIG_BAR0 + 4 * n], ~(size - 1), 4);
}

void pci_function_ports(struct pci_function *f, unsigned n, u32 size, struct port_range *ports)
{
    declare_bar(f, n, size, true);
    f->bar[n].ports = ports;
}

void pci_function_memory(struct pci_function *f, unsigned n, u32 size, struct mem_region *region)
{
    declare_bar(f, n, size, false);
    f->bar[n].region = region;
}

void pci_function_pin(struct pci_function *f, unsigned pin)
{
    f->reset[CONFIG_INTERRUPT_PIN] = (u8)pin;
}

void pci_function_subsystem(struct pci_function *f, u16 vendor, u16 id)
{
    store_le(&f->reset[CONFIG_SUBSYSTEM], vendor, 2);
    store_le(&f->reset[CONFIG_SUBSYSTEM + 2], id, 2);
}

void pci_function_capability(struct pci_function *f, unsigned offset, u8 id)
{
    assert(offset >= 0x40 && offset < PCI_CONFIG_SIZE && offset % 4 == 0);
    f->reset[offset] = id;
    f->reset[offset + 1] = f->reset[CONFIG_CAPABILITIES];
    f->reset[CONFIG_CAPABILITIES] = (u8)offset;
    f->reset[CONFIG_STATUS] |= STATUS_LIST;
}

/* Places what a base address register is for. Nothing answers at address 0, where the BIOS leaves
 * what it found no room for, nor while the register shows its size. */
static void place_bar(const struct slot *s, unsigned n)
{
    u32 command = load_le(&s->config[CONFIG_COMMAND], 2);
    u32 bar = (u32)load_le(&s->config[CONFIG_BAR0 + 4 * n], 4);
    u32 mask = (u32)load_le(&s->f.writable[CONFIG_BAR0 + 4 * n], 4);
    u32 addr = bar & mask;
    bool answers = addr && addr != mask;
    if (s->f.bar[n].ports) {
        if (answers && command & COMMAND_IO && addr <= UINT16_MAX)
            port_range_place(s->f.bar[n].ports, (u16)addr);
        else
            port_range_remove(s->f.bar[n].ports);
    } else if (s->f.bar[n].region) {
        if (answers && command & COMMAND_MEMORY)
            mem_region_place(s->f.bar[n].region, addr);
        else
            mem_region_remove(s->f.bar[n].region);
    }
}

/* After a write of config bytes [offset, offset + count). */
static void place_bars(const struct slot *s, unsigned offset, unsigned count)
{
    bool command = offset < CONFIG_COMMAND + 2 && offset + count > CONFIG_COMMAND;
    for (unsigned n = 0; n < PCI_BARS; n++) {
        unsigned at = CONFIG_BAR0 + 4 * n;
        if (command || (offset < at + 4 && offset + count > at))
            place_bar(s, n);
    }
}

/* The function that the address register selects, and where in it the window's byte 0 is. */
static struct slot *selected(struct pci_bus *pci, unsigned *offset)
{
    *offset = pci->address & 0xfc;
    if (!(pci->address & ADDRESS_ENABLE) || bits(pci->address, 23, 16))
        return NULL;
    return pci->slot[bits(pci->address, 15, 8)];
}

/* Bytes of the window that an access at `first` reaches. */
static unsigned window_bytes(unsigned first, unsigned size)
{
    return MIN(size, 4 - first);
}

static u32 window_read(struct pci_bus *pci, unsigned first, unsigned size)
{
    unsigned offset;
    unsigned count = window_bytes(first, size);
    u32 value = (u32)size_mask(size);
    pthread_mutex_lock(&pci->lock);
    struct slot *s = selected(pci, &offset);
    pthread_mutex_unlock(&pci->lock);
    if (!s)
        return value;
    if (s->f.reading)
        s->f.reading(s->f.ctx, offset + first, count);
    pthread_mutex_lock(&pci->lock);
    memcpy(&value, &s->config[offset + first], count);
    pthread_mutex_unlock(&pci->lock);
    return value;
}

static void window_write(struct pci_bus *pci, unsigned first, u32 value, unsigned size)
{
    unsigned offset;
    unsigned count = window_bytes(first, size);
    pthread_mutex_lock(&pci->lock);
    struct slot *s = selected(pci, &offset);
    for (unsigned i = 0; s && i < count; i++) {
        unsigned at = offset + first + i;
        u8 byte = (u8)(value >> 8 * i);
        s->config[at] = (s->config[at] & ~s->f.writable[at] & ~(byte & s->f.clear[at])) |
                        (byte & s->f.writable[at]);
    }
    if (s)
        place_bars(s, offset + first, count);
    pthread_mutex_unlock(&pci->lock);
    if (s && s->f.written)
        s->f.written(s->f.ctx, offset + first, count);
}

static u32 pci_in(void *ctx, u16 port, unsigned size)
{
    struct pci_bus *pci = ctx;
    if (port >= PORT_DATA)
        return window_read(pci, port - PORT_DATA, size);
    if (port == PC_RESET && size == 1)
        return reset_control_read(pci->reset);
    if (port != PC_PCI_CONFIG || size != 4)
        return (u32)size_mask(size);
    pthread_mutex_lock(&pci->lock);
    u32 value = pci->address;
    pthread_mutex_unlock(&pci->lock);
    return value;
}

static void pci_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct pci_bus *pci = ctx;
    if (port >= PORT_DATA) {
        window_write(pci, port - PORT_DATA, value, size);
    } else if (port == PC_RESET && size == 1) {
        reset_control_write(pci->reset, (u8)value);
    } else if (port == PC_PCI_CONFIG && size == 4) {
        pthread_mutex_lock(&pci->lock);
        pci->address = value & ADDRESS_WRITABLE;
        pthread_mutex_unlock(&pci->lock);
    }
}

static const struct port_ops pci_ops = {pci_in, pci_out};

int pci_add_function(struct pci_bus *pci, u8 devfn, const struct pci_function *f, struct error *err)
{
    if (pci->slot[devfn])
        return error_set(err, EBUSY, "PCI function %02x.%x exists already", devfn >> 3, devfn & 7);
    struct slot *s = malloc(sizeof(*s));
    if (!s)
        return error_set(err, ENOMEM, "no memory for PCI function %02x.%x", devfn >> 3, devfn & 7);
    s->f = *f;
    memcpy(s->config, f->reset, PCI_CONFIG_SIZE);
    pci->slot[devfn] = s;
    return 0;
}

u32 pci_config_read(struct pci_bus *pci, u8 devfn, unsigned offset, unsigned size)
{
    assert(pci->slot[devfn] && offset + size <= PCI_CONFIG_SIZE);
    pthread_mutex_lock(&pci->lock);
    u32 value = (u32)load_le(&pci->slot[devfn]->config[offset], size);
    pthread_mutex_unlock(&pci->lock);
    return value;
}

void pci_config_write(struct pci_bus *pci, u8 devfn, unsigned offset, u32 value, unsigned size)
{
    assert(pci->slot[devfn] && offset + size <= PCI_CONFIG_SIZE);
    pthread_mutex_lock(&pci->lock);
    store_le(&pci->slot[devfn]->config[offset], value, size);
    pthread_mutex_unlock(&pci->lock);
}

int pci_create(struct reset_ports *reset, struct pci_bus **out, struct error *err)
{
    struct pci_bus *pci = calloc(1, sizeof(*pci));
    if (!pci)
        return error_set(err, ENOMEM, "no memory for the PCI bus");
    pci->reset = reset;
    pthread_mutex_init(&pci->lock, NULL);
    *out = pci;
    return 0;
}

void pci_destroy(struct pci_bus *pci)
{
    if (!pci)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(pci->slot); i++)
        free(pci->slot[i]);
    pthread_mutex_destroy(&pci->lock);
    free(pci);
}

int pci_attach(struct pci_bus *pci, struct port_bus *bus, struct error *err)
{
    return portbus_add(bus, PC_PCI_CONFIG, 8, &pci_ops, pci, NULL, true, err);
}

void pci_reset(struct pci_bus *pci)
{
    pthread_mutex_lock(&pci->lock);
    pci->address = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(pci->slot); i++) {
        if (!pci->slot[i])
            continue;
        memcpy(pci->slot[i]->config, pci->slot[i]->f.reset, PCI_CONFIG_SIZE);
        place_bars(pci->slot[i], 0, PCI_CONFIG_SIZE);
    }
    pthread_mutex_unlock(&pci->lock);
}
