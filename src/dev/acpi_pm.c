/*
 * ACPI fixed hardware. The registers are bytes of a small block, so accesses of every size come out
 * right; status bits are cleared by writing ones. The timer's overflow status is computed when
 * somebody looks; a host timer exists only while the guest wants an interrupt for it.
 */
#include "dev/acpi_pm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/pcmap.h"
#include "dev/wire.h"

/* Offsets from PC_PM_BASE; 16-bit registers, the timer has 32. */
#define REG_PM1_STATUS  0x00
#define REG_PM1_ENABLE  0x02
#define REG_PM1_CONTROL 0x04
#define REG_TIMER       0x08
#define REG_GPE_STATUS  (PC_PM_GPE0 - PC_PM_BASE)
#define REG_GPE_ENABLE  (REG_GPE_STATUS + 2)

#define PM1_TIMER        0x0001
#define PM1_GLOBAL       0x0020
#define PM1_POWER_BUTTON 0x0100
#define PM1_SLEEP_BUTTON 0x0200
#define PM1_RTC          0x0400
#define PM1_EVENTS       (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC)

#define CONTROL_SCI     0x0001
#define CONTROL_BM_RLD  0x0002
#define CONTROL_TYPE    0x1c00
#define CONTROL_KEPT    (CONTROL_SCI | CONTROL_BM_RLD | CONTROL_TYPE)
#define CONTROL_SLEEP   0x2000
#define CONTROL_TYPE_AT 10

#define TIMER_MASK 0xffffff
/* The status bit is set whenever the timer's highest bit changes. */
#define TIMER_HALF 0x800000

struct acpi_pm {
    struct clock *clock;
    struct power power;
    struct timer *timer;
    struct wire sci;
    pthread_mutex_t lock;
    u16 pm1_status, pm1_enable, pm1_control;
    u16 gpe_status, gpe_enable;
    u64 halves; /* half periods of the timer up to here have set PM1_TIMER */
    u8 smi[2];  /* command and status ports, as last written */
};

static u64 pm_ticks(const struct acpi_pm *pm)
{
    return ns_to_ticks(clock_now(pm->clock), ACPI_PM_TIMER_HZ);
}

static void pm_catch_up(struct acpi_pm *pm)
{
    u64 halves = pm_ticks(pm) / TIMER_HALF;
    if (halves != pm->halves)
        pm->pm1_status |= PM1_TIMER;
    pm->halves = halves;
}

/* Ends an access: brings interrupt and timer in line with the registers and drops the lock. Without
 * SCI_EN the events would be SMIs, which this machine does not have. */
static void pm_unlock(struct acpi_pm *pm)
{
    pm_catch_up(pm);
    bool event =
        (pm->pm1_status & pm->pm1_enable & PM1_EVENTS) || (pm->gpe_status & pm->gpe_enable);
    if (pm->pm1_enable & ~pm->pm1_status & PM1_TIMER)
        timer_arm(pm->timer, ticks_to_ns((pm->halves + 1) * TIMER_HALF, ACPI_PM_TIMER_HZ));
    else
        timer_cancel(pm->timer);
    wire_level(&pm->sci, event && (pm->pm1_control & CONTROL_SCI));
    pthread_mutex_unlock(&pm->lock);
    wire_flush(&pm->sci);
}

static void pm_timer(void *ctx)
{
    struct acpi_pm *pm = ctx;
    pthread_mutex_lock(&pm->lock);
    pm_unlock(pm);
}

/* The 16-bit register at an even offset; NULL where there is none. */
static u16 *pm_register(struct acpi_pm *pm, unsigned off)
{
    switch (off) {
    case REG_PM1_STATUS:
        return &pm->pm1_status;
    case REG_PM1_ENABLE:
        return &pm->pm1_enable;
    case REG_PM1_CONTROL:
        return &pm->pm1_control;
    case REG_GPE_STATUS:
        return &pm->gpe_status;
    case REG_GPE_ENABLE:
        return &pm->gpe_enable;
    default:
        return NULL;
    }
}

static u8 pm_read_byte(struct acpi_pm *pm, unsigned off, u32 timer)
{
    const u16 *reg = pm_register(pm, off & ~1U);
    if (reg)
        return (u8)(*reg >> (off & 1) * 8);
    if (off >= REG_TIMER && off < REG_TIMER + 4)
        return (u8)(timer >> (off - REG_TIMER) * 8);
    return 0;
}

/* Returns whether the write asks for soft-off. */
static bool pm_write_byte(struct acpi_pm *pm, unsigned off, u8 byte)
{
    u16 *reg = pm_register(pm, off & ~1U);
    unsigned shift = (off & 1) * 8;
    u16 value = (u16)(byte << shift);
    if (!reg)
        return false;
    if (reg == &pm->pm1_status || reg == &pm->gpe_status) {
        *reg &= ~value;
        return false;
    }
    *reg = (*reg & ~(0xff << shift)) | value;
    pm->pm1_enable &= PM1_EVENTS;
    pm->pm1_control &= CONTROL_KEPT;
    return reg == &pm->pm1_control && (value & CONTROL_SLEEP) &&
           (value & CONTROL_TYPE) >> CONTROL_TYPE_AT == PC_ACPI_S5_TYPE;
}

