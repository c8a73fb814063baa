/*
 * The AML writer. The length of a container stands before its body and has itself a variable
 * length, so aml_end() moves the body up when it is known.
 */
#include "boot/aml.h"

enum aml_op {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_STRING = 0x0d,
    AML_QWORD = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_EXT = 0x5b,
    AML_ARG0 = 0x68,
    AML_STORE = 0x70,
    AML_IF = 0xa0,
    AML_RETURN = 0xa4,
    AML_EXT_DEVICE = 0x82,
};

/* Resource descriptors: small ones carry their length in the low three bits. */
enum resource {
    RES_IRQ_NOFLAGS = 0x22,
    RES_IO = 0x47,
    RES_END = 0x79,
    RES_DWORD_RANGE = 0x87,
    RES_WORD_RANGE = 0x88,
};

enum range_type {
    RANGE_MEMORY = 0,
    RANGE_IO = 1,
    RANGE_BUS = 2,
};

#define RANGE_FIXED_PRODUCER 0x0c /* both ends fixed; passed on to the devices below */

void aml_init(struct aml *a, u8 *buf, size_t cap)
{
    *a = (struct aml){.buf = buf, .cap = cap};
}

static void put(struct aml *a, u64 value, unsigned size)
{
    assert(a->len + size <= a->cap);
    store_le(a->buf + a->len, value, size);
    a->len += size;
}

static void put_name(struct aml *a, const char *name)
{
    size_t n = strlen(name);
    assert(n >= 1 && n <= 4);
    for (size_t i = 0; i < 4; i++)
        put(a, (u8)(i < n ? name[i] : '_'), 1);
}

static void open_body(struct aml *a)
{
    assert(a->depth < AML_DEPTH);
    a->open[a->depth++] = a->len;
}

/* Moves what was written from `at` on up by n bytes and puts bytes[] there. */
static void insert(struct aml *a, size_t at, const u8 *bytes, unsigned n)
{
    assert(a->len + n <= a->cap);
    memmove(a->buf + at + n, a->buf + at, a->len - at);
    memcpy(a->buf + at, bytes, n);
    a->len += n;
}

/* PkgLength counts its own bytes (ACPI 6.4, 20.2.4). */
void aml_end(struct aml *a)
{
    assert(a->depth > 0);
    size_t at = a->open[--a->depth], body = a->len - at;
    u8 bytes[4];
    if (body + 1 < 0x40) {
        bytes[0] = (u8)(body + 1);
        insert(a, at, bytes, 1);
        return;
    }
    unsigned n = body + 2 < 0x1000 ? 2 : body + 3 < 0x100000 ? 3 : 4;
    size_t total = body + n;
    bytes[0] = (u8)((n - 1) << 6 | (total & 0xf));
    for (unsigned i = 1; i < n; i++)
        bytes[i] = (u8)(total >> (4 + 8 * (i - 1)));
    insert(a, at, bytes, n);
}

void aml_scope(struct aml *a, const char *name)
{
    put(a, AML_SCOPE, 1);
    open_body(a);
    put_name(a, name);
}

void aml_device(struct aml *a, const char *name)
{
    put(a, AML_EXT, 1);
    put(a, AML_EXT_DEVICE, 1);
    open_body(a);
    put_name(a, name);
}

void aml_package(struct aml *a, u8 count)
{
    put(a, AML_PACKAGE, 1);
    open_body(a);
    put(a, count, 1);
}

void aml_name(struct aml *a, const char *name)
{
    put(a, AML_NAME, 1);
    put_name(a, name);
}

void aml_method(struct aml *a, const char *name, u8 args)
{
    put(a, AML_METHOD, 1);
    open_body(a);
    put_name(a, name);
    put(a, args, 1);
}

void aml_store_arg0(struct aml *a, const char *name)
{
    put(a, AML_STORE, 1);
    put(a, AML_ARG0, 1);
    put_name(a, name);
}

void aml_return(struct aml *a, const char *name)
{
    put(a, AML_RETURN, 1);
    put_name(a, name);
}

void aml_if_return(struct aml *a, const char *condition, const char *name)
{
    put(a, AML_IF, 1);
    open_body(a);
    put_name(a, condition);
    aml_return(a, name);
    aml_end(a);
}

void aml_int(struct aml *a, u64 value)
{
    if (value <= 1) {
        put(a, value ? AML_ONE : AML_ZERO, 1);
        return;
    }
    unsigned size = value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= 0xffffffff ? 4 : 8;
    put(a, size == 1 ? AML_BYTE : size == 2 ? AML_WORD : size == 4 ? AML_DWORD : AML_QWORD, 1);
    put(a, value, size);
}

void aml_string(struct aml *a, const char *s)
{
    put(a, AML_STRING, 1);
    while (*s)
        put(a, (u8)*s++, 1);
    put(a, 0, 1);
}

static u32 hex_digit(char c)
{
    return (u32)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits, then four hex digits; stored with the bytes swapped (6.1.5). */
void aml_eisa_id(struct aml *a, const char *id)
{
    assert(strlen(id) == 7);
    u32 v = 0;
    for (unsigned i = 0; i < 3; i++)
        v = v << 5 | (u32)(id[i] - 0x40);
    for (unsigned i = 3; i < 7; i++)
        v = v << 4 | hex_digit(id[i]);
    put(a, AML_DWORD, 1);
    put(a, __builtin_bswap32(v), 4);
}

void aml_resources(struct aml *a)
{
    put(a, AML_BUFFER, 1);
    open_body(a);
}

void aml_resources_end(struct aml *a)
{
    put(a, RES_END, 1);
    put(a, 0, 1); /* no checksum */
    size_t at = a->open[a->depth - 1], size = a->len - at;
    u8 count[3] = {AML_WORD, (u8)size, (u8)(size >> 8)};
    insert(a, at, count, sizeof(count));
    aml_end(a);
}

void aml_ports(struct aml *a, u16 first, u8 count)
{
    put(a, RES_IO, 1);
    put(a, 1, 1); /* decodes 16 address bits */
    put(a, first, 2);
    put(a, first, 2);
    put(a, 1, 1); /* alignment */
    put(a, count, 1);
}

void aml_irq(struct aml *a, unsigned irq)
{
    assert(irq < 16);
    put(a, RES_IRQ_NOFLAGS, 1);
    put(a, BIT(irq), 2);
}

static void put_range(struct aml *a, enum range_type type, u8 type_flags, unsigned width, u32 min,
                      u32 max)
{
    put(a, width == 2 ? RES_WORD_RANGE : RES_DWORD_RANGE, 1);
    put(a, 3 + 5 * width, 2);
    put(a, type, 1);
    put(a, RANGE_FIXED_PRODUCER, 1);
    put(a, type_flags, 1);
    put(a, 0, width); /* granularity */
    put(a, min, width);
    put(a, max, width);
    put(a, 0, width); /* translation */
    put(a, (u64)max - min + 1, width);
}

void aml_bus_range(struct aml *a, u16 min, u16 max)
{
    put_range(a, RANGE_BUS, 0, 2, min, max);
}

void aml_port_range(struct aml *a, u16 min, u16 max)
{
    put_range(a, RANGE_IO, 3, 2, min, max); /* ISA and non-ISA addresses */
}

void aml_memory_range(struct aml *a, u32 min, u32 max)
{
    put_range(a, RANGE_MEMORY, 1, 4, min, max); /* read and write, not cacheable */
}
