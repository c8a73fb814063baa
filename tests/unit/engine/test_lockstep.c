/*
 * The lockstep engine: an engine that is right agrees with the reference over faults,
 * self-modifying code, page tables, interrupted REP instructions and devices; one that gets a
 * register or a byte of memory wrong at one block is found out there.
 */
#include "machine.h"

#include "engine/lockstep/lockstep.h"

#define CODE      0x2000
#define STORED_AT 0x3000
#define WRONG_AT  1000 /* blocks */

/* The interpreter, which at one block does something wrong. */
struct tested {
    struct test_machine *tm;
    unsigned blocks;
    void (*wrong)(struct test_machine *tm);
};

/* How the next engine to be created goes wrong; NULL: it is right. */
static struct tested next;

static int tested_create(struct machine *m, void **engine, struct error *err)
{
    (void)m;
    (void)err;
    struct tested *t = malloc(sizeof(*t));
    *t = next;
    *engine = t;
    return 0;
}

static unsigned tested_block(void *engine, struct vcpu *v, struct vm_exit *exit)
{
    struct tested *t = engine;
    unsigned n = engine_interp.run_block(t->tm->v->machine, v, exit);
    if (++t->blocks == WRONG_AT && t->wrong)
        t->wrong(t->tm);
    return n;
}

/* Runs in lockstep; the text of the difference, or NULL. */
static char *lockstep(struct test_machine *tm, void (*wrong)(struct test_machine *tm),
                      enum exit_kind kind)
{
    struct engine_ops ops = engine_interp;
    struct lockstep_options opt = {.tested = &ops};
    struct vm_exit exit = {.kind = EXIT_KICKED};
    struct error err;
    void *engine;
    ops.create = tested_create;
    ops.destroy = free;
    ops.run_block = tested_block;
    next = (struct tested){.tm = tm, .wrong = wrong};
    engine_interp.detach(&tm->m, tm->v);
    assert_int_equal(lockstep_create(&tm->m, &opt, &engine, &err), 0);
    assert_int_equal(engine_lockstep.attach(engine, tm->v, &err), 0);
    engine_lockstep.run(engine, tm->v, &exit);
    engine_lockstep.detach(engine, tm->v);
    const char *text = lockstep_difference(engine);
    char *copy = text ? strdup(text) : NULL;
    engine_lockstep.destroy(engine);
    assert_int_equal(engine_interp.attach(&tm->m, tm->v, &err), 0);
    if (copy && exit.kind != kind)
        print_message("%s\n", copy);
    assert_int_equal(exit.kind, kind);
    return copy;
}

static u64 counted(const struct test_machine *tm, enum stat_id id)
{
    return tm->v->stats.count[id];
}

/* mov ecx, 5000; again: add ebx, ecx; mov [STORED_AT], ebx; push ebx; pop edx; dec ecx; jnz again;
 * hlt */
static void put_loop(struct test_machine *tm)
{
    PUT(tm, CODE, 0xb9, 0x88, 0x13, 0, 0, 0x01, 0xcb, 0x89, 0x1d, 0, 0x30, 0, 0, 0x53, 0x5a, 0x49,
        0x75, 0xf3, 0xf4);
    protected_mode(tm, CODE);
}

static void agrees(void **state)
{
    struct test_machine *tm = *state;
    put_loop(tm);
    assert_null(lockstep(tm, NULL, EXIT_HALT));
    assert_int_equal(tm->v->gpr[RBX], 5000 * 5001 / 2);
    assert_int_equal(get(tm, STORED_AT, 4), 5000 * 5001 / 2);
    assert_true(counted(tm, STAT_LOCKSTEP_INSNS) == 5000 * 6 + 1);
    assert_int_equal(counted(tm, STAT_LOCKSTEP_UNCOMPARED), 0);
}

static void flip_rbx(struct test_machine *tm)
{
    tm->v->gpr[RBX] ^= 0x100;
}

static void finds_a_register(void **state)
{
    struct test_machine *tm = *state;
    put_loop(tm);
    char *text = lockstep(tm, flip_rbx, EXIT_DIFFERENCE);
    assert_non_null(strstr(text, "  rbx "));
    assert_null(strstr(text, "gpa"));
    assert_non_null(strstr(text, "add ebx, ecx"));
    assert_non_null(strstr(text, "after 6 instructions"));
    free(text);
    assert_int_equal(counted(tm, STAT_LOCKSTEP_BLOCKS), WRONG_AT - 1);
}

