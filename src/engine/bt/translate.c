/*
 * Translates one TU (trace.c): emits its instructions one after the other, then the exits' and
 * slow paths' cold code. Instructions that no lower_*.c translates become callouts.
 */
#include <stdlib.h>

#include "engine/bt/trans.h"

const struct lowerer lowerers[LOWERERS] = {
    {can_integer, lower_integer}, {can_stack, lower_stack},   {can_branch, lower_branch},
    {can_native, lower_native},   {can_string, lower_string}, {can_system, lower_system},
};

/* --- what depends on RIP --- */

void reloc_add(struct trans *t, enum reloc_kind kind, const u8 *at)
{
    struct fragment *f = t->f;
    t->tc->reloc[f->first_reloc + f->relocs++] =
        (struct reloc){.at = (u16)(at - t->tc->next), .kind = (u16)kind};
}

void emit_mov_rip(struct trans *t, unsigned dst, u64 value)
{
    emit_mov_imm(&t->e, dst, value);
    if (value == (u32)value)
        reloc_add(t, RELOC_RIP_U32, t->e.p - 4);
    else if (value == (u64)(i64)(i32)value)
        reloc_add(t, RELOC_RIP_S32, t->e.p - 4);
    else
        reloc_add(t, RELOC_RIP_64, t->e.p - 8);
}

void emit_store_rip(struct trans *t, unsigned size, const struct hmem *m, u64 value)
{
    if (size == 8 && value != (u64)(i64)(i32)value) {
        emit_mov_rip(t, H_T1, value);
        emit_store(&t->e, 8, m, H_T1);
        return;
    }
    emit_store_imm(&t->e, size, m, (i32)value);
    if (size >= 4)
        reloc_add(t, RELOC_RIP_S32, t->e.p - 4);
}

void emit_cmp_rip(struct trans *t, unsigned size, const struct hmem *m, u64 value)
{
    if (size == 8 && value != (u64)(i64)(i32)value) {
        emit_load(&t->e, 8, H_T1, m);
        emit_mov_rip(t, H_T0, value);
        emit_alu_reg(&t->e, ALU_CMP, 8, H_T1, H_T0);
        return;
    }
    emit_alu_mem_imm(&t->e, ALU_CMP, size, m, (i32)value);
    if (size >= 4)
        reloc_add(t, RELOC_RIP_S32, t->e.p - 4);
}

/* --- sites and traps --- */

/* A move of vector registers that raises nothing but what its access does: no alignment is asked
 * for, nothing is computed. */
bool is_plain_move(const struct insn *i)
{
    switch (i->op) {
    case OP_MOVUPS:
    case OP_MOVUPD:
    case OP_MOVDQU:
    case OP_LDDQU:
    case OP_MOVSS:
    case OP_MOVSD:
    case OP_MOVHPS:
    case OP_MOVLPS:
    case OP_MOVHPD:
    case OP_MOVLPD:
    case OP_VMOVUPS:
    case OP_VMOVUPD:
    case OP_VMOVDQU:
    case OP_VLDDQU:
    case OP_VMOVSS:
    case OP_VMOVSD:
    case OP_VMOVHPS:
    case OP_VMOVLPS:
    case OP_VMOVHPD:
    case OP_VMOVLPD:
    case OP_VMOVD:
    case OP_VMOVQ:
        return true;
    case OP_MOVD:
    case OP_MOVQ:
        return i->opd[0].kind != OPD_MMX && i->opd[1].kind != OPD_MMX;
    default:
        return false;
    }
}

/* Does it check more than that its access is allowed: alignment, x87 exceptions, or a target that
 * is looked up behind the check of the stack? */
static bool may_refuse(const struct insn *i)
{
    return i->cls == CLASS_FPU || (i->cls == CLASS_SIMD && !is_plain_move(i)) ||
           i->op == OP_CMPXCHG16B || i->op == OP_CALL_IND;
}

