/*
 * The interpreter and event delivery, with code given as bytes: where control goes, what is on the
 * stack, and when events are seen. Programs end with HLT while IF is 0.
 */
#include "machine.h"

#include "engine/sem/sem.h"

#define HLT 0xf4

/* --- real mode --- */

static void real_int(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0xb8, 0x34, 0x12, 0xcd, 0x21, 0x40, HLT); /* mov ax,1234h; int 21h; inc ax */
    PUT(tm, 0x2000, 0x89, 0xc3, 0xcf);                        /* mov bx,ax; iret */
    set_ivt(tm, 0x21, 0x2000);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RBX], 0x1234);
    assert_int_equal(tm->v->gpr[RAX], 0x1235);
    assert_int_equal(tm->v->gpr[RSP], 0x8000);
    assert_int_equal(tm->v->rip, 0x1007);
    assert_int_equal(tm->v->stats.count[STAT_SOFT_INT], 1);
    assert_int_equal(tm->v->stats.count[STAT_INSN_INTERP], 6);
}

static void real_divide_error(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0x90, 0xf6, 0xf1, HLT); /* nop; div cl */
    PUT(tm, 0x2000, HLT);
    set_ivt(tm, VEC_DE, 0x2000);
    tm->v->rflags |= FLAG_IF | FLAG_CF;
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->rip, 0x2001);
    assert_int_equal(tm->v->gpr[RSP], 0x7ffa);
    assert_int_equal(get(tm, 0x7ffa, 2), 0x1001); /* restarts at the DIV */
    assert_int_equal(get(tm, 0x7ffc, 2), 0);
    assert_int_equal(get(tm, 0x7ffe, 2) & (FLAG_IF | FLAG_CF), FLAG_IF | FLAG_CF);
    assert_int_equal(tm->v->rflags & FLAG_IF, 0);
    assert_int_equal(tm->v->stats.count[STAT_FAULT_DE], 1);
    assert_int_equal(tm->v->stats.count[STAT_INSN_INTERP], 2); /* NOP and HLT */
}

static void real_invalid_opcode(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0x90, 0x0f, 0x0b);
    PUT(tm, 0x2000, HLT);
    set_ivt(tm, VEC_UD, 0x2000);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(get(tm, 0x7ffa, 2), 0x1001);
}

static void real_triple_fault(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0xcc);
    tm->v->idtr.limit = 0;
    assert_int_equal(run(tm), EXIT_SHUTDOWN);
    assert_int_equal(tm->v->activity, ACTIVITY_SHUTDOWN);
    assert_int_equal(tm->v->rip, 0x1000);
    assert_int_equal(run(tm), EXIT_SHUTDOWN);
}

static void real_single_step(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0x90, 0x40, 0x90, HLT); /* nop; inc ax; nop; hlt */
    PUT(tm, 0x2000, 0x43, 0x5a, 0x52, 0x83, 0xfb, 3, 0x74,
        1,          /* inc bx; pop dx; push dx; cmp bx,3 */
        0xcf, HLT); /* je +1; iret; hlt */
    set_ivt(tm, VEC_DB, 0x2000);
    tm->v->rflags |= FLAG_TF;
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RAX], 1);
    assert_int_equal(tm->v->gpr[RBX], 3);               /* one trap per instruction */
    assert_int_equal(tm->v->gpr[RDX] & 0xffff, 0x1003); /* behind the third */
    assert_int_equal(tm->v->dr[6] & DR6_BS, DR6_BS);
}

/* INT clears TF: no trap behind it, and none in the handler until IRET brings TF back. */
static void real_single_step_over_int(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0xcd, 0x21, 0x90, HLT);
    PUT(tm, 0x2100, 0x90, 0xcf);
    PUT(tm, 0x2000, HLT);
    set_ivt(tm, 0x21, 0x2100);
    set_ivt(tm, VEC_DB, 0x2000);
    tm->v->rflags |= FLAG_TF;
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(get(tm, 0x7ffa, 2), 0x1003); /* first trap: behind the NOP after INT */
}

