/*
 * The interpreter: runs decoded blocks, one semantic function per instruction. Between
 * blocks it looks at events; TF, RF, breakpoints, interrupt shadows and code at the segment limit
 * send it through a slow path of single instructions. Guest faults come back to the setjmp in
 * interp_run.
 *
 * Which physical page CS:RIP lies in is remembered and looked up again only when another linear
 * page is entered or after an instruction that may have changed mapping or privilege: those are
 * classes FAR and SYSTEM, faults and events.
 */
#include <errno.h>
#include <stdlib.h>

#include "cpu/irq.h"
#include "engine/interp/cache.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"
#include "mem/access.h"

/* Classes of last instructions after which more is to be done than to go on. */
#define SPECIAL_CLASSES (BIT(CLASS_STRING) | BIT(CLASS_FAR) | BIT(CLASS_IO) | BIT(CLASS_SYSTEM))

#define NO_PAGE 1ULL /* not page-aligned: equal to no page's address */

struct interp {
    struct code_cache *cache;
    u64 page_lin, page_gpa; /* the page being executed */
    struct block *last;     /* the block that ran before, for linking */
    struct block *running;  /* the block being executed; cache_none() outside of blocks */
};

static int interp_probe(struct error *err)
{
    (void)err;
    return 0;
}

static int interp_create(struct machine *m, void **engine, struct error *err)
{
    (void)err;
    *engine = m;
    return 0;
}

static void interp_destroy(void *engine)
{
    (void)engine;
}

/* Forgets what depends on the address space. */
static void forget_page(struct interp *ip)
{
    ip->page_lin = NO_PAGE;
}

static int interp_attach(void *engine, struct vcpu *v, struct error *err)
{
    (void)engine;
    struct interp *ip = calloc(1, sizeof(*ip));
    if (ip)
        ip->cache = cache_create();
    if (!ip || !ip->cache) {
        free(ip);
        return error_errno(err, ENOMEM, "cannot allocate the interpreter's block cache");
    }
    ip->last = ip->running = cache_none(ip->cache);
    forget_page(ip);
    tlb_flush_all(v);
    tlb_set_breakpoints(v);
    v->engine_vcpu = ip;
    return 0;
}

static void interp_detach(void *engine, struct vcpu *v)
{
    (void)engine;
    struct interp *ip = v->engine_vcpu;
    cache_destroy(ip->cache);
    free(ip);
    v->engine_vcpu = NULL;
    v->cur = &sem_no_insn;
}

static void interp_state_changed(void *engine, struct vcpu *v)
{
    (void)engine;
    struct interp *ip = v->engine_vcpu;
    forget_page(ip);
    tlb_flush_all(v);
    tlb_set_breakpoints(v);
}

/* Physical address of CS:RIP. */
static inline u64 code_gpa(struct interp *ip, struct vcpu *v)
{
    u64 lin = sem_code_lin(v);
    if (unlikely((lin & PAGE_MASK) != ip->page_lin)) {
        v->cur = &sem_no_insn;
        sem_check_rip(v);
        ip->page_gpa = lin_exec_gpa(v, lin) & PAGE_MASK;
        ip->page_lin = lin & PAGE_MASK;
    }
    return ip->page_gpa | (lin & ~PAGE_MASK);
}

static struct block *find_and_link(struct interp *ip, struct vcpu *v, u64 gpa)
{
    v->cur = &sem_no_insn;
    struct block *b = cache_get(ip->cache, v, gpa, &ip->last);
    if (b->gpa != NO_GPA && ip->last != cache_none(ip->cache)) {
        ip->last->link[ip->last->next_link] = b;
        ip->last->next_link ^= 1;
    }
    return b;
}

/* The block at CS:RIP. */
static inline struct block *current_block(struct interp *ip, struct vcpu *v)
{
    u64 gpa = code_gpa(ip, v);
    struct block *b = ip->last->link[0];
    if (!block_is(b, gpa, v->mode))
        b = ip->last->link[1];
    if (likely(block_is(b, gpa, v->mode) && page_unchanged(&b->page) && b->gpa2 == NO_GPA))
        return b;
    return find_and_link(ip, v, gpa);
}

static inline void remember_rip(struct vcpu *v)
{
    v->last_rip[v->last_pos++ % TUNE_LAST_BRANCHES] = v->rip;
}

/* Runs b to its end, or to the instruction that wrote to decoded code. Returns the address behind
 * the last instruction executed. */
static inline u64 run_block(struct interp *ip, struct vcpu *v, struct block *b)
{
    const struct insn *i = b->insn, *end = i + b->count;
    u64 rip = v->rip, executed = b->count;
    ip->running = b;
    do {
        rip += i->len;
        v->cur = i;
        v->rip = rip;
        i->sem(v, i);
        i++;
    } while (i != end && likely(!v->code_written));
    if (unlikely(v->code_written)) {
        v->code_written = 0;
        executed = (u64)(i - b->insn);
    }
    ip->last = b;
    stat_add(&v->stats, STAT_INSN_INTERP, executed);
    stat_inc(&v->stats, STAT_INTERP_ENTRIES);
    sem_wrap_rip(v);
    return rip;
}

