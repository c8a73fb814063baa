/*
 * The memory map for machines of every shape: sorted, without overlaps, RAM only where the guest
 * has RAM, and all of it accounted for.
 */
#include "fixture.h"

static u64 total(const struct e820_map *map, u32 type)
{
    u64 sum = 0;
    for (unsigned i = 0; i < map->count; i++)
        if (map->entry[i].type == type)
            sum += map->entry[i].size;
    return sum;
}

static void assert_sorted(const struct e820_map *map)
{
    u64 end = 0;
    for (unsigned i = 0; i < map->count; i++) {
        assert_true(map->entry[i].addr >= end);
        assert_true(map->entry[i].size > 0);
        end = map->entry[i].addr + map->entry[i].size;
    }
}

static void shapes(void **state)
{
    (void)state;
    static const u64 sizes[] = {
        1 * MIB, 1 * MIB + PAGE_SIZE, 2 * MIB, 64 * MIB, 1 * GIB, 3 * GIB - PAGE_SIZE,
        3 * GIB, 3 * GIB + PAGE_SIZE, 4 * GIB, 16 * GIB, RAM_MAX};
    const u64 tables = 4 * PAGE_SIZE;
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct e820_map map;
        u64 low = MIN(sizes[i], RAM_LOW_MAX), acpi = low - tables;
        bool below = acpi < MIB; /* the tables are in the BIOS area */
        e820_build(&map, sizes[i], acpi, tables);
        assert_sorted(&map);
        u64 hole = 0x100000 - 0x9fc00;
        assert_int_equal(total(&map, E820_RAM), sizes[i] - hole - (below ? 0 : tables));
        assert_int_equal(total(&map, E820_ACPI), below ? 0 : tables);
        assert_int_equal(e820_extended_end(&map), below ? MAX(low, MIB) : acpi);
        assert_false(e820_is_ram(&map, 0x9fc00, 1));
        assert_false(e820_is_ram(&map, 0xfee00000, 4));
        assert_int_equal(e820_is_ram(&map, RAM_HIGH_BASE, 1), sizes[i] > RAM_LOW_MAX);
        assert_false(e820_is_ram(&map, acpi, 1) && !below);
    }
}

static void ranges(void **state)
{
    (void)state;
    struct e820_map map;
    e820_build(&map, 16 * MIB, 16 * MIB - PAGE_SIZE, PAGE_SIZE);
    assert_true(e820_is_ram(&map, MIB, 15 * MIB - PAGE_SIZE));
    assert_false(e820_is_ram(&map, MIB, 15 * MIB - PAGE_SIZE + 1));
    assert_false(e820_is_ram(&map, 0, MIB));
    assert_false(e820_is_ram(&map, 2 * MIB, ~0ULL));
    assert_false(e820_is_ram(&map, ~0ULL, 2));
    assert_true(e820_is_ram(&map, 0, 0x9fc00));
}

static void no_tables(void **state)
{
    (void)state;
    struct e820_map map;
    e820_build(&map, 16 * MIB, 0, 0);
    assert_int_equal(total(&map, E820_ACPI), 0);
    assert_int_equal(e820_extended_end(&map), 16 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(ranges),
        cmocka_unit_test(no_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
