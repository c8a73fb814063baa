/*
 * The state that a run begins with. It is one that a CPU can be in, or nearly: registers obey the
 * rules that MOV CRn enforces, for the engines may rely on these; the tables in memory are valid
 * for the most part, so that exceptions lead to code and the run goes on, and random for the rest.
 */
#include "fuzz.h"
#include "mem/tlb.h"

static void put64(struct fuzz_guest *g, u64 gpa, u64 value)
{
    memcpy(g->ram + gpa, &value, sizeof(value));
}

static void put32(struct fuzz_guest *g, u64 gpa, u32 value)
{
    memcpy(g->ram + gpa, &value, sizeof(value));
}

/* --- values --- */

static u64 code_offset(struct rng *r)
{
    return rnd_below(r, CODE_SIZE - 0x40);
}

/* Physical address of something that is there. */
static u64 interesting_gpa(struct rng *r)
{
    static const u64 at[] = {GPA_GDT,  GPA_IDT,  GPA_TSS,   GPA_TSS2, GPA_PAGES,
                             GPA_CODE, GPA_CODE, GPA_STACK, GPA_DATA, GPA_DATA,
                             GPA_DATA, GPA_DATA, GPA_MMIO,  GPA_ROM,  GPA_MMIO2};
    u64 gpa = at[rnd_below(r, ARRAY_SIZE(at))];
    if (one_in(r, 8))
        return gpa + PAGE_SIZE - rnd_below(r, 64); /* crosses a page, perhaps */
    return gpa + rnd_below(r, 0x1000) / (one_in(r, 2) ? 1 : 64) * (one_in(r, 2) ? 1 : 64);
}

static u64 interesting_number(struct rng *r)
{
    static const u64 number[] = {
        0,
        1,
        2,
        8,
        0x10,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        BIT(32),
        BIT(47) - 1,
        BIT(47),
        ~BIT(47),
        BIT(63),
        ~0ULL,
        MSR_EFER,
        MSR_STAR,
        MSR_LSTAR,
        MSR_FS_BASE,
        MSR_PAT,
        MSR_TSC,
        MSR_APIC_BASE,
        0x830,
        MSR_SYSENTER_CS,
        MSR_DEBUGCTL,
        MSR_KVM_SYSTEM_TIME_NEW,
        MSR_MTRR_DEF_TYPE,
        SEL_CODE32,
        SEL_CODE64,
        SEL_DATA,
        SEL_DATAU,
        SEL_TSS,
        SEL_TSS2,
        SEL_CALL,
        SEL_TASK,
    };
    return number[rnd_below(r, ARRAY_SIZE(number))];
}

u64 fuzz_value(const struct fuzz_guest *g, struct rng *r)
{
    switch (rnd_below(r, 8)) {
    case 0:
        return rnd(r);
    case 1:
        return interesting_number(r);
    case 2:
        return rnd(r) & 0xff;
    case 3:
        return interesting_number(r) + rnd_below(r, 16);
    default:
        return interesting_gpa(r) + (one_in(r, 16) ? 0 : g->base);
    }
}

/* --- page tables --- */

static u64 random_page(struct rng *r)
{
    u64 page = rnd_below(r, RAM_SIZE / PAGE_SIZE) * PAGE_SIZE;
    switch (rnd_below(r, 16)) {
    case 0:
        return GPA_MMIO2;
    case 1:
        return rnd(r) & 0xffffff000;
    default:
        return page;
    }
}

/* An entry that is wrong, or right in an unusual way. */
static u64 strange_entry(struct rng *r, u64 entry, unsigned size)
{
    switch (rnd_below(r, 6)) {
    case 0:
        return entry & ~1ULL;
    case 1:
        return entry ^ BIT(rnd_below(r, size * 8));
    case 2:
        return rnd(r);
    case 3:
        return random_page(r) | (rnd(r) & 0x1ff) | 1;
    case 4:
        return (entry & ~7ULL) | 1 | (rnd(r) & 6);
    default:
        return GPA_PAGES + rnd_below(r, 6) * PAGE_SIZE +
               0x67; /* tables as pages or of the wrong level */
    }
}

