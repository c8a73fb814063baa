/*
 * The memory map that the guest is told: RAM as guestmem.h lays it out, less what the PC keeps for
 * the EBDA, the BIOS area, the ACPI tables and the interrupt controllers.
 */
#include "boot/image.h"

#include "dev/pcmap.h"

#define LOW_END    0x9fc00ULL /* the EBDA begins */
#define EBDA_END   0xa0000ULL
#define BIOS_START 0xf0000ULL
#define BIOS_END   0x100000ULL

static void add(struct e820_map *map, u64 start, u64 end, u32 type)
{
    if (start >= end)
        return;
    assert(map->count < E820_MAX);
    map->entry[map->count++] = (struct e820_entry){start, end - start, type};
}

void e820_build(struct e820_map *map, u64 ram_size, u64 acpi_addr, u64 acpi_size)
{
    u64 low_end = MIN(ram_size, RAM_LOW_MAX);
    /* With 1 MiB of RAM the tables are in the BIOS area, which is reserved anyway. */
    u64 acpi = acpi_addr >= BIOS_END && acpi_size ? MIN(acpi_addr, low_end) : low_end;
    u64 acpi_end = MIN(acpi + acpi_size, low_end);

    *map = (struct e820_map){0};
    add(map, 0, LOW_END, E820_RAM);
    add(map, LOW_END, EBDA_END, E820_RESERVED);
    add(map, BIOS_START, BIOS_END, E820_RESERVED);
    add(map, BIOS_END, acpi, E820_RAM);
    add(map, acpi, acpi_end, E820_ACPI);
    add(map, acpi_end, low_end, E820_RAM);
    add(map, PC_IOAPIC_ADDR, PC_IOAPIC_ADDR + PAGE_SIZE, E820_RESERVED);
    add(map, PC_LAPIC_ADDR, PC_LAPIC_ADDR + PAGE_SIZE, E820_RESERVED);
    if (ram_size > RAM_LOW_MAX)
        add(map, RAM_HIGH_BASE, RAM_HIGH_BASE + (ram_size - RAM_LOW_MAX), E820_RAM);
}

bool e820_is_ram(const struct e820_map *map, u64 addr, u64 len)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct e820_entry *e = &map->entry[i];
        if (e->type == E820_RAM && addr >= e->addr && addr - e->addr <= e->size &&
            len <= e->size - (addr - e->addr))
            return true;
    }
    return false;
}

u64 e820_extended_end(const struct e820_map *map)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct e820_entry *e = &map->entry[i];
        if (e->type == E820_RAM && e->addr == BIOS_END)
            return e->addr + e->size;
    }
    return BIOS_END;
}
