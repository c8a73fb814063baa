/*
 * Hardware task switches by JMP, CALL, INT through a task gate, exceptions and IRET, with 32- and
 * 16-bit task state segments (SDM vol. 3, ch. 7).
 */
#include "run.h"

#define GROUP     "task"
#define VEC       0x60
#define SEL_NEW   SEL_T(6)
#define BUSY(sel) (gdt[(sel) / 8] >> 41 & 1)
#define T         ((struct tss32 *)frames[4])

struct tss16 {
    u16 link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di;
    u16 es, cs, ss, ds, ldt;
};
#define T16 ((struct tss16 *)frames[5])

/* TR is the usual task again. */
static void first_task(void)
{
    gdt[SEL_TSS / 8] = segment((u32)&tss, sizeof(tss) - 1, A_TSS32, 0);
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
    tss.link = 0;
}

/* The new task: code at ring 0 or 3. */
static void new_task(struct code c, bool user)
{
    first_task();
    memset(T, 0, 0x68);
    T->eip = c.start;
    T->cs = user ? SEL_UCODE : SEL_CODE;
    T->ss = T->ds = T->es = T->fs = T->gs = user ? SEL_UDATA : SEL_DATA;
    T->esp = (u32)frames[7];
    T->ss0 = SEL_DATA;
    T->esp0 = (u32)frames[6];
    T->eflags = 2;
    T->eax = 0xaaaa;
    T->ecx = 0xcccc;
    T->edi = 0xd1d1;
    slot(6, segment((u32)T, 0x67, A_TSS32, 0));
}

static u32 pointer(u32 sel)
{
    u32 *p = (u32 *)frames[1];
    p[0] = 0xdeadbeef;
    p[1] = sel;
    return (u32)p;
}

static struct run switching(struct code c, u32 sel)
{
    struct run r = ring0(c);
    r.bx = pointer(sel);
    r.ax = 0x1111;
    r.bp = 0x5555;
    r.fs = SEL_UDATA;
    r.flags |= F_CF | F_OF;
    return r;
}

TEST(jump)
{
    struct code c = CODE("mov edx, cr0; str bx; sldt bp");
    new_task(c, false);
    T->ldt = SEL_LDT;
    T->eflags = F_DF | 2;
    struct run r = switching(CODE("jmp fword ptr [ebx]"), SEL_NEW);
    u64 sp = r.sp;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, c.end + 1);
    EXPECT(r.ax, 0xaaaa);
    EXPECT(r.cx, 0xcccc);
    EXPECT(r.di, 0xd1d1);
    EXPECT(r.sp, (u32)frames[7]);
    EXPECT(r.flags, F_DF | 2);
    EXPECT(r.dx & CR0_TS, CR0_TS);
    EXPECT(r.bx, SEL_NEW);
    EXPECT(r.bp, SEL_LDT);
    EXPECT(tss.eip, r.start + 2);
    EXPECT(tss.eax, 0x1111);
    EXPECT(tss.ebx, (u32)frames[1]);
    EXPECT(tss.ebp, 0x5555);
    EXPECT(tss.esp, sp);
    EXPECT(tss.eflags, F_CF | F_OF | 2);
    EXPECT(tss.cs & 0xffff, SEL_CODE);
    EXPECT(tss.fs & 0xffff, SEL_UDATA);
    EXPECT(tss.link, 0);
    EXPECT(BUSY(SEL_TSS), 0);
    EXPECT(BUSY(SEL_NEW), 1);
    EXPECT(T->link, 0);
}

TEST(call_and_return)
{
    new_task(CODE("inc eax; iret"), false);
    struct run r = switching(CODE("call fword ptr [ebx]"), SEL_NEW);
    T->eflags |= F_CF;
    go_done(&r);
    EXPECT(r.ax, 0x1111);
    EXPECT(r.flags & (F_NT | F_CF), F_CF);
    EXPECT(r.fs, SEL_UDATA);
    EXPECT(T->link & 0xffff, SEL_TSS);
    EXPECT(T->eax, 0xaaab);
    EXPECT(T->eflags & F_NT, 0); /* IRET saves it clear */
    EXPECT(BUSY(SEL_TSS), 1);
    EXPECT(BUSY(SEL_NEW), 0);
    /* NT and busy while inside. */
    struct code c = CODE("nop");
    new_task(c, false);
    r = switching(CODE("call fword ptr [ebx]"), SEL_NEW);
    go(&r);
    EXPECT(r.ip, c.end + 1);
    EXPECT(r.flags & F_NT, F_NT);
    EXPECT(BUSY(SEL_TSS), 1);
    EXPECT(BUSY(SEL_NEW), 1);
    EXPECT(tss.eflags & F_NT, 0);
}

