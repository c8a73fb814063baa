/*
 * BIOS services for the 16-bit Linux boot protocol: as few as its setup code needs. The loader
 * copies this to F000:0000, fills in the header and the memory map, and points the interrupt vectors
 * here (linux16.c). What is not here returns with the carry flag set, the BIOS's "no such function".
 * Handlers keep all registers but those that carry a result; results in flags go into the flags
 * image that IRET restores, at 6(%bp) once BP is pushed.
 */
#define OFS(label) (label - bios_stub)
#define SMAP 0x534d4150 /* "SMAP" */
#define UART 0x3f8

        .section .rodata.bios_stub, "a", @progbits
        .code16
        .balign 16
        .globl bios_stub
        .globl bios_stub_end

/* struct bios_stub_header */
bios_stub:
        .word   OFS(fail), OFS(ignore)
        .word   OFS(int10), OFS(int11), OFS(int12), OFS(int15), OFS(int16), OFS(int1a)
        .word   OFS(e820_table)
extended_kib:
        .word   0
e801_low_kib:
        .word   0
e801_high_64k:
        .word   0
e820_count:
        .long   0

fail:
        pushw   %bp
        movw    %sp, %bp
        orb     $0x01, 6(%bp)   /* CF */
        popw    %bp
ignore:
        iretw

success:
        pushw   %bp
        movw    %sp, %bp
        andb    $0xfe, 6(%bp)
        popw    %bp
        iretw

/* Video. 0Eh: teletype, to COM1. 0Fh: mode; says 80 columns, mode 3. The rest does nothing, which
 * Linux takes for a plain CGA. */
int10:
        cmpb    $0x0e, %ah
        je      teletype
        cmpb    $0x0f, %ah
        jne     ignore
        movw    $0x5003, %ax
        movb    $0, %bh
        iretw
teletype:
        pushw   %ax
        pushw   %cx
        pushw   %dx
        movw    %ax, %cx
        movw    $(UART + 5), %dx
1:      inb     %dx, %al
        testb   $0x20, %al      /* transmitter empty */
        jz      1b
        movb    %cl, %al
        movw    $UART, %dx
        outb    %al, %dx
        popw    %dx
        popw    %cx
        popw    %ax
        iretw

/* Equipment word and low memory size, from the BIOS data area. */
int11:
        pushw   %ds
        pushw   $0x40
        popw    %ds
        movw    0x10, %ax
        popw    %ds
        iretw
int12:
        pushw   %ds
        pushw   $0x40
        popw    %ds
        movw    0x13, %ax
        popw    %ds
        iretw

/* Memory sizes and the A20 gate. */
int15:
        cmpw    $0xe820, %ax
        je      e820
        cmpw    $0xe801, %ax
        je      e801
        cmpw    $0x2401, %ax
        je      a20_on
        cmpb    $0x88, %ah
        jne     1f
        movw    %cs:OFS(extended_kib), %ax
        jmp     success
1:      movb    $0x86, %ah
        jmp     fail
e801:
        movw    %cs:OFS(e801_low_kib), %ax
        movw    %ax, %cx
        movw    %cs:OFS(e801_high_64k), %bx
        movw    %bx, %dx
        jmp     success
a20_on:
        inb     $0x92, %al
        orb     $0x02, %al
        andb    $0xfe, %al      /* bit 0 would reset the machine */
        outb    %al, $0x92
        movw    $0x0001, %ax
        jmp     success
/* EBX: number of the entry, 0 after the last; ES:DI: the buffer; ECX: its size. */
e820:
        cmpl    $SMAP, %edx
        jne     1b
        cmpl    $20, %ecx
        jb      1b
        cmpl    %cs:OFS(e820_count), %ebx
        jae     1b
        pushw   %si
        pushw   %di
        imulw   $20, %bx, %si
        addw    $OFS(e820_table), %si
        movw    $10, %cx
        cld
        rep movsw %cs:(%si), %es:(%di)
        popw    %di
        popw    %si
        incl    %ebx
        cmpl    %cs:OFS(e820_count), %ebx
        jb      1f
        xorl    %ebx, %ebx
1:      movl    $20, %ecx
        movl    $SMAP, %eax
        jmp     success

/* Keyboard: no key is ever waiting, no shift key is down. */
int16:
        cmpb    $0x01, %ah
        je      no_key
        cmpb    $0x11, %ah
        je      no_key
        movw    $0, %ax
        iretw
no_key:
        pushw   %bp
        movw    %sp, %bp
        orb     $0x40, 6(%bp)   /* ZF */
        popw    %bp
        iretw

/* Time of day, 00h: ticks since midnight, which nothing counts. */
int1a:
        cmpb    $0x00, %ah
        jne     fail
        movw    $0, %cx
        movw    $0, %dx
        movb    $0, %al
        jmp     success

        .balign 4
e820_table:
        .fill   16 * 20, 1, 0   /* E820_MAX entries */
bios_stub_end:

        .section .note.GNU-stack, "", @progbits
