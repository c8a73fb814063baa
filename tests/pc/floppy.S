/*
 * A boot sector that tells the first serial port what the firmware makes of the floppy: sectors that
 * are read, one that is written and read again, the drive's type; then each key that is typed, until
 * '!', which powers off. E and the BIOS's status: a disk service failed.
 */
#define BUFFER  0x8000
#define SERIAL  0x3f8
#define PM_CTRL 0x604

    .code16
    .globl _start
_start:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    sti
    mov $'[', %al
    call put
    mov $0x0205, %ax /* five sectors from cylinder 1, head 1, sector 5 */
    mov $BUFFER, %bx
    mov $0x0105, %cx
    mov $0x0100, %dx
    call disk
    mov BUFFER, %al
    call put
    mov BUFFER + 4 * 512, %al
    call put
    movb $'Q', BUFFER
    mov $0x0301, %ax /* write cylinder 5, head 0, sector 8 */
    mov $0x0508, %cx
    xor %dx, %dx
    call disk
    movb $0, BUFFER
    mov $0x0201, %ax
    mov $0x0508, %cx
    xor %dx, %dx
    call disk
    mov BUFFER, %al
    call put
    mov $0x0800, %ax
    xor %dx, %dx
    int $0x13
    mov %bl, %al
    add $'0', %al
    call put
    mov $']', %al
    call put
keys:
    xor %ax, %ax
    int $0x16
    call put
    cmp $'!', %al
    jne keys
    mov $PM_CTRL, %dx
    mov $0x2000, %ax
    out %ax, %dx
    hlt

disk:
    mov $BUFFER, %bx
    int $0x13
    jc error
    ret
error:
    mov $'E', %al
    call put
    mov %ah, %al
    add $'0', %al
    call put
    jmp keys

put:
    push %dx
    push %ax
    mov $SERIAL, %dx
    out %al, %dx
    pop %ax
    pop %dx
    ret

    .org 510
    .word 0xaa55
