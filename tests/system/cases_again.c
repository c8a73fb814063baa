/*
 * INT, IRET and page faults that happen again and again, so that an engine may have found a short
 * way for them, until a handler changes what they depend on: then the next one must see it.
 */
#include "run.h"

#define GROUP      "again"
#define VEC        0x60
#define IDT_ERR(n) ((n)*8 + 2)
#define TIMES      60
#define CHANGE     40
#define COUNT      (*(volatile u32 *)frames[1])

/* EBX: the count; at CHANGE, EBP goes to [EDI]. */
#define COUNT_AND_CHANGE                                                                           \
    "inc dword ptr [ebx]\n cmp dword ptr [ebx], 40\n jne 3f\n mov [edi], ebp\n 3: "

static u32 hi(u64 descriptor)
{
    return (u32)(descriptor >> 32);
}

static void prepare(struct run *r, volatile void *what, u32 value)
{
    COUNT = 0;
    r->cx = TIMES;
    r->bx = (u32)frames[1];
    r->di = (u32)what;
    r->bp = value;
}

/* From user code to a handler at CPL 1. */
TEST(int_from_user)
{
    const u32 code = A_CODE | A_DPL(1), data = A_DATA | A_DPL(1);
    struct code handler = CODE(COUNT_AND_CHANGE "iretd");
    u64 good = gate(SEL_T(0) | 1, handler.start, A_INT32 | A_DPL(3), 0);
    struct {
        const char *what;
        volatile void *at;
        u32 value, vec, err;
    } cases[] = {
        {"nothing", &frames[2], 0, EV_BP, NO_ERR},
        {"gate dpl", (u32 *)&idt[VEC] + 1, hi(good) & ~0x6000u, EV_GP, IDT_ERR(VEC)},
        {"gate present", (u32 *)&idt[VEC] + 1, hi(good) & ~0x8000u, EV_NP, IDT_ERR(VEC)},
        {"gate selector", &idt[VEC], SEL_DATA << 16, EV_GP, SEL_DATA},
        {"code present", (u32 *)&gdt[SEL_T(0) / 8] + 1, 0xcf0000 | (code & ~0x80u) << 8, EV_NP,
         SEL_T(0)},
        {"code type", (u32 *)&gdt[SEL_T(0) / 8] + 1, 0xcf0000 | data << 8, EV_GP, SEL_T(0)},
        {"stack null", &tss.ss1, 0, EV_TS, 0},
        {"stack rpl", &tss.ss1, SEL_T(1), EV_TS, SEL_T(1)},
        {"stack dpl", (u32 *)&gdt[SEL_T(1) / 8] + 1, 0xcf0000 | A_DATA << 8, EV_TS, SEL_T(1)},
        {"stack type", (u32 *)&gdt[SEL_T(1) / 8] + 1, 0xcf0000 | (data & ~2u) << 8, EV_TS,
         SEL_T(1)},
        {"stack present", (u32 *)&gdt[SEL_T(1) / 8] + 1, 0xcf0000 | (data & ~0x80u) << 8, EV_SS,
         SEL_T(1)},
        {"stack limit", (u32 *)&gdt[SEL_T(1) / 8] + 1, 0x400000 | data << 8, EV_SS, SEL_T(1)},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        if (under_qemu && cases[i].vec == EV_SS)
            continue; /* #TS there */
        context(cases[i].what, i);
        flat(0, code);
        flat(1, data);
        slot(1, segment(0, i == ARRAY_SIZE(cases) - 1 ? 0xf0010 : 0xfffff, data, FL_DB | FL_G));
        tss.ss1 = SEL_T(1) | 1;
        tss.esp1 = (u32)frames[4];
        idt[VEC] = good;
        struct run r = ring3(CODE("1: int 0x60\n dec ecx\n jnz 1b"));
        prepare(&r, cases[i].at, cases[i].value);
        u64 sp = r.sp;
        if (cases[i].vec == EV_BP)
            go_done(&r);
        else
            go_fault(&r, cases[i].vec, cases[i].err);
        EXPECT(r.sp, sp);
        EXPECT(r.cx, cases[i].vec == EV_BP ? 0 : TIMES - CHANGE);
        EXPECT(COUNT, cases[i].vec == EV_BP ? TIMES : CHANGE);
    }
}

