/*
 * One function as a guest of its own: a tiny machine without a PC, in which the engine bt
 * translates the function's code, or runs it with given arguments.
 */
#ifndef RINGER_VM_FUNCTION_H
#define RINGER_VM_FUNCTION_H

#include "base/error.h"
#include "cpu/state.h"
#include "engine/bt/dump.h"

#define FUNCTION_ARGS   6
#define FUNCTION_PIECES 16
#define FUNCTION_RAM    (256 * MIB) /* all code and data lie below */
#define FUNCTION_LOW    (64 * KIB)  /* and above this, but for 16-bit code */
#define FUNCTION_RETURN 0x1000      /* where it returns to */

/* What is to be in memory; the rest is zero. */
struct code_piece {
    u64 addr;
    const u8 *bytes;
    size_t size;
};

struct function {
    struct code_piece piece[FUNCTION_PIECES];
    unsigned pieces;
    u64 entry, end; /* the function's own code */
    unsigned mode;  /* 16 (real mode), 32 or 64 */
};

struct call {
    u64 arg[FUNCTION_ARGS];
    unsigned args;
    u64 result;
};

/* Translates all of the function that direct jumps and the returns of calls reach. */
int vm_translate_function(const struct function *fn, struct bt_dump *dump, struct error *err);

/* Calls the function and takes note of what was translated for that. Arguments and result are as in
 * the System V ABI: registers in 64-bit code, else the stack. Returns -EFAULT if the function did
 * not come back. */
int vm_call_function(const struct function *fn, struct call *call, struct bt_dump *dump,
                     struct error *err);

#endif
