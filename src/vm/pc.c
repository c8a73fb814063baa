/*
 * The board: an i440FX/PIIX-like PC. Creates every chip, gives each its ports and wires, in the
 * order in which they depend on each other. ISA interrupt n goes to input n of the PICs and to pin
 * n of the I/O APIC, but for the timer, which is on pin 2 (the ACPI MADT says so, boot/acpi.c).
 */
#include "vm/pc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/timebase.h"
#include "cpu/irq.h"
#include "dev/acpi_pm.h"
#include "dev/debug_exit.h"
#include "dev/debugcon.h"
#include "dev/fdc.h"
#include "dev/fw_cfg.h"
#include "dev/i440fx.h"
#include "dev/i8042.h"
#include "dev/i8237.h"
#include "dev/i8254.h"
#include "dev/i8259.h"
#include "dev/ide.h"
#include "dev/ioapic.h"
#include "dev/lapic.h"
#include "dev/mc146818.h"
#include "dev/pci.h"
#include "dev/pcmap.h"
#include "dev/piix.h"
#include "dev/pirq.h"
#include "dev/reset_ports.h"
#include "dev/uart16550.h"
#include "dev/vga.h"
#include "dev/virtio_blk.h"
#include "host/chardev.h"
#include "host/keys.h"
#include "vm/firmware.h"

#define IOAPIC_ID 0 /* as the MADT says */

struct pc {
    struct pc_options opt;
    struct lapic_bus *lapics;
    struct i8259 *pic;
    struct ioapic *ioapic;
    struct i8254 *pit;
    struct mc146818 *rtc;
    struct i8237 *dma;
    struct fdc *fdc;
    struct i8042 *i8042;
    struct key_typist *typist;
    struct chardev *console;
    struct uart16550 *com1;
    struct reset_ports *reset_ports;
    struct pci_bus *pci;
    struct pirq *pirq;
    struct i440fx *i440fx;
    struct piix *piix;
    struct vga *vga;
    struct ide *ide;
    struct virtio_blk *virtio[MAX_DISKS];
    struct display *display;
    struct acpi_pm *acpi_pm;
    struct fw_cfg *fw_cfg;
    struct chardev *debugcon_out;
    struct debugcon *debugcon;
    struct debug_exit *debug_exit;
};

/* ISA interrupt n: a wire with two ends. */
static void isa_irq(void *ctx, unsigned n, int level)
{
    struct pc *pc = ctx;
    i8259_set_irq(pc->pic, n, level);
    ioapic_set_irq(pc->ioapic, n == PC_IRQ_TIMER ? 2 : n, level);
}

static struct irq_line isa_line(struct pc *pc, unsigned n)
{
    return (struct irq_line){.set = isa_irq, .ctx = pc, .n = n};
}

static int create_interrupt_controllers(struct pc *pc, struct error *err)
{
    struct machine *m = pc->opt.machine;
    int rc = lapic_bus_create(m, pc->opt.clock, &pc->lapics, err);
    if (rc < 0)
        return rc;
    struct irq_line intr = {.set = lapic_set_lint, .ctx = pc->lapics, .n = 0};
    if ((rc = i8259_create(&intr, &pc->pic, err)) < 0 ||
        (rc = ioapic_create(pc->lapics, IOAPIC_ID, &pc->ioapic, err)) < 0)
        return rc;
    lapic_bus_connect_pic(pc->lapics, i8259_acknowledge, pc->pic);
    if ((rc = lapic_bus_attach(pc->lapics, m->mem, err)) < 0 ||
        (rc = ioapic_attach(pc->ioapic, m->mem, err)) < 0)
        return rc;
    return i8259_attach(pc->pic, m->ports, err);
}

static u8 floppy_type(const struct pc *pc, unsigned n)
{
    const struct block *disk = pc->opt.disks->floppy[n];
    return disk ? (u8)fdc_drive_type(disk->size) : 0;
}

static int create_clocks(struct pc *pc, struct error *err)
{
    struct machine *m = pc->opt.machine;
    struct irq_line irq0 = isa_line(pc, PC_IRQ_TIMER);
    struct mc146818_config config = {
        .start_realtime_ns = m->time->start_realtime_ns,
        .ram_size = guestmem_ram_size(m->mem),
        .ncpus = m->ncpus,
        .floppy = {floppy_type(pc, 0), floppy_type(pc, 1)},
        .boot_order = pc->opt.boot_order,
    };
    int rc;
    if ((rc = i8254_create(pc->opt.clock, &irq0, &pc->pit, err)) < 0 ||
        (rc = i8254_attach(pc->pit, m->ports, err)) < 0 ||
        (rc = mc146818_create(&config, pc->opt.clock, isa_line(pc, PC_IRQ_RTC), &pc->rtc, err)) < 0)
        return rc;
    return mc146818_attach(pc->rtc, m->ports, err);
}

static int create_dma_and_floppy(struct pc *pc, struct error *err)
{
    struct machine *m = pc->opt.machine;
    int rc;
    if ((rc = i8237_create(m->mem, &pc->dma, err)) < 0 ||
        (rc = i8237_attach(pc->dma, m->ports, err)) < 0)
        return rc;
    struct fdc_options opt = {
        .dma = pc->dma,
        .dma_channel = PC_DMA_FLOPPY,
        .irq = isa_line(pc, PC_IRQ_FLOPPY),
        .drive = {pc->opt.disks->floppy[0], pc->opt.disks->floppy[1]},
    };
    rc = fdc_create(&opt, &pc->fdc, err);
    return rc < 0 ? rc : fdc_attach(pc->fdc, m->ports, err);
}

static int open_console(struct pc *pc, struct error *err)
{
    const char *serial = pc->opt.serial;
    if (strcmp(serial, "stdio") == 0)
        return chardev_stdio(pc->opt.quit, pc->opt.quit_ctx, &pc->console, err);
    if (strncmp(serial, "file:", 5) == 0)
        return chardev_file(serial + 5, &pc->console, err);
    pc->console = chardev_null();
    return pc->console ? 0 : error_set(err, ENOMEM, "no memory for the console");
}

static int create_serial_and_keyboard(struct pc *pc, struct error *err)
{
    struct port_bus *ports = pc->opt.machine->ports;
    int rc = open_console(pc, err);
    if (rc < 0)
        return rc;
    if ((rc = uart16550_create(pc->console, isa_line(pc, PC_IRQ_COM1), &pc->com1, err)) < 0 ||
        (rc = uart16550_attach(pc->com1, ports, PC_COM1, err)) < 0 ||
        (rc = i8042_create(&pc->opt.power, pc->opt.clock, isa_line(pc, PC_IRQ_KEYBOARD),
                           isa_line(pc, PC_IRQ_MOUSE), &pc->i8042, err)) < 0)
        return rc;
    return i8042_attach(pc->i8042, ports, err);
}

/* The user's seconds are the host's. */
static int create_typist(struct pc *pc, struct error *err)
{
    const struct pc_options *o = &pc->opt;
    u64 second_ns = NSEC_PER_SEC / o->machine->time->slow;
    if (!o->nkeys)
        return 0;
    return key_typist_create(o->clock, i8042_input(pc->i8042), o->keys, o->nkeys, second_ns,
                             &pc->typist, err);
}

static void gsi(void *ctx, unsigned n, int level)
{
    struct pc *pc = ctx;
    ioapic_set_irq(pc->ioapic, n, level);
}

static int create_pci(struct pc *pc, struct error *err)
{
    struct machine *m = pc->opt.machine;
    struct irq_line isa = isa_line(pc, 0), ioapic = {.set = gsi, .ctx = pc};
    int rc;
    if ((rc = reset_ports_create(&pc->opt.power, &pc->reset_ports, err)) < 0 ||
        (rc = reset_ports_attach(pc->reset_ports, m->ports, err)) < 0 ||
        (rc = pci_create(pc->reset_ports, &pc->pci, err)) < 0 ||
        (rc = pci_attach(pc->pci, m->ports, err)) < 0 ||
        (rc = pirq_create(isa, ioapic, &pc->pirq, err)) < 0 ||
        (rc = i440fx_create(m->mem, pc->pci, !pc->opt.firmware, &pc->i440fx, err)) < 0)
        return rc;
    return piix_create(pc->pci, pc->pirq, !pc->opt.firmware, &pc->piix, err);
}

/* CDs from the second channel's first place on, disks where there is room, from the first channel
 * on. */
static int place_ide(const struct disks *d, struct ide_drive drive[IDE_CHANNELS][IDE_UNITS],
                     unsigned *used, struct error *err)
{
    struct ide_drive *slot = &drive[0][0];
    const unsigned slots = IDE_CHANNELS * IDE_UNITS;
    unsigned n = 0;
    for (unsigned i = 0; i < MAX_CDROMS; i++)
        if (d->cdrom[i])
            slot[(slots / 2 + n++) % slots] = (struct ide_drive){d->cdrom[i], true};
    *used = n;
    for (unsigned i = 0, at = 0; i < MAX_DISKS; i++) {
        if (!d->disk[i] || d->interface[i] != DISK_IDE)
            continue;
        while (at < slots && slot[at].block)
            at++;
        if (at == slots)
            return error_set(err, EINVAL,
                             "more than %u IDE disks and CDs; give some of the disks if=virtio",
                             slots);
        slot[at].block = d->disk[i];
        ++*used;
    }
    return 0;
}