/* The handler's frame then names a CS that it can't return to. */
TEST(iret_to_user)
{
    struct code handler = CODE(COUNT_AND_CHANGE "iretd");
    const u32 bad[][3] = {{SEL_DATA | 3, EV_GP, SEL_DATA},
                          {SEL_T(0) | 3, EV_NP, SEL_T(0)},
                          {SEL_CODE | 3, EV_GP, SEL_CODE},
                          {0, EV_GP, 0}};
    flat(0, (A_CODE & ~0x80u) | A_DPL(3));
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        context("selector", bad[i][0]);
        idt[VEC] = gate(SEL_CODE, handler.start, A_INT32 | A_DPL(3), 0);
        struct run r = ring3(CODE("1: int 0x60\n dec ecx\n jnz 1b"));
        prepare(&r, (u32 *)tss.esp0 - 4, bad[i][0]);
        go(&r);
        EXPECT(r.vec, bad[i][1]);
        EXPECT(r.err, bad[i][2]);
        EXPECT(r.ip, handler.end - 1);
        EXPECT(r.hsp, tss.esp0 - 20 - 12); /* within the handler, at CPL 0 */
        EXPECT(r.cx, TIMES - CHANGE + 1);
        EXPECT(COUNT, CHANGE);
    }
}

/* The handler skips the instruction; then its gate is not there any more. */
TEST(page_fault_from_user)
{
    for (enum paging kind = 0; kind < PAGINGS; kind++) {
        bool wide = kind == PAGING_64;
        struct code handler =
            wide ? CODE64("add rsp, 8\n add qword ptr [rsp], 3\n" COUNT_AND_CHANGE "iretq")
                 : CODE("add esp, 4\n add dword ptr [esp], 2\n" COUNT_AND_CHANGE "iretd");
        volatile u64 *entry = wide ? &idt64[2 * EV_PF] : &idt[EV_PF];
        const u64 kept = *entry;
        context("paging", kind);
        if (wide && under_qemu) /* which raises #NP, not #DF, for that gate in long mode */
            continue;
        for (unsigned last = 0; last < 2; last++) {
            map(kind, 0, 0, P_W | P_U);
            *entry = gate(wide ? SEL_CODE64 : SEL_CODE, handler.start, A_INT32, 0);
            struct run r = paged_run(kind, true, BOTH("1: mov eax, [esi]\n dec ecx\n jnz 1b"));
            prepare(&r, (u32 *)entry + 1, hi(*entry) & ~0x8000u);
            r.si = WINDOW;
            if (last)
                r.cx = CHANGE;
            go(&r);
            *entry = kept;
            EXPECT(r.vec, last ? EV_BP : EV_DF);
            EXPECT(r.cr2, WINDOW);
            EXPECT(COUNT, CHANGE);
            if (last || !under_qemu) /* which never sets RF in a pushed image */
                EXPECT(r.flags & F_RF, last ? 0 : F_RF);
            EXPECT(r.cx, last ? 0 : TIMES - CHANGE);
        }
    }
}

/* The handler skips the division, until the divisor is another. */
TEST(divide_error)
{
    struct code handler = CODE("add dword ptr [esp], 2\n" COUNT_AND_CHANGE "iretd");
    volatile u32 *divisor = (volatile u32 *)frames[2];
    idt[EV_DE] = gate(SEL_CODE, handler.start, A_INT32, 0);
    for (unsigned user = 0; user < 2; user++) {
        context("user", user);
        struct code c = CODE("1: mov eax, 100\n xor edx, edx\n div dword ptr [edi]\n"
                             "dec ecx\n jnz 1b");
        struct run r = user ? ring3(c) : ring0(c);
        *divisor = 0;
        prepare(&r, divisor, 7);
        go_done(&r);
        EXPECT(COUNT, CHANGE);
        EXPECT(r.ax, 14);
        EXPECT(r.dx, 2);
    }
}

/* Of a vector move, and the vector registers outlive it. */
TEST(page_fault_of_sse)
{
    struct code handler = CODE("add esp, 4\n add dword ptr [esp], 3\n" COUNT_AND_CHANGE "iretd");
    struct code load = CODE("movups xmm1, [edx]\n 1: movups xmm0, [esi]\n dec ecx\n jnz 1b\n"
                            "movups [edx + 16], xmm1");
    struct code store = CODE("movups xmm1, [edx]\n 1: movups [esi], xmm0\n dec ecx\n jnz 1b\n"
                             "movups [edx + 16], xmm1");
    volatile u32 *data = (volatile u32 *)frames[2];
    idt[EV_PF] = gate(SEL_CODE, handler.start, A_INT32, 0);
    for (unsigned i = 0; i < 2; i++) {
        context(i ? "store" : "load", i);
        for (unsigned n = 0; n < 8; n++)
            data[n] = n < 4 ? 0x3f800000 + n : 0;
        struct run r = ring3(i ? store : load);
        paged(&r, PAGING_32, true);
        r.cr4 |= CR4_OSFXSR;
        prepare(&r, frames[3], 0);
        r.si = WINDOW + 1;
        r.dx = (u32)data;
        go_done(&r);
        EXPECT(COUNT, TIMES);
        EXPECT(r.cr2, WINDOW + 1);
        for (unsigned n = 0; n < 4; n++)
            EXPECT(data[4 + n], data[n]);
    }
}
