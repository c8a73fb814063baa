/*
 * The system-instruction tests' one idea: a case describes a machine context (mode, registers,
 * paging, a few instructions of code), runs it, and looks at the context that the first event gave:
 * vector, error code, registers. Every run ends in an event; INT3 is put behind the code, so that
 * "no fault" is vector 3 there. All C here is 32-bit, with paging off; the monitor (enter32.S,
 * enter64.S) switches to the wanted mode and back around each run.
 */
#ifndef TESTS_SYSTEM_RUN_H
#define TESTS_SYSTEM_RUN_H

/* Selectors; the order serves SYSENTER with CS 8 and SYSRET with base 0x18. */
#define SEL_CODE    0x08
#define SEL_DATA    0x10
#define SEL_UCODE   0x1b
#define SEL_UDATA   0x23
#define SEL_UCODE64 0x2b
#define SEL_CODE64  0x30
#define SEL_CODE16  0x38 /* base 0, limit ffff */
#define SEL_DATA16  0x40
#define SEL_TSS     0x48
#define SEL_LDT     0x50
#define SEL_TSS64   0x58             /* two slots */
#define SEL_T(n)    (0x68 + 8 * (n)) /* slots for the case */
#define GDT_SLOTS   32
#define SEL_LIMIT   (GDT_SLOTS * 8) /* first selector beyond the GDT */

/* Offsets in struct run, for the monitor. */
#define RUN_GPR    0 /* rax rcx rdx rbx rsp rbp rsi rdi r8.. */
#define RUN_RSP    32
#define RUN_RIP    128
#define RUN_FLAGS  136
#define RUN_CS     144 /* es cs ss ds fs gs follow in this order: */
#define RUN_SS     148
#define RUN_DS     152
#define RUN_ES     156
#define RUN_FS     160
#define RUN_GS     164
#define RUN_CR0    168
#define RUN_CR3    172
#define RUN_CR4    176
#define RUN_EFER   180
#define RUN_VEC    184
#define RUN_ERR    188
#define RUN_CR2    192
#define RUN_HFLAGS 200
#define RUN_HSP    208
#define RUN_HSS    216
#define RUN_HCS    220

#ifndef __ASSEMBLER__
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int bool;
#define true 1
#define false 0
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum {
    EV_DE,
    EV_DB,
    EV_NMI,
    EV_BP,
    EV_OF,
    EV_BR,
    EV_UD,
    EV_NM,
    EV_DF,
    EV_TS = 10,
    EV_NP,
    EV_SS,
    EV_GP,
    EV_PF,
    EV_MF = 16,
    EV_AC
};
#define NO_ERR 0xffffffffu /* no error code */

#define F_CF   0x1
#define F_ZF   0x40
#define F_TF   0x100
#define F_IF   0x200
#define F_DF   0x400
#define F_OF   0x800
#define F_IOPL 0x3000
#define F_NT   0x4000
#define F_RF   0x10000
#define F_VM   0x20000
#define F_AC   0x40000
#define F_VIF  0x80000
#define F_VIP  0x100000

#define CR0_PE 0x1
#define CR0_MP 0x2
#define CR0_EM 0x4
#define CR0_TS 0x8
#define CR0_NE 0x20
#define CR0_WP 0x10000
#define CR0_AM 0x40000
#define CR0_PG 0x80000000u

#define CR4_VME      0x1
#define CR4_PVI      0x2
#define CR4_TSD      0x4
#define CR4_DE       0x8
#define CR4_PSE      0x10
#define CR4_PAE      0x20
#define CR4_PGE      0x80
#define CR4_OSFXSR   0x200
#define CR4_UMIP     0x800
#define CR4_FSGSBASE 0x10000
#define CR4_PCIDE    0x20000
#define CR4_OSXSAVE  0x40000
#define CR4_SMEP     0x100000
#define CR4_SMAP     0x200000

#define EFER_SCE 0x1
#define EFER_LME 0x100
#define EFER_LMA 0x400
#define EFER_NXE 0x800

