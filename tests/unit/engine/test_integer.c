/*
 * Integer and string instructions against the host CPU: encodings of all of them, with random
 * registers, flags and memory, must leave the same state in both, undefined flags included. Memory
 * operands and the host harness's context lie at the same low addresses in guest and host.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#undef REG_RIP /* of the signal frame */

#include "machine.h"

#include "cpu/insn.h"
#include "engine/sem/sem.h"

#define LOW_AT    0x40000 /* operands: one page */
#define LOW_SIZE  0x3000
#define OPERANDS  (LOW_AT + 0x800)
#define HOST_AT   (LOW_AT + 0x1000) /* struct host_context */
#define STUB_AT   (LOW_AT + 0x2000)
#define GUEST_RIP 0x5000

struct host_context {
    u64 gpr[16];
    u64 flags;
};

static sigjmp_buf host_fault;
static u64 seed = 88172645463325252ULL;
static unsigned executed[OP_COUNT], different[OP_COUNT], differences;

static u64 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

/* --- the host --- */

static void on_signal(int sig)
{
    siglongjmp(host_fault, sig == SIGFPE ? 1 + VEC_DE : sig == SIGILL ? 1 + VEC_UD : 1 + VEC_GP);
}

static void emit(u8 **p, const u8 *bytes, unsigned n)
{
    memcpy(*p, bytes, n);
    *p += n;
}

/* opcode with reg and [absolute address] */
static void emit_absolute(u8 **p, int rex, u8 opcode, unsigned reg, u64 at)
{
    if (rex)
        *(*p)++ = (u8)(0x48 | (reg >> 3) << 2);
    *(*p)++ = opcode;
    *(*p)++ = (u8)((reg & 7) << 3 | 4);
    *(*p)++ = 0x25;
    store_le(*p, at, 4);
    *p += 4;
}

#define EMIT(p, ...) emit(&(p), (const u8[]){__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__}))

static void build_stub(const struct insn *i)
{
    u8 *p = (u8 *)STUB_AT;
    EMIT(p, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57);
    emit_absolute(&p, 0, 0xff, 6, HOST_AT + offsetof(struct host_context, flags));
    EMIT(p, 0x9d); /* popfq */
    for (unsigned r = 0; r < 16; r++)
        if (r != RSP)
            emit_absolute(&p, 1, 0x8b, r, HOST_AT + 8 * r);
    emit(&p, i->raw, i->len);
    for (unsigned r = 0; r < 16; r++)
        if (r != RSP)
            emit_absolute(&p, 1, 0x89, r, HOST_AT + 8 * r);
    EMIT(p, 0x9c); /* pushfq */
    emit_absolute(&p, 0, 0x8f, 0, HOST_AT + offsetof(struct host_context, flags));
    EMIT(p, 0xfc, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3);
}

/* Vector of the fault, or -1. */
static int run_host(const struct insn *i)
{
    build_stub(i);
    int fault = sigsetjmp(host_fault, 1);
    if (fault)
        return fault - 1;
    ((void (*)(void))STUB_AT)();
    return -1;
}

static int run_guest(struct vcpu *v, const struct insn *i)
{
    v->rip = GUEST_RIP + i->len;
    v->cur = i;
    if (setjmp(v->unwind))
        return v->fault.vector;
    i->sem(v, i);
    return -1;
}

/* --- one instruction, both ways --- */

static u64 random_value(void)
{
    static const u64 edges[] = {0,
                                1,
                                2,
                                0x7f,
                                0x80,
                                0xff,
                                0x7fff,
                                0x8000,
                                0xffff,
                                0x7fffffff,
                                0x80000000,
                                0xffffffff,
                                0x7fffffffffffffff,
                                0x8000000000000000,
                                0xffffffffffffffff};
    switch (rnd() % 4) {
    case 0:
        return edges[rnd() % ARRAY_SIZE(edges)];
    case 1:
        return rnd() & 0x3f;
    default:
        return rnd();
    }
}

