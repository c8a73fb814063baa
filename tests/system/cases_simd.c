/*
 * Floating-point and vector instructions as the system sees them: alignment, page faults, segment
 * limits, unmasked exceptions, and what the control registers switch off.
 */
#include "run.h"

#define GROUP          "simd"
#define CR4_OSXMMEXCPT 0x400
#define EV_XM          19

static struct run simd(struct run r)
{
    r.cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT;
    r.bx = (u32)frames;
    return r;
}

TEST(alignment)
{
    struct code codes[] = {
        CODE("movaps xmm0, [ebx]"), CODE("movdqa [ebx], xmm0"), CODE("addps xmm0, [ebx]"),
        CODE("fxsave [ebx]"),       CODE("fxrstor [ebx]"),      CODE("movntps [ebx], xmm0"),
    };
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        context("instruction", i);
        struct run r = simd(ring3(codes[i]));
        r.bx += 8;
        if (under_qemu && i != 3 && i != 4)
            continue; /* it checks FXSAVE and FXRSTOR only */
        go_fault(&r, EV_GP, 0);
    }
    struct run r = simd(ring3(CODE("movups xmm0, [ebx]; movups [ebx], xmm0; movq xmm1, [ebx]")));
    r.bx += 1;
    go_done(&r);
}

TEST(page_faults)
{
    struct code codes[] = {
        CODE("movups xmm0, [ebx]"),    CODE("movups [ebx], xmm0"), CODE("fld tbyte ptr [ebx]"),
        CODE("fistp qword ptr [ebx]"), CODE("movq mm0, [ebx]"),    CODE("movdqu [ebx], xmm1"),
        CODE("fnstenv [ebx]"),         CODE("fldenv [ebx]"),
    };
    static const u8 writes[] = {0, 1, 0, 1, 0, 1, 1, 0};
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        context("instruction", i);
        struct run init = simd(ring0(CODE("fninit; fld1")));
        go_done(&init);
        struct run r = simd(ring3(codes[i]));
        paged(&r, PAGING_32, true);
        map(PAGING_32, 0, 0, P_ALL);
        memset(frames[0] + 0xff0, 0x5a, 16);
        r.bx = WINDOW + 0xffc;
        go_fault(&r, EV_PF, writes[i] ? 6 : 4);
        EXPECT(r.cr2, WINDOW + 0x1000);
        if (i != 6)
            EXPECT(*(u32 *)(frames[0] + 0xffc), 0x5a5a5a5a);
    }
}

TEST(segment_limits)
{
    QEMU_DIFFERS("no segment limits");
    u32 sel = slot(0, segment((u32)frames, 0xf, A_DATA, FL_DB));
    struct run r = simd(ring0(CODE("movups xmm0, es:[ebx]")));
    r.es = sel;
    r.bx = 0;
    go_done(&r);
    r = simd(ring0(CODE("movups xmm0, es:[ebx]")));
    r.es = sel;
    r.bx = 1;
    go_fault(&r, EV_GP, 0);
    r = simd(ring0(CODE("fld qword ptr es:[ebx]")));
    r.es = sel;
    r.bx = 9;
    go_fault(&r, EV_GP, 0);
    r = simd(v86(CODE16("movups xmm0, [bx]")));
    r.bx = 0xfff8;
    go_fault(&r, EV_GP, 0);
    r = simd(v86(CODE16("fild qword ptr [bp]")));
    r.bp = 0xfffc;
    go_fault(&r, EV_SS, 0);
}

TEST(switches)
{
    struct run r = ring0(CODE("ldmxcsr [ebx]"));
    r.bx = (u32)frames;
    go_fault(&r, EV_UD, NO_ERR); /* CR4.OSFXSR clear */
    r = simd(ring0(CODE("paddb mm0, mm1; paddb xmm0, xmm1")));
    r.cr0 |= CR0_EM;
    go_fault(&r, EV_UD, NO_ERR);
    r = simd(ring0(CODE("vaddps xmm0, xmm1, xmm2")));
    go_fault(&r, EV_UD, NO_ERR); /* CR4.OSXSAVE clear */
    if (!has_cpuid(1, 2, 28))
        return;
    struct run set = ring0(CODE("xsetbv"));
    set.cr4 |= CR4_OSXSAVE;
    set.ax = 3;
    go_done(&set);
    r = simd(ring0(CODE("vaddps xmm0, xmm1, xmm2")));
    r.cr4 |= CR4_OSXSAVE;
    go_fault(&r, EV_UD, NO_ERR); /* XCR0 without YMM */
    set = ring0(CODE("xsetbv"));
    set.cr4 |= CR4_OSXSAVE;
    set.ax = 7;
    go_done(&set);
    r = simd(ring0(CODE("vaddps ymm0, ymm1, ymm2")));
    r.cr4 |= CR4_OSXSAVE;
    go_done(&r);
    r.ip = r.start;
    r.cr0 |= CR0_TS;
    go_fault(&r, EV_NM, NO_ERR);
    r = simd(v86(CODE16(".byte 0xc5, 0xfc, 0x58, 0xc1"))); /* VADDPS; LDS in V86 */
    r.cr4 |= CR4_OSXSAVE;
    go_fault(&r, EV_UD, NO_ERR);
}

TEST(unmasked)
{
    QEMU_DIFFERS("no SIMD floating-point exceptions");
    *(u32 *)frames[0] = 0x1d80; /* divide by zero unmasked */
    struct run r = simd(ring3(CODE("ldmxcsr [ebx]; xorps xmm1, xmm1; divps xmm0, xmm1")));
    struct run one = simd(ring3(CODE("movd xmm0, eax; pshufd xmm0, xmm0, 0")));
    one.ax = 0x3f800000;
    go_done(&one);
    go(&r);
    fault_at(&r, EV_XM, NO_ERR, 6);
    r = simd(ring3(CODE("ldmxcsr [ebx]; xorps xmm1, xmm1; divps xmm0, xmm1")));
    r.cr4 &= ~CR4_OSXMMEXCPT;
    go(&r);
    fault_at(&r, EV_UD, NO_ERR, 6);
    r = simd(ring3(CODE("ldmxcsr [ebx]")));
    *(u32 *)frames[0] = 0xffff1f80;
    go_fault(&r, EV_GP, 0);
    *(u32 *)frames[0] = 0x1f80;
    r = simd(ring3(CODE("ldmxcsr [ebx]")));
    go_done(&r);
}

TEST(real_mode)
{
    struct run r =
        real(CODE16("mov eax, cr4; or ax, 0x600; mov cr4, eax; movups xmm0, [si]; paddb xmm0, xmm0;"
                    "movups [di], xmm0; fild word ptr [si]; fistp dword ptr [di+16]; mov eax, [di];"
                    "mov ebx, [di+16]; xor ecx, ecx; mov cr4, ecx"));
    u32 *p = (u32 *)0x9000;
    p[0] = 0x01020304;
    r.si = 0;
    r.di = 0x40;
    go_real(&r);
    done(&r);
    EXPECT((u32)r.ax, 0x02040608);
    EXPECT((u32)r.bx, 0x0304);
}
