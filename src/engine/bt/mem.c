/*
 * Memory operands: what their linear address is made of, and which scheme lets the access through.
 * A scheme (mem_scheme.h) emits a check of the address and says what the host's operand is; an
 * address that fails the check leads to cold code that gives bt_slow() the linear address.
 */
#include "engine/bt/mem_scheme.h"

bool seg_has_base(const struct trans *t, unsigned seg)
{
    if (t->wide)
        return seg == SEG_FS || seg == SEG_GS;
    return !(t->key.flat_segs & BIT(seg));
}

bool seg_quick(const struct trans *t, unsigned seg)
{
    return t->wide || (seg < 6 && (t->key.quick_segs | t->key.limited_segs) & BIT(seg));
}

bool seg_limited(const struct trans *t, unsigned seg)
{
    return !t->wide && t->key.limited_segs & BIT(seg);
}

bool mem_quick(const struct trans *t, const struct insn *i)
{
    return seg_quick(t, i->seg);
}

static void insn_addr(const struct trans *t, const struct insn *i, struct addr *a)
{
    *a = (struct addr){i->base, i->index,    i->scale, i->disp,
                       i->seg,  i->addrsize, false,    is_bit_string(i)};
    if (i->base == REG_RIP) {
        a->rip = true;
        a->base = REG_NONE;
        a->disp += (i64)behind(t, i);
    }
    if (a->size < 8)
        a->disp = (i32)a->disp;
}

static struct hmem home(unsigned guest)
{
    return hmem_vcpu(VCPU_AT(gpr) + 8 * guest);
}

static struct hmem seg_field(unsigned seg, size_t field)
{
    return hmem_vcpu(VCPU_AT(seg) + seg * sizeof(struct segment) + field);
}

/* A register of an address: itself, or loaded from its home to tmp. */
static u8 addr_reg(struct trans *t, unsigned guest, unsigned tmp)
{
    if (guest == REG_NONE)
        return H_NONE;
    if (!homed(guest))
        return (u8)host_reg(guest);
    struct hmem from = home(guest);
    emit_load(&t->e, 8, tmp, &from);
    return (u8)tmp;
}

/* dst = base + index << scale + disp. tmp: a register that is free, for two homed ones, or H_NONE:
 * then the host's flags may be overwritten. dst must be none of the registers added up if one of
 * them is homed. */
static void emit_sum(struct trans *t, const struct addr *a, unsigned dst, i64 extra, unsigned tmp)
{
    struct emit *e = &t->e;
    unsigned size = a->size == 8 ? 8 : 4;
    i64 disp = size == 8 ? a->disp + extra : (i32)(a->disp + extra);
    bool two = homed(a->base) && homed(a->index);
    struct hmem sum = {.scale = (u8)a->scale, .disp = (i32)disp};
    sum.index = addr_reg(t, a->index, dst);
    sum.base = two && tmp == H_NONE ? H_NONE : addr_reg(t, a->base, two ? tmp : dst);
    if (sum.base == H_NONE && sum.index == H_NONE) {
        u64 value = size == 4 ? (u32)disp : (u64)disp;
        if (a->rip)
            emit_mov_rip(t, dst, value);
        else
            emit_mov_imm(e, dst, value);
        return;
    }
    assert(fits32(disp));
    if (sum.index == H_NONE && sum.disp == 0) {
        if (sum.base != dst || size == 4)
            emit_mov_reg(e, size, dst, sum.base);
    } else {
        emit_lea(e, size, dst, &sum);
    }
    if (two && tmp == H_NONE) {
        struct hmem base = home(a->base);
        emit_alu_load(e, ALU_ADD, size, dst, &base);
    }
}

void emit_lin(struct trans *t, const struct addr *a, unsigned dst, i64 extra)
{
    struct emit *e = &t->e;
    emit_sum(t, a, dst, extra, H_NONE);
    if (a->size == 2)
        emit_movzx(e, 2, dst, dst);
    if (a->operand) {
        struct hmem operand = hmem_vcpu(BT_AT(operand));
        emit_alu_load(e, ALU_ADD, t->wide ? 8 : 4, dst, &operand);
    }
    if (seg_has_base(t, a->seg)) {
        struct hmem base = seg_field(a->seg, offsetof(struct segment, base));
        emit_alu_load(e, ALU_ADD, t->wide ? 8 : 4, dst, &base);
    }
}

