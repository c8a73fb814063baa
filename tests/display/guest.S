/*
 * A guest of 16-bit code that runs the VGA BIOS of Debian's seabios package, without a system BIOS.
 * The ROM follows this code at SIZE and is copied to 0xc0000. Then the guest sets MODE (VBE: by
 * function 4f02), draws as DRAW says, and ends by the debug-exit port with what it found: 0 is good.
 */
#define DRAW_TEXT   1 /* a line by INT 10h, function 13h; then waits */
#define DRAW_PIXELS 2 /* colour (x ^ y) & 15 in 160 x 100 pixels by function 0ch */
#define DRAW_MEMORY 3 /* mode 13h: the same in all 320 x 200 by 0xa0000; the map mask in between */

#define SIZE 0x400
#define LFB  0xe0000000
#define BAR2 0xe1000000

.macro pci_write offset, value
    mov $0xcf8, %dx
    mov $0x80001000 + \offset, %eax
    out %eax, %dx
    mov $0xcfc, %dx
    mov $\value, %eax
    out %eax, %dx
.endm

    .code16
    .globl _start
_start:
    cli
    cld
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %esp
    mov $256, %cx               /* interrupts of no BIOS just return */
    xor %di, %di
1:  movw $return, (%di)
    movw $0, 2(%di)
    add $4, %di
    loop 1b

    lgdtl gdtr                  /* 4 GiB of data in real mode: what option ROMs are promised */
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    mov $8, %bx
    mov %bx, %ds
    mov %bx, %es
    and $0xfe, %al
    mov %eax, %cr0

    pci_write 0x10, LFB
    pci_write 0x18, BAR2
    pci_write 0x04, 3

    mov $(0x7c00 + SIZE) / 16, %ax
    mov %ax, %ds
    mov $0xc000, %ax
    mov %ax, %es
    xor %si, %si
    xor %di, %di
    mov $0xa000, %cx
    rep movsb
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov $0x10, %ax              /* PCI 00:02.0 */
    lcall $0xc000, $3

#if VBE
    mov $MODE, %bx
    mov $0x4f02, %ax
#else
    mov $MODE, %ax
#endif
    int $0x10
    call draw
end:
    mov $0xf4, %dx
    out %al, %dx
1:  hlt
    jmp 1b
return:
    iret

draw:
#if DRAW == DRAW_TEXT
    mov $0x1301, %ax
    mov $0x001e, %bx
    mov $text_end - text, %cx
    mov $0x0305, %dx
    mov $text, %bp
    int $0x10
1:  hlt
    jmp 1b
text:
    .ascii "The VGA BIOS says: \xc9\xcd\xbb \x01 \xe1"
text_end:
#elif DRAW == DRAW_PIXELS
    mov $99, %dx
1:  mov $159, %cx
2:  mov %cl, %al
    xor %dl, %al
    and $15, %al
    mov $0x0c, %ah
    xor %bx, %bx
    push %cx
    push %dx
    int $0x10
    pop %dx
    pop %cx
    dec %cx
    jns 2b
    dec %dx
    jns 1b
    xor %al, %al
    ret
#elif DRAW == DRAW_MEMORY
    mov $0xa000, %ax
    mov %ax, %es
    mov $200, %bp
1:  xor %di, %di                /* everything 200 times: most of it plain memory */
    xor %dx, %dx
2:  xor %cx, %cx
3:  mov %cl, %al
    xor %dl, %al
    and $15, %al
    stosb
    inc %cx
    cmp $320, %cx
    jne 3b
    inc %dx
    cmp $200, %dx
    jne 2b
    /* The map mask works at once, for the very next instructions, and so does its end. */
    mov $0x3c4, %dx
    mov $0x0102, %ax
    out %ax, %dx
    movb $0x55, %es:0
    movb $0x55, %es:1
    mov $0x0f02, %ax
    out %ax, %dx
    mov %es:0, %bx
    movb $0, %es:0
    cmp $0x0155, %bx
    mov $1, %al
    jne 4f
    dec %bp
    jnz 1b
    xor %al, %al
4:  ret
#endif

    .align 8
gdt:
    .quad 0, 0x00cf93000000ffff
gdtr:
    .word 15
    .long gdt
    .org SIZE
