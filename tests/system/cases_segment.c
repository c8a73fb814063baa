/*
 * Segment registers in protected mode: what loads accept, what they change, and the limits that
 * accesses meet (SDM vol. 3, ch. 5).
 */
#include "run.h"

#define GROUP "segment"

TEST(contexts)
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

/* One load of DS (or ES, FS, GS) and of SS for each descriptor: what happens at CPL and RPL. */
struct load {
    const char *what;
    u64 access; /* of the descriptor */
    u8 cpl, rpl;
    u8 data, stack; /* vector for DS and for SS; 0: loads */
};

static const struct load loads[] = {
    {"data", A_DATA, 0, 0, 0, 0},
    {"data rpl 3", A_DATA, 0, 3, EV_GP, EV_GP},
    {"data dpl 3", A_DATA | A_DPL(3), 0, 0, 0, EV_GP},
    {"data dpl 3 rpl 3", A_DATA | A_DPL(3), 0, 3, 0, EV_GP},
    {"read-only data", 0x91, 0, 0, 0, EV_GP},
    {"expand-down data", 0x97, 0, 0, 0, 0},
    {"execute-only code", 0x99, 0, 0, EV_GP, EV_GP},
    {"readable code", A_CODE, 0, 0, 0, EV_GP},
    {"readable code rpl 3", A_CODE, 0, 3, EV_GP, EV_GP},
    {"readable conforming code rpl 3", A_CONF, 0, 3, 0, EV_GP},
    {"execute-only conforming code", 0x9d, 0, 0, EV_GP, EV_GP},
    {"not present", 0x13, 0, 0, EV_NP, EV_SS},
    {"not present, rpl 3", 0x13, 0, 3, EV_GP, EV_GP},
    {"TSS", A_TSS32, 0, 0, EV_GP, EV_GP},
    {"LDT", A_LDT, 0, 0, EV_GP, EV_GP},
    {"call gate", A_CALL32, 0, 0, EV_GP, EV_GP},
    {"type 0", 0x80, 0, 0, EV_GP, EV_GP},
    {"user: data", A_DATA | A_DPL(3), 3, 3, 0, 0},
    {"user: data rpl 0", A_DATA | A_DPL(3), 3, 0, 0, EV_GP},
    {"user: kernel data", A_DATA, 3, 3, EV_GP, EV_GP},
    {"user: kernel data rpl 0", A_DATA, 3, 0, EV_GP, EV_GP},
    {"user: kernel conforming", A_CONF, 3, 3, 0, EV_GP},
    {"user: kernel code", A_CODE, 3, 3, EV_GP, EV_GP},
    {"user: not present", 0x13 | A_DPL(3), 3, 3, EV_NP, EV_SS},
};

static void check_load(const struct load *l, u32 sel, struct code ds, struct code ss)
{
    struct run r = l->cpl ? ring3(ds) : ring0(ds);
    u32 was = r.ds;
    r.ax = sel;
    go(&r);
    if (l->data) {
        fault(&r, l->data, sel & ~3u);
        EXPECT(r.ds, was);
    } else {
        done(&r);
        EXPECT(r.ds, sel);
    }
    r = l->cpl ? ring3(ss) : ring0(ss);
    was = r.ss;
    r.ax = sel;
    go(&r);
    if (l->stack) {
        fault(&r, l->stack, sel & ~3u);
        EXPECT(r.ss, was);
    } else {
        done(&r);
        EXPECT(r.ss, sel);
    }
}

TEST(load_checks)
{
    for (unsigned i = 0; i < ARRAY_SIZE(loads); i++) {
        const struct load *l = &loads[i];
        context(l->what, i);
        /* An expand-down stack segment with limit 0 reaches from 1 up. */
        u32 limit = (l->access & 0x1e) == 0x16 ? 0 : 0xfffff;
        u64 d = segment(0, limit, (u32)l->access, FL_G | FL_DB);
        check_load(l, slot(0, d) | l->rpl, CODE("mov ds, eax"), CODE("mov ss, eax"));
        ldt[3] = d;
        use_ldt();
        check_load(l, 0x1c | l->rpl, CODE("mov ds, eax"), CODE("mov ss, eax"));
    }
}

