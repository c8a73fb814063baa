/*
 * Control and debug registers, XCR0, and TLB invalidation: which values are allowed, and what
 * follows from a change of mode (SDM vol. 3, 2.5, 4.1.2, 4.10.4, 9.8.5; vol. 2, MOV).
 */
#include "cpu/irq.h"
#include "engine/sem/descriptor.h"
#include "engine/sem/sem_sys.h"

#define CR0_DEFINED                                                                                \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |     \
     CR0_PG)
/* Changes that reload the PDPTEs under PAE paging (SDM vol. 3, 4.4.1). */
#define CR0_PDPTE (CR0_CD | CR0_NW | CR0_PG)
#define CR4_PDPTE (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)
#define CR4_TLB   (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP)

/* PAE paging outside long mode, by these register values. */
static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
    return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & (EFER_LME | EFER_LMA));
}

static bool cr0_valid(const struct vcpu *v, u64 value)
{
    bool pg_on = value & ~v->cr0 & CR0_PG, pg_off = v->cr0 & ~value & CR0_PG;
    if (value >> 32 || (value & CR0_PG && !(value & CR0_PE)) ||
        (value & CR0_NW && !(value & CR0_CD)))
        return false;
    if (pg_on && v->efer & EFER_LME) {
        unsigned tss = v->tr.attr & SEG_TYPE;
        if (!(v->cr4 & CR4_PAE) || v->seg[SEG_CS].attr & SEG_L || tss == SYS_TSS16 ||
            tss == SYS_TSS16_BUSY)
            return false;
    }
    return !pg_off || !(v->mode == MODE_LONG64 || v->cr4 & CR4_PCIDE);
}

void sem_write_cr0(struct vcpu *v, u64 value)
{
    if (!cr0_valid(v, value))
        fault_gp(v, 0);
    value = (value & CR0_DEFINED) | CR0_ET;
    u64 changed = v->cr0 ^ value;
    if (changed & CR0_PDPTE && pae_paging(value, v->cr4, v->efer) && !walk_load_pdptes(v, v->cr3))
        fault_gp(v, 0);
    v->cr0 = value;
    if (changed & CR0_PG) {
        bool lma = value & CR0_PG && v->efer & EFER_LME;
        v->efer = lma ? v->efer | EFER_LMA : v->efer & ~EFER_LMA;
    }
    if (changed & (CR0_PE | CR0_PG | CR0_WP))
        tlb_flush_all(v);
    cpu_update_mode(v);
}

static bool cr3_valid(const struct vcpu *v, u64 value)
{
    u64 beyond = ~0ULL << v->machine->model->phys_bits;
    return !v->long_mode || !(value & beyond);
}

void sem_write_cr3(struct vcpu *v, u64 value)
{
    bool pcids = v->cr4 & CR4_PCIDE, keep = pcids && value & CR3_NOFLUSH;
    if (pcids)
        value &= ~CR3_NOFLUSH;
    if (!cr3_valid(v, value))
        fault_gp(v, 0);
    if (pae_paging(v->cr0, v->cr4, v->efer) && !walk_load_pdptes(v, value))
        fault_gp(v, 0);
    v->cr3 = value;
    if (!pcids) {
        tlb_flush_nonglobal(v);
        return;
    }
    if (!keep)
        tlb_flush_pcid(v, (u16)(value & CR3_PCID));
    tlb_switch(v);
}

static bool cr4_valid(const struct vcpu *v, u64 value)
{
    u64 on = value & ~v->cr4;
    if (value & ~cpu_cr4_allowed(v->machine->model))
        return false;
    if (v->long_mode && !(value & CR4_PAE))
        return false;
    return !(on & CR4_PCIDE) || (v->long_mode && !(v->cr3 & CR3_PCID));
}

void sem_write_cr4(struct vcpu *v, u64 value)
{
    if (!cr4_valid(v, value))
        fault_gp(v, 0);
    u64 changed = v->cr4 ^ value;
    if (changed & CR4_PDPTE && pae_paging(v->cr0, value, v->efer) && !walk_load_pdptes(v, v->cr3))
        fault_gp(v, 0);
    v->cr4 = value;
    if (changed & CR4_TLB)
        tlb_flush_all(v);
    cpu_update_mode(v);
}

static void write_cr8(struct vcpu *v, u64 value)
{
    if (value > 15)
        fault_gp(v, 0);
    if (v->irq)
        v->irq->write_cr8(v, (u8)value);
}

static u64 read_cr(struct vcpu *v, unsigned cr)
{
    switch (cr) {
    case 0:
        return v->cr0;
    case 2:
        return v->cr2;
    case 3:
        return v->cr3;
    case 4:
        return v->cr4;
    case 8:
        return v->lapic.tpr >> 4 & 15;
    default:
        fault_ud(v);
    }
}

static void write_cr(struct vcpu *v, unsigned cr, u64 value)
{
    switch (cr) {
    case 0:
        sem_write_cr0(v, value);
        break;
    case 2:
        v->cr2 = value;
        break;
    case 3:
        sem_write_cr3(v, value);
        break;
    case 4:
        sem_write_cr4(v, value);
        break;
    case 8:
        write_cr8(v, value);
        break;
    default:
        fault_ud(v);
    }
}

/* Bytes of a register in MOV CR and MOV DR: the operand size does not count. */
static unsigned move_size(const struct vcpu *v)
{
    return v->mode == MODE_LONG64 ? 8 : 4;
}

