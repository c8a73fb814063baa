/*
 * System instructions, one at a time, from states built by hand: segment loads and their faults,
 * far transfers and gates, IRET, task switches, control registers, MSRs, flags, ports. A step does
 * not deliver the fault it raises; it is looked at in vcpu.fault.
 */
#include "machine.h"

#include "cpu/fault.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"
#include "engine/sem/sem_kvmclock.h"

#define DONE    (-1)
#define CODE_AT 0x9000
#define DATA_AT 0xa000

enum {
    SPARE = 0x80, /* selectors for a test's own descriptors */
    GATE = 0x88,
    NEWTSS = 0x90,
    LDT = 0x98,
    COMPAT = 0xb0,
};

/* Privilege 0 again, whatever ran before. */
static void kernel32(struct test_machine *tm)
{
    tm->v->cpl = 0;
    protected_mode(tm, CODE_AT);
}

static void kernel64(struct test_machine *tm)
{
    tm->v->cpl = 0;
    long_mode(tm, CODE_AT);
}

/* Executes the instruction at CS:RIP; DONE or the vector of the fault it raised. */
static int step(struct test_machine *tm)
{
    struct vcpu *v = tm->v;
    static struct insn i;
    v->cur = &sem_no_insn;
    if (setjmp(v->unwind)) {
        v->rip = sem_start(v); /* as delivery takes it */
        return v->fault.vector;
    }
    sem_fetch(v, &i);
    sem_execute(v, &i);
    return DONE;
}

static int exec_bytes(struct test_machine *tm, const u8 *code, size_t len)
{
    struct vcpu *v = tm->v;
    u64 base = v->mode == MODE_LONG64 ? 0 : v->seg[SEG_CS].base;
    memcpy(tm->ram + base + v->rip, code, len);
    return step(tm);
}

#define EXEC(tm, ...) exec_bytes(tm, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

#define assert_fault(expression, vec, code)                                                        \
    do {                                                                                           \
        assert_int_equal(expression, vec);                                                         \
        assert_int_equal(tm->v->fault.error, code);                                                \
    } while (0)

static void set_desc(struct test_machine *tm, u16 sel, u64 descriptor)
{
    put64(tm, GDT_AT + (sel & 0xfff8), descriptor);
    tm->v->gdtr.limit = 0x1ff;
}

static u32 attr_of(struct test_machine *tm, u16 sel)
{
    return get(tm, GDT_AT + (sel & 0xfff8) + 4, 4) >> 8 & 0xf0ff;
}

static void push32(struct test_machine *tm, u32 value)
{
    tm->v->gpr[RSP] -= 4;
    store_le(tm->ram + tm->v->seg[SEG_SS].base + tm->v->gpr[RSP], value, 4);
}

static void push64(struct test_machine *tm, u64 value)
{
    tm->v->gpr[RSP] -= 8;
    put64(tm, tm->v->gpr[RSP], value);
}

/* --- segment registers --- */

#define DATA (SEG_P | SEG_S | SEG_WRITABLE)
#define CODE (SEG_P | SEG_S | SEG_CODE)

static void test_segment_loads(void **state)
{
    struct test_machine *tm = *state;
    static const struct {
        u32 attr;
        u8 rpl, cpl, modrm; /* of MOV Sreg, AX */
        int fault;
    } cases[] = {
        {DATA, 0, 0, 0xd8, DONE},
        {DATA, 3, 0, 0xd8, VEC_GP},
        {DATA | DPL3, 3, 0, 0xd8, DONE},
        {DATA & ~SEG_P, 0, 0, 0xd8, VEC_NP},
        {DATA & ~SEG_S, 0, 0, 0xd8, VEC_GP},
        {CODE, 0, 0, 0xd8, VEC_GP},
        {CODE | SEG_READABLE, 0, 0, 0xc0, DONE},
        {DATA, 0, 3, 0xd8, VEC_GP},
        {DATA, 3, 3, 0xe0, VEC_GP},
        {DATA | DPL3, 0, 3, 0xe8, DONE},
        {CODE | SEG_READABLE, 3, 3, 0xd8, VEC_GP},
        {CODE | SEG_READABLE | SEG_CONFORM, 3, 3, 0xd8, DONE},
        {DATA, 0, 0, 0xd0, DONE},
        {DATA & ~SEG_WRITABLE, 0, 0, 0xd0, VEC_GP},
        {CODE | SEG_READABLE, 0, 0, 0xd0, VEC_GP},
        {DATA, 1, 0, 0xd0, VEC_GP},
        {DATA | DPL3, 0, 0, 0xd0, VEC_GP},
        {DATA & ~SEG_P, 0, 0, 0xd0, VEC_SS},
        {DATA | DPL3, 3, 3, 0xd0, DONE},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        kernel32(tm);
        if (cases[n].cpl == 3)
            user_mode(tm, ATTR_CODE32);
        set_desc(tm, SPARE, segment_descriptor(0x12345, 0x777, cases[n].attr));
        tm->v->gpr[RAX] = SPARE | cases[n].rpl;
        struct segment *s = &tm->v->seg[cases[n].modrm >> 3 & 7], before = *s;
        assert_int_equal(EXEC(tm, 0x8e, cases[n].modrm), cases[n].fault);
        if (cases[n].fault == DONE) {
            assert_int_equal(s->base, 0x12345);
            assert_int_equal(s->limit, 0x777);
            assert_int_equal(s->attr, cases[n].attr | SEG_ACCESSED);
            assert_true(attr_of(tm, SPARE) & SEG_ACCESSED);
        } else {
            assert_int_equal(tm->v->fault.error, SPARE);
            assert_memory_equal(s, &before, sizeof(before));
            assert_int_equal(tm->v->rip, CODE_AT);
        }
    }
}

static void test_null_and_limits(void **state)
{
    struct test_machine *tm = *state;
    kernel32(tm);
    tm->v->gpr[RAX] = 2;
    assert_int_equal(EXEC(tm, 0x8e, 0xd8), DONE); /* MOV DS, AX */
    assert_true(tm->v->seg[SEG_DS].attr & SEG_UNUSABLE);
    assert_int_equal(tm->v->seg[SEG_DS].sel, 2);
    assert_fault(EXEC(tm, 0x8e, 0xd0), VEC_GP, 0);       /* SS */
    assert_fault(EXEC(tm, 0xa0, 0, 0, 0, 0), VEC_GP, 0); /* MOV AL, [0] by the null DS */
    tm->v->gpr[RAX] = 0x1230;
    assert_fault(EXEC(tm, 0x8e, 0xd8), VEC_GP, 0x1230);
    tm->v->gpr[RAX] = 0x14; /* LDT, there is none */
    assert_fault(EXEC(tm, 0x8e, 0xd8), VEC_GP, 0x14);

    kernel64(tm);
    tm->v->gpr[RAX] = 0;
    assert_int_equal(EXEC(tm, 0x8e, 0xd0), DONE); /* SS may be null below privilege 3 */
    user_mode(tm, ATTR_CODE64);
    tm->v->gpr[RAX] = 3;
    assert_fault(EXEC(tm, 0x8e, 0xd0), VEC_GP, 0);
}

