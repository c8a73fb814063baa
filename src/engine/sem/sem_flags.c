/*
 * The flags register as a whole: PUSHF and POPF, CLI and STI with IOPL, virtual-8086 mode
 * extensions and protected-mode virtual interrupts (SDM vol. 3, 20.3 and 20.4), and single flags.
 */
#include "engine/sem/sem_sys.h"

#define FLAGS_POPF (FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT)
#define FLAGS_WIDE (FLAG_AC | FLAG_ID | FLAG_RF) /* RF is cleared: PUSHF never shows it */

void sem_write_flags(struct vcpu *v, u64 flags, u64 mask)
{
    v->rflags = (v->rflags & ~mask) | (flags & mask) | FLAG_ONE;
    cpu_update_mode(v);
}

/* May the program change IF itself? In real mode always. */
static bool may_change_if(const struct vcpu *v)
{
    return v->mode == MODE_REAL || v->cpl <= iopl(v);
}

/* Is IF virtual here, for CLI and STI? Virtual-8086 mode under VME; else CPL 3 under PVI. */
static bool virtual_if(const struct vcpu *v)
{
    if (v->mode == MODE_V86)
        return v->cr4 & CR4_VME;
    return v->cpl == 3 && v->cr4 & CR4_PVI;
}

static void pushf(struct vcpu *v, const struct insn *i)
{
    u64 flags = v->rflags & ~(FLAG_VM | FLAG_RF);
    if (v->mode == MODE_V86 && iopl(v) < 3) {
        if (!(v->cr4 & CR4_VME) || i->opsize != 2)
            fault_gp(v, 0);
        flags = (flags & ~FLAG_IF) | FLAG_IOPL | (v->rflags & FLAG_VIF ? FLAG_IF : 0);
    }
    sem_push(v, flags, i->opsize);
}
SEM_SAME(pushf, pushf);

/* POPF in virtual-8086 mode with IOPL below 3. */
static void popf_vme(struct vcpu *v, unsigned size)
{
    if (!(v->cr4 & CR4_VME) || size != 2)
        fault_gp(v, 0);
    u64 flags = stack_peek(v, 0, 2);
    if ((v->rflags & FLAG_VIP && flags & FLAG_IF) || flags & FLAG_TF)
        fault_gp(v, 0);
    stack_drop(v, 2);
    if (flags & FLAG_IF)
        flags |= FLAG_VIF;
    sem_write_flags(v, flags, FLAGS_POPF | FLAG_VIF);
}

static void popf(struct vcpu *v, const struct insn *i)
{
    if (v->mode == MODE_V86 && iopl(v) < 3) {
        popf_vme(v, i->opsize);
        return;
    }
    u64 mask = FLAGS_POPF | (i->opsize > 2 ? FLAGS_WIDE : 0);
    if (may_change_if(v))
        mask |= FLAG_IF;
    if (v->cpl == 0)
        mask |= FLAG_IOPL;
    u64 flags = sem_pop(v, i->opsize);
    sem_write_flags(v, flags & ~FLAG_RF, mask);
}
SEM_SAME(popf, popf);

static void cli(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (may_change_if(v))
        v->rflags &= ~FLAG_IF;
    else if (virtual_if(v))
        v->rflags &= ~FLAG_VIF;
    else
        fault_gp(v, 0);
}
SEM_SAME(cli, cli);

static void sti(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (may_change_if(v)) {
        if (!(v->rflags & FLAG_IF))
            v->shadow |= SHADOW_STI;
        v->rflags |= FLAG_IF;
    } else if (virtual_if(v) && !(v->rflags & FLAG_VIP)) {
        v->rflags |= FLAG_VIF;
    } else {
        fault_gp(v, 0);
    }
}
SEM_SAME(sti, sti);

static void change_ac(struct vcpu *v, u64 value)
{
    if (v->cpl != 0)
        fault_ud(v);
    sem_write_flags(v, value, FLAG_AC);
}

static void clac(struct vcpu *v, const struct insn *i)
{
    (void)i;
    change_ac(v, 0);
}
SEM_SAME(clac, clac);

static void stac(struct vcpu *v, const struct insn *i)
{
    (void)i;
    change_ac(v, FLAG_AC);
}
SEM_SAME(stac, stac);

/* An operation on one flag. */
#define FLAG_OPERATION(name, statement)                                                            \
    static void name(struct vcpu *v, const struct insn *i)                                         \
    {                                                                                              \
        (void)i;                                                                                   \
        statement;                                                                                 \
    }                                                                                              \
    SEM_SAME(name, name)

FLAG_OPERATION(cld, v->rflags &= ~FLAG_DF);
FLAG_OPERATION(std, v->rflags |= FLAG_DF);
FLAG_OPERATION(clc, v->rflags &= ~FLAG_CF);
FLAG_OPERATION(stc, v->rflags |= FLAG_CF);
FLAG_OPERATION(cmc, v->rflags ^= FLAG_CF);
FLAG_OPERATION(lahf, reg8h_write(v, RAX, (v->rflags & LAHF_FLAGS) | FLAG_ONE));
FLAG_OPERATION(sahf, v->rflags = (v->rflags & ~LAHF_FLAGS) | (reg8h_read(v, RAX) & LAHF_FLAGS));
