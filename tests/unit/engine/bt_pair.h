/*
 * The same code in two small machines, under the translator and under the interpreter, again and
 * again until it is hot, and all compared that it can have changed.
 */
#ifndef RINGER_TESTS_ENGINE_BT_PAIR_H
#define RINGER_TESTS_ENGINE_BT_PAIR_H

#include <signal.h>

#undef REG_RIP /* of the signal frame */
#include "bt_rig.h"

#define CODE_AT  0x20000
#define STACK_AT 0x30000 /* the page below is used */
#define DATA_AT  0x31000
#define HALT_AT  0x500
#define RUNS     30

#define CODE(name, text)                                                                           \
    __asm__(".pushsection .rodata\n"                                                               \
            ".intel_syntax noprefix\n"                                                             \
            ".balign 4096\n"                                                                       \
            "code_" #name ":\n" text "\n"                                                          \
            "code_" #name "_end:\n"                                                                \
            ".att_syntax\n"                                                                        \
            ".popsection\n");                                                                      \
    extern const u8 code_##name[], code_##name##_end[]

/* --- signals: cmocka puts its own handlers before each test --- */

static const int signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
static struct sigaction handlers[ARRAY_SIZE(signals)];

static inline void get_handlers(void)
{
    struct test_machine *tm;
    struct error err;
    struct rig r;
    machine_setup((void **)&tm);
    engine_interp.detach(&tm->m, tm->v);
    start(&r, tm, &engine_bt);
    stop(&r);
    engine_interp.attach(&tm->m, tm->v, &err);
    machine_teardown((void **)&tm);
    for (unsigned n = 0; n < ARRAY_SIZE(signals); n++)
        sigaction(signals[n], NULL, &handlers[n]);
}

static inline void set_handlers(void)
{
    for (unsigned n = 0; n < ARRAY_SIZE(signals); n++)
        sigaction(signals[n], &handlers[n], NULL);
}

/* --- the machine --- */

struct pair {
    struct test_machine *tm[2];
    struct rig rig[2];             /* [0]: of the translator */
    u32 code;                      /* attributes of the user's code segment */
    void (*before)(struct rig *r); /* each run; or NULL */
};

static inline void put(struct pair *p, const u8 *from, const u8 *to)
{
    for (unsigned n = 0; n < 2; n++)
        guestmem_write(p->tm[n]->m.mem, CODE_AT, from, (size_t)(to - from));
}

static inline int setup(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));
    for (unsigned n = 0; n < 2; n++) {
        assert_int_equal(machine_setup((void **)&p->tm[n]), 0);
        engine_interp.detach(&p->tm[n]->m, p->tm[n]->v);
        long_mode(p->tm[n], 0);
        PUT(p->tm[n], HALT_AT, 0xf4);
        set_gate64(p->tm[n], 0x80, HALT_AT, GATE_INT_USER, 0);
        set_gate64(p->tm[n], 0, HALT_AT, GATE_INT, 0);
        set_gate64(p->tm[n], VEC_GP, HALT_AT, GATE_INT, 0);
        set_gate64(p->tm[n], VEC_PF, HALT_AT, GATE_INT, 0);
        put64(p->tm[n], PML4_AT + 0x2000 + 8, 0); /* 2 to 4 MiB: not there */
        start(&p->rig[n], p->tm[n], n ? &engine_interp : &engine_bt);
    }
    p->code = ATTR_CODE64;
    *state = p;
    return 0;
}

static inline int teardown(void **state)
{
    struct pair *p = *state;
    struct error err;
    for (unsigned n = 0; n < 2; n++) {
        stop(&p->rig[n]);
        assert_int_equal(engine_interp.attach(&p->tm[n]->m, p->tm[n]->v, &err), 0);
        machine_teardown((void **)&p->tm[n]);
    }
    free(p);
    return 0;
}

static inline void begin(struct test_machine *tm, u32 code, bool user)
{
    struct vcpu *v = tm->v;
    set_handlers();
    tables(tm, ATTR_CODE64);
    v->cpl = 0;
    for (unsigned n = 0; n < 16; n++)
        v->gpr[n] = 0x1000 + n;
    v->gpr[RSP] = STACK_AT;
    v->rip = CODE_AT;
    v->rflags = FLAG_ONE;
    v->activity = ACTIVITY_RUNNING;
    memset(tm->ram + STACK_AT - PAGE_SIZE, 0, PAGE_SIZE);
    for (u64 at = 0; at < PAGE_SIZE; at += 8)
        put64(tm, DATA_AT + at, at * 0x1234567);
    if (user)
        user_mode(tm, code);
    cpu_update_mode(v);
}

static inline void run_until_halt(struct pair *p, unsigned n, bool user)
{
    struct rig *r = &p->rig[n];
    struct vm_exit exit = {.kind = EXIT_KICKED};
    begin(r->tm, p->code, user);
    if (p->before)
        p->before(r);
    r->ops->run(r->engine, r->tm->v, &exit);
    assert_int_equal(exit.kind, EXIT_HALT);
}

/* Runs both, and compares all that the code can have changed. Returns how often the translator's
 * dispatcher was there the last time. */
static inline u64 compare(struct pair *p, bool user)
{
    u64 entries = 0;
    for (unsigned n = 0; n < RUNS; n++) {
        entries = stat(&p->rig[0], STAT_BT_ENTRIES);
        run_until_halt(p, 0, user);
        run_until_halt(p, 1, user);
        const struct vcpu *a = p->tm[0]->v, *b = p->tm[1]->v;
        assert_memory_equal(a->gpr, b->gpr, sizeof(a->gpr));
        assert_int_equal(a->rip, b->rip);
        assert_int_equal(a->cr2, b->cr2);
        assert_int_equal(a->rflags, b->rflags);
        assert_memory_equal(p->tm[0]->ram, p->tm[1]->ram, PML4_AT);
    }
    return stat(&p->rig[0], STAT_BT_ENTRIES) - entries;
}

#define COMPARE(p, name, user) (put(p, code_##name, code_##name##_end), compare(p, user))

#endif
