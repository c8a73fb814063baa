/*
 * Self-modifying code, and code pages that change under the processor: the next instruction is
 * always what memory holds (SDM vol. 3, 8.1.3 and 11.6).
 */
#include "run.h"

#define GROUP   "code"
#define INC_EAX 0x40
#define INC_ECX 0x41
#define INT3    0xcc

TEST(next_instruction)
{
    struct run r = ring0(CODE("mov byte ptr [ebx], 0x41; inc eax"));
    r.bx = r.start + 3;
    go_done(&r);
    EXPECT(r.ax, 0);
    EXPECT(r.cx, 1);
    struct code c = CODE64("mov dword ptr [rbx], 0xc3ff4890; inc rax; nop; nop"); /* NOP; INC RBX */
    r = long0(c);
    r.bx = r.start + 6;
    go_done(&r);
    EXPECT(r.ax, 0);
    EXPECT(r.bx, r.start + 7);
}

TEST(writers)
{
    /* Other ways to write the byte: string, push, exchange, bit set, x87 and SSE stores. */
    struct code codes[] = {
        CODE("stosb; inc eax; nop; nop; nop"),
        CODE("rep movsb; inc eax; nop; nop; nop"),
        CODE("xchg [ebx], dl; inc eax; nop; nop; nop"),
        CODE("or dword ptr [ebx], 1; inc eax; nop; nop; nop"),
        CODE("bts dword ptr [ebx], 0; inc eax; nop; nop; nop"),
        CODE("lock inc byte ptr [ebx]; inc eax; nop; nop; nop"),
        CODE("mov esp, ebp; push edx; inc eax; nop; nop; nop"),
        CODE("fistp dword ptr [ebx]; inc eax; nop; nop; nop"),
        CODE("movd [ebx], xmm0; inc eax; nop; nop; nop"),
        CODE("pop dword ptr [ebx]; inc eax; nop; nop; nop"),
    };
    static const u8 at[] = {1, 2, 2, 3, 4, 3, 3, 2, 4, 2};
    *(u32 *)frames[0] = 0x90909041;
    __asm__ volatile("fninit; fildl %0" ::"m"(*(u32 *)frames[0]));
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        context("writer", i);
        struct run r = ring0(codes[i]);
        r.bx = r.di = r.start + at[i];
        r.bp = r.bx + 4;
        r.ax = INC_ECX;
        r.dx = 0x90909041;
        r.si = (u32)frames[0];
        r.cx = 1;
        r.cr4 |= CR4_OSFXSR;
        if (i == 8) {
            struct run load = ring0(CODE("movd xmm0, eax"));
            load.ax = 0x90909041;
            load.cr4 |= CR4_OSFXSR;
            go_done(&load);
        }
        if (i == 9)
            *(u32 *)(u32)r.sp = 0x90909041;
        go_done(&r);
        EXPECT(r.ax, INC_ECX);
        EXPECT(r.cx, i == 1 ? 1 : 2);
    }
}

TEST(loop)
{
    /* The loop turns its INC EAX into INC ECX and back on each pass. */
    struct run r = ring0(CODE("mov edx, 1000; 1: inc eax; xor byte ptr [ebx], 1; dec edx; jnz 1b"));
    r.bx = r.start + 5;
    go_done(&r);
    EXPECT(r.ax, 500);
    EXPECT(r.cx, 500);
    /* Data in the same page, beside the code. */
    r = ring0(CODE("mov edx, 1000; 1: inc eax; inc dword ptr [ebx]; dec edx; jnz 1b; jmp 2f; "
                   ".p2align 6; .long 0, 0; 2: nop"));
    r.bx = (r.start + 5 + 64) & ~63u;
    go_done(&r);
    EXPECT(r.ax, 1000);
    EXPECT(*(u32 *)(u32)r.bx, 1000);
}

