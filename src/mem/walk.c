/*
 * Page walks (SDM vol. 3, chapter 4) in three formats that differ only in numbers: 32-bit with two
 * levels, PAE with two levels below the cached PDPTEs, 4-level. A walk first collects the entries
 * on its way and the rights that they add up to, then checks the rights, then sets accessed and
 * dirty bits by compare-and-swap in guest RAM. If an entry changed meanwhile, all starts over.
 */
#include "mem/tlb.h"

#include "cpu/model.h"
#include "mem/access.h"
#include "mem/journal.h"

#define PTE_P    BIT(0)
#define PTE_W    BIT(1)
#define PTE_U    BIT(2)
#define PTE_A    BIT(5)
#define PTE_D    BIT(6)
#define PTE_PS   BIT(7)
#define PTE_G    BIT(8)
#define PTE_NX   BIT(63)
#define PTE_ADDR 0x000ffffffffff000ULL

#define SHIFT_UNPAGED 32 /* walk_result.shift without paging */

/* PDPTE bits that must be 0 beside the address bits past MAXPHYADDR (SDM vol. 3, 4.4.1). */
#define PDPTE_RESERVED 0x1e6ULL

enum walk_status { WALK_OK, WALK_NOT_PRESENT, WALK_RESERVED };

struct walker {
    struct vcpu *v;
    struct guest_mem *mem;
    bool pae; /* 8-byte entries */
    bool long_mode;
    unsigned entry_size; /* bytes */
    unsigned index_bits;
    unsigned levels;
    unsigned phys_bits;
    u64 reserved; /* in every entry */
    u64 table;    /* the top one */
    struct {
        u64 gpa, value;
    } entry[4]; /* as they were read, top first */
    unsigned depth;
};

static const struct cpu_model *model_of(const struct vcpu *v)
{
    return v->machine ? v->machine->model : NULL;
}

/* MAXPHYADDR; 40 for a machine without a CPU model. */
static unsigned phys_bits(const struct vcpu *v)
{
    const struct cpu_model *m = model_of(v);
    return m ? m->phys_bits : 40;
}

static bool has_1g_pages(const struct vcpu *v)
{
    const struct cpu_model *m = model_of(v);
    return !m || cpu_has(m, FEAT_PDPE1GB);
}

static void walker_init(struct walker *w, struct vcpu *v)
{
    w->v = v;
    w->mem = v->machine->mem;
    w->pae = (v->cr4 & CR4_PAE) != 0;
    w->long_mode = (v->efer & EFER_LMA) != 0;
    w->phys_bits = phys_bits(v);
    w->levels = w->long_mode ? 4 : 2;
    w->entry_size = w->pae ? 8 : 4;
    w->index_bits = w->pae ? 9 : 10;
    w->reserved = 0;
    if (w->pae) {
        w->reserved = bits(~0ULL, w->long_mode ? 51 : 62, 0) & ~(BIT(w->phys_bits) - 1);
        if (!(v->efer & EFER_NXE))
            w->reserved |= PTE_NX;
    }
    w->table = v->cr3 & (w->long_mode ? PTE_ADDR : 0xfffff000);
}

/* What is not RAM or ROM reads as all ones, as from a bus where nobody answers. */
static u64 read_entry(const struct walker *w, u64 gpa)
{
    const void *p = guestmem_hva(w->mem, gpa, w->entry_size, false);
    return p ? ram_load(p, w->entry_size) : size_mask(w->entry_size);
}

/* Does entry e at `level` (0: page table) map a page rather than a table? */
static bool is_leaf(const struct walker *w, unsigned level, u64 e)
{
    if (level == 0)
        return true;
    if (!(e & PTE_PS) || level == 3)
        return false;
    return w->pae || (w->v->cr4 & CR4_PSE);
}

/* Physical address bits that a 4 MiB page takes from 20:13 of its entry (PSE-36). */
static unsigned pse36_bits(const struct walker *w)
{
    return MIN(w->phys_bits, 40) - 32;
}

