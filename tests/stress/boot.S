/*
 * Start of both processors, page tables, event stubs, and calls whose faults are caught.
 */
#include "stress.h"

#ifdef __x86_64__
#define EFER_BITS 0x900 /* NXE LME */
#define TABLE     3     /* flags of an entry in the top table */
#define WORD      8
#define R(n)      %r##n
#else
#define EFER_BITS 0x800
#define TABLE     1
#define WORD      4
#define R(n)      %e##n
#endif
#define CR4_BITS 0x6a0      /* PAE PGE OSFXSR OSXMMEXCPT */
#define CR0_BITS 0x80010023 /* PG WP NE MP PE */

    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 3, -(0x1badb002 + 3)

    .text
    .code32
    .globl entry
entry:
    cli
    mov $bsp_stack_end, %esp
    jmp start
ap_entry: /* with the segment limits of real mode */
    mov $SEL_DATA, %eax
    mov %eax, %ds
    mov $ap_stack_end, %esp
start:
    lgdt gdt_pointer
    ljmp $SEL_CODE32, $1f
1:  mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    mov $CR4_BITS, %eax
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    xor %edx, %edx
    mov $EFER_BITS, %eax
    wrmsr
    mov $root, %eax
    mov %eax, %cr3
    mov $CR0_BITS, %eax
    mov %eax, %cr0
#ifdef __x86_64__
    ljmp $SEL_CODE64, $1f
    .code64
1:  mov %esp, %esp
#endif
    push $2
    popf
    call cpu_main
1:  hlt
    jmp 1b

/* Copied to AP_CODE_ADDR. */
    .globl ap_code, ap_code_end
    .align 16
    .code16
ap_code:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl AP_CODE_ADDR + ap_gdt_pointer - ap_code
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $SEL_CODE32, $ap_entry
ap_gdt_pointer:
    .short 4 * 8 - 1
    .long gdt
ap_code_end:

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

    .align 16
    .globl stubs
stubs:
    vector = 0
    .rept 256
    .align 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    push $0
    .endif
    push $vector
    jmp common
    vector = vector + 1
    .endr
common:
    push_all
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

/* u32 catch_call(const void *code, u32 c, u32 d, ulong *sp) */
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

    .data
    .align 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdt_pointer:
    .short 4 * 8 - 1
    .long gdt

/* --- page tables, under two roots that differ in the window --- */
    .macro entry_of table, flags
    .long \table + \flags, 0
    .endm
    .macro directories window
    entry_of pd_low, TABLE
    entry_of \window, TABLE
    .quad 0
    entry_of pd_apic, TABLE
    .endm

    .align 4096
    .globl root, root_b, pd_window, window_pt, window_pt_b
#ifdef __x86_64__
root:
    entry_of pdpt, 3
    .space 4096 - 8
root_b:
    entry_of pdpt_b, 3
    .space 4096 - 8
pdpt:
    directories pd_window
    .space 4096 - 32
pdpt_b:
    directories pd_window_b
    .space 4096 - 32
#else
root:
    directories pd_window
root_b:
    directories pd_window_b
    .align 4096
#endif
pd_low:
    address = 0
    .rept 16
    .quad address + 0x83
    address = address + 0x200000
    .endr
    .space 4096 - 16 * 8
pd_apic:
    .space 503 * 8
    .quad 0xfee00000 + 0x93
    .space 8 * 8
pd_window:
    entry_of window_pt, 3
    .space 4096 - 8
pd_window_b:
    entry_of window_pt_b, 3
    .space 4096 - 8

    .bss
    .align 4096
window_pt:
    .space 4096
window_pt_b:
    .space 4096
    .space 16384
bsp_stack_end:
    .space 16384
ap_stack_end:
