/*
 * Two processors, one of which changes the mapping or the code that the other one is using: TLB
 * shootdowns by IPI, cross-modifying code by the rules of SDM vol. 3, 8.1.3, and by INT3.
 */
#include "stress.h"

#define GROUP    "smp"
#define MANY     5000u
#define FINISHED (MANY + 1)

static volatile u32 acknowledged, epoch, looks, stopped;

static void on_flush(struct frame *f)
{
    (void)f;
    invlpg(window(0));
    acknowledged = acknowledged + 1;
    notify();
    eoi();
}

static void on_sync(struct frame *f)
{
    (void)f;
    serialize();
    acknowledged = acknowledged + 1;
    notify();
    eoi();
}

/* The other processor handles an IPI. */
static bool interrupt_other(u32 vector)
{
    u32 before = acknowledged;
    ipi(vector);
    return wait_for(&acknowledged, before + 1);
}

/* Runs change(n) on this processor until time is over, and look() all the time on the other one,
 * with interrupts on. */
static bool (*change)(u32 n);
static void (*look)(void);

static void change_and_look(u32 cpu)
{
    if (cpu == 0) {
        u32 n = 1;
        while (n <= MANY && (n < 20 || time_left()) && change(n))
            n++;
        stopped = 1;
        count("changes", n - 1);
    } else {
        __asm__ volatile("sti" ::: "memory");
        while (!stopped && !failed()) {
            look();
            looks = looks + 1;
            notify();
        }
        stopped = 1;
        __asm__ volatile("cli" ::: "memory");
    }
}

static bool change_under_look(bool (*change_fn)(u32 n), void (*look_fn)(void))
{
    acknowledged = epoch = looks = stopped = 0;
    change = change_fn;
    look = look_fn;
    on_trap(VECTOR_FLUSH, on_flush);
    on_trap(VECTOR_SYNC, on_sync);
    bool ran = both(change_and_look);
    if (ran)
        count("looks", looks);
    return ran;
}

/* --- shootdowns: frame n % 8 returns and holds n, put there before it is mapped --- */

static bool change_page(u32 n)
{
    put_constant(frames[n % 8], n);
    put_imm(frames[n % 8] + 0x800, n);
    window_pt[0] = pte(n % 8, P_RW);
    if (!interrupt_other(VECTOR_FLUSH))
        return false;
    epoch = n;
    return !failed();
}

static void expect_current(u32 before, u32 got, u32 after)
{
    EXPECT(got - before <= after + 1 - before, true);
}

static void look_at_data(void)
{
    u32 before = epoch, got = *(volatile u32 *)(window(0) + 0x800);
    expect_current(before, got, epoch);
}

static void look_at_code(void)
{
    u32 before = epoch, got = run(window(0), 0, 0);
    expect_current(before, got, epoch);
}

static void shoot_down(void (*look_fn)(void))
{
    put_constant(frames[0], 0);
    put_imm(frames[0] + 0x800, 0);
    map(0, 0, P_RW);
    change_under_look(change_page, look_fn);
}

TEST(shootdown_of_data)
{
    shoot_down(look_at_data);
}

TEST(shootdown_of_code)
{
    shoot_down(look_at_code);
}

/* Through a direct call from a page that stays. */
static void look_at_callee(void)
{
    u32 before = epoch, got = run(window(1), 0, 0);
    expect_current(before, got, epoch);
}

TEST(shootdown_of_callee)
{
    struct out o = {frames[20], (ulong)window(1)};
    put_call(&o, (ulong)window(0));
    put_ret(&o);
    map(1, 20, P_RW);
    shoot_down(look_at_callee);
}

/* Odd epochs: there is no page. */
static bool unmap_page(u32 n)
{
    window_pt[0] = n & 1 ? 0 : pte(0, P_RW);
    if (!interrupt_other(VECTOR_FLUSH))
        return false;
    epoch = n;
    return wait_for(&looks, looks + 3);
}

static void look_at_hole(void)
{
    struct catcher caught;
    u32 before = epoch;
    try_run(window(0), 0, 0, &caught);
    u32 after = epoch;
    bool next_has_begun = (window_pt[0] & P_P) == (after & 1);
    if (before == after && !next_has_begun)
        EXPECT(caught.vector, after & 1 ? 14 : NO_FAULT);
}

TEST(shootdown_to_nothing)
{
    put_constant(frames[0], 0);
    map(0, 0, P_RW);
    change_under_look(unmap_page, look_at_hole);
}

/* --- cross-modifying code --- */

static volatile u32 written, executed;

/* SDM 8.1.3: the writer sets a flag; the other waits for it, serializes, runs the code. */
static void handshake(u32 cpu)
{
    u8 *code = frames[0] + 0x40;
    u32 n = 1;
    for (; n <= MANY; n++) {
        if (cpu == 0) {
            if (n >= 20 && !time_left())
                break;
            put_constant(code, n * 0x10001);
            written = n;
            notify();
            if (!wait_for(&executed, n))
                return;
        } else {
            if (!wait_for(&written, n) || written == FINISHED)
                return;
            serialize();
            EXPECT(run(code, 0, 0), n * 0x10001);
            executed = n;
            notify();
        }
    }
    if (cpu == 0) {
        written = FINISHED;
        count("changes", n - 1);
    }
}

