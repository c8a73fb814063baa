/*
 * Far JMP, CALL and RET: direct, and through call gates (SDM vol. 3, 5.8).
 */
#include "run.h"

#define GROUP "far"
#define FRAME ((u32 *)frames[0])

/* A far pointer of 32-bit offset and selector in frame 1. */
static u32 pointer(u32 sel, u32 offset)
{
    u32 *p = (u32 *)frames[1];
    p[0] = offset;
    p[1] = sel;
    return (u32)p;
}

struct target {
    const char *what;
    u32 access, cpl, rpl;
    u8 vec;
};

/* Code segments as targets of a direct JMP and CALL. */
static const struct target targets[] = {
    {"same level", A_CODE, 0, 0, 0},
    {"rpl 3", A_CODE, 0, 3, EV_GP},
    {"dpl 3", A_CODE | A_DPL(3), 0, 0, EV_GP},
    {"execute-only", 0x98, 0, 0, 0},
    {"conforming", A_CONF, 0, 0, 0},
    {"conforming rpl 3", A_CONF, 0, 3, 0},
    {"conforming dpl 3", A_CONF | A_DPL(3), 0, 0, EV_GP},
    {"not present", 0x1a, 0, 0, EV_NP},
    {"data", A_DATA, 0, 0, EV_GP},
    {"LDT", A_LDT, 0, 0, EV_GP},
    {"interrupt gate", A_INT32, 0, 0, EV_GP},
    {"user: same level", A_CODE | A_DPL(3), 3, 3, 0},
    {"user: rpl 0", A_CODE | A_DPL(3), 3, 0, 0},
    {"user: kernel code", A_CODE, 3, 0, EV_GP},
    {"user: kernel conforming", A_CONF, 3, 3, 0},
    {"user: not present", 0x1a | A_DPL(3), 3, 3, EV_NP},
};

TEST(direct)
{
    for (unsigned i = 0; i < ARRAY_SIZE(targets); i++) {
        const struct target *t = &targets[i];
        context(t->what, i);
        struct code end = CODE("nop");
        for (int call = 0; call < 2; call++) {
            struct code c = call ? CODE("call fword ptr [ebx]") : CODE("jmp fword ptr [ebx]");
            struct run r = t->cpl ? ring3(c) : ring0(c);
            u32 sel = flat(0, t->access) | t->rpl;
            u64 sp = r.sp;
            r.bx = pointer(sel, end.start);
            go(&r);
            if (t->vec) {
                fault(&r, t->vec, sel & ~3u);
                EXPECT(r.sp, sp);
                continue;
            }
            EXPECT(r.vec, EV_BP);
            EXPECT(r.ip, end.end + 1);
            EXPECT(r.cs, SEL_T(0) | t->cpl); /* RPL becomes CPL */
            if (!under_qemu)                 /* which sets A for data only */
                EXPECT(gdt[SEL_T(0) / 8] >> 40 & 1, 1);
            EXPECT(r.sp, sp - 8 * call);
            if (call) {
                u32 *stack = (u32 *)(u32)r.sp;
                EXPECT(stack[0], r.start + 2);
                EXPECT(stack[1] & 0xffff, t->cpl ? SEL_UCODE : SEL_CODE);
            }
        }
    }
}

TEST(null_and_beyond)
{
    struct run r = ring0(CODE("jmp fword ptr [ebx]"));
    r.bx = pointer(0, 0);
    go_fault(&r, EV_GP, 0);
    r = ring0(CODE("call fword ptr [ebx]"));
    r.bx = pointer(SEL_LIMIT, 0);
    go_fault(&r, EV_GP, SEL_LIMIT);
    r = ring0(CODE("jmp fword ptr [ebx]"));
    r.bx = pointer(4, 0);
    go_fault(&r, EV_GP, 4);
    r = ring0(CODE(".byte 0xff, 0xe8")); /* JMP FAR with a register */
    go_fault(&r, EV_UD, NO_ERR);
    r = ring0(CODE("jmp fword ptr [ebx]")); /* offset beyond the limit of the new CS */
    r.bx = pointer(slot(0, segment(0, 0xfff, A_CODE, FL_DB)), 0x1000);
    go_fault(&r, EV_GP, 0);
    EXPECT(r.cs, SEL_CODE);
}