static void test_shadows(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    v->gpr[RAX] = KDATA;
    assert_int_equal(EXEC(tm, 0x8e, 0xd0), DONE);
    assert_int_equal(v->shadow, SHADOW_MOV_SS);
    v->shadow = 0;
    assert_int_equal(EXEC(tm, 0x8e, 0xd0), DONE); /* back to back: none */
    assert_int_equal(v->shadow, 0);
    assert_int_equal(EXEC(tm, 0x8e, 0xd0), DONE);
    assert_int_equal(v->shadow, SHADOW_MOV_SS);
    v->shadow = 0;
    v->rflags &= ~FLAG_IF;
    assert_int_equal(EXEC(tm, 0xfb), DONE);
    assert_int_equal(v->shadow, SHADOW_STI);
    v->shadow = 0;
    assert_int_equal(EXEC(tm, 0xfb), DONE); /* IF was set */
    assert_int_equal(v->shadow, 0);
    store_le(tm->ram + DATA_AT, 0x1122, 4);
    store_le(tm->ram + DATA_AT + 4, KDATA, 2);
    v->gpr[RAX] = DATA_AT;
    assert_int_equal(EXEC(tm, 0x0f, 0xb2, 0x20), DONE); /* LSS ESP, [EAX] */
    assert_int_equal(v->shadow, 0);
    assert_int_equal(v->gpr[RSP], 0x1122);
}

static void test_unreal(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    real_mode(tm, CODE_AT);
    v->seg[SEG_DS].limit = 0xffffffff;
    v->gpr[RAX] = 0x1000;
    assert_int_equal(EXEC(tm, 0x8e, 0xd8), DONE);
    assert_int_equal(v->seg[SEG_DS].base, 0x10000);
    assert_int_equal(v->seg[SEG_DS].limit, 0xffffffff);
    v->gpr[RSI] = 0x200000;
    store_le(tm->ram + 0x210000, 0x5a, 1);
    assert_int_equal(EXEC(tm, 0x67, 0x8a, 0x06), DONE); /* MOV AL, [ESI] */
    assert_int_equal(v->gpr[RAX] & 0xff, 0x5a);
    v->seg[SEG_ES].limit = 0xffff;
    assert_int_equal(EXEC(tm, 0x67, 0x26, 0x8a, 0x06), VEC_GP);
}

static void test_questions(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    set_desc(tm, SPARE, segment_descriptor(0, 0x12, DATA | SEG_G | SEG_DB));
    v->gpr[RBX] = SPARE;
    assert_int_equal(EXEC(tm, 0x0f, 0x02, 0xc3), DONE); /* LAR EAX, EBX */
    assert_int_equal(v->gpr[RAX], 0xc09200);
    assert_int_equal(EXEC(tm, 0x0f, 0x03, 0xc3), DONE); /* LSL */
    assert_true(v->rflags & FLAG_ZF);
    assert_int_equal(v->gpr[RAX], 0x12fff);
    v->gpr[RBX] = SPARE | 3; /* RPL too low a privilege */
    assert_int_equal(EXEC(tm, 0x0f, 0x02, 0xc3), DONE);
    assert_false(v->rflags & FLAG_ZF);
    v->gpr[RBX] = TSS;
    assert_int_equal(EXEC(tm, 0x0f, 0x03, 0xc3), DONE);
    assert_int_equal(v->gpr[RAX], 0x7f);
    set_desc(tm, GATE, gate32(KCODE, 0x1234, SEG_P | SYS_CALL32));
    v->gpr[RBX] = GATE;
    assert_int_equal(EXEC(tm, 0x0f, 0x03, 0xc3), DONE); /* LSL of a gate: no */
    assert_false(v->rflags & FLAG_ZF);
    assert_int_equal(EXEC(tm, 0x0f, 0x02, 0xc3), DONE); /* LAR of a gate: yes */
    assert_true(v->rflags & FLAG_ZF);
    set_desc(tm, SPARE, segment_descriptor(0, 1, CODE));
    v->gpr[RBX] = SPARE;
    assert_int_equal(EXEC(tm, 0x0f, 0x00, 0xe3), DONE); /* VERR of execute-only code */
    assert_false(v->rflags & FLAG_ZF);
    v->gpr[RBX] = KDATA;
    assert_int_equal(EXEC(tm, 0x0f, 0x00, 0xeb), DONE); /* VERW */
    assert_true(v->rflags & FLAG_ZF);
    v->gpr[RAX] = 0x100;
    v->gpr[RBX] = 3;
    assert_int_equal(EXEC(tm, 0x63, 0xd8), DONE); /* ARPL AX, BX */
    assert_int_equal(v->gpr[RAX], 0x103);
    assert_true(v->rflags & FLAG_ZF);
}

static void test_tables(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    v->gpr[RBX] = DATA_AT;
    assert_int_equal(EXEC(tm, 0x0f, 0x01, 0x03), DONE); /* SGDT */
    assert_int_equal(get(tm, DATA_AT, 2), v->gdtr.limit);
    assert_int_equal(get(tm, DATA_AT + 2, 4), GDT_AT);
    store_le(tm->ram + DATA_AT + 5, 0xff, 1);
    assert_int_equal(EXEC(tm, 0x66, 0x0f, 0x01, 0x1b), DONE); /* LIDT, 24-bit base */
    assert_int_equal(v->idtr.base, GDT_AT);

    set_desc(tm, LDT, segment_descriptor(0x4000, 0xff, SEG_P | SYS_LDT));
    v->gpr[RAX] = LDT;
    assert_int_equal(EXEC(tm, 0x0f, 0x00, 0xd0), DONE); /* LLDT */
    assert_int_equal(v->ldtr.base, 0x4000);
    v->gpr[RAX] = KDATA;
    assert_fault(EXEC(tm, 0x0f, 0x00, 0xd0), VEC_GP, KDATA);
    v->gpr[RAX] = LDT | 4;
    assert_fault(EXEC(tm, 0x0f, 0x00, 0xd0), VEC_GP, LDT | 4);
    v->gpr[RAX] = TSS; /* busy */
    assert_fault(EXEC(tm, 0x0f, 0x00, 0xd8), VEC_GP, TSS);
    set_desc(tm, NEWTSS, segment_descriptor(0xb000, 0x67, SYS_TSS32));
    v->gpr[RAX] = NEWTSS;
    assert_fault(EXEC(tm, 0x0f, 0x00, 0xd8), VEC_NP, NEWTSS);
    set_desc(tm, NEWTSS, segment_descriptor(0xb000, 0x67, SEG_P | SYS_TSS32));
    assert_int_equal(EXEC(tm, 0x0f, 0x00, 0xd8), DONE); /* LTR */
    assert_int_equal(attr_of(tm, NEWTSS), SEG_P | SYS_TSS32_BUSY);
    assert_int_equal(v->tr.attr, SEG_P | SYS_TSS32_BUSY);

    v->cr4 |= CR4_UMIP;
    user_mode(tm, ATTR_CODE32);
    assert_fault(EXEC(tm, 0x0f, 0x01, 0x03), VEC_GP, 0);
    assert_fault(EXEC(tm, 0x0f, 0x00, 0xc8), VEC_GP, 0);
}

