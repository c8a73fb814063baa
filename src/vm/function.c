/*
 * Puts a function in a tiny machine whose memory is flat: real mode with all segments at 0, 32-bit
 * protected mode without paging, or 64-bit mode with pages that map each address to itself. It
 * returns to a HLT. There are no interrupt handlers, so an exception shuts the machine down.
 */
#include "vm/function.h"

#include <errno.h>
#include <inttypes.h>

#include "base/tunables.h"
#include "cpu/fault.h"
#include "mem/guestmem.h"
#include "vm/tiny.h"

/* Below FUNCTION_LOW; 16-bit code has to leave the first pages alone. */
#define PML4     0x2000
#define PDPT     0x3000
#define PD       0x4000
#define STACK_16 0xfff0
#define LOW_16   0x5000

#define OPC_HLT 0xf4

/* Page table entries (SDM vol. 3, 4.5.4): present and writable; accessed, dirty, 2 MiB. */
#define TABLE   0x03
#define PAGE_2M 0xe3

/* --- the machine --- */

static int load(struct tiny_guest *g, const struct function *fn, struct error *err)
{
    u64 low = fn->mode == 16 ? LOW_16 : FUNCTION_LOW;
    u64 top = fn->mode == 16 ? STACK_16 : FUNCTION_RAM;
    for (unsigned n = 0; n < fn->pieces; n++) {
        const struct code_piece *p = &fn->piece[n];
        if (p->addr < low || p->addr >= top || p->size > top - p->addr)
            return error_set(err, EINVAL,
                             "code at 0x%" PRIx64 " (0x%zx bytes) does not fit between 0x%" PRIx64
                             " and 0x%" PRIx64,
                             p->addr, p->size, low, top);
        guestmem_write(g->machine.mem, p->addr, p->bytes, p->size);
    }
    const u8 hlt = OPC_HLT;
    guestmem_write(g->machine.mem, FUNCTION_RETURN, &hlt, 1);
    return 0;
}

static void make_page_tables(struct guest_mem *gm)
{
    u8 *ram = guestmem_ram(gm);
    store_le(ram + PML4, PDPT | TABLE, 8);
    store_le(ram + PDPT, PD | TABLE, 8);
    for (u64 n = 0; n < FUNCTION_RAM / (2 * MIB); n++)
        store_le(ram + PD + 8 * n, n * 2 * MIB | PAGE_2M, 8);
}

static void set_flat(struct vcpu *v, bool wide)
{
    const u32 common = SEG_P | SEG_S | SEG_ACCESSED | SEG_G;
    for (unsigned s = 0; s < ARRAY_SIZE(v->seg); s++)
        v->seg[s] = (struct segment){
            .sel = 0x10, .attr = common | SEG_WRITABLE | SEG_DB, .limit = 0xffffffff};
    v->seg[SEG_CS].sel = 0x08;
    v->seg[SEG_CS].attr = common | SEG_CODE | SEG_READABLE | (wide ? SEG_L : SEG_DB);
}

static void set_mode(struct tiny_guest *g, unsigned mode)
{
    struct vcpu *v = g->v;
    v->seg[SEG_CS].sel = 0;
    v->seg[SEG_CS].base = 0;
    v->idtr.limit = 0;
    if (mode != 16) {
        v->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP;
        v->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
        set_flat(v, mode == 64);
    }
    if (mode == 64) {
        make_page_tables(g->machine.mem);
        v->cr0 |= CR0_PG | CR0_WP;
        v->cr4 |= CR4_PAE;
        v->cr3 = PML4;
        v->efer = EFER_LME | EFER_LMA;
    }
    if (mode != 16 && g->model.xcr0_mask & XCR0_AVX) {
        v->cr4 |= CR4_OSXSAVE;
        v->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    }
    cpu_update_mode(v);
}

static int make(struct tiny_guest *g, const struct function *fn, struct bt_dump *dump,
                struct error *err)
{
    int rc = tiny_create(g, &engine_bt, FUNCTION_RAM, err);
    if (rc == 0)
        rc = load(g, fn, err);
    if (rc < 0)
        return rc;
    set_mode(g, fn->mode);
    rc = tiny_start(g, err);
    if (rc == 0)
        bt_dump_to(g->engine, dump);
    return rc;
}

/* --- without running --- */

