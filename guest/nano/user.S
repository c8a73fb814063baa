/*
 * Code that runs as the user. ESI and EDI are its arguments, EAX its result.
 */
#include "nano.h"

    .macro user name
    .globl \name
    .align 16
\name:
    .endm

    .section .user, "awx", @progbits
#ifdef __x86_64__
    .code64
#else
    .code32
#endif

user user_empty
1:  dec %esi
    jnz 1b
    .globl user_exit
user_exit:
    int $VECTOR_EXIT

user user_int80
1:  int $VECTOR_SYSCALL
    dec %esi
    jnz 1b
    jmp user_exit

user user_sysenter
1:  mov $2f, %edx
    mov R(sp), R(cx)
    sysenter
2:  dec %esi
    jnz 1b
    jmp user_exit

user user_syscall
1:  syscall
    dec %esi
    jnz 1b
    jmp user_exit

user user_pgfault
1:  mov (R(di)), %eax /* 2 bytes: fast_skip2 */
    dec %esi
    jnz 1b
    jmp user_exit

user user_divzero
    xor %ecx, %ecx
1:  div %ecx /* 2 bytes */
    dec %esi
    jnz 1b
    jmp user_exit

/* Stores to ESI pages from EDI on. */
user user_touch
1:  movl $0x5a5a5a5a, 8(R(di))
    add $PAGE, R(di)
    dec %esi
    jnz 1b
    jmp user_exit

/* --- obstacles --- */

/* POPF of the flags ^ ESI; EAX = the flags after it. */
user user_popf
    pushf
    pop R(ax)
    xor %esi, %eax
    push R(ax)
    popf
    pushf
    pop R(ax)
    jmp user_exit

user user_tables
    sgdt user_result
    sidt user_result + 16
    str %eax
    mov %eax, user_result + 32
    sldt %eax
    mov %eax, user_result + 36
    smsw %eax
    mov %eax, user_result + 40
    jmp user_exit

user user_cs
    mov %cs, %eax
    jmp user_exit

#ifndef __x86_64__
user user_push_cs
    push %cs
    pop %eax
    jmp user_exit

user user_far_call
    lcall $USER_CS, $1f
1:  pop %edx
    pop %eax
    jmp user_exit
#endif

/* On selector ESI: EAX bits 0 to 3 say whether LAR, LSL, VERR, VERW set ZF. */
user user_look
    xor %eax, %eax
    xor %ecx, %ecx
    lar %esi, %ecx
    sete %al
    mov %ecx, user_result
    xor %ecx, %ecx
    lsl %esi, %ecx
    sete %dl
    mov %ecx, user_result + 4
    movzbl %dl, %edx
    lea (%eax, %edx, 2), %eax
    verr %si
    sete %dl
    lea (%eax, %edx, 4), %eax
    verw %si
    sete %dl
    lea (%eax, %edx, 8), %eax
    jmp user_exit

/* Traps after single steps, from the instruction behind POPF on. */
    .globl user_step, user_step_1, user_step_2, user_step_3
    .align 16
user_step:
    pushf
    pop R(ax)
    or $FLAG_TF, %eax
    push R(ax)
    popf
    inc %ecx
user_step_1:
    inc %ecx
user_step_2:
    jmp user_step_3
    nop
user_step_3:
    xor %eax, %eax
    jmp user_exit

/* --- what the user may not do, each with its name, see check_safety.c --- */

    .globl forbidden, forbidden_end
    .align 16
    .macro may_not code:vararg
    .align 16
    \code
    jmp user_exit
    .endm
forbidden:
    may_not hlt
    may_not cli
    may_not sti
    may_not clts
    may_not invd
    may_not wbinvd
    may_not invlpg user_result
    may_not lgdt user_result
    may_not lidt user_result
    may_not lldt %ax
    may_not ltr %ax
    may_not lmsw %ax
    may_not mov %cr0, R(ax)
    may_not mov R(ax), %cr0
    may_not mov R(ax), %cr3
    may_not mov R(ax), %cr4
    may_not mov %dr7, R(ax)
    may_not mov R(ax), %dr7
    may_not rdmsr
    may_not wrmsr
    may_not in $0x80, %al
    may_not out %al, $0x80
    may_not in %dx, %eax
    may_not int $0x20
    may_not mov %esi, %ss /* a kernel's selector */
    .align 16
forbidden_end:

/* --- faults whose place is known --- */

    .globl user_load, user_store, user_jump, user_push, user_push_at
    .align 16
user_load:
    mov (R(di)), %eax
    jmp user_exit
user_store:
    mov %eax, (R(di))
    jmp user_exit
user_jump:
    jmp *R(di)
user_push:
    mov R(sp), R(bx)
    mov R(di), R(sp)
user_push_at:
    push R(ax)
    mov R(bx), R(sp)
    jmp user_exit

/* INT with the stack pointer anywhere. */
user user_lost_stack
    mov R(di), R(sp)
    jmp user_exit

#ifdef __x86_64__
/* To addresses that are none. */
    .globl user_jump_far, user_load_far, user_push_far, user_push_far_at
user_jump_far:
    mov $0x0123456789abcdef, %rax
    jmp *%rax
user_load_far:
    mov $0x8000000000000000, %rax
    mov (%rax), %eax
    jmp user_exit
user_push_far:
    mov $0x4000000000000000, %rsp
user_push_far_at:
    push %rax
    jmp user_exit
#endif

    .align 16
    .globl user_result
user_result:
    .space 64

/* --- kernel code whose places are known --- */

    .text
    .globl load_at, store_at, div_at, ud_at, int3_at, movs_at, add_at, shadow, shadow_end
    .align 16
load_at:
    mov (R(cx)), %eax
    ret
store_at:
    mov %edx, (R(cx))
    ret
div_at:
    div %ecx
    ret
ud_at:
    ud2
    ret
int3_at:
    int3
    ret
add_at:
    mov $0x1234, %eax
    stc
    .globl add_at_insn
add_at_insn:
    adc %eax, (R(cx))
    ret
/* ECX bytes from the window's first page, ending in its third, to EDX. */
movs_at:
    mov $WINDOW_ADDR, %esi
    mov %edx, %edi
    .globl movs_at_insn
movs_at_insn:
    rep movsb
    ret

/* STI lets one more instruction pass. */
shadow:
    xor %eax, %eax
    sti
    inc %eax
shadow_end:
    inc %eax
    cli
    ret

/* A function whose next instruction is written by the one before it: EAX = the low byte of ECX. */
    .section .wcode, "awx", @progbits
    .globl next_insn, constant_insn
    .align 16
next_insn:
    mov %cl, 1f + 1
1:  mov $0, %eax
    ret
/* mov $imm32, %eax; ret */
    .align 16
constant_insn:
    mov $0, %eax
    ret

/* Many functions, MANY_STEP bytes apart. */
    .text
    .globl many
    .align 16
many:
    .rept 64
    .align 16
    ret
    .endr