/* --- far transfers --- */

static int far_jump(struct test_machine *tm, u16 sel, u32 off)
{
    u8 code[7] = {0xea};
    store_le(code + 1, off, 4);
    store_le(code + 5, sel, 2);
    return exec_bytes(tm, code, sizeof(code));
}

static int far_call(struct test_machine *tm, u16 sel, u32 off)
{
    u8 code[7] = {0x9a};
    store_le(code + 1, off, 4);
    store_le(code + 5, sel, 2);
    return exec_bytes(tm, code, sizeof(code));
}

static void test_far_jump(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    assert_fault(far_jump(tm, 0, 1), VEC_GP, 0);
    assert_fault(far_jump(tm, KDATA, 1), VEC_GP, KDATA);
    assert_fault(far_jump(tm, UCODE, 1), VEC_GP, UCODE & ~3);
    set_desc(tm, SPARE, segment_descriptor(0x100, 0xfff, CODE & ~SEG_P));
    assert_fault(far_jump(tm, SPARE, 1), VEC_NP, SPARE);
    set_desc(tm, SPARE, segment_descriptor(0x100, 0xfff, CODE));
    assert_fault(far_jump(tm, SPARE, 0x1000), VEC_GP, 0);
    assert_int_equal(far_jump(tm, SPARE, 0xfff), DONE);
    assert_int_equal(v->rip, 0xfff);
    assert_int_equal(v->mode, MODE_PROT16);
    assert_int_equal(v->seg[SEG_CS].base, 0x100);

    kernel32(tm);
    user_mode(tm, ATTR_CODE32);
    assert_fault(far_jump(tm, KCODE, 1), VEC_GP, KCODE);
    set_desc(tm, SPARE, segment_descriptor(0, 0xfffff, CODE | SEG_CONFORM | SEG_G | SEG_DB));
    assert_int_equal(far_jump(tm, SPARE, 0x5000), DONE);
    assert_int_equal(v->cpl, 3);
    assert_int_equal(v->seg[SEG_CS].sel, SPARE | 3);
}

static void test_call_gate(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    user_mode(tm, ATTR_CODE32);
    set_desc(tm, GATE, gate32(KCODE, 0x5000, SEG_P | SYS_CALL32) | 2ULL << 32); /* DPL 0 */
    assert_fault(far_call(tm, GATE, 0), VEC_GP, GATE);
    set_desc(tm, GATE, gate32(KCODE, 0x5000, DPL3 | SYS_CALL32) | 2ULL << 32);
    assert_fault(far_call(tm, GATE, 0), VEC_NP, GATE);
    set_desc(tm, GATE, gate32(KCODE, 0x5000, SEG_P | DPL3 | SYS_CALL32) | 2ULL << 32);
    assert_fault(far_jump(tm, GATE, 0), VEC_GP, KCODE); /* JMP does not change privilege */
    push32(tm, 0x22222222);
    push32(tm, 0x11111111);
    u64 rsp = v->gpr[RSP];
    assert_int_equal(far_call(tm, GATE, 0xdead), DONE);
    assert_int_equal(v->cpl, 0);
    assert_int_equal(v->seg[SEG_CS].sel, KCODE);
    assert_int_equal(v->seg[SEG_SS].sel, KDATA);
    assert_int_equal(v->rip, 0x5000);
    assert_int_equal(v->gpr[RSP], 0x7000 - 24);
    static const u32 parameter[] = {0x11111111, 0x22222222};
    assert_int_equal(get(tm, 0x6fe8, 4), CODE_AT + 7);
    assert_int_equal(get(tm, 0x6fec, 4), UCODE);
    assert_memory_equal(tm->ram + 0x6ff0, parameter, 8);
    assert_int_equal(get(tm, 0x6ff8, 4), rsp);
    assert_int_equal(get(tm, 0x6ffc, 4), UDATA);

    v->seg[SEG_DS] = v->seg[SEG_SS];              /* privilege 0: lost on return */
    assert_int_equal(EXEC(tm, 0xca, 8, 0), DONE); /* RET FAR 8 */
    assert_int_equal(v->cpl, 3);
    assert_int_equal(v->rip, CODE_AT + 7);
    assert_int_equal(v->gpr[RSP], rsp + 8);
    assert_int_equal(v->seg[SEG_SS].sel, UDATA);
    assert_true(v->seg[SEG_DS].attr & SEG_UNUSABLE);
    assert_int_equal(v->seg[SEG_ES].sel, UDATA);
}

static void test_call_gate_faults(void **state)
{
    struct test_machine *tm = *state;
    kernel32(tm);
    user_mode(tm, ATTR_CODE32);
    set_desc(tm, GATE, gate32(KCODE, 0x5000, SEG_P | DPL3 | SYS_CALL32));
    store_le(tm->ram + TSS_AT + 8, UDATA, 2); /* SS0 of the wrong privilege */
    assert_fault(far_call(tm, GATE, 0), VEC_TS, UDATA & ~3);
    set_desc(tm, SPARE, segment_descriptor(0, 0xfffff, DATA & ~SEG_P));
    store_le(tm->ram + TSS_AT + 8, SPARE, 2);
    assert_fault(far_call(tm, GATE, 0), VEC_SS, SPARE);
    set_desc(tm, SPARE, segment_descriptor(0, 0x6fff, DATA | SEG_DB));
    store_le(tm->ram + TSS_AT + 4, 0x8000, 4); /* ESP0 beyond the limit */
    assert_fault(far_call(tm, GATE, 0), VEC_SS, SPARE);
    assert_int_equal(tm->v->cpl, 3);
    assert_int_equal(tm->v->seg[SEG_SS].sel, UDATA);
    tm->v->tr.limit = 8;
    assert_fault(far_call(tm, GATE, 0), VEC_TS, TSS);
}