static u32 pm_in(void *ctx, u16 port, unsigned size)
{
    struct acpi_pm *pm = ctx;
    u32 value = 0;
    pthread_mutex_lock(&pm->lock);
    pm_catch_up(pm);
    u32 timer = pm_ticks(pm) & TIMER_MASK;
    for (unsigned i = 0; i < size; i++)
        value |= (u32)pm_read_byte(pm, port - PC_PM_BASE + i, timer) << 8 * i;
    pm_unlock(pm);
    return value;
}

static void pm_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct acpi_pm *pm = ctx;
    bool off = false;
    pthread_mutex_lock(&pm->lock);
    pm_catch_up(pm);
    for (unsigned i = 0; i < size; i++)
        off |= pm_write_byte(pm, port - PC_PM_BASE + i, (u8)(value >> 8 * i));
    pm_unlock(pm);
    if (off)
        pm->power.ops->power_off(pm->power.ctx);
}

static const struct port_ops pm_ops = {pm_in, pm_out};

static u32 smi_in(void *ctx, u16 port, unsigned size)
{
    struct acpi_pm *pm = ctx;
    (void)size;
    pthread_mutex_lock(&pm->lock);
    u8 value = pm->smi[port & 1];
    pthread_mutex_unlock(&pm->lock);
    return value;
}

static void smi_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct acpi_pm *pm = ctx;
    (void)size;
    pthread_mutex_lock(&pm->lock);
    pm->smi[port & 1] = (u8)value;
    if (port == PC_SMI_CMD && value == PC_ACPI_ENABLE)
        pm->pm1_control |= CONTROL_SCI;
    else if (port == PC_SMI_CMD && value == PC_ACPI_DISABLE)
        pm->pm1_control &= ~CONTROL_SCI;
    pm_unlock(pm);
}

static const struct port_ops smi_ops = {smi_in, smi_out};

bool acpi_pm_power_button(struct acpi_pm *pm)
{
    pthread_mutex_lock(&pm->lock);
    pm->pm1_status |= PM1_POWER_BUTTON;
    bool heard = (pm->pm1_enable & PM1_POWER_BUTTON) && (pm->pm1_control & CONTROL_SCI);
    pm_unlock(pm);
    return heard;
}

void acpi_pm_raise_gpe(struct acpi_pm *pm, unsigned n)
{
    assert(n < 16);
    pthread_mutex_lock(&pm->lock);
    pm->gpe_status |= (u16)(1U << n);
    pm_unlock(pm);
}

int acpi_pm_create(struct clock *clock, const struct power *power, struct irq_line sci,
                   struct acpi_pm **out, struct error *err)
{
    struct acpi_pm *pm = calloc(1, sizeof(*pm));
    if (!pm)
        return error_set(err, ENOMEM, "no memory for the power management chip");
    pm->clock = clock;
    pm->power = *power;
    wire_init(&pm->sci, sci);
    pthread_mutex_init(&pm->lock, NULL);
    pm->halves = pm_ticks(pm) / TIMER_HALF;
    pm->timer = timer_create_on(clock, pm_timer, pm);
    if (!pm->timer) {
        acpi_pm_destroy(pm);
        return error_set(err, ENOMEM, "no memory for the power management timer");
    }
    *out = pm;
    return 0;
}

void acpi_pm_destroy(struct acpi_pm *pm)
{
    if (!pm)
        return;
    if (pm->timer)
        timer_destroy(pm->timer);
    wire_destroy(&pm->sci);
    pthread_mutex_destroy(&pm->lock);
    free(pm);
}

int acpi_pm_attach(struct acpi_pm *pm, struct port_bus *bus, struct error *err)
{
    int rc = portbus_add(bus, PC_PM_BASE, PC_PM_SIZE, &pm_ops, pm, NULL, true, err);
    if (rc == 0)
        rc = portbus_add(bus, PC_SMI_CMD, 2, &smi_ops, pm, NULL, false, err);
    if (rc == 0)
        port_show_counter(bus, PC_PM_BASE + REG_TIMER,
                          (struct port_counter){ACPI_PM_TIMER_HZ, TIMER_MASK});
    return rc;
}

void acpi_pm_reset(struct acpi_pm *pm)
{
    pthread_mutex_lock(&pm->lock);
    pm_catch_up(pm);
    pm->pm1_status = pm->pm1_enable = pm->pm1_control = 0;
    pm->gpe_status = pm->gpe_enable = 0;
    memset(pm->smi, 0, sizeof(pm->smi));
    pm_unlock(pm);
}