struct run {
    union {
        u64 gpr[16];
        struct {
            u64 ax, cx, dx, bx, sp, bp, si, di, r8, r9, r10, r11, r12, r13, r14, r15;
        };
    };
    u64 ip, flags;
    u32 cs, ss, ds, es, fs, gs;
    u32 cr0, cr3, cr4, efer; /* for the run; LME in efer: the run is in long mode */
    /* What ended it: err is NO_ERR for vectors without; the rest as the handler found it. */
    u32 vec, err;
    u64 cr2, hflags, hsp;
    u32 hss, hcs;
    /* The code. */
    u32 start, end;
};

/* A piece of code, with INT3 behind it. */
struct code {
    u32 start, end;
};

/* Intel syntax, since inline assembly wants every % doubled. */
#define CODE_(bits, text)                                                                          \
    ({                                                                                             \
        struct code c_;                                                                            \
        __asm__ volatile(".pushsection .snippets,\"awx\",@progbits\n" bits                         \
                         "\n.intel_syntax noprefix\n771:\n" text                                   \
                         "\n772: int3\n.att_syntax prefix\n.code32\n.popsection\n"                 \
                         "movl $771b, %0\nmovl $772b, %1"                                          \
                         : "=r"(c_.start), "=r"(c_.end));                                          \
        c_;                                                                                        \
    })
#define CODE(text)   CODE_(".code32", text)
#define CODE16(text) CODE_(".code16", text)
#define CODE64(text) CODE_(".code64", text)

/* Contexts, paging off: all else is set by the case. */
struct run ring0(struct code c);
struct run ring3(struct code c);
struct run v86(struct code c);  /* copied to 0x8000: CS 0x800, IP 0; stack 0x900:0xf00 */
struct run pm16(struct code c); /* likewise, in CS SEL_CODE16 (base 0), SS SEL_DATA16 */
struct run long0(struct code c);
struct run long3(struct code c);
struct run compat3(struct code c);
/* Runs code in real mode: copied to 0x8000 with CS 0x800, segments 0x900; it ends by
 * falling off its end. GPRs (ax to di) and flags in and out; vec is 3, or a fault's. */
struct run real(struct code c);
void go_real(struct run *r);

void go(struct run *r);
struct code low_copy(struct code c); /* code moved to 0x8000 */

/* --- expectations: the first that fails is the case's verdict --- */
void expect(const char *what, u64 want, u64 got);
#define EXPECT(got, want) expect(#got, (want), (got))
void done(struct run *r);                    /* ran to its end */
void fault(struct run *r, u32 vec, u32 err); /* at its first instruction */
void fault_at(struct run *r, u32 vec, u32 err, u32 offset);
void go_done(struct run *r);
void go_fault(struct run *r, u32 vec, u32 err);
void context(const char *text, u32 value); /* said along with a failure: the row of a table */
void skip(const char *why);
/* A case that QEMU's TCG is known to get wrong; the SDM is what we expect. */
#define QEMU_DIFFERS(why)                                                                          \
    do {                                                                                           \
        if (under_qemu) {                                                                          \
            skip("QEMU differs: " why);                                                            \
            return;                                                                                \
        }                                                                                          \
    } while (0)

