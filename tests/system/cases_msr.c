/*
 * Model-specific registers that have rules of their own, and the instructions that read them
 * (SDM vol. 4; vol. 3, 11.11 and 11.12).
 */
#include "run.h"

#define GROUP "msr"

struct row {
    const char *what;
    u32 msr;
    u64 value;
    bool ok;
};

static const struct row rows[] = {
    {"PAT", 0x277, 0x0007040600070406, true},
    {"PAT, type 2", 0x277, 0x0007040600070402, false},
    {"PAT, reserved bits", 0x277, 0x0007040600070416, false},
    {"MTRR default type", 0x2ff, 0xc06, true},
    {"MTRR default type 2", 0x2ff, 0xc02, false},
    {"MTRR fixed", 0x250, 0x0606060606060606, true},
    {"MTRR fixed, type 2", 0x250, 0x0606060606060602, false},
    {"SYSENTER_EIP not canonical", 0x176, 0x800000000000, false},
    {"LSTAR", 0xc0000082, 0xffff800012345678, true},
    {"LSTAR not canonical", 0xc0000082, 0x800000000000, false},
    {"GS base", 0xc0000101, 0x7fffffffffff, true},
    {"GS base not canonical", 0xc0000101, 0xffff000000000000, false},
    {"kernel GS base not canonical", 0xc0000102, 0x800000000000, false},
    {"EFER, bit 1", 0xc0000080, 0x502 | EFER_NXE, false},
    {"no such MSR", 0x4b564dff, 0, false},
};

TEST(write_rules)
{
    QEMU_DIFFERS("takes any value");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        context(rows[i].what, i);
        struct run r = long0(CODE64("mov esi, eax; mov edi, edx; rdmsr; mov r8d, eax; mov r9d, "
                                    "edx; mov eax, esi; mov edx, edi;"
                                    "wrmsr; rdmsr; xchg eax, r8d; xchg edx, r9d; wrmsr"));
        r.cx = rows[i].msr;
        r.ax = (u32)rows[i].value;
        r.dx = rows[i].value >> 32;
        go(&r);
        if (!rows[i].ok) {
            EXPECT(r.vec, EV_GP);
            EXPECT(r.err, 0);
            continue;
        }
        done(&r);
        EXPECT((u32)r.r8 | r.r9 << 32, rows[i].value);
    }
}

TEST(tsc)
{
    QEMU_DIFFERS("the TSC MSR is not the TSC");
    struct run r = ring0(CODE("mov eax, 1000; xor edx, edx; wrmsr; rdtsc"));
    r.cx = 0x10;
    go_done(&r);
    EXPECT(r.dx, 0); /* it counts on from there */
    EXPECT(r.ax >= 1000, true);
    r = ring0(CODE("rdtsc; mov esi, eax; mov edi, edx; rdmsr; sub eax, esi; sbb edx, edi"));
    r.cx = 0x10;
    go_done(&r);
    EXPECT(r.dx, 0);
}

TEST(tsc_aux)
{
    if (!has_cpuid(0x80000001, 3, 27)) {
        skip("CPUID offers no RDTSCP");
        return;
    }
    struct run r = ring0(CODE("wrmsr; rdtscp"));
    r.cx = 0xc0000103;
    r.ax = 0x77;
    go_done(&r);
    EXPECT(r.cx, 0x77);
    if (!has_cpuid(7, 2, 22))
        return;
    r = long3(CODE64("rdpid rax"));
    r.ax = ~0ull;
    go_done(&r);
    EXPECT(r.ax, 0x77);
}

TEST(apic_base)
{
    struct run r = ring0(CODE("rdmsr"));
    r.cx = 0x1b;
    go_done(&r);
    EXPECT((u32)r.ax, 0xfee00000 | 0x900); /* enabled, boot processor */
}

TEST(privilege)
{
    struct run r = long3(CODE64("rdmsr"));
    r.cx = 0xc0000080;
    go_fault(&r, EV_GP, 0);
    r = v86(CODE16("wrmsr"));
    r.cx = 0x10;
    go_fault(&r, EV_GP, 0);
    r = real(CODE16("rdmsr"));
    r.cx = 0x1b;
    go_real(&r);
    done(&r);
    EXPECT((u32)r.ax, 0xfee00000 | 0x900);
    r = real(CODE16("rdmsr"));
    r.cx = 0x12345;
    go_real(&r);
    if (!under_qemu)
        EXPECT(r.vec, EV_GP);
}