static void test_call_gate_long(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel64(tm);
    user_mode(tm, ATTR_CODE64);
    set_desc(tm, GATE, gate32(KCODE, 0x5000, SEG_P | DPL3 | SYS_CALL32));
    set_desc(tm, GATE + 8, 0);
    store_le(tm->ram + DATA_AT, 0, 4);
    store_le(tm->ram + DATA_AT + 4, GATE, 2);
    v->gpr[RAX] = DATA_AT;
    assert_int_equal(EXEC(tm, 0xff, 0x18), DONE); /* CALL FAR [RAX] */
    assert_int_equal(v->cpl, 0);
    assert_int_equal(v->rip, 0x5000);
    assert_int_equal(v->gpr[RSP], 0x7008 - 32);
    assert_int_equal(get(tm, v->gpr[RSP], 8), CODE_AT + 2);
    assert_int_equal(get(tm, v->gpr[RSP] + 8, 8), UCODE);
    assert_int_equal(get(tm, v->gpr[RSP] + 16, 8), 0x8000);
    assert_true(v->seg[SEG_SS].attr & SEG_UNUSABLE);
    assert_int_equal(EXEC(tm, 0x48, 0xcb), DONE); /* RETFQ */
    assert_int_equal(v->cpl, 3);
    assert_int_equal(v->gpr[RSP], 0x8000);
    v->gpr[RAX] = DATA_AT;
    set_desc(tm, GATE + 8, 0x1f0000000000); /* the upper half's type is not 0 */
    assert_fault(EXEC(tm, 0xff, 0x18), VEC_GP, GATE);
}

/* --- IRET --- */

static void test_iret_outer(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    v->nmi_blocked = true;
    push32(tm, UDATA);
    push32(tm, 0x4444);
    push32(tm, FLAG_IF | FLAG_IOPL | FLAG_CF);
    push32(tm, UCODE);
    push32(tm, 0x3333);
    assert_int_equal(EXEC(tm, 0xcf), DONE);
    assert_int_equal(v->cpl, 3);
    assert_int_equal(v->rip, 0x3333);
    assert_int_equal(v->gpr[RSP], 0x4444);
    assert_int_equal(v->rflags, FLAG_IF | FLAG_IOPL | FLAG_CF | FLAG_ONE);
    assert_true(v->seg[SEG_DS].attr & SEG_UNUSABLE);
    assert_false(v->nmi_blocked);

    kernel32(tm);
    push32(tm, KDATA); /* SS of the wrong privilege */
    push32(tm, 0x4444);
    push32(tm, 0);
    push32(tm, UCODE);
    push32(tm, 0x3333);
    assert_fault(EXEC(tm, 0xcf), VEC_GP, KDATA);
    assert_int_equal(v->gpr[RSP], 0x8000 - 20);
}

static void test_iret_keeps_privileged_flags(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    user_mode(tm, ATTR_CODE32);
    v->rflags |= FLAG_IF;
    push32(tm, FLAG_IOPL | FLAG_ZF | FLAG_VM);
    push32(tm, UCODE);
    push32(tm, 0x3333);
    assert_int_equal(EXEC(tm, 0xcf), DONE);
    assert_int_equal(v->rflags, FLAG_IF | FLAG_ZF | FLAG_ONE);
    push32(tm, 0);
    push32(tm, KCODE); /* inward: never */
    push32(tm, 0x3333);
    assert_fault(EXEC(tm, 0xcf), VEC_GP, KCODE);
}

static void test_iret_v86(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    static const u32 frame[] = {0x600, 0x500, 0x400, 0x300, 0x200, 0xfffe, FLAG_VM | FLAG_IF,
                                0x100, 0x1234};
    for (unsigned n = 0; n < ARRAY_SIZE(frame); n++)
        push32(tm, frame[n]);
    assert_int_equal(EXEC(tm, 0xcf), DONE);
    assert_int_equal(v->mode, MODE_V86);
    assert_int_equal(v->cpl, 3);
    assert_int_equal(v->rip, 0x1234);
    assert_int_equal(v->seg[SEG_CS].base, 0x1000);
    assert_int_equal(v->seg[SEG_SS].base, 0x2000);
    assert_int_equal(v->seg[SEG_ES].base, 0x3000);
    assert_int_equal(v->seg[SEG_GS].base, 0x6000);
    assert_int_equal(v->seg[SEG_DS].limit, 0xffff);
    assert_fault(EXEC(tm, 0xcf), VEC_GP, 0); /* IOPL 0 */
    v->rflags |= FLAG_IOPL;
    v->gpr[RSP] = 0xff00;
    store_le(tm->ram + 0x2000 + 0xff00, 0x0700, 2); /* IP */
    store_le(tm->ram + 0x2000 + 0xff02, 0x0080, 2); /* CS */
    store_le(tm->ram + 0x2000 + 0xff04, FLAG_CF, 2);
    assert_int_equal(EXEC(tm, 0xcf), DONE);
    assert_int_equal(v->rip, 0x700);
    assert_int_equal(v->seg[SEG_CS].base, 0x800);
    assert_int_equal(v->rflags, FLAG_VM | FLAG_IOPL | FLAG_CF | FLAG_ONE);
    assert_int_equal(v->gpr[RSP], 0xff06);
}

static void test_iret_long(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel64(tm);
    push64(tm, 0); /* SS null is right at privilege 0 */
    push64(tm, 0x123456789a);
    push64(tm, FLAG_IF);
    push64(tm, KCODE);
    push64(tm, 0x5000);
    assert_int_equal(EXEC(tm, 0x48, 0xcf), DONE);
    assert_int_equal(v->gpr[RSP], 0x123456789a);
    assert_true(v->seg[SEG_SS].attr & SEG_UNUSABLE);

    v->gpr[RSP] = 0x8000;
    push64(tm, UDATA);
    push64(tm, 0x4000);
    push64(tm, 0);
    push64(tm, UCODE);
    push64(tm, 1ULL << 63);
    assert_fault(EXEC(tm, 0x48, 0xcf), VEC_GP, 0);
    put64(tm, v->gpr[RSP], 0x5000);
    set_desc(tm, COMPAT, segment_descriptor(0, 0xfffff, ATTR_CODE32 | DPL3));
    put64(tm, v->gpr[RSP] + 8, COMPAT | 3);
    assert_int_equal(EXEC(tm, 0x48, 0xcf), DONE);
    assert_int_equal(v->mode, MODE_COMPAT32);
    assert_int_equal(v->cpl, 3);
    v->rflags |= FLAG_NT;
    assert_fault(EXEC(tm, 0xcf), VEC_GP, 0);
}

/* --- tasks --- */

enum { TASK_AT = 0xb000 };

