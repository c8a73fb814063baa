/*
 * Host code that all fragments share: the way in from C, the way out, and the call of bt_slow().
 * Guest registers go between host registers and vcpu.gpr here and nowhere else. The host's stack
 * pointer is kept in bt_cpu while RSP is the guest's.
 */
#include "engine/bt/tcache.h"

static const u8 saved[] = {RBX, RBP, R12, R13, R14, R15}; /* by the C calling convention */

static void push_reg(struct emit *e, unsigned reg)
{
    if (reg >= 8)
        emit8(e, 0x41);
    emit8(e, 0x50 | (reg & 7));
}

static void pop_reg(struct emit *e, unsigned reg)
{
    if (reg >= 8)
        emit8(e, 0x41);
    emit8(e, 0x58 | (reg & 7));
}

/* wide: of 64-bit code. Else R8 is a temporary and guest R8 stays in memory. */
static void move_gprs(struct emit *e, bool load, bool wide)
{
    for (unsigned guest = RAX; guest <= R15; guest++) {
        unsigned host = host_reg(guest);
        struct hmem m = hmem_vcpu(VCPU_AT(gpr) + 8 * guest);
        if (host == H_NONE || (!load && !wide && guest == R8))
            continue;
        if (load)
            emit_load(e, 8, host, &m);
        else
            emit_store(e, 8, &m, host);
    }
}

static void to_guest(struct emit *e)
{
    struct hmem image = hmem_vcpu(BT_AT(image)), target = hmem_vcpu(BT_AT(scratch));
    move_gprs(e, true, true);
    emit_load(e, 8, H_FLAGS, &image);
    emit_jmp_mem(e, &target);
}

static void to_host(struct emit *e, bool wide)
{
    struct hmem image = hmem_vcpu(BT_AT(image)), site = hmem_vcpu(BT_AT(site)),
                sp = hmem_vcpu(BT_AT(host_sp));
    move_gprs(e, false, wide);
    emit_store(e, 8, &image, H_FLAGS);
    emit_store(e, 8, &site, H_T0);
    emit_load(e, 8, RSP, &sp);
}

/* Returns from enter() with this value. */
static void emit_return(struct emit *e, unsigned value)
{
    emit_mov_imm(e, RAX, value);
    emit_alu_imm(e, ALU_ADD, 8, RSP, 8);
    for (unsigned n = ARRAY_SIZE(saved); n--;)
        pop_reg(e, saved[n]);
    emit8(e, 0xc3);
}

static void emit_enter(struct emit *e)
{
    struct hmem sp = hmem_vcpu(BT_AT(host_sp)), target = hmem_vcpu(BT_AT(scratch));
    for (unsigned n = 0; n < ARRAY_SIZE(saved); n++)
        push_reg(e, saved[n]);
    emit_alu_imm(e, ALU_SUB, 8, RSP, 8);
    emit_store(e, 8, &sp, RSP);
    emit_store(e, 8, &target, RSI);
    to_guest(e);
}

static void emit_slow(struct emit *e, bool wide)
{
    struct hmem lin = hmem_vcpu(BT_AT(slow_lin)), target = hmem_vcpu(BT_AT(scratch));
    emit_store(e, 8, &lin, H_T1);
    to_host(e, wide);
    emit_mov_imm(e, RAX, (u64)(uintptr_t)bt_slow);
    struct hmem self = hmem_vcpu(BT_AT(v));
    emit_load(e, 8, RDI, &self);
    emit8(e, 0xff); /* call rax */
    emit8(e, 0xd0);
    emit_store(e, 8, &target, RAX);
    struct opcode test = {.size = 8, .code = 0x85};
    emit_op_reg(e, &test, RAX, RAX);
    u8 *leave = emit_jcc(e, 4, NULL);
    to_guest(e);
    emit_patch(leave, e->p);
    emit_return(e, 0);
}

static void emit_leave(struct emit *e, bool wide)
{
    to_host(e, wide);
    emit_return(e, 1);
}

void thunks_emit(struct tcache *tc, struct thunks *t)
{
    struct emit e = {.p = tc->next, .end = tc->rw + tc->size};
    t->enter = e.p;
    emit_enter(&e);
    for (unsigned wide = 0; wide < 2; wide++) {
        emit_align(&e, 64, 0);
        t->slow[wide] = e.p;
        emit_slow(&e, wide);
        emit_align(&e, 64, 0);
        t->leave[wide] = e.p;
        emit_leave(&e, wide);
    }
    tc->next = e.p;
    thunks_emit_repeat(tc, t);
}
