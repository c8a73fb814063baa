/*
 * The decoder, by tables: bytes in a mode, and what must come out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "cpu/insn.h"
#include "cpu/model.h"

#define BYTES(...) {__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__})

/* --- operation, length, sizes --- */

struct basic_case {
    enum cpu_mode mode;
    u8 bytes[16];
    u8 n;
    enum op op;
    u8 len, opsize, addrsize, prefix;
};

static const struct basic_case basic_cases[] = {
    {MODE_LONG64, BYTES(0x01, 0xc8), OP_ADD, 2, 4, 8, 0},
    {MODE_LONG64, BYTES(0x00, 0xc8), OP_ADD, 2, 1, 8, 0},
    {MODE_LONG64, BYTES(0x66, 0x01, 0xc8), OP_ADD, 3, 2, 8, 0},
    {MODE_LONG64, BYTES(0x48, 0x01, 0xc8), OP_ADD, 3, 8, 8, 0},
    {MODE_LONG64, BYTES(0x67, 0x01, 0x08), OP_ADD, 3, 4, 4, 0},
    {MODE_LONG64, BYTES(0xf0, 0x01, 0x08), OP_ADD, 3, 4, 8, PFX_LOCK},
    {MODE_LONG64, BYTES(0x01, 0xc8, 0xcc), OP_ADD, 2, 4, 8, 0}, /* bytes behind it don't matter */
    {MODE_REAL, BYTES(0x01, 0xc8), OP_ADD, 2, 2, 2, 0},
    {MODE_V86, BYTES(0x66, 0x01, 0xc8), OP_ADD, 3, 4, 2, 0},
    {MODE_PROT16, BYTES(0x67, 0x01, 0x08), OP_ADD, 3, 2, 4, 0},
    {MODE_PROT32, BYTES(0x66, 0x67, 0x01, 0x08), OP_ADD, 4, 2, 2, 0},
    {MODE_COMPAT16, BYTES(0x01, 0xc8), OP_ADD, 2, 2, 2, 0},
    {MODE_COMPAT32, BYTES(0x48), OP_DEC, 1, 4, 4, 0},
    /* what has no 16-bit form */
    {MODE_REAL, BYTES(0x0f, 0xc3, 0x07), OP_MOVNTI, 3, 4, 2, 0},
    {MODE_PROT16, BYTES(0xc4, 0xe2, 0x60, 0xf5, 0xc8), OP_BZHI, 5, 4, 2, 0},
    {MODE_PROT16, BYTES(0x66, 0x0f, 0x38, 0xf6, 0xc8), OP_ADCX, 5, 4, 2, 0},
    {MODE_PROT16, BYTES(0xf3, 0x0f, 0x38, 0xf6, 0xc8), OP_ADOX, 5, 4, 2, 0},
    /* sizes of stack and branch instructions */
    {MODE_LONG64, BYTES(0x50), OP_PUSH, 1, 8, 8, 0},
    {MODE_LONG64, BYTES(0x66, 0x50), OP_PUSH, 2, 2, 8, 0},
    {MODE_LONG64, BYTES(0x6a, 0xfe), OP_PUSH, 2, 8, 8, 0},
    {MODE_PROT32, BYTES(0x60), OP_PUSHAD, 1, 4, 4, 0},
    {MODE_REAL, BYTES(0x60), OP_PUSHA, 1, 2, 2, 0},
    {MODE_LONG64, BYTES(0xc8, 0x10, 0x00, 0x02), OP_ENTER, 4, 8, 8, 0},
    {MODE_LONG64, BYTES(0xc9), OP_LEAVE, 1, 8, 8, 0},
    {MODE_LONG64, BYTES(0xc3), OP_RET, 1, 8, 8, 0},
    {MODE_LONG64, BYTES(0xcb), OP_RET_FAR, 1, 4, 8, 0},
    {MODE_LONG64, BYTES(0xe8, 0, 0, 0, 0), OP_CALL, 5, 8, 8, 0},
    {MODE_LONG64, BYTES(0xff, 0xe0), OP_JMP_IND, 2, 8, 8, 0},
    {MODE_LONG64, BYTES(0xff, 0x10), OP_CALL_IND, 2, 8, 8, 0},
    {MODE_LONG64, BYTES(0x48, 0xff, 0x28), OP_JMP_FAR, 3, 8, 8, 0},
    {MODE_PROT32, BYTES(0x9a, 1, 2, 3, 4, 5, 6), OP_CALL_FAR, 7, 4, 4, 0},
    {MODE_REAL, BYTES(0xe9, 0, 0), OP_JMP, 3, 2, 2, 0},
    {MODE_PROT32, BYTES(0x66, 0xeb, 0xfe), OP_JMP, 3, 2, 4, 0},
    {MODE_LONG64, BYTES(0x67, 0xe3, 0xfe), OP_JECXZ, 3, 8, 4, 0},
    {MODE_REAL, BYTES(0xe3, 0xfe), OP_JCXZ, 2, 2, 2, 0},
    {MODE_LONG64, BYTES(0x48, 0xcf), OP_IRETQ, 2, 8, 8, 0},
    /* strings: opsize is the element's; SSE2 instructions of the same name */
    {MODE_LONG64, BYTES(0xa4), OP_MOVS, 1, 1, 8, 0},
    {MODE_LONG64, BYTES(0xf3, 0xa5), OP_MOVS, 2, 4, 8, PFX_REP},
    {MODE_LONG64, BYTES(0xf2, 0x48, 0xa5), OP_MOVS, 3, 8, 8, PFX_REP},
    {MODE_LONG64, BYTES(0xf2, 0xa7), OP_CMPS, 2, 4, 8, PFX_REPNE},
    {MODE_LONG64, BYTES(0xf2, 0xf3, 0xae), OP_SCAS, 3, 1, 8, PFX_REP}, /* the last one counts */
    {MODE_REAL, BYTES(0xf3, 0xab), OP_STOS, 2, 2, 2, PFX_REP},
    {MODE_LONG64, BYTES(0xf2, 0x0f, 0x10, 0xc1), OP_MOVSD, 4, 4, 8, 0},
    {MODE_LONG64, BYTES(0xf2, 0x0f, 0xc2, 0xc1, 0), OP_CMPSD, 5, 4, 8, 0},
    {MODE_LONG64, BYTES(0xf3, 0x01, 0xc8), OP_ADD, 3, 4, 8, 0}, /* REP means nothing here */
    /* special registers */
    {MODE_LONG64, BYTES(0x8e, 0xd8), OP_MOV_SEG, 2, 4, 8, 0},
    {MODE_LONG64, BYTES(0x0f, 0x20, 0xc0), OP_MOV_CR, 3, 8, 8, 0},
    {MODE_PROT32, BYTES(0x0f, 0x23, 0xf8), OP_MOV_DR, 3, 4, 4, 0},
    {MODE_LONG64, BYTES(0x0f, 0xa0), OP_PUSH_SEG, 2, 8, 8, 0},
    {MODE_PROT32, BYTES(0x1f), OP_POP_SEG, 1, 4, 4, 0},
    /* hints and wide NOPs, also where newer CPUs have other instructions */
    {MODE_LONG64, BYTES(0x90), OP_NOP, 1, 4, 8, 0},
    {MODE_LONG64, BYTES(0xf3, 0x90), OP_PAUSE, 2, 4, 8, 0},
    {MODE_LONG64, BYTES(0x41, 0x90), OP_XCHG, 2, 4, 8, 0},
    {MODE_LONG64, BYTES(0x0f, 0x1f, 0x44, 0x00, 0x00), OP_NOP, 5, 4, 8, 0},
    {MODE_LONG64, BYTES(0xf3, 0x0f, 0x1e, 0xfa), OP_NOP, 4, 4, 8, 0},       /* ENDBR64 */
    {MODE_LONG64, BYTES(0xf3, 0x48, 0x0f, 0x1e, 0xc8), OP_NOP, 5, 8, 8, 0}, /* RDSSPQ */
    {MODE_LONG64, BYTES(0x0f, 0x1a, 0x00), OP_NOP, 3, 4, 8, 0},             /* MPX */
    {MODE_LONG64, BYTES(0x0f, 0x1c, 0x00), OP_NOP, 3, 4, 8, 0},             /* CLDEMOTE */
    {MODE_LONG64, BYTES(0x0f, 0x18, 0x08), OP_PREFETCHT0, 3, 4, 8, 0},
    {MODE_LONG64, BYTES(0x0f, 0x0d, 0x08), OP_PREFETCHW, 3, 4, 8, 0},
    {MODE_LONG64, BYTES(0xf3, 0x0f, 0xbc, 0xc1), OP_TZCNT, 4, 4, 8, 0},
    {MODE_LONG64, BYTES(0xf3, 0x0f, 0xbd, 0xc1), OP_LZCNT, 4, 4, 8, 0},
    {MODE_LONG64, BYTES(0xf2, 0x0f, 0x38, 0xf0, 0xc1), OP_CRC32, 5, 4, 8, 0},
    {MODE_LONG64, BYTES(0xc4, 0xe2, 0xf0, 0xf2, 0xc1), OP_ANDN, 5, 8, 8, 0},
    {MODE_LONG64, BYTES(0x48, 0x0f, 0xc7, 0x08), OP_CMPXCHG16B, 4, 8, 8, 0},
};

