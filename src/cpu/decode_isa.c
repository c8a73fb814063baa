/*
 * Zydis's instruction sets and the CPUID features that announce them. A set that is not in the
 * table (AVX-512, XOP, CET, MPX...) is never offered: its instructions are invalid, also where they
 * share a mnemonic with one that is offered.
 */
#include "cpu/decode_zydis.h"

/* Entries hold feature + 1, so that what isn't listed is 0. */
#define ALWAYS(isa)      [ZYDIS_ISA_SET_##isa] = FEAT_COUNT + 1
#define NEEDS(isa, feat) [ZYDIS_ISA_SET_##isa] = FEAT_##feat + 1

static const u8 isa_table[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
    ALWAYS(AMD),
    ALWAYS(AMD3DNOW), /* for PREFETCH and PREFETCHW; the others have no row */
    ALWAYS(CLFSH),
    ALWAYS(CMOV),
    ALWAYS(FAT_NOP),
    ALWAYS(I186),
    ALWAYS(I286PROTECTED),
    ALWAYS(I286REAL),
    ALWAYS(I386),
    ALWAYS(I486),
    ALWAYS(I486REAL),
    ALWAYS(I86),
    ALWAYS(LONGMODE),
    ALWAYS(MONITOR),
    ALWAYS(PAUSE),
    ALWAYS(PENTIUMREAL),
    ALWAYS(PPRO),
    ALWAYS(PREFETCH_NOP),
    ALWAYS(PREFETCHWT1),
    ALWAYS(RDPMC),
    ALWAYS(SSE_PREFETCH),
    ALWAYS(SVM),
    ALWAYS(VTX),
    NEEDS(ADOX_ADCX, ADX),
    NEEDS(AES, AES),
    NEEDS(AVX, AVX),
    NEEDS(AVX2, AVX2),
    NEEDS(AVX2GATHER, AVX2),
    NEEDS(AVXAES, AES),
    NEEDS(AVX_GFNI, GFNI),
    NEEDS(BMI1, BMI1),
    NEEDS(BMI2, BMI2),
    NEEDS(CLFLUSHOPT, CLFLUSHOPT),
    NEEDS(CLWB, CLWB),
    NEEDS(CMPXCHG16B, CX16),
    NEEDS(F16C, F16C),
    NEEDS(FCMOV, X87),
    NEEDS(FMA, FMA),
    NEEDS(FXSAVE, FXSR),
    NEEDS(FXSAVE64, FXSR),
    NEEDS(GFNI, GFNI),
    NEEDS(INVPCID, INVPCID),
    NEEDS(LAHF, LAHF64),
    NEEDS(LZCNT, LZCNT),
    NEEDS(MOVBE, MOVBE),
    NEEDS(PCLMULQDQ, PCLMUL),
    NEEDS(PENTIUMMMX, MMX),
    NEEDS(POPCNT, POPCNT),
    NEEDS(RDPID, RDPID),
    NEEDS(RDRAND, RDRAND),
    NEEDS(RDSEED, RDSEED),
    NEEDS(RDTSCP, RDTSCP),
    NEEDS(RDWRFSGS, FSGSBASE),
    NEEDS(SHA, SHA),
    NEEDS(SMAP, SMAP),
    NEEDS(SSE, SSE),
    NEEDS(SSE2, SSE2),
    NEEDS(SSE2MMX, SSE2),
    NEEDS(SSE3, SSE3),
    NEEDS(SSE3X87, SSE3),
    NEEDS(SSE4, SSE41),
    NEEDS(SSE42, SSE42),
    NEEDS(SSEMXCSR, SSE),
    NEEDS(SSSE3, SSSE3),
    NEEDS(SSSE3MMX, SSSE3),
    NEEDS(VAES, VAES),
    NEEDS(VPCLMULQDQ, VPCLMULQDQ),
    NEEDS(X87, X87),
    NEEDS(XSAVE, XSAVE),
    NEEDS(XSAVEC, XSAVEC),
    NEEDS(XSAVEOPT, XSAVEOPT),
};

bool isa_feature(ZydisISASet isa, enum cpu_mode mode, enum cpu_feature *feature)
{
    unsigned entry = isa_table[isa];
    if (!entry)
        return false;
    *feature = (enum cpu_feature)(entry - 1);
    if (*feature == FEAT_LAHF64 && mode != MODE_LONG64) /* always there in other modes */
        *feature = FEAT_COUNT;
    return true;
}
