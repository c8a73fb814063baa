/*
 * Floating-point workloads: SSE doubles (vectors and single numbers) and x87. Only operations whose
 * results IEEE 754 fixes, so every system must compute the same bits.
 */
#include <string.h>

#include "bench.h"

#define N 64

static u32 fold(const void *value, size_t size)
{
    u32 sum = 0;
    const unsigned char *bytes = value;
    for (size_t k = 0; k < size; k++)
        sum = sum * 31 + bytes[k];
    return sum;
}

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
    return fold(c, sizeof(c));
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
    return fold(bodies, sizeof(bodies));
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
    return fold(&result, sizeof(result));
}

const struct workload float_work[] = {
    {"matrix", matrix},
    {"nbody", nbody},
    {"x87", x87},
    {0},
};
