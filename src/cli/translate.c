/*
 * Prints translation units and what became of them side by side: on the left the guest's
 * instructions, on the right the host's that stand for each.
 */
#include "cli/translate.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/codefile.h"
#include "cli/options.h"

#define LEFT_WIDTH 42
#define NOTE_AT    34 /* column of notes behind the host's instruction */

struct request {
    struct code_options code;
    struct call call;
    bool run, cold;
};

/* --- the command line --- */

static int set_mode(struct request *r, const char *arg, struct error *err)
{
    r->code.mode = (unsigned)strtoul(arg, NULL, 10);
    if (strcmp(arg, "16") != 0 && strcmp(arg, "32") != 0 && strcmp(arg, "64") != 0)
        return error_set(err, EINVAL, "--mode %s: takes 16, 32 or 64", arg);
    return 0;
}

static int set_base(struct request *r, const char *arg, struct error *err)
{
    r->code.has_base = true;
    if (!options_size(arg, &r->code.base))
        return error_set(err, EINVAL, "--base %s: takes an address", arg);
    return 0;
}

static int set_function(struct request *r, const char *arg, struct error *err)
{
    (void)err;
    r->code.function = arg;
    return 0;
}

static const struct {
    const char *name;
    int (*set)(struct request *r, const char *arg, struct error *err);
} valued[] = {{"--function", set_function}, {"--mode", set_mode}, {"--base", set_base}};

/* What follows --run. */
static int set_args(struct request *r, int argc, char **argv, struct error *err)
{
    r->run = true;
    for (int n = 0; n < argc; n++) {
        char *end;
        errno = 0;
        u64 value = argv[n][0] == '-' ? (u64)strtoll(argv[n], &end, 0) : strtoull(argv[n], &end, 0);
        if (errno || *end || end == argv[n])
            return error_set(err, EINVAL, "--run: '%s' is not a number", argv[n]);
        if (r->call.args == FUNCTION_ARGS)
            return error_set(err, EINVAL, "--run: takes at most %d arguments", FUNCTION_ARGS);
        r->call.arg[r->call.args++] = value;
    }
    return 0;
}

static int parse_one(struct request *r, int argc, char **argv, int *i, struct error *err)
{
    const char *word = argv[*i];
    if (strcmp(word, "--cold") == 0) {
        r->cold = true;
        return 0;
    }
    for (unsigned n = 0; n < ARRAY_SIZE(valued); n++) {
        if (strcmp(word, valued[n].name) != 0)
            continue;
        if (++*i == argc)
            return error_set(err, EINVAL, "%s needs a value", word);
        return valued[n].set(r, argv[*i], err);
    }
    if (word[0] == '-')
        return error_set(err, EINVAL, "%s: no such option of translate; see ringer --help", word);
    if (r->code.path)
        return error_set(err, EINVAL, "translate takes one file, not '%s' as well", word);
    r->code.path = word;
    return 0;
}

/* 1: --help. */
static int parse(int argc, char **argv, struct request *r, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
        int rc = 0;
        if (strcmp(argv[i], "--run") == 0) {
            rc = set_args(r, argc - i - 1, argv + i + 1, err);
            i = argc;
        } else {
            rc = parse_one(r, argc, argv, &i, err);
        }
        if (rc < 0)
            return rc;
    }
    if (!r->code.path)
        return error_set(err, EINVAL, "translate: name a file with code");
    return 0;
}

/* --- printing --- */

/* Zydis pads addresses with zeros. */
static void strip_zeros(char *text)
{
    char *to = text;
    for (const char *from = text; *from;) {
        bool number = from[0] == '0' && from[1] == 'x';
        if (number) {
            *to++ = *from++;
            *to++ = *from++;
        }
        while (number && from[0] == '0' && isxdigit((unsigned char)from[1]))
            from++;
        if (*from)
            *to++ = *from++;
    }
    *to = 0;
}

/* What the instruction reaches: where it jumps to, or which part of the vCPU. */
static void host_note(const struct dump_tu *tu, u32 at, const struct insn *i, char *note,
                      size_t size)
{
    const char *field = NULL;
    note[0] = 0;
    for (unsigned x = 0; x < tu->exits; x++)
        if (tu->exit[x].at > at && tu->exit[x].at < at + i->len) {
            snprintf(note, size, "-> %" PRIx64, tu->exit[x].rip);
            return;
        }
    for (unsigned n = 0; n < i->nopd; n++) {
        u64 target = at + i->len + i->imm;
        if (i->opd[n].kind == OPD_REL && target >= tu->cold)
            snprintf(note, size, "%s", target < tu->size ? "-> cold" : "-> C");
        else if (i->opd[n].kind == OPD_MEM && i->seg == SEG_GS)
            field = bt_dump_field(i->disp);
    }
    if (field)
        snprintf(note, size, "; %s", field);
}

