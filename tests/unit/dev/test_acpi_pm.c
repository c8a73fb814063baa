/*
 * ACPI fixed hardware at register level.
 */
#include "rig.h"

#include "dev/acpi_pm.h"
#include "dev/pcmap.h"

#define STATUS  PC_PM_BASE
#define ENABLE  (PC_PM_BASE + 2)
#define CONTROL (PC_PM_BASE + 4)
#define TIMER   (PC_PM_BASE + 8)
#define GPE_STS PC_PM_GPE0
#define GPE_EN  (PC_PM_GPE0 + 2)
#define HALF_NS 2343484437ULL /* 2^23 ticks, rounded up */

struct pm_rig {
    struct rig r;
    struct acpi_pm *pm;
};

static int setup(void **state)
{
    struct pm_rig *t = calloc(1, sizeof(*t));
    struct error err;
    rig_init(&t->r);
    assert_int_equal(acpi_pm_create(t->r.clock, &t->r.power, rig_line(&t->r, 0), &t->pm, &err), 0);
    assert_int_equal(acpi_pm_attach(t->pm, t->r.bus, &err), 0);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct pm_rig *t = *state;
    acpi_pm_destroy(t->pm);
    rig_done(&t->r);
    free(t);
    return 0;
}

static void test_acpi_mode(void **state)
{
    struct rig *r = &((struct pm_rig *)*state)->r;
    assert_int_equal(in16(r, CONTROL), 0);
    out8(r, PC_SMI_CMD, 0x55);
    assert_int_equal(in16(r, CONTROL), 0);
    out8(r, PC_SMI_CMD, PC_ACPI_ENABLE);
    assert_int_equal(in16(r, CONTROL), 1);
    assert_int_equal(in8(r, PC_SMI_CMD), PC_ACPI_ENABLE);
    out8(r, PC_SMI_CMD + 1, 0x77);
    assert_int_equal(in8(r, PC_SMI_CMD + 1), 0x77);
    out8(r, PC_SMI_CMD, PC_ACPI_DISABLE);
    assert_int_equal(in16(r, CONTROL), 0);
}

static void test_timer_counts(void **state)
{
    struct rig *r = &((struct pm_rig *)*state)->r;
    clock_advance(r->clock, NSEC_PER_SEC);
    assert_int_equal(in32(r, TIMER), ACPI_PM_TIMER_HZ);
    assert_int_equal(in8(r, TIMER + 2), ACPI_PM_TIMER_HZ >> 16);
    out32(r, TIMER, 0);
    assert_int_equal(in32(r, TIMER), ACPI_PM_TIMER_HZ);
    clock_advance(r->clock, 4 * NSEC_PER_SEC);
    assert_int_equal(in32(r, TIMER), 5 * ACPI_PM_TIMER_HZ & 0xffffff);
}

static void test_timer_overflow(void **state)
{
    struct rig *r = &((struct pm_rig *)*state)->r;
    clock_advance(r->clock, HALF_NS + 1000);
    assert_int_equal(in16(r, STATUS), 1);
    out16(r, STATUS, 1);
    assert_int_equal(in16(r, STATUS), 0);
    out8(r, PC_SMI_CMD, PC_ACPI_ENABLE);
    out16(r, ENABLE, 1);
    clock_advance(r->clock, HALF_NS - 3000);
    assert_int_equal(r->pin[0].level, 0);
    clock_advance(r->clock, 3000);
    assert_int_equal(r->pin[0].level, 1);
    assert_int_equal(in32(r, TIMER) & 0x800000, 0);
    clock_advance(r->clock, 10 * HALF_NS);
    assert_int_equal(r->pin[0].rises, 1);
    out16(r, STATUS, 1);
    assert_int_equal(r->pin[0].level, 0);
    clock_advance(r->clock, HALF_NS);
    assert_int_equal(r->pin[0].rises, 2);
}

static void test_power_button(void **state)
{
    struct pm_rig *t = *state;
    struct rig *r = &t->r;
    assert_false(acpi_pm_power_button(t->pm));
    assert_int_equal(in16(r, STATUS), 0x100);
    out16(r, STATUS, 0x100);
    out16(r, ENABLE, 0xffff);
    assert_int_equal(in16(r, ENABLE), 0x0721);
    assert_false(acpi_pm_power_button(t->pm)); /* not in ACPI mode */
    assert_int_equal(r->pin[0].level, 0);
    out8(r, PC_SMI_CMD, PC_ACPI_ENABLE);
    assert_int_equal(r->pin[0].level, 1);
    out8(r, STATUS + 1, 0x01); /* as a byte */
    assert_int_equal(r->pin[0].level, 0);
    assert_true(acpi_pm_power_button(t->pm));
    assert_int_equal(r->pin[0].level, 1);
    acpi_pm_reset(t->pm);
    assert_int_equal(r->pin[0].level, 0);
    assert_int_equal(in32(r, STATUS), 0);
}

static void test_soft_off(void **state)
{
    struct rig *r = &((struct pm_rig *)*state)->r;
    out16(r, CONTROL, 1 | 5 << 10 | 0x2000); /* another sleep type */
    assert_int_equal(r->power_offs, 0);
    out16(r, CONTROL, 1 | PC_ACPI_S5_TYPE << 10);
    assert_int_equal(r->power_offs, 0);
    out16(r, CONTROL, 1 | PC_ACPI_S5_TYPE << 10 | 0x2000);
    assert_int_equal(r->power_offs, 1);
    assert_int_equal(in16(r, CONTROL), 1); /* SLP_EN reads as 0 */
    out8(r, CONTROL + 1, PC_ACPI_S5_TYPE << 2 | 0x20);
    assert_int_equal(r->power_offs, 2);
}

static void test_gpe(void **state)
{
    struct pm_rig *t = *state;
    struct rig *r = &t->r;
    out8(r, PC_SMI_CMD, PC_ACPI_ENABLE);
    acpi_pm_raise_gpe(t->pm, 9);
    assert_int_equal(in16(r, GPE_STS), 0x200);
    assert_int_equal(r->pin[0].level, 0);
    out16(r, GPE_EN, 0x200);
    assert_int_equal(r->pin[0].level, 1);
    out16(r, GPE_STS, 0xfdff);
    assert_int_equal(r->pin[0].level, 1);
    out32(r, GPE_STS, 0x02000200);
    assert_int_equal(r->pin[0].level, 0);
    assert_int_equal(in32(r, GPE_STS), 0x02000000);
}

static void test_fuzz(void **state)
{
    struct pm_rig *t = *state;
    rig_fuzz(&t->r, PC_PM_BASE - 2, PC_PM_SIZE + 4);
    rig_fuzz(&t->r, PC_SMI_CMD, 2);
    acpi_pm_reset(t->pm);
    test_gpe(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_acpi_mode, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_overflow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_power_button, setup, teardown),
        cmocka_unit_test_setup_teardown(test_soft_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gpe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fuzz, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
