/*
 * SYSCALL, SYSRET, SYSENTER and SYSEXIT. The vendors differ: Intel has SYSCALL in 64-bit mode only
 * and SYSENTER in every protected mode; AMD has SYSCALL everywhere and no SYSENTER in long mode
 * (SDM vol. 2; AMD APM vol. 3).
 */
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

static void require_syscall(struct vcpu *v)
{
    bool here = is_intel(v) ? v->mode == MODE_LONG64 : cpu_protected(v);
    if (!here || !(v->efer & EFER_SCE))
        fault_ud(v);
}

static void syscall(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_syscall(v);
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

static void sysret(struct vcpu *v, const struct insn *i)
{
    require_syscall(v);
    require_cpl0(v);
    bool to64 = i->opsize == 8;
    u16 sel = (u16)((v->msr.star >> 48) | 3);
    u64 rip = to64 ? v->gpr[RCX] : (u32)v->gpr[RCX];
    if (to64 && is_intel(v) && !canonical(rip))
        fault_gp(v, 0);
    u64 flags = v->long_mode ? (v->gpr[R11] & SYSRET_FLAGS) | FLAG_ONE : v->rflags | FLAG_IF;
    v->rip = rip;
    set_code(v, to64 ? (u16)(sel + 16) : sel, to64, 3);
    sysret_ss(v, (u16)(sel + 8));
    v->rflags = flags;
    cpu_update_mode(v);
}
SEM_SAME(sysret, sysret);

/* What SYSENTER and SYSEXIT have in common. */
static void require_sysenter(struct vcpu *v)
{
    if (!is_intel(v) && v->long_mode)
        fault_ud(v);
    if (v->mode == MODE_REAL || !(v->msr.sysenter_cs & 0xfffc))
        fault_gp(v, 0);
}

static void sysenter(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_sysenter(v);
    u16 sel = (u16)v->msr.sysenter_cs & 0xfffc;
    v->rflags &= ~(FLAG_VM | FLAG_IF | FLAG_RF);
    set_code(v, sel, v->long_mode, 0);
    set_flat(v, SEG_SS, (u16)(sel + 8), ATTR_DATA, 0);
    v->gpr[RSP] = v->long_mode ? v->msr.sysenter_esp : (u32)v->msr.sysenter_esp;
    v->rip = v->long_mode ? v->msr.sysenter_eip : (u32)v->msr.sysenter_eip;
    cpu_update_mode(v);
}
SEM_SAME(sysenter, sysenter);

static void sysexit(struct vcpu *v, const struct insn *i)
{
    require_sysenter(v);
    require_cpl0(v);
    bool to64 = i->opsize == 8;
    u64 rip = v->gpr[RDX], rsp = v->gpr[RCX];
    if (to64 && (!canonical(rip) || !canonical(rsp)))
        fault_gp(v, 0);
    u16 sel = (u16)((v->msr.sysenter_cs + (to64 ? 32 : 16)) | 3);
    v->rip = to64 ? rip : (u32)rip;
    v->gpr[RSP] = to64 ? rsp : (u32)rsp;
    set_code(v, sel, to64, 3);
    set_flat(v, SEG_SS, (u16)(sel + 8), ATTR_DATA, 3);
    cpu_update_mode(v);
}
SEM_SAME(sysexit, sysexit);
