/* All matrices of a model packed in one call, so that whoever loads it can read the tokenizer meanwhile: Python's lock is
 * given up once and not taken again between two matrices. */
#ifndef PLAYGROUND_PACKING_H
#define PLAYGROUND_PACKING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "products.h"

#define PART_BYTES ((size_t)1 << 22) /* packed by one thread before it looks for more work */

typedef struct {
    const Stored *list;
    const float *factors;
    void **panels;
    int count, forget;
    atomic_int next; /* the part to be taken up next, all matrices' parts in a row */
} Packing;

/* Pages of a mapped file that were read and won't be again need not count as this process's memory. */
static void forget_pages(const void *from, size_t size) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)from + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)from + size) / page * page;
    if (end > first) madvise((void *)first, end - first, MADV_DONTNEED);
}

static int panels_of(const Stored *s) { return (s->outputs + PANEL - 1) / PANEL; }

static int panels_a_part(const Stored *s) {
    size_t of_panel = (size_t)s->blocks * (s->bits == 8 ? sizeof(Panel8) : sizeof(Panel4));
    return of_panel < PART_BYTES ? (int)(PART_BYTES / of_panel) : 1;
}

static void pack_part(const Packing *all, int i, int from, int to) {
    const Stored *s = all->list + i;
    pg_pack(s, all->factors[i], from, to, all->panels[i]);
    if (!all->forget) return;
    size_t blocks = (size_t)(s->blocks + s->mean_blocks), first = (size_t)from * PANEL;
    size_t last = (size_t)to * PANEL < (size_t)s->outputs ? (size_t)to * PANEL : (size_t)s->outputs;
    size_t of_block = BLOCK * (size_t)s->bits / 8;
    forget_pages(s->values + first * blocks * of_block, (last - first) * blocks * of_block);
    forget_pages(s->scales + first * blocks, (last - first) * blocks * sizeof(float));
}

static void *pack_some(void *given) {
    Packing *all = given;
    for (int i = 0, before = 0, part = atomic_fetch_add(&all->next, 1); i < all->count;) {
        int panels = panels_of(all->list + i), size = panels_a_part(all->list + i), parts = (panels + size - 1) / size;
        if (part - before >= parts) {
            before += parts, i++;
            continue;
        }
        int from = (part - before) * size;
        pack_part(all, i, from, panels - from < size ? panels : from + size);
        part = atomic_fetch_add(&all->next, 1);
    }
    return NULL;
}

/* Matrices `list`[count] into `panels`[count], each as `pg_pack` does with its factor; `forget`: values and scales are
 * mapped from files and not needed any more. Threads that can't be had are done without. */
void pg_pack_all(const Stored *list, const float *factors, void **panels, int count, int threads, int forget) {
    Packing all = {.list = list, .factors = factors, .panels = panels, .count = count, .forget = forget};
    pthread_t *helpers = threads > 1 ? calloc((size_t)threads - 1, sizeof *helpers) : NULL;
    int started = 0;
    while (helpers && started < threads - 1 && !pthread_create(helpers + started, NULL, pack_some, &all)) started++;
    pack_some(&all);
    for (int i = 0; i < started; i++) pthread_join(helpers[i], NULL);
    free(helpers);
}

#endif