static void make_task(struct test_machine *tm, u32 eip, u32 eflags)
{
    memset(tm->ram + TASK_AT, 0, 0x68);
    set_desc(tm, NEWTSS, segment_descriptor(TASK_AT, 0x67, SEG_P | SYS_TSS32));
    store_le(tm->ram + TASK_AT + 0x20, eip, 4);
    store_le(tm->ram + TASK_AT + 0x24, eflags, 4);
    store_le(tm->ram + TASK_AT + 0x28, 0xaaaaaaaa, 4);
    store_le(tm->ram + TASK_AT + 0x38, 0x6500, 4);
    static const u16 sel[] = {KDATA, KCODE, KDATA, KDATA, 0, 0};
    for (unsigned n = 0; n < ARRAY_SIZE(sel); n++)
        store_le(tm->ram + TASK_AT + 0x48 + 4 * n, sel[n], 2);
}

static void test_task_call_and_return(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    make_task(tm, 0x5000, FLAG_CF);
    v->gpr[RAX] = 0x55;
    assert_int_equal(far_call(tm, NEWTSS, 0), DONE);
    assert_int_equal(v->rip, 0x5000);
    assert_int_equal(v->gpr[RAX], 0xaaaaaaaa);
    assert_int_equal(v->gpr[RSP], 0x6500);
    assert_int_equal(v->rflags, FLAG_NT | FLAG_CF | FLAG_ONE);
    assert_int_equal(v->tr.sel, NEWTSS);
    assert_true(v->cr0 & CR0_TS);
    assert_true(v->seg[SEG_FS].attr & SEG_UNUSABLE);
    assert_int_equal(get(tm, TASK_AT, 2), TSS);
    assert_int_equal(attr_of(tm, NEWTSS), SEG_P | SYS_TSS32_BUSY);
    assert_int_equal(attr_of(tm, TSS), SEG_P | SYS_TSS32_BUSY);
    assert_int_equal(get(tm, TSS_AT + 0x20, 4), CODE_AT + 7);
    assert_int_equal(get(tm, TSS_AT + 0x28, 4), 0x55);

    assert_int_equal(EXEC(tm, 0xcf), DONE); /* IRET, nested */
    assert_int_equal(v->tr.sel, TSS);
    assert_int_equal(v->rip, CODE_AT + 7);
    assert_int_equal(v->gpr[RAX], 0x55);
    assert_false(v->rflags & FLAG_NT);
    assert_int_equal(attr_of(tm, NEWTSS), SEG_P | SYS_TSS32);
    assert_false(get(tm, TASK_AT + 0x24, 4) & FLAG_NT);
    assert_fault(far_jump(tm, TSS, 0), VEC_GP, TSS); /* busy */
}

static void test_task_jump(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    make_task(tm, 0x5000, 0);
    store_le(tm->ram + TASK_AT + 0x64, 1, 2); /* T */
    v->dr[7] |= 0x3;
    set_desc(tm, GATE, gate32(NEWTSS, 0, SEG_P | SYS_TASK_GATE));
    assert_int_equal(far_jump(tm, GATE, 0), DONE);
    assert_int_equal(attr_of(tm, TSS), SEG_P | SYS_TSS32);
    assert_false(v->rflags & FLAG_NT);
    assert_int_equal(v->pending_db, DR6_BT);
    assert_int_equal(v->dr[7] & 3, 2);
}

static void test_task_faults(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    make_task(tm, 0x5000, 0);
    set_desc(tm, NEWTSS, segment_descriptor(TASK_AT, 0x66, SEG_P | SYS_TSS32));
    assert_fault(far_call(tm, NEWTSS, 0), VEC_TS, NEWTSS);
    assert_int_equal(v->tr.sel, TSS);
    assert_int_equal(v->rip, CODE_AT);
    /* Behind the commit point: the fault is the new task's. */
    make_task(tm, 0x5000, 0);
    set_desc(tm, SPARE, segment_descriptor(0, 0xfffff, CODE & ~SEG_P));
    store_le(tm->ram + TASK_AT + 0x4c, SPARE, 2);
    assert_fault(far_call(tm, NEWTSS, 0), VEC_NP, SPARE);
    assert_int_equal(v->tr.sel, NEWTSS);
    assert_int_equal(v->rip, 0x5000);

    kernel32(tm);
    make_task(tm, 0x5000, 0);
    store_le(tm->ram + TASK_AT + 0x50, UDATA, 2); /* SS */
    assert_fault(far_call(tm, NEWTSS, 0), VEC_TS, UDATA & ~3);
    kernel32(tm);
    make_task(tm, 0x5000, 0);
    store_le(tm->ram + TASK_AT + 0x60, KDATA, 2); /* LDT */
    assert_fault(far_call(tm, NEWTSS, 0), VEC_TS, KDATA);
    kernel32(tm);
    v->rflags |= FLAG_NT; /* back link 0 */
    assert_fault(EXEC(tm, 0xcf), VEC_TS, 0);
    v->rflags &= ~FLAG_NT;
}

static void test_task16(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    memset(tm->ram + TASK_AT, 0, 0x2c);
    set_desc(tm, SPARE, segment_descriptor(0, 0xffff, CODE | SEG_READABLE));
    set_desc(tm, NEWTSS, segment_descriptor(TASK_AT, 0x2b, SEG_P | SYS_TSS16));
    store_le(tm->ram + TASK_AT + 0x0e, 0x5000, 2);
    store_le(tm->ram + TASK_AT + 0x12, 0x1234, 2);
    store_le(tm->ram + TASK_AT + 0x24, SPARE, 2);
    store_le(tm->ram + TASK_AT + 0x26, KDATA, 2);
    assert_int_equal(far_call(tm, NEWTSS, 0), DONE);
    assert_int_equal(v->mode, MODE_PROT16);
    assert_int_equal(v->gpr[RAX] & 0xffff, 0x1234);
    assert_int_equal(EXEC(tm, 0xcf), DONE);
    assert_int_equal(v->mode, MODE_PROT32);
    assert_int_equal(v->rip, CODE_AT + 7);
}

/* --- flags --- */

static int popf_value(struct test_machine *tm, u32 value)
{
    push32(tm, value);
    int fault = EXEC(tm, 0x9d);
    if (fault != DONE)
        tm->v->gpr[RSP] += 4;
    return fault;
}

static void test_popf(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    assert_int_equal(popf_value(tm, ~0u), DONE);
    assert_int_equal(v->rflags, FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT |
                                    FLAG_AC | FLAG_ID | FLAG_ONE);
    v->rflags = FLAG_ONE | FLAG_IF;
    user_mode(tm, ATTR_CODE32);
    assert_int_equal(popf_value(tm, FLAG_IOPL | FLAG_CF), DONE);
    assert_int_equal(v->rflags, FLAG_ONE | FLAG_IF | FLAG_CF);
    assert_fault(EXEC(tm, 0xfa), VEC_GP, 0); /* CLI */
    v->cr4 |= CR4_PVI;
    assert_int_equal(EXEC(tm, 0xfb), DONE); /* STI sets VIF */
    assert_true(v->rflags & FLAG_VIF);
    v->rflags |= FLAG_VIP;
    assert_fault(EXEC(tm, 0xfb), VEC_GP, 0);
    assert_int_equal(EXEC(tm, 0xfa), DONE);
    assert_false(v->rflags & FLAG_VIF);
    assert_true(v->rflags & FLAG_IF);
}

