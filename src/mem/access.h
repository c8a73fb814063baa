/*
 * Guest memory as instructions see it. Three steps: segmentation (seg_lin), then a linear access
 * (lin_read, lin_write, lin_rmw_*), which looks in the software TLB and on a miss walks the page
 * tables. All of these raise the guest's faults (cpu/fault.h) and do not return then. A store that
 * crosses a page checks both pages before it writes either.
 */
#ifndef RINGER_MEM_ACCESS_H
#define RINGER_MEM_ACCESS_H

#include "cpu/fault.h"
#include "mem/guestmem.h"
#include "mem/tlb.h"

enum access {
    ACCESS_READ = 1,
    ACCESS_WRITE = 2,
    ACCESS_EXEC = 4,
    ACCESS_SYSTEM =
        8, /* implicit supervisor access (descriptor tables, TSS): ignores CPL, obeys SMAP */
};

/* Segmentation: checks [off, off+size) against the segment (limit, expand-down, type, null, and in
 * 64-bit mode canonical form) and returns the linear address. off is already truncated to the
 * address size. #SS(0) for SS, else #GP(0). Outside 64-bit mode the result is 32 bits. */
static inline u64 seg_lin(struct vcpu *v, enum seg_reg seg, u64 off, unsigned size,
                          enum access access);

/* Ordinary data accesses at v's privilege, of 1, 2, 4 or 8 bytes (sizes mostly constants, so that
 * the compiler makes one fast path for each). */
static inline u64 lin_read(struct vcpu *v, u64 lin, unsigned size);
static inline void lin_write(struct vcpu *v, u64 lin, u64 value, unsigned size);

/* Any number of bytes. Writes check every page for write access first. */
void lin_read_bytes(struct vcpu *v, u64 lin, void *buf, unsigned len);
void lin_write_bytes(struct vcpu *v, u64 lin, const void *buf, unsigned len);

/* Implicit supervisor accesses of 1, 2, 4 or 8 bytes. */
u64 lin_read_system(struct vcpu *v, u64 lin, unsigned size);
void lin_write_system(struct vcpu *v, u64 lin, u64 value, unsigned size);

/* Raises the fault that the access would raise, without doing it. */
void lin_probe(struct vcpu *v, u64 lin, unsigned len, enum access access);

/* Read-modify-write: checks for write access, so that the fault (with W set) comes before anything
 * is changed. If the bytes lie in one page of RAM, .p is the address of guest memory itself,
 * to be used with plain or atomic host instructions; else .p is .bounce, filled with the
 * value read. lin_rmw_end() does the code bookkeeping, or writes the bounce buffer back. */
struct lin_rmw {
    void *p;
    bool direct; /* p is guest RAM: a host atomic on it is a guest atomic */
    unsigned size;
    u64 lin;
    u8 bounce[16] __attribute__((aligned(16)));
};
static inline void lin_rmw_begin(struct vcpu *v, u64 lin, unsigned size, struct lin_rmw *rmw);
static inline void lin_rmw_end(struct vcpu *v, struct lin_rmw *rmw);

/* Address in this process of guest RAM at lin if a read or write may go there directly, and
 * the number of bytes up to the end of its page in *room; NULL for devices, ROM writes, nothing
 * there, and while data breakpoints or alignment checks are on. Faults are raised. Before writing
 * through it call journal_store (mem/journal.h), and lin_direct_written after. For block copies. */
void *lin_direct(struct vcpu *v, u64 lin, enum access access, unsigned *room, u64 *gpa);
/* len bytes at p, an address that lin_direct gave for writing, were written. */
static inline void lin_direct_written(struct vcpu *v, const void *p, unsigned len);

/* Fetches up to n (at most 15) code bytes at linear address lin for decoding: stops at the end of
 * the page if more than one page is needed and `cross` is false. Raises a fetch fault only if the
 * first byte cannot be had; returns how many bytes were read. *gpa: physical address of the first
 * byte. If an instruction needs bytes that `cross` could not get, lin_exec_gpa at the start of the
 * second page raises the fault. */
unsigned lin_fetch(struct vcpu *v, u64 lin, u8 *buf, unsigned n, bool cross, u64 *gpa);

/* Physical address for executing at lin, by the TLB; raises a fetch fault. */
static inline u64 lin_exec_gpa(struct vcpu *v, u64 lin);

/* Which of DR0-3 are enabled in DR7 and match [lin, lin+len), as DR6 bits. kinds: a mask of the R/W
 * encodings to look at, BIT(0) execute, BIT(1) write, BIT(3) read or write. */
u64 breakpoint_hits(const struct vcpu *v, u64 lin, u64 len, unsigned kinds);

#include "mem/access_inline.h"

#endif