/* Through T0 where the sum can't be made in dst; T1 may be overwritten, flags not. */
void mem_lea(struct trans *t, const struct insn *i, unsigned dst, unsigned size)
{
    struct addr a;
    insn_addr(t, i, &a);
    bool direct = size >= 4 && a.size >= size && !homed(a.base) && !homed(a.index);
    if (direct) {
        a.size = size;
        emit_sum(t, &a, dst, 0, H_NONE);
        return;
    }
    emit_sum(t, &a, H_T0, 0, H_T1);
    if (a.size == 2)
        emit_movzx(&t->e, 2, H_T0, H_T0);
    emit_mov_reg(&t->e, size, dst, H_T0);
}

void mem_lin(struct trans *t, const struct insn *i, unsigned dst, i64 extra)
{
    struct addr a;
    insn_addr(t, i, &a);
    emit_lin(t, &a, dst, extra);
}

/* Such a register is the stack's pointer, or rSI or rDI of a string instruction. */
static struct addr register_addr(const struct trans *t, unsigned base, i64 disp, unsigned seg)
{
    bool string = base == RSI || base == RDI;
    return (struct addr){.base = base,
                         .index = REG_NONE,
                         .disp = disp,
                         .seg = seg,
                         .size = string ? t->insn[t->cur].addrsize : t->key.stack};
}

void mem_lin_at(struct trans *t, unsigned base, i64 disp, unsigned seg, unsigned dst)
{
    struct addr a = register_addr(t, base, disp, seg);
    emit_lin(t, &a, dst, 0);
}

/* --- accesses --- */

/* Would its page fault be what the instruction raises? It is if this is its only access, and
 * nothing else about it may fault. */
static bool raises_first(const struct trans *t, const struct request *r)
{
    const struct insn *i = cur_insn(t);
    if (!(i->cls == CLASS_IDENT || is_plain_move(i)) || !seg_quick(t, r->addr.seg) ||
        seg_limited(t, r->addr.seg) || i->op == OP_CMPXCHG16B)
        return false;
    bool stack = i->op == OP_PUSH || i->op == OP_POP;
    return !stack || i->opd[0].kind != OPD_MEM;
}

unsigned new_miss(struct trans *t, const u8 *retry, const struct request *r, u32 span)
{
    struct site *s;
    bool group = r->plan->role == PLAN_LEADER;
    u32 n = site_new(t, group ? SITE_GROUP : SITE_ACCESS, &s);
    struct cold *c = cold_new(t, n);
    s->retry = (u8 *)(uintptr_t)retry;
    s->access = (u8)r->access;
    s->size = (u16)checked_bytes(r);
    s->group_writes = r->plan->write;
    s->span = span;
    s->low = r->plan->low;
    s->first_fault = raises_first(t, r);
    c->lin = true;
    c->base = r->cold_base;
    c->seg = (u8)r->addr.seg;
    c->extra = r->plan->low + (r->cold_base == REG_NONE ? 0 : r->addr.disp);
    return t->colds - 1;
}

void emit_miss(struct trans *t, const u8 *retry, const struct request *r, unsigned cc, u32 span)
{
    u8 *from = emit_jcc(&t->e, cc, NULL);
    t->cold[new_miss(t, retry, r, span)].from[0] = from;
}

void emit_first(struct trans *t, const struct request *r)
{
    if (t->wide) {
        emit_lin(t, &r->addr, H_T1, r->plan->low);
        return;
    }
    struct hmem first = hmem_base(H_T2, r->plan->low);
    emit_lin(t, &r->addr, H_T2, 0);
    if (first.disp)
        emit_lea(&t->e, 4, H_T1, &first);
    else
        emit_mov_reg(&t->e, 4, H_T1, H_T2);
}

void hold_slot(struct trans *t, const struct request *r, size_t addend)
{
    t->slot_at[r->plan->slot] = (u32)addend;
    t->t0_slot = r->plan->slot + 1u;
    t->e.t0_lost = false;
}

void keep_addend(struct trans *t, const struct request *r)
{
    size_t at = BT_AT(slot) + 8 * r->plan->slot;
    struct hmem slot = hmem_vcpu(at);
    if (r->plan->role != PLAN_LEADER)
        return;
    emit_store(&t->e, 8, &slot, H_T0);
    hold_slot(t, r, at);
}

