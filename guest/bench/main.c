/*
 * Runs the workloads one after the other and prints for each
 *     NAME SECONDS RESULT
 * the mean time of one pass and the value that the pass computed. Passes are repeated until they
 * have taken the time that the caller wants to spend, so one program suits systems of very
 * different speed; the first pass, which warms caches and translators up, is not counted. bench
 * MILLISECONDS [NAME...]
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void measure(const struct workload *w, double at_least)
{
    u32 result = w->run();
    double start = now(), spent = 0;
    unsigned long passes = 0;
    while (passes == 0 || spent < at_least) {
        if (w->run() != result) {
            printf("%s differs-between-passes\n", w->name);
            return;
        }
        passes++;
        spent = now() - start;
    }
    printf("%s %.9f %08x\n", w->name, spent / (double)passes, result);
    fflush(stdout);
}

static bool wanted(const char *name, char **names)
{
    if (!*names)
        return true;
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    const struct workload *const lists[] = {integer_work, float_work, system_work};
    char *end;
    double ms = argc > 1 ? strtod(argv[1], &end) : -1;
    if (ms < 0 || *end) {
        fprintf(stderr, "usage: bench MILLISECONDS [NAME...]\n");
        return 2;
    }
    for (unsigned k = 0; k < sizeof(lists) / sizeof(lists[0]); k++)
        for (const struct workload *w = lists[k]; w->name; w++)
            if (wanted(w->name, argv + 2))
                measure(w, ms / 1000);
    return 0;
}
