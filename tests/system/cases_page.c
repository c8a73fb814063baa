/*
 * Page faults in the three paging modes: who may do what, the error codes, CR2, accessed and dirty
 * bits, and that a fault leaves the instruction undone (SDM vol. 3, ch. 4).
 */
#include "run.h"

#define GROUP "page"
#define E_P   1
#define E_W   2
#define E_U   4
#define E_R   8
#define E_I   16

enum { READ, WRITE, FETCH };

static struct run access(enum paging kind, bool user, int what)
{
    struct run r;
    if (what == READ)
        r = paged_run(kind, user, BOTH("mov eax, [ebx]"));
    else if (what == WRITE)
        r = paged_run(kind, user, BOTH("mov [ebx], eax"));
    else
        r = paged_run(kind, user, CODE("jmp ebx"), CODE64("jmp rbx"));
    r.bx = WINDOW + 0x1010;
    r.cr4 &= ~(CR4_SMEP | CR4_SMAP);
    return r;
}

/* The error code that the access gets, or NO_ERR. */
static u32 expected(const struct run *r, enum paging kind, bool user, int what, u64 pte, u64 pde)
{
    bool nx = kind != PAGING_32;
    u32 err = (what == WRITE ? E_W : 0) | (user ? E_U : 0) | (what == FETCH && nx ? E_I : 0);
    u64 both = pte & pde;
    if (!(both & P_P))
        return err;
    if (user && !(both & P_U))
        return err | E_P;
    if (what == WRITE && !(both & P_W) && (user || (r->cr0 & CR0_WP)))
        return err | E_P;
    if (what == FETCH && nx && ((pte | pde) & P_NX))
        return err | E_P;
    return NO_ERR;
}

static void check_access(enum paging kind, bool user, int what, bool wp, u64 pte, u64 pde)
{
    struct run r = access(kind, user, what);
    if (wp)
        r.cr0 |= CR0_WP;
    u32 err = expected(&r, kind, user, what, pte, pde);
    context("kind/user/what/wp/pte/pde", (u32)kind << 24 | user << 20 | (u32)what << 16 | wp << 12 |
                                             (pte >> 63) << 11 | (u32)(pte & 7) << 8 |
                                             (pde >> 63) << 4 | (u32)(pde & 7));
    memset(frames[1], 0xcc, 4096);
    map(kind, 1, 1, pte);
    pde_set(kind, (pde_get(kind) & ~7ull) | pde);
    go(&r);
    u64 now = pte_get(kind, 1);
    if (err != NO_ERR) {
        EXPECT(r.vec, EV_PF);
        EXPECT(r.err, err);
        EXPECT(r.cr2, WINDOW + 0x1010);
        EXPECT(r.ip, what == FETCH ? WINDOW + 0x1010 : r.start);
        EXPECT(now & P_D, 0);
        return;
    }
    EXPECT(r.vec, EV_BP);
    EXPECT(r.ip, what == FETCH ? WINDOW + 0x1011 : r.end + 1);
    EXPECT(now & (P_A | P_D), what == WRITE ? P_A | P_D : P_A);
    EXPECT(pde_get(kind) & P_A, P_A);
}

TEST(rights)
{
    static const u64 bits[] = {0, P_P, P_P | P_W, P_P | P_U, P_ALL, P_ALL | P_NX, P_W | P_U};
    for (int kind = 0; kind < PAGINGS; kind++)
        for (int user = 0; user < 2; user++)
            for (int what = READ; what <= FETCH; what++)
                for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
                    for (unsigned wp = 0; wp < 2; wp++) {
                        if (kind == PAGING_32 && (bits[i] & P_NX))
                            continue;
                        check_access(kind, user, what, wp, bits[i], P_ALL);
                        check_access(kind, user, what, wp, P_ALL, bits[i]);
                    }
}

