/*
 * The fast paths of access.h: a first-level TLB hit and one host load or store; all else goes to
 * the functions declared here, in access.c and segment.c.
 */
#ifndef RINGER_MEM_ACCESS_INLINE_H
#define RINGER_MEM_ACCESS_INLINE_H

#include "mem/ramaccess.h"

u64 seg_lin_slow(struct vcpu *v, enum seg_reg seg, u64 off, unsigned size, enum access access);
u64 lin_read_slow(struct vcpu *v, u64 lin, unsigned size);
void lin_write_slow(struct vcpu *v, u64 lin, u64 value, unsigned size);
void lin_rmw_begin_slow(struct vcpu *v, u64 lin, unsigned size, struct lin_rmw *rmw);
void lin_rmw_end_slow(struct vcpu *v, struct lin_rmw *rmw);
u64 lin_exec_gpa_slow(struct vcpu *v, u64 lin);
/* A store of len bytes went to a page that holds code; off is the offset in RAM. */
void ram_written_slow(struct vcpu *v, u64 off, unsigned len);

/* The entry for lin: shift and mask give the byte offset at once, which compilers don't find. */
static inline struct tlb_entry *tlb_entry(struct vcpu *v, unsigned ctx, u64 lin)
{
    u64 offset =
        (lin >> (PAGE_SHIFT - TLB_ENTRY_SHIFT)) & ((TUNE_TLB_L1_ENTRIES - 1) << TLB_ENTRY_SHIFT);
    return (struct tlb_entry *)((char *)v->l1[ctx] + offset);
}

static inline bool tlb_hit(u64 tag, u64 lin, unsigned size)
{
    return ((lin + size - 1) & PAGE_MASK) == tag;
}

static inline void *tlb_hva(const struct tlb_entry *e, u64 lin)
{
    return (void *)(uintptr_t)(lin + e->addend);
}

/* The bookkeeping after a store of len bytes, within one page, to RAM at p. */
static inline void ram_written(struct vcpu *v, const void *p, unsigned len)
{
    u64 off = (u64)((const u8 *)p - v->tlb->ram);
    atomic_signal_fence(memory_order_seq_cst);
    if (unlikely(atomic_load_explicit(&v->tlb->code_mask[off >> PAGE_SHIFT], memory_order_relaxed)))
        ram_written_slow(v, off, len);
}

static inline bool canonical(u64 lin)
{
    return (lin + BIT(47)) >> 48 == 0;
}

static inline u64 seg_lin(struct vcpu *v, enum seg_reg seg, u64 off, unsigned size,
                          enum access access)
{
    if (v->mode == MODE_LONG64) {
        u64 lin = seg >= SEG_FS ? off + v->seg[seg].base : off;
        if (likely(canonical(lin) && canonical(lin + size - 1)))
            return lin;
    } else if (v->flat && seg < SEG_FS && seg != SEG_CS) {
        return (u32)off;
    }
    return seg_lin_slow(v, seg, off, size, access);
}

static inline u64 lin_read(struct vcpu *v, u64 lin, unsigned size)
{
    struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, lin);
    if (likely(tlb_hit(e->read, lin, size)))
        return ram_load(tlb_hva(e, lin), size);
    return lin_read_slow(v, lin, size);
}

static inline void lin_write(struct vcpu *v, u64 lin, u64 value, unsigned size)
{
    struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, lin);
    if (unlikely(!tlb_hit(e->write_any, lin, size))) {
        lin_write_slow(v, lin, value, size);
        return;
    }
    void *p = tlb_hva(e, lin);
    ram_store(p, value, size);
    ram_written(v, p, size);
}

static inline void lin_rmw_begin(struct vcpu *v, u64 lin, unsigned size, struct lin_rmw *rmw)
{
    struct tlb_entry *e = tlb_entry(v, v->tlb_ctx, lin);
    if (unlikely(!tlb_hit(e->write_any, lin, size))) {
        lin_rmw_begin_slow(v, lin, size, rmw);
        return;
    }
    rmw->p = tlb_hva(e, lin);
    rmw->direct = true;
    rmw->size = size;
    rmw->lin = lin;
}

static inline void lin_rmw_end(struct vcpu *v, struct lin_rmw *rmw)
{
    if (likely(rmw->direct))
        ram_written(v, rmw->p, rmw->size);
    else
        lin_rmw_end_slow(v, rmw);
}

static inline void lin_direct_written(struct vcpu *v, const void *p, unsigned len)
{
    ram_written(v, p, len);
}

/* Physical address of the byte at p, if that is in RAM (and not in a ROM's copy). */
static inline bool tlb_ram_gpa(const struct tlb *t, const void *p, u64 *gpa)
{
    u64 off = (u64)((uintptr_t)p - (uintptr_t)t->ram);
    *gpa = off < t->ram_low ? off : off - t->ram_low + RAM_HIGH_BASE;
    return likely(off < t->ram_size);
}

static inline u64 lin_exec_gpa(struct vcpu *v, u64 lin)
{
    u64 exec = tlb_entry(v, v->tlb_ctx, lin)->exec;
    if (likely(tlb_exec_hit(exec, lin)))
        return tlb_exec_gpa(exec, lin);
    return lin_exec_gpa_slow(v, lin);
}

#endif