static void randomize(struct vcpu *v, const struct insn *i)
{
    for (unsigned r = 0; r < 16; r++)
        v->gpr[r] = random_value();
    for (u64 at = LOW_AT; at < LOW_AT + PAGE_SIZE; at += 8)
        store_le((void *)at, rnd() % 4 ? 0x4141414141414141 : random_value(), 8);
    v->gpr[RBX] = OPERANDS;
    if (i->cls == CLASS_STRING) {
        v->gpr[RSI] = OPERANDS + rnd() % 32;
        v->gpr[RDI] = OPERANDS + rnd() % 32;
        v->gpr[RCX] = rnd() % 24;
        v->gpr[RAX] = 0x4141414141414141;
    }
    if (rnd() % 2) {
        v->gpr[RAX] = load_le((void *)(OPERANDS + i->disp), 8);
        v->gpr[RDX] = i->op == OP_CMPXCHG8B ? v->gpr[RAX] >> 32 : v->gpr[RDX];
    }
    if (i->nopd == 2 && i->opd[0].kind == OPD_MEM && i->opd[1].kind == OPD_GPR &&
        i->opd[1].reg != RBX) /* bit offsets */
        v->gpr[i->opd[1].reg] = rnd() % 1024 - 512;
    v->rflags = FLAG_ONE | (rnd() & (FLAGS_ARITH | (i->cls == CLASS_STRING ? FLAG_DF : 0)));
}

/* Reports the first few differences of each operation; the test fails at its end. */
static void differs(const struct insn *i, const char *what, u64 guest, u64 host)
{
    char text[96];
    differences++;
    if (++different[i->op] > 3)
        return;
    insn_format(i, MODE_LONG64, GUEST_RIP, text, sizeof(text));
    print_error("%s: %s is %llx, on the host %llx; bytes", text, what, (unsigned long long)guest,
                (unsigned long long)host);
    for (unsigned n = 0; n < i->len; n++)
        print_error(" %02x", i->raw[n]);
    print_error("\n");
}

static void compare(struct test_machine *tm, const struct insn *i)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    struct vcpu *v = tm->v;
    struct host_context *host = (struct host_context *)HOST_AT;
    u64 flags = FLAGS_ARITH | FLAG_DF;

    randomize(v, i);
    memcpy(host->gpr, v->gpr, sizeof(host->gpr));
    host->flags = v->rflags;
    memcpy(tm->ram + LOW_AT, (void *)LOW_AT, PAGE_SIZE);

    int fault = run_guest(v, i), host_vector = run_host(i);
    if (fault != host_vector)
        differs(i, "fault", (u64)fault, (u64)host_vector);
    executed[i->op]++;
    if (fault >= 0)
        return;
    for (unsigned r = 0; r < 16; r++)
        if (v->gpr[r] != host->gpr[r])
            differs(i, names[r], v->gpr[r], host->gpr[r]);
    if ((v->rflags ^ host->flags) & flags)
        differs(i, "flags", v->rflags & flags, host->flags & flags);
    for (u64 at = LOW_AT; at < LOW_AT + PAGE_SIZE; at += 8)
        if (load_le(tm->ram + at, 8) != load_le((void *)at, 8))
            differs(i, "memory", load_le(tm->ram + at, 8), load_le((void *)at, 8));
}

/* --- which instructions --- */

/* No stack, no branches, no randomness; an operand in memory must be [RBX + disp]. */
static bool suits(const struct insn *i)
{
    static const u16 not_here[] = {OP_PUSH, OP_POP, OP_ENTER, OP_LEAVE, OP_RDRAND, OP_RDSEED};
    if ((i->cls != CLASS_IDENT && i->cls != CLASS_STRING) || i->addrsize != 8 || i->seg == SEG_FS ||
        i->seg == SEG_GS)
        return false;
    for (unsigned n = 0; n < ARRAY_SIZE(not_here); n++)
        if (i->op == not_here[n])
            return false;
    if (i->nopd && i->opd[0].kind == OPD_MEM && i->opd[1].reg == RBX && i->op >= OP_BT &&
        i->op <= OP_BTC)
        return false; /* RBX as a bit offset reaches too far */
    for (unsigned n = 0; n < i->nopd; n++) {
        if (i->opd[n].kind == OPD_GPR && i->opd[n].reg == RSP)
            return false;
        if (i->opd[n].kind == OPD_MEM &&
            (i->base != RBX || i->index != REG_NONE || i->disp < -128 || i->disp > 127))
            return false;
    }
    return true;
}

static void try_bytes(struct test_machine *tm, const u8 bytes[15])
{
    struct insn i;
    if (insn_decode(bytes, 15, MODE_LONG64, &i) != DECODE_OK || !suits(&i))
        return;
    sem_bind(tm->v, &i);
    if (i.feature == FEAT_COUNT || cpu_has(&tm->model, (enum cpu_feature)i.feature))
        for (unsigned n = 0; n < 12; n++)
            compare(tm, &i);
}

