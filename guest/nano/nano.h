/*
 * The nano kernel: it measures single operations of the processor that it runs on, and tries out
 * whether that is a real one. This header is what its files share; README.md has the command line
 * and the format of its output. Memory below 4 MiB is mapped to itself, the user may access the
 * section .user of it, and at WINDOW is a table's worth of pages for the tests. Interrupts are off
 * but where a test says otherwise.
 */
#ifndef GUEST_NANO_NANO_H
#define GUEST_NANO_NANO_H

#include "guest.h"

/* SYSENTER, SYSEXIT, SYSCALL and SYSRET want this order. */
#define SEL_KCODE  0x08
#define SEL_KDATA  0x10
#define SEL_UCODE  0x18 /* 32 bit */
#define SEL_UDATA  0x20
#define SEL_UCODE6 0x28 /* 64 bit */
#define SEL_UDATA6 0x30
#define SEL_BOOT   0x38 /* 32-bit kernel code, in all builds */
#define SEL_TSS    0x40
#define SEL_LDT    0x50
#define SEL_TEST   0x60 /* two slots that are the tests' own */
#define GDT_SLOTS  14
#ifdef __x86_64__
#define USER_CS (SEL_UCODE6 | 3)
#define NATURAL "q"
#else
#define USER_CS (SEL_UCODE | 3)
#define NATURAL "l"
#endif
#define USER_DS (SEL_UDATA | 3)

#define VECTOR_EXIT     0x81 /* the user is done */
#define VECTOR_SYSCALL  0x80
#define VECTOR_TIMER    0x40
#define VECTOR_SELF     0x41
#define VECTOR_SPURIOUS 0xff

#define PAGE        4096
#define WINDOW_ADDR 0x40000000

#define FLAG_CF   0x1
#define FLAG_ZF   0x40
#define FLAG_TF   0x100
#define FLAG_IF   0x200
#define FLAG_IOPL 0x3000

#ifndef __ASSEMBLER__
#define WINDOW ((u8 *)WINDOW_ADDR)
#define USER   __attribute__((section(".user")))

/* --- console.c --- */
void console_init(void);
void print(const char *s);
void print_number(u32 value, u32 base);
void print_tenths(u32 tenths); /* with one decimal */

/* --- measure.c --- */
/* Quotient of a 64-bit number, without libgcc. */
u64 divide(u64 a, u32 by);
extern u32 tsc_khz, budget_ms;
/* Measures run(n), which does n * per operations, against empty(n), which does what is to be taken
 * off. Adds the samples. */
void measure(void (*run)(u32 n), void (*empty)(u32 n), u32 per);
/* One sample, in tenths of cycles. */
void sample(u32 tenths);
/* True until the time or the samples of this test are used up. */
bool samples_wanted(void);
/* The loop alone. */
void empty_loop(u32 n);
void measure_begin(void);
/* Prints the result; false: there were no samples. */
bool measure_report(const char *name);

/* --- main.c: verdicts of the test that runs; the first one counts --- */
void skip(const char *why);
void fail(const char *what, u32 want, u32 got);
void tells(const char *what, u32 value);
static inline bool expect(const char *what, u32 want, u32 got)
{
    if (want != got)
        fail(what, want, got);
    return want == got;
}
#define EXPECT(got, want) expect(#got, (want), (u32)(got))
/* Is this not bare metal, by CPUID's own word? */
bool is_virtual(void);
/* Is it the hypervisor whose signature begins with these four letters? */
bool is_hypervisor(const char *signature);

