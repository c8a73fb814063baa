/*
 * Nanobenchmarks of address translation: page tables that change, pages that are touched for the
 * first time, address spaces that come and go.
 */
#include "nano.h"
#include "tests.h"

#define TOUCHED     64 /* pages that first-touch touches for each loop */
#define FORK_PAGES  64
#define FORK_WRITES 2 /* pages that the child, and then its parent, store to */

extern const u8 user_touch[], user_exit[];

static pte_t *frame_a, *frame_b, *other_root;

static void load_window(void)
{
    __asm__ volatile("movl (%0), %%eax" ::"r"(WINDOW) : "eax", "memory");
}

static void make_pages(void)
{
    frame_a = frame_alloc();
    frame_b = frame_alloc();
    window_map(0, (ulong)frame_a | P_RW);
    load_window();
}

static __attribute__((noinline)) void loop_load(u32 n)
{
    do
        load_window();
    while (--n);
}

static __attribute__((noinline)) void loop_ptemod(u32 n)
{
    volatile u32 *entry = (volatile u32 *)window_pt;
    do {
        *entry ^= P_AVL;
        load_window();
    } while (--n);
}

/* The access is not taken off: a processor does it while it stores. */
void bench_ptemod(void)
{
    make_pages();
    measure(loop_ptemod, empty_loop, 1);
}

static __attribute__((noinline)) void loop_remap(u32 n)
{
    volatile u32 *entry = (volatile u32 *)window_pt;
    u32 a = (u32)(ulong)frame_a | P_RW, b = (u32)(ulong)frame_b | P_RW;
    do {
        *entry = n & 1 ? b : a;
        invlpg(WINDOW);
        load_window();
    } while (--n);
}

void bench_ptemod_flush(void)
{
    make_pages();
    measure(loop_remap, loop_load, 1);
    window_map(0, (ulong)frame_a | P_RW);
    frame_free(frame_b);
}

static __attribute__((noinline)) void loop_invlpg(u32 n)
{
    do {
        invlpg(WINDOW);
        load_window();
    } while (--n);
}

void bench_invlpg(void)
{
    make_pages();
    measure(loop_invlpg, loop_load, 1);
    frame_free(frame_b);
}

static __attribute__((noinline)) void loop_cr3(u32 n)
{
    do {
        write_cr3(n & 1 ? kernel_root : other_root);
        load_window();
    } while (--n);
}

void bench_cr3_switch(void)
{
    pte_t *pt;
    make_pages();
    other_root = space_copy(&pt);
    measure(loop_cr3, loop_load, 1);
    write_cr3(kernel_root);
    space_free(other_root);
    frame_free(frame_b);
}

/* --- first touch --- */

static void on_first_touch(struct frame *f)
{
    ulong at;
    (void)f;
    __asm__ volatile("mov %%cr2, %0" : "=r"(at));
    window_pt[(at - WINDOW_ADDR) / PAGE % TOUCHED] = (ulong)frame_alloc() | P_RWU;
}

static void run_touch(u32 n)
{
    do {
        run_user(user_touch, TOUCHED, WINDOW_ADDR);
        paging_reset();
    } while (--n);
}

/* The same with nothing touched. */
static void run_no_touch(u32 n)
{
    do {
        run_user(user_exit, 0, 0);
        paging_reset();
    } while (--n);
}

void bench_first_touch(void)
{
    hook_set(14, on_first_touch);
    measure(run_touch, run_no_touch, TOUCHED);
}

/* --- fork and wait --- */

static pte_t *child_pt, *running_pt;

/* A store to a page that is copied on write: its last user gets it, others a copy. */
static void on_shared_page(struct frame *f)
{
    ulong at;
    (void)f;
    __asm__ volatile("mov %%cr2, %0" : "=r"(at));
    pte_t *entry = &running_pt[(at - WINDOW_ADDR) / PAGE % FORK_PAGES];
    pte_t *frame = frame_of(*entry);
    if (frame_is_shared(frame)) {
        pte_t *own = frame_alloc();
        memcpy(own, frame, PAGE);
        frame_free(frame);
        frame = own;
    }
    *entry = (ulong)frame | P_RWU;
    invlpg((void *)at);
}

static void drop_child(pte_t *root)
{
    for (u32 n = 0; n < FORK_PAGES; n++)
        frame_free(frame_of(child_pt[n]));
    space_free(root);
}

static void run_fork(u32 n)
{
    do {
        for (u32 page = 0; page < FORK_PAGES; page++) {
            window_pt[page] &= ~(pte_t)P_W;
            frame_share(frame_of(window_pt[page]));
        }
        pte_t *child = space_copy(&child_pt);
        write_cr3(child);
        running_pt = child_pt;
        run_user(user_touch, FORK_WRITES, WINDOW_ADDR);
        write_cr3(kernel_root);
        running_pt = window_pt;
        drop_child(child);
        run_user(user_touch, FORK_WRITES, WINDOW_ADDR);
    } while (--n);
}

void bench_forkwait(void)
{
    for (u32 page = 0; page < FORK_PAGES; page++)
        window_map(page, (ulong)frame_alloc() | P_RWU);
    hook_set(14, on_shared_page);
    measure(run_fork, empty_loop, 1);
}