/* ModRM with two registers, or a register and [RBX + disp8]; then random displacement and
 * immediate. */
static void random_tail(u8 *p, const u8 *end)
{
    *p++ = rnd() & 1 ? (u8)(0xc0 | rnd()) : (u8)(0x40 | (rnd() & 0x38) | RBX);
    if (rnd() & 1)
        *p++ = (u8)(rnd() & 0xf0);
    while (p < end)
        *p++ = (u8)rnd();
}

/* One opcode with every combination of prefixes. */
static void try_legacy(struct test_machine *tm, const u8 *escape, unsigned nescape, u8 opcode)
{
    static const u8 prefixes[] = {0, 0x66, 0xf2, 0xf3, 0xf0};
    for (unsigned k = 0; k < 200; k++) {
        u8 bytes[15], *p = bytes;
        if (prefixes[k % 5])
            *p++ = prefixes[k % 5];
        if (rnd() % 8 == 0)
            *p++ = 0x66;
        if (rnd() & 1)
            *p++ = (u8)(0x40 | (rnd() & 15));
        memcpy(p, escape, nescape);
        p += nescape;
        *p++ = opcode;
        random_tail(p, bytes + 15);
        try_bytes(tm, bytes);
    }
}

static void try_vex(struct test_machine *tm, u8 map, u8 opcode)
{
    for (unsigned k = 0; k < 200; k++) {
        u8 bytes[15] = {0xc4, (u8)((rnd() & 0xe0) | map), (u8)(rnd() & 0xfb), opcode};
        random_tail(bytes + 4, bytes + 15);
        try_bytes(tm, bytes);
    }
}

static void test_against_host(void **state)
{
    static const int signals[] = {SIGFPE, SIGSEGV, SIGILL, SIGBUS};
    static const u8 none[1], two[] = {0x0f}, three[] = {0x0f, 0x38};
    for (unsigned n = 0; n < ARRAY_SIZE(signals); n++) /* cmocka's own come before each test */
        signal(signals[n], on_signal);
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        try_legacy(*state, none, 0, (u8)opcode);
        try_legacy(*state, two, 1, (u8)opcode);
        try_legacy(*state, three, 2, (u8)opcode);
        try_vex(*state, 2, (u8)opcode);
        try_vex(*state, 3, (u8)opcode);
    }
    assert_int_equal(differences, 0);
}

/* --- instructions that 64-bit mode does not have, in a 32-bit code segment of the host --- */

#define LINUX_CODE32 0x23
#define LINUX_CODE64 0x33
#define LINUX_DATA   0x2b
#define STACK_AT     (LOW_AT + 0xf00)

static void emit32(u8 **p, u64 value)
{
    store_le(*p, value, 4);
    *p += 4;
}

static void build_stub32(const u8 *insn, unsigned len)
{
    const u64 eax = HOST_AT, flags = HOST_AT + 8, saved_rsp = HOST_AT + 16;
    u8 *p = (u8 *)STUB_AT;
    EMIT(p, 0x53, 0x55);
    emit_absolute(&p, 1, 0x89, RSP, saved_rsp);
    EMIT(p, 0xbc);
    emit32(&p, STACK_AT);
    EMIT(p, 0x6a, LINUX_CODE32, 0x68);
    emit32(&p, (u64)(uintptr_t)p + 6);
    EMIT(p, 0x48, 0xcb);                         /* retfq: to 32-bit code */
    EMIT(p, 0x6a, LINUX_DATA, 0x1f, 0xff, 0x35); /* push data; pop ds; push [flags] */
    emit32(&p, flags);
    EMIT(p, 0x9d, 0xa1); /* popfd; mov eax, [eax] */
    emit32(&p, eax);
    emit(&p, insn, len);
    EMIT(p, 0xa3);
    emit32(&p, eax);
    EMIT(p, 0x9c, 0x8f, 0x05); /* pushfd; pop [flags] */
    emit32(&p, flags);
    EMIT(p, 0xea); /* back to 64-bit code */
    emit32(&p, (u64)(uintptr_t)p + 6);
    EMIT(p, LINUX_CODE64, 0);
    emit_absolute(&p, 1, 0x8b, RSP, saved_rsp);
    EMIT(p, 0x5d, 0x5b, 0xc3);
}