/* --- machine.c --- */
struct caught {
    bool any;
    struct frame frame;
    ulong address; /* CR2 */
};
extern u64 gdt[GDT_SLOTS];
extern u64 ldt[2];
void machine_init(void);
/* Gates, hooks, and the address space as machine_init() left them. */
void machine_reset(void);
/* What SGDT and SIDT shall show. */
void machine_tables(ulong *gdt_base, u32 *gdt_limit, ulong *idt_base, u32 *idt_limit);
void gate_set(u32 vector, const void *handler, bool user, bool present);
/* Called for a vector in place of everything else; NULL: none. */
typedef void hook_fn(struct frame *f);
void hook_set(u32 vector, hook_fn *fn);
/* Calls code with ECX and EDX. *caught says which event ended it, if any. */
u32 try_call(const void *code, u32 c, u32 d, struct caught *caught);
/* Runs user code at ip with ESI and EDI until INT VECTOR_EXIT, which is then what was caught, or
 * another event; returns its EAX. flags may have IF and TF. */
u32 try_user(const void *ip, u32 esi, u32 edi, u32 flags, struct caught *caught);
/* The same; anything but VECTOR_EXIT ends the test. */
u32 run_user(const void *ip, u32 esi, u32 edi);
/* Ends the test, whose verdict is there. */
void give_up(void) __attribute__((noreturn));
void kernel_stack_set(ulong top);
void cpuid(u32 leaf, u32 out[4]); /* EAX, EBX, ECX, EDX; subleaf 0 */
bool has_cpuid(u32 leaf, u32 reg, u32 bit);
u64 rdmsr(u32 msr);
void wrmsr(u32 msr, u64 value);
ulong read_cr(u32 n); /* 0, 3 or 4 */
u32 calibrate(void);  /* the TSC's frequency in kHz, by the PIT */

/* --- apic.c --- */
#define APIC_ADDR    0xfee00000
#define IOAPIC_ADDR  0xfec00000
#define APIC_ID      0x20
#define APIC_VERSION 0x30
#define APIC_TPR     0x80
#define APIC_IRR     0x200
static inline volatile u32 *apic(u32 reg)
{
    return (volatile u32 *)(APIC_ADDR + (ulong)reg);
}
void apic_init(void);
void eoi(void);
void self_ipi(u32 vector);
/* VECTOR_TIMER in so many cycles of the TSC; returns when, on the TSC. */
u64 timer_arm(u32 cycles);

/* --- paging.c --- */
#ifdef NANO_32
typedef u32 pte_t;
#else
typedef u64 pte_t;
#endif
#define P_P   0x1
#define P_W   0x2
#define P_U   0x4
#define P_CD  0x10
#define P_A   0x20
#define P_D   0x40
#define P_AVL 0x200
#define P_RW  (P_P | P_W)
#define P_RWU (P_P | P_W | P_U)
extern pte_t *kernel_root;
extern pte_t *window_pt; /* of WINDOW, under kernel_root */
void paging_init(void);
/* Empties the window. */
void paging_reset(void);
pte_t *frame_alloc(void); /* cleared; below 4 MiB, mapped to itself */
void frame_free(pte_t *frame);
void frame_share(pte_t *frame); /* one more user, each of whom frees it */
bool frame_is_shared(const pte_t *frame);
static inline pte_t *frame_of(pte_t entry)
{
    return (pte_t *)(ulong)(entry & ~(pte_t)(PAGE - 1));
}
/* Maps page n of the window, with nothing remembered of what was there. */
void window_map(u32 n, pte_t entry);
static inline u8 *window(u32 page)
{
    return WINDOW + page * PAGE;
}
/* A copy of all tables that lead to the window; the rest is shared. *pt: the window's own. */
pte_t *space_copy(pte_t **pt);
void space_free(pte_t *root);
/* Gives a copied space another last table of the window; the entry that was there. */
pte_t space_table(pte_t *root, pte_t entry);

/* --- boot.S --- */
extern const u8 go_user[], fast_iret[], fast_skip2[], fast_skip2_error[], fast_sysenter[],
    fast_syscall[];
extern u32 user_flags, user_esi, user_edi;
extern u8 kernel_stack_end[], user_stack_end[], user_start[], user_end[], text_start[], text_end[];
#endif
#endif
