/*
 * Memory operands on the stack, which are so many that they share one page that is remembered
 * (struct stack_page): the one that the stack was in the last time. An access elsewhere takes a
 * detour through the TLB, which makes its page the remembered one, without C.
 */
#include "engine/bt/mem_scheme.h"

/* With several vCPUs stores have to look at the page's code mask. */
static bool stack_fits(const struct trans *t, const struct request *r)
{
    const struct addr *a = &r->addr;
    return !t->bt->several && a->base == RSP && a->index == REG_NONE && !a->operand &&
           !seg_has_base(t, a->seg) && a->size == (t->wide ? 8 : 4) &&
           fits32(a->disp + STACK_LONG) && fits32(a->disp - STACK_LONG) &&
           checked_bytes(r) <= STACK_LONG;
}

static struct hmem page_field(const struct trans *t, size_t field)
{
    return hmem_vcpu(BT_AT(stack_page) + t->key.ctx * sizeof(struct stack_page) + field);
}

static void stack_access(struct trans *t, const struct request *r, struct hmem *m)
{
    struct emit *e = &t->e;
    struct hmem start = page_field(t, offsetof(struct stack_page, start)),
                room = page_field(t, offsetof(struct stack_page, room)),
                addend = page_field(t, offsetof(struct stack_page, addend));
    if (checked_bytes(r) > STACK_SHORT)
        room.disp += 8;
    const u8 *retry = e->p;
    emit_first(t, r);
    emit_alu_load(e, ALU_SUB, 8, H_T1, &start);
    emit_alu_load(e, ALU_CMP, 8, H_T1, &room);
    struct detour *d = &t->detour[t->detours++];
    *d = (struct detour){.from = emit_jcc(e, 3, NULL),
                         .cold = (u8)new_miss(t, retry, r, NO_SPAN),
                         .disp = r->addr.disp,
                         .low = r->plan->low,
                         .bytes = (u16)checked_bytes(r),
                         .write = checks_write(r)};
    emit_load(e, 8, H_T0, &addend);
    d->resume = e->p;
    keep_addend(t, r);
    host_operand(t, &r->addr, true, m);
}

const struct mem_scheme mem_stack = {stack_fits, stack_access};

/* T0 = the TLB entry's addend. Its page becomes the stack's if it may be written to. */
static void emit_detour(struct trans *t, const struct detour *d)
{
    struct emit *e = &t->e;
    struct hmem sp = hmem_base(RSP, d->disp), start, addend;
    emit_patch(d->from, e->p);
    emit_lea(e, t->wide ? 8 : 4, H_T0, &sp);
    emit_index(t, H_T0, d->low, d->bytes);
    struct hmem tag = l1_at(t, H_T0, tag_of(t, d->write)), write = l1_at(t, H_T0, tag_of(t, true)),
                from = l1_at(t, H_T0, offsetof(struct tlb_entry, addend));
    emit_alu_load(e, ALU_CMP, 8, H_T1, &tag);
    t->cold[d->cold].from[0] = emit_jcc(e, 5, NULL);
    u8 *readable = NULL;
    if (!d->write) {
        emit_alu_load(e, ALU_CMP, 8, H_T1, &write);
        readable = emit_jcc(e, 5, NULL);
    }
    start = page_field(t, offsetof(struct stack_page, start));
    addend = page_field(t, offsetof(struct stack_page, addend));
    emit_store(e, 8, &start, H_T1);
    emit_load(e, 8, H_T0, &from);
    emit_store(e, 8, &addend, H_T0);
    for (unsigned n = 0; n < 2; n++) {
        struct hmem room = page_field(t, offsetof(struct stack_page, room) + 8 * n);
        emit_store_imm(e, 8, &room, (i32)STACK_ROOM(n ? STACK_LONG : STACK_SHORT));
    }
    emit_jmp(e, d->resume);
    if (!readable)
        return;
    emit_patch(readable, e->p);
    emit_load(e, 8, H_T0, &from);
    emit_jmp(e, d->resume);
}

void mem_detours(struct trans *t)
{
    for (unsigned n = 0; n < t->detours; n++)
        emit_detour(t, &t->detour[n]);
}
