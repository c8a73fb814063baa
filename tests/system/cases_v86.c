/*
 * Virtual-8086 mode: what IOPL forbids, and the virtual interrupt flag of VME and PVI
 * (SDM vol. 3, ch. 20).
 */
#include "run.h"

#define GROUP "v86"
#define VEC   0x60

static struct run low_iopl(struct code c, bool vme)
{
    struct run r = v86(c);
    r.flags &= ~(u64)F_IOPL;
    if (vme)
        r.cr4 |= CR4_VME;
    return r;
}

TEST(sensitive)
{
    struct code codes[] = {CODE16("cli"),      CODE16("sti"),  CODE16("pushf"),  CODE16("popf"),
                           CODE16("int 0x60"), CODE16("iret"), CODE16("pushfd"), CODE16("popfd")};
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        context("instruction", i);
        struct run r = low_iopl(codes[i], false);
        u64 sp = r.sp;
        go_fault(&r, EV_GP, 0);
        EXPECT(r.sp, sp);
    }
    struct code privileged[] = {CODE16("hlt"),         CODE16("mov eax, cr0"), CODE16("clts"),
                                CODE16("rdmsr"),       CODE16("lgdt [bx]"),    CODE16("lmsw ax"),
                                CODE16("invlpg [bx]"), CODE16("mov eax, dr0")};
    for (unsigned i = 0; i < ARRAY_SIZE(privileged); i++) {
        context("privileged", i);
        struct run r = v86(privileged[i]);
        go_fault(&r, EV_GP, 0);
    }
}

TEST(iopl_3)
{
    struct run r =
        v86(CODE16("sti; pushf; pop ax; cli; pushf; pop cx; push 0x0; popf; pushfd; pop edx"));
    go_done(&r);
    EXPECT(r.ax & 0xffff, F_IF | F_IOPL | 2);
    EXPECT(r.cx & 0xffff, F_IOPL | 2);
    EXPECT((u32)r.dx, F_IOPL | 2); /* VM and RF read 0; IOPL can't change */
    /* INT n: the gate's DPL, then the monitor's ring 0. */
    r = v86(CODE16("int 0x60"));
    go_fault(&r, EV_GP, VEC * 8 + 2);
    set_handler(VEC, A_INT32 | A_DPL(3), SEL_CODE);
    r = v86(CODE16("int 0x60"));
    r.flags |= F_IF;
    go(&r);
    EXPECT(r.vec, VEC);
    EXPECT(r.ip, 2);
    EXPECT(r.hflags & F_IF, 0);
    EXPECT(r.hsp, tss.esp0 - 36);
    if (under_qemu)
        return; /* #TS */
    /* The handler must be at level 0. */
    idt[VEC] = gate(flat(0, A_CONF), 0x100000, A_INT32 | A_DPL(3), 0);
    r = v86(CODE16("int 0x60"));
    go_fault(&r, EV_GP, SEL_T(0));
    idt[VEC] = gate(flat(0, A_CODE | A_DPL(1)), 0x100000, A_INT32 | A_DPL(3), 0);
    r = v86(CODE16("int 0x60"));
    go_fault(&r, EV_GP, SEL_T(0));
}

TEST(iret_inside)
{
    struct run r = v86(CODE16("push 0x3203; push cs; push 16; iret; .org 771b+16; nop"));
    go_done(&r);
    EXPECT(r.flags, F_VM | F_IOPL | F_IF | F_CF | 2);
    r = v86(CODE16("pushd 0x20003; pushd 0x800; pushd 32; iretd; .org 771b+32; nop"));
    r.flags |= F_IF;
    go_done(&r);
    EXPECT(r.flags, F_VM | F_IOPL | F_CF | 2);
    r = v86(CODE16("jmp 0x800:16; .org 771b+16; push cs; push 32; retf; .org 771b+32; nop"));
    go_done(&r);
    EXPECT(r.cs, 0x800);
}

