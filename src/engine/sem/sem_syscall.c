/*
 * SYSCALL, SYSRET, SYSENTER and SYSEXIT. The vendors differ: Intel has SYSCALL in 64-bit mode only
 * and SYSENTER in every protected mode; AMD has SYSCALL everywhere and no SYSENTER in long mode
 * (SDM vol. 2; AMD APM vol. 3). Compiled to use general registers only, like sem_segment.c.
 */
#include "engine/sem/sem.h"
#include "engine/sem/sem_sys.h"

#define ATTR_CODE (SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED | SEG_G)
#define ATTR_DATA (SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | SEG_G | SEG_DB)

static void set_flat(struct vcpu *v, enum seg_reg seg, u16 sel, u32 attr, unsigned dpl)
{
    v->seg[seg] = (struct segment){.sel = sel, .limit = 0xffffffff, .attr = attr | dpl << 5};
}

/* Flat CS and SS of privilege cpl; 64: CS for 64-bit code, else 32-bit. */
static void set_code(struct vcpu *v, u16 sel, bool code64, unsigned cpl)
{
    set_flat(v, SEG_CS, sel, ATTR_CODE | (code64 ? SEG_L : SEG_DB), cpl);
    v->cpl = (u8)cpl;
}

static bool syscall_works(const struct vcpu *v)
{
    bool here = is_intel(v) ? v->mode == MODE_LONG64 : cpu_protected(v);
    return here && v->efer & EFER_SCE;
}

static void do_syscall(struct vcpu *v)
{
    u16 sel = (u16)(v->msr.star >> 32) & 0xfffc;
    u64 flags = v->rflags & ~FLAG_RF;
    v->gpr[RCX] = v->rip;
    if (v->long_mode) {
        v->gpr[R11] = flags;
        v->rip = v->mode == MODE_LONG64 ? v->msr.lstar : v->msr.cstar;
        flags &= ~v->msr.fmask;
    } else {
        v->rip = (u32)v->msr.star;
        flags &= ~(FLAG_VM | FLAG_IF);
    }
    set_code(v, sel, v->long_mode, 0);
    set_flat(v, SEG_SS, (u16)(sel + 8), ATTR_DATA, 0);
    v->rflags = flags | FLAG_ONE;
    cpu_update_mode(v);
}

static void syscall(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (!syscall_works(v))
        fault_ud(v);
    do_syscall(v);
}
SEM_SAME(syscall, syscall);

#define SYSRET_FLAGS 0x3c7fd7ULL

/* AMD CPUs set SS's selector only, and leave its hidden part (but its DPL, which is CPL) alone. */
static void sysret_ss(struct vcpu *v, u16 sel)
{
    if (is_intel(v)) {
        set_flat(v, SEG_SS, sel, ATTR_DATA, 3);
        return;
    }
    v->seg[SEG_SS].sel = sel;
    v->seg[SEG_SS].attr |= 3 << 5;
}

static bool sysret_rip_ok(const struct vcpu *v, bool to64)
{
    return !to64 || !is_intel(v) || canonical(v->gpr[RCX]);
}

static void do_sysret(struct vcpu *v, bool to64)
{
    u16 sel = (u16)((v->msr.star >> 48) | 3);
    u64 flags = v->long_mode ? (v->gpr[R11] & SYSRET_FLAGS) | FLAG_ONE : v->rflags | FLAG_IF;
    v->rip = to64 ? v->gpr[RCX] : (u32)v->gpr[RCX];
    set_code(v, to64 ? (u16)(sel + 16) : sel, to64, 3);
    sysret_ss(v, (u16)(sel + 8));
    v->rflags = flags;
    cpu_update_mode(v);
}

static void sysret(struct vcpu *v, const struct insn *i)
{
    bool to64 = i->opsize == 8;
    if (!syscall_works(v))
        fault_ud(v);
    require_cpl0(v);
    if (!sysret_rip_ok(v, to64))
        fault_gp(v, 0);
    do_sysret(v, to64);
}
SEM_SAME(sysret, sysret);

/* What SYSENTER and SYSEXIT have in common. */
static bool sysenter_known(const struct vcpu *v)
{
    return is_intel(v) || !v->long_mode;
}

static bool sysenter_works(const struct vcpu *v)
{
    return v->mode != MODE_REAL && v->msr.sysenter_cs & 0xfffc;
}

static void do_sysenter(struct vcpu *v)
{
    u16 sel = (u16)v->msr.sysenter_cs & 0xfffc;
    v->rflags &= ~(FLAG_VM | FLAG_IF | FLAG_RF);
    set_code(v, sel, v->long_mode, 0);
    set_flat(v, SEG_SS, (u16)(sel + 8), ATTR_DATA, 0);
    v->gpr[RSP] = v->long_mode ? v->msr.sysenter_esp : (u32)v->msr.sysenter_esp;
    v->rip = v->long_mode ? v->msr.sysenter_eip : (u32)v->msr.sysenter_eip;
    cpu_update_mode(v);
}

static void sysenter(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (!sysenter_known(v))
        fault_ud(v);
    if (!sysenter_works(v))
        fault_gp(v, 0);
    do_sysenter(v);
}
SEM_SAME(sysenter, sysenter);

static bool sysexit_target_ok(const struct vcpu *v, bool to64)
{
    return !to64 || (canonical(v->gpr[RDX]) && canonical(v->gpr[RCX]));
}

static void do_sysexit(struct vcpu *v, bool to64)
{
    u64 rip = v->gpr[RDX], rsp = v->gpr[RCX];
    u16 sel = (u16)((v->msr.sysenter_cs + (to64 ? 32 : 16)) | 3);
    v->rip = to64 ? rip : (u32)rip;
    v->gpr[RSP] = to64 ? rsp : (u32)rsp;
    set_code(v, sel, to64, 3);
    set_flat(v, SEG_SS, (u16)(sel + 8), ATTR_DATA, 3);
    cpu_update_mode(v);
}

static void sysexit(struct vcpu *v, const struct insn *i)
{
    bool to64 = i->opsize == 8;
    if (!sysenter_known(v))
        fault_ud(v);
    if (!sysenter_works(v) || v->cpl != 0 || !sysexit_target_ok(v, to64))
        fault_gp(v, 0);
    do_sysexit(v, to64);
}
SEM_SAME(sysexit, sysexit);

/* --- for translated code --- */

bool sem_try_system_call(struct vcpu *v, bool sysenter)
{
    if (sysenter ? !sysenter_known(v) || !sysenter_works(v) : !syscall_works(v))
        return false;
    if (sysenter)
        do_sysenter(v);
    else
        do_syscall(v);
    return true;
}

bool sem_try_system_return(struct vcpu *v, bool sysexit, bool to64)
{
    if (v->cpl != 0)
        return false;
    if (sysexit) {
        if (!sysenter_known(v) || !sysenter_works(v) || !sysexit_target_ok(v, to64))
            return false;
        do_sysexit(v, to64);
        return true;
    }
    if (!syscall_works(v) || !sysret_rip_ok(v, to64))
        return false;
    do_sysret(v, to64);
    return true;
}
