/*
 * The guest's ground: serial port, events, the second processor, making of code, the list of cases.
 */
#include "stress.h"

#define APIC          ((volatile u32 *)0xfee00000)
#define APIC_ID       0x20
#define APIC_EOI      0xb0
#define APIC_SVR      0xf0
#define APIC_ICR      0x300
#define APIC_ICR_HIGH 0x310
#define ICR_INIT      0x4500
#define ICR_SIPI      0x4600
#define ICR_FIXED     0x4000
#define ICR_PENDING   0x1000
#define SPINS         300
#define CYCLES        1500000000ull /* about half a second */

void cpu_main(void);
extern const u8 ap_code[], ap_code_end[];
extern const struct test tests_start[], tests_end[];

u8 frames[FRAMES][PAGE] __attribute__((aligned(4096)));
static u32 idt[256][sizeof(long) / 2] __attribute__((aligned(16)));
static struct catcher catchers[2];
static trap_fn *traps[256];
static struct {
    const char *what, *skip, *counted[4];
    u32 want, got, counts[4], counters;
    bool failed;
} verdict;
static void (*volatile job)(u32 cpu);
static volatile u32 ap_ready, ap_done, waits[2];
static volatile u64 deadline;

/* --- printing --- */

static void print(const char *s)
{
    for (; *s; s++) {
        while (!(inb(0x3fd) & 0x20))
            ;
        outb(0x3f8, (u8)*s);
    }
}

static void print_number(u32 value, u32 base)
{
    char text[12], *p = text + 11;
    *p = 0;
    do
        *--p = "0123456789abcdef"[value % base];
    while (value /= base);
    print(base == 16 ? "0x" : "");
    print(p);
}

static void __attribute__((noreturn)) end(u8 value)
{
    outb(0xf4, value);
    for (;;)
        __asm__ volatile("cli; hlt");
}

u32 random(u32 *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* --- expectations --- */

bool failed(void)
{
    return __atomic_load_n(&verdict.failed, __ATOMIC_SEQ_CST);
}

bool expect(const char *what, u32 want, u32 got)
{
    if (want == got)
        return true;
    if (!__atomic_exchange_n(&verdict.failed, true, __ATOMIC_SEQ_CST)) {
        verdict.what = what;
        verdict.want = want;
        verdict.got = got;
    }
    return false;
}

void skip(const char *why)
{
    verdict.skip = why;
}

void count(const char *what, u32 n)
{
    if (verdict.counters < ARRAY_SIZE(verdict.counts)) {
        verdict.counted[verdict.counters] = what;
        verdict.counts[verdict.counters++] = n;
    }
}

/* --- events --- */

void on_trap(u32 vector, trap_fn *fn)
{
    traps[vector] = fn;
}

/* Returns the stack pointer of the caught call that this event ends, or 0 to go on. */
ulong trap(struct frame *f)
{
    struct catcher *c = &catchers[cpu_id()];
    if (traps[f->vector]) {
        traps[f->vector](f);
        return 0;
    }
    if (f->vector < 32 && c->sp) {
        ulong sp = c->sp, address;
        __asm__ volatile("mov %%cr2, %0" : "=r"(address));
        *c = (struct catcher){0, (u32)f->vector, (u32)f->error, address};
        return sp;
    }
    print("not ok unexpected event ");
    print_number((u32)f->vector, 10);
    print(" at ");
    print_number((u32)f->ip, 16);
    print("\n");
    end(1);
}

static void build_idt(void)
{
    for (u32 n = 0; n < 256; n++) {
        u32 stub = (u32)(ulong)stubs + STUB_BYTES * n;
        u32 sel = sizeof(long) == 8 ? SEL_CODE64 : SEL_CODE32;
        idt[n][0] = sel << 16 | (stub & 0xffff);
        idt[n][1] = (stub & 0xffff0000) | 0x8e00;
    }
}

static void load_idt(void)
{
    struct {
        u16 limit;
        ulong base;
    } __attribute__((packed)) pointer = {sizeof(idt) - 1, (ulong)idt};
    __asm__ volatile("lidt %0" ::"m"(pointer));
}

u32 try_run(const void *code, u32 c, u32 d, struct catcher *caught)
{
    struct catcher *mine = &catchers[cpu_id()];
    mine->vector = NO_FAULT;
    u32 result = catch_call(code, c, d, &mine->sp);
    mine->sp = 0;
    *caught = *mine;
    return result;
}

u32 run(const void *code, u32 c, u32 d)
{
    struct catcher caught;
    u32 result = try_run(code, c, d, &caught);
    expect("fault in the code that runs", NO_FAULT, caught.vector);
    return result;
}

/* --- code --- */

void put(struct out *o, u8 byte)
{
    *(volatile u8 *)o->p = byte;
    o->p++;
    o->ip++;
}

void put32(struct out *o, u32 value)
{
    put_imm(o->p, value);
    o->p += 4;
    o->ip += 4;
}

void put_imm(u8 *p, u32 value)
{
    __asm__ volatile("movl %1, (%0)" ::"r"(p), "r"(value) : "memory");
}

void put_mov_eax(struct out *o, u32 imm)
{
    put(o, 0xb8);
    put32(o, imm);
}

void put_add_eax(struct out *o, u32 imm)
{
    put(o, 0x05);
    put32(o, imm);
}

void put_ret(struct out *o)
{
    put(o, 0xc3);
}

static void put_relative(struct out *o, ulong target)
{
    put32(o, (u32)(target - (o->ip + 4)));
}

void put_call(struct out *o, ulong target)
{
    put(o, 0xe8);
    put_relative(o, target);
}

void put_jump(struct out *o, ulong target)
{
    put(o, 0xe9);
    put_relative(o, target);
}

void put_jcc(struct out *o, u8 condition, ulong target)
{
    put(o, 0x0f);
    put(o, 0x80 | condition);
    put_relative(o, target);
}

void put_constant(u8 *p, u32 value)
{
    struct out o = {p, 0};
    put_mov_eax(&o, value);
    put_ret(&o);
}

/* --- the window --- */

u64 pte(u32 frame, u64 bits)
{
    return (ulong)frames[frame] | bits;
}

void map(u32 page, u32 frame, u64 bits)
{
    window_pt[page] = pte(frame, bits);
    invlpg(window(page));
}

void serialize(void)
{
    u32 a = 0, b, c, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d)::"memory");
}

