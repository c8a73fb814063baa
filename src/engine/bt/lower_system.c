/*
 * System instructions that kernels execute all the time, done in translated code on the state in
 * struct vcpu ("in-TC"): the interrupt flag, PUSHF and POPF, reads of segment and control
 * registers, SWAPGS, the time stamp counter, reads of ports that show what they hold. What they
 * can't decide there (an event that has become deliverable, a flag that changes more than itself, a
 * port whose device has to be asked) they leave to C, before anything is changed.
 */
#include "base/timebase.h"
#include "engine/bt/trans.h"
#include "mem/portbus.h"

#define IMAGE_BITS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF)

static bool can_read_cr(const struct trans *t, const struct insn *i)
{
    unsigned cr = i->opd[1].reg;
    return t->key.cpl == 0 && i->opd[1].kind == OPD_CR && (cr == 0 || (cr >= 2 && cr <= 4));
}

/* By the permission that the key tells of: neither the TSS nor breakpoints have a say. */
static bool can_in(const struct trans *t, const struct insn *i)
{
    unsigned size = i->opd[0].size;
    bool counter = port_counter(t->v->machine->ports).hz && t->bt->m->rdtsc == RDTSC_IN_TC;
    return t->key.bits & KEY_IOPL && (size == 1 || (size == 4 && counter));
}

/* Is it one of lower_segment.c's? */
static bool is_quick(const struct insn *i)
{
    switch (i->op) {
    case OP_POP_SEG:
    case OP_LDS:
    case OP_LES:
    case OP_LFS:
    case OP_LGS:
    case OP_SYSCALL:
    case OP_SYSRET:
    case OP_SYSENTER:
    case OP_SYSEXIT:
    case OP_INT:
    case OP_INT3:
    case OP_INTO:
    case OP_IRET:
    case OP_IRETD:
    case OP_IRETQ:
        return true;
    default:
        return i->op == OP_MOV_SEG && i->opd[0].kind == OPD_SEG;
    }
}

bool can_system(const struct trans *t, const struct insn *i)
{
    if (i->flags & INSN_NOT_YET || t->key.mode == MODE_V86)
        return false;
    if (is_quick(i))
        return can_quick(t, i);
    switch (i->op) {
    case OP_CLI:
    case OP_STI:
        return t->key.bits & KEY_IOPL;
    case OP_PUSHF:
    case OP_PUSHFD:
    case OP_PUSHFQ:
    case OP_POPF:
    case OP_POPFD:
    case OP_POPFQ:
        return fits_stack(t, i);
    case OP_PUSH_SEG:
        return fits_stack(t, i) && __builtin_cpu_is("amd"); /* Intel CPUs write 16 bits only */
    case OP_RDFSBASE:
    case OP_RDGSBASE:
    case OP_WRFSBASE:
    case OP_WRGSBASE:
        return t->wide;
    case OP_MOV_SEG:
        return i->opd[1].kind == OPD_SEG && (i->opd[0].kind == OPD_GPR || mem_quick(t, i));
    case OP_MOV_CR:
        return can_read_cr(t, i);
    case OP_CLAC:
    case OP_STAC:
        return t->key.cpl == 0;
    case OP_SWAPGS:
        return t->wide && t->key.cpl == 0;
    case OP_RDTSC:
    case OP_RDTSCP:
        return t->key.bits & KEY_TSC && t->bt->m->rdtsc != RDTSC_CALLOUT;
    case OP_IN:
        return can_in(t, i);
    default:
        return false;
    }
}

bool falls_through(const struct trans *t, const struct insn *i)
{
    if (i->op == OP_CLAC || i->op == OP_STAC) /* the key changes */
        return false;
    if (i->op == OP_POP_SEG || (i->op == OP_MOV_SEG && i->opd[0].kind == OPD_SEG))
        return can_quick(t, i) && keeps_key(t, i);
    return i->cls == CLASS_SYSTEM || i->cls == CLASS_IO ? can_system(t, i) : can_string(t, i);
}

