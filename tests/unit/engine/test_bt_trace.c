/*
 * Traces: hot TUs that go on over branches, jumps, calls and returns, and around loops. Each piece
 * of code is run until it is hot, and must do what the interpreter does: also where it leaves the
 * trace by a return to elsewhere, a fault in some lap, or by writing over itself. Instructions
 * across two pages are parts of hot code, too.
 */
#include <pthread.h>
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

CODE(loops, "    mov ecx, 40\n"
            "1:  mov edx, 3\n"
            "    mov esi, 0x31000\n"
            "2:  add eax, [rsi]\n"
            "    adc [rsi + 8], rax\n"
            "    add rsi, 16\n"
            "    xor rbx, rsi\n"
            "    dec edx\n"
            "    jnz 2b\n"
            "    test cl, 4\n"
            "    jz 3f\n"
            "    ror rbx, 3\n"
            "    jmp 4f\n"
            "3:  sub rbx, rcx\n"
            "4:  sub ecx, 1\n"
            "    ja 1b\n"
            "    int 0x80\n");

CODE(recursion, "    mov edi, 11\n"
                "    call 1f\n"
                "    int 0x80\n"
                "1:  cmp edi, 1\n"
                "    ja 2f\n"
                "    lea eax, [rdi]\n"
                "    ret\n"
                "2:  push rbx\n"
                "    push rdi\n"
                "    dec edi\n"
                "    call 1b\n"
                "    mov ebx, eax\n"
                "    pop rdi\n"
                "    sub edi, 2\n"
                "    call 1b\n"
                "    add eax, ebx\n"
                "    pop rbx\n"
                "    ret\n");

/* As kernels call by a register, hidden from guesses of the processor. */
CODE(retpoline, "    mov ecx, 40\n"
                "1:  lea rdx, [rip + 4f]\n"
                "    call 3f\n"
                "2:  pause\n"
                "    jmp 2b\n"
                "3:  mov [rsp], rdx\n"
                "    ret\n"
                "4:  add rbx, rcx\n"
                "    dec ecx\n"
                "    jnz 1b\n"
                "    int 0x80\n");

/* The callee now and then returns to its caller's caller, with an argument taken off. */
CODE(returns, "    mov ecx, 60\n"
              "1:  push rcx\n"
              "    call 2f\n"
              "    add rbx, 5\n"
              "    pop rcx\n"
              "    add rbx, rcx\n"
              "    dec ecx\n"
              "    jnz 1b\n"
              "    int 0x80\n"
              "2:  call 3f\n"
              "    add rbx, 1\n"
              "    ret\n"
              "3:  test ecx, 7\n"
              "    jnz 4f\n"
              "    add rsp, 8\n"
              "4:  ret\n");

CODE(divide, "    mov ebx, 9\n"
             "    mov esi, 0x31000\n"
             "1:  mov eax, 1000\n"
             "    xor edx, edx\n"
             "    add rsi, 8\n"
             "    mov [rsi], rbx\n"
             "    div ebx\n"
             "    add edi, eax\n"
             "    dec ebx\n"
             "    jmp 1b\n");

CODE(page_fault, "    mov esi, 0x31000\n"
                 "1:  add rax, [rsi]\n"
                 "    lea rsi, [rsi + rsi + 8]\n"
                 "    cmp rax, rsi\n"
                 "    adc rbx, rsi\n"
                 "    jmp 1b\n");

CODE(self, "    mov ecx, 30\n"
           "1:  add ebx, 1\n"
           "2:  add edx, 0x11111111\n"
           "    cmp ecx, 12\n"
           "    jne 3f\n"
           "    mov [rip + 2b + 2], ecx\n"
           "3:  dec ecx\n"
           "    jnz 1b\n"
           "    int 0x80\n");