struct test {
    const char *name;
    void (*fn)(void);
};
#define TEST(name_)                                                                                \
    static void name_(void);                                                                       \
    static const struct test test_##name_                                                          \
        __attribute__((section("tests"), used, aligned(4))) = {GROUP ": " #name_, name_};          \
    static void name_(void)

/* --- tables --- */
struct tss32 {
    u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
    u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs, ldt;
    u16 trap, iomap;
    u8 map[32 + 8192 + 1]; /* interrupt redirection, I/O permissions */
} __attribute__((packed));
struct tss64 {
    u32 reserved0;
    u64 rsp[3], reserved1, ist[7], reserved2;
    u16 reserved3, iomap;
} __attribute__((packed));
#define TSS32_IOMAP 136

extern u64 gdt[GDT_SLOTS], ldt[16], idt[256];
extern u64 idt64[512];
extern struct tss32 tss;
extern struct tss64 tss64;
extern u32 monitor_esp;
extern const char stub32_0[], stub64_0[]; /* of vector 0; 16 bytes each */

/* Access bytes. */
#define A_DATA   0x93
#define A_CODE   0x9b
#define A_CONF   0x9f
#define A_DPL(n) ((n) << 5)
#define A_LDT    0x82
#define A_TSS16  0x81
#define A_TSS32  0x89
#define A_CALL16 0x84
#define A_CALL32 0x8c
#define A_INT32  0x8e
#define A_TRAP32 0x8f
#define A_TASK   0x85
#define FL_G     0x8
#define FL_DB    0x4
#define FL_L     0x2
u64 segment(u32 base, u32 limit, u32 access, u32 flags);
u64 gate(u32 sel, u32 offset, u32 access, u32 count);
/* Puts a descriptor into slot n for cases; returns its selector. */
u32 slot(unsigned n, u64 descriptor);
u32 flat(unsigned n, u32 access);               /* 4 GiB, 32-bit */
void set_handler(u32 vec, u32 access, u32 sel); /* IDT gate to the usual stub */
void use_ldt(void);                             /* lldt SEL_LDT */

/* --- paging: 0 to 4 MiB mapped to itself, and the window at WINDOW with pages of the case --- */
enum paging { PAGING_32, PAGING_PAE, PAGING_64, PAGINGS };
#define WINDOW 0x400000u
#define P_P    0x1
#define P_W    0x2
#define P_U    0x4
#define P_A    0x20
#define P_D    0x40
#define P_PS   0x80
#define P_G    0x100
#define P_NX   (1ULL << 63)
#define P_ALL  (P_P | P_W | P_U)
extern u8 frames[16][4096];
/* Sets cr0, cr3, cr4, efer of the run; low memory is for user mode too or not. */
void paged(struct run *r, enum paging kind, bool user);
u64 pte_get(enum paging kind, unsigned page);
void pte_set(enum paging kind, unsigned page, u64 value);
void map(enum paging kind, unsigned page, unsigned frame, u64 bits);
u64 pde_get(enum paging kind); /* that of the window */
void pde_set(enum paging kind, u64 value);
extern u32 page_dir[1024];
extern u64 pae_pdpt[4], pae_dir[512], pml4[512], long_pdpt[512];
/* A context of each kind: 32-bit or 64-bit code at CPL 0 or 3 under this paging. The code must
 * mean the same in both modes. */
struct run paged_run(enum paging kind, bool user, struct code c32, struct code c64);
#define BOTH(text) CODE(text), CODE64(text)
#define ONLY32(text)                                                                               \
    CODE(text), (struct code)                                                                      \
    {                                                                                              \
        0, 0                                                                                       \
    }

/* --- machine --- */
void outb(u16 port, u8 value);
u8 inb(u16 port);
u64 rdmsr(u32 msr);
void wrmsr(u32 msr, u64 value);
void cpuid(u32 leaf, u32 sub, u32 out[4]);
bool has_cpuid(u32 leaf, u32 reg, u32 bit);
void *memset(void *p, int c, __SIZE_TYPE__ n);
void *memcpy(void *d, const void *s, __SIZE_TYPE__ n);
extern bool under_qemu; /* its known departures are not failures */

#define APIC           ((volatile u32 *)0xfee00000)
#define APIC_TPR       0x80
#define APIC_EOI       0xb0
#define APIC_SVR       0xf0
#define APIC_ICR       0x300
#define APIC_LVT_TIMER 0x320
#define APIC_COUNT     0x380
#define APIC_DIVIDE    0x3e0
#define IPI_SELF       0x40000
#define IPI_NMI        0x400
void self_ipi(u8 vector);
void eoi(void);
#endif
#endif
