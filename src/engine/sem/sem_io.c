/*
 * Ports: IN, OUT, INS and OUTS with IOPL, the TSS's I/O permission bitmap (SDM vol. 1, 18.5) and
 * I/O breakpoints. INS and OUTS commit each element, as the port may have done something already.
 */
#include "base/timebase.h"
#include "cpu/irq.h"
#include "engine/sem/sem_sys.h"
#include "mem/portbus.h"

#define TSS_IO_MAP_BASE 0x66
#define BREAKPOINT_IO   2 /* DR7.R/W encoding */

/* #GP(0) unless every port of [port, port+size) is allowed. */
static void check_ports(struct vcpu *v, u16 port, unsigned size)
{
    if (v->mode == MODE_REAL || (v->mode != MODE_V86 && v->cpl <= iopl(v)))
        return;
    bool tss32 = (v->tr.attr & SEG_TYPE & 8) != 0;
    if (!tss32 || v->tr.limit < TSS_IO_MAP_BASE + 1)
        fault_gp(v, 0);
    u32 map = (u32)lin_read_system(v, v->tr.base + TSS_IO_MAP_BASE, 2);
    u32 off = map + port / 8;
    if (off + 1 > v->tr.limit) /* two bytes are always read */
        fault_gp(v, 0);
    u64 denied = lin_read_system(v, v->tr.base + off, 2) >> (port % 8);
    if (denied & ((1u << size) - 1))
        fault_gp(v, 0);
}

/* The trap comes after the instruction (SDM vol. 3, 17.2.4). */
static void check_breakpoints(struct vcpu *v, u16 port, unsigned size)
{
    if (v->dr[7] & 0xff)
        v->pending_db |= sem_breakpoints(v, port, size, BREAKPOINT_IO);
}

static void count_device(struct vcpu *v, enum stat_id which, u64 start_tsc)
{
    stat_inc(&v->stats, which);
    if (v->machine->time)
        stat_add(&v->stats, STAT_TIME_DEVICE_NS,
                 timebase_tsc_to_host_ns(v->machine->time, host_tsc() - start_tsc));
}

static u32 counted_in(struct vcpu *v, u16 port, unsigned size)
{
    u64 start = host_tsc();
    u32 value = port_in(v->machine->ports, port, size);
    count_device(v, STAT_IO_READ, start);
    return value;
}

static void counted_out(struct vcpu *v, u16 port, u32 value, unsigned size)
{
    u64 start = host_tsc();
    port_out(v->machine->ports, port, value, size);
    count_device(v, STAT_IO_WRITE, start);
}

static u16 port_operand(const struct vcpu *v, const struct insn *i, unsigned n)
{
    return i->opd[n].kind == OPD_IMM ? (u8)i->imm : (u16)v->gpr[RDX];
}

static void in(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->opd[0].size;
    u16 port = port_operand(v, i, 1);
    check_ports(v, port, size);
    reg_write(v, RAX, size, counted_in(v, port, size));
    check_breakpoints(v, port, size);
}
SEM_SAME(in, in);

static void out(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->opd[1].size;
    u16 port = port_operand(v, i, 0);
    check_ports(v, port, size);
    counted_out(v, port, (u32)reg_read(v, RAX, size), size);
    check_breakpoints(v, port, size);
}
SEM_SAME(out, out);

/* --- INS and OUTS --- */

static unsigned element_size(const struct insn *i)
{
    switch (i->op) {
    case OP_INSB:
    case OP_OUTSB:
        return 1;
    case OP_INSW:
    case OP_OUTSW:
        return 2;
    default:
        return 4;
    }
}

/* Writes a register that holds an offset or a count, at the address size. */
static void set_index(struct vcpu *v, const struct insn *i, unsigned reg, u64 value)
{
    if (i->addrsize == 2)
        reg_write(v, reg, 2, value);
    else
        v->gpr[reg] = value & size_mask(i->addrsize);
}

static void advance(struct vcpu *v, const struct insn *i, unsigned reg, unsigned size)
{
    u64 step = v->rflags & FLAG_DF ? -(u64)size : size;
    set_index(v, i, reg, v->gpr[reg] + step);
}

static void ins_one(struct vcpu *v, const struct insn *i, u16 port, unsigned size)
{
    u64 off = v->gpr[RDI] & size_mask(i->addrsize);
    u64 lin = seg_lin(v, SEG_ES, off, size, ACCESS_WRITE);
    lin_probe(v, lin, size, ACCESS_WRITE);
    lin_write(v, lin, counted_in(v, port, size), size);
    advance(v, i, RDI, size);
}

static void outs_one(struct vcpu *v, const struct insn *i, u16 port, unsigned size)
{
    u64 off = v->gpr[RSI] & size_mask(i->addrsize);
    u64 lin = seg_lin(v, (enum seg_reg)i->seg, off, size, ACCESS_READ);
    counted_out(v, port, (u32)lin_read(v, lin, size), size);
    advance(v, i, RSI, size);
}

typedef void element_fn(struct vcpu *v, const struct insn *i, u16 port, unsigned size);

static void string_io(struct vcpu *v, const struct insn *i, element_fn *one)
{
    unsigned size = element_size(i);
    u16 port = (u16)v->gpr[RDX];
    bool rep = i->prefix & PFX_REP;
    u64 left = rep ? v->gpr[RCX] & size_mask(i->addrsize) : 1;
    u64 budget = v->rflags & FLAG_TF ? 1 : TUNE_REP_CHUNK;
    if (!left)
        return;
    check_ports(v, port, size);
    for (; left && budget; budget--) {
        one(v, i, port, size);
        check_breakpoints(v, port, size);
        left--;
        if (rep)
            set_index(v, i, RCX, left);
        if (vcpu_events(v) || v->pending_db)
            break;
    }
    if (left)
        v->rip = sem_start(v);
}

static void ins(struct vcpu *v, const struct insn *i)
{
    string_io(v, i, ins_one);
}
SEM_SAME(ins, ins);

static void outs(struct vcpu *v, const struct insn *i)
{
    string_io(v, i, outs_one);
}
SEM_SAME(outs, outs);