/* Many values of AX, and the flags that matter. Undefined flags are modelled after AMD's CPUs. */
static void compare_decimal(struct vcpu *v, const u8 *bytes, unsigned len)
{
    const u64 flags_known = __builtin_cpu_is("amd") ? FLAGS_ARITH : 0;
    struct insn i;
    assert_int_equal(insn_decode(bytes, len, MODE_PROT32, &i), DECODE_OK);
    sem_bind(v, &i);
    build_stub32(bytes, len);
    for (u64 ax = 0; ax < 0x10000; ax += 1 + ax % 61) {
        for (unsigned bits = 0; bits < 8; bits++) {
            u64 flags = FLAG_ONE | (bits & 1 ? FLAG_CF : 0) | (bits & 2 ? FLAG_AF : 0) |
                        (bits & 4 ? FLAG_OF : 0);
            v->gpr[RAX] = ax;
            v->rflags = flags;
            store_le((void *)HOST_AT, ax, 8);
            store_le((void *)(HOST_AT + 8), flags, 8);
            assert_int_equal(run_guest(v, &i), -1);
            ((void (*)(void))STUB_AT)();
            if (v->gpr[RAX] != load_le((void *)HOST_AT, 4))
                differs(&i, "ax", v->gpr[RAX], load_le((void *)HOST_AT, 4));
            if ((v->rflags ^ load_le((void *)(HOST_AT + 8), 4)) & flags_known)
                differs(&i, "flags", v->rflags, load_le((void *)(HOST_AT + 8), 4));
        }
    }
}

/* Some kernels and hypervisors leave out the 32-bit code segment. */
static bool host_runs_32bit(void)
{
    static const u8 nop[] = {0x90};
    int status;
    build_stub32(nop, sizeof(nop));
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        ((void (*)(void))STUB_AT)();
        _exit(0);
    }
    return waitpid(child, &status, 0) == child && WIFEXITED(status);
}

static void test_decimal_against_host(void **state)
{
    if (!host_runs_32bit())
        skip();
    static const u8 one[] = {0x27, 0x2f, 0x37, 0x3f, 0xd6};
    static const u8 two[][2] = {{0xd4, 10}, {0xd4, 7}, {0xd5, 10}, {0xd5, 0xf3}};
    struct test_machine *tm = *state;
    differences = 0;
    for (unsigned n = 0; n < ARRAY_SIZE(one); n++)
        compare_decimal(tm->v, &one[n], 1);
    for (unsigned n = 0; n < ARRAY_SIZE(two); n++)
        compare_decimal(tm->v, two[n], 2);
    assert_int_equal(differences, 0);
}

/* Each row with work for the host above was really executed. */
static void test_all_executed(void **state)
{
    static const u16 elsewhere[] = {
        OP_DAA,   OP_DAS,   OP_AAA,    OP_AAS,    OP_AAM,         OP_AAD,  OP_SALC,
        OP_BOUND, OP_PUSH,  OP_POP,    OP_PUSHA,  OP_PUSHAD,      OP_POPA, OP_POPAD,
        OP_ENTER, OP_LEAVE, OP_RDRAND, OP_RDSEED,
    };
    static const u16 rows[] = {
#define INSN(mnemonic, sem, class, flags) OP_##mnemonic,
#include "cpu/insn_int.def"
#undef INSN
    };
    (void)state;
    for (unsigned k = 0; k < ARRAY_SIZE(rows); k++) {
        u8 cls = op_info[rows[k]].cls;
        bool skip = cls != CLASS_IDENT && cls != CLASS_STRING;
        for (unsigned n = 0; n < ARRAY_SIZE(elsewhere); n++)
            skip |= rows[k] == elsewhere[n];
        if (!skip && !executed[rows[k]])
            print_error("%s was not executed\n", op_info[rows[k]].name);
        assert_true(skip || executed[rows[k]]);
    }
}

static int setup(void **state)
{
    machine_setup(state);
    struct test_machine *tm = *state;
    long_mode(tm, GUEST_RIP);
    void *low = mmap((void *)LOW_AT, LOW_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_ptr_equal(low, (void *)LOW_AT);
    alarm(0);
    return 0;
}

static int teardown(void **state)
{
    munmap((void *)LOW_AT, LOW_SIZE);
    return machine_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_against_host, setup, teardown),
        cmocka_unit_test_setup_teardown(test_decimal_against_host, setup, teardown),
        cmocka_unit_test(test_all_executed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
