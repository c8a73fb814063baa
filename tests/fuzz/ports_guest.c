/*
 * A guest that does nothing but read and write device registers at random: every port of the PC in
 * any size, and the APICs' pages. Entered in flat 32-bit mode at 1 MiB (ringer run --raw 0x100000);
 * built once for each SEED. Interrupts are taken and, half of the time, never acknowledged.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

/* The first thing in the image; and the handler of all vectors. */
__asm__(".text\n.globl entry\nentry:\n mov $0x90000, %esp\n jmp run\n"
        ".globl stub\nstub:\n"
        "push %eax\n rdtsc\n test $0x10, %al\n jz 1f\n"
        "movl $0, 0xfee000b0\n mov $0x20, %al\n outb %al, $0x20\n outb %al, $0xa0\n"
        "1: pop %eax\n iret\n");

static const u16 base[] = {0x20,  0x40,  0x60,  0x70,  0x92,  0xa0,  0xb2,  0x3f8,
                           0x3fc, 0x4d0, 0x510, 0x514, 0x600, 0x608, 0xcf8, 0xcfc};
static const u32 page[] = {0xfee00000, 0xfee00000, 0xfec00000, 0xfed00000, 0xa0000, 0xf0000};

static u32 state = SEED * 2654435769u | 1;

static u32 rnd(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

/* Values that switch the machine off or reset it are made rare. */
static int ends_run(u16 port)
{
    return port == 0x64 || port == 0x92 || port == 0xcf9 || port == 0x604 || port == 0x605;
}

static u32 value(void)
{
    u32 v = rnd();
    switch (rnd() & 3) {
    case 0:
        return v & 0xff;
    case 1:
        return v & 0x1ffff0; /* addresses, for DMA */
    case 2:
        return (v & 3) - 1;
    default:
        return v;
    }
}

static void port_access(void)
{
    u16 port = (u16)(base[rnd() % (sizeof(base) / sizeof(*base))] + (rnd() & 7));
    u32 v = value();
    if (!(rnd() & 0xff))
        port = (u16)rnd();
    for (u16 n = 0; n < 4; n++)
        if (ends_run((u16)(port + n)) && (rnd() & 0x3ff))
            return;
    switch (rnd() % 6) {
    case 0:
        __asm__ volatile("inb %%dx, %%al" : "+a"(v) : "d"(port));
        break;
    case 1:
        __asm__ volatile("inw %%dx, %%ax" : "+a"(v) : "d"(port));
        break;
    case 2:
        __asm__ volatile("inl %%dx, %%eax" : "+a"(v) : "d"(port));
        break;
    case 3:
        __asm__ volatile("outb %%al, %%dx" ::"a"(v), "d"(port));
        break;
    case 4:
        __asm__ volatile("outw %%ax, %%dx" ::"a"(v), "d"(port));
        break;
    default:
        __asm__ volatile("outl %%eax, %%dx" ::"a"(v), "d"(port));
        break;
    }
}

static void mmio_access(void)
{
    u32 at = page[rnd() % (sizeof(page) / sizeof(*page))] + (rnd() & (rnd() & 7 ? 0x3f0 : 0xfff));
    switch (rnd() % 6) {
    case 0:
        *(volatile u8 *)at = (u8)value();
        break;
    case 1:
        *(volatile u16 *)at = (u16)value();
        break;
    case 2:
    case 3:
        *(volatile u32 *)at = value();
        break;
    default:
        (void)*(volatile u32 *)at;
        break;
    }
}

void stub(void);
void run(void);

static unsigned long long gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
static unsigned long long idt[256];

static void load_tables(void)
{
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) g = {sizeof(gdt) - 1, (u32)gdt}, i = {sizeof(idt) - 1, (u32)idt};
    u32 at = (u32)stub;
    for (unsigned n = 0; n < 256; n++)
        idt[n] = (at & 0xffff) | 8u << 16 | (unsigned long long)(0x8e00 | (at & 0xffff0000)) << 32;
    __asm__ volatile("lgdt %0\n lidt %1\n ljmp $8, $1f\n 1: mov $16, %%eax\n"
                     "mov %%eax, %%ds\n mov %%eax, %%es\n mov %%eax, %%ss\n sti" ::"m"(g),
                     "m"(i)
                     : "eax");
}

void run(void)
{
    load_tables();
    for (;;) {
        for (unsigned n = rnd() & 15; n; n--)
            port_access();
        mmio_access();
        if (!(rnd() & 0xfff))
            __asm__ volatile("hlt");
    }
}