TEST(cross_modifying_with_handshake)
{
    written = executed = stopped = 0;
    put_constant(frames[0] + 0x40, 0);
    both(handshake);
}

/* The way of a kernel that patches running code: INT3 over the first byte, then the rest, then the
 * first byte, with an interrupt of the other processor after each. */
#define TRAPPED 0xdeadu

static void on_patched(struct frame *f)
{
    f->ax = TRAPPED;
    f->ip += 4; /* to the RET */
}

static bool patch(u32 n)
{
    u8 *code = frames[0];
    *(volatile u8 *)code = 0xcc;
    if (!interrupt_other(VECTOR_SYNC))
        return false;
    for (u32 k = 0; k < 4; k++)
        *(volatile u8 *)(code + 1 + k) = (u8)(n >> 8 * k);
    if (!interrupt_other(VECTOR_SYNC))
        return false;
    *(volatile u8 *)code = 0xb8;
    if (!interrupt_other(VECTOR_SYNC))
        return false;
    epoch = n;
    return !failed();
}

static void look_at_patched(void)
{
    u32 before = epoch, got = run(frames[0], 0, 0);
    if (got != TRAPPED)
        expect_current(before, got, epoch);
}

TEST(cross_modifying_with_int3)
{
    put_constant(frames[0], 0);
    on_trap(3, on_patched);
    change_under_look(patch, look_at_patched);
    on_trap(3, 0);
}

/* --- different code on the same pages: a loop at the start of the first one, a function across its
 * end, and what the other processor writes and runs in between --- */

static u32 look_seed = 5;

static void look_at_own(void)
{
    u32 rounds = 1 + random(&look_seed) % 50;
    EXPECT(run(frames[1], rounds, 0), rounds * 5);
    EXPECT(run(frames[2] - 0x20, 0, 0), 0x1234567);
}

static bool write_around(u32 n)
{
    static u32 seed = 9;
    u32 at = random(&seed) % 2 ? 0x41 + random(&seed) % 0xf00 : 0x1041 + random(&seed) % 0xf00;
    put_constant(frames[1] + at, n);
    EXPECT(run(frames[1] + at, 0, 0), n);
    return !failed();
}

static void put_own(void)
{
    static const u8 loop[] = {0x31, 0xc0, 0x83, 0xc0, 0x05, 0x83, 0xe9, 0x01, 0x75, 0xf8, 0xc3};
    memcpy(frames[1], loop, sizeof(loop));
    memset(frames[2] - 0x20, 0x90, 0x40);
    put_constant(frames[2] - 3, 0x1234567);
}

TEST(other_code_on_same_page)
{
    put_own();
    change_under_look(write_around, look_at_own);
}

/* Both write and run their own functions, line by line in turn. */
static void generate(u32 cpu)
{
    u32 seed = 11 + cpu, n = 0;
    while (n < MANY && time_left()) {
        u8 *code = frames[0] + (2 * (random(&seed) % 200) + cpu) * 16;
        put_constant(code, n * 2 + cpu);
        EXPECT(run(code, 0, 0), n * 2 + cpu);
        n++;
    }
    executed = n;
}

TEST(both_generate_on_same_pages)
{
    both(generate);
    count("functions", executed);
}

/* A jump to itself, by its register, at an address that is the start of a page, is left only by
 * interrupts. */
static volatile u32 spins, spinner_done, kicker_done;

static void on_leave_spin(struct frame *f)
{
    if (f->ip == (ulong)window(0))
        f->ip = (ulong)frames[1];
    acknowledged = acknowledged + 1;
    notify();
    eoi();
}

static void spin_and_interrupt(u32 cpu)
{
    if (cpu == 0) {
        while (!spinner_done && !failed() && interrupt_other(VECTOR_SYNC))
            ;
        kicker_done = 1;
        notify();
        return;
    }
    __asm__ volatile("sti" ::: "memory");
    while (spins < MANY && time_left() && !failed()) {
        EXPECT(run(window(0), WINDOW_ADDR, 0), 7);
        spins = spins + 1;
    }
    spinner_done = 1;
    wait_for(&kicker_done, 1);
    __asm__ volatile("cli" ::: "memory");
}

TEST(indirect_jumps_are_interrupted)
{
    map(0, 0, P_RW | P_G);
    frames[0][0] = 0xff; /* jmp *%ecx */
    frames[0][1] = 0xe1;
    put_constant(frames[1], 7);
    on_trap(VECTOR_SYNC, on_leave_spin);
    both(spin_and_interrupt);
    on_trap(VECTOR_SYNC, 0);
    toggle_global();
    count("interrupts", spins);
}
