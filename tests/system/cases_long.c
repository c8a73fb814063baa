/*
 * What is special to long mode: fast system calls, SWAPGS, FSGSBASE, canonical addresses
 * (SDM vol. 3, ch. 5.8; vol. 2). SYSENTER and SYSEXIT are here in their 32-bit forms too.
 */
#include "run.h"

#define GROUP         "long"
#define MSR_STAR      0xc0000081
#define MSR_LSTAR     0xc0000082
#define MSR_CSTAR     0xc0000083
#define MSR_FMASK     0xc0000084
#define MSR_FS_BASE   0xc0000100
#define MSR_GS_BASE   0xc0000101
#define MSR_KERNEL_GS 0xc0000102
#define BAD           0x800000000000 /* not canonical */

static void set_syscall(struct code target)
{
    wrmsr(MSR_STAR, (u64)SEL_CODE << 32 | (u64)SEL_UCODE << 48);
    wrmsr(MSR_LSTAR, target.start);
    wrmsr(MSR_CSTAR, target.start);
    wrmsr(MSR_FMASK, F_IF | F_TF | F_DF | F_AC);
}

TEST(syscall)
{
    struct code target = CODE64("nop");
    set_syscall(target);
    struct run r = long3(CODE64("syscall"));
    r.flags |= F_IF | F_DF | F_CF;
    u64 sp = r.sp;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, target.end + 1);
    EXPECT(r.cs, SEL_CODE);
    EXPECT(r.ss, SEL_DATA);
    EXPECT(r.cx, r.start + 2);
    EXPECT(r.r11, F_IF | F_DF | F_CF | 2);
    EXPECT(r.flags & ~(u64)F_CF, 2);
    if (!under_qemu) /* which loses CF */
        EXPECT(r.flags, F_CF | 2);
    EXPECT(r.sp, sp); /* the kernel finds its own */
    r = long3(CODE64("syscall"));
    r.efer &= ~EFER_SCE;
    go_fault(&r, EV_UD, NO_ERR);
}

TEST(sysret)
{
    struct code user = CODE64("nop"), compat = CODE("nop");
    set_syscall(user);
    struct run r = long0(CODE64(".byte 0x48, 0x0f, 0x07"));
    r.cx = user.start;
    r.r11 = F_IF | F_CF | F_RF | F_VM;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, user.end + 1);
    EXPECT(r.cs, SEL_UCODE64);
    EXPECT(r.ss, SEL_UDATA);
    if (!under_qemu) /* which loads RF and VM */
        EXPECT(r.flags, F_IF | F_CF | 2);
    r = long0(CODE64(".byte 0x0f, 0x07"));
    r.cx = compat.start | 1ull << 32; /* ECX only */
    r.r11 = 2;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, compat.end + 1);
    EXPECT(r.cs, SEL_UCODE);
    r = long3(CODE64("sysretq"));
    go_fault(&r, EV_GP, 0);
    r = long0(CODE64("sysretq"));
    r.efer &= ~EFER_SCE;
    go_fault(&r, EV_UD, NO_ERR);
}

static void set_sysenter(struct code target)
{
    wrmsr(0x174, SEL_CODE);
    wrmsr(0x175, (u32)frames[3]);
    wrmsr(0x176, target.start);
}

TEST(sysenter_32)
{
    struct code target = CODE("nop");
    set_sysenter(target);
    struct run r = ring3(CODE("sysenter"));
    r.flags |= F_IF | F_CF;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, target.end + 1);
    EXPECT(r.sp, (u32)frames[3]);
    EXPECT(r.cs, SEL_CODE);
    EXPECT(r.ss, SEL_DATA);
    EXPECT(r.flags, F_CF | 2); /* IF and VM are cleared */
    r = ring0(CODE("sysexit"));
    r.dx = target.start;
    r.cx = 0x5000;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.cs, SEL_UCODE);
    EXPECT(r.ss, SEL_UDATA);
    EXPECT(r.sp, 0x5000);
    wrmsr(0x174, 0);
    r = ring3(CODE("sysenter"));
    go_fault(&r, EV_GP, 0);
    r = ring0(CODE("sysexit"));
    go_fault(&r, EV_GP, 0);
}

TEST(swapgs)
{
    struct run r = long0(CODE64(
        "mov ecx, 0xc0000101; mov eax, 0x1234; xor edx, edx; wrmsr; inc ecx; mov eax, 0x5678;"
        "wrmsr; swapgs; rdmsr; mov edi, eax; dec ecx; rdmsr"));
    go_done(&r);
    EXPECT(r.ax, 0x5678);
    EXPECT(r.di, 0x1234);
    r = long3(CODE64("swapgs"));
    go_fault(&r, EV_GP, 0);
}