static void v86(struct test_machine *tm)
{
    struct vcpu *v = tm->v;
    kernel32(tm);
    v->rflags = FLAG_VM | FLAG_ONE | FLAG_IF;
    v->cpl = 3;
    cpu_update_mode(v);
    for (unsigned s = 0; s < 6; s++)
        sem_load_segment_real(v, (enum seg_reg)s, 0);
    v->gpr[RSP] = 0x8000;
}

static void test_vme(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    v86(tm);
    assert_fault(EXEC(tm, 0x9c), VEC_GP, 0); /* PUSHF */
    assert_fault(EXEC(tm, 0xfa), VEC_GP, 0);
    v->cr4 |= CR4_VME;
    assert_int_equal(EXEC(tm, 0x9c), DONE);
    assert_int_equal(get(tm, 0x7ffe, 2), FLAG_IOPL | FLAG_ONE);
    store_le(tm->ram + 0x7ffe, FLAG_IF | FLAG_ZF, 2);
    assert_int_equal(EXEC(tm, 0x9d), DONE); /* POPF: IF goes to VIF */
    assert_int_equal(v->rflags, FLAG_VM | FLAG_ONE | FLAG_IF | FLAG_VIF | FLAG_ZF);
    v->rflags |= FLAG_VIP;
    v->gpr[RSP] = 0x7ffe;
    assert_fault(EXEC(tm, 0x9d), VEC_GP, 0);
    assert_fault(EXEC(tm, 0x66, 0x9c), VEC_GP, 0);        /* PUSHFD */
    assert_int_equal(EXEC(tm, 0x0f, 0x00, 0xd8), VEC_UD); /* LTR */
    assert_fault(EXEC(tm, 0xf4), VEC_GP, 0);
}

/* --- control and debug registers --- */

static int mov_to_cr(struct test_machine *tm, u8 cr, u64 value)
{
    tm->v->gpr[RAX] = value;
    return EXEC(tm, 0x0f, 0x22, 0xc0 | cr << 3);
}

static void test_cr_checks(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    assert_fault(mov_to_cr(tm, 0, CR0_PG), VEC_GP, 0);
    assert_fault(mov_to_cr(tm, 0, CR0_PE | CR0_NW), VEC_GP, 0);
    assert_fault(mov_to_cr(tm, 4, CR4_LA57), VEC_GP, 0);
    assert_fault(mov_to_cr(tm, 4, CR4_PCIDE), VEC_GP, 0); /* not in long mode */
    assert_int_equal(mov_to_cr(tm, 0, CR0_PE | CR0_WP), DONE);
    assert_int_equal(v->cr0, CR0_PE | CR0_WP | CR0_ET);
    v->gpr[RAX] = 0;
    assert_int_equal(EXEC(tm, 0x0f, 0x01, 0xf0), DONE); /* LMSW cannot clear PE */
    assert_true(v->cr0 & CR0_PE);
    user_mode(tm, ATTR_CODE32);
    assert_fault(mov_to_cr(tm, 0, CR0_PE), VEC_GP, 0);

    kernel64(tm);
    assert_fault(mov_to_cr(tm, 0, v->cr0 | BIT(32)), VEC_GP, 0);
    assert_fault(mov_to_cr(tm, 0, v->cr0 & ~CR0_PG), VEC_GP, 0);
    assert_fault(mov_to_cr(tm, 4, v->cr4 & ~CR4_PAE), VEC_GP, 0);
    assert_fault(mov_to_cr(tm, 3, 1ULL << 50), VEC_GP, 0);
    assert_fault(mov_to_cr(tm, 3, PML4_AT | CR3_NOFLUSH), VEC_GP, 0);
    v->cr3 = PML4_AT | 5;
    assert_fault(mov_to_cr(tm, 4, v->cr4 | CR4_PCIDE), VEC_GP, 0);
    v->cr3 = PML4_AT;
    assert_int_equal(mov_to_cr(tm, 4, v->cr4 | CR4_PCIDE), DONE);
    assert_int_equal(mov_to_cr(tm, 3, PML4_AT | 7 | CR3_NOFLUSH), DONE);
    assert_int_equal(v->cr3, PML4_AT | 7);
    v->gpr[RAX] = 0x10;
    assert_fault(EXEC(tm, 0x44, 0x0f, 0x22, 0xc0), VEC_GP, 0); /* CR8 */
    v->gpr[RAX] = 9;
    assert_int_equal(EXEC(tm, 0x44, 0x0f, 0x22, 0xc0), DONE);
    v->gpr[RAX] = 0;
    assert_int_equal(EXEC(tm, 0x44, 0x0f, 0x20, 0xc0), DONE);
    assert_int_equal(v->gpr[RAX], 9);
}

static void test_enter_long_mode(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel64(tm); /* for its page tables */
    v->cr0 = CR0_ET;
    v->cr4 = v->efer = 0;
    kernel32(tm);
    assert_true(sem_write_msr(v, MSR_EFER, EFER_LME));
    assert_fault(mov_to_cr(tm, 0, CR0_PE | CR0_PG), VEC_GP, 0); /* without PAE */
    assert_int_equal(mov_to_cr(tm, 4, CR4_PAE), DONE);
    assert_int_equal(mov_to_cr(tm, 0, CR0_PE | CR0_PG), DONE);
    assert_true(v->efer & EFER_LMA);
    assert_int_equal(v->mode, MODE_COMPAT32);
    assert_false(sem_write_msr(v, MSR_EFER, 0)); /* LME is fixed while paging */
    assert_int_equal(mov_to_cr(tm, 0, CR0_PE), DONE);
    assert_false(v->efer & EFER_LMA);
    assert_int_equal(v->mode, MODE_PROT32);
}

static void test_pdptes(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    assert_int_equal(mov_to_cr(tm, 4, CR4_PAE), DONE);
    put64(tm, 0x20000, 0x21000 | 1);
    put64(tm, 0x20008, 1 | 2); /* a reserved bit */
    v->cr3 = 0x20000;
    assert_fault(mov_to_cr(tm, 0, CR0_PE | CR0_PG), VEC_GP, 0);
    assert_false(v->cr0 & CR0_PG);
    put64(tm, 0x20008, 0);
    for (u64 n = 0; n < 2; n++)
        put64(tm, 0x21000 + 8 * n, n << 21 | 0x83);
    assert_int_equal(mov_to_cr(tm, 0, CR0_PE | CR0_PG), DONE);
    assert_int_equal(v->pdpte[0], 0x21001);
}

