/*
 * The semantic function of all instructions that run natively: the checks before, the memory
 * operand (guest RAM itself where it is in one page, else a buffer with the same alignment), the
 * thunk, and the guest's fault if the host raised a signal.
 */
#include "engine/sem/native.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_fpu.h"
#include "mem/access.h"

static void check_available(struct vcpu *v, enum native_kind kind)
{
    switch (kind) {
    case NATIVE_X87:
        check_x87(v);
        break;
    case NATIVE_MMX:
        check_mmx(v);
        break;
    case NATIVE_MMX_SSE:
        check_sse(v);
        check_pending_x87(v);
        break;
    case NATIVE_SSE:
        check_sse(v);
        break;
    case NATIVE_AVX:
        check_avx(v);
        break;
    }
}

/* FXSAVE in the thunk stores the host's idea of FIP, FDP and FOP: they point into the thunk. */
static void run(struct vcpu *v, const struct thunk *t, void *mem)
{
    if (t->recipe.kind == NATIVE_SSE || t->recipe.kind == NATIVE_AVX) {
        native_run(v, t, mem);
        return;
    }
    struct fpu_legacy *x = &v->fpu.legacy;
    u64 fip = x->fip, fdp = x->fdp;
    u16 fop = x->fop;
    native_run(v, t, mem);
    x->fip = fip;
    x->fdp = fdp;
    x->fop = fop;
}

static void run_bounced(struct vcpu *v, const struct thunk *t, u64 lin)
{
    u8 buf[128] __attribute__((aligned(64)));
    u8 *mem = buf + (lin & 63);
    unsigned size = t->recipe.mem_size;
    assert(size <= 64);
    if (t->recipe.mem_access & OPD_WRITE)
        lin_probe(v, lin, size, ACCESS_WRITE);
    /* A store that an unmasked x87 exception holds back leaves memory as it is: read that too. */
    if (t->recipe.mem_access & OPD_READ || t->recipe.kind == NATIVE_X87)
        lin_read_bytes(v, lin, mem, size);
    run(v, t, mem);
    if (t->recipe.mem_access & OPD_WRITE)
        lin_write_bytes(v, lin, mem, size);
}

/* Page offsets are the same in the guest and in the host, and so is every alignment. */
static u8 *guest_ram(struct vcpu *v, u64 lin, unsigned size, bool write)
{
    const struct tlb_entry *e = tlb_entry(v->tlb, v->tlb_ctx, lin);
    if (likely(tlb_hit(v->tlb, write ? e->write : e->read, lin, size)))
        return tlb_hva(e, lin);
    unsigned room;
    u64 gpa;
    u8 *p = lin_direct(v, lin, write ? ACCESS_WRITE : ACCESS_READ, &room, &gpa);
    return room >= size ? p : NULL;
}

static void run_memory(struct vcpu *v, const struct insn *i, const struct thunk *t, u64 ea)
{
    unsigned size = t->recipe.mem_size;
    bool write = t->recipe.mem_access & OPD_WRITE;
    u64 lin = seg_lin(v, i->seg, ea, size, write ? ACCESS_WRITE : ACCESS_READ);
    if (unlikely(t->recipe.must_align && lin % size))
        fault_gp(v, 0); /* before any page fault */
    u8 *p = guest_ram(v, lin, size, write);
    if (unlikely(!p)) {
        run_bounced(v, t, lin);
        return;
    }
    run(v, t, p);
    if (write)
        lin_direct_written(v, p, size);
}

static void native(struct vcpu *v, const struct insn *i)
{
    const struct thunk *t = i->aux;
    if (unlikely(!t || (v->align_check && t->recipe.mem_size)))
        t = native_find(v, i, v->align_check);
    check_available(v, t->recipe.kind);

    u64 ea = 0;
    if (t->recipe.mem_size) {
        ea = sem_ea(v, i);
        run_memory(v, i, t, ea);
    } else {
        run(v, t, NULL);
    }
    if (t->recipe.kind == NATIVE_X87)
        fpu_set_pointers(v, i, t->recipe.fop, ea);
}

SEM_SAME(native, native);