static void sti_shadow(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0xfb, 0x40, 0x40, HLT); /* sti; inc ax; inc ax */
    PUT(tm, 0x2000, HLT);
    set_ivt(tm, 0x20, 0x2000);
    raise_irq(tm, 0x20);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RAX], 1);
    assert_int_equal(get(tm, 0x7ffa, 2), 0x1002);
    assert_int_equal(tm->v->stats.count[STAT_IRQ_DELIVERED], 1);
}

/* MOV SS holds off what STI's shadow would have let in, and doesn't re-arm when repeated. */
static void mov_ss_shadow(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0xfb, 0x8e, 0xd3, 0xbc, 0x00, 0x70, 0x40); /* sti; mov ss,bx; mov sp,7000h */
    PUT(tm, 0x2000, HLT);
    set_ivt(tm, 0x20, 0x2000);
    raise_irq(tm, 0x20);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(get(tm, 0x6ffa, 2), 0x1006);

    real_mode(tm, 0x1100);
    PUT(tm, 0x1100, 0x8e, 0xd3, 0x8e, 0xd3, 0x40, 0x40); /* mov ss,bx twice; inc ax */
    tm->v->shadow = 0;
    tm->v->activity = ACTIVITY_RUNNING;
    tm->v->gpr[RAX] = 0;
    tm->v->rflags |= FLAG_TF;
    set_ivt(tm, VEC_DB, 0x2000);
    engine_interp.state_changed(&tm->m, tm->v);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(get(tm, 0x7ffa, 2), 0x1104);
    assert_int_equal(tm->v->gpr[RAX], 0);
}

static void nmi_and_sti_shadow(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0x40, HLT);
    PUT(tm, 0x2000, HLT);
    set_ivt(tm, VEC_NMI, 0x2000);
    tm->v->shadow = SHADOW_STI;
    vcpu_raise(tm->v, EVENT_NMI);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RAX], 0);
    assert_true(tm->v->nmi_blocked);
    vcpu_raise(tm->v, EVENT_NMI); /* stays pending until IRET */
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->stats.count[STAT_NMI_DELIVERED], 1);
}

static void halt_wakes(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0xfb, HLT, 0x43, 0xfa, HLT); /* sti; hlt; inc bx; cli; hlt */
    PUT(tm, 0x2000, 0x40, 0xcf);                 /* inc ax; iret */
    set_ivt(tm, 0x20, 0x2000);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->rip, 0x1002);
    assert_int_equal(run(tm), EXIT_HALT);
    raise_irq(tm, 0x20);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RAX], 1);
    assert_int_equal(tm->v->gpr[RBX], 1);
    raise_irq(tm, 0x20); /* IF is 0: does not wake */
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RAX], 1);
    assert_int_equal(tm->v->rip, 0x1005);
}

static void stop_ends_a_loop(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0xeb, 0xfe);
    vcpu_raise(tm->v, EVENT_STOP);
    assert_int_equal(run(tm), EXIT_KICKED);
    assert_int_equal(tm->v->rip, 0x1000);
    assert_int_equal(tm->v->stats.count[STAT_INSN_INTERP], 0);
}

static void rep_interrupted(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0xfb, 0xf3, 0xaa, HLT);                    /* sti; rep stosb */
    PUT(tm, 0x2000, 0x89, 0xcb, 0x89, 0xfe, 0x5a, 0x52, 0xcf); /* bx=cx; si=di; dx=return ip */
    set_ivt(tm, 0x20, 0x2000);
    tm->v->seg[SEG_ES].sel = 0x2000;
    tm->v->seg[SEG_ES].base = 0x20000;
    tm->v->gpr[RCX] = 0xf000;
    tm->v->gpr[RAX] = 0x5a;
    raise_irq(tm, 0x20);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RDX] & 0xffff, 0x1001);
    assert_in_range(tm->v->gpr[RBX], 1, 0xefff);
    assert_int_equal(tm->v->gpr[RBX] + tm->v->gpr[RSI], 0xf000);
    assert_int_equal(tm->v->gpr[RCX], 0);
    assert_int_equal(get(tm, 0x2efff, 2), 0x005a);
}

/* --- code that changes --- */

static void smc_same_block(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    /* mov byte [1006h],5; mov al,1; hlt: the store changes the immediate behind it. */
    PUT(tm, 0x1000, 0xc6, 0x06, 0x06, 0x10, 0x05, 0xb0, 0x01, HLT);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RAX], 5);
    assert_int_equal(tm->v->rip, 0x1008);
}

static void smc_other_block(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    /* call 1100h; mov byte [1101h],7; mov bl,al; call 1100h; hlt */
    PUT(tm, 0x1000, 0xe8, 0xfd, 0x00, 0xc6, 0x06, 0x01, 0x11, 0x07, 0x88, 0xc3, 0xe8, 0xf3, 0x00,
        HLT);
    PUT(tm, 0x1100, 0xb0, 0x03, 0xc3); /* mov al,3; ret */
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RBX], 3);
    assert_int_equal(tm->v->gpr[RAX], 7);
    assert_int_not_equal(tm->v->stats.count[STAT_INTERP_BLOCKS_STALE], 0);
}

/* An instruction across a page is changed in its second page. */
static void smc_across_pages(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0xe8, 0xfc, 0x0f, 0x89, 0xc3, 0xc6, 0x06, 0x00, 0x20, 0x09, 0xe8, 0xf2, 0x0f,
        HLT);                                /* call 1fffh; mov bx,ax; mov byte [2000h],9; call */
    PUT(tm, 0x1fff, 0xb8, 0x01, 0x00, 0xc3); /* mov ax,1; ret */
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RBX], 1);
    assert_int_equal(tm->v->gpr[RAX], 9);
}

/* A device's write is seen at the next entry; a write beside the code costs no decoding. */
static void smc_by_device(void **state)
{
    struct test_machine *tm = *state;
    real_mode(tm, 0x1000);
    PUT(tm, 0x1000, 0xb0, 0x01, HLT);
    assert_int_equal(run(tm), EXIT_HALT);
    u64 decoded = tm->v->stats.count[STAT_INTERP_BLOCKS_DECODED];
    guestmem_write(tm->m.mem, 0x1004, &(u8){0xff}, 1);
    tm->v->rip = 0x1000;
    tm->v->activity = ACTIVITY_RUNNING;
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->stats.count[STAT_INTERP_BLOCKS_DECODED], decoded);
    guestmem_write(tm->m.mem, 0x1001, &(u8){0x02}, 1);
    tm->v->rip = 0x1000;
    tm->v->activity = ACTIVITY_RUNNING;
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RAX], 2);
}

/* --- 32-bit protected mode --- */

static void protected_gp(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0xb8, 0x40, 0, 0, 0, 0x8e, 0xd8); /* mov eax,40h; mov ds,eax: past the GDT */
    PUT(tm, 0x4000, HLT);
    set_gate(tm, VEC_GP, 0x4000, GATE_INT);
    tm->v->rflags |= FLAG_IF | FLAG_NT;
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RSP], 0x7ff0);
    assert_int_equal(get(tm, 0x7ff0, 4), 0x40);
    assert_int_equal(get(tm, 0x7ff4, 4), 0x3005);
    assert_int_equal(get(tm, 0x7ff8, 4), KCODE);
    assert_int_equal(get(tm, 0x7ffc, 4), FLAG_ONE | FLAG_IF | FLAG_NT | FLAG_RF);
    assert_int_equal(tm->v->rflags & (FLAG_IF | FLAG_NT | FLAG_RF), 0);
}

static void protected_privilege_change(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    user_mode(tm, ATTR_CODE32);
    PUT(tm, 0x3000, 0xcd, 0x80);
    PUT(tm, 0x4000, HLT);
    set_gate(tm, 0x80, 0x4000, GATE_TRAP | DPL3);
    tm->v->rflags |= FLAG_IF;
    vcpu_raise(tm->v, 0);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->cpl, 0);
    assert_int_equal(tm->v->seg[SEG_SS].sel, KDATA);
    assert_int_equal(tm->v->gpr[RSP], 0x7000 - 20);
    assert_int_equal(get(tm, 0x7000 - 4, 4), UDATA);
    assert_int_equal(get(tm, 0x7000 - 8, 4), 0x8000);
    assert_int_equal(get(tm, 0x7000 - 16, 4), UCODE);
    assert_int_equal(get(tm, 0x7000 - 20, 4), 0x3002);
    assert_int_equal(tm->v->rflags & FLAG_IF, FLAG_IF); /* trap gate */
}

