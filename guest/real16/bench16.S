/*
 * Benchmark programs of 16-bit code: real mode, unreal mode and protected mode with limited
 * segments. A boot sector that loads the rest of itself, so that a PC's firmware can start it; as a
 * raw image (--raw 0x7c00) all of it is there from the beginning. Each program's line has
 * its name and the thousands of TSC ticks that it took.
 */
    .intel_syntax noprefix
    .code16
    .globl _start

#define DATA   0x2000
#define OTHER  0x3000
#define STACK  0x4000
#define COM1   0x3f8
#define SECTORS 8

_start:
    cli
    cld
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    cmp dword ptr marker, 0x36316e62
    je loaded
    mov es, ax
    mov bx, 0x7e00
    mov ax, 0x0200 + SECTORS - 1
    mov cx, 2
    xor dh, dh
    int 0x13
    cli
loaded:
    jmp 0:main
    .org 510
    .word 0xaa55

/* --- output --- */

put_char: /* al */
    push dx
    push ax
    mov dx, COM1 + 5
1:  in al, dx
    test al, 0x20
    jz 1b
    pop ax
    mov dx, COM1
    out dx, al
    pop dx
    ret

put_text: /* cs:si */
    lods al, byte ptr cs:[si]
    test al, al
    jz 1f
    call put_char
    jmp put_text
1:  ret

put_number: /* eax */
    push ebx
    push ecx
    push edx
    mov ebx, 10
    xor cx, cx
1:  xor edx, edx
    div ebx
    push dx
    inc cx
    test eax, eax
    jnz 1b
2:  pop ax
    add al, '0'
    call put_char
    loop 2b
    pop edx
    pop ecx
    pop ebx
    ret

/* --- the programs; each may change all but cs, ss and sp --- */

sums: /* memory through DS, ES, SS, by 16-bit forms */
    mov ebp, 300
1:  mov cx, 2000
    mov bx, 0x100
    xor si, si
2:  mov ax, [bx+si]
    add ax, es:[si+4]
    add [bx+2], ax
    mov es:[si], ax
    inc byte ptr [0x40]
    adc dx, [bx+si+8]
    add si, 2
    dec cx
    jnz 2b
    dec ebp
    jnz 1b
    ret

leaf:
    push bp
    mov bp, sp
    sub sp, 8
    mov ax, [bp+4]
    mov [bp-2], ax
    push si
    add ax, [bp-2]
    pop si
    leave
    ret 2

calls:
    mov ebx, 500000
1:  push bx
    call leaf
    dec ebx
    jnz 1b
    ret

strings: /* copies, fills, comparisons, and loops of single string instructions */
    mov ebx, 2000
1:  xor si, si
    xor di, di
    mov cx, 2048
    rep movsw
    xor di, di
    mov cx, 2048
    rep stosw
    mov cx, 64
    xor si, si
    mov di, 0x8000
2:  lodsb
    stosb
    loop 2b
    xor si, si
    mov di, 0x8000
    mov cx, 64
    repe cmpsb
    dec ebx
    jnz 1b
    ret

loads: /* segment registers */
    mov ebx, 300000
    mov word ptr [0x10], 0x20
    mov word ptr [0x12], OTHER
1:  push ds
    mov ax, OTHER
    mov es, ax
    les di, [0x10]
    mov ax, es:[di]
    push cs
    pop ds
    mov dx, ds:[main]
    pop ds
    dec ebx
    jnz 1b
    ret

far_leaf:
    inc ax
    retf

fars:
    mov ebx, 200000
1:  call 0:far_leaf
    jmp (0x7c0 - 0x10):(2f - 0x7b00)
2:  jmp 0:3f
3:  dec ebx
    jnz 1b
    ret

handler:
    inc word ptr [0x80]
    iret

ints:
    xor ax, ax
    mov es, ax
    mov word ptr es:[0x60*4], offset handler
    mov word ptr es:[0x60*4+2], ax
    mov ebx, 200000
1:  int 0x60
    dec ebx
    jnz 1b
    ret

io:
    mov ebx, 50000
1:  in al, 0x61
    out 0x80, al
    pushf
    cli
    popf
    dec ebx
    jnz 1b
    ret

loops: /* LOOP, LOOPNE, JCXZ, PUSHA, XLAT */
    mov ebp, 2000
1:  mov cx, 200
    xor si, si
    mov al, 0xee
2:  cmp al, [si]
    inc si
    loopne 2b
    jcxz 3f
3:  pusha
    popa
    dec ebp
    jnz 1b
    ret

    .org 0x500
