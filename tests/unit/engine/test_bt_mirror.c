/*
 * The mirror: user memory at its own addresses. What it shows is what the guest's tables allow, and
 * no longer than the guest's TLB might know it; hot code that goes there by itself does what the
 * interpreter does, faults included.
 */
#include <sys/uio.h>

#include "bt_pair.h"
#include "engine/bt/tcache.h"
#include "mem/access.h"

#define TABLE_AT 0x180000 /* of the 2 MiB from USER on */
#define USER     0x40000000ULL
#define TOP      0x7f0000000000ULL /* the same pages, where libraries and stacks are, */
#define PROGRAM  0x555540000000ULL /* where programs are, */
#define NOWHERE  0x600000000000ULL /* and where no region is */
#define ALIAS    0x5d5540000000ULL /* the same pages in another order, where no region is, either */
#define FLAGS    0x67              /* present, writable, user, accessed, dirty */
#define PAGES    8

static const u32 frame[PAGES] = {0x140, 0x1c0, 0x120, 0x1a0, 0x1a1, 0x122, 0x160, 0x150};

/* --- what is shown --- */

static bool readable(u64 lin)
{
    u8 byte;
    struct iovec to = {&byte, 1}, from = {(void *)(uintptr_t)lin, 1};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

static bool writable(u64 lin)
{
    u8 byte = 0;
    struct iovec from = {&byte, 1}, to = {(void *)(uintptr_t)lin, 1};
    return readable(lin) && process_vm_writev(getpid(), &from, 1, &to, 1, 0) == 1;
}

static u64 page_at(unsigned n)
{
    return USER + n * PAGE_SIZE;
}

static void set_page(struct test_machine *tm, unsigned n, u64 flags)
{
    put64(tm, TABLE_AT + 8 * n, (u64)frame[n] << PAGE_SHIFT | flags);
}

/* Tables for USER and the others, in both machines. */
static void map(struct test_machine *tm)
{
    const u64 upper = 0x188000, other = 0x18a000;
    for (u64 at = 0; at < PAGE_SIZE; at += 8) {
        put64(tm, TABLE_AT + at, 0);
        put64(tm, upper + at, 0);
        put64(tm, upper + PAGE_SIZE + at, 0);
    }
    for (unsigned n = 0; n < PAGES; n++)
        set_page(tm, n, FLAGS);
    put64(tm, PML4_AT, (PML4_AT + 0x1000) | FLAGS);
    put64(tm, PML4_AT + 0x1000 + 8, upper | FLAGS);
    put64(tm, upper, TABLE_AT | FLAGS);
    put64(tm, PML4_AT + 8 * (TOP >> 39 & 511), (upper + PAGE_SIZE) | FLAGS);
    put64(tm, PML4_AT + 8 * (PROGRAM >> 39 & 511), (upper + PAGE_SIZE) | FLAGS);
    put64(tm, PML4_AT + 8 * (NOWHERE >> 39 & 511), (upper + PAGE_SIZE) | FLAGS);
    put64(tm, upper + PAGE_SIZE + 8 * (TOP >> 30 & 511), upper | FLAGS);
    put64(tm, upper + PAGE_SIZE + 8 * (PROGRAM >> 30 & 511), upper | FLAGS);
    put64(tm, upper + PAGE_SIZE + 8 * (NOWHERE >> 30 & 511), upper | FLAGS);
    for (u64 at = 0; at < 3 * PAGE_SIZE; at += 8)
        put64(tm, other + at, at < PAGES * 8 ? get(tm, TABLE_AT + (at ^ 8), 8) : 0);
    put64(tm, other + PAGE_SIZE, other | FLAGS);
    put64(tm, other + 2 * PAGE_SIZE + 8 * (ALIAS >> 30 & 511), (other + PAGE_SIZE) | FLAGS);
    put64(tm, PML4_AT + 8 * (ALIAS >> 39 & 511), (other + 2 * PAGE_SIZE) | FLAGS);
    tlb_flush_all(tm->v);
}

static void give(struct vcpu *v)
{
    space_of(bt_cpu(v), v->cr3)->credit = 1LL << 60;
    mirror_give(v);
}

/* User code is about to run, sooner or later with the mirror. */
static void wait_until_it_holds(struct vcpu *v)
{
    while (!mirror_holds(v))
        ;
}

static bool has_mirror(struct vcpu *v)
{
    return bt_cpu(v)->mirror_space == (v->cr3 & PAGE_MASK);
}

static void give_to_user(struct rig *r)
{
    if (r->ops == &engine_bt && r->tm->v->cpl == 3)
        give(r->tm->v);
}

static int setup_mirror(void **state)
{
    assert_int_equal(setup(state), 0);
    struct pair *p = *state;
    for (unsigned n = 0; n < 2; n++)
        map(p->tm[n]);
    begin(p->tm[0], ATTR_CODE64, true);
    give(p->tm[0]->v);
    p->before = give_to_user;
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_mirror, teardown)

static void test_rights(void **state)
{
    struct test_machine *tm = ((struct pair *)*state)->tm[0];
    set_page(tm, 2, FLAGS & ~0x40); /* not dirty */
    set_page(tm, 4, FLAGS & ~2);    /* not writable */
    set_page(tm, 6, FLAGS & ~0x20); /* not accessed */
    set_page(tm, 7, FLAGS & ~4);    /* not the user's */
    assert_false(readable(page_at(0)));
    assert_true(mirror_show(tm->v, page_at(0), false));
    for (unsigned n = 0; n < PAGES; n++) {
        assert_int_equal(readable(page_at(n)), n < 6);
        assert_int_equal(writable(page_at(n)), n < 6 && n != 2 && n != 4);
    }
    assert_false(mirror_show(tm->v, page_at(2), true));
    assert_false(mirror_show(tm->v, page_at(4), true));
    assert_false(mirror_show(tm->v, page_at(6), false));
    assert_int_equal(get(tm, TABLE_AT + 8 * 6, 8) & 0x20, 0);
    assert_int_equal(get(tm, TABLE_AT + 8 * 2, 8) & 0x40, 0);
    set_page(tm, 2, FLAGS);
    assert_true(mirror_show(tm->v, page_at(2), true)); /* the user's next store set the bit */
    assert_true(writable(page_at(2)));
    *(volatile u64 *)(uintptr_t)page_at(3) = 55;
    assert_int_equal(get(tm, (u64)frame[3] << PAGE_SHIFT, 8), 55);
}

/* In kernel mode a flush is looked at when user code is about to run again. */
static void test_flush(void **state)
{
    struct test_machine *tm = ((struct pair *)*state)->tm[0];
    assert_true(mirror_show(tm->v, page_at(0), true));
    tm->v->cpl = 0;
    set_page(tm, 1, 0);
    set_page(tm, 2, FLAGS & ~2);
    wait_until_it_holds(tm->v);
    assert_true(readable(page_at(1))); /* not flushed */
    tlb_flush_page(tm->v, page_at(1));
    wait_until_it_holds(tm->v);
    assert_false(readable(page_at(1)));
    assert_true(writable(page_at(2)));
    tlb_flush_nonglobal(tm->v);
    wait_until_it_holds(tm->v);
    assert_false(writable(page_at(2)));
    assert_true(writable(page_at(3)));
    tm->v->cpl = 3; /* in user mode at once */
    tlb_flush_page(tm->v, page_at(3));
    assert_false(readable(page_at(3)));
    assert_true(writable(page_at(4)));
    tlb_flush_all(tm->v);
    assert_false(readable(page_at(4)));
}

static void test_many_flushes(void **state)
{
    struct test_machine *tm = ((struct pair *)*state)->tm[0];
    for (unsigned round = 0; round < 50; round++) {
        unsigned n = round * 5 % PAGES;
        mirror_show(tm->v, page_at(n), true);
        tm->v->cpl = 0;
        for (unsigned k = 0; k <= round % 24; k++) {
            set_page(tm, (n + k) % PAGES, k % 3 ? FLAGS : 0);
            tlb_flush_page(tm->v, page_at((n + k) % PAGES));
        }
        tm->v->cpl = 3;
        wait_until_it_holds(tm->v);
        for (unsigned k = 0; k < PAGES; k++)
            if (readable(page_at(k)))
                assert_true(get(tm, TABLE_AT + 8 * k, 8) & 1);
    }
}

static void test_code(void **state)
{
    struct test_machine *tm = ((struct pair *)*state)->tm[0];
    code_protect(tm->m.mem, (u64)frame[5] << PAGE_SHIFT, 16);
    assert_true(mirror_show(tm->v, page_at(0), true));
    assert_true(readable(page_at(5)) && !writable(page_at(5)));
    assert_true(writable(page_at(1)));
    code_protect(tm->m.mem, (u64)frame[1] << PAGE_SHIFT, 16);
    spans_protect(tm->v, tm->ram + ((u64)frame[1] << PAGE_SHIFT));
    assert_false(writable(page_at(1)));
    assert_true(mirror_show(tm->v, page_at(1), false));
    assert_true(readable(page_at(1)) && !writable(page_at(1)));
}

/* Another address space takes it over, and nothing of the first is to be seen any more. */
static void test_one_at_a_time(void **state)
{
    struct test_machine *tm = ((struct pair *)*state)->tm[0];
    struct vcpu *v = tm->v;
    assert_true(mirror_show(v, page_at(0), true));
    v->cr3 = 0x200000;
    memcpy(tm->ram + v->cr3, tm->ram + PML4_AT, PAGE_SIZE);
    assert_false(has_mirror(v));
    assert_false(mirror_show(v, page_at(0), true));
    struct space *space = space_of(bt_cpu(v), v->cr3);
    *space = (struct space){.cr3 = v->cr3, .time = TUNE_BT_MIRROR_AGE, .credit = 1LL << 60};
    for (unsigned n = 0; n < TUNE_BT_MIRROR_PATIENCE; n++) {
        assert_false(has_mirror(v));
        mirror_sample(v, space);
    }
    assert_true(has_mirror(v));
    assert_false(readable(page_at(0)));
    assert_true(mirror_show(v, page_at(0), true));
    space->credit = -1; /* it spends too much */
    v->cpl = 0;
    tlb_flush_nonglobal(v);
    while (has_mirror(v))
        mirror_holds(v);
    mirror_sample(v, space);
    assert_false(has_mirror(v));
    space->credit = TUNE_BT_MIRROR_CREDIT;
    mirror_sample(v, space);
    assert_true(has_mirror(v));
    assert_true(writable(page_at(0)));
}

/* Device memory is not shown, nor what lies below the host's lowest page. */
static void test_only_ram(void **state)
{
    struct test_machine *tm = ((struct pair *)*state)->tm[0];
    struct mem_region *region;
    struct error err;
    u8 *hva;
    assert_int_equal(mem_region_memory(tm->m.mem, LAYER_BUS, PAGE_SIZE, false, &hva, &region, &err),
                     0);
    mem_region_place(region, 0xe0000000);
    put64(tm, TABLE_AT + 8, 0xe0000000 | FLAGS);
    tlb_flush_all(tm->v);
    assert_true(mirror_show(tm->v, page_at(0), true));
    assert_false(mirror_show(tm->v, page_at(1), true));
    assert_false(readable(page_at(1)));
    put64(tm, PML4_AT + 0x1000, (PML4_AT + 0x2000) | FLAGS);
    put64(tm, PML4_AT + 0x2000, 0xe7);
    assert_false(mirror_show(tm->v, 0x3000, false));
    assert_true(mirror_show(tm->v, 0x10000, false));
    assert_false(mirror_show(tm->v, NOWHERE, false));
}

/* --- code in it --- */

/* The data's address is in RSI. */
#define EVERYTHING                                                                                 \
    "1:  mov rax, [rsi]\n"                                                                         \
    "    add [rsi + 8], rax\n"                                                                     \
    "    lea rdi, [rsi + rcx * 8]\n"                                                               \
    "    movzx edx, cl\n"                                                                          \
    "    adc rbx, [rsi + rdx * 8 + 64]\n"                                                          \
    "    xor rbx, [rdi + 128]\n"                                                                   \
    "    movsxd rdx, ecx\n"                                                                        \
    "    neg rdx\n"                                                                                \
    "    sub rbx, [rsi + rdx * 4 + 1024]\n"                                                        \
    "    mov r10, rsi\n"                                                                           \
    "    mov r11, rcx\n"                                                                           \
    "    mov r9, [r10 + 16]\n"                                                                     \
    "    add r9, [r10 + r11 * 2 + 32]\n"                                                           \
    "    mov [r10 + r11 + 512], r9\n"                                                              \
    "    mov bp, [rsi + 24]\n"                                                                     \
    "    sbb bpl, [rsi + 26]\n"                                                                    \
    "    add ah, [rsi + 3]\n"                                                                      \
    "    movups xmm3, [rsi + 5]\n"                                                                 \
    "    movaps xmm4, [rsi + 48]\n"                                                                \
    "    addpd xmm4, xmm3\n"                                                                       \
    "    movups [rsi + 700], xmm4\n"                                                               \
    "    fild qword ptr [rsi + 40]\n"                                                              \
    "    fistp qword ptr [rsi + 800]\n"                                                            \
    "    mov rax, [rsi + 56]\n"                                                                    \
    "    lock xadd [rsi + 72], rax\n"                                                              \
    "    cmpxchg [rsi + 80], rbx\n"                                                                \
    "    mul qword ptr [rsi + 88]\n"                                                               \
    "    bts dword ptr [rsi + 96], 5\n"                                                            \
    "    bts [rsi + 96], ecx\n"                                                                    \
    "    setc [rsi + 104]\n"                                                                       \
    "    push qword ptr [rsi + 112]\n"                                                             \
    "    pop r8\n"                                                                                 \
    "    cld\n"                                                                                    \
    "    lea rdi, [rsi + 256]\n"                                                                   \
    "    push rsi\n"                                                                               \
    "    movsq\n"                                                                                  \
    "    lodsd\n"                                                                                  \
    "    scasb\n"                                                                                  \
    "    pop rsi\n"                                                                                \
    "    add rsi, 8\n"                                                                             \
    "    sub rsi, 8\n"                                                                             \
    "    lea r8, [rip + 3f]\n"                                                                     \
    "    push r8\n"                                                                                \
    "    call r8\n"                                                                                \
    "    call [rsp]\n"                                                                             \
    "    call 3f\n"                                                                                \
    "    pop r8\n"                                                                                 \
    "    dec ecx\n"                                                                                \
    "    jnz 1b\n"                                                                                 \
    "    int 0x80\n"                                                                               \
    "3:  xor rbx, [rsp + 8]\n"                                                                     \
    "    add [rsp + 8], bl\n"                                                                      \
    "    ret\n"

CODE(low, "    mov ecx, 40\n"
          "    mov esi, 0x40000000\n" EVERYTHING);
CODE(top, "    mov ecx, 40\n"
          "    movabs rsi, 0x7f0000000000\n" EVERYTHING);
CODE(stack, "    mov ecx, 40\n"
            "    movabs rsi, 0x7f0000000000\n"
            "    lea rsp, [rsi + 0x1fe0]\n" EVERYTHING);
CODE(program, "    mov ecx, 40\n"
              "    movabs rsi, 0x555540000000\n" EVERYTHING);
CODE(nowhere, "    mov ecx, 40\n"
              "    movabs rsi, 0x600000000000\n" EVERYTHING);
/* Data on both sides of a border between pages that are not neighbours in RAM. */
CODE(border, "    mov ecx, 40\n"
             "    mov esi, 0x40000f80\n" EVERYTHING);

CODE(flat, ".code32\n"
           "    mov ecx, 40\n"
           "    mov esi, 0x40000000\n"
           "    mov esp, 0x40003000\n"
           "1:  mov eax, [esi + ecx * 8]\n"
           "    add [esi + 8], eax\n"
           "    push eax\n"
           "    call 2f\n"
           "    pop ebx\n"
           "    add ebx, ds:[0x40000010]\n"
           "    lea edi, [esi - 0x40000000]\n"
           "    xor ebx, [edi + 0x40000020]\n"
           "    sub edx, [esi + 0xff0]\n"
           "    movups xmm0, [esi + 0x1ff8]\n"
           "    movups [esi + ecx + 0x300], xmm0\n"
           "    dec ecx\n"
           "    jnz 1b\n"
           "    int 0x80\n"
           "2:  xor [esp + 4], ecx\n"
           "    ret\n"
           ".code64\n");
/* Addresses that the processor cuts off at 4 GiB: [ESI + EBX] is at 20000000h. */
CODE(wraps, ".code32\n"
            "    mov ecx, 40\n"
            "    mov esi, 0xf0000000\n"
            "    mov ebx, 0x50000000\n"
            "1:  mov eax, [esi + ebx]\n"
            "    add eax, [esi + 0x50000000 + ecx]\n"
            "    mov [ebx + esi * 1 + 16], eax\n"
            "    dec ecx\n"
            "    jnz 1b\n"
            "    int 0x80\n"
            ".code64\n");

/* Stores up to the end of the page that is only for reading; RAX, RBX and the flags show how far.
 */
CODE(faults, "    mov ecx, 600\n"
             "    mov esi, 0x40000000\n"
             "1:  add rax, [rsi]\n"
             "    add [rsi + 8], rcx\n"
             "    adc rbx, rsi\n"
             "    add rsi, 8\n"
             "    dec ecx\n"
             "    jnz 1b\n"
             "    int 0x80\n");

/* A pointer that steps out of the mirror, downwards: to addresses of the kernel's half. */
CODE(below, "    mov ecx, 60\n"
            "    mov esi, 0x40000000\n"
            "1:  add rax, [rsi]\n"
            "    lea rdi, [rsi - 0x40000000]\n"
            "    cmp ecx, 5\n"
            "    ja 2f\n"
            "    sub rdi, 0x100000\n"
            "    mov [rdi + 0x40000000 - 0x40000000], rax\n"
            "2:  dec ecx\n"
            "    jnz 1b\n"
            "    int 0x80\n");

/* One instruction that walks over the end of what is there: all is to be as before it, then. */
#define WALK(name, text)                                                                           \
    CODE(walk_##name, "    mov ecx, 600\n"                                                         \
                      "    mov esi, 0x40000000\n"                                                  \
                      "    mov ebx, 0x40000000\n"                                                  \
                      "    lea edi, [rip + 3f]\n"                                                  \
                      "    mov rdx, rsp\n"                                                         \
                      "1:  lea rdi, [rsi + 0x4000]\n"                                              \
                      "    test cl, 1\n"                                                           \
                      "    jz 2f\n"                                                                \
                      "    cmp rcx, rsi\n"                                                         \
                      "2:  " text "\n"                                                             \
                      "    mov rsp, rdx\n"                                                         \
                      "    add rbx, 8\n"                                                           \
                      "    mov rsi, rbx\n"                                                         \
                      "    dec ecx\n"                                                              \
                      "    jnz 1b\n"                                                               \
                      "    int 0x80\n"                                                             \
                      "3:  ret\n")
WALK(high_byte, "add ah, [rsi]");
WALK(high_load, "mov ch, [rsi]");
WALK(cmpxchg, "cmpxchg [rsi], rbx");
WALK(xadd, "lock xadd [rsi], rcx");
WALK(xchg, "xchg [rsi], rax");
WALK(mul, "mul dword ptr [rsi]");
WALK(carry, "adc [rsi], rax");
WALK(rotate, "rcl word ptr [rsi], 3");
WALK(set, "setbe [rsi]");
WALK(move_if, "cmovbe rax, [rsi]");
WALK(bits, "btc qword ptr [rsi], 9");
WALK(homed, "add r10, [rsi]");
WALK(push, "push qword ptr [rsi]");
WALK(string, "movsq");
WALK(load_string, "lodsd");
WALK(x87, "fild dword ptr [rsi]");
WALK(vector, "paddd xmm1, [rsi + rsi - 0x40000000]");
WALK(convert, "cvtsi2sd xmm2, dword ptr [rsi]");
WALK(from_vector, "movq [rsi], xmm1");
WALK(index, "mov rax, [rsi + rcx * 8 - 8 * 300]");
WALK(leave, "mov rbp, rsi\n    leave");

/* Code that is called and jumped to on stacks in and outside of the region for stacks: directly, by
 * a register, forward and back. R8 and R9 add up what it finds there. RBX is in the region, and,
 * once all is hot, where a stack that is wrongly thought to be in it would be in the program's data
 * (ALIAS). */
CODE(stacks, "    mov ecx, 400\n"
             "    movabs rsi, 0x7f0000000000\n"
             "    mov edi, 0x40000000\n"
             "    mov rbx, rsi\n"
             "    movabs r11, 0x5d5540000000\n"
             "    lea rbp, [rip + 2f]\n"
             "1:  cmp ecx, 100\n"
             "    cmovb rbx, r11\n"
             "    movabs r10, 0x555540000000\n"
             "    add r9, [r10 + 0x1f00]\n"
             "    mov [r10 + 0x1e00], r9\n"
             "    mov r10, r11\n"
             "    add r9, [r10 + 0x1f98]\n"
             "    add r9, [r10 + 0x1f58]\n"
             "    xor r9, [r10 + 0x1f68]\n"
             "    lea rsp, [rsi + 0x1fe0]\n"
             "    call 2f\n"
             "    call rbp\n"
             "    lea rsp, [rdi + 0x1fc0]\n"
             "    call 2f\n"
             "    lea rsp, [rsi + 0x1fe0]\n"
             "    push rcx\n"
             "    lea rdx, [rip + 4f]\n"
             "    lea rsp, [rbx + 0x1fa0]\n"
             "    test cl, 3\n"
             "    jz 3f\n"
             "    jmp rdx\n"
             "3:  lea rsp, [rsi + 0x1fa0]\n"
             "    test cl, 4\n"
             "    jz 4f\n"
             "    push 5\n"
             "    pop rax\n"
             "    mov rsp, rbx\n"
             "    add rsp, 0x1f80\n"
             "    call 2f\n"
             "    jmp 4f\n"
             "5:  push rcx\n"
             "    pop rax\n"
             "    sub r9, rax\n"
             "    jmp 6f\n"
             "4:  push rcx\n"
             "    pop rdx\n"
             "    add r9, rdx\n"
             "    lea rsp, [rsi + 0x1fe0]\n"
             "    push rcx\n"
             "    lea rsp, [rbx + 0x1f60]\n"
             "    test cl, 1\n"
             "    jnz 5b\n"
             "6:  dec ecx\n"
             "    jnz 1b\n"
             "    int 0x80\n"
             "2:  push rcx\n"
             "    push 7\n"
             "    sub rsp, 8\n"
             "    mov [rsp], r8\n"
             "    xor r9, [rsp + 8]\n"
             "    add rsp, 8\n"
             "    pop rax\n"
             "    pop rdx\n"
             "    add r8, rdx\n"
             "    ret\n");

/* RSP goes down from a shown page by 2 GiB at a time, until the stack's region and all around it
 * are behind it; and is used only then. */
CODE(drift, "    mov ecx, 12400\n"
            "    movabs rsi, 0x7f0000000000\n"
            "    lea rsp, [rsi + 0x1fe0]\n"
            "    lea rbp, [rip + 2f]\n"
            "1:  sub rsp, 0x7ffffff8\n"
            "    jmp rbp\n"
            "    nop\n"
            "2:  dec ecx\n"
            "    jnz 1b\n"
            "    push rsi\n"
            "    int 0x80\n");

static u64 misses(struct pair *p)
{
    return stat(&p->rig[0], STAT_BT_MIRROR_MISSES);
}

static void fill(struct pair *p)
{
    for (unsigned n = 0; n < 2; n++) {
        for (unsigned page = 0; page < PAGES; page++)
            for (u64 at = 0; at < PAGE_SIZE; at += 8)
                put64(p->tm[n], ((u64)frame[page] << PAGE_SHIFT) + at, (at + page) * 0x1234567);
        tlb_flush_all(p->tm[n]->v);
    }
}

static void compare_data(const struct pair *p)
{
    for (unsigned n = 0; n < PAGES; n++)
        assert_memory_equal(p->tm[0]->ram + ((u64)frame[n] << PAGE_SHIFT),
                            p->tm[1]->ram + ((u64)frame[n] << PAGE_SHIFT), PAGE_SIZE);
}

/* From fresh data on; that is compared, too. */
static void compare_run(struct pair *p, const u8 *from, const u8 *to)
{
    put(p, from, to);
    fill(p);
    compare(p, true);
    compare_data(p);
}

#define COMPARE_RUN(p, name) compare_run(p, code_##name, code_##name##_end)

static void test_low(void **state)
{
    struct pair *p = *state;
    COMPARE_RUN(p, low);
    assert_true(misses(p) > 0);
    assert_int_equal(stat(&p->rig[0], STAT_BT_ADAPT_UNMIRRORED), 0);
}

/* Runs it until nothing more is learned. */
static void settle(struct pair *p, const u8 *from, const u8 *to)
{
    put(p, from, to);
    fill(p);
    for (unsigned n = 0; n < 10; n++)
        compare(p, true);
    compare_data(p);
}

/* Data in other regions, which its code has to find out. */
static void test_regions(void **state)
{
    struct pair *p = *state;
    settle(p, code_top, code_top_end);
    assert_true(stat(&p->rig[0], STAT_BT_ADAPT_REGION) > 0);
    settle(p, code_program, code_program_end);
    settle(p, code_stack, code_stack_end);
    u64 shown = stat(&p->rig[0], STAT_BT_MIRROR_PAGES);
    assert_true(shown > 0);
}

static void test_stacks(void **state)
{
    struct pair *p = *state;
    COMPARE_RUN(p, stacks);
    COMPARE_RUN(p, stacks);
}

static void test_drift(void **state)
{
    struct pair *p = *state;
    COMPARE_RUN(p, drift);
    assert_int_not_equal(p->tm[0]->v->cr2, 0);
}

static void test_nowhere(void **state)
{
    struct pair *p = *state;
    settle(p, code_nowhere, code_nowhere_end);
    assert_true(stat(&p->rig[0], STAT_BT_ADAPT_UNMIRRORED) > 0);
    u64 before = misses(p);
    p->before = NULL; /* who gets it again has pages to find again */
    compare(p, true);
    assert_int_equal(misses(p), before);
}

/* Schemes side by side, in all ways: what is learned of each instruction is made up. */
static void test_mixtures(void **unused)
{
    static const u8 *const code[][2] = {{code_low, code_low_end},
                                        {code_top, code_top_end},
                                        {code_stack, code_stack_end},
                                        {code_program, code_program_end}};
    u64 seed = 1;
    (void)unused;
    for (unsigned round = 0; round < 40; round++) {
        void *state;
        assert_int_equal(setup_mirror(&state), 0);
        struct pair *p = state;
        u16 *learned = bt_cpu(p->tm[0]->v)->bt->tc->learned;
        for (u64 at = 0; at < 512; at++) {
            seed = seed * 6364136223846793005 + 1442695040888963407;
            u64 n = seed >> 40 & 15;
            learned[tcache_learned_hash(CODE_AT + at)] = (u16)(n < 4   ? LEARNED_UNMIRRORED
                                                               : n < 8 ? LEARNED_REGION * (n - 4)
                                                                       : 0);
        }
        const u8 *const *c = code[round % ARRAY_SIZE(code)];
        compare_run(p, c[0], c[1]);
        teardown(&state);
    }
}

static void test_border(void **state)
{
    struct pair *p = *state;
    COMPARE_RUN(p, border);
}

static void test_32_bits(void **state)
{
    struct pair *p = *state;
    p->code = ATTR_CODE32;
    COMPARE_RUN(p, flat);
    assert_true(misses(p) > 0);
    assert_int_equal(stat(&p->rig[0], STAT_BT_ADAPT_UNMIRRORED), 0);
    COMPARE(p, wraps, true);
    compare_data(p);
    assert_int_equal(stat(&p->rig[0], STAT_BT_ADAPT_UNMIRRORED), 0);
}

static void test_faults(void **state)
{
    struct pair *p = *state;
    for (unsigned n = 0; n < 2; n++)
        set_page(p->tm[n], 1, FLAGS & ~2);
    fill(p);
    COMPARE(p, faults, true);
    assert_int_equal(p->tm[0]->v->cr2, page_at(1));
    compare_data(p);
    COMPARE(p, below, true);
}

static void test_walks(void **unused)
{
#define WALK_OF(name)                                                                              \
    {                                                                                              \
        code_walk_##name, code_walk_##name##_end                                                   \
    }
    static const u8 *const code[][2] = {
        WALK_OF(high_byte), WALK_OF(high_load), WALK_OF(cmpxchg), WALK_OF(xadd),
        WALK_OF(xchg),      WALK_OF(mul),       WALK_OF(carry),   WALK_OF(rotate),
        WALK_OF(set),       WALK_OF(move_if),   WALK_OF(bits),    WALK_OF(homed),
        WALK_OF(push),      WALK_OF(string),    WALK_OF(x87),     WALK_OF(load_string),
        WALK_OF(vector),    WALK_OF(convert),   WALK_OF(index),   WALK_OF(from_vector),
        WALK_OF(leave),
    };
    (void)unused;
    for (unsigned k = 0; k < 2 * ARRAY_SIZE(code); k++) {
        void *state;
        assert_int_equal(setup_mirror(&state), 0);
        struct pair *p = state;
        for (unsigned n = 0; n < 2; n++)
            set_page(p->tm[n], 1, k & 1 ? FLAGS & ~2 : 0);
        compare_run(p, code[k / 2][0], code[k / 2][1]);
        teardown(&state);
    }
}

/* The kernel has another page there each time, and says so. */
static void test_remapped(void **state)
{
    struct pair *p = *state;
    fill(p);
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned n = 0; n < 2; n++) {
            put64(p->tm[n], TABLE_AT, (u64)frame[round] << PAGE_SHIFT | FLAGS);
            tlb_flush_page(p->tm[n]->v, page_at(0));
        }
        p->before = round ? NULL : give_to_user;
        COMPARE(p, low, true);
        compare_data(p);
    }
}