u32 site_new(struct trans *t, enum site_kind kind, struct site **out)
{
    u32 n = t->tc->sites++;
    struct site *s = &t->tc->site[n];
    *s = (struct site){
        .span = NO_SPAN, .late = t->late, .late_off = t->late_off, .late_fop = t->late_fop};
    s->f = t->f;
    s->kind = (u8)kind;
    s->off = t->off[t->cur];
    s->insn = (u8)t->cur;
    s->leads = t->plan[t->cur][0].role == PLAN_LEADER || t->plan[t->cur][1].role == PLAN_LEADER;
    s->may_refuse = may_refuse(cur_insn(t));
    t->f->sites++;
    if (out)
        *out = s;
    return n;
}

struct cold *cold_new(struct trans *t, u32 site)
{
    assert(t->colds < COLD_MAX);
    struct cold *c = &t->cold[t->colds++];
    *c = (struct cold){
        .site = site, .insn = (u8)t->cur, .form = t->form, .recipe = t->recipe, .base = REG_NONE};
    return c;
}

u32 trap_add(struct trans *t, const u8 *pc)
{
    struct tcache *tc = t->tc;
    u32 n = t->f->first_trap + t->f->traps++;
    tc->trap[n] = (struct trap){.pc = (u32)(pc - tc->rw)};
    return n;
}

/* Cold code that begins at a trap is found by its `trap` instead of a branch. */
void trap_new(struct trans *t, const u8 *pc)
{
    u32 trap = trap_add(t, pc);
    struct cold *c = cold_new(t, site_new(t, SITE_FAULT, NULL));
    c->trap = trap + 1;
}

/* Where T0 can be had from again; 0: it holds nothing of use, or what C can't bring back. */
static u32 t0_source(const struct trans *t)
{
    unsigned region = t->t0_slot - T0_REGION;
    if (t->e.t0_lost || region >= MIRROR_REGIONS)
        return 0;
    return (u32)(BT_AT(mirror_region) + region * sizeof(struct mirror_region) +
                 offsetof(struct mirror_region, addend));
}

static void resume_cold(struct trans *t, unsigned first)
{
    u32 source = t0_source(t);
    for (unsigned n = first; n < t->colds; n++) {
        if (t->cold[n].resume)
            continue;
        t->cold[n].after = t->form;
        t->cold[n].resume = t->e.p;
        t->cold[n].t0 = source;
        t->e.t0_lost |= !source && t->tc->site[t->cold[n].site].kind != SITE_GROUP;
    }
}

/* A number of this fragment's in T0, and a jump to a thunk. */
static void emit_to_thunk(struct trans *t, enum reloc_kind kind, u32 number, const u8 *thunk)
{
    emit_mov_imm(&t->e, H_T0, number);
    reloc_add(t, kind, t->e.p - 4);
    reloc_add(t, RELOC_THUNK, emit_jmp(&t->e, thunk));
}

static void emit_slow_jump(struct trans *t, u32 site)
{
    emit_to_thunk(t, RELOC_SITE, site, t->tc->thunks.slow[t->wide]);
}

/* To a thunk that comes back to what follows, or has C do so. */
static void emit_thunk_jump(struct trans *t, u32 site, const u8 *thunk)
{
    struct emit *e = &t->e;
    t->tc->site[site].retry = e->p;
    u8 *back = emit_lea_code(e, H_T1);
    emit_to_thunk(t, RELOC_SITE, site, thunk);
    emit_patch(back, e->p);
}

