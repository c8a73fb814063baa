/*
 * Remembers decoded instructions for whoever decodes much. What the bytes up to ModRM and SIB
 * ("head") say of an instruction doesn't depend on the displacement and the immediate behind them;
 * so an entry serves all instructions that begin with its head, with their own values filled in.
 * Where the head ends is computed here; but an entry is made only if Zydis found the same, so what
 * this file knows of opcodes can't make a decoding wrong.
 */
#include <stdlib.h>

#include "cpu/decode_zydis.h"

#define ENTRIES  4096
#define HEAD_MAX 8

struct entry {
    u64 head;     /* bytes, the first in the lowest bits */
    u8 head_len;  /* 0: empty */
    u8 mode;      /* enum cpu_mode */
    u8 disp_at;   /* offset of the displacement, of disp_size bytes */
    u8 disp_size; /* 0: none */
    u8 imm_size;  /* likewise; at insn.imm_at */
    bool imm_signed;
    struct insn insn;
};

struct decode_cache {
    struct entry entry[ENTRIES];
};

struct decode_cache *decode_cache_create(void)
{
    return calloc(1, sizeof(struct decode_cache));
}

void decode_cache_destroy(struct decode_cache *c)
{
    free(c);
}

/* --- where the head ends --- */

#define RANGE(first, last) (~0ULL >> (63 - (last) % 64) & ~0ULL << (first) % 64)

/* Opcodes without ModRM, a bit each. */
static const u64 no_modrm[2][4] = {
    {
        RANGE(0x04, 0x07) | RANGE(0x0c, 0x0e) | RANGE(0x14, 0x17) | RANGE(0x1c, 0x1f) |
            RANGE(0x24, 0x27) | RANGE(0x2c, 0x2f) | RANGE(0x34, 0x37) | RANGE(0x3c, 0x3f),
        RANGE(0x40, 0x61) | RANGE(0x64, 0x68) | RANGE(0x6a, 0x6a) | RANGE(0x6c, 0x7f),
        RANGE(0x90, 0xbf),
        RANGE(0xc2, 0xc3) | RANGE(0xc8, 0xcf) | RANGE(0xd4, 0xd7) | RANGE(0xe0, 0xf5) |
            RANGE(0xf8, 0xfd),
    },
    {
        RANGE(0x05, 0x09) | RANGE(0x0b, 0x0b) | RANGE(0x0e, 0x0e) | RANGE(0x30, 0x37),
        RANGE(0x77, 0x77),
        RANGE(0x80, 0x8f) | RANGE(0xa0, 0xa2) | RANGE(0xa8, 0xaa),
        RANGE(0xc8, 0xcf),
    },
};

static bool is_prefix(u8 b, bool wide)
{
    switch (b) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
        return true;
    default:
        return wide && (b & 0xf0) == 0x40;
    }
}

static bool has_sib(u8 modrm, bool addr16)
{
    return modrm < 0xc0 && (modrm & 7) == 4 && !addr16;
}

/* Length of the opcode with its escapes, from p on; *modrm: ModRM follows. */
static unsigned opcode_length(const u8 *p, bool wide, bool *modrm)
{
    *modrm = true;
    if ((p[0] == 0xc4 || p[0] == 0xc5) && (wide || p[1] >= 0xc0)) {
        unsigned len = p[0] == 0xc4 ? 4 : 3;
        *modrm = p[len - 1] != 0x77; /* VZEROUPPER */
        return len;
    }
    if (p[0] != 0x0f) {
        *modrm = !(no_modrm[0][p[0] / 64] & BIT(p[0] % 64));
        return 1;
    }
    if (p[1] == 0x38 || p[1] == 0x3a)
        return 3;
    *modrm = !(no_modrm[1][p[1] / 64] & BIT(p[1] % 64));
    return 2;
}

static bool natural_addr16(enum cpu_mode mode)
{
    return mode != MODE_LONG64 && mode != MODE_PROT32 && mode != MODE_COMPAT32;
}

