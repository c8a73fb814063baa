/*
 * The semantic function of all instructions that run natively: the checks before, the memory
 * operand (guest RAM itself where it is in one page, else a buffer with the same alignment), the
 * thunk, and the guest's fault if the host raised a signal.
 */
#include "engine/sem/native.h"
#include "engine/sem/sem_common.h"
#include "engine/sem/sem_fpu.h"
#include "mem/journal.h"

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

/* Operands that must be aligned have a power of two as their size. */
static bool misaligned(const struct thunk *t, u64 lin)
{
    return t->recipe.must_align && (lin & (t->recipe.mem_size - 1u));
}

static void run_direct(struct vcpu *v, const struct thunk *t, u8 *p)
{
    run(v, t, p);
    if (t->recipe.mem_access & OPD_WRITE)
        lin_direct_written(v, p, t->recipe.mem_size);
}

/* With all checks. Page offsets are the same in the guest and in the host, and so is every
 * alignment. */
static void run_memory_slow(struct vcpu *v, const struct insn *i, const struct thunk *t)
{
    unsigned size = t->recipe.mem_size, room;
    enum access access = t->recipe.mem_access & OPD_WRITE ? ACCESS_WRITE : ACCESS_READ;
    u64 gpa, lin = mem_lin(v, i, size, access);
    if (misaligned(t, lin))
        fault_gp(v, 0); /* before any page fault */
    u8 *p = lin_direct(v, lin, access, &room, &gpa);
    if (likely(p && room >= size)) {
        if (t->recipe.mem_access & OPD_WRITE)
            journal_store(v, p, size);
        run_direct(v, t, p);
    } else {
        run_bounced(v, t, lin);
    }
}

static void run_memory(struct vcpu *v, const struct insn *i, const struct thunk *t)
{
    u64 lin;
    const struct tlb_entry *e = quick_entry(v, i, &lin);
    u64 tag = t->recipe.mem_access & OPD_WRITE ? e->write_any : e->read;
    if (likely(quick_hit(v, i, tag, lin, t->recipe.mem_size) && !misaligned(t, lin)))
        run_direct(v, t, tlb_hva(e, lin));
    else
        run_memory_slow(v, i, t);
}

static void native(struct vcpu *v, const struct insn *i)
{
    const struct thunk *t = i->aux;
    if (unlikely(!t || (v->align_check && t->recipe.mem_size)))
        t = native_find(v, i, v->align_check);
    check_available(v, t->recipe.kind);

    u64 ea = effective_address(v, i); /* before a register of it changes */
    if (t->recipe.mem_size)
        run_memory(v, i, t);
    else
        run(v, t, NULL);
    if (t->recipe.kind == NATIVE_X87)
        fpu_set_pointers(v, i, t->recipe.fop, ea);
}

SEM_SAME(native, native);