static void emit_cold(struct trans *t, struct cold *c)
{
    struct emit *e = &t->e;
    struct site *s = &t->tc->site[c->site];
    for (unsigned n = 0; n < ARRAY_SIZE(c->from); n++)
        if (c->from[n])
            emit_patch(c->from[n], e->p);
    if (c->trap)
        t->tc->trap[c->trap - 1].to = (u32)(e->p - t->tc->rw);
    if (c->form == FORM_RECIPE)
        recipe_emit(t, c->recipe);
    if (c->form != FORM_IMAGE)
        emit_flags_to_image(e);
    t->cur = c->insn;
    if (c->lin && c->base != REG_NONE)
        mem_lin_at(t, c->base, c->extra, c->seg, H_T1);
    else if (c->lin)
        mem_lin(t, cur_insn(t), H_T1, c->extra);
    if (c->thunk)
        emit_thunk_jump(t, c->site, c->thunk);
    else
        emit_slow_jump(t, c->site);
    s->next = e->p;
    if (c->t0) {
        struct hmem from = hmem_vcpu(c->t0);
        emit_load(e, 8, H_T0, &from);
    }
    if (c->after == FORM_HOST)
        emit_image_to_flags(e);
    emit_jmp(e, c->resume);
}

struct site *emit_slow_call(struct trans *t, enum site_kind kind)
{
    struct site *s;
    u32 n = site_new(t, kind, &s);
    flags_image(t);
    emit_slow_jump(t, n);
    s->next = t->e.p;
    return s;
}

void emit_callout(struct trans *t, bool end)
{
    emit_slow_call(t, end ? SITE_END : t->facts[t->cur].device ? SITE_DEVICE : SITE_CALLOUT);
    t->has_recipe = false;
    t->fpu_ready = false;
    t->ended = end;
}

/* --- exits --- */

static u32 exit_new(struct trans *t, u64 rip)
{
    u32 n = t->tc->exits++;
    t->tc->exit[n] =
        (struct exit){.from = t->f, .rip = t->wide ? rip : (u32)rip, .insns = (u16)(t->cur + 1)};
    t->f->exits++;
    return n;
}

static void emit_exit_stub(struct trans *t, u32 n)
{
    struct exit *x = &t->tc->exit[n];
    if (x->host_flags)
        emit_flags_to_image(&t->e);
    x->stub = t->e.p;
    emit_to_thunk(t, RELOC_EXIT, n, t->tc->thunks.leave[t->wide]);
    const u8 *start = x->host_flags ? x->stub - 4 : x->stub;
    if (x->jump)
        emit_patch(x->jump, start);
    if (x->check)
        emit_patch(x->check + 1, start);
    if (x->fail) /* the fragment's own: behind emit_second_page_check() */
        emit_patch(x->fail, x == t->f->own ? x->stub : start);
    if (x->poll)
        t->tc->trap[x->poll - 1].to = (u32)(start - t->tc->rw);
}

u8 *emit_poll(struct trans *t)
{
    struct hmem at = hmem_vcpu(BT_AT(poll)), poll = hmem_base(H_T0, 0);
    emit_load(&t->e, 8, H_T0, &at);
    u8 *pc = t->e.p;
    emit_load(&t->e, 4, H_T0, &poll);
    return pc;
}

/* Must there be a look for events on the way to rip? Also if the trace has gone back without one.
 */
static bool is_backward(const struct trans *t, u64 rip)
{
    return rip <= off_rip(t, t->off[t->cur]) || t->cur >= t->back_at;
}

static bool same_page(const struct trans *t, u64 rip)
{
    u64 start = t->f->rip + t->key.cs_base, target = rip + t->key.cs_base;
    if (!t->wide) {
        start = (u32)start;
        target = (u32)target;
    }
    return (start & PAGE_MASK) == (target & PAGE_MASK) && t->f->gpa2 == NO_GPA;
}

static void emit_poll_for(struct trans *t, u32 exit)
{
    const u8 *pc = emit_poll(t);
    t->tc->exit[exit].poll = trap_add(t, pc) + 1;
}

