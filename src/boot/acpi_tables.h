/*
 * Layouts of the fixed ACPI tables (ACPI 6.4, chapter 5), as of the revisions that acpi.c writes,
 * and the image that it makes of them.
 */
#ifndef RINGER_BOOT_ACPI_TABLES_H
#define RINGER_BOOT_ACPI_TABLES_H

#include "base/types.h"

#define ACPI_PACKED __attribute__((packed))

struct acpi_rsdp { /* 5.2.5.3, revision 2 */
    char signature[8];
    u8 checksum; /* of the first 20 bytes */
    char oem_id[6];
    u8 revision;
    u32 rsdt;
    u32 length;
    u64 xsdt;
    u8 extended_checksum;
    u8 reserved[3];
} ACPI_PACKED;

struct acpi_header { /* 5.2.6 */
    char signature[4];
    u32 length;
    u8 revision, checksum;
    char oem_id[6];
    char oem_table_id[8];
    u32 oem_revision;
    char creator_id[4];
    u32 creator_revision;
} ACPI_PACKED;

struct acpi_gas { /* generic address structure, 5.2.3.2 */
    u8 space;     /* 1: port */
    u8 bit_width, bit_offset, access_size;
    u64 addr;
} ACPI_PACKED;

struct acpi_fadt { /* 5.2.9, revision 5 */
    struct acpi_header h;
    u32 facs, dsdt;
    u8 reserved0, preferred_profile;
    u16 sci_int;
    u32 smi_cmd;
    u8 acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
    u32 pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
    u8 pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base, cst_cnt;
    u16 c2_latency, c3_latency, flush_size, flush_stride;
    u8 duty_offset, duty_width, day_alarm, month_alarm, century;
    u16 boot_arch;
    u8 reserved1;
    u32 flags;
    struct acpi_gas reset_reg;
    u8 reset_value;
    u16 arm_boot_arch;
    u8 minor;
    u64 x_facs, x_dsdt;
    struct acpi_gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0,
        x_gpe1, sleep_control, sleep_status;
} ACPI_PACKED;

#define FADT_WBINVD  BIT(0)
#define FADT_PROC_C1 BIT(2)
#define FADT_SLP_BUTTON                                                                            \
    BIT(5) /* set: no fixed sleep button; FADT_PWR_BUTTON (4) clear: a fixed one */
#define FADT_FIX_RTC   BIT(6) /* set: the RTC cannot wake by a fixed event */
#define FADT_RESET_REG BIT(10)

#define BOOT_ARCH_LEGACY BIT(0)
#define BOOT_ARCH_8042   BIT(1)

struct acpi_facs { /* 5.2.10 */
    char signature[4];
    u32 length, hardware_signature, waking_vector, global_lock, flags;
    u64 x_waking_vector;
    u8 version;
    u8 reserved[31];
} ACPI_PACKED;

struct acpi_madt { /* 5.2.12; interrupt controller structures follow */
    struct acpi_header h;
    u32 lapic_addr, flags;
} ACPI_PACKED;

#define MADT_PCAT_COMPAT BIT(0) /* there are two 8259 as well */

struct madt_lapic { /* type 0 */
    u8 type, length, processor_uid, apic_id;
    u32 flags; /* bit 0: enabled */
} ACPI_PACKED;

struct madt_ioapic { /* type 1 */
    u8 type, length, id, reserved;
    u32 addr, gsi_base;
} ACPI_PACKED;

struct madt_override { /* type 2: an ISA interrupt that is not GSI = IRQ, edge, active high */
    u8 type, length, bus, source;
    u32 gsi;
    u16 flags;
} ACPI_PACKED;

#define MADT_LEVEL_HIGH 0x0d /* level-triggered, active high (table 5.49) */

struct madt_lapic_nmi {             /* type 4 */
    u8 type, length, processor_uid; /* 0xff: all */
    u16 flags;
    u8 lint;
} ACPI_PACKED;

_Static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 5.2.5.3");
_Static_assert(sizeof(struct acpi_header) == 36, "ACPI 5.2.6");
_Static_assert(offsetof(struct acpi_fadt, flags) == 112, "ACPI 5.2.9");
_Static_assert(sizeof(struct acpi_fadt) == 268, "ACPI 5.2.9, revision 5");
_Static_assert(sizeof(struct acpi_facs) == 64, "ACPI 5.2.10");
_Static_assert(sizeof(struct madt_override) == 10, "ACPI 5.2.12.5");

#define ACPI_IMAGE_MAX   (16 * KIB)
#define ACPI_RSDP_SUMMED 20 /* bytes that the first checksum is of */

struct acpi_options;

struct acpi_pointer {
    u32 at;  /* offset of the field */
    u8 size; /* bytes */
};

/* All tables but the RSDP, in a row. Pointers are offsets in buf, checksums are not yet made. */
struct acpi_image {
    u8 buf[ACPI_IMAGE_MAX];
    size_t len;
    unsigned ncpus;
    struct acpi_pointer pointer[16];
    unsigned npointers;
    u32 table[8]; /* where those with a header begin */
    unsigned ntables;
    u32 facs, dsdt, fadt, madt, rsdt, xsdt; /* offsets */
};

void acpi_image_build(struct acpi_image *b, const struct acpi_options *opt);

/* Without its checksums. */
void acpi_make_rsdp(struct acpi_rsdp *r, u64 rsdt, u64 xsdt);

/* What makes the sum of all bytes 0. */
u8 acpi_checksum(const void *p, size_t len);

#endif
