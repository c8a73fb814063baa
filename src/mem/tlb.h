/*
 * The software TLB of one vCPU. Two levels: a small direct-mapped one per context (who accesses,
 * under which rules), in struct vcpu (cpu/tlb_entry.h), looked up inline at every access; and a
 * larger set-associative one that knows PCIDs and global pages and fills the first. Logs of the
 * entries in use make it cheap to flush the first level, and to spare global pages then.
 */
#ifndef RINGER_MEM_TLB_H
#define RINGER_MEM_TLB_H

#include "base/tunables.h"
#include "cpu/state.h"

/* Entries of the first level that may be in use, each once: those that were filled from global
 * pages, and those from others. An entry can be in both. */
enum tlb_log_kind { TLB_LOG_LOCAL, TLB_LOG_GLOBAL, TLB_LOGS };

struct tlb_log {
    unsigned n;
    u16 index[TLB_CONTEXTS * TUNE_TLB_L1_ENTRIES]; /* in vcpu.l1 as one array */
};

/* Linear addresses that may be accessed directly, all with one difference to host addresses. */
struct tlb_stretch {
    u64 start, bytes, addend;
    bool global; /* all of its pages are */
};

/* The widest one that was found of large pages, for reading; bytes is 0 if there is none. */
struct tlb_wide {
    struct tlb_stretch s;
    u8 ctx;
};

struct tlb_l2;

struct tlb {
    /* For the look after each store: page number of hva is (hva - ram) >> 12. */
    u8 *ram;
    u64 ram_size, ram_low; /* ram_low: bytes of it below RAM_LOW_MAX */
    _Atomic u64 *code_mask;
    struct guest_mem *mem;
    bool breakpoints; /* data breakpoints are on: no tags for reads and writes */
    struct tlb_l2 *l2;
    struct tlb_wide wide;
    struct tlb_log log[TLB_LOGS];
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

/* Tries to fill the first-level entry for an ordinary `access` at lin in v's current context, from
 * the second level only: no walk, no fault, nothing that the guest could see. True if that access
 * (by the tags read and write_any, or exec) now hits. Uses general registers only, so the guest's
 * FP state may be in the host's. */
bool tlb_refill(struct vcpu *v, u64 lin, unsigned access);

/* The same with a walk if need be, which sets A and D bits. False: a fault (what the TLB had of
 * the page is flushed then, as page faults do), or an access that is never direct. Saves no FP
 * registers. */
bool tlb_refill_walk(struct vcpu *v, u64 lin, unsigned access);

/* A stretch around lin that v may access directly in its current context; for ACCESS_WRITE, that
 * holds no code. lin's page must hit by the tag `read` resp. `write`; for others that do, and for
 * those of large pages, it is looked as far as the tunables TLB_STRETCH_* say. It is valid until
 * what vcpu.tlb_flushed tells of concerns it, and for writes until one of its pages holds code.
 * Uses general registers only. */
void tlb_stretch(struct vcpu *v, u64 lin, unsigned access, struct tlb_stretch *s);

/* Takes back the `write` tags (not write_any) of all entries of v that map gpa's page of RAM.
 * Whether there was one. For the decoder, after code_protect(). */
bool tlb_protect_code(struct vcpu *v, u64 gpa);

/* Is lin's translation one of a global page? False if the TLB does not have it. */
bool tlb_page_global(struct vcpu *v, u64 lin);

/* What a page walk found. */
struct walk_result {
    u64 gpa;        /* of the byte asked for, A20 applied */
    unsigned shift; /* page size: 12, 21, 22 or 30; 32 and up: paging is off */
    bool user, writable, nx, global, dirty;
};

/* May this access be made, by the rights in r and the CR0 and CR4 of v? Flags as for walk(). */
bool walk_allows(const struct vcpu *v, unsigned access, bool user, bool smap_ac,
                 const struct walk_result *r);

/* The result of a walk with paging off. */
void walk_unpaged(const struct vcpu *v, u64 lin, struct walk_result *out);

/* Walks the page tables for lin with `access` (enum access) at privilege `user`; smap_ac:
 * EFLAGS.AC overrides SMAP. Sets A and D bits by compare-and-swap. Returns 0, or -1 with the #PF
 * error code in *error. */
int walk(struct vcpu *v, u64 lin, unsigned access, bool user, bool smap_ac, struct walk_result *out,
         u32 *error);

/* What walk() finds if it has no bit to set and no fault to report; else false. Paging is on.
 * Nothing that the guest could see, so for pages that it has not asked for. */
bool walk_known(struct vcpu *v, u64 lin, unsigned access, bool user, struct walk_result *out);

/* A look without side effects (no A/D bits, no faults, supervisor), for debuggers and dumps. False:
 * not mapped. */
bool walk_peek(struct vcpu *v, u64 lin, u64 *gpa);

/* PAE: loads and checks the four PDPTEs at cr3; false: a reserved bit is set (#GP). */
bool walk_load_pdptes(struct vcpu *v, u64 cr3);

#endif
