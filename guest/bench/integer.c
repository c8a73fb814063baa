/*
 * Integer workloads: arithmetic, data structures, calls and branches of the kinds that programs are
 * made of; interp.c has one more.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define SIEVE_SIZE 200000

static u32 sieve(void)
{
    static bool composite[SIEVE_SIZE];
    u32 primes = 0;
    memset(composite, 0, sizeof(composite));
    for (u32 n = 2; n < SIEVE_SIZE; n++) {
        if (composite[n])
            continue;
        primes++;
        for (u64 m = (u64)n * n; m < SIEVE_SIZE; m += n)
            composite[m] = true;
    }
    return primes;
}

static int compare(const void *a, const void *b)
{
    u32 x = *(const u32 *)a, y = *(const u32 *)b;
    return (x > y) - (x < y);
}

static u32 sort(void)
{
    static u32 numbers[8192];
    u32 seed = 1, sum = 0;
    for (u32 k = 0; k < 8192; k++)
        numbers[k] = next_random(&seed);
    qsort(numbers, 8192, sizeof(numbers[0]), compare);
    for (u32 k = 0; k < 8192; k += 64)
        sum = sum * 31 + numbers[k];
    return sum;
}

static u32 crc(void)
{
    static u32 table[256];
    for (u32 n = 0; n < 256; n++) {
        u32 c = n;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? 0xedb88320 ^ c >> 1 : c >> 1;
        table[n] = c;
    }
    u32 c = ~0U;
    for (u32 n = 0; n < 250000; n++)
        c = table[(c ^ n) & 0xff] ^ c >> 8;
    return ~c;
}

/* Rotations, additions and exclusive ors with nothing in between. */
static u32 mix(void)
{
    u32 a = 1, b = 2, c = 3, d = 4;
    for (u32 n = 0; n < 120000; n++) {
        a += b, d = (d ^ a) << 16 | (d ^ a) >> 16;
        c += d, b = (b ^ c) << 12 | (b ^ c) >> 20;
        a += b, d = (d ^ a) << 8 | (d ^ a) >> 24;
        c += d, b = (b ^ c) << 7 | (b ^ c) >> 25;
    }
    return a ^ b ^ c ^ d;
}

static u32 divide(void)
{
    u32 seed = 7, sum = 0;
    for (u32 n = 0; n < 10000; n++) {
        u64 a = (u64)next_random(&seed) << 20 | 1, b = next_random(&seed) | 1;
        for (int step = 0; step < 6 && b; step++) {
            u64 r = a % b;
            a = b, b = r;
        }
        sum += (u32)a;
    }
    return sum;
}

/* --- data structures --- */

struct node {
    struct node *left, *right;
    u32 key;
};

static void insert(struct node **root, u32 key)
{
    while (*root)
        root = key < (*root)->key ? &(*root)->left : &(*root)->right;
    *root = calloc(1, sizeof(**root));
    if (!*root)
        abort();
    (*root)->key = key;
}

static u32 free_tree(struct node *n, u32 depth)
{
    if (!n)
        return 0;
    u32 sum = depth * n->key + free_tree(n->left, depth + 1) + free_tree(n->right, depth + 1);
    free(n);
    return sum;
}

static u32 tree(void)
{
    struct node *root = NULL;
    u32 seed = 3;
    for (u32 n = 0; n < 6000; n++)
        insert(&root, next_random(&seed));
    return free_tree(root, 1);
}

/* Words are counted in a hash table with chains, as compilers keep their names. */
#define WORDS   3000
#define BUCKETS 4096

struct word {
    struct word *next;
    u32 count;
    char text[16];
};

static struct word *look_up(struct word **bucket, struct word *unused, const char *text)
{
    u32 h = 2166136261u; /* FNV-1a */
    for (const char *c = text; *c; c++)
        h = (h ^ (unsigned char)*c) * 16777619u;
    struct word **at = &bucket[h % BUCKETS];
    for (struct word *w = *at; w; w = w->next)
        if (strcmp(w->text, text) == 0)
            return w;
    strcpy(unused->text, text);
    unused->count = 0;
    unused->next = *at;
    *at = unused;
    return unused;
}

static u32 hash(void)
{
    static struct word *bucket[BUCKETS], words[WORDS];
    static char text[WORDS][16];
    u32 seed = 11, used = 0, sum = 0;
    memset(bucket, 0, sizeof(bucket));
    for (u32 n = 0; n < WORDS; n++) {
        u32 length = 3 + next_random(&seed) % 10;
        memset(text[n], 0, sizeof(text[n]));
        for (u32 k = 0; k < length; k++)
            text[n][k] = (char)('a' + next_random(&seed) % 26);
    }
    for (u32 n = 0; n < 12000; n++) {
        u32 r = next_random(&seed) % WORDS;
        struct word *w = look_up(bucket, &words[used], text[r * (u64)r / WORDS]);
        used += w->count++ == 0;
    }
    for (u32 n = 0; n < used; n++)
        sum = sum * 31 + words[n].count;
    return sum;
}

/* A random cycle through more memory than first-level caches and small TLBs hold. */
#define LIST_NODES 65536

static u32 list(void)
{
    static u32 next[LIST_NODES];
    if (!next[0]) {
        u32 seed = 5;
        for (u32 n = 0; n < LIST_NODES; n++)
            next[n] = n;
        for (u32 n = LIST_NODES - 1; n > 0; n--) { /* Sattolo: one cycle */
            u32 other = next_random(&seed) % n, t = next[n];
            next[n] = next[other];
            next[other] = t;
        }
    }
    u32 at = 0, sum = 0;
    for (u32 n = 0; n < 150000; n++) {
        at = next[at];
        sum += at;
    }
    return sum;
}

/* --- control flow --- */

__attribute__((noinline)) static u32 fibonacci(u32 n)
{
    __asm__("" : "+r"(n)); /* or the compiler makes loops of the recursion */
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static u32 calls(void)
{
    return fibonacci(24);
}

#define TARGET(n, expression)                                                                      \
    __attribute__((noinline)) static u32 target##n(u32 x)                                          \
    {                                                                                              \
        return expression;                                                                         \
    }
TARGET(0, x + 1)
TARGET(1, x * 3)
TARGET(2, x ^ 0x55)
TARGET(3, x - 7)
TARGET(4, x << 1)
TARGET(5, x >> 1)
TARGET(6, ~x)
TARGET(7, x | 4)

static u32 indirect(void)
{
    static u32 (*const volatile targets[])(u32) = {target0, target1, target2, target3,
                                                   target4, target5, target6, target7};
    u32 seed = 9, x = 1;
    for (u32 n = 0; n < 120000; n++)
        x = targets[next_random(&seed) & 7](x);
    return x;
}

const struct workload integer_work[] = {
    {"sieve", sieve},   {"sort", sort},         {"crc", crc},       {"mix", mix},
    {"divide", divide}, {"tree", tree},         {"hash", hash},     {"list", list},
    {"calls", calls},   {"indirect", indirect}, {"interp", interp}, {0},
};
