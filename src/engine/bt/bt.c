/*
 * The binary translator as an engine: the dispatcher. It finds or makes the fragment for CS:RIP,
 * links the exit that led here to it, and enters; translated code comes back when it leaves by an
 * exit that is not linked or when something is due. TF, breakpoints and interrupt shadows are left
 * to sem/, one instruction at a time, and so is code that can't be cached.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/timebase.h"
#include "cpu/irq.h"
#include "cpu/model.h"
#include "engine/bt/perfmap.h"
#include "engine/sem/native.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"
#include "mem/access.h"

static int bt_probe(struct error *err)
{
    if (!__builtin_cpu_supports("bmi2"))
        return error_set(err, ENOTSUP, "the host's CPU lacks BMI2");
    return 0;
}

/* --- the machine --- */

static void on_code_write(void *ctx, u64 page, u64 chunks)
{
    struct bt *bt = ctx;
    tcache_invalidate(bt->tc, page, chunks);
}

void bt_cpu_kick(struct bt_cpu *b)
{
    __atomic_store_n(&b->poll, BT_POLL_TRAP, __ATOMIC_SEQ_CST);
    __atomic_store_n(&b->jump_mask, 0, __ATOMIC_SEQ_CST);
    for (unsigned table = 0; table < JUMP_TABLES; table++)
        __atomic_store_n(&b->jump[table][0].tag, b->no_rip, __ATOMIC_SEQ_CST);
}

static bool kicked(const struct bt_cpu *b)
{
    return __atomic_load_n(&b->poll, __ATOMIC_SEQ_CST) == BT_POLL_TRAP;
}

/* Undoes kicks; what they were for must be looked at afterwards. One that is still under way on
 * another thread may have got as far as either. */
static void forget_kicks(struct bt_cpu *b)
{
    if (likely(!kicked(b) && __atomic_load_n(&b->jump_mask, __ATOMIC_SEQ_CST) == JUMP_MASK))
        return;
    __atomic_store_n(&b->poll, (u64)(uintptr_t)&b->poll, __ATOMIC_SEQ_CST);
    __atomic_store_n(&b->jump_mask, JUMP_MASK, __ATOMIC_SEQ_CST);
}

static void kick_all(void *ctx)
{
    struct bt *bt = ctx;
    for (unsigned n = 0; n < bt->m->ncpus; n++)
        bt_cpu_kick(bt_cpu(bt->m->vcpu[n]));
}

static void bt_free(struct bt *bt)
{
    if (bt->tc)
        tcache_destroy(bt->tc);
    decode_cache_destroy(bt->decoded);
    free(bt->trans);
    free(bt);
}

static int bt_create(struct machine *m, void **engine, struct error *err)
{
    struct bt *bt = calloc(1, sizeof(*bt));
    if (!bt)
        return error_errno(err, ENOMEM, "cannot allocate the translator");
    bt->m = m;
    bt->several = m->ncpus > 1;
    bt->trans = bt_trans_create();
    bt->decoded = decode_cache_create();
    size_t size = m->tc_size ? m->tc_size : TUNE_BT_TC_BYTES;
    int rc = bt->trans && bt->decoded ? tcache_create(m, size, &bt->tc, err)
                                      : error_errno(err, ENOMEM, "cannot allocate the translator");
    if (rc == 0 && m->perf_map)
        rc = perf_map_create(bt->tc, &bt->perf_map, err);
    if (rc < 0) {
        bt_free(bt);
        return rc;
    }
    bt->tc->kick = kick_all;
    bt->tc->kick_ctx = bt;
    guestmem_on_code_write(m->mem, on_code_write, bt);
    *engine = bt;
    return 0;
}

static void bt_destroy(void *engine)
{
    struct bt *bt = engine;
    guestmem_on_code_write(bt->m->mem, NULL, NULL);
    perf_map_destroy(bt->perf_map);
    bt_free(bt);
}

/* --- jump tables --- */

