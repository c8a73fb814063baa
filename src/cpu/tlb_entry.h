/*
 * The entry of the first-level TLB. It lies in struct vcpu, and nothing in it depends on anything
 * else, so that generated code finds and checks an entry with constants and the vCPU's address
 * alone. mem/tlb.h has the rest of the TLB.
 */
#ifndef RINGER_CPU_TLB_ENTRY_H
#define RINGER_CPU_TLB_ENTRY_H

#include <stdatomic.h>

#include "base/tunables.h"
#include "base/types.h"

/* Who makes a data access, under which rules: they differ in what a page's U/S bit permits. Each
 * context has its own first-level TLB. */
enum tlb_context {
    TLB_USER,
    TLB_USER_AC,   /* user with alignment checks (#AC) */
    TLB_KERNEL,    /* supervisor; SMAP, if on, forbids user pages */
    TLB_KERNEL_AC, /* supervisor with EFLAGS.AC: SMAP does not apply */
    TLB_CONTEXTS,
};

/*
 * An entry is at index (lin >> 12) % TUNE_TLB_L1_ENTRIES. An access of `size` bytes at lin may go
 * to host address lin + addend if
 *     ((lin + size - 1) & PAGE_MASK) == read, write or write_any.
 * This fails for accesses that cross a page, too: the next page has another index. What must not be
 * done directly (devices, ROM writes, pages whose D bit is not set yet, accesses under data
 * breakpoints or alignment checks) has TLB_NO_TAG. Tags are addresses of canonical pages. Entries
 * with a write_any tag lie in RAM.
 */
struct tlb_entry {
    u64 read;
    u64 write;     /* held no decoded code when the entry was made; see tlb_protect_code() */
    u64 write_any; /* may hold code: who stores by this looks at *code_mask afterwards */
    u64 addend;
    u64 exec;               /* signature of linear and physical page, or 0 */
    _Atomic u64 *code_mask; /* of the page (mem/guestmem.h); valid if write_any is */
    u64 logged;             /* which flush logs it is in; private to mem/tlb.c */
    u64 pad;
};

_Static_assert(sizeof(struct tlb_entry) == 64, "generated code finds entries by shifts");

#define TLB_ENTRY_SHIFT 6
#define TLB_NO_TAG      1ULL /* not the address of a page */

/* Guest-physical addresses that an exec signature can hold. */
#define TLB_EXEC_GPA_BITS 39
#define TLB_EXEC_VALID    BIT(27)

/* What entry.exec is if lin (canonical) may be executed at gpa: bits 47:12 of lin on top, then a
 * one, then the physical page. */
static inline u64 tlb_exec_signature(u64 lin, u64 gpa)
{
    return lin >> PAGE_SHIFT << 28 | TLB_EXEC_VALID | (gpa >> PAGE_SHIFT & (TLB_EXEC_VALID - 1));
}

/* Is exec the signature of lin's page? Never if lin is not canonical. */
static inline bool tlb_exec_hit(u64 exec, u64 lin)
{
    return (exec & TLB_EXEC_VALID) && ((u64)((i64)exec >> 16) ^ lin) < PAGE_SIZE;
}

/* Of an address that tlb_exec_hit. */
static inline u64 tlb_exec_gpa(u64 exec, u64 lin)
{
    return (exec & (TLB_EXEC_VALID - 1)) << PAGE_SHIFT | (lin & ~PAGE_MASK);
}

/* What a flush took away, for vcpu.tlb_flushed. */
enum tlb_flush {
    TLB_FLUSHED_ALL,   /* everything, global pages, too */
    TLB_FLUSHED_LOCAL, /* all but global pages */
    TLB_FLUSHED_PAGE,  /* the 4 KiB page of lin */
};

#endif