TEST(call_16)
{
    /* 16-bit operand size pushes 4 bytes, and EIP is cut. */
    struct code end = low_copy(CODE("nop"));
    struct run r = ring0(CODE(".byte 0x66; call fword ptr [ebx]"));
    u64 sp = r.sp;
    *FRAME = end.start | SEL_CODE << 16;
    r.bx = (u32)FRAME;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, end.end + 1);
    EXPECT(r.sp, sp - 4);
    EXPECT(*(u32 *)(u32)r.sp, ((r.start + 3) & 0xffff) | SEL_CODE << 16);
}

TEST(gate_same_level)
{
    struct code end = CODE("nop");
    struct run r = ring0(CODE("call fword ptr [ebx]"));
    u64 sp = r.sp;
    r.bx = pointer(slot(0, gate(SEL_CODE, end.start, A_CALL32, 5)), 0xdeadbeef);
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, end.end + 1);
    EXPECT(r.sp, sp - 8); /* no parameters at the same level */
    EXPECT(*(u32 *)(u32)r.sp, r.start + 2);
    u32 junk = under_qemu ? 0 : 0xffff0000; /* it takes all 32 bits of the offset */
    /* 16-bit gate: pushes words, and cuts the offset. */
    end = low_copy(end);
    r = ring0(CODE("call fword ptr [ebx]"));
    r.bx = pointer(slot(0, gate(SEL_CODE, end.start | junk, A_CALL16, 0)), 0);
    sp = r.sp;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, end.end + 1);
    EXPECT(r.sp, sp - 4);
}

TEST(gate_jump)
{
    struct code end = CODE("nop");
    slot(0, gate(SEL_CODE, end.start, A_CALL32, 5));
    struct run r = ring0(CODE("jmp fword ptr [ebx]"));
    u64 sp = r.sp;
    r.bx = pointer(SEL_T(0), 0);
    go(&r);
    EXPECT(r.ip, end.end + 1);
    EXPECT(r.sp, sp);
}

TEST(gate_inner)
{
    struct code end = CODE("mov eax, [esp]; mov ecx, [esp+4]; mov edx, [esp+8]; mov esi, [esp+12];"
                           "mov edi, [esp+16]; mov ebp, [esp+20]");
    struct run r = ring3(CODE("push 0x22; push 0x11; call fword ptr [ebx]"));
    u64 sp = r.sp;
    r.bx = pointer(slot(0, gate(SEL_CODE, end.start, A_CALL32 | A_DPL(3), 2)) | 3, 0);
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, end.end + 1);
    EXPECT(r.cs, SEL_CODE);
    EXPECT(r.ss, SEL_DATA);
    EXPECT(r.sp, tss.esp0 - 24);
    EXPECT(r.ax, r.start + 6);
    EXPECT(r.cx & 0xffff, SEL_UCODE);
    EXPECT(r.dx, 0x11);
    EXPECT(r.si, 0x22);
    EXPECT(r.di, sp - 8);
    EXPECT(r.bp & 0xffff, SEL_UDATA);
    EXPECT(r.hcs, SEL_CODE);
    /* The 16-bit gate. */
    end = low_copy(CODE("mov eax, [esp]; mov ecx, [esp+4]; mov edx, [esp+8]"));
    r = ring3(CODE("push 0x33334444; call fword ptr [ebx]"));
    sp = r.sp;
    r.bx = pointer(slot(0, gate(SEL_CODE, end.start, A_CALL16 | A_DPL(3), 2)) | 3, 0);
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.sp, tss.esp0 - 12);
    EXPECT(r.ax, ((r.start + 7) & 0xffff) | SEL_UCODE << 16);
    EXPECT(r.cx, 0x33334444);
    EXPECT(r.dx, ((sp - 4) & 0xffff) | SEL_UDATA << 16);
}

TEST(gate_conforming_keeps_level)
{
    QEMU_DIFFERS("CS gets RPL 0");
    struct code end = CODE("nop");
    struct run r = ring3(CODE("call fword ptr [ebx]"));
    u64 sp = r.sp;
    u32 code = flat(1, A_CONF);
    r.bx = pointer(slot(0, gate(code, end.start, A_CALL32 | A_DPL(3), 2)) | 3, 0);
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.cs, code | 3);
    EXPECT(r.sp, sp - 8);
}

