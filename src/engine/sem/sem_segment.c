/*
 * Segment registers and descriptor tables: loads with all their checks, the instructions that ask
 * about a descriptor, and those that move the table registers (SDM vol. 3, ch. 5; vol. 2).
 * Compiled to use general registers only: translated code comes to sem_try_load_segment() with the
 * guest's FP state in the host's registers.
 */
#include "engine/sem/descriptor.h"
#include "engine/sem/sem_sys.h"

#define ATTR_REAL_DATA (SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED)
#define ATTR_V86       (ATTR_REAL_DATA | 3 << 5)

void sem_load_segment_real(struct vcpu *v, enum seg_reg seg, u16 sel)
{
    struct segment *s = &v->seg[seg];
    s->sel = sel;
    s->base = (u64)sel << 4;
    if (v->mode == MODE_V86) {
        s->limit = 0xffff;
        s->attr = ATTR_V86;
    } else {
        /* Real mode keeps the limit and the size of stack. */
        if (s->attr & SEG_UNUSABLE)
            s->limit = 0xffff;
        s->attr &= ~SEG_UNUSABLE;
        if (seg != SEG_CS)
            s->attr = ATTR_REAL_DATA | (s->attr & (SEG_DB | SEG_G));
    }
    cpu_update_mode(v);
}

static void update(struct vcpu *v, enum seg_reg seg)
{
    if (seg == SEG_SS)
        cpu_update_mode(v);
    else
        cpu_update_data_segment(v, seg);
}

static void load_null(struct vcpu *v, enum seg_reg seg, u16 sel)
{
    u32 dpl = 0;
    if (seg == SEG_SS) {
        if (v->mode != MODE_LONG64 || v->cpl == 3 || SEL_RPL(sel) != v->cpl)
            fault_gp(v, 0);
        dpl = (u32)v->cpl << 5;
    }
    v->seg[seg] = (struct segment){.sel = sel, .attr = SEG_UNUSABLE | dpl};
    update(v, seg);
}

/* Type and privilege for SS, resp. for the other data segment registers. */
static bool stack_loadable(const struct vcpu *v, u16 sel, u32 attr)
{
    return (attr & (SEG_S | SEG_CODE | SEG_WRITABLE)) == (SEG_S | SEG_WRITABLE) &&
           SEL_RPL(sel) == v->cpl && SEG_DPL(attr) == v->cpl;
}

static bool data_loadable(const struct vcpu *v, u16 sel, u32 attr)
{
    if (!(attr & SEG_S) || (attr & (SEG_CODE | SEG_READABLE)) == SEG_CODE)
        return false;
    if ((attr & (SEG_CODE | SEG_CONFORM)) == (SEG_CODE | SEG_CONFORM))
        return true;
    return SEL_RPL(sel) <= SEG_DPL(attr) && v->cpl <= SEG_DPL(attr);
}

bool sem_try_load_segment(struct vcpu *v, enum seg_reg seg, u16 sel)
{
    if (!cpu_protected(v) || seg == SEG_SS)
        return false;
    if (SEL_IS_NULL(sel)) {
        load_null(v, seg, sel);
        return true;
    }
    struct descriptor d = {.lin = v->gdtr.base + (sel & ~7u)};
    if (!v->long_mode)
        d.lin &= 0xffffffff;
    const struct tlb_entry *e = tlb_entry(v, TLB_KERNEL, d.lin);
    if (sel & SEL_TI || (sel | 7u) > v->gdtr.limit || !tlb_hit(e->read, d.lin, 8))
        return false;
    d.lo = ram_load(tlb_hva(e, d.lin), 8);
    u32 attr = desc_attr(&d), need = SEG_P | SEG_ACCESSED;
    if ((attr & need) != need || !data_loadable(v, sel, attr))
        return false;
    v->seg[seg] = desc_to_segment(&d, sel);
    update(v, seg);
    return true;
}