TEST(load_other_registers)
{
    struct run r = ring0(CODE("mov es, eax; mov fs, ecx; mov gs, edx"));
    r.ax = flat(0, A_DATA);
    r.cx = flat(1, A_CODE);
    r.dx = flat(2, A_DATA | A_DPL(3)) | 3;
    go_done(&r);
    EXPECT(r.es, SEL_T(0));
    EXPECT(r.fs, SEL_T(1));
    EXPECT(r.gs, SEL_T(2) | 3);
    r = ring0(CODE("mov es, eax; mov gs, edx"));
    r.ax = SEL_T(1);
    r.dx = flat(2, 0x13);
    go(&r);
    fault_at(&r, EV_NP, SEL_T(2), 2);
    EXPECT(r.es, SEL_T(1));
    EXPECT(r.gs, SEL_DATA);
}

TEST(load_null)
{
    QEMU_DIFFERS("null segments are readable");
    for (u32 sel = 0; sel < 4; sel++) {
        context("selector", sel);
        struct run r = ring0(CODE("mov ds, eax; mov eax, [ebx]"));
        r.ax = sel;
        go(&r);
        fault_at(&r, EV_GP, 0, 2);
        EXPECT(r.ds, sel);
        r = ring0(CODE("mov ss, eax"));
        r.ax = sel;
        go_fault(&r, EV_GP, 0);
        EXPECT(r.ss, SEL_DATA);
        r = ring3(CODE("mov ss, eax"));
        r.ax = sel;
        go_fault(&r, EV_GP, 0);
    }
    struct run r = ring0(CODE("mov es, eax; mov byte ptr es:[ebx], 1"));
    r.bx = (u32)frames;
    go(&r);
    fault_at(&r, EV_GP, 0, 2);
}

TEST(load_beyond_limit)
{
    struct run r = ring0(CODE("mov ds, eax"));
    r.ax = SEL_LIMIT | 1;
    go_fault(&r, EV_GP, SEL_LIMIT);
    r = ring0(CODE("mov ss, eax"));
    r.ax = 0xfff8;
    go_fault(&r, EV_GP, 0xfff8);
    r = ring0(CODE("mov ds, eax")); /* no LDT */
    r.ax = 0x04;
    go_fault(&r, EV_GP, 0x04);
    use_ldt();
    r = ring0(CODE("mov ds, eax"));
    r.ax = sizeof(ldt) | 4;
    go_fault(&r, EV_GP, sizeof(ldt) | 4);
    /* The limit must hold all 8 bytes. */
    ldt[2] = segment(0, 0xfffff, A_DATA, FL_G | FL_DB);
    gdt[SEL_LDT / 8] = segment((u32)ldt, 0x16, A_LDT, 0);
    use_ldt();
    r = ring0(CODE("mov ds, eax"));
    r.ax = 0x14;
    go_fault(&r, EV_GP, 0x14);
}

TEST(mov_to_cs)
{
    struct run r = ring0(CODE(".byte 0x8e, 0xc8"));
    r.ax = SEL_CODE;
    go_fault(&r, EV_UD, NO_ERR);
}

TEST(accessed_bit)
{
    u32 sel = flat(0, 0x92);
    struct run r = ring0(CODE("mov ds, eax"));
    r.ax = sel;
    go_done(&r);
    EXPECT(gdt[sel / 8] >> 40 & 0xff, 0x93);
    /* A fault sets nothing. */
    sel = flat(1, 0x12);
    r = ring0(CODE("mov ds, eax"));
    r.ax = sel;
    go_fault(&r, EV_NP, sel);
    EXPECT(gdt[sel / 8] >> 40 & 0xff, 0x12);
    sel = flat(2, 0x98);
    r = ring0(CODE("mov ds, eax"));
    r.ax = sel;
    go_fault(&r, EV_GP, sel);
    EXPECT(gdt[sel / 8] >> 40 & 0xff, 0x98);
}

TEST(les_lss)
{
    u32 *p = (u32 *)frames[0];
    p[0] = 0xcafe;
    p[1] = SEL_UDATA;
    struct run r = ring0(CODE("les ecx, [ebx]"));
    r.bx = (u32)p;
    go_done(&r);
    EXPECT(r.es, SEL_UDATA);
    EXPECT(r.cx, 0xcafe);
    p[1] = SEL_LIMIT;
    r = ring0(CODE("lfs ecx, [ebx]"));
    r.bx = (u32)p;
    r.cx = 1;
    go_fault(&r, EV_GP, SEL_LIMIT);
    EXPECT(r.cx, 1);
    r = ring0(CODE("lss esp, [ebx]"));
    r.bx = (u32)p;
    p[1] = SEL_UDATA;
    u64 sp = r.sp;
    go_fault(&r, EV_GP, SEL_UDATA & ~3);
    EXPECT(r.sp, sp);
    r = ring0(CODE(".byte 0xc5, 0xc8")); /* LDS with a register */
    go_fault(&r, EV_UD, NO_ERR);
}