static void fill_table(struct fuzz_guest *g, struct rng *r, u64 table, unsigned size,
                       unsigned entries, u64 next, u64 flags)
{
    u64 odds = BIT(4 + rnd_below(r, 6));
    for (unsigned n = 0; n < entries; n++) {
        u64 page = next ? next : n % (RAM_SIZE / PAGE_SIZE) * PAGE_SIZE;
        u64 e = page | flags;
        if (one_in(r, odds))
            e = strange_entry(r, e, size);
        memcpy(g->ram + table + n * size, &e, size);
    }
}

void fuzz_page_tables(struct fuzz_guest *g, struct rng *r)
{
    const struct vcpu *v = g->v;
    unsigned size = v->cr4 & CR4_PAE ? 8 : 4;
    u64 at = GPA_PAGES, table = one_in(r, 2) ? 0x07 : 0x67;
    u64 leaf = one_in(r, 4) ? 0x03 : 0x07 | (rnd(r) & 0x160);
    if (v->efer & EFER_LMA) {
        fill_table(g, r, at, 8, 512, at + PAGE_SIZE, table);
        at += PAGE_SIZE;
        fill_table(g, r, at, 8, 512, at + PAGE_SIZE, table);
        at += PAGE_SIZE;
    } else if (size == 8) {
        for (unsigned n = 0; n < 4; n++)
            put64(g, at + 8 * n, (at + PAGE_SIZE) | (one_in(r, 16) ? 0 : 1));
        at += PAGE_SIZE;
    }
    fill_table(g, r, at, size, (unsigned)PAGE_SIZE / size, at + PAGE_SIZE, table);
    at += PAGE_SIZE;
    fill_table(g, r, at, size, (unsigned)PAGE_SIZE / size, 0, leaf);
}

/* --- descriptor tables --- */

static u64 system_descriptor(u64 base, u64 limit, u64 access)
{
    return (limit & 0xffff) | (base & 0xffffff) << 16 | access << 40 | (limit >> 16 & 15) << 48 |
           (base >> 24 & 0xff) << 56;
}

static u64 gate(u64 sel, u64 off, u64 access)
{
    return (off & 0xffff) | sel << 16 | access << 40 | (off >> 16 & 0xffff) << 48;
}

static u16 random_selector(struct rng *r)
{
    return (u16)(one_in(r, 16) ? rnd(r) : rnd_below(r, GDT_ENTRIES) << 3 | (rnd(r) & 7));
}

static u16 gate_selector(const struct fuzz_guest *g, struct rng *r)
{
    if (one_in(r, 32))
        return random_selector(r);
    if (g->user_handlers)
        return g->v->efer & EFER_LMA ? SEL_CODE64U : SEL_CODE32U;
    return g->v->efer & EFER_LMA ? SEL_CODE64 : one_in(r, 8) ? SEL_CODE16 : SEL_CODE32;
}

static void make_gdt(struct fuzz_guest *g, struct rng *r)
{
    bool lma = g->v->efer & EFER_LMA;
    for (unsigned n = 0; n < GDT_ENTRIES; n++)
        put64(g, GPA_GDT + 8 * n, rnd(r) | (one_in(r, 2) ? BIT(47) : 0));
    put64(g, GPA_GDT, 0);
    put64(g, GPA_GDT + SEL_CODE64, 0x00af9b000000ffff);
    put64(g, GPA_GDT + SEL_CODE32, 0x00cf9b000000ffff);
    put64(g, GPA_GDT + SEL_DATA, 0x00cf93000000ffff);
    put64(g, GPA_GDT + (SEL_CODE32U & ~7), 0x00cffb000000ffff);
    put64(g, GPA_GDT + (SEL_DATAU & ~7), 0x00cff3000000ffff);
    put64(g, GPA_GDT + (SEL_CODE64U & ~7), 0x00affb000000ffff);
    put64(g, GPA_GDT + SEL_CODE16, system_descriptor(GPA_CODE, 0xffff, 0x9b));
    put64(g, GPA_GDT + SEL_DATA16, system_descriptor(GPA_DATA, 0xffff, 0x93));
    put64(g, GPA_GDT + SEL_TSS,
          system_descriptor(g->base + GPA_TSS, 0x1fff, lma || one_in(r, 4) ? 0x89 : 0x8b));
    put64(g, GPA_GDT + SEL_TSS + 8, lma ? g->base >> 32 : rnd(r));
    put64(g, GPA_GDT + SEL_LDT, system_descriptor(g->base + GPA_LDT, 0x7f, 0x82));
    put64(g, GPA_GDT + SEL_LDT + 8, lma ? g->base >> 32 : rnd(r));
    put64(g, GPA_GDT + SEL_TSS2,
          system_descriptor(g->base + GPA_TSS2, 0x67 + rnd_below(r, 2) * 0x100,
                            one_in(r, 4) ? 0x81 : 0x89));
    put64(g, GPA_GDT + SEL_CALL,
          gate(gate_selector(g, r), g->base + GPA_CODE + code_offset(r), 0xec) | rnd_below(r, 32)
                                                                                     << 32);
    put64(g, GPA_GDT + SEL_CALL + 8, lma ? g->base >> 32 : rnd(r));
    put64(g, GPA_GDT + SEL_TASK, gate(SEL_TSS2, 0, 0xe5));
    if (one_in(r, 4))
        put64(g, GPA_GDT + rnd_below(r, GDT_ENTRIES) * 8, rnd(r));
    for (unsigned n = 0; n < 16; n++)
        put64(g, GPA_LDT + 8 * n, one_in(r, 2) ? 0x00cff3000000ffff : rnd(r));
}