CODE(across, "    mov ecx, 40\n"
             "    jmp 1f\n"
             "    .org code_across + 4096 - 8, 0x90\n"
             "1:  add ebx, ecx\n"
             "    cmp ebx, 0x77\n"
             "    .org code_across + 4096 - 1, 0x90\n"
             "    mov eax, 0x12345678\n"
             "    adc edx, eax\n"
             "    dec ecx\n"
             "    jnz 1b\n"
             "    int 0x80\n");

/* It goes back within the trace, and forward to where the trace begins. */
CODE(endless, "    jmp 2f\n"
              "1:  add rbx, 1\n"
              "    jmp 2f\n"
              "2:  add rcx, 1\n"
              "    jmp 1b\n");

/* --- signals: cmocka puts its own handlers before each test --- */

static const int signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
static struct sigaction handlers[ARRAY_SIZE(signals)];

static void get_handlers(void)
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

static void set_handlers(void)
{
    for (unsigned n = 0; n < ARRAY_SIZE(signals); n++)
        sigaction(signals[n], &handlers[n], NULL);
}

/* --- the machine --- */

struct pair {
    struct test_machine *tm[2];
    struct rig rig[2]; /* [0]: of the translator */
};

static void put(struct pair *p, const u8 *from, const u8 *to)
{
    for (unsigned n = 0; n < 2; n++)
        guestmem_write(p->tm[n]->m.mem, CODE_AT, from, (size_t)(to - from));
}

static int setup(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));
    for (unsigned n = 0; n < 2; n++) {
        assert_int_equal(machine_setup((void **)&p->tm[n]), 0);
        engine_interp.detach(&p->tm[n]->m, p->tm[n]->v);
        long_mode(p->tm[n], 0);
        PUT(p->tm[n], HALT_AT, 0xf4);
        set_gate64(p->tm[n], 0x80, HALT_AT, GATE_INT_USER, 0);
        set_gate64(p->tm[n], 0, HALT_AT, GATE_INT, 0);
        set_gate64(p->tm[n], 14, HALT_AT, GATE_INT, 0);
        put64(p->tm[n], PML4_AT + 0x2000 + 8, 0); /* 2 to 4 MiB: not there */
        start(&p->rig[n], p->tm[n], n ? &engine_interp : &engine_bt);
    }
    *state = p;
    return 0;
}

static int teardown(void **state)
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

static void begin(struct test_machine *tm, bool user)
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
        user_mode(tm, ATTR_CODE64);
    cpu_update_mode(v);
}

static void run_until_halt(struct rig *r, bool user)
{
    struct vm_exit exit = {.kind = EXIT_KICKED};
    begin(r->tm, user);
    r->ops->run(r->engine, r->tm->v, &exit);
    assert_int_equal(exit.kind, EXIT_HALT);
}

/* Runs both, and compares all that the code can have changed. Returns how often the translator's
 * dispatcher was there the last time. */
