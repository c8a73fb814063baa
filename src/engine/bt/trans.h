/*
 * What the files that translate one TU share. Instructions are emitted one after the other; what is
 * needed rarely (slow paths, stubs of exits) goes behind them, as "cold" code.
 *
 * Where the guest's flags are is known at each point: in the host's flags, as an image in RAX, or,
 * after the translator's own code has overwritten them, to be had by executing the instruction that
 * made them once more (its recipe). They are never lost: every access may fault and show them.
 */
#ifndef RINGER_ENGINE_BT_TRANS_H
#define RINGER_ENGINE_BT_TRANS_H

#include "base/tunables.h"
#include "engine/bt/tcache.h"
#include "mem/access.h"

#define TU_MAX   TUNE_BT_TU_MAX
#define COLD_MAX (8 * TU_MAX + 16)

enum form { FORM_HOST, FORM_IMAGE, FORM_RECIPE };

enum flag_use { FLAGS_NONE, FLAGS_ALL, FLAGS_SOME }; /* written: not, all six, or some or perhaps */

/* What the translator has to know of an instruction before it emits anything. */
struct facts {
    u8 writes;     /* enum flag_use */
    bool reads;    /* flags, to compute or because it may leave some as they are */
    bool clobbers; /* its code may overwrite the host's flags before it is done */
    bool callout;  /* executed by C */
    bool device;   /* for what was learned of it: it accesses devices */
    u8 lowerer;    /* else: which lower_*.c translates it */
    bool recipe;   /* its flags can be made again (and until its last use nothing changes that) */
    u16 modifies;  /* guest registers, if not a callout */
};

/* What an access does for its group (groups.c). */
enum plan_role { PLAN_ALONE, PLAN_LEADER, PLAN_MEMBER };

struct plan {
    u8 role, slot;
    bool write; /* some of the group write */
    i16 low;    /* where the stretch begins, from the leader's address */
    u16 length; /* of the stretch */
};

struct cold {
    u8 *from[4];     /* displacements of the branches that lead here; NULL: none */
    u32 site;        /* its number */
    u8 insn;         /* index in the TU */
    u8 form, recipe; /* the flags' form at `from` */
    u8 after;        /* their form behind the instruction */
    u32 trap;        /* number + 1 of the trap that leads here; 0: none */
    bool lin;        /* T1 shall be the linear address */
    i64 extra;       /* added to the displacement for it */
    u8 base, seg;    /* guest register and segment instead of the operand's, or REG_NONE */
    u8 *resume;      /* behind the instruction */
    u32 t0;          /* what T0 shall be there: offset from GS; 0: anything */
    const u8 *thunk; /* one of thunks.repeat, instead of that to bt_slow(); NULL: that one */
};

/* A stack access that was not in the stack page: goes through the TLB, and comes back. */
struct detour {
    u8 *from, *resume; /* the displacement of the branch; where the access is made, with T0 ready */
    u8 cold;           /* for a miss of the TLB, too: index in trans.cold */
    i64 disp;          /* of the access from RSP */
    i16 low;
    u16 bytes;
    bool write;
};

/* A conditional branch in the middle of a TU whose exit's code stands behind the others. */
struct side_exit {
    u8 *from; /* displacement of the branch */
    u64 rip;
    u8 insn;
    bool image_valid;
};

#define SIDE_EXITS_MAX 24

#define T0_REGION (BT_SLOTS + 1)

struct trans {
    struct bt *bt;
    struct vcpu *v;
    struct tcache *tc;
    struct emit e;
    struct fragment *f;
    struct bt_key key;
    bool wide;   /* 64-bit code */
    bool extend; /* see bt_translate() */

    unsigned n;       /* instructions */
    unsigned back_at; /* from this one on, the trace has gone back in the code */
    unsigned slots;
    unsigned t0_slot; /* number + 1 of the slot that T0 holds, or T0_REGION + that of a region of
                         the mirror whose addend it holds, unless e.t0_lost */
    u32 slot_at[BT_SLOTS]; /* where each slot is: offset from GS */

    unsigned cur;
    u8 form;   /* enum form */
    u8 recipe; /* for FORM_RECIPE and, with form HOST, if has_recipe: whose */
    bool has_recipe;
    bool image_valid; /* RAX holds the image of the current flags */
    bool late;        /* see struct site */
    i16 late_off;
    u16 late_fop;
    bool fpu_ready; /* the guest's FPU state is in the host's registers */
    bool written;   /* a store of the current instruction is to be looked at (several vCPUs) */
    u16 small, in[MIRROR_REGIONS]; /* sets of 64-bit guest registers (mem_mirror.c) */
    bool ended;

    unsigned sides, colds, detours;
    unsigned emitted;
    u8 *cold_code;

    /* Up to here it is cleared for each TU; of these, what is used is written first. */
    struct insn insn[TU_MAX];
    struct facts facts[TU_MAX];
    i16 off[TU_MAX + 1];         /* of each from the TU's first byte; [n]: where it goes on */
    struct plan plan[TU_MAX][2]; /* of the memory operand, of the stack access */
    struct side_exit side[SIDE_EXITS_MAX];
    struct cold cold[COLD_MAX];
    struct detour detour[2 * TU_MAX];
    u8 *host[TU_MAX + 1]; /* where each one's host code begins; [emitted]: behind the last */
};

/* --- dump.c --- */
/* Keeps a copy of the fragment that was just made. */
void dump_fragment(struct bt_dump *d, const struct trans *t);

static inline const struct insn *cur_insn(const struct trans *t)
{
    return &t->insn[t->cur];
}

/* Code of 64-bit kernels: one address for all processes. */
static inline bool is_kernel_half(u64 rip)
{
    return rip >> 63;
}

/* BT and its kin of any bit of memory: by a register. */
static inline bool is_bit_string(const struct insn *i)
{
    return i->op >= OP_BT && i->op <= OP_BTC && i->opd[0].kind == OPD_MEM &&
           i->opd[1].kind == OPD_GPR;
}

static inline u64 off_rip(const struct trans *t, i32 off)
{
    return t->f->rip + (u64)(i64)off;
}

/* Address behind an instruction, resp. the current one. */
static inline u64 behind(const struct trans *t, const struct insn *i)
{
    return off_rip(t, t->off[i - t->insn] + i->len);
}

static inline u64 next_rip(const struct trans *t)
{
    return behind(t, cur_insn(t));
}

/* What was learned of an instruction: LEARNED_*. */
static inline u16 learned_at(const struct trans *t, const struct insn *i)
{
    return t->tc->learned[tcache_learned_hash(t->f->gpa + (u64)(i64)t->off[i - t->insn])];
}

/* Is the access one that its group's first one has checked? Not if that is in the mirror. */
static inline bool has_slot(const struct trans *t, const struct plan *p)
{
    return p->role == PLAN_MEMBER && t->slot_at[p->slot];
}

/* Does the TU go on after the current instruction? */
static inline bool goes_on(const struct trans *t)
{
    return t->cur + 1 < t->n;
}

/* --- trace.c --- */
/* Decodes the TU at gpa and has stores to it noticed. False: nothing that can be kept. */
bool trace_fetch(struct trans *t, u64 gpa, u64 gpa2);

/* --- flags: flags.c --- */
void facts_make(struct trans *t);
/* The host's flags are about to be overwritten. */
void flags_clobber(struct trans *t);
/* They are needed in the host's flags, resp. as an image. */
void flags_to_host(struct trans *t);
void flags_image(struct trans *t);
/* The current instruction has just made them in the host's flags; RAX is free. */
void flags_made(struct trans *t);
/* RAX is about to be used: needs the form HOST or flags that are made anew. */
static inline void image_lost(struct trans *t)
{
    t->image_valid = false;
}
/* Emits the recipe of instruction n. */
void recipe_emit(struct trans *t, unsigned n);

/* --- groups.c --- */
void groups_make(struct trans *t);

/* --- memory: mem.c --- */
/* Emits the check of an access of `size` bytes to the current instruction's memory operand; after
 * it *m is the host's operand, made of T0 and perhaps T1 or T2 and guest registers. */
void mem_access(struct trans *t, unsigned size, enum access access, struct hmem *m);
/* The same at guest register `base` plus disp in segment seg (the stack, strings). */
void mem_access_at(struct trans *t, unsigned base, i64 disp, unsigned seg, unsigned size,
                   enum access access, struct hmem *m);
/* Can the current instruction's operand be accessed inline? */
bool mem_quick(const struct trans *t, const struct insn *i);
bool seg_quick(const struct trans *t, unsigned seg);
/* Of a segment that is: is an access to be compared with its limit? */
bool seg_limited(const struct trans *t, unsigned seg);
/* Makes *m use T0 only; T1 is free then. */
void mem_fold(struct trans *t, struct hmem *m);
/* The code that stack accesses branch to; before the cold code. */
void mem_detours(struct trans *t);
/* dst = effective address (no segment base) of the operand, of `size` bytes; dst is a host
 * register. Flags are kept, T0 and T1 may be overwritten. */
void mem_lea(struct trans *t, const struct insn *i, unsigned dst, unsigned size);
/* dst = linear address; may overwrite the host's flags. */
void mem_lin(struct trans *t, const struct insn *i, unsigned dst, i64 extra);
void mem_lin_at(struct trans *t, unsigned base, i64 disp, unsigned seg, unsigned dst);