static void decode_ok(enum cpu_mode mode, const u8 *bytes, unsigned n, struct insn *i)
{
    enum decode_status status = insn_decode(bytes, n, mode, i);
    if (status != DECODE_OK)
        fail_msg("mode %d, %02x %02x %02x...: status %d", mode, bytes[0], bytes[1], bytes[2],
                 status);
}

static void test_basic(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(basic_cases); k++) {
        const struct basic_case *c = &basic_cases[k];
        struct insn i;
        decode_ok(c->mode, c->bytes, c->n, &i);
        if (i.op != c->op || i.len != c->len || i.opsize != c->opsize ||
            i.addrsize != c->addrsize || i.prefix != c->prefix)
            fail_msg("case %zu: %s len %u opsize %u addrsize %u prefix %u", k, op_info[i.op].name,
                     i.len, i.opsize, i.addrsize, i.prefix);
        assert_memory_equal(i.raw, c->bytes, i.len);
        assert_int_equal(i.cls, op_info[i.op].cls);
    }
}

/* --- what does not decode --- */

struct status_case {
    enum cpu_mode mode;
    u8 bytes[16];
    u8 n;
    enum decode_status status;
};

static const struct status_case status_cases[] = {
    {MODE_LONG64, BYTES(0x06), DECODE_INVALID},             /* PUSH ES */
    {MODE_LONG64, BYTES(0x27), DECODE_INVALID},             /* DAA */
    {MODE_LONG64, BYTES(0x62, 0x00), DECODE_SHORT},         /* EVEX prefix, not BOUND */
    {MODE_LONG64, BYTES(0xf0, 0x01, 0xc8), DECODE_INVALID}, /* LOCK needs memory */
    {MODE_LONG64, BYTES(0xf0, 0x8b, 0x00), DECODE_INVALID}, /* LOCK MOV */
    {MODE_LONG64, BYTES(0x0f, 0x04), DECODE_INVALID},
    {MODE_LONG64, BYTES(0x8d, 0xc0), DECODE_INVALID},       /* LEA r, r */
    {MODE_LONG64, BYTES(0x8e, 0xc8), DECODE_INVALID},       /* MOV CS, r */
    {MODE_LONG64, BYTES(0x0f, 0x20, 0xc8), DECODE_INVALID}, /* MOV r, CR1 */
    {MODE_LONG64, BYTES(0xc7, 0xc8, 0, 0, 0, 0), DECODE_INVALID},
    {MODE_LONG64, BYTES(0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1), DECODE_INVALID}, /* AVX-512 VADDPS */
    {MODE_LONG64, BYTES(0x8f, 0xe9, 0x78, 0x01, 0xc8), DECODE_INVALID},       /* TBM */
    {MODE_REAL, BYTES(0x0f, 0x00, 0xc0), DECODE_INVALID},                     /* SLDT */
    {MODE_V86, BYTES(0x63, 0xc0), DECODE_INVALID},                            /* ARPL */
    {MODE_REAL, BYTES(0xc4, 0xe2, 0x70, 0xf2, 0xc1), DECODE_INVALID},         /* VEX */
    {MODE_LONG64, BYTES(0xe8, 0, 0), DECODE_SHORT},
    {MODE_LONG64, BYTES(0x48), DECODE_SHORT},
    {MODE_LONG64,
     BYTES(0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
           0x90),
     DECODE_OK},
    {MODE_LONG64,
     BYTES(0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
           0x66),
     DECODE_TOO_LONG},
    {MODE_LONG64,
     BYTES(0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66),
     DECODE_SHORT},
};