/* A jump to C, which executes the instruction, if condition cc holds. */
static void leave_if(struct trans *t, unsigned cc)
{
    u32 site = site_new(t, SITE_END, NULL);
    u8 *from = emit_jcc(&t->e, cc, NULL);
    cold_new(t, site)->from[0] = from;
}

static void leave_if_events(struct trans *t)
{
    struct hmem events = hmem_vcpu(VCPU_AT(events));
    emit_alu_mem_imm(&t->e, ALU_CMP, 4, &events, 0);
    leave_if(t, 5);
}

static void lower_if(struct trans *t, bool set)
{
    struct hmem flags = hmem_vcpu(VCPU_AT(rflags));
    flags_clobber(t);
    if (set)
        leave_if_events(t);
    emit_alu_mem_imm(&t->e, set ? ALU_OR : ALU_AND, 4, &flags, set ? (i32)FLAG_IF : ~(i32)FLAG_IF);
}

/* Pushes what is in bt_cpu.operand. */
static void push_operand(struct trans *t, const struct insn *i)
{
    struct hmem m, operand = hmem_vcpu(BT_AT(operand));
    mem_access_at(t, RSP, -(i64)i->opsize, SEG_SS, i->opsize, ACCESS_WRITE, &m);
    emit_load(&t->e, i->opsize, H_T1, &operand);
    emit_store(&t->e, i->opsize, &m, H_T1);
    move_rsp(t, -(i64)i->opsize);
}

static void lower_pushf(struct trans *t, const struct insn *i)
{
    struct emit *e = &t->e;
    struct hmem flags = hmem_vcpu(VCPU_AT(rflags)), operand = hmem_vcpu(BT_AT(operand));
    flags_image(t);
    emit_load(e, 4, H_T1, &flags);
    emit_alu_imm(e, ALU_AND, 4, H_T1, ~(i32)(FLAGS_ARITH | FLAG_VM | FLAG_RF));
    emit_rorx(e, 4, H_T0, H_FLAGS, 8);
    emit_alu_imm(e, ALU_AND, 4, H_T0, IMAGE_BITS);
    emit_alu_reg(e, ALU_OR, 4, H_T1, H_T0);
    emit_movzx(e, 1, H_T0, H_FLAGS);
    emit_shift_imm(e, SHIFT_SHL, 4, H_T0, 11);
    emit_alu_reg(e, ALU_OR, 4, H_T1, H_T0);
    emit_store(e, 8, &operand, H_T1);
    push_operand(t, i);
}

/* Bits that POPF may change without more ado; of the others the new ones must be as the old. */
#define POPF_EASY (FLAGS_ARITH | FLAG_DF | FLAG_ONE | BIT(3) | BIT(5) | BIT(15))

static void lower_popf(struct trans *t, const struct insn *i)
{
    struct emit *e = &t->e;
    struct hmem m, flags = hmem_vcpu(VCPU_AT(rflags)), events = hmem_vcpu(VCPU_AT(events));
    u32 moved = FLAG_DF | (t->key.bits & KEY_IOPL ? FLAG_IF : 0);
    u32 hard = (i->opsize == 2 ? 0xffff : 0xffffffff) & ~(u32)(POPF_EASY | FLAG_IF);
    mem_access_at(t, RSP, 0, SEG_SS, i->opsize, ACCESS_READ, &m);
    emit_load_zx(e, i->opsize, H_T1, &m);
    emit_mov_reg(e, 4, H_T0, H_T1);
    emit_alu_load(e, ALU_XOR, 4, H_T0, &flags);
    emit_alu_imm(e, ALU_AND, 4, H_T0, (i32)hard);
    leave_if(t, 5);
    if (moved & FLAG_IF) {
        emit_mov_reg(e, 4, H_T0, H_T1);
        emit_alu_imm(e, ALU_AND, 4, H_T0, FLAG_IF);
        u8 *off = emit_jcc(e, 4, NULL);
        emit_alu_mem_imm(e, ALU_CMP, 4, &events, 0);
        leave_if(t, 5);
        emit_patch(off, e->p);
    }
    emit_mov_reg(e, 4, H_T0, H_T1);
    emit_alu_imm(e, ALU_AND, 4, H_T0, (i32)moved);
    emit_alu_mem_imm(e, ALU_AND, 4, &flags, ~(i32)moved);
    struct opcode or = {.size = 4, .code = 0x09};
    emit_op_mem(e, & or, H_T0, &flags);
    emit_movzx(e, 1, H_FLAGS, H_T1);
    emit_shift_imm(e, SHIFT_SHL, 4, H_FLAGS, 8);
    emit_shift_imm(e, SHIFT_SHR, 4, H_T1, 11);
    emit_alu_imm(e, ALU_AND, 4, H_T1, 1);
    emit_alu_reg(e, ALU_OR, 4, H_FLAGS, H_T1);
    move_rsp(t, i->opsize);
    t->form = FORM_IMAGE;
    t->image_valid = true;
    t->has_recipe = false;
}

