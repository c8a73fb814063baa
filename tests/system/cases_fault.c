/*
 * Exceptions of single instructions, and what CPL 3 may not do (SDM vol. 3, 6.15; vol. 2).
 */
#include "run.h"

#define GROUP "fault"

TEST(divide)
{
    struct run r = ring0(CODE("div ecx"));
    r.ax = 7;
    r.dx = 3;
    go_fault(&r, EV_DE, NO_ERR);
    EXPECT(r.ax, 7);
    EXPECT(r.dx, 3);
    r = ring0(CODE("div ecx")); /* quotient too large */
    r.cx = 2;
    r.dx = 2;
    go_fault(&r, EV_DE, NO_ERR);
    r = ring0(CODE("idiv ecx"));
    r.ax = 0x80000000;
    r.dx = r.cx = 0xffffffff;
    go_fault(&r, EV_DE, NO_ERR);
    r = ring0(CODE("idiv cl"));
    r.ax = 0x8000;
    r.cx = 0xff;
    go_fault(&r, EV_DE, NO_ERR);
    r = ring0(CODE("aam 0"));
    go_fault(&r, EV_DE, NO_ERR);
    r = long0(CODE64("idiv rcx"));
    r.ax = 0;
    r.dx = 0x8000000000000000;
    r.cx = ~0ull;
    go_fault(&r, EV_DE, NO_ERR);
}

TEST(undefined)
{
    struct code codes[] = {
        CODE("ud2"),
        CODE(".byte 0x0f, 0xff, 0xc0"),
        CODE(".byte 0xf0, 0x90"),             /* LOCK NOP */
        CODE(".byte 0xf0, 0x01, 0xc0"),       /* LOCK ADD EAX, EAX */
        CODE(".byte 0xf0, 0x8b, 0x03"),       /* LOCK MOV EAX, [EBX] */
        CODE(".byte 0xf0, 0x3b, 0x03"),       /* LOCK CMP EAX, [EBX] */
        CODE(".byte 0xf0, 0x0f, 0xa3, 0x03"), /* LOCK BT [EBX], EAX */
        CODE(".byte 0x8d, 0xc0"),             /* LEA EAX, EAX */
        CODE(".byte 0x0f, 0xc7, 0xc8"),       /* CMPXCHG8B EAX */
        CODE(".byte 0x62, 0xc0"),             /* BOUND with a register */
        CODE(".byte 0xfe, 0xf8"),
        CODE(".byte 0xff, 0xf8"),
        CODE(".byte 0x8f, 0xc8"),
        CODE(".byte 0x8c, 0xf0"),       /* MOV EAX, segment 6 */
        CODE(".byte 0x0f, 0x20, 0xc8"), /* MOV EAX, CR1 */
        CODE(".byte 0x0f, 0x22, 0xe8"), /* MOV CR5, EAX */
        CODE(".byte 0xc6, 0xc8, 0"),    /* C6 /1 */
        CODE(".byte 0x0f, 0x01, 0xf8"), /* SWAPGS outside 64-bit mode */
    };
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        context("instruction", i);
        if (under_qemu && ((i >= 4 && i <= 6) || i == 12 || i == 16))
            continue; /* LOCK and the rest of 8F and C6 are not checked there */
        struct run r = ring0(codes[i]);
        r.bx = (u32)frames;
        go_fault(&r, EV_UD, NO_ERR);
    }
    struct code invalid_64[] = {
        CODE64(".byte 0x06"),          CODE64(".byte 0x0e"),
        CODE64(".byte 0x27"),          CODE64(".byte 0x37"),
        CODE64(".byte 0x60"),          CODE64(".byte 0x61"),
        CODE64(".byte 0x82, 0xc0, 0"), CODE64(".byte 0x9a, 0, 0, 0, 0, 0, 0"),
        CODE64(".byte 0xce"),          CODE64(".byte 0xd4, 10"),
        CODE64(".byte 0xd6"),
    };
    for (unsigned i = 0; i < ARRAY_SIZE(invalid_64); i++) {
        context("64-bit instruction", i);
        struct run r = long0(invalid_64[i]);
        go_fault(&r, EV_UD, NO_ERR);
    }
    struct code real_ud[] = {
        CODE16("arpl ax, bx"), CODE16("lar ax, bx"), CODE16("lsl ax, bx"), CODE16("verr ax"),
        CODE16("str ax"),      CODE16("sldt ax"),    CODE16("lldt ax"),    CODE16("ltr ax"),
    };
    for (unsigned i = 0; i < ARRAY_SIZE(real_ud); i++) {
        context("protected mode only", i);
        struct run r = real(real_ud[i]);
        go_real(&r);
        EXPECT(r.vec, EV_UD);
        r = v86(real_ud[i]);
        go_fault(&r, EV_UD, NO_ERR);
    }
}