static void jump_clear(struct bt_cpu *b, unsigned table)
{
    unsigned logged = b->jump_logged[table];
    if (!logged)
        return;
    for (unsigned n = 0; logged <= JUMP_LOG && n < logged; n++)
        b->jump[table][b->jump_log[table][n]].tag = b->no_rip;
    for (unsigned n = 0; logged > JUMP_LOG && n < JUMP_ENTRIES; n++)
        b->jump[table][n].tag = b->no_rip;
    b->jump_logged[table] = 0;
    b->jump_local[table] = b->jump_based[table] = false;
    b->jump_low[table] = ~0ULL;
    b->jump_high[table] = 0;
    memset(b->jump_pages[table], 0, sizeof(b->jump_pages[table]));
}

static void jump_clear_all(struct bt_cpu *b)
{
    for (unsigned table = 0; table < JUMP_TABLES; table++)
        jump_clear(b, table);
}

/* The word and the bit of jump_pages for a page. */
static u64 *page_word(struct bt_cpu *b, unsigned table, u64 lin)
{
    return &b->jump_pages[table][(lin >> PAGE_SHIFT) % JUMP_PAGES / 64];
}

static u64 page_bit(u64 lin)
{
    return BIT((lin >> PAGE_SHIFT) % 64);
}

static void note_page(struct bt_cpu *b, unsigned table, u64 lin)
{
    *page_word(b, table, lin) |= page_bit(lin);
    b->jump_low[table] = MIN(b->jump_low[table], lin & PAGE_MASK);
    b->jump_high[table] = MAX(b->jump_high[table], lin);
}

/* Can the table have targets in this page? */
static bool perhaps_in_page(struct bt_cpu *b, unsigned table, u64 page)
{
    return page >= b->jump_low[table] && page <= b->jump_high[table] &&
           *page_word(b, table, page) & page_bit(page);
}

/* An empty entry is about to be filled. */
static void jump_note(struct bt_cpu *b, unsigned table, unsigned index)
{
    u16 *logged = &b->jump_logged[table];
    if (*logged < JUMP_LOG)
        b->jump_log[table][*logged] = (u16)index;
    *logged += *logged <= JUMP_LOG;
}

static void jump_enter(struct vcpu *v, const struct fragment *f, u64 lin)
{
    struct bt_cpu *b = bt_cpu(v);
    bool wide = v->mode == MODE_LONG64;
    unsigned table = jump_table(wide, v->tlb_ctx, b->key);
    bool global = tlb_page_global(v, lin);
    /* One local page would cost the kernel's table with each change of the address space. */
    if (v->cpl < 3 && v->cr4 & CR4_PGE && !global)
        return;
    if (!b->chain) /* run_block: indirect jumps are to come back */
        return;
    unsigned index = jump_index(f->rip);
    struct jump_entry *j = &b->jump[table][index];
    if (j->tag == b->no_rip)
        jump_note(b, table, index);
    j->target = (u64)(uintptr_t)tcache_rx(b->bt->tc, f->entry_image);
    __atomic_store_n(&j->tag, jump_tag(wide, f->key, f->rip), __ATOMIC_SEQ_CST);
    if (unlikely(kicked(b))) /* and the first entry must stay empty */
        __atomic_store_n(&j->tag, b->no_rip, __ATOMIC_SEQ_CST);
    note_page(b, table, lin);
    b->jump_local[table] |= !global;
    b->jump_based[table] |= b->bt->tc->key[f->key].cs_base != 0;
}

/* Where the table says that CS:RIP is; the key must be current. */
static const void *jump_find(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    bool wide = v->mode == MODE_LONG64;
    unsigned table = jump_table(wide, v->tlb_ctx, b->key);
    const struct jump_entry *j = &b->jump[table][jump_index(v->rip)];
    if (j->tag != jump_tag(wide, b->key, v->rip))
        return NULL;
    return (const void *)(uintptr_t)j->target;
}

static void jump_clear_if(struct bt_cpu *b, unsigned table, unsigned index, u64 page)
{
    struct jump_entry *j = &b->jump[table][index];
    u64 at = j->tag;
    if (at == b->no_rip)
        return;
    if (table >= JUMP_LEGACY)
        at = (u32)(at + b->bt->tc->key[(at >> 32) - 1].cs_base);
    if ((at ^ page) < PAGE_SIZE)
        j->tag = b->no_rip;
}

/* Takes the targets in this page out. Without a base their RIPs, and so their places, are a range.
 */
