/*
 * The IDE controller as its ports show it: the registers of two channels, resets, interrupts, and
 * the PCI function. Registers that the host writes go to both drives of a channel, as on the cable;
 * the selected one answers. Where no drive 1 is, drive 0 answers for it, with a status of 0; on an
 * empty channel everything reads 0.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "dev/ide_internal.h"
#include "dev/pcmap.h"

#define PCI_IDE_ID    0x7010
#define PCI_IDE_CLASS 0x010180 /* both channels in legacy mode; bus master */
#define PCI_STATUS    0x06
#define PCI_TIMING    0x40 /* 2 bytes for each channel */
#define PCI_TIMING2   0x44

/* --- interrupts --- */

static void update_irq(struct ide_channel *c)
{
    const struct ide_unit *u = ide_selected(c);
    bool level = u->intrq && unit_present(u) && !(c->control & CONTROL_NIEN);
    if (level && !c->irq_level)
        bmdma_interrupt(c);
    c->irq_level = level;
    wire_level(&c->irq, level);
}

void ide_set_intrq(struct ide_channel *c, struct ide_unit *u, bool pending)
{
    u->intrq = pending;
    update_irq(c);
}

/* --- resets --- */

void ide_set_signature(struct ide_channel *c, struct ide_unit *u)
{
    memset(u->reg, 0, sizeof(u->reg));
    u->reg[0][REG_COUNT] = u->reg[0][REG_LBA_LOW] = 1;
    if (u->cdrom) {
        u->reg[0][REG_LBA_MID] = 0x14;
        u->reg[0][REG_LBA_HIGH] = 0xeb;
    } else if (!u->block) {
        u->reg[0][REG_LBA_MID] = u->reg[0][REG_LBA_HIGH] = 0xff;
    }
    c->device &= DEVICE_ONES | DEVICE_UNIT;
}

void ide_reset_begin(struct ide_channel *c, unsigned units)
{
    c->request_ready = false;
    c->phase = PHASE_NONE;
    c->step = NULL;
    for (unsigned i = 0; i < IDE_UNITS; i++) {
        struct ide_unit *u = &c->unit[i];
        if (!(units & 1U << i))
            continue;
        u->resetting = true;
        u->status = STATUS_BSY;
        ide_set_intrq(c, u, false);
    }
}

/* The drives have passed their tests: 01h in the Error register. */
void ide_reset_end(struct ide_channel *c)
{
    if (c->request_in_flight || c->control & CONTROL_SRST)
        return;
    for (unsigned i = 0; i < IDE_UNITS; i++) {
        struct ide_unit *u = &c->unit[i];
        if (!u->resetting)
            continue;
        u->resetting = false;
        u->power = POWER_ACTIVE;
        ide_set_signature(c, u);
        u->reg[0][REG_ERROR] = 1;
        u->status = u->cdrom ? 0 : STATUS_OK;
        if (u->cdrom)
            atapi_reset(u);
    }
}

static void reset_channel(struct ide_channel *c)
{
    pthread_mutex_lock(&c->lock);
    c->control = 0;
    c->device = DEVICE_ONES;
    memset(&c->bm, 0, sizeof(c->bm));
    for (unsigned i = 0; i < IDE_UNITS; i++)
        ata_init(&c->unit[i]);
    ide_reset_begin(c, 3);
    ide_reset_end(c);
    ide_unlock(c);
}

void ide_reset(struct ide *ide)
{
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        reset_channel(&ide->channel[i]);
}

/* --- registers --- */

static u8 read_status(struct ide_channel *c)
{
    const struct ide_unit *u = ide_selected(c);
    return unit_present(u) ? u->status : 0;
}

static u8 read_register(struct ide_channel *c, enum ide_register reg)
{
    struct ide_unit *u = ide_selected(c);
    bool alone = u == &c->unit[1] && unit_present(&c->unit[0]); /* drive 0 may have to answer */
    if (!unit_present(u) && (!alone || reg == REG_ERROR))
        return 0;
    if (reg == REG_DEVICE)
        return c->device;
    if (reg != REG_STATUS)
        return u->reg[c->control & CONTROL_HOB ? 1 : 0][reg];
    u8 status = read_status(c);
    ide_set_intrq(c, u, false);
    return status;
}

static void write_command(struct ide_channel *c, u8 command)
{
    struct ide_unit *u = ide_selected(c);
    if (!unit_present(u))
        return;
    ide_set_intrq(c, u, false);
    ata_command(c, command);
}

static void write_register(struct ide_channel *c, enum ide_register reg, u8 value)
{
    c->control &= ~CONTROL_HOB;
    if (reg == REG_STATUS) {
        write_command(c, value);
        return;
    }
    if (read_status(c) & (STATUS_BSY | STATUS_DRQ))
        return;
    if (reg == REG_DEVICE) {
        c->device = value | DEVICE_ONES;
        update_irq(c);
        return;
    }
    for (unsigned i = 0; i < IDE_UNITS; i++) {
        struct ide_unit *u = &c->unit[i];
        if (reg == REG_ERROR) {
            u->reg[1][REG_ERROR] = u->features;
            u->features = value;
        } else {
            u->reg[1][reg] = u->reg[0][reg];
            u->reg[0][reg] = value;
        }
    }
}

static void write_control(struct ide_channel *c, u8 value)
{
    u8 changed = value ^ c->control;
    c->control = value;
    update_irq(c);
    if (!(changed & CONTROL_SRST))
        return;
    if (value & CONTROL_SRST) {
        ide_reset_begin(c, 3);
        c->device = DEVICE_ONES;
    } else {
        ide_reset_end(c);
    }
}

