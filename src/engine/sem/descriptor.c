/*
 * Reading and marking descriptors, and the stacks of other privilege levels. All accesses to tables
 * are implicit supervisor accesses.
 */
#include "engine/sem/descriptor.h"

#include "cpu/fault.h"
#include "mem/access.h"
#include "mem/journal.h"

/* Linear address of the size bytes at entry sel; false: outside its table. */
static bool entry_address(const struct vcpu *v, u16 sel, unsigned size, u64 *lin)
{
    u64 base = v->gdtr.base;
    u32 limit = v->gdtr.limit;
    if (sel & SEL_TI) {
        if (v->ldtr.attr & SEG_UNUSABLE || SEL_IS_NULL(v->ldtr.sel))
            return false;
        base = v->ldtr.base;
        limit = v->ldtr.limit;
    }
    u32 off = sel & 0xfff8u;
    *lin = base + off;
    if (!v->long_mode)
        *lin &= 0xffffffff;
    return (u64)off + size - 1 <= limit;
}

bool desc_try_read(struct vcpu *v, u16 sel, struct descriptor *d)
{
    if (!entry_address(v, sel, 8, &d->lin))
        return false;
    d->lo = lin_read_system(v, d->lin, 8);
    d->hi = 0;
    return true;
}

bool desc_try_read_high(struct vcpu *v, u16 sel, struct descriptor *d)
{
    u64 lin;
    if (!entry_address(v, sel, 16, &lin))
        return false;
    d->hi = lin_read_system(v, lin + 8, 8);
    return true;
}

void desc_read_or(struct vcpu *v, u16 sel, struct descriptor *d, enum vector vector)
{
    if (!desc_try_read(v, sel, d))
        fault_raise_error(v, vector, SEL_ERROR(sel));
}

void desc_read(struct vcpu *v, u16 sel, struct descriptor *d)
{
    desc_read_or(v, sel, d, VEC_GP);
}

void desc_read_system(struct vcpu *v, u16 sel, struct descriptor *d, enum vector vector)
{
    desc_read_or(v, sel, d, vector);
    if (!v->long_mode)
        return;
    if (!desc_try_read_high(v, sel, d))
        fault_raise_error(v, vector, SEL_ERROR(sel));
    if (bits(d->hi, 44, 40))
        fault_gp(v, SEL_ERROR(sel));
    d->hi &= 0xffffffff;
}

/* Changes the byte with type, S, DPL and P to (byte & keep) | set. A host atomic where the table is
 * in RAM. */
static void update_access_byte(struct vcpu *v, struct descriptor *d, u8 keep, u8 set)
{
    u64 lin = d->lin + 5, gpa;
    unsigned room;
    _Atomic u8 *p = lin_direct(v, lin, ACCESS_WRITE | ACCESS_SYSTEM, &room, &gpa);
    if (p) {
        journal_store(v, (const void *)p, 1);
        u8 old = atomic_load_explicit(p, memory_order_relaxed);
        while (!atomic_compare_exchange_weak(p, &old, (u8)((old & keep) | set)))
            ;
        lin_direct_written(v, (const void *)p, 1);
    } else {
        u64 old = lin_read_system(v, lin, 1);
        lin_write_system(v, lin, (old & keep) | set, 1);
    }
    d->lo = (d->lo & ~((u64)(u8)~keep << 40)) | (u64)set << 40;
}

void desc_set_accessed(struct vcpu *v, struct descriptor *d)
{
    if (!(d->lo & (u64)SEG_ACCESSED << 40))
        update_access_byte(v, d, 0xff, SEG_ACCESSED);
}

void desc_set_busy(struct vcpu *v, struct descriptor *d, bool busy)
{
    update_access_byte(v, d, (u8)~2, busy ? 2 : 0);
}

static u64 stack_mask(bool long64, const struct segment *ss)
{
    if (long64)
        return ~0ULL;
    return ss->attr & SEG_DB ? 0xffffffff : 0xffff;
}

void stack_current(const struct vcpu *v, struct stack *s)
{
    s->ss = v->seg[SEG_SS];
    s->mask = stack_mask(v->mode == MODE_LONG64, &s->ss);
    s->sp = v->gpr[RSP] & s->mask;
    s->error = 0;
    s->cpl = v->cpl;
}