static void protected_int_needs_dpl(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    user_mode(tm, ATTR_CODE32);
    PUT(tm, 0x3000, 0xcd, 0x80);
    PUT(tm, 0x4000, HLT);
    set_gate(tm, 0x80, 0x5000, GATE_INT);
    set_gate(tm, VEC_GP, 0x4000, GATE_INT);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->rip, 0x4001);
    assert_int_equal(get(tm, tm->v->gpr[RSP], 4), 0x80 << 3 | 2); /* no EXT: software */
    assert_int_equal(get(tm, tm->v->gpr[RSP] + 4, 4), 0x3000);
}

static void protected_external_not_present(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0x90);
    PUT(tm, 0x4000, HLT);
    set_gate(tm, 0x20, 0x5000, GATE_INT & 0x7f);
    set_gate(tm, VEC_NP, 0x4000, GATE_INT);
    tm->v->rflags |= FLAG_IF;
    raise_irq(tm, 0x20);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(get(tm, tm->v->gpr[RSP], 4), 0x20 << 3 | 2 | 1); /* EXT */
    assert_int_equal(get(tm, tm->v->gpr[RSP] + 4, 4), 0x3000);
}

static void double_fault(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0x90, 0xf7, 0xf1); /* nop; div ecx */
    PUT(tm, 0x4000, HLT);
    set_gate(tm, VEC_DE, 0x5000, GATE_INT & 0x7f); /* #DE -> #NP: contributory twice */
    set_gate(tm, VEC_DF, 0x4000, GATE_INT);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->rip, 0x4001);
    assert_int_equal(get(tm, tm->v->gpr[RSP], 4), 0);
    assert_int_equal(get(tm, tm->v->gpr[RSP] + 4, 4), 0x3001);
    assert_int_equal(tm->v->stats.count[STAT_FAULT_DF], 1);
}

/* A fault while delivering a benign exception is delivered in its stead. */
static void serial_fault(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0x0f, 0x0b);
    PUT(tm, 0x4000, HLT);
    set_gate(tm, VEC_UD, 0x5000, GATE_INT & 0x7f);
    set_gate(tm, VEC_NP, 0x4000, GATE_INT);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(get(tm, tm->v->gpr[RSP], 4), VEC_UD << 3 | 2 | 1);
    assert_int_equal(tm->v->stats.count[STAT_FAULT_DF], 0);
}

static void triple_fault(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0xf7, 0xf1);
    assert_int_equal(run(tm), EXIT_SHUTDOWN); /* empty gates */
    assert_int_equal(tm->v->rip, 0x3000);
    assert_int_equal(tm->v->seg[SEG_CS].sel, KCODE);
    assert_int_equal(tm->v->gpr[RSP], 0x8000);
    assert_int_equal(tm->v->stats.count[STAT_FAULT_DF], 1);
}

static void code_limit(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0x90, 0x90, 0xb8, 1, 0, 0, 0); /* the last byte of MOV is past the limit */
    PUT(tm, 0x4000, HLT);
    set_gate(tm, VEC_GP, 0x4000, GATE_INT);
    tm->v->seg[SEG_CS].limit = 0x3005;
    cpu_update_mode(tm->v);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(get(tm, tm->v->gpr[RSP], 4), 0);
    assert_int_equal(get(tm, tm->v->gpr[RSP] + 4, 4), 0x3002);
}

static void too_long(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    memset(tm->ram + 0x3000, 0x66, 16);
    tm->ram[0x300f] = 0x90;
    PUT(tm, 0x4000, HLT);
    set_gate(tm, VEC_GP, 0x4000, GATE_INT);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(get(tm, tm->v->gpr[RSP] + 4, 4), 0x3000);
    assert_int_equal(tm->v->stats.count[STAT_FAULT_GP], 1);
}

