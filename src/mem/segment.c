/*
 * Segmentation checks (SDM vol. 3, 5.3 and 3.4) for all that the fast path of seg_lin does not
 * cover: segments with a base or a limit, and addresses that are about to fault.
 */
#include "mem/access.h"

static _Noreturn void segment_fault(struct vcpu *v, enum seg_reg seg)
{
    fault_raise_error(v, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

static bool type_allows(u32 attr, enum access access)
{
    if (attr & SEG_CODE)
        return !(access & ACCESS_WRITE) && (attr & SEG_READABLE);
    return !(access & ACCESS_WRITE) || (attr & SEG_WRITABLE);
}

/* Accesses that wrap around the end of a segment of 4 GiB are permitted, as on most CPUs. */
static bool limit_allows(const struct segment *s, u64 off, unsigned size)
{
    u64 last = off + size - 1;
    if ((s->attr & (SEG_CODE | SEG_DOWN)) == SEG_DOWN)
        return off > s->limit && last <= (s->attr & SEG_DB ? 0xffffffff : 0xffff);
    return last <= s->limit || s->limit == 0xffffffff;
}

u64 seg_lin_slow(struct vcpu *v, enum seg_reg seg, u64 off, unsigned size, enum access access)
{
    const struct segment *s = &v->seg[seg];
    if (v->mode == MODE_LONG64) /* the fast path found it not canonical */
        segment_fault(v, seg);
    if (cpu_protected(v) && ((s->attr & SEG_UNUSABLE) || !type_allows(s->attr, access)))
        segment_fault(v, seg);
    if (!limit_allows(s, (u32)off, size))
        segment_fault(v, seg);
    return (u32)(s->base + off);
}