void stack_load_ss(struct vcpu *v, u16 sel, unsigned cpl, struct segment *ss)
{
    if (SEL_IS_NULL(sel))
        fault_raise_error(v, VEC_TS, SEL_ERROR(sel));
    struct descriptor d;
    desc_read_or(v, sel, &d, VEC_TS);
    u32 attr = desc_attr(&d);
    bool writable = (attr & (SEG_S | SEG_CODE | SEG_WRITABLE)) == (SEG_S | SEG_WRITABLE);
    if (SEL_RPL(sel) != cpl || SEG_DPL(attr) != cpl || !writable)
        fault_raise_error(v, VEC_TS, SEL_ERROR(sel));
    if (!(attr & SEG_P))
        fault_raise_error(v, VEC_SS, SEL_ERROR(sel));
    desc_set_accessed(v, &d);
    *ss = desc_to_segment(&d, sel);
}

/* Reads size bytes at off of the current TSS; #TS(TR) if the last byte needed is past its limit. */
static u64 tss_read(struct vcpu *v, u32 off, unsigned size, u32 last)
{
    if (last > v->tr.limit)
        fault_raise_error(v, VEC_TS, SEL_ERROR(v->tr.sel));
    u64 lin = v->tr.base + off;
    return lin_read_system(v, v->long_mode ? lin : lin & 0xffffffff, size);
}

void stack_from_tss(struct vcpu *v, unsigned cpl, struct stack *s)
{
    bool wide = (v->tr.attr & SEG_TYPE & 8) != 0;
    unsigned size = wide ? 4 : 2;
    u32 off = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
    u32 last = off + size + 1;
    u64 sp = tss_read(v, off, size, last);
    u16 sel = (u16)tss_read(v, off + size, 2, last);
    stack_load_ss(v, sel, cpl, &s->ss);
    s->mask = stack_mask(false, &s->ss);
    s->sp = sp;
    s->error = SEL_ERROR(sel);
    s->cpl = (u8)cpl;
}

void stack_from_tss64(struct vcpu *v, unsigned cpl, unsigned ist, struct stack *s)
{
    u32 off = ist ? 28 + 8 * ist : 4 + 8 * cpl;
    s->sp = tss_read(v, off, 8, off + 7);
    s->ss = (struct segment){.sel = (u16)cpl, .attr = SEG_UNUSABLE | cpl << 5};
    s->mask = ~0ULL;
    s->error = 0;
    s->cpl = (u8)cpl;
}

/* Does [off, off+size) lie in the stack segment? */
static bool in_stack(const struct stack *s, u64 off, unsigned size)
{
    if (s->mask == ~0ULL)
        return canonical(off) && canonical(off + size - 1);
    u64 last = off + size - 1;
    if (s->ss.attr & SEG_UNUSABLE)
        return false;
    if (!(s->ss.attr & SEG_DOWN))
        return last <= s->ss.limit;
    u64 top = s->ss.attr & SEG_DB ? 0xffffffff : 0xffff;
    return off > s->ss.limit && last <= top;
}

void stack_check_room(struct vcpu *v, const struct stack *s, unsigned bytes)
{
    u64 off = (s->sp - bytes) & s->mask;
    /* A stack that wraps is checked push by push. */
    if (off > (s->sp & s->mask) && s->mask != ~0ULL)
        return;
    if (!in_stack(s, off, bytes))
        fault_raise_error(v, VEC_SS, s->error);
}

void stack_push(struct vcpu *v, struct stack *s, u64 value, unsigned size)
{
    u64 off = (s->sp - size) & s->mask;
    if (!in_stack(s, off, size))
        fault_raise_error(v, VEC_SS, s->error);
    u64 lin = s->mask == ~0ULL ? off : (s->ss.base + off) & 0xffffffff;
    if (s->cpl == 3)
        lin_write(v, lin, value, size);
    else
        lin_write_system(v, lin, value, size);
    s->sp = (s->sp & ~s->mask) | off;
}

void stack_commit(struct vcpu *v, const struct stack *s)
{
    v->seg[SEG_SS] = s->ss;
    u64 keep = s->mask == 0xffff ? v->gpr[RSP] & ~s->mask : 0;
    v->gpr[RSP] = keep | (s->sp & s->mask);
    v->cpl = s->cpl;
}