TEST(reserved_bits)
{
    QEMU_DIFFERS("RSVD without P");
    for (int kind = 0; kind < PAGINGS; kind++)
        for (int what = READ; what <= WRITE; what++) {
            context("kind/what", (u32)(kind << 4 | what));
            struct run r = access(kind, true, what);
            if (kind == PAGING_32)
                pde_set(kind, 0x400000 | 1 << 21 | P_ALL | P_PS);
            else
                map(kind, 1, 1, P_ALL | 1ull << 51);
            go_fault(&r, EV_PF, E_P | E_U | E_R | (what == WRITE ? E_W : 0));
            EXPECT(r.cr2, WINDOW + 0x1010);
            if (kind == PAGING_32)
                continue;
            /* NX without EFER.NXE is reserved; then a fetch has no I bit. */
            r = access(kind, true, what);
            r.efer &= ~EFER_NXE;
            map(kind, 1, 1, P_ALL | P_NX);
            go_fault(&r, EV_PF, E_P | E_U | E_R | (what == WRITE ? E_W : 0));
            r = access(kind, true, FETCH);
            r.efer &= ~EFER_NXE;
            map(kind, 1, 1, P_P);
            go(&r);
            EXPECT(r.vec, EV_PF);
            EXPECT(r.err, E_P | E_U);
            /* A large page that is not aligned. */
            r = access(kind, true, what);
            pde_set(kind, 0x400000 | 1 << 13 | P_ALL | P_PS);
            go_fault(&r, EV_PF, E_P | E_U | E_R | (what == WRITE ? E_W : 0));
        }
}

TEST(accessed_stays_clear)
{
    for (int kind = 0; kind < PAGINGS; kind++) {
        context("kind", (u32)kind);
        struct run r = access(kind, true, READ);
        map(kind, 0, 0, P_ALL);
        map(kind, 1, 1, P_ALL);
        go_done(&r);
        EXPECT(pte_get(kind, 0) & (P_A | P_D), 0);
        EXPECT(pte_get(kind, 1) & (P_A | P_D), P_A);
        /* A read, then a write through the same TLB entry sets D. */
        r = paged_run(kind, true, BOTH("mov eax, [ebx]; mov [ebx], eax"));
        map(kind, 1, 1, P_ALL);
        r.bx = WINDOW + 0x1000;
        go_done(&r);
        EXPECT(pte_get(kind, 1) & (P_A | P_D), P_A | P_D);
        /* D is cleared in memory, and the entry dropped. */
        r = paged_run(kind, false,
                      BOTH("mov [ebx], eax; and byte ptr [esi], 0x9f; invlpg [ebx];"
                           "mov eax, [ebx]; mov ecx, [esi]; mov [ebx], eax"));
        map(kind, 1, 1, P_P | P_W);
        r.bx = WINDOW + 0x1000;
        r.si =
            kind == PAGING_32 ? (page_dir[1] & ~0xfffu) + 4 : (u32)(pde_get(kind) & ~0xfffull) + 8;
        go_done(&r);
        EXPECT(r.cx & (P_A | P_D), P_A);
        EXPECT(pte_get(kind, 1) & (P_A | P_D), P_A | P_D);
    }
}

TEST(smep_smap)
{
    if (!has_cpuid(7, 1, 7) || !has_cpuid(7, 1, 20)) {
        skip("CPUID offers no SMEP and SMAP");
        return;
    }
    for (int kind = 0; kind < PAGINGS; kind++)
        for (int what = READ; what <= FETCH; what++) {
            context("kind/what", (u32)(kind << 4 | what));
            struct run r = access(kind, false, what);
            r.cr4 |= what == FETCH ? CR4_SMEP : CR4_SMAP;
            map(kind, 1, 1, P_ALL);
            go(&r);
            EXPECT(r.vec, EV_PF);
            EXPECT(r.err, E_P | (what == WRITE ? E_W : what == FETCH ? E_I : 0));
            if (what == FETCH)
                continue;
            r = access(kind, false, what);
            r.cr4 |= CR4_SMAP;
            r.flags |= F_AC;
            map(kind, 1, 1, P_ALL);
            go_done(&r);
        }
    struct run r =
        paged_run(PAGING_PAE, false, BOTH("stac; mov eax, [ebx]; clac; nop; mov ecx, [ebx]"));
    map(PAGING_PAE, 0, 0, P_ALL);
    r.cr4 |= CR4_SMAP;
    r.bx = WINDOW;
    go(&r);
    fault_at(&r, EV_PF, E_P, 9);
    EXPECT(r.flags & F_AC, 0);
    r = ring3(CODE("stac"));
    go_fault(&r, EV_UD, NO_ERR);
}

