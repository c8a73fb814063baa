/*
 * Segment registers in protected mode: what loads accept, what they change, and the limits that
 * accesses meet (SDM vol. 3, ch. 5).
 */
#include "run.h"

TEST(nothing)
{
    struct run r = ring0(CODE("nop"));
    r.ax = 0x12345678;
    r.di = 0x77;
    go_done(&r);
    EXPECT(r.ax, 0x12345678);
    EXPECT(r.di, 0x77);
    EXPECT(r.flags, 2);
    r = ring3(CODE("nop"));
    go_done(&r);
    EXPECT(r.cs, SEL_UCODE);
    EXPECT(r.ss, SEL_UDATA);
    r = v86(CODE16("nop"));
    go_done(&r);
    EXPECT(r.cs, 0x800);
    EXPECT(r.ds, 0x900);
    r = pm16(CODE16("nop"));
    go_done(&r);
    r = long0(CODE64("movabs rax, 0x123456789abcdef0"));
    go_done(&r);
    EXPECT(r.ax, 0x123456789abcdef0);
    r = long3(CODE64("nop"));
    go_done(&r);
    EXPECT(r.cs, SEL_UCODE64);
    r = compat3(CODE("nop"));
    go_done(&r);
    EXPECT(r.cs, SEL_UCODE);
    r = real(CODE16("mov ax, 0x1234"));
    go_real(&r);
    done(&r);
    EXPECT(r.ax, 0x1234);
}
