/*
 * An interpreter of a small stack machine, as programs have them: a loop around a big switch. It
 * runs a program that counts the steps of Collatz sequences, takes greatest common divisors and
 * keeps a table.
 */
#include <stdbool.h>

#include "bench.h"

/* Operations on the two topmost numbers, a below b, and on the topmost, a. */
#define BINARY(X)                                                                                  \
    X(ADD, a + b)                                                                                  \
    X(SUB, a - b)                                                                                  \
    X(MUL, (a)*b)                                                                                  \
    X(DIV, b ? a / b : 0)                                                                          \
    X(MOD, b ? a % b : 0)                                                                          \
    X(AND, (a & b))                                                                                \
    X(OR, a | b)                                                                                   \
    X(XOR, a ^ b)                                                                                  \
    X(SHL, a << (b & 31))                                                                          \
    X(SHR, a >> (b & 31))                                                                          \
    X(EQ, a == b)                                                                                  \
    X(LT, a < b)                                                                                   \
    X(GT, a > b)                                                                                   \
    X(MIN, a < b ? a : b)                                                                          \
    X(MAX, a > b ? a : b)
#define UNARY(X)                                                                                   \
    X(NOT, ~a)                                                                                     \
    X(NEG, -a)                                                                                     \
    X(INC, a + 1)                                                                                  \
    X(DEC, a - 1)                                                                                  \
    X(IS0, a == 0)                                                                                 \
    X(FETCH, table[a & 15])

#define NAME(name, result) name,
enum operation {
    BINARY(NAME) UNARY(NAME) PUSH, /* number */
    LOAD,                          /* variable */
    STORE,                         /* variable */
    JUMP,                          /* label; the following three too */
    JUMP_IF_0,
    JUMP_IF_NOT_0,
    CALL,
    RETURN,
    POP,
    DUP,
    SWAP,
    OVER,
    PUT, /* the number below the topmost into the table, at the topmost */
    HALT,
    LABEL, /* number */
};

enum label { START, ABOVE, COLLATZ, STEP, ODD, ONE, GCD, GCD_END, LABELS };
enum variable { N, LENGTH, SUM, STEPS, AT, VARIABLES };

/* clang-format off */
static const u32 program[] = {
    LABEL, START, PUSH, 1, STORE, N, PUSH, 0, STORE, SUM,
    /* for each N from 1: SUM = (SUM + gcd(N, LENGTH = collatz(N))) * 31 + LENGTH */
    LABEL, ABOVE, LOAD, N, CALL, COLLATZ, STORE, LENGTH,
    LOAD, N, LOAD, LENGTH, CALL, GCD, LOAD, SUM, ADD, PUSH, 31, MUL, LOAD, LENGTH, ADD, STORE, SUM,
    /* table[SUM & 15] ^= ~SUM, max(SUM >> 3, LENGTH) added to SUM */
    LOAD, SUM, PUSH, 15, AND, STORE, AT, LOAD, AT, FETCH, LOAD, SUM, NOT, XOR, LOAD, AT, PUT,
    LOAD, SUM, PUSH, 3, SHR, LOAD, LENGTH, MAX, LOAD, SUM, ADD, STORE, SUM,
    LOAD, N, INC, DUP, STORE, N, PUSH, 300, LT, JUMP_IF_NOT_0, ABOVE,
    LOAD, AT, FETCH, LOAD, SUM, XOR, HALT,

    LABEL, COLLATZ, PUSH, 0, STORE, STEPS,
    LABEL, STEP, DUP, PUSH, 1, EQ, JUMP_IF_NOT_0, ONE,
    LOAD, STEPS, INC, STORE, STEPS, DUP, PUSH, 1, AND, JUMP_IF_NOT_0, ODD,
    PUSH, 1, SHR, JUMP, STEP,
    LABEL, ODD, PUSH, 3, MUL, INC, JUMP, STEP,
    LABEL, ONE, POP, LOAD, STEPS, RETURN,

    LABEL, GCD, DUP, JUMP_IF_0, GCD_END, SWAP, OVER, MOD, JUMP, GCD,
    LABEL, GCD_END, POP, RETURN,
};
/* clang-format on */
#define SIZE (sizeof(program) / sizeof(program[0]))

static bool has_operand(u32 operation)
{
    return (operation >= PUSH && operation <= CALL) || operation == LABEL;
}

/* Copies the program to code and puts into to[] where its labels are. */
static void link_program(u32 code[SIZE], u32 to[LABELS])
{
    for (u32 at = 0; at < SIZE; at += has_operand(program[at]) ? 2 : 1)
        if (program[at] == LABEL)
            to[program[at + 1]] = at;
    for (u32 at = 0; at < SIZE; at++) {
        code[at] = program[at];
        if (!has_operand(program[at]))
            continue;
        bool jump = program[at] >= JUMP && program[at] <= CALL;
        code[at + 1] = jump ? to[program[at + 1]] : program[at + 1];
        at++;
    }
}

#define DO_BINARY(name, result)                                                                    \
    case name: {                                                                                   \
        u32 b = *top--, a = *top;                                                                  \
        *top = result;                                                                             \
        break;                                                                                     \
    }
#define DO_UNARY(name, result)                                                                     \
    case name: {                                                                                   \
        u32 a = *top;                                                                              \
        *top = result;                                                                             \
        break;                                                                                     \
    }

/* Longer than a function should be: its switch is what is measured. */
static u32 run(const u32 *code)
{
    u32 stack[32] = {0}, variables[VARIABLES] = {0}, table[16] = {0};
    u32 returns[8], depth = 0;
    u32 *top = stack;
    for (const u32 *pc = code;;) {
        switch ((enum operation) * pc++) {
            BINARY(DO_BINARY)
            UNARY(DO_UNARY)
        case PUSH:
            *++top = *pc++;
            break;
        case LOAD:
            *++top = variables[*pc++];
            break;
        case STORE:
            variables[*pc++] = *top--;
            break;
        case JUMP:
            pc = code + *pc;
            break;
        case JUMP_IF_0:
            pc = *top-- ? pc + 1 : code + *pc;
            break;
        case JUMP_IF_NOT_0:
            pc = *top-- ? code + *pc : pc + 1;
            break;
        case CALL:
            returns[depth++] = (u32)(pc + 1 - code);
            pc = code + *pc;
            break;
        case RETURN:
            pc = code + returns[--depth];
            break;
        case POP:
            top--;
            break;
        case DUP:
            top++;
            top[0] = top[-1];
            break;
        case SWAP: {
            u32 t = top[0];
            top[0] = top[-1], top[-1] = t;
            break;
        }
        case OVER:
            top++;
            top[0] = top[-2];
            break;
        case PUT:
            table[top[0] & 15] = top[-1];
            top -= 2;
            break;
        case HALT:
            return *top;
        case LABEL:
            pc++;
            break;
        }
    }
}

u32 interp(void)
{
    static u32 code[SIZE], to[LABELS];
    link_program(code, to);
    return run(code);
}
