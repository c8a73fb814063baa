/*
 * The software TLB of one vCPU. Two levels: a small direct-mapped one per context (who accesses,
 * under which rules), looked up inline at every access, and a larger set-associative one that knows
 * PCIDs and global pages and fills the first. Flushing the first level is a change of revision.
 */
#ifndef RINGER_MEM_TLB_H
#define RINGER_MEM_TLB_H

#include "base/tunables.h"
#include "cpu/state.h"

/*
 * A first-level entry, 32 bytes, at index (lin >> 12) % TUNE_TLB_L1_ENTRIES. An access of `size`
 * bytes at lin may go to host address lin + addend if
 *     (((lin + size - 1) & PAGE_MASK) | revision) == read, write or exec.
 * This fails for accesses that cross a page, too: the next page has another index. What must
 * not be done directly (devices, ROM writes, pages whose D bit is not set yet, accesses under data
 * breakpoints or alignment checks) has 0 as its tag, which matches nothing, as a revision is
 * never 0. Entries with a write tag lie in RAM.
 */
struct tlb_entry {
    u64 read, write, exec;
    u64 addend;
};

struct tlb_l2;

struct tlb {
    u64 revision; /* 1 to 4095 */
    /* For the look after each store: page number of hva is (hva - ram) >> 12. */
    u8 *ram;
    u64 ram_size, ram_low; /* ram_low: bytes of it below RAM_LOW_MAX */
    _Atomic u64 *code_mask;
    struct guest_mem *mem;
    bool breakpoints; /* data breakpoints are on: no tags for reads and writes */
    struct tlb_l2 *l2;
    struct tlb_entry l1[TLB_CONTEXTS][TUNE_TLB_L1_ENTRIES];
};

/* v->machine->mem must exist. 0 or -ENOMEM. */
int tlb_create(struct vcpu *v);
void tlb_destroy(struct vcpu *v);

/*
 * Who must flush what: tlb_flush_all after changes of CR0.PG or WP, CR4.PSE PAE PGE PCIDE SMEP
 * SMAP, EFER.NXE, A20, or the map. MOV CR3: tlb_flush_nonglobal without PCIDs; with them,
 * tlb_switch, after tlb_flush_pcid(new PCID) if bit 63 was clear. Call these with CR3 and CR4
 * already new. Nothing is needed for changes of CPL or EFLAGS.AC.
 */

/* Everything, global pages too. */
void tlb_flush_all(struct vcpu *v);
/* All but global pages of any PCID (MOV CR3 without PCIDs, INVPCID 3). */
void tlb_flush_nonglobal(struct vcpu *v);
/* One page in the current PCID, and global ones (INVLPG). */
void tlb_flush_page(struct vcpu *v, u64 lin);
/* INVPCID 0 and 1. */
void tlb_flush_pcid_page(struct vcpu *v, u16 pcid, u64 lin);
void tlb_flush_pcid(struct vcpu *v, u16 pcid);
/* The address space changed (MOV CR3 with the no-flush bit): entries of other PCIDs stay cached. */
void tlb_switch(struct vcpu *v);
/* DR7 changed: while a data breakpoint is enabled, all data accesses take the slow path. */
void tlb_set_breakpoints(struct vcpu *v);

/* Physical address of lin for `access` (enum access) in context ctx, from the TLB or by a walk,
 * which fills the TLB. False: a page fault with *error. For access.c. */
bool tlb_translate(struct vcpu *v, u64 lin, unsigned access, enum tlb_context ctx, u64 *gpa,
                   u32 *error);

/* What a page walk found. */
struct walk_result {
    u64 gpa;        /* of the byte asked for, A20 applied */
    unsigned shift; /* page size: 12, 21, 22 or 30; 32 and up: paging is off */
    bool user, writable, nx, global, dirty;
};

/* May this access be made, by the rights in r and the CR0 and CR4 of v? Flags as for walk(). */
bool walk_allows(const struct vcpu *v, unsigned access, bool user, bool smap_ac,
                 const struct walk_result *r);

/* Walks the page tables for lin with `access` (enum access) at privilege `user`; smap_ac:
 * EFLAGS.AC overrides SMAP. Sets A and D bits by compare-and-swap. Returns 0, or -1 with the #PF
 * error code in *error. */
int walk(struct vcpu *v, u64 lin, unsigned access, bool user, bool smap_ac, struct walk_result *out,
         u32 *error);

/* A look without side effects (no A/D bits, no faults, supervisor), for debuggers and dumps. False:
 * not mapped. */
bool walk_peek(struct vcpu *v, u64 lin, u64 *gpa);

/* PAE: loads and checks the four PDPTEs at cr3; false: a reserved bit is set (#GP). */
bool walk_load_pdptes(struct vcpu *v, u64 cr3);

#endif
