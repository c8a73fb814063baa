/*
 * The benchmark's workloads. Each does a fixed piece of work, the same in every build and on every
 * machine, about a millisecond of an unvirtualized processor (macro_work: about twenty): what
 * differs between systems is time.
 */
#ifndef GUEST_BENCH_H
#define GUEST_BENCH_H

#include <stddef.h>
#include <stdint.h>

typedef uint32_t u32;
typedef uint64_t u64;

/* Does the work once. The result depends on the computation only, so that a system which computes
 * something else shows. */
typedef u32 work_fn(void);

struct workload {
    const char *name;
    work_fn *run;
};

/* One kind of workloads each; a list ends with an entry without a name. */
extern const struct workload integer_work[], float_work[], vector_work[], memory_work[],
    system_work[], macro_work[];

/* Has a file of its own, interp.c. */
u32 interp(void);

/* The next number of a sequence (xorshift); *state is never 0. */
static inline u32 next_random(u32 *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* A value that bytes are boiled down to; sum is that of the bytes before, at first 0. */
static inline u32 fold(u32 sum, const void *value, size_t size)
{
    const unsigned char *bytes = value;
    for (size_t k = 0; k < size; k++)
        sum = sum * 31 + bytes[k];
    return sum;
}

#endif