static void make_idt(struct fuzz_guest *g, struct rng *r)
{
    bool lma = g->v->efer & EFER_LMA;
    for (unsigned n = 0; n < 256; n++) {
        u64 off = g->base + GPA_CODE + code_offset(r);
        u64 type = one_in(r, 2) ? 0xe : 0xf, dpl = one_in(r, 2) ? 3 : 0;
        u64 e = gate(gate_selector(g, r), off, 0x80 | dpl << 5 | type);
        if (!lma && one_in(r, 32))
            e = gate(SEL_TSS2, 0, 0xe5);
        if (!lma && one_in(r, 16))
            e = gate(SEL_CODE16, off & 0xfff, 0xe6 | rnd_below(r, 2));
        if (one_in(r, 64))
            e ^= BIT(rnd_below(r, 64));
        put64(g, GPA_IDT + n * (lma ? 16 : 8), e);
        if (lma)
            put64(g, GPA_IDT + n * 16 + 8, off >> 32);
        put32(g, 4 * n, (u32)(GPA_CODE >> 4 << 16 | code_offset(r))); /* real mode */
    }
    if (lma && one_in(r, 2))
        put32(g, GPA_IDT + 16 * rnd_below(r, 32) + 4, (u32)rnd(r) | 0x8e00);
}

/* A 32-bit TSS that a task switch can load. */
static void make_task(struct fuzz_guest *g, struct rng *r, u64 tss)
{
    for (unsigned n = 0; n < 0x68; n += 4)
        put32(g, tss + n, (u32)fuzz_value(g, r));
    put32(g, tss, one_in(r, 2) ? SEL_TSS : 0);
    for (unsigned n = 0; n < 3; n++) {
        put32(g, tss + 4 + 8 * n, (u32)(g->base + GPA_STACK + 0x800));
        put32(g, tss + 8 + 8 * n, (u32)(SEL_DATA + n * !!one_in(r, 4)));
    }
    put32(g, tss + 0x1c, (u32)GPA_PAGES);
    put32(g, tss + 0x20, (u32)(g->base + GPA_CODE + code_offset(r)));
    put32(g, tss + 0x24, (u32)(rnd(r) & (one_in(r, 4) ? 0x3ffed7 : 0xed7)) | 2);
    put32(g, tss + 0x38, (u32)(g->base + GPA_STACK + 0x800));
    for (unsigned n = 0; n < 6; n++)
        put32(g, tss + 0x48 + 4 * n,
              one_in(r, 8) ? random_selector(r)
              : n == 1     ? SEL_CODE32
                           : SEL_DATA);
    put32(g, tss + 0x60, one_in(r, 2) ? SEL_LDT : 0);
    put32(g, tss + 0x64, (u32)(0x68 + rnd_below(r, 0x100)) << 16);
}

static void make_tss64(struct fuzz_guest *g, struct rng *r)
{
    for (unsigned n = 0; n < 11; n++)
        put64(g, GPA_TSS + 4 + 8 * n, g->base + GPA_STACK + 0x800 - 8 * rnd_below(r, 3));
    put32(g, GPA_TSS + 0x64, 0x68 << 16);
}

/* --- registers --- */

static struct segment flat(u16 sel, u32 attr)
{
    return (struct segment){.sel = sel, .attr = attr, .limit = attr & SEG_G ? 0xffffffff : 0xffff};
}

#define DATA_ATTR (SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED)
#define CODE_ATTR (SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED)

static void real_segments(struct fuzz_guest *g, struct rng *r)
{
    struct vcpu *v = g->v;
    static const u16 sel[6] = {GPA_DATA >> 4, GPA_CODE >> 4, GPA_STACK >> 4,
                               GPA_DATA >> 4, GPA_CODE >> 4, GPA_PAGES >> 4};
    for (unsigned s = 0; s < 6; s++) {
        v->seg[s] = (struct segment){
            .sel = sel[s], .attr = DATA_ATTR, .limit = 0xffff, .base = (u64)sel[s] << 4};
        if (g->mode == FUZZ_V86)
            v->seg[s].attr |= 3 << 5;
        if (g->mode == FUZZ_UNREAL && one_in(r, 2)) {
            v->seg[s].limit = one_in(r, 2) ? 0xffffffff : (u32)rnd(r);
            v->seg[s].base = one_in(r, 2) ? v->seg[s].base : rnd(r) & 0xffffffff;
        }
    }
    if (g->mode == FUZZ_UNREAL) {
        v->seg[SEG_CS].base = GPA_CODE;
        v->seg[SEG_CS].limit |= 0xffff;
    }
}

static void protected_segments(struct fuzz_guest *g, struct rng *r)
{
    struct vcpu *v = g->v;
    u32 dpl = (u32)v->cpl << 5;
    u16 data = (u16)(v->cpl ? SEL_DATAU : SEL_DATA);
    for (unsigned s = 0; s < 6; s++) {
        v->seg[s] = flat(data, DATA_ATTR | SEG_DB | SEG_G | dpl);
        if (s != SEG_SS && s != SEG_CS && one_in(r, 16))
            v->seg[s] = (struct segment){.attr = SEG_UNUSABLE};
        else if (s >= SEG_DS && one_in(r, 16))
            v->seg[s] = (struct segment){.sel = random_selector(r),
                                         .attr = SEG_P | SEG_S | (rnd(r) & (SEG_TYPE | SEG_DB)),
                                         .limit = (u32)rnd(r) >> rnd_below(r, 32),
                                         .base = rnd(r) & 0xffffff};
    }
    switch (g->mode) {
    case FUZZ_LONG64:
        v->seg[SEG_CS] = flat(v->cpl ? SEL_CODE64U : SEL_CODE64, CODE_ATTR | SEG_L | SEG_G | dpl);
        v->seg[SEG_FS].base = g->base + GPA_DATA;
        v->seg[SEG_GS].base = one_in(r, 2) ? 0 : (u64)sign_extend(rnd(r), 4);
        break;
    case FUZZ_PROT16:
        v->seg[SEG_CS] = (struct segment){
            .sel = SEL_CODE16, .attr = CODE_ATTR | dpl, .limit = 0xffff, .base = GPA_CODE};
        if (one_in(r, 2))
            v->seg[SEG_SS] = (struct segment){
                .sel = SEL_DATA16, .attr = DATA_ATTR | dpl, .limit = 0xffff, .base = GPA_STACK};
        break;
    default:
        v->seg[SEG_CS] = flat(v->cpl ? SEL_CODE32U : SEL_CODE32, CODE_ATTR | SEG_DB | SEG_G | dpl);
    }
}

