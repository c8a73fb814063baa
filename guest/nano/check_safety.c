/*
 * Safety: whatever the guest's user does stays with the user, and whatever its kernel does stays in
 * the guest. For the latter it is enough that the machine is still there and that its own memory is
 * as it was. What might reach devices is not tried on bare metal.
 */
#include "nano.h"
#include "tests.h"

#define FORBIDDEN_STEP 16
#define GP             13
#define SENTINEL       0x600dc0de
#define LAST_PORT      0xffff

extern const u8 forbidden[], forbidden_end[], user_load[], user_store[], user_jump[], user_push[],
    user_push_at[], user_lost_stack[];
extern const u8 user_jump_far[], user_load_far[], user_push_far[], user_push_far_at[];
extern const u8 load_at[], store_at[];

static volatile u32 sentinel = SENTINEL;

/* --- the user --- */

void check_privileged(void)
{
    struct caught c;
    u32 n = 0;
    ulong cr0 = read_cr(0), cr3 = read_cr(3), cr4 = read_cr(4);
    for (const u8 *code = forbidden; code < forbidden_end; code += FORBIDDEN_STEP, n++) {
        try_user(code, SEL_KDATA, 0, 0, &c);
        if (!expect("number of an instruction that is allowed", 0xffff,
                    c.any && c.frame.vector == GP && c.frame.ip == (ulong)code ? 0xffff : n))
            return;
    }
    EXPECT(read_cr(0), cr0);
    EXPECT(read_cr(3), cr3);
    EXPECT(read_cr(4), cr4);
}

void check_kernel_memory(void)
{
    struct caught c;
    u32 at = (u32)(ulong)&sentinel;
    for (u32 n = 0; n < 20; n++) {
        sentinel = SENTINEL; /* so that it is in the TLB, for the kernel */
        try_user(user_load, 0, at, 0, &c);
        EXPECT(c.frame.vector, 14);
        EXPECT(c.frame.error, 5);
        try_user(user_store, 0, at, 0, &c);
        EXPECT(c.frame.vector, 14);
        EXPECT(c.frame.error, 7);
        EXPECT(c.address, at);
        EXPECT(sentinel, SENTINEL);
        try_user(user_jump, 0, (u32)(ulong)load_at, 0, &c);
        EXPECT(c.frame.vector, 14);
        EXPECT(c.frame.error, 5);
        EXPECT(c.frame.ip, (ulong)load_at);
    }
}

#ifdef __x86_64__
static void far_addresses(void)
{
    struct caught c;
    try_user(user_jump_far, 0, 0, 0, &c);
    EXPECT(c.frame.vector, GP);
    try_user(user_load_far, 0, 0, 0, &c);
    EXPECT(c.frame.vector, GP);
    try_user(user_push_far, 0, 0, 0, &c);
    EXPECT(c.frame.vector, 12);
    EXPECT(c.frame.ip, (ulong)user_push_far_at);
}
#else
static void far_addresses(void)
{
}
#endif

void check_jumps(void)
{
    static const u32 wild[] = {0, 0xfff, 0x7fffffff, 0x80000000, 0xdeadbeef, 0xfffffffc};
    struct caught c;
    for (u32 n = 0; n < ARRAY_SIZE(wild); n++) {
        try_user(user_load, 0, wild[n], 0, &c);
        EXPECT(c.frame.vector, 14);
        try_user(user_jump, 0, wild[n], 0, &c);
        EXPECT(c.frame.vector, 14);
        EXPECT(c.frame.ip, wild[n]);
        try_user(user_push, 0, wild[n], 0, &c);
        EXPECT(c.any && (c.frame.vector == 14 || c.frame.vector == 12), 1);
        EXPECT(c.frame.ip, (ulong)user_push_at);
        try_user(user_lost_stack, 0, wild[n], 0, &c); /* the kernel's stack is another */
        EXPECT(c.frame.vector, VECTOR_EXIT);
        EXPECT(c.frame.sp, wild[n]);
    }
    far_addresses();
}

/* --- the kernel --- */

static void load_fs(u32 sel)
{
    __asm__ volatile("mov %w0, %%fs" ::"c"(sel) : "memory");
}

/* Entered from catch_call() with the selector in ECX. */
extern const u8 fs_from_cx[], ltr_cx[], lldt_cx[], lss_cx[];
__asm__(".text\n"
        "fs_from_cx: mov %ecx, %fs\n\tret\n"
        "lss_cx: mov %ecx, %ss\n\tret\n"
        "ltr_cx: ltr %cx\n\tret\n"
        "lldt_cx: lldt %cx\n\tret\n");

static bool is_descriptor_fault(const struct caught *c)
{
    return !c->any || (c->frame.vector >= 10 && c->frame.vector <= 13);
}

void check_descriptors(void)
{
    struct caught c;
    for (u32 access = 0; access < 256; access++) {
        gdt[SEL_TEST / 8] = 0xffcf00ffffffffff | (u64)access << 40;
        gdt[SEL_TEST / 8 + 1] = ~0ull;
        try_call(fs_from_cx, SEL_TEST | (access & 3), 0, &c);
        EXPECT(is_descriptor_fault(&c), true);
        load_fs(0);
        if (access & 0x10) { /* code or data: not for these */
            try_call(ltr_cx, SEL_TEST, 0, &c);
            EXPECT(c.any && c.frame.vector == GP, 1);
            try_call(lldt_cx, SEL_TEST, 0, &c);
            EXPECT(c.any && c.frame.vector == GP, 1);
        }
    }
    try_call(lss_cx, SEL_UDATA, 0, &c);
    EXPECT(c.any && c.frame.vector == GP, 1);
    EXPECT(c.frame.error, SEL_UDATA);
    try_call(fs_from_cx, 0xfff8, 0, &c);
    EXPECT(c.frame.vector, GP);
    EXPECT(c.frame.error, 0xfff8);
    EXPECT(sentinel, SENTINEL);
}

