/*
 * Compares an engine with the host CPU over all forms of all user-mode instructions. Where the host
 * runs no 32-bit code, its part for 32-bit forms is taken by interp; interp's own are skipped.
 *   insn_test [ENGINE [CASES-PER-FORM [OPERATION]]]
 * One TAP line for each operation; the first difference of a failing one is shown with its bytes, and registers.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "insn_test.h"

#define DEFAULT_CASES 12

#define FLAGS_COMPARED (FLAGS_ARITH | FLAG_DF | FLAG_IF | FLAG_AC | FLAG_ID)

static const char *const reg_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

struct difference {
    char text[256];
};

static bool differ(struct difference *d, const char *what, u64 host, u64 guest)
{
    if (host == guest)
        return false;
    snprintf(d->text, sizeof(d->text), "%s: host %016" PRIx64 ", engine %016" PRIx64, what, host, guest);
    return true;
}

static bool differ_bytes(struct difference *d, const char *what, const u8 *host, const u8 *guest, unsigned n)
{
    for (unsigned k = 0; k < n; k++)
        if (host[k] != guest[k]) {
            unsigned from = k & ~7u, len = MIN(8u, n - from);
            snprintf(d->text, sizeof(d->text), "%s+0x%x: host %016" PRIx64 ", engine %016" PRIx64, what, from,
                     load_le(host + from, len), load_le(guest + from, len));
            return true;
        }
    return false;
}

static bool differ_fpu(struct difference *d, const struct fpu_state *h, const struct fpu_state *g)
{
    char what[16];
    if (differ(d, "mxcsr", h->legacy.mxcsr, g->legacy.mxcsr))
        return true;
    for (unsigned i = 0; i < 16; i++) {
        snprintf(what, sizeof(what), "xmm%u", i);
        if (differ_bytes(d, what, h->legacy.xmm[i], g->legacy.xmm[i], 16))
            return true;
        snprintf(what, sizeof(what), "ymm%u high", i);
        if (differ_bytes(d, what, h->ymm_hi[i], g->ymm_hi[i], 16))
            return true;
    }
    return false;
}

static bool differ_x87(struct difference *d, const struct fpu_legacy *h, const struct fpu_legacy *g)
{
    char what[16];
    if (differ(d, "fcw", h->fcw, g->fcw) || differ(d, "fsw", h->fsw, g->fsw) ||
        differ(d, "ftw", h->ftw_abridged, g->ftw_abridged))
        return true;
    for (unsigned i = 0; i < 8; i++) {
        snprintf(what, sizeof(what), "st%u", i);
        if (differ_bytes(d, what, h->st[i], g->st[i], 10))
            return true;
    }
    return false;
}

/* Instructions that store the x87 instruction and data pointers: what stands there is where the host ran its
 * copy, so those bytes are not compared. */
static bool stores_x87_pointers(u16 op)
{
    return op == OP_FNSTENV || op == OP_FNSAVE || op == OP_FXSAVE || op == OP_FXSAVE64;
}

/* Which of several bytes that all fault is reported differs between processors: the two operands of CMPS, and
 * the bytes that a mask selects. */
static bool address_is_open(u16 op)
{
    return op == OP_CMPS || op == OP_MASKMOVQ || op == OP_MASKMOVDQU || op == OP_VMASKMOVDQU;
}

/* MMX instructions that fault have already made the x87 state an MMX one, or not yet. */
static bool x87_is_open(u16 op)
{
    return op == OP_CVTPD2PI || op == OP_CVTPS2PI || op == OP_CVTTPD2PI || op == OP_CVTTPS2PI ||
           op == OP_MASKMOVQ;
}

static bool compare(const struct test_case *c, const struct test_result *h, const struct test_result *g,
                    struct difference *d)
{
    /* Linux hides from a process whether a page of the kernel's half is there. */
    u32 error_mask = h->vector == VEC_PF && h->cr2 >> 63 ? ~(u32)PF_P : ~0u;
    bool has_error = h->vector == VEC_PF || h->vector == VEC_GP || h->vector == VEC_SS;
    unsigned registers = c->mode == MODE_LONG64 ? 16 : 8;
    u64 mask = c->mode == MODE_LONG64 ? ~0ULL : 0xffffffff;
    u64 address_mask = address_is_open(c->insn.op) ? 0 : ~0ULL;
    if (differ(d, "vector", h->vector, g->vector) || differ(d, "rip", h->rip, g->rip) ||
        (has_error && differ(d, "error code", h->error & error_mask, g->error & error_mask)) ||
        (h->vector == VEC_PF && differ(d, "cr2", h->cr2 & address_mask, g->cr2 & address_mask)))
        return false;
    for (unsigned i = 0; i < registers; i++)
        if (differ(d, reg_names[i], h->gpr[i] & mask, g->gpr[i] & mask))
            return false;
    if (differ(d, "rflags", h->rflags & FLAGS_COMPARED, g->rflags & FLAGS_COMPARED) ||
        differ_fpu(d, &h->fpu, &g->fpu))
        return false;
    if ((h->vector == VEC_BP || !x87_is_open(c->insn.op)) && differ_x87(d, &h->fpu.legacy, &g->fpu.legacy))
        return false;
    return stores_x87_pointers(c->insn.op) || !differ_bytes(d, "memory", h->data, g->data, DATA_SIZE);
}

