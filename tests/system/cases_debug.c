/*
 * Single step, breakpoints, INT3 and ICEBP (SDM vol. 3, ch. 17.2 and 17.3).
 */
#include "run.h"

#define GROUP    "debug"
#define DR6_BD   0x2000
#define DR6_BS   0x4000
#define DR7_GD   0x2000
#define RW_EXEC  0
#define RW_WRITE 1
#define RW_IO    2
#define RW_BOTH  3

static u32 dr6(void)
{
    u32 value;
    __asm__ volatile("mov %%dr6, %0; mov %1, %%dr6" : "=&r"(value) : "r"(0));
    return value & 0xe00f;
}

/* Breakpoint n, of len bytes; the monitor clears DR7 after the run. */
static void breakpoint(unsigned n, u32 address, u32 rw, u32 len)
{
    u32 dr7 = 2u << (2 * n) | (rw | (len - 1) << 2) << (16 + 4 * n);
    if (n == 0)
        __asm__ volatile("mov %0, %%dr0" ::"r"(address));
    else
        __asm__ volatile("mov %0, %%dr3" ::"r"(address));
    __asm__ volatile("mov %0, %%dr7" ::"r"(dr7));
}

static void stepped(struct run *r, u32 offset)
{
    go(r);
    fault_at(r, EV_DB, NO_ERR, offset);
    EXPECT(dr6(), DR6_BS);
    EXPECT(r->flags & F_TF, F_TF);
    EXPECT(r->hflags & F_TF, 0);
}

TEST(single_step)
{
    struct run r = ring0(CODE("nop; inc eax; nop"));
    r.flags |= F_TF;
    stepped(&r, 1);
    EXPECT(r.flags & F_RF, 0); /* a trap */
    stepped(&r, 2);
    EXPECT(r.ax, 1);
    r = ring3(CODE("jmp 1f; nop; 1: nop"));
    r.flags |= F_TF;
    stepped(&r, 3);
    r = long3(CODE64("inc rax; nop"));
    r.flags |= F_TF;
    stepped(&r, 3);
    r = v86(CODE16("inc ax; nop"));
    r.flags |= F_TF;
    stepped(&r, 1);
}

TEST(step_rep)
{
    struct run r = ring0(CODE("rep movsb; nop"));
    r.flags |= F_TF;
    r.cx = 3;
    r.si = (u32)frames[0];
    r.di = (u32)frames[1];
    for (u32 left = 2; left; left--) {
        stepped(&r, 0);
        EXPECT(r.cx, left);
    }
    stepped(&r, 2);
    EXPECT(r.cx, 0);
}

TEST(popf_sets_tf)
{
    /* The trap comes after the instruction behind POPF. */
    struct run r = ring0(CODE("push 0x102; popf; inc eax; inc eax"));
    go(&r);
    EXPECT(r.vec, EV_DB);
    EXPECT(r.ax, 1);
    EXPECT(dr6(), DR6_BS);
    /* POPF that clears it is still traced. */
    r = ring0(CODE("popf; inc eax"));
    r.flags |= F_TF;
    r.sp -= 4;
    *(u32 *)(u32)r.sp = 2;
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 1);
    EXPECT(r.flags, 2);
    r = ring0(CODE("pushf; pop eax"));
    r.flags |= F_TF;
    stepped(&r, 1);
    EXPECT(*(u32 *)(u32)r.sp, F_TF | 2);
}

TEST(mov_ss_delays)
{
    struct run r = ring0(CODE("mov ss, ecx; inc eax; inc eax"));
    r.cx = SEL_DATA;
    r.flags |= F_TF;
    stepped(&r, 3);
    EXPECT(r.ax, 1);
    r = ring0(CODE("push ss; pop ss; inc eax; inc eax"));
    r.flags |= F_TF;
    stepped(&r, 1);
    stepped(&r, 3);
    EXPECT(r.ax, 1);
    /* A load of DS has no shadow. */
    r = ring0(CODE("mov ds, ecx; inc eax"));
    r.cx = SEL_DATA;
    r.flags |= F_TF;
    stepped(&r, 2);
}

