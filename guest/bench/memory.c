/*
 * Memory workloads: the C library's block and string functions, which it picks for the processor.
 */
#include <string.h>

#include "bench.h"

static u32 copy(void)
{
    static unsigned char a[65536], b[65536];
    a[0]++;
    for (u32 n = 0; n < 60; n++) {
        memcpy(b, a, sizeof(a));
        for (u32 at = 0; at < 8192; at += 97)
            memcpy(a + at, b + at + 50000 - 5 * n, 33 + n);
        memset(a + 1000, (int)n, 10000);
    }
    return b[1000];
}

static u32 strings(void)
{
    char text[4096];
    u32 words = 0, seed = 11;
    for (u32 k = 0; k < sizeof(text) - 1; k++)
        text[k] = (char)(next_random(&seed) % 6 ? 'a' + (char)(seed % 26) : ' ');
    text[sizeof(text) - 1] = 0;
    for (u32 n = 0; n < 8; n++) {
        for (const char *at = text; *at; at += strspn(at, " ")) {
            size_t length = strcspn(at, " ");
            words += length > 3 && memchr(at, 'e', length) != NULL;
            at += length;
        }
        words += (u32)(strlen(text) + (strstr(text, "zyx") != NULL));
        char *from = strchr(text + n, 'a');
        if (from)
            *from = 'b';
    }
    return words;
}

const struct workload memory_work[] = {
    {"memcpy", copy},
    {"strings", strings},
    {0},
};
