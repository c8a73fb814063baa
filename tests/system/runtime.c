/*
 * The test image's ground: serial port, tables, paging, contexts, expectations, the list of cases.
 */
#include "run.h"

#define STACK_SIZE  4096
#define RETRIES     5
#define LOW_RUN     ((struct run *)0x6000)
#define LOW_CODE    0x7000
#define LOW_SNIPPET 0x8000
#define LOW_STACK   0x9000

void enter32(struct run *r);
void enter64(struct run *r);
void enter_real(void);
int main(const u32 *multiboot);
extern const char low_start[], low_end[], low_stubs[];
extern const char gdt_pointer[], idt_pointer[];
extern const struct test tests_start[], tests_end[];

u64 gdt[GDT_SLOTS], ldt[16], idt[256], idt64[512];
struct tss32 tss;
struct tss64 tss64;
u8 frames[16][4096] __attribute__((aligned(4096)));
u32 page_dir[1024] __attribute__((aligned(4096)));
u64 pae_pdpt[4] __attribute__((aligned(4096)));
u64 pae_dir[512] __attribute__((aligned(4096)));
u64 pml4[512] __attribute__((aligned(4096)));
u64 long_pdpt[512] __attribute__((aligned(4096)));
bool under_qemu;
static u32 low_table32[1024] __attribute__((aligned(4096)));
static u32 window32[1024] __attribute__((aligned(4096)));
static u64 window64[512] __attribute__((aligned(4096)));
static u64 apic_dir[512] __attribute__((aligned(4096)));
static u8 kernel_stack[STACK_SIZE] __attribute__((aligned(16)));
static u8 ist_stack[STACK_SIZE] __attribute__((aligned(16)));
static u8 run_stack[STACK_SIZE] __attribute__((aligned(16)));

/* --- machine --- */