/* At p are 2 * HEAD_MAX bytes. May be more than HEAD_MAX. */
static unsigned head_length(const u8 *p, enum cpu_mode mode)
{
    bool addr16 = natural_addr16(mode), wide = mode == MODE_LONG64, modrm;
    unsigned n = 0;
    for (; n < HEAD_MAX && is_prefix(p[n], wide); n++)
        if (p[n] == 0x67)
            addr16 = !wide && !natural_addr16(mode);
    n += opcode_length(p + n, wide, &modrm);
    if (modrm)
        n += has_sib(p[n], addr16) ? 2 : 1;
    return n;
}

/* --- entries --- */

static u64 value_at(const u8 *p, unsigned size, bool is_signed)
{
    u64 v = load_le(p, size);
    unsigned unused = 64 - 8 * size;
    return is_signed ? (u64)((i64)(v << unused) >> unused) : v;
}

static struct entry *entry_for(struct decode_cache *c, u64 head, enum cpu_mode mode)
{
    u64 h = (head ^ (u64)mode << 61) * 0x9e3779b97f4a7c15ULL;
    return &c->entry[(h >> 32) % ENTRIES];
}

/* Two immediates and registers in immediates are not for templates. */
static bool suits(const ZydisDecodedInstruction *zi, const struct insn *i)
{
    for (unsigned n = 0; n < i->nopd; n++)
        if (i->opd[n].enc == ENC_IS4)
            return false;
    return !zi->raw.imm[1].size && (!zi->raw.disp.size || i->disp == zi->raw.disp.value) &&
           (!zi->raw.imm[0].size || i->imm == zi->raw.imm[0].value.u);
}

static void enter(struct entry *e, u64 head, unsigned head_len, enum cpu_mode mode,
                  const ZydisDecodedInstruction *zi, const struct insn *i)
{
    unsigned end = zi->raw.disp.size     ? zi->raw.disp.offset
                   : zi->raw.imm[0].size ? zi->raw.imm[0].offset
                                         : zi->length;
    if (end != head_len || !suits(zi, i))
        return;
    *e = (struct entry){.head = head,
                        .head_len = (u8)head_len,
                        .mode = (u8)mode,
                        .disp_at = zi->raw.disp.offset,
                        .disp_size = zi->raw.disp.size / 8,
                        .imm_size = zi->raw.imm[0].size / 8,
                        .imm_signed = zi->raw.imm[0].is_signed,
                        .insn = *i};
}

static enum decode_status fill_in(const struct entry *e, const u8 *bytes, unsigned n,
                                  struct insn *out)
{
    *out = e->insn;
    if (out->len > n)
        return DECODE_SHORT;
    memcpy(out->raw, bytes, out->len);
    if (e->disp_size)
        out->disp = (i64)value_at(bytes + e->disp_at, e->disp_size, true);
    if (e->imm_size)
        out->imm = value_at(bytes + out->imm_at, e->imm_size, e->imm_signed);
    return DECODE_OK;
}

enum decode_status insn_decode_cached(struct decode_cache *c, const u8 *bytes, unsigned n,
                                      enum cpu_mode mode, struct insn *out)
{
    ZydisDecodedInstruction zi;
    u8 start[2 * HEAD_MAX] = {0};
    memcpy(start, bytes, MIN(n, sizeof(start)));
    unsigned len = head_length(start, mode);
    if (len > HEAD_MAX || len > n)
        return decode_with_zydis(bytes, n, mode, out, &zi);
    u64 head = load_le(start, len);
    struct entry *e = entry_for(c, head, mode);
    if (e->head == head && e->head_len == len && e->mode == mode)
        return fill_in(e, bytes, n, out);
    enum decode_status status = decode_with_zydis(bytes, n, mode, out, &zi);
    if (status == DECODE_OK)
        enter(e, head, len, mode, &zi, out);
    return status;
}
