/*
 * REP MOVS and REP STOS over pages that are mapped at random: to the same frames, read-only, or not
 * at all. A model in C does element by element what the SDM says; registers, flags, memory and the
 * fault, if there is one in the middle, must be the model's.
 */
#include "stress.h"

#define GROUP     "strings"
#define PAGES     6u /* of the window */
#define USED      4u /* frames that they are mapped to */
#define CODE      (frames[16])
#define MAPPINGS  150u
#define RUNS      12u
#define VECTOR_PF 14
#define E_P       1
#define E_W       2
#define F_DF      0x400
#define F_SHOWN   0xcd5 /* arithmetic flags and DF */
#define FLAT      ((ulong)~0)

struct regs {
    ulong ax, cx, si, di, flags;
    ulong fault, error; /* CR2; FLAT: no fault */
};

/* The code that runs and what the page fault's handler leaves. */
static struct {
    ulong start, rep, behind;
    struct regs *to;
} running;

static u8 model[USED][PAGE];
static struct {
    u32 frame, bits;
} mapping[PAGES];
static u32 seed;

/* --- running --- */

static void on_page_fault(struct frame *f)
{
    __asm__ volatile("mov %%cr2, %0" : "=r"(running.to->fault));
    running.to->error = f->error;
    EXPECT((u32)f->ip, (u32)running.rep);
    f->ip = running.behind;
}

struct form {
    u32 size;
    bool movs, down, compare_count;
};

/* Sets flags by a comparison, sets DF, runs the instruction, and leaves the flags in EDX. */
static void make(const struct form *f)
{
    struct out o = {CODE, (ulong)CODE};
    running.start = o.ip;
    if (f->down)
        put(&o, 0xfd);
    put(&o, 0x39); /* cmp ebx, edx or cmp ecx, edx: flags are kept over the instruction */
    put(&o, f->compare_count ? 0xd1 : 0xd3);
    running.rep = o.ip;
    put(&o, 0xf3);
    if (f->size == 2)
        put(&o, 0x66);
    if (f->size == 8)
        put(&o, 0x48);
    put(&o, (f->movs ? 0xa4 : 0xaa) | (f->size > 1));
    running.behind = o.ip;
    put(&o, 0x9c); /* pushf; pop edx; cld; ret */
    put(&o, 0x5a);
    put(&o, 0xfc);
    put_ret(&o);
}

static void execute(struct regs *r, ulong b, ulong d)
{
    running.to = r;
    r->fault = FLAT;
    r->error = 0;
    __asm__ volatile("call *%[code]"
                     : "+a"(r->ax), "+c"(r->cx), "+S"(r->si), "+D"(r->di), "+d"(d)
                     : "b"(b), [code] "m"(running.start)
                     : "memory", "cc");
    r->flags = d;
}

/* --- the model --- */

static u8 *at(ulong address, u32 need, ulong *error)
{
    u32 page = (u32)((address - WINDOW_ADDR) / PAGE);
    u32 bits = address >= WINDOW_ADDR && page < PAGES ? mapping[page].bits : 0;
    if ((bits & need) == need)
        return &model[mapping[page].frame][address % PAGE];
    *error = bits & P_P;
    return 0;
}

/* Where each byte of an element is; false: a fault. */
static bool element(struct regs *r, ulong address, u32 size, u32 need, u8 **to)
{
    ulong error;
    for (u32 k = 0; k < size; k++) {
        to[k] = at(address + k, need, &error);
        if (!to[k]) {
            r->fault = address + k;
            r->error = error | (need & P_W ? E_W : 0);
            return false;
        }
    }
    return true;
}

static void expected(const struct form *f, struct regs *r)
{
    u8 *src[8], *dst[8], value[8];
    ulong by = f->down ? -(ulong)f->size : f->size;
    r->fault = FLAT;
    r->error = 0;
    for (; r->cx; r->cx--) {
        if ((f->movs && !element(r, r->si, f->size, P_P, src)) ||
            !element(r, r->di, f->size, P_RW, dst))
            return;
        for (u32 k = 0; k < f->size; k++)
            value[k] = f->movs ? *src[k] : (u8)(r->ax >> 8 * k);
        for (u32 k = 0; k < f->size; k++)
            *dst[k] = value[k];
        r->di += by;
        if (f->movs)
            r->si += by;
    }
}

