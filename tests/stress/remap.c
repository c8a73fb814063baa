/*
 * Code whose linear address stays while its physical one changes, on one processor.
 */
#include "stress.h"

#define GROUP  "remap"
#define ROUNDS 3000u
#define CC_NZ  5
#define CC_Z   4

/* Frames 8 to 15: functions that return their frame's number, at different depths of the page. */
static void number_frames(void)
{
    for (u32 f = 8; f < 16; f++) {
        struct out o = {frames[f], 0};
        for (u32 n = 0; n < (f & 3); n++)
            put(&o, 0x90);
        put_mov_eax(&o, f);
        put_ret(&o);
    }
}

TEST(entry_changed)
{
    number_frames();
    for (u32 n = 0; n < ROUNDS && !failed(); n++) {
        map(0, 8 + n % 8, P_RW);
        EXPECT(run(window(0), 0, 0), 8 + n % 8);
    }
}

TEST(cr3_switch)
{
    number_frames();
    window_pt[0] = pte(8, P_RW);
    window_pt_b[0] = pte(9, P_RW);
    for (u32 n = 0; n < ROUNDS && !failed(); n++) {
        write_cr3(n & 1 ? root_b : root);
        EXPECT(run(window(0), 0, 0), 8 + (n & 1));
    }
    write_cr3(root);
}

TEST(cr3_reload_after_change)
{
    number_frames();
    for (u32 n = 0; n < ROUNDS && !failed(); n++) {
        window_pt[0] = pte(8 + n % 8, P_RW);
        write_cr3(root);
        EXPECT(run(window(0), 0, 0), 8 + n % 8);
    }
}

/* The caller on page 0 reaches page 1 by a direct transfer; page 1 changes. */
static void across(void (*put_caller)(struct out *o), u32 d)
{
    number_frames();
    map(0, 0, P_RW);
    struct out o = {window(0) + 0x123, (ulong)window(0) + 0x123};
    put_caller(&o);
    for (u32 n = 0; n < ROUNDS && !failed(); n++) {
        u32 f = 8 + n * 3 % 8;
        map(1, f, P_RW);
        EXPECT(run(window(0) + 0x123, 3, d), f);
    }
}

static void put_direct_call(struct out *o)
{
    put_call(o, (ulong)window(1));
    put_ret(o);
}

static void put_direct_jump(struct out *o)
{
    put_jump(o, (ulong)window(1));
}

static void put_test(struct out *o)
{
    put(o, 0x85); /* test %edx, %edx */
    put(o, 0xd2);
}

static void put_taken_branch(struct out *o)
{
    put_test(o);
    put_jcc(o, CC_NZ, (ulong)window(1));
    put(o, 0xcc);
}

static void put_untaken_branch(struct out *o)
{
    put_test(o);
    put_jcc(o, CC_Z, (ulong)frames[0]);
    put_jump(o, (ulong)window(1));
}

static void put_indirect_call(struct out *o)
{
    put(o, 0xbe); /* mov $window(1), %esi; call *%esi */
    put32(o, (u32)(ulong)window(1));
    put(o, 0xff);
    put(o, 0xd6);
    put_ret(o);
}

static void put_indirect_jump(struct out *o)
{
    put(o, 0xbe);
    put32(o, (u32)(ulong)window(1));
    put(o, 0xff);
    put(o, 0xe6);
}

/* A loop on page 0 that calls page 1 ECX times. */
static void put_loop(struct out *o)
{
    ulong top = o->ip;
    put_call(o, (ulong)window(1));
    put(o, 0x83); /* sub $1, %ecx */
    put(o, 0xe9);
    put(o, 1);
    put_jcc(o, CC_NZ, top);
    put_ret(o);
}

TEST(direct_call_across)
{
    across(put_direct_call, 0);
}
TEST(direct_jump_across)
{
    across(put_direct_jump, 0);
}
TEST(taken_branch_across)
{
    across(put_taken_branch, 1);
}
TEST(untaken_branch_across)
{
    across(put_untaken_branch, 1);
}
TEST(indirect_call_across)
{
    across(put_indirect_call, 0);
}
TEST(indirect_jump_across)
{
    across(put_indirect_jump, 0);
}
TEST(loop_of_calls_across)
{
    across(put_loop, 0);
}

/* Straight on from the last byte of page 0. */
TEST(fall_through_across)
{
    number_frames();
    map(0, 0, P_RW);
    memset(window(0) + PAGE - 20, 0x90, 20);
    for (u32 n = 0; n < ROUNDS && !failed(); n++) {
        map(1, 8 + n % 8, P_RW);
        EXPECT(run(window(0) + PAGE - 20, 0, 0), 8 + n % 8);
    }
}