/* Two bases on two pages, and accesses at the same offsets before and behind the change. */
TEST(gs_base_changes)
{
    struct run r = long0(CODE64(
        "mov ecx, 0xc0000101; mov eax, esi; xor edx, edx; wrmsr; inc ecx; mov eax, edi; wrmsr;"
        "mov rax, gs:[rbx]; swapgs; mov rsi, gs:[rbx+8]; mov rdi, gs:[rbx]; swapgs;"
        "add rax, gs:[rbx+8]"));
    u64 *first = (u64 *)frames[0], *second = (u64 *)frames[3];
    paged(&r, PAGING_64, false);
    map(PAGING_64, 1, 3, P_ALL);
    first[2] = 0x10;
    first[3] = 0x100;
    second[2] = 0x2000;
    second[3] = 0x3000;
    r.bx = 16;
    r.si = (u32)first;
    r.di = WINDOW + 4096;
    go_done(&r);
    EXPECT(r.si, 0x3000);
    EXPECT(r.di, 0x2000);
    EXPECT(r.ax, 0x110);
}

TEST(fsgsbase)
{
    if (!has_cpuid(7, 1, 0)) {
        skip("CPUID offers no FSGSBASE");
        return;
    }
    struct run r =
        long3(CODE64("wrfsbase rax; rdfsbase rcx; mov rdx, fs:[8]; wrgsbase eax; rdgsbase esi"));
    *(u64 *)(frames[0] + 8) = 0x1122334455667788;
    r.cr4 |= CR4_FSGSBASE;
    r.ax = (u32)frames[0];
    go_done(&r);
    EXPECT(r.cx, (u32)frames[0]);
    EXPECT(r.dx, 0x1122334455667788);
    EXPECT(r.si, (u32)frames[0]);
    r = long3(CODE64("rdfsbase rax"));
    go_fault(&r, EV_UD, NO_ERR);
    r = compat3(CODE(".byte 0xf3, 0x0f, 0xae, 0xc0"));
    r.cr4 |= CR4_FSGSBASE;
    go_fault(&r, EV_UD, NO_ERR);
    r = long3(CODE64("wrgsbase rax"));
    r.cr4 |= CR4_FSGSBASE;
    r.ax = BAD;
    if (!under_qemu)
        go_fault(&r, EV_GP, 0);
}

TEST(canonical)
{
    QEMU_DIFFERS("non-canonical addresses are not always seen");
    struct {
        const char *what;
        struct code c;
        u32 vec;
    } cases[] = {
        {"read", CODE64("mov rax, [rbx]"), EV_GP},
        {"write", CODE64("mov [rbx], rax"), EV_GP},
        {"rbp base", CODE64("mov rax, [rbp]"), EV_SS},
        {"ss override", CODE64("mov rax, ss:[rbx]"), EV_GP}, /* replaced below */
        {"push", CODE64("mov rsp, rbx; push rax"), EV_SS},
        {"pop", CODE64("mov rsp, rbx; pop rax"), EV_SS},
        {"call", CODE64("call rbx"), EV_GP},
        {"jmp", CODE64("jmp rbx"), EV_GP},
        {"ret", CODE64("push rbx; ret"), EV_GP},
        {"movs", CODE64("mov rsi, rbx; movsb"), EV_GP},
        {"rsp base", CODE64("mov rsp, rbx; mov rax, [rsp]"), EV_SS},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context(cases[i].what, i);
        if (i == 3)
            continue; /* Intel and AMD differ on the SS prefix */
        struct run r = long3(cases[i].c);
        r.bx = r.bp = BAD + 0x1000;
        r.di = (u32)frames;
        go(&r);
        EXPECT(r.vec, cases[i].vec);
        EXPECT(r.err, 0);
        EXPECT(r.ip >= r.start && r.ip < r.end, true); /* at the instruction, not at the target */
    }
    struct run r = long3(CODE64("mov rax, [rbx]")); /* the last byte is beyond */
    r.bx = BAD - 4;
    go(&r);
    EXPECT(r.vec == EV_GP || r.vec == EV_PF, true);
    r = long3(CODE64("mov rax, [rbx]")); /* canonical, upper half */
    r.bx = 0xffff800000000000;
    go_fault(&r, EV_PF, 4);
    EXPECT(r.cr2, 0xffff800000000000);
}

