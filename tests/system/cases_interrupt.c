/*
 * INT n, gates and stack switches, and IRET in all its forms (SDM vol. 3, ch. 6; vol. 2, IRET).
 */
#include "run.h"

#define GROUP      "interrupt"
#define VEC        0x60
#define IDT_ERR(n) ((n)*8 + 2)
#define STACK      ((u32 *)frames[0] + 64)

TEST(gate_types)
{
    struct run r = ring0(CODE("int 0x60"));
    r.flags |= F_IF;
    go(&r);
    EXPECT(r.vec, VEC);
    EXPECT(r.ip, r.end);
    EXPECT(r.flags & F_IF, F_IF);
    EXPECT(r.hflags & F_IF, 0); /* interrupt gate */
    EXPECT(r.hsp, r.sp - 12);
    set_handler(VEC, A_TRAP32, SEL_CODE);
    r = ring0(CODE("int 0x60"));
    r.flags |= F_IF | F_NT | F_AC;
    go(&r);
    EXPECT(r.hflags & (F_IF | F_NT | F_AC | F_TF), F_IF | F_AC);
    EXPECT(r.flags & F_NT, F_NT);
}

TEST(stack_switch)
{
    struct run r = ring3(CODE("int 0x60"));
    set_handler(VEC, A_INT32 | A_DPL(3), SEL_CODE);
    r.flags |= F_IF;
    u64 sp = r.sp;
    go(&r);
    EXPECT(r.vec, VEC);
    EXPECT(r.cs, SEL_UCODE);
    EXPECT(r.ss, SEL_UDATA);
    EXPECT(r.sp, sp);
    EXPECT(r.hsp, tss.esp0 - 20);
    EXPECT(r.hss, SEL_DATA);
    EXPECT(r.hcs, SEL_CODE);
    /* A conforming handler runs at CPL 3, on the same stack. It is told by its INT3. */
    struct code handler = CODE("nop");
    idt[VEC] = gate(flat(0, A_CONF), handler.start, A_INT32 | A_DPL(3), 0);
    r = ring3(CODE("int 0x60"));
    sp = r.sp;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, handler.end + 1);
    EXPECT(r.cs, SEL_T(0) | 3);
    EXPECT(r.sp, sp - 12);
}

TEST(gate_faults)
{
    struct {
        const char *what;
        u32 cpl, sel, access, vec, err;
    } cases[] = {
        {"gate dpl", 3, SEL_CODE, A_INT32, EV_GP, IDT_ERR(VEC)},
        {"not present", 0, SEL_CODE, 0x0e, EV_NP, IDT_ERR(VEC)},
        {"not present dpl", 3, SEL_CODE, 0x0e, EV_GP, IDT_ERR(VEC)},
        {"call gate", 0, SEL_CODE, A_CALL32, EV_GP, IDT_ERR(VEC)},
        {"empty", 0, 0, 0, EV_GP, IDT_ERR(VEC)},
        {"null selector", 0, 0, A_INT32, EV_GP, 0},
        {"beyond", 0, SEL_LIMIT, A_INT32, EV_GP, SEL_LIMIT},
        {"data segment", 0, SEL_DATA, A_INT32, EV_GP, SEL_DATA},
        {"outer code", 0, SEL_UCODE, A_INT32, EV_GP, SEL_UCODE & ~3},
        {"code not present", 0, SEL_T(0), A_INT32, EV_NP, SEL_T(0)},
        {"task gate to code", 0, SEL_CODE, A_TASK, EV_GP, SEL_CODE},
        {"task gate to LDT", 0, 0x4c, A_TASK, EV_GP, 0x4c},
        {"task gate busy", 0, SEL_TSS, A_TASK, EV_GP, SEL_TSS},
        {"task gate not present", 0, SEL_T(1), A_TASK, EV_NP, SEL_T(1)},
    };
    flat(0, 0x1a);
    slot(1, segment((u32)&tss, 0x67, 0x09, 0));
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context(cases[i].what, i);
        if (under_qemu && (i == 12 || i == 11))
            continue; /* #TS there */
        idt[VEC] = gate(cases[i].sel, 0x100000, cases[i].access, 0);
        struct run r = cases[i].cpl ? ring3(CODE("int 0x60")) : ring0(CODE("int 0x60"));
        u64 sp = r.sp;
        go_fault(&r, cases[i].vec, cases[i].err);
        EXPECT(r.sp, sp);
    }
}

