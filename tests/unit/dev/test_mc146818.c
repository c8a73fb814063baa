/*
 * The clock and CMOS at register level.
 */
#include "rig.h"

#include "dev/mc146818.h"

#define MS    1000000ULL
#define START 1700000000 /* Tue 2023-11-14 22:13:20 UTC */

struct rtc_rig {
    struct rig r;
    struct mc146818 *rtc;
};

static int setup(void **state)
{
    struct rtc_rig *t = calloc(1, sizeof(*t));
    struct mc146818_config config = {
        .start_realtime_ns = START * (i64)NSEC_PER_SEC, .ram_size = 6 * GIB, .ncpus = 4};
    struct error err;
    rig_init(&t->r);
    assert_int_equal(mc146818_create(&config, t->r.clock, rig_line(&t->r, 0), &t->rtc, &err), 0);
    assert_int_equal(mc146818_attach(t->rtc, t->r.bus, &err), 0);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct rtc_rig *t = *state;
    mc146818_destroy(t->rtc);
    rig_done(&t->r);
    free(t);
    return 0;
}

static u32 get(struct rig *r, unsigned reg)
{
    out8(r, 0x70, reg);
    return in8(r, 0x71);
}

static void set(struct rig *r, unsigned reg, u32 value)
{
    out8(r, 0x70, reg);
    out8(r, 0x71, value);
}

/* Compares century, year, month, day, hour, minute, second. */
static void expect_time(struct rig *r, const u8 want[7])
{
    static const u8 reg[7] = {0x32, 9, 8, 7, 4, 2, 0};
    for (int i = 0; i < 7; i++)
        assert_int_equal(get(r, reg[i]), want[i]);
}

static void set_time(struct rig *r, const u8 to[7])
{
    static const u8 reg[7] = {0x32, 9, 8, 7, 4, 2, 0};
    for (int i = 0; i < 7; i++)
        set(r, reg[i], to[i]);
}

static void test_host_time(void **state)
{
    struct rig *r = &((struct rtc_rig *)*state)->r;
    expect_time(r, (u8[]){0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20});
    assert_int_equal(get(r, 6), 3); /* Tuesday */
    clock_advance(r->clock, 2 * 3600 * NSEC_PER_SEC);
    expect_time(r, (u8[]){0x20, 0x23, 0x11, 0x15, 0x00, 0x13, 0x20});
    assert_int_equal(get(r, 0x0d), 0x80);
    assert_int_equal(get(r, 0x0b), 0x02);
    assert_int_equal(in8(r, 0x70), 0xff);
}

static void test_encodings(void **state)
{
    struct rig *r = &((struct rtc_rig *)*state)->r;
    set(r, 0x0b, 0x06); /* binary, 24 hours */
    expect_time(r, (u8[]){20, 23, 11, 14, 22, 13, 20});
    set(r, 0x0b, 0x04); /* binary, 12 hours */
    assert_int_equal(get(r, 4), 0x80 | 10);
    set(r, 0x0b, 0x00); /* BCD, 12 hours */
    assert_int_equal(get(r, 4), 0x90);
    clock_advance(r->clock, 2 * 3600 * NSEC_PER_SEC); /* 00:13 is 12:13 AM */
    assert_int_equal(get(r, 4), 0x12);
    clock_advance(r->clock, 12 * 3600 * NSEC_PER_SEC);
    assert_int_equal(get(r, 4), 0x92);
}

static void test_setting_keeps_an_offset(void **state)
{
    struct rig *r = &((struct rtc_rig *)*state)->r;
    clock_advance(r->clock, 300 * MS);
    set(r, 0x0b, 0x92);
    assert_int_equal(get(r, 0x0b), 0x82); /* SET clears UIE */
    set_time(r, (u8[]){0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59});
    clock_advance(r->clock, 5 * NSEC_PER_SEC);
    expect_time(r, (u8[]){0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59});
    set(r, 0x0b, 0x02);
    clock_advance(r->clock, 600 * MS); /* the fraction of the second went on */
    expect_time(r, (u8[]){0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59});
    clock_advance(r->clock, 200 * MS);
    expect_time(r, (u8[]){0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00});
    assert_int_equal(get(r, 6), 7); /* a Saturday */
}

static void test_setting_twelve_hours(void **state)
{
    struct rig *r = &((struct rtc_rig *)*state)->r;
    set(r, 0x0b, 0x84);
    set_time(r, (u8[]){20, 26, 2, 28, 0x80 | 12, 30, 0});
    set(r, 0x0b, 0x04);
    assert_int_equal(get(r, 4), 0x80 | 12);
    set(r, 0x0b, 0x06); /* a running clock shows its time in the new format */
    assert_int_equal(get(r, 4), 12);
    assert_int_equal(get(r, 2), 30);
}