static struct hmem selector_at(unsigned seg)
{
    return hmem_vcpu(VCPU_AT(seg) + seg * sizeof(struct segment) + offsetof(struct segment, sel));
}

static void lower_push_seg(struct trans *t, const struct insn *i)
{
    struct hmem sel = selector_at(i->opd[0].reg), operand = hmem_vcpu(BT_AT(operand));
    emit_load_zx(&t->e, 2, H_T1, &sel);
    emit_store(&t->e, 8, &operand, H_T1);
    push_operand(t, i);
}

/* T1 to a general register of the guest's. */
static void store_register(struct trans *t, unsigned guest, unsigned size)
{
    struct hmem home = hmem_vcpu(VCPU_AT(gpr) + 8 * guest);
    if (host_reg(guest) == H_NONE)
        emit_store(&t->e, size == 2 ? 2 : 8, &home, H_T1);
    else
        emit_mov_reg(&t->e, size, host_reg(guest), H_T1);
}

static void lower_read_seg(struct trans *t, const struct insn *i)
{
    struct hmem m, sel = selector_at(i->opd[1].reg);
    if (i->opd[0].kind == OPD_GPR) {
        emit_load_zx(&t->e, 2, H_T1, &sel);
        store_register(t, i->opd[0].reg, i->opsize);
        return;
    }
    mem_access(t, 2, ACCESS_WRITE, &m);
    mem_fold(t, &m);
    emit_load_zx(&t->e, 2, H_T1, &sel);
    emit_store(&t->e, 2, &m, H_T1);
}

static void lower_read_cr(struct trans *t, const struct insn *i)
{
    static const size_t at[] = {VCPU_AT(cr0), 0, VCPU_AT(cr2), VCPU_AT(cr3), VCPU_AT(cr4)};
    struct hmem cr = hmem_vcpu(at[i->opd[1].reg]);
    emit_load(&t->e, t->wide ? 8 : 4, H_T1, &cr);
    store_register(t, i->opd[0].reg, t->wide ? 8 : 4);
}

/* The key behind it is always the same, so the exit can be linked like any other. */
static void lower_ac(struct trans *t, bool set)
{
    struct hmem flags = hmem_vcpu(VCPU_AT(rflags)), ctx = hmem_vcpu(VCPU_AT(tlb_ctx));
    flags_clobber(t);
    emit_alu_mem_imm(&t->e, set ? ALU_OR : ALU_AND, 4, &flags, set ? (i32)FLAG_AC : ~(i32)FLAG_AC);
    emit_store_imm(&t->e, 1, &ctx, set ? TLB_KERNEL_AC : TLB_KERNEL);
    emit_exit(t, next_rip(t));
}

