/*
 * Event delivery and IRET as they nearly always are: 32-bit or 64-bit interrupt and trap gates,
 * flat stacks, code segments in the GDT that are marked as accessed, tables and frame each in one
 * page of RAM; and real mode. All is looked at before anything changes, so nothing here raises:
 * what is unusual, or would fault, is refused, and left to sem_deliver.c and sem_iret.c, which say
 * what these events do. Compiled to use general registers only: translated code comes here with the
 * guest's FP state in the host's registers.
 */
#include "engine/sem/descriptor.h"
#include "engine/sem/sem_deliver.h"
#include "engine/sem/sem_far.h"
#include "engine/sem/sem_sys.h"

#define CODE               (SEG_S | SEG_CODE)
#define FLAGS_ALWAYS       (FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT)
#define FLAGS_WIDE         (FLAG_RF | FLAG_AC | FLAG_ID)
#define FLAGS_CLEARED      (FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM)
#define FLAGS_CLEARED_REAL (FLAG_TF | FLAG_RF | FLAG_AC | FLAG_IF)
#define FLAT_LIMIT         0xffffffffu

/* --- memory --- */

/* Where the bytes at lin are, all in one page of RAM that ctx may access so; else NULL. To write:
 * a page without code. */
static u8 *find(struct vcpu *v, u64 lin, unsigned size, bool write, enum tlb_context ctx)
{
    const struct tlb_entry *e = tlb_entry(v, ctx, lin);
    u64 gpa;
    u32 error;
    if (!tlb_hit(write ? e->write_any : e->read, lin, size)) {
        unsigned access = write ? ACCESS_WRITE : ACCESS_READ;
        if ((lin & ~PAGE_MASK) + size > PAGE_SIZE || !canonical(lin) ||
            (!v->long_mode && lin >> 32) || !tlb_translate(v, lin, access, ctx, &gpa, &error) ||
            !tlb_hit(write ? e->write_any : e->read, lin, size))
            return NULL;
    }
    if (write && atomic_load_explicit(e->code_mask, memory_order_relaxed))
        return NULL;
    return tlb_hva(e, lin);
}

static u8 *find_system(struct vcpu *v, u64 lin, unsigned size)
{
    return find(v, lin, size, false, TLB_KERNEL);
}

/* After stores to a page that find() gave: another processor may have found code in it since. */
static void look_for_code(struct vcpu *v, const u8 *p, unsigned len)
{
    u64 off = (u64)(p - v->tlb->ram);
    atomic_signal_fence(memory_order_seq_cst);
    if (likely(!atomic_load_explicit(&v->tlb->code_mask[off >> PAGE_SHIFT], memory_order_relaxed)))
        return;
    if (code_written_ram(v->tlb->mem, off, len)) {
        stat_inc(&v->stats, STAT_CODE_WRITE);
        v->code_written = 1;
    }
}

/* --- descriptors --- */

/* The code or data segment that sel names in the GDT, present and accessed. */
static bool find_segment(struct vcpu *v, u16 sel, struct descriptor *d)
{
    u64 lin = v->gdtr.base + (sel & ~7u);
    if (SEL_IS_NULL(sel) || sel & SEL_TI || (sel | 7u) > v->gdtr.limit)
        return false;
    const u8 *p = find_system(v, v->long_mode ? lin : (u32)lin, 8);
    if (!p)
        return false;
    d->lo = ram_load(p, 8);
    d->hi = 0;
    const u32 need = SEG_S | SEG_P | SEG_ACCESSED;
    return (desc_attr(d) & need) == need;
}

static bool is_stack(u32 attr, u16 sel, unsigned cpl)
{
    return (attr & (SEG_CODE | SEG_WRITABLE)) == SEG_WRITABLE && SEL_RPL(sel) == cpl &&
           SEG_DPL(attr) == cpl;
}

/* --- delivery --- */

/* What is new, until it is committed. */
struct entry {
    struct segment cs, ss;
    u64 rip, sp;
    unsigned cpl;
    bool interrupt_gate, inner;
};

