/*
 * Control registers, and the instructions that ask about descriptors or move table registers
 * (SDM vol. 3, ch. 2 and 5.10).
 */
#include "run.h"

#define GROUP "control"

TEST(cr0)
{
    QEMU_DIFFERS("takes any value");
    struct run r = ring0(CODE("mov cr0, eax"));
    r.ax = CR0_PG | CR0_NE; /* PG without PE */
    go_fault(&r, EV_GP, 0);
    r = ring0(CODE("mov cr0, eax"));
    r.ax = 0x20000000 | CR0_PE; /* NW without CD */
    go_fault(&r, EV_GP, 0);
    r = ring0(CODE("mov cr0, eax; mov ecx, cr0"));
    r.ax = CR0_PE | CR0_NE | CR0_WP | CR0_AM | CR0_TS;
    go_done(&r);
    EXPECT((u32)r.cx & ~0x10u, CR0_PE | CR0_NE | CR0_WP | CR0_AM | CR0_TS);
    EXPECT(r.cx & 0x10, 0x10); /* ET reads 1 */
    r = long0(CODE64("mov cr0, rax"));
    r.ax = CR0_PG | CR0_PE | 1ull << 32;
    go_fault(&r, EV_GP, 0);
    r = long0(CODE64("mov rax, cr0; btr eax, 31; mov cr0, rax"));
    go(&r); /* paging can't end in 64-bit code */
    fault_at(&r, EV_GP, 0, 7);
}

TEST(cr4)
{
    QEMU_DIFFERS("takes any value");
    struct run r = ring0(CODE("mov cr4, eax"));
    r.ax = 0x80000000;
    go_fault(&r, EV_GP, 0);
    r = ring0(CODE("mov cr4, eax"));
    r.ax = 0x8000;
    go_fault(&r, EV_GP, 0);
    r = ring0(CODE("mov cr4, eax; mov ecx, cr4"));
    r.ax = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_PGE | CR4_OSFXSR;
    go_done(&r);
    EXPECT(r.cx, r.ax);
    r = ring0(CODE("mov cr4, eax")); /* PCIDE outside long mode */
    r.ax = CR4_PCIDE;
    go_fault(&r, EV_GP, 0);
    r = long0(CODE64("mov cr4, rax")); /* PAE is what long mode stands on */
    go_fault(&r, EV_GP, 0);
}

TEST(lmsw_smsw)
{
    struct run r = ring0(CODE("lmsw ax; mov ecx, cr0"));
    r.ax = CR0_TS | CR0_EM | CR0_MP; /* PE stays */
    go_done(&r);
    EXPECT(r.cx & 0x2f, CR0_PE | CR0_NE | CR0_TS | CR0_EM | CR0_MP);
    r = ring0(CODE("mov ecx, -1; mov edx, cr0; smsw cx; smsw eax; smsw [ebx]; xor eax, edx"));
    r.bx = (u32)frames;
    go_done(&r);
    EXPECT((u32)r.cx, 0xffff0000 | (r.dx & 0xffff));
    EXPECT((u32)r.ax, 0);
    EXPECT(*(u32 *)frames, r.dx & 0xffff);
    r = ring3(CODE("smsw eax; str cx; sldt dx"));
    go_done(&r);
    EXPECT(r.cx & 0xffff, SEL_TSS);
    r = real(CODE16("smsw ax"));
    go_real(&r);
    done(&r);
    EXPECT(r.ax & 1, 0);
}

TEST(umip)
{
    if (!has_cpuid(7, 2, 2)) {
        skip("CPUID offers no UMIP");
        return;
    }
    struct code codes[] = {CODE("smsw eax"), CODE("str eax"), CODE("sldt eax"), CODE("sgdt [ebx]"),
                           CODE("sidt [ebx]")};
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        context("instruction", i);
        struct run r = ring3(codes[i]);
        r.bx = (u32)frames;
        r.cr4 |= CR4_UMIP;
        go_fault(&r, EV_GP, 0);
        r = ring0(codes[i]);
        r.bx = (u32)frames;
        r.cr4 |= CR4_UMIP;
        go_done(&r);
    }
}

TEST(store_tables)
{
    u8 *p = frames[0];
    struct run r = ring3(CODE("sgdt [ebx]; sidt [ebx+16]"));
    r.bx = (u32)p;
    go_done(&r);
    EXPECT(*(u16 *)p, GDT_SLOTS * 8 - 1);
    EXPECT(*(u32 *)(p + 2), (u32)gdt);
    EXPECT(*(u16 *)(p + 16), 256 * 8 - 1);
    EXPECT(*(u32 *)(p + 18), (u32)idt);
    EXPECT(p[6], 0);
    r = long0(CODE64("sidt [rbx]"));
    r.bx = (u32)p;
    go_done(&r);
    EXPECT(*(u16 *)p, 256 * 16 - 1);
    EXPECT(*(u64 *)(p + 2), (u32)idt64);
    /* A 16-bit LGDT takes 24 bits of base. */
    static struct {
        u16 pad, limit;
        u32 base;
    } image = {0, 0x7fff, 0xff001000};
    r = ring0(CODE("sgdt [ebx+8]; lgdtw [ebx]; sgdt [ebx+16]; lgdt [ebx+8]"));
    memcpy(p, &image.limit, 6);
    r.bx = (u32)p;
    go_done(&r);
    EXPECT(*(u16 *)(p + 16), 0x7fff);
    EXPECT(*(u32 *)(p + 18), 0x1000);
}