static void mov_cr(struct vcpu *v, const struct insn *i)
{
    unsigned size = move_size(v);
    require_cpl0(v);
    if (i->opd[0].kind == OPD_CR)
        write_cr(v, i->opd[0].reg, reg_read(v, i->opd[1].reg, size));
    else
        reg_write(v, i->opd[0].reg, size, read_cr(v, i->opd[1].reg));
}
SEM_SAME(mov_cr, mov_cr);

/* PE cannot be cleared. */
static void lmsw(struct vcpu *v, const struct insn *i)
{
    u64 msw = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
    require_cpl0(v);
    u64 value = opd_read(v, i, 0, 2) & msw;
    sem_write_cr0(v, (v->cr0 & ~(msw & ~CR0_PE)) | value);
}
SEM_SAME(lmsw, lmsw);

static void clts(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_cpl0(v);
    v->cr0 &= ~CR0_TS;
}
SEM_SAME(clts, clts);

/* --- debug registers (SDM vol. 3, 17.2) --- */

#define DR6_WRITABLE 0xe00fULL
#define DR7_WRITABLE 0xffff23ffULL

static void write_dr(struct vcpu *v, unsigned dr, u64 value)
{
    if (dr >= 6 && value >> 32)
        fault_gp(v, 0);
    if (dr == 6)
        v->dr[6] = (value & DR6_WRITABLE) | DR6_FIXED;
    else if (dr == 7)
        v->dr[7] = (value & DR7_WRITABLE) | DR7_FIXED;
    else
        v->dr[dr] = value;
    tlb_set_breakpoints(v);
}

static void mov_dr(struct vcpu *v, const struct insn *i)
{
    unsigned size = move_size(v);
    bool write = i->opd[0].kind == OPD_DR;
    unsigned dr = i->opd[write ? 0 : 1].reg, gpr = i->opd[write ? 1 : 0].reg;
    if (dr > 7 || ((dr == 4 || dr == 5) && v->cr4 & CR4_DE))
        fault_ud(v);
    if (dr == 4 || dr == 5)
        dr += 2;
    require_cpl0(v);
    if (v->dr[7] & DR7_GD)
        fault_debug(v, DR6_BD);
    if (write)
        write_dr(v, dr, reg_read(v, gpr, size));
    else
        reg_write(v, gpr, size, v->dr[dr]);
}
SEM_SAME(mov_dr, mov_dr);

/* --- the TLB --- */

static void invlpg(struct vcpu *v, const struct insn *i)
{
    require_cpl0(v);
    u64 lin = effective_address(v, i);
    if (v->mode != MODE_LONG64)
        lin = (u32)(lin + v->seg[i->seg].base);
    else if (i->seg >= SEG_FS)
        lin += v->seg[i->seg].base;
    if (canonical(lin))
        tlb_flush_page(v, lin);
}
SEM_SAME(invlpg, invlpg);

enum invpcid_type { INVPCID_ADDRESS, INVPCID_CONTEXT, INVPCID_ALL_GLOBAL, INVPCID_ALL };

static void invpcid(struct vcpu *v, const struct insn *i)
{
    require_cpl0(v);
    u64 type = reg_read(v, i->opd[0].reg, move_size(v));
    u64 lin = mem_lin(v, i, 16, ACCESS_READ);
    u64 pcid = lin_read(v, lin, 8), address = lin_read(v, lin_plus(v, lin, 8), 8);
    bool bad_pcid = pcid > CR3_PCID || (pcid && type <= INVPCID_CONTEXT && !(v->cr4 & CR4_PCIDE));
    if (type > INVPCID_ALL || bad_pcid || (type == INVPCID_ADDRESS && !canonical(address)))
        fault_gp(v, 0);
    switch ((enum invpcid_type)type) {
    case INVPCID_ADDRESS:
        tlb_flush_pcid_page(v, (u16)pcid, address);
        break;
    case INVPCID_CONTEXT:
        tlb_flush_pcid(v, (u16)pcid);
        break;
    case INVPCID_ALL_GLOBAL:
        tlb_flush_all(v);
        break;
    case INVPCID_ALL:
        tlb_flush_nonglobal(v);
        break;
    }
}
SEM_SAME(invpcid, invpcid);

/* --- extended control registers --- */

static void require_osxsave(struct vcpu *v)
{
    if (!(v->cr4 & CR4_OSXSAVE))
        fault_ud(v);
}

static void xgetbv(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_osxsave(v);
    u32 index = (u32)v->gpr[RCX];
    bool in_use = index == 1 && cpu_has(v->machine->model, FEAT_XGETBV1);
    if (index != 0 && !in_use)
        fault_gp(v, 0);
    u64 value = in_use ? v->xcr0 & v->fpu.xstate_bv : v->xcr0;
    v->gpr[RAX] = (u32)value;
    v->gpr[RDX] = value >> 32;
}
SEM_SAME(xgetbv, xgetbv);

static void xsetbv(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_osxsave(v);
    require_cpl0(v);
    u64 value = (u32)v->gpr[RAX] | v->gpr[RDX] << 32;
    bool avx_alone = (value & (XCR0_AVX | XCR0_SSE)) == XCR0_AVX;
    if ((u32)v->gpr[RCX] != 0 || value & ~v->machine->model->xcr0_mask || !(value & XCR0_X87) ||
        avx_alone)
        fault_gp(v, 0);
    v->xcr0 = value;
}
SEM_SAME(xsetbv, xsetbv);