static bool is_translated(const struct bt_dump *d, u64 rip)
{
    for (unsigned n = 0; n < d->count; n++)
        if (d->tu[n].rip == rip)
            return true;
    return false;
}

static void translate_at(struct tiny_guest *g, const struct function *fn,
                         const struct bt_dump *dump, u64 rip)
{
    if (rip >= fn->entry && rip < fn->end && !is_translated(dump, rip))
        bt_dump_at(g->engine, g->v, rip);
}

/* Does code go on behind it? */
static bool comes_back(const struct insn *i)
{
    return i->cls == CLASS_CALL || i->op == OP_CALL_IND || i->cls == CLASS_IO ||
           i->cls == CLASS_SYSTEM || i->cls == CLASS_STRING;
}

/* A TU's exits, and what follows it, are looked at in the order in which they were translated. */
static void translate_all(struct tiny_guest *g, const struct function *fn, struct bt_dump *dump)
{
    translate_at(g, fn, dump, fn->entry);
    for (unsigned n = 0; n < dump->count; n++) {
        for (unsigned x = 0; x < dump->tu[n].exits; x++)
            translate_at(g, fn, dump, dump->tu[n].exit[x].rip);
        if (!dump->tu[n].insns)
            continue;
        const struct dump_insn *last = &dump->tu[n].insn[dump->tu[n].insns - 1];
        if (comes_back(&last->insn))
            translate_at(g, fn, dump, last->rip + last->insn.len);
    }
}

static int check_dump(const struct bt_dump *dump, struct error *err)
{
    if (dump->failed)
        return error_set(err, ENOMEM, "no memory to keep the translations");
    if (!dump->count)
        return error_set(err, EINVAL, "there is no code that can be translated");
    return 0;
}

int vm_translate_function(const struct function *fn, struct bt_dump *dump, struct error *err)
{
    struct tiny_guest g;
    int rc = make(&g, fn, dump, err);
    if (rc == 0) {
        translate_all(&g, fn, dump);
        rc = check_dump(dump, err);
    }
    tiny_destroy(&g);
    return rc;
}

/* --- running --- */

static void push(struct tiny_guest *g, unsigned size, u64 value)
{
    g->v->gpr[RSP] -= size;
    store_le(guestmem_ram(g->machine.mem) + g->v->gpr[RSP], value, size);
}

static void pass_args(struct tiny_guest *g, const struct function *fn, const struct call *call)
{
    static const u8 in_register[FUNCTION_ARGS] = {RDI, RSI, RDX, RCX, R8, R9};
    unsigned size = fn->mode / 8;
    /* RSP + 8 is a multiple of 16 at the function's entry. */
    g->v->gpr[RSP] = fn->mode == 16 ? STACK_16 : FUNCTION_RAM - 64;
    for (unsigned n = call->args; n--;) {
        if (fn->mode == 64)
            g->v->gpr[in_register[n]] = call->arg[n];
        else
            push(g, size, call->arg[n]);
    }
    push(g, size, FUNCTION_RETURN);
    g->v->rip = fn->entry;
}

static int call_result(const struct tiny_guest *g, const struct function *fn,
                       const struct vm_exit *exit, struct call *call, struct error *err)
{
    const struct vcpu *v = g->v;
    if (exit->kind == EXIT_KICKED)
        return error_set(err, EFAULT, "the function did not return within %g s",
                         TUNE_FUNCTION_MS / 1e3);
    if (exit->kind != EXIT_HALT || v->rip != FUNCTION_RETURN + 1)
        return error_set(err, EFAULT, "the function did not return: %s at 0x%" PRIx64 "%s%s",
                         exit->kind == EXIT_SHUTDOWN ? "an exception" : "it stopped", v->rip,
                         exit->text[0] ? ": " : "", exit->text);
    call->result = v->gpr[RAX] & size_mask(fn->mode / 8);
    return 0;
}

int vm_call_function(const struct function *fn, struct call *call, struct bt_dump *dump,
                     struct error *err)
{
    struct tiny_guest g;
    struct vm_exit exit;
    int rc = make(&g, fn, dump, err);
    if (rc == 0) {
        pass_args(&g, fn, call);
        rc = tiny_run(&g, TUNE_FUNCTION_MS, &exit, err);
    }
    if (rc == 0)
        rc = check_dump(dump, err);
    if (rc == 0)
        rc = call_result(&g, fn, &exit, call, err);
    tiny_destroy(&g);
    return rc;
}