TEST(lldt)
{
    struct {
        u32 sel, vec, err;
    } cases[] = {
        {0, 0, 0},
        {3, 0, 0},
        {SEL_LDT, 0, 0},
        {SEL_LDT | 3, 0, 0},
        {SEL_LDT | 4, EV_GP, SEL_LDT | 4},
        {SEL_DATA, EV_GP, SEL_DATA},
        {SEL_TSS, EV_GP, SEL_TSS},
        {SEL_LIMIT, EV_GP, SEL_LIMIT},
        {SEL_T(0), EV_NP, SEL_T(0)},
    };
    slot(0, segment((u32)ldt, 63, 0x02, 0));
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context("selector", cases[i].sel);
        struct run r = ring0(CODE("lldt ax; sldt cx"));
        r.ax = cases[i].sel;
        go(&r);
        if (cases[i].vec) {
            fault(&r, cases[i].vec, cases[i].err);
        } else {
            done(&r);
            EXPECT(r.cx & 0xffff, cases[i].sel);
        }
    }
}

TEST(ltr)
{
    QEMU_DIFFERS("takes a null selector");
    struct {
        u32 sel, vec, err;
    } cases[] = {
        {0, EV_GP, 0},
        {SEL_LDT, EV_GP, SEL_LDT},
        {SEL_TSS, EV_GP, SEL_TSS}, /* busy */
        {SEL_TSS | 4, EV_GP, SEL_TSS | 4},
        {SEL_LIMIT, EV_GP, SEL_LIMIT},
        {SEL_T(0), EV_NP, SEL_T(0)},
        {SEL_T(2), 0, 0},
    };
    slot(0, segment((u32)&tss, 0x67, 0x09, 0));
    slot(2, segment((u32)&tss, 0x67, A_TSS32, 0));
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context("selector", cases[i].sel);
        struct run r = ring0(CODE("ltr ax; str cx"));
        r.ax = cases[i].sel;
        go(&r);
        if (cases[i].vec) {
            fault(&r, cases[i].vec, cases[i].err);
        } else {
            done(&r);
            EXPECT(r.cx & 0xffff, cases[i].sel);
        }
    }
    EXPECT(gdt[SEL_T(2) / 8] >> 40 & 0xff, 0x8b); /* marked busy */
}

/* What LAR, LSL, VERR and VERW say of a descriptor at CPL 0 and 3 (RPL = CPL). */
struct question {
    const char *what;
    u32 access;
    bool lar0, lsl0, lar3, lsl3, read0, write0, read3, write3;
};

static const struct question questions[] = {
    {"data", A_DATA, 1, 1, 0, 0, 1, 1, 0, 0},
    {"user data", A_DATA | A_DPL(3), 1, 1, 1, 1, 1, 1, 1, 1},
    {"read-only user data", 0x91 | A_DPL(3), 1, 1, 1, 1, 1, 0, 1, 0},
    {"code", A_CODE, 1, 1, 0, 0, 1, 0, 0, 0},
    {"conforming code", A_CONF, 1, 1, 1, 1, 1, 0, 1, 0},
    {"execute-only user code", 0x99 | A_DPL(3), 1, 1, 1, 1, 0, 0, 0, 0},
    {"not present user data", 0x13 | A_DPL(3), 1, 1, 1, 1, 1, 1, 1, 1},
    {"LDT", A_LDT | A_DPL(3), 1, 1, 1, 1, 0, 0, 0, 0},
    {"TSS 16", A_TSS16 | A_DPL(3), 1, 1, 1, 1, 0, 0, 0, 0},
    {"TSS 32", A_TSS32 | A_DPL(3), 1, 1, 1, 1, 0, 0, 0, 0},
    {"busy TSS", 0x8b, 1, 1, 0, 0, 0, 0, 0, 0},
    {"call gate 32", A_CALL32 | A_DPL(3), 1, 0, 1, 0, 0, 0, 0, 0},
    {"call gate 16", A_CALL16 | A_DPL(3), 1, 0, 1, 0, 0, 0, 0, 0},
    {"task gate", A_TASK | A_DPL(3), 1, 0, 1, 0, 0, 0, 0, 0},
    {"interrupt gate", A_INT32 | A_DPL(3), 0, 0, 0, 0, 0, 0, 0, 0},
    {"type 0", 0x80 | A_DPL(3), 0, 0, 0, 0, 0, 0, 0, 0},
};

