/*
 * Start of the image, and the 32-bit monitor: enter32 loads a context by IRET, the interrupt stubs
 * save what the event found and return from enter32.
 */
#include "run.h"

#define MONITOR_CR0 0x21 /* PE NE */

    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 3, -(0x1badb002 + 3)

    .text
    .globl entry
entry:
    cli
    mov $stack_end, %esp
    pushl $0
    popf
    mov $MONITOR_CR0, %eax
    mov %eax, %cr0
    push %ebx /* the Multiboot information */
    call main
1:  hlt
    jmp 1b

    .macro load_data_segments
    mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    .endm

/* void enter32(struct run *) */
    .globl enter32, current, monitor_esp
enter32:
    pushf
    pusha
    mov 40(%esp), %ebx
    mov %ebx, current
    mov %esp, monitor_esp
    mov RUN_CR4(%ebx), %eax
    mov %eax, %cr4
    mov RUN_CR3(%ebx), %eax
    mov %eax, %cr3
    mov RUN_CR0(%ebx), %eax
    mov %eax, %cr0
    jmp 1f
1:  testl $0x20000, RUN_FLAGS(%ebx) /* VM */
    jnz 3f
    testb $3, RUN_CS(%ebx)
    jnz 2f
    mov RUN_RSP(%ebx), %ecx
    mov RUN_SS(%ebx), %eax
    mov %eax, %ss
    mov %ecx, %esp
    jmp 4f
2:  pushl RUN_SS(%ebx)
    pushl RUN_RSP(%ebx)
    jmp 4f
3:  pushl RUN_GS(%ebx)
    pushl RUN_FS(%ebx)
    pushl RUN_DS(%ebx)
    pushl RUN_ES(%ebx)
    pushl RUN_SS(%ebx)
    pushl RUN_RSP(%ebx)
    pushl RUN_FLAGS(%ebx)
    pushl RUN_CS(%ebx)
    pushl RUN_RIP(%ebx)
    pushl RUN_GPR(%ebx)
    pushl $SEL_DATA
    jmp 5f
4:  pushl RUN_FLAGS(%ebx)
    pushl RUN_CS(%ebx)
    pushl RUN_RIP(%ebx)
    mov RUN_ES(%ebx), %es
    mov RUN_FS(%ebx), %fs
    mov RUN_GS(%ebx), %gs
    pushl RUN_GPR(%ebx)
    pushl RUN_DS(%ebx)
5:  mov RUN_GPR+8(%ebx), %ecx
    mov RUN_GPR+16(%ebx), %edx
    mov RUN_GPR+40(%ebx), %ebp
    mov RUN_GPR+48(%ebx), %esi
    mov RUN_GPR+56(%ebx), %edi
    mov RUN_GPR+24(%ebx), %ebx
    pop %ds
    pop %eax
    iret

    .align 16
    .globl stub32_0
stub32_0:
    vector = 0
    .rept 256
    .align 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    pushl $-1
    .endif
    pushl $vector
    jmp common32
    vector = vector + 1
    .endr

/* Stack from here on: gs fs es ds, edi to eax, flags, vector, error, eip, cs, flags, esp, ss and,
 * from V86, es ds fs gs. SS may have any base. */
#define S_GPR 16
#define S_HFLAGS 48
#define S_VEC 52
#define S_ERR 56
#define S_EIP 60
#define S_CS 64
#define S_FLAGS 68
#define S_ESP 72
#define S_SS 76
#define S_V86 80

    .macro save offset, field
    mov \offset(%esp), %eax
    mov %eax, \field(%ebx)
    .endm

common32:
    pushf
    pusha
    push %ds
    push %es
    push %fs
    push %gs
    mov $SEL_DATA, %eax
    mov %eax, %ds
    mov current, %ebx
    save S_GPR+28, RUN_GPR
    save S_GPR+24, RUN_GPR+8
    save S_GPR+20, RUN_GPR+16
    save S_GPR+16, RUN_GPR+24
    save S_GPR+8, RUN_GPR+40
    save S_GPR+4, RUN_GPR+48
    save S_GPR, RUN_GPR+56
    save S_HFLAGS, RUN_HFLAGS
    save S_VEC, RUN_VEC
    save S_ERR, RUN_ERR
    save S_EIP, RUN_RIP
    save S_CS, RUN_CS
    save S_FLAGS, RUN_FLAGS
    save 0, RUN_GS
    save 4, RUN_FS
    save 8, RUN_ES
    save 12, RUN_DS
    lea S_EIP(%esp), %eax
    mov %eax, RUN_HSP(%ebx)
    mov %ss, %eax
    mov %eax, RUN_HSS(%ebx)
    mov %cs, %eax
    mov %eax, RUN_HCS(%ebx)
    mov %cr2, %eax
    mov %eax, RUN_CR2(%ebx)
    testl $0x20000, S_FLAGS(%esp)
    jnz 1f
    mov %cs, %eax
    xor S_CS(%esp), %eax
    test $3, %al
    jnz 2f
    lea S_ESP(%esp), %eax
    mov %eax, RUN_RSP(%ebx)
    mov %ss, %eax
    mov %eax, RUN_SS(%ebx)
    jmp leave32