/* A guest that is loaded without firmware has no controller without a drive. */
static int create_ide(struct pc *pc, struct error *err)
{
    struct machine *m = pc->opt.machine;
    struct ide_options opt = {
        .gm = m->mem,
        .pci = pc->pci,
        .irq = {isa_line(pc, PC_IRQ_IDE0), isa_line(pc, PC_IRQ_IDE1)},
    };
    unsigned used;
    int rc = place_ide(pc->opt.disks, opt.drive, &used, err);
    if (rc < 0 || (!used && !pc->opt.firmware))
        return rc;
    rc = ide_create(&opt, &pc->ide, err);
    return rc < 0 ? rc : ide_attach(pc->ide, m->ports, err);
}

static int create_virtio(struct pc *pc, struct error *err)
{
    const struct disks *d = pc->opt.disks;
    for (unsigned i = 0; i < MAX_DISKS; i++) {
        unsigned slot = PC_VIRTIO_SLOT + i;
        char serial[24];
        if (!d->disk[i] || d->interface[i] != DISK_VIRTIO)
            continue;
        snprintf(serial, sizeof(serial), "ringer-disk-%u", i);
        struct virtio_blk_options opt = {
            .gm = pc->opt.machine->mem,
            .ports = pc->opt.machine->ports,
            .pci = pc->pci,
            .apics = pc->lapics,
            .devfn = PCI_DEVFN(slot, 0),
            .intx = {.set = pirq_set, .ctx = pc->pirq, .n = slot * 4},
            .block = d->disk[i],
            .serial = serial,
        };
        int rc = virtio_blk_create(&opt, &pc->virtio[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int create_power(struct pc *pc, struct error *err)
{
    int rc =
        acpi_pm_create(pc->opt.clock, &pc->opt.power, isa_line(pc, PC_IRQ_ACPI), &pc->acpi_pm, err);
    if (rc < 0)
        return rc;
    return acpi_pm_attach(pc->acpi_pm, pc->opt.machine->ports, err);
}

static int create_display(struct pc *pc, struct error *err)
{
    struct machine *m = pc->opt.machine;
    int rc = vga_create(m->mem, pc->opt.clock, &pc->vga, err);
    if (rc < 0)
        return rc;
    if ((rc = vga_attach(pc->vga, m->ports, pc->pci, PC_VGA_DEVFN, err)) < 0)
        return rc;
    const struct display_settings *d = &pc->opt.display;
    struct display_source source = vga_display(pc->vga);
    struct input_sink sink = i8042_input(pc->i8042);
    if (d->kind == DISPLAY_VNC)
        return display_vnc(d->vnc, d->password_file, &source, &sink, &pc->display, err);
    if (d->kind == DISPLAY_TEXT)
        return display_text(STDIN_FILENO, STDOUT_FILENO, &source, &sink, pc->opt.quit,
                            pc->opt.quit_ctx, &pc->display, err);
    return 0;
}

static int create_firmware_ports(struct pc *pc, struct error *err)
{
    struct machine *m = pc->opt.machine;
    int rc;
    if ((rc = fw_cfg_create(m->mem, &pc->fw_cfg, err)) < 0 ||
        (rc = fw_cfg_add_int(pc->fw_cfg, FW_CFG_RAM_SIZE, guestmem_ram_size(m->mem), 8, err)) < 0 ||
        (rc = fw_cfg_add_int(pc->fw_cfg, FW_CFG_NB_CPUS, m->ncpus, 2, err)) < 0 ||
        (rc = fw_cfg_attach(pc->fw_cfg, m->ports, err)) < 0)
        return rc;
    if (pc->opt.firmware &&
        (rc = firmware_add_files(pc->fw_cfg, guestmem_ram_size(m->mem), m->ncpus, err)) < 0)
        return rc;
    return 0;
}

/* Ports for those who test firmware and kernels. */
static int create_debug_ports(struct pc *pc, struct error *err)
{
    struct port_bus *ports = pc->opt.machine->ports;
    int rc;
    if (pc->opt.debugcon && ((rc = chardev_file(pc->opt.debugcon, &pc->debugcon_out, err)) < 0 ||
                             (rc = debugcon_create(pc->debugcon_out, &pc->debugcon, err)) < 0 ||
                             (rc = debugcon_attach(pc->debugcon, ports, err)) < 0))
        return rc;
    if (!pc->opt.debug_exit)
        return 0;
    if ((rc = debug_exit_create(&pc->opt.power, &pc->debug_exit, err)) < 0)
        return rc;
    return debug_exit_attach(pc->debug_exit, ports, err);
}

/* What firmware would have programmed: the interrupts that PCI functions share are level-triggered.
 */
static void set_without_firmware(struct pc *pc)
{
    static const u8 route[] = PC_PIRQ_ROUTE;
    u32 levels = 0;
    for (unsigned n = 0; n < ARRAY_SIZE(route); n++)
        levels |= 1u << route[n];
    if (!pc->opt.firmware)
        port_out(pc->opt.machine->ports, PC_ELCR, levels, 2);
}

/* In the order in which they depend on each other. */
static int (*const steps[])(struct pc *pc, struct error *err) = {
    create_interrupt_controllers,
    create_clocks,
    create_dma_and_floppy,
    create_serial_and_keyboard,
    create_pci,
    create_ide,
    create_virtio,
    create_power,
    create_display,
    create_firmware_ports,
    create_debug_ports,
    create_typist,
};

int pc_create(const struct pc_options *opt, struct pc **out, struct error *err)
{
    struct pc *pc = calloc(1, sizeof(*pc));
    if (!pc)
        return error_set(err, ENOMEM, "no memory for the board");
    pc->opt = *opt;
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        int rc = steps[i](pc, err);
        if (rc < 0) {
            pc_destroy(pc);
            return rc;
        }
    }
    set_without_firmware(pc);
    *out = pc;
    return 0;
}

/* Chips that pull wires go before the ones at the wires' other ends; before all, those who look at
 * the chips from outside. */
void pc_destroy(struct pc *pc)
{
    pc_close_console(pc);
    key_typist_destroy(pc->typist);
    debug_exit_destroy(pc->debug_exit);
    debugcon_destroy(pc->debugcon);
    chardev_destroy(pc->debugcon_out);
    fw_cfg_destroy(pc->fw_cfg);
    acpi_pm_destroy(pc->acpi_pm);
    for (unsigned i = 0; i < MAX_DISKS; i++)
        virtio_blk_destroy(pc->virtio[i]);
    ide_destroy(pc->ide);
    piix_destroy(pc->piix);
    i440fx_destroy(pc->i440fx);
    vga_destroy(pc->vga);
    pci_destroy(pc->pci);
    pirq_destroy(pc->pirq);
    reset_ports_destroy(pc->reset_ports);
    i8042_destroy(pc->i8042);
    fdc_destroy(pc->fdc);
    i8237_destroy(pc->dma);
    uart16550_destroy(pc->com1);
    mc146818_destroy(pc->rtc);
    i8254_destroy(pc->pit);
    ioapic_destroy(pc->ioapic);
    i8259_destroy(pc->pic);
    lapic_bus_destroy(pc->lapics);
    free(pc);
}

void pc_reset(struct pc *pc)
{
    i8259_reset(pc->pic);
    ioapic_reset(pc->ioapic);
    i8254_reset(pc->pit);
    mc146818_reset(pc->rtc);
    uart16550_reset(pc->com1);
    i8042_reset(pc->i8042);
    i8237_reset(pc->dma);
    fdc_reset(pc->fdc);
    reset_ports_reset(pc->reset_ports);
    pirq_reset(pc->pirq);
    pci_reset(pc->pci);
    i440fx_reset(pc->i440fx);
    piix_reset(pc->piix);
    if (pc->ide)
        ide_reset(pc->ide);
    for (unsigned i = 0; i < MAX_DISKS; i++)
        if (pc->virtio[i])
            virtio_blk_reset(pc->virtio[i]);
    vga_reset(pc->vga);
    acpi_pm_reset(pc->acpi_pm);
    fw_cfg_reset(pc->fw_cfg);
    pc->opt.power.ops->set_a20(pc->opt.power.ctx, true);
    set_without_firmware(pc);
}

struct display_source pc_display(struct pc *pc)
{
    return vga_display(pc->vga);
}

int pc_start(struct pc *pc, struct error *err)
{
    return chardev_start(pc->console, err);
}

void pc_stop_console(struct pc *pc)
{
    chardev_stop(pc->console);
}

void pc_close_console(struct pc *pc)
{
    display_destroy(pc->display);
    pc->display = NULL;
    chardev_destroy(pc->console);
    pc->console = NULL;
}
