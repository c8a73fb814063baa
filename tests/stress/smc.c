/*
 * Self-modifying code on one processor. Writers and code share linear addresses, so that no
 * serialization is needed (SDM vol. 3, 8.1.3), except where a test says otherwise.
 */
#include "stress.h"

#define GROUP  "smc"
#define ROUNDS 5000u

extern u8 hot_immediate[], hot_value[], changed_opcode[], beside[], counter_before[],
    counter_behind[], own_store[], own_store_insn[], own_store_end[], unrolled[], replaced[];
#define PATCHES(P)                                                                                 \
    P(mov)                                                                                         \
    P(xchg)                                                                                        \
    P(cmpxchg)                                                                                     \
    P(add) P(xadd) P(bytes) P(stos) P(movs) P(rep_movs) P(push) P(movd) P(movups) P(fistp)         \
        P(cmpxchg8b)

static u32 sum(u32 n)
{
    return n * (n + 1) / 2;
}

TEST(immediate_in_hot_loop)
{
    put_imm(hot_value, 0);
    EXPECT(run(hot_immediate, 20000, 0), sum(19999));
}

/* The next instruction's immediate, by all kinds of stores. */
#define PATCHED(name)                                                                              \
    TEST(next_instruction_by_##name)                                                               \
    {                                                                                              \
        extern const u8 patched_by_##name[];                                                       \
        EXPECT(run(patched_by_##name, ROUNDS, 0), sum(ROUNDS));                                    \
    }
PATCHES(PATCHED)

#define PATCHED_BEHIND(name)                                                                       \
    TEST(next_block_behind_##name)                                                                 \
    {                                                                                              \
        extern const u8 patched_behind_##name[];                                                   \
        EXPECT(run(patched_behind_##name, ROUNDS, 0), sum(ROUNDS));                                \
    }
PATCHED_BEHIND(jump)
PATCHED_BEHIND(branch)
PATCHED_BEHIND(call)

TEST(next_opcode)
{
    /* Odd rounds add 7; even ones subtract 7 and add 4. */
    EXPECT(run(changed_opcode, ROUNDS, 0), ROUNDS / 2 * 4);
}

TEST(counters_beside_code)
{
    put_imm(counter_before, 0);
    put_imm(counter_behind, 0);
    EXPECT(run(beside, 50000, 0), 50000);
    EXPECT(*(volatile u32 *)counter_behind, 50000);
}

TEST(store_over_itself)
{
    u8 saved[16];
    u32 len = (u32)(own_store_end - own_store_insn), jump = 0x900000eb | (len - 2) << 8;
    memcpy(saved, own_store_insn, sizeof(saved));
    for (u32 n = 0; n < 200; n++) {
        EXPECT(run(own_store, 3, jump), 3);
        EXPECT(*(volatile u32 *)own_store_insn, jump);
        memcpy(own_store_insn, saved, len);
    }
}

TEST(next_copy_of_unrolled_loop)
{
    u32 want = 0, c = 0, next = 0;
    put_imm(unrolled + (unrolled[0] == 0x31 ? 4 : 0) + 1, 0);
    for (u32 round = 0; round < 500; round++) {
        for (u32 k = 0; k < 17; k++) {
            want += next;
            next = ++c;
        }
    }
    EXPECT(run(unrolled, 0, 500), want);
}

TEST(rep_movs_and_stos_over_next)
{
    EXPECT(run(replaced, ROUNDS, 0), ROUNDS / 2 * 11);
}

/* Functions of different lengths at one address. */
TEST(generated_at_one_address)
{
    u32 seed = 1;
    for (u32 n = 0; n < ROUNDS && !failed(); n++) {
        struct out o = {frames[0] + 100, 0};
        u32 terms = 1 + random(&seed) % 8, want = n;
        put_mov_eax(&o, n);
        for (u32 k = 0; k < terms; k++) {
            u32 term = random(&seed);
            want += term;
            put_add_eax(&o, term);
        }
        put_ret(&o);
        EXPECT(run(frames[0] + 100, 0, 0), want);
    }
}

/* Many functions that stay, while others beside them are replaced; some cross a page. */
TEST(generated_at_many_addresses)
{
    enum { SLOTS = 500, SLOT = 23 };
    static u32 value[SLOTS];
    u32 seed = 7;
    memset(value, 0, sizeof(value));
    for (u32 n = 0; n < SLOTS; n++)
        put_constant(frames[0] + n * SLOT, 0);
    for (u32 n = 0; n < 4 * ROUNDS && !failed(); n++) {
        u32 slot = random(&seed) % SLOTS;
        if (n % 3 == 0) {
            value[slot] = random(&seed);
            put_constant(frames[0] + slot * SLOT, value[slot]);
        }
        EXPECT(run(frames[0] + slot * SLOT, 0, 0), value[slot]);
    }
}

/* A caller in the middle of which a callee is replaced, called again and again. */
TEST(generated_callee)
{
    u8 *callee = frames[2] + 0x80;
    struct out o = {frames[0], (ulong)frames[0]};
    put_call(&o, (ulong)callee);
    put_ret(&o);
    for (u32 n = 0; n < ROUNDS && !failed(); n++) {
        put_constant(callee, n);
        EXPECT(run(frames[0], 0, 0), n);
    }
}

/* mov $imm, %eax with `first` bytes on page 0 and the rest on page 1 of the window. */
static u8 *put_crossing(u32 first, u32 imm)
{
    u8 *code = window(1) - first;
    put_constant(code, imm);
    return code;
}

TEST(second_page_rewritten)
{
    map(0, 0, P_RW);
    map(1, 1, P_RW);
    for (u32 first = 1; first < 5; first++) {
        u8 *code = put_crossing(first, 0x11223344);
        EXPECT(run(code, 0, 0), 0x11223344);
        for (u32 n = 0; n < 500 && !failed(); n++) {
            u32 shift = 8 * (first - 1); /* bits on the first page */
            u32 mask = ~0u << shift, imm = (0x11223344 & ~mask) | (n * 0x01010101 & mask);
            for (u32 k = first; k < 5; k++)
                *(volatile u8 *)(code + k) = (u8)(imm >> 8 * (k - 1));
            EXPECT(run(code, 0, 0), imm);
        }
    }
}

TEST(second_page_remapped)
{
    map(0, 0, P_RW);
    for (u32 first = 1; first < 5; first++) {
        for (u32 f = 1; f < 9; f++) {
            map(1, f, P_RW);
            put_crossing(first, 0x01010101 * f);
        }
        u32 low = 8 * (first - 1), below = low ? ~0u >> (32 - low) : 0;
        for (u32 n = 0; n < 500 && !failed(); n++) {
            u32 f = 1 + n % 8;
            map(1, f, P_RW);
            EXPECT(run(window(1) - first, 0, 0), (0x08080808 & below) | (0x01010101 * f & ~below));
        }
    }
}

/* By another linear address of the page: to be serialized before it runs. */
TEST(through_another_mapping)
{
    map(0, 0, P_RW);
    map(1, 0, P_RW);
    for (u32 n = 0; n < ROUNDS && !failed(); n++) {
        put_constant((n % 3 == 0 ? window(1) : n % 3 == 1 ? frames[0] : window(0)) + 8, n);
        serialize();
        EXPECT(run(window(n & 1) + 8, 0, 0), n);
    }
}

static u32 breakpoints;

static void on_breakpoint(struct frame *f)
{
    breakpoints++;
    f->ip--;
    *(volatile u8 *)f->ip = 0xb8;
}

TEST(int3_and_back)
{
    put_constant(frames[0], 5);
    on_trap(3, on_breakpoint);
    breakpoints = 0;
    for (u32 n = 0; n < 2000 && !failed(); n++) {
        EXPECT(run(frames[0], 0, 0), 5);
        *(volatile u8 *)frames[0] = 0xcc;
        EXPECT(run(frames[0], 0, 0), 5);
        EXPECT(breakpoints, n + 1);
    }
    on_trap(3, 0);
}

/* Code that becomes undefined, and comes back. */
TEST(undefined_and_back)
{
    struct catcher caught;
    put_constant(frames[0], 9);
    for (u32 n = 0; n < 1000 && !failed(); n++) {
        put_imm(frames[0], 0x0b0f); /* UD2 */
        try_run(frames[0], 0, 0, &caught);
        EXPECT(caught.vector, 6);
        put_constant(frames[0], n);
        EXPECT(run(frames[0], 0, 0), n);
    }
}
