/*
 * Copies go by ranges of struct vcpu. A comparison first looks at the ranges as bytes; if these
 * differ, the table of registers decides, which leaves out padding and reserved bytes.
 */
#include "engine/lockstep/archstate.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

struct range {
    size_t from, size;
};

#define RANGE(first, last)                                                                         \
    {                                                                                              \
        offsetof(struct vcpu, first), offsetof(struct vcpu, last) +                                \
                                          sizeof(((struct vcpu *)0)->last) -                       \
                                          offsetof(struct vcpu, first)                             \
    }

static const struct range ranges[] = {
    RANGE(gpr, flat_stack),
    RANGE(cpl, nmi_blocked),
    RANGE(seg, fpu),
    RANGE(activity, pending_db),
};

static size_t total_size(void)
{
    size_t size = 0;
    for (unsigned n = 0; n < ARRAY_SIZE(ranges); n++)
        size += ranges[n].size;
    return size;
}

void arch_save(struct arch_state *s, const struct vcpu *v)
{
    u8 *to = s->bytes;
    assert(total_size() <= sizeof(s->bytes));
    for (unsigned n = 0; n < ARRAY_SIZE(ranges); to += ranges[n++].size)
        memcpy(to, (const u8 *)v + ranges[n].from, ranges[n].size);
}

void arch_load(struct vcpu *v, const struct arch_state *s)
{
    const u8 *from = s->bytes;
    for (unsigned n = 0; n < ARRAY_SIZE(ranges); from += ranges[n++].size)
        memcpy((u8 *)v + ranges[n].from, from, ranges[n].size);
}

/* --- registers --- */

/* `count` registers of `size` bytes each, `stride` bytes apart. */
struct reg {
    const char *name; /* with a # for the number if there are several */
    size_t at;
    unsigned size, count, stride;
};

#define SIZE_OF(f) sizeof(((struct vcpu *)0)->f)
#define ONE(name, f)                                                                               \
    {                                                                                              \
        name, offsetof(struct vcpu, f), SIZE_OF(f), 1, 0                                           \
    }
#define SOME(name, f, n, bytes)                                                                    \
    {                                                                                              \
        name, offsetof(struct vcpu, f), bytes, n, SIZE_OF(f[0])                                    \
    }
#define SEGMENT(name, f)                                                                           \
    ONE(name, f.sel), ONE(name ".base", f.base), ONE(name ".limit", f.limit),                      \
        ONE(name ".attr", f.attr)
#define TABLE(name, f) ONE(name ".base", f.base), ONE(name ".limit", f.limit)

static const struct reg general[] = {
    ONE("rax", gpr[RAX]), ONE("rcx", gpr[RCX]),  ONE("rdx", gpr[RDX]), ONE("rbx", gpr[RBX]),
    ONE("rsp", gpr[RSP]), ONE("rbp", gpr[RBP]),  ONE("rsi", gpr[RSI]), ONE("rdi", gpr[RDI]),
    ONE("r8", gpr[8]),    ONE("r9", gpr[9]),     ONE("r10", gpr[10]),  ONE("r11", gpr[11]),
    ONE("r12", gpr[12]),  ONE("r13", gpr[13]),   ONE("r14", gpr[14]),  ONE("r15", gpr[15]),
    ONE("rip", rip),      ONE("rflags", rflags), ONE("cpl", cpl),      ONE("mode", mode),
};

static const struct reg others[] = {
    SEGMENT("es", seg[SEG_ES]),
    SEGMENT("cs", seg[SEG_CS]),
    SEGMENT("ss", seg[SEG_SS]),
    SEGMENT("ds", seg[SEG_DS]),
    SEGMENT("fs", seg[SEG_FS]),
    SEGMENT("gs", seg[SEG_GS]),
    SEGMENT("ldtr", ldtr),
    SEGMENT("tr", tr),
    TABLE("gdtr", gdtr),
    TABLE("idtr", idtr),
    ONE("cr0", cr0),
    ONE("cr2", cr2),
    ONE("cr3", cr3),
    ONE("cr4", cr4),
    ONE("efer", efer),
    ONE("xcr0", xcr0),
    ONE("xss", xss),
    SOME("pdpte#", pdpte, 4, 8),
    SOME("dr#", dr, 8, 8),
    ONE("shadow", shadow),
    ONE("shadow_end", shadow_end),
    ONE("pending_db", pending_db),
    ONE("nmi_blocked", nmi_blocked),
    ONE("activity", activity),
    ONE("flat_stack", flat_stack),
    ONE("tlb_ctx", tlb_ctx),
    ONE("align_check", align_check),
    ONE("quick_segs", quick_segs),
    ONE("flat_segs", flat_segs),
    ONE("limited_segs", limited_segs),
    ONE("flat", flat),
    ONE("long_mode", long_mode),
    ONE("tsc_offset", tsc_offset),
    ONE("tsc_adjust", tsc_adjust),
    ONE("star", msr.star),
    ONE("lstar", msr.lstar),
    ONE("cstar", msr.cstar),
    ONE("fmask", msr.fmask),
    ONE("kernel_gs_base", msr.kernel_gs_base),
    ONE("sysenter_cs", msr.sysenter_cs),
    ONE("sysenter_esp", msr.sysenter_esp),
    ONE("sysenter_eip", msr.sysenter_eip),
    ONE("pat", msr.pat),
    ONE("mtrr_def_type", msr.mtrr_def_type),
    SOME("mtrr_fixed#", msr.mtrr_fixed, 11, 8),
    SOME("mtrr_base#", msr.mtrr_base, 8, 8),
    SOME("mtrr_mask#", msr.mtrr_mask, 8, 8),
    ONE("misc_enable", msr.misc_enable),
    ONE("tsc_aux", msr.tsc_aux),
    ONE("debugctl", msr.debugctl),
    ONE("feature_control", msr.feature_control),
    ONE("spec_ctrl", msr.spec_ctrl),
    ONE("kvm_system_time", msr.kvm_system_time),
    ONE("kvm_wall_clock", msr.kvm_wall_clock),
    ONE("bios_sign_id", msr.bios_sign_id),
    ONE("mcg_status", msr.mcg_status),
    ONE("mcg_ctl", msr.mcg_ctl),
    ONE("fcw", fpu.legacy.fcw),
    ONE("fsw", fpu.legacy.fsw),
    ONE("ftw", fpu.legacy.ftw_abridged),
    ONE("fop", fpu.legacy.fop),
    ONE("fip", fpu.legacy.fip),
    ONE("fdp", fpu.legacy.fdp),
    ONE("fip_sel", fpu.fip_sel),
    ONE("fdp_sel", fpu.fdp_sel),
    ONE("mxcsr", fpu.legacy.mxcsr),
    SOME("st#", fpu.legacy.st, 8, 10),
    SOME("xmm#", fpu.legacy.xmm, 16, 16),
    SOME("ymm#.high", fpu.ymm_hi, 16, 16),
};

