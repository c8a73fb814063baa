/*
 * Traces: hot TUs that go on over branches, jumps, calls and returns, and around loops. Each piece
 * of code is run until it is hot, and must do what the interpreter does: also where it leaves the
 * trace by a return to elsewhere, a fault in some lap, or by writing over itself. Instructions
 * across two pages are parts of hot code, too.
 */
#include <pthread.h>

#include "bt_pair.h"

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

/* What an empty entry of the table of jump targets once held. */
CODE(nowhere, "    mov ecx, 40\n"
              "1:  dec ecx\n"
              "    jnz 1b\n"
              "    movabs rdi, 0x8000000000000000\n"
              "    jmp rdi\n");

/* It goes back within the trace, and forward to where the trace begins. */
CODE(endless, "    jmp 2f\n"
              "1:  add rbx, 1\n"
              "    jmp 2f\n"
              "2:  add rcx, 1\n"
              "    jmp 1b\n");

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
    run_until_halt(p, 0, true);
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
    COMPARE(*state, nowhere, false);
    COMPARE(*state, nowhere, true);
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
        begin(p->tm[0], ATTR_CODE64, user);
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