TEST(software_interrupt_clears_tf)
{
    struct run r = ring0(CODE("int 0x60; nop"));
    r.flags |= F_TF;
    go(&r);
    EXPECT(r.vec, 0x60);
    EXPECT(r.ip, r.start + 2);
    EXPECT(r.flags & F_TF, F_TF);
    EXPECT(r.hflags & F_TF, 0);
    EXPECT(dr6(), 0);
    /* A fault is not followed by the trap. */
    r = ring0(CODE("ud2"));
    r.flags |= F_TF;
    go(&r);
    fault(&r, EV_UD, NO_ERR);
    EXPECT(dr6(), 0);
}

TEST(int3_and_icebp)
{
    QEMU_DIFFERS("ICEBP is #UD");
    struct run r = ring0(CODE(".byte 0xf1; nop"));
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 1);
    EXPECT(dr6(), 0);
    /* The gate's DPL counts for INT3 and CD 03, not for ICEBP. */
    r = ring3(CODE(".byte 0xf1; nop"));
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 1);
    r = ring3(CODE("int 1"));
    go(&r);
    fault(&r, EV_GP, 1 * 8 + 2);
    r = ring3(CODE(".byte 0xcd, 3; nop"));
    go(&r);
    fault_at(&r, EV_BP, NO_ERR, 2);
    set_handler(EV_BP, A_INT32, SEL_CODE);
    r = ring3(CODE("int3"));
    go(&r);
    fault(&r, EV_GP, 3 * 8 + 2);
    /* In virtual-8086 mode IOPL 0 forbids CD 03 and not CC. */
    set_handler(EV_BP, A_INT32 | A_DPL(3), SEL_CODE);
    r = v86(CODE16(".byte 0xcd, 3"));
    r.flags &= ~(u64)F_IOPL;
    go(&r);
    fault(&r, EV_GP, 0);
    r = v86(CODE16("nop"));
    r.flags &= ~(u64)F_IOPL;
    go_done(&r);
}

TEST(code_breakpoint)
{
    QEMU_DIFFERS("RF is not pushed");
    struct run r = ring0(CODE("inc eax; inc eax; inc eax"));
    breakpoint(0, r.start + 1, RW_EXEC, 1);
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 1);
    EXPECT(dr6(), 1);
    EXPECT(r.ax, 1);
    EXPECT(r.flags & F_RF, F_RF);
    /* With RF the instruction runs; RF holds for one. */
    breakpoint(3, r.start + 1, RW_EXEC, 1);
    r.flags |= F_RF;
    go_done(&r);
    EXPECT(r.ax, 3);
    EXPECT(r.flags & F_RF, 0);
    breakpoint(3, r.start + 1, RW_EXEC, 1);
    r.ip = r.start;
    r.flags |= F_RF;
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 1);
    EXPECT(dr6(), 8);
    r = long3(CODE64("inc rax; inc rax"));
    breakpoint(0, r.start + 3, RW_EXEC, 1);
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 3);
    EXPECT(dr6(), 1);
    /* No breakpoint inside an instruction. */
    r = long3(CODE64("inc rax; inc rax"));
    breakpoint(0, r.start + 1, RW_EXEC, 1);
    go_done(&r);
    EXPECT(dr6(), 0);
}

TEST(data_breakpoint)
{
    QEMU_DIFFERS("reports them late");
    u32 at = (u32)frames[0] + 4;
    struct run r = ring0(CODE("mov eax, [ebx]; mov [ebx], eax; nop"));
    r.bx = at;
    breakpoint(0, at, RW_WRITE, 4);
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 4); /* behind the write, not the read */
    EXPECT(dr6(), 1);
    r = ring0(CODE("mov eax, [ebx]; nop"));
    r.bx = at;
    breakpoint(0, at, RW_BOTH, 4);
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 2);
    /* An access that overlaps by a byte; and one that doesn't. */
    r = ring0(CODE("mov eax, [ebx]; nop"));
    r.bx = at - 3;
    breakpoint(3, at, RW_BOTH, 1);
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 2);
    EXPECT(dr6(), 8);
    r = ring0(CODE("mov eax, [ebx]; nop"));
    r.bx = at - 4;
    breakpoint(0, at, RW_BOTH, 1);
    go_done(&r);
    /* Both at once: the trap and the step are one #DB. */
    r = ring0(CODE("mov [ebx], eax; nop"));
    r.bx = at;
    r.flags |= F_TF;
    breakpoint(0, at, RW_WRITE, 4);
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 2);
    EXPECT(dr6(), DR6_BS | 1);
    /* REP stops after the iteration that hits. */
    r = ring0(CODE("rep stosb; nop"));
    r.di = at - 2;
    r.cx = 8;
    breakpoint(0, at, RW_WRITE, 1);
    go(&r);
    EXPECT(r.vec, EV_DB);
    EXPECT(r.cx, 5);
    EXPECT(r.ip, r.start);
    /* PUSH. */
    r = ring3(CODE("push eax; nop"));
    breakpoint(0, (u32)r.sp - 4, RW_WRITE, 4);
    r.ax = 0x55;
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 1);
}

