/*
 * Floating point in a guest process: x87, SSE2, conversions, the exception flags, and that the kernel keeps
 * them apart between two processes. Prints what is wrong, and "pass" as the last line if nothing is.
 */
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;

static void expect(const char *what, const char *want, const char *format, long double value)
{
    char got[64];
    snprintf(got, sizeof(got), format, value);
    if (__builtin_strcmp(want, got) != 0) {
        printf("%s: expected %s, got %s\n", what, want, got);
        failures++;
    }
}

static double matrix_trace(int n)
{
    double trace = 0;
    double *a = malloc(sizeof(double) * n * n), *b = malloc(sizeof(double) * n * n);
    for (int i = 0; i < n * n; i++) {
        a[i] = i % 7 + 0.5;
        b[i] = i % 5 - 1.25;
    }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++)
            trace += a[i * n + k] * b[k * n + i];
    free(a);
    free(b);
    return trace;
}

static long double series(int terms)
{
    long double sum = 0;
    for (int i = terms; i > 0; i--)
        sum += 1.0L / ((long double)i * i);
    return sum;
}

static void check_flags(void)
{
    volatile double zero = 0, one = 1, minus = -1.5;
    feclearexcept(FE_ALL_EXCEPT);
    volatile double r = one / zero;
    if (!isinf(r) || !fetestexcept(FE_DIVBYZERO)) {
        printf("division by zero did not set its flag\n");
        failures++;
    }
    fesetround(FE_UPWARD);
    expect("round up", "-1", "%.0Lf", rint(minus));
    fesetround(FE_TONEAREST);
}

/* Two processes that yield to each other must not see each other's registers. */
static void check_two_processes(void)
{
    pid_t child = fork();
    double x = child ? 1.0 : 2.0;
    for (int i = 0; i < 2000; i++) {
        x = x * 1.0000001 + sqrt(x) * 1e-9;
        if (i % 50 == 0)
            usleep(1);
    }
    if (!child)
        _exit(fabs(x - 2.0004028688) < 1e-8 ? 0 : 1);
    int status;
    waitpid(child, &status, 0);
    expect("parent", "1.0002020203", "%.10Lf", x);
    if (status != 0) {
        printf("the child computed something else\n");
        failures++;
    }
}

int main(void)
{
    volatile double two = 2, tenth = 0.1, result; /* stored: rounds to double on x87 */
    volatile long double two_l = 2;
    expect("sqrt", "1.4142135623730951", "%.16Lf", (result = sqrt(two)));
    expect("sqrtl", "1.41421356237309504876", "%.20Lf", sqrtl(two_l));
    expect("sin", "0.9092974268256817", "%.16Lf", (result = sin(two)));
    expect("exp", "7.389056098930650", "%.15Lf", (result = exp(two)));
    expect("logl", "0.693147180559945309429", "%.21Lf", logl(two_l));
    expect("sum", "1.0999999999999999", "%.16Lf",
           (result = tenth + tenth + tenth + tenth + tenth + tenth + tenth + tenth + tenth + tenth +
                     tenth));
    expect("matrix", "1512.250000", "%.6Lf", matrix_trace(24));
    expect("series", "1.64483407", "%.8Lf", series(10000));
    check_flags();
    check_two_processes();
    puts(failures ? "fail" : "pass");
    return failures != 0;
}
