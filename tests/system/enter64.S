/*
 * The 64-bit monitor: as enter32.S, for runs in long mode (64-bit and compatibility code).
 */
#include "run.h"

#define MONITOR_CR0 0x21
#define MSR_EFER 0xc0000080

    .text
    .globl enter64
enter64:
    pushf
    pusha
    mov 40(%esp), %ebx
    mov %ebx, current
    mov %esp, monitor_esp
    mov RUN_CR4(%ebx), %eax
    mov %eax, %cr4
    mov RUN_CR3(%ebx), %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    xor %edx, %edx
    mov RUN_EFER(%ebx), %eax
    wrmsr
    lidt idt64_pointer
    mov RUN_CR0(%ebx), %eax
    mov %eax, %cr0
    ljmp $SEL_CODE64, $1f
    .code64
1:  mov %ebx, %ebx
    mov %esp, %esp
    mov $SEL_TSS64, %eax
    ltr %ax
    mov RUN_DS(%rbx), %ds
    mov RUN_ES(%rbx), %es
    mov RUN_FS(%rbx), %fs
    mov RUN_GS(%rbx), %gs
    mov RUN_SS(%rbx), %eax
    push %rax
    pushq RUN_RSP(%rbx)
    pushq RUN_FLAGS(%rbx)
    mov RUN_CS(%rbx), %eax
    push %rax
    pushq RUN_RIP(%rbx)
    mov RUN_GPR(%rbx), %rax
    mov RUN_GPR+8(%rbx), %rcx
    mov RUN_GPR+16(%rbx), %rdx
    mov RUN_GPR+40(%rbx), %rbp
    mov RUN_GPR+48(%rbx), %rsi
    mov RUN_GPR+56(%rbx), %rdi
    mov RUN_GPR+64(%rbx), %r8
    mov RUN_GPR+72(%rbx), %r9
    mov RUN_GPR+80(%rbx), %r10
    mov RUN_GPR+88(%rbx), %r11
    mov RUN_GPR+96(%rbx), %r12
    mov RUN_GPR+104(%rbx), %r13
    mov RUN_GPR+112(%rbx), %r14
    mov RUN_GPR+120(%rbx), %r15
    mov RUN_GPR+24(%rbx), %rbx
    iretq

    .align 16
    .globl stub64_0
stub64_0:
    vector = 0
    .rept 256
    .align 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    pushq $-1
    .endif
    pushq $vector
    jmp common64
    vector = vector + 1
    .endr

    .macro save64 offset, field
    mov \offset(%rsp), %rax
    mov %rax, \field(%rbx)
    .endm

/* Stack: rbx, flags, vector, error, rip, cs, flags, rsp, ss. */
common64:
    pushfq
    push %rbx
    mov $current, %ebx
    mov (%rbx), %ebx
    mov %rax, RUN_GPR(%rbx)
    mov %rcx, RUN_GPR+8(%rbx)
    mov %rdx, RUN_GPR+16(%rbx)
    save64 0, RUN_GPR+24
    mov %rbp, RUN_GPR+40(%rbx)
    mov %rsi, RUN_GPR+48(%rbx)
    mov %rdi, RUN_GPR+56(%rbx)
    mov %r8, RUN_GPR+64(%rbx)
    mov %r9, RUN_GPR+72(%rbx)
    mov %r10, RUN_GPR+80(%rbx)
    mov %r11, RUN_GPR+88(%rbx)
    mov %r12, RUN_GPR+96(%rbx)
    mov %r13, RUN_GPR+104(%rbx)
    mov %r14, RUN_GPR+112(%rbx)
    mov %r15, RUN_GPR+120(%rbx)
    save64 8, RUN_HFLAGS
    save64 32, RUN_RIP
    save64 48, RUN_FLAGS
    save64 56, RUN_RSP
    mov 16(%rsp), %eax
    mov %eax, RUN_VEC(%rbx)
    mov 24(%rsp), %eax
    mov %eax, RUN_ERR(%rbx)
    mov 40(%rsp), %eax
    mov %eax, RUN_CS(%rbx)
    mov 64(%rsp), %eax
    mov %eax, RUN_SS(%rbx)
    mov %ds, %eax
    mov %eax, RUN_DS(%rbx)
    mov %es, %eax
    mov %eax, RUN_ES(%rbx)
    mov %fs, %eax
    mov %eax, RUN_FS(%rbx)
    mov %gs, %eax
    mov %eax, RUN_GS(%rbx)
    mov %ss, %eax
    mov %eax, RUN_HSS(%rbx)
    mov %cs, %eax
    mov %eax, RUN_HCS(%rbx)
    lea 32(%rsp), %rax
    mov %rax, RUN_HSP(%rbx)
    mov %cr2, %rax
    mov %rax, RUN_CR2(%rbx)
    xor %eax, %eax
    mov %rax, %dr7
    mov %cr4, %rax
    btr $17, %eax /* paging can't end with PCIDE set */
    mov %rax, %cr4
    mov $monitor_esp, %eax
    mov (%rax), %esp
    pushq $SEL_CODE
    mov $1f, %eax
    push %rax
    lretq
    .code32
1:  mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $MONITOR_CR0, %eax
    mov %eax, %cr0
    mov $MSR_EFER, %ecx
    xor %eax, %eax
    xor %edx, %edx
    wrmsr
    mov %eax, %cr4
    lidt idt_pointer
    andb $~2, gdt + SEL_TSS + 5
    andb $~2, gdt + SEL_TSS64 + 5
    mov $SEL_TSS, %eax
    ltr %ax
    popa
    popf
    ret