static bool find_gate(struct vcpu *v, const struct delivery *d, unsigned size,
                      struct descriptor *gate)
{
    u32 off = d->vector * size;
    if (off + size - 1 > v->idtr.limit)
        return false;
    const u8 *p = find_system(v, v->idtr.base + off, size);
    if (!p)
        return false;
    gate->lo = ram_load(p, 8);
    gate->hi = size == 16 ? ram_load(p + 8, 4) : 0;
    unsigned type = desc_type(gate);
    return desc_is_system(gate) && (type == SYS_INT32 || type == SYS_TRAP32) &&
           desc_present(gate) && !(d->software && desc_dpl(gate) < v->cpl);
}

static bool find_handler(struct vcpu *v, const struct descriptor *gate, struct entry *e)
{
    u16 sel = gate_sel(gate);
    struct descriptor d;
    if (!find_segment(v, sel, &d))
        return false;
    u32 attr = desc_attr(&d);
    if (!(attr & SEG_CODE) || SEG_DPL(attr) > v->cpl)
        return false;
    e->cpl = attr & SEG_CONFORM ? v->cpl : SEG_DPL(attr);
    e->inner = e->cpl < v->cpl;
    e->cs = desc_to_segment(&d, (u16)((sel & ~3) | e->cpl));
    e->rip = gate_offset(gate);
    e->interrupt_gate = !(desc_type(gate) & 1);
    if (e->cpl == 3)
        return false;
    if (v->long_mode)
        return (attr & (SEG_L | SEG_DB)) == SEG_L && canonical(e->rip);
    return e->rip <= e->cs.limit;
}

/* The inner stack by the 32-bit TSS. */
static bool inner_stack(struct vcpu *v, struct entry *e)
{
    u32 off = 4 + 8 * e->cpl;
    if (!(v->tr.attr & 8) || off + 7 > v->tr.limit)
        return false;
    const u8 *p = find_system(v, (u32)(v->tr.base + off), 8);
    struct descriptor d;
    if (!p)
        return false;
    e->sp = ram_load(p, 4);
    u16 sel = (u16)ram_load(p + 4, 2);
    if (!find_segment(v, sel, &d) || !is_stack(desc_attr(&d), sel, e->cpl))
        return false;
    e->ss = desc_to_segment(&d, sel);
    return e->ss.base == 0 && e->ss.limit == FLAT_LIMIT &&
           (e->ss.attr & (SEG_DB | SEG_DOWN)) == SEG_DB;
}

static bool inner_stack64(struct vcpu *v, unsigned ist, struct entry *e)
{
    u32 off = ist ? 28 + 8 * ist : 4 + 8 * e->cpl;
    if (off + 7 > v->tr.limit)
        return false;
    const u8 *p = find_system(v, v->tr.base + off, 8);
    if (!p)
        return false;
    e->sp = ram_load(p, 8);
    return true;
}

/* Makes the frame below e->sp. */
ALWAYS_INLINE bool push_frame(struct vcpu *v, const struct delivery *d, struct entry *e,
                              unsigned size, bool with_stack)
{
    unsigned bytes = (3 + 2 * with_stack + d->has_error) * size;
    u64 sp = e->sp - bytes;
    if (size == 4)
        sp = (u32)sp;
    u8 *p = find(v, sp, bytes, true, TLB_KERNEL), *at = p;
    if (!p)
        return false;
    if (d->has_error) {
        ram_store(at, d->error, size);
        at += size;
    }
    ram_store(at, d->rip, size);
    ram_store(at + size, v->seg[SEG_CS].sel, size);
    ram_store(at + 2 * size, d->flags, size);
    if (with_stack) {
        ram_store(at + 3 * size, v->gpr[RSP], size);
        ram_store(at + 4 * size, v->seg[SEG_SS].sel, size);
    }
    look_for_code(v, p, bytes);
    e->sp = sp;
    return true;
}

static void commit(struct vcpu *v, const struct entry *e)
{
    if (e->inner)
        v->seg[SEG_SS] = e->ss;
    v->seg[SEG_CS] = e->cs;
    v->gpr[RSP] = e->sp;
    v->rip = e->rip;
    v->cpl = (u8)e->cpl;
    v->rflags &= ~(FLAGS_CLEARED | (e->interrupt_gate ? FLAG_IF : 0));
    cpu_update_mode(v);
}

static bool deliver_protected(struct vcpu *v, const struct delivery *d)
{
    struct descriptor gate;
    struct entry e;
    if (!find_gate(v, d, 8, &gate) || !find_handler(v, &gate, &e))
        return false;
    if (e.inner ? !inner_stack(v, &e) : v->flat_stack != FLAT_LIMIT)
        return false;
    if (!e.inner)
        e.sp = v->gpr[RSP];
    if (!push_frame(v, d, &e, 4, e.inner))
        return false;
    commit(v, &e);
    return true;
}

