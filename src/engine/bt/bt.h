/*
 * The inside of the binary translator: what its files share. A fragment (CCF) is the host code made
 * from one translation unit (TU): a run of guest instructions in one page, up to the first that
 * transfers control. Guest registers and arithmetic flags live in host registers while fragments
 * run and go over into the next fragment in them; everything else of the guest is in struct vcpu,
 * which GS points to.
 *
 * Flags pass between fragments in one of two forms, so each fragment has two entries: in the host's
 * flags, or as an image in RAX (AH as LAHF has it, AL = OF).
 */
#ifndef RINGER_ENGINE_BT_BT_H
#define RINGER_ENGINE_BT_BT_H

#include <pthread.h>

#include "base/error.h"
#include "cpu/insn.h"
#include "cpu/state.h"
#include "engine/engine.h"

/* --- host registers --- */

/* RAX: the image of the flags, or free. Guest RAX is in R9; guest R9, R10 and R11 are homed in
 * memory (vcpu.gpr), being the least used in compiled code; guest RSP is host RSP. Outside of
 * 64-bit mode host R8 and R12 to R15 are free, too. */
#define H_FLAGS RAX
#define H_RAX   R9
#define H_T0    R10
#define H_T1    R11
#define H_T2    R8 /* outside of 64-bit mode only */

/* The host register of a guest register, or H_NONE if it is homed in memory. */
static inline unsigned host_reg(unsigned guest)
{
    return guest == RAX ? H_RAX : guest >= R9 && guest <= R11 ? 0xff : guest;
}

/* --- keys: what a fragment depends on besides its bytes and its address --- */

struct bt_key {
    u64 cs_base;
    u32 cs_limit;      /* the bytes behind it are one word, see key_hash() */
    u8 mode, cpl, ctx; /* enum cpu_mode, privilege, enum tlb_context */
    u8 quick_segs;     /* vcpu.quick_segs */
    u8 flat_segs;      /* bit n: segment n is quick and has base 0 */
    u8 stack; /* bytes of the stack's pointer: 8, 4, 2, or 0: SS is neither quick nor limited */
    u8 bits;  /* KEY_* */
    u8 limited_segs; /* vcpu.limited_segs */
};

enum {
    KEY_X87 = 1, /* x87 and MMX instructions don't fault for CR0.TS or EM */
    KEY_SSE = 2, /* nor SSE ones */
    KEY_AVX = 4,
    KEY_IOPL = 8,    /* CLI and STI act on IF itself */
    KEY_TSC = 16,    /* RDTSC doesn't fault */
    KEY_MIRROR = 32, /* user code whose address space is shown by the mirror */
};

/* --- fragments --- */

struct fragment;

/* A way out of a fragment whose target is known. jump is patched to lead to the target's fragment
 * once that exists. */
struct exit {
    struct fragment *from;
    u64 rip;         /* where it goes */
    u8 *jump;        /* displacement of the jump that leaves; NULL: none to be patched */
    u8 *sig, *check; /* to another page: the signature to compare, and what stands before that: a
                        jump to the stub, or a NOP while `jump` is linked */
    u8 *fail;        /* of the comparison; NULL: none */
    u32 poll;        /* number + 1 of the trap at its look for events; 0: none */
    u8 *stub;        /* where jump leads while it is not linked */
    u16 insns;       /* guest instructions before it in the TU */
    bool host_flags; /* the flags are in the host's at `jump`, else an image is in RAX */
    struct fragment *to;           /* what jump leads to; NULL: the stub */
    struct exit *to_next, **to_at; /* the list of those that lead to it, and the pointer to this */
};