TEST(vme_flags)
{
    QEMU_DIFFERS("VME is incomplete");
    struct run r = low_iopl(CODE16("sti; pushf; pop ax; cli; pushf; pop cx"), true);
    go_done(&r);
    EXPECT(r.ax & 0xffff, F_IF | F_IOPL | 2); /* VIF shows as IF, IOPL as 3 */
    EXPECT(r.cx & 0xffff, F_IOPL | 2);
    EXPECT(r.flags, F_VM | 2);
    r = low_iopl(CODE16("sti"), true);
    go_done(&r);
    EXPECT(r.flags, F_VM | F_VIF | 2);
    r = low_iopl(CODE16("sti"), true);
    r.flags |= F_VIP;
    go_fault(&r, EV_GP, 0);
    r = low_iopl(CODE16("popf"), true);
    *(u16 *)(0x9000 + 0xf00) = F_IF | F_IOPL | F_CF | F_NT;
    go_done(&r);
    EXPECT(r.flags, F_VM | F_VIF | F_CF | F_NT | 2);
    r = low_iopl(CODE16("popf"), true); /* IF with VIP waiting */
    *(u16 *)(0x9000 + 0xf00) = F_IF;
    r.flags |= F_VIP;
    go_fault(&r, EV_GP, 0);
    r = low_iopl(CODE16("popf"), true);
    *(u16 *)(0x9000 + 0xf00) = F_TF;
    go_fault(&r, EV_GP, 0);
    r = low_iopl(CODE16("pushfd"), true); /* 32-bit forms still fault */
    go_fault(&r, EV_GP, 0);
    r = low_iopl(CODE16("popfd"), true);
    go_fault(&r, EV_GP, 0);
    r = low_iopl(CODE16("push 0x0203; push cs; push 16; iret; .org 771b+16; nop"), true);
    go_done(&r);
    EXPECT(r.flags, F_VM | F_VIF | F_CF | 2);
}

TEST(vme_redirection)
{
    QEMU_DIFFERS("VME is incomplete");
    u8 *bitmap = tss.map + TSS32_IOMAP - 104 - 32;
    u32 *vector = (u32 *)(VEC * 4);
    tss.iomap = TSS32_IOMAP;
    bitmap[VEC / 8] = (u8) ~(1 << (VEC % 8));
    *vector = 0x800 << 16 | 16;
    struct run r = low_iopl(CODE16("int 0x60; hlt; .org 771b+16; pop ax; pop cx; pop dx"), true);
    r.flags |= F_VIF | F_CF | F_IF;
    go_done(&r);
    EXPECT(r.ax & 0xffff, 2);
    EXPECT(r.cx & 0xffff, 0x800);
    EXPECT(r.dx & 0xffff, F_IF | F_IOPL | F_CF | 2);
    EXPECT(r.flags, F_VM | F_CF | F_IF | 2); /* VIF cleared, IF not */
    /* Bit set: the monitor gets #GP. */
    r = low_iopl(CODE16("int 0x61"), true);
    go_fault(&r, EV_GP, 0);
    /* At IOPL 3: through the IVT clears IF; bit set goes to the IDT. */
    r = v86(CODE16("int 0x60; hlt; .org 771b+16; pop ax; pop cx; pop dx"));
    r.cr4 |= CR4_VME;
    r.flags |= F_IF;
    go_done(&r);
    EXPECT(r.dx & 0xffff, F_IF | F_IOPL | 2);
    EXPECT(r.flags, F_VM | F_IOPL | 2);
    set_handler(0x61, A_INT32 | A_DPL(3), SEL_CODE);
    r = v86(CODE16("int 0x61"));
    r.cr4 |= CR4_VME;
    go(&r);
    EXPECT(r.vec, 0x61);
}

TEST(pvi)
{
    QEMU_DIFFERS("no PVI");
    struct run r = ring3(CODE("sti"));
    r.cr4 |= CR4_PVI;
    go_done(&r);
    EXPECT(r.flags, F_VIF | 2);
    r = ring3(CODE("cli"));
    r.cr4 |= CR4_PVI;
    r.flags |= F_VIF | F_IF;
    go_done(&r);
    EXPECT(r.flags, F_IF | 2);
    r = ring3(CODE("sti"));
    r.cr4 |= CR4_PVI;
    r.flags |= F_VIP;
    go_fault(&r, EV_GP, 0);
    r = ring3(CODE("push 0x200; popf")); /* POPF knows no VIF here */
    r.cr4 |= CR4_PVI;
    go_done(&r);
    EXPECT(r.flags, 2);
}
