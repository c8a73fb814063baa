/*
 * Random page tables and accesses, against a second opinion. For each run there are tables in one
 * of the paging modes and registers that decide about rights; then accesses of every kind at random
 * addresses, mixed with changes of the tables, flushes and changes of the registers. Each access
 * goes to the memory layer as instructions make it; whether it faults, with what error code, and
 * which byte of RAM it reaches is compared with a walk written down independently here, straight
 * from SDM vol. 3, chapter 4. Reads in between, which TLB entries may answer, come after the flush
 * that the architecture asks for.
 *
 *   fuzz_walk [--seed N] [--runs N]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "mem/access.h"

#define ACCESSES 64

struct expected {
    bool faults;
    u32 error;
    u64 gpa;
};

struct totals {
    u64 accesses, faults, memory;
};

static u64 run_seed;

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    printf("not ok fuzz_walk: --seed %llu --runs 1\n", (unsigned long long)run_seed);
    fflush(stdout);
    abort();
}

#ifdef __SANITIZE_ADDRESS__
const char *__asan_default_options(void);
void __sanitizer_set_death_callback(void (*callback)(void));

const char *__asan_default_options(void)
{
    return "use_sigaltstack=0:allow_user_segv_handler=1";
}

static void say_seed(void)
{
    printf("not ok fuzz_walk: --seed %llu --runs 1\n", (unsigned long long)run_seed);
    fflush(stdout);
}
#endif

/* --- the second opinion --- */

/* Bits hi to lo set. */
static u64 ones(unsigned hi, unsigned lo)
{
    return ~0ULL >> (63 - hi) & ~0ULL << lo;
}

/* An entry, as a bus where only RAM answers gives it. */
static u64 entry_at(const struct fuzz_guest *g, u64 gpa, unsigned size)
{
    u64 e = ~0ULL >> (64 - 8 * size);
    guestmem_read(g->machine.mem, gpa & guestmem_a20_mask(g->machine.mem), &e, size);
    return e;
}

/* What the entries on the way say together. */
struct path {
    bool present, reserved, user, write, nx;
    u64 gpa;
};

static void add_entry(struct path *p, u64 e, u64 reserved)
{
    p->present = e & 1;
    p->reserved = p->present && (e & reserved);
    p->write &= e >> 1;
    p->user &= e >> 2;
}

static void walk_32(const struct fuzz_guest *g, u32 lin, struct path *p)
{
    const struct vcpu *v = g->v;
    unsigned high = MIN(g->model.phys_bits, 40) - 32; /* PSE-36 */
    u64 pde = entry_at(g, (v->cr3 & 0xfffff000) + (lin >> 22) * 4, 4);
    bool big = (pde & 0x80) && (v->cr4 & CR4_PSE);
    add_entry(p, pde, big ? ones(21, 13 + high) : 0);
    if (!p->present || p->reserved)
        return;
    if (big) {
        p->gpa = (pde & 0xffc00000) | bits(pde, 12 + high, 13) << 32 | (lin & 0x3fffff);
        return;
    }
    u64 pte = entry_at(g, (pde & 0xfffff000) + bits(lin, 21, 12) * 4, 4);
    add_entry(p, pte, 0);
    p->gpa = (pte & 0xfffff000) | (lin & 0xfff);
}

static void walk_64(const struct fuzz_guest *g, u64 lin, struct path *p)
{
    const struct vcpu *v = g->v;
    bool lma = v->efer & EFER_LMA, nxe = v->efer & EFER_NXE;
    u64 address = ones(51, 12), table = v->cr3 & address;
    u64 reserved = (nxe ? 0 : BIT(63)) | ones(51, g->model.phys_bits) | (lma ? 0 : ones(62, 52));
    unsigned shift = 39;
    if (!lma) {
        u64 pdpte = v->pdpte[lin >> 30 & 3];
        p->present = pdpte & 1;
        if (!p->present)
            return;
        table = pdpte & address;
        shift = 21;
    }
    for (;; shift -= 9) {
        u64 e = entry_at(g, table + bits(lin, shift + 8, shift) * 8, 8);
        bool leaf =
            shift == 12 ||
            ((e & 0x80) && (shift == 21 || (shift == 30 && cpu_has(&g->model, FEAT_PDPE1GB))));
        u64 also = leaf && shift > 12 ? ones(shift - 1, 13) : !leaf ? 0x80 : 0;
        add_entry(p, e, reserved | also);
        p->nx |= e >> 63;
        if (!p->present || p->reserved)
            return;
        if (leaf) {
            u64 offset = ones(shift - 1, 0);
            p->gpa = (e & address & ~offset) | (lin & offset);
            return;
        }
        table = e & address;
    }
}

