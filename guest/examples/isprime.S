/* int isPrime(int a): 1 if no number from 2 to a - 1 divides a. The example of docs/translate.md,
 * after Adams and Agesen. */
        .intel_syntax noprefix
        .text
        .globl  isPrime
        .type   isPrime, @function
isPrime:
        mov     ecx, edi        /* ecx = a */
        mov     esi, 2          /* esi = i */
        cmp     esi, ecx
        jge     prime
nexti:
        mov     eax, ecx
        cdq
        idiv    esi             /* edx = a % i */
        test    edx, edx
        jz      notPrime
        inc     esi
        cmp     esi, ecx
        jl      nexti
prime:
        mov     eax, 1
        ret
notPrime:
        xor     eax, eax
        ret
        .size   isPrime, . - isPrime
        .section .note.GNU-stack, "", @progbits