TEST(too_long)
{
    struct run r = ring0(CODE(".fill 14, 1, 0x3e; nop"));
    go_done(&r);
    r = ring0(CODE(".fill 15, 1, 0x3e; nop"));
    go_fault(&r, EV_GP, 0);
    r = long0(CODE64(".fill 15, 1, 0x66; nop"));
    go_fault(&r, EV_GP, 0);
}

TEST(no_math)
{
    struct {
        u32 cr0;
        u32 fpu, mmx, wait; /* vectors, 0: runs */
    } cases[] = {
        {0, 0, 0, 0},
        {CR0_TS, EV_NM, EV_NM, 0},
        {CR0_TS | CR0_MP, EV_NM, EV_NM, EV_NM},
        {CR0_EM, EV_NM, EV_UD, 0},
        {CR0_MP, 0, 0, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context("cr0", cases[i].cr0);
        struct {
            struct code c;
            u32 vec;
        } what[] = {{CODE("fld1"), cases[i].fpu},
                    {CODE("emms"), cases[i].mmx},
                    {CODE(".byte 0x9b"), cases[i].wait}};
        for (unsigned k = 0; k < ARRAY_SIZE(what); k++) {
            if (under_qemu && k == 1)
                continue; /* EMMS does not look at TS */
            struct run r = ring0(what[k].c);
            r.cr0 |= cases[i].cr0;
            go(&r);
            if (what[k].vec)
                fault(&r, what[k].vec, NO_ERR);
            else
                done(&r);
        }
    }
    struct run r = ring0(CODE("xorps xmm0, xmm0"));
    go_fault(&r, EV_UD, NO_ERR); /* CR4.OSFXSR clear */
    r = ring0(CODE("xorps xmm0, xmm0"));
    r.cr4 |= CR4_OSFXSR;
    go_done(&r);
    r = ring0(CODE("xorps xmm0, xmm0"));
    r.cr4 |= CR4_OSFXSR;
    r.cr0 |= CR0_TS;
    go_fault(&r, EV_NM, NO_ERR);
    r = ring0(CODE("clts; fld1"));
    r.cr0 |= CR0_TS;
    go_done(&r);
}

TEST(math_error)
{
    /* CR0.NE: an unmasked x87 exception is #MF at the next waiting instruction. */
    u16 *control = (u16 *)frames[0];
    *control = 0x37b; /* divide by zero unmasked */
    struct run r = ring0(CODE("fninit; fldcw [ebx]; fld1; fldz; fdivp; nop; fwait; fnclex"));
    r.bx = (u32)control;
    go(&r);
    fault_at(&r, EV_MF, NO_ERR, 11);
    r = ring0(CODE("fnclex; fninit"));
    go_done(&r);
}

TEST(bound_into)
{
    int *bounds = (int *)frames[0];
    bounds[0] = -5;
    bounds[1] = 5;
    for (int n = -6; n <= 6; n++) {
        context("index", (u32)n);
        struct run r = ring0(CODE("bound eax, [ebx]"));
        r.ax = (u32)n;
        r.bx = (u32)bounds;
        if (n < -5 || n > 5)
            go_fault(&r, EV_BR, NO_ERR);
        else
            go_done(&r);
    }
    struct run r = ring0(CODE("into"));
    go_done(&r);
    r = ring0(CODE("into; nop"));
    r.flags |= F_OF;
    go(&r);
    fault_at(&r, EV_OF, NO_ERR, 1); /* a trap */
    r = ring3(CODE("into"));
    r.flags |= F_OF;
    go_fault(&r, EV_GP, 4 * 8 + 2);
}

TEST(privileged)
{
    struct code codes[] = {
        CODE("cli"),          CODE("sti"),          CODE("hlt"),          CODE("in al, dx"),
        CODE("out dx, eax"),  CODE("insb"),         CODE("rep outsb"),    CODE("mov eax, cr0"),
        CODE("mov cr3, eax"), CODE("mov eax, dr7"), CODE("clts"),         CODE("lgdt [ebx]"),
        CODE("lidt [ebx]"),   CODE("lldt ax"),      CODE("ltr ax"),       CODE("lmsw ax"),
        CODE("rdmsr"),        CODE("wrmsr"),        CODE("invd"),         CODE("wbinvd"),
        CODE("invlpg [ebx]"), CODE("mov eax, cr4"), CODE("mov dr0, eax"), CODE("sysexit"),
    };
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        context("instruction", i);
        struct run r = ring3(codes[i]);
        r.bx = r.si = r.di = (u32)frames;
        r.cx = 2;
        r.dx = 0x80;
        go_fault(&r, EV_GP, 0);
        if (i == 3 || i == 4 || i < 2) { /* IOPL */
            r = ring3(codes[i]);
            r.dx = 0x80;
            r.flags |= F_IOPL;
            go_done(&r);
        }
    }
}