void sem_load_segment(struct vcpu *v, enum seg_reg seg, u16 sel)
{
    if (!cpu_protected(v)) {
        sem_load_segment_real(v, seg, sel);
        return;
    }
    if (SEL_IS_NULL(sel)) {
        load_null(v, seg, sel);
        return;
    }
    struct descriptor d;
    desc_read(v, sel, &d);
    u32 attr = desc_attr(&d);
    if (!(seg == SEG_SS ? stack_loadable(v, sel, attr) : data_loadable(v, sel, attr)))
        fault_gp(v, SEL_ERROR(sel));
    if (!(attr & SEG_P))
        fault_raise_error(v, seg == SEG_SS ? VEC_SS : VEC_NP, SEL_ERROR(sel));
    desc_set_accessed(v, &d);
    v->seg[seg] = desc_to_segment(&d, sel);
    update(v, seg);
}

/* After MOV SS and POP SS; the second of two in a row has no shadow (SDM vol. 3, 6.8.3). */
static void arm_shadow(struct vcpu *v, enum seg_reg seg, u64 start)
{
    if (seg != SEG_SS)
        return;
    bool back_to_back = v->shadow_end == start;
    v->shadow_end = back_to_back ? SHADOW_END_NONE : v->rip;
    if (!back_to_back)
        v->shadow |= SHADOW_MOV_SS;
}

static void mov_seg(struct vcpu *v, const struct insn *i)
{
    if (i->opd[0].kind == OPD_SEG) {
        enum seg_reg seg = (enum seg_reg)i->opd[0].reg;
        if (seg == SEG_CS)
            fault_ud(v);
        sem_load_segment(v, seg, (u16)opd_read(v, i, 1, 2));
        arm_shadow(v, seg, sem_start(v));
        return;
    }
    unsigned size = i->opd[0].kind == OPD_MEM ? 2 : i->opsize;
    opd_write(v, i, 0, size, v->seg[i->opd[1].reg].sel);
}
SEM_SAME(mov_seg, mov_seg);

/* Intel CPUs write only 16 bits of a 32-bit slot (SDM vol. 2, PUSH). */
static void push_seg(struct vcpu *v, const struct insn *i)
{
    u16 sel = v->seg[i->opd[0].reg].sel;
    if (i->opsize != 4 || !is_intel(v)) {
        sem_push(v, sel, i->opsize);
        return;
    }
    u64 mask = sem_stack_mask(v), sp = (v->gpr[RSP] - 4) & mask;
    lin_write(v, seg_lin(v, SEG_SS, sp, 2, ACCESS_WRITE), sel, 2);
    set_stack_pointer(v, mask, sp);
}
SEM_SAME(push_seg, push_seg);

static void pop_seg(struct vcpu *v, const struct insn *i)
{
    enum seg_reg seg = (enum seg_reg)i->opd[0].reg;
    u16 sel = (u16)stack_peek(v, 0, i->opsize);
    u64 mask = sem_stack_mask(v); /* of the stack that is popped from, also if SS changes */
    sem_load_segment(v, seg, sel);
    set_stack_pointer(v, mask, v->gpr[RSP] + i->opsize);
    arm_shadow(v, seg, sem_start(v));
}
SEM_SAME(pop_seg, pop_seg);

/* LDS LES LFS LGS LSS. */
static void load_far_pointer(struct vcpu *v, const struct insn *i)
{
    static const u8 segment[] = {
        [OP_LDS - OP_LDS] = SEG_DS, [OP_LES - OP_LDS] = SEG_ES, [OP_LFS - OP_LDS] = SEG_FS,
        [OP_LGS - OP_LDS] = SEG_GS, [OP_LSS - OP_LDS] = SEG_SS,
    };
    u64 lin = mem_lin(v, i, i->opsize + 2, ACCESS_READ);
    u64 off = lin_read(v, lin, i->opsize);
    u16 sel = (u16)lin_read(v, lin_plus(v, lin, i->opsize), 2);
    sem_load_segment(v, (enum seg_reg)segment[i->op - OP_LDS], sel);
    reg_write(v, i->opd[0].reg, i->opsize, off);
}
SEM_SAME(load_far_pointer, load_far_pointer);

/* --- questions --- */

/* Reads the descriptor if the program may see it: a code or data segment, or a system one of the
 * given types. */