static void debug_registers(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    /* nop; mov [9000h],al; nop; nop; hlt */
    PUT(tm, 0x3000, 0x90, 0xa2, 0x00, 0x90, 0, 0, 0x90, 0x90, HLT);
    PUT(tm, 0x4000, 0x43, 0x8b, 0x14, 0x24, 0x83, 0xfb, 2, 0x74, 1, 0xcf, HLT);
    set_gate(tm, VEC_DB, 0x4000,
             GATE_INT); /* inc ebx; mov edx,[esp]; iretd, or hlt when ebx is 2 */
    tm->v->dr[0] = 0x9000;
    tm->v->dr[1] = 0x3007;
    tm->v->dr[7] = DR7_FIXED | 0x5 | 0x1 << 16; /* 0: write, 1 byte; 1: execute */
    engine_interp.state_changed(&tm->m, tm->v);
    struct vm_exit exit;
    for (unsigned n = 0; n < 2; n++) /* nop and the store; its trap is pending then */
        assert_true(sem_step(tm->v, &exit));
    assert_int_equal(tm->v->pending_db, 1);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RBX], 2);
    assert_int_equal(tm->v->gpr[RDX], 0x3007);
    assert_int_equal(tm->v->dr[6] & 0xf, 2);
    assert_int_equal(get(tm, tm->v->gpr[RSP] + 8, 4) & FLAG_RF, FLAG_RF);
}

/* Between iterations of REP the pushed flags have RF set. */
static void rep_pushes_rf(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0xfb, 0xf3, 0xaa, HLT);
    PUT(tm, 0x4000, HLT);
    set_gate(tm, 0x20, 0x4000, GATE_INT);
    tm->v->gpr[RCX] = 0x100000;
    tm->v->gpr[RDI] = 0x200000;
    raise_irq(tm, 0x20);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(get(tm, 0x7ff4, 4), 0x3001);
    assert_int_equal(get(tm, 0x7ffc, 4) & FLAG_RF, FLAG_RF);
}

/* A gate of 16 bits: words are pushed, the offset is 16 bits. */
static void gate_16bit(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0x0f, 0x0b);
    PUT(tm, 0x4000, HLT);
    set_gate(tm, VEC_UD, 0xabc4000, SEG_P | SYS_INT16);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->rip, 0x4001);
    assert_int_equal(tm->v->gpr[RSP], 0x7ffa);
    assert_int_equal(get(tm, 0x7ffa, 2), 0x3000);
}

enum { TASK2_AT = 0x900, TASK2 = 0x30 };

/* A second task that begins at eip with an empty stack at 9800h, and a task gate to it. */
static void second_task(struct test_machine *tm, u8 vector, u32 eip, u16 cs)
{
    const u16 offsets[] = {0x48, 0x4c, 0x50, 0x54, 0x58, 0x5c};
    for (unsigned n = 0; n < ARRAY_SIZE(offsets); n++)
        store_le(tm->ram + TASK2_AT + offsets[n], n == SEG_CS ? cs : KDATA, 2);
    store_le(tm->ram + TASK2_AT + 0x20, eip, 4);
    store_le(tm->ram + TASK2_AT + 0x24, FLAG_ONE, 4);
    store_le(tm->ram + TASK2_AT + 0x38, 0x9800, 4);
    put64(tm, GDT_AT + TASK2, segment_descriptor(TASK2_AT, 0x7f, SEG_P | SYS_TSS32));
    put64(tm, IDT_AT + 8 * vector, gate32(TASK2, 0, GATE_TASK));
}

static void double_fault_by_task_gate(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0xf7, 0xf1); /* div ecx; there is no gate for #DE */
    PUT(tm, 0x4000, HLT);
    second_task(tm, VEC_DF, 0x4000, KCODE);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->rip, 0x4001);
    assert_int_equal(tm->v->tr.sel, TASK2);
    assert_int_equal(tm->v->gpr[RSP], 0x9800 - 4);
    assert_int_equal(get(tm, 0x9800 - 4, 4), 0);
    assert_int_equal(get(tm, TASK2_AT, 2), TSS);
    assert_int_equal(get(tm, TSS_AT + 0x20, 4), 0x3000);
    assert_int_equal(tm->v->rflags & FLAG_NT, FLAG_NT);
}