static u64 compare(struct pair *p, bool user)
{
    u64 entries = 0;
    for (unsigned n = 0; n < RUNS; n++) {
        entries = stat(&p->rig[0], STAT_BT_ENTRIES);
        run_until_halt(&p->rig[0], user);
        run_until_halt(&p->rig[1], user);
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

/* --- tests --- */

static void test_loops(void **state)
{
    assert_int_equal(COMPARE(*state, loops, false), 1);
    assert_int_equal(COMPARE(*state, loops, true), 1);
}

static void test_recursion(void **state)
{
    assert_int_equal(COMPARE(*state, recursion, false), 1);
    assert_int_equal(COMPARE(*state, recursion, true), 1);
}

/* A return that never leads back to its call ends the trace. */
static void test_retpoline(void **state)
{
    struct pair *p = *state;
    assert_int_equal(COMPARE(p, retpoline, false), 1);
    assert_true(stat(&p->rig[0], STAT_BT_ADAPT_STRAYS) >= 1);
    assert_int_equal(COMPARE(p, retpoline, true), 1);
    u64 callouts = stat(&p->rig[0], STAT_BT_CALLOUTS);
    run_until_halt(&p->rig[0], true);
    assert_true(stat(&p->rig[0], STAT_BT_CALLOUTS) - callouts < 4);
}

static void test_returns(void **state)
{
    COMPARE(*state, returns, false);
    COMPARE(*state, returns, true);
}

static void test_faults(void **state)
{
    COMPARE(*state, divide, false);
    COMPARE(*state, divide, true);
    COMPARE(*state, page_fault, false);
    COMPARE(*state, page_fault, true);
}

/* The code is as it was again before each run. */
static void test_self(void **state)
{
    for (unsigned n = 0; n < RUNS; n++)
        COMPARE(*state, self, n & 1);
}

static void test_across(void **state)
{
    struct pair *p = *state;
    assert_int_equal(COMPARE(p, across, false), 1);
    assert_int_equal(COMPARE(p, across, true), 1);
    for (unsigned n = 0; n < 2; n++) { /* the immediate operand's bytes on the second page */
        u32 value = 0x9abcdef0;
        guestmem_write(p->tm[n]->m.mem, CODE_AT + PAGE_SIZE, &value, sizeof(value));
    }
    assert_int_equal(compare(p, true), 1);
}

/* Another page is behind the first one, to which loops by code on the first page only lead. */
static void test_across_remapped(void **state)
{
    struct pair *p = *state;
    const u64 table = 0x180000, other = 0x190000;
    for (unsigned n = 0; n < 2; n++) {
        struct test_machine *tm = p->tm[n];
        for (u64 at = 0; at < 512; at++)
            put64(tm, table + 8 * at, at << PAGE_SHIFT | 7);
        put64(tm, PML4_AT + 0x2000, table | 7);
        tlb_flush_all(tm->v);
    }
    assert_int_equal(COMPARE(p, across, true), 1);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned n = 0; n < 2; n++) {
            struct test_machine *tm = p->tm[n];
            u32 value = 0x9abcdef0 + round;
            u64 page = round & 1 ? CODE_AT + PAGE_SIZE : other;
            guestmem_write(tm->m.mem, other, code_across + PAGE_SIZE,
                           (size_t)(code_across_end - code_across) - PAGE_SIZE);
            guestmem_write(tm->m.mem, other, &value, sizeof(value));
            put64(tm, table + 8 * ((CODE_AT >> PAGE_SHIFT) + 1), page | 7);
            tlb_flush_page(tm->v, CODE_AT + PAGE_SIZE);
        }
        compare(p, true);
    }
}

struct kicker {
    pthread_t thread;
    struct rig *rig;
};

static void *kick(void *ctx)
{
    struct kicker *k = ctx;
    usleep(100 * 1000);
    vcpu_raise(k->rig->tm->v, EVENT_STOP);
    k->rig->ops->kick(k->rig->engine, k->rig->tm->v);
    return NULL;
}

static void test_endless(void **state)
{
    struct pair *p = *state;
    struct kicker k = {.rig = &p->rig[0]};
    struct vm_exit exit = {.kind = EXIT_HALT};
    put(p, code_endless, code_endless_end);
    for (unsigned user = 0; user < 2; user++) {
        begin(p->tm[0], user);
        assert_int_equal(pthread_create(&k.thread, NULL, kick, &k), 0);
        k.rig->ops->run(k.rig->engine, p->tm[0]->v, &exit);
        pthread_join(k.thread, NULL);
        vcpu_clear(p->tm[0]->v, EVENT_STOP);
        assert_int_equal(exit.kind, EXIT_KICKED);
        assert_true(p->tm[0]->v->gpr[RBX] - p->tm[0]->v->gpr[RCX] - 1 <= 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_loops, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recursion, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retpoline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_returns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_self, setup, teardown),
        cmocka_unit_test_setup_teardown(test_across, setup, teardown),
        cmocka_unit_test_setup_teardown(test_across_remapped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_endless, setup, teardown),
    };
    get_handlers();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