/* --- mem_mirror.c --- */
/* Before the TU's instructions are emitted. */
void mirror_learn(struct trans *t);
/* What is known of the registers behind the current instruction. */
void mirror_follow(struct trans *t);
/* emit.touch: guest is the number + 1 of the cold code for a fault of the host. */
void mirror_touch(struct emit *e, u32 guest);

/* --- what depends on RIP: translate.c --- */
/* Notes that the bytes at `at`, just emitted, are to be changed in a clone (clone.c). Whatever is
 * made from RIP, or is a number of a site or exit, or leads out of the fragment's code, needs it.
 */
void reloc_add(struct trans *t, enum reloc_kind kind, const u8 *at);
/* dst = value, which is made by adding to RIP. */
void emit_mov_rip(struct trans *t, unsigned dst, u64 value);
/* Stores it; T1 may be overwritten. */
void emit_store_rip(struct trans *t, unsigned size, const struct hmem *m, u64 value);

/* Compares memory with it; T0 and T1 may be overwritten. */
void emit_cmp_rip(struct trans *t, unsigned size, const struct hmem *m, u64 value);

/* --- sites: translate.c --- */
bool is_plain_move(const struct insn *i);
u32 site_new(struct trans *t, enum site_kind kind, struct site **out);
struct cold *cold_new(struct trans *t, u32 site);
/* A trap at pc; returns its number. */
u32 trap_add(struct trans *t, const u8 *pc);
/* The host instruction at pc may raise a signal; the current instruction is then run by C. */
void trap_new(struct trans *t, const u8 *pc);
/* Calls bt_slow() for a new site, with the flags as an image before and after. */
struct site *emit_slow_call(struct trans *t, enum site_kind kind);
void emit_callout(struct trans *t, bool end);
void emit_exit(struct trans *t, u64 rip);
/* A jump with condition cc (of the host's flags) to rip; else on behind it. Ends the TU, unless it
 * goes on behind the current instruction. */
void emit_branch(struct trans *t, unsigned cc, u64 rip);
/* A look for events; returns the instruction that traps if there are some. */
u8 *emit_poll(struct trans *t);
/* What follows the last change an instruction makes; before its exit, if it has one. */
void emit_insn_done(struct trans *t);

/* --- instructions: lower_*.c; false: not translated, to be called out --- */
bool lower_integer(struct trans *t);
bool lower_stack(struct trans *t);
bool lower_branch(struct trans *t);
bool lower_native(struct trans *t);
bool lower_string(struct trans *t);
bool lower_system(struct trans *t);
/* Would they? Must agree with what they do. */
bool can_integer(const struct trans *t, const struct insn *i);
/* NOPs and prefetches, which access nothing. */
bool is_hint(const struct insn *i);
bool can_stack(const struct trans *t, const struct insn *i);
bool can_branch(const struct trans *t, const struct insn *i);
/* Where a direct branch leads. */
u64 branch_target(const struct trans *t, const struct insn *i);
bool can_native(const struct trans *t, const struct insn *i);
bool can_string(const struct trans *t, const struct insn *i);
bool can_system(const struct trans *t, const struct insn *i);

/* One for each lower_*.c. */
struct lowerer {
    bool (*can)(const struct trans *t, const struct insn *i);
    bool (*lower)(struct trans *t);
};
#define LOWERERS 6
extern const struct lowerer lowerers[LOWERERS];

/* --- lower_segment.c: what quick.c executes, segment loads and system calls --- */
bool can_quick(const struct trans *t, const struct insn *i);
void lower_quick(struct trans *t, const struct insn *i);
/* Is it a segment load that most likely changes nothing that the key tells? */
bool loads_flat(const struct trans *t, const struct insn *i);
/* Or one that never does, so that the TU goes on? */
bool keeps_key(const struct trans *t, const struct insn *i);

/* Does the stack fit an access of the instruction's operand size without a segment check? */
static inline bool fits_stack(const struct trans *t, const struct insn *i)
{
    return t->key.stack != 0 && (i->opsize == 2 || i->opsize == (t->wide ? 8 : 4));
}
/* RSP += n; flags are kept. */
static inline void move_rsp(struct trans *t, i64 n)
{
    struct hmem m = hmem_base(RSP, n);
    emit_lea(&t->e, t->key.stack, RSP, &m);
}

/* Does the TU go on behind this instruction, though it ends a block for the interpreter? */
bool falls_through(const struct trans *t, const struct insn *i);

/* --- encodings: encode.c --- */
/* The guest instruction's opcode, to be emitted with other operands. */
void opcode_of(const struct insn *i, bool wide, struct opcode *o);
static inline unsigned imm_bytes(const struct insn *i)
{
    return i->imm_at ? (unsigned)(i->len - i->imm_at) : 0;
}
static inline void emit_imms(struct trans *t, const struct insn *i)
{
    for (unsigned n = i->imm_at; n && n < i->len; n++)
        emit8(&t->e, i->raw[n]);
}

#endif
