/*
 * Memory operands in the mirror (mirror.c): nothing is looked up. In 32-bit code the host's operand
 * is the guest's own, whose sum the host cuts off at 4 GiB as the guest's processor does (67h), so
 * that no check is left. In 64-bit code a register of the address is compared with the ends of one
 * of the mirror's regions. What it was found to be stays true while it is only stepped; the rest of
 * an address is small against what lies around a region and is never mapped.
 *
 * What is not shown is a fault of the host at the access itself, which so must come before all that
 * the instruction changes.
 */
#include "engine/bt/mem_scheme.h"

/* --- 64-bit registers --- */

/* Registers are followed as sets. Those that are small have a value below 2^34, of either sign.
 * Those that are in a region have one in it, or up to MIRROR_SLACK beside it for what the TU's
 * instructions may have added since it was compared. */
#define STEP_MAX BIT(20)

static bool has_all(u16 set, unsigned reg)
{
    return reg == REG_NONE || (reg < 16 && set & BIT(reg));
}

static void put(u16 *set, unsigned reg, bool in)
{
    *set = (u16)(in ? *set | BIT(reg) : *set & ~BIT(reg));
}

/* The small ones are beside the beginning of the lowest. */
static u16 in_region(const struct trans *t, unsigned region)
{
    return t->in[region] | (region == REGION_LOW ? t->small : 0);
}

static bool is_step(const struct insn *i)
{
    i64 by = (i32)i->imm;
    return i->op == OP_INC || i->op == OP_DEC ||
           (i->opd[1].kind == OPD_IMM && by < (i64)STEP_MAX && by > -(i64)STEP_MAX);
}

/* Has the 64-bit register that is operand 0 become small? */
static bool becomes_small(const struct trans *t, const struct insn *i)
{
    const struct operand *from = &i->opd[1];
    switch (i->op) {
    case OP_MOV:
        return from->kind == OPD_IMM ? i->imm <= 0xffffffff
                                     : from->kind == OPD_GPR && has_all(t->small, from->reg);
    case OP_MOVZX:
    case OP_MOVSX:
    case OP_MOVSXD:
        return true;
    case OP_AND:
        return from->kind == OPD_IMM && (i32)i->imm >= 0;
    case OP_ADD:
    case OP_SUB:
    case OP_INC:
    case OP_DEC:
        return is_step(i) && has_all(t->small, i->opd[0].reg);
    default:
        return false;
    }
}

/* Is it in the region whose registers are these? */
static bool comes_into(const struct trans *t, const struct insn *i, u16 set)
{
    const struct operand *from = &i->opd[1];
    switch (i->op) {
    case OP_MOV:
        return from->kind == OPD_GPR && has_all(set, from->reg);
    case OP_ADD:
    case OP_SUB:
    case OP_INC:
    case OP_DEC:
        return has_all(set, i->opd[0].reg) &&
               (is_step(i) || from->kind == OPD_IMM ||
                (from->kind == OPD_GPR && has_all(t->small, from->reg)));
    case OP_LEA:
        return i->addrsize == 8 && i->base < 16 && has_all(set, i->base) &&
               has_all(t->small, i->index);
    default:
        return false;
    }
}

/* Does it only step RSP, beside what its operand tells? */
static bool steps_stack(const struct insn *i)
{
    switch (i->op) {
    case OP_PUSH:
    case OP_CALL:
    case OP_CALL_IND:
    case OP_RET:
        return true;
    case OP_POP:
        return i->opd[0].kind != OPD_GPR || i->opd[0].reg != RSP;
    default:
        return false;
    }
}

/* Does a 32-bit operation always write its register, all 64 bits of it? Some processors leave it
 * alone when there is nothing to do. */
static bool always_writes(const struct insn *i)
{
    switch (i->op) {
    case OP_BSF:
    case OP_BSR:
    case OP_CMPXCHG:
    case OP_SHLD:
    case OP_SHRD:
    case OP_RCL:
    case OP_RCR:
        return false;
    case OP_ROL:
    case OP_ROR:
    case OP_SHL:
    case OP_SHR:
    case OP_SAR:
        return i->opd[1].kind == OPD_IMM && i->imm & 31;
    default:
        return i->cls == CLASS_IDENT;
    }
}

/* Registers whose sets the instruction leaves: parts of a register don't matter, and what is 32
 * bits is small. */
