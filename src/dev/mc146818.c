/*
 * The real-time clock. The time is not stored: it is guest time plus a base, split into a calendar
 * when the guest reads it. Only while the clock is frozen (SET, or the divider in reset) do the
 * register bytes hold the time; when it runs again, the base is computed from them. Flags in
 * register C are brought up to date when somebody looks (rtc_catch_up); timers exist only for
 * interrupts that are enabled and not yet pending, so a guest that doesn't acknowledge costs
 * nothing. Numbers of sections are those of the MC146818A data sheet.
 */
#include "dev/mc146818.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "dev/pcmap.h"
#include "dev/wire.h"
#include "mem/guestmem.h"

#define CMOS_SIZE 128

enum rtc_reg {
    RTC_SECONDS = 0x00,
    RTC_SECONDS_ALARM = 0x01,
    RTC_MINUTES = 0x02,
    RTC_MINUTES_ALARM = 0x03,
    RTC_HOURS = 0x04,
    RTC_HOURS_ALARM = 0x05,
    RTC_WEEKDAY = 0x06,
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_A = 0x0a,
    RTC_B = 0x0b,
    RTC_C = 0x0c,
    RTC_D = 0x0d,
    CMOS_FLOPPIES = 0x10, /* types: first drive in the upper half */
    CMOS_EQUIPMENT = 0x14,
    CMOS_BASE_MEMORY = 0x15,     /* KiB */
    CMOS_EXTENDED_MEMORY = 0x17, /* KiB above 1 MiB; again at 0x30 */
    CMOS_CHECKSUM = 0x2e,        /* big-endian sum of 0x10..0x2d */
    CMOS_EXTENDED_AGAIN = 0x30,
    RTC_CENTURY = 0x32,
    CMOS_ABOVE_16M = 0x34, /* 64 KiB units */
    CMOS_BOOT_3 = 0x38,    /* third device in the upper half */
    CMOS_BOOT_12 = 0x3d,   /* second, first */
    CMOS_ABOVE_4G = 0x5b,  /* 64 KiB units, 3 bytes */
    CMOS_CPUS = 0x5f,      /* less one */
};

#define A_UIP         0x80
#define A_DIVIDER     0x70
#define A_DIVIDER_32K 0x20
#define A_RATE        0x0f
#define B_SET         0x80
#define B_PERIODIC    0x40
#define B_ALARM       0x20
#define B_UPDATE      0x10
#define B_SQUARE_WAVE 0x08
#define B_BINARY      0x04
#define B_24H         0x02
#define C_IRQ         0x80
#define C_FLAGS       0x70 /* PF, AF, UF: same bits as the enables in B */
#define D_VALID       0x80

#define EQUIPMENT_FLOPPY       0x01
#define EQUIPMENT_FPU          0x02
#define EQUIPMENT_MOUSE        0x04
#define EQUIPMENT_TWO_FLOPPIES 0x40

#define ALARM_ANY    0xc0 /* 3.6.2.1: both top bits set: don't care */
#define HOUR_PM      0x80
#define UPDATE_NS    244000 /* UIP rises this long before the update */
#define SECS_PER_DAY 86400
#define RTC_HZ       32768

struct wall_time {
    i64 sec; /* since 1970 */
    u32 ns;
};

struct mc146818 {
    struct clock *clock;
    struct timer *second_timer;
    struct timer *periodic_timer;
    struct wire irq;
    pthread_mutex_t lock;
    struct wall_time base; /* at guest time 0 */
    i64 last_sec;          /* seconds up to here have set UF and AF */
    u64 last_period;       /* periods up to here have set PF */
    u8 index;
    u8 cmos[CMOS_SIZE];
};

static bool divider_runs(const struct mc146818 *r)
{
    return (r->cmos[RTC_A] & A_DIVIDER) == A_DIVIDER_32K;
}

static bool rtc_runs(const struct mc146818 *r)
{
    return divider_runs(r) && !(r->cmos[RTC_B] & B_SET);
}

static struct wall_time rtc_now(const struct mc146818 *r, u64 now)
{
    u64 ns = r->base.ns + now % NSEC_PER_SEC;
    return (struct wall_time){
        r->base.sec + (i64)(now / NSEC_PER_SEC) + (i64)(ns / NSEC_PER_SEC),
        (u32)(ns % NSEC_PER_SEC),
    };
}