TEST(gates)
{
    /* Through a task gate in the GDT and in the IDT, from ring 3. */
    struct code c = CODE("nop");
    new_task(c, false);
    struct run r = ring3(CODE("call fword ptr [ebx]"));
    r.bx = pointer(slot(0, gate(SEL_NEW, 0, A_TASK | A_DPL(3), 0)) | 3);
    go(&r);
    EXPECT(r.ip, c.end + 1);
    EXPECT(r.cs, SEL_CODE);
    EXPECT(T->link & 0xffff, SEL_TSS);
    EXPECT(tss.cs & 0xffff, SEL_UCODE);
    new_task(c, true);
    idt[VEC] = gate(SEL_NEW, 0, A_TASK | A_DPL(3), 0);
    r = ring3(CODE("int 0x60"));
    r.flags |= F_IF;
    go(&r);
    EXPECT(r.ip, c.end + 1);
    EXPECT(r.cs, SEL_UCODE);
    EXPECT(r.flags & (F_NT | F_IF), F_NT);
    EXPECT(tss.eip, r.start + 2);
    EXPECT(tss.eflags & F_IF, F_IF);
    EXPECT(r.hsp, T->esp0 - 20);
}

TEST(exception_with_code)
{
    struct code c = CODE("pop edx");
    new_task(c, false);
    idt[EV_GP] = gate(SEL_NEW, 0, A_TASK, 0);
    struct run r = ring0(CODE("mov ds, eax"));
    r.ax = SEL_LIMIT;
    go(&r);
    EXPECT(r.ip, c.end + 1);
    EXPECT(r.dx, SEL_LIMIT);
    EXPECT(tss.eip, r.start);
}

TEST(cr3)
{
    /* The new task has its own page directory: another frame in the window. */
    static u32 other[1024] __attribute__((aligned(4096)));
    struct code c = CODE("mov eax, [0x400000]; mov ecx, cr3");
    new_task(c, false);
    struct run r = switching(CODE("mov eax, [0x400000]; jmp fword ptr [ebx]"), SEL_NEW);
    paged(&r, PAGING_32, false);
    memcpy(other, page_dir, sizeof(other));
    other[1] = 0;
    other[WINDOW >> 22] = P_P | P_W | P_PS; /* 0 to 4 MiB again */
    map(PAGING_32, 0, 2, P_P | P_W);
    *(u32 *)frames[2] = 0x2222;
    *(u32 *)0x6000 = 0; /* keep low memory as it is: the word at 0 tells */
    u32 *low = (u32 *)0;
    __asm__("" : "+r"(low));
    *low = 0x3333;
    T->cr3 = (u32)other;
    go(&r);
    EXPECT(r.ip, c.end + 1);
    EXPECT(tss.eax, 0x2222);
    EXPECT(r.ax, 0x3333);
    EXPECT(r.cx, (u32)other);
}

TEST(selector_faults)
{
    struct {
        const char *what;
        u32 access, limit, rpl, cpl, vec;
    } cases[] = {
        {"busy", 0x8b, 0x67, 0, 0, EV_GP},     {"dpl", A_TSS32, 0x67, 3, 3, EV_GP},
        {"rpl", A_TSS32, 0x67, 1, 0, EV_GP},   {"not present", 0x09, 0x67, 0, 0, EV_NP},
        {"limit", A_TSS32, 0x66, 0, 0, EV_TS}, {"limit 16", A_TSS16, 0x2a, 0, 0, EV_TS},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context(cases[i].what, i);
        new_task(CODE("nop"), false);
        slot(6, segment((u32)T, cases[i].limit, cases[i].access, 0));
        struct run r =
            cases[i].cpl ? ring3(CODE("jmp fword ptr [ebx]")) : ring0(CODE("jmp fword ptr [ebx]"));
        r.bx = pointer(SEL_NEW | cases[i].rpl);
        go_fault(&r, cases[i].vec, SEL_NEW);
        EXPECT(BUSY(SEL_TSS), 1);
    }
    context("TSS in LDT", 0);
    if (under_qemu)
        return; /* #TS */
    struct run r = ring0(CODE("jmp fword ptr [ebx]"));
    ldt[1] = segment((u32)T, 0x67, A_TSS32, 0);
    use_ldt();
    r.bx = pointer(0xc); /* a TSS must be in the GDT */
    go_fault(&r, EV_GP, 0xc);
}

