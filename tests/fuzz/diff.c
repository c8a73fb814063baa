/*
 * Equal states, and differences between them: one table of all that is in struct vcpu and that the
 * architecture defines.
 */
#include "diff.h"

#include "cpu/insn.h"
#include "mem/tlb.h"

/* --- page tables --- */

#define TOP       GPA_PAGES
#define DIRECTORY (GPA_PAGES + 2 * PAGE_SIZE)
#define TABLE     (GPA_PAGES + 3 * PAGE_SIZE)
#define ACCESSED  0x20ULL
#define DIRTY     0x40ULL

static void set_entry(struct fuzz_guest *g, u64 table, unsigned n, u64 value, bool wide)
{
    store_le(g->ram + table + n * (wide ? 8 : 4), value, wide ? 8 : 4);
}

static void fill(struct fuzz_guest *g, u64 table, u64 value, bool wide)
{
    for (unsigned n = 0; n < PAGE_SIZE / (wide ? 8u : 4u); n++)
        set_entry(g, table, n, value, wide);
}

/* Entries have A set beforehand: a CPU may set it for what it only might need. */
static u64 leaf(const struct fuzz_guest *g, struct rng *r, u64 page, u64 rights)
{
    u64 lin = page * PAGE_SIZE;
    if (lin >= VALID_WINDOW && page < VALID_WINDOW / PAGE_SIZE + VALID_WINDOW_PAGES)
        return (GPA_DATA + (page & 1) * PAGE_SIZE) | rights;
    if (lin == VALID_TABLE)
        return TABLE | ACCESSED | DIRTY | 3;
    if (lin >= RAM_SIZE)
        return 0;
    if (lin >= TOP && lin <= TABLE)
        return lin | (rights & ~2ULL);
    if (g->user_handlers && one_in(r, 32))
        return lin | (rights & ~2ULL);
    return lin | rights | (one_in(r, 2) ? DIRTY : 0);
}

void diff_page_tables(struct fuzz_guest *g, struct rng *r)
{
    struct vcpu *v = g->v;
    bool wide = v->cr4 & CR4_PAE, lma = v->efer & EFER_LMA;
    u64 rights = ACCESSED | 3;
    if (!(v->cr0 & CR0_PG))
        return;
    v->cr0 |= CR0_WP;
    v->cr4 &= ~(u64)CR4_PSE;
    if (v->cpl == 3 || !(v->cr4 & (CR4_SMEP | CR4_SMAP)))
        rights |= 4;
    memset(g->ram + TOP, 0, TABLE + PAGE_SIZE - TOP);
    fill(g, DIRECTORY, TABLE | ACCESSED | 7, wide);
    for (unsigned n = 0; n < PAGE_SIZE / (wide ? 8u : 4u); n++)
        set_entry(g, TABLE, n, leaf(g, r, n, rights), wide);
    if (lma) {
        fill(g, TOP, (TOP + PAGE_SIZE) | ACCESSED | 7, true);
        fill(g, TOP + PAGE_SIZE, DIRECTORY | ACCESSED | 7, true);
    } else if (wide) {
        for (unsigned n = 0; n < 4; n++)
            set_entry(g, TOP, n, DIRECTORY | 1, true);
    }
    v->cr3 = wide || lma ? TOP : DIRECTORY;
    if (wide && !lma)
        walk_load_pdptes(v, v->cr3);
    cpu_update_mode(v);
}

/* --- programs --- */

void diff_put_program(struct fuzz_guest *g, struct rng *r, const struct valid_program *p)
{
    struct vcpu *v = g->v;
    bool segmented = g->mode <= FUZZ_V86 || g->mode == FUZZ_PROT16;
    unsigned size = v->efer & EFER_LMA ? 16 : g->mode <= FUZZ_UNREAL ? 4 : 8;
    u64 idt = g->mode <= FUZZ_UNREAL ? 0 : GPA_IDT;
    memset(g->ram + GPA_CODE, 0xf4, CODE_SIZE);
    memcpy(g->ram + GPA_CODE, p->bytes, p->size);
    store_le(g->ram + VALID_FUEL, 20, 4);
    v->rip = segmented ? 0 : g->base + GPA_CODE;
    for (unsigned n = 0; n < 32; n++) {
        u64 to = p->start[one_in(r, 4) ? p->count - 1 : rnd_below(r, p->count)];
        store_le(g->ram + idt + n * size, g->mode <= FUZZ_UNREAL ? to : GPA_CODE + to, 2);
    }
}