/* Moves the base so that the clock shows `t` at guest time now. */
static void rtc_set_base(struct mc146818 *r, u64 now, struct wall_time t)
{
    i64 ns = (i64)t.ns - (i64)(now % NSEC_PER_SEC);
    r->base.sec = t.sec - (i64)(now / NSEC_PER_SEC) - (ns < 0);
    r->base.ns = (u32)(ns < 0 ? ns + (i64)NSEC_PER_SEC : ns);
    r->last_sec = t.sec;
}

/* --- register encoding (3.4): BCD or binary, 12 or 24 hours --- */

static u8 encode(const struct mc146818 *r, int value)
{
    if (r->cmos[RTC_B] & B_BINARY)
        return (u8)value;
    return (u8)((value / 10 % 10) << 4 | value % 10);
}

static int decode(const struct mc146818 *r, u8 value)
{
    return r->cmos[RTC_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 0x0f);
}

static u8 encode_hour(const struct mc146818 *r, int hour)
{
    if (r->cmos[RTC_B] & B_24H)
        return encode(r, hour);
    return encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct mc146818 *r, u8 value)
{
    if (r->cmos[RTC_B] & B_24H)
        return decode(r, value);
    return decode(r, value & ~HOUR_PM) % 12 + (value & HOUR_PM ? 12 : 0);
}

static void rtc_store_time(struct mc146818 *r, i64 sec)
{
    struct tm tm;
    time_t t = sec;
    if (!gmtime_r(&t, &tm))
        return;
    int year = MAX(tm.tm_year + 1900, 0);
    r->cmos[RTC_SECONDS] = encode(r, tm.tm_sec);
    r->cmos[RTC_MINUTES] = encode(r, tm.tm_min);
    r->cmos[RTC_HOURS] = encode_hour(r, tm.tm_hour);
    r->cmos[RTC_WEEKDAY] = encode(r, tm.tm_wday + 1);
    r->cmos[RTC_DAY] = encode(r, tm.tm_mday);
    r->cmos[RTC_MONTH] = encode(r, tm.tm_mon + 1);
    r->cmos[RTC_YEAR] = encode(r, year % 100);
    r->cmos[RTC_CENTURY] = encode(r, year / 100);
}

/* What the registers say; values out of range carry over, as timegm has it. */
static i64 rtc_load_time(const struct mc146818 *r)
{
    struct tm tm = {
        .tm_sec = decode(r, r->cmos[RTC_SECONDS]),
        .tm_min = decode(r, r->cmos[RTC_MINUTES]),
        .tm_hour = decode_hour(r, r->cmos[RTC_HOURS]),
        .tm_mday = decode(r, r->cmos[RTC_DAY]),
        .tm_mon = decode(r, r->cmos[RTC_MONTH]) - 1,
        .tm_year = decode(r, r->cmos[RTC_CENTURY]) * 100 + decode(r, r->cmos[RTC_YEAR]) - 1900,
    };
    return timegm(&tm);
}

static bool is_time_reg(u8 reg)
{
    switch (reg) {
    case RTC_SECONDS:
    case RTC_MINUTES:
    case RTC_HOURS:
    case RTC_WEEKDAY:
    case RTC_DAY:
    case RTC_MONTH:
    case RTC_YEAR:
    case RTC_CENTURY:
        return true;
    default:
        return false;
    }
}

/* --- flags and interrupts --- */

/* Length of a period in ticks of 32768 Hz, or 0 (table 5: rates 1 and 2 repeat 8 and 9). */
static u64 period_ticks(const struct mc146818 *r)
{
    unsigned rate = r->cmos[RTC_A] & A_RATE;
    if (!rate || !divider_runs(r))
        return 0;
    return 1ULL << (rate <= 2 ? rate + 6 : rate - 1);
}

static u64 period_number(const struct mc146818 *r, u64 now)
{
    u64 ticks = period_ticks(r);
    return ticks ? ns_to_ticks(now, RTC_HZ) / ticks : 0;
}

static bool alarm_matches(u8 alarm, int decoded, int value)
{
    return (alarm & ALARM_ANY) == ALARM_ANY || decoded == value;
}

