/*
 * The local APIC: its timer, in ticks of the TSC whatever it counts, and interrupts to oneself.
 */
#include "nano.h"

#define APIC_EOI         0xb0
#define APIC_SVR         0xf0
#define APIC_ICR         0x300
#define APIC_LVT_TIMER   0x320
#define APIC_INITIAL     0x380
#define APIC_CURRENT     0x390
#define APIC_DIVIDE      0x3e0
#define ICR_SELF         0x44000
#define LVT_TSC_DEADLINE 0x40000
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_APIC_BASE    0x1b
#define DIVIDE_BY_1      0xb

static bool deadlines;
static u32 ticks_per_1024; /* of the timer, in 1024 cycles of the TSC */

void eoi(void)
{
    *apic(APIC_EOI) = 0;
}

void self_ipi(u32 vector)
{
    *apic(APIC_ICR) = ICR_SELF | vector;
}

void apic_init(void)
{
    outb(0x21, 0xff); /* the PICs stay quiet */
    outb(0xa1, 0xff);
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0x800);
    *apic(APIC_SVR) = 0x100 | VECTOR_SPURIOUS;
    *apic(APIC_TPR) = 0;
    *apic(APIC_DIVIDE) = DIVIDE_BY_1;
    deadlines = has_cpuid(1, 2, 24);
    *apic(APIC_LVT_TIMER) = VECTOR_TIMER;
    *apic(APIC_INITIAL) = 0xffffffff;
    tsc_khz = calibrate();
    u64 from = rdtsc();
    u32 ticks = *apic(APIC_CURRENT);
    while (rdtsc() - from < (u64)tsc_khz * 2)
        pause();
    ticks -= *apic(APIC_CURRENT);
    ticks_per_1024 = (u32)divide((u64)ticks << 10, (u32)(rdtsc() - from));
    *apic(APIC_INITIAL) = 0;
    *apic(APIC_LVT_TIMER) = VECTOR_TIMER | (deadlines ? LVT_TSC_DEADLINE : 0);
    __asm__ volatile("mfence" ::: "memory");
}

u64 timer_arm(u32 cycles)
{
    u64 when = rdtsc() + cycles;
    if (deadlines)
        wrmsr(MSR_TSC_DEADLINE, when);
    else
        *apic(APIC_INITIAL) = (u32)((u64)cycles * ticks_per_1024 >> 10) + 1;
    return when;
}