TEST(between_runs)
{
    struct code c = CODE("inc eax");
    u8 *p = (u8 *)c.start;
    for (u32 i = 0; i < 16; i++) {
        context("pass", i);
        *p = INC_EAX + (i & 1);
        struct run r = ring0(c);
        go_done(&r);
        EXPECT(i & 1 ? r.cx : r.ax, 1);
    }
}

TEST(page_crossing)
{
    /* MOV EAX, imm32 with its last three bytes in the next page; those change. */
    u8 *p = frames[1] - 2;
    struct code c = {(u32)p, (u32)p + 5};
    static const u8 code[] = {0xb8, 0x11, 0x22, 0x33, 0x44, INT3};
    memcpy(p, code, sizeof(code));
    for (u32 i = 0; i < 4; i++) {
        frames[1][1] = (u8)(0x33 + i);
        struct run r = ring0(c);
        go_done(&r);
        EXPECT(r.ax, 0x44002211 | (0x33 + i) << 16);
    }
    /* The write comes from code on the first page. */
    static const u8 writer[] = {0xc6, 0x03, 0x99, 0xb8, 0x11, 0x22, 0x33, 0x44, INT3};
    memcpy(p - 3, writer, sizeof(writer));
    c.start -= 3;
    struct run r = ring0(c);
    r.bx = (u32)frames[1];
    go_done(&r);
    EXPECT(r.ax, 0x44339911);
}

TEST(alias)
{
    /* The same frame at two linear addresses; code writes itself through the other one. */
    for (int kind = 0; kind < PAGINGS; kind++) {
        context("kind", (u32)kind);
        static const u8 code[] = {0xc6, 0x03, 0xcc, 0x90, 0x90, 0x90, 0xf4}; /* MOV [RBX], INT3 */
        struct run r = paged_run(kind, false, BOTH("nop"));
        memcpy(frames[0] + 0x100, code, sizeof(code));
        map(kind, 0, 0, P_P | P_W);
        map(kind, 1, 0, P_P | P_W);
        r.ip = WINDOW + 0x100;
        r.bx = WINDOW + 0x1000 + 0x104;
        go(&r);
        EXPECT(r.vec, EV_BP);
        EXPECT(r.ip, WINDOW + 0x105);
    }
}

TEST(remapped)
{
    /* The code page becomes another frame: after INVLPG the other code runs. */
    for (int kind = 0; kind < PAGINGS; kind++) {
        context("kind", (u32)kind);
        static const u8 one[] = {0xb0, 1, 0xc3}, two[] = {0xb0, 2, 0xc3}; /* MOV AL; RET */
        struct run r = paged_run(
            kind, false, CODE("call ebx; mov ah, al; mov [esi], edi; invlpg [ebx]; call ebx"),
            CODE64("call rbx; mov ah, al; mov [rsi], edi; invlpg [rbx]; call rbx"));
        memcpy(frames[0], one, sizeof(one));
        memcpy(frames[1], two, sizeof(two));
        map(kind, 0, 0, P_P | P_W);
        r.bx = WINDOW;
        r.si = (u32)pde_get(kind) & ~0xfffu;
        r.di = (u32)frames[1] | P_P | P_W;
        go_done(&r);
        EXPECT(r.ax & 0xffff, 0x102);
    }
}

TEST(two_sizes)
{
    /* The same bytes as 32-, 16- and 64-bit code. */
    struct code c = CODE(".byte 0x40, 0x48, 0xb8, 1, 2, 0xcc, 4, 0xcc, 0xcc, 0xcc, 0xcc");
    struct run r = ring0(c);
    go(&r);
    EXPECT(r.ax, 0x04cc0201);
    EXPECT(r.ip, r.start + 8);
    r = long0(c);
    go(&r);
    EXPECT(r.ax, 0xcccccccc04cc0201);
    r = pm16(c);
    go(&r);
    EXPECT(r.ax, 0x0201);
    EXPECT(r.ip, r.start + 6);
}
