/*
 * The architecture's own numbers: register indices, flag and control bits, vectors, MSR addresses.
 * Names are the SDM's.
 */
#ifndef RINGER_CPU_ARCH_H
#define RINGER_CPU_ARCH_H

#include "base/types.h"

enum gpr {
    RAX,
    RCX,
    RDX,
    RBX,
    RSP,
    RBP,
    RSI,
    RDI,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
};

/* The order of the ModRM reg field of MOV Sreg. */
enum seg_reg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

/* RFLAGS (SDM vol. 1, 3.4.3). */
#define FLAG_CF     BIT(0)
#define FLAG_ONE    BIT(1)
#define FLAG_PF     BIT(2)
#define FLAG_AF     BIT(4)
#define FLAG_ZF     BIT(6)
#define FLAG_SF     BIT(7)
#define FLAG_TF     BIT(8)
#define FLAG_IF     BIT(9)
#define FLAG_DF     BIT(10)
#define FLAG_OF     BIT(11)
#define FLAG_IOPL   (BIT(12) | BIT(13))
#define FLAG_NT     BIT(14)
#define FLAG_RF     BIT(16)
#define FLAG_VM     BIT(17)
#define FLAG_AC     BIT(18)
#define FLAG_VIF    BIT(19)
#define FLAG_VIP    BIT(20)
#define FLAG_ID     BIT(21)
#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* CR0, CR4, EFER, XCR0 (SDM vol. 3, 2.5 and 2.6). */
#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)

#define CR4_VME        BIT(0)
#define CR4_PVI        BIT(1)
#define CR4_TSD        BIT(2)
#define CR4_DE         BIT(3)
#define CR4_PSE        BIT(4)
#define CR4_PAE        BIT(5)
#define CR4_MCE        BIT(6)
#define CR4_PGE        BIT(7)
#define CR4_PCE        BIT(8)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP       BIT(11)
#define CR4_LA57       BIT(12)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)

#define CR3_NOFLUSH BIT(63)
#define CR3_PCID    0xfffULL

#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

#define XCR0_X87 BIT(0)
#define XCR0_SSE BIT(1)
#define XCR0_AVX BIT(2)

/* Segment attributes as in struct segment. */
#define SEG_TYPE     0x000f
#define SEG_ACCESSED 0x0001
#define SEG_WRITABLE 0x0002 /* data */
#define SEG_READABLE 0x0002 /* code */
#define SEG_DOWN     0x0004 /* data: expand down */
#define SEG_CONFORM  0x0004 /* code: conforming */
#define SEG_CODE     0x0008
#define SEG_S        0x0010 /* code or data, not system */
#define SEG_DPL(a)   (((a) >> 5) & 3)
#define SEG_P        0x0080
#define SEG_AVL      0x1000
#define SEG_L        0x2000
#define SEG_DB       0x4000
#define SEG_G        0x8000
#define SEG_UNUSABLE 0x10000

/* System descriptor types (SDM vol. 3, table 3-2). */
enum sys_type {
    SYS_TSS16 = 1,
    SYS_LDT = 2,
    SYS_TSS16_BUSY = 3,
    SYS_CALL16 = 4,
    SYS_TASK_GATE = 5,
    SYS_INT16 = 6,
    SYS_TRAP16 = 7,
    SYS_TSS32 = 9,
    SYS_TSS32_BUSY = 11,
    SYS_CALL32 = 12,
    SYS_INT32 = 14,
    SYS_TRAP32 = 15,
};

/* Exception vectors (SDM vol. 3, table 6-1). */
enum vector {
    VEC_DE = 0,
    VEC_DB = 1,
    VEC_NMI = 2,
    VEC_BP = 3,
    VEC_OF = 4,
    VEC_BR = 5,
    VEC_UD = 6,
    VEC_NM = 7,
    VEC_DF = 8,
    VEC_TS = 10,
    VEC_NP = 11,
    VEC_SS = 12,
    VEC_GP = 13,
    VEC_PF = 14,
    VEC_MF = 16,
    VEC_AC = 17,
    VEC_MC = 18,
    VEC_XM = 19,
};

/* Page-fault error code (SDM vol. 3, 4.7). */
#define PF_P    BIT(0)
#define PF_W    BIT(1)
#define PF_U    BIT(2)
#define PF_RSVD BIT(3)
#define PF_I    BIT(4)

/* DR6 and DR7 (SDM vol. 3, 17.2). */
#define DR6_FIXED 0xffff0ff0ULL
#define DR6_BD    BIT(13)
#define DR6_BS    BIT(14)
#define DR6_BT    BIT(15)
#define DR7_FIXED 0x400ULL
#define DR7_GD    BIT(13)

/* MSR addresses (SDM vol. 4; 0xc00xxxxx: AMD APM vol. 2). */
#define MSR_TSC                 0x10
#define MSR_APIC_BASE           0x1b
#define MSR_FEATURE_CONTROL     0x3a
#define MSR_TSC_ADJUST          0x3b
#define MSR_SPEC_CTRL           0x48
#define MSR_PRED_CMD            0x49
#define MSR_BIOS_SIGN_ID        0x8b
#define MSR_MTRR_CAP            0xfe
#define MSR_SYSENTER_CS         0x174
#define MSR_SYSENTER_ESP        0x175
#define MSR_SYSENTER_EIP        0x176
#define MSR_MCG_CAP             0x179
#define MSR_MCG_STATUS          0x17a
#define MSR_MCG_CTL             0x17b
#define MSR_MISC_ENABLE         0x1a0
#define MSR_DEBUGCTL            0x1d9
#define MSR_MTRR_PHYSBASE0      0x200
#define MSR_MTRR_FIX64K         0x250
#define MSR_MTRR_FIX16K_0       0x258
#define MSR_MTRR_FIX16K_1       0x259
#define MSR_MTRR_FIX4K_0        0x268
#define MSR_PAT                 0x277
#define MSR_MTRR_DEF_TYPE       0x2ff
#define MSR_TSC_DEADLINE        0x6e0
#define MSR_X2APIC_FIRST        0x800
#define MSR_X2APIC_LAST         0x8ff
#define MSR_EFER                0xc0000080
#define MSR_STAR                0xc0000081
#define MSR_LSTAR               0xc0000082
#define MSR_CSTAR               0xc0000083
#define MSR_FMASK               0xc0000084
#define MSR_FS_BASE             0xc0000100
#define MSR_GS_BASE             0xc0000101
#define MSR_KERNEL_GS_BASE      0xc0000102
#define MSR_TSC_AUX             0xc0000103
#define MSR_KVM_WALL_CLOCK_NEW  0x4b564d00
#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01

#endif
