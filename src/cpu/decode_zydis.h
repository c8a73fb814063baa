/*
 * Private to decode*.c: Zydis, set up for our modes.
 */
#ifndef RINGER_CPU_DECODE_ZYDIS_H
#define RINGER_CPU_DECODE_ZYDIS_H

#include <Zydis/Zydis.h>

#include "cpu/insn.h"
#include "cpu/model.h"

/* The decoder for a mode, with the host vendor's view of 0x66 before near branches. */
const ZydisDecoder *zydis_decoder(enum cpu_mode mode);

/* insn_decode(), which shows what Zydis said, too. */
enum decode_status decode_with_zydis(const u8 *bytes, unsigned n, enum cpu_mode mode,
                                     struct insn *out, ZydisDecodedInstruction *zi);

/* Is the host an AMD (or compatible) CPU? The guest's vendor is the host's. */
bool host_is_amd(void);

/* Whether instructions of this set may be offered to a guest at all, and by which feature:
 * FEAT_COUNT if they are always there. */
bool isa_feature(ZydisISASet isa, enum cpu_mode mode, enum cpu_feature *feature);

#endif