static void test_status(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(status_cases); k++) {
        const struct status_case *c = &status_cases[k];
        struct insn i;
        enum decode_status status = insn_decode(c->bytes, c->n, c->mode, &i);
        if (status != c->status)
            fail_msg("case %zu: status %d, not %d", k, status, c->status);
    }
    struct insn i;
    assert_int_equal(insn_decode(NULL, 0, MODE_LONG64, &i), DECODE_SHORT);
}

/* Every proper prefix of an instruction needs more bytes. */
static void test_truncation(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(basic_cases); k++) {
        const struct basic_case *c = &basic_cases[k];
        struct insn i;
        for (unsigned n = 0; n < c->len; n++)
            assert_int_equal(insn_decode(c->bytes, n, c->mode, &i), DECODE_SHORT);
    }
}

/* --- operands --- */

struct operand_case {
    enum cpu_mode mode;
    u8 bytes[16];
    u8 n;
    u8 nopd;
    struct operand opd[3];
};

#define R  OPD_READ
#define W  OPD_WRITE
#define RW (OPD_READ | OPD_WRITE)

/* Where an operand is encoded is not compared: most rows leave `enc` out. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
static const struct operand_case operand_cases[] = {
    {MODE_LONG64, BYTES(0x00, 0xe0), 2, {{OPD_GPR, RAX, RW, 1}, {OPD_GPR8H, RAX, R, 1}}},
    {MODE_LONG64, BYTES(0x40, 0x00, 0xe0), 2, {{OPD_GPR, RAX, RW, 1}, {OPD_GPR, RSP, R, 1}}},
    {MODE_LONG64, BYTES(0x88, 0xf9), 2, {{OPD_GPR, RCX, W, 1}, {OPD_GPR8H, RBX, R, 1}}},
    {MODE_LONG64, BYTES(0x41, 0x88, 0xf9), 2, {{OPD_GPR, R9, W, 1}, {OPD_GPR, RDI, R, 1}}},
    {MODE_LONG64, BYTES(0x45, 0x01, 0xf8), 2, {{OPD_GPR, R8, RW, 4}, {OPD_GPR, R15, R, 4}}},
    {MODE_REAL, BYTES(0x01, 0xe5), 2, {{OPD_GPR, RBP, RW, 2}, {OPD_GPR, RSP, R, 2}}},
    {MODE_LONG64, BYTES(0x39, 0x08), 2, {{OPD_MEM, 0, R, 4}, {OPD_GPR, RCX, R, 4}}},
    {MODE_LONG64, BYTES(0x8d, 0x08), 2, {{OPD_GPR, RCX, W, 4}, {OPD_MEM, 0, 0, 0}}},
    {MODE_LONG64, BYTES(0x0f, 0xb6, 0x08), 2, {{OPD_GPR, RCX, W, 4}, {OPD_MEM, 0, R, 1}}},
    {MODE_LONG64, BYTES(0x48, 0x63, 0xc1), 2, {{OPD_GPR, RAX, W, 8}, {OPD_GPR, RCX, R, 4}}},
    {MODE_LONG64, BYTES(0xd3, 0xe0), 2, {{OPD_GPR, RAX, RW, 4}, {OPD_GPR, RCX, R, 1}}},
    {MODE_LONG64, BYTES(0xd1, 0xe0), 2, {{OPD_GPR, RAX, RW, 4}, {OPD_IMM, 0, R, 1}}},
    {MODE_LONG64, BYTES(0xeb, 0xfe), 1, {{OPD_REL, 0, R, 1}}},
    {MODE_LONG64, BYTES(0xc8, 0x10, 0x00, 0x02), 2, {{OPD_IMM, 0, R, 2}, {OPD_IMM2, 0, R, 1}}},
    {MODE_PROT32, BYTES(0xea, 1, 2, 3, 4, 5, 6), 2, {{OPD_IMM, 0, R, 4}, {OPD_IMM2, 0, R, 2}}},
    {MODE_LONG64, BYTES(0xff, 0x28), 1, {{OPD_MEM, 0, R, 6}}},
    {MODE_LONG64, BYTES(0x8e, 0xe0), 2, {{OPD_SEG, SEG_FS, W, 2}, {OPD_GPR, RAX, R, 2}}},
    {MODE_LONG64, BYTES(0x44, 0x0f, 0x22, 0xc0), 2, {{OPD_CR, 8, W, 8}, {OPD_GPR, RAX, R, 8}}},
    {MODE_LONG64, BYTES(0x0f, 0x23, 0xf8), 2, {{OPD_DR, 7, W, 8}, {OPD_GPR, RAX, R, 8}}},
    {MODE_LONG64, BYTES(0xd8, 0xc1), 2, {{OPD_ST, 0, RW, 10}, {OPD_ST, 1, R, 10}}},
    {MODE_LONG64, BYTES(0x0f, 0x6f, 0xca), 2, {{OPD_MMX, 1, W, 8}, {OPD_MMX, 2, R, 8}}},
    {MODE_LONG64, BYTES(0x44, 0x0f, 0x28, 0xca), 2, {{OPD_XMM, 9, W, 16}, {OPD_XMM, 2, R, 16}}},
    {MODE_LONG64,
     BYTES(0xc5, 0xec, 0x58, 0xc8),
     3,
     {{OPD_YMM, 1, W, 32}, {OPD_YMM, 2, R, 32}, {OPD_YMM, 0, R, 32}}},
    {MODE_LONG64,
     BYTES(0x6b, 0xc1, 0xff),
     3,
     {{OPD_GPR, RAX, W, 4}, {OPD_GPR, RCX, R, 4}, {OPD_IMM, 0, R, 1}}},
    {MODE_LONG64, BYTES(0xf6, 0xe1), 1, {{OPD_GPR, RCX, R, 1}}},
    {MODE_LONG64, BYTES(0xa4), 0, {{0}}},
};

static void test_operands(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(operand_cases); k++) {
        const struct operand_case *c = &operand_cases[k];
        struct insn i;
        decode_ok(c->mode, c->bytes, c->n, &i);
        if (i.nopd != c->nopd)
            fail_msg("case %zu: %u operands", k, i.nopd);
        for (unsigned n = 0; n < c->nopd; n++) {
            const struct operand *got = &i.opd[n], *want = &c->opd[n];
            if (got->kind != want->kind || got->reg != want->reg || got->access != want->access ||
                got->size != want->size)
                fail_msg("case %zu, operand %u: kind %u reg %u access %u size %u", k, n, got->kind,
                         got->reg, got->access, got->size);
        }
    }
}

/* --- addresses and immediates --- */

