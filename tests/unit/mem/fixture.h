/*
 * What the tests of src/mem share: a machine with RAM and one vCPU, ways to write page tables, and
 * catching guest faults.
 */
#ifndef TESTS_MEM_FIXTURE_H
#define TESTS_MEM_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mem/access.h"
#include "mem/guestmem.h"
#include "mem/tlb.h"

#define P  BIT(0)
#define W  BIT(1)
#define U  BIT(2)
#define A  BIT(5)
#define D  BIT(6)
#define PS BIT(7)
#define G  BIT(8)
#define NX BIT(63)

/* Where the fixture's tables lie. */
#define TOP  0x1000ULL /* PML4, or page directory of 32-bit paging */
#define PDPT 0x2000ULL
#define PD   0x3000ULL
#define PT   0x4000ULL
#define DATA 0x100000ULL /* pages for data from here on */

#define TEST_RAM (64 * MIB)

struct fixture {
    struct vcpu vcpu;
    struct machine machine;
};

static inline struct vcpu *fixture_vcpu(void **state)
{
    return &((struct fixture *)*state)->vcpu;
}

static inline struct guest_mem *fixture_mem(void **state)
{
    return ((struct fixture *)*state)->machine.mem;
}

static inline int fixture_setup_ram(void **state, u64 ram)
{
    struct fixture *f = aligned_alloc(64, align_up(sizeof(*f), 64));
    struct error err;
    assert_non_null(f);
    memset(f, 0, sizeof(*f));
    assert_int_equal(guestmem_create(ram, &f->machine.mem, &err), 0);
    f->machine.ncpus = 1;
    f->vcpu.machine = &f->machine;
    cpu_reset(&f->vcpu);
    assert_int_equal(tlb_create(&f->vcpu), 0);
    *state = f;
    return 0;
}

static inline int fixture_setup(void **state)
{
    return fixture_setup_ram(state, TEST_RAM);
}

static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    tlb_destroy(&f->vcpu);
    guestmem_destroy(f->machine.mem);
    free(f);
    return 0;
}

static inline void poke(void **state, u64 gpa, u64 value, unsigned size)
{
    assert_true(guestmem_write(fixture_mem(state), gpa, &value, size));
}

static inline u64 peek(void **state, u64 gpa, unsigned size)
{
    u64 value = 0;
    assert_true(guestmem_read(fixture_mem(state), gpa, &value, size));
    return value;
}

/* Flat segments for code of `mode`, CPL 0. */
static inline void set_mode(struct vcpu *v, u64 cr0, u64 cr4, u64 efer, u32 cs_attr)
{
    v->cr0 = cr0;
    v->cr4 = cr4;
    v->efer = efer;
    v->cr3 = TOP;
    for (unsigned s = 0; s < 6; s++)
        v->seg[s] = (struct segment){
            .attr = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | SEG_DB | SEG_G,
            .limit = 0xffffffff,
        };
    v->seg[SEG_CS].attr |= SEG_CODE | cs_attr;
    cpu_update_mode(v);
    tlb_flush_all(v);
}

static inline void enter_long_mode(struct vcpu *v)
{
    set_mode(v, CR0_PE | CR0_PG | CR0_WP, CR4_PAE | CR4_PGE, EFER_LME | EFER_LMA | EFER_NXE, SEG_L);
    v->seg[SEG_CS].attr &= ~(u32)SEG_DB;
    cpu_update_mode(v);
}

static inline void enter_prot32(struct vcpu *v)
{
    set_mode(v, CR0_PE, 0, 0, SEG_DB);
}

static inline void set_cpl(struct vcpu *v, unsigned cpl)
{
    v->cpl = (u8)cpl;
    cpu_update_mode(v);
}

/* Long mode tables that map page n (n < 512) of the first 2 MiB as pte[n], all rights above. */
static inline void long_tables(void **state)
{
    poke(state, TOP, PDPT | P | W | U, 8);
    poke(state, PDPT, PD | P | W | U, 8);
    poke(state, PD, PT | P | W | U, 8);
}

static inline void map_page(void **state, u64 lin, u64 pte)
{
    poke(state, PT + 8 * bits(lin, 20, 12), pte, 8);
}

/* Runs the statement; evaluates to the enum unwind by which it was left, 0 if it came through. */
#define CATCH(v, statement)                                                                        \
    ({                                                                                             \
        int why_ = setjmp((v)->unwind);                                                            \
        if (!why_) {                                                                               \
            statement;                                                                             \
        }                                                                                          \
        why_;                                                                                      \
    })

#define assert_no_fault(v, statement) assert_int_equal(CATCH(v, statement), 0)

#define assert_fault(v, vec, code, statement)                                                      \
    do {                                                                                           \
        assert_int_equal(CATCH(v, statement), UNWIND_FAULT);                                       \
        assert_int_equal((v)->fault.vector, vec);                                                  \
        assert_true((v)->fault.has_error);                                                         \
        assert_int_equal((v)->fault.error, code);                                                  \
    } while (0)

#define assert_page_fault(v, addr, code, statement)                                                \
    do {                                                                                           \
        assert_fault(v, VEC_PF, code, statement);                                                  \
        assert_int_equal((v)->fault.cr2, addr);                                                    \
    } while (0)

/* A device that remembers its last access and answers reads with a pattern of the offset. */
struct probe_device {
    unsigned reads, writes;
    u64 off, value;
    unsigned size;
};

static inline u64 probe_read(void *ctx, u64 off, unsigned size)
{
    struct probe_device *d = ctx;
    d->reads++;
    d->off = off;
    d->size = size;
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= ((off + i) & 0xff) << (8 * i);
    return value;
}

static inline void probe_write(void *ctx, u64 off, u64 value, unsigned size)
{
    struct probe_device *d = ctx;
    d->writes++;
    d->off = off;
    d->size = size;
    d->value = value;
}

#define PROBE_OPS                                                                                  \
    {                                                                                              \
        .read = probe_read, .write = probe_write                                                   \
    }

#endif
