/*
 * Keeps copies of what was translated, for `ringer translate`. The copy is made when the fragment
 * is complete and nothing leads out of it yet, so that it shows what the translator wrote.
 */
#include "engine/bt/dump.h"

#include <stdlib.h>

#include "engine/bt/trans.h"

static void copy_insns(struct dump_tu *tu, const struct trans *t)
{
    for (unsigned n = 0; n < tu->insns; n++)
        tu->insn[n] = (struct dump_insn){.insn = t->insn[n],
                                         .rip = off_rip(t, t->off[n]),
                                         .host = (u32)(t->host[n] - t->f->code)};
}

static void copy_exits(struct dump_tu *tu, const struct trans *t)
{
    const struct fragment *f = t->f;
    for (u32 n = f->first_exit; n < f->first_exit + f->exits; n++) {
        const struct exit *x = &t->tc->exit[n];
        if (x->jump)
            tu->exit[tu->exits++] =
                (struct dump_exit){.at = (u32)(x->jump - f->code), .rip = x->rip};
    }
}

void dump_fragment(struct bt_dump *d, const struct trans *t)
{
    const struct fragment *f = t->f;
    struct dump_tu *more = realloc(d->tu, (d->count + 1) * sizeof(*more));
    if (!more) {
        d->failed = true;
        return;
    }
    d->tu = more;
    struct dump_tu *tu = &more[d->count++];
    *tu = (struct dump_tu){.rip = f->rip,
                           .insns = t->emitted,
                           .slow_paths = f->sites,
                           .size = (u32)(f->end - f->code),
                           .body_end = (u32)(t->host[t->emitted] - f->code),
                           .cold = (u32)(t->cold_code - f->code)};
    tu->insn = calloc(tu->insns, sizeof(*tu->insn));
    tu->exit = calloc(f->exits, sizeof(*tu->exit));
    tu->code = malloc(tu->size);
    if (!tu->insn || !tu->exit || !tu->code) {
        tu->insns = tu->size = tu->cold = tu->body_end = 0;
        d->failed = true;
        return;
    }
    copy_insns(tu, t);
    copy_exits(tu, t);
    memcpy(tu->code, f->code, tu->size);
}

void bt_dump_to(void *engine, struct bt_dump *d)
{
    ((struct bt *)engine)->dump = d;
}

bool bt_dump_at(void *engine, struct vcpu *v, u64 rip)
{
    struct tcache *tc = ((struct bt *)engine)->tc;
    volatile bool found = false;
    v->rip = rip;
    tcache_enter(tc);
    if (setjmp(v->unwind) == UNWIND_NONE) {
        bt_update_key(v);
        found = bt_find(v) != NULL;
    }
    tcache_leave(tc);
    return found;
}

const char *bt_dump_field(i64 disp)
{
    static const struct {
        size_t at, size;
        const char *name;
    } fields[] = {
        {VCPU_AT(gpr), sizeof(((struct vcpu *)0)->gpr), "guest register"},
        {VCPU_AT(seg), sizeof(((struct vcpu *)0)->seg), "segment"},
        {VCPU_AT(l1), sizeof(((struct vcpu *)0)->l1), "TLB"},
        {BT_AT(poll), sizeof(u64), "events"},
        {BT_AT(jump_mask), sizeof(u32), "events"},
        {BT_AT(operand), sizeof(u64), "operand"},
        {BT_AT(stack_page), sizeof(((struct bt_cpu *)0)->stack_page), "stack page"},
        {BT_AT(span), sizeof(((struct bt_cpu *)0)->span), "span"},
        {BT_AT(jump), sizeof(((struct bt_cpu *)0)->jump), "jump table"},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(fields); n++)
        if (disp >= (i64)fields[n].at && disp < (i64)(fields[n].at + fields[n].size))
            return fields[n].name;
    return NULL;
}

void bt_dump_free(struct bt_dump *d)
{
    for (unsigned n = 0; n < d->count; n++) {
        free(d->tu[n].insn);
        free(d->tu[n].exit);
        free(d->tu[n].code);
    }
    free(d->tu);
    *d = (struct bt_dump){0};
}
