/*
 * What --disk, --cdrom and --floppy make of their values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/drives.h"

static void plain_names_get_the_defaults(void **state)
{
    (void)state;
    struct settings s = {0};
    struct error err;
    assert_int_equal(drives_add_disk(&s, "a.img", &err), 0);
    assert_int_equal(drives_add_cdrom(&s, "b.iso", &err), 0);
    assert_int_equal(drives_add_floppy(&s, "c", &err), 0);
    assert_int_equal(s.ndisks, 1);
    assert_string_equal(s.disks[0].path, "a.img");
    assert_int_equal(s.disks[0].interface, DISK_IDE);
    assert_false(s.disks[0].read_only || s.disks[0].snapshot);
    assert_int_equal(s.ncdroms, 1);
    assert_string_equal(s.cdroms[0].path, "b.iso");
    assert_true(s.cdroms[0].read_only);
    assert_int_equal(s.nfloppies, 1);
    assert_string_equal(s.floppies[0].path, "c");
    assert_false(s.floppies[0].read_only);
    drives_free(&s);
    assert_int_equal(s.ndisks + s.ncdroms + s.nfloppies, 0);
}

static void words_are_obeyed(void **state)
{
    (void)state;
    struct settings s = {0};
    struct error err;
    assert_int_equal(drives_add_disk(&s, "a,if=virtio,snapshot=on", &err), 0);
    assert_int_equal(drives_add_disk(&s, "b,ro,snapshot=on,snapshot=off,if=virtio,if=ide", &err), 0);
    assert_int_equal(drives_add_floppy(&s, "c,ro", &err), 0);
    assert_int_equal(s.disks[0].interface, DISK_VIRTIO);
    assert_true(s.disks[0].snapshot && !s.disks[0].read_only);
    assert_int_equal(s.disks[1].interface, DISK_IDE);
    assert_true(s.disks[1].read_only && !s.disks[1].snapshot);
    assert_true(s.floppies[0].read_only);
    drives_free(&s);
}

static void doubled_commas_are_of_the_name(void **state)
{
    (void)state;
    struct settings s = {0};
    struct error err;
    assert_int_equal(drives_add_disk(&s, "a,,b,,,,c,ro", &err), 0);
    assert_int_equal(drives_add_disk(&s, ",,,ro", &err), 0);
    assert_int_equal(drives_add_cdrom(&s, "x,,", &err), 0);
    assert_string_equal(s.disks[0].path, "a,b,,c");
    assert_true(s.disks[0].read_only);
    assert_string_equal(s.disks[1].path, ",");
    assert_true(s.disks[1].read_only);
    assert_string_equal(s.cdroms[0].path, "x,");
    drives_free(&s);
}

static void what_is_wrong_adds_nothing(void **state)
{
    (void)state;
    struct settings s = {0};
    struct error err;
    assert_true(drives_add_disk(&s, "", &err) < 0);
    assert_true(drives_add_disk(&s, "a,", &err) < 0);
    assert_true(drives_add_disk(&s, "a,rox", &err) < 0);
    assert_true(drives_add_cdrom(&s, "a,ro", &err) < 0);
    assert_true(drives_add_floppy(&s, "a,snapshot=on", &err) < 0);
    assert_int_equal(s.ndisks + s.ncdroms + s.nfloppies, 0);
    for (unsigned i = 0; i < MAX_DISKS; i++)
        assert_int_equal(drives_add_disk(&s, "a", &err), 0);
    assert_true(drives_add_disk(&s, "a", &err) < 0);
    assert_int_equal(s.ndisks, MAX_DISKS);
    drives_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_names_get_the_defaults),
        cmocka_unit_test(words_are_obeyed),
        cmocka_unit_test(doubled_commas_are_of_the_name),
        cmocka_unit_test(what_is_wrong_adds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
