/*
 * Takes a guest instruction's bytes apart, so that it can be emitted again with other registers and
 * another memory operand (SDM vol. 2, ch. 2). Prefixes that choose the operation are kept; segment
 * and address-size prefixes are not, because memory operands are made anew.
 */
#include "engine/bt/trans.h"

static bool is_vex(const u8 *p, bool wide)
{
    return (p[0] == 0xc4 || p[0] == 0xc5) && (wide || (p[1] & 0xc0) == 0xc0);
}

static void vex_opcode(const u8 *p, struct opcode *o)
{
    o->vex = true;
    if (p[0] == 0xc5) {
        o->map = MAP_0F;
        p++;
    } else {
        o->map = p[1] & 0x1f;
        o->w = p[2] >> 7;
        p += 2;
    }
    o->vvvv = ~(*p >> 3) & 15;
    o->l = *p >> 2 & 1;
    o->pp = *p & 3;
    o->code = p[1];
    o->size = 4;
}

/* opcode.size: what the encoding says (66h: 2, REX.W: 8), not what the operation has; byte
 * registers are told by the operands. */
void opcode_of(const struct insn *i, bool wide, struct opcode *o)
{
    const u8 *p = i->raw;
    u8 rep = NO_PREFIX;
    bool opsize = false, rex_w = false;
    *o = (struct opcode){0};
    for (;; p++) {
        if (wide && (*p & 0xf0) == 0x40) { /* counts only if the opcode follows */
            rex_w = *p >> 3 & 1;
            continue;
        }
        if (*p == 0x66)
            opsize = true;
        else if (*p == 0xf2 || *p == 0xf3)
            rep = *p;
        else if (*p != 0xf0 && *p != 0x67 && *p != 0x2e && *p != 0x36 && *p != 0x3e && *p != 0x26 &&
                 *p != 0x64 && *p != 0x65)
            break;
        rex_w = false;
    }
    if (is_vex(p, wide)) {
        vex_opcode(p, o);
        return;
    }
    o->size = rex_w ? 8 : opsize ? 2 : 4;
    if (rex_w && opsize)
        o->prefix = PREFIX_66; /* mandatory, beside REX.W */
    if (rep != NO_PREFIX)
        o->prefix = rep;
    o->lock = (i->prefix & PFX_LOCK) != 0;
    if (*p == 0x0f) {
        p++;
        o->map = MAP_0F;
        if (*p == 0x38 || *p == 0x3a)
            o->map = *p++ == 0x38 ? MAP_0F38 : MAP_0F3A;
    }
    o->code = *p;
}