static void control_registers(struct fuzz_guest *g, struct rng *r)
{
    struct vcpu *v = g->v;
    bool longmode = g->mode == FUZZ_LONG64 || g->mode == FUZZ_COMPAT;
    bool paging = longmode || (g->mode >= FUZZ_V86 && !one_in(r, 3));
    v->cr0 = CR0_ET | CR0_NE | (g->mode >= FUZZ_V86 ? CR0_PE : 0) | (paging ? CR0_PG : 0);
    v->cr0 |= rnd(r) & (CR0_WP | CR0_AM | CR0_MP);
    if (one_in(r, 8))
        v->cr0 ^= rnd(r) & (CR0_TS | CR0_EM | CR0_NE);
    v->cr4 = rnd(r) & cpu_cr4_allowed(&g->model) &
             ~(CR4_PAE | CR4_PCIDE | CR4_OSFXSR | CR4_OSXSAVE | CR4_OSXMMEXCPT | CR4_SMEP |
               CR4_SMAP | CR4_UMIP);
    if (longmode || g->mode == FUZZ_PAE)
        v->cr4 |= CR4_PAE;
    if (one_in(r, 4))
        v->cr4 |= rnd(r) & cpu_cr4_allowed(&g->model) &
                  (CR4_SMEP | CR4_SMAP | CR4_UMIP | (longmode ? CR4_PCIDE : 0));
    if (!one_in(r, 8))
        v->cr4 |= cpu_cr4_allowed(&g->model) & (CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE);
    v->xcr0 = XCR0_X87 | (one_in(r, 8) ? 0 : g->model.xcr0_mask);
    v->efer = (longmode ? EFER_LME | EFER_LMA : 0) | (rnd(r) & (EFER_SCE | EFER_NXE));
    v->cr3 = GPA_PAGES;
}

static void tables_and_tasks(struct fuzz_guest *g, struct rng *r)
{
    struct vcpu *v = g->v;
    bool real = g->mode <= FUZZ_UNREAL;
    v->gdtr = (struct dtable){g->base + GPA_GDT, GDT_ENTRIES * 8 - 1};
    v->idtr = real ? (struct dtable){0, 0x3ff} : (struct dtable){g->base + GPA_IDT, 0xfff};
    v->tr = (struct segment){
        .sel = SEL_TSS, .attr = SEG_P | SYS_TSS32_BUSY, .limit = 0x1fff, .base = g->base + GPA_TSS};
    v->ldtr = (struct segment){
        .sel = SEL_LDT, .attr = SEG_P | SYS_LDT, .limit = 0x7f, .base = g->base + GPA_LDT};
    if (one_in(r, 16))
        v->idtr.limit = (u16)rnd(r);
    if (one_in(r, 16))
        v->gdtr.base += rnd(r) & 0xffff;
    if (one_in(r, 16) && !(v->efer & EFER_LMA))
        v->tr.attr = SEG_P | SYS_TSS16_BUSY;
    make_gdt(g, r);
    make_idt(g, r);
    make_task(g, r, GPA_TSS);
    make_task(g, r, GPA_TSS2);
    if (v->efer & EFER_LMA)
        make_tss64(g, r);
}

static void debug_and_msrs(struct fuzz_guest *g, struct rng *r)
{
    struct vcpu *v = g->v;
    v->msr.star =
        (u64)(one_in(r, 2) ? SEL_CODE64 : random_selector(r)) << 32 | (u64)random_selector(r) << 48;
    v->msr.lstar = v->msr.cstar = v->msr.sysenter_eip = g->base + GPA_CODE + code_offset(r);
    v->msr.fmask = rnd(r) & 0xffffffff;
    v->msr.sysenter_cs = one_in(r, 4) ? random_selector(r) : SEL_CODE32;
    v->msr.sysenter_esp = g->base + GPA_STACK + 0x800;
    v->msr.kernel_gs_base = g->base + GPA_DATA;
    if (!one_in(r, 8))
        return;
    for (unsigned n = 0; n < 4; n++)
        v->dr[n] = fuzz_value(g, r);
    v->dr[7] = DR7_FIXED | (rnd(r) & 0xffff23ff);
}

static void floating_point(struct fuzz_guest *g, struct rng *r)
{
    struct fpu_state *f = &g->v->fpu;
    for (u8 *p = (u8 *)f->legacy.st; p < (u8 *)f->legacy.rsvd1; p += 8)
        store_le(p, one_in(r, 4) ? 0x7ff0000000000001 : rnd(r), 8);
    for (u8 *p = (u8 *)f->ymm_hi; p < (u8 *)f->ymm_hi + sizeof(f->ymm_hi); p += 8)
        store_le(p, rnd(r), 8);
    f->legacy.fcw = one_in(r, 2) ? 0x37f : (u16)((rnd(r) & 0x0f7f) | 0x40);
    f->legacy.fsw = one_in(r, 4) ? (u16)rnd(r) : 0;
    f->legacy.ftw_abridged = (u8)rnd(r);
    f->legacy.mxcsr = one_in(r, 2) ? 0x1f80 : (u32)rnd(r) & 0xffff & g->model.mxcsr_mask;
}