/* The signature of the target's page is compared with that in the exec TLB (tlb_entry.exec). */
static void emit_page_check(struct trans *t, struct exit *x)
{
    struct emit *e = &t->e;
    u64 lin = x->rip + t->key.cs_base;
    size_t index = (t->wide ? lin : (u32)lin) >> PAGE_SHIFT & (TUNE_TLB_L1_ENTRIES - 1);
    struct hmem exec =
        hmem_vcpu(VCPU_AT(l1) + offsetof(struct tlb_entry, exec) +
                  (t->key.ctx * TUNE_TLB_L1_ENTRIES + index) * sizeof(struct tlb_entry));
    emit_within_word(e, 5, 0);
    x->check = e->p;
    emit_jmp(e, NULL);
    emit_rex_mov64(e, H_T0);
    x->sig = e->p;
    emit64(e, 0);
    emit_alu_load(e, ALU_CMP, 8, H_T0, &exec);
    reloc_add(t, RELOC_EXEC, e->p - 4);
    x->fail = emit_jcc(e, 5, NULL);
}

void emit_exit(struct trans *t, u64 rip)
{
    u32 n = exit_new(t, rip);
    struct exit *x = &t->tc->exit[n];
    if (!same_page(t, rip)) {
        flags_image(t);
        if (is_backward(t, rip))
            emit_poll_for(t, n);
        emit_page_check(t, x);
    } else {
        if (t->form == FORM_RECIPE)
            flags_to_host(t);
        x->host_flags = t->form == FORM_HOST;
        if (is_backward(t, rip))
            emit_poll_for(t, n);
    }
    emit_within_word(&t->e, 4, 1);
    x->jump = emit_jmp(&t->e, NULL);
    t->ended = true;
}

/* Forward in the same page: the conditional jump itself is linked. */
static void emit_branch_near(struct trans *t, unsigned cc, u64 rip)
{
    u32 n = exit_new(t, rip);
    struct exit *x = &t->tc->exit[n];
    x->host_flags = true;
    emit_within_word(&t->e, 4, 2);
    x->jump = emit_jcc(&t->e, cc, NULL);
    emit_exit(t, next_rip(t));
}

static void emit_side_exit(struct trans *t, unsigned cc, u64 rip)
{
    if (same_page(t, rip) && !is_backward(t, rip)) {
        struct exit *x = &t->tc->exit[exit_new(t, rip)];
        x->host_flags = true;
        emit_within_word(&t->e, 4, 2);
        x->jump = emit_jcc(&t->e, cc, NULL);
        return;
    }
    t->side[t->sides++] = (struct side_exit){.from = emit_jcc(&t->e, cc, NULL),
                                             .rip = rip,
                                             .insn = (u8)t->cur,
                                             .image_valid = t->image_valid};
}

static void emit_side_exits(struct trans *t)
{
    for (unsigned n = 0; n < t->sides; n++) {
        const struct side_exit *s = &t->side[n];
        emit_patch(s->from, t->e.p);
        t->cur = s->insn;
        t->form = FORM_HOST;
        t->image_valid = s->image_valid;
        emit_exit(t, s->rip);
    }
}

void emit_branch(struct trans *t, unsigned cc, u64 rip)
{
    if (goes_on(t)) {
        if (off_rip(t, t->off[t->cur + 1]) == next_rip(t))
            emit_side_exit(t, cc, rip);
        else
            emit_side_exit(t, cc ^ 1, next_rip(t));
        return;
    }
    if (same_page(t, rip) && !is_backward(t, rip)) {
        emit_branch_near(t, cc, rip);
        return;
    }
    u8 *over = emit_jcc(&t->e, cc ^ 1, NULL);
    bool image_valid = t->image_valid;
    emit_exit(t, rip);
    emit_patch(over, t->e.p);
    t->form = FORM_HOST;
    t->image_valid = image_valid;
    emit_exit(t, next_rip(t));
}

/* --- the whole --- */

/* A NOP that becomes a jump if the fragment dies: of 5 bytes or, to fill a word, 8. */
static u8 *emit_entry(struct emit *e, unsigned bytes)
{
    emit_within_word(e, bytes, 0);
    u8 *entry = e->p;
    emit_nop(e, bytes);
    return entry;
}

