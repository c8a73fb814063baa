/*
 * The journal of stores: whole lines, found again by a small filter, restored newest first so that
 * a line that is in it twice ends as it was at first.
 */
#include "mem/journal.h"

#include <stdlib.h>

#include "mem/access.h"

#define ACCESSED_DIRTY 0x60u /* in the low half of a page-table entry */

struct journal *journal_create(void)
{
    struct journal *j = calloc(1, sizeof(*j));
    if (!j)
        return NULL;
    j->max = TUNE_JOURNAL_LINES;
    j->line = malloc(j->max * sizeof(*j->line));
    if (!j->line) {
        free(j);
        return NULL;
    }
    journal_clear(j);
    return j;
}

void journal_destroy(struct journal *j)
{
    if (j)
        free(j->line);
    free(j);
}

void journal_clear(struct journal *j)
{
    j->lines = 0;
    j->refused = false;
    if (++j->epoch == 0) {
        memset(j->seen, 0, sizeof(j->seen));
        j->epoch = 1;
    }
}

_Noreturn void journal_refuse(struct vcpu *v, const char *what)
{
    v->journal->refused = true;
    vcpu_leave(v, 0, "%s in journaled code", what);
}

static void add_line(struct vcpu *v, u8 *p, bool walk)
{
    struct journal *j = v->journal;
    unsigned slot = (unsigned)((uintptr_t)p / JOURNAL_LINE % ARRAY_SIZE(j->seen));
    if (!walk && j->seen[slot].p == p && j->seen[slot].epoch == j->epoch)
        return;
    if (j->lines == j->max)
        journal_refuse(v, "too many stores");
    struct journal_line *l = &j->line[j->lines++];
    l->p = p;
    l->walk = walk;
    memcpy(l->before, p, JOURNAL_LINE);
    if (walk)
        return;
    j->seen[slot].p = p;
    j->seen[slot].epoch = j->epoch;
}

void journal_add(struct vcpu *v, const void *p, unsigned len, bool walk)
{
    uintptr_t at = (uintptr_t)p & ~(uintptr_t)(JOURNAL_LINE - 1), end = (uintptr_t)p + len;
    for (; at < end; at += JOURNAL_LINE)
        add_line(v, (u8 *)at, walk);
}

void journal_put(struct vcpu *v, u8 *p, const u8 bytes[JOURNAL_LINE])
{
    if (memcmp(p, bytes, JOURNAL_LINE) == 0)
        return;
    memcpy(p, bytes, JOURNAL_LINE);
    ram_written(v, p, JOURNAL_LINE);
}

void journal_undo(struct vcpu *v, struct journal *j)
{
    for (unsigned n = 0; n < j->lines; n++)
        memcpy(j->line[n].after, j->line[n].p, JOURNAL_LINE);
    for (unsigned n = j->lines; n > 0; n--)
        journal_put(v, j->line[n - 1].p, j->line[n - 1].before);
}

static bool walked(const struct journal *j, const u8 *p)
{
    for (unsigned n = 0; n < j->lines; n++)
        if (j->line[n].walk && j->line[n].p == p)
            return true;
    return false;
}

bool journal_line_matches(const struct journal *j, const struct journal_line *l)
{
    if (likely(memcmp(l->after, l->p, JOURNAL_LINE) == 0))
        return true;
    if (!walked(j, l->p))
        return false;
    for (unsigned n = 0; n < JOURNAL_LINE; n += 4)
        if ((load_le(l->after + n, 4) ^ load_le(l->p + n, 4)) & ~ACCESSED_DIRTY)
            return false;
    return true;
}

bool journal_matches(const struct journal *j)
{
    for (unsigned n = 0; n < j->lines; n++)
        if (!journal_line_matches(j, &j->line[n]))
            return false;
    return true;
}
