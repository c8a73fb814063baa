/*
 * A ROM of 64 KiB that starts at the reset vector. It goes through what the shadow RAM register can show at 0xf0000,
 * reading, writing and calling a function that is another one in the RAM than in the ROM, and ends the machine by
 * the debug-exit port: 0x2a if all was right, else the number of the step.
 */
    .code16

    /* 82441FX, PAM0: bit 4 reads from RAM, bit 5 writes to RAM */
    .macro pam value
    mov $0x80000058, %eax
    mov $0xcf8, %dx
    out %eax, %dx
    mov $0xcfd, %dx
    mov $\value, %al
    out %al, %dx
    .endm
    .macro expect step, want
    mov $\step, %bl
    cmpl $\want, mark
    jne wrong
    .endm
    .macro calls step, want
    mov $\step, %bl
    call function
    cmp $\want, %ax
    jne wrong
    .endm

    .org 0
start:
    mov $0xf000, %ax
    mov %ax, %ds
    mov %ax, %es
    xor %ax, %ax
    mov %ax, %ss
    mov $0x7000, %sp
    expect 1, 0x600dc0de
    calls 2, 0x1111
    movl $0, mark /* a ROM */
    expect 3, 0x600dc0de

    pam 0x20 /* reads the ROM, writes RAM: copy it to itself, and change the copy */
    xor %si, %si
    xor %di, %di
    mov $0x4000, %cx
    cld
    rep movsl
    movl $0x12345678, mark
    movw $0x2222, function + 1
    expect 4, 0x600dc0de
    calls 5, 0x1111

    pam 0x10 /* RAM, which can't be written */
    expect 6, 0x12345678
    calls 7, 0x2222
    movl $0, mark
    movw $0, function + 1
    expect 8, 0x12345678
    calls 9, 0x2222

    pam 0x30 /* RAM */
    movw $0x3333, function + 1
    movl $0x55555555, mark
    expect 10, 0x55555555
    calls 11, 0x3333

    pam 0x00
    expect 12, 0x600dc0de
    calls 13, 0x1111
    pam 0x10
    calls 14, 0x3333

    /* below 4 GiB there is the ROM all the time */
    mov $15, %bl
    mov $0xf000, %ax
    mov %ax, %ds
    cli
    lgdtl %ds:gdtr
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    mov $8, %cx
    mov %cx, %fs
    and $0xfe, %al
    mov %eax, %cr0
    mov $0xffff0000 + mark, %ecx
    cmpl $0x600dc0de, %fs:(%ecx)
    jne wrong
    mov $0x2a, %bl
wrong:
    mov %bl, %al
    out %al, $0xf4
1:  hlt
    jmp 1b

    .align 8
gdtr:
    .word 15
    .long 0xf0000 + gdt
    .align 8
gdt:
    .quad 0, 0x00cf93000000ffff

    .org 0x2000
function:
    mov $0x1111, %ax
    ret

    .org 0x3000
mark:
    .long 0x600dc0de

    .org 0xfff0
    ljmp $0xf000, $start
    .org 0x10000
