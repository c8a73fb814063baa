/*
 * What the fuzzers found (tests/fuzz), one test each.
 */
#include "machine.h"

#include <pthread.h>

#include "mem/access.h"

static void *stop_soon(void *arg)
{
    struct vcpu *v = arg;
    usleep(20000);
    vcpu_raise(v, EVENT_STOP);
    return NULL;
}

/* #AC's handler runs at CPL 3 on a stack that is misaligned: each push of its frame is an #AC. */
static void test_alignment_faults_without_end(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    pthread_t thread;
    protected_mode(tm, 0x2000);
    user_mode(tm, ATTR_CODE32);
    put64(tm, IDT_AT + 8 * VEC_AC, gate32(UCODE, 0x3000, GATE_INT_USER));
    PUT(tm, 0x2000, 0x8b, 0x04, 0x24); /* mov eax, [esp] */
    v->cr0 |= CR0_AM;
    v->rflags |= FLAG_AC;
    v->gpr[RSP] = 0x8001;
    cpu_update_mode(v);
    pthread_create(&thread, NULL, stop_soon, v);
    assert_int_equal(run(tm), EXIT_KICKED);
    pthread_join(thread, NULL);
    assert_int_equal(v->rip, 0x2000);
    assert_int_equal(v->gpr[RSP], 0x8001);
}

/* A task switch faults at a segment register after those that make the memory model flat. */
static void test_task_switch_faults_late(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    const u64 tss = 0x900, bad_selector = 0x68;
    protected_mode(tm, 0x2000);
    put64(tm, GDT_AT + 0x30, segment_descriptor((u32)tss, 0x67, SEG_P | SYS_TSS32));
    v->gdtr.limit = 0x37;
    store_le(tm->ram + tss + 0x20, 0x3000, 4); /* EIP */
    store_le(tm->ram + tss + 0x38, 0x8000, 4); /* ESP */
    for (unsigned s = 0; s < 6; s++)
        store_le(tm->ram + tss + 0x48 + 4 * s, s == SEG_CS ? KCODE : KDATA, 4);
    store_le(tm->ram + tss + 0x48 + 4 * SEG_GS, bad_selector, 4);
    v->idtr.limit = 0;                          /* so nothing else recomputes what is derived */
    PUT(tm, 0x2000, 0xea, 0, 0, 0, 0, 0x30, 0); /* jmp 30h:0 */
    assert_int_equal(run(tm), EXIT_SHUTDOWN);
    assert_int_equal(v->rip, 0x3000);
    assert_true(v->flat);
}

/* A descriptor table that reaches past the canonical addresses must not open the way there. */
static void test_no_way_past_canonical(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    const u64 past = BIT(47);
    long_mode(tm, 0x2000);
    put64(tm, PML4_AT + 8 * 256, (PML4_AT + 0x1000) | 7);
    set_gate64(tm, VEC_GP, 0x4000, GATE_INT, 0);
    PUT(tm, 0x2000, 0x48, 0x8b, 0x03, 0xf4); /* mov rax, [rbx] */
    PUT(tm, 0x4000, 0xf4);
    v->gpr[RBX] = past;
    if (setjmp(v->unwind) == UNWIND_NONE)
        lin_read_system(v, past, 8);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(v->rip, 0x4001);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_alignment_faults_without_end),
        TEST(test_task_switch_faults_late),
        TEST(test_no_way_past_canonical),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