struct address_case {
    enum cpu_mode mode;
    u8 bytes[16];
    u8 n;
    u8 seg, base, index, scale;
    i64 disp;
};

static const struct address_case address_cases[] = {
    {MODE_LONG64, BYTES(0x8b, 0x44, 0x8b, 0xf0), SEG_DS, RBX, RCX, 2, -16},
    {MODE_LONG64, BYTES(0x8b, 0x04, 0x24), SEG_SS, RSP, REG_NONE, 0, 0},
    {MODE_LONG64, BYTES(0x8b, 0x45, 0x00), SEG_SS, RBP, REG_NONE, 0, 0},
    {MODE_LONG64, BYTES(0x43, 0x8b, 0x04, 0xec), SEG_DS, R12, R13, 3, 0},
    {MODE_LONG64, BYTES(0x8b, 0x05, 1, 0, 0, 0), SEG_DS, REG_RIP, REG_NONE, 0, 1},
    {MODE_LONG64, BYTES(0x67, 0x8b, 0x05, 1, 0, 0, 0), SEG_DS, REG_RIP, REG_NONE, 0, 1},
    {MODE_LONG64, BYTES(0x64, 0x8b, 0x00), SEG_FS, RAX, REG_NONE, 0, 0},
    {MODE_LONG64, BYTES(0x2e, 0x8b, 0x00), SEG_DS, RAX, REG_NONE, 0, 0}, /* ignored */
    {MODE_PROT32, BYTES(0x2e, 0x8b, 0x00), SEG_CS, RAX, REG_NONE, 0, 0},
    {MODE_PROT32, BYTES(0x8b, 0x05, 0xff, 0xff, 0xff, 0xff), SEG_DS, REG_NONE, REG_NONE, 0, -1},
    {MODE_REAL, BYTES(0x8b, 0x40, 0xff), SEG_DS, RBX, RSI, 0, -1},
    {MODE_REAL, BYTES(0x8b, 0x46, 0x02), SEG_SS, RBP, REG_NONE, 0, 2},
    {MODE_REAL, BYTES(0x36, 0x8b, 0x07), SEG_SS, RBX, REG_NONE, 0, 0},
    {MODE_LONG64, BYTES(0x48, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8), SEG_DS, REG_NONE, REG_NONE, 0,
     0x0807060504030201},
    /* implicit operands: the source's segment */
    {MODE_REAL, BYTES(0x2e, 0xa4), SEG_CS, REG_NONE, REG_NONE, 0, 0},
    {MODE_LONG64, BYTES(0x65, 0xa4), SEG_GS, REG_NONE, REG_NONE, 0, 0},
    {MODE_PROT32, BYTES(0x26, 0xd7), SEG_ES, REG_NONE, REG_NONE, 0, 0},
    {MODE_PROT32, BYTES(0xd7), SEG_DS, REG_NONE, REG_NONE, 0, 0},
};