/* Text of the host instruction at `at`; returns its length. Addresses are offsets in the CCF. */
static unsigned host_text(const struct dump_tu *tu, u32 at, char *text, size_t size, u16 *op)
{
    struct insn i;
    unsigned n = MIN(tu->size - at, 15);
    if (insn_decode(tu->code + at, n, MODE_LONG64, &i) != DECODE_OK) {
        snprintf(text, size, "(not known) 0x%02x", tu->code[at]);
        *op = OP_INVALID;
        return 1;
    }
    insn_format(&i, MODE_LONG64, at, text, size);
    strip_zeros(text);
    *op = i.op;
    size_t used = strlen(text);
    char note[32];
    host_note(tu, at, &i, note, sizeof(note));
    if (note[0])
        snprintf(text + used, size - used, "%*s%s", used < NOTE_AT ? (int)(NOTE_AT - used) : 1, "",
                 note);
    return i.len;
}

/* Is the host code in [at, end) the guest's instruction, but for its registers? */
static bool is_ident(const struct dump_tu *tu, const struct dump_insn *d, u32 end)
{
    char text[160];
    u16 op;
    return d->host < end && d->host + host_text(tu, d->host, text, sizeof(text), &op) == end &&
           op == d->insn.op;
}

/* The first line has `left`. */
static void print_host(const struct dump_tu *tu, u32 at, u32 end, const char *left)
{
    char text[160];
    u16 op;
    if (at >= end && *left)
        printf("%s\n", left);
    while (at < end) {
        unsigned len = host_text(tu, at, text, sizeof(text), &op);
        printf("%-*s | %4x  %s\n", LEFT_WIDTH, left, at, text);
        left = "";
        at += len;
    }
}

static void print_insn(const struct dump_tu *tu, const struct dump_insn *d, u32 end,
                       enum cpu_mode mode)
{
    char text[96], left[128];
    insn_format(&d->insn, mode, d->rip, text, sizeof(text));
    strip_zeros(text);
    snprintf(left, sizeof(left), "%c %8" PRIx64 "  %s", is_ident(tu, d, end) ? '=' : ' ', d->rip,
             text);
    print_host(tu, d->host, end, left);
}

static void print_tu(const struct dump_tu *tu, unsigned number, enum cpu_mode mode, bool cold)
{
    unsigned bytes = 0;
    for (unsigned n = 0; n < tu->insns; n++)
        bytes += tu->insn[n].insn.len;
    printf("TU %u at %" PRIx64 ": %u instructions, %u bytes; CCF: %u bytes and %u of cold code\n",
           number, tu->rip, tu->insns, bytes, tu->cold, tu->size - tu->cold);
    print_host(tu, 0, tu->insns ? tu->insn[0].host : 0, "  (entries)");
    for (unsigned n = 0; n < tu->insns; n++)
        print_insn(tu, &tu->insn[n], n + 1 < tu->insns ? tu->insn[n + 1].host : tu->body_end, mode);
    if (tu->body_end < tu->cold)
        print_host(tu, tu->body_end, tu->cold, "  (exits)");
    if (cold)
        print_host(tu, tu->cold, tu->size, "  (cold)");
    else
        printf("  (cold: %u places that may need C, %u exits)\n", tu->slow_paths, tu->exits);
    printf("\n");
}

static void print_all(const struct request *r, const struct function *fn,
                      const struct bt_dump *dump)
{
    enum cpu_mode mode = fn->mode == 16 ? MODE_REAL : fn->mode == 32 ? MODE_PROT32 : MODE_LONG64;
    for (unsigned n = 0; n < dump->count; n++)
        if (dump->tu[n].rip != FUNCTION_RETURN)
            print_tu(&dump->tu[n], n + 1, mode, r->cold);
}

static void print_call(const struct request *r)
{
    const struct call *c = &r->call;
    printf("%s(", r->code.function ? r->code.function : r->code.path);
    for (unsigned n = 0; n < c->args; n++)
        printf("%s%" PRId64, n ? ", " : "", (i64)c->arg[n]);
    printf(") = %" PRIu64 " (0x%" PRIx64 ")\n", c->result, c->result);
}

/* --- the command --- */

static int translate(struct request *r, const struct function *fn, struct error *err)
{
    struct bt_dump dump = {0};
    int rc =
        r->run ? vm_call_function(fn, &r->call, &dump, err) : vm_translate_function(fn, &dump, err);
    if (rc == 0 || rc == -EFAULT)
        print_all(r, fn, &dump);
    if (rc == 0 && r->run)
        print_call(r);
    bt_dump_free(&dump);
    return rc;
}

int translate_command(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct function fn;
    u8 *bytes = NULL;
    int rc = parse(argc, argv, &r, err);
    if (rc)
        return rc;
    rc = codefile_load(&r.code, &fn, &bytes, err);
    if (rc == 0)
        rc = translate(&r, &fn, err);
    free(bytes);
    return rc;
}

void translate_help(void)
{
    printf("Options of `ringer translate FILE` (raw code, or an ELF file and a function of it):\n"
           "  --function NAME              the function\n"
           "  --mode 16|32|64              of the code (default: the ELF file's; raw code: 64)\n"
           "  --base ADDRESS               where raw code, an object file or a shared object is "
           "put\n"
           "  --cold                       show slow paths and stubs of exits, too\n"
           "  --run [NUMBER...]            call it with these arguments, and show only what was\n"
           "                               translated for that; the last option\n"
           "  `=` marks instructions that became one host instruction of the same operation\n");
}