TEST(address_sizes)
{
    /* 67h cuts addresses to 32 bits; 32-bit results clear the upper half. */
    *(u32 *)frames[0] = 0x89abcdef;
    struct run r = long3(CODE64("mov eax, [ebx]; movsxd rcx, dword ptr [ebx]; mov esi, [ebx]"));
    r.bx = (u32)frames[0] | 0xf00000000;
    r.ax = r.si = ~0ull;
    go_done(&r);
    EXPECT(r.ax, 0x89abcdef);
    EXPECT(r.cx, 0xffffffff89abcdef);
    EXPECT(r.si, 0x89abcdef);
    r = long3(CODE64("rep stosb; jrcxz 1f; nop; 1:"));
    r.cx = 4;
    r.di = (u32)frames[0];
    r.ax = 0x11;
    go_done(&r);
    EXPECT(*(u32 *)frames[0], 0x11111111);
}

TEST(mode_by_hand)
{
    /* Into long mode and out again in one run, through compatibility code. */
    struct run r = ring0(
        CODE("mov ecx, 0xc0000080; rdmsr; mov edi, eax; or eax, 0x100; wrmsr;"
             "mov eax, cr0; bts eax, 31; mov cr0, eax; rdmsr; mov esi, eax;"
             "mov eax, cr0; btr eax, 31; mov cr0, eax; rdmsr; mov ebx, eax; mov eax, edi; wrmsr"));
    paged(&r, PAGING_64, true);
    r.efer = 0;
    r.cr0 &= ~CR0_PG;
    go_done(&r);
    EXPECT((u32)r.si, EFER_LME | EFER_LMA);
    EXPECT((u32)r.bx, EFER_LME);
    /* LME and PG without PAE. */
    r = ring0(CODE("mov ecx, 0xc0000080; mov eax, 0x100; xor edx, edx; wrmsr; mov eax, cr0; bts "
                   "eax, 31; mov cr0, eax"));
    paged(&r, PAGING_64, true);
    r.efer = 0;
    r.cr4 = 0;
    r.cr0 &= ~CR0_PG;
    if (under_qemu)
        return;
    go(&r);
    EXPECT(r.vec, EV_GP);
    wrmsr(0xc0000080, 0);
}

TEST(cmpxchg16b)
{
    if (!has_cpuid(1, 2, 13)) {
        skip("CPUID offers no CMPXCHG16B");
        return;
    }
    u64 *p = (u64 *)frames[0];
    p[0] = 1;
    p[1] = 2;
    struct run r = long3(CODE64("lock cmpxchg16b [rdi]"));
    r.di = (u32)p;
    r.ax = 1;
    r.dx = 2;
    r.bx = 3;
    r.cx = 4;
    go_done(&r);
    EXPECT(r.flags & F_ZF, F_ZF);
    EXPECT(p[0], 3);
    EXPECT(p[1], 4);
    r = long3(CODE64("cmpxchg16b [rdi]"));
    r.di = (u32)p + 8; /* must be aligned */
    go_fault(&r, EV_GP, 0);
}

TEST(tables_64)
{
    u8 *p = frames[0];
    /* LDT and TSS descriptors have 16 bytes here; the type of the upper half must be 0. */
    gdt[SEL_T(0) / 8] = segment((u32)ldt, 0x7f, A_LDT, 0);
    gdt[SEL_T(1) / 8] = 0;
    struct run r = long0(CODE64("lldt ax; sldt rcx; str rdx"));
    r.ax = SEL_T(0);
    r.cx = r.dx = ~0ull;
    go_done(&r);
    EXPECT(r.cx, SEL_T(0));
    EXPECT(r.dx, SEL_TSS64);
    r = long0(CODE64("ltr ax"));
    r.ax = SEL_TSS64; /* busy */
    go_fault(&r, EV_GP, SEL_TSS64);
    if (under_qemu)
        return;
    gdt[SEL_T(1) / 8] = 0x1f0000000000;
    r = long0(CODE64("lldt ax"));
    r.ax = SEL_T(0);
    go_fault(&r, EV_GP, SEL_T(0));
    gdt[SEL_T(1) / 8] = 0x8000; /* base not canonical */
    r = long0(CODE64("lldt ax"));
    r.ax = SEL_T(0);
    go_fault(&r, EV_GP, SEL_T(0));
    memset(p, 0, 16);
    *(u64 *)(p + 2) = BAD;
    r = long0(CODE64("lgdt [rbx]"));
    r.bx = (u32)p;
    go_fault(&r, EV_GP, 0);
    /* A call gate is 16 bytes; the type field of its upper half must be 0. */
    slot(0, gate(SEL_CODE64, 0x100000, A_CALL32 | A_DPL(3), 0));
    gdt[SEL_T(1) / 8] = 0x1f0000000000;
    r = compat3(CODE("call fword ptr [ebx]"));
    r.bx = (u32)p;
    *(u32 *)p = 0;
    *(u32 *)(p + 4) = SEL_T(0) | 3;
    go_fault(&r, EV_GP, SEL_T(0));
}