static void test_addresses(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(address_cases); k++) {
        const struct address_case *c = &address_cases[k];
        struct insn i;
        decode_ok(c->mode, c->bytes, c->n, &i);
        if (i.seg != c->seg || i.base != c->base || i.index != c->index || i.scale != c->scale ||
            i.disp != c->disp)
            fail_msg("case %zu: seg %u base %u index %u scale %u disp %lld", k, i.seg, i.base,
                     i.index, i.scale, (long long)i.disp);
    }
}

struct immediate_case {
    enum cpu_mode mode;
    u8 bytes[16];
    u8 n;
    u64 imm;
    u16 imm2;
};

static const struct immediate_case immediate_cases[] = {
    {MODE_LONG64, BYTES(0x48, 0x83, 0xc0, 0xff), ~0ULL, 0},
    {MODE_LONG64, BYTES(0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff), ~0ULL, 0},
    {MODE_LONG64, BYTES(0x48, 0xb8, 8, 7, 6, 5, 4, 3, 2, 1), 0x0102030405060708, 0},
    {MODE_LONG64, BYTES(0xe8, 0xfb, 0xff, 0xff, 0xff), (u64)-5, 0},
    {MODE_LONG64, BYTES(0x6a, 0x80), (u64)-128, 0},
    {MODE_LONG64, BYTES(0xc2, 0x08, 0x80), 0x8008, 0},
    {MODE_LONG64, BYTES(0xc8, 0x10, 0x80, 0x02), 0x8010, 2},
    {MODE_PROT32, BYTES(0xea, 1, 2, 3, 4, 5, 6), 0x04030201, 0x0605},
    {MODE_REAL, BYTES(0x9a, 1, 2, 3, 4), 0x0201, 0x0403},
};