TEST(push_pop_segment)
{
    struct run r = ring0(CODE("push 0x10; push ebx; pop ds; pop es"));
    r.bx = SEL_UDATA;
    u64 sp = r.sp;
    go_done(&r);
    EXPECT(r.ds, SEL_UDATA);
    EXPECT(r.sp, sp);
    r = ring0(CODE("push ebx; pop es"));
    r.bx = SEL_LIMIT;
    sp = r.sp;
    go(&r);
    fault_at(&r, EV_GP, SEL_LIMIT, 1);
    EXPECT(r.sp, sp - 4);
    r = ring0(CODE("push -1; push fs; pop eax; pop ecx"));
    go_done(&r);
    EXPECT(r.ax & 0xffff, SEL_DATA);
    EXPECT(r.cx, 0xffffffff);
    r = ring0(CODE("mov eax, -1; mov eax, ds; mov ecx, -1; mov cx, ds"));
    go_done(&r);
    EXPECT(r.ax, SEL_DATA);
    EXPECT(r.cx, 0xffff0000 | SEL_DATA);
}

/* An access of 4 bytes at an offset: does the segment let it through? */
struct reach {
    const char *what;
    u32 limit, access, flags, offset;
    bool ok;
};

static const struct reach reaches[] = {
    {"last dword", 0xfff, A_DATA, FL_DB, 0xffc, true},
    {"one byte out", 0xfff, A_DATA, FL_DB, 0xffd, false},
    {"beyond", 0xfff, A_DATA, FL_DB, 0x1000, false},
    {"negative", 0xfff, A_DATA, FL_DB, 0xfffffffc, false},
    {"granular last", 0, A_DATA, FL_DB | FL_G, 0xffc, true},
    {"granular out", 0, A_DATA, FL_DB | FL_G, 0xffd, false},
    {"wraps", 0xffffe, A_DATA, FL_DB | FL_G, 0xfffffffe, false},
    {"expand-down inside", 0xfff, 0x97, FL_DB, 0x1000, true},
    {"expand-down at limit", 0xfff, 0x97, FL_DB, 0xfff, false},
    {"expand-down below", 0xfff, 0x97, FL_DB, 0, false},
    {"expand-down 16 last", 0xfff, 0x97, 0, 0xfffc, true},
    {"expand-down 16 out", 0xfff, 0x97, 0, 0xfffd, false},
    {"expand-down 16 far", 0xfff, 0x97, 0, 0x10000, false},
};

#define FLAT_USER segment(0, 0xfffff, A_DATA | A_DPL(3), FL_G | FL_DB)

/* Loads of a flat segment into a register that is flat already, for an engine that has a short cut
 * for them: the descriptor may have changed in between. */
static struct run reload(struct code c, u32 sel)
{
    struct run r = ring0(c);
    r.ax = sel;
    r.bx = (u32)&gdt[sel / 8];
    r.cx = (u32)frames[0];
    return r;
}

TEST(load_flat_again)
{
    QEMU_DIFFERS("null selectors can be used");
    u32 sel = slot(0, FLAT_USER) | 3, *p = (u32 *)frames[0];
    p[0] = 1;
    p[2] = 2;
    struct run r = reload(CODE("mov es, eax; mov es, eax; mov byte ptr [ebx+2], 8; mov es, eax;"
                               "mov esi, es:[ecx]"),
                          sel);
    go_done(&r);
    EXPECT(r.si, 2);
    gdt[sel / 8] = FLAT_USER;
    r = reload(CODE("mov es, eax; mov es, eax; mov byte ptr [ebx+5], 0xf2; push eax; pop es"), sel);
    go_done(&r);
    EXPECT(gdt[sel / 8] >> 40 & 0xff, 0xf3);
    r = reload(CODE("mov ds, eax; mov ds, eax; mov byte ptr [ebx+5], 0x73; mov ds, eax"), sel);
    go(&r);
    fault_at(&r, EV_NP, sel & ~3u, 8);
    EXPECT(r.ds, sel);
    gdt[sel / 8] = FLAT_USER;
    r = reload(CODE("mov es, eax; and eax, 3; mov es, eax; mov esi, es:[ecx]"), sel);
    go(&r);
    fault_at(&r, EV_GP, 0, 7);
    EXPECT(r.es, 3);
    r = reload(CODE("mov es, eax; mov eax, edx; push eax; pop es"), sel);
    r.dx = SEL_LIMIT | 3;
    u64 sp = r.sp;
    go(&r);
    fault_at(&r, EV_GP, SEL_LIMIT, 5);
    EXPECT(r.sp, sp - 4);
    EXPECT(r.es, sel);
    r = reload(CODE("mov es, eax; or eax, 4; mov es, eax"), sel); /* no LDT */
    go(&r);
    fault_at(&r, EV_GP, (sel | 4) & ~3u, 5);
    r = reload(CODE("mov es, eax; and eax, -4; push eax; pop es; pushw es; popw es"), sel);
    sp = r.sp;
    go_done(&r);
    EXPECT(r.es, sel & ~3u);
    EXPECT(r.sp, sp);
}

