/*
 * Descriptor tables, events, calls whose events are caught, registers that C has no words for.
 */
#include "nano.h"

#define PIT_HZ       1193182
#define PIT_TICKS    11932 /* 10 ms */
#define PIT_READINGS 5
#define CALIBRATIONS 3
#define CAUGHT_MAX   4 /* calls within one another */

struct table_pointer {
    u16 limit;
    ulong base;
} __attribute__((packed));

u64 ldt[2] = {0, 0x00cff3000000ffff};
static u32 idt[256][WORD / 2] __attribute__((aligned(16)));
static u32 tss[26] __attribute__((aligned(128)));
static hook_fn *hooks[256];
static ulong catch_sp; /* of the innermost call whose events are caught; 0: none */
static struct caught last;

/* --- registers --- */

void cpuid(u32 leaf, u32 out[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "0"(leaf), "2"(0));
}

bool has_cpuid(u32 leaf, u32 reg, u32 bit)
{
    u32 out[4];
    cpuid(leaf & 0x80000000, out);
    if (out[0] < leaf)
        return false;
    cpuid(leaf, out);
    return out[reg] >> bit & 1;
}

u64 rdmsr(u32 msr)
{
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return low | (u64)high << 32;
}

void wrmsr(u32 msr, u64 value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

ulong read_cr(u32 n)
{
    ulong value;
    if (n == 0)
        __asm__ volatile("mov %%cr0, %0" : "=r"(value));
    else if (n == 3)
        __asm__ volatile("mov %%cr3, %0" : "=r"(value));
    else
        __asm__ volatile("mov %%cr4, %0" : "=r"(value));
    return value;
}

/* The PIT's counter 2, and on the TSC when it was so: of some readings the one that took least,
 * because on a busy host the guest may stand still between any two instructions. */
static u64 pit_read(u32 *count)
{
    u64 when = 0, least = ~0ull;
    *count = 0;
    for (u32 n = 0; n < PIT_READINGS; n++) {
        u64 from = rdtsc();
        outb(0x43, 0x80); /* latch */
        u32 value = inb(0x42);
        value |= (u32)inb(0x42) << 8;
        u64 took = rdtsc() - from;
        if (took < least) {
            least = took;
            when = from;
            *count = value;
        }
    }
    return when;
}

static u32 calibrate_once(void)
{
    u32 first, last, ticks;
    outb(0x43, 0xb0); /* counter 2, mode 0 */
    outb(0x42, 0xff);
    outb(0x42, 0xff);
    pit_read(&first); /* until it counts */
    u64 from = pit_read(&first), to;
    do {
        to = pit_read(&last);
        ticks = (first - last) & 0xffff;
    } while (ticks < PIT_TICKS);
    return (u32)divide((to - from) * PIT_HZ, ticks * 1000);
}

/* A guest that stands still for 55 ms misses a round of the counter, and finds too many cycles. */
u32 calibrate(void)
{
    u32 least = 0xffffffff;
    outb(0x61, (u8)((inb(0x61) & ~2) | 1));
    for (u32 n = 0; n < CALIBRATIONS; n++) {
        u32 khz = calibrate_once();
        least = khz < least ? khz : least;
    }
    return least;
}

/* --- tables --- */

/* A system descriptor, of which long mode has a second half. */
static void set_system(u32 sel, ulong base, u32 limit, u32 type)
{
    u64 low = base & 0xffffff, high = base >> 24 & 0xff;
    gdt[sel / 8] = low << 16 | high << 56 | limit | (u64)(0x80 | type) << 40;
#ifdef __x86_64__
    gdt[sel / 8 + 1] = base >> 32;
#endif
}

void gate_set(u32 vector, const void *handler, bool user, bool present)
{
    u32 at = (u32)(ulong)handler;
    idt[vector][0] = SEL_KCODE << 16 | (at & 0xffff);
    idt[vector][1] = (at & 0xffff0000) | (present ? 0x8000 : 0) | (user ? 0x6e00 : 0x0e00);
}

void kernel_stack_set(ulong top)
{
#ifdef __x86_64__
    tss[1] = (u32)top;
#else
    tss[1] = (u32)top;
    tss[2] = SEL_KDATA;
#endif
}

void machine_tables(ulong *gdt_base, u32 *gdt_limit, ulong *idt_base, u32 *idt_limit)
{
    *gdt_base = (ulong)gdt;
    *gdt_limit = sizeof(gdt) - 1;
    *idt_base = (ulong)idt;
    *idt_limit = sizeof(idt) - 1;
}

void machine_init(void)
{
    struct table_pointer g = {sizeof(gdt) - 1, (ulong)gdt}, i = {sizeof(idt) - 1, (ulong)idt};
    kernel_stack_set((ulong)kernel_stack_end);
    tss[25] = sizeof(tss) << 16; /* no I/O permissions */
    set_system(SEL_TSS, (ulong)tss, sizeof(tss) - 1, 0x9);
    set_system(SEL_LDT, (ulong)ldt, sizeof(ldt) - 1, 0x2);
    __asm__ volatile("lgdt %0" ::"m"(g));
    __asm__ volatile("lidt %0" ::"m"(i));
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
    __asm__ volatile("lldt %w0" ::"r"(SEL_LDT));
    machine_reset();
}

void machine_reset(void)
{
    for (u32 n = 0; n < 256; n++) {
        gate_set(n, stubs + STUB_BYTES * n, n == 3 || n == VECTOR_SYSCALL || n == VECTOR_EXIT, 1);
        hooks[n] = 0;
    }
    kernel_stack_set((ulong)kernel_stack_end);
    gdt[SEL_TEST / 8] = gdt[SEL_TEST / 8 + 1] = 0;
    __asm__ volatile("cli; mov %w0, %%fs; mov %w0, %%gs" ::"r"(0));
}

/* --- events --- */

void hook_set(u32 vector, hook_fn *fn)
{
    hooks[vector] = fn;
}

static void __attribute__((noreturn)) lost(const struct frame *f)
{
    print("nano check - fail event ");
    print_number((u32)f->vector, 10);
    print(" outside of a test, at ");
    print_number((u32)f->ip, 16);
    print("\n");
    for (;;)
        __asm__ volatile("cli; hlt");
}

ulong trap(struct frame *f)
{
    ulong sp = catch_sp;
    if (f->vector == VECTOR_SPURIOUS)
        return 0;
    if (hooks[f->vector]) {
        hooks[f->vector](f);
        return 0;
    }
    if (!sp)
        lost(f);
    catch_sp = 0;
    last.any = true;
    last.frame = *f;
    __asm__ volatile("mov %%cr2, %0" : "=r"(last.address));
    return sp;
}

u32 try_call(const void *code, u32 c, u32 d, struct caught *caught)
{
    ulong outer = catch_sp;
    u32 result = catch_call(code, c, d, &catch_sp);
    last.any = !catch_sp; /* else it is what a call within this one left there */
    catch_sp = outer;
    *caught = last;
    return result;
}

u32 try_user(const void *ip, u32 esi, u32 edi, u32 flags, struct caught *caught)
{
    user_flags = flags | 2;
    user_esi = esi;
    user_edi = edi;
    try_call(go_user, (u32)(ulong)ip, 0, caught);
    return (u32)caught->frame.ax;
}

u32 run_user(const void *ip, u32 esi, u32 edi)
{
    struct caught caught;
    u32 result = try_user(ip, esi, edi, 0, &caught);
    if (caught.frame.vector == VECTOR_EXIT)
        return result;
    fail("event in user code", VECTOR_EXIT, (u32)caught.frame.vector);
    give_up();
}

void give_up(void)
{
    __asm__ volatile("int %0" ::"i"(VECTOR_EXIT));
    __builtin_unreachable();
}
