/*
 * 16-bit code: addressing forms, the three sizes (operand, address, stack) in all mixtures, and
 * instructions that 64-bit mode has lost.
 */
#include "run.h"

#define GROUP "16bit"

static struct run with_registers(struct run r)
{
    r.bx = 0x1234;
    r.bp = 0xf00f;
    r.si = 0x8765;
    r.di = 0x0fed;
    return r;
}

/* LEA with each ModRM form: what sum it makes. */
TEST(addressing)
{
    static u8 code[8];
    const struct code c = {(u32)code, (u32)code + 4};
    for (u32 mod = 0; mod < 3; mod++)
        for (u32 rm = 0; rm < 8; rm++) {
            context("mod/rm", mod << 4 | rm);
            u16 sum[] = {0x1234 + 0x8765,
                         0x1234 + 0x0fed,
                         (u16)(0xf00f + 0x8765),
                         (u16)(0xf00f + 0x0fed),
                         0x8765,
                         0x0fed,
                         0xf00f,
                         0x1234};
            u32 want = sum[rm];
            code[0] = 0x8d;
            code[1] = (u8)(mod << 6 | rm);
            code[2] = 0x90;
            code[3] = 0x90;
            code[4] = 0xcc;
            if (mod == 0 && rm == 6)
                want = 0x9090;
            else if (mod == 1)
                want += 0xffffff90;
            else if (mod == 2)
                want += 0x9090;
            struct run r = with_registers(v86(c));
            go_done(&r);
            EXPECT(r.ax, want & 0xffff);
        }
    struct run r =
        with_registers(v86(CODE16("lea eax, [bx+si]; lea cx, [ebx+esi*2+4]; lea edx, [esp+ebp]")));
    r.si |= 0x10000;
    go_done(&r);
    EXPECT(r.ax, 0x9999);
    EXPECT(r.cx & 0xffff, (0x1234 + 0x18765 * 2 + 4) & 0xffff);
    EXPECT(r.dx, r.sp + 0xf00f);
}

TEST(default_segments)
{
    /* BP and SP forms use SS, the rest DS; a prefix wins. */
    u16 *ds = (u16 *)0xa000, *ss = (u16 *)0x9000;
    ds[0x20] = 0xdddd;
    ss[0x20] = 0x5555;
    struct run r = v86(CODE16("mov ax, [bp]; mov cx, [bx]; mov dx, ds:[bp]; mov si, ss:[bx]; mov "
                              "di, [bp+si]; mov bp, [0x40]"));
    r.ds = 0xa00;
    r.bp = r.bx = 0x40;
    ss[(0x40 + 0x5555) / 2] = 0;
    go_done(&r);
    EXPECT(r.ax, 0x5555);
    EXPECT(r.cx, 0xdddd);
    EXPECT(r.dx, 0xdddd);
    EXPECT(r.si, 0x5555);
    EXPECT(r.bp, 0xdddd);
}

TEST(stack_instructions)
{
    struct run r =
        v86(CODE16("push sp; pop ax; pushd 0x11223344; pop cx; pop dx; pusha; mov si, sp; popa"));
    r.di = 0x1111;
    r.bp = 0x2222;
    u64 sp = r.sp;
    go_done(&r);
    EXPECT(r.ax, sp); /* the value before the push */
    EXPECT(r.cx, 0x3344);
    EXPECT(r.dx, 0x1122);
    EXPECT(r.di, 0x1111);
    EXPECT(r.bp, 0x2222);
    EXPECT(r.sp, sp);
    r = v86(CODE16("enter 8, 0; mov ax, sp; mov cx, bp; leave"));
    r.bp = 0x7777;
    go_done(&r);
    EXPECT(r.cx, sp - 2);
    EXPECT(r.ax, sp - 10);
    EXPECT(r.bp, 0x7777);
    EXPECT(r.sp, sp);
    r = v86(CODE16("enter 4, 3; mov ax, sp; pop cx; pop cx; pop cx; pop dx; pop si"));
    r.bp = 0xe00;
    *(u16 *)(0x9000 + 0xdfe) = 0xabc1;
    *(u16 *)(0x9000 + 0xdfc) = 0xabc2;
    go_done(&r);
    EXPECT(r.ax, sp - 2 - 6 - 4);
    EXPECT(r.cx, sp - 2); /* the new frame's pointer, on top of the display */
    EXPECT(r.dx, 0xabc2);
    EXPECT(r.si, 0xabc1);
    r = v86(CODE16("pushad; popad; pushfd; pop eax; push 0x12; pop bx"));
    r.ax = 0x99999999;
    go_done(&r);
    EXPECT(r.ax & 0x3000, F_IOPL);
    EXPECT(r.sp, sp);
}

