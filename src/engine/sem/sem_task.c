/*
 * Task switches between 16- and 32-bit TSSs (SDM vol. 3, 7.3). Up to the commit point nothing is
 * changed, and a fault belongs to the old task. Afterwards the new task's registers are loaded with
 * their selectors only, and its segments are checked one by one: a fault then belongs to the new
 * task, before its first instruction.
 */
#include "engine/sem/sem_task.h"

#include "engine/sem/descriptor.h"
#include "engine/sem/sem_exec.h"
#include "engine/sem/sem_far.h"
#include "engine/sem/sem_sys.h"

#define CR3_OFFSET  0x1c
#define TRAP_OFFSET 0x64
#define DR7_LOCAL   0x155ULL /* L0 to L3 and LE */

/* Where registers stand in a TSS. General and segment registers are in encoding order. */
struct tss_layout {
    u8 size; /* of a field in bytes */
    u8 ip, flags, gpr, seg, nseg, ldt;
    u8 last; /* the smallest limit */
};

static const struct tss_layout tss16 = {.size = 2,
                                        .ip = 0x0e,
                                        .flags = 0x10,
                                        .gpr = 0x12,
                                        .seg = 0x22,
                                        .nseg = 4,
                                        .ldt = 0x2a,
                                        .last = 0x2b};
static const struct tss_layout tss32 = {.size = 4,
                                        .ip = 0x20,
                                        .flags = 0x24,
                                        .gpr = 0x28,
                                        .seg = 0x48,
                                        .nseg = 6,
                                        .ldt = 0x60,
                                        .last = 0x67};

static const struct tss_layout *layout_of(u32 attr)
{
    return attr & 8 ? &tss32 : &tss16;
}

/* The state of a task as its TSS has it. */
struct task {
    const struct tss_layout *layout;
    struct segment tr;
    u64 cr3, ip, flags, gpr[8];
    u16 seg[6], ldt;
    bool trap;
};

static u64 tss_get(struct vcpu *v, u64 base, unsigned off, unsigned size)
{
    return lin_read_system(v, (u32)(base + off), size);
}

static void tss_put(struct vcpu *v, u64 base, unsigned off, u64 value, unsigned size)
{
    lin_write_system(v, (u32)(base + off), value, size);
}

static void read_task(struct vcpu *v, struct task *t)
{
    const struct tss_layout *l = t->layout;
    u64 base = t->tr.base;
    t->ip = tss_get(v, base, l->ip, l->size);
    t->flags = tss_get(v, base, l->flags, l->size);
    for (unsigned n = 0; n < 8; n++)
        t->gpr[n] = tss_get(v, base, l->gpr + n * l->size, l->size);
    for (unsigned n = 0; n < l->nseg; n++)
        t->seg[n] = (u16)tss_get(v, base, l->seg + n * l->size, 2);
    t->ldt = (u16)tss_get(v, base, l->ldt, 2);
    if (l == &tss32) {
        t->cr3 = tss_get(v, base, CR3_OFFSET, 4);
        t->trap = tss_get(v, base, TRAP_OFFSET, 2) & 1;
    }
}

static void save_task(struct vcpu *v, u64 ip, u64 flags)
{
    const struct tss_layout *l = layout_of(v->tr.attr);
    u64 base = v->tr.base;
    tss_put(v, base, l->ip, ip, l->size);
    tss_put(v, base, l->flags, flags, l->size);
    for (unsigned n = 0; n < 8; n++)
        tss_put(v, base, l->gpr + n * l->size, v->gpr[n], l->size);
    for (unsigned n = 0; n < l->nseg; n++)
        tss_put(v, base, l->seg + n * l->size, v->seg[n].sel, 2);
}

/* Finds and checks the new TSS; `vector` is #TS for IRET, which wants a busy one. */
static void find_tss(struct vcpu *v, u16 sel, enum task_switch_source source, struct descriptor *d)
{
    enum vector vector = source == TASK_IRET ? VEC_TS : VEC_GP;
    u32 types = source == TASK_IRET ? BIT(SYS_TSS16_BUSY) | BIT(SYS_TSS32_BUSY)
                                    : BIT(SYS_TSS16) | BIT(SYS_TSS32);
    if (SEL_IS_NULL(sel) || sel & SEL_TI)
        fault_raise_error(v, vector, SEL_ERROR(sel));
    desc_read_or(v, sel, d, vector);
    if (!desc_is_system(d) || !(types & BIT(desc_type(d))))
        fault_raise_error(v, vector, SEL_ERROR(sel));
    if (!desc_present(d))
        fault_raise_error(v, VEC_NP, SEL_ERROR(sel));
    if (desc_limit(d) < layout_of(desc_attr(d))->last)
        fault_raise_error(v, VEC_TS, SEL_ERROR(sel));
}

/* Raises every fault that saving and linking could raise. */
static void probe_tables(struct vcpu *v, const struct descriptor *d, bool nests)
{
    const struct tss_layout *l = layout_of(v->tr.attr);
    enum access write = ACCESS_WRITE | ACCESS_SYSTEM;
    if (v->tr.limit < (u32)l->last)
        fault_raise_error(v, VEC_TS, SEL_ERROR(v->tr.sel));
    lin_probe(v, v->tr.base + l->ip, l->ldt - l->ip, write);
    if (nests)
        lin_probe(v, desc_base(d), 2, write);
    lin_probe(v, d->lin, 8, write);
}

static void clear_old_busy(struct vcpu *v)
{
    struct descriptor old;
    if (desc_try_read(v, v->tr.sel, &old))
        desc_set_busy(v, &old, false);
}

/* --- behind the commit point --- */

