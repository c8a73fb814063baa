/*
 * Schemes by which a memory access of translated code is let through. Each is a small table of
 * functions; mem.c takes the first that fits the access. All leave in *m the host's operand, made
 * of T0 and perhaps T1, T2 and guest registers, and all check the address that they use, or leave
 * that to the host (the mirror).
 */
#ifndef RINGER_ENGINE_BT_MEM_SCHEME_H
#define RINGER_ENGINE_BT_MEM_SCHEME_H

#include "engine/bt/trans.h"

/* What a linear address is made of. */
struct addr {
    unsigned base, index; /* guest registers or REG_NONE */
    unsigned scale;
    i64 disp;
    unsigned seg;
    unsigned size; /* address size in bytes */
    bool rip;      /* RIP is in disp */
    bool operand;  /* bt_cpu.operand is added, too */
};

/* An access as it is emitted: alone, or the first of its group, which checks all of the stretch. */
struct request {
    struct addr addr;
    enum access access;
    unsigned size;
    u8 cold_base; /* register of mem_access_at, or REG_NONE */
    struct plan *plan;
};

struct mem_scheme {
    bool (*fits)(const struct trans *t, const struct request *r);
    /* The host's flags may be overwritten. */
    void (*access)(struct trans *t, const struct request *r, struct hmem *m);
};

extern const struct mem_scheme mem_mirror;   /* mem_mirror.c: it goes there by itself */
extern const struct mem_scheme mem_constant; /* mem_tlb.c: the TLB entry is known */
extern const struct mem_scheme mem_stack;    /* mem_stack.c: where the stack was the last time */
extern const struct mem_scheme mem_span;     /* mem_span.c: where it went the last time */
extern const struct mem_scheme mem_tlb;      /* mem_tlb.c: fits all */

/* --- mem.c --- */

/* dst = linear address + extra; may overwrite the host's flags. */
void emit_lin(struct trans *t, const struct addr *a, unsigned dst, i64 extra);
/* A jump with condition cc to cold code for a miss of the access; retry: where its check begins. */
void emit_miss(struct trans *t, const u8 *retry, const struct request *r, unsigned cc, u32 span);
/* The same, whose branch is still to be made; index of its cold code. */
unsigned new_miss(struct trans *t, const u8 *retry, const struct request *r, u32 span);
/* mem_tlb.c: T0 = offset of the TLB entry of lin + low, T1 = page of the last of `bytes` bytes from
 * there. */
void emit_index(struct trans *t, unsigned lin, i64 low, unsigned bytes);
/* T1 = linear address of the first byte that is checked. Outside of 64-bit code T2 = that of the
 * access. */
void emit_first(struct trans *t, const struct request *r);
/* T0, host minus linear address, goes to the slot where the rest of the group finds it. */
void keep_addend(struct trans *t, const struct request *r);
/* T0 is host minus linear address, which the rest of the group finds at this offset from GS. */
void hold_slot(struct trans *t, const struct request *r, size_t addend);
/* The operand, once T0 is host minus linear address. lin: outside of 64-bit code, T2 is the linear
 * address already. */
void host_operand(struct trans *t, const struct addr *a, bool lin, struct hmem *m);
bool seg_has_base(const struct trans *t, unsigned seg);

static inline bool fits32(i64 v)
{
    return v == (i32)v;
}

static inline bool homed(unsigned guest)
{
    return guest < 16 && host_reg(guest) == H_NONE;
}

static inline unsigned checked_bytes(const struct request *r)
{
    return r->plan->role == PLAN_LEADER ? r->plan->length : r->size;
}

static inline bool checks_write(const struct request *r)
{
    return r->access & ACCESS_WRITE || r->plan->write;
}

/* Is the address one host register + a displacement, so that the operand needs no temporary but
 * T0? */
static inline bool simple(const struct trans *t, const struct addr *a)
{
    return t->wide && a->size == 8 && a->index == REG_NONE && a->base != REG_NONE &&
           !homed(a->base) && !a->operand && !seg_has_base(t, a->seg) && fits32(a->disp + 64);
}

/* A field of the first-level TLB entry at this index, of the TU's context. */
static inline struct hmem l1_field(const struct trans *t, size_t index, size_t field)
{
    return hmem_vcpu(VCPU_AT(l1) + field +
                     (t->key.ctx * TUNE_TLB_L1_ENTRIES + index) * sizeof(struct tlb_entry));
}

/* The same where index_reg has the entry's offset (L1_SHIFT, L1_MASK). */
static inline struct hmem l1_at(const struct trans *t, unsigned index_reg, size_t field)
{
    struct hmem m = l1_field(t, 0, field);
    m.base = (u8)index_reg;
    return m;
}

/* The tag that a read, or a write, compares with. */
static inline size_t tag_of(const struct trans *t, bool write)
{
    if (!write)
        return offsetof(struct tlb_entry, read);
    return t->bt->several ? offsetof(struct tlb_entry, write_any)
                          : offsetof(struct tlb_entry, write);
}

#endif
