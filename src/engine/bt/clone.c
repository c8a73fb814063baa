/*
 * Code that is found at another linear address than before (a shared library in another process, a
 * program loaded anywhere) is not translated again: the fragment that was made of it is copied, and
 * what depends on the address or on the copy's place is put right. Translation notes where that is
 * (reloc_add). The bytes need not be looked at: a fragment that is alive is what they say.
 */
#include "engine/bt/tcache.h"
#include "engine/sem/sem_exec.h"
#include "mem/access.h"

struct clone {
    struct tcache *tc;
    const struct fragment *from;
    struct fragment *f;
    u64 rip;        /* added to what is made from RIP */
    ptrdiff_t code; /* added to host addresses */
    bool wide;
};

/* False: the new value has no room. */
static bool relocate_rip(const struct clone *c, u8 *at, unsigned kind)
{
    u64 old = kind == RELOC_RIP_S32 ? (u64)(i64)(i32)load_le(at, 4) : load_le(at, 4);
    u64 value = old + c->rip;
    if (!c->wide)
        value = (u32)value;
    else if (value != (kind == RELOC_RIP_S32 ? (u64)(i64)(i32)value : (u32)value))
        return false;
    store_le(at, value, 4);
    return true;
}

/* The operand of a comparison with the exec TLB. */
static void relocate_exec(const struct clone *c, u8 *at)
{
    size_t first = VCPU_AT(l1) + offsetof(struct tlb_entry, exec) +
                   c->tc->key[c->f->key].ctx * TUNE_TLB_L1_ENTRIES * sizeof(struct tlb_entry);
    size_t index = (load_le(at, 4) - first) / sizeof(struct tlb_entry);
    index = (index + (c->rip >> PAGE_SHIFT)) % TUNE_TLB_L1_ENTRIES;
    store_le(at, first + index * sizeof(struct tlb_entry), 4);
}

static bool relocate(const struct clone *c, const struct reloc *r)
{
    u8 *at = c->f->code + r->at;
    switch (r->kind) {
    case RELOC_SITE:
        store_le(at, load_le(at, 4) - c->from->first_site + c->f->first_site, 4);
        return true;
    case RELOC_EXIT:
        store_le(at, load_le(at, 4) - c->from->first_exit + c->f->first_exit, 4);
        return true;
    case RELOC_THUNK:
        store_le(at, load_le(at, 4) - (u64)c->code, 4);
        return true;
    case RELOC_EXEC:
        relocate_exec(c, at);
        return true;
    case RELOC_RIP_64:
        store_le(at, load_le(at, 8) + c->rip, 8);
        return true;
    default:
        return relocate_rip(c, at, r->kind);
    }
}

static bool copy_code(struct clone *c)
{
    const struct fragment *from = c->from;
    memcpy(c->f->code, from->code, (size_t)(from->end - from->code));
    for (u32 n = 0; n < from->relocs; n++)
        if (!relocate(c, &c->tc->reloc[from->first_reloc + n]))
            return false;
    return true;
}

static u8 *moved(const struct clone *c, u8 *p)
{
    return p ? p + c->code : NULL;
}

/* An exit as it was before it was linked. False: it can't lead there. */
static bool copy_exit(struct clone *c, const struct exit *from, struct exit *x)
{
    const struct bt_key *key = &c->tc->key[c->f->key];
    *x = *from;
    x->from = c->f;
    x->rip = c->wide ? x->rip + c->rip : (u32)(x->rip + c->rip);
    x->jump = moved(c, x->jump);
    x->sig = moved(c, x->sig);
    x->check = moved(c, x->check);
    x->fail = moved(c, x->fail);
    x->stub = moved(c, x->stub);
    if (x->poll)
        x->poll = x->poll - c->from->first_trap + c->f->first_trap;
    x->to = NULL;
    x->to_next = NULL;
    x->to_at = NULL;
    exit_reset(x);
    if (x->sig)
        store_le(x->sig, 0, 8);
    return c->wide ? canonical(x->rip) : x->rip <= key->cs_limit;
}

static bool copy_records(struct clone *c)
{
    struct tcache *tc = c->tc;
    const struct fragment *from = c->from;
    struct fragment *f = c->f;
    for (u32 n = 0; n < from->exits; n++)
        if (!copy_exit(c, &tc->exit[from->first_exit + n], &tc->exit[f->first_exit + n]))
            return false;
    for (u32 n = 0; n < from->sites; n++) {
        struct site *s = &tc->site[f->first_site + n];
        *s = tc->site[from->first_site + n];
        s->f = f;
        s->retry = moved(c, s->retry);
        s->next = moved(c, s->next);
        s->misses = 0;
    }
    for (u32 n = 0; n < from->traps; n++) {
        const struct trap *t = &tc->trap[from->first_trap + n];
        tc->trap[f->first_trap + n] =
            (struct trap){.pc = t->pc + (u32)c->code, .to = t->to + (u32)c->code};
    }
    return true;
}

static void make_fragment(struct clone *c, u64 rip)
{
    struct tcache *tc = c->tc;
    const struct fragment *from = c->from;
    *c->f = *from;
    c->f->rip = rip;
    c->f->code = tc->next;
    c->f->end = moved(c, from->end);
    c->f->entry_flags = moved(c, from->entry_flags);
    c->f->entry_image = moved(c, from->entry_image);
    c->f->linked = NULL;
    c->f->first_exit = tc->exits;
    c->f->first_site = tc->sites;
    c->f->first_trap = tc->traps;
    c->f->first_reloc = c->f->relocs = 0;
    c->f->clonable = false;
    c->f->own = &tc->exit[tc->exits + (from->own - &tc->exit[from->first_exit])];
}

/* Are the instructions at the new address within what RIP may be? */
static bool fits(const struct vcpu *v, const struct fragment *from)
{
    u64 last = sem_last_ip(v);
    return v->rip >= from->before && v->rip <= last && last - v->rip >= from->bytes - 1u;
}

struct fragment *bt_clone(struct bt *bt, struct vcpu *v, const struct fragment *from)
{
    struct tcache *tc = bt->tc;
    struct clone c = {.tc = tc,
                      .from = from,
                      .f = &tc->fragment[tc->fragments],
                      .rip = v->rip - from->rip,
                      .code = tc->next - from->code,
                      .wide = v->mode == MODE_LONG64};
    if (bt->dump || !fits(v, from))
        return NULL;
    make_fragment(&c, v->rip);
    if (!copy_code(&c) || !copy_records(&c))
        return NULL;
    tc->exits += from->exits;
    tc->sites += from->sites;
    tcache_add(tc, c.f);
    return c.f;
}
