/*
 * Fidelity: what an x86 shows to code that looks, above all to user code, which can look at much
 * without asking. Each check says whether the answers are those of a processor of the guest's own.
 */
#include "nano.h"
#include "tests.h"

#define CR0_SHOWN  0xffff /* bits that SMSW shows for sure */
#define LAR_BITS   0x00f0ff00
#define TEST_A     0x11111111
#define TEST_B     0x22222222
#define CODE_DPL   0x6000
#define BARE_CPUID 700 /* cycles; bare metal needs 100 to 300 */

extern const u8 user_popf[], user_tables[], user_cs[], user_push_cs[], user_far_call[], user_look[];
extern struct {
    u16 gdt_limit;
    ulong gdt_base;
    u8 fill1[16 - 2 - WORD];
    u16 idt_limit;
    ulong idt_base;
    u8 fill2[16 - 2 - WORD];
    u32 str, sldt, smsw;
} __attribute__((packed)) user_result;
extern u32 user_look_result[2] __asm__("user_result");

/* --- the interrupt flag --- */

void check_popf_if(void)
{
    struct caught c;
    u32 flags = try_user(user_popf, FLAG_IF | FLAG_IOPL | FLAG_CF | FLAG_ZF, 0, 0, &c);
    EXPECT(c.frame.vector, VECTOR_EXIT);
    EXPECT(flags & (FLAG_IF | FLAG_IOPL), 0);
    EXPECT(flags & (FLAG_CF | FLAG_ZF), FLAG_CF | FLAG_ZF);
    flags = try_user(user_popf, FLAG_IF | FLAG_IOPL | FLAG_CF, 0, FLAG_IF, &c);
    EXPECT(c.frame.vector, VECTOR_EXIT);
    EXPECT(flags & (FLAG_IF | FLAG_IOPL | FLAG_CF), FLAG_IF | FLAG_CF);
    EXPECT(c.frame.flags & FLAG_IF, FLAG_IF);
}

/* --- tables and registers that user code may read --- */

static void look(ulong *gdt_base, u32 *gdt_limit, ulong *idt_base, u32 *idt_limit)
{
    machine_tables(gdt_base, gdt_limit, idt_base, idt_limit);
    memset(&user_result, 0xee, sizeof(user_result));
    run_user(user_tables, 0, 0);
}

void check_sgdt(void)
{
    ulong g, i;
    u32 gl, il;
    struct {
        u16 limit;
        ulong base;
    } __attribute__((packed)) here;
    look(&g, &gl, &i, &il);
    EXPECT(user_result.gdt_base, g);
    EXPECT(user_result.gdt_limit, gl);
    __asm__ volatile("sgdt %0" : "=m"(here));
    EXPECT(here.base, g);
    EXPECT(here.limit, gl);
}

void check_sidt(void)
{
    ulong g, i;
    u32 gl, il;
    struct {
        u16 limit;
        ulong base;
    } __attribute__((packed)) here;
    look(&g, &gl, &i, &il);
    EXPECT(user_result.idt_base, i);
    EXPECT(user_result.idt_limit, il);
    __asm__ volatile("sidt %0" : "=m"(here));
    EXPECT(here.base, i);
    EXPECT(here.limit, il);
}

static void look_at_registers(void)
{
    ulong base;
    u32 limit;
    look(&base, &limit, &base, &limit);
}

void check_smsw(void)
{
    look_at_registers();
    EXPECT(user_result.smsw & CR0_SHOWN, read_cr(0) & CR0_SHOWN);
}

void check_str(void)
{
    look_at_registers();
    EXPECT(user_result.str & 0xffff, SEL_TSS);
}

void check_sldt(void)
{
    look_at_registers();
    EXPECT(user_result.sldt & 0xffff, SEL_LDT);
}

static void keep_cs(struct frame *f)
{
    f->ax = f->cs;
}

