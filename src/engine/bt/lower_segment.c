/*
 * Segment loads, system calls, INT and IRET. C executes them (quick.c), which ends the TU, because
 * they change the key. But most loads of a data segment are of the flat one into a register that
 * has it already: a 32-bit kernel does that at each entry and on each way out. If the key says that
 * the register is flat, translated code reads the descriptor, and if that is the usual one, only
 * the selector is new and the TU goes on.
 */
#include "engine/bt/trans.h"

/* Descriptor and access rights of a flat data segment, DPL 3, which any privilege may load. */
#define FLAT_DESCRIPTOR 0x00cff3000000ffffULL
#define FLAT_ATTR       0xc0f3

#define L1_SHIFT (PAGE_SHIFT - TLB_ENTRY_SHIFT)
#define L1_MASK  ((TUNE_TLB_L1_ENTRIES - 1) << TLB_ENTRY_SHIFT)

static bool can_load(const struct trans *t, const struct insn *i)
{
    unsigned seg = i->opd[0].reg;
    if (seg == SEG_SS || seg == SEG_CS)
        return false;
    if (i->op == OP_POP_SEG)
        return fits_stack(t, i) && (t->key.stack != 2 || t->key.mode == MODE_REAL);
    return i->opd[1].kind == OPD_GPR || mem_quick(t, i);
}

/* LDS, LES, LFS and LGS; LSS is left to C. */
static bool can_load_pointer(const struct trans *t, const struct insn *i)
{
    return t->key.mode == MODE_REAL && i->op != OP_LSS && i->opd[1].kind == OPD_MEM &&
           mem_quick(t, i);
}

bool can_quick(const struct trans *t, const struct insn *i)
{
    if (i->op >= OP_LDS && i->op <= OP_LSS)
        return can_load_pointer(t, i);
    return i->op == OP_POP_SEG || i->op == OP_MOV_SEG ? can_load(t, i) : true;
}

bool loads_flat(const struct trans *t, const struct insn *i)
{
    return (t->key.mode == MODE_PROT32 || t->key.mode == MODE_PROT16) &&
           t->key.flat_segs & BIT(i->opd[0].reg);
}

bool keeps_key(const struct trans *t, const struct insn *i)
{
    return t->key.mode == MODE_REAL || loads_flat(t, i);
}

static struct site *quick_call(struct trans *t, unsigned code)
{
    struct site *s = emit_slow_call(t, SITE_QUICK);
    s->access = (u8)code;
    s->length = cur_insn(t)->len;
    return s;
}

/* T1 = the selector. */
static void fetch_selector(struct trans *t, const struct insn *i)
{
    unsigned reg = i->opd[1].reg;
    struct hmem m;
    if (i->op == OP_POP_SEG)
        mem_access_at(t, RSP, 0, SEG_SS, i->opsize, ACCESS_READ, &m);
    else if (i->opd[1].kind == OPD_MEM)
        mem_access(t, 2, ACCESS_READ, &m);
    else if (host_reg(reg) == H_NONE)
        m = hmem_vcpu(VCPU_AT(gpr) + 8 * reg);
    else {
        emit_movzx(&t->e, 2, H_T1, host_reg(reg));
        return;
    }
    emit_load_zx(&t->e, 2, H_T1, &m);
}

/* T1 = the descriptor that selector T1 names in the GDT. Jumps to C go to bad[]. */
static unsigned read_descriptor(struct trans *t, u8 *bad[])
{
    struct emit *e = &t->e;
    unsigned n = 0;
    struct hmem limit = hmem_vcpu(VCPU_AT(gdtr.limit)), base = hmem_vcpu(VCPU_AT(gdtr.base)),
                tag = hmem_vcpu(VCPU_AT(l1[TLB_KERNEL]) + offsetof(struct tlb_entry, read)),
                addend = hmem_vcpu(VCPU_AT(l1[TLB_KERNEL]) + offsetof(struct tlb_entry, addend)),
                descriptor = hmem_sum(H_T0, H_T2, 0);
    tag.base = addend.base = H_T1;
    emit_mov_reg(e, 4, H_T0, H_T1);
    emit_alu_imm(e, ALU_AND, 4, H_T0, 0xfffc);
    bad[n++] = emit_jcc(e, 4, NULL); /* null */
    emit_alu_imm(e, ALU_AND, 4, H_T0, 4);
    bad[n++] = emit_jcc(e, 5, NULL); /* in the LDT */
    emit_alu_imm(e, ALU_OR, 4, H_T1, 7);
    emit_alu_load(e, ALU_CMP, 2, H_T1, &limit);
    bad[n++] = emit_jcc(e, 7, NULL);
    emit_alu_load(e, ALU_ADD, 4, H_T1, &base); /* of the last byte */
    struct hmem first = hmem_base(H_T1, -7);
    emit_lea(e, 4, H_T2, &first);
    emit_mov_reg(e, 4, H_T0, H_T1);
    emit_alu_imm(e, ALU_AND, 8, H_T0, -(i32)PAGE_SIZE);
    emit_mov_reg(e, 4, H_T1, H_T2);
    emit_shift_imm(e, SHIFT_SHR, 4, H_T1, L1_SHIFT);
    emit_alu_imm(e, ALU_AND, 4, H_T1, L1_MASK);
    emit_alu_load(e, ALU_CMP, 8, H_T0, &tag);
    bad[n++] = emit_jcc(e, 5, NULL);
    emit_load(e, 8, H_T0, &addend);
    emit_load(e, 8, H_T1, &descriptor);
    return n;
}

