/*
 * Guest memory as KVM's memory slots: one for each stretch of RAM or ROM of the guest-physical map,
 * brought up to date when the map changes. A stretch that stays keeps its slot, so that the kernel
 * keeps its shadow of it; one that changes is removed and made anew, and what a vCPU accesses
 * meanwhile comes as an MMIO exit, which guestmem_load() and guestmem_store() answer.
 */
#include "engine/kvm/kvm.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "base/log.h"

static bool same(const struct mem_slot *a, const struct mem_slot *b)
{
    return a->gpa == b->gpa && a->size == b->size && a->hva == b->hva && a->rom == b->rom;
}

static int set_slot(struct kvm_engine *e, unsigned number, const struct mem_slot *slot)
{
    struct kvm_userspace_memory_region region = {
        .slot = number,
        .flags = slot->rom ? KVM_MEM_READONLY : 0,
        .guest_phys_addr = slot->gpa,
        .memory_size = slot->size,
        .userspace_addr = (u64)(uintptr_t)slot->hva,
    };
    return ioctl(e->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

static bool is_wanted(struct guest_mem *mem, const struct mem_slot *slot)
{
    struct mem_slot wanted;
    for (unsigned i = 0; guestmem_slot(mem, i, &wanted); i++)
        if (same(&wanted, slot))
            return true;
    return false;
}

static void remove_old(struct kvm_engine *e)
{
    for (unsigned n = 0; n < KVM_SLOTS; n++) {
        struct mem_slot *slot = &e->slot[n];
        if (!slot->size || is_wanted(e->machine->mem, slot))
            continue;
        slot->size = 0; /* which removes it */
        set_slot(e, n, slot);
    }
}

/* A free slot's number, unless it is there already. */
static bool needs_slot(const struct kvm_engine *e, const struct mem_slot *slot, unsigned *number)
{
    *number = KVM_SLOTS;
    for (unsigned n = KVM_SLOTS; n-- > 0;) {
        if (e->slot[n].size && same(&e->slot[n], slot))
            return false;
        if (!e->slot[n].size)
            *number = n;
    }
    return true;
}

int kvm_set_memory(struct kvm_engine *e, struct error *err)
{
    struct mem_slot slot;
    unsigned number;
    remove_old(e);
    for (unsigned i = 0; guestmem_slot(e->machine->mem, i, &slot); i++) {
        if (!needs_slot(e, &slot, &number))
            continue;
        int rc = number == KVM_SLOTS ? -ENOSPC : set_slot(e, number, &slot);
        if (rc < 0)
            return error_errno(err, -rc, "KVM: memory of %llu KiB at %#llx", slot.size / KIB,
                               (unsigned long long)slot.gpa);
        e->slot[number] = slot;
    }
    return 0;
}

void kvm_map_changed(void *engine)
{
    struct error err;
    if (kvm_set_memory(engine, &err) < 0)
        log_warn("%s", err.text);
}
