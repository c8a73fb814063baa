/*
 * The nano kernel in its three builds, as guest/nano/build makes them.
 */
    .section .rodata
    .macro image name, file
    .globl \name, \name\()_end
    .align 16
\name:
    .incbin "\file"
\name\()_end:
    .endm
    image nano_64, "build/guest/nano-64.elf"
    image nano_pae, "build/guest/nano-pae.elf"
    image nano_32, "build/guest/nano-32.elf"
    .section .note.GNU-stack, "", @progbits