void check_push_cs(void)
{
    struct caught c;
    ulong mine;
    EXPECT(run_user(user_cs, 0, 0) & 0xffff, USER_CS);
    try_user(user_cs, 0, 0, 0, &c);
    EXPECT(c.frame.cs & 0xffff, USER_CS);
    EXPECT(c.frame.ss & 0xffff, USER_DS);
#ifndef __x86_64__
    EXPECT(run_user(user_push_cs, 0, 0) & 0xffff, USER_CS);
    EXPECT(run_user(user_far_call, 0, 0) & 0xffff, USER_CS);
    __asm__ volatile("push %%cs\n\tpop %0" : "=r"(mine));
    EXPECT(mine & 0xffff, SEL_KCODE);
#endif
    __asm__ volatile("mov %%cs, %0" : "=r"(mine));
    EXPECT(mine & 0xffff, SEL_KCODE);
    hook_set(0x30, keep_cs);
    __asm__ volatile("int $0x30" : "=a"(mine)::"memory");
    EXPECT(mine & 0xffff, SEL_KCODE);
}

/* --- LAR, LSL, VERR, VERW --- */

enum { LAR = 1, LSL = 2, VERR = 4, VERW = 8 };

static const struct {
    u16 sel;
    u8 allowed;
} looks[] = {
    {0, 0},
    {SEL_KCODE, 0},
    {SEL_KDATA, 0},
    {SEL_KDATA | 3, 0},
    {SEL_TSS, 0},
    {SEL_LDT, 0},
    {SEL_TEST, 0},
    {SEL_UCODE, LAR | LSL | VERR},
    {SEL_UCODE | 3, LAR | LSL | VERR},
    {SEL_UDATA, LAR | LSL | VERR | VERW},
    {SEL_UDATA | 3, LAR | LSL | VERR | VERW},
    {0xc, LAR | LSL | VERR | VERW}, /* of the LDT */
    {0x4, 0},
    {GDT_SLOTS * 8 | 3, 0}, /* beyond the table */
    {0xfffb, 0},
};

static void look_at(u32 instructions)
{
    for (u32 n = 0; n < ARRAY_SIZE(looks); n++) {
        u16 sel = looks[n].sel;
        u64 d = sel & 4 ? ldt[sel >> 3 & 1] : sel / 8 < GDT_SLOTS ? gdt[sel / 8] : 0;
        u32 allowed = run_user(user_look, sel, 0);
        if (!expect("what is allowed of a selector", sel << 8 | (looks[n].allowed & instructions),
                    sel << 8 | (allowed & instructions)))
            return;
        if (instructions & allowed & LAR)
            EXPECT(user_look_result[0] & LAR_BITS, (u32)(d >> 32) & LAR_BITS);
        if (instructions & allowed & LSL)
            EXPECT(user_look_result[1], 0xffffffff);
    }
}

void check_lar(void)
{
    look_at(LAR);
}

void check_lsl(void)
{
    look_at(LSL);
    gdt[SEL_TEST / 8] = 0x0040f30000001234; /* bytes, not pages */
    run_user(user_look, SEL_TEST, 0);
    EXPECT(user_look_result[1], 0x1234);
}

void check_verr(void)
{
    look_at(VERR | VERW);
    gdt[SEL_TEST / 8] = 0x00cff1000000ffff; /* data, read-only */
    EXPECT(run_user(user_look, SEL_TEST, 0) & (VERR | VERW), VERR);
    gdt[SEL_TEST / 8] = 0x00cff9000000ffff; /* code, execute-only */
    EXPECT(run_user(user_look, SEL_TEST, 0) & (VERR | VERW), 0);
}

/* --- segments --- */

static const u32 value_a = TEST_A, value_b = TEST_B;

static u64 data_at(const void *base)
{
    u64 at = (ulong)base;
    return 0x00cf92000000ffff | (at & 0xffffff) << 16 | (at >> 24 & 0xff) << 56;
}

static void load_fs(void)
{
    __asm__ volatile("mov %w0, %%fs" ::"r"(SEL_TEST) : "memory");
}

static u32 read_fs(void)
{
    u32 value;
    __asm__ volatile("movl %%fs:0, %0" : "=r"(value)::"memory");
    return value;
}

void check_segment_reload(void)
{
    gdt[SEL_TEST / 8] = data_at(&value_a);
    load_fs();
    EXPECT(read_fs(), TEST_A);
    gdt[SEL_TEST / 8] = data_at(&value_b);
    EXPECT(read_fs(), TEST_A);
    run_user(user_cs, 0, 0); /* the base is kept on the way to the user and back */
    load_fs();
    EXPECT(read_fs(), TEST_B);
    gdt[SEL_TEST / 8] = 0;
    EXPECT(read_fs(), TEST_B);
}

