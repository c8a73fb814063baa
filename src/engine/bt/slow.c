/*
 * Where translated code comes when it can't go on by itself. A miss of the first-level TLB is
 * refilled if the access may go to memory directly, and tried again. All else is done by executing
 * the whole guest instruction through sem/, which raises its faults exactly; then the fragment goes
 * on behind it. Until the FPU's state is saved, nothing here may use the host's FPU registers: this
 * file is compiled without them.
 */
#include "base/timebase.h"
#include "cpu/irq.h"
#include "engine/bt/tcache.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"
#include "mem/access.h"

/* Misses of the mirror that one counts for which could not be shown. */
#define MIRROR_NOT_SHOWN 16

#define LAHF_FLAGS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF)

void bt_flags_in(struct vcpu *v)
{
    bt_cpu(v)->image = (v->rflags & LAHF_FLAGS) << 8 | (v->rflags >> 11 & 1);
}

void bt_flags_out(struct vcpu *v)
{
    u64 image = bt_cpu(v)->image;
    v->rflags = (v->rflags & ~FLAGS_ARITH) | (image >> 8 & LAHF_FLAGS) | (image & 1) << 11;
}

/* The site's guest instruction. NULL: its code has been overwritten since. */
static const struct insn *site_insn(struct vcpu *v, struct site *s, i32 off)
{
    struct bt_cpu *b = bt_cpu(v);
    u32 number = (u32)(s - b->bt->tc->site);
    struct site_insn *d = &b->decoded[((number + (u32)off) * 0x9e3779b1u >> 16) % BT_SITE_INSNS];
    struct fragment *f = s->f;
    if (f->dead)
        return NULL;
    if (d->site == s && d->off == off)
        return &d->insn;
    d->site = NULL;
    v->cur = &sem_no_insn;
    sem_fetch(v, &d->insn);
    if (f->dead)
        return NULL;
    d->site = s;
    d->off = off;
    return &d->insn;
}

bool bt_disturbed(struct vcpu *v)
{
    return v->code_written || v->pending_db || v->shadow || v->activity != ACTIVITY_RUNNING ||
           bt_debugging(v);
}

static void count_callout(struct vcpu *v, const struct site *s, const struct insn *i)
{
    enum stat_id why = STAT_BT_CALLOUT_OTHER;
    if (s->kind == SITE_ACCESS || s->kind == SITE_GROUP || s->kind == SITE_DEVICE ||
        s->kind == SITE_MIRROR)
        why = STAT_BT_CALLOUT_MEMORY;
    else if (i->cls == CLASS_STRING)
        why = STAT_BT_CALLOUT_STRING;
    else if (s->kind == SITE_FAULT)
        why = STAT_BT_CALLOUT_SIGNAL;
    else if (i->cls == CLASS_INDIRECT)
        why = STAT_BT_LOOKUP_MISSES;
    else if (i->cls == CLASS_SYSTEM || i->cls == CLASS_IO || i->cls == CLASS_FAR)
        why = STAT_BT_CALLOUT_SYSTEM;
    stat_inc(&v->stats, STAT_BT_CALLOUTS);
    stat_inc(&v->stats, why);
}

/* The fragment is to be translated anew, with what is known now of the code at gpa: one thing more,
 * or, for STAT_BT_ADAPT_BACK, less. */
static void learn(struct vcpu *v, struct fragment *f, u64 gpa, u16 what, enum stat_id id)
{
    struct tcache *tc = bt_cpu(v)->bt->tc;
    u16 *known = &tc->learned[tcache_learned_hash(gpa)];
    pthread_mutex_lock(&tc->lock);
    *known = (u16)(id == STAT_BT_ADAPT_BACK ? *known & ~what : *known | what);
    struct fragment *source = tcache_source(tc, f->gpa, f->key);
    if (source)
        source->clonable = false;
    tcache_kill(tc, f);
    pthread_mutex_unlock(&tc->lock);
    stat_inc(&v->stats, id);
}

/* A host instruction has raised a signal. */
static void adapt_to_signals(struct vcpu *v, struct site *s, const struct insn *i)
{
    if ((i->op == OP_DIV || i->op == OP_IDIV) && ++s->misses == TUNE_BT_DIVISION_FAULTS)
        learn(v, s->f, site_gpa(s), LEARNED_DIVIDES, STAT_BT_ADAPT_DIVIDES);
}

