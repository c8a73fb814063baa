/*
 * Floating-point workloads: SSE doubles (vectors and single numbers) and x87. Operations whose
 * results IEEE 754 fixes, so every system must compute the same bits; where x87 has others, their
 * results are rounded to far fewer bits.
 */
#include <math.h>

#include "bench.h"

#define N 64

static u32 matrix(void)
{
    static double a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = 1.0 / (i + j + 1);
            b[i][j] = i - j;
            c[i][j] = 0;
        }
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++)
            for (int j = 0; j < N; j++)
                c[i][j] += a[i][k] * b[k][j];
    return fold(0, c, sizeof(c));
}

struct body {
    double x, y, vx, vy, mass;
};

static double square_root(double x)
{
    double r;
    __asm__("sqrtsd %1, %0" : "=x"(r) : "x"(x));
    return r;
}

static void attract(struct body *p, const struct body *q)
{
    double dx = q->x - p->x, dy = q->y - p->y;
    double d2 = dx * dx + dy * dy + 0.01, f = q->mass * 0.001 / (d2 * square_root(d2));
    p->vx += dx * f;
    p->vy += dy * f;
}

static u32 nbody(void)
{
    struct body bodies[5] = {
        {0, 0, 0, 0, 10}, {1, 0, 0, 1, 1}, {0, 2, 1, 0, 1}, {3, 1, 0, 1, 0.5}, {-2, 1, 0, 1, 0.1}};
    for (int step = 0; step < 1000; step++) {
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 5; j++)
                if (i != j)
                    attract(&bodies[i], &bodies[j]);
        for (int i = 0; i < 5; i++) {
            bodies[i].x += bodies[i].vx * 0.001;
            bodies[i].y += bodies[i].vy * 0.001;
        }
    }
    return fold(0, bodies, sizeof(bodies));
}

/* A logistic map and a polynomial in 80-bit numbers. */
static u32 x87(void)
{
    volatile long double x = 0.5L;
    long double sum = 0;
    for (int n = 0; n < 6000; n++) {
        x = 3.75L * x * (1.0L - x);
        long double y = x, p = ((y * 0.25L + 0.5L) * y - 1.0L / 3) * y + 1;
        sum += p / (y + 1);
    }
    double result = (double)sum;
    return fold(0, &result, sizeof(result));
}

/* The Mandelbrot set in 80-bit numbers: comparisons and branches, square roots, conversions. */
static u32 x87_mandelbrot(void)
{
    u32 sum = 0;
    for (int row = 0; row < 24; row++)
        for (int column = 0; column < 24; column++) {
            long double cx = column / 8.0L - 2.0L, cy = row / 10.0L - 1.2L, x = 0, y = 0;
            int n = 0;
            for (; n < 60 && x * x + y * y < 4.0L; n++) {
                long double t = x * x - y * y + cx;
                y = 2.0L * x * y + cy;
                x = t;
            }
            sum = sum * 31 + (u32)(n + (int)(sqrtl(x * x + y * y) * 64.0L));
        }
    return sum;
}

/* The C library's long double functions, which are x87's own instructions for logarithms, powers
 * and arcs. */
static u32 x87_libm(void)
{
    u32 sum = 0;
    for (int n = 1; n <= 600; n++) {
        volatile long double x = n / 64.0L;
        long double y = logl(x) + expl(-x) + atan2l(x, 3.0L) + sqrtl(x);
        sum = sum * 31 + (u32)lrintl(y * 0x1p16L);
    }
    return sum;
}

const struct workload float_work[] = {
    {"matrix", matrix},     {"nbody", nbody},
    {"x87", x87},           {"x87-mandel", x87_mandelbrot},
    {"x87-libm", x87_libm}, {0},
};
