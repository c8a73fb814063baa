/*
 * Pieces of code that change themselves, in memory that is both. ECX is the number of rounds, the
 * result is in EAX; the same source for both modes (addresses are below 2 GiB, absolute).
 */
#include "stress.h"

    .section .wcode, "awx", @progbits
    .macro piece name
    .align 64
    .globl \name
\name:
    .endm

/* An immediate grows in the loop that uses it: 0 + 1 + 2 ... */
piece hot_immediate
    xor %eax, %eax
1:  .byte 0xba /* mov $0, %edx */
    .globl hot_value
hot_value:
    .long 0
    add %edx, %eax
    incl hot_value
    dec %ecx
    jnz 1b
    ret

/* The store and the instruction whose immediate it writes stand side by side: ECX's sum. What
 * stores EBP to 3f+1 is the parameter. */
    .macro patched_by name, store:req
piece \name
    mov %ecx, %ebp
    xor %ebx, %ebx
1:  \store
3:  .byte 0xb8 /* mov $0, %eax */
    .long 0
    add %eax, %ebx
    dec %ebp
    jnz 1b
    mov %ebx, %eax
    ret
    .endm

patched_by patched_by_mov, "mov %ebp, 3f + 1"
patched_by patched_by_xchg, "mov %ebp, %edx; xchg %edx, 3f + 1"
patched_by patched_by_cmpxchg, "mov 3f + 1, %eax; lock cmpxchg %ebp, 3f + 1"
patched_by patched_by_add, "mov %ebp, %edx; sub 3f + 1, %edx; lock add %edx, 3f + 1"
patched_by patched_by_xadd, "mov %ebp, %edx; sub 3f + 1, %edx; lock xadd %edx, 3f + 1"
patched_by patched_by_bytes, "mov %ebp, %eax; movb %al, 3f + 1; movb %ah, 3f + 2"
patched_by patched_by_stos, "mov $3f + 1, %edi; mov %ebp, %eax; stosl"
patched_by patched_by_movs, "mov %ebp, word; mov $word, %esi; mov $3f + 1, %edi; movsl"
patched_by patched_by_rep_movs, "mov %ebp, word; mov $word, %esi; mov $3f + 1, %edi; mov $4, %ecx; rep movsb"
    .macro by_push
    mov R(sp), R(si)
    mov $3f + 3, %esp
    pushw %bp
    mov R(si), R(sp)
    .endm
patched_by patched_by_push, by_push
patched_by patched_by_movd, "movd %ebp, %xmm0; movd %xmm0, 3f + 1"
patched_by patched_by_movups, "movups 3f, %xmm0; movups %xmm0, line; mov %ebp, line + 1; movups line, %xmm1; movups %xmm1, 3f"
patched_by patched_by_fistp, "fninit; mov %ebp, word; fildl word; fistpl 3f + 1"
patched_by patched_by_cmpxchg8b, "mov 3f + 1, %eax; mov 3f + 5, %edx; mov %ebx, %esi; mov %ebp, %ebx; mov %edx, %ecx; lock cmpxchg8b 3f + 1; mov %esi, %ebx"
patched_by patched_behind_jump, "mov %ebp, 3f + 1; jmp 2f; .fill 40, 1, 0x90; 2: nop"
patched_by patched_behind_branch, "mov %ebp, 3f + 1; test %ebp, %ebp; jz 3f"
patched_by patched_behind_call, "mov $3f + 1, %edi; call set_word"

set_word:
    mov %ebp, (R(di))
    ret

/* The operation itself changes: add 7 and subtract 7 in turn. */
piece changed_opcode
    xor %eax, %eax
    mov $0xe8, %dl
1:  xor $0xe8 ^ 0xc0, %dl
    mov %dl, 2f + 1
2:  add $7, %eax
    cmp $0xe8, %dl
    jne 3f
    add $4, %eax
3:  dec %ecx
    jnz 1b
    ret

/* Counters in the line behind the code, and before it. */
    .align 64
    .globl counter_before, counter_behind
counter_before:
    .long 0
    .globl beside
beside:
    incl counter_before
    mov counter_behind, %edx
    inc %edx
    mov %edx, counter_behind
    dec %ecx
    jnz beside
    mov counter_before, %eax
    ret
counter_behind:
    .long 0

/* A store becomes a jump over itself: the first round's value stays. EAX counts the rounds. */
piece own_store
    xor %eax, %eax
1:  inc %eax
    .globl own_store_insn, own_store_end
own_store_insn:
    mov %edx, own_store_insn
own_store_end:
    not %edx
    dec %ecx
    jnz 1b
    ret

/* Each copy changes the next copy; the last one the first. EDX: how often all. */
piece unrolled
    xor %eax, %eax
    mov %edx, %ebp
unrolled_first:
    .rept 16
3:  .byte 0x05 /* add $0, %eax */
    .long 0
    inc %ecx
    mov %ecx, 3f + 1
    .endr
3:  .byte 0x05
    .long 0
    inc %ecx
    mov %ecx, unrolled_first + 1
    dec %ebp
    jnz unrolled_first
    ret

/* REP MOVS and REP STOS replace two instructions right behind them: 5 + 6, and 0. */
piece replaced
    mov %ecx, %ebp
    xor %eax, %eax
1:  mov $2f, %edi
    mov $6, %ecx
    test $1, %ebp
    jz 4f
    mov $template, %esi
    rep movsb
2:  .fill 6, 1, 0x90
    dec %ebp
    jnz 1b
    ret
4:  mov %eax, %ebx
    mov $0x90, %al
    rep stosb
    mov %ebx, %eax
    jmp 2b
template:
    add $5, %eax
    add $6, %eax

    .align 16
line:
    .space 16
    .globl word
word:
    .long 0