1:  save S_V86, RUN_ES
    save S_V86+4, RUN_DS
    save S_V86+8, RUN_FS
    save S_V86+12, RUN_GS
2:  save S_ESP, RUN_RSP
    save S_SS, RUN_SS
leave32:
    mov $MONITOR_CR0, %eax
    mov %eax, %cr0
    ljmp $SEL_CODE, $1f
1:  xor %eax, %eax
    mov %eax, %cr4
    mov %eax, %dr7
    load_data_segments
    mov monitor_esp, %esp
    popa
    popf
    ret

/* void enter_real(void): runs the context at LOW_RUN in real mode. The code between low_start and
 * low_end has been copied to LOW_CODE. */
#define LOW_CODE 0x7000
#define LOW_RUN 0x6000
#define LOW(label) (LOW_CODE + (label) - low_start)
    .globl enter_real, low_start, low_end, low_stubs
enter_real:
    pushf
    pusha
    mov %esp, monitor_esp
    lidt real_idt
    mov $SEL_DATA16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    ljmp $SEL_CODE16, $LOW(low_start)
real_done:
    load_data_segments
    lidt idt_pointer
    mov monitor_esp, %esp
    popa
    popf
    ret

    .align 16
    .code16
low_start:
    mov $MONITOR_CR0 & ~1, %eax
    mov %eax, %cr0
    ljmp $0, $LOW(1f)
1:  xor %ax, %ax
    mov %ax, %ds
    mov LOW_RUN+RUN_SS, %ss
    movl LOW_RUN+RUN_RSP, %esp
    pushw LOW_RUN+RUN_FLAGS
    pushw LOW_RUN+RUN_CS
    pushw LOW_RUN+RUN_RIP
    mov LOW_RUN+RUN_ES, %es
    mov LOW_RUN+RUN_FS, %fs
    mov LOW_RUN+RUN_GS, %gs
    movl LOW_RUN+RUN_GPR, %eax
    movl LOW_RUN+RUN_GPR+8, %ecx
    movl LOW_RUN+RUN_GPR+16, %edx
    movl LOW_RUN+RUN_GPR+24, %ebx
    movl LOW_RUN+RUN_GPR+40, %ebp
    movl LOW_RUN+RUN_GPR+48, %esi
    movl LOW_RUN+RUN_GPR+56, %edi
    mov LOW_RUN+RUN_DS, %ds
    iretw
    .align 16
low_stubs:
    vector = 0
    .rept 32
    .align 8
    pushw $vector
    jmp low_common
    vector = vector + 1
    .endr
low_common:
    pushw %ds
    pushl %eax
    xor %ax, %ax
    mov %ax, %ds
    popl LOW_RUN+RUN_GPR
    popw LOW_RUN+RUN_DS
    popw LOW_RUN+RUN_VEC
    popw LOW_RUN+RUN_RIP
    popw LOW_RUN+RUN_CS
    popw LOW_RUN+RUN_FLAGS
    movl %esp, LOW_RUN+RUN_RSP
    mov %ss, LOW_RUN+RUN_SS
    mov %es, LOW_RUN+RUN_ES
    mov %fs, LOW_RUN+RUN_FS
    mov %gs, LOW_RUN+RUN_GS
    movl %ecx, LOW_RUN+RUN_GPR+8
    movl %edx, LOW_RUN+RUN_GPR+16
    movl %ebx, LOW_RUN+RUN_GPR+24
    movl %ebp, LOW_RUN+RUN_GPR+40
    movl %esi, LOW_RUN+RUN_GPR+48
    movl %edi, LOW_RUN+RUN_GPR+56
    mov $MONITOR_CR0, %eax
    mov %eax, %cr0
    ljmpl $SEL_CODE, $real_done
low_end:
    .code32

    .data
    .align 4
    .globl gdt_pointer, idt_pointer, idt64_pointer
    .short 0
gdt_pointer: .short GDT_SLOTS * 8 - 1
    .long gdt
    .short 0
idt_pointer: .short 256 * 8 - 1
    .long idt
    .short 0
idt64_pointer: .short 256 * 16 - 1
    .long idt64
    .short 0
real_idt: .short 0x3ff
    .long 0
current: .long 0
monitor_esp: .long 0

    .bss
    .align 16
    .space 16384
stack_end:
