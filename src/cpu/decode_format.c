/*
 * Instructions as text, for register dumps, traces and reports, by Zydis's formatter.
 */
#include "cpu/decode_zydis.h"

#include <stdio.h>

void insn_format(const struct insn *i, enum cpu_mode mode, u64 rip, char *buf, size_t size)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zo[ZYDIS_MAX_OPERAND_COUNT];
    ZydisFormatter f;

    if (ZYAN_FAILED(ZydisDecoderDecodeFull(zydis_decoder(mode), i->raw, i->len, &zi, zo)) ||
        ZYAN_FAILED(ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL)) ||
        ZYAN_FAILED(ZydisFormatterFormatInstruction(&f, &zi, zo, zi.operand_count_visible, buf,
                                                    size, rip, NULL)))
        snprintf(buf, size, "(bad)");
}