static bool deliver_long(struct vcpu *v, const struct delivery *d)
{
    struct descriptor gate;
    struct entry e;
    if (!find_gate(v, d, 16, &gate) || !find_handler(v, &gate, &e))
        return false;
    unsigned ist = gate_ist(&gate);
    e.sp = v->gpr[RSP];
    if ((ist || e.inner) && !inner_stack64(v, ist, &e))
        return false;
    e.ss = (struct segment){.sel = (u16)e.cpl, .attr = SEG_UNUSABLE | e.cpl << 5};
    e.sp &= ~15ULL;
    if (!push_frame(v, d, &e, 8, true))
        return false;
    commit(v, &e);
    return true;
}

/* size bytes at SS:SP + off, of a 16-bit stack, if nothing wraps. */
static bool real_stack(const struct vcpu *v, int off, unsigned size, u64 *lin)
{
    const struct segment *ss = &v->seg[SEG_SS];
    i64 first = (i64)(v->gpr[RSP] & 0xffff) + off;
    if (first < 0 || first + size - 1 > MIN(ss->limit, 0xffffu) ||
        ss->attr & (SEG_DB | SEG_DOWN | SEG_UNUSABLE))
        return false;
    *lin = (u32)(ss->base + (u64)first);
    return true;
}

static void move_sp(struct vcpu *v, int n)
{
    v->gpr[RSP] = (v->gpr[RSP] & ~0xffffULL) | ((v->gpr[RSP] + (u64)(i64)n) & 0xffff);
}

static bool deliver_real(struct vcpu *v, const struct delivery *d)
{
    u64 lin;
    if (4u * d->vector + 3 > v->idtr.limit || !real_stack(v, -6, 6, &lin))
        return false;
    const u8 *vector = find_system(v, v->idtr.base + 4 * d->vector, 4);
    if (!vector || ram_load(vector, 2) > v->seg[SEG_CS].limit)
        return false;
    u8 *p = find(v, lin, 6, true, TLB_KERNEL);
    if (!p)
        return false;
    u32 target = (u32)ram_load(vector, 4);
    ram_store(p, d->rip, 2);
    ram_store(p + 2, v->seg[SEG_CS].sel, 2);
    ram_store(p + 4, d->flags, 2);
    look_for_code(v, p, 6);
    move_sp(v, -6);
    v->seg[SEG_CS].sel = (u16)(target >> 16);
    v->seg[SEG_CS].base = (u64)v->seg[SEG_CS].sel << 4;
    v->rip = target & 0xffff;
    v->rflags &= ~FLAGS_CLEARED_REAL;
    cpu_update_mode(v);
    return true;
}

bool sem_try_deliver(struct vcpu *v, const struct delivery *d)
{
    if (v->mode == MODE_REAL)
        return deliver_real(v, d);
    if (v->mode == MODE_V86)
        return false;
    return v->long_mode ? deliver_long(v, d) : deliver_protected(v, d);
}

bool sem_try_interrupt(struct vcpu *v, u8 vector)
{
    struct delivery d = {.vector = vector, .software = true, .rip = v->rip, .flags = v->rflags};
    if (!sem_try_deliver(v, &d))
        return false;
    stat_inc(&v->stats, STAT_SOFT_INT);
    return true;
}

bool sem_try_page_fault(struct vcpu *v, u64 lin, u32 error)
{
    struct delivery d = {.vector = VEC_PF,
                         .has_error = true,
                         .error = error,
                         .rip = v->rip,
                         .flags = v->rflags | FLAG_RF};
    if (!sem_try_deliver(v, &d))
        return false;
    stat_inc(&v->stats, STAT_FAULT_PF);
    v->cr2 = lin;
    return true;
}

/* --- IRET --- */