static void test_debug_registers(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    v->gpr[RAX] = 0xffffffff;
    assert_int_equal(EXEC(tm, 0x0f, 0x23, 0xf0), DONE); /* MOV DR6, EAX */
    assert_int_equal(v->dr[6], 0xffffeff0 | 0xf);
    v->gpr[RAX] = 0;
    assert_int_equal(EXEC(tm, 0x0f, 0x21, 0xe0), DONE); /* MOV EAX, DR4: DR6 */
    assert_int_equal(v->gpr[RAX], 0xffffefff);
    v->cr4 |= CR4_DE;
    assert_int_equal(EXEC(tm, 0x0f, 0x21, 0xe0), VEC_UD);
    v->gpr[RAX] = DR7_GD;
    assert_int_equal(EXEC(tm, 0x0f, 0x23, 0xf8), DONE);
    assert_int_equal(EXEC(tm, 0x0f, 0x21, 0xc0), VEC_DB);
    assert_int_equal(v->fault.dr6, DR6_BD);
    v->dr[7] = DR7_FIXED;
    kernel64(tm);
    v->gpr[RAX] = BIT(32);
    assert_fault(EXEC(tm, 0x0f, 0x23, 0xf8), VEC_GP, 0);
}

/* --- MSRs, CPUID, time --- */

static void test_msrs(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    u64 value;
    assert_false(sem_write_msr(v, MSR_LSTAR, 1ULL << 62));
    assert_true(sem_write_msr(v, MSR_LSTAR, 0xffffffff80000000));
    assert_true(sem_read_msr(v, MSR_LSTAR, &value) && value == 0xffffffff80000000);
    assert_false(sem_write_msr(v, MSR_PAT, 2));
    assert_true(sem_write_msr(v, MSR_PAT, 0x0105040600070106));
    assert_false(sem_write_msr(v, MSR_EFER, BIT(1)));
    assert_true(sem_write_msr(v, MSR_MTRR_PHYSBASE0 + 15, BIT(11) | 0xfffff000));
    assert_false(sem_write_msr(v, MSR_MTRR_PHYSBASE0 + 15, 1ULL << 60));
    assert_false(sem_write_msr(v, MSR_MTRR_PHYSBASE0, 2));
    assert_true(sem_write_msr(v, MSR_MTRR_FIX4K_0 + 7, 0x0606060606060606));
    assert_int_equal(v->msr.mtrr_fixed[10], 0x0606060606060606);
    assert_true(sem_read_msr(v, MSR_MTRR_CAP, &value) && value == 0x508);
    assert_false(sem_write_msr(v, MSR_MTRR_CAP, 0));
    u64 unknown = v->stats.count[STAT_MSR_UNKNOWN];
    assert_false(sem_read_msr(v, 0x12345678, &value));
    assert_int_equal(v->stats.count[STAT_MSR_UNKNOWN], unknown + 1);
    assert_true(sem_write_msr(v, MSR_FS_BASE, 0x1234));
    assert_int_equal(v->seg[SEG_FS].base, 0x1234);

    kernel32(tm);
    v->gpr[RCX] = 0x12345678;
    assert_fault(EXEC(tm, 0x0f, 0x32), VEC_GP, 0);
    user_mode(tm, ATTR_CODE32);
    v->gpr[RCX] = MSR_TSC;
    assert_fault(EXEC(tm, 0x0f, 0x32), VEC_GP, 0);
}

static void test_tsc(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    u64 adjust;
    assert_true(sem_write_msr(v, MSR_TSC, 1ULL << 50));
    assert_true(sem_tsc(v) >= 1ULL << 50 && sem_tsc(v) < (1ULL << 50) + (1ULL << 40));
    assert_true(sem_read_msr(v, MSR_TSC_ADJUST, &adjust));
    assert_int_equal(adjust, v->tsc_offset);
    assert_true(sem_write_msr(v, MSR_TSC_ADJUST, 0));
    assert_int_equal(v->tsc_offset, 0);
    kernel32(tm);
    v->cr4 |= CR4_TSD;
    assert_int_equal(EXEC(tm, 0x0f, 0x31), DONE);
    user_mode(tm, ATTR_CODE32);
    assert_fault(EXEC(tm, 0x0f, 0x31), VEC_GP, 0);
}

static void test_kvmclock(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    assert_false(sem_write_msr(v, MSR_KVM_SYSTEM_TIME_NEW, 0xc000 | 1));
    tm->model.kvmclock = true;
    assert_true(sem_write_msr(v, MSR_KVM_SYSTEM_TIME_NEW, 0xc000 | 1));
    assert_int_equal(get(tm, 0xc000, 4) & 1, 0);
    assert_true(sem_write_msr(v, MSR_TSC, 12345));
    u64 before = timebase_ns(&tm->time);
    u64 delta = sem_tsc(v) - get(tm, 0xc008, 8);
    u64 ns =
        get(tm, 0xc010, 8) + (u64)((u128)(delta << get(tm, 0xc01c, 1)) * get(tm, 0xc018, 4) >> 32);
    assert_true(ns >= before && ns <= timebase_ns(&tm->time));
    assert_int_equal(get(tm, 0xc01d, 1), 1);
    assert_true(sem_write_msr(v, MSR_KVM_SYSTEM_TIME_NEW, ~0ULL)); /* outside RAM: ignored */
    assert_true(sem_write_msr(v, MSR_KVM_WALL_CLOCK_NEW, 0xd000));
    assert_int_equal(get(tm, 0xd004, 4), tm->time.start_realtime_ns / NSEC_PER_SEC);
    tm->model.kvmclock = false;
}

static void test_cpuid(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    u32 r[4];
    cpu_cpuid(v, 1, 0, r);
    assert_true(r[2] & BIT(31));
    assert_false(r[2] & BIT(27));
    v->cr4 |= CR4_OSXSAVE;
    cpu_cpuid(v, 1, 0, r);
    assert_true(r[2] & BIT(27));
    cpu_cpuid(v, 0xd, 0, r);
    assert_int_equal(r[1], 576);
    v->xcr0 = tm->model.xcr0_mask;
    cpu_cpuid(v, 0xd, 0, r);
    assert_int_equal(r[1], r[2]);
    cpu_cpuid(v, 0x80000002, 0, r);
    assert_memory_equal(r, "ringer virtual C", 16);
    cpu_cpuid(v, 0x80000001, 0, r);
    assert_true(r[3] & BIT(29));
    cpu_cpuid(v, 7, 1, r);
    assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
    v->cr4 &= ~CR4_OSXSAVE;
}

/* --- system calls --- */

