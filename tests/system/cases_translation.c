/*
 * Translations that outlive what they were made for: privilege, WP, NXE and table entries change in
 * the middle of a run, and page faults are mended by a handler inside it.
 */
#include "run.h"

#define GROUP "translation"

static u32 table_of(enum paging kind)
{
    return (u32)pde_get(kind) & ~0xfffu;
}

TEST(privilege_changes)
{
    /* Ring 0 reads a supervisor page, then ring 3 must not. */
    struct code user = CODE("mov edx, [ebx]");
    struct run r = ring0(
        CODE("mov eax, [ebx]; push 0x23; push 0x127000; push 2; push 0x1b; push ecx; mov dx, 0x23;"
             "mov ds, dx; iret"));
    paged(&r, PAGING_32, true);
    map(PAGING_32, 0, 0, P_P | P_W);
    *(u32 *)frames[0] = 0x1234;
    r.bx = WINDOW;
    r.cx = user.start;
    go(&r);
    EXPECT(r.ax, 0x1234);
    EXPECT(r.vec, EV_PF);
    EXPECT(r.err, 5);
    EXPECT(r.ip, user.start);
    EXPECT(r.cs, SEL_UCODE);
}

TEST(write_protect_changes)
{
    struct code c32 = CODE("mov [ebx], al; mov edx, cr0; bts edx, 16; mov cr0, edx; mov [ebx], ah");
    struct code c64 =
        CODE64("mov [rbx], al; mov rdx, cr0; bts rdx, 16; mov cr0, rdx; mov [rbx], ah");
    for (int kind = 0; kind < PAGINGS; kind++) {
        context("kind", (u32)kind);
        struct run r = paged_run(kind, false, c32, c64);
        map(kind, 0, 0, P_P);
        r.bx = WINDOW;
        r.ax = 0x2211;
        go(&r);
        EXPECT(r.vec, EV_PF);
        EXPECT(r.err, 3);
        EXPECT(frames[0][0], 0x11);
        EXPECT(r.end - (u32)r.ip, 2);
    }
}

TEST(smap_smep_change)
{
    if (!has_cpuid(7, 1, 7) || !has_cpuid(7, 1, 20)) {
        skip("CPUID offers no SMEP and SMAP");
        return;
    }
    struct run r = paged_run(
        PAGING_PAE, false,
        ONLY32("mov eax, [ebx]; mov edx, cr4; bts edx, 21; mov cr4, edx; mov ecx, [ebx]"));
    map(PAGING_PAE, 0, 0, P_ALL);
    r.bx = WINDOW;
    go(&r);
    EXPECT(r.vec, EV_PF);
    EXPECT(r.err, 1);
    EXPECT(r.end - (u32)r.ip, 2);
    r = paged_run(PAGING_PAE, false,
                  ONLY32("call ebx; mov edx, cr4; bts edx, 20; mov cr4, edx; call ebx"));
    map(PAGING_PAE, 0, 0, P_ALL);
    frames[0][0] = 0xc3; /* RET */
    r.bx = WINDOW;
    go(&r);
    EXPECT(r.vec, EV_PF);
    EXPECT(r.err, 0x11);
    EXPECT(r.ip, WINDOW);
}

TEST(handler_maps_the_page)
{
    /* The handler fills the entry and returns; the access is done again, without INVLPG. */
    struct code handler = CODE("inc ebp; or dword ptr [esi], 1; add esp, 4; iret");
    struct run r = ring3(CODE("mov [ebx], eax; push dword ptr [ebx]; pop ecx"));
    paged(&r, PAGING_32, true);
    pte_set(PAGING_32, 0, (u32)frames[0] | P_W | P_U);
    idt[EV_PF] = gate(SEL_CODE, handler.start, A_INT32, 0);
    r.si = table_of(PAGING_32);
    r.bx = WINDOW + 0x20;
    r.ax = 0x600d;
    r.di = WINDOW + 0x100;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.bp, 1);
    EXPECT(*(u32 *)(frames[0] + 0x20), 0x600d);
}

TEST(handler_at_a_crossing)
{
    /* A write over two missing pages faults twice, then is done whole. */
    struct code handler =
        CODE("inc ebp; mov edx, cr2; sub edx, 0x400000; shr edx, 12; or dword ptr [esi + edx*4], 1;"
             "add esp, 4; iret");
    struct run r = ring3(CODE("xchg [ebx], eax"));
    paged(&r, PAGING_32, true);
    pte_set(PAGING_32, 0, (u32)frames[0] | P_W | P_U);
    pte_set(PAGING_32, 1, (u32)frames[1] | P_W | P_U);
    idt[EV_PF] = gate(SEL_CODE, handler.start, A_INT32, 0);
    r.si = table_of(PAGING_32);
    r.bx = WINDOW + 0xffd;
    r.ax = 0x44332211;
    go_done(&r);
    EXPECT(r.bp, 2);
    EXPECT(frames[0][0xffd], 0x11);
    EXPECT(frames[1][0], 0x44);
}

