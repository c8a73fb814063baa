/*
 * A vCPU with flat paged memory, set up by hand, and a harness that executes an instruction on the
 * host CPU with given registers. For the tests of native instructions and FPU state.
 */
#ifndef RINGER_TESTS_ENGINE_NATIVE_RIG_H
#define RINGER_TESTS_ENGINE_NATIVE_RIG_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/mman.h>

#undef REG_RIP /* of the signal frame */
#include "cpu/model.h"
#include "engine/sem/native.h"
#include "engine/sem/sem.h"
#include "mem/access.h"

#define GUEST_DATA 0x40000 /* operands of guest instructions */
#define GUEST_HOLE 0x81000 /* a page that is not present */
#define GUEST_CODE 0x5000

struct rig {
    struct machine machine;
    struct cpu_model model;
    struct vcpu *v;
    u8 *ram;
    u8 *code;  /* the host harness */
    u8 *guard; /* a page, and behind it one without access */
};

/* What the harness loads and saves. */
struct host_state {
    struct fpu_state fpu; /* first: XRSTOR */
    u8 rest[64];
    u64 gpr[4]; /* RAX RCX RDX RBX */
    u64 flags;
} __attribute__((aligned(64)));

static u64 seed = 88172645463325252ULL;

static inline u64 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

/* --- the guest --- */

static inline void build_page_tables(u8 *ram)
{
    u64 *pml4 = (u64 *)(ram + 0x10000), *pdpt = (u64 *)(ram + 0x11000);
    u64 *pd = (u64 *)(ram + 0x12000), *pt = (u64 *)(ram + 0x13000);
    pml4[0] = 0x11007;
    pdpt[0] = 0x12007;
    pd[0] = 0x13007;
    for (unsigned n = 0; n < 512; n++)
        pt[n] = (u64)n * PAGE_SIZE == GUEST_HOLE ? 0 : n * PAGE_SIZE | 7;
}

static inline void set_mode(struct vcpu *v, enum cpu_mode mode)
{
    const u32 data = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | SEG_DB | SEG_G;
    for (unsigned s = 0; s < 6; s++)
        v->seg[s] = (struct segment){.sel = 0x10, .attr = data, .limit = 0xffffffff};
    v->seg[SEG_CS].attr |= SEG_CODE;
    v->seg[SEG_CS].sel = 0x33;
    v->cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_MP | CR0_WP;
    v->cr3 = 0x10000;
    v->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    v->efer = EFER_LME | EFER_LMA;
    v->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    v->rflags = FLAG_ONE;
    v->cpl = 0;
    cpu_update_mode(v);
    v->mode = (u8)mode;
    v->flat = true;
}

static inline void put32(u8 **p, u32 value)
{
    memcpy(*p, &value, 4);
    *p += 4;
}

#define PUT(p, ...)                                                                                \
    do {                                                                                           \
        const u8 bytes_[] = {__VA_ARGS__};                                                         \
        memcpy(p, bytes_, sizeof(bytes_));                                                         \
        p += sizeof(bytes_);                                                                       \
    } while (0)

/* Executes the instruction on the host with *s. */
static inline void run_on_host(struct rig *r, const u8 *insn, unsigned len, struct host_state *s)
{
    static const u8 load[4] = {0x84, 0x8c, 0x94, 0x9c}; /* ModRM: reg, [r12 + disp32] */
    u8 *p = r->code;
    u32 mxcsr = MXCSR_DEFAULT;
    PUT(p, 0x53, 0x41, 0x54, 0x49, 0x89, 0xfc); /* push rbx, r12; mov r12, rdi */
    PUT(p, 0x31, 0xd2, 0xb8, 7, 0, 0, 0);       /* xor edx, edx; mov eax, 7 */
    PUT(p, 0x49, 0x0f, 0xae, 0x2c, 0x24);       /* xrstor64 [r12] */
    PUT(p, 0x41, 0xff, 0xb4, 0x24);             /* push [r12 + flags] */
    put32(&p, offsetof(struct host_state, flags));
    PUT(p, 0x9d); /* popfq */
    for (unsigned n = 0; n < 4; n++) {
        PUT(p, 0x49, 0x8b, load[n], 0x24);
        put32(&p, (u32)offsetof(struct host_state, gpr) + 8 * n);
    }
    memcpy(p, insn, len);
    p += len;
    for (unsigned n = 0; n < 4; n++) {
        PUT(p, 0x49, 0x89, load[n], 0x24);
        put32(&p, (u32)offsetof(struct host_state, gpr) + 8 * n);
    }
    PUT(p, 0x9c, 0x41, 0x8f, 0x84, 0x24); /* pushfq; pop [r12 + flags] */
    put32(&p, offsetof(struct host_state, flags));
    PUT(p, 0x31, 0xd2, 0xb8, 7, 0, 0, 0);
    PUT(p, 0x49, 0x0f, 0xae, 0x24, 0x24); /* xsave64 [r12] */
    PUT(p, 0xdb, 0xe3);                   /* fninit */
    if (cpu_has(&r->model, FEAT_AVX))
        PUT(p, 0xc5, 0xf8, 0x77);   /* vzeroupper */
    PUT(p, 0x41, 0x5c, 0x5b, 0xc3); /* pop r12, rbx; ret */
    ((void (*)(struct host_state *))(uintptr_t)r->code)(s);
    __builtin_ia32_ldmxcsr(mxcsr);
}