TEST(idt_limit)
{
    static struct {
        u16 pad, limit;
        u32 base;
    } __attribute__((packed)) small;
    small.limit = VEC * 8 + 6; /* one byte short */
    small.base = (u32)idt;
    __asm__ volatile("lidt %0" ::"m"(small.limit));
    struct run r = ring0(CODE("int 0x60"));
    go_fault(&r, EV_GP, IDT_ERR(VEC));
}

/* An exception whose own gate is bad: error codes carry EXT. */
TEST(ext_bit)
{
    QEMU_DIFFERS("no EXT for exceptions");
    idt[EV_UD] = 0;
    struct run r = ring0(CODE("ud2"));
    go_fault(&r, EV_GP, IDT_ERR(EV_UD) | 1);
    idt[EV_UD] = gate(SEL_CODE, 0x100000, 0x0e, 0);
    r = ring0(CODE("ud2"));
    go_fault(&r, EV_NP, IDT_ERR(EV_UD) | 1);
    idt[EV_UD] = gate(SEL_LIMIT, 0x100000, A_INT32, 0);
    r = ring0(CODE("ud2"));
    go_fault(&r, EV_GP, SEL_LIMIT | 1);
    idt[EV_BP] = 0;
    r = ring0(CODE("int3")); /* a software interrupt: no EXT */
    go_fault(&r, EV_GP, IDT_ERR(EV_BP));
}

TEST(inner_stack_faults)
{
    struct {
        const char *what;
        u32 ss, vec, err;
    } cases[] = {
        {"null", 0, EV_TS, 0},
        {"rpl", SEL_T(2), EV_TS, SEL_T(2)},
        {"dpl", SEL_DATA | 1, EV_TS, SEL_DATA},
        {"beyond", SEL_LIMIT | 1, EV_TS, SEL_LIMIT},
        {"not present", SEL_T(4) | 1, EV_SS, SEL_T(4)},
        {"no room", SEL_T(5) | 1, EV_SS, SEL_T(5)},
    };
    QEMU_DIFFERS("#TS for a stack that is not present");
    flat(2, A_DATA | A_DPL(1));
    flat(4, 0x13 | A_DPL(1));
    slot(5, segment((u32)frames, 0x10, A_DATA | A_DPL(1), FL_DB));
    idt[VEC] = gate(flat(1, A_CODE | A_DPL(1)), 0x100000, A_INT32 | A_DPL(3), 0);
    tss.esp1 = 0x10;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context(cases[i].what, i);
        tss.ss1 = cases[i].ss;
        struct run r = ring3(CODE("int 0x60"));
        go_fault(&r, cases[i].vec, cases[i].err);
    }
}

