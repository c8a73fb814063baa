/*
 * The serial port, and numbers as text.
 */
#include "nano.h"

#define COM1    0x3f8
#define TRIES   100000 /* of a port that may not be there */
#define LSR_THR 0x20

void console_init(void)
{
    outb(COM1 + 1, 0);
    outb(COM1 + 3, 0x80); /* 115200 baud */
    outb(COM1, 1);
    outb(COM1 + 1, 0);
    outb(COM1 + 3, 3); /* 8 bits, no parity */
    outb(COM1 + 2, 7);
}

static void put(char c)
{
    for (u32 n = 0; n < TRIES && !(inb(COM1 + 5) & LSR_THR); n++)
        pause();
    outb(COM1, (u8)c);
}

void print(const char *s)
{
    for (; *s; s++) {
        if (*s == '\n')
            put('\r');
        put(*s);
    }
}

void print_number(u32 value, u32 base)
{
    char text[12], *p = text + 11;
    *p = 0;
    do
        *--p = "0123456789abcdef"[value % base];
    while (value /= base);
    print(base == 16 ? "0x" : "");
    print(p);
}

void print_tenths(u32 tenths)
{
    char digit[3] = {'.', (char)('0' + tenths % 10), 0};
    print_number(tenths / 10, 10);
    print(digit);
}
