/*
 * The boot sector: loads the rest of the program from the sectors behind it, to 0x8000, sector by sector, and
 * starts it. What the test writes into the image, at `params`, says what the program is to do and how the disk is laid out.
 * Behind that, in the second part, what C can't say: calls of the BIOS, and a segment limit of 4 GiB in real mode.
 */
        .code16gcc
        .section .boot, "ax"
        .globl _start, params
_start: ljmpw   $0, $1f
1:      xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x7c00, %esp
        cld
        movb    %dl, params + 3
        movw    $0x8000, %bx
        movw    $2, %cx                 /* cylinder 0, sector 2 */
        xorb    %dh, %dh
next:   movw    $0x0201, %ax
        int     $0x13
        jc      broken
        addw    $512, %bx
        cmpw    $program_end, %bx
        jae     loaded
        incb    %cl
        cmpb    params + 1, %cl
        jbe     next
        movb    $1, %cl
        xorb    $1, %dh
        jnz     next
        incb    %ch
        jmp     next
loaded: movzbl  params, %eax
        ljmpw   $0, $enter
broken: movb    $99, %al
        outb    %al, $0xf4
        hlt

        .org    0x1f0
params: .byte   0, 18, 80, 0            /* what to do, sectors of a track, cylinders; the drive */
        .org    0x1fe
        .word   0xaa55

        .section .enter, "ax"
enter:  pushl   %eax
        calll   program
        cli
        hlt

/* void bios(unsigned number, struct registers *r) */
        .text
        .globl  bios, unreal
bios:   pushl   %ebp
        pushl   %ebx
        pushl   %esi
        pushl   %edi
        movl    20(%esp), %eax
        movb    %al, number
        movl    24(%esp), %ebp
        movl    0(%ebp), %eax
        movl    4(%ebp), %ebx
        movl    8(%ebp), %ecx
        movl    12(%ebp), %edx
        movl    16(%ebp), %esi
        movl    20(%ebp), %edi
        movw    24(%ebp), %es
        .byte   0xcd
number: .byte   0
        pushfl
        movl    %eax, 0(%ebp)
        movl    %ebx, 4(%ebp)
        movl    %ecx, 8(%ebp)
        movl    %edx, 12(%ebp)
        movw    %es, 24(%ebp)
        popl    28(%ebp)
        xorw    %ax, %ax
        movw    %ax, %es
        cld
        popl    %edi
        popl    %esi
        popl    %ebx
        popl    %ebp
        retl

/* void unreal(void): DS gets a limit of 4 GiB, the interrupt flag is off. */
unreal: cli
        lgdtl   gdt_register
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        movw    $8, %cx
        movw    %cx, %ds
        andb    $0xfe, %al
        movl    %eax, %cr0
        xorw    %ax, %ax
        movw    %ax, %ds
        retl

        .balign 8
gdt:    .quad   0, 0x00cf92000000ffff
gdt_register:
        .word   15
        .long   gdt