TEST(double_fault)
{
    /* #GP whose gate is bad (#GP again), then #DF with error code 0. */
    idt[EV_GP] = 0;
    struct run r = ring0(CODE("mov ds, eax"));
    r.ax = SEL_LIMIT;
    go_fault(&r, EV_DF, 0);
    /* #UD is benign: the second fault is the one delivered. */
    idt[EV_UD] = 0;
    set_handler(EV_GP, A_INT32, SEL_CODE);
    r = ring0(CODE("ud2"));
    go_fault(&r, EV_GP, IDT_ERR(EV_UD) | !under_qemu); /* no EXT there */
    /* #DE is contributory: a #NP on the way makes #DF. */
    idt[EV_DE] = gate(SEL_CODE, 0, 0x0e, 0);
    r = ring0(CODE("div ecx"));
    go_fault(&r, EV_DF, 0);
    /* INT 0 is no exception: a plain #NP. */
    r = ring0(CODE("int 0"));
    go_fault(&r, EV_NP, IDT_ERR(0));
    /* A page fault while delivering a page fault. */
    r = ring3(CODE("mov eax, [ebx]"));
    paged(&r, PAGING_32, true);
    tss.esp0 = WINDOW + 0x800;
    r.bx = WINDOW + 0x1008;
    struct tss32 *t = (struct tss32 *)frames[4];
    memset(t, 0, sizeof(*t));
    t->eip = (u32)stub32_0 + 16 * EV_DF;
    t->cs = SEL_CODE;
    t->ss = t->ds = t->es = SEL_DATA;
    t->esp = (u32)frames[6];
    t->cr3 = r.cr3;
    t->eflags = 2;
    slot(6, segment((u32)t, 0x67, A_TSS32, 0));
    idt[EV_DF] = gate(SEL_T(6), 0, A_TASK, 0);
    go(&r);
    EXPECT(r.vec, EV_DF);
    EXPECT(r.err, 0);
    EXPECT(t->link, SEL_TSS);
    EXPECT(tss.eip, r.start);
    EXPECT(tss.ebx, WINDOW + 0x1008);
    EXPECT(r.cr2, WINDOW + 0x7fc); /* the second fault's */
}

/* --- IRET --- */

static u32 *iret_frame(u32 ip, u32 cs, u32 flags, u32 sp, u32 ss)
{
    u32 *s = STACK;
    s[0] = ip;
    s[1] = cs;
    s[2] = flags;
    s[3] = sp;
    s[4] = ss;
    return s;
}

TEST(iret_same_level)
{
    struct code end = CODE("nop");
    struct run r = ring0(CODE("mov esp, ebx; iret"));
    r.bx = (u32)iret_frame(end.start, SEL_CODE, F_OF | F_DF | F_AC | F_IOPL | 2, 0, 0);
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, end.end + 1);
    EXPECT(r.flags, F_OF | F_DF | F_AC | F_IOPL | 2);
    EXPECT(r.sp, (u32)STACK + 12);
    end = low_copy(end);
    STACK[0] = (end.start & 0xffff) | SEL_CODE << 16;
    STACK[1] = F_CF | 0x2;
    r = ring0(CODE("mov esp, ebx; iretw"));
    r.bx = (u32)STACK;
    r.flags |= F_AC | F_OF;
    go(&r);
    EXPECT(r.ip, end.end + 1);
    EXPECT(r.flags, F_AC | F_CF | 2); /* the upper half of EFLAGS stays */
    EXPECT(r.sp, (u32)STACK + 6);
}

TEST(iret_outer)
{
    struct code end = CODE("nop");
    struct run r = ring0(CODE("mov esp, ebx; iret"));
    r.bx = (u32)iret_frame(end.start, SEL_UCODE, F_IF | F_IOPL | 2, 0x5000, SEL_UDATA);
    r.es = SEL_UDATA;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.cs, SEL_UCODE);
    EXPECT(r.ss, SEL_UDATA);
    EXPECT(r.sp, 0x5000);
    EXPECT(r.ds, 0);
    EXPECT(r.es, SEL_UDATA);
    EXPECT(r.flags, F_IF | F_IOPL | 2);
}

TEST(iret_user_flags)
{
    /* At CPL 3 with IOPL 0: IOPL, IF, VIF, VIP stay; the rest loads. */
    struct code end = CODE("nop");
    struct run r = ring3(CODE("mov esp, ebx; iret"));
    r.flags |= F_IF;
    r.bx = (u32)iret_frame(end.start, SEL_UCODE, F_IOPL | F_VIF | F_VIP | F_NT | F_CF | 2, 0, 0);
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.flags, F_IF | F_NT | F_CF | 2);
}