static void lower_base(struct trans *t, const struct insn *i)
{
    struct emit *e = &t->e;
    unsigned seg = i->op == OP_RDFSBASE || i->op == OP_WRFSBASE ? SEG_FS : SEG_GS;
    unsigned guest = i->opd[0].reg;
    struct hmem cr4 = hmem_vcpu(VCPU_AT(cr4) + 2), home = hmem_vcpu(VCPU_AT(gpr) + 8 * guest),
                base = hmem_vcpu(VCPU_AT(seg) + seg * sizeof(struct segment) +
                                 offsetof(struct segment, base));
    struct opcode test = {.size = 1, .code = 0xf6};
    flags_clobber(t);
    emit_op_mem(e, &test, 0, &cr4);
    emit8(e, CR4_FSGSBASE >> 16);
    leave_if(t, 4);
    if (i->op == OP_RDFSBASE || i->op == OP_RDGSBASE) {
        emit_load(e, i->opsize, H_T1, &base);
        store_register(t, guest, i->opsize);
        return;
    }
    if (host_reg(guest) == H_NONE)
        emit_load(e, i->opsize, H_T1, &home);
    else
        emit_mov_reg(e, i->opsize, H_T1, host_reg(guest));
    emit_mov_reg(e, 8, H_T0, H_T1);
    emit_shift_imm(e, SHIFT_SHL, 8, H_T0, 16);
    emit_shift_imm(e, SHIFT_SAR, 8, H_T0, 16);
    emit_alu_reg(e, ALU_CMP, 8, H_T0, H_T1);
    leave_if(t, 5);
    emit_store(e, 8, &base, H_T1);
}

static void lower_swapgs(struct trans *t)
{
    struct hmem gs = hmem_vcpu(VCPU_AT(seg[SEG_GS].base)),
                other = hmem_vcpu(VCPU_AT(msr.kernel_gs_base));
    emit_load(&t->e, 8, H_T0, &gs);
    emit_load(&t->e, 8, H_T1, &other);
    emit_store(&t->e, 8, &gs, H_T1);
    emit_store(&t->e, 8, &other, H_T0);
}

/* RDX = host's TSC - what it was at guest time 0. RAX and T0 are lost. */
static void emit_time(struct trans *t)
{
    struct emit *e = &t->e;
    emit8(e, 0x0f); /* rdtsc */
    emit8(e, 0x31);
    emit_shift_imm(e, SHIFT_SHL, 8, RDX, 32);
    emit_alu_reg(e, ALU_OR, 8, RDX, RAX);
    emit_mov_imm(e, H_T0, t->v->machine->time->start_tsc);
    emit_alu_reg(e, ALU_SUB, 8, RDX, H_T0);
}

/* RAX, which translated code needs as a register of its own for a moment. */
static void lend_rax(struct trans *t)
{
    struct hmem image = hmem_vcpu(BT_AT(operand));
    if (t->form == FORM_IMAGE)
        emit_store(&t->e, 8, &image, H_FLAGS);
    else
        image_lost(t);
}

static void return_rax(struct trans *t)
{
    struct hmem image = hmem_vcpu(BT_AT(operand));
    if (t->form == FORM_IMAGE)
        emit_load(&t->e, 8, H_FLAGS, &image);
}

/* EDX:EAX = host's TSC - what it was at guest time 0 + the guest's offset. */
static void lower_rdtsc(struct trans *t, const struct insn *i)
{
    struct emit *e = &t->e;
    struct hmem offset = hmem_vcpu(VCPU_AT(tsc_offset)), aux = hmem_vcpu(VCPU_AT(msr.tsc_aux));
    if (t->bt->m->rdtsc == RDTSC_TRAP) {
        trap_new(t, e->p);
        emit8(e, 0x0f); /* ud2 */
        emit8(e, 0x0b);
        return;
    }
    flags_clobber(t);
    lend_rax(t);
    emit_time(t);
    emit_alu_load(e, ALU_ADD, 8, RDX, &offset);
    emit_mov_reg(e, 4, H_RAX, RDX);
    emit_shift_imm(e, SHIFT_SHR, 8, RDX, 32);
    if (i->op == OP_RDTSCP)
        emit_load(e, 4, RCX, &aux);
    return_rax(t);
}

/* RDX:RAX = RAX * T0 (/4), or RAX = RDX:RAX / T0 (/6). */
static void emit_muldiv(struct emit *e, unsigned digit, u64 t0)
{
    struct opcode o = {.size = 8, .code = 0xf7};
    emit_mov_imm(e, H_T0, t0);
    emit_op_reg(e, &o, digit, H_T0);
}

