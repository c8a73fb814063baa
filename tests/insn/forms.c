/*
 * All forms of all user-mode instructions, found by walking the opcode maps: every prefix, map, opcode
 * and ModRM byte is given to the decoder, and what decodes to something not seen before is a form. So
 * the list follows insn.def and the CPU model, and cannot forget one.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cpu/model.h"
#include "insn_test.h"

#define SEEN_SIZE (1u << 20)

struct collector {
    const struct cpu_model *model;
    struct form *forms;
    unsigned count, room;
    u64 *seen; /* open hash of keys, 0 = free */
};

/* What makes two encodings the same form: everything but register numbers, displacement and values. */
static u64 form_key(const struct insn *i, enum cpu_mode mode)
{
    u64 h = 0x9e3779b97f4a7c15ULL ^ i->op;
    u8 facts[] = {(u8)mode, i->opsize, i->addrsize, i->prefix, i->nopd};
    for (unsigned k = 0; k < sizeof(facts); k++)
        h = (h ^ facts[k]) * 0x100000001b3ULL;
    for (unsigned k = 0; k < i->nopd && k < 4; k++) {
        const struct operand *o = &i->opd[k];
        h = (h ^ o->kind ^ (u64)o->size << 8 ^ (u64)o->access << 24) * 0x100000001b3ULL;
    }
    h ^= h >> 29;
    return h ? h : 1;
}

static bool add_key(struct collector *c, u64 key)
{
    u32 at = (u32)(key * 0x9e3779b97f4a7c15ULL >> 44);
    while (c->seen[at]) {
        if (c->seen[at] == key)
            return false;
        at = (at + 1) % SEEN_SIZE;
    }
    c->seen[at] = key;
    return true;
}

/* Operations that a process cannot run to the same end twice, or that leave the process: time and random
 * numbers, and calls of the kernel. Segment loads are in the guest's own system tests. */
static bool excluded(const struct insn *i)
{
    switch (i->op) {
    case OP_RDRAND:
    case OP_RDSEED:
    case OP_WRFSBASE: /* the host's C library lives there */
    case OP_RDFSBASE:
    case OP_RDGSBASE:
    case OP_WRGSBASE:
    case OP_XSAVE:
    case OP_XSAVE64:
    case OP_XSAVEC:
    case OP_XSAVEC64:
    case OP_XSAVEOPT:
    case OP_XSAVEOPT64: /* images differ by components that only the host has; test_native has these */
        return true;
    default:
        break;
    }
    for (unsigned k = 0; k < i->nopd && k < 4; k++)
        if (i->opd[k].kind == OPD_SEG)
            return true;
    return false;
}

/* Flag instructions are in the system list but belong to user mode. */
static bool user_mode_system(u16 op)
{
    return op == OP_PUSHF || op == OP_PUSHFD || op == OP_PUSHFQ || op == OP_POPF || op == OP_POPFD ||
           op == OP_POPFQ || op == OP_LAHF || op == OP_SAHF || op == OP_CLD || op == OP_STD || op == OP_CLC ||
           op == OP_STC || op == OP_CMC || op == OP_BOUND;
}

static bool wanted(const struct collector *c, const struct insn *i)
{
    if (i->flags & INSN_NOT_YET || excluded(i))
        return false;
    if (i->feature != FEAT_COUNT && !cpu_has(c->model, i->feature))
        return false;
    if (i->cls == CLASS_SYSTEM || i->cls == CLASS_IO || i->cls == CLASS_FAR)
        return user_mode_system(i->op);
    return true;
}

static void try_bytes(struct collector *c, enum cpu_mode mode, const u8 *bytes)
{
    struct insn i;
    if (insn_decode(bytes, 15, mode, &i) != DECODE_OK || !wanted(c, &i))
        return;
    if (!add_key(c, form_key(&i, mode)))
        return;
    if (c->count == c->room) {
        c->room = c->room ? 2 * c->room : 4096;
        c->forms = realloc(c->forms, c->room * sizeof(*c->forms));
    }
    struct form *f = &c->forms[c->count++];
    *f = (struct form){.mode = mode, .len = i.len, .insn = i};
    memcpy(f->bytes, bytes, i.len);
}

/* All opcodes and ModRM bytes behind the given prefix bytes. */
static void walk_opcodes(struct collector *c, enum cpu_mode mode, const u8 *prefix, unsigned n)
{
    u8 bytes[32] = {0};
    memcpy(bytes, prefix, n);
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        for (unsigned modrm = 0; modrm < 256; modrm++) {
            memset(bytes + n, 0, 15 - n);
            bytes[n] = (u8)opcode;
            bytes[n + 1] = (u8)modrm;
            bytes[n + 2] = 0x24; /* SIB: plain base; or the first displacement byte */
            try_bytes(c, mode, bytes);
        }
    }
}

static void walk_legacy(struct collector *c, enum cpu_mode mode)
{
    static const struct {
        u8 n, bytes[3];
    } prefixes[] = {{0, {0}},          {1, {0x66}},       {1, {0xf3}},       {1, {0xf2}},      {2, {0x66, 0xf2}},
                    {2, {0x66, 0xf3}}, {1, {0xf0}},       {2, {0xf0, 0x66}}, {1, {0x67}},      {2, {0x67, 0xf3}},
                    {2, {0x67, 0xf2}}, {2, {0x67, 0x66}}};
    static const struct {
        u8 n, bytes[2];
    } maps[] = {{0, {0}}, {1, {0x0f}}, {2, {0x0f, 0x38}}, {2, {0x0f, 0x3a}}};
    for (unsigned p = 0; p < ARRAY_SIZE(prefixes); p++)
        for (unsigned rex = 0; rex < (mode == MODE_LONG64 ? 2 : 1); rex++)
            for (unsigned m = 0; m < ARRAY_SIZE(maps); m++) {
                u8 bytes[8];
                unsigned n = prefixes[p].n;
                memcpy(bytes, prefixes[p].bytes, n);
                if (rex)
                    bytes[n++] = 0x48;
                memcpy(bytes + n, maps[m].bytes, maps[m].n);
                walk_opcodes(c, mode, bytes, n + maps[m].n);
            }
}

/* Three-byte VEX: map, W, L, pp, and vvvv unused or naming a register (inverted). */
static void walk_vex(struct collector *c, enum cpu_mode mode)
{
    for (unsigned map = 1; map <= 3; map++)
        for (unsigned low = 0; low < 16; low++)
            for (unsigned vvvv = 0xf; vvvv >= 0xb; vvvv -= 4) {
                u8 bytes[3] = {0xc4, (u8)(0xe0 | map),
                               (u8)((low & 8) << 4 | vvvv << 3 | (low & 7))};
                walk_opcodes(c, mode, bytes, 3);
            }
}

unsigned forms_enumerate(const struct cpu_model *model, struct form **out)
{
    struct collector c = {.model = model, .seen = calloc(SEEN_SIZE, sizeof(u64))};
    static const enum cpu_mode modes[] = {MODE_LONG64, MODE_COMPAT32};
    for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
        walk_legacy(&c, modes[m]);
        walk_vex(&c, modes[m]);
    }
    free(c.seen);
    *out = c.forms;
    return c.count;
}
