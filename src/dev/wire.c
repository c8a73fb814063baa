/*
 * Output pins that can be pulled after the chip's lock is dropped. The count of falls beside the
 * level is what lets a flush show a drop that was over before it ran.
 */
#include "dev/wire.h"

void wire_init(struct wire *w, struct irq_line line)
{
    w->line = line;
    pthread_mutex_init(&w->lock, NULL);
    atomic_init(&w->wanted, 0);
    atomic_init(&w->delivered, 0);
}

void wire_destroy(struct wire *w)
{
    pthread_mutex_destroy(&w->lock);
}

void wire_level(struct wire *w, bool level)
{
    u32 now = atomic_load(&w->wanted);
    if ((now & 1) == level)
        return;
    atomic_store(&w->wanted, level ? now | 1 : (now & ~1U) + 2);
}

void wire_flush(struct wire *w)
{
    if (atomic_load(&w->wanted) == atomic_load(&w->delivered))
        return;
    pthread_mutex_lock(&w->lock);
    u32 seen = atomic_load(&w->delivered);
    u32 now = atomic_load(&w->wanted);
    bool high = seen & 1;
    if (high && now != seen) {
        irq_set(&w->line, 0);
        high = false;
    }
    if ((now & 1) && !high)
        irq_set(&w->line, 1);
    atomic_store(&w->delivered, now);
    pthread_mutex_unlock(&w->lock);
}