enum site_kind {
    SITE_ACCESS,  /* a memory access that missed the TLB */
    SITE_GROUP,   /* the same, for a check that covers later accesses as well */
    SITE_MIRROR,  /* an access that the mirror doesn't show, or can't */
    SITE_CALLOUT, /* an instruction that C executes */
    SITE_DEVICE,  /* the same, which was an access that went to devices */
    SITE_END,     /* the same; it ends the TU */
    SITE_RETURN,  /* one within a trace, which led elsewhere than expected */
    SITE_FAULT,   /* a host instruction that raised a signal */
    SITE_FPU,     /* the guest's FPU state is needed in the host's registers */
    SITE_WRITTEN, /* a store went to a page with code */
    SITE_REPEAT,  /* a REP string instruction; access is a repeat_code(); retry: NULL or a thunk's
                     call; bt_cpu.slow_lin: bytes stored right before ES:rDI that are to be
                     looked at for code, or 0 */
    SITE_QUICK,   /* a system instruction that ends the TU; access is an enum quick */
};

/* A place in a fragment that may need C. */
struct site {
    struct fragment *f;
    u8 *retry, *next;  /* host addresses: to try again; behind the instruction, with the flags in
                          RAX */
    i16 off;           /* of the guest instruction from the TU's first */
    u8 kind;           /* enum site_kind */
    u8 access;         /* enum access */
    bool group_writes; /* SITE_GROUP: and some access of the group writes */
    u16 size;          /* bytes accessed, or checked */
    u8 insn;           /* index of the guest instruction in the TU */
    bool leads;        /* it fills a group's slot: behind it, C can't go back to the fragment */
    bool may_refuse;   /* it may fault although the access is allowed */
    bool first_fault;  /* a page fault at this access is what the instruction raises, whatever else
                          it does */
    i16 low;           /* SITE_GROUP: where the check begins, from the instruction's own access */
    bool outside;      /* SITE_MIRROR: by the check, of the region that it was thought to be in */
    bool late;         /* FIP and FOP are still to be stored, for an instruction before this one: */
    i16 late_off;
    u16 late_fop;
    u8 length;       /* SITE_QUICK: of the instruction */
    _Atomic u64 key; /* SITE_QUICK: of a segment load: see bt_quick() */
    u8 misses;       /* times it came to C for nothing that the TLB can hold */
    u16 calls;       /* SITE_DEVICE: how often it was executed */
    u32 since;       /* SITE_GROUP: host's TSC >> SPAN_TIME_SHIFT at the first of the misses */
    u32 span;        /* its number; NO_SPAN: none */
};

struct fragment {
    u64 gpa, rip;
    u64 gpa2; /* of the page after, if the one instruction goes into it; else NO_GPA */
    struct fragment *hash_next;
    u32 key;
    u16 bytes, before; /* of the guest's, from gpa on, and before it (a trace) */
    u16 insns, length; /* instructions, and their bytes: of a trace, as often as they are in it */
    bool dead;
    bool has_spans;
    bool roams;   /* it has accesses that go through the TLB for LEARNED_ROAMS */
    bool settled; /* others may be linked to it; else it is to be extended when it is hot */
    u8 heat;      /* times the dispatcher found it before that */
    u8 *entry_flags, *entry_image; /* flags in the host's, resp. as an image in RAX */
    u8 *code, *end;                /* all of its host code; writable mapping, like the entries */
    struct exit *own;              /* its own address: where a dead fragment leads */
    struct exit *linked;           /* exits that lead here */
    struct fragment *page_next[2]; /* others of the same guest page; [1]: of the second page */
    u64 chunks[2];                 /* of 64 bytes of these pages that it is made from */
    u32 page[2];                   /* numbers of these pages (guestmem_pages()), or NO_PAGE */
    u32 first_exit, exits, first_site, sites;
    u32 first_trap, traps;
    u32 first_reloc, relocs; /* of a fragment that may be cloned */
    bool clonable;
};

/* Where the site's guest instruction is. */
static inline u64 site_gpa(const struct site *s)
{
    return s->f->gpa + (u64)(i64)s->off;
}

static inline u64 site_rip(const struct site *s)
{
    return s->f->rip + (u64)(i64)s->off;
}