static bool probe_descriptor(struct vcpu *v, u16 sel, u32 system_types, struct descriptor *d)
{
    if (SEL_IS_NULL(sel) || !desc_try_read(v, sel, d))
        return false;
    u32 attr = desc_attr(d), conforming = SEG_S | SEG_CODE | SEG_CONFORM;
    if (desc_is_system(d)) {
        if (!(system_types & BIT(desc_type(d))))
            return false;
        if (v->long_mode && !desc_try_read_high(v, sel, d))
            return false;
    }
    if ((attr & conforming) == conforming)
        return true;
    return SEG_DPL(attr) >= v->cpl && SEG_DPL(attr) >= SEL_RPL(sel);
}

static void set_zf(struct vcpu *v, bool on)
{
    v->rflags = on ? v->rflags | FLAG_ZF : v->rflags & ~FLAG_ZF;
}

#define TYPES_LSL_LONG (BIT(SYS_LDT) | BIT(SYS_TSS32) | BIT(SYS_TSS32_BUSY))
#define TYPES_LAR_LONG (TYPES_LSL_LONG | BIT(SYS_CALL32))
#define TYPES_LSL      (TYPES_LSL_LONG | BIT(SYS_TSS16) | BIT(SYS_TSS16_BUSY))
#define TYPES_LAR      (TYPES_LSL | BIT(SYS_CALL16) | BIT(SYS_CALL32) | BIT(SYS_TASK_GATE))

static void lar(struct vcpu *v, const struct insn *i)
{
    require_protected(v);
    struct descriptor d;
    u16 sel = (u16)opd_read(v, i, 1, 2);
    bool ok = probe_descriptor(v, sel, (u32)(v->long_mode ? TYPES_LAR_LONG : TYPES_LAR), &d);
    if (ok)
        reg_write(v, i->opd[0].reg, i->opsize, d.lo >> 32 & 0xffff00);
    set_zf(v, ok);
}
SEM_SAME(lar, lar);

static void lsl(struct vcpu *v, const struct insn *i)
{
    require_protected(v);
    struct descriptor d;
    u16 sel = (u16)opd_read(v, i, 1, 2);
    bool ok = probe_descriptor(v, sel, (u32)(v->long_mode ? TYPES_LSL_LONG : TYPES_LSL), &d);
    if (ok)
        reg_write(v, i->opd[0].reg, i->opsize, desc_limit(&d));
    set_zf(v, ok);
}
SEM_SAME(lsl, lsl);

static void verr(struct vcpu *v, const struct insn *i)
{
    require_protected(v);
    struct descriptor d;
    bool ok = probe_descriptor(v, (u16)opd_read(v, i, 0, 2), 0, &d);
    set_zf(v, ok && (desc_attr(&d) & (SEG_CODE | SEG_READABLE)) != SEG_CODE);
}
SEM_SAME(verr, verr);

static void verw(struct vcpu *v, const struct insn *i)
{
    require_protected(v);
    struct descriptor d;
    bool ok = probe_descriptor(v, (u16)opd_read(v, i, 0, 2), 0, &d);
    set_zf(v, ok && (desc_attr(&d) & (SEG_CODE | SEG_WRITABLE)) == SEG_WRITABLE);
}
SEM_SAME(verw, verw);

static void arpl(struct vcpu *v, const struct insn *i)
{
    require_protected(v);
    u16 dst = (u16)opd_read(v, i, 0, 2), rpl = (u16)opd_read(v, i, 1, 2) & 3;
    bool raise = SEL_RPL(dst) < rpl;
    if (raise)
        opd_write(v, i, 0, 2, (dst & ~3u) | rpl);
    set_zf(v, raise);
}
SEM_SAME(arpl, arpl);

/* --- table registers --- */

static void load_table(struct vcpu *v, const struct insn *i, struct dtable *table)
{
    require_cpl0(v);
    unsigned size = v->mode == MODE_LONG64 ? 8 : 4;
    u64 lin = mem_lin(v, i, 2 + size, ACCESS_READ);
    u16 limit = (u16)lin_read(v, lin, 2);
    u64 base = lin_read(v, lin_plus(v, lin, 2), size);
    if (size == 8 && !canonical(base))
        fault_gp(v, 0);
    if (size == 4 && i->opsize == 2)
        base &= 0xffffff;
    *table = (struct dtable){.base = base, .limit = limit};
}

