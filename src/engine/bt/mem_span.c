/*
 * Memory operands of hot TUs by spans: a stretch of memory where the access went the last time
 * (spans.c). The check is a subtraction and a comparison, and nothing of it is in the way of the
 * access itself: what is added to the address does not depend on the address, so that it is there
 * before.
 */
#include "engine/bt/mem_scheme.h"

/* Not in kernels, which work for one process after the other: there spans are filled too often.
 * With several vCPUs stores have to look at the page's code mask. */
/* Is the access one that spans are of use for? */
static bool keeps_to_spans(const struct trans *t)
{
    u64 gpa = t->f->gpa + (u64)(i64)t->off[t->cur];
    u16 known = learned_at(t, cur_insn(t));
    if (!(known & LEARNED_ROAMS))
        return true;
    t->f->roams = !(known & LEARNED_ROAMS_WIDELY);
    return t->f->roams && t->tc->learned[tcache_learned_hash(gpa & PAGE_MASK)] & LEARNED_HOT_PAGE;
}

static bool span_fits(const struct trans *t, const struct request *r)
{
    return t->extend && t->key.cpl == 3 && t->tc->spans < TUNE_BT_SPANS &&
           !(checks_write(r) && t->bt->several) && keeps_to_spans(t);
}

static struct hmem span_field(u32 span, size_t field)
{
    return hmem_vcpu(BT_AT(span) + span * sizeof(struct span) + field);
}

/* Is the address a sum, which is then not to be added up once more for the access? */
static bool is_sum(const struct trans *t, const struct request *r)
{
    return t->wide && !simple(t, &r->addr) && r->plan->role == PLAN_ALONE;
}

static void span_access(struct trans *t, const struct request *r, struct hmem *m)
{
    struct emit *e = &t->e;
    u32 n = t->tc->spans++;
    t->f->has_spans = true;
    struct hmem start = span_field(n, offsetof(struct span, start)),
                room = span_field(n, offsetof(struct span, room)),
                addend = span_field(n, offsetof(struct span, addend)),
                host = span_field(n, offsetof(struct span, host));
    const u8 *retry = e->p;
    emit_first(t, r);
    emit_alu_load(e, ALU_SUB, 8, H_T1, &start);
    emit_alu_load(e, ALU_CMP, 8, H_T1, &room);
    emit_miss(t, retry, r, 3, n);
    if (is_sum(t, r)) {
        emit_load(e, 8, H_T0, &host);
        *m = hmem_sum(H_T0, H_T1, 0);
        return;
    }
    emit_load(e, 8, H_T0, &addend);
    if (r->plan->role == PLAN_LEADER)
        hold_slot(t, r, (size_t)addend.disp);
    host_operand(t, &r->addr, true, m);
}

const struct mem_scheme mem_span = {span_fits, span_access};