static void load_ldt(struct vcpu *v, u16 sel)
{
    struct descriptor d;
    if (SEL_IS_NULL(sel))
        return;
    if (sel & SEL_TI)
        fault_raise_error(v, VEC_TS, SEL_ERROR(sel));
    desc_read_or(v, sel, &d, VEC_TS);
    if (!desc_is_system(&d) || desc_type(&d) != SYS_LDT || !desc_present(&d))
        fault_raise_error(v, VEC_TS, SEL_ERROR(sel));
    v->ldtr = desc_to_segment(&d, sel);
}

static void load_cs(struct vcpu *v, u16 sel)
{
    struct descriptor d;
    if (SEL_IS_NULL(sel))
        fault_raise_error(v, VEC_TS, 0);
    desc_read_or(v, sel, &d, VEC_TS);
    u32 attr = desc_attr(&d);
    unsigned dpl = SEG_DPL(attr), rpl = SEL_RPL(sel);
    bool allowed = attr & SEG_CONFORM ? dpl <= rpl : dpl == rpl;
    if ((attr & (SEG_S | SEG_CODE)) != (SEG_S | SEG_CODE) || !allowed)
        fault_raise_error(v, VEC_TS, SEL_ERROR(sel));
    if (!(attr & SEG_P))
        fault_raise_error(v, VEC_NP, SEL_ERROR(sel));
    desc_set_accessed(v, &d);
    v->seg[SEG_CS] = desc_to_segment(&d, sel);
}

static void load_data(struct vcpu *v, enum seg_reg seg, u16 sel)
{
    struct descriptor d;
    if (SEL_IS_NULL(sel))
        return;
    desc_read_or(v, sel, &d, VEC_TS);
    u32 attr = desc_attr(&d);
    bool readable = attr & SEG_S && (attr & (SEG_CODE | SEG_READABLE)) != SEG_CODE;
    bool conforming = (attr & (SEG_CODE | SEG_CONFORM)) == (SEG_CODE | SEG_CONFORM);
    bool allowed = conforming || (SEG_DPL(attr) >= v->cpl && SEG_DPL(attr) >= SEL_RPL(sel));
    if (!readable || !allowed)
        fault_raise_error(v, VEC_TS, SEL_ERROR(sel));
    if (!(attr & SEG_P))
        fault_raise_error(v, VEC_NP, SEL_ERROR(sel));
    desc_set_accessed(v, &d);
    v->seg[seg] = desc_to_segment(&d, sel);
    cpu_update_mode(v); /* the next one may fault */
}

static void load_segments(struct vcpu *v, const struct task *t)
{
    static const u8 data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    load_ldt(v, t->ldt);
    if (v->rflags & FLAG_VM) {
        for (unsigned s = 0; s < ARRAY_SIZE(t->seg); s++)
            sem_load_segment_real(v, (enum seg_reg)s, t->seg[s]);
        return;
    }
    load_cs(v, t->seg[SEG_CS]);
    cpu_update_mode(v);
    stack_load_ss(v, t->seg[SEG_SS], v->cpl, &v->seg[SEG_SS]);
    cpu_update_mode(v);
    for (unsigned n = 0; n < ARRAY_SIZE(data); n++)
        load_data(v, (enum seg_reg)data[n], t->seg[data[n]]);
}

/* The registers of the new task, segments as selectors only. */
static void commit_registers(struct vcpu *v, const struct task *t)
{
    v->tr = t->tr;
    v->cr0 |= CR0_TS;
    v->dr[7] &= ~DR7_LOCAL;
    tlb_set_breakpoints(v);
    v->cur = &sem_no_insn; /* a fault from here on restarts at the new RIP */
    v->rip = t->ip;
    v->rflags = (t->flags & 0x3f7fd5) | FLAG_ONE;
    memcpy(v->gpr, t->gpr, sizeof(t->gpr));
    for (unsigned s = 0; s < ARRAY_SIZE(t->seg); s++)
        v->seg[s] = (struct segment){.sel = t->seg[s], .attr = SEG_UNUSABLE};
    v->ldtr = (struct segment){.sel = t->ldt, .attr = SEG_UNUSABLE};
    v->cpl = v->rflags & FLAG_VM ? 3 : SEL_RPL(t->seg[SEG_CS]);
    cpu_update_mode(v);
    if (t->layout == &tss32 && v->cr0 & CR0_PG)
        sem_write_cr3(v, t->cr3);
}

static void push_error(struct vcpu *v, const struct task *t, u32 error)
{
    struct stack s;
    stack_current(v, &s);
    stack_push(v, &s, error, t->layout->size);
    stack_commit(v, &s);
}

void sem_task_switch(struct vcpu *v, u16 tss_selector, enum task_switch_source source,
                     bool has_error, u32 error, u64 return_rip)
{
    bool nests = source == TASK_CALL || source == TASK_GATE;
    struct descriptor d;
    struct task t = {0};
    find_tss(v, tss_selector, source, &d);
    t.layout = layout_of(desc_attr(&d));
    t.tr = desc_to_segment(&d, tss_selector);
    t.tr.attr |= 2; /* busy */
    read_task(v, &t);
    probe_tables(v, &d, nests);

    u16 link = v->tr.sel;
    u64 old_flags = source == TASK_IRET ? v->rflags & ~FLAG_NT : v->rflags;
    if (!nests)
        clear_old_busy(v);
    save_task(v, return_rip, old_flags);
    if (nests) {
        tss_put(v, t.tr.base, 0, link, 2);
        t.flags |= FLAG_NT;
    }
    if (source != TASK_IRET)
        desc_set_busy(v, &d, true);
    commit_registers(v, &t);
    load_segments(v, &t);
    if (has_error)
        push_error(v, &t, error);
    far_check_rip(v, &v->seg[SEG_CS], v->rip);
    if (t.trap)
        v->pending_db |= DR6_BT;
}