TEST(iret_faults)
{
    struct {
        const char *what;
        u32 cs, ss, vec, err;
    } cases[] = {
        {"null cs", 0, SEL_UDATA, EV_GP, 0},
        {"cs beyond", SEL_LIMIT, 0, EV_GP, SEL_LIMIT},
        {"data cs", SEL_DATA, 0, EV_GP, SEL_DATA},
        {"cs dpl", SEL_CODE | 3, SEL_UDATA, EV_GP, SEL_CODE},
        {"cs not present", SEL_T(0), 0, EV_NP, SEL_T(0)},
        {"null ss", SEL_UCODE, 0, EV_GP, 0},
        {"ss dpl", SEL_UCODE, SEL_DATA | 3, EV_GP, SEL_DATA},
        {"ss rpl", SEL_UCODE, SEL_UDATA & ~3, EV_GP, SEL_UDATA & ~3},
        {"ss code", SEL_UCODE, SEL_UCODE, EV_GP, SEL_UCODE & ~3},
        {"ss not present", SEL_UCODE, SEL_T(1) | 3, EV_SS, SEL_T(1)},
        {"cs in LDT", SEL_UCODE | 4, SEL_UDATA, EV_GP, (SEL_UCODE & ~3) | 4},
    };
    flat(0, 0x1a);
    flat(1, 0x13 | A_DPL(3));
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context(cases[i].what, i);
        if (under_qemu && cases[i].vec == EV_SS)
            continue; /* #NP there */
        struct run r = ring0(CODE("mov esp, ebx; iret"));
        r.bx = (u32)iret_frame(0x100000, cases[i].cs, 2, 0x5000, cases[i].ss);
        go(&r);
        fault_at(&r, cases[i].vec, cases[i].err, 2);
        EXPECT(r.sp, (u32)STACK);
        EXPECT(r.flags & F_IF, 0);
    }
    struct run r = ring3(CODE("mov esp, ebx; iret"));
    r.bx = (u32)iret_frame(0x100000, SEL_CODE, 2, 0, 0);
    go(&r);
    fault_at(&r, EV_GP, SEL_CODE, 2);
    r = long0(CODE64("iretq")); /* NT in long mode */
    r.flags |= F_NT;
    go_fault(&r, EV_GP, 0);
}

TEST(iret_to_v86)
{
    struct code end = low_copy(CODE16("nop"));
    u32 *s = iret_frame(0, 0x800, F_VM | F_IF | F_IOPL | 2, 0xf00, 0x900);
    s[5] = 0x1111;
    s[6] = 0x2222;
    s[7] = 0x3333;
    s[8] = 0x4444;
    struct run r = ring0(CODE("mov esp, ebx; iret"));
    r.bx = (u32)s;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.cs, 0x800);
    EXPECT(r.ip, end.end + 1 - 0x8000);
    EXPECT(r.flags, F_VM | F_IF | F_IOPL | 2);
    EXPECT(r.es, 0x1111);
    EXPECT(r.ds, 0x2222);
    EXPECT(r.fs, 0x3333);
    EXPECT(r.gs, 0x4444);
    EXPECT(r.sp, 0xf00);
    EXPECT(r.ss, 0x900);
    EXPECT(r.hsp, tss.esp0 - 36);
    EXPECT(r.hflags & F_VM, 0);
    if (under_qemu)
        return;
    /* At CPL 3 VM can't be set. */
    end = CODE("nop");
    r = ring3(CODE("mov esp, ebx; iret"));
    r.bx = (u32)iret_frame(end.start, SEL_UCODE, F_VM | 2, 0, 0);
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.flags, 2);
}