static void jump_clear_page(struct bt_cpu *b, unsigned table, u64 page)
{
    unsigned logged = b->jump_logged[table];
    bool based = b->jump_based[table];
    unsigned first = based ? 0 : jump_index(page), entries = based ? JUMP_ENTRIES : PAGE_SIZE / 2;
    for (unsigned n = 0; logged <= JUMP_LOG && n < logged; n++)
        jump_clear_if(b, table, b->jump_log[table][n], page);
    for (unsigned n = 0; logged > JUMP_LOG && n < entries; n++)
        jump_clear_if(b, table, (first + n) % JUMP_ENTRIES, page);
}

/* vcpu.tlb_flushed: targets are known by address only as long as the mapping stays. */
static void on_tlb_flush(struct vcpu *v, enum tlb_flush what, u64 lin)
{
    struct bt_cpu *b = bt_cpu(v);
    for (unsigned table = 0; table < JUMP_TABLES; table++) {
        if (what == TLB_FLUSHED_ALL || (what == TLB_FLUSHED_LOCAL && b->jump_local[table]))
            jump_clear(b, table);
        else if (what == TLB_FLUSHED_PAGE && perhaps_in_page(b, table, lin & PAGE_MASK))
            jump_clear_page(b, table, lin & PAGE_MASK);
    }
    spans_flush(v, what, lin);
}

/* --- the vCPU --- */

static void forget(struct bt_cpu *b)
{
    b->left = NULL;
    b->key = NO_KEY;
    for (unsigned n = 0; n < BT_RECENT_KEYS; n++)
        b->recent[n].number = NO_KEY;
    for (unsigned n = 0; n < BT_WIDE_KEYS; n++)
        b->wide_number[n] = NO_KEY;
    jump_clear_all(b);
    spans_flush(b->v, TLB_FLUSHED_ALL, 0);
    memset(b->decoded, 0, sizeof(b->decoded));
}

static u64 make_no_rip(void)
{
    u64 value;
    if (getrandom(&value, sizeof(value), 0) != sizeof(value))
        value = host_tsc() * 0x9e3779b97f4a7c15ULL;
    return (value | BIT(63)) & ~BIT(62);
}

static int bt_attach(void *engine, struct vcpu *v, struct error *err)
{
    struct bt_cpu *b = bt_cpu(v);
    memset(b, 0, sizeof(*b));
    b->bt = engine;
    b->v = v;
    b->chain = true;
    b->no_rip = make_no_rip();
    b->mirror_space = NO_SPACE;
    forget_kicks(b);
    memset(b->jump_logged, 0xff, sizeof(b->jump_logged)); /* all are to be cleared */
    int rc = native_create(v, err);
    if (rc == 0)
        rc = bt_signal_attach(v, err);
    if (rc < 0)
        return rc;
    spans_create(v);
    forget(b);
    v->tlb_flushed = on_tlb_flush;
    v->engine_vcpu = b;
    tlb_flush_all(v);
    tlb_set_breakpoints(v);
    return 0;
}

static void bt_detach(void *engine, struct vcpu *v)
{
    struct bt *bt = engine;
    stat_add(&v->stats, STAT_BT_INVALIDATED, atomic_exchange(&bt->tc->invalidated, 0));
    v->tlb_flushed = NULL;
    bt_signal_detach(v);
    windows_destroy(v);
    mirror_destroy(v);
    v->engine_vcpu = NULL;
    v->cur = &sem_no_insn;
}

static void bt_state_changed(void *engine, struct vcpu *v)
{
    (void)engine;
    tlb_flush_all(v);
    tlb_set_breakpoints(v);
}

static void bt_kick(void *engine, struct vcpu *v)
{
    (void)engine;
    bt_cpu_kick(bt_cpu(v));
}

/* --- keys --- */