static u16 left_sets(struct trans *t, const struct insn *i)
{
    const struct facts *f = &t->facts[t->cur];
    u16 left = f->modifies;
    if (f->callout)
        return 0xffff;
    for (unsigned n = 0; n < i->nopd; n++) {
        const struct operand *o = &i->opd[n];
        bool gpr = o->kind == OPD_GPR;
        if (!(o->access & OPD_WRITE) || !(gpr || o->kind == OPD_GPR8H) || o->size == 8 ||
            (o->size == 4 && !always_writes(i)))
            continue;
        put(&left, o->reg, false);
        if (o->size < 4)
            continue;
        t->small |= (u16)BIT(o->reg);
        for (unsigned region = 0; region < MIRROR_REGIONS; region++)
            put(&t->in[region], o->reg, false);
    }
    if (steps_stack(i))
        put(&left, RSP, false);
    return left;
}

void mirror_follow(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    bool small = false, in[MIRROR_REGIONS] = {false};
    if (!t->wide || !(t->key.bits & KEY_MIRROR))
        return;
    const struct operand *to = &i->opd[0];
    bool one = i->nopd && to->kind == OPD_GPR && to->access & OPD_WRITE && to->size == 8 &&
               !t->facts[t->cur].callout;
    if (one)
        small = becomes_small(t, i);
    for (unsigned n = 0; one && n < MIRROR_REGIONS; n++)
        in[n] = comes_into(t, i, in_region(t, n));
    u16 left = left_sets(t, i);
    t->small &= (u16)~left;
    for (unsigned n = 0; n < MIRROR_REGIONS; n++) {
        t->in[n] &= (u16)~left;
        if (one)
            put(&t->in[n], to->reg, in[n]);
    }
    if (one)
        put(&t->small, to->reg, small);
}

/* --- which --- */

/* Does nothing that the guest sees change before its access, and are the flags as they were? */
static bool is_undone_by_fault(const struct trans *t, const struct insn *i)
{
    switch (i->op) {
    case OP_CMPXCHG:
    case OP_CMPXCHG8B:
    case OP_CMPXCHG16B:
        return false;
    default:
        break;
    }
    for (unsigned n = 0; n < i->nopd; n++)
        if (i->opd[n].kind == OPD_GPR8H)
            return false;
    return lowerers[t->facts[t->cur].lowerer].lower != lower_system;
}

static bool is_constant(const struct addr *a)
{
    return a->base == REG_NONE && a->index == REG_NONE;
}

static bool mirror_fits(const struct trans *t, const struct request *r)
{
    const struct addr *a = &r->addr;
    if (!t->extend || !(t->key.bits & KEY_MIRROR) || a->operand ||
        learned_at(t, cur_insn(t)) & LEARNED_UNMIRRORED || seg_has_base(t, a->seg) ||
        seg_limited(t, a->seg) || a->size != (t->wide ? 8 : 4) ||
        !is_undone_by_fault(t, cur_insn(t)))
        return false;
    return !t->wide || !is_constant(a) || mirror_region((u64)a->disp) < MIRROR_REGIONS;
}

/* The region that the access most likely goes to: where it was found to, or where its base is known
 * to be, or the stack, or where programs have their data. */
static unsigned likely_region(const struct trans *t, const struct addr *a)
{
    unsigned learned = learned_at(t, cur_insn(t)) / LEARNED_REGION;
    if (is_constant(a))
        return mirror_region((u64)a->disp);
    if (learned)
        return learned - 1;
    for (unsigned n = 0; n < MIRROR_REGIONS; n++)
        if (a->base < 16 && has_all(in_region(t, n), a->base))
            return n;
    if (a->base == RSP)
        return REGION_TOP;
    return mirror_region(t->f->rip) == REGION_LOW ? REGION_LOW : REGION_PROGRAM;
}

/* What the spans of the same code without the mirror know is learned of its accesses. */
void mirror_learn(struct trans *t)
{
    struct tcache *tc = t->tc;
    struct bt_key key = t->key;
    key.bits &= (u8)~KEY_MIRROR;
    const struct fragment *f = tcache_find(tc, t->f->gpa, t->f->rip, tcache_key(tc, &key));
    for (u32 n = 0; f && n < f->sites; n++) {
        const struct site *s = &tc->site[f->first_site + n];
        u16 *learned = &tc->learned[tcache_learned_hash(site_gpa(s))];
        if (s->span == NO_SPAN || !bt_cpu(t->v)->span[s->span].start || *learned / LEARNED_REGION)
            continue;
        unsigned region = mirror_region(bt_cpu(t->v)->span[s->span].start);
        if (region < MIRROR_REGIONS)
            *learned |= (u16)(LEARNED_REGION * (1 + region));
    }
}

/* --- code --- */

/* C looks at what it finds at a host's fault, or beside the region, and executes the instruction.
 */
static unsigned new_look(struct trans *t, const struct request *r, bool outside)
{
    unsigned n = new_miss(t, NULL, r, NO_SPAN);
    struct site *s = &t->tc->site[t->cold[n].site];
    s->kind = SITE_MIRROR;
    s->outside = outside;
    s->leads |= outside; /* the registers are not what the code behind it counts on */
    return n;
}

