/*
 * Fidelity of events: what frames of faults, interrupts and traps show, and code that changes or
 * reads code.
 */
#include "nano.h"
#include "tests.h"

#define UNMAPPED (WINDOW_ADDR + 16 * PAGE)
#define IRR_SELF (APIC_IRR + (VECTOR_SELF / 32) * 0x10)
#define STEPS    3

extern const u8 user_load[], user_store[], user_jump[], user_push[], user_push_at[], user_step[],
    user_step_1[], user_step_2[], user_step_3[];
extern const u8 load_at[], store_at[], div_at[], ud_at[], int3_at[], add_at[], add_at_insn[],
    movs_at[], movs_at_insn[], shadow[], shadow_end[];
extern u8 next_insn[], forbidden[];

/* --- interrupts and traps --- */

static struct frame seen;

static void on_self(struct frame *f)
{
    seen = *f;
    eoi();
}

void check_sti_shadow(void)
{
    struct caught c;
    hook_set(VECTOR_SELF, on_self);
    for (u32 n = 0; n < 20; n++) {
        seen.ip = 0;
        self_ipi(VECTOR_SELF);
        for (u32 tries = 0; tries < 1000000 && !(*apic(IRR_SELF) >> VECTOR_SELF % 32 & 1); tries++)
            pause();
        u32 result = try_call(shadow, 0, 0, &c);
        EXPECT(result, 2);
        EXPECT(seen.ip, (ulong)shadow_end);
        EXPECT(seen.ax, 1);
    }
}

static u32 steps[STEPS], step_count;

static void on_step(struct frame *f)
{
    if (step_count < STEPS)
        steps[step_count++] = (u32)f->ip;
    if (step_count == STEPS)
        f->flags &= ~(ulong)FLAG_TF;
}

void check_single_step(void)
{
    struct caught c;
    step_count = 0;
    hook_set(1, on_step);
    try_user(user_step, 0, 0, 0, &c);
    EXPECT(c.frame.vector, VECTOR_EXIT);
    EXPECT(step_count, STEPS);
    EXPECT(steps[0], (ulong)user_step_1);
    EXPECT(steps[1], (ulong)user_step_2);
    EXPECT(steps[2], (ulong)user_step_3);
}

/* --- code as data --- */

void check_smc(void)
{
    struct caught c;
    for (u32 n = 0; n < 300; n++)
        if (!expect("what the instruction just written does", n & 0xff,
                    try_call(next_insn, n & 0xff, 0, &c)))
            return;
}

static u32 sum_of(const u8 *from, const u8 *end)
{
    u32 sum = 0, word;
    for (; from < end; from += 4) {
        __asm__ volatile("movl %%cs:(%1), %0" : "=r"(word) : "r"(from)); /* as the processor does */
        sum = (sum << 1 | sum >> 31) + word;
    }
    return sum;
}

void check_own_code(void)
{
    struct caught c;
    const u8 *end = text_end - 3;
    u32 kernel = sum_of(text_start, end), user = sum_of(forbidden, forbidden + 256);
    for (u32 n = 0; n < 100; n++) {
        run_user(user_load, 0, (u32)(ulong)forbidden);
        try_call(div_at, 1, 0, &c);
        if (!EXPECT(sum_of(text_start, end), kernel))
            return;
    }
    EXPECT(sum_of(forbidden, forbidden + 256), user);
    EXPECT(ud_at[0] | ud_at[1] << 8, 0x0b0f);
}

void check_return_address(void)
{
    ulong shown, real;
    __asm__ volatile("call 1f\n1:\tpop %0\n\tmov $1b, %1" : "=r"(shown), "=r"(real)::"memory");
    EXPECT(shown, real);
}

/* --- faults --- */

static void expect_fault(const struct caught *c, u32 vector, const u8 *ip)
{
    EXPECT(c->any, true);
    EXPECT(c->frame.vector, vector);
    EXPECT(c->frame.ip, (ulong)ip);
}

static void expect_page_fault(const struct caught *c, const u8 *ip, u32 error, ulong address)
{
    expect_fault(c, 14, ip);
    EXPECT(c->frame.error, error);
    EXPECT(c->address, address);
}

