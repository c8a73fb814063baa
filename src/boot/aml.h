/*
 * A writer of AML, ACPI's byte code (ACPI 6.4, 20.2): just what static tables need, that is names,
 * devices, packages, integers, strings, resource templates, and methods that choose between values.
 * Objects that contain others are opened by a call and closed by aml_end(), which puts their length
 * in front. Names have up to four characters and are padded with '_'. The caller gives a buffer
 * that is large enough; running out of it is a bug.
 */
#ifndef RINGER_BOOT_AML_H
#define RINGER_BOOT_AML_H

#include "base/types.h"

#define AML_DEPTH 8

struct aml {
    u8 *buf;
    size_t len, cap;
    size_t open[AML_DEPTH]; /* where the bodies of open objects begin */
    unsigned depth;
};

void aml_init(struct aml *a, u8 *buf, size_t cap);

/* Containers, each closed by aml_end(). */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
void aml_package(struct aml *a, u8 count); /* followed by count values */
void aml_end(struct aml *a);

/* Name(name, ...): followed by one value. */
void aml_name(struct aml *a, const char *name);

/* A method of `args` arguments, closed by aml_end(). Of what it can do there is: store its argument
 * 0 in a named object; if a named object is not 0, return another one, whose name it is; return
 * one. */
void aml_method(struct aml *a, const char *name, u8 args);
void aml_store_arg0(struct aml *a, const char *name);
void aml_if_return(struct aml *a, const char *condition, const char *name);
void aml_return(struct aml *a, const char *name);

/* Values. */
void aml_int(struct aml *a, u64 value);
void aml_string(struct aml *a, const char *s);
void aml_eisa_id(struct aml *a, const char *id); /* "PNP0A03" */

/* A resource template (ACPI 6.4, 6.4), a value; closed by aml_resources_end(). */
void aml_resources(struct aml *a);
void aml_resources_end(struct aml *a);
/* Used by a device: count ports from first on; an edge-triggered interrupt line. */
void aml_ports(struct aml *a, u16 first, u8 count);
void aml_irq(struct aml *a, unsigned irq);
/* Passed on by a bridge: [min, max] of bus numbers, ports, memory. */
void aml_bus_range(struct aml *a, u16 min, u16 max);
void aml_port_range(struct aml *a, u16 min, u16 max);
void aml_memory_range(struct aml *a, u32 min, u32 max);

#endif
