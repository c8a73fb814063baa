/*
 * ACPI fixed hardware (ACPI 6.4, 4.8) in the register layout of the PIIX4: PM1a event and control
 * blocks, the 24-bit power management timer, general purpose events, and the SMI command port that
 * switches to ACPI mode.
 */
#ifndef RINGER_DEV_ACPI_PM_H
#define RINGER_DEV_ACPI_PM_H

#include "base/error.h"
#include "cpu/irq.h"
#include "dev/power.h"
#include "host/clock.h"
#include "mem/portbus.h"

#define ACPI_PM_TIMER_HZ 3579545

struct acpi_pm;

int acpi_pm_create(struct clock *clock, const struct power *power, struct irq_line sci,
                   struct acpi_pm **out, struct error *err);
void acpi_pm_destroy(struct acpi_pm *pm);

/* Ports [PC_PM_BASE, + PC_PM_SIZE), PC_SMI_CMD and the status byte behind it. */
int acpi_pm_attach(struct acpi_pm *pm, struct port_bus *bus, struct error *err);

void acpi_pm_reset(struct acpi_pm *pm);

/* The user presses the power button. Returns false if the guest has not asked to be told (no ACPI,
 * or the event is off). From any thread. */
bool acpi_pm_power_button(struct acpi_pm *pm);

/* A general purpose event, 0 to 15, happened. From any thread. */
void acpi_pm_raise_gpe(struct acpi_pm *pm, unsigned n);

#endif
