/*
 * The I/O APIC. An edge on an unmasked pin sends one message. A level-triggered pin sends one
 * message while its line is asserted and sets Remote IRR; the EOI from the local APIC clears that,
 * and a line that is still asserted then sends the next. Lines carry "asserted", so the polarity
 * bit is storage: firmware tables and guests may choose either.
 */
#include "dev/ioapic.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/pcmap.h"

#define VERSION (0x20 | (PC_IOAPIC_PINS - 1) << 16)

/* Directly addressed registers, and those behind IOREGSEL. */
enum { IOREGSEL = 0x00, IOWIN = 0x10, IOEOI = 0x40 };
enum { REG_ID = 0x00, REG_VERSION = 0x01, REG_ARBITRATION = 0x02, REG_TABLE = 0x10 };

#define ID_BITS 0xff000000U /* an xAPIC has 8 bits where the 82093AA has 4 */

/* Redirection entry (82093AA, 3.2.4). */
#define ENTRY_VECTOR     0xffULL
#define ENTRY_LOGICAL    BIT(11)
#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_LEVEL      BIT(15)
#define ENTRY_MASKED     BIT(16)
#define ENTRY_READ_ONLY  (BIT(12) | ENTRY_REMOTE_IRR)
#define ENTRY_WRITABLE   (0xff0000000001ffffULL & ~ENTRY_READ_ONLY)

struct ioapic {
    struct lapic_bus *bus;
    pthread_mutex_t lock;
    u32 id; /* bits 31:24 */
    u8 initial_id;
    u8 select;
    u32 asserted; /* one bit per pin */
    u64 entry[PC_IOAPIC_PINS];
};

static enum apic_delivery delivery_of(u64 entry)
{
    return (enum apic_delivery)bits(entry, 10, 8);
}

/* Only fixed and lowest-priority interrupts can be level triggered (82093AA, 3.2.4). */
static bool is_level(u64 entry)
{
    return (entry & ENTRY_LEVEL) && delivery_of(entry) <= APIC_LOWEST;
}

static bool send(struct ioapic *io, u64 entry)
{
    return lapic_bus_deliver(io->bus, &(struct apic_message){
                                          .dest = (u8)(entry >> 56),
                                          .logical = entry & ENTRY_LOGICAL,
                                          .delivery = delivery_of(entry),
                                          .vector = entry & ENTRY_VECTOR,
                                          .level = is_level(entry),
                                      });
}

/* Sends what a level-triggered pin has to say. A message that no local APIC takes is tried again at
 * the next change of the pin or its entry. */
static void service_level(struct ioapic *io, unsigned n)
{
    u64 entry = io->entry[n];
    if (!is_level(entry) || (entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)))
        return;
    if ((io->asserted & BIT(n)) && send(io, entry))
        io->entry[n] |= ENTRY_REMOTE_IRR;
}

/* An edge on a masked pin is lost (82093AA, 3.2.4, bit 16). */
void ioapic_set_irq(void *ctx, unsigned n, int level)
{
    struct ioapic *io = ctx;
    assert(n < PC_IOAPIC_PINS);
    pthread_mutex_lock(&io->lock);
    bool rising = level && !(io->asserted & BIT(n));
    if (level)
        io->asserted |= (u32)BIT(n);
    else
        io->asserted &= (u32)~BIT(n);
    u64 entry = io->entry[n];
    if (is_level(entry))
        service_level(io, n);
    else if (rising && !(entry & ENTRY_MASKED))
        send(io, entry);
    pthread_mutex_unlock(&io->lock);
}

static void end_of_interrupt(void *ctx, u8 vector)
{
    struct ioapic *io = ctx;
    pthread_mutex_lock(&io->lock);
    for (unsigned n = 0; n < PC_IOAPIC_PINS; n++) {
        u64 *entry = &io->entry[n];
        if ((*entry & ENTRY_VECTOR) != vector || !(*entry & ENTRY_REMOTE_IRR))
            continue;
        *entry &= ~ENTRY_REMOTE_IRR;
        service_level(io, n);
    }
    pthread_mutex_unlock(&io->lock);
}