static void test_syscall(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel64(tm);
    user_mode(tm, ATTR_CODE64);
    assert_int_equal(EXEC(tm, 0x0f, 0x05), VEC_UD); /* without SCE */
    v->efer |= EFER_SCE;
    v->msr.star = (u64)0x23 << 48 | (u64)KCODE << 32;
    v->msr.lstar = 0x5000;
    v->msr.fmask = FLAG_IF | FLAG_TF;
    v->rflags |= FLAG_IF | FLAG_CF;
    assert_int_equal(EXEC(tm, 0x0f, 0x05), DONE);
    assert_int_equal(v->cpl, 0);
    assert_int_equal(v->rip, 0x5000);
    assert_int_equal(v->gpr[RCX], CODE_AT + 2);
    assert_int_equal(v->gpr[R11], FLAG_IF | FLAG_CF | FLAG_ONE);
    assert_int_equal(v->rflags, FLAG_CF | FLAG_ONE);
    assert_int_equal(v->seg[SEG_CS].sel, KCODE);
    assert_int_equal(v->seg[SEG_SS].sel, KDATA);
    assert_int_equal(EXEC(tm, 0x48, 0x0f, 0x07), DONE); /* SYSRETQ */
    assert_int_equal(v->cpl, 3);
    assert_int_equal(v->rip, CODE_AT + 2);
    assert_int_equal(v->seg[SEG_CS].sel, 0x33);
    assert_int_equal(v->seg[SEG_SS].sel, 0x2b);
    assert_int_equal(v->rflags, FLAG_IF | FLAG_CF | FLAG_ONE);
    assert_int_equal(v->mode, MODE_LONG64);
    assert_fault(EXEC(tm, 0x48, 0x0f, 0x07), VEC_GP, 0);
}

static void test_sysenter(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    kernel32(tm);
    user_mode(tm, ATTR_CODE32);
    v->msr.sysenter_cs = 0;
    assert_fault(EXEC(tm, 0x0f, 0x34), VEC_GP, 0);
    v->msr.sysenter_cs = KCODE;
    v->msr.sysenter_esp = 0x6000;
    v->msr.sysenter_eip = 0x5000;
    assert_int_equal(EXEC(tm, 0x0f, 0x34), DONE);
    assert_int_equal(v->cpl, 0);
    assert_int_equal(v->gpr[RSP], 0x6000);
    assert_int_equal(v->rip, 0x5000);
    v->gpr[RDX] = 0x4000;
    v->gpr[RCX] = 0x3000;
    assert_int_equal(EXEC(tm, 0x0f, 0x35), DONE);
    assert_int_equal(v->cpl, 3);
    assert_int_equal(v->seg[SEG_CS].sel, UCODE);
    assert_int_equal(v->seg[SEG_SS].sel, UDATA);
    assert_int_equal(v->gpr[RSP], 0x3000);
}

/* --- ports --- */

struct fake_port {
    u32 written, reads;
};

static u32 fake_in(void *ctx, u16 port, unsigned size)
{
    struct fake_port *p = ctx;
    (void)port, (void)size;
    return 0x41 + p->reads++;
}

static void fake_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct fake_port *p = ctx;
    (void)port, (void)size;
    p->written = value;
}

static void test_ports(void **state)
{
    struct test_machine *tm = *state;
    struct vcpu *v = tm->v;
    static const struct port_ops ops = {.in = fake_in, .out = fake_out};
    struct fake_port port = {0, 0};
    struct error err;
    assert_int_equal(portbus_add(tm->m.ports, 0x70, 1, &ops, &port, NULL, false, &err), 0);
    kernel32(tm);
    v->gpr[RAX] = 0xffffff99;
    assert_int_equal(EXEC(tm, 0xe6, 0x70), DONE); /* OUT 0x70, AL */
    assert_int_equal(port.written, 0x99);
    v->gpr[RDX] = 0x70;
    v->gpr[RCX] = 3;
    v->gpr[RDI] = DATA_AT;
    assert_int_equal(EXEC(tm, 0xf3, 0x6c), DONE); /* REP INSB */
    assert_memory_equal(tm->ram + DATA_AT, "ABC", 3);
    assert_int_equal(v->gpr[RCX], 0);
    assert_int_equal(v->gpr[RDI], DATA_AT + 3);

    user_mode(tm, ATTR_CODE32);
    v->tr.limit = 0x77; /* bitmap at 0x68: ports 0 to 0x77, and the byte behind */
    store_le(tm->ram + TSS_AT + 0x66, 0x68, 2);
    memset(tm->ram + TSS_AT + 0x68, 0, 0x10);
    assert_int_equal(EXEC(tm, 0xe4, 0x70), DONE);
    store_le(tm->ram + TSS_AT + 0x68 + 0x70 / 8, 1, 1);
    assert_fault(EXEC(tm, 0xe4, 0x70), VEC_GP, 0);
    assert_fault(EXEC(tm, 0xe4, 0xf0), VEC_GP, 0); /* beyond the TSS */
    assert_fault(EXEC(tm, 0xe5, 0x6d), VEC_GP, 0); /* four ports, the last is 0x70 */
    v->rflags |= FLAG_IOPL;
    assert_int_equal(EXEC(tm, 0xe4, 0x70), DONE);
}

static void test_undefined(void **state)
{
    struct test_machine *tm = *state;
    kernel32(tm);
    assert_int_equal(EXEC(tm, 0x0f, 0x0b), VEC_UD);       /* UD2 */
    assert_int_equal(EXEC(tm, 0x0f, 0x01, 0xc8), VEC_UD); /* MONITOR */
    assert_int_equal(EXEC(tm, 0x0f, 0xaa), VEC_UD);       /* RSM */
    assert_int_equal(EXEC(tm, 0x0f, 0x01, 0xc1), VEC_UD); /* VMCALL */
    assert_int_equal(EXEC(tm, 0x0f, 0x01, 0xd0), VEC_UD); /* XGETBV without OSXSAVE */
    assert_int_equal(EXEC(tm, 0xf4), DONE);
    assert_int_equal(tm->v->activity, ACTIVITY_HALTED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_segment_loads),
        TEST(test_null_and_limits),
        TEST(test_shadows),
        TEST(test_unreal),
        TEST(test_questions),
        TEST(test_tables),
        TEST(test_far_jump),
        TEST(test_call_gate),
        TEST(test_call_gate_faults),
        TEST(test_call_gate_long),
        TEST(test_iret_outer),
        TEST(test_iret_keeps_privileged_flags),
        TEST(test_iret_v86),
        TEST(test_iret_long),
        TEST(test_task_call_and_return),
        TEST(test_task_jump),
        TEST(test_task_faults),
        TEST(test_task16),
        TEST(test_popf),
        TEST(test_vme),
        TEST(test_cr_checks),
        TEST(test_enter_long_mode),
        TEST(test_pdptes),
        TEST(test_debug_registers),
        TEST(test_msrs),
        TEST(test_tsc),
        TEST(test_kvmclock),
        TEST(test_cpuid),
        TEST(test_syscall),
        TEST(test_sysenter),
        TEST(test_ports),
        TEST(test_undefined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