static bool alarm_at(const struct mc146818 *r, i64 sec)
{
    const u8 *c = r->cmos;
    int day_sec = (int)(((sec % SECS_PER_DAY) + SECS_PER_DAY) % SECS_PER_DAY);
    return alarm_matches(c[RTC_SECONDS_ALARM], decode(r, c[RTC_SECONDS_ALARM]), day_sec % 60) &&
           alarm_matches(c[RTC_MINUTES_ALARM], decode(r, c[RTC_MINUTES_ALARM]),
                         day_sec / 60 % 60) &&
           alarm_matches(c[RTC_HOURS_ALARM], decode_hour(r, c[RTC_HOURS_ALARM]), day_sec / 3600);
}

static void catch_up_seconds(struct mc146818 *r, u64 now)
{
    i64 sec = rtc_now(r, now).sec;
    if (!rtc_runs(r) || sec == r->last_sec)
        return;
    r->cmos[RTC_C] |= B_UPDATE;
    /* The alarm repeats every day, so looking back one day is enough. */
    i64 first = MAX(r->last_sec, sec - SECS_PER_DAY) + 1;
    for (i64 s = first; s <= sec && !(r->cmos[RTC_C] & B_ALARM); s++) {
        if (alarm_at(r, s))
            r->cmos[RTC_C] |= B_ALARM;
    }
    r->last_sec = sec;
}

static void catch_up_periods(struct mc146818 *r, u64 now)
{
    u64 period = period_number(r, now);
    if (period > r->last_period)
        r->cmos[RTC_C] |= B_PERIODIC;
    r->last_period = period;
}

static void rtc_catch_up(struct mc146818 *r, u64 now)
{
    catch_up_seconds(r, now);
    catch_up_periods(r, now);
}

/* Interrupts that are enabled and whose flag is not set yet. */
static u8 rtc_awaited(const struct mc146818 *r)
{
    return r->cmos[RTC_B] & ~r->cmos[RTC_C] & C_FLAGS;
}

static void rtc_arm_timers(struct mc146818 *r, u64 now)
{
    u8 awaited = rtc_awaited(r);
    u64 ticks = period_ticks(r);
    if ((awaited & (B_ALARM | B_UPDATE)) && rtc_runs(r))
        timer_arm(r->second_timer, now + NSEC_PER_SEC - rtc_now(r, now).ns);
    else
        timer_cancel(r->second_timer);
    if ((awaited & B_PERIODIC) && ticks)
        timer_arm(r->periodic_timer, ticks_to_ns((period_number(r, now) + 1) * ticks, RTC_HZ));
    else
        timer_cancel(r->periodic_timer);
}

/* Ends an access: sets IRQF and the wire from the flags and drops the lock. */
static void rtc_unlock(struct mc146818 *r)
{
    bool irq = r->cmos[RTC_B] & r->cmos[RTC_C] & C_FLAGS;
    r->cmos[RTC_C] = (r->cmos[RTC_C] & C_FLAGS) | (irq ? C_IRQ : 0);
    wire_level(&r->irq, irq);
    pthread_mutex_unlock(&r->lock);
    wire_flush(&r->irq);
}

static void rtc_timer(void *ctx)
{
    struct mc146818 *r = ctx;
    pthread_mutex_lock(&r->lock);
    u64 now = clock_now(r->clock);
    rtc_catch_up(r, now);
    rtc_arm_timers(r, now);
    rtc_unlock(r);
}

/* --- ports --- */

static u8 rtc_read(struct mc146818 *r, u8 reg)
{
    u64 now = clock_now(r->clock);
    if (is_time_reg(reg) && rtc_runs(r))
        rtc_store_time(r, rtc_now(r, now).sec);
    if (reg == RTC_A) {
        bool updating = rtc_runs(r) && rtc_now(r, now).ns >= NSEC_PER_SEC - UPDATE_NS;
        return r->cmos[RTC_A] | (updating ? A_UIP : 0);
    }
    if (reg != RTC_C)
        return r->cmos[reg];
    rtc_catch_up(r, now);
    u8 flags = r->cmos[RTC_C] & C_FLAGS;
    u8 value = flags | (flags & r->cmos[RTC_B] ? C_IRQ : 0);
    r->cmos[RTC_C] = 0;
    rtc_arm_timers(r, now);
    return value;
}