/* half: 0 the low 32 bits, 1 the high. An entry that becomes edge triggered forgets Remote IRR;
 * guests use that to end an interrupt by hand. */
static void write_entry(struct ioapic *io, unsigned n, unsigned half, u32 value)
{
    u64 mask = (half ? 0xffffffff00000000ULL : 0xffffffffULL) & ENTRY_WRITABLE;
    u64 entry = (io->entry[n] & ~mask) | (((u64)value << (32 * half)) & mask);
    if (!is_level(entry))
        entry &= ~ENTRY_REMOTE_IRR;
    io->entry[n] = entry;
    service_level(io, n);
}

static bool in_table(unsigned reg)
{
    return reg >= REG_TABLE && reg < REG_TABLE + 2 * PC_IOAPIC_PINS;
}

static void write_register(struct ioapic *io, u32 value)
{
    if (io->select == REG_ID)
        io->id = value & ID_BITS;
    else if (in_table(io->select))
        write_entry(io, (io->select - REG_TABLE) / 2, io->select & 1, value);
}

static u32 read_register(const struct ioapic *io)
{
    if (io->select == REG_ID || io->select == REG_ARBITRATION)
        return io->id;
    if (io->select == REG_VERSION)
        return VERSION;
    if (in_table(io->select))
        return (u32)(io->entry[(io->select - REG_TABLE) / 2] >> (32 * (io->select & 1)));
    return 0;
}

static u64 mmio_read(void *ctx, u64 off, unsigned size)
{
    struct ioapic *io = ctx;
    u32 value = 0;
    pthread_mutex_lock(&io->lock);
    if (off == IOREGSEL)
        value = io->select;
    else if (off == IOWIN)
        value = read_register(io);
    pthread_mutex_unlock(&io->lock);
    return value & size_mask(size);
}

static void mmio_write(void *ctx, u64 off, u64 value, unsigned size)
{
    struct ioapic *io = ctx;
    (void)size;
    if (off == IOEOI) {
        end_of_interrupt(io, (u8)value);
        return;
    }
    pthread_mutex_lock(&io->lock);
    if (off == IOREGSEL)
        io->select = (u8)value;
    else if (off == IOWIN)
        write_register(io, (u32)value);
    pthread_mutex_unlock(&io->lock);
}

static const struct mmio_ops ioapic_mmio = {mmio_read, mmio_write};

void ioapic_reset(struct ioapic *io)
{
    pthread_mutex_lock(&io->lock);
    io->id = (u32)io->initial_id << 24;
    io->select = 0;
    for (unsigned n = 0; n < PC_IOAPIC_PINS; n++)
        io->entry[n] = ENTRY_MASKED;
    pthread_mutex_unlock(&io->lock);
}

int ioapic_create(struct lapic_bus *bus, u8 id, struct ioapic **out, struct error *err)
{
    struct ioapic *io = calloc(1, sizeof(*io));
    if (!io)
        return error_set(err, ENOMEM, "not enough memory for the I/O APIC");
    io->bus = bus;
    io->initial_id = id;
    pthread_mutex_init(&io->lock, NULL);
    ioapic_reset(io);
    lapic_bus_connect_eoi(bus, end_of_interrupt, io);
    *out = io;
    return 0;
}

void ioapic_destroy(struct ioapic *io)
{
    if (!io)
        return;
    lapic_bus_connect_eoi(io->bus, NULL, NULL);
    pthread_mutex_destroy(&io->lock);
    free(io);
}

int ioapic_attach(struct ioapic *io, struct guest_mem *gm, struct error *err)
{
    return guestmem_add_mmio(gm, PC_IOAPIC_ADDR, PAGE_SIZE, &ioapic_mmio, io, NULL, err);
}