static u32 block_in(void *ctx, u16 port, unsigned size)
{
    struct ide_channel *c = ctx;
    unsigned reg = port % IDE_REGISTERS;
    u32 value = 0;
    pthread_mutex_lock(&c->lock);
    if (reg == REG_DATA && size > 1) {
        value = ide_data_read(c, size);
    } else {
        for (unsigned i = 0; i < size; i++)
            value |= (reg + i ? read_register(c, reg + i) : 0xffU) << 8 * i;
    }
    ide_unlock(c);
    return value;
}

static void block_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct ide_channel *c = ctx;
    unsigned reg = port % IDE_REGISTERS;
    pthread_mutex_lock(&c->lock);
    if (reg == REG_DATA && size > 1) {
        ide_data_write(c, value, size);
    } else {
        for (unsigned i = 0; i < size; i++)
            if (reg + i != REG_DATA)
                write_register(c, reg + i, (u8)(value >> 8 * i));
    }
    ide_unlock(c);
}

static const struct port_ops block_ops = {block_in, block_out};

static u32 control_in(void *ctx, u16 port, unsigned size)
{
    struct ide_channel *c = ctx;
    (void)port;
    (void)size;
    pthread_mutex_lock(&c->lock);
    u8 value = read_status(c);
    pthread_mutex_unlock(&c->lock);
    return value;
}

static void control_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct ide_channel *c = ctx;
    (void)port;
    (void)size;
    pthread_mutex_lock(&c->lock);
    write_control(c, (u8)value);
    ide_unlock(c);
}

static const struct port_ops control_ops = {control_in, control_out};

static u32 bmdma_in(void *ctx, u16 port, unsigned size)
{
    struct ide *ide = ctx;
    struct ide_channel *c = &ide->channel[port / 8 % IDE_CHANNELS];
    (void)size;
    pthread_mutex_lock(&c->lock);
    u8 value = bmdma_read(c, port % 8);
    pthread_mutex_unlock(&c->lock);
    return value;
}

static void bmdma_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct ide *ide = ctx;
    struct ide_channel *c = &ide->channel[port / 8 % IDE_CHANNELS];
    (void)size;
    pthread_mutex_lock(&c->lock);
    bmdma_write(c, port % 8, (u8)value);
    ide_unlock(c);
}

static const struct port_ops bmdma_ops = {bmdma_in, bmdma_out};

/* --- life --- */

static int create_channel(struct ide *ide, const struct ide_options *opt, unsigned n)
{
    struct ide_channel *c = &ide->channel[n];
    c->ide = ide;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->quiet, NULL);
    wire_init(&c->irq, opt->irq[n]);
    for (unsigned i = 0; i < IDE_UNITS; i++) {
        c->unit[i].block = opt->drive[n][i].block;
        c->unit[i].cdrom = opt->drive[n][i].cdrom;
        c->unit[i].number = n * IDE_UNITS + i;
    }
    c->active = &c->unit[0];
    c->buffer = malloc(IDE_BUFFER);
    return c->buffer ? 0 : -ENOMEM;
}

int ide_create(const struct ide_options *opt, struct ide **out, struct error *err)
{
    struct ide *ide = calloc(1, sizeof(*ide));
    if (!ide)
        return error_set(err, ENOMEM, "no memory for the IDE controller");
    ide->gm = opt->gm;
    ide->pci = opt->pci;
    int rc = 0;
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        rc = create_channel(ide, opt, i) ? -ENOMEM : rc;
    if (rc) {
        ide_destroy(ide);
        return error_set(err, ENOMEM, "no memory for the IDE controller");
    }
    ide_reset(ide);
    *out = ide;
    return 0;
}

void ide_destroy(struct ide *ide)
{
    if (!ide)
        return;
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        struct ide_channel *c = &ide->channel[i];
        pthread_mutex_lock(&c->lock);
        ide_reset_begin(c, 3);
        while (c->callbacks)
            pthread_cond_wait(&c->quiet, &c->lock);
        pthread_mutex_unlock(&c->lock);
        wire_destroy(&c->irq);
        pthread_cond_destroy(&c->quiet);
        pthread_mutex_destroy(&c->lock);
        free(c->buffer);
    }
    free(ide);
}

/* The timing registers keep what is written; their decode bits are on. */
static int add_pci_function(struct ide *ide, struct port_bus *bus, struct error *err)
{
    struct pci_function f;
    struct port_range *range;
    int rc = port_range_create(bus, 8 * IDE_CHANNELS, &bmdma_ops, ide, NULL, false, &range, err);
    if (rc)
        return rc;
    pci_function_init(&f, 0x8086, PCI_IDE_ID, PCI_IDE_CLASS, 0);
    store_le(&f.reset[PCI_STATUS], 0x0280, 2); /* fast back-to-back, medium DEVSEL */
    store_le(&f.reset[PCI_TIMING], 0x80008000, 4);
    memset(&f.writable[PCI_TIMING], 0xff, 4);
    f.writable[PCI_TIMING2] = 0xff;
    pci_function_ports(&f, 4, 8 * IDE_CHANNELS, range);
    return pci_add_function(ide->pci, PC_IDE_DEVFN, &f, err);
}

int ide_attach(struct ide *ide, struct port_bus *bus, struct error *err)
{
    static const u16 block[] = {PC_IDE0, PC_IDE1}, control[] = {PC_IDE0_CONTROL, PC_IDE1_CONTROL};
    int rc = 0;
    for (unsigned i = 0; i < IDE_CHANNELS && !rc; i++) {
        struct ide_channel *c = &ide->channel[i];
        rc = portbus_add(bus, block[i], IDE_REGISTERS, &block_ops, c, NULL, true, err);
        if (!rc)
            rc = portbus_add(bus, control[i], 1, &control_ops, c, NULL, false, err);
    }
    return rc ? rc : add_pci_function(ide, bus, err);
}
