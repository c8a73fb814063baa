/*
 * An engine on a small machine: tests of the translator run the same code on two of them, one of
 * which has the interpreter.
 */
#ifndef RINGER_TESTS_ENGINE_BT_RIG_H
#define RINGER_TESTS_ENGINE_BT_RIG_H

#include "machine.h"

struct rig {
    struct test_machine *tm;
    const struct engine_ops *ops;
    void *engine;
};

static inline void start(struct rig *r, struct test_machine *tm, const struct engine_ops *ops)
{
    struct error err;
    *r = (struct rig){.tm = tm, .ops = ops, .engine = &tm->m};
    if (ops->create)
        assert_int_equal(ops->create(&tm->m, &r->engine, &err), 0);
    assert_int_equal(ops->attach(r->engine, tm->v, &err), 0);
}

static inline void stop(struct rig *r)
{
    r->ops->detach(r->engine, r->tm->v);
    if (r->ops->destroy)
        r->ops->destroy(r->engine);
}

static inline u64 stat(const struct rig *r, enum stat_id id)
{
    return r->tm->v->stats.count[id];
}

#endif
