/*
 * When external interrupts and NMIs come: the shadows of STI and MOV SS, HLT, and the blocking of
 * NMIs (SDM vol. 3, 6.7 and 6.8). Interrupts are IPIs of the local APIC to itself.
 */
#include "run.h"

#define GROUP "shadow"
#define VEC   0x70

/* An interrupt waits; code starts with IF clear. */
static void interrupted(struct run *r, u32 offset)
{
    self_ipi(VEC);
    go(r);
    fault_at(r, VEC, NO_ERR, offset);
    if (r->vec != VEC) { /* let it come */
        struct run drain = ring0(CODE("nop; nop"));
        drain.flags |= F_IF;
        go(&drain);
    }
    eoi();
}

TEST(sti)
{
    struct run r = ring0(CODE("sti; inc eax; inc eax"));
    interrupted(&r, 2);
    EXPECT(r.ax, 1);
    EXPECT(r.flags & F_IF, F_IF);
    EXPECT(r.hflags & F_IF, 0);
    r = ring3(CODE("sti; inc eax; inc eax"));
    r.flags |= F_IOPL;
    interrupted(&r, 2);
    r = long0(CODE64("sti; inc rax; inc rax"));
    interrupted(&r, 4);
    r = ring0(CODE("sti; sti; inc eax")); /* the second has no shadow */
    interrupted(&r, 2);
    r = ring0(CODE("sti; jmp 1f; inc eax; 1: inc eax"));
    interrupted(&r, 4);
}

TEST(no_shadow)
{
    struct run r = ring0(CODE("inc eax"));
    r.flags |= F_IF;
    interrupted(&r, 0); /* right behind IRET */
    r = ring0(CODE("push 0x202; popf; inc eax"));
    interrupted(&r, 6);
    EXPECT(r.ax, 0);
}

TEST(mov_ss)
{
    QEMU_DIFFERS("no shadow of STI behind that of MOV SS");
    /* STI behind MOV SS starts its own shadow. */
    struct run r = ring0(CODE("mov ss, ecx; sti; inc eax; inc eax"));
    r.cx = SEL_DATA;
    interrupted(&r, 4);
    EXPECT(r.ax, 1);
}

TEST(cli_in_shadow)
{
    struct run r = ring0(CODE("sti; cli; inc eax; inc eax"));
    self_ipi(VEC);
    go_done(&r);
    EXPECT(r.ax, 2);
    r = ring0(CODE("inc eax"));
    r.flags |= F_IF;
    go(&r);
    EXPECT(r.vec, VEC);
    eoi();
}

TEST(fault_in_shadow)
{
    /* The fault comes first; then the interrupt, unless the handler's gate clears IF. */
    struct run r = ring0(CODE("sti; ud2"));
    self_ipi(VEC);
    go(&r);
    fault_at(&r, EV_UD, NO_ERR, 1);
    r = ring0(CODE("nop"));
    r.flags |= F_IF;
    go(&r);
    EXPECT(r.vec, VEC);
    eoi();
}

TEST(hlt)
{
    struct run r = ring0(CODE("sti; hlt; inc eax"));
    interrupted(&r, 2);
    EXPECT(r.ax, 0);
    r = long0(CODE64("sti; hlt; inc rax"));
    interrupted(&r, 2);
}

TEST(hlt_timer)
{
    /* The APIC timer, one shot, wakes a HLT that has waited. */
    APIC[APIC_DIVIDE / 4] = 0xb; /* divide by 1 */
    APIC[APIC_LVT_TIMER / 4] = VEC;
    struct run r = ring0(CODE("mov [esi], edi; sti; hlt; inc eax"));
    r.si = 0xfee00380;
    r.di = 1000000;
    go(&r);
    fault_at(&r, VEC, NO_ERR, 4);
    APIC[APIC_LVT_TIMER / 4] = 0x10000;
    eoi();
}