TEST(string_across_many_faults)
{
    /* Eight pages filled by one REP STOSD; the handler maps each as it comes. */
    struct code handler =
        CODE("inc ebp; mov edx, cr2; sub edx, 0x400000; shr edx, 12; or dword ptr [esi + edx*4], 1;"
             "add esp, 4; iret");
    struct run r = ring3(CODE("rep stosd"));
    paged(&r, PAGING_32, true);
    for (unsigned i = 0; i < 8; i++)
        pte_set(PAGING_32, i, (u32)frames[i] | P_W | P_U);
    idt[EV_PF] = gate(SEL_CODE, handler.start, A_INT32, 0);
    r.si = table_of(PAGING_32);
    r.di = WINDOW;
    r.cx = 8 * 1024;
    r.ax = 0x5aa55aa5;
    go_done(&r);
    EXPECT(r.bp, 8);
    EXPECT(r.di, WINDOW + 0x8000);
    EXPECT(*(u32 *)(frames[7] + 0xffc), 0x5aa55aa5);
    EXPECT(*(u32 *)frames[8], 0);
}

TEST(interrupted_string)
{
    /* The APIC timer interrupts a long REP between two iterations. */
    struct run r = ring0(CODE("mov [edx], ebp; rep stosb"));
    u32 total = 8 << 20, passes = 0;
    APIC[APIC_DIVIDE / 4] = 0xb;
    APIC[APIC_LVT_TIMER / 4] = 0x70;
    r.flags |= F_IF;
    r.di = 0x800000;
    r.cx = total;
    r.ax = 0x77;
    r.dx = 0xfee00380;
    r.bp = 100000;
    for (;;) {
        go(&r);
        EXPECT((u32)r.di - 0x800000 + (u32)r.cx, total);
        if (r.vec != 0x70)
            break;
        eoi();
        if (r.cx != total && r.cx)
            EXPECT(r.ip, r.start + 2);
        APIC[APIC_COUNT / 4] = passes++ < 20 ? 100000 : 0;
    }
    APIC[APIC_COUNT / 4] = 0;
    APIC[APIC_LVT_TIMER / 4] = 0x10000;
    done(&r);
    EXPECT(r.cx, 0);
    for (u32 *p = (u32 *)0x800000; p < (u32 *)(0x800000 + total); p += 1023)
        EXPECT(*p, 0x77777777);
}

TEST(user_and_kernel_alias)
{
    /* One frame, a read-only user page and a writable kernel page: writes show at once. */
    for (int kind = 0; kind < PAGINGS; kind++) {
        context("kind", (u32)kind);
        struct run r = paged_run(
            kind, false, BOTH("mov eax, [ebx]; mov [esi], edi; mov ecx, [ebx]; mov [ebx], eax"));
        map(kind, 0, 0, P_P | P_U);
        map(kind, 1, 0, P_P | P_W);
        *(u32 *)frames[0] = 1;
        r.cr0 |= CR0_WP;
        r.bx = WINDOW;
        r.si = WINDOW + 0x1000;
        r.di = 2;
        go(&r);
        EXPECT(r.vec, EV_PF);
        EXPECT(r.err, 3);
        EXPECT(r.ax, 1);
        EXPECT(r.cx, 2);
        EXPECT(pte_get(kind, 0) & P_D, 0);
    }
}

TEST(fault_classes)
{
    /* #GP, then #PF on its way to the handler: the page fault is delivered. */
    struct run r = long3(CODE64("cli"));
    idt64[2 * EV_PF] |= 1ull << 32;
    tss64.rsp[0] = WINDOW + 0x1000;
    go_fault(&r, EV_PF, 2);
    EXPECT(r.cr2, WINDOW + 0xff8);
    /* #PF, then #GP: a double fault. */
    idt64[2 * EV_PF] = 0;
    r = long3(CODE64("mov rax, [rbx]"));
    r.bx = WINDOW;
    go_fault(&r, EV_DF, 0);
    EXPECT(r.cr2, WINDOW);
    /* #PF, then #PF. */
    set_handler(EV_PF, A_INT32, SEL_CODE);
    r = long3(CODE64("mov rax, [rbx]"));
    r.bx = WINDOW;
    tss64.rsp[0] = WINDOW + 0x1000;
    go_fault(&r, EV_DF, 0);
    EXPECT(r.cr2, WINDOW + 0xff8);
    EXPECT(r.cs, SEL_UCODE64);
}
