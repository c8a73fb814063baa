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

static enum sem_form form_of(const struct insn *i)
{
    unsigned dst = i->opd[0].kind, src = i->opd[1].kind;
    if (i->nopd != 2 || i->prefix)
        return FORM_ANY;
    if (dst == OPD_GPR)
        return src == OPD_GPR   ? FORM_REG_REG
               : src == OPD_IMM ? FORM_REG_IMM
               : src == OPD_MEM ? FORM_REG_MEM
                                : FORM_ANY;
    return dst == OPD_MEM && src == OPD_GPR ? FORM_MEM_REG : FORM_ANY;
}

/* TZCNT and LZCNT are BSF and BSR with an ignored prefix on a CPU that lacks them. */
static bool offered(struct vcpu *v, struct insn *i)
{
    if (i->flags & INSN_NOT_YET)
        return false;
    if (i->feature == FEAT_COUNT || cpu_has(v->machine->model, (enum cpu_feature)i->feature))
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
    if (i->op == OP_INVALID || !offered(v, i))
        return;
    unsigned size = (unsigned)__builtin_ctz(i->opsize);
    sem_fn *sem =
        form_tables[i->op] ? form_tables[i->op][form_of(i)][size] : sem_tables[i->op][size];
    if (!sem)
        return;
    i->sem = sem;
    if (i->flags & INSN_NATIVE)
        i->aux = native_thunk(v, i);
}
