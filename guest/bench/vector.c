/*
 * Vector workloads: SSE2 with its intrinsics, as image and sound code has it, and 32-byte vectors,
 * which are AVX2 where CPUID says that there is AVX2, as the C library decides, and SSE2 where not.
 * Both compute the same.
 */
#include <emmintrin.h>

#include "bench.h"

#define PIXELS 4096

/* Blends two images by their alpha and adds up the differences. */
static u32 sse2_integer(void)
{
    static u32 a[PIXELS] __attribute__((aligned(16))), b[PIXELS] __attribute__((aligned(16)));
    u32 seed = 13;
    if (!a[0])
        for (u32 k = 0; k < PIXELS; k++)
            a[k] = next_random(&seed), b[k] = next_random(&seed);
    const __m128i zero = _mm_setzero_si128(), alpha = _mm_set1_epi16(77);
    const __m128i beta = _mm_set1_epi16(256 - 77), limit = _mm_set1_epi8(100);
    __m128i sum = zero;
    u32 bright = 0;
    for (int pass = 0; pass < 40; pass++)
        for (u32 k = 0; k < PIXELS; k += 4) {
            __m128i x = _mm_load_si128((const __m128i *)(a + k));
            __m128i y = _mm_loadu_si128((const __m128i *)(b + (k ^ 4)));
            __m128i low = _mm_add_epi16(_mm_mullo_epi16(_mm_unpacklo_epi8(x, zero), alpha),
                                        _mm_mullo_epi16(_mm_unpacklo_epi8(y, zero), beta));
            __m128i high = _mm_add_epi16(_mm_mullo_epi16(_mm_unpackhi_epi8(x, zero), alpha),
                                         _mm_mullo_epi16(_mm_unpackhi_epi8(y, zero), beta));
            __m128i z = _mm_packus_epi16(_mm_srli_epi16(low, 8), _mm_srli_epi16(high, 8));
            sum = _mm_add_epi64(sum, _mm_sad_epu8(z, x));
            u32 mask = (u32)_mm_movemask_epi8(_mm_cmpgt_epi8(_mm_avg_epu8(z, y), limit));
            bright += mask & 0xff;
        }
    u32 sums[4];
    _mm_storeu_si128((__m128i *)sums, sum);
    return fold(bright, sums, sizeof(sums));
}

/* Packed doubles: products, quotients, square roots, shuffles and conversions. */
static u32 sse2_double(void)
{
    static double v[1024] __attribute__((aligned(16)));
    const __m128d quarter = _mm_set1_pd(0.25), one = _mm_set1_pd(1);
    for (int k = 0; k < 1024; k++)
        v[k] = k * 0.125 + 1;
    for (int pass = 0; pass < 200; pass++)
        for (int k = 0; k < 1024; k += 4) {
            __m128d x = _mm_load_pd(v + k), y = _mm_load_pd(v + k + 2);
            __m128d t = _mm_add_pd(_mm_mul_pd(x, quarter), _mm_shuffle_pd(y, x, 1));
            y = _mm_sqrt_pd(_mm_add_pd(_mm_mul_pd(y, y), one));
            x = _mm_add_pd(_mm_div_pd(t, y), _mm_cvtepi32_pd(_mm_cvttpd_epi32(x)));
            _mm_store_pd(v + k, _mm_mul_pd(x, quarter));
            _mm_store_pd(v + k + 2, _mm_max_pd(y, t));
        }
    return fold(0, v, sizeof(v));
}

typedef float floats __attribute__((vector_size(32), may_alias));
typedef int ints __attribute__((vector_size(32), may_alias));
typedef u32 words __attribute__((vector_size(32), may_alias));
#define VECTORS 256

static inline __attribute__((always_inline)) u32 wide_vectors(void)
{
    static floats v[VECTORS];
    static words counts[VECTORS];
    for (int k = 0; k < VECTORS; k++)
        for (int lane = 0; lane < 8; lane++)
            v[k][lane] = (float)(k + lane) * 0.03125f, counts[k][lane] = (u32)lane;
    for (int pass = 0; pass < 300; pass++)
        for (int k = 0; k < VECTORS; k++) {
            floats x = v[k], y = v[(k + 7) % VECTORS];
            ints above = x > y;
            words n = counts[k];
            floats t = (x * 0.75f + y * 0.125f) - 0.0625f;
            t = (floats)(((ints)t & above) | ((ints)(x * 0.5f + 0.25f) & ~above));
            n = (n * 5 + (words)above) ^ (n >> 3);
            v[k] = __builtin_shufflevector(t, t, 1, 0, 3, 2, 7, 6, 5, 4);
            counts[k] = n + (words) __builtin_convertvector(t * 16, ints);
        }
    return fold(fold(0, v, sizeof(v)), counts, sizeof(counts));
}

__attribute__((target("avx2"))) static u32 wide_avx2(void)
{
    return wide_vectors();
}

static u32 wide_sse2(void)
{
    return wide_vectors();
}

static u32 wide(void)
{
    return __builtin_cpu_supports("avx2") ? wide_avx2() : wide_sse2();
}

const struct workload vector_work[] = {
    {"sse2-int", sse2_integer},
    {"sse2-double", sse2_double},
    {"avx", wide},
    {0},
};