TEST(io_bitmap)
{
    tss.iomap = TSS32_IOMAP;
    memset(tss.map + TSS32_IOMAP - 104, 0xff, 8192);
    u8 *map = tss.map + TSS32_IOMAP - 104;
    map[0x80 / 8] = 0xfe; /* port 0x80 only */
    map[0xe0 / 8] = 0xf0; /* 0xe0 to 0xe3 */
    struct run r = ring3(CODE("out dx, al"));
    r.dx = 0x80;
    go_done(&r);
    r = ring3(CODE("out dx, ax"));
    r.dx = 0x80;
    go_fault(&r, EV_GP, 0);
    r = ring3(CODE("out dx, eax"));
    r.dx = 0xe0;
    go_done(&r);
    r = ring3(CODE("out dx, eax"));
    r.dx = 0xe1;
    go_fault(&r, EV_GP, 0);
    r = v86(CODE16("out dx, al")); /* the map decides even at IOPL 3 */
    r.dx = 0x81;
    go_fault(&r, EV_GP, 0);
    r = v86(CODE16("out dx, al"));
    r.dx = 0x80;
    r.flags &= ~(u64)F_IOPL;
    go_done(&r);
    /* The map ends with the TSS: beyond is forbidden. */
    map[0x80 / 8 + 1] = 0;
    gdt[SEL_TSS / 8] = segment((u32)&tss, TSS32_IOMAP + 0x80 / 8, A_TSS32, 0);
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
    r = ring3(CODE("out dx, al"));
    r.dx = 0x80;
    if (!under_qemu) /* two bytes are read, so the map lacks its last one */
        go_fault(&r, EV_GP, 0);
    r = ring3(CODE("out dx, al"));
    r.dx = 0x88;
    go_fault(&r, EV_GP, 0);
    r = long3(CODE64("out dx, al"));
    r.dx = 0x80;
    go_fault(&r, EV_GP, 0);
}