TEST(gate_faults)
{
    struct code end = CODE("nop"), call = CODE("call fword ptr [ebx]");
    struct {
        const char *what;
        u32 sel, access; /* of the gate */
        u32 rpl, vec, err;
    } cases[] = {
        {"gate dpl", SEL_CODE, A_CALL32, 3, EV_GP, SEL_T(0)},
        {"not present", SEL_CODE, 0x0c | A_DPL(3), 3, EV_NP, SEL_T(0)},
        {"null code", 0, A_CALL32 | A_DPL(3), 3, EV_GP, 0},
        {"code beyond", SEL_LIMIT, A_CALL32 | A_DPL(3), 3, EV_GP, SEL_LIMIT},
        {"data", SEL_DATA, A_CALL32 | A_DPL(3), 3, EV_GP, SEL_DATA},
        {"code not present", SEL_T(1), A_CALL32 | A_DPL(3), 3, EV_NP, SEL_T(1)},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context(cases[i].what, i);
        flat(1, 0x1a);
        struct run r = ring3(call);
        u64 sp = r.sp;
        r.bx =
            pointer(slot(0, gate(cases[i].sel, end.start, cases[i].access, 0)) | cases[i].rpl, 0);
        go_fault(&r, cases[i].vec, cases[i].err);
        EXPECT(r.sp, sp);
    }
    /* At ring 0 the selector's RPL counts. */
    struct run r = ring0(call);
    r.bx = pointer(slot(0, gate(SEL_CODE, end.start, A_CALL32, 0)) | 1, 0);
    go_fault(&r, EV_GP, SEL_T(0));
    /* JMP through a gate to an inner level. */
    r = ring3(CODE("jmp fword ptr [ebx]"));
    r.bx = pointer(slot(0, gate(SEL_CODE, end.start, A_CALL32 | A_DPL(3), 0)) | 3, 0);
    go_fault(&r, EV_GP, SEL_CODE);
}

/* Call gate to ring 1 whose stack is bad in the TSS. The faults themselves go to ring 0. */
TEST(gate_stack_faults)
{
    QEMU_DIFFERS("#TS for a stack that is not present");
    struct {
        const char *what;
        u32 ss, vec, err;
    } cases[] = {
        {"null", 0, EV_TS, 0},
        {"null rpl 1", 1, EV_TS, 0},
        {"rpl 0", SEL_T(2), EV_TS, SEL_T(2)},
        {"dpl 0", SEL_DATA | 1, EV_TS, SEL_DATA},
        {"beyond", SEL_LIMIT | 1, EV_TS, SEL_LIMIT},
        {"code", SEL_T(1) | 1, EV_TS, SEL_T(1)},
        {"read-only", SEL_T(3) | 1, EV_TS, SEL_T(3)},
        {"not present", SEL_T(4) | 1, EV_SS, SEL_T(4)},
        {"no room", SEL_T(5) | 1, EV_SS, SEL_T(5)},
    };
    u32 code = flat(1, A_CODE | A_DPL(1));
    flat(2, A_DATA | A_DPL(1));
    flat(3, 0x91 | A_DPL(1));
    flat(4, 0x13 | A_DPL(1));
    slot(5, segment((u32)frames, 0xf, A_DATA | A_DPL(1), FL_DB));
    tss.esp1 = 8;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context(cases[i].what, i);
        tss.ss1 = cases[i].ss;
        struct run r = ring3(CODE("call fword ptr [ebx]"));
        r.bx = pointer(slot(0, gate(code, 0x100000, A_CALL32 | A_DPL(3), 0)) | 3, 0);
        go_fault(&r, cases[i].vec, cases[i].err);
    }
    /* The TSS ends before SS1. */
    gdt[SEL_TSS / 8] = segment((u32)&tss, 0x67, A_TSS32, 0);
    struct run r = ring3(CODE("call fword ptr [ebx]"));
    tss.ss1 = SEL_T(2) | 1;
    tss.esp1 = (u32)frames[1];
    struct code end = CODE("nop");
    r.bx = pointer(slot(0, gate(code, end.start, A_CALL32 | A_DPL(3), 0)) | 3, 0);
    go(&r);
    EXPECT(r.vec, EV_BP); /* ring 1 works */
    EXPECT(r.cs, code | 1);
    EXPECT(r.sp, tss.esp1 - 16);
}