static bool iret_real(struct vcpu *v, unsigned size)
{
    u64 lin, mask = FLAGS_ALWAYS | FLAG_IF | FLAG_IOPL | (size == 4 ? FLAGS_WIDE : 0);
    if (!real_stack(v, 0, 3 * size, &lin))
        return false;
    const u8 *p = find(v, lin, 3 * size, false, v->tlb_ctx);
    if (!p || ram_load(p, size) > v->seg[SEG_CS].limit)
        return false;
    u64 flags = ram_load(p + 2 * size, size);
    v->rip = ram_load(p, size);
    v->rflags = (v->rflags & ~mask) | (flags & mask) | FLAG_ONE;
    move_sp(v, (int)(3 * size));
    sem_load_segment_real(v, SEG_CS, (u16)ram_load(p + size, 2));
    return true;
}

static bool return_cs(struct vcpu *v, u16 sel, u64 rip, struct segment *cs)
{
    struct descriptor d;
    if (!find_segment(v, sel, &d))
        return false;
    u32 attr = desc_attr(&d);
    unsigned dpl = SEG_DPL(attr), rpl = SEL_RPL(sel);
    *cs = desc_to_segment(&d, sel);
    if (!(attr & SEG_CODE) || rpl < v->cpl || (attr & SEG_CONFORM ? dpl > rpl : dpl != rpl))
        return false;
    if (v->long_mode && attr & SEG_L)
        return !(attr & SEG_DB) && canonical(rip);
    return rip <= cs->limit;
}

static bool return_ss(struct vcpu *v, u16 sel, const struct segment *cs, struct segment *ss)
{
    unsigned cpl = SEL_RPL(cs->sel);
    struct descriptor d;
    if (SEL_IS_NULL(sel)) {
        *ss = (struct segment){.sel = sel, .attr = SEG_UNUSABLE | cpl << 5};
        return v->long_mode && cs->attr & SEG_L && cpl < 3 && SEL_RPL(sel) == cpl;
    }
    if (!find_segment(v, sel, &d) || !is_stack(desc_attr(&d), sel, cpl))
        return false;
    *ss = desc_to_segment(&d, sel);
    return true;
}

static u64 return_mask(const struct vcpu *v)
{
    u64 mask = FLAGS_ALWAYS | FLAGS_WIDE;
    if (v->cpl <= iopl(v))
        mask |= FLAG_IF;
    if (v->cpl == 0)
        mask |= FLAG_IOPL | FLAG_VIF | FLAG_VIP;
    return mask;
}

static u64 stack_mask(const struct vcpu *v)
{
    return v->mode == MODE_LONG64 ? ~0ULL : v->seg[SEG_SS].attr & SEG_DB ? FLAT_LIMIT : 0xffff;
}

ALWAYS_INLINE bool iret_protected(struct vcpu *v, unsigned size)
{
    struct segment cs, ss = v->seg[SEG_SS];
    u64 mask = return_mask(v), rsp = v->gpr[RSP] + 3 * size;
    const u8 *p = find(v, v->gpr[RSP], 3 * size, false, v->tlb_ctx);
    if (!p || !return_cs(v, (u16)ram_load(p + size, 2), ram_load(p, size), &cs))
        return false;
    u64 rip = ram_load(p, size), flags = ram_load(p + 2 * size, size);
    unsigned cpl = SEL_RPL(cs.sel);
    if (size == 4 && flags & FLAG_VM)
        return false;
    bool outer = cpl > v->cpl;
    if (size == 8 || outer) {
        if (!find(v, v->gpr[RSP], 5 * size, false, v->tlb_ctx) ||
            !return_ss(v, (u16)ram_load(p + 4 * size, 2), &cs, &ss))
            return false;
        rsp = ram_load(p + 3 * size, size);
    }
    v->seg[SEG_CS] = cs;
    v->seg[SEG_SS] = ss;
    v->cpl = (u8)cpl;
    v->rip = rip;
    if (outer)
        far_drop_inner_segments(v);
    v->rflags = (v->rflags & ~mask) | (flags & mask) | FLAG_ONE;
    cpu_update_mode(v);
    set_stack_pointer(v, stack_mask(v), rsp);
    return true;
}

bool sem_try_iret(struct vcpu *v, unsigned size)
{
    bool done = false;
    if (v->mode == MODE_REAL)
        done = iret_real(v, size);
    else if (v->rflags & FLAG_NT)
        return false;
    else if (v->mode == MODE_PROT32 && size == 4 && v->flat_stack == FLAT_LIMIT)
        done = iret_protected(v, 4);
    else if (v->mode == MODE_LONG64 && size == 8)
        done = iret_protected(v, 8);
    if (done)
        v->nmi_blocked = false;
    return done;
}