static struct hmem region_field(unsigned region, size_t field)
{
    return hmem_vcpu(BT_AT(mirror_region) + region * sizeof(struct mirror_region) + field);
}

static void compare(struct trans *t, const struct request *r, unsigned region, unsigned reg)
{
    struct hmem start = region_field(region, offsetof(struct mirror_region, start)),
                last = region_field(region, offsetof(struct mirror_region, last));
    u8 *below = NULL;
    flags_clobber(t);
    if (region != REGION_LOW) {
        emit_alu_load(&t->e, ALU_CMP, 8, reg, &start);
        below = emit_jcc(&t->e, 2, NULL);
    }
    emit_alu_load(&t->e, ALU_CMP, 8, reg, &last);
    u8 *above = emit_jcc(&t->e, 7, NULL);
    struct cold *c = &t->cold[new_look(t, r, true)];
    c->from[0] = above;
    c->from[1] = below;
}

static struct hmem guest_operand(const struct addr *a)
{
    return (struct hmem){.base = a->base == REG_NONE ? H_NONE : (u8)host_reg(a->base),
                         .index = a->index == REG_NONE ? H_NONE : (u8)host_reg(a->index),
                         .scale = (u8)a->scale,
                         .disp = (i32)a->disp};
}

/* T0 = host minus guest address in the region. */
static void load_addend(struct trans *t, unsigned region)
{
    struct hmem addend = region_field(region, offsetof(struct mirror_region, addend));
    if (t->e.t0_lost || t->t0_slot != T0_REGION + region)
        emit_load(&t->e, 8, H_T0, &addend);
    t->t0_slot = T0_REGION + region;
    t->e.t0_lost = false;
}

static struct hmem constant_operand(struct trans *t, const struct addr *a)
{
    unsigned region = mirror_region((u64)a->disp);
    if (region == REGION_LOW && !a->rip && fits32(a->disp))
        return hmem_base(H_NONE, a->disp);
    emit_mov_imm(&t->e, H_T1, (u64)a->disp + mirror_regions[region].addend);
    return hmem_base(H_T1, 0);
}

static struct hmem operand_64(struct trans *t, const struct request *r)
{
    const struct addr *a = &r->addr;
    if (is_constant(a))
        return constant_operand(t, a);
    unsigned region = likely_region(t, a);
    bool sum = homed(a->base) || homed(a->index) || !has_all(t->small, a->index);
    if (sum) {
        flags_clobber(t);
        emit_lin(t, a, H_T1, 0);
        compare(t, r, region, H_T1);
    } else if (a->base == REG_NONE) { /* an index that is small */
        region = REGION_LOW;
    } else if (!has_all(in_region(t, region), a->base)) {
        compare(t, r, region, host_reg(a->base));
        put(&t->in[region], a->base, true);
    }
    if (region == REGION_LOW)
        return sum ? hmem_base(H_T1, 0) : guest_operand(a);
    load_addend(t, region);
    struct hmem m = hmem_sum(H_T0, H_T1, 0);
    if (!sum)
        host_operand(t, a, true, &m);
    return m;
}

static void mirror_access(struct trans *t, const struct request *r, struct hmem *m)
{
    *r->plan = (struct plan){0};
    if (t->wide) {
        *m = operand_64(t, r);
    } else {
        *m = guest_operand(&r->addr);
        m->cut = true;
    }
    m->guest = new_look(t, r, false) + 1;
}

const struct mem_scheme mem_mirror = {mirror_fits, mirror_access};

/* The instruction's own trap, if it has one, is the same. */
void mirror_touch(struct emit *e, u32 guest)
{
    struct trans *t = (struct trans *)(void *)((u8 *)e - offsetof(struct trans, e));
    struct cold *c = &t->cold[guest - 1];
    struct cold *last = &t->cold[t->colds - 1];
    u32 traps = t->f->first_trap + t->f->traps;
    if (c->trap) { /* a load and a store, say */
        struct site *s;
        assert(t->colds < COLD_MAX);
        u32 n = site_new(t, SITE_MIRROR, &s);
        *s = t->tc->site[c->site];
        t->cold[t->colds] = *c;
        c = &t->cold[t->colds++];
        c->site = n;
    }
    c->form = t->form;
    c->recipe = t->recipe;
    bool same =
        last->trap && last->trap == traps && t->tc->trap[traps - 1].pc == (u32)(e->p - t->tc->rw);
    c->trap = same ? traps : trap_add(t, e->p) + 1;
    if (same && last != c)
        last->trap = 0;
}