static void test_immediates(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(immediate_cases); k++) {
        const struct immediate_case *c = &immediate_cases[k];
        struct insn i;
        decode_ok(c->mode, c->bytes, c->n, &i);
        if (i.imm != c->imm || i.imm2 != c->imm2)
            fail_msg("case %zu: imm %llx imm2 %x", k, (unsigned long long)i.imm, i.imm2);
    }
}

/* --- AMD's near branches, features, flags, text --- */

static void test_branch_size_of_host(void **state)
{
    static const u8 ret[] = {0x66, 0xc3}, jmp[] = {0x66, 0xff, 0xe0}, jcc[] = {0x66, 0x74, 0x00};
    static const u8 rex[] = {0x66, 0x48, 0xc3}, rel32[] = {0x66, 0xe9, 0, 0, 0, 0};
    unsigned size = __builtin_cpu_is("amd") ? 2 : 8;
    struct insn i;
    (void)state;
    decode_ok(MODE_LONG64, ret, sizeof(ret), &i);
    assert_int_equal(i.opsize, size);
    decode_ok(MODE_LONG64, jmp, sizeof(jmp), &i);
    assert_int_equal(i.opsize, size);
    assert_int_equal(i.opd[0].size, size);
    decode_ok(MODE_LONG64, jcc, sizeof(jcc), &i);
    assert_int_equal(i.opsize, size);
    decode_ok(MODE_LONG64, rex, sizeof(rex), &i);
    assert_int_equal(i.opsize, 8);
    decode_ok(MODE_LONG64, rel32, sizeof(rel32), &i);
    assert_int_equal(i.len, size == 2 ? 4 : 6);
}