static u8 key_bits(struct vcpu *v)
{
    const u64 avx = XCR0_SSE | XCR0_AVX;
    u8 bits = 0;
    if (!(v->cr0 & (CR0_EM | CR0_TS)))
        bits |= KEY_X87 | (v->cr4 & CR4_OSFXSR ? KEY_SSE : 0);
    if (v->cr4 & CR4_OSXSAVE && !(v->cr0 & CR0_TS) && (v->xcr0 & avx) == avx && cpu_protected(v))
        bits |= KEY_AVX;
    if (v->mode == MODE_REAL || v->cpl <= (v->rflags >> 12 & 3))
        bits |= KEY_IOPL;
    if (v->cpl == 0 || !(v->cr4 & CR4_TSD))
        bits |= KEY_TSC;
    if (v->cpl == 3 && bt_cpu(v)->mirror_space == (v->cr3 & PAGE_MASK) && mirror_holds(v))
        bits |= KEY_MIRROR;
    return bits;
}

/* A key as the words that struct bt_key lies in: made in registers, because bytes that have just
 * been stored one by one can't be loaded as words without a stall. */
struct key_words {
    u64 base, low, high;
};
_Static_assert(sizeof(struct key_words) == sizeof(struct bt_key) &&
                   offsetof(struct bt_key, cs_limit) == 8 && offsetof(struct bt_key, mode) == 12 &&
                   offsetof(struct bt_key, quick_segs) == 15 &&
                   offsetof(struct bt_key, flat_segs) == 16 &&
                   offsetof(struct bt_key, bits) == 18 &&
                   offsetof(struct bt_key, limited_segs) == 19,
               "as key_words() puts it together");

/* Outside of 64-bit code. */
static inline u64 stack_bytes(const struct vcpu *v)
{
    if (!((v->quick_segs | v->limited_segs) & BIT(SEG_SS)))
        return 0;
    return v->seg[SEG_SS].attr & SEG_DB ? 4 : 2;
}

static inline struct key_words key_words(struct vcpu *v)
{
    u64 who = (u64)v->mode << 32 | (u64)v->cpl << 40 | (u64)v->tlb_ctx << 48;
    u64 bits = (u64)key_bits(v) << 16;
    if (v->mode == MODE_LONG64)
        return (struct key_words){0, ~0U | who | 0xffULL << 56, 0xff | 8 << 8 | bits};
    return (struct key_words){
        v->seg[SEG_CS].base, (u32)sem_last_ip(v) | who | (u64)v->quick_segs << 56,
        v->flat_segs | stack_bytes(v) << 8 | bits | (u64)v->limited_segs << 24};
}

static u32 number_of(struct bt_cpu *b, const struct key_words *words)
{
    struct tcache *tc = b->bt->tc;
    struct bt_key key;
    memcpy(&key, words, sizeof(key));
    bt_fpu_save(b->v); /* bt_quick() comes with it in the host's registers, which libc may use */
    pthread_mutex_lock(&tc->lock);
    u32 number = tcache_key(tc, &key);
    pthread_mutex_unlock(&tc->lock);
    return number;
}

/* 64-bit code's key depends on little. */
static void update_wide_key(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    u32 *number = &b->wide_number[key_bits(v) << 4 | v->tlb_ctx << 2 | v->cpl];
    if (unlikely(*number == NO_KEY)) {
        struct key_words words = key_words(v);
        *number = number_of(b, &words);
    }
    b->key = *number;
    /* Translated code looks targets up by RIP alone: all must be of the key that it runs with. */
    unsigned table = jump_table(true, v->tlb_ctx, b->key);
    if (unlikely(b->jump_key[table] != b->key)) {
        jump_clear(b, table);
        b->jump_key[table] = b->key;
    }
}

static inline bool is_recent(const struct recent_key *r, const struct key_words *k)
{
    return r->low == k->low && r->high == k->high && r->base == k->base && r->number != NO_KEY;
}

void bt_update_key(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    if (v->mode == MODE_LONG64) {
        update_wide_key(v);
        return;
    }
    struct key_words now = key_words(v);
    u64 hash = (now.base ^ now.low ^ now.high << 24) * 0x9e3779b97f4a7c15ULL;
    struct recent_key *r = &b->recent[hash >> 58 & ~1ULL];
    if (likely(is_recent(r, &now))) {
        b->key = r->number;
    } else if (is_recent(r + 1, &now)) {
        b->key = r[1].number;
    } else {
        r[1] = r[0];
        r[0] = (struct recent_key){now.base, now.low, now.high, number_of(b, &now)};
        b->key = r->number;
    }
}