static void test_divider_reset(void **state)
{
    struct rig *r = &((struct rtc_rig *)*state)->r;
    set(r, 0x0a, 0x76);
    clock_advance(r->clock, 700 * MS);
    assert_int_equal(get(r, 0), 0x20);
    set(r, 0x0a, 0x26);
    clock_advance(r->clock, 499 * MS);
    assert_int_equal(get(r, 0), 0x20);
    clock_advance(r->clock, 1 * MS); /* half a second after the release */
    assert_int_equal(get(r, 0), 0x21);
}

static void test_update_in_progress(void **state)
{
    struct rig *r = &((struct rtc_rig *)*state)->r;
    assert_int_equal(get(r, 0x0a), 0x26);
    clock_advance(r->clock, NSEC_PER_SEC - 200000);
    assert_int_equal(get(r, 0x0a), 0xa6);
    set(r, 0x0a, 0xa6); /* read-only bit */
    clock_advance(r->clock, 200000);
    assert_int_equal(get(r, 0x0a), 0x26);
}

static void test_update_interrupt(void **state)
{
    struct rig *r = &((struct rtc_rig *)*state)->r;
    clock_advance(r->clock, 1500 * MS);
    assert_int_equal(get(r, 0x0c) & 0x90, 0x10); /* the flag without the interrupt */
    assert_int_equal(get(r, 0x0c), 0);
    set(r, 0x0b, 0x12);
    clock_advance(r->clock, 499 * MS);
    assert_int_equal(r->pin[0].level, 0);
    clock_advance(r->clock, 1 * MS);
    assert_int_equal(r->pin[0].level, 1);
    clock_advance(r->clock, 5 * NSEC_PER_SEC);
    assert_int_equal(r->pin[0].rises, 1); /* not acknowledged: no more */
    assert_int_equal(get(r, 0x0c) & 0x90, 0x90);
    assert_int_equal(r->pin[0].level, 0);
    clock_advance(r->clock, NSEC_PER_SEC);
    assert_int_equal(r->pin[0].rises, 2);
}

static void test_alarm(void **state)
{
    struct rig *r = &((struct rtc_rig *)*state)->r;
    set(r, 1, 0x05);
    set(r, 3, 0x14);
    set(r, 5, 0x22);
    set(r, 0x0b, 0x22);
    clock_advance(r->clock, 44 * NSEC_PER_SEC);
    assert_int_equal(r->pin[0].level, 0);
    clock_advance(r->clock, NSEC_PER_SEC); /* 22:14:05 */
    assert_int_equal(r->pin[0].level, 1);
    assert_int_equal(get(r, 0x0c) & 0xa0, 0xa0);
    set(r, 3, 0xc0);
    set(r, 5, 0xff); /* don't care: every minute */
    clock_advance(r->clock, 60 * NSEC_PER_SEC);
    assert_int_equal(get(r, 0x0c) & 0xa0, 0xa0);
    clock_advance(r->clock, 59 * NSEC_PER_SEC);
    assert_int_equal(get(r, 0x0c) & 0xa0, 0);
}

static void test_periodic(void **state)
{
    struct rig *r = &((struct rtc_rig *)*state)->r;
    set(r, 0x0a, 0x26); /* 1024 Hz */
    set(r, 0x0b, 0x42);
    unsigned seen = 0;
    for (int i = 0; i < 10000; i++) {
        clock_advance(r->clock, NSEC_PER_SEC / 10000);
        if (r->pin[0].level) {
            seen++;
            assert_int_equal(get(r, 0x0c) & 0xc0, 0xc0);
        }
    }
    assert_in_range(seen, 1022, 1025);
    set(r, 0x0a, 0x20); /* rate 0: none */
    get(r, 0x0c);
    clock_advance(r->clock, NSEC_PER_SEC);
    assert_int_equal(get(r, 0x0c) & 0x40, 0);
}

