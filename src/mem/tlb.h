/*
 * The software TLB of one vCPU. Two levels: a small direct-mapped one per context (who accesses, under
 * which rules), looked up inline at every access, and a larger set-associative one that knows PCIDs
 * and global pages and fills the first. Flushing the first level is a change of revision.
 */
#ifndef RINGER_MEM_TLB_H
#define RINGER_MEM_TLB_H

#include "cpu/state.h"

int tlb_create(struct vcpu *v);
void tlb_destroy(struct vcpu *v);

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

/* Where the page walk found the page; see mem/walk.h for the walk itself. */
struct walk_result {
    u64 gpa;        /* of the byte asked for, A20 applied */
    unsigned shift; /* page size: 12, 21, 22 or 30; 32 and up: paging is off */
    bool user, writable, nx, global, dirty;
};

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