TEST(priority)
{
    /* The higher vector first; TPR holds back its class and below. */
    self_ipi(0x50);
    self_ipi(0x61);
    struct run r = ring0(CODE("nop"));
    r.flags |= F_IF;
    APIC[APIC_TPR / 4] = 0x60;
    go_done(&r);
    APIC[APIC_TPR / 4] = 0x50;
    r = ring0(CODE("nop"));
    r.flags |= F_IF;
    go(&r);
    EXPECT(r.vec, 0x61);
    r = ring0(CODE("nop"));
    r.flags |= F_IF;
    APIC[APIC_TPR / 4] = 0;
    go_done(&r); /* 0x61 is in service */
    eoi();
    r = ring0(CODE("nop"));
    r.flags |= F_IF;
    go(&r);
    EXPECT(r.vec, 0x50);
    eoi();
}

TEST(cr8)
{
    self_ipi(0x61);
    struct run r =
        long0(CODE64("mov ecx, 6; mov cr8, rcx; sti; nop; nop; mov rax, cr8; xor ecx, ecx;"
                     "mov cr8, rcx; nop"));
    go(&r);
    EXPECT(r.vec, 0x61);
    EXPECT(r.ax, 6);
    eoi();
    APIC[APIC_TPR / 4] = 0;
    r = long0(CODE64("mov cr8, rax"));
    r.ax = 16;
    if (!under_qemu) /* which takes any value */
        go_fault(&r, EV_GP, 0);
    r = long3(CODE64("mov rax, cr8"));
    go_fault(&r, EV_GP, 0);
    r = long0(CODE64("mov cr8, rax"));
    r.ax = 5;
    go_done(&r);
    EXPECT(APIC[APIC_TPR / 4], 0x50);
}

TEST(nmi)
{
    /* Blocked till IRET: the handler sends itself another, and IRET lets it in. */
    struct code handler =
        CODE("inc ecx; cmp ecx, 1; jne 1f; mov [esi], edi; jmp 2f; 2: nop; nop; jmp 3f;"
             "3: nop; nop; nop; mov edx, ecx; 1: iret");
    struct run r = ring0(CODE("mov [esi], edi; jmp 1f; 1: nop; nop; jmp 2f; 2: nop; nop; nop"));
    idt[EV_NMI] = gate(SEL_CODE, handler.start, A_INT32, 0);
    APIC[0x310 / 4] = APIC[0x20 / 4];
    r.si = 0xfee00300;
    r.di = IPI_NMI | 0x4000;
    go_done(&r); /* with IF clear */
    EXPECT(r.cx, 2);
    EXPECT(r.dx, 1);
}

TEST(trap_before_interrupt)
{
    QEMU_DIFFERS("STI holds off #DB");
    /* The #DB trap of the instruction before comes ahead of the interrupt. */
    struct run r = ring0(CODE("sti; inc eax; inc eax"));
    r.flags |= F_TF;
    self_ipi(VEC);
    go(&r);
    fault_at(&r, EV_DB, NO_ERR, 1); /* STI's shadow holds off interrupts only */
    r = ring0(CODE("nop"));
    r.flags |= F_IF;
    go(&r);
    EXPECT(r.vec, VEC);
    eoi();
}

TEST(pic_timer)
{
    /* The PIT through the PIC, which reaches the processor by LINT0 as ExtINT. */
    static const u8 setup[][2] = {{0x20, 0x11}, {0x21, 0x48}, {0x21, 4}, {0x21, 1}, {0x21, 0xfe}};
    for (unsigned i = 0; i < ARRAY_SIZE(setup); i++)
        outb(setup[i][0], setup[i][1]);
    u32 lint0 = APIC[0x350 / 4];
    APIC[0x350 / 4] = 0x700;
    outb(0x43, 0x34); /* rate generator, about 1 kHz */
    outb(0x40, 0xa9);
    outb(0x40, 4);
    for (u32 i = 0; i < 3; i++) {
        struct run r = ring0(CODE("sti; 1: hlt; jmp 1b"));
        go(&r);
        EXPECT(r.vec, 0x48);
        outb(0x20, 0x20);
    }
    outb(0x21, 0xff);
    APIC[0x350 / 4] = lint0;
}