static void test_cmos(void **state)
{
    struct rtc_rig *t = *state;
    struct rig *r = &t->r;
    unsigned sum = 0;
    assert_int_equal(get(r, 0x15) | get(r, 0x16) << 8, 640);
    assert_int_equal(get(r, 0x17) | get(r, 0x18) << 8, 0xffff);
    assert_int_equal(get(r, 0x30) | get(r, 0x31) << 8, 0xffff);
    assert_int_equal(get(r, 0x34) | get(r, 0x35) << 8, (3 * GIB - 16 * MIB) / (64 * KIB));
    assert_int_equal(get(r, 0x5b) | get(r, 0x5c) << 8 | get(r, 0x5d) << 16, 3 * GIB / (64 * KIB));
    assert_int_equal(get(r, 0x5f), 3);
    for (unsigned i = 0x10; i <= 0x2d; i++)
        sum += get(r, i);
    assert_int_equal(get(r, 0x2e) << 8 | get(r, 0x2f), sum);
    set(r, 0x0f, 0x0a);
    set(r, 0x7f, 0x5a);
    set(r, 0x0b, 0x72);
    mc146818_reset(t->rtc);
    assert_int_equal(get(r, 0x0f), 0x0a);
    assert_int_equal(get(r, 0x8f), 0x0a); /* bit 7 of the index is the NMI mask */
    assert_int_equal(get(r, 0x7f), 0x5a);
    assert_int_equal(get(r, 0x0b), 0x02);
}

/* What firmware finds for other drives and orders. */
static void test_drives_and_boot_order(void **state)
{
    static const struct {
        u8 floppy[2];
        const char *order;
        u8 types, equipment, boot_12, boot_3;
    } rows[] = {
        {{0, 0}, NULL, 0x00, 0x06, 0x00, 0x00},  {{4, 0}, "a", 0x40, 0x07, 0x01, 0x00},
        {{0, 5}, "cd", 0x05, 0x07, 0x32, 0x00},  {{2, 3}, "dcan", 0x23, 0x47, 0x23, 0x10},
        {{1, 1}, "nx?", 0x11, 0x47, 0x04, 0x00},
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct rig r;
        struct mc146818 *rtc;
        struct error err;
        struct mc146818_config config = {.ram_size = 64 * MIB,
                                         .ncpus = 1,
                                         .floppy = {rows[i].floppy[0], rows[i].floppy[1]},
                                         .boot_order = rows[i].order};
        rig_init(&r);
        assert_int_equal(mc146818_create(&config, r.clock, rig_line(&r, 0), &rtc, &err), 0);
        assert_int_equal(mc146818_attach(rtc, r.bus, &err), 0);
        assert_int_equal(get(&r, 0x10), rows[i].types);
        assert_int_equal(get(&r, 0x14), rows[i].equipment);
        assert_int_equal(get(&r, 0x3d), rows[i].boot_12);
        assert_int_equal(get(&r, 0x38), rows[i].boot_3);
        assert_int_equal(get(&r, 0x12), 0);
        assert_int_equal(get(&r, 0x19), 0);
        assert_int_equal(get(&r, 0x34) | get(&r, 0x35) << 8, 48 * 16);
        assert_int_equal(get(&r, 0x2e) << 8 | get(&r, 0x2f),
                         rows[i].types + rows[i].equipment + 640 % 256 + 640 / 256 + 0xfc + 0x00);
        mc146818_destroy(rtc);
        rig_done(&r);
    }
}

static void test_fuzz(void **state)
{
    struct rtc_rig *t = *state;
    struct rig *r = &t->r;
    for (unsigned i = 0; i < FUZZ_STEPS; i++) {
        u32 dice = rig_random(r);
        if (dice % 8 == 0)
            clock_advance(r->clock, rig_random(r) % (20 * MS));
        else if (dice % 1024 == 1)
            clock_advance(r->clock, (u64)(rig_random(r) % 10000000) * NSEC_PER_SEC);
        else if (dice % 2)
            set(r, rig_random(r) % (dice & 64 ? 16 : 256), rig_random(r));
        else
            get(r, rig_random(r));
    }
    /* It still keeps time. */
    set(r, 0x0a, 0x26);
    set(r, 0x0b, 0x82);
    set_time(r, (u8[]){0x20, 0x30, 0x02, 0x28, 0x10, 0x00, 0x00});
    set(r, 0x0b, 0x02);
    clock_advance(r->clock, 24 * 3600 * NSEC_PER_SEC);
    expect_time(r, (u8[]){0x20, 0x30, 0x03, 0x01, 0x10, 0x00, 0x00});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_host_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_encodings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_setting_keeps_an_offset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_setting_twelve_hours, setup, teardown),
        cmocka_unit_test_setup_teardown(test_divider_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_update_in_progress, setup, teardown),
        cmocka_unit_test_setup_teardown(test_update_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_alarm, setup, teardown),
        cmocka_unit_test_setup_teardown(test_periodic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cmos, setup, teardown),
        cmocka_unit_test(test_drives_and_boot_order),
        cmocka_unit_test_setup_teardown(test_fuzz, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
