/*
 * REP string instructions of translated code. They run as the host's own instruction on as many
 * elements as lie in one page of RAM on each side, so what they do to overlapping blocks and to
 * flags is the processor's doing; registers are committed after each such run. What has a fault, a
 * device or code in its way is left to sem/. Thunks (thunks_repeat.c) do most of REP MOVS and STOS;
 * they come here for one page or element at a time.
 *
 * The host's FPU registers may hold the guest's: this file is compiled without them.
 */
#include "cpu/irq.h"
#include "engine/bt/bt.h"
#include "mem/access.h"

/* What the host's instruction uses. */
struct string {
    u8 *src, *dst;
    u64 count, rax; /* of comparisons rax becomes the flags' image */
    bool down;
};

typedef void host_fn(struct string *s);

#define RUN(code)                                                                                  \
    __asm__ volatile(code                                                                          \
                     : "+S"(s->src), "+D"(s->dst), "+c"(s->count), "+a"(s->rax)                    \
                     :                                                                             \
                     : "memory", "cc")

#define HOST_STRING(name, code)                                                                    \
    static void name(struct string *s)                                                             \
    {                                                                                              \
        if (unlikely(s->down))                                                                     \
            RUN("std\n\t" code "\n\tcld");                                                         \
        else                                                                                       \
            RUN(code);                                                                             \
    }

