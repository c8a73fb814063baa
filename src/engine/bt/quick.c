/*
 * System instructions that every entry to a kernel and every way out of it executes: segment loads,
 * system calls, software interrupts and their returns; and page faults. C does them, but with
 * nothing of what a callout has to do for an instruction in general: the site tells all about it,
 * the FPU's state stays where it is, and the next fragment is looked up at once. Whatever is
 * unusual is left to a callout.
 */
#include "engine/bt/tcache.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"

static bool load_segment(struct vcpu *v, const struct site *s)
{
    struct bt_cpu *b = bt_cpu(v);
    bool wide = v->mode == MODE_LONG64;
    if (!sem_try_load_segment(v, (enum seg_reg)(s->access - QUICK_LOAD_SEG), (u16)b->operand))
        return false;
    u64 sp = v->gpr[RSP] + s->size;
    if (s->size)
        v->gpr[RSP] = wide ? sp : (u32)sp;
    return true;
}

/* v->rip is behind the instruction. */
static bool execute(struct vcpu *v, const struct site *s)
{
    switch (s->access) {
    case QUICK_SYSCALL:
    case QUICK_SYSENTER:
        return sem_try_system_call(v, s->access == QUICK_SYSENTER);
    case QUICK_SYSRET:
    case QUICK_SYSEXIT:
        return sem_try_system_return(v, s->access == QUICK_SYSEXIT, s->size == 8);
    case QUICK_IRET:
        return sem_try_iret(v, s->size);
    case QUICK_INT:
        return sem_try_interrupt(v, (u8)s->size);
    case QUICK_INTO:
        return !(v->rflags & FLAG_OF) || sem_try_interrupt(v, VEC_OF);
    default:
        return load_segment(v, s);
    }
}

/* What a load makes of the key depends on the fragment's own key and, in this register, on nothing
 * but these bits: so the number can be kept in the site, with them. */
static void key_after_load(struct vcpu *v, struct site *s)
{
    u64 bits = BIT(24) | (u64)v->limited_segs << 16 | (u64)v->quick_segs << 8 | v->flat_segs;
    u64 known = atomic_load_explicit(&s->key, memory_order_relaxed);
    if (likely((known & 0xffffffff) == bits)) {
        bt_cpu(v)->key = (u32)(known >> 32);
        return;
    }
    bt_update_key(v);
    atomic_store_explicit(&s->key, bits | (u64)bt_cpu(v)->key << 32, memory_order_relaxed);
}

static void go_on(struct vcpu *v, const void **next)
{
    *next = bt_next_by_key(v);
    if (!*next)
        bt_fpu_save(v);
}

bool bt_quick(struct vcpu *v, struct site *s, const void **next)
{
    struct bt_cpu *b = bt_cpu(v);
    v->rip = site_rip(s) + s->length;
    sem_wrap_rip(v);
    bt_flags_out(v);
    if (!execute(v, s))
        return false;
    stat_inc(&v->stats, STAT_BT_QUICK);
    b->block_insns = s->insn + 1u;
    if (s->access < QUICK_SYSCALL)
        key_after_load(v, s);
    else
        bt_update_key(v);
    go_on(v, next);
    return true;
}

bool bt_quick_fault(struct vcpu *v, const struct site *s, u64 lin, u32 error, const void **next)
{
    if (!sem_try_page_fault(v, lin, error))
        return false;
    stat_inc(&v->stats, STAT_BT_QUICK_FAULTS);
    bt_cpu(v)->block_insns = s->insn;
    bt_update_key(v);
    go_on(v, next);
    return true;
}