/* Runs the semantic function; returns the vector of its fault, or -1. */
static inline int run_guest(struct rig *r, const struct insn *i)
{
    static sem_fn *const *const table[OP_COUNT] = {
        [OP_INVALID] = NULL,
#define INSN(mnemonic, sem, class, flags) [OP_##mnemonic] = sem_##sem,
#include "cpu/insn_fp.def"
#undef INSN
    };
    struct vcpu *v = r->v;
    v->rip = GUEST_CODE + i->len;
    v->cur = i;
    if (setjmp(v->unwind))
        return v->fault.vector;
    table[i->op][3](v, i);
    return -1;
}

static inline bool decode(struct rig *r, const u8 *bytes, struct insn *i)
{
    if (insn_decode(bytes, 15, r->v->mode, i) != DECODE_OK)
        return false;
    return i->feature == FEAT_COUNT || r->model.feature[i->feature];
}

static inline struct insn decode_only(struct rig *r, const u8 *bytes)
{
    struct insn i;
    assert_true(decode(r, bytes, &i));
    sem_bind(r->v, &i);
    return i;
}

#define GUEST(r, ...)                                                                              \
    ({                                                                                             \
        struct insn insn_ = decode_only(r, (const u8[15]){__VA_ARGS__});                           \
        run_guest(r, &insn_);                                                                      \
    })

/* --- random state --- */

static inline void random_vector(u8 x[16])
{
    static const u64 doubles[] = {0,
                                  0x8000000000000000,
                                  0x3ff0000000000000,
                                  0x4008000000000000,
                                  0x7ff0000000000000,
                                  0x7ff8000000000001,
                                  0x7ff0000000000001,
                                  0x0000000000000123,
                                  0xbff8000000000000,
                                  0x41dfffffffc00000,
                                  0x3f8000003f800000,
                                  0x7f80000000000001,
                                  0xc0490fdb00800000};
    for (unsigned n = 0; n < 2; n++) {
        u64 value = rnd() & 1 ? rnd() : doubles[rnd() % ARRAY_SIZE(doubles)];
        memcpy(x + 8 * n, &value, 8);
    }
}

static inline void random_x87(u8 st[16])
{
    static const u8 special[][10] = {
        {0},
        {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f},
        {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x7f},
        {1, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0x7f},
        {1, 0, 0, 0, 0, 0, 0, 0, 0, 0},
        {0, 0, 0, 0, 0, 0, 0, 0xa0, 0, 0xc0},
    };
    memset(st, 0, 16);
    if (rnd() & 1) {
        memcpy(st, special[rnd() % ARRAY_SIZE(special)], 10);
        return;
    }
    store_le(st, rnd() | BIT(63), 8);
    store_le(st + 8, 0x3ff0 + rnd() % 32, 2);
}