/* Registers A and B decide whether the clock runs. */
static void rtc_write_control(struct mc146818 *r, u8 reg, u8 value)
{
    u64 now = clock_now(r->clock);
    bool ran = rtc_runs(r);
    bool divided = divider_runs(r);
    struct wall_time t = rtc_now(r, now);
    rtc_catch_up(r, now);
    if (ran)
        rtc_store_time(r, t.sec);
    if (reg == RTC_A) {
        r->cmos[RTC_A] = value & ~A_UIP;
    } else {
        /* 3.6.2.1: setting SET clears UIE. */
        r->cmos[RTC_B] = value & B_SET ? value & ~B_UPDATE : value;
    }
    if (!ran && rtc_runs(r)) {
        /* 3.6.1.2: the first update comes half a second after the divider is released. */
        u32 ns = divided ? t.ns : (u32)(NSEC_PER_SEC / 2);
        rtc_set_base(r, now, (struct wall_time){rtc_load_time(r), ns});
    }
    r->last_period = period_number(r, now);
    rtc_arm_timers(r, now);
}

static void rtc_write_time(struct mc146818 *r, u8 reg, u8 value)
{
    if (!rtc_runs(r)) {
        r->cmos[reg] = value;
        return;
    }
    u64 now = clock_now(r->clock);
    struct wall_time t = rtc_now(r, now);
    rtc_catch_up(r, now);
    rtc_store_time(r, t.sec);
    r->cmos[reg] = value;
    t.sec = rtc_load_time(r);
    rtc_set_base(r, now, t);
}

static void rtc_write(struct mc146818 *r, u8 reg, u8 value)
{
    if (is_time_reg(reg)) {
        rtc_write_time(r, reg, value);
    } else if (reg == RTC_A || reg == RTC_B) {
        rtc_write_control(r, reg, value);
    } else if (reg == RTC_SECONDS_ALARM || reg == RTC_MINUTES_ALARM || reg == RTC_HOURS_ALARM) {
        rtc_catch_up(r, clock_now(r->clock));
        r->cmos[reg] = value;
    } else if (reg != RTC_C && reg != RTC_D) {
        r->cmos[reg] = value;
    }
}

static u32 cmos_in(void *ctx, u16 port, unsigned size)
{
    struct mc146818 *r = ctx;
    (void)size;
    if (port == PC_CMOS)
        return 0xff; /* the index is write-only */
    pthread_mutex_lock(&r->lock);
    u8 value = rtc_read(r, r->index);
    rtc_unlock(r);
    return value;
}

static void cmos_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct mc146818 *r = ctx;
    (void)size;
    pthread_mutex_lock(&r->lock);
    if (port == PC_CMOS)
        r->index = value & (CMOS_SIZE - 1); /* bit 7 masks NMI, which nothing here raises */
    else
        rtc_write(r, r->index, (u8)value);
    rtc_unlock(r);
}

static const struct port_ops cmos_ops = {cmos_in, cmos_out};

/* --- life --- */

/* In the form of QEMU's pc machine, which SeaBIOS reads. */
static u8 boot_code(char letter)
{
    static const char letters[] = "?acdn";
    const char *at = letter ? strchr(letters, letter) : NULL;
    return at ? (u8)(at - letters) : 0;
}

static void cmos_boot_order(struct mc146818 *r, const char *order)
{
    u8 code[3] = {0};
    for (unsigned i = 0; order && i < ARRAY_SIZE(code) && order[i]; i++)
        code[i] = boot_code(order[i]);
    r->cmos[CMOS_BOOT_12] = (u8)(code[1] << 4 | code[0]);
    r->cmos[CMOS_BOOT_3] = (u8)(code[2] << 4);
}

static void cmos_drives(struct mc146818 *r, const u8 floppy[2])
{
    u8 equipment = EQUIPMENT_FPU | EQUIPMENT_MOUSE;
    if (floppy[0] || floppy[1])
        equipment |= EQUIPMENT_FLOPPY;
    if (floppy[0] && floppy[1])
        equipment |= EQUIPMENT_TWO_FLOPPIES;
    r->cmos[CMOS_FLOPPIES] = (u8)(floppy[0] << 4 | floppy[1]);
    r->cmos[CMOS_EQUIPMENT] = equipment;
}

