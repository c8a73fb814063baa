/*
 * Flags, control and debug registers, MSRs, CPUID, system calls and ports.
 */
#include "system_rig.h"

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

/* The time that a guest reads from its page lies between two readings of guest time. */
static void assert_kvmclock_right(struct test_machine *tm)
{
    u64 before = timebase_ns(&tm->time);
    u64 delta = sem_tsc(tm->v) - get(tm, 0xc008, 8);
    u64 ns =
        get(tm, 0xc010, 8) + (u64)((u128)(delta << get(tm, 0xc01c, 1)) * get(tm, 0xc018, 4) >> 32);
    assert_true(ns >= before && ns <= timebase_ns(&tm->time));
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
    assert_kvmclock_right(tm);
    timebase_slow_down(&tm->time, 5);
    assert_true(sem_write_msr(v, MSR_TSC, 54321));
    assert_kvmclock_right(tm);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
