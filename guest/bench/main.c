/*
 * Runs the workloads one after the other and prints for each
 *     KIND NAME SECONDS RESULT
 * the mean time of one pass and the value that the pass computed. Passes are repeated until they
 * have taken the time that the caller wants to spend, so one program suits systems of very
 * different speed; the first pass, which warms caches and translators up, is not counted.
 *     bench MILLISECONDS DIRECTORY [NAME...]
 * The directory has the programs that workloads start.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void measure(const char *kind, const struct workload *w, double at_least)
{
    u32 result = w->run();
    double start = now(), spent = 0;
    unsigned long passes = 0;
    while (passes == 0 || spent < at_least) {
        if (w->run() != result) {
            printf("%s %s differs-between-passes\n", kind, w->name);
            return;
        }
        passes++;
        spent = now() - start;
    }
    printf("%s %s %.9f %08x\n", kind, w->name, spent / (double)passes, result);
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
    static const struct {
        const char *kind;
        const struct workload *work;
    } lists[] = {{"integer", integer_work}, {"float", float_work},   {"float", vector_work},
                 {"memory", memory_work},   {"system", system_work}, {"macro", macro_work}};
    char *end;
    double ms = argc > 2 ? strtod(argv[1], &end) : -1;
    if (ms < 0 || *end) {
        fprintf(stderr, "usage: bench MILLISECONDS DIRECTORY [NAME...]\n");
        return 2;
    }
    if (chdir(argv[2]) < 0) {
        perror(argv[2]);
        return 1;
    }
    for (unsigned k = 0; k < sizeof(lists) / sizeof(lists[0]); k++)
        for (const struct workload *w = lists[k].work; w->name; w++)
            if (wanted(w->name, argv + 3))
                measure(lists[k].kind, w, ms / 1000);
    return 0;
}
