/*
 * Page tables in the three formats, which differ in the number of levels, the bits of an index and
 * the size of an entry; and frames to make address spaces of, counted by their users.
 */
#include "nano.h"

#ifdef NANO_32
#define LEVELS 2
#define BITS   10
#elif defined(__x86_64__)
#define LEVELS 4
#define BITS   9
#else
#define LEVELS 3
#define BITS   9
#endif
#define ENTRIES (1u << BITS)
#define LOW_END 0x400000 /* mapped to itself below */
#define FRAMES  448

pte_t *kernel_root, *window_pt;
static u8 frames[FRAMES][PAGE] __attribute__((aligned(PAGE)));
static u16 users[FRAMES];
static u16 free_list[FRAMES], free_count;

static u32 number_of(const pte_t *frame)
{
    return (u32)((const u8 *)frame - frames[0]) / PAGE;
}

static void clear(pte_t *frame)
{
    ulong words = PAGE / sizeof(ulong);
    void *to = frame;
    __asm__ volatile("rep stos" NATURAL : "+D"(to), "+c"(words) : "a"(0ul) : "memory");
}

static void copy(pte_t *to, const pte_t *from)
{
    ulong words = PAGE / sizeof(ulong);
    __asm__ volatile("rep movs" NATURAL : "+D"(to), "+S"(from), "+c"(words)::"memory");
}

pte_t *frame_alloc(void)
{
    if (!free_count) {
        fail("free frames", 1, 0);
        give_up();
    }
    u32 n = free_list[--free_count];
    users[n] = 1;
    clear((pte_t *)frames[n]);
    return (pte_t *)frames[n];
}

void frame_free(pte_t *frame)
{
    u32 n = number_of(frame);
    if (--users[n] == 0)
        free_list[free_count++] = (u16)n;
}

void frame_share(pte_t *frame)
{
    users[number_of(frame)]++;
}

bool frame_is_shared(const pte_t *frame)
{
    return users[number_of(frame)] > 1;
}

static u32 index_of(ulong va, u32 level)
{
    return va >> (12 + level * BITS) & (ENTRIES - 1);
}

/* PAE's top entries have no rights. */
static pte_t table_bits(u32 level)
{
    return LEVELS == 3 && level == 2 ? P_P : P_RWU;
}

/* The entry of va, in tables that are made if need be. */
static pte_t *entry_of(pte_t *table, ulong va)
{
    for (u32 level = LEVELS - 1; level > 0; level--) {
        pte_t *e = &table[index_of(va, level)];
        if (!(*e & P_P))
            *e = (ulong)frame_alloc() | table_bits(level);
        table = frame_of(*e);
    }
    return &table[index_of(va, 0)];
}

static void map_low(void)
{
    for (ulong va = 0; va < LOW_END; va += PAGE) {
        bool user = va >= (ulong)user_start && va < (ulong)user_end;
        *entry_of(kernel_root, va) = va | P_RW | (user ? P_U : 0);
    }
}

void paging_init(void)
{
    for (u32 n = 0; n < FRAMES; n++)
        free_list[n] = (u16)(FRAMES - 1 - n);
    free_count = FRAMES;
    kernel_root = frame_alloc();
    map_low();
    *entry_of(kernel_root, APIC_ADDR) = (pte_t)APIC_ADDR | P_RW | P_CD;
    *entry_of(kernel_root, IOAPIC_ADDR) = (pte_t)IOAPIC_ADDR | P_RW | P_CD;
    window_pt = frame_of((ulong)entry_of(kernel_root, WINDOW_ADDR));
    ulong cr4 = 0x200; /* OSFXSR */
#ifndef NANO_32
    cr4 |= 0x20; /* PAE */
#endif
    if (!has_cpuid(1, 3, 24))
        cr4 &= ~0x200ul;
    __asm__ volatile("mov %0, %%cr4" ::"r"(cr4));
    write_cr3(kernel_root);
    ulong cr0 = read_cr(0) | 0x80000000;
    __asm__ volatile("mov %0, %%cr0\n\tjmp 1f\n1:" ::"r"(cr0) : "memory");
}

void paging_reset(void)
{
    for (u32 n = 0; n < ENTRIES; n++) {
        pte_t e = window_pt[n];
        window_pt[n] = 0;
        if (e & P_P && frame_of(e) >= (pte_t *)frames && frame_of(e) < (pte_t *)frames[FRAMES])
            frame_free(frame_of(e));
    }
    write_cr3(kernel_root);
}

void window_map(u32 n, pte_t entry)
{
    *(volatile pte_t *)&window_pt[n] = entry;
    invlpg(window(n));
}

pte_t *space_copy(pte_t **pt)
{
    pte_t *root = frame_alloc(), *to = root;
    copy(root, kernel_root);
    for (u32 level = LEVELS - 1; level > 0; level--) {
        pte_t *e = &to[index_of(WINDOW_ADDR, level)];
        to = frame_alloc();
        copy(to, frame_of(*e));
        *e = (ulong)to | table_bits(level);
    }
    *pt = to;
    return root;
}

void space_free(pte_t *root)
{
    for (u32 level = LEVELS - 1; level > 0; level--) {
        pte_t *next = frame_of(root[index_of(WINDOW_ADDR, level)]);
        frame_free(root);
        root = next;
    }
    frame_free(root);
}

pte_t space_table(pte_t *root, pte_t entry)
{
    for (u32 level = LEVELS - 1; level > 1; level--)
        root = frame_of(root[index_of(WINDOW_ADDR, level)]);
    pte_t *at = &root[index_of(WINDOW_ADDR, 1)], was = *at;
    *(volatile pte_t *)at = entry;
    return was;
}
