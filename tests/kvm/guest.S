/*
 * A real-mode guest for one engine's paths to devices and back: string output, MSRs that come to
 * user space, faults, and interrupts that end HLT. Loaded at 0x1000. Writes to the debug-exit port
 * how far it came: 0x15 is the end.
 */
    .code16
    .set COM1, 0x3f8
    .set DEBUG_EXIT, 0xf4
    .set TICKS, 0x800      /* word: timer interrupts */
    .set FAULTS, 0x802     /* word: faults taken */
    .set TICKS_WANTED, 400 /* at 1 kHz */

    .macro vector n, handler
    movw $\handler, 4 * \n
    movw $0, 4 * \n + 2
    .endm

    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7000, %sp
    movl $0, TICKS
    vector 0, fault
    vector 13, fault
    vector 0x20, tick

    mov $COM1, %dx
    mov $hello, %si
    mov $hello_end - hello, %cx
    cld
    rep outsb

    mov $1, %bl
    mov $0x1b, %ecx /* IA32_APIC_BASE */
    rdmsr
    test $0x800, %ax
    jz done
    mov $2, %bl
    mov $0x1234567, %ecx /* no such MSR: #GP */
    rdmsr
    cmpw $1, FAULTS
    jne done
    mov $3, %bl
    xor %cx, %cx
    div %cl
    cmpw $2, FAULTS
    jne done

    mov $0x11, %al /* the PICs' initialization */
    out %al, $0x20
    mov $0x20, %al
    out %al, $0x21
    mov $4, %al
    out %al, $0x21
    mov $1, %al
    out %al, $0x21
    mov $0xfe, %al
    out %al, $0x21
    mov $0x34, %al /* PIT channel 0, mode 2 */
    out %al, $0x43
    mov $1193 & 0xff, %al
    out %al, $0x40
    mov $1193 >> 8, %al
    out %al, $0x40
    sti
1:  hlt
    cmpw $TICKS_WANTED, TICKS
    jb 1b
    cli
    mov $0x15, %bl
done:
    mov %bl, %al
    out %al, $DEBUG_EXIT
2:  hlt
    jmp 2b

/* Faults here are instructions of two bytes: RDMSR, DIV. */
fault:
    incw FAULTS
    push %bp
    mov %sp, %bp
    addw $2, 2(%bp)
    pop %bp
    iret

tick:
    push %ax
    incw TICKS
    mov $0x20, %al
    out %al, $0x20
    pop %ax
    iret

hello:
    .ascii "string output\n"
hello_end:
