/*
 * Processor states in which an image is entered, as the boot protocols describe them.
 */
#include "boot/entry.h"

#define CODE_ATTR (SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED)
#define DATA_ATTR (SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED)

void entry_gdt(u64 gdt[BOOT_GDT_ENTRIES], bool long_mode)
{
    gdt[0] = gdt[1] = 0;
    gdt[BOOT_CS / 8] = long_mode ? 0x00af9b000000ffffULL : 0x00cf9b000000ffffULL;
    gdt[BOOT_DS / 8] = 0x00cf93000000ffffULL;
}

static void set_real_segment(struct segment *s, u16 sel, u32 attr)
{
    *s = (struct segment){.sel = sel, .attr = attr, .limit = 0xffff, .base = (u64)sel << 4};
}

void entry_real(struct vcpu *v, u16 cs, u16 ip, u16 data, u16 sp)
{
    for (unsigned s = 0; s < ARRAY_SIZE(v->seg); s++)
        set_real_segment(&v->seg[s], data, DATA_ATTR);
    set_real_segment(&v->seg[SEG_CS], cs, CODE_ATTR);
    v->idtr = (struct dtable){.base = 0, .limit = 0x3ff};
    v->cr0 = CR0_ET;
    memset(v->gpr, 0, sizeof(v->gpr));
    v->gpr[RSP] = sp;
    v->rip = ip;
    cpu_update_mode(v);
}

static void set_flat(struct vcpu *v, u64 gdt, u32 code_size_attr)
{
    const u32 data = DATA_ATTR | SEG_DB | SEG_G;
    for (unsigned s = 0; s < ARRAY_SIZE(v->seg); s++)
        v->seg[s] = (struct segment){.sel = BOOT_DS, .attr = data, .limit = 0xffffffff};
    v->seg[SEG_CS] = (struct segment){
        .sel = BOOT_CS, .attr = CODE_ATTR | SEG_G | code_size_attr, .limit = 0xffffffff};
    v->gdtr = (struct dtable){.base = gdt, .limit = BOOT_GDT_ENTRIES * 8 - 1};
    v->idtr = (struct dtable){0};
    memset(v->gpr, 0, sizeof(v->gpr));
}

void entry_flat32(struct vcpu *v, u64 gdt, u32 eip)
{
    set_flat(v, gdt, SEG_DB);
    v->cr0 = CR0_PE | CR0_ET;
    v->rip = eip;
    cpu_update_mode(v);
}

void entry_long64(struct vcpu *v, u64 gdt, u64 cr3, u64 rip)
{
    set_flat(v, gdt, SEG_L);
    v->cr3 = cr3;
    v->cr4 = CR4_PAE;
    v->efer = EFER_LME | EFER_LMA;
    v->cr0 = CR0_PE | CR0_PG | CR0_ET;
    v->rip = rip;
    cpu_update_mode(v);
}
