/*
 * --keys: what scripts mean, what is refused, and when keys go down and up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "host/keys.h"

#define MS (1000 * 1000ULL)

/* Keys as text: "+1e@5" is 0x1e going down after 5 ms. */
struct record {
    struct clock *clock;
    char text[1000];
    size_t len;
};

static void note(void *ctx, unsigned key, bool down)
{
    struct record *r = ctx;
    r->len += (size_t)snprintf(r->text + r->len, sizeof(r->text) - r->len, "%c%x@%u ",
                               down ? '+' : '-', key, (unsigned)(clock_now(r->clock) / MS));
    assert_true(r->len < sizeof(r->text));
}

static void expect_typed(const char *const *scripts, unsigned count, u64 second_ns,
                         const char *want)
{
    struct record r = {.clock = clock_create_manual()};
    struct input_sink sink = {.key = note, .ctx = &r};
    struct key_typist *t;
    struct error err;
    assert_int_equal(key_typist_create(r.clock, sink, scripts, count, second_ns, &t, &err), 0);
    for (unsigned i = 0; i < 5000; i++)
        clock_advance(r.clock, MS);
    assert_string_equal(r.text, want);
    key_typist_destroy(t);
    clock_destroy(r.clock);
}

#define EXPECT_TYPED(second_ns, want, ...)                                                         \
    expect_typed((const char *[]){__VA_ARGS__}, ARRAY_SIZE(((const char *[]){__VA_ARGS__})),       \
                 second_ns, want)

static void test_typing(void **state)
{
    (void)state;
    EXPECT_TYPED(NSEC_PER_SEC, "+1e@500 -1e@520 +2a@540 +30@540 -30@560 -2a@560 +1c@580 -1c@600 ",
                 "aB<ret>@0.5");
    EXPECT_TYPED(NSEC_PER_SEC, "+1d@0 +38@0 +e053@0 -e053@20 -38@20 -1d@20 ", "<ctrl-alt-del>@0");
    EXPECT_TYPED(NSEC_PER_SEC, "+2a@0 +33@0 -33@20 -2a@20 +2a@40 +3@40 -3@60 -2a@60 ", "<lt>@@0");
    EXPECT_TYPED(NSEC_PER_SEC / 2, "+58@1000 -58@1020 ", "<f12>@2"); /* slow time */
    EXPECT_TYPED(NSEC_PER_SEC, "+2a@100 +34@100 -34@120 -2a@120 ", ">@1e-1");
}

/* Scripts wait for each other, in the order of their times. */
static void test_several(void **state)
{
    (void)state;
    EXPECT_TYPED(
        NSEC_PER_SEC,
        "+1e@100 -1e@120 +30@140 -30@160 +2e@180 -2e@200 +20@220 -20@240 +12@2000 -12@2020 ", "e@2",
        "ab@0.1", "c@0.11", "d@0.11");
}

static void refused(const char *script, const char *reason)
{
    struct error err = {""};
    double seconds;
    assert_int_equal(keys_check(script, &seconds, &err), -22);
    if (!strstr(err.text, reason))
        fail_msg("%s", err.text);
}

static void test_errors(void **state)
{
    struct error err;
    double seconds;
    (void)state;
    refused("abc", "takes TEXT@SECONDS");
    refused("@3", "takes TEXT@SECONDS");
    refused("", "takes TEXT@SECONDS");
    refused("a@", "not a number");
    refused("a@x", "not a number");
    refused("a@-1", "not a number");
    refused("a@nan", "not a number");
    refused("a@1e9", "not a number");
    refused("a@1 ", "not a number");
    refused("a<b@1", "<lt>");
    refused("<foo>@1", "named 'foo'");
    refused("<>@1", "named ''");
    refused("<ctrl-@1>", "not a number");
    refused("<ctrl->@1", "named ''");
    refused("<a-b-c-d-e-f>@1", "at most 5");
    refused("\xc3\xa4@1", "0xc3");
    assert_int_equal(keys_check("<a-b-c-d-e>@1.5", &seconds, &err), 0);
    assert_true(seconds == 1.5);
}

/* The machine goes away while keys are to be typed. */
static void test_destroy(void **state)
{
    (void)state;
    struct record r = {.clock = clock_create_manual()};
    struct input_sink sink = {.key = note, .ctx = &r};
    const char *script = "abc@0";
    struct key_typist *t;
    struct error err;
    assert_int_equal(key_typist_create(r.clock, sink, &script, 1, NSEC_PER_SEC, &t, &err), 0);
    clock_advance(r.clock, 30 * MS);
    key_typist_destroy(t);
    clock_advance(r.clock, 1000 * MS);
    assert_int_equal(r.len, strlen("+1e@0 -1e@20 "));
    key_typist_destroy(NULL);
    clock_destroy(r.clock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_typing),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