/* After a block whose last instruction does more than compute and branch; it ended at `next`. */
static void after_special(struct interp *ip, struct vcpu *v, const struct block *b, u64 next)
{
    const struct insn *i = &b->insn[b->count - 1];
    if (b->end_class == CLASS_FAR || b->end_class == CLASS_SYSTEM)
        forget_page(ip);
    else
        sem_mark_repeat(v, i, next - i->len);
}

/* One instruction, with all checks. */
static void run_one(struct interp *ip, struct vcpu *v)
{
    struct block *none = cache_none(ip->cache);
    ip->running = ip->last = none;
    v->cur = &sem_no_insn;
    sem_check_code_breakpoint(v);
    sem_check_rip(v);
    u64 gpa = code_gpa(ip, v);
    const struct insn *i = cache_get(ip->cache, v, gpa, &ip->last)->insn;
    if (sem_last_ip(v) - v->rip < i->len - 1u)
        fault_gp(v, 0);
    remember_rip(v);
    sem_execute(v, i);
    v->code_written = 0;
    forget_page(ip);
    stat_inc(&v->stats, STAT_INSN_INTERP);
}

/* One block, or one instruction if `single` or if there is something to be checked at each. */
static inline void run_here(struct interp *ip, struct vcpu *v, bool single)
{
    if (unlikely(single || sem_debugging(v))) {
        run_one(ip, v);
        return;
    }
    struct block *b = current_block(ip, v);
    if (v->mode != MODE_LONG64 && unlikely(v->rip + b->bytes - 1 > sem_last_ip(v))) {
        run_one(ip, v);
        return;
    }
    remember_rip(v);
    u64 next = run_block(ip, v, b);
    if (BIT(b->end_class) & SPECIAL_CLASSES)
        after_special(ip, v, b, next);
}

/* Takes events, and runs on. False: leave, *exit says why. */
static inline bool turn(struct interp *ip, struct vcpu *v, struct vm_exit *exit)
{
    bool shadow = false; /* events are due right after the next instruction */
    if (unlikely(sem_events_due(v))) {
        shadow = v->shadow != 0;
        forget_page(ip);
        if (!sem_service_events(v, exit))
            return false;
    }
    run_here(ip, v, shadow);
    return true;
}

/* Counts what a block did before its instruction v->cur unwound. */
static void count_unwound(struct interp *ip, struct vcpu *v)
{
    if (v->cur != &sem_no_insn && ip->running != cache_none(ip->cache))
        stat_add(&v->stats, STAT_INSN_INTERP, (u64)(v->cur - ip->running->insn));
    ip->running = ip->last = cache_none(ip->cache);
    v->code_written = 0;
    forget_page(ip);
}

static void leave(struct vcpu *v, struct vm_exit *exit)
{
    v->rip = sem_start(v);
    exit->kind = v->exit_reason;
    memcpy(exit->text, v->exit_text, sizeof(exit->text));
}

/* Apart from interp_run, because setjmp there costs optimizations. */
static __attribute__((noinline)) void run_loop(struct interp *ip, struct vcpu *v,
                                               struct vm_exit *exit)
{
    while (turn(ip, v, exit))
        ;
}

/* Deals with what came back to a setjmp. False: leave, *exit says why. */
static bool unwound(struct interp *ip, struct vcpu *v, int why, struct vm_exit *exit)
{
    if (why == UNWIND_NONE)
        return true;
    count_unwound(ip, v);
    if (why == UNWIND_FAULT)
        sem_deliver_fault(v, sem_start(v));
    else
        leave(v, exit);
    return why == UNWIND_FAULT;
}

static void interp_run(void *engine, struct vcpu *v, struct vm_exit *exit)
{
    (void)engine;
    struct interp *ip = v->engine_vcpu;
    exit->text[0] = '\0';
    v->cur = &sem_no_insn;
    int why = setjmp(v->unwind);
    if (unwound(ip, v, why, exit))
        run_loop(ip, v, exit);
}

static unsigned interp_run_block(void *engine, struct vcpu *v, struct vm_exit *exit)
{
    (void)engine;
    struct interp *ip = v->engine_vcpu;
    const u64 *count = &v->stats.count[STAT_INSN_INTERP];
    const u64 before = *count;
    v->cur = &sem_no_insn;
    int why = setjmp(v->unwind);
    if (why == UNWIND_NONE) {
        run_here(ip, v, false);
        /* Only an instruction that stays has set RF. */
        bool stays = (v->cur->prefix & (PFX_REP | PFX_REPNE)) && (v->rflags & FLAG_RF);
        return (unsigned)(*count - before) - stays;
    }
    unwound(ip, v, why, exit);
    return (unsigned)(*count - before);
}

const struct engine_ops engine_interp = {
    .name = "interp",
    .summary = "interprets every guest instruction",
    .probe = interp_probe,
    .create = interp_create,
    .destroy = interp_destroy,
    .attach = interp_attach,
    .detach = interp_detach,
    .run = interp_run,
    .run_block = interp_run_block,
    .state_changed = interp_state_changed,
};