static void flip_ymm(struct test_machine *tm)
{
    tm->v->fpu.ymm_hi[15][15] ^= 0x80;
}

static void finds_a_vector_register(void **state)
{
    struct test_machine *tm = *state;
    put_loop(tm);
    char *text = lockstep(tm, flip_ymm, EXIT_DIFFERENCE);
    assert_non_null(strstr(text, "  ymm15.high "));
    free(text);
}

static void flip_byte(struct test_machine *tm)
{
    tm->ram[STORED_AT + 1] ^= 1;
}

static void finds_a_store(void **state)
{
    struct test_machine *tm = *state;
    put_loop(tm);
    char *text = lockstep(tm, flip_byte, EXIT_DIFFERENCE);
    assert_non_null(strstr(text, "[gpa 000003000]"));
    assert_null(strstr(text, "  rbx 0000000000000000"));
    free(text);
}

static void go_back(struct test_machine *tm)
{
    tm->v->rip = CODE + 5;
    tm->v->gpr[RCX]++;
}

static void finds_a_block_done_twice(void **state)
{
    struct test_machine *tm = *state;
    put_loop(tm);
    free(lockstep(tm, go_back, EXIT_DIFFERENCE));
}

/* xor edx, edx; xor ebx, ebx; mov ecx, 3000; again: div ebx (the handler skips it); dec ecx;
 * jnz again; hlt. Handler: add dword [esp], 2; iretd */
static void agrees_on_faults(void **state)
{
    struct test_machine *tm = *state;
    PUT(tm, CODE, 0x31, 0xd2, 0x31, 0xdb, 0xb9, 0xb8, 0x0b, 0, 0, 0xf7, 0xf3, 0x49, 0x75, 0xfb,
        0xf4);
    PUT(tm, 0x5000, 0x83, 0x04, 0x24, 0x02, 0xcf);
    protected_mode(tm, CODE);
    set_gate(tm, VEC_DE, 0x5000, GATE_INT);
    assert_null(lockstep(tm, NULL, EXIT_HALT));
    assert_int_equal(tm->v->gpr[RCX], 0);
    assert_int_equal(counted(tm, STAT_FAULT_DE), 3000);
    assert_int_equal(counted(tm, STAT_LOCKSTEP_UNCOMPARED), 0);
}

/* mov ecx, 200; again: inc byte [patched+1]; patched: add al, 0; dec ecx; jnz again; hlt */
static void agrees_on_modified_code(void **state)
{
    struct test_machine *tm = *state;
    PUT(tm, CODE, 0xb9, 200, 0, 0, 0, 0xfe, 0x05, 0x0c, 0x20, 0, 0, 0x04, 0x00, 0x49, 0x75, 0xf5,
        0xf4);
    protected_mode(tm, CODE);
    assert_null(lockstep(tm, NULL, EXIT_HALT));
    assert_int_equal(tm->v->gpr[RAX] & 0xff, (u8)(200 * 201 / 2));
}

/* mov esi, 0x100800; mov edi, 0x100900; mov ecx, 0x8000; rep movsb; hlt: source and destination
 * overlap, and a pending interrupt that is masked interrupts at each page. */
static void agrees_on_parts_of_rep(void **state)
{
    struct test_machine *tm = *state;
    PUT(tm, CODE, 0xbe, 0, 0x08, 0x10, 0, 0xbf, 0, 0x09, 0x10, 0, 0xb9, 0, 0x80, 0, 0, 0xf3, 0xa4,
        0xf4);
    for (unsigned n = 0; n < 0x100; n++)
        tm->ram[0x100800 + n] = (u8)(n * 7);
    protected_mode(tm, CODE);
    raise_irq(tm, 0x40);
    assert_null(lockstep(tm, NULL, EXIT_HALT));
    assert_int_equal(tm->v->gpr[RCX], 0);
    for (unsigned n = 0; n < 0x8100; n++)
        assert_int_equal(tm->ram[0x100800 + n], (u8)((n & 0xff) * 7));
    assert_true(counted(tm, STAT_LOCKSTEP_REPLAYS) >= 8);
    assert_int_equal(counted(tm, STAT_LOCKSTEP_UNCOMPARED), 0);
}