/* The data's page is that of the code, too. */
CODE(self, "    mov ecx, 40\n"
           "    mov esi, 0x40000000\n"
           "1:  add eax, [rsi]\n"
           "    add [rsi + 0x800], eax\n"
           "    cmp ecx, 20\n"
           "    jne 2f\n"
           "    mov [rip + 2f + 2], ecx\n"
           "    mov [rsi + (2f - code_self) + 2], ecx\n"
           "2:  add ebx, 0x11223344\n"
           "    dec ecx\n"
           "    jnz 1b\n"
           "    int 0x80\n");

static void test_self(void **state)
{
    struct pair *p = *state;
    for (unsigned n = 0; n < 2; n++) {
        put64(p->tm[n], TABLE_AT, CODE_AT | FLAGS);
        tlb_flush_all(p->tm[n]->v);
    }
    for (unsigned n = 0; n < RUNS; n++)
        COMPARE(p, self, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rights),       TEST(test_flush),
        TEST(test_many_flushes), TEST(test_code),
        TEST(test_only_ram),     TEST(test_one_at_a_time),
        TEST(test_low),          TEST(test_regions),
        TEST(test_stacks),       TEST(test_drift),
        TEST(test_nowhere),      cmocka_unit_test(test_mixtures),
        TEST(test_border),       TEST(test_32_bits),
        TEST(test_faults),       cmocka_unit_test(test_walks),
        TEST(test_remapped),     TEST(test_self),
    };
#ifdef __SANITIZE_ADDRESS__
    printf("1..0 # SKIP ASan's memory lies where the mirror would\n");
    return 0;
#endif
    get_handlers();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