/* --- finding fragments --- */

/* Physical address of the next page if the instruction at the end of this one may go there. */
static u64 second_gpa(struct vcpu *v, u64 lin, u64 gpa)
{
    u64 next = (lin & PAGE_MASK) + PAGE_SIZE, gpa2;
    u32 error;
    if ((gpa & ~PAGE_MASK) <= PAGE_SIZE - 15)
        return NO_GPA;
    if (v->mode != MODE_LONG64)
        next = (u32)next;
    if (!canonical(next) || !tlb_translate(v, next, ACCESS_EXEC, v->tlb_ctx, &gpa2, &error))
        return NO_GPA;
    return gpa2 & PAGE_MASK;
}

static void made(struct vcpu *v, const struct fragment *f, u64 tsc)
{
    struct bt *bt = bt_cpu(v)->bt;
    stat_add(&v->stats, STAT_BT_TRANSLATING_NS, timebase_tsc_to_ns(bt->m->time, tsc));
    if (bt->perf_map)
        perf_map_add(bt->perf_map, bt->tc, f);
}

static void translated(struct vcpu *v, const struct fragment *f, u64 tsc)
{
    stat_inc(&v->stats, STAT_BT_TRANSLATED);
    stat_add(&v->stats, STAT_BT_GUEST_INSNS, f->insns);
    stat_add(&v->stats, STAT_BT_GUEST_BYTES, f->length);
    stat_add(&v->stats, STAT_BT_HOST_BYTES, (u64)(f->end - f->code));
    stat_add(&v->stats, STAT_BT_EXITS, f->exits);
    made(v, f, tsc);
}

static void cloned(struct vcpu *v, const struct fragment *f, u64 tsc)
{
    stat_inc(&v->stats, STAT_BT_CLONED);
    made(v, f, tsc);
}

/* A fragment that is there already, if that can be known without a page walk; into the jump table.
 */
static const void *find_known(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    struct tcache *tc = b->bt->tc;
    u64 lin = sem_code_lin(v), exec = tlb_entry(v, v->tlb_ctx, lin)->exec;
    const void *target = NULL;
    if (!tlb_exec_hit(exec, lin))
        return NULL;
    pthread_mutex_lock(&tc->lock);
    /* If RIP is not within CS there is none with this key. */
    const struct fragment *f = tcache_find(tc, tlb_exec_gpa(exec, lin), v->rip, b->key);
    if (f && f->settled) {
        jump_enter(v, f, lin);
        target = tcache_rx(tc, f->entry_image);
    }
    pthread_mutex_unlock(&tc->lock);
    return target;
}

const void *bt_next(struct vcpu *v)
{
    bt_update_key(v);
    return bt_next_by_key(v);
}

const void *bt_next_by_key(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    b->left = NULL;
    if (bt_disturbed(v) || vcpu_events(v) || !b->chain || kicked(b))
        return NULL;
    const void *target = jump_find(v);
    if (!target)
        target = find_known(v);
    if (target) {
        v->rflags &= ~FLAG_RF;
        bt_flags_in(v);
    }
    return target;
}

/* What has to be thrown away before there can be a new fragment. */
enum full { FULL_NOT, FULL_SPANS, FULL_ALL };

static enum full is_full(const struct bt_cpu *b, bool extend)
{
    if (!tcache_has_room(b->bt->tc) || b->key == NO_KEY)
        return FULL_ALL;
    return extend && !tcache_has_spans(b->bt->tc) ? FULL_SPANS : FULL_NOT;
}

static struct fragment *make(struct vcpu *v, u64 gpa, u64 gpa2, bool extend)
{
    struct bt *bt = bt_cpu(v)->bt;
    const struct fragment *from = tcache_source(bt->tc, gpa, bt_cpu(v)->key);
    u64 start = host_tsc();
    if (from && (from->settled || !extend)) {
        struct fragment *f = bt_clone(bt, v, from);
        if (f) {
            cloned(v, f, host_tsc() - start);
            return f;
        }
    }
    struct fragment *f = bt_translate(bt, v, gpa, gpa2, extend);
    if (f)
        translated(v, f, host_tsc() - start);
    return f;
}