/* --- comparison --- */

struct field {
    const char *name;
    unsigned offset, size, count;
};

#define FIELDS(name, member, n)                                                                    \
    {                                                                                              \
        name, offsetof(struct vcpu, member), sizeof(((struct vcpu *)0)->member), n                 \
    }
#define FIELD(member) FIELDS(#member, member, 1)
#define SEGMENT(name, member)                                                                      \
    FIELDS(name ".sel", member.sel, 1), FIELDS(name ".attr", member.attr, 1),                      \
        FIELDS(name ".limit", member.limit, 1), FIELDS(name ".base", member.base, 1)

static const struct field fields[] = {
    FIELD(cpl),
    FIELD(mode),
    FIELD(shadow),
    FIELD(nmi_blocked),
    FIELD(activity),
    FIELD(pending_db),
    SEGMENT("es", seg[SEG_ES]),
    SEGMENT("cs", seg[SEG_CS]),
    SEGMENT("ss", seg[SEG_SS]),
    SEGMENT("ds", seg[SEG_DS]),
    SEGMENT("fs", seg[SEG_FS]),
    SEGMENT("gs", seg[SEG_GS]),
    SEGMENT("ldtr", ldtr),
    SEGMENT("tr", tr),
    FIELD(gdtr.base),
    FIELD(gdtr.limit),
    FIELD(idtr.base),
    FIELD(idtr.limit),
    FIELD(cr0),
    FIELD(cr2),
    FIELD(cr3),
    FIELD(cr4),
    FIELD(efer),
    FIELD(xcr0),
    FIELD(lapic.tpr),
    FIELDS("dr", dr[0], 8),
    FIELDS("msr", msr.star, sizeof(struct msr_state) / 8),
    FIELD(fpu.legacy.fcw),
    FIELD(fpu.legacy.fsw),
    FIELD(fpu.legacy.ftw_abridged),
    FIELD(fpu.legacy.fop),
    FIELD(fpu.legacy.fip),
    FIELD(fpu.legacy.fdp),
    FIELD(fpu.fip_sel),
    FIELD(fpu.fdp_sel),
    FIELD(fpu.legacy.mxcsr),
};

static u64 field_value(const struct vcpu *v, const struct field *f, unsigned n)
{
    u64 value = 0;
    memcpy(&value, (const u8 *)v + f->offset + n * f->size, MIN(f->size, 8u));
    return value;
}

struct comparison {
    FILE *out;
    bool differ;
};

static void same(struct comparison *c, const char *name, unsigned n, u64 want, u64 got)
{
    if (want == got)
        return;
    c->differ = true;
    if (c->out)
        fprintf(c->out, "# %s[%u]: %llx by single steps, %llx by the engine\n", name, n,
                (unsigned long long)want, (unsigned long long)got);
}

static void same_bytes(struct comparison *c, const char *name, const u8 *want, const u8 *got,
                       unsigned size, unsigned unit)
{
    if (memcmp(want, got, size) == 0)
        return;
    unsigned shown = 0;
    for (unsigned n = 0; n < size / unit; n++) {
        if (memcmp(want + n * unit, got + n * unit, unit) == 0)
            continue;
        c->differ = true;
        if (!c->out || shown++ >= 8)
            return;
        fprintf(c->out, "# %s, %x: ", name, n * unit);
        for (unsigned k = 0; k < unit; k++)
            fprintf(c->out, "%02x", want[n * unit + k]);
        fprintf(c->out, " by single steps, ");
        for (unsigned k = 0; k < unit; k++)
            fprintf(c->out, "%02x", got[n * unit + k]);
        fprintf(c->out, " by the engine\n");
    }
}

static void compare_faults(struct comparison *c, const struct fault_log *want,
                           const struct fault_log *got)
{
    same(c, "faults", 0, want->count, got->count);
    for (unsigned n = 0; n < MIN(want->count, (unsigned)MAX_LOGGED); n++) {
        same(c, "fault vector", n, want->entry[n].vector, got->entry[n].vector);
        same(c, "fault error code", n, want->entry[n].error, got->entry[n].error);
        same(c, "fault cr2", n, want->entry[n].cr2, got->entry[n].cr2);
        same(c, "fault rip", n, want->entry[n].rip, got->entry[n].rip);
    }
}