TEST(limits)
{
    QEMU_DIFFERS("no segment limits");
    for (unsigned i = 0; i < ARRAY_SIZE(reaches); i++) {
        const struct reach *e = &reaches[i];
        context(e->what, i);
        u32 sel =
            slot(0, segment((u32)frames - (e->ok ? e->offset : 0), e->limit, e->access, e->flags));
        struct run r = ring0(CODE("mov eax, es:[ebx]"));
        r.es = sel;
        r.bx = e->offset;
        *(u32 *)frames = 0x11223344;
        go(&r);
        if (!e->ok) {
            fault(&r, EV_GP, 0);
            r = ring0(CODE("mov es:[ebx], eax"));
            r.es = sel;
            r.bx = e->offset;
            go_fault(&r, EV_GP, 0);
        } else {
            done(&r);
            EXPECT(r.ax, 0x11223344);
        }
    }
}

TEST(stack_limits)
{
    QEMU_DIFFERS("no segment limits");
    /* A user stack segment of 4 KiB: accesses through SS, EBP and ESP fault with #SS. */
    u32 sel = slot(0, segment((u32)frames, 0xfff, A_DATA | A_DPL(3), FL_DB)) | 3;
    struct run r = ring3(CODE("mov eax, [ebp+0xffd]"));
    r.ss = sel;
    go_fault(&r, EV_SS, 0);
    r = ring3(CODE("push eax"));
    r.ss = sel;
    r.sp = 0x1002;
    go_fault(&r, EV_SS, 0);
    EXPECT(r.sp, 0x1002);
    r = ring3(CODE("pop eax"));
    r.ss = sel;
    r.sp = 0xffe;
    go_fault(&r, EV_SS, 0);
    EXPECT(r.sp, 0xffe);
    r = ring3(CODE("mov eax, ss:[ebx]"));
    r.ss = sel;
    r.bx = 0x1000;
    go_fault(&r, EV_SS, 0);
    r = ring3(CODE("call 1f; 1:"));
    r.ss = sel;
    r.sp = 0;
    go_fault(&r, EV_SS, 0);
    r = ring3(CODE("push eax"));
    r.ss = sel;
    r.sp = 0x1000;
    r.ax = 0x99;
    go_done(&r);
    EXPECT(*(u32 *)(frames[0] + 0xffc), 0x99);
}

TEST(small_stack)
{
    /* With B = 0 only SP moves, and it wraps. */
    u32 sel = slot(0, segment((u32)frames, 0xffff, A_DATA | A_DPL(3), 0)) | 3;
    struct run r = ring3(CODE("mov esp, ecx; push eax"));
    r.ss = sel;
    r.cx = 0x55550004;
    r.ax = 0xabcd;
    go_done(&r);
    EXPECT(r.sp, 0x55550000);
    EXPECT(*(u32 *)frames, 0xabcd);
    r = ring3(CODE("mov esp, ecx; push eax"));
    r.ss = sel;
    r.cx = 0x55550000;
    go_done(&r);
    EXPECT(r.sp, 0x5555fffc);
    r = ring3(CODE("pop eax"));
    r.ss = sel;
    r.sp = 0xfffc;
    go_done(&r);
    EXPECT(r.sp & 0xffff, 0);
    EXPECT(r.sp >> 16, monitor_esp >> 16); /* IRET to a small stack loads SP only */
    if (under_qemu)
        return; /* no segment limits */
    r = ring3(CODE("push ax"));
    r.ss = sel;
    r.sp = 0x1;
    go_fault(&r, EV_SS, 0); /* 0xffff: the second byte is beyond the limit */
}