static u64 reserved_bits(const struct walker *w, unsigned level, unsigned shift, u64 e)
{
    if (!w->pae)
        return level == 1 && is_leaf(w, level, e)
                   ? bits(~0ULL, 21, 0) & ~(BIT(13 + pse36_bits(w)) - 1)
                   : 0;
    if (level == 0 || !(e & PTE_PS))
        return w->reserved;
    if (level == 3 || (level == 2 && !has_1g_pages(w->v)))
        return w->reserved | PTE_PS;
    return w->reserved | (BIT(shift) - BIT(13)); /* bit 12 is PAT */
}

static u64 page_base(const struct walker *w, unsigned shift, u64 e)
{
    if (w->pae)
        return e & PTE_ADDR & ~(BIT(shift) - 1);
    if (shift == 22)
        return (e & 0xffc00000) | bits(e, 12 + pse36_bits(w), 13) << 32;
    return e & 0xfffff000;
}

/* One level down: reads the entry for lin and adds its rights to r. */
static enum walk_status walk_level(struct walker *w, u64 lin, unsigned level, u64 table,
                                   struct walk_result *r)
{
    unsigned shift = PAGE_SHIFT + level * w->index_bits;
    u64 index = (lin >> shift) & (BIT(w->index_bits) - 1);
    u64 gpa = (table + index * w->entry_size) & guestmem_a20_mask(w->mem);
    u64 e = read_entry(w, gpa);
    w->entry[w->depth].gpa = gpa;
    w->entry[w->depth++].value = e;
    if (!(e & PTE_P))
        return WALK_NOT_PRESENT;
    if (e & reserved_bits(w, level, shift, e))
        return WALK_RESERVED;
    r->user &= (e & PTE_U) != 0;
    r->writable &= (e & PTE_W) != 0;
    r->nx |= w->pae && (e & PTE_NX);
    r->shift = shift;
    return WALK_OK;
}

/* Finds the page without checks of rights and without side effects. */
static enum walk_status walk_find(struct walker *w, u64 lin, struct walk_result *r)
{
    *r = (struct walk_result){.user = true, .writable = true};
    u64 table = w->table, e;
    w->depth = 0;
    if (w->pae && !w->long_mode) {
        u64 pdpte = w->v->pdpte[bits(lin, 31, 30)];
        if (!(pdpte & PTE_P))
            return WALK_NOT_PRESENT;
        table = pdpte & PTE_ADDR;
    }
    for (unsigned level = w->levels - 1;; level--) {
        enum walk_status status = walk_level(w, lin, level, table, r);
        if (status != WALK_OK)
            return status;
        e = w->entry[w->depth - 1].value;
        if (is_leaf(w, level, e))
            break;
        table = e & (w->pae ? PTE_ADDR : 0xfffff000);
    }
    r->global = (e & PTE_G) && (w->v->cr4 & CR4_PGE);
    r->dirty = (e & PTE_D) != 0;
    r->gpa = (page_base(w, r->shift, e) | (lin & (BIT(r->shift) - 1))) & guestmem_a20_mask(w->mem);
    return WALK_OK;
}

/* Changes the entry in guest memory if it still has the value that the walk saw. */
static bool entry_update(const struct walker *w, u64 gpa, u64 old, u64 new)
{
    void *p = guestmem_hva(w->mem, gpa, w->entry_size, true);
    if (!p)
        return true; /* tables in ROM keep what they have */
    if (unlikely(w->v->journal))
        journal_add(w->v, p, w->entry_size, true);
    bool same;
    if (w->entry_size == 8) {
        same = atomic_compare_exchange_strong((_Atomic u64 *)p, &old, new);
    } else {
        u32 old32 = (u32)old;
        same = atomic_compare_exchange_strong((_Atomic u32 *)p, &old32, (u32) new);
    }
    if (same && code_written(w->mem, gpa, w->entry_size))
        w->v->code_written = 1; /* perhaps the block that is running */
    return same;
}

/* Sets A in all entries, and D in the last one if `write`. False: one changed; walk again. */
static bool set_accessed_dirty(struct walker *w, bool write)
{
    for (unsigned i = 0; i < w->depth; i++) {
        u64 old = w->entry[i].value, new = old | PTE_A;
        if (write && i == w->depth - 1)
            new |= PTE_D;
        if (new != old && !entry_update(w, w->entry[i].gpa, old, new))
            return false;
    }
    return true;
}