static void test_features(void **state)
{
    static const u8 popcnt[] = {0xf3, 0x0f, 0xb8, 0xc1}, add[] = {0x01, 0xc8}, lahf[] = {0x9f};
    struct insn i;
    (void)state;
    decode_ok(MODE_LONG64, popcnt, sizeof(popcnt), &i);
    assert_int_equal(i.feature, FEAT_POPCNT);
    decode_ok(MODE_LONG64, add, sizeof(add), &i);
    assert_int_equal(i.feature, FEAT_COUNT);
    decode_ok(MODE_LONG64, lahf, sizeof(lahf), &i);
    assert_int_equal(i.feature, FEAT_LAHF64);
    decode_ok(MODE_PROT32, lahf, sizeof(lahf), &i);
    assert_int_equal(i.feature, FEAT_COUNT);
}

static void test_rep_ends_block(void **state)
{
    static const u8 rep[] = {0xf3, 0xa4};
    struct insn i;
    (void)state;
    decode_ok(MODE_LONG64, rep, sizeof(rep), &i);
    assert_true(i.flags & INSN_END);
    decode_ok(MODE_LONG64, rep + 1, 1, &i);
    assert_false(i.flags & INSN_END);
}

static void test_format(void **state)
{
    static const u8 jmp[] = {0xeb, 0xfe}, mov[] = {0x8b, 0x44, 0x8b, 0xf0};
    struct insn i;
    char text[96];
    (void)state;
    decode_ok(MODE_LONG64, jmp, sizeof(jmp), &i);
    insn_format(&i, MODE_LONG64, 0x401000, text, sizeof(text));
    assert_string_equal(text, "jmp 0x0000000000401000");
    decode_ok(MODE_PROT32, mov, sizeof(mov), &i);
    insn_format(&i, MODE_PROT32, 0, text, sizeof(text));
    assert_string_equal(text, "mov eax, [ebx+ecx*4-0x10]");
    i.len = 1;
    insn_format(&i, MODE_PROT32, 0, text, sizeof(text));
    assert_string_equal(text, "(bad)");
}