gdt:
    .quad 0
    .quad 0x00009b000000ffff        /* 08: 16-bit code */
    .quad 0x000093020000ffff        /* 10: 64 KiB of data at DATA */
    .quad 0x00009303000007ff        /* 18: 2 KiB at OTHER */
    .quad 0x00cf93000000ffff        /* 20: all memory */
    .quad 0x00409b000000ffff        /* 28: 32-bit code, 64 KiB */
    .quad 0x0040970400000fff        /* 30: stack at STACK: expand-down above 0xfff, 32 bits */
    .quad 0x000093040000ffff        /* 38: stack, 64 KiB */
    .quad 0x004193030000ffff        /* 40: 128 KiB at OTHER */
gdtr:
    .word . - gdt - 1
    .long gdt
saved_sp: .word 0

enter_protected:
    pop ax
    mov cs:saved_sp, sp
    lgdt cs:gdtr
    mov edx, cr0
    or dl, 1
    mov cr0, edx
    jmp 0x08:1f
1:  mov dx, 0x38
    mov ss, dx
    mov dx, 0x10
    mov ds, dx
    mov dx, 0x18
    mov es, dx
    jmp ax

leave_protected: /* 16-bit code */
    mov dx, 0x38
    mov ss, dx
    mov dx, 0x10
    mov ds, dx
    mov es, dx
    mov edx, cr0
    and dl, 0xfe
    mov cr0, edx
    jmp 0:1f
1:  mov dx, STACK
    mov ss, dx
    mov sp, cs:saved_sp
    ret

prot16: /* 16-bit protected mode, ES of 2 KiB */
    call enter_protected
    mov ebp, 300
1:  mov cx, 900
    mov bx, 0x100
    xor si, si
2:  mov ax, [bx+si]
    add ax, es:[si+4]
    add [bx+2], ax
    mov es:[si], ax
    push ax
    call 4f
    pop ax
    add si, 2
    dec cx
    jnz 2b
    mov ax, 0x18
    mov es, ax
    dec ebp
    jnz 1b
    jmp leave_protected
4:  ret

prot32: /* 32-bit code, with limits, on an expand-down stack */
    call enter_protected
    mov dx, 0x40
    mov es, dx
    jmp 0x28:1f
    .code32
1:  mov dx, 0x30
    mov ss, dx
    mov esp, 0xff000
    mov ebx, 300000
2:  push ebx
    call 4f
    pop ebx
    mov edx, ebx
    and edx, 0x3fff
    add es:[edx*4+0x400], ecx
    dec ebx
    jnz 2b
    jmp 0x08:3f
    .code16
3:  jmp leave_protected
    .code32
4:  push ebp
    mov ebp, esp
    mov ecx, [ebp+8]
    and ecx, 0x3fff
    mov eax, ds:[ecx]
    add ds:[ecx+4], eax
    mov dword ptr es:[0x1fffc], 0
    leave
    ret
    .code16

unreal: /* real mode with a DS of 4 GiB, by 32-bit addresses */
    lgdt cs:gdtr
    mov edx, cr0
    or dl, 1
    mov cr0, edx
    mov bx, 0x20
    mov ds, bx
    and dl, 0xfe
    mov cr0, edx
    mov ebp, 300
1:  xor ax, ax
    mov ds, ax
    mov ecx, 1000
    mov esi, 0x200000
2:  mov eax, [esi]
    add eax, [esi+ecx*4]
    mov [esi+4], eax
    add esi, 4
    dec ecx
    jnz 2b
    dec ebp
    jnz 1b
    ret

/* --- all of them --- */

#define PROGRAM(name) .word name; .asciz #name

programs:
    PROGRAM(sums)
    PROGRAM(calls)
    PROGRAM(strings)
    PROGRAM(loads)
    PROGRAM(fars)
    PROGRAM(ints)
    PROGRAM(io)
    PROGRAM(loops)
    PROGRAM(prot16)
    PROGRAM(prot32)
    PROGRAM(unreal)
    .word 0

main:
    mov ax, STACK
    mov ss, ax
    mov sp, 0xff00
    mov si, offset programs
next:
    lods ax, word ptr cs:[si]
    test ax, ax
    jz finish
    push si
    push ax
    mov ax, DATA
    mov ds, ax
    mov ax, OTHER
    mov es, ax
    pop bx
    rdtsc
    push eax
    push edx
    call bx
    rdtsc
    pop ecx
    pop ebx
    sub eax, ebx
    sbb edx, ecx
    pop si
    push edx
    push eax
    call put_text
    mov al, ' '
    call put_char
    pop eax
    pop edx
    mov ebx, 1000
    div ebx
    call put_number
    mov al, 10
    call put_char
    jmp next

finish:
    mov ax, 0x1000
    out 0xf4, al
    lidt cs:no_idt
    int 3
no_idt: .word 0, 0, 0

    .org SECTORS * 512 - 4
marker: .long 0x36316e62