/* Host instructions that may raise a signal, and where to go on then; in order of address. */
struct trap {
    u32 pc, to; /* offsets in the code cache */
};

/* What in a fragment's code depends on RIP or on where the fragment and its records are. */
enum reloc_kind {
    RELOC_SITE,    /* number of a site, 4 bytes */
    RELOC_EXIT,    /* of an exit */
    RELOC_THUNK,   /* displacement of a jump to code outside of the fragment */
    RELOC_EXEC,    /* displacement of a tlb_entry.exec in struct vcpu: that of an address's page */
    RELOC_RIP_64,  /* an address made from RIP */
    RELOC_RIP_U32, /* the same in 4 bytes, which the host extends by zeros */
    RELOC_RIP_S32, /* resp. by the sign */
};

struct reloc {
    u16 at; /* offset in the fragment */
    u16 kind;
};

/* --- the machine --- */

struct tcache;
struct trans;
struct bt_dump;
struct tlb_stretch;

struct bt {
    struct machine *m;
    struct tcache *tc;
    struct perf_map *perf_map; /* or NULL */
    struct bt_dump *dump;      /* of dump.h: keeps copies of all fragments; or NULL */
    bool several;              /* more than one vCPU */
    struct trans *trans;       /* of trans.h: what translates */
    struct decode_cache *decoded;
};

/* --- the vCPU, in vcpu.engine_area --- */

/* Tables of jump targets. 64-bit code has one for each kind of TLB context, whose entries all
 * belong to one key; in the others, for all other code, the key is part of the tag: one of the user
 * and some of the kernel, by key, because a kernel's code runs under the segments of each process.
 */
#define JUMP_LEGACY  3 /* of the user; behind it those of the kernel */
#define JUMP_KERNELS 4
#define JUMP_TABLES  (JUMP_LEGACY + 1 + JUMP_KERNELS)
#define JUMP_ENTRIES 16384 /* by the low bits of RIP, without the lowest */
#define JUMP_MASK    ((JUMP_ENTRIES - 1) << 1)
#define JUMP_LOG     512 /* entries made since a table was cleared that are listed */
#define JUMP_PAGES   4096

static inline unsigned jump_index(u64 rip)
{
    return (rip & JUMP_MASK) >> 1;
}

static inline unsigned jump_table(bool wide, unsigned ctx, u32 key)
{
    static const u8 table[TLB_CONTEXTS] = {
        [TLB_USER] = 0, [TLB_USER_AC] = 0, [TLB_KERNEL] = 1, [TLB_KERNEL_AC] = 2};
    return wide ? table[ctx] : table[ctx] == 0 ? JUMP_LEGACY : JUMP_LEGACY + 1 + key % JUMP_KERNELS;
}

static inline u64 jump_tag(bool wide, u32 key, u64 rip)
{
    return wide ? rip : rip | (u64)(key + 1) << 32;
}

/*
 * A stretch of linear addresses that an access of a hot TU may reach directly: where it went the
 * last time, so that it need not be looked up in the TLB. An access at `start + n` is allowed if n
 * < room. One that is emptied has room 0; addend stays, for the rest of the TU that is running.
 */
struct span {
    u64 start, room;
    u64 addend; /* host minus linear address */
    u64 host;   /* address of start */
};
#define NO_SPAN (~0U)

/* The page that the stack was in the last time, of one TLB context, writable and without code. An
 * access at `start + n` of up to STACK_SHORT, or STACK_LONG, bytes is allowed if n < the room for
 * it; the last bytes of the page are left to the TLB. Both are 0: none. */
struct stack_page {
    u64 start, addend, room[2];
};
#define STACK_SHORT   64
#define STACK_LONG    512
#define STACK_ROOM(n) (PAGE_SIZE - (n) + 1)

/* What only C needs of a span. Those of stores are in lists by the 2 MiB of the host's memory that
 * they lie in, and those that lead to windows in one. */
