/* What a plan that is open has: its threads, scratch memory, the cache, and where its step stands. */
#ifndef PLAYGROUND_RUN_H
#define PLAYGROUND_RUN_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include "pace.h"
#include "plan.h"
#include "pool.h"

/* The piece that a thread is at, in the open, so that another may do it again (shares.h). Its state counts up by
 * `STATES` with each piece. */
enum { STORED, COMPUTING, STORING, TAKEN_OVER, STATES };
typedef struct {
    _Alignas(64) atomic_ullong state;
    atomic_int place;
    atomic_uint step, from, n;
} Claim;

typedef struct {
    Plan plan;
    Pool *pool;
    int working;        /* threads that take this step */
    int forced;         /* the way of every step, -1: by its pace */
    Pace pace[PACES];   /* of steps with one row, two, up to four … */
    atomic_int *taken; /* for each step: how much of its work is taken, of several tokens */
    atomic_ullong *next_piece, *done; /* the same of one token: by [thread's share][step], and what is in place */
    atomic_ullong step; /* the number of tokens that were read one by one << 32 | how many stand before this one */
    Claim *claims;                    /* for each thread */
    uint8_t **keys, **values; /* for each layer */
    int bits;                 /* of one of them: 16, half floats, or 8 */
    int capacity;             /* positions */
    float **inputs;           /* for each convolution: what went into it, [capacity][width] */
    float **states;           /* for each recurrence: by heads, sixteen columns, a row for each number of a key */
    const int64_t *ids;
    int tokens, start;
    float *parts;      /* partial results of attention for one token */
    size_t parts_size; /* in floats */
    float **own;       /* each thread's scratch: `result` numbers for what a piece gives, and room to work */
    size_t result;
    int *next;         /* for each step: the next MUL_MAT behind it, or -1 */
    atomic_int broken; /* the first step of this run that met numbers which are infinite or none, or `plan.ops` */
    atomic_long clamped; /* numbers that were too large for the cache, since it was opened */
} Run;

/* A step met numbers that are infinite or none. */
static void is_broken(Run *r, const Op *op) {
    int place = (int)(op - r->plan.list), first = atomic_load_explicit(&r->broken, memory_order_relaxed);
    while (place < first && !atomic_compare_exchange_weak_explicit(&r->broken, &first, place, memory_order_relaxed,
                                                                   memory_order_relaxed)) {}
}

/* A row of a buffer, from the reference's column on. */
INLINE float *at(const Run *r, Ref ref, int row) {
    assert(ref.buffer >= 0 && ref.buffer < r->plan.places && row >= 0 && row < r->plan.rooms[ref.buffer].rows);
    return r->plan.buffers[ref.buffer] + (size_t)row * ref.stride + ref.offset;
}

#endif
