/*
 * Processor states in which an image is entered. cpu_reset() comes first; then one of these, then
 * the general registers that the boot protocol names. Interrupts are off in all of them.
 */
#ifndef RINGER_BOOT_ENTRY_H
#define RINGER_BOOT_ENTRY_H

#include "cpu/state.h"

/* Selectors of the boot GDT, those which Linux asks for (boot.rst: __BOOT_CS and __BOOT_DS). */
#define BOOT_CS 0x10
#define BOOT_DS 0x18

#define BOOT_GDT_ENTRIES 4

/* Descriptors for BOOT_CS (64-bit or 32-bit code) and BOOT_DS, all flat. */
void entry_gdt(u64 gdt[BOOT_GDT_ENTRIES], bool long_mode);

/* Real mode at cs:ip, with DS = ES = FS = GS = SS = data and the stack pointer sp. */
void entry_real(struct vcpu *v, u16 cs, u16 ip, u16 data, u16 sp);

/* 32-bit protected mode, flat, paging off; gdt: physical address of the table above. */
void entry_flat32(struct vcpu *v, u64 gdt, u32 eip);

/* 64-bit mode with the page tables at cr3. */
void entry_long64(struct vcpu *v, u64 gdt, u64 cr3, u64 rip);

#endif
