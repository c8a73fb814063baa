/*
 * What is on the floppy: 16-bit code that reads the whole disk through the BIOS and the controller's
 * first track by itself, draws in text and graphics modes, and shows keys. It ends by the debug-exit port,
 * with the screen left for the test to look at; what it finds it tells on the serial port.
 */
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;

struct registers {
    u32 eax, ebx, ecx, edx, esi, edi;
    u32 es, eflags;
};

#define CARRY  1u
#define TRACK  0x20000u /* where tracks are read to */
#define BUFFER 0x7000u  /* what VBE says */
#define FONT   0x6000u

extern u8 params[4];
void bios(unsigned number, struct registers *r);
void unreal(void);

/* --- the machine --- */

static void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static u8 in8(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void out_indexed(u16 port, u8 index, u8 value)
{
    __asm__ volatile("outw %0, %1" ::"a"((u16)(value << 8 | index)), "Nd"(port));
}

static void use_segment(u16 segment)
{
    __asm__ volatile("movw %0, %%fs" ::"r"(segment));
}

static void poke(u32 offset, u8 value)
{
    __asm__ volatile("movb %0, %%fs:(%1)" ::"q"(value), "r"(offset) : "memory");
}

static void poke16(u32 offset, u16 value)
{
    __asm__ volatile("movw %0, %%fs:(%1)" ::"r"(value), "r"(offset) : "memory");
}

static u32 peek32(u32 offset)
{
    u32 value;
    __asm__ volatile("movl %%fs:(%1), %0" : "=r"(value) : "r"(offset));
    return value;
}

static void say(const char *text)
{
    for (; *text; text++) {
        while (!(in8(0x3fd) & 0x20))
            ;
        out8(0x3f8, (u8)*text);
    }
}

static void say_number(const char *name, u32 value)
{
    char digits[12], *p = digits + sizeof(digits);
    *--p = 0;
    do
        *--p = (char)('0' + value % 10);
    while (value /= 10);
    say(name);
    say(p);
}

static void end(u8 status)
{
    out8(0xf4, status);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static struct registers video(u16 ax, u16 bx, u16 cx, u16 dx)
{
    struct registers r = {.eax = ax, .ebx = bx, .ecx = cx, .edx = dx};
    bios(0x10, &r);
    return r;
}

/* --- the disk --- */

static u32 wrong_words(u32 first_sector, unsigned sectors)
{
    u32 wrong = 0;
    use_segment(TRACK >> 4);
    for (unsigned s = 0; s < sectors; s++)
        for (unsigned i = 0; i < 128; i++)
            wrong += peek32(s * 512 + i * 4) != (first_sector + s) * 0x9e3779b1u + i;
    return wrong;
}

/* All tracks but the first cylinder, which holds the program. */
static void read_disk(void)
{
    struct registers r = {.eax = 0x0800, .edx = params[3]};
    u32 wrong = 0, failed = 0;
    bios(0x13, &r);
    unsigned sectors = r.ecx & 63, cylinders = (r.ecx >> 8 & 0xff) + 1, heads = (r.edx >> 8 & 0xff) + 1;
    say_number("sectors ", sectors);
    say_number(" heads ", heads);
    say_number(" cylinders ", cylinders);
    if (sectors != params[1] || cylinders != params[2] || heads != 2)
        end(1);
    for (unsigned track = 2; track < cylinders * 2; track++) {
        r = (struct registers){.eax = 0x0200 | sectors,
                               .ecx = track >> 1 << 8 | 1,
                               .edx = (track & 1) << 8 | params[3],
                               .es = TRACK >> 4};
        bios(0x13, &r);
        failed += r.eflags & CARRY;
        wrong += wrong_words(track * sectors, sectors);
    }
    say_number(" failed ", failed);
    say_number(" wrong ", wrong);
    say("\n");
}

static void fdc_send(u8 byte)
{
    while ((in8(0x3f4) & 0xc0) != 0x80)
        ;
    out8(0x3f5, byte);
}

static u8 fdc_receive(void)
{
    while ((in8(0x3f4) & 0xc0) != 0xc0)
        ;
    return in8(0x3f5);
}

/* The BIOS's handler of interrupt 6 sets this bit of its data area. */
static void fdc_wait(void)
{
    volatile u8 *done = (volatile u8 *)0x43e;
    while (!(*done & 0x80))
        __asm__ volatile("sti; hlt");
    *done &= 0x7f;
}

/* Cylinder 1, head 1, by the controller's own commands and DMA. */
static void read_by_hand(void)
{
    u32 bytes = params[1] * 512u - 1;
    out8(0x3f2, 0x1c); /* drive 0, its motor, interrupts and DMA */
    out8(0x0a, 0x06); /* channel 2 off */
    out8(0x0c, 0);
    out8(0x0b, 0x46); /* single, to memory */
    out8(0x04, TRACK & 0xff);
    out8(0x04, TRACK >> 8 & 0xff);
    out8(0x81, TRACK >> 16);
    out8(0x05, (u8)bytes);
    out8(0x05, (u8)(bytes >> 8));
    out8(0x0a, 0x02);
    *(volatile u8 *)0x43e &= 0x7f;
    fdc_send(0x07); /* recalibrate */
    fdc_send(0);
    fdc_wait();
    fdc_send(0x08);
    fdc_receive();
    fdc_receive();
    fdc_send(0x0f); /* seek */
    fdc_send(4);
    fdc_send(1);
    fdc_wait();
    fdc_send(0x08);
    u8 status = fdc_receive(), cylinder = fdc_receive();
    const u8 read[] = {0xe6, 4, 1, 1, 1, 2, params[1], 0x1b, 0xff};
    for (unsigned i = 0; i < sizeof(read); i++)
        fdc_send(read[i]);
    fdc_wait();
    u8 result[7];
    for (unsigned i = 0; i < 7; i++)
        result[i] = fdc_receive();
    say_number("seek ", status & 0xf8);
    say_number(" cylinder ", cylinder);
    say_number(" read ", result[0] & 0xc0);
    say_number(" wrong ", wrong_words(3u * params[1], params[1]));
    say("\n");
}

/* --- pictures: the same formulas are in picture.c --- */

static u32 pattern(u32 x, u32 y)
{
    return x * 5 + y * 3 + (x * y >> 6);
}

static void set_palette(void)
{
    out8(0x3c8, 0);
    for (unsigned i = 0; i < 256; i++) {
        out8(0x3c9, i & 63);
        out8(0x3c9, i * 3 & 63);
        out8(0x3c9, (u8)(63 - (i >> 2)));
    }
}

static void draw_text(void)
{
    u8 *font = (u8 *)FONT;
    for (unsigned i = 0; i < 256 * 16; i++)
        font[i] = (u8)((i >> 4) * 7 + (i & 15) * 29);
    video(0x0003, 0, 0, 0);
    struct registers r = {.eax = 0x1100, .ebx = 0x1000, .ecx = 256};
    __asm__ volatile("" ::: "memory");
    /* The font's address is in ES:BP. */
    __asm__ volatile("pushl %%ebp; movl %4, %%ebp; int $0x10; popl %%ebp"
                     : "+a"(r.eax), "+b"(r.ebx), "+c"(r.ecx), "+d"(r.edx)
                     : "i"(FONT)
                     : "memory", "cc", "esi", "edi");
    video(0x0100, 0, 0x2000, 0); /* no cursor */
    use_segment(0xb800);
    for (unsigned i = 0; i < 80 * 25; i++)
        poke16(i * 2, (u16)((i * 3 & 0x7f) << 8 | (i & 0xff)));
}

static void draw_256(void)
{
    video(0x0013, 0, 0, 0);
    set_palette();
    use_segment(0xa000);
    for (unsigned y = 0; y < 200; y++)
        for (unsigned x = 0; x < 320; x++)
            poke(y * 320 + x, (u8)pattern(x, y));
}

static u8 plane_byte(unsigned x, unsigned y, unsigned plane)
{
    u8 byte = 0;
    for (unsigned i = 0; i < 8; i++)
        byte = (u8)(byte << 1 | (pattern(x + i, y) >> plane & 1));
    return byte;
}

static void draw_16(void)
{
    video(0x0012, 0, 0, 0);
    use_segment(0xa000);
    for (unsigned plane = 0; plane < 4; plane++) {
        out_indexed(0x3c4, 2, (u8)(1 << plane));
        for (unsigned y = 0; y < 480; y++)
            for (unsigned x = 0; x < 640; x += 8)
                poke(y * 80 + x / 8, plane_byte(x, y, plane));
    }
}

static void draw_cga(void)
{
    video(0x0004, 0, 0, 0);
    use_segment(0xb800);
    for (unsigned y = 0; y < 200; y++)
        for (unsigned x = 0; x < 320; x += 4) {
            u8 byte = 0;
            for (unsigned i = 0; i < 4; i++)
                byte = (u8)(byte << 2 | (pattern(x + i, y) & 3));
            poke((y & 1) * 0x2000 + y / 2 * 80 + x / 4, byte);
        }
}

/* 320x240 in 256 colours, in no mode of the BIOS's: chain 4 off, square pixels. */
static void draw_x(void)
{
    static const u8 crtc[][2] = {{0x06, 0x0d}, {0x07, 0x3e}, {0x09, 0x41}, {0x10, 0xea}, {0x11, 0xac},
                                 {0x12, 0xdf}, {0x14, 0x00}, {0x15, 0xe7}, {0x16, 0x06}, {0x17, 0xe3}};
    video(0x0013, 0, 0, 0);
    set_palette();
    out_indexed(0x3c4, 4, 0x06);
    out_indexed(0x3c4, 0, 0x01);
    out8(0x3c2, 0xe3);
    out_indexed(0x3c4, 0, 0x03);
    out8(0x3d4, 0x11);
    out8(0x3d5, in8(0x3d5) & 0x7f);
    for (unsigned i = 0; i < sizeof(crtc) / sizeof(crtc[0]); i++)
        out_indexed(0x3d4, crtc[i][0], crtc[i][1]);
    use_segment(0xa000);
    for (unsigned plane = 0; plane < 4; plane++) {
        out_indexed(0x3c4, 2, (u8)(1 << plane));
        for (unsigned y = 0; y < 240; y++)
            for (unsigned x = plane; x < 320; x += 4)
                poke(y * 80 + x / 4, (u8)pattern(x, y));
    }
}

/* VBE's own list, for a mode of this size. */
static u16 vbe_find(u16 width, u16 height, u8 bits)
{
    struct registers r = {.eax = 0x4f00, .edi = BUFFER};
    *(u32 *)BUFFER = 0x32454256; /* "VBE2" */
    bios(0x10, &r);
    if ((r.eax & 0xffff) != 0x4f)
        end(2);
    u32 list = *(volatile u32 *)(BUFFER + 14);
    for (unsigned i = 0; i < 200; i++) {
        use_segment((u16)(list >> 16));
        u16 mode = (u16)peek32((list & 0xffff) + i * 2);
        if (mode == 0xffff)
            break;
        r = (struct registers){.eax = 0x4f01, .ecx = mode, .edi = BUFFER + 512};
        bios(0x10, &r);
        volatile u8 *info = (volatile u8 *)(BUFFER + 512);
        if ((info[0] & 0x81) == 0x81 && *(volatile u16 *)(info + 18) == width &&
            *(volatile u16 *)(info + 20) == height && info[25] == bits)
            return mode;
    }
    end(3);
    return 0;
}

static void draw_vbe_linear(void)
{
    u16 mode = vbe_find(800, 600, 32);
    volatile u8 *info = (volatile u8 *)(BUFFER + 512);
    u32 base = *(volatile u32 *)(info + 40), pitch = *(volatile u16 *)(info + 16);
    if ((video(0x4f02, 0x4000 | mode, 0, 0).eax & 0xffff) != 0x4f)
        end(4);
    unreal();
    for (unsigned y = 0; y < 600; y++)
        for (unsigned x = 0; x < 800; x++)
            *(volatile u32 *)(base + y * pitch + x * 4) =
                (x & 0xff) << 16 | (y & 0xff) << 8 | ((x ^ y) & 0xff);
}

static void draw_vbe_banked(void)
{
    u16 mode = vbe_find(800, 600, 8);
    volatile u8 *info = (volatile u8 *)(BUFFER + 512);
    u32 pitch = *(volatile u16 *)(info + 16), granularity = *(volatile u16 *)(info + 4) * 1024u;
    u32 bank = ~0u;
    if ((video(0x4f02, mode, 0, 0).eax & 0xffff) != 0x4f)
        end(4);
    set_palette();
    for (unsigned y = 0; y < 600; y++)
        for (unsigned x = 0; x < 800; x++) {
            u32 at = y * pitch + x;
            if (at / 0x10000 != bank) {
                bank = at / 0x10000;
                video(0x4f05, 0, 0, (u16)(bank * 0x10000 / granularity));
                use_segment(0xa000);
            }
            poke(at & 0xffff, (u8)pattern(x, y));
        }
}

/* --- keys: the test types the same line again and again, and the first may have lost its start --- */

static void read_keys(void)
{
    char line[32];
    for (unsigned lines = 0, n = 0; lines < 2;) {
        struct registers r = {.eax = 0};
        bios(0x16, &r);
        char c = (char)r.eax;
        if (c == '\r') {
            line[n] = 0;
            n = 0;
            lines++;
        } else if (n < sizeof(line) - 1) {
            line[n++] = c > 0 ? c : '^'; /* not a character, such as an arrow */
        }
    }
    say("int 16h: ");
    say(line);
    say("\nport 60h:");
    out8(0x21, in8(0x21) | 2);
    for (unsigned lines = 0; lines < 2;) {
        if ((in8(0x64) & 0x21) != 1)
            continue;
        u8 code = in8(0x60);
        if (lines == 1)
            say_number(" ", code);
        lines += code == 0x9c; /* Enter has been let go */
    }
    say("\n");
}

void program(unsigned what)
{
    static void (*const actions[])(void) = {read_disk, read_by_hand, draw_text,       draw_256,       draw_16,
                                            draw_cga,  draw_x,       draw_vbe_linear, draw_vbe_banked, read_keys};
    out8(0x3fb, 0x03);
    if (what >= sizeof(actions) / sizeof(actions[0]))
        end(5);
    actions[what]();
    end(0);
}
