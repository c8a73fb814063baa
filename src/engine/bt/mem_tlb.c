/*
 * Memory operands through the first-level TLB. The entry for an address is found by a shift and a
 * mask; its tag is compared with the page of the access's last byte, so an access that crosses a
 * page misses, too. A hit leaves one load, of what is to be added to the address. Where the address
 * is a constant, so are entry and tag, and nothing is left but the compare and the load.
 */
#include "engine/bt/mem_scheme.h"

/* With several vCPUs a store is followed by a look at the page's code mask (mem/codetrack.c): what
 * that needs is put away now. T1 is free, code_mask the entry's. */
static void remember_store(struct trans *t, const struct hmem *code_mask)
{
    struct hmem to = hmem_vcpu(BT_AT(code_mask));
    emit_load(&t->e, 8, H_T1, code_mask);
    emit_store(&t->e, 8, &to, H_T1);
    t->written = true;
}

static void remember_address(struct trans *t, unsigned lin)
{
    struct hmem stored = hmem_vcpu(BT_AT(stored_lin));
    emit_store(&t->e, 8, &stored, lin);
}

static bool is_watched_store(const struct trans *t, const struct request *r)
{
    return r->access & ACCESS_WRITE && t->bt->several;
}

static void load_addend(struct trans *t, const struct request *r, const struct hmem *addend)
{
    emit_load(&t->e, 8, H_T0, addend);
    keep_addend(t, r);
}

/* --- any address --- */

void emit_index(struct trans *t, unsigned lin, i64 low, unsigned bytes)
{
    struct emit *e = &t->e;
    struct hmem first = hmem_base(lin, low), last = hmem_base(lin, low + bytes - 1);
    if (last.disp)
        emit_lea(e, 8, H_T1, &last);
    else
        emit_mov_reg(e, 8, H_T1, lin);
    if (first.disp)
        emit_lea(e, t->wide ? 8 : 4, H_T0, &first);
    else if (lin != H_T0)
        emit_mov_reg(e, 4, H_T0, lin);
    emit_shift_imm(e, SHIFT_SHR, 8, H_T0, L1_SHIFT);
    emit_alu_imm(e, ALU_AND, 4, H_T0, L1_MASK);
    emit_alu_imm(e, ALU_AND, 8, H_T1, -(i32)PAGE_SIZE);
}

static bool tlb_fits(const struct trans *t, const struct request *r)
{
    (void)t, (void)r;
    return true;
}

static void tlb_access(struct trans *t, const struct request *r, struct hmem *m)
{
    struct emit *e = &t->e;
    const u8 *retry = e->p;
    unsigned lin = t->wide ? H_T0 : H_T2;
    emit_lin(t, &r->addr, lin, 0);
    if (is_watched_store(t, r))
        remember_address(t, lin);
    emit_index(t, lin, r->plan->low, checked_bytes(r));
    struct hmem tag = l1_at(t, H_T0, tag_of(t, checks_write(r)));
    emit_alu_load(e, ALU_CMP, 8, H_T1, &tag);
    emit_miss(t, retry, r, 5, NO_SPAN);
    if (is_watched_store(t, r)) {
        struct hmem mask = l1_at(t, H_T0, offsetof(struct tlb_entry, code_mask));
        remember_store(t, &mask);
    }
    struct hmem addend = l1_at(t, H_T0, offsetof(struct tlb_entry, addend));
    load_addend(t, r, &addend);
    host_operand(t, &r->addr, true, m);
}

const struct mem_scheme mem_tlb = {tlb_fits, tlb_access};

/* --- a constant address --- */

static u64 constant_lin(const struct trans *t, const struct request *r)
{
    u64 lin = (u64)r->addr.disp;
    return t->wide && r->addr.size == 8 ? lin : (u32)lin;
}

/* The code may be found at another address, and be cloned then (clone.c). */
static bool rip_moves(const struct trans *t, const struct addr *a)
{
    return a->rip && !is_kernel_half(t->f->rip);
}

static bool constant_fits(const struct trans *t, const struct request *r)
{
    const struct addr *a = &r->addr;
    u64 first = constant_lin(t, r) + (u64)(i64)r->plan->low, last = first + checked_bytes(r) - 1;
    if (rip_moves(t, a) || a->operand)
        return false;
    return a->base == REG_NONE && a->index == REG_NONE && !seg_has_base(t, a->seg) &&
           a->size >= 4 && (first & PAGE_MASK) == (last & PAGE_MASK) &&
           (t->wide || last <= 0xffffffff);
}

/* Compares the tag of the address's entry. */
static void compare_tag(struct trans *t, const struct request *r, u64 page, size_t index)
{
    struct hmem tag = l1_field(t, index, tag_of(t, checks_write(r)));
    if (fits32((i64)page)) {
        emit_alu_mem_imm(&t->e, ALU_CMP, 8, &tag, (i32)page);
        return;
    }
    emit_mov_imm(&t->e, H_T1, page);
    emit_alu_load(&t->e, ALU_CMP, 8, H_T1, &tag);
}

static void constant_access(struct trans *t, const struct request *r, struct hmem *m)
{
    u64 lin = constant_lin(t, r), page = (lin + (u64)(i64)r->plan->low) & PAGE_MASK;
    size_t index = page >> PAGE_SHIFT & (TUNE_TLB_L1_ENTRIES - 1);
    const u8 *retry = t->e.p;
    compare_tag(t, r, page, index);
    emit_miss(t, retry, r, 5, NO_SPAN);
    if (is_watched_store(t, r)) {
        struct hmem mask = l1_field(t, index, offsetof(struct tlb_entry, code_mask));
        emit_mov_imm(&t->e, H_T1, lin);
        remember_address(t, H_T1);
        remember_store(t, &mask);
    }
    struct hmem addend = l1_field(t, index, offsetof(struct tlb_entry, addend));
    load_addend(t, r, &addend);
    if (fits32((i64)lin)) {
        *m = hmem_base(H_T0, (i64)lin);
        return;
    }
    emit_mov_imm(&t->e, H_T1, lin);
    *m = hmem_sum(H_T0, H_T1, 0);
}

const struct mem_scheme mem_constant = {constant_fits, constant_access};
