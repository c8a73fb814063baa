/*
 * Segment registers, far transfers and gates, IRET and task switches.
 */
#include "system_rig.h"

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