static void ask(const struct question *q, u32 cpl, u32 sel)
{
    struct code c =
        CODE("lar ecx, eax; setz dl; lsl esi, eax; setz dh; verr ax; setz bl; verw ax; setz bh");
    struct run r = cpl ? ring3(c) : ring0(c);
    r.ax = sel;
    r.cx = r.si = 0x77;
    go_done(&r);
    EXPECT(r.dx & 0xff, cpl ? q->lar3 : q->lar0);
    EXPECT(r.dx >> 8 & 0xff, cpl ? q->lsl3 : q->lsl0);
    EXPECT(r.bx & 0xff, cpl ? q->read3 : q->read0);
    EXPECT(r.bx >> 8 & 0xff, cpl ? q->write3 : q->write0);
    EXPECT(r.cx & 0xf0ff77,
           r.dx & 0xff ? (gdt[SEL_T(0) / 8] >> 32 & 0xf0ff00) : 0x77); /* 19:16 vary */
    EXPECT((u32)r.si, r.dx & 0xff00 ? 0x12345fff : 0x77);
}

TEST(lar_lsl_verr_verw)
{
    for (unsigned i = 0; i < ARRAY_SIZE(questions); i++) {
        const struct question *q = &questions[i];
        context(q->what, i);
        slot(0, segment(0x100000, 0x12345, q->access, FL_G | FL_DB));
        ask(q, 0, SEL_T(0));
        ask(q, 3, SEL_T(0) | 3);
    }
    struct run r = ring0(CODE("lar ecx, eax; setz dl; verr bx; setz dh"));
    r.ax = 0;
    r.bx = SEL_LIMIT;
    go_done(&r);
    EXPECT(r.dx, 0);
    /* RPL counts as CPL does. */
    r = ring0(CODE("lar ecx, eax; setz dl; verw ax; setz dh"));
    r.ax = SEL_DATA | 3;
    go_done(&r);
    EXPECT(r.dx, 0);
}

TEST(arpl)
{
    for (u32 dst = 0; dst < 4; dst++)
        for (u32 src = 0; src < 4; src++) {
            context("dst/src", dst << 4 | src);
            struct run r = ring3(CODE("arpl ax, cx"));
            r.ax = 0x100 | dst;
            r.cx = src;
            go_done(&r);
            EXPECT(r.ax, 0x100 | (dst < src ? src : dst));
            EXPECT(r.flags & F_ZF, dst < src ? F_ZF : 0);
        }
}

TEST(xsetbv)
{
    if (!has_cpuid(1, 2, 26)) {
        skip("CPUID offers no XSAVE");
        return;
    }
    struct {
        u32 low, high, index;
        bool ok;
    } cases[] = {
        {1, 0, 0, true},  {3, 0, 0, true},           {0, 0, 0, false}, {2, 0, 0, false},
        {5, 0, 0, false}, {1, 0x80000000, 0, false}, {1, 0, 1, false},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context("row", i);
        struct run r = ring0(CODE("xsetbv"));
        r.cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
        r.ax = cases[i].low;
        r.dx = cases[i].high;
        r.cx = cases[i].index;
        if (cases[i].ok)
            go_done(&r);
        else
            go_fault(&r, EV_GP, 0);
    }
    struct run r = ring0(CODE("xgetbv"));
    go_fault(&r, EV_UD, NO_ERR); /* CR4.OSXSAVE clear */
    r = ring3(CODE("xsetbv"));
    r.cr4 |= CR4_OSXSAVE;
    r.ax = 1;
    go_fault(&r, EV_GP, 0);
    r = ring3(CODE("mov eax, 1; cpuid"));
    r.cr4 |= CR4_OSXSAVE;
    go_done(&r);
    EXPECT(r.cx >> 27 & 1, 1);
    r = ring3(CODE("mov eax, 1; cpuid"));
    go_done(&r);
    EXPECT(r.cx >> 27 & 1, 0);
}

TEST(cpuid_limits)
{
    u32 high[4], past[4], top[4];
    cpuid(0, 0, high);
    EXPECT(high[0] >= 7 && high[0] < 0x100, true);
    cpuid(0x80000000, 0, top);
    EXPECT(top[0] >= 0x80000008, true);
    /* Beyond the last leaf: Intel answers with the last basic one, AMD with zeros. */
    cpuid(0x8fffffff, 0, past);
    if (high[1] != 0x756e6547 && !under_qemu)
        EXPECT(past[0] | past[1] | past[2] | past[3], 0);
}

TEST(cr3_pcid)
{
    if (!has_cpuid(1, 2, 17)) {
        skip("CPUID offers no PCID");
        return;
    }
    struct run r = long0(
        CODE64("mov rcx, cr3; mov rax, cr4; bts rax, 17; mov cr4, rax; or rcx, 5; bts rcx, 63;"
               "mov cr3, rcx; mov rdx, cr3"));
    go_done(&r);
    EXPECT(r.dx, (u32)pml4 | 5); /* bit 63 asks to keep the TLB and is not stored */
    r = long0(
        CODE64("mov rcx, cr3; or rcx, 5; mov cr3, rcx; mov rax, cr4; bts rax, 17; mov cr4, rax"));
    go(&r);
    EXPECT(r.vec, EV_GP); /* PCIDE needs CR3[11:0] = 0 */
    r = long0(CODE64("mov rcx, cr3; bts rcx, 63; mov cr3, rcx"));
    go(&r);
    EXPECT(r.vec, EV_GP); /* bit 63 without PCIDE */
}