static bool is_hot(unsigned times)
{
    const unsigned enough = TUNE_BT_HOT;
    return times >= enough;
}

static struct fragment *find_or_make(struct vcpu *v, u64 gpa, u64 gpa2, enum full *full)
{
    struct bt_cpu *b = bt_cpu(v);
    struct tcache *tc = b->bt->tc;
    struct fragment *f = tcache_find(tc, gpa, v->rip, b->key);
    bool extend = f ? !f->settled && is_hot(++f->heat) : is_hot(0);
    if (f && extend && tcache_has_room(tc)) {
        tcache_kill(tc, f);
        stat_inc(&v->stats, STAT_BT_EXTENDED);
    } else if (f) {
        return f->gpa2 == NO_GPA || f->gpa2 == gpa2 ? f : NULL;
    }
    *full = is_full(b, extend);
    if (*full)
        return NULL;
    return make(v, gpa, gpa2, extend);
}

/* Else the mirror came or went between the two, so that the one does not always lead to the other.
 */
static bool mirrored_alike(const struct tcache *tc, const struct fragment *a,
                           const struct fragment *b)
{
    return !((tc->key[a->key].bits ^ tc->key[b->key].bits) & KEY_MIRROR);
}

struct fragment *bt_find(struct vcpu *v)
{
    struct bt_cpu *b = bt_cpu(v);
    struct tcache *tc = b->bt->tc;
    enum full full = FULL_NOT;
    v->cur = &sem_no_insn;
    sem_check_rip(v);
    u64 lin = sem_code_lin(v), gpa = lin_exec_gpa(v, lin), gpa2 = second_gpa(v, lin, gpa);
    pthread_mutex_lock(&tc->lock);
    struct fragment *f = find_or_make(v, gpa, gpa2, &full);
    if (f && b->left && b->chain && f->settled && mirrored_alike(tc, b->left->from, f) &&
        tcache_link(tc, b->left, f, tlb_exec_signature(lin, gpa)))
        stat_inc(&v->stats, STAT_BT_LINKS);
    pthread_mutex_unlock(&tc->lock);
    b->left = NULL;
    if (full) {
        bool mine = tcache_flush(tc, full == FULL_ALL);
        stat_add(&v->stats, full == FULL_ALL ? STAT_BT_FLUSHES : STAT_BT_SPANS_RECYCLED, mine);
        return NULL;
    }
    if (f && f->settled)
        jump_enter(v, f, lin);
    return f;
}

/* --- running --- */

static void run_one(struct vcpu *v)
{
    struct insn i;
    bt_cpu(v)->left = NULL;
    stat_inc(&v->stats, STAT_SEM_ONE);
    v->cur = &sem_no_insn;
    sem_check_code_breakpoint(v);
    sem_fetch(v, &i);
    u64 start = v->rip;
    sem_execute(v, &i);
    bt_cpu(v)->block_insns += !((i.prefix & (PFX_REP | PFX_REPNE)) && v->rip == start);
    v->cur = &sem_no_insn;
    v->code_written = 0;
}

/* After a flush by this or another vCPU nothing of the cache may be remembered. */
static void see_flush(struct bt_cpu *b)
{
    struct tcache *tc = b->bt->tc;
    if (unlikely(atomic_load(&tc->flush_wanted))) {
        tcache_leave(tc);
        tcache_enter(tc);
    }
    if (unlikely(b->generation != atomic_load(&tc->generation))) {
        b->generation = atomic_load(&tc->generation);
        forget(b);
    }
}

static bool events_due(struct vcpu *v)
{
    u32 events = vcpu_events(v);
    if (likely(!events && !v->shadow && !v->activity && !v->pending_db))
        return false;
    return events != EVENT_INTR || v->rflags & FLAG_IF || v->shadow || v->activity || v->pending_db;
}

