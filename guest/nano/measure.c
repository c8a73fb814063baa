/*
 * How an operation is measured: a loop of it and a loop without it, as many times round that it
 * takes TARGET_US, and that again and again until the time for this test is used up or there are
 * SAMPLES of the difference. So slow machines do less, and an interruption spoils a few samples
 * only, of which the median takes no notice.
 */
#include "nano.h"

#define TARGET_US   20
#define SAMPLES     101
#define SAMPLES_MIN 5 /* though they take longer than allowed */
#define LOOPS_MAX   (1u << 20)
#define WARM_UP     8
#define TRIES       3

u32 tsc_khz, budget_ms = 25;
static u32 samples[SAMPLES], count;
static u64 begun;

u64 divide(u64 a, u32 by)
{
    u32 high = (u32)(a >> 32), low = (u32)a, rest = 0, upper;
    __asm__("divl %4" : "=a"(upper), "=d"(rest) : "0"(high), "1"(rest), "rm"(by));
    __asm__("divl %4" : "=a"(low), "=d"(rest) : "0"(low), "1"(rest), "rm"(by));
    return (u64)upper << 32 | low;
}

__attribute__((noinline)) void empty_loop(u32 n)
{
    do
        __asm__ volatile("" ::: "memory");
    while (--n);
}

void measure_begin(void)
{
    count = 0;
    begun = rdtsc();
}

bool samples_wanted(void)
{
    u64 limit = (u64)tsc_khz * budget_ms;
    return count < SAMPLES && (count < SAMPLES_MIN || rdtsc() - begun < limit);
}

void sample(u32 tenths)
{
    if (count < SAMPLES)
        samples[count++] = tenths;
}

static u64 time_of(void (*fn)(u32 n), u32 n)
{
    u64 start = rdtsc();
    fn(n);
    return rdtsc() - start;
}

/* The shortest of some tries: an interruption, or a translator that meets the loop for the first time,
 * makes a few rounds look like many. */
static u64 shortest_time_of(void (*fn)(u32 n), u32 n)
{
    u64 least = time_of(fn, n);
    for (u32 k = 1; k < TRIES; k++) {
        u64 cycles = time_of(fn, n);
        least = cycles < least ? cycles : least;
    }
    return least;
}

void measure(void (*run)(u32 n), void (*empty)(u32 n), u32 per)
{
    u32 n = 1, target = tsc_khz / 1000 * TARGET_US;
    for (u32 round = 0; round < WARM_UP; round++) {
        run(1);
        empty(1);
    }
    while (n < LOOPS_MAX && shortest_time_of(run, n) < target)
        n *= 2;
    begun = rdtsc();
    while (samples_wanted()) {
        u64 with = time_of(run, n), without = time_of(empty, n);
        u64 tenths = divide(with > without ? (with - without) * 10 : 0, n * per);
        sample(tenths >> 32 ? 0xffffffff : (u32)tenths);
    }
}

static void sort(void)
{
    for (u32 i = 1; i < count; i++) {
        u32 value = samples[i], at = i;
        for (; at && samples[at - 1] > value; at--)
            samples[at] = samples[at - 1];
        samples[at] = value;
    }
}

bool measure_report(const char *name)
{
    if (!count)
        return false;
    sort();
    print("nano result ");
    print(name);
    print(" median=");
    print_tenths(samples[count / 2]);
    print(" low=");
    print_tenths(samples[count / 10]);
    print(" high=");
    print_tenths(samples[count - 1 - count / 10]);
    print(" samples=");
    print_number(count, 10);
    print(" unit=cycles\n");
    return true;
}
