/*
 * What freestanding guests of one source for 32-bit and 64-bit mode share: types, the frame that an
 * event leaves (events.S), calls whose events are caught, ports and other instructions that C has
 * no words for. They are compiled without libc and without libgcc.
 */
#ifndef GUEST_COMMON_GUEST_H
#define GUEST_COMMON_GUEST_H

/* clang-format off */
#ifdef __x86_64__
#define WORD 8
#define R(n) %r##n
#else
#define WORD 4
#define R(n) %e##n
#endif
/* clang-format on */

#define STUB_BYTES 16

#ifndef __ASSEMBLER__
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned long ulong;
typedef int bool;
#define true 1
#define false 0
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* What the stubs of events.S push. */
struct frame {
#ifdef __x86_64__
    ulong r15, r14, r13, r12, r11, r10, r9, r8;
#endif
    ulong di, si, bp, bx, dx, cx, ax, vector, error, ip, cs, flags;
    ulong sp, ss; /* in 32-bit mode: of an event in user mode only */
};

/* 256 stubs, STUB_BYTES apart, for the IDT. */
extern const u8 stubs[];
/* The guest's own, called by the stubs. Returns 0 to go on where the event was, or *sp of a
 * catch_call() that it ends. */
ulong trap(struct frame *f);
/* Calls code with ECX = c and EDX = d, and *sp set; returns its EAX. It may use all registers. */
u32 catch_call(const void *code, u32 c, u32 d, ulong *sp);

void *memset(void *p, int c, __SIZE_TYPE__ n);
void *memcpy(void *d, const void *s, __SIZE_TYPE__ n);

static inline void outb(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline u8 inb(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u64 rdtsc(void)
{
    u32 lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return lo | (u64)hi << 32;
}

static inline void invlpg(const void *p)
{
    __asm__ volatile("invlpg (%0)" ::"r"(p) : "memory");
}

static inline void write_cr3(const void *table)
{
    __asm__ volatile("mov %0, %%cr3" ::"r"(table) : "memory");
}

static inline void pause(void)
{
    __asm__ volatile("pause" ::: "memory");
}
#endif
#endif
