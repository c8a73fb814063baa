/*
 * From a decoded instruction to the function that executes it: by operation and operand size, for
 * the commonest operations also by the kinds of their operands; #UD for what the guest's CPU does
 * not have.
 */
#include "cpu/model.h"
#include "engine/sem/native.h"
#include "engine/sem/sem_common.h"

static sem_fn *const *const sem_tables[OP_COUNT] = {
#define INSN(mnemonic, sem, class, flags) [OP_##mnemonic] = sem_##sem,
#include "cpu/insn.def"
#undef INSN
};

typedef sem_fn *const form_table[4];

static form_table *const form_tables[OP_COUNT] = {
#define FORMS(mnemonic, name) [OP_##mnemonic] = sem_forms_##name,
    FOR_FORMED_OPS(FORMS)
#undef FORMS
};

static void raise_ud(struct vcpu *v, const struct insn *i)
{
    (void)i;
    fault_ud(v);
}

u64 sem_ea(const struct vcpu *v, const struct insn *i)
{
    return effective_address(v, i);
}

u64 sem_read_slow(struct vcpu *v, const struct insn *i, unsigned size)
{
    return lin_read(v, mem_lin(v, i, size, ACCESS_READ), size);
}

void sem_write_slow(struct vcpu *v, const struct insn *i, unsigned size, u64 value)
{
    lin_write(v, mem_lin(v, i, size, ACCESS_WRITE), value, size);
}

u64 sem_update_slow(struct vcpu *v, const struct insn *i, unsigned size, u64 src, update_fn *fn,
                    u32 *flags)
{
    return lin_update(v, i, mem_lin(v, i, size, ACCESS_WRITE), size, src, fn, flags);
}

static u16 gpr_at(unsigned reg)
{
    if (reg == REG_RIP)
        return offsetof(struct vcpu, rip);
    return (u16)(reg < 16 ? offsetof(struct vcpu, gpr) + 8 * reg : offsetof(struct vcpu, no_reg));
}

/* What the linear address of the memory operand is made of. Address sizes below the mode's own are
 * cut off before the segment's base is added: not quick. */
static void bind_address(const struct vcpu *v, struct insn *i)
{
    bool long64 = v->mode == MODE_LONG64;
    i->base_at = gpr_at(i->base);
    i->index_at = gpr_at(i->index);
    i->seg_at = offsetof(struct vcpu, no_reg);
    if (i->seg < ARRAY_SIZE(v->seg) && (!long64 || i->seg >= SEG_FS))
        i->seg_at = (u16)(offsetof(struct vcpu, seg[0].base) + i->seg * sizeof(struct segment));
    i->lin_mask = long64 ? ~0ULL : 0xffffffff;
    i->quick_seg = i->addrsize == (long64 ? 8 : 4) ? (u8)(1U << (i->seg & 7)) : 0;
}

static enum sem_form form_of(const struct insn *i)
{
    unsigned dst = i->opd[0].kind, src = i->opd[1].kind;
    if (i->prefix)
        return FORM_ANY;
    if (i->nopd == 1 && dst == OPD_GPR)
        return FORM_REG;
    if (i->nopd != 2)
        return FORM_ANY;
    if (dst == OPD_GPR)
        return src == OPD_GPR   ? FORM_REG_REG
               : src == OPD_IMM ? FORM_REG_IMM
               : src == OPD_MEM ? FORM_REG_MEM
                                : FORM_ANY;
    if (dst == OPD_MEM)
        return src == OPD_GPR ? FORM_MEM_REG : src == OPD_IMM ? FORM_MEM_IMM : FORM_ANY;
    return FORM_ANY;
}

static sem_fn *sem_extension(const struct insn *i, unsigned size)
{
    const struct operand *src = &i->opd[1];
    if (src->kind == OPD_GPR8H || src->size > 4)
        return sem_tables[i->op][size];
    unsigned from = (unsigned)__builtin_ctz(src->size), mem = src->kind == OPD_MEM;
    return i->op == OP_MOVZX ? sem_forms_movzx[from][mem][size] : sem_forms_movsx[from][mem][size];
}

static sem_fn *sem_of(const struct insn *i)
{
    unsigned size = (unsigned)__builtin_ctz(i->opsize);
    if (i->op == OP_MOVZX || i->op == OP_MOVSX || i->op == OP_MOVSXD)
        return sem_extension(i, size);
    sem_fn *formed = form_tables[i->op] ? form_tables[i->op][form_of(i)][size] : NULL;
    return formed ? formed : sem_tables[i->op][size];
}

/* TZCNT and LZCNT are BSF and BSR with an ignored prefix on a CPU that lacks them. */
bool sem_offered(struct vcpu *v, struct insn *i)
{
    if (i->flags & INSN_NOT_YET)
        return false;
    if (i->feature == FEAT_COUNT || cpu_executes(v->machine->model, (enum cpu_feature)i->feature))
        return true;
    if (i->op == OP_TZCNT || i->op == OP_LZCNT) {
        i->op = i->op == OP_TZCNT ? OP_BSF : OP_BSR;
        return true;
    }
    return false;
}

void sem_bind(struct vcpu *v, struct insn *i)
{
    i->aux = NULL;
    i->sem = raise_ud;
    bind_address(v, i);
    if (i->op == OP_INVALID || !sem_offered(v, i))
        return;
    sem_fn *sem = sem_of(i);
    if (!sem)
        return;
    i->sem = sem;
    if (i->flags & INSN_NATIVE)
        i->aux = native_thunk(v, i);
}
