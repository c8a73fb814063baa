/*
 * HLT, cache control, hypercalls, and the opcodes that are there to be undefined.
 */
#include "engine/sem/sem_sys.h"

#define KVM_ENOSYS 1000
#define KVM_EPERM  1

static void ud(struct vcpu *v, const struct insn *i)
{
    (void)i;
    fault_ud(v);
}
SEM_SAME(ud, ud);

static void hlt(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_cpl0(v);
    v->activity = ACTIVITY_HALTED;
}
SEM_SAME(hlt, hlt);

/* Caches are coherent and never hold what memory does not. */
static void wbinvd(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_cpl0(v);
}
SEM_SAME(wbinvd, wbinvd);

/* Like a load of one byte, without the load. */
static void flush_line(struct vcpu *v, const struct insn *i)
{
    lin_probe(v, mem_lin(v, i, 1, ACCESS_READ), 1, ACCESS_READ);
}
SEM_SAME(clflush, flush_line);
SEM_SAME(clflushopt, flush_line);
SEM_SAME(clwb, flush_line);

/* With KVM's signature in CPUID, guests may make hypercalls; none is implemented. Either vendor's
 * instruction is taken, as KVM does. */
static void hypercall(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (!v->machine->model->kvmclock)
        fault_ud(v);
    i64 result = v->cpl == 0 ? -KVM_ENOSYS : -KVM_EPERM;
    reg_write(v, RAX, v->mode == MODE_LONG64 ? 8 : 4, (u64)result);
}
SEM_SAME(vmcall, hypercall);
SEM_SAME(vmmcall, hypercall);