/* What is wrong inside the new TSS is a fault of the new task, at its first instruction. */
TEST(contents_faults)
{
    QEMU_DIFFERS("faults come before the new task has its stack");
    struct {
        const char *what;
        u32 *field, value, vec, err;
    } cases[] = {
        {"ldt not LDT", &T->ldt, SEL_DATA, EV_TS, SEL_DATA},
        {"ldt beyond", &T->ldt, SEL_LIMIT, EV_TS, SEL_LIMIT},
        {"ldt in LDT", &T->ldt, 0xc, EV_TS, 0xc},
        {"cs is data", &T->cs, SEL_UDATA, EV_TS, SEL_UDATA & ~3},
        {"cs dpl", &T->cs, SEL_CODE | 3, EV_TS, SEL_CODE},
        {"cs not present", &T->cs, SEL_T(0) | 3, EV_NP, SEL_T(0)},
        {"ss null", &T->ss, 0, EV_TS, 0},
        {"ss rpl", &T->ss, SEL_UDATA & ~3, EV_TS, SEL_UDATA & ~3},
        {"ss not present", &T->ss, SEL_T(1) | 3, EV_SS, SEL_T(1)},
        {"ds dpl", &T->ds, SEL_DATA | 3, EV_TS, SEL_DATA},
        {"es not present", &T->es, SEL_T(1) | 3, EV_NP, SEL_T(1)},
        {"gs beyond", &T->gs, SEL_LIMIT | 3, EV_TS, SEL_LIMIT},
    };
    flat(0, 0x1a | A_DPL(3));
    flat(1, 0x13 | A_DPL(3));
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        context(cases[i].what, i);
        struct code c = CODE("nop");
        new_task(c, true);
        *cases[i].field = cases[i].value;
        struct run r = switching(CODE("jmp fword ptr [ebx]"), SEL_NEW);
        go(&r);
        EXPECT(r.vec, cases[i].vec);
        EXPECT(r.err, cases[i].err);
        EXPECT(r.ip, c.start);
        EXPECT(r.hsp, T->esp0 - 20);
        EXPECT(BUSY(SEL_NEW), 1);
        EXPECT(tss.eip, r.start + 2);
    }
}

TEST(debug_trap)
{
    QEMU_DIFFERS("no T bit");
    struct code c = CODE("nop");
    u32 dr6;
    new_task(c, false);
    T->trap = 1;
    struct run r = switching(CODE("jmp fword ptr [ebx]"), SEL_NEW);
    go(&r);
    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    EXPECT(r.vec, EV_DB);
    EXPECT(r.ip, c.start);
    EXPECT(dr6 & 0xe00f, 0x8000);
}

TEST(return_faults)
{
    /* IRET with NT: the back link must be a busy TSS. */
    new_task(CODE("nop"), false);
    struct run r = ring0(CODE("iret"));
    r.flags |= F_NT;
    tss.link = SEL_NEW; /* not busy */
    go_fault(&r, EV_TS, SEL_NEW);
    r = ring0(CODE("iret"));
    r.flags |= F_NT;
    tss.link = SEL_DATA;
    go_fault(&r, EV_TS, SEL_DATA);
    r = ring0(CODE("iret"));
    r.flags |= F_NT;
    tss.link = 0xc;
    go_fault(&r, EV_TS, 0xc);
}

TEST(tss_16)
{
    struct code c = low_copy(CODE("mov esi, esp"));
    first_task();
    memset(T16, 0, sizeof(*T16));
    T16->ip = (u16)c.start;
    T16->cs = SEL_CODE;
    T16->ss = T16->ds = T16->es = SEL_DATA;
    T16->sp = 0x9f00;
    T16->flags = F_CF | 2;
    T16->ax = 0xa0a0;
    T16->di = 0xd0d0;
    slot(6, segment((u32)T16, 0x2b, A_TSS16, 0));
    struct run r = switching(CODE("call fword ptr [ebx]"), SEL_NEW);
    r.ss = SEL_DATA;
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, c.end + 1);
    EXPECT(r.ax & 0xffff, 0xa0a0);
    EXPECT(r.di & 0xffff, 0xd0d0);
    EXPECT(r.flags & 0xffff, F_NT | F_CF | 2);
    EXPECT(r.fs, 0); /* a 16-bit TSS has no FS and GS */
    EXPECT(T16->link, SEL_TSS);
    EXPECT(gdt[SEL_NEW / 8] >> 40 & 0xff, 0x83);
    EXPECT(tss.eip, r.start + 2);
    EXPECT(tss.eax, 0x1111);
}