TEST(invlpg_and_global)
{
    for (int kind = 0; kind < PAGINGS; kind++) {
        context("kind", (u32)kind);
        u32 table;
        struct run r;
        *(u32 *)frames[0] = 0x1000;
        *(u32 *)frames[1] = 0x1001;
        r = paged_run(kind, false,
                      BOTH("mov eax, [ebx]; mov [esi], edi; invlpg [ebx]; mov ecx, [ebx]"));
        table = (u32)pde_get(kind) & ~0xfffu;
        map(kind, 0, 0, P_P | P_W);
        r.bx = WINDOW;
        r.si = table;
        r.di = (u32)frames[1] | P_P;
        go_done(&r);
        EXPECT(r.ax, 0x1000);
        EXPECT(r.cx, 0x1001);
        /* CR3 load drops what is not global. */
        r = paged_run(
            kind, false,
            CODE("mov eax, [ebx]; mov [esi], edi; mov edx, cr3; mov cr3, edx; mov ecx, [ebx]"),
            CODE64("mov eax, [rbx]; mov [rsi], edi; mov rdx, cr3; mov cr3, rdx; mov ecx, [rbx]"));
        map(kind, 0, 0, P_P | P_W);
        r.bx = WINDOW;
        r.si = table;
        r.di = (u32)frames[1] | P_P;
        go_done(&r);
        EXPECT(r.cx, 0x1001);
        /* CR4.PGE toggled drops all. */
        r = paged_run(kind, false,
                      CODE("mov eax, [ebx]; mov [esi], edi; mov edx, cr4; xor edx, 0x80; mov cr4, "
                           "edx; mov ecx, [ebx]"),
                      CODE64("mov eax, [rbx]; mov [rsi], edi; mov rdx, cr4; xor edx, 0x80; mov "
                             "cr4, rdx; mov ecx, [rbx]"));
        r.cr4 |= CR4_PGE;
        map(kind, 0, 0, P_P | P_W | P_G);
        r.bx = WINDOW;
        r.si = table;
        r.di = (u32)frames[1] | P_P | P_G;
        go_done(&r);
        EXPECT(r.cx, 0x1001);
    }
}

TEST(crossing_write)
{
    for (int kind = 0; kind < PAGINGS; kind++) {
        context("kind", (u32)kind);
        struct run r = access(kind, true, WRITE);
        map(kind, 0, 0, P_ALL);
        memset(frames[0], 0x11, 4096);
        r.bx = WINDOW + 0xffe;
        r.ax = 0xffffffff;
        go_fault(&r, EV_PF, E_W | E_U);
        EXPECT(r.cr2, WINDOW + 0x1000);
        EXPECT(*(u16 *)(frames[0] + 0xffe), 0x1111);
        map(kind, 1, 1, P_P | P_U); /* read-only */
        go_fault(&r, EV_PF, E_P | E_W | E_U);
        EXPECT(*(u16 *)(frames[0] + 0xffe), 0x1111);
        map(kind, 1, 3, P_ALL);
        go_done(&r);
        EXPECT(*(u16 *)(frames[0] + 0xffe), 0xffff);
        EXPECT(*(u32 *)frames[3], 0xffff);
        frames[3][0] = 0;
    }
}

TEST(crossing_fetch)
{
    for (int kind = 0; kind < PAGINGS; kind++) {
        context("kind", (u32)kind);
        struct run r = access(kind, true, FETCH);
        map(kind, 0, 0, P_ALL);
        frames[0][0xffe] = 0xb8; /* MOV EAX, imm32 */
        r.bx = WINDOW + 0xffe;
        go(&r);
        EXPECT(r.vec, EV_PF);
        EXPECT(r.err, E_U | (kind == PAGING_32 ? 0 : E_I));
        EXPECT(r.cr2, WINDOW + 0x1000);
        EXPECT(r.ip, WINDOW + 0xffe);
        map(kind, 1, 1, P_ALL);
        memset(frames[1], 0xcc, 8);
        go(&r);
        EXPECT(r.vec, EV_BP);
        EXPECT(r.ax, 0xcccccc00);
        EXPECT(r.ip, WINDOW + 0x1004);
    }
}

