/*
 * The output pin: edges in one go, and the last level when two threads pull at once.
 */
#include "rig.h"

#include "dev/wire.h"

#define ROUNDS 200000

struct pulled {
    struct wire wire;
    pthread_mutex_t chip; /* stands for the chip's lock */
    unsigned level, sets;
    bool last;
};

static void record(void *ctx, unsigned n, int level)
{
    struct pulled *p = ctx;
    assert_int_equal(n, 5);
    assert_int_not_equal(p->level, level); /* each call is a change */
    p->level = (unsigned)level;
    p->sets++;
}

static void start(struct pulled *p)
{
    memset(p, 0, sizeof(*p));
    wire_init(&p->wire, (struct irq_line){record, p, 5});
    pthread_mutex_init(&p->chip, NULL);
}

static void test_edges(void **state)
{
    struct pulled p;
    (void)state;
    start(&p);
    wire_flush(&p.wire);
    assert_int_equal(p.sets, 0);
    wire_level(&p.wire, true);
    wire_level(&p.wire, true);
    wire_flush(&p.wire);
    wire_flush(&p.wire);
    assert_int_equal(p.sets, 1);
    wire_level(&p.wire, false);
    wire_level(&p.wire, true);
    wire_flush(&p.wire);
    assert_int_equal(p.sets, 3); /* down and up */
    assert_int_equal(p.level, 1);
    wire_level(&p.wire, false);
    wire_flush(&p.wire);
    wire_level(&p.wire, true);
    wire_level(&p.wire, false);
    wire_flush(&p.wire);
    assert_int_equal(p.level, 0);
    wire_destroy(&p.wire);
}

static void *pull(void *arg)
{
    struct pulled *p = arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&p->chip);
        p->last = (i * 7 + i / 3) & 1;
        wire_level(&p->wire, p->last);
        pthread_mutex_unlock(&p->chip);
        wire_flush(&p->wire);
    }
    return NULL;
}

static void test_two_threads(void **state)
{
    struct pulled p;
    pthread_t t[2];
    (void)state;
    start(&p);
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, pull, &p);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(p.level, p.last);
    wire_destroy(&p.wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