static void agrees_on_page_tables(void **state)
{
    struct test_machine *tm = *state;
    put_loop(tm);
    long_mode(tm, CODE);
    /* mov ecx, 100; again: inc dword [ebx]; add ebx, 4096; dec ecx; jnz again; hlt */
    PUT(tm, CODE, 0xb9, 100, 0, 0, 0, 0xff, 0x03, 0x81, 0xc3, 0, 0x10, 0, 0, 0xff, 0xc9, 0x75, 0xf4,
        0xf4);
    tm->v->gpr[RBX] = 0x200000;
    put64(tm, PML4_AT + 0x2000 + 8, (PML4_AT + 0x3000) | 7); /* 4 KiB pages */
    for (unsigned n = 0; n < 512; n++)
        put64(tm, PML4_AT + 0x3000 + 8 * n, (0x200000 + 0x1000 * n) | 7);
    assert_null(lockstep(tm, NULL, EXIT_HALT));
    for (unsigned n = 0; n < 512; n++)
        assert_int_equal(get(tm, PML4_AT + 0x3000 + 8 * n, 8) & 0x60, n < 100 ? 0x60 : 0);
}

static u64 count_read(void *ctx, u64 off, unsigned size)
{
    (void)off;
    (void)size;
    return ++*(unsigned *)ctx;
}

static void count_write(void *ctx, u64 off, u64 value, unsigned size)
{
    (void)off;
    (void)value;
    (void)size;
    *(unsigned *)ctx += 1000;
}

/* mov ecx, 10; again: add ebx, 1; add eax, [0xfed00000]; mov [0xfed00000], eax; dec ecx; jnz again;
 * hlt: the device sees each access once. */
static void devices_see_each_access_once(void **state)
{
    struct test_machine *tm = *state;
    static const struct mmio_ops ops = {.read = count_read, .write = count_write};
    struct error err;
    unsigned accesses = 0;
    assert_int_equal(guestmem_add_mmio(tm->m.mem, 0xfed00000, 0x1000, &ops, &accesses, NULL, &err),
                     0);
    PUT(tm, CODE, 0xb9, 10, 0, 0, 0, 0x83, 0xc3, 0x01, 0x03, 0x05, 0, 0, 0xd0, 0xfe, 0xa3, 0, 0,
        0xd0, 0xfe, 0x49, 0x75, 0xef, 0xf4);
    protected_mode(tm, CODE);
    assert_null(lockstep(tm, NULL, EXIT_HALT));
    assert_int_equal(accesses, 10 * 1001);
    assert_int_equal(tm->v->gpr[RBX], 10);
    assert_int_equal(counted(tm, STAT_LOCKSTEP_ALONE) > 20, 1);
}

static void stops_comparing(void **state)
{
    struct test_machine *tm = *state;
    struct lockstep_options opt = {.tested = &engine_interp, .limit = 600};
    struct vm_exit exit = {.kind = EXIT_KICKED};
    struct error err;
    void *engine;
    put_loop(tm);
    engine_interp.detach(&tm->m, tm->v);
    assert_int_equal(lockstep_create(&tm->m, &opt, &engine, &err), 0);
    assert_int_equal(engine_lockstep.attach(engine, tm->v, &err), 0);
    engine_lockstep.run(engine, tm->v, &exit);
    engine_lockstep.detach(engine, tm->v);
    engine_lockstep.destroy(engine);
    assert_int_equal(engine_interp.attach(&tm->m, tm->v, &err), 0);
    assert_int_equal(exit.kind, EXIT_HALT);
    assert_int_equal(tm->v->gpr[RBX], 5000 * 5001 / 2);
    assert_in_range(counted(tm, STAT_LOCKSTEP_INSNS), 600, 640);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, machine_setup, machine_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(agrees),
        TEST(finds_a_register),
        TEST(finds_a_vector_register),
        TEST(finds_a_store),
        TEST(finds_a_block_done_twice),
        TEST(agrees_on_faults),
        TEST(agrees_on_modified_code),
        TEST(agrees_on_parts_of_rep),
        TEST(agrees_on_page_tables),
        TEST(devices_see_each_access_once),
        TEST(stops_comparing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