TEST(rep_movs)
{
    for (int kind = 0; kind < PAGINGS; kind++) {
        context("kind", (u32)kind);
        for (u32 i = 0; i < 64; i++)
            frames[2][i] = (u8)(i + 1);
        struct run r = paged_run(kind, true, BOTH("rep movsb"));
        map(kind, 0, 0, P_ALL);
        memset(frames[0], 0, 4096);
        r.cx = 0x20;
        r.si = (u32)frames[2];
        r.di = WINDOW + 0xff0;
        go_fault(&r, EV_PF, E_W | E_U);
        EXPECT(r.cr2, WINDOW + 0x1000);
        EXPECT(r.cx, 0x10);
        EXPECT(r.si, (u32)frames[2] + 0x10);
        EXPECT(r.di, WINDOW + 0x1000);
        EXPECT(frames[0][0xfff], 0x10);
        map(kind, 1, 1, P_ALL);
        go_done(&r);
        EXPECT(r.cx, 0);
        EXPECT(frames[1][0xf], 0x20);
        /* Doublewords where one crosses into the unmapped page. */
        r = paged_run(kind, true, BOTH("rep stosd"));
        map(kind, 0, 0, P_ALL);
        memset(frames[0], 0, 4096);
        r.ax = 0xabababab;
        r.cx = 8;
        r.di = WINDOW + 0xff2;
        go_fault(&r, EV_PF, E_W | E_U);
        EXPECT(r.cx, 5);
        EXPECT(r.di, WINDOW + 0xffe);
        EXPECT(*(u16 *)(frames[0] + 0xffe), 0);
    }
}

TEST(rep_others)
{
    struct {
        const char *what;
        struct code c32, c64;
        u32 si, di; /* page offsets: the run of bytes ends at WINDOW + 0x1000 */
    } cases[] = {
        {"outs", BOTH("rep outsb"), 0xff8, 0},   {"lods", BOTH("rep lodsb"), 0xff8, 0},
        {"cmps", BOTH("repe cmpsb"), 0xff8, 0},  {"cmps, other", BOTH("repe cmpsb"), 0, 0xff8},
        {"scas", BOTH("repne scasb"), 0, 0xff8}, {"movs from", BOTH("rep movsb"), 0xff8, 0},
    };
    for (int kind = 0; kind < PAGINGS; kind++)
        for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
            context(cases[i].what, (u32)kind);
            struct run r = paged_run(kind, true, cases[i].c32, cases[i].c64);
            map(kind, 0, 0, P_ALL);
            memset(frames[0], 0, 4096);
            r.si = WINDOW + cases[i].si;
            r.di = WINDOW + cases[i].di;
            r.cx = 0x20;
            r.dx = 0x80;
            r.ax = 1;
            r.flags |= F_IOPL;
            go_fault(&r, EV_PF, E_U);
            EXPECT(r.cx, 0x18);
            EXPECT(cases[i].si ? r.si : r.di, WINDOW + 0x1000);
        }
    /* INS checks before it reads the port. */
    struct run r = paged_run(PAGING_32, true, BOTH("insb"));
    r.di = WINDOW;
    r.dx = 0x80;
    r.flags |= F_IOPL;
    go_fault(&r, EV_PF, E_U | E_W);
    EXPECT(r.di, WINDOW);
}