/* Executes the instruction at v->rip. False: it is not there any more. */
static bool execute(struct vcpu *v, struct site *s, i32 off)
{
    const struct insn *i = site_insn(v, s, off);
    if (!i)
        return false;
    u64 start = v->rip;
    v->cur = i;
    v->rip += i->len;
    v->rflags &= ~FLAG_RF;
    count_callout(v, s, i);
    if (s->kind == SITE_FAULT)
        adapt_to_signals(v, s, i);
    i->sem(v, i);
    sem_wrap_rip(v);
    sem_mark_repeat(v, i, start);
    bt_cpu(v)->block_insns += !((i->prefix & (PFX_REP | PFX_REPNE)) && v->rip == start);
    return true;
}

/* Executes up to the end of the TU, or to a branch, one by one. */
static const void *finish_tu(struct vcpu *v, struct site *s, i32 off)
{
    struct fragment *f = s->f;
    while (off < f->bytes && v->rip == f->rip + (u64)(i64)off && !(v->cur->flags & INSN_END)) {
        if (bt_disturbed(v) || !execute(v, s, off))
            return NULL;
        off += v->cur->len;
    }
    return bt_next(v);
}

/* Has the site come here TUNE_BT_GROUP_MISSES times within a short time? */
static bool misses_often(struct site *s)
{
    if (s->misses == 0)
        s->since = (u32)(host_tsc() >> SPAN_TIME_SHIFT);
    if (++s->misses < TUNE_BT_GROUP_MISSES)
        return false;
    s->misses = 0;
    u32 passed = (u32)(host_tsc() >> SPAN_TIME_SHIFT) - s->since;
    return passed < TUNE_BT_GROUP_MISSES * TUNE_BT_GROUP_CYCLES >> SPAN_TIME_SHIFT;
}

/* A group whose check failed for what the TLB can't mend. If that happens again and again (a stack
 * frame that lies across a page, say), the TU is translated anew with a check for each access. */
static const void *group_missed(struct vcpu *v, struct site *s, i32 behind)
{
    const void *next = finish_tu(v, s, behind);
    if (misses_often(s))
        learn(v, s->f, s->f->gpa, LEARNED_ALONE, STAT_BT_ADAPT_ALONE);
    return next;
}

static bool l1_hits(struct vcpu *v, u64 lin, bool write)
{
    const struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, lin);
    u64 tag = !write ? e->read : bt_cpu(v)->bt->several ? e->write_any : e->write;
    return tag == (lin & PAGE_MASK);
}

/* C has made an access: did it go to a device? The TLB knows its page if not. */
static bool went_to_device(struct vcpu *v, const struct site *s)
{
    u64 lin = bt_cpu(v)->slow_lin;
    return (lin & ~PAGE_MASK) + s->size <= PAGE_SIZE && !v->tlb->breakpoints &&
           v->tlb_ctx != TLB_USER_AC && !l1_hits(v, lin, false);
}

/* Instructions that access devices become callouts at once; these are tried as accesses again after
 * a while. */
static void adapt_to_devices(struct vcpu *v, struct site *s)
{
    u64 gpa = site_gpa(s);
    if (s->kind == SITE_ACCESS && went_to_device(v, s) && ++s->misses == TUNE_BT_DEVICE_MISSES)
        learn(v, s->f, gpa, LEARNED_DEVICE, STAT_BT_ADAPT_DEVICE);
    else if (s->kind == SITE_DEVICE && ++s->calls == TUNE_BT_DEVICE_CALLS)
        learn(v, s->f, gpa, LEARNED_DEVICE | LEARNED_DIVIDES, STAT_BT_ADAPT_BACK);
}

static const void *execute_site(struct vcpu *v, struct site *s)
{
    struct bt_cpu *b = bt_cpu(v);
    struct fragment *f = s->f;
    bool fp_live = b->fp_live;
    bt_fpu_save(v);
    b->left = NULL;
    if (!execute(v, s, s->off))
        return NULL;
    adapt_to_devices(v, s);
    if (s->kind == SITE_RETURN && ++s->misses == TUNE_BT_STRAY_RETURNS)
        learn(v, f, site_gpa(s), LEARNED_STRAYS, STAT_BT_ADAPT_STRAYS);
    i32 behind = s->off + v->cur->len;
    if (s->kind == SITE_GROUP)
        return group_missed(v, s, behind);
    if (s->leads)
        return finish_tu(v, s, behind);
    if (s->kind == SITE_END || s->insn + 1 >= f->insns || v->cur->flags & INSN_END)
        return bt_next(v); /* POPF, too, may have changed what the TU counts on (AC) */
    if (bt_disturbed(v) || f->dead || v->rip != f->rip + (u64)(i64)behind)
        return NULL;
    bt_flags_in(v);
    if (fp_live && s->kind != SITE_CALLOUT && s->kind != SITE_DEVICE)
        bt_fpu_load(v); /* later instructions of the TU count on it */
    return tcache_rx(b->bt->tc, s->next);
}

