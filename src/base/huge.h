/* Memory that is looked up at random: in huge pages if the host has them, since each TLB miss of
 * the host costs much in a virtual machine. */
#ifndef RINGER_BASE_HUGE_H
#define RINGER_BASE_HUGE_H

#include <stddef.h>

/* `bytes` bytes, all zero, that take memory as they are used. NULL: no memory. */
void *huge_create(size_t bytes);
/* p may be NULL. */
void huge_destroy(void *p, size_t bytes);

#endif