/* Random bytes in every mode: what decodes stays within its bounds. */
static void test_random_bytes(void **state)
{
    u64 seed = 0x9e3779b97f4a7c15;
    (void)state;
    for (unsigned k = 0; k < 200000; k++) {
        u8 bytes[16];
        struct insn i;
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        store_le(bytes, seed, 8);
        store_le(bytes + 8, seed * 0x2545f4914f6cdd1dULL, 8);
        bytes[0] = (u8)(seed >> 40);
        unsigned n = 1 + (unsigned)(seed >> 60) % 15;
        if (insn_decode(bytes, n, (enum cpu_mode)(k % (MODE_LONG64 + 1)), &i) != DECODE_OK)
            continue;
        assert_in_range(i.len, 1, n);
        assert_in_range(i.op, 1, OP_COUNT - 1);
        assert_true(i.opsize == 1 || i.opsize == 2 || i.opsize == 4 || i.opsize == 8);
        assert_true(i.addrsize == 2 || i.addrsize == 4 || i.addrsize == 8);
        assert_in_range(i.seg, SEG_ES, SEG_GS);
        assert_true(i.base < 16 || i.base >= REG_RIP);
        assert_true(i.nopd <= ARRAY_SIZE(i.opd) && i.scale < 4 && i.feature <= FEAT_COUNT);
    }
}

/* --- the cache --- */

static u64 next_random(u64 *state)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return *state >> 32;
}

/* An instruction's beginning, by opcode maps and prefixes rather than by chance. */
static void make_bytes(u64 *state, u8 *p)
{
    static const u8 prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x65, 0x48, 0x41, 0x4f};
    unsigned n = 0;
    for (unsigned k = 0; k < 15; k++)
        p[k] = (u8)next_random(state);
    for (u64 r = next_random(state) % 4; r > 1; r--)
        p[n++] = prefixes[next_random(state) % ARRAY_SIZE(prefixes)];
    switch (next_random(state) % 5) {
    case 0:
        p[n++] = 0x0f;
        break;
    case 1:
        p[n++] = 0x0f;
        p[n++] = next_random(state) & 1 ? 0x38 : 0x3a;
        break;
    case 2:
        p[n++] = next_random(state) & 1 ? 0xc4 : 0xc5;
        break;
    default:
        break;
    }
}

/* Whatever is in the cache, it says what Zydis says; also of instructions that differ in their
 * displacements and immediates only. */
static void test_cache(void **state)
{
    (void)state;
    struct decode_cache *c = decode_cache_create();
    u64 random = 1, hits = 0;
    assert_non_null(c);
    for (unsigned run = 0; run < 400000; run++) {
        enum cpu_mode mode = (enum cpu_mode)(next_random(&random) % (MODE_LONG64 + 1));
        u8 p[15];
        make_bytes(&random, p);
        for (unsigned variant = 0; variant < 3; variant++) {
            struct insn plain, cached;
            unsigned n = variant == 2 ? (unsigned)(next_random(&random) % 16) : 15;
            memset(&plain, 0, sizeof(plain));
            memset(&cached, 0, sizeof(cached));
            enum decode_status status = insn_decode(p, n, mode, &plain);
            assert_int_equal(insn_decode_cached(c, p, n, mode, &cached), status);
            if (status != DECODE_OK)
                continue;
            assert_memory_equal(&plain, &cached, sizeof(plain));
            hits++;
            unsigned at = plain.imm_at ? plain.imm_at : plain.len - 1;
            if (at > plain.modrm_at + 1u) /* the immediate, or the displacement's last byte */
                p[at] = (u8)next_random(&random);
        }
    }
    assert_true(hits > 100000);
    decode_cache_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basic),          cmocka_unit_test(test_status),
        cmocka_unit_test(test_truncation),     cmocka_unit_test(test_operands),
        cmocka_unit_test(test_addresses),      cmocka_unit_test(test_immediates),
        cmocka_unit_test(test_features),       cmocka_unit_test(test_branch_size_of_host),
        cmocka_unit_test(test_rep_ends_block), cmocka_unit_test(test_format),
        cmocka_unit_test(test_random_bytes),   cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