/* Enters at an entry_image. */
static void enter(struct vcpu *v, const void *target)
{
    struct bt_cpu *b = bt_cpu(v);
    struct tcache *tc = b->bt->tc;
    bt_enter_fn *go = (bt_enter_fn *)(uintptr_t)tcache_rx(tc, tc->thunks.enter);
    v->rflags &= ~FLAG_RF;
    bt_flags_in(v);
    v->cur = &sem_no_insn;
    stat_inc(&v->stats, STAT_BT_ENTRIES);
    if (!go(v, target)) {
        v->cur = &sem_no_insn;
        return;
    }
    bt_fpu_save(v);
    bt_flags_out(v);
    struct exit *x = &tc->exit[b->site];
    v->rip = x->rip;
    b->block_insns = x == x->from->own ? 0 : x->insns;
    b->left = x;
}

/* One entry of translated code or one instruction. */
static void run_here(struct vcpu *v, bool single)
{
    struct bt_cpu *b = bt_cpu(v);
    if (unlikely(single || bt_debugging(v))) {
        run_one(v);
        return;
    }
    bt_update_key(v);
    v->last_rip[v->last_pos++ % TUNE_LAST_BRANCHES] = v->rip;
    const void *known = b->left || !b->chain ? NULL : jump_find(v);
    if (known) {
        enter(v, known);
        return;
    }
    struct fragment *f = bt_find(v);
    if (f)
        enter(v, tcache_rx(b->bt->tc, f->entry_image));
    else if (b->generation == atomic_load(&b->bt->tc->generation))
        run_one(v);
}

/* False: leave, *exit says why. */
static bool turn(struct vcpu *v, struct vm_exit *exit)
{
    struct bt_cpu *b = bt_cpu(v);
    bool shadow = false;
    forget_kicks(b);
    see_flush(b); /* after: a kick for a flush must not be lost */
    v->code_written = 0;
    if (unlikely(events_due(v))) {
        shadow = v->shadow != 0;
        b->left = NULL;
        if (vcpu_events(v) & EVENT_INTR)
            windows_sample(v);
        if (!sem_service_events(v, exit))
            return false;
    }
    run_here(v, shadow);
    return true;
}

static __attribute__((noinline)) void run_loop(struct vcpu *v, struct vm_exit *exit)
{
    while (turn(v, exit))
        ;
}

static void bt_run(void *engine, struct vcpu *v, struct vm_exit *exit)
{
    struct bt *bt = engine;
    exit->text[0] = '\0';
    v->cur = &sem_no_insn;
    bt_cpu(v)->left = NULL;
    bt_cpu(v)->chain = true;
    tcache_enter(bt->tc);
    switch (setjmp(v->unwind)) {
    case UNWIND_NONE:
        break;
    case UNWIND_FAULT:
        bt_cpu(v)->left = NULL;
        v->code_written = 0;
        sem_deliver_fault(v, sem_start(v));
        break;
    default:
        v->rip = sem_start(v);
        exit->kind = v->exit_reason;
        memcpy(exit->text, v->exit_text, sizeof(exit->text));
        tcache_leave(bt->tc);
        return;
    }
    run_loop(v, exit);
    tcache_leave(bt->tc);
}

static unsigned bt_run_block(void *engine, struct vcpu *v, struct vm_exit *exit)
{
    struct bt *bt = engine;
    struct bt_cpu *b = bt_cpu(v);
    v->cur = &sem_no_insn;
    b->left = NULL;
    b->chain = false;
    b->block_insns = 0;
    tcache_enter(bt->tc);
    int why = setjmp(v->unwind);
    if (why == UNWIND_NONE) {
        forget_kicks(b);
        see_flush(b); /* after: a kick for a flush must not be lost */
        v->code_written = 0;
        run_here(v, false);
    } else {
        v->code_written = 0;
        if (why == UNWIND_FAULT) {
            sem_deliver_fault(v, sem_start(v));
        } else {
            v->rip = sem_start(v);
            exit->kind = v->exit_reason;
            memcpy(exit->text, v->exit_text, sizeof(exit->text));
        }
    }
    b->left = NULL;
    tcache_leave(bt->tc);
    return b->block_insns;
}

const struct engine_ops engine_bt = {
    .name = "bt",
    .summary = "translates guest code to host code",
    .probe = bt_probe,
    .create = bt_create,
    .destroy = bt_destroy,
    .attach = bt_attach,
    .detach = bt_detach,
    .run = bt_run,
    .run_block = bt_run_block,
    .kick = bt_kick,
    .state_changed = bt_state_changed,
};