TEST(iretq)
{
    struct code c64 = CODE64("nop"), c32 = CODE("nop");
    u64 *s = (u64 *)STACK;
    struct {
        const char *what;
        u32 cs, ss, vec, err;
    } cases[] = {
        {"to user 64", SEL_UCODE64, SEL_UDATA, 0, 0},
        {"to user compat", SEL_UCODE, SEL_UDATA, 0, 0},
        {"to kernel 64", SEL_CODE64, SEL_DATA, 0, 0},
        {"to kernel 64, null ss", SEL_CODE64, 0, 0, 0},
        {"to kernel compat", SEL_CODE, SEL_DATA, 0, 0},
        {"to user, null ss", SEL_UCODE64, 3, EV_GP, 0},
        {"to compat, null ss", SEL_UCODE, 3, EV_GP, 0},
        {"null ss rpl", SEL_CODE64, 1, EV_GP, 0},
        {"ss not present", SEL_UCODE64, SEL_T(0) | 3, EV_SS, SEL_T(0)},
        {"L and D", SEL_T(1), SEL_DATA, EV_GP, SEL_T(1)},
    };
    flat(0, 0x13 | A_DPL(3));
    slot(1, segment(0, 0xfffff, A_CODE, FL_G | FL_L | FL_DB));
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context(cases[i].what, i);
        if (under_qemu && (i == 5 || i == 7 || i == 8 || i == 9))
            continue; /* allowed there; #NP */
        struct code end = gdt[cases[i].cs / 8] >> 53 & 1 ? c64 : c32;
        struct run r = long0(CODE64("mov rsp, rbx; iretq"));
        r.bx = (u32)s;
        s[0] = end.start;
        s[1] = cases[i].cs;
        s[2] = F_CF | 2;
        s[3] = 0x5008;
        s[4] = cases[i].ss;
        go(&r);
        if (cases[i].vec) {
            fault_at(&r, cases[i].vec, cases[i].err, 3);
            EXPECT(r.sp, (u32)s);
            continue;
        }
        EXPECT(r.vec, EV_BP);
        EXPECT(r.ip, end.end + 1);
        EXPECT(r.cs, cases[i].cs);
        EXPECT(r.ss, cases[i].ss);
        EXPECT(r.sp, 0x5008);
        EXPECT(r.flags, F_CF | 2);
    }
    /* The return address is not canonical: #GP(0), still in the kernel. */
    struct run r = long0(CODE64("mov rsp, rbx; iretq"));
    r.bx = (u32)s;
    s[0] = 0x800000000000;
    s[1] = SEL_CODE64;
    s[4] = SEL_DATA;
    go(&r);
    if (!under_qemu)
        fault_at(&r, EV_GP, 0, 3);
    /* IRETD pops 4 bytes each, and in 64-bit mode the stack too. */
    u32 *d = iret_frame(c64.start, SEL_CODE64, 2, 0x5000, SEL_DATA);
    r = long0(CODE64("mov rsp, rbx; iretd"));
    r.bx = (u32)d;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, c64.end + 1);
    EXPECT(r.sp, 0x5000);
}

TEST(stack_64)
{
    /* The frame is always five quads, on a stack aligned to 16. */
    struct run r = long0(CODE64("int 0x60"));
    r.sp -= 3;
    u64 sp = r.sp;
    go(&r);
    EXPECT(r.vec, VEC);
    EXPECT(r.sp, sp);
    EXPECT(r.hsp, (sp & ~15ull) - 40);
    EXPECT(r.hss, SEL_DATA);
    tss64.rsp[0] -= 5;
    set_handler(VEC, A_INT32 | A_DPL(3), SEL_CODE);
    r = long3(CODE64("int 0x60"));
    go(&r);
    EXPECT(r.vec, VEC);
    EXPECT(r.hsp, (tss64.rsp[0] & ~15ull) - 40);
    EXPECT(r.hss, 0); /* null, with RPL of the new CPL */
    EXPECT(r.ss, SEL_UDATA);
    r = compat3(CODE("int 0x60"));
    r.sp = 0x12345678;
    go(&r);
    EXPECT(r.vec, VEC);
    EXPECT(r.sp, 0x12345678);
    EXPECT(r.ip, r.end);
}

TEST(ist)
{
    QEMU_DIFFERS("SS becomes null");
    tss64.ist[2] = (u32)frames[3] + 8;
    idt64[2 * VEC] |= 3ull << 32;
    struct run r = long0(CODE64("int 0x60"));
    go(&r);
    EXPECT(r.vec, VEC);
    EXPECT(r.hsp, (u32)frames[3] - 40);
    EXPECT(r.hss, SEL_DATA);       /* no change of level: SS stays */
    tss64.ist[2] = 0x900000000000; /* not canonical: #SS */
    r = long0(CODE64("int 0x60"));
    go_fault(&r, EV_SS, 0);
}