TEST(backwards)
{
    /* DF set: the fault is at the end of the page below. */
    for (int kind = 0; kind < PAGINGS; kind++) {
        context("kind", (u32)kind);
        struct run r = paged_run(kind, true, BOTH("rep movsd"));
        map(kind, 1, 1, P_ALL);
        r.flags |= F_DF;
        r.si = (u32)frames[2] + 0x100;
        r.di = WINDOW + 0x1008;
        r.cx = 8;
        go_fault(&r, EV_PF, E_U | E_W);
        EXPECT(r.cx, 5);
        EXPECT(r.di, WINDOW + 0xffc);
        EXPECT(r.si, (u32)frames[2] + 0x100 - 12);
        EXPECT(r.cr2, WINDOW + 0xffc);
    }
}

TEST(invpcid)
{
    if (!has_cpuid(7, 1, 10)) {
        skip("CPUID offers no INVPCID");
        return;
    }
    u64 *d = (u64 *)frames[3];
    for (u32 type = 0; type < 5; type++) {
        context("type", type);
        struct run r =
            paged_run(PAGING_64, false, (struct code){0, 0},
                      CODE64("mov eax, [ebx]; mov [esi], edi; invpcid rcx, [rdx]; mov ecx, [ebx]"));
        *(u32 *)frames[0] = 0x1000;
        *(u32 *)frames[1] = 0x1001;
        map(PAGING_64, 0, 0, P_P | P_W);
        d[0] = 0;
        d[1] = WINDOW;
        r.bx = WINDOW;
        r.cx = type;
        r.dx = (u32)d;
        r.si = (u32)pde_get(PAGING_64) & ~0xfffu;
        r.di = (u32)frames[1] | P_P;
        go(&r);
        if (type == 4) {
            EXPECT(r.vec, EV_GP);
            continue;
        }
        done(&r);
        EXPECT(r.cx, 0x1001);
    }
    struct run r = ring3(CODE("invpcid ecx, [edx]"));
    r.dx = (u32)d;
    go_fault(&r, EV_GP, 0);
}

TEST(stack_operations)
{
    for (int kind = 0; kind < PAGINGS; kind++) {
        struct code c32[] = {CODE("push eax"),    CODE("call 1f; 1:"), CODE("enter 16, 0"),
                             CODE("enter 16, 2"), CODE("pushf"),       CODE("pop eax"),
                             CODE("ret"),         CODE("leave")};
        struct code c64[] = {CODE64("push rax"),    CODE64("call 1f; 1:"), CODE64("enter 16, 0"),
                             CODE64("enter 16, 2"), CODE64("pushf"),       CODE64("pop rax"),
                             CODE64("ret"),         CODE64("leave")};
        for (unsigned i = 0; i < ARRAY_SIZE(c32); i++) {
            context("kind/operation", (u32)(kind << 4) | i);
            struct run r = paged_run(kind, true, c32[i], c64[i]);
            map(kind, 0, 0, P_ALL);
            r.sp = i < 5 ? WINDOW + 0x2000 : WINDOW + 0x1000;
            r.bp = i == 7 ? WINDOW + 0x1800 : WINDOW + 0x100;
            u64 sp = r.sp, bp = r.bp;
            go(&r);
            fault(&r, EV_PF, E_U | (i < 5 ? E_W : 0));
            EXPECT(r.sp, sp);
            EXPECT(r.bp, bp);
        }
        /* POP to unmapped memory, and PUSH from it. */
        struct run r =
            paged_run(kind, true, CODE("pop dword ptr [ebx]"), CODE64("pop qword ptr [rbx]"));
        r.bx = WINDOW + 0x3000;
        u64 sp = r.sp;
        go_fault(&r, EV_PF, E_U | E_W);
        EXPECT(r.sp, sp);
        r = paged_run(kind, true, CODE("push dword ptr [ebx]"), CODE64("push qword ptr [rbx]"));
        r.bx = WINDOW + 0x3000;
        sp = r.sp;
        go_fault(&r, EV_PF, E_U);
        EXPECT(r.sp, sp);
    }
    struct run r = paged_run(PAGING_32, true, ONLY32("pusha"));
    map(PAGING_32, 1, 1, P_ALL);
    r.sp = WINDOW + 0x1010; /* half of it is mapped */
    memset(frames[1], 0x33, 32);
    go_fault(&r, EV_PF, E_U | E_W);
    EXPECT(r.sp, WINDOW + 0x1010);
    if (under_qemu)
        return; /* POPA loads registers one by one there */
    r = paged_run(PAGING_32, true, ONLY32("popa"));
    map(PAGING_32, 0, 0, P_ALL);
    r.sp = WINDOW + 0xff0;
    r.di = 0x77;
    go_fault(&r, EV_PF, E_U);
    EXPECT(r.di, 0x77);
}

