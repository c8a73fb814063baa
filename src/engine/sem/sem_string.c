/*
 * String instructions. With REP they work in blocks: as many elements as lie in one page of RAM on
 * each side, have no wrap of an offset or segment limit in them, and fit in the budget until the
 * next look at events; where that is not possible (devices, page crossings), one element at a time.
 * Registers are committed after each block, so a fault or an interrupt finds them at the last
 * completed iteration, with RIP at the instruction.
 */
#include "cpu/irq.h"
#include "engine/sem/sem_common.h"
#include "mem/journal.h"

/* One side of a string operation: [rSI] in the instruction's segment or [rDI] in ES. */
struct stream {
    u8 *p;    /* first element in guest RAM, or NULL: use lin */
    u64 lin;  /* linear address of the first element, checked for the access */
    u64 most; /* elements that p is good for */
    i64 step; /* bytes from one element to the next: the size, or minus the size (DF) */
};

static void stream_advance(struct vcpu *v, const struct insn *i, unsigned reg, i64 bytes)
{
    u64 off = v->gpr[reg] + (u64)bytes;
    if (i->addrsize == 2)
        reg_write(v, reg, 2, off);
    else
        v->gpr[reg] = off & size_mask(i->addrsize);
}

/* Elements from off on, in the direction of step, until the offset wraps or the limit comes. */
static u64 offsets_left(const struct vcpu *v, const struct insn *i, unsigned seg, u64 off, i64 step,
                        unsigned size)
{
    u64 last = size_mask(i->addrsize);
    if (step < 0)
        return off / size + 1;
    if (v->mode != MODE_LONG64) {
        if ((v->seg[seg].attr & (SEG_CODE | SEG_DOWN)) == SEG_DOWN)
            return 1;
        last = MIN(last, v->seg[seg].limit);
    }
    return off > last - (size - 1) ? 1 : (last - off + 1) / size;
}

/* Elements from lin on in its page; 0 if the first one crosses the page's end. */
static u64 elements_in_page(u64 lin, i64 step, unsigned size)
{
    u64 in_page = lin & ~PAGE_MASK;
    if (in_page + size > PAGE_SIZE)
        return 0;
    return step < 0 ? in_page / size + 1 : (PAGE_SIZE - in_page) / size;
}

/* Opens the stream at rSI or rDI for up to `count` elements; raises the first element's segment
 * fault, and, if count > 1, its page fault. */
static struct stream stream_open(struct vcpu *v, const struct insn *i, unsigned reg, unsigned size,
                                 enum access access, u64 count)
{
    unsigned seg = reg == RDI ? SEG_ES : i->seg, room;
    u64 off = v->gpr[reg] & size_mask(i->addrsize), gpa;
    struct stream s = {.most = 1, .step = v->rflags & FLAG_DF ? -(i64)size : (i64)size};

    s.lin = seg_lin(v, (enum seg_reg)seg, off, size, access);
    if (count == 1)
        return s;
    u64 most =
        MIN(elements_in_page(s.lin, s.step, size), offsets_left(v, i, seg, off, s.step, size));
    if (most > 1)
        s.p = lin_direct(v, s.lin, access, &room, &gpa);
    if (s.p)
        s.most = most;
    else
        lin_probe(v, s.lin, size, access);
    return s;
}

/* The lowest address of n elements. */
static u8 *stream_low(const struct stream *s, u64 n)
{
    return s->step < 0 ? s->p - (n - 1) * (u64)-s->step : s->p;
}

ALWAYS_INLINE u64 stream_load(struct vcpu *v, const struct stream *s, u64 k, unsigned size)
{
    return s->p ? ram_load(s->p + (i64)k * s->step, size) : lin_read(v, s->lin, size);
}

ALWAYS_INLINE void stream_store(struct vcpu *v, const struct stream *s, u64 k, u64 value,
                                unsigned size)
{
    if (s->p)
        ram_store(s->p + (i64)k * s->step, value, size);
    else
        lin_write(v, s->lin, value, size);
}

static void stream_writing(struct vcpu *v, const struct stream *s, u64 n, unsigned size)
{
    if (s->p)
        journal_store(v, stream_low(s, n), (unsigned)(n * size));
}

static void stream_written(struct vcpu *v, const struct stream *s, u64 n, unsigned size)
{
    if (s->p)
        lin_direct_written(v, stream_low(s, n), (unsigned)(n * size));
}

/* --- the operations: run at most count elements, count > 0; return how many. *done: the repetition
 * ends here --- */

typedef u64 block_fn(struct vcpu *v, const struct insn *i, unsigned size, u64 count, bool *done);

/* Whether copying in one go gives what element by element does: not if the destination lies ahead
 * of the source in the direction of travel, within the block. */
static bool may_copy_at_once(const struct stream *src, const struct stream *dst, u64 len)
{
    if (!src->p || !dst->p)
        return false;
    u64 ahead = src->step < 0 ? (u64)(src->p - dst->p) : (u64)(dst->p - src->p);
    return ahead - 1 >= len - 1;
}

ALWAYS_INLINE u64 movs_block(struct vcpu *v, const struct insn *i, unsigned size, u64 count,
                             bool *done)
{
    (void)done;
    struct stream src = stream_open(v, i, RSI, size, ACCESS_READ, count);
    struct stream dst = stream_open(v, i, RDI, size, ACCESS_WRITE, count);
    u64 n = MIN(count, MIN(src.most, dst.most));
    stream_writing(v, &dst, n, size);
    if (n > 1 && may_copy_at_once(&src, &dst, n * size))
        memmove(stream_low(&dst, n), stream_low(&src, n), n * size);
    else
        for (u64 k = 0; k < n; k++)
            stream_store(v, &dst, k, stream_load(v, &src, k, size), size);
    stream_written(v, &dst, n, size);
    stream_advance(v, i, RSI, (i64)n * src.step);
    stream_advance(v, i, RDI, (i64)n * dst.step);
    return n;
}