void check_accessed(void)
{
    gdt[SEL_TEST / 8] = data_at(&value_a);
    load_fs();
    EXPECT(gdt[SEL_TEST / 8] >> 40 & 1, 1);
    EXPECT(gdt[SEL_TEST / 8] == (data_at(&value_a) | 1ull << 40), 1);
}

/* --- flags --- */

#define ALL_FLAGS 0x8d5
/* The flags, of those in mask, after CF = carry and the code on EAX = a. */
#define FLAGS_AFTER(code, a, carry, mask, want)                                                    \
    do {                                                                                           \
        ulong flags_, in_ = (a);                                                                   \
        __asm__ volatile("push %2\n\tpopf\n\t" code "\n\tpushf\n\tpop %0"                          \
                         : "=r"(flags_), "+a"(in_)                                                 \
                         : "r"((ulong)(carry) | 2)                                                 \
                         : "cc", "memory", "ecx", "edx");                                          \
        expect("flags after " code, want, (u32)flags_ &(mask));                                    \
    } while (0)

void check_flags(void)
{
    FLAGS_AFTER("add $1, %%eax", 0x7fffffff, 0, ALL_FLAGS, 0x894);
    FLAGS_AFTER("add $1, %%eax", 0xffffffff, 0, ALL_FLAGS, 0x055);
    FLAGS_AFTER("sub $1, %%eax", 0, 0, ALL_FLAGS, 0x095);
    FLAGS_AFTER("inc %%eax", 0, 1, ALL_FLAGS, 0x001);
    FLAGS_AFTER("dec %%eax", 0x80000000, 0, ALL_FLAGS, 0x814);
    FLAGS_AFTER("neg %%eax", 0x80000000, 0, ALL_FLAGS, 0x885);
    FLAGS_AFTER("adc $0, %%eax", 0xffffffff, 1, ALL_FLAGS, 0x055);
    FLAGS_AFTER("sbb $0, %%eax", 0, 1, ALL_FLAGS, 0x095);
    FLAGS_AFTER("cmp %%eax, %%eax", 5, 1, ALL_FLAGS, 0x044);
    FLAGS_AFTER("test %%eax, %%eax", 0x80000000, 1, ALL_FLAGS & ~0x10, 0x084);
    FLAGS_AFTER("not %%eax", 1, 1, ALL_FLAGS, 0x001);
    FLAGS_AFTER("shl $1, %%eax", 0x40000001, 1, ALL_FLAGS & ~0x10, 0x880);
    FLAGS_AFTER("shr $1, %%eax", 0x00000001, 0, ALL_FLAGS & ~0x10, 0x045);
    FLAGS_AFTER("rcl $1, %%eax", 0x80000000, 0, 0x801, 0x801);
    FLAGS_AFTER("bt $3, %%eax", 8, 0, FLAG_CF, FLAG_CF);
    FLAGS_AFTER("cld\n\tmov $3, %%edx\n\tmul %%edx", 0x80000000, 0, 0x801, 0x801);
    FLAGS_AFTER("xadd %%eax, %%eax", 0x80000000, 0, ALL_FLAGS, 0x845);
    FLAGS_AFTER("lahf\n\tor %%eax, %%eax\n\tsahf", 0, 1, 0xd5, 0x001);
}

/* --- time, and what a guest learns without looking for obstacles --- */

void check_time(void)
{
    u64 last = rdtsc();
    for (u32 n = 0; n < 200; n++) {
        u32 out[4];
        if (n % 50 == 0)
            run_user(user_cs, 0, 0);
        if (n % 50 == 1)
            cpuid(0, out);
        u64 next = rdtsc();
        if (next < last)
            fail("cycles that time went back", 0, (u32)(last - next));
        last = next;
    }
}

void check_tell_cpuid(void)
{
    if (is_virtual())
        tells("CPUID says that there is a hypervisor", 0);
}

void check_tell_timing(void)
{
    u32 least = 0xffffffff, out[4];
    for (u32 n = 0; n < 50; n++) {
        u64 from = rdtsc();
        cpuid(0, out);
        u32 cycles = (u32)(rdtsc() - from);
        if (cycles < least)
            least = cycles;
    }
    if (least > BARE_CPUID)
        tells("CPUID takes more cycles than on bare metal", least);
}