static void faults_of_user(void)
{
    struct caught c;
    try_user(user_load, 0, UNMAPPED + 5, 0, &c);
    expect_page_fault(&c, user_load, 4, UNMAPPED + 5);
    try_user(user_store, 0, UNMAPPED + 6, 0, &c);
    expect_page_fault(&c, user_store, 6, UNMAPPED + 6);
    try_user(user_jump, 0, UNMAPPED + 7, 0, &c);
    expect_page_fault(&c, (const u8 *)UNMAPPED + 7, 4, UNMAPPED + 7);
    try_user(user_push, 0, UNMAPPED + 0x800, 0, &c);
    expect_page_fault(&c, user_push_at, 6, UNMAPPED + 0x800 - WORD);
    EXPECT(c.frame.sp, UNMAPPED + 0x800);
}

void check_fault_ip(void)
{
    struct caught c;
    try_call(load_at, UNMAPPED + 1, 0, &c);
    expect_page_fault(&c, load_at, 0, UNMAPPED + 1);
    try_call(store_at, UNMAPPED + 2, 0, &c);
    expect_page_fault(&c, store_at, 2, UNMAPPED + 2);
    try_call(add_at, UNMAPPED, 0, &c);
    expect_page_fault(&c, add_at_insn, 2, UNMAPPED);
    EXPECT(c.frame.ax, 0x1234);
    EXPECT(c.frame.flags & FLAG_CF, FLAG_CF);
    try_call(div_at, 0, 0, &c);
    expect_fault(&c, 0, div_at);
    try_call(ud_at, 0, 0, &c);
    expect_fault(&c, 6, ud_at);
    try_call(int3_at, 0, 0, &c);
    expect_fault(&c, 3, int3_at + 1);
    faults_of_user();
}

void check_rep_fault(void)
{
    struct caught c;
    const u32 length = 2 * PAGE + 100, to = 17 * PAGE;
    for (u32 n = 0; n < 4; n++)
        window_map(n < 2 ? n : 15 + n, (ulong)frame_alloc() | P_RW);
    try_call(movs_at, length, WINDOW_ADDR + to, &c);
    expect_page_fault(&c, movs_at_insn, 0, WINDOW_ADDR + 2 * PAGE);
    EXPECT(c.frame.cx, 100);
    EXPECT(c.frame.si, WINDOW_ADDR + 2 * PAGE);
    EXPECT(c.frame.di, WINDOW_ADDR + to + 2 * PAGE);
}

void check_gate_dpl(void)
{
    struct caught c;
    const u8 *int20 = forbidden + 23 * 16;
    try_user(int20, 0, 0, 0, &c);
    expect_fault(&c, 13, int20);
    EXPECT(c.frame.error, 0x20 * 8 + 2);
}

void check_double_fault(void)
{
    struct caught c;
    gate_set(14, stubs + 14 * STUB_BYTES, false, false);
    try_user(user_load, 0, UNMAPPED, 0, &c);
    EXPECT(c.any, true);
    EXPECT(c.frame.vector, 8);
    EXPECT(c.frame.error, 0);
}

/* --- accessed, dirty, WP --- */

void check_page_bits(void)
{
    struct caught c;
    volatile pte_t *e = window_pt;
    window_map(0, (ulong)frame_alloc() | P_RW);
    EXPECT(*e & (P_A | P_D), 0);
    try_call(load_at, WINDOW_ADDR, 0, &c);
    EXPECT(*e & (P_A | P_D), P_A);
    try_call(store_at, WINDOW_ADDR, 0, &c);
    EXPECT(*e & (P_A | P_D), P_A | P_D);
    *e &= ~(pte_t)(P_A | P_D);
    invlpg(WINDOW);
    try_call(load_at, WINDOW_ADDR, 0, &c);
    EXPECT(*e & (P_A | P_D), P_A);
    *e &= ~(pte_t)P_W;
    invlpg(WINDOW);
    try_call(store_at, WINDOW_ADDR, 0, &c);
    expect_page_fault(&c, store_at, 3, WINDOW_ADDR);
    EXPECT(*e & (P_A | P_D), P_A);
}