static void lgdt(struct vcpu *v, const struct insn *i)
{
    load_table(v, i, &v->gdtr);
}
SEM_SAME(lgdt, lgdt);

static void lidt(struct vcpu *v, const struct insn *i)
{
    load_table(v, i, &v->idtr);
}
SEM_SAME(lidt, lidt);

/* User-mode instruction prevention: SGDT SIDT SLDT STR SMSW. */
static void check_umip(struct vcpu *v)
{
    if (v->cr4 & CR4_UMIP && v->cpl > 0)
        fault_gp(v, 0);
}

static void store_table(struct vcpu *v, const struct insn *i, const struct dtable *table)
{
    check_umip(v);
    u8 image[10];
    unsigned size = v->mode == MODE_LONG64 ? 8 : 4;
    store_le(image, table->limit, 2);
    store_le(image + 2, table->base, size);
    lin_write_bytes(v, mem_lin(v, i, 2 + size, ACCESS_WRITE), image, 2 + size);
}

static void sgdt(struct vcpu *v, const struct insn *i)
{
    store_table(v, i, &v->gdtr);
}
SEM_SAME(sgdt, sgdt);

static void sidt(struct vcpu *v, const struct insn *i)
{
    store_table(v, i, &v->idtr);
}
SEM_SAME(sidt, sidt);

/* A system segment for LLDT or LTR: the GDT entry that sel names, of one of these types. */
static void read_system_segment(struct vcpu *v, u16 sel, u32 types, struct descriptor *d)
{
    if (sel & SEL_TI)
        fault_gp(v, SEL_ERROR(sel));
    desc_read_system(v, sel, d, VEC_GP);
    if (!desc_is_system(d) || !(types & BIT(desc_type(d))))
        fault_gp(v, SEL_ERROR(sel));
    if (!desc_present(d))
        fault_raise_error(v, VEC_NP, SEL_ERROR(sel));
    if (v->long_mode && !canonical(desc_base(d)))
        fault_gp(v, SEL_ERROR(sel));
}

static void lldt(struct vcpu *v, const struct insn *i)
{
    require_protected(v);
    require_cpl0(v);
    u16 sel = (u16)opd_read(v, i, 0, 2);
    struct descriptor d;
    if (SEL_IS_NULL(sel)) {
        v->ldtr = (struct segment){.sel = sel, .attr = SEG_UNUSABLE};
        return;
    }
    read_system_segment(v, sel, BIT(SYS_LDT), &d);
    v->ldtr = desc_to_segment(&d, sel);
}
SEM_SAME(lldt, lldt);

static void ltr(struct vcpu *v, const struct insn *i)
{
    require_protected(v);
    require_cpl0(v);
    u16 sel = (u16)opd_read(v, i, 0, 2);
    struct descriptor d;
    if (SEL_IS_NULL(sel))
        fault_gp(v, 0);
    u32 types = (u32)BIT(SYS_TSS32) | (v->long_mode ? 0 : (u32)BIT(SYS_TSS16));
    read_system_segment(v, sel, types, &d);
    desc_set_busy(v, &d, true);
    v->tr = desc_to_segment(&d, sel);
}
SEM_SAME(ltr, ltr);

/* Memory takes 16 bits, a register its operand size. */
static void store_selector(struct vcpu *v, const struct insn *i, u16 sel)
{
    require_protected(v);
    check_umip(v);
    opd_write(v, i, 0, i->opd[0].kind == OPD_MEM ? 2 : i->opsize, sel);
}

static void sldt(struct vcpu *v, const struct insn *i)
{
    store_selector(v, i, v->ldtr.sel);
}
SEM_SAME(sldt, sldt);

static void str(struct vcpu *v, const struct insn *i)
{
    store_selector(v, i, v->tr.sel);
}
SEM_SAME(str, str);

static void smsw(struct vcpu *v, const struct insn *i)
{
    check_umip(v);
    opd_write(v, i, 0, i->opd[0].kind == OPD_MEM ? 2 : i->opsize, v->cr0);
}
SEM_SAME(smsw, smsw);
