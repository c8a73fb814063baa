/*
 * The way from Multiboot's state to C, the way to user mode, and handlers that do the least that
 * brings the user back.
 */
#include "nano.h"

#define CR0_BITS 0x10023 /* WP NE MP PE */

    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 3, -(0x1badb002 + 3)

    .text
    .code32
    .globl entry
entry:
    cli
    cld
    mov $stack_end, %esp
    lgdt boot_gdt_pointer
    ljmp $SEL_BOOT, $1f
1:  mov $SEL_KDATA, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %ss
    mov $0, %ecx
    mov %ecx, %fs
    mov %ecx, %gs
    mov $CR0_BITS, %ecx
    mov %ecx, %cr0
#ifdef __x86_64__
    /* Long mode, with tables for as long as it takes to make others. */
    mov $0x620, %ecx /* PAE OSFXSR OSXMMEXCPT */
    mov %ecx, %cr4
    mov $boot_pml4, %ecx
    mov %ecx, %cr3
    mov %eax, %edi
    mov $0xc0000080, %ecx
    mov $0x101, %eax /* LME SCE */
    xor %edx, %edx
    wrmsr
    mov %cr0, %ecx
    or $0x80000000, %ecx
    mov %ecx, %cr0
    ljmp $SEL_KCODE, $1f
    .code64
1:  mov %esp, %esp
    mov %ebx, %esi
    call kernel_main
#else
    push %ebx
    push %eax
    call kernel_main
#endif
1:  hlt
    jmp 1b

/* Called by catch_call() with the user's EIP in ECX. */
    .globl go_user
go_user:
    mov $USER_DS, %eax
    mov %eax, %ds
    mov %eax, %es
    mov user_esi, %esi
    mov user_edi, %edi
    push $USER_DS
#ifdef __x86_64__
    mov $user_stack_end, %eax
    push %rax
    mov user_flags, %eax
    push %rax
    push $USER_CS
    push %rcx
    iretq
#else
    push $user_stack_end
    push user_flags
    push $USER_CS
    push %ecx
    iret
#endif

    .globl fast_iret, fast_skip2, fast_skip2_error, fast_sysenter, fast_syscall
    .align 16
#ifdef __x86_64__
fast_skip2_error: /* behind a faulting instruction of two bytes */
    add $8, %rsp
fast_skip2:
    addq $2, (%rsp)
fast_iret:
    iretq
fast_sysenter:
    rex.w sysexit
fast_syscall:
    sysretq
#else
fast_skip2_error:
    add $4, %esp
fast_skip2:
    addl $2, (%esp)
fast_iret:
    iret
fast_sysenter:
    sysexit
fast_syscall:
    sysret
#endif

    .data
    .align 8
    .globl gdt, user_flags, user_esi, user_edi
gdt:
    .quad 0
#ifdef __x86_64__
    .quad 0x00af9b000000ffff
#else
    .quad 0x00cf9b000000ffff
#endif
    .quad 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
    .quad 0x00cff3000000ffff, 0x00cf9b000000ffff, 0, 0, 0, 0, 0, 0
boot_gdt_pointer:
    .short GDT_SLOTS * 8 - 1
    .long gdt
user_flags: .long 0
user_esi:   .long 0
user_edi:   .long 0

#ifdef __x86_64__
    .align 4096
boot_pml4:
    .quad boot_pdpt + 3
    .space 4096 - 8
boot_pdpt:
    .quad boot_pd + 3
    .space 4096 - 8
boot_pd:
    .quad 0x000083, 0x200083
    .space 4096 - 16
#endif

    .bss
    .align 16
    .space 16384
stack_end:
    .space 8192
    .globl kernel_stack_end
kernel_stack_end:

    .section .user, "awx", @progbits
    .align 16
    .space 4096
    .globl user_stack_end
user_stack_end:
