/*
 * Fragments cloned for code that is found at another linear address: one physical page of code is
 * run at several addresses, and must do there what the interpreter does there, without being
 * translated again.
 */
#include "bt_rig.h"

#define CODE_AT 0x20000 /* physical; the data lie two pages behind */
#define DATA_AT (CODE_AT + 2 * PAGE_SIZE)
#define RUNS    40 /* until everything is hot */

/* Everything that depends on RIP: calls, jumps near and far and back, operands, x87 pointers. */
__asm__(".pushsection .rodata\n"
        ".intel_syntax noprefix\n"
        ".balign 4096\n"
        "clone_code64:\n"
        "    mov ebx, 0x11111111\n"
        "    lea rsi, [rip + data64]\n"
        "    mov rdx, [rip + data64]\n"
        "    add [rip + data64 + 8], rbx\n"
        "    cmp dword ptr [rip + data64 + 16], 0\n"
        "    jne 1f\n"
        "    add qword ptr [rip + data64 + 24], 1\n"
        "1:  call near64\n"
        "    call far64\n"
        "    fild dword ptr [rip + data64 + 32]\n"
        "    fstp qword ptr [rip + data64 + 40]\n"
        "    fld1\n"
        "    fstp st(0)\n"
        "    fnstenv [rip + data64 + 64]\n"
        "    lea eax, [rip + data64]\n"
        "    lea rax, [rip + here64]\n"
        "    call rax\n"
        "    push qword ptr [rip + data64]\n"
        "    pop r12\n"
        "    mov ecx, 5\n"
        "2:  dec ecx\n"
        "    jnz 2b\n"
        "    jrcxz 3f\n"
        "    hlt\n"
        "3:  jmp end64\n"
        "near64:\n"
        "    mov r9, [rsp]\n"
        "    mov r13d, 3\n"
        "4:  sub r13d, 1\n"
        "    jne 4b\n"
        "    ret\n"
        "here64:\n"
        "    lea r8, [rip]\n"
        "    ret\n"
        "back64:\n"
        "    mov r15, [rsp]\n"
        "    ret\n"
        ".balign 4096\n"
        "far64:\n"
        "    mov r10, [rsp]\n"
        "    lea r11, [rip + clone_code64]\n"
        "    cmp r10, r11\n"
        "    jb 5f\n"
        "    inc r14\n"
        "5:  jmp back64\n"
        "end64:\n"
        "    hlt\n"
        ".balign 4096\n"
        "data64:\n"
        "clone_code64_end:\n"
        ".balign 4096\n"
        ".code32\n"
        "clone_code32:\n"
        "    mov ebx, 0x11111111\n"
        "    call 1f\n"
        "1:  pop esi\n"
        "    add [esi + 2 * 4096 - 10], ebx\n"
        "    call far32\n"
        "    fld1\n"
        "    fstp dword ptr [esi + 2 * 4096]\n"
        "    fnstenv [esi + 2 * 4096 + 64]\n"
        "    mov ecx, 5\n"
        "2:  dec ecx\n"
        "    jnz 2b\n"
        "    jecxz 3f\n"
        "    hlt\n"
        "3:  jmp end32\n"
        "back32:\n"
        "    mov edi, [esp]\n"
        "    ret\n"
        ".balign 4096\n"
        "far32:\n"
        "    mov edx, [esp]\n"
        "    jmp back32\n"
        "end32:\n"
        "    hlt\n"
        ".balign 4096\n"
        "clone_code32_end:\n"
        ".code64\n"
        ".att_syntax\n"
        ".popsection\n");

extern const u8 clone_code64[], clone_code64_end[], clone_code32[], clone_code32_end[];

/* --- the machine --- */

struct result {
    u64 gpr[16], rip, rflags;
    u8 data[PAGE_SIZE];
};

static void put_data(struct test_machine *tm)
{
    memset(tm->ram + DATA_AT, 0, PAGE_SIZE);
    put64(tm, DATA_AT, 0x1122334455667788);
    put64(tm, DATA_AT + 32, 77);
}

static void put_code(struct test_machine *tm, bool wide)
{
    const u8 *from = wide ? clone_code64 : clone_code32;
    size_t size = (size_t)((wide ? clone_code64_end : clone_code32_end) - from);
    assert_true(size == 2 * PAGE_SIZE);
    guestmem_write(tm->m.mem, CODE_AT, from, size);
}

/* The first 2 MiB (32-bit: 4 MiB) of RAM are at many linear addresses. */
static void map_many(struct test_machine *tm, bool wide)
{
    if (wide) {
        long_mode(tm, 0);
        for (unsigned n = 100; n < 200; n++)
            put64(tm, PML4_AT + 0x2000 + 8 * n, 0x87);
        put64(tm, PML4_AT + 8 * 0xfe, (PML4_AT + 0x1000) | 7);
        put64(tm, PML4_AT + 8 * 0xaa, (PML4_AT + 0x1000) | 7);
        return;
    }
    protected_mode(tm, 0);
    for (unsigned n = 0; n < 1024; n++)
        store_le(tm->ram + PML4_AT + 4 * n, 0x87, 4);
    tm->v->cr3 = PML4_AT;
    tm->v->cr4 |= CR4_PSE;
    tm->v->cr0 |= CR0_PG;
    cpu_update_mode(tm->v);
}

