/*
 * Which memory accesses of a TU can share one check. Accesses relative to the same register value
 * (stack frames, fields of a structure) lie at known distances from each other; the first of them
 * checks the whole stretch for being in one page, and leaves what is to be added to an address in a
 * slot for the others, which then can't fault. Register values are followed through additions of
 * constants, copies, PUSH and POP. A group ends at a callout, behind which the TLB may be another,
 * and where FS or GS get another base.
 */
#include "engine/bt/trans.h"

#define MAX_STRETCH 512 /* bytes */

/* A register's value as what it was when the number `id` was given to it, plus off. */
struct value {
    u32 id;
    i64 off;
};

/* One access. */
struct access_place {
    u32 base, index; /* value numbers; 0: none */
    u8 scale, seg;
    u8 insn, which; /* which: as in trans.plan */
    bool write;
    i64 off;
    unsigned size;
    bool grouped;
};

struct tracker {
    struct value reg[16];
    u32 next_id;
    struct access_place place[2 * TU_MAX];
    unsigned places;
};

static void unknown(struct tracker *k, unsigned reg)
{
    k->reg[reg] = (struct value){k->next_id++, 0};
}

static unsigned natural(const struct trans *t)
{
    return t->wide ? 8 : 4;
}

/* --- what instructions do to register values --- */

static bool is_gpr(const struct trans *t, const struct operand *o)
{
    return o->kind == OPD_GPR && o->size == natural(t);
}

/* Is it an instruction that changes its destination by a constant? */
static bool adds_constant(const struct trans *t, const struct insn *i)
{
    if (!is_gpr(t, &i->opd[0]))
        return false;
    return i->op == OP_INC || i->op == OP_DEC ||
           ((i->op == OP_ADD || i->op == OP_SUB) && i->opd[1].kind == OPD_IMM);
}

static i64 added(const struct insn *i)
{
    i64 by = i->nopd > 1 ? (i32)i->imm : 1;
    return i->op == OP_SUB || i->op == OP_DEC ? -by : by;
}

static bool copies(const struct trans *t, const struct insn *i, struct value *v,
                   const struct tracker *k)
{
    if (i->op == OP_MOV && is_gpr(t, &i->opd[0]) && is_gpr(t, &i->opd[1])) {
        *v = k->reg[i->opd[1].reg];
        return true;
    }
    if (i->op == OP_LEA && i->base < 16 && i->index == REG_NONE && i->addrsize == natural(t) &&
        i->opsize == natural(t)) {
        *v = k->reg[i->base];
        v->off += (i32)i->disp;
        return true;
    }
    return false;
}

static bool is_push(const struct insn *i)
{
    return i->op == OP_PUSH || i->op == OP_PUSHF || i->op == OP_PUSHFD || i->op == OP_PUSHFQ ||
           i->op == OP_PUSH_SEG;
}

static bool is_pop(const struct insn *i)
{
    return i->op == OP_POP || i->op == OP_POPF || i->op == OP_POPFD || i->op == OP_POPFQ;
}

static void follow(const struct trans *t, struct tracker *k, const struct insn *i,
                   const struct facts *f)
{
    struct value v, sp = k->reg[RSP];
    if (adds_constant(t, i)) {
        k->reg[i->opd[0].reg].off += added(i);
        return;
    }
    if (copies(t, i, &v, k)) {
        k->reg[i->opd[0].reg] = v;
        return;
    }
    if ((is_push(i) || i->op == OP_CALL) && t->key.stack != 2) {
        k->reg[RSP].off -= i->opsize;
        return;
    }
    if (i->op == OP_LEAVE)
        sp = (struct value){k->reg[RBP].id, k->reg[RBP].off};
    bool pops_sp = i->op == OP_POP && i->opd[0].reg == RSP;
    for (unsigned r = 0; r < 16; r++)
        if (f->modifies & BIT(r))
            unknown(k, r);
    if ((is_pop(i) || i->op == OP_LEAVE || i->op == OP_RET) && !pops_sp && t->key.stack != 2)
        k->reg[RSP] =
            (struct value){sp.id, sp.off + i->opsize + (i->op == OP_RET ? (i->imm & 0xffff) : 0)};
}

/* --- the accesses --- */

static void add_place(struct tracker *k, unsigned n, unsigned which, const struct access_place *p)
{
    struct access_place *to = &k->place[k->places++];
    *to = *p;
    to->insn = (u8)n;
    to->which = (u8)which;
}