/* Do spans of the code there come from windows? */
static bool on_hot_page(struct vcpu *v, const struct site *s)
{
    return bt_cpu(v)->bt->tc->learned[tcache_learned_hash(site_gpa(s) & PAGE_MASK)] &
           LEARNED_HOT_PAGE;
}

/* A span that is filled too often is from a window the next time, if the address space has any;
 * else, or if it was already, the access goes through the TLB from now on. */
static void fill_span(struct vcpu *v, const struct site *s, u64 lin)
{
    struct tcache *tc = bt_cpu(v)->bt->tc;
    u64 gpa = site_gpa(s);
    bool hot = on_hot_page(v, s);
    bool roams = tc->learned[tcache_learned_hash(gpa)] & LEARNED_ROAMS;
    if (spans_fill(v, s, lin, hot))
        return;
    if (!hot && windows_at_hand(v))
        stat_add(&v->stats, STAT_BT_ADAPT_WINDOWS, tcache_give_windows(tc, gpa & PAGE_MASK));
    else
        learn(v, s->f, gpa, roams ? LEARNED_ROAMS_WIDELY : LEARNED_ROAMS, STAT_BT_ADAPT_ROAMS);
}

/* What became of an access that missed. */
enum miss { MISS_FILLED, MISS_FAULTS, MISS_LEFT };

/* The TLB does not know the page. False: a page fault, with *error. */
static bool walk_to(struct vcpu *v, u64 lin, unsigned access, u32 *error)
{
    u64 gpa;
    return tlb_translate(v, lin, access, (enum tlb_context)v->tlb_ctx, &gpa, error);
}

/* Makes the first-level TLB let the access through, and fills its span. A group whose first access
 * reads must not set the page's D bit yet: it is enough if the TLB knows that it is set. */
static enum miss refill(struct vcpu *v, const struct site *s, u32 *error)
{
    struct bt_cpu *b = bt_cpu(v);
    u64 lin = b->slow_lin;
    unsigned need = s->group_writes ? ACCESS_WRITE : s->access;
    /* A store that another fault prevents does not make the page dirty. */
    bool walks = need == s->access && !(need & ACCESS_WRITE && s->may_refuse);
    if ((lin & ~PAGE_MASK) + s->size > PAGE_SIZE)
        return s->span != NO_SPAN && on_hot_page(v, s) && spans_fill_across(v, s, lin) ? MISS_FILLED
                                                                                       : MISS_LEFT;
    if (!l1_hits(v, lin, need & ACCESS_WRITE)) {
        stat_inc(&v->stats, STAT_BT_REFILLS);
        if (!tlb_refill(v, lin, need)) {
            if ((!walks && s->access & ACCESS_WRITE) || (v->mode == MODE_LONG64 && !canonical(lin)))
                return MISS_LEFT;
            if (!walk_to(v, lin, s->access, error))
                return MISS_FAULTS;
        }
        if (!l1_hits(v, lin, need & ACCESS_WRITE))
            return MISS_LEFT;
    }
    if (s->span != NO_SPAN)
        fill_span(v, s, lin);
    return MISS_FILLED;
}

/* The access goes to another region from now on, but this is believed only once; or by the other
 * schemes. */
static void leave_mirror(struct vcpu *v, const struct site *s, u64 lin)
{
    struct tcache *tc = bt_cpu(v)->bt->tc;
    unsigned region = mirror_region(lin);
    bool known = tc->learned[tcache_learned_hash(site_gpa(s))] / LEARNED_REGION;
    if (s->outside && !known && region < MIRROR_REGIONS)
        learn(v, s->f, site_gpa(s), (u16)(LEARNED_REGION * (1 + region)), STAT_BT_ADAPT_REGION);
    else
        learn(v, s->f, site_gpa(s), LEARNED_UNMIRRORED, STAT_BT_ADAPT_UNMIRRORED);
}