#define HOST_STRINGS(name, insn, then)                                                             \
    HOST_STRING(name##_1, insn "b" then)                                                           \
    HOST_STRING(name##_2, insn "w" then)                                                           \
    HOST_STRING(name##_4, insn "l" then)                                                           \
    HOST_STRING(name##_8, insn "q" then)

#define TO_IMAGE "\n\tlahf\n\tseto %%al"

HOST_STRINGS(movs, "rep movs", "")
HOST_STRINGS(stos, "rep stos", "")
HOST_STRINGS(lods, "rep lods", "")
HOST_STRINGS(cmps_e, "repe cmps", TO_IMAGE)
HOST_STRINGS(cmps_ne, "repne cmps", TO_IMAGE)
HOST_STRINGS(scas_e, "repe scas", TO_IMAGE)
HOST_STRINGS(scas_ne, "repne scas", TO_IMAGE)

#define SIZES(name)                                                                                \
    {                                                                                              \
        name##_1, name##_2, name##_4, name##_8                                                     \
    }

enum {
    MOVS = 0,
    CMPS = OP_CMPS - OP_MOVS,
    STOS = OP_STOS - OP_MOVS,
    LODS = OP_LODS - OP_MOVS,
    SCAS = OP_SCAS - OP_MOVS
};

static host_fn *const host[2][5][4] = {
    {[MOVS] = SIZES(movs),
     [CMPS] = SIZES(cmps_e),
     [STOS] = SIZES(stos),
     [LODS] = SIZES(lods),
     [SCAS] = SIZES(scas_e)},
    {[MOVS] = SIZES(movs),
     [CMPS] = SIZES(cmps_ne),
     [STOS] = SIZES(stos),
     [LODS] = SIZES(lods),
     [SCAS] = SIZES(scas_ne)},
};

/* The TLB's entry for an access at lin that may go to memory directly; NULL: it may not. */
static const struct tlb_entry *entry(struct vcpu *v, u64 lin, enum access access, bool walk)
{
    const struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, lin);
    if (tlb_hit(access == ACCESS_WRITE ? e->write_any : e->read, lin, 1) ||
        tlb_refill(v, lin, access) || (walk && tlb_refill_walk(v, lin, access)))
        return e;
    return NULL;
}

/* Address of what is at lin; NULL: not to be accessed directly. */
static u8 *direct(struct vcpu *v, u64 lin, enum access access, bool walk)
{
    const struct tlb_entry *e = entry(v, lin, access, walk);
    if (!e || (access == ACCESS_WRITE && atomic_load_explicit(e->code_mask, memory_order_relaxed)))
        return NULL;
    return tlb_hva(e, lin);
}

/* Elements from lin on in its page; 0 if the first one crosses the page's end. */
static u64 elements(u64 lin, unsigned size, bool down)
{
    u64 in_page = lin & ~PAGE_MASK;
    if (in_page + size > PAGE_SIZE)
        return 0;
    return down ? in_page / size + 1 : (PAGE_SIZE - in_page) / size;
}

static u64 address_mask(const struct vcpu *v)
{
    return v->mode == MODE_LONG64 ? ~0ULL : 0xffffffff;
}

/* Linear address of the next element at rSI or rDI. */
static u64 side_lin(const struct vcpu *v, const struct site *s, unsigned reg)
{
    unsigned seg = reg == RDI ? SEG_ES : repeat_seg(s->access);
    u64 lin = v->gpr[reg];
    if (v->mode != MODE_LONG64 || seg >= SEG_FS)
        lin += v->seg[seg].base;
    return lin & address_mask(v);
}

/* One side of the instruction: its address, and the count cut down to what lies in one page. */
static u8 *side(struct vcpu *v, const struct site *s, unsigned reg, enum access access,
                struct string *str)
{
    u64 lin = side_lin(v, s, reg);
    /* First what needs no walk: a store that can't be made leaves no D bit. */
    u64 room = canonical(lin) ? elements(lin, s->size, str->down) : 0;
    u8 *p = room ? direct(v, lin, access, true) : NULL;
    str->count = p ? MIN(str->count, room) : 0;
    return p;
}

/* Nothing is to be done if str->count becomes 0. */
static void open_sides(struct vcpu *v, const struct site *s, unsigned op, struct string *str)
{
    if (op == MOVS || op == CMPS || op == LODS)
        str->src = side(v, s, RSI, ACCESS_READ, str);
    if (op != LODS && str->count)
        str->dst = side(v, s, RDI, op == MOVS || op == STOS ? ACCESS_WRITE : ACCESS_READ, str);
}

static void commit(struct vcpu *v, unsigned op, const struct string *before,
                   const struct string *after)
{
    u64 mask = address_mask(v);
    if (op == MOVS || op == CMPS || op == LODS)
        v->gpr[RSI] = (v->gpr[RSI] + (u64)(after->src - before->src)) & mask;
    if (op != LODS)
        v->gpr[RDI] = (v->gpr[RDI] + (u64)(after->dst - before->dst)) & mask;
    v->gpr[RCX] = (v->gpr[RCX] - (before->count - after->count)) & mask;
    if (op == LODS)
        v->gpr[RAX] = after->rax;
    if (op == CMPS || op == SCAS)
        bt_cpu(v)->image = after->rax;
}

/* Did the comparison with these flags end the repetition? */
static bool ended(const struct site *s, u64 image)
{
    bool equal = image >> 8 & FLAG_ZF;
    return equal == repeat_ne(s->access);
}

/* Code may have been found in the page since the look before these stores. True: there was some. */
static bool stored(struct vcpu *v, const u8 *p, unsigned bytes)
{
    u64 off = (u64)(p - v->tlb->ram);
    atomic_signal_fence(memory_order_seq_cst);
    if (likely(!atomic_load_explicit(&v->tlb->code_mask[off >> PAGE_SHIFT], memory_order_relaxed)))
        return false;
    bt_fpu_save(v);
    ram_written(v, p, bytes);
    return true;
}

static bool stored_by_run(struct vcpu *v, const struct site *s, const struct string *before,
                          const struct string *after)
{
    const u8 *low = before->down ? after->dst + s->size : before->dst;
    return stored(v, low, (unsigned)(before->count - after->count) * s->size);
}

/* Translated code has stored these bytes right before ES:rDI, in one page. */
static bool stored_before(struct vcpu *v, const struct site *s, u64 bytes)
{
    u64 lin = (side_lin(v, s, RDI) - bytes) & address_mask(v);
    return stored(v, tlb_hva(tlb_entry(v, v->tlb_ctx, lin), lin), (unsigned)bytes);
}

/* --- elements across pages --- */

struct halves {
    u8 *p[2]; /* [1]: NULL if all of it is in one page */
    unsigned first;
};

static void copy(void *to, const void *from, u64 n) /* not by libc, which has vectors for it */
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

/* By what the TLB has: walks might set the first half's D bit though the second one faults. */
static bool open_halves(struct vcpu *v, u64 lin, unsigned size, enum access access,
                        struct halves *h)
{
    unsigned room = (unsigned)(PAGE_SIZE - (lin & ~PAGE_MASK));
    u64 second = (lin + room) & address_mask(v);
    h->first = MIN(room, size);
    h->p[1] = NULL;
    if (!canonical(lin) || !canonical(second))
        return false;
    h->p[0] = direct(v, lin, access, false);
    if (h->first < size)
        h->p[1] = second > lin ? direct(v, second, access, false) : NULL;
    return h->p[0] && (h->p[1] || h->first == size);
}

/* One element of MOVS or STOS that lies across pages on some side. False: not done. *stop: code was
 * hit. */
static bool cross(struct vcpu *v, const struct site *s, unsigned op, bool *stop)
{
    struct halves src, dst;
    u64 value = v->gpr[RAX], by = v->rflags & FLAG_DF ? -(u64)s->size : s->size;
    if ((op != MOVS && op != STOS) ||
        (op == MOVS && !open_halves(v, side_lin(v, s, RSI), s->size, ACCESS_READ, &src)) ||
        !open_halves(v, side_lin(v, s, RDI), s->size, ACCESS_WRITE, &dst))
        return false;
    if (op == MOVS) {
        copy(&value, src.p[0], src.first);
        if (src.p[1])
            copy((u8 *)&value + src.first, src.p[1], s->size - src.first);
        v->gpr[RSI] = (v->gpr[RSI] + by) & address_mask(v);
    }
    copy(dst.p[0], &value, dst.first);
    if (dst.p[1])
        copy(dst.p[1], (u8 *)&value + dst.first, s->size - dst.first);
    v->gpr[RDI] = (v->gpr[RDI] + by) & address_mask(v);
    v->gpr[RCX] = (v->gpr[RCX] - 1) & address_mask(v);
    *stop = stored(v, dst.p[0], dst.first);
    if (dst.p[1])
        *stop |= stored(v, dst.p[1], s->size - dst.first);
    return true;
}

/* --- */

/* As many elements as lie in one page. False: none were done. */
static bool run_page(struct vcpu *v, const struct site *s, struct string *before, bool *stop,
                     bool *done)
{
    unsigned op = repeat_op(s->access);
    open_sides(v, s, op, before);
    if (!before->count)
        return false;
    struct string after = *before;
    host[repeat_ne(s->access)][op][__builtin_ctz(s->size)](&after);
    commit(v, op, before, &after);
    *done = (op == CMPS || op == SCAS) && ended(s, after.rax);
    *stop = (op == MOVS || op == STOS) && stored_by_run(v, s, before, &after);
    return true;
}

enum repeat bt_repeat(struct vcpu *v, const struct site *s)
{
    struct bt_cpu *b = bt_cpu(v);
    if (b->slow_lin && stored_before(v, s, b->slow_lin))
        return REPEAT_STOPPED;
    while (v->gpr[RCX] & address_mask(v)) {
        bool stop = false, done = false;
        struct string str = {.count = v->gpr[RCX] & address_mask(v),
                             .rax = v->gpr[RAX],
                             .down = (v->rflags & FLAG_DF) != 0};
        if (!run_page(v, s, &str, &stop, &done) && !cross(v, s, repeat_op(s->access), &stop))
            return REPEAT_LEFT;
        if (done)
            break;
        if (stop || s->f->dead || __atomic_load_n(&b->poll, __ATOMIC_RELAXED) == BT_POLL_TRAP)
            return REPEAT_STOPPED;
        if (s->retry && !str.down)
            return REPEAT_AGAIN;
    }
    return REPEAT_DONE;
}