struct span_use {
    u8 logged; /* bits by span_log_kind */
    bool store, listed;
    u16 list;
    u16 next, prev; /* in the list; NO_NUMBER: none */
    u16 fills;
    u32 since; /* host's TSC >> SPAN_TIME_SHIFT when fills was 0 */
};
#define NO_NUMBER       0xffff
#define SPAN_TIME_SHIFT 10
#define SPAN_LISTS      256
#define SPAN_WINDOWS    SPAN_LISTS /* the list of those that lead to windows */

/* Of the spans that were filled from global pages only, and of the others: which they are, each
 * once, and which stretches of 2 MiB they may be in. */
enum span_log_kind { SPANS_LOCAL, SPANS_GLOBAL, SPAN_LOGS };

struct span_log {
    u32 n;
    u16 number[TUNE_BT_SPANS];
    u64 granules[64]; /* bits by span_granule() */
};

/* A page of code where interrupts found user code of old address spaces. */
struct hot_page {
    u64 gpa;
    u32 samples;
};
#define BT_HOT_PAGES 64

/* What user code in an address space has used, by interrupts that found it there. */
struct space {
    u64 cr3;
    u64 time;   /* host cycles */
    i64 credit; /* of these, what making windows may take */
};
#define BT_SPACES 64
#define NO_SPACE  (~0ULL) /* as the page of CR3 */

#define BT_SLOTS       16
#define BT_SITE_INSNS  1024
#define BT_RECENT_KEYS 64
#define BT_WIDE_KEYS   1024

struct jump_entry {
    u64 tag;    /* bt_cpu.no_rip: empty */
    u64 target; /* executable address of entry_image */
};
/* What the masked RIP is multiplied by: the greatest scale of an index register, so its lowest bit
 * is masked, too. */
#define JUMP_SCALE (sizeof(struct jump_entry) / 2)
#define NO_GPA     (~0ULL)

/* A decoded instruction of a site, kept because sites that come to C come again. */
struct site_insn {
    struct site *site;
    i32 off;
    struct insn insn;
};

/* A key and its number; see key_words(). */
struct recent_key {
    u64 base, low, high;
    u32 number;
};

/* The mirror shows user memory from `start` to the page of `last`. Around each region, here and
 * where the host has it, lies MIRROR_SLACK that it does not show. Other code than 64-bit code has
 * the first 4 GiB only. */
enum { REGION_LOW, REGION_PROGRAM, REGION_TOP, MIRROR_REGIONS };
struct mirror_region {
    u64 start, last;
    u64 addend; /* host minus linear address; 0: REGION_LOW */
};
#define MIRROR_SLACK (8192 * GIB)