TEST(read_modify_write)
{
    /* On a read-only page: all are write faults, and change nothing. */
    struct code codes[] = {
        CODE("xchg [ebx], eax"),
        CODE("lock cmpxchg8b [ebx]"),
        CODE("cmpxchg [ebx], ecx"),
        CODE("lock xadd [ebx], eax"),
        CODE("inc dword ptr [ebx]"),
        CODE("shl dword ptr [ebx], cl"),
        CODE("lock btr dword ptr [ebx], 3"),
        CODE("not byte ptr [ebx]"),
        CODE("adc [ebx], eax"),
    };
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        context("operation", i);
        struct run r = paged_run(PAGING_32, true, codes[i], codes[i]);
        map(PAGING_32, 0, 0, P_P | P_U);
        *(u32 *)frames[0] = 0x12345678;
        r.bx = WINDOW;
        r.ax = 1;
        r.dx = 2;
        r.cx = 3;
        r.flags |= F_CF;
        go_fault(&r, EV_PF, E_P | E_W | E_U);
        EXPECT(r.ax, 1);
        EXPECT(r.dx, 2);
        EXPECT(r.flags & 0xfff, F_CF | 2);
        EXPECT(*(u32 *)frames[0], 0x12345678);
    }
}

TEST(large_pages)
{
    *(u32 *)frames[3] = 0x4d4d4d4d;
    struct run r = access(PAGING_32, true, READ);
    pde_set(PAGING_32, P_ALL | P_PS);
    r.bx = WINDOW + (u32)frames[3];
    go_done(&r);
    EXPECT(r.ax, 0x4d4d4d4d);
    EXPECT(pde_get(PAGING_32), P_ALL | P_PS | P_A);
    r = access(PAGING_32, true, WRITE);
    pde_set(PAGING_32, P_ALL | P_PS);
    r.bx = WINDOW + (u32)frames[3];
    r.ax = 0x4d4d4d4d;
    go_done(&r);
    EXPECT(pde_get(PAGING_32), P_ALL | P_PS | P_A | P_D);
    /* CR4.PSE clear: the bit means nothing. */
    r = access(PAGING_32, true, READ);
    u64 pde = pde_get(PAGING_32);
    page_dir[0] &= ~P_PS;
    pde_set(PAGING_32, pde | P_PS);
    r.cr4 &= ~CR4_PSE;
    map(PAGING_32, 1, 3, P_ALL);
    r.bx = WINDOW + 0x1000;
    go_done(&r);
    EXPECT(r.ax, 0x4d4d4d4d);
    for (int kind = PAGING_PAE; kind < PAGINGS; kind++) {
        r = access(kind, true, WRITE);
        pde_set(kind, P_ALL | P_PS);
        r.bx = WINDOW + (u32)frames[3];
        r.ax = 0x5e5e5e5e;
        go_done(&r);
        EXPECT(*(u32 *)frames[3], 0x5e5e5e5e);
        EXPECT(pde_get(kind) & (P_A | P_D), P_A | P_D);
    }
    if (!has_cpuid(0x80000001, 3, 26))
        return;
    r = access(PAGING_64, true, READ);
    long_pdpt[1] = P_ALL | P_PS;
    r.bx = 0x40000000 + (u32)frames[3];
    go_done(&r);
    EXPECT(r.ax, 0x5e5e5e5e);
    EXPECT(long_pdpt[1], P_ALL | P_PS | P_A);
}

