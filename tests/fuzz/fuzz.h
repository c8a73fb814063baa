/*
 * What the fuzzers share: random numbers that follow from the seed of a run alone, a machine that
 * is hostile in every place (devices that write memory and raise events in the middle of
 * instructions), and the makers of system state, page tables and code.
 */
#ifndef RINGER_TESTS_FUZZ_H
#define RINGER_TESTS_FUZZ_H

#include "base/timebase.h"
#include "cpu/model.h"
#include "cpu/state.h"
#include "engine/engine.h"
#include "mem/guestmem.h"

/* --- random numbers: splitmix64 --- */

struct rng {
    u64 state;
};

static inline u64 rnd(struct rng *r)
{
    u64 z = (r->state += 0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* 0 to n - 1. */
static inline u64 rnd_below(struct rng *r, u64 n)
{
    return (rnd(r) >> 11) % n;
}

static inline bool one_in(struct rng *r, u64 n)
{
    return rnd_below(r, n) == 0;
}

/* --- the machine --- */

/* Guest-physical layout. */
#define RAM_SIZE  0x110000ULL /* 1 MiB and the HMA */
#define GPA_GDT   0x1000ULL
#define GPA_LDT   0x1800ULL
#define GPA_IDT   0x2000ULL
#define GPA_TSS   0x3000ULL  /* the current task, with its I/O permission bitmap */
#define GPA_TSS2  0x5000ULL  /* another one, to switch to */
#define GPA_PAGES 0x6000ULL  /* page tables: the top one first */
#define GPA_CODE  0x10c00ULL /* crosses a page */
#define CODE_SIZE 0xc00ULL
#define GPA_STACK 0x20000ULL
#define GPA_DATA  0x30000ULL
#define GPA_MMIO  0xa0000ULL /* over RAM */
#define GPA_ROM   0xf0000ULL
#define GPA_MMIO2 0xfed00000ULL /* 1 KiB: less than a page */

#define SEL_CODE64  0x08
#define SEL_CODE32  0x10
#define SEL_DATA    0x18
#define SEL_CODE32U 0x23
#define SEL_DATAU   0x2b
#define SEL_CODE64U 0x33
#define SEL_CODE16  0x38
#define SEL_DATA16  0x40
#define SEL_TSS     0x48 /* two slots */
#define SEL_LDT     0x58 /* two slots */
#define SEL_TSS2    0x68
#define SEL_CALL    0x70 /* two slots */
#define SEL_TASK    0x80
#define GDT_ENTRIES 24

enum fuzz_mode {
    FUZZ_REAL,
    FUZZ_UNREAL,
    FUZZ_V86,
    FUZZ_PROT16,
    FUZZ_PROT32,
    FUZZ_PAE,
    FUZZ_COMPAT,
    FUZZ_LONG64,
    FUZZ_MODES
};

struct fuzz_guest {
    struct machine machine;
    struct cpu_model model;
    struct vcpu *v;
    const struct engine_ops *ops;
    struct fuzz_guest *peer; /* the other processor of the machine, or NULL */
    void *engine;
    u8 *ram;
    enum fuzz_mode mode;
    bool user_handlers; /* exceptions are handled at CPL 3 */
    bool programs; /* 64-bit code is where programs are */
    u64 base;           /* added to physical addresses that registers point to */
    struct rng rng;     /* of the current stretch, for the devices */
    unsigned work;      /* what is left of the stretch; EVENT_STOP at 0 */
    int irq;            /* pending vector, or -1 */
    bool calm;          /* devices answer, and do nothing else */
    u64 accesses;       /* a hash of all accesses to devices */
};

/* Ends the process if the host gives nothing. */
void fuzz_guest_create(struct fuzz_guest *g, struct timebase *time, const struct engine_ops *ops);
/* A second processor in the machine of g; destroyed with it. */
void fuzz_guest_create_peer(struct fuzz_guest *peer, struct fuzz_guest *g);
void fuzz_guest_destroy(struct fuzz_guest *g);
/* Runs until there is a reason to leave; by single instructions, at most n; after a change of *v.
 */
void fuzz_guest_run(struct fuzz_guest *g, struct vm_exit *x);
void fuzz_guest_step(struct fuzz_guest *g, unsigned n, struct vm_exit *x);
void fuzz_guest_changed(struct fuzz_guest *g);
/* This thread is about to run g's code by other means. */
void fuzz_guest_enter(struct fuzz_guest *g);
/* Some registers and the last blocks' first instructions, to stderr. */
void fuzz_guest_dump(const struct fuzz_guest *g);

/* Something happens outside the CPU: DMA, an event, the A20 gate. */
void fuzz_disturb(struct fuzz_guest *g, struct rng *r);
/* Some of the stretch's work is done. */
void fuzz_work(struct fuzz_guest *g, unsigned amount);

/* Fills the pages from GPA_PAGES for the paging mode that v's registers say: everything is mapped,
 * again and again, and some entries are random. */
void fuzz_page_tables(struct fuzz_guest *g, struct rng *r);
/* Memory and registers for a run. */
void fuzz_state(struct fuzz_guest *g, struct rng *r);
/* The other processor: like the first, with general registers of its own. */
void fuzz_state_peer(struct fuzz_guest *peer, struct rng *r);
/* An address or a number worth trying. */
u64 fuzz_value(const struct fuzz_guest *g, struct rng *r);
/* Fills buf with instructions, more or less. */
void fuzz_program(struct rng *r, u8 *buf, unsigned size);

#endif