/* An access found nothing in the mirror. What could be shown now is missed rarely; if it could not,
 * it will be missed again. */
static enum miss look_into_mirror(struct vcpu *v, struct site *s, u32 *error)
{
    u64 lin = bt_cpu(v)->slow_lin, last = lin + s->size - 1;
    bool write = s->access & ACCESS_WRITE, shown = false;
    enum miss miss = refill(v, s, error);
    stat_inc(&v->stats, STAT_BT_MIRROR_MISSES);
    if (miss != MISS_FAULTS && !s->outside) {
        shown = mirror_show(v, lin, write);
        if ((lin ^ last) & PAGE_MASK)
            shown |= mirror_show(v, last, write);
    }
    s->misses = (u8)(s->misses + (shown ? 1 : MIRROR_NOT_SHOWN));
    if (s->misses >= TUNE_BT_MIRROR_MISSES)
        leave_mirror(v, s, lin);
    return miss;
}

/* A store of at most s->size bytes went to a page with code. */
static const void *look_at_store(struct vcpu *v, struct site *s)
{
    struct bt_cpu *b = bt_cpu(v);
    u64 lin = b->stored_lin;
    const struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, lin);
    unsigned len = MIN(s->size, (unsigned)(PAGE_SIZE - (lin & ~PAGE_MASK)));
    bool fp_live = b->fp_live;
    bt_fpu_save(v);
    ram_written(v, (void *)(uintptr_t)(lin + e->addend), len);
    if (s->f->dead && s->insn < s->f->insns) { /* perhaps by another vCPU's store */
        b->left = NULL;
        return NULL;
    }
    v->code_written = 0;
    bt_flags_in(v);
    if (fp_live)
        bt_fpu_load(v);
    return tcache_rx(b->bt->tc, s->next);
}

/* The x87 pointers of an instruction before s, which left storing them to a later one. */
static void store_pointers(struct vcpu *v, const struct site *s)
{
    if (!s->late)
        return;
    v->fpu.legacy.fop = s->late_fop;
    v->fpu.legacy.fip = s->f->rip + (u64)(i64)s->late_off;
    v->fpu.fip_sel = v->seg[SEG_CS].sel;
}

/* A REP instruction that stopped between iterations: the next time it begins with what is left. */
static const void *stop_repeat(struct vcpu *v)
{
    bt_fpu_save(v);
    bt_cpu(v)->left = NULL;
    v->rflags |= FLAG_RF;
    return NULL;
}

const void *bt_slow(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    struct tcache *tc = b->bt->tc;
    struct site *s = &tc->site[b->site];
    enum repeat repeat = REPEAT_LEFT;
    enum miss miss = MISS_LEFT;
    const void *next;
    u32 error;
    switch (s->kind) {
    case SITE_ACCESS:
    case SITE_GROUP:
        miss = refill(v, s, &error);
        if (miss == MISS_FILLED && likely(!s->f->dead)) /* the walk may have written to the code */
            return tcache_rx(tc, s->retry);
        break;
    case SITE_MIRROR:
        miss = look_into_mirror(v, s, &error);
        break;
    case SITE_FPU:
        stat_inc(&v->stats, STAT_BT_FPU_LOADS);
        bt_fpu_load(v);
        return tcache_rx(tc, s->next);
    case SITE_REPEAT:
        repeat = bt_repeat(v, s);
        if (repeat == REPEAT_DONE)
            return tcache_rx(tc, s->next);
        if (repeat == REPEAT_AGAIN)
            return tcache_rx(tc, s->retry);
        break;
    case SITE_QUICK:
        store_pointers(v, s); /* it may lead out of the fragment */
        if (bt_quick(v, s, &next))
            return next;
        break;
    default:
        break;
    }
    bt_flags_out(v);
    v->rip = site_rip(s);
    b->block_insns = s->insn;
    store_pointers(v, s);
    if (miss == MISS_FAULTS && s->first_fault && likely(!s->f->dead) &&
        bt_quick_fault(v, s, b->slow_lin - (u64)(i64)s->low, error, &next))
        return next;
    if (s->kind == SITE_WRITTEN) {
        stat_inc(&v->stats, STAT_BT_CODE_STORES);
        return look_at_store(v, s);
    }
    if (repeat == REPEAT_STOPPED)
        return stop_repeat(v);
    return execute_site(v, s);
}
