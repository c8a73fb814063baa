/*
 * Host code, shared by all fragments, for REP MOVS and STOS over more than a page: it looks up each
 * page in the first-level TLB, runs the host's own instruction there, and looks for events before
 * it goes on. Guest registers are committed after each page, so that it can hand over to bt_slow()
 * at any of them, for all that C has to do.
 *
 * A fragment comes here with rDI and rSI as linear addresses (segments without a base), an image of
 * the flags in RAX, the number of its site in T0 and the address to come back to in T1. It gets
 * RAX as it was; T0, T1 and the host's flags are lost.
 */
#include "engine/bt/tcache.h"

enum { MOVS, STOS };

#define CODE_MOVS 0xa4
#define CODE_STOS 0xaa

/* What is not in the thunk's way: saved where bt_slow() wants guest registers anyway. */
static const u8 borrowed[] = {RBX, RBP, RDX};
#define H_REST    RBX /* elements behind this page */
#define H_CONTEXT RBP /* offset of the current context's part of the TLB */
#define H_COUNT   RDX /* elements in this page */

struct repeat_thunk {
    struct emit *e;
    bool wide, several;
    unsigned op, shift; /* elements are of 1 << shift bytes */
    u8 *slow[8];        /* jumps to the way to C */
    unsigned slows;
};

static void slow_if(struct repeat_thunk *r, unsigned cc)
{
    assert(r->slows < ARRAY_SIZE(r->slow));
    r->slow[r->slows++] = emit_jcc(r->e, cc, NULL);
}

static void move_borrowed(struct emit *e, bool back)
{
    for (unsigned n = 0; n < ARRAY_SIZE(borrowed); n++) {
        struct hmem home = hmem_vcpu(VCPU_AT(gpr) + 8 * borrowed[n]);
        if (back)
            emit_load(e, 8, borrowed[n], &home);
        else
            emit_store(e, 8, &home, borrowed[n]);
    }
}

static void begin(struct repeat_thunk *r)
{
    struct emit *e = r->e;
    struct hmem image = hmem_vcpu(BT_AT(image)), site = hmem_vcpu(BT_AT(site)),
                back = hmem_vcpu(BT_AT(scratch)), ctx = hmem_vcpu(VCPU_AT(tlb_ctx)),
                flags = hmem_vcpu(VCPU_AT(rflags) + 1);
    struct opcode test = {.size = 1, .code = 0xf6};
    emit_store(e, 8, &image, H_FLAGS);
    emit_store(e, 8, &site, H_T0);
    emit_store(e, 8, &back, H_T1);
    move_borrowed(e, false);
    emit_op_mem(e, &test, 0, &flags);
    emit8(e, FLAG_DF >> 8);
    slow_if(r, 5);
    emit_load_zx(e, sizeof(((struct vcpu *)0)->tlb_ctx), H_CONTEXT, &ctx);
    _Static_assert((TUNE_TLB_L1_ENTRIES & (TUNE_TLB_L1_ENTRIES - 1)) == 0, "for the shift");
    emit_shift_imm(e, SHIFT_SHL, 4, H_CONTEXT,
                   (unsigned)__builtin_ctz(TUNE_TLB_L1_ENTRIES) + TLB_ENTRY_SHIFT);
}

static void in_page(struct emit *e, unsigned dst, unsigned address)
{
    emit_mov_reg(e, 4, dst, address);
    emit_alu_imm(e, ALU_AND, 4, dst, PAGE_SIZE - 1);
}

/* dst = b, if the unsigned comparison of dst with b has found cc. */
static void move_if(struct emit *e, unsigned size, unsigned cc, unsigned dst, unsigned b)
{
    struct opcode cmov = {.size = (u8)size, .map = MAP_0F, .code = (u8)(0x40 | cc)};
    emit_alu_reg(e, ALU_CMP, size, dst, b);
    emit_op_reg(e, &cmov, dst, b);
}

/* H_COUNT = elements before the end of a page. To C if the first one crosses it. */
static void count_in_page(struct repeat_thunk *r)
{
    struct emit *e = r->e;
    in_page(e, RAX, RDI);
    if (r->op == MOVS) {
        in_page(e, H_COUNT, RSI);
        move_if(e, 4, 2, RAX, H_COUNT);
    }
    emit_mov_imm(e, H_COUNT, PAGE_SIZE);
    emit_alu_reg(e, ALU_SUB, 4, H_COUNT, RAX);
    if (r->shift) {
        emit_shift_imm(e, SHIFT_SHR, 4, H_COUNT, r->shift);
        slow_if(r, 4);
    }
    move_if(e, 8, 7, H_COUNT, RCX);
}

static struct hmem entry_at(size_t field)
{
    struct hmem m = hmem_vcpu(VCPU_AT(l1) + field);
    m.base = RAX;
    m.index = H_CONTEXT;
    return m;
}

/* addend = host minus linear address of the page at `address`. */
static void look_up(struct repeat_thunk *r, unsigned address, size_t tag, unsigned addend)
{
    struct emit *e = r->e;
    struct hmem page = entry_at(tag), from = entry_at(offsetof(struct tlb_entry, addend));
    emit_mov_reg(e, 4, RAX, address);
    emit_shift_imm(e, SHIFT_SHR, 4, RAX, L1_SHIFT);
    emit_alu_imm(e, ALU_AND, 4, RAX, L1_MASK);
    emit_mov_reg(e, 8, addend, address);
    emit_alu_imm(e, ALU_AND, 8, addend, -(i32)PAGE_SIZE);
    emit_alu_load(e, ALU_CMP, 8, addend, &page);
    slow_if(r, 5);
    if (address == RDI && r->several) {
        struct hmem mask = entry_at(offsetof(struct tlb_entry, code_mask)),
                    kept = hmem_vcpu(BT_AT(code_mask)), word = hmem_base(addend, 0);
        emit_load(e, 8, addend, &mask);
        emit_alu_mem_imm(e, ALU_CMP, 8, &word, 0);
        slow_if(r, 5);
        emit_store(e, 8, &kept, addend);
    }
    emit_load(e, 8, addend, &from);
}

static void run_page(struct repeat_thunk *r)
{
    struct emit *e = r->e;
    unsigned size = r->wide ? 8 : 4;
    emit_mov_reg(e, 8, H_REST, RCX);
    emit_alu_reg(e, ALU_SUB, 8, H_REST, H_COUNT);
    emit_mov_reg(e, 4, RCX, H_COUNT);
    emit_alu_reg(e, ALU_ADD, 8, RDI, H_T1);
    if (r->op == MOVS)
        emit_alu_reg(e, ALU_ADD, 8, RSI, H_T0);
    else
        emit_mov_reg(e, 8, RAX, H_RAX);
    emit_rep(e, r->op == MOVS ? CODE_MOVS : CODE_STOS, 1u << r->shift);
    emit_alu_reg(e, ALU_SUB, size, RDI, H_T1);
    if (r->op == MOVS)
        emit_alu_reg(e, ALU_SUB, size, RSI, H_T0);
    emit_mov_reg(e, 8, RCX, H_REST);
}

/* With several vCPUs: code may have been found in the page meanwhile. */
static u8 *look_at_stores(struct repeat_thunk *r)
{
    struct hmem mask = hmem_vcpu(BT_AT(code_mask)), word = hmem_base(H_T0, 0);
    emit_load(r->e, 8, H_T0, &mask);
    emit_alu_mem_imm(r->e, ALU_CMP, 8, &word, 0);
    return emit_jcc(r->e, 5, NULL);
}

static void emit_ways_out(struct repeat_thunk *r, const u8 *slow, u8 *done, u8 *written)
{
    struct emit *e = r->e;
    struct hmem image = hmem_vcpu(BT_AT(image)), site = hmem_vcpu(BT_AT(site)),
                back = hmem_vcpu(BT_AT(scratch));
    u8 *to_slow = NULL;
    if (written) {
        emit_patch(written, e->p);
        emit_mov_reg(e, 4, H_T1, H_COUNT);
        emit_shift_imm(e, SHIFT_SHL, 4, H_T1, r->shift);
        to_slow = emit_jmp(e, NULL);
    }
    for (unsigned n = 0; n < r->slows; n++)
        emit_patch(r->slow[n], e->p);
    emit_mov_imm(e, H_T1, 0);
    if (to_slow)
        emit_patch(to_slow, e->p);
    move_borrowed(e, true);
    emit_load(e, 8, H_T0, &site);
    emit_load(e, 8, H_FLAGS, &image);
    emit_jmp(e, slow);
    emit_patch(done, e->p);
    move_borrowed(e, true);
    emit_load(e, 8, H_FLAGS, &image);
    emit_jmp_mem(e, &back);
}

static void emit_repeat(struct repeat_thunk *r, const u8 *slow)
{
    struct emit *e = r->e;
    struct hmem poll = hmem_vcpu(BT_AT(poll));
    struct opcode test = {.size = 8, .code = 0x85};
    size_t store_tag =
        r->several ? offsetof(struct tlb_entry, write_any) : offsetof(struct tlb_entry, write);
    u8 *written = NULL;
    begin(r);
    const u8 *loop = e->p;
    emit_op_reg(e, &test, RCX, RCX);
    u8 *done = emit_jcc(e, 4, NULL);
    emit_alu_mem_imm(e, ALU_CMP, 8, &poll, BT_POLL_TRAP);
    slow_if(r, 4);
    count_in_page(r);
    if (r->op == MOVS)
        look_up(r, RSI, offsetof(struct tlb_entry, read), H_T0);
    look_up(r, RDI, store_tag, H_T1);
    run_page(r);
    if (r->several)
        written = look_at_stores(r);
    emit_jmp(e, loop);
    emit_ways_out(r, slow, done, written);
}

void thunks_emit_repeat(struct tcache *tc, struct thunks *t)
{
    struct emit e = {.p = tc->next, .end = tc->rw + tc->size};
    for (unsigned n = 0; n < 2 * 2 * 4; n++) {
        struct repeat_thunk r = {
            .e = &e, .several = tc->several, .wide = n >> 3, .op = n >> 2 & 1, .shift = n & 3};
        emit_align(&e, 64, 0);
        t->repeat[r.wide][r.op][r.shift] = e.p;
        emit_repeat(&r, t->slow[r.wide]);
    }
    tc->next = e.p;
}
