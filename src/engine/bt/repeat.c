/*
 * REP string instructions of translated code. They run as the host's own instruction on as many
 * elements as lie in one page of RAM on each side, so what they do to overlapping blocks and to
 * flags is the processor's doing; registers are committed after each such run. What has an element
 * across pages, a fault, a device or code in its way is left to sem/.
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

/* Address of the element at lin, or NULL: not to be accessed directly. */
static u8 *direct(struct vcpu *v, u64 lin, enum access access)
{
    const struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, lin);
    bool write = access == ACCESS_WRITE;
    if (!tlb_hit(write ? e->write_any : e->read, lin, 1) && !tlb_refill(v, lin, access) &&
        !tlb_refill_walk(v, lin, access))
        return NULL;
    if (write && atomic_load_explicit(e->code_mask, memory_order_relaxed))
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

/* One side of the instruction: its address, and the count cut down to what lies in one page. */
static u8 *side(struct vcpu *v, const struct site *s, unsigned reg, enum access access,
                struct string *str)
{
    bool wide = v->mode == MODE_LONG64;
    unsigned seg = reg == RDI ? SEG_ES : repeat_seg(s->access);
    u64 lin = v->gpr[reg];
    if (!wide || seg >= SEG_FS)
        lin += v->seg[seg].base;
    if (!wide)
        lin = (u32)lin;
    /* First what needs no walk: a store that can't be made leaves no D bit. */
    u64 room = canonical(lin) ? elements(lin, s->size, str->down) : 0;
    u8 *p = room ? direct(v, lin, access) : NULL;
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
    u64 mask = v->mode == MODE_LONG64 ? ~0ULL : 0xffffffff;
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

/* Code may have been found in the page since the look before the stores. True: there was some. */
static bool look_at_stores(struct vcpu *v, const struct site *s, const struct string *before,
                           const struct string *after)
{
    const u8 *low = before->down ? after->dst + s->size : before->dst;
    u64 off = (u64)(low - v->tlb->ram);
    atomic_signal_fence(memory_order_seq_cst);
    if (likely(!atomic_load_explicit(&v->tlb->code_mask[off >> PAGE_SHIFT], memory_order_relaxed)))
        return false;
    bt_fpu_save(v);
    ram_written(v, low, (unsigned)(before->count - after->count) * s->size);
    return true;
}

enum repeat bt_repeat(struct vcpu *v, const struct site *s)
{
    unsigned op = repeat_op(s->access);
    host_fn *run = host[repeat_ne(s->access)][op][s->size == 8 ? 3 : s->size / 2];
    u64 mask = v->mode == MODE_LONG64 ? ~0ULL : 0xffffffff;
    while (v->gpr[RCX] & mask) {
        struct string before = {
            .count = v->gpr[RCX] & mask, .rax = v->gpr[RAX], .down = (v->rflags & FLAG_DF) != 0};
        open_sides(v, s, op, &before);
        if (!before.count)
            return REPEAT_LEFT;
        struct string after = before;
        run(&after);
        commit(v, op, &before, &after);
        if ((op == CMPS || op == SCAS) && ended(s, after.rax))
            break;
        if ((op == MOVS || op == STOS) && look_at_stores(v, s, &before, &after))
            return REPEAT_STOPPED;
        if (__atomic_load_n(&bt_cpu(v)->poll, __ATOMIC_RELAXED) == BT_POLL_TRAP)
            return REPEAT_STOPPED;
    }
    return REPEAT_DONE;
}