TEST(ret_same_level)
{
    struct code end = CODE("nop");
    struct run r = ring0(CODE("push ecx; push edx; retf 8"));
    u64 sp = r.sp;
    r.cx = SEL_CODE;
    r.dx = end.start;
    go(&r);
    EXPECT(r.ip, end.end + 1);
    EXPECT(r.sp, sp + 8);
    u32 bad[][3] = {
        {0, EV_GP, 0},
        {SEL_LIMIT, EV_GP, SEL_LIMIT},
        {SEL_DATA, EV_GP, SEL_DATA},
        {SEL_T(0), EV_NP, SEL_T(0)},
        {SEL_UCODE & ~3, EV_GP, SEL_UCODE & ~3}, /* DPL is not RPL */
        {SEL_T(1) | 1, EV_GP, SEL_T(1)},         /* conforming, DPL above RPL */
    };
    flat(0, 0x1a);
    flat(1, A_CONF | A_DPL(3));
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        context("selector", bad[i][0]);
        r = ring0(CODE("push ecx; push edx; retf"));
        sp = r.sp;
        r.cx = bad[i][0];
        go(&r);
        fault_at(&r, bad[i][1], bad[i][2], 2);
        EXPECT(r.sp, sp - 8);
    }
    r = ring3(CODE("push ecx; push edx; retf")); /* to an inner level */
    r.cx = SEL_CODE;
    go(&r);
    fault_at(&r, EV_GP, SEL_CODE, 2);
}

TEST(ret_outer)
{
    struct code end = CODE("nop");
    u32 *stack = FRAME + 64;
    stack[0] = end.start;
    stack[1] = SEL_UCODE;
    stack[2] = stack[3] = 0x77; /* parameters */
    stack[4] = 0x5000;
    stack[5] = SEL_UDATA;
    struct run r = ring0(CODE("mov esp, ebx; retf 8"));
    r.bx = (u32)stack;
    r.es = flat(0, A_CONF);
    r.fs = SEL_UDATA;
    r.gs = flat(1, A_DATA | A_DPL(1));
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, end.end + 1);
    EXPECT(r.cs, SEL_UCODE);
    EXPECT(r.ss, SEL_UDATA);
    EXPECT(r.sp, 0x5000 + 8); /* the parameters are released on both stacks */
    EXPECT(r.ds, 0);          /* ring 0 data goes */
    EXPECT(r.es, SEL_T(0));   /* conforming code stays */
    EXPECT(r.fs, SEL_UDATA);
    EXPECT(r.gs, 0);
}

TEST(ret_outer_faults)
{
    QEMU_DIFFERS("#NP for a stack that is not present");
    u32 cases[][3] = {
        {0, EV_GP, 0},
        {SEL_DATA | 3, EV_GP, SEL_DATA},
        {SEL_UDATA & ~3, EV_GP, SEL_UDATA & ~3},
        {SEL_UCODE, EV_GP, SEL_UCODE & ~3},
        {SEL_LIMIT | 3, EV_GP, SEL_LIMIT},
        {SEL_T(0) | 3, EV_SS, SEL_T(0)},
    };
    flat(0, 0x13 | A_DPL(3));
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context("ss", cases[i][0]);
        u32 *stack = FRAME + 64;
        stack[0] = 0x100000;
        stack[1] = SEL_UCODE;
        stack[2] = 0x5000;
        stack[3] = cases[i][0];
        struct run r = ring0(CODE("mov esp, ebx; retf"));
        r.bx = (u32)stack;
        go(&r);
        fault_at(&r, cases[i][1], cases[i][2], 2);
        EXPECT(r.sp, (u32)stack);
        EXPECT(r.cs, SEL_CODE);
    }
}

