/*
 * Event stubs: they save the registers and call trap(), which lets the interrupted code go on or
 * ends a catch_call().
 */
#include "guest.h"

#ifdef __x86_64__
    .code64
    .macro push_all
    .irp r, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    push %\r
    .endr
    .endm
    .macro pop_all
    .irp r, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
    pop %\r
    .endr
    .endm
#else
    .code32
    .macro push_all
    .irp r, eax, ecx, edx, ebx, ebp, esi, edi
    push %\r
    .endr
    .endm
    .macro pop_all
    .irp r, edi, esi, ebp, ebx, edx, ecx, eax
    pop %\r
    .endr
    .endm
#endif

    .text
    .align STUB_BYTES
    .globl stubs
stubs:
    vector = 0
    .rept 256
    .align STUB_BYTES
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    push $0
    .endif
    push $vector
    jmp common
    vector = vector + 1
    .endr
common:
    push_all
    cld
#ifdef __x86_64__
    mov %rsp, %rdi
    call trap
#else
    push %esp
    call trap
    add $4, %esp
#endif
    test R(ax), R(ax)
    jnz 1f
    pop_all
    add $2 * WORD, R(sp)
#ifdef __x86_64__
    iretq
#else
    iret
#endif
1:  mov R(ax), R(sp) /* of a caught call */
    jmp caught

    .globl catch_call
catch_call:
#ifdef __x86_64__
    pushf
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rcx)
    mov %esi, %ecx
    call *%rdi
caught:
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    popf
    ret
#else
    pushf
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov 36(%esp), %eax
    mov %esp, (%eax)
    mov 28(%esp), %ecx
    mov 32(%esp), %edx
    call *24(%esp)
caught:
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    popf
    ret
#endif