TEST(io_breakpoint)
{
    struct run r = ring0(CODE("in al, dx; nop"));
    u32 cr4 = CR4_DE;
    __asm__ volatile("mov %0, %%cr4" ::"r"(cr4));
    breakpoint(0, 0x3fa, RW_IO, 1);
    r.cr4 = CR4_DE;
    r.dx = 0x3fa;
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 1);
    EXPECT(dr6(), 1);
}

TEST(general_detect)
{
    QEMU_DIFFERS("no general detect");
    struct run r = ring0(CODE("mov dr7, ecx; mov eax, dr6; nop"));
    r.cx = DR7_GD | 0x400;
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 3);
    EXPECT(dr6(), DR6_BD);
    EXPECT(r.ax, 0);
}

TEST(debug_registers)
{
    struct run r = ring0(CODE("mov eax, dr6; mov ecx, dr7; mov edx, dr4"));
    go_done(&r);
    EXPECT((u32)r.ax, 0xffff0ff0);
    EXPECT((u32)r.cx, 0x400);
    EXPECT((u32)r.dx, 0xffff0ff0); /* DR4 is DR6 without CR4.DE */
    r = ring0(CODE("mov eax, dr4"));
    r.cr4 = CR4_DE;
    go_fault(&r, EV_UD, NO_ERR);
    r = ring3(CODE("mov eax, dr7"));
    go_fault(&r, EV_GP, 0);
    r = long0(CODE64("mov dr7, rax"));
    r.ax = 1ull << 32;
    go_fault(&r, EV_GP, 0);
    r = long0(CODE64("mov dr6, rax"));
    r.ax = 1ull << 32;
    if (!under_qemu)
        go_fault(&r, EV_GP, 0);
}

TEST(step_over_system_instructions)
{
    /* IRET that sets TF: the trap is behind the first instruction of the target. */
    struct code target = CODE("inc eax; inc eax");
    struct run r = ring0(CODE("push 0x102; push 8; push ecx; iret"));
    r.cx = target.start;
    go(&r);
    EXPECT(r.vec, EV_DB);
    EXPECT(r.ip, target.start + 1);
    EXPECT(dr6(), DR6_BS);
    /* Far jumps, CPUID and port access trap like any other. */
    r = ring0(CODE("cpuid; in al, 0x80; jmp fword ptr [edi]"));
    u32 *p = (u32 *)frames[0];
    p[0] = target.start;
    p[1] = SEL_CODE;
    r.di = (u32)p;
    r.flags |= F_TF;
    stepped(&r, 2);
    stepped(&r, 4);
    go(&r);
    EXPECT(r.vec, EV_DB);
    EXPECT(r.ip, target.start);
    /* SYSCALL whose mask clears TF ends the stepping. */
    struct code kernel = CODE64("nop; nop");
    wrmsr(0xc0000081, (u64)SEL_CODE << 32 | (u64)SEL_UCODE << 48);
    wrmsr(0xc0000082, kernel.start);
    wrmsr(0xc0000084, F_TF | F_IF);
    dr6();
    r = long3(CODE64("syscall"));
    r.flags |= F_TF;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, kernel.end + 1);
    EXPECT(r.r11 & F_TF, F_TF);
    EXPECT(dr6(), 0);
}