/* What a PC's firmware finds in CMOS: equipment and memory sizes. Types of hard disks stay 0:
 * firmware asks the disks. */
static void cmos_fill(struct mc146818 *r, const struct mc146818_config *config)
{
    u64 low = MIN(config->ram_size, RAM_LOW_MAX);
    u64 high = config->ram_size - low;
    u64 above_1m = low > MIB ? low - MIB : 0;
    u64 above_16m = low > 16 * MIB ? low - 16 * MIB : 0;
    u64 extended = MIN(above_1m / KIB, 0xffff);
    unsigned sum = 0;
    cmos_drives(r, config->floppy);
    cmos_boot_order(r, config->boot_order);
    store_le(&r->cmos[CMOS_BASE_MEMORY], 640, 2);
    store_le(&r->cmos[CMOS_EXTENDED_MEMORY], extended, 2);
    store_le(&r->cmos[CMOS_EXTENDED_AGAIN], extended, 2);
    store_le(&r->cmos[CMOS_ABOVE_16M], MIN(above_16m / (64 * KIB), 0xffff), 2);
    u64 above_4g = MIN(high / (64 * KIB), 0xffffff);
    store_le(&r->cmos[CMOS_ABOVE_4G], above_4g & 0xffff, 2);
    r->cmos[CMOS_ABOVE_4G + 2] = (u8)(above_4g >> 16);
    r->cmos[CMOS_CPUS] = (u8)(config->ncpus - 1);
    for (unsigned i = 0x10; i <= 0x2d; i++)
        sum += r->cmos[i];
    r->cmos[CMOS_CHECKSUM] = (u8)(sum >> 8);
    r->cmos[CMOS_CHECKSUM + 1] = (u8)sum;
}

int mc146818_create(const struct mc146818_config *config, struct clock *clock, struct irq_line irq,
                    struct mc146818 **out, struct error *err)
{
    struct mc146818 *r = calloc(1, sizeof(*r));
    if (!r)
        return error_set(err, ENOMEM, "no memory for the real-time clock");
    r->clock = clock;
    wire_init(&r->irq, irq);
    pthread_mutex_init(&r->lock, NULL);
    r->second_timer = timer_create_on(clock, rtc_timer, r);
    r->periodic_timer = timer_create_on(clock, rtc_timer, r);
    if (!r->second_timer || !r->periodic_timer) {
        mc146818_destroy(r);
        return error_set(err, ENOMEM, "no memory for the real-time clock's timers");
    }
    r->cmos[RTC_A] = A_DIVIDER_32K | 6;
    r->cmos[RTC_B] = B_24H;
    r->cmos[RTC_D] = D_VALID;
    cmos_fill(r, config);
    i64 start = MAX(config->start_realtime_ns, 0);
    r->base.sec = start / (i64)NSEC_PER_SEC;
    r->base.ns = (u32)(start % (i64)NSEC_PER_SEC);
    u64 now = clock_now(clock);
    r->last_sec = rtc_now(r, now).sec;
    r->last_period = period_number(r, now);
    *out = r;
    return 0;
}

void mc146818_destroy(struct mc146818 *r)
{
    if (!r)
        return;
    if (r->second_timer)
        timer_destroy(r->second_timer);
    if (r->periodic_timer)
        timer_destroy(r->periodic_timer);
    wire_destroy(&r->irq);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

int mc146818_attach(struct mc146818 *r, struct port_bus *bus, struct error *err)
{
    return portbus_add(bus, PC_CMOS, 2, &cmos_ops, r, NULL, false, err);
}

void mc146818_reset(struct mc146818 *r)
{
    pthread_mutex_lock(&r->lock);
    u64 now = clock_now(r->clock);
    rtc_catch_up(r, now);
    r->cmos[RTC_B] &= ~(B_PERIODIC | B_ALARM | B_UPDATE | B_SQUARE_WAVE);
    r->cmos[RTC_C] = 0;
    r->index = 0;
    rtc_arm_timers(r, now);
    rtc_unlock(r);
}