static void load_flat(struct trans *t, const struct insn *i)
{
    struct emit *e = &t->e;
    unsigned seg = i->opd[0].reg;
    size_t at = VCPU_AT(seg) + seg * sizeof(struct segment);
    struct hmem operand = hmem_vcpu(BT_AT(operand)),
                sel = hmem_vcpu(at + offsetof(struct segment, sel)),
                attr = hmem_vcpu(at + offsetof(struct segment, attr));
    u8 *bad[8];
    unsigned n = read_descriptor(t, bad);
    emit_mov_imm(e, H_T0, FLAT_DESCRIPTOR);
    emit_alu_reg(e, ALU_CMP, 8, H_T1, H_T0);
    bad[n++] = emit_jcc(e, 5, NULL);
    emit_alu_mem_imm(e, ALU_CMP, 4, &attr, FLAT_ATTR);
    u8 *good = emit_jcc(e, 4, NULL);
    while (n > 0)
        emit_patch(bad[--n], e->p);
    quick_call(t, QUICK_LOAD_SEG + seg)->size = i->op == OP_POP_SEG ? i->opsize : 0;
    emit_patch(good, e->p);
    emit_load(e, 4, H_T1, &operand);
    emit_store(e, 2, &sel, H_T1);
    if (i->op == OP_POP_SEG)
        move_rsp(t, i->opsize);
}

/* In real mode a load of selector T1 changes selector and base (sem_load_segment_real()), unless
 * the register is still what protected mode has left in it. */
static void load_real(struct trans *t, unsigned seg)
{
    struct emit *e = &t->e;
    size_t at = VCPU_AT(seg) + seg * sizeof(struct segment);
    struct hmem sel = hmem_vcpu(at + offsetof(struct segment, sel)),
                base = hmem_vcpu(at + offsetof(struct segment, base)),
                attr = hmem_vcpu(at + offsetof(struct segment, attr)),
                flat = hmem_vcpu(VCPU_AT(flat));
    struct cold *c = cold_new(t, site_new(t, SITE_FAULT, NULL));
    emit_load(e, 4, H_T0, &attr);
    emit_alu_imm(e, ALU_AND, 4, H_T0, ~(i32)(SEG_DB | SEG_G));
    emit_alu_imm(e, ALU_CMP, 4, H_T0, SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED);
    c->from[0] = emit_jcc(e, 5, NULL);
    emit_alu_mem_imm(e, ALU_CMP, 1, &flat, 0);
    c->from[1] = emit_jcc(e, 5, NULL);
    emit_store(e, 2, &sel, H_T1);
    emit_shift_imm(e, SHIFT_SHL, 4, H_T1, 4);
    emit_store(e, 8, &base, H_T1);
}

/* T2 keeps the offset. */
static void lower_load_pointer(struct trans *t, const struct insn *i)
{
    static const u8 segment[] = {SEG_DS, SEG_ES, SEG_FS, SEG_GS};
    struct hmem m, sel = hmem_base(H_T0, i->opsize);
    flags_clobber(t);
    mem_access(t, i->opsize + 2, ACCESS_READ, &m);
    mem_fold(t, &m);
    emit_load(&t->e, i->opsize, H_T2, &m);
    emit_load_zx(&t->e, 2, H_T1, &sel);
    load_real(t, segment[i->op - OP_LDS]);
    emit_mov_reg(&t->e, i->opsize, host_reg(i->opd[0].reg), H_T2);
}

static void lower_load_real(struct trans *t, const struct insn *i)
{
    flags_clobber(t);
    fetch_selector(t, i);
    load_real(t, i->opd[0].reg);
    if (i->op == OP_POP_SEG)
        move_rsp(t, i->opsize);
}

static void lower_load(struct trans *t, const struct insn *i)
{
    struct hmem operand = hmem_vcpu(BT_AT(operand));
    if (t->key.mode == MODE_REAL) {
        lower_load_real(t, i);
        return;
    }
    flags_image(t);
    fetch_selector(t, i);
    emit_store(&t->e, 4, &operand, H_T1);
    if (loads_flat(t, i)) {
        load_flat(t, i);
        return;
    }
    quick_call(t, QUICK_LOAD_SEG + i->opd[0].reg)->size = i->op == OP_POP_SEG ? i->opsize : 0;
    t->ended = true;
}

void lower_quick(struct trans *t, const struct insn *i)
{
    unsigned code, size = i->opsize;
    switch (i->op) {
    case OP_IRET:
    case OP_IRETD:
    case OP_IRETQ:
        code = QUICK_IRET;
        break;
    case OP_INT:
        code = QUICK_INT;
        size = (u8)i->imm;
        break;
    case OP_INT3:
        code = QUICK_INT;
        size = VEC_BP;
        break;
    case OP_INTO:
        code = QUICK_INTO;
        break;
    case OP_SYSCALL:
        code = QUICK_SYSCALL;
        break;
    case OP_SYSENTER:
        code = QUICK_SYSENTER;
        break;
    case OP_SYSRET:
        code = QUICK_SYSRET;
        break;
    case OP_SYSEXIT:
        code = QUICK_SYSEXIT;
        break;
    case OP_LDS:
    case OP_LES:
    case OP_LFS:
    case OP_LGS:
        lower_load_pointer(t, i);
        return;
    default:
        lower_load(t, i);
        return;
    }
    quick_call(t, code)->size = (u16)size;
    t->ended = true;
}