/* The form of the flags that the first instruction to touch them wants. */
static enum form first_form(const struct trans *t, bool *matters)
{
    *matters = true;
    for (unsigned n = 0; n < t->n; n++) {
        const struct facts *f = &t->facts[n];
        if (f->callout || f->clobbers)
            return FORM_IMAGE;
        if (f->reads)
            return FORM_HOST;
        if (f->writes == FLAGS_ALL) {
            *matters = false;
            return FORM_IMAGE;
        }
    }
    return FORM_HOST;
}

static void emit_entries(struct trans *t)
{
    struct emit *e = &t->e;
    struct fragment *f = t->f;
    bool matters;
    t->form = first_form(t, &matters);
    if (t->form == FORM_HOST) {
        f->entry_image = emit_entry(e, 5);
        emit_image_to_flags(e);
        f->entry_flags = emit_entry(e, 5);
    } else {
        f->entry_flags = emit_entry(e, matters ? 5 : 8);
        if (matters)
            emit_flags_to_image(e);
        f->entry_image = emit_entry(e, 5);
    }
    t->image_valid = t->form == FORM_IMAGE;
}

/* An instruction that goes into the next page: is that still the one that was decoded? */
static void emit_second_page_check(struct trans *t)
{
    struct fragment *f = t->f;
    u64 lin = (f->rip + t->key.cs_base) & PAGE_MASK;
    lin = t->wide ? lin + PAGE_SIZE : (u32)(lin + PAGE_SIZE);
    size_t index = lin >> PAGE_SHIFT & (TUNE_TLB_L1_ENTRIES - 1);
    struct hmem exec =
        hmem_vcpu(VCPU_AT(l1) + offsetof(struct tlb_entry, exec) +
                  (t->key.ctx * TUNE_TLB_L1_ENTRIES + index) * sizeof(struct tlb_entry));
    flags_image(t);
    emit_mov_imm(&t->e, H_T0, tlb_exec_signature(lin, f->gpa2));
    emit_alu_load(&t->e, ALU_CMP, 8, H_T0, &exec);
    f->own->fail = emit_jcc(&t->e, 5, NULL);
}

static bool lower(struct trans *t)
{
    return lowerers[t->facts[t->cur].lowerer].lower(t);
}

/* With several vCPUs: did the instruction's store hit a page with code? */
static void emit_written_check(struct trans *t)
{
    struct site *s;
    u32 n = site_new(t, SITE_WRITTEN, &s);
    struct hmem mask = hmem_vcpu(BT_AT(code_mask)), word = hmem_base(H_T0, 0);
    s->size = 64;
    s->off = t->off[t->cur + 1]; /* if it can't go on here, it does behind the store */
    s->insn++;
    flags_clobber(t);
    emit_load(&t->e, 8, H_T0, &mask);
    emit_alu_mem_imm(&t->e, ALU_CMP, 8, &word, 0);
    u8 *from = emit_jcc(&t->e, 5, NULL);
    struct cold *c = cold_new(t, n);
    c->from[0] = from;
    c->after = t->form;
    c->resume = t->e.p;
    t->written = false;
}

void emit_insn_done(struct trans *t)
{
    if (t->written)
        emit_written_check(t);
}

static void emit_insn(struct trans *t)
{
    unsigned first = t->colds;
    const struct insn *i = cur_insn(t);
    t->written = false;
    if (t->facts[t->cur].callout || !lower(t))
        emit_callout(t, (i->flags & INSN_END) != 0);
    emit_insn_done(t);
    mirror_follow(t);
    resume_cold(t, first);
}