static void general_registers(struct fuzz_guest *g, struct rng *r)
{
    struct vcpu *v = g->v;
    bool segmented = g->mode <= FUZZ_V86 || g->mode == FUZZ_PROT16;
    for (unsigned n = 0; n < 16; n++)
        v->gpr[n] = segmented && !one_in(r, 4) ? rnd(r) & 0xffff : fuzz_value(g, r);
    if (g->mode != FUZZ_LONG64)
        for (unsigned n = 0; n < 16; n++)
            v->gpr[n] &= 0xffffffff;
    v->gpr[RSP] = g->base + (segmented && v->seg[SEG_SS].base ? 0x800 : GPA_STACK + 0x800) -
                  rnd_below(r, 8) * (one_in(r, 8) ? 1 : 8);
    v->rip = code_offset(r) + (segmented ? 0 : g->base + GPA_CODE);
    v->rflags = FLAG_ONE | (rnd(r) & (FLAGS_ARITH | FLAG_IF | FLAG_IOPL | FLAG_ID |
                                      (one_in(r, 8) ? FLAG_DF | FLAG_AC | FLAG_NT | FLAG_RF : 0)));
    if (one_in(r, 16))
        v->rflags |= FLAG_TF;
    if (g->mode == FUZZ_V86)
        v->rflags |= FLAG_VM | (one_in(r, 8) ? rnd(r) & (FLAG_VIF | FLAG_VIP) : 0);
}

/* Where Linux has user memory. */
static u64 program_base(struct rng *r)
{
    static const u64 base[] = {0, 0x555555400000, 0x7ffff7000000, 0x7fffffe00000};
    return base[rnd_below(r, ARRAY_SIZE(base))];
}

void fuzz_state(struct fuzz_guest *g, struct rng *r)
{
    struct vcpu *v = g->v;
    memset(g->ram, 0, RAM_SIZE);
    g->mode = (enum fuzz_mode)rnd_below(r, FUZZ_MODES);
    g->base = 0;
    cpu_reset(v);
    control_registers(g, r);
    if (g->mode == FUZZ_LONG64)
        g->base =
            one_in(r, 2) ? 0 : (u64)((i64)(rnd(r) << 37) >> 16); /* a canonical multiple of 2 MiB */
    if (g->mode == FUZZ_LONG64 && g->programs)
        g->base = program_base(r);
    v->cpl = g->mode == FUZZ_V86 || (g->mode >= FUZZ_PROT32 && one_in(r, 2)) ? 3 : 0;
    g->user_handlers = v->cpl == 3 && one_in(r, 8);
    tables_and_tasks(g, r);
    fuzz_page_tables(g, r);
    if (g->mode <= FUZZ_V86)
        real_segments(g, r);
    else
        protected_segments(g, r);
    general_registers(g, r);
    if (g->user_handlers && one_in(r, 2)) { /* alignment checks, on their own stack too */
        v->cr0 |= CR0_AM;
        v->rflags |= FLAG_AC;
        v->gpr[RSP] |= rnd_below(r, 4);
    }
    debug_and_msrs(g, r);
    floating_point(g, r);
    for (u64 n = 0; n < 0x800; n += 8)
        put64(g, GPA_DATA + n, fuzz_value(g, r));
    for (u64 n = 0x800; n < 0xa00; n += 8)
        put64(g, GPA_STACK + n, fuzz_value(g, r));
    fuzz_program(r, g->ram + GPA_CODE, CODE_SIZE);
    if ((v->cr0 & CR0_PG) && (v->cr4 & CR4_PAE) && !(v->efer & EFER_LMA))
        walk_load_pdptes(v, v->cr3);
    cpu_update_mode(v);
    code_written(g->machine.mem, 0, RAM_SIZE);
}

void fuzz_state_peer(struct fuzz_guest *peer, struct rng *r)
{
    struct vcpu *v = peer->v, old = *v;
    *v = *peer->peer->v;
    v->id = old.id;
    v->machine = old.machine;
    v->tlb = old.tlb;
    v->irq = old.irq;
    v->irq_ctx = old.irq_ctx;
    v->engine_vcpu = old.engine_vcpu;
    v->native = old.native;
    v->ferr = old.ferr;
    peer->mode = peer->peer->mode;
    peer->base = peer->peer->base;
    general_registers(peer, r);
    cpu_update_mode(v);
}