ALWAYS_INLINE u64 stos_block(struct vcpu *v, const struct insn *i, unsigned size, u64 count,
                             bool *done)
{
    (void)done;
    struct stream dst = stream_open(v, i, RDI, size, ACCESS_WRITE, count);
    u64 n = MIN(count, dst.most), value = reg_read(v, RAX, size);
    stream_writing(v, &dst, n, size);
    if (dst.p && value == (u8)value * (0x0101010101010101 & size_mask(size)))
        memset(stream_low(&dst, n), (int)(u8)value, n * size);
    else
        for (u64 k = 0; k < n; k++)
            stream_store(v, &dst, k, value, size);
    stream_written(v, &dst, n, size);
    stream_advance(v, i, RDI, (i64)n * dst.step);
    return n;
}

ALWAYS_INLINE u64 lods_block(struct vcpu *v, const struct insn *i, unsigned size, u64 count,
                             bool *done)
{
    (void)done;
    struct stream src = stream_open(v, i, RSI, size, ACCESS_READ, count);
    u64 n = MIN(count, src.most);
    reg_write(v, RAX, size, stream_load(v, &src, n - 1, size));
    stream_advance(v, i, RSI, (i64)n * src.step);
    return n;
}

/* The flags of CMP a, b. */
#define HOST_CMP(size, suffix, m, ...)                                                             \
    static u32 cmp_flags_##size(u64 a, u64 b)                                                      \
    {                                                                                              \
        u32 flags;                                                                                 \
        __asm__("cmp" suffix " %" m "2, %" m "1" HOST_FLAGS_SAVE                                   \
                : "=a"(flags)                                                                      \
                : "r"(a), "r"(b)                                                                   \
                : "cc");                                                                           \
        return flags;                                                                              \
    }
FOR_SIZES(HOST_CMP, )

ALWAYS_INLINE void set_cmp_flags(struct vcpu *v, u64 a, u64 b, unsigned size)
{
    flags_set_image(v, size == 1   ? cmp_flags_1(a, b)
                       : size == 2 ? cmp_flags_2(a, b)
                       : size == 4 ? cmp_flags_4(a, b)
                                   : cmp_flags_8(a, b));
}

/* Does REPE or REPNE go on after a comparison with this result? */
ALWAYS_INLINE bool repeats(const struct insn *i, bool equal)
{
    return i->prefix & PFX_REPNE ? !equal : equal;
}

ALWAYS_INLINE u64 cmps_block(struct vcpu *v, const struct insn *i, unsigned size, u64 count,
                             bool *done)
{
    struct stream a = stream_open(v, i, RSI, size, ACCESS_READ, count);
    struct stream b = stream_open(v, i, RDI, size, ACCESS_READ, count);
    u64 most = MIN(count, MIN(a.most, b.most)), n = 0, left, right;
    do {
        left = stream_load(v, &a, n, size);
        right = stream_load(v, &b, n, size);
        n++;
    } while (n < most && repeats(i, left == right));
    *done = !repeats(i, left == right);
    set_cmp_flags(v, left, right, size);
    stream_advance(v, i, RSI, (i64)n * a.step);
    stream_advance(v, i, RDI, (i64)n * b.step);
    return n;
}

ALWAYS_INLINE u64 scas_block(struct vcpu *v, const struct insn *i, unsigned size, u64 count,
                             bool *done)
{
    struct stream b = stream_open(v, i, RDI, size, ACCESS_READ, count);
    u64 most = MIN(count, b.most), n = 0, value = reg_read(v, RAX, size), right;
    do
        right = stream_load(v, &b, n++, size);
    while (n < most && repeats(i, value == right));
    *done = !repeats(i, value == right);
    set_cmp_flags(v, value, right, size);
    stream_advance(v, i, RDI, (i64)n * b.step);
    return n;
}

/* --- repetition --- */

static void set_count(struct vcpu *v, const struct insn *i, u64 count)
{
    if (i->addrsize == 2)
        reg_write(v, RCX, 2, count);
    else
        v->gpr[RCX] = count;
}

ALWAYS_INLINE void string_any(struct vcpu *v, const struct insn *i, unsigned size, block_fn *run)
{
    bool done = false;
    if (!(i->prefix & (PFX_REP | PFX_REPNE))) {
        run(v, i, size, 1, &done);
        return;
    }
    u64 left = v->gpr[RCX] & size_mask(i->addrsize);
    u64 budget = v->rflags & FLAG_TF ? 1 : TUNE_REP_CHUNK;
    while (left) {
        u64 n = run(v, i, size, MIN(left, budget), &done);
        left -= n;
        budget -= n;
        set_count(v, i, left);
        if (done)
            return;
        if (left && (!budget || v->code_written || v->pending_db || vcpu_events(v))) {
            v->rip = sem_start(v);
            return;
        }
    }
}

#define STRING_OP(name)                                                                            \
    FOR_SIZES(SEM_FUNCTION, name, string_any, name##_block)                                        \
    SEM_TABLE_SIZES(name, name)

STRING_OP(movs);
STRING_OP(stos);
STRING_OP(lods);
STRING_OP(cmps);
STRING_OP(scas);