/* Code that remaps its own page goes on in the new one: EDX is the low half of the new entry. */
TEST(own_page)
{
    static const u8 code[] = {0x89, 0x17, 0x0f, 0x01, 0x3e}; /* mov %edx,(di); invlpg (si) */
    for (u32 f = 8; f < 10; f++) {
        struct out o = {frames[f], 0};
        put(&o, 0xbf);
        put32(&o, (u32)(ulong)window_pt);
        put(&o, 0xbe);
        put32(&o, (u32)(ulong)window(0));
        for (u32 n = 0; n < sizeof(code); n++)
            put(&o, code[n]);
        put_mov_eax(&o, f);
        put_ret(&o);
    }
    map(0, 9, P_RW);
    for (u32 n = 0; n < ROUNDS && !failed(); n++)
        EXPECT(run(window(0), 0, (u32)pte(8 + n % 2, P_RW)), 8 + n % 2);
}

/* A function returns to a page that its callee has remapped. */
static void remap_caller(void)
{
    u32 now = (window_pt[0] & ~0xfffull) == (ulong)frames[9];
    map(0, now ? 8 : 9, P_RW);
}

TEST(return_to_remapped_page)
{
    for (u32 f = 8; f < 10; f++) {
        struct out o = {frames[f], (ulong)window(0)};
        put_call(&o, (ulong)remap_caller);
        put_mov_eax(&o, f);
        put_ret(&o);
    }
    map(0, 9, P_RW);
    for (u32 n = 0; n < ROUNDS && !failed(); n++)
        EXPECT(run(window(0), 0, 0), 8 + n % 2);
}

static void expect_fetch_fault(u32 error)
{
    struct catcher caught;
    try_run(window(0), 0, 0, &caught);
    EXPECT(caught.vector, 14);
    EXPECT(caught.error, error);
    EXPECT((u32)caught.address, WINDOW_ADDR);
}

TEST(no_execute_and_back)
{
    number_frames();
    for (u32 n = 0; n < 1000 && !failed(); n++) {
        map(0, 8 + n % 8, P_RW);
        EXPECT(run(window(0), 0, 0), 8 + n % 8);
        map(0, 8 + n % 8, P_RW | P_NX);
        expect_fetch_fault(0x11);
    }
}

TEST(not_present_and_back)
{
    number_frames();
    for (u32 n = 0; n < 1000 && !failed(); n++) {
        map(0, 8 + n % 8, P_RW);
        EXPECT(run(window(0), 0, 0), 8 + n % 8);
        map(0, 8 + n % 8, 0);
        expect_fetch_fault(0x10);
    }
}

/* The target of a direct call goes away between two calls. */
TEST(callee_goes_away)
{
    struct catcher caught;
    number_frames();
    map(0, 0, P_RW);
    struct out o = {window(0), (ulong)window(0)};
    put_direct_call(&o);
    for (u32 n = 0; n < 1000 && !failed(); n++) {
        map(1, 8 + n % 8, P_RW);
        EXPECT(run(window(0), 0, 0), 8 + n % 8);
        map(1, 8 + n % 8, n & 1 ? P_RW | P_NX : 0);
        try_run(window(0), 0, 0, &caught);
        EXPECT(caught.vector, 14);
        EXPECT((u32)caught.address, WINDOW_ADDR + PAGE);
    }
}

/* A store to code that may not be written has no effect on it. */
TEST(read_only_code)
{
    struct catcher caught;
    static const u8 store[] = {0x89, 0x11, 0xc3}; /* mov %edx, (cx); ret */
    memcpy(frames[1], store, sizeof(store));
    for (u32 n = 0; n < 1000 && !failed(); n++) {
        put_constant(frames[0], n);
        map(0, 0, P_P);
        EXPECT(run(window(0), 0, 0), n);
        try_run(frames[1], WINDOW_ADDR + 1, 77, &caught);
        EXPECT(caught.vector, 14);
        EXPECT(caught.error, 3);
        EXPECT(run(window(0), 0, 0), n);
        map(0, 0, P_RW);
        run(frames[1], WINDOW_ADDR + 1, n + 1);
        EXPECT(run(window(0), 0, 0), n + 1);
    }
}

TEST(global_page)
{
    number_frames();
    for (u32 n = 0; n < 1000 && !failed(); n++) {
        u32 f = 8 + n % 8, next = 8 + (n + 1) % 8, got;
        map(0, f, P_RW | P_G);
        EXPECT(run(window(0), 0, 0), f);
        window_pt[0] = pte(next, P_RW | P_G);
        write_cr3(root); /* either is right: the entry is global */
        got = run(window(0), 0, 0);
        EXPECT(got == f || got == next, true);
        toggle_global();
        EXPECT(run(window(0), 0, 0), next);
    }
}

TEST(large_page_and_small)
{
    u64 small = pd_window[0];
    number_frames();
    put_constant(LARGE, 1000);
    for (u32 n = 0; n < 1000 && !failed(); n++) {
        window_pt[0] = pte(8 + n % 8, P_RW);
        pd_window[0] = small;
        write_cr3(root);
        EXPECT(run(window(0), 0, 0), 8 + n % 8);
        pd_window[0] = LARGE_ADDR | P_RW | P_PS;
        write_cr3(root);
        put_constant(LARGE, 1000 + n);
        serialize();
        EXPECT(run(window(0), 0, 0), 1000 + n);
    }
    pd_window[0] = small;
    write_cr3(root);
}