static bool path_allows(const struct vcpu *v, const struct path *p, unsigned access, bool user)
{
    bool nx = p->nx && (v->efer & EFER_NXE), exec = access & ACCESS_EXEC,
         write = access & ACCESS_WRITE;
    if (exec && nx)
        return false;
    if (user)
        return p->user && (!write || p->write);
    if (exec)
        return !(p->user && (v->cr4 & CR4_SMEP));
    bool ac = (v->rflags & FLAG_AC) && !(access & ACCESS_SYSTEM);
    if (p->user && (v->cr4 & CR4_SMAP) && !ac)
        return false;
    return !write || p->write || !(v->cr0 & CR0_WP);
}

static struct expected expect(const struct fuzz_guest *g, u64 lin, unsigned access)
{
    const struct vcpu *v = g->v;
    struct path p = {.write = true, .user = true};
    bool user = v->cpl == 3 && !(access & ACCESS_SYSTEM);
    struct expected x = {0};
    if (!(v->cr0 & CR0_PG)) {
        x.gpa = lin & guestmem_a20_mask(g->machine.mem);
        return x;
    }
    if (v->cr4 & CR4_PAE)
        walk_64(g, lin, &p);
    else
        walk_32(g, (u32)lin, &p);
    x.gpa = p.gpa & guestmem_a20_mask(g->machine.mem);
    x.faults = !p.present || p.reserved || !path_allows(v, &p, access, user);
    bool fetch = (access & ACCESS_EXEC) &&
                 ((v->cr4 & CR4_SMEP) || ((v->cr4 & CR4_PAE) && (v->efer & EFER_NXE)));
    x.error =
        (u32)((p.present ? PF_P : 0) | (access & ACCESS_WRITE ? PF_W : 0) | (user ? PF_U : 0) |
              (p.present && p.reserved ? PF_RSVD : 0) | (fetch ? PF_I : 0));
    return x;
}

/* --- the memory layer's --- */

/* Makes the access; returns the physical address that it may go to. */
static u64 access_memory(struct vcpu *v, u64 lin, unsigned access)
{
    unsigned room;
    u64 gpa = ~0ULL;
    if (access & ACCESS_EXEC)
        return lin_exec_gpa(v, lin);
    lin_direct(v, lin, (enum access)access, &room, &gpa);
    return gpa;
}

static void compare(struct fuzz_guest *g, u64 lin, unsigned access, struct totals *t)
{
    struct vcpu *v = g->v;
    const struct expected x = expect(g, lin, access);
    volatile bool faulted = true;
    volatile u64 gpa = 0;
    memset(&v->fault, 0, sizeof(v->fault));
    if (setjmp(v->unwind) == UNWIND_NONE) {
        gpa = access_memory(v, lin, access);
        faulted = false;
    }
    t->accesses++;
    t->faults += faulted;
    if (faulted != x.faults || (faulted ? v->fault.error != x.error : gpa != x.gpa))
        fprintf(stderr,
                "access %u at %llx, cpl %u cr0 %llx cr4 %llx efer %llx: fault %d error %x gpa "
                "%llx, expected %d %x %llx\n",
                access, (unsigned long long)lin, v->cpl, (unsigned long long)v->cr0,
                (unsigned long long)v->cr4, (unsigned long long)v->efer, faulted, v->fault.error,
                (unsigned long long)gpa, x.faults, x.error, (unsigned long long)x.gpa);
    if (faulted != x.faults)
        fail(faulted ? "a fault that should not be" : "no fault");
    if (faulted && (v->fault.vector != VEC_PF || v->fault.error != x.error || v->fault.cr2 != lin))
        fail("another error code or address");
    if (!faulted && gpa != x.gpa)
        fail("another physical address");
}

/* Data goes through the fast path too: what is written must be in RAM, what is read must come from
 * it. Devices and page crossings are left to fuzz_code. */
static void compare_data(struct fuzz_guest *g, struct rng *r, u64 lin, struct totals *t)
{
    struct vcpu *v = g->v;
    unsigned size = 1u << rnd_below(r, 4);
    lin &= ~(u64)(size - 1);
    const struct expected x = expect(g, lin, ACCESS_READ | ACCESS_WRITE);
    u8 *p = guestmem_hva(g->machine.mem, x.gpa, size, true);
    u64 value = rnd(r) & size_mask(size);
    if (x.faults || !p)
        return;
    if (setjmp(v->unwind) != UNWIND_NONE)
        fail("a fault that should not be, of data");
    lin_write(v, lin, value, size);
    if (load_le(p, size) != value)
        fail("data did not reach RAM");
    t->memory++;
    /* The write may have changed the tables that it went through. */
    tlb_flush_all(v);
    if (expect(g, lin, ACCESS_READ).gpa == x.gpa && !expect(g, lin, ACCESS_READ).faults &&
        lin_read(v, lin, size) != load_le(p, size))
        fail("data did not come from RAM");
}

