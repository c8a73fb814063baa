/*
 * The low part of this process's address space, kept free of everything, so that something may be
 * mapped there at addresses of its own choice.
 */
#ifndef RINGER_BASE_LOWMEM_H
#define RINGER_BASE_LOWMEM_H

#include "base/types.h"

/* Where the host lets processes map memory, if it is not told otherwise. */
#define LOWMEM_START (64 * KIB)

/* Keeps [LOWMEM_START, end) free; nothing there can be accessed. False: something is there already.
 */
bool lowmem_keep(u64 end);
void lowmem_give_back(u64 end);

/* Is there memory to be read in the upper half of the address space? (The page of old system calls,
 * which by default can only be executed.) */
bool lowmem_upper_readable(void);

#endif