TEST(pae_pointers)
{
    QEMU_DIFFERS("no PDPTE registers");
    /* MOV CR3 checks the four pointers. */
    static u64 other[4] __attribute__((aligned(32)));
    struct run r = paged_run(PAGING_PAE, false, ONLY32("mov cr3, eax"));
    memcpy(other, pae_pdpt, sizeof(other));
    other[2] = P_P | P_W; /* reserved there */
    r.ax = (u32)other;
    go_fault(&r, EV_GP, 0);
    other[2] = P_W; /* not present: free */
    r = paged_run(PAGING_PAE, false, ONLY32("mov cr3, eax"));
    r.ax = (u32)other;
    go_done(&r);
    /* They are loaded at MOV CR3, and what memory says later does not matter. */
    r = paged_run(PAGING_PAE, false, BOTH("mov [esi], edi; mov eax, [ebx]"));
    r.si = (u32)&pae_pdpt[1];
    r.di = (u32)pae_dir | P_P;
    r.bx = 0x40000000;
    go(&r);
    fault_at(&r, EV_PF, 0, 2);
    EXPECT(r.cr2, 0x40000000);
}

static struct run long_access(struct code c)
{
    struct run r = paged_run(PAGING_64, false, c, c);
    r.bx = WINDOW + 0x1010;
    return r;
}

TEST(upper_levels)
{
    /* Rights of the upper levels of the 64-bit walk count, and A is set in each. */
    u64 *levels[] = {&pml4[0], &long_pdpt[0]};
    for (unsigned i = 0; i < 2; i++) {
        context("level", i);
        struct run r = long_access(CODE64("mov [rbx], eax"));
        map(PAGING_64, 1, 1, P_P | P_W);
        go_done(&r);
        EXPECT(*levels[i] & (P_A | P_D), P_A);
        r = long_access(CODE64("mov [rbx], eax"));
        map(PAGING_64, 1, 1, P_P | P_W);
        u64 *entry = i ? &long_pdpt[1] : &pml4[1];
        r.bx = i ? 0x40000000 : 0x8000000000;
        go_fault(&r, EV_PF, E_W);
        EXPECT(r.cr2, r.bx);
        *entry = (*levels[i] & ~P_W) | P_P;
        r.cr0 |= CR0_WP;
        r.bx += WINDOW + 0x1000;
        go_fault(&r, EV_PF, E_P | E_W);
        EXPECT(r.cr2, r.bx);
        if (under_qemu)
            continue; /* RSVD without P */
        *entry |= 1ull << 51;
        go_fault(&r, EV_PF, E_P | E_W | E_R);
    }
    if (under_qemu)
        return;
    struct run r = long_access(CODE64("mov eax, [rbx]"));
    pml4[1] = pml4[0] | P_PS; /* reserved at this level */
    r.bx = 0x8000000000;
    go_fault(&r, EV_PF, E_P | E_R);
}

TEST(descriptor_tables)
{
    /* Accesses to the tables are supervisor accesses, also from CPL 3. */
    struct run r = paged_run(PAGING_32, true, BOTH("mov es, eax"));
    map(PAGING_32, 0, 0, P_P | P_W);
    gdt[SEL_LDT / 8] = segment(WINDOW, 0xffff, A_LDT, 0);
    use_ldt();
    *(u64 *)frames[0] = segment(0, 0xfffff, 0x92 | A_DPL(3), FL_G | FL_DB);
    r.ax = 7;
    go_done(&r);
    EXPECT(r.es, 7);
    EXPECT(frames[0][5], 0xf3);
    EXPECT(pte_get(PAGING_32, 0) & P_D, P_D);
    r = paged_run(PAGING_32, true, BOTH("mov es, eax"));
    r.ax = 0x1007;
    go_fault(&r, EV_PF, 0); /* U is clear */
    EXPECT(r.cr2, WINDOW + 0x1000);
    /* The accessed bit of a descriptor on a read-only page, with WP. */
    r = paged_run(PAGING_32, true, BOTH("mov es, eax"));
    map(PAGING_32, 0, 0, P_P);
    frames[0][5] &= (u8)~1;
    r.cr0 |= CR0_WP;
    r.ax = 7;
    go_fault(&r, EV_PF, E_P | E_W);
    EXPECT(r.es, SEL_UDATA);
}