struct bt_cpu {
    u64 poll;      /* address that translated code reads at back edges; BT_POLL_TRAP: none to be
                      read, so the read faults and the fragment is left */
    u32 jump_mask; /* JUMP_MASK for lookups of jump targets; 0 to have all of them miss: they then
                      compare with the first entries, which are emptied with it */
    u64 no_rip; /* the tag of empty entries: not canonical, and not to be guessed, for the guest may
                   jump to any address */
    u64 host_sp;  /* the stack of the C code that entered */
    u64 slow_lin; /* linear address of the access that missed */
    u64 stored_lin;
    u64 image;        /* of the flags, while in C */
    u64 site;         /* index of the site that called, or of the exit taken */
    u64 enter_rsp;    /* guest RSP on the way in */
    u64 code_mask;    /* of the page of the last store */
    u64 scratch;      /* where the thunks jump to */
    u64 operand;      /* of an instruction with two memory accesses */
    u64 mirror_space; /* the page of CR3 of the address space that the mirror is used for, or
                         NO_SPACE */
    struct mirror_region mirror_region[MIRROR_REGIONS];
    u64 slot[BT_SLOTS]; /* host minus linear address of pages checked by a group's first access */
    u8 fp_live;         /* the host's FPU registers hold the guest's state */
    u32 block_insns;    /* completed since run_block began */
    u8 chain;           /* exits may be linked; cleared to run one block at a time */
    u32 key;            /* current key's number */
    struct bt *bt;
    struct vcpu *v;
    struct exit *left;                 /* the exit that led out last, to be linked; or NULL */
    struct signal_stack *signal_stack; /* of signal.c */
    u32 generation;                    /* of the cache, when this vCPU looked last */
    struct recent_key recent[BT_RECENT_KEYS]; /* two for each hash of the words */
    u32 wide_number[BT_WIDE_KEYS]; /* of 64-bit code, by cpl, ctx and bits of the key; or NO_KEY */
    bool jump_based[JUMP_TABLES];  /* it has some whose CS has a base */
    bool jump_local[JUMP_TABLES];  /* jump[] has targets in pages that are not global */
    u16 jump_logged[JUMP_TABLES];  /* entries made since it was empty; > JUMP_LOG: too many */
    u16 jump_log[JUMP_TABLES][JUMP_LOG];          /* their numbers */
    u64 jump_pages[JUMP_TABLES][JUMP_PAGES / 64]; /* a bit for each page number modulo JUMP_PAGES
                                                     that it has targets in */
    u64 jump_low[JUMP_TABLES], jump_high[JUMP_TABLES]; /* all of these pages are from low to high */
    u32 jump_key[JUMP_TABLES]; /* the key whose targets are in jump[]; not for JUMP_LEGACY */
    struct jump_entry jump[JUMP_TABLES][JUMP_ENTRIES];
    struct site_insn decoded[BT_SITE_INSNS];
    struct stack_page stack_page[TLB_CONTEXTS];
    struct span span[TUNE_BT_SPANS];
    struct span_use span_use[TUNE_BT_SPANS];
    u16 span_list[SPAN_LISTS + 1];
    struct span_log span_log[SPAN_LOGS];
    struct windows *windows; /* of window.c; NULL: none so far */
    struct hot_page hot_page[BT_HOT_PAGES];
    struct space space[BT_SPACES]; /* by page number of cr3 */
    u64 sampled;                   /* host's TSC at the last interrupt */
    struct mirror *mirror;         /* of mirror.c; NULL: none */
    bool mirror_refused;           /* by the host */
};

#define BT_POLL_TRAP 8ULL
/* Makes the vCPU leave translated code soon; from any thread. */
void bt_cpu_kick(struct bt_cpu *b);

_Static_assert(TUNE_BT_SPANS <= NO_NUMBER, "numbers of spans have 16 bits");
_Static_assert(sizeof(struct bt_cpu) <= ENGINE_AREA_BYTES, "engine_area is too small");

static inline struct bt_cpu *bt_cpu(struct vcpu *v)
{
    return (struct bt_cpu *)v->engine_area;
}

/* Offsets from GS. */
#define VCPU_AT(field) offsetof(struct vcpu, field)
#define BT_AT(field)   (offsetof(struct vcpu, engine_area) + offsetof(struct bt_cpu, field))

/* --- translate.c --- */

/* For bt.trans; NULL: no memory. */
struct trans *bt_trans_create(void);
/* Makes the fragment for CS:RIP, whose physical address is gpa; NULL if its code can't be cached
 * (not RAM or ROM, being written, or outside of the segment). extend: the TU goes on behind
 * conditional branches where there are fragments already. Called with the cache locked. */
struct fragment *bt_translate(struct bt *bt, struct vcpu *v, u64 gpa, u64 gpa2, bool extend);

/* --- clone.c --- */

/* A copy of the fragment `from`, which was found by tcache_source(), for CS:RIP at the same
 * physical address; NULL if there can't be one. Called with the cache locked. */
struct fragment *bt_clone(struct bt *bt, struct vcpu *v, const struct fragment *from);

/* --- thunks.c: host code that all fragments share --- */

