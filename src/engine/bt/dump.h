/*
 * Looking at translations: while a struct bt_dump is attached to the engine bt, a copy of each TU
 * and its CCF is kept, with where each guest instruction's host code begins.
 */
#ifndef RINGER_ENGINE_BT_DUMP_H
#define RINGER_ENGINE_BT_DUMP_H

#include "cpu/insn.h"

struct dump_insn {
    struct insn insn;
    u64 rip;
    u32 host; /* offset in the CCF; it goes to where the next one begins, the last one's to body_end
               */
};

/* A way out of the CCF to an address that is known. */
struct dump_exit {
    u32 at; /* offset of the displacement of the jump that leaves */
    u64 rip;
};

struct dump_tu {
    u64 rip;
    struct dump_insn *insn;
    struct dump_exit *exit;
    unsigned insns, exits;
    u32 slow_paths; /* places that may need C */
    u8 *code;       /* the CCF as it was made: no exit is linked */
    u32 size;
    u32 body_end; /* behind the last instruction; up to `cold` there are exits */
    u32 cold;     /* from here on slow paths and stubs of exits */
};

struct bt_dump {
    struct dump_tu *tu;
    unsigned count;
    bool failed; /* no memory: something is missing */
};

/* From now on (d not NULL) what is translated is added to *d. */
void bt_dump_to(void *engine, struct bt_dump *d);
/* Translates at rip, unless that was done before. False: there is no code that can be translated.
 */
bool bt_dump_at(void *engine, struct vcpu *v, u64 rip);
/* What translated code reaches at GS plus this, in a word or two; NULL: nothing that has a name. */
const char *bt_dump_field(i64 disp);
void bt_dump_free(struct bt_dump *d);

#endif