/* The new task's CS is bad: #TS is the new task's, before its first instruction. */
static void task_gate_to_bad_task(void **state)
{
    struct test_machine *tm = *state;
    protected_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0x0f, 0x0b);
    second_task(tm, VEC_UD, 0x4444, KDATA);
    assert_int_equal(run(tm), EXIT_SHUTDOWN);
    assert_int_equal(tm->v->stats.count[STAT_FAULT_TS], 1);
    assert_int_equal(tm->v->tr.sel, TASK2);
    assert_int_equal(tm->v->rip, 0x4444);
}

/* --- virtual-8086 mode --- */

static void enter_v86(struct test_machine *tm, u64 iopl)
{
    struct vcpu *v = tm->v;
    protected_mode(tm, 0);
    v->rflags |= FLAG_VM | iopl;
    v->cpl = 3;
    for (unsigned s = 0; s < ARRAY_SIZE(v->seg); s++)
        v->seg[s] = (struct segment){.sel = 0x300, .base = 0x3000, .limit = 0xffff, .attr = 0xf3};
    v->gpr[RSP] = 0x800;
    cpu_update_mode(v);
    PUT(tm, 0x3000, 0xcd, 0x21, HLT);
    PUT(tm, 0x4000, HLT);
}

static void v86_to_ring0(void **state)
{
    struct test_machine *tm = *state;
    enter_v86(tm, FLAG_IOPL);
    set_gate(tm, 0x21, 0x4000, GATE_INT_USER);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RSP], 0x7000 - 36);
    assert_int_equal(get(tm, 0x7000 - 4, 4), 0x300);  /* GS */
    assert_int_equal(get(tm, 0x7000 - 20, 4), 0x300); /* SS */
    assert_int_equal(get(tm, 0x7000 - 24, 4), 0x800);
    assert_int_equal(get(tm, 0x7000 - 28, 4) & FLAG_VM, FLAG_VM);
    assert_int_equal(get(tm, 0x7000 - 36, 4), 2);
    assert_int_equal(tm->v->rflags & FLAG_VM, 0);
    assert_int_equal(tm->v->seg[SEG_DS].attr & SEG_UNUSABLE, SEG_UNUSABLE);
    assert_int_equal(tm->v->cpl, 0);
}

static void v86_int_needs_iopl(void **state)
{
    struct test_machine *tm = *state;
    enter_v86(tm, 0);
    set_gate(tm, 0x21, 0x5000, GATE_INT_USER);
    set_gate(tm, VEC_GP, 0x4000, GATE_INT);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(get(tm, 0x7000 - 40, 4), 0);
    assert_int_equal(get(tm, 0x7000 - 36, 4), 0);
}

/* CR4.VME and a clear bit in the redirection bitmap: the 8086 program's own table is used. */
static void v86_redirection(void **state)
{
    struct test_machine *tm = *state;
    enter_v86(tm, 0);
    tm->v->cr4 |= CR4_VME;
    tm->v->rflags |= FLAG_VIF;
    store_le(tm->ram + TSS_AT + 0x66, 0x88, 2); /* the bitmap is at 0x68 */
    tm->v->tr.limit = 0x8f;
    set_gate(tm, VEC_GP, 0x4000, GATE_INT);
    store_le(tm->ram + 4 * 0x21, 0x03000010, 4); /* 300h:10h */
    PUT(tm, 0x3010, HLT);                        /* privileged: ends in the #GP handler */
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(get(tm, 0x7000 - 36, 4), 0x10); /* #GP came from the 8086 handler */
    assert_int_equal(get(tm, 0x3000 + 0x7fa, 2), 2);
    assert_int_equal(get(tm, 0x3000 + 0x7fe, 2) & (FLAG_IOPL | FLAG_IF), FLAG_IOPL | FLAG_IF);
    assert_int_equal(get(tm, 0x7000 - 28, 4) & FLAG_VIF, 0);
}

/* --- long mode --- */