TEST(control_flow)
{
    struct run r = v86(CODE16("call 1f; jmp 2f; 1: mov ax, 1; ret; 2: calld 3f; jmp 4f; 3: pop "
                              "ecx; push ecx; retd; 4: nop"));
    go_done(&r);
    EXPECT(r.ax, 1);
    EXPECT(r.cx < 0x100, true);
    r = v86(CODE16("mov cx, 3; 1: inc ax; loop 1b; jcxz 2f; mov ax, 0; 2: mov ecx, 0x10000; jcxz "
                   "3f; mov ax, 0; 3: nop"));
    go_done(&r);
    EXPECT(r.ax, 3);
    /* A 16-bit jump cuts EIP, also in a 32-bit segment. */
    struct code low = low_copy(CODE("nop"));
    r = ring0(CODE(".byte 0x66; jmp ebx"));
    r.bx = low.start | 0x550000;
    go(&r);
    EXPECT(r.ip, low.end + 1);
    /* Backwards over 0. */
    r = v86(CODE16("jmp 1f; .org 771b+0x10; 1: jmp 771b - 0x4000"));
    *(u8 *)0x14000 = 0xcc;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, 0xc001);
}

TEST(mixed_sizes)
{
    /* 16-bit operands and addresses in 32-bit code, and a 16-bit stack under 32-bit code. */
    *(u32 *)0x9040 = 0xaabbccdd;
    struct run r = ring0(CODE("mov ax, [ebx]; mov ecx, [bx]; mov edx, -1; mov dx, [bx]"));
    r.bx = 0x9040;
    go_done(&r);
    EXPECT(r.ax, 0xccdd);
    EXPECT(r.cx, 0xaabbccdd);
    EXPECT(r.dx, 0xffffccdd);
    r = ring0(CODE("mov ecx, [bx]"));
    r.bx = 0x55559040; /* BX only */
    go_done(&r);
    EXPECT(r.cx, 0xaabbccdd);
    r = pm16(CODE16("push eax; push ax; pop ecx; pop dx"));
    r.ax = 0x11223344;
    u64 sp = r.sp;
    go_done(&r);
    EXPECT(r.cx, 0x33443344);
    EXPECT(r.dx, 0x1122);
    EXPECT(r.sp, sp);
    r = pm16(CODE16("push eax; mov ecx, [esp]; pop edx")); /* 16-bit code, 32-bit stack */
    r.ss = SEL_DATA;
    r.ax = 0x55667788;
    sp = r.sp;
    go_done(&r);
    EXPECT(r.cx, 0x55667788);
    EXPECT(r.dx, 0x55667788);
    EXPECT(r.sp, sp);
}

TEST(decimal)
{
    struct {
        struct code c;
        u32 ax, flags, want, carry;
    } cases[] = {
        {CODE("daa"), 0x9a, 0, 0x00, 1},      {CODE("daa"), 0x0f, 0, 0x15, 0},
        {CODE("das"), 0x0f, 0, 0x09, 0},      {CODE("das"), 0x05, F_CF, 0xa5, 1},
        {CODE("aaa"), 0x00ff, 0, 0x0205, 1},  {CODE("aaa"), 0x0105, 0, 0x0105, 0},
        {CODE("aas"), 0x020f, 0, 0x0109, 1},  {CODE("aam"), 0x0057, 0, 0x0807, 2},
        {CODE("aad"), 0x0807, 0, 0x0057, 2},  {CODE(".byte 0xd6"), 0x1200, F_CF, 0x12ff, 2},
        {CODE("aam 16"), 0xab, 0, 0x0a0b, 2},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context("row", i);
        struct run r = ring0(cases[i].c);
        r.ax = cases[i].ax;
        r.flags |= cases[i].flags;
        go_done(&r);
        EXPECT(r.ax, cases[i].want);
        if (cases[i].carry < 2)
            EXPECT(r.flags & F_CF, cases[i].carry);
    }
}