TEST(gate_faults_64)
{
    QEMU_DIFFERS("the error code is 16 times the vector");
    struct {
        const char *what;
        u64 low;
        u32 vec, err;
    } cases[] = {
        {"not present", gate(SEL_CODE64, 0, 0x0e, 0), EV_NP, IDT_ERR(VEC)},
        {"task gate", gate(SEL_TSS64, 0, A_TASK, 0), EV_GP, IDT_ERR(VEC)},
        {"16-bit gate", gate(SEL_CODE64, 0, 0x86, 0), EV_GP, IDT_ERR(VEC)},
        {"32-bit code", gate(SEL_CODE, 0, A_INT32, 0), EV_GP, SEL_CODE},
        {"null", gate(0, 0, A_INT32, 0), EV_GP, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context(cases[i].what, i);
        idt64[2 * VEC] = cases[i].low;
        struct run r = long0(CODE64("int 0x60"));
        go_fault(&r, cases[i].vec, cases[i].err);
    }
    /* #DF has its own stack (IST 1): the kernel's pointer is not canonical. */
    struct run r = long0(CODE64("mov rsp, rbx; int 0x60"));
    set_handler(VEC, A_INT32, SEL_CODE);
    r.bx = 0x900000000000;
    go(&r);
    fault_at(&r, EV_DF, 0, 3);
    EXPECT(r.hsp, tss64.ist[0] - 48 + 8);
}

TEST(rf_pushed)
{
    QEMU_DIFFERS("RF is never set in a pushed image");
    struct run r = ring0(CODE("ud2"));
    go_fault(&r, EV_UD, NO_ERR);
    EXPECT(r.flags, F_RF | 2);
    r = long0(CODE64("mov [rbx], rax"));
    r.bx = WINDOW;
    go(&r);
    EXPECT(r.vec, EV_PF);
    EXPECT(r.flags, F_RF | 2);
    r = ring0(CODE("int 0x60"));
    go(&r);
    EXPECT(r.flags, 2);
}

TEST(real_mode)
{
    struct run r = real(CODE16("int 4"));
    r.flags |= F_IF | F_CF;
    u64 sp = r.sp;
    go_real(&r);
    EXPECT(r.vec, 4);
    EXPECT(r.ip, r.end);
    EXPECT(r.flags & (F_IF | F_CF), F_IF | F_CF);
    EXPECT(r.sp, sp);
    r = real(CODE16("push 0x3203; push cs; push 12; iret; .org 771b+12; nop"));
    r.cx = 0x0203;
    go_real(&r);
    done(&r);
    EXPECT(r.flags & 0xffff, 0x3203);
    r = real(CODE16("into; mov ax, 1"));
    r.flags |= F_OF;
    go_real(&r);
    EXPECT(r.vec, EV_OF);
    EXPECT(r.ip, 1);
    r = real(CODE16("div cx"));
    go_real(&r);
    fault(&r, EV_DE, NO_ERR);
}

TEST(stack_page_fault)
{
    /* The inner stack is not mapped: the #PF is a supervisor write, and finds the program at its
     * INT, still in ring 3. Its own gate has a stack of the IST. */
    struct run r = long3(CODE64("int 0x60"));
    set_handler(VEC, A_INT32 | A_DPL(3), SEL_CODE);
    idt64[2 * EV_PF] |= 1ull << 32;
    tss64.rsp[0] = WINDOW + 0x1000;
    u64 sp = r.sp;
    go_fault(&r, EV_PF, 2);
    EXPECT(r.cr2, WINDOW + 0xff8);
    EXPECT(r.cs, SEL_UCODE64);
    EXPECT(r.sp, sp);
    /* IRET from a stack that ends. */
    r = ring3(CODE("iret"));
    paged(&r, PAGING_32, true);
    map(PAGING_32, 0, 0, P_ALL);
    *(u32 *)(frames[0] + 0xffc) = r.start;
    r.sp = WINDOW + 0xffc;
    if (under_qemu)
        return; /* pops are supervisor accesses there */
    go_fault(&r, EV_PF, 4);
    EXPECT(r.cr2, WINDOW + 0x1000);
    EXPECT(r.sp, WINDOW + 0xffc);
    EXPECT(r.cs, SEL_UCODE);
}