void toggle_global(void)
{
    ulong cr4;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" ::"r"(cr4 & ~0x80ul) : "memory");
    __asm__ volatile("mov %0, %%cr4" ::"r"(cr4) : "memory");
}

/* --- two processors --- */

u32 cpu_id(void)
{
    return APIC[APIC_ID / 4] >> 24;
}

void eoi(void)
{
    APIC[APIC_EOI / 4] = 0;
}

static void send(u32 command)
{
    APIC[APIC_ICR_HIGH / 4] = (cpu_id() ^ 1) << 24;
    APIC[APIC_ICR / 4] = command;
    while (APIC[APIC_ICR / 4] & ICR_PENDING)
        pause();
}

void ipi(u32 vector)
{
    send(ICR_FIXED | vector);
}

bool time_left(void)
{
    return rdtsc() < deadline && !failed();
}

/* Where both have one host processor to share, spinning costs a time slice; so it ends in HLT. */
bool wait_for(const volatile u32 *p, u32 value)
{
    u32 cpu = cpu_id();
    u64 limit = rdtsc() + 20 * CYCLES;
    for (u32 n = 0; (int)(*p - value) < 0; n++) {
        if (failed())
            return false;
        if (rdtsc() > limit)
            return expect("the other processor's progress", value, *p);
        pause();
        if (n < SPINS)
            continue;
        __atomic_store_n(&waits[cpu], 1, __ATOMIC_SEQ_CST);
        if ((int)(*p - value) < 0 && !failed())
            __asm__ volatile("sti; hlt; cli" ::: "memory");
        __atomic_store_n(&waits[cpu], 0, __ATOMIC_SEQ_CST);
    }
    return true;
}

void notify(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (waits[cpu_id() ^ 1])
        ipi(VECTOR_WAKE);
}

static void on_wake(struct frame *f)
{
    (void)f;
    eoi();
}

static void start_ap(void)
{
    on_trap(VECTOR_WAKE, on_wake);
    APIC[APIC_SVR / 4] = 0x1ff;
    memcpy((void *)AP_CODE_ADDR, ap_code, (ulong)(ap_code_end - ap_code));
    send(ICR_INIT);
    for (u64 until = rdtsc() + CYCLES / 100; rdtsc() < until;)
        pause();
    for (u32 n = 0; n < 2 && !ap_ready; n++) {
        send(ICR_SIPI | AP_CODE_ADDR >> 12);
        for (u64 until = rdtsc() + CYCLES; rdtsc() < until && !ap_ready;)
            pause();
    }
}

static void ap_main(void)
{
    APIC[APIC_SVR / 4] = 0x1ff;
    ap_ready = 1;
    for (;;) {
        while (!job)
            __asm__ volatile("sti; hlt; cli" ::: "memory");
        write_cr3(root);
        toggle_global();
        job(1);
        notify();
        job = 0;
        ap_done = 1;
    }
}

bool both(void (*fn)(u32 cpu))
{
    if (!ap_ready) {
        skip("there is one processor");
        return false;
    }
    ap_done = 0;
    deadline = rdtsc() + CYCLES;
    job = fn;
    ipi(VECTOR_WAKE);
    fn(0);
    notify();
    u64 limit = rdtsc() + 40 * CYCLES;
    while (!ap_done && rdtsc() < limit)
        pause();
    if (!ap_done) {
        print("not ok the other processor is lost\n");
        end(2);
    }
    return true;
}

/* --- the list --- */

static void report(const struct test *t)
{
    print(verdict.failed ? "not ok " : "ok ");
    print(t->name);
    for (u32 n = 0; n < verdict.counters; n++) {
        print(n ? ", " : " (");
        print(verdict.counted[n]);
        print(" ");
        print_number(verdict.counts[n], 10);
    }
    if (verdict.counters)
        print(")");
    if (verdict.skip) {
        print(" # SKIP ");
        print(verdict.skip);
    } else if (verdict.failed) {
        print(": ");
        print(verdict.what);
        print(": expected ");
        print_number(verdict.want, 16);
        print(", got ");
        print_number(verdict.got, 16);
    }
    print("\n");
}

static void bsp_main(void)
{
    u32 failures = 0;
    build_idt();
    load_idt();
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    start_ap();
    for (const struct test *t = tests_start; t < tests_end; t++) {
        memset(&verdict, 0, sizeof(verdict));
        memset(frames, 0xcc, sizeof(frames));
        memset(window_pt, 0, PAGE);
        memset(window_pt_b, 0, PAGE);
        write_cr3(root);
        toggle_global();
        t->fn();
        report(t);
        failures += verdict.failed;
    }
    end(failures != 0);
}

void cpu_main(void)
{
    if (cpu_id() == 0)
        bsp_main();
    load_idt();
    ap_main();
}