/* --- a run --- */

static void change_rights(struct fuzz_guest *g, struct rng *r)
{
    struct vcpu *v = g->v;
    v->cpl = one_in(r, 2) ? 3 : 0;
    v->rflags ^= rnd(r) & FLAG_AC;
    v->cr0 &= ~CR0_AM;
    cpu_update_mode(v);
    if (!one_in(r, 4))
        return;
    v->cr0 ^= rnd(r) & CR0_WP;
    v->cr4 ^= rnd(r) & (CR4_SMEP | CR4_SMAP | CR4_PSE) & cpu_cr4_allowed(&g->model);
    v->efer ^= rnd(r) & EFER_NXE;
    guestmem_set_a20(g->machine.mem, !one_in(r, 4));
    tlb_flush_all(v);
}

static void change_tables(struct fuzz_guest *g, struct rng *r, u64 lin)
{
    struct vcpu *v = g->v;
    u64 value = rnd(r), gpa = GPA_PAGES + (rnd_below(r, 4 * PAGE_SIZE) & ~7ULL);
    if (one_in(r, 2))
        value = (rnd_below(r, RAM_SIZE) & PAGE_MASK) | (value & 0x1ff) | 1;
    guestmem_write(g->machine.mem, gpa, &value, sizeof(value));
    if (one_in(r, 8))
        tlb_flush_page(v, lin); /* not enough: only shows that it does no harm */
    tlb_flush_all(v);
}

static u64 random_lin(const struct fuzz_guest *g, struct rng *r)
{
    u64 lin = one_in(r, 4) ? rnd(r) : g->base + rnd_below(r, RAM_SIZE);
    if (g->v->efer & EFER_LMA)
        return (u64)((i64)(lin << 16) >> 16);
    return (u32)lin;
}

static void run(struct fuzz_guest *g, u64 seed, struct totals *t)
{
    static const unsigned kinds[] = {ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC,
                                     ACCESS_READ | ACCESS_SYSTEM, ACCESS_WRITE | ACCESS_SYSTEM};
    struct rng r = {seed * 0x9fb21c651e98df25};
    guestmem_set_a20(g->machine.mem, true);
    fuzz_state(g, &r);
    g->v->dr[7] = DR7_FIXED;
    change_rights(g, &r);
    tlb_flush_all(g->v);
    tlb_set_breakpoints(g->v);
    u64 lin = random_lin(g, &r);
    for (unsigned n = 0; n < ACCESSES; n++) {
        if (one_in(&r, 4))
            change_rights(g, &r);
        if (one_in(&r, 8))
            change_tables(g, &r, lin);
        if (one_in(&r, 2))
            lin = random_lin(g, &r);
        compare(g, lin, kinds[rnd_below(&r, ARRAY_SIZE(kinds))], t);
        if (one_in(&r, 4))
            compare_data(g, &r, lin, t);
    }
}

int main(int argc, char **argv)
{
    u64 seed = 1, runs = 1000;
    for (int n = 1; n + 1 < argc; n += 2) {
        if (!strcmp(argv[n], "--seed"))
            seed = strtoull(argv[n + 1], NULL, 0);
        else if (!strcmp(argv[n], "--runs"))
            runs = strtoull(argv[n + 1], NULL, 0);
        else
            return fprintf(stderr, "usage: fuzz_walk [--seed N] [--runs N]\n"), 2;
    }
    static struct fuzz_guest guest;
    struct totals t = {0};
    struct timebase time;
    timebase_init(&time);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(say_seed);
#endif
    fuzz_guest_create(&guest, &time, &engine_interp);
    for (u64 n = 0; n < runs; n++) {
        run_seed = seed + n;
        run(&guest, run_seed, &t);
    }
    fuzz_guest_destroy(&guest);
    printf("# %llu accesses, %llu page faults, %llu with data\n", (unsigned long long)t.accesses,
           (unsigned long long)t.faults, (unsigned long long)t.memory);
    printf("ok fuzz_walk: %llu runs from seed %llu\n", (unsigned long long)runs,
           (unsigned long long)seed);
    return 0;
}