TEST(from_tss_16)
{
    /* The outgoing state into a 16-bit TSS: words. */
    struct code c = CODE("nop");
    new_task(c, false);
    memset(T16, 0x5a, sizeof(*T16) + 4);
    slot(5, segment((u32)T16, 0x2b, A_TSS16, 0));
    struct run r = switching(CODE("ltr dx; jmp fword ptr [ebx]"), SEL_NEW);
    r.dx = SEL_T(5);
    r.ax = 0x12345678;
    u64 sp = r.sp;
    go(&r);
    EXPECT(r.ip, c.end + 1);
    EXPECT(T16->ax, 0x5678);
    EXPECT(T16->ip, (r.start + 5) & 0xffff);
    EXPECT(T16->sp, sp & 0xffff);
    EXPECT(T16->cs, SEL_CODE);
    EXPECT(T16->ds, SEL_DATA);
    EXPECT(T16->ldt, 0x5a5a); /* not saved */
    EXPECT(*(u16 *)(T16 + 1), 0x5a5a);
    EXPECT(BUSY(SEL_T(5)), 0);
}

TEST(to_v86)
{
    struct code c = low_copy(CODE16("mov ax, 0x4321"));
    new_task(c, false);
    T->eip = 0;
    T->eflags = F_VM | F_IOPL | 2;
    T->cs = 0x800;
    T->ss = T->ds = T->es = T->fs = T->gs = 0x900;
    T->esp = 0xf00;
    struct run r = switching(CODE("jmp fword ptr [ebx]"), SEL_NEW);
    go(&r);
    EXPECT(r.vec, EV_BP);
    EXPECT(r.cs, 0x800);
    EXPECT(r.ip, c.end + 1 - 0x8000);
    EXPECT(r.ax & 0xffff, 0x4321);
    EXPECT(r.gs, 0x900);
    EXPECT(r.flags & F_VM, F_VM);
}

TEST(long_mode)
{
    struct run r = compat3(CODE("jmp fword ptr [ebx]"));
    gdt[SEL_T(0) / 8] = segment((u32)&tss, 0x67, A_TSS32 | A_DPL(3), 0);
    gdt[SEL_T(1) / 8] = 0;
    r.bx = pointer(SEL_T(0) | 3);
    go_fault(&r, EV_GP, SEL_T(0));
}

TEST(page_fault)
{
    /* The new TSS is not mapped: the old task has the fault, and nothing has changed. */
    struct run r = ring0(CODE("jmp fword ptr [ebx]"));
    paged(&r, PAGING_32, false);
    slot(6, segment(WINDOW + 0x1000, 0x67, A_TSS32, 0));
    r.bx = pointer(SEL_NEW);
    go(&r);
    fault(&r, EV_PF, r.err & 2);
    EXPECT(r.cr2 >> 12, (WINDOW + 0x1000) >> 12);
    EXPECT(BUSY(SEL_TSS), 1);
    EXPECT(BUSY(SEL_NEW), 0);
}

TEST(debug_enables)
{
    QEMU_DIFFERS("local breakpoints stay");
    /* A task switch drops the local breakpoints, and keeps the global ones. */
    struct code c = CODE("mov eax, dr7");
    new_task(c, false);
    struct run r = switching(CODE("mov dr7, ecx; jmp fword ptr [ebx]"), SEL_NEW);
    r.cx = 0x40d; /* L0, L1, G1 */
    go(&r);
    EXPECT(r.ip, c.end + 1);
    EXPECT((u32)r.ax, 0x408);
}

TEST(chain)
{
    /* A task that calls a task that is interrupted; each IRET goes back one step. */
    struct tss32 *second = (struct tss32 *)frames[8];
    new_task(CODE("inc eax; call fword ptr [ebx]; inc eax; iret"), false);
    memcpy(second, T, 0x68);
    second->eip = CODE("int 0x60; add eax, 0x100; iret").start;
    second->esp = (u32)frames[9];
    T->ebx = (u32)frames[2];
    *(u32 *)(frames[2] + 4) = slot(5, segment((u32)second, 0x67, A_TSS32, 0));
    idt[VEC] = gate(SEL_CODE, CODE("add eax, 0x10000; iret").start, A_INT32, 0);
    struct run r = switching(CODE("call fword ptr [ebx]"), SEL_NEW);
    go_done(&r);
    EXPECT(T->eax, 0xaaaa + 2);
    EXPECT(second->eax, 0x1aaaa + 0x100);
    EXPECT(second->link & 0xffff, SEL_NEW);
    EXPECT(r.flags & F_NT, 0);
    EXPECT(BUSY(SEL_NEW) + BUSY(SEL_T(5)), 0);
}
