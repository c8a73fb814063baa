/*
 * A boot sector that asks the VGA BIOS (VBE function 4f01) where the frame buffer is, and compares
 * that with what PCI says. Ends by the debug-exit port: 0 they agree, 1 they don't, 2 no such mode.
 */
    .code16
    .globl _start
_start:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov $0x4f01, %ax
    mov $0x118, %cx             /* 1024x768, true colour */
    mov $0x8000, %di
    int $0x10
    mov $2, %bl
    cmp $0x004f, %ax
    jne end
    mov $0xcf8, %dx
    mov $0x80001010, %eax       /* 00:02.0, BAR 0 */
    out %eax, %dx
    mov $0xcfc, %dx
    in %dx, %eax
    and $0xfffffff0, %eax
    xor %bl, %bl
    cmp 0x8028, %eax
    setne %bl
end:
    mov %bl, %al
    mov $0xf4, %dx
    out %al, %dx
1:  hlt
    jmp 1b
    .org 510
    .word 0xaa55
