/*
 * The parser of the nano kernel's report: whole ones, and broken lines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "cli/nano_report.h"

#define HEAD "nano 1 build=pae tsc_khz=2500000 cpu=\"some CPU\"\n"
#define DONE "nano done results=1 skips=0 fails=0\n"

static struct nano_report report;

static int parse(const char *text)
{
    struct error err = {""};
    int rc = nano_report_parse(text, &report, &err);
    assert_int_equal(rc < 0, err.text[0] != 0);
    return rc;
}

static void test_whole(void **state)
{
    (void)state;
    assert_int_equal(
        parse("SeaBIOS\r\n" HEAD
              "nano result in median=12.5 low=12.0 high=13.1 samples=101 unit=cycles\r\n"
              "nano skip cr8wr not in this mode\r\n"
              "nano check fid-str ok it is as it was\r\n" DONE),
        0);
    assert_string_equal(report.build, "pae");
    assert_string_equal(report.cpu, "some CPU");
    assert_int_equal(report.tsc_khz, 2500000);
    assert_int_equal(report.nresults, 2);
    assert_string_equal(report.results[0].name, "in");
    assert_true(report.results[0].median == 12.5 && report.results[0].low == 12.0);
    assert_int_equal(report.results[0].samples, 101);
    assert_string_equal(report.results[1].skipped, "not in this mode");
    assert_int_equal(report.nchecks, 1);
    assert_string_equal(report.checks[0].verdict, "ok");
    assert_string_equal(report.checks[0].text, "it is as it was");
}

static void test_started_again(void **state)
{
    (void)state;
    assert_int_equal(
        parse(HEAD "nano result in median=1.0 low=1.0 high=1.0 samples=5 unit=cycles\n"
                   "nano check fid-str ok\n" HEAD
                   "nano result in median=2.0 low=2.0 high=2.0 samples=5 unit=cycles\n" DONE),
        0);
    assert_int_equal(report.nresults, 1);
    assert_int_equal(report.nchecks, 0);
    assert_true(report.results[0].median == 2.0);
}

static void test_incomplete(void **state)
{
    (void)state;
    assert_true(parse("") < 0);
    assert_true(parse(DONE) < 0);
    assert_true(parse("nano 2 build=64 tsc_khz=1 cpu=\"\"\n" DONE) < 0);
    assert_true(parse(HEAD "nano result in median=1.0 low=1.0 high=1.0 samples=5 unit=cycles\n") <
                0);
    assert_int_equal(report.nresults, 1); /* what there is */
}

static void test_broken_lines(void **state)
{
    char text[8192] = HEAD, *end;
    (void)state;
    strcat(text, "nano result\nnano result in\nnano result in median=x low=1 high=1 samples=1\n"
                 "nano result in median=1.0 low=1.0\nnano skip\nnano check\nnano\nnanoresult\n\n");
    end = text + strlen(text);
    strcpy(end, "nano check ");
    memset(end + 11, 'a', 4000); /* longer than a name, and than a line */
    strcpy(end + 4011, " ok x\n" DONE);
    assert_int_equal(parse(text), 0);
    assert_int_equal(report.nresults, 0);
    for (unsigned n = 0; n < report.nchecks; n++)
        assert_true(strlen(report.checks[n].name) < sizeof(report.checks[n].name));
}

static void test_too_many(void **state)
{
    static char text[65536] = HEAD;
    (void)state;
    for (unsigned n = 0; n < 300; n++)
        strcat(text, "nano result in median=1.0 low=1.0 high=1.0 samples=5 unit=cycles\n"
                     "nano check fid-str ok\n");
    strcat(text, DONE);
    assert_int_equal(parse(text), 0);
    assert_int_equal(report.nresults, NANO_RESULTS_MAX);
    assert_int_equal(report.nchecks, NANO_CHECKS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),      cmocka_unit_test(test_started_again),
        cmocka_unit_test(test_incomplete), cmocka_unit_test(test_broken_lines),
        cmocka_unit_test(test_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