struct regs {
    const struct reg *reg;
    unsigned count;
};

static const struct regs tables[] = {
    {general, ARRAY_SIZE(general)},
    {others, ARRAY_SIZE(others)},
};

static const u8 *reg_at(const struct vcpu *v, const struct reg *r, unsigned k)
{
    return (const u8 *)v + r->at + k * r->stride;
}

static void print_hex(FILE *f, const u8 *p, unsigned size)
{
    while (size)
        fprintf(f, "%02x", p[--size]);
}

static void print_difference(FILE *f, const struct vcpu *a, const struct vcpu *b,
                             const struct reg *r, unsigned k)
{
    const char *number = strchr(r->name, '#');
    char name[32];
    if (number)
        snprintf(name, sizeof(name), "%.*s%u%s", (int)(number - r->name), r->name, k, number + 1);
    else
        snprintf(name, sizeof(name), "%s", r->name);
    fprintf(f, "  %-16s ", name);
    print_hex(f, reg_at(a, r, k), r->size);
    fprintf(f, "  ");
    print_hex(f, reg_at(b, r, k), r->size);
    fprintf(f, "\n");
}

/* Counts the registers that differ, and prints them if f is not NULL. */
static unsigned differences(FILE *f, const struct vcpu *a, const struct vcpu *b)
{
    unsigned found = 0;
    for (const struct regs *t = tables; t < tables + ARRAY_SIZE(tables); t++)
        for (const struct reg *r = t->reg; r < t->reg + t->count; r++)
            for (unsigned k = 0; k < r->count; k++) {
                if (memcmp(reg_at(a, r, k), reg_at(b, r, k), r->size) == 0)
                    continue;
                found++;
                if (f)
                    print_difference(f, a, b, r, k);
            }
    return found;
}

static bool same_bytes(const struct vcpu *a, const struct vcpu *b)
{
    bool same = true;
    for (unsigned n = 0; n < ARRAY_SIZE(ranges); n++)
        same &= memcmp((const u8 *)a + ranges[n].from, (const u8 *)b + ranges[n].from,
                       ranges[n].size) == 0;
    return same;
}

bool arch_equal(struct vcpu *a, const struct vcpu *b)
{
    if (likely(same_bytes(a, b)))
        return true;
    if (differences(NULL, a, b))
        return false;
    for (unsigned n = 0; n < ARRAY_SIZE(ranges); n++)
        memcpy((u8 *)a + ranges[n].from, (const u8 *)b + ranges[n].from, ranges[n].size);
    return true;
}

void arch_print_differences(FILE *f, const struct vcpu *a, const struct vcpu *b)
{
    differences(f, a, b);
}

void arch_print(FILE *f, const struct vcpu *v)
{
    static const char names[6][3] = {"es", "cs", "ss", "ds", "fs", "gs"};
    for (unsigned n = 0; n < ARRAY_SIZE(general); n++) {
        fprintf(f, "  %-6s ", general[n].name);
        print_hex(f, reg_at(v, &general[n], 0), general[n].size);
        fprintf(f, n % 4 == 3 ? "\n" : " ");
    }
    for (unsigned n = 0; n < 6; n++)
        fprintf(f, "  %s %04x base %" PRIx64 " limit %x attr %x\n", names[n], v->seg[n].sel,
                v->seg[n].base, v->seg[n].limit, v->seg[n].attr);
    fprintf(f,
            "  cr0 %" PRIx64 " cr2 %" PRIx64 " cr3 %" PRIx64 " cr4 %" PRIx64 " efer %" PRIx64 "\n",
            v->cr0, v->cr2, v->cr3, v->cr4, v->efer);
}