static void operand_place(const struct trans *t, struct tracker *k, unsigned n)
{
    const struct insn *i = &t->insn[n];
    for (unsigned o = 0; o < i->nopd; o++) {
        const struct operand *m = &i->opd[o];
        if (m->kind != OPD_MEM || !m->size || i->base >= 16 || i->addrsize != natural(t) ||
            seg_limited(t, i->seg) || i->cls == CLASS_STRING || is_hint(i) || is_bit_string(i))
            continue;
        const struct value *b = &k->reg[i->base];
        struct access_place p = {.base = b->id,
                                 .scale = i->scale,
                                 .seg = i->seg,
                                 .off = b->off + (i32)i->disp,
                                 .size = m->size,
                                 .write = (m->access & OPD_WRITE) != 0};
        if (i->index < 16) {
            p.index = k->reg[i->index].id;
            p.off += k->reg[i->index].off * (1 << i->scale);
        }
        add_place(k, n, 0, &p);
    }
}

static void stack_place(const struct trans *t, struct tracker *k, unsigned n)
{
    const struct insn *i = &t->insn[n];
    const struct value *b = &k->reg[i->op == OP_LEAVE ? RBP : RSP];
    bool push = is_push(i) || i->op == OP_CALL || i->op == OP_CALL_IND;
    if (!push && !is_pop(i) && i->op != OP_LEAVE && i->op != OP_RET)
        return;
    if (seg_limited(t, SEG_SS) || t->key.stack == 2)
        return;
    struct access_place p = {.base = b->id,
                             .seg = SEG_SS,
                             .off = b->off - (push ? i->opsize : 0),
                             .size = i->opsize,
                             .write = push};
    add_place(k, n, 1, &p);
}

/* --- groups --- */

static bool same_value(const struct trans *t, const struct access_place *a,
                       const struct access_place *b)
{
    bool seg = a->seg == b->seg ||
               (t->wide ? a->seg < SEG_FS && b->seg < SEG_FS
                        : t->key.flat_segs & BIT(a->seg) && t->key.flat_segs & BIT(b->seg));
    return seg && a->base == b->base && a->index == b->index && (!a->index || a->scale == b->scale);
}

/* The group that place n leads, if there are others in it. */
static void make_group(struct trans *t, struct tracker *k, unsigned n)
{
    struct access_place *first = &k->place[n];
    i64 low = first->off, high = first->off + first->size;
    unsigned members = 0;
    bool write = first->write;
    if (t->slots == BT_SLOTS || (first->write && t->bt->several))
        return;
    for (unsigned m = n + 1; m < k->places; m++) {
        struct access_place *p = &k->place[m];
        i64 l = MIN(low, p->off), h = MAX(high, p->off + (i64)p->size);
        if (p->grouped || !same_value(t, first, p) || h - l > MAX_STRETCH ||
            (p->write && t->bt->several))
            continue;
        low = l;
        high = h;
        write |= p->write;
        p->grouped = true;
        t->plan[p->insn][p->which] = (struct plan){.role = PLAN_MEMBER, .slot = (u8)t->slots};
        members++;
    }
    if (members)
        t->plan[first->insn][first->which] = (struct plan){.role = PLAN_LEADER,
                                                           .slot = (u8)t->slots++,
                                                           .write = write,
                                                           .low = (i16)(low - first->off),
                                                           .length = (u16)(high - low)};
}

/* Addresses by FS or GS mean others behind it. */
static bool changes_base(const struct insn *i)
{
    return i->op == OP_SWAPGS || i->op == OP_WRFSBASE || i->op == OP_WRGSBASE;
}

void groups_make(struct trans *t)
{
    struct tracker k;
    k.next_id = 1;
    k.places = 0;
    for (unsigned r = 0; r < 16; r++)
        unknown(&k, r);
    unsigned first = 0;
    for (unsigned n = 0; n <= t->n; n++) {
        if (n == t->n || t->facts[n].callout || changes_base(&t->insn[n])) {
            for (unsigned p = first; p < k.places; p++)
                if (!k.place[p].grouped)
                    make_group(t, &k, p);
            first = k.places;
            for (unsigned r = 0; r < 16; r++)
                unknown(&k, r);
            continue;
        }
        operand_place(t, &k, n);
        stack_place(t, &k, n);
        follow(t, &k, &t->insn[n], &t->facts[n]);
    }
}
