/*
 * The stack: its width is SS.B's or 64 bits and has nothing to do with the operand size. rSP is
 * committed after the last access that can fault.
 */
#include "engine/sem/sem_stack.h"

u64 sem_stack_mask(const struct vcpu *v)
{
    return stack_mask(v);
}

void sem_push(struct vcpu *v, u64 value, unsigned size)
{
    switch (size) {
    case 2:
        stack_push(v, value, 2);
        break;
    case 4:
        stack_push(v, value, 4);
        break;
    default:
        stack_push(v, value, 8);
        break;
    }
}

void sem_push_slow(struct vcpu *v, u64 value, unsigned size)
{
    u64 mask = stack_mask(v), sp = (v->gpr[RSP] - size) & mask;
    stack_write(v, sp, value, size);
    stack_set(v, mask, sp);
}

u64 sem_top_slow(struct vcpu *v, unsigned size)
{
    return stack_read(v, v->gpr[RSP] & stack_mask(v), size);
}

u64 sem_pop(struct vcpu *v, unsigned size)
{
    u64 value = size == 2 ? stack_top(v, 2) : size == 4 ? stack_top(v, 4) : stack_top(v, 8);
    stack_set(v, stack_mask(v), v->gpr[RSP] + size);
    return value;
}

/* --- PUSH and POP of registers, immediates, memory --- */

ALWAYS_INLINE void push_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    stack_push(v, opd_read(v, i, 0, size), size);
}

ALWAYS_INLINE void push_reg(struct vcpu *v, const struct insn *i, unsigned size)
{
    stack_push(v, v->gpr[i->opd[0].reg], size);
}

FOR_WORDS(SEM_FUNCTION, push, push_any)
FOR_WORDS(SEM_FUNCTION, push_reg, push_reg)
SEM_TABLE_WORDS(insn_push, push);
sem_fn *const sem_forms_insn_push[FORM_COUNT][4] = {
    [FORM_ANY] = WORD_ROW(push), [FORM_REG] = WORD_ROW(push_reg)};

/* POP to memory computes an address that uses rSP with the incremented value (SDM vol. 2, POP). */
ALWAYS_INLINE void pop_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    u64 mask = stack_mask(v), old = v->gpr[RSP];
    u64 value = stack_top(v, size);

    stack_set(v, mask, old + size);
    if (i->opd[0].kind == OPD_GPR) {
        reg_write(v, i->opd[0].reg, size, value);
        return;
    }
    u64 off = effective_address(v, i), new = v->gpr[RSP];
    v->gpr[RSP] = old; /* a fault finds it unchanged */
    lin_write(v, seg_lin(v, (enum seg_reg)i->seg, off, size, ACCESS_WRITE), value, size);
    v->gpr[RSP] = new;
}

ALWAYS_INLINE void pop_reg(struct vcpu *v, const struct insn *i, unsigned size)
{
    u64 value = stack_top(v, size);
    stack_set(v, stack_mask(v), v->gpr[RSP] + size);
    reg_write(v, i->opd[0].reg, size, value);
}

FOR_WORDS(SEM_FUNCTION, pop, pop_any)
FOR_WORDS(SEM_FUNCTION, pop_reg, pop_reg)
SEM_TABLE_WORDS(insn_pop, pop);
sem_fn *const sem_forms_insn_pop[FORM_COUNT][4] = {
    [FORM_ANY] = WORD_ROW(pop), [FORM_REG] = WORD_ROW(pop_reg)};

/* --- PUSHA and POPA: eight registers as one block, RAX at its top --- */

/* Linear address of the eight slots from sp up, or false if they wrap around the end of the stack
 * segment's offsets. */
static bool slots_lin(struct vcpu *v, u64 sp, unsigned len, u64 mask, enum access access, u64 *lin)
{
    if (sp + len - 1 > mask)
        return false;
    *lin = seg_lin(v, SEG_SS, sp, len, access);
    return true;
}

ALWAYS_INLINE void pusha_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    (void)i;
    u8 slots[32];
    u64 mask = stack_mask(v), sp = (v->gpr[RSP] - 8 * size) & mask, lin;
    for (unsigned n = 0; n < 8; n++)
        store_le(slots + n * size, v->gpr[RDI - n], size);
    if (slots_lin(v, sp, 8 * size, mask, ACCESS_WRITE, &lin))
        lin_write_bytes(v, lin, slots, 8 * size);
    else
        for (unsigned n = 8; n-- > 0;)
            stack_write(v, (sp + n * size) & mask, load_le(slots + n * size, size), size);
    stack_set(v, mask, sp);
}

SEM_FUNCTION(2, , , pusha, pusha_any)
SEM_FUNCTION(4, , , pusha, pusha_any)
sem_fn *const sem_pusha[4] = {NULL, pusha_2, pusha_4, NULL};

ALWAYS_INLINE void popa_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    (void)i;
    u8 slots[32];
    u64 mask = stack_mask(v), sp = v->gpr[RSP] & mask, lin;
    if (slots_lin(v, sp, 8 * size, mask, ACCESS_READ, &lin))
        lin_read_bytes(v, lin, slots, 8 * size);
    else
        for (unsigned n = 0; n < 8; n++)
            store_le(slots + n * size, stack_read(v, (sp + n * size) & mask, size), size);
    for (unsigned n = 0; n < 8; n++)
        if (RDI - n != RSP)
            reg_write(v, RDI - n, size, load_le(slots + n * size, size));
    stack_set(v, mask, sp + 8 * size);
}

SEM_FUNCTION(2, , , popa, popa_any)
SEM_FUNCTION(4, , , popa, popa_any)
sem_fn *const sem_popa[4] = {NULL, popa_2, popa_4, NULL};

/* --- ENTER and LEAVE --- */

/* Stores below rSP happen before rSP and rBP change, so a fault in one of them can be restarted. */
ALWAYS_INLINE void enter_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    u64 mask = stack_mask(v), sp = (v->gpr[RSP] - size) & mask, frame = sp;
    u64 bp = v->gpr[RBP];
    unsigned level = i->imm2 & 31;

    stack_write(v, sp, bp, size);
    for (unsigned n = 1; n < level; n++) {
        bp -= size;
        sp = (sp - size) & mask;
        stack_write(v, sp, stack_read(v, bp & mask, size), size);
    }
    if (level) {
        sp = (sp - size) & mask;
        stack_write(v, sp, frame, size);
    }
    sp = (sp - (i->imm & 0xffff)) & mask;
    /* The new top of the stack must be writable too (SDM vol. 2, ENTER). */
    lin_probe(v, seg_lin(v, SEG_SS, sp, size, ACCESS_WRITE), size, ACCESS_WRITE);
    reg_write(v, RBP, size, frame);
    stack_set(v, mask, sp);
}

FOR_WORDS(SEM_FUNCTION, enter, enter_any)
SEM_TABLE_WORDS(enter, enter);

ALWAYS_INLINE void leave_any(struct vcpu *v, const struct insn *i, unsigned size)
{
    (void)i;
    u64 mask = stack_mask(v), sp = v->gpr[RBP] & mask;
    u64 value = stack_read(v, sp, size);
    stack_set(v, mask, sp + size);
    reg_write(v, RBP, size, value);
}

FOR_WORDS(SEM_FUNCTION, leave, leave_any)
SEM_TABLE_WORDS(leave, leave);