static inline void random_fpu(struct fpu_state *f)
{
    memset(f, 0, sizeof(*f));
    f->legacy.fcw = (u16)(0x7f | (rnd() & 0xf00));
    f->legacy.fsw = (u16)((rnd() & 7) << 11 | (rnd() & 0x477f));
    f->legacy.ftw_abridged = (u8)(rnd() & 1 ? rnd() : 0xff);
    f->legacy.mxcsr = (u32)(MXCSR_DEFAULT | (rnd() & 0xe040));
    f->legacy.mxcsr_mask = 0xffff;
    f->xstate_bv = 7;
    for (unsigned n = 0; n < 8; n++)
        random_x87(f->legacy.st[n]);
    for (unsigned n = 0; n < 16; n++) {
        random_vector(f->legacy.xmm[n]);
        random_vector(f->ymm_hi[n]);
    }
}

/* --- comparison --- */

static inline void fail_insn(const struct insn *i, const char *what)
{
    char text[96];
    insn_format(i, MODE_LONG64, GUEST_CODE, text, sizeof(text));
    print_error("%s: %s differs; bytes", text, what);
    for (unsigned n = 0; n < i->len; n++)
        print_error(" %02x", i->raw[n]);
    print_error("\n");
    fail();
}

static inline void compare_fpu(const struct insn *i, const struct fpu_state *guest,
                               const struct fpu_state *host)
{
    const struct fpu_legacy *g = &guest->legacy, *h = &host->legacy;
    if (g->fcw != h->fcw || g->fsw != h->fsw || g->ftw_abridged != h->ftw_abridged)
        fail_insn(i, "x87 control");
    for (unsigned n = 0; n < 8; n++)
        if (memcmp(g->st[n], h->st[n], 10))
            fail_insn(i, "x87 register");
    if (memcmp(g->xmm, h->xmm, sizeof(g->xmm)))
        fail_insn(i, "XMM");
    if (memcmp(guest->ymm_hi, host->ymm_hi, sizeof(guest->ymm_hi)))
        fail_insn(i, "YMM");
    if (g->mxcsr != h->mxcsr)
        fail_insn(i, "MXCSR");
}

/* --- set-up --- */

/* cmocka puts its own signal handlers before each test; ours go back in reset(). */
static const int fault_signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
static struct sigaction handlers[ARRAY_SIZE(fault_signals)];

static inline void keep_handlers(void)
{
    native_signal_init();
    for (unsigned n = 0; n < ARRAY_SIZE(fault_signals); n++)
        sigaction(fault_signals[n], NULL, &handlers[n]);
}

/* State for a new test. */
static inline void reset(struct rig *r)
{
    for (unsigned n = 0; n < ARRAY_SIZE(fault_signals); n++)
        sigaction(fault_signals[n], &handlers[n], NULL);
    set_mode(r->v, MODE_LONG64);
    random_fpu(&r->v->fpu);
    r->v->fpu.legacy.fsw = 0;
    r->v->fpu.legacy.ftw_abridged = 0xff;
    r->v->gpr[RBX] = GUEST_DATA;
}

static inline int rig_create(void **state)
{
    struct error err;
    struct rig *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    struct cpu_model_options opt = {.ncpus = 1, .tsc_hz = 1000000000};
    cpu_model_init(&r->model, &opt);
    r->machine.model = &r->model;
    r->machine.ncpus = 1;
    assert_int_equal(guestmem_create(RAM_MIN * 2, &r->machine.mem, &err), 0);
    r->v = aligned_alloc(64, align_up(sizeof(*r->v), 64));
    memset(r->v, 0, sizeof(*r->v));
    r->v->machine = &r->machine;
    r->ram = guestmem_hva(r->machine.mem, 0, PAGE_SIZE, true);
    build_page_tables(r->ram);
    assert_int_equal(tlb_create(r->v), 0);
    set_mode(r->v, MODE_LONG64);
    r->code = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                   -1, 0);
    r->guard =
        mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(r->code != MAP_FAILED && r->guard != MAP_FAILED);
    assert_int_equal(mprotect(r->guard + PAGE_SIZE, PAGE_SIZE, PROT_NONE), 0);
    *state = r;
    return 0;
}

static inline int rig_destroy(void **state)
{
    struct rig *r = *state;
    native_destroy(r->v);
    tlb_destroy(r->v);
    guestmem_destroy(r->machine.mem);
    munmap(r->code, PAGE_SIZE);
    munmap(r->guard, 2 * PAGE_SIZE);
    free(r->v);
    free(r);
    return 0;
}

#endif