void outb(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

u8 inb(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

u64 rdmsr(u32 msr)
{
    u64 value;
    __asm__ volatile("rdmsr" : "=A"(value) : "c"(msr));
    return value;
}

void wrmsr(u32 msr, u64 value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "A"(value));
}

void cpuid(u32 leaf, u32 sub, u32 out[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "0"(leaf), "2"(sub));
}

bool has_cpuid(u32 leaf, u32 reg, u32 bit)
{
    u32 r[4];
    cpuid(leaf & 0x80000000, 0, r);
    if (r[0] < leaf)
        return false;
    cpuid(leaf, 0, r);
    return r[reg] >> bit & 1;
}

void *memset(void *p, int c, __SIZE_TYPE__ n)
{
    for (u8 *b = p; n--; b++)
        *b = (u8)c;
    return p;
}

void *memcpy(void *d, const void *s, __SIZE_TYPE__ n)
{
    u8 *to = d;
    for (const u8 *from = s; n--;)
        *to++ = *from++;
    return d;
}

void self_ipi(u8 vector)
{
    APIC[APIC_ICR / 4] = IPI_SELF | vector;
}

void eoi(void)
{
    APIC[APIC_EOI / 4] = 0;
}

/* --- printing --- */

static void put(const char *s)
{
    for (; *s; s++) {
        while (!(inb(0x3fd) & 0x20))
            ;
        outb(0x3f8, (u8)*s);
    }
}

static void put_hex(u64 value)
{
    char text[19], *p = text + 18;
    *p = 0;
    do {
        *--p = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value);
    *--p = 'x';
    *--p = '0';
    put(p);
}

/* --- expectations --- */

static struct verdict {
    const char *what, *context, *skip;
    u32 context_value;
    u64 want, got;
    struct run last;
} verdict;
static const char *context_text;
static u32 context_value;
static struct run *last_run;

void expect(const char *what, u64 want, u64 got)
{
    if (want == got || verdict.what)
        return;
    verdict.what = what;
    verdict.want = want;
    verdict.got = got;
    verdict.context = context_text;
    verdict.context_value = context_value;
    if (last_run)
        verdict.last = *last_run;
}

void context(const char *text, u32 value)
{
    context_text = text;
    context_value = value;
}

void skip(const char *why)
{
    verdict.skip = why;
}

void fault_at(struct run *r, u32 vec, u32 err, u32 offset)
{
    expect("vector", vec, r->vec);
    expect("error code", err, r->err);
    expect("saved ip", r->start + offset, r->ip);
}

void fault(struct run *r, u32 vec, u32 err)
{
    fault_at(r, vec, err, 0);
}

void done(struct run *r)
{
    fault_at(r, EV_BP, NO_ERR, r->end + 1 - r->start);
}

void go_done(struct run *r)
{
    go(r);
    done(r);
}

void go_fault(struct run *r, u32 vec, u32 err)
{
    go(r);
    fault(r, vec, err);
}

/* --- tables --- */

u64 segment(u32 base, u32 limit, u32 access, u32 flags)
{
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 |
           (u64)(limit >> 16 & 15) << 48 | (u64)flags << 52 | (u64)(base >> 24) << 56;
}

u64 gate(u32 sel, u32 offset, u32 access, u32 count)
{
    return (offset & 0xffff) | sel << 16 | (u64)count << 32 | (u64)access << 40 |
           (u64)(offset >> 16) << 48;
}

u32 slot(unsigned n, u64 descriptor)
{
    gdt[SEL_T(n) / 8] = descriptor;
    return SEL_T(n);
}

u32 flat(unsigned n, u32 access)
{
    return slot(n, segment(0, 0xfffff, access, FL_G | FL_DB));
}

void set_handler(u32 vec, u32 access, u32 sel)
{
    idt[vec] = gate(sel, (u32)stub32_0 + 16 * vec, access, 0);
    idt64[2 * vec] = gate(SEL_CODE64, (u32)stub64_0 + 16 * vec, access, vec == EV_DF);
    idt64[2 * vec + 1] = 0;
}

void use_ldt(void)
{
    __asm__ volatile("lldt %w0" ::"r"(SEL_LDT));
}

static void reset_gdt(void)
{
    memset(gdt, 0, sizeof(gdt));
    gdt[SEL_CODE / 8] = segment(0, 0xfffff, A_CODE, FL_G | FL_DB);
    gdt[SEL_DATA / 8] = segment(0, 0xfffff, A_DATA, FL_G | FL_DB);
    gdt[SEL_UCODE / 8] = segment(0, 0xfffff, A_CODE | A_DPL(3), FL_G | FL_DB);
    gdt[SEL_UDATA / 8] = segment(0, 0xfffff, A_DATA | A_DPL(3), FL_G | FL_DB);
    gdt[SEL_UCODE64 / 8] = segment(0, 0xfffff, A_CODE | A_DPL(3), FL_G | FL_L);
    gdt[SEL_CODE64 / 8] = segment(0, 0xfffff, A_CODE, FL_G | FL_L);
    gdt[SEL_CODE16 / 8] = segment(0, 0xffff, A_CODE, 0);
    gdt[SEL_DATA16 / 8] = segment(0, 0xffff, A_DATA, 0);
    gdt[SEL_TSS / 8] = segment((u32)&tss, sizeof(tss) - 1, A_TSS32, 0);
    gdt[SEL_LDT / 8] = segment((u32)ldt, sizeof(ldt) - 1, A_LDT, 0);
    gdt[SEL_TSS64 / 8] = segment((u32)&tss64, sizeof(tss64) - 1, A_TSS32, 0);
    __asm__ volatile("lgdt (%0)" ::"r"(gdt_pointer));
}

static void reset_machine(void)
{
    reset_gdt();
    memset(ldt, 0, sizeof(ldt));
    for (u32 vec = 0; vec < 256; vec++)
        set_handler(vec, A_INT32 | A_DPL(vec == EV_BP ? 3 : 0), SEL_CODE);
    __asm__ volatile("lidt (%0)" ::"r"(idt_pointer));
    memset(&tss, 0, sizeof(tss));
    memset(tss.map, 0xff, sizeof(tss.map));
    tss.ss0 = SEL_DATA;
    tss.esp0 = (u32)kernel_stack + STACK_SIZE;
    tss.iomap = sizeof(tss) - 1; /* none */
    memset(&tss64, 0, sizeof(tss64));
    tss64.rsp[0] = (u32)kernel_stack + STACK_SIZE;
    tss64.ist[0] = (u32)ist_stack + STACK_SIZE;
    tss64.iomap = sizeof(tss64);
    __asm__ volatile("ltr %w0; lldt %w1; mov %2, %%dr6; mov %2, %%dr7" ::"r"(SEL_TSS), "r"(0),
                     "r"(0));
    APIC[APIC_TPR / 4] = 0;
    APIC[APIC_LVT_TIMER / 4] = 0x10000;
}

/* --- contexts --- */

static u32 stack_top(void)
{
    memset(run_stack, 0, sizeof(run_stack));
    return (u32)run_stack + STACK_SIZE - 256;
}

static struct run flat_run(struct code c, u32 cs, u32 ds)
{
    return (struct run){.ip = c.start,
                        .flags = 2,
                        .cs = cs,
                        .ss = ds,
                        .ds = ds,
                        .es = ds,
                        .fs = ds,
                        .gs = ds,
                        .cr0 = CR0_PE | CR0_NE,
                        .sp = stack_top(),
                        .start = c.start,
                        .end = c.end};
}

struct run ring0(struct code c)
{
    return flat_run(c, SEL_CODE, SEL_DATA);
}

struct run ring3(struct code c)
{
    return flat_run(c, SEL_UCODE, SEL_UDATA);
}

struct code low_copy(struct code c)
{
    memcpy((void *)LOW_SNIPPET, (void *)c.start, c.end + 1 - c.start);
    return (struct code){LOW_SNIPPET, LOW_SNIPPET + c.end - c.start};
}

static struct run low_run(struct code c)
{
    struct run r = flat_run(low_copy(c), LOW_SNIPPET >> 4, LOW_STACK >> 4);
    r.end -= r.start;
    r.start = 0;
    r.ip = 0;
    r.sp = 0xf00;
    return r;
}

struct run v86(struct code c)
{
    struct run r = low_run(c);
    r.flags |= F_VM | F_IOPL;
    return r;
}

struct run real(struct code c)
{
    return low_run(c);
}

struct run pm16(struct code c)
{
    struct run r = flat_run(low_copy(c), SEL_CODE16, SEL_DATA16);
    r.sp = LOW_STACK + 0xf00;
    return r;
}

static struct run long_run(struct code c, u32 cs, u32 ds)
{
    struct run r = flat_run(c, cs, ds);
    paged(&r, PAGING_64, true);
    return r;
}

struct run long0(struct code c)
{
    return long_run(c, SEL_CODE64, SEL_DATA);
}

struct run long3(struct code c)
{
    return long_run(c, SEL_UCODE64, SEL_UDATA);
}

struct run compat3(struct code c)
{
    return long_run(c, SEL_UCODE, SEL_UDATA);
}

void go(struct run *r)
{
    last_run = r;
    if (r->efer & EFER_LME) {
        enter64(r);
    } else {
        wrmsr(0xc0000080, r->efer);
        enter32(r);
        wrmsr(0xc0000080, 0);
    }
}

void go_real(struct run *r)
{
    u32 stubs = LOW_CODE + (u32)(low_stubs - low_start);
    last_run = r;
    r->vec = 0;
    memcpy(LOW_RUN, r, sizeof(*r));
    memcpy((void *)LOW_CODE, low_start, (u32)(low_end - low_start));
    for (u32 vec = 0; vec < 32; vec++) {
        u32 *entry = (u32 *)(vec * 4);
        __asm__("" : "+r"(entry)); /* address 0 is no null pointer here */
        *entry = stubs + 8 * vec;
    }
    enter_real();
    memcpy(r, LOW_RUN, sizeof(*r));
    r->err = NO_ERR;
}

/* --- paging --- */

static void build_32(u32 bits)
{
    memset(page_dir, 0, sizeof(page_dir));
    memset(window32, 0, sizeof(window32));
    for (u32 i = 0; i < 1024; i++)
        low_table32[i] = i << 12 | bits;
    page_dir[0] = (u32)low_table32 | P_ALL;
    page_dir[WINDOW >> 22] = (u32)window32 | P_ALL;
    page_dir[0xfee00000 >> 22] = 0xfec00000 | P_P | P_W | P_PS;
}

static void build_64(u32 bits)
{
    memset(pae_pdpt, 0, sizeof(pae_pdpt));
    memset(pae_dir, 0, sizeof(pae_dir));
    memset(apic_dir, 0, sizeof(apic_dir));
    memset(pml4, 0, sizeof(pml4));
    memset(long_pdpt, 0, sizeof(long_pdpt));
    memset(window64, 0, sizeof(window64));
    pae_dir[0] = bits | P_PS;
    pae_dir[1] = 0x200000 | bits | P_PS;
    pae_dir[WINDOW >> 21] = (u32)window64 | P_ALL;
    apic_dir[(0xfee00000 >> 21) & 511] = 0xfee00000 | P_P | P_W | P_PS;
    pae_pdpt[0] = (u32)pae_dir | P_P;
    pae_pdpt[3] = (u32)apic_dir | P_P;
    long_pdpt[0] = (u32)pae_dir | P_ALL;
    long_pdpt[3] = (u32)apic_dir | P_ALL;
    pml4[0] = (u32)long_pdpt | P_ALL;
}

void paged(struct run *r, enum paging kind, bool user)
{
    u32 bits = user ? P_ALL : P_P | P_W;
    r->cr0 |= CR0_PG;
    if (kind == PAGING_32) {
        build_32(bits);
        r->cr3 = (u32)page_dir;
        r->cr4 |= CR4_PSE;
        return;
    }
    build_64(bits);
    r->cr4 |= CR4_PAE;
    r->efer |= EFER_NXE;
    r->cr3 = (u32)pae_pdpt;
    if (kind == PAGING_64) {
        r->cr3 = (u32)pml4;
        r->efer |= EFER_LME | EFER_SCE;
    }
}

u64 pte_get(enum paging kind, unsigned page)
{
    return kind == PAGING_32 ? window32[page] : window64[page];
}

void pte_set(enum paging kind, unsigned page, u64 value)
{
    if (kind == PAGING_32)
        window32[page] = (u32)value;
    else
        window64[page] = value;
}

void map(enum paging kind, unsigned page, unsigned frame, u64 bits)
{
    pte_set(kind, page, (u32)frames[frame] | bits);
}

u64 pde_get(enum paging kind)
{
    return kind == PAGING_32 ? page_dir[WINDOW >> 22] : pae_dir[WINDOW >> 21];
}

void pde_set(enum paging kind, u64 value)
{
    if (kind == PAGING_32)
        page_dir[WINDOW >> 22] = (u32)value;
    else
        pae_dir[WINDOW >> 21] = value;
}

struct run paged_run(enum paging kind, bool user, struct code c32, struct code c64)
{
    struct run r = kind == PAGING_64 ? user ? long3(c64) : long0(c64)
                   : user ? ring3(c32)
                                     : ring0(c32);
    paged(&r, kind, user);
    return r;
}

/* --- the run --- */

/* Lets interrupts come that a case has left behind. */
static void drain_interrupts(void)
{
    for (;;) {
        struct run r = ring0(CODE("nop; nop"));
        r.flags |= F_IF;
        go(&r);
        if (r.vec == EV_BP)
            return;
        eoi();
    }
}

static void start_case(void)
{
    memset(&verdict, 0, sizeof(verdict));
    memset(frames, 0, sizeof(frames));
    reset_machine();
    drain_interrupts();
    context_text = 0;
    last_run = 0;
}

static bool failed(void)
{
    return verdict.what && !verdict.skip;
}

static void put_failure(void)
{
    put(": ");
    if (verdict.context) {
        put(verdict.context);
        put(" ");
        put_hex(verdict.context_value);
        put(": ");
    }
    put(verdict.what);
    put(": expected ");
    put_hex(verdict.want);
    put(", got ");
    put_hex(verdict.got);
    put(" (vector ");
    put_hex(verdict.last.vec);
    put(" error ");
    put_hex(verdict.last.err);
    put(" ip start+");
    put_hex((u32)verdict.last.ip - verdict.last.start);
    put(" cr2 ");
    put_hex(verdict.last.cr2);
    put(")");
}

static void report(const struct test *t)
{
    put(failed() ? "not ok " : "ok ");
    put(t->name);
    if (verdict.skip) {
        put(" # SKIP ");
        put(verdict.skip);
    } else if (failed()) {
        put_failure();
    }
    put("\n");
}

static bool qemu_tcg(void)
{
    u32 r[4];
    cpuid(0x40000000, 0, r);
    return r[1] == 0x54474354; /* "TCGT" */
}

static char command_line[256];

static void save_command_line(const u32 *multiboot)
{
    if (!(multiboot[0] & 4))
        return;
    const char *from = (const char *)multiboot[4];
    for (u32 i = 0; i < sizeof(command_line) - 1 && from[i]; i++)
        command_line[i] = from[i];
}

/* Does the command line have the word a followed by b? */
static bool asked(const char *a, const char *b)
{
    for (const char *p = command_line; *p; p++) {
        const char *q = p, *r = a;
        for (; *r && *q == *r; q++, r++)
            ;
        if (*r)
            continue;
        for (r = b; *r && *q == *r; q++, r++)
            ;
        if (!*r && (!*q || *q == ' '))
            return true;
    }
    return false;
}

static const char *short_name(const struct test *t)
{
    const char *name = t->name;
    while (*name != ' ')
        name++;
    return name + 1;
}

/* Runs a case up to `tries` times, till it passes. */
static void run_case(const struct test *t, u32 tries)
{
    for (;;) {
        start_case();
        t->fn();
        if (!failed() || --tries == 0)
            return;
        put("# again ");
        put(t->name);
        put_failure();
        put("\n");
    }
}

static void put_decimal(u32 n)
{
    char digits[12], *p = digits + 11;
    *p = 0;
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    put(p);
}

/* Words of the command line: "qemu", the processor is QEMU's though CPUID does not say so;
 * "skip:NAME", leave this case out; "retry:NAME", the processor loses a race in this case now and
 * then: it must pass in one of a few runs. */
int main(const u32 *multiboot)
{
    u32 failures = 0, count = 0;
    save_command_line(multiboot);
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    APIC[APIC_SVR / 4] = 0x1ff;
    under_qemu = qemu_tcg() || asked("qemu", "");
    for (const struct test *t = tests_start; t < tests_end; t++, count++) {
        if (asked("skip:", short_name(t))) {
            start_case();
            verdict.skip = "by the command line";
        } else {
            run_case(t, asked("retry:", short_name(t)) ? RETRIES : 1);
        }
        report(t);
        failures += failed();
    }
    put("# ");
    put_decimal(count);
    put(" cases\n");
    outb(0xf4, failures != 0);
    return 0;
}
