/*
 * What keeps `ringer compare` within its time: the limits that runs get, and a child process that
 * does not want to end.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/compare/compare.h"

#define PROMISED 180 /* seconds that --quick takes at most, by its help */

static void test_quick_ends(void **state)
{
    (void)state;
    for (double began = 0; began < 10; began += 0.7) { /* what comes before the first run */
        double passed = began, limit;
        unsigned runs = 0;
        while ((limit = plan_time_limit(true, passed)) > 0) {
            passed += limit; /* it hangs */
            runs++;
            assert_true(runs < 100);
        }
        assert_true(passed < PROMISED);
        assert_true(runs >= 3); /* one that hangs does not take the time of all others */
    }
    assert_true(plan_time_limit(true, 1e6) == 0);
    assert_true(plan_time_limit(false, 1e6) > 0);
}

static pid_t grandchild;

static void take_pid(void *arg, const char *line, double seconds)
{
    (void)arg;
    (void)seconds;
    grandchild = atoi(line);
}

/* Is there such a process that still runs? A dead one may wait for its parent for long. */
static bool runs(pid_t pid)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    char *state = strrchr(text, ')');
    return n && state && !strchr("ZX", state[2]);
}

static void test_hung_child(void **state)
{
    char *argv[] = {"sh", "-c", "trap '' TERM INT HUP; sleep 1000 & echo $!; wait", NULL};
    struct child c = {.argv = argv, .limit = 0.5, .line = take_pid, .signals = -1};
    struct error err = {""};
    (void)state;
    assert_int_equal(child_run(&c, &err), 0);
    assert_int_equal(c.end, CHILD_TIMEOUT);
    assert_true(c.seconds >= c.limit);
    assert_true(grandchild > 1);
    for (unsigned k = 0; k < 1000 && runs(grandchild); k++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_false(runs(grandchild)); /* nor is what it has started left */
}

static void test_child_that_ends(void **state)
{
    char *argv[] = {"sh", "-c", "echo 17; exit 3", NULL};
    struct child c = {.argv = argv, .limit = 60, .line = take_pid, .signals = -1};
    struct error err = {""};
    (void)state;
    assert_int_equal(child_run(&c, &err), 0);
    assert_int_equal(c.end, CHILD_ENDED);
    assert_int_equal(grandchild, 17);
    assert_int_equal(c.status, 3 << 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quick_ends),
        cmocka_unit_test(test_hung_child),
        cmocka_unit_test(test_child_that_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