TEST(code_limits)
{
    QEMU_DIFFERS("no segment limits");
    /* A code segment that ends in the middle of the page: running off it is #GP(0). */
    struct code c = CODE("nop; nop; nop; nop");
    u32 sel = slot(0, segment(c.start, 1, A_CODE, FL_DB));
    struct run r = ring0(c);
    r.cs = sel;
    r.ip = 0;
    go(&r);
    EXPECT(r.vec, EV_GP);
    EXPECT(r.err, 0);
    EXPECT(r.ip, 2);
    c = CODE("jmp 1f; nop; nop; nop; 1:");
    sel = slot(0, segment(c.start, 2, A_CODE, FL_DB));
    r = ring0(c);
    r.cs = sel;
    r.ip = 0;
    go(&r);
    EXPECT(r.vec, EV_GP);
    EXPECT(r.ip, 0); /* the jump faults */
    c = CODE("mov eax, 0x12345678");
    sel = slot(0, segment(c.start, 3, A_CODE, FL_DB));
    r = ring0(c);
    r.cs = sel;
    r.ip = 0;
    go(&r);
    EXPECT(r.vec, EV_GP);
    EXPECT(r.ip, 0);
    EXPECT(r.ax, 0);
}

TEST(access_types)
{
    QEMU_DIFFERS("no segment types");
    struct run r = ring0(CODE("mov es:[ebx], eax"));
    r.es = flat(0, 0x91);
    r.bx = (u32)frames;
    go_fault(&r, EV_GP, 0);
    r = ring0(CODE("mov cs:[ebx], eax"));
    r.bx = (u32)frames;
    go_fault(&r, EV_GP, 0);
    r = ring0(CODE("mov eax, cs:[ebx]"));
    r.bx = (u32)frames;
    go_done(&r);
    r = ring0(CODE("mov eax, cs:[ebx]")); /* execute-only CS */
    r.cs = flat(1, 0x99);
    r.bx = (u32)frames;
    go_fault(&r, EV_GP, 0);
}

TEST(long_mode_null_ss)
{
    QEMU_DIFFERS("CPL 3 may load a null SS");
    struct run r = long0(CODE64("mov ss, eax"));
    go_done(&r);
    EXPECT(r.ss, 0);
    r = long0(CODE64("mov ss, eax"));
    r.ax = 3; /* RPL is not CPL */
    go_fault(&r, EV_GP, 0);
    r = long3(CODE64("mov ss, eax"));
    r.ax = 3;
    go_fault(&r, EV_GP, 0);
    r = compat3(CODE("mov ss, eax"));
    r.ax = 3;
    go_fault(&r, EV_GP, 0);
}

TEST(long_mode_loads)
{
    QEMU_DIFFERS("no segment limits");
    struct run r = long0(CODE64("mov ds, eax; mov rax, [rbx]"));
    r.bx = (u32)frames; /* no limits, no null check in 64-bit code */
    *(u64 *)frames = 0x1122334455667788;
    go_done(&r);
    EXPECT(r.ax, 0x1122334455667788);
    EXPECT(r.ds, 0);
    r = long0(CODE64("mov ds, eax"));
    r.ax = flat(0, 0x99);
    go_fault(&r, EV_GP, SEL_T(0));
    r = long0(CODE64("mov es, eax"));
    r.ax = flat(0, 0x13);
    go_fault(&r, EV_NP, SEL_T(0));
    r = long0(CODE64("mov fs, eax; mov rax, fs:[8]")); /* bases of FS and GS count */
    r.ax = slot(0, segment((u32)frames - 8, 0, A_DATA, FL_DB));
    go_done(&r);
    EXPECT(r.ax, 0x1122334455667788);
    r = compat3(CODE("mov eax, es:[ebx]"));
    r.es = slot(0, segment((u32)frames, 0xfff, A_DATA | A_DPL(3), FL_DB)) | 3;
    r.bx = 0xffd;
    go_fault(&r, EV_GP, 0);
    r = long0(CODE64(".byte 0x1e")); /* PUSH DS */
    go_fault(&r, EV_UD, NO_ERR);
    r = long0(CODE64(".byte 0xc4, 0x03"));
    go_fault(&r, EV_UD, NO_ERR); /* LES is a VEX prefix; not enabled */
}

TEST(real_mode_limits)
{
    QEMU_DIFFERS("no segment limits");
    struct run r = real(CODE16("mov ax, [bx]"));
    r.bx = 0xffff;
    go_real(&r);
    EXPECT(r.vec, EV_GP);
    EXPECT(r.ip, 0);
    r = real(CODE16("mov eax, [bp]"));
    r.bp = 0xfffe;
    go_real(&r);
    EXPECT(r.vec, EV_SS);
    r = real(CODE16("mov al, [ebx]"));
    r.bx = 0x10000;
    go_real(&r);
    EXPECT(r.vec, EV_GP);
}