static void show(const struct form *f, unsigned n, const struct test_case *c, const struct difference *d)
{
    char text[96];
    insn_format(&c->insn, c->mode, INSN_ADDR, text, sizeof(text));
    printf("#   case %u of %d-bit form: %s   [", n, f->mode == MODE_LONG64 ? 64 : 32, text);
    for (unsigned k = 0; k < c->len; k++)
        printf("%s%02x", k ? " " : "", c->bytes[k]);
    printf("]\n#   %s\n#  ", d->text);
    for (unsigned i = 0; i < 16; i++)
        printf(" %s=%" PRIx64, reg_names[i], c->gpr[i]);
    printf(" rflags=%" PRIx64 "\n", c->rflags);
}

struct tally {
    unsigned cases, bad, shown, skipped;
};

/* Who is right. */
struct oracle {
    bool host32;                /* the host runs 32-bit forms */
    struct test_guest *instead; /* who runs them if not; NULL: nobody */
};

static bool answers(const struct oracle *o, const struct form *f)
{
    return f->mode == MODE_LONG64 || o->host32 || o->instead;
}

static void ask(const struct oracle *o, const struct test_case *c, struct test_result *r)
{
    if (c->mode == MODE_LONG64 || o->host32)
        host_run(c, r);
    else if (!guest_run(o->instead, c, r))
        r->vector = ~0u;
}

static void run_form(struct test_guest *g, const struct oracle *o, const struct form *f, unsigned cases,
                     struct tally *t)
{
    static struct test_case c;
    static struct test_result host, guest;
    if (!answers(o, f)) {
        t->skipped++;
        return;
    }
    for (unsigned n = 0; n < cases; n++) {
        struct difference d = {"the engine stopped"};
        case_generate(f, n, &c);
        ask(o, &c, &host);
        bool same = guest_run(g, &c, &guest) && compare(&c, &host, &guest, &d);
        t->cases++;
        if (same)
            continue;
        t->bad++;
        if (t->shown++ < 2)
            show(f, n, &c, &d);
    }
}

static int by_operation(const void *a, const void *b)
{
    return (int)((const struct form *)a)->insn.op - (int)((const struct form *)b)->insn.op;
}

static void report(const struct tally *t, const char *operation, const char *engine, unsigned forms)
{
    if (t->cases)
        printf("%s %s on %s: %u forms, %u cases%s", t->bad ? "not ok" : "ok", operation, engine, forms - t->skipped,
               t->cases, t->bad ? "" : "\n");
    if (t->bad)
        printf(", %u differ from the host CPU\n", t->bad);
}

/* Returns how many cases differ. */
static unsigned run_all(const struct engine_ops *ops, const struct oracle *o, unsigned cases, const char *only)
{
    struct form *forms;
    struct tally total = {0, 0, 0, 0};
    struct test_guest *g = guest_create(ops);
    unsigned count = forms_enumerate(guest_model(g), &forms);
    qsort(forms, count, sizeof(*forms), by_operation);
    for (unsigned i = 0; i < count;) {
        u16 op = forms[i].insn.op;
        struct tally t = {0, 0, 0, 0};
        bool chosen = !only || strcmp(only, op_info[op].name) == 0;
        unsigned first = i;
        for (; i < count && forms[i].insn.op == op; i++)
            if (chosen)
                run_form(g, o, &forms[i], cases, &t);
        report(&t, op_info[op].name, ops->name, i - first);
        total.cases += t.cases;
        total.bad += t.bad;
        total.skipped += t.skipped;
    }
    if (total.skipped)
        printf("ok %u 32-bit forms on %s # SKIP this machine's kernel runs no 32-bit code\n", total.skipped, ops->name);
    printf("# %u forms, %u cases, %u differ\n", count, total.cases, total.bad);
    guest_destroy(g);
    free(forms);
    return total.bad;
}

int main(int argc, char **argv)
{
    const struct engine_ops *ops = engine_find(argc > 1 ? argv[1] : "interp");
    unsigned cases = argc > 2 ? (unsigned)atoi(argv[2]) : DEFAULT_CASES;
    if (!ops || !cases) {
        fprintf(stderr, "usage: insn_test [ENGINE [CASES-PER-FORM [OPERATION]]]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    host_setup(); /* first: an engine's handlers pass on what is not theirs */
    struct oracle o = {.host32 = host_runs_32bit()};
    if (!o.host32 && ops != engine_find("interp"))
        o.instead = guest_create(engine_find("interp"));
    unsigned bad = run_all(ops, &o, cases, argc > 3 ? argv[3] : NULL);
    if (o.instead)
        guest_destroy(o.instead);
    return bad != 0;
}