static void emit_all_cold(struct trans *t)
{
    unsigned cur = t->cur;
    t->cold_code = t->e.p;
    mem_detours(t);
    for (unsigned n = 0; n < t->colds; n++)
        emit_cold(t, &t->cold[n]);
    for (u32 n = t->f->first_exit; n < t->tc->exits; n++)
        emit_exit_stub(t, n);
    t->cur = cur;
}

static void emit_body(struct trans *t)
{
    struct fragment *f = t->f;
    u32 own = exit_new(t, f->rip);
    f->own = &t->tc->exit[own];
    f->own->host_flags = true; /* for the dead: flags_to_image stands before the stub */
    emit_entries(t);
    if (f->gpa2 != NO_GPA)
        emit_second_page_check(t);
    for (t->cur = 0; t->cur < t->n && !t->ended; t->cur++) {
        t->host[t->cur] = t->e.p;
        emit_insn(t);
    }
    t->host[t->cur] = t->e.p;
    t->emitted = t->cur--;
    if (!t->ended)
        emit_exit(t, off_rip(t, t->off[t->n]));
    emit_side_exits(t);
    emit_all_cold(t);
}

static bool has_rip_operand(const struct trans *t)
{
    for (unsigned n = 0; n < t->n; n++)
        if (t->insn[n].base == REG_RIP)
            return true;
    return false;
}

/* Is all that depends on RIP a sum with it? See also mem_constant. */
static bool is_clonable(const struct trans *t)
{
    if (t->f->gpa2 != NO_GPA || (t->key.bits & KEY_MIRROR && has_rip_operand(t)))
        return false;
    if (t->wide)
        return !is_kernel_half(t->f->rip) || !has_rip_operand(t);
    for (unsigned n = 0; n < t->n; n++) {
        unsigned cls = t->insn[n].cls;
        if (t->insn[n].opsize == 2 &&
            (cls == CLASS_BRANCH || cls == CLASS_CALL || cls == CLASS_INDIRECT))
            return false;
    }
    return t->key.mode == MODE_PROT32 || t->key.mode == MODE_COMPAT32;
}

struct trans *bt_trans_create(void)
{
    return malloc(sizeof(struct trans));
}

static struct trans *begin(struct bt *bt)
{
    memset(bt->trans, 0, offsetof(struct trans, insn));
    bt->trans->bt = bt;
    return bt->trans;
}

struct fragment *bt_translate(struct bt *bt, struct vcpu *v, u64 gpa, u64 gpa2, bool extend)
{
    struct tcache *tc = bt->tc;
    struct fragment *f = &tc->fragment[tc->fragments];
    struct trans *t = begin(bt);
    *f = (struct fragment){.gpa = gpa,
                           .gpa2 = NO_GPA,
                           .rip = v->rip,
                           .key = bt_cpu(v)->key,
                           .first_exit = tc->exits,
                           .first_site = tc->sites,
                           .first_reloc = tc->relocs,
                           .first_trap = tc->traps};
    t->v = v;
    t->tc = tc;
    t->f = f;
    t->key = tc->key[f->key];
    t->extend = extend;
    t->wide = t->key.mode == MODE_LONG64;
    t->e = (struct emit){.p = tc->next, .end = tc->rw + tc->size, .touch = mirror_touch};
    bool ok = trace_fetch(t, gpa, gpa2);
    if (ok) {
        f->code = tc->next;
        f->insns = (u16)t->n;
        f->settled = extend;
        memset(t->plan, 0, t->n * sizeof(t->plan[0]));
        facts_make(t);
        if (t->wide && extend && t->key.bits & KEY_MIRROR)
            mirror_learn(t);
        if (!(tc->learned[tcache_learned_hash(gpa)] & LEARNED_ALONE))
            groups_make(t);
        emit_body(t);
        f->end = t->e.p;
        f->clonable = is_clonable(t);
        tcache_add(tc, f);
        if (f->clonable)
            tcache_set_source(tc, f);
        if (bt->dump)
            dump_fragment(bt->dump, t);
    }
    return ok ? f : NULL;
}
