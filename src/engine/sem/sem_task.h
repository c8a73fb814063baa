/*
 * Task switching (SDM vol. 3, ch. 8), used by far JMP and CALL, IRET with NT, and task gates.
 */
#ifndef RINGER_ENGINE_SEM_SEM_TASK_H
#define RINGER_ENGINE_SEM_SEM_TASK_H

#include "cpu/state.h"

enum task_switch_source {
    TASK_JMP,
    TASK_CALL,
    TASK_IRET,
    TASK_GATE, /* interrupt or exception through a task gate in the IDT; nests like TASK_CALL */
};

/* Switches to the task whose TSS tss_selector names, after checking that it is in the GDT, an
 * available TSS (for TASK_IRET: a busy one), and present: else #GP(sel) (TASK_IRET: #TS(sel)),
 * #NP(sel). return_rip is saved as the old task's EIP. has_error: the event has an error code,
 * which is pushed on the new task's stack. Raises #TS, #NP, #GP, #SS and #PF; those before the
 * commit point leave the old task as it was. */
void sem_task_switch(struct vcpu *v, u16 tss_selector, enum task_switch_source source,
                     bool has_error, u32 error, u64 return_rip);

#endif