static void long_same_privilege(void **state)
{
    struct test_machine *tm = *state;
    long_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0x0f, 0x0b);
    PUT(tm, 0x5000, HLT);
    set_gate64(tm, VEC_UD, 0x5000, GATE_INT, 0);
    tm->v->gpr[RSP] = 0x8005;
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RSP], 0x8000 - 40);
    assert_int_equal(get(tm, 0x8000 - 8, 8), KDATA);
    assert_int_equal(get(tm, 0x8000 - 16, 8), 0x8005);
    assert_int_equal(get(tm, 0x8000 - 40, 8), 0x3000);
    assert_int_equal(tm->v->seg[SEG_SS].sel, KDATA);
}

static void long_from_user(void **state)
{
    struct test_machine *tm = *state;
    long_mode(tm, 0x3000);
    user_mode(tm, ATTR_CODE64);
    PUT(tm, 0x3000, 0xcc);
    PUT(tm, 0x5000, HLT);
    set_gate64(tm, VEC_BP, 0x5000, GATE_INT_USER, 0);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RSP], 0x7000 - 40);
    assert_int_equal(get(tm, 0x7000 - 8, 8), UDATA);
    assert_int_equal(get(tm, 0x7000 - 40, 8), 0x3001);
    assert_int_equal(tm->v->seg[SEG_SS].sel, 0);
    assert_int_equal(tm->v->cpl, 0);
}

static void long_page_fault_on_ist(void **state)
{
    struct test_machine *tm = *state;
    long_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0x48, 0x89, 0x04, 0x25, 0x00, 0x10, 0x00, 0x40); /* mov [40001000h],rax */
    PUT(tm, 0x5000, HLT);
    set_gate64(tm, VEC_PF, 0x5000, GATE_INT, 1);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->cr2, 0x40001000);
    assert_int_equal(tm->v->gpr[RSP], 0x6000 - 48);
    assert_int_equal(get(tm, 0x6000 - 48, 8), PF_W);
    assert_int_equal(get(tm, 0x6000 - 40, 8), 0x3000);
    assert_int_equal(get(tm, 0x6000 - 16, 8), 0x8000);
    assert_int_equal(tm->v->seg[SEG_SS].sel, KDATA); /* same privilege: SS stays */
}

/* A page fault while pushing for a page fault. */
static void long_double_page_fault(void **state)
{
    struct test_machine *tm = *state;
    long_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0x48, 0x8b, 0x04, 0x25, 0x00, 0x10, 0x00, 0x40); /* mov rax,[40001000h] */
    PUT(tm, 0x5000, HLT);
    set_gate64(tm, VEC_PF, 0x5100, GATE_INT, 0);
    set_gate64(tm, VEC_DF, 0x5000, GATE_INT, 1);
    tm->v->gpr[RSP] = 0x40003000;
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->cr2, 0x40002ff8);
    assert_int_equal(get(tm, 0x6000 - 48, 8), 0);
    assert_int_equal(get(tm, 0x6000 - 40, 8), 0x3000);
}

/* The same virtual page, remapped: cached code of the old page must not run. */
static void long_remapped_code(void **state)
{
    struct test_machine *tm = *state;
    long_mode(tm, 0x203000);
    /* mov al,1; mov [entry],rbx; invlpg [200000h]; jmp 203000h, in the page at 2 MiB */
    PUT(tm, 0x3000, 0xb0, 0x01, 0x48, 0x89, 0x1c, 0x25, 0x08, 0x20, 0x10, 0x00, 0x0f, 0x01, 0x3c,
        0x25, 0x00, 0x00, 0x20, 0x00, 0xeb, 0xec);
    PUT(tm, 0x203000, 0xb0, 0x02, HLT);
    PUT(tm, 0x203012, 0xeb, 0xec);
    put64(tm, PML4_AT + 0x2000 + 8, 0x87); /* 2 MiB -> 0 */
    tm->v->gpr[RBX] = 0x200087;            /* and back to 2 MiB */
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RAX], 2);
}