/* The upper halves of registers are nobody's outside of 64-bit mode (SDM vol. 1, 3.4.1.1). */
static void compare_registers(struct comparison *c, const struct vcpu *want, const struct vcpu *got)
{
    static const char *const name[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                       "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    u64 mask = want->mode == MODE_LONG64 ? ~0ULL : 0xffffffff;
    same(c, "rip", 0, want->rip, got->rip);
    same(c, "rflags", 0, want->rflags, got->rflags);
    for (unsigned n = 0; n < 16; n++)
        same(c, name[n], 0, want->gpr[n] & mask, got->gpr[n] & mask);
    for (const struct field *f = fields; f < fields + ARRAY_SIZE(fields); f++)
        for (unsigned n = 0; n < f->count; n++)
            same(c, f->name, n, field_value(want, f, n), field_value(got, f, n));
    const struct fpu_state *w = &want->fpu, *g = &got->fpu;
    same_bytes(c, "xmm", w->legacy.xmm[0], g->legacy.xmm[0], sizeof(w->legacy.xmm), 16);
    same_bytes(c, "upper half of ymm", w->ymm_hi[0], g->ymm_hi[0], sizeof(w->ymm_hi), 16);
    for (unsigned n = 0; n < 8; n++)
        same_bytes(c, "st", w->legacy.st[n], g->legacy.st[n], 10, 10);
}

bool diff_compare(const struct side *want, const struct side *got, FILE *out)
{
    struct comparison c = {out, false};
    same(&c, "exit", 0, want->exit.kind, got->exit.kind);
    compare_faults(&c, &want->faults, &got->faults);
    compare_registers(&c, want->guest.v, got->guest.v);
    same(&c, "device accesses", 0, want->guest.accesses, got->guest.accesses);
    same_bytes(&c, "memory", want->guest.ram, got->guest.ram, RAM_SIZE, 8);
    return c.differ;
}

/* --- printing --- */

static unsigned print_insn(const struct fuzz_guest *g, u64 offset, FILE *out)
{
    const struct vcpu *v = g->v;
    const u8 *bytes = g->ram + GPA_CODE + offset;
    char text[96] = "?";
    struct insn i;
    bool ok = insn_decode(bytes, 15, v->mode, &i) == DECODE_OK;
    unsigned len = ok ? i.len : 1;
    if (ok)
        insn_format(&i, v->mode, offset, text, sizeof(text));
    fprintf(out, "#   %03llx:", (unsigned long long)offset);
    for (unsigned n = 0; n < len; n++)
        fprintf(out, " %02x", bytes[n]);
    fprintf(out, "%*s %s\n", 3 * (int)(15 - len), "", text);
    return len;
}

void diff_print_program(const struct fuzz_guest *g, const struct valid_program *p, FILE *out)
{
    const struct vcpu *v = g->v;
    u64 linear = v->mode == MODE_LONG64 ? v->rip : v->rip + v->seg[SEG_CS].base;
    u64 offset = linear - g->base - GPA_CODE, end = p ? p->size : MIN(offset + 300, CODE_SIZE);
    fprintf(out, "# mode %d, cpl %u, rip %llx, rflags %llx, cr0 %llx, cr4 %llx, efer %llx\n",
            v->mode, v->cpl, (unsigned long long)v->rip, (unsigned long long)v->rflags,
            (unsigned long long)v->cr0, (unsigned long long)v->cr4, (unsigned long long)v->efer);
    for (unsigned n = 0; n < 16; n++)
        fprintf(out, "%s%llx%s", n % 8 ? " " : "#   ", (unsigned long long)v->gpr[n],
                n % 8 == 7 ? "\n" : "");
    for (unsigned nops = 0; offset < end; offset++) {
        const u8 *bytes = g->ram + GPA_CODE + offset;
        bool nop = bytes[0] == 0x90 && bytes[1] == 0x90;
        nops = nop ? nops + 1 : 0;
        if (nops <= 1)
            offset += print_insn(g, offset, out) - 1;
    }
}
