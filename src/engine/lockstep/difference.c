/*
 * The text of a difference. Values stand in two columns, the reference's first.
 */
#include "engine/lockstep/difference.h"

#include <errno.h>
#include <inttypes.h>

#include "mem/access.h"

#define WORD 8u /* bytes of memory printed as one value */

static u64 gpa_of(const struct tlb *t, const u8 *p)
{
    u64 gpa = 0;
    tlb_ram_gpa(t, p, &gpa);
    return gpa;
}

static void print_line(const struct difference *d, const struct journal_line *l)
{
    for (unsigned n = 0; n < JOURNAL_LINE; n += WORD) {
        u64 want = load_le(l->after + n, WORD), got = load_le(l->p + n, WORD);
        if (want != got)
            fprintf(d->f, "  [gpa %09" PRIx64 "]  %016" PRIx64 "  %016" PRIx64 "\n",
                    gpa_of(d->v->tlb, l->p + n), want, got);
    }
}

static void print_memory(const struct difference *d)
{
    const struct journal *j = d->ref->v->journal;
    for (unsigned n = 0; n < j->lines; n++)
        if (!journal_line_matches(j, &j->line[n]))
            print_line(d, &j->line[n]);
}

int difference_open(struct difference *d)
{
    d->f = open_memstream(&d->text, &d->size);
    if (!d->f)
        return -ENOMEM;
    fprintf(d->f,
            "%s differs from %s after %u instructions of a block; %" PRIu64
            " instructions before it were the same\n"
            "  %-16s %-16s  %s\n",
            d->tested, d->reference, d->insns, d->compared, "", d->reference, d->tested);
    arch_print_differences(d->f, d->ref->v, d->v);
    print_memory(d);
    return 0;
}

static void list_insn(void *ctx, const struct vcpu *v, const struct insn *i)
{
    struct difference *d = ctx;
    char text[96], hex[48] = "";
    for (unsigned n = 0; n < i->len; n++)
        snprintf(hex + 3 * n, sizeof(hex) - 3 * n, "%02x ", i->raw[n]);
    insn_format(i, (enum cpu_mode)v->mode, v->rip, text, sizeof(text));
    fprintf(d->f, "%s %016" PRIx64 "  %-30s %s\n", d->listed++ < d->insns ? " " : ">", v->rip, hex,
            text);
}

void difference_list_block(struct difference *d)
{
    struct reference *r = d->ref;
    arch_load(r->v, d->before);
    reference_flush(r);
    fprintf(d->f, "before the block:\n");
    arch_print(d->f, r->v);
    fprintf(d->f, "the block (> was not completed):\n");
    r->trace = list_insn;
    r->trace_ctx = d;
    journal_clear(r->v->journal);
    reference_run(r, d->insns + 1);
    journal_undo(r->v, r->v->journal);
    r->trace = NULL;
    if (r->faulted)
        fprintf(d->f, "  %s takes a fault with vector %u, error code %x\n", d->reference,
                r->v->fault.vector, r->v->fault.error);
}

char *difference_close(struct difference *d)
{
    return fclose(d->f) == 0 ? d->text : NULL;
}