/* [1]: for 64-bit code, [0]: for other code. */
struct thunks {
    u8 *enter;    /* see bt_enter_fn */
    u8 *slow[2];  /* to bt_slow; T0: number of the site, T1: linear address, RAX: flags' image */
    u8 *leave[2]; /* to C; T0: number of the exit */
    u8 *repeat[2][2][4]; /* [0] REP MOVS, [1] REP STOS of 1 << n bytes; see thunks_repeat.c */
};
/* Runs translated code from target (executable address of an entry_image) on. Returns 1 if an exit
 * was taken, whose number is in bt_cpu.site; 0 if bt_slow() left. */
typedef int bt_enter_fn(struct vcpu *v, const void *target);
void thunks_emit(struct tcache *tc, struct thunks *t);

/* --- thunks_repeat.c --- */
void thunks_emit_repeat(struct tcache *tc, struct thunks *t);

/* --- slow.c --- */

/* Called by translated code for site v->bt_cpu.site, with all registers in *v. Returns the
 * executable address to go on at, or NULL: leave. */
const void *bt_slow(struct vcpu *v);
/* Has something happened that fragments don't know of? */
bool bt_disturbed(struct vcpu *v);
/* Do TF or breakpoints ask for one instruction at a time? RF alone does not: without breakpoints it
 * has no effect on the next instruction, which clears it; so whoever enters a fragment does. */
static inline bool bt_debugging(const struct vcpu *v)
{
    return v->rflags & FLAG_TF || v->dr[7] & 0xff;
}

/* --- spans.c --- */

void spans_create(struct vcpu *v);
/* Fills the span of s around the linear address lin, whose page the first-level TLB lets s access;
 * window: from a window, if one can be had. False: it is filled so often that s is better off
 * without. */
bool spans_fill(struct vcpu *v, const struct site *s, u64 lin, bool window);
/* The same for an access that lies across pages: only from a window that has both; false: no. */
bool spans_fill_across(struct vcpu *v, const struct site *s, u64 lin);
/* vcpu.tlb_flushed. */
void spans_flush(struct vcpu *v, enum tlb_flush what, u64 lin);
/* The page of RAM at this host address holds code now: nobody may store to it unseen. */
void spans_protect(struct vcpu *v, const u8 *page);

/* --- window.c --- */

/* A stretch around lin, whose page the first-level TLB lets user code read, or write, of what a
 * window shows. It is valid as long as that of tlb_stretch(). False: none can be had. */
bool windows_stretch(struct vcpu *v, u64 lin, bool write, struct tlb_stretch *s);
/* vcpu.tlb_flushed. */
void windows_flush(struct vcpu *v, enum tlb_flush what, u64 lin);
/* The page of RAM at this host address holds code now. True: stretches for writing that were given
 * out before are not valid any more. */
bool windows_protect(struct vcpu *v, const u8 *page);
/* An interrupt comes: the time since the last one counts as user code's if it met that. With no
 * fragment running and the cache unlocked; may use the host's FP registers. */
void windows_sample(struct vcpu *v);
/* Has the address space windows, or may it have some? */
bool windows_at_hand(struct vcpu *v);
void windows_destroy(struct vcpu *v);

/* What user code in an address space has used. */
struct space *space_of(struct bt_cpu *b, u64 cr3);
/* The number of the page of RAM, or of a device's memory behind it, at lin, if user code may access
 * it so without the guest's noticing: A and D bits are set, and what is written is not code; else
 * -1. */
i64 window_page(struct vcpu *v, u64 lin, bool write);
/* Maps pages of RAM, or of devices' memory, once more, at this address of the host's. */
bool window_map(struct vcpu *v, void *at, u64 ram, u32 pages, bool write);

/* --- mirror.c --- */

extern const struct mirror_region mirror_regions[MIRROR_REGIONS];

/* The region of a linear address of 64-bit code; MIRROR_REGIONS: none. */
static inline unsigned mirror_region(u64 lin)
{
    unsigned n = 0;
    while (n < MIRROR_REGIONS && (lin < mirror_regions[n].start || lin > mirror_regions[n].last))
        n++;
    return n;
}