TEST(alignment)
{
    QEMU_DIFFERS("no #AC");
    struct {
        u32 cr0, flags, cpl, vec;
    } cases[] = {
        {0, 0, 3, 0},         {CR0_AM, 0, 3, 0}, {0, F_AC, 3, 0}, {CR0_AM, F_AC, 3, EV_AC},
        {CR0_AM, F_AC, 0, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context("row", i);
        struct run r = cases[i].cpl ? ring3(CODE("mov eax, [ebx]")) : ring0(CODE("mov eax, [ebx]"));
        r.bx = (u32)frames + 2;
        r.cr0 |= cases[i].cr0;
        r.flags |= cases[i].flags;
        go(&r);
        if (cases[i].vec)
            fault(&r, EV_AC, 0);
        else
            done(&r);
    }
    struct run r = ring3(CODE("mov [ebx], ax"));
    r.cr0 |= CR0_AM;
    r.flags |= F_AC;
    r.bx = (u32)frames + 1;
    go_fault(&r, EV_AC, 0);
    r = ring3(CODE("mov al, [ebx]"));
    r.cr0 |= CR0_AM;
    r.flags |= F_AC;
    r.bx = (u32)frames + 1;
    go_done(&r);
    r = ring3(CODE("push eax"));
    r.cr0 |= CR0_AM;
    r.flags |= F_AC;
    r.sp -= 2;
    go_fault(&r, EV_AC, 0);
    r = long3(CODE64("mov rax, [rbx]"));
    r.cr0 |= CR0_AM;
    r.flags |= F_AC;
    r.bx = (u32)frames + 4;
    go_fault(&r, EV_AC, 0);
}

TEST(msr)
{
    QEMU_DIFFERS("unknown MSRs do not fault");
    struct run r = ring0(CODE("rdmsr"));
    r.cx = 0x12345;
    go_fault(&r, EV_GP, 0);
    r = ring0(CODE("wrmsr"));
    r.cx = 0x12345;
    go_fault(&r, EV_GP, 0);
    r = ring0(CODE("wrmsr; rdmsr"));
    r.cx = 0x174;
    r.ax = 0x1234;
    go_done(&r);
    EXPECT((u32)r.ax, 0x1234);
    r = ring0(CODE("wrmsr")); /* EFER, a reserved bit */
    r.cx = 0xc0000080;
    r.ax = 0x2;
    go_fault(&r, EV_GP, 0);
    r = long0(CODE64("wrmsr")); /* a base that is not canonical */
    r.cx = 0xc0000100;
    r.dx = 0x8000;
    go_fault(&r, EV_GP, 0);
    r = long0(CODE64("rdmsr"));
    r.cx = 0xc0000080;
    go_done(&r);
    EXPECT(r.ax, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
    r = long0(CODE64("wrmsr")); /* LME can't change while paging is on */
    r.cx = 0xc0000080;
    r.ax = EFER_SCE | EFER_NXE;
    go_fault(&r, EV_GP, 0);
}

TEST(rdtsc_rdpmc)
{
    struct run r =
        ring3(CODE("rdtsc; mov esi, eax; mov edi, edx; rdtsc; sub eax, esi; sbb edx, edi"));
    go_done(&r);
    EXPECT((u32)r.dx, 0); /* it does not run backwards */
    r = ring3(CODE("rdtsc"));
    r.cr4 |= CR4_TSD;
    go_fault(&r, EV_GP, 0);
    r = ring0(CODE("rdtsc"));
    r.cr4 |= CR4_TSD;
    go_done(&r);
    if (has_cpuid(0x80000001, 3, 27)) {
        r = ring3(CODE("rdtscp"));
        r.cr4 |= CR4_TSD;
        go_fault(&r, EV_GP, 0);
    }
    r = ring3(CODE("rdpmc"));
    go_fault(&r, EV_GP, 0);
}

TEST(flags_at_cpl3)
{
    struct {
        u64 flags, popped, want;
    } cases[] = {
        {F_IF, F_IOPL, F_IF},       /* IOPL 0: neither IF nor IOPL */
        {F_IF | F_IOPL, 0, F_IOPL}, /* IOPL 3: IF, not IOPL */
        {F_IOPL, F_IF | F_NT | F_AC, F_IF | F_IOPL | F_NT | F_AC},
        {0, F_IF | F_CF, F_CF},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context("row", i);
        struct run r = ring3(CODE("push eax; popf"));
        r.flags |= cases[i].flags;
        r.ax = (u32)cases[i].popped;
        go_done(&r);
        EXPECT(r.flags, cases[i].want | 2);
        r = long3(CODE64("push rax; popf"));
        r.flags |= cases[i].flags;
        r.ax = cases[i].popped;
        go_done(&r);
        EXPECT(r.flags, cases[i].want | 2);
    }
    struct run r = ring0(CODE("push eax; popf; pushf; pop ecx"));
    r.ax = F_VM | F_RF | F_VIF | F_VIP | F_IOPL | F_IF | F_DF;
    go_done(&r);
    EXPECT((u32)r.cx, F_IOPL | F_IF | F_DF | 2); /* VM, RF, VIF, VIP don't load */
}