TEST(long_mode)
{
    QEMU_DIFFERS("gates may lead to 32-bit code");
    struct code c64 = CODE64("mov rax, [rsp]; mov rcx, [rsp+8]"), c32 = CODE("nop");
    /* JMP and CALL to compatibility code, and back through a 64-bit gate. */
    struct run r = long0(CODE64("jmp fword ptr [rbx]"));
    r.bx = pointer(SEL_CODE, c32.start);
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.cs, SEL_CODE);
    gdt[SEL_T(1) / 8] = 0;
    slot(0, gate(SEL_CODE64, c64.start, A_CALL32 | A_DPL(3), 0));
    r = compat3(CODE("call fword ptr [ebx]"));
    u64 sp = r.sp;
    r.bx = pointer(SEL_T(0) | 3, 0);
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, c64.end + 1);
    EXPECT(r.cs, SEL_CODE64);
    EXPECT(r.ss, 0); /* null SS with RPL = new CPL */
    EXPECT(r.sp, tss64.rsp[0] - 32);
    EXPECT(r.ax, r.start + 2);
    EXPECT(r.cx, SEL_UCODE);
    EXPECT(*(u64 *)(u32)(r.sp + 16), sp);
    EXPECT(*(u64 *)(u32)(r.sp + 24), SEL_UDATA);
    /* A 64-bit gate must lead to 64-bit code. */
    slot(0, gate(SEL_CODE, c64.start, A_CALL32 | A_DPL(3), 0));
    r = compat3(CODE("call fword ptr [ebx]"));
    r.bx = pointer(SEL_T(0) | 3, 0);
    go_fault(&r, EV_GP, SEL_CODE);
    /* L and D both set. */
    slot(0, segment(0, 0xfffff, A_CODE, FL_G | FL_L | FL_DB));
    gdt[SEL_T(1) / 8] = 0;
    r = long0(CODE64("jmp fword ptr [rbx]"));
    r.bx = pointer(SEL_T(0), c64.start);
    go_fault(&r, EV_GP, SEL_T(0));
    /* RETF to compatibility user code. */
    u64 *stack = (u64 *)(frames[0] + 128);
    stack[0] = c32.start;
    stack[1] = SEL_UCODE;
    stack[2] = 0x4000;
    stack[3] = SEL_UDATA;
    r = long0(CODE64("mov rsp, rbx; retfq"));
    r.bx = (u32)stack;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.cs, SEL_UCODE);
    EXPECT(r.sp, 0x4000);
    r = long0(CODE64(".byte 0xea, 0, 0, 0, 0, 8, 0")); /* direct far JMP */
    go_fault(&r, EV_UD, NO_ERR);
}

TEST(page_faults)
{
    /* Far CALL whose second push faults, and a gate to a ring 1 stack that is not mapped. */
    struct run r = ring3(CODE("call fword ptr [ebx]"));
    paged(&r, PAGING_32, true);
    map(PAGING_32, 1, 1, P_ALL);
    r.sp = WINDOW + 0x1004;
    r.bx = pointer(SEL_UCODE, 0x100000);
    if (under_qemu)
        return; /* pushes are supervisor accesses there */
    go_fault(&r, EV_PF, 6);
    EXPECT(r.cr2, WINDOW + 0xffc);
    EXPECT(r.sp, WINDOW + 0x1004);
    EXPECT(r.cs, SEL_UCODE);
    r = ring3(CODE("call fword ptr [ebx]"));
    paged(&r, PAGING_32, true);
    tss.ss1 = flat(2, A_DATA | A_DPL(1)) | 1;
    tss.esp1 = WINDOW + 0x2000;
    u64 sp = r.sp;
    r.bx =
        pointer(slot(0, gate(flat(1, A_CODE | A_DPL(1)), 0x100000, A_CALL32 | A_DPL(3), 0)) | 3, 0);
    go_fault(&r, EV_PF, 2);
    EXPECT(r.cr2, WINDOW + 0x1ffc);
    EXPECT(r.sp, sp);
    EXPECT(r.ss, SEL_UDATA);
    /* RETF from a stack that ends. */
    r = ring3(CODE("retf"));
    paged(&r, PAGING_32, true);
    map(PAGING_32, 0, 0, P_ALL);
    r.sp = WINDOW + 0xffc;
    go_fault(&r, EV_PF, 4);
    EXPECT(r.sp, WINDOW + 0xffc);
}
