/*
 * Start of both processors, and page tables.
 */
#include "stress.h"

#ifdef __x86_64__
#define EFER_BITS 0x900 /* NXE LME */
#define TABLE     3     /* flags of an entry in the top table */
#else
#define EFER_BITS 0x800
#define TABLE     1
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