bool walk_allows(const struct vcpu *v, unsigned access, bool user, bool smap_ac,
                 const struct walk_result *r)
{
    if (r->shift >= SHIFT_UNPAGED)
        return true;
    if ((access & ACCESS_EXEC) && r->nx)
        return false;
    if (user)
        return r->user && (r->writable || !(access & ACCESS_WRITE));
    if (r->user && (access & ACCESS_EXEC) && (v->cr4 & CR4_SMEP))
        return false;
    if (r->user && !(access & ACCESS_EXEC) && (v->cr4 & CR4_SMAP) && !smap_ac)
        return false;
    return r->writable || !(access & ACCESS_WRITE) || !(v->cr0 & CR0_WP);
}

/* The error code apart from P and RSVD (SDM vol. 3, 4.7). */
static u32 error_code(const struct vcpu *v, unsigned access, bool user)
{
    u32 error = user ? PF_U : 0;
    if (access & ACCESS_WRITE)
        error |= PF_W;
    bool nx = (v->cr4 & CR4_PAE) && (v->efer & EFER_NXE);
    if ((access & ACCESS_EXEC) && (nx || (v->cr4 & CR4_SMEP)))
        error |= PF_I;
    return error;
}

void walk_unpaged(const struct vcpu *v, u64 lin, struct walk_result *out)
{
    *out = (struct walk_result){
        .gpa = lin & guestmem_a20_mask(v->machine->mem),
        .shift = SHIFT_UNPAGED,
        .user = true,
        .writable = true,
        .dirty = true,
    };
}

int walk(struct vcpu *v, u64 lin, unsigned access, bool user, bool smap_ac, struct walk_result *out,
         u32 *error)
{
    if (!(v->cr0 & CR0_PG)) {
        walk_unpaged(v, lin, out);
        return 0;
    }
    struct walker w;
    walker_init(&w, v);
    do {
        enum walk_status status = walk_find(&w, lin, out);
        if (status != WALK_OK || !walk_allows(v, access, user, smap_ac, out)) {
            *error = error_code(v, access, user) | (status == WALK_NOT_PRESENT ? 0 : PF_P) |
                     (status == WALK_RESERVED ? PF_RSVD : 0);
            return -1;
        }
    } while (!set_accessed_dirty(&w, access & ACCESS_WRITE));
    out->dirty |= (access & ACCESS_WRITE) != 0;
    return 0;
}

bool walk_known(struct vcpu *v, u64 lin, unsigned access, bool user, struct walk_result *out)
{
    struct walker w;
    walker_init(&w, v);
    if ((w.long_mode && !canonical(lin)) || walk_find(&w, lin, out) != WALK_OK ||
        !walk_allows(v, access, user, false, out))
        return false;
    for (unsigned n = 0; n < w.depth; n++)
        if (!(w.entry[n].value & PTE_A))
            return false;
    return out->dirty || !(access & ACCESS_WRITE);
}

bool walk_peek(struct vcpu *v, u64 lin, u64 *gpa)
{
    struct walk_result r;
    struct walker w;
    if (!(v->cr0 & CR0_PG)) {
        walk_unpaged(v, lin, &r);
    } else {
        walker_init(&w, v);
        if (walk_find(&w, lin, &r) != WALK_OK)
            return false;
    }
    *gpa = r.gpa;
    return true;
}

bool walk_load_pdptes(struct vcpu *v, u64 cr3)
{
    struct walker w = {.mem = v->machine->mem, .entry_size = 8};
    u64 reserved = PDPTE_RESERVED | ~(BIT(phys_bits(v)) - 1);
    u64 pdpte[4];
    for (unsigned i = 0; i < 4; i++) {
        pdpte[i] = read_entry(&w, ((cr3 & 0xffffffe0) + 8 * i) & guestmem_a20_mask(w.mem));
        if ((pdpte[i] & PTE_P) && (pdpte[i] & reserved))
            return false;
    }
    memcpy(v->pdpte, pdpte, sizeof(pdpte));
    return true;
}
