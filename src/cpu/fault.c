/*
 * Raising guest faults: fills vcpu.fault and unwinds to the engine's run loop.
 */
#include "cpu/fault.h"

#include <stdarg.h>
#include <stdio.h>

static _Noreturn void unwind(struct vcpu *v, enum unwind why)
{
    longjmp(v->unwind, why);
}

_Noreturn void fault_raise(struct vcpu *v, enum vector vector)
{
    v->fault = (struct fault){.vector = (u8)vector};
    unwind(v, UNWIND_FAULT);
}

_Noreturn void fault_raise_error(struct vcpu *v, enum vector vector, u32 error)
{
    v->fault = (struct fault){.vector = (u8)vector, .has_error = true, .error = error};
    unwind(v, UNWIND_FAULT);
}

_Noreturn void fault_page(struct vcpu *v, u64 lin, u32 error)
{
    v->fault = (struct fault){.vector = VEC_PF, .has_error = true, .error = error, .cr2 = lin};
    unwind(v, UNWIND_FAULT);
}

_Noreturn void fault_debug(struct vcpu *v, u64 dr6)
{
    v->fault = (struct fault){.vector = VEC_DB, .dr6 = dr6};
    unwind(v, UNWIND_FAULT);
}

_Noreturn void fault_ud(struct vcpu *v)
{
    fault_raise(v, VEC_UD);
}

_Noreturn void fault_gp(struct vcpu *v, u32 error)
{
    fault_raise_error(v, VEC_GP, error);
}

_Noreturn void vcpu_leave(struct vcpu *v, unsigned kind, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(v->exit_text, sizeof(v->exit_text), fmt, ap);
    va_end(ap);
    v->exit_reason = (u8)kind;
    unwind(v, UNWIND_EXIT);
}
