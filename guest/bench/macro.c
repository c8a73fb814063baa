/*
 * Whole programs, as people run them: a C compiler on a real source and a compressor on a file.
 * They are in the directory that the benchmark is started in (build-initrd fills it), and their
 * output comes through a pipe.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static void become(char *const argv[], const char *input, int output)
{
    int from = open(input, O_RDONLY);
    if (from < 0 || dup2(from, 0) < 0 || dup2(output, 1) < 0)
        _exit(126);
    close(from);
    close(output);
    execv(argv[0], argv);
    _exit(127);
}

/* Runs a program with a file as its input; the value of its output. */
static u32 run_program(char *const argv[], const char *input)
{
    static char buffer[65536];
    int ends[2], status;
    if (pipe2(ends, O_CLOEXEC) < 0)
        abort();
    pid_t child = fork();
    if (child == 0)
        become(argv, input, ends[1]);
    close(ends[1]);
    u32 sum = 0;
    for (ssize_t got; (got = read(ends[0], buffer, sizeof(buffer))) > 0;)
        sum = fold(sum, buffer, (size_t)got);
    close(ends[0]);
    if (waitpid(child, &status, 0) != child || status != 0)
        abort();
    return sum;
}

static u32 compile(void)
{
    char *const argv[] = {"./ld.so", "--library-path",  ".",         "./tcc",
                          "-B.",     "-nostdinc",       "-Iinclude", "-c",
                          "-o",      "/proc/self/fd/1", "stb.c",     NULL};
    return run_program(argv, "/dev/null");
}

static u32 compress(void)
{
    char *const argv[] = {"./busybox", "gzip", "-c", NULL};
    return run_program(argv, "include/stb_truetype.h");
}

const struct workload macro_work[] = {
    {"compile", compile},
    {"gzip", compress},
    {0},
};