static void run_at(struct rig *r, u64 rip, struct result *out)
{
    struct vcpu *v = r->tm->v;
    struct vm_exit exit = {.kind = EXIT_KICKED};
    put_data(r->tm);
    for (unsigned n = 0; n < 16; n++)
        v->gpr[n] = 0x1000 + n;
    v->gpr[RSP] = 0x8000;
    v->rip = rip;
    v->rflags = FLAG_ONE;
    v->activity = ACTIVITY_RUNNING;
    memset(&v->fpu, 0, offsetof(struct fpu_legacy, xmm));
    v->fpu.legacy.fcw = 0x37f;
    v->fpu.legacy.mxcsr = 0x1f80;
    v->fpu.xstate_bv |= 1;
    r->ops->run(r->engine, v, &exit);
    assert_int_equal(exit.kind, EXIT_HALT);
    memcpy(out->gpr, v->gpr, sizeof(out->gpr));
    out->rip = v->rip;
    out->rflags = v->rflags;
    memcpy(out->data, r->tm->ram + DATA_AT, PAGE_SIZE);
}

/* --- tests --- */

struct place {
    u64 rip;
    bool clones; /* what is run there is not translated */
};

static void expect(struct rig *r, struct rig *reference, const struct place *p, unsigned at_least)
{
    static struct result want, got;
    u64 clones = stat(r, STAT_BT_CLONED), translations = stat(r, STAT_BT_TRANSLATED), entries;
    run_at(reference, p->rip, &want);
    for (unsigned n = 0; n < RUNS; n++) {
        entries = stat(r, STAT_BT_ENTRIES);
        run_at(r, p->rip, &got);
        assert_memory_equal(got.gpr, want.gpr, sizeof(got.gpr));
        assert_int_equal(got.rip, want.rip);
        assert_int_equal(got.rflags, want.rflags);
        assert_memory_equal(got.data, want.data, PAGE_SIZE);
    }
    assert_int_equal(stat(r, STAT_BT_ENTRIES) - entries, 1); /* all exits are linked */
    if (p->clones) { /* all but what has no room for the new address */
        assert_true(stat(r, STAT_BT_CLONED) >= clones + at_least);
        assert_true(stat(r, STAT_BT_TRANSLATED) <= translations + 2);
    }
}

/* The reference runs on a machine of its own. */
static void compare(bool wide, bool several, const struct place *place, unsigned n)
{
    struct test_machine *tm[2];
    struct rig bt, reference;
    for (unsigned m = 0; m < 2; m++) {
        assert_int_equal(machine_setup((void **)&tm[m]), 0);
        engine_interp.detach(&tm[m]->m, tm[m]->v);
        map_many(tm[m], wide);
        put_code(tm[m], wide);
    }
    if (several) {
        tm[0]->m.ncpus = 2;
        tm[0]->m.vcpu[1] = tm[0]->v;
    }
    start(&bt, tm[0], &engine_bt);
    start(&reference, tm[1], &engine_interp);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned k = 0; k < n; k++)
            expect(&bt, &reference, &place[k], round == 0 ? 6 : 0);
        /* Changed code is new everywhere. */
        u32 value = 0x22222222 + round;
        for (unsigned m = 0; m < 2; m++)
            guestmem_write(tm[m]->m.mem, CODE_AT + 1, &value, sizeof(value));
        struct place again = {place[round % n].rip, false};
        expect(&bt, &reference, &again, 0);
    }
    stop(&bt);
    stop(&reference);
    tm[0]->m.ncpus = 1;
    struct error err;
    for (unsigned m = 0; m < 2; m++) {
        assert_int_equal(engine_interp.attach(&tm[m]->m, tm[m]->v, &err), 0);
        machine_teardown((void **)&tm[m]);
    }
}

/* High addresses are 64-bit constants, low ones are not and have no room for others. Code of the upper
 * half is not cloned. */
static const struct place wide_places[] = {
    {0x7f0000000000 + (100ULL << 21) + CODE_AT, false},
    {0x7f0000000000 + (123ULL << 21) + CODE_AT, true},
    {0x550000000000 + (177ULL << 21) + CODE_AT, true},
    {0x7f0000000000 + (150ULL << 21) + CODE_AT, true},
    {CODE_AT, true}, /* a 64-bit constant that is small */
    {(111ULL << 21) + CODE_AT, true},
};

static const struct place low_places[] = {
    {CODE_AT, false},
    {(101ULL << 21) + CODE_AT, true},
    {0x7f0000000000 + (100ULL << 21) + CODE_AT, false},
    {0x7f0000000000 + (199ULL << 21) + CODE_AT, true},
};

static const struct place legacy_places[] = {
    {CODE_AT, false},
    {0x400000 + CODE_AT, true},
    {0xffc00000 + CODE_AT, true},
    {0x7fc00000 + CODE_AT, true},
};

static void test_wide(void **state)
{
    (void)state;
    compare(true, false, wide_places, ARRAY_SIZE(wide_places));
}

static void test_wide_several(void **state)
{
    (void)state;
    compare(true, true, wide_places, ARRAY_SIZE(wide_places));
}

static void test_low(void **state)
{
    (void)state;
    compare(true, false, low_places, ARRAY_SIZE(low_places));
}

static void test_legacy(void **state)
{
    (void)state;
    compare(false, false, legacy_places, ARRAY_SIZE(legacy_places));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wide),
        cmocka_unit_test(test_wide_several),
        cmocka_unit_test(test_low),
        cmocka_unit_test(test_legacy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