static ulong expected_flags(const struct form *f, ulong a, ulong d)
{
    ulong flags;
    __asm__ volatile("cmp %k2, %k1; pushf; pop %0" : "=r"(flags) : "r"(a), "r"(d) : "cc");
    return (flags & F_SHOWN & ~F_DF) | (f->down ? F_DF : 0);
}

/* --- at random --- */

static u32 below(u32 n)
{
    return random(&seed) % n;
}

static void map_at_random(void)
{
    for (u32 p = 0; p < PAGES; p++) {
        u32 kind = below(16);
        mapping[p].frame = below(USED);
        mapping[p].bits = kind == 0 ? 0 : kind == 1 ? P_P : P_RW;
        map(p, mapping[p].frame, mapping[p].bits);
    }
    for (u32 n = 0; n < PAGE; n += 4) {
        u32 frame = below(USED), word = random(&seed);
        memcpy(&model[frame][n], &word, 4);
        memcpy(&frames[frame][n], &word, 4);
    }
}

static ulong address_at_random(u32 size)
{
    u32 where = below(4);
    u32 off = where == 0   ? below(PAGE)
              : where == 1 ? PAGE - below(40)
              : where == 2 ? below(40)
                           : size * below(PAGE / size);
    return WINDOW_ADDR + below(PAGES) * PAGE + off;
}

static ulong count_at_random(u32 size)
{
    switch (below(8)) {
    case 0:
        return 0;
    case 1:
        return PAGE / size + below(3) - 1;
    case 2:
        return below(3 * PAGE) / size;
    case 3: /* times the size this wraps; it ends at the end of the window, at the latest */
        return (ulong)-1 / size + 1 + below(16);
    default:
        return below(64);
    }
}

static void compare(const struct regs *got, const struct regs *want)
{
    EXPECT((u32)got->fault, (u32)want->fault);
    EXPECT((u32)got->error, (u32)want->error);
    EXPECT((u32)got->cx, (u32)want->cx);
    EXPECT((u32)((u64)got->cx >> 32), (u32)((u64)want->cx >> 32));
    EXPECT((u32)got->si, (u32)want->si);
    EXPECT((u32)got->di, (u32)want->di);
    EXPECT((u32)got->ax, (u32)want->ax);
    EXPECT((u32)(got->flags & F_SHOWN), (u32)want->flags);
    for (u32 f = 0; f < USED; f++)
        for (u32 n = 0; n < PAGE && !failed(); n += sizeof(ulong))
            EXPECT(*(ulong *)&frames[f][n] == *(ulong *)&model[f][n], true);
}

static void run_at_random(const struct form *f)
{
    struct regs got = {.ax = (ulong)(random(&seed) * 0x100000001ull),
                       .si = address_at_random(f->size),
                       .di = address_at_random(f->size),
                       .cx = count_at_random(f->size)};
    if (below(4) == 0) /* overlapping */
        got.di = got.si + below(3 * f->size + 2) - f->size;
    struct regs want = got;
    ulong b = below(3), d = below(3);
    want.flags = expected_flags(f, f->compare_count ? got.cx : b, d);
    expected(f, &want);
    execute(&got, b, d);
    compare(&got, &want);
}

static void check(bool movs, bool down)
{
    on_trap(VECTOR_PF, on_page_fault);
    seed = 1 + movs + 2 * down;
    memset(model, 0, sizeof(model));
    memset(frames, 0, sizeof(model));
    for (u32 size = 1; size <= sizeof(long); size *= 2)
        for (u32 n = 0; n < MAPPINGS && !failed(); n++) {
            struct form f = {size, movs, down, n & 1};
            make(&f);
            map_at_random();
            for (u32 k = 0; k < RUNS && !failed(); k++)
                run_at_random(&f);
        }
    on_trap(VECTOR_PF, 0);
}

TEST(movs)
{
    check(true, false);
}

TEST(stos)
{
    check(false, false);
}

TEST(movs_down)
{
    check(true, true);
}

TEST(stos_down)
{
    check(false, true);
}

/* --- over code --- */