extern const u8 cr0_cx[], cr4_cx[], rdmsr_cx[], wrmsr_cx[];
__asm__(".text\n"
#ifdef __x86_64__
        "cr0_cx: mov %rcx, %cr0\n\tret\n"
        "cr4_cx: mov %rcx, %cr4\n\tret\n"
#else
        "cr0_cx: mov %ecx, %cr0\n\tret\n"
        "cr4_cx: mov %ecx, %cr4\n\tret\n"
#endif
        "rdmsr_cx: rdmsr\n\tret\n"
        "wrmsr_cx: xor %eax, %eax\n\twrmsr\n\tret\n");

static void expect_gp(const void *code, u32 value)
{
    struct caught c;
    try_call(code, value, 0, &c);
    expect("what a bad value of a control register raises", GP, c.any ? (u32)c.frame.vector : 255);
}

void check_control(void)
{
    ulong cr0 = read_cr(0), cr4 = read_cr(4);
    if (is_hypervisor("TCGT")) {
        skip("QEMU's TCG takes bad values, and is lost");
        return;
    }
    expect_gp(cr0_cx, (u32)cr0 & ~1u);                      /* paging without protection */
    expect_gp(cr0_cx, ((u32)cr0 | 1u << 29) & ~(1u << 30)); /* NW without CD */
    expect_gp(cr4_cx, (u32)cr4 | 1u << 31);                 /* reserved */
    EXPECT(read_cr(0), cr0);
    EXPECT(read_cr(4), cr4);
}

void check_msrs(void)
{
    static const u32 wild[] = {0x3, 0xdeadbeef, 0xffffffff, 0x80000000, 0x40000fff, 0xc0001fff};
    struct caught c;
    if (!is_virtual()) {
        skip("not on bare metal: any of them may be there");
        return;
    }
    for (u32 n = 0; n < ARRAY_SIZE(wild); n++) {
        try_call(rdmsr_cx, wild[n], 0, &c);
        EXPECT(!c.any || c.frame.vector == GP, 1);
        try_call(wrmsr_cx, wild[n], 0, &c);
        EXPECT(!c.any || c.frame.vector == GP, 1);
    }
    EXPECT(sentinel, SENTINEL);
}

/* Where there is no RAM. */
static const pte_t places[] = {
    0x7ff00000,  0xc0000000,   0xfd000000,
#ifndef NANO_32
    0x100000000, 0x8000000000, 0xfffffff000,
#endif
};

/* Reads and writes through the window's first page. */
static void use_window(void)
{
    struct caught c;
    try_call(load_at, WINDOW_ADDR + 0x10, 0, &c);
    EXPECT(!c.any || c.frame.vector == 14, 1);
    try_call(store_at, WINDOW_ADDR + 0x20, 0x12345678, &c);
    EXPECT(!c.any || c.frame.vector == 14, 1);
    EXPECT(sentinel, SENTINEL);
}

void check_physical(void)
{
    if (!is_virtual()) {
        skip("not on bare metal: there may be devices");
        return;
    }
    for (u32 n = 0; n < ARRAY_SIZE(places); n++) {
        window_map(0, places[n] | P_RW);
        use_window();
        window_map(0, places[n] | P_RWU);
        struct caught c;
        try_user(user_load, 0, WINDOW_ADDR, 0, &c);
        EXPECT(c.frame.vector == VECTOR_EXIT || c.frame.vector == 14, 1);
    }
}

void check_page_tables(void)
{
    pte_t *pt, *root = space_copy(&pt);
    if (!is_virtual()) {
        space_free(root);
        skip("not on bare metal: there may be devices");
        return;
    }
    pt[0] = (ulong)pt | P_RW; /* a table that maps itself, and is then changed through that */
    write_cr3(root);
    *(volatile pte_t *)(WINDOW + sizeof(pte_t)) = (ulong)frame_of((ulong)&sentinel) | P_P;
    EXPECT(*(volatile u32 *)(WINDOW + PAGE + ((ulong)&sentinel & (PAGE - 1))), SENTINEL);
    pte_t was = space_table(root, 0);
    for (u32 n = 0; n < ARRAY_SIZE(places); n++) { /* tables that are not in memory */
        space_table(root, places[n] | P_RWU);
        write_cr3(root);
        use_window();
    }
    space_table(root, was);
    space_free(root);
    write_cr3(kernel_root);
}

void check_ports(void)
{
    if (!is_virtual()) {
        skip("not on bare metal: reads may have effects");
        return;
    }
    for (u32 port = 0x1000; port <= LAST_PORT; port += 13) {
        u32 value;
        __asm__ volatile("inb %w1, %b0" : "=a"(value) : "d"(port));
        __asm__ volatile("inl %w1, %0" : "=a"(value) : "d"(port));
    }
    EXPECT(sentinel, SENTINEL);
}
