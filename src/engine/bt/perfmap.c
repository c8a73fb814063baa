/*
 * Names translated code for perf(1): lines "start size name" in /tmp/perf-PID.map, where perf looks
 * for the symbols of code that no file holds. A fragment is named after the guest's RIP. When the
 * cache is thrown away its addresses are named anew by later lines; what perf recorded before then
 * gets wrong names.
 */
#include "engine/bt/perfmap.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LINES_PER_FLUSH 256

struct perf_map {
    FILE *file;
    unsigned lines;
};

static void add(struct perf_map *p, const struct tcache *tc, const u8 *from, const u8 *to,
                const char *name)
{
    fprintf(p->file, "%" PRIxPTR " %tx bt:%s\n", (uintptr_t)tcache_rx(tc, from), to - from, name);
}

/* Each of the shared pieces goes to where the next one begins. */
static void add_thunks(struct perf_map *p, const struct tcache *tc)
{
    const struct thunks *t = &tc->thunks;
    const struct {
        const u8 *from;
        const char *name;
    } piece[] = {{t->enter, "enter"},
                 {t->slow[0], "slow"},
                 {t->slow[1], "slow64"},
                 {t->leave[0], "leave"},
                 {t->leave[1], "leave64"}};
    for (unsigned n = 0; n < ARRAY_SIZE(piece); n++) {
        const u8 *to = tc->first;
        for (unsigned k = 0; k < ARRAY_SIZE(piece); k++)
            if (piece[k].from > piece[n].from && piece[k].from < to)
                to = piece[k].from;
        add(p, tc, piece[n].from, to, piece[n].name);
    }
    fflush(p->file);
}

/* Appends: a guest may come back to this engine. */
int perf_map_create(const struct tcache *tc, struct perf_map **out, struct error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
    struct perf_map *p = calloc(1, sizeof(*p));
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    int code = errno;
    if (p && fd >= 0)
        p->file = fdopen(fd, "a");
    if (!p || !p->file) {
        free(p);
        if (fd >= 0)
            close(fd);
        return error_errno(err, fd < 0 ? code : ENOMEM, "--perf-map: cannot write %s", path);
    }
    add_thunks(p, tc);
    *out = p;
    return 0;
}

void perf_map_destroy(struct perf_map *p)
{
    if (!p)
        return;
    fclose(p->file);
    free(p);
}

void perf_map_add(struct perf_map *p, const struct tcache *tc, const struct fragment *f)
{
    char name[24];
    snprintf(name, sizeof(name), "%" PRIx64, f->rip);
    add(p, tc, f->code, f->end, name);
    if (++p->lines % LINES_PER_FLUSH == 0)
        fflush(p->file);
}