/* EAX = the counter, by the same steps as in C: timebase_ns() and ns_to_ticks(). */
static void emit_counter(struct trans *t)
{
    struct emit *e = &t->e;
    struct port_counter c = port_counter(t->v->machine->ports);
    struct hmem rdx = hmem_vcpu(BT_AT(scratch));
    struct opcode shrd = {.size = 8, .map = MAP_0F, .code = 0xac};
    lend_rax(t);
    emit_store(e, 8, &rdx, RDX);
    emit_time(t);
    emit_mov_reg(e, 8, RAX, RDX);
    emit_muldiv(e, 4, t->v->machine->time->ns_mult);
    emit_op_reg(e, &shrd, RDX, RAX);
    emit8(e, 32);
    emit_muldiv(e, 4, c.hz);
    emit_muldiv(e, 6, NSEC_PER_SEC);
    emit_alu_imm(e, ALU_AND, 4, RAX, (i32)c.mask);
    emit_mov_reg(e, 4, H_RAX, RAX);
    emit_load(e, 8, RDX, &rdx);
    return_rax(t);
}

/* T0 = what the port shows. */
static void emit_shown(struct trans *t, const struct operand *port, u64 imm)
{
    struct emit *e = &t->e;
    struct hmem shown = hmem_base(H_T1, 0);
    emit_mov_imm(e, H_T1, (uintptr_t)port_shown(t->v->machine->ports));
    if (port->kind == OPD_IMM) {
        shown.disp = (i32)(u8)imm * (i32)sizeof(u16);
    } else {
        emit_movzx(e, 2, H_T0, RDX);
        shown.index = H_T0;
        shown.scale = 1;
    }
    emit_load_zx(e, sizeof(u16), H_T0, &shown);
}

static void lower_in(struct trans *t, const struct insn *i)
{
    struct emit *e = &t->e;
    struct opcode mov = {.size = 1, .code = 0x8a};
    flags_clobber(t);
    emit_shown(t, &i->opd[1], i->imm);
    if (i->opd[0].size == 4) {
        emit_alu_imm(e, ALU_CMP, 4, H_T0, PORT_SHOWS_COUNTER);
        leave_if(t, 5);
        emit_counter(t);
        return;
    }
    emit_alu_imm(e, ALU_SUB, 4, H_T0, PORT_SHOWS_BYTE);
    emit_alu_imm(e, ALU_CMP, 4, H_T0, 0xff);
    leave_if(t, 7);
    emit_op_reg(e, &mov, H_RAX, H_T0);
}

bool lower_system(struct trans *t)
{
    const struct insn *i = cur_insn(t);
    if (!can_system(t, i))
        return false;
    if (is_quick(i)) {
        lower_quick(t, i);
        return true;
    }
    switch (i->op) {
    case OP_CLI:
    case OP_STI:
        lower_if(t, i->op == OP_STI);
        break;
    case OP_PUSHF:
    case OP_PUSHFD:
    case OP_PUSHFQ:
        lower_pushf(t, i);
        break;
    case OP_POPF:
    case OP_POPFD:
    case OP_POPFQ:
        lower_popf(t, i);
        break;
    case OP_PUSH_SEG:
        lower_push_seg(t, i);
        break;
    case OP_MOV_SEG:
        lower_read_seg(t, i);
        break;
    case OP_RDFSBASE:
    case OP_RDGSBASE:
    case OP_WRFSBASE:
    case OP_WRGSBASE:
        lower_base(t, i);
        break;
    case OP_MOV_CR:
        lower_read_cr(t, i);
        break;
    case OP_CLAC:
    case OP_STAC:
        lower_ac(t, i->op == OP_STAC);
        break;
    case OP_SWAPGS:
        lower_swapgs(t);
        break;
    case OP_IN:
        lower_in(t, i);
        break;
    default:
        lower_rdtsc(t, i);
        break;
    }
    return true;
}