/* Code across two pages whose second half faults: nothing runs, CR2 is the second page. */
static void long_fetch_fault_across(void **state)
{
    struct test_machine *tm = *state;
    long_mode(tm, 0x3ffffffe);
    put64(tm, PML4_AT + 0x2000 + 8 * 511, 0x87); /* the last 2 MiB page of the GiB -> 0 */
    PUT(tm, 0x1ffffe, 0xb8, 0x01);               /* mov eax,imm32 */
    PUT(tm, 0x5000, HLT);
    set_gate64(tm, VEC_PF, 0x5000, GATE_INT, 0);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->cr2, 0x40000000);
    assert_int_equal(get(tm, tm->v->gpr[RSP] + 8, 8), 0x3ffffffe);
}

static void long_noncanonical_rip(void **state)
{
    struct test_machine *tm = *state;
    long_mode(tm, 0x800000000000);
    PUT(tm, 0x5000, HLT);
    set_gate64(tm, VEC_GP, 0x5000, GATE_INT, 0);
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->stats.count[STAT_FAULT_GP], 1);
    assert_int_equal(get(tm, tm->v->gpr[RSP] + 8, 8), 0x800000000000);
}

static void step_delivers_faults(void **state)
{
    struct test_machine *tm = *state;
    struct vm_exit exit;
    long_mode(tm, 0x3000);
    PUT(tm, 0x3000, 0xff, 0xc0, 0x0f, 0x0b); /* inc eax; ud2 */
    PUT(tm, 0x5000, HLT);
    set_gate64(tm, VEC_UD, 0x5000, GATE_INT, 0);
    assert_true(sem_step(tm->v, &exit));
    assert_int_equal(tm->v->rip, 0x3002);
    assert_int_equal(tm->v->gpr[RAX], 1);
    assert_true(sem_step(tm->v, &exit));
    assert_int_equal(tm->v->rip, 0x5000);
    assert_false(sem_step(tm->v, &exit));
    assert_int_equal(exit.kind, EXIT_HALT);
}

/* More blocks than the cache holds. */
static void cache_overflow(void **state)
{
    struct test_machine *tm = *state;
    long_mode(tm, 0x200000);
    const u32 blocks = TUNE_INTERP_CACHE_BLOCKS + 100;
    for (u32 n = 0; n < blocks; n++)
        PUT(tm, 0x200000 + 4 * n, 0xff, 0xc0, 0xeb, 0x00); /* inc eax; jmp next */
    tm->ram[0x200000 + 4 * blocks] = HLT;
    assert_int_equal(run(tm), EXIT_HALT);
    assert_int_equal(tm->v->gpr[RAX], blocks);
    assert_int_equal(tm->v->stats.count[STAT_INSN_INTERP], 2 * blocks + 1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, machine_setup, machine_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(real_int),
        TEST(real_divide_error),
        TEST(real_invalid_opcode),
        TEST(real_triple_fault),
        TEST(real_single_step),
        TEST(real_single_step_over_int),
        TEST(sti_shadow),
        TEST(mov_ss_shadow),
        TEST(nmi_and_sti_shadow),
        TEST(halt_wakes),
        TEST(stop_ends_a_loop),
        TEST(rep_interrupted),
        TEST(smc_same_block),
        TEST(smc_other_block),
        TEST(smc_across_pages),
        TEST(smc_by_device),
        TEST(protected_gp),
        TEST(protected_privilege_change),
        TEST(protected_int_needs_dpl),
        TEST(protected_external_not_present),
        TEST(double_fault),
        TEST(serial_fault),
        TEST(triple_fault),
        TEST(code_limit),
        TEST(too_long),
        TEST(debug_registers),
        TEST(rep_pushes_rf),
        TEST(gate_16bit),
        TEST(double_fault_by_task_gate),
        TEST(task_gate_to_bad_task),
        TEST(v86_to_ring0),
        TEST(v86_int_needs_iopl),
        TEST(v86_redirection),
        TEST(long_same_privilege),
        TEST(long_from_user),
        TEST(long_page_fault_on_ist),
        TEST(long_double_page_fault),
        TEST(long_remapped_code),
        TEST(long_fetch_fault_across),
        TEST(long_noncanonical_rip),
        TEST(step_delivers_faults),
        TEST(cache_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