TEST(stack_sizes)
{
    struct run r = long3(CODE64("mov rdx, rsp; push fs; sub rdx, rsp; pop rax; mov rcx, rsp; push "
                                "bx; sub rcx, rsp; pop si"));
    r.bx = 0x1234;
    go_done(&r);
    EXPECT(r.dx, 8);
    EXPECT(r.ax & 0xffff, SEL_UDATA);
    EXPECT(r.cx, 2);
    EXPECT(r.si & 0xffff, 0x1234);
    r = long3(CODE64("push -5; pop rax; enter 16, 1; mov rcx, [rsp+16]; mov rdx, rbp; leave"));
    u64 sp = r.sp;
    go_done(&r);
    EXPECT(r.ax, (u64)-5);
    EXPECT(r.cx, sp - 8);
    EXPECT(r.dx, sp - 8);
    EXPECT(r.sp, sp);
}

TEST(segment_bases)
{
    /* Loading a selector sets the base anew, 32 bits of it; MSRs take all 64. */
    struct run r = long0(
        CODE64("mov ecx, 0xc0000100; mov eax, 0; mov edx, 0xffff8000; wrmsr; rdmsr; mov esi, edx;"
               "mov edi, 0x10; mov fs, edi; rdmsr; mov eax, edx"));
    go_done(&r);
    EXPECT(r.si, 0xffff8000);
    EXPECT(r.ax, 0);
    if (under_qemu)
        return; /* the base of ES counts there */
    /* Other prefixes mean nothing: no base, no limit. */
    *(u32 *)frames[0] = 0x31415926;
    u32 sel = slot(0, segment(0x1000, 0, A_DATA, FL_DB));
    r = long0(CODE64("mov es, ecx; .byte 0x26; mov eax, [rbx]"));
    r.cx = sel;
    r.bx = (u32)frames[0];
    go_done(&r);
    EXPECT(r.ax, 0x31415926);
}

TEST(far_64)
{
    /* REX.W gives far pointers a 64-bit offset, where the vendor has it. */
    struct code c = CODE64("nop");
    u64 *p = (u64 *)frames[0];
    p[0] = c.start;
    p[1] = SEL_CODE64;
    struct run r = long0(CODE64("lfs ecx, [rbx]"));
    *(u32 *)(frames[0] + 4) = SEL_UDATA;
    r.bx = (u32)p;
    go_done(&r);
    EXPECT(r.fs, SEL_UDATA);
    EXPECT(r.cx, c.start);
}

static bool intel(void)
{
    u32 r[4];
    cpuid(0, 0, r);
    return r[1] == 0x756e6547;
}

TEST(vendor_rules)
{
    /* SYSENTER is Intel's in long mode; SYSCALL outside 64-bit code is AMD's. */
    struct code c64 = CODE64("nop"), c32 = CODE("nop");
    set_sysenter(c64);
    set_syscall(c64);
    struct run r = long3(CODE64("sysenter"));
    go(&r);
    if (intel()) {
        EXPECT(r.ip, c64.end + 1);
        EXPECT(r.cs, SEL_CODE);
        EXPECT(r.sp, (u32)frames[3]);
    } else if (!under_qemu) {
        fault(&r, EV_UD, NO_ERR);
    }
    r = compat3(CODE(".byte 0x0f, 0x05"));
    go(&r);
    if (intel()) {
        fault(&r, EV_UD, NO_ERR);
    } else {
        EXPECT(r.vec, EV_BP);
        EXPECT(r.ip, c64.end + 1);
        EXPECT(r.cx, r.start + 2);
    }
    wrmsr(MSR_STAR, (u64)SEL_CODE << 32 | (u64)SEL_UCODE << 48 | c32.start);
    r = ring3(CODE(".byte 0x0f, 0x05"));
    r.efer |= EFER_SCE;
    r.flags |= F_IF;
    go(&r);
    if (intel()) {
        fault(&r, EV_UD, NO_ERR);
    } else {
        EXPECT(r.ip, c32.end + 1);
        EXPECT(r.cs, SEL_CODE);
        EXPECT((u32)r.cx, r.start + 2);
        EXPECT(r.flags & F_IF, 0);
    }
}