/* A function in the middle of three pages that a block of whole pages replaces. */
TEST(pages_over_code)
{
    for (u32 p = 0; p < 6; p++)
        map(p, p, P_RW);
    for (u32 n = 0; n < 300 && !failed(); n++) {
        void *to = window(0) + n % 5, *from = window(3) + n % 5;
        ulong words = (2 * PAGE + 0x800) / sizeof(long);
        put_constant(window(4) + 0x234, n);
        if (n & 1)
            __asm__ volatile("rep movsb"
                             : "+D"(to), "+S"(from)
                             : "c"(words * sizeof(long))
                             : "memory");
        else
            __asm__ volatile("rep movs%z2" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
        EXPECT(run(window(1) + 0x234, 0, 0), n);
    }
}

/* REP MOVS that replaces what stands behind it, in the second page that it copies. */
TEST(pages_over_next)
{
    u32 got;
    for (u32 p = 0; p < 6; p++)
        map(p, p, P_RW);
    memset(window(0), 0, 6 * PAGE);
    for (u32 n = 0; n < 300 && !failed(); n++) {
        for (u32 copy = 0; copy < 2; copy++) {
            struct out o = {window(copy ? 4 : 1) + 0x100, 0};
            put(&o, 0xf3);
            put(&o, 0xa4);
            put_mov_eax(&o, copy ? n : 0xbad);
            put_ret(&o);
        }
        void *to = window(0), *from = window(3);
        ulong bytes = 3 * PAGE;
        __asm__ volatile("call *%4"
                         : "+D"(to), "+S"(from), "+c"(bytes), "=a"(got)
                         : "r"(window(1) + 0x100)
                         : "memory");
        EXPECT(got, n);
        EXPECT((u32)bytes, 0);
        EXPECT((u32)(ulong)to, (u32)(ulong)window(3));
    }
}

/* The same code at one address after the other: a copy of its translation (clone.c) comes back to
 * itself. */
TEST(pages_from_copies)
{
    enum { COPIES = 40 };
    struct out o = {frames[8] + 0x80, 0};
    put(&o, 0xf3);
    put(&o, 0xa4);
    put(&o, 0xe8); /* call of the next instruction; pop: the address that this runs at */
    put32(&o, 0);
    put(&o, 0x58);
    put_ret(&o);
    for (u32 p = 0; p < 6; p++)
        map(p, p, P_RW);
    for (u32 n = 1; n < 10 * COPIES && !failed(); n++) {
        void *to = window(0), *from = window(3);
        ulong bytes = 2 * PAGE + n, got;
        u8 *code = window(16 + n % COPIES) + 0x80;
        map(16 + n % COPIES, 8, P_RW);
        window(5)[n - 1] = (u8)n;
        __asm__ volatile("call *%4"
                         : "+D"(to), "+S"(from), "+c"(bytes), "=&a"(got)
                         : "r"(code)
                         : "memory");
        EXPECT((u32)got, (u32)(ulong)code + 7);
        EXPECT((u32)bytes, 0);
        EXPECT((u32)(ulong)to, (u32)(ulong)window(2) + n);
        EXPECT(window(2)[n - 1], (u8)n);
    }
}

#ifndef __x86_64__
/* A block that ends at 4 GiB, and one that goes on at 0. */
TEST(wrap)
{
    static u64 top[512] __attribute__((aligned(4096)));
    u64 *directory = (u64 *)(ulong)(((const u64 *)root)[3] & ~(u64)(PAGE - 1));
    u8 *last = frames[0], *first = (u8 *)4, saved[16];
    __asm__ volatile("" : "+r"(first));
    first -= 4;
    memcpy(saved, first, sizeof(saved));
    directory[511] = (ulong)top | P_RW;
    top[511] = pte(0, P_RW);
    write_cr3(root);
    for (u32 n = 0; n < 200 && !failed(); n++) {
        u32 to = 0xfffffff0, count = n & 1 ? 0x1c : 0x10, end = to + count;
        memset(last + PAGE - 32, 0x55, 32);
        memset(first, 0x55, 16);
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(n) : "memory");
        EXPECT(to, end);
        EXPECT(count, 0);
        EXPECT(last[PAGE - 17], 0x55);
        EXPECT(last[PAGE - 16], (u8)n);
        EXPECT(last[PAGE - 1], (u8)n);
        EXPECT(first[0], n & 1 ? (u8)n : 0x55);
        EXPECT(first[11], n & 1 ? (u8)n : 0x55);
        EXPECT(first[12], 0x55);
    }
    memcpy(first, saved, sizeof(saved));
}
#endif