/* User code is about to run in the address space that the mirror shows: does it show nothing but
 * what is allowed now? Compares it if need be. */
bool mirror_holds(struct vcpu *v);
/* An access found nothing at lin. True: it will now. */
bool mirror_show(struct vcpu *v, u64 lin, bool write);
/* The address space of v is to have the mirror, if it has use for it and the host has room. */
void mirror_give(struct vcpu *v);
/* The same if it has deserved that; after an interrupt in its user code. */
void mirror_sample(struct vcpu *v, const struct space *space);
/* vcpu.tlb_flushed. */
void mirror_flush(struct vcpu *v, enum tlb_flush what, u64 lin);
/* The page of RAM at this host address holds code now. */
void mirror_protect(struct vcpu *v, const u8 *page);
void mirror_destroy(struct vcpu *v);

/* --- repeat.c --- */

/* A REP string instruction in a byte: the operation (its OP_ after OP_MOVS), whether it is REPNE,
 * and the segment of the source. */
static inline u8 repeat_code(unsigned op, bool repne, unsigned seg)
{
    return (u8)(op | (unsigned)repne << 3 | seg << 4);
}
static inline unsigned repeat_op(u8 code)
{
    return code & 7;
}
static inline bool repeat_ne(u8 code)
{
    return code >> 3 & 1;
}
static inline unsigned repeat_seg(u8 code)
{
    return code >> 4;
}

enum repeat {
    REPEAT_DONE,
    REPEAT_AGAIN,   /* the site's thunk can go on */
    REPEAT_STOPPED, /* something is due; to be begun again with the registers as they are */
    REPEAT_LEFT,    /* C is to go on with it */
};
/* Runs the instruction of a SITE_REPEAT, with all registers in *v. */
enum repeat bt_repeat(struct vcpu *v, const struct site *s);

/* --- quick.c --- */

/* System instructions that C executes without the FPU's state being saved or the instruction being
 * looked at, if nothing about them is unusual. */
enum quick {
    QUICK_LOAD_SEG, /* + enum seg_reg; bt_cpu.operand: the selector; site.size: what a POP takes */
    QUICK_SYSCALL = 8,
    QUICK_SYSENTER,
    QUICK_SYSRET, /* site.size: operand size */
    QUICK_SYSEXIT,
    QUICK_IRET, /* site.size: operand size */
    QUICK_INT,  /* site.size: vector */
    QUICK_INTO,
};
/* With all registers in *v, flags in the image. False: nothing was done. Else *next is where to go
 * on, or NULL: leave. */
bool bt_quick(struct vcpu *v, struct site *s, const void **next);
/* Delivers the page fault of the instruction of s, whose access at lin has just been refused with
 * this error code. v->rip is the instruction, flags are in vcpu.rflags. The same otherwise. */
bool bt_quick_fault(struct vcpu *v, const struct site *s, u64 lin, u32 error, const void **next);

/* --- fpu.c --- */
void bt_fpu_load(struct vcpu *v); /* to the host's registers */
void bt_fpu_save(struct vcpu *v); /* back, if they are there */

/* --- signal.c --- */
int bt_signal_attach(struct vcpu *v, struct error *err);
void bt_signal_detach(struct vcpu *v);

/* --- bt.c --- */
/* The number of the current key; sets bt_cpu.key. */
void bt_update_key(struct vcpu *v);
/* The fragment at CS:RIP, found or made now, or NULL if there can't be one; may raise fetch faults.
 */
struct fragment *bt_find(struct vcpu *v);
/* Entry for going on at CS:RIP from translated code's callout without the dispatcher; NULL: not
 * known, or something else is due. */
const void *bt_next(struct vcpu *v);
/* The same if bt_cpu.key is current already. */
const void *bt_next_by_key(struct vcpu *v);
void bt_flags_in(struct vcpu *v);  /* vcpu.rflags to the image */
void bt_flags_out(struct vcpu *v); /* and back */

#endif