TEST(unreal_mode)
{
    /* DS gets a 4 GiB limit in protected mode; real-mode loads keep it, and set the base. */
    struct run r =
        real(CODE16("mov ecx, cr0; inc cx; mov cr0, ecx; mov dx, 0x10; mov ds, dx; dec cx;"
                    "mov cr0, ecx; mov eax, [ebx]; mov dx, 0x1000; mov ds, dx;"
                    "mov edi, [ebx - 0x10000]"));
    r.bx = (u32)frames;
    *(u32 *)frames = 0x600df00d;
    go_real(&r);
    done(&r);
    EXPECT(r.ax, 0x600df00d);
    EXPECT(r.di, 0x600df00d);
    EXPECT(r.ds, 0x1000);
}

TEST(v86_segments)
{
    QEMU_DIFFERS("no segment limits");
    struct run r = v86(CODE16("mov ax, 0x1234; mov es, ax; mov ax, es; mov al, [bx]"));
    r.bx = 0xffff;
    go_done(&r);
    EXPECT(r.es, 0x1234);
    r = v86(CODE16("mov eax, [bx]"));
    r.bx = 0xfffd;
    go_fault(&r, EV_GP, 0);
    r = v86(CODE16("push eax"));
    r.sp = 2;
    go_fault(&r, EV_SS, 0);
    EXPECT(r.sp, 2);
}

TEST(string_meets_limit)
{
    QEMU_DIFFERS("no segment limits");
    u32 sel = slot(0, segment((u32)frames, 0xf, A_DATA, FL_DB));
    struct run r = ring0(CODE("rep movsb"));
    r.es = sel;
    r.si = (u32)frames[1];
    r.di = 8;
    r.cx = 16;
    memset(frames[1], 0x66, 16);
    go_fault(&r, EV_GP, 0);
    EXPECT(r.di, 16);
    EXPECT(r.cx, 8);
    EXPECT(r.si, (u32)frames[1] + 8);
    EXPECT(frames[0][15], 0x66);
    r = ring0(CODE("rep lodsd"));
    r.ds = sel;
    r.si = 6;
    r.cx = 4;
    go_fault(&r, EV_GP, 0);
    EXPECT(r.si, 14);
    EXPECT(r.cx, 2);
}

TEST(string_wraps)
{
    /* 16-bit addresses wrap at 64 KiB; the upper halves of the registers stay. */
    u8 *low = (u8 *)0x9000;
    struct run r = v86(CODE16("rep stosb"));
    r.di = 0x5555fffe;
    r.cx = 0x66660004;
    r.ax = 0xab;
    low[0] = low[1] = low[2] = 0;
    go_done(&r);
    EXPECT(r.di, 0x55550002);
    EXPECT(r.cx, 0x66660000);
    EXPECT(low[0] | low[1] << 8 | low[2] << 16, 0xabab);
}

TEST(real_mode_end_of_segment)
{
    QEMU_DIFFERS("no segment limits");
    u8 *end = (u8 *)0x17ffd; /* CS 0x800, IP 0xfffd */
    end[0] = end[1] = end[2] = 0x90;
    struct run r = real(CODE16("nop"));
    r.ip = 0xfffd;
    go_real(&r);
    EXPECT(r.vec, EV_GP);
    r = v86(CODE16("nop"));
    r.ip = 0xfffd;
    go(&r);
    EXPECT(r.vec, EV_GP);
    EXPECT(r.ip, 0x10000);
}

TEST(a20)
{
    /* With the gate shut, bit 20 of physical addresses is 0. */
    struct run r =
        real(CODE16("mov dword ptr fs:[0x510], 0x11111111; mov dword ptr es:[0x500], 0x22222222;"
                    "in al, 0x92; and al, 0xfd; out 0x92, al; mov ebx, fs:[0x510];"
                    "or al, 2; out 0x92, al; mov ecx, fs:[0x510]"));
    static u32 *const high = (u32 *)0x100500;
    u32 saved = *high;
    r.fs = 0xffff;
    r.es = 0;
    go_real(&r);
    done(&r);
    *high = saved;
    EXPECT(r.bx, 0x22222222);
    EXPECT(r.cx, 0x11111111);
}