/* The operand, once T0 is what is to be added to its linear address. lin: T2 has that already. */
void host_operand(struct trans *t, const struct addr *a, bool lin, struct hmem *m)
{
    if (!t->wide) {
        if (!lin)
            emit_lin(t, a, H_T2, 0);
        *m = hmem_sum(H_T0, H_T2, 0);
    } else if (simple(t, a)) {
        *m = hmem_sum(H_T0, host_reg(a->base), a->disp);
        if (m->index == RSP) { /* RSP can be no index */
            m->index = m->base;
            m->base = RSP;
        }
    } else {
        emit_lin(t, a, H_T1, 0);
        *m = hmem_sum(H_T0, H_T1, 0);
    }
}

/* An access that its group's first one has checked: its slot has what is to be added. */
static void member_access(struct trans *t, const struct request *r, struct hmem *m)
{
    struct hmem slot = hmem_vcpu(t->slot_at[r->plan->slot]);
    if (seg_has_base(t, r->addr.seg) || (homed(r->addr.base) && homed(r->addr.index)))
        flags_clobber(t);
    if (t->e.t0_lost || t->t0_slot != r->plan->slot + 1u)
        emit_load(&t->e, 8, H_T0, &slot);
    hold_slot(t, r, t->slot_at[r->plan->slot]);
    host_operand(t, &r->addr, false, m);
}

/* C executes the instruction if the access's last byte lies behind its segment's end: it raises the
 * fault, or finds that it is none (with a limit of 4 GiB offsets may wrap). */
static void check_limit(struct trans *t, const struct request *r)
{
    struct emit *e = &t->e;
    struct addr offset = r->addr;
    struct hmem limit = seg_field(r->addr.seg, offsetof(struct segment, limit)),
                last = hmem_base(H_T1, r->size - 1);
    struct hmem operand = hmem_vcpu(BT_AT(operand));
    emit_sum(t, &offset, H_T1, 0, H_NONE);
    if (offset.size == 2)
        emit_movzx(e, 2, H_T1, H_T1);
    if (offset.operand)
        emit_alu_load(e, ALU_ADD, 4, H_T1, &operand);
    emit_load(e, 4, H_T0, &limit);
    emit_lea(e, 8, H_T1, &last);
    emit_alu_reg(e, ALU_CMP, 8, H_T1, H_T0);
    u8 *from = emit_jcc(e, 7, NULL);
    cold_new(t, site_new(t, SITE_FAULT, NULL))->from[0] = from;
}

static void emit_access(struct trans *t, const struct request *r, struct hmem *m)
{
    static const struct mem_scheme *const schemes[] = {&mem_constant, &mem_stack, &mem_span,
                                                       &mem_tlb};
    if (mem_mirror.fits(t, r)) {
        mem_mirror.access(t, r, m);
        return;
    }
    if (has_slot(t, r->plan)) {
        member_access(t, r, m);
        return;
    }
    if (r->plan->role == PLAN_MEMBER)
        *r->plan = (struct plan){0};
    unsigned n = 0;
    while (!schemes[n]->fits(t, r))
        n++;
    flags_clobber(t);
    if (seg_limited(t, r->addr.seg))
        check_limit(t, r);
    schemes[n]->access(t, r, m);
}

void mem_access(struct trans *t, unsigned size, enum access access, struct hmem *m)
{
    struct request r = {
        .access = access, .size = size, .cold_base = REG_NONE, .plan = &t->plan[t->cur][0]};
    insn_addr(t, cur_insn(t), &r.addr);
    emit_access(t, &r, m);
}

void mem_access_at(struct trans *t, unsigned base, i64 disp, unsigned seg, unsigned size,
                   enum access access, struct hmem *m)
{
    struct request r = {.addr = register_addr(t, base, disp, seg),
                        .access = access,
                        .size = size,
                        .cold_base = (u8)base,
                        .plan = &t->plan[t->cur][1]};
    emit_access(t, &r, m);
}

void mem_fold(struct trans *t, struct hmem *m)
{
    u32 guest = m->guest;
    emit_lea(&t->e, 8, H_T0, m);
    *m = hmem_base(H_T0, 0);
    m->guest = guest;
}
